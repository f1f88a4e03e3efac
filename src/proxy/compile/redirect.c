/*
 * proxy/compile/redirect.c - RouteAction.internal_redirect_policy. A predicate that we don't have
 * would let more through: the route is refused. At run time: http/redirect.c.
 */
#include "proxy/compile/kinds.h"
#include "wire/proto/redirect_allow_listed_routes.pb-c.h"
#include "wire/proto/redirect_previous_routes.pb-c.h"
#include "wire/proto/redirect_safe_cross_scheme.pb-c.h"

static lt_rc make_allowed(struct px_build *build, const Pb__Any *any,
                          struct px_internal_redirects *conf)
{
    Xds__AllowListedRoutesConfig *list = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__allow_listed_routes_config__descriptor,
                         &list));
    if (conf->has_allowed)
        return px_unsupported(build, NULL, "two lists of routes are not supported");
    conf->has_allowed = true;
    conf->allowed_count = list->n_allowed_route_names;
    return px_make_strings(build, list->allowed_route_names, list->n_allowed_route_names,
                           &conf->allowed);
}

static lt_rc make_predicate(struct px_build *build, const Xds__TypedExtensionConfig *in,
                            struct px_internal_redirects *conf)
{
    lt_str type = px_any_type(build, in->typed_config);
    if (lt_str_eqz(type, xds__safe_cross_scheme_config__descriptor.name))
        conf->only_safely = true;
    else if (lt_str_eqz(type, xds__previous_routes_config__descriptor.name))
        conf->not_twice = true;
    else if (lt_str_eqz(type, xds__allow_listed_routes_config__descriptor.name))
        return make_allowed(build, in->typed_config, conf);
    else
        return px_unsupported(build, NULL, "predicate '%s' (%.*s) is not supported", in->name,
                              LT_STR_ARG(type));
    return LT_OK;
}

lt_rc px_make_internal_redirects(struct px_build *build, const Xds__InternalRedirectPolicy *in,
                                 const struct px_internal_redirects **ret_conf)
{
    if (in == NULL)
        return LT_OK;
    struct px_internal_redirects *conf = lt_arena_make(build->arena, struct px_internal_redirects);
    size_t outer = px_path_enter(build, "internal_redirect_policy", -1);
    conf->max = px_u32(in->max_internal_redirects, 1);
    conf->crosses_schemes = in->has_allow_cross_scheme_redirect && in->allow_cross_scheme_redirect;
    for (size_t i = 0; i < in->n_redirect_response_codes; i++)
        conf->codes |= px_redirect_bit(in->redirect_response_codes[i]);
    if (in->n_redirect_response_codes == 0)
        conf->codes = px_redirect_bit(302);
    for (size_t i = 0; i < in->n_predicates; i++) {
        size_t mark = px_path_enter(build, "predicates", (ptrdiff_t)i);
        LT_TRY(make_predicate(build, in->predicates[i], conf));
        px_path_leave(build, mark);
    }
    conf->copied_count = in->n_response_headers_to_copy;
    LT_TRY(px_make_strings(build, in->response_headers_to_copy, in->n_response_headers_to_copy,
                           &conf->copied));
    px_path_leave(build, outer);
    *ret_conf = conf;
    return LT_OK;
}
