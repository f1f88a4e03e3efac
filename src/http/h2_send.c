/*
 * http/h2_send.c - stream actions, and what goes out. Body bytes stay where they are: a frame's
 * nine bytes are copied into the outgoing rope, the payload is moved there by reference.
 * Who sends next: nghttp2 (equal shares). How much goes ahead of the socket: LT_H2_OUT_BYTES.
 * Start at: lt_h2_stream_open(), lt_h2_conn_fill().
 */
#include "http/h2_priv.h"

#include <stdlib.h>

enum {
    FRAME_HEAD_BYTES = 9,
    NVS_ON_STACK = 64,
};

/* --- streams --- */

struct lt_h2_stream *lt_h2_stream_new(struct lt_h2_conn *conn, void *user)
{
    struct lt_h2_stream *stream = lt_new(struct lt_h2_stream);
    stream->conn = conn;
    stream->user = user;
    stream->opened_ns = conn->now_ns;
    stream->window_bytes = conn->opts.stream_window_bytes;
    conn->guard.streams++;
    lt_list_push_back(&conn->streams, &stream->link);
    lt_list_init(&stream->writable);
    lt_rope_init(&stream->queue, conn->opts.send_queue_bytes_max);
    conn->stream_count++;
    return stream;
}

void lt_h2_stream_finish(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code)
{
    struct lt_h2_conn *conn = stream->conn;
    lt_list_remove(&stream->link);
    lt_list_remove(&stream->writable);
    conn->stream_count--;
    conn->queued -= lt_rope_len(&stream->queue);
    if (conn->head_due == stream)
        conn->head_due = NULL;
    if (stream->is_announced)
        conn->events->on_closed(stream, end, code);
    lt_rope_fini(&stream->queue);
    free(stream->trailers);
    free(stream);
}

uint32_t lt_h2_stream_id(const struct lt_h2_stream *stream)
{
    return stream->id;
}

struct lt_h2_conn *lt_h2_stream_conn(const struct lt_h2_stream *stream)
{
    return stream->conn;
}

void *lt_h2_stream_user(const struct lt_h2_stream *stream)
{
    return stream->user;
}

void lt_h2_stream_set_user(struct lt_h2_stream *stream, void *user)
{
    stream->user = user;
}

/* --- header blocks --- */

static nghttp2_nv nv_of(const struct lt_h2_field *field)
{
    return (nghttp2_nv){
        .name = (uint8_t *)field->name.ptr,
        .namelen = field->name.len,
        .value = (uint8_t *)field->value.ptr,
        .valuelen = field->value.len,
        .flags = field->is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
    };
}

/* Fields as nghttp2 wants them: on the stack when there are few. */
struct nvs {
    nghttp2_nv *items;
    size_t count;
    nghttp2_nv few[NVS_ON_STACK];
};

static void nvs_init(struct nvs *nvs, const struct lt_h2_field *fields, size_t count)
{
    nvs->items = count <= NVS_ON_STACK ? nvs->few : lt_calloc(count, sizeof(*nvs->items));
    nvs->count = count;
    for (size_t i = 0; i < count; i++)
        nvs->items[i] = nv_of(&fields[i]);
}

static void nvs_fini(struct nvs *nvs)
{
    if (nvs->items != nvs->few)
        free(nvs->items);
}

/* One block: the array, and the bytes behind it. */
static nghttp2_nv *copy_fields(const struct lt_h2_field *fields, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += fields[i].name.len + fields[i].value.len;
    nghttp2_nv *copy = lt_malloc(count * sizeof(*copy) + bytes);
    uint8_t *at = (uint8_t *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        copy[i] = nv_of(&fields[i]);
        copy[i].name = memcpy(at, fields[i].name.ptr, fields[i].name.len);
        at += fields[i].name.len;
        copy[i].value = at;
        if (fields[i].value.len > 0)
            memcpy(at, fields[i].value.ptr, fields[i].value.len);
        at += fields[i].value.len;
    }
    return copy;
}

/* --- the body: nghttp2 asks, we say how much, then we write it --- */

