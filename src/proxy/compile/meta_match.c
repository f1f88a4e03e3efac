/*
 * proxy/compile/meta_match.c - MetadataMatcher and ValueMatcher to what meta.h matches with.
 */
#include "proxy/compile/meta.h"

enum { VALUE_DEPTH_MAX = 16 };

static lt_rc make_value(struct px_build *build, const Xds__ValueMatcher *in, int depth,
                        struct px_value_match *match);

static lt_rc make_inner(struct px_build *build, const ProtobufCBinaryData *bytes, size_t count,
                        int depth, struct px_value_match *match)
{
    struct px_value_match *inner = lt_arena_make_n(build->arena, struct px_value_match, count);
    for (size_t i = 0; i < count; i++) {
        Xds__ValueMatcher *in = NULL;
        if (px_unpack_inside(build, bytes[i], &xds__value_matcher__descriptor, &in) != LT_OK)
            return px_bad(build, "value", "is not readable");
        LT_TRY(make_value(build, in, depth + 1, &inner[i]));
    }
    match->inner = inner;
    match->inner_count = count;
    return LT_OK;
}

static lt_rc make_number(struct px_build *build, const Xds__DoubleMatcher *in,
                         struct px_value_match *match)
{
    switch (in->match_pattern_case) {
    case XDS__DOUBLE_MATCHER__MATCH_PATTERN_EXACT:
        match->kind = PX_VALUE_NUMBER;
        match->from = in->exact;
        return LT_OK;
    case XDS__DOUBLE_MATCHER__MATCH_PATTERN_RANGE:
        match->kind = PX_VALUE_RANGE;
        match->from = in->range->has_start ? in->range->start : 0;
        match->to = in->range->has_end ? in->range->end : 0;
        return LT_OK;
    default: return px_bad(build, "value.double_match", "is empty");
    }
}

static lt_rc make_value(struct px_build *build, const Xds__ValueMatcher *in, int depth,
                        struct px_value_match *match)
{
    if (depth > VALUE_DEPTH_MAX)
        return px_bad(build, "value", "is nested deeper than %d", VALUE_DEPTH_MAX);
    switch (in->match_pattern_case) {
    case XDS__VALUE_MATCHER__MATCH_PATTERN_NULL_MATCH: match->kind = PX_VALUE_NULL; return LT_OK;
    case XDS__VALUE_MATCHER__MATCH_PATTERN_DOUBLE_MATCH:
        return make_number(build, in->double_match, match);
    case XDS__VALUE_MATCHER__MATCH_PATTERN_STRING_MATCH:
        match->kind = PX_VALUE_STRING;
        return px_make_string_match(build, "value.string_match", in->string_match, &match->text);
    case XDS__VALUE_MATCHER__MATCH_PATTERN_BOOL_MATCH:
        match->kind = PX_VALUE_BOOL;
        match->flag = in->bool_match;
        return LT_OK;
    case XDS__VALUE_MATCHER__MATCH_PATTERN_PRESENT_MATCH:
        match->kind = PX_VALUE_PRESENT;
        match->flag = in->present_match;
        return LT_OK;
    case XDS__VALUE_MATCHER__MATCH_PATTERN_LIST_MATCH:
        match->kind = PX_VALUE_LIST;
        if (in->list_match->match_pattern_case != XDS__LIST_MATCHER__MATCH_PATTERN_ONE_OF)
            return px_bad(build, "value.list_match", "is empty");
        return make_inner(build, &in->list_match->one_of, 1, depth, match);
    case XDS__VALUE_MATCHER__MATCH_PATTERN_OR_MATCH:
        match->kind = PX_VALUE_OR;
        return make_inner(build, in->or_match->value_matchers, in->or_match->n_value_matchers,
                          depth, match);
    default: return px_bad(build, "value", "is empty");
    }
}

lt_rc px_make_meta_match(struct px_build *build, const Xds__MetadataMatcher *in,
                         struct px_meta_match *match)
{
    lt_str *path = lt_arena_make_n(build->arena, lt_str, in->n_path);
    match->filter = px_copy(build, in->filter);
    if (match->filter.len == 0)
        return px_bad(build, "filter", "is empty");
    for (size_t i = 0; i < in->n_path; i++)
        path[i] = px_copy(build, in->path[i]->key);
    match->path = path;
    match->depth = in->n_path;
    match->invert = in->has_invert && in->invert;
    if (in->value == NULL)
        return px_bad(build, "value", "is missing");
    return make_value(build, in->value, 0, &match->value);
}
