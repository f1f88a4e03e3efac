/*
 * proxy/told/format_more.c - operators of texts that few formats have. They look at the request
 * itself, so that nothing is gathered for them.
 * Start at: px_format_more().
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "http/grpc.h"
#include "http/url.h"
#include "proxy/conf/flags.h"
#include "proxy/conf/format_parts.h"
#include "proxy/conf/log_filter.h"
#include "proxy/http/request.h"

#define OP(name) \
    static void op_##name(const struct px_log_facts *facts LT_UNUSED, lt_str argument LT_UNUSED, \
                          struct px_sink *out)

static void put(struct px_sink *out, lt_str text)
{
    px_sink_put(out, text);
}

/* --- addresses and TLS of the host's side --- */

static lt_str without_port(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    return colon < 0 ? address : lt_str_slice(address, 0, (size_t)colon);
}

static lt_str port_of(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    return colon < 0 ? LT_STR_NULL : lt_str_from(address, (size_t)colon + 1);
}

OP(up_remote)
{
    put(out, facts->upstream_host);
}

OP(up_remote_ip)
{
    put(out, without_port(facts->upstream_host));
}

OP(up_remote_port)
{
    put(out, port_of(facts->upstream_host));
}

OP(up_local_ip)
{
    put(out, without_port(facts->upstream_local));
}

OP(up_local_port)
{
    put(out, port_of(facts->upstream_local));
}

OP(direct_port)
{
    put(out, port_of(facts->downstream_direct_remote));
}

OP(up_name)
{
    const struct px_request *rq = facts->rq;
    bool has_name = rq != NULL && rq->host != NULL && rq->host->facts != NULL &&
                    rq->host->facts->hostname.len > 0;
    put(out, has_name ? rq->host->facts->hostname : facts->upstream_host);
}

static const struct lt_transport *up_tls(const struct px_log_facts *facts)
{
    const struct px_request *rq = facts->rq;
    return rq != NULL && rq->up != NULL && rq->up->transport.tls != NULL ? &rq->up->transport
                                                                         : NULL;
}

static const struct lt_transport *down_tls(const struct px_log_facts *facts)
{
    const struct px_request *rq = facts->rq;
    return rq != NULL && rq->conn->transport.tls != NULL ? &rq->conn->transport : NULL;
}

OP(up_tls_version)
{
    put(out, up_tls(facts) != NULL ? lt_str_of(lt_tls_version(up_tls(facts))) : LT_STR_NULL);
}

OP(up_tls_cipher)
{
    put(out, up_tls(facts) != NULL ? lt_str_of(lt_tls_cipher(up_tls(facts))) : LT_STR_NULL);
}

OP(up_peer_uri)
{
    put(out, facts->rq != NULL ? lt_str_of(facts->rq->peer_principal) : LT_STR_NULL);
}

OP(up_peer_subject)
{
    put(out, up_tls(facts) != NULL ? lt_tls_peer_subject(up_tls(facts)) : LT_STR_NULL);
}

OP(down_peer_subject)
{
    put(out, down_tls(facts) != NULL ? lt_tls_peer_subject(down_tls(facts)) : LT_STR_NULL);
}

OP(down_peer_dns)
{
    put(out, down_tls(facts) != NULL ? lt_tls_peer_dns(down_tls(facts)) : LT_STR_NULL);
}

OP(down_peer_sha256)
{
    put(out, down_tls(facts) != NULL ? lt_tls_peer_sha256(down_tls(facts)) : LT_STR_NULL);
}

OP(up_protocol)
{
    const struct px_request *rq = facts->rq;
    if (rq == NULL || rq->up_codec == NULL)
        return;
    put(out, rq->up_codec->protocol == PX_PROTO_H2 ? LT_STR("HTTP/2") : LT_STR("HTTP/1.1"));
}

/* --- the request --- */

OP(req_without_query)
{
    lt_str name;
    bool is_path = false;
    lt_str value = LT_STR_NULL;
    while (value.len == 0 && lt_str_split(&argument, '?', &name)) {
        is_path = lt_str_case_eq(name, LT_STR(":path"));
        if (is_path)
            value = facts->path;
        else if (lt_str_case_eq(name, LT_STR(":authority")))
            value = facts->authority;
        else if (facts->request != NULL)
            value = lt_headers_value_of(facts->request, name);
    }
    put(out, lt_url_split(value).path);
}

