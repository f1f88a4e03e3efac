/*
 * proxy/http/forward.c - names and addresses of a request as its connection manager wants them
 * told: the host without its port, x-forwarded-port, via, server.
 * Source: Envoy's HttpConnectionManager fields, conf/forward.h.
 */
#include "proxy/http/request.h"

/* Where the port's colon is; -1: there is no port. */
static ptrdiff_t find_port(lt_str authority)
{
    ptrdiff_t colon = lt_str_rfind_char(authority, ':');
    bool is_inside = colon >= 0 &&
                     lt_str_rfind_char(authority, ']') > colon; /* of an IPv6 address */
    return is_inside || colon == (ptrdiff_t)authority.len - 1 ? -1 : colon;
}

static bool is_own_port(const struct px_request *request, lt_str port)
{
    uint64_t number = 0;
    return lt_str_to_u64(port, &number) == LT_OK && number == lt_addr_port(&request->conn->local);
}

static lt_str without_dot(struct px_request *request, lt_str authority)
{
    ptrdiff_t colon = find_port(authority);
    lt_str host = colon < 0 ? authority : lt_str_slice(authority, 0, (size_t)colon);
    if (host.len == 0 || host.ptr[host.len - 1] != '.')
        return authority;
    lt_str bare = lt_str_slice(host, 0, host.len - 1);
    return colon < 0 ? bare
                     : lt_arena_printf(request->arena, "%.*s%.*s", LT_STR_ARG(bare),
                                       LT_STR_ARG(lt_str_from(authority, (size_t)colon)));
}

void px_forward_host(struct px_request *request)
{
    const struct px_forward_conf *conf = &request->hcm->forward;
    if (conf->strips_dot)
        request->authority = without_dot(request, request->authority);
    if (!conf->strips_any_port && !conf->strips_own_port)
        return;
    ptrdiff_t colon = find_port(request->authority);
    if (colon < 0 || request->head.method_id == LT_METHOD_CONNECT) /* whose port is its target */
        return;
    if (conf->strips_any_port ||
        is_own_port(request, lt_str_from(request->authority, (size_t)colon + 1)))
        request->authority = lt_str_slice(request->authority, 0, (size_t)colon);
}

static bool is_internal_address(const struct px_forward_conf *conf, const struct lt_addr *addr)
{
    if (addr->sa.sa_family == AF_UNIX)
        return conf->trusts_unix;
    for (size_t i = 0; i < conf->internal_count; i++) {
        if (lt_addr_in_prefix(addr, &conf->internal[i].prefix, conf->internal[i].bits))
            return true;
    }
    return false;
}

/*
 * Envoy: there is one address and no more between us and the client, and it is an internal one: the
 * peer's, or with use_remote_address off that of x-forwarded-for.
 */
bool px_forward_is_internal(const struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    const struct lt_headers *headers = &request->head.headers;
    lt_str list = lt_headers_may_have(headers, LT_H_X_FORWARDED_FOR)
                      ? lt_headers_joined(headers, LT_STR("x-forwarded-for"))
                      : LT_STR_NULL;
    struct lt_addr addr;
    if (hcm->use_remote_address)
        return list.ptr == NULL && is_internal_address(&hcm->forward, &request->conn->peer);
    return hcm->xff_num_trusted_hops == 0 && lt_str_find_char(list, ',') < 0 &&
           lt_addr_parse(lt_str_trim(list), 0, &addr) == LT_OK &&
           is_internal_address(&hcm->forward, &addr);
}

/* add_user_agent: who we are, as a client of what is behind us. */
static lt_rc tell_own_cluster(struct px_request *request, struct lt_headers *headers)
{
    const struct px_node_facts *own = px_telemetry_node(request->worker->telemetry);
    LT_TRY(lt_headers_set_id(headers, LT_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, own->cluster));
    if (lt_headers_value(headers, LT_H_USER_AGENT).len == 0)
        LT_TRY(lt_headers_set_id(headers, LT_H_USER_AGENT, own->cluster));
    return own->id.len == 0
               ? LT_OK
               : lt_headers_set_id(headers, LT_H_X_ENVOY_DOWNSTREAM_SERVICE_NODE, own->id);
}

static lt_rc append_via(struct px_request *request, struct lt_headers *headers)
{
    lt_str via = request->hcm->forward.via;
    lt_str before = lt_headers_joined(headers, LT_STR("via"));
    if (before.len > 0)
        via = lt_arena_printf(request->arena, "%.*s, %.*s", LT_STR_ARG(before), LT_STR_ARG(via));
    return lt_headers_set_id(headers, LT_H_VIA, via);
}

static lt_rc add_port(struct px_request *request, struct lt_headers *headers)
{
    const struct px_hcm_conf *hcm = request->hcm;
    bool is_first = hcm->use_remote_address && hcm->xff_num_trusted_hops == 0;
    if (!is_first && lt_headers_find(headers, LT_H_X_FORWARDED_PORT) != NULL)
        return LT_OK; /* a proxy that is trusted has said it */
    return lt_headers_set_id(headers, LT_H_X_FORWARDED_PORT,
                             lt_arena_u64(request->arena, lt_addr_port(&request->conn->local)));
}

lt_rc px_forward_request(struct px_request *request)
{
    const struct px_forward_conf *conf = &request->hcm->forward;
    struct lt_headers *headers = &request->head.headers;
    if (conf->tells_own_cluster)
        LT_TRY(tell_own_cluster(request, headers));
    if (conf->tells_port)
        LT_TRY(add_port(request, headers));
    if (conf->scheme.len > 0)
        request->scheme = conf->scheme;
    return conf->via.len > 0 ? append_via(request, headers) : LT_OK;
}

lt_rc px_forward_response(struct px_request *request)
{
    const struct px_forward_conf *conf = &request->hcm->forward;
    struct lt_headers *headers = &request->rhead.headers;
    bool is_there = lt_headers_find(headers, LT_H_SERVER) != NULL;
    if (conf->server == PX_SERVER_OVERWRITE || (conf->server == PX_SERVER_IF_ABSENT && !is_there))
        LT_TRY(lt_headers_set_id(headers, LT_H_SERVER, request->hcm->server_name));
    return conf->via.len > 0 ? append_via(request, headers) : LT_OK;
}

lt_str px_forward_scheme(const struct px_request *request)
{
    if (!request->hcm->forward.scheme_of_upstream)
        return request->scheme;
    return request->up->transport.tls != NULL ? LT_STR("https") : LT_STR("http");
}
