/*
 * proxy/http/flow.c - a request over its two sides: body up, response down. Bodies are not copied
 * where that can be helped: what was read from one side is written to the other from where it lies,
 * and nothing is read while something waits to be written. Knows no version of HTTP.
 * Start at: px_request_flow().
 */
#include "http/h2_head.h"
#include "proxy/conf/log_filter.h"
#include "proxy/http/hash_policy.h"
#include "proxy/http/pace.h"
#include "proxy/http/request.h"
#include "proxy/run/run.h"
#include "proxy/told/messages.h"

enum { STEPS_PER_TURN = 64, INTERIM_MAX = 16, HELD_PIECE_MAX = 1024 * 1024 };

void px_dir_keep_trailers(struct px_dir *dir, struct lt_headers *read)
{
    if (read->count == 0)
        return;
    lt_headers_own(read);
    dir->trailers = lt_arena_make(read->arena, struct lt_headers);
    *dir->trailers = *read;
}

void px_dir_read_trailers(struct px_dir *dir, struct lt_h2_stream *stream,
                          const struct lt_h2_fields *fields, struct lt_arena *arena,
                          uint32_t bytes_max)
{
    dir->trailers = lt_arena_make(arena, struct lt_headers);
    lt_headers_init(dir->trailers, arena, 0, bytes_max);
    if (lt_h2_read_trailers(fields, dir->trailers) != LT_OK)
        lt_h2_stream_reset(stream, LT_H2_PROTOCOL_ERROR);
}

lt_rc px_dir_take(struct px_dir *dir)
{
    struct lt_rope_piece front = lt_rope_front(&dir->rx);
    if (front.slice.len == 0 && !dir->rx_ended)
        return LT_AGAIN;
    dir->piece = front.slice;
    dir->owner = front.owner;
    dir->piece_used = front.slice.len;
    dir->is_read = dir->rx_ended && front.slice.len == lt_rope_len(&dir->rx);
    return LT_OK;
}

/* --- up: request --- */

static void take_back_request_piece(struct px_request *request)
{
    request->req.piece = LT_STR_NULL;
    request->req.owner = NULL;
    if (request->req.piece_used > 0)
        request->down->took(request);
}

/* What a retry would have to send again. */
static void remember(struct px_request *request, lt_str data)
{
    bool is_wanted = request->keeps_body;
    if (!request->replay_is_whole || data.len == 0)
        return;
    if (!is_wanted) {
        request->replay_is_whole = false;
    } else if (lt_buf_append_str(&request->replay, data) != LT_OK) {
        request->replay_is_whole = false;
        px_cluster_count(request->cluster, PX_STAT_RETRY_ABANDONED);
        lt_buf_clear(&request->replay, 0);
    }
}

static void request_is_read(struct px_request *request)
{
    request->request_end_ns = px_now_ns(request->worker);
    /* Envoy's route timeout runs from the end of the request; for one held back, from its start */
    if (request->state == PX_RQ_FLOW)
        px_request_arm_timeout(request);
}

/* What an earlier try sent, or a step held back, goes before what the client sends now. */
static void next_is_replay(struct px_request *request)
{
    struct px_dir *req = &request->req;
    request->resends = false;
    req->piece = lt_buf_str(&request->replay);
    req->owner = NULL;
    req->piece_used = 0;
    req->is_read = request->was_read;
}

static lt_rc read_request_piece(struct px_request *request)
{
    struct px_dir *req = &request->req;
    LT_TRY(request->down->next(request));
    req->body_bytes += req->piece.len;
    if (request->messages != NULL)
        px_messages_count(request->messages, &request->messages->request, req->piece);
    if (request->wants_pieces)
        px_filters_on_piece(request, req, req->piece);
    if (request->mirror_count > 0)
        px_request_add_to_mirrors(request, req->piece, req->is_read);
    if (req->is_read && !request->is_tunnel)
        request_is_read(request);
    return LT_OK;
}

/* LT_OK: a piece is there. LT_AGAIN; LT_E_BAD, LT_E_CLOSED: the client. */
static lt_rc next_request_piece(struct px_request *request)
{
    if (request->resends) {
        next_is_replay(request);
        return LT_OK;
    }
    LT_TRY(read_request_piece(request));
    remember(request, request->req.piece);
    return LT_OK;
}

/*
 * LT_EOF: the whole request is out. LT_AGAIN: wait. LT_E_IO: the upstream takes no more. LT_E_BAD,
 * LT_E_CLOSED: the client.
 */
