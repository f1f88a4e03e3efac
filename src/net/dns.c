/*
 * net/dns.c - c-ares on our loop: its sockets are watched here, its time limits are one timer.
 * c-ares may answer inside the call that asks; answers are always handed on by a task.
 */
#include "net/dns.h"

#include <ares.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SERVERS_TEXT_MAX = 1024, TIMER_MAX_MS = 1000 };

/* A socket of c-ares that is watched. */
struct watch {
    struct lt_list link; /* in dns->watches */
    struct lt_dns *dns;
    struct lt_io io;
};

struct lt_dns_query {
    struct lt_list link; /* in dns->queries, or dns->done */
    struct lt_dns *dns;
    lt_dns_fn *on_done; /* NULL: cancelled, nobody wants it */
    void *ctx;
    bool is_done;
    int status;                /* of c-ares */
    struct lt_dns_addr *addrs; /* owned */
    size_t count;
};

struct lt_dns {
    struct lt_loop *loop;
    struct lt_dns_opts opts;
    struct lt_addr *servers; /* owned */
    ares_channel channel;    /* owned; NULL: it is made with the next question */
    bool is_dirty;           /* nobody answered: read the system's configuration again */
    struct lt_list watches, queries, done;
    struct lt_timer timer;
    struct lt_task task;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
    int status = ares_library_init(ARES_LIB_INIT_ALL);
    LT_ASSERT(status == ARES_SUCCESS);
}

/* --- time and sockets of the channel --- */

static void set_timer(struct lt_dns *dns)
{
    struct timeval limit = {TIMER_MAX_MS / 1000, 0}, left;
    if (dns->channel == NULL || lt_list_is_empty(&dns->queries)) {
        lt_loop_timer_cancel(dns->loop, &dns->timer);
        return;
    }
    const struct timeval *wait = ares_timeout(dns->channel, &limit, &left);
    uint64_t wait_ns = (uint64_t)wait->tv_sec * LT_NS_PER_S + (uint64_t)wait->tv_usec * 1000;
    lt_loop_timer_set(dns->loop, &dns->timer, LT_MAX(wait_ns, (uint64_t)LT_NS_PER_MS));
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_dns *dns = LT_CONTAINER_OF(timer, struct lt_dns, timer);
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(dns);
}

static void on_ready(struct lt_io *io, uint32_t events)
{
    struct watch *watch = LT_CONTAINER_OF(io, struct watch, io);
    struct lt_dns *dns = watch->dns;
    int fd = io->fd;
    bool is_in = (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0;
    ares_process_fd(dns->channel, is_in ? fd : ARES_SOCKET_BAD,
                    (events & EPOLLOUT) != 0 ? fd : ARES_SOCKET_BAD);
    set_timer(dns); /* the watch may be gone by now */
}

static struct watch *find_watch(struct lt_dns *dns, int fd)
{
    struct lt_list *it, *next;
    lt_list_each (&dns->watches, it, next) {
        struct watch *watch = LT_CONTAINER_OF(it, struct watch, link);
        if (watch->io.fd == fd)
            return watch;
    }
    return NULL;
}

static void on_socket(void *data, ares_socket_t fd, int is_readable, int is_writable)
{
    struct lt_dns *dns = data;
    struct watch *watch = find_watch(dns, fd);
    if (!is_readable && !is_writable) {
        if (watch == NULL)
            return;
        lt_loop_io_del(dns->loop, &watch->io);
        lt_list_remove(&watch->link);
        free(watch);
        return;
    }
    if (watch == NULL) {
        watch = lt_new(struct watch);
        watch->dns = dns;
        lt_io_init(&watch->io, on_ready);
        watch->io.fd = fd;
        lt_list_push_back(&dns->watches, &watch->link);
    }
    lt_loop_io_set(dns->loop, &watch->io,
                   (is_readable ? EPOLLIN : 0u) | (is_writable ? EPOLLOUT : 0u));
}

/* --- the channel --- */

/* When resolv.conf names nobody c-ares asks this machine. */
static bool has_system_servers(ares_channel channel)
{
    struct ares_addr_port_node *servers = NULL;
    if (ares_get_servers_ports(channel, &servers) != ARES_SUCCESS || servers == NULL)
        return false;
    bool is_default = servers->next == NULL && servers->family == AF_INET &&
                      servers->addr.addr4.s_addr == htonl(INADDR_LOOPBACK);
    ares_free_data(servers);
    return !is_default;
}

static void set_servers(struct lt_dns *dns)
{
    char text[SERVERS_TEXT_MAX], one[LT_ADDR_TEXT_MAX];
    size_t len = 0;
    if (dns->opts.server_count == 0 ||
        (dns->opts.servers_are_fallback && has_system_servers(dns->channel)))
        return;
    for (size_t i = 0; i < dns->opts.server_count && len + sizeof(one) < sizeof(text); i++) {
        lt_str addr = lt_addr_format(&dns->servers[i], one);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s", i > 0 ? "," : "",
                                LT_STR_ARG(addr));
    }
    int status = ares_set_servers_ports_csv(dns->channel, text);
    LT_ASSERT(status == ARES_SUCCESS);
}

