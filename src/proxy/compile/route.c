/*
 * proxy/compile/route.c - one Route: what it matches, what it does with a request.
 * Start at: px_make_route(). Matching at run time: route_match.c; the action: router.c, edits.c.
 */
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/compile/meta.h"
#include "proxy/compile/mutations.h"
#include "proxy/conf/uri_template.h"
#include "wire/proto/path_match_template.pb-c.h"
#include "wire/proto/path_rewrite_template.pb-c.h"
#include "wire/struct.h"

enum {
    ROUTE_TIMEOUT_DEFAULT_MS = 15000, /* RouteAction.timeout */
    DIRECT_BODY_MAX = 1 << 20,
};

/* --- matching --- */

/* A path template, as a regular expression of the whole path. */
static lt_rc make_template(struct px_build *build, const Xds__TypedExtensionConfig *in,
                           struct px_route *route, const struct px_uri_template **ret_template)
{
    static const char field[] = "match.path_match_policy";
    Xds__UriTemplateMatchConfig *config = NULL;
    struct px_uri_template *parsed = lt_arena_make(build->scratch, struct px_uri_template);
    struct lt_err inner = {0};
    struct lt_regex *regex = NULL;
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__uri_template_match_config__descriptor.name))
        return px_unsupported(build, field, "%.*s is not supported", LT_STR_ARG(type));
    LT_TRY(px_unpack_any(build, field, in->typed_config,
                         &xds__uri_template_match_config__descriptor, &config));
    if (px_uri_template_parse(build->scratch, lt_str_of(config->path_template), parsed, &inner) !=
        LT_OK)
        return px_bad(build, field, "%s", inner.text);
    lt_str whole = lt_arena_printf(build->scratch, "^%.*s$", LT_STR_ARG(parsed->regex));
    if (lt_regex_new(whole, &regex, &inner) != LT_OK)
        return px_bad(build, field, "%s", inner.text);
    lt_vec_push(&build->regexes, regex);
    route->path_regex = regex;
    *ret_template = parsed;
    return LT_OK;
}

static lt_rc make_path(struct px_build *build, const Xds__RouteMatch *match, struct px_route *route,
                       const struct px_uri_template **ret_template)
{
    switch (match->path_specifier_case) {
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX:
        route->path_kind = PX_PATH_PREFIX;
        route->path = px_copy(build, match->prefix);
        return LT_OK;
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_PATH:
        route->path_kind = PX_PATH_EXACT;
        route->path = px_copy(build, match->path);
        return LT_OK;
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX:
        route->path_kind = PX_PATH_REGEX;
        return px_make_regex(build, "match.safe_regex", match->safe_regex, &route->path_regex);
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_PATH_SEPARATED_PREFIX:
        route->path_kind = PX_PATH_SEPARATED_PREFIX;
        route->path = px_copy(build, match->path_separated_prefix);
        return LT_OK;
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER:
        route->path_kind = PX_PATH_CONNECT;
        return LT_OK;
    case XDS__ROUTE_MATCH__PATH_SPECIFIER_PATH_MATCH_POLICY:
        route->path_kind = PX_PATH_REGEX;
        return make_template(build, match->path_match_policy, route, ret_template);
    default: return px_unsupported(build, "match", "this path match is not supported");
    }
}

lt_rc px_make_queries(struct px_build *build, const char *field,
                      Xds__QueryParameterMatcher *const *in, size_t count,
                      const struct px_query_match **ret_queries)
{
    struct px_query_match *queries = lt_arena_make_n(build->arena, struct px_query_match, count);
    for (size_t i = 0; i < count; i++) {
        queries[i].name = px_copy(build, in[i]->name);
        queries[i].value.kind = PX_MATCH_PRESENT;
        if (in[i]->query_parameter_match_specifier_case ==
            XDS__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH)
            LT_TRY(px_make_string_match(build, field, in[i]->string_match, &queries[i].value));
    }
    *ret_queries = queries;
    return LT_OK;
}

