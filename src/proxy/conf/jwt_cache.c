/*
 * proxy/conf/jwt_cache.c - tokens that were verified.
 */
#include "proxy/conf/jwt_cache.h"

void px_jwt_cache_init(struct px_jwt_cache *cache)
{
    lt_map_init(&cache->tokens);
    lt_list_init(&cache->order);
}

void px_jwt_entry_drop(struct px_jwt_entry **entry)
{
    struct px_jwt_entry *dropped = *entry;
    *entry = NULL;
    if (dropped == NULL || --dropped->refs > 0)
        return;
    struct lt_arena *arena = dropped->arena;
    lt_arena_wipe_free(&arena); /* a token opens doors */
}

static void unlist(struct px_jwt_cache *cache, struct px_jwt_entry *entry)
{
    lt_map_remove(&cache->tokens, entry->token);
    lt_list_remove(&entry->link);
    px_jwt_entry_drop(&entry);
}

void px_jwt_cache_fini(struct px_jwt_cache *cache)
{
    while (!lt_list_is_empty(&cache->order))
        unlist(cache, lt_list_first(&cache->order, struct px_jwt_entry, link));
    lt_map_fini(&cache->tokens);
}

struct px_jwt_entry *px_jwt_cache_take(struct px_jwt_cache *cache, lt_str token, uint64_t keys_id)
{
    struct px_jwt_entry *entry = lt_map_find(&cache->tokens, token);
    if (entry == NULL || entry->keys_id != keys_id)
        return NULL;
    lt_list_remove(&entry->link);
    lt_list_push_back(&cache->order, &entry->link);
    entry->refs++;
    return entry;
}

struct px_jwt_entry *px_jwt_cache_add(struct px_jwt_cache *cache, lt_str token, uint64_t keys_id)
{
    if (token.len > PX_JWT_CACHE_TOKEN_MAX)
        return NULL;
    struct px_jwt_entry *old = lt_map_find(&cache->tokens, token);
    if (old == NULL && cache->tokens.count >= PX_JWT_CACHE_MAX)
        old = lt_list_first(&cache->order, struct px_jwt_entry, link);
    if (old != NULL)
        unlist(cache, old);
    struct lt_arena *arena = lt_arena_new(2 * token.len, 0);
    struct px_jwt_entry *entry = lt_arena_make(arena, struct px_jwt_entry);
    entry->arena = arena;
    entry->token = lt_arena_str(arena, token);
    entry->keys_id = keys_id;
    lt_rc rc = lt_jwt_parse(arena, entry->token, &entry->jwt, NULL);
    LT_ASSERT(rc == LT_OK); /* it was read once */
    entry->refs = 2;
    lt_map_put(&cache->tokens, entry->token, entry);
    lt_list_push_back(&cache->order, &entry->link);
    return entry;
}
