/*
 * proxy/told/format_wire.c - operators about what went over the wire: bytes, times, connections and
 * the hosts that were tried.
 * Start at: px_format_wire.
 */
#include "proxy/told/format_more.h"

/* --- bytes --- */

/* As Envoy adds up a map of headers: names and values. */
static uint64_t map_bytes(const struct lt_headers *headers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; headers != NULL && i < headers->count; i++)
        bytes += headers->items[i].name.len + headers->items[i].value.len;
    return bytes;
}

static uint64_t pseudo_bytes(const char *name, lt_str value)
{
    return value.len == 0 ? 0 : strlen(name) + value.len;
}

PX_OP(request_map)
{
    const struct px_request *rq = facts->rq;
    if (rq == NULL)
        return;
    bool has_host = lt_headers_find(facts->request, LT_H_HOST) != NULL; /* the same, once */
    px_sink_put_number(out, map_bytes(facts->request) + pseudo_bytes(":method", facts->method) +
                                pseudo_bytes(":path", facts->path) +
                                pseudo_bytes(":scheme", facts->scheme) +
                                (has_host ? 1 + strlen("authority") - strlen("host")
                                          : pseudo_bytes(":authority", facts->authority)));
}

PX_OP(response_map)
{
    if (facts->response != NULL)
        px_sink_put_number(out, map_bytes(facts->response) + strlen(":status") + 3);
}

PX_OP(response_trailers)
{
    if (facts->rq != NULL)
        px_sink_put_number(out, map_bytes(facts->trailers));
}

static uint64_t head_bytes(const struct px_dir *dir)
{
    return dir->wire_bytes > dir->body_bytes ? dir->wire_bytes - dir->body_bytes : 0;
}

PX_OP(rx_head)
{
    if (facts->rq != NULL)
        px_sink_put_number(out, head_bytes(&facts->rq->req));
}

PX_OP(tx_head)
{
    if (facts->rq != NULL)
        px_sink_put_number(out, head_bytes(&facts->rq->resp));
}

PX_OP(rx_wire)
{
    px_sink_put_number(out, facts->rq != NULL ? facts->rq->req.wire_bytes : facts->bytes_received);
}

PX_OP(tx_wire)
{
    px_sink_put_number(out, facts->rq != NULL ? facts->rq->resp.wire_bytes : facts->bytes_sent);
}

/* QUIC alone has them. */
PX_OP(none_sent_again)
{
    px_sink_put_number(out, 0);
}

/* --- times --- */

PX_OP(emit_time)
{
    if (facts->conn != NULL)
        px_sink_put_time(out, argument, lt_env_wall_ns(facts->conn->worker->env), false);
}

PX_OP(emit_local)
{
    if (facts->conn != NULL)
        px_sink_put_time(out, argument, lt_env_wall_ns(facts->conn->worker->env), true);
}

/* Until the last byte of the request went to the host. */
PX_OP(request_tx)
{
    if (facts->rq != NULL && facts->rq->up_start_ns != 0 && facts->rq->request_end_ns != 0)
        px_sink_put_number(out,
                           LT_MAX(facts->request_ns, facts->rq->up_start_ns - facts->rq->start_ns) /
                               LT_NS_PER_MS);
}

/* --- connections --- */

PX_OP(listener_name)
{
    if (facts->conn != NULL && facts->conn->listener != NULL)
        px_sink_put(out, facts->conn->listener->res.name);
}

/* Of the socket: without what it was redirected from. */
static lt_str direct_local(const struct px_log_facts *facts, char text[LT_ADDR_TEXT_MAX])
{
    struct lt_addr addr;
    if (facts->conn == NULL || lt_sock_local(facts->conn->transport.fd, &addr) != LT_OK)
        return facts->downstream_local;
    return lt_addr_format(&addr, text);
}

PX_OP(direct_local)
{
    char text[LT_ADDR_TEXT_MAX];
    px_sink_put(out, direct_local(facts, text));
}

PX_OP(direct_local_ip)
{
    char text[LT_ADDR_TEXT_MAX];
    px_sink_put(out, px_address_ip(direct_local(facts, text)));
}

