/*
 * proxy/stat.h - counters of filters: named when the configuration is compiled, made in a worker
 * when they first count.
 */
#ifndef LT_PROXY_STAT_H
#define LT_PROXY_STAT_H

#include "base/arena.h"

struct px_worker;

enum { PX_STAT_LABELS_MAX = 3 };

struct px_stat {
    lt_str name;   /* Envoy's: "http.inbound_0.0.0.0_8080;.rbac.allowed"; empty: not counted */
    lt_str family; /* Prometheus': "envoy_http_rbac" */
    lt_str labels[PX_STAT_LABELS_MAX], values[PX_STAT_LABELS_MAX];
    uint32_t label_count;
    lt_str pattern; /* the name with $0 for the first label's value, and so on */
};

/* "http.<prefix>.<rest>", with the prefix as a label. */
struct px_stat px_stat_http(struct lt_arena *arena, lt_str prefix, const char *rest);
/* A part of the name, which must be in it, becomes a label. */
void px_stat_tag(struct lt_arena *arena, struct px_stat *stat, lt_str label, lt_str value);
/* "<name>", without labels. */
struct px_stat px_stat_plain(struct lt_arena *arena, lt_str name);

struct lt_counter;
/* The counter itself, for who counts often; it lives as long as the worker. */
struct lt_counter *px_stat_counter(struct px_worker *worker, const struct px_stat *stat);
void px_stat_add(struct px_worker *worker, const struct px_stat *stat, uint64_t by);
/* At the end of a worker: the names; counters are the metrics'. */
void px_stats_fini(struct px_worker *worker);

#endif
