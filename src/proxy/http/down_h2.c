/*
 * proxy/http/down_h2.c - HTTP/2 on a downstream connection: many requests at once.
 * Events of the engine only note what came; requests run when all that was read has been looked at
 * (px_request_ready), and what they write goes out for all of them together (h2_link.c).
 * Start at: px_h2_start(), on_headers().
 */
#include "http/h2_head.h"
#include "proxy/http/h2_link.h"
#include "proxy/http/request.h"
#include "proxy/run/relieve.h"
#include "proxy/told/codec_stats.h"

enum {
    PSEUDO_FIELDS = 5, /* max_headers_count does not count them */
    CLOSE_MS = 1000,   /* for the last words of a connection; Envoy's delayed_close_timeout */
};

/* --- the connection --- */

/* All was said: the client may still be saying something, and must get to read it (conn.c). */
static void on_over(struct px_h2_link *link)
{
    struct px_conn *conn = link->owner;
    if (link->is_cut) {
        px_conn_close(conn);
        return;
    }
    px_h2_abort(conn);
    px_conn_linger(conn);
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end);
static void on_data(struct lt_h2_stream *stream, lt_str bytes);
static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields);
static void on_end(struct lt_h2_stream *stream);
static void on_writable(struct lt_h2_stream *stream);
static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code);

static void on_ping_ack(struct lt_h2_conn *h2, uint64_t opaque LT_UNUSED)
{
    struct px_conn *conn = lt_h2_conn_user(h2);
    px_h2_link_on_pong(conn->h2);
}

static const struct lt_h2_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
    .on_ping_ack = on_ping_ack,
};

static struct lt_h2_opts make_opts(const struct px_hcm_conf *hcm)
{
    struct lt_h2_opts opts = LT_H2_OPTS_DEFAULT;
    opts.is_server = true;
    opts.allow_connect_protocol = hcm->h2.allow_connect;
    opts.concurrent_streams_max = hcm->h2.max_concurrent_streams;
    opts.stream_window_bytes = hcm->h2.stream_window_first;
    opts.stream_window_max = hcm->h2.stream_window_bytes;
    opts.conn_window_bytes = hcm->h2.conn_window_bytes;
    opts.header_table_bytes = hcm->h2.header_table_bytes;
    opts.header_list_bytes_max = hcm->max_request_headers_kb * 1024;
    opts.headers_max = hcm->max_headers + PSEUDO_FIELDS;
    opts.send_queue_bytes = PX_H2_STREAM_QUEUE;
    opts.conn_queue_bytes = PX_H2_CONN_QUEUE;
    opts.empty_frames_max = hcm->h2.empty_frames_max;
    opts.priorities_per_stream = hcm->h2.priorities_per_stream;
    opts.updates_per_data = hcm->h2.updates_per_data;
    opts.resets = (struct lt_h2_rate){hcm->h2.reset_burst, hcm->h2.reset_rate};
    return opts;
}

void px_h2_start(struct px_conn *conn)
{
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    struct lt_h2_opts opts = make_opts(hcm);
    conn->h2 = px_h2_link_new(conn->worker, &opts, &events, conn);
    conn->h2->transport = &conn->transport;
    conn->h2->in = &conn->in;
    conn->h2->can_read = &conn->can_read;
    conn->h2->can_write = &conn->can_write;
    conn->h2->on_over = on_over;
    conn->h2->hcm = hcm;
    px_h2_link_keep_alive(conn->h2, &hcm->h2);
    px_conn_set_deadline(conn, hcm->idle_timeout_ms);
    if (conn->in.pos < conn->in.end) { /* what the inspection has read */
        lt_rc rc = lt_h2_conn_feed(conn->h2->conn, px_input_unread(&conn->in),
                                   px_now_ns(conn->worker));
        conn->in.pos = conn->in.end;
        conn->h2->is_over = rc != LT_OK;
    }
    px_h2_run(conn);
}

