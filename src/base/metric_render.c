/*
 * base/metric_render.c - sets as text: Prometheus exposition 0.0.4, and Envoy's /stats.
 * Start at: lt_metric_render().
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/metric_priv.h"

/* --- numbers and escapes --- */

lt_str lt_metric_number(double value, char out[32])
{
    if (isnan(value))
        return LT_STR("NaN");
    if (isinf(value))
        return value > 0 ? LT_STR("+Inf") : LT_STR("-Inf");
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    return lt_str_of(out);
}

static lt_rc put_escaped(struct lt_buf *out, lt_str text)
{
    size_t plain = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c != '\\' && c != '"' && c != '\n')
            continue;
        LT_TRY(lt_buf_append(out, text.ptr + plain, i - plain));
        LT_TRY(lt_buf_append(out, c == '\n' ? "\\n" : c == '"' ? "\\\"" : "\\\\", 2));
        plain = i + 1;
    }
    return lt_buf_append(out, text.ptr + plain, text.len - plain);
}

/* {a="x",b="y"}; le is put last when it is not NULL. */
static lt_rc put_labels(const struct lt_metric_family *family,
                        const struct lt_metric_series *series, const char *le, struct lt_buf *out)
{
    uint32_t count = family->desc.label_count;
    if (count == 0 && le == NULL)
        return LT_OK;
    LT_TRY(lt_buf_append(out, "{", 1));
    for (uint32_t i = 0; i < count; i++) {
        LT_TRY(
            lt_buf_printf(out, "%s%.*s=\"", i > 0 ? "," : "", LT_STR_ARG(family->desc.labels[i])));
        LT_TRY(put_escaped(out, series->labels[i]));
        LT_TRY(lt_buf_append(out, "\"", 1));
    }
    if (le != NULL)
        LT_TRY(lt_buf_printf(out, "%sle=\"%s\"", count > 0 ? "," : "", le));
    return lt_buf_append(out, "}", 1);
}

/* --- Prometheus --- */

static lt_rc put_line(const struct lt_metric_family *family, const struct lt_metric_series *series,
                      const char *suffix, const char *le, lt_str value, struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(out, "%.*s%s", LT_STR_ARG(family->desc.name), suffix));
    LT_TRY(put_labels(family, series, le, out));
    return lt_buf_printf(out, " %.*s\n", LT_STR_ARG(value));
}

static lt_str count_text(uint64_t count, char out[32])
{
    snprintf(out, 32, "%llu", (unsigned long long)count);
    return lt_str_of(out);
}

static lt_rc put_histogram(const struct lt_metric_family *family,
                           const struct lt_metric_series *series, struct lt_buf *out)
{
    const struct lt_histogram *histogram = series->value;
    char bound[32], number[32];
    uint64_t below = 0;
    for (uint32_t i = 0; i < histogram->buckets->count; i++) {
        below += histogram->counts[i];
        lt_metric_number(histogram->buckets->bounds[i], bound);
        LT_TRY(put_line(family, series, "_bucket", bound, count_text(below, number), out));
    }
    LT_TRY(put_line(family, series, "_bucket", "+Inf", count_text(histogram->count, number), out));
    LT_TRY(put_line(family, series, "_sum", NULL, lt_metric_number(histogram->sum, number), out));
    return put_line(family, series, "_count", NULL, count_text(histogram->count, number), out);
}

static lt_rc put_prometheus(const struct lt_metric_family *family,
                            const struct lt_metric_series *series, struct lt_buf *out)
{
    char number[32];
    switch (family->desc.kind) {
    case LT_METRIC_COUNTER:
        return put_line(family, series, "", NULL,
                        count_text(((const struct lt_counter *)series->value)->value, number), out);
    case LT_METRIC_GAUGE:
        return put_line(family, series, "", NULL,
                        lt_metric_number(((const struct lt_gauge *)series->value)->value, number),
                        out);
    case LT_METRIC_HISTOGRAM: return put_histogram(family, series, out);
    }
    return LT_OK;
}

