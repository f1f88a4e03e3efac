/*
 * proxy/filter/on_demand.c - envoy.filters.http.on_demand: a request whose virtual host or cluster
 * the proxy does not have waits while the control plane is asked for it. As in Envoy, filters
 * before this one have seen no route; those behind it see what came.
 */
#include "proxy/conf/on_demand.h"
#include "proxy/conf/flags.h"
#include "proxy/http/request.h"
#include "proxy/run/on_demand.h"

struct state {
    struct px_waiter waiter;
    struct px_request *request;
    px_demand_outcome outcome;
    bool wanted_vhost, wanted_cluster; /* each is waited for once */
};

static void on_decided(struct px_waiter *waiter, px_demand_outcome outcome)
{
    struct state *state = LT_CONTAINER_OF(waiter, struct state, waiter);
    state->outcome = outcome;
    px_filters_resume(state->request);
}

/* --- what is missing --- */

static lt_str vhost_name(const struct px_request *request)
{
    lt_str name = lt_arena_printf(request->arena, "%.*s/%.*s",
                                  LT_STR_ARG(request->routes->res.name),
                                  LT_STR_ARG(request->authority));
    for (size_t i = request->routes->res.name.len; i < name.len; i++) {
        char *c = (char *)&name.ptr[i];
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    return name;
}

/* False: nothing that could be asked for. */
static bool find_vhost(const struct px_request *request, struct state *state,
                       struct px_demand *what)
{
    const struct px_routes_conf *routes = request->routes;
    if (routes == NULL || !routes->has_vhds || request->authority.len == 0 || state->wanted_vhost)
        return false;
    *what = (struct px_demand){
        .kind = PX_VHOST, .source = routes->vhds_source, .name = vhost_name(request)};
    state->wanted_vhost = true;
    return true;
}

static bool find_cluster(const struct px_request *request, const struct px_on_demand_conf *conf,
                         struct state *state, struct px_demand *what)
{
    lt_str name = px_request_cluster_name(request);
    if (!conf->has_odcds || state->wanted_cluster || name.len == 0 ||
        px_cluster_get(request->worker, name) != NULL)
        return false;
    *what = (struct px_demand){.kind = PX_CLUSTER, .source = conf->source, .name = name};
    state->wanted_cluster = true;
    return true;
}

/* --- the step --- */

static px_verdict refuse(struct px_request *request)
{
    px_request_reply(request, 503, PX_FLAG_UPSTREAM_OVERFLOW, "on_demand_overflow", LT_STR_NULL,
                     NULL);
    return PX_STOP;
}

static bool has_what_it_needs(const struct px_request *request)
{
    if (request->vhost == NULL)
        return request->routes == NULL || !request->routes->has_vhds;
    lt_str name = px_request_cluster_name(request);
    return name.len == 0 || px_cluster_get(request->worker, name) != NULL;
}

static px_verdict ask(struct px_request *request, const struct px_http_filter *filter,
                      struct state *state)
{
    struct px_demand what;
    const struct px_on_demand_conf *of_route = px_filter_route_conf(request, filter);
    const struct px_on_demand_conf *conf = of_route != NULL ? of_route : filter->conf;
    bool is_missing = request->vhost == NULL ? find_vhost(request, state, &what)
                                             : find_cluster(request, conf, state, &what);
    if (!is_missing)
        return PX_GO; /* the router says what is not there */
    what.owner = px_waiter_owner(&request->conn->peer);
    state->request = request;
    state->waiter.done = on_decided;
    state->outcome = px_waiter_start(&state->waiter, request->worker, &what,
                                     what.kind == PX_VHOST ? PX_ON_DEMAND_TIMEOUT_MS
                                                           : conf->timeout_ms);
    return state->outcome == PX_DEMAND_WAITS     ? PX_STAY
           : state->outcome == PX_DEMAND_REFUSED ? refuse(request)
                                                 : PX_GO;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = request->filter_states == NULL ? NULL
                                                         : request->filter_states[filter->at];
    if (state == NULL) {
        if (has_what_it_needs(request))
            return PX_GO;
        return ask(request, filter, px_filter_state(request, filter, sizeof(*state)));
    }
    switch (state->outcome) {
    case PX_DEMAND_WAITS: return PX_STAY;
    case PX_DEMAND_THERE: return px_request_renew(request) ? ask(request, filter, state) : PX_STOP;
    case PX_DEMAND_REFUSED: return refuse(request);
    case PX_DEMAND_ABSENT:
    case PX_DEMAND_LATE: break;
    }
    return PX_GO;
}

static void on_end(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = request->filter_states[filter->at];
    px_waiter_stop(&state->waiter);
}

const struct px_filter_ops px_filter_on_demand = {
    .name = "envoy.filters.http.on_demand", .on_request = on_request, .on_end = on_end};
