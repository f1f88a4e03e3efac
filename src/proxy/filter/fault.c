/*
 * proxy/filter/fault.c - envoy.filters.http.fault.
 * Start at: on_request().
 */
#include "proxy/filter/fault.h"
#include "http/headers.h"
#include "proxy/http/pace.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"

enum { BYTES_PER_KB = 1024 };

struct state {
    struct px_request *request;
    const struct px_fault_conf *conf;
    struct lt_timer timer;
    bool waits, was_delayed;
    bool is_active; /* counted in conf->active */
};

/* --- numbers of headers --- */

static bool header_number(const struct px_request *request, const char *name, uint64_t *ret_number)
{
    lt_str text = lt_headers_value_of(&request->head.headers, lt_str_of(name));
    return text.len > 0 && lt_str_to_u64(text, ret_number) == LT_OK;
}

/* A header may lower the share, and only if the configuration takes headers at all. */
static bool is_drawn(struct px_request *request, const struct px_fault_share *share,
                     px_fault_how how, const char *header)
{
    uint64_t ppm = share->ppm, own = 0;
    if (how == PX_FAULT_BY_HEADER && header_number(request, header, &own) && own < 1000000)
        ppm = LT_MIN(ppm, own * share->unit_ppm);
    return ppm > 0 && lt_prng_below(&request->worker->prng, 1000000) < ppm;
}

/* --- whether anything is due --- */

static bool is_of_node(const struct px_request *request, const struct px_fault_conf *conf)
{
    lt_str node = lt_headers_value(&request->head.headers, LT_H_X_ENVOY_DOWNSTREAM_SERVICE_NODE);
    for (size_t i = 0; i < conf->node_count; i++) {
        if (lt_str_eq(conf->nodes[i], node))
            return true;
    }
    return conf->node_count == 0;
}

static bool is_meant(struct px_request *request, const struct px_fault_conf *conf)
{
    if (conf->upstream_cluster.len > 0 &&
        !lt_str_eq(conf->upstream_cluster, px_request_cluster_name(request)))
        return false;
    if (!is_of_node(request, conf))
        return false;
    struct px_request_facts facts = px_request_match_facts(request);
    for (size_t i = 0; i < conf->header_count; i++) {
        if (!px_header_matches(&conf->headers[i], &facts))
            return false;
    }
    return true;
}

/* --- the three faults --- */

/* Counted once a request, for max_active_faults. */
static void begin_fault(struct state *state)
{
    if (state->conf->active != NULL && !state->is_active)
        atomic_fetch_add_explicit(state->conf->active, 1, memory_order_relaxed);
    state->is_active = true;
}

static void slow_down(struct px_request *request, struct state *state,
                      const struct px_fault_stats *stats)
{
    const struct px_fault_conf *conf = state->conf;
    uint64_t kbps = conf->limit_kbps;
    if (conf->limit == PX_FAULT_NONE)
        return;
    if (conf->limit == PX_FAULT_BY_HEADER &&
        (!header_number(request, "x-envoy-fault-throughput-response", &kbps) || kbps == 0 ||
         kbps > UINT32_MAX))
        return;
    if (!is_drawn(request, &conf->limit_share, conf->limit,
                  "x-envoy-fault-throughput-response-percentage"))
        return;
    begin_fault(state);
    px_stat_add(request->worker, &stats->limits, 1);
    px_pace_start(request, kbps * BYTES_PER_KB);
}

static void on_delayed(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct state *state = LT_CONTAINER_OF(timer, struct state, timer);
    state->waits = false;
    px_filters_resume(state->request);
}

