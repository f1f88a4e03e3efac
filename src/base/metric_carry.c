/*
 * base/metric_carry.c - writing and reading next to each other. Numbers are in the machine's own
 * order: the bytes never leave it.
 *   magic, then families: kind, texts, labels, series: is_overflow, label values, value
 */
#include "base/metric_carry.h"

#include "base/metric_priv.h"

static const uint32_t MAGIC = 0x4c544d31; /* "LTM1" */

/* --- writing --- */

static lt_rc put_u32(struct lt_buf *out, uint32_t value)
{
    return lt_buf_append(out, &value, sizeof(value));
}

static lt_rc put_str(struct lt_buf *out, lt_str text)
{
    LT_TRY(put_u32(out, (uint32_t)text.len));
    return lt_buf_append_str(out, text);
}

static lt_rc put_series(const struct lt_metric_family *family,
                        const struct lt_metric_series *series, bool is_overflow, struct lt_buf *out)
{
    LT_TRY(put_u32(out, is_overflow));
    for (uint32_t i = 0; i < family->desc.label_count; i++)
        LT_TRY(put_str(out, series->labels[i]));
    if (family->desc.kind == LT_METRIC_COUNTER)
        return lt_buf_append(out, series->value, sizeof(uint64_t));
    const struct lt_histogram *histogram = series->value;
    LT_TRY(lt_buf_append(out, &histogram->sum, sizeof(histogram->sum)));
    LT_TRY(lt_buf_append(out, &histogram->count, sizeof(histogram->count)));
    return lt_buf_append(out, histogram->counts,
                         (histogram->buckets->count + 1) * sizeof(uint64_t));
}

static bool is_carried(const struct lt_metric_desc *desc)
{
    return desc->kind == LT_METRIC_COUNTER || desc->kind == LT_METRIC_HISTOGRAM;
}

static lt_rc put_family(const struct lt_metric_family *family, struct lt_buf *out)
{
    const struct lt_metric_desc *desc = &family->desc;
    size_t count = family->series.count + (family->overflow != NULL);
    LT_TRY(put_u32(out, desc->kind));
    LT_TRY(put_str(out, desc->name));
    LT_TRY(put_str(out, desc->help));
    LT_TRY(put_str(out, desc->stat));
    LT_TRY(put_u32(out, desc->label_count));
    for (uint32_t i = 0; i < desc->label_count; i++)
        LT_TRY(put_str(out, desc->labels[i]));
    LT_TRY(put_u32(out, desc->kind == LT_METRIC_HISTOGRAM ? desc->buckets->count : 0));
    LT_TRY(put_u32(out, (uint32_t)count));
    for (size_t i = 0; i < family->series.count; i++)
        LT_TRY(put_series(family, family->series.entries[i].value, false, out));
    return family->overflow != NULL ? put_series(family, family->overflow, true, out) : LT_OK;
}

lt_rc lt_metric_save(const struct lt_metric_set *set, struct lt_buf *out)
{
    LT_TRY(put_u32(out, MAGIC));
    for (size_t i = 0; i < set->families.count; i++) {
        const struct lt_metric_family *family = set->families.entries[i].value;
        if (is_carried(&family->desc))
            LT_TRY(put_family(family, out));
    }
    return LT_OK;
}

/* --- reading --- */

static lt_rc take(lt_str *in, void *to, size_t len)
{
    if (in->len < len)
        return LT_E_BAD;
    memcpy(to, in->ptr, len);
    *in = lt_str_from(*in, len);
    return LT_OK;
}

static lt_rc take_str(lt_str *in, lt_str *ret)
{
    uint32_t len = 0;
    LT_TRY(take(in, &len, sizeof(len)));
    if (in->len < len)
        return LT_E_BAD;
    *ret = lt_str_slice(*in, 0, len);
    *in = lt_str_from(*in, len);
    return LT_OK;
}