/* "WQ:ORIG", "NQ:PATH", "WQ:ORIG_OR_PATH" ... */
OP(path)
{
    lt_str query, which;
    if (!lt_str_split(&argument, ':', &query))
        query = LT_STR("WQ");
    which = argument.len > 0 ? argument : LT_STR("ORIG_OR_PATH");
    lt_str original = facts->original_path;
    lt_str value = lt_str_eqz(which, "PATH")   ? facts->path
                   : lt_str_eqz(which, "ORIG") ? original
                   : original.len > 0          ? original
                                               : facts->path;
    put(out, lt_str_eqz(query, "NQ") ? lt_url_split(value).path : value);
}

OP(query_param)
{
    struct lt_url_parts parts = lt_url_split(facts->path);
    lt_str rest = parts.query, name, value;
    while (parts.has_query && lt_url_query_next(&rest, &name, &value)) {
        if (!lt_str_eq(name, argument))
            continue;
        put(out, value);
        return;
    }
}

static uint64_t head_bytes(const struct px_dir *dir)
{
    return dir->wire_bytes > dir->body_bytes ? dir->wire_bytes - dir->body_bytes : 0;
}

OP(request_head_bytes)
{
    px_sink_put_number(out, facts->rq != NULL ? head_bytes(&facts->rq->req) : 0);
}

OP(response_head_bytes)
{
    px_sink_put_number(out, facts->rq != NULL ? head_bytes(&facts->rq->resp) : 0);
}

OP(response_tx)
{
    if (facts->response_ns != 0)
        px_sink_put_number(out, (facts->duration_ns - facts->response_ns) / LT_NS_PER_MS);
}

/* COMMON_DURATION's points, as what has passed since the request's first byte. */
static bool find_point(const struct px_log_facts *facts, lt_str name, uint64_t *ret_ns)
{
    const struct px_request *rq = facts->rq;
    uint64_t up_ns = rq != NULL && rq->up_start_ns > rq->start_ns ? rq->up_start_ns - rq->start_ns
                                                                  : 0;
    const struct {
        const char *name;
        uint64_t ns;
        bool is_known;
    } points[] = {
        {"DS_RX_BEG", 0, true},
        {"DS_RX_END", facts->request_ns, facts->request_ns != 0},
        {"US_TX_BEG", up_ns, up_ns != 0},
        {"US_TX_END", facts->request_ns, facts->request_ns != 0 && up_ns != 0},
        {"US_RX_BEG", facts->response_ns, facts->response_ns != 0 && up_ns != 0},
        {"US_RX_END", facts->duration_ns, facts->response_ns != 0 && up_ns != 0},
        {"DS_TX_BEG", facts->response_ns, facts->response_ns != 0},
        {"DS_TX_END", facts->duration_ns, true},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(points); i++) {
        if (!lt_str_eqz(name, points[i].name))
            continue;
        *ret_ns = points[i].ns;
        return points[i].is_known;
    }
    return false;
}

/* "DS_RX_BEG:DS_TX_END:us" */
OP(common_duration)
{
    lt_str from, to;
    uint64_t begin_ns = 0, end_ns = 0;
    lt_str_split(&argument, ':', &from);
    lt_str_split(&argument, ':', &to);
    if (!find_point(facts, from, &begin_ns) || !find_point(facts, to, &end_ns) || end_ns < begin_ns)
        return;
    uint64_t unit = lt_str_eqz(argument, "ns")   ? 1
                    : lt_str_eqz(argument, "us") ? 1000
                                                 : LT_NS_PER_MS;
    px_sink_put_number(out, (end_ns - begin_ns) / unit);
}

OP(trace_id)
{
    put(out, facts->trace_id);
}

OP(stream_id)
{
    lt_str id = facts->request == NULL ? LT_STR_NULL
                                       : lt_headers_value(facts->request, LT_H_X_REQUEST_ID);
    put(out, id);
}

OP(chain_name)
{
    const struct px_request *rq = facts->rq;
    if (rq != NULL && rq->conn->chain != NULL)
        put(out, rq->conn->chain->name);
}

OP(type)
{
    put(out, facts->request != NULL ? LT_STR("DownstreamEnd") : LT_STR("TcpConnectionEnd"));
}

/* --- gRPC --- */

