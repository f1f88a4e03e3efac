/*
 * base/vec.c - the growing array of pointers.
 */
#include "base/vec.h"

#include <stdlib.h>

void lt_vec_fini(struct lt_vec *vec)
{
    free(vec->items);
    lt_vec_init(vec);
}

void lt_vec_push(struct lt_vec *vec, void *item)
{
    if (vec->count == vec->cap) {
        vec->cap = vec->cap == 0 ? 8 : vec->cap * 2;
        vec->items = lt_realloc(vec->items, vec->cap * sizeof(*vec->items));
    }
    vec->items[vec->count++] = item;
}

void *lt_vec_pop(struct lt_vec *vec)
{
    return vec->count == 0 ? NULL : vec->items[--vec->count];
}

void *lt_vec_swap_remove(struct lt_vec *vec, size_t at)
{
    LT_ASSERT(at < vec->count);
    void *item = vec->items[at];
    vec->items[at] = vec->items[--vec->count];
    return item;
}

ptrdiff_t lt_vec_find(const struct lt_vec *vec, const void *item)
{
    for (size_t i = 0; i < vec->count; i++) {
        if (vec->items[i] == item)
            return (ptrdiff_t)i;
    }
    return -1;
}
