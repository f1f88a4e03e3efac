/*
 * tests/unit/proxy/telemetry_test.c - labels of Istio's standard metrics on both sides, and what
 * peers tell of themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "proxy/flags.h"
#include "proxy/telemetry.h"

/*
 * base64 of a Struct {NAME: "front-1", NAMESPACE: "shop", WORKLOAD_NAME: "front", CLUSTER_ID:
 * "Kubernetes", LABELS: {app: "front", version: "v2", service.istio.io/canonical-name: "front",
 * service.istio.io/canonical-revision: "v2"}}, made with protobuf for Python.
 */
#include "telemetry_peer.h"

static const struct px_node_facts node = {
    .id = LT_STR("sidecar~10.0.0.9~back-1.shop~shop.svc.cluster.local"),
    .peer_metadata = LT_STR("QUJD"),
    .workload = LT_STR("back"),
    .namespace = LT_STR("shop"),
    .cluster_id = LT_STR("Kubernetes"),
    .app = LT_STR("back"),
    .version = LT_STR("v1"),
    .canonical_service = LT_STR("back"),
    .canonical_revision = LT_STR("v1"),
};

static struct lt_arena *arena;
static struct lt_metric_set *set;
static struct px_telemetry *telemetry;
static char text[256 * 1024];

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    set = lt_metric_set_new(1000);
    telemetry = px_telemetry_new(set, &node);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_telemetry_free(&telemetry);
    lt_metric_set_free(&set);
    lt_arena_free(&arena);
    return 0;
}

static const char *render(void)
{
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out;
    lt_buf_init(&out, sizeof(text) - 1);
    assert_int_equal(lt_metric_render(set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor,
                                      sizeof(text) - 20000, &out),
                     LT_EOF);
    lt_str all = lt_buf_str(&out);
    memcpy(text, all.ptr, all.len);
    text[all.len] = '\0';
    lt_buf_fini(&out);
    return text;
}

static void expect(const char *line)
{
    if (strstr(render(), line) == NULL)
        fail_msg("missing: %s\nin: %s", line, text);
}

static struct px_peer *read_peer(const char *id, const char *metadata)
{
    struct lt_headers headers;
    bool had = false;
    lt_headers_init(&headers, arena, 0, 0);
    assert_int_equal(lt_headers_add(&headers, LT_STR("X-Envoy-Peer-Metadata-Id"), lt_str_of(id)),
                     LT_OK);
    if (metadata != NULL)
        assert_int_equal(
            lt_headers_add(&headers, LT_STR("X-Envoy-Peer-Metadata"), lt_str_of(metadata)), LT_OK);
    struct px_peer *peer = px_telemetry_read_peer(telemetry, &headers, &had);
    assert_true(had);
    assert_int_equal(headers.count, 0); /* the application never sees them */
    return peer;
}

static const struct px_http_result result = {
    .duration_ms = 3.0, .request_bytes = 100, .response_bytes = 2000};

static void test_destination(void **state)
{
    (void)state;
    struct px_peer *peer = read_peer("front-1", telemetry_peer);
    assert_non_null(peer);
    const struct px_report report = {
        .is_inbound = true,
        .is_mutual_tls = true,
        .code = 200,
        .peer = peer,
        .workload = "",
        .peer_principal = "spiffe://cluster.local/ns/shop/sa/front",
        .local_principal = "spiffe://cluster.local/ns/shop/sa/back",
        .host_header = "evil",
        .cluster = "inbound|8080||",
        .route_name = "",
    };
    for (int i = 0; i < 3; i++)
        px_telemetry_http(telemetry, &report, &result);
    px_peer_drop(&peer);
    expect(
        "istio_requests_total{reporter=\"destination\",source_workload=\"front\",source_canonical_service=\"front\","
        "source_canonical_revision=\"v2\",source_workload_namespace=\"shop\","
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/front\",source_app=\"front\",source_version=\"v2\","
        "source_cluster=\"Kubernetes\",destination_workload=\"back\",destination_workload_namespace=\"shop\","
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/back\",destination_app=\"back\",destination_version=\"v1\","
        "destination_service=\"back\",destination_canonical_service=\"back\",destination_canonical_revision=\"v1\","
        "destination_service_name=\"back\",destination_service_namespace=\"shop\",destination_cluster=\"Kubernetes\","
        "request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\","
        "connection_security_policy=\"mutual_tls\"} 3\n");
    assert_non_null(strstr(text, "istio_request_duration_milliseconds_bucket"));
    assert_non_null(strstr(text, "istio_response_bytes_sum"));
}

