/*
 * proxy/compile/listener.c - Listener to px_listener_conf: addresses, inspectors, filter chains.
 * Start at: px_make_listener(). Matching at run time: chain_match.c.
 */
#include "proxy/compile/kinds.h"
#include "proxy/compile/net_filter.h"
#include "proxy/compile/on_demand.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/istio_metadata_exchange.pb-c.h"
#include "wire/proto/istio_stats.pb-c.h"
#include "wire/proto/listener_http_inspector.pb-c.h"
#include "wire/proto/listener_original_dst.pb-c.h"
#include "wire/proto/listener_tls_inspector.pb-c.h"
#include "wire/proto/net_mongo_proxy.pb-c.h"
#include "wire/proto/net_sni_cluster.pb-c.h"
#include "wire/proto/net_tcp_proxy.pb-c.h"

enum {
    TCP_IDLE_DEFAULT_MS = 3600 * 1000,
    FILTERS_TIMEOUT_DEFAULT_MS = 15000,
    BACKLOG_DEFAULT = 1024,
    BODY_LIMIT_DEFAULT = 1024 * 1024, /* Envoy's */
    PREDICATE_DEPTH_MAX = 16,
};

/* --- filter_disabled: an OR of destination port ranges is what there is in a mesh --- */

struct ranges {
    struct px_port_range list[256];
    size_t count;
};

static lt_rc read_predicate(struct px_build *build,
                            const Xds__ListenerFilterChainMatchPredicate *predicate, int depth,
                            struct ranges *ranges)
{
    if (depth > PREDICATE_DEPTH_MAX)
        return px_bad(build, "filter_disabled", "is nested deeper than %d", PREDICATE_DEPTH_MAX);
    if (predicate->rule_case ==
        XDS__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_DESTINATION_PORT_RANGE) {
        const Xds__Int32Range *range = predicate->destination_port_range;
        if (ranges->count == LT_ARRAY_LEN(ranges->list))
            return px_bad(build, "filter_disabled", "more than %zu port ranges",
                          LT_ARRAY_LEN(ranges->list));
        ranges->list[ranges->count++] = (struct px_port_range){
            (uint32_t)LT_MAX(range->has_start ? range->start : 0, 0),
            (uint32_t)LT_MAX(range->has_end ? range->end : 0, 0)};
        return LT_OK;
    }
    if (predicate->rule_case != XDS__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_OR_MATCH)
        return px_unsupported(build, "filter_disabled",
                              "only destination port ranges joined by or_match are supported");
    for (size_t i = 0; i < predicate->or_match->n_rules; i++) {
        Xds__ListenerFilterChainMatchPredicate *inner = NULL;
        if (px_unpack_inside(build, predicate->or_match->rules[i],
                             &xds__listener_filter_chain_match_predicate__descriptor,
                             &inner) != LT_OK)
            return px_bad(build, "filter_disabled", "is not readable");
        LT_TRY(read_predicate(build, inner, depth + 1, ranges));
    }
    return LT_OK;
}

static lt_rc make_disabled(struct px_build *build, const Xds__ListenerFilter *filter,
                           const struct px_port_range **ret_off, size_t *ret_count)
{
    struct ranges ranges = {.count = 0};
    if (filter->filter_disabled != NULL)
        LT_TRY(read_predicate(build, filter->filter_disabled, 0, &ranges));
    struct px_port_range *off = lt_arena_make_n(build->arena, struct px_port_range, ranges.count);
    memcpy(off, ranges.list, ranges.count * sizeof(*off));
    *ret_off = off;
    *ret_count = ranges.count;
    return LT_OK;
}

static lt_rc make_listener_filter(struct px_build *build, const Xds__ListenerFilter *filter,
                                  struct px_listener_conf *conf)
{
    const Pb__Any *any = filter->config_type_case == XDS__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG
                             ? filter->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    if (lt_str_eqz(type, xds__original_dst__descriptor.name)) {
        conf->has_original_dst_filter = true;
        return LT_OK;
    }
    if (lt_str_eqz(type, xds__tls_inspector__descriptor.name)) {
        conf->has_tls_inspector = true;
        return make_disabled(build, filter, &conf->tls_inspector_off,
                             &conf->tls_inspector_off_count);
    }
    if (lt_str_eqz(type, xds__http_inspector__descriptor.name)) {
        conf->has_http_inspector = true;
        return make_disabled(build, filter, &conf->http_inspector_off,
                             &conf->http_inspector_off_count);
    }
    return px_unsupported(build, NULL, "listener filter '%s' (%.*s) is not supported yet",
                          filter->name, LT_STR_ARG(type));
}

