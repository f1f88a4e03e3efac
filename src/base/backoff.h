/*
 * base/backoff.h - how long to wait before trying again: doubling up to a ceiling, with full
 * jitter, so that many who lost the same peer do not come back together.
 */
#ifndef LT_BASE_BACKOFF_H
#define LT_BASE_BACKOFF_H

#include "base/env.h"

struct lt_backoff {
    uint64_t base_ns; /* ceiling of the first wait */
    uint64_t max_ns;
    uint64_t ceiling_ns; /* of the next wait; 0: as after a reset */
};

static inline void lt_backoff_init(struct lt_backoff *backoff, uint64_t base_ns, uint64_t max_ns)
{
    LT_ASSERT(base_ns > 0 && base_ns <= max_ns);
    *backoff = (struct lt_backoff){.base_ns = base_ns, .max_ns = max_ns};
}

/* After a success. */
static inline void lt_backoff_reset(struct lt_backoff *backoff)
{
    backoff->ceiling_ns = 0;
}

/* The next wait in ns: uniform in [1, ceiling], as Envoy's jittered exponential back-off. */
static inline uint64_t lt_backoff_next_ns(struct lt_backoff *backoff, struct lt_prng *prng)
{
    uint64_t ceiling_ns = backoff->ceiling_ns == 0 ? backoff->base_ns : backoff->ceiling_ns;
    backoff->ceiling_ns = ceiling_ns > backoff->max_ns / 2 ? backoff->max_ns : ceiling_ns * 2;
    return 1 + lt_prng_next(prng) % ceiling_ns;
}

#endif
