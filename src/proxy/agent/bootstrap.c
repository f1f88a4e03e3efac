/*
 * proxy/agent/bootstrap.c - the bootstrap that a sidecar or gateway starts with, as Envoy's JSON:
 * node, admin, the two static listeners (15021 health, 15090 metrics), the static clusters, ADS.
 * Names of clusters and stats are Istio's, because tools look for them.
 * Start at: px_agent_bootstrap_text().
 */
#include "base/buf.h"
#include "proxy/agent/settings.h"
#include "wire/json.h"

#define TYPE_HCM \
    "type.googleapis.com/envoy.extensions.filters.network." \
    "http_connection_manager.v3.HttpConnectionManager"
#define TYPE_ROUTER "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
#define TYPE_HTTP_OPTIONS \
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

enum { TEXT_MAX = 4 << 20 }; /* mostly metadata, which the environment bounds */

static void kv(struct lt_json_writer *w, const char *key, const char *value)
{
    lt_json_kv_str(w, key, lt_str_of(value));
}

static void socket_address(struct lt_json_writer *w, const char *key, const char *ip, uint16_t port)
{
    lt_json_kv_object(w, key);
    lt_json_kv_object(w, "socket_address");
    kv(w, "address", ip);
    lt_json_kv_int(w, "port_value", port);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

/* --- clusters --- */

static void open_cluster(struct lt_json_writer *w, const char *name)
{
    lt_json_object_open(w);
    kv(w, "name", name);
    kv(w, "type", "STATIC");
    kv(w, "connect_timeout", "1s");
    kv(w, "lb_policy", "ROUND_ROBIN");
}

/* The one endpoint; closes the cluster. ip NULL: a Unix socket at path. */
static void close_cluster(struct lt_json_writer *w, const char *name, const char *ip, uint16_t port,
                          lt_str path)
{
    lt_json_kv_object(w, "load_assignment");
    kv(w, "cluster_name", name);
    lt_json_kv_array(w, "endpoints");
    lt_json_object_open(w);
    lt_json_kv_array(w, "lb_endpoints");
    lt_json_object_open(w);
    lt_json_kv_object(w, "endpoint");
    if (ip != NULL) {
        socket_address(w, "address", ip, port);
    } else {
        lt_json_kv_object(w, "address");
        lt_json_kv_object(w, "pipe");
        lt_json_kv_str(w, "path", path);
        lt_json_object_close(w);
        lt_json_object_close(w);
    }
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

static void http2_options(struct lt_json_writer *w)
{
    lt_json_kv_object(w, "typed_extension_protocol_options");
    lt_json_kv_object(w, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    kv(w, "@type", TYPE_HTTP_OPTIONS);
    lt_json_kv_object(w, "explicit_http_config");
    lt_json_kv_object(w, "http2_protocol_options");
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

/* Streams of configuration must not run into limits that are meant for requests. */
static void no_limits(struct lt_json_writer *w)
{
    static const char *const priorities[] = {"DEFAULT", "HIGH"};
    lt_json_kv_object(w, "circuit_breakers");
    lt_json_kv_array(w, "thresholds");
    for (size_t i = 0; i < LT_ARRAY_LEN(priorities); i++) {
        lt_json_object_open(w);
        kv(w, "priority", priorities[i]);
        lt_json_kv_int(w, "max_connections", 100000);
        lt_json_kv_int(w, "max_pending_requests", 100000);
        lt_json_kv_int(w, "max_requests", 100000);
        lt_json_object_close(w);
    }
    lt_json_array_close(w);
    lt_json_object_close(w);
}

static void clusters(struct lt_json_writer *w, const struct px_agent_settings *settings)
{
    lt_json_kv_array(w, "clusters");
    open_cluster(w, "prometheus_stats");
    close_cluster(w, "prometheus_stats", "127.0.0.1", settings->admin_port, LT_STR_NULL);
    open_cluster(w, "agent");
    close_cluster(w, "agent", "127.0.0.1", settings->status_port, LT_STR_NULL);
    open_cluster(w, "sds-grpc");
    http2_options(w);
    close_cluster(w, "sds-grpc", NULL, 0, settings->sds_socket);
    open_cluster(w, "xds-grpc");
    http2_options(w);
    no_limits(w);
    close_cluster(w, "xds-grpc", NULL, 0, settings->xds_socket);
    lt_json_array_close(w);
}

/* --- listeners --- */

/*
 * Reachable by each of the Pod's addresses: its primary one may be of either kind. And by
 * 127.0.0.1, where we ask ourselves.
 */
static void any_address(struct lt_json_writer *w, const struct px_agent_settings *settings,
                        uint16_t port)
{
    lt_str ips = lt_doc_string(lt_doc_findz(&settings->metadata, "INSTANCE_IPS"));
    bool has_v6 = lt_str_find_char(ips, ':') >= 0;
    lt_json_kv_object(w, "address");
    lt_json_kv_object(w, "socket_address");
    kv(w, "address", has_v6 ? "::" : "0.0.0.0");
    lt_json_kv_int(w, "port_value", port);
    if (has_v6)
        lt_json_kv_bool(w, "ipv4_compat", true);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

/* A listener whose only route sends one prefix to one cluster. */
static void listener(struct lt_json_writer *w, const struct px_agent_settings *settings,
                     const char *name, uint16_t port, bool is_local, const char *stat_prefix,
                     const char *path, const char *cluster)
{
    lt_json_object_open(w);
    kv(w, "name", name);
    if (is_local)
        socket_address(w, "address", "127.0.0.1", port);
    else
        any_address(w, settings, port);
    lt_json_kv_bool(w, "ignore_global_conn_limit", true);
    lt_json_kv_bool(w, "bypass_overload_manager", true);
    lt_json_kv_array(w, "filter_chains");
    lt_json_object_open(w);
    lt_json_kv_array(w, "filters");
    lt_json_object_open(w);
    kv(w, "name", "envoy.filters.network.http_connection_manager");
    lt_json_kv_object(w, "typed_config");
    kv(w, "@type", TYPE_HCM);
    kv(w, "codec_type", "AUTO");
    kv(w, "stat_prefix", stat_prefix);
    lt_json_kv_object(w, "route_config");
    lt_json_kv_array(w, "virtual_hosts");
    lt_json_object_open(w);
    kv(w, "name", "backend");
    lt_json_kv_array(w, "domains");
    lt_json_str(w, LT_STR("*"));
    lt_json_array_close(w);
    lt_json_kv_array(w, "routes");
    lt_json_object_open(w);
    lt_json_kv_object(w, "match");
    kv(w, "prefix", path);
    lt_json_object_close(w);
    lt_json_kv_object(w, "route");
    kv(w, "cluster", cluster);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_kv_array(w, "http_filters");
    lt_json_object_open(w);
    kv(w, "name", "envoy.filters.http.router");
    lt_json_kv_object(w, "typed_config");
    kv(w, "@type", TYPE_ROUTER);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
}

static void static_resources(struct lt_json_writer *w, const struct px_agent_settings *settings)
{
    lt_json_kv_object(w, "static_resources");
    clusters(w, settings);
    lt_json_kv_array(w, "listeners");
    listener(w, settings, "prometheus", settings->prometheus_port, settings->is_metrics_local_only,
             "stats", "/stats/prometheus", "prometheus_stats");
    listener(w, settings, "agent-health", settings->health_port, false, "agent", "/healthz/ready",
             "agent");
    lt_json_array_close(w);
    lt_json_object_close(w);
}

/* --- the rest --- */

static void over_ads(struct lt_json_writer *w, const char *key)
{
    lt_json_kv_object(w, key);
    lt_json_kv_object(w, "ads");
    lt_json_object_close(w);
    kv(w, "initial_fetch_timeout", "0s");
    kv(w, "resource_api_version", "V3");
    lt_json_object_close(w);
}

static void dynamic_resources(struct lt_json_writer *w, const struct px_agent_settings *settings)
{
    lt_json_kv_object(w, "dynamic_resources");
    over_ads(w, "lds_config");
    over_ads(w, "cds_config");
    lt_json_kv_object(w, "ads_config");
    kv(w, "api_type", settings->uses_delta_xds ? "DELTA_GRPC" : "GRPC");
    kv(w, "transport_api_version", "V3");
    lt_json_kv_bool(w, "set_node_on_first_message_only", true);
    lt_json_kv_array(w, "grpc_services");
    lt_json_object_open(w);
    lt_json_kv_object(w, "envoy_grpc");
    kv(w, "cluster_name", "xds-grpc");
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

static void patterns(struct lt_json_writer *w, const char *kind, const char *const *values,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        lt_json_object_open(w);
        kv(w, kind, values[i]);
        lt_json_object_close(w);
    }
}

/* What ProxyConfig.proxyStatsMatcher adds; "{pod_ip}" is this workload's address. */
static void added_patterns(struct lt_json_writer *w, struct lt_arena *arena,
                           const struct px_agent_settings *settings, const char *member,
                           const char *kind)
{
    const struct lt_doc *list = lt_doc_findz(
        lt_doc_findz(&settings->proxy_config, "proxyStatsMatcher"), member);
    for (uint32_t i = 0; lt_doc_is(list, LT_DOC_ARRAY) && i < list->count; i++) {
        lt_str value = lt_doc_string(&list->items[i]);
        ptrdiff_t at = lt_str_find(value, LT_STR("{pod_ip}"));
        if (at >= 0)
            value = lt_arena_printf(
                arena, "%.*s%.*s%.*s", (int)at, value.ptr, LT_STR_ARG(settings->instance_ip),
                LT_STR_ARG(lt_str_from(value, (size_t)at + strlen("{pod_ip}"))));
        lt_json_object_open(w);
        if (lt_str_eqz(lt_str_of(kind), "safe_regex")) {
            lt_json_kv_object(w, kind);
            lt_json_kv_str(w, "regex", value);
            lt_json_object_close(w);
        } else {
            lt_json_kv_str(w, kind, value);
        }
        lt_json_object_close(w);
    }
}

static void stats_config(struct lt_json_writer *w, struct lt_arena *arena,
                         const struct px_agent_settings *settings)
{
    static const char *const prefixes[] = {"reporter=",        "cluster_manager",
                                           "listener_manager", "server",
                                           "cluster.xds-grpc", "wasm",
                                           "component",        "istio"};
    static const char *const suffixes[] = {"rbac.allowed", "rbac.denied", "shadow_allowed",
                                           "shadow_denied"};
    static const char *const active[] = {"downstream_cx_active"};
    lt_json_kv_object(w, "stats_config");
    lt_json_kv_bool(w, "use_all_default_tags", false);
    lt_json_kv_object(w, "stats_matcher");
    lt_json_kv_object(w, "inclusion_list");
    lt_json_kv_array(w, "patterns");
    patterns(w, "prefix", prefixes, LT_ARRAY_LEN(prefixes));
    patterns(w, "suffix", suffixes, LT_ARRAY_LEN(suffixes));
    if (settings->exits_on_zero_connections)
        patterns(w, "suffix", active, LT_ARRAY_LEN(active));
    added_patterns(w, arena, settings, "inclusionPrefixes", "prefix");
    added_patterns(w, arena, settings, "inclusionSuffixes", "suffix");
    added_patterns(w, arena, settings, "inclusionRegexps", "safe_regex");
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

static void runtime(struct lt_json_writer *w)
{
    lt_json_kv_object(w, "layered_runtime");
    lt_json_kv_array(w, "layers");
    lt_json_object_open(w);
    kv(w, "name", "global config");
    lt_json_kv_object(w, "static_layer");
    lt_json_kv_int(w, "re2.max_program_size.error_level", 32768);
    lt_json_kv_bool(w, "envoy.reloadable_features.http_reject_path_with_fragment", false);
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_object_open(w);
    kv(w, "name", "admin");
    lt_json_kv_object(w, "admin_layer");
    lt_json_object_close(w);
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
}

lt_str px_agent_bootstrap_text(struct lt_arena *arena, const struct px_agent_settings *settings)
{
    struct lt_buf out;
    struct lt_json_writer w;
    struct lt_doc node = px_agent_node_doc(arena, settings);
    lt_buf_init(&out, TEXT_MAX);
    lt_json_writer_init(&w, &out, 2);
    lt_json_object_open(&w);
    lt_json_key(&w, LT_STR("node"));
    lt_json_doc(&w, &node);
    lt_json_kv_object(&w, "admin");
    socket_address(&w, "address", "127.0.0.1", settings->admin_port);
    lt_json_object_close(&w);
    runtime(&w);
    stats_config(&w, arena, settings);
    dynamic_resources(&w, settings);
    static_resources(&w, settings);
    lt_json_object_close(&w);
    LT_ASSERT(lt_json_writer_finish(&w) == LT_OK);
    lt_str text = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return text;
}
