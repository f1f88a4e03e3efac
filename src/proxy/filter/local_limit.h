/*
 * proxy/filter/local_limit.h - local rate limits, of requests and of connections.
 */
#ifndef LT_PROXY_FILTER_LOCAL_LIMIT_H
#define LT_PROXY_FILTER_LOCAL_LIMIT_H

#include "proxy/conf/conf.h"
#include "proxy/conf/stat.h"
#include "proxy/conf/token_bucket.h"
#include "proxy/filter/rate_actions.h"

struct px_limit_bucket {
    uint64_t id; /* no other bucket that there ever was has it */
    struct px_bucket_conf size;
    /* owned by the resource, of all workers; NULL: each connection has its own */
    struct px_bucket *bucket;
};

/* LocalRateLimitDescriptor */
struct px_limit_rule {
    const struct px_rate_entry *entries;
    size_t count;
    struct px_limit_bucket bucket;
};

/* Envoy's VhRateLimitsOptions */
typedef enum { PX_VHOST_IF_NONE, PX_VHOST_TOO, PX_VHOST_NEVER } px_limit_vhost;

struct px_limit_conf {
    bool has_bucket;
    struct px_limit_bucket all;
    const struct px_limit_rule *rules; /* the one that fills slowest first, as Envoy asks them */
    size_t rule_count;
    bool spares_all; /* what a rule took is not taken from `all`, too */
    uint32_t stage;
    px_limit_vhost vhost;
    struct px_rate_limits own; /* count 0: those of the route and the virtual host */
    uint32_t enabled_ppm, enforced_ppm;
    uint32_t code;
    bool is_exhausted; /* gRPC: RESOURCE_EXHAUSTED instead of UNAVAILABLE */
    bool tells_limits; /* x-ratelimit-* */
    struct px_header_edits reply, request;
    struct px_stat enabled, enforced, ok, limited;
};

#endif
