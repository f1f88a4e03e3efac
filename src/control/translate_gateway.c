/*
 * control/translate_gateway.c - listeners and routes of gateways (xds.md 13, networking.md 4).
 * All Gateways that select the workload are merged, the oldest first: servers of one port share a
 * listener, plaintext HTTP servers of one port share a route configuration, TLS servers get a chain
 * each by server name. Not yet: certificates from Secrets (credentialName) and AUTO_PASSTHROUGH;
 * such servers are left out, and said so when read.
 */
#include "base/env.h"
#include "control/translate_priv.h"

enum { SERVERS_MAX = 4096 };

/* What a server becomes. */
typedef enum {
    SERVER_NONE,
    SERVER_HTTP,
    SERVER_HTTPS,
    SERVER_TCP,
    SERVER_TLS_PASSED,
    SERVER_TLS_ENDED
} server_kind;

struct server {
    const struct lt_object *gateway;
    const struct lt_gw_server *spec;
    lt_str gateway_name; /* "namespace/name" */
    server_kind kind;
    uint16_t port;          /* of the Service */
    uint16_t target;        /* of the proxy */
    const char *route_name; /* HTTP and HTTPS */
};

struct servers {
    struct server *items; /* by target port, then as in the Gateways */
    size_t count;
};

static server_kind kind_of(const struct lt_gw_server *spec)
{
    lt_port_protocol protocol = lt_port_protocol_parse(spec->port->protocol);
    if (lt_port_is_http(protocol))
        return SERVER_HTTP;
    if (!lt_port_is_tls(protocol))
        return SERVER_TCP;
    switch (spec->tls->mode.value) {
    case LT_SERVER_TLS_PASSTHROUGH: return SERVER_TLS_PASSED;
    case LT_SERVER_TLS_ISTIO_MUTUAL:
        return protocol == LT_PORT_HTTPS ? SERVER_HTTPS : SERVER_TLS_ENDED;
    case LT_SERVER_TLS_SIMPLE:
    case LT_SERVER_TLS_MUTUAL:
        if (spec->tls->server_certificate.len == 0)
            return SERVER_NONE;
        return protocol == LT_PORT_HTTPS ? SERVER_HTTPS : SERVER_TLS_ENDED;
    default: return SERVER_NONE;
    }
}

/* The port behind the Service's: the gateway's Pods listen on that. */
static uint16_t target_port(struct cp_translation *t, uint16_t number)
{
    size_t count = 0;
    const struct cp_inbound_port *ports = cp_inbound_ports(t, &count);
    for (size_t i = 0; i < count; i++) {
        if (ports[i].port->number == number)
            return ports[i].number;
    }
    return number;
}

/*
 * Plaintext and TLS can't share a port, and a TCP server takes its port whole; a TLS host is served
 * once.
 */
static bool conflicts(const struct server *a, const struct server *b)
{
    if (a->target != b->target)
        return false;
    bool a_tls = a->kind != SERVER_HTTP && a->kind != SERVER_TCP,
         b_tls = b->kind != SERVER_HTTP && b->kind != SERVER_TCP;
    if (a_tls != b_tls || a->kind == SERVER_TCP || b->kind == SERVER_TCP)
        return true;
    for (size_t i = 0; a_tls && i < a->spec->hosts.count; i++) {
        if (lt_strs_contain(&b->spec->hosts, a->spec->hosts.items[i]))
            return true;
    }
    return false;
}

static int cmp_servers(const void *a, const void *b)
{
    const struct server *x = *(const struct server *const *)a,
                        *y = *(const struct server *const *)b;
    if (x->target != y->target)
        return x->target < y->target ? -1 : 1;
    return x < y ? -1 : 1;
}

static const char *route_name_of(struct cp_translation *t, const struct server *s)
{
    if (s->kind == SERVER_HTTP)
        return cp_zf(t, "http.%u", s->target);
    return cp_zf(t, "https.%u.%.*s.%.*s.%.*s", s->port, LT_STR_ARG(s->spec->port->name),
                 LT_STR_ARG(s->gateway->key.name), LT_STR_ARG(s->gateway->key.ns));
}

static void add_server(struct cp_translation *t, struct servers *list,
                       const struct lt_object *gateway, const struct lt_gw_server *spec)
{
    struct server s = {.gateway = gateway,
                       .spec = spec,
                       .kind = kind_of(spec),
                       .port = (uint16_t)spec->port->number.value};
    if (s.kind == SERVER_NONE || list->count == SERVERS_MAX)
        return;
    s.gateway_name = lt_str_of(
        cp_zf(t, "%.*s/%.*s", LT_STR_ARG(gateway->key.ns), LT_STR_ARG(gateway->key.name)));
    s.target = target_port(t, s.port);
    for (size_t i = 0; i < list->count; i++) {
        if (conflicts(&list->items[i], &s))
            return;
    }
    s.route_name = route_name_of(t, &s);
    list->items[list->count++] = s;
}

