/*
 * http/grpc_client.c - a channel: one address, at most one connection for new calls, and the waits
 * between attempts. Calls: grpc_call.c. Everything happens in run_work, a task at the end of the
 * turn, so that no owner is called from inside its own call.
 * Start at: lt_grpc_channel_new(), run_work().
 */
#include "http/grpc_client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A connection that stood shorter is a failure as far as the back-off is concerned. */
static const uint64_t STOOD_NS = 5 * LT_NS_PER_S;

const char *lt_grpc_channel_state_name(lt_grpc_channel_state state)
{
    switch (state) {
    case LT_GRPC_IDLE: return "idle";
    case LT_GRPC_CONNECTING: return "connecting";
    case LT_GRPC_READY: return "ready";
    case LT_GRPC_BACKING_OFF: return "backing off";
    }
    LT_UNREACHABLE();
}

void lt_grpc_channel_kick(struct lt_grpc_channel *channel)
{
    lt_loop_defer(channel->loop, &channel->work);
}

static void set_state(struct lt_grpc_channel *channel, lt_grpc_channel_state state)
{
    channel->state = state;
    lt_grpc_channel_kick(channel);
}

/* --- a connection comes and goes --- */

static void back_off(struct lt_grpc_channel *channel)
{
    set_state(channel, LT_GRPC_BACKING_OFF);
    lt_loop_timer_set(channel->loop, &channel->backoff_timer,
                      lt_backoff_next_ns(&channel->backoff, &channel->prng));
}

static void on_backoff_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    set_state(LT_CONTAINER_OF(timer, struct lt_grpc_channel, backoff_timer), LT_GRPC_IDLE);
}

static void lost_current(struct lt_grpc_channel *channel, const struct lt_grpc_client_conn *conn)
{
    channel->current = NULL;
    snprintf(channel->reason, sizeof(channel->reason), "%s", conn->base.cause);
    uint64_t now_ns = lt_loop_now_ns(channel->loop);
    if (conn->ready_at_ns != 0 && now_ns - conn->ready_at_ns >= STOOD_NS) {
        lt_backoff_reset(&channel->backoff);
        set_state(channel, LT_GRPC_IDLE);
        return;
    }
    if (conn->ready_at_ns == 0)
        lt_grpc_calls_fail_waiting(channel);
    back_off(channel);
}

static void on_gone(struct lt_grpc_conn *base)
{
    struct lt_grpc_client_conn *conn = LT_CONTAINER_OF(base, struct lt_grpc_client_conn, base);
    struct lt_grpc_channel *channel = conn->channel;
    lt_list_remove(&conn->link);
    if (channel->current == conn && !channel->is_closing)
        lost_current(channel, conn);
    free(conn);
    lt_grpc_channel_kick(channel);
}

/* Streams may have ended: there may be room for calls that wait. */
static void on_turn(struct lt_grpc_conn *base)
{
    struct lt_grpc_client_conn *conn = LT_CONTAINER_OF(base, struct lt_grpc_client_conn, base);
    struct lt_grpc_channel *channel = conn->channel;
    if (channel->current == conn && channel->waiting_count > 0 && lt_h2_conn_can_open(base->h2))
        lt_grpc_channel_kick(channel);
}

static const struct lt_grpc_conn_ops CONN_OPS = {.on_gone = on_gone, .on_turn = on_turn};

void lt_grpc_client_on_settings(struct lt_h2_conn *h2)
{
    struct lt_grpc_client_conn *conn = lt_h2_conn_user(h2);
    lt_grpc_conn_established(&conn->base);
    if (conn->ready_at_ns == 0)
        conn->ready_at_ns = LT_MAX(lt_loop_now_ns(conn->base.loop), (uint64_t)1);
    if (conn->channel->current != conn)
        return;
    conn->channel->is_wanted = false;
    set_state(conn->channel, LT_GRPC_READY);
}

/* The connection goes on with its calls and ends by itself; the next call gets a new one. */
static void retire(struct lt_grpc_channel *channel)
{
    struct lt_grpc_client_conn *conn = channel->current;
    if (conn == NULL)
        return;
    channel->current = NULL;
    if (conn->base.is_established)
        lt_h2_conn_goaway(conn->base.h2, LT_H2_NO_ERROR, LT_STR_NULL);
    else
        lt_grpc_conn_die(&conn->base, "replaced");
    lt_grpc_conn_kick(&conn->base);
    set_state(channel, LT_GRPC_IDLE);
}

