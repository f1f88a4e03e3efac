/*
 * proxy/conf/jwt_authn.c - the judgement of a request's tokens. Start at: px_jwt_judge().
 */
#include "proxy/conf/jwt_authn.h"

#include "http/url.h"
#include "proxy/conf/route_match.h"

static const struct {
    unsigned code;
    const char *text;
} statuses[PX_JWT_STATUSES] = {
#define LT_JWT_STATUS(id, code, text) [PX_JWT_##id] = {code, text},
#include "proxy/conf/jwt_status.def"
#undef LT_JWT_STATUS
};

const char *px_jwt_status_text(px_jwt_status status)
{
    return statuses[status].text;
}

unsigned px_jwt_status_code(px_jwt_status status)
{
    return statuses[status].code;
}

static px_jwt_status status_of_text(const char *text)
{
    for (px_jwt_status status = 0; status < PX_JWT_STATUSES; status++) {
        if (strcmp(statuses[status].text, text) == 0)
            return status;
    }
    return PX_JWT_UNREADABLE;
}

/* --- where tokens are --- */

/*
 * A header that came twice is read as one, as Envoy does: two tokens are then none, and whoever
 * behind us reads only one of them is not led astray.
 */
static lt_str find_in_header(struct px_jwt_judge *judge, const struct px_jwt_location *location)
{
    const struct lt_header *header = lt_headers_find_name(judge->headers, location->name);
    if (header == NULL)
        return LT_STR_NULL;
    lt_str value = header->value;
    while ((header = lt_headers_find_next(judge->headers, header)) != NULL)
        value = lt_arena_printf(judge->arena, "%.*s,%.*s", LT_STR_ARG(value),
                                LT_STR_ARG(header->value));
    ptrdiff_t at = lt_str_find(value, location->prefix);
    return at < 0 ? LT_STR_NULL
                  : lt_str_trim(lt_str_from(value, (size_t)at + location->prefix.len));
}

static lt_str find_in_query(struct px_jwt_judge *judge, const struct px_jwt_location *location)
{
    lt_str query = lt_url_split(judge->path).query, name, value, decoded;
    while (lt_url_query_next(&query, &name, &value)) {
        if (lt_str_eq(name, location->name))
            return lt_url_decode(value, false, judge->arena, &decoded) == LT_OK ? decoded : value;
    }
    return LT_STR_NULL;
}

static lt_str find_in_cookie(struct px_jwt_judge *judge, const struct px_jwt_location *location)
{
    const struct lt_header *header = lt_headers_find(judge->headers, LT_H_COOKIE);
    for (; header != NULL; header = lt_headers_find_next(judge->headers, header)) {
        lt_str rest = header->value, part, name;
        while (lt_str_split(&rest, ';', &part)) {
            lt_str value = lt_str_trim(part);
            if (lt_str_split(&value, '=', &name) && value.ptr != NULL &&
                lt_str_eq(lt_str_trim(name), location->name))
                return lt_str_trim(value);
        }
    }
    return LT_STR_NULL;
}

/* ptr NULL: there is none. */
static lt_str find_token(struct px_jwt_judge *judge, const struct px_jwt_location *location)
{
    switch (location->place) {
    case PX_JWT_IN_HEADER: return find_in_header(judge, location);
    case PX_JWT_IN_PARAM: return find_in_query(judge, location);
    case PX_JWT_IN_COOKIE: return find_in_cookie(judge, location);
    }
    return LT_STR_NULL;
}

/* --- one token --- */

/* "https://x/" and "x" are the same audience. */
static lt_str bare_audience(lt_str text)
{
    static const lt_str schemes[] = {{"https://", 8}, {"http://", 7}};
    for (size_t i = 0; i < LT_ARRAY_LEN(schemes); i++) {
        if (lt_str_starts(text, schemes[i])) {
            text = lt_str_from(text, schemes[i].len);
            break;
        }
    }
    return lt_str_ends(text, LT_STR("/")) ? lt_str_slice(text, 0, text.len - 1) : text;
}

static bool has_audience(const struct lt_jwt *jwt, const lt_str *wanted, size_t count)
{
    for (size_t i = 0; i < jwt->audience_count; i++) {
        for (size_t j = 0; j < count; j++) {
            if (lt_str_eq(bare_audience(jwt->audiences[i]), bare_audience(wanted[j])))
                return true;
        }
    }
    return count == 0;
}

static bool lives_too_long(const struct lt_jwt *jwt, const struct px_jwt_provider *provider,
                           int64_t now_s)
{
    if (!jwt->has_expiry)
        return provider->requires_expiry || provider->max_lifetime_s > 0;
    return provider->max_lifetime_s > 0 && jwt->expires_s - now_s > provider->max_lifetime_s;
}

