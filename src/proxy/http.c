/*
 * proxy/http.c - HTTP on a downstream connection: one request after the other.
 * What happens to a request: request.c (before the upstream connection), flow.c (over it), reply.c
 * (without one).
 * Start at: px_http_run().
 */
#include "http/url.h"
#include "proxy/request.h"
#include "proxy/run.h"

enum { REQUESTS_PER_TURN = 64 };

void px_http_start(struct px_conn *conn)
{
    conn->limits = lt_h1_limits_default;
    conn->limits.head_bytes_max = conn->chain->hcm->max_request_headers_kb * 1024;
    lt_h1_parser_init(&conn->parser, false, &conn->limits);
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
    px_http_run(conn);
}

/* --- between requests --- */

static void refuse(struct px_conn *conn, struct px_request *request)
{
    lt_h1_error error = conn->parser.error;
    conn->is_closing = true;
    px_request_reply(request, lt_h1_error_status(error), PX_FLAG_DOWNSTREAM_PROTOCOL,
                     lt_h1_error_details(error),
                     lt_str_of(lt_http_reason(lt_h1_error_status(error))), "text/plain");
}

/*
 * LT_OK: a head is there, or a refusal is on its way. LT_AGAIN: not yet. LT_E_CLOSED: the
 * connection has ended.
 */
static lt_rc read_head(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    for (;;) {
        size_t used = 0;
        lt_rc rc = lt_h1_parse_head(&conn->parser, px_input_unread(&conn->in), &request->head,
                                    &used);
        if (rc == LT_OK) {
            conn->in.pos += (uint32_t)used;
            conn->in.floor = conn->in.pos;
            request->head_block = px_input_detach(conn->worker, &conn->in, conn->in.cap / 2);
            request->wire_received = used;
            px_request_start(request);
            return LT_OK;
        }
        if (rc != LT_AGAIN) {
            refuse(conn, request);
            return LT_OK;
        }
        if (!conn->can_read)
            return LT_AGAIN;
        rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc == LT_E_LIMIT)
            rc = px_input_grow(conn->worker, &conn->in,
                               conn->limits.head_bytes_max + PX_BLOCK_BYTES);
        if (rc == LT_AGAIN)
            return LT_AGAIN;
        if (rc != LT_OK)
            return LT_E_CLOSED; /* a truncated head was no request: nothing to answer */
    }
}

/* LT_OK: bytes of a request are there and conn->request stands. */
static lt_rc begin(struct px_conn *conn)
{
    if (conn->in.pos == conn->in.end) {
        if (!conn->can_read)
            return LT_AGAIN;
        lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
        if (rc != LT_OK) {
            px_input_free(conn->worker, &conn->in);
            return rc == LT_AGAIN ? LT_AGAIN : LT_E_CLOSED;
        }
    }
    conn->request = px_request_new(conn);
    const struct px_hcm_conf *hcm = conn->chain->hcm;
    if (hcm->request_headers_timeout_ms != 0)
        px_conn_set_deadline(conn, hcm->request_headers_timeout_ms);
    return LT_OK;
}

/* The request is done: the connection is ready for the next, or ends. */
static void finish(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    bool is_last = conn->is_closing || !request->is_parsed || !request->head.keep_alive;
    /* what was parsed of the body and found no taker is no part of the next request */
    conn->in.pos += (uint32_t)request->up_piece_used;
    request->up_piece_used = 0;
    request->up_piece = LT_STR_NULL;
    px_request_report(request);
    px_request_leave_upstream(request, request->up_is_reusable);
    px_request_free(request);
    conn->request = NULL;
    if (is_last) {
        px_conn_linger(conn);
        return;
    }
    px_input_reset(conn->worker, &conn->in);
    lt_h1_next_message(&conn->parser);
    px_conn_set_deadline(conn, conn->chain->hcm->idle_timeout_ms);
}

static void run_request(struct px_request *request)
{
    switch (request->state) {
    case PX_RQ_FLOW:
    case PX_RQ_REPLY: px_request_flow(request); break;
    case PX_RQ_TUNNEL: px_request_tunnel(request); break;
    case PX_RQ_HEAD:
    case PX_RQ_WAIT:
    case PX_RQ_CONNECT:
    case PX_RQ_DONE: break;
    }
}

