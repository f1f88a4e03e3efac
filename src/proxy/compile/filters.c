/*
 * proxy/compile/filters.c - HTTP filters of a connection manager, and what routes say about them
 * (typed_per_filter_config). Which filters there are is a table; what it does not have is refused,
 * unless it is optional or may be left out without harm.
 * Start at: px_make_http_filters(), px_add_filter_conf().
 */
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/compile/opened.h"
#include "proxy/compile/rbac.h"
#include "proxy/http/filter.h"
#include "wire/proto/http_buffer.pb-c.h"
#include "wire/proto/http_compressor.pb-c.h"
#include "wire/proto/http_cors.pb-c.h"
#include "wire/proto/http_ext_authz.pb-c.h"
#include "wire/proto/http_ext_proc.pb-c.h"
#include "wire/proto/http_fault.pb-c.h"
#include "wire/proto/http_grpc_stats.pb-c.h"
#include "wire/proto/http_grpc_web.pb-c.h"
#include "wire/proto/http_header_mutation.pb-c.h"
#include "wire/proto/http_jwt_authn.pb-c.h"
#include "wire/proto/http_local_ratelimit.pb-c.h"
#include "wire/proto/http_lua.pb-c.h"
#include "wire/proto/http_on_demand.pb-c.h"
#include "wire/proto/http_rbac.pb-c.h"
#include "wire/proto/http_router.pb-c.h"
#include "wire/proto/http_stateful_session.pb-c.h"
#include "wire/proto/http_wasm.pb-c.h"
#include "wire/proto/istio_alpn.pb-c.h"
#include "wire/proto/istio_peer_metadata.pb-c.h"
#include "wire/proto/istio_stats.pb-c.h"

/* --- filters that need no file of their own --- */

static bool discovers(Istio__PeerMetadata__Config__DiscoveryMethod *const *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (in[i]->method_specifier_case ==
            ISTIO__PEER_METADATA__CONFIG__DISCOVERY_METHOD__METHOD_SPECIFIER_ISTIO_HEADERS)
            return true;
    }
    return false;
}

static bool propagates(Istio__PeerMetadata__Config__PropagationMethod *const *in, size_t count,
                       bool *ret_spares_external)
{
    bool is_so = false;
    for (size_t i = 0; i < count; i++) {
        if (in[i]->method_specifier_case !=
            ISTIO__PEER_METADATA__CONFIG__PROPAGATION_METHOD__METHOD_SPECIFIER_ISTIO_HEADERS)
            continue;
        is_so = true;
        *ret_spares_external = in[i]->istio_headers->has_skip_external_clusters &&
                               in[i]->istio_headers->skip_external_clusters;
    }
    return is_so;
}

/* Baggage and the discovery of workloads by address are of ambient meshes. */
static lt_rc make_peer_metadata(struct px_build *build LT_UNUSED, const void *message,
                                struct px_hcm_conf *hcm, const void **ret_conf LT_UNUSED)
{
    const Istio__PeerMetadata__Config *in = message;
    bool is_for_clients = false; /* a client that asked is answered */
    hcm->reads_client = discovers(in->downstream_discovery, in->n_downstream_discovery);
    hcm->reads_server = discovers(in->upstream_discovery, in->n_upstream_discovery);
    hcm->answers_client = propagates(in->downstream_propagation, in->n_downstream_propagation,
                                     &is_for_clients);
    hcm->tells_server = propagates(in->upstream_propagation, in->n_upstream_propagation,
                                   &hcm->spares_external);
    return LT_OK;
}

/* What router.c offers is what istiod sends; another list is told of. */
static bool is_as_offered(const Istio__Alpn__FilterConfig *in)
{
    static const char *const offered[][3] = {{"istio-http/1.0", "istio", "http/1.0"},
                                             {"istio-http/1.1", "istio", "http/1.1"},
                                             {"istio-h2", "istio", "h2"}};
    unsigned seen = 0;
    for (size_t i = 0; i < in->n_alpn_override; i++) {
        const Istio__Alpn__FilterConfig__AlpnOverride *one = in->alpn_override[i];
        size_t protocol = one->has_upstream_protocol ? (size_t)one->upstream_protocol : 0;
        if (protocol >= LT_ARRAY_LEN(offered) || one->n_alpn_override != 3)
            return false;
        for (size_t j = 0; j < 3; j++) {
            if (strcmp(one->alpn_override[j], offered[protocol][j]) != 0)
                return false;
        }
        seen |= 1u << protocol;
    }
    return seen == (1u << LT_ARRAY_LEN(offered)) - 1;
}

