/*
 * base/env.h - what the world gives a program: clock, randomness, log. Made in main, passed down.
 * Tests pass their own, with a clock that they move.
 */
#ifndef LT_BASE_ENV_H
#define LT_BASE_ENV_H

#include "base/log.h"

#define LT_NS_PER_MS 1000000ull
#define LT_NS_PER_S 1000000000ull

struct lt_env {
    uint64_t (*mono_ns)(void *ctx); /* monotonic clock */
    int64_t (*wall_ns)(void *ctx);  /* ns since the Unix epoch */
    void (*random)(void *ctx, void *out, size_t len);
    void *ctx; /* borrowed, for the three above */
    struct lt_log log;
};

/* The real clock and kernel randomness; log to stderr at info. */
void lt_env_init(struct lt_env *env, const char *program);

static inline uint64_t lt_env_mono_ns(const struct lt_env *env)
{
    return env->mono_ns(env->ctx);
}

static inline int64_t lt_env_wall_ns(const struct lt_env *env)
{
    return env->wall_ns(env->ctx);
}

uint64_t lt_env_random_u64(const struct lt_env *env);

/* A small fast generator for load balancing and jitter; not for secrets. Seed it from lt_env. */
struct lt_prng {
    uint64_t s[2];
};

void lt_prng_seed(struct lt_prng *prng, const struct lt_env *env);

/* xoroshiro128+ (Blackman, Vigna). */
static inline uint64_t lt_prng_next(struct lt_prng *prng)
{
    uint64_t a = prng->s[0], b = prng->s[1], sum = a + b;
    b ^= a;
    prng->s[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    prng->s[1] = (b << 37) | (b >> 27);
    return sum;
}

/* Uniform in [0, n), n > 0; the bias of the multiply method is below 2^-32 for n < 2^32. */
static inline uint32_t lt_prng_below(struct lt_prng *prng, uint32_t n)
{
    return (uint32_t)(((lt_prng_next(prng) >> 32) * n) >> 32);
}

/* RFC 3339 with milliseconds, "2026-08-01T09:30:00.123Z". Needs 25 bytes. */
void lt_time_format(int64_t wall_ns, char out[32]);
/* "300ms" "1.5s" "2m" "1h30m" (Go's and Istio's form) into ns; LT_E_BAD otherwise. */
LT_MUST lt_rc lt_duration_parse(lt_str text, int64_t *ret_ns);

#endif