void lt_grpc_client_on_goaway(struct lt_h2_conn *h2, uint32_t last_stream_id LT_UNUSED,
                              uint32_t code LT_UNUSED, lt_str debug LT_UNUSED)
{
    struct lt_grpc_client_conn *conn = lt_h2_conn_user(h2);
    struct lt_grpc_channel *channel = conn->channel;
    if (channel->current != conn || channel->is_closing)
        return;
    bool stood = conn->ready_at_ns != 0 &&
                 lt_loop_now_ns(channel->loop) - conn->ready_at_ns >= STOOD_NS;
    snprintf(channel->reason, sizeof(channel->reason), "the server sent GOAWAY (%s)",
             lt_h2_code_name(code));
    retire(channel);
    if (stood)
        lt_backoff_reset(&channel->backoff);
    else
        back_off(channel);
}

/* --- connecting --- */

static struct lt_h2_conn *make_h2(struct lt_grpc_client_conn *conn)
{
    const struct lt_grpc_channel_opts *opts = &conn->channel->opts;
    struct lt_h2_opts h2 = LT_H2_OPTS_DEFAULT;
    h2.stream_window_bytes = opts->stream_window_bytes;
    h2.conn_window_bytes = opts->conn_window_bytes;
    h2.header_list_bytes_max = opts->header_list_bytes_max;
    h2.send_queue_bytes = opts->send_queue_bytes;
    h2.send_queue_bytes_max = opts->send_queue_bytes_max;
    return lt_h2_conn_new(&h2, &lt_grpc_call_events, conn);
}

static struct lt_transport make_transport(const struct lt_grpc_channel_opts *opts, int fd)
{
    static const lt_str alpn[] = {{"h2", 2}};
    struct lt_transport transport;
    if (opts->tls == NULL) {
        lt_transport_init_raw(&transport, fd);
        return transport;
    }
    struct lt_tls_conn_opts tls = {.sni = opts->sni,
                                   .alpn = alpn,
                                   .alpn_count = LT_ARRAY_LEN(alpn),
                                   .sans = opts->sans,
                                   .san_count = opts->san_count};
    lt_transport_init_tls(&transport, fd, opts->tls, &tls);
    return transport;
}

static void start_connecting(struct lt_grpc_channel *channel)
{
    int fd = -1;
    if (lt_sock_connect(&channel->opts.addr, NULL, &fd) != LT_OK) {
        snprintf(channel->reason, sizeof(channel->reason), "cannot connect: %s",
                 strerrordesc_np(errno));
        lt_grpc_calls_fail_waiting(channel);
        back_off(channel);
        return;
    }
    struct lt_grpc_client_conn *conn = lt_new(struct lt_grpc_client_conn);
    conn->channel = channel;
    lt_grpc_conn_init(&conn->base, channel->loop, &CONN_OPS, make_transport(&channel->opts, fd),
                      make_h2(conn), false, true, channel->opts.connect_timeout_ns);
    lt_grpc_conn_set_keepalive(&conn->base, channel->opts.keepalive_interval_ns,
                               channel->opts.keepalive_timeout_ns);
    lt_list_push_back(&channel->conns, &conn->link);
    channel->current = conn;
    channel->reason[0] = '\0';
    set_state(channel, LT_GRPC_CONNECTING);
}

/* --- the turn --- */

static void end_channel(struct lt_grpc_channel *channel)
{
    void (*on_closed)(void *ctx) = channel->on_closed;
    void *ctx = channel->on_closed_ctx;
    lt_task_cancel(&channel->work);
    lt_loop_timer_cancel(channel->loop, &channel->backoff_timer);
    lt_tls_ctx_unref(&channel->opts.tls);
    lt_arena_free(&channel->arena);
    free(channel);
    if (on_closed != NULL)
        on_closed(ctx);
}

static void tell_state(struct lt_grpc_channel *channel)
{
    if (channel->told_state == channel->state)
        return;
    channel->told_state = channel->state;
    if (channel->on_state != NULL && !channel->is_closing)
        channel->on_state(channel->ctx, channel->state, channel->reason);
}

