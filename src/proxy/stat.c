/*
 * proxy/stat.c - counters of filters.
 */
#include "proxy/stat.h"

#include <stdlib.h>

#include "proxy/run.h"

/* What Prometheus takes for a name. */
static lt_str family_name(struct lt_arena *arena, const char *start, lt_str rest)
{
    lt_str name = lt_arena_printf(arena, "%s%.*s", start, LT_STR_ARG(rest));
    for (size_t i = 0; i < name.len; i++) {
        char *c = (char *)&name.ptr[i];
        bool is_word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                       (*c >= '0' && *c <= '9') || *c == '_' || *c == ':';
        *c = is_word ? *c : '_';
    }
    return name;
}

/* Istio ends its prefixes with ';', which ends the label's value there. */
struct px_stat px_stat_http(struct lt_arena *arena, lt_str prefix, const char *rest)
{
    bool has_mark = lt_str_ends(prefix, LT_STR(";"));
    lt_str bare = has_mark ? lt_str_slice(prefix, 0, prefix.len - 1) : prefix;
    struct px_stat stat = {
        .name = lt_arena_printf(arena, "http.%.*s.%s", LT_STR_ARG(prefix), rest),
        .family = family_name(arena, "envoy_http_", lt_str_of(rest)),
        .labels = {LT_STR("http_conn_manager_prefix")},
        .values = {lt_arena_str(arena, bare)},
        .label_count = 1,
        .pattern = lt_arena_printf(arena, "http.$0%s.%s", has_mark ? ";" : "", rest),
    };
    return stat;
}

void px_stat_tag(struct lt_arena *arena, struct px_stat *stat, lt_str label, lt_str value)
{
    ptrdiff_t at = lt_str_find(stat->pattern, value);
    LT_ASSERT(stat->label_count < PX_STAT_LABELS_MAX && at >= 0);
    lt_str before = lt_str_slice(stat->pattern, 0, (size_t)at);
    lt_str behind = lt_str_from(stat->pattern, (size_t)at + value.len);
    stat->pattern = lt_arena_printf(arena, "%.*s$%u%.*s", LT_STR_ARG(before), stat->label_count,
                                    LT_STR_ARG(behind));
    stat->labels[stat->label_count] = label;
    stat->values[stat->label_count++] = lt_arena_str(arena, value);
}

struct px_stat px_stat_plain(struct lt_arena *arena, lt_str name)
{
    lt_str copy = lt_arena_str(arena, name);
    return (struct px_stat){
        .name = copy, .family = family_name(arena, "envoy_", name), .pattern = copy};
}

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
