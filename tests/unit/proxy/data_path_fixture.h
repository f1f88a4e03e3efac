/*
 * tests/unit/proxy/data_path_fixture.h - a real worker between real sockets: the proxy from a
 * bootstrap text, a backend whose connections each run a function in a thread of their own, and a
 * blocking client with a deadline on every read.
 */
#ifndef LT_TEST_DATA_PATH_FIXTURE_H
#define LT_TEST_DATA_PATH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/env.h"
#include "net/loop.h"
#include "proxy/run/worker.h"
#include "proxy/start/bootstrap.h"

enum { DEADLINE_S = 10, TEXT_MAX = 64 * 1024 };

/* --- sockets --- */

static inline uint16_t port_of(int fd)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof(addr);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    return ntohs(addr.sin_port);
}

static inline int listen_on_loopback(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static inline uint16_t free_port(void)
{
    int probe = listen_on_loopback();
    uint16_t port = port_of(probe);
    close(probe);
    return port;
}

static inline void set_deadline(int fd)
{
    struct timeval limit = {.tv_sec = DEADLINE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* Reads until `end` was seen or the connection ended; the text so far, NUL behind. */
static inline size_t read_until(int fd, const char *end, char *text, size_t room)
{
    size_t len = 0;
    text[0] = '\0';
    while (len + 1 < room && (end == NULL || strstr(text, end) == NULL)) {
        ssize_t got = recv(fd, text + len, end == NULL ? room - len - 1 : 1, 0);
        if (got <= 0)
            break;
        len += (size_t)got;
        text[len] = '\0';
    }
    return len;
}

static inline void say(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t put = send(fd, text, len, MSG_NOSIGNAL);
        if (put <= 0)
            return;
        text += put;
        len -= (size_t)put;
    }
}

/* --- the backend --- */

struct backend;
typedef void serve_fn(struct backend *backend, int fd, int number);

struct backend {
    int listen_fd;
    serve_fn *serve;
    pthread_t thread;
    pthread_t workers[256];
    atomic_int count; /* of connections so far */
    atomic_int note;  /* whatever a test wants to know */
    atomic_long bytes;
    int fds[256];
};

struct served {
    struct backend *backend;
    int fd, number;
};

static inline void *serve_one(void *arg)
{
    struct served served = *(struct served *)arg;
    free(arg);
    served.backend->serve(served.backend, served.fd, served.number);
    shutdown(served.fd, SHUT_RDWR);
    return NULL;
}

static inline void *accept_loop(void *arg)
{
    struct backend *backend = arg;
    int fd;
    while ((fd = accept4(backend->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct served *served = malloc(sizeof(*served));
        /* counted before it is answered: whoever has the answer may ask how many there were */
        *served = (struct served){backend, fd, backend->count++};
        set_deadline(fd);
        backend->fds[served->number] = fd;
        pthread_create(&backend->workers[served->number], NULL, serve_one, served);
    }
    return NULL;
}

static inline void backend_start(struct backend *backend, serve_fn *serve)
{
    memset(backend, 0, sizeof(*backend));
    backend->serve = serve;
    backend->listen_fd = listen_on_loopback();
    pthread_create(&backend->thread, NULL, accept_loop, backend);
}

static inline void backend_stop(struct backend *backend)
{
    shutdown(backend->listen_fd, SHUT_RDWR);
    pthread_join(backend->thread, NULL);
    close(backend->listen_fd);
    for (int i = 0; i < backend->count; i++) {
        shutdown(backend->fds[i], SHUT_RDWR);
        pthread_join(backend->workers[i], NULL);
        close(backend->fds[i]);
    }
}

/* --- the proxy --- */

struct proxy {
    struct lt_env env;
    struct lt_loop *loop;
    struct px_table *table;
    struct px_bootstrap bootstrap;
    struct px_workers *workers;
    uint16_t port;
};

static inline void turn_until_ready(struct proxy *proxy)
{
    for (int i = 0; i < 500 && !px_workers_are_ready(proxy->workers); i++)
        lt_loop_turn(proxy->loop, 10);
    assert_true(px_workers_are_ready(proxy->workers));
}

static inline void publish(struct proxy *proxy)
{
    struct lt_err err = {0};
    px_workers_publish(proxy->workers, px_table_snapshot(proxy->table, &err));
    assert_string_equal(err.text, "");
}

/* Turns the main loop for a while: what workers sent is opened. */
static inline void settle(struct proxy *proxy, int ms)
{
    for (int i = 0; i < ms; i += 10)
        lt_loop_turn(proxy->loop, 10);
}

static inline void take_away(struct proxy *proxy, px_resource_kind kind, lt_str name)
{
    px_table_set_static(proxy->table, true); /* static resources are the bootstrap's to remove */
    px_table_remove(proxy->table, kind, name);
    px_table_set_static(proxy->table, false);
    publish(proxy);
    settle(proxy, 50);
}

/* The environment may have been set before: a test's own clock. */
static inline void proxy_run(struct proxy *proxy, const char *bootstrap)
{
    struct lt_err err = {0};
    if (proxy->env.mono_ns == NULL)
        lt_env_init(&proxy->env, "test");
    proxy->loop = lt_loop_new(&proxy->env);
    proxy->table = px_table_new();
    if (px_bootstrap_load(lt_str_of(bootstrap), proxy->table, &proxy->bootstrap, &err) != LT_OK)
        fail_msg("%s", err.text);
    const struct px_workers_opts opts = {
        .env = &proxy->env,
        .loop = proxy->loop,
        .count = 1,
        .drain_ms = 1000,
        .node = {.workload = LT_STR("w"), .namespace = LT_STR("n")}};
    proxy->workers = px_workers_new(&opts);
    publish(proxy);
    turn_until_ready(proxy);
}

/*
 * cluster: fields of cluster "a" beside its endpoint; route: fields of the RouteAction; hcm: more
 * of the connection manager.
 */
static inline void proxy_bootstrap(char text[TEXT_MAX], uint16_t port, uint16_t backend_port,
                                   const char *cluster, const char *route, const char *hcm)
{
    snprintf(
        text, TEXT_MAX,
        "{\"static_resources\": {\"clusters\": [{\"name\": \"a\", \"type\": \"STATIC\", \"connect_timeout\": \"1s\", %s"
        "\"load_assignment\": {\"cluster_name\": \"a\", \"endpoints\": [{\"lb_endpoints\": [{\"endpoint\": {\"address\": "
        "{\"socket_address\": {\"address\": \"127.0.0.1\", \"port_value\": %u}}}}]}]}}],"
        "\"listeners\": [{\"name\": \"l\", \"address\": {\"socket_address\": {\"address\": \"127.0.0.1\", \"port_value\": %u}},"
        "\"filter_chains\": [{\"filters\": [{\"name\": \"http\", \"typed_config\": {\"@type\": \"type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\", \"stat_prefix\": \"t\", %s"
        "\"route_config\": {\"virtual_hosts\": [{\"name\": \"v\", \"domains\": [\"*\"], \"routes\": [{\"match\": "
        "{\"prefix\": \"/\"}, \"route\": {\"cluster\": \"a\"%s}}]}]},"
        "\"http_filters\": [{\"name\": \"istio.stats\", \"typed_config\": {\"@type\": \"type.googleapis.com/"
        "udpa.type.v1.TypedStruct\", \"type_url\": \"type.googleapis.com/stats.PluginConfig\"}},"
        "{\"name\": \"router\", \"typed_config\": {\"@type\": \"type.googleapis.com/"
        "envoy.extensions.filters.http.router.v3.Router\"}}]}}]}]}]}}",
        cluster, backend_port, port, hcm, route);
}

static inline void proxy_start(struct proxy *proxy, uint16_t backend_port, const char *cluster,
                               const char *route, const char *hcm)
{
    static char text[TEXT_MAX];
    memset(proxy, 0, sizeof(*proxy));
    proxy->port = free_port();
    proxy_bootstrap(text, proxy->port, backend_port, cluster, route, hcm);
    proxy_run(proxy, text);
}

static inline void proxy_stop(struct proxy *proxy)
{
    px_workers_free(&proxy->workers);
    px_table_free(&proxy->table);
    px_bootstrap_fini(&proxy->bootstrap);
    lt_loop_free(&proxy->loop);
}

static inline int dial(const struct proxy *proxy)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(proxy->port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_deadline(fd);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* --- HTTP, as much as a test needs --- */

static inline size_t length_of(const char *head)
{
    const char *field = strstr(head, "ontent-length: ");
    return field == NULL ? 0 : strtoul(field + strlen("ontent-length: "), NULL, 10);
}

/*
 * One message with a Content-Length (or none); its status, 0 when the connection ended. The head
 * stays in `head`.
 */
static inline int read_message(int fd, char *head, size_t room)
{
    size_t len = read_until(fd, "\r\n\r\n", head, room);
    if (len == 0)
        return 0;
    size_t left = length_of(head);
    char part[16384];
    while (left > 0) {
        ssize_t got = recv(fd, part, LT_MIN(left, sizeof(part)), 0);
        if (got <= 0)
            return -1;
        left -= (size_t)got;
    }
    return strncmp(head, "HTTP/", 5) == 0 ? (int)strtol(head + 9, NULL, 10) : 1;
}

static inline int ask(int fd, const char *request, char *head, size_t room)
{
    say(fd, request);
    return read_message(fd, head, room);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: t\r\n\r\n"

/* Answers every request with 200 and two bytes. */
static inline void serve_ok(struct backend *backend, int fd, int number)
{
    (void)number;
    char head[TEXT_MAX / 4];
    while (read_message(fd, head, sizeof(head)) > 0) {
        backend->note++;
        say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
}

#endif
