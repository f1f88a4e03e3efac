/*
 * translate_test.c - what a proxy is sent, in the cases that decide: modes of mTLS, missing
 * extensions, left-out rules, shared views. The whole shapes are compared with istiod's in
 * captures_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "control/translate.h"
#include "control/view.h"
#include "model/load.h"
#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/route.pb-c.h"

static const char shop[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}\n"
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, labels: {app: web, version: v1, security.istio.io/tlsMode: istio}}\n"
    "spec: {serviceAccountName: web, containers: [{name: app}]}\n"
    "status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}\n"
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-2, namespace: shop, labels: {app: web, version: v2}}\n"
    "spec: {containers: [{name: app}]}\nstatus: {podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}\n";

struct world {
    struct lt_arena *arena;
    struct lt_manifests *manifests;
    struct lt_model *model;
    struct lt_ads_pool pool;
    struct cp_node node;
};

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->arena = lt_arena_new(0, 0);
    w->manifests = lt_manifests_new();
    lt_ads_pool_init(&w->pool);
    lt_manifests_put(w->manifests, LT_STR("shop.yaml"), lt_str_of(shop));
    w->node = (struct cp_node){.type = CP_NODE_SIDECAR,
                               .extensions = CP_EXT_ALL,
                               .id = LT_STR("x"),
                               .ip = LT_STR("10.1.0.1"),
                               .name = LT_STR("web-1"),
                               .ns = LT_STR("shop"),
                               .cluster_id = LT_STR("Kubernetes")};
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    lt_model_unref(&w->model);
    lt_manifests_free(&w->manifests);
    lt_ads_pool_fini(&w->pool);
    lt_arena_free(&w->arena);
    free(w);
    return 0;
}

static void build(struct world *w, const char *more, const struct lt_held *held)
{
    if (more != NULL)
        lt_manifests_put(w->manifests, LT_STR("more.yaml"), lt_str_of(more));
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, &notes);
    for (size_t i = 0; i < notes->vec.count; i++) {
        char line[2048];
        print_message("# %s\n", lt_note_format(lt_notes_at(notes, i), line, sizeof(line)));
    }
    assert_int_equal(notes->errors, 0);
    lt_model_unref(&w->model);
    w->model = lt_model_build(
        &(struct lt_model_input){.objects = objects, .count = count, .held = held}, NULL);
}

/* One resource as JSON text; "" when it isn't there. */
static const char *json_of(struct world *w, cp_type type, const char *name)
{
    static const ProtobufCMessageDescriptor *const descriptors[CP_TYPE_COUNT] = {
        &xds__cluster__descriptor, &xds__cluster_load_assignment__descriptor,
        &xds__listener__descriptor, &xds__route_configuration__descriptor};
    struct cp_resources *set = cp_translate(&w->pool, w->model, &w->node, type);
    const struct lt_ads_resource *r = cp_resources_find(set, lt_str_of(name));
    lt_str text = LT_STR("");
    if (r != NULL) {
        void *message = NULL;
        struct lt_buf buf;
        struct lt_json_writer writer;
        assert_int_equal(lt_pb_unpack(w->arena, descriptors[type], lt_ads_resource_value(r), NULL,
                                      &message, NULL),
                         LT_OK);
        lt_buf_init(&buf, 1 << 24);
        lt_json_writer_init(&writer, &buf, 0);
        lt_pbjson_write(&writer, w->arena, message, NULL);
        assert_int_equal(lt_json_writer_finish(&writer), LT_OK);
        text = lt_arena_str(w->arena, lt_buf_str(&buf));
        lt_buf_fini(&buf);
    }
    cp_resources_unref(&set);
    return text.ptr;
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static void assert_has(const char *text, const char *word)
{
    if (strstr(text, word) == NULL)
        fail_msg("no %s in %s", word, text);
}

static void assert_lacks(const char *text, const char *word)
{
    if (strstr(text, word) != NULL)
        fail_msg("%s in %s", word, text);
}

/* ---- mTLS ---- */

static void endpoints_say_who_takes_mtls_and_who_is_ready(void **state)
{
    struct world *w = *state;
    build(w, NULL, NULL);
    const char *eds = json_of(w, CP_TYPE_EDS, "outbound|80||web.shop.svc.cluster.local");
    assert_has(
        eds,
        "{\"endpoint\":{\"address\":{\"socket_address\":{\"address\":\"10.1.0.1\",\"port_value\":8080}}},"
        "\"health_status\":\"HEALTHY\",\"metadata\":{\"filter_metadata\":{\"envoy.transport_socket_match\":{\"tlsMode\":\"istio\"}");
    assert_has(eds, "\"health_status\":\"UNHEALTHY\"");
    assert_int_equal(count_of(eds, "tlsMode"), 1);
    build(
        w,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n"
        "spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}\n",
        NULL);
    assert_lacks(json_of(w, CP_TYPE_EDS, "outbound|80||web.shop.svc.cluster.local"), "tlsMode");
    assert_has(json_of(w, CP_TYPE_EDS, "outbound|9000||web.shop.svc.cluster.local"), "tlsMode");
}

static void strict_leaves_no_plaintext_chain(void **state)
{
    struct world *w = *state;
    build(w, NULL, NULL);
    const char *lds = json_of(w, CP_TYPE_LDS, "virtualInbound");
    assert_int_equal(count_of(lds, "\"transport_protocol\":\"raw_buffer\""),
                     4); /* catch-all twice, 8080, 9000 */
    build(
        w,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: istio-system}\n"
        "spec: {mtls: {mode: STRICT}}\n",
        NULL);
    lds = json_of(w, CP_TYPE_LDS, "virtualInbound");
    assert_lacks(lds, "raw_buffer");
    assert_lacks(lds, "http_inspector");
    assert_int_equal(count_of(lds, "require_client_certificate\":true"), 4);
    assert_int_equal(count_of(lds, "\"prefix\":\"spiffe://cluster.local/\""), 4);
}

