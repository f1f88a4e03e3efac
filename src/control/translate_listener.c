/*
 * control/translate_listener.c - the listeners of what a sidecar's workload calls (xds.md 11.1,
 * 11.2). 15001 gets every connection and hands it to the listener of its destination: one for each
 * port that speaks HTTP, for all services together; one for each address and port otherwise. They
 * need not be bound: the hand-over is inside the proxy.
 */
#include "base/env.h"
#include "control/translate_priv.h"

static const char *const plain_http_alpn[] = {"http/1.1", "h2c"};

const char *cp_unknown_cluster(const struct cp_translation *t)
{
    return t->model->mesh.allows_any_outbound ? CP_PASSTHROUGH : CP_BLACK_HOLE;
}

Xds__FilterChain *cp_new_chain(struct cp_translation *t, const char *name)
{
    Xds__FilterChain *chain = CP_NEW(t, Xds__FilterChain, xds__filter_chain);
    chain->name = name;
    chain->transport_socket_connect_timeout = cp_duration(t, 15 * (int64_t)LT_NS_PER_S);
    return chain;
}

static void add_chain(struct cp_translation *t, Xds__Listener *listener, Xds__FilterChain *chain)
{
    CP_PUSH(t, listener->filter_chains, listener->n_filter_chains, chain);
}

/* For what no chain claims. */
static void set_unknown_chain(struct cp_translation *t, Xds__Listener *listener)
{
    Xds__FilterChain *chain = cp_new_chain(t, "PassthroughFilterChain");
    chain->transport_socket_connect_timeout = NULL;
    chain->filter_chain_match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
    struct cp_tcp_options options = {.stat_prefix = cp_unknown_cluster(t),
                                     .cluster = cp_unknown_cluster(t)};
    cp_chain_add_tcp(t, chain, CP_SIDE_OUTBOUND, &options);
    listener->default_filter_chain = chain;
}

static bool is_captured(const struct cp_translation *t)
{
    return t->node->capture != CP_CAPTURE_NONE;
}

/* Without capture there is no original destination: everything is bound to loopback. */
static Xds__Listener *new_listener(struct cp_translation *t, lt_str bind, uint16_t port)
{
    Xds__Listener *listener = CP_NEW(t, Xds__Listener, xds__listener);
    const char *ip = is_captured(t) ? cp_z(t, bind) : "127.0.0.1";
    listener->name = cp_zf(t, "%s_%u", ip, port);
    listener->address = cp_address(t, ip, port);
    listener->listener_filters_timeout = cp_duration(t, t->model->mesh.detection_timeout_ns);
    listener->continue_on_listener_filters_timeout =
        listener->has_continue_on_listener_filters_timeout = true;
    listener->traffic_direction = XDS__TRAFFIC_DIRECTION__OUTBOUND;
    listener->has_traffic_direction = true;
    if (is_captured(t))
        listener->bind_to_port = cp_bool(t, false);
    else
        listener->max_connections_to_accept_per_socket_event = cp_u32(t, 1);
    return listener;
}

static void emit_listener(struct cp_translation *t, Xds__Listener *listener)
{
    cp_emit(t, lt_str_of(listener->name), listener);
}

/* ---- HTTP ---- */

static void add_http_chain(struct cp_translation *t, Xds__Listener *listener, const char *rds_name)
{
    Xds__FilterChain *chain = cp_new_chain(t, NULL);
    Xds__FilterChainMatch *match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
    match->transport_protocol = "raw_buffer";
    for (size_t i = 0; i < LT_ARRAY_LEN(plain_http_alpn); i++)
        CP_PUSH(t, match->application_protocols, match->n_application_protocols,
                plain_http_alpn[i]);
    chain->filter_chain_match = match;
    struct cp_hcm_options options = {.stat_prefix = cp_zf(t, "outbound_%s;", listener->name),
                                     .rds_name = rds_name};
    cp_chain_add_hcm(t, chain, CP_SIDE_OUTBOUND, &options);
    add_chain(t, listener, chain);
    CP_PUSH(t, listener->listener_filters, listener->n_listener_filters, cp_http_inspector(t));
}

/* All services that speak HTTP on one port: the Host header tells them apart. */
static void emit_http(struct cp_translation *t, uint16_t port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    Xds__Listener *listener = new_listener(t, LT_STR("0.0.0.0"), port);
    add_http_chain(t, listener, cp_zf(t, "%u", port));
    set_unknown_chain(t, listener);
    emit_listener(t, listener);
    lt_arena_rollback(t->arena, mark);
}

