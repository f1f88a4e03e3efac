/*
 * proxy/http/reply.c - replies that the proxy makes by itself, and what is told about every request
 * at its end.
 */
#include "http/grpc.h"
#include "proxy/conf/log_filter.h"
#include "proxy/http/request.h"
#include "proxy/run/run.h"
#include "proxy/told/attributes.h"
#include "proxy/told/conn_log.h"
#include "proxy/told/decisions.h"
#include "proxy/told/trace.h"

/* --- local replies --- */

/* As a client would make it of the code; 200 is what a reply may say, too. */
static uint32_t grpc_status_of(uint32_t code)
{
    return code == 200 ? (uint32_t)LT_GRPC_OK : (uint32_t)lt_grpc_code_of_http(code);
}

static lt_str grpc_message(struct lt_arena *arena, lt_str text)
{
    struct lt_buf out;
    lt_buf_init(&out, 3 * text.len + 1);
    lt_rc rc = lt_grpc_message_encode(text, &out);
    LT_ASSERT(rc == LT_OK); /* three for one is the most */
    lt_str message = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return message;
}

/* A client of gRPC gets headers alone, 200, and the reason as gRPC says it. */
static lt_rc make_grpc_head(struct px_request *request, uint32_t code, lt_str text)
{
    struct lt_headers *headers = &request->rhead.headers;
    uint32_t status = request->reply_grpc_status != 0 ? request->reply_grpc_status
                                                      : grpc_status_of(code);
    request->rhead.status = request->code = 200;
    request->rhead.body = LT_BODY_NONE;
    /* HTTP/1 has no other way to say that it ends here */
    request->rhead.has_content_length = request->down->protocol == PX_PROTO_H1;
    LT_TRY(lt_headers_add_id(headers, LT_H_CONTENT_TYPE, LT_STR("application/grpc")));
    LT_TRY(lt_headers_add_id(headers, LT_H_GRPC_STATUS, lt_arena_u64(request->arena, status)));
    if (text.len == 0)
        return LT_OK;
    return lt_headers_add_id(headers, LT_H_GRPC_MESSAGE, grpc_message(request->arena, text));
}

static lt_rc make_http_head(struct px_request *request, uint32_t code, lt_str body,
                            const char *content_type)
{
    struct lt_http_head *head = &request->rhead;
    head->status = code;
    head->body = body.len > 0 && request->head.method_id != LT_METHOD_HEAD ? LT_BODY_LENGTH
                                                                           : LT_BODY_NONE;
    head->content_length = body.len;
    head->has_content_length = body.len > 0;
    if (content_type != NULL && body.len > 0)
        LT_TRY(lt_headers_add_id(&head->headers, LT_H_CONTENT_TYPE, lt_str_of(content_type)));
    if (request->location.len > 0)
        LT_TRY(lt_headers_add_id(&head->headers, LT_H_LOCATION, request->location));
    return LT_OK;
}

static lt_rc make_head(struct px_request *request, uint32_t code, lt_str body,
                       const char *content_type)
{
    struct lt_http_head *head = &request->rhead;
    lt_h1_head_init(head, request->arena, NULL);
    head->minor = 1;
    head->keep_alive = true;
    bool is_grpc = request->is_grpc && request->location.len == 0;
    LT_TRY(is_grpc ? make_grpc_head(request, code, body)
                   : make_http_head(request, code, body, content_type));
    if (request->reply_headers != NULL && is_grpc)
        lt_headers_remove(request->reply_headers, LT_H_CONTENT_TYPE);
    if (request->reply_headers != NULL)
        LT_TRY(lt_headers_add_all(&head->headers, request->reply_headers));
    if (request->reply_mark != NULL && !request->hcm->router.hides_headers)
        LT_TRY(lt_headers_add(&head->headers, lt_str_of(request->reply_mark), LT_STR("true")));
    struct px_cluster *cluster = request->cluster;
    request->cluster = NULL; /* no service time: no service answered */
    lt_rc rc = px_response_edit(request);
    request->cluster = cluster;
    return rc;
}

struct lt_headers *px_reply_headers(struct px_request *request)
{
    if (request->reply_headers == NULL) {
        request->reply_headers = lt_arena_make(request->arena, struct lt_headers);
        lt_headers_init(request->reply_headers, request->arena, 0, 0);
    }
    return request->reply_headers;
}

void px_reply_header(struct px_request *request, lt_str name, lt_str value)
{
    lt_rc rc = lt_headers_add(px_reply_headers(request), name, value);
    (void)rc; /* what is too much is not said */
}

