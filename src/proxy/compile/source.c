/*
 * proxy/compile/source.c - what a resource names and where that comes from: ConfigSource to
 * px_source, names to rows.
 * Start at: px_refer().
 */
#include "base/env.h"
#include "proxy/compile/build.h"
#include "proxy/compile/compile.h"

enum { SOURCE_HEADERS_MAX = 64 };

static lt_rc make_headers(struct px_build *build, const char *field, const Xds__GrpcService *in,
                          struct px_source *source)
{
    if (in->n_initial_metadata > SOURCE_HEADERS_MAX)
        return px_bad(build, field, "more than %d entries of initial_metadata", SOURCE_HEADERS_MAX);
    struct px_source_header *headers = lt_arena_make_n(build->scratch, struct px_source_header,
                                                       in->n_initial_metadata);
    for (size_t i = 0; i < in->n_initial_metadata; i++)
        headers[i] = (struct px_source_header){lt_str_of(in->initial_metadata[i]->key),
                                               lt_str_of(in->initial_metadata[i]->value)};
    source->headers = headers;
    source->header_count = in->n_initial_metadata;
    return LT_OK;
}

/* What a source may ask, at most; Envoy's defaults where the settings are empty. */
static lt_rc make_rate(struct px_build *build, const char *field, const Xds__RateLimitSettings *in,
                       struct px_source *source)
{
    enum { TOKENS_DEFAULT = 100 };
    double per_s = 10;
    if (in == NULL)
        return LT_OK;
    source->rate_tokens = px_u32(in->max_tokens, TOKENS_DEFAULT);
    if (in->fill_rate != NULL)
        per_s = in->fill_rate->has_value ? in->fill_rate->value : 0;
    if (source->rate_tokens == 0 || !(per_s > 0))
        return px_bad(build, field,
                      "rate_limit_settings: max_tokens and fill_rate must be above 0");
    /* at least one a day, at most a million a second */
    double fill_ns = (double)LT_NS_PER_S / per_s;
    source->rate_fill_ns = (uint64_t)LT_MIN(LT_MAX(fill_ns, 1000.0), 86400.0 * (double)LT_NS_PER_S);
    return LT_OK;
}

lt_rc px_make_api_source(struct px_build *build, const char *field, const Xds__ApiConfigSource *in,
                         struct px_source *source)
{
    int type = in->has_api_type ? (int)in->api_type : 0;
    source->kind = PX_SOURCE_GRPC;
    source->is_sotw = type == XDS__API_CONFIG_SOURCE__API_TYPE__GRPC;
    source->says_node_always = !(in->has_set_node_on_first_message_only &&
                                 in->set_node_on_first_message_only);
    if (type == XDS__API_CONFIG_SOURCE__API_TYPE__REST)
        return px_unsupported(build, field, "REST is not supported, only gRPC");
    if (type != XDS__API_CONFIG_SOURCE__API_TYPE__GRPC &&
        type != XDS__API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC)
        return px_unsupported(build, field, "api_type %d is not supported", type);
    const Xds__GrpcService *service = in->n_grpc_services > 0 ? in->grpc_services[0] : NULL;
    if (service == NULL ||
        service->target_specifier_case != XDS__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC ||
        service->envoy_grpc->cluster_name == NULL)
        return px_unsupported(build, field, "a grpc_service with envoy_grpc is needed");
    source->cluster = lt_str_of(service->envoy_grpc->cluster_name);
    source->authority = lt_str_of(service->envoy_grpc->authority);
    LT_TRY(make_rate(build, field, in->rate_limit_settings, source));
    return make_headers(build, field, service, source);
}

static lt_rc make_path_source(struct px_build *build, const char *field,
                              const Xds__PathConfigSource *in, struct px_source *source)
{
    source->kind = PX_SOURCE_PATH;
    source->path = lt_str_of(in->path);
    source->directory = in->watched_directory != NULL ? lt_str_of(in->watched_directory->path)
                                                      : LT_STR_NULL;
    return source->path.len > 0 ? LT_OK : px_bad(build, field, "path_config_source.path is empty");
}

static lt_rc read_source(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                         struct px_source *source)
{
    switch (in->config_source_specifier_case) {
    case XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS:
        source->kind = PX_SOURCE_ADS;
        return LT_OK;
    case XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF: *source = *build->own; return LT_OK;
    case XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE: {
        int type = in->api_config_source->has_api_type ? (int)in->api_config_source->api_type : 0;
        if (type == XDS__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_GRPC ||
            type == XDS__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_DELTA_GRPC)
            return px_unsupported(build, field, "aggregated streams by name are not supported");
        return px_make_api_source(build, field, in->api_config_source, source);
    }
    case XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH: /* before there were directories */
        source->kind = PX_SOURCE_PATH;
        source->path = lt_str_of(in->path);
        return source->path.len > 0 ? LT_OK : px_bad(build, field, "path is empty");
    case XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH_CONFIG_SOURCE:
        return make_path_source(build, field, in->path_config_source, source);
    default:
        return px_unsupported(build, field,
                              "ads, api_config_source or path_config_source is needed");
    }
}

lt_rc px_make_source(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                     const struct px_source **ret_source, uint32_t *ret_timeout_ms)
{
    struct px_source source = {0};
    if (in == NULL)
        return px_bad(build, field, "is missing");
    LT_TRY(read_source(build, field, in, &source));
    if (source.kind == PX_SOURCE_ADS &&
        !px_sources_have_ads(px_tls_slots_rows(build->slots)->sources))
        return px_bad(build, field, "ads is named, but the bootstrap has no ads_config");
    *ret_source = px_source_intern(px_tls_slots_rows(build->slots)->sources, &source);
    if (*ret_source == NULL)
        return px_bad(build, field, "more than %d different sources", PX_SOURCES_MAX);
    uint64_t timeout_ms = px_duration_ms(in->initial_fetch_timeout, PX_FETCH_TIMEOUT_DEFAULT_MS);
    if (ret_timeout_ms != NULL)
        *ret_timeout_ms = (uint32_t)LT_MIN(timeout_ms, (uint64_t)UINT32_MAX);
    return LT_OK;
}

/* A resource names few things more than once; those are one need. */
static void add_need(struct px_build *build, struct px_row *row, bool is_soft)
{
    bool is_known = lt_vec_find(&build->needs, row) >= 0 ||
                    (is_soft && lt_vec_find(&build->soft_needs, row) >= 0);
    if (is_known)
        px_row_unref(&row);
    else
        lt_vec_push(is_soft ? &build->soft_needs : &build->needs, row);
}

lt_rc px_refer(struct px_build *build, const char *field, px_resource_kind kind,
               const Xds__ConfigSource *in, lt_str name, bool is_soft, struct px_row **ret_row)
{
    struct px_rows *rows = px_tls_slots_rows(build->slots);
    const struct px_source *source = px_source_bootstrap(rows->sources);
    uint32_t timeout_ms = 0;
    if (in != NULL || kind != PX_SECRET) /* a secret without one is the bootstrap's own */
        LT_TRY(px_make_source(build, field, in, &source, &timeout_ms));
    struct px_row *row = px_row_get(rows, kind, source, name);
    if (row == NULL)
        return px_bad(build, field, "more than %d names are in use", PX_ROWS_MAX);
    bool is_unknown = in == NULL && row->serving == NULL;
    row->timeout_ms = timeout_ms;
    *ret_row = row;
    add_need(build, row, is_soft);
    if (is_unknown)
        return px_bad(build, field, "unknown static secret: %.*s", LT_STR_ARG(name));
    return LT_OK;
}
