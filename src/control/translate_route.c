/*
 * control/translate_route.c - route configurations of sidecars (RDS): a virtual host for each
 * service that speaks HTTP on the port, by all the names that callers may use for it (xds.md 12,
 * networking.md 2.9).
 */
#include <ctype.h>

#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/proto/retry_previous_hosts.pb-c.h"
#include "wire/proto/retry_previous_priorities.pb-c.h"

enum { DIRECT_BODY_BYTES_MAX = 1 << 20, ALIAS_DEPTH_MAX = 8 };

/*
 * Istio's, for `retries` without retryOn; and ours, narrower, where nothing was said: never a
 * request that was seen.
 */
#define RETRY_ON_ISTIO "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
#define RETRY_ON_DEFAULT "connect-failure,refused-stream,reset-before-request"

/* ---- parts of a route ---- */

/* Numbers go to the list of codes and leave one word for all of them behind. */
static void set_retry_on(struct cp_translation *t, Xds__RetryPolicy *policy, lt_str retry_on)
{
    struct {
        const char *text;
        bool has_word;
    } out = {"", false};
    lt_str rest = retry_on, word;
    while (retry_on.len > 0 && lt_str_split(&rest, ',', &word)) {
        uint64_t code = 0;
        if (lt_str_to_u64(word, &code) == LT_OK) {
            uint32_t *codes = lt_arena_make_n(t->arena, uint32_t,
                                              policy->n_retriable_status_codes + 1);
            if (policy->n_retriable_status_codes > 0)
                memcpy(codes, policy->retriable_status_codes,
                       policy->n_retriable_status_codes * sizeof(*codes));
            codes[policy->n_retriable_status_codes++] = (uint32_t)code;
            policy->retriable_status_codes = codes;
            continue;
        }
        out.has_word |= lt_str_eq(word, LT_STR("retriable-status-codes"));
        out.text = cp_zf(t, "%s%s%.*s", out.text, out.text[0] != '\0' ? "," : "", LT_STR_ARG(word));
    }
    if (policy->n_retriable_status_codes > 0 && !out.has_word)
        out.text = cp_zf(t, "%s%sretriable-status-codes", out.text, out.text[0] != '\0' ? "," : "");
    policy->retry_on = out.text;
}

static void avoid_previous_hosts(struct cp_translation *t, Xds__RetryPolicy *policy)
{
    Xds__RetryPolicy__RetryHostPredicate *p = CP_NEW(t, Xds__RetryPolicy__RetryHostPredicate,
                                                     xds__retry_policy__retry_host_predicate);
    p->name = "envoy.retry_host_predicates.previous_hosts";
    p->config_type_case = XDS__RETRY_POLICY__RETRY_HOST_PREDICATE__CONFIG_TYPE_TYPED_CONFIG;
    p->typed_config = lt_any_pack(
        t->arena, CP_NEW(t, Xds__PreviousHostsPredicate, xds__previous_hosts_predicate));
    CP_PUSH(t, policy->retry_host_predicate, policy->n_retry_host_predicate, p);
}

static void allow_other_priorities(struct cp_translation *t, Xds__RetryPolicy *policy)
{
    Xds__PreviousPrioritiesConfig *config = CP_NEW(t, Xds__PreviousPrioritiesConfig,
                                                   xds__previous_priorities_config);
    config->update_frequency = 2;
    config->has_update_frequency = true;
    policy->retry_priority = CP_NEW(t, Xds__RetryPolicy__RetryPriority,
                                    xds__retry_policy__retry_priority);
    policy->retry_priority->name = "envoy.retry_priorities.previous_priorities";
    policy->retry_priority->config_type_case =
        XDS__RETRY_POLICY__RETRY_PRIORITY__CONFIG_TYPE_TYPED_CONFIG;
    policy->retry_priority->typed_config = lt_any_pack(t->arena, config);
}

