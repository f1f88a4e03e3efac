/*
 * http/server.c - the small HTTP/1.1 server: connections, one exchange at a time on each.
 * A connection reads a head and a body, hands the exchange to the handler, and writes what it
 * replies. One timer a connection: idle, one request, or one write without progress. Start at:
 * run().
 * Trust: clients are strangers.
 */
#include "http/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HEAD_BYTES_MAX = 32 * 1024,
    READ_BYTES = 4096,
    REPLY_BYTES_MAX = 128 << 20,
    STREAM_LOW_BYTES = 64 * 1024,
    STREAM_BUFFER_MAX = 256 * 1024,
    STREAM_BYTES_PER_TURN = 1 << 20, /* a fast reader must not keep the loop */
    ACCEPTS_PER_TURN = 16,
    ACCEPT_PAUSE_MS = 100, /* when descriptors have run out */
    LINGER_MS = 1000,      /* how long, and */
    LINGER_BYTES =
        1 << 20,       /* how much a refused client may still send, so that it gets to read why */
    KEEP_BYTES = 4096, /* of buffers on an idle connection */
};

static const struct lt_h1_limits limits = {
    .head_bytes_max = HEAD_BYTES_MAX,
    .headers_max = LT_HEADERS_COUNT_MAX,
    .chunk_ext_bytes_max = 1024,
    .trailer_bytes_max = 4096,
    .trailers_max = 16,
};

typedef enum { READ_HEAD, READ_BODY, HANDLING, WRITING, STREAMING, LINGERING, CLOSED } conn_state;

struct server_listener {
    struct lt_server *server;
    struct lt_io io;
    struct lt_timer pause;
};

struct lt_server {
    struct lt_loop *loop; /* borrowed */
    struct lt_server_opts opts;
    lt_server_fn *handler;
    void *ctx;
    struct lt_list conns;
    uint32_t count;
    struct server_listener *listeners[8]; /* owned */
    size_t listener_count;
    bool is_draining;
    bool holds_accept;
};

struct conn {
    struct lt_list link;
    struct lt_server *server; /* borrowed; NULL once it is gone */
    struct lt_loop *loop;     /* borrowed */
    struct lt_transport transport;
    struct lt_io io;
    struct lt_timer timer;
    struct lt_task free_task;
    conn_state state;
    bool has_handshake;
    struct lt_h1_parser parser;
    struct lt_http_head head;
    struct lt_buf in, out, body;
    struct lt_arena *arena;
    struct lt_exchange exchange;
    struct lt_headers reply_headers;
    struct lt_stream_source *source; /* while STREAMING */
    size_t lingered;                 /* bytes thrown away while LINGERING */
    bool keep_alive;
    bool is_handling; /* the handler has the exchange */
    bool is_inside;   /* inside the handler's call: the reply only notes, run() goes on */
};

static void run(struct conn *conn);

/* --- the end of a connection --- */

static void free_conn(struct lt_task *task)
{
    struct conn *conn = LT_CONTAINER_OF(task, struct conn, free_task);
    lt_buf_fini(&conn->in);
    lt_buf_fini(&conn->out);
    lt_buf_fini(&conn->body);
    lt_arena_free(&conn->arena);
    free(conn);
}

static void end_source(struct conn *conn)
{
    struct lt_stream_source *source = conn->source;
    conn->source = NULL;
    if (source != NULL)
        source->done(source);
}

/* The memory waits for the handler's reply, and for the end of this turn. */
static void close_conn(struct conn *conn)
{
    if (conn->state == CLOSED)
        return;
    conn->state = CLOSED;
    lt_loop_timer_cancel(conn->loop, &conn->timer);
    lt_loop_io_del(conn->loop, &conn->io);
    lt_transport_fini(&conn->transport);
    lt_list_remove(&conn->link);
    if (conn->server != NULL)
        conn->server->count--;
    end_source(conn);
    if (!conn->is_handling)
        lt_loop_defer(conn->loop, &conn->free_task);
}

static void set_timeout(struct conn *conn, uint32_t ms)
{
    lt_loop_timer_set(conn->loop, &conn->timer, ms * LT_NS_PER_MS);
}

/* --- writing --- */