/* ---- TCP ---- */

static struct cp_tcp_options plain_tcp(struct cp_translation *t, const struct lt_service *service,
                                       const struct lt_port *port)
{
    struct cp_policy *policy = lt_arena_make(t->arena, struct cp_policy);
    *policy = cp_policy_for(t, service, port->number, LT_STR(""));
    const char *cluster = cp_cluster_name(t, port->number, LT_STR(""), service->host);
    return (struct cp_tcp_options){.stat_prefix = cluster, .cluster = cluster, .policy = policy};
}

struct cp_tcp_options cp_l4_options(struct cp_translation *t, const struct lt_routes *routes,
                                    const struct lt_l4_dest *dests, size_t count, uint16_t port)
{
    const struct lt_vs_destination *first = dests[0].destination;
    lt_str host = lt_host_expand(t->arena, first->host, routes->ns, t->model->mesh.domain);
    const struct lt_service *service = lt_model_find_service(t->model, host);
    struct cp_policy *policy = NULL;
    if (service != NULL) {
        policy = lt_arena_make(t->arena, struct cp_policy);
        *policy = cp_policy_for(t, service, port, first->subset);
    }
    if (count > 1)
        return (struct cp_tcp_options){
            .stat_prefix = cp_zf(t, "%.*s.%.*s", LT_STR_ARG(routes->object->key.name),
                                 LT_STR_ARG(routes->ns)),
            .weighted = dests,
            .weighted_count = count,
            .ns = routes->ns,
            .port = port,
            .policy = policy,
        };
    const char *cluster = cp_destination_cluster(t, first, routes->ns, port);
    return (struct cp_tcp_options){.stat_prefix = cluster, .cluster = cluster, .policy = policy};
}

bool cp_is_l4_match(const struct cp_translation *t, struct lt_opt match_port,
                    const struct lt_strs *gateways, const struct lt_kvs *source_labels,
                    lt_str source_ns, const struct lt_routes *routes, uint16_t port, lt_str gateway)
{
    if (match_port.is_set && match_port.value != port)
        return false;
    bool has_gateway = gateways->count == 0;
    for (size_t i = 0; i < gateways->count && !has_gateway; i++)
        has_gateway = lt_str_eq(lt_gateway_name(t->arena, gateways->items[i], routes->ns), gateway);
    if (!has_gateway || !lt_str_eq(gateway, LT_STR("mesh")))
        return has_gateway;
    if (source_ns.len > 0 && !lt_str_eq(source_ns, t->node->ns))
        return false;
    return lt_kvs_contain(t->labels, source_labels);
}

static Xds__CidrRange *make_range(struct cp_translation *t, lt_str subnet)
{
    Xds__CidrRange *range = CP_NEW(t, Xds__CidrRange, xds__cidr_range);
    ptrdiff_t slash = lt_str_find_char(subnet, '/');
    uint64_t bits = lt_str_find_char(subnet, ':') >= 0 ? 128 : 32;
    if (slash >= 0 && lt_str_to_u64(lt_str_from(subnet, (size_t)slash + 1), &bits) != LT_OK)
        return NULL;
    lt_str ip = slash >= 0 ? lt_str_slice(subnet, 0, (size_t)slash) : subnet;
    if (!lt_is_ip(ip) || bits > 128)
        return NULL;
    range->address_prefix = cp_z(t, ip);
    range->prefix_len = cp_u32(t, (uint32_t)bits);
    return range;
}

static void add_ranges(struct cp_translation *t, Xds__FilterChainMatch *match,
                       const struct lt_strs *subnets)
{
    for (size_t i = 0; i < subnets->count; i++) {
        Xds__CidrRange *range = make_range(t, subnets->items[i]);
        if (range != NULL)
            CP_PUSH(t, match->prefix_ranges, match->n_prefix_ranges, range);
    }
}

static void add_l4_chain(struct cp_translation *t, Xds__Listener *listener,
                         const struct cp_tcp_options *options, Xds__FilterChainMatch *match,
                         const struct lt_object *object)
{
    Xds__FilterChain *chain = cp_new_chain(t, NULL);
    chain->filter_chain_match = match;
    if (object != NULL)
        chain->metadata = cp_object_metadata(t, object);
    cp_chain_add_tcp(t, chain, CP_SIDE_OUTBOUND, options);
    add_chain(t, listener, chain);
}