static void test_unknown_client(void **state)
{
    (void)state;
    const struct px_report report = {.is_inbound = true,
                                     .code = 404,
                                     .flags = PX_FLAG_NO_ROUTE,
                                     .workload = "",
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = "",
                                     .cluster = "",
                                     .route_name = ""};
    px_telemetry_http(telemetry, &report, &result);
    expect(
        "source_workload=\"unknown\",source_canonical_service=\"unknown\",source_canonical_revision=\"latest\","
        "source_workload_namespace=\"unknown\",source_principal=\"unknown\",source_app=\"unknown\",source_version=\"unknown\","
        "source_cluster=\"unknown\"");
    expect(
        "response_code=\"404\",grpc_response_status=\"\",response_flags=\"NR\",connection_security_policy=\"none\"} 1\n");
}

/* Without an exchange the endpoint's metadata tells who answered. */
static void test_source_by_endpoint(void **state)
{
    (void)state;
    const struct px_report report = {.code = 503,
                                     .flags = PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_RETRY_LIMIT,
                                     .workload = "pay;bank;pay;;Kubernetes",
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = "",
                                     .cluster = "outbound|80||pay.bank.svc.cluster.local",
                                     .service_host = LT_STR("pay.bank.svc.cluster.local"),
                                     .service_name = LT_STR("pay"),
                                     .service_namespace = LT_STR("bank"),
                                     .route_name = ""};
    px_telemetry_http(telemetry, &report, &result);
    expect("reporter=\"source\",source_workload=\"back\"");
    expect(
        "destination_workload=\"pay\",destination_workload_namespace=\"bank\",destination_principal=\"unknown\","
        "destination_app=\"unknown\",destination_version=\"unknown\",destination_service=\"pay.bank.svc.cluster.local\","
        "destination_canonical_service=\"pay\",destination_canonical_revision=\"latest\",destination_service_name=\"pay\","
        "destination_service_namespace=\"bank\",destination_cluster=\"Kubernetes\",request_protocol=\"http\","
        "response_code=\"503\",grpc_response_status=\"\",response_flags=\"UF,URX\",connection_security_policy=\"unknown\"} 1\n");
}

static void test_passthrough(void **state)
{
    (void)state;
    struct px_report report = {.has_host_fallback = true,
                               .code = 200,
                               .workload = "",
                               .peer_principal = "",
                               .local_principal = "",
                               .host_header = "www.example.com",
                               .cluster = "PassthroughCluster",
                               .route_name = "allow_any"};
    px_telemetry_http(telemetry, &report, &result);
    expect("destination_service=\"www.example.com\"");
    expect("destination_service_name=\"PassthroughCluster\"");
    report.cluster = "";
    report.route_name = "block_all";
    report.code = 502;
    px_telemetry_http(telemetry, &report, &result);
    expect("destination_service_name=\"BlackHoleCluster\"");
}

static void test_tcp(void **state)
{
    (void)state;
    const struct px_report report = {.workload = "",
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = "",
                                     .cluster = "c",
                                     .route_name = ""};
    px_telemetry_tcp_opened(telemetry, &report);
    px_telemetry_tcp_bytes(telemetry, &report, 400, 40);
    px_telemetry_tcp_bytes(telemetry, &report, 100, 0);
    px_telemetry_tcp_closed(telemetry, &report);
    render();
    assert_non_null(strstr(text, "istio_tcp_connections_opened_total{reporter=\"source\""));
    assert_non_null(strstr(text, "istio_tcp_connections_closed_total"));
    assert_null(strstr(text, "response_code"));
    expect("connection_security_policy=\"unknown\"} 500\n");
    expect("connection_security_policy=\"unknown\"} 40\n");
}

static void test_peer_headers(void **state)
{
    (void)state;
    assert_null(read_peer("stranger", "not base64 !"));
    assert_null(read_peer("stranger", "AAAA"));
    assert_null(read_peer("nobody", NULL));
    struct px_peer *peer = read_peer("front-1", telemetry_peer),
                   *again = read_peer("front-1", NULL);
    assert_ptr_equal(peer, again); /* known by id */
    px_peer_drop(&peer);
    px_peer_drop(&again);
}

/* More peers than are kept: the oldest are forgotten, and who is still reported stays alive. */
static void test_many_peers(void **state)
{
    (void)state;
    struct px_peer *first = read_peer("front-0", telemetry_peer);
    struct px_report report = {.is_inbound = true,
                               .code = 200,
                               .peer = first,
                               .workload = "",
                               .peer_principal = "",
                               .local_principal = "",
                               .host_header = "",
                               .cluster = "",
                               .route_name = ""};
    for (int i = 1; i < 2000; i++) {
        char id[32];
        snprintf(id, sizeof(id), "front-%d", i);
        struct px_peer *peer = read_peer(id, telemetry_peer);
        assert_non_null(peer);
        px_peer_drop(&peer);
    }
    px_telemetry_http(telemetry, &report, &result);
    px_peer_drop(&first);
    px_telemetry_http(telemetry, &report, &result); /* the slot still holds it */
    expect("source_workload=\"front\"");
    expect("connection_security_policy=\"none\"} 2\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_destination, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_by_endpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_passthrough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tcp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_peer_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_peers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
