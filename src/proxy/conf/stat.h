/*
 * proxy/conf/stat.h - names of filters' counters, made when the configuration is compiled.
 * Counting: told/count.h.
 */
#ifndef LT_PROXY_CONF_STAT_H
#define LT_PROXY_CONF_STAT_H

#include "base/arena.h"

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

#endif
