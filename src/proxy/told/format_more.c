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
#include "proxy/conf/log_filter.h"
#include "proxy/told/format_more.h"
#include "proxy/told/trace.h"

#define OP PX_OP

static void put(struct px_sink *out, lt_str text)
{
    px_sink_put(out, text);
}

/* --- addresses of the host's side --- */

OP(up_remote)
{
    put(out, facts->upstream_host);
}

OP(up_remote_ip)
{
    put(out, px_address_ip(facts->upstream_host));
}

OP(up_remote_port)
{
    put(out, px_address_port(facts->upstream_host));
}

OP(up_local_ip)
{
    put(out, px_address_ip(facts->upstream_local));
}

OP(up_local_port)
{
    put(out, px_address_port(facts->upstream_local));
}

OP(direct_port)
{
    put(out, px_address_port(facts->downstream_direct_remote));
}

static lt_str name_of_host(const struct px_log_facts *facts)
{
    bool has_name = facts->host != NULL && facts->host->facts != NULL &&
                    facts->host->facts->hostname.len > 0;
    return has_name ? facts->host->facts->hostname : facts->upstream_host;
}

OP(up_name)
{
    put(out, name_of_host(facts));
}

OP(up_name_alone)
{
    put(out, px_address_ip(name_of_host(facts)));
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

/* "PATH", "ORIG", or ORIG_OR_PATH. */
OP(query_params)
{
    bool is_path = lt_str_eqz(argument, "PATH") || facts->original_path.len == 0;
    struct lt_url_parts parts = lt_url_split(is_path ? facts->path : facts->original_path);
    if (parts.has_query)
        put(out, parts.query);
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

OP(span_id)
{
    const struct px_request *rq = facts->rq;
    if (rq != NULL && rq->trace != NULL)
        put(out, lt_str_of(rq->trace->span_id));
}

/* A UUID of version 4 (RFC 9562), another one for each value. */
OP(unique_id)
{
    struct px_worker *worker = facts->conn != NULL ? facts->conn->worker : NULL;
    char text[64];
    if (worker == NULL)
        return;
    uint64_t high = lt_prng_next(&worker->prng), low = lt_prng_next(&worker->prng);
    int len = snprintf(text, sizeof(text), "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(high >> 32),
                       (unsigned)(high >> 16 & 0xffff), (unsigned)(high & 0xfff),
                       (unsigned)(0x8000 | (low >> 48 & 0x3fff)),
                       (unsigned long long)(low & 0xffffffffffffull));
    put(out, lt_str_make(text, (size_t)len));
}

OP(stream_id)
{
    lt_str id = facts->request == NULL ? LT_STR_NULL
                                       : lt_headers_value(facts->request, LT_H_X_REQUEST_ID);
    put(out, id);
}

OP(chain_name)
{
    if (facts->conn != NULL && facts->conn->chain != NULL)
        put(out, facts->conn->chain->name);
}

OP(type)
{
    static const char *const names[] = {
        [PX_LOG_TYPE_NOT_SET] = "NotSet",
        [PX_LOG_TYPE_TCP_CONNECTED] = "TcpUpstreamConnected",
        [PX_LOG_TYPE_TCP_PERIODIC] = "TcpPeriodic",
        [PX_LOG_TYPE_TCP_END] = "TcpConnectionEnd",
        [PX_LOG_TYPE_HTTP_START] = "DownstreamStart",
        [PX_LOG_TYPE_HTTP_PERIODIC] = "DownstreamPeriodic",
        [PX_LOG_TYPE_HTTP_END] = "DownstreamEnd",
        [PX_LOG_TYPE_TUNNEL] = "DownstreamTunnelSuccessfullyEstablished",
    };
    put(out, lt_str_of(names[facts->type]));
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

/* As many as there are, "-" for none. */
static const char *const long_names[] = {
#define LT_FLAG(id, text, name, help) name,
#include "proxy/conf/flags.def"
#undef LT_FLAG
};

OP(flags_long)
{
    bool has_some = false;
    if (facts->flags == 0)
        put(out, LT_STR("-"));
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

static const struct px_op own_ops[] = {
    {"ACCESS_LOG_TYPE", op_type, false, NULL},
    {"COMMON_DURATION", op_common_duration, true, NULL},
    {"DOWNSTREAM_DIRECT_REMOTE_PORT", op_direct_port, true, NULL},
    {"ENVIRONMENT", op_environment, false, NULL},
    {"FILTER_CHAIN_NAME", op_chain_name, false, NULL},
    {"GRPC_STATUS", op_grpc_status, false, NULL},
    {"GRPC_STATUS_NUMBER", op_grpc_number, true, NULL},
    {"HOSTNAME", op_hostname, false, NULL},
    {"PATH", op_path, false, NULL},
    {"QUERY_PARAM", op_query_param, false, NULL},
    {"QUERY_PARAMS", op_query_params, false, NULL},
    {"REQ_WITHOUT_QUERY", op_req_without_query, false, NULL},
    {"RESPONSE_FLAGS_LONG", op_flags_long, false, NULL},
    {"RESPONSE_TX_DURATION", op_response_tx, true, NULL},
    {"SPAN_ID", op_span_id, false, NULL},
    {"STREAM_ID", op_stream_id, false, NULL},
    {"TRACE_ID", op_trace_id, false, NULL},
    {"UNIQUE_ID", op_unique_id, false, NULL},
    {"UPSTREAM_HOST_NAME", op_up_name, false, NULL},
    {"UPSTREAM_HOST_NAME_WITHOUT_PORT", op_up_name_alone, false, NULL},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", op_up_local_ip, false, NULL},
    {"UPSTREAM_LOCAL_PORT", op_up_local_port, true, NULL},
    {"UPSTREAM_PROTOCOL", op_up_protocol, false, NULL},
    {"UPSTREAM_REMOTE_ADDRESS", op_up_remote, false, NULL},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_up_remote_ip, false, NULL},
    {"UPSTREAM_REMOTE_PORT", op_up_remote_port, true, NULL},
};

const struct px_op *px_format_more(lt_str name)
{
    static const struct px_ops own = {own_ops, LT_ARRAY_LEN(own_ops)};
    const struct px_ops *const groups[] = {&own, &px_format_wire, &px_format_tls, &px_format_meta};
    for (size_t i = 0; i < LT_ARRAY_LEN(groups); i++) {
        for (size_t j = 0; j < groups[i]->count; j++) {
            if (lt_str_eqz(name, groups[i]->items[j].name))
                return &groups[i]->items[j];
        }
    }
    return NULL;
}
