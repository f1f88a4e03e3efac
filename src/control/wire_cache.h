/*
 * control/wire_cache.h - resources of the translation (resource.h) as resources of the xDS session (wire/ads.h): made once,
 * shared by all proxies, dropped when nobody but the cache holds them.
 */
#ifndef CP_CONTROL_WIRE_CACHE_H
#define CP_CONTROL_WIRE_CACHE_H

#include "control/resource.h"
#include "wire/ads.h"

struct cp_wire_cache {
    struct lt_map entries; /* resource key -> struct entry, owned */
};

void cp_wire_cache_init(struct cp_wire_cache *cache);
void cp_wire_cache_fini(struct cp_wire_cache *cache);
/* Borrowed: lives while the resource is held by somebody and until the next prune after that. */
struct lt_ads_resource *cp_wire_cache_get(struct cp_wire_cache *cache, struct cp_resource *resource);
/* Drops what only the cache holds. Call when the world has changed. */
void cp_wire_cache_prune(struct cp_wire_cache *cache);

#endif
