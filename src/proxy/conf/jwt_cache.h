/*
 * proxy/conf/jwt_cache.h - tokens that a worker has verified: reading and verifying one again costs
 * some fifty microseconds. Kept under the whole token and the number of the keys that made its
 * signature; whether it is still in time, and for whom, is judged anew each time.
 */
#ifndef LT_PROXY_CONF_JWT_CACHE_H
#define LT_PROXY_CONF_JWT_CACHE_H

#include "base/list.h"
#include "base/map.h"
#include "wire/jwt.h"

enum { PX_JWT_CACHE_MAX = 256, PX_JWT_CACHE_TOKEN_MAX = 4096 /* Envoy: jwt_max_token_size */ };

struct px_jwt_cache {
    struct lt_map tokens; /* token -> struct px_jwt_entry */
    struct lt_list order; /* of px_jwt_entry.link, used last at the end */
};

struct px_jwt_entry {
    struct lt_list link;
    struct lt_arena *arena; /* owned; holds this struct too */
    uint32_t refs;          /* requests, and the cache while it has it */
    lt_str token;
    struct lt_jwt jwt;
    uint64_t keys_id;
};

void px_jwt_cache_init(struct px_jwt_cache *cache);
void px_jwt_cache_fini(struct px_jwt_cache *cache);
/* Counted for the caller; NULL: unknown, or verified with other keys. */
struct px_jwt_entry *px_jwt_cache_take(struct px_jwt_cache *cache, lt_str token, uint64_t keys_id);
/* It was verified: kept, and counted for the caller. NULL: too long to be kept. */
struct px_jwt_entry *px_jwt_cache_add(struct px_jwt_cache *cache, lt_str token, uint64_t keys_id);
void px_jwt_entry_drop(struct px_jwt_entry **entry);

#endif
