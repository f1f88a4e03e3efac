/*
 * proxy/filter/net_connection_limit.c - envoy.filters.network.connection_limit: those beyond the
 * limit end, at once or after a while, so that clients which try again at once do so more slowly.
 */
#include <stdatomic.h>

#include "proxy/conf/connection_limit.h"
#include "proxy/run/net_filter.h"
#include "proxy/told/count.h"

/* What a connection counts in until it ends (px_conn_more_free). */
static void hold(struct px_conn *conn, const struct px_connection_limit *limit)
{
    struct px_conn_more *more = px_conn_more(conn);
    struct px_conn_count *count = lt_arena_make(more->arena, struct px_conn_count);
    *count = (struct px_conn_count){more->counts, limit->active};
    more->counts = count;
}

struct waiting {
    struct px_conn *conn;
    struct lt_timer timer;
};

static void on_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct waiting *waiting = LT_CONTAINER_OF(timer, struct waiting, timer);
    waiting->conn->more->net_state = NULL;
    px_net_filters_resume(waiting->conn, PX_STOP);
}

static px_verdict refuse_later(struct px_conn *conn, uint64_t delay_ms)
{
    struct px_conn_more *more = px_conn_more(conn);
    struct waiting *waiting = lt_arena_make(more->arena, struct waiting);
    waiting->conn = conn;
    lt_timer_init(&waiting->timer, on_over);
    more->net_state = waiting;
    lt_loop_timer_set(conn->worker->loop, &waiting->timer, delay_ms * LT_NS_PER_MS);
    return PX_STAY;
}

static px_verdict on_connection(struct px_conn *conn, const struct px_net_filter *filter)
{
    const struct px_connection_limit *limit = filter->conf;
    if (limit->is_off)
        return PX_GO;
    if (atomic_fetch_add_explicit(limit->active, 1, memory_order_relaxed) < limit->max) {
        hold(conn, limit);
        return PX_GO;
    }
    atomic_fetch_sub_explicit(limit->active, 1, memory_order_relaxed);
    px_stat_add(conn->worker, &limit->limited, 1);
    px_net_refuse(conn, NULL, 0);
    return limit->delay_ms == 0 ? PX_STOP : refuse_later(conn, limit->delay_ms);
}

static void on_end(struct px_conn *conn, const struct px_net_filter *filter LT_UNUSED)
{
    struct waiting *waiting = conn->more->net_state;
    if (waiting != NULL)
        lt_loop_timer_cancel(conn->worker->loop, &waiting->timer);
    conn->more->net_state = NULL;
}

const struct px_net_ops px_net_connection_limit = {
    .name = "envoy.filters.network.connection_limit",
    .on_connection = on_connection,
    .on_end = on_end,
};
