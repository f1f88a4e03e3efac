/*
 * tests/unit/wire/pbjson_test.c - JSON and YAML to messages and back, Any, TypedStruct, redaction;
 * and everything that was recorded from istiod, there and back again.
 */
#include "wire_test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/pb_time.h"
#include "wire/proto/accesslog.pb-c.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/core_config.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/http_local_ratelimit.pb-c.h"
#include "wire/proto/http_router.pb-c.h"
#include "wire/proto/istio_nds.pb-c.h"
#include "wire/proto/istio_peer_metadata.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/rbac.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/tls.pb-c.h"

static lt_rc read_yaml(const char *text, const ProtobufCMessageDescriptor *schema, void *ret_msg)
{
    return lt_pbjson_read(arena, parse_yaml(text), schema, NULL, ret_msg, &err);
}

static void reads_a_bootstrap(LT_UNUSED void **state)
{
    static const char text[] =
        "node: {id: n1, cluster: c, metadata: {LABELS: {app: web}, n: 3}}\n"
        "admin:\n"
        "  address: {socketAddress: {address: 127.0.0.1, port_value: 15000}}\n"
        "static_resources:\n"
        "  listeners:\n"
        "  - name: in\n"
        "    traffic_direction: INBOUND\n"
        "    filter_chains:\n"
        "    - filters:\n"
        "      - name: envoy.filters.network.http_connection_manager\n"
        "        typed_config:\n"
        "          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n"
        "          stat_prefix: in\n"
        "          stream_idle_timeout: 1.5s\n"
        "          use_remote_address: true\n"
        "          http_filters:\n"
        "          - name: router\n"
        "            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n"
        "  clusters:\n"
        "  - {name: a, connect_timeout: 0.25s, type: 4, per_connection_buffer_limit_bytes: 1024}\n";
    Xds__Bootstrap *bootstrap = NULL;
    assert_int_equal(read_yaml(text, &xds__bootstrap__descriptor, &bootstrap), LT_OK);
    assert_string_equal(bootstrap->node->id, "n1");
    assert_int_equal(bootstrap->admin->address->socket_address->port_value, 15000);
    const Xds__Cluster *cluster = bootstrap->static_resources->clusters[0];
    assert_int_equal(cluster->type, XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST);
    assert_int_equal(cluster->connect_timeout->nanos, 250000000);
    assert_int_equal(cluster->per_connection_buffer_limit_bytes->value, 1024);
    const Xds__Listener *listener = bootstrap->static_resources->listeners[0];
    Xds__HttpConnectionManager *hcm = NULL;
    assert_int_equal(lt_any_unpack_as(arena, listener->filter_chains[0]->filters[0]->typed_config,
                                      &xds__http_connection_manager__descriptor, NULL, &hcm, &err),
                     LT_OK);
    assert_int_equal(lt_pb_duration_ns(hcm->stream_idle_timeout, 0), 1500000000);
    assert_true(hcm->use_remote_address->value);
    Xds__Router *router = NULL;
    assert_int_equal(lt_any_unpack_as(arena, hcm->http_filters[0]->typed_config,
                                      &xds__listener__descriptor, NULL, &router, &err),
                     LT_E_BAD);
    assert_text_has(
        err.text,
        "expected envoy.config.listener.v3.Listener, got envoy.extensions.filters.http.router.v3.Router");
}

