/*
 * control/wire_cache.c - the cache between translation and session.
 */
#include "control/wire_cache.h"

#include <stdlib.h>

#include "base/rope.h"

struct entry {
    struct cp_resource *resource; /* counted */
    struct lt_ads_resource *wire; /* counted */
};

void cp_wire_cache_init(struct cp_wire_cache *cache)
{
    lt_map_init(&cache->entries);
}

static void drop(struct cp_wire_cache *cache, struct entry *entry)
{
    lt_map_remove(&cache->entries, entry->resource->key);
    lt_ads_resource_unref(&entry->wire);
    cp_resource_unref(&entry->resource);
    free(entry);
}

void cp_wire_cache_fini(struct cp_wire_cache *cache)
{
    while (cache->entries.count > 0)
        drop(cache, cache->entries.entries[0].value);
    lt_map_fini(&cache->entries);
}

struct lt_ads_resource *cp_wire_cache_get(struct cp_wire_cache *cache, struct cp_resource *resource)
{
    struct entry *entry = lt_map_find(&cache->entries, resource->key);
    if (entry != NULL)
        return entry->wire;
    entry = lt_new(struct entry);
    entry->resource = cp_resource_ref(resource);
    entry->wire = lt_ads_resource_new(lt_str_of(cp_type_url(resource->type)), resource->name, lt_str_of(resource->version),
                                      lt_bytes_str(resource->bytes));
    lt_map_put(&cache->entries, resource->key, entry);
    return entry->wire;
}

void cp_wire_cache_prune(struct cp_wire_cache *cache)
{
    for (size_t i = cache->entries.count; i > 0; i--) {
        struct entry *entry = cache->entries.entries[i - 1].value;
        if (entry->resource->refs == 1)
            drop(cache, entry);
    }
}