static lt_rc take_desc(lt_str *in, struct lt_metric_desc *desc, lt_str labels[LT_METRIC_LABELS_MAX],
                       uint32_t *ret_buckets, uint32_t *ret_count)
{
    uint32_t kind = 0;
    LT_TRY(take(in, &kind, sizeof(kind)));
    if (kind != LT_METRIC_COUNTER && kind != LT_METRIC_HISTOGRAM)
        return LT_E_BAD;
    *desc = (struct lt_metric_desc){.kind = (lt_metric_kind)kind, .labels = labels};
    LT_TRY(take_str(in, &desc->name));
    LT_TRY(take_str(in, &desc->help));
    LT_TRY(take_str(in, &desc->stat));
    LT_TRY(take(in, &desc->label_count, sizeof(desc->label_count)));
    if (desc->label_count > LT_METRIC_LABELS_MAX || desc->name.len == 0)
        return LT_E_BAD;
    for (uint32_t i = 0; i < desc->label_count; i++)
        LT_TRY(take_str(in, &labels[i]));
    LT_TRY(take(in, ret_buckets, sizeof(*ret_buckets)));
    return *ret_buckets > LT_BUCKETS_MAX ? LT_E_BAD : take(in, ret_count, sizeof(*ret_count));
}

struct saved_value {
    uint64_t counter;
    double sum;
    uint64_t count, counts[LT_BUCKETS_MAX + 1];
};

static lt_rc take_value(lt_str *in, lt_metric_kind kind, uint32_t buckets, struct saved_value *ret)
{
    if (kind == LT_METRIC_COUNTER)
        return take(in, &ret->counter, sizeof(ret->counter));
    LT_TRY(take(in, &ret->sum, sizeof(ret->sum)));
    LT_TRY(take(in, &ret->count, sizeof(ret->count)));
    return take(in, ret->counts, (buckets + 1) * sizeof(ret->counts[0]));
}

static void add(struct lt_metric_family *family, const lt_str *values, bool is_overflow,
                const struct saved_value *saved)
{
    void *value = lt_metric_value_of(family, values, is_overflow);
    if (family->desc.kind == LT_METRIC_COUNTER) {
        ((struct lt_counter *)value)->value += saved->counter;
        return;
    }
    struct lt_histogram *histogram = value;
    histogram->sum += saved->sum;
    histogram->count += saved->count;
    for (uint32_t i = 0; i <= histogram->buckets->count; i++)
        histogram->counts[i] += saved->counts[i];
}

static lt_rc add_family(struct lt_metric_set *set, lt_str *in)
{
    struct lt_metric_desc desc;
    lt_str labels[LT_METRIC_LABELS_MAX], values[LT_METRIC_LABELS_MAX];
    uint32_t buckets = 0, count = 0;
    LT_TRY(take_desc(in, &desc, labels, &buckets, &count));
    struct lt_metric_family *family = lt_metric_find_family(set, &desc);
    if (family == NULL) /* of one with other buckets nobody here knows where they end */
        family = desc.kind == LT_METRIC_COUNTER || buckets == lt_buckets_envoy.count
                     ? lt_metric_family(set, &desc)
                     : NULL;
    else if (family->desc.kind != desc.kind ||
             (desc.kind == LT_METRIC_HISTOGRAM && family->desc.buckets->count != buckets))
        family = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct saved_value saved = {0};
        uint32_t is_overflow = 0;
        LT_TRY(take(in, &is_overflow, sizeof(is_overflow)));
        for (uint32_t j = 0; j < desc.label_count; j++)
            LT_TRY(take_str(in, &values[j]));
        LT_TRY(take_value(in, desc.kind, buckets, &saved));
        if (family != NULL)
            add(family, values, is_overflow != 0, &saved);
    }
    return LT_OK;
}

lt_rc lt_metric_add_saved(struct lt_metric_set *set, lt_str bytes)
{
    uint32_t magic = 0;
    LT_TRY(take(&bytes, &magic, sizeof(magic)));
    if (magic != MAGIC)
        return LT_E_BAD;
    while (bytes.len > 0)
        LT_TRY(add_family(set, &bytes));
    return LT_OK;
}