/* LT_OK: all is out. */
static lt_rc flush(struct conn *conn)
{
    while (lt_buf_len(&conn->out) > 0) {
        lt_str text = lt_buf_str(&conn->out);
        struct iovec iov = {(void *)text.ptr, text.len};
        size_t put = 0;
        LT_TRY(lt_transport_writev(&conn->transport, &iov, 1, &put));
        lt_buf_consume(&conn->out, put);
        if (conn->state == WRITING || conn->state == STREAMING)
            set_timeout(conn, conn->server->opts.write_timeout_ms);
    }
    return LT_OK;
}

static lt_rc write_head(struct conn *conn, unsigned status, const char *content_type,
                        lt_http_body body, uint64_t length)
{
    struct lt_headers *headers = &conn->reply_headers;
    set_timeout(conn, conn->server->opts.write_timeout_ms);
    char *date = lt_arena_bytes(conn->arena, LT_HTTP_DATE_LEN + 1);
    lt_http_date_format(lt_env_wall_ns(lt_loop_env(conn->loop)), date);
    if (content_type != NULL)
        LT_TRY(lt_headers_set_id(headers, LT_H_CONTENT_TYPE, lt_str_of(content_type)));
    LT_TRY(lt_headers_set_id(headers, LT_H_DATE, lt_str_make(date, LT_HTTP_DATE_LEN)));
    if (conn->server->opts.server_name != NULL)
        LT_TRY(lt_headers_set_id(headers, LT_H_SERVER, lt_str_of(conn->server->opts.server_name)));
    if (conn->server->is_draining)
        conn->keep_alive = false;
    struct lt_h1_framing framing = {
        .body = body,
        .content_length = length,
        .connection = !conn->keep_alive       ? "close"
                      : conn->head.minor == 0 ? "keep-alive"
                                              : NULL,
    };
    return lt_h1_write_response(&conn->out, status, LT_STR_NULL, 1, headers, &framing);
}

/* --- replies --- */

static struct conn *conn_of(struct lt_exchange *exchange)
{
    struct conn *conn = LT_CONTAINER_OF(exchange, struct conn, exchange);
    LT_ASSERT(conn->is_handling); /* an exchange is answered once */
    conn->is_handling = false;
    return conn;
}

/* False: there is nobody to write to. */
static bool is_wanted(struct conn *conn)
{
    if (conn->state != CLOSED)
        return true;
    lt_loop_defer(conn->loop, &conn->free_task);
    return false;
}

static void go_on(struct conn *conn)
{
    if (!conn->is_inside)
        run(conn);
}

void lt_exchange_header(struct lt_exchange *exchange, lt_str name, lt_str value)
{
    struct conn *conn = LT_CONTAINER_OF(exchange, struct conn, exchange);
    lt_rc rc = lt_headers_add(&conn->reply_headers, name, value);
    LT_ASSERT(rc == LT_OK);
}

void lt_exchange_reply(struct lt_exchange *exchange, unsigned status, const char *content_type,
                       lt_str body)
{
    struct conn *conn = conn_of(exchange);
    if (!is_wanted(conn))
        return;
    bool is_head = conn->head.method_id == LT_METHOD_HEAD;
    conn->state = WRITING;
    if (write_head(conn, status, content_type, LT_BODY_LENGTH, body.len) != LT_OK ||
        (!is_head && lt_buf_append_str(&conn->out, body) != LT_OK)) {
        close_conn(conn);
        return;
    }
    go_on(conn);
}

void lt_exchange_replyf(struct lt_exchange *exchange, unsigned status, const char *fmt, ...)
{
    struct lt_buf text;
    va_list args;
    lt_buf_init(&text, 64 * 1024);
    va_start(args, fmt);
    lt_rc rc = lt_buf_vprintf(&text, fmt, args);
    va_end(args);
    lt_exchange_reply(exchange, rc == LT_OK ? status : 500, "text/plain; charset=UTF-8",
                      lt_buf_str(&text));
    lt_buf_fini(&text);
}

void lt_exchange_reply_stream(struct lt_exchange *exchange, unsigned status,
                              const char *content_type, struct lt_stream_source *source)
{
    struct conn *conn = conn_of(exchange);
    if (!is_wanted(conn)) {
        source->done(source);
        return;
    }
    conn->source = source;
    conn->state = STREAMING;
    bool is_chunked = conn->head.minor == 1;
    conn->keep_alive = conn->keep_alive && is_chunked;
    bool is_head = conn->head.method_id == LT_METHOD_HEAD;
    lt_rc rc = write_head(conn, status, content_type, is_chunked ? LT_BODY_CHUNKED : LT_BODY_CLOSE,
                          0);
    if (rc != LT_OK) {
        close_conn(conn);
        return;
    }
    if (is_head) {
        end_source(conn);
        conn->state = WRITING;
    }
    go_on(conn);
}

