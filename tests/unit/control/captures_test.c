/*
 * captures_test.c - our translation beside that of a real istiod, from the same objects: resource
 * by resource, field by field. What differs must be in one of the tables below, with its reason.
 * The captures lie beside the project (../shared), or where LATEEN_CONTRACT says; without them the
 * test is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fnmatch.h>
#include <unistd.h>

#include "control/translate.h"
#include "model/load.h"
#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/istio_nds.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/route.pb-c.h"

/*
 * A difference that we know: in which case, of which resource, at which path (shell patterns), and
 * why.
 */
struct known {
    const char *scene;
    const char *resource;
    const char *path;
    const char *why;
};

#define LOCALITY "localityLbSetting is not translated yet"
#define RETRY \
    "our default policy is narrower than Istio's: never again what the application may have seen"
#define ENVOY_FILTER "an EnvoyFilter of the captured mesh, a kind that is not read yet"
#define TLS_SECRET "a server with a certificate from a Secret: not yet"
#define DELEGATE "delegates are not translated yet"
#define POLICY "AuthorizationPolicy and RequestAuthentication are not read yet"
#define TELEMETRY "Telemetry is not read yet"
#define WASM "WasmPlugin is not read yet"
#define SIDECAR "Sidecar is not read yet: everything is in sight"
#define SESSION "persistent sessions are not translated yet"
#define NODE "the captured gateway had a ProxyConfig (gatewayTopology, proxyHeaders) of its own"

static const struct known differences[] = {
    {"*", "outbound|*inventory*", "common_lb_config.locality_weighted_lb_config", LOCALITY},
    {"* EDS", "outbound|*|v2|inventory*", "endpoints*", LOCALITY},
    {"sidecar-full RDS", "80", "virtual_hosts?catalog.*",
     "istiod means port 80, which the service doesn't have; we its only port"},
    {"sidecar-full CDS", "outbound|9000||cart*", "per_connection_buffer_limit_bytes", ENVOY_FILTER},
    {"* RDS", "*", "virtual_hosts*retry_policy.retry_on", RETRY},
    {"sidecar-* RDS", "*", "virtual_hosts?inventory.stock.*", DELEGATE},
    {"sidecar-full RDS", "*", "virtual_hosts?catalog.*weighted_clusters*",
     "the captured object was edited: 60/40 instead of 80/20"},
    {"gateway-full LDS", "0.0.0.0_8443", "filter_chains*", TLS_SECRET},
    {"*-lab LDS", "*", "*http_filters?istio.stats*", TELEMETRY},
    {"* LDS", "*", "*istio.stats?.typed_config.metrics", TELEMETRY},
    {"* LDS", "*", "*access_log", TELEMETRY},
    {"* LDS", "*", "*.tracing.*", TELEMETRY},
    {"* LDS", "*", "*request_id_extension.typed_config.use_request_id_for_trace_sampling",
     TELEMETRY},
    {"* LDS", "*", "*filters?envoy.filters.*.rbac?", POLICY},
    {"* LDS", "*", "*filters?envoy.filters.*.ext_authz?", POLICY},
    {"* LDS", "*", "*filters?envoy.filters.http.jwt_authn?", POLICY},
    {"* LDS", "*", "*http_filters?extensions.istio.io/trafficextension/*", WASM},
    {"sidecar-full LDS", "virtualInbound", "*http_filters?shop.lua?", ENVOY_FILTER},
    {"sidecar-none LDS", "127.0.0.1_443", "*",
     "without capture, TLS services on one port are not merged yet: the oldest counts"},
    {"sidecar-lab RDS", "80", "virtual_hosts?*.shop.svc.cluster.local:80?", SIDECAR},
    {"sidecar-lab RDS", "80", "virtual_hosts?*.edge.svc.cluster.local:80?", SIDECAR},
    {"sidecar-lab RDS", "80", "virtual_hosts?shop.example.com:80?", SIDECAR},
    {"sidecar-lab CDS", "*", "circuit_breakers.thresholds?0?.retry_budget", "retryBudget: not yet"},
    {"sidecar-lab CDS", "*", "*HttpProtocolOptions.outlier_detection",
     "outlierDetectionHttpErrorCodes: not yet"},
    {"sidecar-lab CDS", "*27017*", "transport_socket*crl", "caCrl: not yet"},
    {"sidecar-lab CDS", "*sticky*", "common_lb_config.override_host_status", SESSION},
    {"sidecar-lab LDS", "*", "*http_filters?envoy.filters.http.stateful_session?", SESSION},
    {"gateway-lab RDS", "*", "virtual_hosts?*.lab.test:*",
     "the captured object was edited; claims of a token are not translated yet"},
    {"gateway-lab LDS", "*", "*.server_name", NODE},
    {"gateway-lab LDS", "*", "*.xff_num_trusted_hops", NODE},
    {"gateway-lab LDS", "*", "*.generate_request_id", NODE},
    {"gateway-lab LDS", "*", "*.forward_client_cert_details", NODE},
    {"gateway-lab LDS", "*", "listener_filters*", NODE},
    {"sidecar-full NDS", "*", "table.kubernetes.default.*", "a Service of the cluster"},
    {"sidecar-full NDS", "*", "table.web-istio.*", "Gateway API is not read yet"},
    {"sidecar-full NDS", "*", "table.erp.corp.internal", "ServiceEntry is not read yet"},
    {"sidecar-full NDS", "*", "table.cache.shop.svc.cluster.local.ips*",
     "by address; whoever is asked shuffles them"},
    {"gateway-full RDS", "http.8080", "virtual_hosts?shop/*",
     "a virtual host whose domain nobody can ask for"},
};