static lt_rc pump_up(struct px_request *request)
{
    struct px_dir *req = &request->req;
    /* the first piece goes out with the head */
    bool is_empty = req->piece.len == 0 && req->piece_used == 0;
    if (!req->is_read && is_empty && !request->has_reached_up && !request->is_tunnel) {
        lt_rc rc = next_request_piece(request);
        if (rc != LT_OK && rc != LT_AGAIN)
            return rc;
    }
    for (int step = 0; step < STEPS_PER_TURN; step++) {
        LT_TRY(request->up_codec->send(request));
        take_back_request_piece(request);
        if (req->is_read) {
            req->is_sent = true;
            return LT_EOF;
        }
        LT_TRY(next_request_piece(request));
    }
    px_request_ready(request);
    return LT_AGAIN;
}

/* --- up, held back --- */

static void client_lied(struct px_request *request)
{
    const char *details = "http2.violation.of.messaging.rule";
    if (request->down->protocol == PX_PROTO_H1) {
        request->conn->is_closing = true;
        details = lt_h1_error_details(request->conn->parser.error);
    }
    px_request_reply(request, 400, PX_FLAG_DOWNSTREAM_PROTOCOL, details, LT_STR("Bad Request"),
                     "text/plain");
}

/* Until it is read, or more than max is held: a piece that is there is taken whole. */
static lt_rc hold_pieces(struct px_request *request, size_t max)
{
    struct px_dir *req = &request->req;
    while (!req->is_read && lt_buf_len(&request->replay) <= max) {
        LT_TRY(read_request_piece(request));
        lt_rc rc = lt_buf_append_str(&request->replay, req->piece);
        LT_ASSERT(rc == LT_OK); /* bytes_max has room for one more */
        take_back_request_piece(request);
    }
    return LT_OK;
}

/* A client that waits for leave to send its body (RFC 9110 section 10.1.1) gets it. */
static lt_rc ask_for_body(struct px_request *request)
{
    if (!request->head.expects_continue || request->hcm->proxy_100_continue ||
        request->has_said_continue)
        return LT_OK;
    struct lt_http_head go_on = {.status = 100};
    request->has_said_continue = true;
    LT_TRY(request->down->interim(request, &go_on));
    lt_rc rc = request->down->send(request);
    return rc == LT_AGAIN ? LT_OK : rc;
}

px_verdict px_request_hold(struct px_request *request, size_t max, bool *ret_is_over)
{
    struct px_dir *req = &request->req;
    lt_rc rc = LT_OK;
    if (request->resends) { /* a step before has held some of it */
        req->is_read = request->was_read;
        request->resends = false;
    }
    request->replay.bytes_max = LT_MAX(max + HELD_PIECE_MAX, (size_t)request->hcm->body_limit);
    if (!req->is_read)
        rc = ask_for_body(request);
    if (rc == LT_OK)
        rc = hold_pieces(request, max);
    if (rc == LT_E_CLOSED)
        request->down->abort(request);
    else if (rc != LT_OK && rc != LT_AGAIN)
        client_lied(request);
    if (rc != LT_OK)
        return rc == LT_AGAIN ? PX_STAY : PX_STOP;
    *ret_is_over = lt_buf_len(&request->replay) > max;
    if (lt_buf_len(&request->replay) > 0) {
        request->resends = true;
        request->was_read = req->is_read;
        req->is_read = false;
    }
    return PX_GO;
}

/* --- down: response --- */

static void take_back_response_piece(struct px_request *request)
{
    request->resp.piece = LT_STR_NULL;
    request->resp.owner = NULL;
    if (request->resp.piece_used > 0)
        request->up_codec->took(request);
}

/* Interim responses go on where that is asked for; who sends them without end is broken off. */
static lt_rc forward_interim(struct px_request *request)
{
    if (++request->interim_count > INTERIM_MAX)
        return LT_E_BAD;
    bool is_wanted = request->hcm->proxy_100_continue; /* Envoy: of 103 as of 100 */
    lt_rc rc = lt_h1_strip_hop_by_hop(&request->rhead.headers, false);
    if (rc == LT_OK && is_wanted)
        rc = request->down->interim(request, &request->rhead);
    request->rhead_begun = false;
    request->rhead.status = 0;
    return rc;
}

