/*
 * base/arena.h - memory that is freed whole.
 * One owner; everything allocated from it dies with it (or at a rollback or reset).
 */
#ifndef LT_BASE_ARENA_H
#define LT_BASE_ARENA_H

#include "base/str.h"

struct lt_arena;

/* A point to roll back to. */
struct lt_arena_mark {
    void *block;
    size_t used;
    size_t total;
};

/*
 * chunk_bytes: size of the first block (0: 4 KiB); later ones double up to 256 KiB. bytes_max: a
 * ceiling on all that is ever held at once (0: none); beyond it lt_arena_try_alloc says NULL and
 * lt_arena_alloc asserts.
 */
struct lt_arena *lt_arena_new(size_t chunk_bytes, size_t bytes_max);
void lt_arena_free(struct lt_arena **arena);
/* The same for memory that held secrets: every byte is overwritten first. */
void lt_arena_wipe_free(struct lt_arena **arena);

/* Zeroed memory, aligned for any type. Use try_alloc where a stranger decides the size. */
void *lt_arena_alloc(struct lt_arena *arena, size_t size) __attribute__((returns_nonnull));
void *lt_arena_try_alloc(struct lt_arena *arena, size_t size);
/* The same without zeroing, for byte strings: alignment 1. */
char *lt_arena_bytes(struct lt_arena *arena, size_t size) __attribute__((returns_nonnull));
char *lt_arena_try_bytes(struct lt_arena *arena, size_t size);

#define lt_arena_make(arena, type) ((type *)lt_arena_alloc((arena), sizeof(type)))
#define lt_arena_make_n(arena, type, n) \
    ((type *)lt_arena_alloc((arena), lt_size_mul((n), sizeof(type))))

/* n * size; asserts that it does not wrap. */
static inline size_t lt_size_mul(size_t n, size_t size)
{
    size_t bytes = 0;
    LT_ASSERT(!__builtin_mul_overflow(n, size, &bytes));
    return bytes;
}

/* Copies with a NUL behind (not counted in len). */
lt_str lt_arena_str(struct lt_arena *arena, lt_str s);
char *lt_arena_strz(struct lt_arena *arena, lt_str s);
/* Decimal digits: what "%llu" would make, several times as fast. */
lt_str lt_arena_u64(struct lt_arena *arena, uint64_t number);
lt_str lt_arena_printf(struct lt_arena *arena, const char *fmt, ...) LT_PRINTF(2, 3);

struct lt_arena_mark lt_arena_mark(const struct lt_arena *arena);
/* Everything allocated since the mark is gone. */
void lt_arena_rollback(struct lt_arena *arena, struct lt_arena_mark mark);
/* Everything is gone; the first block is kept for use again. */
void lt_arena_reset(struct lt_arena *arena);

/* Bytes handed out, and bytes held from the heap. */
size_t lt_arena_used(const struct lt_arena *arena);
size_t lt_arena_held(const struct lt_arena *arena);

#endif