/* What does not need a key. */
static px_jwt_status check_claims(const struct px_jwt_judge *judge, const struct px_jwt_need *need,
                                  const struct px_jwt_provider *provider, const struct lt_jwt *jwt)
{
    int64_t now_s = judge->now_s, skew_s = provider->clock_skew_s;
    if (jwt->has_not_before && now_s + skew_s < jwt->not_before_s)
        return PX_JWT_NOT_YET;
    if (jwt->has_expiry && now_s > jwt->expires_s + skew_s)
        return PX_JWT_EXPIRED;
    bool is_own = need->audience_count == 0;
    if (!has_audience(jwt, is_own ? provider->audiences : need->audiences,
                      is_own ? provider->audience_count : need->audience_count))
        return PX_JWT_AUDIENCE;
    if (provider->subjects != NULL && !px_string_matches(provider->subjects, jwt->subject))
        return PX_JWT_VERIFICATION;
    if (lives_too_long(jwt, provider, now_s))
        return PX_JWT_VERIFICATION;
    return PX_JWT_OK;
}

static bool is_at(const struct px_jwt_provider *provider, const struct px_jwt_location *location)
{
    for (size_t i = 0; i < provider->location_count; i++) {
        const struct px_jwt_location *own = &provider->locations[i];
        if (own->place == location->place && lt_str_eq(own->name, location->name) &&
            lt_str_eq(own->prefix, location->prefix))
            return true;
    }
    return false;
}

/* Whose it is, by its issuer and where it was found. NULL: nobody's. */
static const struct px_jwt_provider *find_provider(const struct px_jwt_need *need, lt_str issuer,
                                                   const struct px_jwt_location *location)
{
    const struct px_jwt_provider *of_any = NULL;
    for (size_t i = 0; i < need->provider_count; i++) {
        const struct px_jwt_provider *provider = need->providers[i];
        if (!is_at(provider, location))
            continue;
        if (provider->issuer.len > 0 && lt_str_eq(provider->issuer, issuer))
            return provider;
        if (provider->issuer.len == 0 && of_any == NULL)
            of_any = provider;
    }
    return of_any;
}

static void take(struct px_jwt_judge *judge, const struct px_jwt_provider *provider,
                 const struct px_jwt_location *location, const struct lt_jwt *jwt)
{
    judge->found[judge->found_count++] = (struct px_jwt_found){provider, location, jwt};
}

static px_jwt_status verify(struct px_jwt_judge *judge, const struct px_jwt_need *need,
                            const struct px_jwt_provider *provider,
                            const struct px_jwt_location *location, lt_str token,
                            const struct lt_jwt *jwt)
{
    px_jwt_status status = check_claims(judge, need, provider, jwt);
    const struct lt_jwt *kept = NULL;
    if (status != PX_JWT_OK)
        return status;
    switch (judge->verify(judge->ctx, provider, token, jwt, &kept)) {
    case LT_OK: take(judge, provider, location, kept); return PX_JWT_OK;
    case LT_AGAIN: judge->waits = true; return PX_JWT_FETCH_FAILED;
    case LT_E_NOT_FOUND: return PX_JWT_NO_KEY;
    case LT_E_DENIED: return PX_JWT_VERIFICATION;
    default: return PX_JWT_FETCH_FAILED;
    }
}

static px_jwt_status judge_token(struct px_jwt_judge *judge, const struct px_jwt_need *need,
                                 const struct px_jwt_location *location, lt_str token)
{
    struct lt_jwt *jwt = lt_arena_make(judge->arena, struct lt_jwt);
    struct lt_err err = {0};
    if (++judge->token_count > PX_JWT_TOKENS_MAX)
        return PX_JWT_UNREADABLE;
    const struct px_jwt_provider *provider = need->provider_count == 1 ? need->providers[0] : NULL;
    px_jwt_status status = PX_JWT_OK;
    if (lt_jwt_parse(judge->arena, token, jwt, &err) != LT_OK) {
        status = status_of_text(err.text);
    } else {
        provider = find_provider(need, jwt->issuer, location);
        bool only_reads = need->kind == PX_JWT_NEED_ONLY_EXTRACTION;
        if (provider == NULL)
            status = PX_JWT_UNKNOWN_ISSUER;
        else if (only_reads)
            take(judge, provider, location, jwt);
        else
            status = verify(judge, need, provider, location, token, jwt);
    }
    if (status != PX_JWT_OK && provider != NULL)
        judge->failed[judge->failed_count++] = (struct px_jwt_failed){provider, status};
    return status;
}

/* --- needs --- */