static lt_rc make_cookies(struct px_build *build, const Xds__RouteMatch *match,
                          struct px_route *route)
{
    struct px_cookie_match *cookies = lt_arena_make_n(build->arena, struct px_cookie_match,
                                                      match->n_cookies);
    for (size_t i = 0; i < match->n_cookies; i++) {
        const Xds__CookieMatcher *in = match->cookies[i];
        cookies[i].name = px_copy(build, in->name);
        cookies[i].invert = in->has_invert_match && in->invert_match;
        if (cookies[i].name.len == 0 || in->string_match == NULL)
            return px_bad(build, "match.cookies", "needs name and string_match");
        LT_TRY(px_make_string_match(build, "match.cookies.string_match", in->string_match,
                                    &cookies[i].value));
    }
    route->cookies = cookies;
    route->cookie_count = match->n_cookies;
    return LT_OK;
}

static px_wanted wanted(const Pb__BoolValue *value)
{
    return value == NULL ? PX_WANT_ANY : px_bool(value, false) ? PX_WANT_YES : PX_WANT_NO;
}

static lt_rc make_metas(struct px_build *build, const Xds__RouteMatch *match,
                        struct px_route *route)
{
    struct px_meta_match *metas = lt_arena_make_n(build->arena, struct px_meta_match,
                                                  match->n_dynamic_metadata);
    for (size_t i = 0; i < match->n_dynamic_metadata; i++) {
        size_t mark = px_path_enter(build, "match.dynamic_metadata", (ptrdiff_t)i);
        LT_TRY(px_make_meta_match(build, match->dynamic_metadata[i], &metas[i]));
        px_path_leave(build, mark);
    }
    route->wanted = metas;
    route->wanted_count = match->n_dynamic_metadata;
    return LT_OK;
}

static lt_rc make_match(struct px_build *build, const Xds__RouteMatch *match,
                        struct px_route *route, const struct px_uri_template **ret_template)
{
    *ret_template = NULL;
    if (match == NULL)
        return px_bad(build, "match", "is missing");
    LT_TRY(make_path(build, match, route, ret_template));
    route->ignore_case = !px_bool(match->case_sensitive, true);
    LT_TRY(px_make_header_matches(build, match->headers, match->n_headers, &route->headers));
    route->header_count = match->n_headers;
    LT_TRY(px_make_queries(build, "match.query_parameters", match->query_parameters,
                           match->n_query_parameters, &route->queries));
    route->query_count = match->n_query_parameters;
    route->grpc_only = match->grpc != NULL;
    route->runtime_fraction_ppm = 1000000;
    if (match->runtime_fraction != NULL)
        route->runtime_fraction_ppm = px_fraction_ppm(match->runtime_fraction->default_value,
                                                      1000000);
    /* what narrows a match must not be left out: the route would take what it was not meant for */
    LT_TRY(make_metas(build, match, route));
    LT_TRY(make_cookies(build, match, route));
    if (match->tls_context != NULL) {
        route->tls_presented = wanted(match->tls_context->presented);
        route->tls_validated = wanted(match->tls_context->validated);
    }
    if (match->n_filter_state > 0)
        return px_unsupported(build, "match.filter_state", "is not supported");
    return LT_OK;
}

lt_rc px_make_route_match(struct px_build *build, const Xds__RouteMatch *match,
                          struct px_route *route)
{
    const struct px_uri_template *template = NULL;
    return make_match(build, match, route, &template);
}

/* --- actions --- */

static lt_rc make_weighted(struct px_build *build, const Xds__WeightedCluster *in,
                           struct px_route *route)
{
    struct px_weighted_cluster *clusters = lt_arena_make_n(build->arena, struct px_weighted_cluster,
                                                           in->n_clusters);
    uint64_t total = 0;
    for (size_t i = 0; i < in->n_clusters; i++) {
        const Xds__WeightedCluster__ClusterWeight *weight = in->clusters[i];
        size_t mark = px_path_enter(build, "weighted_clusters.clusters", (ptrdiff_t)i);
        clusters[i].cluster = px_copy(build, weight->name);
        clusters[i].weight = px_u32(weight->weight, 0);
        LT_TRY(px_make_metadata_match(build, weight->metadata_match, route->metas,
                                      &clusters[i].metas));
        total += clusters[i].weight;
        clusters[i].header = px_copy(build, weight->cluster_header);
        if ((clusters[i].cluster.len == 0) == (clusters[i].header.len == 0))
            return px_bad(build, "name", "either name or cluster_header is needed");
        if (weight->host_rewrite_specifier_case ==
            XDS__WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL)
            clusters[i].host_rewrite = px_copy(build, weight->host_rewrite_literal);
        LT_TRY(px_make_header_edits(
            build, weight->request_headers_to_add, weight->n_request_headers_to_add,
            weight->request_headers_to_remove, weight->n_request_headers_to_remove,
            "request_headers_to_add", &clusters[i].request));
        LT_TRY(px_make_header_edits(
            build, weight->response_headers_to_add, weight->n_response_headers_to_add,
            weight->response_headers_to_remove, weight->n_response_headers_to_remove,
            "response_headers_to_add", &clusters[i].response));
        for (size_t j = 0; j < weight->n_typed_per_filter_config; j++)
            LT_TRY(px_add_filter_conf(build, weight->typed_per_filter_config[j]->key,
                                      weight->typed_per_filter_config[j]->value,
                                      weight->n_typed_per_filter_config, &clusters[i].filters));
        px_path_leave(build, mark);
    }
    if (total == 0 || total > UINT32_MAX)
        return px_bad(build, "weighted_clusters", "the sum of the weights must be between 1 and %u",
                      UINT32_MAX);
    route->weighted = clusters;
    route->weighted_count = in->n_clusters;
    route->total_weight = (uint32_t)total;
    return LT_OK;
}

