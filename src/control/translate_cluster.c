/*
 * control/translate_cluster.c - clusters (CDS): one for each port of each service in sight, and for
 * each subset of it; then those of the proxy's own ports, and the ones that have no service (xds.md
 * 8).
 */
#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/proto/upstream_http.pb-c.h"
#include "wire/struct.h"

#define HTTP_OPTIONS "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
/* istiod's "never", 292 years. */
#define NEVER_S 9223372035ll

const char *cp_cluster_name(struct cp_translation *t, uint16_t port, lt_str subset, lt_str host)
{
    return cp_zf(t, "outbound|%u|%.*s|%.*s", port, LT_STR_ARG(subset), LT_STR_ARG(host));
}

/* ---- policy ---- */

static const struct lt_port_policy *find_port_policy(const struct lt_traffic_policy *policy,
                                                     uint16_t port)
{
    for (size_t i = 0; policy != NULL && i < policy->port_level.count; i++) {
        if (policy->port_level.items[i].port->number.value == port)
            return &policy->port_level.items[i];
    }
    return NULL;
}

/*
 * A matching port-level setting replaces all four blocks; otherwise blocks that are there do
 * (networking.md 3.2).
 */
static void take_policy(struct cp_policy *to, const struct lt_traffic_policy *policy, uint16_t port)
{
    const struct lt_port_policy *own = find_port_policy(policy, port);
    if (own != NULL) {
        to->load_balancer = own->load_balancer;
        to->pool = own->connection_pool;
        to->outlier = own->outlier_detection;
        to->tls = own->tls;
    } else if (policy != NULL) {
        to->load_balancer = policy->load_balancer != NULL ? policy->load_balancer
                                                          : to->load_balancer;
        to->pool = policy->connection_pool != NULL ? policy->connection_pool : to->pool;
        to->outlier = policy->outlier_detection != NULL ? policy->outlier_detection : to->outlier;
        to->tls = policy->tls != NULL ? policy->tls : to->tls;
    }
}

struct cp_policy cp_policy_for(struct cp_translation *t, const struct lt_service *service,
                               uint16_t port, lt_str subset)
{
    struct cp_policy policy = {
        .rule = lt_model_find_rule(t->model, service, t->node->ns, t->labels)};
    const struct lt_subset *own = subset.len > 0 ? lt_rule_find_subset(policy.rule, subset) : NULL;
    if (policy.rule == NULL)
        return policy;
    take_policy(&policy, own != NULL ? own->rule_policy : policy.rule->policy, port);
    if (own != NULL)
        take_policy(&policy, own->spec->traffic_policy, port);
    return policy;
}

/* ---- parts of a cluster ---- */

static Xds__Cluster *new_cluster(struct cp_translation *t, const char *name,
                                 Xds__Cluster__DiscoveryType type)
{
    Xds__Cluster *c = CP_NEW(t, Xds__Cluster, xds__cluster);
    c->name = name;
    c->alt_stat_name = cp_zf(t, "%s;", name);
    c->cluster_discovery_type_case = XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
    c->type = type;
    c->connect_timeout = cp_duration(t, t->model->mesh.connect_timeout_ns);
    if (type == XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST) {
        c->lb_policy = XDS__CLUSTER__LB_POLICY__CLUSTER_PROVIDED;
        c->has_lb_policy = true;
    }
    return c;
}

static Pb__UInt32Value *limit(struct cp_translation *t, struct lt_opt opt)
{
    return cp_u32(t, opt.value > 0 ? (uint32_t)opt.value : UINT32_MAX);
}

/*
 * Without a limit of the user's there is none: Envoy's own defaults are too small for a service's
 * whole traffic.
 */
static void add_breakers(struct cp_translation *t, Xds__Cluster *c,
                         const struct lt_connection_pool *pool)
{
    static const struct lt_pool_tcp no_tcp = {0};
    static const struct lt_pool_http no_http = {0};
    const struct lt_pool_tcp *tcp = pool != NULL && pool->tcp != NULL ? pool->tcp : &no_tcp;
    const struct lt_pool_http *http = pool != NULL && pool->http != NULL ? pool->http : &no_http;
    Xds__CircuitBreakers__Thresholds *limits = CP_NEW(t, Xds__CircuitBreakers__Thresholds,
                                                      xds__circuit_breakers__thresholds);
    limits->max_connections = limit(t, tcp->max_connections);
    limits->max_pending_requests = limit(t, http->http1_max_pending);
    limits->max_requests = limit(t, http->http2_max_requests);
    limits->max_retries = limit(t, http->max_retries);
    c->circuit_breakers = CP_NEW(t, Xds__CircuitBreakers, xds__circuit_breakers);
    CP_PUSH(t, c->circuit_breakers->thresholds, c->circuit_breakers->n_thresholds, limits);
    if (tcp->connect_timeout.is_set)
        c->connect_timeout = cp_duration(t, tcp->connect_timeout.value);
}