static struct servers merge_gateways(struct cp_translation *t)
{
    size_t max = 0;
    for (size_t i = 0; i < t->model->gateway_count; i++)
        max += t->model->gateways[i]->gateway->servers.count;
    struct servers list = {
        lt_arena_make_n(t->arena, struct server, LT_MIN(max, (size_t)SERVERS_MAX) + 1), 0};
    for (size_t i = 0; i < t->model->gateway_count; i++) {
        const struct lt_object *gateway = t->model->gateways[i];
        if (!lt_kvs_contain(t->labels, &gateway->gateway->selector))
            continue;
        for (size_t j = 0; j < gateway->gateway->servers.count; j++)
            add_server(t, &list, gateway, &gateway->gateway->servers.items[j]);
    }
    const struct server **order = lt_arena_make_n(t->arena, const struct server *, list.count + 1);
    for (size_t i = 0; i < list.count; i++)
        order[i] = &list.items[i];
    lt_sort(order, list.count, sizeof(*order), cmp_servers);
    struct servers sorted = {lt_arena_make_n(t->arena, struct server, list.count + 1), list.count};
    for (size_t i = 0; i < list.count; i++)
        sorted.items[i] = *order[i];
    return sorted;
}

/* ---- hosts ---- */

/* "namespace/host" in its two parts; without a namespace: any. */
static lt_str split_host(const struct server *s, lt_str text, lt_str *ret_ns)
{
    ptrdiff_t slash = lt_str_find_char(text, '/');
    *ret_ns = slash >= 0 ? lt_str_slice(text, 0, (size_t)slash) : LT_STR("*");
    if (lt_str_eq(*ret_ns, LT_STR(".")))
        *ret_ns = s->gateway->key.ns;
    return lt_str_from(text, (size_t)(slash + 1));
}

/* The narrower of the two names, if the server lets this VirtualService in at all. */
static lt_str bound_host(const struct server *s, lt_str server_host, const struct lt_routes *routes,
                         lt_str vs_host)
{
    lt_str ns, host = split_host(s, server_host, &ns);
    if (!lt_str_eq(ns, LT_STR("*")) && !lt_str_eq(ns, routes->ns))
        return LT_STR_NULL;
    if (lt_host_is_subset(vs_host, host))
        return vs_host;
    return lt_host_is_subset(host, vs_host) ? host : LT_STR_NULL;
}

/* ---- routes ---- */

/* A route configuration while it is being filled: virtual hosts by name. */
struct filling {
    struct cp_translation *t;
    Xds__RouteConfiguration *config;
    struct lt_map vhosts; /* host to Xds__VirtualHost */
};

static bool is_catch_all(const Xds__Route *route)
{
    const Xds__RouteMatch *m = route->match;
    return m->n_headers + m->n_query_parameters == 0 &&
           m->path_specifier_case == XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX &&
           strcmp(m->prefix, "/") == 0;
}

/*
 * Several VirtualServices for one host: their rules follow each other, those that take everything
 * come last.
 */
static void sort_catch_alls(Xds__VirtualHost *vhost)
{
    size_t kept = 0, last = 0;
    Xds__Route **all = lt_calloc(vhost->n_routes + 1, sizeof(*all));
    for (size_t i = 0; i < vhost->n_routes; i++) {
        if (is_catch_all(vhost->routes[i]))
            all[last++] = vhost->routes[i];
        else
            vhost->routes[kept++] = vhost->routes[i];
    }
    memcpy(vhost->routes + kept, all, last * sizeof(*all));
    free(all);
}

static Xds__VirtualHost *get_vhost(struct filling *f, const struct server *s, lt_str host)
{
    Xds__VirtualHost *vhost = lt_map_find(&f->vhosts, host);
    if (vhost != NULL)
        return vhost;
    vhost = CP_NEW(f->t, Xds__VirtualHost, xds__virtual_host);
    vhost->name = cp_zf(f->t, "%.*s:%u", LT_STR_ARG(host), s->port);
    vhost->include_request_attempt_count = vhost->has_include_request_attempt_count = true;
    CP_PUSH(f->t, vhost->domains, vhost->n_domains, cp_z(f->t, host));
    lt_map_put(&f->vhosts, lt_str_of(vhost->domains[0]), vhost);
    CP_PUSH(f->t, f->config->virtual_hosts, f->config->n_virtual_hosts, vhost);
    return vhost;
}

