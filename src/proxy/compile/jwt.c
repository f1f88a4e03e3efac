/*
 * proxy/compile/jwt.c - JwtAuthentication to px_jwt_conf.
 * Start at: px_make_jwt_filter().
 */
#include "http/http.h"
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/conf/jwt_authn.h"
#include "wire/proto/http_jwt_authn.pb-c.h"

enum {
    DEPTH_MAX = 16,
    SKEW_DEFAULT_S = 60,
    CACHE_DEFAULT_MS = 600 * 1000,
    REFETCH_DEFAULT_MS = 1000,
    RETRIES_MAX = 10,
};

/* Key sets of the configuration are told apart by numbers; made by the main thread alone. */
static uint64_t keys_made;

/* --- providers --- */

static void free_keys(void *keys)
{
    struct lt_jwks *freed = keys;
    lt_jwks_free(&freed);
}

static lt_rc make_local(struct px_build *build, const Xds__DataSource *in,
                        struct px_jwt_provider *provider)
{
    struct lt_jwks *keys = NULL;
    struct lt_err inner = {0};
    lt_str text;
    LT_TRY(px_make_data(build, "local_jwks", in, &text));
    if (lt_jwks_parse(text, &keys, &inner) != LT_OK)
        return px_bad(build, "local_jwks", "%s", inner.text);
    px_own(build, keys, free_keys);
    provider->keys = keys;
    provider->keys_id = ++keys_made;
    return LT_OK;
}

static lt_rc make_remote(struct px_build *build, const Xds__RemoteJwks *in,
                         struct px_jwt_remote *remote)
{
    LT_TRY(px_make_http_uri(build, "remote_jwks.http_uri", in->http_uri, &remote->cluster,
                            &remote->scheme, &remote->authority, &remote->path,
                            &remote->timeout_ms));
    remote->cache_ms = px_duration_ms(in->cache_duration, CACHE_DEFAULT_MS);
    remote->failed_refetch_ms = REFETCH_DEFAULT_MS;
    remote->is_async = in->async_fetch != NULL;
    if (in->async_fetch != NULL)
        remote->failed_refetch_ms = px_duration_ms(in->async_fetch->failed_refetch_duration,
                                                   REFETCH_DEFAULT_MS);
    if (in->retry_policy != NULL)
        remote->retries = LT_MIN(px_u32(in->retry_policy->num_retries, 1), (uint32_t)RETRIES_MAX);
    remote->id = lt_arena_printf(
        build->arena, "%.*s %.*s://%.*s%.*s %llu %llu %llu %u %d", LT_STR_ARG(remote->cluster),
        LT_STR_ARG(remote->scheme), LT_STR_ARG(remote->authority), LT_STR_ARG(remote->path),
        (unsigned long long)remote->timeout_ms, (unsigned long long)remote->cache_ms,
        (unsigned long long)remote->failed_refetch_ms, remote->retries, remote->is_async);
    return LT_OK;
}

/* Where nothing is said: the Authorization header, and a parameter. */
static lt_rc make_locations(struct px_build *build, const Xds__JwtProvider *in,
                            struct px_jwt_provider *provider)
{
    static const struct px_jwt_location usual[] = {
        {PX_JWT_IN_HEADER, {"authorization", 13}, {"Bearer ", 7}},
        {PX_JWT_IN_PARAM, {"access_token", 12}, {NULL, 0}},
    };
    size_t count = in->n_from_headers + in->n_from_params + in->n_from_cookies, at = 0;
    if (count == 0) {
        provider->locations = usual;
        provider->location_count = LT_ARRAY_LEN(usual);
        return LT_OK;
    }
    struct px_jwt_location *locations = lt_arena_make_n(build->arena, struct px_jwt_location,
                                                        count);
    for (size_t i = 0; i < in->n_from_headers; i++)
        locations[at++] = (struct px_jwt_location){
            PX_JWT_IN_HEADER, px_copy_lower(build, in->from_headers[i]->name),
            px_copy(build, in->from_headers[i]->value_prefix)};
    for (size_t i = 0; i < in->n_from_params; i++)
        locations[at++] = (struct px_jwt_location){PX_JWT_IN_PARAM,
                                                   px_copy(build, in->from_params[i]), LT_STR_NULL};
    for (size_t i = 0; i < in->n_from_cookies; i++)
        locations[at++] = (struct px_jwt_location){
            PX_JWT_IN_COOKIE, px_copy(build, in->from_cookies[i]), LT_STR_NULL};
    for (size_t i = 0; i < count; i++) {
        if (locations[i].name.len == 0)
            return px_bad(build, "from_headers", "a place without a name");
    }
    provider->locations = locations;
    provider->location_count = count;
    return LT_OK;
}

