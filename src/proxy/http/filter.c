/*
 * proxy/http/filter.c - takes a request through its steps. What each does: its own file.
 * Start at: px_filters_start().
 */
#include "proxy/http/filter.h"

#include "proxy/filter/rbac.h"
#include "proxy/http/request.h"

/* --- the steps that need no file of their own --- */

static px_verdict route(struct px_request *request, const struct px_http_filter *filter LT_UNUSED)
{
    px_request_set_state(request, PX_RQ_WAIT);
    px_router_start(request);
    return PX_STOP;
}

/*
 * Peer metadata and metrics belong to the connection manager here (request.c, reply.c), ALPN to the
 * router: they cost nothing as steps.
 */
static const struct px_filter_ops peer_metadata = {.name = "istio.metadata_exchange"};
static const struct px_filter_ops istio_stats = {.name = "istio.stats"};
static const struct px_filter_ops istio_alpn = {.name = "istio.alpn"};
static const struct px_filter_ops router = {.name = "envoy.filters.http.router",
                                            .on_request = route};

static const struct px_filter_ops *const ops_of[PX_FILTER_KINDS] = {
    [PX_FILTER_PEER_METADATA] = &peer_metadata,
    [PX_FILTER_ISTIO_STATS] = &istio_stats,
    [PX_FILTER_ISTIO_ALPN] = &istio_alpn,
    [PX_FILTER_GRPC_STATS] = &px_filter_grpc_stats,
    [PX_FILTER_FAULT] = &px_filter_fault,
    [PX_FILTER_CORS] = &px_filter_cors,
    [PX_FILTER_RBAC] = &px_filter_rbac,
    [PX_FILTER_JWT_AUTHN] = &px_filter_jwt_authn,
    [PX_FILTER_EXT_AUTHZ] = &px_filter_ext_authz,
    [PX_FILTER_LOCAL_LIMIT] = &px_filter_local_limit,
    [PX_FILTER_BUFFER] = &px_filter_buffer,
    [PX_FILTER_HEADER_MUTATION] = &px_filter_header_mutation,
    [PX_FILTER_ON_DEMAND] = &px_filter_on_demand,
    [PX_FILTER_MISSING] = &px_filter_missing,
    [PX_FILTER_ROUTER] = &router,
};

const struct px_filter_ops *px_filter_ops_of(px_http_filter_kind kind)
{
    return ops_of[kind];
}

/* --- which of them are on --- */

static const struct px_filter_conf *find_conf(const struct px_filter_confs *confs, lt_str name)
{
    for (size_t i = 0; i < confs->count; i++) {
        if (lt_str_eq(confs->items[i].name, name))
            return &confs->items[i];
    }
    return NULL;
}

/* From the most specific on; NULL: nothing is said there. */
static void find_levels(const struct px_request *request,
                        const struct px_filter_confs *ret_levels[PX_FILTER_LEVELS])
{
    ret_levels[0] = request->weighted != NULL ? &request->weighted->filters : NULL;
    ret_levels[1] = request->route != NULL ? &request->route->filters : NULL;
    ret_levels[2] = request->vhost != NULL ? &request->vhost->filters : NULL;
    ret_levels[3] = request->routes != NULL ? &request->routes->filters : NULL;
}

static bool is_off(const struct px_request *request, const struct px_http_filter *filter)
{
    return request->filters_off != 0 && (request->filters_off >> filter->at & 1) != 0;
}

/* Decided once: a route that is found later does not bring a filter into a request under way. */
static void choose_filters(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    const struct px_filter_confs *levels[PX_FILTER_LEVELS];
    find_levels(request, levels);
    size_t said = 0;
    for (size_t i = 0; i < PX_FILTER_LEVELS; i++)
        said += levels[i] != NULL ? levels[i]->count : 0;
    if (said == 0 && !hcm->has_off_filters)
        return;
    for (size_t f = 0; f < hcm->filter_count; f++) {
        const struct px_filter_conf *conf = NULL;
        for (size_t i = 0; conf == NULL && i < PX_FILTER_LEVELS; i++)
            conf = levels[i] != NULL ? find_conf(levels[i], hcm->filters[f].name) : NULL;
        bool off = conf != NULL ? conf->is_off : hcm->filters[f].is_off;
        request->filters_off |= (uint64_t)off << f;
    }
}

/* --- driving --- */

