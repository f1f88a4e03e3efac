/*
 * proxy/http/retry.c - whether a failed try is repeated. The policy of the route decides: what the
 * application may have seen is not sent again unless the policy says so, or nobody can tell that it
 * was (RFC 9110 section 9.2.2).
 */
#include "proxy/conf/route_match.h"
#include "proxy/http/request.h"
#include "proxy/told/decisions.h"

/* --- the policy's verdict --- */

bool px_retry_covers_failure(const struct px_retry *retry, px_failure failure)
{
    uint32_t any = PX_RETRY_5XX | PX_RETRY_GATEWAY_ERROR;
    switch (failure) {
    case PX_FAIL_CONNECT:
        return (retry->on & (any | PX_RETRY_CONNECT_FAILURE | PX_RETRY_RESET |
                             PX_RETRY_RESET_BEFORE_REQUEST)) != 0;
    case PX_FAIL_RESET_BEFORE:
        return (retry->on & (any | PX_RETRY_RESET | PX_RETRY_RESET_BEFORE_REQUEST)) != 0;
    case PX_FAIL_RESET: return (retry->on & (any | PX_RETRY_RESET)) != 0;
    case PX_FAIL_REFUSED:
        return (retry->on & (any | PX_RETRY_RESET | PX_RETRY_REFUSED_STREAM |
                             PX_RETRY_RESET_BEFORE_REQUEST)) != 0;
    case PX_FAIL_TIMEOUT:
        return (retry->on & (any | PX_RETRY_RESET)) !=
               0; /* Envoy: a per-try timeout counts as a reset */
    }
    return false;
}

/* One of them will do. */
static bool any_matches(const struct px_header_match *matches, size_t count,
                        const struct px_request_facts *facts)
{
    for (size_t i = 0; i < count; i++) {
        if (px_header_matches(&matches[i], facts))
            return true;
    }
    return false;
}

/* retriable_request_headers: what the policy is for. */
static bool is_meant(const struct px_request *request, const struct px_retry *retry)
{
    if (retry == NULL || retry->request_header_count == 0)
        return retry != NULL;
    struct px_request_facts facts = px_request_match_facts(request);
    return any_matches(retry->request_headers, retry->request_header_count, &facts);
}

static bool covers_headers(const struct px_retry *retry, const struct lt_headers *headers)
{
    const struct px_request_facts facts = {.headers = headers};
    if ((retry->on & PX_RETRY_HEADERS) != 0 &&
        any_matches(retry->response_headers, retry->response_header_count, &facts))
        return true;
    return (retry->on & PX_RETRY_RATE_LIMITED) != 0 &&
           lt_headers_find_name(headers, LT_STR("x-envoy-ratelimited")) != NULL;
}

/* Envoy: what a rate limit refused is not tried again, unless the policy says so. */
static bool is_limited(const struct px_retry *retry, const struct lt_headers *headers)
{
    return (retry->on & PX_RETRY_RATE_LIMITED) == 0 &&
           lt_headers_find_name(headers, LT_STR("x-envoy-ratelimited")) != NULL;
}

static const struct {
    uint32_t bit;
    const char *status;
} grpc_bits[] = {
    {PX_RETRY_GRPC_CANCELLED, "1"},    {PX_RETRY_GRPC_DEADLINE, "4"},
    {PX_RETRY_GRPC_EXHAUSTED, "8"},    {PX_RETRY_GRPC_INTERNAL, "13"},
    {PX_RETRY_GRPC_UNAVAILABLE, "14"},
};

bool px_retry_covers_status(const struct px_retry *retry, uint32_t code, lt_str grpc_status)
{
    if ((retry->on & PX_RETRY_5XX) != 0 && code >= 500 && code < 600)
        return true;
    if ((retry->on & PX_RETRY_GATEWAY_ERROR) != 0 && code >= 502 && code <= 504)
        return true;
    if ((retry->on & PX_RETRY_4XX) != 0 && code == 409)
        return true;
    for (size_t i = 0; (retry->on & PX_RETRY_STATUS_CODES) != 0 && i < retry->status_code_count;
         i++) {
        if (retry->status_codes[i] == code)
            return true;
    }
    for (size_t i = 0; grpc_status.len > 0 && i < LT_ARRAY_LEN(grpc_bits); i++) {
        if ((retry->on & grpc_bits[i].bit) != 0 && lt_str_eqz(grpc_status, grpc_bits[i].status))
            return true;
    }
    return false;
}