/* False: c-ares can't be started; out of descriptors, say. */
static bool make_channel(struct lt_dns *dns)
{
    struct ares_options options = {
        .flags = (dns->opts.uses_tcp ? ARES_FLAG_USEVC : 0) |
                 (dns->opts.has_no_search ? ARES_FLAG_NOSEARCH : 0),
        .timeout = (int)dns->opts.timeout_ms,
        .tries = (int)dns->opts.tries,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = dns,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_SOCK_STATE_CB |
               (dns->opts.timeout_ms > 0 ? ARES_OPT_TIMEOUTMS : 0) |
               (dns->opts.tries > 0 ? ARES_OPT_TRIES : 0) |
               (dns->opts.rotates ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE);
    pthread_once(&library_once, init_library);
    if (ares_init_options(&dns->channel, &options, mask) != ARES_SUCCESS) {
        dns->channel = NULL;
        return false;
    }
    set_servers(dns);
    return true;
}

static void drop_channel(struct lt_dns *dns)
{
    if (dns->channel != NULL)
        ares_destroy(dns->channel); /* open questions end, with ARES_EDESTRUCTION */
    dns->channel = NULL;
    dns->is_dirty = false;
    LT_ASSERT(lt_list_is_empty(&dns->watches));
}

/* --- answers --- */

static void take_addrs(struct lt_dns_query *query, const struct ares_addrinfo *info)
{
    size_t count = 0;
    for (const struct ares_addrinfo_node *node = info->nodes; node != NULL; node = node->ai_next)
        count++;
    count = LT_MIN(count, (size_t)LT_DNS_ADDRS_MAX);
    query->addrs = lt_calloc(count + 1, sizeof(*query->addrs));
    for (const struct ares_addrinfo_node *node = info->nodes; node != NULL && query->count < count;
         node = node->ai_next) {
        struct lt_dns_addr *out = &query->addrs[query->count];
        if (node->ai_family != AF_INET && node->ai_family != AF_INET6)
            continue;
        out->addr.len = (socklen_t)node->ai_addrlen;
        memcpy(&out->addr.sa, node->ai_addr, node->ai_addrlen);
        out->ttl_s = node->ai_ttl > 0 ? (uint32_t)node->ai_ttl : 0;
        query->count++;
    }
}

static void on_answer(void *arg, int status, int timeouts LT_UNUSED, struct ares_addrinfo *info)
{
    struct lt_dns_query *query = arg;
    struct lt_dns *dns = query->dns;
    query->status = status;
    query->is_done = true;
    if (status == ARES_SUCCESS && info != NULL)
        take_addrs(query, info);
    if (info != NULL)
        ares_freeaddrinfo(info);
    dns->is_dirty |= status == ARES_ETIMEOUT || status == ARES_ECONNREFUSED;
    lt_list_remove(&query->link);
    lt_list_push_back(&dns->done, &query->link);
    lt_loop_defer(dns->loop, &dns->task);
}

static void free_query(struct lt_dns_query *query)
{
    lt_list_remove(&query->link);
    free(query->addrs);
    free(query);
}

static void tell(struct lt_dns_query *query)
{
    bool has_none = query->status == ARES_ENODATA || query->status == ARES_ENOTFOUND ||
                    (query->status == ARES_SUCCESS && query->count == 0);
    lt_rc rc = has_none ? LT_E_NOT_FOUND : query->status == ARES_SUCCESS ? LT_OK : LT_E_IO;
    lt_dns_fn *on_done = query->on_done;
    query->on_done = NULL;
    if (on_done != NULL)
        on_done(query->ctx, rc, query->addrs, rc == LT_OK ? query->count : 0,
                ares_strerror(query->status));
    free_query(query);
}

static void run_done(struct lt_task *task)
{
    struct lt_dns *dns = LT_CONTAINER_OF(task, struct lt_dns, task);
    while (!lt_list_is_empty(&dns->done))
        tell(lt_list_first(&dns->done, struct lt_dns_query, link));
    if (dns->is_dirty && lt_list_is_empty(&dns->queries))
        drop_channel(dns);
    set_timer(dns);
}

/* --- questions --- */

struct lt_dns_query *lt_dns_ask(struct lt_dns *dns, lt_str name, int family, lt_dns_fn *on_done,
                                void *ctx)
{
    char text[LT_DNS_NAME_MAX + 2];
    struct lt_dns_query *query = lt_new(struct lt_dns_query);
    query->dns = dns;
    query->on_done = on_done;
    query->ctx = ctx;
    lt_list_push_back(&dns->queries, &query->link);
    if (name.len > sizeof(text) - 1 || lt_str_find_char(name, '\0') >= 0) {
        on_answer(query, ARES_EBADNAME, 0, NULL);
        return query;
    }
    if (dns->channel == NULL && !make_channel(dns)) {
        on_answer(query, ARES_ENOMEM, 0, NULL);
        return query;
    }
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    /* Envoy, too, leaves the order to who answers */
    const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = family};
    ares_getaddrinfo(dns->channel, text, NULL, &hints, on_answer, query);
    set_timer(dns);
    return query;
}

