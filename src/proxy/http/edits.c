/*
 * proxy/http/edits.c - what the proxy does to heads on their way: headers that it adds, sets and
 * takes out, rewrites, the head as it is written. Rules: Envoy's http_conn_man/headers, Istio's
 * HttpConnectionManager fields.
 * Start at: px_request_edit(), px_response_edit().
 */
#include <stdio.h>

#include "http/url.h"
#include "proxy/conf/route_match.h"
#include "proxy/http/request.h"
#include "proxy/http/steer.h"
#include "proxy/http/xfcc.h"
#include "proxy/told/trace.h"

enum { EDITS_BYTES = 32 * 1024, EDITS_COUNT = 64 };

/*
 * What the proxy adds comes on top of what a peer may send: a head at its limit is still forwarded.
 */
static void make_room(struct lt_headers *headers)
{
    headers->bytes_max += EDITS_BYTES;
    headers->count_max += EDITS_COUNT;
}

/* --- header edits of the configuration --- */

lt_rc px_request_format(struct px_request *request, const struct px_format *format,
                        lt_str *ret_text)
{
    char addresses[5][LT_ADDR_TEXT_MAX];
    struct px_log_facts facts;
    struct lt_buf out;
    struct px_format_opts opts = {.values_max = EDITS_BYTES, .refuses_cuts = true};
    lt_buf_init(&out, 2 * EDITS_BYTES);
    px_request_log_facts(request, &facts, addresses);
    lt_rc rc = px_format_write(format, &facts, &opts, &out);
    if (rc == LT_OK)
        *ret_text = lt_arena_str(request->arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return rc;
}

lt_rc px_request_edit_header(struct px_request *request, struct lt_headers *headers,
                             const struct px_header_edit *edit)
{
    lt_str value = edit->value;
    if (edit->format != NULL)
        LT_TRY(px_request_format(request, edit->format, &value));
    if (value.len == 0 && !edit->keeps_empty)
        return LT_OK; /* Envoy leaves out what formats to nothing */
    bool is_there = lt_headers_find_name(headers, edit->name) != NULL;
    switch (edit->action) {
    case PX_APPEND: return lt_headers_add(headers, edit->name, value);
    case PX_ADD_IF_ABSENT: return is_there ? LT_OK : lt_headers_add(headers, edit->name, value);
    case PX_OVERWRITE_OR_ADD: return lt_headers_set(headers, edit->name, value);
    case PX_OVERWRITE_IF_EXISTS:
        return is_there ? lt_headers_set(headers, edit->name, value) : LT_OK;
    }
    return LT_OK;
}

static lt_rc apply_edits(struct px_request *request, struct lt_headers *headers,
                         const struct px_header_edits *edits)
{
    for (size_t i = 0; i < edits->remove_count; i++)
        lt_headers_remove_name(headers, edits->remove[i]);
    for (size_t i = 0; i < edits->add_count; i++)
        LT_TRY(px_request_edit_header(request, headers, &edits->add[i]));
    return LT_OK;
}

/* --- request --- */

/* A UUID of version 4 (RFC 9562), by the worker's generator: an id, not a secret. */
static lt_str make_request_id(struct px_request *request)
{
    char hex[32], *text = lt_arena_bytes(request->arena, 36);
    uint64_t first = lt_prng_next(&request->worker->prng);
    uint64_t second = lt_prng_next(&request->worker->prng);
    lt_str_put_hex(hex, first);
    lt_str_put_hex(hex + 16, second);
    hex[12] = '4';
    hex[16] = "89ab"[second >> 62];
    memcpy(text, hex, 8);
    memcpy(text + 9, hex + 8, 4);
    memcpy(text + 14, hex + 12, 4);
    memcpy(text + 19, hex + 16, 4);
    memcpy(text + 24, hex + 20, 12);
    text[8] = text[13] = text[18] = text[23] = '-';
    return lt_str_make(text, 36);
}

/* Headers by which a request could steer this proxy go from every one that is not internal ... */
#define STEERING(X) X(LT_H_X_ENVOY_INTERNAL) PX_STEERS_TIMES(X) PX_STEERS_TRIES(X)
static const struct lt_header_set steering = LT_HEADER_SET(STEERING);
static const lt_str steering_rare[] = {
    {"x-envoy-retriable-status-codes", 30},
    {"x-envoy-retriable-header-names", 30},
    {"x-envoy-force-trace", 19},
    {"x-envoy-ip-tags", 15},
    {"x-envoy-original-url", 20},
};
/* ... and these from those that come from outside the mesh. */
static const lt_header_id edge_only[] = {
    LT_H_X_ENVOY_DECORATOR_OPERATION,     LT_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    LT_H_X_ENVOY_DOWNSTREAM_SERVICE_NODE, LT_H_X_ENVOY_ORIGINAL_PATH,
    LT_H_X_ENVOY_ORIGINAL_HOST,
};

static bool is_rare_envoy_header(const struct lt_header *header)
{
    static const lt_str prefix = {"x-envoy-", 8};
    return header->id == LT_H_OTHER && header->name.len > prefix.len &&
           lt_str_case_eq(lt_str_slice(header->name, 0, prefix.len), prefix);
}

static void remove_steering(struct lt_headers *headers)
{
    bool has_rare = false;
    lt_headers_remove_set(headers, &steering);
    for (uint32_t i = 0; i < headers->count; i++)
        has_rare |= is_rare_envoy_header(&headers->items[i]);
    for (size_t i = 0; has_rare && i < LT_ARRAY_LEN(steering_rare); i++)
        lt_headers_remove_name(headers, steering_rare[i]);
}

/*
 * The client as the outermost trusted proxy saw it: the peer, or with n trusted hops the n-th
 * address from the right.
 */
static lt_str external_address(struct px_request *request, lt_str before, lt_str peer)
{
    lt_str found = LT_STR_NULL;
    for (uint32_t hop = 0; hop < request->hcm->xff_num_trusted_hops; hop++) {
        ptrdiff_t comma = lt_str_rfind_char(before, ',');
        found = lt_str_trim(lt_str_from(before, (size_t)(comma + 1)));
        before = comma < 0 ? LT_STR_NULL : lt_str_slice(before, 0, (size_t)comma);
    }
    struct lt_addr addr;
    bool is_address = found.len > 0 && lt_addr_parse(found, 0, &addr) == LT_OK;
    return lt_arena_str(request->arena, is_address ? found : peer);
}

static lt_rc forward_address(struct px_request *request, struct lt_headers *headers)
{
    char text[LT_ADDR_TEXT_MAX];
    lt_str ip = lt_addr_format_ip(&request->conn->peer, text);
    if (request->hcm->forward.maps_ipv4 && request->conn->peer.sa.sa_family == AF_INET)
        ip = lt_arena_printf(request->arena, "::ffff:%.*s", LT_STR_ARG(ip));
    lt_str before = lt_headers_joined(headers, LT_STR("x-forwarded-for"));
    lt_str value = before.len > 0 ? lt_arena_printf(request->arena, "%.*s,%.*s", LT_STR_ARG(before),
                                                    LT_STR_ARG(ip))
                                  : lt_arena_str(request->arena, ip);
    for (size_t i = 0; i < LT_ARRAY_LEN(edge_only) && !request->is_internal; i++)
        lt_headers_remove(headers, edge_only[i]);
    if (!request->is_internal)
        LT_TRY(lt_headers_set_id(headers, LT_H_X_ENVOY_EXTERNAL_ADDRESS,
                                 external_address(request, before, ip)));
    return request->hcm->forward.keeps_xff
               ? LT_OK
               : lt_headers_set_id(headers, LT_H_X_FORWARDED_FOR, value);
}

/*
 * Envoy's downstream remote address: of x-forwarded-for, which ends with our own peer by now when
 * use_remote_address says so, the element before those that trusted proxies have added.
 */
static void find_remote(struct px_request *request, struct lt_headers *headers)
{
    const struct px_hcm_conf *hcm = request->hcm;
    bool is_peer = hcm->use_remote_address && hcm->xff_num_trusted_hops == 0;
    if (is_peer || !lt_headers_may_have(headers, LT_H_X_FORWARDED_FOR))
        return;
    lt_str list = lt_headers_joined(headers, LT_STR("x-forwarded-for")), found = LT_STR_NULL;
    for (uint32_t hop = 0; hop <= hcm->xff_num_trusted_hops; hop++) {
        ptrdiff_t comma = lt_str_rfind_char(list, ',');
        found = lt_str_trim(lt_str_from(list, (size_t)(comma + 1)));
        list = comma < 0 ? LT_STR_NULL : lt_str_slice(list, 0, (size_t)comma);
    }
    struct lt_addr *addr = lt_arena_make(request->arena, struct lt_addr);
    if (found.len > 0 && lt_addr_parse(found, 0, addr) == LT_OK)
        request->remote = addr;
}

static lt_rc rewrite_path(struct px_request *request, struct lt_headers *headers)
{
    const struct px_route *route = request->route;
    lt_str before = request->path;
    if (route->prefix_rewrite.len > 0) {
        lt_str rest = px_route_unmatched(route, before);
        request->path = lt_arena_printf(request->arena, "%.*s%.*s",
                                        LT_STR_ARG(route->prefix_rewrite), LT_STR_ARG(rest));
    } else if (route->regex_rewrite != NULL) {
        struct lt_buf out;
        lt_buf_init(&out, PX_RQ_HEADS_MAX);
        struct lt_url_parts parts = lt_url_split(before);
        lt_rc rc = lt_regex_replace(route->regex_rewrite, parts.path, route->regex_substitution,
                                    &out);
        if (rc == LT_OK)
            request->path = parts.has_query ? lt_arena_printf(request->arena, "%.*s?%.*s",
                                                              LT_STR_ARG(lt_buf_str(&out)),
                                                              LT_STR_ARG(parts.query))
                                            : lt_arena_str(request->arena, lt_buf_str(&out));
        lt_buf_fini(&out);
        LT_TRY(rc);
    } else {
        return LT_OK;
    }
    request->original_path = before;
    return request->hcm->router.hides_headers
               ? LT_OK
               : lt_headers_set_id(headers, LT_H_X_ENVOY_ORIGINAL_PATH, before);
}

/* By a regular expression over the path; empty: it gives nothing. */
static lt_rc host_of_path(struct px_request *request, lt_str *ret_host)
{
    const struct px_route *route = request->route;
    struct lt_buf out;
    lt_buf_init(&out, PX_RQ_HEADS_MAX);
    lt_rc rc = lt_regex_replace(route->host_rewrite_regex, lt_url_split(request->path).path,
                                route->host_rewrite_substitution, &out);
    if (rc == LT_OK)
        *ret_host = lt_arena_str(request->arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return rc;
}

static lt_rc set_host(struct px_request *request, struct lt_headers *headers, lt_str host)
{
    lt_str before = request->authority, name = LT_STR("x-forwarded-host");
    request->authority = host;
    if (!request->route->append_forwarded_host || before.len == 0)
        return LT_OK;
    lt_str list = lt_headers_joined(headers, name);
    lt_str value = list.len == 0 ? before
                                 : lt_arena_printf(request->arena, "%.*s,%.*s", LT_STR_ARG(list),
                                                   LT_STR_ARG(before));
    return lt_headers_set(headers, name, value);
}

static lt_rc rewrite_host(struct px_request *request, struct lt_headers *headers)
{
    const struct px_route *route = request->route;
    lt_str host = route->host_rewrite;
    if (route->host_rewrite_header.len > 0)
        host = lt_headers_value_of(headers, route->host_rewrite_header);
    else if (route->host_rewrite_regex != NULL)
        LT_TRY(host_of_path(request, &host));
    if (host.len == 0 && request->weighted != NULL) /* Envoy: the route's goes first */
        host = request->weighted->host_rewrite;
    return host.len > 0 ? set_host(request, headers, host) : LT_OK;
}

/* What a try may take, or what is left for it of the whole. */
static lt_rc add_timeout(struct px_request *request, struct lt_headers *headers)
{
    uint64_t timeout_ms = request->timeout_ms, try_ms = request->try_timeout_ms;
    if (request->hcm->router.hides_headers)
        return LT_OK;
    if (timeout_ms != 0 && request->attempts > 1 && request->request_end_ns != 0) {
        uint64_t used_ms = (px_now_ns(request->worker) - request->request_end_ns) / LT_NS_PER_MS;
        timeout_ms = timeout_ms > used_ms ? timeout_ms - used_ms : 1;
    }
    if (try_ms != 0 && (request->timeout_ms == 0 || try_ms < request->timeout_ms))
        timeout_ms = try_ms;
    if (timeout_ms == 0)
        return LT_OK;
    return lt_headers_set_id(headers, LT_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                             lt_arena_u64(request->arena, timeout_ms));
}

static lt_rc edit_by_config(struct px_request *request, struct lt_headers *headers)
{
    /*
     * Envoy's order: the most specific last, unless most_specific_header_mutations_wins says
     * otherwise
     */
    if (request->routes->most_specific_wins) {
        LT_TRY(apply_edits(request, headers, &request->routes->request));
        LT_TRY(apply_edits(request, headers, &request->vhost->request));
        LT_TRY(apply_edits(request, headers, &request->route->request));
        return request->weighted == NULL
                   ? LT_OK
                   : apply_edits(request, headers, &request->weighted->request);
    }
    if (request->weighted != NULL)
        LT_TRY(apply_edits(request, headers, &request->weighted->request));
    LT_TRY(apply_edits(request, headers, &request->route->request));
    LT_TRY(apply_edits(request, headers, &request->vhost->request));
    return apply_edits(request, headers, &request->routes->request);
}

static lt_rc strip_hop_by_hop(const struct px_request *request, struct lt_headers *headers)
{
    if (request->down->protocol == PX_PROTO_H2)
        return LT_OK; /* the codec takes none */
    return lt_h1_strip_hop_by_hop(headers, request->head.wants_upgrade);
}

lt_rc px_request_sanitize(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    struct lt_headers *headers = &request->head.headers;
    make_room(headers);
    LT_TRY(strip_hop_by_hop(request, headers));
    if (!hcm->proxy_100_continue && request->head.expects_continue)
        lt_headers_remove(headers, LT_H_EXPECT);
    request->is_internal = hcm->forward.has_internal && px_forward_is_internal(request);
    if (request->is_internal)
        LT_TRY(lt_headers_set_id(headers, LT_H_X_ENVOY_INTERNAL, LT_STR("true")));
    else
        remove_steering(headers);
    if (hcm->takes_operation)
        request->has_operation = lt_headers_remove(headers, LT_H_X_ENVOY_DECORATOR_OPERATION) > 0 &&
                                 (!hcm->use_remote_address || request->is_internal);
    LT_TRY(px_xfcc_forward(request, headers));
    if (hcm->use_remote_address)
        LT_TRY(forward_address(request, headers));
    find_remote(request, headers);
    bool is_first = hcm->use_remote_address && hcm->xff_num_trusted_hops == 0;
    if (is_first || !lt_headers_may_have(headers, LT_H_X_FORWARDED_PROTO))
        LT_TRY(lt_headers_set_id(headers, LT_H_X_FORWARDED_PROTO, request->scheme));
    bool has_id = lt_headers_find(headers, LT_H_X_REQUEST_ID) != NULL;
    if (hcm->generate_request_id &&
        (!has_id || (hcm->use_remote_address && !hcm->keeps_external_id)))
        LT_TRY(lt_headers_set_id(headers, LT_H_X_REQUEST_ID, make_request_id(request)));
    LT_TRY(px_forward_request(request));
    return hcm->tracing != NULL ? px_trace_start(request) : LT_OK;
}

lt_rc px_request_edit(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    struct lt_headers *headers = &request->head.headers;
    LT_TRY(add_timeout(request, headers));
    const struct px_cluster_conf *cluster = request->cluster->conf;
    if (hcm->tells_server && !cluster->has_exchange_off &&
        !(hcm->spares_external && cluster->is_external))
        px_telemetry_add_own(request->worker->telemetry, headers);
    LT_TRY(edit_by_config(request, headers));
    LT_TRY(rewrite_host(request, headers));
    if (request->trace != NULL)
        LT_TRY(px_trace_inject(request, headers));
    return rewrite_path(request, headers);
}

/* What differs from try to try: the host's name, the attempt count. */
lt_rc px_request_edit_try(struct px_request *request)
{
    if (request->route->auto_host_rewrite && request->host->facts != NULL &&
        request->host->facts->hostname.len > 0)
        LT_TRY(set_host(request, &request->head.headers,
                        lt_arena_str(request->arena, request->host->facts->hostname)));
    if (request->vhost->tells_timeout_retry && request->attempts > 1)
        LT_TRY(lt_headers_set(&request->head.headers, LT_STR("x-envoy-is-timeout-retry"),
                              request->is_timeout_retry ? LT_STR("true") : LT_STR("false")));
    request->is_timeout_retry = false;
    if (request->attempts > 1)
        LT_TRY(add_timeout(request, &request->head.headers));
    if (!request->vhost->include_attempt_count)
        return LT_OK;
    return lt_headers_set_id(&request->head.headers, LT_H_X_ENVOY_ATTEMPT_COUNT,
                             lt_arena_u64(request->arena, request->attempts));
}

/* --- response --- */

/* Envoy: from the end of the request, so that one which has not ended has none. */
static lt_rc add_service_time(struct px_request *request, struct lt_headers *headers)
{
    bool is_open = request->head.wants_upgrade || request->head.method_id == LT_METHOD_CONNECT;
    if (request->request_end_ns == 0 || is_open || request->hcm->router.hides_headers)
        return LT_OK;
    uint64_t ms = (px_now_ns(request->worker) - request->request_end_ns) / LT_NS_PER_MS;
    return lt_headers_set_id(headers, LT_H_X_ENVOY_UPSTREAM_SERVICE_TIME,
                             lt_arena_u64(request->arena, ms));
}

static lt_rc add_date(struct px_request *request, struct lt_headers *headers)
{
    if (lt_headers_find(headers, LT_H_DATE) != NULL)
        return LT_OK;
    struct px_worker *worker = request->worker;
    int64_t now_ns = lt_env_wall_ns(worker->env);
    if (worker->date_s != now_ns / (int64_t)LT_NS_PER_S) {
        worker->date_s = now_ns / (int64_t)LT_NS_PER_S;
        lt_http_date_format(now_ns, worker->date);
    }
    return lt_headers_add_id(headers, LT_H_DATE, lt_str_make(worker->date, LT_HTTP_DATE_LEN));
}

static void read_response_peer(struct px_request *request, struct lt_headers *headers)
{
    const struct px_hcm_conf *hcm = request->hcm;
    if (!hcm->reads_server && !hcm->reads_client)
        return;
    bool had = false;
    struct px_peer *peer = px_telemetry_read_peer(request->worker->telemetry, headers,
                                                  hcm->reads_server ? request->peer_principal : "",
                                                  &had);
    if (!hcm->reads_server) { /* an application speaks in nobody's name */
        px_peer_drop(&peer);
        return;
    }
    px_peer_drop(&request->peer);
    request->peer = peer;
}

static lt_rc edit_response_by_config(struct px_request *request, struct lt_headers *headers)
{
    if (request->route != NULL && request->routes->most_specific_wins) {
        LT_TRY(apply_edits(request, headers, &request->routes->response));
        LT_TRY(apply_edits(request, headers, &request->vhost->response));
        LT_TRY(apply_edits(request, headers, &request->route->response));
    }
    if (request->weighted != NULL)
        LT_TRY(apply_edits(request, headers, &request->weighted->response));
    if (request->route != NULL && !request->routes->most_specific_wins) {
        LT_TRY(apply_edits(request, headers, &request->route->response));
        LT_TRY(apply_edits(request, headers, &request->vhost->response));
        LT_TRY(apply_edits(request, headers, &request->routes->response));
    }
    return LT_OK;
}

/*
 * Envoy, where it traces: a client's side names the operation to the host, and keeps what the host
 * says of it for its span; a server's side tells the client, unless that one had named it.
 */
void px_request_decorate(struct px_request *request)
{
    const struct px_decorator *decorator = request->route != NULL ? request->route->decorator
                                                                  : NULL;
    if (decorator == NULL || request->has_operation)
        return;
    if (request->hcm->takes_operation) {
        request->decorator = decorator;
        return;
    }
    lt_rc rc = lt_headers_set_id(&request->head.headers, LT_H_X_ENVOY_DECORATOR_OPERATION,
                                 decorator->operation);
    (void)rc; /* room was made for edits of ours */
}

static lt_rc tell_operation(struct px_request *request, struct lt_headers *headers)
{
    if (!request->hcm->takes_operation)
        lt_headers_remove(headers, LT_H_X_ENVOY_DECORATOR_OPERATION);
    return request->decorator == NULL ? LT_OK
                                      : lt_headers_set_id(headers, LT_H_X_ENVOY_DECORATOR_OPERATION,
                                                          request->decorator->operation);
}

lt_rc px_response_edit(struct px_request *request)
{
    struct lt_headers *headers = &request->rhead.headers;
    bool is_upgrade = request->rhead.status == 101;
    make_room(headers);
    if (request->up_codec != NULL && request->up_codec->protocol == PX_PROTO_H1)
        LT_TRY(lt_h1_strip_hop_by_hop(headers, is_upgrade));
    read_response_peer(request, headers);
    if (request->hcm->answers_client && request->peer_asked)
        px_telemetry_add_own(request->worker->telemetry, headers);
    if (request->vhost != NULL && request->cluster != NULL)
        LT_TRY(add_service_time(request, headers));
    if (request->vhost != NULL && request->vhost->tells_attempt_count && request->attempts > 0)
        LT_TRY(lt_headers_set_id(headers, LT_H_X_ENVOY_ATTEMPT_COUNT,
                                 lt_arena_u64(request->arena, request->attempts)));
    LT_TRY(edit_response_by_config(request, headers));
    if (request->hcm->answers_request_id)
        LT_TRY(lt_headers_set_id(headers, LT_H_X_REQUEST_ID,
                                 lt_headers_value(&request->head.headers, LT_H_X_REQUEST_ID)));
    px_filters_on_response(request);
    if (request->hcm->tracing != NULL)
        LT_TRY(tell_operation(request, headers));
    LT_TRY(add_date(request, headers));
    return px_forward_response(request);
}