/* A head that does not end holds what was sent of it, and all other streams up. */
static void watch_head(struct px_conn *conn)
{
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    uint32_t block = lt_h2_conn_open_block(conn->h2->conn);
    if (block == conn->h2->open_block)
        return;
    conn->h2->open_block = block;
    px_conn_set_deadline(conn, block != 0 ? px_head_ms(hcm) : hcm->idle_timeout_ms);
}

void px_h2_run(struct px_conn *conn)
{
    px_h2_link_read(conn->h2);
    watch_head(conn);
    if (conn->h2->is_over)
        px_conn_set_deadline(conn, CLOSE_MS);
}

/* The idle timeout of a connection is that of one without requests. */
void px_h2_timeout(struct px_conn *conn)
{
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    if (conn->h2->is_over) {
        px_conn_close(conn);
    } else if (conn->h2->open_block != 0 && px_head_ms(hcm) != 0) {
        px_hcm_count(conn->worker, hcm, PX_HCM_HEAD_TIMEOUT);
        px_conn_close(conn);
    } else if (!lt_list_is_empty(&conn->streams)) {
        px_conn_set_deadline(conn, hcm->idle_timeout_ms);
    } else if (!lt_h2_conn_is_begun(conn->h2->conn)) {
        px_hcm_count(conn->worker, hcm, PX_HCM_IDLE_TIMEOUT);
        px_conn_close(conn); /* not even a preface came */
    } else {
        px_hcm_count(conn->worker, hcm, PX_HCM_IDLE_TIMEOUT);
        px_h2_link_drain(conn->h2, hcm->drain_timeout_ms);
    }
}

void px_h2_notice(struct px_conn *conn)
{
    lt_h2_conn_shutdown_notice(conn->h2->conn);
    px_h2_link_touch(conn->h2);
}

void px_h2_drain(struct px_conn *conn)
{
    conn->h2->is_draining = true;
    lt_h2_conn_goaway(conn->h2->conn, LT_H2_NO_ERROR, LT_STR_NULL);
    px_h2_link_touch(conn->h2);
}

void px_h2_abort(struct px_conn *conn)
{
    while (!lt_list_is_empty(&conn->streams)) {
        struct px_request *request = lt_list_first(&conn->streams, struct px_request, conn_link);
        if (request->down_stream != NULL)
            lt_h2_stream_set_user(request->down_stream, NULL);
        request->down_stream = NULL;
        px_request_bury(request);
    }
    px_h2_link_free(&conn->h2);
}

/* --- what comes --- */

static void refuse_head(struct px_request *request, lt_rc rc)
{
    if (rc == LT_E_LIMIT)
        px_request_reply(request, 431, PX_FLAG_DOWNSTREAM_PROTOCOL, "http2.headers_too_large",
                         LT_STR_NULL, NULL);
    else
        px_request_reply(request, 400, PX_FLAG_DOWNSTREAM_PROTOCOL, "http2.invalid.header.field",
                         LT_STR_NULL, NULL);
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end)
{
    struct px_conn *conn = lt_h2_conn_user(lt_h2_stream_conn(stream));
    struct px_request *request = px_request_new(conn, &px_down_h2);
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    if (++conn->served == hcm->max_requests_per_connection)
        px_h2_link_drain(conn->h2, hcm->drain_timeout_ms);
    request->down_stream = stream;
    lt_h2_stream_set_user(stream, request);
    lt_list_push_back(&conn->streams, &request->conn_link);
    lt_rope_init(&request->req.rx, hcm->h2.stream_window_bytes + PX_H2_RX_SLACK);
    lt_http_head_init(&request->head, request->arena, hcm->max_headers,
                      hcm->max_request_headers_kb * 1024);
    lt_rc rc = lt_h2_read_request(fields, is_end, &request->head);
    request->req.wire_bytes = request->head.bytes;
    px_relieve_note(conn->worker, sizeof(*request) + 4 * request->head.bytes);
    request->req.rx_ended = is_end;
    if (rc == LT_E_LIMIT && !fields->is_over_limit) /* else the engine has counted it */
        px_codec_count(conn->worker, PX_PROTO_H2, PX_CODEC_HEADER_OVERFLOW);
    if (rc != LT_OK)
        refuse_head(request, rc);
    px_request_ready(request);
}

