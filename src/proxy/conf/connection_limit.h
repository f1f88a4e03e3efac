/*
 * proxy/conf/connection_limit.h - envoy.filters.network.connection_limit: how many connections of a
 * filter chain there may be at once, over all workers.
 */
#ifndef LT_PROXY_CONF_CONNECTION_LIMIT_H
#define LT_PROXY_CONF_CONNECTION_LIMIT_H

#include "proxy/conf/stat.h"

struct px_connection_limit {
    uint64_t max;
    uint64_t delay_ms; /* before those beyond it end; 0: at once */
    bool is_off;
    _Atomic uint64_t *active; /* shared by all workers; owned by the resource */
    struct px_stat limited;
};

#endif