/* While nothing goes up yet, only the client's end is of interest: it ends the request. */
static bool client_has_gone(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    bool waits = request->state == PX_RQ_WAIT || request->state == PX_RQ_CONNECT ||
                 request->is_parsed;
    if (!waits || !conn->can_read || request->up_piece.len > 0 || request->state == PX_RQ_TUNNEL)
        return false;
    lt_rc rc = px_input_read(conn->worker, &conn->in, &conn->transport, &conn->can_read);
    return rc != LT_OK && rc != LT_AGAIN && rc != LT_E_LIMIT;
}

void px_http_run(struct px_conn *conn)
{
    for (int turns = 0; turns < REQUESTS_PER_TURN; turns++) {
        if (conn->request == NULL) {
            lt_rc rc = begin(conn);
            if (rc == LT_E_CLOSED)
                px_conn_close(conn);
            if (rc != LT_OK)
                return;
        }
        if (conn->request->state == PX_RQ_HEAD) {
            lt_rc rc = read_head(conn);
            if (rc == LT_E_CLOSED)
                px_conn_close(conn);
            if (rc != LT_OK || conn->state == PX_CONN_CLOSED)
                return;
        }
        run_request(conn->request);
        if (conn->state == PX_CONN_CLOSED)
            return;
        if (conn->request->state != PX_RQ_DONE) {
            if (client_has_gone(conn))
                px_conn_close(conn);
            return;
        }
        finish(conn);
        if (conn->state != PX_CONN_HTTP)
            return;
    }
    /* a client that pipelines without end gets its next turn after everybody else's */
    px_conn_yield(conn);
}

void px_http_timeout(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    if (request == NULL) {
        px_conn_close(conn);
        return;
    }
    if (request->state == PX_RQ_TUNNEL || request->state == PX_RQ_REPLY) {
        px_conn_close(conn);
        return;
    }
    conn->is_closing = true;
    uint32_t code = request->is_parsed ? 504 : 408;
    px_request_reply(request, code, PX_FLAG_STREAM_IDLE, "stream_idle_timeout",
                     LT_STR("stream timeout"), "text/plain");
    if (conn->state != PX_CONN_CLOSED)
        px_http_run(conn);
}

void px_http_abort(struct px_conn *conn)
{
    struct px_request *request = conn->request;
    if (request == NULL)
        return;
    conn->request = NULL;
    if (request->state != PX_RQ_DONE && request->head.method.len > 0) {
        request->flags |= request->flags == 0 ? PX_FLAG_DOWNSTREAM_TERMINATION : 0;
        if (request->details == NULL || !request->response_begun)
            request->details = "downstream_remote_disconnect";
        if (!request->response_begun)
            request->code = 0;
    }
    if (request->head.method.len > 0)
        px_request_report(request);
    px_request_free(request);
}

/* --- from upstream connections --- */

void px_http_on_upstream(struct px_request *request)
{
    if (request->state == PX_RQ_CONNECT) {
        px_request_set_state(request, PX_RQ_FLOW);
        request->peer_principal = px_intern(request->worker,
                                            lt_tls_peer_uri(&request->up->transport));
    }
    px_http_run(request->conn);
}

void px_http_on_upstream_failed(struct px_request *request)
{
    struct px_conn *conn = request->conn;
    struct px_upstream *up = request->up;
    bool timed_out = up->timed_out;
    memcpy(request->failure, up->failure, sizeof(request->failure));
    if (!px_request_retry_failure(request, PX_FAIL_CONNECT)) {
        lt_str body = lt_arena_printf(
            request->arena,
            "upstream connect error or disconnect/reset before headers. reset reason: %s%s%s",
            timed_out ? "connection timeout" : "remote connection failure",
            request->failure[0] != '\0' && !timed_out ? ", transport failure reason: " : "",
            timed_out ? "" : request->failure);
        px_request_reply(request, 503, PX_FLAG_UPSTREAM_FAILURE,
                         timed_out
                             ? "upstream_reset_before_response_started{connection_timeout}"
                             : "upstream_reset_before_response_started{remote_connection_failure}",
                         body, "text/plain");
    }
    if (conn->state != PX_CONN_CLOSED)
        px_http_run(conn);
}

void px_http_wake_first(struct px_cluster *cluster)
{
    struct px_request *request = lt_list_first(&cluster->waiting, struct px_request, wait_link);
    lt_list_remove(&request->wait_link);
    if (request->counts_pending) {
        request->counts_pending = false;
        cluster->pending--;
    }
    px_request_try(request);
    if (request->conn != NULL && request->conn->state != PX_CONN_CLOSED)
        px_http_run(request->conn);
}
