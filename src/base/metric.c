/*
 * base/metric.c - families, series and their sums. Text forms: metric_render.c.
 * A series is one block: its value, its label values, and the key under which the family finds it.
 * Start at: lt_metric_family(), find_series().
 */
#include "base/metric.h"

#include <stdlib.h>

#include "base/metric_priv.h"

static const double envoy_bounds[] = {0.5,   1,      5,      10,      25,     50,    100,
                                      250,   500,    1000,   2500,    5000,   10000, 30000,
                                      60000, 300000, 600000, 1800000, 3600000};
const struct lt_buckets lt_buckets_envoy = {envoy_bounds, LT_ARRAY_LEN(envoy_bounds)};

/* --- sets and families --- */

struct lt_metric_set *lt_metric_set_new(uint32_t series_max)
{
    struct lt_metric_set *set = lt_new(struct lt_metric_set);
    set->series_max = series_max;
    return set;
}

static void free_family(struct lt_metric_family *family)
{
    for (size_t i = 0; i < family->series.count; i++)
        free(family->series.entries[i].value);
    lt_map_fini(&family->series);
    free(family->overflow);
    lt_arena_free(&family->arena);
}

void lt_metric_set_free(struct lt_metric_set **pointer)
{
    struct lt_metric_set *set = *pointer;
    *pointer = NULL;
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->families.count; i++)
        free_family(set->families.entries[i].value);
    lt_map_fini(&set->families);
    free(set);
}

/* A family is its name and the names of its labels: two of one name with other labels are two. */
static lt_str family_key(struct lt_arena *arena, const struct lt_metric_desc *desc)
{
    size_t len = desc->name.len;
    for (uint32_t i = 0; i < desc->label_count; i++)
        len += 1 + desc->labels[i].len;
    char *key = lt_arena_bytes(arena, len);
    memcpy(key, desc->name.ptr, desc->name.len);
    size_t at = desc->name.len;
    for (uint32_t i = 0; i < desc->label_count; i++) {
        key[at++] = '\n';
        memcpy(key + at, desc->labels[i].ptr, desc->labels[i].len);
        at += desc->labels[i].len;
    }
    return lt_str_make(key, len);
}

struct lt_metric_family *lt_metric_family(struct lt_metric_set *set,
                                          const struct lt_metric_desc *desc)
{
    LT_ASSERT(desc->label_count <= LT_METRIC_LABELS_MAX);
    struct lt_arena *arena = lt_arena_new(512, 0);
    lt_str key = family_key(arena, desc);
    struct lt_metric_family *family = lt_map_find(&set->families, key);
    if (family != NULL) {
        LT_ASSERT(family->desc.kind == desc->kind);
        lt_arena_free(&arena);
        return family;
    }
    family = lt_arena_make(arena, struct lt_metric_family);
    family->arena = arena;
    family->set = set;
    family->desc = *desc;
    family->desc.name = lt_arena_str(arena, desc->name);
    family->desc.help = lt_arena_str(arena, desc->help);
    family->desc.stat = lt_arena_str(arena, desc->stat);
    family->desc.buckets = desc->buckets != NULL ? desc->buckets : &lt_buckets_envoy;
    LT_ASSERT(family->desc.buckets->count <= LT_BUCKETS_MAX);
    lt_str *labels = lt_arena_make_n(arena, lt_str, desc->label_count);
    for (uint32_t i = 0; i < desc->label_count; i++)
        labels[i] = lt_arena_str(arena, desc->labels[i]);
    family->desc.labels = labels;
    lt_map_put(&set->families, key, family);
    return family;
}

/* --- series --- */

static size_t value_bytes(const struct lt_metric_family *family)
{
    size_t bytes = 0;
    switch (family->desc.kind) {
    case LT_METRIC_COUNTER: bytes = sizeof(struct lt_counter); break;
    case LT_METRIC_GAUGE: bytes = sizeof(struct lt_gauge); break;
    case LT_METRIC_HISTOGRAM:
        bytes = sizeof(struct lt_histogram) + (family->desc.buckets->count + 1) * sizeof(uint64_t);
        break;
    }
    return (bytes + 15) & ~(size_t)15;
}

/*
 * A label value as it is kept: cut to its maximum, and clean UTF-8 without NUL. One bad byte (a
 * stranger's Host, say) would otherwise cost the whole scrape. Writes value.len bytes at most;
 * returns how many.
 */
static size_t put_value(char *to, lt_str value)
{
    value = lt_str_slice(value, 0, LT_METRIC_VALUE_MAX);
    bool is_clean = lt_str_is_utf8(value) && lt_str_find_char(value, '\0') < 0;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        to[i] = !is_clean && (c == '\0' || (unsigned char)c >= 0x80) ? '?' : c;
    }
    return value.len;
}

