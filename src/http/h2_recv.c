/*
 * http/h2_recv.c - what comes in: nghttp2's callbacks become events of ours, after the guard has
 * looked.
 * Trust: everything here was made by a stranger, and checked by nghttp2 only as far as RFC
 * 9113 section 8 says.
 * Start at: on_begin_frame(), on_frame().
 */
#include "http/h2_priv.h"

#include <stdlib.h>

enum {
    NS_PER_S = 1000000000,
    FIELD_OVERHEAD = 32, /* RFC 9113 section 6.5.2 */
    /*
     * a list this many times over its limit is not even counted to its end: 145 KB can be made to
     * say 600 MB
     */
    OVER_LIMIT_FACTOR = 4,
};

static void count(struct lt_h2_conn *conn, uint64_t *stat)
{
    (*stat)++;
    conn->stats.news++;
}

/* --- header blocks --- */

void lt_h2_block_clear(struct lt_h2_block *block)
{
    for (size_t i = 0; i < block->count * 2; i++)
        nghttp2_rcbuf_decref(block->rcbufs[i]);
    block->count = 0;
    block->bytes = 0;
    block->is_over_limit = false;
}

void lt_h2_block_fini(struct lt_h2_block *block)
{
    lt_h2_block_clear(block);
    free(block->fields);
    free(block->rcbufs);
    *block = (struct lt_h2_block){0};
}

static lt_str rcbuf_str(nghttp2_rcbuf *rcbuf)
{
    nghttp2_vec vec = nghttp2_rcbuf_get_buf(rcbuf);
    return lt_str_make(vec.base, vec.len);
}

static void block_add(struct lt_h2_block *block, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                      bool is_secret)
{
    if (block->count == block->cap) {
        block->cap = block->cap == 0 ? 16 : block->cap * 2;
        block->fields = lt_realloc(block->fields, block->cap * sizeof(*block->fields));
        block->rcbufs = lt_realloc(block->rcbufs, block->cap * 2 * sizeof(*block->rcbufs));
    }
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    block->rcbufs[block->count * 2] = name;
    block->rcbufs[block->count * 2 + 1] = value;
    block->fields[block->count++] = (struct lt_h2_field){rcbuf_str(name), rcbuf_str(value),
                                                         is_secret};
}

