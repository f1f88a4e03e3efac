/*
 * proxy/flow.c - a request over its two connections: body up, response down. Bodies are not copied:
 * what was read from one side is written to the other from the same block, and nothing is read
 * while something waits to be written.
 * Start at: px_request_flow().
 */
#include "proxy/request.h"
#include "proxy/run.h"

enum { STEPS_PER_TURN = 64 };

/* --- up: request --- */

static void wrote(struct lt_buf *out, size_t *put)
{
    size_t part = LT_MIN(*put, lt_buf_len(out));
    lt_buf_consume(out, part);
    *put -= part;
}

/* LT_OK: nothing waits any more. */
static lt_rc flush_up(struct px_request *request)
{
    struct px_upstream *up = request->up;
    struct px_conn *conn = request->conn;
    for (;;) {
        lt_str head = lt_buf_str(&request->up_out);
        lt_str again = request->resends
                           ? lt_str_from(lt_buf_str(&request->replay), request->replayed)
                           : LT_STR_NULL;
        lt_str piece = request->up_piece;
        if (head.len + again.len + piece.len == 0)
            break;
        if (!up->can_write)
            return LT_AGAIN;
        struct iovec iov[3];
        int count = 0;
        const lt_str parts[] = {head, again, piece};
        for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++) {
            if (parts[i].len > 0)
                iov[count++] = (struct iovec){(void *)parts[i].ptr, parts[i].len};
        }
        size_t put = 0;
        lt_rc rc = lt_transport_writev(&up->transport, iov, count, &put);
        if (rc == LT_AGAIN)
            up->can_write = false;
        if (rc != LT_OK)
            return rc;
        request->has_reached_up = true;
        wrote(&request->up_out, &put);
        size_t part = LT_MIN(put, again.len);
        request->replayed += part;
        request->up_piece = lt_str_from(request->up_piece, put - part);
    }
    if (request->up_piece_used > 0) {
        conn->in.pos += (uint32_t)request->up_piece_used;
        request->up_piece_used = 0;
    }
    request->up_piece = LT_STR_NULL;
    return LT_OK;
}

/* What a retry would have to send again. */
static void remember(struct px_request *request, lt_str data)
{
    if (request->route->retry == NULL || !request->replay_is_whole || data.len == 0)
        return;
    request->replayed += data.len; /* it goes out in this try as a piece */
    if (lt_buf_append_str(&request->replay, data) != LT_OK) {
        request->replay_is_whole = false;
        request->resends = false;
        lt_buf_clear(&request->replay, 0);
    }
}

static void request_is_parsed(struct px_request *request)
{
    request->is_parsed = true;
    request->request_end_ns = px_now_ns(request->worker);
    /* Envoy's route timeout runs from the end of the request */
    if (request->route->timeout_ms != 0)
        lt_loop_timer_set(request->worker->loop, &request->timer,
                          request->route->timeout_ms * LT_NS_PER_MS);
}

/*
 * LT_OK: a piece is ready. LT_AGAIN: more input is needed. LT_E_BAD: the client broke the framing.
 */
static lt_rc next_up_piece(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct lt_h1_piece piece;
    LT_TRY(lt_h1_parse_body(&conn->parser, px_input_unread(&conn->in), request->sends_raw, NULL,
                            &piece));
    request->up_piece = piece.data;
    request->up_piece_used = piece.used;
    request->bytes_received += piece.data.len;
    request->wire_received += piece.used;
    remember(request, piece.data);
    if (piece.is_end)
        request_is_parsed(request);
    return LT_OK;
}

/*
 * LT_EOF: the whole request is out. LT_AGAIN: wait. LT_E_CLOSED: the client has gone. Others: what
 * is said of the upstream.
 */
