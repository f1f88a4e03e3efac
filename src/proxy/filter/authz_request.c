/*
 * proxy/filter/authz_request.c - what an external authorization server is told: facts of a request
 * or a connection as a CheckRequest.
 * Start at: px_authz_request().
 */
#include "http/url.h"
#include "net/x509.h"
#include "proxy/conf/meta.h"
#include "proxy/filter/ext_authz.h"
#include "proxy/http/request.h"
#include "wire/pb.h"
#include "wire/proto/auth.pb-c.h"
#include "wire/struct.h"

static const lt_str partial_header = {"x-envoy-auth-partial-body", 25};

/* --- texts: protobuf takes UTF-8 alone; who gets bytes has header_map and raw_body --- */

/* Envoy: each byte that is none is told as '!'. A NUL would end the text for us. */
static const char *text_of(struct lt_arena *arena, lt_str bytes)
{
    if (lt_str_is_utf8(bytes) && lt_str_find_char(bytes, '\0') < 0)
        return lt_arena_str(arena, bytes).ptr;
    char *out = lt_arena_bytes(arena, bytes.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < bytes.len;) {
        size_t n = 1;
        while (n < 4 && i + n < bytes.len && !lt_str_is_utf8(lt_str_slice(bytes, i, i + n)))
            n++;
        bool is_good = bytes.ptr[i] != '\0' && lt_str_is_utf8(lt_str_slice(bytes, i, i + n));
        n = is_good ? n : 1;
        memcpy(out + len, is_good ? bytes.ptr + i : "!", n);
        len += n;
        i += n;
    }
    out[len] = '\0';
    return out;
}

static ProtobufCBinaryData data_of(lt_str bytes)
{
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)bytes.ptr};
}

/* --- peers --- */

static Xds__AttributeContext__Peer *make_peer(struct lt_arena *arena, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    Xds__AttributeContext__Peer *peer = lt_pb_new(arena, Xds__AttributeContext__Peer,
                                                  xds__attribute_context__peer);
    Xds__Address *address = lt_pb_new(arena, Xds__Address, xds__address);
    Xds__SocketAddress *socket = lt_pb_new(arena, Xds__SocketAddress, xds__socket_address);
    socket->address = lt_arena_str(arena, lt_addr_format_ip(addr, text)).ptr;
    socket->port_specifier_case = XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    socket->port_value = lt_addr_port(addr);
    address->address_case = XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    address->socket_address = socket;
    peer->address = address;
    return peer;
}

/* As Envoy puts a certificate into a header. */
static const char *encode_pem(struct lt_arena *arena, lt_str pem)
{
    char *out = lt_arena_bytes(arena, pem.len * 3 + 1);
    char *end = out;
    for (size_t i = 0; i < pem.len; i++) {
        char c = pem.ptr[i];
        if (c == '\n' || c == ' ' || c == '+' || c == '/' || c == '=')
            end = lt_percent_put(end, c);
        else
            *end++ = c;
    }
    *end = '\0';
    return out;
}

/* Envoy: the first URI, else the first DNS name, else the subject. */
static lt_str principal_of(const struct lt_transport *transport)
{
    lt_str uri = lt_tls_peer_uri(transport), dns = lt_tls_peer_dns(transport);
    return uri.len > 0 ? uri : dns.len > 0 ? dns : lt_tls_peer_subject(transport);
}

static Xds__AttributeContext__Peer *make_source(const struct px_authz_ask *ask)
{
    struct px_conn *conn = ask->conn;
    const struct lt_addr *addr = ask->request != NULL ? px_request_remote(ask->request)
                                                      : &conn->peer;
    Xds__AttributeContext__Peer *peer = make_peer(ask->arena, addr);
    if (conn->transport.tls != NULL)
        peer->principal = text_of(ask->arena, principal_of(&conn->transport));
    const struct lt_cert *cert = ask->conf->sends_cert ? px_conn_peer_cert(conn) : NULL;
    if (cert != NULL)
        peer->certificate = encode_pem(ask->arena, cert->pem);
    lt_str service = LT_STR_NULL;
    if (ask->request != NULL)
        service = lt_headers_value(&ask->request->head.headers,
                                   LT_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
    if (service.len > 0)
        peer->service = text_of(ask->arena, service);
    return peer;
}

static Xds__AttributeContext__Peer *make_destination(const struct px_authz_ask *ask)
{
    const struct px_conn *conn = ask->conn;
    Xds__AttributeContext__Peer *peer = make_peer(ask->arena, &conn->local);
    if (conn->transport.tls != NULL && conn->worker->own_principal[0] != '\0')
        peer->principal = conn->worker->own_principal;
    return peer;
}

/* --- headers --- */

struct header_list {
    const struct px_authz_ask *ask;
    Xds__AttributeContext__HttpRequest__HeadersEntry **entries;
    size_t count;
};

static bool is_sent(const struct px_authz_ask *ask, lt_str name)
{
    const struct px_authz_conf *conf = ask->conf;
    /* one is ours to say, the other is :authority */
    if (lt_str_case_eq(name, partial_header) || lt_str_case_eqz(name, "host"))
        return false;
    if (conf->disallowed.is_set && px_texts_match(&conf->disallowed, name, ask->arena))
        return false;
    return !conf->allowed.is_set || px_texts_match(&conf->allowed, name, ask->arena);
}

/* The same name again: Envoy joins the values by a comma. */
static void add_header(struct header_list *list, lt_str name, lt_str value)
{
    struct lt_arena *arena = list->ask->arena;
    const char *key = text_of(arena, name), *text = text_of(arena, value);
    for (char *c = (char *)key; *c != '\0'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->entries[i]->key, key) == 0) {
            list->entries[i]->value =
                lt_arena_printf(arena, "%s,%s", list->entries[i]->value, text).ptr;
            return;
        }
    }
    Xds__AttributeContext__HttpRequest__HeadersEntry *entry = lt_pb_new(
        arena, Xds__AttributeContext__HttpRequest__HeadersEntry,
        xds__attribute_context__http_request__headers_entry);
    entry->key = key;
    entry->value = text;
    list->entries[list->count++] = entry;
}