/* --- chains --- */

static lt_rc make_source(struct px_build *build, const Xds__FilterChainMatch *match,
                         struct px_chain *chain)
{
    int type = match->has_source_type ? (int)match->source_type : 0;
    if (match->n_source_prefix_ranges + match->n_direct_source_prefix_ranges +
                match->n_source_ports ==
            0 &&
        type == 0)
        return LT_OK;
    struct px_source_match *source = lt_arena_make(build->arena, struct px_source_match);
    chain->source = source;
    source->type = (px_source_type)type;
    source->prefix_count = match->n_source_prefix_ranges;
    source->direct_prefix_count = match->n_direct_source_prefix_ranges;
    LT_TRY(px_make_prefixes(build, "filter_chain_match.source_prefix_ranges",
                            match->source_prefix_ranges, match->n_source_prefix_ranges,
                            &source->prefixes));
    LT_TRY(px_make_prefixes(build, "filter_chain_match.direct_source_prefix_ranges",
                            match->direct_source_prefix_ranges,
                            match->n_direct_source_prefix_ranges, &source->direct_prefixes));
    uint32_t *ports = lt_arena_make_n(build->arena, uint32_t, match->n_source_ports);
    for (size_t i = 0; i < match->n_source_ports; i++) {
        ports[i] = match->source_ports[i];
        if (ports[i] == 0 || ports[i] > UINT16_MAX)
            return px_bad(build, "filter_chain_match.source_ports", "%u is out of range", ports[i]);
    }
    source->ports = ports;
    source->port_count = match->n_source_ports;
    return LT_OK;
}

/* "*.x" becomes ".x"; "a*.b" is refused as Envoy refuses it. */
static lt_rc make_server_names(struct px_build *build, const Xds__FilterChainMatch *match,
                               struct px_chain *chain)
{
    lt_str *names = lt_arena_make_n(build->arena, lt_str, match->n_server_names);
    for (size_t i = 0; i < match->n_server_names; i++) {
        lt_str name = px_copy(build, match->server_names[i]);
        if (lt_str_starts(name, LT_STR("*.")))
            name = lt_str_from(name, 1);
        if (name.len == 0 || lt_str_find_char(name, '*') >= 0)
            return px_bad(build, "filter_chain_match.server_names",
                          "'%s': partial wildcards are not supported", match->server_names[i]);
        for (size_t j = 0; j < name.len; j++) {
            char *c = (char *)&name.ptr[j];
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        }
        names[i] = name;
    }
    chain->server_names = names;
    chain->server_name_count = match->n_server_names;
    return LT_OK;
}

static lt_rc make_chain_match(struct px_build *build, const Xds__FilterChainMatch *match,
                              struct px_chain *chain)
{
    if (match == NULL)
        return LT_OK;
    if ((match->address_suffix != NULL && match->address_suffix[0] != '\0') ||
        match->suffix_len != NULL)
        return px_unsupported(build, "filter_chain_match.address_suffix", "is not supported");
    chain->destination_port = px_u32(match->destination_port, 0);
    if (chain->destination_port > UINT16_MAX)
        return px_bad(build, "filter_chain_match.destination_port", "%u is out of range",
                      chain->destination_port);
    LT_TRY(px_make_prefixes(build, "filter_chain_match.prefix_ranges", match->prefix_ranges,
                            match->n_prefix_ranges, &chain->prefixes));
    chain->prefix_count = match->n_prefix_ranges;
    LT_TRY(make_source(build, match, chain));
    LT_TRY(make_server_names(build, match, chain));
    chain->transport_protocol = px_copy(build, match->transport_protocol);
    chain->application_protocol_count = match->n_application_protocols;
    return px_make_strings(build, match->application_protocols, match->n_application_protocols,
                           &chain->application_protocols);
}