static lt_rc make_destination(struct px_build *build, const Xds__RouteAction *in,
                              struct px_route *route)
{
    switch (in->cluster_specifier_case) {
    case XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER:
        route->action = PX_ACTION_CLUSTER;
        route->cluster = px_copy(build, in->cluster);
        return route->cluster.len > 0 ? LT_OK : px_bad(build, "cluster", "is empty");
    case XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER_HEADER:
        route->action = PX_ACTION_CLUSTER_HEADER;
        route->cluster = px_copy(build, in->cluster_header);
        return LT_OK;
    case XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS:
        route->action = PX_ACTION_WEIGHTED;
        return make_weighted(build, in->weighted_clusters, route);
    default: return px_unsupported(build, NULL, "cluster specifier plugins are not supported");
    }
}

/* A template takes the place of a path that matched one. */
static lt_rc make_template_rewrite(struct px_build *build, const Xds__TypedExtensionConfig *in,
                                   const struct px_uri_template *template, struct px_route *route)
{
    static const char field[] = "path_rewrite_policy";
    Xds__UriTemplateRewriteConfig *config = NULL;
    struct lt_err inner = {0};
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__uri_template_rewrite_config__descriptor.name))
        return px_unsupported(build, field, "%.*s is not supported", LT_STR_ARG(type));
    LT_TRY(px_unpack_any(build, field, in->typed_config,
                         &xds__uri_template_rewrite_config__descriptor, &config));
    if (template == NULL)
        return px_bad(build, field, "needs a path template in match.path_match_policy");
    if (px_uri_template_substitution(build->arena, template,
                                     lt_str_of(config->path_template_rewrite),
                                     &route->regex_substitution, &inner) != LT_OK)
        return px_bad(build, field, "%s", inner.text);
    route->regex_rewrite = route->path_regex;
    return LT_OK;
}

static lt_rc make_host_rewrite(struct px_build *build, const Xds__RouteAction *in,
                               struct px_route *route)
{
    route->append_forwarded_host = in->has_append_x_forwarded_host && in->append_x_forwarded_host;
    switch (in->host_rewrite_specifier_case) {
    case XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL:
        route->host_rewrite = px_copy(build, in->host_rewrite_literal);
        return LT_OK;
    case XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_AUTO_HOST_REWRITE:
        route->auto_host_rewrite = px_bool(in->auto_host_rewrite, false);
        return LT_OK;
    case XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER:
        route->host_rewrite_header = px_copy(build, in->host_rewrite_header);
        return LT_OK;
    case XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_PATH_REGEX:
        route->host_rewrite_substitution = px_copy(build,
                                                   in->host_rewrite_path_regex->substitution);
        return px_make_regex(build, "host_rewrite_path_regex", in->host_rewrite_path_regex->pattern,
                             &route->host_rewrite_regex);
    case XDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER__NOT_SET: return LT_OK;
    default: return LT_OK;
    }
}

