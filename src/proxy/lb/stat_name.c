/*
 * proxy/lb/stat_name.c - names of clusters' series.
 */
#include "proxy/lb/stat_name.h"

#include <stdio.h>

enum { NAME_BYTES_MAX = 128 };

const lt_str px_cluster_label = {"cluster_name", 12};

/* alt_stat_name ends with ';' in Istio's configurations: names with dots can be told apart. */
lt_str px_cluster_shown_name(const struct px_cluster_conf *conf)
{
    return conf->alt_stat_name.len > 0 ? conf->alt_stat_name : conf->res.name;
}

static struct lt_metric_family *family_of(struct lt_metric_set *set, const char *group,
                                          const char *stat, lt_metric_kind kind)
{
    char name[NAME_BYTES_MAX], dotted[NAME_BYTES_MAX];
    snprintf(name, sizeof(name), "envoy_cluster_%s%s", group, stat);
    snprintf(dotted, sizeof(dotted), "cluster.$0.%s%s", group, stat);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '.' ? '_' : *p;
    const struct lt_metric_desc desc = {.name = lt_str_of(name),
                                        .kind = kind,
                                        .stat = lt_str_of(dotted),
                                        .labels = &px_cluster_label,
                                        .label_count = 1};
    return lt_metric_family(set, &desc);
}

struct lt_counter *px_cluster_counter(struct lt_metric_set *set, lt_str cluster, const char *group,
                                      const char *stat)
{
    return lt_metric_counter(family_of(set, group, stat, LT_METRIC_COUNTER), &cluster);
}

struct lt_gauge *px_cluster_gauge(struct lt_metric_set *set, lt_str cluster, const char *group,
                                  const char *stat)
{
    return lt_metric_gauge(family_of(set, group, stat, LT_METRIC_GAUGE), &cluster);
}
