/*
 * tests/unit/proxy/access_log_test.c - operators of access logs and header edits, text lines, JSON
 * lines, and what is not logged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/access_log.h"
#include "proxy/flags.h"
#include "wire/json.h"

static struct lt_env env;
static struct lt_arena *arena;
static struct lt_headers request, response;
static struct px_log_facts facts;

static int set_up(void **state)
{
    (void)state;
    lt_env_init(&env, "test");
    arena = lt_arena_new(0, 0);
    lt_headers_init(&request, arena, 0, 0);
    lt_headers_init(&response, arena, 0, 0);
    assert_int_equal(lt_headers_add(&request, LT_STR("User-Agent"), LT_STR("curl/8")), LT_OK);
    assert_int_equal(lt_headers_add(&request, LT_STR("x-long"), LT_STR("0123456789")), LT_OK);
    assert_int_equal(lt_headers_add(&request, LT_STR("x-quote"), LT_STR("a\"b")), LT_OK);
    assert_int_equal(
        lt_headers_add(&response, LT_STR("x-envoy-upstream-service-time"), LT_STR("7")), LT_OK);
    facts = (struct px_log_facts){.start_wall_ns = 1785576600123000000,
                                  .method = LT_STR("GET"),
                                  .path = LT_STR("/new?x=1"),
                                  .original_path = LT_STR("/old"),
                                  .protocol = LT_STR("HTTP/1.1"),
                                  .authority = LT_STR("shop"),
                                  .request = &request,
                                  .response = &response,
                                  .code = 200,
                                  .details = "via_upstream",
                                  .bytes_received = 5,
                                  .bytes_sent = 6,
                                  .duration_ns = 8999999,
                                  .upstream_host = LT_STR("10.0.0.2:80"),
                                  .upstream_cluster = LT_STR("outbound|80||a"),
                                  .downstream_local = LT_STR("10.0.0.1:80"),
                                  .downstream_remote = LT_STR("[::1]:5000"),
                                  .attempts = 1};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

static void expect(const char *format, const char *expected)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    assert_int_equal(px_format_text(lt_str_of(format), &facts, &out), LT_OK);
    char text[1024];
    snprintf(text, sizeof(text), "%.*s", LT_STR_ARG(lt_buf_str(&out)));
    assert_string_equal(text, expected);
    lt_buf_fini(&out);
}

static void test_operators(void **state)
{
    (void)state;
    expect("plain", "plain");
    expect("100%%", "100%");
    expect("%PROTOCOL% %RESPONSE_CODE%", "HTTP/1.1 200");
    expect("%REQ(:METHOD)% %REQ(:AUTHORITY)%", "GET shop");
    expect("%REQ(USER-AGENT)%", "curl/8");
    expect("%REQ(X-NONE?user-agent)%", "curl/8");
    expect("%REQ(X-LONG):4%", "0123");
    expect("%REQ(X-NONE)%", "");
    expect("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "7");
    expect("%RESPONSE_FLAGS%", "-");
    expect("%DURATION%", "8");
    expect("%START_TIME%", "2026-08-01T09:30:00.123Z");
    expect("%START_TIME(%Y/%m)%", "2026/08");
    expect("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "[::1]");
    expect("%NO_SUCH_THING%", "");
    expect("%unfinished", "");
    facts.flags = PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_RETRY_LIMIT;
    expect("%RESPONSE_FLAGS%", "UF,URX");
}

static char line[4096];

/* What the logger writes to a file for these facts. */
static const char *logged(struct px_access_log log)
{
    char path[] = "/tmp/lateen-access-log-XXXXXX";
    int fd = mkstemp(path);
    struct lt_loop *loop = lt_loop_new(&env);
    struct px_access_logger *logger = px_access_logger_new(loop);
    assert_true(fd >= 0);
    log.path = lt_str_of(path);
    px_access_log_write(logger, &log, &facts);
    lt_loop_turn(loop, 0);
    px_access_logger_free(&logger);
    lt_loop_free(&loop);
    ssize_t got = read(fd, line, sizeof(line) - 1);
    line[got > 0 ? got : 0] = '\0';
    close(fd);
    unlink(path);
    return line;
}

static void test_istio_default(void **state)
{
    (void)state;
    struct px_access_log log = {
        .form = PX_LOG_TEXT,
        .format = LT_STR(
            "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
            "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% "
            "%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
            "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
            "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n")};
    assert_int_equal(lt_headers_add(&request, LT_STR("x-envoy-original-path"), LT_STR("/old")),
                     LT_OK);
    assert_string_equal(
        logged(log),
        "[2026-08-01T09:30:00.123Z] \"GET /old HTTP/1.1\" 200 - via_upstream - \"-\" 5 6 8 7 \"-\" \"curl/8\" \"-\" "
        "\"shop\" \"10.0.0.2:80\" outbound|80||a - 10.0.0.1:80 [::1]:5000 - -\n");
}

static void test_json(void **state)
{
    (void)state;
    const struct lt_doc *doc = NULL;
    struct lt_err err;
    lt_str text = LT_STR(
        "{\"code\":\"%RESPONSE_CODE%\",\"route\":\"%ROUTE_NAME%\",\"q\":\"%REQ(X-QUOTE)%\",\"mix\":\"<%ROUTE_NAME%>\"}");
    assert_int_equal(lt_json_parse(arena, text, NULL, &doc, &err), LT_OK);
    assert_string_equal(logged((struct px_access_log){.form = PX_LOG_JSON, .json = doc}),
                        "{\"code\":200,\"route\":null,\"q\":\"a\\\"b\",\"mix\":\"<->\"}\n");
}

static void test_no_route_only(void **state)
{
    (void)state;
    const struct px_access_log log = {
        .form = PX_LOG_TEXT, .format = LT_STR("%RESPONSE_CODE%"), .only_no_route = true};
    assert_string_equal(logged(log), "");
    facts.flags = PX_FLAG_NO_ROUTE;
    assert_string_equal(logged(log), "200\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_operators, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_istio_default, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_route_only, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
