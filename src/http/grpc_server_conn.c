/*
 * http/grpc_server_conn.c - one connection of a gRPC server, and its calls.
 * A call is an HTTP/2 stream with a method's handler; what is wrong with a request is answered
 * here, without a handler.
 * Trust: requests are a stranger's. Who the peer is was checked by TLS;
 * what it may do, the handler judges.
 * Start at: on_headers(), lt_grpc_stream_finish().
 */
#include "http/grpc_server_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MESSAGE_BYTES_DEFAULT = 4 << 20, /* what gRPC servers take unless told otherwise */
    STATUS_TEXT_MAX = 2048,
};
/* Between the notice and the GOAWAY that counts: time for requests that are on their way. */
static const uint64_t NOTICE_NS = 100 * LT_NS_PER_MS;

typedef enum { LIFE_YOUNG, LIFE_NOTICED, LIFE_GRACE } life;

struct lt_grpc_server_conn {
    struct lt_grpc_conn base;
    struct lt_grpc_server *server; /* borrowed */
    struct lt_list link;
    struct lt_grpc_peer peer;
    struct lt_timer life_timer;
    life life;
    uint64_t grace_ns;
    bool has_peer; /* peer's TLS half is filled in */
};

struct lt_grpc_stream {
    struct lt_grpc_server_conn *conn; /* borrowed: outlives its streams */
    struct lt_h2_stream *h2;          /* borrowed: tells us before it goes */
    const struct lt_grpc_method *method;
    void *user;
    struct lt_h2_field *fields; /* owned */
    size_t field_count;
    struct lt_grpc_inbox inbox;
    struct lt_timer deadline;
    struct lt_task resume;
    lt_grpc_code own_code; /* when not OK: what on_closed says, whatever h2 says */
    bool has_headers;      /* response headers are out */
    bool is_finished;
    bool has_input_end; /* the client's last byte came; on_half_close may wait for a pause */
    bool has_half_closed;
};

/* --- answers --- */

static const struct lt_h2_field STATUS_200 = {{":status", 7}, {"200", 3}, false};
static const struct lt_h2_field CONTENT_TYPE = {
    {"content-type", 12}, {"application/grpc", 16}, false};

struct status_fields {
    struct lt_h2_field fields[5];
    size_t count;
    char number[16];
    struct lt_buf text;
};

static void add_field(struct status_fields *status, struct lt_h2_field field)
{
    LT_ASSERT(status->count < LT_ARRAY_LEN(status->fields));
    status->fields[status->count++] = field;
}

/*
 * grpc-status and grpc-message, behind the response headers when those are not out yet ("trailers
 * only").
 */
static void status_init(struct status_fields *status, bool with_headers, lt_grpc_code code,
                        lt_str message)
{
    *status = (struct status_fields){0};
    lt_buf_init(&status->text, STATUS_TEXT_MAX * 3);
    if (with_headers) {
        add_field(status, STATUS_200);
        add_field(status, CONTENT_TYPE);
    }
    int len = snprintf(status->number, sizeof(status->number), "%d", (int)code);
    add_field(status,
              (struct lt_h2_field){LT_STR("grpc-status"), {status->number, (size_t)len}, false});
    lt_rc rc = lt_grpc_message_encode(lt_str_slice(message, 0, STATUS_TEXT_MAX), &status->text);
    LT_ASSERT(rc == LT_OK);
    if (lt_buf_len(&status->text) > 0)
        add_field(status,
                  (struct lt_h2_field){LT_STR("grpc-message"), lt_buf_str(&status->text), false});
    if (code == LT_GRPC_UNIMPLEMENTED)
        add_field(status,
                  (struct lt_h2_field){LT_STR("grpc-accept-encoding"), LT_STR("identity"), false});
}

/* A stream that is lost already needs no answer. */
static void respond_whole(struct lt_h2_stream *h2, const struct lt_h2_field *fields, size_t count)
{
    lt_h2_stream_close_after_end(h2);
    lt_rc rc = lt_h2_stream_respond(h2, fields, count, true);
    LT_ASSERT(rc == LT_OK || rc == LT_E_CLOSED);
}

