/*
 * tests/unit/proxy/telemetry_test.c - labels of Istio's standard metrics on both sides, and what
 * peers tell of themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "proxy/conf/flags.h"
#include "proxy/conf/intern.h"
#include "proxy/told/telemetry.h"
#include "wire/base64.h"

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

enum { HELD_MAX = 64 };

static struct lt_arena *arena;
static struct px_interns interns;
static const char *texts_held[HELD_MAX];
static size_t held_count;
static struct lt_metric_set *set;
static struct px_telemetry *telemetry;
static char text[16 << 20];

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    set = lt_metric_set_new(50000);
    px_interns_init(&interns);
    held_count = 0;
    telemetry = px_telemetry_new(set, &node, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_telemetry_free(&telemetry);
    while (held_count > 0)
        px_text_drop(&texts_held[--held_count]);
    px_interns_fini(&interns); /* nobody else holds one */
    lt_metric_set_free(&set);
    lt_arena_free(&arena);
    return 0;
}

/* A counted text until the end of the test. */
static const char *held(const char *words)
{
    assert_true(held_count < HELD_MAX);
    return texts_held[held_count++] = px_text_make(&interns, lt_str_of(words));
}

static bool only_counters(lt_str name, void *ctx)
{
    (void)ctx;
    return lt_str_ends(name, LT_STR("_total"));
}

static const char *render_those(lt_metric_keep_fn *keep)
{
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out;
    lt_buf_init(&out, sizeof(text) - 1);
    assert_int_equal(lt_metric_render(set, LT_METRIC_PROMETHEUS, keep, NULL, &cursor,
                                      sizeof(text) - 20000, &out),
                     LT_EOF);
    lt_str all = lt_buf_str(&out);
    memcpy(text, all.ptr, all.len);
    text[all.len] = '\0';
    lt_buf_fini(&out);
    return text;
}

static const char *render(void)
{
    return render_those(NULL);
}

static void expect(const char *line)
{
    if (strstr(render(), line) == NULL)
        fail_msg("missing: %s\nin: %s", line, text);
}

static struct px_peer *read_peer_of(const char *principal, const char *id, const char *metadata)
{
    struct lt_headers headers;
    bool had = false;
    lt_headers_init(&headers, arena, 0, 0);
    assert_int_equal(lt_headers_add(&headers, LT_STR("X-Envoy-Peer-Metadata-Id"), lt_str_of(id)),
                     LT_OK);
    if (metadata != NULL)
        assert_int_equal(
            lt_headers_add(&headers, LT_STR("X-Envoy-Peer-Metadata"), lt_str_of(metadata)), LT_OK);
    struct px_peer *peer = px_telemetry_read_peer(telemetry, &headers, principal, &had);
    assert_true(had);
    assert_int_equal(headers.count, 0); /* the application never sees them */
    return peer;
}

static struct px_peer *read_peer(const char *id, const char *metadata)
{
    return read_peer_of("", id, metadata);
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
        .peer_principal = held("spiffe://cluster.local/ns/shop/sa/front"),
        .local_principal = held("spiffe://cluster.local/ns/shop/sa/back"),
        .host_header = held("evil"),
        .cluster = held("inbound|8080||"),
        .service_host = "",
        .service_name = "",
        .service_namespace = "",
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
                                     .service_host = "",
                                     .service_name = "",
                                     .service_namespace = "",
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
                                     .workload = held("pay;bank;pay;;Kubernetes"),
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = "",
                                     .cluster = held("outbound|80||pay.bank.svc.cluster.local"),
                                     .service_host = held("pay.bank.svc.cluster.local"),
                                     .service_name = held("pay"),
                                     .service_namespace = held("bank"),
                                     .route_name = ""};
    px_telemetry_http(telemetry, &report, &result);
    expect("reporter=\"source\",source_workload=\"back\"");
    expect(
        "destination_workload=\"pay\",destination_workload_namespace=\"bank\",destination_principal=\"unknown\","
        "destination_app=\"unknown\",destination_version=\"unknown\",destination_service=\"pay.bank.svc.cluster.local\","
        "destination_canonical_service=\"pay\",destination_canonical_revision=\"latest\",destination_service_name=\"pay\","
        "destination_service_namespace=\"bank\",destination_cluster=\"Kubernetes\",request_protocol=\"http\","
        "response_code=\"503\",grpc_response_status=\"\",response_flags=\"URX,UF\",connection_security_policy=\"unknown\"} 1\n");
}

