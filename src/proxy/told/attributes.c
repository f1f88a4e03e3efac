/*
 * proxy/told/attributes.c - attributes of requests and connections, by name. One table for each
 * group.
 * Start at: px_attributes_find().
 */
#include "proxy/told/attributes.h"

#include "http/url.h"
#include "proxy/conf/log_filter.h"
#include "proxy/run/run.h"

typedef bool find_fn(struct px_attributes *a, lt_str name, const lt_str *key,
                     struct px_cel_value *value);

static bool text(struct px_cel_value *value, lt_str from)
{
    *value = (struct px_cel_value){.kind = PX_CEL_STRING, .string = from};
    return from.ptr != NULL && from.len > 0;
}

static bool number(struct px_cel_value *value, uint64_t from)
{
    *value = (struct px_cel_value){.kind = PX_CEL_INT, .integer = (int64_t)from};
    return true;
}

static bool truth(struct px_cel_value *value, bool from)
{
    *value = (struct px_cel_value){.kind = PX_CEL_BOOL, .boolean = from};
    return true;
}

static const struct px_log_facts *facts_of(struct px_attributes *a)
{
    if (!a->has_facts && a->request != NULL)
        px_request_log_facts(a->request, &a->facts, a->text);
    a->has_facts = true;
    return &a->facts;
}

static bool header(const struct lt_headers *headers, const lt_str *key, struct px_cel_value *value)
{
    return headers != NULL && key != NULL && text(value, lt_headers_value_of(headers, *key));
}

static bool port(struct px_cel_value *value, lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    uint64_t out = 0;
    return colon >= 0 && lt_str_to_u64(lt_str_from(address, (size_t)colon + 1), &out) == LT_OK &&
           number(value, out);
}

/* --- groups --- */

static bool request(struct px_attributes *a, lt_str name, const lt_str *key,
                    struct px_cel_value *value)
{
    if (a->request == NULL)
        return false;
    const struct px_log_facts *facts = facts_of(a);
    struct lt_url_parts parts = lt_url_split(facts->path);
    if (lt_str_eqz(name, "headers"))
        return header(facts->request, key, value);
    const struct {
        const char *name;
        lt_str text;
    } texts[] = {
        {"path", facts->path},
        {"url_path", parts.path},
        {"query", parts.query},
        {"host", facts->authority},
        {"scheme", facts->scheme},
        {"method", facts->method},
        {"protocol", facts->protocol},
        {"id", lt_headers_value(facts->request, LT_H_X_REQUEST_ID)},
        {"referer", lt_headers_value_of(facts->request, LT_STR("referer"))},
        {"useragent", lt_headers_value_of(facts->request, LT_STR("user-agent"))},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(texts); i++) {
        if (lt_str_eqz(name, texts[i].name))
            return text(value, texts[i].text);
    }
    if (lt_str_eqz(name, "size"))
        return number(value, facts->bytes_received);
    if (lt_str_eqz(name, "total_size"))
        return number(value, a->request->req.wire_bytes);
    return lt_str_eqz(name, "duration") && number(value, facts->duration_ns / LT_NS_PER_MS);
}

static bool response(struct px_attributes *a, lt_str name, const lt_str *key,
                     struct px_cel_value *value)
{
    bool is_known = false;
    if (a->request == NULL)
        return false;
    const struct px_log_facts *facts = facts_of(a);
    if (lt_str_eqz(name, "headers"))
        return header(facts->response, key, value);
    if (lt_str_eqz(name, "trailers"))
        return header(facts->trailers, key, value);
    if (lt_str_eqz(name, "code"))
        return facts->code != 0 && number(value, facts->code);
    if (lt_str_eqz(name, "code_details"))
        return text(value, lt_str_of(facts->details));
    if (lt_str_eqz(name, "flags"))
        return number(value, facts->flags);
    if (lt_str_eqz(name, "size"))
        return number(value, facts->bytes_sent);
    if (lt_str_eqz(name, "total_size"))
        return number(value, a->request->resp.wire_bytes);
    uint32_t status = px_log_grpc_status(facts, &is_known);
    return lt_str_eqz(name, "grpc_status") && is_known && number(value, status);
}

static bool connection(struct px_attributes *a, lt_str name, const lt_str *key LT_UNUSED,
                       struct px_cel_value *value)
{
    const struct px_conn *conn = a->conn;
    bool is_tls = conn->transport.tls != NULL;
    if (lt_str_eqz(name, "mtls"))
        return truth(value, is_tls && lt_tls_has_verified_peer(&conn->transport));
    if (lt_str_eqz(name, "id"))
        return number(value, conn->id);
    if (lt_str_eqz(name, "requested_server_name"))
        return text(value, lt_str_of(conn->requested_server_name));
    if (lt_str_eqz(name, "uri_san_peer_certificate"))
        return text(value, lt_str_of(conn->principal));
    if (lt_str_eqz(name, "uri_san_local_certificate"))
        return is_tls && text(value, lt_str_of(conn->worker->own_principal));
    if (lt_str_eqz(name, "tls_version"))
        return is_tls && text(value, lt_str_of(lt_tls_version(&conn->transport)));
    return lt_str_eqz(name, "subject_peer_certificate") && is_tls &&
           text(value, lt_tls_peer_subject(&conn->transport));
}

static bool address_of(const struct lt_addr *addr, char out[LT_ADDR_TEXT_MAX], lt_str name,
                       struct px_cel_value *value)
{
    if (lt_str_eqz(name, "address"))
        return text(value, lt_addr_format(addr, out));
    return lt_str_eqz(name, "port") && number(value, lt_addr_port(addr));
}

