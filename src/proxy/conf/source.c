/*
 * proxy/conf/source.c - config sources, one object for all that say the same.
 */
#include "proxy/conf/source.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/vec.h"

enum { TEXT_BYTES_MAX = 64 << 20 /* a message is not longer */, FIRST_CHUNK = 512 };

struct px_sources {
    struct lt_arena *arena; /* owned; of all sources */
    struct lt_vec list;     /* of struct px_source, by id */
    struct lt_map by_text;
    bool has_no_ads;
};

void px_sources_set_ads(struct px_sources *sources, bool has_ads)
{
    sources->has_no_ads = !has_ads;
}

bool px_sources_have_ads(const struct px_sources *sources)
{
    return !sources->has_no_ads;
}

size_t px_source_count(const struct px_sources *sources)
{
    return sources->list.count;
}

static void add_pair(struct lt_buf *text, const char *key, lt_str value)
{
    if (value.len > 0)
        lt_buf_addf(text, " %s=%.*s", key, LT_STR_ARG(value));
}

static void write_text(const struct px_source *source, struct lt_buf *text)
{
    static const char *const kinds[] = {"bootstrap", "ads", "grpc", "path"};
    lt_buf_add(text, lt_str_of(kinds[source->kind]));
    add_pair(text, "cluster", source->cluster);
    add_pair(text, "authority", source->authority);
    add_pair(text, "path", source->path);
    add_pair(text, "directory", source->directory);
    for (size_t i = 0; i < source->header_count; i++)
        lt_buf_addf(text, " %.*s:%.*s", LT_STR_ARG(source->headers[i].name),
                    LT_STR_ARG(source->headers[i].value));
    if (source->kind == PX_SOURCE_GRPC)
        lt_buf_addf(text, " %s%s", source->is_sotw ? "sotw" : "delta",
                    source->says_node_always ? " node" : "");
    if (source->rate_tokens > 0)
        lt_buf_addf(text, " rate=%u/%llu", source->rate_tokens,
                    (unsigned long long)source->rate_fill_ns);
}

static const struct px_source *add(struct px_sources *sources, const struct px_source *like,
                                   lt_str text)
{
    struct lt_arena *arena = sources->arena;
    struct px_source *source = lt_arena_make(arena, struct px_source);
    struct px_source_header *headers = lt_arena_make_n(arena, struct px_source_header,
                                                       like->header_count);
    *source = *like;
    source->id = (uint16_t)sources->list.count;
    lt_str *const texts[] = {&source->cluster, &source->authority, &source->path,
                             &source->directory};
    for (size_t i = 0; i < LT_ARRAY_LEN(texts); i++)
        *texts[i] = lt_arena_str(arena, *texts[i]);
    for (size_t i = 0; i < like->header_count; i++)
        headers[i] = (struct px_source_header){lt_arena_str(arena, like->headers[i].name),
                                               lt_arena_str(arena, like->headers[i].value)};
    source->headers = headers;
    source->text = lt_arena_str(arena, text);
    lt_vec_push(&sources->list, source);
    lt_map_put(&sources->by_text, source->text, source);
    return source;
}

const struct px_source *px_source_intern(struct px_sources *sources, const struct px_source *like)
{
    struct lt_buf text;
    lt_buf_init(&text, TEXT_BYTES_MAX);
    write_text(like, &text);
    const struct px_source *source = lt_map_find(&sources->by_text, lt_buf_str(&text));
    if (source == NULL && sources->list.count < PX_SOURCES_MAX)
        source = add(sources, like, lt_buf_str(&text));
    lt_buf_fini(&text);
    return source;
}

const struct px_source *px_source_find(const struct px_sources *sources, lt_str text)
{
    return lt_map_find(&sources->by_text, text);
}

struct px_sources *px_sources_new(void)
{
    struct px_sources *sources = lt_new(struct px_sources);
    sources->arena = lt_arena_new(FIRST_CHUNK, 0);
    static const px_source_kind always[] = {PX_SOURCE_BOOTSTRAP, PX_SOURCE_ADS};
    for (size_t i = 0; i < LT_ARRAY_LEN(always); i++) {
        const struct px_source source = {.kind = always[i]};
        px_source_intern(sources, &source);
    }
    return sources;
}

void px_sources_free(struct px_sources **sources)
{
    struct px_sources *dying = *sources;
    *sources = NULL;
    if (dying == NULL)
        return;
    lt_vec_fini(&dying->list);
    lt_map_fini(&dying->by_text);
    lt_arena_free(&dying->arena);
    free(dying);
}

const struct px_source *px_source_at(const struct px_sources *sources, uint16_t id)
{
    LT_ASSERT(id < sources->list.count);
    return sources->list.items[id];
}

const struct px_source *px_source_bootstrap(const struct px_sources *sources)
{
    return px_source_at(sources, PX_SOURCE_BOOTSTRAP);
}

const struct px_source *px_source_ads(const struct px_sources *sources)
{
    return px_source_at(sources, PX_SOURCE_ADS);
}
