/*
 * proxy/conf/stats_config.h - stats_config of the bootstrap: which counters are shown, and bounds
 * of histograms. Counters are made when something counts, so that hiding them is all there is to
 * do.
 * Made by the main thread, read by all.
 */
#ifndef LT_PROXY_CONF_STATS_CONFIG_H
#define LT_PROXY_CONF_STATS_CONFIG_H

#include "base/metric.h"
#include "proxy/conf/conf.h"

typedef enum { PX_STATS_ALL, PX_STATS_WITHOUT, PX_STATS_ONLY } px_stats_mode;

struct px_stats_buckets {
    struct px_string_match match; /* of the stat's name */
    struct lt_buckets buckets;
};

struct px_stats_config {
    px_stats_mode mode;
    const struct px_string_match *patterns; /* WITHOUT, ONLY */
    size_t pattern_count;
    const struct px_stats_buckets *buckets;
    size_t bucket_count;
};

/*
 * Takes out of set what the matcher hides. Never hidden: Istio's metrics, our own, the two of
 * retries that operators watch, and who was turned away for want of TLS.
 */
void px_stats_hide(const struct px_stats_config *config, struct lt_metric_set *set);
/* Of one of Istio's histograms; config may be NULL. */
const struct lt_buckets *px_stats_bounds(const struct px_stats_config *config, const char *name);

#endif
