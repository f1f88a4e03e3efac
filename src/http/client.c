/*
 * http/client.c - one call: connect, write the request, read the answer, tell.
 * A call is a small state machine on the loop; every way out goes through finish(). Start at:
 * run().
 */
#include "http/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/sock.h"

enum {
    TIMEOUT_DEFAULT_MS = 5000,
    BODY_DEFAULT_BYTES = 1 << 20,
    HEAD_BYTES = 64 * 1024,
    READ_BYTES = 16 * 1024,
    READS_PER_TURN = 64, /* a fast peer must not keep the loop */
    INTERIM_MAX = 8,
};

typedef enum {
    CALL_CONNECTING,
    CALL_HANDSHAKE,
    CALL_WRITING,
    CALL_READING_HEAD,
    CALL_READING_BODY,
    CALL_DONE
} call_state;

struct lt_call {
    struct lt_loop *loop; /* borrowed */
    lt_call_fn *on_done;
    void *ctx; /* borrowed, for on_done */
    call_state state;
    struct lt_arena *arena;
    struct lt_transport transport;
    struct lt_io io;
    struct lt_timer timer;
    struct lt_task task;              /* tells of a call that failed before it began */
    struct lt_tls_ctx *tls;           /* counted */
    struct lt_tls_conn_opts tls_opts; /* sni in the arena */
    struct lt_buf out, in, body;
    struct lt_h1_parser parser;
    struct lt_http_head head;
    unsigned interims;
    char error[256];
};

/* --- the end --- */

static void release(struct lt_call *call)
{
    lt_loop_timer_cancel(call->loop, &call->timer);
    lt_task_cancel(&call->task);
    lt_loop_io_del(call->loop, &call->io);
    lt_transport_fini(&call->transport);
    call->state = CALL_DONE;
}

static void destroy(struct lt_call *call)
{
    lt_tls_ctx_unref(&call->tls);
    lt_buf_fini(&call->out);
    lt_buf_fini(&call->in);
    lt_buf_fini(&call->body);
    lt_arena_free(&call->arena);
    free(call);
}

static void finish(struct lt_call *call, lt_rc rc)
{
    LT_ASSERT(call->state != CALL_DONE);
    release(call);
    struct lt_call_result result = {.rc = rc, .error = call->error, .headers = &call->head.headers};
    if (rc == LT_OK) {
        result.status = call->head.status;
        result.body = lt_buf_str(&call->body);
    } else if (call->error[0] == '\0') {
        result.error = lt_rc_name(rc);
    }
    call->on_done(call, &result, call->ctx);
    destroy(call);
}

void lt_call_cancel(struct lt_call **call)
{
    if (*call == NULL)
        return;
    LT_ASSERT((*call)->state != CALL_DONE);
    release(*call);
    destroy(*call);
    *call = NULL;
}

static lt_rc fail(struct lt_call *call, lt_rc rc, const char *text)
{
    snprintf(call->error, sizeof(call->error), "%s", text);
    return rc;
}

/*
 * --- steps: LT_OK goes on, LT_AGAIN waits, LT_EOF is the answer's end, anything else the call's
 * ---
 */

static lt_rc connected(struct lt_call *call)
{
    int error = lt_sock_error(call->io.fd);
    if (error != 0) {
        char text[128];
        snprintf(call->error, sizeof(call->error), "cannot connect: %s",
                 strerror_r(error, text, sizeof(text)));
        return LT_E_IO;
    }
    call->state = CALL_HANDSHAKE;
    return LT_OK;
}

static lt_rc handshake(struct lt_call *call)
{
    lt_rc rc = lt_transport_handshake(&call->transport);
    if (rc == LT_OK)
        call->state = CALL_WRITING;
    else if (rc != LT_AGAIN && call->tls != NULL)
        fail(call, rc, lt_tls_error(&call->transport));
    return rc;
}

static lt_rc write_request(struct lt_call *call)
{
    while (lt_buf_len(&call->out) > 0) {
        lt_str text = lt_buf_str(&call->out);
        struct iovec iov = {(void *)text.ptr, text.len};
        size_t put = 0;
        lt_rc rc = lt_transport_writev(&call->transport, &iov, 1, &put);
        if (rc == LT_E_CLOSED) /* it may have answered and closed without reading all: look */
            break;
        LT_TRY(rc);
        lt_buf_consume(&call->out, put);
    }
    call->state = CALL_READING_HEAD;
    return LT_OK;
}

static lt_rc fill(struct lt_call *call)
{
    char *at = NULL;
    size_t got = 0;
    if (lt_buf_reserve(&call->in, READ_BYTES, &at) != LT_OK)
        return fail(call, LT_E_LIMIT, "answer too large");
    lt_rc rc = lt_transport_read(&call->transport, at, READ_BYTES, &got);
    if (rc == LT_OK)
        lt_buf_commit(&call->in, got);
    return rc;
}

