/*
 * proxy/run/conn.c - one downstream connection from accept to the codec: where it was meant to go,
 * what it speaks, which filter chain takes it, TLS. Then http.c or tcp.c has it.
 *
 * INSPECT -> HANDSHAKE -> (SNIFF ->) HTTP (1), H2 or TCP -> (LINGER ->) CLOSED
 *
 * A connection that was redirected belongs to the listener of its original destination. Inspectors
 * peek at the first bytes only where they are asked for, so that a server which speaks first is not
 * waited for.
 * Start at: px_conn_accept().
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/client_hello.h"
#include "proxy/conf/chain_match.h"
#include "proxy/http/h2_link.h"
#include "proxy/run/net_filter.h"
#include "proxy/run/relieve.h"
#include "proxy/run/run.h"
#include "proxy/run/workers.h"
#include "proxy/told/codec_stats.h"
#include "proxy/told/conn_log.h"
#include "proxy/told/tls_stats.h"

enum {
    PEEK_MAX = 16 * 1024, /* of a ClientHello */
    LINGER_MS = 1000,     /* Envoy's delayed_close_timeout */
    APPLICATION_PROTOCOLS_MAX = 16,
    TLS_BYTES = 24 * 1024, /* what one takes */
    TLS_HANDSHAKE = 22,    /* the first byte of a ClientHello's record */
    SILENCE_NS = 10 * LT_NS_PER_MS,
    FIRST_WORDS_NS = LT_NS_PER_MS,
};

/* What the first bytes say. */
struct inspection {
    bool is_tls;
    lt_str server_name;
    lt_str protocols[APPLICATION_PROTOCOLS_MAX];
    size_t protocol_count;
    char *room; /* LT_CLIENT_HELLO_BYTES_MAX; NULL: nothing is inspected */
};

static void on_ready(struct lt_io *io, uint32_t events);
static void choose_chain(struct px_conn *conn, const struct inspection *found);
static void guess(struct px_conn *conn);

/* --- timers: the heap is touched when a deadline comes nearer, not for each request --- */

static uint64_t next_due_ns(const struct px_conn *conn)
{
    uint64_t idle_ns = conn->deadline_ns != 0 ? conn->deadline_ns : UINT64_MAX;
    uint64_t drained_ns = conn->drained_at_ns != 0 ? conn->drained_at_ns : UINT64_MAX;
    uint64_t leave_ns = conn->leave_at_ns != 0 ? conn->leave_at_ns : UINT64_MAX;
    uint64_t guess_ns = conn->guess_at_ns != 0 ? conn->guess_at_ns : UINT64_MAX;
    uint64_t ends_ns = conn->ends_at_ns != 0 ? conn->ends_at_ns : UINT64_MAX;
    idle_ns = LT_MIN(idle_ns, guess_ns);
    return LT_MIN(LT_MIN(idle_ns, drained_ns), LT_MIN(leave_ns, ends_ns));
}

