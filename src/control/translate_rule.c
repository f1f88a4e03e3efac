/*
 * control/translate_rule.c - the http rules of a VirtualService as routes (xds.md 12, networking.md
 * 2.1 to 2.6). A rule gives a route for each of its matches; conditions that are about the caller
 * (port, gateways, labels) are decided here, for this proxy, and never sent.
 */
#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/base64.h"
#include "wire/proto/http_cors.pb-c.h"
#include "wire/proto/http_fault.pb-c.h"

enum { GRPC_STATUS_COUNT = 17 };

/* ---- who it is for ---- */

static bool is_match_for(const struct cp_translation *t, const struct cp_rule_scope *scope,
                         const struct lt_http_match *m)
{
    if (m->port.is_set && m->port.value != scope->port)
        return false;
    for (size_t i = 0; i < m->gateways.count; i++) {
        if (lt_str_eq(lt_gateway_name(t->arena, m->gateways.items[i], scope->routes->ns),
                      scope->gateway))
            return true; /* labels and namespace are not looked at then */
    }
    if (m->gateways.count > 0)
        return false;
    if (m->source_namespace.len > 0 && !lt_str_eq(m->source_namespace, t->node->ns))
        return false;
    return lt_kvs_contain(t->labels, &m->source_labels);
}

/* A claim that we don't translate yet must not become a rule for everybody. */
static bool has_claims(const struct lt_http_match *m)
{
    for (size_t i = 0; i < m->headers.count; i++) {
        if (lt_str_starts(m->headers.keys[i], LT_STR("@request.auth.claims")))
            return true;
    }
    return false;
}

/* ---- match ---- */

static bool is_presence(const struct lt_string_match *m)
{
    return (m->exact.ptr == NULL && m->prefix.ptr == NULL && m->regex.ptr == NULL) ||
           lt_str_eq(m->regex, LT_STR("*"));
}

static void add_header_match(struct cp_translation *t, Xds__RouteMatch *match, lt_str name,
                             const struct lt_string_match *from, bool is_inverted)
{
    Xds__HeaderMatcher *h = CP_NEW(t, Xds__HeaderMatcher, xds__header_matcher);
    h->name = cp_z(t, name);
    h->invert_match = h->has_invert_match = is_inverted;
    if (is_presence(from)) {
        h->header_match_specifier_case = XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH;
        h->present_match = true;
    } else {
        h->header_match_specifier_case = XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH;
        h->string_match = cp_string_match(t, from);
        h->treat_missing_header_as_empty = h->has_treat_missing_header_as_empty = is_inverted;
    }
    CP_PUSH(t, match->headers, match->n_headers, h);
}

static void add_query_match(struct cp_translation *t, Xds__RouteMatch *match, lt_str name,
                            const struct lt_string_match *from)
{
    Xds__QueryParameterMatcher *q = CP_NEW(t, Xds__QueryParameterMatcher,
                                           xds__query_parameter_matcher);
    q->name = cp_z(t, name);
    if (is_presence(from)) {
        q->query_parameter_match_specifier_case =
            XDS__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH;
        q->present_match = true;
    } else {
        q->query_parameter_match_specifier_case =
            XDS__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH;
        q->string_match = cp_string_match(t, from);
    }
    CP_PUSH(t, match->query_parameters, match->n_query_parameters, q);
}

static void set_path(struct cp_translation *t, Xds__RouteMatch *match,
                     const struct lt_string_match *uri)
{
    match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
    match->prefix = "/";
    if (uri == NULL)
        return;
    if (uri->exact.ptr != NULL) {
        match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_PATH;
        match->path = cp_z(t, uri->exact);
    } else if (uri->regex.ptr != NULL) {
        match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX;
        match->safe_regex = CP_NEW(t, Xds__RegexMatcher, xds__regex_matcher);
        match->safe_regex->regex = cp_z(t, lt_str_eq(uri->regex, LT_STR("*")) ? LT_STR(".*")
                                                                              : uri->regex);
    } else if (uri->prefix.ptr != NULL) {
        match->prefix = cp_z(t, uri->prefix);
    }
}