static void disable_takes_plaintext_only(void **state)
{
    struct world *w = *state;
    build(
        w,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n"
        "spec: {mtls: {mode: DISABLE}}\n",
        NULL);
    const char *lds = json_of(w, CP_TYPE_LDS, "virtualInbound");
    assert_lacks(lds, "DownstreamTlsContext");
    assert_lacks(lds, "tls_inspector");
    assert_lacks(json_of(w, CP_TYPE_CDS, "outbound|80||web.shop.svc.cluster.local"),
                 "transport_socket");
}

/* ---- what the proxy lacks ---- */

static void what_the_node_lacks_is_not_sent(void **state)
{
    struct world *w = *state;
    static const char taken_out[] =
        "\"request_headers_to_remove\":[\"x-envoy-peer-metadata-id\",\"x-envoy-peer-metadata\"]";
    build(w, NULL, NULL);
    assert_lacks(json_of(w, CP_TYPE_LDS, "virtualInbound"), taken_out);
    assert_lacks(json_of(w, CP_TYPE_RDS, "80"), taken_out);
    w->node.extensions = 0;
    build(w, NULL, NULL);
    const char *cds = json_of(w, CP_TYPE_CDS, "outbound|80||web.shop.svc.cluster.local");
    assert_lacks(cds, "istio.metadata_exchange");
    assert_lacks(cds, "istio-peer-exchange");
    assert_has(cds, "\"alpn_protocols\":[\"istio-http/1.1\",\"istio\",\"http/1.1\"]");
    assert_has(json_of(w, CP_TYPE_CDS, "outbound|9000||web.shop.svc.cluster.local"),
               "\"alpn_protocols\":[\"istio\"]");
    assert_has(json_of(w, CP_TYPE_LDS, "virtualInbound"), taken_out);
    assert_has(json_of(w, CP_TYPE_RDS, "80"), taken_out);
    static const char *const listeners[] = {"virtualInbound", "virtualOutbound", "0.0.0.0_80",
                                            "10.0.0.1_9000"};
    for (size_t i = 0; i < LT_ARRAY_LEN(listeners); i++) {
        const char *lds = json_of(w, CP_TYPE_LDS, listeners[i]);
        assert_has(lds, "tcp_proxy");
        assert_lacks(lds, "istio.stats");
        assert_lacks(lds, "istio.alpn");
        assert_lacks(lds, "metadata_exchange");
        /* the word may be in what we match, never in what we offer or accept */
        assert_lacks(lds, "\"alpn_protocols\":[\"istio-peer-exchange");
    }
}

/* ---- routes ---- */

