/*
 * proxy/compile/cluster_dns.c - how the names of a DNS cluster are looked up: STRICT_DNS,
 * LOGICAL_DNS and the extension that stands for both.
 * Start at: px_make_dns(). At run time: names.h.
 */
#include "proxy/compile/kinds.h"
#include "wire/proto/cluster_dns.pb-c.h"
#include "wire/proto/dns_cares.pb-c.h"

enum { REFRESH_DEFAULT_MS = 5000, FAILURE_MAX_FACTOR = 10, TRIES_MAX = 10 };

static lt_rc make_servers(struct px_build *build, Xds__Address *const *in, size_t count,
                          struct px_dns_conf *dns)
{
    if (count > PX_RESOLVERS_MAX)
        return px_bad(build, "resolvers", "more than %d", PX_RESOLVERS_MAX);
    struct lt_addr *servers = lt_arena_make_n(build->arena, struct lt_addr, count);
    for (size_t i = 0; i < count; i++) {
        /* a resolver is asked over UDP, which address lists of TCP listeners don't allow */
        const Xds__SocketAddress *socket = in[i]->address_case ==
                                                   XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS
                                               ? in[i]->socket_address
                                               : NULL;
        uint32_t port = socket != NULL && socket->port_specifier_case ==
                                              XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE
                            ? socket->port_value
                            : 53;
        if (socket == NULL || port > UINT16_MAX ||
            lt_addr_parse(lt_str_of(socket->address), (uint16_t)port, &servers[i]) != LT_OK)
            return px_bad(build, "resolvers", "an IP address and a port are needed");
    }
    dns->servers = servers;
    dns->server_count = count;
    return LT_OK;
}

static void set_options(const Xds__DnsResolverOptions *options, struct px_dns_conf *dns)
{
    if (options == NULL)
        return;
    dns->uses_tcp = options->has_use_tcp_for_dns_lookups && options->use_tcp_for_dns_lookups;
    dns->has_no_search = options->has_no_default_search_domain && options->no_default_search_domain;
}

/* The fields that said it before typed_dns_resolver_config: the later ones count alone. */
static lt_rc make_old_resolver(struct px_build *build, const Xds__Cluster *cluster,
                               struct px_dns_conf *dns)
{
    const Xds__DnsResolutionConfig *config = cluster->dns_resolution_config;
    if (config != NULL) {
        set_options(config->dns_resolver_options, dns);
        return make_servers(build, config->resolvers, config->n_resolvers, dns);
    }
    dns->uses_tcp = cluster->has_use_tcp_for_dns_lookups && cluster->use_tcp_for_dns_lookups;
    return make_servers(build, cluster->dns_resolvers, cluster->n_dns_resolvers, dns);
}

static lt_rc make_resolver(struct px_build *build, const char *field,
                           const Xds__TypedExtensionConfig *in, struct px_dns_conf *dns)
{
    if (in == NULL)
        return LT_OK;
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__cares_dns_resolver_config__descriptor.name)) {
        px_unhonoured(build, field); /* another library asks the same servers */
        return LT_OK;
    }
    Xds__CaresDnsResolverConfig *config = NULL;
    LT_TRY(px_unpack_any(build, field, in->typed_config,
                         &xds__cares_dns_resolver_config__descriptor, &config));
    size_t mark = px_path_enter(build, field, -1);
    LT_TRY(make_servers(build, config->resolvers, config->n_resolvers, dns));
    dns->servers_are_fallback = config->has_use_resolvers_as_fallback &&
                                config->use_resolvers_as_fallback;
    dns->skips_unroutable = config->has_filter_unroutable_families &&
                            config->filter_unroutable_families;
    dns->rotates = config->has_rotate_nameservers && config->rotate_nameservers;
    set_options(config->dns_resolver_options, dns);
    dns->tries = LT_MIN(px_u32(config->query_tries, 0), (uint32_t)TRIES_MAX);
    if (config->query_timeout_seconds != NULL && config->query_timeout_seconds->has_value)
        dns->timeout_ms = LT_MIN(config->query_timeout_seconds->value, (uint64_t)60) * 1000;
    px_path_leave(build, mark);
    return LT_OK;
}

static lt_rc check_times(struct px_build *build, struct px_dns_conf *dns, bool has_failure_rate)
{
    if (dns->refresh_ms == 0)
        return px_bad(build, "dns_refresh_rate", "must be above 0");
    if (!has_failure_rate)
        dns->failure_base_ms = dns->failure_max_ms = dns->refresh_ms;
    if (dns->failure_base_ms == 0 || dns->failure_max_ms < dns->failure_base_ms)
        return px_bad(build, "dns_failure_refresh_rate",
                      "must have max_interval greater than or equal to the base_interval");
    return LT_OK;
}

