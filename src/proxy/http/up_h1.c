/*
 * proxy/http/up_h1.c - a try over an HTTP/1 upstream connection, which is the request's alone.
 */
#include "proxy/http/request.h"
#include "proxy/run/run.h"

/* --- request --- */

static bool has_trailers(const struct px_request *request)
{
    return request->hcm->h1.enables_trailers && request->cluster->conf->h1->enables_trailers;
}

/*
 * Chunks may go through as they came when nobody looks at the body, and then in every try: the
 * replay holds them as they are.
 */
static bool may_go_raw(const struct px_request *request)
{
    return request->head.body == LT_BODY_CHUNKED && request->down->protocol == PX_PROTO_H1 &&
           request->cluster->conf->protocol != PX_UPSTREAM_AUTO && !has_trailers(request) &&
           !request->wants_pieces && request->mirror_count == 0 && !request->resends &&
           request->route->internal_redirects == NULL; /* the next host may speak HTTP/2 */
}

/* What was kept of the client's spelling goes before what the cluster wants. */
static lt_h1_case choose_case(const struct px_request *request)
{
    lt_h1_case of_client = request->hcm->h1.name_case;
    if (request->down->protocol == PX_PROTO_H1 && of_client >= LT_H1_CASE_KEPT)
        return of_client;
    return request->cluster->conf->h1->name_case == LT_H1_CASE_PROPER ? LT_H1_CASE_PROPER
                                                                      : LT_H1_CASE_LOWER;
}

/* "Content-Length: 0" where a body is usual: some servers want it (RFC 9110 section 8.6). */
static bool wants_length(const struct lt_http_head *head)
{
    switch (head->method_id) {
    case LT_METHOD_GET:
    case LT_METHOD_HEAD:
    case LT_METHOD_DELETE:
    case LT_METHOD_TRACE:
    case LT_METHOD_CONNECT: return false;
    default: return !head->wants_upgrade;
    }
}

static void choose_framing(struct px_request *request, struct lt_h1_framing *framing)
{
    const struct lt_http_head *head = &request->head;
    framing->name_case = choose_case(request);
    framing->coding_name = head->coding_name;
    framing->body = head->body;
    framing->content_length = head->content_length;
    if (head->body == LT_BODY_NONE && (head->has_content_length || wants_length(head)))
        framing->body = LT_BODY_LENGTH;
    if (head->method_id == LT_METHOD_CONNECT)
        framing->body = LT_BODY_NONE; /* bytes follow when the host agrees, and only then */
    if (!request->is_framing_chosen)
        request->req.is_raw = may_go_raw(request);
    request->is_framing_chosen = true;
    request->req.is_chunked = framing->body == LT_BODY_CHUNKED && !request->req.is_raw;
}

static lt_str choose_target(struct px_request *request)
{
    if (request->head.method_id == LT_METHOD_CONNECT)
        return request->authority;
    if (!request->cluster->conf->h1->sends_full_url)
        return request->path;
    return lt_arena_printf(request->arena, "%.*s://%.*s%.*s", LT_STR_ARG(request->scheme),
                           LT_STR_ARG(request->authority), LT_STR_ARG(request->path));
}

static lt_rc start(struct px_request *request)
{
    struct lt_headers *headers = &request->head.headers;
    struct lt_h1_framing framing = {0};
    lt_buf_clear(&request->up_out, PX_BLOCK_BYTES);
    LT_TRY(lt_headers_set_id(headers, LT_H_HOST, request->authority));
    if (request->head.wants_upgrade)
        framing.connection = "upgrade";
    choose_framing(request, &framing);
    lt_h1_parser_init(&request->up->parser, true, &request->cluster->conf->response->h1);
    return lt_h1_write_request(&request->up_out, request->method, choose_target(request), 1,
                               headers, &framing);
}

static lt_rc send_up(struct px_request *request)
{
    struct px_upstream *up = request->up;
    size_t put = 0;
    const struct lt_headers *trailers = has_trailers(request) ? request->req.trailers : NULL;
    lt_rc rc = px_h1_write(&request->req, &request->up_out, trailers, &up->transport,
                           &up->can_write, &put);
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

static size_t head_room(const struct px_request *request)
{
    return request->cluster->conf->response->h1.head_bytes_max + PX_BLOCK_BYTES;
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
                                : px_input_grow(request->worker, &up->in, head_room(request));
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
            lt_h1_head_init(&request->rhead, request->arena, &request->cluster->conf->response->h1);
        request->rhead_begun = true;
        up->parser.request_was_head = request->head.method_id == LT_METHOD_HEAD;
        up->parser.request_was_connect = request->head.method_id == LT_METHOD_CONNECT;
        lt_rc rc = lt_h1_parse_head(&up->parser, px_input_unread(&up->in), &request->rhead, &used);
        if (rc == LT_OK) {
            up->in.pos += (uint32_t)used;
            up->in.floor = up->in.pos;
            if (request->rhead.status < 200 && request->rhead.status != 101) {
                up->in.floor = 0; /* interim: copied out when it is forwarded */
                lt_h1_next_message(&up->parser);
            }
            request->up_keeps_alive = request->rhead.keep_alive;
            if (request->cluster->conf->h1->name_case == LT_H1_CASE_KEPT_PROPER)
                lt_headers_mark_received(&request->rhead.headers);
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
        return px_up_raw_next(request);
    for (;;) {
        struct lt_h1_piece piece;
        struct lt_headers trailers;
        bool wants_trailers = request->cluster->conf->h1->enables_trailers && !resp->is_raw;
        if (wants_trailers)
            lt_headers_init(&trailers, request->arena, 0, 0);
        lt_rc rc = lt_h1_parse_body(&up->parser, px_input_unread(&up->in), resp->is_raw,
                                    wants_trailers ? &trailers : NULL, &piece);
        if (rc == LT_OK) {
            if (wants_trailers)
                px_dir_keep_trailers(resp, &trailers);
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