void cp_set_retries(struct cp_translation *t, Xds__RouteAction *action,
                    const struct lt_http_retry *retries, bool is_hashed)
{
    const struct lt_http_retry *from = retries != NULL ? retries : t->model->mesh.default_retry;
    if (from != NULL && from->attempts.value <= 0)
        return;
    Xds__RetryPolicy *policy = CP_NEW(t, Xds__RetryPolicy, xds__retry_policy);
    policy->num_retries = cp_u32(t, from != NULL ? (uint32_t)from->attempts.value : 2);
    if (from == NULL)
        policy->retry_on = RETRY_ON_DEFAULT;
    else
        set_retry_on(t, policy, from->retry_on.len > 0 ? from->retry_on : LT_STR(RETRY_ON_ISTIO));
    if (!is_hashed && (from == NULL || lt_opt_or(from->ignore_previous_hosts, true)))
        avoid_previous_hosts(t, policy);
    policy->host_selection_retry_max_attempts = 5;
    policy->has_host_selection_retry_max_attempts = true;
    if (from != NULL && from->per_try_timeout.is_set)
        policy->per_try_timeout = cp_duration(t, from->per_try_timeout.value);
    if (from != NULL && from->retry_remote_localities.value)
        allow_other_priorities(t, policy);
    if (from != NULL && from->backoff.is_set) {
        policy->retry_back_off = CP_NEW(t, Xds__RetryPolicy__RetryBackOff,
                                        xds__retry_policy__retry_back_off);
        policy->retry_back_off->base_interval = cp_duration(t, from->backoff.value);
    }
    action->retry_policy = policy;
}

void cp_add_hash_policy(struct cp_translation *t, Xds__RouteAction *action,
                        const struct cp_policy *policy)
{
    const struct lt_consistent_hash *from = policy->load_balancer != NULL
                                                ? policy->load_balancer->consistent_hash
                                                : NULL;
    if (from == NULL)
        return;
    Xds__RouteAction__HashPolicy *to = CP_NEW(t, Xds__RouteAction__HashPolicy,
                                              xds__route_action__hash_policy);
    if (from->http_header_name.len > 0) {
        to->policy_specifier_case = XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_HEADER;
        to->header = CP_NEW(t, Xds__RouteAction__HashPolicy__Header,
                            xds__route_action__hash_policy__header);
        to->header->header_name = cp_z(t, from->http_header_name);
    } else if (from->http_cookie != NULL) {
        to->policy_specifier_case = XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_COOKIE;
        to->cookie = CP_NEW(t, Xds__RouteAction__HashPolicy__Cookie,
                            xds__route_action__hash_policy__cookie);
        to->cookie->name = cp_z(t, from->http_cookie->name);
        if (from->http_cookie->path.len > 0)
            to->cookie->path = cp_z(t, from->http_cookie->path);
        if (from->http_cookie->ttl.is_set)
            to->cookie->ttl = cp_duration(t, from->http_cookie->ttl.value);
    } else if (from->http_query_parameter_name.len > 0) {
        to->policy_specifier_case =
            XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER;
        to->query_parameter = CP_NEW(t, Xds__RouteAction__HashPolicy__QueryParameter,
                                     xds__route_action__hash_policy__query_parameter);
        to->query_parameter->name = cp_z(t, from->http_query_parameter_name);
    } else {
        to->policy_specifier_case =
            XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES;
        to->connection_properties = CP_NEW(t, Xds__RouteAction__HashPolicy__ConnectionProperties,
                                           xds__route_action__hash_policy__connection_properties);
        to->connection_properties->source_ip = to->connection_properties->has_source_ip = true;
    }
    CP_PUSH(t, action->hash_policy, action->n_hash_policy, to);
}

/* Everything to one cluster. */
static Xds__Route *new_route(struct cp_translation *t, const char *name, const char *cluster)
{
    Xds__Route *route = CP_NEW(t, Xds__Route, xds__route);
    route->name = name;
    route->match = CP_NEW(t, Xds__RouteMatch, xds__route_match);
    route->match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
    route->match->prefix = "/";
    route->action_case = XDS__ROUTE__ACTION_ROUTE;
    route->route = CP_NEW(t, Xds__RouteAction, xds__route_action);
    route->route->cluster_specifier_case = XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
    route->route->cluster = cluster;
    route->route->timeout = cp_duration(t, 0);
    route->route->max_grpc_timeout = cp_duration(t, 0);
    return route;
}

Xds__Route *cp_default_route(struct cp_translation *t, const struct lt_service *service,
                             const struct lt_port *port)
{
    Xds__Route *route = new_route(t, "default",
                                  cp_cluster_name(t, port->number, LT_STR(""), service->host));
    struct cp_policy policy = cp_policy_for(t, service, port->number, LT_STR(""));
    cp_set_retries(t, route->route, NULL, false);
    cp_add_hash_policy(t, route->route, &policy);
    route->decorator = CP_NEW(t, Xds__Decorator, xds__decorator);
    route->decorator->operation = cp_zf(t, "%.*s:%u/*", LT_STR_ARG(service->host), port->number);
    return route;
}

