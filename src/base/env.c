/*
 * base/env.c - the real clock and randomness, and forms of time.
 */
#include "base/env.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
/* Where leaks are wanted, tests say so: the look for them hangs in a namespace of processes. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

static uint64_t real_mono_ns(void *ctx LT_UNUSED)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * LT_NS_PER_S + (uint64_t)now.tv_nsec;
}

static int64_t real_wall_ns(void *ctx LT_UNUSED)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * (int64_t)LT_NS_PER_S + now.tv_nsec;
}

static void real_random(void *ctx LT_UNUSED, void *out, size_t len)
{
    char *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        LT_ASSERT(got > 0);
        at += got;
        len -= (size_t)got;
    }
}

void lt_env_init(struct lt_env *env, const char *program)
{
    *env = (struct lt_env){
        .mono_ns = real_mono_ns,
        .wall_ns = real_wall_ns,
        .random = real_random,
        .log = {.fd = STDERR_FILENO, .level = LT_LOG_INFO, .program = program},
    };
}

uint64_t lt_env_random_u64(const struct lt_env *env)
{
    uint64_t value;
    env->random(env->ctx, &value, sizeof(value));
    return value;
}

void lt_prng_seed(struct lt_prng *prng, const struct lt_env *env)
{
    prng->s[0] = lt_env_random_u64(env) | 1; /* all zero is the one forbidden state */
    prng->s[1] = lt_env_random_u64(env);
}

void lt_time_format(int64_t wall_ns, char out[32])
{
    time_t seconds = (time_t)(wall_ns / (int64_t)LT_NS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t len = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + len, 32 - len, ".%03dZ",
             (int)(wall_ns % (int64_t)LT_NS_PER_S / (int64_t)LT_NS_PER_MS));
}

static const struct {
    const char *unit;
    int64_t ns;
} units[] = {
    {"ns", 1},         {"us", 1000},       {"µs", 1000},         {"ms", 1000000},
    {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000},
};

static int64_t unit_ns(lt_str unit)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(units); i++) {
        if (lt_str_eqz(unit, units[i].unit))
            return units[i].ns;
    }
    return 0;
}

static size_t span_number(lt_str s, bool is_number)
{
    size_t i = 0;
    while (i < s.len && (((s.ptr[i] >= '0' && s.ptr[i] <= '9') || s.ptr[i] == '.') == is_number))
        i++;
    return i;
}

lt_rc lt_duration_parse(lt_str text, int64_t *ret_ns)
{
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    lt_str rest = is_negative ? lt_str_from(text, 1) : text;
    if (lt_str_eqz(rest, "0")) {
        *ret_ns = 0;
        return LT_OK;
    }
    double total = 0;
    do {
        size_t digits = span_number(rest, true);
        lt_str number = lt_str_slice(rest, 0, digits);
        rest = lt_str_from(rest, digits);
        size_t letters = span_number(rest, false);
        int64_t scale = unit_ns(lt_str_slice(rest, 0, letters));
        rest = lt_str_from(rest, letters);
        double value = 0;
        if (scale == 0 || lt_str_to_double(number, &value) != LT_OK)
            return LT_E_BAD;
        total += value * (double)scale;
    } while (rest.len > 0);
    if (total > 9.2e18)
        return LT_E_LIMIT;
    *ret_ns = (int64_t)(is_negative ? -total : total);
    return LT_OK;
}