static lt_rc make_alpn(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                       const void **ret_conf LT_UNUSED)
{
    if (!is_as_offered(message))
        px_unhonoured(build, "alpn_override");
    hcm->has_istio_alpn = true;
    return LT_OK;
}

static lt_rc make_istio_stats(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                              const void **ret_conf LT_UNUSED)
{
    struct px_stats_facts facts;
    LT_TRY(px_make_stats(build, message, &facts));
    hcm->has_istio_stats = true;
    hcm->stats = facts.stats;
    hcm->disable_host_header_fallback = facts.ignores_host;
    return LT_OK;
}

static const struct px_filter_type types[] = {
    {PX_FILTER_PEER_METADATA, &istio__peer_metadata__config__descriptor, make_peer_metadata, NULL,
     NULL},
    {PX_FILTER_ISTIO_STATS, &istio__stats__plugin_config__descriptor, make_istio_stats, NULL, NULL},
    {PX_FILTER_ISTIO_ALPN, &istio__alpn__filter_config__descriptor, make_alpn, NULL, NULL},
    {PX_FILTER_GRPC_STATS, &xds__http_grpc_stats__filter_config__descriptor,
     px_make_grpc_stats_filter, NULL, NULL},
    {PX_FILTER_FAULT, &xds__httpfault__descriptor, px_make_fault_filter,
     &xds__httpfault__descriptor, px_make_fault_route},
    {PX_FILTER_CORS, &xds__cors__descriptor, px_make_cors_filter, &xds__cors_policy__descriptor,
     px_make_cors_route},
    {PX_FILTER_LOCAL_LIMIT, &xds__local_rate_limit__descriptor, px_make_limit_filter,
     &xds__local_rate_limit__descriptor, px_make_limit_route},
    {PX_FILTER_BUFFER, &xds__buffer__descriptor, px_make_buffer_filter,
     &xds__buffer_per_route__descriptor, px_make_buffer_route},
    {PX_FILTER_HEADER_MUTATION, &xds__http_header_mutation__header_mutation__descriptor,
     px_make_mutation_filter, &xds__http_header_mutation__header_mutation_per_route__descriptor,
     px_make_mutation_route},
    {PX_FILTER_RBAC, &xds__http_rbac__rbac__descriptor, px_make_rbac_filter,
     &xds__http_rbac__rbacper_route__descriptor, px_make_rbac_route},
    {PX_FILTER_JWT_AUTHN, &xds__jwt_authentication__descriptor, px_make_jwt_filter,
     &xds__per_route_config__descriptor, px_make_jwt_route},
    {PX_FILTER_EXT_AUTHZ, &xds__http_ext_authz__ext_authz__descriptor, px_make_ext_authz_filter,
     &xds__http_ext_authz__ext_authz_per_route__descriptor, px_make_ext_authz_route},
    {PX_FILTER_ON_DEMAND, &xds__http_on_demand__on_demand__descriptor, px_make_on_demand_filter,
     &xds__http_on_demand__per_route_config__descriptor, px_make_on_demand_route},
    {PX_FILTER_ROUTER, &xds__router__descriptor, px_make_router, NULL, NULL},
};

/* What may be left out without opening anything: it is listed. */
static const ProtobufCMessageDescriptor *const harmless[] = {
    &xds__grpc_web__descriptor,
    &xds__compressor__descriptor,
    &xds__stateful_session__descriptor,
};

/* Of filters that we don't have: without the filter they say nothing. */
static const ProtobufCMessageDescriptor *const harmless_routes[] = {
    &xds__lua_per_route__descriptor,
    &xds__ext_proc_per_route__descriptor,
    &xds__compressor_per_route__descriptor,
    &xds__stateful_session_per_route__descriptor,
};

static bool is_one_of(lt_str type, const ProtobufCMessageDescriptor *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eqz(type, list[i]->name))
            return true;
    }
    return false;
}

/* --- the chain --- */

static lt_rc add_filter(struct px_build *build, const Xds__HttpFilter *in,
                        const struct px_filter_type *type, struct px_hcm_conf *hcm)
{
    struct px_http_filter *filter = (struct px_http_filter *)&hcm->filters[hcm->filter_count];
    filter->kind = type->kind;
    filter->at = (uint32_t)hcm->filter_count++;
    filter->name = px_copy(build, in->name);
    filter->is_off = in->has_disabled && in->disabled;
    hcm->has_off_filters |= filter->is_off;
    hcm->has_response_steps |= px_filter_ops_of(type->kind)->on_response != NULL;
    void *message = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", in->typed_config, type->type, &message));
    return type->make == NULL ? LT_OK : type->make(build, message, hcm, &filter->conf);
}