static void add_keepalive(struct cp_translation *t, Xds__Cluster *c,
                          const struct lt_connection_pool *pool)
{
    const struct lt_tcp_keepalive *from = pool != NULL && pool->tcp != NULL
                                              ? pool->tcp->tcp_keepalive
                                              : NULL;
    if (from == NULL)
        return;
    Xds__TcpKeepalive *to = CP_NEW(t, Xds__TcpKeepalive, xds__tcp_keepalive);
    if (from->probes.is_set)
        to->keepalive_probes = cp_u32(t, (uint32_t)from->probes.value);
    if (from->time.is_set)
        to->keepalive_time = cp_u32(t, (uint32_t)(from->time.value / (int64_t)LT_NS_PER_S));
    if (from->interval.is_set)
        to->keepalive_interval = cp_u32(t, (uint32_t)(from->interval.value / (int64_t)LT_NS_PER_S));
    c->upstream_connection_options = CP_NEW(t, Xds__UpstreamConnectionOptions,
                                            xds__upstream_connection_options);
    c->upstream_connection_options->tcp_keepalive = to;
}

typedef enum { HTTP_NONE, HTTP_1, HTTP_2, HTTP_AS_CLIENT } http_choice;

static http_choice choose_http(const struct cp_translation *t, lt_port_protocol protocol,
                               const struct lt_connection_pool *pool)
{
    const struct lt_pool_http *http = pool != NULL ? pool->http : NULL;
    if (http != NULL && http->use_client_protocol.value)
        return HTTP_AS_CLIENT;
    if (lt_port_is_http2(protocol) ||
        (http != NULL && http->h2_upgrade_policy.value == LT_H2_UPGRADE_YES))
        return HTTP_2;
    if (protocol == LT_PORT_AUTO)
        return t->node->type == CP_NODE_SIDECAR ? HTTP_AS_CLIENT : HTTP_NONE;
    return lt_port_is_http(protocol) ? HTTP_1 : HTTP_NONE;
}

/* Settings that live in HttpProtocolOptions; NULL when the rule has none of them. */
static Xds__HttpProtocolOptions *make_common_options(struct cp_translation *t,
                                                     const struct lt_connection_pool *pool)
{
    const struct lt_pool_http *http = pool != NULL ? pool->http : NULL;
    const struct lt_pool_tcp *tcp = pool != NULL ? pool->tcp : NULL;
    bool has_http = http != NULL &&
                    (http->idle_timeout.is_set || http->max_requests_per_connection.value > 0 ||
                     http->max_concurrent_streams.value > 0 || http->http2_keepalive != NULL);
    bool has_tcp = tcp != NULL && (tcp->max_connection_duration.is_set || tcp->idle_timeout.is_set);
    if (!has_http && !has_tcp)
        return NULL;
    Xds__HttpProtocolOptions *o = CP_NEW(t, Xds__HttpProtocolOptions, xds__http_protocol_options);
    if (http != NULL && http->idle_timeout.is_set)
        o->idle_timeout = cp_duration(t, http->idle_timeout.value);
    else if (tcp != NULL && tcp->idle_timeout.is_set)
        o->idle_timeout = cp_duration(t, tcp->idle_timeout.value);
    if (tcp != NULL && tcp->max_connection_duration.is_set)
        o->max_connection_duration = cp_duration(t, tcp->max_connection_duration.value);
    if (http != NULL && http->max_requests_per_connection.value > 0)
        o->max_requests_per_connection = cp_u32(t,
                                                (uint32_t)http->max_requests_per_connection.value);
    return o;
}