static ssize_t on_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf LT_UNUSED,
                       size_t room, uint32_t *data_flags, nghttp2_data_source *source LT_UNUSED,
                       void *user LT_UNUSED)
{
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    size_t queued = lt_rope_len(&stream->queue);
    size_t len = LT_MIN(queued, room);
    if (len == 0 && !stream->has_ended) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (len > 0)
        *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (stream->has_ended && len == queued) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailer_count > 0) {
            *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, stream_id, stream->trailers, stream->trailer_count);
        }
    }
    return (ssize_t)len;
}

static const nghttp2_data_provider BODY = {.read_callback = on_read};

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source LT_UNUSED, void *user)
{
    struct lt_h2_conn *conn = user;
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(session,
                                                                       frame->hd.stream_id);
    if (lt_rope_len(&conn->out) >= LT_H2_OUT_BYTES)
        return NGHTTP2_ERR_WOULDBLOCK;
    LT_ASSERT(stream != NULL && frame->data.padlen == 0);
    lt_rc rc = lt_rope_add(&conn->out, lt_str_make(head, FRAME_HEAD_BYTES));
    LT_ASSERT(rc == LT_OK);
    rc = lt_rope_move_front(&conn->out, &stream->queue, len);
    LT_ASSERT(rc == LT_OK);
    conn->queued -= len;
    conn->framed += FRAME_HEAD_BYTES + len;
    conn->guard.data_sent++;
    /* a stream that is crowded out by others waits for its own bytes alone: each may have some */
    size_t low = lt_h2_stream_is_writable(stream) ? conn->opts.send_queue_bytes / 2
                                                  : (size_t)LT_H2_QUEUE_LEAST / 2;
    if (stream->was_full && lt_rope_len(&stream->queue) <= low &&
        !lt_list_is_linked(&stream->writable))
        lt_list_push_back(&conn->writable, &stream->writable);
    return 0;
}

/*
 * A reset that nghttp2 sends by itself answers a broken rule: it costs the peer as much as one of
 * its own.
 */
static void on_reset_sent(struct lt_h2_conn *conn, const nghttp2_frame *frame,
                          struct lt_h2_stream *stream)
{
    conn->stats.resets_sent++;
    conn->stats.news++;
    if (stream != NULL && stream->is_reset)
        return;
    if (stream != NULL)
        stream->is_reset_by_rule = true;
    else
        conn->stats.streams_refused += frame->rst_stream.error_code == LT_H2_REFUSED_STREAM;
    conn->stats.messages_refused += frame->rst_stream.error_code == LT_H2_PROTOCOL_ERROR;
    if (conn->opts.is_server && !lt_h2_bucket_take(&conn->guard.resets, conn->now_ns))
        lt_h2_conn_fail(conn, LT_H2_FAIL_RESET_FLOOD, LT_E_LIMIT, LT_H2_ENHANCE_YOUR_CALM);
}

/* nghttp2 tells of it in the call that returns the last of its bytes. */
static void note_head(struct lt_h2_conn *conn, struct lt_h2_stream *stream)
{
    if (!conn->opts.is_server && stream != NULL && stream->head_end == 0)
        conn->head_due = stream;
}

static void note_end(struct lt_h2_stream *stream, const nghttp2_frame *frame)
{
    if (stream == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return;
    struct lt_h2_conn *conn = stream->conn;
    if (stream->closes_after_end &&
        nghttp2_session_get_stream_remote_close(conn->session, (int32_t)stream->id) == 0)
        lt_h2_stream_reset(stream, LT_H2_NO_ERROR);
}

static void note_goaway(struct lt_h2_conn *conn, const nghttp2_frame *frame)
{
    conn->stats.goaways_sent++;
    conn->stats.news++;
    if (frame->goaway.error_code != LT_H2_NO_ERROR && conn->stats.fail == LT_H2_FAIL_NONE)
        conn->stats.fail = LT_H2_FAIL_PROTOCOL;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct lt_h2_conn *conn = user;
    struct lt_h2_stream *stream = nghttp2_session_get_stream_user_data(session,
                                                                       frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_GOAWAY: note_goaway(conn, frame); break;
    case NGHTTP2_RST_STREAM: on_reset_sent(conn, frame, stream); break;
    case NGHTTP2_HEADERS:
        note_head(conn, stream);
        note_end(stream, frame);
        break;
    case NGHTTP2_DATA: note_end(stream, frame); break;
    default: break;
    }
    return 0;
}

void lt_h2_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
}

