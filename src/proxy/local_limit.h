/*
 * proxy/local_limit.h - local rate limits, of requests and of connections.
 */
#ifndef LT_PROXY_LOCAL_LIMIT_H
#define LT_PROXY_LOCAL_LIMIT_H

#include "proxy/conf.h"
#include "proxy/stat.h"
#include "proxy/token_bucket.h"

struct px_limit_conf {
    uint64_t id; /* no other limit that there ever was has it */
    bool has_bucket;
    struct px_bucket_conf size;
    /* owned by the resource, of all workers; NULL: each connection has its own */
    struct px_bucket *bucket;
    uint32_t enabled_ppm, enforced_ppm;
    uint32_t code;
    bool is_exhausted; /* gRPC: RESOURCE_EXHAUSTED instead of UNAVAILABLE */
    bool tells_limits; /* x-ratelimit-* */
    struct px_header_edits reply, request;
    struct px_stat enabled, enforced, ok, limited;
};

#endif