static lt_rc make_rewrites(struct px_build *build, const Xds__RouteAction *in,
                           const struct px_uri_template *template, struct px_route *route)
{
    route->prefix_rewrite = px_copy(build, in->prefix_rewrite);
    size_t rewrites = (route->prefix_rewrite.len > 0) + (in->regex_rewrite != NULL) +
                      (in->path_rewrite_policy != NULL);
    if (rewrites > 1)
        return px_bad(build, "regex_rewrite",
                      "only one of prefix_rewrite, regex_rewrite and path_rewrite_policy may be "
                      "given");
    LT_TRY(make_host_rewrite(build, in, route));
    if (in->path_rewrite_policy != NULL)
        return make_template_rewrite(build, in->path_rewrite_policy, template, route);
    if (in->regex_rewrite != NULL) {
        LT_TRY(px_make_regex(build, "regex_rewrite", in->regex_rewrite->pattern,
                             &route->regex_rewrite));
        route->regex_substitution = px_copy(build, in->regex_rewrite->substitution);
    }
    return LT_OK;
}

static void make_durations(const Xds__RouteAction *in, struct px_route *route)
{
    route->timeout_ms = px_duration_ms(in->timeout, ROUTE_TIMEOUT_DEFAULT_MS);
    route->idle_timeout_ms = px_duration_ms(in->idle_timeout, UINT64_MAX);
}

lt_rc px_make_mirrors(struct px_build *build, Xds__RouteAction__RequestMirrorPolicy *const *in,
                      size_t count, struct px_mirrors *mirrors)
{
    struct px_mirror_conf *items = lt_arena_make_n(build->arena, struct px_mirror_conf, count);
    for (size_t i = 0; i < count; i++) {
        struct px_mirror_conf *mirror = &items[i];
        size_t mark = px_path_enter(build, "request_mirror_policies", (ptrdiff_t)i);
        mirror->cluster = px_copy(build, in[i]->cluster);
        mirror->header = px_copy(build, in[i]->cluster_header);
        mirror->host_rewrite = px_copy(build, in[i]->host_rewrite_literal);
        if ((mirror->cluster.len == 0) == (mirror->header.len == 0))
            return px_bad(build, "cluster", "either cluster or cluster_header is needed");
        mirror->fraction_ppm = in[i]->runtime_fraction == NULL
                                   ? 1000000
                                   : px_fraction_ppm(in[i]->runtime_fraction->default_value,
                                                     1000000);
        mirror->keeps_host = in[i]->has_disable_shadow_host_suffix_append &&
                             in[i]->disable_shadow_host_suffix_append;
        if (in[i]->n_request_headers_mutations > 0) {
            struct px_mutations *made = lt_arena_make(build->arena, struct px_mutations);
            LT_TRY(px_make_mutations(build, "request_headers_mutations",
                                     in[i]->request_headers_mutations,
                                     in[i]->n_request_headers_mutations, made));
            mirror->mutations = made;
        }
        px_path_leave(build, mark);
    }
    if (count > 0) /* else those of what is around it */
        *mirrors = (struct px_mirrors){items, count};
    return LT_OK;
}

/* Most routes of a mesh say the same: 0 everywhere. Those share one. */
static const struct px_stream_limits *keep_limits(struct px_build *build,
                                                  const struct px_stream_limits *limits)
{
    static const struct px_stream_limits usual[] = {
        {.has_grpc_max = true},
        {.replaces_timeout = true, .has_duration = true, .has_grpc_max = true},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(usual); i++) {
        if (limits->replaces_timeout == usual[i].replaces_timeout &&
            limits->has_duration == usual[i].has_duration && limits->has_grpc_max &&
            limits->duration_ms + limits->grpc_max_ms + limits->grpc_offset_ms == 0)
            return &usual[i];
    }
    struct px_stream_limits *kept = lt_arena_make(build->arena, struct px_stream_limits);
    *kept = *limits;
    return kept;
}

static void make_limits(struct px_build *build, const Xds__RouteAction *in, struct px_route *route)
{
    const Xds__RouteAction__MaxStreamDuration *max = in->max_stream_duration;
    struct px_stream_limits limits = {0};
    if (max != NULL) {
        limits.replaces_timeout = true;
        limits.has_duration = max->max_stream_duration != NULL;
        limits.duration_ms = px_duration_ms(max->max_stream_duration, 0);
        limits.has_grpc_max = max->grpc_timeout_header_max != NULL;
        limits.grpc_max_ms = px_duration_ms(max->grpc_timeout_header_max, 0);
        limits.grpc_offset_ms = px_duration_ms(max->grpc_timeout_header_offset, 0);
    } else if (in->max_grpc_timeout != NULL) {
        limits.has_grpc_max = true;
        limits.grpc_max_ms = px_duration_ms(in->max_grpc_timeout, 0);
        limits.grpc_offset_ms = px_duration_ms(in->grpc_timeout_offset, 0);
    } else {
        return;
    }
    route->limits = keep_limits(build, &limits);
}

