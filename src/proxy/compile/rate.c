/*
 * proxy/compile/rate.c - RateLimit of routes and virtual hosts. A limit with an action that we lack
 * gives nothing, and is listed.
 */
#include "proxy/compile/rate.h"

#include "proxy/compile/kinds.h"

static lt_str key_or(struct px_build *build, const char *key, const char *otherwise)
{
    return key != NULL && key[0] != '\0' ? px_copy(build, key) : lt_str_of(otherwise);
}

static lt_rc make_match(struct px_build *build, const Xds__RateLimit__Action__HeaderValueMatch *in,
                        struct px_rate_action *action)
{
    action->kind = PX_RATE_HEADERS_MATCH;
    action->key = key_or(build, in->descriptor_key, "header_match");
    action->value = px_copy(build, in->descriptor_value);
    action->expects_match = px_bool(in->expect_match, true);
    action->header_count = in->n_headers;
    return px_make_header_matches(build, in->headers, in->n_headers, &action->headers);
}

static lt_rc make_query_match(struct px_build *build,
                              const Xds__RateLimit__Action__QueryParameterValueMatch *in,
                              struct px_rate_action *action)
{
    action->kind = PX_RATE_QUERIES_MATCH;
    action->key = key_or(build, in->descriptor_key, "query_match");
    action->value = px_copy(build, in->descriptor_value);
    action->expects_match = px_bool(in->expect_match, true);
    action->query_count = in->n_query_parameters;
    return px_make_queries(build, "query_parameter_value_match", in->query_parameters,
                           in->n_query_parameters, &action->queries);
}

static lt_rc make_network(struct px_build *build,
                          const Xds__RateLimit__Action__MaskedRemoteAddress *in,
                          struct px_rate_action *action)
{
    action->kind = PX_RATE_NETWORK;
    action->key = LT_STR("masked_remote_address");
    action->v4_bits = (uint8_t)LT_MIN(px_u32(in->v4_prefix_mask_len, 32), 255u);
    action->v6_bits = (uint8_t)LT_MIN(px_u32(in->v6_prefix_mask_len, 128), 255u);
    return action->v4_bits <= 32 && action->v6_bits <= 128
               ? LT_OK
               : px_bad(build, "masked_remote_address", "a prefix is longer than the address");
}

static lt_rc make_metadata(struct px_build *build, const char *key, const char *otherwise,
                           const Xds__MetadataKey *from, struct px_rate_action *action)
{
    size_t depth = from != NULL ? from->n_path : 0;
    lt_str *path = lt_arena_make_n(build->arena, lt_str, depth);
    for (size_t i = 0; i < depth; i++)
        path[i] = px_copy(build, from->path[i]->key);
    action->kind = PX_RATE_METADATA;
    action->key = px_copy(build, key);
    action->value = px_copy(build, otherwise);
    action->name = px_copy(build, from != NULL ? from->key : NULL);
    action->path = path;
    action->depth = depth;
    return action->key.len > 0 && action->name.len > 0 && depth > 0
               ? LT_OK
               : px_bad(build, "metadata", "needs descriptor_key and metadata_key");
}

/* LT_E_NOT_FOUND: we have none of that kind. */
static lt_rc make_action(struct px_build *build, const Xds__RateLimit__Action *in,
                         struct px_rate_action *action)
{
    switch (in->action_specifier_case) {
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_DESTINATION_CLUSTER:
        action->kind = PX_RATE_DESTINATION;
        action->key = LT_STR("destination_cluster");
        return LT_OK;
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_REQUEST_HEADERS:
        action->kind = PX_RATE_HEADER;
        action->key = px_copy(build, in->request_headers->descriptor_key);
        action->name = px_copy_lower(build, in->request_headers->header_name);
        action->may_lack = in->request_headers->has_skip_if_absent &&
                           in->request_headers->skip_if_absent;
        return action->key.len > 0 && action->name.len > 0
                   ? LT_OK
                   : px_bad(build, "request_headers", "needs header_name and descriptor_key");
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_REMOTE_ADDRESS:
        action->kind = PX_RATE_REMOTE;
        action->key = LT_STR("remote_address");
        return LT_OK;
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_GENERIC_KEY:
        action->kind = PX_RATE_GENERIC;
        action->key = key_or(build, in->generic_key->descriptor_key, "generic_key");
        action->value = px_copy(build, in->generic_key->descriptor_value);
        return LT_OK;
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_HEADER_VALUE_MATCH:
        return make_match(build, in->header_value_match, action);
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_QUERY_PARAMETERS:
        action->kind = PX_RATE_QUERY;
        action->key = key_or(build, in->query_parameters->descriptor_key, "query_parameter");
        action->name = px_copy(build, in->query_parameters->query_parameter_name);
        action->may_lack = in->query_parameters->has_skip_if_absent &&
                           in->query_parameters->skip_if_absent;
        return LT_OK;
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_QUERY_PARAMETER_VALUE_MATCH:
        return make_query_match(build, in->query_parameter_value_match, action);
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_MASKED_REMOTE_ADDRESS:
        return make_network(build, in->masked_remote_address, action);
    case XDS__RATE_LIMIT__ACTION__ACTION_SPECIFIER_METADATA: {
        const Xds__RateLimit__Action__MetaData *meta = in->metadata;
        action->may_lack = meta->has_skip_if_absent && meta->skip_if_absent;
        if (meta->has_source && meta->source != 0) {
            px_unhonoured(build, "metadata.source");
            return LT_E_NOT_FOUND;
        }
        return make_metadata(build, meta->descriptor_key, meta->default_value, meta->metadata_key,
                             action);
    }
    default: return LT_E_NOT_FOUND;
    }
}

static lt_rc make_limit(struct px_build *build, const Xds__RateLimit *in,
                        struct px_rate_limit *limit)
{
    struct px_rate_action *actions = lt_arena_make_n(build->arena, struct px_rate_action,
                                                     in->n_actions);
    if (in->n_actions == 0 || in->n_actions > PX_RATE_ENTRIES_MAX)
        return px_bad(build, "actions", "must be 1 to %d", PX_RATE_ENTRIES_MAX);
    for (size_t i = 0; i < in->n_actions; i++) {
        size_t mark = px_path_enter(build, "actions", (ptrdiff_t)i);
        LT_TRY(make_action(build, in->actions[i], &actions[i]));
        px_path_leave(build, mark);
    }
    limit->stage = px_u32(in->stage, 0);
    limit->actions = actions;
    limit->action_count = in->n_actions;
    return LT_OK;
}

lt_rc px_make_rate_limits(struct px_build *build, Xds__RateLimit *const *in, size_t count,
                          struct px_rate_limits *limits)
{
    struct px_rate_limit *items = lt_arena_make_n(build->arena, struct px_rate_limit, count);
    for (size_t i = 0; i < count; i++) {
        size_t mark = px_path_enter(build, "rate_limits", (ptrdiff_t)i);
        lt_rc rc = make_limit(build, in[i], &items[limits->count]);
        if (rc != LT_OK && rc != LT_E_NOT_FOUND)
            return rc;
        px_path_leave(build, mark);
        limits->count += rc == LT_OK ? 1 : 0;
    }
    limits->items = items;
    return LT_OK;
}

lt_rc px_make_own_rate_limits(struct px_build *build, Xds__RateLimit *const *in, size_t count,
                              const struct px_rate_limits **ret_limits)
{
    struct px_rate_limits *limits = lt_arena_make(build->arena, struct px_rate_limits);
    if (count == 0)
        return LT_OK;
    *ret_limits = limits;
    return px_make_rate_limits(build, in, count, limits);
}