/* Captured resources that we don't have, or ours that were not captured. */
static const struct known absences[] = {
    {"*", "*kubernetes.default*", "", "a Service of the cluster, not among the objects"},
    {"*", "10.96.0.1_443", "", "its listener"},
    {"*", "*wiki.example*", "", "ServiceEntry is not read yet"},
    {"*", "*bank.example*", "", "ServiceEntry is not read yet"},
    {"*", "*batch.shop.internal*", "", "ServiceEntry is not read yet"},
    {"*", "*cdn.example*", "", "ServiceEntry is not read yet"},
    {"*", "*erp.corp*", "", "ServiceEntry is not read yet"},
    {"*", "*dyn.example*", "", "ServiceEntry is not read yet"},
    {"*", "*web-istio*", "", "Gateway API is not read yet"},
    {"sidecar-full RDS", "9400", "", "ServiceEntry is not read yet"},
    {"sidecar-full LDS", "0.0.0.0_9400", "", "ServiceEntry is not read yet"},
    {"sidecar-full LDS", "0.0.0.0_443", "", "ServiceEntry is not read yet"},
    {"sidecar-full LDS", "0.0.0.0_5432", "", "ServiceEntry is not read yet"},
    {"sidecar-full LDS", "172.30.7.10_5432", "", "ServiceEntry is not read yet"},
    {"sidecar-full LDS", "10.96.30.3_*", "", "a Service that the Gateway API made"},
    {"sidecar-lab *", "*multi.lab.example*", "", "ServiceEntry is not read yet"},
    {"gateway-lab *", "*8443*", "", TLS_SECRET},
    {"gateway-full *", "outbound_.*", "", "AUTO_PASSTHROUGH is not translated yet"},
    {"gateway-full LDS", "0.0.0.0_15443", "", "AUTO_PASSTHROUGH is not translated yet"},
    {"gateway-full RDS", "https.443.*", "", TLS_SECRET},
};

struct world {
    struct lt_arena *arena;
    struct lt_manifests *manifests;
    struct lt_model *model;
    struct lt_ads_pool pool;
    char captures[1024];
};

static struct world world;

/* ---- finding and reading ---- */

static bool is_known(const struct known *table, size_t count, const char *scene,
                     const char *resource, const char *path)
{
    for (size_t i = 0; i < count; i++) {
        if (fnmatch(table[i].scene, scene, 0) == 0 &&
            fnmatch(table[i].resource, resource, 0) == 0 &&
            (path == NULL || fnmatch(table[i].path, path, 0) == 0))
            return true;
    }
    return false;
}

