/*
 * proxy/reply.c - replies that the proxy makes by itself, and what is told about every request at
 * its end.
 */
#include "proxy/request.h"
#include "proxy/run.h"

enum { DIRECT_HEADERS_MAX = 64 };

/* --- local replies --- */

static lt_rc make_head(struct px_request *request, uint32_t code, lt_str body,
                       const char *content_type)
{
    struct lt_http_head *head = &request->rhead;
    lt_h1_head_init(head, request->arena, NULL);
    head->status = code;
    head->minor = 1;
    head->body = LT_BODY_LENGTH;
    head->content_length = body.len;
    head->has_content_length = true;
    if (content_type != NULL && body.len > 0)
        LT_TRY(lt_headers_add_id(&head->headers, LT_H_CONTENT_TYPE, lt_str_of(content_type)));
    if (request->location.len > 0)
        LT_TRY(lt_headers_add_id(&head->headers, LT_H_LOCATION, request->location));
    if (request->is_overloaded)
        LT_TRY(lt_headers_add(&head->headers, LT_STR("x-envoy-overloaded"), LT_STR("true")));
    struct px_cluster *cluster = request->cluster;
    request->cluster = NULL; /* no service time: no service answered */
    lt_rc rc = px_response_edit(request);
    request->cluster = cluster;
    LT_TRY(rc);
    return px_response_write_head(request);
}

void px_request_reply(struct px_request *request, uint32_t code, uint32_t flags,
                      const char *details, lt_str body, const char *content_type)
{
    struct px_conn *conn = request->conn;
    lt_loop_timer_cancel(request->worker->loop, &request->timer);
    lt_loop_timer_cancel(request->worker->loop, &request->try_timer);
    px_request_leave_upstream(request, false);
    request->flags |= flags;
    if (request->response_begun) {
        /*
         * half a response is out: only the end of the connection can say that the rest will not
         * come
         */
        request->details = details;
        px_conn_close(conn);
        return;
    }
    request->code = code;
    request->details = details;
    request->response_begun = request->response_parsed = true;
    request->response_begin_ns = px_now_ns(request->worker);
    px_request_set_state(request, PX_RQ_REPLY);
    if (!request->is_parsed)
        conn->is_closing = true;
    if (request->is_grpc && code != 200 && code >= 400)
        content_type = "text/plain";
    lt_buf_clear(&request->down_out, PX_BLOCK_BYTES);
    if (make_head(request, code, body, content_type) != LT_OK ||
        (request->head.method_id != LT_METHOD_HEAD &&
         lt_buf_append_str(&request->down_out, body) != LT_OK)) {
        px_conn_close(conn);
        return;
    }
    if (request->head.method_id != LT_METHOD_HEAD)
        request->bytes_sent = body.len;
}

/* --- the end of a request --- */

void px_request_log_facts(struct px_request *request, struct px_log_facts *facts,
                          char text[4][LT_ADDR_TEXT_MAX])
{
    const struct px_conn *conn = request->conn;
    uint64_t now_ns = px_now_ns(request->worker);
    *facts = (struct px_log_facts){
        .start_wall_ns = request->start_wall_ns,
        .method = request->method,
        .path = request->path,
        .original_path = request->original_path,
        .protocol = request->head.minor == 0 ? LT_STR("HTTP/1.0") : LT_STR("HTTP/1.1"),
        .authority = request->authority,
        .scheme = request->scheme,
        .request = &request->head.headers,
        .response = request->rhead.status != 0 ? &request->rhead.headers : NULL,
        .code = request->code,
        .flags = request->flags,
        .details = request->details,
        .transport_failure = request->failure,
        .bytes_received = request->bytes_received,
        .bytes_sent = request->bytes_sent,
        .duration_ns = now_ns - request->start_ns,
        .request_ns = request->request_end_ns != 0 ? request->request_end_ns - request->start_ns
                                                   : 0,
        .response_ns = request->response_begin_ns != 0
                           ? request->response_begin_ns - request->start_ns
                           : 0,
        .upstream_host = request->host != NULL ? lt_addr_format(&request->host->addr, text[0])
                                               : LT_STR_NULL,
        .upstream_cluster = request->cluster != NULL ? lt_str_of(request->cluster->name)
                                                     : LT_STR_NULL,
        .downstream_local = lt_addr_format(&conn->local, text[1]),
        .downstream_remote = lt_addr_format(&conn->peer, text[2]),
        .requested_server_name = lt_str_of(conn->requested_server_name),
        .route_name = request->route != NULL ? request->route->name : LT_STR_NULL,
        .downstream_peer_uri = lt_str_of(conn->principal),
        .downstream_local_uri = conn->transport.tls != NULL
                                    ? lt_str_of(request->worker->own_principal)
                                    : LT_STR_NULL,
        .attempts = request->attempts,
        .connection_id = conn->id,
    };
    facts->downstream_direct_remote = facts->downstream_remote;
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

static struct px_report make_report(const struct px_request *request)
{
    const struct px_conn *conn = request->conn;
    const struct px_cluster_conf *cluster = request->cluster != NULL && !request->cluster->is_gone
                                                ? request->cluster->conf
                                                : NULL;
    bool is_inbound = request->hcm->is_inbound;
    return (struct px_report){
        .is_inbound = is_inbound,
        .is_grpc = request->is_grpc,
        .is_mutual_tls = is_inbound && conn->principal[0] != '\0' &&
                         request->worker->own_principal[0] != '\0',
        .has_host_fallback = !is_inbound && !request->hcm->disable_host_header_fallback,
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
        .host_header = cluster != NULL && cluster->service_host.len > 0
                           ? ""
                           : px_intern(request->worker, request->head.authority),
        .cluster = request->cluster != NULL ? request->cluster->label : "",
        .service_host = cluster != NULL ? cluster->service_host : LT_STR_NULL,
        .service_name = cluster != NULL ? cluster->service_name : LT_STR_NULL,
        .service_namespace = cluster != NULL ? cluster->service_namespace : LT_STR_NULL,
        .route_name = known_route_name(request->route),
    };
}

static void count(struct px_request *request)
{
    if (request->cluster == NULL || request->attempts == 0)
        return;
    px_cluster_count(request->cluster, PX_STAT_RQ_COMPLETED);
    bool is_error = request->code >= 500 || request->code == 0;
    if (request->host != NULL)
        *(is_error ? &request->host->rq_error : &request->host->rq_success) += 1;
    if (request->attempts > 1 && !is_error)
        px_cluster_count(request->cluster, PX_STAT_RQ_RETRY_SUCCESS);
}

void px_request_report(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    const struct px_hcm_conf *hcm = request->hcm;
    count(request);
    if (hcm->has_istio_stats) {
        struct px_report report = make_report(request);
        struct px_http_result result = {
            .duration_ms = (double)((px_now_ns(worker) - request->start_ns) / 1000) / 1000.0,
            .request_bytes = request->wire_received,
            .response_bytes = request->wire_sent,
        };
        px_telemetry_http(worker->telemetry, &report, &result);
    }
    if (hcm->access_log_count == 0)
        return;
    char text[4][LT_ADDR_TEXT_MAX];
    struct px_log_facts facts;
    px_request_log_facts(request, &facts, text);
    for (size_t i = 0; i < hcm->access_log_count; i++)
        px_access_log_write(worker->access_log, &hcm->access_logs[i], &facts);
}