/* The connection ended while an answer was wanted. */
static lt_rc ended_early(struct lt_call *call)
{
    bool has_begun = call->state == CALL_READING_BODY || lt_buf_len(&call->in) > 0;
    return fail(call, LT_E_CLOSED,
                has_begun ? "connection closed inside the answer"
                          : "connection closed without an answer");
}

static lt_rc read_head(struct lt_call *call)
{
    size_t used = 0;
    lt_rc rc = lt_h1_parse_head(&call->parser, lt_buf_str(&call->in), &call->head, &used);
    if (rc == LT_AGAIN) {
        rc = fill(call);
        return rc == LT_EOF || rc == LT_E_CLOSED ? ended_early(call) : rc;
    }
    if (rc != LT_OK)
        return fail(call, rc, lt_h1_error_text(call->parser.error));
    lt_headers_own(&call->head.headers);
    lt_buf_consume(&call->in, used);
    if (call->head.status >= 200) {
        call->state = CALL_READING_BODY;
        return LT_OK;
    }
    if (call->head.status == 101 || ++call->interims > INTERIM_MAX)
        return fail(call, LT_E_BAD, "unexpected interim answer");
    bool was_head = call->parser.request_was_head;
    lt_h1_next_message(&call->parser);
    call->parser.request_was_head = was_head;
    lt_http_head_init(&call->head, call->arena, 0, 0);
    return LT_OK;
}

static lt_rc read_body(struct lt_call *call)
{
    struct lt_h1_piece piece;
    lt_rc rc = lt_h1_parse_body(&call->parser, lt_buf_str(&call->in), false, NULL, &piece);
    if (rc == LT_AGAIN) {
        rc = fill(call);
        if (rc == LT_EOF)
            return lt_h1_body_eof(&call->parser) == LT_OK ? LT_EOF : ended_early(call);
        return rc == LT_E_CLOSED ? ended_early(call) : rc;
    }
    if (rc != LT_OK)
        return fail(call, rc, lt_h1_error_text(call->parser.error));
    if (lt_buf_append_str(&call->body, piece.data) != LT_OK)
        return fail(call, LT_E_LIMIT, "answer too large");
    lt_buf_consume(&call->in, piece.used);
    return piece.is_end ? LT_EOF : LT_OK;
}

static lt_rc step(struct lt_call *call)
{
    switch (call->state) {
    case CALL_CONNECTING: return connected(call);
    case CALL_HANDSHAKE: return handshake(call);
    case CALL_WRITING: return write_request(call);
    case CALL_READING_HEAD: return read_head(call);
    case CALL_READING_BODY: return read_body(call);
    case CALL_DONE: break;
    }
    LT_UNREACHABLE();
}

static uint32_t wanted_events(const struct lt_call *call)
{
    bool is_writing = call->state == CALL_WRITING;
    if (call->tls != NULL && !is_writing && call->transport.wants_write)
        return EPOLLOUT;
    if (call->tls != NULL && is_writing && call->transport.wants_read)
        return EPOLLIN;
    return is_writing ? EPOLLOUT : EPOLLIN;
}

static void run(struct lt_call *call)
{
    lt_rc rc = LT_OK;
    int budget = READS_PER_TURN;
    while (rc == LT_OK && budget-- > 0)
        rc = step(call);
    if (rc == LT_AGAIN)
        lt_loop_io_set(call->loop, &call->io, wanted_events(call));
    else if (rc == LT_OK)
        lt_loop_defer(
            call->loop,
            &call->task); /* more may wait inside TLS, where the socket does not show it */
    else
        finish(call, rc == LT_EOF ? LT_OK : rc);
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    run(LT_CONTAINER_OF(io, struct lt_call, io));
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    static const char *const doing[] = {"connecting", "in the TLS handshake", "writing the request",
                                        "waiting for an answer", "reading the answer"};
    struct lt_call *call = LT_CONTAINER_OF(timer, struct lt_call, timer);
    snprintf(call->error, sizeof(call->error), "timed out %s", doing[call->state]);
    finish(call, LT_E_TIMEOUT);
}

static void on_task(struct lt_task *task)
{
    struct lt_call *call = LT_CONTAINER_OF(task, struct lt_call, task);
    if (call->transport.ops == NULL)
        finish(call, LT_E_IO); /* start() left the reason */
    else
        run(call);
}

/* --- the request --- */

static bool is_target(lt_str target)
{
    for (size_t i = 0; i < target.len; i++) {
        if ((unsigned char)target.ptr[i] <= 0x20 || (unsigned char)target.ptr[i] >= 0x7f)
            return false;
    }
    return target.len > 0;
}

