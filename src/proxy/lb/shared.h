/*
 * proxy/lb/shared.h - what all workers share of a cluster: counters of its limits, and of each host
 * how it answers and whether it may be used. The main thread makes and frees these (members.h);
 * snapshots carry them to the workers and count them. Everything that two threads touch is atomic
 * and relaxed: it decides about loads, not about memory.
 * They exist only for clusters that have such a policy. A limit that is not set is not counted.
 */
#ifndef LT_PROXY_LB_SHARED_H
#define LT_PROXY_LB_SHARED_H

#include <stdatomic.h>

#include "proxy/conf/cluster.h"

/* Why a host may not be used, or less; Envoy's words for /clusters: px_host_flag_names. */
#define PX_HOST_FLAGS(X) \
    X(FAILED_CHECK, "/failed_active_hc") \
    X(EJECTED, "/failed_outlier_check") \
    X(DEGRADED_CHECK, "/degraded_active_hc") \
    X(PENDING_REMOVAL, "/pending_dynamic_removal") \
    X(PENDING_CHECK, "/pending_active_hc") \
    X(EXCLUDED, "/excluded_via_immediate_hc_fail") \
    X(CHECK_TIMEOUT, "/active_hc_timeout")

enum {
#define PX_HOST_FLAG_BIT(id, name) PX_HOST_BIT_##id,
    PX_HOST_FLAGS(PX_HOST_FLAG_BIT)
#undef PX_HOST_FLAG_BIT
        PX_HOST_FLAG_COUNT
};
#define PX_HOST_FLAG(id) (1u << PX_HOST_BIT_##id)

/* Answers of a host as one kind of monitor counts them. */
struct px_host_tally {
    _Atomic uint32_t requests, successes; /* in this interval */
};

struct px_host_state {
    _Atomic uint32_t flags;     /* PX_HOST_FLAG; the main thread writes */
    _Atomic uint32_t cx_active; /* of all workers; when the host's connections are limited */
    _Atomic uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    struct px_host_tally external, local; /* local: when local origin errors are told apart */
    uint32_t refs;                        /* the main thread's; as all below */
    void *owner;                          /* of whoever made it; NULL: it has forgotten the host */
};

struct px_cluster_state {
    _Atomic uint32_t used[PX_PRIORITIES][PX_LIMITS];
    _Atomic uint32_t is_used;                        /* some worker has the cluster */
    _Atomic uint32_t has_traffic;                    /* some connection was made to it */
    uint32_t refs;                                   /* the main thread's; as all below */
    lt_str name;                                     /* owned */
    void (*on_free)(struct px_cluster_state *state); /* the last count went */
    void *owner;                                     /* of whoever made it */
};

static inline uint32_t px_shared_get(const _Atomic uint32_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static inline uint32_t px_shared_add(_Atomic uint32_t *value, uint32_t by)
{
    return atomic_fetch_add_explicit(value, by, memory_order_relaxed) + by;
}

static inline void px_shared_sub(_Atomic uint32_t *value, uint32_t by)
{
    atomic_fetch_sub_explicit(value, by, memory_order_relaxed);
}

static inline void px_shared_set(_Atomic uint32_t *value, uint32_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

#endif