static Xds__Http2ProtocolOptions *make_http2_options(struct cp_translation *t,
                                                     const struct lt_connection_pool *pool)
{
    const struct lt_pool_http *http = pool != NULL ? pool->http : NULL;
    Xds__Http2ProtocolOptions *o = CP_NEW(t, Xds__Http2ProtocolOptions,
                                          xds__http2_protocol_options);
    if (http != NULL && http->max_concurrent_streams.value > 0)
        o->max_concurrent_streams = cp_u32(t, (uint32_t)http->max_concurrent_streams.value);
    if (http != NULL && http->http2_keepalive != NULL) {
        o->connection_keepalive = CP_NEW(t, Xds__KeepaliveSettings, xds__keepalive_settings);
        o->connection_keepalive->interval = cp_duration(t, http->http2_keepalive->interval.value);
        o->connection_keepalive->timeout = cp_duration(t, http->http2_keepalive->timeout.value);
    }
    return o;
}

static Xds__UpstreamHttp__HttpProtocolOptions__ExplicitHttpConfig *explicit_http(
    struct cp_translation *t, http_choice choice, const struct lt_connection_pool *pool)
{
    Xds__UpstreamHttp__HttpProtocolOptions__ExplicitHttpConfig *config = CP_NEW(
        t, Xds__UpstreamHttp__HttpProtocolOptions__ExplicitHttpConfig,
        xds__upstream_http__http_protocol_options__explicit_http_config);
    if (choice == HTTP_2) {
        config->protocol_config_case =
            XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS;
        config->http2_protocol_options = make_http2_options(t, pool);
    } else {
        config->protocol_config_case =
            XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS;
        config->http_protocol_options = CP_NEW(t, Xds__Http1ProtocolOptions,
                                               xds__http1_protocol_options);
    }
    return config;
}

static void put_http_options(struct cp_translation *t, Xds__Cluster *c, http_choice choice,
                             Xds__HttpProtocolOptions *common,
                             Xds__UpstreamHttpProtocolOptions *upstream,
                             const struct lt_connection_pool *pool)
{
    Xds__UpstreamHttp__HttpProtocolOptions *o = CP_NEW(t, Xds__UpstreamHttp__HttpProtocolOptions,
                                                       xds__upstream_http__http_protocol_options);
    o->common_http_protocol_options = common;
    o->upstream_http_protocol_options = upstream;
    if (choice == HTTP_AS_CLIENT) {
        o->upstream_protocol_options_case =
            XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG;
        o->use_downstream_protocol_config = CP_NEW(
            t, Xds__UpstreamHttp__HttpProtocolOptions__UseDownstreamHttpConfig,
            xds__upstream_http__http_protocol_options__use_downstream_http_config);
        o->use_downstream_protocol_config->http_protocol_options = CP_NEW(
            t, Xds__Http1ProtocolOptions, xds__http1_protocol_options);
        o->use_downstream_protocol_config->http2_protocol_options = make_http2_options(t, pool);
    } else {
        o->upstream_protocol_options_case =
            XDS__UPSTREAM_HTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG;
        o->explicit_http_config = explicit_http(t, choice, pool);
    }
    Xds__Cluster__TypedExtensionProtocolOptionsEntry *entry = CP_NEW(
        t, Xds__Cluster__TypedExtensionProtocolOptionsEntry,
        xds__cluster__typed_extension_protocol_options_entry);
    entry->key = HTTP_OPTIONS;
    entry->value = lt_any_pack(t->arena, o);
    CP_PUSH(t, c->typed_extension_protocol_options, c->n_typed_extension_protocol_options, entry);
}

/* Nothing is said where HTTP/1.1 without settings is meant: that is what Envoy does anyway. */
static void add_http(struct cp_translation *t, Xds__Cluster *c, lt_port_protocol protocol,
                     const struct cp_policy *policy, cp_tls_kind tls)
{
    http_choice choice = choose_http(t, protocol, policy->pool);
    Xds__HttpProtocolOptions *common = make_common_options(t, policy->pool);
    Xds__UpstreamHttpProtocolOptions *upstream = NULL;
    /* the rule's TLS without a server name asks for the one that the client asked for */
    if (tls == CP_TLS_SIMPLE && policy->tls->sni.len == 0 && lt_port_is_http(protocol)) {
        upstream = CP_NEW(t, Xds__UpstreamHttpProtocolOptions, xds__upstream_http_protocol_options);
        upstream->auto_sni = upstream->has_auto_sni = true;
        upstream->has_auto_san_validation = upstream->auto_san_validation =
            policy->tls->subject_alt_names.count == 0 && !policy->tls->insecure_skip_verify.value;
    }
    if ((choice == HTTP_NONE || choice == HTTP_1) && common == NULL && upstream == NULL)
        return;
    put_http_options(t, c, choice, common, upstream, policy->pool);
}

