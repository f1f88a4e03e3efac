/*
 * proxy/http/redirect.c - redirects that the proxy follows itself (internal_redirect_policy): the
 * request is told as it stands, and begins again with what the host named, route and steps
 * included. What cannot be followed goes to the client.
 * Trust: the location is a host's word; it is checked as a client's target is.
 * Start at: px_request_follow().
 */
#include "http/url.h"
#include "proxy/http/pace.h"
#include "proxy/http/request.h"
#include "proxy/told/codec_stats.h"

/* A route that a redirect led to, from another. */
struct px_hop {
    const struct px_hop *next;
    const struct px_route *from;
    lt_str to; /* its name */
};

struct target {
    lt_str scheme, authority, path;
};

/* --- where to --- */

static bool read_location(struct px_request *request, lt_str location, struct target *to)
{
    struct lt_url url;
    if (!lt_url_absolute(location, &url))
        return false;
    bool has_slash = url.path.len > 0 && url.path.ptr[0] == '/';
    to->scheme = url.is_https ? LT_STR("https") : LT_STR("http");
    to->authority = lt_arena_str(request->arena, url.authority);
    to->path = lt_arena_printf(request->arena, "%s%.*s", has_slash ? "" : "/",
                               LT_STR_ARG(url.path));
    return true;
}

/* --- may it? --- */

static bool was_there(const struct px_request *request, const struct px_route *from, lt_str name)
{
    for (const struct px_hop *hop = request->hops; hop != NULL; hop = hop->next) {
        if (hop->from == from && lt_str_eq(hop->to, name))
            return true;
    }
    return false;
}

static bool is_allowed(const struct px_internal_redirects *policy, lt_str name)
{
    for (size_t i = 0; i < policy->allowed_count; i++) {
        if (lt_str_eq(policy->allowed[i], name))
            return true;
    }
    return !policy->has_allowed;
}

/* The route that was found takes it. */
static bool takes(const struct px_request *request, const struct px_route *from, bool to_https,
                  bool from_https)
{
    const struct px_internal_redirects *policy = from->internal_redirects;
    lt_str name = request->route->name;
    if (policy->only_safely && to_https && !from_https)
        return false;
    if (policy->not_twice && was_there(request, from, name))
        return false;
    return is_allowed(policy, name);
}

/* --- beginning again --- */

static lt_rc edit_head(struct px_request *request, const struct px_internal_redirects *policy,
                       lt_str original)
{
    struct lt_headers *headers = &request->head.headers;
    for (size_t i = 0; i < policy->copied_count; i++) {
        lt_str value = lt_headers_joined(&request->rhead.headers, policy->copied[i]);
        lt_headers_remove_name(headers, policy->copied[i]);
        if (value.ptr != NULL)
            LT_TRY(lt_headers_add(headers, policy->copied[i], lt_arena_str(request->arena, value)));
    }
    return lt_headers_set(headers, LT_STR("x-envoy-original-url"), original);
}

/* RFC 9110 section 15.4.4: what is to be seen there is to be got, whatever was done here. */
static void become_get(struct px_request *request)
{
    struct lt_http_head *head = &request->head;
    if (head->method_id == LT_METHOD_GET || head->method_id == LT_METHOD_HEAD)
        return;
    head->method = request->method = LT_STR("GET");
    head->method_id = LT_METHOD_GET;
    head->body = LT_BODY_NONE;
    head->has_content_length = head->is_chunked = false;
    lt_headers_remove(&head->headers, LT_H_CONTENT_LENGTH);
    lt_headers_remove(&head->headers, LT_H_TRANSFER_ENCODING);
    lt_buf_clear(&request->replay, 0);
    request->req.trailers = NULL;
}

static void forget_first_way(struct px_request *request)
{
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    if (request->counts_retry)
        px_limit_give(request->cluster, px_request_priority(request), PX_LIMIT_RETRIES,
                      request->is_shared_retry);
    request->counts_retry = false;
    px_request_forget_hosts(request);
    px_cluster_drop(&request->cluster);
    if (request->pace != NULL)
        px_pace_end(request);
    request->pace = NULL;
    request->attempts = request->tried_levels = request->spared_levels = 0;
    request->interim_count = request->mirror_count = 0;
    request->is_hashed = request->has_hash = request->was_replayed = false;
    request->is_framing_chosen = false;
    request->hash_cookies = NULL;
    request->retry = NULL;
    request->tries = NULL;
    request->code = request->flags = request->answered_at = 0;
    request->details = request->failure = NULL;
    request->original_path = LT_STR_NULL;
    request->up_start_ns = request->response_begin_ns = 0;
    request->start_ns = request->request_end_ns = px_now_ns(request->worker);
    request->start_wall_ns = lt_env_wall_ns(request->worker->env);
}

