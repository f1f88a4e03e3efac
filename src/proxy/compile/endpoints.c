/*
 * proxy/compile/endpoints.c - ClusterLoadAssignment to px_endpoints_conf.
 * Start at: px_make_endpoints().
 */
#include "proxy/compile/build.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/struct.h"

enum { OVERPROVISIONING_DEFAULT = 140, PRIORITY_MAX = 128, FACTS_COMPARED = 8 };

/* What is in hand while one assignment is read. */
struct maker {
    struct px_build *build;
    bool allows_names;
    struct px_endpoint_conf *endpoints;
    uint32_t count;
    struct lt_map seen; /* address as text, in scratch -> anything: an address counts once */
    /* the latest different ones, newest first */
    const struct px_endpoint_facts *facts[FACTS_COMPARED];
};

struct lt_addr px_endpoint_addr(const struct px_endpoint_conf *endpoint)
{
    struct lt_addr addr = {0};
    lt_rc rc = LT_OK;
    switch ((px_address_kind)endpoint->kind) {
    case PX_AT_NAME: break;
    case PX_AT_V4:
        addr.len = sizeof(addr.v4);
        addr.v4.sin_family = AF_INET;
        addr.v4.sin_port = htons(endpoint->port);
        memcpy(&addr.v4.sin_addr, endpoint->v4, sizeof(endpoint->v4));
        break;
    case PX_AT_V6:
        addr.len = sizeof(addr.v6);
        addr.v6.sin6_family = AF_INET6;
        addr.v6.sin6_port = htons(endpoint->port);
        memcpy(&addr.v6.sin6_addr, endpoint->v6, sizeof(addr.v6.sin6_addr));
        break;
    case PX_AT_UNIX: rc = lt_addr_unix(lt_str_of(endpoint->path), &addr); break;
    }
    LT_ASSERT(rc == LT_OK);
    return addr;
}

void px_endpoint_set_addr(struct lt_arena *arena, struct px_endpoint_conf *endpoint,
                          const struct lt_addr *addr)
{
    endpoint->port = lt_addr_port(addr);
    if (addr->sa.sa_family == AF_INET) {
        endpoint->kind = PX_AT_V4;
        memcpy(endpoint->v4, &addr->v4.sin_addr, sizeof(endpoint->v4));
    } else if (addr->sa.sa_family == AF_INET6) {
        endpoint->kind = PX_AT_V6;
        endpoint->v6 = memcpy(lt_arena_bytes(arena, sizeof(addr->v6.sin6_addr)),
                              &addr->v6.sin6_addr, sizeof(addr->v6.sin6_addr));
    } else {
        endpoint->kind = PX_AT_UNIX;
        endpoint->path = lt_arena_strz(arena, lt_str_of(addr->un.sun_path));
    }
}

/* --- what endpoints share --- */

static bool same_metas(const struct px_metas *a, const struct px_metas *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!lt_str_eq(a->items[i].key, b->items[i].key) ||
            !lt_str_eq(a->items[i].value, b->items[i].value))
            return false;
    }
    return true;
}

static bool same_facts(const struct px_endpoint_facts *a, const struct px_endpoint_facts *b)
{
    return a->check == NULL && b->check == NULL && a->metadata == NULL && b->metadata == NULL &&
           lt_str_eq(a->workload, b->workload) && lt_str_eq(a->hostname, b->hostname) &&
           same_metas(&a->transport, &b->transport) && same_metas(&a->lb, &b->lb);
}

static lt_rc make_check(struct px_build *build, const Xds__Endpoint__HealthCheckConfig *in,
                        struct px_endpoint_facts *facts)
{
    struct px_endpoint_check *check = lt_arena_make(build->arena, struct px_endpoint_check);
    uint32_t port = in->has_port_value ? in->port_value : 0;
    if (port > UINT16_MAX)
        return px_bad(build, "endpoint.health_check_config.port_value", "%u is out of range", port);
    check->port = (uint16_t)port;
    check->hostname = px_copy(build, in->hostname);
    check->is_off = in->has_disable_active_health_check && in->disable_active_health_check;
    facts->check = check;
    return in->address == NULL ? LT_OK
                               : px_make_address(build, "endpoint.health_check_config.address",
                                                 in->address, &check->addr);
}

