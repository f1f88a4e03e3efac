/*
 * proxy/lb/level.c - how the load is shared out between priorities: to the first as long as its
 * health, with some overprovisioning, suffices; healthy hosts before degraded ones; and when too
 * few are left, to all of them (panic).
 * Start at: px_lb_count_loads(), px_lb_choose_level().
 */
#include "proxy/lb/lb_priv.h"

/* --- availability: percent of a level that can take load --- */

static uint32_t share(uint64_t part, uint64_t whole, uint32_t factor)
{
    return whole == 0 ? 0 : (uint32_t)LT_MIN(factor * part / whole, (uint64_t)100);
}

static void availability(const struct px_lb *lb, const struct px_lb_level *level,
                         uint32_t *ret_healthy, uint32_t *ret_degraded)
{
    uint32_t factor = lb->overprovisioning_percent;
    if (lb->weighted_priority_health) {
        uint64_t whole = level->weight - level->excluded_weight;
        *ret_healthy = share(level->healthy_weight, whole, factor);
        *ret_degraded = share(level->degraded_weight, whole, factor);
        return;
    }
    uint64_t whole = level->hosts.all - level->hosts.excluded;
    *ret_healthy = share(level->hosts.healthy, whole, factor);
    *ret_degraded = share(level->hosts.degraded, whole, factor);
}

bool px_lb_level_is_panic(const struct px_lb *lb, const struct px_lb_level *level)
{
    uint32_t count = level->hosts.all - level->hosts.excluded;
    double healthy = count == 0 ? 0.0 : 100.0 * level->hosts.healthy / count;
    double degraded = count == 0 ? 0.0 : 100.0 * level->hosts.degraded / count;
    return healthy + degraded < LT_MIN(lb->conf->panic_percent, 100u);
}

/* --- shares --- */

enum { LEVELS_MAX = 129 };

struct loads {
    uint32_t healthy[LEVELS_MAX], degraded[LEVELS_MAX]; /* availability, then load */
    uint32_t total;                                     /* availability, at most 100 */
};

/* Returns what is left of `load`; *ret_first: the first that can take any, or -1. */
static uint32_t distribute(uint32_t *values, uint32_t count, uint32_t load, uint32_t total,
                           int *ret_first)
{
    *ret_first = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (*ret_first < 0 && values[i] > 0)
            *ret_first = (int)i;
        values[i] = LT_MIN(load, values[i] * 100 / total);
        load -= values[i];
    }
    return load;
}

static void gather(const struct px_lb *lb, uint32_t skipped, struct loads *loads)
{
    loads->total = 0;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        bool is_skipped = i < PX_LB_TRIED_LEVELS && (skipped >> i & 1) != 0;
        availability(lb, &lb->levels[i], &loads->healthy[i], &loads->degraded[i]);
        if (is_skipped)
            loads->healthy[i] = loads->degraded[i] = 0;
        loads->total += loads->healthy[i] + loads->degraded[i];
    }
    loads->total = LT_MIN(loads->total, 100u);
}

static void share_out(const struct px_lb *lb, struct loads *loads)
{
    int first_healthy, first_degraded;
    uint32_t left = distribute(loads->healthy, lb->level_count, 100, loads->total, &first_healthy);
    left = distribute(loads->degraded, lb->level_count, left, loads->total, &first_degraded);
    /* what rounding left over */
    if (first_healthy >= 0)
        loads->healthy[first_healthy] += left;
    else
        loads->degraded[first_degraded] += left;
}

/* No level has enough: by numbers alone. */
static void share_out_in_panic(struct px_lb *lb)
{
    struct px_lb_level *first = NULL;
    uint32_t left = 100;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        struct px_lb_level *level = &lb->levels[i];
        if (first == NULL && level->count > 0)
            first = level;
        level->healthy_load = lb->host_count == 0
                                  ? 0
                                  : (uint32_t)(100ull * level->count / lb->host_count);
        level->degraded_load = 0;
        left -= level->healthy_load;
    }
    (first != NULL ? first : &lb->levels[0])->healthy_load += left;
}

void px_lb_count_loads(struct px_lb *lb)
{
    struct loads loads;
    if (lb->level_count == 0)
        return;
    LT_ASSERT(lb->level_count <= LEVELS_MAX);
    gather(lb, 0, &loads);
    uint32_t total = loads.total;
    if (total == 0 && lb->conf->panic_percent == 0) {
        lb->levels[0].healthy_load = 100; /* to nobody */
        return;
    }
    if (total > 0)
        share_out(lb, &loads);
    bool is_total_panic = true;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        struct px_lb_level *level = &lb->levels[i];
        level->healthy_load = loads.healthy[i];
        level->degraded_load = loads.degraded[i];
        level->is_panic = total < 100 && px_lb_level_is_panic(lb, level);
        is_total_panic &= level->is_panic;
    }
    if (is_total_panic)
        share_out_in_panic(lb);
}

/* --- the choice --- */

static struct px_lb_level *choose(struct px_lb *lb, const uint32_t *healthy,
                                  const uint32_t *degraded, uint32_t percent, px_lb_from *ret_from)
{
    uint32_t sum = 0;
    *ret_from = PX_FROM_HEALTHY;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        if (percent <= (sum += healthy[i]))
            return &lb->levels[i];
    }
    *ret_from = PX_FROM_DEGRADED;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        if (percent <= (sum += degraded[i]))
            return &lb->levels[i];
    }
    return NULL;
}

struct px_lb_level *px_lb_choose_level(struct px_lb *lb, const struct px_lb_ask *ask,
                                       uint64_t random, px_lb_from *ret_from)
{
    struct loads loads;
    uint32_t percent = (uint32_t)(random % 100) + 1;
    if (lb->level_count == 0)
        return NULL;
    if (ask->tried_levels != 0) {
        gather(lb, ask->tried_levels, &loads);
        if (loads.total > 0) {
            share_out(lb, &loads);
            return choose(lb, loads.healthy, loads.degraded, percent, ret_from);
        }
    }
    for (uint32_t i = 0; i < lb->level_count; i++) {
        loads.healthy[i] = lb->levels[i].healthy_load;
        loads.degraded[i] = lb->levels[i].degraded_load;
    }
    return choose(lb, loads.healthy, loads.degraded, percent, ret_from);
}
