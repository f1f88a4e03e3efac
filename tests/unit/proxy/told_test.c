/*
 * tests/unit/proxy/told_test.c - what a worker tells of its traffic: bytes of TCP connections that
 * fall idle (with a clock that the test moves), labels after a change of configuration, names that
 * strangers make up.
 */
#include "data_path_fixture.h"

#define STATS_FILTER \
    "{\"name\": \"istio.stats\", \"typed_config\": {\"@type\": \"type.googleapis.com/" \
    "udpa.type.v1.TypedStruct\", \"type_url\": \"type.googleapis.com/stats.PluginConfig\"}}"

/* --- asking --- */

struct answer {
    char text[1 << 20];
    bool is_there;
};

static void on_metrics(void *ctx, struct lt_metric_set *sum,
                       const struct lt_map *clusters LT_UNUSED)
{
    struct answer *answer = ctx;
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out;
    lt_buf_init(&out, sizeof(answer->text) - 1);
    assert_int_equal(lt_metric_render(sum, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor,
                                      sizeof(answer->text) / 2, &out),
                     LT_EOF);
    lt_str all = lt_buf_str(&out);
    memcpy(answer->text, all.ptr, all.len);
    answer->text[all.len] = '\0';
    answer->is_there = true;
    lt_buf_fini(&out);
    lt_metric_set_free(&sum);
}

static const char *metrics(struct proxy *proxy)
{
    static struct answer answer;
    answer.is_there = false;
    px_workers_collect_metrics(proxy->workers, on_metrics, &answer);
    for (int i = 0; i < 100 * DEADLINE_S && !answer.is_there; i++)
        lt_loop_turn(proxy->loop, 10);
    assert_true(answer.is_there);
    return answer.text;
}

/* The value of the one line that begins with name and holds part; -1: no such line. */
static long value_of(struct proxy *proxy, const char *name, const char *part)
{
    for (const char *at = metrics(proxy); at != NULL && *at != '\0';) {
        const char *end = strchrnul(at, '\n');
        char line[4096];
        snprintf(line, sizeof(line), "%.*s", (int)(end - at), at);
        if (strncmp(line, name, strlen(name)) == 0 && strstr(line, part) != NULL)
            return strtol(strrchr(line, ' '), NULL, 10);
        at = *end == '\0' ? end : end + 1;
    }
    return -1;
}

static long wait_for(struct proxy *proxy, const char *name, const char *part, long value)
{
    long seen = -1;
    for (int i = 0; i < 100 * DEADLINE_S && seen != value; i++) {
        seen = value_of(proxy, name, part);
        usleep(1000);
    }
    return seen;
}

/* --- bytes of a connection that stays open --- */

static atomic_ulong moved_ns; /* how far the test's clock is ahead of the real one */
static struct lt_env real_env;

static uint64_t moved_mono_ns(void *ctx)
{
    (void)ctx;
    return lt_env_mono_ns(&real_env) + moved_ns;
}

static void serve_echo(struct backend *backend, int fd, int number)
{
    (void)backend, (void)number;
    char part[4096];
    for (ssize_t got; (got = recv(fd, part, sizeof(part), 0)) > 0;) {
        part[got] = '\0';
        say(fd, part);
    }
}

static void start_tcp(struct proxy *proxy, uint16_t backend_port)
{
    static char text[TEXT_MAX];
    memset(proxy, 0, sizeof(*proxy));
    lt_env_init(&real_env, "test");
    proxy->env = real_env;
    proxy->env.mono_ns = moved_mono_ns;
    proxy->port = free_port();
    snprintf(
        text, sizeof(text),
        "{\"static_resources\": {\"clusters\": [{\"name\": \"a\", \"type\": \"STATIC\", \"load_assignment\": {"
        "\"cluster_name\": \"a\", \"endpoints\": [{\"lb_endpoints\": [{\"endpoint\": {\"address\": {\"socket_address\": "
        "{\"address\": \"127.0.0.1\", \"port_value\": %u}}}}]}]}}],"
        "\"listeners\": [{\"name\": \"l\", \"address\": {\"socket_address\": {\"address\": \"127.0.0.1\", \"port_value\": %u}},"
        "\"filter_chains\": [{\"filters\": [" STATS_FILTER
        ", {\"name\": \"tcp\", \"typed_config\": {\"@type\": "
        "\"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\", \"stat_prefix\": \"t\", "
        "\"cluster\": \"a\"}}]}]}]}}",
        backend_port, proxy->port);
    proxy_run(proxy, text);
}

