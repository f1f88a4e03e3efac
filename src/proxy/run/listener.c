/*
 * proxy/run/listener.c - listening sockets of one worker: opened, handed over from one snapshot to
 * the next, closed. What comes after accept: conn.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/run/run.h"
#include "proxy/run/workers.h"

enum { ACCEPTS_PER_TURN = 32, WAITING_MAX = 65536 };

/* A socket beyond the listener's own. */
struct px_more {
    struct lt_list link; /* in listener->more */
    struct px_listener *listener;
    struct lt_addr addr;
    bool is_shared;
    struct lt_io io;
};

/* --- accepting --- */

static void watch(struct px_listener *listener)
{
    struct lt_loop *loop = listener->worker->loop;
    struct lt_list *it, *next;
    if (listener->worker->holds_accept ||
        (listener->worker->is_paused && !listener->conf->bypasses_overload))
        return;
    lt_loop_io_set(loop, &listener->io, EPOLLIN);
    lt_list_each (&listener->more, it, next)
        lt_loop_io_set(loop, &LT_CONTAINER_OF(it, struct px_more, link)->io, EPOLLIN);
}

static void unwatch(struct px_listener *listener)
{
    struct lt_loop *loop = listener->worker->loop;
    struct lt_list *it, *next;
    lt_loop_io_del(loop, &listener->io);
    lt_list_each (&listener->more, it, next)
        lt_loop_io_del(loop, &LT_CONTAINER_OF(it, struct px_more, link)->io);
}

static void on_pause_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    watch(LT_CONTAINER_OF(timer, struct px_listener, pause));
}

/*
 * Level-triggered: whoever still waits is told of again. When no descriptor is left that would be
 * at once and for ever, at the cost of those that are served.
 */
static void accept_some(struct px_listener *listener, int listen_fd)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = -1;
        struct lt_addr peer;
        lt_rc rc = lt_sock_accept(listen_fd, &fd, &peer);
        if (rc == LT_AGAIN)
            return;
        if (rc != LT_OK) {
            px_count_accept_pause(listener->worker);
            unwatch(listener);
            lt_loop_timer_set(listener->worker->loop, &listener->pause,
                              PX_ACCEPT_PAUSE_MS * LT_NS_PER_MS);
            return;
        }
        px_conn_accept(listener, fd, &peer, NULL);
    }
}

static void on_accept(struct lt_io *io, uint32_t events LT_UNUSED)
{
    accept_some(LT_CONTAINER_OF(io, struct px_listener, io), io->fd);
}

static void on_accept_more(struct lt_io *io, uint32_t events LT_UNUSED)
{
    accept_some(LT_CONTAINER_OF(io, struct px_more, io)->listener, io->fd);
}

/* --- opening and closing --- */

/* Whoever waits in a socket that is closed would be reset. */
static void take_waiting(struct px_listener *listener, int listen_fd)
{
    int fd = -1;
    struct lt_addr peer;
    for (int i = 0; i < WAITING_MAX && lt_sock_accept(listen_fd, &fd, &peer) == LT_OK; i++)
        px_conn_accept(listener, fd, &peer, NULL);
}

static void add_more(struct px_listener *listener, const struct lt_addr *addr, int fd,
                     bool is_shared)
{
    struct px_more *more = lt_new(struct px_more);
    more->listener = listener;
    more->addr = *addr;
    more->is_shared = is_shared;
    lt_io_init(&more->io, on_accept_more);
    more->io.fd = fd;
    lt_list_push_back(&listener->more, &more->link);
}

/* The first that a process before us has left for this address; -1: none. The others are more. */
static int take_inherited(struct px_listener *listener, const struct lt_addr *addr)
{
    struct px_worker *worker = listener->worker;
    int first = px_sockets_take(&worker->inherited, PX_SOCKET_LISTENER, addr), fd = first;
    while (fd >= 0 && (fd = px_sockets_take(&worker->inherited, PX_SOCKET_LISTENER, addr)) >= 0)
        add_more(listener, addr, fd, false);
    return first;
}

static lt_rc bind_one(struct px_listener *listener, const struct lt_addr *addr, bool v6_only,
                      int *ret_fd, bool *ret_is_shared, struct lt_err *err)
{
    const struct px_listener_conf *conf = listener->conf;
    struct lt_listen_opts opts = {.backlog = (int)conf->tcp_backlog,
                                  .reuse_port = conf->reuse_port,
                                  .transparent = conf->transparent,
                                  .v6_only = v6_only,
                                  .freebind = conf->freebind,
                                  .fast_open_queue = (int)conf->fast_open_queue,
                                  .options = conf->socket_options,
                                  .option_count = conf->socket_option_count,
                                  .unix_mode = (mode_t)conf->unix_mode};
    *ret_fd = take_inherited(listener, addr);
    *ret_is_shared = false;
    if (*ret_fd >= 0)
        return LT_OK;
    *ret_is_shared = !conf->reuse_port || addr->sa.sa_family == AF_UNIX;
    lt_rc rc = *ret_is_shared ? px_shared_listen(listener->worker, addr, &opts, ret_fd, err)
                              : lt_sock_listen(addr, &opts, ret_fd, err);
    return rc == LT_OK ? LT_OK
                       : lt_err_wrap(err, rc, "listener '%.*s'", LT_STR_ARG(conf->res.name));
}

