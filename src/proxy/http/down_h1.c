/*
 * proxy/http/down_h1.c - HTTP/1 on a downstream connection: one request after the other.
 * What happens to a request: request.c, the steps, flow.c.
 * Start at: px_h1_run().
 */
#include "http/url.h"
#include "proxy/http/request.h"
#include "proxy/run/relieve.h"
#include "proxy/run/run.h"
#include "proxy/told/codec_stats.h"

enum { REQUESTS_PER_TURN = 64 };

void px_h1_start(struct px_conn *conn)
{
    conn->limits = lt_h1_limits_default;
    conn->limits.head_bytes_max = conn->chain->hcm->max_request_headers_kb * 1024;
    conn->limits.headers_max = conn->chain->hcm->max_headers;
    lt_h1_parser_init(&conn->parser, false, &conn->limits);
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
    px_h1_run(conn);
}

/* --- between requests --- */

static void refuse(struct px_conn *conn, struct px_request *request)
{
    lt_h1_error error = conn->parser.error;
    conn->is_closing = true;
    px_request_reply(request, lt_h1_error_status(error), PX_FLAG_DOWNSTREAM_PROTOCOL,
                     lt_h1_error_details(error),
                     lt_str_of(lt_http_reason(lt_h1_error_status(error))), "text/plain");
}

/*
 * A first line that does not speak of HTTP where all versions are spoken, such as a broken preface
 * of HTTP/2: its writer could not read a response of HTTP/1 (RFC 9113 section 3.4).
 */
static bool speaks_something_else(const struct px_conn *conn)
{
    if (conn->parser.error != LT_H1_E_VERSION || conn->served != 1 ||
        conn->chain->hcm->codec != PX_CODEC_AUTO)
        return false;
    lt_str rest = px_input_unread(&conn->in), line = LT_STR_NULL;
    bool has_line = lt_str_split(&rest, '\n', &line);
    for (size_t i = 0; has_line && i + 5 <= line.len; i++) {
        if (lt_str_case_eq(lt_str_slice(line, i, i + 5), LT_STR("HTTP/")))
            return false;
    }
    return true;
}

/*
 * LT_OK: a head is there, or a refusal is on its way. LT_AGAIN: not yet. LT_E_CLOSED: the
 * connection has ended.
 */
static lt_rc read_head(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    for (;;) {
        size_t used = 0;
        lt_rc rc = lt_h1_parse_head(&conn->parser, px_input_unread(&conn->in), &request->head,
                                    &used);
        if (rc == LT_OK) {
            conn->in.pos += (uint32_t)used;
            conn->in.floor = conn->in.pos;
            request->head_block = px_input_detach(conn->worker, &conn->in, conn->in.cap / 2);
            request->req.wire_bytes = used;
            if (request->hcm->h1.name_case == LT_H1_CASE_KEPT_PROPER)
                lt_headers_mark_received(&request->head.headers);
            px_request_start(request);
            return LT_OK;
        }
        if (rc != LT_AGAIN && speaks_something_else(conn)) {
            px_hcm_count(conn->worker, request->hcm, PX_HCM_PROTOCOL_ERROR);
            return LT_E_CLOSED;
        }
        if (rc != LT_AGAIN) {
            refuse(conn, request);
            return LT_OK;
        }
        if (!conn->can_read)
            return LT_AGAIN;
        rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc == LT_E_LIMIT)
            rc = px_input_grow(conn->worker, &conn->in,
                               conn->limits.head_bytes_max + PX_BLOCK_BYTES);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc != LT_OK)
            return LT_E_CLOSED; /* a truncated head was no request: nothing to answer */
    }
}

uint64_t px_head_ms(const struct px_hcm_conf *hcm)
{
    uint64_t head_ms = hcm->request_headers_timeout_ms, idle_ms = hcm->stream_idle_timeout_ms;
    return head_ms == 0 ? idle_ms : idle_ms == 0 ? head_ms : LT_MIN(head_ms, idle_ms);
}

