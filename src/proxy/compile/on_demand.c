/*
 * proxy/compile/on_demand.c - envoy.filters.http.on_demand, and where clusters on demand come from.
 */
#include "proxy/compile/on_demand.h"

#include "proxy/compile/filter.h"
#include "wire/proto/http_on_demand.pb-c.h"

lt_rc px_make_odcds(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                    const char *locator, const Pb__Duration *timeout,
                    struct px_on_demand_conf *conf)
{
    const struct px_source *source = NULL;
    if (locator != NULL && locator[0] != '\0')
        return px_unsupported(build, "resources_locator", "xdstp names are not supported");
    LT_TRY(px_make_source(build, field, in, &source, NULL));
    if (source->kind == PX_SOURCE_PATH)
        return px_unsupported(build, field, "clusters on demand come by ads or api_config_source");
    conf->has_odcds = true;
    conf->source = source->id;
    conf->timeout_ms = (uint32_t)LT_MIN(px_duration_ms(timeout, PX_ON_DEMAND_TIMEOUT_MS),
                                        (uint64_t)UINT32_MAX);
    return LT_OK;
}

static lt_rc make(struct px_build *build, const Xds__HttpOnDemand__OnDemandCds *in,
                  const struct px_on_demand_conf **ret_conf)
{
    struct px_on_demand_conf *conf = lt_arena_make(build->arena, struct px_on_demand_conf);
    *ret_conf = conf;
    if (in == NULL)
        return LT_OK;
    size_t mark = px_path_enter(build, "odcds", -1);
    LT_TRY(px_make_odcds(build, "source", in->source, in->resources_locator, in->timeout, conf));
    px_path_leave(build, mark);
    return LT_OK;
}

lt_rc px_make_on_demand_filter(struct px_build *build, const void *message,
                               struct px_hcm_conf *hcm LT_UNUSED, const void **ret_conf)
{
    const Xds__HttpOnDemand__OnDemand *in = message;
    const struct px_on_demand_conf *conf = NULL;
    LT_TRY(make(build, in->odcds, &conf));
    *ret_conf = conf;
    return LT_OK;
}

/* Without odcds none are asked for there. */
lt_rc px_make_on_demand_route(struct px_build *build, const void *message,
                              struct px_filter_conf *conf)
{
    const Xds__HttpOnDemand__PerRouteConfig *in = message;
    const struct px_on_demand_conf *made = NULL;
    LT_TRY(make(build, in->odcds, &made));
    conf->conf = made;
    return LT_OK;
}

/* --- TCP --- */

static struct px_stat tcp_stat(struct px_build *build, lt_str prefix, const char *what)
{
    struct px_stat stat = px_stat_plain(
        build->arena,
        lt_arena_printf(build->arena, "tcp.%.*s.on_demand_cluster_%s", LT_STR_ARG(prefix), what));
    px_stat_tag(build->arena, &stat, LT_STR("envoy_tcp_prefix"), prefix);
    return stat;
}

lt_rc px_make_tcp_on_demand(struct px_build *build, const Xds__TcpProxy__OnDemand *in,
                            struct px_tcp_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    struct px_on_demand_conf *made = lt_arena_make(build->arena, struct px_on_demand_conf);
    size_t mark = px_path_enter(build, "on_demand", -1);
    LT_TRY(px_make_odcds(build, "odcds_config", in->odcds_config, in->resources_locator,
                         in->timeout, made));
    px_path_leave(build, mark);
    made->stats = (struct px_on_demand_stats){
        .attempt = tcp_stat(build, conf->stat_prefix, "attempt"),
        .missing = tcp_stat(build, conf->stat_prefix, "missing"),
        .success = tcp_stat(build, conf->stat_prefix, "success"),
        .timeout = tcp_stat(build, conf->stat_prefix, "timeout"),
    };
    conf->on_demand = made;
    return LT_OK;
}
