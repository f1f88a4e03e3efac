/*
 * base/timer.c - a binary heap ordered by due time; each timer knows its place.
 */
#include "base/timer.h"

#include <stdlib.h>

void lt_timers_init(struct lt_timers *timers)
{
    *timers = (struct lt_timers){0};
}

void lt_timers_fini(struct lt_timers *timers)
{
    for (size_t i = 0; i < timers->count; i++)
        timers->heap[i]->index = 0;
    free(timers->heap);
    lt_timers_init(timers);
}

static void place(struct lt_timers *timers, size_t at, struct lt_timer *timer)
{
    timers->heap[at] = timer;
    timer->index = at + 1;
}

static size_t sift_up(struct lt_timers *timers, size_t at)
{
    struct lt_timer *timer = timers->heap[at];
    while (at > 0 && timers->heap[(at - 1) / 2]->at_ns > timer->at_ns) {
        place(timers, at, timers->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(timers, at, timer);
    return at;
}

static void sift_down(struct lt_timers *timers, size_t at)
{
    struct lt_timer *timer = timers->heap[at];
    for (size_t child = at * 2 + 1; child < timers->count; child = at * 2 + 1) {
        if (child + 1 < timers->count &&
            timers->heap[child + 1]->at_ns < timers->heap[child]->at_ns)
            child++;
        if (timers->heap[child]->at_ns >= timer->at_ns)
            break;
        place(timers, at, timers->heap[child]);
        at = child;
    }
    place(timers, at, timer);
}

void lt_timers_set(struct lt_timers *timers, struct lt_timer *timer, uint64_t at_ns)
{
    if (timer->index == 0) {
        if (timers->count == timers->cap) {
            timers->cap = timers->cap == 0 ? 16 : timers->cap * 2;
            timers->heap = lt_realloc(timers->heap, timers->cap * sizeof(*timers->heap));
        }
        place(timers, timers->count++, timer);
    }
    timer->at_ns = at_ns;
    sift_down(timers, sift_up(timers, timer->index - 1));
}

void lt_timers_cancel(struct lt_timers *timers, struct lt_timer *timer)
{
    if (timer->index == 0)
        return;
    size_t at = timer->index - 1;
    LT_ASSERT(at < timers->count && timers->heap[at] == timer);
    timer->index = 0;
    struct lt_timer *last = timers->heap[--timers->count];
    if (last == timer)
        return;
    place(timers, at, last);
    sift_down(timers, sift_up(timers, at));
}

uint64_t lt_timers_next_ns(const struct lt_timers *timers)
{
    return timers->count == 0 ? UINT64_MAX : timers->heap[0]->at_ns;
}

void lt_timers_run(struct lt_timers *timers, uint64_t now_ns)
{
    for (size_t budget = timers->count; budget > 0 && timers->count > 0; budget--) {
        struct lt_timer *timer = timers->heap[0];
        if (timer->at_ns > now_ns)
            return;
        lt_timers_cancel(timers, timer);
        timer->on_due(timer, now_ns);
    }
}
