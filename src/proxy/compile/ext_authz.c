/*
 * proxy/compile/ext_authz.c - external authorization: configuration of both filters.
 * Start at: px_make_ext_authz_filter(), px_make_net_ext_authz().
 */
#include "proxy/filter/ext_authz.h"
#include "http/http.h"
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/compile/meta.h"
#include "proxy/compile/net_filter.h"
#include "wire/proto/http_ext_authz.pb-c.h"
#include "wire/proto/net_ext_authz.pb-c.h"

enum { TIMEOUT_DEFAULT_MS = 200, ERROR_CODE_DEFAULT = 403, BODY_BYTES_MAX = 16 * 1024 * 1024 };

/* --- the server --- */

static lt_rc make_texts(struct px_build *build, const char *field, const Xds__ListStringMatcher *in,
                        struct px_texts *texts)
{
    if (in == NULL)
        return LT_OK;
    struct px_string_match *items = lt_arena_make_n(build->arena, struct px_string_match,
                                                    in->n_patterns);
    for (size_t i = 0; i < in->n_patterns; i++)
        LT_TRY(px_make_string_match(build, field, in->patterns[i], &items[i]));
    texts->items = items;
    texts->count = in->n_patterns;
    texts->is_set = true;
    return LT_OK;
}

static lt_rc make_values(struct px_build *build, const char *field, Xds__HeaderValue *const *in,
                         size_t count, struct px_authz_service *service)
{
    struct px_header_edit *edits = lt_arena_make_n(build->arena, struct px_header_edit, count);
    for (size_t i = 0; i < count; i++) {
        lt_str value = px_copy(build, in[i]->value);
        if (in[i]->has_raw_value && in[i]->raw_value.len > 0)
            value = lt_arena_str(build->arena, lt_pb_bytes(in[i]->raw_value));
        edits[i].name = px_copy_lower(build, in[i]->key);
        edits[i].value = value;
        if (!lt_http_is_token(edits[i].name) || !lt_http_is_field_value(value))
            return px_bad(build, field, "'%s' is no header", in[i]->key != NULL ? in[i]->key : "");
        if (lt_str_find_char(value, '%') >= 0)
            LT_TRY(px_make_format(build, field, value, &edits[i].format));
    }
    service->headers = edits;
    service->header_count = count;
    return LT_OK;
}

/* The core's policy of retries has two fields, the router's has all. */
static lt_rc make_core_retry(struct px_build *build, const Xds__Core__RetryPolicy *in,
                             struct px_authz_service *service)
{
    if (in == NULL)
        return LT_OK;
    struct px_retry *retry = lt_arena_make(build->arena, struct px_retry);
    Xds__RetryPolicy policy = XDS__RETRY_POLICY__INIT;
    policy.retry_on = in->retry_on != NULL && in->retry_on[0] != '\0'
                          ? in->retry_on
                          : "5xx,gateway-error,connect-failure,reset";
    policy.num_retries = in->num_retries;
    LT_TRY(px_make_retry(build, &policy, (const struct px_retry **)&retry));
    service->retry = retry;
    return LT_OK;
}

static lt_rc make_grpc(struct px_build *build, const Xds__GrpcService *in,
                       struct px_authz_service *service)
{
    if (in->target_specifier_case != XDS__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC)
        return px_unsupported(build, "grpc_service.google_grpc",
                              "is not supported: name a cluster by envoy_grpc");
    const Xds__GrpcService__EnvoyGrpc *grpc = in->envoy_grpc;
    service->is_grpc = true;
    service->cluster = px_copy(build, grpc->cluster_name);
    service->authority = px_copy(build, grpc->authority);
    service->scheme = LT_STR("http");
    service->timeout_ms = px_duration_ms(in->timeout, TIMEOUT_DEFAULT_MS);
    if (service->cluster.len == 0)
        return px_bad(build, "grpc_service.envoy_grpc.cluster_name", "is empty");
    if (service->authority.len == 0)
        service->authority = service->cluster;
    if (!lt_http_is_authority(service->authority) && grpc->authority != NULL &&
        grpc->authority[0] != '\0')
        return px_bad(build, "grpc_service.envoy_grpc.authority", "is no authority");
    LT_TRY(make_core_retry(build, in->retry_policy != NULL ? in->retry_policy : grpc->retry_policy,
                           service));
    return make_values(build, "grpc_service.initial_metadata", in->initial_metadata,
                       in->n_initial_metadata, service);
}

