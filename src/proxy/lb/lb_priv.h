/*
 * proxy/lb/lb_priv.h - private to lb*.c: what a balancer is made of.
 */
#ifndef LT_PROXY_LB_LB_PRIV_H
#define LT_PROXY_LB_LB_PRIV_H

#include "proxy/lb/lb.h"

/* --- edf.c: earliest deadline first, the smooth form of weights --- */

struct px_edf_entry {
    double deadline;
    uint32_t order; /* of two with the same deadline the one that waits longer */
    uint32_t item;
};

struct px_edf {
    double now;
    uint32_t count, orders;
    struct px_edf_entry heap[];
};

struct px_edf *px_edf_new(uint32_t room);
/* The first deadlines are spread by chance: proxies that start together don't choose in step. */
void px_edf_add(struct px_edf *edf, uint32_t item, double weight, struct lt_prng *prng);
/* The item whose turn it is; px_edf_again must follow before the next. */
uint32_t px_edf_first(struct px_edf *edf);
/* It goes to the end of its line with this weight, above 0. */
void px_edf_again(struct px_edf *edf, double weight);

/* --- source.c: a list of hosts that a policy draws from --- */

typedef enum { PX_FROM_ALL, PX_FROM_HEALTHY, PX_FROM_DEGRADED, PX_FROM_KINDS } px_lb_from;

struct px_lb_source {
    struct px_lb_host **hosts; /* borrowed of the level when they are all of it, else owned */
    uint32_t count;
    uint32_t next;          /* round robin */
    struct px_edf *edf;     /* owned; NULL: weights don't matter now */
    uint64_t slow_until_ns; /* edf was made for slow start, and is looked at again then */
    bool is_made, is_own;
};

/* --- levels and places --- */

struct px_lb_count {
    uint32_t all, healthy, degraded, excluded;
};

struct px_lb_place {
    uint32_t first, count; /* in lb->hosts */
    struct px_lb_count hosts;
    uint32_t weight; /* load_balancing_weight of the locality; 0: none */
    const struct px_locality *locality;
    struct px_lb_source sources[PX_FROM_KINDS];
};

typedef enum { PX_ZONE_UNKNOWN, PX_ZONE_OFF, PX_ZONE_DIRECT, PX_ZONE_RESIDUAL } px_zone_state;

struct px_lb_zone {
    px_zone_state state;
    uint64_t local_version;   /* of the local cluster's balancer, when this was made */
    uint32_t local_place;     /* index into the level's places */
    uint64_t local_per_10000; /* of the requests stay */
    uint64_t *residual;       /* owned; sums by place */
};

struct px_lb_table; /* table.c */

struct px_lb_level {
    uint32_t first, count; /* in lb->hosts */
    uint32_t place_first, place_count;
    struct px_lb_count hosts;
    uint64_t weight, healthy_weight, degraded_weight, excluded_weight;
    uint32_t healthy_load, degraded_load; /* percent */
    bool is_panic;
    struct px_lb_source sources[PX_FROM_KINDS];
    struct px_edf *place_edfs[PX_FROM_KINDS]; /* owned; NULL: not made */
    bool has_place_edf[PX_FROM_KINDS];
    struct px_lb_zone zone;
    struct px_lb_table *table; /* owned; NULL: not made */
};

struct px_lb_subsets; /* subset.c */

struct px_lb {
    const struct px_lb_conf *conf;
    struct px_lb_host **hosts; /* owned; by priority, then by locality */
    uint32_t host_count;
    struct px_lb_level *levels; /* owned; by priority, without gaps */
    uint32_t level_count;
    struct px_lb_place *places; /* owned */
    uint32_t place_count;
    uint32_t overprovisioning_percent;
    bool weighted_priority_health;
    const struct px_locality *here;
    struct px_locality *own_localities; /* owned; NULL: those of the set are its own */
    /* the only one that any choice draws from, or NULL: then the levels are asked */
    struct px_lb_source *only;
    uint64_t version;              /* of sets */
    struct px_lb_subsets *subsets; /* owned; NULL: none */
    uint64_t counters[PX_LB_COUNTER_COUNT];
};

/* --- level.c --- */
void px_lb_count_loads(struct px_lb *lb);
struct px_lb_level *px_lb_choose_level(struct px_lb *lb, const struct px_lb_ask *ask,
                                       uint64_t random, px_lb_from *ret_from);
bool px_lb_level_is_panic(const struct px_lb *lb, const struct px_lb_level *level);

/* --- source.c --- */
struct px_lb_source *px_lb_level_source(struct px_lb *lb, struct px_lb_level *level,
                                        px_lb_from from);
struct px_lb_source *px_lb_place_source(struct px_lb *lb, struct px_lb_place *place,
                                        px_lb_from from);
struct px_lb_host *px_lb_draw(struct px_lb *lb, struct px_lb_source *source,
                              const struct px_lb_ask *ask);
void px_lb_source_fini(struct px_lb_source *source);
static inline bool px_lb_is_from(const struct px_lb_host *host, px_lb_from from)
{
    return from == PX_FROM_ALL ||
           host->health == (from == PX_FROM_HEALTHY ? PX_LB_HEALTHY : PX_LB_DEGRADED);
}

/* --- zone.c --- */
/* Of what is drawn, when localities count; NULL: of the whole level. */
struct px_lb_place *px_lb_choose_place(struct px_lb *lb, struct px_lb_level *level, px_lb_from from,
                                       const struct px_lb_ask *ask, bool *ret_fails);
double px_lb_place_weight(const struct px_lb *lb, const struct px_lb_place *place, px_lb_from from);
static inline uint32_t px_lb_count_of(const struct px_lb_count *count, px_lb_from from)
{
    return from == PX_FROM_ALL       ? count->all
           : from == PX_FROM_HEALTHY ? count->healthy
                                     : count->degraded;
}

/* --- table.c --- */
struct px_lb_host *px_lb_pick_hashed(struct px_lb *lb, const struct px_lb_ask *ask);
void px_lb_table_free(struct px_lb_table **table);

/* --- subset.c --- */
void px_lb_subsets_set(struct px_lb *lb, const struct px_lb_set *set);
struct px_lb_host *px_lb_pick_subset(struct px_lb *lb, const struct px_lb_ask *ask);
void px_lb_subsets_free(struct px_lb_subsets **subsets);

/* --- lb.c --- */
struct px_lb_host *px_lb_pick_plain(struct px_lb *lb, const struct px_lb_ask *ask);
bool px_lb_is_avoided(const struct px_lb_ask *ask, const struct px_lb_host *host);

#endif
