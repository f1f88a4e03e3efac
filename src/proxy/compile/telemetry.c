/*
 * proxy/compile/telemetry.c - the configuration of istio.stats: which metrics are off, which labels
 * are others. An expression that we don't have says "unknown" and is listed.
 */
#include "proxy/told/telemetry.h"
#include "proxy/compile/build.h"
#include "wire/proto/istio_stats.pb-c.h"

enum { TAGS_MAX = 20 };

struct making {
    struct px_build *build;
    struct px_tag_conf tags[PX_METRICS][TAGS_MAX];
    size_t counts[PX_METRICS];
    bool is_dropped[PX_METRICS];
};

/* A later word about a tag replaces the one before. */
static lt_rc set_tag(struct making *making, px_metric metric, const struct px_tag_conf *tag)
{
    size_t at = 0;
    while (at < making->counts[metric] && !lt_str_eq(making->tags[metric][at].name, tag->name))
        at++;
    if (at == TAGS_MAX)
        return px_bad(making->build, "metrics", "more than %d tags of one metric", TAGS_MAX);
    making->tags[metric][at] = *tag;
    making->counts[metric] += at == making->counts[metric] ? 1 : 0;
    return LT_OK;
}

static lt_rc set_tags(struct making *making, lt_str metric_name, const struct px_tag_conf *tag)
{
    px_metric only = px_metric_find(metric_name);
    for (unsigned i = 0; i < PX_METRICS; i++) {
        if (metric_name.len == 0 || i == only)
            LT_TRY(set_tag(making, (px_metric)i, tag));
    }
    return LT_OK;
}

/* "unknown", as Istio's filter says of what it cannot evaluate. */
static lt_rc make_expression(struct px_build *build, lt_str name, const char *text,
                             const struct px_cel **ret_cel)
{
    struct lt_err inner = {0};
    if (px_cel_compile(build->arena, &build->regexes, lt_str_of(text), ret_cel, &inner) == LT_OK)
        return LT_OK;
    lt_str field = lt_arena_printf(build->scratch, "metrics.dimensions[%.*s]: '%.100s' %s",
                                   LT_STR_ARG(name), text, inner.text);
    px_unhonoured(build, field.ptr);
    return px_cel_compile(build->arena, &build->regexes, LT_STR("'unknown'"), ret_cel, build->err);
}

static lt_rc read_metric(struct making *making, const Istio__Stats__MetricConfig *in)
{
    struct px_build *build = making->build;
    lt_str metric = lt_str_of(in->name);
    if (in->has_drop && in->drop) {
        for (unsigned i = 0; i < PX_METRICS; i++)
            making->is_dropped[i] |= metric.len == 0 || px_metric_find(metric) == i;
        return LT_OK;
    }
    for (size_t i = 0; i < in->n_tags_to_remove; i++) {
        struct px_tag_conf tag = {.name = px_copy(build, in->tags_to_remove[i])};
        LT_TRY(set_tags(making, metric, &tag));
    }
    for (size_t i = 0; i < in->n_dimensions; i++) {
        struct px_tag_conf tag = {.name = px_copy(build, in->dimensions[i]->key)};
        LT_TRY(make_expression(build, tag.name, in->dimensions[i]->value, &tag.cel));
        LT_TRY(set_tags(making, metric, &tag));
    }
    return LT_OK;
}

static void finish(const struct making *making, struct px_stats_conf *conf)
{
    for (unsigned i = 0; i < PX_METRICS; i++) {
        struct px_tag_conf *tags = lt_arena_make_n(making->build->arena, struct px_tag_conf,
                                                   making->counts[i]);
        memcpy(tags, making->tags[i], making->counts[i] * sizeof(*tags));
        conf->metrics[i] = (struct px_metric_conf){
            .is_dropped = making->is_dropped[i], .tags = tags, .tag_count = making->counts[i]};
    }
}

lt_rc px_make_stats(struct px_build *build, const Istio__Stats__PluginConfig *in,
                    struct px_stats_facts *ret_facts)
{
    *ret_facts = (struct px_stats_facts){.tcp_report_ms = PX_TCP_REPORT_MS};
    ret_facts->ignores_host = in->has_disable_host_header_fallback &&
                              in->disable_host_header_fallback;
    ret_facts->tcp_report_ms = px_duration_ms(in->tcp_reporting_duration, PX_TCP_REPORT_MS);
    if (ret_facts->tcp_report_ms == 0)
        ret_facts->tcp_report_ms = PX_TCP_REPORT_MS;
    if (in->n_metrics == 0)
        return LT_OK;
    struct making *making = lt_arena_make(build->scratch, struct making);
    making->build = build;
    for (size_t i = 0; i < in->n_metrics; i++)
        LT_TRY(read_metric(making, in->metrics[i]));
    struct px_stats_conf *conf = lt_arena_make(build->arena, struct px_stats_conf);
    lt_str bytes = lt_pb_pack(build->scratch, (Istio__Stats__PluginConfig *)in);
    conf->id = lt_hash64(bytes.ptr, bytes.len, 0) | 1;
    finish(making, conf);
    ret_facts->stats = conf;
    return LT_OK;
}