static void test_bytes_of_an_idle_connection(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    char text[16];
    moved_ns = 0;
    backend_start(&backend, serve_echo);
    start_tcp(&proxy, port_of(backend.listen_fd));
    int fd = dial(&proxy), other = dial(&proxy);
    for (int round = 1; round <= 3; round++) {
        say(fd, "hello");
        assert_int_equal(read_until(fd, "hello", text, sizeof(text)), 5);
        assert_int_equal(wait_for(&proxy, "istio_tcp_connections_opened_total", "", 2), 2);
        long before = value_of(&proxy, "istio_tcp_received_bytes_total", "");
        assert_int_equal(before, round == 1 ? -1 : 5 * (round - 1)); /* not five seconds yet */
        moved_ns += 5 * LT_NS_PER_S; /* nothing moves on the connection meanwhile */
        assert_int_equal(wait_for(&proxy, "istio_tcp_received_bytes_total", "", 5L * round),
                         5L * round);
        assert_int_equal(value_of(&proxy, "istio_tcp_sent_bytes_total", ""), 5L * round);
    }
    say(other, "abc"); /* its turn comes later than the first one's */
    assert_int_equal(read_until(other, "abc", text, sizeof(text)), 3);
    moved_ns += 3 * LT_NS_PER_S;
    say(fd, "hello");
    assert_int_equal(read_until(fd, "hello", text, sizeof(text)), 5);
    moved_ns += 2 * LT_NS_PER_S;
    assert_int_equal(wait_for(&proxy, "istio_tcp_sent_bytes_total", "", 18), 18);
    moved_ns += 3 * LT_NS_PER_S;
    assert_int_equal(wait_for(&proxy, "istio_tcp_sent_bytes_total", "", 23), 23);
    say(fd, "bye"); /* told at the end, before its five seconds */
    assert_int_equal(read_until(fd, "bye", text, sizeof(text)), 3);
    close(fd);
    assert_int_equal(wait_for(&proxy, "istio_tcp_connections_closed_total", "", 1), 1);
    assert_int_equal(value_of(&proxy, "istio_tcp_sent_bytes_total", ""), 26);
    close(other);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- labels --- */

#define SERVICE(name) \
    "\"metadata\": {\"filter_metadata\": {\"istio\": {\"services\": [{\"host\": \"" name \
    ".test\", " \
    "\"name\": \"" name "\", \"namespace\": \"n\"}]}}}, "

/* The cluster keeps its name; what it stands for changes. */
static void test_labels_follow_the_configuration(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    struct px_bootstrap again;
    struct lt_err err = {0};
    static char head[TEXT_MAX], text[TEXT_MAX];
    backend_start(&backend, serve_ok);
    uint16_t backend_port = port_of(backend.listen_fd);
    proxy_start(&proxy, backend_port, SERVICE("old"), "", "");
    int fd = dial(&proxy);
    assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 200);
    assert_int_equal(
        wait_for(&proxy, "istio_requests_total", "destination_service=\"old.test\"", 1), 1);
    proxy_bootstrap(text, proxy.port, backend_port, SERVICE("new"), "", "");
    assert_int_equal(px_bootstrap_load(lt_str_of(text), proxy.table, &again, &err), LT_OK);
    publish(&proxy);
    settle(&proxy, 50);
    assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 200);
    assert_int_equal(
        wait_for(&proxy, "istio_requests_total", "destination_service=\"new.test\"", 1), 1);
    assert_int_equal(value_of(&proxy, "istio_requests_total", "destination_service=\"old.test\""),
                     1);
    close(fd);
    px_bootstrap_fini(&again);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* An outbound listener takes the service's name from the Host; other listeners never do. */
static void ask_many_hosts(int fd, int count)
{
    static char head[TEXT_MAX];
    for (int i = 0; i < count; i++) {
        char request[128];
        snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: h%d.test\r\n\r\n", i);
        assert_int_equal(ask(fd, request, head, sizeof(head)), 200);
    }
}

static void test_host_stands_in_for_a_service(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_ok);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    ask_many_hosts(fd, 3);
    assert_int_equal(wait_for(&proxy, "istio_requests_total", "destination_service=\"h2.test\"", 1),
                     1);
    close(fd);
    proxy_stop(&proxy);
    proxy_start(&proxy, port_of(backend.listen_fd), SERVICE("named"), "", "");
    fd = dial(&proxy);
    ask_many_hosts(fd, 3);
    assert_int_equal(
        wait_for(&proxy, "istio_requests_total", "destination_service=\"named.test\"", 3), 3);
    assert_null(strstr(metrics(&proxy), "h2.test"));
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_an_idle_connection),
        cmocka_unit_test(test_labels_follow_the_configuration),
        cmocka_unit_test(test_host_stands_in_for_a_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
