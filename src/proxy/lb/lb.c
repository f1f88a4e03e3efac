/*
 * proxy/lb/lb.c - a balancer's hosts in order, and a choice from first question to host.
 * Start at: px_lb_set(), px_lb_pick().
 */
#include <stdlib.h>

#include "proxy/lb/lb_priv.h"

enum { MERGED_MAX = 1024 };

/* --- life --- */

static const char *const counter_names[] = {
#define PX_LB_COUNTER_NAME(id, name) [PX_LB_N_##id] = name,
    PX_LB_COUNTERS(PX_LB_COUNTER_NAME)
#undef PX_LB_COUNTER_NAME
};

const char *px_lb_counter_name(px_lb_counter counter)
{
    return counter_names[counter];
}

const uint64_t *px_lb_counters(const struct px_lb *lb)
{
    return lb->counters;
}

struct px_lb *px_lb_new(void)
{
    return lt_new(struct px_lb);
}

static void fini_sources(struct px_lb_source sources[PX_FROM_KINDS])
{
    for (int from = 0; from < PX_FROM_KINDS; from++)
        px_lb_source_fini(&sources[from]);
}

static void drop_set(struct px_lb *lb)
{
    for (uint32_t i = 0; i < lb->level_count; i++) {
        struct px_lb_level *level = &lb->levels[i];
        fini_sources(level->sources);
        for (int from = 0; from < PX_FROM_KINDS; from++)
            free(level->place_edfs[from]);
        free(level->zone.residual);
        px_lb_table_free(&level->table);
    }
    for (uint32_t i = 0; i < lb->place_count; i++)
        fini_sources(lb->places[i].sources);
    free(lb->levels);
    free(lb->places);
    free(lb->hosts);
    lb->levels = NULL;
    lb->places = NULL;
    lb->hosts = NULL;
    lb->level_count = lb->place_count = lb->host_count = 0;
    lb->only = NULL;
}

void px_lb_free(struct px_lb **pointer)
{
    struct px_lb *lb = *pointer;
    *pointer = NULL;
    if (lb == NULL)
        return;
    px_lb_subsets_free(&lb->subsets);
    drop_set(lb);
    free(lb->own_localities);
    free(lb);
}

/* --- levels, places, hosts: sorted by counting --- */

static bool same_place(const struct px_locality *a, const struct px_locality *b)
{
    return a->priority == b->priority && lt_str_eq(a->zone, b->zone) &&
           lt_str_eq(a->region, b->region) && lt_str_eq(a->sub_zone, b->sub_zone);
}

/* The first of those that name the same place at the same priority; few lists have many. */
static size_t first_of_place(const struct px_lb_set *set, size_t at)
{
    for (size_t i = 0; i < at && set->locality_count <= MERGED_MAX; i++) {
        if (same_place(&set->localities[i], &set->localities[at]))
            return i;
    }
    return at;
}

/* *ret_place_of: by locality, the index of its place. Owned by the caller. */
static void make_places(struct px_lb *lb, const struct px_lb_set *set, uint32_t **ret_place_of)
{
    uint32_t *place_of = lt_calloc(set->locality_count + 1, sizeof(*place_of));
    for (size_t i = 0; i < set->locality_count; i++)
        lb->level_count = LT_MAX(lb->level_count, set->localities[i].priority + 1);
    lb->levels = lt_calloc(lb->level_count + 1, sizeof(*lb->levels));
    lb->places = lt_calloc(set->locality_count + 1, sizeof(*lb->places));
    for (uint32_t priority = 0; priority < lb->level_count; priority++) {
        struct px_lb_level *level = &lb->levels[priority];
        level->place_first = lb->place_count;
        for (size_t i = 0; i < set->locality_count; i++) {
            if (set->localities[i].priority != priority)
                continue;
            size_t first = first_of_place(set, i);
            place_of[i] = first < i ? place_of[first] : lb->place_count++;
            struct px_lb_place *place = &lb->places[place_of[i]];
            place->locality = &set->localities[i];
            place->weight = set->localities[i].weight;
        }
        level->place_count = lb->place_count - level->place_first;
    }
    *ret_place_of = place_of;
}

static void count_host(struct px_lb_count *count, const struct px_lb_host *host)
{
    count->all++;
    count->healthy += host->health == PX_LB_HEALTHY;
    count->degraded += host->health == PX_LB_DEGRADED;
    count->excluded += host->is_excluded;
}

static void count_weight(struct px_lb_level *level, const struct px_lb_host *host)
{
    level->weight += host->weight;
    level->healthy_weight += host->health == PX_LB_HEALTHY ? host->weight : 0;
    level->degraded_weight += host->health == PX_LB_DEGRADED ? host->weight : 0;
    level->excluded_weight += host->is_excluded ? host->weight : 0;
}

static void place_hosts(struct px_lb *lb, const struct px_lb_set *set, const uint32_t *place_of)
{
    lb->hosts = lt_calloc(set->count + 1, sizeof(struct px_lb_host *));
    lb->host_count = (uint32_t)set->count;
    for (size_t i = 0; i < set->count; i++)
        lb->places[place_of[set->hosts[i]->locality]].count++;
    uint32_t at = 0;
    for (uint32_t i = 0; i < lb->place_count; i++) {
        lb->places[i].first = at;
        at += lb->places[i].count;
        lb->places[i].count = 0;
    }
    for (size_t i = 0; i < set->count; i++) {
        struct px_lb_host *host = set->hosts[i];
        struct px_lb_place *place = &lb->places[place_of[host->locality]];
        lb->hosts[place->first + place->count++] = host;
        count_host(&place->hosts, host);
    }
}

