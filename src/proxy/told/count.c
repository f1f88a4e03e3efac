/*
 * proxy/told/count.c - counters that configuration named.
 */
#include "proxy/told/count.h"

#include <stdlib.h>

#include "proxy/run/run.h"

static struct lt_counter *make_counter(struct px_worker *worker, const struct px_stat *stat)
{
    const struct lt_metric_desc desc = {
        .name = stat->family,
        .kind = LT_METRIC_COUNTER,
        .stat = stat->pattern,
        .labels = stat->labels,
        .label_count = stat->label_count,
    };
    struct lt_metric_family *family = lt_metric_family(worker->metrics, &desc);
    return lt_metric_counter(family, stat->values);
}

struct lt_counter *px_stat_counter(struct px_worker *worker, const struct px_stat *stat)
{
    struct lt_counter *counter = lt_map_find(&worker->stats, stat->name);
    if (counter == NULL) {
        counter = make_counter(worker, stat);
        /* the configuration may go before the counter: the key is the worker's own */
        char *key = lt_str_dupz(stat->name);
        lt_map_put(&worker->stats, lt_str_make(key, stat->name.len), counter);
    }
    return counter;
}

void px_stat_add(struct px_worker *worker, const struct px_stat *stat, uint64_t by)
{
    if (stat->name.len > 0)
        lt_counter_add(px_stat_counter(worker, stat), by);
}

void px_stats_fini(struct px_worker *worker)
{
    for (size_t i = 0; i < worker->stats.count; i++)
        free((char *)worker->stats.entries[i].key.ptr);
    lt_map_fini(&worker->stats);
}
