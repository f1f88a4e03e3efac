/*
 * control/translate_filter.c - what a filter chain ends in: a TCP proxy or an HTTP connection
 * manager, with the filters before it (xds.md 11.2 to 11.5), less those that the proxy lacks.
 */
#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/json.h"
#include "wire/proto/http_cors.pb-c.h"
#include "wire/proto/http_fault.pb-c.h"
#include "wire/proto/http_grpc_stats.pb-c.h"
#include "wire/proto/http_router.pb-c.h"
#include "wire/proto/istio_alpn.pb-c.h"
#include "wire/proto/istio_stats.pb-c.h"
#include "wire/proto/listener_http_inspector.pb-c.h"
#include "wire/proto/listener_tls_inspector.pb-c.h"
#include "wire/proto/log_file.pb-c.h"
#include "wire/proto/net_tcp_proxy.pb-c.h"
#include "wire/proto/request_id_uuid.pb-c.h"
#include "wire/proto/udpa_typed_struct.pb-c.h"
#include "wire/struct.h"

/* ---- Istio's own filters ---- */

static Pb__Any *typed_struct(struct cp_translation *t, const char *type, const struct lt_doc *value)
{
    Udpa__TypedStruct *ts = CP_NEW(t, Udpa__TypedStruct, udpa__typed_struct);
    ts->type_url = cp_zf(t, LT_ANY_PREFIX "%s", type);
    ts->value = lt_struct_from_doc(t->arena, value);
    return lt_any_pack(t->arena, ts);
}

Pb__Any *cp_mx_tcp_config(struct cp_translation *t)
{
    struct lt_doc config = lt_doc_of_object();
    lt_doc_set(t->arena, &config, LT_STR("enable_discovery"), lt_doc_of_bool(true));
    lt_doc_set(t->arena, &config, LT_STR("protocol"), lt_doc_of_str(LT_STR("istio-peer-exchange")));
    return typed_struct(t, "envoy.tcp.metadataexchange.config.MetadataExchange", &config);
}

/* {"<name>": {}} */
static struct lt_doc method(struct cp_translation *t, const char *name)
{
    struct lt_doc m = lt_doc_of_object();
    lt_doc_set(t->arena, &m, lt_str_of(name), lt_doc_of_object());
    return m;
}

/* Whom a request comes from, or goes to: by Istio's headers, else by address. */
static Pb__Any *mx_http_config(struct cp_translation *t, cp_side side)
{
    bool is_inbound = side == CP_SIDE_INBOUND;
    struct lt_doc config = lt_doc_of_object(), discovery = lt_doc_of_array(),
                  propagation = lt_doc_of_array();
    lt_doc_push(t->arena, &discovery, method(t, "istio_headers"));
    lt_doc_push(t->arena, &discovery, method(t, "workload_discovery"));
    lt_doc_push(t->arena, &propagation, method(t, "istio_headers"));
    lt_doc_set(t->arena, &config,
               is_inbound ? LT_STR("downstream_discovery") : LT_STR("upstream_discovery"),
               discovery);
    lt_doc_set(t->arena, &config,
               is_inbound ? LT_STR("downstream_propagation") : LT_STR("upstream_propagation"),
               propagation);
    return typed_struct(t, "io.istio.http.peer_metadata.Config", &config);
}

/* Servers don't believe the Host header of whoever calls them. */
static Pb__Any *stats_config(struct cp_translation *t, cp_side side)
{
    Istio__Stats__PluginConfig *config = CP_NEW(t, Istio__Stats__PluginConfig,
                                                istio__stats__plugin_config);
    config->disable_host_header_fallback = config->has_disable_host_header_fallback =
        side != CP_SIDE_OUTBOUND;
    return lt_any_pack(t->arena, config);
}