static lt_rc make_upgrades(struct px_build *build, const Xds__RouteAction *in,
                           struct px_route *route)
{
    struct px_upgrade_conf *upgrades = lt_arena_make_n(build->arena, struct px_upgrade_conf,
                                                       in->n_upgrade_configs);
    for (size_t i = 0; i < in->n_upgrade_configs; i++) {
        const Xds__RouteAction__UpgradeConfig *upgrade = in->upgrade_configs[i];
        const Xds__RouteAction__UpgradeConfig__ConnectConfig *connect = upgrade->connect_config;
        upgrades[i].type = px_copy(build, upgrade->upgrade_type);
        upgrades[i].is_on = px_bool(upgrade->enabled, true);
        upgrades[i].ends_here = connect != NULL;
        if (connect == NULL)
            continue;
        if (!lt_str_case_eq(upgrades[i].type, LT_STR("CONNECT")))
            return px_bad(build, "upgrade_configs.connect_config", "is for type CONNECT alone");
        if (connect->proxy_protocol_config != NULL)
            return px_unsupported(build, "upgrade_configs.connect_config.proxy_protocol_config",
                                  "is not supported yet");
        if (connect->has_allow_post && connect->allow_post)
            return px_unsupported(build, "upgrade_configs.connect_config.allow_post",
                                  "is not supported");
    }
    route->upgrades = upgrades;
    route->upgrade_count = in->n_upgrade_configs;
    return LT_OK;
}

static lt_rc make_route_action(struct px_build *build, const Xds__RouteAction *in,
                               const struct px_vhost *vhost, const struct px_uri_template *template,
                               struct px_route *route)
{
    LT_TRY(px_make_metadata_match(build, in->metadata_match, NULL, &route->metas));
    LT_TRY(px_make_hash_policies(build, in->hash_policy, in->n_hash_policy, &route->hash));
    if (in->has_priority && in->priority == XDS__ROUTING_PRIORITY__HIGH)
        route->priority = PX_PRIORITY_HIGH;
    LT_TRY(make_destination(build, in, route));
    LT_TRY(make_rewrites(build, in, template, route));
    route->mirrors = vhost->mirrors;
    LT_TRY(px_make_mirrors(build, in->request_mirror_policies, in->n_request_mirror_policies,
                           &route->mirrors));
    LT_TRY(make_upgrades(build, in, route));
    make_durations(in, route);
    make_limits(build, in, route);
    LT_TRY(px_make_own_rate_limits(build, in->rate_limits, in->n_rate_limits, &route->rate_limits));
    switch (in->has_cluster_not_found_response_code ? in->cluster_not_found_response_code : 0) {
    case XDS__ROUTE_ACTION__CLUSTER_NOT_FOUND_RESPONSE_CODE__NOT_FOUND:
        route->cluster_not_found_code = 404;
        break;
    case XDS__ROUTE_ACTION__CLUSTER_NOT_FOUND_RESPONSE_CODE__INTERNAL_SERVER_ERROR:
        route->cluster_not_found_code = 500;
        break;
    default: route->cluster_not_found_code = 503; break;
    }
    LT_TRY(px_make_retry(build, in->retry_policy, &route->retry));
    if (in->retry_policy == NULL)
        route->retry = vhost->retry;
    return px_make_internal_redirects(build, in->internal_redirect_policy,
                                      &route->internal_redirects);
}

