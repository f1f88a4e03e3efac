/*
 * proxy/compile/cluster.c - Cluster to px_cluster_conf: discovery, protocols, sockets, connections.
 * Load balancing: cluster_lb.c; limits and health: cluster_health.c; names:
 * cluster_dns.c.
 * Start at: px_make_cluster().
 */
#include "proxy/compile/kinds.h"
#include "proxy/compile/net_filter.h"
#include "proxy/compile/protocol.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/cluster_dns.pb-c.h"
#include "wire/proto/istio_metadata_exchange.pb-c.h"
#include "wire/proto/upstream_http.pb-c.h"
#include "wire/struct.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
    POOL_IDLE_DEFAULT_MS = 3600 * 1000,
    CLEANUP_DEFAULT_MS = 5000,
};

/* --- discovery --- */

static lt_rc make_eds(struct px_build *build, const Xds__Cluster *cluster,
                      struct px_cluster_conf *conf)
{
    const Xds__Cluster__EdsClusterConfig *eds = cluster->eds_cluster_config;
    if (eds == NULL)
        return px_bad(build, "eds_cluster_config", "is missing in an EDS cluster");
    bool has_name = eds->service_name != NULL && eds->service_name[0] != '\0';
    struct px_row *row = NULL;
    conf->eds_service_name = has_name ? px_copy(build, eds->service_name) : conf->res.name;
    LT_TRY(px_refer(build, "eds_cluster_config.eds_config", PX_ENDPOINTS, eds->eds_config,
                    conf->eds_service_name, false, &row));
    conf->eds_row = row;
    return LT_OK;
}

static lt_rc make_discovery(struct px_build *build, const Xds__Cluster *cluster,
                            struct px_cluster_conf *conf)
{
    if (cluster->cluster_discovery_type_case == XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE) {
        lt_str type = px_any_type(build, cluster->cluster_type->typed_config);
        if (!lt_str_eqz(type, xds__dns_cluster__descriptor.name))
            return px_unsupported(build, "cluster_type", "'%s' is not supported",
                                  cluster->cluster_type->name);
        return px_make_dns(build, cluster, conf);
    }
    bool is_set = cluster->cluster_discovery_type_case == XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
    switch (is_set ? cluster->type : XDS__CLUSTER__DISCOVERY_TYPE__STATIC) {
    case XDS__CLUSTER__DISCOVERY_TYPE__STATIC: conf->discovery = PX_DISCOVERY_STATIC; return LT_OK;
    case XDS__CLUSTER__DISCOVERY_TYPE__STRICT_DNS:
        conf->discovery = PX_DISCOVERY_STRICT_DNS;
        return px_make_dns(build, cluster, conf);
    case XDS__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS:
        conf->discovery = PX_DISCOVERY_LOGICAL_DNS;
        return px_make_dns(build, cluster, conf);
    case XDS__CLUSTER__DISCOVERY_TYPE__EDS:
        conf->discovery = PX_DISCOVERY_EDS;
        return make_eds(build, cluster, conf);
    case XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST:
        conf->discovery = PX_DISCOVERY_ORIGINAL_DST;
        return LT_OK;
    default: return px_bad(build, "type", "unknown value %d", (int)cluster->type);
    }
}

/* --- protocols --- */

static lt_rc make_common_http(struct px_build *build, const Xds__HttpProtocolOptions *common,
                              struct px_cluster_conf *conf)
{
    if (common == NULL)
        return LT_OK;
    conf->idle_timeout_ms = px_duration_ms(common->idle_timeout, conf->idle_timeout_ms);
    conf->max_connection_duration_ms = px_duration_ms(common->max_connection_duration, 0);
    conf->max_requests_per_connection = px_u32(common->max_requests_per_connection,
                                               conf->max_requests_per_connection);
    return px_make_response_limits(build, common, &conf->response);
}