static const struct lt_doc *read_json(const char *name)
{
    char path[2048];
    snprintf(path, sizeof(path), "%s/%s", world.captures, name);
    char *text = NULL;
    size_t len = 0;
    struct lt_err err = {0};
    const struct lt_doc *doc = NULL;
    if (lt_manifest_read_file(path, &text, &len, &err) != LT_OK ||
        lt_json_parse(world.arena, lt_arena_str(world.arena, lt_str_make(text, len)), NULL, &doc,
                      &err) != LT_OK)
        fail_msg("%s: %s", path, err.text);
    free(text);
    return doc;
}

static void put_file(const char *dir, const char *name)
{
    char path[2048];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    char *text = NULL;
    size_t len = 0;
    struct lt_err err = {0};
    if (lt_manifest_read_file(path, &text, &len, &err) != LT_OK)
        fail_msg("%s", err.text);
    /* istiod's webhook would refuse these hosts, but none was there */
    char *hosts = strstr(text, "[opt.lab.test, \"*.lab.test\"]");
    if (hosts != NULL)
        memcpy(hosts, "[              \"*.lab.test\"]", strlen("[opt.lab.test, \"*.lab.test\"]"));
    lt_manifests_put(world.manifests, lt_str_of(path), lt_str_make(text, len));
    free(text);
}

static struct cp_node read_node(const char *file, const char *const (*changes)[2])
{
    const struct lt_doc *doc = read_json(file);
    Xds__Node *message = NULL;
    struct lt_err err = {0};
    struct lt_doc copy = lt_doc_copy(world.arena, doc);
    for (size_t i = 0; changes != NULL && changes[i][0] != NULL; i++) {
        struct lt_doc value = lt_doc_of_str(lt_str_of(changes[i][1]));
        bool is_top = strcmp(changes[i][0], "id") == 0;
        struct lt_doc *at = is_top ? &copy : (struct lt_doc *)lt_doc_findz(&copy, "metadata");
        if (strncmp(changes[i][0], "LABELS.", 7) == 0)
            lt_doc_set(world.arena, (struct lt_doc *)lt_doc_findz(at, "LABELS"),
                       lt_str_of(changes[i][0] + 7), value);
        else
            lt_doc_set(world.arena, at, lt_str_of(changes[i][0]), value);
    }
    struct cp_node node;
    if (lt_pbjson_read(world.arena, &copy, &xds__node__descriptor, NULL, &message, &err) != LT_OK ||
        cp_node_read(world.arena, message, &node, &err) != LT_OK)
        fail_msg("%s: %s", file, err.text);
    return node;
}