static lt_rc make_claim_headers(struct px_build *build, const Xds__JwtProvider *in,
                                struct px_jwt_provider *provider)
{
    struct px_jwt_claim_header *list = lt_arena_make_n(build->arena, struct px_jwt_claim_header,
                                                       in->n_claim_to_headers);
    for (size_t i = 0; i < in->n_claim_to_headers; i++) {
        list[i].header = px_copy_lower(build, in->claim_to_headers[i]->header_name);
        list[i].claim = px_copy(build, in->claim_to_headers[i]->claim_name);
        if (!lt_http_is_token(list[i].header) || list[i].claim.len == 0)
            return px_bad(build, "claim_to_headers", "needs a header's and a claim's name");
    }
    provider->claim_headers = list;
    provider->claim_header_count = in->n_claim_to_headers;
    return LT_OK;
}

static lt_rc make_outputs(struct px_build *build, const Xds__JwtProvider *in,
                          struct px_jwt_provider *provider)
{
    provider->payload_header = px_copy_lower(build, in->forward_payload_header);
    provider->pads_payload = in->has_pad_forward_payload_header && in->pad_forward_payload_header;
    provider->payload_key = px_copy(build, in->payload_in_metadata);
    provider->header_key = px_copy(build, in->header_in_metadata);
    provider->failed_key = px_copy(build, in->failed_status_in_metadata);
    provider->forwards_token = in->has_forward && in->forward;
    provider->clears_route = in->has_clear_route_cache && in->clear_route_cache;
    if (provider->payload_header.len > 0 && !lt_http_is_token(provider->payload_header))
        return px_bad(build, "forward_payload_header", "is no header's name");
    const Xds__JwtProvider__NormalizePayload *normal = in->normalize_payload_in_metadata;
    if (normal != NULL) {
        provider->space_delimited_count = normal->n_space_delimited_claims;
        LT_TRY(px_make_strings(build, normal->space_delimited_claims,
                               normal->n_space_delimited_claims, &provider->space_delimited));
    }
    return make_claim_headers(build, in, provider);
}

static lt_rc make_checks(struct px_build *build, const Xds__JwtProvider *in,
                         struct px_jwt_provider *provider)
{
    provider->issuer = px_copy(build, in->issuer);
    provider->audience_count = in->n_audiences;
    LT_TRY(px_make_strings(build, in->audiences, in->n_audiences, &provider->audiences));
    provider->clock_skew_s = in->has_clock_skew_seconds && in->clock_skew_seconds > 0
                                 ? in->clock_skew_seconds
                                 : SKEW_DEFAULT_S;
    provider->requires_expiry = in->has_require_expiration && in->require_expiration;
    provider->max_lifetime_s = (int64_t)(px_duration_ms(in->max_lifetime, 0) / 1000);
    if (in->subjects == NULL)
        return LT_OK;
    struct px_string_match *subjects = lt_arena_make(build->arena, struct px_string_match);
    provider->subjects = subjects;
    return px_make_string_match(build, "subjects", in->subjects, subjects);
}

static lt_rc make_provider(struct px_build *build, const Xds__JwtProvider *in,
                           struct px_jwt_provider *provider)
{
    LT_TRY(make_checks(build, in, provider));
    LT_TRY(make_locations(build, in, provider));
    LT_TRY(make_outputs(build, in, provider));
    switch (in->jwks_source_specifier_case) {
    case XDS__JWT_PROVIDER__JWKS_SOURCE_SPECIFIER_LOCAL_JWKS:
        return make_local(build, in->local_jwks, provider);
    case XDS__JWT_PROVIDER__JWKS_SOURCE_SPECIFIER_REMOTE_JWKS:
        return make_remote(build, in->remote_jwks, &provider->remote);
    default: return px_bad(build, NULL, "needs local_jwks or remote_jwks");
    }
}