static void arm(struct px_conn *conn)
{
    uint64_t due_ns = next_due_ns(conn), now_ns = px_now_ns(conn->worker);
    if (due_ns != UINT64_MAX && (!lt_timer_is_set(&conn->timer) || conn->timer.at_ns > due_ns))
        lt_loop_timer_set(conn->worker->loop, &conn->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

void px_conn_set_deadline(struct px_conn *conn, uint64_t after_ms)
{
    conn->deadline_ns = after_ms == 0 ? 0 : px_now_ns(conn->worker) + after_ms * LT_NS_PER_MS;
    if (lt_timer_is_set(&conn->timer) && conn->timer.at_ns <= conn->deadline_ns)
        return; /* it fires before, and looks then */
    arm(conn);
}

void px_conn_leave_at(struct px_conn *conn, uint64_t at_ns)
{
    conn->leave_at_ns = at_ns;
    arm(conn);
}

void px_conn_end_at(struct px_conn *conn, uint64_t at_ns)
{
    conn->drained_at_ns = at_ns;
    arm(conn);
}

static void give_up_waiting(struct px_conn *conn)
{
    switch (conn->state) {
    case PX_CONN_HTTP: px_h1_timeout(conn); break;
    case PX_CONN_H2: px_h2_timeout(conn); break;
    case PX_CONN_TCP: px_tcp_timeout(conn); break;
    case PX_CONN_INSPECT:
        if (conn->listener->continue_on_timeout) {
            struct inspection nothing = {0};
            choose_chain(conn, &nothing);
            break;
        }
        px_conn_close(conn);
        break;
    case PX_CONN_SNIFF:
        px_hcm_count(conn->worker, conn->chain->hcm, PX_HCM_IDLE_TIMEOUT);
        px_conn_close(conn);
        break;
    default: px_conn_close(conn); break;
    }
}

/* max_connection_duration: what goes on goes on, and is the last. */
static void end_of_life(struct px_conn *conn)
{
    conn->ends_at_ns = 0;
    px_hcm_count(conn->worker, conn->chain->hcm, PX_HCM_MAX_DURATION);
    conn->is_told = true; /* by this */
    if (conn->state == PX_CONN_H2)
        px_h2_link_drain(conn->h2, conn->chain->hcm->drain_timeout_ms);
    else if (conn->request == NULL)
        px_conn_close(conn);
    conn->is_draining = true;
}

static void start_life(struct px_conn *conn)
{
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    uint64_t life_ms = hcm->max_connection_duration_ms;
    if (life_ms == 0)
        return;
    uint64_t jitter_ms = life_ms * hcm->max_connection_jitter_percent / 100;
    if (jitter_ms > 0)
        life_ms += lt_prng_next(&conn->worker->prng) % jitter_ms;
    conn->ends_at_ns = px_now_ns(conn->worker) + life_ms * LT_NS_PER_MS;
    arm(conn);
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_conn *conn = LT_CONTAINER_OF(timer, struct px_conn, timer);
    if (now_ns < next_due_ns(conn)) {
        arm(conn);
    } else if (conn->drained_at_ns != 0 && now_ns >= conn->drained_at_ns) {
        px_conn_close(conn);
    } else if (conn->leave_at_ns != 0 && now_ns >= conn->leave_at_ns) {
        conn->leave_at_ns = 0;
        px_conn_leave(conn);
        arm(conn);
    } else if (conn->guess_at_ns != 0 && now_ns >= conn->guess_at_ns) {
        guess(conn);
        if (conn->state != PX_CONN_CLOSED)
            arm(conn);
    } else if (conn->ends_at_ns != 0 && now_ns >= conn->ends_at_ns) {
        end_of_life(conn);
        if (conn->state != PX_CONN_CLOSED)
            arm(conn);
    } else {
        conn->deadline_ns = 0;
        give_up_waiting(conn);
        if (conn->state != PX_CONN_CLOSED)
            arm(conn);
    }
}

/* --- the end --- */

static void count_connections(struct px_worker *worker, int by)
{
    worker->conn_count += (uint32_t)by;
    atomic_store_explicit(&worker->owner->threads[worker->index].connections, worker->conn_count,
                          memory_order_relaxed);
}

void px_conn_close(struct px_conn *conn)
{
    if (conn->state == PX_CONN_CLOSED)
        return;
    px_conn_state before = conn->state;
    conn->state = PX_CONN_CLOSED;
    px_net_filters_end(conn);
    if (before == PX_CONN_HTTP)
        px_h1_abort(conn);
    else if (before == PX_CONN_H2)
        px_h2_abort(conn);
    else
        px_tcp_abort(conn); /* if it has one */
    px_small_end(conn);
    px_conn_log_end(conn);
    lt_task_cancel(&conn->again);
    lt_loop_timer_cancel(conn->worker->loop, &conn->timer);
    lt_loop_io_del(conn->worker->loop, &conn->io);
    lt_transport_fini(&conn->transport);
    px_input_free(conn->worker, &conn->in);
    px_conn_more_free(conn);
    lt_list_remove(&conn->link);
    px_pin_drop(&conn->pin);
    px_text_drop(&conn->principal);
    free(conn->xfcc);
    px_text_drop(&conn->requested_server_name);
    count_connections(conn->worker, -1);
    px_bury_conn(conn->worker, conn);
}

static void run_again(struct lt_task *task)
{
    px_conn_run(LT_CONTAINER_OF(task, struct px_conn, again));
}

void px_conn_yield(struct px_conn *conn)
{
    lt_loop_defer(conn->worker->loop, &conn->again);
}

static void run_linger(struct px_conn *conn)
{
    for (int reads = 0; reads < 64 && conn->can_read; reads++) {
        conn->in.floor = conn->in.pos = conn->in.end = 0;
        lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc != LT_OK && rc != LT_AGAIN) {
            px_conn_close(conn);
            return;
        }
    }
}

void px_conn_linger(struct px_conn *conn)
{
    uint64_t linger_ms = conn->chain->hcm != NULL ? conn->chain->hcm->delayed_close_ms : LINGER_MS;
    if (linger_ms == 0) {
        px_conn_close(conn);
        return;
    }
    conn->state = PX_CONN_LINGER;
    conn->ends_at_ns = 0;
    (void)lt_transport_shutdown_write(&conn->transport);
    px_conn_set_deadline(conn, linger_ms);
    run_linger(conn);
}

/* --- what the first bytes say --- */

static bool is_off(const struct px_port_range *ranges, size_t count, uint16_t port)
{
    for (size_t i = 0; i < count; i++) {
        if (port >= ranges[i].from && port < ranges[i].to)
            return true;
    }
    return false;
}

static bool wants_tls_inspector(const struct px_conn *conn)
{
    const struct px_listener_conf *conf = conn->listener;
    return conf->has_tls_inspector &&
           !is_off(conf->tls_inspector_off, conf->tls_inspector_off_count,
                   lt_addr_port(&conn->local));
}

static bool wants_http_inspector(const struct px_conn *conn)
{
    const struct px_listener_conf *conf = conn->listener;
    return conf->has_http_inspector &&
           !is_off(conf->http_inspector_off, conf->http_inspector_off_count,
                   lt_addr_port(&conn->local));
}

/* LT_OK: it is HTTP/2's preface; LT_AGAIN: so far. */
static lt_rc match_preface(lt_str bytes)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t shared = LT_MIN(bytes.len, sizeof(preface) - 1);
    if (shared > 0 && memcmp(bytes.ptr, preface, shared) != 0)
        return LT_E_BAD;
    return shared == sizeof(preface) - 1 ? LT_OK : LT_AGAIN;
}