/* --- another try --- */

/* Envoy: a random time up to base * 2^n - 1, at most the maximum. */
static uint64_t backoff_ns(struct px_request *request, const struct px_retry *retry)
{
    unsigned shift = LT_MIN(request->attempts, 10u);
    uint64_t limit_ms = LT_MIN(retry->backoff_base_ms << (shift > 0 ? shift - 1 : 0),
                               retry->backoff_max_ms);
    uint32_t span_us = (uint32_t)LT_MIN(limit_ms * 1000, (uint64_t)UINT32_MAX);
    return span_us == 0 ? 0 : lt_prng_below(&request->worker->prng, span_us) * 1000ull;
}

/* rate_limited_retry_back_off: the response says when; *ret_ns. */
static bool is_told_when(const struct px_request *request, const struct px_retry *retry,
                         uint64_t *ret_ns)
{
    for (size_t i = 0; request->has_rhead && i < retry->reset_header_count; i++) {
        const struct px_reset_header *reset = &retry->reset_headers[i];
        lt_str text = lt_headers_value_of(&request->rhead.headers, reset->name);
        uint64_t seconds = 0, now_s = (uint64_t)lt_env_wall_ns(request->worker->env) / LT_NS_PER_S;
        if (text.len == 0 || lt_str_to_u64(text, &seconds) != LT_OK)
            continue;
        if (reset->is_timestamp && seconds < now_s)
            continue;
        uint64_t in_s = reset->is_timestamp ? seconds - now_s : seconds;
        if (in_s > retry->reset_max_ms / 1000)
            continue;
        *ret_ns = in_s * LT_NS_PER_S;
        return true;
    }
    return false;
}

static bool may_retry(struct px_request *request, const struct px_retry *retry)
{
    struct px_cluster *cluster = request->cluster;
    if (request->response_begun || !request->replay_is_whole)
        return false;
    if (request->attempts > retry->num_retries) {
        px_cluster_count(cluster, PX_STAT_RQ_RETRY_LIMIT);
        request->flags |= PX_FLAG_RETRY_LIMIT;
        return false;
    }
    if (!request->counts_retry &&
        !px_limit_has_room(cluster, px_request_priority(request), PX_LIMIT_RETRIES)) {
        px_cluster_count(cluster, PX_STAT_RQ_RETRY_OVERFLOW);
        request->flags |= PX_FLAG_UPSTREAM_OVERFLOW;
        return false;
    }
    return !cluster->is_gone;
}

void px_request_rewind(struct px_request *request)
{
    struct px_dir *req = &request->req, *resp = &request->resp;
    request->has_rhead = request->rhead_begun = false;
    request->rhead.status = 0;
    req->piece = LT_STR_NULL;
    req->owner = NULL;
    if (req->piece_used > 0)
        request->down->took(request);
    if (!request->resends && lt_buf_len(&request->replay) > 0) {
        request->was_read = req->is_read;
        request->resends = true;
        req->is_read = false;
    }
    req->is_sent = req->is_framed = false;
    request->has_reached_up = request->up_end_said = false;
    lt_rope_fini(&resp->rx);
    resp->rx_ended = false;
    resp->trailers = NULL;
}

bool px_request_has_whole(const struct px_request *request)
{
    const struct lt_http_head *head = &request->rhead;
    bool has_body = head->body != LT_BODY_NONE &&
                    (head->body != LT_BODY_LENGTH || head->content_length > 0);
    return request->has_rhead && !has_body && request->up_keeps_alive && request->req.is_sent;
}