static lt_rc begin_reply(struct px_request *request, uint32_t code, lt_str body,
                         const char *content_type)
{
    struct px_dir *resp = &request->resp;
    lt_buf_clear(&request->down_out, PX_BLOCK_BYTES);
    LT_TRY(make_head(request, code, body, content_type));
    resp->piece = request->rhead.body == LT_BODY_LENGTH ? body : LT_STR_NULL;
    resp->piece_used = 0;
    resp->owner = NULL;
    resp->trailers = NULL;
    resp->is_read = true;
    resp->is_raw = resp->is_chunked = resp->is_framed = false;
    resp->body_bytes = resp->piece.len;
    return request->down->head(request);
}

void px_request_reply(struct px_request *request, uint32_t code, uint32_t flags,
                      const char *details, lt_str body, const char *content_type)
{
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    request->flags |= flags;
    request->details = details;
    if (request->response_begun) {
        /* half a response is out: only a cut can say that the rest will not come */
        request->down->abort(request);
        return;
    }
    if (request->routes != NULL) /* the steps have begun */
        request->answered_at = request->filter_at + 1;
    px_request_leave_upstream(request, false);
    request->code = code;
    request->response_begun = true;
    request->response_begin_ns = px_now_ns(request->worker);
    px_request_set_state(request, PX_RQ_REPLY);
    if (!px_request_is_read(request) && request->down->protocol == PX_PROTO_H1)
        request->conn->is_closing = true;
    if (begin_reply(request, code, body, content_type) != LT_OK)
        request->down->abort(request);
}

/* --- what is said when an upstream broke off --- */

static const struct {
    uint32_t code, flag;
    const char *before, *after, *text;
} breaks[] = {
    [PX_BROKE_TERMINATION] = {503, PX_FLAG_UPSTREAM_TERMINATION,
                              "upstream_reset_before_response_started{connection_termination}",
                              "upstream_reset_after_response_started{connection_termination}",
                              "connection termination"},
    [PX_BROKE_RESET] = {503, PX_FLAG_UPSTREAM_RESET,
                        "upstream_reset_before_response_started{remote_reset}",
                        "upstream_reset_after_response_started{remote_reset}", "remote reset"},
    [PX_BROKE_REFUSED] = {503, PX_FLAG_UPSTREAM_RESET,
                          "upstream_reset_before_response_started{remote_refused_stream_reset}",
                          "upstream_reset_after_response_started{remote_refused_stream_reset}",
                          "remote refused stream reset"},
    [PX_BROKE_CONNECT] =
        {503, PX_FLAG_UPSTREAM_RESET,
         "upstream_reset_before_response_started{remote_error_with_CONNECT_request}",
         "upstream_reset_after_response_started{remote_error_with_CONNECT_request}",
         "remote error with CONNECT request"},
    [PX_BROKE_PROTOCOL] = {502, PX_FLAG_UPSTREAM_PROTOCOL,
                           "upstream_reset_before_response_started{protocol_error}",
                           "upstream_reset_after_response_started{protocol_error}",
                           "protocol error"},
};

void px_request_broke(struct px_request *request)
{
    px_host_note_failed(request->host);
    if (request->up_codec->protocol == PX_PROTO_H2 && request->broke != PX_BROKE_REFUSED)
        px_cluster_count(request->cluster, request->broke == PX_BROKE_RESET ? PX_STAT_RQ_RX_RESET
                                           : request->broke == PX_BROKE_PROTOCOL
                                               ? PX_STAT_RQ_TX_RESET
                                               : PX_STAT_RQ_PENDING_FAILURE);
    px_failure failure = request->broke == PX_BROKE_REFUSED ? PX_FAIL_REFUSED
                         : request->has_reached_up          ? PX_FAIL_RESET
                                                            : PX_FAIL_RESET_BEFORE;
    if (!request->response_begun && px_request_retry_failure(request, failure))
        return;
    const char *details = request->response_begun ? breaks[request->broke].after
                                                  : breaks[request->broke].before;
    lt_str body = lt_arena_printf(
        request->arena,
        "upstream connect error or disconnect/reset before headers. reset reason: %s",
        breaks[request->broke].text);
    px_request_reply(request, breaks[request->broke].code, breaks[request->broke].flag, details,
                     body, "text/plain");
}

/* --- the end of a request --- */

static lt_str protocol_name(const struct px_request *request)
{
    if (request->down->protocol == PX_PROTO_H2)
        return LT_STR("HTTP/2");
    return request->head.minor == 0 ? LT_STR("HTTP/1.0") : LT_STR("HTTP/1.1");
}

