/*
 * tests/unit/proxy/data_path_test.c - HTTP through a real worker: bodies, back-pressure, failures,
 * retries, limits, removal under way.
 */
#include "data_path_fixture.h"

#include <poll.h>
#include <sys/stat.h>

static char head[TEXT_MAX];

/* --- connections --- */

static void test_keep_alive_and_pool(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_ok);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    for (int client = 0; client < 3; client++) {
        int fd = dial(&proxy);
        for (int i = 0; i < 5; i++)
            assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 200);
        close(fd);
    }
    assert_int_equal(backend.count, 1);
    assert_int_equal(backend.note, 15);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_pipelined(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_ok);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    static char all[COUNT * sizeof(GET("/"))];
    for (int i = 0; i < COUNT; i++)
        memcpy(all + strlen(all), GET("/"), sizeof(GET("/")));
    int fd = dial(&proxy);
    say(fd, all);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(read_message(fd, head, sizeof(head)), 200);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* An idle connection that the server has closed is not used again. */
static void serve_once(struct backend *backend, int fd, int number)
{
    (void)number;
    char request[4096];
    if (read_message(fd, request, sizeof(request)) > 0)
        say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    backend->note++;
}

static void test_closed_idle_connection(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_once);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 200);
        usleep(20000);
    }
    assert_int_equal(backend.count, 10);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- bodies --- */

static void serve_chunked(struct backend *backend, int fd, int number)
{
    (void)number;
    char text[8192];
    read_until(fd, "0\r\n\r\n", text, sizeof(text));
    backend->note = strstr(text, "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n") != NULL ? 1 : 2;
    for (
        const char *at =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nx-t: 1\r\n\r\n";
        *at != '\0'; at++) {
        char one[2] = {*at, '\0'};
        say(fd, one);
        usleep(200);
    }
}

static void test_chunks_byte_by_byte(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_chunked);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    for (
        const char *at =
            "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        *at != '\0'; at++) {
        char one[2] = {*at, '\0'};
        say(fd, one);
        usleep(200);
    }
    read_until(fd, "0\r\n\r\n", head, sizeof(head));
    assert_non_null(strstr(head, "transfer-encoding: chunked"));
    assert_non_null(strstr(head, "3\r\nabc\r\n"));
    assert_non_null(strstr(head, "1\r\nd\r\n0\r\n\r\n")); /* no extension, no trailer */
    assert_int_equal(backend.note, 1);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

enum { FLOOD_BYTES = 48 << 20 };

static void serve_flood(struct backend *backend, int fd, int number)
{
    (void)number;
    char request[4096];
    static char part[65536];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    snprintf(request, sizeof(request), "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n",
             FLOOD_BYTES);
    say(fd, request);
    while (backend->bytes < FLOOD_BYTES) {
        ssize_t put = send(fd, part, sizeof(part), MSG_NOSIGNAL);
        if (put <= 0)
            return;
        backend->bytes += put;
    }
}

/*
 * A client that doesn't read stops the server: what is between them is the kernel's buffers and one
 * block.
 */