static lt_rc put_type(const struct lt_metric_family *family, struct lt_buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    if (family->desc.help.len > 0)
        LT_TRY(lt_buf_printf(out, "# HELP %.*s %.*s\n", LT_STR_ARG(family->desc.name),
                             LT_STR_ARG(family->desc.help)));
    return lt_buf_printf(out, "# TYPE %.*s %s\n", LT_STR_ARG(family->desc.name),
                         types[family->desc.kind]);
}

/* --- /stats --- */

static lt_rc put_stat_name(const struct lt_metric_family *family,
                           const struct lt_metric_series *series, struct lt_buf *out)
{
    lt_str stat = family->desc.stat;
    if (stat.len == 0) {
        LT_TRY(lt_buf_append_str(out, family->desc.name));
        for (uint32_t i = 0; i < family->desc.label_count; i++) {
            if (series->labels[i].len > 0)
                LT_TRY(lt_buf_printf(out, ".%.*s.%.*s", LT_STR_ARG(family->desc.labels[i]),
                                     LT_STR_ARG(series->labels[i])));
        }
        return LT_OK;
    }
    for (size_t i = 0; i < stat.len; i++) {
        unsigned index = i + 1 < stat.len ? (unsigned)(stat.ptr[i + 1] - '0') : 10;
        if (stat.ptr[i] == '$' && index < 10 && index < family->desc.label_count) {
            LT_TRY(lt_buf_append_str(out, series->labels[index]));
            i++;
        } else {
            LT_TRY(lt_buf_append(out, &stat.ptr[i], 1));
        }
    }
    return LT_OK;
}

static lt_rc put_stat_value(const struct lt_metric_family *family,
                            const struct lt_metric_series *series, struct lt_buf *out)
{
    char number[32];
    if (family->desc.kind == LT_METRIC_COUNTER)
        return lt_buf_printf(out, ": %llu\n",
                             (unsigned long long)((const struct lt_counter *)series->value)->value);
    if (family->desc.kind == LT_METRIC_GAUGE)
        return lt_buf_printf(
            out, ": %.*s\n",
            LT_STR_ARG(lt_metric_number(((const struct lt_gauge *)series->value)->value, number)));
    const struct lt_histogram *histogram = series->value;
    return lt_buf_printf(out, ": count=%llu sum=%.*s\n", (unsigned long long)histogram->count,
                         LT_STR_ARG(lt_metric_number(histogram->sum, number)));
}

/* --- one after the other --- */

static int by_name(const void *a, const void *b)
{
    const struct lt_metric_family *x = *(struct lt_metric_family *const *)a,
                                  *y = *(struct lt_metric_family *const *)b;
    return lt_str_cmp(x->desc.name, y->desc.name);
}

static void start(const struct lt_metric_set *set, struct lt_metric_cursor *cursor)
{
    cursor->count = (uint32_t)set->families.count;
    cursor->order = lt_calloc(cursor->count, sizeof(*cursor->order));
    for (uint32_t i = 0; i < cursor->count; i++)
        cursor->order[i] = set->families.entries[i].value;
    qsort(cursor->order, cursor->count, sizeof(*cursor->order), by_name);
}

static const struct lt_metric_series *nth_series(const struct lt_metric_family *family, uint32_t at)
{
    if (at < family->series.count)
        return family->series.entries[at].value;
    return at == family->series.count ? family->overflow : NULL;
}

static bool is_first_of_name(const struct lt_metric_cursor *cursor)
{
    if (cursor->series > 0)
        return false;
    for (uint32_t i = cursor->family; i > 0; i--) {
        const struct lt_metric_family *before = cursor->order[i - 1];
        if (!lt_str_eq(before->desc.name, cursor->order[cursor->family]->desc.name))
            return true;
        if (nth_series(before, 0) != NULL)
            return false; /* a family of that name without series wrote no line */
    }
    return true;
}

static lt_rc put_one(const struct lt_metric_cursor *cursor, lt_metric_form form,
                     lt_metric_keep_fn *keep, void *ctx, const struct lt_metric_series *series,
                     struct lt_buf *out)
{
    const struct lt_metric_family *family = cursor->order[cursor->family];
    if (form == LT_METRIC_PROMETHEUS) {
        if (keep != NULL && !keep(family->desc.name, ctx))
            return LT_OK;
        if (is_first_of_name(cursor))
            LT_TRY(put_type(family, out));
        return put_prometheus(family, series, out);
    }
    size_t before = lt_buf_len(out);
    LT_TRY(put_stat_name(family, series, out));
    lt_str name = lt_str_from(lt_buf_str(out), before);
    if (keep != NULL && !keep(name, ctx)) {
        out->end -= name.len;
        return LT_OK;
    }
    return put_stat_value(family, series, out);
}

