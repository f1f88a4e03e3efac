/*
 * base/slab.h - objects of one size, apart from the heap.
 * For what lives long and there is much of (connections): in the heap it would lie between what a
 * burst of work left behind, and keep the pages of that from going back to the system.
 * One owner, one thread. Under AddressSanitizer it is the heap, so that a use after free is seen.
 */
#ifndef LT_BASE_SLAB_H
#define LT_BASE_SLAB_H

#include "base/list.h"

struct lt_slab {
    uint32_t object_bytes;
    uint32_t per_chunk;
    uint32_t used;            /* objects handed out */
    uint32_t chunk_count;     /* each LT_SLAB_CHUNK_BYTES of address space */
    struct lt_list with_room; /* of chunks; an empty one is the last */
    bool has_empty;           /* one chunk without objects is kept, no more */
};

enum { LT_SLAB_CHUNK_BYTES = 64 * 1024 };

/* object_bytes: 1 to a sixteenth of a chunk. */
void lt_slab_init(struct lt_slab *slab, size_t object_bytes);
/* All objects must have been given back. */
void lt_slab_fini(struct lt_slab *slab);
/* Zeroed, aligned for any type. Out of memory ends the process, as lt_malloc() does. */
void *lt_slab_take(struct lt_slab *slab) __attribute__((returns_nonnull));
void lt_slab_give(struct lt_slab *slab, void *object);

#endif