static lt_rc make_h1(struct px_build *build, const Xds__Http1ProtocolOptions *in,
                     struct px_cluster_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    struct px_h1_options *h1 = lt_arena_make(build->arena, struct px_h1_options);
    conf->h1 = h1;
    return px_make_h1_options(build, in, h1);
}

static lt_rc make_h2(struct px_build *build, const Xds__Http2ProtocolOptions *in,
                     struct px_cluster_conf *conf)
{
    struct px_h2_options *h2 = lt_arena_make(build->arena, struct px_h2_options);
    conf->h2 = h2;
    return px_make_h2_options(build, in, h2);
}

#define CHOICE(name) XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_##name
#define EXPLICIT(name) \
    XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_##name

static lt_rc make_explicit(struct px_build *build,
                           const Xds__UpstreamHttp__HttpProtocolOptions__ExplicitHttpConfig *in,
                           struct px_cluster_conf *conf)
{
    if (in->protocol_config_case == EXPLICIT(HTTP3_PROTOCOL_OPTIONS))
        return px_unsupported(build, "explicit_http_config.http3_protocol_options",
                              "is not supported");
    if (in->protocol_config_case != EXPLICIT(HTTP2_PROTOCOL_OPTIONS))
        return make_h1(build, in->http_protocol_options, conf);
    conf->protocol = PX_UPSTREAM_H2;
    return make_h2(build, in->http2_protocol_options, conf);
}

static lt_rc make_protocol_choice(struct px_build *build,
                                  const Xds__UpstreamHttp__HttpProtocolOptions *in,
                                  struct px_cluster_conf *conf)
{
    switch (in->upstream_protocol_options_case) {
    case CHOICE(EXPLICIT_HTTP_CONFIG): return make_explicit(build, in->explicit_http_config, conf);
    case CHOICE(USE_DOWNSTREAM_PROTOCOL_CONFIG):
        conf->protocol = PX_UPSTREAM_AS_DOWNSTREAM;
        LT_TRY(make_h1(build, in->use_downstream_protocol_config->http_protocol_options, conf));
        return make_h2(build, in->use_downstream_protocol_config->http2_protocol_options, conf);
    case CHOICE(AUTO_CONFIG):
        conf->protocol = PX_UPSTREAM_AUTO;
        LT_TRY(make_h1(build, in->auto_config->http_protocol_options, conf));
        return make_h2(build, in->auto_config->http2_protocol_options, conf);
    default: return px_bad(build, NULL, "an upstream protocol must be chosen");
    }
}

static void make_auto_sni(struct px_build *build, const Xds__UpstreamHttpProtocolOptions *in,
                          struct px_cluster_conf *conf)
{
    if (in == NULL)
        return;
    conf->has_auto_sni = in->has_auto_sni && in->auto_sni;
    conf->has_auto_san = in->has_auto_san_validation && in->auto_san_validation;
    lt_str header = px_copy_lower(build, in->override_auto_sni_header);
    if (header.len == 0)
        return;
    lt_str *kept = lt_arena_make(build->arena, lt_str);
    *kept = header;
    conf->auto_sni_header = kept;
}

/* A filter that would run on the way to the host must not be left out; the codec is none. */
static lt_rc check_filters(struct px_build *build, const Xds__UpstreamHttp__HttpProtocolOptions *in)
{
    for (size_t i = 0; i < in->n_http_filters; i++) {
        const char *name = in->http_filters[i]->name;
        if (name == NULL || strcmp(name, "envoy.filters.http.upstream_codec") != 0)
            return px_unsupported(build, "http_filters", "'%s' is not supported",
                                  name != NULL ? name : "");
    }
    return LT_OK;
}

static lt_rc make_http_options(struct px_build *build, const Pb__Any *any,
                               struct px_cluster_conf *conf)
{
    Xds__UpstreamHttp__HttpProtocolOptions *in = NULL;
    LT_TRY(px_unpack_any(build, "typed_extension_protocol_options", any,
                         &xds__upstream_http__http_protocol_options__descriptor, &in));
    size_t mark = px_path_enter(build, "typed_extension_protocol_options", -1);
    LT_TRY(make_common_http(build, in->common_http_protocol_options, conf));
    LT_TRY(make_protocol_choice(build, in, conf));
    make_auto_sni(build, in->upstream_http_protocol_options, conf);
    LT_TRY(check_filters(build, in));
    px_path_leave(build, mark);
    return LT_OK;
}