static Pb__Any *alpn_config(struct cp_translation *t)
{
    static const struct {
        Istio__Alpn__FilterConfig__Protocol protocol;
        const char *names[3];
    } overrides[] = {
        {ISTIO__ALPN__FILTER_CONFIG__PROTOCOL__HTTP10, {"istio-http/1.0", "istio", "http/1.0"}},
        {ISTIO__ALPN__FILTER_CONFIG__PROTOCOL__HTTP11, {"istio-http/1.1", "istio", "http/1.1"}},
        {ISTIO__ALPN__FILTER_CONFIG__PROTOCOL__HTTP2, {"istio-h2", "istio", "h2"}},
    };
    Istio__Alpn__FilterConfig *config = CP_NEW(t, Istio__Alpn__FilterConfig,
                                               istio__alpn__filter_config);
    for (size_t i = 0; i < LT_ARRAY_LEN(overrides); i++) {
        Istio__Alpn__FilterConfig__AlpnOverride *o = CP_NEW(
            t, Istio__Alpn__FilterConfig__AlpnOverride, istio__alpn__filter_config__alpn_override);
        o->upstream_protocol = overrides[i].protocol;
        o->has_upstream_protocol = overrides[i].protocol != 0;
        for (size_t j = 0; j < LT_ARRAY_LEN(overrides[i].names); j++)
            CP_PUSH(t, o->alpn_override, o->n_alpn_override, overrides[i].names[j]);
        CP_PUSH(t, config->alpn_override, config->n_alpn_override, o);
    }
    return lt_any_pack(t->arena, config);
}

/* ---- access log ---- */

