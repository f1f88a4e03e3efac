/*
 * proxy/filter/cors.c - envoy.filters.http.cors.
 */
#include "proxy/conf/cors.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"

struct state {
    const struct px_cors_conf *conf; /* of the origin that is allowed; NULL: none */
    lt_str origin;
};

static bool is_drawn(struct px_request *request, uint32_t ppm)
{
    return ppm == 1000000 || (ppm > 0 && lt_prng_below(&request->worker->prng, 1000000) < ppm);
}

static bool allows_origin(const struct px_cors_conf *conf, lt_str origin)
{
    for (size_t i = 0; i < conf->origin_count; i++) {
        const struct px_string_match *match = &conf->origins[i];
        bool is_any = match->kind == PX_MATCH_EXACT && lt_str_eqz(match->text, "*");
        if (is_any || px_string_matches(match, origin))
            return true;
    }
    return false;
}

static void add(struct px_request *request, const char *name, lt_str value)
{
    if (value.len > 0)
        px_reply_header(request, lt_str_of(name), value);
}

/* "*" stands for what the browser has asked for. */
static lt_str granted(const struct px_request *request, lt_str configured, lt_header_id asked)
{
    return lt_str_eqz(configured, "*") ? lt_headers_value(&request->head.headers, asked)
                                       : configured;
}

/* Origin and credentials: on_response. */
static px_verdict answer_preflight(struct px_request *request, const struct px_cors_conf *conf)
{
    const struct lt_headers *headers = &request->head.headers;
    lt_str wants_private = lt_headers_value_of(headers,
                                               LT_STR("access-control-request-private-network"));
    add(request, "access-control-allow-methods",
        granted(request, conf->methods, LT_H_ACCESS_CONTROL_REQUEST_METHOD));
    add(request, "access-control-allow-headers",
        granted(request, conf->headers, LT_H_ACCESS_CONTROL_REQUEST_HEADERS));
    add(request, "access-control-max-age", conf->max_age);
    if (conf->allows_private && lt_str_eqz(wants_private, "true"))
        add(request, "access-control-allow-private-network", LT_STR("true"));
    px_request_reply(request, 200, 0, "cors_response", LT_STR_NULL, NULL);
    return PX_STOP;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_cors_stats *stats = filter->conf;
    if (!lt_headers_may_have(&request->head.headers, LT_H_ORIGIN))
        return PX_GO;
    const struct px_cors_conf *conf = px_filter_route_conf(request, filter);
    lt_str origin = lt_headers_value(&request->head.headers, LT_H_ORIGIN);
    bool is_enabled = conf != NULL && is_drawn(request, conf->enabled_ppm);
    bool is_shadow = !is_enabled && conf != NULL && is_drawn(request, conf->shadow_ppm);
    if (origin.len == 0 || (!is_enabled && !is_shadow))
        return PX_GO;
    bool is_allowed = allows_origin(conf, origin);
    px_stat_add(request->worker, is_allowed ? &stats->valid : &stats->invalid, 1);
    if (is_shadow)
        return PX_GO;
    bool is_preflight =
        request->head.method_id == LT_METHOD_OPTIONS &&
        lt_headers_value(&request->head.headers, LT_H_ACCESS_CONTROL_REQUEST_METHOD).len > 0;
    if (is_allowed) {
        struct state *state = px_filter_state(request, filter, sizeof(*state));
        state->conf = conf;
        state->origin = origin;
        return is_preflight ? answer_preflight(request, conf) : PX_GO;
    }
    if (!is_preflight || !conf->answers_all_preflights)
        return PX_GO;
    px_request_reply(request, 200, 0, "cors_response", LT_STR_NULL, NULL);
    return PX_STOP;
}

static void set(struct px_request *request, const char *name, lt_str value)
{
    lt_rc rc = value.len == 0 ? LT_OK
                              : lt_headers_set(&request->rhead.headers, lt_str_of(name), value);
    (void)rc; /* room was made for edits of ours */
}

static void on_response(struct px_request *request, const struct px_http_filter *filter)
{
    if (request->filter_states == NULL || request->filter_states[filter->at] == NULL)
        return;
    const struct state *state = request->filter_states[filter->at];
    set(request, "access-control-allow-origin", state->origin);
    if (state->conf->allows_credentials)
        set(request, "access-control-allow-credentials", LT_STR("true"));
    set(request, "access-control-expose-headers", state->conf->exposed);
}

const struct px_filter_ops px_filter_cors = {
    .name = "envoy.filters.http.cors",
    .on_request = on_request,
    .on_response = on_response,
};
