/*
 * control/translate_inbound.c - the listener on 15006, through which everything reaches the
 * workload (xds.md 11.3). Chains are chosen by the port that was meant, then by what the first
 * bytes are: TLS of the mesh, other TLS, HTTP, anything.
 */
#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/proto/listener_original_dst.pb-c.h"
#include "wire/proto/listener_original_src.pb-c.h"

enum { INBOUND_PORTS_MAX = 1024, PEER_PORTS_MAX = 64 };

/* ALPN names that only clients of the mesh offer. */
static const char *const mesh_http_alpn[] = {"istio-http/1.0", "istio-http/1.1", "istio-h2"};
static const char *const mesh_tcp_alpn[] = {"istio-peer-exchange", "istio"};
static const char *const mesh_all_alpn[] = {"istio", "istio-peer-exchange", "istio-http/1.0",
                                            "istio-http/1.1", "istio-h2"};
static const char *const plain_http_alpn[] = {"http/1.1", "h2c"};

typedef enum { SHAPE_HTTP, SHAPE_TCP, SHAPE_SNIFFED } chain_shape;

/* A port of the workload, or (number 0) all that no service names. */
struct inbound {
    uint16_t number;
    uint16_t service_port; /* likewise 0 */
    chain_shape shape;
    int64_t mode; /* LT_MTLS_DISABLE, PERMISSIVE or STRICT */
    bool is_http2;
    const char *http_name; /* of the chains */
    const char *tcp_name;
    const char *cluster;
    const char *stat_prefix; /* of the connection manager */
    const char *operation;   /* of the default route */
    lt_port_protocol protocol;
};

/* ---- chains ---- */

static Xds__FilterChain *new_chain(struct cp_translation *t, const char *name)
{
    Xds__FilterChain *chain = CP_NEW(t, Xds__FilterChain, xds__filter_chain);
    chain->name = name;
    return chain;
}

static Xds__FilterChainMatch *new_match(struct cp_translation *t, uint16_t port,
                                        const char *transport, const char *const *alpn,
                                        size_t alpn_count)
{
    Xds__FilterChainMatch *match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
    if (port != 0)
        match->destination_port = cp_u32(t, port);
    match->transport_protocol = transport;
    for (size_t i = 0; i < alpn_count; i++)
        CP_PUSH(t, match->application_protocols, match->n_application_protocols, alpn[i]);
    return match;
}

static Xds__RouteConfiguration *inline_routes(struct cp_translation *t, const struct inbound *in)
{
    Xds__RouteAction *action = CP_NEW(t, Xds__RouteAction, xds__route_action);
    action->cluster_specifier_case = XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
    action->cluster = in->cluster;
    action->timeout = cp_duration(t, 0);
    action->max_stream_duration = CP_NEW(t, Xds__RouteAction__MaxStreamDuration,
                                         xds__route_action__max_stream_duration);
    action->max_stream_duration->max_stream_duration = cp_duration(t, 0);
    action->max_stream_duration->grpc_timeout_header_max = cp_duration(t, 0);
    if (in->protocol != LT_PORT_GRPC && in->protocol != LT_PORT_GRPC_WEB) {
        /*
         * the application closed a kept connection just when the request came: it has not seen it
         */
        action->retry_policy = CP_NEW(t, Xds__RetryPolicy, xds__retry_policy);
        action->retry_policy->retry_on = "reset-before-request";
        action->retry_policy->num_retries = cp_u32(t, 2);
    }
    Xds__Route *route = CP_NEW(t, Xds__Route, xds__route);
    route->name = "default";
    route->match = CP_NEW(t, Xds__RouteMatch, xds__route_match);
    route->match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
    route->match->prefix = "/";
    route->action_case = XDS__ROUTE__ACTION_ROUTE;
    route->route = action;
    route->decorator = CP_NEW(t, Xds__Decorator, xds__decorator);
    route->decorator->operation = in->operation;
    Xds__VirtualHost *vhost = CP_NEW(t, Xds__VirtualHost, xds__virtual_host);
    vhost->name = cp_zf(t, "inbound|http|%u", in->service_port);
    CP_PUSH(t, vhost->domains, vhost->n_domains, "*");
    CP_PUSH(t, vhost->routes, vhost->n_routes, route);
    Xds__RouteConfiguration *config = CP_NEW(t, Xds__RouteConfiguration, xds__route_configuration);
    config->name = in->cluster;
    config->validate_clusters = cp_bool(t, false);
    CP_PUSH(t, config->virtual_hosts, config->n_virtual_hosts, vhost);
    cp_drop_peer_headers(t, config);
    return config;
}

