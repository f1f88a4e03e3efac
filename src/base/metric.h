/*
 * base/metric.h - counters, gauges and histograms of one owner (a worker, the main thread), and
 * their text forms.
 *
 * A set belongs to one thread: no atomics, no locks. Whoever counts keeps the pointer to its
 * series, so that the hot path is one addition; the pointer lives as long as the set, or until the
 * series is removed. To show all, somebody merges the sets one after another into a fresh one, each
 * on its owner's thread, and renders that.
 *
 * A family is a name with label names; a series is a family with label values, made on first use.
 * Two families may share a name (Istio's tag overrides give one metric different labels); they are
 * shown under one TYPE line.
 * Start at: lt_metric_family().
 */
#ifndef LT_BASE_METRIC_H
#define LT_BASE_METRIC_H

#include "base/buf.h"
#include "base/map.h"

typedef enum { LT_METRIC_COUNTER, LT_METRIC_GAUGE, LT_METRIC_HISTOGRAM } lt_metric_kind;

struct lt_counter {
    uint64_t value;
};

/* Merging adds gauges up. */
struct lt_gauge {
    double value;
};

enum { LT_BUCKETS_MAX = 40 };

/* Upper bounds, ascending, without +Inf. */
struct lt_buckets {
    const double *bounds;
    uint32_t count;
};

/* Envoy's default, for milliseconds and bytes alike: 0.5 ... 3600000. */
extern const struct lt_buckets lt_buckets_envoy;

struct lt_histogram {
    const struct lt_buckets *buckets; /* borrowed */
    double sum;
    uint64_t count;
    uint64_t counts[]; /* one a bucket, and one for what lies above the last bound */
};

static inline void lt_counter_add(struct lt_counter *counter, uint64_t by)
{
    counter->value += by;
}

static inline void lt_gauge_add(struct lt_gauge *gauge, double by)
{
    gauge->value += by;
}

static inline void lt_gauge_set(struct lt_gauge *gauge, double value)
{
    gauge->value = value;
}

static inline void lt_histogram_observe(struct lt_histogram *histogram, double value)
{
    const struct lt_buckets *buckets = histogram->buckets;
    uint32_t at = 0;
    while (at < buckets->count && value > buckets->bounds[at])
        at++;
    histogram->counts[at]++;
    histogram->count++;
    histogram->sum += value;
}

struct lt_metric_desc {
    lt_str name; /* as Prometheus sees it: "istio_requests_total" */
    lt_metric_kind kind;
    lt_str help; /* empty: no HELP line */
    /*
     * Envoy's dotted name for /stats, where "$0" ... "$9" stand for label values:
     * "cluster.$0.upstream_cx_total". Empty: the name with ".label.value" for each label that is
     * not empty.
     */
    lt_str stat;
    const lt_str *labels;
    uint32_t label_count;
    const struct lt_buckets *buckets; /* NULL: lt_buckets_envoy. Must outlive all sets */
};

struct lt_metric_set;
struct lt_metric_family;

enum { LT_METRIC_LABELS_MAX = 48, LT_METRIC_VALUE_MAX = 1024 };

/*
 * Label values may be strangers' bytes: they are cut to LT_METRIC_VALUE_MAX bytes, and where they
 * are no UTF-8 each byte outside ASCII becomes '?' (one bad byte would cost the whole scrape).
 * series_max: of all families together. Beyond it a family's new series all count in one, whose
 * labels say "overflow".
 */
struct lt_metric_set *lt_metric_set_new(uint32_t series_max);
void lt_metric_set_free(struct lt_metric_set **set);

/*
 * Finds or makes; everything but the buckets is copied. Asserts when the name is known with another
 * kind.
 */
struct lt_metric_family *lt_metric_family(struct lt_metric_set *set,
                                          const struct lt_metric_desc *desc);

/* Finds or makes the series with these label values (label_count of them, in order). Never NULL. */
struct lt_counter *lt_metric_counter(struct lt_metric_family *family, const lt_str *values);
struct lt_gauge *lt_metric_gauge(struct lt_metric_family *family, const lt_str *values);
struct lt_histogram *lt_metric_histogram(struct lt_metric_family *family, const lt_str *values);