static lt_rc make_protocol(struct px_build *build, const Xds__Cluster *cluster,
                           struct px_cluster_conf *conf)
{
    conf->protocol = PX_UPSTREAM_H1;
    conf->h1 = &px_h1_defaults;
    conf->response = &px_response_limits_default;
    LT_TRY(make_h1(build, cluster->http_protocol_options, conf));
    if (cluster->http2_protocol_options != NULL) {
        conf->protocol = PX_UPSTREAM_H2;
        LT_TRY(make_h2(build, cluster->http2_protocol_options, conf));
    }
    if (cluster->has_protocol_selection &&
        cluster->protocol_selection ==
            XDS__CLUSTER__CLUSTER_PROTOCOL_SELECTION__USE_DOWNSTREAM_PROTOCOL) {
        conf->protocol = PX_UPSTREAM_AS_DOWNSTREAM;
        LT_TRY(make_h2(build, cluster->http2_protocol_options, conf));
    }
    conf->idle_timeout_ms = POOL_IDLE_DEFAULT_MS;
    conf->max_requests_per_connection = px_u32(cluster->max_requests_per_connection, 0);
    LT_TRY(make_common_http(build, cluster->common_http_protocol_options, conf));
    make_auto_sni(build, cluster->upstream_http_protocol_options, conf);
    for (size_t i = 0; i < cluster->n_typed_extension_protocol_options; i++) {
        const Pb__Any *any = cluster->typed_extension_protocol_options[i]->value;
        lt_str type = px_any_type(build, any);
        if (lt_str_eqz(type, xds__upstream_http__http_protocol_options__descriptor.name))
            LT_TRY(make_http_options(build, any, conf));
    }
    return LT_OK;
}

/* --- sockets --- */

/* What every plain cluster has. */
static const struct px_transport_match plain_transport = {.name = {"default", 7}};

static lt_rc make_transports(struct px_build *build, const Xds__Cluster *cluster,
                             struct px_cluster_conf *conf)
{
    size_t count = cluster->n_transport_socket_matches;
    if (count >= UINT16_MAX)
        return px_bad(build, "transport_socket_matches", "more than %u", UINT16_MAX - 1);
    conf->transports = &plain_transport;
    conf->transport_count = 1;
    if (count == 0 && cluster->transport_socket == NULL)
        return LT_OK;
    struct px_transport_match *matches = lt_arena_make_n(build->arena, struct px_transport_match,
                                                         count + 1);
    for (size_t i = 0; i < count; i++) {
        const Xds__Cluster__TransportSocketMatch *in = cluster->transport_socket_matches[i];
        size_t mark = px_path_enter(build, "transport_socket_matches", (ptrdiff_t)i);
        matches[i].name = px_copy(build, in->name);
        LT_TRY(px_make_metas(build, in->match, &matches[i].match));
        LT_TRY(px_make_transport_socket(build, in->transport_socket, false, &matches[i].tls));
        px_path_leave(build, mark);
    }
    matches[count] = plain_transport;
    LT_TRY(px_make_transport_socket(build, cluster->transport_socket, false, &matches[count].tls));
    conf->transports = matches;
    conf->transport_count = (uint16_t)(count + 1);
    return LT_OK;
}

const struct px_tls_conf *px_cluster_find_tls(const struct px_cluster_conf *conf,
                                              const struct px_metas *metas)
{
    for (size_t i = 0; i < conf->transport_count; i++) {
        const struct px_metas *match = &conf->transports[i].match;
        size_t hit = 0;
        for (size_t j = 0; j < match->count; j++) {
            for (size_t k = 0; k < metas->count; k++)
                hit += lt_str_eq(metas->items[k].key, match->items[j].key) &&
                       lt_str_eq(metas->items[k].value, match->items[j].value);
        }
        if (hit == match->count)
            return conf->transports[i].tls;
    }
    return NULL;
}