/*
 * One part more; LT_EOF after the last. A source that gives nothing would be asked for ever: it is
 * broken off.
 */
static lt_rc produce(struct conn *conn)
{
    struct lt_buf part;
    bool is_chunked = conn->head.minor == 1;
    lt_buf_init(&part, STREAM_BUFFER_MAX);
    lt_rc rc = conn->source->produce(conn->source, &part);
    lt_str text = lt_buf_str(&part);
    lt_rc put = LT_OK;
    if (rc == LT_OK && text.len == 0)
        rc = LT_E_BAD;
    if (rc == LT_OK || rc == LT_EOF)
        put = is_chunked ? lt_h1_write_chunk(&conn->out, text)
                         : lt_buf_append_str(&conn->out, text);
    if (rc == LT_EOF && put == LT_OK && is_chunked)
        put = lt_h1_write_last_chunk(&conn->out, NULL);
    lt_buf_fini(&part);
    return put != LT_OK ? put : rc;
}

static lt_rc run_stream(struct conn *conn)
{
    for (size_t made = 0; made < STREAM_BYTES_PER_TURN;) {
        LT_TRY(flush(conn));
        if (conn->source == NULL)
            return LT_OK;
        while (conn->source != NULL && lt_buf_len(&conn->out) < STREAM_LOW_BYTES) {
            lt_rc rc = produce(conn);
            if (rc == LT_EOF)
                end_source(conn);
            else if (rc != LT_OK)
                return rc;
        }
        made += lt_buf_len(&conn->out);
    }
    return LT_AGAIN; /* the socket is still writable: the next turn goes on */
}

/* --- reading --- */

static lt_rc fill(struct conn *conn)
{
    char *at = NULL;
    size_t got = 0;
    bool was_empty = lt_buf_len(&conn->in) == 0;
    LT_TRY(lt_buf_reserve(&conn->in, READ_BYTES, &at));
    LT_TRY(lt_transport_read(&conn->transport, at, READ_BYTES, &got));
    lt_buf_commit(&conn->in, got);
    if (conn->state == READ_HEAD &&
        was_empty) /* the request has begun: all of it must come in this time */
        set_timeout(conn, conn->server->opts.request_timeout_ms);
    return LT_OK;
}

static void begin_handling(struct conn *conn)
{
    struct lt_exchange *exchange = &conn->exchange;
    ptrdiff_t mark = lt_str_find_char(conn->head.path, '?');
    lt_str path = conn->head.path;
    exchange->method = conn->head.method;
    exchange->path = mark < 0 ? path : lt_str_slice(path, 0, (size_t)mark);
    exchange->query = mark < 0 ? LT_STR_NULL : lt_str_from(path, (size_t)mark + 1);
    exchange->headers = conn->head.headers;
    exchange->body = lt_buf_str(&conn->body);
    exchange->arena = conn->arena;
    exchange->user = NULL;
    conn->state = HANDLING;
    conn->is_handling = conn->is_inside = true;
    lt_loop_timer_cancel(conn->loop, &conn->timer);
    conn->server->handler(exchange, conn->server->ctx);
    conn->is_inside = false;
}

/* Answers by itself; the connection ends with it. */
static void refuse(struct conn *conn, unsigned status)
{
    conn->keep_alive = false;
    conn->is_handling = conn->is_inside = true;
    lt_exchange_replyf(&conn->exchange, status, "%s\n", lt_http_reason(status));
    conn->is_inside = false;
}