PX_OP(direct_local_port)
{
    char text[LT_ADDR_TEXT_MAX];
    px_sink_put(out, px_address_port(direct_local(facts, text)));
}

PX_OP(up_id)
{
    if (facts->up != NULL)
        px_sink_put_number(out, facts->up->id);
}

/* --- hosts, in the order in which they were tried --- */

static const struct px_host *tried_host(const struct px_log_facts *facts, size_t at)
{
    if (facts->rq == NULL)
        return at == 0 ? facts->host : NULL;
    if (at < facts->rq->tried_count)
        return facts->rq->tried[at];
    return at == facts->rq->tried_count ? facts->rq->host : NULL;
}

static void put_tried(const struct px_log_facts *facts, struct px_sink *out, bool is_name,
                      bool is_alone)
{
    const struct px_host *host = NULL;
    for (size_t i = 0; (host = tried_host(facts, i)) != NULL; i++) {
        char text[LT_ADDR_TEXT_MAX];
        bool has_name = is_name && host->facts != NULL && host->facts->hostname.len > 0;
        lt_str shown = has_name ? host->facts->hostname : lt_addr_format(&host->addr, text);
        px_sink_put(out, i == 0 ? LT_STR("") : LT_STR(","));
        px_sink_put(out, is_alone ? px_address_ip(shown) : shown);
    }
}

PX_OP(tried)
{
    put_tried(facts, out, false, false);
}

PX_OP(tried_ips)
{
    put_tried(facts, out, false, true);
}

PX_OP(tried_names)
{
    put_tried(facts, out, true, false);
}

PX_OP(tried_names_alone)
{
    put_tried(facts, out, true, true);
}

/* What only filters and features say that are not here. */
PX_OP(silent)
{
}

static const struct px_op ops[] = {
    {"BYTES_RETRANSMITTED", op_none_sent_again, true, NULL},
    {"CUSTOM_FLAGS", op_silent, false, NULL},
    {"DOWNSTREAM_DIRECT_LOCAL_ADDRESS", op_direct_local, false, NULL},
    {"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", op_direct_local_ip, false, NULL},
    {"DOWNSTREAM_DIRECT_LOCAL_PORT", op_direct_local_port, true, NULL},
    {"DOWNSTREAM_HEADER_BYTES_RECEIVED", op_rx_head, true, NULL},
    {"DOWNSTREAM_HEADER_BYTES_SENT", op_tx_head, true, NULL},
    {"DOWNSTREAM_WIRE_BYTES_RECEIVED", op_rx_wire, true, NULL},
    {"DOWNSTREAM_WIRE_BYTES_SENT", op_tx_wire, true, NULL},
    {"EMIT_TIME", op_emit_time, false, NULL},
    {"EMIT_TIME_LOCAL", op_emit_local, false, NULL},
    {"LISTENER_NAME", op_listener_name, false, NULL},
    {"PACKETS_RETRANSMITTED", op_none_sent_again, true, NULL},
    {"REQUEST_HEADERS_BYTES", op_request_map, true, NULL},
    {"REQUEST_TX_DURATION", op_request_tx, true, NULL},
    {"RESPONSE_HEADERS_BYTES", op_response_map, true, NULL},
    {"RESPONSE_TRAILERS_BYTES", op_response_trailers, true, NULL},
    {"ROUNDTRIP_DURATION", op_silent, true, NULL},
    {"UPSTREAM_CONNECTION_ID", op_up_id, true, NULL},
    {"UPSTREAM_HOSTS_ATTEMPTED", op_tried, false, NULL},
    {"UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", op_tried_ips, false, NULL},
    {"UPSTREAM_HOST_NAMES_ATTEMPTED", op_tried_names, false, NULL},
    {"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", op_tried_names_alone, false, NULL},
    {"VIRTUAL_CLUSTER_NAME", op_silent, false, NULL},
};
const struct px_ops px_format_wire = {ops, LT_ARRAY_LEN(ops)};