static void report_writable(struct lt_h2_conn *conn)
{
    while (!lt_list_is_empty(&conn->writable)) {
        struct lt_h2_stream *stream = lt_list_first(&conn->writable, struct lt_h2_stream, writable);
        lt_list_remove(&stream->writable);
        stream->was_full = false;
        if (conn->events->on_writable != NULL && !stream->has_ended && !stream->is_reset)
            conn->events->on_writable(stream);
    }
}

void lt_h2_conn_fill(struct lt_h2_conn *conn)
{
    while (lt_rope_len(&conn->out) < LT_H2_OUT_BYTES) {
        const uint8_t *bytes = NULL;
        ssize_t len = nghttp2_session_mem_send(conn->session, &bytes);
        LT_ASSERT(len >= 0); /* no callback of ours fails, and memory does not run out */
        if (len == 0)
            break;
        lt_rc rc = lt_rope_add(&conn->out, lt_str_make(bytes, (size_t)len));
        LT_ASSERT(rc == LT_OK);
        conn->framed += (size_t)len;
        if (conn->head_due != NULL)
            conn->head_due->head_end = conn->framed;
        conn->head_due = NULL;
    }
    report_writable(conn);
}

/* --- actions --- */

lt_rc lt_h2_stream_open(struct lt_h2_conn *conn, const struct lt_h2_field *fields, size_t count,
                        bool is_end, void *user, struct lt_h2_stream **ret_stream)
{
    LT_ASSERT(!conn->opts.is_server);
    if (conn->failed != LT_OK || lt_h2_conn_is_going_away(conn) ||
        nghttp2_session_check_request_allowed(conn->session) == 0)
        return LT_E_CLOSED;
    if (!lt_h2_conn_can_open(conn))
        return LT_E_LIMIT;
    struct lt_h2_stream *stream = lt_h2_stream_new(conn, user);
    struct nvs nvs;
    nvs_init(&nvs, fields, count);
    int32_t id = nghttp2_submit_request(conn->session, NULL, nvs.items, nvs.count,
                                        is_end ? NULL : &BODY, stream);
    nvs_fini(&nvs);
    if (id < 0) {
        lt_h2_stream_finish(stream, LT_H2_END_CONN, 0);
        return LT_E_CLOSED;
    }
    stream->id = (uint32_t)id;
    stream->is_announced = true;
    stream->has_sent_headers = true;
    stream->has_ended = is_end;
    conn->stats.streams_opened++;
    *ret_stream = stream;
    return LT_OK;
}

static bool is_interim(const struct lt_h2_field *fields, size_t count)
{
    return count > 0 && lt_str_eq(fields[0].name, LT_STR(":status")) && fields[0].value.len == 3 &&
           fields[0].value.ptr[0] == '1';
}

lt_rc lt_h2_stream_respond(struct lt_h2_stream *stream, const struct lt_h2_field *fields,
                           size_t count, bool is_end)
{
    struct lt_h2_conn *conn = stream->conn;
    LT_ASSERT(conn->opts.is_server && !stream->has_sent_headers);
    if (stream->is_reset)
        return LT_E_CLOSED;
    struct nvs nvs;
    nvs_init(&nvs, fields, count);
    int rc = 0;
    if (is_interim(fields, count)) {
        rc = nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, (int32_t)stream->id, NULL,
                                    nvs.items, nvs.count, NULL);
    } else {
        rc = nghttp2_submit_response(conn->session, (int32_t)stream->id, nvs.items, nvs.count,
                                     is_end ? NULL : &BODY);
        stream->has_sent_headers = true;
        stream->has_ended = is_end;
    }
    nvs_fini(&nvs);
    return rc == 0 ? LT_OK : LT_E_CLOSED;
}

static void resume(struct lt_h2_stream *stream)
{
    if (!stream->is_deferred)
        return;
    stream->is_deferred = false;
    nghttp2_session_resume_data(stream->conn->session, (int32_t)stream->id);
}

static bool may_send(const struct lt_h2_stream *stream)
{
    LT_ASSERT(stream->has_sent_headers && !stream->has_ended);
    return !stream->is_reset;
}

