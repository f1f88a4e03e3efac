/*
 * proxy/http/h2_link.c - reading into and writing out of an HTTP/2 engine.
 */
#include "proxy/http/h2_link.h"

#include "proxy/told/codec_stats.h"

enum {
    READS_PER_TURN = 16,
    IOVS = 64,
    ROUND_TRIP_MAX_MS = 1000, /* a client that doesn't answer pings is waited for so long */
};

static void on_timer(struct lt_timer *timer, uint64_t now_ns);

struct px_h2_link *px_h2_link_new(struct px_worker *worker, const struct lt_h2_opts *opts,
                                  const struct lt_h2_events *events, void *owner)
{
    struct px_h2_link *link = lt_new(struct px_h2_link);
    link->worker = worker;
    link->heard_ns = px_now_ns(worker);
    link->owner = owner;
    lt_list_init(&link->dirty);
    lt_timer_init(&link->timer, on_timer);
    link->conn = lt_h2_conn_new(opts, events, owner);
    return link;
}

static void tell_news(struct px_h2_link *link)
{
    const struct lt_h2_stats *stats = lt_h2_conn_stats(link->conn);
    if (stats->news != link->told.news)
        px_codec_count_h2(link->worker, stats, &link->told, link->hcm, link->cluster);
}

void px_h2_link_free(struct px_h2_link **pointer)
{
    struct px_h2_link *link = *pointer;
    *pointer = NULL;
    if (link == NULL)
        return;
    tell_news(link);
    lt_list_remove(&link->dirty);
    lt_loop_timer_cancel(link->worker->loop, &link->timer);
    lt_h2_conn_free(&link->conn);
    px_bury(link->worker, link);
}

void px_h2_link_touch(struct px_h2_link *link)
{
    if (lt_list_is_linked(&link->dirty))
        return;
    lt_list_push_back(&link->worker->dirty, &link->dirty);
    lt_loop_defer(link->worker->loop, &link->worker->turn);
}

static void cut(struct px_h2_link *link)
{
    link->is_over = link->is_cut = true;
}

/* --- pings, and the end of a drain --- */

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns == 0 ? b_ns : b_ns == 0 ? a_ns : LT_MIN(a_ns, b_ns);
}