static lt_rc make_redirect(struct px_build *build, const Xds__RedirectAction *in,
                           struct px_route *route)
{
    static const uint32_t codes[] = {301, 302, 303, 307, 308};
    struct px_redirect *redirect = &route->redirect;
    size_t code = in->has_response_code ? in->response_code : 0;
    if (code >= LT_ARRAY_LEN(codes))
        return px_bad(build, "redirect.response_code", "unknown value %zu", code);
    route->action = PX_ACTION_REDIRECT;
    redirect->code = codes[code];
    redirect->host = px_copy(build, in->host_redirect);
    redirect->port = in->has_port_redirect ? in->port_redirect : 0;
    redirect->strip_query = in->has_strip_query && in->strip_query;
    if (in->path_rewrite_specifier_case ==
        XDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT)
        redirect->path = px_copy(build, in->path_redirect);
    else if (in->path_rewrite_specifier_case ==
             XDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE)
        redirect->prefix_rewrite = px_copy(build, in->prefix_rewrite);
    else if (in->path_rewrite_specifier_case ==
             XDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_REGEX_REWRITE) {
        LT_TRY(px_make_regex(build, "redirect.regex_rewrite", in->regex_rewrite->pattern,
                             &redirect->regex_rewrite));
        redirect->regex_substitution = px_copy(build, in->regex_rewrite->substitution);
    }
    if (in->scheme_rewrite_specifier_case ==
        XDS__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT)
        redirect->https = in->https_redirect;
    else if (in->scheme_rewrite_specifier_case ==
             XDS__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT)
        redirect->scheme = px_copy(build, in->scheme_redirect);
    return LT_OK;
}

static lt_rc make_direct(struct px_build *build, const Xds__DirectResponseAction *in,
                         struct px_route *route)
{
    route->action = PX_ACTION_DIRECT;
    route->direct_code = in->has_status ? in->status : 0;
    if (route->direct_code < 200 || route->direct_code > 599)
        return px_bad(build, "direct_response.status", "must be between 200 and 599, not %u",
                      route->direct_code);
    LT_TRY(px_make_data(build, "direct_response.body", in->body, &route->direct_body));
    if (route->direct_body.len > DIRECT_BODY_MAX)
        return px_bad(build, "direct_response.body", "is larger than %d bytes", DIRECT_BODY_MAX);
    return LT_OK;
}

static void make_decorator(struct px_build *build, const Xds__Decorator *in, struct px_route *route)
{
    if (in == NULL || !px_bool(in->propagate, true) || lt_str_of(in->operation).len == 0)
        return;
    struct px_decorator *decorator = lt_arena_make(build->arena, struct px_decorator);
    decorator->operation = px_copy(build, in->operation);
    route->decorator = decorator;
}

uint64_t px_body_limit(const Pb__UInt64Value *limit, const Pb__UInt32Value *former,
                       uint64_t otherwise)
{
    uint64_t bytes = limit != NULL ? limit->value : former != NULL ? former->value : otherwise;
    return bytes == UINT64_MAX ? bytes : LT_MIN(bytes, (uint64_t)PX_BODY_LIMIT_MAX);
}

/* --- the whole --- */

lt_rc px_make_route(struct px_build *build, const Xds__Route *in, const struct px_vhost *vhost,
                    struct px_route *route)
{
    const struct px_uri_template *template = NULL;
    route->name = px_copy(build, in->name);
    make_decorator(build, in->decorator, route);
    LT_TRY(px_make_other_meta(build, in->metadata, &route->metadata));
    route->body_limit = px_body_limit(in->request_body_buffer_limit,
                                      in->per_request_buffer_limit_bytes, vhost->body_limit);
    LT_TRY(make_match(build, in->match, route, &template));
    LT_TRY(px_make_header_edits(build, in->request_headers_to_add, in->n_request_headers_to_add,
                                in->request_headers_to_remove, in->n_request_headers_to_remove,
                                "request_headers_to_add", &route->request));
    LT_TRY(px_make_header_edits(build, in->response_headers_to_add, in->n_response_headers_to_add,
                                in->response_headers_to_remove, in->n_response_headers_to_remove,
                                "response_headers_to_add", &route->response));
    lt_str config = lt_struct_find_str(px_find_metadata(in->metadata, "istio"), "config");
    route->config_path = config.len > 0 ? lt_arena_str(build->arena, config) : LT_STR_NULL;
    for (size_t i = 0; i < in->n_typed_per_filter_config; i++)
        LT_TRY(px_add_filter_conf(build, in->typed_per_filter_config[i]->key,
                                  in->typed_per_filter_config[i]->value,
                                  in->n_typed_per_filter_config, &route->filters));
    switch (in->action_case) {
    case XDS__ROUTE__ACTION_ROUTE:
        return make_route_action(build, in->route, vhost, template, route);
    case XDS__ROUTE__ACTION_REDIRECT: return make_redirect(build, in->redirect, route);
    case XDS__ROUTE__ACTION_DIRECT_RESPONSE: return make_direct(build, in->direct_response, route);
    default: return px_unsupported(build, NULL, "this action is not supported");
    }
}
