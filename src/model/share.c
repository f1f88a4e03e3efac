/*
 * model/share.c - an arena and two tables of what is in it: strings may lie anywhere, blocks are
 * aligned, so the one can't stand for the other.
 */
#include "model/share.h"

#include <stdlib.h>

#include "base/map.h"

struct lt_share {
    unsigned refs;
    bool is_sealed;
    struct lt_arena *arena; /* owned */
    struct lt_map strings, blocks;
};

struct lt_share *lt_share_new(void)
{
    struct lt_share *share = lt_new(struct lt_share);
    share->refs = 1;
    share->arena = lt_arena_new(1024, 0);
    lt_map_init(&share->strings);
    lt_map_init(&share->blocks);
    return share;
}

struct lt_share *lt_share_ref(struct lt_share *share)
{
    LT_ASSERT(share->refs > 0);
    share->refs++;
    return share;
}

void lt_share_unref(struct lt_share **share)
{
    struct lt_share *s = *share;
    *share = NULL;
    if (s == NULL)
        return;
    LT_ASSERT(s->refs > 0);
    if (--s->refs > 0)
        return;
    lt_share_seal(s);
    lt_arena_free(&s->arena);
    free(s);
}

void lt_share_seal(struct lt_share *share)
{
    lt_map_fini(&share->strings);
    lt_map_fini(&share->blocks);
    share->is_sealed = true;
}

lt_str lt_share_str(struct lt_share *share, lt_str s)
{
    LT_ASSERT(!share->is_sealed);
    const char *known = lt_map_find(&share->strings, s);
    if (known == NULL) {
        known = lt_arena_strz(share->arena, s);
        lt_map_put(&share->strings, lt_str_make(known, s.len), (void *)known);
    }
    return lt_str_make(known, s.len);
}

const void *lt_share_block(struct lt_share *share, const void *block, size_t size)
{
    LT_ASSERT(!share->is_sealed);
    void *known = lt_map_find(&share->blocks, lt_str_make(block, size));
    if (known == NULL) {
        known = lt_arena_alloc(share->arena, size);
        if (size > 0)
            memcpy(known, block, size);
        lt_map_put(&share->blocks, lt_str_make(known, size), known);
    }
    return known;
}

void *lt_share_alloc(struct lt_share *share, size_t size)
{
    return lt_arena_alloc(share->arena, size);
}
