/*
 * http/grpc_conn.c - an HTTP/2 connection on a socket on a loop: connect, TLS, reading, flushing,
 * keepalive, the end. Reading is bounded a turn, writing happens once at its end. Everything that
 * ends the connection goes through lt_grpc_conn_die, and what follows from that runs as a task,
 * when nobody else is on the stack.
 * Start at: on_ready(), run_work().
 */
#include "http/grpc_conn_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    READ_BYTES = 32 * 1024,
    READS_A_TURN = 16,
    WRITES_A_TURN = 32,
    IOVS = 64,
    PREFACE_BYTES = 24, /* RFC 9113 section 3.4 */
};

static const char HTTP1_REFUSAL[] = "HTTP/1.1 505 HTTP Version Not Supported\r\n"
                                    "content-type: text/plain\r\n"
                                    "content-length: 31\r\n"
                                    "connection: close\r\n"
                                    "\r\n"
                                    "this port speaks gRPC (HTTP/2)\n";

/* --- the end --- */

void lt_grpc_conn_die(struct lt_grpc_conn *conn, const char *cause)
{
    if (conn->state == LT_GRPC_CONN_DEAD)
        return;
    conn->state = LT_GRPC_CONN_DEAD;
    conn->is_http2_failure = lt_h2_conn_stats(conn->h2)->fail > LT_H2_FAIL_NOT_HTTP2;
    snprintf(conn->cause, sizeof(conn->cause), "%s", cause);
    lt_loop_io_del(conn->loop, &conn->io);
    lt_loop_timer_cancel(conn->loop, &conn->deadline);
    lt_loop_timer_cancel(conn->loop, &conn->keepalive);
    lt_loop_defer(conn->loop, &conn->work);
}

static void bury(struct lt_grpc_conn *conn)
{
    lt_h2_conn_free(&conn->h2);
    lt_transport_fini(&conn->transport);
    lt_task_cancel(&conn->work); /* stream actions of the last events may have queued it */
    conn->ops->on_gone(conn);
}

static void die_of_transport(struct lt_grpc_conn *conn, lt_rc rc)
{
    if (rc == LT_EOF)
        lt_grpc_conn_die(conn, "the peer closed the connection");
    else if (rc == LT_E_TLS)
        lt_grpc_conn_die(conn, lt_tls_error(&conn->transport));
    else
        lt_grpc_conn_die(conn, "the connection was reset");
}

/* --- writing --- */

static void watch(struct lt_grpc_conn *conn, bool wants_out)
{
    if (conn->state == LT_GRPC_CONN_DEAD)
        return;
    lt_loop_io_set(conn->loop, &conn->io, EPOLLIN | (wants_out ? EPOLLOUT : 0));
}

static void close_politely(struct lt_grpc_conn *conn, const char *cause)
{
    (void)lt_transport_shutdown_write(&conn->transport);
    lt_grpc_conn_die(conn, cause);
}

static const char *finish_cause(const struct lt_grpc_conn *conn)
{
    lt_h2_fail fail = lt_h2_conn_stats(conn->h2)->fail;
    return fail == LT_H2_FAIL_NONE ? "finished" : lt_h2_fail_name(fail);
}

/* True when the socket takes no more for now. */
static bool write_some(struct lt_grpc_conn *conn)
{
    struct iovec iov[IOVS];
    for (int i = 0; i < WRITES_A_TURN; i++) {
        int count = lt_h2_conn_drain(conn->h2, iov, IOVS);
        if (count == 0)
            return false;
        size_t len = 0;
        lt_rc rc = lt_transport_writev(&conn->transport, iov, count, &len);
        if (rc == LT_AGAIN)
            return true;
        if (rc != LT_OK) {
            die_of_transport(conn, rc);
            return true;
        }
        lt_h2_conn_sent(conn->h2, len);
    }
    return true;
}

/*
 * A server says nothing before the client's preface was good: HTTP/1 clients shall not get frames.
 */
static bool may_write(const struct lt_grpc_conn *conn)
{
    return conn->state == LT_GRPC_CONN_OPEN &&
           (!conn->is_server || conn->is_established ||
            lt_h2_conn_stats(conn->h2)->fail != LT_H2_FAIL_NONE);
}

static void flush(struct lt_grpc_conn *conn)
{
    if (!may_write(conn))
        return;
    bool is_blocked = write_some(conn);
    if (conn->state != LT_GRPC_CONN_OPEN)
        return;
    watch(conn, is_blocked && !conn->transport.wants_read);
    if (lt_h2_conn_is_finished(conn->h2))
        close_politely(conn, finish_cause(conn));
}