static lt_rc make_tcp_weighted(struct px_build *build, const Xds__TcpProxy__WeightedCluster *in,
                               struct px_tcp_conf *conf)
{
    struct px_weighted_cluster *clusters = lt_arena_make_n(build->arena, struct px_weighted_cluster,
                                                           in->n_clusters);
    uint64_t total = 0;
    for (size_t i = 0; i < in->n_clusters; i++) {
        clusters[i].cluster = px_copy(build, in->clusters[i]->name);
        clusters[i].weight = in->clusters[i]->has_weight ? in->clusters[i]->weight : 0;
        LT_TRY(px_make_metadata_match(build, in->clusters[i]->metadata_match, conf->metas,
                                      &clusters[i].metas));
        total += clusters[i].weight;
    }
    if (total == 0 || total > UINT32_MAX)
        return px_bad(build, "weighted_clusters", "the sum of the weights must be between 1 and %u",
                      UINT32_MAX);
    conf->weighted = clusters;
    conf->weighted_count = in->n_clusters;
    conf->total_weight = (uint32_t)total;
    return LT_OK;
}

static lt_rc make_tcp_limits(struct px_build *build, const Xds__TcpProxy *in,
                             struct px_tcp_conf *conf)
{
    const Xds__Percent *jitter = in->max_downstream_connection_duration_jitter_percentage;
    conf->idle_timeout_ms = px_duration_ms(in->idle_timeout, TCP_IDLE_DEFAULT_MS);
    conf->max_duration_ms = px_duration_ms(in->max_downstream_connection_duration, 0);
    if (in->max_downstream_connection_duration != NULL && conf->max_duration_ms == 0)
        return px_bad(build, "max_downstream_connection_duration", "must be at least 1 ms");
    if (jitter != NULL && jitter->has_value)
        conf->max_duration_jitter_percent = (uint32_t)LT_MIN(LT_MAX(jitter->value, 0.0), 100.0);
    conf->connect_attempts = px_u32(in->max_connect_attempts, 1);
    if (conf->connect_attempts == 0)
        return px_bad(build, "max_connect_attempts", "must be at least 1");
    return LT_OK;
}

/* The proxy's own fields are of before there were options. */
static lt_rc make_tcp_log_times(struct px_build *build, const Xds__TcpProxy *tcp,
                                struct px_log_times *times)
{
    const Xds__TcpProxy__TcpAccessLogOptions *in = tcp->access_log_options;
    times->at_start = in != NULL ? in->has_flush_access_log_on_connected &&
                                       in->flush_access_log_on_connected
                                 : tcp->has_flush_access_log_on_connected &&
                                       tcp->flush_access_log_on_connected;
    return px_make_log_interval(
        build, in != NULL ? in->access_log_flush_interval : tcp->access_log_flush_interval,
        &times->every_ms);
}

static lt_rc make_tcp(struct px_build *build, const Pb__Any *any, bool has_istio_stats,
                      const struct px_tcp_conf **ret_tcp)
{
    Xds__TcpProxy *in = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__tcp_proxy__descriptor, &in));
    struct px_tcp_conf *conf = lt_arena_make(build->arena, struct px_tcp_conf);
    conf->stat_prefix = px_copy(build, in->stat_prefix);
    if (conf->stat_prefix.len == 0)
        return px_bad(build, "stat_prefix", "is empty");
    LT_TRY(px_make_metadata_match(build, in->metadata_match, NULL, &conf->metas));
    LT_TRY(px_make_tcp_hash_policies(build, in->hash_policy, in->n_hash_policy, &conf->hash));
    if (in->cluster_specifier_case == XDS__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS)
        LT_TRY(make_tcp_weighted(build, in->weighted_clusters, conf));
    else if (in->cluster_specifier_case == XDS__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER)
        conf->cluster = px_copy(build, in->cluster);
    else
        return px_bad(build, "cluster", "a cluster is needed");
    if (in->tunneling_config != NULL)
        return px_unsupported(build, "tunneling_config", "tunnels are not supported yet");
    LT_TRY(px_make_tcp_on_demand(build, in->on_demand, conf));
    LT_TRY(make_tcp_limits(build, in, conf));
    LT_TRY(make_tcp_log_times(build, in, &conf->log_times));
    conf->has_istio_stats = has_istio_stats;
    conf->stats = has_istio_stats ? build->net_stats.stats : NULL;
    conf->tcp_report_ms = has_istio_stats ? build->net_stats.tcp_report_ms : 0;
    LT_TRY(px_make_access_logs(build, in->access_log, in->n_access_log, &conf->access_logs,
                               &conf->access_log_count));
    *ret_tcp = conf;
    return LT_OK;
}