/* Slices of the head must outlive the input buffer's moves: the head's bytes are copied once. */
static lt_rc read_head(struct conn *conn)
{
    size_t used = 0;
    lt_rc rc = lt_h1_parse_head(&conn->parser, lt_buf_str(&conn->in), &conn->head, &used);
    if (rc == LT_AGAIN)
        return fill(conn);
    if (rc != LT_OK) {
        refuse(conn, lt_h1_error_status(conn->parser.error));
        return LT_OK;
    }
    conn->keep_alive = conn->head.keep_alive;
    if (conn->head.body == LT_BODY_LENGTH &&
        conn->head.content_length > conn->server->opts.body_bytes_max) {
        refuse(conn, 413);
        return LT_OK;
    }
    lt_headers_own(&conn->head.headers);
    conn->head.method = lt_arena_str(conn->arena, conn->head.method);
    conn->head.path = lt_arena_str(conn->arena, conn->head.path);
    lt_buf_consume(&conn->in, used);
    conn->state = READ_BODY;
    if (conn->head.expects_continue)
        lt_buf_add(&conn->out, LT_STR("HTTP/1.1 100 Continue\r\n\r\n"));
    return LT_OK;
}

static lt_rc read_body(struct conn *conn)
{
    if (conn->head.body == LT_BODY_NONE) {
        begin_handling(conn);
        return LT_OK;
    }
    if (lt_buf_len(&conn->out) > 0) { /* 100 Continue */
        lt_rc rc = flush(conn);
        if (rc != LT_OK && rc != LT_AGAIN)
            return rc;
    }
    struct lt_h1_piece piece;
    lt_rc rc = lt_h1_parse_body(&conn->parser, lt_buf_str(&conn->in), false, NULL, &piece);
    if (rc == LT_AGAIN)
        return fill(conn);
    if (rc == LT_OK && lt_buf_append_str(&conn->body, piece.data) != LT_OK) {
        refuse(conn, 413);
        return LT_OK;
    }
    if (rc != LT_OK) {
        refuse(conn, lt_h1_error_status(conn->parser.error));
        return LT_OK;
    }
    lt_buf_consume(&conn->in, piece.used);
    if (piece.is_end)
        begin_handling(conn);
    return LT_OK;
}

static void begin_head(struct conn *conn)
{
    lt_arena_reset(conn->arena);
    lt_buf_clear(&conn->body, 0);
    lt_buf_clear(&conn->out, KEEP_BYTES);
    if (lt_buf_len(&conn->in) == 0)
        lt_buf_clear(&conn->in, KEEP_BYTES);
    lt_h1_head_init(&conn->head, conn->arena, &limits);
    lt_headers_init(&conn->reply_headers, conn->arena, 0, 0);
    conn->state = READ_HEAD;
    bool has_begun = lt_buf_len(&conn->in) > 0;
    set_timeout(conn, has_begun ? conn->server->opts.request_timeout_ms
                                : conn->server->opts.idle_timeout_ms);
}

static lt_rc written(struct conn *conn)
{
    if (!conn->keep_alive) {
        (void)lt_transport_shutdown_write(&conn->transport);
        conn->state = LINGERING;
        set_timeout(conn, LINGER_MS);
        return LT_OK;
    }
    lt_h1_next_message(&conn->parser);
    begin_head(conn);
    return LT_OK;
}

/*
 * Closing with unread bytes in the socket would reset the connection, and the reply would be lost
 * on its way.
 */
static lt_rc linger(struct conn *conn)
{
    char waste[READ_BYTES];
    size_t got = 0;
    LT_TRY(lt_transport_read(&conn->transport, waste, sizeof(waste), &got));
    conn->lingered += got;
    return conn->lingered > LINGER_BYTES ? LT_EOF : LT_OK;
}

static lt_rc step(struct conn *conn)
{
    switch (conn->state) {
    case READ_HEAD: return read_head(conn);
    case READ_BODY: return read_body(conn);
    case HANDLING: return LT_AGAIN;
    case WRITING: LT_TRY(flush(conn)); return written(conn);
    case STREAMING: LT_TRY(run_stream(conn)); return written(conn);
    case LINGERING: return linger(conn);
    case CLOSED: break;
    }
    LT_UNREACHABLE();
}

/*
 * While a handler works only the connection's errors are watched; else what the state waits for, by
 * TLS's leave.
 */
static uint32_t wanted_events(const struct conn *conn)
{
    const struct lt_transport *transport = &conn->transport;
    switch (conn->state) {
    case HANDLING: return 0;
    case WRITING:
    case STREAMING: return transport->tls != NULL && transport->wants_read ? EPOLLIN : EPOLLOUT;
    default: break;
    }
    if (transport->tls != NULL && transport->wants_write)
        return EPOLLOUT;
    return lt_buf_len(&conn->out) > 0 ? EPOLLIN | EPOLLOUT
                                      : EPOLLIN; /* a "100 Continue" that did not fit */
}

