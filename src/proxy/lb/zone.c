/*
 * proxy/lb/zone.c - which locality of a level takes a request: by weights, or the proxy's own as
 * far as its hosts suffice for the callers that are there (zone aware).
 * Start at: px_lb_choose_place().
 */
#include <stdlib.h>

#include "proxy/lb/lb_priv.h"

enum { WHOLE = 10000 };

/* --- by weight --- */

/* Envoy: the weight, less what unhealthy hosts take away beyond the overprovisioning. */
double px_lb_place_weight(const struct px_lb *lb, const struct px_lb_place *place, px_lb_from from)
{
    uint32_t count = place->hosts.all - place->hosts.excluded;
    if (count == 0)
        return 0;
    double part = (double)px_lb_count_of(&place->hosts, from) / count;
    return place->weight * LT_MIN(1.0, part * lb->overprovisioning_percent / 100.0);
}

static struct px_edf *make_place_edf(const struct px_lb *lb, const struct px_lb_level *level,
                                     px_lb_from from, struct lt_prng *prng)
{
    struct px_edf *edf = px_edf_new(level->place_count);
    for (uint32_t i = 0; i < level->place_count; i++) {
        double weight = px_lb_place_weight(lb, &lb->places[level->place_first + i], from);
        if (weight > 0)
            px_edf_add(edf, i, weight, prng);
    }
    if (edf->count > 0)
        return edf;
    free(edf);
    return NULL;
}

static struct px_lb_place *choose_by_weight(struct px_lb *lb, struct px_lb_level *level,
                                            px_lb_from from, const struct px_lb_ask *ask)
{
    if (!level->has_place_edf[from]) {
        level->has_place_edf[from] = true;
        level->place_edfs[from] = make_place_edf(lb, level, from, ask->prng);
    }
    struct px_edf *edf = level->place_edfs[from];
    if (edf == NULL)
        return NULL;
    struct px_lb_place *place = &lb->places[level->place_first + px_edf_first(edf)];
    px_edf_again(edf, px_lb_place_weight(lb, place, from));
    return place;
}

/* --- zone aware --- */

static bool is_same(const struct px_locality *a, const struct px_locality *b)
{
    return lt_str_eq(a->region, b->region) && lt_str_eq(a->zone, b->zone) &&
           lt_str_eq(a->sub_zone, b->sub_zone);
}

/* The place of the level that is there; UINT32_MAX: none. */
static uint32_t find_place(const struct px_lb *lb, const struct px_lb_level *level,
                           const struct px_locality *locality)
{
    for (uint32_t i = 0; locality != NULL && i < level->place_count; i++) {
        const struct px_lb_place *place = &lb->places[level->place_first + i];
        if (place->count > 0 && is_same(place->locality, locality))
            return i;
    }
    return UINT32_MAX;
}

static uint32_t filled_places(const struct px_lb *lb, const struct px_lb_level *level)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < level->place_count; i++)
        count += lb->places[level->place_first + i].count > 0;
    return count;
}

/* Of the healthy hosts of the level, in parts of 10,000. */
static uint64_t part_of(const struct px_lb *lb, const struct px_lb_level *level, uint32_t place)
{
    if (place == UINT32_MAX || level->hosts.healthy == 0)
        return 0;
    return (uint64_t)WHOLE * lb->places[level->place_first + place].hosts.healthy /
           level->hosts.healthy;
}

static uint64_t local_part_of(const struct px_lb *local, const struct px_locality *locality)
{
    const struct px_lb_level *level = &local->levels[0];
    return part_of(local, level, find_place(local, level, locality));
}

/* False: requests go where they would without zones. */
static bool may_route_by_zone(struct px_lb *lb, const struct px_lb_level *level,
                              const struct px_lb *local)
{
    const struct px_lb_level *callers = local->level_count > 0 ? &local->levels[0] : NULL;
    if (filled_places(lb, level) < 2)
        return false;
    uint32_t here = callers != NULL ? find_place(local, callers, lb->here) : UINT32_MAX;
    if (here == UINT32_MAX || local->places[callers->place_first + here].hosts.healthy == 0) {
        lb->counters[PX_LB_N_LOCAL_NOT_OK]++;
        return false;
    }
    if (level->hosts.healthy < lb->conf->zone_min_hosts) {
        lb->counters[PX_LB_N_ZONE_TOO_SMALL]++;
        return false;
    }
    return true;
}