static lt_rc make_bind(struct px_build *build, const Xds__BindConfig *in,
                       struct px_socket_conf *made)
{
    if (in == NULL)
        return LT_OK;
    const Xds__SocketAddress *source = in->source_address;
    if (source != NULL && lt_addr_parse(lt_str_of(source->address), (uint16_t)source->port_value,
                                        &made->source) != LT_OK)
        return px_bad(build, "upstream_bind_config.source_address", "malformed IP address: %s",
                      source->address);
    return LT_OK;
}

static void make_keepalive(const Xds__UpstreamConnectionOptions *in, struct px_socket_conf *made)
{
    if (in == NULL)
        return;
    if (in->tcp_keepalive != NULL) {
        made->has_keepalive = true;
        made->keepalive_probes = px_u32(in->tcp_keepalive->keepalive_probes, 0);
        made->keepalive_idle_s = px_u32(in->tcp_keepalive->keepalive_time, 0);
        made->keepalive_interval_s = px_u32(in->tcp_keepalive->keepalive_interval, 0);
    }
}

static lt_rc make_socket(struct px_build *build, const Xds__Cluster *cluster,
                         struct px_cluster_conf *conf)
{
    if (cluster->upstream_bind_config == NULL && cluster->upstream_connection_options == NULL)
        return LT_OK;
    struct px_socket_conf *made = lt_arena_make(build->arena, struct px_socket_conf);
    make_keepalive(cluster->upstream_connection_options, made);
    conf->socket = made;
    return make_bind(build, cluster->upstream_bind_config, made);
}

static lt_rc make_filters(struct px_build *build, const Xds__Cluster *cluster,
                          struct px_cluster_conf *conf)
{
    for (size_t i = 0; i < cluster->n_filters; i++) {
        lt_str type = px_any_type(build, cluster->filters[i]->typed_config);
        size_t mark = px_path_enter(build, "filters", (ptrdiff_t)i);
        if (!lt_str_eqz(type, istio__metadata_exchange__descriptor.name))
            return px_unsupported(build, NULL, "network filter '%s' (%.*s) is not supported",
                                  cluster->filters[i]->name, LT_STR_ARG(type));
        LT_TRY(px_check_exchange(build, cluster->filters[i]->typed_config));
        conf->has_tcp_metadata_exchange = true;
        px_path_leave(build, mark);
    }
    return LT_OK;
}

/* --- the rest --- */

static lt_str copy_key(struct px_build *build, const Pb__Struct *st, const char *key)
{
    lt_str value = lt_struct_find_str(st, key);
    return value.len > 0 ? lt_arena_str(build->arena, value) : LT_STR_NULL;
}

static lt_str copy_member(struct px_build *build, const struct lt_doc *object, const char *key)
{
    return lt_arena_str(build->arena, lt_doc_string(lt_doc_findz(object, key)));
}

static bool is_true(const Pb__Struct *st, const char *key)
{
    const Pb__Value *value = lt_struct_find(st, lt_str_of(key));
    return value != NULL && value->kind_case == PB__VALUE__KIND_BOOL_VALUE && value->bool_value;
}

/* metadata.istio: services[0]{host, name, namespace}, subset, alpn_override. */
static void make_istio_metadata(struct px_build *build, const Xds__Cluster *cluster,
                                struct px_cluster_conf *conf)
{
    const Pb__Struct *istio = px_find_metadata(cluster->metadata, "istio");
    conf->subset = copy_key(build, istio, "subset");
    conf->has_alpn_override_off = lt_str_eqz(lt_struct_find_str(istio, "alpn_override"), "false");
    conf->config_path = copy_key(build, istio, "config");
    conf->has_exchange_off = is_true(istio, "disable_mx");
    conf->is_external = is_true(istio, "external") ||
                        lt_str_eqz(lt_str_of(cluster->name), "PassthroughCluster");
    const Pb__Value *services = lt_struct_find(istio, LT_STR("services"));
    struct lt_doc list;
    if (services == NULL ||
        lt_struct_value_to_doc(build->scratch, services, NULL, &list, NULL) != LT_OK ||
        !lt_doc_is(&list, LT_DOC_ARRAY) || list.count == 0)
        return;
    conf->service_host = copy_member(build, &list.items[0], "host");
    conf->service_name = copy_member(build, &list.items[0], "name");
    conf->service_namespace = copy_member(build, &list.items[0], "namespace");
}

