/*
 * proxy/start/node.c - node bytes and peer metadata.
 */
#include "proxy/start/node.h"

#include "base/version.h"
#include "proxy/run/exchange.h"
#include "wire/any.h"
#include "wire/base64.h"
#include "wire/pb.h"
#include "wire/proto/core.pb-c.h"
#include "wire/proto/google.pb-c.h"
#include "wire/struct.h"

/* --- Node --- */

/*
 * What a control plane asks about: extensions that some data planes lack. Names are Envoy's and
 * Istio's.
 */
static const struct {
    const char *name, *category, *type;
} extensions[] = {
    {"envoy.filters.http.cors", "envoy.filters.http", "envoy.extensions.filters.http.cors.v3.Cors"},
    {"envoy.filters.http.fault", "envoy.filters.http",
     "envoy.extensions.filters.http.fault.v3.HTTPFault"},
    {"envoy.filters.http.grpc_stats", "envoy.filters.http",
     "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"},
    {"envoy.filters.http.router", "envoy.filters.http",
     "envoy.extensions.filters.http.router.v3.Router"},
    {"istio.alpn", "envoy.filters.http",
     "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"},
    {"istio.metadata_exchange", "envoy.filters.http", "io.istio.http.peer_metadata.Config"},
    {"istio.stats", "envoy.filters.http", "stats.PluginConfig"},
    {"istio.stats", "envoy.filters.network", "stats.PluginConfig"},
    {"envoy.filters.network.http_connection_manager", "envoy.filters.network",
     "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
    {"envoy.filters.network.tcp_proxy", "envoy.filters.network",
     "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"},
    {"envoy.filters.listener.http_inspector", "envoy.filters.listener",
     "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"},
    {"envoy.filters.listener.original_dst", "envoy.filters.listener",
     "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
    {"envoy.filters.listener.tls_inspector", "envoy.filters.listener",
     "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    {"envoy.transport_sockets.raw_buffer", "envoy.transport_sockets.upstream",
     "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
    {"envoy.transport_sockets.tls", "envoy.transport_sockets.downstream",
     "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"},
    {"envoy.transport_sockets.tls", "envoy.transport_sockets.upstream",
     "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
    {"envoy.upstreams.http.http_protocol_options", "envoy.upstream_options",
     "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
    {"envoy.access_loggers.file", "envoy.access_loggers",
     "envoy.extensions.access_loggers.file.v3.FileAccessLog"},
    {"envoy.request_id.uuid", "envoy.request_id",
     "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"},
    {"envoy.retry_host_predicates.previous_hosts", "envoy.retry_host_predicates",
     "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
};

static Xds__Extension *make_extension(struct lt_arena *arena, size_t i)
{
    Xds__Extension *extension = lt_pb_new(arena, Xds__Extension, xds__extension);
    const char **types = lt_arena_make(arena, const char *);
    types[0] = extensions[i].type;
    extension->name = (char *)extensions[i].name;
    extension->category = (char *)extensions[i].category;
    extension->type_urls = (void *)types;
    extension->n_type_urls = 1;
    return extension;
}

lt_rc px_node_complete(struct lt_arena *arena, lt_str node, lt_str *ret_node, struct lt_err *err)
{
    Xds__Node *message = NULL;
    LT_TRY(lt_pb_unpack(arena, &xds__node__descriptor, node, NULL, &message, err));
    message->user_agent_name = "lateen";
    message->user_agent_version_type_case = XDS__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
    message->user_agent_version = LT_VERSION;
    message->n_extensions = LT_ARRAY_LEN(extensions);
    message->extensions = lt_arena_make_n(arena, Xds__Extension *, LT_ARRAY_LEN(extensions));
    for (size_t i = 0; i < LT_ARRAY_LEN(extensions); i++)
        message->extensions[i] = make_extension(arena, i);
    *ret_node = lt_pb_pack(arena, message);
    return LT_OK;
}

/* --- peer metadata --- */

static lt_str text_of(struct lt_arena *arena, const struct lt_doc *object, const char *key)
{
    lt_str text = lt_doc_string(lt_doc_findz(object, key));
    return text.len > 0 ? lt_arena_str(arena, text) : LT_STR_NULL;
}

static lt_str label(struct lt_arena *arena, const struct lt_doc *labels, const char *name,
                    const char *fallback)
{
    lt_str text = text_of(arena, labels, name);
    return text.len > 0 || fallback == NULL ? text : text_of(arena, labels, fallback);
}

static void put(struct lt_arena *arena, struct lt_doc *object, const char *key, lt_str value)
{
    if (value.len > 0)
        lt_doc_set(arena, object, lt_str_of(key), lt_doc_of_str(value));
}

/* The Struct of Istio's peer_metadata filter: empty values are left out, LABELS is always there. */
static struct lt_doc describe(struct lt_arena *arena, const struct px_node_facts *facts,
                              const struct lt_doc *metadata)
{
    struct lt_doc object = lt_doc_of_object(), labels = lt_doc_of_object();
    put(arena, &object, "NAME", text_of(arena, metadata, "NAME"));
    put(arena, &object, "NAMESPACE", facts->namespace);
    put(arena, &object, "WORKLOAD_NAME", facts->workload);
    put(arena, &object, "CLUSTER_ID", facts->cluster_id);
    put(arena, &object, "OWNER", text_of(arena, metadata, "OWNER"));
    put(arena, &labels, "service.istio.io/canonical-name", facts->canonical_service);
    put(arena, &labels, "service.istio.io/canonical-revision", facts->canonical_revision);
    put(arena, &labels, "app", facts->app);
    put(arena, &labels, "version", facts->version);
    lt_doc_set(arena, &object, LT_STR("LABELS"), labels);
    return object;
}

/* For peers over raw TCP. */
static lt_str make_preface(struct lt_arena *arena, lt_str id, struct lt_doc object)
{
    struct lt_doc both = lt_doc_of_object();
    lt_doc_set(arena, &both, LT_STR("x-envoy-peer-metadata"), object);
    lt_doc_set(arena, &both, LT_STR("x-envoy-peer-metadata-id"), lt_doc_of_str(id));
    Pb__Any *any = lt_any_pack(arena, lt_struct_from_doc(arena, &both));
    return px_preface_make(arena, lt_pb_pack(arena, any));
}

void px_node_facts_read(struct lt_arena *arena, lt_str node_id, const struct lt_doc *metadata,
                        bool is_gateway, struct px_node_facts *facts)
{
    const struct lt_doc *labels = lt_doc_findz(metadata, "LABELS");
    *facts = (struct px_node_facts){
        .id = lt_arena_str(arena, node_id),
        .workload = text_of(arena, metadata, "WORKLOAD_NAME"),
        .namespace = text_of(arena, metadata, "NAMESPACE"),
        .cluster_id = text_of(arena, metadata, "CLUSTER_ID"),
        .app = label(arena, labels, "app.kubernetes.io/name", "app"),
        .version = label(arena, labels, "app.kubernetes.io/version", "version"),
        .canonical_service = label(arena, labels, "service.istio.io/canonical-name", "app"),
        .canonical_revision = label(arena, labels, "service.istio.io/canonical-revision",
                                    "version"),
        .is_gateway = is_gateway,
    };
    if (facts->canonical_service.len == 0)
        facts->canonical_service = facts->workload;
    if (facts->canonical_revision.len == 0)
        facts->canonical_revision = LT_STR("latest");
    struct lt_doc object = describe(arena, facts, metadata);
    facts->peer_metadata = lt_base64_encode(arena,
                                            lt_pb_pack(arena, lt_struct_from_doc(arena, &object)));
    facts->preface = make_preface(arena, facts->id, object);
}

void px_node_facts_of(struct lt_arena *arena, lt_str node, struct px_node_facts *ret_facts)
{
    Xds__Node *message = NULL;
    struct lt_doc metadata = lt_doc_of_object();
    *ret_facts = (struct px_node_facts){0};
    if (lt_pb_unpack(arena, &xds__node__descriptor, node, NULL, &message, NULL) != LT_OK ||
        lt_struct_to_doc(arena, message->metadata, NULL, &metadata, NULL) != LT_OK)
        return;
    lt_str id = lt_str_of(message->id != NULL ? message->id : "");
    px_node_facts_read(arena, id, &metadata, lt_str_starts(id, LT_STR("router~")), ret_facts);
    if (message->cluster != NULL)
        ret_facts->cluster = lt_arena_str(arena, lt_str_of(message->cluster));
}