/* LT_OK: bytes of a request are there and conn->request stands. */
static lt_rc begin(struct px_conn *conn)
{
    if (conn->in.pos == conn->in.end) {
        if (!conn->can_read)
            return LT_AGAIN;
        lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc != LT_OK) {
            px_input_free(conn->worker, &conn->in);
            return rc == LT_AGAIN ? LT_AGAIN : LT_E_CLOSED;
        }
    }
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    conn->request = px_request_new(conn, &px_down_h1);
    lt_h1_head_init(&conn->request->head, conn->request->arena, &conn->limits);
    if (++conn->served == hcm->max_requests_per_connection)
        conn->is_draining = true;
    px_conn_set_deadline(conn, px_head_ms(hcm));
    return LT_OK;
}

/* The request is done: the connection is ready for the next, or ends. */
static void finish(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    bool is_last = conn->is_closing || !request->req.is_read || !request->head.keep_alive ||
                   request->is_tunnel;
    /* what was parsed of the body and found no taker is no part of the next request */
    conn->in.pos += (uint32_t)request->req.piece_used;
    px_request_report(request);
    px_request_leave_upstream(request, request->up_is_reusable);
    px_request_free(request);
    conn->request = NULL;
    conn->has_served = true;
    if (is_last) {
        px_conn_linger(conn);
        return;
    }
    px_input_reset(conn->worker, &conn->in);
    lt_h1_next_message(&conn->parser);
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
}

static void run_request(struct px_request *request)
{
    switch (request->state) {
    case PX_RQ_FILTER: px_filters_run(request); break;
    case PX_RQ_FLOW:
    case PX_RQ_REPLY: px_request_flow(request); break;
    case PX_RQ_HEAD:
    case PX_RQ_WAIT:
    case PX_RQ_CONNECT:
    case PX_RQ_DONE:
    case PX_RQ_GONE: break;
    }
}

/* While nothing goes up yet, only the client's end is of interest: it ends the request. */
static bool client_has_gone(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    bool waits = request->state == PX_RQ_FILTER || request->state == PX_RQ_WAIT ||
                 request->state == PX_RQ_CONNECT || request->req.is_read;
    if (!waits || !conn->can_read || request->req.piece.len > 0 || request->is_tunnel)
        return false;
    lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
    return rc != LT_OK && rc != LT_AGAIN && rc != LT_E_LIMIT;
}

void px_h1_run(struct px_conn *conn)
{
    for (int turns = 0; turns < REQUESTS_PER_TURN; turns++) {
        if (conn->request == NULL) {
            lt_rc rc = begin(conn);
            if (rc == LT_E_CLOSED)
                px_conn_close(conn);
            if (rc != LT_OK)
                return;
        }
        if (conn->request->state == PX_RQ_HEAD) {
            lt_rc rc = read_head(conn);
            if (rc == LT_E_CLOSED)
                px_conn_close(conn);
            if (rc != LT_OK || conn->state == PX_CONN_CLOSED)
                return;
        }
        run_request(conn->request);
        if (conn->state == PX_CONN_CLOSED)
            return;
        if (conn->request->state != PX_RQ_DONE) {
            if (client_has_gone(conn))
                px_conn_close(conn);
            return;
        }
        finish(conn);
        if (conn->state != PX_CONN_HTTP)
            return;
    }
    /* a client that pipelines without end gets its next turn after everybody else's */
    px_conn_yield(conn);
}

static void refuse_slow_head(struct px_request *request)
{
    const struct px_hcm_conf *hcm = request->hcm;
    bool is_idle = hcm->request_headers_timeout_ms == 0 ||
                   px_head_ms(hcm) != hcm->request_headers_timeout_ms;
    if (is_idle)
        px_request_reply(request, 408, PX_FLAG_STREAM_IDLE, "stream_idle_timeout",
                         LT_STR("stream timeout"), "text/plain");
    else
        px_request_reply(request, 408, 0, "request_header_timeout",
                         LT_STR("request header timeout"), "text/plain");
    if (!is_idle)
        px_hcm_count(request->worker, hcm, PX_HCM_HEAD_TIMEOUT);
}