static void require_tls(const struct server *s, Xds__VirtualHost *vhost)
{
    if (s->spec->tls == NULL || !s->spec->tls->https_redirect.value)
        return;
    vhost->require_tls = XDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL;
    vhost->has_require_tls = true;
}

static void add_routes(struct filling *f, const struct server *s, lt_str server_host,
                       const struct lt_routes *routes)
{
    for (size_t i = 0; i < routes->hosts.count; i++) {
        lt_str host = bound_host(s, server_host, routes, routes->hosts.items[i]);
        if (host.ptr == NULL)
            continue;
        struct cp_rule_scope scope = {routes, s->port, s->gateway_name};
        Xds__VirtualHost rules = XDS__VIRTUAL_HOST__INIT;
        cp_add_rules(f->t, &scope, &rules);
        if (rules.n_routes == 0)
            continue;
        Xds__VirtualHost *vhost = get_vhost(f, s, host);
        for (size_t j = 0; j < rules.n_routes; j++)
            CP_PUSH(f->t, vhost->routes, vhost->n_routes, rules.routes[j]);
        sort_catch_alls(vhost);
        require_tls(s, vhost);
    }
}

/* A host that only redirects to TLS needs no VirtualService. */
static void add_redirect_host(struct filling *f, const struct server *s, lt_str server_host)
{
    lt_str ns, host = split_host(s, server_host, &ns);
    if (s->spec->tls == NULL || !s->spec->tls->https_redirect.value ||
        lt_map_find(&f->vhosts, host) != NULL)
        return;
    require_tls(s, get_vhost(f, s, host));
}

static void fill_server(struct filling *f, const struct server *s)
{
    for (size_t h = 0; h < s->spec->hosts.count; h++) {
        for (size_t i = 0; i < f->t->model->routes_count; i++) {
            const struct lt_routes *routes = &f->t->model->routes[i];
            if (routes->spec->http.count > 0 && cp_is_bound(f->t, routes, s->gateway_name))
                add_routes(f, s, s->spec->hosts.items[h], routes);
        }
        add_redirect_host(f, s, s->spec->hosts.items[h]);
    }
}

static int cmp_vhosts(const void *a, const void *b)
{
    return strcmp((*(Xds__VirtualHost *const *)a)->name, (*(Xds__VirtualHost *const *)b)->name);
}

static void emit_route_config(struct cp_translation *t, const struct servers *list,
                              const char *name)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    struct filling f = {.t = t, .config = cp_route_config(t, name)};
    uint16_t port = 0;
    lt_map_init(&f.vhosts);
    for (size_t i = 0; i < list->count; i++) {
        const struct server *s = &list->items[i];
        bool is_http = s->kind == SERVER_HTTP || s->kind == SERVER_HTTPS;
        if (!is_http || strcmp(s->route_name, name) != 0)
            continue;
        fill_server(&f, s);
        port = s->port;
    }
    lt_map_fini(&f.vhosts);
    lt_sort(f.config->virtual_hosts, f.config->n_virtual_hosts, sizeof(void *), cmp_vhosts);
    if (f.config->n_virtual_hosts == 0) {
        Xds__VirtualHost *hole = CP_NEW(t, Xds__VirtualHost, xds__virtual_host);
        hole->name = cp_zf(t, "blackhole:%u", port);
        CP_PUSH(t, hole->domains, hole->n_domains, "*");
        CP_PUSH(t, f.config->virtual_hosts, f.config->n_virtual_hosts, hole);
    }
    cp_emit(t, lt_str_of(name), f.config);
    lt_arena_rollback(t->arena, mark);
}

void cp_translate_gateway_routes(struct cp_translation *t)
{
    struct servers list = merge_gateways(t);
    for (size_t i = 0; i < list.count; i++) {
        bool is_http = list.items[i].kind == SERVER_HTTP || list.items[i].kind == SERVER_HTTPS;
        bool is_done = false;
        for (size_t j = 0; j < i && !is_done; j++)
            is_done = is_http && list.items[j].route_name != NULL &&
                      strcmp(list.items[j].route_name, list.items[i].route_name) == 0;
        if (is_http && !is_done)
            emit_route_config(t, &list, list.items[i].route_name);
    }
}

/* ---- listeners ---- */

