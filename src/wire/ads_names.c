/*
 * wire/ads_names.c - the names one type of one stream knows: a dense array, and a table of indexes
 * into it. Not base/map.h, because of size: 500 proxies with 2000 names each are a million entries.
 */
#include "wire/ads_priv.h"

#include <stdlib.h>

enum { HASH_MASK = (1 << 27) - 1, CAP_FIRST = 16 };

void lt_ads_name_set_held(struct lt_ads_name *entry, struct lt_ads_resource *resource)
{
    if (!entry->is_reported)
        lt_ads_resource_unref(&entry->held.resource);
    entry->held.resource = resource;
    entry->is_reported = false;
    entry->is_held = resource != NULL;
}

void lt_ads_name_report(struct lt_ads_name *entry, uint64_t version)
{
    lt_ads_name_set_held(entry, NULL);
    entry->held.version = version;
    entry->is_held = entry->is_reported = true;
}

static void free_entry(struct lt_ads_name *entry)
{
    lt_ads_name_set_held(entry, NULL);
    lt_ads_resource_unref(&entry->sent);
    lt_bytes_unref(&entry->name);
}

void lt_ads_names_fini(struct lt_ads_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free_entry(&names->items[i]);
    free(names->items);
    free(names->slots);
    *names = (struct lt_ads_names){0};
}

static uint32_t hash_of(lt_str name)
{
    return (uint32_t)(lt_str_hash(name) & HASH_MASK);
}

/* The slot of the name, or the free one where it would go. */
static size_t find_slot(const struct lt_ads_names *names, lt_str name, uint32_t hash)
{
    size_t at = hash & (names->cap - 1);
    while (names->slots[at] != 0) {
        const struct lt_ads_name *entry = &names->items[names->slots[at] - 1];
        if (entry->hash == hash && lt_str_eq(lt_bytes_str(entry->name), name))
            return at;
        at = (at + 1) & (names->cap - 1);
    }
    return at;
}

static void grow(struct lt_ads_names *names)
{
    size_t cap = names->cap == 0 ? CAP_FIRST : names->cap * 2;
    LT_ASSERT(cap <= HASH_MASK);
    free(names->slots);
    names->slots = lt_calloc(cap, sizeof(*names->slots));
    names->items = lt_realloc(names->items, cap / 4 * 3 * sizeof(*names->items));
    names->cap = cap;
    for (size_t i = 0; i < names->count; i++) {
        size_t at = names->items[i].hash & (cap - 1);
        while (names->slots[at] != 0)
            at = (at + 1) & (cap - 1);
        names->slots[at] = (uint32_t)i + 1;
    }
}

struct lt_ads_name *lt_ads_names_find(const struct lt_ads_names *names, lt_str name)
{
    if (names->count == 0)
        return NULL;
    size_t at = find_slot(names, name, hash_of(name));
    return names->slots[at] == 0 ? NULL : &names->items[names->slots[at] - 1];
}

struct lt_ads_name *lt_ads_names_put(struct lt_ads_names *names, lt_str name,
                                     struct lt_bytes *shared)
{
    struct lt_ads_name *entry = lt_ads_names_find(names, name);
    if (entry != NULL) {
        if (shared != NULL && shared != entry->name) {
            lt_bytes_unref(&entry->name);
            entry->name = lt_bytes_ref(shared);
        }
        return entry;
    }
    if (names->count >= names->cap / 4 * 3)
        grow(names);
    uint32_t hash = hash_of(name);
    entry = &names->items[names->count];
    *entry = (struct lt_ads_name){
        .name = shared != NULL ? lt_bytes_ref(shared) : lt_bytes_new(name), .hash = hash};
    names->slots[find_slot(names, name, hash)] = (uint32_t)++names->count;
    return entry;
}

/*
 * Linear probing without tombstones: what stands behind the gap and wants to be earlier moves up.
 */
static void close_gap(struct lt_ads_names *names, size_t gap)
{
    size_t mask = names->cap - 1;
    for (size_t at = (gap + 1) & mask; names->slots[at] != 0; at = (at + 1) & mask) {
        size_t home = names->items[names->slots[at] - 1].hash & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            names->slots[gap] = names->slots[at];
            gap = at;
        }
    }
    names->slots[gap] = 0;
}

void lt_ads_names_remove(struct lt_ads_names *names, struct lt_ads_name *entry)
{
    size_t index = (size_t)(entry - names->items), last = names->count - 1;
    LT_ASSERT(index <= last);
    size_t gap = find_slot(names, lt_bytes_str(entry->name), entry->hash);
    if (index != last) {
        struct lt_ads_name *moved = &names->items[last];
        names->slots[find_slot(names, lt_bytes_str(moved->name), moved->hash)] = (uint32_t)index +
                                                                                 1;
    }
    free_entry(entry);
    *entry = names->items[last]; /* before the gap is closed: that looks at the entries' hashes */
    names->count = last;
    close_gap(names, gap);
}