static lt_rc make_http_answer(struct px_build *build,
                              const Xds__HttpExtAuthz__AuthorizationResponse *in,
                              struct px_authz_service *service)
{
    if (in == NULL)
        return LT_OK;
    LT_TRY(make_texts(build, "allowed_upstream_headers", in->allowed_upstream_headers,
                      &service->to_host));
    LT_TRY(make_texts(build, "allowed_upstream_headers_to_append",
                      in->allowed_upstream_headers_to_append, &service->to_host_added));
    LT_TRY(make_texts(build, "allowed_client_headers", in->allowed_client_headers,
                      &service->to_client));
    LT_TRY(make_texts(build, "allowed_client_headers_on_success",
                      in->allowed_client_headers_on_success, &service->to_client_on_success));
    return make_texts(build, "dynamic_metadata_from_headers", in->dynamic_metadata_from_headers,
                      &service->to_metadata);
}

static lt_rc make_http(struct px_build *build, const Xds__HttpExtAuthz__HttpService *in,
                       struct px_authz_service *service)
{
    lt_str path;
    size_t mark = px_path_enter(build, "http_service", -1);
    LT_TRY(px_make_http_uri(build, "server_uri", in->server_uri, &service->cluster,
                            &service->scheme, &service->authority, &path, &service->timeout_ms));
    service->path_prefix = px_copy(build, in->path_prefix);
    service->path_override = px_copy(build, in->path_override);
    if (service->path_prefix.len > 0 && service->path_prefix.ptr[0] != '/')
        return px_bad(build, "path_prefix", "must start with '/'");
    if (service->path_override.len > 0 && service->path_override.ptr[0] != '/')
        return px_bad(build, "path_override", "must start with '/'");
    if (service->path_prefix.len > 0 && service->path_override.len > 0)
        return px_bad(build, "path_override", "stands beside path_prefix");
    LT_TRY(make_core_retry(build, in->retry_policy, service));
    if (in->authorization_request != NULL)
        LT_TRY(make_values(build, "authorization_request.headers_to_add",
                           in->authorization_request->headers_to_add,
                           in->authorization_request->n_headers_to_add, service));
    LT_TRY(make_http_answer(build, in->authorization_response, service));
    px_path_leave(build, mark);
    return LT_OK;
}

/* --- the HTTP filter --- */

static lt_rc make_body(struct px_build *build, const Xds__HttpExtAuthz__BufferSettings *in,
                       const struct px_authz_body **ret_body)
{
    if (in == NULL)
        return LT_OK;
    struct px_authz_body *body = lt_arena_make(build->arena, struct px_authz_body);
    body->bytes_max = in->has_max_request_bytes ? in->max_request_bytes : 0;
    body->allows_partial = in->has_allow_partial_message && in->allow_partial_message;
    body->as_bytes = in->has_pack_as_bytes && in->pack_as_bytes;
    if (body->bytes_max == 0)
        return px_bad(build, "with_request_body.max_request_bytes", "must be greater than 0");
    if (body->bytes_max > BODY_BYTES_MAX)
        return px_bad(build, "with_request_body.max_request_bytes", "is more than %d",
                      BODY_BYTES_MAX);
    *ret_body = body;
    return LT_OK;
}

