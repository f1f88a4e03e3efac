/*
 * proxy/compile/listed.c - the list of what a resource says and nobody here does. Paths that differ
 * in indexes alone are one line with a count; lines are bounded, and what finds no room is counted.
 * Start at: px_unhonoured().
 */
#include "proxy/compile/build.h"

#include <stdio.h>

struct px_listed_path {
    const char *first;
    uint64_t shape;
    uint64_t count; /* of different paths */
};

/* The path with every index as [*]. */
static size_t copy_shape(const char *path, char *out)
{
    size_t len = 0;
    for (const char *p = path; *p != '\0'; p++) {
        out[len++] = *p;
        if (*p != '[' || p[1] < '0' || p[1] > '9')
            continue;
        const char *end = p + 1;
        while (*end >= '0' && *end <= '9')
            end++;
        if (*end != ']')
            continue;
        out[len++] = '*';
        p = end - 1;
    }
    out[len] = '\0';
    return len;
}

static void list_path(struct px_build *build, const char *path)
{
    struct px_listed *listed = &build->listed;
    char shape_text[PX_BUILD_PATH_MAX * 2];
    uint64_t shape = lt_hash64(shape_text, copy_shape(path, shape_text), 0);
    for (size_t i = 0; i < listed->count; i++) {
        if (listed->paths[i].shape != shape)
            continue;
        listed->paths[i].count += strcmp(listed->paths[i].first, path) != 0;
        return;
    }
    if (listed->count == PX_UNHONOURED_MAX) {
        listed->unlisted++;
        return;
    }
    if (listed->paths == NULL)
        listed->paths = lt_arena_make_n(build->scratch, struct px_listed_path, PX_UNHONOURED_MAX);
    listed->paths[listed->count++] = (struct px_listed_path){
        .first = lt_arena_strz(build->scratch, lt_str_of(path)), .shape = shape, .count = 1};
}

void px_unhonoured(struct px_build *build, const char *field)
{
    char path[PX_BUILD_PATH_MAX * 2 - 1];
    const char *dot = build->path_len > 0 && field != NULL ? "." : "";
    (void)snprintf(path, sizeof(path), "%s%s%s", build->path, dot, field != NULL ? field : "");
    list_path(build, path);
}

static lt_str line_of(struct px_build *build, const struct px_listed_path *path)
{
    char shape[PX_BUILD_PATH_MAX * 2];
    if (path->count == 1)
        return lt_arena_str(build->arena, lt_str_of(path->first));
    copy_shape(path->first, shape);
    return lt_arena_printf(build->arena, "%s (%llu times)", shape, (unsigned long long)path->count);
}

const lt_str *px_listed_make(struct px_build *build, size_t *ret_count)
{
    const struct px_listed *listed = &build->listed;
    size_t count = listed->count + (listed->unlisted > 0 ? 1 : 0);
    lt_str *lines = lt_arena_make_n(build->arena, lt_str, count);
    for (size_t i = 0; i < listed->count; i++)
        lines[i] = line_of(build, &listed->paths[i]);
    if (listed->unlisted > 0)
        lines[listed->count] = lt_arena_printf(build->arena, "and %llu more",
                                               (unsigned long long)listed->unlisted);
    *ret_count = count;
    return lines;
}