static void close_sockets(struct px_listener *listener, bool takes_waiting);

static lt_rc bind_listener(struct px_listener *listener, struct lt_err *err)
{
    const struct px_listener_conf *conf = listener->conf;
    LT_TRY(bind_one(listener, &conf->addr, conf->v6_only, &listener->io.fd, &listener->is_shared,
                    err));
    for (size_t i = 0; i < conf->more_addr_count; i++) {
        int fd = -1;
        bool is_shared = false;
        const struct px_more_address *more = &conf->more_addrs[i];
        lt_rc rc = bind_one(listener, &more->addr, more->v6_only, &fd, &is_shared, err);
        if (rc != LT_OK) {
            close_sockets(listener, false);
            return rc;
        }
        add_more(listener, &more->addr, fd, is_shared);
    }
    watch(listener);
    return LT_OK;
}

static void close_more(struct px_listener *listener, bool takes_waiting)
{
    while (!lt_list_is_empty(&listener->more)) {
        struct px_more *more = lt_list_first(&listener->more, struct px_more, link);
        lt_list_remove(&more->link);
        if (takes_waiting)
            take_waiting(listener, more->io.fd);
        close(more->io.fd);
        if (more->is_shared)
            px_shared_leave(listener->worker, &more->addr);
        px_bury(listener->worker, more);
    }
}

static void close_sockets(struct px_listener *listener, bool takes_waiting)
{
    if (listener->io.fd < 0)
        return;
    unwatch(listener);
    lt_loop_timer_cancel(listener->worker->loop, &listener->pause);
    close_more(listener, takes_waiting);
    if (takes_waiting)
        take_waiting(listener, listener->io.fd);
    close(listener->io.fd);
    if (listener->is_shared)
        px_shared_leave(listener->worker, &listener->conf->addr);
    listener->is_shared = false;
    listener->io.fd = -1;
}

static void close_listener(struct px_listener *listener)
{
    close_sockets(listener, !listener->worker->holds_accept);
}

static void bury(struct px_listener *listener)
{
    px_bury(listener->worker, listener);
}

static lt_rc open_listener(struct px_worker *worker, const struct px_listener_conf *conf,
                           struct lt_err *err)
{
    struct px_listener *listener = lt_new(struct px_listener);
    listener->worker = worker;
    listener->conf = conf;
    lt_list_init(&listener->more);
    lt_io_init(&listener->io, on_accept);
    lt_timer_init(&listener->pause, on_pause_over);
    bool is_open = conf->bind_to_port && !px_drain_covers(conf, worker->stopped);
    lt_rc rc = is_open ? bind_listener(listener, err) : LT_OK;
    if (rc != LT_OK) {
        free(listener);
        return rc;
    }
    lt_map_put(&worker->listeners, conf->res.name, listener);
    return LT_OK;
}

void px_listeners_pause(struct px_worker *worker, bool pauses)
{
    worker->is_paused = pauses;
    for (size_t i = 0; i < worker->listeners.count && pauses; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        if (listener->io.fd >= 0 && !listener->conf->bypasses_overload)
            unwatch(listener);
    }
    if (!pauses)
        px_listeners_resume(worker);
}

void px_listeners_resume(struct px_worker *worker)
{
    for (size_t i = 0; i < worker->listeners.count; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        if (listener->io.fd >= 0)
            watch(listener);
    }
}

void px_listeners_list(struct px_worker *worker, struct lt_vec *sockets)
{
    for (size_t i = 0; i < worker->listeners.count; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        const struct lt_addr *addr = &listener->conf->addr;
        struct lt_list *it, *next;
        if (listener->io.fd < 0)
            continue;
        px_sockets_add(sockets, PX_SOCKET_LISTENER, worker->index, addr, listener->io.fd);
        lt_list_each (&listener->more, it, next)
            px_sockets_add(sockets, PX_SOCKET_LISTENER, worker->index,
                           &LT_CONTAINER_OF(it, struct px_more, link)->addr,
                           LT_CONTAINER_OF(it, struct px_more, link)->io.fd);
    }
}

void px_listeners_leave(struct px_worker *worker)
{
    for (size_t i = 0; i < worker->listeners.count; i++)
        close_sockets(worker->listeners.entries[i].value, false);
}

/* --- by address --- */

/* Built anew with each snapshot. */
static void index_addresses(struct px_worker *worker)
{
    lt_map_clear(&worker->by_address);
    for (size_t i = 0; i < worker->listeners.count; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        lt_map_put(&worker->by_address, lt_addr_format(&listener->conf->addr, listener->address),
                   listener);
        for (size_t k = 0; k < listener->conf->more_addr_count; k++)
            lt_map_put(&worker->by_address, listener->conf->more_addrs[k].text, listener);
    }
}

