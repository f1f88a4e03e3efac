/*
 * proxy/up_h1.c - a try over an HTTP/1 upstream connection, which is the request's alone.
 */
#include "proxy/request.h"
#include "proxy/run.h"

/* --- request --- */

/*
 * The client's version of HTTP and the host's may differ: an extended CONNECT (RFC 8441) goes on as
 * an upgrade.
 */
static lt_str upgrade_to(const struct px_request *request)
{
    if (!request->head.wants_upgrade)
        return LT_STR_NULL;
    return request->head.protocol.len > 0 ? request->head.protocol
                                          : lt_headers_value(&request->head.headers, LT_H_UPGRADE);
}

/*
 * Chunks may go through as they came when nobody looks at the body, and then in every try: the
 * replay holds them as they are.
 */
static bool may_go_raw(const struct px_request *request)
{
    return request->head.body == LT_BODY_CHUNKED && request->down->protocol == PX_PROTO_H1 &&
           request->cluster->conf->protocol != PX_UPSTREAM_AUTO && !request->hcm->enable_trailers &&
           !request->wants_pieces && request->mirror_count == 0 && !request->resends;
}

static void choose_framing(struct px_request *request, struct lt_h1_framing *framing)
{
    const struct lt_http_head *head = &request->head;
    framing->body = head->body;
    framing->content_length = head->content_length;
    /* "Content-Length: 0" of a POST is kept: some servers want it */
    if (head->body == LT_BODY_NONE && head->has_content_length)
        framing->body = LT_BODY_LENGTH;
    if (head->protocol.len > 0)
        framing->body = LT_BODY_NONE; /* bytes follow when the host agrees, and only then */
    if (!request->is_framing_chosen)
        request->req.is_raw = may_go_raw(request);
    request->is_framing_chosen = true;
    request->req.is_chunked = framing->body == LT_BODY_CHUNKED && !request->req.is_raw;
}

static lt_rc start(struct px_request *request)
{
    struct lt_headers *headers = &request->head.headers;
    struct lt_h1_framing framing = {.lower_case = true};
    lt_str protocol = upgrade_to(request);
    lt_str method = request->head.protocol.len > 0 ? LT_STR("GET") : request->method;
    lt_str target = request->head.method_id == LT_METHOD_CONNECT && protocol.len == 0
                        ? request->authority
                        : request->path;
    lt_buf_clear(&request->up_out, PX_BLOCK_BYTES);
    LT_TRY(lt_headers_set_id(headers, LT_H_HOST, request->authority));
    if (protocol.len > 0) {
        LT_TRY(lt_headers_set_id(headers, LT_H_UPGRADE, protocol));
        framing.connection = "upgrade";
    }
    choose_framing(request, &framing);
    lt_h1_parser_init(&request->up->parser, true, NULL);
    return lt_h1_write_request(&request->up_out, method, target, 1, headers, &framing);
}

static lt_rc send_up(struct px_request *request)
{
    struct px_upstream *up = request->up;
    size_t put = 0;
    lt_rc rc = px_h1_write(&request->req, &request->up_out, NULL, &up->transport, &up->can_write,
                           &put);
    request->has_reached_up |= put > 0;
    if (rc == LT_OK && request->is_tunnel && request->req.is_read)
        rc = lt_transport_shutdown_write(&up->transport);
    if (rc == LT_OK || rc == LT_AGAIN)
        return rc;
    /* it takes no more, but may have answered already: the response decides */
    up->can_read = true;
    request->broke = PX_BROKE_TERMINATION;
    return LT_E_IO;
}

/* --- response --- */

static lt_rc broke(struct px_request *request, px_broke how)
{
    request->broke = how;
    request->up_keeps_alive = false;
    return how == PX_BROKE_PROTOCOL ? LT_E_BAD : LT_E_IO;
}