/*
 * The values, a NUL behind each: text that no other values give. SIZE_MAX when room may be too
 * small.
 */
static size_t write_key(const struct lt_metric_family *family, const lt_str *values, char *out,
                        size_t room)
{
    size_t at = 0;
    for (uint32_t i = 0; i < family->desc.label_count; i++) {
        if (room - at < LT_MIN(values[i].len, (size_t)LT_METRIC_VALUE_MAX) + 1)
            return SIZE_MAX;
        at += put_value(out + at, values[i]);
        out[at++] = '\0';
    }
    return at;
}

static struct lt_metric_series *make_series(struct lt_metric_family *family, lt_str key)
{
    uint32_t count = family->desc.label_count;
    size_t head = sizeof(struct lt_metric_series) + count * sizeof(lt_str);
    head = (head + 15) & ~(size_t)15;
    struct lt_metric_series *series = lt_calloc(1, head + value_bytes(family) + key.len);
    char *text = (char *)series + head + value_bytes(family);
    if (key.len > 0)
        memcpy(text, key.ptr, key.len);
    series->value = (char *)series + head;
    series->key = lt_str_make(text, key.len);
    for (uint32_t i = 0; i < count; i++) {
        series->labels[i] = lt_str_of(text);
        text += series->labels[i].len + 1;
    }
    if (family->desc.kind == LT_METRIC_HISTOGRAM)
        ((struct lt_histogram *)series->value)->buckets = family->desc.buckets;
    return series;
}

/* Every label says "overflow". */
static struct lt_metric_series *overflow_of(struct lt_metric_family *family)
{
    if (family->overflow != NULL)
        return family->overflow;
    char key[LT_METRIC_LABELS_MAX * sizeof("overflow")];
    lt_str values[LT_METRIC_LABELS_MAX];
    for (uint32_t i = 0; i < family->desc.label_count; i++)
        values[i] = LT_STR("overflow");
    size_t len = write_key(family, values, key, sizeof(key));
    family->overflow = make_series(family, lt_str_make(key, len));
    return family->overflow;
}

static struct lt_metric_series *find_or_make(struct lt_metric_family *family, lt_str key)
{
    struct lt_metric_series *series = lt_map_find(&family->series, key);
    if (series != NULL)
        return series;
    if (family->set->series_count >= family->set->series_max) {
        family->set->overflows++;
        return overflow_of(family);
    }
    series = make_series(family, key);
    lt_map_put(&family->series, series->key, series);
    family->set->series_count++;
    return series;
}

struct key {
    char small[2048];
    char *large; /* owned; NULL while small is enough */
    size_t len;
};

static lt_str make_key(const struct lt_metric_family *family, const lt_str *values, struct key *key)
{
    key->large = NULL;
    key->len = write_key(family, values, key->small, sizeof(key->small));
    if (key->len == SIZE_MAX) {
        size_t room = (size_t)family->desc.label_count * (LT_METRIC_VALUE_MAX + 1);
        key->large = lt_malloc(room);
        key->len = write_key(family, values, key->large, room);
    }
    return lt_str_make(key->large != NULL ? key->large : key->small, key->len);
}

static void *find_series(struct lt_metric_family *family, const lt_str *values)
{
    struct key key;
    struct lt_metric_series *series = find_or_make(family, make_key(family, values, &key));
    free(key.large);
    return series->value;
}

bool lt_metric_has(const struct lt_metric_family *family, const lt_str *values)
{
    struct key key;
    bool is_there = lt_map_find(&family->series, make_key(family, values, &key)) != NULL;
    free(key.large);
    return is_there;
}

struct lt_counter *lt_metric_counter(struct lt_metric_family *family, const lt_str *values)
{
    LT_ASSERT(family->desc.kind == LT_METRIC_COUNTER);
    return find_series(family, values);
}

struct lt_gauge *lt_metric_gauge(struct lt_metric_family *family, const lt_str *values)
{
    LT_ASSERT(family->desc.kind == LT_METRIC_GAUGE);
    return find_series(family, values);
}

struct lt_histogram *lt_metric_histogram(struct lt_metric_family *family, const lt_str *values)
{
    LT_ASSERT(family->desc.kind == LT_METRIC_HISTOGRAM);
    return find_series(family, values);
}

/* --- removing, adding up --- */

static uint32_t remove_from(struct lt_metric_family *family, lt_str label, lt_str value)
{
    uint32_t removed = 0;
    for (uint32_t i = 0; i < family->desc.label_count; i++) {
        if (!lt_str_eq(family->desc.labels[i], label))
            continue;
        for (size_t j = family->series.count; j > 0; j--) {
            struct lt_metric_series *series = family->series.entries[j - 1].value;
            if (!lt_str_eq(series->labels[i], value))
                continue;
            lt_map_remove(&family->series, series->key);
            free(series);
            removed++;
        }
    }
    return removed;
}