/* m NULL: a rule without match. */
static Xds__RouteMatch *make_match(struct cp_translation *t, const struct lt_http_match *m)
{
    Xds__RouteMatch *match = CP_NEW(t, Xds__RouteMatch, xds__route_match);
    set_path(t, match, m != NULL ? m->uri : NULL);
    if (m == NULL)
        return match;
    match->case_sensitive = cp_bool(t, !m->ignore_uri_case.value);
    for (size_t i = 0; i < m->headers.count; i++)
        add_header_match(t, match, m->headers.keys[i], &m->headers.items[i], false);
    for (size_t i = 0; i < m->without_headers.count; i++)
        add_header_match(t, match, m->without_headers.keys[i], &m->without_headers.items[i], true);
    if (m->method != NULL)
        add_header_match(t, match, LT_STR(":method"), m->method, false);
    if (m->authority != NULL)
        add_header_match(t, match, LT_STR(":authority"), m->authority, false);
    if (m->scheme != NULL)
        add_header_match(t, match, LT_STR(":scheme"), m->scheme, false);
    for (size_t i = 0; i < m->query_params.count; i++)
        add_query_match(t, match, m->query_params.keys[i], &m->query_params.items[i]);
    return match;
}

static bool takes_all(const Xds__RouteMatch *match)
{
    if (match->n_headers + match->n_query_parameters > 0)
        return false;
    if (match->path_specifier_case == XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX)
        return strcmp(match->prefix, "/") == 0;
    return match->path_specifier_case == XDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX &&
           strcmp(match->safe_regex->regex, ".*") == 0;
}

/* ---- headers ---- */

static bool is_authority(lt_str name)
{
    return lt_str_case_eq(name, LT_STR("host")) || lt_str_eq(name, LT_STR(":authority"));
}

struct header_lists {
    Xds__HeaderValueOption ***add;
    size_t *n_add;
    const char ***remove;
    size_t *n_remove;
};

static void add_header(struct cp_translation *t, struct header_lists *to, const struct lt_kv *kv,
                       bool overwrites)
{
    Xds__HeaderValueOption *option = CP_NEW(t, Xds__HeaderValueOption, xds__header_value_option);
    option->header = CP_NEW(t, Xds__HeaderValue, xds__header_value);
    option->header->key = cp_z(t, kv->key);
    option->header->value = cp_z(t, kv->value);
    option->append_action =
        XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD;
    option->has_append_action = overwrites;
    if (!overwrites)
        option->append_action =
            XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD;
    CP_PUSH(t, *to->add, *to->n_add, option);
}

static void add_ops(struct cp_translation *t, const struct lt_header_ops *ops,
                    struct header_lists to)
{
    if (ops == NULL)
        return;
    for (size_t i = 0; i < ops->set.count; i++) {
        if (!is_authority(ops->set.items[i].key))
            add_header(t, &to, &ops->set.items[i], true);
    }
    for (size_t i = 0; i < ops->add.count; i++) {
        if (!is_authority(ops->add.items[i].key))
            add_header(t, &to, &ops->add.items[i], false);
    }
    for (size_t i = 0; i < ops->remove.count; i++)
        CP_PUSH(t, *to.remove, *to.n_remove, cp_z(t, ops->remove.items[i]));
}

/* A Host header that is set or added is a host rewrite; setting counts before adding. */
static const char *authority_of(struct cp_translation *t, const struct lt_vs_headers *headers)
{
    const struct lt_header_ops *ops = headers != NULL ? headers->request : NULL;
    const struct lt_kvs *lists[] = {ops != NULL ? &ops->set : NULL, ops != NULL ? &ops->add : NULL};
    for (size_t l = 0; l < LT_ARRAY_LEN(lists) && ops != NULL; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            if (is_authority(lists[l]->items[i].key))
                return cp_z(t, lists[l]->items[i].value);
        }
    }
    return NULL;
}

static void add_route_headers(struct cp_translation *t, Xds__Route *route,
                              const struct lt_vs_headers *headers)
{
    if (headers == NULL)
        return;
    add_ops(t, headers->request,
            (struct header_lists){&route->request_headers_to_add, &route->n_request_headers_to_add,
                                  &route->request_headers_to_remove,
                                  &route->n_request_headers_to_remove});
    add_ops(t, headers->response,
            (struct header_lists){
                &route->response_headers_to_add, &route->n_response_headers_to_add,
                &route->response_headers_to_remove, &route->n_response_headers_to_remove});
}

/* ---- destinations ---- */