static bool source(struct px_attributes *a, lt_str name, const lt_str *key LT_UNUSED,
                   struct px_cel_value *value)
{
    return address_of(&a->conn->peer, a->text[0], name, value);
}

static bool destination(struct px_attributes *a, lt_str name, const lt_str *key LT_UNUSED,
                        struct px_cel_value *value)
{
    return address_of(&a->conn->local, a->text[1], name, value);
}

static bool upstream(struct px_attributes *a, lt_str name, const lt_str *key LT_UNUSED,
                     struct px_cel_value *value)
{
    const struct px_log_facts *facts = facts_of(a);
    if (lt_str_eqz(name, "address"))
        return text(value, facts->upstream_host);
    if (lt_str_eqz(name, "port"))
        return port(value, facts->upstream_host);
    if (lt_str_eqz(name, "transport_failure_reason"))
        return text(value, lt_str_of(facts->transport_failure));
    if (lt_str_eqz(name, "request_attempt_count"))
        return number(value, facts->attempts);
    return lt_str_eqz(name, "uri_san_peer_certificate") && a->request != NULL &&
           text(value, lt_str_of(a->request->peer_principal));
}

static bool xds(struct px_attributes *a, lt_str name, const lt_str *key LT_UNUSED,
                struct px_cel_value *value)
{
    const struct px_log_facts *facts = facts_of(a);
    const struct px_request *rq = a->request;
    if (lt_str_eqz(name, "cluster_name"))
        return text(value, facts->upstream_cluster);
    if (lt_str_eqz(name, "route_name"))
        return text(value, facts->route_name);
    if (lt_str_eqz(name, "virtual_host_name"))
        return rq != NULL && rq->vhost != NULL && text(value, rq->vhost->name);
    if (lt_str_eqz(name, "filter_chain_name"))
        return a->conn->chain != NULL && text(value, a->conn->chain->name);
    if (lt_str_eqz(name, "listener_direction"))
        return number(value, a->conn->listener->is_inbound    ? 1
                             : a->conn->listener->is_outbound ? 2
                                                              : 0);
    return false;
}

/* labels['app'] and the like are those that peers send each other. */
static bool peer(struct px_attributes *a, lt_str name, const lt_str *key,
                 struct px_cel_value *value)
{
    static const struct {
        const char *label, *field;
    } labels[] = {{"app", "app"},
                  {"version", "version"},
                  {"service.istio.io/canonical-name", "service"},
                  {"service.istio.io/canonical-revision", "revision"}};
    if (a->peer == NULL)
        return false;
    if (!lt_str_eqz(name, "labels") || key == NULL)
        return text(value, px_peer_field(a->peer, name));
    for (size_t i = 0; i < LT_ARRAY_LEN(labels); i++) {
        if (lt_str_eqz(*key, labels[i].label))
            return text(value, px_peer_field(a->peer, lt_str_of(labels[i].field)));
    }
    return false;
}

/* NAME of the node's metadata, and LABELS in it. */
static bool node(struct px_attributes *a, const lt_str *path, size_t count,
                 struct px_cel_value *value)
{
    const struct px_node_facts *own = px_telemetry_node(a->conn->worker->telemetry);
    const struct {
        const char *name;
        lt_str text;
    } rows[] = {
        {"NAMESPACE", own->namespace},
        {"WORKLOAD_NAME", own->workload},
        {"CLUSTER_ID", own->cluster_id},
        {"app", own->app},
        {"version", own->version},
        {"service.istio.io/canonical-name", own->canonical_service},
        {"service.istio.io/canonical-revision", own->canonical_revision},
    };
    if (count == 1)
        return lt_str_eqz(path[0], "id") && text(value, own->id);
    bool is_label = count == 3 && lt_str_eqz(path[1], "LABELS");
    if (!lt_str_eqz(path[0], "metadata") || (count != 2 && !is_label))
        return false;
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        if ((i >= 3) == is_label && lt_str_eqz(path[count - 1], rows[i].name))
            return text(value, rows[i].text);
    }
    return false;
}

bool px_attributes_find(void *ctx, const lt_str *path, size_t count, struct px_cel_value *ret_value)
{
    static const struct {
        const char *name;
        find_fn *find;
    } groups[] = {
        {"request", request}, {"response", response},  {"connection", connection},
        {"source", source},   {"upstream", upstream},  {"destination", destination},
        {"xds", xds},         {"upstream_peer", peer}, {"downstream_peer", peer},
    };
    struct px_attributes *a = ctx;
    if (count > 2 && lt_str_eqz(path[0], "filter_state")) { /* filter_state.upstream_peer.app */
        path++;
        count--;
    }
    if (count > 2 && lt_str_eqz(path[count - 1], "value")) /* labels['app'].value */
        count--;
    if (count > 1 && (lt_str_eqz(path[0], "node") || lt_str_eqz(path[0], "xds")) &&
        (lt_str_eqz(path[0], "node") || lt_str_eqz(path[1], "node"))) {
        size_t skip = lt_str_eqz(path[0], "node") ? 1 : 2;
        return count > skip && node(a, path + skip, count - skip, ret_value);
    }
    for (size_t i = 0; count >= 2 && count <= 3 && i < LT_ARRAY_LEN(groups); i++) {
        if (lt_str_eqz(path[0], groups[i].name))
            return groups[i].find(a, path[1], count == 3 ? &path[2] : NULL, ret_value);
    }
    return false;
}
