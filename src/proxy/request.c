/*
 * proxy/request.c - a request from its head to an upstream connection: checks, route, cluster,
 * host.
 * Start at: px_request_start(), px_request_try().
 */
#include "proxy/request.h"

#include <stdlib.h>

#include "http/url.h"
#include "proxy/route_match.h"

enum {
    REQUESTS_KEPT = 1024,
    ARENA_CHUNK = 4096,
    BUFFER_KEPT = 4096,
};

static void on_route_timeout(struct lt_timer *timer, uint64_t now_ns);
static void on_try_timer(struct lt_timer *timer, uint64_t now_ns);

/* --- states --- */

#define TO(state) (1u << PX_RQ_##state)

/* Where a request may go from each state; WAIT again and again while it is tried. */
static const uint32_t moves[] = {
    [PX_RQ_HEAD] = TO(WAIT) | TO(REPLY),
    [PX_RQ_WAIT] = TO(WAIT) | TO(CONNECT) | TO(FLOW) | TO(REPLY),
    [PX_RQ_CONNECT] = TO(FLOW) | TO(WAIT) | TO(REPLY),
    [PX_RQ_FLOW] = TO(WAIT) | TO(REPLY) | TO(TUNNEL) | TO(DONE),
    [PX_RQ_REPLY] = TO(DONE),
    [PX_RQ_TUNNEL] = 0, /* it ends with its connection */
    [PX_RQ_DONE] = 0,
};

void px_request_set_state(struct px_request *request, px_rq_state state)
{
    LT_ASSERT((moves[request->state] >> state & 1) != 0);
    request->state = state;
}

/* --- objects, used again --- */

struct px_request *px_request_new(struct px_conn *conn)
{
    struct px_worker *worker = conn->worker;
    struct px_request *request = NULL;
    struct lt_arena *arena = NULL;
    struct lt_buf up_out, down_out;
    if (!lt_list_is_empty(&worker->requests)) {
        request = lt_list_first(&worker->requests, struct px_request, wait_link);
        lt_list_remove(&request->wait_link);
        worker->request_count--;
        worker->requests_spare = LT_MIN(worker->requests_spare, worker->request_count);
        arena = request->arena;
        up_out = request->up_out;
        down_out = request->down_out;
        memset(request, 0, sizeof(*request));
    } else {
        request = lt_new(struct px_request);
        arena = lt_arena_new(ARENA_CHUNK, 0);
        lt_buf_init(&up_out, 2 * PX_RQ_HEADS_MAX);
        lt_buf_init(&down_out, 4 * PX_RQ_HEADS_MAX);
    }
    request->worker = worker;
    request->conn = conn;
    request->arena = arena;
    request->pin = px_pin_take(worker->pin);
    request->hcm = conn->chain->hcm;
    request->peer_principal = "";
    request->start_ns = px_now_ns(worker);
    request->start_wall_ns = lt_env_wall_ns(worker->env);
    lt_list_init(&request->wait_link);
    lt_timer_init(&request->timer, on_route_timeout);
    lt_timer_init(&request->try_timer, on_try_timer);
    request->up_out = up_out;
    request->up_out.bytes_max = conn->limits.head_bytes_max + 2 * PX_RQ_HEADS_MAX;
    request->down_out = down_out;
    lt_buf_init(&request->replay, PX_REPLAY_MAX);
    lt_h1_head_init(&request->head, arena, &conn->limits);
    return request;
}

static void forget_hosts(struct px_request *request)
{
    for (uint32_t i = 0; i < request->tried_count; i++)
        px_host_drop(&request->tried[i]);
    request->tried_count = 0;
    px_host_drop(&request->host);
}

void px_request_leave_upstream(struct px_request *request, bool is_reusable)
{
    struct px_cluster *cluster = request->cluster;
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    if (lt_list_is_linked(&request->wait_link))
        lt_list_remove(&request->wait_link);
    if (request->counts_pending)
        cluster->pending--;
    request->counts_pending = false;
    bool had_slot = request->counts_active;
    if (had_slot) {
        cluster->rq_active--;
        request->host->rq_active--;
    }
    request->counts_active = false;
    px_upstream_release(&request->up, is_reusable);
    if (had_slot)
        px_cluster_wake(cluster);
}

