/*
 * proxy/compile/hash.c - by what requests and connections find the same host again: hash policies,
 * and the metadata that chooses a subset.
 * Start at: px_make_hash_policies(). At run time: hash_policy.c.
 */
#include <stdlib.h>

#include "proxy/compile/kinds.h"

enum { ATTRIBUTES_BYTES_MAX = 4096 };

/* --- RouteAction.hash_policy --- */

static lt_rc make_header(struct px_build *build, const Xds__RouteAction__HashPolicy__Header *in,
                         struct px_hash_policy *policy)
{
    policy->kind = PX_HASH_HEADER;
    policy->name = px_copy_lower(build, in->header_name);
    if (policy->name.len == 0)
        return px_bad(build, "header.header_name", "is empty");
    if (in->regex_rewrite == NULL)
        return LT_OK;
    policy->substitution = px_copy(build, in->regex_rewrite->substitution);
    return px_make_regex(build, "header.regex_rewrite", in->regex_rewrite->pattern, &policy->regex);
}

/* Everything of Set-Cookie behind the value, which is the same for all requests. */
static lt_rc make_attributes(struct px_build *build, const Xds__RouteAction__HashPolicy__Cookie *in,
                             lt_str *ret_attributes)
{
    struct lt_buf out;
    lt_buf_init(&out, ATTRIBUTES_BYTES_MAX);
    uint64_t age_s = px_duration_ms(in->ttl, 0) / 1000;
    if (age_s > 0)
        lt_buf_addf(&out, "; Max-Age=%llu", (unsigned long long)age_s);
    if (in->path != NULL && in->path[0] != '\0')
        lt_buf_addf(&out, "; Path=%s", in->path);
    for (size_t i = 0; i < in->n_attributes; i++) {
        const Xds__RouteAction__HashPolicy__CookieAttribute *attribute = in->attributes[i];
        bool has_value = attribute->value != NULL && attribute->value[0] != '\0';
        lt_buf_addf(&out, "; %s%s%s", attribute->name != NULL ? attribute->name : "",
                    has_value ? "=" : "", has_value ? attribute->value : "");
    }
    lt_buf_addf(&out, "; HttpOnly");
    *ret_attributes = lt_arena_str(build->arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return LT_OK;
}

static lt_rc make_cookie(struct px_build *build, const Xds__RouteAction__HashPolicy__Cookie *in,
                         struct px_hash_policy *policy)
{
    policy->kind = PX_HASH_COOKIE;
    policy->name = px_copy(build, in->name);
    policy->has_ttl = in->ttl != NULL;
    if (policy->name.len == 0)
        return px_bad(build, "cookie.name", "is empty");
    return make_attributes(build, in, &policy->attributes);
}

/* *ret_is_none: it is listed, and hashes nothing. */
static lt_rc make_policy(struct px_build *build, const Xds__RouteAction__HashPolicy *in,
                         struct px_hash_policy *policy, bool *ret_is_none)
{
    policy->is_terminal = in->has_terminal && in->terminal;
    switch (in->policy_specifier_case) {
    case XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_HEADER:
        return make_header(build, in->header, policy);
    case XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_COOKIE:
        return make_cookie(build, in->cookie, policy);
    case XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES:
        policy->kind = PX_HASH_SOURCE_IP;
        *ret_is_none = !in->connection_properties->has_source_ip ||
                       !in->connection_properties->source_ip;
        return LT_OK;
    case XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER:
        policy->kind = PX_HASH_QUERY;
        policy->name = px_copy(build, in->query_parameter->name);
        return policy->name.len > 0 ? LT_OK : px_bad(build, "query_parameter.name", "is empty");
    case XDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_FILTER_STATE:
        *ret_is_none = true;
        return LT_OK;
    default: return px_bad(build, NULL, "something to hash is needed");
    }
}

static void finish(struct px_build *build, struct px_hash_policy *items, size_t count,
                   const struct px_hash_policies **ret_policies)
{
    struct px_hash_policies *policies = lt_arena_make(build->arena, struct px_hash_policies);
    *policies = (struct px_hash_policies){items, count};
    *ret_policies = count > 0 ? policies : NULL;
}

lt_rc px_make_hash_policies(struct px_build *build, Xds__RouteAction__HashPolicy *const *in,
                            size_t count, const struct px_hash_policies **ret_policies)
{
    if (count == 0)
        return LT_OK;
    struct px_hash_policy *items = lt_arena_make_n(build->arena, struct px_hash_policy, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_none = false;
        size_t mark = px_path_enter(build, "hash_policy", (ptrdiff_t)i);
        LT_TRY(make_policy(build, in[i], &items[kept], &is_none));
        px_path_leave(build, mark);
        kept += is_none ? 0 : 1;
    }
    finish(build, items, kept, ret_policies);
    return LT_OK;
}

lt_rc px_make_tcp_hash_policies(struct px_build *build, Xds__HashPolicy *const *in, size_t count,
                                const struct px_hash_policies **ret_policies)
{
    struct px_hash_policy *items = lt_arena_make_n(build->arena, struct px_hash_policy, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (in[i]->policy_specifier_case == XDS__HASH_POLICY__POLICY_SPECIFIER_SOURCE_IP)
            items[kept++].kind = PX_HASH_SOURCE_IP;
    }
    if (kept > 0)
        finish(build, items, kept, ret_policies);
    return LT_OK;
}

/* --- metadata_match --- */

static int by_key(const void *a, const void *b)
{
    return lt_str_cmp(((const struct px_meta_pair *)a)->key, ((const struct px_meta_pair *)b)->key);
}

static bool has_key(const struct px_metas *metas, lt_str key)
{
    for (size_t i = 0; i < metas->count; i++) {
        if (lt_str_eq(metas->items[i].key, key))
            return true;
    }
    return false;
}

lt_rc px_make_metadata_match(struct px_build *build, const Xds__Metadata *in,
                             const struct px_metas *base, const struct px_metas **ret_metas)
{
    struct px_metas own;
    *ret_metas = base;
    if (in == NULL)
        return LT_OK;
    LT_TRY(px_make_json_metas(build, "metadata_match", px_find_metadata(in, "envoy.lb"), &own));
    if (own.count == 0)
        return LT_OK;
    size_t base_count = base != NULL ? base->count : 0, count = own.count;
    struct px_meta_pair *pairs = lt_arena_make_n(build->arena, struct px_meta_pair,
                                                 own.count + base_count);
    memcpy(pairs, own.items, own.count * sizeof(*pairs));
    for (size_t i = 0; i < base_count; i++) {
        if (!has_key(&own, base->items[i].key))
            pairs[count++] = base->items[i];
    }
    qsort(pairs, count, sizeof(*pairs), by_key);
    struct px_metas *made = lt_arena_make(build->arena, struct px_metas);
    *made = (struct px_metas){pairs, count};
    *ret_metas = made;
    return LT_OK;
}