static bool is_http2(const struct cp_translation *t, lt_port_protocol protocol,
                     const struct cp_policy *policy)
{
    return choose_http(t, protocol, policy->pool) == HTTP_2;
}

/* ---- load balancing ---- */

static Xds__Cluster__SlowStartConfig *make_slow_start(struct cp_translation *t,
                                                      const struct lt_lb_warmup *warmup)
{
    Xds__Cluster__SlowStartConfig *s = CP_NEW(t, Xds__Cluster__SlowStartConfig,
                                              xds__cluster__slow_start_config);
    s->slow_start_window = cp_duration(t, warmup->duration.value);
    s->aggression = CP_NEW(t, Xds__RuntimeDouble, xds__runtime_double);
    s->aggression->default_value = warmup->aggression.is_set ? warmup->aggression.value : 1;
    s->aggression->has_default_value = true;
    s->aggression->runtime_key = "("; /* the field must not be empty; this is no key of anybody's */
    s->min_weight_percent = cp_percent(
        t, warmup->minimum_percent.is_set ? warmup->minimum_percent.value : 10);
    return s;
}

static void set_lb(Xds__Cluster *c, Xds__Cluster__LbPolicy policy)
{
    c->lb_policy = policy;
    c->has_lb_policy = policy != XDS__CLUSTER__LB_POLICY__ROUND_ROBIN;
}

static void add_hash_lb(struct cp_translation *t, Xds__Cluster *c,
                        const struct lt_consistent_hash *hash)
{
    if (hash->maglev != NULL) {
        set_lb(c, XDS__CLUSTER__LB_POLICY__MAGLEV);
        c->lb_config_case = XDS__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG;
        c->maglev_lb_config = CP_NEW(t, Xds__Cluster__MaglevLbConfig,
                                     xds__cluster__maglev_lb_config);
        if (hash->maglev->table_size.is_set)
            c->maglev_lb_config->table_size = cp_u64(t, (uint64_t)hash->maglev->table_size.value);
        return;
    }
    struct lt_opt size = hash->ring_hash != NULL ? hash->ring_hash->minimum_ring_size
                                                 : hash->minimum_ring_size;
    set_lb(c, XDS__CLUSTER__LB_POLICY__RING_HASH);
    c->lb_config_case = XDS__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG;
    c->ring_hash_lb_config = CP_NEW(t, Xds__Cluster__RingHashLbConfig,
                                    xds__cluster__ring_hash_lb_config);
    c->ring_hash_lb_config->minimum_ring_size = cp_u64(t, size.value > 0 ? (uint64_t)size.value
                                                                         : 1024);
}

static void add_lb(struct cp_translation *t, Xds__Cluster *c, const struct lt_load_balancer *lb)
{
    if (c->has_lb_policy)
        return; /* original destination: the client has chosen */
    if (lb != NULL && lb->consistent_hash != NULL) {
        add_hash_lb(t, c, lb->consistent_hash);
        return;
    }
    Xds__Cluster__SlowStartConfig *slow = lb != NULL && lb->warmup != NULL
                                              ? make_slow_start(t, lb->warmup)
                                              : NULL;
    switch (lb != NULL ? lb->simple.value : LT_LB_UNSPECIFIED) {
    case LT_LB_RANDOM: set_lb(c, XDS__CLUSTER__LB_POLICY__RANDOM); return;
    case LT_LB_ROUND_ROBIN:
        set_lb(c, XDS__CLUSTER__LB_POLICY__ROUND_ROBIN);
        if (slow == NULL)
            return;
        c->lb_config_case = XDS__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG;
        c->round_robin_lb_config = CP_NEW(t, Xds__Cluster__RoundRobinLbConfig,
                                          xds__cluster__round_robin_lb_config);
        c->round_robin_lb_config->slow_start_config = slow;
        return;
    default:
        set_lb(c, XDS__CLUSTER__LB_POLICY__LEAST_REQUEST);
        if (slow == NULL)
            return;
        c->lb_config_case = XDS__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG;
        c->least_request_lb_config = CP_NEW(t, Xds__Cluster__LeastRequestLbConfig,
                                            xds__cluster__least_request_lb_config);
        c->least_request_lb_config->slow_start_config = slow;
    }
}