void cp_drop_peer_headers(struct cp_translation *t, Xds__RouteConfiguration *config)
{
    static const char *const names[] = {"x-envoy-peer-metadata-id", "x-envoy-peer-metadata"};
    for (size_t i = 0; i < LT_ARRAY_LEN(names) && !cp_has(t, CP_EXT_MX_HTTP); i++)
        CP_PUSH(t, config->request_headers_to_remove, config->n_request_headers_to_remove,
                names[i]);
}

Xds__RouteConfiguration *cp_route_config(struct cp_translation *t, const char *name)
{
    Xds__RouteConfiguration *config = CP_NEW(t, Xds__RouteConfiguration, xds__route_configuration);
    config->name = name;
    config->validate_clusters = cp_bool(t, false);
    config->max_direct_response_body_size_bytes = cp_u32(t, DIRECT_BODY_BYTES_MAX);
    config->ignore_port_in_host_matching = config->has_ignore_port_in_host_matching = true;
    cp_drop_peer_headers(t, config);
    return config;
}

/* ---- which VirtualService ---- */

bool cp_is_bound(const struct cp_translation *t, const struct lt_routes *routes, lt_str gateway)
{
    return lt_is_exported(&routes->spec->export_to, &t->model->mesh.vs_export_to, routes->ns,
                          t->node->ns) &&
           lt_strs_contain(&routes->gateways, gateway);
}

/* 0: private to its own namespace, 1: exported to this one by name, 2: to all. */
static int visibility(const struct cp_translation *t, const struct lt_routes *routes)
{
    const struct lt_strs *to = &routes->spec->export_to;
    if (lt_str_eq(routes->ns, t->node->ns) && lt_strs_contain(to, LT_STR(".")))
        return 0;
    return lt_strs_contain(to, t->node->ns) ? 1 : 2;
}

/* The search for the VirtualService that counts. */
struct route_search {
    const struct cp_translation *t;
    const struct lt_route_host *best;
};

static void consider(void *ctx, const struct lt_route_host *match)
{
    struct route_search *s = ctx;
    if (!cp_is_bound(s->t, match->routes, LT_STR("mesh")))
        return;
    int order = s->best == NULL ? -1 : lt_host_specificity_cmp(match->host, s->best->host);
    if (order < 0 ||
        (order == 0 && visibility(s->t, match->routes) < visibility(s->t, s->best->routes)))
        s->best = match;
}

const struct lt_routes *cp_routes_for(const struct cp_translation *t, lt_str host)
{
    struct route_search search = {t, NULL};
    lt_model_each_route(t->model, host, consider, &search);
    return search.best != NULL ? search.best->routes : NULL;
}

/* ---- virtual hosts ---- */

/* A route configuration while it is being filled. */
struct filling {
    struct cp_translation *t;
    Xds__RouteConfiguration *config;
    struct lt_map domains; /* lower case, that are taken */
    uint16_t port;
};

