/*
 * tests/unit/proxy/telemetry_test.c - labels of Istio's standard metrics as both ends report them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/flags.h"
#include "proxy/telemetry.h"

static const struct px_node_facts node = {
    .id = {"sidecar~10.0.0.1~web~x", 22}, .peer_metadata = {"CgA=", 4}, .workload = {"web", 3}, .namespace = {"shop", 4},
    .cluster_id = {"k1", 2}, .app = {"web", 3}, .version = {"v1", 2}, .canonical_service = {"web", 3},
    .canonical_revision = {"v1", 2},
};

static struct lt_metric_set *set;
static struct px_telemetry *telemetry;
static struct lt_arena *arena;

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
    lt_buf_init(&out, 1 << 20);
    assert_int_equal(lt_metric_render(set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor, 1 << 20, &out), LT_EOF);
    const char *text = lt_arena_strz(arena, lt_buf_str(&out));
    lt_metric_cursor_fini(&cursor);
    lt_buf_fini(&out);
    return text;
}

static void assert_labels(const char *text, const char *metric, const char *const *labels)
{
    const char *line = strstr(text, lt_arena_printf(arena, "\n%s{", metric).ptr);
    assert_non_null(line);
    const char *series = lt_arena_strz(arena, lt_str_make(line + 1, strcspn(line + 1, "\n")));
    for (; *labels != NULL; labels++) {
        if (strstr(series, *labels) == NULL)
            fail_msg("%s lacks %s", series, *labels);
    }
}

static const struct px_report inbound = {
    .is_inbound = true, .is_mutual_tls = true, .code = 200, .workload = "", .peer_principal = "spiffe://td/ns/front/sa/ui",
    .local_principal = "spiffe://td/ns/shop/sa/web", .host_header = "", .cluster = "inbound|8080||",
    .service_host = {"web.shop.svc", 12}, .service_name = {"web", 3}, .service_namespace = {"shop", 4}, .route_name = "default",
};
static const struct px_http_result result = {.duration_ms = 1.5, .request_bytes = 10, .response_bytes = 20};

static void test_destination(void **state)
{
    (void)state;
    px_telemetry_http(telemetry, &inbound, &result);
    px_telemetry_http(telemetry, &inbound, &result);
    assert_labels(render(), "istio_requests_total", (const char *const[]){
        "reporter=\"destination\"", "source_workload=\"unknown\"", "source_workload_namespace=\"front\"",
        "source_principal=\"spiffe://td/ns/front/sa/ui\"", "destination_workload=\"web\"", "destination_principal=\"spiffe://td/ns/shop/sa/web\"",
        "destination_service=\"web.shop.svc\"", "destination_service_name=\"web\"", "destination_service_namespace=\"shop\"",
        "destination_version=\"v1\"", "destination_cluster=\"k1\"", "request_protocol=\"http\"", "response_code=\"200\"",
        "response_flags=\"-\"", "connection_security_policy=\"mutual_tls\"", "} 2", NULL});
}

static void test_source(void **state)
{
    (void)state;
    struct px_report report = inbound;
    report.is_inbound = report.is_mutual_tls = false;
    report.workload = "cart;stock;cart;;k2";
    report.code = 503;
    report.flags = PX_FLAG_UPSTREAM_FAILURE;
    report.is_grpc = true;
    px_telemetry_http(telemetry, &report, &result);
    assert_labels(render(), "istio_requests_total", (const char *const[]){
        "reporter=\"source\"", "source_workload=\"web\"", "source_cluster=\"k1\"", "destination_workload=\"cart\"",
        "destination_canonical_service=\"cart\"", "destination_canonical_revision=\"latest\"", "destination_cluster=\"k2\"",
        "request_protocol=\"grpc\"", "response_code=\"503\"", "response_flags=\"UF\"", "connection_security_policy=\"unknown\"", NULL});
}

/* Traffic to where no service is known. */
static void test_passthrough(void **state)
{
    (void)state;
    struct px_report report = {.has_host_fallback = true, .code = 200, .workload = "", .peer_principal = "", .local_principal = "",
                               .host_header = "example.com", .cluster = "PassthroughCluster", .route_name = "allow_any"};
    px_telemetry_http(telemetry, &report, &result);
    assert_labels(render(), "istio_requests_total", (const char *const[]){
        "destination_service=\"example.com\"", "destination_service_name=\"PassthroughCluster\"",
        "destination_workload=\"unknown\"", "destination_principal=\"unknown\"", NULL});
}

static void test_tcp(void **state)
{
    (void)state;
    px_telemetry_tcp_opened(telemetry, &inbound);
    px_telemetry_tcp_closed(telemetry, &inbound, 100, 7);
    const char *text = render();
    assert_labels(text, "istio_tcp_connections_opened_total", (const char *const[]){"request_protocol=\"tcp\"", "} 1", NULL});
    assert_labels(text, "istio_tcp_sent_bytes_total", (const char *const[]){"} 100", NULL});
    assert_labels(text, "istio_tcp_received_bytes_total", (const char *const[]){"} 7", NULL});
    assert_null(strstr(text, "istio_tcp_sent_bytes_total{response_code"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_destination), TEST(test_source), TEST(test_passthrough), TEST(test_tcp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