/* They look at what a database says, for metrics, and change and refuse nothing. */
static bool is_onlooker(lt_str type)
{
    return lt_str_eqz(type, xds__mongo_proxy__descriptor.name) ||
           lt_str_eqz(type, "envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy") ||
           lt_str_eqz(type, "envoy.extensions.filters.network.zookeeper_proxy.v3.ZooKeeperProxy");
}

static lt_rc make_network_filter(struct px_build *build, const Xds__Filter *filter,
                                 bool *has_istio_stats, struct px_chain *chain)
{
    const Pb__Any *any = filter->config_type_case == XDS__FILTER__CONFIG_TYPE_TYPED_CONFIG
                             ? filter->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    if (chain->hcm != NULL || chain->tcp != NULL || chain->small != NULL)
        return px_bad(build, NULL, "the terminal filter must be the last");
    if (lt_str_eqz(type, xds__http_connection_manager__descriptor.name))
        return px_make_hcm(build, any, &chain->hcm);
    if (lt_str_eqz(type, xds__tcp_proxy__descriptor.name))
        return make_tcp(build, any, *has_istio_stats, &chain->tcp);
    if (lt_str_eqz(type, istio__metadata_exchange__descriptor.name)) {
        chain->has_tcp_metadata_exchange = true;
        return px_check_exchange(build, any);
    } else if (lt_str_eqz(type, istio__stats__plugin_config__descriptor.name)) {
        Istio__Stats__PluginConfig *in = NULL;
        LT_TRY(px_unpack_any(build, "typed_config", any, &istio__stats__plugin_config__descriptor,
                             &in));
        *has_istio_stats = true;
        LT_TRY(px_make_stats(build, in, &build->net_stats));
    } else if (lt_str_eqz(type, xds__sni_cluster__descriptor.name)) {
        chain->has_sni_cluster = true;
    } else if (!is_onlooker(type)) {
        LT_TRY(px_make_small(build, type, any, &chain->small));
        return chain->small != NULL ? LT_OK : px_make_net_filter(build, filter, chain);
    }
    return LT_OK;
}

/* Before raw TCP: Istio's filter for HTTP has headers. */
static bool has_exchange(struct px_build *build, const Xds__FilterChain *in)
{
    bool has_filter = false, is_tcp = false;
    for (size_t i = 0; i < in->n_filters; i++) {
        if (in->filters[i]->config_type_case != XDS__FILTER__CONFIG_TYPE_TYPED_CONFIG)
            continue;
        lt_str type = px_any_type(build, in->filters[i]->typed_config);
        has_filter |= lt_str_eqz(type, istio__metadata_exchange__descriptor.name);
        is_tcp |= lt_str_eqz(type, xds__tcp_proxy__descriptor.name);
    }
    return has_filter && is_tcp;
}

static lt_rc make_chain(struct px_build *build, const Xds__FilterChain *in, struct px_chain *chain)
{
    bool has_istio_stats = false;
    chain->name = px_copy(build, in->name);
    LT_TRY(px_make_other_meta(build, in->metadata, &chain->metadata));
    chain->transport_timeout_ms = px_duration_ms(in->transport_socket_connect_timeout, 0);
    LT_TRY(make_chain_match(build, in->filter_chain_match, chain));
    build->takes_exchange = has_exchange(build, in);
    LT_TRY(px_make_transport_socket(build, in->transport_socket, true, &chain->tls));
    if (in->use_proxy_proto != NULL && px_bool(in->use_proxy_proto, false))
        return px_unsupported(build, "use_proxy_proto", "is not supported yet");
    chain->net_filters = lt_arena_make_n(build->arena, struct px_net_filter, in->n_filters);
    for (size_t i = 0; i < in->n_filters; i++) {
        size_t mark = px_path_enter(build, "filters", (ptrdiff_t)i);
        LT_TRY(make_network_filter(build, in->filters[i], &has_istio_stats, chain));
        px_path_leave(build, mark);
    }
    if (chain->hcm == NULL && chain->tcp == NULL && chain->small == NULL)
        return px_bad(
            build, "filters",
            "a chain needs a terminal filter: http_connection_manager, tcp_proxy, echo or "
            "direct_response");
    return LT_OK;
}

