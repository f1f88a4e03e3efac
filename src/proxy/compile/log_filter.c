/*
 * proxy/compile/log_filter.c - AccessLogFilter to px_log_filter. One that we cannot judge lets all
 * through and is listed.
 */
#include "proxy/conf/log_filter.h"
#include "proxy/compile/build.h"
#include "proxy/compile/meta.h"
#include "proxy/conf/flags.h"

static lt_rc make_filter(struct px_build *build, const Xds__AccessLogFilter *in, unsigned depth,
                         struct px_log_filter *out);

static lt_rc make_parts(struct px_build *build, const ProtobufCBinaryData *parts, size_t count,
                        unsigned depth, struct px_log_filter *out)
{
    struct px_log_filter *list = lt_arena_make_n(build->arena, struct px_log_filter, count);
    out->parts = list;
    out->part_count = count;
    if (depth >= PX_LOG_FILTER_DEPTH_MAX)
        return px_bad(build, NULL, "nests deeper than %d", PX_LOG_FILTER_DEPTH_MAX);
    if (count < 2)
        return px_bad(build, "filters", "at least two are needed");
    for (size_t i = 0; i < count; i++) {
        size_t mark = px_path_enter(build, "filters", (ptrdiff_t)i);
        Xds__AccessLogFilter *part = NULL;
        if (px_unpack_inside(build, parts[i], &xds__access_log_filter__descriptor, &part) != LT_OK)
            return px_bad(build, NULL, "is no AccessLogFilter");
        LT_TRY(make_filter(build, part, depth + 1, &list[i]));
        px_path_leave(build, mark);
    }
    return LT_OK;
}

static lt_rc make_comparison(struct px_build *build, const Xds__ComparisonFilter *in,
                             struct px_log_filter *out)
{
    static const px_log_op ops[] = {
        [XDS__COMPARISON_FILTER__OP__EQ] = PX_LOG_EQ,
        [XDS__COMPARISON_FILTER__OP__GE] = PX_LOG_GE,
        [XDS__COMPARISON_FILTER__OP__LE] = PX_LOG_LE,
        [XDS__COMPARISON_FILTER__OP__NE] = PX_LOG_NE,
    };
    unsigned op = in != NULL && in->has_op ? (unsigned)in->op : 0;
    if (in == NULL || in->value == NULL || op >= LT_ARRAY_LEN(ops))
        return px_bad(build, "comparison", "an operator and a value are needed");
    out->op = ops[op];
    out->value = in->value->has_default_value ? in->value->default_value : 0;
    return LT_OK;
}

static const char *const flag_names[] = {
#define LT_FLAG(id, text, name, help) text,
#include "proxy/conf/flags.def"
#undef LT_FLAG
};

/* Envoy's that we never set. */
static bool is_other_flag(const char *name)
{
    static const char *const others[] = {"LH", "RLSE", "RFCF", "DF"};
    for (size_t i = 0; i < LT_ARRAY_LEN(others); i++) {
        if (strcmp(name, others[i]) == 0)
            return true;
    }
    return false;
}

static lt_rc make_flags(struct px_build *build, const Xds__ResponseFlagFilter *in,
                        struct px_log_filter *out)
{
    enum { NEVER = 63 }; /* a bit that no request has */
    for (size_t i = 0; i < in->n_flags; i++) {
        uint64_t named = 0; /* a name may stand for two */
        for (unsigned at = 0; at < PX_FLAG_COUNT; at++)
            named |= strcmp(in->flags[i], flag_names[at]) == 0 ? UINT64_C(1) << at : 0;
        if (named == 0 && !is_other_flag(in->flags[i]))
            return px_bad(build, "flags", "there is no flag '%s'", in->flags[i]);
        out->set |= named != 0 ? named : UINT64_C(1) << NEVER;
    }
    return LT_OK;
}

static lt_rc make_header(struct px_build *build, const Xds__HeaderFilter *in,
                         struct px_log_filter *out)
{
    if (in->header == NULL)
        return px_bad(build, "header", "is missing");
    return px_make_header_matches(build, &in->header, 1, &out->header);
}