static lt_rc make_providers(struct px_build *build, const Xds__JwtAuthentication *in,
                            struct px_jwt_conf *conf)
{
    struct px_jwt_provider *providers = lt_arena_make_n(build->arena, struct px_jwt_provider,
                                                        in->n_providers);
    for (size_t i = 0; i < in->n_providers; i++) {
        size_t mark = px_path_enter(build, "providers", -1);
        px_path_enter(build, in->providers[i]->key, -1);
        providers[i].name = px_copy(build, in->providers[i]->key);
        if (in->providers[i]->value == NULL)
            return px_bad(build, NULL, "is empty");
        LT_TRY(make_provider(build, in->providers[i]->value, &providers[i]));
        conf->has_remote |= providers[i].keys == NULL;
        px_path_leave(build, mark);
    }
    conf->providers = providers;
    conf->provider_count = in->n_providers;
    return LT_OK;
}

/* --- needs --- */

static const struct px_jwt_provider *find_provider(const struct px_jwt_conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->provider_count; i++) {
        if (lt_str_eqz(conf->providers[i].name, name != NULL ? name : ""))
            return &conf->providers[i];
    }
    return NULL;
}

static lt_rc need_provider(struct px_build *build, const struct px_jwt_conf *conf, const char *name,
                           struct px_jwt_need *need)
{
    const struct px_jwt_provider **one = lt_arena_make(build->arena,
                                                       const struct px_jwt_provider *);
    *one = find_provider(conf, name);
    if (*one == NULL)
        return px_bad(build, NULL, "Required provider ['%s'] is not configured.",
                      name != NULL ? name : "");
    need->kind = PX_JWT_NEED_PROVIDER;
    need->providers = one;
    need->provider_count = 1;
    return LT_OK;
}

/* beside: those that stand in the same list; without any, all of the filter. */
static void need_no_more(struct px_build *build, const struct px_jwt_conf *conf,
                         px_jwt_need_kind kind, const struct px_jwt_need *beside, size_t count,
                         struct px_jwt_need *need)
{
    const struct px_jwt_provider **list = lt_arena_make_n(
        build->arena, const struct px_jwt_provider *, LT_MAX(conf->provider_count, count));
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (beside[i].kind == PX_JWT_NEED_PROVIDER)
            list[used++] = beside[i].providers[0];
    }
    for (size_t i = 0; used == 0 && i < conf->provider_count; i++)
        list[i] = &conf->providers[i];
    need->kind = kind;
    need->providers = list;
    need->provider_count = used > 0 ? used : conf->provider_count;
}

static lt_rc make_need(struct px_build *build, const struct px_jwt_conf *conf,
                       const Xds__JwtRequirement *in, int depth, struct px_jwt_need *need);

/* Envoy: what lets everybody in, or nobody's token, comes last in a list of alternatives. */
static bool comes_last(const Xds__JwtRequirement *in)
{
    return in->requires_type_case == XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING ||
           in->requires_type_case == XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED;
}

static lt_rc unpack_all(struct px_build *build, const ProtobufCBinaryData *list, size_t count,
                        int depth, Xds__JwtRequirement **ret_list)
{
    if (depth >= DEPTH_MAX)
        return px_bad(build, NULL, "requirements nested deeper than %d", DEPTH_MAX);
    if (count < 2)
        return px_bad(build, NULL, "a list of requirements needs at least two");
    for (size_t i = 0; i < count; i++) {
        if (px_unpack_inside(build, list[i], &xds__jwt_requirement__descriptor, &ret_list[i]) !=
            LT_OK)
            return px_bad(build, NULL, "is not readable");
    }
    return LT_OK;
}

static lt_rc make_any(struct px_build *build, const struct px_jwt_conf *conf,
                      const Xds__JwtRequirementOrList *in, int depth, struct px_jwt_need *need)
{
    size_t count = in->n_requirements, used = 0;
    Xds__JwtRequirement **list = lt_arena_make_n(build->scratch, Xds__JwtRequirement *, count);
    struct px_jwt_need *parts = lt_arena_make_n(build->arena, struct px_jwt_need, count);
    LT_TRY(unpack_all(build, in->requirements, count, depth, list));
    const Xds__JwtRequirement *last = NULL;
    for (size_t i = 0; i < count; i++) {
        bool is_wider = list[i]->requires_type_case ==
                        XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED;
        if (!comes_last(list[i]))
            LT_TRY(make_need(build, conf, list[i], depth + 1, &parts[used++]));
        else if (last == NULL || is_wider)
            last = list[i];
    }
    if (last != NULL) {
        bool is_wider = last->requires_type_case ==
                        XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED;
        need_no_more(build, conf, is_wider ? PX_JWT_NEED_ANYTHING : PX_JWT_NEED_VALID_OR_NONE,
                     parts, used, &parts[used]);
        used++;
    }
    *need = (struct px_jwt_need){.kind = PX_JWT_NEED_ANY, .parts = parts, .part_count = used};
    return LT_OK;
}

