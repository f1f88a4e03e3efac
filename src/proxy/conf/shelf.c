/*
 * proxy/conf/shelf.c - versions of a table that share chunks; an index that is shared whole.
 */
#include "proxy/conf/shelf.h"

#include <stdlib.h>

struct px_chunk {
    uint32_t refs;
    uint32_t used; /* entries that are there */
    _Alignas(16) char entries[];
};

void px_shelf_init(struct px_shelf *shelf, const struct px_shelf_kind *kind)
{
    *shelf = (struct px_shelf){.kind = kind};
}

/* --- chunks --- */

static void *entry_of(const struct px_shelf_kind *kind, const struct px_chunk *chunk, uint32_t at)
{
    return (char *)chunk->entries + at * kind->entry_size;
}

static bool is_there(const void *entry)
{
    const void *first;
    memcpy(&first, entry, sizeof(first));
    return first != NULL;
}

static size_t chunk_size(const struct px_shelf_kind *kind)
{
    return sizeof(struct px_chunk) + PX_SHELF_CHUNK * kind->entry_size;
}

static void drop_chunk(const struct px_shelf_kind *kind, struct px_chunk *chunk)
{
    if (chunk == NULL || --chunk->refs > 0)
        return;
    for (uint32_t i = 0; i < PX_SHELF_CHUNK; i++) {
        if (is_there(entry_of(kind, chunk, i)))
            kind->drop(entry_of(kind, chunk, i));
    }
    free(chunk);
}

static struct px_chunk *copy_chunk(const struct px_shelf_kind *kind, const struct px_chunk *chunk)
{
    struct px_chunk *copy = lt_malloc(chunk_size(kind));
    memcpy(copy, chunk, chunk_size(kind));
    copy->refs = 1;
    for (uint32_t i = 0; i < PX_SHELF_CHUNK; i++) {
        if (is_there(entry_of(kind, copy, i)))
            kind->hold(entry_of(kind, copy, i));
    }
    return copy;
}

/* The slot's chunk, for this version alone. */
static struct px_chunk *own_chunk(struct px_shelf *shelf, uint32_t slot)
{
    uint32_t at = slot / PX_SHELF_CHUNK;
    if (at >= shelf->chunk_count) {
        shelf->chunks = lt_realloc(shelf->chunks, (at + 1) * sizeof(struct px_chunk *));
        for (uint32_t i = shelf->chunk_count; i <= at; i++)
            shelf->chunks[i] = NULL;
        shelf->chunk_count = at + 1;
    }
    struct px_chunk **chunk = &shelf->chunks[at];
    if (*chunk == NULL) {
        *chunk = lt_calloc(1, chunk_size(shelf->kind));
        (*chunk)->refs = 1;
    } else if ((*chunk)->refs > 1) {
        struct px_chunk *copy = copy_chunk(shelf->kind, *chunk);
        drop_chunk(shelf->kind, *chunk);
        *chunk = copy;
    }
    return *chunk;
}

/* --- versions --- */

struct px_shelf px_shelf_share(const struct px_shelf *shelf)
{
    struct px_shelf shared = *shelf;
    size_t bytes = shelf->chunk_count * sizeof(struct px_chunk *);
    shared.chunks = bytes == 0 ? NULL : memcpy(lt_malloc(bytes), shelf->chunks, bytes);
    for (uint32_t i = 0; i < shared.chunk_count; i++) {
        if (shared.chunks[i] != NULL)
            shared.chunks[i]->refs++;
    }
    return shared;
}

void px_shelf_fini(struct px_shelf *shelf)
{
    for (uint32_t i = 0; i < shelf->chunk_count; i++)
        drop_chunk(shelf->kind, shelf->chunks[i]);
    free(shelf->chunks);
    px_shelf_init(shelf, shelf->kind);
}

void px_shelf_put(struct px_shelf *shelf, uint32_t slot, const void *entry)
{
    struct px_chunk *chunk = own_chunk(shelf, slot);
    void *at = entry_of(shelf->kind, chunk, slot % PX_SHELF_CHUNK);
    LT_ASSERT(is_there(entry));
    shelf->kind->hold((void *)entry);
    if (is_there(at))
        shelf->kind->drop(at);
    else
        chunk->used++;
    memcpy(at, entry, shelf->kind->entry_size);
}

void px_shelf_clear(struct px_shelf *shelf, uint32_t slot)
{
    if (px_shelf_at(shelf, slot) == NULL)
        return;
    struct px_chunk *chunk = own_chunk(shelf, slot);
    void *at = entry_of(shelf->kind, chunk, slot % PX_SHELF_CHUNK);
    shelf->kind->drop(at);
    memset(at, 0, shelf->kind->entry_size);
    if (--chunk->used > 0)
        return;
    drop_chunk(shelf->kind, chunk);
    shelf->chunks[slot / PX_SHELF_CHUNK] = NULL;
}

