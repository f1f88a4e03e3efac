/*
 * proxy/http/router.c - the last step: the answer that the route gives by itself, or a cluster, a
 * host, a connection. What goes over it: flow.c. Whether a failed try is repeated: retry.c.
 * Start at: px_router_start(), px_request_try().
 */
#include "http/url.h"
#include "proxy/conf/route_match.h"
#include "proxy/http/hash_policy.h"
#include "proxy/http/request.h"
#include "proxy/http/steer.h"
#include "proxy/run/worker.h"

enum { ALL_PPM = 1000000 };

static const struct lt_header_set steers_times = LT_HEADER_SET(PX_STEERS_TIMES);
static const struct lt_header_set steers_tries = LT_HEADER_SET(PX_STEERS_TRIES);

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
    if (to->regex_rewrite != NULL) {
        struct lt_buf out;
        lt_buf_init(&out, PX_RQ_HEADS_MAX);
        if (lt_regex_replace(to->regex_rewrite, parts.path, to->regex_substitution, &out) == LT_OK)
            path = lt_arena_printf(request->arena, "%.*s%s%.*s", LT_STR_ARG(lt_buf_str(&out)),
                                   parts.has_query ? "?" : "", LT_STR_ARG(parts.query));
        lt_buf_fini(&out);
    } else if (to->prefix_rewrite.len > 0) {
        lt_str rest = px_route_unmatched(request->route, request->path);
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
    const struct px_vhost *vhost = request->vhost;
    bool needs_tls = vhost->require_tls_all ||
                     (vhost->require_tls_external && !request->is_internal);
    if (needs_tls && !lt_str_eqz(request->scheme, "https")) {
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

lt_str px_request_cluster_name(const struct px_request *request)
{
    const struct px_route *route = request->route;
    if (route == NULL)
        return LT_STR_NULL;
    if (route->action == PX_ACTION_WEIGHTED)
        return request->weighted->header.len > 0
                   ? lt_headers_value_of(&request->head.headers, request->weighted->header)
                   : request->weighted->cluster;
    if (route->action == PX_ACTION_CLUSTER_HEADER)
        return lt_headers_value_of(&request->head.headers, route->cluster);
    return route->cluster;
}

static void cluster_not_found(struct px_request *request)
{
    px_request_reply(request, request->route->cluster_not_found_code, PX_FLAG_NO_CLUSTER,
                     "cluster_not_found", LT_STR_NULL, NULL);
}

static void route_not_found(struct px_request *request)
{
    px_request_reply(request, 404, PX_FLAG_NO_ROUTE, "route_not_found", LT_STR_NULL, NULL);
}

static void drop(struct px_request *request, bool is_all)
{
    request->reply_mark = is_all ? "x-envoy-unconditional-drop-overload" : "x-envoy-drop-overload";
    if (is_all)
        px_request_reply(request, 503, PX_FLAG_DROP_ALL, "unconditional_drop_overload",
                         LT_STR("unconditional drop overload"), "text/plain");
    else
        px_request_reply(request, 503, PX_FLAG_DROP_OVERLOAD, "drop_overload",
                         LT_STR("drop overload"), "text/plain");
}

static void count_drop(struct px_cluster *cluster, lt_str category)
{
    if (cluster->drops == NULL)
        cluster->drops = lt_new(struct px_drop_tally);
    *px_drop_tally_at(cluster->drops, category) += 1;
}

/* ClusterLoadAssignment.Policy.drop_overloads. True: answered. */
static bool dropped(struct px_request *request)
{
    const struct px_endpoints_conf *endpoints = request->cluster->endpoints;
    for (size_t i = 0; endpoints != NULL && i < endpoints->drop_count; i++) {
        if (lt_prng_below(&request->worker->prng, ALL_PPM) >= endpoints->drops[i].ppm)
            continue;
        count_drop(request->cluster, endpoints->drops[i].category);
        drop(request, endpoints->drops[i].ppm >= ALL_PPM);
        return true;
    }
    return false;
}

/* How long, and how often: of the route, unless the request says something else. */
static void choose_times(struct px_request *request)
{
    px_deadlines_router(request);
    request->retry = request->route->retry;
    request->try_timeout_ms = request->retry != NULL ? request->retry->per_try_timeout_ms : 0;
    if (request->route->body_limit != UINT64_MAX) /* what a filter holds is not for retries */
        request->replay.bytes_max = LT_MAX(request->route->body_limit,
                                           lt_buf_len(&request->replay));
    if (lt_headers_may_have_any(&request->head.headers, &steers_times))
        px_steer_times(request);
}

static bool edited(struct px_request *request)
{
    if (px_request_edit(request) != LT_OK) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return false;
    }
    if (lt_headers_may_have_any(&request->head.headers, &steers_tries))
        px_steer_retries(request);
    request->keeps_body = request->retry != NULL || request->route->internal_redirects != NULL;
    return true;
}

void px_router_start(struct px_request *request)
{
    if (request->hcm->router.strict_headers != 0 && !px_steer_check(request))
        return;
    if (request->route == NULL) {
        route_not_found(request);
        return;
    }
    if (answered_by_route(request))
        return;
    choose_times(request);
    struct px_cluster *cluster = px_cluster_get(request->worker, px_request_cluster_name(request));
    if (cluster == NULL) {
        cluster_not_found(request);
        return;
    }
    request->cluster = px_cluster_take(cluster);
    if (dropped(request))
        return;
    if (!edited(request))
        return;
    if (px_request_mirrors(request)->count > 0)
        px_request_start_mirrors(request);
    if (request->head.expects_continue && !request->hcm->proxy_100_continue &&
        !request->has_said_continue) {
        struct lt_http_head go_on = {.status = 100};
        if (request->down->interim(request, &go_on) != LT_OK) {
            request->down->abort(request);
            return;
        }
    }
    if (px_request_is_read(request))
        px_request_arm_timeout(request);
    px_request_try(request);
}

/* --- a try --- */

static void overflow(struct px_request *request, px_cluster_stat stat)
{
    px_cluster_count(request->cluster, stat);
    request->reply_mark = "x-envoy-overloaded";
    px_request_reply(
        request, 503, PX_FLAG_UPSTREAM_OVERFLOW, "upstream_reset_before_response_started{overflow}",
        LT_STR("upstream connect error or disconnect/reset before headers. reset reason: overflow"),
        "text/plain");
}

/* Envoy: whoever does not find a connection at once is pending. False: too many are; answered. */
static bool count_pending(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    if (request->counts_pending)
        return true;
    px_priority priority = px_request_priority(request);
    if (!px_limit_has_room(cluster, priority, PX_LIMIT_PENDING)) {
        overflow(request, PX_STAT_RQ_PENDING_OVERFLOW);
        return false;
    }
    px_cluster_count(cluster, PX_STAT_RQ_PENDING_TOTAL);
    request->counts_pending = true;
    px_limit_take(cluster, priority, PX_LIMIT_PENDING, &request->is_shared_pending);
    return true;
}

/* No connection may be made now: wait until one comes free. */
static void wait_in_line(struct px_request *request)
{
    px_request_set_state(request, PX_RQ_WAIT);
    lt_list_push_back(&request->cluster->waiting, &request->wait_link);
}

static const lt_str alpn_h1[] = {{"istio-http/1.1", 14}, {"istio", 5}, {"http/1.1", 8}};
static const lt_str alpn_h10[] = {{"istio-http/1.0", 14}, {"istio", 5}, {"http/1.0", 8}};
static const lt_str alpn_h2[] = {{"istio-h2", 8}, {"istio", 5}, {"h2", 2}};
static const lt_str alpn_plain[] = {{"h2", 2}, {"http/1.1", 8}};

/*
 * Envoy: filter istio.alpn offers the protocol of the request, unless the cluster says no; else the
 * transport socket names what it offers; where it names nothing it is what is going to be spoken.
 */
static void choose_alpn(const struct px_request *request, const struct px_host *host,
                        struct px_connect *how)
{
    if (request->hcm->has_istio_alpn && !request->cluster->conf->has_alpn_override_off) {
        bool is_old = request->down->protocol == PX_PROTO_H1 && request->head.minor == 0;
        how->alpn = how->protocol == PX_PROTO_H2 ? alpn_h2 : is_old ? alpn_h10 : alpn_h1;
        how->alpn_count = LT_ARRAY_LEN(alpn_h1);
    } else if (host->tls != NULL && host->tls->alpn_count == 0) {
        bool is_h2 = how->protocol == PX_PROTO_H2;
        how->alpn = is_h2 || how->asks_alpn ? alpn_plain : alpn_plain + 1;
        how->alpn_count = how->asks_alpn ? LT_ARRAY_LEN(alpn_plain) : 1;
    }
}

/* CONNECT with connect_config. */
static bool ends_here(const struct px_request *request)
{
    if (request->head.method_id != LT_METHOD_CONNECT)
        return false;
    const struct px_upgrade_conf *upgrade = px_route_upgrade(request->route, LT_STR("CONNECT"));
    return upgrade != NULL && upgrade->ends_here;
}

/* auto_sni: whom the request is for. */
static lt_str host_name(const struct px_request *request)
{
    const struct px_cluster_conf *conf = request->cluster->conf;
    if (!conf->has_auto_sni && !conf->has_auto_san)
        return LT_STR_NULL;
    lt_str other = conf->auto_sni_header != NULL
                       ? lt_headers_value_of(&request->head.headers, *conf->auto_sni_header)
                       : LT_STR_NULL;
    return lt_url_host(other.len > 0 ? other : request->authority);
}

static struct px_connect choose_protocol(struct px_request *request, const struct px_host *host)
{
    struct px_connect how = {
        .protocol = PX_PROTO_H1,
        .priority = px_request_priority(request),
        .name = host_name(request),
        .client_id = request->cluster->conf->has_pool_per_client ? request->conn->id + 1 : 0,
        .request = request,
    };
    switch (request->cluster->conf->protocol) {
    case PX_UPSTREAM_H1: break;
    case PX_UPSTREAM_H2: how.protocol = PX_PROTO_H2; break;
    case PX_UPSTREAM_AS_DOWNSTREAM: how.protocol = request->client_protocol; break;
    case PX_UPSTREAM_AUTO: how.asks_alpn = true; break;
    }
    if (ends_here(request))
        return (struct px_connect){.protocol = PX_PROTO_RAW, .request = request};
    choose_alpn(request, host, &how);
    return how;
}

static void use_host(struct px_request *request, struct px_host *host)
{
    if (request->host != NULL && request->tried_count < PX_RQ_HOSTS_MAX)
        request->tried[request->tried_count++] = px_host_take(request->host);
    px_host_drop(&request->host);
    request->host = px_host_take(host);
    const struct px_retry *retry = request->retry;
    if (retry != NULL && retry->priority_every > 0)
        request->tried_levels |= 1u << LT_MIN(px_host_priority(host), 31u);
}

void px_request_forget_hosts(struct px_request *request)
{
    for (uint32_t i = 0; i < request->tried_count; i++)
        px_host_drop(&request->tried[i]);
    request->tried_count = 0;
    px_host_drop(&request->host);
}

/* ORIGINAL_DST: where the request says it was meant for, else where its connection was. */
static const struct lt_addr *find_destination(struct px_request *request, struct lt_addr *space)
{
    const struct px_original_dst_conf *conf = request->cluster->conf->original_dst;
    lt_str text = conf != NULL && conf->header.len > 0
                      ? lt_headers_value_of(&request->head.headers, conf->header)
                      : LT_STR_NULL;
    if (text.len > 0 && lt_addr_parse_hostport(text, space) == LT_OK)
        return space;
    if (text.len > 0)
        px_cluster_count(request->cluster, PX_STAT_DST_HOST_INVALID);
    return request->conn->has_original_dst ? &request->conn->local : NULL;
}

/* retry_priority: what the tries so far have tried is left out every so many tries. */
static uint32_t spared_levels(struct px_request *request, const struct px_retry *retry)
{
    if (request->attempts > 0 && request->attempts % retry->priority_every == 0)
        request->spared_levels = request->tried_levels;
    return request->spared_levels;
}

static struct px_host *choose_host(struct px_request *request)
{
    const struct px_retry *retry = request->retry;
    struct px_host *tried[PX_RQ_HOSTS_MAX + 1];
    struct lt_addr space;
    struct px_pick pick = {
        .metas = request->weighted != NULL ? request->weighted->metas : request->route->metas,
    };
    if (request->cluster->conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        pick.original_dst = find_destination(request, &space);
    if (request->route->hash != NULL && px_cluster_is_hashed(request->cluster))
        pick.has_hash = px_hash_request(request, &pick.hash);
    if (retry != NULL && retry->priority_every > 0)
        pick.tried_levels = spared_levels(request, retry);
    if (retry != NULL && request->attempts > 0) {
        pick.retry = retry;
        pick.attempts = retry->host_attempts + 1;
    }
    if (retry != NULL && retry->avoid_previous_hosts) {
        memcpy(tried, request->tried, sizeof(request->tried));
        pick.avoid = tried;
        pick.avoid_count = request->tried_count;
        pick.attempts = retry->host_attempts + 1;
        if (request->host != NULL)
            tried[pick.avoid_count++] = request->host;
    }
    return px_cluster_pick(request->cluster, &pick);
}

static void no_host(struct px_request *request, px_cluster_stat stat)
{
    px_cluster_count(request->cluster, stat);
    px_request_reply(request, 503, PX_FLAG_NO_HEALTHY_UPSTREAM, "no_healthy_upstream",
                     LT_STR("no healthy upstream"), "text/plain");
}

/* NULL: it is answered. */
static struct px_host *pick_host(struct px_request *request)
{
    struct px_host *host = choose_host(request);
    if (host == NULL) {
        no_host(request, PX_STAT_CX_NONE_HEALTHY);
    } else if (!px_host_may_have_pool(host, px_request_priority(request))) {
        no_host(request, PX_STAT_CX_POOL_OVERFLOW);
        host = NULL;
    }
    return host;
}

static void head_too_large(struct px_request *request)
{
    px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
}

static void set_pending_at_host(struct px_request *request, bool is_pending)
{
    if (request->counts_at_host == is_pending)
        return;
    request->counts_at_host = is_pending;
    request->host->rq_pending += is_pending ? 1u : -1u;
}

static void leave_counts(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    set_pending_at_host(request, false);
    if (request->counts_pending)
        px_limit_give(cluster, px_request_priority(request), PX_LIMIT_PENDING,
                      request->is_shared_pending);
    request->counts_pending = false;
    if (request->counts_active) {
        px_limit_give(cluster, px_request_priority(request), PX_LIMIT_REQUESTS,
                      request->is_shared_active);
        request->host->lb.rq_active--;
        px_cluster_wake(cluster);
    }
    request->counts_active = false;
}

void px_request_leave_upstream(struct px_request *request, bool is_reusable)
{
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    if (request->rare != NULL) {
        lt_loop_timer_cancel(request->worker->loop, &request->rare->try_idle);
        lt_loop_timer_cancel(request->worker->loop, &request->rare->try_life);
    }
    lt_list_remove(&request->wait_link);
    if (request->up_codec != NULL)
        request->up_codec->leave(request, is_reusable);
    else if (lt_list_is_linked(&request->up_link))
        px_upstream_unshare(request); /* it waited for it to stand */
    else
        px_upstream_release(&request->up, false);
    request->up_codec = NULL;
    if (request->counts_pending)
        px_cluster_count(request->cluster, PX_STAT_RQ_CANCELLED);
    leave_counts(request);
}

static const struct px_up *const codecs[] = {
    [PX_PROTO_RAW] = &px_up_raw,
    [PX_PROTO_H1] = &px_up_h1,
    [PX_PROTO_H2] = &px_up_h2,
};

/* The request has its connection: the try begins. */
static void begin_try(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    leave_counts(request);
    request->up_codec = codecs[request->up->protocol];
    px_priority priority = px_request_priority(request);
    if (!px_limit_has_room(cluster, priority, PX_LIMIT_REQUESTS)) {
        px_request_leave_upstream(request, true);
        overflow(request, PX_STAT_RQ_ACTIVE_OVERFLOW);
        return;
    }
    request->counts_active = true;
    px_limit_take(cluster, priority, PX_LIMIT_REQUESTS, &request->is_shared_active);
    request->host->lb.rq_active++;
    request->host->rq_total++;
    px_cluster_count(cluster, PX_STAT_RQ_TOTAL);
    if (++request->up->served == cluster->conf->max_requests_per_connection)
        px_cluster_count(cluster, PX_STAT_CX_MAX_REQUESTS);
    px_text_set(&request->peer_principal,
                px_intern(request->worker, lt_tls_peer_uri(&request->up->transport)));
    if (cluster->conf->response->max_stream_ms != 0)
        lt_loop_timer_set(request->worker->loop, &px_request_rare(request)->try_life,
                          cluster->conf->response->max_stream_ms * LT_NS_PER_MS);
    px_request_set_state(request, PX_RQ_FLOW);
    px_host_note_connected(request->host, false);
    if (px_request_edit_try(request) != LT_OK || request->up_codec->start(request) != LT_OK)
        head_too_large(request);
}

static void start_try_timer(struct px_request *request)
{
    request->up_start_ns = px_now_ns(request->worker);
    if (request->try_timeout_ms != 0)
        lt_loop_timer_set(request->worker->loop, &request->try_timer,
                          request->try_timeout_ms * LT_NS_PER_MS);
    px_request_touch_try(request);
}

/* Response code details and the words for people, by how a connection did not come to stand. */
static const struct {
    const char *details, *text;
} failures[] = {
    [PX_FAILED_REMOTE] = {"remote_connection_failure", "remote connection failure"},
    [PX_FAILED_LOCAL] = {"local_connection_failure", "local connection failure"},
    [PX_FAILED_TIMEOUT] = {"connection_timeout", "connection timeout"},
};

/* With the transport's own words behind it: details hold no blanks. */
static const char *failure_details(struct px_request *request, const struct px_failed *failed)
{
    bool has_words = request->failure[0] != '\0' && failed->how != PX_FAILED_TIMEOUT;
    lt_str text = lt_arena_printf(request->arena, "upstream_reset_before_response_started{%s%s%s}",
                                  failures[failed->how].details, has_words ? "|" : "",
                                  has_words ? request->failure : "");
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == ' ')
            ((char *)text.ptr)[i] = '_';
    }
    return lt_arena_strz(request->arena, text);
}