static int on_header(nghttp2_session *session LT_UNUSED, const nghttp2_frame *frame LT_UNUSED,
                     nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct lt_h2_conn *conn = user;
    struct lt_h2_block *block = &conn->block;
    block->bytes += rcbuf_str(name).len + rcbuf_str(value).len + FIELD_OVERHEAD;
    if (block->bytes > (size_t)conn->opts.header_list_bytes_max * OVER_LIMIT_FACTOR) {
        count(conn, &conn->stats.header_lists_over_limit);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    }
    if (block->bytes > conn->opts.header_list_bytes_max || block->count >= conn->opts.headers_max)
        block->is_over_limit = true;
    if (!block->is_over_limit)
        block_add(block, name, value, (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct lt_h2_conn *conn = user;
    lt_h2_block_clear(&conn->block);
    if (!conn->opts.is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct lt_h2_stream *stream = lt_h2_stream_new(conn, NULL);
    stream->id = (uint32_t)frame->hd.stream_id;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    return 0;
}

/* A response may come in several blocks (1xx); only the trailers have no :status. */
static bool is_trailers(const struct lt_h2_conn *conn, const nghttp2_frame *frame)
{
    if (conn->opts.is_server)
        return frame->headers.cat != NGHTTP2_HCAT_REQUEST;
    return frame->headers.cat == NGHTTP2_HCAT_HEADERS &&
           (conn->block.count == 0 || !lt_str_eq(conn->block.fields[0].name, LT_STR(":status")));
}

static void report_block(struct lt_h2_conn *conn, const nghttp2_frame *frame,
                         struct lt_h2_stream *stream, bool is_end)
{
    struct lt_h2_fields fields = {conn->block.fields, conn->block.count, conn->block.is_over_limit};
    if (fields.is_over_limit)
        count(conn, &conn->stats.header_lists_over_limit);
    if (!is_trailers(conn, frame)) {
        if (!stream->is_announced) {
            stream->is_announced = true;
            conn->stats.streams_opened++;
        }
        conn->events->on_headers(stream, &fields, is_end);
    } else if (conn->events->on_trailers != NULL) {
        conn->events->on_trailers(stream, &fields);
    }
    lt_h2_block_clear(&conn->block);
}

/* --- frames --- */

/* What nghttp2's callbacks return when the guard has spoken. */
static int judge(struct lt_h2_conn *conn, lt_h2_fail fail)
{
    if (fail == LT_H2_FAIL_NONE)
        return 0;
    if (fail == LT_H2_FAIL_STREAM_ID_ORDER)
        lt_h2_conn_fail(conn, fail, LT_E_BAD, LT_H2_PROTOCOL_ERROR);
    else
        lt_h2_conn_fail(conn, fail, LT_E_LIMIT, LT_H2_ENHANCE_YOUR_CALM);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_frame(nghttp2_session *session LT_UNUSED, const nghttp2_frame_hd *hd,
                          void *user)
{
    struct lt_h2_conn *conn = user;
    return judge(conn, lt_h2_guard_frame(&conn->guard, hd, conn->opts.is_server, conn->now_ns));
}

static void on_stream_frame(struct lt_h2_conn *conn, const nghttp2_frame *frame)
{
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(conn->session,
                                                                       frame->hd.stream_id);
    if (stream == NULL)
        return;
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        report_block(conn, frame, stream, is_end);
    /* a stream that was just reset has no end: what was refused in it must not look complete */
    if (is_end && !stream->is_reset && conn->events->on_end != NULL)
        conn->events->on_end(stream);
}

/* Envoy: a stream that lived for a second was no waste. Hosts may reset as they like. */
static int on_reset(struct lt_h2_conn *conn, const nghttp2_frame *frame)
{
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(conn->session,
                                                                       frame->hd.stream_id);
    count(conn, &conn->stats.resets_received);
    if (stream != NULL)
        stream->is_reset_by_peer = true;
    bool is_waste = conn->opts.is_server &&
                    (stream == NULL || conn->now_ns - stream->opened_ns < NS_PER_S);
    bool is_too_much = is_waste && !lt_h2_bucket_take(&conn->guard.resets, conn->now_ns);
    return judge(conn, is_too_much ? LT_H2_FAIL_RESET_FLOOD : LT_H2_FAIL_NONE);
}

static int on_data(struct lt_h2_conn *conn, const nghttp2_frame *frame)
{
    if (!lt_h2_guard_data(&conn->guard, &frame->data))
        return judge(conn, LT_H2_FAIL_EMPTY_FLOOD);
    on_stream_frame(conn, frame);
    return 0;
}

static void on_goaway(struct lt_h2_conn *conn, const nghttp2_goaway *goaway)
{
    conn->has_peer_goaway = true;
    conn->goaway_last_id = (uint32_t)goaway->last_stream_id;
    if (conn->events->on_goaway != NULL)
        conn->events->on_goaway(conn, conn->goaway_last_id, goaway->error_code,
                                lt_str_make(goaway->opaque_data, goaway->opaque_data_len));
}

static uint64_t ping_opaque(const nghttp2_ping *ping)
{
    uint64_t opaque = 0;
    memcpy(&opaque, ping->opaque_data, sizeof(opaque));
    return opaque;
}

static int on_frame(nghttp2_session *session LT_UNUSED, const nghttp2_frame *frame, void *user)
{
    struct lt_h2_conn *conn = user;
    bool is_ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: on_stream_frame(conn, frame); break;
    case NGHTTP2_DATA: return on_data(conn, frame);
    case NGHTTP2_RST_STREAM: return on_reset(conn, frame);
    case NGHTTP2_GOAWAY: on_goaway(conn, &frame->goaway); break;
    case NGHTTP2_PING:
        if (is_ack && conn->events->on_ping_ack != NULL)
            conn->events->on_ping_ack(conn, ping_opaque(&frame->ping));
        break;
    case NGHTTP2_SETTINGS:
        if (!is_ack) {
            conn->has_peer_settings = true;
            if (conn->events->on_settings != NULL)
                conn->events->on_settings(conn);
        }
        break;
    default: break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags LT_UNUSED, int32_t stream_id,
                         const uint8_t *data, size_t len, void *user)
{
    struct lt_h2_conn *conn = user;
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    if (stream == NULL || conn->events->on_data == NULL || stream->is_reset) {
        nghttp2_session_consume(session, stream_id, len);
        return 0;
    }
    stream->unconsumed += len;
    conn->unconsumed += len;
    if (conn->unconsumed <= conn->opts.conn_ahead_bytes) {
        stream->ahead += len;
        nghttp2_session_consume_connection(session, len);
    }
    conn->events->on_data(stream, lt_str_make(data, len));
    return 0;
}

static lt_h2_end end_of(const struct lt_h2_conn *conn, const struct lt_h2_stream *stream,
                        uint32_t code, bool is_half_open)
{
    if (!conn->opts.is_server && conn->has_peer_goaway && stream->id > conn->goaway_last_id)
        return LT_H2_END_UNPROCESSED;
    if (stream->closes_after_end && stream->is_reset && code == LT_H2_NO_ERROR)
        return LT_H2_END_CLEAN;
    bool is_cut_off = conn->opts.is_server && conn->has_sent_goaway &&
                      stream->id > conn->own_goaway_last_id;
    if (stream->is_reset || stream->is_reset_by_rule || is_cut_off)
        return LT_H2_END_RESET_LOCAL;
    if (stream->is_reset_by_peer)
        return LT_H2_END_RESET_PEER;
    return code == LT_H2_NO_ERROR && !is_half_open ? LT_H2_END_CLEAN : LT_H2_END_RESET_PEER;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *user)
{
    struct lt_h2_conn *conn = user;
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    if (stream == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    conn->unconsumed -= stream->unconsumed;
    if (stream->unconsumed > stream->ahead)
        nghttp2_session_consume_connection(session, stream->unconsumed - stream->ahead);
    bool is_half_open = nghttp2_session_get_stream_remote_close(session, stream_id) == 0 ||
                        nghttp2_session_get_stream_local_close(session, stream_id) == 0;
    lt_h2_end end = end_of(conn, stream, code, is_half_open);
    if (end == LT_H2_END_CLEAN)
        lt_h2_bucket_give(&conn->guard.resets);
    lt_h2_stream_finish(stream, end, code);
    return 0;
}

void lt_h2_recv_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
