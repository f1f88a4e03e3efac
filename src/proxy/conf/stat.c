/*
 * proxy/conf/stat.c - names of counters.
 */
#include "proxy/conf/stat.h"

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