static void end_retry(struct px_request *request)
{
    if (request->counts_retry)
        request->cluster->retries_active--;
    request->counts_retry = false;
}

static void free_parts(struct px_request *request)
{
    lt_arena_free(&request->arena);
    lt_buf_fini(&request->up_out);
    lt_buf_fini(&request->down_out);
}

void px_request_free(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    px_request_leave_upstream(request, false);
    end_retry(request);
    forget_hosts(request);
    lt_loop_timer_cancel(worker->loop, &request->timer);
    px_cluster_drop(&request->cluster);
    px_peer_drop(&request->peer);
    px_pin_drop(&request->pin);
    lt_buf_clear(&request->up_out, BUFFER_KEPT);
    lt_buf_clear(&request->down_out, BUFFER_KEPT);
    lt_buf_fini(&request->replay);
    free(request->head_block);
    free(request->rhead_block);
    request->conn = NULL;
    lt_arena_reset(request->arena);
    if (worker->request_count < REQUESTS_KEPT) {
        lt_list_push_front(&worker->requests, &request->wait_link);
        worker->request_count++;
        px_trim_later(worker);
    } else {
        free_parts(request);
        px_bury(worker, request);
    }
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

void px_http_free_requests(struct px_worker *worker)
{
    free_kept(worker, worker->request_count);
}

/* --- timers --- */

static void on_route_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, timer);
    struct px_conn *conn = request->conn;
    if (request->cluster != NULL) {
        px_cluster_count(request->cluster, PX_STAT_RQ_TIMEOUT);
        if (request->host != NULL)
            request->host->rq_timeout++;
    }
    px_request_reply(request, 504, PX_FLAG_UPSTREAM_TIMEOUT, "response_timeout",
                     LT_STR("upstream request timeout"), "text/plain");
    if (conn->state != PX_CONN_CLOSED)
        px_http_run(conn);
}

static void per_try_timeout(struct px_request *request)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_PER_TRY_TIMEOUT);
    if (!px_request_retry_failure(request, PX_FAIL_TIMEOUT))
        px_request_reply(request, 504, PX_FLAG_UPSTREAM_TIMEOUT, "upstream_per_try_timeout",
                         LT_STR("upstream request timeout"), "text/plain");
}

/* A back-off has ended, or a try has lasted too long. */
static void on_try_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, try_timer);
    struct px_conn *conn = request->conn;
    if (request->state == PX_RQ_WAIT)
        px_request_try(request);
    else
        per_try_timeout(request);
    if (conn->state != PX_CONN_CLOSED)
        px_http_run(conn);
}

/* --- the head --- */

static bool check_upgrade(const struct px_request *request)
{
    if (!request->head.wants_upgrade)
        return true;
    return request->hcm->upgrade_websocket &&
           lt_str_case_eq(lt_headers_value(&request->head.headers, LT_H_UPGRADE),
                          LT_STR("websocket"));
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
    if (!check_upgrade(request) || head->method_id == LT_METHOD_CONNECT) {
        px_request_reply(request, 403, 0, "upgrade_failed", LT_STR_NULL, NULL);
        return false;
    }
    return true;
}

static bool normalise_path(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    request->path = request->head.path;
    if (!hcm->normalize_path && !hcm->merge_slashes)
        return true;
    struct lt_url_normal_opts opts = {.normalize = hcm->normalize_path,
                                      .merge_slashes = hcm->merge_slashes};
    if (lt_url_normalize(request->head.path, &opts, request->arena, &request->path) ==
        LT_URL_REJECT) {
        px_request_reply(request, 400, 0, "path_normalization_failed", LT_STR_NULL, NULL);
        return false;
    }
    return true;
}