/* From request->filter_at on, until one stays or has answered. */
static void take_steps(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    while (request->filter_at < hcm->filter_count) {
        const struct px_http_filter *filter = &hcm->filters[request->filter_at];
        const struct px_filter_ops *ops = ops_of[filter->kind];
        bool is_on = ops->on_request != NULL && !is_off(request, filter);
        px_verdict verdict = is_on ? ops->on_request(request, filter) : PX_GO;
        if (verdict != PX_GO)
            return;
        request->filter_at++;
    }
    /* the compiler of the configuration puts a router last */
    LT_UNREACHABLE();
}

void px_filters_start(struct px_request *request)
{
    request->filter_at = 0;
    choose_filters(request);
    take_steps(request);
}

void px_filters_again(struct px_request *request)
{
    px_filters_on_end(request);
    request->filter_states = NULL;
    request->filter_at = 0;
    request->filters_off = 0;
    request->wants_pieces = false;
    choose_filters(request);
}

void px_filters_run(struct px_request *request)
{
    take_steps(request);
    if (request->state == PX_RQ_FLOW || request->state == PX_RQ_REPLY)
        px_request_flow(request);
}

void px_filters_resume(struct px_request *request)
{
    LT_ASSERT(request->state == PX_RQ_FILTER);
    px_request_run(request);
}

void px_filters_on_response(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    for (size_t i = hcm->has_response_steps ? hcm->filter_count : 0; i > 0; i--) {
        const struct px_filter_ops *ops = ops_of[hcm->filters[i - 1].kind];
        if (ops->on_response != NULL && !is_off(request, &hcm->filters[i - 1]))
            ops->on_response(request, &hcm->filters[i - 1]);
    }
}

void px_filters_on_piece(struct px_request *request, const struct px_dir *dir, lt_str piece)
{
    const struct px_hcm_conf *hcm = request->hcm;
    for (size_t i = 0; i < hcm->filter_count; i++) {
        const struct px_filter_ops *ops = ops_of[hcm->filters[i].kind];
        if (ops->on_piece != NULL && !is_off(request, &hcm->filters[i]))
            ops->on_piece(request, &hcm->filters[i], dir, piece);
    }
}

void px_filters_on_end(struct px_request *request)
{
    if (request->filter_states == NULL)
        return;
    const struct px_hcm_conf *hcm = request->hcm;
    for (size_t i = 0; i < hcm->filter_count; i++) {
        const struct px_filter_ops *ops = ops_of[hcm->filters[i].kind];
        if (ops->on_end != NULL && request->filter_states[i] != NULL)
            ops->on_end(request, &hcm->filters[i]);
    }
}

/* --- what a filter may ask for --- */

void *px_filter_state(struct px_request *request, const struct px_http_filter *filter, size_t size)
{
    if (request->filter_states == NULL)
        request->filter_states = lt_arena_make_n(request->arena, void *,
                                                 request->hcm->filter_count);
    void **state = &request->filter_states[filter->at];
    if (*state == NULL)
        *state = lt_arena_alloc(request->arena, size);
    return *state;
}

/* What was written for another kind of filter under this name counts for nothing, as in Envoy. */
static const void *conf_at(const struct px_filter_confs *level, const struct px_http_filter *filter)
{
    const struct px_filter_conf *conf = level == NULL || level->count == 0
                                            ? NULL
                                            : find_conf(level, filter->name);
    return conf != NULL && conf->kind == filter->kind ? conf->conf : NULL;
}

const void *px_filter_route_conf(const struct px_request *request,
                                 const struct px_http_filter *filter)
{
    const struct px_filter_confs *levels[PX_FILTER_LEVELS];
    const void *conf = NULL;
    find_levels(request, levels);
    for (size_t i = 0; conf == NULL && i < PX_FILTER_LEVELS; i++)
        conf = conf_at(levels[i], filter);
    return conf;
}

size_t px_filter_route_confs(const struct px_request *request, const struct px_http_filter *filter,
                             const void *ret_confs[PX_FILTER_LEVELS])
{
    const struct px_filter_confs *levels[PX_FILTER_LEVELS];
    size_t count = 0;
    find_levels(request, levels);
    for (size_t i = 0; i < PX_FILTER_LEVELS; i++) {
        const void *conf = conf_at(levels[i], filter);
        if (conf != NULL)
            ret_confs[count++] = conf;
    }
    return count;
}
