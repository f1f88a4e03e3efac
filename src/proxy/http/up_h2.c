/*
 * proxy/http/up_h2.c - HTTP/2 on an upstream connection: the streams of several requests. Events of
 * the engine only note what came, as in down_h2.c.
 * Start at: px_up_h2_open(), start().
 */
#include "http/h2_head.h"
#include "proxy/http/h2_link.h"
#include "proxy/http/request.h"

enum { INTERIM_MAX = 16, PSEUDO_FIELDS = 1 };

/* --- the connection --- */

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end);
static void on_data(struct lt_h2_stream *stream, lt_str bytes);
static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields);
static void on_end(struct lt_h2_stream *stream);
static void on_writable(struct lt_h2_stream *stream);
static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code);

static void on_goaway(struct lt_h2_conn *conn, uint32_t last_stream_id LT_UNUSED,
                      uint32_t code LT_UNUSED, lt_str debug LT_UNUSED)
{
    struct px_upstream *up = lt_h2_conn_user(conn);
    up->takes_no_more = true;
}

/* The limit of streams is known now: those that wait may have room. */
static void on_settings(struct lt_h2_conn *conn)
{
    struct px_upstream *up = lt_h2_conn_user(conn);
    up->host->streams_max = lt_h2_conn_streams_max(conn);
    px_cluster_wake(up->host->cluster);
}

static void on_ping_ack(struct lt_h2_conn *conn, uint64_t opaque LT_UNUSED)
{
    struct px_upstream *up = lt_h2_conn_user(conn);
    px_h2_link_on_pong(up->h2);
}

static const struct lt_h2_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
    .on_goaway = on_goaway,
    .on_settings = on_settings,
    .on_ping_ack = on_ping_ack,
};

static void on_over(struct px_h2_link *link)
{
    px_upstream_break(link->owner);
}

void px_up_h2_open(struct px_upstream *up)
{
    const struct px_h2_options *conf = up->host->cluster->conf->h2;
    const struct px_response_limits *limits = up->host->cluster->conf->response;
    struct lt_h2_opts opts = LT_H2_OPTS_DEFAULT;
    opts.stream_window_bytes = conf->stream_window_first;
    opts.stream_window_max = conf->stream_window_bytes;
    opts.conn_ahead_bytes = LT_MAX((size_t)PX_H2_AHEAD, (size_t)conf->conn_window_bytes);
    opts.conn_window_bytes = conf->conn_window_bytes;
    opts.header_table_bytes = conf->header_table_bytes;
    opts.header_list_bytes_max = limits->h2_head_bytes;
    opts.headers_max = limits->h1.headers_max + PSEUDO_FIELDS;
    opts.send_queue_bytes = PX_H2_STREAM_QUEUE;
    opts.conn_queue_bytes = PX_H2_CONN_QUEUE;
    opts.empty_frames_max = conf->empty_frames_max;
    opts.priorities_per_stream = conf->priorities_per_stream;
    opts.updates_per_data = conf->updates_per_data;
    up->h2 = px_h2_link_new(up->worker, &opts, &events, up);
    up->h2->transport = &up->transport;
    up->h2->in = &up->in;
    up->h2->can_read = &up->can_read;
    up->h2->can_write = &up->can_write;
    up->h2->on_over = on_over;
    up->h2->cluster = up->host->cluster;
    px_h2_link_keep_alive(up->h2, conf);
    px_h2_link_touch(up->h2);
}

bool px_up_h2_has_room(const struct px_upstream *up)
{
    const struct px_cluster_conf *conf = up->host->cluster->conf;
    if (up->takes_no_more || up->h2->is_over || !lt_h2_conn_can_open(up->h2->conn))
        return false;
    if (conf->max_requests_per_connection != 0 && up->served >= conf->max_requests_per_connection)
        return false;
    /* many clients share it: those to come are not to wait for those who don't read */
    if (lt_h2_conn_unconsumed(up->h2->conn) > PX_H2_AHEAD / 2)
        return false;
    size_t count = lt_h2_conn_stream_count(up->h2->conn);
    /* a host most likely allows on a new connection what it allowed on the last */
    if (!lt_h2_conn_is_begun(up->h2->conn) && up->host->streams_max != 0 &&
        count >= up->host->streams_max)
        return false;
    return count < conf->h2->max_concurrent_streams;
}

/* --- what comes --- */