/*
 * The port that a destination means: its own, the service's only one, or the listener's
 * (networking.md 2.2).
 */
static uint16_t destination_port(const struct lt_service *service,
                                 const struct lt_vs_destination *d, uint16_t port)
{
    if (d->port != NULL && d->port->number.is_set)
        return (uint16_t)d->port->number.value;
    return service != NULL && service->port_count == 1 ? service->ports[0].number : port;
}

struct target {
    const struct lt_service *service; /* NULL: not known; the cluster is named all the same */
    lt_str host;
    uint16_t port;
};

static struct target resolve(struct cp_translation *t, const struct lt_vs_destination *d, lt_str ns,
                             uint16_t port)
{
    struct target to = {.host = lt_host_expand(t->arena, d->host, ns, t->model->mesh.domain)};
    to.service = lt_model_find_service(t->model, to.host);
    for (int depth = 0; depth < 8 && to.service != NULL && to.service->alias_of.len > 0; depth++) {
        to.host = to.service->alias_of;
        to.service = lt_model_find_service(t->model, to.host);
    }
    to.port = destination_port(to.service, d, port);
    return to;
}

const char *cp_destination_cluster(struct cp_translation *t,
                                   const struct lt_vs_destination *destination, lt_str ns,
                                   uint16_t port)
{
    struct target to = resolve(t, destination, ns, port);
    return cp_cluster_name(t, to.port, destination->subset, to.host);
}

static bool add_hash(struct cp_translation *t, Xds__RouteAction *action,
                     const struct lt_vs_destination *d, const struct target *to)
{
    if (to->service == NULL)
        return false;
    struct cp_policy policy = cp_policy_for(t, to->service, to->port, d->subset);
    cp_add_hash_policy(t, action, &policy);
    return policy.load_balancer != NULL && policy.load_balancer->consistent_hash != NULL;
}

static void add_weight(struct cp_translation *t, Xds__RouteAction *action,
                       const struct lt_http_dest *dest, const struct target *to)
{
    Xds__WeightedCluster__ClusterWeight *w = CP_NEW(t, Xds__WeightedCluster__ClusterWeight,
                                                    xds__weighted_cluster__cluster_weight);
    w->name = cp_cluster_name(t, to->port, dest->destination->subset, to->host);
    w->weight = cp_u32(t, (uint32_t)dest->weight.value);
    if (dest->headers != NULL) {
        add_ops(t, dest->headers->request,
                (struct header_lists){&w->request_headers_to_add, &w->n_request_headers_to_add,
                                      &w->request_headers_to_remove,
                                      &w->n_request_headers_to_remove});
        add_ops(t, dest->headers->response,
                (struct header_lists){&w->response_headers_to_add, &w->n_response_headers_to_add,
                                      &w->response_headers_to_remove,
                                      &w->n_response_headers_to_remove});
        const char *authority = authority_of(t, dest->headers);
        if (authority != NULL) {
            w->host_rewrite_specifier_case =
                XDS__WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
            w->host_rewrite_literal = authority;
        }
    }
    CP_PUSH(t, action->weighted_clusters->clusters, action->weighted_clusters->n_clusters, w);
}

static bool add_weights(struct cp_translation *t, const struct cp_rule_scope *scope,
                        Xds__RouteAction *action, const struct lt_http_route *rule)
{
    bool is_hashed = false;
    action->cluster_specifier_case = XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
    action->weighted_clusters = CP_NEW(t, Xds__WeightedCluster, xds__weighted_cluster);
    for (size_t i = 0; i < rule->route.count; i++) {
        const struct lt_http_dest *dest = &rule->route.items[i];
        if (dest->weight.value == 0)
            continue;
        struct target to = resolve(t, dest->destination, scope->routes->ns, scope->port);
        add_weight(t, action, dest, &to);
        is_hashed |= add_hash(t, action, dest->destination, &to);
    }
    return is_hashed;
}

/* ---- mirror, fault, CORS ---- */