static void begin_again(struct px_request *request, uint64_t after_ns, const char *why)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_RETRY);
    request->host->rq_error++;
    px_decisions_note_try(request, why, request->has_rhead ? request->rhead.status : 0);
    px_request_leave_upstream(request, px_request_has_whole(request));
    px_request_rewind(request);
    px_request_set_state(request, PX_RQ_WAIT);
    lt_loop_timer_set(request->worker->loop, &request->try_timer, after_ns);
}

static bool try_again(struct px_request *request, const struct px_retry *retry, const char *why)
{
    if (!may_retry(request, retry))
        return false;
    if (!request->counts_retry) {
        request->counts_retry = true;
        px_limit_take(request->cluster, px_request_priority(request), PX_LIMIT_RETRIES,
                      &request->is_shared_retry);
    }
    uint64_t wait_ns = 0;
    if (!is_told_when(request, retry, &wait_ns))
        wait_ns = backoff_ns(request, retry);
    begin_again(request, wait_ns, why);
    return true;
}

/* RFC 9110 section 9.2.2: once or twice comes to the same. */
static bool is_idempotent(const struct px_request *request)
{
    switch (request->head.method_id) {
    case LT_METHOD_GET:
    case LT_METHOD_HEAD:
    case LT_METHOD_OPTIONS:
    case LT_METHOD_TRACE:
    case LT_METHOD_PUT:
    case LT_METHOD_DELETE: return !request->head.wants_upgrade;
    default: return false;
    }
}

/* The host has begun to answer. */
static bool has_heard(const struct px_request *request)
{
    if (request->interim_count > 0)
        return true;
    return request->up_codec->protocol == PX_PROTO_H2
               ? request->rhead_begun
               : request->up != NULL && px_input_unread(&request->up->in).len > 0;
}

/*
 * Beyond the policy, once: the host has not looked at the request, or it ended a connection that
 * had lain idle just when the request was on its way, and the request may come twice.
 */
static bool may_replay(const struct px_request *request, px_failure failure)
{
    bool was_sent = failure != PX_FAIL_CONNECT && failure != PX_FAIL_TIMEOUT;
    if (request->was_replayed || !was_sent || has_heard(request) || !request->replay_is_whole ||
        request->response_begun || request->cluster->is_gone)
        return false;
    switch (failure) {
    case PX_FAIL_REFUSED:
    case PX_FAIL_RESET_BEFORE: return true;
    case PX_FAIL_RESET:
        return request->broke == PX_BROKE_TERMINATION && request->is_on_used &&
               is_idempotent(request);
    case PX_FAIL_CONNECT:
    case PX_FAIL_TIMEOUT: return false;
    }
    return false;
}

bool px_request_retry_failure(struct px_request *request, px_failure failure)
{
    static const char *const words[] = {
        [PX_FAIL_CONNECT] = "connection failure",
        [PX_FAIL_RESET_BEFORE] = "reset before the request was sent",
        [PX_FAIL_RESET] = "reset",
        [PX_FAIL_REFUSED] = "refused stream",
        [PX_FAIL_TIMEOUT] = "per try timeout",
    };
    const struct px_retry *retry = request->retry;
    if (is_meant(request, retry) && px_retry_covers_failure(retry, failure))
        return try_again(request, retry, words[failure]);
    if (!may_replay(request, failure))
        return false;
    request->was_replayed = true;
    begin_again(request, 0, words[failure]); /* it adds no load: no limit of retries holds it */
    return true;
}

bool px_request_retry_status(struct px_request *request)
{
    const struct px_retry *retry = request->retry;
    lt_str grpc_status = lt_headers_value(&request->rhead.headers, LT_H_GRPC_STATUS);
    uint32_t status = request->rhead.status;
    const struct lt_headers *headers = &request->rhead.headers;
    if (!is_meant(request, retry) || is_limited(retry, headers))
        return false;
    if (!px_retry_covers_status(retry, status, grpc_status) && !covers_headers(retry, headers))
        return false;
    if (!try_again(request, retry, "status"))
        return false;
    px_cluster_count_retried(request->cluster, status);
    return true;
}