static lt_rc make_rules(struct px_build *build, const Xds__HeaderMutationRules *in,
                        const struct px_mutation_rules **ret_rules)
{
    if (in == NULL)
        return LT_OK;
    struct px_mutation_rules *rules = lt_arena_make(build->arena, struct px_mutation_rules);
    rules->allows_routing = px_bool(in->allow_all_routing, false);
    rules->allows_envoy = px_bool(in->allow_envoy, false);
    rules->disallows_system = px_bool(in->disallow_system, false);
    rules->disallows_all = px_bool(in->disallow_all, false);
    rules->is_error = px_bool(in->disallow_is_error, false);
    if (in->allow_expression != NULL)
        LT_TRY(px_make_regex(build, "decoder_header_mutation_rules.allow_expression",
                             in->allow_expression, &rules->allow));
    if (in->disallow_expression != NULL)
        LT_TRY(px_make_regex(build, "decoder_header_mutation_rules.disallow_expression",
                             in->disallow_expression, &rules->disallow));
    *ret_rules = rules;
    return LT_OK;
}

static void name_stats(struct px_build *build, lt_str prefix, struct px_authz_conf *conf)
{
    static const char *const names[PX_AUTHZ_STATS] = {"ok",
                                                      "denied",
                                                      "error",
                                                      "disabled",
                                                      "failure_mode_allowed",
                                                      "invalid",
                                                      "ignored_dynamic_metadata",
                                                      "shadow_denied"};
    for (size_t i = 0; i < PX_AUTHZ_STATS; i++) {
        lt_str rest = lt_arena_printf(build->scratch, "ext_authz.%.*s%s",
                                      LT_STR_ARG(conf->stat_prefix), names[i]);
        conf->stats[i] = px_stat_http(build->arena, prefix, rest.ptr);
    }
}

/* Which requests are asked about. */
static lt_rc make_switches(struct px_build *build, const Xds__HttpExtAuthz__ExtAuthz *in,
                           struct px_authz_conf *conf)
{
    conf->enabled_ppm = 1000000;
    if (in->filter_enabled != NULL)
        conf->enabled_ppm = px_fraction_ppm(in->filter_enabled->default_value, 1000000);
    conf->denies_when_off = in->deny_at_disable != NULL &&
                            px_bool(in->deny_at_disable->default_value, false);
    if (in->filter_enabled_metadata == NULL)
        return LT_OK;
    struct px_meta_match *match = lt_arena_make(build->arena, struct px_meta_match);
    conf->enabled_meta = match;
    size_t mark = px_path_enter(build, "filter_enabled_metadata", -1);
    LT_TRY(px_make_meta_match(build, in->filter_enabled_metadata, match));
    px_path_leave(build, mark);
    return LT_OK;
}

/* Of the filter, or as it was once said: of the service. */
static lt_rc make_allowed(struct px_build *build, const Xds__HttpExtAuthz__ExtAuthz *in,
                          struct px_authz_conf *conf)
{
    const Xds__HttpExtAuthz__AuthorizationRequest *request =
        in->services_case == XDS__HTTP_EXT_AUTHZ__EXT_AUTHZ__SERVICES_HTTP_SERVICE
            ? in->http_service->authorization_request
            : NULL;
    const Xds__ListStringMatcher *old = request != NULL ? request->allowed_headers : NULL;
    if (old != NULL && in->allowed_headers != NULL) /* as Envoy */
        return px_bad(build, "allowed_headers", "is given twice");
    return make_texts(build, "allowed_headers", old != NULL ? old : in->allowed_headers,
                      &conf->allowed);
}

/* What the server is told, and what of its answer counts. */
static lt_rc make_contents(struct px_build *build, const Xds__HttpExtAuthz__ExtAuthz *in,
                           struct px_authz_conf *conf)
{
    conf->sends_cert = in->has_include_peer_certificate && in->include_peer_certificate;
    conf->sends_tls = in->has_include_tls_session && in->include_tls_session;
    conf->sends_raw_headers = in->has_encode_raw_headers && in->encode_raw_headers;
    conf->takes_metadata = px_bool(in->enable_dynamic_metadata_ingestion, true);
    conf->denied_body_max = in->has_max_denied_response_body_bytes &&
                                    in->max_denied_response_body_bytes > 0
                                ? in->max_denied_response_body_bytes
                                : UINT32_MAX;
    conf->namespace_count = in->n_metadata_context_namespaces;
    LT_TRY(px_make_strings(build, in->metadata_context_namespaces,
                           in->n_metadata_context_namespaces, &conf->namespaces));
    LT_TRY(make_allowed(build, in, conf));
    LT_TRY(make_texts(build, "disallowed_headers", in->disallowed_headers, &conf->disallowed));
    return make_rules(build, in->decoder_header_mutation_rules, &conf->rules);
}

