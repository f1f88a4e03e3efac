/*
 * tests/unit/proxy/access_log_test.c - operators of access logs and header edits, text lines, JSON
 * lines, long ones, and what is not logged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/conf/flags.h"
#include "proxy/conf/log_filter.h"
#include "proxy/told/access_log.h"
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

static const struct px_format *make(const char *text)
{
    const struct px_format *format = NULL;
    struct lt_err err = {0};
    lt_str unknown;
    if (px_format_make(arena, lt_str_of(text), &format, &unknown, &err) != LT_OK)
        fail_msg("%s: %s", text, err.text);
    return format;
}

static void expect(const char *format, const char *expected)
{
    struct px_format_opts opts = {.values_max = 1024};
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    assert_int_equal(px_format_write(make(format), &facts, &opts, &out), LT_OK);
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
    expect("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "::1");
    expect("%NO_SUCH_THING%", "");
    expect("%START_TIME(%s %f %6f %1f%%%Q)%", "1785576600 123000000 123000 1%%Q");
    expect("%START_TIME(a long one, because some people put the name of the day, %A, and that of "
           "the month, %B, into each line of each log, and hope for the best)%",
           "a long one, because some people put the name of the day, Saturday, and that of the "
           "month, August, into each line of each log, and hope for the best");
    facts.flags = PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_RETRY_LIMIT;
    expect("%RESPONSE_FLAGS%", "URX,UF");
}

/* A '%' that begins nothing would take what follows with it: such a text is refused. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"%unfinished", "50% off",   "%REQ(X-B)% and %REQ(X-B)",
                                      "%REQ(X):a%",  "%REQ(X)4%", "%lower%",
                                      "%PROTOCOL",   "%(X)%",     "a%"};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        const struct px_format *format = NULL;
        struct lt_err err = {0};
        lt_str unknown;
        assert_int_equal(px_format_make(arena, lt_str_of(bad[i]), &format, &unknown, &err),
                         LT_E_BAD);
        assert_non_null(strstr(err.text, "begins an operator"));
    }
}

static void test_unknown_is_named(void **state)
{
    (void)state;
    const struct px_format *format = NULL;
    lt_str unknown;
    assert_int_equal(
        px_format_make(arena, LT_STR("%PROTOCOL% %CEL(a)% %B%"), &format, &unknown, NULL), LT_OK);
    assert_true(lt_str_eqz(unknown, "CEL"));
}

/* Values are cut where the line has no room for them, and say so; literals never are. */
static void test_cut_values_say_so(void **state)
{
    (void)state;
    static char large[5000];
    memset(large, 'v', sizeof(large));
    assert_int_equal(lt_headers_add(&request, LT_STR("x-large"), lt_str_make(large, sizeof(large))),
                     LT_OK);
    struct px_format_opts opts = {.values_max = 5010};
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    const struct px_format *format = make(
        "<%REQ(X-LARGE)%|%REQ(X-LARGE)%|%REQ(X-LARGE):20%|%REQ(X-LONG)%>");
    assert_int_equal(px_format_write(format, &facts, &opts, &out), LT_OK);
    lt_str all = lt_buf_str(&out);
    assert_true(lt_str_ends(all, LT_STR("v[4936 bytes more]|vvvvvvvvvvvvvvvvvvvv|0123456789>")));
    assert_int_equal(all.len, 1 + 5000 + 1 + 64 + strlen("[4936 bytes more]|") + 20 + 1 + 10 + 1);
    opts.refuses_cuts = true;
    lt_buf_clear(&out, 0);
    assert_int_equal(px_format_write(format, &facts, &opts, &out), LT_E_LIMIT);
    lt_buf_fini(&out);
}

