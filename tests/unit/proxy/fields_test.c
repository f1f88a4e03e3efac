/*
 * tests/unit/proxy/fields_test.c - what a resource says and nobody reads is listed, or refuses it: at every depth, behind every kind
 * of wrapping, in bounds. Whether the table is true is check_fields.py's matter.
 */
#include "conf_test.h"

#include "proxy/compile/fields.h"
#include "wire/any.h"
#include "wire/proto/core.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/http_jwt_authn.pb-c.h"
#include "wire/proto/http_rbac.pb-c.h"
#include "wire/proto/rbac.pb-c.h"

static struct lt_arena *arena;
static struct px_tls_slots *slots;
static struct px_resource *made;
static struct lt_err err;

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    slots = px_tls_slots_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_resource_unref(&made);
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
    return 0;
}

static lt_rc compile_bytes(px_resource_kind kind, lt_str bytes)
{
    px_resource_unref(&made);
    lt_err_clear(&err);
    return px_conf_compile(kind, LT_STR_NULL, LT_STR_NULL, bytes, slots, &made, &err);
}

static lt_rc compile(px_resource_kind kind, const char *yaml)
{
    return compile_bytes(kind, pack_yaml(arena, kind, yaml));
}

static void assert_listed(const char *lines)
{
    struct lt_buf all;
    lt_buf_init(&all, 1 << 20);
    for (size_t i = 0; i < px_unhonoured_count(made); i++)
        lt_buf_addf(&all, "%s%.*s", i > 0 ? "\n" : "", LT_STR_ARG(made->extras->unhonoured[i]));
    if (!lt_str_eqz(lt_buf_str(&all), lines))
        fail_msg("listed:\n%.*s\nexpected:\n%s", LT_STR_ARG(lt_buf_str(&all)), lines);
    lt_buf_fini(&all);
}

/* A field of any number, as a newer schema might have it. */
static lt_str with_unknown(lt_str bytes, unsigned number)
{
    struct lt_buf out;
    lt_buf_init(&out, 1 << 20);
    lt_buf_add(&out, bytes);
    unsigned char tag[] = {(unsigned char)((number << 3 & 0x7F) | 0x80),
                           (unsigned char)(number >> 4), 1};
    lt_buf_add(&out, lt_str_make(tag, sizeof(tag)));
    lt_str copy = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return copy;
}

static ProtobufCBinaryData as_data(lt_str bytes)
{
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)lt_arena_strz(arena, bytes)};
}

/* --- where it is found --- */