/* Answers a request that gets no handler. */
static void refuse_call(struct lt_h2_stream *h2, lt_grpc_code code, const char *message)
{
    struct status_fields status;
    status_init(&status, true, code, lt_str_of(message));
    respond_whole(h2, status.fields, status.count);
    lt_buf_fini(&status.text);
}

static void refuse_http(struct lt_h2_stream *h2, lt_str http_status)
{
    struct lt_h2_field fields[] = {{LT_STR(":status"), http_status, false}};
    respond_whole(h2, fields, LT_ARRAY_LEN(fields));
}

static void finish(struct lt_grpc_stream *stream, lt_grpc_code code, lt_str message)
{
    if (stream->is_finished)
        return;
    stream->is_finished = true;
    stream->inbox.is_closed = true;
    struct status_fields status;
    status_init(&status, !stream->has_headers, code, message);
    if (stream->has_headers) {
        lt_h2_stream_close_after_end(stream->h2);
        lt_rc rc = lt_h2_stream_end(stream->h2, status.fields, status.count);
        LT_ASSERT(rc == LT_OK || rc == LT_E_CLOSED);
    } else {
        respond_whole(stream->h2, status.fields, status.count);
    }
    lt_buf_fini(&status.text);
    lt_grpc_conn_kick(&stream->conn->base);
}

/* The server's own word, which on_closed repeats. */
static void finish_by_server(struct lt_grpc_stream *stream, lt_grpc_code code, const char *message)
{
    if (stream->is_finished)
        return;
    stream->own_code = code;
    finish(stream, code, lt_str_of(message));
}

/* --- a call --- */

static void on_inbox_message(void *ctx, lt_str message)
{
    struct lt_grpc_stream *stream = ctx;
    stream->method->handler->on_message(stream, message);
}

static void on_deadline(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_grpc_stream *stream = LT_CONTAINER_OF(timer, struct lt_grpc_stream, deadline);
    finish_by_server(stream, LT_GRPC_DEADLINE_EXCEEDED, "the deadline passed");
}

/* After input, or a pause: what is wrong with it, or its end. */
static void after_input(struct lt_grpc_stream *stream, lt_rc rc)
{
    if (rc != LT_OK) {
        const char *text = NULL;
        lt_grpc_code code = lt_grpc_inbox_code(rc, &text);
        finish_by_server(stream, code, text);
        return;
    }
    if (!stream->has_input_end || stream->has_half_closed || stream->is_finished ||
        stream->inbox.is_paused || !lt_grpc_inbox_is_empty(&stream->inbox))
        return;
    stream->has_half_closed = true;
    if (lt_grpc_reader_is_partial(&stream->inbox.reader))
        finish_by_server(stream, LT_GRPC_INTERNAL, "the request ended inside a message");
    else if (stream->method->handler->on_half_close != NULL)
        stream->method->handler->on_half_close(stream);
}

static void run_resume(struct lt_task *task)
{
    struct lt_grpc_stream *stream = LT_CONTAINER_OF(task, struct lt_grpc_stream, resume);
    after_input(stream, lt_grpc_inbox_run(&stream->inbox, stream->h2));
    lt_grpc_conn_kick(&stream->conn->base);
}

static const struct lt_grpc_method *find_method(const struct lt_grpc_server *server, lt_str path)
{
    for (size_t i = 0; i < server->method_count; i++) {
        if (lt_str_eqz(path, server->methods[i].path))
            return &server->methods[i];
    }
    return NULL;
}

/* A TLS peer is known only after the handshake. */
static void learn_peer(struct lt_grpc_server_conn *conn)
{
    if (conn->has_peer)
        return;
    conn->has_peer = true;
    conn->peer.is_tls = conn->base.transport.tls != NULL;
    if (!conn->peer.is_tls)
        return;
    conn->peer.is_verified = lt_tls_has_verified_peer(&conn->base.transport);
    if (conn->peer.is_verified)
        conn->peer.uri = lt_tls_peer_uri(&conn->base.transport);
}