static void add_domain(struct filling *f, Xds__VirtualHost *vhost, const char *domain)
{
    char *lower = lt_arena_strz(f->t->arena, lt_str_of(domain));
    for (char *c = lower; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    if (lt_map_find(&f->domains, lt_str_of(lower)) != NULL)
        return; /* Envoy refuses a configuration in which a domain is there twice */
    lt_map_put(&f->domains, lt_str_of(lower), vhost);
    CP_PUSH(f->t, vhost->domains, vhost->n_domains, domain);
}

/* The names that a workload in the proxy's namespace may use. */
static void add_service_names(struct filling *f, Xds__VirtualHost *vhost,
                              const struct lt_service *s, const char *prefix)
{
    struct cp_translation *t = f->t;
    const char *name = cp_z(t, s->name), *ns = cp_z(t, s->ns);
    add_domain(f, vhost, cp_zf(t, "%s%.*s", prefix, LT_STR_ARG(s->host)));
    add_domain(f, vhost, cp_zf(t, "%s%.*s.", prefix, LT_STR_ARG(s->host)));
    if (lt_str_eq(s->ns, t->node->ns)) {
        add_domain(f, vhost, cp_zf(t, "%s%s", prefix, name));
        add_domain(f, vhost, cp_zf(t, "%s%s.%s.svc", prefix, name, ns));
        add_domain(f, vhost, cp_zf(t, "%s%s.%s", prefix, name, ns));
    } else {
        add_domain(f, vhost, cp_zf(t, "%s%s.%s", prefix, name, ns));
        add_domain(f, vhost, cp_zf(t, "%s%s.%s.svc", prefix, name, ns));
    }
}

/* ExternalName services that end at this one, maybe over others. */
static bool is_alias_of(const struct lt_model *model, const struct lt_service *alias,
                        const struct lt_service *target)
{
    for (int depth = 0; depth < ALIAS_DEPTH_MAX && alias != NULL && alias->alias_of.len > 0;
         depth++) {
        alias = lt_model_find_service(model, alias->alias_of);
        if (alias == target)
            return true;
    }
    return false;
}

static void add_all_names(struct filling *f, Xds__VirtualHost *vhost, const struct lt_service *s)
{
    const struct lt_model *model = f->t->model;
    add_service_names(f, vhost, s, "");
    if (s->is_headless)
        add_service_names(f, vhost, s, "*.");
    for (size_t i = 0; i < model->service_count; i++) {
        const struct lt_service *alias = &model->services[i];
        if (alias->alias_of.len > 0 && lt_service_is_visible(model, alias, f->t->node->ns) &&
            is_alias_of(model, alias, s))
            add_service_names(f, vhost, alias, "");
    }
    if (s->address.len > 0)
        add_domain(f, vhost, cp_z(f->t, s->address));
}

static Xds__VirtualHost *new_vhost(struct filling *f, lt_str host)
{
    Xds__VirtualHost *vhost = CP_NEW(f->t, Xds__VirtualHost, xds__virtual_host);
    vhost->name = cp_zf(f->t, "%.*s:%u", LT_STR_ARG(host), f->port);
    vhost->include_request_attempt_count = vhost->has_include_request_attempt_count = true;
    return vhost;
}

static void push_vhost(struct filling *f, Xds__VirtualHost *vhost)
{
    if (vhost->n_domains > 0)
        CP_PUSH(f->t, f->config->virtual_hosts, f->config->n_virtual_hosts, vhost);
}

/*
 * The rules of its VirtualService; where there is none, or none applies to this proxy, simply the
 * service.
 */
static void add_service_routes(struct filling *f, Xds__VirtualHost *vhost,
                               const struct lt_service *s, const struct lt_port *port)
{
    const struct lt_routes *routes = cp_routes_for(f->t, s->host);
    bool takes_all = false;
    if (routes != NULL && routes->spec->http.count > 0) {
        struct cp_rule_scope scope = {routes, f->port, LT_STR("mesh")};
        takes_all = cp_add_rules(f->t, &scope, vhost);
    }
    /* a rule that is left out sends its requests where they would go without it */
    bool has_gap = routes != NULL && routes->is_left_out != NULL && !takes_all;
    if (vhost->n_routes == 0 || has_gap)
        CP_PUSH(f->t, vhost->routes, vhost->n_routes, cp_default_route(f->t, s, port));
}

static const struct lt_port *find_http_port(const struct cp_translation *t,
                                            const struct lt_service *s, uint16_t number)
{
    if (s->alias_of.len > 0 || !lt_service_is_visible(t->model, s, t->node->ns))
        return NULL;
    const struct lt_port *port = lt_service_find_port(s, number);
    return port != NULL && lt_port_is_http(port->protocol) ? port : NULL;
}

static bool is_service_host(const struct cp_translation *t, const struct lt_routes *routes,
                            lt_str host, uint16_t port)
{
    if (!lt_host_is_wildcard(host)) {
        const struct lt_service *s = lt_model_find_service(t->model, host);
        return s != NULL && find_http_port(t, s, port) != NULL &&
               cp_routes_for(t, s->host) == routes;
    }
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *s = &t->model->services[i];
        if (find_http_port(t, s, port) != NULL && lt_host_is_subset(s->host, host) &&
            cp_routes_for(t, s->host) == routes)
            return true;
    }
    return false;
}

/*
 * Hosts of VirtualServices that are no service with this port: on the ports of the services that
 * the same VirtualService has, else on port 80 alone (xds.md 12).
 */
