/*
 * proxy/request.c - a request's object, its states and timers, and what comes before the steps:
 * checks of the head, normalisation, what a client may not say, the route.
 * Start at: px_request_start().
 */
#include "proxy/request.h"

#include <stdlib.h>

#include "http/url.h"
#include "proxy/h2_link.h"
#include "proxy/messages.h"
#include "proxy/pace.h"
#include "proxy/relieve.h"

enum {
    REQUESTS_KEPT = 1024,
    ARENA_CHUNK = 4096,
    BUFFER_KEPT = 4096,
};

static void on_route_timeout(struct lt_timer *timer, uint64_t now_ns);
static void on_try_timer(struct lt_timer *timer, uint64_t now_ns);
static void on_try_idle(struct lt_timer *timer, uint64_t now_ns);
static void on_slow_request(struct lt_timer *timer, uint64_t now_ns);
static void on_long_stream(struct lt_timer *timer, uint64_t now_ns);

/* --- states --- */

#define TO(state) (1u << PX_RQ_##state)

/* Where a request may go from each state; WAIT again and again while it is tried. */
static const uint32_t moves[] = {
    [PX_RQ_HEAD] = TO(FILTER) | TO(REPLY) | TO(GONE),
    [PX_RQ_FILTER] = TO(WAIT) | TO(REPLY) | TO(GONE),
    [PX_RQ_WAIT] = TO(WAIT) | TO(CONNECT) | TO(FLOW) | TO(REPLY) | TO(GONE),
    [PX_RQ_CONNECT] = TO(FLOW) | TO(WAIT) | TO(REPLY) | TO(GONE),
    [PX_RQ_FLOW] = TO(WAIT) | TO(REPLY) | TO(DONE) | TO(GONE),
    [PX_RQ_REPLY] = TO(DONE) | TO(GONE),
    [PX_RQ_DONE] = TO(GONE),
    [PX_RQ_GONE] = 0,
};

void px_request_set_state(struct px_request *request, px_rq_state state)
{
    LT_ASSERT((moves[request->state] >> state & 1) != 0);
    request->state = state;
}

/* --- objects, used again --- */

static struct px_request *take_object(struct px_worker *worker)
{
    struct px_request *request = NULL;
    if (lt_list_is_empty(&worker->requests)) {
        request = lt_new(struct px_request);
        request->arena = lt_arena_new(ARENA_CHUNK, 0);
        lt_buf_init(&request->up_out, 2 * PX_RQ_HEADS_MAX);
        lt_buf_init(&request->down_out, 4 * PX_RQ_HEADS_MAX);
        return request;
    }
    request = lt_list_first(&worker->requests, struct px_request, wait_link);
    lt_list_remove(&request->wait_link);
    worker->request_count--;
    worker->requests_spare = LT_MIN(worker->requests_spare, worker->request_count);
    struct lt_arena *arena = request->arena;
    struct lt_buf up_out = request->up_out, down_out = request->down_out;
    memset(request, 0, sizeof(*request));
    request->arena = arena;
    request->up_out = up_out;
    request->down_out = down_out;
    return request;
}

struct px_request *px_request_new(struct px_conn *conn, const struct px_down *down)
{
    struct px_worker *worker = conn->worker;
    struct px_request *request = take_object(worker);
    request->worker = worker;
    request->conn = conn;
    request->down = down;
    request->client_protocol = down->protocol;
    request->pin = px_pin_take(worker->pin);
    request->hcm = conn->chain->hcm;
    request->peer_principal = "";
    request->start_ns = px_now_ns(worker);
    request->start_wall_ns = lt_env_wall_ns(worker->env);
    lt_list_init(&request->wait_link);
    lt_list_init(&request->ready_link);
    lt_list_init(&request->conn_link);
    lt_list_init(&request->up_link);
    lt_timer_init(&request->timer, on_route_timeout);
    lt_timer_init(&request->try_timer, on_try_timer);
    request->up_out.bytes_max = request->hcm->max_request_headers_kb * 1024 + 2 * PX_RQ_HEADS_MAX;
    lt_buf_init(&request->replay, PX_REPLAY_MAX);
    return request;
}

