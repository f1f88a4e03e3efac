/*
 * base/rope.h - bytes that several hold at once, and a queue of slices of them.
 * What is built once and sent to many (an xDS resource, a body on its way through) is a counted
 * lt_bytes; a rope strings slices of such blocks together, with small copies of its own in between,
 * and gives them to writev.
 * Start at: lt_rope_add(), lt_rope_add_bytes(), lt_rope_iov().
 */
#ifndef LT_BASE_ROPE_H
#define LT_BASE_ROPE_H

#include <sys/uio.h>

#include "base/str.h"

/*
 * Immutable while more than one holds it. The count is atomic: blocks may be shared between
 * threads.
 */
struct lt_bytes {
    const char *ptr;
    size_t len;
    uint32_t refs; /* by atomic access only */
    void (*free_fn)(
        struct lt_bytes *bytes); /* frees the block and what it is embedded in; never NULL */
};

/* A block of its own with a copy. One count, the caller's. */
struct lt_bytes *lt_bytes_new(lt_str copy_of);
/*
 * The same with room for len bytes that the caller fills at *ret_at before anybody else sees the
 * block.
 */
struct lt_bytes *lt_bytes_new_room(size_t len, char **ret_at);
/* For embedding: memory of the caller's, one count; free_fn is called when the last count goes. */
void lt_bytes_init(struct lt_bytes *bytes, lt_str memory, void (*free_fn)(struct lt_bytes *bytes));
struct lt_bytes *lt_bytes_ref(struct lt_bytes *bytes);
/* Accepts NULL inside, leaves NULL. */
void lt_bytes_unref(struct lt_bytes **bytes);

static inline lt_str lt_bytes_str(const struct lt_bytes *bytes)
{
    return (lt_str){bytes->ptr, bytes->len};
}

struct lt_rope_piece {
    struct lt_bytes *owner; /* counted */
    lt_str slice;           /* of the owner's bytes; never empty */
};

/* First in, first out. */
struct lt_rope {
    struct lt_rope_piece *pieces; /* owned; [first, first + count) are in use */
    size_t first;
    size_t count;
    size_t cap;
    size_t len;            /* bytes in all pieces */
    size_t bytes_max;      /* adding beyond it is LT_E_LIMIT */
    struct lt_bytes *tail; /* counted; the block that copies go to, or NULL */
    size_t tail_used;
};

/* No memory until the first add, little is kept when it is empty. bytes_max must be named. */
void lt_rope_init(struct lt_rope *rope, size_t bytes_max);
void lt_rope_fini(struct lt_rope *rope);

static inline size_t lt_rope_len(const struct lt_rope *rope)
{
    return rope->len;
}

/* At the end: a copy. */
LT_MUST lt_rc lt_rope_add(struct lt_rope *rope, lt_str copy_of);
/*
 * At the end: a slice of owner's bytes, which gets one count more (short slices are copied
 * instead).
 */
LT_MUST lt_rc lt_rope_add_bytes(struct lt_rope *rope, struct lt_bytes *owner, lt_str slice);
/* Moves all of `from` to the end of `to`; on LT_E_LIMIT both are as they were. */
LT_MUST lt_rc lt_rope_move(struct lt_rope *to, struct lt_rope *from);
/* Moves the first `len` bytes; asserts that there are so many. Slices are shared, not copied. */
LT_MUST lt_rc lt_rope_move_front(struct lt_rope *to, struct lt_rope *from, size_t len);
/* The first slice, borrowed until the rope is changed; empty when the rope is. */
static inline struct lt_rope_piece lt_rope_front(const struct lt_rope *rope)
{
    return rope->count == 0 ? (struct lt_rope_piece){0} : rope->pieces[rope->first];
}
/* Fills at most `max` entries from the front; returns how many. Valid until the rope is changed. */
int lt_rope_iov(const struct lt_rope *rope, struct iovec *iov, int max);
/* Drops bytes from the front. */
void lt_rope_consume(struct lt_rope *rope, size_t len);
/* Copies everything to `out`, which has room for lt_rope_len bytes. */
void lt_rope_flatten(const struct lt_rope *rope, char *out);

#endif