static void note_queued(struct lt_h2_stream *stream, size_t len)
{
    stream->conn->queued += len;
    if (!lt_h2_stream_is_writable(stream))
        stream->was_full = true;
    resume(stream);
}

lt_rc lt_h2_stream_send(struct lt_h2_stream *stream, lt_str bytes)
{
    if (!may_send(stream))
        return LT_E_CLOSED;
    LT_TRY(lt_rope_add(&stream->queue, bytes));
    note_queued(stream, bytes.len);
    return LT_OK;
}

lt_rc lt_h2_stream_send_bytes(struct lt_h2_stream *stream, struct lt_bytes *owner, lt_str slice)
{
    if (!may_send(stream))
        return LT_E_CLOSED;
    LT_TRY(lt_rope_add_bytes(&stream->queue, owner, slice));
    note_queued(stream, slice.len);
    return LT_OK;
}

lt_rc lt_h2_stream_send_rope(struct lt_h2_stream *stream, struct lt_rope *rope)
{
    if (!may_send(stream))
        return LT_E_CLOSED;
    size_t len = lt_rope_len(rope);
    LT_TRY(lt_rope_move(&stream->queue, rope));
    note_queued(stream, len);
    return LT_OK;
}

lt_rc lt_h2_stream_end(struct lt_h2_stream *stream, const struct lt_h2_field *trailers,
                       size_t count)
{
    if (!may_send(stream))
        return LT_E_CLOSED;
    stream->has_ended = true;
    if (count > 0) {
        stream->trailers = copy_fields(trailers, count);
        stream->trailer_count = count;
    }
    resume(stream);
    return LT_OK;
}

void lt_h2_stream_close_after_end(struct lt_h2_stream *stream)
{
    LT_ASSERT(stream->conn->opts.is_server);
    stream->closes_after_end = true;
}

void lt_h2_stream_reset(struct lt_h2_stream *stream, uint32_t code)
{
    if (stream->is_reset)
        return;
    stream->is_reset = true;
    nghttp2_submit_rst_stream(stream->conn->session, NGHTTP2_FLAG_NONE, (int32_t)stream->id, code);
}

/* Whoever reads what comes may have more at once; it starts small, for most never need it. */
static void grow_window(struct lt_h2_stream *stream)
{
    struct lt_h2_conn *conn = stream->conn;
    if (stream->window_bytes >= conn->opts.stream_window_max || stream->is_reset)
        return;
    stream->window_bytes = LT_MIN(stream->window_bytes * 2, conn->opts.stream_window_max);
    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, (int32_t)stream->id,
                                          (int32_t)stream->window_bytes);
}

void lt_h2_stream_consume(struct lt_h2_stream *stream, size_t len)
{
    struct lt_h2_conn *conn = stream->conn;
    LT_ASSERT(len <= stream->unconsumed);
    stream->unconsumed -= len;
    conn->unconsumed -= len;
    size_t ahead = LT_MIN(len, stream->ahead);
    stream->ahead -= ahead;
    nghttp2_session_consume_stream(conn->session, (int32_t)stream->id, len);
    if (len > ahead)
        nghttp2_session_consume_connection(conn->session, len - ahead);
    stream->consumed += len;
    if (stream->consumed >= stream->window_bytes / 2) {
        stream->consumed = 0;
        grow_window(stream);
    }
}

size_t lt_h2_stream_unconsumed(const struct lt_h2_stream *stream)
{
    return stream->unconsumed;
}

bool lt_h2_stream_is_writable(const struct lt_h2_stream *stream)
{
    const struct lt_h2_opts *opts = &stream->conn->opts;
    bool is_crowded = opts->conn_queue_bytes != 0 && stream->conn->queued >= opts->conn_queue_bytes;
    return lt_rope_len(&stream->queue) <
           (is_crowded ? LT_MIN(opts->send_queue_bytes, (size_t)LT_H2_QUEUE_LEAST)
                       : opts->send_queue_bytes);
}

bool lt_h2_stream_head_is_out(const struct lt_h2_stream *stream)
{
    return stream->head_end != 0 && stream->conn->sent >= stream->head_end;
}

size_t lt_h2_stream_queued(const struct lt_h2_stream *stream)
{
    return lt_rope_len(&stream->queue);
}
