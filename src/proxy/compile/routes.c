/*
 * proxy/compile/routes.c - RouteConfiguration to px_routes_conf: virtual hosts and the index of
 * their domains. One route: route.c.
 * Start at: px_make_routes(). Matching at run time: route_match.c.
 */
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/conf/domains.h"

/* --- virtual hosts --- */

/* mirrors is given: of the route configuration. */
static lt_rc make_vhost(struct px_build *build, const Xds__VirtualHost *in, struct px_vhost *vhost)
{
    LT_TRY(px_make_own_rate_limits(build, in->rate_limits, in->n_rate_limits, &vhost->rate_limits));
    LT_TRY(px_make_mirrors(build, in->request_mirror_policies, in->n_request_mirror_policies,
                           &vhost->mirrors));
    LT_TRY(px_make_other_meta(build, in->metadata, &vhost->metadata));
    vhost->name = px_copy(build, in->name);
    if (in->n_domains == 0)
        return px_bad(build, "domains", "a virtual host needs at least one domain");
    LT_TRY(px_make_strings(build, in->domains, in->n_domains, &vhost->domains));
    vhost->domain_count = in->n_domains;
    int tls = in->has_require_tls ? (int)in->require_tls : 0;
    vhost->require_tls_all = tls == XDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL;
    vhost->require_tls_external = tls == XDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__EXTERNAL_ONLY;
    vhost->body_limit = px_body_limit(in->request_body_buffer_limit,
                                      in->per_request_buffer_limit_bytes, UINT64_MAX);
    vhost->include_attempt_count = in->has_include_request_attempt_count &&
                                   in->include_request_attempt_count;
    vhost->tells_attempt_count = in->has_include_attempt_count_in_response &&
                                 in->include_attempt_count_in_response;
    vhost->tells_timeout_retry = in->has_include_is_timeout_retry_header &&
                                 in->include_is_timeout_retry_header;
    LT_TRY(px_make_header_edits(build, in->request_headers_to_add, in->n_request_headers_to_add,
                                in->request_headers_to_remove, in->n_request_headers_to_remove,
                                "request_headers_to_add", &vhost->request));
    LT_TRY(px_make_header_edits(build, in->response_headers_to_add, in->n_response_headers_to_add,
                                in->response_headers_to_remove, in->n_response_headers_to_remove,
                                "response_headers_to_add", &vhost->response));
    LT_TRY(px_make_retry(build, in->retry_policy, &vhost->retry));
    for (size_t i = 0; i < in->n_typed_per_filter_config; i++)
        LT_TRY(px_add_filter_conf(build, in->typed_per_filter_config[i]->key,
                                  in->typed_per_filter_config[i]->value,
                                  in->n_typed_per_filter_config, &vhost->filters));
    if (in->has_matcher)
        return px_unsupported(build, "matcher", "is not supported");
    struct px_route *routes = lt_arena_make_n(build->arena, struct px_route, in->n_routes);
    for (size_t i = 0; i < in->n_routes; i++) {
        size_t mark = px_path_enter(build, "routes", (ptrdiff_t)i);
        LT_TRY(px_make_route(build, in->routes[i], vhost, &routes[i]));
        px_path_leave(build, mark);
    }
    vhost->routes = routes;
    vhost->route_count = in->n_routes;
    return LT_OK;
}

/* --- the index of domains --- */

/* Envoy refuses a domain twice in one route configuration, whatever the case of its letters. */
static lt_rc make_index(struct px_build *build, struct px_routes_conf *ret)
{
    const struct px_vhost **vhosts = lt_arena_make_n(build->scratch, const struct px_vhost *,
                                                     ret->vhost_count);
    lt_str twice = LT_STR_NULL;
    for (size_t i = 0; i < ret->vhost_count; i++)
        vhosts[i] = &ret->vhosts[i];
    lt_rc rc = px_domains_make(build->arena, vhosts, ret->vhost_count, false, &ret->domains,
                               &twice);
    if (rc == LT_E_BAD)
        return px_bad(build, "domains", "a domain is empty");
    if (rc != LT_OK)
        return px_bad(
            build, "domains",
            "Only unique values for domains are permitted. Duplicate entry of domain %.*s",
            LT_STR_ARG(twice));
    return LT_OK;
}