static lt_rc add_headers(struct lt_headers *headers, const struct lt_call_opts *opts, lt_str host)
{
    LT_TRY(lt_headers_add(headers, LT_STR("Host"), host));
    for (size_t i = 0; i < opts->header_count; i++) {
        const struct lt_call_header *header = &opts->headers[i];
        if (!lt_http_is_token(header->name) || !lt_http_is_field_value(header->value))
            return LT_E_BAD;
        if (lt_header_id_of(header->name) == LT_H_HOST)
            LT_TRY(lt_headers_set_id(headers, LT_H_HOST, header->value));
        else
            LT_TRY(lt_headers_add(headers, header->name, header->value));
    }
    return LT_OK;
}

static lt_str default_host(const struct lt_addr *addr, char text[LT_ADDR_TEXT_MAX])
{
    return addr->sa.sa_family == AF_UNIX ? LT_STR("localhost") : lt_addr_format(addr, text);
}

static lt_rc make_request(struct lt_call *call, const struct lt_call_opts *opts)
{
    char address[LT_ADDR_TEXT_MAX];
    lt_str method = opts->method.len > 0 ? opts->method : LT_STR("GET");
    lt_str target = opts->target.len > 0 ? opts->target : LT_STR("/");
    lt_str host = opts->host.len > 0 ? opts->host : default_host(&opts->addr, address);
    struct lt_headers headers;
    if (!lt_http_is_token(method) || !is_target(target) || !lt_http_is_authority(host))
        return LT_E_BAD;
    lt_headers_init(&headers, call->arena, 0, 0);
    LT_TRY(add_headers(&headers, opts, host));
    lt_http_method id = lt_http_method_of(method);
    bool has_body = opts->body.len > 0 || id == LT_METHOD_POST || id == LT_METHOD_PUT ||
                    id == LT_METHOD_PATCH;
    struct lt_h1_framing framing = {.body = has_body ? LT_BODY_LENGTH : LT_BODY_NONE,
                                    .content_length = opts->body.len,
                                    .connection = "close",
                                    .name_case = LT_H1_CASE_KEPT};
    call->parser.request_was_head = id == LT_METHOD_HEAD;
    LT_TRY(lt_h1_write_request(&call->out, method, target, 1, &headers, &framing));
    return lt_buf_append_str(&call->out, opts->body);
}

static lt_rc start(struct lt_call *call, const struct lt_call_opts *opts)
{
    int fd = -1;
    if (make_request(call, opts) != LT_OK)
        return fail(call, LT_E_BAD, "cannot write the request: a forbidden character in it");
    if (lt_sock_connect(&opts->addr, opts->source.len != 0 ? &opts->source : NULL, &fd) != LT_OK) {
        char text[128];
        snprintf(call->error, sizeof(call->error), "cannot connect: %s",
                 strerror_r(errno, text, sizeof(text)));
        return LT_E_IO;
    }
    call->io.fd = fd;
    if (opts->tls != NULL) {
        call->tls = lt_tls_ctx_ref(opts->tls);
        call->tls_opts.sni = lt_arena_str(call->arena, opts->sni);
        lt_transport_init_tls(&call->transport, fd, call->tls, &call->tls_opts);
    } else {
        lt_transport_init_raw(&call->transport, fd);
    }
    lt_loop_io_set(call->loop, &call->io, EPOLLOUT);
    return LT_OK;
}

struct lt_call *lt_call_start(struct lt_loop *loop, const struct lt_call_opts *opts,
                              lt_call_fn *on_done, void *ctx)
{
    LT_ASSERT(on_done != NULL && opts->addr.len != 0);
    struct lt_call *call = lt_new(struct lt_call);
    call->loop = loop;
    call->on_done = on_done;
    call->ctx = ctx;
    call->arena = lt_arena_new(1024, 0);
    lt_io_init(&call->io, on_ready);
    lt_timer_init(&call->timer, on_timeout);
    lt_task_init(&call->task, on_task);
    lt_buf_init(&call->out, HEAD_BYTES + opts->body.len);
    lt_buf_init(&call->in, HEAD_BYTES + READ_BYTES);
    lt_buf_init(&call->body, opts->body_bytes_max != 0 ? opts->body_bytes_max : BODY_DEFAULT_BYTES);
    lt_h1_parser_init(&call->parser, true, NULL);
    lt_http_head_init(&call->head, call->arena, 0, 0);
    uint32_t timeout_ms = opts->timeout_ms != 0 ? opts->timeout_ms : TIMEOUT_DEFAULT_MS;
    lt_loop_timer_set(loop, &call->timer, timeout_ms * LT_NS_PER_MS);
    if (start(call, opts) != LT_OK)
        lt_loop_defer(loop, &call->task);
    return call;
}