void lt_grpc_conn_kick(struct lt_grpc_conn *conn)
{
    lt_loop_defer(conn->loop, &conn->work);
}

/* --- reading --- */

void lt_grpc_conn_established(struct lt_grpc_conn *conn)
{
    if (conn->is_established || conn->state == LT_GRPC_CONN_DEAD)
        return;
    conn->is_established = true;
    lt_loop_timer_cancel(conn->loop, &conn->deadline);
    if (conn->keepalive_interval_ns != 0)
        lt_loop_timer_set(conn->loop, &conn->keepalive, conn->keepalive_interval_ns);
}

/* What is no HTTP/2 is mostly HTTP/1: those get an answer that they can read. */
static void refuse(struct lt_grpc_conn *conn, lt_str first_bytes)
{
    conn->state = LT_GRPC_CONN_REFUSING;
    conn->is_http1 = first_bytes.len > 0 && first_bytes.ptr[0] >= 'A' && first_bytes.ptr[0] <= 'Z';
    if (conn->is_http1) {
        struct iovec iov = {(void *)HTTP1_REFUSAL, sizeof(HTTP1_REFUSAL) - 1};
        size_t len = 0;
        (void)lt_transport_writev(&conn->transport, &iov, 1, &len);
    }
    close_politely(conn, "the peer does not speak HTTP/2");
}

static void feed(struct lt_grpc_conn *conn, lt_str bytes)
{
    bool is_first = conn->bytes_read == 0;
    conn->bytes_read += bytes.len;
    conn->read_at_ns = lt_loop_now_ns(conn->loop);
    conn->pinged_at_ns = 0;
    lt_rc rc = lt_h2_conn_feed(conn->h2, bytes, conn->read_at_ns);
    if (rc == LT_E_UNSUPPORTED && conn->is_server) {
        refuse(conn, is_first ? bytes : LT_STR_NULL);
        return;
    }
    if (rc == LT_OK && conn->is_server && conn->bytes_read >= PREFACE_BYTES)
        lt_grpc_conn_established(conn);
    if (rc != LT_OK) {
        flush(conn);
        close_politely(conn, finish_cause(conn));
    }
}

static void read_some(struct lt_grpc_conn *conn)
{
    char bytes[READ_BYTES];
    conn->read_more = false;
    for (int i = 0; i < READS_A_TURN && conn->state == LT_GRPC_CONN_OPEN; i++) {
        size_t len = 0;
        lt_rc rc = lt_transport_read(&conn->transport, bytes, sizeof(bytes), &len);
        if (rc == LT_AGAIN)
            return;
        if (rc != LT_OK) {
            die_of_transport(conn, rc);
            return;
        }
        feed(conn, lt_str_make(bytes, len));
    }
    conn->read_more = conn->state == LT_GRPC_CONN_OPEN && conn->transport.has_pending;
}

/* --- the turn --- */

static void handshake(struct lt_grpc_conn *conn)
{
    lt_rc rc = lt_transport_handshake(&conn->transport);
    if (rc == LT_OK) {
        conn->state = LT_GRPC_CONN_OPEN;
        lt_grpc_conn_kick(conn);
    } else if (rc == LT_AGAIN) {
        lt_loop_io_set(conn->loop, &conn->io, conn->transport.wants_write ? EPOLLOUT : EPOLLIN);
    } else {
        die_of_transport(conn, rc);
    }
}

static void finish_connect(struct lt_grpc_conn *conn)
{
    int error = lt_sock_error(conn->io.fd);
    if (error != 0) {
        char cause[LT_GRPC_CONN_CAUSE_MAX];
        snprintf(cause, sizeof(cause), "cannot connect: %s", strerrordesc_np(error));
        lt_grpc_conn_die(conn, cause);
        return;
    }
    conn->state = LT_GRPC_CONN_HANDSHAKE;
}

static void after_turn(struct lt_grpc_conn *conn)
{
    if (conn->ops->on_turn != NULL && conn->state == LT_GRPC_CONN_OPEN)
        conn->ops->on_turn(conn);
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct lt_grpc_conn *conn = LT_CONTAINER_OF(io, struct lt_grpc_conn, io);
    if (conn->state == LT_GRPC_CONN_CONNECTING)
        finish_connect(conn);
    if (conn->state == LT_GRPC_CONN_HANDSHAKE)
        handshake(conn);
    if (conn->state == LT_GRPC_CONN_OPEN) {
        read_some(conn);
        after_turn(conn);
        lt_grpc_conn_kick(conn);
    }
}

