/*
 * proxy/http/deadlines.c - how long a request may take: the whole of it, its head and body, a try,
 * and what its client of gRPC says. How long nothing may move: the codecs (down_h1.c, down_h2.c).
 * Start at: px_deadlines_begin(), px_deadlines_route().
 */
#include <inttypes.h>

#include "http/grpc.h"
#include "proxy/conf/log_filter.h"
#include "proxy/http/request.h"

/* --- when it is late --- */

/* The client may have asked for a quiet answer (x-envoy-upstream-rq-timeout-alt-response). */
static void reply_timeout(struct px_request *request, const char *details)
{
    if (request->answers_timeout_with_204)
        px_request_reply(request, 204, PX_FLAG_UPSTREAM_TIMEOUT, details, LT_STR_NULL, NULL);
    else
        px_request_reply(request, 504, PX_FLAG_UPSTREAM_TIMEOUT, details,
                         LT_STR("upstream request timeout"), "text/plain");
}

static void on_route_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, timer);
    if (request->cluster != NULL) {
        px_cluster_count(request->cluster, PX_STAT_RQ_TIMEOUT);
        if (request->host != NULL) {
            request->host->rq_timeout++;
            if (request->state == PX_RQ_FLOW && !request->response_begun)
                px_host_note_timeout(request->host);
        }
    }
    reply_timeout(request, "response_timeout");
    px_request_run(request);
}

/* HttpConnectionManager.request_timeout: until the request is complete. */
static void on_request_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, timer);
    if (px_request_is_read(request))
        return;
    px_request_reply(request, 408, 0, "request_overall_timeout", LT_STR("request timeout"),
                     "text/plain");
    px_request_run(request);
}

static void on_life_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, life_timer);
    request->reply_grpc_status = LT_GRPC_DEADLINE_EXCEEDED;
    px_request_reply(request, px_request_is_read(request) ? 504 : 408, 0, "max_duration_timeout",
                     LT_STR("downstream duration timeout"), "text/plain");
    px_request_run(request);
}

static void per_try_timeout(struct px_request *request)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_PER_TRY_TIMEOUT);
    if (request->host != NULL) {
        request->host->rq_timeout++;
        px_host_note_timeout(request->host);
    }
    request->is_timeout_retry = true;
    if (!px_request_retry_failure(request, PX_FAIL_TIMEOUT))
        reply_timeout(request, "upstream_per_try_timeout");
}

/* A back-off has ended, or a try has lasted too long. */
static void on_try_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, try_timer);
    if (request->state == PX_RQ_WAIT)
        px_request_try(request);
    else
        per_try_timeout(request);
    px_request_run(request);
}

static void per_try_idle(struct px_request *request)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_PER_TRY_IDLE);
    if (request->host != NULL) {
        request->host->rq_timeout++;
        px_host_note_timeout(request->host);
    }
    if (!request->response_begun && px_request_retry_failure(request, PX_FAIL_TIMEOUT))
        return;
    px_request_reply(request, 504, PX_FLAG_STREAM_IDLE, "upstream_per_try_idle_timeout",
                     LT_STR("upstream request timeout"), "text/plain");
}

static void on_try_idle(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_rare_timers, try_idle)->request;
    per_try_idle(request);
    px_request_run(request);
}

static void on_try_life(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_rare_timers, try_life)->request;
    px_cluster_count(request->cluster, PX_STAT_RQ_MAX_DURATION);
    if (request->response_begun || !px_request_retry_failure(request, PX_FAIL_TIMEOUT))
        px_request_reply(request, 504, PX_FLAG_MAX_DURATION, "upstream_max_stream_duration_reached",
                         LT_STR("upstream max stream duration reached"), "text/plain");
    px_request_run(request);
}

static void log_again(struct px_request *request)
{
    lt_loop_timer_set(request->worker->loop, &px_request_rare(request)->log,
                      request->hcm->log_times.every_ms * LT_NS_PER_MS);
}

static void on_log(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_rare_timers, log)->request;
    px_request_log(request, PX_LOG_TYPE_HTTP_PERIODIC);
    log_again(request);
}

void px_request_log_on_way(struct px_request *request)
{
    if (request->hcm->log_times.at_start)
        px_request_log(request, PX_LOG_TYPE_HTTP_START);
    if (request->hcm->log_times.every_ms != 0)
        log_again(request);
}

struct px_rare_timers *px_request_rare(struct px_request *request)
{
    if (request->rare != NULL)
        return request->rare;
    struct px_rare_timers *rare = lt_arena_make(request->arena, struct px_rare_timers);
    rare->request = request;
    lt_timer_init(&rare->try_idle, on_try_idle);
    lt_timer_init(&rare->try_life, on_try_life);
    lt_timer_init(&rare->log, on_log);
    request->rare = rare;
    return rare;
}

/* --- what is allowed --- */

