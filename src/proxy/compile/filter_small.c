/*
 * proxy/compile/filter_small.c - compilers of filters with a handful of fields: CORS, buffer, gRPC
 * statistics.
 */
#include "proxy/compile/filter.h"
#include "proxy/conf/buffer.h"
#include "proxy/conf/cors.h"
#include "proxy/filter/grpc_stats.h"
#include "wire/proto/http_buffer.pb-c.h"
#include "wire/proto/http_cors.pb-c.h"
#include "wire/proto/http_grpc_stats.pb-c.h"

/* --- CORS --- */

lt_rc px_make_cors_filter(struct px_build *build, const void *message LT_UNUSED,
                          struct px_hcm_conf *hcm, const void **ret_conf)
{
    struct px_cors_stats *stats = lt_arena_make(build->arena, struct px_cors_stats);
    stats->valid = px_stat_http(build->arena, hcm->stat_prefix, "cors.origin_valid");
    stats->invalid = px_stat_http(build->arena, hcm->stat_prefix, "cors.origin_invalid");
    *ret_conf = stats;
    return LT_OK;
}

lt_rc px_make_cors_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    const Xds__CorsPolicy *in = message;
    struct px_cors_conf *cors = lt_arena_make(build->arena, struct px_cors_conf);
    struct px_string_match *origins = lt_arena_make_n(build->arena, struct px_string_match,
                                                      in->n_allow_origin_string_match);
    conf->conf = cors;
    for (size_t i = 0; i < in->n_allow_origin_string_match; i++)
        LT_TRY(px_make_string_match(build, "allow_origin_string_match",
                                    in->allow_origin_string_match[i], &origins[i]));
    cors->origins = origins;
    cors->origin_count = in->n_allow_origin_string_match;
    cors->methods = px_copy(build, in->allow_methods);
    cors->headers = px_copy(build, in->allow_headers);
    cors->exposed = px_copy(build, in->expose_headers);
    cors->max_age = px_copy(build, in->max_age);
    cors->allows_credentials = px_bool(in->allow_credentials, false);
    cors->allows_private = px_bool(in->allow_private_network_access, false);
    cors->answers_all_preflights = !px_bool(in->forward_not_matching_preflights, true);
    cors->enabled_ppm = 1000000;
    if (in->filter_enabled != NULL)
        cors->enabled_ppm = px_fraction_ppm(in->filter_enabled->default_value, 1000000);
    if (in->shadow_enabled != NULL)
        cors->shadow_ppm = px_fraction_ppm(in->shadow_enabled->default_value, 0);
    return LT_OK;
}

/* --- buffer --- */

static lt_rc make_buffer(struct px_build *build, const Xds__Buffer *in,
                         struct px_buffer_conf *buffer)
{
    enum { BYTES_MAX = 256 * 1024 * 1024 };
    buffer->bytes_max = px_u32(in->max_request_bytes, 0);
    if (buffer->bytes_max == 0)
        return px_bad(build, "max_request_bytes", "must be greater than 0");
    return buffer->bytes_max <= BYTES_MAX
               ? LT_OK
               : px_bad(build, "max_request_bytes", "is more than %d", BYTES_MAX);
}

lt_rc px_make_buffer_filter(struct px_build *build, const void *message,
                            struct px_hcm_conf *hcm LT_UNUSED, const void **ret_conf)
{
    struct px_buffer_conf *buffer = lt_arena_make(build->arena, struct px_buffer_conf);
    *ret_conf = buffer;
    return make_buffer(build, message, buffer);
}

lt_rc px_make_buffer_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    const Xds__BufferPerRoute *in = message;
    struct px_buffer_conf *buffer = lt_arena_make(build->arena, struct px_buffer_conf);
    conf->conf = buffer;
    switch (in->override_case) {
    case XDS__BUFFER_PER_ROUTE__OVERRIDE_DISABLED:
        return in->disabled ? LT_OK : px_bad(build, "disabled", "must be true");
    case XDS__BUFFER_PER_ROUTE__OVERRIDE_BUFFER: return make_buffer(build, in->buffer, buffer);
    default: return px_bad(build, NULL, "needs disabled or buffer");
    }
}

/* --- gRPC statistics --- */

static lt_rc make_services(struct px_build *build, const Xds__GrpcMethodList *in,
                           struct px_grpc_stats_conf *conf)
{
    struct px_grpc_service *services = lt_arena_make_n(build->arena, struct px_grpc_service,
                                                       in->n_services);
    for (size_t i = 0; i < in->n_services; i++) {
        services[i].name = px_copy(build, in->services[i]->name);
        services[i].method_count = in->services[i]->n_method_names;
        LT_TRY(px_make_strings(build, in->services[i]->method_names,
                               in->services[i]->n_method_names, &services[i].methods));
    }
    conf->services = services;
    conf->service_count = in->n_services;
    return LT_OK;
}

lt_rc px_make_grpc_stats_filter(struct px_build *build, const void *message,
                                struct px_hcm_conf *hcm LT_UNUSED, const void **ret_conf)
{
    const Xds__HttpGrpcStats__FilterConfig *in = message;
    struct px_grpc_stats_conf *conf = lt_arena_make(build->arena, struct px_grpc_stats_conf);
    *ret_conf = conf;
    conf->replaces_dots = in->has_replace_dots_in_grpc_service_name &&
                          in->replace_dots_in_grpc_service_name;
    switch (in->per_method_stat_specifier_case) {
    case XDS__HTTP_GRPC_STATS__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_STATS_FOR_ALL_METHODS:
        conf->counts_all_methods = px_bool(in->stats_for_all_methods, false);
        return LT_OK;
    case XDS__HTTP_GRPC_STATS__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_INDIVIDUAL_METHOD_STATS_ALLOWLIST:
        return make_services(build, in->individual_method_stats_allowlist, conf);
    default: return LT_OK;
    }
}