/*
 * Envoy's http_inspector: a request line "METHOD SP target SP HTTP/1.x", or the HTTP/2 preface.
 * LT_OK with the protocol, LT_AGAIN while it may still become one, LT_E_BAD when it can't.
 */
static lt_rc inspect_http(lt_str bytes, lt_str *ret_protocol)
{
    lt_rc rc = bytes.len > 0 ? match_preface(bytes) : LT_E_BAD;
    if (rc != LT_E_BAD) {
        *ret_protocol = LT_STR("h2c");
        return rc;
    }
    ptrdiff_t blank = lt_str_find_char(bytes, ' ');
    lt_str method = blank < 0 ? bytes : lt_str_slice(bytes, 0, (size_t)blank);
    if (method.len > 32 || (method.len > 0 && !lt_http_is_token(method)))
        return LT_E_BAD;
    ptrdiff_t end = lt_str_find_char(bytes, '\n');
    if (blank < 0 || end < 0)
        return blank < 0 && end >= 0 ? LT_E_BAD : bytes.len >= PEEK_MAX / 2 ? LT_E_BAD : LT_AGAIN;
    lt_str line = lt_str_trim(lt_str_slice(bytes, 0, (size_t)end));
    ptrdiff_t last = lt_str_rfind_char(line, ' ');
    lt_str version = lt_str_from(line, (size_t)last + 1);
    if (last <= blank || !lt_str_starts(version, LT_STR("HTTP/1.")))
        return LT_E_BAD;
    *ret_protocol = lt_str_eqz(version, "HTTP/1.0") ? LT_STR("http/1.0") : LT_STR("http/1.1");
    return LT_OK;
}