static void end_retry(struct px_request *request)
{
    if (request->counts_retry)
        px_limit_give(request->cluster, px_request_priority(request), PX_LIMIT_RETRIES,
                      request->is_shared_retry);
    request->counts_retry = false;
}

static void free_parts(struct px_request *request)
{
    lt_arena_free(&request->arena);
    lt_buf_fini(&request->up_out);
    lt_buf_fini(&request->down_out);
}

/* Out of everything that could find it. */
static void take_out(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    px_filters_on_end(request);
    if (request->pace != NULL)
        px_pace_end(request);
    if (request->messages != NULL)
        px_messages_tell(request->messages);
    px_request_abort_mirrors(request);
    px_request_leave_upstream(request, false);
    end_retry(request);
    px_request_forget_hosts(request);
    lt_loop_timer_cancel(worker->loop, &request->timer);
    if (request->rare != NULL) {
        lt_loop_timer_cancel(worker->loop, &request->rare->reading);
        lt_loop_timer_cancel(worker->loop, &request->rare->life);
    }
    lt_loop_timer_cancel(worker->loop, &request->idle_timer);
    lt_list_remove(&request->ready_link);
    lt_list_remove(&request->conn_link);
    px_cluster_drop(&request->cluster);
    px_peer_drop(&request->peer);
    px_text_drop(&request->peer_principal);
    px_pin_drop(&request->pin);
}

static void give_back(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    lt_rope_fini(&request->req.rx);
    lt_rope_fini(&request->resp.rx);
    lt_buf_clear(&request->up_out, BUFFER_KEPT);
    lt_buf_clear(&request->down_out, BUFFER_KEPT);
    lt_buf_fini(&request->replay);
    free(request->head_block);
    free(request->rhead_block);
    request->conn = NULL;
    lt_arena_reset(request->arena);
    if (worker->request_count >= REQUESTS_KEPT) {
        free_parts(request);
        px_bury(worker, request);
        return;
    }
    lt_list_push_front(&worker->requests, &request->wait_link);
    worker->request_count++;
    px_trim_later(worker);
}

void px_request_free(struct px_request *request)
{
    take_out(request);
    give_back(request);
}

static void tell_early_end(struct px_request *request)
{
    if (request->head.method.len == 0)
        return; /* not even its head came */
    if (request->state != PX_RQ_DONE) {
        bool client_left = (request->flags & ~(uint32_t)PX_FLAG_DELAY_INJECTED) == 0;
        request->flags |= client_left ? PX_FLAG_DOWNSTREAM_TERMINATION : 0;
        if (client_left || request->details == NULL || !request->response_begun)
            request->details = "downstream_remote_disconnect";
        if (!request->response_begun)
            request->code = 0;
    }
    px_request_report(request);
}

void px_request_bury(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    if (request->state == PX_RQ_GONE)
        return;
    tell_early_end(request);
    take_out(request);
    px_request_set_state(request, PX_RQ_GONE);
    lt_list_push_back(&worker->buried, &request->wait_link);
    lt_loop_defer(worker->loop, &worker->turn);
}

static void free_kept(struct px_worker *worker, uint32_t count)
{
    for (; count > 0 && !lt_list_is_empty(&worker->requests); count--) {
        struct px_request *request = lt_list_first(&worker->requests, struct px_request, wait_link);
        lt_list_remove(&request->wait_link);
        worker->request_count--;
        free_parts(request);
        free(request);
    }
}

void px_http_trim_requests(struct px_worker *worker)
{
    if (worker->requests_spare > PX_REQUESTS_IDLE)
        free_kept(worker, worker->requests_spare - PX_REQUESTS_IDLE);
}

static void give_back_buried(struct px_worker *worker)
{
    while (!lt_list_is_empty(&worker->buried)) {
        struct px_request *request = lt_list_first(&worker->buried, struct px_request, wait_link);
        lt_list_remove(&request->wait_link);
        give_back(request);
    }
}

void px_http_free_requests(struct px_worker *worker)
{
    give_back_buried(worker);
    free_kept(worker, worker->request_count);
}

/* --- the end of a turn --- */