static bool delay(struct px_request *request, struct state *state,
                  const struct px_fault_stats *stats)
{
    const struct px_fault_conf *conf = state->conf;
    uint64_t ms = conf->delay_ms;
    if (conf->delay == PX_FAULT_NONE)
        return false;
    if (conf->delay == PX_FAULT_BY_HEADER &&
        (!header_number(request, "x-envoy-fault-delay-request", &ms) || ms == 0 || ms > UINT32_MAX))
        return false;
    if (!is_drawn(request, &conf->delay_share, conf->delay,
                  "x-envoy-fault-delay-request-percentage"))
        return false;
    begin_fault(state);
    px_stat_add(request->worker, &stats->delays, 1);
    request->flags |= PX_FLAG_DELAY_INJECTED;
    state->waits = true;
    lt_loop_timer_set(request->worker->loop, &state->timer, ms * LT_NS_PER_MS);
    return true;
}

/* False: a header asks for what is no status. */
static bool find_abort(const struct px_request *request, const struct px_fault_conf *conf,
                       uint32_t *ret_code, uint32_t *ret_grpc)
{
    uint64_t code = 0, grpc = 0;
    *ret_code = conf->abort_code;
    *ret_grpc = conf->grpc_code;
    if (conf->abort == PX_FAULT_FIXED)
        return true;
    if (header_number(request, "x-envoy-fault-abort-request", &code) && code >= 200 && code < 600) {
        *ret_code = (uint32_t)code;
        return true;
    }
    if (!header_number(request, "x-envoy-fault-abort-grpc-request", &grpc) || grpc > UINT32_MAX)
        return false;
    *ret_code = 0;
    *ret_grpc = (uint32_t)grpc;
    return true;
}

static px_verdict abort_if_due(struct px_request *request, struct state *state,
                               const struct px_fault_stats *stats)
{
    const struct px_fault_conf *conf = state->conf;
    uint32_t code = 0, grpc = 0;
    if (conf->abort == PX_FAULT_NONE || !find_abort(request, conf, &code, &grpc) ||
        !is_drawn(request, &conf->abort_share, conf->abort,
                  "x-envoy-fault-abort-request-percentage"))
        return PX_GO;
    begin_fault(state);
    px_stat_add(request->worker, &stats->aborts, 1);
    request->reply_grpc_status = code == 0 ? grpc : 0;
    px_request_reply(request, code == 0 ? 200 : code, PX_FLAG_FAULT_INJECTED, "fault_filter_abort",
                     LT_STR("fault filter abort"), "text/plain");
    return PX_STOP;
}

/* --- the step --- */

static bool is_too_many(const struct px_fault_conf *conf)
{
    return conf->active != NULL &&
           atomic_load_explicit(conf->active, memory_order_relaxed) >= conf->active_max;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_fault_filter *own = filter->conf;
    const struct px_fault_conf *of_route = px_filter_route_conf(request, filter);
    const struct px_fault_conf *conf = of_route != NULL ? of_route : &own->conf;
    if (conf->delay == PX_FAULT_NONE && conf->abort == PX_FAULT_NONE &&
        conf->limit == PX_FAULT_NONE)
        return PX_GO;
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    if (state->waits)
        return PX_STAY; /* something else happened */
    if (state->was_delayed)
        return abort_if_due(request, state, &own->stats);
    state->request = request;
    state->conf = conf;
    lt_timer_init(&state->timer, on_delayed);
    if (is_too_many(conf)) {
        px_stat_add(request->worker, &own->stats.overflow, 1);
        return PX_GO;
    }
    if (!is_meant(request, conf))
        return PX_GO;
    slow_down(request, state, &own->stats);
    state->was_delayed = delay(request, state, &own->stats);
    return state->was_delayed ? PX_STAY : abort_if_due(request, state, &own->stats);
}

static void on_end(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    lt_loop_timer_cancel(request->worker->loop, &state->timer);
    if (state->is_active && state->conf->active != NULL)
        atomic_fetch_sub_explicit(state->conf->active, 1, memory_order_relaxed);
    state->is_active = false;
}

const struct px_filter_ops px_filter_fault = {
    .name = "envoy.filters.http.fault",
    .on_request = on_request,
    .on_end = on_end,
};