static lt_rc fill_facts(struct px_build *build, const Xds__LbEndpoint *lb, lt_str name,
                        struct px_endpoint_facts *facts)
{
    const Xds__Endpoint *endpoint = lb->endpoint;
    facts->hostname = px_copy(build, endpoint->hostname);
    if (facts->hostname.len == 0 && name.len > 0)
        facts->hostname = lt_arena_str(build->arena, name);
    lt_str workload = lt_struct_find_str(px_find_metadata(lb->metadata, "istio"), "workload");
    facts->workload = workload.len > 0 ? lt_arena_str(build->arena, workload) : LT_STR_NULL;
    LT_TRY(px_make_other_meta(build, lb->metadata, &facts->metadata));
    const Pb__Struct *transport = px_find_metadata(lb->metadata, "envoy.transport_socket_match");
    LT_TRY(px_make_metas(build, transport, &facts->transport));
    const Pb__Struct *own = px_find_metadata(lb->metadata, "envoy.lb");
    LT_TRY(px_make_json_metas(build, "metadata", own, &facts->lb));
    lt_str hash_key = lt_struct_find_str(own, "hash_key");
    facts->hash_key = hash_key.len > 0 ? lt_arena_str(build->arena, hash_key) : LT_STR_NULL;
    const Pb__Value *canary = lt_struct_find(own, LT_STR("canary"));
    facts->is_canary = canary != NULL && canary->kind_case == PB__VALUE__KIND_BOOL_VALUE &&
                       canary->bool_value;
    return endpoint->health_check_config == NULL
               ? LT_OK
               : make_check(build, endpoint->health_check_config, facts);
}

/* Nothing of build->arena may be kept in here but the facts: they are rolled back when known. */
static lt_rc make_facts(struct maker *maker, const Xds__LbEndpoint *lb, lt_str name,
                        const struct px_endpoint_facts **ret_facts)
{
    struct px_build *build = maker->build;
    struct lt_arena_mark mark = lt_arena_mark(build->arena);
    struct px_endpoint_facts *facts = lt_arena_make(build->arena, struct px_endpoint_facts);
    LT_TRY(fill_facts(build, lb, name, facts));
    for (size_t i = 0; i < FACTS_COMPARED && maker->facts[i] != NULL; i++) {
        if (!same_facts(maker->facts[i], facts))
            continue;
        lt_arena_rollback(build->arena, mark);
        *ret_facts = maker->facts[i];
        return LT_OK;
    }
    memmove(&maker->facts[1], &maker->facts[0], (FACTS_COMPARED - 1) * sizeof(maker->facts[0]));
    maker->facts[0] = *ret_facts = facts;
    return LT_OK;
}

/* --- one endpoint --- */

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

/*
 * A DNS cluster's endpoint may be a name; everybody else's is a literal address. *ret_name: the
 * name, else empty.
 */
static lt_rc make_target(struct maker *maker, const Xds__Endpoint *endpoint, lt_str *ret_name,
                         struct lt_addr *ret_addr, uint16_t *ret_port)
{
    struct px_build *build = maker->build;
    const Xds__Address *address = endpoint->address;
    const Xds__SocketAddress *socket = address != NULL && address->address_case ==
                                                              XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS
                                           ? address->socket_address
                                           : NULL;
    bool is_name = maker->allows_names && socket != NULL &&
                   lt_addr_parse(lt_str_of(socket->address), 0, ret_addr) != LT_OK;
    *ret_name = LT_STR_NULL;
    if (!is_name)
        return px_make_address(build, "endpoint.address", address, ret_addr);
    uint32_t port = socket->port_specifier_case == XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE
                        ? socket->port_value
                        : 0;
    if (port > UINT16_MAX)
        return px_bad(build, "endpoint.address", "port %u is out of range", port);
    if (lt_str_of(socket->address).len == 0)
        return px_bad(build, "endpoint.address", "host name is empty");
    *ret_name = lt_str_of(socket->address);
    *ret_port = (uint16_t)port;
    return LT_OK;
}

/* Envoy takes an address once: what comes later is left out. */
static bool is_known(struct maker *maker, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    lt_str key = lt_arena_str(maker->build->scratch, lt_addr_format(addr, text));
    return lt_map_put(&maker->seen, key, maker) != NULL;
}

static lt_rc make_endpoint(struct maker *maker, const Xds__LbEndpoint *lb, size_t locality)
{
    struct px_build *build = maker->build;
    struct px_endpoint_conf *out = &maker->endpoints[maker->count];
    struct lt_addr addr = {0};
    lt_str name;
    if (lb->host_identifier_case != XDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT)
        return px_unsupported(build, "endpoint_name", "named endpoints are not supported");
    LT_TRY(make_target(maker, lb->endpoint, &name, &addr, &out->port));
    if (name.len == 0 && is_known(maker, &addr))
        return LT_OK;
    if (name.len == 0) {
        px_endpoint_set_addr(build->arena, out, &addr);
    } else {
        out->kind = PX_AT_NAME;
        out->name = lt_arena_strz(build->arena, name);
    }
    out->weight = px_u32(lb->load_balancing_weight, 1);
    if (out->weight == 0)
        return px_bad(build, "load_balancing_weight", "must be at least 1");
    out->health = (uint8_t)health_of(lb);
    out->locality = (uint16_t)locality;
    LT_TRY(make_facts(maker, lb, name, &out->facts));
    maker->count++;
    return LT_OK;
}