enum { PSEUDO_COUNT = 4 };

static void list_pseudo(const struct px_request *request, lt_str names[PSEUDO_COUNT],
                        lt_str values[PSEUDO_COUNT])
{
    names[0] = LT_STR(":authority");
    names[1] = LT_STR(":path");
    names[2] = LT_STR(":method");
    names[3] = LT_STR(":scheme");
    values[0] = request->authority;
    values[1] = request->path;
    values[2] = request->method;
    values[3] = request->scheme;
}

static void add_headers(const struct px_authz_ask *ask, Xds__AttributeContext__HttpRequest *http)
{
    const struct px_request *request = ask->request;
    const struct lt_headers *headers = &request->head.headers;
    lt_str names[PSEUDO_COUNT], values[PSEUDO_COUNT];
    struct header_list list = {.ask = ask};
    list.entries = lt_arena_make_n(ask->arena, Xds__AttributeContext__HttpRequest__HeadersEntry *,
                                   headers->count + PSEUDO_COUNT + 1);
    list_pseudo(request, names, values);
    for (size_t i = 0; i < PSEUDO_COUNT; i++) {
        if (is_sent(ask, names[i]))
            add_header(&list, names[i], values[i]);
    }
    for (uint32_t i = 0; i < headers->count; i++) {
        if (is_sent(ask, headers->items[i].name))
            add_header(&list, headers->items[i].name, headers->items[i].value);
    }
    if (ask->body != NULL)
        add_header(&list, partial_header, ask->is_partial ? LT_STR("true") : LT_STR("false"));
    http->headers = list.entries;
    http->n_headers = list.count;
}