static void set_failure_rate(const Pb__Duration *base, const Pb__Duration *max,
                             struct px_dns_conf *dns)
{
    dns->failure_base_ms = px_duration_ms(base, dns->refresh_ms);
    dns->failure_max_ms = px_duration_ms(max, dns->failure_base_ms * FAILURE_MAX_FACTOR);
}

/* Cluster's own fields: type STRICT_DNS or LOGICAL_DNS. */
static lt_rc make_of_fields(struct px_build *build, const Xds__Cluster *cluster,
                            struct px_dns_conf *dns)
{
    static const px_dns_family families[] = {PX_FAMILY_AUTO, PX_FAMILY_V4, PX_FAMILY_V6,
                                             PX_FAMILY_V4_PREFERRED, PX_FAMILY_ALL};
    size_t family = cluster->has_dns_lookup_family ? cluster->dns_lookup_family : 0;
    if (family >= LT_ARRAY_LEN(families))
        return px_bad(build, "dns_lookup_family", "unknown value %zu", family);
    dns->family = families[family];
    dns->refresh_ms = px_duration_ms(cluster->dns_refresh_rate, REFRESH_DEFAULT_MS);
    dns->jitter_ms = px_duration_ms(cluster->dns_jitter, 0);
    dns->respects_ttl = cluster->has_respect_dns_ttl && cluster->respect_dns_ttl;
    const Xds__Cluster__RefreshRate *rate = cluster->dns_failure_refresh_rate;
    if (rate != NULL)
        set_failure_rate(rate->base_interval, rate->max_interval, dns);
    LT_TRY(cluster->typed_dns_resolver_config != NULL
               ? make_resolver(build, "typed_dns_resolver_config",
                               cluster->typed_dns_resolver_config, dns)
               : make_old_resolver(build, cluster, dns));
    return check_times(build, dns, rate != NULL);
}

/* cluster_type envoy.cluster.dns */
static lt_rc make_of_extension(struct px_build *build, const Xds__Cluster *cluster,
                               struct px_cluster_conf *conf, struct px_dns_conf *dns)
{
    static const px_dns_family families[] = {PX_FAMILY_AUTO, PX_FAMILY_AUTO,         PX_FAMILY_V4,
                                             PX_FAMILY_V6,   PX_FAMILY_V4_PREFERRED, PX_FAMILY_ALL};
    Xds__DnsCluster *in = NULL;
    LT_TRY(px_unpack_any(build, "cluster_type.typed_config", cluster->cluster_type->typed_config,
                         &xds__dns_cluster__descriptor, &in));
    size_t family = in->has_dns_lookup_family ? in->dns_lookup_family : 0;
    if (family >= LT_ARRAY_LEN(families))
        return px_bad(build, "dns_lookup_family", "unknown value %zu", family);
    dns->family = families[family];
    dns->refresh_ms = px_duration_ms(in->dns_refresh_rate, REFRESH_DEFAULT_MS);
    dns->jitter_ms = px_duration_ms(in->dns_jitter, 0);
    dns->min_refresh_ms = px_duration_ms(in->dns_min_refresh_rate, 0);
    dns->respects_ttl = in->has_respect_dns_ttl && in->respect_dns_ttl;
    dns->is_one_host = in->has_all_addresses_in_single_endpoint &&
                       in->all_addresses_in_single_endpoint;
    conf->discovery = dns->is_one_host ? PX_DISCOVERY_LOGICAL_DNS : PX_DISCOVERY_STRICT_DNS;
    const Xds__DnsCluster__RefreshRate *rate = in->dns_failure_refresh_rate;
    if (rate != NULL)
        set_failure_rate(rate->base_interval, rate->max_interval, dns);
    LT_TRY(make_resolver(build, "typed_dns_resolver_config", in->typed_dns_resolver_config, dns));
    return check_times(build, dns, rate != NULL);
}

lt_rc px_make_dns(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    struct px_dns_conf *dns = lt_arena_make(build->arena, struct px_dns_conf);
    conf->dns = dns;
    dns->is_one_host = conf->discovery == PX_DISCOVERY_LOGICAL_DNS;
    if (cluster->cluster_discovery_type_case != XDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        return make_of_fields(build, cluster, dns);
    size_t mark = px_path_enter(build, "cluster_type.typed_config", -1);
    lt_rc rc = make_of_extension(build, cluster, conf, dns);
    if (rc == LT_OK)
        px_path_leave(build, mark);
    return rc;
}
