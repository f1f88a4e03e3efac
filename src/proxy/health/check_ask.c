/*
 * proxy/health/check_ask.c - the connection of a health check, its time limit, and plain TCP. HTTP:
 * check_h1.c, check_h2.c.
 */
#include <stdlib.h>

#include "net/sock.h"
#include "proxy/health/check_priv.h"

enum { READ_BYTES = 4096, IN_BYTES_MAX = 128 * 1024, OUT_BYTES_MAX = 64 * 1024, READS_MAX = 32 };

static void on_ready(struct lt_io *io, uint32_t events);
static void on_timer(struct lt_timer *timer, uint64_t now_ns);
static void on_task(struct lt_task *task);

/* --- life --- */

struct px_asker *px_asker_new(const struct px_asker_opts *opts)
{
    struct px_asker *asker = lt_new(struct px_asker);
    asker->opts = *opts;
    asker->authority = lt_str_dupz(opts->authority);
    asker->opts.authority = lt_str_make(asker->authority, opts->authority.len);
    asker->arena = lt_arena_new(1024, 0);
    lt_buf_init(&asker->out, OUT_BYTES_MAX);
    lt_buf_init(&asker->in, IN_BYTES_MAX);
    lt_buf_init(&asker->body, LT_MAX(opts->conf->response_bytes_max, (uint32_t)READ_BYTES));
    lt_io_init(&asker->io, on_ready);
    lt_timer_init(&asker->timer, on_timer);
    lt_task_init(&asker->task, on_task);
    return asker;
}

static void disconnect(struct px_asker *asker)
{
    if (asker->state == PX_ASK_NONE)
        return;
    asker->stream = NULL;
    lt_h2_conn_free(&asker->h2);
    lt_loop_io_del(asker->opts.loop, &asker->io);
    lt_transport_fini(&asker->transport);
    asker->io.fd = -1;
    asker->state = PX_ASK_NONE;
    lt_buf_clear(&asker->in, 0);
    lt_buf_clear(&asker->out, 0);
}

void px_asker_free(struct px_asker **pointer)
{
    struct px_asker *asker = *pointer;
    *pointer = NULL;
    if (asker == NULL)
        return;
    disconnect(asker);
    lt_loop_timer_cancel(asker->opts.loop, &asker->timer);
    lt_task_cancel(&asker->task);
    lt_buf_fini(&asker->out);
    lt_buf_fini(&asker->in);
    lt_buf_fini(&asker->body);
    lt_arena_free(&asker->arena);
    free(asker->authority);
    free(asker);
}

bool px_asker_is_busy(const struct px_asker *asker)
{
    return asker->is_asked;
}

/* --- the answer --- */

static bool says_excluded(const struct px_asker *asker)
{
    return asker->has_head &&
           lt_headers_find_name(&asker->head.headers,
                                LT_STR("x-envoy-immediate-health-check-fail")) != NULL;
}

/* Last thing that a call does: the asker may be gone when it returns. */
static void answer(struct px_asker *asker, px_check_result result)
{
    bool is_excluded = says_excluded(asker);
    lt_loop_timer_cancel(asker->opts.loop, &asker->timer);
    lt_task_cancel(&asker->task);
    asker->is_asked = asker->is_sent = asker->has_head = false;
    if (asker->is_closing || !asker->opts.conf->reuses_connection)
        disconnect(asker);
    lt_buf_clear(&asker->body, 0);
    lt_arena_reset(asker->arena);
    asker->opts.on_result(asker->opts.ctx, result, is_excluded);
}

static void on_task(struct lt_task *task)
{
    struct px_asker *asker = LT_CONTAINER_OF(task, struct px_asker, task);
    answer(asker, asker->result);
}

/* From the loop, as promised, although it is known now. */
static void answer_later(struct px_asker *asker, px_check_result result)
{
    asker->is_closing = true;
    asker->result = result;
    lt_loop_defer(asker->opts.loop, &asker->task);
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_asker *asker = LT_CONTAINER_OF(timer, struct px_asker, timer);
    asker->is_closing = true;
    answer(asker, PX_CHECK_TIMEOUT);
}

/* --- plain TCP --- */