/*
 * The rules of a VirtualService; true when one of them takes every connection (networking.md 2.8).
 */
static bool add_tcp_rules(struct cp_translation *t, Xds__Listener *listener,
                          const struct lt_routes *routes, uint16_t port)
{
    for (size_t i = 0; i < routes->spec->tcp.count; i++) {
        const struct lt_tcp_route *rule = &routes->spec->tcp.items[i];
        struct cp_tcp_options options = cp_l4_options(t, routes, rule->route.items,
                                                      rule->route.count, port);
        if (rule->match.count == 0) {
            add_l4_chain(t, listener, &options, NULL, NULL);
            return true;
        }
        for (size_t j = 0; j < rule->match.count; j++) {
            const struct lt_l4_match *m = &rule->match.items[j];
            if (!cp_is_l4_match(t, m->port, &m->gateways, &m->source_labels, m->source_namespace,
                                routes, port, LT_STR("mesh")))
                continue;
            Xds__FilterChainMatch *match = CP_NEW(t, Xds__FilterChainMatch,
                                                  xds__filter_chain_match);
            add_ranges(t, match, &m->destination_subnets);
            bool takes_all = match->n_prefix_ranges == 0;
            add_l4_chain(t, listener, &options, takes_all ? NULL : match, NULL);
            if (takes_all)
                return true;
        }
    }
    return false;
}

static void emit_tcp(struct cp_translation *t, const struct lt_service *service,
                     const struct lt_port *port, lt_str bind)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    Xds__Listener *listener = new_listener(t, bind, port->number);
    const struct lt_routes *routes = cp_routes_for(t, service->host);
    struct cp_tcp_options options = plain_tcp(t, service, port);
    bool is_taken = routes != NULL && add_tcp_rules(t, listener, routes, port->number);
    if (!is_taken && listener->n_filter_chains == 0) {
        add_l4_chain(t, listener, &options, NULL, NULL);
    } else if (!is_taken) {
        Xds__FilterChain *rest = cp_new_chain(t, NULL);
        cp_chain_add_tcp(t, rest, CP_SIDE_OUTBOUND, &options);
        listener->default_filter_chain = rest;
    }
    emit_listener(t, listener);
    lt_arena_rollback(t->arena, mark);
}

/*
 * A headless service has no address but those of its Pods. Not our own: nobody needs a proxy to
 * talk to himself.
 */
static void emit_headless(struct cp_translation *t, const struct lt_service *service,
                          const struct lt_port *port)
{
    for (size_t i = 0; i < port->endpoint_count; i++) {
        const struct lt_endpoint *e = &port->endpoints[i];
        if (e->is_ready && !lt_str_eq(e->ip, t->node->ip))
            emit_tcp(t, service, port, e->ip);
    }
}

/* ---- TLS that is passed on ---- */

static void add_tls_rules(struct cp_translation *t, Xds__Listener *listener,
                          const struct lt_routes *routes, uint16_t port)
{
    for (size_t i = 0; i < routes->spec->tls.count; i++) {
        const struct lt_tls_route *rule = &routes->spec->tls.items[i];
        struct cp_tcp_options options = cp_l4_options(t, routes, rule->route.items,
                                                      rule->route.count, port);
        for (size_t j = 0; j < rule->match.count; j++) {
            const struct lt_tls_match *m = &rule->match.items[j];
            if (!cp_is_l4_match(t, m->port, &m->gateways, &m->source_labels, m->source_namespace,
                                routes, port, LT_STR("mesh")))
                continue;
            Xds__FilterChainMatch *match = CP_NEW(t, Xds__FilterChainMatch,
                                                  xds__filter_chain_match);
            add_ranges(t, match, &m->destination_subnets);
            for (size_t k = 0; k < m->sni_hosts.count; k++)
                CP_PUSH(t, match->server_names, match->n_server_names,
                        cp_z(t, m->sni_hosts.items[k]));
            add_l4_chain(t, listener, &options, match, routes->object);
        }
    }
}

static void emit_tls(struct cp_translation *t, const struct lt_service *service,
                     const struct lt_port *port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    Xds__Listener *listener = new_listener(t, service->address, port->number);
    const struct lt_routes *routes = cp_routes_for(t, service->host);
    if (routes != NULL)
        add_tls_rules(t, listener, routes, port->number);
    if (listener->n_filter_chains > 0) {
        CP_PUSH(t, listener->listener_filters, listener->n_listener_filters, cp_tls_inspector(t));
        set_unknown_chain(t, listener);
    } else {
        struct cp_tcp_options options = plain_tcp(t, service, port);
        add_l4_chain(t, listener, &options, NULL, NULL);
    }
    emit_listener(t, listener);
    lt_arena_rollback(t->arena, mark);
}