/* JSON text into nodes, as compile/log.c makes them of a Struct. */
static void fill_node(const struct lt_doc *doc, struct px_log_node *node)
{
    if (doc->kind == LT_DOC_STRING) {
        node->format = make(lt_arena_strz(arena, doc->string));
        return;
    }
    if (doc->kind != LT_DOC_OBJECT && doc->kind != LT_DOC_ARRAY) {
        node->plain = doc;
        return;
    }
    struct px_log_node *nodes = lt_arena_make_n(arena, struct px_log_node, doc->count);
    node->is_object = doc->kind == LT_DOC_OBJECT;
    node->nodes = nodes;
    node->count = doc->count;
    for (uint32_t i = 0; i < doc->count; i++) {
        nodes[i].key = node->is_object ? doc->members[i].key : LT_STR_NULL;
        fill_node(node->is_object ? &doc->members[i].value : &doc->items[i], &nodes[i]);
    }
}

static const struct px_log_node *json_node(const char *text)
{
    const struct lt_doc *doc = NULL;
    struct px_log_node *root = lt_arena_make(arena, struct px_log_node);
    assert_int_equal(lt_json_parse(arena, lt_str_of(text), NULL, &doc, NULL), LT_OK);
    fill_node(doc, root);
    return root;
}

static char *line;
static uint64_t lines_dropped;

enum { LINE_ROOM = 4 << 20 };

/* What the logger writes to a file for these facts, so many times. */
static const char *logged_often(struct px_access_log log, int times)
{
    char path[] = "/tmp/lateen-access-log-XXXXXX";
    int fd = mkstemp(path);
    struct lt_metric_set *metrics = lt_metric_set_new(10);
    struct lt_loop *loop = lt_loop_new(&env);
    struct px_access_logger *logger = px_access_logger_new(loop, metrics);
    struct lt_metric_desc dropped = {.name = LT_STR("lateen_access_log_lines_dropped_total"),
                                     .kind = LT_METRIC_COUNTER};
    assert_true(fd >= 0);
    log.path = lt_str_of(path);
    for (int i = 0; i < times; i++)
        px_access_log_write(logger, &log, &facts);
    lt_loop_turn(loop, 0);
    px_access_logger_free(&logger);
    lines_dropped = lt_metric_counter(lt_metric_family(metrics, &dropped), NULL)->value;
    lt_metric_set_free(&metrics);
    lt_loop_free(&loop);
    line = realloc(line, LINE_ROOM);
    ssize_t got = read(fd, line, LINE_ROOM - 1);
    line[got > 0 ? got : 0] = '\0';
    close(fd);
    unlink(path);
    return line;
}

static const char *logged(struct px_access_log log)
{
    const char *text = logged_often(log, 1);
    assert_int_equal(lines_dropped, 0);
    return text;
}

/* A head as long as heads may be by default stands in the log whole, and more than once. */
static void test_long_lines(void **state)
{
    (void)state;
    enum { LARGE = 60 * 1024, TIMES = 4 };
    char *large = malloc(LARGE);
    memset(large, 'v', LARGE);
    facts.path = lt_str_make(large, LARGE);
    struct px_access_log log = {.form = PX_LOG_TEXT,
                                .format = make("%REQ(:PATH)% %REQ(:PATH)% %REQ(:PATH)% end\n")};
    assert_int_equal(strlen(logged_often(log, TIMES)), TIMES * (3 * LARGE + 7));
    assert_int_equal(lines_dropped, 0);
    assert_string_equal(line + strlen(line) - 5, " end\n");
    log = (struct px_access_log){
        .form = PX_LOG_JSON,
        .json = json_node("{\"p\": \"%REQ(:PATH)%\", \"q\": [\"<%REQ(:PATH)%>\"]}")};
    assert_int_equal(strlen(logged_often(log, TIMES)),
                     TIMES * (2 * LARGE + strlen("{\"p\":\"\",\"q\":[\"<>\"]}\n")));
    free(large);
    /* more than a line may hold: cut, still one line, still JSON */
    large = malloc(8 << 20);
    memset(large, 'v', 8 << 20);
    facts.path = lt_str_make(large, 8 << 20);
    log = (struct px_access_log){.form = PX_LOG_TEXT,
                                 .format = make("%REQ(:PATH)% %REQ(:PATH)% end\n")};
    logged(log);
    assert_non_null(strstr(line, "v[7864320 bytes more] v"));
    assert_non_null(strstr(line, "v[8388544 bytes more] end\n"));
    free(large);
}