/* "GRPC_STATUS(CAMEL_STRING)", "(SNAKE_STRING)", "(NUMBER)". */
OP(grpc_status)
{
    char text[64];
    bool is_known;
    uint32_t status = px_log_grpc_status(facts, &is_known);
    if (facts->rq == NULL || !facts->rq->is_grpc || !is_known)
        return;
    bool is_number = lt_str_eqz(argument, "NUMBER");
    const char *name = is_number || status > 16 ? NULL : lt_grpc_code_name(status);
    if (name == NULL) {
        px_sink_put_number(out, status);
        return;
    }
    size_t len = 0;
    bool is_camel = !lt_str_eqz(argument, "SNAKE_STRING"), is_first = true;
    for (const char *c = name; *c != '\0' && len < sizeof(text); c++) {
        if (*c == '_' && is_camel) {
            is_first = true;
            continue;
        }
        bool is_lower = is_camel && !is_first && *c >= 'A' && *c <= 'Z';
        text[len++] = is_lower ? (char)(*c + 32) : *c;
        is_first = false;
    }
    bool is_ok = status == 0 && is_camel; /* "OK" as it is */
    put(out, is_ok ? LT_STR("OK") : lt_str_make(text, len));
}

OP(grpc_number)
{
    bool is_known;
    uint32_t status = px_log_grpc_status(facts, &is_known);
    if (facts->rq != NULL && facts->rq->is_grpc && is_known)
        px_sink_put_number(out, status);
}

/* --- flags in words --- */

static const char *const long_names[] = {
#define LT_FLAG(id, text, name, help) name,
#include "proxy/conf/flags.def"
#undef LT_FLAG
};

OP(flags_long)
{
    bool has_some = false;
    for (unsigned i = 0; i < PX_FLAG_COUNT; i++) {
        if ((facts->flags & 1u << i) == 0)
            continue;
        put(out, has_some ? LT_STR(",") : LT_STR(""));
        put(out, lt_str_of(long_names[i]));
        has_some = true;
    }
}

/* --- the process --- */

OP(hostname)
{
    char name[256] = "";
    if (gethostname(name, sizeof(name) - 1) == 0)
        put(out, lt_str_of(name));
}

OP(environment)
{
    char text[256];
    lt_str name;
    lt_str_split(&argument, ':', &name);
    if (name.len >= sizeof(text))
        return;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    put(out, lt_str_of(getenv(text)));
}

static const struct {
    const char *name;
    px_op_fn *run;
    bool is_number;
} ops[] = {
    {"ACCESS_LOG_TYPE", op_type, false},
    {"COMMON_DURATION", op_common_duration, true},
    {"DOWNSTREAM_DIRECT_REMOTE_PORT", op_direct_port, true},
    {"DOWNSTREAM_PEER_DNS_SAN", op_down_peer_dns, false},
    {"DOWNSTREAM_PEER_FINGERPRINT_256", op_down_peer_sha256, false},
    {"DOWNSTREAM_PEER_SUBJECT", op_down_peer_subject, false},
    {"ENVIRONMENT", op_environment, false},
    {"FILTER_CHAIN_NAME", op_chain_name, false},
    {"GRPC_STATUS", op_grpc_status, false},
    {"GRPC_STATUS_NUMBER", op_grpc_number, true},
    {"HOSTNAME", op_hostname, false},
    {"PATH", op_path, false},
    {"QUERY_PARAM", op_query_param, false},
    {"REQUEST_HEADERS_BYTES", op_request_head_bytes, true},
    {"REQ_WITHOUT_QUERY", op_req_without_query, false},
    {"RESPONSE_FLAGS_LONG", op_flags_long, false},
    {"RESPONSE_HEADERS_BYTES", op_response_head_bytes, true},
    {"RESPONSE_TX_DURATION", op_response_tx, true},
    {"STREAM_ID", op_stream_id, false},
    {"TRACE_ID", op_trace_id, false},
    {"UPSTREAM_HOST_NAME", op_up_name, false},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", op_up_local_ip, false},
    {"UPSTREAM_LOCAL_PORT", op_up_local_port, true},
    {"UPSTREAM_PEER_SUBJECT", op_up_peer_subject, false},
    {"UPSTREAM_PEER_URI_SAN", op_up_peer_uri, false},
    {"UPSTREAM_PROTOCOL", op_up_protocol, false},
    {"UPSTREAM_REMOTE_ADDRESS", op_up_remote, false},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_up_remote_ip, false},
    {"UPSTREAM_REMOTE_PORT", op_up_remote_port, true},
    {"UPSTREAM_TLS_CIPHER", op_up_tls_cipher, false},
    {"UPSTREAM_TLS_VERSION", op_up_tls_version, false},
};

bool px_format_more(lt_str name, px_op_fn **ret_op, bool *ret_is_number)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(ops); i++) {
        if (!lt_str_eqz(name, ops[i].name))
            continue;
        *ret_op = ops[i].run;
        *ret_is_number = ops[i].is_number;
        return true;
    }
    return false;
}