static void arm(struct px_h2_link *link)
{
    uint64_t due_ns = earlier(earlier(link->ping_at_ns, link->pong_until_ns), link->goaway_at_ns);
    uint64_t now_ns = px_now_ns(link->worker);
    if (due_ns == 0)
        lt_loop_timer_cancel(link->worker->loop, &link->timer);
    else
        lt_loop_timer_set(link->worker->loop, &link->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void ping(struct px_h2_link *link, uint64_t timeout_ms)
{
    uint64_t now_ns = px_now_ns(link->worker);
    lt_h2_conn_ping(link->conn, now_ns);
    link->ping_at_ns = 0;
    link->pong_until_ns = now_ns + timeout_ms * LT_NS_PER_MS;
    px_h2_link_touch(link);
}

static void plan_ping(struct px_h2_link *link)
{
    uint64_t interval_ms = link->ping_interval_ms;
    if (interval_ms == 0)
        return;
    uint64_t jitter_ms = interval_ms * link->ping_jitter_percent / 100;
    if (jitter_ms > 0)
        interval_ms += lt_prng_next(&link->worker->prng) % jitter_ms;
    link->ping_at_ns = px_now_ns(link->worker) + interval_ms * LT_NS_PER_MS;
}

void px_h2_link_keep_alive(struct px_h2_link *link, const struct px_h2_options *options)
{
    link->ping_interval_ms = (uint32_t)LT_MIN(options->ping_interval_ms, (uint64_t)UINT32_MAX);
    link->ping_timeout_ms = (uint32_t)LT_MIN(options->ping_timeout_ms, (uint64_t)UINT32_MAX);
    link->ping_jitter_percent = options->ping_jitter_percent;
    if (link->ping_interval_ms == 0)
        return;
    plan_ping(link);
    arm(link);
}

void px_h2_link_ping_if_quiet(struct px_h2_link *link, const struct px_h2_options *options)
{
    uint64_t quiet_ns = px_now_ns(link->worker) - link->heard_ns;
    if (options->ping_idle_ms == 0 || link->pong_until_ns != 0 ||
        quiet_ns < options->ping_idle_ms * LT_NS_PER_MS)
        return;
    ping(link, options->ping_timeout_ms);
    arm(link);
}

static void say_last_goaway(struct px_h2_link *link)
{
    link->goaway_at_ns = 0;
    link->goes_by_pong = false;
    lt_h2_conn_goaway(link->conn, LT_H2_NO_ERROR, LT_STR_NULL);
    px_h2_link_touch(link);
}

void px_h2_link_on_pong(struct px_h2_link *link)
{
    if (link->pong_until_ns == 0)
        return;
    link->pong_until_ns = 0;
    if (link->goes_by_pong)
        say_last_goaway(link);
    plan_ping(link);
    arm(link);
}

void px_h2_link_drain(struct px_h2_link *link, uint64_t drain_ms)
{
    if (link->is_draining)
        return;
    link->is_draining = true;
    lt_h2_conn_shutdown_notice(link->conn);
    link->goes_by_pong = drain_ms == 0;
    if (link->goes_by_pong)
        ping(link, ROUND_TRIP_MAX_MS);
    else
        link->goaway_at_ns = px_now_ns(link->worker) + drain_ms * LT_NS_PER_MS;
    px_h2_link_touch(link);
    arm(link);
}

static void on_silence(struct px_h2_link *link)
{
    link->pong_until_ns = 0;
    if (link->goes_by_pong) {
        say_last_goaway(link);
        return;
    }
    if (link->cluster != NULL)
        px_codec_count_upstream(link->cluster, PX_CODEC_KEEPALIVE_TIMEOUT);
    else
        px_codec_count(link->worker, PX_PROTO_H2, PX_CODEC_KEEPALIVE_TIMEOUT);
    cut(link);
    px_h2_link_touch(link);
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_h2_link *link = LT_CONTAINER_OF(timer, struct px_h2_link, timer);
    if (link->pong_until_ns != 0 && now_ns >= link->pong_until_ns)
        on_silence(link);
    if (link->goaway_at_ns != 0 && now_ns >= link->goaway_at_ns)
        say_last_goaway(link);
    if (link->ping_at_ns != 0 && now_ns >= link->ping_at_ns)
        ping(link, link->ping_timeout_ms);
    arm(link);
}

/* --- bytes --- */

void px_h2_link_read(struct px_h2_link *link)
{
    struct px_worker *worker = link->worker;
    px_h2_link_touch(link);
    for (int reads = 0; *link->can_read && !link->is_over; reads++) {
        if (reads == READS_PER_TURN || worker->is_choked) {
            link->wants_read = true;
            break;
        }
        lt_rc rc = px_input_read(worker, link->in, link->transport, link->can_read);
        if (rc == LT_AGAIN)
            break;
        if (rc != LT_OK) {
            cut(link);
            break;
        }
        link->heard_ns = px_now_ns(worker);
        rc = lt_h2_conn_feed(link->conn, px_input_unread(link->in), px_now_ns(worker));
        link->in->pos = link->in->end;
        if (rc != LT_OK)
            link->is_over = true; /* a GOAWAY may wait to be sent */
    }
    px_input_free(worker, link->in);
}

/* LT_OK: nothing is left. LT_AGAIN: the transport is full. */
static lt_rc write_out(struct px_h2_link *link)
{
    struct iovec iov[IOVS];
    while (*link->can_write) {
        int count = lt_h2_conn_drain(link->conn, iov, IOVS);
        if (count == 0)
            return LT_OK;
        size_t put = 0;
        lt_rc rc = lt_transport_writev(link->transport, iov, count, &put);
        if (rc == LT_AGAIN)
            *link->can_write = false;
        if (rc != LT_OK)
            return rc;
        lt_h2_conn_sent(link->conn, put);
    }
    return lt_h2_conn_has_output(link->conn) ? LT_AGAIN : LT_OK;
}

void px_h2_link_flush(struct px_h2_link *link)
{
    if (link->wants_read) {
        link->wants_read = false;
        px_h2_link_read(link);
    }
    lt_rc rc = link->is_cut ? LT_E_CLOSED : write_out(link);
    tell_news(link);
    if (rc == LT_AGAIN)
        return;
    if (rc != LT_OK)
        cut(link);
    if (link->is_over || lt_h2_conn_is_finished(link->conn))
        link->on_over(link);
}