static void on_data(struct lt_h2_stream *stream, lt_str bytes)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL) {
        lt_h2_stream_consume(stream, bytes.len); /* it was answered without the rest */
        return;
    }
    request->req.wire_bytes += bytes.len;
    if (lt_rope_add(&request->req.rx, bytes) != LT_OK)
        lt_h2_stream_reset(stream, LT_H2_FLOW_CONTROL_ERROR);
    px_request_ready(request);
}

static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    px_dir_read_trailers(&request->req, stream, fields, request->arena,
                         request->hcm->max_request_headers_kb * 1024);
}

static void on_end(struct lt_h2_stream *stream)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    request->req.rx_ended = true;
    px_request_ready(request);
}

static void on_writable(struct lt_h2_stream *stream)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request != NULL)
        px_request_ready(request);
}

/* Why it ended without us; what the proxy itself had found before stays. */
static void note_end(struct px_request *request, lt_h2_end end, uint32_t code)
{
    if (request->flags != 0)
        return;
    if (end == LT_H2_END_RESET_PEER) {
        request->flags = PX_FLAG_DOWNSTREAM_RESET;
        request->details = code == LT_H2_REFUSED_STREAM ? "http2.remote_refuse"
                                                        : "http2.remote_reset";
    } else if (end == LT_H2_END_RESET_LOCAL) {
        request->flags = PX_FLAG_DOWNSTREAM_PROTOCOL;
        request->details = "http2.violation.of.messaging.rule";
    }
}

static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    if (request->state != PX_RQ_DONE && end != LT_H2_END_CLEAN)
        note_end(request, end, code);
    request->down_stream = NULL;
    request->client_has_gone = true;
    px_request_ready(request);
}

/* --- the client's side of a request --- */

static lt_rc next(struct px_request *request)
{
    return request->down_stream != NULL ? px_dir_take(&request->req) : LT_E_CLOSED;
}

static void took(struct px_request *request)
{
    struct px_dir *req = &request->req;
    lt_rope_consume(&req->rx, req->piece_used);
    if (request->down_stream != NULL) {
        lt_h2_stream_consume(request->down_stream, req->piece_used);
        px_h2_link_touch(request->conn->h2);
    }
    req->piece_used = 0;
}

static lt_rc put_head(struct px_request *request)
{
    if (request->down_stream == NULL)
        return LT_E_CLOSED;
    struct lt_http_head head = request->rhead;
    if (head.status == 101)
        head.status = 200; /* RFC 8441 section 5 */
    struct lt_h2_made made = lt_h2_make_response(request->arena, &head);
    bool is_end = request->resp.is_read && request->resp.piece.len == 0 &&
                  request->resp.trailers == NULL;
    LT_TRY(lt_h2_stream_respond(request->down_stream, made.items, made.count, is_end));
    for (size_t i = 0; i < made.count; i++)
        request->resp.wire_bytes += made.items[i].name.len + made.items[i].value.len;
    request->resp.is_framed = is_end;
    struct px_conn *conn = request->conn;
    if (conn->is_draining && !conn->is_told) /* it came while others were asked to leave */
        px_conn_leave(conn);
    return LT_OK;
}

static lt_rc interim(struct px_request *request, const struct lt_http_head *head)
{
    if (request->down_stream == NULL)
        return LT_E_CLOSED;
    struct lt_h2_made made = lt_h2_make_response(request->arena, head);
    px_h2_link_touch(request->conn->h2);
    return lt_h2_stream_respond(request->down_stream, made.items, made.count, false);
}

static lt_rc put_end(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    struct lt_h2_made made = {0};
    if (resp->trailers != NULL)
        made = lt_h2_make_trailers(request->arena, resp->trailers);
    resp->is_framed = true;
    return lt_h2_stream_end(request->down_stream, made.items, made.count);
}

