/*
 * base/timer.h - a heap of timers. No clock of its own: the caller says what time it is.
 * A struct lt_timer is embedded in what waits; the heap borrows it while it is set.
 */
#ifndef LT_BASE_TIMER_H
#define LT_BASE_TIMER_H

#include "base/rc.h"

struct lt_timer;
typedef void lt_timer_fn(struct lt_timer *timer, uint64_t now_ns);

struct lt_timer {
    uint64_t at_ns; /* when it is due */
    size_t index;   /* place in the heap + 1; 0 while not set */
    lt_timer_fn *on_due;
};

struct lt_timers {
    struct lt_timer **heap; /* owned */
    size_t count;
    size_t cap;
};

void lt_timers_init(struct lt_timers *timers);
void lt_timers_fini(struct lt_timers *timers);

static inline void lt_timer_init(struct lt_timer *timer, lt_timer_fn *on_due)
{
    *timer = (struct lt_timer){.on_due = on_due};
}

static inline bool lt_timer_is_set(const struct lt_timer *timer)
{
    return timer->index != 0;
}

/* Sets, or moves when already set. */
void lt_timers_set(struct lt_timers *timers, struct lt_timer *timer, uint64_t at_ns);
/* Does nothing when it is not set. */
void lt_timers_cancel(struct lt_timers *timers, struct lt_timer *timer);
/* When the next is due; UINT64_MAX when none is set. */
uint64_t lt_timers_next_ns(const struct lt_timers *timers);
/*
 * Calls on_due of all that are due at now_ns (each unset before its call; at most as many as were
 * set on entry).
 */
void lt_timers_run(struct lt_timers *timers, uint64_t now_ns);

#endif