void px_request_ready(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    if (request->state == PX_RQ_GONE || lt_list_is_linked(&request->ready_link))
        return;
    lt_list_push_back(&worker->ready, &request->ready_link);
    lt_loop_defer(worker->loop, &worker->turn);
}

/* All that are in `from` now; what is added meanwhile has its turn later. */
static void move_all(struct lt_list *from, struct lt_list *to)
{
    lt_list_init(to);
    while (!lt_list_is_empty(from)) {
        struct lt_list *link = from->next;
        lt_list_remove(link);
        lt_list_push_back(to, link);
    }
}

void px_http_turn(struct lt_task *task)
{
    struct px_worker *worker = LT_CONTAINER_OF(task, struct px_worker, turn);
    struct lt_list now;
    move_all(&worker->ready, &now);
    while (!lt_list_is_empty(&now)) {
        struct px_request *request = lt_list_first(&now, struct px_request, ready_link);
        lt_list_remove(&request->ready_link);
        if (worker->is_choked) /* behind whatever gives memory back */
            px_request_ready(request);
        else
            px_request_run(request);
    }
    move_all(&worker->dirty, &now);
    while (!lt_list_is_empty(&now)) {
        struct px_h2_link *link = lt_list_first(&now, struct px_h2_link, dirty);
        lt_list_remove(&link->dirty);
        px_h2_link_flush(link);
    }
    give_back_buried(worker);
}

/* --- timers --- */

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
    px_request_reply(request, 504, PX_FLAG_UPSTREAM_TIMEOUT, "response_timeout",
                     LT_STR("upstream request timeout"), "text/plain");
    px_request_run(request);
}

/* grpc-timeout: up to eight digits and a unit. UINT64_MAX: there is none that can be read. */
static uint64_t grpc_timeout_ms(const struct px_request *request)
{
    lt_str text = lt_headers_value_of(&request->head.headers, LT_STR("grpc-timeout"));
    uint64_t count = 0;
    if (text.len < 2 || text.len > 9 ||
        lt_str_to_u64(lt_str_slice(text, 0, text.len - 1), &count) != LT_OK)
        return UINT64_MAX;
    switch (text.ptr[text.len - 1]) {
    case 'H': return count * 3600 * 1000;
    case 'M': return count * 60 * 1000;
    case 'S': return count * 1000;
    case 'm': return count;
    case 'u': return (count + 999) / 1000;
    case 'n': return (count + 999999) / 1000000;
    default: return UINT64_MAX;
    }
}

/* max_grpc_timeout: for gRPC the client's grpc-timeout counts, up to so much. 0: none. */
static uint64_t timeout_ms(const struct px_request *request)
{
    const struct px_route *route = request->route;
    if (!request->is_grpc || route->max_grpc_ms == UINT64_MAX)
        return route->timeout_ms;
    uint64_t asked_ms = grpc_timeout_ms(request);
    if (asked_ms == UINT64_MAX)
        asked_ms = 0;
    if (route->grpc_offset_ms != 0 && asked_ms > route->grpc_offset_ms)
        asked_ms -= route->grpc_offset_ms;
    bool is_over = asked_ms == 0 || asked_ms > route->max_grpc_ms;
    return route->max_grpc_ms != 0 && is_over ? route->max_grpc_ms : asked_ms;
}

void px_request_arm_timeout(struct px_request *request)
{
    uint64_t ms = request->route != NULL ? timeout_ms(request) : 0;
    if (ms != 0)
        lt_loop_timer_set(request->worker->loop, &request->timer, ms * LT_NS_PER_MS);
}

void px_request_disarm_reading(struct px_request *request)
{
    if (request->rare != NULL)
        lt_loop_timer_cancel(request->worker->loop, &request->rare->reading);
}

struct px_rare_timers *px_request_rare(struct px_request *request)
{
    if (request->rare != NULL)
        return request->rare;
    struct px_rare_timers *rare = lt_arena_make(request->arena, struct px_rare_timers);
    rare->request = request;
    lt_timer_init(&rare->try_idle, on_try_idle);
    lt_timer_init(&rare->reading, on_slow_request);
    lt_timer_init(&rare->life, on_long_stream);
    request->rare = rare;
    return rare;
}