/* Envoy knows it from the route on, when the request does not get there, too. */
static lt_str routed_cluster(const struct px_request *request)
{
    lt_str name = px_request_cluster_name(request);
    bool is_there = name.len > 0 && request->routes != NULL &&
                    px_snapshot_find_cluster(request->pin->snapshot, name) != NULL;
    return is_there ? name : LT_STR_NULL;
}

void px_request_log_facts(struct px_request *request, struct px_log_facts *facts,
                          char text[PX_FACTS_TEXTS][LT_ADDR_TEXT_MAX])
{
    const struct px_conn *conn = request->conn;
    uint64_t now_ns = px_now_ns(request->worker);
    *facts = (struct px_log_facts){
        .start_wall_ns = request->start_wall_ns,
        .method = request->method,
        .path = request->path,
        .original_path = request->original_path,
        .protocol = protocol_name(request),
        .authority = request->authority,
        .scheme = request->scheme,
        .request = &request->head.headers,
        .response = request->rhead.status != 0 ? &request->rhead.headers : NULL,
        .code = request->code,
        .flags = request->flags,
        .details = request->details,
        .transport_failure = request->failure,
        .bytes_received = request->req.body_bytes,
        .bytes_sent = request->resp.body_bytes,
        .duration_ns = now_ns - request->start_ns,
        .request_ns = request->request_end_ns != 0 ? request->request_end_ns - request->start_ns
                                                   : 0,
        .response_ns = request->response_begin_ns != 0
                           ? request->response_begin_ns - request->start_ns
                           : 0,
        .upstream_host = request->host != NULL ? lt_addr_format(&request->host->addr, text[0])
                                               : LT_STR_NULL,
        .upstream_cluster = request->cluster != NULL ? lt_str_of(request->cluster->name)
                                                     : routed_cluster(request),
        .type = PX_LOG_TYPE_HTTP_END,
        .downstream_local = lt_addr_format(&conn->local, text[1]),
        .downstream_remote = lt_addr_format(px_request_remote(request), text[2]),
        .requested_server_name = px_conn_server_name(conn),
        .route_name = request->route != NULL ? request->route->name : LT_STR_NULL,
        .downstream_peer_uri = lt_str_of(conn->principal),
        .downstream_local_uri = conn->transport.tls != NULL
                                    ? lt_str_of(request->worker->own_principal)
                                    : LT_STR_NULL,
        .attempts = request->attempts,
        .trailers = request->resp.trailers,
        .connection_id = conn->id,
        .meta = request->meta,
        .random = request->random,
        .is_traced = request->is_traced,
        .trace_id = request->trace != NULL ? lt_str_of(request->trace->trace_id) : LT_STR_NULL,
        .rq = request,
        .conn = conn,
        .up = request->up,
        .host = request->host,
        .cluster = request->cluster,
    };
    facts->downstream_direct_remote = request->remote == NULL
                                          ? facts->downstream_remote
                                          : lt_addr_format(&conn->peer, text[4]);
    if (conn->transport.tls != NULL) {
        facts->tls_version = lt_str_of(lt_tls_version(&conn->transport));
        facts->tls_cipher = lt_str_of(lt_tls_cipher(&conn->transport));
    }
    struct lt_addr local;
    if (request->up != NULL && request->hcm->access_log_count > 0 &&
        lt_sock_local(request->up->transport.fd, &local) == LT_OK)
        facts->upstream_local = lt_addr_format(&local, text[3]);
}

/* The two names of routes that Istio's labels know; all others are "". */
static const char *known_route_name(const struct px_route *route)
{
    static const char block_all[] = "block_all", allow_any[] = "allow_any";
    if (route == NULL || route->name.len != sizeof(block_all) - 1)
        return "";
    return lt_str_eqz(route->name, block_all)   ? block_all
           : lt_str_eqz(route->name, allow_any) ? allow_any
                                                : "";
}

/* host_header: what the labels say of a service that the configuration does not name, or "". */
static struct px_report make_report(const struct px_request *request, const char *host_header)
{
    const struct px_conn *conn = request->conn;
    const struct px_cluster *cluster = request->cluster;
    bool is_inbound = request->hcm->is_inbound;
    return (struct px_report){
        .is_inbound = is_inbound,
        .is_grpc = request->is_grpc,
        .is_mutual_tls = is_inbound && conn->principal[0] != '\0' &&
                         request->worker->own_principal[0] != '\0',
        .code = request->code,
        .flags = request->flags,
        .peer = request->peer,
        .workload = request->host != NULL ? request->host->workload : "",
        .peer_principal = is_inbound ? conn->principal : request->peer_principal,
        .local_principal = (is_inbound && conn->transport.tls != NULL) ||
                                   (!is_inbound && request->host != NULL &&
                                    request->host->tls != NULL)
                               ? request->worker->own_principal
                               : "",
        .host_header = host_header,
        .cluster = cluster != NULL ? cluster->label : "",
        .service_host = cluster != NULL ? cluster->service_host : "",
        .service_name = cluster != NULL ? cluster->service_name : "",
        .service_namespace = cluster != NULL ? cluster->service_namespace : "",
        .route_name = known_route_name(request->route),
        .stats = request->hcm->stats,
    };
}