/* One chain: by transport and ALPN, to HTTP or TCP, with the mesh's TLS taken off or not. */
struct chain_plan {
    const char *transport;
    const char *const *alpn;
    size_t alpn_count;
    bool is_http;
    bool has_tls;
};

static void add_chain(struct cp_translation *t, Xds__Listener *listener, const struct inbound *in,
                      const struct chain_plan *plan)
{
    Xds__FilterChain *chain = new_chain(t, plan->is_http ? in->http_name : in->tcp_name);
    chain->filter_chain_match = new_match(t, in->number, plan->transport, plan->alpn,
                                          plan->alpn_count);
    if (plan->is_http) {
        struct cp_hcm_options options = {.stat_prefix = in->stat_prefix,
                                         .routes = inline_routes(t, in),
                                         .is_http2 = in->is_http2};
        cp_chain_add_hcm(t, chain, CP_SIDE_INBOUND, &options);
    } else {
        struct cp_tcp_options options = {.stat_prefix = in->cluster, .cluster = in->cluster};
        cp_chain_add_tcp(t, chain, CP_SIDE_INBOUND, &options);
    }
    if (plan->has_tls)
        chain->transport_socket = cp_mesh_server_tls(t, !plan->is_http);
    CP_PUSH(t, listener->filter_chains, listener->n_filter_chains, chain);
}

#define ALPN(names) names, LT_ARRAY_LEN(names)
#define NO_ALPN NULL, 0

/* The table of xds.md 11.3: rows by shape, columns by mode. */
static const struct chain_plan http_plans[] = {{"tls", ALPN(mesh_all_alpn), true, true},
                                               {"raw_buffer", NO_ALPN, true, false}};
static const struct chain_plan http_strict[] = {{"tls", NO_ALPN, true, true}};
static const struct chain_plan http_plain[] = {{"raw_buffer", NO_ALPN, true, false}};
static const struct chain_plan tcp_plans[] = {{"tls", ALPN(mesh_all_alpn), false, true},
                                              {"tls", NO_ALPN, false, false},
                                              {"raw_buffer", NO_ALPN, false, false}};
static const struct chain_plan tcp_strict[] = {{"tls", NO_ALPN, false, true}};
static const struct chain_plan tcp_plain[] = {{"raw_buffer", NO_ALPN, false, false}};
static const struct chain_plan sniffed_plans[] = {
    {"tls", ALPN(mesh_http_alpn), true, true},
    {"raw_buffer", ALPN(plain_http_alpn), true, false},
    {"tls", ALPN(mesh_tcp_alpn), false, true},
    {"raw_buffer", NO_ALPN, false, false},
    {"tls", NO_ALPN, false, false}};
static const struct chain_plan sniffed_strict[] = {{"tls", ALPN(mesh_http_alpn), true, true},
                                                   {"tls", NO_ALPN, false, true}};
static const struct chain_plan sniffed_plain[] = {
    {"raw_buffer", ALPN(plain_http_alpn), true, false}, {"raw_buffer", NO_ALPN, false, false}};

struct plan_list {
    const struct chain_plan *plans;
    size_t count;
};

#define PLANS(list) \
    { \
        list, LT_ARRAY_LEN(list) \
    }
static const struct plan_list plans[3][4] = {
    [SHAPE_HTTP] = {[LT_MTLS_DISABLE] = PLANS(http_plain),
                    [LT_MTLS_PERMISSIVE] = PLANS(http_plans),
                    [LT_MTLS_STRICT] = PLANS(http_strict)},
    [SHAPE_TCP] = {[LT_MTLS_DISABLE] = PLANS(tcp_plain),
                   [LT_MTLS_PERMISSIVE] = PLANS(tcp_plans),
                   [LT_MTLS_STRICT] = PLANS(tcp_strict)},
    [SHAPE_SNIFFED] = {[LT_MTLS_DISABLE] = PLANS(sniffed_plain),
                       [LT_MTLS_PERMISSIVE] = PLANS(sniffed_plans),
                       [LT_MTLS_STRICT] = PLANS(sniffed_strict)},
};

static void add_chains(struct cp_translation *t, Xds__Listener *listener, const struct inbound *in)
{
    LT_ASSERT(in->mode >= LT_MTLS_DISABLE && in->mode <= LT_MTLS_STRICT);
    const struct plan_list *list = &plans[in->shape][in->mode];
    for (size_t i = 0; i < list->count; i++)
        add_chain(t, listener, in, &list->plans[i]);
}