/* HttpConnectionManager.request_timeout. */
static void on_slow_request(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_rare_timers, reading)->request;
    px_request_reply(request, 408, 0, "request_overall_timeout", LT_STR("request timeout"),
                     "text/plain");
    px_request_run(request);
}

/* max_stream_duration, of the route or the connection manager. */
static void on_long_stream(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_rare_timers, life)->request;
    px_request_reply(request, px_request_is_read(request) ? 504 : 408, PX_FLAG_MAX_DURATION,
                     "max_duration_timeout", LT_STR("downstream duration timeout"), "text/plain");
    px_request_run(request);
}

static uint64_t max_stream_ms(const struct px_request *request)
{
    const struct px_route *route = request->route;
    if (route == NULL)
        return request->hcm->max_stream_ms;
    uint64_t asked_ms = route->takes_grpc_timeout ? grpc_timeout_ms(request) : UINT64_MAX;
    if (asked_ms != UINT64_MAX) {
        if (route->grpc_timeout_max_ms != 0)
            asked_ms = LT_MIN(asked_ms, route->grpc_timeout_max_ms);
        uint64_t offset_ms = route->grpc_timeout_offset_ms;
        return asked_ms > offset_ms ? asked_ms - offset_ms : asked_ms;
    }
    return route->max_stream_ms != UINT64_MAX ? route->max_stream_ms : request->hcm->max_stream_ms;
}

/* What runs from the request's head on. */
static void arm_life(struct px_request *request)
{
    struct lt_loop *loop = request->worker->loop;
    uint64_t life_ms = max_stream_ms(request), reading_ms = request->hcm->request_timeout_ms;
    if (life_ms != 0)
        lt_loop_timer_set(loop, &px_request_rare(request)->life, life_ms * LT_NS_PER_MS);
    if (reading_ms != 0 && !px_request_is_read(request))
        lt_loop_timer_set(loop, &px_request_rare(request)->reading, reading_ms * LT_NS_PER_MS);
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

static void per_try_timeout(struct px_request *request)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_PER_TRY_TIMEOUT);
    if (request->host != NULL)
        request->host->rq_timeout++;
    if (request->host != NULL)
        px_host_note_timeout(request->host);
    request->is_timeout_retry = true;
    if (!px_request_retry_failure(request, PX_FAIL_TIMEOUT))
        px_request_reply(request, 504, PX_FLAG_UPSTREAM_TIMEOUT, "upstream_per_try_timeout",
                         LT_STR("upstream request timeout"), "text/plain");
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

/* --- the head --- */

static bool may_upgrade(const struct px_request *request, lt_str protocol)
{
    for (size_t i = 0; i < request->hcm->upgrade_count; i++) {
        if (lt_str_case_eq(request->hcm->upgrades[i], protocol))
            return true;
    }
    return false;
}

static bool check_upgrade(const struct px_request *request)
{
    const struct lt_http_head *head = &request->head;
    if (head->protocol.len > 0)
        return may_upgrade(request, head->protocol);
    if (head->method_id == LT_METHOD_CONNECT)
        return may_upgrade(request, LT_STR("connect"));
    return !head->wants_upgrade ||
           may_upgrade(request, lt_headers_value(&head->headers, LT_H_UPGRADE));
}

/* False: a refusal is on its way. */
static bool check_head(struct px_request *request)
{
    const struct lt_http_head *head = &request->head;
    if (head->minor == 0 && !request->hcm->accept_http_10) {
        request->conn->is_closing = true;
        px_request_reply(request, 426, 0, "low_version", LT_STR_NULL, NULL);
        return false;
    }
    if (!check_upgrade(request)) {
        px_request_reply(request, 403, 0, "upgrade_failed", LT_STR_NULL, NULL);
        return false;
    }
    return true;
}

/*
 * What policy judges, and the host gets, is one form of the path. A fragment has no business in a
 * request (RFC 9110 section 7.1); CONNECT has no path.
 */
