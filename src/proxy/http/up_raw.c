/*
 * proxy/http/up_raw.c - a try over an upstream connection that carries bytes of something else, and
 * is the request's alone: what a CONNECT that ends here asked for. Tunnels through HTTP/1 (up_h1.c)
 * read the same way.
 */
#include "proxy/http/request.h"

/* The connection stands: that is what was asked for. */
static lt_rc start(struct px_request *request)
{
    lt_buf_clear(&request->up_out, 0);
    return LT_OK;
}

static lt_rc send_up(struct px_request *request)
{
    struct px_upstream *up = request->up;
    size_t put = 0;
    if (!request->is_tunnel)
        return LT_OK;
    lt_rc rc = px_h1_write(&request->req, &request->up_out, NULL, &up->transport, &up->can_write,
                           &put);
    request->has_reached_up |= put > 0;
    if (rc == LT_OK && request->req.is_read)
        rc = lt_transport_shutdown_write(&up->transport);
    return rc == LT_OK || rc == LT_AGAIN ? rc : LT_E_IO;
}

static lt_rc next_head(struct px_request *request)
{
    lt_h1_head_init(&request->rhead, request->arena, NULL);
    request->rhead_begun = true;
    request->rhead.status = 200;
    request->rhead.minor = 1;
    request->rhead.body = LT_BODY_TUNNEL;
    return LT_OK;
}

static lt_rc read_more(struct px_request *request)
{
    struct px_upstream *up = request->up;
    if (!up->can_read)
        return LT_AGAIN;
    lt_rc rc = px_input_read(request->worker, &up->in, &up->transport, &up->can_read);
    if (rc == LT_OK || rc == LT_AGAIN || rc == LT_EOF)
        return rc;
    request->broke = PX_BROKE_TERMINATION;
    return LT_E_IO;
}

lt_rc px_up_raw_next(struct px_request *request)
{
    struct px_upstream *up = request->up;
    struct px_dir *resp = &request->resp;
    up->in.floor = 0; /* the head, if there was one, was moved away */
    if (up->in.pos == up->in.end) {
        lt_rc rc = read_more(request);
        if (rc == LT_EOF)
            resp->is_read = true;
        else if (rc != LT_OK)
            px_input_free(request->worker, &up->in); /* an idle tunnel holds no block */
        if (rc != LT_OK && rc != LT_EOF)
            return rc;
    }
    resp->piece = px_input_unread(&up->in);
    resp->piece_used = resp->piece.len;
    return LT_OK;
}

static void took(struct px_request *request)
{
    request->up->in.pos += (uint32_t)request->resp.piece_used;
    request->resp.piece_used = 0;
}

static void leave(struct px_request *request, bool is_reusable LT_UNUSED)
{
    px_upstream_release(&request->up, false);
}

const struct px_up px_up_raw = {
    .protocol = PX_PROTO_RAW,
    .start = start,
    .send = send_up,
    .next_head = next_head,
    .next = px_up_raw_next,
    .took = took,
    .leave = leave,
};