/* Istio: a plugin that may be left out when it cannot be loaded; no other is let through. */
static bool is_open_wasm(struct px_build *build, const Pb__Any *any)
{
    const struct px_opened *opened = NULL;
    lt_str type = px_any_type(build, any);
    if (!lt_str_eqz(type, xds__http_wasm__wasm__descriptor.name) ||
        px_open_any(build, any, &opened, NULL) != LT_OK)
        return false;
    const Xds__HttpWasm__Wasm *wasm = (const Xds__HttpWasm__Wasm *)(const void *)opened->message;
    return wasm->config != NULL && wasm->config->has_failure_policy &&
           wasm->config->failure_policy == XDS__FAILURE_POLICY__FAIL_OPEN;
}

static lt_rc make_typed(struct px_build *build, const Xds__HttpFilter *in, struct px_hcm_conf *hcm)
{
    bool is_optional = in->has_is_optional && in->is_optional;
    lt_str type = px_any_type(build, in->typed_config);
    for (size_t i = 0; i < LT_ARRAY_LEN(types); i++) {
        if (lt_str_eqz(type, types[i].type->name))
            return add_filter(build, in, &types[i], hcm);
    }
    if (is_one_of(type, harmless, LT_ARRAY_LEN(harmless)) || is_optional ||
        is_open_wasm(build, in->typed_config))
        return LT_OK;
    return px_unsupported(build, NULL, "filter '%s' of type %.*s is not supported", in->name,
                          LT_STR_ARG(type));
}

/* No types: any. */
static lt_rc check_discovered(struct px_build *build, const Xds__ExtensionConfigSource *from,
                              const Pb__Any *any)
{
    lt_str type = px_any_type(build, any);
    for (size_t i = 0; i < from->n_type_urls; i++) {
        if (lt_str_eq(lt_any_type_name(lt_str_of(from->type_urls[i])), type))
            return LT_OK;
    }
    return from->n_type_urls == 0
               ? LT_OK
               : px_bad(build, "config_discovery.type_urls", "%.*s has come, which is none of them",
                        LT_STR_ARG(type));
}

/* By ECDS: of what has come, or else of the default; without either nothing passes. */
static lt_rc make_discovered(struct px_build *build, const Xds__HttpFilter *in,
                             struct px_hcm_conf *hcm)
{
    const Xds__ExtensionConfigSource *from = in->config_discovery;
    struct px_row *row = NULL;
    LT_TRY(px_refer(build, "config_discovery.config_source", PX_EXTENSION, from->config_source,
                    lt_str_of(in->name), true, &row));
    const struct px_extension_conf *conf = (const struct px_extension_conf *)row->serving;
    Xds__HttpFilter typed = *in;
    typed.config_type_case = XDS__HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG;
    typed.typed_config = from->default_config;
    if (conf != NULL) {
        Pb__Any *any = lt_pb_new(build->scratch, Pb__Any, pb__any); /* its address is a key */
        any->type_url = lt_arena_strz(build->scratch, conf->type_url);
        any->value = (ProtobufCBinaryData){conf->value.len, (uint8_t *)conf->value.ptr};
        LT_TRY(check_discovered(build, from, any));
        typed.typed_config = any;
    }
    if (typed.typed_config != NULL)
        return make_typed(build, &typed, hcm);
    struct px_http_filter *filter = (struct px_http_filter *)&hcm->filters[hcm->filter_count];
    filter->kind = PX_FILTER_MISSING;
    filter->at = (uint32_t)hcm->filter_count++;
    filter->name = px_copy(build, in->name);
    filter->is_off = in->has_disabled && in->disabled;
    hcm->has_off_filters |= filter->is_off;
    return LT_OK;
}

static lt_rc make_filter(struct px_build *build, const Xds__HttpFilter *in, struct px_hcm_conf *hcm)
{
    switch (in->config_type_case) {
    case XDS__HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG: return make_typed(build, in, hcm);
    case XDS__HTTP_FILTER__CONFIG_TYPE_CONFIG_DISCOVERY: return make_discovered(build, in, hcm);
    default: break;
    }
    bool is_optional = in->has_is_optional && in->is_optional;
    return is_optional ? LT_OK
                       : px_unsupported(build, NULL, "filter '%s' without typed_config", in->name);
}

