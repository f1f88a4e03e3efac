/*
 * proxy/conf_endpoints.c - ClusterLoadAssignment to px_endpoints_conf.
 */
#include "proxy/conf_build.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/struct.h"

static px_health health_of(const Xds__LbEndpoint *lb)
{
    switch (lb->has_health_status ? lb->health_status : XDS__HEALTH_STATUS__UNKNOWN) {
    case XDS__HEALTH_STATUS__HEALTHY: return PX_HEALTH_HEALTHY;
    case XDS__HEALTH_STATUS__UNHEALTHY: return PX_HEALTH_UNHEALTHY;
    case XDS__HEALTH_STATUS__DRAINING: return PX_HEALTH_DRAINING;
    case XDS__HEALTH_STATUS__TIMEOUT: return PX_HEALTH_TIMEOUT;
    case XDS__HEALTH_STATUS__DEGRADED: return PX_HEALTH_DEGRADED;
    default: return PX_HEALTH_UNKNOWN;
    }
}

/* A DNS cluster's endpoint is a name; everybody else's is a literal address. */
static lt_rc make_target(struct px_build *build, const Xds__Endpoint *endpoint, bool allows_names,
                         struct px_endpoint_conf *out)
{
    out->hostname = px_copy(build, endpoint->hostname);
    const Xds__Address *address = endpoint->address;
    bool is_socket = address != NULL && address->address_case == XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    struct lt_addr literal;
    if (allows_names && is_socket && lt_addr_parse(lt_str_of(address->socket_address->address), 0, &literal) != LT_OK) {
        const Xds__SocketAddress *socket = address->socket_address;
        out->hostname = px_copy(build, socket->address);
        if (out->hostname.len == 0)
            return px_bad(build, "endpoint.address", "host name is empty");
        out->port = socket->port_specifier_case == XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE ? (uint16_t)socket->port_value : 0;
        return LT_OK;
    }
    LT_TRY(px_make_address(build, "endpoint.address", address, &out->addr));
    out->port = lt_addr_port(&out->addr);
    return LT_OK;
}

static lt_rc make_endpoint(struct px_build *build, const Xds__LbEndpoint *lb, bool allows_names,
                           struct px_endpoint_conf *out)
{
    if (lb->host_identifier_case != XDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT)
        return px_unsupported(build, "endpoint_name", "named endpoints are not supported");
    LT_TRY(make_target(build, lb->endpoint, allows_names, out));
    out->weight = px_u32(lb->load_balancing_weight, 1);
    if (out->weight == 0)
        return px_bad(build, "load_balancing_weight", "must be at least 1");
    out->health = health_of(lb);
    const Pb__Struct *match = px_find_metadata(lb->metadata, "envoy.transport_socket_match");
    LT_TRY(px_make_meta_pairs(build, match, &out->transport_meta, &out->transport_meta_count));
    lt_str workload = lt_struct_find_str(px_find_metadata(lb->metadata, "istio"), "workload");
    out->workload = workload.len > 0 ? lt_arena_str(build->arena, workload) : LT_STR_NULL;
    return LT_OK;
}

static lt_rc make_locality(struct px_build *build, const Xds__LocalityLbEndpoints *group, struct px_locality *locality)
{
    if (group->lb_config_case != XDS__LOCALITY_LB_ENDPOINTS__LB_CONFIG__NOT_SET)
        return px_unsupported(build, "leds_cluster_locality_config", "is not supported");
    if (group->locality != NULL) {
        locality->region = px_copy(build, group->locality->region);
        locality->zone = px_copy(build, group->locality->zone);
        locality->sub_zone = px_copy(build, group->locality->sub_zone);
    }
    locality->weight = px_u32(group->load_balancing_weight, 0);
    if (group->load_balancing_weight != NULL && locality->weight == 0)
        return px_bad(build, "load_balancing_weight", "must be at least 1");
    locality->priority = group->has_priority ? group->priority : 0;
    if (locality->priority > 128)
        return px_bad(build, "priority", "must be at most 128");
    return LT_OK;
}

lt_rc px_make_endpoints(struct px_build *build, const void *load_assignment, bool allows_names,
                        struct px_endpoints_conf *ret)
{
    const Xds__ClusterLoadAssignment *assignment = load_assignment;
    size_t total = 0;
    for (size_t i = 0; i < assignment->n_endpoints; i++)
        total += assignment->endpoints[i]->n_lb_endpoints;
    if (assignment->n_endpoints > UINT16_MAX)
        return px_bad(build, "endpoints", "more than %u localities", UINT16_MAX);
    struct px_endpoint_conf *endpoints = lt_arena_make_n(build->arena, struct px_endpoint_conf, total);
    struct px_locality *localities = lt_arena_make_n(build->arena, struct px_locality, assignment->n_endpoints);
    size_t at = 0;
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        const Xds__LocalityLbEndpoints *group = assignment->endpoints[i];
        size_t mark = px_path_enter(build, "endpoints", (ptrdiff_t)i);
        LT_TRY(make_locality(build, group, &localities[i]));
        for (size_t j = 0; j < group->n_lb_endpoints; j++, at++) {
            size_t inner = px_path_enter(build, "lb_endpoints", (ptrdiff_t)j);
            LT_TRY(make_endpoint(build, group->lb_endpoints[j], allows_names, &endpoints[at]));
            endpoints[at].locality = (uint16_t)i;
            endpoints[at].priority = localities[i].priority;
            px_path_leave(build, inner);
        }
        px_path_leave(build, mark);
    }
    if (assignment->policy != NULL && assignment->policy->n_drop_overloads > 0)
        px_unhonoured(build, "policy.drop_overloads");
    ret->endpoints = endpoints;
    ret->endpoint_count = total;
    ret->localities = localities;
    ret->locality_count = assignment->n_endpoints;
    return LT_OK;
}