static void take_interim(struct px_request *request)
{
    if (++request->interim_count > INTERIM_MAX) {
        request->broke = PX_BROKE_PROTOCOL;
        lt_h2_stream_reset(request->up_stream, LT_H2_ENHANCE_YOUR_CALM);
        return;
    }
    if (request->hcm->proxy_100_continue &&
        request->down->interim(request, &request->rhead) == LT_OK)
        px_request_ready(request);
}

/* A 2xx opens the tunnel that was asked for; in the words of HTTP/1 (RFC 8441 section 5). */
static void note_agreement(struct px_request *request)
{
    struct lt_http_head *head = &request->rhead;
    bool is_connect = request->head.method_id == LT_METHOD_CONNECT;
    if (head->status >= 300 || (!is_connect && !request->head.wants_upgrade))
        return;
    head->body = LT_BODY_TUNNEL;
    head->has_content_length = false;
    if (is_connect)
        return;
    head->status = 101;
    lt_rc rc = lt_headers_set_id(&head->headers, LT_H_UPGRADE,
                                 lt_headers_value(&request->head.headers, LT_H_UPGRADE));
    if (rc != LT_OK)
        request->broke = PX_BROKE_PROTOCOL;
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    const struct px_response_limits *limits = request->cluster->conf->response;
    lt_http_head_init(&request->rhead, request->arena, limits->h1.headers_max,
                      limits->h2_head_bytes);
    lt_rc rc = lt_h2_read_response(fields, is_end, request->head.method_id == LT_METHOD_HEAD,
                                   &request->rhead);
    if (rc != LT_OK) {
        request->broke = PX_BROKE_PROTOCOL;
        lt_h2_stream_reset(stream, LT_H2_PROTOCOL_ERROR);
    } else if (request->rhead.status < 200) {
        take_interim(request);
    } else {
        note_agreement(request);
        request->rhead_begun = true;
        request->resp.rx_ended = is_end;
    }
    px_request_ready(request);
}

static void on_data(struct lt_h2_stream *stream, lt_str bytes)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL) {
        lt_h2_stream_consume(stream, bytes.len);
        return;
    }
    if (lt_rope_add(&request->resp.rx, bytes) != LT_OK)
        lt_h2_stream_reset(stream, LT_H2_FLOW_CONTROL_ERROR);
    px_request_ready(request);
}

static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    px_dir_read_trailers(&request->resp, stream, fields, request->arena, PX_RQ_HEADS_MAX);
}

static void on_end(struct lt_h2_stream *stream)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    request->resp.rx_ended = true;
    px_request_ready(request);
}

static void on_writable(struct lt_h2_stream *stream)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request != NULL)
        px_request_ready(request);
}

static px_broke how_it_was_reset(uint32_t code)
{
    switch (code) {
    case LT_H2_REFUSED_STREAM: return PX_BROKE_REFUSED;
    case LT_H2_PROTOCOL_ERROR: return PX_BROKE_PROTOCOL;
    case LT_H2_CONNECT_ERROR: return PX_BROKE_CONNECT;
    default: return PX_BROKE_RESET;
    }
}

static px_broke how_it_broke(const struct lt_h2_conn *conn, lt_h2_end end, uint32_t code)
{
    switch (end) {
    case LT_H2_END_UNPROCESSED: return PX_BROKE_REFUSED;
    case LT_H2_END_RESET_PEER: return how_it_was_reset(code);
    case LT_H2_END_RESET_LOCAL: return PX_BROKE_PROTOCOL; /* ours are never looked at again */
    case LT_H2_END_CONN:
    case LT_H2_END_CLEAN: break;
    }
    return lt_h2_conn_stats(conn)->fail != LT_H2_FAIL_NONE ? PX_BROKE_PROTOCOL
                                                           : PX_BROKE_TERMINATION;
}

static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code)
{
    struct px_request *request = lt_h2_stream_user(stream);
    if (request == NULL)
        return;
    request->up_stream = NULL;
    /* RST_STREAM with NO_ERROR behind a complete response: the rest of the request isn't wanted */
    bool is_whole = request->resp.rx_ended && request->rhead_begun;
    request->has_reached_up = lt_h2_stream_head_is_out(stream);
    if (!is_whole)
        request->broke = how_it_broke(lt_h2_stream_conn(stream), end, code);
    px_request_ready(request);
}

/* --- a try --- */