static void open_call(struct lt_grpc_server_conn *conn, struct lt_h2_stream *h2,
                      const struct lt_h2_fields *fields, const struct lt_grpc_method *method,
                      uint64_t timeout_ns)
{
    learn_peer(conn);
    struct lt_grpc_stream *stream = lt_new(struct lt_grpc_stream);
    stream->conn = conn;
    stream->h2 = h2;
    stream->method = method;
    stream->fields = lt_grpc_copy_fields(fields);
    stream->field_count = fields->count;
    lt_grpc_inbox_init(&stream->inbox,
                       method->message_bytes_max != 0 ? method->message_bytes_max
                                                      : MESSAGE_BYTES_DEFAULT,
                       conn->server->opts.stream_window_bytes, on_inbox_message, stream);
    lt_timer_init(&stream->deadline, on_deadline);
    lt_task_init(&stream->resume, run_resume);
    if (timeout_ns != 0)
        lt_loop_timer_set(conn->base.loop, &stream->deadline, timeout_ns);
    lt_h2_stream_set_user(h2, stream);
    conn->server->stats.streams_total++;
    conn->server->stats.streams++;
    if (method->handler->on_open != NULL)
        method->handler->on_open(stream, method->service);
}

/* --- events of h2 --- */

static void on_headers(struct lt_h2_stream *h2, const struct lt_h2_fields *fields,
                       bool is_end LT_UNUSED)
{
    struct lt_grpc_server_conn *conn = lt_h2_conn_user(lt_h2_stream_conn(h2));
    lt_str content_type = lt_grpc_find_field(fields->items, fields->count, LT_STR("content-type"));
    lt_str timeout = lt_grpc_find_field(fields->items, fields->count, LT_STR("grpc-timeout"));
    lt_str path = lt_grpc_find_field(fields->items, fields->count, LT_STR(":path"));
    uint64_t timeout_ns = 0;
    if (fields->is_over_limit) {
        refuse_http(h2, LT_STR("431"));
    } else if (!lt_str_eqz(lt_grpc_find_field(fields->items, fields->count, LT_STR(":method")),
                           "POST")) {
        refuse_http(h2, LT_STR("405"));
    } else if (!lt_grpc_is_content_type(content_type)) {
        refuse_http(h2, LT_STR("415"));
    } else if (timeout.ptr != NULL && lt_grpc_timeout_parse(timeout, &timeout_ns) != LT_OK) {
        refuse_call(h2, LT_GRPC_INTERNAL, "grpc-timeout cannot be read");
    } else if (timeout.ptr != NULL && timeout_ns == 0) {
        refuse_call(h2, LT_GRPC_DEADLINE_EXCEEDED, "the deadline passed");
    } else {
        const struct lt_grpc_method *method = find_method(conn->server, path);
        if (method != NULL) {
            open_call(conn, h2, fields, method, timeout_ns);
        } else {
            conn->server->stats.unknown_methods++;
            refuse_call(h2, LT_GRPC_UNIMPLEMENTED, "no such method");
        }
    }
}

static void on_data(struct lt_h2_stream *h2, lt_str bytes)
{
    struct lt_grpc_stream *stream = lt_h2_stream_user(h2);
    if (stream == NULL)
        lt_h2_stream_consume(h2, bytes.len);
    else
        after_input(stream, lt_grpc_inbox_feed(&stream->inbox, h2, bytes));
}

static void on_end(struct lt_h2_stream *h2)
{
    struct lt_grpc_stream *stream = lt_h2_stream_user(h2);
    if (stream == NULL)
        return;
    stream->has_input_end = true;
    after_input(stream, LT_OK);
}

static void on_writable(struct lt_h2_stream *h2)
{
    struct lt_grpc_stream *stream = lt_h2_stream_user(h2);
    if (stream != NULL && stream->method->handler->on_writable != NULL)
        stream->method->handler->on_writable(stream);
}

static lt_grpc_code closed_code(const struct lt_grpc_stream *stream, lt_h2_end end)
{
    if (stream->own_code != LT_GRPC_OK)
        return stream->own_code;
    switch (end) {
    case LT_H2_END_CLEAN: return LT_GRPC_OK;
    case LT_H2_END_RESET_PEER: return LT_GRPC_CANCELLED;
    case LT_H2_END_RESET_LOCAL: return LT_GRPC_INTERNAL;
    case LT_H2_END_CONN:
    case LT_H2_END_UNPROCESSED: break;
    }
    return LT_GRPC_UNAVAILABLE;
}