static lt_rc make_all(struct px_build *build, const struct px_jwt_conf *conf,
                      const Xds__JwtRequirementAndList *in, int depth, struct px_jwt_need *need)
{
    size_t count = in->n_requirements;
    Xds__JwtRequirement **list = lt_arena_make_n(build->scratch, Xds__JwtRequirement *, count);
    struct px_jwt_need *parts = lt_arena_make_n(build->arena, struct px_jwt_need, count);
    LT_TRY(unpack_all(build, in->requirements, count, depth, list));
    for (size_t i = 0; i < count; i++)
        LT_TRY(make_need(build, conf, list[i], depth + 1, &parts[i]));
    *need = (struct px_jwt_need){.kind = PX_JWT_NEED_ALL, .parts = parts, .part_count = count};
    return LT_OK;
}

static lt_rc make_need(struct px_build *build, const struct px_jwt_conf *conf,
                       const Xds__JwtRequirement *in, int depth, struct px_jwt_need *need)
{
    switch (in->requires_type_case) {
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_PROVIDER_NAME:
        return need_provider(build, conf, in->provider_name, need);
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_PROVIDER_AND_AUDIENCES: {
        const Xds__ProviderWithAudiences *with = in->provider_and_audiences;
        LT_TRY(need_provider(build, conf, with->provider_name, need));
        need->audience_count = with->n_audiences;
        return px_make_strings(build, with->audiences, with->n_audiences, &need->audiences);
    }
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_REQUIRES_ANY:
        return make_any(build, conf, in->requires_any, depth, need);
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_REQUIRES_ALL:
        return make_all(build, conf, in->requires_all, depth, need);
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING:
        need_no_more(build, conf, PX_JWT_NEED_VALID_OR_NONE, NULL, 0, need);
        return LT_OK;
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED:
        need_no_more(build, conf, PX_JWT_NEED_ANYTHING, NULL, 0, need);
        return LT_OK;
    case XDS__JWT_REQUIREMENT__REQUIRES_TYPE_EXTRACT_ONLY_WITHOUT_VALIDATION:
        need_no_more(build, conf, PX_JWT_NEED_ONLY_EXTRACTION, NULL, 0, need);
        return LT_OK;
    default: return px_unsupported(build, NULL, "this requirement is not supported");
    }
}

/* --- rules --- */

static lt_rc make_named(struct px_build *build, const Xds__JwtAuthentication *in,
                        struct px_jwt_conf *conf)
{
    struct px_jwt_named *named = lt_arena_make_n(build->arena, struct px_jwt_named,
                                                 in->n_requirement_map);
    for (size_t i = 0; i < in->n_requirement_map; i++) {
        size_t mark = px_path_enter(build, "requirement_map", -1);
        px_path_enter(build, in->requirement_map[i]->key, -1);
        struct px_jwt_need *need = lt_arena_make(build->arena, struct px_jwt_need);
        if (in->requirement_map[i]->value == NULL)
            return px_bad(build, NULL, "is empty");
        LT_TRY(make_need(build, conf, in->requirement_map[i]->value, 0, need));
        named[i] = (struct px_jwt_named){px_copy(build, in->requirement_map[i]->key), need};
        px_path_leave(build, mark);
    }
    conf->named = named;
    conf->named_count = in->n_requirement_map;
    return LT_OK;
}

static lt_rc find_named(struct px_build *build, const struct px_jwt_conf *conf, const char *name,
                        struct px_jwt_rule *rule)
{
    for (size_t i = 0; i < conf->named_count; i++) {
        if (lt_str_eqz(conf->named[i].name, name)) {
            rule->need = conf->named[i].need;
            return LT_OK;
        }
    }
    return px_bad(build, "requirement_name", "'%s' is not in requirement_map", name);
}

static lt_rc make_rule(struct px_build *build, const Xds__RequirementRule *in,
                       const struct px_jwt_conf *conf, struct px_jwt_rule *rule)
{
    struct px_route *match = lt_arena_make(build->arena, struct px_route);
    rule->match = match;
    LT_TRY(px_make_route_match(build, in->match, match));
    switch (in->requirement_type_case) {
    case XDS__REQUIREMENT_RULE__REQUIREMENT_TYPE_REQUIRES: {
        struct px_jwt_need *need = lt_arena_make(build->arena, struct px_jwt_need);
        if (in->requires->requires_type_case == XDS__JWT_REQUIREMENT__REQUIRES_TYPE__NOT_SET)
            return LT_OK;
        rule->need = need;
        return make_need(build, conf, in->requires, 0, need);
    }
    case XDS__REQUIREMENT_RULE__REQUIREMENT_TYPE_REQUIREMENT_NAME:
        return find_named(build, conf, in->requirement_name, rule);
    default: return LT_OK;
    }
}