static lt_rc shake_hands(struct conn *conn)
{
    if (conn->has_handshake)
        return LT_OK;
    LT_TRY(lt_transport_handshake(&conn->transport));
    conn->has_handshake = true;
    return LT_OK;
}

static void run(struct conn *conn)
{
    lt_rc rc = shake_hands(conn);
    while (rc == LT_OK && conn->state != CLOSED)
        rc = step(conn);
    if (conn->state == CLOSED)
        return;
    if (rc == LT_AGAIN)
        lt_loop_io_set(conn->loop, &conn->io, wanted_events(conn));
    else
        close_conn(conn);
}

static void on_ready(struct lt_io *io, uint32_t events)
{
    struct conn *conn = LT_CONTAINER_OF(io, struct conn, io);
    if (conn->state == HANDLING && (events & (EPOLLERR | EPOLLHUP)) != 0)
        close_conn(conn);
    else
        run(conn);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct conn *conn = LT_CONTAINER_OF(timer, struct conn, timer);
    bool has_begun = conn->state == READ_BODY ||
                     (conn->state == READ_HEAD && lt_buf_len(&conn->in) > 0);
    if (!has_begun) {
        close_conn(conn);
        return;
    }
    refuse(conn, 408);
    run(conn);
}

/* --- the server --- */

static void accept_conn(struct lt_server *server, int fd, const struct lt_addr *peer)
{
    struct conn *conn = lt_new(struct conn);
    conn->server = server;
    conn->loop = server->loop;
    if (server->opts.tls != NULL)
        lt_transport_init_tls(&conn->transport, fd, server->opts.tls, NULL);
    else
        lt_transport_init_raw(&conn->transport, fd);
    lt_io_init(&conn->io, on_ready);
    conn->io.fd = fd;
    lt_timer_init(&conn->timer, on_timeout);
    lt_task_init(&conn->free_task, free_conn);
    lt_h1_parser_init(&conn->parser, false, &limits);
    lt_buf_init(&conn->in, HEAD_BYTES_MAX + 2 * READ_BYTES);
    lt_buf_init(&conn->out, REPLY_BYTES_MAX);
    lt_buf_init(&conn->body, server->opts.body_bytes_max);
    conn->arena = lt_arena_new(2048, 0);
    conn->exchange.peer = *peer;
    lt_list_push_back(&server->conns, &conn->link);
    server->count++;
    begin_head(conn);
    if (server->opts.tls != NULL)
        set_timeout(conn,
                    server->opts.request_timeout_ms); /* for the handshake and the first byte */
    lt_loop_io_set(conn->loop, &conn->io, EPOLLIN);
}

void lt_server_adopt(struct lt_server *server, int fd, const struct lt_addr *peer)
{
    if (server->count >= server->opts.connections_max) {
        struct lt_transport refused;
        lt_transport_init_raw(&refused, fd);
        lt_transport_fini(&refused);
        return;
    }
    accept_conn(server, fd, peer);
}

/* The socket stays readable, and would be reported turn after turn. */
static void pause_accepting(struct server_listener *listener)
{
    lt_loop_io_del(listener->server->loop, &listener->io);
    lt_loop_timer_set(listener->server->loop, &listener->pause, ACCEPT_PAUSE_MS * LT_NS_PER_MS);
}

static void on_pause_end(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct server_listener *listener = LT_CONTAINER_OF(timer, struct server_listener, pause);
    lt_loop_io_set(listener->server->loop, &listener->io, EPOLLIN);
}

static void on_accept(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct server_listener *listener = LT_CONTAINER_OF(io, struct server_listener, io);
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = -1;
        struct lt_addr peer;
        lt_rc rc = lt_sock_accept(io->fd, &fd, &peer);
        if (rc != LT_OK) {
            if (rc != LT_AGAIN)
                pause_accepting(listener);
            return;
        }
        lt_server_adopt(listener->server, fd, &peer);
    }
}