static void on_closed(struct lt_h2_stream *h2, lt_h2_end end, uint32_t code LT_UNUSED)
{
    struct lt_grpc_stream *stream = lt_h2_stream_user(h2);
    if (stream == NULL)
        return;
    stream->is_finished = true;
    stream->inbox.is_closed = true;
    lt_loop_timer_cancel(stream->conn->base.loop, &stream->deadline);
    lt_task_cancel(&stream->resume);
    stream->conn->server->stats.streams--;
    if (stream->method->handler->on_closed != NULL)
        stream->method->handler->on_closed(stream, closed_code(stream, end));
    lt_task_cancel(&stream->resume);
    lt_grpc_inbox_fini(&stream->inbox);
    free(stream->fields);
    free(stream);
}

static const struct lt_h2_events H2_EVENTS = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

/* --- the life of a connection --- */

static void on_gone(struct lt_grpc_conn *base)
{
    struct lt_grpc_server_conn *conn = LT_CONTAINER_OF(base, struct lt_grpc_server_conn, base);
    struct lt_grpc_server *server = conn->server;
    server->stats.keepalive_timeouts += base->is_keepalive_timeout;
    server->stats.http1_refused += base->is_http1;
    server->stats.http2_failures += base->is_http2_failure;
    server->stats.handshake_failures += !base->is_established && !base->is_http1;
    lt_loop_timer_cancel(base->loop, &conn->life_timer);
    lt_list_remove(&conn->link);
    free(conn);
    lt_grpc_server_forget(server);
}

static const struct lt_grpc_conn_ops CONN_OPS = {.on_gone = on_gone};

/* Young, then told that the end is near, then at its end, then cut. */
static void on_life(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_grpc_server_conn *conn = LT_CONTAINER_OF(timer, struct lt_grpc_server_conn,
                                                       life_timer);
    struct lt_loop *loop = conn->base.loop;
    switch (conn->life) {
    case LIFE_YOUNG: lt_grpc_server_conn_drain(conn, conn->server->opts.age_grace_ns); return;
    case LIFE_NOTICED:
        conn->life = LIFE_GRACE;
        lt_h2_conn_goaway(conn->base.h2, LT_H2_NO_ERROR, LT_STR("graceful_stop"));
        lt_grpc_conn_kick(&conn->base);
        lt_loop_timer_set(loop, timer, conn->grace_ns);
        return;
    case LIFE_GRACE: lt_grpc_conn_die(&conn->base, "its time is over"); return;
    }
}

void lt_grpc_server_conn_drain(struct lt_grpc_server_conn *conn, uint64_t grace_ns)
{
    if (conn->life != LIFE_YOUNG || conn->base.state == LT_GRPC_CONN_DEAD)
        return;
    conn->life = LIFE_NOTICED;
    conn->grace_ns = grace_ns;
    lt_h2_conn_shutdown_notice(conn->base.h2);
    lt_grpc_conn_kick(&conn->base);
    lt_loop_timer_set(conn->base.loop, &conn->life_timer, LT_MIN(NOTICE_NS, grace_ns));
}

void lt_grpc_server_conn_kill(struct lt_grpc_server_conn *conn)
{
    lt_grpc_conn_die(&conn->base, "the server closes");
}

struct lt_grpc_server_conn *lt_grpc_server_conn_of(struct lt_list *link)
{
    return LT_CONTAINER_OF(link, struct lt_grpc_server_conn, link);
}

static struct lt_h2_conn *make_h2(struct lt_grpc_server_conn *conn)
{
    const struct lt_grpc_server_opts *opts = &conn->server->opts;
    struct lt_h2_opts h2 = LT_H2_OPTS_DEFAULT;
    h2.is_server = true;
    h2.concurrent_streams_max = opts->streams_max;
    h2.stream_window_bytes = opts->stream_window_bytes;
    h2.conn_window_bytes = opts->conn_window_bytes;
    h2.header_list_bytes_max = opts->header_list_bytes_max;
    h2.send_queue_bytes = opts->send_queue_bytes;
    h2.send_queue_bytes_max = opts->send_queue_bytes_max;
    return lt_h2_conn_new(&h2, &H2_EVENTS, conn);
}