const void *px_shelf_at(const struct px_shelf *shelf, uint32_t slot)
{
    uint32_t at = slot / PX_SHELF_CHUNK;
    if (at >= shelf->chunk_count || shelf->chunks[at] == NULL)
        return NULL;
    const void *entry = entry_of(shelf->kind, shelf->chunks[at], slot % PX_SHELF_CHUNK);
    return is_there(entry) ? entry : NULL;
}

/* --- walking --- */

static const void *entry_or_null(const struct px_shelf_kind *kind, const struct px_chunk *chunk,
                                 uint32_t at)
{
    const void *entry = chunk == NULL ? NULL : entry_of(kind, chunk, at);
    return entry != NULL && is_there(entry) ? entry : NULL;
}

static void diff_chunk(const struct px_shelf_kind *kind, const struct px_chunk *before,
                       const struct px_chunk *after, px_shelf_diff_fn *visit, void *ctx)
{
    for (uint32_t i = 0; i < PX_SHELF_CHUNK; i++) {
        const void *a = entry_or_null(kind, before, i), *b = entry_or_null(kind, after, i);
        bool is_same = a == b || (a != NULL && b != NULL && memcmp(a, b, kind->entry_size) == 0);
        if (!is_same)
            visit(ctx, a, b);
    }
}

void px_shelf_diff(const struct px_shelf *before, const struct px_shelf *after,
                   px_shelf_diff_fn *visit, void *ctx)
{
    uint32_t before_count = before == NULL ? 0 : before->chunk_count;
    for (uint32_t i = 0; i < LT_MAX(before_count, after->chunk_count); i++) {
        const struct px_chunk *a = i < before_count ? before->chunks[i] : NULL;
        const struct px_chunk *b = i < after->chunk_count ? after->chunks[i] : NULL;
        if (a != b)
            diff_chunk(after->kind, a, b, visit, ctx);
    }
}

void px_shelf_each(const struct px_shelf *shelf, px_shelf_each_fn *visit, void *ctx)
{
    for (uint32_t i = 0; i < shelf->chunk_count; i++) {
        for (uint32_t j = 0; j < PX_SHELF_CHUNK && shelf->chunks[i] != NULL; j++) {
            const void *entry = entry_or_null(shelf->kind, shelf->chunks[i], j);
            if (entry != NULL)
                visit(ctx, entry);
        }
    }
}

/* --- the index --- */

enum { INDEX_FIRST = 16 };

static struct px_index *make_index(uint32_t cap)
{
    struct px_index *index = lt_calloc(1, sizeof(*index) + cap * sizeof(struct px_index_cell));
    index->refs = 1;
    index->cap = cap;
    return index;
}

struct px_index *px_index_new(void)
{
    return make_index(INDEX_FIRST);
}

struct px_index *px_index_ref(struct px_index *index)
{
    index->refs++;
    return index;
}

void px_index_unref(struct px_index **pointer)
{
    struct px_index *index = *pointer;
    *pointer = NULL;
    if (index != NULL && --index->refs == 0)
        free(index);
}

static void place(struct px_index *index, struct px_index_cell cell)
{
    uint32_t at = cell.hash & (index->cap - 1);
    while (index->cells[at].slot != 0)
        at = (at + 1) & (index->cap - 1);
    index->cells[at] = cell;
    index->count++;
}

/* At most two cells of three are used, so that a search ends soon. */
static struct px_index *own_index(struct px_index **pointer, uint32_t extra)
{
    struct px_index *index = *pointer;
    uint32_t cap = index->cap;
    while (index->count + extra > cap / 3 * 2)
        cap *= 2;
    if (index->refs == 1 && cap == index->cap)
        return index;
    struct px_index *copy = make_index(cap);
    for (uint32_t i = 0; i < index->cap; i++) {
        if (index->cells[i].slot != 0)
            place(copy, index->cells[i]);
    }
    px_index_unref(pointer);
    *pointer = copy;
    return copy;
}

void px_index_put(struct px_index **index, lt_str name, uint32_t slot)
{
    const struct px_index_cell cell = {(uint32_t)lt_str_hash(name), slot + 1};
    place(own_index(index, 1), cell);
}

/*
 * Linear probing without tombstones: what stands behind the gap and wants to be earlier moves up.
 */
static void close_gap(struct px_index *index, uint32_t gap)
{
    uint32_t mask = index->cap - 1;
    for (uint32_t at = (gap + 1) & mask; index->cells[at].slot != 0; at = (at + 1) & mask) {
        uint32_t home = index->cells[at].hash & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            index->cells[gap] = index->cells[at];
            gap = at;
        }
    }
    index->cells[gap] = (struct px_index_cell){0, 0};
}

void px_index_remove(struct px_index **pointer, lt_str name, uint32_t slot)
{
    struct px_index *index = own_index(pointer, 0);
    uint32_t hash = (uint32_t)lt_str_hash(name), at = hash & (index->cap - 1);
    while (index->cells[at].slot != slot + 1) {
        LT_ASSERT(index->cells[at].slot != 0);
        at = (at + 1) & (index->cap - 1);
    }
    index->count--;
    close_gap(index, at);
}
