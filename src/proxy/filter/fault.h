/*
 * proxy/filter/fault.h - envoy.filters.http.fault: delays, answers and slow bodies put in on
 * purpose.
 */
#ifndef LT_PROXY_FILTER_FAULT_H
#define LT_PROXY_FILTER_FAULT_H

#include <stdatomic.h>

#include "proxy/conf/conf.h"
#include "proxy/conf/stat.h"

/* How often: of a million; a header may lower it, in the same unit. */
struct px_fault_share {
    uint32_t ppm, unit_ppm;
};

typedef enum { PX_FAULT_NONE, PX_FAULT_FIXED, PX_FAULT_BY_HEADER } px_fault_how;

/* Of the filter, or of a route, which replaces it. */
struct px_fault_conf {
    px_fault_how delay, abort, limit;
    struct px_fault_share delay_share, abort_share, limit_share;
    uint64_t delay_ms;
    uint32_t abort_code; /* 0: by grpc_code */
    uint32_t grpc_code;
    uint64_t limit_kbps;
    lt_str upstream_cluster; /* empty: any */
    const lt_str *nodes;     /* x-envoy-downstream-service-node; none: any */
    size_t node_count;
    const struct px_header_match *headers;
    size_t header_count;
    uint32_t active_max;      /* UINT32_MAX: no limit */
    _Atomic uint32_t *active; /* owned by the resource; of all workers */
};

struct px_fault_stats {
    struct px_stat aborts, delays, limits, overflow;
};

/* What stands in a chain: its own configuration, and its counters. */
struct px_fault_filter {
    struct px_fault_conf conf;
    struct px_fault_stats stats;
};

#endif
