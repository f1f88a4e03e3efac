/*
 * proxy/conf/cors.h - envoy.filters.http.cors: what browsers ask before they let a page of one
 * origin talk to another. The policy is a route's; the filter itself says nothing.
 */
#ifndef LT_PROXY_CONF_CORS_H
#define LT_PROXY_CONF_CORS_H

#include "proxy/conf/conf.h"
#include "proxy/conf/stat.h"

struct px_cors_conf {
    const struct px_string_match *origins;
    size_t origin_count;
    lt_str methods, headers, exposed, max_age; /* "*" of the first two: what is asked for */
    bool allows_credentials, allows_private, answers_all_preflights;
    uint32_t enabled_ppm, shadow_ppm;
};

/* Of the filter. */
struct px_cors_stats {
    struct px_stat valid, invalid;
};

#endif
