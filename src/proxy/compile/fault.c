/*
 * proxy/compile/fault.c - HTTPFault to px_fault_conf.
 */
#include <stdlib.h>

#include "proxy/compile/filter.h"
#include "proxy/filter/fault.h"
#include "wire/proto/http_fault.pb-c.h"

enum { DELAY_MAX_MS = 24 * 3600 * 1000 };

static struct px_fault_share make_share(const Xds__FractionalPercent *in)
{
    Xds__FractionalPercent one = XDS__FRACTIONAL_PERCENT__INIT;
    one.has_numerator = one.has_denominator = true;
    one.numerator = 1;
    one.denominator = in != NULL && in->has_denominator ? in->denominator : 0;
    return (struct px_fault_share){px_fraction_ppm(in, 0), px_fraction_ppm(&one, 0)};
}

static lt_rc make_delay(struct px_build *build, const Xds__FaultDelay *in,
                        struct px_fault_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    conf->delay_share = make_share(in->percentage);
    if (in->fault_delay_secifier_case == XDS__FAULT_DELAY__FAULT_DELAY_SECIFIER_HEADER_DELAY) {
        conf->delay = PX_FAULT_BY_HEADER;
        return LT_OK;
    }
    if (in->fault_delay_secifier_case != XDS__FAULT_DELAY__FAULT_DELAY_SECIFIER_FIXED_DELAY)
        return px_bad(build, "delay", "needs fixed_delay or header_delay");
    conf->delay = PX_FAULT_FIXED;
    conf->delay_ms = px_duration_ms(in->fixed_delay, 0);
    return conf->delay_ms > 0 && conf->delay_ms <= DELAY_MAX_MS
               ? LT_OK
               : px_bad(build, "delay.fixed_delay", "must be more than 0s, and no more than a day");
}

static lt_rc make_abort(struct px_build *build, const Xds__FaultAbort *in,
                        struct px_fault_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    conf->abort_share = make_share(in->percentage);
    conf->abort = PX_FAULT_FIXED;
    switch (in->error_type_case) {
    case XDS__FAULT_ABORT__ERROR_TYPE_HTTP_STATUS:
        conf->abort_code = in->http_status;
        return conf->abort_code >= 200 && conf->abort_code < 600
                   ? LT_OK
                   : px_bad(build, "abort.http_status", "must be inside [200, 600)");
    case XDS__FAULT_ABORT__ERROR_TYPE_GRPC_STATUS: conf->grpc_code = in->grpc_status; return LT_OK;
    case XDS__FAULT_ABORT__ERROR_TYPE_HEADER_ABORT: conf->abort = PX_FAULT_BY_HEADER; return LT_OK;
    default: return px_bad(build, "abort", "needs http_status, grpc_status or header_abort");
    }
}

static lt_rc make_limit(struct px_build *build, const Xds__FaultRateLimit *in,
                        struct px_fault_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    conf->limit_share = make_share(in->percentage);
    if (in->limit_type_case == XDS__FAULT_RATE_LIMIT__LIMIT_TYPE_HEADER_LIMIT) {
        conf->limit = PX_FAULT_BY_HEADER;
        return LT_OK;
    }
    if (in->limit_type_case != XDS__FAULT_RATE_LIMIT__LIMIT_TYPE_FIXED_LIMIT)
        return px_bad(build, "response_rate_limit", "needs fixed_limit or header_limit");
    conf->limit = PX_FAULT_FIXED;
    conf->limit_kbps = in->fixed_limit->has_limit_kbps ? in->fixed_limit->limit_kbps : 0;
    return conf->limit_kbps > 0 ? LT_OK
                                : px_bad(build, "response_rate_limit.fixed_limit.limit_kbps",
                                         "must be greater than or equal to 1");
}

static lt_rc make_fault(struct px_build *build, const Xds__HTTPFault *in,
                        struct px_fault_conf *conf)
{
    LT_TRY(make_delay(build, in->delay, conf));
    LT_TRY(make_abort(build, in->abort, conf));
    LT_TRY(make_limit(build, in->response_rate_limit, conf));
    conf->upstream_cluster = px_copy(build, in->upstream_cluster);
    conf->node_count = in->n_downstream_nodes;
    LT_TRY(px_make_strings(build, in->downstream_nodes, in->n_downstream_nodes, &conf->nodes));
    conf->header_count = in->n_headers;
    LT_TRY(px_make_header_matches(build, in->headers, in->n_headers, &conf->headers));
    conf->active_max = px_u32(in->max_active_faults, UINT32_MAX);
    if (conf->active_max != UINT32_MAX) {
        conf->active = lt_malloc(sizeof(*conf->active));
        atomic_init(conf->active, 0);
        px_own(build, (void *)conf->active, free);
    }
    return LT_OK;
}

lt_rc px_make_fault_filter(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                           const void **ret_conf)
{
    struct px_fault_filter *filter = lt_arena_make(build->arena, struct px_fault_filter);
    *ret_conf = filter;
    filter->stats.aborts = px_stat_http(build->arena, hcm->stat_prefix, "fault.aborts_injected");
    filter->stats.delays = px_stat_http(build->arena, hcm->stat_prefix, "fault.delays_injected");
    filter->stats.limits = px_stat_http(build->arena, hcm->stat_prefix,
                                        "fault.response_rl_injected");
    filter->stats.overflow = px_stat_http(build->arena, hcm->stat_prefix, "fault.faults_overflow");
    return make_fault(build, message, &filter->conf);
}

lt_rc px_make_fault_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    struct px_fault_conf *fault = lt_arena_make(build->arena, struct px_fault_conf);
    conf->conf = fault;
    return make_fault(build, message, fault);
}
