/*
 * base/slab.c - chunks of one size, aligned to it, so that an object's address tells its chunk.
 */
#include "base/slab.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGN = 16 };

struct chunk {
    struct lt_list link;  /* in slab->with_room, unless it is full */
    void *free;           /* a list through the first word of each; last in, first out */
    uint32_t used, fresh; /* objects handed out; the first one never touched */
};

#if defined(__SANITIZE_ADDRESS__)
static const bool is_heap = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
static const bool is_heap = true;
#else
static const bool is_heap = false;
#endif
#else
static const bool is_heap = false;
#endif

static size_t header_bytes(void)
{
    return (sizeof(struct chunk) + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static struct chunk *chunk_of(void *object)
{
    return (struct chunk *)((uintptr_t)object & ~(uintptr_t)(LT_SLAB_CHUNK_BYTES - 1));
}

void lt_slab_init(struct lt_slab *slab, size_t object_bytes)
{
    LT_ASSERT(object_bytes > 0 && object_bytes <= LT_SLAB_CHUNK_BYTES / 16);
    *slab = (struct lt_slab){
        .object_bytes = (uint32_t)((object_bytes + ALIGN - 1) / ALIGN * ALIGN)};
    slab->per_chunk = (uint32_t)((LT_SLAB_CHUNK_BYTES - header_bytes()) / slab->object_bytes);
    lt_list_init(&slab->with_room);
}

/* Twice the room is mapped and what lies before and behind the aligned part given back. */
static struct chunk *map_chunk(void)
{
    size_t size = LT_SLAB_CHUNK_BYTES;
    char *all = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    LT_ASSERT(all != MAP_FAILED);
    char *at = (char *)(((uintptr_t)all + size - 1) & ~(uintptr_t)(size - 1));
    if (at > all)
        munmap(all, (size_t)(at - all));
    munmap(at + size, (size_t)(all + size - at));
    return (struct chunk *)(void *)at;
}

static struct chunk *chunk_with_room(struct lt_slab *slab)
{
    if (!lt_list_is_empty(&slab->with_room))
        return lt_list_first(&slab->with_room, struct chunk, link);
    struct chunk *chunk = map_chunk();
    lt_list_push_front(&slab->with_room, &chunk->link);
    slab->chunk_count++;
    return chunk;
}

void *lt_slab_take(struct lt_slab *slab)
{
    slab->used++;
    if (is_heap)
        return lt_calloc(1, slab->object_bytes);
    struct chunk *chunk = chunk_with_room(slab);
    if (chunk->used == 0)
        slab->has_empty = false;
    void *object = chunk->free;
    if (object != NULL) {
        chunk->free = *(void **)object;
        memset(object, 0, slab->object_bytes);
    } else { /* fresh pages are zero */
        object = (char *)chunk + header_bytes() + (size_t)chunk->fresh * slab->object_bytes;
        chunk->fresh++;
    }
    if (++chunk->used == slab->per_chunk)
        lt_list_remove(&chunk->link);
    return object;
}

static void drop_chunk(struct lt_slab *slab, struct chunk *chunk)
{
    lt_list_remove(&chunk->link);
    munmap(chunk, LT_SLAB_CHUNK_BYTES);
    slab->chunk_count--;
}

void lt_slab_give(struct lt_slab *slab, void *object)
{
    LT_ASSERT(slab->used > 0);
    slab->used--;
    if (is_heap) {
        free(object);
        return;
    }
    struct chunk *chunk = chunk_of(object);
    if (chunk->used-- == slab->per_chunk)
        lt_list_push_front(&slab->with_room, &chunk->link);
    *(void **)object = chunk->free;
    chunk->free = object;
    if (chunk->used > 0)
        return;
    if (slab->has_empty) {
        drop_chunk(slab, chunk);
        return;
    }
    slab->has_empty = true; /* and is used last */
    lt_list_remove(&chunk->link);
    lt_list_push_back(&slab->with_room, &chunk->link);
}

void lt_slab_fini(struct lt_slab *slab)
{
    LT_ASSERT(slab->used == 0);
    while (!lt_list_is_empty(&slab->with_room))
        drop_chunk(slab, lt_list_first(&slab->with_room, struct chunk, link));
}
