/*
 * http/h2_conn.c - birth, feeding, draining and death of a connection.
 * What comes in: h2_recv.c. What goes out: h2_send.c.
 * Start at: lt_h2_conn_new(), lt_h2_conn_feed().
 */
#include "http/h2_priv.h"

#include <stdlib.h>

enum {
    CONTINUATIONS_MAX = 8, /* behind one HEADERS (CVE-2024-28182) */
    SETTINGS_MAX = 32,     /* entries in one SETTINGS frame */
    OUTBOUND_ACKS_MAX = 1000,
    STREAMS_BEFORE_SETTINGS = 100, /* the least a peer should allow: RFC 9113 section 6.5.2 */
    FRAME_BYTES_LARGEST = 1 << 24,
};

const char *lt_h2_fail_name(lt_h2_fail fail)
{
    static const char *const names[] = {
#define FAIL_NAME(id, text) [LT_H2_FAIL_##id] = text,
        LT_H2_FAILS(FAIL_NAME)
#undef FAIL_NAME
    };
    LT_ASSERT(fail < LT_H2_FAIL_COUNT);
    return names[fail];
}

const char *lt_h2_code_name(uint32_t code)
{
    return nghttp2_http2_strerror(code);
}

/* --- birth --- */

static nghttp2_option *make_options(const struct lt_h2_opts *opts)
{
    nghttp2_option *option = NULL;
    int rc = nghttp2_option_new(&option);
    LT_ASSERT(rc == 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    /* blanks around a value are taken off by who reads it (h2_head.c), as in HTTP/1 */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option, 1);
    nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX);
    nghttp2_option_set_max_settings(option, SETTINGS_MAX);
    nghttp2_option_set_max_outbound_ack(option, OUTBOUND_ACKS_MAX);
    /* the guard counts resets on our own clock; nghttp2's count must not come first */
    nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX);
    nghttp2_option_set_no_closed_streams(option, 1); /* it would keep as many as may be open */
    nghttp2_option_set_peer_max_concurrent_streams(option, STREAMS_BEFORE_SETTINGS);
    if (!opts->is_server)
        nghttp2_option_set_max_reserved_remote_streams(option, 0);
    return option;
}

static void make_session(struct lt_h2_conn *conn)
{
    nghttp2_session_callbacks *callbacks = NULL;
    int rc = nghttp2_session_callbacks_new(&callbacks);
    LT_ASSERT(rc == 0);
    lt_h2_recv_callbacks(callbacks);
    lt_h2_send_callbacks(callbacks);
    nghttp2_option *option = make_options(&conn->opts);
    rc = conn->opts.is_server
             ? nghttp2_session_server_new2(&conn->session, callbacks, conn, option)
             : nghttp2_session_client_new2(&conn->session, callbacks, conn, option);
    LT_ASSERT(rc == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
}

static void submit_settings(struct lt_h2_conn *conn)
{
    const struct lt_h2_opts *opts = &conn->opts;
    nghttp2_settings_entry entries[8] = {
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, opts->header_table_bytes},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, opts->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, opts->frame_bytes_max},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, opts->header_list_bytes_max},
    };
    size_t count = 4;
    if (opts->is_server)
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                    opts->concurrent_streams_max};
    else
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    if (opts->is_server && opts->allow_connect_protocol)
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    int rc = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, entries, count);
    LT_ASSERT(rc == 0);
    rc = nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)opts->conn_window_bytes);
    LT_ASSERT(rc == 0);
}

struct lt_h2_conn *lt_h2_conn_new(const struct lt_h2_opts *opts, const struct lt_h2_events *events,
                                  void *user)
{
    LT_ASSERT(events->on_headers != NULL && events->on_closed != NULL);
    LT_ASSERT(opts->stream_window_bytes <= INT32_MAX && opts->conn_window_bytes <= INT32_MAX);
    LT_ASSERT(opts->frame_bytes_max >= 16384 && opts->frame_bytes_max < FRAME_BYTES_LARGEST);
    struct lt_h2_conn *conn = lt_new(struct lt_h2_conn);
    conn->opts = *opts;
    conn->events = events;
    conn->user = user;
    lt_list_init(&conn->streams);
    lt_list_init(&conn->writable);
    lt_rope_init(&conn->out, LT_H2_OUT_BYTES + 2 * FRAME_BYTES_LARGEST);
    lt_h2_guard_init(&conn->guard, opts);
    make_session(conn);
    submit_settings(conn);
    return conn;
}

/* --- death --- */

void lt_h2_conn_free(struct lt_h2_conn **conn_ref)
{
    struct lt_h2_conn *conn = *conn_ref;
    if (conn == NULL)
        return;
    *conn_ref = NULL;
    LT_ASSERT(!conn->is_inside);
    conn->is_inside = true;
    while (!lt_list_is_empty(&conn->streams)) {
        struct lt_h2_stream *stream = lt_list_first(&conn->streams, struct lt_h2_stream, link);
        nghttp2_session_set_stream_user_data(conn->session, (int32_t)stream->id, NULL);
        lt_h2_stream_finish(stream, LT_H2_END_CONN, LT_H2_NO_ERROR);
    }
    nghttp2_session_del(conn->session);
    lt_h2_block_fini(&conn->block);
    lt_rope_fini(&conn->out);
    free(conn);
}

void lt_h2_conn_fail(struct lt_h2_conn *conn, lt_h2_fail fail, lt_rc rc, uint32_t code)
{
    if (conn->failed != LT_OK)
        return;
    conn->failed = rc;
    conn->stats.fail = fail;
    conn->stats.news++;
    nghttp2_session_terminate_session(conn->session, code);
}

