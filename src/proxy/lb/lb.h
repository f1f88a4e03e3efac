/*
 * proxy/lb/lb.h - load balancing as an engine: hosts in, a host out, as Envoy chooses. No I/O, no
 * clock of its own, no threads; each worker has one for each cluster that it uses.
 *
 * Work that depends on the number of hosts is done when the hosts or their health change
 * (px_lb_set), or at the first choice after that; a choice costs the same with 10 hosts and with
 * 10,000, but for the logarithm of a heap.
 *
 *   px_lb ──< level (priority) ──< place (locality)      source: what a policy draws from: all, the
 *                  │                     │               healthy, or the degraded hosts of a level
 *                  └──── sources ────────┘               or of a place (source.c)
 *
 * Which level: level.c; which place: zone.c; consistent hashing: table.c; subsets:
 * subset.c.      Start at: px_lb_set(), px_lb_pick().
 */
#ifndef LT_PROXY_LB_LB_H
#define LT_PROXY_LB_LB_H

#include "base/env.h"
#include "proxy/conf/cluster.h"

struct px_lb;

typedef enum { PX_LB_HEALTHY, PX_LB_DEGRADED, PX_LB_UNHEALTHY } px_lb_health;

/* Embedded in a host. The engine reads all of it and writes nothing. */
struct px_lb_host {
    lt_str key;                   /* what consistent hashing hashes; borrowed */
    const struct px_metas *metas; /* envoy.lb, sorted by key; NULL: none. Borrowed */
    uint64_t since_ns;            /* healthy since, for slow start; 0: long ago */
    uint32_t weight;              /* >= 1 */
    uint32_t rq_active;
    uint16_t locality; /* index into px_lb_set.localities */
    uint8_t health;    /* px_lb_health */
    bool is_excluded;  /* counts as not there when health is measured */
};

struct px_lb_set {
    struct px_lb_host *const
        *hosts; /* the pointers are copied; the hosts stay until the next set */
    size_t count;
    const struct px_locality *localities; /* borrowed until the next set */
    size_t locality_count;
    uint32_t overprovisioning_percent;
    bool weighted_priority_health;
    const struct px_locality *here; /* where this proxy is; NULL: unknown. Borrowed */
};

enum { PX_LB_TRIED_LEVELS = 32 };

/* What one choice depends on. */
struct px_lb_ask {
    uint64_t hash;
    bool has_hash;
    uint64_t now_ns;
    struct lt_prng *prng;
    struct px_lb_host *const *avoid; /* tried before; each costs an attempt */
    size_t avoid_count;
    /* hosts that must not be, whoever was tried; NULL: none. Each costs an attempt, too */
    bool (*refuses)(const void *ctx, const struct px_lb_host *host);
    const void *refuses_ctx;
    uint32_t attempts;            /* at least 1 */
    uint32_t rq_active;           /* of all hosts, for the bounded load */
    uint32_t tried_levels;        /* a bit for each priority that gets no load: retry_priority */
    const struct px_metas *metas; /* metadata_match, sorted by key; NULL: none */
    struct px_lb *local;          /* of the local cluster, for zone aware routing; NULL: none */
};

/* Envoy's counters of the name in small letters: "lb_healthy_panic". */
#define PX_LB_COUNTERS(X) \
    X(HEALTHY_PANIC, "lb_healthy_panic") \
    X(LOCAL_NOT_OK, "lb_local_cluster_not_ok") \
    X(ZONE_TOO_SMALL, "lb_zone_cluster_too_small") \
    X(ZONE_NO_CAPACITY, "lb_zone_no_capacity_left") \
    X(ZONE_DIRECTLY, "lb_zone_routing_all_directly") \
    X(ZONE_SAMPLED, "lb_zone_routing_sampled") \
    X(ZONE_CROSS, "lb_zone_routing_cross_zone") \
    X(ZONE_RECALCULATED, "lb_recalculate_zone_structures") \
    X(SUBSETS_CREATED, "lb_subsets_created") \
    X(SUBSETS_REMOVED, "lb_subsets_removed") \
    X(SUBSETS_SELECTED, "lb_subsets_selected") \
    X(SUBSETS_FALLBACK, "lb_subsets_fallback") \
    X(SUBSETS_FALLBACK_PANIC, "lb_subsets_fallback_panic")

typedef enum {
#define PX_LB_COUNTER_ENUM(id, name) PX_LB_N_##id,
    PX_LB_COUNTERS(PX_LB_COUNTER_ENUM)
#undef PX_LB_COUNTER_ENUM
        PX_LB_COUNTER_COUNT
} px_lb_counter;

struct px_lb *px_lb_new(void);
void px_lb_free(struct px_lb **lb);
/* Hosts, their health, or the configuration changed. conf is borrowed until the next set. */
void px_lb_set(struct px_lb *lb, const struct px_lb_conf *conf, const struct px_lb_set *set);
/* NULL: no host may be used. */
struct px_lb_host *px_lb_pick(struct px_lb *lb, const struct px_lb_ask *ask);

/* Load of a priority in percent, healthy and degraded; false: there is no such priority. */
bool px_lb_load(const struct px_lb *lb, uint32_t priority, uint32_t *ret_healthy,
                uint32_t *ret_degraded, bool *ret_panic);
const uint64_t *px_lb_counters(const struct px_lb *lb);
const char *px_lb_counter_name(px_lb_counter counter);
uint32_t px_lb_subset_count(const struct px_lb *lb);

#endif
