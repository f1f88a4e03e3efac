/*
 * base/vec.h - a growing array of pointers. The items are the caller's.
 */
#ifndef LT_BASE_VEC_H
#define LT_BASE_VEC_H

#include <stdlib.h>

#include "base/rc.h"

struct lt_vec {
    void **items; /* owned */
    size_t count;
    size_t cap;
};

static inline void lt_vec_init(struct lt_vec *vec)
{
    *vec = (struct lt_vec){0};
}

void lt_vec_fini(struct lt_vec *vec);
void lt_vec_push(struct lt_vec *vec, void *item);
/* The last item, or NULL when there is none. */
void *lt_vec_pop(struct lt_vec *vec);
/* Takes the item at `at` out; the last item takes its place. */
void *lt_vec_swap_remove(struct lt_vec *vec, size_t at);
/* The index of the item, or -1. */
ptrdiff_t lt_vec_find(const struct lt_vec *vec, const void *item);

/* qsort, for arrays that may be empty (and then NULL). */
static inline void lt_sort(void *items, size_t count, size_t size,
                           int (*cmp)(const void *, const void *))
{
    if (count > 1)
        qsort(items, count, size, cmp);
}

#endif
