/*
 * proxy/http/h1_out.c - what both sides write in HTTP/1: a head or framing of our own, then a piece
 * of body as it was read, in one write.
 */
#include "proxy/http/request.h"

/* A piece that needs framing of its own is copied; what came framed passes as it is. */
static lt_rc frame(struct px_dir *dir, struct lt_buf *out, const struct lt_headers *trailers)
{
    if (!dir->is_chunked || dir->is_framed)
        return LT_OK;
    if (dir->piece.len > 0) {
        LT_TRY(lt_h1_write_chunk(out, dir->piece));
        dir->piece = LT_STR_NULL;
    }
    if (dir->is_read) {
        LT_TRY(lt_h1_write_last_chunk(out, trailers));
        dir->is_framed = true;
    }
    return LT_OK;
}

static void advance(struct px_dir *dir, struct lt_buf *out, size_t put)
{
    size_t part = LT_MIN(put, lt_buf_len(out));
    lt_buf_consume(out, part);
    dir->piece = lt_str_from(dir->piece, put - part);
}

lt_rc px_h1_write(struct px_dir *dir, struct lt_buf *out, const struct lt_headers *trailers,
                  struct lt_transport *transport, bool *can_write, size_t *ret_put)
{
    *ret_put = 0;
    LT_TRY(frame(dir, out, trailers));
    for (;;) {
        lt_str head = lt_buf_str(out);
        if (head.len + dir->piece.len == 0)
            return LT_OK;
        if (!*can_write)
            return LT_AGAIN;
        struct iovec iov[2] = {{(void *)head.ptr, head.len},
                               {(void *)dir->piece.ptr, dir->piece.len}};
        int first = head.len == 0 ? 1 : 0;
        size_t put = 0;
        lt_rc rc = lt_transport_writev(transport, iov + first, (dir->piece.len > 0 ? 2 : 1) - first,
                                       &put);
        if (rc == LT_AGAIN)
            *can_write = false;
        if (rc != LT_OK)
            return rc;
        *ret_put += put;
        advance(dir, out, put);
    }
}