static void refuses_with_line_and_path(LT_UNUSED void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"static_resources:\n  listeners:\n  - name: 3\n",
         "line 3: static_resources.listeners[0].name: expected string, got number"},
        {"static_resources: []", "line 1: static_resources: expected object, got array"},
        {"static_resources: {listeners: {}}",
         "static_resources.listeners: expected array, got object"},
        {"static_resources: {listeners: [null]}",
         "static_resources.listeners[0]: expected object, got null"},
        {"admin: {address: {socket_address: {port_value: 1, named_port: x}}}",
         "only one of \"port_value\" and \"named_port\""},
        {"admin: {address: {socket_address: {port_value: -1}}}", "port_value: number out of range"},
        {"admin: {address: {socket_address: {port_value: 4294967296}}}",
         "port_value: number out of range"},
        {"admin: {address: {socket_address: {port_value: 1.5}}}",
         "port_value: expected a whole number"},
        {"admin: {address: {socket_address: {port_value: x}}}",
         "port_value: expected number, got string"},
        {"admin: {address: {socket_address: {ipv4_compat: 1}}}",
         "ipv4_compat: expected bool, got number"},
        {"nobody: 1", "line 1: nobody: no such field in envoy.config.bootstrap.v3.Bootstrap"},
        {"static_resources: {}\nstaticResources: {}", "\"static_resources\" is set twice"},
        {"static_resources: {clusters: [{connect_timeout: 5}]}",
         "connect_timeout: expected duration such as \"1.5s\", got number"},
        {"static_resources: {clusters: [{connect_timeout: 5ms}]}",
         "connect_timeout: not a duration"},
        {"static_resources: {clusters: [{type: WRONG}]}",
         "type: \"WRONG\" is not a value of envoy.config.cluster.v3.Cluster.DiscoveryType"},
        {"static_resources: {clusters: [{cluster_type: {typed_config: {a: 1}}}]}",
         "typed_config: expected \"@type\""},
        {"static_resources: {clusters: [{cluster_type: {typed_config: {'@type': x/y}}}]}",
         "@type: no schema for type \"x/y\""},
        {"static_resources: {clusters: [{cluster_type: {typed_config: {'@type': x/google.protobuf.Duration, value: 1}}}]}",
         "typed_config.value: expected duration"},
        {"static_resources: {clusters: [{cluster_type: {typed_config: {'@type': x/envoy.extensions.filters.http.router.v3.Router, a: 1}}}]}",
         "typed_config.a: no such field in envoy.extensions.filters.http.router.v3.Router"},
        {"static_resources: {secrets: [{tls_certificate: {private_key: {inline_bytes: '!'}}}]}",
         "inline_bytes: not base64"},
        {"node: {metadata: 3}", "node.metadata: expected object, got number"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        Xds__Bootstrap *bootstrap = NULL;
        if (read_yaml(cases[i].text, &xds__bootstrap__descriptor, &bootstrap) != LT_E_BAD)
            fail_msg("%s passed", cases[i].text);
        assert_text_has(err.text, cases[i].message);
        assert_null(bootstrap);
    }
}

static void unknown_names_may_be_counted(LT_UNUSED void **state)
{
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pbjson_read_opts opts = {.unknowns = &unknowns};
    Xds__Bootstrap *bootstrap = NULL;
    const struct lt_doc *doc = parse_json(
        "{\"x\":1,\"static_resources\":{\"clusters\":[{\"y\":1},{\"y\":2,\"name\":\"b\",\"cluster_type\":"
        "{\"typed_config\":{\"@type\":\"a/b\"}}}]}}");
    assert_int_equal(
        lt_pbjson_read(arena, doc, &xds__bootstrap__descriptor, &opts, &bootstrap, &err), LT_OK);
    assert_string_equal(bootstrap->static_resources->clusters[1]->name, "b");
    assert_int_equal(unknowns.count, 4);
    assert_int_equal(unknowns.listed, 3);
    assert_string_equal(unknowns.paths[0].ptr, "x");
    assert_string_equal(unknowns.paths[1].ptr, "static_resources.clusters.y");
    assert_string_equal(unknowns.paths[2].ptr,
                        "static_resources.clusters.cluster_type.typed_config.@type");
}