static void run_work(struct lt_task *task)
{
    struct lt_grpc_conn *conn = LT_CONTAINER_OF(task, struct lt_grpc_conn, work);
    if (conn->state == LT_GRPC_CONN_DEAD) {
        bury(conn);
        return;
    }
    if (conn->read_more)
        read_some(conn);
    flush(conn);
    after_turn(conn);
    if (conn->read_more)
        lt_grpc_conn_kick(conn);
}

/* --- timers --- */

static void on_deadline(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_grpc_conn *conn = LT_CONTAINER_OF(timer, struct lt_grpc_conn, deadline);
    lt_grpc_conn_die(conn, conn->state == LT_GRPC_CONN_CONNECTING ? "connecting timed out"
                                                                  : "the handshake timed out");
}

/* Any byte counts as a sign of life, as in gRPC's own implementations. */
static void on_keepalive(struct lt_timer *timer, uint64_t now_ns)
{
    struct lt_grpc_conn *conn = LT_CONTAINER_OF(timer, struct lt_grpc_conn, keepalive);
    if (conn->pinged_at_ns != 0) {
        conn->is_keepalive_timeout = true;
        lt_grpc_conn_die(conn, "keepalive timed out");
        return;
    }
    bool has_reason = conn->is_server || lt_h2_conn_stream_count(conn->h2) > 0;
    uint64_t quiet_ns = now_ns > conn->read_at_ns ? now_ns - conn->read_at_ns : 0;
    uint64_t wait_ns = conn->keepalive_interval_ns;
    if (quiet_ns < wait_ns) {
        wait_ns -= quiet_ns;
    } else if (has_reason) {
        lt_h2_conn_ping(conn->h2, now_ns);
        lt_grpc_conn_kick(conn);
        conn->pinged_at_ns = now_ns;
        wait_ns = conn->keepalive_timeout_ns;
    }
    lt_loop_timer_set(conn->loop, timer, wait_ns);
}

/* --- the begin --- */