static void add_black_hole(struct cp_translation *t, Xds__Listener *listener)
{
    Xds__FilterChain *chain = new_chain(t, "virtualInbound-blackhole");
    chain->filter_chain_match = new_match(t, CP_PORT_INBOUND, NULL, NULL, 0);
    struct cp_tcp_options options = {.stat_prefix = CP_BLACK_HOLE, .cluster = CP_BLACK_HOLE};
    cp_chain_add_tcp(t, chain, CP_SIDE_INBOUND, &options);
    CP_PUSH(t, listener->filter_chains, listener->n_filter_chains, chain);
}

/* ---- ports ---- */

static chain_shape shape_of(lt_port_protocol protocol)
{
    if (protocol == LT_PORT_AUTO)
        return SHAPE_SNIFFED;
    return lt_port_is_http(protocol) ? SHAPE_HTTP : SHAPE_TCP;
}

static struct inbound describe_port(struct cp_translation *t, const struct cp_inbound_port *port)
{
    const char *name = cp_zf(t, "0.0.0.0_%u", port->number);
    return (struct inbound){
        .number = port->number,
        .service_port = port->port->number,
        .shape = shape_of(port->protocol),
        .protocol = port->protocol,
        .mode = lt_model_mtls_mode(t->model, t->node->ns, t->labels, port->number),
        .is_http2 = lt_port_is_http2(port->protocol),
        .http_name = name,
        .tcp_name = name,
        .cluster = cp_zf(t, "inbound|%u||", port->number),
        .stat_prefix = cp_zf(t, "inbound_%s;", name),
        .operation = cp_zf(t, "%.*s:%u/*", LT_STR_ARG(port->service->host), port->port->number),
    };
}

static struct inbound describe_passthrough(struct cp_translation *t, uint16_t number)
{
    return (struct inbound){
        .number = number,
        .shape = SHAPE_SNIFFED,
        .protocol = LT_PORT_AUTO,
        .mode = lt_model_mtls_mode(t->model, t->node->ns, t->labels, number),
        .http_name = number == 0 ? "virtualInbound-catchall-http" : cp_zf(t, "0.0.0.0_%u", number),
        .tcp_name = number == 0 ? "virtualInbound" : cp_zf(t, "0.0.0.0_%u", number),
        .cluster = CP_INBOUND_PASSTHROUGH,
        .stat_prefix = CP_INBOUND_PASSTHROUGH ";",
        .operation = cp_zf(t, ":%u/*", number),
    };
}

static bool is_listed(const struct inbound *ports, size_t count, uint16_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (ports[i].number == number)
            return true;
    }
    return false;
}

static int cmp_inbound(const void *a, const void *b)
{
    return (int)((const struct inbound *)a)->number - (int)((const struct inbound *)b)->number;
}

/* What services declare, and what a PeerAuthentication names beside that. */
static size_t list_ports(struct cp_translation *t, struct inbound *ret_ports)
{
    uint16_t named[PEER_PORTS_MAX];
    size_t declared_count = 0, count = 0;
    const struct cp_inbound_port *declared = cp_inbound_ports(t, &declared_count);
    for (size_t i = 0; i < declared_count && count < INBOUND_PORTS_MAX; i++)
        ret_ports[count++] = describe_port(t, &declared[i]);
    size_t named_count = lt_model_mtls_ports(t->model, t->node->ns, t->labels, named,
                                             PEER_PORTS_MAX);
    for (size_t i = 0; i < named_count && count < INBOUND_PORTS_MAX; i++) {
        if (!is_listed(ret_ports, count, named[i]))
            ret_ports[count++] = describe_passthrough(t, named[i]);
    }
    lt_sort(ret_ports, count, sizeof(*ret_ports), cmp_inbound);
    return count;
}

/* ---- listener filters ---- */

static Xds__ListenerFilterChainMatchPredicate *port_predicate(struct cp_translation *t,
                                                              uint16_t port)
{
    Xds__ListenerFilterChainMatchPredicate *p = CP_NEW(t, Xds__ListenerFilterChainMatchPredicate,
                                                       xds__listener_filter_chain_match_predicate);
    p->rule_case = XDS__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_DESTINATION_PORT_RANGE;
    p->destination_port_range = CP_NEW(t, Xds__Int32Range, xds__int32_range);
    p->destination_port_range->start = port;
    p->destination_port_range->end = (int32_t)port + 1;
    p->destination_port_range->has_start = p->destination_port_range->has_end = true;
    return p;
}