/* At the address of this text, which is IPv6. */
static bool takes_v4(const struct px_listener_conf *conf, lt_str text)
{
    for (size_t i = 0; i < conf->more_addr_count; i++) {
        if (lt_str_eq(conf->more_addrs[i].text, text))
            return !conf->more_addrs[i].v6_only;
    }
    return !conf->v6_only;
}

struct px_listener *px_listener_for(struct px_worker *worker, const struct lt_addr *destination)
{
    char text[LT_ADDR_TEXT_MAX];
    struct px_listener *listener = lt_map_find(&worker->by_address,
                                               lt_addr_format(destination, text));
    if (listener != NULL || destination->len == 0)
        return listener;
    struct lt_addr any = *destination;
    if (any.sa.sa_family == AF_INET)
        any.v4.sin_addr.s_addr = INADDR_ANY;
    else if (any.sa.sa_family == AF_INET6)
        any.v6.sin6_addr = in6addr_any;
    listener = lt_map_find(&worker->by_address, lt_addr_format(&any, text));
    if (listener != NULL || any.sa.sa_family != AF_INET)
        return listener;
    /* "::" with ipv4_compat is any IPv4 address, too */
    (void)snprintf(text, sizeof(text), "[::]:%u", lt_addr_port(&any));
    listener = lt_map_find(&worker->by_address, lt_str_of(text));
    return listener != NULL && takes_v4(listener->conf, lt_str_of(text)) ? listener : NULL;
}

/* --- following a snapshot --- */

struct confs {
    struct lt_map by_name; /* const struct px_listener_conf */
};

static void add_conf(void *ctx, const void *at)
{
    struct confs *confs = ctx;
    const struct px_listener_entry *entry = at;
    lt_map_put(&confs->by_name, entry->conf->res.name, (void *)entry->conf);
}

static bool has_same_addresses(const struct px_listener_conf *a, const struct px_listener_conf *b)
{
    bool is_same = lt_addr_eq(&a->addr, &b->addr) && a->v6_only == b->v6_only &&
                   a->more_addr_count == b->more_addr_count;
    for (size_t i = 0; is_same && i < a->more_addr_count; i++)
        is_same = lt_addr_eq(&a->more_addrs[i].addr, &b->more_addrs[i].addr) &&
                  a->more_addrs[i].v6_only == b->more_addrs[i].v6_only;
    return is_same;
}

static bool keeps_socket(const struct px_listener_conf *before,
                         const struct px_listener_conf *after)
{
    return after != NULL && before->bind_to_port == after->bind_to_port &&
           before->transparent == after->transparent && before->reuse_port == after->reuse_port &&
           has_same_addresses(before, after);
}

/*
 * Those that stay keep their socket and take the new configuration for the connections to come;
 * those that went are closed before new ones open, for one may take over the other's address. The
 * map's keys are names in the configurations: they move with them.
 */
lt_rc px_listeners_update(struct px_worker *worker, struct lt_err *err)
{
    struct confs confs = {0};
    struct lt_map before = worker->listeners;
    px_shelf_each(&worker->pin->snapshot->listeners, add_conf, &confs);
    lt_map_init(&worker->listeners);
    for (size_t i = 0; i < before.count; i++) {
        struct px_listener *listener = before.entries[i].value;
        const struct px_listener_conf *conf = lt_map_find(&confs.by_name, before.entries[i].key);
        if (keeps_socket(listener->conf, conf)) {
            listener->conf = conf;
            lt_map_put(&worker->listeners, conf->res.name, listener);
        } else {
            close_listener(listener);
            bury(listener);
        }
    }
    lt_map_fini(&before);
    lt_rc first = LT_OK;
    for (size_t i = 0; i < confs.by_name.count; i++) {
        const struct px_listener_conf *conf = confs.by_name.entries[i].value;
        if (lt_map_find(&worker->listeners, conf->res.name) != NULL)
            continue;
        struct lt_err one = {0};
        lt_rc rc = open_listener(worker, conf, &one);
        if (rc != LT_OK && first == LT_OK) {
            first = rc;
            *err = one;
        }
    }
    lt_map_fini(&confs.by_name);
    index_addresses(worker);
    px_handed_follow(worker);
    return first;
}

void px_listeners_stop(struct px_worker *worker, px_scope scope)
{
    worker->stopped = LT_MAX(worker->stopped, scope);
    for (size_t i = 0; i < worker->listeners.count; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        if (px_drain_covers(listener->conf, scope))
            close_listener(listener);
    }
    px_handed_follow(worker);
}

void px_listeners_close(struct px_worker *worker)
{
    lt_map_fini(&worker->by_address);
    for (size_t i = 0; i < worker->listeners.count; i++) {
        close_listener(worker->listeners.entries[i].value);
        bury(worker->listeners.entries[i].value);
    }
    lt_map_fini(&worker->listeners);
    px_handed_follow(worker);
}