static const struct lt_doc *to_doc(const struct lt_ads_resource *resource, cp_type type)
{
    static const ProtobufCMessageDescriptor *const descriptors[CP_TYPE_COUNT] = {
        [CP_TYPE_CDS] = &xds__cluster__descriptor,
        [CP_TYPE_EDS] = &xds__cluster_load_assignment__descriptor,
        [CP_TYPE_LDS] = &xds__listener__descriptor,
        [CP_TYPE_RDS] = &xds__route_configuration__descriptor,
        [CP_TYPE_NDS] = &istio__name_table__descriptor,
    };
    void *message = NULL;
    struct lt_err err = {0};
    const struct lt_doc *doc = NULL;
    struct lt_buf buf;
    struct lt_json_writer w;
    assert_int_equal(lt_pb_unpack(world.arena, descriptors[type], lt_ads_resource_value(resource),
                                  NULL, &message, &err),
                     LT_OK);
    lt_buf_init(&buf, 64 << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_pbjson_write(&w, world.arena, message, NULL);
    assert_int_equal(lt_json_writer_finish(&w), LT_OK);
    if (lt_json_parse(world.arena, lt_arena_str(world.arena, lt_buf_str(&buf)), NULL, &doc, &err) !=
        LT_OK)
        fail_msg("%s", err.text);
    lt_buf_fini(&buf);
    return doc;
}

/* ---- comparing ---- */

struct comparing {
    const char *scene;
    const char *resource;
    bool is_part; /* chains were cut out of the capture */
    size_t differences;
};

static lt_str text_of(const struct lt_doc *doc)
{
    if (doc == NULL)
        return LT_STR("(nothing)");
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, 64 << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_doc(&w, doc);
    lt_str text = lt_arena_str(world.arena, lt_buf_str(&buf));
    lt_buf_fini(&buf);
    return lt_str_slice(text, 0, 400);
}

static void differ(struct comparing *c, const char *path, const struct lt_doc *istiod,
                   const struct lt_doc *ours)
{
    if (is_known(differences, LT_ARRAY_LEN(differences), c->scene, c->resource, path))
        return;
    lt_str a = text_of(istiod), b = text_of(ours);
    print_error("%s %s\n  at %s\n  istiod: %.*s\n  ours:   %.*s\n", c->scene, c->resource, path,
                LT_STR_ARG(a), LT_STR_ARG(b));
    c->differences++;
}

/* What an item of a list is called in a path, so that paths don't depend on places. */
static const char *item_name(const struct lt_doc *item, size_t index)
{
    lt_str name = lt_doc_string(lt_doc_findz(item, "name"));
    if (name.len == 0)
        name = lt_doc_string(lt_doc_findz(item, "tag"));
    if (name.len > 0)
        return lt_arena_printf(world.arena, "%.*s", LT_STR_ARG(name)).ptr;
    return lt_arena_printf(world.arena, "%zu", index).ptr;
}

static void compare(struct comparing *c, const char *path, const struct lt_doc *istiod,
                    const struct lt_doc *ours);

static void compare_objects(struct comparing *c, const char *path, const struct lt_doc *istiod,
                            const struct lt_doc *ours)
{
    for (uint32_t i = 0; i < istiod->count; i++) {
        lt_str key = istiod->members[i].key;
        const char *at = lt_arena_printf(world.arena, "%s%s%.*s", path, path[0] != '\0' ? "." : "",
                                         LT_STR_ARG(key))
                             .ptr;
        compare(c, at, &istiod->members[i].value, lt_doc_find(ours, key));
    }
    for (uint32_t i = 0; i < ours->count; i++) {
        lt_str key = ours->members[i].key;
        const char *at = lt_arena_printf(world.arena, "%s%s%.*s", path, path[0] != '\0' ? "." : "",
                                         LT_STR_ARG(key))
                             .ptr;
        if (lt_doc_find(istiod, key) == NULL)
            compare(c, at, NULL, &ours->members[i].value);
    }
}

static const struct lt_doc *find_item(const struct lt_doc *list, const char *name)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(item_name(&list->items[i], i), name) == 0)
            return &list->items[i];
    }
    return NULL;
}

/* Lists of which one side may lack an item. */
static bool is_by_name(const char *path)
{
    static const char *const lists[] = {"virtual_hosts", "http_filters", "filters", "custom_tags"};
    for (size_t i = 0; i < LT_ARRAY_LEN(lists); i++) {
        if (lt_str_ends(lt_str_of(path), lt_str_of(lists[i])))
            return true;
    }
    return false;
}

/* Each chain of the capture beside ours with the same match. */
static void compare_chains(struct comparing *c, const struct lt_doc *istiod,
                           const struct lt_doc *ours)
{
    for (uint32_t i = 0; i < istiod->count; i++) {
        const struct lt_doc *match = lt_doc_findz(&istiod->items[i], "filter_chain_match"),
                            *mine = NULL;
        for (uint32_t j = 0; j < ours->count && mine == NULL; j++) {
            const struct lt_doc *other = lt_doc_findz(&ours->items[j], "filter_chain_match");
            if (other == match || (other != NULL && match != NULL && lt_doc_eq(other, match)))
                mine = &ours->items[j];
        }
        const char *name = item_name(&istiod->items[i], i);
        compare(c, lt_arena_printf(world.arena, "filter_chains[%s]", name).ptr, &istiod->items[i],
                mine);
    }
}