/* JSON that comes back as it was. */
static void round_trips(LT_UNUSED void **state)
{
    static const struct {
        const ProtobufCMessageDescriptor *schema;
        const char *json;
    } cases[] = {
        {&pb__duration__descriptor, "\"0s\""},
        {&pb__duration__descriptor, "\"-0.500s\""},
        {&pb__duration__descriptor, "\"315576000000s\""},
        {&pb__duration__descriptor, "\"1.000000001s\""},
        {&pb__timestamp__descriptor, "\"1970-01-01T00:00:00Z\""},
        {&pb__timestamp__descriptor, "\"2000-02-29T23:59:59.123456Z\""},
        {&pb__timestamp__descriptor, "\"0001-01-01T00:00:00Z\""},
        {&pb__timestamp__descriptor, "\"9999-12-31T23:59:59.999999999Z\""},
        {&pb__uint64_value__descriptor, "\"18446744073709551615\""},
        {&pb__int64_value__descriptor, "\"-9223372036854775808\""},
        {&pb__bool_value__descriptor, "false"},
        {&pb__string_value__descriptor, "\"\""},
        {&pb__bytes_value__descriptor, "\"AAH/\""},
        {&pb__double_value__descriptor, "\"NaN\""},
        {&pb__double_value__descriptor, "\"-Infinity\""},
        {&pb__float_value__descriptor, "0.1"},
        {&pb__empty__descriptor, "{}"},
        {&pb__value__descriptor, "null"},
        {&pb__value__descriptor, "[1,[\"a\",{\"b\":null}],true,1.5]"},
        {&pb__struct__descriptor, "{\"a\":{\"b\":[{}]},\"c\":null}"},
        {&pb__any__descriptor, "{}"},
        {&pb__any__descriptor,
         "{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"5s\"}"},
        {&pb__any__descriptor,
         "{\"@type\":\"x/google.protobuf.Any\",\"value\":{\"@type\":\"x/google.protobuf.StringValue\",\"value\":\"s\"}}"},
        {&xds__permission__descriptor,
         "{\"not_rule\":{\"and_rules\":{\"rules\":[{\"any\":true},{\"not_rule\":{\"destination_port\":0}}]}}}"},
        {&xds__and_filter__descriptor,
         "{\"filters\":[{\"or_filter\":{\"filters\":[{\"not_health_check_filter\":{}}]}}]}"},
        {&xds__socket_address__descriptor, "{\"address\":\"::1\",\"port_value\":0}"},
        {&xds__cluster__descriptor,
         "{\"name\":\"a\",\"ring_hash_lb_config\":{\"minimum_ring_size\":\"1024\"},\"lb_policy\":77}"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        ProtobufCMessage *message = NULL, *again = NULL;
        if (lt_pbjson_read(arena, parse_json(cases[i].json), cases[i].schema, NULL, &message,
                           &err) != LT_OK)
            fail_msg("%s: %s", cases[i].json, err.text);
        assert_int_equal(
            lt_pb_unpack(arena, cases[i].schema, lt_pb_pack(arena, message), NULL, &again, &err),
            LT_OK);
        if (cases[i].schema !=
            &xds__cluster__descriptor) /* there by number, not by the order of the text */
            assert_string_equal(message_text(again), cases[i].json);
        struct lt_doc want = *parse_json(cases[i].json);
        assert_true(lt_doc_eq(parse_json(message_text(again)), &want));
    }
}

static void zeros_are_left_out(LT_UNUSED void **state)
{
    Xds__Cluster *cluster = NULL;
    assert_int_equal(
        read_yaml(
            "{name: '', lb_policy: ROUND_ROBIN, ignore_health_on_host_removal: false, respect_dns_ttl: true, alt_stat_name: null}",
            &xds__cluster__descriptor, &cluster),
        LT_OK);
    assert_string_equal(message_text(cluster), "{\"respect_dns_ttl\":true}");
}

static void bad_times(LT_UNUSED void **state)
{
    static const char *const durations[] = {
        "",     "s",   "1",    "1.s",           ".5s", "1.0000000001s",
        "--1s", "+1s", "1e3s", "315576000001s", " 1s", "1 s"};
    static const char *const timestamps[] = {
        "2026-02-29T00:00:00Z",  "2026-13-01T00:00:00Z",     "2026-01-01 00:00:00Z",
        "2026-01-01T24:00:00Z",  "2026-01-01T00:00:00",      "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:60Z",  "0000-01-01T00:00:00Z",     "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00Zx", "0001-01-01T00:00:00+00:01"};
    Pb__Duration duration = PB__DURATION__INIT;
    Pb__Timestamp timestamp = PB__TIMESTAMP__INIT;
    for (size_t i = 0; i < LT_ARRAY_LEN(durations); i++)
        assert_int_equal(lt_pb_duration_parse(lt_str_of(durations[i]), &duration), LT_E_BAD);
    for (size_t i = 0; i < LT_ARRAY_LEN(timestamps); i++)
        assert_int_equal(lt_pb_timestamp_parse(lt_str_of(timestamps[i]), &timestamp), LT_E_BAD);
    assert_int_equal(lt_pb_timestamp_parse(LT_STR("2026-01-01T00:30:00.5+01:00"), &timestamp),
                     LT_OK);
    assert_int_equal(timestamp.seconds, 1767223800);
    assert_int_equal(timestamp.nanos, 500000000);
    duration.seconds = INT64_MAX;
    assert_int_equal(lt_pb_duration_ns(&duration, 0), INT64_MAX);
    assert_int_equal(lt_pb_duration_ns(NULL, 7), 7);
}

static void secrets_are_not_shown(LT_UNUSED void **state)
{
    static const char text[] =
        "name: s\ntls_certificate:\n  certificate_chain: {inline_string: public}\n  private_key: {inline_bytes: cHJpdmF0ZQ==}\n"
        "  password: {inline_string: hush}\n";
    Xds__Secret *secret = NULL;
    assert_int_equal(read_yaml(text, &xds__secret__descriptor, &secret), LT_OK);
    assert_string_equal(
        message_text(secret),
        "{\"name\":\"s\",\"tls_certificate\":{\"certificate_chain\":{\"inline_string\":\"public\"},"
        "\"private_key\":{\"inline_bytes\":\"W3JlZGFjdGVkXQ==\"},\"password\":{\"inline_string\":\"[redacted]\"}}}");
    assert_text_has(message_text_with(secret, true), "cHJpdmF0ZQ==");
    /* also inside an Any, and in the map of a generic secret */
    assert_null(strstr(message_text(lt_any_pack(arena, secret)), "hush"));
    assert_int_equal(
        read_yaml(
            "generic_secret: {secret: {inline_string: hush}, secrets: {k: {inline_string: hush}}}",
            &xds__secret__descriptor, &secret),
        LT_OK);
    assert_null(strstr(message_text(secret), "hush"));
    assert_text_has(message_text(secret), "\"k\":{\"inline_string\":\"[redacted]\"}");
}

static void typed_structs_are_looked_through(LT_UNUSED void **state)
{
    static const char text[] =
        "'@type': type.googleapis.com/udpa.type.v1.TypedStruct\ntype_url: type.googleapis.com/io.istio.http.peer_metadata.Config\n"
        "value: {downstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}], sharedWithUpstream: true, newer: 1}\n";
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = {LT_PB_LIMITS_DEFAULT, &unknowns};
    Pb__Any *any = NULL;
    Istio__PeerMetadata__Config *config = NULL;
    assert_int_equal(read_yaml(text, &pb__any__descriptor, &any), LT_OK);
    assert_string_equal(lt_any_inner_type(arena, any).ptr, "io.istio.http.peer_metadata.Config");
    assert_int_equal(lt_any_unpack_as(arena, any, &istio__peer_metadata__config__descriptor, &opts,
                                      &config, &err),
                     LT_OK);
    assert_int_equal(config->n_downstream_discovery, 2);
    assert_int_equal(
        config->downstream_discovery[1]->method_specifier_case,
        ISTIO__PEER_METADATA__CONFIG__DISCOVERY_METHOD__METHOD_SPECIFIER_WORKLOAD_DISCOVERY);
    assert_true(config->shared_with_upstream);
    assert_int_equal(unknowns.count, 1);
    assert_string_equal(unknowns.paths[0].ptr, "newer");
    ProtobufCMessage *message = NULL;
    assert_int_equal(lt_any_unpack(arena, NULL, NULL, &message, &err), LT_E_NOT_FOUND);
    any->type_url = "type.googleapis.com/nobody";
    assert_int_equal(lt_any_unpack(arena, any, NULL, &message, &err), LT_E_NOT_FOUND);
    assert_text_has(err.text, "no schema for type \"nobody\"");
}

/* An Any in an Any in an Any ...: the dump unpacks so many, then shows bytes. */
static void nested_anys_end(LT_UNUSED void **state)
{
    Pb__Any *any = lt_any_pack(arena, lt_pb_new(arena, Pb__Empty, pb__empty));
    for (int i = 0; i < 300; i++)
        any = lt_any_pack(arena, any);
    const char *text = message_text(any);
    assert_text_has(text, "\"value\":{\"@type\":\"type.googleapis.com/google.protobuf.Any\"");
    struct lt_doc_limits limits = {1u << 20, 1000, LT_JSON_DEPTH_MAX};
    const struct lt_doc *back = NULL;
    assert_int_equal(lt_json_parse(arena, lt_str_of(text), &limits, &back, &err), LT_OK);
    /* and lists in lists in a Struct */
    struct lt_doc doc = lt_doc_of_array();
    for (int i = 0; i < 90; i++) {
        struct lt_doc outer = lt_doc_of_array();
        lt_doc_push(arena, &outer, doc);
        doc = outer;
    }
    assert_string_equal(message_text(lt_struct_value_from_doc(arena, &doc)), "null");
}

/* --- what istiod sent --- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot read %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = lt_arena_alloc(arena, (size_t)size + 1);
    assert_int_equal(fread(text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    return text;
}

static void check_resource(const char *file, const struct lt_doc *doc,
                           const ProtobufCMessageDescriptor *schema)
{
    ProtobufCMessage *message = NULL, *again = NULL;
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = {LT_PB_LIMITS_DEFAULT, &unknowns};
    if (lt_pbjson_read(arena, doc, schema, NULL, &message, &err) != LT_OK)
        fail_msg("%s: %s", file, err.text);
    lt_str bytes = lt_pb_pack(arena, message);
    assert_int_equal(lt_pb_unpack(arena, schema, bytes, &opts, &again, &err), LT_OK);
    assert_int_equal(unknowns.count, 0);
    assert_true(lt_str_eq(lt_pb_pack(arena, again), bytes));
    const struct lt_doc *back = NULL;
    assert_int_equal(
        lt_json_parse(arena, lt_str_of(message_text_with(again, true)), NULL, &back, &err), LT_OK);
    if (!lt_doc_eq(back, doc))
        fail_msg("%s, line %u: changed to %.300s", file, doc->line, doc_text(back));
}

static size_t check_file(const char *path, const ProtobufCMessageDescriptor *schema)
{
    const struct lt_doc *doc = NULL;
    struct lt_arena_mark mark = lt_arena_mark(arena);
    if (lt_json_parse(arena, lt_str_of(read_file(path)), NULL, &doc, &err) != LT_OK)
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(doc->kind, LT_DOC_ARRAY);
    size_t count = doc->count;
    for (uint32_t i = 0; i < doc->count; i++)
        check_resource(path, &doc->items[i], schema);
    lt_arena_rollback(arena, mark);
    return count;
}

/* The kind of a capture is in its name: lds.json, cds-part.json. */
static const ProtobufCMessageDescriptor *schema_of_file(const char *name)
{
    static const struct {
        const char *prefix;
        const ProtobufCMessageDescriptor *schema;
    } kinds[] = {
        {"lds", &xds__listener__descriptor},
        {"rds", &xds__route_configuration__descriptor},
        {"cds", &xds__cluster__descriptor},
        {"eds", &xds__cluster_load_assignment__descriptor},
        {"ecds", &xds__typed_extension_config__descriptor},
        {"sds", &xds__secret__descriptor},
        {"nds", &istio__name_table__descriptor},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(kinds); i++) {
        if (strncmp(name, kinds[i].prefix, strlen(kinds[i].prefix)) == 0 &&
            strstr(name, ".json") != NULL)
            return kinds[i].schema;
    }
    return NULL;
}

static size_t check_folder(const char *folder)
{
    char path[4096];
    size_t count = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            count += check_folder(path);
        else if (entry->d_type == DT_REG && schema_of_file(entry->d_name) != NULL)
            count += check_file(path, schema_of_file(entry->d_name));
    }
    closedir(dir);
    return count;
}

static void recorded_resources_come_back_the_same(LT_UNUSED void **state)
{
    char folder[4096];
    const char *contract = getenv("LATEEN_CONTRACT"), *root = getenv("LATEEN_SOURCE_ROOT");
    if (contract != NULL)
        snprintf(folder, sizeof(folder), "%s/captures", contract);
    else
        snprintf(folder, sizeof(folder), "%s/../shared/contract/captures",
                 root != NULL ? root : ".");
    size_t count = check_folder(folder);
    if (count == 0) {
        print_message("# no recordings at %s\n", folder);
        skip();
    }
    print_message("# %zu resources\n", count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_bootstrap),
        cmocka_unit_test(refuses_with_line_and_path),
        cmocka_unit_test(unknown_names_may_be_counted),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(zeros_are_left_out),
        cmocka_unit_test(bad_times),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(typed_structs_are_looked_through),
        cmocka_unit_test(nested_anys_end),
        cmocka_unit_test(recorded_resources_come_back_the_same),
    };
    return cmocka_run_group_tests(tests, arena_up, arena_down);
}