static lt_rc start(struct px_request *request)
{
    struct lt_http_head head = request->head;
    head.method = request->method;
    head.scheme = px_forward_scheme(request);
    head.authority = request->authority;
    head.path = request->path;
    if (head.wants_upgrade) { /* RFC 8441 section 5 */
        head.protocol = lt_headers_value(&request->head.headers, LT_H_UPGRADE);
        head.method = LT_STR("CONNECT");
        head.method_id = LT_METHOD_CONNECT;
    }
    struct lt_h2_made made = lt_h2_make_request(request->arena, &head);
    bool is_tunnel = head.method_id == LT_METHOD_CONNECT;
    bool is_end = request->req.is_read && lt_buf_len(&request->replay) == 0 && !is_tunnel &&
                  request->req.trailers == NULL && request->req.piece.len == 0;
    lt_rc rc = lt_h2_stream_open(request->up->h2->conn, made.items, made.count, is_end, request,
                                 &request->up_stream);
    if (rc != LT_OK)
        return rc;
    lt_rope_fini(&request->resp.rx);
    lt_rope_init(&request->resp.rx,
                 request->cluster->conf->h2->stream_window_bytes + PX_H2_RX_SLACK);
    request->resp.rx_ended = false;
    request->up_end_said = is_end;
    request->req.is_framed = is_end || is_tunnel; /* a tunnel's end is not the request's */
    px_h2_link_ping_if_quiet(request->up->h2, request->cluster->conf->h2);
    px_h2_link_touch(request->up->h2);
    request->has_reached_up = true;
    return LT_OK;
}

static lt_rc put_end(struct px_request *request)
{
    struct px_dir *req = &request->req;
    struct lt_h2_made made = {0};
    if (req->trailers != NULL)
        made = lt_h2_make_trailers(request->arena, req->trailers);
    req->is_framed = true;
    request->up_end_said = true;
    return lt_h2_stream_end(request->up_stream, made.items, made.count);
}

static lt_rc send_up(struct px_request *request)
{
    struct px_dir *req = &request->req;
    struct lt_h2_stream *stream = request->up_stream;
    if (stream == NULL)
        return LT_E_IO;
    if (req->piece.len > 0) {
        if (!lt_h2_stream_is_writable(stream))
            return LT_AGAIN;
        lt_rc rc = req->owner != NULL ? lt_h2_stream_send_bytes(stream, req->owner, req->piece)
                                      : lt_h2_stream_send(stream, req->piece);
        if (rc != LT_OK)
            return LT_E_IO;
        req->piece = LT_STR_NULL;
        px_h2_link_touch(request->up->h2);
    }
    if (req->is_read && !req->is_framed) {
        px_h2_link_touch(request->up->h2);
        return put_end(request) == LT_OK ? LT_OK : LT_E_IO;
    }
    return LT_OK;
}

static lt_rc next_head(struct px_request *request)
{
    if (request->rhead_begun) {
        request->up_keeps_alive = true;
        return LT_OK;
    }
    if (request->up_stream != NULL)
        return LT_AGAIN;
    return request->broke == PX_BROKE_PROTOCOL ? LT_E_BAD : LT_E_IO;
}

static lt_rc next(struct px_request *request)
{
    lt_rc rc = px_dir_take(&request->resp);
    if (rc != LT_AGAIN || request->up_stream != NULL)
        return rc;
    return request->broke == PX_BROKE_PROTOCOL ? LT_E_BAD : LT_E_IO;
}

static void took(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    lt_rope_consume(&resp->rx, resp->piece_used);
    if (request->up_stream != NULL) {
        lt_h2_stream_consume(request->up_stream, resp->piece_used);
        px_h2_link_touch(request->up->h2);
    }
    resp->piece_used = 0;
}

static void leave(struct px_request *request, bool is_reusable)
{
    struct lt_h2_stream *stream = request->up_stream;
    request->up_stream = NULL;
    if (stream != NULL) {
        if (!is_reusable || !request->resp.rx_ended || !request->up_end_said) {
            lt_h2_stream_reset(stream, LT_H2_CANCEL);
            px_cluster_count(request->cluster, PX_STAT_RQ_TX_RESET);
        }
        lt_h2_stream_set_user(stream, NULL);
        px_h2_link_touch(request->up->h2);
    }
    px_upstream_unshare(request);
}

const struct px_up px_up_h2 = {
    .protocol = PX_PROTO_H2,
    .start = start,
    .send = send_up,
    .next_head = next_head,
    .next = next,
    .took = took,
    .leave = leave,
};