bool px_ask_matches(const struct px_check_conf *conf, lt_str bytes)
{
    for (size_t i = 0; i < conf->receive_count; i++) {
        ptrdiff_t at = lt_str_find(bytes, conf->receive[i]);
        if (at < 0)
            return false;
        bytes = lt_str_from(bytes, (size_t)at + conf->receive[i].len);
    }
    return true;
}

static lt_rc start_tcp(struct px_asker *asker)
{
    return lt_buf_append_str(&asker->out, asker->opts.conf->send);
}

static lt_rc took_tcp(struct px_asker *asker, bool is_end, px_check_result *ret_result)
{
    const struct px_check_conf *conf = asker->opts.conf;
    *ret_result = PX_CHECK_PASSED;
    if (conf->receive_count == 0) { /* that it stands is enough */
        asker->is_closing = true;
        return LT_EOF;
    }
    if (px_ask_matches(conf, lt_buf_str(&asker->in))) {
        lt_buf_clear(&asker->in, 0);
        asker->is_closing |= is_end;
        return LT_EOF;
    }
    return is_end ? LT_E_CLOSED : LT_AGAIN;
}

/* --- driving --- */

static bool is_h2(const struct px_asker *asker)
{
    return asker->opts.conf->kind == PX_CHECK_GRPC || asker->opts.conf->is_h2;
}

static lt_rc write_question(struct px_asker *asker)
{
    asker->is_sent = true;
    if (asker->opts.conf->kind == PX_CHECK_TCP)
        return start_tcp(asker);
    return is_h2(asker) ? px_ask_h2_start(asker) : px_ask_h1_start(asker);
}

static lt_rc look(struct px_asker *asker, bool is_end, px_check_result *ret_result)
{
    if (asker->opts.conf->kind == PX_CHECK_TCP)
        return took_tcp(asker, is_end, ret_result);
    return is_h2(asker) ? px_ask_h2_took(asker, is_end, ret_result)
                        : px_ask_h1_took(asker, is_end, ret_result);
}

static lt_rc write_out(struct px_asker *asker)
{
    if (asker->h2 != NULL)
        LT_TRY(px_ask_h2_drain(asker));
    while (lt_buf_len(&asker->out) > 0) {
        lt_str text = lt_buf_str(&asker->out);
        struct iovec iov = {(void *)text.ptr, text.len};
        size_t put = 0;
        LT_TRY(lt_transport_writev(&asker->transport, &iov, 1, &put));
        lt_buf_consume(&asker->out, put);
    }
    return LT_OK;
}

/* LT_OK: bytes came. LT_AGAIN, LT_EOF, or an error. */
static lt_rc read_in(struct px_asker *asker)
{
    char *at = NULL;
    size_t got = 0;
    if (lt_buf_reserve(&asker->in, READ_BYTES, &at) != LT_OK)
        return LT_E_LIMIT;
    LT_TRY(lt_transport_read(&asker->transport, at, READ_BYTES, &got));
    lt_buf_commit(&asker->in, got);
    return LT_OK;
}

static lt_rc connect_on(struct px_asker *asker)
{
    if (asker->state == PX_ASK_CONNECTING) {
        if (lt_sock_error(asker->io.fd) != 0)
            return LT_E_IO;
        asker->state = PX_ASK_HANDSHAKE;
    }
    LT_TRY(lt_transport_handshake(&asker->transport));
    asker->state = PX_ASK_OPEN;
    return LT_OK;
}

/* LT_EOF: *ret_result. LT_AGAIN: wait. Anything else: the connection has failed. */
static lt_rc go_on(struct px_asker *asker, px_check_result *ret_result)
{
    if (asker->state != PX_ASK_OPEN)
        LT_TRY(connect_on(asker));
    if (!asker->is_sent)
        LT_TRY(write_question(asker));
    for (int reads = 0; reads < READS_MAX; reads++) {
        lt_rc rc = write_out(asker);
        if (rc != LT_OK && rc != LT_AGAIN)
            return rc;
        bool is_open_enough = asker->opts.conf->kind == PX_CHECK_TCP &&
                              asker->opts.conf->receive_count == 0;
        rc = is_open_enough ? LT_OK : read_in(asker);
        if (rc != LT_OK && rc != LT_EOF)
            return rc;
        bool is_end = rc == LT_EOF;
        rc = look(asker, is_end, ret_result);
        if (rc != LT_OK && rc != LT_AGAIN)
            return rc;
        if (is_end)
            return LT_E_CLOSED;
    }
    return LT_E_LIMIT; /* it talks and talks */
}