/* c-ares can't take back one question: its answer is thrown away. */
void lt_dns_cancel(struct lt_dns_query **query)
{
    if (*query != NULL)
        (*query)->on_done = NULL;
    *query = NULL;
}

/* --- life --- */

struct lt_dns *lt_dns_new(struct lt_loop *loop, const struct lt_dns_opts *opts)
{
    struct lt_dns *dns = lt_new(struct lt_dns);
    dns->loop = loop;
    dns->opts = *opts;
    dns->servers = lt_calloc(opts->server_count + 1, sizeof(*dns->servers));
    if (opts->server_count > 0)
        memcpy(dns->servers, opts->servers, opts->server_count * sizeof(*dns->servers));
    lt_list_init(&dns->watches);
    lt_list_init(&dns->queries);
    lt_list_init(&dns->done);
    lt_timer_init(&dns->timer, on_timer);
    lt_task_init(&dns->task, run_done);
    return dns;
}

void lt_dns_free(struct lt_dns **pointer)
{
    struct lt_dns *dns = *pointer;
    *pointer = NULL;
    if (dns == NULL)
        return;
    drop_channel(dns);
    lt_loop_timer_cancel(dns->loop, &dns->timer);
    lt_task_cancel(&dns->task);
    while (!lt_list_is_empty(&dns->done))
        free_query(lt_list_first(&dns->done, struct lt_dns_query, link));
    free(dns->servers);
    free(dns);
}
