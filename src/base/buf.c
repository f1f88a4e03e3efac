/*
 * base/buf.c - the growing byte buffer.
 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

enum { CAP_FIRST = 256 };

void lt_buf_init(struct lt_buf *buf, size_t bytes_max)
{
    LT_ASSERT(bytes_max > 0);
    *buf = (struct lt_buf){.bytes_max = bytes_max};
}

void lt_buf_fini(struct lt_buf *buf)
{
    free(buf->data);
    *buf = (struct lt_buf){.bytes_max = buf->bytes_max};
}

void lt_buf_clear(struct lt_buf *buf, size_t keep_bytes)
{
    if (buf->cap > keep_bytes)
        lt_buf_fini(buf);
    buf->start = buf->end = 0;
}

static void move_to_front(struct lt_buf *buf)
{
    size_t len = lt_buf_len(buf);
    if (len > 0)
        memmove(buf->data, buf->data + buf->start, len);
    buf->start = 0;
    buf->end = len;
}

lt_rc lt_buf_reserve(struct lt_buf *buf, size_t want, char **ret_at)
{
    size_t len = lt_buf_len(buf);
    LT_ASSERT(buf->bytes_max > 0);
    if (want > buf->bytes_max || len > buf->bytes_max - want)
        return LT_E_LIMIT;
    if (buf->cap - buf->end < want) {
        if (buf->cap >= len + want && buf->start >= len) {
            move_to_front(buf);
        } else {
            size_t cap = LT_MAX(buf->cap, (size_t)CAP_FIRST);
            while (cap < len + want)
                cap *= 2;
            if (buf->start > 0)
                move_to_front(buf);
            if (cap > buf->cap) {
                buf->data = lt_realloc(buf->data, cap);
                buf->cap = cap;
            }
        }
    }
    *ret_at = buf->data + buf->end;
    return LT_OK;
}

void lt_buf_commit(struct lt_buf *buf, size_t len)
{
    LT_ASSERT(len <= buf->cap - buf->end);
    buf->end += len;
}

void lt_buf_consume(struct lt_buf *buf, size_t len)
{
    LT_ASSERT(len <= lt_buf_len(buf));
    buf->start += len;
    if (buf->start == buf->end)
        buf->start = buf->end = 0;
}

lt_rc lt_buf_append(struct lt_buf *buf, const void *data, size_t len)
{
    if (len == 0)
        return LT_OK;
    char *at = NULL;
    LT_TRY(lt_buf_reserve(buf, len, &at));
    memcpy(at, data, len);
    buf->end += len;
    return LT_OK;
}

lt_rc lt_buf_append_str(struct lt_buf *buf, lt_str s)
{
    return lt_buf_append(buf, s.ptr, s.len);
}

lt_rc lt_buf_vprintf(struct lt_buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    LT_ASSERT(len >= 0);
    char *at = NULL;
    LT_TRY(lt_buf_reserve(buf, (size_t)len + 1, &at));
    vsnprintf(at, (size_t)len + 1, fmt, args);
    lt_buf_commit(buf, (size_t)len);
    return LT_OK;
}

lt_rc lt_buf_printf(struct lt_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = lt_buf_vprintf(buf, fmt, args);
    va_end(args);
    return rc;
}

void lt_buf_add(struct lt_buf *buf, lt_str s)
{
    lt_rc rc = lt_buf_append_str(buf, s);
    LT_ASSERT(rc == LT_OK);
}

void lt_buf_addf(struct lt_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = lt_buf_vprintf(buf, fmt, args);
    va_end(args);
    LT_ASSERT(rc == LT_OK);
}