/* Of two chains for the same connections the second would never be used: as Envoy, refused. */
static lt_rc refuse_twins(struct px_build *build, const Xds__Listener *in)
{
    struct lt_map seen;
    lt_rc rc = LT_OK;
    lt_map_init(&seen);
    for (size_t i = 0; i < in->n_filter_chains && rc == LT_OK; i++) {
        const Xds__FilterChain *chain = in->filter_chains[i];
        const char *name = chain->name != NULL ? chain->name : "";
        lt_str key = chain->filter_chain_match != NULL
                         ? lt_pb_pack(build->scratch, chain->filter_chain_match)
                         : LT_STR("");
        const char *twin = lt_map_find(&seen, key);
        if (twin != NULL)
            rc = px_bad(build, "filter_chains",
                        "filter chain '%s' has the same matching rules defined as '%s'", name,
                        twin);
        else
            lt_map_put(&seen, key, (void *)name);
    }
    lt_map_fini(&seen);
    return rc;
}

static lt_rc make_chains(struct px_build *build, const Xds__Listener *in,
                         struct px_listener_conf *conf)
{
    LT_TRY(refuse_twins(build, in));
    struct px_chain *chains = lt_arena_make_n(build->arena, struct px_chain, in->n_filter_chains);
    for (size_t i = 0; i < in->n_filter_chains; i++) {
        size_t mark = px_path_enter(build, "filter_chains", (ptrdiff_t)i);
        LT_TRY(make_chain(build, in->filter_chains[i], &chains[i]));
        px_path_leave(build, mark);
    }
    conf->chains = chains;
    conf->chain_count = in->n_filter_chains;
    if (in->default_filter_chain != NULL) {
        struct px_chain *chain = lt_arena_make(build->arena, struct px_chain);
        size_t mark = px_path_enter(build, "default_filter_chain", -1);
        LT_TRY(make_chain(build, in->default_filter_chain, chain));
        px_path_leave(build, mark);
        conf->default_chain = chain;
    }
    if (conf->chain_count == 0 && conf->default_chain == NULL)
        return px_bad(build, "filter_chains", "no filter chains specified");
    return LT_OK;
}

static bool is_bound(const Xds__Listener *in)
{
    if (in->bind_to_port != NULL)
        return px_bool(in->bind_to_port, true);
    return in->deprecated_v1 == NULL || px_bool(in->deprecated_v1->bind_to_port, true);
}

/* --- its socket --- */

static lt_rc make_socket_option(struct px_build *build, const Xds__SocketOption *in,
                                struct lt_sock_option *option)
{
    *option = (struct lt_sock_option){.when = in->has_state ? (lt_sock_state)in->state : 0,
                                      .level = in->has_level ? (int)in->level : 0,
                                      .name = in->has_name ? (int)in->name : 0};
    int *number = lt_arena_make(build->arena, int);
    switch (in->value_case) {
    case XDS__SOCKET_OPTION__VALUE_INT_VALUE:
        *number = (int)in->int_value;
        option->value = lt_str_make(number, sizeof(*number));
        return LT_OK;
    case XDS__SOCKET_OPTION__VALUE_BUF_VALUE:
        option->value = lt_arena_str(build->arena, lt_pb_bytes(in->buf_value));
        return LT_OK;
    default: return px_bad(build, "socket_options", "an option without a value");
    }
}

static bool is_v6_only(const Xds__Address *address, const struct lt_addr *addr)
{
    return addr->sa.sa_family == AF_INET6 &&
           !(address->socket_address->has_ipv4_compat && address->socket_address->ipv4_compat);
}

static lt_rc make_more_addresses(struct px_build *build, const Xds__Listener *in,
                                 struct px_listener_conf *conf)
{
    size_t count = in->n_additional_addresses;
    struct px_more_address *all = lt_arena_make_n(build->arena, struct px_more_address, count);
    for (size_t i = 0; i < count; i++) {
        char text[LT_ADDR_TEXT_MAX];
        const Xds__AdditionalAddress *more = in->additional_addresses[i];
        size_t mark = px_path_enter(build, "additional_addresses", (ptrdiff_t)i);
        LT_TRY(px_make_address(build, "address", more->address, &all[i].addr));
        all[i].v6_only = is_v6_only(more->address, &all[i].addr);
        all[i].text = lt_arena_str(build->arena, lt_addr_format(&all[i].addr, text));
        px_path_leave(build, mark);
    }
    conf->more_addrs = all;
    conf->more_addr_count = count;
    return LT_OK;
}