static void count(struct px_request *request)
{
    if (request->cluster == NULL || request->attempts == 0 || request->code == 0)
        return; /* code 0: the client left */
    px_cluster_count_code(request->cluster, request->code);
    bool is_error = request->code >= 500;
    if (request->host != NULL)
        *(is_error ? &request->host->rq_error : &request->host->rq_success) += 1;
    if (request->attempts > 1 && !is_error)
        px_cluster_count(request->cluster, PX_STAT_RQ_RETRY_SUCCESS);
}

/* Istio: only an outbound listener of a sidecar takes a service's name from the Host. */
static bool falls_back_to_host(const struct px_request *request)
{
    return !request->hcm->is_inbound && !request->hcm->disable_host_header_fallback &&
           (request->cluster == NULL || request->cluster->service_host[0] == '\0');
}

/* What only overrides and gRPC ask for. */
static void complete_report(struct px_request *request, struct px_report *report,
                            struct px_attributes *attributes)
{
    struct px_log_facts facts = {.code = request->code,
                                 .response = request->rhead.status != 0 ? &request->rhead.headers
                                                                        : NULL,
                                 .trailers = request->resp.trailers};
    bool is_known = false;
    uint32_t status = request->is_grpc ? px_log_grpc_status(&facts, &is_known) : 0;
    report->grpc_status = is_known ? status + 1 : 0;
    *attributes = (struct px_attributes){
        .conn = request->conn, .request = request, .peer = request->peer};
    report->find = px_attributes_find;
    report->find_ctx = attributes;
}

static __attribute__((noinline)) void tell_whole(struct px_request *request,
                                                 struct px_report *report,
                                                 const struct px_http_result *result)
{
    struct px_attributes attributes;
    complete_report(request, report, &attributes);
    px_telemetry_http(request->worker->telemetry, report, result);
}

static void tell_metrics(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    const char *host = falls_back_to_host(request) ? px_intern(worker, request->head.authority)
                                                   : "";
    struct px_report report = make_report(request, host);
    struct px_http_result result = {
        .duration_ms = (double)((px_now_ns(worker) - request->start_ns) / 1000) / 1000.0,
        .request_bytes = request->req.wire_bytes,
        .response_bytes = request->resp.wire_bytes,
    };
    if (report.stats != NULL || request->is_grpc)
        tell_whole(request, &report, &result);
    else
        px_telemetry_http(worker->telemetry, &report, &result);
    px_text_drop(&host);
}

void px_request_tell_messages(struct px_request *request, const struct px_message_result *result)
{
    struct px_worker *worker = request->worker;
    const char *host = falls_back_to_host(request) ? px_intern(worker, request->head.authority)
                                                   : "";
    struct px_report report = make_report(request, host);
    struct px_attributes attributes;
    complete_report(request, &report, &attributes);
    px_telemetry_messages(worker->telemetry, &report, result);
    px_text_drop(&host);
}

void px_request_report(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    const struct px_hcm_conf *hcm = request->hcm;
    count(request);
    if (px_decisions_wants(worker->decisions, request))
        px_decisions_note(worker->decisions, request);
    if (hcm->has_istio_stats)
        tell_metrics(request);
    if (request->conn->listener != NULL && request->conn->listener->access_log_count > 0)
        px_conn_log_bytes(request->conn, request->req.wire_bytes, request->resp.wire_bytes,
                          request->flags);
    if (hcm->access_log_count > 0)
        px_request_log(request, PX_LOG_TYPE_HTTP_END);
}

void px_request_log(struct px_request *request, uint32_t type)
{
    struct px_worker *worker = request->worker;
    const struct px_hcm_conf *hcm = request->hcm;
    char text[PX_FACTS_TEXTS][LT_ADDR_TEXT_MAX];
    struct px_log_facts facts;
    px_request_log_facts(request, &facts, text);
    facts.type = type;
    for (size_t i = 0; i < hcm->access_log_count; i++)
        px_access_log_write(worker->access_log, &hcm->access_logs[i], &facts);
}
