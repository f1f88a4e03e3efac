/*
 * proxy/told/conn_log.c - access logs of listeners. Istio asks there for connections that no filter
 * chain took.
 * Start at: px_conn_log_end().
 */
#include "proxy/told/conn_log.h"

#include "proxy/conf/log_filter.h"
#include "proxy/told/access_log.h"

void px_conn_log_bytes(struct px_conn *conn, uint64_t received, uint64_t sent, uint32_t flags)
{
    struct px_conn_more *more = px_conn_more(conn);
    more->received += received;
    more->sent += sent;
    more->flags |= flags & PX_FLAG_DOWNSTREAM_PROTOCOL; /* who breaks HTTP breaks the connection */
}

void px_conn_log(struct px_conn *conn, const struct px_log_facts *facts)
{
    struct px_log_facts own = *facts;
    own.type = PX_LOG_TYPE_NOT_SET;
    for (size_t i = 0; !conn->is_logged && i < conn->listener->access_log_count; i++)
        px_access_log_write(conn->worker->access_log, &conn->listener->access_logs[i], &own);
    conn->is_logged = true;
}

void px_conn_log_end(struct px_conn *conn)
{
    const struct px_worker *worker = conn->worker;
    char local[LT_ADDR_TEXT_MAX], remote[LT_ADDR_TEXT_MAX];
    if (conn->listener->access_log_count == 0 || conn->is_logged)
        return;
    uint64_t lasted_ns = px_now_ns(worker) - conn->accepted_ns;
    bool is_tls = conn->transport.tls != NULL;
    struct px_log_facts facts = {
        .start_wall_ns = lt_env_wall_ns(worker->env) - (int64_t)lasted_ns,
        .duration_ns = lasted_ns,
        .protocol = conn->served == 0  ? LT_STR_NULL
                    : conn->h2 != NULL ? LT_STR("HTTP/2")
                                       : LT_STR("HTTP/1.1"),
        .downstream_local = lt_addr_format(&conn->local, local),
        .downstream_remote = lt_addr_format(&conn->peer, remote),
        .requested_server_name = px_conn_server_name(conn),
        .downstream_peer_uri = lt_str_of(conn->principal),
        .tls_version = is_tls ? lt_str_of(lt_tls_version(&conn->transport)) : LT_STR_NULL,
        .tls_cipher = is_tls ? lt_str_of(lt_tls_cipher(&conn->transport)) : LT_STR_NULL,
        .connection_id = conn->id,
        .conn = conn,
        .random = conn->id * 0x9E3779B97F4A7C15ull >> 20,
    };
    facts.downstream_direct_remote = facts.downstream_remote;
    if (conn->more != NULL) {
        facts.bytes_received = conn->more->received;
        facts.bytes_sent = conn->more->sent;
        facts.termination_details = conn->chain != NULL ? conn->more->details : NULL;
        facts.details = conn->chain == NULL ? conn->more->details : NULL;
        facts.flags = conn->more->flags;
        facts.meta = conn->more->meta;
        facts.client_failure = conn->more->tls_failure;
    }
    px_conn_log(conn, &facts);
}
