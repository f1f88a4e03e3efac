/*
 * base/buf.h - a growing byte buffer with a maximum, read from the front and written at the back.
 * Owns its bytes. Consuming moves a cursor; space in front is reclaimed when room is needed.
 */
#ifndef LT_BASE_BUF_H
#define LT_BASE_BUF_H

#include <stdarg.h>

#include "base/str.h"

struct lt_buf {
    char *data;   /* owned */
    size_t start; /* first unread byte */
    size_t end;   /* behind the last byte */
    size_t cap;
    size_t bytes_max; /* of unread bytes; writing beyond it is LT_E_LIMIT */
};

/* No memory is taken until the first write. bytes_max must be named. */
void lt_buf_init(struct lt_buf *buf, size_t bytes_max);
void lt_buf_fini(struct lt_buf *buf);
/* Empties it; keeps the memory when it is at most keep_bytes, else frees it. */
void lt_buf_clear(struct lt_buf *buf, size_t keep_bytes);

static inline size_t lt_buf_len(const struct lt_buf *buf)
{
    return buf->end - buf->start;
}

/* The unread bytes; valid until the next write. */
static inline lt_str lt_buf_str(const struct lt_buf *buf)
{
    return (lt_str){buf->data == NULL ? "" : buf->data + buf->start, buf->end - buf->start};
}

/* Makes room for `want` more bytes at the back; *ret_at is where they go. Then lt_buf_commit. */
LT_MUST lt_rc lt_buf_reserve(struct lt_buf *buf, size_t want, char **ret_at);
void lt_buf_commit(struct lt_buf *buf, size_t len);
/* Drops `len` bytes from the front. */
void lt_buf_consume(struct lt_buf *buf, size_t len);

LT_MUST lt_rc lt_buf_append(struct lt_buf *buf, const void *data, size_t len);
LT_MUST lt_rc lt_buf_append_str(struct lt_buf *buf, lt_str s);
LT_MUST lt_rc lt_buf_printf(struct lt_buf *buf, const char *fmt, ...) LT_PRINTF(2, 3);
LT_MUST lt_rc lt_buf_vprintf(struct lt_buf *buf, const char *fmt, va_list args);

/* For output of our own making that is known to fit: asserts instead of returning. */
void lt_buf_add(struct lt_buf *buf, lt_str s);
void lt_buf_addf(struct lt_buf *buf, const char *fmt, ...) LT_PRINTF(2, 3);

#endif
