/*
 * ctl/pool.c - names to addresses.
 */
#include "ctl/pool.h"

#include <stdio.h>

struct entry {
    uint32_t ip;
    bool is_in_use;
    char name[512];
};

void ctl_pool_init(struct ctl_pool *pool, uint32_t base)
{
    *pool = (struct ctl_pool){.base = base};
    lt_map_init(&pool->names);
}

void ctl_pool_fini(struct ctl_pool *pool)
{
    for (size_t i = 0; i < pool->names.count; i++)
        free(pool->names.entries[i].value);
    lt_map_fini(&pool->names);
}

static bool is_used(const struct ctl_pool *pool, uint32_t at)
{
    return pool->used[at / 8] >> (at % 8) & 1;
}

static void set_used(struct ctl_pool *pool, uint32_t at, bool is_taken)
{
    if (is_taken)
        pool->used[at / 8] |= (uint8_t)(1u << (at % 8));
    else
        pool->used[at / 8] &= (uint8_t) ~(1u << (at % 8));
}

/* 0: all taken. The last address of the range would look like a broadcast: left out. */
static uint32_t find_free(const struct ctl_pool *pool, const char *name, uint32_t wanted)
{
    enum { USABLE = CTL_POOL_SIZE - CTL_POOL_RESERVED - 1 };
    uint32_t offset = wanted - pool->base;
    if (wanted != 0 && offset > 0 && offset < CTL_POOL_SIZE && !is_used(pool, offset))
        return offset;
    uint64_t start = lt_hash64(name, strlen(name), 0) % USABLE;
    for (uint32_t i = 0; i < USABLE; i++) {
        uint32_t at = CTL_POOL_RESERVED + (uint32_t)((start + i) % USABLE);
        if (!is_used(pool, at))
            return at;
    }
    return 0;
}

uint32_t ctl_pool_get(struct ctl_pool *pool, const char *ns, const char *name, uint32_t wanted)
{
    struct entry *entry = lt_new(struct entry);
    snprintf(entry->name, sizeof(entry->name), "%s/%s", ns, name);
    struct entry *known = lt_map_find(&pool->names, lt_str_of(entry->name));
    if (known != NULL) {
        free(entry);
        known->is_in_use = true;
        return known->ip;
    }
    uint32_t at = find_free(pool, entry->name, wanted);
    if (at == 0) {
        free(entry);
        return 0;
    }
    set_used(pool, at, true);
    entry->ip = pool->base + at;
    entry->is_in_use = true;
    lt_map_put(&pool->names, lt_str_of(entry->name), entry);
    return entry->ip;
}

void ctl_pool_begin(struct ctl_pool *pool)
{
    for (size_t i = 0; i < pool->names.count; i++)
        ((struct entry *)pool->names.entries[i].value)->is_in_use = false;
}

void ctl_pool_sweep(struct ctl_pool *pool)
{
    for (size_t i = pool->names.count;
         i-- > 0;) { /* backwards: removal moves the last one into the gap */
        struct entry *entry = pool->names.entries[i].value;
        if (entry->is_in_use)
            continue;
        lt_map_remove(&pool->names, lt_str_of(entry->name));
        set_used(pool, entry->ip - pool->base, false);
        free(entry);
    }
}
