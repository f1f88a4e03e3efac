/*
 * proxy/conf/on_demand.h - clusters that are asked for when a request or a connection needs them.
 */
#ifndef LT_PROXY_CONF_ON_DEMAND_H
#define LT_PROXY_CONF_ON_DEMAND_H

#include "proxy/conf/stat.h"

struct px_on_demand_stats {
    struct px_stat attempt, missing, success, timeout;
};

struct px_on_demand_conf {
    bool has_odcds;
    uint16_t source; /* id */
    uint32_t timeout_ms;
    struct px_on_demand_stats stats; /* of a TCP proxy */
};

enum { PX_ON_DEMAND_TIMEOUT_MS = 5000 /* of Envoy; of virtual hosts, too */ };

#endif