static bool find_route(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    request->routes = hcm->routes != NULL
                          ? hcm->routes
                          : px_snapshot_find_routes(request->pin->snapshot, hcm->route_config_name);
    struct px_request_facts facts = {
        .method = request->method,
        .scheme = request->scheme,
        .authority = request->authority,
        .path = request->path,
        .headers = &request->head.headers,
        .random = request->random,
    };
    if (request->routes != NULL)
        request->vhost = px_route_find_vhost(request->routes, request->authority);
    if (request->vhost != NULL)
        request->route = px_route_find(request->vhost, &facts);
    if (request->route == NULL)
        px_request_reply(request, 404, PX_FLAG_NO_ROUTE, "route_not_found", LT_STR_NULL, NULL);
    return request->route != NULL;
}

/* --- replies that the route asks for --- */

static lt_str redirect_location(struct px_request *request, const struct px_redirect *to)
{
    bool is_tls = request->conn->transport.tls != NULL || lt_str_eqz(request->scheme, "https");
    lt_str scheme = to->scheme.len > 0 ? to->scheme
                    : to->https        ? LT_STR("https")
                    : is_tls           ? LT_STR("https")
                                       : LT_STR("http");
    lt_str host = to->host.len > 0 ? to->host : request->authority;
    struct lt_url_parts parts = lt_url_split(request->path);
    lt_str path = to->path.len > 0 ? to->path : request->path;
    if (to->prefix_rewrite.len > 0) {
        lt_str rest = lt_str_from(request->path, request->route->path.len);
        path = lt_arena_printf(request->arena, "%.*s%.*s", LT_STR_ARG(to->prefix_rewrite),
                               LT_STR_ARG(rest));
    } else if (to->path.len > 0 && parts.has_query && !to->strip_query &&
               lt_str_find_char(to->path, '?') < 0) {
        path = lt_arena_printf(request->arena, "%.*s?%.*s", LT_STR_ARG(to->path),
                               LT_STR_ARG(parts.query));
    }
    if (to->strip_query)
        path = lt_url_split(path).path;
    if (to->port == 0)
        return lt_arena_printf(request->arena, "%.*s://%.*s%.*s", LT_STR_ARG(scheme),
                               LT_STR_ARG(host), LT_STR_ARG(path));
    ptrdiff_t colon = lt_str_rfind_char(host, ':');
    lt_str bare = colon < 0 || lt_str_ends(host, LT_STR("]"))
                      ? host
                      : lt_str_slice(host, 0, (size_t)colon);
    return lt_arena_printf(request->arena, "%.*s://%.*s:%u%.*s", LT_STR_ARG(scheme),
                           LT_STR_ARG(bare), to->port, LT_STR_ARG(path));
}

static void redirect(struct px_request *request, const struct px_redirect *to)
{
    request->location = redirect_location(request, to);
    px_request_reply(request, to->code, 0, "direct_response", LT_STR_NULL, NULL);
}

/* True when the route answers without any upstream. */
static bool answered_by_route(struct px_request *request)
{
    static const struct px_redirect to_https = {.code = 301, .https = true};
    const struct px_route *route = request->route;
    if (request->vhost->require_tls_all && !lt_str_eqz(request->scheme, "https")) {
        redirect(request, &to_https);
        return true;
    }
    if (route->action == PX_ACTION_REDIRECT) {
        redirect(request, &route->redirect);
        return true;
    }
    if (route->action == PX_ACTION_DIRECT) {
        px_request_reply(request, route->direct_code, 0, "direct_response", route->direct_body,
                         route->direct_body.len > 0 ? "text/plain" : NULL);
        return true;
    }
    return false;
}

static lt_str cluster_name(struct px_request *request)
{
    const struct px_route *route = request->route;
    if (route->action == PX_ACTION_WEIGHTED) {
        request->weighted = px_route_pick_weighted(route->weighted, route->weighted_count,
                                                   route->total_weight, request->random);
        return request->weighted->cluster;
    }
    if (route->action == PX_ACTION_CLUSTER_HEADER)
        return lt_headers_value_of(&request->head.headers, route->cluster);
    return route->cluster;
}

