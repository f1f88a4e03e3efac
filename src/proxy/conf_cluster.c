/*
 * proxy/conf_cluster.c - Cluster to px_cluster_conf.
 * Start at: px_make_cluster().
 */
#include "proxy/conf_build.h"
#include "proxy/conf_kinds.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/istio_metadata_exchange.pb-c.h"
#include "wire/proto/upstream_http.pb-c.h"
#include "wire/struct.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
    POOL_IDLE_DEFAULT_MS = 3600 * 1000,
    DNS_REFRESH_DEFAULT_MS = 5000,
    CIRCUIT_DEFAULT = 1024,
    RETRIES_DEFAULT = 3,
    PANIC_DEFAULT_PERCENT = 50,
};

static lt_rc make_discovery(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    if (cluster->cluster_discovery_type_case == XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        return px_unsupported(build, "cluster_type", "'%s' is not supported", cluster->cluster_type->name);
    bool is_set = cluster->cluster_discovery_type_case == XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
    switch (is_set ? cluster->type : XDS__CLUSTER__DISCOVERY_TYPE__STATIC) {
    case XDS__CLUSTER__DISCOVERY_TYPE__STATIC: conf->discovery = PX_DISCOVERY_STATIC; break;
    case XDS__CLUSTER__DISCOVERY_TYPE__STRICT_DNS: conf->discovery = PX_DISCOVERY_STRICT_DNS; break;
    case XDS__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS: conf->discovery = PX_DISCOVERY_LOGICAL_DNS; break;
    case XDS__CLUSTER__DISCOVERY_TYPE__EDS: conf->discovery = PX_DISCOVERY_EDS; break;
    case XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST: conf->discovery = PX_DISCOVERY_ORIGINAL_DST; break;
    default: return px_bad(build, "type", "unknown value %d", (int)cluster->type);
    }
    if (conf->discovery == PX_DISCOVERY_EDS) {
        const Xds__Cluster__EdsClusterConfig *eds = cluster->eds_cluster_config;
        if (eds == NULL)
            return px_bad(build, "eds_cluster_config", "is missing in an EDS cluster");
        conf->eds_service_name = eds->service_name != NULL && eds->service_name[0] != '\0' ? px_copy(build, eds->service_name)
                                                                                        : conf->res.name;
    }
    return LT_OK;
}

static lt_rc make_lb(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    conf->least_request_choices = 2;
    switch (cluster->has_lb_policy ? cluster->lb_policy : XDS__CLUSTER__LB_POLICY__ROUND_ROBIN) {
    case XDS__CLUSTER__LB_POLICY__ROUND_ROBIN: conf->lb = PX_LB_ROUND_ROBIN; break;
    case XDS__CLUSTER__LB_POLICY__LEAST_REQUEST: conf->lb = PX_LB_LEAST_REQUEST; break;
    case XDS__CLUSTER__LB_POLICY__RANDOM: conf->lb = PX_LB_RANDOM; break;
    case XDS__CLUSTER__LB_POLICY__RING_HASH: conf->lb = PX_LB_RING_HASH; px_unhonoured(build, "lb_policy"); break;
    case XDS__CLUSTER__LB_POLICY__MAGLEV: conf->lb = PX_LB_MAGLEV; px_unhonoured(build, "lb_policy"); break;
    case XDS__CLUSTER__LB_POLICY__CLUSTER_PROVIDED: conf->lb = PX_LB_CLUSTER_PROVIDED; break;
    default: px_unhonoured(build, "load_balancing_policy"); break;
    }
    if ((conf->lb == PX_LB_CLUSTER_PROVIDED) != (conf->discovery == PX_DISCOVERY_ORIGINAL_DST))
        return px_bad(build, "lb_policy", "CLUSTER_PROVIDED goes with ORIGINAL_DST, and only with it");
    if (cluster->lb_config_case == XDS__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG) {
        conf->least_request_choices = px_u32(cluster->least_request_lb_config->choice_count, 2);
        if (conf->least_request_choices < 2)
            return px_bad(build, "least_request_lb_config.choice_count", "must be at least 2");
        if (cluster->least_request_lb_config->slow_start_config != NULL)
            px_unhonoured(build, "least_request_lb_config.slow_start_config");
    }
    if (cluster->lb_config_case == XDS__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG)
        px_unhonoured(build, "round_robin_lb_config.slow_start_config");
    if (cluster->lb_subset_config != NULL)
        px_unhonoured(build, "lb_subset_config");
    const Xds__Cluster__CommonLbConfig *common = cluster->common_lb_config;
    conf->panic_threshold_percent = PANIC_DEFAULT_PERCENT;
    if (common != NULL && common->healthy_panic_threshold != NULL)
        conf->panic_threshold_percent =
            common->healthy_panic_threshold->has_value ? (uint32_t)common->healthy_panic_threshold->value : 0;
    if (common != NULL && common->locality_config_specifier_case != XDS__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER__NOT_SET)
        px_unhonoured(build, "common_lb_config.locality_config_specifier");
    return LT_OK;
}

static void make_circuit(struct px_build *build, const Xds__CircuitBreakers *breakers, struct px_circuit *circuit)
{
    *circuit = (struct px_circuit){CIRCUIT_DEFAULT, CIRCUIT_DEFAULT, CIRCUIT_DEFAULT, RETRIES_DEFAULT};
    if (breakers == NULL)
        return;
    for (size_t i = 0; i < breakers->n_thresholds; i++) {
        const Xds__CircuitBreakers__Thresholds *limits = breakers->thresholds[i];
        if (limits->has_priority && limits->priority != XDS__ROUTING_PRIORITY__DEFAULT)
            continue;
        circuit->max_connections = px_u32(limits->max_connections, CIRCUIT_DEFAULT);
        circuit->max_pending_requests = px_u32(limits->max_pending_requests, CIRCUIT_DEFAULT);
        circuit->max_requests = px_u32(limits->max_requests, CIRCUIT_DEFAULT);
        circuit->max_retries = px_u32(limits->max_retries, RETRIES_DEFAULT);
        if (limits->retry_budget != NULL)
            px_unhonoured(build, "circuit_breakers.thresholds.retry_budget");
    }
}

static void make_common_http(const Xds__HttpProtocolOptions *common, struct px_cluster_conf *conf)
{
    if (common == NULL)
        return;
    conf->idle_timeout_ms = px_duration_ms(common->idle_timeout, conf->idle_timeout_ms);
    conf->max_connection_duration_ms = px_duration_ms(common->max_connection_duration, 0);
    conf->max_requests_per_connection = px_u32(common->max_requests_per_connection, conf->max_requests_per_connection);
}

static lt_rc make_http_options(struct px_build *build, const Pb__Any *any, struct px_cluster_conf *conf)
{
    Xds__UpstreamHttp__HttpProtocolOptions *options = NULL;
    LT_TRY(px_unpack_any(build, "typed_extension_protocol_options", any,
                         &xds__upstream_http__http_protocol_options__descriptor, &options));
    make_common_http(options->common_http_protocol_options, conf);
    switch (options->upstream_protocol_options_case) {
    case XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG:
        if (options->explicit_http_config->protocol_config_case ==
            XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS)
            conf->protocol = PX_UPSTREAM_H2;
        if (conf->protocol == PX_UPSTREAM_H2)
            LT_TRY(px_make_h2_options(build, options->explicit_http_config->http2_protocol_options, &conf->h2));
        break;
    case XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG:
        conf->protocol = PX_UPSTREAM_AS_DOWNSTREAM;
        LT_TRY(px_make_h2_options(build, options->use_downstream_protocol_config->http2_protocol_options, &conf->h2));
        break;
    case XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_AUTO_CONFIG:
        conf->protocol = PX_UPSTREAM_AUTO;
        LT_TRY(px_make_h2_options(build, options->auto_config->http2_protocol_options, &conf->h2));
        break;
    default:
        return px_bad(build, "typed_extension_protocol_options", "an upstream protocol must be chosen");
    }
    if (options->upstream_http_protocol_options != NULL)
        px_unhonoured(build, "typed_extension_protocol_options.upstream_http_protocol_options");
    return LT_OK;
}

static lt_rc make_protocol(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    conf->protocol = cluster->http2_protocol_options != NULL ? PX_UPSTREAM_H2 : PX_UPSTREAM_H1;
    LT_TRY(px_make_h2_options(build, cluster->http2_protocol_options, &conf->h2));
    conf->idle_timeout_ms = POOL_IDLE_DEFAULT_MS;
    conf->max_requests_per_connection = px_u32(cluster->max_requests_per_connection, 0);
    make_common_http(cluster->common_http_protocol_options, conf);
    for (size_t i = 0; i < cluster->n_typed_extension_protocol_options; i++) {
        const Xds__Cluster__TypedExtensionProtocolOptionsEntry *entry = cluster->typed_extension_protocol_options[i];
        lt_str type = lt_any_inner_type(build->scratch, entry->value);
        if (lt_str_eqz(type, xds__upstream_http__http_protocol_options__descriptor.name))
            LT_TRY(make_http_options(build, entry->value, conf));
        else
            px_unhonoured(build, "typed_extension_protocol_options");
    }
    return LT_OK;
}

static lt_rc make_transports(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    size_t count = cluster->n_transport_socket_matches;
    struct px_transport_match *matches = lt_arena_make_n(build->arena, struct px_transport_match, count + 1);
    for (size_t i = 0; i < count; i++) {
        const Xds__Cluster__TransportSocketMatch *in = cluster->transport_socket_matches[i];
        size_t mark = px_path_enter(build, "transport_socket_matches", (ptrdiff_t)i);
        matches[i].name = px_copy(build, in->name);
        LT_TRY(px_make_meta_pairs(build, in->match, &matches[i].match, &matches[i].match_count));
        LT_TRY(px_make_transport_socket(build, in->transport_socket, false, &matches[i].tls));
        px_path_leave(build, mark);
    }
    matches[count].name = LT_STR("default");
    LT_TRY(px_make_transport_socket(build, cluster->transport_socket, false, &matches[count].tls));
    conf->transports = matches;
    conf->transport_count = count + 1;
    return LT_OK;
}

static lt_rc make_filters(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    for (size_t i = 0; i < cluster->n_filters; i++) {
        lt_str type = lt_any_inner_type(build->scratch, cluster->filters[i]->typed_config);
        size_t mark = px_path_enter(build, "filters", (ptrdiff_t)i);
        if (!lt_str_eqz(type, istio__metadata_exchange__descriptor.name))
            return px_unsupported(build, NULL, "network filter '%s' (%.*s) is not supported", cluster->filters[i]->name,
                                  LT_STR_ARG(type));
        conf->has_tcp_metadata_exchange = true;
        px_path_leave(build, mark);
    }
    return LT_OK;
}

static lt_str copy_key(struct px_build *build, const Pb__Struct *st, const char *key)
{
    lt_str value = lt_struct_find_str(st, key);
    return value.len > 0 ? lt_arena_str(build->arena, value) : LT_STR_NULL;
}

/* metadata.istio: services[0]{host, name, namespace}, subset, alpn_override. */
static void make_istio_metadata(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    const Pb__Struct *istio = px_find_metadata(cluster->metadata, "istio");
    conf->subset = copy_key(build, istio, "subset");
    conf->has_alpn_override_off = lt_str_eqz(lt_struct_find_str(istio, "alpn_override"), "false");
    const Pb__Value *services = lt_struct_find(istio, LT_STR("services"));
    struct lt_doc list;
    if (services == NULL || lt_struct_value_to_doc(build->scratch, services, NULL, &list, NULL) != LT_OK ||
        !lt_doc_is(&list, LT_DOC_ARRAY) || list.count == 0)
        return;
    conf->service_host = lt_arena_str(build->arena, lt_doc_string(lt_doc_findz(&list.items[0], "host")));
    conf->service_name = lt_arena_str(build->arena, lt_doc_string(lt_doc_findz(&list.items[0], "name")));
    conf->service_namespace = lt_arena_str(build->arena, lt_doc_string(lt_doc_findz(&list.items[0], "namespace")));
}

static lt_rc make_inline_endpoints(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    bool is_dns = conf->discovery == PX_DISCOVERY_STRICT_DNS || conf->discovery == PX_DISCOVERY_LOGICAL_DNS;
    if (cluster->load_assignment == NULL)
        return LT_OK;
    struct px_endpoints_conf *endpoints = lt_arena_make(build->arena, struct px_endpoints_conf);
    endpoints->res.name = conf->res.name;
    size_t mark = px_path_enter(build, "load_assignment", -1);
    LT_TRY(px_make_endpoints(build, cluster->load_assignment, is_dns, endpoints));
    if (conf->discovery == PX_DISCOVERY_LOGICAL_DNS && endpoints->endpoint_count != 1)
        return px_bad(build, NULL, "LOGICAL_DNS clusters must have a single endpoint");
    px_path_leave(build, mark);
    conf->inline_endpoints = endpoints;
    return LT_OK;
}

static void list_unhonoured(struct px_build *build, const Xds__Cluster *cluster)
{
    if (cluster->n_health_checks > 0)
        px_unhonoured(build, "health_checks");
    if (cluster->outlier_detection != NULL)
        px_unhonoured(build, "outlier_detection");
    if (cluster->upstream_connection_options != NULL)
        px_unhonoured(build, "upstream_connection_options");
    if (cluster->preconnect_policy != NULL)
        px_unhonoured(build, "preconnect_policy");
    if (cluster->lrs_server != NULL)
        px_unhonoured(build, "lrs_server");
}

lt_rc px_make_cluster(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    if (cluster->name == NULL || cluster->name[0] == '\0')
        return px_bad(build, "name", "is empty");
    conf->res.name = px_copy(build, cluster->name);
    conf->alt_stat_name = px_copy(build, cluster->alt_stat_name);
    conf->connect_timeout_ms = px_duration_ms(cluster->connect_timeout, CONNECT_TIMEOUT_DEFAULT_MS);
    conf->dns_refresh_ms = px_duration_ms(cluster->dns_refresh_rate, DNS_REFRESH_DEFAULT_MS);
    LT_TRY(make_discovery(build, cluster, conf));
    LT_TRY(make_lb(build, cluster, conf));
    make_circuit(build, cluster->circuit_breakers, &conf->circuit);
    LT_TRY(make_protocol(build, cluster, conf));
    LT_TRY(make_transports(build, cluster, conf));
    LT_TRY(make_filters(build, cluster, conf));
    make_istio_metadata(build, cluster, conf);
    if (cluster->upstream_bind_config != NULL && cluster->upstream_bind_config->source_address != NULL) {
        const Xds__SocketAddress *source = cluster->upstream_bind_config->source_address;
        if (lt_addr_parse(lt_str_of(source->address), 0, &conf->source) != LT_OK)
            return px_bad(build, "upstream_bind_config.source_address", "malformed IP address: %s", source->address);
    }
    list_unhonoured(build, cluster);
    return make_inline_endpoints(build, cluster, conf);
}