/* Some by name, in the same order, anything else by place. */
static void compare_arrays(struct comparing *c, const char *path, const struct lt_doc *istiod,
                           const struct lt_doc *ours)
{
    bool by_name = is_by_name(path);
    if (c->is_part && strcmp(path, "filter_chains") == 0) {
        compare_chains(c, istiod, ours);
        return;
    }
    for (uint32_t i = 0; i < istiod->count || (!by_name && i < ours->count); i++) {
        const struct lt_doc *theirs = i < istiod->count ? &istiod->items[i] : NULL;
        const struct lt_doc *mine = i < ours->count ? &ours->items[i] : NULL;
        const char *name = item_name(theirs != NULL ? theirs : mine, i);
        if (by_name)
            mine = find_item(ours, name);
        if (by_name && is_known(absences, LT_ARRAY_LEN(absences), c->scene, name, NULL))
            continue;
        compare(c, lt_arena_printf(world.arena, "%s[%s]", path, name).ptr, theirs, mine);
    }
    for (uint32_t i = 0; by_name && i < ours->count; i++) {
        const char *name = item_name(&ours->items[i], i);
        if (find_item(istiod, name) == NULL)
            compare(c, lt_arena_printf(world.arena, "%s[%s]", path, name).ptr, NULL,
                    &ours->items[i]);
    }
}

static void compare(struct comparing *c, const char *path, const struct lt_doc *istiod,
                    const struct lt_doc *ours)
{
    bool is_both = istiod != NULL && ours != NULL && istiod->kind == ours->kind;
    if (is_both && istiod->kind == LT_DOC_OBJECT &&
        !is_known(differences, LT_ARRAY_LEN(differences), c->scene, c->resource, path))
        compare_objects(c, path, istiod, ours);
    else if (is_both && istiod->kind == LT_DOC_ARRAY)
        compare_arrays(c, path, istiod, ours);
    else if (!is_both || !lt_doc_eq(istiod, ours))
        differ(c, path, istiod, ours);
}

static lt_str name_of(const struct lt_doc *resource)
{
    lt_str name = lt_doc_string(lt_doc_findz(resource, "name"));
    if (name.len == 0)
        name = lt_doc_string(lt_doc_findz(resource, "cluster_name"));
    return name.ptr != NULL ? name : LT_STR(""); /* a table of names has none */
}

/* is_whole: the captured file has all of the type, so ours must not have more. */
static void compare_type(const char *dir, const char *file, const struct cp_node *node,
                         cp_type type, bool is_whole)
{
    char path[256], scene[64];
    size_t differences_count = 0;
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    snprintf(scene, sizeof(scene), "%s %s", dir, cp_type_name(type));
    const struct lt_doc *captured = read_json(path);
    struct cp_resources *ours = cp_translate(&world.pool, world.model, node, type);
    for (uint32_t i = 0; i < captured->count; i++) {
        lt_str name = name_of(&captured->items[i]);
        struct comparing c = {scene, name.ptr, !is_whole && strchr(file, '-') != NULL, 0};
        const struct lt_ads_resource *mine = cp_resources_find(ours, name);
        if (mine != NULL) {
            compare(&c, "", &captured->items[i], to_doc(mine, type));
        } else if (!is_known(absences, LT_ARRAY_LEN(absences), scene, name.ptr, NULL)) {
            print_error("%s: %s is missing\n", scene, name.ptr);
            c.differences++;
        }
        differences_count += c.differences;
    }
    for (size_t i = 0; i < ours->count && is_whole; i++) {
        bool is_there = false;
        lt_str name = lt_ads_resource_name(ours->items[i]);
        for (uint32_t j = 0; j < captured->count && !is_there; j++)
            is_there = lt_str_eq(name_of(&captured->items[j]), name);
        if (!is_there && !is_known(absences, LT_ARRAY_LEN(absences), scene,
                                   lt_arena_strz(world.arena, name), NULL)) {
            print_error("%s: %.*s is ours alone\n", scene, LT_STR_ARG(name));
            differences_count++;
        }
    }
    cp_resources_unref(&ours);
    assert_int_equal(differences_count, 0);
}

