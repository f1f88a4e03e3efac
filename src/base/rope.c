/*
 * base/rope.c - counted blocks, and the queue of slices.
 */
#include "base/rope.h"

#include <stdlib.h>

enum {
    /* room for copies between shared slices, with its head: what malloc has at hand, then a page */
    TAIL_SMALL = 512 - sizeof(struct lt_bytes),
    TAIL_MEDIUM = 1024 - sizeof(struct lt_bytes),
    TAIL_BYTES = 4096 - sizeof(struct lt_bytes),
    COPY_BELOW = 256, /* a shorter slice costs less to copy than to count and to gather */
    PIECES_FIRST = 8,
    PIECES_KEPT = 64, /* by an empty rope */
};

static void free_whole(struct lt_bytes *bytes)
{
    free(bytes);
}

void lt_bytes_init(struct lt_bytes *bytes, lt_str memory, void (*free_fn)(struct lt_bytes *bytes))
{
    LT_ASSERT(free_fn != NULL);
    *bytes = (struct lt_bytes){.ptr = memory.ptr, .len = memory.len, .refs = 1, .free_fn = free_fn};
}

struct lt_bytes *lt_bytes_new_room(size_t len, char **ret_at)
{
    LT_ASSERT(len <= SIZE_MAX - sizeof(struct lt_bytes));
    struct lt_bytes *bytes = lt_malloc(sizeof(*bytes) + len);
    char *at = (char *)(bytes + 1);
    lt_bytes_init(bytes, lt_str_make(at, len), free_whole);
    *ret_at = at;
    return bytes;
}

struct lt_bytes *lt_bytes_new(lt_str copy_of)
{
    char *at = NULL;
    struct lt_bytes *bytes = lt_bytes_new_room(copy_of.len, &at);
    if (copy_of.len > 0)
        memcpy(at, copy_of.ptr, copy_of.len);
    return bytes;
}

struct lt_bytes *lt_bytes_ref(struct lt_bytes *bytes)
{
    uint32_t before = __atomic_fetch_add(&bytes->refs, 1, __ATOMIC_RELAXED);
    LT_ASSERT(before > 0 && before < UINT32_MAX);
    return bytes;
}

void lt_bytes_unref(struct lt_bytes **bytes)
{
    struct lt_bytes *gone = *bytes;
    if (gone == NULL)
        return;
    *bytes = NULL;
    uint32_t before = __atomic_fetch_sub(&gone->refs, 1, __ATOMIC_ACQ_REL);
    LT_ASSERT(before > 0);
    if (before == 1)
        gone->free_fn(gone);
}

void lt_rope_init(struct lt_rope *rope, size_t bytes_max)
{
    LT_ASSERT(bytes_max > 0);
    *rope = (struct lt_rope){.bytes_max = bytes_max};
}

void lt_rope_fini(struct lt_rope *rope)
{
    for (size_t i = 0; i < rope->count; i++)
        lt_bytes_unref(&rope->pieces[rope->first + i].owner);
    lt_bytes_unref(&rope->tail);
    free(rope->pieces);
    *rope = (struct lt_rope){.bytes_max = rope->bytes_max};
}

static struct lt_rope_piece *last_piece(const struct lt_rope *rope)
{
    return rope->count == 0 ? NULL : &rope->pieces[rope->first + rope->count - 1];
}

/* Takes the caller's count of owner. */
static void push(struct lt_rope *rope, struct lt_bytes *owner, lt_str slice)
{
    if (rope->first + rope->count == rope->cap) {
        if (rope->first > rope->cap / 2) {
            memmove(rope->pieces, rope->pieces + rope->first, rope->count * sizeof(*rope->pieces));
            rope->first = 0;
        } else {
            rope->cap = rope->cap == 0 ? PIECES_FIRST : rope->cap * 2;
            rope->pieces = lt_realloc(rope->pieces, rope->cap * sizeof(*rope->pieces));
        }
    }
    rope->pieces[rope->first + rope->count++] = (struct lt_rope_piece){owner, slice};
    rope->len += slice.len;
}

static bool fits(const struct lt_rope *rope, size_t len)
{
    return len <= rope->bytes_max && rope->len <= rope->bytes_max - len;
}

static void *tail_at(const struct lt_rope *rope)
{
    return (char *)(rope->tail + 1) + rope->tail_used;
}

/* Many ropes hold a few bytes once in a while: a page is for those that hold more. */
static size_t tail_room(const struct lt_rope *rope, size_t len)
{
    if (rope->count > 0 || len > TAIL_MEDIUM)
        return TAIL_BYTES;
    return len > TAIL_SMALL ? TAIL_MEDIUM : TAIL_SMALL;
}