static Xds__TransportSocket *server_tls(struct cp_translation *t, const struct server *s)
{
    const struct lt_gw_tls *tls = s->spec->tls;
    if (tls->mode.value == LT_SERVER_TLS_ISTIO_MUTUAL)
        return cp_mesh_gateway_tls(t, s->kind == SERVER_TLS_ENDED);
    Xds__CommonTlsContext *common = CP_NEW(t, Xds__CommonTlsContext, xds__common_tls_context);
    common->tls_params = CP_NEW(t, Xds__TlsParameters, xds__tls_parameters);
    common->tls_params->tls_minimum_protocol_version = XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2;
    common->tls_params->has_tls_minimum_protocol_version = true;
    const char *cert = cp_zf(t, "file-cert:%.*s~%.*s", LT_STR_ARG(tls->server_certificate),
                             LT_STR_ARG(tls->private_key));
    CP_PUSH(t, common->tls_certificate_sds_secret_configs,
            common->n_tls_certificate_sds_secret_configs, cp_sds(t, cert, false));
    bool is_mutual = tls->mode.value == LT_SERVER_TLS_MUTUAL;
    if (is_mutual) {
        common->validation_context_type_case =
            XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG;
        common->validation_context_sds_secret_config = cp_sds(
            t, cp_zf(t, "file-root:%.*s", LT_STR_ARG(tls->ca_certificates)), false);
    }
    if (s->kind == SERVER_HTTPS) {
        CP_PUSH(t, common->alpn_protocols, common->n_alpn_protocols, "h2");
        CP_PUSH(t, common->alpn_protocols, common->n_alpn_protocols, "http/1.1");
    }
    Xds__DownstreamTlsContext *context = CP_NEW(t, Xds__DownstreamTlsContext,
                                                xds__downstream_tls_context);
    context->common_tls_context = common;
    context->require_client_certificate = cp_bool(t, is_mutual);
    return cp_transport_socket(t, context);
}

static int cmp_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The hosts of a TLS server as server names; a host "*" is any. */
static Xds__FilterChainMatch *server_names(struct cp_translation *t, const struct server *s)
{
    Xds__FilterChainMatch *match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
    for (size_t i = 0; i < s->spec->hosts.count; i++) {
        lt_str ns, host = split_host(s, s->spec->hosts.items[i], &ns);
        if (lt_str_eq(host, LT_STR("*")))
            return NULL;
        CP_PUSH(t, match->server_names, match->n_server_names, cp_z(t, host));
    }
    lt_sort(match->server_names, match->n_server_names, sizeof(char *), cmp_names);
    return match;
}

static void push_chain(struct cp_translation *t, Xds__Listener *listener, Xds__FilterChain *chain)
{
    CP_PUSH(t, listener->filter_chains, listener->n_filter_chains, chain);
}

static void add_http_chain(struct cp_translation *t, Xds__Listener *listener,
                           const struct server *s)
{
    Xds__FilterChain *chain = cp_new_chain(t, NULL);
    struct cp_hcm_options options = {.stat_prefix = cp_zf(t, "outbound_%s;", listener->name),
                                     .rds_name = s->route_name};
    cp_chain_add_hcm(t, chain, CP_SIDE_GATEWAY, &options);
    if (s->kind == SERVER_HTTPS) {
        chain->filter_chain_match = server_names(t, s);
        chain->transport_socket = server_tls(t, s);
    }
    push_chain(t, listener, chain);
}

static bool serves(const struct server *s, const struct lt_routes *routes)
{
    for (size_t h = 0; h < s->spec->hosts.count; h++) {
        for (size_t i = 0; i < routes->hosts.count; i++) {
            if (bound_host(s, s->spec->hosts.items[h], routes, routes->hosts.items[i]).ptr != NULL)
                return true;
        }
    }
    return false;
}

/* The first rule that fits takes the connections (networking.md 2.8). */
static const struct lt_tcp_route *find_tcp_rule(struct cp_translation *t, const struct server *s,
                                                const struct lt_routes *routes)
{
    for (size_t i = 0; i < routes->spec->tcp.count; i++) {
        const struct lt_tcp_route *rule = &routes->spec->tcp.items[i];
        if (rule->match.count == 0)
            return rule;
        for (size_t j = 0; j < rule->match.count; j++) {
            const struct lt_l4_match *m = &rule->match.items[j];
            if (cp_is_l4_match(t, m->port, &m->gateways, &m->source_labels, m->source_namespace,
                               routes, s->port, s->gateway_name))
                return rule;
        }
    }
    return NULL;
}