static void read_facts(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    const struct lt_headers *headers = &request->head.headers;
    request->random = lt_prng_next(&request->worker->prng);
    request->method = request->head.method;
    request->authority = request->head.authority;
    lt_str proto = lt_headers_value(headers, LT_H_X_FORWARDED_PROTO);
    bool is_trusted = !request->hcm->use_remote_address && proto.len > 0;
    request->scheme = is_trusted                    ? proto
                      : conn->transport.tls != NULL ? LT_STR("https")
                                                    : LT_STR("http");
    request->is_grpc = lt_str_starts(lt_headers_value(headers, LT_H_CONTENT_TYPE),
                                     LT_STR("application/grpc"));
    request->is_parsed = request->head.body == LT_BODY_NONE;
    request->replay_is_whole = true;
    if (request->is_parsed)
        request->request_end_ns = px_now_ns(request->worker);
    if (request->hcm->has_peer_metadata && request->hcm->is_inbound)
        request->peer = px_telemetry_read_peer(request->worker->telemetry, &request->head.headers,
                                               &request->peer_asked);
}

static void not_spoken(struct px_request *request)
{
    px_request_reply(
        request, 503, PX_FLAG_UPSTREAM_PROTOCOL, "http2_upstream_not_supported",
        LT_STR("the upstream cluster wants HTTP/2, which this proxy does not speak yet"),
        "text/plain");
}

static void cluster_not_found(struct px_request *request)
{
    px_request_reply(request, request->route->cluster_not_found_code, PX_FLAG_NO_CLUSTER,
                     "cluster_not_found", LT_STR_NULL, NULL);
}

void px_request_start(struct px_request *request)
{
    px_request_set_state(request, PX_RQ_WAIT);
    read_facts(request);
    px_conn_set_deadline(request->conn, request->hcm->stream_idle_timeout_ms);
    if (!check_head(request) || !normalise_path(request) || !find_route(request) ||
        answered_by_route(request))
        return;
    struct px_cluster *cluster = px_cluster_get(request->worker, cluster_name(request));
    if (cluster == NULL) {
        cluster_not_found(request);
        return;
    }
    request->cluster = px_cluster_take(cluster);
    if (cluster->conf->protocol == PX_UPSTREAM_H2) {
        not_spoken(request);
        return;
    }
    if (px_request_edit(request) != LT_OK) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return;
    }
    if (request->head.expects_continue && !request->hcm->proxy_100_continue)
        lt_buf_add(&request->down_out, LT_STR("HTTP/1.1 100 Continue\r\n\r\n"));
    if (request->route->timeout_ms != 0 && request->is_parsed)
        lt_loop_timer_set(request->worker->loop, &request->timer,
                          request->route->timeout_ms * LT_NS_PER_MS);
    px_request_try(request);
}

/* --- a try --- */

static void overflow(struct px_request *request)
{
    px_cluster_count(request->cluster, PX_STAT_RQ_PENDING_OVERFLOW);
    request->is_overloaded = true;
    px_request_reply(
        request, 503, PX_FLAG_UPSTREAM_OVERFLOW, "upstream_reset_before_response_started{overflow}",
        LT_STR("upstream connect error or disconnect/reset before headers. reset reason: overflow"),
        "text/plain");
}

/* No connection may be made now: wait until one comes free. */
static void wait_in_line(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    if (cluster->pending >= cluster->conf->circuit.max_pending_requests) {
        overflow(request);
        return;
    }
    px_cluster_count(cluster, PX_STAT_RQ_PENDING_TOTAL);
    px_request_set_state(request, PX_RQ_WAIT);
    request->counts_pending = true;
    cluster->pending++;
    lt_list_push_back(&cluster->waiting, &request->wait_link);
}

static const lt_str istio_alpn[] = {{"istio-http/1.1", 14}, {"istio", 5}, {"http/1.1", 8}};