/* LT_OK with bytes to parse; LT_AGAIN; LT_EOF. */
static lt_rc read_more(struct px_request *request)
{
    struct px_upstream *up = request->up;
    if (!up->can_read)
        return LT_AGAIN;
    lt_rc rc = px_input_read(request->worker, &up->in, &up->transport, &up->can_read);
    if (rc == LT_E_LIMIT)
        rc = request->has_rhead ? LT_E_BAD
                                : px_input_grow(request->worker, &up->in, PX_RQ_HEADS_MAX);
    if (rc == LT_OK || rc == LT_AGAIN || rc == LT_EOF)
        return rc;
    return broke(request,
                 rc == LT_E_BAD || rc == LT_E_LIMIT ? PX_BROKE_PROTOCOL : PX_BROKE_TERMINATION);
}

static lt_rc next_head(struct px_request *request)
{
    struct px_upstream *up = request->up;
    for (;;) {
        size_t used = 0;
        if (!request->rhead_begun)
            lt_h1_head_init(&request->rhead, request->arena, NULL);
        request->rhead_begun = true;
        up->parser.request_was_head = request->head.method_id == LT_METHOD_HEAD;
        up->parser.request_was_connect = request->head.method_id == LT_METHOD_CONNECT &&
                                         request->head.protocol.len == 0;
        lt_rc rc = lt_h1_parse_head(&up->parser, px_input_unread(&up->in), &request->rhead, &used);
        if (rc == LT_OK) {
            up->in.pos += (uint32_t)used;
            up->in.floor = up->in.pos;
            if (request->rhead.status < 200 && request->rhead.status != 101) {
                up->in.floor = 0; /* interim: copied out when it is forwarded */
                lt_h1_next_message(&up->parser);
            }
            request->up_keeps_alive = request->rhead.keep_alive;
            return LT_OK;
        }
        if (rc != LT_AGAIN)
            return broke(request, PX_BROKE_PROTOCOL);
        rc = read_more(request);
        if (rc == LT_EOF)
            return broke(request, PX_BROKE_TERMINATION);
        if (rc != LT_OK)
            return rc;
    }
}

static lt_rc next_of_tunnel(struct px_request *request)
{
    struct px_upstream *up = request->up;
    struct px_dir *resp = &request->resp;
    up->in.floor = 0; /* the head was moved away */
    if (up->in.pos == up->in.end) {
        lt_rc rc = read_more(request);
        if (rc == LT_EOF)
            resp->is_read = true;
        else if (rc != LT_OK)
            px_input_free(request->worker, &up->in);
        if (rc != LT_OK && rc != LT_EOF)
            return rc;
    }
    resp->piece = px_input_unread(&up->in);
    resp->piece_used = resp->piece.len;
    return LT_OK;
}

/* The connection ended: and with it the response, if that is how it ends. */
static lt_rc ended(struct px_request *request)
{
    if (lt_h1_body_eof(&request->up->parser) != LT_OK)
        return broke(request, PX_BROKE_TERMINATION);
    request->up_keeps_alive = false;
    request->resp.is_read = true;
    return LT_OK;
}

static lt_rc next(struct px_request *request)
{
    struct px_upstream *up = request->up;
    struct px_dir *resp = &request->resp;
    if (request->is_tunnel)
        return next_of_tunnel(request);
    for (;;) {
        struct lt_h1_piece piece;
        lt_rc rc = lt_h1_parse_body(&up->parser, px_input_unread(&up->in), resp->is_raw,
                                    resp->trailers, &piece);
        if (rc == LT_OK) {
            resp->piece = piece.data;
            resp->piece_used = piece.used;
            resp->is_read = piece.is_end;
            return LT_OK;
        }
        if (rc != LT_AGAIN)
            return broke(request, PX_BROKE_PROTOCOL);
        rc = read_more(request);
        if (rc == LT_EOF)
            return ended(request);
        if (rc != LT_OK)
            return rc;
    }
}

static void took(struct px_request *request)
{
    request->up->in.pos += (uint32_t)request->resp.piece_used;
    request->resp.piece_used = 0;
}

static void leave(struct px_request *request, bool is_reusable)
{
    px_upstream_release(&request->up, is_reusable && !request->is_tunnel);
}

const struct px_up px_up_h1 = {
    .protocol = PX_PROTO_H1,
    .start = start,
    .send = send_up,
    .next_head = next_head,
    .next = next,
    .took = took,
    .leave = leave,
};