/* ---- outlier detection ---- */

static Pb__UInt32Value *optional_u32(struct cp_translation *t, struct lt_opt opt)
{
    return opt.is_set ? cp_u32(t, (uint32_t)opt.value) : NULL;
}

static void add_outlier(struct cp_translation *t, Xds__Cluster *c, const struct lt_outlier *from)
{
    c->common_lb_config = CP_NEW(t, Xds__Cluster__CommonLbConfig, xds__cluster__common_lb_config);
    c->common_lb_config->healthy_panic_threshold = cp_percent(
        t, from != NULL ? (double)from->min_health_percent.value : 0);
    if (from == NULL)
        return;
    Xds__OutlierDetection *to = CP_NEW(t, Xds__OutlierDetection, xds__outlier_detection);
    to->consecutive_5xx = optional_u32(t, from->consecutive_5xx);
    if (from->consecutive_5xx.is_set)
        to->enforcing_consecutive_5xx = cp_u32(t, from->consecutive_5xx.value > 0 ? 100 : 0);
    to->interval = from->interval.is_set ? cp_duration(t, from->interval.value) : NULL;
    to->base_ejection_time = from->base_ejection_time.is_set
                                 ? cp_duration(t, from->base_ejection_time.value)
                                 : NULL;
    to->max_ejection_percent = from->max_ejection_percent.value > 0
                                   ? optional_u32(t, from->max_ejection_percent)
                                   : NULL;
    to->enforcing_success_rate = cp_u32(t, 0);
    to->consecutive_gateway_failure = optional_u32(t, from->consecutive_gateway);
    if (from->consecutive_gateway.is_set)
        to->enforcing_consecutive_gateway_failure = cp_u32(
            t, from->consecutive_gateway.value > 0 ? 100 : 0);
    if (from->split_local_origin.value) {
        to->split_external_local_origin_errors = to->has_split_external_local_origin_errors = true;
        to->consecutive_local_origin_failure = optional_u32(t, from->consecutive_local_origin);
        if (from->consecutive_local_origin.value > 0)
            to->enforcing_consecutive_local_origin_failure = cp_u32(t, 100);
        to->enforcing_local_origin_success_rate = cp_u32(t, 0);
    }
    c->outlier_detection = to;
}

/* ---- metadata and filters ---- */

static Xds__Metadata *make_metadata(struct cp_translation *t, const struct lt_service *service,
                                    const struct lt_rule *rule, lt_str subset, bool is_own_tls)
{
    struct lt_doc istio = lt_doc_of_object(), services = lt_doc_of_array(),
                  entry = lt_doc_of_object();
    lt_doc_set(t->arena, &entry, LT_STR("host"), lt_doc_of_str(service->host));
    lt_doc_set(t->arena, &entry, LT_STR("name"), lt_doc_of_str(service->name));
    lt_doc_set(t->arena, &entry, LT_STR("namespace"), lt_doc_of_str(service->ns));
    lt_doc_push(t->arena, &services, entry);
    lt_doc_set(t->arena, &istio, LT_STR("services"), services);
    if (rule != NULL)
        lt_doc_set(t->arena, &istio, LT_STR("config"),
                   lt_doc_of_str(lt_str_of(cp_object_path(t, rule->object))));
    if (subset.len > 0)
        lt_doc_set(t->arena, &istio, LT_STR("subset"), lt_doc_of_str(subset));
    if (is_own_tls)
        lt_doc_set(t->arena, &istio, LT_STR("alpn_override"), lt_doc_of_str(LT_STR("false")));
    Xds__Metadata *metadata = CP_NEW(t, Xds__Metadata, xds__metadata);
    cp_add_metadata(t, metadata, "istio", &istio);
    return metadata;
}

static void add_mx(struct cp_translation *t, Xds__Cluster *c)
{
    if (!cp_has(t, CP_EXT_MX_TCP))
        return;
    Xds__Cluster__Filter *filter = CP_NEW(t, Xds__Cluster__Filter, xds__cluster__filter);
    filter->name = "istio.metadata_exchange";
    filter->typed_config = cp_mx_tcp_config(t);
    CP_PUSH(t, c->filters, c->n_filters, filter);
}

/* ---- outbound ---- */

