/*
 * http/grpc_server.c - listening, accepting, draining, and the end of a gRPC server.
 * Connections and calls: grpc_server_conn.c.
 * Start at: lt_grpc_server_listen(), on_acceptable().
 */
#include "http/grpc_server_priv.h"

#include <stdlib.h>
#include <unistd.h>

enum { ACCEPTS_A_TURN = 64 };
static const uint64_t ACCEPT_PAUSE_NS = 100 * LT_NS_PER_MS;

struct lt_grpc_server *lt_grpc_server_new(struct lt_loop *loop,
                                          const struct lt_grpc_server_opts *opts,
                                          const struct lt_grpc_method *methods, size_t count)
{
    struct lt_grpc_server *server = lt_new(struct lt_grpc_server);
    server->loop = loop;
    server->opts = opts != NULL ? *opts : LT_GRPC_SERVER_OPTS_DEFAULT;
    server->methods = methods;
    server->method_count = count;
    lt_list_init(&server->conns);
    lt_prng_seed(&server->prng, lt_loop_env(loop));
    return server;
}

/* --- listening --- */

/* Out of descriptors: the waiting connection would wake us again at once, for nothing. */
static void pause_accepting(struct lt_grpc_listener *listener)
{
    struct lt_loop *loop = listener->server->loop;
    lt_loop_io_del(loop, &listener->io);
    lt_loop_timer_set(loop, &listener->pause, ACCEPT_PAUSE_NS);
}

static void on_pause_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_grpc_listener *listener = LT_CONTAINER_OF(timer, struct lt_grpc_listener, pause);
    lt_loop_io_set(listener->server->loop, &listener->io, EPOLLIN);
}

static void open_conn(struct lt_grpc_server *server, int fd, const struct lt_addr *peer,
                      uint32_t listener)
{
    server->stats.connections_total++;
    if (server->stats.connections >= server->opts.connections_max) {
        server->stats.connections_refused++;
        close(fd);
        return;
    }
    lt_grpc_server_conn_open(server, fd, peer, listener);
}

static void on_acceptable(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct lt_grpc_listener *listener = LT_CONTAINER_OF(io, struct lt_grpc_listener, io);
    struct lt_grpc_server *server = listener->server;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = -1;
        struct lt_addr peer = {0};
        lt_rc rc = lt_sock_accept(io->fd, &fd, &peer);
        if (rc == LT_AGAIN)
            return;
        if (rc != LT_OK) {
            pause_accepting(listener);
            return;
        }
        open_conn(server, fd, &peer, (uint32_t)(listener - server->listeners));
    }
}

void lt_grpc_server_adopt(struct lt_grpc_server *server, int fd, const struct lt_addr *peer)
{
    if (server->is_draining)
        close(fd);
    else
        open_conn(server, fd, peer, LT_GRPC_ADOPTED);
}

lt_rc lt_grpc_server_listen_fd(struct lt_grpc_server *server, int fd, struct lt_tls_ctx *tls,
                               uint32_t *ret_listener, struct lt_err *err)
{
    LT_ASSERT(!server->is_draining);
    if (server->listener_count == LT_GRPC_LISTENERS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "a gRPC server has at most %d listeners",
                          LT_GRPC_LISTENERS_MAX);
    struct lt_grpc_listener *listener = &server->listeners[server->listener_count];
    listener->server = server;
    listener->tls = tls != NULL ? lt_tls_ctx_ref(tls) : NULL;
    lt_io_init(&listener->io, on_acceptable);
    lt_timer_init(&listener->pause, on_pause_over);
    listener->io.fd = fd;
    lt_loop_io_set(server->loop, &listener->io, EPOLLIN);
    if (ret_listener != NULL)
        *ret_listener = server->listener_count;
    server->listener_count++;
    return LT_OK;
}

lt_rc lt_grpc_server_listen(struct lt_grpc_server *server, const struct lt_addr *addr,
                            const struct lt_listen_opts *listen_opts, struct lt_tls_ctx *tls,
                            uint32_t *ret_listener, struct lt_err *err)
{
    int fd = -1;
    LT_TRY(lt_sock_listen(addr, listen_opts, &fd, err));
    lt_rc rc = lt_grpc_server_listen_fd(server, fd, tls, ret_listener, err);
    if (rc != LT_OK)
        close(fd);
    return rc;
}

void lt_grpc_server_local(const struct lt_grpc_server *server, uint32_t listener,
                          struct lt_addr *ret_addr)
{
    LT_ASSERT(listener < server->listener_count);
    lt_rc rc = lt_sock_local(server->listeners[listener].io.fd, ret_addr);
    LT_ASSERT(rc == LT_OK);
}

void lt_grpc_server_set_tls(struct lt_grpc_server *server, uint32_t listener,
                            struct lt_tls_ctx *tls)
{
    LT_ASSERT(listener < server->listener_count && tls != NULL);
    struct lt_tls_ctx *old = server->listeners[listener].tls;
    LT_ASSERT(old != NULL);
    server->listeners[listener].tls = lt_tls_ctx_ref(tls);
    lt_tls_ctx_unref(&old);
}

static void close_listeners(struct lt_grpc_server *server)
{
    for (uint32_t i = 0; i < server->listener_count; i++) {
        struct lt_grpc_listener *listener = &server->listeners[i];
        if (listener->io.fd < 0)
            continue;
        lt_loop_io_del(server->loop, &listener->io);
        lt_loop_timer_cancel(server->loop, &listener->pause);
        close(listener->io.fd);
        listener->io.fd = -1;
        lt_tls_ctx_unref(&listener->tls);
    }
}

/* --- the end --- */

void lt_grpc_server_drain(struct lt_grpc_server *server, uint64_t grace_ns)
{
    if (server->is_draining)
        return;
    server->is_draining = true;
    close_listeners(server);
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&server->conns, link, next)
        lt_grpc_server_conn_drain(lt_grpc_server_conn_of(link), grace_ns);
}

static void run_done(struct lt_task *task)
{
    struct lt_grpc_server *server = LT_CONTAINER_OF(task, struct lt_grpc_server, done);
    void (*on_closed)(void *ctx) = server->on_closed;
    void *ctx = server->on_closed_ctx;
    LT_ASSERT(lt_list_is_empty(&server->conns));
    free(server);
    if (on_closed != NULL)
        on_closed(ctx);
}

void lt_grpc_server_forget(struct lt_grpc_server *server)
{
    server->stats.connections--;
    if (server->is_closing && lt_list_is_empty(&server->conns))
        lt_loop_defer(server->loop, &server->done);
}

void lt_grpc_server_close(struct lt_grpc_server **server_ref, void (*on_closed)(void *ctx),
                          void *ctx)
{
    struct lt_grpc_server *server = *server_ref;
    if (server == NULL)
        return;
    *server_ref = NULL;
    server->is_draining = true;
    server->is_closing = true;
    server->on_closed = on_closed;
    server->on_closed_ctx = ctx;
    lt_task_init(&server->done, run_done);
    close_listeners(server);
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&server->conns, link, next)
        lt_grpc_server_conn_kill(lt_grpc_server_conn_of(link));
    if (lt_list_is_empty(&server->conns))
        lt_loop_defer(server->loop, &server->done);
}

const struct lt_grpc_server_stats *lt_grpc_server_stats(const struct lt_grpc_server *server)
{
    return &server->stats;
}