static void add_mirror(struct cp_translation *t, const struct cp_rule_scope *scope,
                       Xds__RouteAction *action, const struct lt_vs_destination *d, double percent)
{
    if (percent <= 0)
        return;
    Xds__RouteAction__RequestMirrorPolicy *m = CP_NEW(t, Xds__RouteAction__RequestMirrorPolicy,
                                                      xds__route_action__request_mirror_policy);
    m->cluster = cp_destination_cluster(t, d, scope->routes->ns, scope->port);
    m->runtime_fraction = cp_runtime_fraction(t, percent);
    m->trace_sampled = cp_bool(t, false);
    m->disable_shadow_host_suffix_append = m->has_disable_shadow_host_suffix_append = true;
    CP_PUSH(t, action->request_mirror_policies, action->n_request_mirror_policies, m);
}

static void add_mirrors(struct cp_translation *t, const struct cp_rule_scope *scope,
                        Xds__RouteAction *action, const struct lt_http_route *rule)
{
    if (rule->mirror != NULL) {
        double percent = rule->mirror_percentage != NULL
                             ? rule->mirror_percentage->value.value
                             : (double)lt_opt_or(rule->mirror_percent, 100);
        add_mirror(t, scope, action, rule->mirror, percent);
    }
    for (size_t i = 0; i < rule->mirrors.count; i++) {
        const struct lt_http_mirror *m = &rule->mirrors.items[i];
        add_mirror(t, scope, action, m->destination,
                   m->percentage != NULL ? m->percentage->value.value : 100);
    }
}

static void add_filter_config(struct cp_translation *t, Xds__Route *route, const char *name,
                              void *config)
{
    Xds__Route__TypedPerFilterConfigEntry *entry = CP_NEW(
        t, Xds__Route__TypedPerFilterConfigEntry, xds__route__typed_per_filter_config_entry);
    entry->key = name;
    entry->value = lt_any_pack(t->arena, config);
    CP_PUSH(t, route->typed_per_filter_config, route->n_typed_per_filter_config, entry);
}

/* New and old way to say how many; nothing said is nobody. */
static Xds__FractionalPercent *fault_percent(struct cp_translation *t,
                                             const struct lt_percent *percentage,
                                             struct lt_opt percent)
{
    if (percentage != NULL)
        return cp_fraction(t, percentage->value.value);
    Xds__FractionalPercent *f = CP_NEW(t, Xds__FractionalPercent, xds__fractional_percent);
    f->numerator = (uint32_t)percent.value;
    f->has_numerator = percent.value != 0;
    return f;
}

static bool find_grpc_status(lt_str name, uint32_t *ret_status)
{
    static const char *const names[GRPC_STATUS_COUNT] = {"OK",
                                                         "CANCELLED",
                                                         "UNKNOWN",
                                                         "INVALID_ARGUMENT",
                                                         "DEADLINE_EXCEEDED",
                                                         "NOT_FOUND",
                                                         "ALREADY_EXISTS",
                                                         "PERMISSION_DENIED",
                                                         "RESOURCE_EXHAUSTED",
                                                         "FAILED_PRECONDITION",
                                                         "ABORTED",
                                                         "OUT_OF_RANGE",
                                                         "UNIMPLEMENTED",
                                                         "INTERNAL",
                                                         "UNAVAILABLE",
                                                         "DATA_LOSS",
                                                         "UNAUTHENTICATED"};
    for (uint32_t i = 0; i < GRPC_STATUS_COUNT; i++) {
        if (lt_str_eqz(name, names[i])) {
            *ret_status = i;
            return true;
        }
    }
    return false;
}

static Xds__FaultAbort *make_abort(struct cp_translation *t, const struct lt_fault_abort *from)
{
    Xds__FaultAbort *abort_ = CP_NEW(t, Xds__FaultAbort, xds__fault_abort);
    uint32_t grpc = 0;
    if (from->grpc_status.len > 0 && find_grpc_status(from->grpc_status, &grpc)) {
        abort_->error_type_case = XDS__FAULT_ABORT__ERROR_TYPE_GRPC_STATUS;
        abort_->grpc_status = grpc;
    } else if (from->http_status.is_set) {
        abort_->error_type_case = XDS__FAULT_ABORT__ERROR_TYPE_HTTP_STATUS;
        abort_->http_status = (uint32_t)from->http_status.value;
    } else {
        return NULL;
    }
    abort_->percentage = fault_percent(t, from->percentage, (struct lt_opt){0});
    return abort_;
}