uint32_t lt_metric_remove(struct lt_metric_set *set, lt_str label, lt_str value)
{
    uint32_t removed = 0;
    for (size_t i = 0; i < set->families.count; i++)
        removed += remove_from(set->families.entries[i].value, label, value);
    set->series_count -= removed;
    return removed;
}

static uint64_t count_of(const struct lt_metric_family *family,
                         const struct lt_metric_series *series)
{
    return family->desc.kind == LT_METRIC_HISTOGRAM
               ? ((const struct lt_histogram *)series->value)->count
               : ((const struct lt_counter *)series->value)->value;
}

static uint32_t sweep_family(struct lt_metric_family *family)
{
    uint32_t removed = 0;
    for (size_t j = family->series.count; j > 0; j--) {
        struct lt_metric_series *series = family->series.entries[j - 1].value;
        uint64_t now = count_of(family, series) + 1;
        if (series->swept != now) {
            series->swept = now;
            continue;
        }
        lt_map_remove(&family->series, series->key);
        free(series);
        removed++;
    }
    return removed;
}

uint32_t lt_metric_sweep(struct lt_metric_set *set, lt_str prefix)
{
    uint32_t removed = 0;
    for (size_t i = 0; i < set->families.count; i++) {
        struct lt_metric_family *family = set->families.entries[i].value;
        if (family->desc.kind != LT_METRIC_GAUGE && lt_str_starts(family->desc.name, prefix))
            removed += sweep_family(family);
    }
    set->series_count -= removed;
    return removed;
}

static void add_histogram(struct lt_histogram *dst, const struct lt_histogram *src)
{
    dst->sum += src->sum;
    dst->count += src->count;
    for (uint32_t i = 0; i <= src->buckets->count; i++)
        dst->counts[i] += src->counts[i];
}

static void add_value(const struct lt_metric_family *family, void *dst, const void *src)
{
    switch (family->desc.kind) {
    case LT_METRIC_COUNTER:
        ((struct lt_counter *)dst)->value += ((const struct lt_counter *)src)->value;
        break;
    case LT_METRIC_GAUGE:
        ((struct lt_gauge *)dst)->value += ((const struct lt_gauge *)src)->value;
        break;
    case LT_METRIC_HISTOGRAM: add_histogram(dst, src); break;
    }
}

static void merge_family(struct lt_metric_set *dst, const struct lt_metric_family *src)
{
    struct lt_metric_family *family = lt_metric_family(dst, &src->desc);
    for (size_t i = 0; i < src->series.count; i++) {
        const struct lt_metric_series *series = src->series.entries[i].value;
        add_value(family, find_series(family, series->labels), series->value);
    }
    if (src->overflow != NULL)
        add_value(family, overflow_of(family)->value, src->overflow->value);
}

void lt_metric_set_merge(struct lt_metric_set *dst, const struct lt_metric_set *src)
{
    for (size_t i = 0; i < src->families.count; i++)
        merge_family(dst, src->families.entries[i].value);
    dst->overflows += src->overflows;
}

static void reset_series(const struct lt_metric_family *family, struct lt_metric_series *series)
{
    if (family->desc.kind == LT_METRIC_GAUGE)
        return;
    memset(series->value, 0, value_bytes(family));
    if (family->desc.kind == LT_METRIC_HISTOGRAM)
        ((struct lt_histogram *)series->value)->buckets = family->desc.buckets;
}

void lt_metric_set_reset(struct lt_metric_set *set)
{
    for (size_t i = 0; i < set->families.count; i++) {
        struct lt_metric_family *family = set->families.entries[i].value;
        for (size_t j = 0; j < family->series.count; j++)
            reset_series(family, family->series.entries[j].value);
        if (family->overflow != NULL)
            reset_series(family, family->overflow);
    }
}

uint32_t lt_metric_set_series(const struct lt_metric_set *set)
{
    return set->series_count;
}

uint64_t lt_metric_set_overflows(const struct lt_metric_set *set)
{
    return set->overflows;
}

/* --- for metric_carry.c --- */

struct lt_metric_family *lt_metric_find_family(const struct lt_metric_set *set,
                                               const struct lt_metric_desc *desc)
{
    struct lt_arena *arena = lt_arena_new(512, 0);
    struct lt_metric_family *family = lt_map_find(&set->families, family_key(arena, desc));
    lt_arena_free(&arena);
    return family;
}

void *lt_metric_value_of(struct lt_metric_family *family, const lt_str *values, bool is_overflow)
{
    return is_overflow ? overflow_of(family)->value : find_series(family, values);
}