static lt_rc make_socket(struct px_build *build, const Xds__Listener *in,
                         struct px_listener_conf *conf)
{
    bool is_pipe = in->address != NULL && in->address->address_case == XDS__ADDRESS__ADDRESS_PIPE;
    conf->unix_mode = is_pipe && in->address->pipe->has_mode ? in->address->pipe->mode : 0;
    if (conf->unix_mode > 0777)
        return px_bad(build, "address.pipe.mode", "is above 0777");
    conf->transparent = px_bool(in->transparent, false);
    conf->freebind = px_bool(in->freebind, false);
    conf->v6_only = is_v6_only(in->address, &conf->addr);
    conf->reuse_port = px_bool(in->enable_reuse_port, true);
    conf->tcp_backlog = px_u32(in->tcp_backlog_size, BACKLOG_DEFAULT);
    conf->fast_open_queue = px_u32(in->tcp_fast_open_queue_length, 0);
    struct lt_sock_option *options = lt_arena_make_n(build->arena, struct lt_sock_option,
                                                     in->n_socket_options);
    for (size_t i = 0; i < in->n_socket_options; i++)
        LT_TRY(make_socket_option(build, in->socket_options[i], &options[i]));
    conf->socket_options = options;
    conf->socket_option_count = in->n_socket_options;
    return LT_OK;
}

/* 0 means no limit: there is one all the same. */
static uint32_t body_limit(const Xds__Listener *in)
{
    uint32_t bytes = px_u32(in->per_connection_buffer_limit_bytes, BODY_LIMIT_DEFAULT);
    return bytes == 0 ? PX_BODY_LIMIT_MAX : LT_MIN(bytes, (uint32_t)PX_BODY_LIMIT_MAX);
}

lt_rc px_make_listener(struct px_build *build, const Xds__Listener *in,
                       struct px_listener_conf *conf)
{
    conf->res.name = px_copy(build, in->name);
    LT_TRY(px_make_other_meta(build, in->metadata, &conf->metadata));
    LT_TRY(px_make_address(build, "address", in->address, &conf->addr));
    if (in->listener_specifier_case != XDS__LISTENER__LISTENER_SPECIFIER__NOT_SET ||
        in->udp_listener_config != NULL)
        return px_unsupported(build, NULL, "internal and UDP listeners are not supported");
    if (in->has_filter_chain_matcher)
        return px_unsupported(build, "filter_chain_matcher", "is not supported");
    conf->bind_to_port = is_bound(in);
    conf->use_original_dst = px_bool(in->use_original_dst, false);
    int direction = in->has_traffic_direction ? (int)in->traffic_direction : 0;
    conf->is_inbound = direction == XDS__TRAFFIC_DIRECTION__INBOUND;
    conf->is_outbound = direction == XDS__TRAFFIC_DIRECTION__OUTBOUND;
    build->is_inbound = conf->is_inbound;
    build->is_outbound = conf->is_outbound;
    build->body_limit = body_limit(in);
    conf->bypasses_overload = in->has_bypass_overload_manager && in->bypass_overload_manager;
    conf->ignores_connection_limit = in->has_ignore_global_conn_limit &&
                                     in->ignore_global_conn_limit;
    conf->drains_on_change_only = in->has_drain_type &&
                                  in->drain_type == XDS__LISTENER__DRAIN_TYPE__MODIFY_ONLY;
    conf->filters_timeout_ms = px_duration_ms(in->listener_filters_timeout,
                                              FILTERS_TIMEOUT_DEFAULT_MS);
    conf->continue_on_timeout = in->has_continue_on_listener_filters_timeout &&
                                in->continue_on_listener_filters_timeout;
    LT_TRY(make_more_addresses(build, in, conf));
    LT_TRY(make_socket(build, in, conf));
    for (size_t i = 0; i < in->n_listener_filters; i++) {
        size_t mark = px_path_enter(build, "listener_filters", (ptrdiff_t)i);
        LT_TRY(make_listener_filter(build, in->listener_filters[i], conf));
        px_path_leave(build, mark);
    }
    LT_TRY(make_chains(build, in, conf));
    return px_make_access_logs(build, in->access_log, in->n_access_log, &conf->access_logs,
                               &conf->access_log_count);
}