static void add_fault(struct cp_translation *t, Xds__Route *route, const struct lt_http_fault *from)
{
    if (from == NULL)
        return;
    Xds__HTTPFault *fault = CP_NEW(t, Xds__HTTPFault, xds__httpfault);
    if (from->delay != NULL) {
        fault->delay = CP_NEW(t, Xds__FaultDelay, xds__fault_delay);
        fault->delay->fault_delay_secifier_case =
            XDS__FAULT_DELAY__FAULT_DELAY_SECIFIER_FIXED_DELAY;
        fault->delay->fixed_delay = cp_duration(t, from->delay->fixed_delay.value);
        fault->delay->percentage = fault_percent(t, from->delay->percentage, from->delay->percent);
    }
    if (from->abort != NULL)
        fault->abort = make_abort(t, from->abort);
    if (fault->delay != NULL || fault->abort != NULL)
        add_filter_config(t, route, "envoy.filters.http.fault", fault);
}

static const char *join(struct cp_translation *t, const struct lt_strs *strs)
{
    const char *out = NULL;
    for (size_t i = 0; i < strs->count; i++)
        out = cp_zf(t, "%s%s%.*s", out != NULL ? out : "", out != NULL ? "," : "",
                    LT_STR_ARG(strs->items[i]));
    return out;
}

static void add_cors(struct cp_translation *t, Xds__Route *route, const struct lt_http_cors *from)
{
    if (from == NULL)
        return;
    Xds__CorsPolicy *cors = CP_NEW(t, Xds__CorsPolicy, xds__cors_policy);
    for (size_t i = 0; i < from->allow_origins.count; i++)
        CP_PUSH(t, cors->allow_origin_string_match, cors->n_allow_origin_string_match,
                cp_string_match(t, &from->allow_origins.items[i]));
    for (size_t i = 0; i < from->allow_origin.count && from->allow_origins.count == 0; i++)
        CP_PUSH(t, cors->allow_origin_string_match, cors->n_allow_origin_string_match,
                cp_string_exact(t, cp_z(t, from->allow_origin.items[i])));
    cors->allow_methods = join(t, &from->allow_methods);
    cors->allow_headers = join(t, &from->allow_headers);
    cors->expose_headers = join(t, &from->expose_headers);
    if (from->max_age.is_set)
        cors->max_age = cp_zf(t, "%lld", (long long)(from->max_age.value / (int64_t)LT_NS_PER_S));
    if (from->allow_credentials.is_set)
        cors->allow_credentials = cp_bool(t, from->allow_credentials.value);
    cors->filter_enabled = CP_NEW(t, Xds__RuntimeFractionalPercent,
                                  xds__runtime_fractional_percent);
    cors->filter_enabled->default_value = fault_percent(t, NULL, (struct lt_opt){100, true});
    cors->forward_not_matching_preflights = cp_bool(t, from->unmatched_preflights.value !=
                                                           LT_CORS_PREFLIGHT_IGNORE);
    add_filter_config(t, route, "envoy.filters.http.cors", cors);
}

/* ---- actions ---- */

static void set_rewrite(struct cp_translation *t, Xds__RouteAction *action,
                        const struct lt_http_route *rule)
{
    const char *authority = authority_of(t, rule->headers);
    if (authority == NULL && rule->route.count == 1)
        authority = authority_of(t, rule->route.items[0].headers);
    const struct lt_http_rewrite *rewrite = rule->rewrite;
    if (rewrite != NULL && rewrite->authority.len > 0)
        authority = cp_z(t, rewrite->authority);
    if (authority != NULL) {
        action->host_rewrite_specifier_case =
            XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
        action->host_rewrite_literal = authority;
    }
    if (rewrite != NULL && rewrite->uri.len > 0)
        action->prefix_rewrite = cp_z(t, rewrite->uri);
    if (rewrite != NULL && rewrite->uri_regex != NULL) {
        action->regex_rewrite = CP_NEW(t, Xds__RegexMatchAndSubstitute,
                                       xds__regex_match_and_substitute);
        action->regex_rewrite->pattern = CP_NEW(t, Xds__RegexMatcher, xds__regex_matcher);
        action->regex_rewrite->pattern->regex = cp_z(t, rewrite->uri_regex->match);
        action->regex_rewrite->substitution = cp_z(t, rewrite->uri_regex->rewrite);
    }
}