static void run_work(struct lt_task *task)
{
    struct lt_grpc_channel *channel = LT_CONTAINER_OF(task, struct lt_grpc_channel, work);
    if (channel->is_closing)
        lt_grpc_calls_cancel_all(channel);
    lt_grpc_calls_report_ended(channel);
    tell_state(channel);
    if (channel->is_closing) {
        if (lt_list_is_empty(&channel->conns) && lt_list_is_empty(&channel->ended) &&
            lt_list_is_empty(&channel->waiting) && lt_list_is_empty(&channel->parked))
            end_channel(channel);
        return;
    }
    if (channel->state == LT_GRPC_IDLE && (channel->is_wanted || channel->waiting_count > 0))
        start_connecting(channel);
    if (channel->state == LT_GRPC_READY)
        lt_grpc_calls_start_waiting(channel);
}

/* --- what owners call --- */

static void copy_opts(struct lt_grpc_channel *channel, const struct lt_grpc_channel_opts *opts)
{
    channel->arena = lt_arena_new(512, 0);
    channel->opts = *opts;
    channel->opts.authority = lt_arena_str(channel->arena, opts->authority);
    channel->opts.sni = lt_arena_str(channel->arena, opts->sni);
    struct lt_san_matcher *sans = lt_arena_make_n(channel->arena, struct lt_san_matcher,
                                                  opts->san_count);
    for (size_t i = 0; i < opts->san_count; i++) {
        sans[i] = opts->sans[i];
        sans[i].value = lt_arena_str(channel->arena, opts->sans[i].value);
    }
    channel->opts.sans = sans;
    if (opts->tls != NULL)
        lt_tls_ctx_ref(opts->tls);
}

struct lt_grpc_channel *lt_grpc_channel_new(struct lt_loop *loop,
                                            const struct lt_grpc_channel_opts *opts,
                                            lt_grpc_channel_fn *on_state, void *ctx)
{
    LT_ASSERT(opts->addr.len > 0);
    struct lt_grpc_channel *channel = lt_new(struct lt_grpc_channel);
    channel->loop = loop;
    channel->on_state = on_state;
    channel->ctx = ctx;
    copy_opts(channel, opts);
    lt_list_init(&channel->conns);
    lt_list_init(&channel->waiting);
    lt_list_init(&channel->parked);
    lt_list_init(&channel->ended);
    lt_backoff_init(&channel->backoff, opts->backoff_base_ns, opts->backoff_max_ns);
    lt_timer_init(&channel->backoff_timer, on_backoff_over);
    lt_task_init(&channel->work, run_work);
    lt_prng_seed(&channel->prng, lt_loop_env(loop));
    return channel;
}

void lt_grpc_channel_set_addr(struct lt_grpc_channel *channel, const struct lt_addr *addr)
{
    channel->opts.addr = *addr;
}

void lt_grpc_channel_set_tls(struct lt_grpc_channel *channel, struct lt_tls_ctx *tls)
{
    struct lt_tls_ctx *old = channel->opts.tls;
    channel->opts.tls = tls != NULL ? lt_tls_ctx_ref(tls) : NULL;
    lt_tls_ctx_unref(&old);
}

void lt_grpc_channel_renew(struct lt_grpc_channel *channel)
{
    retire(channel);
}

lt_str lt_grpc_channel_authority(struct lt_grpc_channel *channel)
{
    const struct lt_addr *addr = &channel->opts.addr;
    if (channel->opts.authority.len > 0)
        return channel->opts.authority;
    if (addr->sa.sa_family == AF_UNIX)
        return LT_STR("localhost");
    char text[LT_ADDR_TEXT_MAX];
    channel->opts.authority = lt_arena_str(channel->arena, lt_addr_format(addr, text));
    return channel->opts.authority;
}

void lt_grpc_channel_close(struct lt_grpc_channel **channel_ref, void (*on_closed)(void *ctx),
                           void *ctx)
{
    struct lt_grpc_channel *channel = *channel_ref;
    if (channel == NULL)
        return;
    *channel_ref = NULL;
    channel->is_closing = true;
    channel->on_closed = on_closed;
    channel->on_closed_ctx = ctx;
    channel->current = NULL;
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&channel->conns, link, next) {
        struct lt_grpc_client_conn *conn = LT_CONTAINER_OF(link, struct lt_grpc_client_conn, link);
        lt_grpc_conn_die(&conn->base, "the channel closes");
    }
    lt_grpc_channel_kick(channel);
}