static lt_rc client_timeout(const struct px_request *request, uint64_t *ret_ms)
{
    uint64_t timeout_ns = 0;
    const struct lt_header *header = lt_headers_find(&request->head.headers, LT_H_GRPC_TIMEOUT);
    if (header == NULL || lt_grpc_timeout_parse(header->value, &timeout_ns) != LT_OK)
        return LT_E_BAD;
    /* less than a millisecond is not for ever */
    *ret_ms = timeout_ns / LT_NS_PER_MS + (timeout_ns % LT_NS_PER_MS != 0);
    return LT_OK;
}

/* The host is told what is left for it. */
static void tell_host(struct px_request *request, uint64_t timeout_ms)
{
    /* eight digits at most */
    lt_str value = timeout_ms <= 99999999
                       ? lt_arena_printf(request->arena, "%" PRIu64 "m", timeout_ms)
                       : lt_arena_printf(request->arena, "%" PRIu64 "H",
                                         LT_MIN(timeout_ms / 3600000, 99999999u));
    lt_rc rc = lt_headers_set_id(&request->head.headers, LT_H_GRPC_TIMEOUT, value);
    (void)rc; /* room was made for edits of ours */
}

static uint64_t less_offset(uint64_t timeout_ms, uint64_t offset_ms)
{
    return timeout_ms > offset_ms ? timeout_ms - offset_ms : timeout_ms;
}

/* RouteAction.max_grpc_timeout: 0 leaves it to the client. */
static uint64_t old_grpc_timeout(struct px_request *request, const struct px_stream_limits *limits)
{
    uint64_t timeout_ms = 0;
    if (client_timeout(request, &timeout_ms) != LT_OK)
        timeout_ms = 0;
    timeout_ms = less_offset(timeout_ms, limits->grpc_offset_ms);
    if (limits->grpc_max_ms != 0 && (timeout_ms == 0 || timeout_ms > limits->grpc_max_ms))
        timeout_ms = limits->grpc_max_ms;
    if (timeout_ms != 0)
        tell_host(request, timeout_ms);
    return timeout_ms;
}

static uint64_t choose_timeout(struct px_request *request)
{
    const struct px_stream_limits *limits = request->route->limits;
    if (limits == NULL)
        return request->route->timeout_ms;
    if (limits->replaces_timeout)
        return 0;
    return request->is_grpc && limits->has_grpc_max ? old_grpc_timeout(request, limits)
                                                    : request->route->timeout_ms;
}

/* RouteAction.max_stream_duration, or else the connection manager's. 0: none. */
static uint64_t choose_life(struct px_request *request)
{
    const struct px_stream_limits *limits = request->route != NULL ? request->route->limits : NULL;
    uint64_t timeout_ms = 0;
    if (limits == NULL || !limits->replaces_timeout)
        return request->hcm->max_stream_duration_ms;
    if (!limits->has_grpc_max || client_timeout(request, &timeout_ms) != LT_OK)
        return limits->has_duration ? limits->duration_ms : request->hcm->max_stream_duration_ms;
    if (limits->grpc_max_ms != 0)
        timeout_ms = LT_MIN(timeout_ms, limits->grpc_max_ms);
    timeout_ms = less_offset(timeout_ms, limits->grpc_offset_ms);
    tell_host(request, timeout_ms);
    return LT_MAX(timeout_ms, 1u);
}

static void start_life(struct px_request *request, uint64_t life_ms)
{
    uint64_t used_ns = px_now_ns(request->worker) - request->start_ns;
    uint64_t life_ns = LT_MIN(life_ms, UINT64_MAX / LT_NS_PER_MS) * LT_NS_PER_MS;
    request->life_timer.on_due = on_life_timeout;
    lt_loop_timer_set(request->worker->loop, &request->life_timer,
                      life_ns > used_ns ? life_ns - used_ns : 0);
}

/* --- when it begins and goes on --- */

void px_deadlines_begin(struct px_request *request)
{
    uint64_t timeout_ms = request->hcm->request_timeout_ms;
    request->try_timer.on_due = on_try_timer;
    request->timer.on_due = on_request_timeout;
    if (timeout_ms != 0)
        lt_loop_timer_set(request->worker->loop, &request->timer, timeout_ms * LT_NS_PER_MS);
}

void px_deadlines_route(struct px_request *request)
{
    uint64_t life_ms = choose_life(request);
    if (life_ms != 0)
        start_life(request, life_ms);
}

void px_deadlines_router(struct px_request *request)
{
    request->timeout_ms = choose_timeout(request);
}

void px_request_arm_timeout(struct px_request *request)
{
    struct lt_loop *loop = request->worker->loop;
    lt_loop_timer_cancel(loop, &request->timer);
    request->timer.on_due = on_route_timeout;
    if (request->timeout_ms != 0)
        lt_loop_timer_set(loop, &request->timer, request->timeout_ms * LT_NS_PER_MS);
}

void px_deadlines_end(struct px_request *request)
{
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    lt_loop_timer_cancel(request->worker->loop, &request->idle_timer);
    lt_loop_timer_cancel(request->worker->loop, &request->life_timer);
    if (request->rare != NULL)
        lt_loop_timer_cancel(request->worker->loop, &request->rare->log);
}
