/*
 * proxy/http/request.c - a request's object, its states, and what comes before the steps: checks of
 * the head, normalisation, what a client may not say, the route. Its timers: deadlines.c.
 * Start at: px_request_start().
 */
#include "proxy/http/request.h"

#include <stdlib.h>

#include "http/url.h"
#include "proxy/http/h2_link.h"
#include "proxy/http/pace.h"
#include "proxy/run/relieve.h"
#include "proxy/told/codec_stats.h"
#include "proxy/told/messages.h"

enum {
    REQUESTS_KEPT = 1024,
    ARENA_CHUNK = 4096,
    BUFFER_KEPT = 4096,
};

/* --- states --- */

#define TO(state) (1u << PX_RQ_##state)

/*
 * Where a request may go from each state; WAIT again and again while it is tried, FILTER when it
 * follows a redirect.
 */
static const uint32_t moves[] = {
    [PX_RQ_HEAD] = TO(FILTER) | TO(REPLY) | TO(GONE),
    [PX_RQ_FILTER] = TO(WAIT) | TO(REPLY) | TO(GONE),
    [PX_RQ_WAIT] = TO(WAIT) | TO(CONNECT) | TO(FLOW) | TO(REPLY) | TO(GONE),
    [PX_RQ_CONNECT] = TO(FLOW) | TO(WAIT) | TO(REPLY) | TO(GONE),
    [PX_RQ_FLOW] = TO(FILTER) | TO(WAIT) | TO(REPLY) | TO(DONE) | TO(GONE),
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
    px_deadlines_begin(request);
    request->up_out.bytes_max = request->hcm->max_request_headers_kb * 1024 + 2 * PX_RQ_HEADS_MAX;
    lt_buf_init(&request->replay, request->hcm->body_limit);
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

static void drop_pins(struct px_request *request)
{
    for (struct px_old_pin *old = request->old_pins; old != NULL; old = old->next)
        px_pin_drop(&old->pin);
    request->old_pins = NULL;
    px_pin_drop(&request->pin);
}

/* Out of everything that could find it. */
static void take_out(struct px_request *request)
{
    px_filters_on_end(request);
    if (request->pace != NULL)
        px_pace_end(request);
    if (request->messages != NULL)
        px_messages_tell(request->messages);
    px_request_abort_mirrors(request);
    px_request_leave_upstream(request, false);
    end_retry(request);
    px_request_forget_hosts(request);
    px_deadlines_end(request);
    lt_list_remove(&request->ready_link);
    lt_list_remove(&request->conn_link);
    px_cluster_drop(&request->cluster);
    px_peer_drop(&request->peer);
    px_text_drop(&request->peer_principal);
    drop_pins(request);
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
        if (client_left) {
            request->details = "downstream_remote_disconnect";
        }
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

/* --- the head --- */

/* What the request wants to become; empty: nothing. */
static lt_str wanted_upgrade(const struct px_request *request)
{
    if (request->head.method_id == LT_METHOD_CONNECT)
        return LT_STR("CONNECT");
    return request->head.wants_upgrade ? lt_headers_value(&request->head.headers, LT_H_UPGRADE)
                                       : LT_STR_NULL;
}

const struct px_upgrade_conf *px_route_upgrade(const struct px_route *route, lt_str type)
{
    for (size_t i = 0; i < route->upgrade_count; i++) {
        if (lt_str_case_eq(route->upgrades[i].type, type))
            return &route->upgrades[i];
    }
    return NULL;
}

/* Envoy: the route decides, or else the connection manager. */
static bool may_upgrade(const struct px_request *request, lt_str type)
{
    const struct px_upgrade_conf *of_route = px_route_upgrade(request->route, type);
    if (of_route != NULL)
        return of_route->is_on;
    for (size_t i = 0; i < request->hcm->upgrade_count; i++) {
        if (lt_str_case_eq(request->hcm->upgrades[i], type))
            return true;
    }
    return false;
}

/* False: a refusal is on its way. */
static bool check_upgrade(struct px_request *request)
{
    lt_str type = wanted_upgrade(request);
    if (type.len == 0 || request->route == NULL || may_upgrade(request, type))
        return true;
    px_request_reply(request, 403, 0, "upgrade_failed", LT_STR_NULL, NULL);
    return false;
}

/* Http1ProtocolOptions.ignore_http_11_upgrade: as if nobody had asked. */
static void ignore_upgrade(struct px_request *request)
{
    const struct px_h1_options *h1 = &request->hcm->h1;
    lt_str type = lt_headers_value(&request->head.headers, LT_H_UPGRADE);
    for (size_t i = 0; i < h1->ignored_upgrade_count; i++) {
        if (px_string_matches(&h1->ignored_upgrades[i], type))
            request->head.wants_upgrade = false;
    }
}

/*
 * Names with '_', which some servers read as '-' (CGI): a policy for the one would not see the
 * other.
 * False: there was one, and it is not allowed.
 */
static bool take_underscores(struct px_request *request)
{
    struct lt_headers *headers = &request->head.headers;
    bool drops = request->hcm->underscores == PX_UNDERSCORES_DROP;
    for (uint32_t i = headers->count; i-- > 0;) {
        if (lt_str_find_char(headers->items[i].name, '_') < 0)
            continue;
        px_codec_count(request->worker, request->down->protocol,
                       drops ? PX_CODEC_UNDERSCORES_DROPPED : PX_CODEC_UNDERSCORES_REFUSED);
        if (!drops)
            return false;
        lt_headers_remove_at(headers, i);
    }
    return true;
}

static void refuse_underscore(struct px_request *request)
{
    bool is_h2 = request->down->protocol == PX_PROTO_H2;
    px_request_reply(request, 400, PX_FLAG_DOWNSTREAM_PROTOCOL,
                     is_h2 ? "http2.unexpected_underscore" : "http1.unexpected_underscore",
                     LT_STR("Bad Request"), "text/plain");
}

/* False: a refusal is on its way. */
static bool check_head(struct px_request *request)
{
    const struct lt_http_head *head = &request->head;
    if (head->minor == 0 && !request->hcm->h1.accepts_http_10) {
        request->conn->is_closing = true;
        px_request_reply(request, 426, 0, "low_version", LT_STR_NULL, NULL);
        return false;
    }
    if (head->minor == 0 && request->authority.len == 0)
        request->authority = request->hcm->h1.default_host;
    if (head->form == LT_TARGET_ABSOLUTE && !request->hcm->h1.allows_absolute_url) {
        px_request_reply(request, 404, 0, "absolute_path_rejected", LT_STR_NULL, NULL);
        return false;
    }
    if (request->hcm->underscores != PX_UNDERSCORES_ALLOW && !take_underscores(request)) {
        refuse_underscore(request);
        return false;
    }
    if (head->wants_upgrade && !head->is_h2 && request->hcm->h1.ignored_upgrade_count > 0)
        ignore_upgrade(request);
    return true;
}

static lt_url_outcome find_normal_path(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    lt_str path = request->head.path;
    bool is_as_is = !hcm->normalize_path && !hcm->merge_slashes &&
                    hcm->escaped_slashes == LT_URL_SLASHES_KEEP;
    /* a fragment is for the client alone: a server might cut it off, or not */
    if (!hcm->normalize_path && lt_str_find_char(path, '#') >= 0)
        return LT_URL_REJECT;
    if (is_as_is || path.len == 0 || lt_str_eqz(path, "*")) /* CONNECT, OPTIONS */
        return LT_URL_UNCHANGED;
    struct lt_url_normal_opts opts = {.normalize = hcm->normalize_path,
                                      .merge_slashes = hcm->merge_slashes,
                                      .escaped_slashes = hcm->escaped_slashes};
    return lt_url_normalize(path, &opts, request->arena, &request->path);
}

static bool normalise_path(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    request->path = request->head.path;
    lt_url_outcome outcome = find_normal_path(request);
    if (outcome == LT_URL_UNCHANGED || outcome == LT_URL_CHANGED)
        return true;
    /* clients of gRPC follow no redirects */
    bool is_redirect = outcome == LT_URL_REDIRECT && !request->is_grpc;
    px_hcm_count(request->worker, hcm, is_redirect ? PX_HCM_PATH_REDIRECTED : PX_HCM_PATH_REFUSED);
    if (is_redirect)
        request->location = request->path;
    px_request_reply(request, is_redirect ? 307 : 400, 0, "path_normalization_failed", LT_STR_NULL,
                     NULL);
    return false;
}

bool px_request_set_path(struct px_request *request, lt_str path)
{
    lt_str head_before = request->head.path, before = request->path;
    request->head.path = request->path = path;
    lt_url_outcome outcome = find_normal_path(request);
    if (outcome == LT_URL_UNCHANGED || outcome == LT_URL_CHANGED)
        return true;
    request->head.path = head_before;
    request->path = before;
    return false;
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
    for (size_t i = 0; request->routes != NULL && !request->is_internal &&
                       i < request->routes->internal_header_count;
         i++)
        lt_headers_remove_name(&request->head.headers, request->routes->internal_headers[i]);
    if (request->routes != NULL)
        request->vhost = px_route_find_vhost(
            request->routes,
            request->routes->has_vhds
                ? px_snapshot_on_demand(request->pin->snapshot, hcm->routes_slot)
                : NULL,
            request->authority);
    if (request->vhost != NULL)
        request->route = px_route_find(request->vhost, &facts);
    const struct px_route *route = request->route;
    if (route != NULL && route->action == PX_ACTION_WEIGHTED)
        request->weighted = px_route_pick_weighted(route->weighted, route->weighted_count,
                                                   route->total_weight, request->random);
    px_deadlines_route(request);
}

bool px_request_renew(struct px_request *request)
{
    struct px_old_pin *old = lt_arena_make(request->arena, struct px_old_pin);
    *old = (struct px_old_pin){request->pin, request->old_pins};
    request->old_pins = old;
    request->pin = px_pin_take(request->worker->pin);
    px_request_find_route(request);
    return check_upgrade(request);
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
    /* what follows a CONNECT belongs to the tunnel, once there is one */
    bool is_bare = head->body == LT_BODY_NONE || head->method_id == LT_METHOD_CONNECT;
    request->req.is_read = is_bare;
    request->replay_is_whole = true;
    if (is_bare)
        request->request_end_ns = px_now_ns(request->worker);
    if (request->hcm->reads_client)
        request->peer = px_telemetry_read_peer(request->worker->telemetry, &request->head.headers,
                                               request->conn->principal, &request->peer_asked);
}

/* Connection names what it must not, or our own fields find no room. */
static void refuse_fields(struct px_request *request, lt_rc rc)
{
    lt_h1_error error = rc == LT_E_BAD ? LT_H1_E_CONNECTION : LT_H1_E_HEADERS_TOO_LARGE;
    if (rc == LT_E_BAD)
        request->conn->is_closing = true;
    px_request_reply(request, lt_h1_error_status(error),
                     rc == LT_E_BAD ? PX_FLAG_DOWNSTREAM_PROTOCOL : 0, lt_h1_error_details(error),
                     LT_STR_NULL, NULL);
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
    lt_rc rc = px_request_sanitize(request);
    if (rc != LT_OK) {
        refuse_fields(request, rc);
        return;
    }
    px_request_find_route(request);
    if (request->hcm->tracing != NULL)
        px_request_decorate(request);
    if (request->hcm->log_times.at_start || request->hcm->log_times.every_ms != 0)
        px_request_log_on_way(request);
    if (check_upgrade(request))
        px_filters_start(request);
}