static uint32_t wanted_events(const struct px_asker *asker)
{
    if (asker->state == PX_ASK_CONNECTING)
        return EPOLLOUT;
    bool wants_out = asker->transport.wants_write || lt_buf_len(&asker->out) > 0;
    return EPOLLIN | EPOLLRDHUP | (wants_out ? EPOLLOUT : 0u);
}

static void run(struct px_asker *asker)
{
    px_check_result result = PX_CHECK_NETWORK;
    lt_rc rc = go_on(asker, &result);
    if (rc == LT_AGAIN) {
        lt_loop_io_set(asker->opts.loop, &asker->io, wanted_events(asker));
        return;
    }
    if (rc != LT_EOF) {
        asker->is_closing = true;
        result = rc == LT_E_BAD && asker->has_head ? PX_CHECK_FAILED : PX_CHECK_NETWORK;
    } else if (asker->state != PX_ASK_NONE) {
        lt_loop_io_set(asker->opts.loop, &asker->io, EPOLLIN | EPOLLRDHUP);
    }
    answer(asker, result);
}

/* Of HTTP/2 there is something to be said between questions; else it is the end, or a babbler. */
static void run_idle(struct px_asker *asker)
{
    lt_rc rc = asker->h2 != NULL ? read_in(asker) : LT_EOF;
    if (rc == LT_OK)
        rc = px_ask_h2_idle(asker);
    if (rc == LT_OK)
        rc = write_out(asker);
    if (rc != LT_OK && rc != LT_AGAIN)
        disconnect(asker);
    else
        lt_loop_io_set(asker->opts.loop, &asker->io, wanted_events(asker));
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_asker *asker = LT_CONTAINER_OF(io, struct px_asker, io);
    if (asker->is_asked)
        run(asker);
    else
        run_idle(asker);
}

/* --- a question --- */

static bool start_transport(struct px_asker *asker, int fd)
{
    const struct px_tls_conf *tls = asker->opts.tls;
    const struct px_check_conf *conf = asker->opts.conf;
    if (tls == NULL) {
        lt_transport_init_raw(&asker->transport, fd);
        return true;
    }
    struct lt_tls_ctx *ctx = asker->opts.tls_ctx(asker->opts.tls_arg, tls);
    if (ctx == NULL) {
        lt_transport_init_raw(&asker->transport, fd); /* only to close it */
        return false;
    }
    struct lt_tls_conn_opts opts = {
        .sni = tls->sni,
        .alpn = conf->alpn_count > 0 ? conf->alpn : tls->alpn,
        .alpn_count = conf->alpn_count > 0 ? conf->alpn_count : tls->alpn_count,
        .sans = tls->sans,
        .san_count = tls->san_count,
    };
    lt_transport_init_tls(&asker->transport, fd, ctx, &opts);
    return true;
}

static bool start_connection(struct px_asker *asker)
{
    int fd = -1;
    const struct lt_addr *source = asker->opts.source.len > 0 ? &asker->opts.source : NULL;
    if (lt_sock_connect(&asker->opts.addr, source, &fd) != LT_OK)
        return false;
    asker->io.fd = fd;
    asker->state = PX_ASK_CONNECTING;
    bool is_ready = start_transport(asker, fd);
    lt_loop_io_set(asker->opts.loop, &asker->io, EPOLLOUT);
    return is_ready;
}

void px_asker_ask(struct px_asker *asker)
{
    LT_ASSERT(!asker->is_asked);
    asker->is_asked = true;
    asker->is_sent = asker->is_closing = asker->has_head = false;
    asker->grpc_status = LT_STR_NULL;
    lt_loop_timer_set(asker->opts.loop, &asker->timer, asker->opts.conf->timeout_ms * LT_NS_PER_MS);
    if (asker->state == PX_ASK_NONE) {
        if (!start_connection(asker))
            answer_later(asker, PX_CHECK_NETWORK);
        return;
    }
    /*
     * the connection of the last time: what has to be said goes out now, the answer comes by event
     */
    if (write_question(asker) != LT_OK)
        answer_later(asker, PX_CHECK_NETWORK);
    else
        lt_loop_io_set(asker->opts.loop, &asker->io, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
}