static void connect_failed(struct px_request *request, const struct px_failed *failed)
{
    request->failure = lt_arena_strz(request->arena, lt_str_of(failed->reason));
    px_host_note_failed(request->host);
    leave_counts(request);
    px_cluster_count(request->cluster, PX_STAT_RQ_PENDING_FAILURE);
    if (px_request_retry_failure(request, PX_FAIL_CONNECT))
        return;
    lt_str body = lt_arena_printf(
        request->arena,
        "upstream connect error or disconnect/reset before headers. reset reason: %s",
        failures[failed->how].text);
    px_request_reply(request, 503, PX_FLAG_UPSTREAM_FAILURE, failure_details(request, failed), body,
                     "text/plain");
}

/* The host has ended one idle connection under this request; it may be about to end them all. */
static bool wants_fresh(const struct px_request *request, const struct px_host *host,
                        const struct px_connect *how)
{
    return request->was_replayed && how->protocol == PX_PROTO_H1 &&
           (host->cx_active == 0 || px_host_may_connect(host, px_request_priority(request)));
}

void px_request_try(struct px_request *request)
{
    struct px_cluster *cluster = request->cluster;
    px_request_set_state(request, PX_RQ_WAIT);
    if (cluster->is_gone) { /* it went while this request waited */
        no_host(request, PX_STAT_CX_NONE_HEALTHY);
        return;
    }
    struct px_host *host = pick_host(request);
    if (host == NULL)
        return;
    struct px_connect how = choose_protocol(request, host);
    bool stands = false;
    if (how.protocol != PX_PROTO_RAW && !wants_fresh(request, host, &how))
        request->up = px_upstream_reuse(host, &how, &stands);
    request->is_on_used = request->up != NULL && stands;
    bool must_wait = request->up == NULL || !stands;
    if (must_wait && !count_pending(request))
        return;
    /*
     * Envoy: a host without any connection may have its first beyond the limit, or it would wait
     * for ever
     */
    if (request->up == NULL && host->cx_active > 0 &&
        !px_host_may_connect(host, px_request_priority(request))) {
        px_cluster_count(cluster, PX_STAT_CX_OVERFLOW);
        wait_in_line(request);
        return;
    }
    use_host(request, host);
    request->attempts++;
    start_try_timer(request);
    if (!must_wait) {
        begin_try(request);
        return;
    }
    px_request_set_state(request, PX_RQ_CONNECT);
    set_pending_at_host(request, true);
    struct px_failed failed;
    if (request->up == NULL)
        request->up = px_upstream_connect(host, &how, &failed);
    if (request->up == NULL)
        connect_failed(request, &failed);
}

void px_request_attach(struct px_request *request)
{
    begin_try(request);
    px_request_run(request);
}

void px_request_connect_failed(struct px_request *request, const struct px_failed *failed)
{
    connect_failed(request, failed);
    px_request_run(request);
}

void px_request_look_again(struct px_request *request)
{
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    set_pending_at_host(request, false);
    px_host_drop(&request->host);
    request->attempts--;
    px_request_try(request);
    px_request_run(request);
}

void px_http_wake_first(struct px_cluster *cluster)
{
    struct px_request *request = lt_list_first(&cluster->waiting, struct px_request, wait_link);
    lt_list_remove(&request->wait_link);
    px_request_try(request);
    px_request_run(request);
}