/* +-10 %: those that came together (after a restart) shall not go together. */
static uint64_t spread(struct lt_grpc_server *server, uint64_t age_ns)
{
    return age_ns / 10 * 9 + lt_prng_next(&server->prng) % (age_ns / 5 + 1);
}

void lt_grpc_server_conn_open(struct lt_grpc_server *server, int fd, const struct lt_addr *peer,
                              uint32_t listener)
{
    struct lt_grpc_server_conn *conn = lt_new(struct lt_grpc_server_conn);
    struct lt_tls_ctx *tls = listener != LT_GRPC_ADOPTED ? server->listeners[listener].tls : NULL;
    struct lt_transport transport;
    conn->server = server;
    conn->peer.addr = *peer;
    conn->peer.listener = listener;
    conn->peer.transport = &conn->base.transport;
    if (lt_sock_local(fd, &conn->peer.local) != LT_OK)
        conn->peer.local = (struct lt_addr){0};
    if (tls != NULL)
        lt_transport_init_tls(&transport, fd, tls, NULL);
    else
        lt_transport_init_raw(&transport, fd);
    lt_grpc_conn_init(&conn->base, server->loop, &CONN_OPS, transport, make_h2(conn), true, false,
                      server->opts.handshake_timeout_ns);
    lt_grpc_conn_set_keepalive(&conn->base, server->opts.keepalive_interval_ns,
                               server->opts.keepalive_timeout_ns);
    lt_timer_init(&conn->life_timer, on_life);
    if (server->opts.age_max_ns != 0)
        lt_loop_timer_set(server->loop, &conn->life_timer, spread(server, server->opts.age_max_ns));
    lt_list_push_back(&server->conns, &conn->link);
    server->stats.connections++;
}

/* --- what handlers call --- */

void *lt_grpc_stream_user(const struct lt_grpc_stream *stream)
{
    return stream->user;
}

void lt_grpc_stream_set_user(struct lt_grpc_stream *stream, void *user)
{
    stream->user = user;
}

void *lt_grpc_stream_service(const struct lt_grpc_stream *stream)
{
    return stream->method->service;
}

const struct lt_grpc_peer *lt_grpc_stream_peer(const struct lt_grpc_stream *stream)
{
    return &stream->conn->peer;
}

lt_str lt_grpc_stream_metadata(const struct lt_grpc_stream *stream, lt_str name)
{
    return lt_grpc_find_field(stream->fields, stream->field_count, name);
}

static lt_rc send_headers(struct lt_grpc_stream *stream)
{
    if (stream->has_headers)
        return LT_OK;
    struct lt_h2_field fields[] = {STATUS_200, CONTENT_TYPE};
    LT_TRY(lt_h2_stream_respond(stream->h2, fields, LT_ARRAY_LEN(fields), false));
    stream->has_headers = true;
    return LT_OK;
}

lt_rc lt_grpc_stream_send(struct lt_grpc_stream *stream, lt_str message)
{
    if (stream->is_finished)
        return LT_E_CLOSED;
    LT_TRY(send_headers(stream));
    lt_grpc_conn_kick(&stream->conn->base);
    return lt_grpc_send(stream->h2, message);
}

lt_rc lt_grpc_stream_send_rope(struct lt_grpc_stream *stream, struct lt_rope *message)
{
    if (stream->is_finished)
        return LT_E_CLOSED;
    LT_TRY(send_headers(stream));
    lt_grpc_conn_kick(&stream->conn->base);
    return lt_grpc_send_rope(stream->h2, message);
}

bool lt_grpc_stream_is_writable(const struct lt_grpc_stream *stream)
{
    return !stream->is_finished && lt_h2_stream_is_writable(stream->h2);
}

void lt_grpc_stream_pause(struct lt_grpc_stream *stream)
{
    stream->inbox.is_paused = true;
}

void lt_grpc_stream_resume(struct lt_grpc_stream *stream)
{
    if (!stream->inbox.is_paused)
        return;
    stream->inbox.is_paused = false;
    lt_loop_defer(stream->conn->base.loop, &stream->resume);
}

void lt_grpc_stream_finish(struct lt_grpc_stream *stream, lt_grpc_code code, lt_str message)
{
    finish(stream, code, message);
}