static void sum_level(struct px_lb *lb, struct px_lb_level *level)
{
    level->first = level->place_count > 0 ? lb->places[level->place_first].first : 0;
    for (uint32_t i = 0; i < level->place_count; i++) {
        const struct px_lb_place *place = &lb->places[level->place_first + i];
        level->count += place->count;
        level->hosts.all += place->hosts.all;
        level->hosts.healthy += place->hosts.healthy;
        level->hosts.degraded += place->hosts.degraded;
        level->hosts.excluded += place->hosts.excluded;
    }
    for (uint32_t i = 0; i < level->count; i++)
        count_weight(level, lb->hosts[level->first + i]);
}

/* Most clusters have one level, healthy or not: then nothing is to be chosen before the host. */
static void find_only(struct px_lb *lb)
{
    bool is_hashed = lb->conf->policy == PX_LB_RING_HASH || lb->conf->policy == PX_LB_MAGLEV;
    if (is_hashed || lb->conf->locality != PX_LOCALITY_NONE || lb->conf->subset != NULL)
        return;
    for (uint32_t i = 0; i < lb->level_count; i++) {
        struct px_lb_level *level = &lb->levels[i];
        if (level->is_panic)
            continue; /* each such choice is counted */
        if (level->healthy_load == 100)
            lb->only = px_lb_level_source(lb, level, PX_FROM_HEALTHY);
        else if (level->degraded_load == 100)
            lb->only = px_lb_level_source(lb, level, PX_FROM_DEGRADED);
    }
}

void px_lb_set(struct px_lb *lb, const struct px_lb_conf *conf, const struct px_lb_set *set)
{
    LT_ASSERT(set->count == 0 || set->locality_count > 0);
    uint32_t *place_of = NULL;
    drop_set(lb);
    lb->conf = conf;
    lb->overprovisioning_percent = set->overprovisioning_percent;
    lb->weighted_priority_health = set->weighted_priority_health;
    lb->here = set->here;
    lb->version++;
    make_places(lb, set, &place_of);
    place_hosts(lb, set, place_of);
    free(place_of);
    for (uint32_t i = 0; i < lb->level_count; i++)
        sum_level(lb, &lb->levels[i]);
    px_lb_count_loads(lb);
    px_lb_subsets_set(lb, set);
    find_only(lb);
}

bool px_lb_load(const struct px_lb *lb, uint32_t priority, uint32_t *ret_healthy,
                uint32_t *ret_degraded, bool *ret_panic)
{
    if (priority >= lb->level_count)
        return false;
    *ret_healthy = lb->levels[priority].healthy_load;
    *ret_degraded = lb->levels[priority].degraded_load;
    *ret_panic = lb->levels[priority].is_panic;
    return true;
}

/* --- a choice --- */

bool px_lb_is_avoided(const struct px_lb_ask *ask, const struct px_lb_host *host)
{
    if (ask->refuses != NULL && ask->refuses(ask->refuses_ctx, host))
        return true;
    for (size_t i = 0; i < ask->avoid_count; i++) {
        if (ask->avoid[i] == host)
            return true;
    }
    return false;
}

static struct px_lb_source *choose_source(struct px_lb *lb, const struct px_lb_ask *ask)
{
    if (lb->only != NULL && ask->tried_levels == 0)
        return lb->only;
    px_lb_from from = PX_FROM_ALL;
    struct px_lb_level *level = px_lb_choose_level(lb, ask, lt_prng_next(ask->prng), &from);
    if (level == NULL)
        return NULL;
    if (level->is_panic) {
        lb->counters[PX_LB_N_HEALTHY_PANIC]++;
        return lb->conf->fails_on_panic ? NULL : px_lb_level_source(lb, level, PX_FROM_ALL);
    }
    if (lb->conf->locality == PX_LOCALITY_NONE)
        return px_lb_level_source(lb, level, from);
    bool fails = false;
    struct px_lb_place *place = px_lb_choose_place(lb, level, from, ask, &fails);
    if (fails)
        return NULL;
    bool has_hosts = place != NULL && px_lb_count_of(&place->hosts, from) > 0;
    return has_hosts ? px_lb_place_source(lb, place, from) : px_lb_level_source(lb, level, from);
}

/* Without regard to subsets. */
struct px_lb_host *px_lb_pick_plain(struct px_lb *lb, const struct px_lb_ask *ask)
{
    if (lb->host_count == 0)
        return NULL;
    if (lb->conf->policy == PX_LB_RING_HASH || lb->conf->policy == PX_LB_MAGLEV)
        return px_lb_pick_hashed(lb, ask);
    struct px_lb_host *host = NULL;
    /* Envoy: after so many attempts a host that was tried before is better than none */
    for (uint32_t i = 0; i < LT_MAX(ask->attempts, 1u); i++) {
        struct px_lb_source *source = choose_source(lb, ask);
        host = source != NULL ? px_lb_draw(lb, source, ask) : NULL;
        if (host == NULL || !px_lb_is_avoided(ask, host))
            break;
    }
    return host;
}

struct px_lb_host *px_lb_pick(struct px_lb *lb, const struct px_lb_ask *ask)
{
    return lb->subsets != NULL ? px_lb_pick_subset(lb, ask) : px_lb_pick_plain(lb, ask);
}