static Xds__ListenerFilterChainMatchPredicate *any_of(struct cp_translation *t,
                                                      const uint16_t *ports, size_t count)
{
    if (count == 1)
        return port_predicate(t, ports[0]);
    Xds__ListenerFilterChainMatchPredicate *p = CP_NEW(t, Xds__ListenerFilterChainMatchPredicate,
                                                       xds__listener_filter_chain_match_predicate);
    p->rule_case = XDS__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_OR_MATCH;
    p->or_match = CP_NEW(t, Xds__ListenerFilterChainMatchPredicate__MatchSet,
                         xds__listener_filter_chain_match_predicate__match_set);
    p->or_match->rules = lt_arena_make_n(t->arena, ProtobufCBinaryData, count);
    for (size_t i = 0; i < count; i++)
        p->or_match->rules[p->or_match->n_rules++] = lt_pb_pack_data(t->arena,
                                                                     port_predicate(t, ports[i]));
    return p;
}

static bool needs_tls_inspector(const struct inbound *in)
{
    return in->mode != LT_MTLS_DISABLE;
}

/*
 * HTTP need not be told from anything else where only HTTP comes, and under STRICT TLS's ALPN
 * tells.
 */
static bool needs_http_inspector(const struct inbound *in)
{
    return in->shape == SHAPE_SNIFFED && in->mode != LT_MTLS_STRICT;
}

static int cmp_ports(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* Off for the ports that don't need it, and for our own; not there at all when nothing needs it. */
static void add_inspector(struct cp_translation *t, Xds__Listener *listener,
                          Xds__ListenerFilter *filter, const struct inbound *rest,
                          const struct inbound *ports, size_t count,
                          bool (*is_needed)(const struct inbound *))
{
    uint16_t *off = lt_arena_make_n(t->arena, uint16_t, count + 1);
    size_t off_count = 0;
    bool is_needed_at_all = is_needed(rest);
    for (size_t i = 0; i < count; i++) {
        if (is_needed(&ports[i]))
            is_needed_at_all = true;
        else if (ports[i].number != CP_PORT_INBOUND)
            off[off_count++] = ports[i].number;
    }
    off[off_count++] = CP_PORT_INBOUND;
    lt_sort(off, off_count, sizeof(*off), cmp_ports);
    filter->filter_disabled = any_of(t, off, off_count);
    if (is_needed_at_all)
        CP_PUSH(t, listener->listener_filters, listener->n_listener_filters, filter);
}

static void add_original_dst(struct cp_translation *t, Xds__Listener *listener)
{
    CP_PUSH(t, listener->listener_filters, listener->n_listener_filters,
            cp_listener_filter(t, "envoy.filters.listener.original_dst",
                               CP_NEW(t, Xds__OriginalDst, xds__original_dst)));
    if (t->node->capture != CP_CAPTURE_TPROXY)
        return;
    Xds__OriginalSrc *src = CP_NEW(t, Xds__OriginalSrc, xds__original_src);
    src->mark = 1337;
    src->has_mark = true;
    CP_PUSH(t, listener->listener_filters, listener->n_listener_filters,
            cp_listener_filter(t, "envoy.filters.listener.original_src", src));
}

void cp_translate_inbound(struct cp_translation *t)
{
    struct inbound *ports = lt_arena_make_n(t->arena, struct inbound, INBOUND_PORTS_MAX);
    size_t count = list_ports(t, ports);
    struct inbound rest = describe_passthrough(t, 0);
    Xds__Listener *listener = CP_NEW(t, Xds__Listener, xds__listener);
    listener->name = "virtualInbound";
    listener->address = cp_address(t, "0.0.0.0", CP_PORT_INBOUND);
    add_black_hole(t, listener);
    add_chains(t, listener, &rest);
    for (size_t i = 0; i < count; i++)
        add_chains(t, listener, &ports[i]);
    add_original_dst(t, listener);
    add_inspector(t, listener, cp_tls_inspector(t), &rest, ports, count, needs_tls_inspector);
    add_inspector(t, listener, cp_http_inspector(t), &rest, ports, count, needs_http_inspector);
    listener->listener_filters_timeout = cp_duration(t, t->model->mesh.detection_timeout_ns);
    listener->continue_on_listener_filters_timeout =
        listener->has_continue_on_listener_filters_timeout = true;
    listener->traffic_direction = XDS__TRAFFIC_DIRECTION__INBOUND;
    listener->has_traffic_direction = true;
    listener->max_connections_to_accept_per_socket_event = cp_u32(t, 1);
    if (t->node->capture == CP_CAPTURE_TPROXY)
        listener->transparent = cp_bool(t, true);
    cp_listener_add_access_log(t, listener);
    cp_emit(t, LT_STR("virtualInbound"), listener);
}