static lt_rc pump_up(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    /* the first piece goes out with the head; not ahead of what a retry must send again */
    bool is_first = lt_buf_len(&request->up_out) > 0 && !request->is_parsed &&
                    request->up_piece_used == 0 && !request->resends;
    if (is_first) {
        lt_rc rc = next_up_piece(request);
        if (rc != LT_OK && rc != LT_AGAIN)
            return LT_E_BAD;
    }
    for (int step = 0; step < STEPS_PER_TURN; step++) {
        lt_rc rc = flush_up(request);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc != LT_OK)
            return LT_E_IO;
        if (request->is_parsed) {
            request->is_sent = true;
            return LT_EOF;
        }
        rc = next_up_piece(request);
        if (rc == LT_OK)
            continue;
        if (rc != LT_AGAIN)
            return LT_E_BAD;
        if (!conn->can_read)
            return LT_AGAIN;
        rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc != LT_OK)
            return LT_E_CLOSED;
    }
    px_conn_yield(conn);
    return LT_AGAIN;
}

/* --- down: response --- */

static lt_rc flush_down(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    for (;;) {
        lt_str head = lt_buf_str(&request->down_out);
        lt_str piece = request->down_piece;
        if (head.len + piece.len == 0)
            break;
        if (!conn->can_write)
            return LT_AGAIN;
        struct iovec iov[2] = {{(void *)head.ptr, head.len}, {(void *)piece.ptr, piece.len}};
        int first = head.len == 0 ? 1 : 0;
        size_t put = 0;
        lt_rc rc = lt_transport_writev(&conn->transport, iov + first,
                                       (piece.len > 0 ? 2 : 1) - first, &put);
        if (rc == LT_AGAIN)
            conn->can_write = false;
        if (rc != LT_OK)
            return rc;
        request->wire_sent += put;
        wrote(&request->down_out, &put);
        request->down_piece = lt_str_from(piece, put);
    }
    if (request->down_piece_used > 0) {
        request->up->in.pos += (uint32_t)request->down_piece_used;
        request->down_piece_used = 0;
    }
    request->down_piece = LT_STR_NULL;
    return LT_OK;
}

enum { INTERIM_MAX = 16 };

/* 100 and 103 go on to whoever can read them; a host that sends them without end is broken off. */
static lt_rc forward_interim(struct px_request *request)
{
    if (++request->interim_count > INTERIM_MAX)
        return LT_E_BAD;
    struct lt_h1_framing framing = {.body = LT_BODY_NONE, .lower_case = true};
    bool is_wanted = request->head.minor == 1 &&
                     (request->hcm->proxy_100_continue || request->rhead.status != 100);
    lt_rc rc = lt_h1_strip_hop_by_hop(&request->rhead.headers, false);
    if (rc == LT_OK && is_wanted)
        rc = lt_h1_write_response(&request->down_out, request->rhead.status, LT_STR_NULL, 1,
                                  &request->rhead.headers, &framing);
    request->up->in.floor = 0;
    request->rhead_begun = false;
    request->rhead.status = 0;
    lt_h1_next_message(&request->up->parser);
    return rc;
}

/*
 * A tunnel gives its blocks back whenever it is idle; the log still wants the heads when it ends.
 */
static void keep_heads(struct px_request *request)
{
    if (request->head_block == NULL)
        request->head_block = px_input_detach(request->worker, &request->conn->in, 0);
    if (request->rhead_block == NULL)
        request->rhead_block = px_input_detach(request->worker, &request->up->in, 0);
}

/* LT_OK: go on. LT_AGAIN: another try is under way. */
static lt_rc take_head(struct px_request *request)
{
    struct lt_http_head *head = &request->rhead;
    struct px_upstream *up = request->up;
    if (head->status < 200 && head->status != 101)
        return forward_interim(request);
    /* a tunnel that nobody asked for would carry the client's next requests past every policy */
    if (head->status == 101 && !request->head.wants_upgrade)
        return LT_E_BAD;
    request->has_rhead = true;
    request->code = head->status;
    request->up_keeps_alive = head->keep_alive;
    if (px_request_retry_status(request))
        return LT_AGAIN;
    request->rhead_block = px_input_detach(request->worker, &up->in, up->in.cap / 2);
    request->response_begun = true;
    request->response_begin_ns = px_now_ns(request->worker);
    request->details = "via_upstream";
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    LT_TRY(px_response_edit(request));
    LT_TRY(px_response_write_head(request));
    request->response_parsed = head->body == LT_BODY_NONE;
    if (head->body == LT_BODY_TUNNEL) {
        px_request_set_state(request, PX_RQ_TUNNEL);
        lt_loop_timer_cancel(
            request->worker->loop,
            &request->timer); /* the response is never complete: only idleness ends it */
        keep_heads(request);
        request->up_piece = LT_STR_NULL;
        px_conn_set_deadline(request->conn, request->hcm->stream_idle_timeout_ms);
    }
    return LT_OK;
}

