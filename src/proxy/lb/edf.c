/*
 * proxy/lb/edf.c - weighted choice without bursts: each item's next turn is one over its weight
 * away, and the nearest turn is next. A binary heap.
 */
#include <stdlib.h>

#include "proxy/lb/lb_priv.h"

struct px_edf *px_edf_new(uint32_t room)
{
    struct px_edf *edf = lt_malloc(sizeof(*edf) + room * sizeof(edf->heap[0]));
    edf->now = 0;
    edf->count = edf->orders = 0;
    return edf;
}

static bool is_before(const struct px_edf_entry *a, const struct px_edf_entry *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->order < b->order);
}

static void sift_down(struct px_edf *edf, uint32_t at)
{
    struct px_edf_entry moved = edf->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= edf->count)
            break;
        if (child + 1 < edf->count && is_before(&edf->heap[child + 1], &edf->heap[child]))
            child++;
        if (!is_before(&edf->heap[child], &moved))
            break;
        edf->heap[at] = edf->heap[child];
        at = child;
    }
    edf->heap[at] = moved;
}

void px_edf_add(struct px_edf *edf, uint32_t item, double weight, struct lt_prng *prng)
{
    double part = (double)(lt_prng_next(prng) >> 11) / (double)(1ull << 53);
    struct px_edf_entry entry = {(1.0 - part) / weight, edf->orders++, item};
    uint32_t at = edf->count++;
    for (; at > 0 && is_before(&entry, &edf->heap[(at - 1) / 2]); at = (at - 1) / 2)
        edf->heap[at] = edf->heap[(at - 1) / 2];
    edf->heap[at] = entry;
}

uint32_t px_edf_first(struct px_edf *edf)
{
    edf->now = edf->heap[0].deadline;
    return edf->heap[0].item;
}

void px_edf_again(struct px_edf *edf, double weight)
{
    edf->heap[0].deadline = edf->now + 1.0 / weight;
    edf->heap[0].order = edf->orders++;
    sift_down(edf, 0);
}