static lt_rc make_service(struct px_build *build, const Xds__HttpExtAuthz__ExtAuthz *in,
                          struct px_authz_service *service)
{
    switch (in->services_case) {
    case XDS__HTTP_EXT_AUTHZ__EXT_AUTHZ__SERVICES_GRPC_SERVICE:
        return make_grpc(build, in->grpc_service, service);
    case XDS__HTTP_EXT_AUTHZ__EXT_AUTHZ__SERVICES_HTTP_SERVICE:
        return make_http(build, in->http_service, service);
    default: return px_bad(build, NULL, "needs grpc_service or http_service");
    }
}

static lt_rc check_version(struct px_build *build, bool has, int version)
{
    return has && version == XDS__API_VERSION__V2
               ? px_bad(build, "transport_api_version", "only V3 is spoken")
               : LT_OK;
}

lt_rc px_make_ext_authz_filter(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                               const void **ret_conf)
{
    const Xds__HttpExtAuthz__ExtAuthz *in = message;
    struct px_authz_conf *conf = lt_arena_make(build->arena, struct px_authz_conf);
    *ret_conf = conf;
    LT_TRY(check_version(build, in->has_transport_api_version, in->transport_api_version));
    LT_TRY(make_service(build, in, &conf->service));
    LT_TRY(make_body(build, in->with_request_body, &conf->body));
    LT_TRY(make_switches(build, in, conf));
    LT_TRY(make_contents(build, in, conf));
    conf->failure_allows = in->has_failure_mode_allow && in->failure_mode_allow;
    conf->failure_adds_header = in->has_failure_mode_allow_header_add &&
                                in->failure_mode_allow_header_add;
    conf->clears_route = in->has_clear_route_cache && in->clear_route_cache;
    conf->is_shadow = in->has_shadow_mode && in->shadow_mode;
    conf->error_code = in->status_on_error != NULL && in->status_on_error->has_code
                           ? (uint32_t)in->status_on_error->code
                           : ERROR_CODE_DEFAULT;
    if (conf->error_code < 200 || conf->error_code > 599)
        return px_bad(build, "status_on_error", "%u is no status of a reply", conf->error_code);
    if (in->stat_prefix != NULL && in->stat_prefix[0] != '\0')
        conf->stat_prefix = lt_arena_printf(build->arena, "%s.", in->stat_prefix);
    name_stats(build, hcm->stat_prefix, conf);
    return LT_OK;
}

/* --- what a route says --- */

static lt_rc make_settings(struct px_build *build, const Xds__HttpExtAuthz__CheckSettings *in,
                           struct px_authz_route *route)
{
    struct px_authz_context *contexts = lt_arena_make_n(build->arena, struct px_authz_context,
                                                        in->n_context_extensions);
    for (size_t i = 0; i < in->n_context_extensions; i++) {
        contexts[i].key = px_copy(build, in->context_extensions[i]->key);
        contexts[i].value = px_copy(build, in->context_extensions[i]->value);
    }
    route->contexts = contexts;
    route->context_count = in->n_context_extensions;
    route->has_no_body = in->has_disable_request_body_buffering &&
                         in->disable_request_body_buffering;
    if (route->has_no_body && in->with_request_body != NULL)
        return px_bad(build, "check_settings.with_request_body",
                      "stands beside disable_request_body_buffering");
    LT_TRY(make_body(build, in->with_request_body, &route->body));
    if (in->service_override_case == XDS__HTTP_EXT_AUTHZ__CHECK_SETTINGS__SERVICE_OVERRIDE__NOT_SET)
        return LT_OK;
    struct px_authz_service *service = lt_arena_make(build->arena, struct px_authz_service);
    route->service = service;
    if (in->service_override_case ==
        XDS__HTTP_EXT_AUTHZ__CHECK_SETTINGS__SERVICE_OVERRIDE_GRPC_SERVICE)
        return make_grpc(build, in->grpc_service, service);
    return make_http(build, in->http_service, service);
}