static bool normalise_path(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    struct lt_url_normal_opts opts = {.normalize = hcm->normalize_path,
                                      .merge_slashes = hcm->merge_slashes,
                                      .escaped_slashes = hcm->escaped_slashes};
    bool is_plain = !opts.normalize && !opts.merge_slashes &&
                    opts.escaped_slashes == LT_URL_SLASHES_KEEP;
    lt_url_outcome outcome = LT_URL_UNCHANGED;
    request->path = request->head.path;
    if (request->path.len == 0)
        return true;
    if (request->path.ptr[0] != '/') {
        px_request_reply(request, 404, 0, "absolute_path_rejected", LT_STR_NULL, NULL);
        return false;
    }
    if (!opts.normalize && lt_str_find_char(request->path, '#') >= 0)
        outcome = LT_URL_REJECT;
    else if (!is_plain)
        outcome = lt_url_normalize(request->head.path, &opts, request->arena, &request->path);
    if (outcome == LT_URL_REJECT) {
        px_request_reply(request, 400, 0, "path_normalization_failed", LT_STR_NULL, NULL);
        return false;
    }
    if (outcome == LT_URL_REDIRECT) {
        request->location = request->path;
        px_request_reply(request, 307, 0, "path_normalization_failed", LT_STR_NULL, NULL);
        return false;
    }
    return true;
}

void px_request_find_route(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    request->routes = hcm->routes != NULL
                          ? hcm->routes
                          : px_snapshot_routes(request->pin->snapshot, hcm->routes_slot);
    struct px_request_facts facts = px_request_match_facts(request);
    request->vhost = NULL;
    request->route = NULL;
    request->weighted = NULL;
    for (size_t i = 0; request->routes != NULL && i < request->routes->internal_header_count; i++)
        lt_headers_remove_name(&request->head.headers, request->routes->internal_headers[i]);
    if (request->routes != NULL)
        request->vhost = px_route_find_vhost(request->routes, request->authority);
    if (request->vhost != NULL)
        request->route = px_route_find(request->vhost, &facts);
    const struct px_route *route = request->route;
    if (route != NULL && route->action == PX_ACTION_WEIGHTED)
        request->weighted = px_route_pick_weighted(route->weighted, route->weighted_count,
                                                   route->total_weight, request->random);
}

static bool is_grpc_request(const struct lt_headers *headers)
{
    lt_str type = lt_headers_value(headers, LT_H_CONTENT_TYPE), grpc = LT_STR("application/grpc");
    return lt_str_starts(type, grpc) &&
           (type.len == grpc.len || type.ptr[grpc.len] == '+' || type.ptr[grpc.len] == ';');
}

static void read_facts(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    const struct lt_http_head *head = &request->head;
    request->random = lt_prng_next(&request->worker->prng);
    request->method = head->method;
    request->authority = head->authority;
    lt_str proto = lt_headers_value(&head->headers, LT_H_X_FORWARDED_PROTO);
    const struct px_hcm_conf *hcm = request->hcm;
    bool is_trusted = proto.len > 0 && (!hcm->use_remote_address || hcm->xff_num_trusted_hops > 0);
    request->scheme = is_trusted                    ? proto
                      : conn->transport.tls != NULL ? LT_STR("https")
                                                    : LT_STR("http");
    request->is_grpc = is_grpc_request(&head->headers);
    if (request->is_grpc && request->hcm->has_istio_stats)
        px_messages_start(request);
    /* what follows an extended CONNECT belongs to the tunnel, once there is one */
    bool is_bare = head->body == LT_BODY_NONE || head->method_id == LT_METHOD_CONNECT;
    request->req.is_read = is_bare;
    request->replay_is_whole = true;
    if (is_bare)
        request->request_end_ns = px_now_ns(request->worker);
    if (request->hcm->reads_client)
        request->peer = px_telemetry_read_peer(request->worker->telemetry, &request->head.headers,
                                               request->conn->principal, &request->peer_asked);
}

void px_request_start(struct px_request *request)
{
    px_request_set_state(request, PX_RQ_FILTER);
    read_facts(request);
    px_request_touch(request);
    if (!px_relieve_is_calm(request->worker) && px_relieve_refuses_request(request))
        return;
    if (!check_head(request) || !normalise_path(request))
        return;
    px_forward_host(request);
    if (px_request_sanitize(request) != LT_OK) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return;
    }
    px_request_find_route(request);
    arm_life(request);
    px_filters_start(request);
}
