/*
 * proxy/compile/row.c - rows by kind and key, made when they are named, freed with their last
 * holder.
 */
#include "proxy/compile/row.h"

#include <stdlib.h>

/* Between a name and its source: no name of a resource has it. */
#define SEPARATOR "\x1f"

enum { KEY_SUFFIX_MAX = 16, FIRST_CELLS = 16 };

struct px_rows *px_rows_new(void)
{
    struct px_rows *rows = lt_new(struct px_rows);
    rows->sources = px_sources_new();
    return rows;
}

void px_rows_free(struct px_rows **pointer)
{
    struct px_rows *rows = *pointer;
    *pointer = NULL;
    if (rows == NULL)
        return;
    LT_ASSERT(rows->count == 0);
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        free(rows->sets[kind].by_slot);
        free(rows->sets[kind].cells);
        lt_vec_fini(&rows->sets[kind].free_slots);
    }
    px_sources_free(&rows->sources);
    free(rows);
}

/* Names of ADS and of the bootstrap's own clusters and listeners are keys as they are. */
static lt_str suffix_of(px_resource_kind kind, const struct px_source *source,
                        char text[KEY_SUFFIX_MAX])
{
    bool is_apart = source->kind != PX_SOURCE_ADS && kind != PX_CLUSTER && kind != PX_LISTENER;
    int len = is_apart ? snprintf(text, KEY_SUFFIX_MAX, SEPARATOR "%u", source->id) : 0;
    return lt_str_make(text, (size_t)len);
}

/* --- one kind --- */

/* The cell of the key, or the free one where it would go. */
static uint32_t find_cell(const struct px_row_set *set, lt_str key, uint32_t hash)
{
    uint32_t mask = set->cell_cap - 1, at = hash & mask;
    while (set->cells[at] != 0) {
        const struct px_row *row = set->by_slot[set->cells[at] - 1];
        if (row->hash == hash && lt_str_eq(row->key, key))
            return at;
        at = (at + 1) & mask;
    }
    return at;
}

static void grow_cells(struct px_row_set *set)
{
    set->cell_cap = set->cell_cap == 0 ? FIRST_CELLS : set->cell_cap * 2;
    free(set->cells);
    set->cells = lt_calloc(set->cell_cap, sizeof(*set->cells));
    for (uint32_t slot = 0; slot < set->slot_count; slot++) {
        const struct px_row *row = set->by_slot[slot];
        if (row == NULL)
            continue;
        uint32_t at = row->hash & (set->cell_cap - 1);
        while (set->cells[at] != 0)
            at = (at + 1) & (set->cell_cap - 1);
        set->cells[at] = slot + 1;
    }
}

static uint32_t take_slot(struct px_row_set *set)
{
    void *free_slot = lt_vec_pop(&set->free_slots);
    if (free_slot != NULL)
        return (uint32_t)(uintptr_t)free_slot - 1;
    if (set->slot_count == set->slot_cap) {
        set->slot_cap = set->slot_cap == 0 ? FIRST_CELLS : set->slot_cap + set->slot_cap / 2;
        set->by_slot = lt_realloc(set->by_slot, set->slot_cap * sizeof(struct px_row *));
    }
    return set->slot_count++;
}

static void put_row(struct px_row_set *set, struct px_row *row)
{
    row->slot = take_slot(set);
    set->by_slot[row->slot] = row;
    set->count++;
    if (set->count > set->cell_cap / 4 * 3)
        grow_cells(set); /* the row is among those that it places */
    else
        set->cells[find_cell(set, row->key, row->hash)] = row->slot + 1;
}

/*
 * Linear probing without tombstones: what stands behind the gap and wants to be earlier moves up.
 */
static void close_gap(struct px_row_set *set, uint32_t gap)
{
    uint32_t mask = set->cell_cap - 1;
    for (uint32_t at = (gap + 1) & mask; set->cells[at] != 0; at = (at + 1) & mask) {
        uint32_t home = set->by_slot[set->cells[at] - 1]->hash & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            set->cells[gap] = set->cells[at];
            gap = at;
        }
    }
    set->cells[gap] = 0;
}

static void remove_row(struct px_row_set *set, struct px_row *row)
{
    close_gap(set, find_cell(set, row->key, row->hash));
    set->by_slot[row->slot] = NULL;
    set->count--;
    lt_vec_push(&set->free_slots, (void *)(uintptr_t)(row->slot + 1));
}

/* --- rows --- */

struct px_row *px_row_find(const struct px_rows *rows, px_resource_kind kind, lt_str key)
{
    const struct px_row_set *set = &rows->sets[kind];
    if (set->count == 0)
        return NULL;
    uint32_t cell = set->cells[find_cell(set, key, (uint32_t)lt_str_hash(key))];
    return cell == 0 ? NULL : set->by_slot[cell - 1];
}

struct px_row *px_row_look_up(const struct px_rows *rows, px_resource_kind kind,
                              const struct px_source *source, lt_str name)
{
    char text[KEY_SUFFIX_MAX];
    lt_str suffix = suffix_of(kind, source, text);
    if (suffix.len == 0)
        return px_row_find(rows, kind, name);
    char *key = lt_malloc(name.len + suffix.len);
    memcpy(key, name.ptr, name.len);
    memcpy(key + name.len, suffix.ptr, suffix.len);
    struct px_row *row = px_row_find(rows, kind, lt_str_make(key, name.len + suffix.len));
    free(key);
    return row;
}

static struct px_row *make_row(struct px_rows *rows, px_resource_kind kind,
                               const struct px_source *source, lt_str name)
{
    char text[KEY_SUFFIX_MAX];
    lt_str suffix = suffix_of(kind, source, text);
    size_t len = name.len + suffix.len;
    struct px_row *row = lt_calloc(1, sizeof(*row) + len + 1);
    char *key = (char *)(row + 1);
    if (name.len > 0)
        memcpy(key, name.ptr, name.len);
    if (suffix.len > 0)
        memcpy(key + name.len, suffix.ptr, suffix.len);
    row->rows = rows;
    row->key = lt_str_make(key, len);
    row->name_len = (uint32_t)name.len;
    row->kind = (uint8_t)kind;
    row->source = source->id;
    row->hash = (uint32_t)lt_str_hash(row->key);
    put_row(&rows->sets[kind], row);
    rows->count++;
    return row;
}

struct px_row *px_row_get(struct px_rows *rows, px_resource_kind kind,
                          const struct px_source *source, lt_str name)
{
    struct px_row *row = px_row_look_up(rows, kind, source, name);
    if (row == NULL && rows->count < PX_ROWS_MAX && name.len <= UINT32_MAX)
        row = make_row(rows, kind, source, name);
    return row == NULL ? NULL : px_row_ref(row);
}

struct px_row *px_row_ref(struct px_row *row)
{
    row->refs++;
    return row;
}

void px_row_unref(struct px_row **pointer)
{
    struct px_row *row = *pointer;
    *pointer = NULL;
    if (row == NULL || --row->refs > 0)
        return;
    struct px_rows *rows = row->rows;
    LT_ASSERT(row->serving == NULL && row->warming == NULL && row->wanted == 0);
    remove_row(&rows->sets[row->kind], row);
    rows->count--;
    px_row_error_unref(&row->error);
    free(row);
}

/* --- errors --- */

struct px_row_error *px_row_error_ref(struct px_row_error *error)
{
    error->refs++;
    return error;
}

void px_row_error_unref(struct px_row_error **pointer)
{
    struct px_row_error *error = *pointer;
    *pointer = NULL;
    if (error != NULL && --error->refs == 0)
        free(error);
}