static const char default_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% "
    "%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static const char *const default_json[][2] = {
    {"start_time", "%START_TIME%"},
    {"route_name", "%ROUTE_NAME%"},
    {"method", "%REQ(:METHOD)%"},
    {"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
    {"protocol", "%PROTOCOL%"},
    {"response_code", "%RESPONSE_CODE%"},
    {"response_flags", "%RESPONSE_FLAGS%"},
    {"response_code_details", "%RESPONSE_CODE_DETAILS%"},
    {"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
    {"bytes_received", "%BYTES_RECEIVED%"},
    {"bytes_sent", "%BYTES_SENT%"},
    {"duration", "%DURATION%"},
    {"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
    {"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
    {"user_agent", "%REQ(USER-AGENT)%"},
    {"request_id", "%REQ(X-REQUEST-ID)%"},
    {"authority", "%REQ(:AUTHORITY)%"},
    {"upstream_host", "%UPSTREAM_HOST%"},
    {"upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"},
    {"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
    {"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
    {"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
    {"requested_server_name", "%REQUESTED_SERVER_NAME%"},
    {"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
};

static struct lt_doc json_format(struct cp_translation *t)
{
    const struct lt_doc *own = NULL;
    struct lt_err err;
    lt_str text = t->model->mesh.access_log_format;
    bool is_json = text.len > 0 && lt_json_parse(t->arena, text, NULL, &own, &err) == LT_OK &&
                   own->kind == LT_DOC_OBJECT;
    if (is_json)
        return *own;
    struct lt_doc format = lt_doc_of_object();
    for (size_t i = 0; i < LT_ARRAY_LEN(default_json); i++)
        lt_doc_set(t->arena, &format, lt_str_of(default_json[i][0]),
                   lt_doc_of_str(lt_str_of(default_json[i][1])));
    return format;
}

static Xds__SubstitutionFormatString *log_format(struct cp_translation *t)
{
    const struct lt_mesh *mesh = &t->model->mesh;
    Xds__SubstitutionFormatString *format = CP_NEW(t, Xds__SubstitutionFormatString,
                                                   xds__substitution_format_string);
    if (mesh->access_log_is_json) {
        struct lt_doc doc = json_format(t);
        format->format_case = XDS__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT;
        format->json_format = lt_struct_from_doc(t->arena, &doc);
        format->json_format_options = CP_NEW(t, Xds__JsonFormatOptions, xds__json_format_options);
        return format;
    }
    lt_str text = mesh->access_log_format.len > 0 ? mesh->access_log_format
                                                  : lt_str_of(default_format);
    bool has_end = text.ptr[text.len - 1] == '\n';
    format->format_case = XDS__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE;
    format->text_format_source = CP_NEW(t, Xds__DataSource, xds__data_source);
    format->text_format_source->specifier_case = XDS__DATA_SOURCE__SPECIFIER_INLINE_STRING;
    format->text_format_source->inline_string = cp_zf(t, "%.*s%s", LT_STR_ARG(text),
                                                      has_end ? "" : "\n");
    return format;
}

/* NULL when the mesh configuration asks for none. */
static Xds__AccessLog *make_access_log(struct cp_translation *t)
{
    if (t->model->mesh.access_log_file.len == 0)
        return NULL;
    Xds__FileAccessLog *file = CP_NEW(t, Xds__FileAccessLog, xds__file_access_log);
    file->path = cp_z(t, t->model->mesh.access_log_file);
    file->access_log_format_case = XDS__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT;
    file->log_format = log_format(t);
    Xds__AccessLog *log = CP_NEW(t, Xds__AccessLog, xds__access_log);
    log->name = "envoy.access_loggers.file";
    log->config_type_case = XDS__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG;
    log->typed_config = lt_any_pack(t->arena, file);
    return log;
}

void cp_listener_add_access_log(struct cp_translation *t, Xds__Listener *listener)
{
    Xds__AccessLog *log = make_access_log(t);
    if (log == NULL)
        return;
    log->filter = CP_NEW(t, Xds__AccessLogFilter, xds__access_log_filter);
    log->filter->filter_specifier_case =
        XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RESPONSE_FLAG_FILTER;
    log->filter->response_flag_filter = CP_NEW(t, Xds__ResponseFlagFilter,
                                               xds__response_flag_filter);
    CP_PUSH(t, log->filter->response_flag_filter->flags, log->filter->response_flag_filter->n_flags,
            "NR");
    CP_PUSH(t, listener->access_log, listener->n_access_log, log);
}

/* ---- network filters ---- */

Xds__Filter *cp_filter(struct cp_translation *t, const char *name, Pb__Any *config)
{
    Xds__Filter *filter = CP_NEW(t, Xds__Filter, xds__filter);
    filter->name = name;
    filter->config_type_case = XDS__FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter->typed_config = config;
    return filter;
}

static void add_mx(struct cp_translation *t, Xds__FilterChain *chain)
{
    if (cp_has(t, CP_EXT_MX_TCP))
        CP_PUSH(t, chain->filters, chain->n_filters,
                cp_filter(t, "istio.metadata_exchange", cp_mx_tcp_config(t)));
}

static void add_weighted(struct cp_translation *t, Xds__TcpProxy *proxy,
                         const struct cp_tcp_options *o)
{
    proxy->cluster_specifier_case = XDS__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
    proxy->weighted_clusters = CP_NEW(t, Xds__TcpProxy__WeightedCluster,
                                      xds__tcp_proxy__weighted_cluster);
    for (size_t i = 0; i < o->weighted_count; i++) {
        if (o->weighted[i].weight.value == 0)
            continue;
        Xds__TcpProxy__WeightedCluster__ClusterWeight *w = CP_NEW(
            t, Xds__TcpProxy__WeightedCluster__ClusterWeight,
            xds__tcp_proxy__weighted_cluster__cluster_weight);
        w->name = cp_destination_cluster(t, o->weighted[i].destination, o->ns, o->port);
        w->weight = (uint32_t)o->weighted[i].weight.value;
        w->has_weight = true;
        CP_PUSH(t, proxy->weighted_clusters->clusters, proxy->weighted_clusters->n_clusters, w);
    }
}

static void add_tcp_policy(struct cp_translation *t, Xds__TcpProxy *proxy,
                           const struct cp_policy *policy)
{
    const struct lt_pool_tcp *tcp = policy != NULL && policy->pool != NULL ? policy->pool->tcp
                                                                           : NULL;
    const struct lt_consistent_hash *hash = policy != NULL && policy->load_balancer != NULL
                                                ? policy->load_balancer->consistent_hash
                                                : NULL;
    if (tcp != NULL && tcp->idle_timeout.is_set)
        proxy->idle_timeout = cp_duration(t, tcp->idle_timeout.value);
    if (tcp != NULL && tcp->max_connection_duration.is_set)
        proxy->max_downstream_connection_duration = cp_duration(t,
                                                                tcp->max_connection_duration.value);
    if (hash == NULL || !hash->use_source_ip.value)
        return;
    Xds__HashPolicy *h = CP_NEW(t, Xds__HashPolicy, xds__hash_policy);
    h->policy_specifier_case = XDS__HASH_POLICY__POLICY_SPECIFIER_SOURCE_IP;
    h->source_ip = CP_NEW(t, Xds__HashPolicy__SourceIp, xds__hash_policy__source_ip);
    CP_PUSH(t, proxy->hash_policy, proxy->n_hash_policy, h);
}

void cp_chain_add_tcp(struct cp_translation *t, Xds__FilterChain *chain, cp_side side,
                      const struct cp_tcp_options *options)
{
    if (side == CP_SIDE_INBOUND || options->takes_mesh_tls)
        add_mx(t, chain);
    if (cp_has(t, CP_EXT_STATS))
        CP_PUSH(t, chain->filters, chain->n_filters,
                cp_filter(t, "istio.stats", stats_config(t, side)));
    Xds__TcpProxy *proxy = CP_NEW(t, Xds__TcpProxy, xds__tcp_proxy);
    proxy->stat_prefix = options->stat_prefix;
    if (options->weighted_count > 0) {
        add_weighted(t, proxy, options);
    } else {
        proxy->cluster_specifier_case = XDS__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER;
        proxy->cluster = options->cluster;
    }
    add_tcp_policy(t, proxy, options->policy);
    Xds__AccessLog *log = make_access_log(t);
    if (log != NULL)
        CP_PUSH(t, proxy->access_log, proxy->n_access_log, log);
    CP_PUSH(t, chain->filters, chain->n_filters,
            cp_filter(t, "envoy.filters.network.tcp_proxy", lt_any_pack(t->arena, proxy)));
}

/* ---- HTTP filters ---- */

static void add_http_filter(struct cp_translation *t, Xds__HttpConnectionManager *hcm,
                            const char *name, Pb__Any *config)
{
    Xds__HttpFilter *filter = CP_NEW(t, Xds__HttpFilter, xds__http_filter);
    filter->name = name;
    filter->config_type_case = XDS__HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter->typed_config = config;
    CP_PUSH(t, hcm->http_filters, hcm->n_http_filters, filter);
}

static void add_http_filters(struct cp_translation *t, Xds__HttpConnectionManager *hcm,
                             cp_side side)
{
    if (cp_has(t, CP_EXT_MX_HTTP))
        add_http_filter(t, hcm, "istio.metadata_exchange", mx_http_config(t, side));
    Xds__HttpGrpcStats__FilterConfig *grpc = CP_NEW(t, Xds__HttpGrpcStats__FilterConfig,
                                                    xds__http_grpc_stats__filter_config);
    grpc->emit_filter_state = grpc->has_emit_filter_state = true;
    grpc->per_method_stat_specifier_case =
        XDS__HTTP_GRPC_STATS__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_STATS_FOR_ALL_METHODS;
    grpc->stats_for_all_methods = cp_bool(t, false);
    add_http_filter(t, hcm, "envoy.filters.http.grpc_stats", lt_any_pack(t->arena, grpc));
    if (side != CP_SIDE_INBOUND && cp_has(t, CP_EXT_ALPN))
        add_http_filter(t, hcm, "istio.alpn", alpn_config(t));
    /* what these two do is said on routes */
    add_http_filter(t, hcm, "envoy.filters.http.fault",
                    lt_any_pack(t->arena, CP_NEW(t, Xds__HTTPFault, xds__httpfault)));
    add_http_filter(t, hcm, "envoy.filters.http.cors",
                    lt_any_pack(t->arena, CP_NEW(t, Xds__Cors, xds__cors)));
    if (cp_has(t, CP_EXT_STATS))
        add_http_filter(t, hcm, "istio.stats", stats_config(t, side));
    add_http_filter(t, hcm, "envoy.filters.http.router",
                    lt_any_pack(t->arena, CP_NEW(t, Xds__Router, xds__router)));
}

/* ---- tracing ---- */

static void add_dry_run_tag(struct cp_translation *t, Xds__HttpConnectionManager__Tracing *tracing,
                            const char *tag, const char *key)
{
    Xds__CustomTag *custom = CP_NEW(t, Xds__CustomTag, xds__custom_tag);
    custom->tag = tag;
    custom->type_case = XDS__CUSTOM_TAG__TYPE_METADATA;
    custom->metadata = CP_NEW(t, Xds__CustomTag__Metadata, xds__custom_tag__metadata);
    Xds__MetadataKind *kind = CP_NEW(t, Xds__MetadataKind, xds__metadata_kind);
    kind->kind_case = XDS__METADATA_KIND__KIND_REQUEST;
    kind->request = CP_NEW(t, Xds__MetadataKind__Request, xds__metadata_kind__request);
    Xds__MetadataKey__PathSegment *segment = CP_NEW(t, Xds__MetadataKey__PathSegment,
                                                    xds__metadata_key__path_segment);
    segment->segment_case = XDS__METADATA_KEY__PATH_SEGMENT__SEGMENT_KEY;
    segment->key = key;
    Xds__MetadataKey *metadata_key = CP_NEW(t, Xds__MetadataKey, xds__metadata_key);
    metadata_key->key = "envoy.filters.http.rbac";
    CP_PUSH(t, metadata_key->path, metadata_key->n_path, segment);
    custom->metadata->kind = kind;
    custom->metadata->metadata_key = metadata_key;
    CP_PUSH(t, tracing->custom_tags, tracing->n_custom_tags, custom);
}

static void add_literal_tag(struct cp_translation *t, Xds__HttpConnectionManager__Tracing *tracing,
                            const char *tag, lt_str value)
{
    if (value.len == 0)
        return;
    Xds__CustomTag *custom = CP_NEW(t, Xds__CustomTag, xds__custom_tag);
    custom->tag = tag;
    custom->type_case = XDS__CUSTOM_TAG__TYPE_LITERAL;
    custom->literal = CP_NEW(t, Xds__CustomTag__Literal, xds__custom_tag__literal);
    custom->literal->value = cp_z(t, value);
    CP_PUSH(t, tracing->custom_tags, tracing->n_custom_tags, custom);
}

static Xds__HttpConnectionManager__Tracing *make_tracing(struct cp_translation *t)
{
    Xds__HttpConnectionManager__Tracing *tracing = CP_NEW(t, Xds__HttpConnectionManager__Tracing,
                                                          xds__http_connection_manager__tracing);
    tracing->client_sampling = cp_percent(t, 100);
    tracing->random_sampling = cp_percent(t, 1);
    tracing->overall_sampling = cp_percent(t, 100);
    add_dry_run_tag(t, tracing, "istio.authorization.dry_run.allow_policy.name",
                    "istio_dry_run_allow_shadow_effective_policy_id");
    add_dry_run_tag(t, tracing, "istio.authorization.dry_run.allow_policy.result",
                    "istio_dry_run_allow_shadow_engine_result");
    add_dry_run_tag(t, tracing, "istio.authorization.dry_run.deny_policy.name",
                    "istio_dry_run_deny_shadow_effective_policy_id");
    add_dry_run_tag(t, tracing, "istio.authorization.dry_run.deny_policy.result",
                    "istio_dry_run_deny_shadow_engine_result");
    add_literal_tag(t, tracing, "istio.canonical_revision", t->node->canonical_revision);
    add_literal_tag(t, tracing, "istio.canonical_service", t->node->canonical_name);
    add_literal_tag(t, tracing, "istio.cluster_id", t->node->cluster_id);
    add_literal_tag(t, tracing, "istio.mesh_id", t->node->mesh_id);
    add_literal_tag(t, tracing, "istio.namespace", t->node->ns);
    return tracing;
}

/* ---- connection manager ---- */

static void set_client_cert(struct cp_translation *t, Xds__HttpConnectionManager *hcm, cp_side side)
{
    if (side == CP_SIDE_OUTBOUND)
        return;
    hcm->forward_client_cert_details =
        side == CP_SIDE_GATEWAY
            ? XDS__HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_DETAILS__SANITIZE_SET
            : XDS__HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_DETAILS__APPEND_FORWARD;
    hcm->has_forward_client_cert_details = true;
    Xds__HttpConnectionManager__SetCurrentClientCertDetails *details = CP_NEW(
        t, Xds__HttpConnectionManager__SetCurrentClientCertDetails,
        xds__http_connection_manager__set_current_client_cert_details);
    details->subject = cp_bool(t, true);
    details->dns = details->has_dns = true;
    details->uri = details->has_uri = true;
    details->cert = details->has_cert = side == CP_SIDE_GATEWAY;
    hcm->set_current_client_cert_details = details;
    hcm->server_name = "istio-envoy";
}

static void set_routes(struct cp_translation *t, Xds__HttpConnectionManager *hcm,
                       const struct cp_hcm_options *options)
{
    if (options->routes != NULL) {
        hcm->route_specifier_case = XDS__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG;
        hcm->route_config = options->routes;
        return;
    }
    hcm->route_specifier_case = XDS__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS;
    hcm->rds = CP_NEW(t, Xds__Rds, xds__rds);
    hcm->rds->config_source = cp_ads(t);
    hcm->rds->route_config_name = options->rds_name;
}

static void set_constants(struct cp_translation *t, Xds__HttpConnectionManager *hcm)
{
    hcm->stream_idle_timeout = cp_duration(t, 0);
    hcm->proxy_100_continue = hcm->has_proxy_100_continue = true;
    hcm->normalize_path = cp_bool(t, true);
    hcm->path_with_escaped_slashes_action =
        XDS__HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__KEEP_UNCHANGED;
    hcm->has_path_with_escaped_slashes_action = true;
    Xds__HttpConnectionManager__UpgradeConfig *upgrade = CP_NEW(
        t, Xds__HttpConnectionManager__UpgradeConfig, xds__http_connection_manager__upgrade_config);
    upgrade->upgrade_type = "websocket";
    CP_PUSH(t, hcm->upgrade_configs, hcm->n_upgrade_configs, upgrade);
    Xds__UuidRequestIdConfig *uuid = CP_NEW(t, Xds__UuidRequestIdConfig,
                                            xds__uuid_request_id_config);
    uuid->use_request_id_for_trace_sampling = cp_bool(t, true);
    hcm->request_id_extension = CP_NEW(t, Xds__RequestIDExtension, xds__request_idextension);
    hcm->request_id_extension->typed_config = lt_any_pack(t->arena, uuid);
}

void cp_chain_add_hcm(struct cp_translation *t, Xds__FilterChain *chain, cp_side side,
                      const struct cp_hcm_options *options)
{
    if (side == CP_SIDE_INBOUND)
        add_mx(t, chain);
    Xds__HttpConnectionManager *hcm = CP_NEW(t, Xds__HttpConnectionManager,
                                             xds__http_connection_manager);
    hcm->stat_prefix = options->stat_prefix;
    set_routes(t, hcm, options);
    add_http_filters(t, hcm, side);
    hcm->tracing = make_tracing(t);
    hcm->use_remote_address = cp_bool(t, side == CP_SIDE_GATEWAY);
    if (side == CP_SIDE_GATEWAY)
        hcm->http_protocol_options = CP_NEW(t, Xds__Http1ProtocolOptions,
                                            xds__http1_protocol_options);
    if (options->is_http2)
        hcm->http2_protocol_options = CP_NEW(t, Xds__Http2ProtocolOptions,
                                             xds__http2_protocol_options);
    set_client_cert(t, hcm, side);
    set_constants(t, hcm);
    Xds__AccessLog *log = make_access_log(t);
    if (log != NULL)
        CP_PUSH(t, hcm->access_log, hcm->n_access_log, log);
    CP_PUSH(
        t, chain->filters, chain->n_filters,
        cp_filter(t, "envoy.filters.network.http_connection_manager", lt_any_pack(t->arena, hcm)));
}

/* ---- listener filters ---- */

Xds__ListenerFilter *cp_listener_filter(struct cp_translation *t, const char *name, void *config)
{
    Xds__ListenerFilter *filter = CP_NEW(t, Xds__ListenerFilter, xds__listener_filter);
    filter->name = name;
    filter->config_type_case = XDS__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter->typed_config = lt_any_pack(t->arena, config);
    return filter;
}

Xds__ListenerFilter *cp_tls_inspector(struct cp_translation *t)
{
    Xds__TlsInspector *config = CP_NEW(t, Xds__TlsInspector, xds__tls_inspector);
    config->initial_read_buffer_size = cp_u32(t, 512);
    return cp_listener_filter(t, "envoy.filters.listener.tls_inspector", config);
}

Xds__ListenerFilter *cp_http_inspector(struct cp_translation *t)
{
    return cp_listener_filter(t, "envoy.filters.listener.http_inspector",
                              CP_NEW(t, Xds__HttpInspector, xds__http_inspector));
}
