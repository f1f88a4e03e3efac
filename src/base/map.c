/*
 * base/map.c - string map: a dense array of entries and a table of indexes into it.
 */
#include "base/map.h"

#include <stdlib.h>

void lt_map_init(struct lt_map *map)
{
    *map = (struct lt_map){0};
}

void lt_map_fini(struct lt_map *map)
{
    free(map->entries);
    free(map->slots);
    lt_map_init(map);
}

void lt_map_clear(struct lt_map *map)
{
    if (map->cap > 0)
        memset(map->slots, 0, map->cap * sizeof(*map->slots));
    map->count = 0;
}

static size_t find_slot(const struct lt_map *map, lt_str key, uint64_t hash)
{
    size_t at = hash & (map->cap - 1);
    while (map->slots[at] != 0) {
        const struct lt_map_entry *entry = &map->entries[map->slots[at] - 1];
        if (entry->hash == hash && lt_str_eq(entry->key, key))
            return at;
        at = (at + 1) & (map->cap - 1);
    }
    return at;
}

static void grow(struct lt_map *map)
{
    size_t cap = map->cap == 0 ? 8 : map->cap * 2;
    LT_ASSERT(cap <= UINT32_MAX);
    free(map->slots);
    map->slots = lt_calloc(cap, sizeof(*map->slots));
    map->entries = lt_realloc(map->entries, cap / 4 * 3 * sizeof(*map->entries));
    map->cap = cap;
    for (size_t i = 0; i < map->count; i++) {
        size_t at = map->entries[i].hash & (cap - 1);
        while (map->slots[at] != 0)
            at = (at + 1) & (cap - 1);
        map->slots[at] = (uint32_t)i + 1;
    }
}

void *lt_map_find(const struct lt_map *map, lt_str key)
{
    if (map->count == 0)
        return NULL;
    size_t at = find_slot(map, key, lt_str_hash(key));
    return map->slots[at] == 0 ? NULL : map->entries[map->slots[at] - 1].value;
}

void *lt_map_put(struct lt_map *map, lt_str key, void *value)
{
    LT_ASSERT(value != NULL);
    if (map->count >= map->cap / 4 * 3)
        grow(map);
    uint64_t hash = lt_str_hash(key);
    size_t at = find_slot(map, key, hash);
    if (map->slots[at] != 0) {
        struct lt_map_entry *entry = &map->entries[map->slots[at] - 1];
        void *old = entry->value;
        entry->key = key;
        entry->value = value;
        return old;
    }
    map->entries[map->count] = (struct lt_map_entry){key, value, hash};
    map->slots[at] = (uint32_t)++map->count;
    return NULL;
}

/* Linear probing without tombstones: entries behind the gap that want to be earlier move up. */
static void close_gap(struct lt_map *map, size_t gap)
{
    size_t mask = map->cap - 1;
    for (size_t at = (gap + 1) & mask; map->slots[at] != 0; at = (at + 1) & mask) {
        size_t home = map->entries[map->slots[at] - 1].hash & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            map->slots[gap] = map->slots[at];
            gap = at;
        }
    }
    map->slots[gap] = 0;
}

void *lt_map_remove(struct lt_map *map, lt_str key)
{
    if (map->count == 0)
        return NULL;
    size_t at = find_slot(map, key, lt_str_hash(key));
    if (map->slots[at] == 0)
        return NULL;
    size_t index = map->slots[at] - 1;
    void *value = map->entries[index].value;
    size_t last = map->count - 1;
    if (index != last) {
        size_t last_slot = find_slot(map, map->entries[last].key, map->entries[last].hash);
        map->slots[last_slot] = (uint32_t)index + 1;
        at = find_slot(map, key, map->entries[index].hash);
        map->entries[index] = map->entries[last];
    }
    map->count = last;
    close_gap(map, at);
    return value;
}