/* Names and protocols of the hello are slices of the peeked bytes, or of found->room. */
static lt_rc inspect_tls(lt_str bytes, struct inspection *found)
{
    struct lt_client_hello hello;
    lt_rc rc = lt_client_hello_parse(bytes, found->room, &hello);
    if (rc != LT_OK)
        return rc;
    found->is_tls = true;
    found->server_name = hello.server_name;
    for (size_t i = 0; i < hello.alpn_count && i < APPLICATION_PROTOCOLS_MAX; i++)
        found->protocols[found->protocol_count++] = hello.alpn[i];
    return LT_OK;
}

/*
 * LT_AGAIN: more bytes would tell more. LT_E_LIMIT: a hello that is too long to tell whom it is
 * for. Everything else decides.
 */
static lt_rc inspect(const struct px_conn *conn, lt_str bytes, struct inspection *found)
{
    if (wants_tls_inspector(conn)) {
        lt_rc rc = bytes.len == 0 ? LT_AGAIN : inspect_tls(bytes, found);
        if (rc == LT_AGAIN || rc == LT_E_LIMIT)
            return rc;
    }
    if (!found->is_tls && wants_http_inspector(conn)) {
        lt_str protocol;
        lt_rc rc = bytes.len == 0 ? LT_AGAIN : inspect_http(bytes, &protocol);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc == LT_OK)
            found->protocols[found->protocol_count++] = protocol;
    }
    return LT_OK;
}

/* --- the chain, and TLS --- */

static void start_http(struct px_conn *conn, bool is_h2)
{
    conn->state = is_h2 ? PX_CONN_H2 : PX_CONN_HTTP;
    if (is_h2)
        px_h2_start(conn);
    else
        px_h1_start(conn);
}

static void run_sniff(struct px_conn *conn)
{
    for (;;) {
        lt_rc rc = match_preface(px_input_unread(&conn->in));
        if (rc != LT_AGAIN) {
            start_http(conn, rc == LT_OK);
            return;
        }
        if (conn->can_read)
            rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc == LT_AGAIN) {
            if (conn->in.pos == conn->in.end)
                px_input_free(conn->worker, &conn->in);
            return;
        }
        if (rc != LT_OK) {
            px_conn_close(conn);
            return;
        }
    }
}

/* Envoy's AUTO: what ALPN said, else what the first bytes say. */
static void choose_http(struct px_conn *conn)
{
    start_life(conn);
    lt_str alpn = conn->transport.tls != NULL ? lt_tls_alpn(&conn->transport) : LT_STR_NULL;
    bool is_h2_alpn = lt_str_eqz(alpn, "h2") || lt_str_eqz(alpn, "istio-h2");
    if (conn->chain->hcm->codec != PX_CODEC_AUTO || alpn.len > 0) {
        start_http(conn, conn->chain->hcm->codec == PX_CODEC_H2 ||
                             (conn->chain->hcm->codec == PX_CODEC_AUTO && is_h2_alpn));
        return;
    }
    conn->state = PX_CONN_SNIFF;
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
    run_sniff(conn);
}

/*
 * A client that was refused may have sent something already; unread it would turn the end of the
 * connection into a reset.
 */
static void refuse(struct px_conn *conn)
{
    if (conn->state == PX_CONN_TCP)
        px_tcp_abort(conn);
    px_conn_linger(conn);
}