static void test_each_kind_of_place(void **state)
{
    (void)state;
    static const struct {
        px_resource_kind kind;
        const char *yaml, *lines;
    } cases[] = {
        {PX_CLUSTER, "{name: c, lrs_server: {}, preconnect_policy: {}}",
         "lrs_server\npreconnect_policy"},
        {PX_CLUSTER,
         "{name: c, lb_subset_config: {subset_selectors: [{keys: [a]}], metadata_fallback_policy: 1}}",
         "lb_subset_config.metadata_fallback_policy"},
        {PX_CLUSTER, /* inside an Any that is the value of a map */
         "{name: c, typed_extension_protocol_options: {http: {'@type': "
         "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, retry_policy: {}, "
         "explicit_http_config: {http_protocol_options: {allow_chunked_length: true}}}}}",
         "typed_extension_protocol_options.http.explicit_http_config.http_protocol_options.allow_chunked_length\n"
         "typed_extension_protocol_options.http.retry_policy"},
        {PX_CLUSTER, /* a type that is in no place of ours */
         "{name: c, typed_extension_protocol_options: {x: {'@type': type.googleapis.com/google.protobuf.Empty, value: {}}}}",
         "typed_extension_protocol_options.x (google.protobuf.Empty)"},
        {PX_CLUSTER, /* elsewhere these are honoured */
         "{name: c, common_http_protocol_options: {max_connection_duration_jitter: {value: 5}, idle_timeout: 1s}, circuit_breakers: "
         "{thresholds: [{max_requests: 1}], per_host_thresholds: [{max_requests: 1, max_connections: 1}]}}",
         "circuit_breakers.per_host_thresholds[0].max_requests\ncommon_http_protocol_options.max_connection_duration_jitter"},
        {PX_LISTENER,
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, enable_mptcp: true, filter_chains: [{filters: "
         "[{name: t, typed_config: {'@type': " TCP
         ", stat_prefix: s, cluster: c, backoff_options: {base_interval: 1s}, "
         "access_log: [{typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}, "
         "filter: {and_filter: {filters: [{extension_filter: {name: a}}, {duration_filter: {comparison: {op: GE, value: "
         "{default_value: 1}}}}]}}}]}}]}]}",
         "filter_chains[0].filters[0].access_log[0].filter.and_filter.filters[0].extension_filter\n"
         "filter_chains[0].filters[0].backoff_options\nenable_mptcp"},
        {PX_LISTENER, /* an inspector that its compiler knows by type alone */
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, listener_filters: [{name: i, typed_config: {'@type': " ENVOY
         "listener.tls_inspector.v3.TlsInspector, enable_ja3_fingerprinting: true}}], filter_chains: [{filters: [{name: t, "
         "typed_config: {'@type': " TCP ", stat_prefix: s, cluster: c}}]}]}",
         "listener_filters[0].enable_ja3_fingerprinting"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        if (compile(cases[i].kind, cases[i].yaml) != LT_OK)
            fail_msg("%s: %s", cases[i].yaml, err.text);
        assert_listed(cases[i].lines);
    }
}

/* "wait_for_warm_on_init: true" is what is so anyway; a false that asks for nothing is none. */
static void test_what_says_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *lines;
    } cases[] = {
        {"{name: c, wait_for_warm_on_init: true}", ""},
        {"{name: c, wait_for_warm_on_init: false}", "wait_for_warm_on_init"},
        {"{name: c, upstream_bind_config: {source_address: {address: 127.0.0.1, port_value: 0}, freebind: false}}",
         ""},
        {"{name: c, upstream_bind_config: {source_address: {address: 127.0.0.1, port_value: 0}, freebind: true}}",
         "upstream_bind_config.freebind"},
        {"{name: c, track_timeout_budgets: false, metadata: {filter_metadata: {a: {b: c}}}}", ""},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        assert_int_equal(compile(PX_CLUSTER, cases[i].yaml), LT_OK);
        assert_listed(cases[i].lines);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        px_resource_kind kind;
        const char *yaml, *says;
    } cases[] = {
        {PX_LISTENER,
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1, network_namespace_filepath: /x}}, "
         "filter_chains: [{filters: [{name: t, typed_config: {'@type': " TCP
         ", stat_prefix: s, cluster: c}}]}]}",
         "address.socket_address.network_namespace_filepath: is not supported: it would be another network"},
        {PX_LISTENER,
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: h, "
         "typed_config: {'@type': " HCM
         ", stat_prefix: s, route_config: {name: r}, original_ip_detection_extensions: [{name: x}], "
         "http_filters: [" ROUTER "]}}]}]}",
         "filter_chains[0].filters[0].original_ip_detection_extensions: is not supported"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        assert_int_equal(compile(cases[i].kind, cases[i].yaml), LT_E_UNSUPPORTED);
        if (strstr(err.text, cases[i].says) == NULL)
            fail_msg("%s", err.text);
    }
}

/* Istio's own extensions come as TypedStruct; what their compilers take for granted is looked at. */
static void test_istio(void **state)
{
    (void)state;
#define STRUCT(type, value) \
    "{'@type': type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/" type \
    ", value: " value "}"
#define EXCHANGE "envoy.tcp.metadataexchange.config.MetadataExchange"
#define ALPN "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
#define LISTS \
    "{alpn_override: [istio-http/1.0, istio, http/1.0]}, {upstream_protocol: HTTP11, alpn_override: [istio-http/1.1, istio, http/1.1]}"
    static const struct {
        px_resource_kind kind;
        const char *yaml, *lines;
    } cases[] = {
        {PX_CLUSTER,
         "{name: c, filters: [{name: x, typed_config: " STRUCT(
             EXCHANGE, "{protocol: istio-peer-exchange, enable_discovery: true}") "}]}",
         ""},
        {PX_CLUSTER,
         "{name: c, filters: [{name: x, typed_config: " STRUCT(
             EXCHANGE, "{protocol: other, additional_labels: [a], newer: 1}") "}]}",
         "filters[0].protocol\nfilters[0].newer\nfilters[0].additional_labels"},
        {PX_EXTENSION,
         "{name: e, typed_config: " STRUCT(
             ALPN, "{alpn_override: [" LISTS
                   ", {upstream_protocol: HTTP2, alpn_override: [istio-h2, istio, h2]}]}") "}",
         ""},
        {PX_EXTENSION, "{name: e, typed_config: " STRUCT(ALPN, "{alpn_override: [" LISTS "]}") "}",
         "alpn_override"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        if (compile(cases[i].kind, cases[i].yaml) != LT_OK)
            fail_msg("%s: %s", cases[i].yaml, err.text);
        assert_listed(cases[i].lines);
    }
}

/* --- fields that no schema of ours has --- */

static void test_unknown_fields(void **state)
{
    (void)state;
    Xds__Cluster cluster = XDS__CLUSTER__INIT;
    cluster.name = "c";
    assert_int_equal(compile_bytes(PX_CLUSTER, with_unknown(lt_pb_pack(arena, &cluster), 1000)),
                     LT_OK);
    assert_listed("#1000");
    /* inside an Any */
    Pb__Any any = PB__ANY__INIT;
    any.type_url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    any.value = as_data(with_unknown(LT_STR("\x1a\x02\x0a\x00"),
                                     1001)); /* explicit_http_config: {http_protocol_options: {}} */
    any.has_value = true;
    Xds__Cluster__TypedExtensionProtocolOptionsEntry entry =
        XDS__CLUSTER__TYPED_EXTENSION_PROTOCOL_OPTIONS_ENTRY__INIT;
    Xds__Cluster__TypedExtensionProtocolOptionsEntry *entries[] = {&entry};
    entry.key = "http";
    entry.value = &any;
    cluster.typed_extension_protocol_options = entries;
    cluster.n_typed_extension_protocol_options = 1;
    if (compile_bytes(PX_CLUSTER, lt_pb_pack(arena, &cluster)) != LT_OK)
        fail_msg("%s", err.text);
    assert_listed("typed_extension_protocol_options.http.#1001");
}

/* One permission around another, as far down as says, with a field that nobody knows at the bottom. */
static ProtobufCBinaryData nested_permission(int depth, bool has_unknown)
{
    Xds__Permission permission = XDS__PERMISSION__INIT;
    if (depth == 0) {
        permission.rule_case = XDS__PERMISSION__RULE_ANY;
        permission.any = true;
        lt_str bytes = lt_pb_pack(arena, &permission);
        return as_data(has_unknown ? with_unknown(bytes, 1002) : bytes);
    }
    permission.rule_case = XDS__PERMISSION__RULE_NOT_RULE;
    permission.not_rule = nested_permission(depth - 1, has_unknown);
    return as_data(lt_pb_pack(arena, &permission));
}

static lt_rc compile_rbac(Xds__Permission *permission)
{
    Xds__HttpRbac__RBAC filter = XDS__HTTP_RBAC__RBAC__INIT;
    Xds__RBAC rules = XDS__RBAC__INIT;
    Xds__Policy policy = XDS__POLICY__INIT;
    Xds__Principal principal = XDS__PRINCIPAL__INIT, *principals[] = {&principal};
    Xds__Permission *permissions[] = {permission};
    Xds__RBAC__PoliciesEntry entry = XDS__RBAC__POLICIES_ENTRY__INIT, *entries[] = {&entry};
    Xds__TypedExtensionConfig extension = XDS__TYPED_EXTENSION_CONFIG__INIT;
    principal.identifier_case = XDS__PRINCIPAL__IDENTIFIER_ANY;
    principal.any = true;
    policy.permissions = permissions;
    policy.principals = principals;
    policy.n_permissions = policy.n_principals = 1;
    entry.key = "p";
    entry.value = &policy;
    rules.policies = entries;
    rules.n_policies = 1;
    filter.rules = &rules;
    extension.name = "e";
    extension.typed_config = lt_any_pack(arena, &filter);
    return compile_bytes(PX_EXTENSION, lt_pb_pack(arena, &extension));
}

static void test_unknown_fields_that_may_guard(void **state)
{
    (void)state;
    for (int depth = 1; depth < 8; depth += 3) {
        Xds__Permission *permission = lt_pb_new(arena, Xds__Permission, xds__permission);
        permission->rule_case = XDS__PERMISSION__RULE_NOT_RULE;
        permission->not_rule = nested_permission(depth, false);
        assert_int_equal(compile_rbac(permission), LT_OK);
        assert_listed("");
        permission->not_rule = nested_permission(depth, true);
        assert_int_equal(compile_rbac(permission), LT_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, "rules.policies.p.permissions[0].not_rule"));
        assert_non_null(strstr(err.text, "#1002"));
    }
}

/* Thirty-two kinds of unknown fields are told; where one of the others might guard nothing passes. */
static void test_many_unknown_fields(void **state)
{
    (void)state;
    Xds__RouteConfiguration routes = XDS__ROUTE_CONFIGURATION__INIT;
    Xds__ClusterLoadAssignment endpoints = XDS__CLUSTER_LOAD_ASSIGNMENT__INIT;
    routes.name = "r";
    endpoints.cluster_name = "e";
    lt_str bytes = lt_pb_pack(arena, &endpoints), route_bytes = lt_pb_pack(arena, &routes);
    for (unsigned i = 0; i < LT_PB_UNKNOWN_LISTED_MAX + 8; i++) {
        bytes = with_unknown(bytes, 1000 + i);
        route_bytes = with_unknown(route_bytes, 1000 + i);
    }
    assert_int_equal(compile_bytes(PX_ENDPOINTS, bytes), LT_OK);
    assert_int_equal(px_unhonoured_count(made), LT_PB_UNKNOWN_LISTED_MAX + 1);
    assert_int_equal(compile_bytes(PX_ROUTES, route_bytes), LT_E_UNSUPPORTED);
}

/* --- bounds --- */

static void test_alike_once(void **state)
{
    (void)state;
    struct lt_buf yaml;
    lt_buf_init(&yaml, 1 << 20);
    lt_buf_addf(&yaml, "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [");
    for (int i = 0; i < 1000; i++)
        lt_buf_addf(&yaml, "%s{match: {prefix: /}, stat_prefix: a, route: {cluster: c%s}}",
                    i > 0 ? ", " : "", i == 7 ? ", flush_timeout: 1s" : "");
    lt_buf_addf(&yaml, "]}]}");
    assert_int_equal(compile(PX_ROUTES, lt_arena_strz(arena, lt_buf_str(&yaml))), LT_OK);
    lt_buf_fini(&yaml);
    assert_listed("virtual_hosts[*].routes[*].stat_prefix (1000 times)\n"
                  "virtual_hosts[0].routes[7].route.flush_timeout");
}

/* Keys of maps are of whoever writes them: their lines have a maximum. */
static void test_many_lines(void **state)
{
    (void)state;
    struct lt_buf yaml;
    lt_buf_init(&yaml, 1 << 20);
    lt_buf_addf(&yaml, "{name: c, typed_extension_protocol_options: {");
    for (int i = 0; i < 1000; i++)
        lt_buf_addf(&yaml, "%sk%d: {'@type': type.googleapis.com/google.protobuf.Empty, value: {}}",
                    i > 0 ? ", " : "", i);
    lt_buf_addf(&yaml, "}}");
    assert_int_equal(compile(PX_CLUSTER, lt_arena_strz(arena, lt_buf_str(&yaml))), LT_OK);
    lt_buf_fini(&yaml);
    assert_int_equal(px_unhonoured_count(made), 257);
    assert_true(lt_str_eqz(made->extras->unhonoured[256], "and 744 more"));
}

/* An Any in an Any in an Any: nobody's stack ends, and what nobody reads is listed or refused. */
static void test_deep(void **state)
{
    (void)state;
    Xds__FilterConfig filter = XDS__FILTER_CONFIG__INIT;
    Pb__Any *any = NULL;
    for (int i = 0; i < 1000; i++) {
        filter.config = any;
        filter.has_disabled = filter.disabled = true; /* its compiler looks no deeper */
        any = lt_any_pack(arena, &filter);
    }
    Xds__RouteConfiguration__TypedPerFilterConfigEntry entry =
        XDS__ROUTE_CONFIGURATION__TYPED_PER_FILTER_CONFIG_ENTRY__INIT;
    Xds__RouteConfiguration__TypedPerFilterConfigEntry *entries[] = {&entry};
    Xds__RouteConfiguration routes = XDS__ROUTE_CONFIGURATION__INIT;
    entry.key = "f";
    entry.value = any;
    routes.name = "r";
    routes.typed_per_filter_config = entries;
    routes.n_typed_per_filter_config = 1;
    assert_int_equal(compile_bytes(PX_ROUTES, lt_pb_pack(arena, &routes)), LT_E_BAD);
    assert_non_null(strstr(err.text, "nested deeper"));
}

/* What stands in an Any and is no message of its type refuses the resource, though no compiler opens it. */
static void test_broken_any(void **state)
{
    (void)state;
    lt_str bytes = pack_yaml(arena, PX_CLUSTER,
                             "{name: c, typed_extension_protocol_options: {x: {'@type': "
                             "type.googleapis.com/google.protobuf.StringValue, value: abcdefgh}}}");
    char *copy = lt_arena_strz(arena, bytes);
    char *text = memmem(copy, bytes.len, "abcdefgh", 8);
    assert_non_null(text);
    text[0] = (char)0xFF; /* no UTF-8 */
    assert_int_equal(compile_bytes(PX_CLUSTER, lt_str_make(copy, bytes.len)), LT_E_BAD);
}

/* The index grows as types come: here all of them do, so that every row is read. */
static void test_every_row(void **state)
{
    (void)state;
    size_t count = 0;
    const ProtobufCMessageDescriptor *const *types = lt_any_all(&count);
    struct px_fields *fields = px_fields_new();
    for (size_t i = 0; i < count; i++) {
        const struct px_kind *kind = px_fields_find(fields, types[i]);
        bool is_known = strcmp(types[i]->package_name, "google.protobuf") == 0;
        assert_true((kind == NULL) == is_known);
        assert_ptr_equal(px_fields_find(fields, types[i]), kind);
        for (unsigned k = 0; kind != NULL && kind->all != NULL && k < types[i]->n_fields; k++)
            assert_ptr_equal(kind->all[k].field, &types[i]->fields[k]);
    }
    px_fields_free(&fields);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_kind_of_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_says_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_istio, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fields_that_may_guard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_unknown_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_alike_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_any, set_up, tear_down),
        cmocka_unit_test(test_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
