/*
 * base/metric_priv.h - private to metric.c and metric_render.c.
 */
#ifndef LT_BASE_METRIC_PRIV_H
#define LT_BASE_METRIC_PRIV_H

#include "base/arena.h"
#include "base/metric.h"

struct lt_metric_series {
    uint64_t swept;  /* its count at the last sweep, and 1; 0: there was none */
    void *value;     /* counter, gauge or histogram, in the same block */
    lt_str key;      /* label values, each with a NUL behind; in the same block */
    lt_str labels[]; /* slices of key */
};

struct lt_metric_family {
    struct lt_arena *arena; /* owned; holds this struct and desc's texts */
    struct lt_metric_set *set;
    struct lt_metric_desc desc;
    struct lt_map series;              /* key -> struct lt_metric_series, owned */
    struct lt_metric_series *overflow; /* owned; NULL until it is needed */
};

struct lt_metric_set {
    struct lt_map families; /* name and label names -> struct lt_metric_family, owned */
    uint32_t series_max, series_count;
    uint64_t overflows;
};

/* For metric_carry.c. By name and labels; NULL: the set has none. */
struct lt_metric_family *lt_metric_find_family(const struct lt_metric_set *set,
                                               const struct lt_metric_desc *desc);
void *lt_metric_value_of(struct lt_metric_family *family, const lt_str *values, bool is_overflow);

#endif