lt_rc lt_metric_render(const struct lt_metric_set *set, lt_metric_form form,
                       lt_metric_keep_fn *keep, void *ctx, struct lt_metric_cursor *cursor,
                       size_t part_bytes, struct lt_buf *out)
{
    if (cursor->order == NULL)
        start(set, cursor);
    while (cursor->family < cursor->count) {
        const struct lt_metric_series *series = nth_series(cursor->order[cursor->family],
                                                           cursor->series);
        if (series == NULL) {
            cursor->family++;
            cursor->series = 0;
            continue;
        }
        if (lt_buf_len(out) >= part_bytes)
            return LT_OK;
        LT_TRY(put_one(cursor, form, keep, ctx, series, out));
        cursor->series++;
    }
    lt_metric_cursor_fini(cursor);
    cursor->family = cursor->count; /* asked again: nothing more */
    return LT_EOF;
}

bool lt_metric_next(const struct lt_metric_set *set, struct lt_metric_cursor *cursor,
                    struct lt_buf *name, struct lt_metric_view *ret_view)
{
    if (cursor->order == NULL)
        start(set, cursor);
    while (cursor->family < cursor->count) {
        const struct lt_metric_family *family = cursor->order[cursor->family];
        const struct lt_metric_series *series = nth_series(family, cursor->series++);
        if (series == NULL) {
            cursor->family++;
            cursor->series = 0;
            continue;
        }
        lt_buf_clear(name, SIZE_MAX);
        if (put_stat_name(family, series, name) != LT_OK)
            continue; /* no name is as long as the buffer may be */
        *ret_view = (struct lt_metric_view){.kind = family->desc.kind,
                                            .stat = lt_buf_str(name),
                                            .family = family->desc.name,
                                            .value = series->value};
        return true;
    }
    return false;
}

static uint32_t filter_family(struct lt_metric_family *family, lt_metric_series_fn *keep, void *ctx,
                              struct lt_buf *name)
{
    uint32_t removed = 0;
    for (size_t i = family->series.count; i > 0; i--) {
        struct lt_metric_series *series = family->series.entries[i - 1].value;
        lt_buf_clear(name, SIZE_MAX);
        if (put_stat_name(family, series, name) != LT_OK ||
            keep(lt_buf_str(name), family->desc.name, ctx))
            continue;
        lt_map_remove(&family->series, series->key);
        free(series);
        removed++;
    }
    return removed;
}

uint32_t lt_metric_filter(struct lt_metric_set *set, lt_metric_series_fn *keep, void *ctx)
{
    enum { NAME_BYTES_MAX = 256 * 1024 };
    struct lt_buf name;
    uint32_t removed = 0;
    lt_buf_init(&name, NAME_BYTES_MAX);
    for (size_t i = 0; i < set->families.count; i++)
        removed += filter_family(set->families.entries[i].value, keep, ctx, &name);
    set->series_count -= removed;
    lt_buf_fini(&name);
    return removed;
}

double lt_histogram_quantile(const struct lt_histogram *histogram, double quantile)
{
    const struct lt_buckets *buckets = histogram->buckets;
    double wanted = quantile * (double)histogram->count, below = 0;
    if (histogram->count == 0)
        return NAN;
    for (uint32_t i = 0; i < buckets->count; i++) {
        double here = (double)histogram->counts[i];
        double from = i == 0 ? 0 : buckets->bounds[i - 1];
        if (here > 0 && below + here >= wanted)
            return from +
                   (buckets->bounds[i] - from) * (wanted > below ? wanted - below : 0) / here;
        below += here;
    }
    return buckets->count > 0 ? buckets->bounds[buckets->count - 1] : 0;
}

void lt_metric_cursor_fini(struct lt_metric_cursor *cursor)
{
    free(cursor->order);
    cursor->order = NULL;
}