void px_conn_filtered(struct px_conn *conn, px_verdict verdict)
{
    if (verdict == PX_STOP)
        refuse(conn);
    else if (verdict == PX_GO && conn->chain->hcm != NULL)
        choose_http(conn);
    else if (verdict == PX_GO && conn->chain->small != NULL)
        px_small_start(conn);
    else if (verdict == PX_GO)
        px_tcp_connect(conn);
}

static void start_codec(struct px_conn *conn)
{
    px_text_set(&conn->principal, px_intern(conn->worker, lt_tls_peer_uri(&conn->transport)));
    px_conn_set_deadline(conn, 0);
    conn->state = conn->chain->tcp != NULL ? PX_CONN_TCP : PX_CONN_FILTER;
    if (conn->state == PX_CONN_TCP)
        px_tcp_start(conn);
    px_conn_filtered(conn, px_net_filters_start(conn));
}

/* For the listener's access log. */
static void keep_failure(struct px_conn *conn)
{
    if (conn->listener->access_log_count == 0)
        return;
    struct px_conn_more *more = px_conn_more(conn);
    lt_str text = lt_arena_printf(more->arena, "TLS error: %s", lt_tls_error(&conn->transport));
    more->tls_failure = lt_arena_strz(more->arena, text);
}

static void handshake(struct px_conn *conn)
{
    lt_rc rc = lt_transport_handshake(&conn->transport);
    if (rc == LT_AGAIN)
        return;
    px_tls_count_client(conn, rc == LT_OK);
    if (rc != LT_OK) {
        keep_failure(conn);
        px_conn_close(conn);
        return;
    }
    if (conn->chain->tls->require_client_certificate &&
        !lt_tls_has_verified_peer(&conn->transport)) {
        px_conn_close(conn); /* the context demands one, too; twice is not too often */
        return;
    }
    start_codec(conn);
}

static void start_tls(struct px_conn *conn)
{
    const struct px_tls_conf *tls = conn->chain->tls;
    struct lt_tls_ctx *ctx = px_snapshot_tls(conn->pin->snapshot, tls->ctx_slot);
    if (ctx == NULL) {
        px_conn_close(conn); /* its secret is not there: nobody is let in */
        return;
    }
    struct lt_tls_conn_opts opts = {.sans = tls->sans, .san_count = tls->san_count};
    int fd = conn->transport.fd;
    lt_transport_init_tls(&conn->transport, fd, ctx, &opts);
    lt_rc rc = lt_transport_tls_prefill(&conn->transport, px_input_unread(&conn->in));
    px_input_free(conn->worker, &conn->in);
    if (rc != LT_OK) {
        px_conn_close(conn);
        return;
    }
    px_relieve_note(conn->worker, TLS_BYTES);
    conn->state = PX_CONN_HANDSHAKE;
    px_conn_set_deadline(
        conn, conn->chain->transport_timeout_ms != 0 ? conn->chain->transport_timeout_ms : 15000);
    handshake(conn);
}