/* --- localities, and the whole --- */

static lt_rc make_locality(struct px_build *build, const Xds__LocalityLbEndpoints *group,
                           struct px_locality *locality)
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
    if (locality->priority > PRIORITY_MAX)
        return px_bad(build, "priority", "must be at most %d", PRIORITY_MAX);
    return LT_OK;
}

/* Sums of weights are 32 bits wide, as Envoy's. */
static lt_rc check_weights(struct px_build *build, const struct px_endpoints_conf *made)
{
    uint64_t *sums = lt_arena_make_n(build->scratch, uint64_t, made->locality_count);
    uint64_t *levels = lt_arena_make_n(build->scratch, uint64_t, PRIORITY_MAX + 1);
    for (uint32_t i = 0; i < made->endpoint_count; i++)
        sums[made->endpoints[i].locality] += made->endpoints[i].weight;
    for (size_t i = 0; i < made->locality_count; i++) {
        const struct px_locality *locality = &made->localities[i];
        if (sums[i] > UINT32_MAX)
            return px_bad(build, "endpoints",
                          "the sum of the endpoints' weights in a locality exceeds %u", UINT32_MAX);
        if ((levels[locality->priority] += locality->weight) > UINT32_MAX)
            return px_bad(build, "endpoints",
                          "the sum of the localities' weights at priority %u exceeds %u",
                          locality->priority, UINT32_MAX);
    }
    return LT_OK;
}

static lt_rc make_policy(struct px_build *build, const Xds__ClusterLoadAssignment__Policy *policy,
                         struct px_endpoints_conf *ret)
{
    ret->overprovisioning_percent = OVERPROVISIONING_DEFAULT;
    if (policy == NULL)
        return LT_OK;
    ret->overprovisioning_percent = px_u32(policy->overprovisioning_factor,
                                           OVERPROVISIONING_DEFAULT);
    if (ret->overprovisioning_percent == 0)
        return px_bad(build, "policy.overprovisioning_factor", "must be above 0");
    ret->weighted_priority_health = policy->has_weighted_priority_health &&
                                    policy->weighted_priority_health;
    if (policy->n_drop_overloads > 1) /* as Envoy */
        return px_bad(build, "policy.drop_overloads", "has %zu categories, one is supported",
                      policy->n_drop_overloads);
    struct px_drop_conf *drops = lt_arena_make_n(build->arena, struct px_drop_conf,
                                                 policy->n_drop_overloads);
    for (size_t i = 0; i < policy->n_drop_overloads; i++) {
        drops[i].category = px_copy(build, policy->drop_overloads[i]->category);
        drops[i].ppm = px_fraction_ppm(policy->drop_overloads[i]->drop_percentage, 0);
    }
    ret->drops = drops;
    ret->drop_count = (uint16_t)policy->n_drop_overloads;
    return LT_OK;
}

static lt_rc make_group(struct maker *maker, const Xds__LocalityLbEndpoints *group, size_t at,
                        struct px_locality *locality)
{
    LT_TRY(make_locality(maker->build, group, locality));
    for (size_t j = 0; j < group->n_lb_endpoints; j++) {
        size_t mark = px_path_enter(maker->build, "lb_endpoints", (ptrdiff_t)j);
        LT_TRY(make_endpoint(maker, group->lb_endpoints[j], at));
        px_path_leave(maker->build, mark);
    }
    return LT_OK;
}

static lt_rc make_groups(struct maker *maker, const Xds__ClusterLoadAssignment *assignment,
                         struct px_locality *localities)
{
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        size_t mark = px_path_enter(maker->build, "endpoints", (ptrdiff_t)i);
        LT_TRY(make_group(maker, assignment->endpoints[i], i, &localities[i]));
        px_path_leave(maker->build, mark);
    }
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
    struct px_locality *localities = lt_arena_make_n(build->arena, struct px_locality,
                                                     assignment->n_endpoints);
    struct maker maker = {
        .build = build,
        .allows_names = allows_names,
        .endpoints = lt_arena_make_n(build->arena, struct px_endpoint_conf, total),
    };
    lt_rc rc = make_groups(&maker, assignment, localities);
    lt_map_fini(&maker.seen);
    if (rc != LT_OK)
        return rc;
    ret->endpoints = maker.endpoints;
    ret->endpoint_count = maker.count;
    ret->localities = localities;
    ret->locality_count = (uint16_t)assignment->n_endpoints;
    LT_TRY(check_weights(build, ret));
    return make_policy(build, assignment->policy, ret);
}