void lt_grpc_conn_init(struct lt_grpc_conn *conn, struct lt_loop *loop,
                       const struct lt_grpc_conn_ops *ops, struct lt_transport transport,
                       struct lt_h2_conn *h2, bool is_server, bool is_connecting,
                       uint64_t timeout_ns)
{
    *conn = (struct lt_grpc_conn){
        .loop = loop,
        .ops = ops,
        .h2 = h2,
        .transport = transport,
        .state = is_connecting ? LT_GRPC_CONN_CONNECTING : LT_GRPC_CONN_HANDSHAKE,
        .is_server = is_server,
        .read_at_ns = lt_loop_now_ns(loop),
    };
    lt_io_init(&conn->io, on_ready);
    conn->io.fd = transport.fd;
    lt_task_init(&conn->work, run_work);
    lt_timer_init(&conn->deadline, on_deadline);
    lt_timer_init(&conn->keepalive, on_keepalive);
    lt_loop_timer_set(loop, &conn->deadline, timeout_ns);
    /* both: a client's handshake begins with its own hello */
    lt_loop_io_set(loop, &conn->io, is_server ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void lt_grpc_conn_set_keepalive(struct lt_grpc_conn *conn, uint64_t interval_ns,
                                uint64_t timeout_ns)
{
    conn->keepalive_interval_ns = interval_ns;
    conn->keepalive_timeout_ns = timeout_ns;
}

/* --- inbox --- */

void lt_grpc_inbox_init(struct lt_grpc_inbox *inbox, size_t message_bytes_max, size_t window_bytes,
                        lt_grpc_inbox_fn *on_message, void *ctx)
{
    *inbox = (struct lt_grpc_inbox){.on_message = on_message, .ctx = ctx};
    lt_grpc_reader_init(&inbox->reader, message_bytes_max);
    /*
     * the peer may keep to the window, and still have sent what was in flight when it shrank: twice
     * is ample
     */
    lt_buf_init(&inbox->held, window_bytes * 2);
}

void lt_grpc_inbox_fini(struct lt_grpc_inbox *inbox)
{
    lt_grpc_reader_fini(&inbox->reader);
    lt_buf_fini(&inbox->held);
}

/*
 * Hands out messages until the bytes, or the owner's will, are at an end. *bytes is moved past what
 * was used.
 */
static lt_rc take_messages(struct lt_grpc_inbox *inbox, lt_str *bytes)
{
    while (!inbox->is_paused && !inbox->is_closed) {
        lt_str message = LT_STR_NULL;
        lt_rc rc = lt_grpc_reader_next(&inbox->reader, bytes, &message);
        if (rc != LT_OK)
            return rc == LT_AGAIN ? LT_OK : rc;
        inbox->on_message(inbox->ctx, message);
    }
    if (inbox->is_closed)
        *bytes = lt_str_from(*bytes, bytes->len);
    return LT_OK;
}

lt_rc lt_grpc_inbox_feed(struct lt_grpc_inbox *inbox, struct lt_h2_stream *h2, lt_str bytes)
{
    size_t before = bytes.len;
    if (lt_grpc_inbox_is_empty(inbox))
        LT_TRY(take_messages(inbox, &bytes));
    lt_h2_stream_consume(h2, before - bytes.len);
    return lt_buf_append_str(&inbox->held, bytes);
}

lt_rc lt_grpc_inbox_run(struct lt_grpc_inbox *inbox, struct lt_h2_stream *h2)
{
    lt_str bytes = lt_buf_str(&inbox->held);
    size_t before = bytes.len;
    LT_TRY(take_messages(inbox, &bytes));
    lt_buf_consume(&inbox->held, before - bytes.len);
    if (h2 != NULL)
        lt_h2_stream_consume(h2, before - bytes.len);
    if (lt_grpc_inbox_is_empty(inbox))
        lt_buf_clear(&inbox->held, 0);
    return LT_OK;
}

lt_grpc_code lt_grpc_inbox_code(lt_rc rc, const char **ret_text)
{
    switch (rc) {
    case LT_E_LIMIT:
        *ret_text = "a message is larger than the limit";
        return LT_GRPC_RESOURCE_EXHAUSTED;
    case LT_E_UNSUPPORTED:
        *ret_text = "compressed messages are not supported";
        return LT_GRPC_UNIMPLEMENTED;
    default: *ret_text = "message framing is broken"; return LT_GRPC_INTERNAL;
    }
}

/* --- header fields, and messages out --- */

struct lt_h2_field *lt_grpc_copy_fields(const struct lt_h2_fields *fields)
{
    size_t bytes = 0;
    for (size_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len + fields->items[i].value.len;
    struct lt_h2_field *copy = lt_malloc(fields->count * sizeof(*copy) + bytes);
    char *at = (char *)(copy + fields->count);
    for (size_t i = 0; i < fields->count; i++) {
        lt_str name = fields->items[i].name, value = fields->items[i].value;
        copy[i] = (struct lt_h2_field){
            {at, name.len}, {at + name.len, value.len}, fields->items[i].is_secret};
        if (name.len > 0)
            memcpy(at, name.ptr, name.len);
        if (value.len > 0)
            memcpy(at + name.len, value.ptr, value.len);
        at += name.len + value.len;
    }
    return copy;
}

lt_str lt_grpc_find_field(const struct lt_h2_field *fields, size_t count, lt_str name)
{
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eq(fields[i].name, name))
            return fields[i].value;
    }
    return LT_STR_NULL;
}

lt_rc lt_grpc_send(struct lt_h2_stream *h2, lt_str message)
{
    struct lt_rope rope;
    lt_rope_init(&rope, SIZE_MAX);
    lt_rc rc = lt_rope_add(&rope, message);
    if (rc == LT_OK)
        rc = lt_grpc_send_rope(h2, &rope);
    lt_rope_fini(&rope);
    return rc;
}

lt_rc lt_grpc_send_rope(struct lt_h2_stream *h2, struct lt_rope *message)
{
    if (lt_rope_len(message) > UINT32_MAX)
        return LT_E_LIMIT;
    char prefix[LT_GRPC_PREFIX_BYTES];
    lt_grpc_prefix(lt_rope_len(message), prefix);
    struct lt_rope framed;
    lt_rope_init(&framed, SIZE_MAX);
    lt_rc rc = lt_rope_add(&framed, lt_str_make(prefix, sizeof(prefix)));
    if (rc == LT_OK)
        rc = lt_rope_move(&framed, message);
    if (rc == LT_OK)
        rc = lt_h2_stream_send_rope(h2, &framed);
    /* refused: the caller keeps its message */
    if (rc != LT_OK && lt_rope_len(&framed) > 0) {
        lt_rope_consume(&framed, sizeof(prefix));
        lt_rc moved = lt_rope_move(message, &framed);
        LT_ASSERT(moved == LT_OK);
    }
    lt_rope_fini(&framed);
    return rc;
}