static void set_forward(struct cp_translation *t, const struct cp_rule_scope *scope,
                        Xds__Route *route, const struct lt_http_route *rule)
{
    Xds__RouteAction *action = CP_NEW(t, Xds__RouteAction, xds__route_action);
    bool is_hashed = false;
    route->action_case = XDS__ROUTE__ACTION_ROUTE;
    route->route = action;
    if (rule->route.count == 1) {
        const struct lt_vs_destination *d = rule->route.items[0].destination;
        struct target to = resolve(t, d, scope->routes->ns, scope->port);
        action->cluster_specifier_case = XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
        action->cluster = cp_cluster_name(t, to.port, d->subset, to.host);
        is_hashed = add_hash(t, action, d, &to);
        add_route_headers(t, route, rule->route.items[0].headers);
    } else {
        add_weights(t, scope, action, rule);
    }
    set_rewrite(t, action, rule);
    action->timeout = cp_duration(t, rule->timeout.value);
    action->max_grpc_timeout = cp_duration(t, rule->timeout.value);
    cp_set_retries(t, action, rule->retries, is_hashed);
    add_mirrors(t, scope, action, rule);
}

static bool set_redirect_code(Xds__RedirectAction *redirect, int64_t code)
{
    static const struct {
        int64_t status;
        Xds__RedirectAction__RedirectResponseCode code;
    } codes[] = {
        {301, XDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__MOVED_PERMANENTLY},
        {302, XDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__FOUND},
        {303, XDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__SEE_OTHER},
        {307, XDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__TEMPORARY_REDIRECT},
        {308, XDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__PERMANENT_REDIRECT},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(codes); i++) {
        if (codes[i].status == code) {
            redirect->response_code = codes[i].code;
            redirect->has_response_code = codes[i].code != 0;
            return true;
        }
    }
    return false;
}

/* False: a code that Envoy has no word for; Istio drops the action then. */
static bool set_redirect(struct cp_translation *t, const struct cp_rule_scope *scope,
                         Xds__Route *route, const struct lt_http_redirect *from)
{
    Xds__RedirectAction *redirect = CP_NEW(t, Xds__RedirectAction, xds__redirect_action);
    if (!set_redirect_code(redirect, lt_opt_or(from->redirect_code, 301)))
        return false;
    if (from->authority.len > 0)
        redirect->host_redirect = cp_z(t, from->authority);
    if (from->uri.len > 0) {
        redirect->path_rewrite_specifier_case =
            XDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT;
        redirect->path_redirect = cp_z(t, from->uri);
    } else if (from->prefix_rewrite.len > 0) {
        redirect->path_rewrite_specifier_case =
            XDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE;
        redirect->prefix_rewrite = cp_z(t, from->prefix_rewrite);
    }
    if (from->scheme.len > 0) {
        redirect->scheme_rewrite_specifier_case =
            XDS__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT;
        redirect->scheme_redirect = cp_z(t, from->scheme);
    }
    int64_t port = from->derive_port.is_set && from->derive_port.value == LT_REDIRECT_PORT_REQUEST
                       ? scope->port
                       : from->port.value;
    bool is_https = lt_str_eq(from->scheme, LT_STR("https"));
    bool is_default = port == (is_https ? 443 : 80);
    redirect->port_redirect = is_default ? 0 : (uint32_t)port;
    redirect->has_port_redirect = redirect->port_redirect != 0;
    route->action_case = XDS__ROUTE__ACTION_REDIRECT;
    route->redirect = redirect;
    return true;
}

static void set_body(struct cp_translation *t, Xds__DirectResponseAction *direct,
                     const struct lt_http_body *body)
{
    direct->body = CP_NEW(t, Xds__DataSource, xds__data_source);
    if (body->bytes.ptr == NULL) {
        direct->body->specifier_case = XDS__DATA_SOURCE__SPECIFIER_INLINE_STRING;
        direct->body->inline_string = cp_z(t, body->string);
        return;
    }
    lt_str bytes = LT_STR("");
    if (lt_base64_decode(t->arena, body->bytes, &bytes) != LT_OK)
        LT_UNREACHABLE(); /* the model has seen to that */
    direct->body->specifier_case = XDS__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
    direct->body->inline_bytes = (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.ptr};
}

