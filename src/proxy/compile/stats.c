/*
 * proxy/compile/stats.c - StatsConfig of the bootstrap to px_stats_config.
 */
#include "proxy/compile/build.h"
#include "proxy/conf/stats_config.h"
#include "wire/proto/metrics.pb-c.h"

/* Labels that our counters have by themselves, under Istio's names. */
static bool is_own_tag(const char *name)
{
    static const char *const own[] = {"cluster_name",
                                      "tcp_prefix",
                                      "response_code",
                                      "response_code_class",
                                      "http_conn_manager_prefix",
                                      "listener_address",
                                      "mongo_prefix",
                                      "authz_enforce_result",
                                      "authz_dry_run_action",
                                      "authz_dry_run_result"};
    for (size_t i = 0; name != NULL && i < LT_ARRAY_LEN(own); i++) {
        if (strcmp(name, own[i]) == 0)
            return true;
    }
    return false;
}

static lt_rc make_patterns(struct px_build *build, const char *field,
                           const Xds__ListStringMatcher *list, struct px_stats_config *config)
{
    size_t count = list != NULL ? list->n_patterns : 0;
    struct px_string_match *patterns = lt_arena_make_n(build->arena, struct px_string_match, count);
    for (size_t i = 0; i < count; i++)
        LT_TRY(px_make_string_match(build, field, list->patterns[i], &patterns[i]));
    config->patterns = patterns;
    config->pattern_count = count;
    return LT_OK;
}

static lt_rc make_matcher(struct px_build *build, const Xds__StatsMatcher *in,
                          struct px_stats_config *config)
{
    switch (in->stats_matcher_case) {
    case XDS__STATS_MATCHER__STATS_MATCHER_REJECT_ALL:
        config->mode = in->reject_all ? PX_STATS_ONLY : PX_STATS_ALL; /* only: nothing is named */
        return LT_OK;
    case XDS__STATS_MATCHER__STATS_MATCHER_EXCLUSION_LIST:
        config->mode = PX_STATS_WITHOUT;
        return make_patterns(build, "stats_matcher.exclusion_list", in->exclusion_list, config);
    case XDS__STATS_MATCHER__STATS_MATCHER_INCLUSION_LIST:
        config->mode = PX_STATS_ONLY;
        return make_patterns(build, "stats_matcher.inclusion_list", in->inclusion_list, config);
    default: return px_bad(build, "stats_matcher", "says nothing");
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* In whatever order, as Envoy takes them; none: the default ones. */
static lt_rc make_bounds(struct px_build *build, const Xds__HistogramBucketSettings *in,
                         struct px_stats_buckets *out)
{
    double *bounds = lt_arena_make_n(build->arena, double, in->n_buckets);
    LT_TRY(px_make_string_match(build, "match", in->match, &out->match));
    if (in->n_buckets > LT_BUCKETS_MAX)
        return px_bad(build, "buckets", "there may be %d", LT_BUCKETS_MAX);
    for (size_t i = 0; i < in->n_buckets; i++) {
        bounds[i] = in->buckets[i];
        if (!(bounds[i] > 0))
            return px_bad(build, "buckets", "each must be above 0");
    }
    lt_sort(bounds, in->n_buckets, sizeof(*bounds), by_size);
    out->buckets = in->n_buckets > 0 ? (struct lt_buckets){bounds, (uint32_t)in->n_buckets}
                                     : lt_buckets_envoy;
    return LT_OK;
}

lt_rc px_make_stats_config(struct px_build *build, const Xds__StatsConfig *in,
                           struct px_stats_config *config)
{
    if (in == NULL)
        return LT_OK;
    size_t mark = px_path_enter(build, "stats_config", -1);
    if (in->stats_matcher != NULL)
        LT_TRY(make_matcher(build, in->stats_matcher, config));
    struct px_stats_buckets *buckets = lt_arena_make_n(build->arena, struct px_stats_buckets,
                                                       in->n_histogram_bucket_settings);
    for (size_t i = 0; i < in->n_histogram_bucket_settings; i++) {
        size_t inner = px_path_enter(build, "histogram_bucket_settings", (ptrdiff_t)i);
        LT_TRY(make_bounds(build, in->histogram_bucket_settings[i], &buckets[i]));
        px_path_leave(build, inner);
    }
    config->buckets = buckets;
    config->bucket_count = in->n_histogram_bucket_settings;
    for (size_t i = 0; i < in->n_stats_tags; i++) {
        if (!is_own_tag(in->stats_tags[i]->tag_name))
            px_unhonoured(build, "stats_tags");
    }
    px_path_leave(build, mark);
    return LT_OK;
}
