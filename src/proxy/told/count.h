/*
 * proxy/told/count.h - counters that configuration named (conf/stat.h), made in a worker when they
 * first count.
 */
#ifndef LT_PROXY_TOLD_COUNT_H
#define LT_PROXY_TOLD_COUNT_H

#include "proxy/conf/stat.h"

struct px_worker;

struct lt_counter;
/* The counter itself, for who counts often; it lives as long as the worker. */
struct lt_counter *px_stat_counter(struct px_worker *worker, const struct px_stat *stat);
void px_stat_add(struct px_worker *worker, const struct px_stat *stat, uint64_t by);
/* At the end of a worker: the names; counters are the metrics'. */
void px_stats_fini(struct px_worker *worker);

#endif