static lt_rc make_rules(struct px_build *build, const Xds__JwtAuthentication *in,
                        struct px_jwt_conf *conf)
{
    struct px_jwt_rule *rules = lt_arena_make_n(build->arena, struct px_jwt_rule, in->n_rules);
    for (size_t i = 0; i < in->n_rules; i++) {
        size_t mark = px_path_enter(build, "rules", (ptrdiff_t)i);
        LT_TRY(make_rule(build, in->rules[i], conf, &rules[i]));
        px_path_leave(build, mark);
    }
    conf->rules = rules;
    conf->rule_count = in->n_rules;
    return LT_OK;
}

/* --- the whole --- */

static void list_own_headers(struct px_build *build, struct px_jwt_conf *conf)
{
    size_t total = 0;
    for (size_t i = 0; i < conf->provider_count; i++)
        total += 1 + conf->providers[i].claim_header_count;
    lt_str *list = lt_arena_make_n(build->arena, lt_str, total);
    for (size_t i = 0; i < conf->provider_count; i++) {
        const struct px_jwt_provider *provider = &conf->providers[i];
        if (provider->payload_header.len > 0)
            list[conf->own_header_count++] = provider->payload_header;
        for (size_t j = 0; j < provider->claim_header_count; j++)
            list[conf->own_header_count++] = provider->claim_headers[j].header;
    }
    conf->own_headers = list;
}

static void name_stats(struct px_build *build, const Xds__JwtAuthentication *in, lt_str prefix,
                       struct px_jwt_conf *conf)
{
    const struct {
        const char *name;
        struct px_stat *stat;
    } rows[] = {
        {"allowed", &conf->allowed},
        {"denied", &conf->denied},
        {"cors_preflight_bypassed", &conf->bypassed},
        {"jwks_fetch_success", &conf->fetched},
        {"jwks_fetch_failed", &conf->fetch_failed},
        {"jwt_cache_hit", &conf->cache_hit},
        {"jwt_cache_miss", &conf->cache_miss},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        const char *own = in->stat_prefix != NULL ? in->stat_prefix : "";
        lt_str rest = lt_arena_printf(build->arena, "jwt_authn.%s%s%s", own,
                                      own[0] != '\0' ? "." : "", rows[i].name);
        *rows[i].stat = px_stat_http(build->arena, prefix, rest.ptr);
    }
}

lt_rc px_make_jwt_filter(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                         const void **ret_conf)
{
    const Xds__JwtAuthentication *in = message;
    struct px_jwt_conf *conf = lt_arena_make(build->arena, struct px_jwt_conf);
    if (in->filter_state_rules != NULL)
        return px_unsupported(build, "filter_state_rules", "is not supported");
    LT_TRY(make_providers(build, in, conf));
    LT_TRY(make_named(build, in, conf));
    LT_TRY(make_rules(build, in, conf));
    conf->bypasses_preflight = in->has_bypass_cors_preflight && in->bypass_cors_preflight;
    conf->strips_failure = in->has_strip_failure_response && in->strip_failure_response;
    list_own_headers(build, conf);
    name_stats(build, in, hcm->stat_prefix, conf);
    hcm->has_remote_keys |= conf->has_remote;
    *ret_conf = conf;
    return LT_OK;
}

lt_rc px_make_jwt_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    const Xds__PerRouteConfig *in = message;
    struct px_jwt_route_conf *route = lt_arena_make(build->arena, struct px_jwt_route_conf);
    conf->conf = route;
    switch (in->requirement_specifier_case) {
    case XDS__PER_ROUTE_CONFIG__REQUIREMENT_SPECIFIER_DISABLED:
        return in->disabled ? LT_OK : px_bad(build, "disabled", "must be true");
    case XDS__PER_ROUTE_CONFIG__REQUIREMENT_SPECIFIER_REQUIREMENT_NAME:
        route->requirement = px_copy(build, in->requirement_name);
        return route->requirement.len > 0 ? LT_OK : px_bad(build, "requirement_name", "is empty");
    default: return px_bad(build, NULL, "needs disabled or requirement_name");
    }
}