/* What is wrong with the objects is printed; how many errors there are. */
static size_t build_model(void)
{
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    const struct lt_object *const *objects = lt_manifests_objects(world.manifests, &count, &notes);
    for (size_t i = 0; i < notes->vec.count; i++) {
        char line[2048];
        if (lt_notes_at(notes, i)->level == LT_NOTE_ERROR)
            print_error("%s\n", lt_note_format(lt_notes_at(notes, i), line, sizeof(line)));
    }
    lt_model_unref(&world.model);
    world.model = lt_model_build(&(struct lt_model_input){.objects = objects, .count = count},
                                 NULL);
    return notes->errors;
}

/* ---- scenes ---- */

static const char *const inventory[][2] = {
    {"id", "sidecar~10.20.1.11~inventory-v1-1.stock~stock.svc.cluster.local"},
    {"NAMESPACE", "stock"},
    {"NAME", "inventory-v1-1"},
    {"INSTANCE_IPS", "10.20.1.11"},
    {"WORKLOAD_NAME", "inventory-v1"},
    {"LABELS.app", "inventory"},
    {"LABELS.service.istio.io/canonical-name", "inventory"},
    {NULL, NULL},
};

static void clusters_of_a_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", NULL);
    compare_type("sidecar-full", "cds.json", &node, CP_TYPE_CDS, true);
}

static void endpoints_of_a_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", NULL);
    compare_type("sidecar-full", "eds.json", &node, CP_TYPE_EDS, true);
}

static void routes_of_a_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", NULL);
    compare_type("sidecar-full", "rds.json", &node, CP_TYPE_RDS, true);
}

static void names_for_a_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", NULL);
    compare_type("sidecar-full", "nds.json", &node, CP_TYPE_NDS, true);
}

static void the_plainest_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", inventory);
    compare_type("sidecar-plain", "cds.json", &node, CP_TYPE_CDS, false);
    compare_type("sidecar-plain", "eds.json", &node, CP_TYPE_EDS, false);
    compare_type("sidecar-plain", "rds.json", &node, CP_TYPE_RDS, false);
}

static void listeners_of_the_plainest_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", inventory);
    compare_type("sidecar-plain", "lds.json", &node, CP_TYPE_LDS, false);
}

static const char *const db[][2] = {
    {"id", "sidecar~10.20.0.51~db-v1-1.shop~shop.svc.cluster.local"},
    {"NAME", "db-v1-1"},
    {"INSTANCE_IPS", "10.20.0.51"},
    {"WORKLOAD_NAME", "db-v1"},
    {"LABELS.app", "db"},
    {"LABELS.service.istio.io/canonical-name", "db"},
    {NULL, NULL},
};
static const char *const tproxy[][2] = {{"INTERCEPTION_MODE", "TPROXY"}, {NULL, NULL}};
static const char *const uncaptured[][2] = {{"INTERCEPTION_MODE", "NONE"}, {NULL, NULL}};
static const char *const lab[][2] = {
    {"id", "sidecar~10.20.2.11~probe-v1-1.lab~lab.svc.cluster.local"},
    {"NAMESPACE", "lab"},
    {"NAME", "probe-v1-1"},
    {"INSTANCE_IPS", "10.20.2.11"},
    {"WORKLOAD_NAME", "probe-v1"},
    {"LABELS.app", "probe"},
    {"LABELS.service.istio.io/canonical-name", "probe"},
    {NULL, NULL},
};
static const char *const lab_gateway[][2] = {
    {"id", "router~10.20.2.12~lab-gw-1.lab~lab.svc.cluster.local"},
    {"NAMESPACE", "lab"},
    {"NAME", "lab-gw-1"},
    {"INSTANCE_IPS", "10.20.2.12"},
    {"WORKLOAD_NAME", "lab-gw"},
    {"LABELS.app", "lab-gw"},
    {"LABELS.istio", "lab"},
    {"LABELS.service.istio.io/canonical-name", "lab-gw"},
    {NULL, NULL},
};

static void listeners_of_a_sidecar_with_policies(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", NULL);
    compare_type("sidecar-full", "lds.json", &node, CP_TYPE_LDS, true);
}

