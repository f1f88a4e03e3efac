/*
 * proxy/filter.c - takes a request through its steps. What each does: its own file.
 * Start at: px_filters_start().
 */
#include "proxy/filter.h"

#include "proxy/request.h"

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
static const struct px_filter_ops ops_of[PX_FILTER_KINDS] = {
    [PX_FILTER_PEER_METADATA] = {.name = "istio.metadata_exchange"},
    [PX_FILTER_ISTIO_STATS] = {.name = "istio.stats"},
    [PX_FILTER_ISTIO_ALPN] = {.name = "istio.alpn"},
    [PX_FILTER_GRPC_STATS] = {.name = "envoy.filters.http.grpc_stats"},
    [PX_FILTER_FAULT] = {.name = "envoy.filters.http.fault"},
    [PX_FILTER_CORS] = {.name = "envoy.filters.http.cors"},
    [PX_FILTER_ROUTER] = {.name = "envoy.filters.http.router", .on_request = route},
};

const struct px_filter_ops *px_filter_ops_of(px_http_filter_kind kind)
{
    return &ops_of[kind];
}

/* --- driving --- */

/* From request->filter_at on, until one stays or has answered. */
static void take_steps(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    while (request->filter_at < hcm->filter_count) {
        const struct px_http_filter *filter = &hcm->filters[request->filter_at];
        const struct px_filter_ops *ops = &ops_of[filter->kind];
        px_verdict verdict = ops->on_request != NULL ? ops->on_request(request, filter) : PX_GO;
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
    take_steps(request);
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
        const struct px_filter_ops *ops = &ops_of[hcm->filters[i - 1].kind];
        if (ops->on_response != NULL)
            ops->on_response(request, &hcm->filters[i - 1]);
    }
}

void px_filters_on_piece(struct px_request *request, const struct px_dir *dir, lt_str piece)
{
    const struct px_hcm_conf *hcm = request->hcm;
    for (size_t i = 0; i < hcm->filter_count; i++) {
        const struct px_filter_ops *ops = &ops_of[hcm->filters[i].kind];
        if (ops->on_piece != NULL)
            ops->on_piece(request, &hcm->filters[i], dir, piece);
    }
}

void px_filters_on_end(struct px_request *request)
{
    if (request->filter_states == NULL)
        return;
    const struct px_hcm_conf *hcm = request->hcm;
    for (size_t i = 0; i < hcm->filter_count; i++) {
        const struct px_filter_ops *ops = &ops_of[hcm->filters[i].kind];
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

static const struct px_filter_conf *find_conf(const struct px_filter_confs *confs, lt_str name)
{
    for (size_t i = 0; i < confs->count; i++) {
        if (lt_str_eq(confs->items[i].name, name))
            return &confs->items[i];
    }
    return NULL;
}

const void *px_filter_route_conf(const struct px_request *request,
                                 const struct px_http_filter *filter, bool *ret_is_off)
{
    const struct px_filter_confs *const levels[] = {
        request->weighted != NULL ? &request->weighted->filters : NULL,
        request->route != NULL ? &request->route->filters : NULL,
        request->vhost != NULL ? &request->vhost->filters : NULL,
        request->routes != NULL ? &request->routes->filters : NULL,
    };
    *ret_is_off = false;
    for (size_t i = 0; i < LT_ARRAY_LEN(levels); i++) {
        const struct px_filter_conf *conf = levels[i] == NULL || levels[i]->count == 0
                                                ? NULL
                                                : find_conf(levels[i], filter->name);
        if (conf == NULL)
            continue;
        *ret_is_off = conf->is_off;
        return conf->conf;
    }
    return NULL;
}
