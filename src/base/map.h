/*
 * base/map.h - hash map from strings to pointers; open addressing, linear probing.
 * Keys are borrowed: they must live as long as the entry. Order of iteration is insertion order
 * when nothing was removed (removal moves the last entry into the gap); sort the keys where output
 * must be deterministic.
 */
#ifndef LT_BASE_MAP_H
#define LT_BASE_MAP_H

#include "base/str.h"

struct lt_map_entry {
    lt_str key; /* borrowed */
    void *value;
    uint64_t hash;
};

struct lt_map {
    struct lt_map_entry *entries; /* owned; dense, `count` long */
    uint32_t *slots;              /* owned; index + 1 into entries, 0 is free */
    size_t count;
    size_t cap; /* of slots, a power of two, or 0 */
};

void lt_map_init(struct lt_map *map);
/* Frees the table, not the values. */
void lt_map_fini(struct lt_map *map);
void lt_map_clear(struct lt_map *map);

/* NULL when there is none. */
void *lt_map_find(const struct lt_map *map, lt_str key);
/* Puts or replaces; returns the value that was there, or NULL. value must not be NULL. */
void *lt_map_put(struct lt_map *map, lt_str key, void *value);
/* Returns what was removed, or NULL. */
void *lt_map_remove(struct lt_map *map, lt_str key);

/* for (size_t i = 0; i < map.count; i++) use(map.entries[i].key, map.entries[i].value); */

#endif
