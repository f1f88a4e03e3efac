/*
 * tests/unit/proxy/access_log_test.c - Envoy's format operators, one by one and in Istio's default line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/access_log.h"
#include "proxy/flags.h"

static struct lt_arena *arena;
static struct lt_headers request, response;
static struct px_log_facts facts;

static void add(struct lt_headers *headers, const char *name, const char *value)
{
    assert_int_equal(lt_headers_add(headers, lt_str_of(name), lt_str_of(value)), LT_OK);
}

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    lt_headers_init(&request, arena, 100, 65536);
    lt_headers_init(&response, arena, 100, 65536);
    add(&request, "user-agent", "curl/8");
    add(&response, "x-served-by", "web-1");
    facts = (struct px_log_facts){
        .start_wall_ns = 1700000000123 * (int64_t)LT_NS_PER_MS,
        .method = LT_STR("GET"), .path = LT_STR("/a?b=c"), .protocol = LT_STR("HTTP/1.1"), .authority = LT_STR("web.shop"),
        .scheme = LT_STR("http"), .request = &request, .response = &response, .code = 503,
        .flags = PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_RETRY_LIMIT, .details = "why", .transport_failure = "refused",
        .bytes_received = 1, .bytes_sent = 22, .duration_ns = 1234567890, .request_ns = 5000000, .response_ns = 7000000,
        .upstream_host = LT_STR("10.0.0.1:80"), .upstream_cluster = LT_STR("outbound|80||web"),
        .downstream_local = LT_STR("10.0.0.2:8080"), .downstream_remote = LT_STR("[2001:db8::1]:5000"),
        .requested_server_name = LT_STR("sni.x"), .route_name = LT_STR("default"), .attempts = 3, .connection_id = 9,
    };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

static void test_operators(void **state)
{
    (void)state;
    static const struct {
        const char *format, *text;
    } rows[] = {
        {"plain", "plain"},
        {"100%%", "100%"},
        {"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "GET /a?b=c HTTP/1.1"},
        {"%REQ(USER-AGENT)%", "curl/8"},
        {"%REQ(USER-AGENT):4%", "curl"},
        {"%REQ(x-missing)%|%REQ(x-missing?user-agent)%", "|curl/8"},
        {"%RESP(X-Served-By)%", "web-1"},
        {"%TRAILER(x)%", ""},
        {"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", "503 UF,URX why"},
        {"%UPSTREAM_TRANSPORT_FAILURE_REASON%", "refused"},
        {"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %REQUEST_DURATION% %RESPONSE_DURATION%", "1 22 1234 5 7"},
        {"%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", "10.0.0.1:80 outbound|80||web"},
        {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.2 8080"},
        {"%DOWNSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:5000"},
        {"%DOWNSTREAM_REMOTE_PORT%", "5000"},
        {"%REQUESTED_SERVER_NAME% %ROUTE_NAME%", "sni.x default"},
        {"%UPSTREAM_REQUEST_ATTEMPT_COUNT% %CONNECTION_ID%", "3 9"},
        {"%START_TIME%", "2023-11-14T22:13:20.123Z"},
        {"%START_TIME(%Y/%m/%d %H)%", "2023/11/14 22"},
        {"[%NO_SUCH_OPERATOR%]", "[]"},
        {"cut %off", "cut "},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct lt_buf out;
        lt_buf_init(&out, 4096);
        assert_int_equal(px_format_text(lt_str_of(rows[i].format), &facts, &out), LT_OK);
        const char *text = lt_arena_strz(arena, lt_buf_str(&out));
        if (strcmp(text, rows[i].text) != 0)
            fail_msg("%s: '%s' instead of '%s'", rows[i].format, text, rows[i].text);
        lt_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_operators, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