/* LT_OK: a step was made. LT_AGAIN: more input is needed. LT_E_BAD: it is no HTTP. */
static lt_rc next_down_head(struct px_request *request)
{
    struct px_upstream *up = request->up;
    size_t used = 0;
    if (!request->rhead_begun)
        lt_h1_head_init(&request->rhead, request->arena, NULL);
    request->rhead_begun = true;
    up->parser.request_was_head = request->head.method_id == LT_METHOD_HEAD;
    lt_rc rc = lt_h1_parse_head(&up->parser, px_input_unread(&up->in), &request->rhead, &used);
    if (rc == LT_AGAIN)
        return LT_AGAIN;
    if (rc != LT_OK)
        return LT_E_BAD;
    up->in.pos += (uint32_t)used;
    up->in.floor = up->in.pos;
    return take_head(request);
}

static lt_rc next_down_piece(struct px_request *request);

/* Head and the first of the body in one write: what came in one segment leaves in one. */
static lt_rc next_down(struct px_request *request)
{
    if (request->has_rhead)
        return next_down_piece(request);
    LT_TRY(next_down_head(request));
    if (!request->has_rhead || request->response_parsed || request->state != PX_RQ_FLOW)
        return LT_OK;
    lt_rc rc = next_down_piece(request);
    return rc == LT_AGAIN ? LT_OK : rc;
}

static lt_rc next_down_piece(struct px_request *request)
{
    struct px_upstream *up = request->up;
    struct lt_h1_piece piece;
    LT_TRY(lt_h1_parse_body(&up->parser, px_input_unread(&up->in), request->response_raw, NULL,
                            &piece));
    request->down_piece_used = piece.used;
    request->bytes_sent += piece.data.len;
    if (request->down_chunked) {
        LT_TRY(lt_h1_write_chunk(&request->down_out, piece.data));
        if (piece.is_end)
            LT_TRY(lt_h1_write_last_chunk(&request->down_out, NULL));
    } else {
        request->down_piece = piece.data;
    }
    request->response_parsed = piece.is_end;
    return LT_OK;
}

/* The upstream connection ended. LT_OK: and with it the response, as it should. */
static lt_rc upstream_ended(struct px_request *request)
{
    request->up_keeps_alive = false;
    if (!request->has_rhead || lt_h1_body_eof(&request->up->parser) != LT_OK)
        return LT_E_IO;
    request->response_parsed = true;
    return request->down_chunked ? lt_h1_write_last_chunk(&request->down_out, NULL) : LT_OK;
}

static lt_rc read_upstream(struct px_request *request)
{
    struct px_upstream *up = request->up;
    if (!up->can_read)
        return LT_AGAIN;
    lt_rc rc = px_input_read(request->worker, &up->in, &up->transport, &up->can_read);
    if (rc == LT_E_LIMIT)
        rc = request->has_rhead ? LT_E_BAD
                                : px_input_grow(request->worker, &up->in, PX_RQ_HEADS_MAX);
    if (rc == LT_OK || rc == LT_AGAIN)
        return rc;
    return rc == LT_EOF ? upstream_ended(request) : LT_E_IO;
}

/*
 * LT_EOF: the whole response is out. LT_AGAIN: wait, or something else goes on. LT_E_CLOSED: the
 * client has gone.
 */
static lt_rc pump_down(struct px_request *request)
{
    for (int step = 0; step < STEPS_PER_TURN; step++) {
        lt_rc rc = flush_down(request);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc != LT_OK)
            return LT_E_CLOSED;
        if (request->response_parsed)
            return LT_EOF;
        if (request->state != PX_RQ_FLOW)
            return LT_AGAIN;
        rc = next_down(request);
        if (request->state == PX_RQ_WAIT)
            return LT_AGAIN; /* it is tried again */
        if (rc == LT_OK)
            continue;
        if (rc != LT_AGAIN)
            return LT_E_BAD;
        rc = read_upstream(request);
        if (rc != LT_OK)
            return rc;
    }
    px_conn_yield(request->conn);
    return LT_AGAIN;
}