/* --- on demand --- */

lt_rc px_make_vhds(struct px_build *build, const Xds__RouteConfiguration *config,
                   struct px_routes_conf *ret)
{
    const Xds__ConfigSource *source = config->vhds != NULL ? config->vhds->config_source : NULL;
    if (config->vhds == NULL)
        return LT_OK;
    lt_str name = lt_arena_printf(build->scratch, "%.*s/", LT_STR_ARG(ret->res.name));
    LT_TRY(px_refer(build, "vhds.config_source", PX_VHOST, source, name, false, &ret->vhds_row));
    const struct px_source *at = px_source_at(px_tls_slots_rows(build->slots)->sources,
                                              ret->vhds_row->source);
    if (at->kind != PX_SOURCE_ADS && (at->kind != PX_SOURCE_GRPC || at->is_sotw))
        return px_bad(build, "vhds.config_source",
                      "vhds: only 'DELTA_GRPC' is supported as an api_type.");
    ret->has_vhds = true;
    ret->vhds_source = at->id;
    return LT_OK;
}

/* It is named by who sends it: the message may call itself otherwise. */
lt_rc px_make_vhost(struct px_build *build, const Xds__VirtualHost *in, struct px_vhost_conf *conf)
{
    conf->vhost.is_on_demand = true;
    for (size_t i = 0; i < in->n_domains; i++) {
        if (in->domains[i][0] == '\0')
            return px_bad(build, "domains", "a domain is empty");
    }
    return make_vhost(build, in, &conf->vhost);
}

lt_rc px_make_routes(struct px_build *build, const Xds__RouteConfiguration *config,
                     struct px_routes_conf *ret)
{
    ret->res.name = px_copy(build, config->name);
    LT_TRY(px_make_strings(build, config->internal_only_headers, config->n_internal_only_headers,
                           &ret->internal_headers));
    ret->internal_header_count = config->n_internal_only_headers;
    ret->ignore_port_in_host = config->has_ignore_port_in_host_matching &&
                               config->ignore_port_in_host_matching;
    ret->has_unknown_clusters = config->validate_clusters != NULL &&
                                !config->validate_clusters->value;
    ret->most_specific_wins = config->has_most_specific_header_mutations_wins &&
                              config->most_specific_header_mutations_wins;
    if (config->has_ignore_path_parameters_in_path_matching &&
        config->ignore_path_parameters_in_path_matching)
        return px_unsupported(build, "ignore_path_parameters_in_path_matching", "is not supported");
    if (config->vhost_header != NULL && config->vhost_header[0] != '\0')
        return px_unsupported(build, "vhost_header", "is not supported");
    LT_TRY(px_make_mirrors(build, config->request_mirror_policies,
                           config->n_request_mirror_policies, &ret->mirrors));
    for (size_t i = 0; i < config->n_typed_per_filter_config; i++)
        LT_TRY(px_add_filter_conf(build, config->typed_per_filter_config[i]->key,
                                  config->typed_per_filter_config[i]->value,
                                  config->n_typed_per_filter_config, &ret->filters));
    LT_TRY(px_make_header_edits(build, config->request_headers_to_add,
                                config->n_request_headers_to_add, config->request_headers_to_remove,
                                config->n_request_headers_to_remove, "request_headers_to_add",
                                &ret->request));
    LT_TRY(px_make_header_edits(
        build, config->response_headers_to_add, config->n_response_headers_to_add,
        config->response_headers_to_remove, config->n_response_headers_to_remove,
        "response_headers_to_add", &ret->response));
    struct px_vhost *vhosts = lt_arena_make_n(build->arena, struct px_vhost,
                                              config->n_virtual_hosts);
    for (size_t i = 0; i < config->n_virtual_hosts; i++) {
        size_t mark = px_path_enter(build, "virtual_hosts", (ptrdiff_t)i);
        vhosts[i].mirrors = ret->mirrors;
        LT_TRY(make_vhost(build, config->virtual_hosts[i], &vhosts[i]));
        px_path_leave(build, mark);
    }
    ret->vhosts = vhosts;
    ret->vhost_count = config->n_virtual_hosts;
    lt_vec_push(&build->maps, &ret->domains.exact);
    return make_index(build, ret);
}
