/*
 * proxy/conf/demand.h - what a request needs and the proxy does not have: how workers ask the main
 * thread (run/on_demand.h), and what that says (xds/feeds.h).
 */
#ifndef LT_PROXY_CONF_DEMAND_H
#define LT_PROXY_CONF_DEMAND_H

#include "proxy/conf/resource.h"

struct px_demand {
    px_resource_kind kind; /* PX_VHOST: "<route configuration>/<host>"; PX_CLUSTER */
    uint16_t source;       /* id: who is asked */
    lt_str name;
    uint32_t owner; /* a hash of whose client wants it: each has a share of what is remembered */
};

typedef enum {
    PX_DEMAND_WAITS,   /* it was asked for */
    PX_DEMAND_THERE,   /* it serves */
    PX_DEMAND_ABSENT,  /* there is no such thing */
    PX_DEMAND_REFUSED, /* too much is asked for: it wasn't */
    PX_DEMAND_LATE,    /* no answer in time; a worker's alone */
} px_demand_outcome;

#endif