static const char split[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
    "  - match: [{headers: {x-v2: {exact: 'true'}}}]\n    route: [{destination: {host: web, subset: v2, port: {number: 80}}}]\n"
    "  - route:\n    - {destination: {host: web, subset: v1, port: {number: 80}}, weight: 90}\n"
    "    - {destination: {host: web, subset: v2, port: {number: 80}}, weight: 10}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec:\n  host: web\n"
    "  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n";

static void a_split_has_weights_and_subsets_clusters(void **state)
{
    struct world *w = *state;
    build(w, split, NULL);
    const char *rds = json_of(w, CP_TYPE_RDS, "80");
    assert_has(rds, "\"headers\":[{\"name\":\"x-v2\",\"string_match\":{\"exact\":\"true\"}}]");
    assert_has(rds, "{\"name\":\"outbound|80|v1|web.shop.svc.cluster.local\",\"weight\":90}");
    assert_has(json_of(w, CP_TYPE_CDS, "outbound|80|v2|web.shop.svc.cluster.local"),
               "\"subset\":\"v2\"");
    const char *eds = json_of(w, CP_TYPE_EDS, "outbound|80|v1|web.shop.svc.cluster.local");
    assert_has(eds, "10.1.0.1");
    assert_lacks(eds, "10.1.0.2");
}

static void a_rule_left_out_sends_requests_where_they_would_go_without_it(void **state)
{
    struct world *w = *state;
    static const bool both[] = {true, true}, second[] = {false, true};
    struct lt_held_route route = {.key = {LT_KIND_VIRTUAL_SERVICE, LT_STR("shop"), LT_STR("web")},
                                  .is_left_out = both};
    struct lt_held held = {.route_count = 1, .routes = &route};
    build(w, split, &held);
    const char *rds = json_of(w, CP_TYPE_RDS, "80");
    assert_lacks(rds, "weighted_clusters");
    assert_has(rds, "\"name\":\"default\"");
    route.is_left_out = second;
    build(w, NULL, &held);
    rds = json_of(w, CP_TYPE_RDS, "80");
    assert_lacks(rds, "weighted_clusters");
    assert_has(rds, "x-v2");
    assert_has(rds, "\"name\":\"default\"");
}

static void conditions_about_the_caller_are_decided_here(void **state)
{
    struct world *w = *state;
    build(
        w,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n"
        "  http:\n  - {name: mine, match: [{sourceLabels: {version: v1}}], route: [{destination: {host: web}}]}\n"
        "  - {name: theirs, match: [{sourceLabels: {version: v9}}], route: [{destination: {host: web}}]}\n"
        "  - {name: port, match: [{port: 81}], route: [{destination: {host: web}}]}\n"
        "  - {name: claims, match: [{headers: {'@request.auth.claims.sub': {exact: x}}}], route: [{destination: {host: web}}]}\n"
        "  - {name: else, directResponse: {status: 418}}\n",
        NULL);
    const char *rds = json_of(w, CP_TYPE_RDS, "80");
    assert_has(rds, "\"name\":\"mine\"");
    assert_lacks(rds, "theirs");
    assert_lacks(rds, "\"name\":\"port\"");
    assert_lacks(rds, "claims");
    assert_lacks(rds, "\"name\":\"else\""); /* the first one takes everything */
}

static void unknown_destinations_follow_the_mesh_configuration(void **state)
{
    struct world *w = *state;
    build(w, NULL, NULL);
    assert_has(json_of(w, CP_TYPE_RDS, "80"), "\"name\":\"allow_any\",\"domains\":[\"*\"]");
    build(
        w,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
        "data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n\n    accessLogFile: /dev/stdout\n\n    trustDomain: td'}\n",
        NULL);
    assert_has(json_of(w, CP_TYPE_RDS, "80"), "\"name\":\"block_all\",\"domains\":[\"*\"]");
    assert_has(json_of(w, CP_TYPE_RDS, "80"), "\"direct_response\":{\"status\":502}");
    const char *lds = json_of(w, CP_TYPE_LDS, "virtualOutbound");
    assert_has(lds, "\"stat_prefix\":\"BlackHoleCluster\"");
    assert_lacks(lds, "PassthroughCluster");
    assert_has(lds, "\"path\":\"/dev/stdout\"");
    assert_has(json_of(w, CP_TYPE_CDS, "outbound|80||web.shop.svc.cluster.local"),
               "spiffe://td/ns/shop/sa/web");
}

/* ---- gateways ---- */

static void a_gateway_listens_behind_its_service(void **state)
{
    struct world *w = *state;
    static const char edge[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: edge, namespace: edge}\n"
        "spec: {selector: {istio: edge}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public, namespace: edge}\n"
        "spec: {selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['shop/*.example.com']}]}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
        "spec: {hosts: [www.example.com, other.org], gateways: [edge/public], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: not-let-in, namespace: evil}\n"
        "spec: {hosts: [www.example.com], gateways: [edge/public], http: [{redirect: {authority: evil}}]}\n";
    static struct lt_kv labels[] = {{{"istio", 5}, {"edge", 4}}};
    w->node = (struct cp_node){.type = CP_NODE_ROUTER,
                               .extensions = CP_EXT_ALL,
                               .ip = LT_STR("10.2.0.1"),
                               .name = LT_STR("edge-1"),
                               .ns = LT_STR("edge"),
                               .labels = {1, labels}};
    build(w, edge, NULL);
    assert_has(json_of(w, CP_TYPE_LDS, "0.0.0.0_8080"), "\"route_config_name\":\"http.8080\"");
    assert_string_equal(json_of(w, CP_TYPE_LDS, "virtualInbound"), "");
    const char *rds = json_of(w, CP_TYPE_RDS, "http.8080");
    assert_has(rds, "\"name\":\"www.example.com:80\",\"domains\":[\"www.example.com\"]");
    assert_has(rds, "outbound|80||web.shop.svc.cluster.local");
    assert_lacks(rds, "other.org");
    assert_lacks(rds, "evil");
}

/* ---- sharing ---- */

static void equal_input_gives_equal_bytes_and_views_are_shared(void **state)
{
    struct world *w = *state;
    struct cp_views views;
    build(w, split, NULL);
    cp_views_init(&views, &w->pool);
    cp_views_set_model(&views, w->model);
    struct cp_node other = w->node;
    other.name = LT_STR("web-2");
    other.ip = LT_STR("10.1.0.2");
    for (cp_type type = 0; type < CP_TYPE_COUNT; type++) {
        struct cp_resources *a = cp_views_get(&views, &w->node, type),
                            *b = cp_views_get(&views, &other, type);
        struct cp_resources *c = cp_translate(&w->pool, w->model, &w->node, type);
        assert_int_equal(a->count, c->count);
        for (size_t i = 0; i < a->count; i++)
            assert_ptr_equal(a->items[i], c->items[i]);
        assert_int_equal(a->count, b->count);
        if (type == CP_TYPE_EDS || type == CP_TYPE_RDS)
            assert_ptr_equal(a, b);
        cp_resources_unref(&a);
        cp_resources_unref(&b);
        cp_resources_unref(&c);
    }
    cp_views_fini(&views);
}

/* A stranger can say a new place each time he comes: what is kept of that has a maximum. */
static void views_have_a_maximum(void **state)
{
    struct world *w = *state;
    char place[32];
    struct cp_views views;
    build(w, split, NULL);
    cp_views_init(&views, &w->pool);
    cp_views_set_model(&views, w->model);
    struct cp_node other = w->node;
    for (unsigned i = 0; i < CP_VIEW_SETS_MAX + 10; i++) {
        snprintf(place, sizeof(place), "zone-%u", i);
        other.locality = (struct lt_locality){LT_STR("region"), lt_str_of(place), LT_STR("")};
        struct cp_resources *set = cp_views_get(&views, &other, CP_TYPE_EDS);
        assert_non_null(set);
        cp_resources_unref(&set);
    }
    assert_int_equal(views.sets.count, CP_VIEW_SETS_MAX);
    cp_views_fini(&views);
}

static void an_absent_name_is_answered(void **state)
{
    (void)state;
    struct lt_ads_resource *eds = cp_translate_absent(CP_TYPE_EDS, LT_STR("outbound|1||x"));
    assert_memory_equal(lt_ads_resource_value(eds).ptr, "\x0a\x0doutbound|1||x", 15);
    lt_ads_resource_unref(&eds);
    assert_null(cp_translate_absent(CP_TYPE_LDS, LT_STR("x")));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(endpoints_say_who_takes_mtls_and_who_is_ready),
        CASE(strict_leaves_no_plaintext_chain),
        CASE(disable_takes_plaintext_only),
        CASE(what_the_node_lacks_is_not_sent),
        CASE(a_split_has_weights_and_subsets_clusters),
        CASE(a_rule_left_out_sends_requests_where_they_would_go_without_it),
        CASE(conditions_about_the_caller_are_decided_here),
        CASE(unknown_destinations_follow_the_mesh_configuration),
        CASE(a_gateway_listens_behind_its_service),
        CASE(equal_input_gives_equal_bytes_and_views_are_shared),
        CASE(views_have_a_maximum),
        CASE(an_absent_name_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