/* It is tried as the only filter of a connection manager; that one is thrown away. */
lt_rc px_make_extension(struct px_build *build, const Xds__TypedExtensionConfig *in,
                        struct px_extension_conf *conf)
{
    Xds__HttpFilter filter = XDS__HTTP_FILTER__INIT;
    struct px_hcm_conf *hcm = lt_arena_make(build->scratch, struct px_hcm_conf);
    conf->res.name = px_copy(build, in->name);
    if (in->typed_config == NULL)
        return px_bad(build, "typed_config", "is missing");
    filter.name = in->name;
    filter.config_type_case = XDS__HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter.typed_config = in->typed_config;
    hcm->filters = lt_arena_make_n(build->scratch, struct px_http_filter, 1);
    LT_TRY(make_typed(build, &filter, hcm));
    conf->type_url = px_copy(build, in->typed_config->type_url);
    conf->value = lt_arena_str(build->arena, lt_pb_bytes(in->typed_config->value));
    return LT_OK;
}

lt_rc px_make_http_filters(struct px_build *build, Xds__HttpFilter *const *in, size_t count,
                           struct px_hcm_conf *hcm)
{
    if (count > PX_FILTERS_MAX)
        return px_bad(build, "http_filters", "more than %d filters", PX_FILTERS_MAX);
    hcm->filters = lt_arena_make_n(build->arena, struct px_http_filter, count);
    bool has_router = false;
    for (size_t i = 0; i < count; i++) {
        size_t mark = px_path_enter(build, "http_filters", (ptrdiff_t)i);
        LT_TRY(make_filter(build, in[i], hcm));
        has_router = hcm->filter_count > 0 &&
                     hcm->filters[hcm->filter_count - 1].kind == PX_FILTER_ROUTER;
        if (has_router && i + 1 < count)
            return px_bad(build, NULL, "the router must be the last filter");
        if (has_router && hcm->filters[hcm->filter_count - 1].is_off)
            return px_bad(build, "disabled", "the router can't be disabled");
        px_path_leave(build, mark);
    }
    return has_router ? LT_OK : px_bad(build, "http_filters", "the last must be a router");
}

/* --- what routes say --- */

static lt_rc make_route_conf(struct px_build *build, lt_str type, const Pb__Any *any,
                             bool is_optional, struct px_filter_conf *conf)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(types); i++) {
        const struct px_filter_type *row = &types[i];
        if (row->route_type == NULL || !lt_str_eqz(type, row->route_type->name))
            continue;
        void *message = NULL;
        LT_TRY(px_unpack_any(build, NULL, any, row->route_type, &message));
        conf->kind = row->kind;
        return row->make_route(build, message, conf);
    }
    if (is_optional || is_one_of(type, harmless_routes, LT_ARRAY_LEN(harmless_routes)))
        return LT_OK;
    return px_unsupported(build, NULL, "%.*s is not supported", LT_STR_ARG(type));
}

/* Envoy: FilterConfig around it, or as it is. An empty one inside says that the filter is on. */
static lt_rc make_filter_conf(struct px_build *build, const Pb__Any *any,
                              struct px_filter_conf *conf)
{
    lt_str type = px_any_type(build, any);
    if (!lt_str_eqz(type, xds__filter_config__descriptor.name))
        return make_route_conf(build, type, any, false, conf);
    Xds__FilterConfig *wrapped = NULL;
    LT_TRY(px_unpack_any(build, NULL, any, &xds__filter_config__descriptor, &wrapped));
    conf->is_off = wrapped->has_disabled && wrapped->disabled;
    if (conf->is_off)
        return LT_OK;
    if (wrapped->config == NULL)
        return px_bad(build, "config", "is missing");
    lt_str inner = px_any_type(build, wrapped->config);
    if (inner.len == 0)
        return LT_OK;
    return make_route_conf(build, inner, wrapped->config,
                           wrapped->has_is_optional && wrapped->is_optional, conf);
}

lt_rc px_add_filter_conf(struct px_build *build, const char *name, const Pb__Any *any, size_t total,
                         struct px_filter_confs *confs)
{
    if (confs->items == NULL)
        confs->items = lt_arena_make_n(build->arena, struct px_filter_conf, total);
    struct px_filter_conf *conf = (struct px_filter_conf *)&confs->items[confs->count];
    conf->name = px_copy(build, name);
    conf->kind = PX_FILTER_KINDS;
    size_t outer = px_path_enter(build, "typed_per_filter_config", -1);
    size_t mark = px_path_enter(build, name != NULL ? name : "", -1);
    LT_TRY(make_filter_conf(build, any, conf));
    px_path_leave(build, mark);
    px_path_leave(build, outer);
    confs->count++;
    return LT_OK;
}
