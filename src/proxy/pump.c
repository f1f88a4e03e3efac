/*
 * proxy/pump.c - bytes from one transport to another, unread by us: raw TCP and tunnels.
 */
#include "proxy/run.h"

enum { TURNS_MAX = 64 };

static lt_rc write_out(const struct px_side *side)
{
    while (side->in->pos < side->in->end) {
        lt_str unread = px_input_unread(side->in);
        struct iovec iov = {(void *)unread.ptr, unread.len};
        size_t put = 0;
        if (!*side->can_write)
            return LT_AGAIN;
        lt_rc rc = lt_transport_writev(side->to, &iov, 1, &put);
        if (rc == LT_AGAIN)
            *side->can_write = false;
        if (rc != LT_OK)
            return rc;
        side->in->pos += (uint32_t)put;
        *side->count += put;
    }
    return LT_OK;
}

lt_rc px_pump(struct px_worker *worker, const struct px_side *side)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        lt_rc rc = write_out(side);
        if (rc != LT_OK)
            return rc;
        if (*side->ended) {
            if (!*side->end_sent && lt_transport_shutdown_write(side->to) == LT_AGAIN)
                return LT_AGAIN;
            *side->end_sent = true;
            return LT_EOF;
        }
        rc = *side->can_read ? px_input_read(worker, side->in, side->from, side->can_read)
                             : LT_AGAIN;
        if (rc == LT_AGAIN) {
            if (side->in->pos == side->in->end)
                px_input_free(worker, side->in); /* an idle connection holds no block */
            return LT_AGAIN;
        }
        if (rc == LT_EOF)
            *side->ended = true;
        else if (rc != LT_OK)
            return rc;
    }
    return LT_OK;
}