/* Lines that find no room are counted, and the others stand whole. */
static void test_dropped_lines_are_counted(void **state)
{
    (void)state;
    struct px_access_log log = {
        .form = PX_LOG_TEXT, .format = make("%PROTOCOL%\n"), .path = LT_STR("/nowhere/at/all")};
    struct lt_metric_set *metrics = lt_metric_set_new(10);
    struct lt_loop *loop = lt_loop_new(&env);
    struct px_access_logger *logger = px_access_logger_new(loop, metrics);
    struct lt_metric_desc dropped = {.name = LT_STR("lateen_access_log_lines_dropped_total"),
                                     .kind = LT_METRIC_COUNTER};
    struct lt_counter *count = lt_metric_counter(lt_metric_family(metrics, &dropped), NULL);
    px_access_log_write(logger, &log, &facts);
    assert_int_equal(count->value, 1);
    char path[] = "/tmp/lateen-access-fifo-XXXXXX";
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    log.path = lt_str_of(path);
    log.format = make(
        "%PROTOCOL% and a rest that makes the line a little longer than it has to be.\n");
    const size_t line_bytes =
        8 + strlen(" and a rest that makes the line a little longer than it has to be.\n");
    uint64_t written = 0;
    for (; count->value < 2; written++)
        px_access_log_write(logger, &log, &facts); /* nobody reads: this must not block */
    char text[4096];
    size_t all = 0;
    for (int idle = 0; idle < 30;) {
        ssize_t got = read(reader, text, sizeof(text));
        all += got > 0 ? (size_t)got : 0;
        idle = got > 0 ? 0 : idle + 1;
        if (got <= 0)
            lt_loop_turn(loop, 10); /* what waited goes on by itself */
    }
    assert_int_equal(all, (written - 1) * line_bytes);
    px_access_logger_free(&logger);
    close(reader);
    unlink(path);
    lt_metric_set_free(&metrics);
    lt_loop_free(&loop);
}

static void test_istio_default(void **state)
{
    (void)state;
    struct px_access_log log = {
        .form = PX_LOG_TEXT,
        .format = make(
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
    const struct px_log_node *root = json_node(
        "{\"code\":\"%RESPONSE_CODE%\",\"route\":\"%ROUTE_NAME%\",\"q\":\"%REQ(X-QUOTE)%\","
        "\"mix\":\"<%ROUTE_NAME%>\",\"n\":7,\"in\":{\"l\":[true,\"%PROTOCOL%\"]}}");
    assert_string_equal(logged((struct px_access_log){.form = PX_LOG_JSON, .json = root}),
                        "{\"code\":200,\"route\":null,\"q\":\"a\\\"b\",\"mix\":\"<->\",\"n\":7,"
                        "\"in\":{\"l\":[true,\"HTTP/1.1\"]}}\n");
}

static void test_no_route_only(void **state)
{
    (void)state;
    const struct px_log_filter filter = {.kind = PX_LOG_IF_FLAG, .set = PX_FLAG_NO_ROUTE};
    const struct px_access_log log = {
        .form = PX_LOG_TEXT, .format = make("%RESPONSE_CODE%\n"), .filter = &filter};
    assert_string_equal(logged(log), "");
    facts.flags = PX_FLAG_NO_ROUTE;
    assert_string_equal(logged(log), "200\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_operators, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_values_say_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dropped_lines_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_istio_default, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_route_only, set_up, tear_down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(line);
    return failed;
}