static void add_tcp_chain(struct cp_translation *t, Xds__Listener *listener, const struct server *s)
{
    for (size_t i = 0; i < t->model->routes_count; i++) {
        const struct lt_routes *routes = &t->model->routes[i];
        bool is_bound = routes->spec->tcp.count > 0 && cp_is_bound(t, routes, s->gateway_name) &&
                        serves(s, routes);
        const struct lt_tcp_route *rule = is_bound ? find_tcp_rule(t, s, routes) : NULL;
        if (rule == NULL)
            continue;
        Xds__FilterChain *chain = cp_new_chain(t, NULL);
        struct cp_tcp_options options = cp_l4_options(t, routes, rule->route.items,
                                                      rule->route.count, s->port);
        options.takes_mesh_tls = s->kind == SERVER_TLS_ENDED &&
                                 s->spec->tls->mode.value == LT_SERVER_TLS_ISTIO_MUTUAL;
        cp_chain_add_tcp(t, chain, CP_SIDE_GATEWAY, &options);
        if (s->kind == SERVER_TLS_ENDED) {
            chain->filter_chain_match = server_names(t, s);
            chain->transport_socket = server_tls(t, s);
        }
        push_chain(t, listener, chain);
        return;
    }
}

static void add_passed_chains(struct cp_translation *t, Xds__Listener *listener,
                              const struct server *s, const struct lt_routes *routes)
{
    for (size_t i = 0; i < routes->spec->tls.count; i++) {
        const struct lt_tls_route *rule = &routes->spec->tls.items[i];
        for (size_t j = 0; j < rule->match.count; j++) {
            const struct lt_tls_match *m = &rule->match.items[j];
            if (!cp_is_l4_match(t, m->port, &m->gateways, &m->source_labels, m->source_namespace,
                                routes, s->port, s->gateway_name))
                continue;
            Xds__FilterChain *chain = cp_new_chain(t, NULL);
            chain->filter_chain_match = CP_NEW(t, Xds__FilterChainMatch, xds__filter_chain_match);
            for (size_t k = 0; k < m->sni_hosts.count; k++)
                CP_PUSH(t, chain->filter_chain_match->server_names,
                        chain->filter_chain_match->n_server_names, cp_z(t, m->sni_hosts.items[k]));
            chain->metadata = cp_object_metadata(t, routes->object);
            struct cp_tcp_options options = cp_l4_options(t, routes, rule->route.items,
                                                          rule->route.count, s->port);
            cp_chain_add_tcp(t, chain, CP_SIDE_GATEWAY, &options);
            push_chain(t, listener, chain);
        }
    }
}

static void add_server_chains(struct cp_translation *t, Xds__Listener *listener,
                              const struct server *s)
{
    switch (s->kind) {
    case SERVER_HTTP:
        if (listener->n_filter_chains == 0)
            add_http_chain(t, listener, s);
        return;
    case SERVER_HTTPS: add_http_chain(t, listener, s); return;
    case SERVER_TCP:
    case SERVER_TLS_ENDED: add_tcp_chain(t, listener, s); return;
    case SERVER_TLS_PASSED:
        for (size_t i = 0; i < t->model->routes_count; i++) {
            const struct lt_routes *routes = &t->model->routes[i];
            if (cp_is_bound(t, routes, s->gateway_name) && serves(s, routes))
                add_passed_chains(t, listener, s, routes);
        }
        return;
    case SERVER_NONE: return;
    }
}

static void emit_listener(struct cp_translation *t, const struct server *servers, size_t count)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    Xds__Listener *listener = CP_NEW(t, Xds__Listener, xds__listener);
    listener->name = cp_zf(t, "0.0.0.0_%u", servers->target);
    listener->address = cp_address(t, "0.0.0.0", servers->target);
    listener->traffic_direction = XDS__TRAFFIC_DIRECTION__OUTBOUND;
    listener->has_traffic_direction = true;
    listener->max_connections_to_accept_per_socket_event = cp_u32(t, 1);
    for (size_t i = 0; i < count; i++)
        add_server_chains(t, listener, &servers[i]);
    if (servers->kind != SERVER_HTTP && servers->kind != SERVER_TCP)
        CP_PUSH(t, listener->listener_filters, listener->n_listener_filters, cp_tls_inspector(t));
    cp_listener_add_access_log(t, listener);
    /* Envoy refuses a listener without chains: nothing is routed there yet */
    if (listener->n_filter_chains > 0)
        cp_emit(t, lt_str_of(listener->name), listener);
    lt_arena_rollback(t->arena, mark);
}

void cp_translate_gateway_listeners(struct cp_translation *t)
{
    struct servers list = merge_gateways(t);
    for (size_t i = 0; i < list.count;) {
        size_t n = 1;
        while (i + n < list.count && list.items[i + n].target == list.items[i].target)
            n++;
        emit_listener(t, &list.items[i], n);
        i += n;
    }
}