static void set_direct(struct cp_translation *t, Xds__Route *route,
                       const struct lt_http_direct *from)
{
    Xds__DirectResponseAction *direct = CP_NEW(t, Xds__DirectResponseAction,
                                               xds__direct_response_action);
    direct->status = (uint32_t)from->status.value;
    direct->has_status = true;
    if (from->body != NULL)
        set_body(t, direct, from->body);
    route->action_case = XDS__ROUTE__ACTION_DIRECT_RESPONSE;
    route->direct_response = direct;
}

/* ---- a route ---- */

/*
 * What traces call it: the destination, or the VirtualService where there are several, and the path
 * of the match.
 */
static const char *describe(struct cp_translation *t, const struct cp_rule_scope *scope,
                            const struct lt_http_route *rule, const struct lt_string_match *uri)
{
    const char *path = "/*";
    if (uri != NULL && uri->exact.ptr != NULL)
        path = cp_z(t, uri->exact);
    else if (uri != NULL && uri->regex.ptr != NULL)
        path = cp_z(t, uri->regex);
    else if (uri != NULL && uri->prefix.ptr != NULL)
        path = cp_zf(t, "%.*s*", LT_STR_ARG(uri->prefix));
    bool has_one = rule->route.count == 1 && rule->redirect == NULL &&
                   rule->direct_response == NULL;
    if (!has_one)
        return cp_zf(t, "%.*s:%u%s", LT_STR_ARG(scope->routes->object->key.name), scope->port,
                     path);
    struct target to = resolve(t, rule->route.items[0].destination, scope->routes->ns, scope->port);
    return cp_zf(t, "%.*s:%u%s", LT_STR_ARG(to.host), to.port, path);
}

static Xds__Route *make_route(struct cp_translation *t, const struct cp_rule_scope *scope,
                              const struct lt_http_route *rule, const struct lt_http_match *m)
{
    Xds__Route *route = CP_NEW(t, Xds__Route, xds__route);
    if (rule->name.len > 0 && m != NULL && m->name.len > 0)
        route->name = cp_zf(t, "%.*s.%.*s", LT_STR_ARG(rule->name), LT_STR_ARG(m->name));
    else if (rule->name.len > 0)
        route->name = cp_z(t, rule->name);
    route->match = make_match(t, m);
    route->metadata = cp_object_metadata(t, scope->routes->object);
    route->decorator = CP_NEW(t, Xds__Decorator, xds__decorator);
    route->decorator->operation = describe(t, scope, rule, m != NULL ? m->uri : NULL);
    if (m != NULL && m->stat_prefix.len > 0)
        route->stat_prefix = cp_z(t, m->stat_prefix);
    add_route_headers(t, route, rule->headers);
    if (rule->redirect != NULL) {
        if (!set_redirect(t, scope, route, rule->redirect))
            return NULL;
    } else if (rule->direct_response != NULL) {
        set_direct(t, route, rule->direct_response);
    } else {
        set_forward(t, scope, route, rule);
    }
    add_fault(t, route, rule->fault);
    add_cors(t, route, rule->cors_policy);
    return route;
}

/* True when the route takes everything that is left. */
static bool add_route(struct cp_translation *t, const struct cp_rule_scope *scope,
                      const struct lt_http_route *rule, const struct lt_http_match *m,
                      Xds__VirtualHost *vhost)
{
    Xds__Route *route = make_route(t, scope, rule, m);
    if (route == NULL)
        return false;
    CP_PUSH(t, vhost->routes, vhost->n_routes, route);
    return takes_all(route->match);
}

bool cp_add_rules(struct cp_translation *t, const struct cp_rule_scope *scope,
                  Xds__VirtualHost *vhost)
{
    const struct lt_virtual_service *vs = scope->routes->spec;
    for (size_t i = 0; i < vs->http.count; i++) {
        const struct lt_http_route *rule = &vs->http.items[i];
        bool is_left_out = scope->routes->is_left_out != NULL && scope->routes->is_left_out[i];
        if (is_left_out || rule->delegate != NULL)
            continue;
        if (rule->match.count == 0 && add_route(t, scope, rule, NULL, vhost))
            return true;
        for (size_t j = 0; j < rule->match.count; j++) {
            const struct lt_http_match *m = &rule->match.items[j];
            if (is_match_for(t, scope, m) && !has_claims(m) && add_route(t, scope, rule, m, vhost))
                return true;
        }
    }
    return false;
}