static void add_foreign_hosts(struct filling *f, const struct lt_routes *routes)
{
    struct cp_translation *t = f->t;
    bool has_service = false;
    for (size_t i = 0; i < routes->hosts.count; i++)
        has_service |= is_service_host(t, routes, routes->hosts.items[i], f->port);
    if (!has_service && f->port != 80)
        return;
    for (size_t i = 0; i < routes->hosts.count; i++) {
        lt_str host = routes->hosts.items[i];
        if (is_service_host(t, routes, host, f->port))
            continue;
        Xds__VirtualHost *vhost = new_vhost(f, host);
        struct cp_rule_scope scope = {routes, f->port, LT_STR("mesh")};
        cp_add_rules(t, &scope, vhost);
        if (vhost->n_routes == 0)
            continue;
        add_domain(f, vhost, cp_z(t, host));
        push_vhost(f, vhost);
    }
}

static int cmp_vhosts(const void *a, const void *b)
{
    return strcmp((*(Xds__VirtualHost *const *)a)->name, (*(Xds__VirtualHost *const *)b)->name);
}

static Xds__VirtualHost *catch_all(struct filling *f)
{
    struct cp_translation *t = f->t;
    bool allows = t->model->mesh.allows_any_outbound;
    Xds__VirtualHost *vhost = CP_NEW(t, Xds__VirtualHost, xds__virtual_host);
    vhost->name = allows ? "allow_any" : "block_all";
    vhost->include_request_attempt_count = vhost->has_include_request_attempt_count = true;
    CP_PUSH(t, vhost->domains, vhost->n_domains, "*");
    Xds__Route *route = new_route(t, vhost->name, CP_PASSTHROUGH);
    if (!allows) {
        route->action_case = XDS__ROUTE__ACTION_DIRECT_RESPONSE;
        route->direct_response = CP_NEW(t, Xds__DirectResponseAction, xds__direct_response_action);
        route->direct_response->status = 502;
        route->direct_response->has_status = true;
    }
    CP_PUSH(t, vhost->routes, vhost->n_routes, route);
    return vhost;
}

/* Services first, so that a VirtualService's host never takes a service's name away. */
static void emit_port(struct cp_translation *t, uint16_t port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    struct filling f = {.t = t, .config = cp_route_config(t, cp_zf(t, "%u", port)), .port = port};
    lt_map_init(&f.domains);
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *s = &t->model->services[i];
        const struct lt_port *p = find_http_port(t, s, port);
        if (p == NULL)
            continue;
        Xds__VirtualHost *vhost = new_vhost(&f, s->host);
        add_all_names(&f, vhost, s);
        add_service_routes(&f, vhost, s, p);
        push_vhost(&f, vhost);
    }
    for (size_t i = 0; i < t->model->routes_count; i++) {
        const struct lt_routes *routes = &t->model->routes[i];
        if (cp_is_bound(t, routes, LT_STR("mesh")) && routes->spec->http.count > 0)
            add_foreign_hosts(&f, routes);
    }
    lt_sort(f.config->virtual_hosts, f.config->n_virtual_hosts, sizeof(void *), cmp_vhosts);
    CP_PUSH(t, f.config->virtual_hosts, f.config->n_virtual_hosts, catch_all(&f));
    cp_emit(t, lt_str_of(f.config->name), f.config);
    lt_map_fini(&f.domains);
    lt_arena_rollback(t->arena, mark);
}

/* For the listener of one service's address: whatever Host says, it is this service. */
static void emit_sniffed(struct cp_translation *t, const struct lt_service *s,
                         const struct lt_port *port)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    const char *name = cp_zf(t, "%.*s:%u", LT_STR_ARG(s->host), port->number);
    struct filling f = {.t = t, .config = cp_route_config(t, name), .port = port->number};
    Xds__VirtualHost *vhost = new_vhost(&f, s->host);
    CP_PUSH(t, vhost->domains, vhost->n_domains, "*");
    add_service_routes(&f, vhost, s, port);
    push_vhost(&f, vhost);
    cp_emit(t, lt_str_of(name), f.config);
    lt_arena_rollback(t->arena, mark);
}

void cp_translate_routes(struct cp_translation *t)
{
    bool *is_done = lt_arena_make_n(t->arena, bool, UINT16_MAX + 1);
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *s = &t->model->services[i];
        if (s->alias_of.len > 0 || !lt_service_is_visible(t->model, s, t->node->ns))
            continue;
        for (size_t p = 0; p < s->port_count; p++) {
            const struct lt_port *port = &s->ports[p];
            if (lt_port_is_http(port->protocol) && !is_done[port->number])
                emit_port(t, port->number);
            is_done[port->number] |= lt_port_is_http(port->protocol);
            if (port->protocol == LT_PORT_AUTO && s->address.len > 0)
                emit_sniffed(t, s, port);
        }
    }
}