void px_h1_timeout(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    if (request == NULL || request->is_tunnel || request->state == PX_RQ_REPLY) {
        if (request == NULL)
            px_hcm_count(conn->worker, conn->chain->hcm, PX_HCM_IDLE_TIMEOUT);
        px_conn_close(conn);
        return;
    }
    if (request->state == PX_RQ_HEAD)
        refuse_slow_head(request);
    else
        px_request_reply(request, request->req.is_read ? 504 : 408, PX_FLAG_STREAM_IDLE,
                         "stream_idle_timeout", LT_STR("stream timeout"), "text/plain");
    px_request_run(request);
}

void px_h1_abort(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    conn->request = NULL;
    if (request != NULL)
        px_request_bury(request);
}

/* --- the client's side of a request --- */

/* LT_OK with bytes to parse, or what reading said. */
static lt_rc read_more(struct px_conn *conn)
{
    if (!conn->can_read)
        return LT_AGAIN;
    lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
    return rc == LT_OK || rc == LT_AGAIN || rc == LT_EOF ? rc : LT_E_CLOSED;
}

/* After an upgrade: whatever comes; the client's end is the end of this direction alone. */
static lt_rc next_of_tunnel(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct px_dir *req = &request->req;
    conn->in.floor = 0; /* the head was moved away */
    if (conn->in.pos == conn->in.end) {
        lt_rc rc = read_more(conn);
        if (rc == LT_EOF)
            req->is_read = true;
        else if (rc != LT_OK)
            px_input_free(conn->worker, &conn->in); /* an idle tunnel holds no block */
        if (rc != LT_OK && rc != LT_EOF)
            return rc;
    }
    req->piece = px_input_unread(&conn->in);
    req->piece_used = req->piece.len;
    return LT_OK;
}

static lt_rc next(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct px_dir *req = &request->req;
    if (request->is_tunnel)
        return next_of_tunnel(request);
    for (;;) {
        struct lt_h1_piece piece;
        struct lt_headers trailers;
        bool wants_trailers = request->hcm->h1.enables_trailers && !req->is_raw;
        if (wants_trailers)
            lt_headers_init(&trailers, request->arena, 0, 0);
        lt_rc rc = lt_h1_parse_body(&conn->parser, px_input_unread(&conn->in), req->is_raw,
                                    wants_trailers ? &trailers : NULL, &piece);
        if (rc == LT_OK) {
            if (wants_trailers)
                px_dir_keep_trailers(req, &trailers);
            req->piece = piece.data;
            req->piece_used = piece.used;
            req->is_read = piece.is_end;
            req->wire_bytes += piece.used;
            return LT_OK;
        }
        if (rc != LT_AGAIN)
            return LT_E_BAD;
        rc = read_more(conn);
        if (rc != LT_OK)
            return rc == LT_AGAIN ? LT_AGAIN : LT_E_CLOSED;
    }
}

static void took(struct px_request *request)
{
    request->conn->in.pos += (uint32_t)request->req.piece_used;
    request->req.piece_used = 0;
}

/* How the end of the response is told to a client of this version. */
static void choose_framing(struct px_request *request, struct lt_h1_framing *framing)
{
    struct lt_http_head *head = &request->rhead;
    bool is_old = request->head.minor == 0;
    switch (head->body) {
    case LT_BODY_CHUNKED:
    case LT_BODY_CLOSE:
        if (is_old) { /* the connection's end is the only one that it can see */
            framing->body = LT_BODY_CLOSE;
            framing->connection = "close";
            request->conn->is_closing = true;
            break;
        }
        framing->body = LT_BODY_CHUNKED;
        /* what comes in chunks from HTTP/1 goes on in the same */
        request->resp.is_chunked = !request->resp.is_raw;
        break;
    case LT_BODY_NONE:
        if (head->has_content_length)
            framing->body = LT_BODY_LENGTH;
        else if (head->status == 204 || head->status == 304)
            break;
        else if (head->is_chunked)
            framing->body = LT_BODY_CHUNKED; /* of a HEAD */
        else if (request->head.method_id != LT_METHOD_HEAD)
            framing->body = LT_BODY_LENGTH; /* of HTTP/2, and our own: nothing follows */
        break;
    case LT_BODY_LENGTH:
    case LT_BODY_TUNNEL: break;
    }
}