/* --- both --- */

static void upstream_broke(struct px_request *request)
{
    if (!request->response_begun &&
        px_request_retry_failure(request,
                                 request->has_reached_up ? PX_FAIL_RESET : PX_FAIL_RESET_BEFORE))
        return;
    px_request_reply(
        request, 503, PX_FLAG_UPSTREAM_TERMINATION,
        "upstream_reset_before_response_started{connection_termination}",
        LT_STR(
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"),
        "text/plain");
}

static void upstream_lied(struct px_request *request)
{
    px_request_reply(
        request, 502, PX_FLAG_UPSTREAM_PROTOCOL,
        "upstream_reset_before_response_started{protocol_error}",
        LT_STR(
            "upstream connect error or disconnect/reset before headers. reset reason: protocol error"),
        "text/plain");
}

static void client_lied(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    lt_h1_error error = conn->parser.error;
    conn->is_closing = true;
    px_request_reply(request, 400, PX_FLAG_DOWNSTREAM_PROTOCOL, lt_h1_error_details(error),
                     LT_STR("Bad Request"), "text/plain");
}

static void finish(struct px_request *request)
{
    px_request_set_state(request, PX_RQ_DONE);
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    /* the connection is given back after the report, which reads the head in its block */
    request->up_is_reusable = request->has_rhead && request->up_keeps_alive && request->is_sent;
    if (!request->is_parsed)
        request->conn->is_closing = true;
}

void px_request_flow(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    if (request->state == PX_RQ_FLOW && !request->is_sent) {
        lt_rc rc = pump_up(request);
        if (rc == LT_E_CLOSED) {
            px_conn_close(conn);
            return;
        }
        if (rc == LT_E_BAD) {
            client_lied(request);
            if (conn->state == PX_CONN_CLOSED)
                return;
        }
        /*
         * LT_E_IO: the upstream takes no more, but may have answered already: the response decides
         */
        if (rc == LT_E_IO)
            request->up->can_read = true;
    }
    if (request->state == PX_RQ_FLOW || request->state == PX_RQ_REPLY) {
        lt_rc rc = pump_down(request);
        if (rc == LT_EOF)
            finish(request);
        else if (rc == LT_E_CLOSED)
            px_conn_close(conn);
        else if (rc == LT_E_IO)
            upstream_broke(request);
        else if (rc == LT_E_BAD || rc == LT_E_LIMIT)
            upstream_lied(request);
        if (conn->state == PX_CONN_CLOSED)
            return;
        if (rc != LT_EOF && rc != LT_AGAIN && request->state == PX_RQ_REPLY)
            px_request_flow(request);
    }
    if (request->state == PX_RQ_FLOW)
        px_conn_set_deadline(conn, request->hcm->stream_idle_timeout_ms);
    if (request->state == PX_RQ_TUNNEL)
        px_request_tunnel(request);
}

void px_request_tunnel(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct px_upstream *up = request->up;
    lt_rc rc = flush_down(request);
    if (rc == LT_AGAIN)
        return;
    conn->in.floor = up->in.floor = 0;
    struct px_side to_server = {&conn->in,
                                &conn->transport,
                                &up->transport,
                                &conn->can_read,
                                &up->can_write,
                                &request->client_ended,
                                &request->client_end_sent,
                                &request->bytes_received};
    struct px_side to_client = {
        &up->in,          &up->transport,         &conn->transport,          &up->can_read,
        &conn->can_write, &request->server_ended, &request->server_end_sent, &request->bytes_sent};
    lt_rc there = rc == LT_OK ? px_pump(conn->worker, &to_server) : LT_E_CLOSED;
    lt_rc back = rc == LT_OK ? px_pump(conn->worker, &to_client) : LT_E_CLOSED;
    if (px_is_over(there, back)) {
        px_conn_close(conn);
        return;
    }
    if (there == LT_OK || back == LT_OK)
        px_conn_yield(conn);
    px_conn_set_deadline(conn, request->hcm->stream_idle_timeout_ms);
}
