/*
 * bench/micro/build.c - from the bytes of a resource to frozen configuration, as istiod writes them:
 * a cluster with mTLS and metadata exchange, thousands of times, and a route table.
 * Usage: bench_build [rounds]: that many clusters, a fiftieth as many virtual hosts.
 */
#include <string.h>

#include "micro.h"
#include "proxy/compile/compile.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/yaml.h"

#define EXT "type.googleapis.com/envoy.extensions."

static const char cluster_yaml[] =
    "{name: 'outbound|80||svc.ns.svc.cluster.local', type: EDS, connect_timeout: 10s, eds_cluster_config: {eds_config: {ads: {}, "
    "initial_fetch_timeout: 0s, resource_api_version: V3}, service_name: 'outbound|80||svc.ns.svc.cluster.local'}, "
    "lb_policy: LEAST_REQUEST, circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: 4294967295, "
    "max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}]}, common_lb_config: {}, "
    "metadata: {filter_metadata: {istio: {default_original_port: 80, services: [{host: svc.ns.svc.cluster.local, "
    "name: svc, namespace: ns}]}}}, filters: [{name: istio.metadata_exchange, typed_config: {'@type': "
    "type.googleapis.com/udpa.type.v1.TypedStruct, type_url: "
    "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange, value: {protocol: istio-peer-exchange, "
    "enable_discovery: true}}}], typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "
    "{'@type': " EXT
    "upstreams.http.v3.HttpProtocolOptions, use_downstream_protocol_config: {http_protocol_options: {}, "
    "http2_protocol_options: {max_concurrent_streams: 1073741824}}}}, transport_socket_matches: [{name: tlsMode-istio, match: "
    "{tlsMode: istio}, transport_socket: {name: envoy.transport_sockets.tls, typed_config: {'@type': " EXT
    "transport_sockets.tls.v3.UpstreamTlsContext, sni: outbound_.80_._.svc.ns.svc.cluster.local, common_tls_context: "
    "{tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}, alpn_protocols: "
    "[istio-peer-exchange, istio], tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: "
    "{api_type: GRPC, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: "
    "sds-grpc}}]}, initial_fetch_timeout: 0s, resource_api_version: V3}}], combined_validation_context: "
    "{default_validation_context: {match_subject_alt_names: [{exact: 'spiffe://cluster.local/ns/ns/sa/svc'}]}, "
    "validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: {api_type: GRPC, transport_api_version: V3, "
    "set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, initial_fetch_timeout: 0s, "
    "resource_api_version: V3}}}}}}}, {name: tlsMode-disabled, match: {}, transport_socket: {name: "
    "envoy.transport_sockets.raw_buffer, typed_config: {'@type': " EXT
    "transport_sockets.raw_buffer.v3.RawBuffer}}}]}";

static const char vhost_yaml[] =
    "{name: 'svc.ns.svc.cluster.local:80', domains: [svc.ns.svc.cluster.local%zu], include_request_attempt_count: true, routes: "
    "[{name: default, match: {prefix: /}, decorator: {operation: 'svc.ns.svc.cluster.local:80/*'}, metadata: {filter_metadata: "
    "{istio: {config: /apis/networking.istio.io/v1/namespaces/ns/virtual-service/svc}}}, route: {cluster: "
    "'outbound|80||svc.ns.svc.cluster.local', timeout: 0s, max_grpc_timeout: 0s, retry_policy: {retry_on: "
    "'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes', num_retries: 2, retry_host_predicate: [{name: "
    "envoy.retry_host_predicates.previous_hosts, typed_config: {'@type': " EXT
    "retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5, retriable_status_codes: "
    "[503]}}, typed_per_filter_config: {envoy.filters.http.cors: {'@type': " EXT
    "filters.http.cors.v3.CorsPolicy, allow_methods: GET}}}]}";

static void *read_yaml(struct lt_arena *arena, const char *yaml,
                       const ProtobufCMessageDescriptor *type)
{
    const struct lt_doc *doc = NULL;
    struct lt_err err = {0};
    void *message = NULL;
    if (lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(yaml)), NULL, &doc, &err) != LT_OK ||
        lt_pbjson_read(arena, doc, type, NULL, &message, &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(EXIT_FAILURE);
    }
    return message;
}

static void build(struct px_tls_slots *slots, px_resource_kind kind, lt_str bytes)
{
    struct px_resource *made = NULL;
    struct lt_err err = {0};
    if (px_conf_compile(kind, LT_STR_NULL, LT_STR("1"), bytes, slots, &made, &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(EXIT_FAILURE);
    }
    px_resource_unref(&made);
}

static lt_str pack_routes(struct lt_arena *arena, size_t count)
{
    Xds__RouteConfiguration routes = XDS__ROUTE_CONFIGURATION__INIT;
    routes.name = "80";
    routes.n_virtual_hosts = count;
    routes.virtual_hosts = lt_arena_make_n(arena, Xds__VirtualHost *, count);
    for (size_t i = 0; i < count; i++) {
        char yaml[4096];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(yaml, sizeof(yaml), vhost_yaml, i);
#pragma GCC diagnostic pop
        routes.virtual_hosts[i] = read_yaml(arena, yaml, &xds__virtual_host__descriptor);
    }
    return lt_pb_pack(arena, &routes);
}

int main(int argc, char **argv)
{
    long rounds = micro_rounds(argc, argv, 5000);
    struct lt_arena *arena = lt_arena_new(1 << 20, 0);
    uint64_t start = micro_ns();
    struct px_tls_slots *slots = px_tls_slots_new();
    micro_report("what compilers share, made", start, micro_ns(), 1);
    lt_str cluster = lt_pb_pack(arena, read_yaml(arena, cluster_yaml, &xds__cluster__descriptor));
    lt_str routes = pack_routes(arena, (size_t)LT_MAX(rounds / 50, 1));
    uint64_t from = micro_ns();
    for (long i = 0; i < rounds; i++)
        build(slots, PX_CLUSTER, cluster);
    uint64_t to = micro_ns();
    micro_report("cluster as istiod's, mTLS", from, to, rounds);
    from = micro_ns();
    for (long i = 0; i < 50; i++)
        build(slots, PX_ROUTES, routes);
    micro_report("virtual host with a route", from, micro_ns(), 50 * LT_MAX(rounds / 50, 1));
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
    return 0;
}
