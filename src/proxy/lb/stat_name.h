/*
 * proxy/lb/stat_name.h - series of clusters by Envoy's names, for whoever counts: workers
 * (cluster_stats.c) and the main thread (members_stats.c).
 */
#ifndef LT_PROXY_LB_STAT_NAME_H
#define LT_PROXY_LB_STAT_NAME_H

#include "base/metric.h"
#include "proxy/conf/cluster.h"

/* The label by which series of one cluster are found. */
extern const lt_str px_cluster_label;

/* What a cluster is called in statistics: its name, unless it says otherwise. */
lt_str px_cluster_shown_name(const struct px_cluster_conf *conf);

/*
 * "cluster.<cluster>.<group><stat>", "envoy_cluster_<group_><stat>". group: "" or "health_check."
 */
struct lt_counter *px_cluster_counter(struct lt_metric_set *set, lt_str cluster, const char *group,
                                      const char *stat);
struct lt_gauge *px_cluster_gauge(struct lt_metric_set *set, lt_str cluster, const char *group,
                                  const char *stat);

#endif