static void test_passthrough(void **state)
{
    (void)state;
    struct px_report report = {.code = 200,
                               .workload = "",
                               .peer_principal = "",
                               .local_principal = "",
                               .host_header = held("www.example.com"),
                               .cluster = held("PassthroughCluster"),
                               .service_host = "",
                               .service_name = "",
                               .service_namespace = "",
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
                                     .cluster = held("c"),
                                     .service_host = "",
                                     .service_name = "",
                                     .service_namespace = "",
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

/* The cluster keeps its name while the control plane gives it another service. */
static void test_service_changes(void **state)
{
    (void)state;
    struct px_report report = {.code = 200,
                               .workload = "",
                               .peer_principal = "",
                               .local_principal = "",
                               .host_header = "",
                               .cluster = held("outbound|80||pay.bank"),
                               .service_host = held("pay.bank.svc.cluster.local"),
                               .service_name = held("pay"),
                               .service_namespace = held("bank"),
                               .route_name = ""};
    px_telemetry_http(telemetry, &report, &result);
    report.service_host = held("purse.mint.svc.cluster.local");
    report.service_name = held("purse");
    report.service_namespace = held("mint");
    px_telemetry_http(telemetry, &report, &result);
    expect("destination_service_name=\"pay\",destination_service_namespace=\"bank\"");
    expect("destination_service=\"purse.mint.svc.cluster.local\"");
    expect("destination_service_name=\"purse\",destination_service_namespace=\"mint\"");
}

static void tell_host(const char *host)
{
    const struct px_report report = {.code = 200,
                                     .workload = "",
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = px_text_make(&interns, lt_str_of(host)),
                                     .cluster = "",
                                     .service_host = "",
                                     .service_name = "",
                                     .service_namespace = "",
                                     .route_name = ""};
    px_telemetry_http(telemetry, &report, &result);
    const char *mine = report.host_header;
    px_text_drop(&mine);
}

/* Names that a client makes up fill their own room, and nobody else's. */
static void test_many_hosts(void **state)
{
    (void)state;
    enum { HOSTS = 5000 };
    for (int i = 0; i < HOSTS; i++) {
        char host[32];
        snprintf(host, sizeof(host), "host-%d.test", i);
        tell_host(host);
    }
    assert_in_range(lt_metric_set_series(set), PX_STRANGER_SERIES_MAX / 2,
                    PX_STRANGER_SERIES_MAX + 10);
    assert_true(interns.texts.count <= 1024); /* what the slots hold */
    assert_int_equal(lt_metric_set_overflows(set), 0);
    tell_host("host-7.test"); /* who came in time is still told apart */
    const struct px_report service = {.code = 200,
                                      .workload = "",
                                      .peer_principal = "",
                                      .local_principal = "",
                                      .host_header = "",
                                      .cluster = held("outbound|80||pay.bank"),
                                      .service_host = held("pay.bank.svc.cluster.local"),
                                      .service_name = held("pay"),
                                      .service_namespace = held("bank"),
                                      .route_name = ""};
    px_telemetry_http(telemetry, &service, &result);
    render_those(only_counters);
    assert_non_null(strstr(text, "destination_service=\"pay.bank.svc.cluster.local\""));
    const char *seventh = strstr(text, "destination_service=\"host-7.test\"");
    assert_non_null(seventh);
    assert_memory_equal(strstr(seventh, "} "), "} 2\n", 4);
    assert_null(strstr(text, "host-4999.test"));
    const char *others = strstr(text, "destination_service=\"unknown\"");
    assert_non_null(others);
    assert_in_range(strtoul(strstr(others, "} ") + 2, NULL, 10), HOSTS / 2, HOSTS);
    assert_non_null(strstr(text, "lateen_telemetry_collapsed_total "));
}

/* A Struct {WORKLOAD_NAME: "w-<number>"}, in base64. */
static struct px_peer *read_peer_called(int number)
{
    char name[16], id[16];
    unsigned char bytes[64];
    int len = snprintf(name, sizeof(name), "w-%d", number);
    int all = snprintf((char *)bytes, sizeof(bytes), "\n%c\n\rWORKLOAD_NAME\x12%c\x1a%c%s",
                       len + 19, len + 2, len, name);
    snprintf(id, sizeof(id), "id-%d", number);
    lt_str base64 = lt_base64_encode(arena, lt_str_make(bytes, (size_t)all));
    struct px_peer *peer = read_peer(id, lt_arena_strz(arena, base64));
    assert_non_null(peer);
    return peer;
}

/* Whoever has no certificate may call himself what he likes, but not for ever. */
static void test_many_nameless_peers(void **state)
{
    (void)state;
    struct px_report report = {.is_inbound = true,
                               .workload = "",
                               .peer_principal = "",
                               .local_principal = "",
                               .host_header = "",
                               .cluster = "",
                               .service_host = "",
                               .service_name = "",
                               .service_namespace = "",
                               .route_name = ""};
    for (int i = 0; i < 3000; i++) {
        report.peer = read_peer_called(i);
        px_telemetry_http(telemetry, &report, &result);
        px_peer_drop(&report.peer);
    }
    assert_in_range(lt_metric_set_series(set), PX_STRANGER_SERIES_MAX / 2,
                    PX_STRANGER_SERIES_MAX + 10);
    report.peer_principal = held("spiffe://cluster.local/ns/shop/sa/front");
    report.peer = read_peer_called(5000);
    px_telemetry_http(telemetry, &report, &result);
    px_peer_drop(&report.peer);
    render_those(only_counters);
    assert_non_null(strstr(text, "source_workload=\"w-5000\""));
    assert_null(strstr(text, "source_workload=\"w-2999\""));
}

/* A caller without a certificate was first to use the id of another, who has one. */
static void test_nobody_speaks_for_another(void **state)
{
    (void)state;
    struct px_report report = {.is_inbound = true,
                               .code = 200,
                               .workload = "",
                               .peer_principal = held("spiffe://cluster.local/ns/shop/sa/front"),
                               .local_principal = "",
                               .host_header = "",
                               .cluster = "",
                               .service_host = "",
                               .service_name = "",
                               .service_namespace = "",
                               .route_name = ""};
    struct px_peer *liar = read_peer_called(7), *again = read_peer("id-7", NULL);
    assert_ptr_equal(liar, again);
    assert_null(read_peer_of(report.peer_principal, "id-7", NULL)); /* not known of him */
    report.peer = read_peer_of(report.peer_principal, "id-7", telemetry_peer);
    px_telemetry_http(telemetry, &report, &result);
    expect("source_workload=\"front\"");
    assert_null(read_peer("id-7", NULL)); /* and the other way round */
    px_peer_drop(&report.peer);
    px_peer_drop(&liar);
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
                               .service_host = "",
                               .service_name = "",
                               .service_namespace = "",
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

static void test_idle_series_go(void **state)
{
    (void)state;
    tell_host("one.example");
    tell_host("two.example");
    px_telemetry_sweep(telemetry);
    tell_host("two.example");
    px_telemetry_sweep(telemetry);
    expect("two.example");
    assert_null(strstr(render(), "one.example"));
    tell_host("one.example"); /* it begins anew */
    expect("one.example");
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
        cmocka_unit_test_setup_teardown(test_idle_series_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_speaks_for_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_nameless_peers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