/*
 * A tunnel gives its blocks back whenever it is idle; the log still wants the heads when it ends.
 */
static void keep_heads(struct px_request *request)
{
    if (request->head_block == NULL && request->down->protocol == PX_PROTO_H1)
        request->head_block = px_input_detach(request->worker, &request->conn->in, 0);
    if (request->rhead_block == NULL && request->up_codec->protocol == PX_PROTO_H1)
        request->rhead_block = px_input_detach(request->worker, &request->up->in, 0);
}

/* Both directions are open again, for bytes of something else. Only idleness ends it. */
static void begin_tunnel(struct px_request *request)
{
    struct px_dir *req = &request->req, *resp = &request->resp;
    request->is_tunnel = true;
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    keep_heads(request);
    take_back_request_piece(request);
    req->is_read = req->is_sent = req->is_framed = req->is_raw = req->is_chunked = false;
    resp->is_read = resp->is_framed = resp->is_raw = resp->is_chunked = false;
    px_request_ready(request); /* what the client sent ahead has been read already */
    if (request->hcm->log_times.at_tunnel)
        px_request_log(request, PX_LOG_TYPE_TUNNEL);
}

/*
 * An upgrade over HTTP/1 was not taken up, whatever the host calls a success. In HTTP/2 a 2xx with
 * a body would be the tunnel itself.
 */
static void refuse_upgrade(struct px_request *request)
{
    struct lt_http_head *head = &request->rhead;
    head->body = LT_BODY_NONE;
    head->has_content_length = head->is_chunked = false;
    request->up_keeps_alive = false;
    request->details = "websocket_handshake_unsuccessful";
}

static void choose_response_body(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    const struct lt_http_head *head = &request->rhead;
    bool is_up_h1 = request->up_codec->protocol == PX_PROTO_H1;
    if (request->head.wants_upgrade && is_up_h1 && head->status < 300)
        refuse_upgrade(request);
    bool is_raw = is_up_h1 && request->down->protocol == PX_PROTO_H1;
    is_raw = is_raw && head->body == LT_BODY_CHUNKED && request->head.minor == 1;
    bool has_trailers = request->hcm->h1.enables_trailers &&
                        request->cluster->conf->h1->enables_trailers;
    resp->is_read = head->body == LT_BODY_NONE;
    resp->is_raw = is_raw && !has_trailers && !request->wants_pieces && request->messages == NULL;
}

/* What outlier detection makes of it: a status of gRPC in the head counts more than 200. */
static void note_answer(struct px_request *request)
{
    const struct lt_headers *headers = &request->rhead.headers;
    if (request->host->state == NULL)
        return;
    lt_str grpc = lt_headers_value(headers, LT_H_GRPC_STATUS);
    uint64_t status = 0;
    if (grpc.len > 0 && lt_str_to_u64(grpc, &status) == LT_OK)
        px_host_note_code(request->host, px_http_status_of_grpc((uint32_t)status));
    else
        px_host_note_code(request->host, request->code);
    if (lt_headers_find_name(headers, LT_STR("x-envoy-immediate-health-check-fail")) != NULL)
        px_host_note_excluded(request->host);
}

/* LT_OK: go on. LT_AGAIN: another try is under way. */
static lt_rc take_head(struct px_request *request)
{
    struct lt_http_head *head = &request->rhead;
    if (head->status < 200 && head->status != 101)
        return forward_interim(request);
    /* a tunnel that nobody asked for would carry the client's next requests past every policy */
    if (head->status == 101 && !request->head.wants_upgrade)
        return LT_E_BAD;
    request->has_rhead = true;
    request->code = head->status;
    note_answer(request);
    if (px_request_retry_status(request))
        return LT_AGAIN;
    if (request->route->internal_redirects != NULL && px_request_follow(request))
        return LT_AGAIN;
    if (request->up_codec->protocol == PX_PROTO_H1)
        request->rhead_block = px_input_detach(request->worker, &request->up->in,
                                               request->up->in.cap / 2);
    request->response_begun = true;
    request->response_begin_ns = px_now_ns(request->worker);
    request->details = "via_upstream";
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    LT_TRY(px_response_edit(request));
    if (request->hash_cookies != NULL)
        LT_TRY(px_hash_add_cookies(request));
    bool is_tunnel = head->body == LT_BODY_TUNNEL;
    if (!is_tunnel)
        choose_response_body(request);
    LT_TRY(request->down->head(request));
    if (is_tunnel) {
        begin_tunnel(request);
        px_request_touch(request);
    }
    return LT_OK;
}

