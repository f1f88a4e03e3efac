/*
 * proxy/run/drain.c - asking connections of one worker to leave: HTTP/1 hears "connection: close" with
 * its next response, HTTP/2 a GOAWAY that leaves it time and then one that doesn't, TCP nothing.
 * Who asks: /drain_listeners and the end of the process (by direction), /healthcheck/fail (all but
 * listeners with drain_type MODIFY_ONLY), a listener that went or changed. With the strategy
 * "gradual" each connection is asked at a moment of its own within the drain time, so that clients
 * do not come back all at once.
 * Start at: px_drain_ask().
 */
#include "proxy/http/h2_link.h"
#include "proxy/run/run.h"
#include "proxy/run/workers.h"

static bool is_in(const struct px_listener_conf *conf, px_scope scope)
{
    return scope == PX_SCOPE_ALL || (scope == PX_SCOPE_INBOUND && conf->is_inbound);
}

/* As Envoy counts it: once for each connection. */
static void count(struct px_conn *conn)
{
    static const lt_str label = {"envoy_http_conn_manager_prefix", 30};
    static const struct lt_metric_desc desc = {
        .name = {"envoy_http_downstream_cx_drain_close", 36},
        .kind = LT_METRIC_COUNTER,
        .stat = {"http.$0.downstream_cx_drain_close", 33},
        .labels = &label,
        .label_count = 1,
    };
    if (conn->chain == NULL || conn->chain->hcm == NULL)
        return;
    struct lt_metric_family *family = lt_metric_family(conn->worker->metrics, &desc);
    lt_counter_add(lt_metric_counter(family, &conn->chain->hcm->stat_prefix), 1);
}

void px_conn_leave(struct px_conn *conn)
{
    conn->is_draining = true;
    if (conn->state != PX_CONN_H2)
        return;
    if (conn->is_told) {
        px_h2_drain(conn);
        return;
    }
    conn->is_told = true;
    count(conn);
    px_h2_notice(conn);
    px_conn_leave_at(conn,
                     px_now_ns(conn->worker) + conn->chain->hcm->drain_timeout_ms * LT_NS_PER_MS);
}

void px_conn_count_leaving(struct px_conn *conn)
{
    if (!conn->is_told)
        count(conn);
    conn->is_told = true;
}

/* At once, or at its own moment of the span that began then. */
static void ask(struct px_conn *conn, uint64_t since_ns)
{
    struct px_worker *worker = conn->worker;
    const struct px_workers_opts *opts = &worker->owner->opts;
    if (conn->is_draining)
        return;
    uint64_t at_ns = since_ns;
    if (opts->drains_gradually && opts->drain_ms > 0)
        at_ns += lt_prng_next(&worker->prng) % (opts->drain_ms * LT_NS_PER_MS);
    if (at_ns <= px_now_ns(worker))
        px_conn_leave(conn);
    else
        px_conn_leave_at(conn, at_ns);
}

void px_conn_drain(struct px_conn *conn, uint64_t drain_ms)
{
    if (conn->drained_at_ns != 0)
        return;
    uint64_t now_ns = px_now_ns(conn->worker);
    ask(conn, now_ns);
    px_conn_end_at(conn, now_ns + drain_ms * LT_NS_PER_MS);
}

static bool fails_check(const struct px_worker *worker, const struct px_listener_conf *conf)
{
    return worker->check_failed && !conf->drains_on_change_only;
}

void px_drain_ask(struct px_worker *worker, px_scope scope)
{
    struct lt_list *it, *next;
    worker->leaving = LT_MAX(worker->leaving, scope);
    worker->leaving_since_ns = px_now_ns(worker);
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        if (is_in(conn->listener, scope))
            ask(conn, worker->leaving_since_ns);
    }
}

/* HTTP/2 that was told stays told: a GOAWAY can't be taken back. */
void px_drain_fail_check(struct px_worker *worker, bool fails)
{
    struct lt_list *it, *next;
    worker->check_failed = fails;
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        if (fails_check(worker, conn->listener))
            px_conn_leave(conn);
        else if (conn->drained_at_ns == 0 && !is_in(conn->listener, worker->leaving))
            conn->is_draining = false;
    }
}

void px_drain_accepted(struct px_conn *conn)
{
    struct px_worker *worker = conn->worker;
    if (worker->is_draining || fails_check(worker, conn->listener))
        conn->is_draining = true;
    else if (is_in(conn->listener, worker->leaving))
        ask(conn, worker->leaving_since_ns);
}

bool px_drain_covers(const struct px_listener_conf *conf, px_scope scope)
{
    return is_in(conf, scope);
}