lt_rc px_make_ext_authz_route(struct px_build *build, const void *message,
                              struct px_filter_conf *conf)
{
    const Xds__HttpExtAuthz__ExtAuthzPerRoute *in = message;
    struct px_authz_route *route = lt_arena_make(build->arena, struct px_authz_route);
    conf->conf = route;
    switch (in->override_case) {
    case XDS__HTTP_EXT_AUTHZ__EXT_AUTHZ_PER_ROUTE__OVERRIDE_DISABLED:
        route->is_off = in->disabled;
        return in->disabled ? LT_OK : px_bad(build, "disabled", "must be true");
    case XDS__HTTP_EXT_AUTHZ__EXT_AUTHZ_PER_ROUTE__OVERRIDE_CHECK_SETTINGS:
        return make_settings(build, in->check_settings, route);
    default: return px_bad(build, NULL, "needs disabled or check_settings");
    }
}

/* --- the network filter --- */

static void name_net_stats(struct px_build *build, lt_str prefix, struct px_authz_conf *conf)
{
    static const char *const names[PX_AUTHZ_STATS] = {"ok", "denied", "error", "disabled",
                                                      "failure_mode_allowed"};
    for (size_t i = 0; i < PX_AUTHZ_STATS; i++) {
        if (names[i] != NULL)
            conf->stats[i] = px_stat_plain(
                build->arena,
                lt_arena_printf(build->scratch, "ext_authz.%.*s.%s", LT_STR_ARG(prefix), names[i]));
    }
    conf->total = px_stat_plain(
        build->arena, lt_arena_printf(build->scratch, "ext_authz.%.*s.total", LT_STR_ARG(prefix)));
}

lt_rc px_make_net_ext_authz(struct px_build *build, const Pb__Any *any, const void **ret_conf)
{
    Xds__NetExtAuthz__ExtAuthz *in = NULL;
    LT_TRY(
        px_unpack_any(build, "typed_config", any, &xds__net_ext_authz__ext_authz__descriptor, &in));
    struct px_authz_conf *conf = lt_arena_make(build->arena, struct px_authz_conf);
    *ret_conf = conf;
    LT_TRY(check_version(build, in->has_transport_api_version, in->transport_api_version));
    if (in->grpc_service == NULL)
        return px_bad(build, "grpc_service", "is missing");
    LT_TRY(make_grpc(build, in->grpc_service, &conf->service));
    conf->failure_allows = in->has_failure_mode_allow && in->failure_mode_allow;
    conf->sends_cert = in->has_include_peer_certificate && in->include_peer_certificate;
    conf->sends_tls = in->has_include_tls_session && in->include_tls_session;
    conf->takes_metadata = true;
    conf->namespace_count = in->n_metadata_context_namespaces;
    LT_TRY(px_make_strings(build, in->metadata_context_namespaces,
                           in->n_metadata_context_namespaces, &conf->namespaces));
    if (in->filter_enabled_metadata != NULL) {
        struct px_meta_match *match = lt_arena_make(build->arena, struct px_meta_match);
        conf->enabled_meta = match;
        size_t mark = px_path_enter(build, "filter_enabled_metadata", -1);
        LT_TRY(px_make_meta_match(build, in->filter_enabled_metadata, match));
        px_path_leave(build, mark);
    }
    name_net_stats(build, px_copy(build, in->stat_prefix), conf);
    return LT_OK;
}
