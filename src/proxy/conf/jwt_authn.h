/*
 * proxy/conf/jwt_authn.h - envoy.filters.http.jwt_authn: its configuration, and the judgement of a
 * request's tokens as an engine. Keys that are not here yet make the judgement wait; it is then
 * made again from the start, so that it keeps no state of its own.
 * Not here: reading and verifying a token (wire/jwt.h), fetching keys (jwks.h), keeping verified
 * tokens (jwt_cache.h), what the verdict leads to (filter/jwt.c).
 */
#ifndef LT_PROXY_CONF_JWT_AUTHN_H
#define LT_PROXY_CONF_JWT_AUTHN_H

#include "proxy/conf/meta.h"
#include "proxy/conf/stat.h"
#include "wire/jwt.h"

/* --- configuration --- */

typedef enum { PX_JWT_IN_HEADER, PX_JWT_IN_PARAM, PX_JWT_IN_COOKIE } px_jwt_place;

struct px_jwt_location {
    px_jwt_place place;
    lt_str name;   /* of a header in lower case */
    lt_str prefix; /* what is before the token in a header's value */
};

struct px_jwt_claim_header {
    lt_str header, claim; /* claim: "a.b" is b inside a */
};

/* RemoteJwks. */
struct px_jwt_remote {
    lt_str id; /* of what is fetched, and how: workers keep keys under it */
    lt_str cluster, scheme, authority, path;
    uint64_t timeout_ms, cache_ms, failed_refetch_ms;
    uint32_t retries;
    bool is_async; /* fetched ahead of the first request, and of its expiry */
};

struct px_jwt_provider {
    lt_str name, issuer; /* issuer empty: any */
    const lt_str *audiences;
    size_t audience_count;
    const struct px_string_match *subjects; /* NULL: any */
    const struct px_jwt_location *locations;
    size_t location_count;
    const struct px_jwt_claim_header *claim_headers;
    size_t claim_header_count;
    const lt_str *space_delimited;
    size_t space_delimited_count;
    lt_str payload_header;                      /* empty: not forwarded */
    lt_str payload_key, header_key, failed_key; /* in metadata; empty: not there */
    int64_t clock_skew_s, max_lifetime_s;       /* max_lifetime_s 0: none */
    bool forwards_token, pads_payload, requires_expiry, clears_route;
    const struct lt_jwks *keys; /* local_jwks; NULL: remote */
    uint64_t keys_id;           /* no two key sets have the same */
    struct px_jwt_remote remote;
};

typedef enum {
    PX_JWT_NEED_PROVIDER,
    PX_JWT_NEED_ANY,
    PX_JWT_NEED_ALL,
    PX_JWT_NEED_VALID_OR_NONE,   /* allow_missing */
    PX_JWT_NEED_ANYTHING,        /* allow_missing_or_failed */
    PX_JWT_NEED_ONLY_EXTRACTION, /* extract_only_without_validation */
} px_jwt_need_kind;

struct px_jwt_need {
    px_jwt_need_kind kind;
    /* PROVIDER: one; the others without parts: where tokens may be and whose they are */
    const struct px_jwt_provider *const *providers;
    size_t provider_count;
    const lt_str *audiences; /* PROVIDER: instead of its own; count 0: its own */
    size_t audience_count;
    const struct px_jwt_need *parts; /* ANY, ALL */
    size_t part_count;
};

struct px_jwt_rule {
    const struct px_route *match;
    const struct px_jwt_need *need; /* NULL: none */
};

struct px_jwt_named {
    lt_str name;
    const struct px_jwt_need *need;
};

struct px_jwt_conf {
    const struct px_jwt_provider *providers; /* in the order of their names */
    size_t provider_count;
    const struct px_jwt_rule *rules; /* the first that matches counts */
    size_t rule_count;
    const struct px_jwt_named *named; /* requirement_map */
    size_t named_count;
    const lt_str *own_headers; /* that only this filter may set */
    size_t own_header_count;
    bool bypasses_preflight, strips_failure, has_remote;
    struct px_stat allowed, denied, bypassed, fetched, fetch_failed, cache_hit, cache_miss;
};

/* PerRouteConfig. */
struct px_jwt_route_conf {
    lt_str requirement; /* empty: the filter is off */
};

/* --- judgement --- */

/* What is wrong, in Envoy's order and words (jwt_status.def). */
typedef enum {
#define LT_JWT_STATUS(id, code, text) PX_JWT_##id,
#include "proxy/conf/jwt_status.def"
#undef LT_JWT_STATUS
    PX_JWT_STATUSES,
} px_jwt_status;

const char *px_jwt_status_text(px_jwt_status status);
unsigned px_jwt_status_code(px_jwt_status status);

/* A token that was found good (or only read, when nobody asked for more). */
struct px_jwt_found {
    const struct px_jwt_provider *provider;
    const struct px_jwt_location *location;
    const struct lt_jwt *jwt;
};

/* A token that was found wanting, for failed_status_in_metadata. */
struct px_jwt_failed {
    const struct px_jwt_provider *provider;
    px_jwt_status status;
};

enum { PX_JWT_TOKENS_MAX = 32 /* looked at for one request */ };

/* Whom to ask, and what came out. Zeroed but for what is given. */
struct px_jwt_judge {
    /* given */
    struct lt_arena *arena;
    const struct lt_headers *headers;
    lt_str path; /* with query */
    int64_t now_s;
    /*
     * A good token's meaning: *ret_jwt when its signature was made by a key of the provider.
     * jwt: as parsed in the arena. LT_AGAIN: the keys are on their way.
     */
    lt_rc (*verify)(void *ctx, const struct px_jwt_provider *provider, lt_str token,
                    const struct lt_jwt *jwt, const struct lt_jwt **ret_jwt);
    void *ctx;
    /* what came out */
    struct px_jwt_found found[PX_JWT_TOKENS_MAX];
    size_t found_count;
    struct px_jwt_failed failed[PX_JWT_TOKENS_MAX];
    size_t failed_count;
    size_t token_count;
    bool waits; /* for keys: judge again when they are here */
};

/* PX_JWT_OK, or what is wrong. Meaningless while judge->waits. */
px_jwt_status px_jwt_judge(struct px_jwt_judge *judge, const struct px_jwt_need *need);

#endif