static lt_rc send_down(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    struct lt_h2_stream *stream = request->down_stream;
    if (stream == NULL)
        return LT_E_CLOSED;
    px_h2_link_touch(request->conn->h2);
    if (resp->piece.len > 0) {
        if (!lt_h2_stream_is_writable(stream))
            return LT_AGAIN;
        lt_rc rc = resp->owner != NULL ? lt_h2_stream_send_bytes(stream, resp->owner, resp->piece)
                                       : lt_h2_stream_send(stream, resp->piece);
        if (rc != LT_OK)
            return LT_E_CLOSED;
        resp->wire_bytes += resp->piece.len;
        resp->piece = LT_STR_NULL;
    }
    if (resp->is_read && !resp->is_framed && put_end(request) != LT_OK)
        return LT_E_CLOSED;
    return LT_OK;
}

static void on_idle(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_request *request = LT_CONTAINER_OF(timer, struct px_request, idle_timer);
    if (now_ns < request->idle_at_ns) {
        lt_loop_timer_set(request->worker->loop, timer, request->idle_at_ns - now_ns);
        return;
    }
    if (request->response_begun) {
        request->flags |= PX_FLAG_STREAM_IDLE;
        request->details = "stream_idle_timeout";
        request->down->abort(request);
        return;
    }
    px_request_reply(request, request->req.is_read ? 504 : 408, PX_FLAG_STREAM_IDLE,
                     "stream_idle_timeout", LT_STR("stream timeout"), "text/plain");
    px_request_run(request);
}

/* The heap is touched when the timer is not set, or when its time came too early. */
static void touch(struct px_request *request, uint64_t idle_ms)
{
    struct lt_timer *timer = &request->idle_timer;
    if (idle_ms == 0) {
        lt_loop_timer_cancel(request->worker->loop, timer);
        return;
    }
    request->idle_at_ns = px_now_ns(request->worker) + idle_ms * LT_NS_PER_MS;
    if (lt_timer_is_set(timer) && timer->at_ns <= request->idle_at_ns)
        return;
    timer->on_due = on_idle;
    lt_loop_timer_set(request->worker->loop, timer, idle_ms * LT_NS_PER_MS);
}

static void leave_stream(struct px_request *request)
{
    struct lt_h2_stream *stream = request->down_stream;
    request->down_stream = NULL;
    if (stream == NULL)
        return;
    /* what it was sent and no request will take any more goes back as credit of the connection */
    size_t left = lt_h2_stream_unconsumed(stream);
    if (left > 0)
        lt_h2_stream_consume(stream, left);
    lt_h2_stream_set_user(stream, NULL);
    px_h2_link_touch(request->conn->h2);
}

static void abort_down(struct px_request *request)
{
    if (request->down_stream != NULL) {
        if (request->response_begun)
            lt_h2_conn_frame(request->conn->h2->conn);
        lt_h2_stream_reset(request->down_stream, LT_H2_INTERNAL_ERROR);
    }
    leave_stream(request);
    px_request_bury(request);
}

static void finish(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    if (request->down_stream != NULL && !request->req.rx_ended)
        lt_h2_stream_close_after_end(request->down_stream);
    px_request_report(request);
    leave_stream(request);
    px_request_leave_upstream(request, request->up_is_reusable);
    px_request_free(request);
    if (!lt_list_is_empty(&conn->streams))
        return;
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
}

static void run(struct px_request *request)
{
    if (request->state == PX_RQ_HEAD && request->client_has_gone) {
        abort_down(request); /* it came and went in one turn: nobody is asked for it */
        return;
    }
    switch (request->state) {
    case PX_RQ_HEAD: px_request_start(request); break;
    case PX_RQ_FILTER: px_filters_run(request); break;
    default: break;
    }
    if (request->state == PX_RQ_FLOW || request->state == PX_RQ_REPLY)
        px_request_flow(request);
    if (request->state == PX_RQ_GONE)
        return;
    if (request->state == PX_RQ_DONE)
        finish(request);
    else if (request->client_has_gone)
        abort_down(request);
}

const struct px_down px_down_h2 = {
    .protocol = PX_PROTO_H2,
    .next = next,
    .took = took,
    .head = put_head,
    .interim = interim,
    .send = send_down,
    .touch = touch,
    .abort = abort_down,
    .run = run,
};