/* True when the series is there already. */
bool lt_metric_has(const struct lt_metric_family *family, const lt_str *values);

/*
 * Removes every series (but overflow ones) with that value in a label of that name, as when a
 * cluster goes; pointers to them are dead then. Returns how many.
 */
uint32_t lt_metric_remove(struct lt_metric_set *set, lt_str label, lt_str value);

/*
 * Adds what src has to dst: counters, gauges and histograms alike. Series that dst lacks are made.
 */
void lt_metric_set_merge(struct lt_metric_set *dst, const struct lt_metric_set *src);
/*
 * Removes the counters and histograms, of families whose names begin so, that nothing was added to
 * since the sweep before the last; pointers to them are dead then. Returns how many.
 */
uint32_t lt_metric_sweep(struct lt_metric_set *set, lt_str prefix);
/* All values back to zero (Envoy's /reset_counters: gauges stay). */
void lt_metric_set_reset(struct lt_metric_set *set);

uint32_t lt_metric_set_series(const struct lt_metric_set *set);
/* Series that were asked for beyond the limit. */
uint64_t lt_metric_set_overflows(const struct lt_metric_set *set);

/*
 * Removes every series that keep says no to; stat: its dotted name. Pointers to them are dead then.
 * Returns how many.
 */
typedef bool lt_metric_series_fn(lt_str stat, lt_str family, void *ctx);
uint32_t lt_metric_filter(struct lt_metric_set *set, lt_metric_series_fn *keep, void *ctx);

/* --- text --- */

typedef enum {
    LT_METRIC_PROMETHEUS, /* text exposition 0.0.4; names sorted, series as they were made */
    LT_METRIC_STATS,      /* Envoy's /stats: "name: value"; histograms as "count sum" */
} lt_metric_form;

/*
 * Where a rendering stands; zero to begin. The set must not gain or lose series until it is done.
 */
struct lt_metric_cursor {
    uint32_t family;
    uint32_t series;
    struct lt_metric_family **order; /* owned; freed at the end, or by lt_metric_cursor_fini */
    uint32_t count;
};

/*
 * False: leave it out. name: the family's for Prometheus, the whole dotted name for stats. NULL:
 * everything.
 */
typedef bool lt_metric_keep_fn(lt_str name, void *ctx);

/*
 * Appends series until out holds part_bytes or more: LT_OK when there is more to come, LT_EOF when
 * that was all,
 * LT_E_LIMIT when out is full (its maximum should be part_bytes and room for one series: 16 KiB).
 */
LT_MUST lt_rc lt_metric_render(const struct lt_metric_set *set, lt_metric_form form,
                               lt_metric_keep_fn *keep, void *ctx, struct lt_metric_cursor *cursor,
                               size_t part_bytes, struct lt_buf *out);
void lt_metric_cursor_fini(struct lt_metric_cursor *cursor);

/* One series, for who writes a form of his own. Borrowed until the set changes. */
struct lt_metric_view {
    lt_metric_kind kind;
    lt_str stat; /* the dotted name, in the buffer that was given */
    lt_str family;
    const void *value; /* struct lt_counter, lt_gauge or lt_histogram */
};
/* The next one, families by name; false: that was all. name is overwritten. */
bool lt_metric_next(const struct lt_metric_set *set, struct lt_metric_cursor *cursor,
                    struct lt_buf *name, struct lt_metric_view *ret_view);
/*
 * What so much of the observations (0 to 1) lies below, interpolated in its bucket; NaN: there are
 * none.
 */
double lt_histogram_quantile(const struct lt_histogram *histogram, double quantile);

/*
 * A number as Envoy writes it for Prometheus: digits enough to read back the same, no exponent
 * below 1e15; "+Inf", "-Inf", "NaN".
 */
lt_str lt_metric_number(double value, char out[32]);

#endif