/* --- bytes in --- */

static void fail_by(struct lt_h2_conn *conn, ssize_t error)
{
    switch (error) {
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
        lt_h2_conn_fail(conn, LT_H2_FAIL_NOT_HTTP2, LT_E_UNSUPPORTED, LT_H2_PROTOCOL_ERROR);
        break;
    case NGHTTP2_ERR_FLOODED:
        lt_h2_conn_fail(conn, LT_H2_FAIL_CONTROL_FLOOD, LT_E_LIMIT, LT_H2_ENHANCE_YOUR_CALM);
        break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        lt_h2_conn_fail(conn, LT_H2_FAIL_CONTINUATION_FLOOD, LT_E_LIMIT, LT_H2_ENHANCE_YOUR_CALM);
        break;
    default: lt_h2_conn_fail(conn, LT_H2_FAIL_PROTOCOL, LT_E_BAD, LT_H2_PROTOCOL_ERROR); break;
    }
}

lt_rc lt_h2_conn_feed(struct lt_h2_conn *conn, lt_str bytes, uint64_t now_ns)
{
    LT_ASSERT(!conn->is_inside);
    if (conn->failed != LT_OK)
        return conn->failed;
    conn->now_ns = now_ns;
    conn->is_inside = true;
    size_t good = conn->opts.is_server ? lt_h2_scan_bytes(&conn->guard.scan, bytes) : bytes.len;
    ssize_t used = nghttp2_session_mem_recv(conn->session, (const uint8_t *)bytes.ptr, good);
    conn->is_inside = false;
    if (used < 0)
        fail_by(conn, used);
    else if (good < bytes.len)
        lt_h2_conn_fail(conn, LT_H2_FAIL_STREAM_CLOSED, LT_E_BAD, LT_H2_STREAM_CLOSED);
    if (conn->failed != LT_OK)
        return conn->failed;
    return lt_h2_conn_is_finished(conn) ? LT_EOF : LT_OK;
}

/* --- bytes out --- */

int lt_h2_conn_drain(struct lt_h2_conn *conn, struct iovec *iov, int max)
{
    LT_ASSERT(!conn->is_inside);
    conn->is_inside = true;
    lt_h2_conn_fill(conn);
    conn->is_inside = false;
    return lt_rope_iov(&conn->out, iov, max);
}

void lt_h2_conn_frame(struct lt_h2_conn *conn)
{
    if (conn->is_inside)
        return;
    conn->is_inside = true;
    lt_h2_conn_fill(conn);
    conn->is_inside = false;
}

void lt_h2_conn_sent(struct lt_h2_conn *conn, size_t len)
{
    lt_rope_consume(&conn->out, len);
    conn->sent += len;
}

size_t lt_h2_conn_unconsumed(const struct lt_h2_conn *conn)
{
    return conn->unconsumed;
}

bool lt_h2_conn_has_output(const struct lt_h2_conn *conn)
{
    return lt_rope_len(&conn->out) > 0 || nghttp2_session_want_write(conn->session) != 0;
}

bool lt_h2_conn_is_finished(const struct lt_h2_conn *conn)
{
    if (lt_h2_conn_has_output(conn))
        return false;
    return conn->failed != LT_OK || nghttp2_session_want_read(conn->session) == 0;
}

/* --- the connection's own actions --- */

void lt_h2_conn_shutdown_notice(struct lt_h2_conn *conn)
{
    LT_ASSERT(conn->opts.is_server);
    nghttp2_submit_shutdown_notice(conn->session);
}

void lt_h2_conn_goaway(struct lt_h2_conn *conn, uint32_t code, lt_str debug)
{
    int32_t last_id = nghttp2_session_get_last_proc_stream_id(conn->session);
    conn->has_sent_goaway = true;
    conn->own_goaway_last_id = (uint32_t)last_id;
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last_id, code,
                          (const uint8_t *)debug.ptr, debug.len);
}

bool lt_h2_conn_is_begun(const struct lt_h2_conn *conn)
{
    return conn->has_peer_settings;
}

uint32_t lt_h2_conn_open_block(const struct lt_h2_conn *conn)
{
    const struct lt_h2_scan *scan = &conn->guard.scan;
    return scan->goes_on || (scan->is_block && scan->skip > 0) ? LT_MAX(scan->blocks, 1u) : 0;
}

bool lt_h2_conn_is_going_away(const struct lt_h2_conn *conn)
{
    return conn->has_peer_goaway || conn->has_sent_goaway || conn->failed != LT_OK;
}

void lt_h2_conn_ping(struct lt_h2_conn *conn, uint64_t opaque)
{
    uint8_t bytes[8];
    memcpy(bytes, &opaque, sizeof(bytes));
    nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, bytes);
}

void *lt_h2_conn_user(const struct lt_h2_conn *conn)
{
    return conn->user;
}

size_t lt_h2_conn_stream_count(const struct lt_h2_conn *conn)
{
    return conn->stream_count;
}

const struct lt_h2_stats *lt_h2_conn_stats(const struct lt_h2_conn *conn)
{
    return &conn->stats;
}

uint32_t lt_h2_conn_streams_max(const struct lt_h2_conn *conn)
{
    return conn->has_peer_settings ? nghttp2_session_get_remote_settings(
                                         conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                                   : (uint32_t)STREAMS_BEFORE_SETTINGS;
}

bool lt_h2_conn_can_open(const struct lt_h2_conn *conn)
{
    return !lt_h2_conn_is_going_away(conn) && conn->stream_count < lt_h2_conn_streams_max(conn) &&
           nghttp2_session_check_request_allowed(conn->session) != 0;
}
