/*
 * proxy/conf/stats_config.c - which counters are shown.
 */
#include "proxy/conf/stats_config.h"

#include <stdio.h>

#include "proxy/conf/route_match.h"

enum { NAME_BYTES_MAX = 256 };

static bool is_always_shown(lt_str family)
{
    static const char *const watched[] = {"envoy_cluster_upstream_rq_retry",
                                          "envoy_cluster_upstream_rq_retry_success",
                                          "envoy_listener_no_filter_chain_match"};
    for (size_t i = 0; i < LT_ARRAY_LEN(watched); i++) {
        if (lt_str_eqz(family, watched[i]))
            return true;
    }
    return lt_str_starts(family, LT_STR("istio_")) || lt_str_starts(family, LT_STR("lateen_"));
}

static bool is_shown(lt_str stat, lt_str family, void *ctx)
{
    const struct px_stats_config *config = ctx;
    if (is_always_shown(family))
        return true;
    bool is_named = false;
    for (size_t i = 0; i < config->pattern_count && !is_named; i++)
        is_named = px_string_matches(&config->patterns[i], stat);
    return config->mode == PX_STATS_WITHOUT ? !is_named : is_named;
}

void px_stats_hide(const struct px_stats_config *config, struct lt_metric_set *set)
{
    if (config != NULL && config->mode != PX_STATS_ALL)
        (void)lt_metric_filter(set, is_shown, (void *)config);
}

const struct lt_buckets *px_stats_bounds(const struct px_stats_config *config, const char *name)
{
    char stat[NAME_BYTES_MAX]; /* as Istio's filter names it */
    snprintf(stat, sizeof(stat), "istiocustom.%s", name);
    for (size_t i = 0; config != NULL && i < config->bucket_count; i++) {
        if (px_string_matches(&config->buckets[i].match, lt_str_of(stat)))
            return &config->buckets[i].buckets;
    }
    return NULL;
}