struct token {
    const struct px_jwt_location *location;
    lt_str text;
};

/* Each location once, however many providers look there. */
static bool was_asked(const struct px_jwt_need *need, size_t provider,
                      const struct px_jwt_location *location)
{
    for (size_t i = 0; i < provider; i++) {
        if (is_at(need->providers[i], location))
            return true;
    }
    return false;
}

/* Headers, parameters, cookies; each by name. */
static bool is_before(const struct px_jwt_location *a, const struct px_jwt_location *b)
{
    if (a->place != b->place)
        return a->place < b->place;
    int order = lt_str_cmp(a->name, b->name);
    return order < 0 || (order == 0 && lt_str_cmp(a->prefix, b->prefix) < 0);
}

static size_t find_tokens(struct px_jwt_judge *judge, const struct px_jwt_need *need,
                          struct token tokens[PX_JWT_TOKENS_MAX])
{
    size_t count = 0;
    for (size_t p = 0; p < need->provider_count; p++) {
        const struct px_jwt_provider *provider = need->providers[p];
        for (size_t i = 0; i < provider->location_count && count < PX_JWT_TOKENS_MAX; i++) {
            const struct px_jwt_location *location = &provider->locations[i];
            lt_str text = was_asked(need, p, location) ? LT_STR_NULL : find_token(judge, location);
            size_t at = count;
            if (text.ptr == NULL)
                continue;
            for (; at > 0 && is_before(location, tokens[at - 1].location); at--)
                tokens[at] = tokens[at - 1];
            tokens[at] = (struct token){location, text};
            count++;
        }
    }
    return count;
}

/*
 * Envoy looks at them from the last on. All must be good; but where none need be there, the verdict
 * on the first is what counts.
 */
static px_jwt_status judge_tokens(struct px_jwt_judge *judge, const struct px_jwt_need *need)
{
    struct token tokens[PX_JWT_TOKENS_MAX];
    size_t count = find_tokens(judge, need, tokens);
    px_jwt_status status = PX_JWT_MISSING;
    bool all_must = need->kind == PX_JWT_NEED_PROVIDER;
    for (size_t i = count; i > 0; i--) {
        status = judge_token(judge, need, tokens[i - 1].location, tokens[i - 1].text);
        if (status != PX_JWT_OK && all_must)
            return status;
    }
    return status;
}

/* Of several reasons the one that tells the most. */
static px_jwt_status worse(px_jwt_status so_far, px_jwt_status status)
{
    if (so_far == PX_JWT_OK || so_far == PX_JWT_MISSING)
        return status;
    bool tells_little = status == PX_JWT_MISSING || status == PX_JWT_UNKNOWN_ISSUER;
    return tells_little ? so_far : status;
}

/* One that is good already needs nobody who is still on the way. */
static px_jwt_status judge_any(struct px_jwt_judge *judge, const struct px_jwt_need *need)
{
    px_jwt_status sum = PX_JWT_OK;
    bool outer = judge->waits, inner = false;
    for (size_t i = 0; i < need->part_count; i++) {
        judge->waits = false;
        px_jwt_status status = px_jwt_judge(judge, &need->parts[i]);
        bool is_final = !judge->waits;
        judge->waits = outer;
        if (status == PX_JWT_OK && is_final)
            return PX_JWT_OK;
        inner |= !is_final;
        sum = worse(sum, status);
    }
    judge->waits = outer || inner;
    return sum;
}

static px_jwt_status judge_all(struct px_jwt_judge *judge, const struct px_jwt_need *need)
{
    for (size_t i = 0; i < need->part_count; i++) {
        px_jwt_status status = px_jwt_judge(judge, &need->parts[i]);
        if (status != PX_JWT_OK)
            return status;
    }
    return PX_JWT_OK;
}

/* As deep as the configuration, whose depth was limited when it was compiled. */
px_jwt_status px_jwt_judge(struct px_jwt_judge *judge, const struct px_jwt_need *need)
{
    switch (need->kind) {
    case PX_JWT_NEED_PROVIDER: return judge_tokens(judge, need);
    case PX_JWT_NEED_ANY: return judge_any(judge, need);
    case PX_JWT_NEED_ALL: return judge_all(judge, need);
    case PX_JWT_NEED_VALID_OR_NONE: {
        px_jwt_status status = judge_tokens(judge, need);
        return status == PX_JWT_MISSING ? PX_JWT_OK : status;
    }
    case PX_JWT_NEED_ANYTHING:
    case PX_JWT_NEED_ONLY_EXTRACTION: (void)judge_tokens(judge, need); return PX_JWT_OK;
    }
    return PX_JWT_UNREADABLE;
}