static bool is_original_dst(const struct cp_translation *t, const struct lt_service *service,
                            const struct cp_policy *policy)
{
    if (service->is_headless && t->node->type == CP_NODE_SIDECAR)
        return true;
    return policy->load_balancer != NULL &&
           policy->load_balancer->simple.value == LT_LB_PASSTHROUGH;
}

static void emit_outbound(struct cp_translation *t, const struct lt_service *service,
                          const struct lt_port *port, lt_str subset)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    struct cp_policy policy = cp_policy_for(t, service, port->number, subset);
    const char *name = cp_cluster_name(t, port->number, subset, service->host);
    bool is_original = is_original_dst(t, service, &policy);
    Xds__Cluster *c = new_cluster(t, name,
                                  is_original ? XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST
                                              : XDS__CLUSTER__DISCOVERY_TYPE__EDS);
    if (!is_original) {
        c->eds_cluster_config = CP_NEW(t, Xds__Cluster__EdsClusterConfig,
                                       xds__cluster__eds_cluster_config);
        c->eds_cluster_config->eds_config = cp_ads(t);
        c->eds_cluster_config->service_name = name;
    }
    cp_tls_kind tls = cp_tls_kind_for(t, service, port, &policy);
    add_breakers(t, c, policy.pool);
    add_keepalive(t, c, policy.pool);
    add_http(t, c, port->protocol, &policy, tls);
    add_lb(t, c, policy.load_balancer);
    add_outlier(t, c, policy.outlier);
    c->metadata = make_metadata(t, service, policy.rule, subset, tls == CP_TLS_SIMPLE);
    cp_cluster_add_tls(t, c, tls, service, port, subset, &policy,
                       is_http2(t, port->protocol, &policy));
    add_mx(t, c);
    cp_emit(t, lt_str_of(name), c);
    lt_arena_rollback(t->arena, mark);
}

static void translate_outbound(struct cp_translation *t)
{
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *service = &t->model->services[i];
        if (service->alias_of.len > 0 || !lt_service_is_visible(t->model, service, t->node->ns))
            continue;
        const struct lt_rule *rule = lt_model_find_rule(t->model, service, t->node->ns, t->labels);
        for (size_t p = 0; p < service->port_count; p++) {
            emit_outbound(t, service, &service->ports[p], LT_STR(""));
            for (size_t s = 0; rule != NULL && s < rule->subset_count; s++)
                emit_outbound(t, service, &service->ports[p], rule->subsets[s].spec->name);
        }
    }
}

/* ---- inbound ---- */

static uint16_t resolve_own_target(const struct cp_translation *t,
                                   const struct lt_workload *workload, const struct lt_port *port)
{
    if (port->target.number != 0)
        return port->target.number;
    const struct lt_pod_spec *spec = workload != NULL ? workload->pod->pod->spec : NULL;
    for (size_t i = 0; spec != NULL && i < spec->containers.count; i++) {
        const struct lt_container *c = &spec->containers.items[i];
        for (size_t j = 0; j < c->ports.count; j++) {
            if (lt_str_eq(c->ports.items[j].name, port->target.name))
                return (uint16_t)c->ports.items[j].container_port.value;
        }
    }
    for (size_t i = 0; i < t->node->port_count; i++) {
        if (lt_str_eq(t->node->ports[i].name, port->target.name))
            return t->node->ports[i].number;
    }
    return 0;
}

/* Its selector takes the workload, or (manual slices) an endpoint of it is the workload. */
static bool is_own_service(const struct cp_translation *t, const struct lt_service *service)
{
    if (!lt_str_eq(service->ns, t->node->ns) || service->alias_of.len > 0)
        return false;
    if (service->selector->count > 0)
        return lt_kvs_contain(t->labels, service->selector);
    for (size_t p = 0; p < service->port_count; p++) {
        for (size_t i = 0; i < service->ports[p].endpoint_count; i++) {
            if (lt_str_eq(service->ports[p].endpoints[i].ip, t->node->ip))
                return true;
        }
    }
    return false;
}

static bool has_inbound(const struct cp_inbound_port *ports, size_t count, uint16_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (ports[i].number == number)
            return true;
    }
    return false;
}

static int cmp_inbound(const void *a, const void *b)
{
    return (int)((const struct cp_inbound_port *)a)->number -
           (int)((const struct cp_inbound_port *)b)->number;
}