/* With a policy that is not among the captured objects. */
static void inbound_under_strict_mtls(void **state)
{
    (void)state;
    static const char strict[] =
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: db, namespace: shop}\n"
        "spec: {selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}\n";
    struct cp_node node = read_node("nodes/sidecar.json", db);
    lt_manifests_put(world.manifests, LT_STR("strict.yaml"), lt_str_of(strict));
    build_model();
    compare_type("sidecar-strict", "lds.json", &node, CP_TYPE_LDS, false);
    lt_manifests_remove(world.manifests, LT_STR("strict.yaml"));
    build_model();
}

static void other_ways_of_capture(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", tproxy);
    compare_type("sidecar-tproxy", "lds-first-chain-only.json", &node, CP_TYPE_LDS, false);
    node = read_node("nodes/sidecar.json", uncaptured);
    compare_type("sidecar-none", "lds.json", &node, CP_TYPE_LDS, false);
}

static void rarer_settings_of_a_sidecar(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/sidecar.json", lab);
    compare_type("sidecar-lab", "cds.json", &node, CP_TYPE_CDS, false);
    compare_type("sidecar-lab", "rds.json", &node, CP_TYPE_RDS, false);
    compare_type("sidecar-lab", "lds-part.json", &node, CP_TYPE_LDS, false);
}

static void rarer_settings_of_a_gateway(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/router.json", lab_gateway);
    compare_type("gateway-lab", "lds.json", &node, CP_TYPE_LDS, false);
    compare_type("gateway-lab", "rds.json", &node, CP_TYPE_RDS, false);
}

static void a_gateway(void **state)
{
    (void)state;
    struct cp_node node = read_node("nodes/router.json", NULL);
    compare_type("gateway-full", "cds-part.json", &node, CP_TYPE_CDS, false);
    compare_type("gateway-full", "eds-part.json", &node, CP_TYPE_EDS, false);
    compare_type("gateway-full", "rds.json", &node, CP_TYPE_RDS, true);
    compare_type("gateway-full", "lds.json", &node, CP_TYPE_LDS, true);
}

static const char *source_root(void)
{
    const char *root = getenv("LATEEN_SOURCE_ROOT");
    return root != NULL ? root : ".";
}

static bool has_captures(void)
{
    const char *contract = getenv("LATEEN_CONTRACT");
    if (contract != NULL)
        snprintf(world.captures, sizeof(world.captures), "%s/captures", contract);
    else
        snprintf(world.captures, sizeof(world.captures), "%s/../shared/contract/captures",
                 source_root());
    return access(world.captures, R_OK) == 0;
}

static int set_up(void **state)
{
    (void)state;
    static const char *const files[] = {"00-nodes-ns.yaml", "05-mesh.yaml",     "10-workloads.yaml",
                                        "20-traffic.yaml",  "30-external.yaml", "40-security.yaml",
                                        "60-edge.yaml",     "95-lab.yaml"};
    char dir[2048];
    world.arena = lt_arena_new(0, 0);
    world.manifests = lt_manifests_new();
    lt_ads_pool_init(&world.pool);
    snprintf(dir, sizeof(dir), "%s/objects", world.captures);
    for (size_t i = 0; i < LT_ARRAY_LEN(files); i++)
        put_file(dir, files[i]);
    snprintf(dir, sizeof(dir), "%s/tests/unit/control/data", source_root());
    put_file(dir, "pods.yaml");
    return build_model() == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    lt_model_unref(&world.model);
    lt_manifests_free(&world.manifests);
    lt_ads_pool_fini(&world.pool);
    lt_arena_free(&world.arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_of_a_sidecar),
        cmocka_unit_test(endpoints_of_a_sidecar),
        cmocka_unit_test(routes_of_a_sidecar),
        cmocka_unit_test(names_for_a_sidecar),
        cmocka_unit_test(the_plainest_sidecar),
        cmocka_unit_test(listeners_of_the_plainest_sidecar),
        cmocka_unit_test(a_gateway),
        cmocka_unit_test(listeners_of_a_sidecar_with_policies),
        cmocka_unit_test(inbound_under_strict_mtls),
        cmocka_unit_test(other_ways_of_capture),
        cmocka_unit_test(rarer_settings_of_a_sidecar),
        cmocka_unit_test(rarer_settings_of_a_gateway),
    };
    if (!has_captures()) {
        printf("1..0 # SKIP no recordings beside the project\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