static lt_rc next_response_piece(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    LT_TRY(request->up_codec->next(request));
    resp->body_bytes += resp->piece.len;
    if (request->messages != NULL)
        px_messages_count(request->messages, &request->messages->response, resp->piece);
    px_request_touch_try(request);
    if (request->wants_pieces)
        px_filters_on_piece(request, resp, resp->piece);
    return LT_OK;
}

/* Head and the first of the body in one write: what came in one segment leaves in one. */
static lt_rc next_down(struct px_request *request)
{
    if (request->has_rhead)
        return next_response_piece(request);
    LT_TRY(request->up_codec->next_head(request));
    LT_TRY(take_head(request));
    if (!request->has_rhead || request->resp.is_read || request->is_tunnel)
        return LT_OK;
    lt_rc rc = next_response_piece(request);
    return rc == LT_AGAIN ? LT_OK : rc;
}

/*
 * LT_EOF: the whole response is out. LT_AGAIN: wait, or something else goes on. LT_E_CLOSED: the
 * client has gone. LT_E_IO, LT_E_BAD: the upstream.
 */
static lt_rc pump_down(struct px_request *request)
{
    struct px_dir *resp = &request->resp;
    for (int step = 0; step < STEPS_PER_TURN; step++) {
        if (request->response_begun) {
            if (request->pace != NULL && !px_pace_cut(request))
                return LT_AGAIN;
            lt_rc rc = request->down->send(request);
            if (rc != LT_OK)
                return rc;
            if (request->pace != NULL && px_pace_next(request))
                continue;
            take_back_response_piece(request);
            if (resp->is_read) {
                resp->is_sent = true;
                return LT_EOF;
            }
        } else if (lt_buf_len(&request->down_out) > 0) { /* 100 Continue */
            lt_rc rc = request->down->send(request);
            if (rc != LT_OK)
                return rc;
        }
        if (request->state != PX_RQ_FLOW)
            return LT_AGAIN;
        lt_rc rc = next_down(request);
        if (rc != LT_OK || request->state != PX_RQ_FLOW)
            return request->state == PX_RQ_FLOW ? rc : LT_AGAIN; /* it is tried again */
    }
    px_request_ready(request);
    return LT_AGAIN;
}

/* --- both --- */

static void finish(struct px_request *request)
{
    px_request_set_state(request, PX_RQ_DONE);
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    /* the connection is given back after the report, which reads the head in its block */
    request->up_is_reusable = request->has_rhead && request->up_keeps_alive && request->req.is_sent;
    if (!px_request_is_read(request) && request->down->protocol == PX_PROTO_H1)
        request->conn->is_closing = true;
}

/* False: nothing is left to do for the other direction. */
static bool flow_up(struct px_request *request)
{
    lt_rc rc = pump_up(request);
    if (rc == LT_E_CLOSED)
        request->down->abort(request);
    else if (rc != LT_OK && rc != LT_EOF && rc != LT_AGAIN && rc != LT_E_IO)
        client_lied(request);
    /* LT_E_IO: it may have answered already; the response decides */
    return request->state != PX_RQ_GONE;
}

static void flow_down(struct px_request *request)
{
    lt_rc rc = pump_down(request);
    switch (rc) {
    case LT_OK:
    case LT_AGAIN: break;
    case LT_EOF:
        if (!request->is_tunnel || request->req.is_sent)
            finish(request);
        break;
    case LT_E_CLOSED: request->down->abort(request); break;
    case LT_E_IO: px_request_broke(request); break;
    default:
        request->broke = PX_BROKE_PROTOCOL;
        px_request_broke(request);
        break;
    }
}

void px_request_flow(struct px_request *request)
{
    if (request->state == PX_RQ_FLOW && !request->req.is_sent && !flow_up(request))
        return;
    if (request->is_tunnel && request->req.is_sent && request->resp.is_sent) {
        finish(request);
        return;
    }
    px_rq_state before = request->state;
    if ((before == PX_RQ_FLOW || before == PX_RQ_REPLY) && !request->resp.is_sent)
        flow_down(request);
    if (request->state == PX_RQ_REPLY && before == PX_RQ_FLOW)
        flow_down(request); /* a reply took the response's place */
    if (request->state == PX_RQ_FLOW)
        px_request_touch(request);
}