static const struct px_chain *find_chain(const struct px_conn *conn, const struct inspection *found)
{
    char lower[256];
    size_t len = LT_MIN(found->server_name.len, sizeof(lower));
    for (size_t i = 0; i < len; i++) {
        char c = found->server_name.ptr[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    struct px_conn_facts facts = {
        .destination = conn->local,
        .source = conn->peer,
        .server_name = lt_str_make(lower, len),
        .transport_protocol = found->is_tls ? LT_STR("tls") : LT_STR("raw_buffer"),
        .application_protocols = found->protocols,
        .application_protocol_count = found->protocol_count,
    };
    return px_chain_find(conn->listener, &facts);
}

static void choose_chain(struct px_conn *conn, const struct inspection *found)
{
    char text[LT_SERVER_NAME_TEXT_MAX];
    px_text_set(&conn->requested_server_name,
                px_intern(conn->worker, lt_server_name_text(found->server_name, text)));
    conn->chain = find_chain(conn, found);
    conn->guess_at_ns = 0;
    if (conn->tcp != NULL && px_tcp_chain(conn) != conn->chain)
        px_tcp_abort(conn); /* the guess was wrong */
    if (conn->chain == NULL) {
        px_listener_count(conn, "no_filter_chain_match"); /* STRICT: who came in plaintext */
        if (conn->listener->access_log_count > 0)
            px_net_refuse(conn, "filter_chain_not_found", PX_FLAG_NO_ROUTE);
        px_conn_close(conn);
        return;
    }
    if (conn->chain->tls != NULL)
        start_tls(conn);
    else
        start_codec(conn);
}

/* LT_E_LIMIT: all that may be peeked at is there, and more would tell more. */
static lt_rc peek_more(struct px_conn *conn)
{
    lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
    if (rc == LT_EOF)
        conn->saw_eof = true;
    return rc == LT_EOF ? LT_OK : rc;
}

/* Peeks; bytes stay in conn->in for whoever comes next. */
static void run_inspect(struct px_conn *conn)
{
    char room[LT_CLIENT_HELLO_BYTES_MAX];
    for (;;) {
        struct inspection found = {.room = room};
        lt_str peeked = px_input_unread(&conn->in);
        lt_rc rc = inspect(conn, peeked, &found);
        bool is_tls = peeked.len > 0 && peeked.ptr[0] == TLS_HANDSHAKE;
        if (rc == LT_AGAIN && !conn->saw_eof) {
            if (!conn->can_read)
                return;
            rc = peek_more(conn);
            if (rc == LT_OK || rc == LT_AGAIN)
                continue;
        }
        /* Envoy: whoever says more than can be looked at is not let past those who look */
        bool is_unseen = rc == LT_E_LIMIT && is_tls && wants_tls_inspector(conn);
        if (is_unseen || rc == LT_E_CLOSED || (conn->saw_eof && peeked.len == 0))
            px_conn_close(conn);
        else
            choose_chain(conn, &found);
        return;
    }
}

/* --- a client that says nothing --- */

/*
 * Where inspectors wait for the client's first bytes and a client waits for the server's, nobody
 * would ever speak. What chain a silent client would have is known; when its server turns out to
 * speak first, no protocol that an inspector looks for is spoken here, and the chain is the one.
 * Nothing is guessed where a timeout would not lead to that chain either. (decision 13)
 */
static bool may_guess(const struct px_conn *conn)
{
    return conn->state == PX_CONN_INSPECT && conn->listener->continue_on_timeout &&
           conn->in.pos == conn->in.end && !conn->saw_eof && conn->tcp == NULL;
}

static void guess(struct px_conn *conn)
{
    static const struct inspection nothing;
    conn->guess_at_ns = 0;
    if (!may_guess(conn))
        return;
    const struct px_chain *chain = find_chain(conn, &nothing);
    if (chain != NULL && chain->tcp != NULL && chain->tls == NULL && !chain->has_sni_cluster &&
        chain->net_filter_count == 0)
        px_tcp_guess(conn, chain);
}

void px_conn_spoken_to(struct px_conn *conn)
{
    static const struct inspection nothing;
    struct px_listener *listener = px_listener_for(conn->worker, &conn->listener->addr);
    if (listener != NULL)
        listener->has_first_words = true;
    choose_chain(conn, &nothing);
}

/* --- accept --- */

/* The listener that a connection belongs to; its own when nobody has the original destination. */
static const struct px_listener_conf *find_listener(struct px_worker *worker,
                                                    const struct px_listener_conf *accepted,
                                                    const struct lt_addr *destination)
{
    if (!accepted->use_original_dst)
        return accepted;
    struct px_listener *target = px_listener_for(worker, destination);
    return target != NULL && !target->conf->use_original_dst ? target->conf : accepted;
}

static lt_rc find_destination(const struct px_listener_conf *accepted, int fd,
                              struct lt_addr *ret_addr, bool *ret_is_original)
{
    bool is_redirected = accepted->use_original_dst || accepted->has_original_dst_filter;
    *ret_is_original = is_redirected && lt_sock_original_dst(fd, ret_addr) == LT_OK;
    return *ret_is_original ? LT_OK : lt_sock_local(fd, ret_addr);
}

/* Most clients have spoken by then; where servers are known to begin, they are not kept waiting. */
static void wait_for_words(struct px_conn *conn, bool has_first_words)
{
    uint64_t wait_ns = has_first_words ? FIRST_WORDS_NS : SILENCE_NS;
    conn->guess_at_ns = px_now_ns(conn->worker) + wait_ns;
    arm(conn);
}

void px_conn_accept(struct px_listener *listener, int fd, const struct lt_addr *peer,
                    const struct lt_addr *local)
{
    struct px_worker *worker = listener->worker;
    struct lt_addr destination = {0};
    if (px_relieve_refuses_connection(worker, listener->conf)) {
        close(fd);
        return;
    }
    px_relieve_note(worker, sizeof(struct px_conn));
    bool is_original = local != NULL;
    if (local != NULL) {
        destination = *local;
    } else if (find_destination(listener->conf, fd, &destination, &is_original) != LT_OK) {
        close(fd); /* it went while it waited */
        return;
    }
    struct px_conn *conn = lt_slab_take(&listener->worker->conn_slab);
    conn->worker = worker;
    conn->pin = px_pin_take(worker->pin);
    conn->listener = find_listener(worker, listener->conf, &destination);
    conn->peer = *peer;
    conn->local = destination;
    conn->has_original_dst = is_original;
    conn->principal = conn->requested_server_name = "";
    conn->id = ++worker->next_conn_id;
    conn->can_write = true;
    lt_list_init(&conn->streams);
    lt_transport_init_raw(&conn->transport, fd);
    lt_timer_init(&conn->timer, on_timer);
    lt_task_init(&conn->again, run_again);
    lt_io_init(&conn->io, on_ready);
    conn->io.fd = fd;
    lt_list_push_back(&worker->conns, &conn->link);
    count_connections(worker, 1);
    conn->accepted_ns = px_now_ns(worker);
    px_drain_accepted(conn);
    listener->connections++;
    lt_loop_io_set(worker->loop, &conn->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    uint64_t timeout_ms = conn->listener->filters_timeout_ms;
    if (timeout_ms != 0)
        px_conn_set_deadline(conn, timeout_ms);
    if (wants_tls_inspector(conn) || wants_http_inspector(conn)) {
        if (conn->listener->continue_on_timeout)
            wait_for_words(conn, listener->has_first_words);
        return; /* the first event starts the inspection */
    }
    struct inspection nothing = {0};
    choose_chain(conn, &nothing);
}

/* --- events --- */

void px_conn_run(struct px_conn *conn)
{
    if (conn->worker->is_choked && conn->state != PX_CONN_CLOSED) {
        px_conn_yield(conn); /* behind whatever gives memory back */
        return;
    }
    switch (conn->state) {
    case PX_CONN_INSPECT: run_inspect(conn); break;
    case PX_CONN_HANDSHAKE: handshake(conn); break;
    case PX_CONN_SNIFF: run_sniff(conn); break;
    case PX_CONN_HTTP: px_h1_run(conn); break;
    case PX_CONN_H2: px_h2_run(conn); break;
    case PX_CONN_TCP: px_tcp_run(conn); break;
    case PX_CONN_SMALL: px_small_run(conn); break;
    case PX_CONN_LINGER: run_linger(conn); break;
    case PX_CONN_FILTER: break; /* what the client sends waits in the kernel */
    case PX_CONN_INSIDE:
    case PX_CONN_CLOSED: break;
    }
}

static void on_ready(struct lt_io *io, uint32_t events)
{
    struct px_conn *conn = LT_CONTAINER_OF(io, struct px_conn, io);
    conn->can_read |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    conn->in.end_is_near |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    conn->can_write |= (events & EPOLLOUT) != 0;
    if (conn->transport.tls != NULL)
        conn->can_read = conn->can_write = true;
    px_conn_run(conn);
}