const struct cp_inbound_port *cp_inbound_ports(struct cp_translation *t, size_t *ret_count)
{
    const struct lt_workload *workload = cp_node_workload(t->node, t->model);
    size_t max = 0, count = 0;
    for (size_t i = 0; i < t->model->service_count; i++)
        max += is_own_service(t, &t->model->services[i]) ? t->model->services[i].port_count : 0;
    struct cp_inbound_port *ports = lt_arena_make_n(t->arena, struct cp_inbound_port, max + 1);
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *service = &t->model->services[i];
        for (size_t p = 0; p < service->port_count && is_own_service(t, service); p++) {
            uint16_t number = resolve_own_target(t, workload, &service->ports[p]);
            /* of two services on one port the older counts */
            if (number != 0 && !has_inbound(ports, count, number))
                ports[count++] = (struct cp_inbound_port){number, service->ports[p].protocol,
                                                          service, &service->ports[p]};
        }
    }
    lt_sort(ports, count, sizeof(*ports), cmp_inbound);
    *ret_count = count;
    return ports;
}

/* So that the application sees connections of its proxy as such, and capture lets them through. */
static Xds__BindConfig *bind_local(struct cp_translation *t)
{
    Xds__BindConfig *bind = CP_NEW(t, Xds__BindConfig, xds__bind_config);
    bool is_v6 = lt_str_find_char(t->node->ip, ':') >= 0;
    bind->source_address = cp_socket_address(t, is_v6 ? "::6" : "127.0.0.6", 0);
    return bind;
}

static void emit_inbound(struct cp_translation *t, const struct cp_inbound_port *port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    const char *name = cp_zf(t, "inbound|%u||", port->number);
    Xds__Cluster *c = new_cluster(t, name, XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST);
    struct cp_policy policy = {
        .rule = lt_model_find_rule(t->model, port->service, t->node->ns, NULL)};
    if (policy.rule != NULL)
        take_policy(&policy, policy.rule->policy, port->port->number);
    add_breakers(t, c, policy.pool);
    c->connect_timeout = cp_duration(t, t->model->mesh.connect_timeout_ns);
    struct cp_policy pool_only = {.pool = policy.pool};
    add_http(t, c, port->protocol, &pool_only, CP_TLS_NONE);
    c->cleanup_interval = cp_duration(t, 0);
    c->cleanup_interval->seconds = NEVER_S;
    c->cleanup_interval->has_seconds = true;
    c->upstream_bind_config = bind_local(t);
    c->common_lb_config = CP_NEW(t, Xds__Cluster__CommonLbConfig, xds__cluster__common_lb_config);
    c->metadata = make_metadata(t, port->service, policy.rule, LT_STR(""), false);
    cp_emit(t, lt_str_of(name), c);
    lt_arena_rollback(t->arena, mark);
}

static void emit_passthrough(struct cp_translation *t, const char *name, bool is_inbound)
{
    Xds__Cluster *c = new_cluster(t, name, XDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST);
    c->alt_stat_name = CP_PASSTHROUGH ";";
    add_breakers(t, c, NULL);
    Xds__HttpProtocolOptions *common = CP_NEW(t, Xds__HttpProtocolOptions,
                                              xds__http_protocol_options);
    common->idle_timeout = cp_duration(t, 300 * (int64_t)LT_NS_PER_S);
    put_http_options(t, c, HTTP_AS_CLIENT, common, NULL, NULL);
    if (is_inbound)
        c->upstream_bind_config = bind_local(t);
    else
        add_mx(t, c);
    cp_emit(t, lt_str_of(name), c);
}

static void translate_own(struct cp_translation *t)
{
    size_t count = 0;
    const struct cp_inbound_port *ports = cp_inbound_ports(t, &count);
    for (size_t i = 0; i < count; i++)
        emit_inbound(t, &ports[i]);
    emit_passthrough(t, CP_INBOUND_PASSTHROUGH, true);
}

void cp_translate_clusters(struct cp_translation *t)
{
    bool is_sidecar = t->node->type == CP_NODE_SIDECAR;
    if (t->part & CP_PART_COMMON) {
        translate_outbound(t);
        cp_emit(t, LT_STR(CP_BLACK_HOLE),
                new_cluster(t, CP_BLACK_HOLE, XDS__CLUSTER__DISCOVERY_TYPE__STATIC));
        if (is_sidecar)
            emit_passthrough(t, CP_PASSTHROUGH, false);
    }
    if ((t->part & CP_PART_OWN) && is_sidecar)
        translate_own(t);
}