/* Envoy: filter istio.alpn offers the protocol of the request, unless the cluster says no. */
static struct px_upstream *connect_new(struct px_request *request, struct px_host *host)
{
    bool overrides = request->hcm->has_istio_alpn && !request->cluster->conf->has_alpn_override_off;
    return px_upstream_connect(host, request, NULL, overrides ? istio_alpn : NULL,
                               overrides ? LT_ARRAY_LEN(istio_alpn) : 0);
}

static void count_active(struct px_request *request)
{
    request->counts_active = true;
    request->cluster->rq_active++;
    request->host->rq_active++;
    request->host->rq_total++;
    px_cluster_count(request->cluster, PX_STAT_RQ_TOTAL);
}

static void use_host(struct px_request *request, struct px_host *host)
{
    if (request->host != NULL && request->tried_count < PX_RQ_HOSTS_MAX)
        request->tried[request->tried_count++] = px_host_take(request->host);
    px_host_drop(&request->host);
    request->host = px_host_take(host);
}

static void refused_at_once(struct px_request *request)
{
    if (px_request_retry_failure(request, PX_FAIL_CONNECT))
        return;
    px_request_reply(
        request, 503, PX_FLAG_UPSTREAM_FAILURE,
        "upstream_reset_before_response_started{local_connection_failure}",
        LT_STR(
            "upstream connect error or disconnect/reset before headers. reset reason: local connection failure"),
        "text/plain");
}

void px_request_try(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    const struct px_retry *retry = request->route->retry;
    bool avoids = retry != NULL && retry->avoid_previous_hosts;
    px_request_set_state(request, PX_RQ_WAIT);
    if (cluster->is_gone) { /* it went while this request waited */
        cluster_not_found(request);
        return;
    }
    if (cluster->rq_active >= cluster->conf->circuit.max_requests) {
        wait_in_line(request);
        return;
    }
    struct px_host *tried[PX_RQ_HOSTS_MAX + 1];
    memcpy(tried, request->tried, sizeof(request->tried));
    size_t tried_count = request->tried_count;
    if (request->host != NULL)
        tried[tried_count++] = request->host;
    struct px_host *host = px_cluster_pick(cluster, &request->conn->local, tried,
                                           avoids ? tried_count : 0,
                                           avoids ? retry->host_attempts : 1);
    if (host == NULL) {
        px_cluster_count(cluster, PX_STAT_RQ_NONE_HEALTHY);
        px_request_reply(request, 503, PX_FLAG_NO_HEALTHY_UPSTREAM, "no_healthy_upstream",
                         LT_STR("no healthy upstream"), "text/plain");
        return;
    }
    bool has_idle = !lt_list_is_empty(&host->idle);
    /*
     * Envoy: a host without any connection may have its first beyond the limit, or it would wait
     * for ever
     */
    if (!has_idle && cluster->cx_active >= cluster->conf->circuit.max_connections &&
        host->cx_active > 0) {
        px_cluster_count(cluster, PX_STAT_CX_OVERFLOW);
        wait_in_line(request);
        return;
    }
    use_host(request, host);
    request->attempts++;
    if (px_request_write_head(request) != LT_OK) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return;
    }
    count_active(request);
    request->up_start_ns = px_now_ns(request->worker);
    if (retry != NULL && retry->per_try_timeout_ms != 0)
        lt_loop_timer_set(request->worker->loop, &request->try_timer,
                          retry->per_try_timeout_ms * LT_NS_PER_MS);
    request->up = px_upstream_reuse(host, request);
    if (request->up != NULL) {
        px_request_set_state(request, PX_RQ_FLOW);
        request->peer_principal = px_intern(request->worker,
                                            lt_tls_peer_uri(&request->up->transport));
        return;
    }
    px_request_set_state(request, PX_RQ_CONNECT);
    request->up = connect_new(request, host);
    if (request->up == NULL)
        refused_at_once(request);
}