struct lt_server *lt_server_new(struct lt_loop *loop, const struct lt_server_opts *opts,
                                lt_server_fn *handler, void *ctx)
{
    struct lt_server *server = lt_new(struct lt_server);
    server->loop = loop;
    if (opts != NULL)
        server->opts = *opts;
    struct lt_server_opts *o = &server->opts;
    o->body_bytes_max = o->body_bytes_max != 0 ? o->body_bytes_max : 64 * 1024;
    o->connections_max = o->connections_max != 0 ? o->connections_max : 256;
    o->idle_timeout_ms = o->idle_timeout_ms != 0 ? o->idle_timeout_ms : 60000;
    o->request_timeout_ms = o->request_timeout_ms != 0 ? o->request_timeout_ms : 15000;
    o->write_timeout_ms = o->write_timeout_ms != 0 ? o->write_timeout_ms : 30000;
    if (o->tls != NULL)
        lt_tls_ctx_ref(o->tls);
    server->handler = handler;
    server->ctx = ctx;
    lt_list_init(&server->conns);
    return server;
}

void lt_server_listen_on(struct lt_server *server, int fd)
{
    LT_ASSERT(server->listener_count < LT_ARRAY_LEN(server->listeners));
    struct server_listener *listener = lt_new(struct server_listener);
    listener->server = server;
    lt_io_init(&listener->io, on_accept);
    lt_timer_init(&listener->pause, on_pause_end);
    listener->io.fd = fd;
    server->listeners[server->listener_count++] = listener;
    if (!server->holds_accept)
        lt_loop_io_set(server->loop, &listener->io, EPOLLIN);
}

void lt_server_set_accepting(struct lt_server *server, bool accepts)
{
    server->holds_accept = !accepts;
    for (size_t i = 0; i < server->listener_count; i++) {
        struct server_listener *listener = server->listeners[i];
        lt_loop_timer_cancel(server->loop, &listener->pause);
        if (accepts)
            lt_loop_io_set(server->loop, &listener->io, EPOLLIN);
        else
            lt_loop_io_del(server->loop, &listener->io);
    }
}

void lt_server_leave(struct lt_server *server)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        struct server_listener *listener = server->listeners[i];
        lt_loop_timer_cancel(server->loop, &listener->pause);
        lt_loop_io_del(server->loop, &listener->io);
        close(listener->io.fd);
        free(listener);
    }
    server->listener_count = 0;
}

size_t lt_server_sockets(const struct lt_server *server, int *out, size_t max)
{
    size_t count = LT_MIN(server->listener_count, max);
    for (size_t i = 0; i < count; i++)
        out[i] = server->listeners[i]->io.fd;
    return count;
}

lt_rc lt_server_listen(struct lt_server *server, const struct lt_addr *addr,
                       const struct lt_listen_opts *opts, struct lt_addr *ret_addr,
                       struct lt_err *err)
{
    LT_ASSERT(server->listener_count < LT_ARRAY_LEN(server->listeners));
    int fd = -1;
    LT_TRY(lt_sock_listen(addr, opts, &fd, err));
    lt_server_listen_on(server, fd);
    return ret_addr != NULL ? lt_sock_local(fd, ret_addr) : LT_OK;
}

static void close_listeners(struct lt_server *server)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        struct server_listener *listener = server->listeners[i];
        struct lt_transport socket;
        lt_loop_timer_cancel(server->loop, &listener->pause);
        lt_loop_io_del(server->loop, &listener->io);
        lt_transport_init_raw(&socket, listener->io.fd);
        lt_transport_fini(&socket);
        free(listener);
    }
    server->listener_count = 0;
}

void lt_server_drain(struct lt_server *server)
{
    struct lt_list *it, *next;
    server->is_draining = true;
    close_listeners(server);
    lt_list_each (&server->conns, it, next) {
        struct conn *conn = LT_CONTAINER_OF(it, struct conn, link);
        if (conn->state == READ_HEAD && lt_buf_len(&conn->in) == 0)
            close_conn(conn);
    }
}

uint32_t lt_server_connections(const struct lt_server *server)
{
    return server->count;
}

void lt_server_free(struct lt_server **pointer)
{
    struct lt_server *server = *pointer;
    *pointer = NULL;
    if (server == NULL)
        return;
    close_listeners(server);
    while (!lt_list_is_empty(&server->conns)) {
        struct conn *conn = lt_list_first(&server->conns, struct conn, link);
        close_conn(conn);
        conn->server = NULL;
        if (conn->is_inside || conn->is_handling)
            continue; /* its memory goes with the turn, or with the reply */
        lt_task_cancel(&conn->free_task);
        free_conn(&conn->free_task);
    }
    lt_tls_ctx_unref(&server->opts.tls);
    free(server);
}
