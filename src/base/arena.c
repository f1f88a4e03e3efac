/*
 * base/arena.c - a list of blocks, newest first; allocation moves a cursor in the newest.
 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_DEFAULT = 4096, BLOCK_MAX = 256 * 1024, ALIGN = 16 };

struct block {
    struct block *older;
    size_t size; /* of data */
    size_t used;
    _Alignas(ALIGN) char data[];
};

struct lt_arena {
    struct block *newest; /* owned */
    size_t chunk_bytes;
    size_t bytes_max;
    size_t held;
    size_t used;
};

static struct block *add_block(struct lt_arena *arena, size_t need)
{
    size_t size = arena->newest == NULL ? arena->chunk_bytes
                                        : LT_MIN(arena->newest->size * 2, (size_t)BLOCK_MAX);
    size = LT_MAX(size, need);
    if (arena->bytes_max != 0 && arena->held + size > arena->bytes_max) {
        size = need;
        if (arena->held + size > arena->bytes_max)
            return NULL;
    }
    struct block *block = lt_malloc(sizeof(*block) + size);
    block->older = arena->newest;
    block->size = size;
    block->used = 0;
    arena->newest = block;
    arena->held += size;
    return block;
}

struct lt_arena *lt_arena_new(size_t chunk_bytes, size_t bytes_max)
{
    struct lt_arena *arena = lt_new(struct lt_arena);
    arena->chunk_bytes = chunk_bytes != 0 ? chunk_bytes : BLOCK_DEFAULT;
    arena->bytes_max = bytes_max;
    return arena;
}

static void drop_until(struct lt_arena *arena, struct block *keep)
{
    while (arena->newest != keep) {
        struct block *block = arena->newest;
        LT_ASSERT(block != NULL);
        arena->newest = block->older;
        arena->held -= block->size;
        free(block);
    }
}

/* The pointer may lie in the arena itself, so it is written first. */
void lt_arena_free(struct lt_arena **pointer)
{
    struct lt_arena *arena = *pointer;
    *pointer = NULL;
    if (arena == NULL)
        return;
    drop_until(arena, NULL);
    free(arena);
}

void lt_arena_wipe_free(struct lt_arena **pointer)
{
    struct lt_arena *arena = *pointer;
    *pointer = NULL;
    for (struct block *block = arena == NULL ? NULL : arena->newest; block != NULL;
         block = block->older)
        explicit_bzero(block->data, block->size);
    lt_arena_free(&arena);
}

static char *take(struct lt_arena *arena, size_t size, size_t align)
{
    struct block *block = arena->newest;
    size_t at = block == NULL ? 0 : (block->used + align - 1) & ~(align - 1);
    if (block == NULL || at > block->size || block->size - at < size) {
        block = add_block(arena, size);
        if (block == NULL)
            return NULL;
        at = 0;
    }
    block->used = at + size;
    arena->used += size;
    return block->data + at;
}

void *lt_arena_try_alloc(struct lt_arena *arena, size_t size)
{
    LT_ASSERT(arena != NULL);
    if (size > SIZE_MAX / 2)
        return NULL;
    char *ptr = take(arena, LT_MAX(size, (size_t)1), ALIGN);
    return ptr == NULL ? NULL : memset(ptr, 0, size);
}

void *lt_arena_alloc(struct lt_arena *arena, size_t size)
{
    void *ptr = lt_arena_try_alloc(arena, size);
    LT_ASSERT(ptr != NULL);
    return ptr;
}

char *lt_arena_try_bytes(struct lt_arena *arena, size_t size)
{
    LT_ASSERT(arena != NULL);
    return size > SIZE_MAX / 2 ? NULL : take(arena, LT_MAX(size, (size_t)1), 1);
}

char *lt_arena_bytes(struct lt_arena *arena, size_t size)
{
    char *ptr = lt_arena_try_bytes(arena, size);
    LT_ASSERT(ptr != NULL);
    return ptr;
}

lt_str lt_arena_str(struct lt_arena *arena, lt_str s)
{
    char *copy = lt_arena_bytes(arena, s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return (lt_str){copy, s.len};
}

char *lt_arena_strz(struct lt_arena *arena, lt_str s)
{
    return (char *)lt_arena_str(arena, s).ptr;
}

lt_str lt_arena_u64(struct lt_arena *arena, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return lt_arena_str(arena, lt_str_make(digits + at, sizeof(digits) - at));
}

lt_str lt_arena_printf(struct lt_arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    LT_ASSERT(len >= 0);
    char *text = lt_arena_bytes(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    return (lt_str){text, (size_t)len};
}

struct lt_arena_mark lt_arena_mark(const struct lt_arena *arena)
{
    struct block *block = arena->newest;
    return (struct lt_arena_mark){block, block == NULL ? 0 : block->used, arena->used};
}

void lt_arena_rollback(struct lt_arena *arena, struct lt_arena_mark mark)
{
    drop_until(arena, mark.block);
    if (arena->newest != NULL)
        arena->newest->used = mark.used;
    arena->used = mark.total;
}

void lt_arena_reset(struct lt_arena *arena)
{
    struct block *first = arena->newest;
    while (first != NULL && first->older != NULL)
        first = first->older;
    drop_until(arena, first);
    if (first != NULL)
        first->used = 0;
    arena->used = 0;
}

size_t lt_arena_used(const struct lt_arena *arena)
{
    return arena->used;
}

size_t lt_arena_held(const struct lt_arena *arena)
{
    return arena->held;
}