/* What does not stay here goes where there are more hosts than callers. */
static void make_residual(const struct px_lb *lb, struct px_lb_level *level,
                          const struct px_lb *local)
{
    struct px_lb_zone *zone = &level->zone;
    uint64_t sum = 0;
    zone->residual = lt_calloc(level->place_count + 1, sizeof(*zone->residual));
    for (uint32_t i = 0; i < level->place_count; i++) {
        const struct px_lb_place *place = &lb->places[level->place_first + i];
        uint64_t hosts = part_of(lb, level, i), callers = local_part_of(local, place->locality);
        if (i != zone->local_place && hosts > callers)
            sum += hosts - callers;
        zone->residual[i] = sum;
    }
}

static void make_zone(struct px_lb *lb, struct px_lb_level *level, const struct px_lb *local)
{
    struct px_lb_zone *zone = &level->zone;
    free(zone->residual);
    *zone = (struct px_lb_zone){.state = PX_ZONE_OFF, .local_version = local->version};
    lb->counters[PX_LB_N_ZONE_RECALCULATED]++;
    if (!may_route_by_zone(lb, level, local))
        return;
    zone->local_place = find_place(lb, level, lb->here);
    uint64_t hosts = part_of(lb, level, zone->local_place);
    uint64_t callers = local_part_of(local, lb->here);
    if (hosts > 0 && hosts >= callers) {
        zone->state = PX_ZONE_DIRECT;
        return;
    }
    zone->state = PX_ZONE_RESIDUAL;
    zone->local_per_10000 = callers > 0 ? hosts * WHOLE / callers : 0;
    make_residual(lb, level, local);
}

static uint32_t choose_zone(struct px_lb *lb, const struct px_lb_level *level, struct lt_prng *prng)
{
    const struct px_lb_zone *zone = &level->zone;
    if (zone->state == PX_ZONE_DIRECT) {
        lb->counters[PX_LB_N_ZONE_DIRECTLY]++;
        return zone->local_place;
    }
    if (lt_prng_below(prng, WHOLE) < zone->local_per_10000) {
        lb->counters[PX_LB_N_ZONE_SAMPLED]++;
        return zone->local_place;
    }
    lb->counters[PX_LB_N_ZONE_CROSS]++;
    uint64_t capacity = zone->residual[level->place_count - 1];
    if (capacity == 0) {
        lb->counters[PX_LB_N_ZONE_NO_CAPACITY]++;
        return lt_prng_below(prng, level->place_count);
    }
    uint64_t at = lt_prng_next(prng) % capacity;
    uint32_t place = 0;
    while (at >= zone->residual[place])
        place++;
    return place;
}

static struct px_lb_place *choose_by_zone(struct px_lb *lb, struct px_lb_level *level,
                                          const struct px_lb_ask *ask, bool *ret_fails)
{
    const struct px_lb *local = ask->local;
    if (local == NULL)
        return NULL;
    if (level->zone.state == PX_ZONE_UNKNOWN || level->zone.local_version != local->version)
        make_zone(lb, level, local);
    if (level->zone.state == PX_ZONE_OFF ||
        lt_prng_below(ask->prng, 100) >= lb->conf->zone_routing_percent)
        return NULL;
    if (px_lb_level_is_panic(lb, &local->levels[0])) {
        lb->counters[PX_LB_N_LOCAL_NOT_OK]++;
        *ret_fails = lb->conf->fails_on_panic;
        return NULL;
    }
    return &lb->places[level->place_first + choose_zone(lb, level, ask->prng)];
}

struct px_lb_place *px_lb_choose_place(struct px_lb *lb, struct px_lb_level *level, px_lb_from from,
                                       const struct px_lb_ask *ask, bool *ret_fails)
{
    return lb->conf->locality == PX_LOCALITY_WEIGHTED ? choose_by_weight(lb, level, from, ask)
                                                      : choose_by_zone(lb, level, ask, ret_fails);
}