static void begin_again(struct px_request *request, const struct px_route *from)
{
    struct px_hop *hop = lt_arena_make(request->arena, struct px_hop);
    *hop = (struct px_hop){request->hops, from, request->route->name};
    request->hops = hop;
    request->redirects++;
    px_cluster_count(request->cluster, PX_STAT_REDIRECT_FOLLOWED);
    if (request->rhead.status == 303)
        become_get(request);
    request->details = "internal_redirect";
    px_request_report(request);
    const struct px_route *to = request->route;
    request->route = from; /* whose limits its try counts in */
    px_request_leave_upstream(request, px_request_has_whole(request));
    px_request_rewind(request);
    forget_first_way(request);
    request->route = to;
    if (lt_buf_len(&request->replay) == 0)
        request->resends = false;
    px_filters_again(request);
    px_request_set_state(request, PX_RQ_FILTER);
    px_request_ready(request);
}

/* --- the whole --- */

/* As it was before; the response goes to the client. */
static bool pass(struct px_request *request, px_hcm_stat why)
{
    px_hcm_count(request->worker, request->hcm, why);
    px_cluster_count(request->cluster, PX_STAT_REDIRECT_PASSED);
    return false;
}

static bool go(struct px_request *request, const struct target *to)
{
    const struct px_route *from = request->route;
    lt_str scheme = request->scheme, authority = request->authority;
    lt_str path = request->path, head_path = request->head.path;
    if (!px_request_set_path(request, to->path))
        return pass(request, PX_HCM_REDIRECT_LOCATION);
    lt_str original = lt_arena_printf(request->arena, "%.*s://%.*s%.*s", LT_STR_ARG(scheme),
                                      LT_STR_ARG(authority), LT_STR_ARG(path));
    request->scheme = to->scheme;
    request->authority = to->authority;
    px_forward_host(request);
    px_request_find_route(request);
    px_hcm_stat why = PX_HCM_STATS;
    if (request->route == NULL)
        why = PX_HCM_REDIRECT_NO_ROUTE;
    else if (!takes(request, from, lt_str_eqz(to->scheme, "https"), lt_str_eqz(scheme, "https")))
        why = PX_HCM_REDIRECT_PREDICATE;
    else if (edit_head(request, from->internal_redirects, original) != LT_OK)
        why = PX_HCM_REDIRECT_LOCATION; /* it has no room for more */
    if (why == PX_HCM_STATS) {
        begin_again(request, from);
        return true;
    }
    request->scheme = scheme;
    request->authority = authority;
    request->path = path;
    request->head.path = head_path;
    px_request_find_route(request);
    request->route = from;
    return pass(request, why);
}

bool px_request_follow(struct px_request *request)
{
    const struct px_internal_redirects *policy = request->route->internal_redirects;
    struct target to;
    if ((px_redirect_bit(request->rhead.status) & policy->codes) == 0)
        return false;
    lt_str location = lt_headers_value(&request->rhead.headers, LT_H_LOCATION);
    bool is_complete = px_request_is_read(request) && request->replay_is_whole &&
                       !request->head.wants_upgrade && !request->client_has_gone &&
                       request->down->protocol != PX_PROTO_RAW;
    if (!is_complete) {
        px_cluster_count(request->cluster, PX_STAT_REDIRECT_PASSED);
        return false;
    }
    if (!read_location(request, location, &to))
        return pass(request, PX_HCM_REDIRECT_LOCATION);
    bool is_other = !lt_str_eq(to.scheme, request->scheme);
    if (is_other && !policy->crosses_schemes)
        return pass(request, PX_HCM_REDIRECT_SCHEME);
    if (request->redirects >= policy->max)
        return pass(request, PX_HCM_REDIRECT_TOO_MANY);
    return go(request, &to);
}