static lt_rc make_metadata(struct px_build *build, const Xds__MetadataMatcher *in,
                           struct px_log_filter *out)
{
    if (in == NULL)
        return LT_OK;
    struct px_meta_match *match = lt_arena_make(build->arena, struct px_meta_match);
    size_t mark = px_path_enter(build, "metadata_filter.matcher", -1);
    LT_TRY(px_make_meta_match(build, in, match));
    px_path_leave(build, mark);
    out->meta = match;
    return LT_OK;
}

static void make_runtime(const Xds__RuntimeFilter *in, struct px_log_filter *out)
{
    out->value = px_fraction_ppm(in->percent_sampled, 0);
    out->ignores_id = in->has_use_independent_randomness && in->use_independent_randomness;
}

static void make_grpc(const Xds__GrpcStatusFilter *in, struct px_log_filter *out)
{
    for (size_t i = 0; i < in->n_statuses; i++)
        out->set |= (unsigned)in->statuses[i] < 63 ? UINT64_C(1) << in->statuses[i] : 0;
    out->excludes = in->has_exclude && in->exclude;
}

static void make_types(const Xds__LogTypeFilter *in, struct px_log_filter *out)
{
    for (size_t i = 0; i < in->n_types; i++)
        out->set |= (unsigned)in->types[i] < 63 ? UINT64_C(1) << in->types[i] : 0;
    out->excludes = in->has_exclude && in->exclude;
}

static lt_rc make_filter(struct px_build *build, const Xds__AccessLogFilter *in, unsigned depth,
                         struct px_log_filter *out)
{
    switch (in->filter_specifier_case) {
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_STATUS_CODE_FILTER:
        out->kind = PX_LOG_IF_STATUS;
        return make_comparison(build, in->status_code_filter->comparison, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_DURATION_FILTER:
        out->kind = PX_LOG_IF_DURATION;
        return make_comparison(build, in->duration_filter->comparison, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_NOT_HEALTH_CHECK_FILTER:
        out->kind = PX_LOG_IF_NOT_HEALTH_CHECK;
        return LT_OK;
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_TRACEABLE_FILTER:
        out->kind = PX_LOG_IF_TRACED;
        return LT_OK;
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RUNTIME_FILTER:
        out->kind = PX_LOG_IF_RANDOM;
        make_runtime(in->runtime_filter, out);
        return LT_OK;
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_AND_FILTER:
        out->kind = PX_LOG_IF_ALL;
        return make_parts(build, in->and_filter->filters, in->and_filter->n_filters, depth, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_OR_FILTER:
        out->kind = PX_LOG_IF_ANY;
        return make_parts(build, in->or_filter->filters, in->or_filter->n_filters, depth, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_HEADER_FILTER:
        out->kind = PX_LOG_IF_HEADER;
        return make_header(build, in->header_filter, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RESPONSE_FLAG_FILTER:
        out->kind = PX_LOG_IF_FLAG;
        return make_flags(build, in->response_flag_filter, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_GRPC_STATUS_FILTER:
        out->kind = PX_LOG_IF_GRPC;
        make_grpc(in->grpc_status_filter, out);
        return LT_OK;
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_METADATA_FILTER:
        out->kind = PX_LOG_IF_METADATA;
        out->match_missing = px_bool(in->metadata_filter->match_if_key_not_found, true);
        return make_metadata(build, in->metadata_filter->matcher, out);
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_LOG_TYPE_FILTER:
        out->kind = PX_LOG_IF_TYPE;
        make_types(in->log_type_filter, out);
        return LT_OK;
    case XDS__ACCESS_LOG_FILTER__FILTER_SPECIFIER_EXTENSION_FILTER:
        /* by expressions, as Telemetry has them: what they would leave out is logged */
        out->kind = PX_LOG_IF_ALL;
        return LT_OK;
    default: return px_bad(build, NULL, "says nothing");
    }
}

lt_rc px_make_log_filter(struct px_build *build, const Xds__AccessLogFilter *in,
                         const struct px_log_filter **ret_filter)
{
    *ret_filter = NULL;
    if (in == NULL)
        return LT_OK;
    struct px_log_filter *filter = lt_arena_make(build->arena, struct px_log_filter);
    size_t mark = px_path_enter(build, "filter", -1);
    LT_TRY(make_filter(build, in, 0, filter));
    px_path_leave(build, mark);
    *ret_filter = filter;
    return LT_OK;
}