/* What was kept of the host's spelling goes before what the client is to see. */
static lt_h1_case choose_case(const struct px_request *request)
{
    bool is_up_h1 = request->up_codec != NULL && request->up_codec->protocol == PX_PROTO_H1;
    lt_h1_case of_host = is_up_h1 ? request->cluster->conf->h1->name_case : LT_H1_CASE_LOWER;
    if (of_host >= LT_H1_CASE_KEPT)
        return of_host;
    return request->hcm->h1.name_case == LT_H1_CASE_PROPER ? LT_H1_CASE_PROPER : LT_H1_CASE_LOWER;
}

static lt_str choose_reason(const struct px_request *request)
{
    bool is_kept = request->up_codec != NULL && request->cluster->conf->h1->keeps_reason;
    return is_kept ? request->rhead.reason : LT_STR_NULL;
}

static lt_rc put_head(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct lt_http_head *head = &request->rhead;
    bool is_switch = head->body == LT_BODY_TUNNEL;
    /* Envoy: who answers before the request is complete doesn't wait for the rest */
    bool is_early = !px_request_is_read(request) && !is_switch;
    /* what was sent ahead of an upgrade that did not come about must not pass for a request */
    is_early |= !is_switch &&
                (request->head.wants_upgrade || request->head.method_id == LT_METHOD_CONNECT);
    bool closes = conn->is_closing || conn->is_draining || !request->head.keep_alive || is_early ||
                  (!px_relieve_is_calm(conn->worker) && px_relieve_ends_keep_alive(conn));
    if (conn->is_draining)
        px_conn_count_leaving(conn);
    if (closes && !is_switch)
        conn->is_closing = true;
    struct lt_h1_framing framing = {
        .body = head->body,
        .content_length = head->content_length,
        .connection = is_switch                  ? (head->status == 101 ? "upgrade" : NULL)
                      : closes                   ? "close"
                      : request->head.minor == 0 ? "keep-alive"
                                                 : NULL,
        .name_case = choose_case(request),
        .coding_name = head->coding_name,
    };
    choose_framing(request, &framing);
    return lt_h1_write_response(&request->down_out, head->status, choose_reason(request),
                                request->head.method.len > 0 ? request->head.minor : 1,
                                &head->headers, &framing);
}

static lt_rc interim(struct px_request *request, const struct lt_http_head *head)
{
    struct lt_h1_framing framing = {.body = LT_BODY_NONE};
    if (request->head.minor == 0)
        return LT_OK; /* it would take it for the response (RFC 9110 section 15.2) */
    return lt_h1_write_response(&request->down_out, head->status, LT_STR_NULL, 1, &head->headers,
                                &framing);
}

static lt_rc send_down(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    const struct lt_headers *trailers = request->hcm->h1.enables_trailers ? request->resp.trailers
                                                                          : NULL;
    size_t put = 0;
    lt_rc rc = px_h1_write(&request->resp, &request->down_out, trailers, &conn->transport,
                           &conn->can_write, &put);
    request->resp.wire_bytes += put;
    if (rc == LT_OK && request->is_tunnel && request->resp.is_read)
        rc = lt_transport_shutdown_write(&conn->transport);
    return rc == LT_OK || rc == LT_AGAIN ? rc : LT_E_CLOSED;
}

static void touch(struct px_request *request, uint64_t idle_ms)
{
    px_conn_set_deadline(request->conn, idle_ms);
}

static void abort_down(struct px_request *request)
{
    px_conn_close(request->conn);
}

static void run(struct px_request *request)
{
    if (request->worker->is_choked)
        px_conn_yield(request->conn);
    else
        px_h1_run(request->conn);
}

const struct px_down px_down_h1 = {
    .protocol = PX_PROTO_H1,
    .next = next,
    .took = took,
    .head = put_head,
    .interim = interim,
    .send = send_down,
    .touch = touch,
    .abort = abort_down,
    .run = run,
};
