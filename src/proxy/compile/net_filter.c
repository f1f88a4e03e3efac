/*
 * proxy/compile/net_filter.c - network filters that decide about connections. What is not here
 * guards, as far as anybody knows, and refuses the resource.
 */
#include "proxy/compile/net_filter.h"

#include <stdlib.h>

#include "proxy/compile/rbac.h"
#include "proxy/conf/connection_limit.h"
#include "proxy/run/exchange.h"
#include "wire/proto/istio_metadata_exchange.pb-c.h"
#include "wire/proto/net_connection_limit.pb-c.h"
#include "wire/proto/net_direct_response.pb-c.h"
#include "wire/proto/net_echo.pb-c.h"
#include "wire/proto/net_ext_authz.pb-c.h"
#include "wire/proto/net_local_ratelimit.pb-c.h"
#include "wire/proto/net_rbac.pb-c.h"

lt_rc px_check_exchange(struct px_build *build, const Pb__Any *any)
{
    Istio__MetadataExchange *in = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &istio__metadata_exchange__descriptor, &in));
    if (!lt_str_eqz(lt_str_of(in->protocol), PX_EXCHANGE_ALPN))
        px_unhonoured(build, "protocol");
    return LT_OK;
}

static lt_rc make_rbac(struct px_build *build, const Pb__Any *any, const void **ret_conf)
{
    Xds__NetRbac__RBAC *in = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__net_rbac__rbac__descriptor, &in));
    struct px_rbac_filter *filter = lt_arena_make(build->arena, struct px_rbac_filter);
    if (in->has_matcher)
        return px_unsupported(build, "matcher", "matching trees are not supported");
    filter->shadow_prefix = px_copy(build, in->shadow_rules_stat_prefix);
    LT_TRY(px_make_rbac(build, "rules", in->rules, &filter->rules));
    LT_TRY(px_make_rbac(build, "shadow_rules", in->shadow_rules, &filter->shadow));
    px_rbac_name_net_stats(build->arena, lt_str_of(in->stat_prefix), filter);
    *ret_conf = filter;
    return LT_OK;
}

static lt_rc make_connection_limit(struct px_build *build, const Pb__Any *any,
                                   const void **ret_conf)
{
    Xds__NetConnectionLimit__ConnectionLimit *in = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any,
                         &xds__net_connection_limit__connection_limit__descriptor, &in));
    struct px_connection_limit *limit = lt_arena_make(build->arena, struct px_connection_limit);
    *ret_conf = limit;
    lt_str prefix = lt_str_of(in->stat_prefix != NULL ? in->stat_prefix : "");
    if (prefix.len == 0)
        return px_bad(build, "stat_prefix", "is empty");
    limit->max = in->max_connections != NULL ? in->max_connections->value : 0;
    if (limit->max == 0)
        return px_bad(build, "max_connections", "must be at least 1");
    limit->delay_ms = px_duration_ms(in->delay, 0);
    limit->is_off = in->runtime_enabled != NULL &&
                    !px_bool(in->runtime_enabled->default_value, true);
    limit->active = lt_calloc(1, sizeof(*limit->active));
    px_own(build, (void *)limit->active, free);
    limit->limited = px_stat_plain(
        build->arena, lt_arena_printf(build->scratch, "connection_limit.%.*s.limited_connections",
                                      LT_STR_ARG(prefix)));
    return LT_OK;
}

lt_rc px_make_small(struct px_build *build, lt_str type, const Pb__Any *any,
                    const struct px_small_conf **ret_small)
{
    Xds__NetDirectResponse__Config *in = NULL;
    bool is_echo = lt_str_eqz(type, xds__net_echo__echo__descriptor.name);
    if (!is_echo && !lt_str_eqz(type, xds__net_direct_response__config__descriptor.name))
        return LT_OK;
    struct px_small_conf *small = lt_arena_make(build->arena, struct px_small_conf);
    *ret_small = small;
    small->is_echo = is_echo;
    if (is_echo)
        return LT_OK;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__net_direct_response__config__descriptor,
                         &in));
    return in->response == NULL ? LT_OK
                                : px_make_data(build, "response", in->response, &small->text);
}

static const struct {
    px_net_filter_kind kind;
    const ProtobufCMessageDescriptor *type;
    lt_rc (*make)(struct px_build *build, const Pb__Any *any, const void **ret_conf);
} types[] = {
    {PX_NET_RBAC, &xds__net_rbac__rbac__descriptor, make_rbac},
    {PX_NET_EXT_AUTHZ, &xds__net_ext_authz__ext_authz__descriptor, px_make_net_ext_authz},
    {PX_NET_LOCAL_LIMIT, &xds__net_local_ratelimit__local_rate_limit__descriptor,
     px_make_net_limit},
    {PX_NET_CONNECTION_LIMIT, &xds__net_connection_limit__connection_limit__descriptor,
     make_connection_limit},
};

lt_rc px_make_net_filter(struct px_build *build, const Xds__Filter *in, struct px_chain *chain)
{
    const Pb__Any *any = in->config_type_case == XDS__FILTER__CONFIG_TYPE_TYPED_CONFIG
                             ? in->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    for (size_t i = 0; i < LT_ARRAY_LEN(types); i++) {
        if (!lt_str_eqz(type, types[i].type->name))
            continue;
        struct px_net_filter *filter =
            (struct px_net_filter *)&chain->net_filters[chain->net_filter_count++];
        filter->kind = types[i].kind;
        return types[i].make(build, any, &filter->conf);
    }
    return px_unsupported(build, NULL, "network filter '%s' of type %.*s is not supported",
                          in->name, LT_STR_ARG(type));
}