static void test_slow_reader(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_flood);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    say(fd, GET("/"));
    usleep(500000);
    long before = backend.bytes;
    usleep(200000);
    assert_true(backend.bytes == before);
    assert_true(before < 24 << 20);
    assert_int_equal(read_message(fd, head, sizeof(head)), 200);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void serve_sink(struct backend *backend, int fd, int number)
{
    (void)number;
    char request[4096];
    static char part[65536];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    while (backend->note == 0)
        usleep(1000);
    while (backend->bytes < FLOOD_BYTES) {
        ssize_t got = recv(fd, part, sizeof(part), 0);
        if (got <= 0)
            return;
        backend->bytes += got;
    }
    say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

static void test_slow_server(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    static char part[65536];
    backend_start(&backend, serve_sink);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    snprintf(head, sizeof(head), "PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n",
             FLOOD_BYTES);
    say(fd, head);
    long sent = 0;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    while (sent < FLOOD_BYTES && poll(&wait, 1, 300) == 1)
        sent += LT_MAX(send(fd, part, LT_MIN(sizeof(part), (size_t)(FLOOD_BYTES - sent)),
                            MSG_NOSIGNAL | MSG_DONTWAIT),
                       0);
    assert_true(sent < 24 << 20);
    backend.note = 1;
    while (sent < FLOOD_BYTES) {
        ssize_t put = send(fd, part, LT_MIN(sizeof(part), (size_t)(FLOOD_BYTES - sent)),
                           MSG_NOSIGNAL);
        assert_true(put > 0);
        sent += put;
    }
    assert_int_equal(read_message(fd, head, sizeof(head)), 200);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* 413 and an end, while the client still sends: it must get to see the answer. */
static void serve_refusal(struct backend *backend, int fd, int number)
{
    (void)backend, (void)number;
    char request[4096];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    say(fd, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!");
}

static void test_early_response(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_refusal);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    say(fd, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n0123456789");
    assert_int_equal(read_message(fd, head, sizeof(head)), 413);
    assert_non_null(strstr(head, "connection: close"));
    assert_int_equal(read_until(fd, NULL, head, sizeof(head)), 0);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void serve_bodiless(struct backend *backend, int fd, int number)
{
    (void)backend, (void)number;
    char request[4096];
    static const char *const answers[] = {"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
                                          "HTTP/1.1 204 No Content\r\n\r\n",
                                          "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
                                          "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"};
    for (size_t i = 0;
         i < LT_ARRAY_LEN(answers) && read_until(fd, "\r\n\r\n", request, sizeof(request)) > 0; i++)
        say(fd, answers[i]);
}

static void test_messages_without_body(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_bodiless);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    say(fd, "HEAD / HTTP/1.1\r\nHost: t\r\n\r\n" GET("/") GET("/") GET("/"));
    static const char *const expected[] = {"HTTP/1.1 200", "HTTP/1.1 204", "HTTP/1.1 304",
                                           "HTTP/1.1 200"};
    for (size_t i = 0; i < LT_ARRAY_LEN(expected); i++) {
        read_until(fd, "\r\n\r\n", head, sizeof(head));
        assert_memory_equal(head, expected[i], strlen(expected[i]));
    }
    assert_int_equal(backend.count, 1);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- failures --- */

static void test_refused(void **state)
{
    (void)state;
    struct proxy proxy;
    int probe = listen_on_loopback();
    uint16_t nobody = port_of(probe);
    close(probe);
    proxy_start(&proxy, nobody, "", "", "");
    int fd = dial(&proxy);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 503);
    close(fd);
    proxy_stop(&proxy);
}

/* First connection: dies without an answer. Second: dies inside a body. */
static void serve_badly(struct backend *backend, int fd, int number)
{
    (void)backend;
    char request[4096];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    if (number == 1)
        say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
}

static void test_broken_answers(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_badly);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int fd = dial(&proxy);
    assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 503);
    say(fd, GET("/"));
    read_until(fd, "half", head, sizeof(head));
    assert_non_null(strstr(head, "half"));
    assert_int_equal(read_until(fd, NULL, head, sizeof(head)), 0);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void serve_silence(struct backend *backend, int fd, int number)
{
    (void)number;
    char request[4096];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    while (recv(fd, request, sizeof(request), 0) > 0)
        ;
    backend->note++; /* the proxy has ended it */
}

static void wait_for(atomic_int *number, int value)
{
    for (int i = 0; i < DEADLINE_S * 100 && *number < value; i++)
        usleep(10000);
    assert_true(*number >= value);
}

static void test_timeout(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_silence);
    proxy_start(&proxy, port_of(backend.listen_fd), "", ", \"timeout\": \"0.1s\"", "");
    int fd = dial(&proxy);
    assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 504);
    wait_for(&backend.note, 1);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_client_leaves(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_silence);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    for (int i = 1; i <= 3; i++) {
        int fd = dial(&proxy);
        say(fd,
            i == 2 ? "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\npart" : GET("/"));
        wait_for(&backend.count, i);
        usleep(20000);
        close(fd);
        wait_for(&backend.note, i);
    }
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- retries --- */

enum { REPLAY_BYTES = 30000 };

/* 503 twice, then 200; every time the whole body must come. */
static void serve_third_time(struct backend *backend, int fd, int number)
{
    char request[4096];
    read_until(fd, "\r\n\r\n", request, sizeof(request));
    char body[REPLAY_BYTES];
    size_t len = 0;
    while (len < sizeof(body)) {
        ssize_t got = recv(fd, body + len, sizeof(body) - len, 0);
        if (got <= 0)
            return;
        len += (size_t)got;
    }
    for (size_t i = 0; i < sizeof(body); i++)
        backend->note += body[i] != (char)('a' + i % 26);
    say(fd, number < 2 ? "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
                       : "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

static void test_retry_sends_the_body_again(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_third_time);
    proxy_start(
        &proxy, port_of(backend.listen_fd), "",
        ", \"retry_policy\": {\"retry_on\": \"5xx\", \"num_retries\": 2, \"retry_back_off\": {\"base_interval\": \"0.001s\"}}",
        "");
    int fd = dial(&proxy);
    static char request[REPLAY_BYTES + 200];
    int at = snprintf(request, sizeof(request),
                      "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n", REPLAY_BYTES);
    for (int i = 0; i < REPLAY_BYTES; i++)
        request[at++] = (char)('a' + i % 26);
    assert_int_equal(ask(fd, request, head, sizeof(head)), 200);
    assert_int_equal(backend.count, 3);
    assert_int_equal(backend.note, 0);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_no_retry_unless_asked(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_badly);
    proxy_start(
        &proxy, port_of(backend.listen_fd), "",
        ", \"retry_policy\": {\"retry_on\": \"connect-failure,refused-stream,reset-before-request\", \"num_retries\": 5}",
        "");
    int fd = dial(&proxy);
    assert_int_equal(ask(fd, GET("/"), head, sizeof(head)), 503);
    assert_int_equal(backend.count, 1); /* it was seen: not again */
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- limits --- */

static void serve_slowly(struct backend *backend, int fd, int number)
{
    (void)number;
    char request[4096];
    while (read_message(fd, request, sizeof(request)) > 0) {
        usleep(150000);
        backend->note++;
        say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
}

static void test_circuit_breaker(void **state)
{
    (void)state;
    enum { CLIENTS = 5 };
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_slowly);
    proxy_start(
        &proxy, port_of(backend.listen_fd),
        "\"circuit_breakers\": {\"thresholds\": [{\"max_connections\": 1, \"max_pending_requests\": 2}]},",
        "", "");
    int fds[CLIENTS], served = 0, refused = 0;
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(&proxy);
        say(fds[i], GET("/"));
        usleep(10000);
    }
    for (int i = 0; i < CLIENTS; i++) {
        int status = read_message(fds[i], head, sizeof(head));
        served += status == 200;
        refused += status == 503 && strstr(head, "x-envoy-overloaded: true") != NULL;
        close(fds[i]);
    }
    assert_int_equal(served, 3); /* one served, two in line */
    assert_int_equal(refused, 2);
    assert_int_equal(backend.count, 1);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- configuration that changes under way --- */

static void test_cluster_goes(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_slowly);
    proxy_start(&proxy, port_of(backend.listen_fd),
                "\"circuit_breakers\": {\"thresholds\": [{\"max_connections\": 1}]},", "", "");
    int running = dial(&proxy), waiting = dial(&proxy), later = dial(&proxy);
    say(running, GET("/"));
    wait_for(&backend.count, 1);
    say(waiting, GET("/"));
    usleep(30000);
    take_away(&proxy, PX_CLUSTER, LT_STR("a"));
    assert_int_equal(ask(later, GET("/"), head, sizeof(head)), 503);
    assert_int_equal(read_message(running, head, sizeof(head)), 200); /* what had begun goes on */
    assert_int_equal(read_message(waiting, head, sizeof(head)), 503);
    close(running), close(waiting), close(later);
    settle(&proxy, 50);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_cluster_goes_during_back_off(void **state)
{
    (void)state;
    struct proxy proxy;
    int probe = listen_on_loopback();
    uint16_t nobody = port_of(probe);
    close(probe);
    proxy_start(
        &proxy, nobody, "",
        ", \"retry_policy\": {\"retry_on\": \"connect-failure\", \"num_retries\": 3, \"retry_back_off\": {\"base_interval\": "
        "\"0.4s\", \"max_interval\": \"0.4s\"}}",
        "");
    int fd = dial(&proxy);
    say(fd, GET("/"));
    usleep(20000);
    take_away(&proxy, PX_CLUSTER, LT_STR("a"));
    publish(&proxy); /* the snapshot that had the cluster is nobody's current one any more */
    settle(&proxy, 50);
    assert_int_equal(read_message(fd, head, sizeof(head)), 503);
    close(fd);
    proxy_stop(&proxy);
}

static void test_listener_goes(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_slowly);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int busy = dial(&proxy);
    say(busy, GET("/"));
    wait_for(&backend.count, 1);
    take_away(&proxy, PX_LISTENER, LT_STR("l"));
    assert_int_equal(read_message(busy, head, sizeof(head)), 200);
    assert_non_null(strstr(head, "connection: close"));
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(proxy.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_not_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd), close(busy);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void note_done(void *ctx)
{
    *(bool *)ctx = true;
}

static void test_drain(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    bool is_done = false;
    backend_start(&backend, serve_slowly);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    int idle = dial(&proxy), busy = dial(&proxy);
    assert_int_equal(ask(idle, GET("/"), head, sizeof(head)), 200);
    say(busy, GET("/"));
    usleep(30000);
    px_workers_drain(proxy.workers, 5000, note_done, &is_done);
    for (int i = 0; i < 300 && !is_done; i++)
        lt_loop_turn(proxy.loop, 10);
    assert_true(is_done);
    assert_int_equal(read_message(busy, head, sizeof(head)), 200);
    assert_non_null(strstr(head, "connection: close"));
    assert_int_equal(read_until(idle, NULL, head, sizeof(head)), 0);
    close(idle), close(busy);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

/* --- tunnels, interim responses, logs --- */

static void serve_echo_upgrade(struct backend *backend, int fd, int number)
{
    (void)backend, (void)number;
    char text[4096];
    read_until(fd, "\r\n\r\n", text, sizeof(text));
    say(fd,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi");
    ssize_t got;
    while ((got = recv(fd, text, sizeof(text), 0)) > 0)
        send(fd, text, (size_t)got, MSG_NOSIGNAL);
}

#define LOG(path) \
    "\"access_log\": [{\"name\": \"f\", \"typed_config\": {\"@type\": \"type.googleapis.com/" \
    "envoy.extensions.access_loggers.file.v3.FileAccessLog\", \"path\": \"" path \
    "\", \"log_format\": {\"text_format_source\": " \
    "{\"inline_string\": \"%REQ(:PATH)% %REQ(X-A)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESP(X-B)%|%UPSTREAM_HOST%\\n\"}}}}],"

static void test_tunnel_and_log(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    unlink("/tmp/lateen-data-path-test.log");
    backend_start(&backend, serve_echo_upgrade);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "",
                "\"upgrade_configs\": [{\"upgrade_type\": \"websocket\"}]," LOG(
                    "/tmp/lateen-data-path-test.log"));
    int fd = dial(&proxy);
    say(fd,
        "GET /ws HTTP/1.1\r\nHost: t\r\nX-A: kept\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    read_until(fd, "hifirst", head, sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 101", 12);
    assert_non_null(strstr(head, "upgrade: websocket"));
    for (int i = 0; i < 20; i++) {
        say(fd, "0123456789");
        assert_int_equal(read_until(fd, "9", head, sizeof(head)), 10);
        usleep(2000);
    }
    close(fd);
    settle(&proxy, 100);
    proxy_stop(&proxy);
    backend_stop(&backend);
    FILE *log = fopen("/tmp/lateen-data-path-test.log", "r");
    assert_non_null(log);
    assert_non_null(fgets(head, sizeof(head), log));
    assert_memory_equal(head, "/ws kept 101 ", strlen("/ws kept 101 "));
    fclose(log);
    unlink("/tmp/lateen-data-path-test.log");
}

static void serve_continue(struct backend *backend, int fd, int number)
{
    (void)number;
    char text[4096];
    read_until(fd, "\r\n\r\n", text, sizeof(text));
    backend->note = strstr(text, "100-continue") != NULL;
    if (backend->note)
        say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    read_until(fd, "body!", text, sizeof(text));
    say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

static void run_continue(const char *hcm, int is_proxied)
{
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_continue);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", hcm);
    int fd = dial(&proxy);
    say(fd, "POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(read_message(fd, head, sizeof(head)), 100);
    assert_int_equal(ask(fd, "body!", head, sizeof(head)), 200);
    assert_int_equal(backend.note, is_proxied);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_continue(void **state)
{
    (void)state;
    run_continue("", 0);
    run_continue("\"proxy_100_continue\": true,", 1);
}

/* --- strangers --- */

static void test_bad_requests(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_ok);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"GET / HTTP/1.0\r\n\r\n", 426},
        {"CONNECT t:1 HTTP/1.1\r\nHost: t:1\r\n\r\n", 404}, /* no route says CONNECT */
        {"\x16\x03\x01 what\r\n\r\n", 400},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        int fd = dial(&proxy);
        assert_int_equal(ask(fd, cases[i].request, head, sizeof(head)), cases[i].status);
        close(fd);
    }
    proxy_stop(&proxy);
    backend_stop(&backend);
}

static void test_large_heads(void **state)
{
    (void)state;
    struct backend backend;
    struct proxy proxy;
    backend_start(&backend, serve_ok);
    proxy_start(&proxy, port_of(backend.listen_fd), "", "", "");
    static char request[100 * 1024];
    int fd = dial(&proxy);
    for (size_t size = 1000; size < 14000; size += 1500) {
        int at = snprintf(request, sizeof(request),
                          "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\nX-Big: ");
        memset(request + at, 'x', size);
        memcpy(request + at + size, "\r\n\r\n0123456789", 15);
        assert_int_equal(ask(fd, request, head, sizeof(head)), 200);
    }
    int at = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: t\r\nX-Big: ");
    memset(request + at, 'x', 90000);
    memcpy(request + at + 90000, "\r\n\r\n", 5);
    assert_int_equal(ask(fd, request, head, sizeof(head)), 431);
    close(fd);
    proxy_stop(&proxy);
    backend_stop(&backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_and_pool),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_closed_idle_connection),
        cmocka_unit_test(test_chunks_byte_by_byte),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_slow_server),
        cmocka_unit_test(test_early_response),
        cmocka_unit_test(test_messages_without_body),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_broken_answers),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_retry_sends_the_body_again),
        cmocka_unit_test(test_no_retry_unless_asked),
        cmocka_unit_test(test_circuit_breaker),
        cmocka_unit_test(test_cluster_goes),
        cmocka_unit_test(test_cluster_goes_during_back_off),
        cmocka_unit_test(test_listener_goes),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_tunnel_and_log),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_large_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