/* ---- a port that doesn't say what it speaks ---- */

static void emit_sniffed(struct cp_translation *t, const struct lt_service *service,
                         const struct lt_port *port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    Xds__Listener *listener = new_listener(t, service->address, port->number);
    add_http_chain(t, listener, cp_zf(t, "%.*s:%u", LT_STR_ARG(service->host), port->number));
    Xds__FilterChain *rest = cp_new_chain(t, NULL);
    struct cp_tcp_options options = plain_tcp(t, service, port);
    cp_chain_add_tcp(t, rest, CP_SIDE_OUTBOUND, &options);
    listener->default_filter_chain = rest;
    emit_listener(t, listener);
    lt_arena_rollback(t->arena, mark);
}

/* ---- all ---- */

static void emit_port(struct cp_translation *t, const struct lt_service *service,
                      const struct lt_port *port, bool *has_http)
{
    if (lt_port_is_http(port->protocol)) {
        if (!has_http[port->number])
            emit_http(t, port->number);
        has_http[port->number] = true;
        return;
    }
    if (service->is_headless) {
        emit_headless(t, service, port);
        return;
    }
    if (service->address.len == 0)
        return; /* no address yet: nothing could have been meant for it */
    if (lt_port_is_tls(port->protocol))
        emit_tls(t, service, port);
    else if (port->protocol == LT_PORT_AUTO)
        emit_sniffed(t, service, port);
    else
        emit_tcp(t, service, port, service->address);
}

static void emit_virtual_outbound(struct cp_translation *t)
{
    Xds__Listener *listener = CP_NEW(t, Xds__Listener, xds__listener);
    listener->name = "virtualOutbound";
    listener->address = cp_address(t, "0.0.0.0", CP_PORT_OUTBOUND);
    listener->use_original_dst = cp_bool(t, true);
    listener->traffic_direction = XDS__TRAFFIC_DIRECTION__OUTBOUND;
    listener->has_traffic_direction = true;
    listener->max_connections_to_accept_per_socket_event = cp_u32(t, 1);
    if (t->node->capture == CP_CAPTURE_TPROXY)
        listener->transparent = cp_bool(t, true);
    /* who connects to the port itself would go round in circles */
    Xds__FilterChain *hole = cp_new_chain(t, "virtualOutbound-blackhole");
    hole->transport_socket_connect_timeout = NULL;
    hole->filter_chain_match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
    hole->filter_chain_match->destination_port = cp_u32(t, CP_PORT_OUTBOUND);
    struct cp_tcp_options to_hole = {.stat_prefix = CP_BLACK_HOLE, .cluster = CP_BLACK_HOLE};
    cp_chain_add_tcp(t, hole, CP_SIDE_OUTBOUND, &to_hole);
    add_chain(t, listener, hole);
    Xds__FilterChain *rest = cp_new_chain(t, "virtualOutbound-catchall-tcp");
    rest->transport_socket_connect_timeout = NULL;
    struct cp_tcp_options to_rest = {.stat_prefix = cp_unknown_cluster(t),
                                     .cluster = cp_unknown_cluster(t)};
    cp_chain_add_tcp(t, rest, CP_SIDE_OUTBOUND, &to_rest);
    add_chain(t, listener, rest);
    cp_listener_add_access_log(t, listener);
    emit_listener(t, listener);
}

static void translate_outbound(struct cp_translation *t)
{
    bool *has_http = lt_arena_make_n(t->arena, bool, UINT16_MAX + 1);
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *service = &t->model->services[i];
        if (service->alias_of.len > 0 || !lt_service_is_visible(t->model, service, t->node->ns))
            continue;
        for (size_t p = 0; p < service->port_count; p++)
            emit_port(t, service, &service->ports[p], has_http);
    }
    if (is_captured(t))
        emit_virtual_outbound(t);
}

void cp_translate_listeners(struct cp_translation *t)
{
    if (t->part & CP_PART_COMMON)
        translate_outbound(t);
    if ((t->part & CP_PART_OWN) && is_captured(t))
        cp_translate_inbound(t);
}