static void add_raw_header(Xds__HeaderMap *map, struct lt_arena *arena, lt_str name, lt_str value)
{
    Xds__HeaderValue *item = lt_pb_new(arena, Xds__HeaderValue, xds__header_value);
    item->key = text_of(arena, name);
    for (char *c = (char *)item->key; *c != '\0'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    item->has_raw_value = true;
    item->raw_value = data_of(value);
    map->headers[map->n_headers++] = item;
}

static void add_raw_headers(const struct px_authz_ask *ask,
                            Xds__AttributeContext__HttpRequest *http)
{
    const struct px_request *request = ask->request;
    const struct lt_headers *headers = &request->head.headers;
    lt_str names[PSEUDO_COUNT], values[PSEUDO_COUNT];
    Xds__HeaderMap *map = lt_pb_new(ask->arena, Xds__HeaderMap, xds__header_map);
    map->headers = lt_arena_make_n(ask->arena, Xds__HeaderValue *,
                                   headers->count + PSEUDO_COUNT + 1);
    list_pseudo(request, names, values);
    for (size_t i = 0; i < PSEUDO_COUNT; i++) {
        if (is_sent(ask, names[i]))
            add_raw_header(map, ask->arena, names[i], values[i]);
    }
    for (uint32_t i = 0; i < headers->count; i++) {
        if (is_sent(ask, headers->items[i].name))
            add_raw_header(map, ask->arena, headers->items[i].name, headers->items[i].value);
    }
    if (ask->body != NULL)
        add_raw_header(map, ask->arena, partial_header,
                       ask->is_partial ? LT_STR("true") : LT_STR("false"));
    http->header_map = map;
}

/* --- the request --- */

static void add_body(const struct px_authz_ask *ask, Xds__AttributeContext__HttpRequest *http)
{
    if (ask->body == NULL)
        return;
    /* as in Envoy, a route's own settings have no say in this */
    if (ask->conf->body != NULL && ask->conf->body->as_bytes) {
        http->has_raw_body = true;
        http->raw_body = data_of(ask->body_bytes);
    } else {
        http->body = text_of(ask->arena, ask->body_bytes);
    }
}

static const char *protocol_of(const struct px_request *request)
{
    if (request->client_protocol == PX_PROTO_H2)
        return "HTTP/2";
    return request->head.minor == 0 ? "HTTP/1.0" : "HTTP/1.1";
}

static Xds__AttributeContext__Request *make_http(const struct px_authz_ask *ask)
{
    const struct px_request *request = ask->request;
    Xds__AttributeContext__Request *part = lt_pb_new(ask->arena, Xds__AttributeContext__Request,
                                                     xds__attribute_context__request);
    Xds__AttributeContext__HttpRequest *http = lt_pb_new(
        ask->arena, Xds__AttributeContext__HttpRequest, xds__attribute_context__http_request);
    Pb__Timestamp *time = lt_pb_new(ask->arena, Pb__Timestamp, pb__timestamp);
    time->has_seconds = time->has_nanos = true;
    time->seconds = request->start_wall_ns / (int64_t)LT_NS_PER_S;
    time->nanos = (int32_t)(request->start_wall_ns % (int64_t)LT_NS_PER_S);
    http->id = lt_arena_u64(ask->arena, request->random).ptr;
    http->method = text_of(ask->arena, request->method);
    http->path = text_of(ask->arena, request->path);
    http->host = text_of(ask->arena, request->authority);
    http->scheme = text_of(ask->arena, request->scheme);
    http->has_size = true;
    http->size = (int64_t)request->req.body_bytes;
    http->protocol = protocol_of(request);
    if (ask->conf->sends_raw_headers)
        add_raw_headers(ask, http);
    else
        add_headers(ask, http);
    add_body(ask, http);
    part->time = time;
    part->http = http;
    return part;
}

/* --- the whole --- */

static const struct lt_doc *find_meta(const struct px_authz_ask *ask, lt_str name)
{
    const struct lt_doc *doc = NULL;
    if (ask->request != NULL)
        doc = px_meta_find(ask->request->meta, name);
    if (doc == NULL && ask->conn->more != NULL)
        doc = px_meta_find(ask->conn->more->meta, name);
    return doc;
}

static Xds__Metadata *make_metadata(const struct px_authz_ask *ask)
{
    const struct px_authz_conf *conf = ask->conf;
    Xds__Metadata *meta = lt_pb_new(ask->arena, Xds__Metadata, xds__metadata);
    meta->filter_metadata = lt_arena_make_n(ask->arena, Xds__Metadata__FilterMetadataEntry *,
                                            conf->namespace_count);
    for (size_t i = 0; i < conf->namespace_count; i++) {
        const struct lt_doc *doc = find_meta(ask, conf->namespaces[i]);
        if (doc == NULL)
            continue;
        Xds__Metadata__FilterMetadataEntry *entry = lt_pb_new(
            ask->arena, Xds__Metadata__FilterMetadataEntry, xds__metadata__filter_metadata_entry);
        entry->key = conf->namespaces[i].ptr;
        entry->value = lt_struct_from_doc(ask->arena, doc);
        meta->filter_metadata[meta->n_filter_metadata++] = entry;
    }
    return meta;
}

static void add_contexts(const struct px_authz_ask *ask, Xds__AttributeContext *attributes)
{
    attributes->context_extensions = lt_arena_make_n(
        ask->arena, Xds__AttributeContext__ContextExtensionsEntry *, ask->context_count);
    for (size_t i = 0; i < ask->context_count; i++) {
        Xds__AttributeContext__ContextExtensionsEntry *entry = lt_pb_new(
            ask->arena, Xds__AttributeContext__ContextExtensionsEntry,
            xds__attribute_context__context_extensions_entry);
        entry->key = ask->contexts[i].key.ptr;
        entry->value = ask->contexts[i].value.ptr;
        attributes->context_extensions[i] = entry;
    }
    attributes->n_context_extensions = ask->context_count;
}

lt_str px_authz_request(const struct px_authz_ask *ask)
{
    Xds__CheckRequest *message = lt_pb_new(ask->arena, Xds__CheckRequest, xds__check_request);
    Xds__AttributeContext *attributes = lt_pb_new(ask->arena, Xds__AttributeContext,
                                                  xds__attribute_context);
    message->attributes = attributes;
    attributes->source = make_source(ask);
    attributes->destination = make_destination(ask);
    if (ask->request != NULL)
        attributes->request = make_http(ask);
    add_contexts(ask, attributes);
    attributes->metadata_context = make_metadata(ask);
    attributes->route_metadata_context = lt_pb_new(ask->arena, Xds__Metadata, xds__metadata);
    lt_str sni = px_conn_server_name(ask->conn);
    if (ask->conf->sends_tls && ask->conn->transport.tls != NULL && sni.len > 0) {
        attributes->tls_session = lt_pb_new(ask->arena, Xds__AttributeContext__TLSSession,
                                            xds__attribute_context__tlssession);
        attributes->tls_session->sni = text_of(ask->arena, sni);
    }
    return lt_pb_pack(ask->arena, message);
}
