/*
 * base/metric_carry.h - counters and histograms of a process that goes, as bytes for the one that
 * takes its place. Gauges say how things are, and are not carried.
 * Trust: the bytes are another version's of ourselves; what does not fit is left out.
 */
#ifndef LT_BASE_METRIC_CARRY_H
#define LT_BASE_METRIC_CARRY_H

#include "base/metric.h"

/* Appends all of the set. LT_E_LIMIT: out is full. */
LT_MUST lt_rc lt_metric_save(const struct lt_metric_set *set, struct lt_buf *out);
/*
 * Adds what was saved. LT_E_BAD: they end early or are none of ours; what came before is added.
 * Families that the set knows as another kind, and histograms of other buckets, are left out.
 */
LT_MUST lt_rc lt_metric_add_saved(struct lt_metric_set *set, lt_str bytes);

#endif