/* Copies what the tail block still holds; returns how much that was. */
static size_t copy_to_tail(struct lt_rope *rope, lt_str s)
{
    if (rope->tail != NULL && rope->tail_used == rope->tail->len)
        lt_bytes_unref(&rope->tail);
    if (rope->tail == NULL) {
        char *at = NULL;
        rope->tail = lt_bytes_new_room(tail_room(rope, s.len), &at);
        rope->tail_used = 0;
    }
    char *at = tail_at(rope);
    size_t len = LT_MIN(s.len, rope->tail->len - rope->tail_used);
    memcpy(at, s.ptr, len);
    rope->tail_used += len;
    struct lt_rope_piece *last = last_piece(rope);
    if (last != NULL && last->owner == rope->tail && last->slice.ptr + last->slice.len == at) {
        last->slice.len += len;
        rope->len += len;
    } else {
        push(rope, lt_bytes_ref(rope->tail), lt_str_make(at, len));
    }
    return len;
}

lt_rc lt_rope_add(struct lt_rope *rope, lt_str copy_of)
{
    if (!fits(rope, copy_of.len))
        return LT_E_LIMIT;
    if (copy_of.len > TAIL_BYTES) {
        struct lt_bytes *owner = lt_bytes_new(copy_of);
        push(rope, owner, lt_bytes_str(owner));
        return LT_OK;
    }
    while (copy_of.len > 0)
        copy_of = lt_str_from(copy_of, copy_to_tail(rope, copy_of));
    return LT_OK;
}

lt_rc lt_rope_add_bytes(struct lt_rope *rope, struct lt_bytes *owner, lt_str slice)
{
    LT_ASSERT(slice.len == 0 ||
              (slice.ptr >= owner->ptr && slice.ptr + slice.len <= owner->ptr + owner->len));
    if (slice.len < COPY_BELOW)
        return lt_rope_add(rope, slice);
    if (!fits(rope, slice.len))
        return LT_E_LIMIT;
    push(rope, lt_bytes_ref(owner), slice);
    return LT_OK;
}

lt_rc lt_rope_move(struct lt_rope *to, struct lt_rope *from)
{
    return lt_rope_move_front(to, from, from->len);
}

lt_rc lt_rope_move_front(struct lt_rope *to, struct lt_rope *from, size_t len)
{
    LT_ASSERT(len <= from->len);
    if (!fits(to, len))
        return LT_E_LIMIT;
    while (len > 0) {
        struct lt_rope_piece *piece = &from->pieces[from->first];
        lt_str head = lt_str_slice(piece->slice, 0, len);
        push(to, lt_bytes_ref(piece->owner), head);
        len -= head.len;
        lt_rope_consume(from, head.len);
    }
    return LT_OK;
}

int lt_rope_iov(const struct lt_rope *rope, struct iovec *iov, int max)
{
    int count = (int)LT_MIN(rope->count, (size_t)max);
    for (int i = 0; i < count; i++) {
        lt_str slice = rope->pieces[rope->first + (size_t)i].slice;
        iov[i] = (struct iovec){.iov_base = (void *)slice.ptr, .iov_len = slice.len};
    }
    return count;
}

/* An empty rope may stay so for long: a stream that waits for its peer. */
static void let_go(struct lt_rope *rope)
{
    rope->first = 0;
    lt_bytes_unref(&rope->tail);
    if (rope->cap <= PIECES_KEPT)
        return;
    free(rope->pieces);
    rope->pieces = NULL;
    rope->cap = 0;
}

void lt_rope_consume(struct lt_rope *rope, size_t len)
{
    LT_ASSERT(len <= rope->len);
    rope->len -= len;
    while (len > 0) {
        struct lt_rope_piece *piece = &rope->pieces[rope->first];
        if (len < piece->slice.len) {
            piece->slice = lt_str_from(piece->slice, len);
            return;
        }
        len -= piece->slice.len;
        lt_bytes_unref(&piece->owner);
        rope->first++;
        rope->count--;
    }
    if (rope->count == 0)
        let_go(rope);
}

void lt_rope_flatten(const struct lt_rope *rope, char *out)
{
    for (size_t i = 0; i < rope->count; i++) {
        lt_str slice = rope->pieces[rope->first + i].slice;
        memcpy(out, slice.ptr, slice.len);
        out += slice.len;
    }
}