static lt_rc make_inline_endpoints(struct px_build *build, const Xds__Cluster *cluster,
                                   struct px_cluster_conf *conf)
{
    static const Xds__ClusterLoadAssignment nobody = XDS__CLUSTER_LOAD_ASSIGNMENT__INIT;
    bool is_one_host = conf->discovery == PX_DISCOVERY_LOGICAL_DNS;
    const Xds__ClusterLoadAssignment *assignment = cluster->load_assignment;
    if (assignment == NULL && conf->dns == NULL)
        return LT_OK;
    if (assignment == NULL)
        assignment = &nobody;
    struct px_endpoints_conf *endpoints = lt_arena_make(build->arena, struct px_endpoints_conf);
    endpoints->res.name = conf->res.name;
    size_t mark = px_path_enter(build, "load_assignment", -1);
    LT_TRY(px_make_endpoints(build, assignment, conf->dns != NULL, endpoints));
    if (is_one_host && endpoints->endpoint_count != 1)
        return px_bad(build, NULL, "LOGICAL_DNS clusters must have a single endpoint");
    px_path_leave(build, mark);
    conf->inline_endpoints = endpoints;
    return LT_OK;
}

static uint32_t ms_32(const Pb__Duration *duration, uint32_t absent)
{
    return (uint32_t)LT_MIN(px_duration_ms(duration, absent), (uint64_t)UINT32_MAX);
}

lt_rc px_make_cluster(struct px_build *build, const Xds__Cluster *cluster,
                      struct px_cluster_conf *conf)
{
    if (cluster->name == NULL || cluster->name[0] == '\0')
        return px_bad(build, "name", "is empty");
    conf->res.name = px_copy(build, cluster->name);
    conf->alt_stat_name = px_copy(build, cluster->alt_stat_name);
    conf->connect_timeout_ms = ms_32(cluster->connect_timeout, CONNECT_TIMEOUT_DEFAULT_MS);
    conf->cleanup_ms = ms_32(cluster->cleanup_interval, CLEANUP_DEFAULT_MS);
    conf->ignores_health_on_removal = cluster->has_ignore_health_on_host_removal &&
                                      cluster->ignore_health_on_host_removal;
    conf->closes_on_health_failure = cluster->has_close_connections_on_host_health_failure &&
                                     cluster->close_connections_on_host_health_failure;
    conf->has_pool_per_client = cluster->has_connection_pool_per_downstream_connection &&
                                cluster->connection_pool_per_downstream_connection;
    LT_TRY(make_discovery(build, cluster, conf));
    LT_TRY(px_make_lb(build, cluster, conf));
    LT_TRY(px_make_circuits(build, cluster, conf));
    LT_TRY(make_protocol(build, cluster, conf));
    LT_TRY(make_transports(build, cluster, conf));
    LT_TRY(make_socket(build, cluster, conf));
    LT_TRY(make_filters(build, cluster, conf));
    size_t mark = px_path_enter(build, "outlier_detection", -1);
    LT_TRY(px_make_outlier(build, cluster->outlier_detection, &conf->outlier));
    px_path_leave(build, mark);
    LT_TRY(px_make_check(build, cluster, conf));
    make_istio_metadata(build, cluster, conf);
    LT_TRY(px_make_other_meta(build, cluster->metadata, &conf->metadata));
    return make_inline_endpoints(build, cluster, conf);
}
