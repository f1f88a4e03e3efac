/*
 * proxy/conf/shelf.h - a table of entries by slot, of which versions are kept: a version shares
 * with the next what is the same in both, by chunks of a few dozen entries. So a change copies one
 * chunk and a list of pointers to chunks, however many entries there are.
 * A version that was shared is never written to again. Counts are the main thread's; other threads
 * only read. An index finds entries by name, and is shared between versions in the same way.
 */
#ifndef LT_PROXY_CONF_SHELF_H
#define LT_PROXY_CONF_SHELF_H

#include "base/str.h"

enum { PX_SHELF_CHUNK = 32 };

/* What entries hold. An entry of zeroes is none: its first member is a pointer. */
struct px_shelf_kind {
    size_t entry_size;
    void (*hold)(void *entry); /* one more copy of it is kept */
    void (*drop)(void *entry);
};

struct px_chunk; /* counted */

struct px_shelf {
    const struct px_shelf_kind *kind;
    struct px_chunk **chunks; /* owned list; NULL where all entries are none */
    uint32_t chunk_count;
};

void px_shelf_init(struct px_shelf *shelf, const struct px_shelf_kind *kind);
void px_shelf_fini(struct px_shelf *shelf);
/* Another version, the same for now. */
struct px_shelf px_shelf_share(const struct px_shelf *shelf);
/* entry is held by the shelf from now on (hold is called), what was in the slot is dropped. */
void px_shelf_put(struct px_shelf *shelf, uint32_t slot, const void *entry);
void px_shelf_clear(struct px_shelf *shelf, uint32_t slot);
/* NULL: none. */
const void *px_shelf_at(const struct px_shelf *shelf, uint32_t slot);

/*
 * Calls visit for each slot whose entry isn't the same in both; either may be NULL. before may be
 * NULL: all of after.
 */
typedef void px_shelf_diff_fn(void *ctx, const void *before, const void *after);
void px_shelf_diff(const struct px_shelf *before, const struct px_shelf *after,
                   px_shelf_diff_fn *visit, void *ctx);
/* Calls visit for each entry. */
typedef void px_shelf_each_fn(void *ctx, const void *entry);
void px_shelf_each(const struct px_shelf *shelf, px_shelf_each_fn *visit, void *ctx);

/* --- an index of slots by name --- */

struct px_index_cell {
    uint32_t hash;
    uint32_t slot; /* + 1; 0: free */
};

struct px_index {
    uint32_t refs;
    uint32_t count;
    uint32_t cap; /* of cells; a power of two */
    struct px_index_cell cells[];
};

struct px_index *px_index_new(void);
struct px_index *px_index_ref(struct px_index *index);
void px_index_unref(struct px_index **index);
/* The name isn't in it. When others hold the index, *index is a copy afterwards. */
void px_index_put(struct px_index **index, lt_str name, uint32_t slot);
void px_index_remove(struct px_index **index, lt_str name, uint32_t slot);

/*
 * The next slot that may be the name's, from *at on (begin with px_index_begin); the caller
 * compares names. UINT32_MAX: no more.
 */
static inline uint32_t px_index_begin(const struct px_index *index, uint32_t hash)
{
    return hash & (index->cap - 1);
}

static inline uint32_t px_index_next(const struct px_index *index, uint32_t hash, uint32_t *at)
{
    for (;;) {
        const struct px_index_cell *cell = &index->cells[*at];
        if (cell->slot == 0)
            return UINT32_MAX;
        *at = (*at + 1) & (index->cap - 1);
        if (cell->hash == hash)
            return cell->slot - 1;
    }
}

#endif
