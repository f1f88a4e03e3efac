/*
 * proxy/conf/token_bucket.h - a token bucket that all workers share: one number, without locks.
 * It fills all the time, not in steps, as Envoy's does. The number is the time at which the bucket
 * would have been empty; taking a token moves it on by what a token costs.
 */
#ifndef LT_PROXY_CONF_TOKEN_BUCKET_H
#define LT_PROXY_CONF_TOKEN_BUCKET_H

#include <stdatomic.h>

#include "base/rc.h"

struct px_bucket_conf {
    uint32_t tokens_max;
    uint64_t cost; /* of a token, in parts of a nanosecond */
};

struct px_bucket {
    _Atomic uint64_t empty_at;
};

enum { PX_BUCKET_PARTS = 16 /* of a nanosecond */ };

/* tokens_per_fill more every fill_ns. */
struct px_bucket_conf px_bucket_conf_make(uint32_t tokens_max, uint32_t tokens_per_fill,
                                          uint64_t fill_ns);
/* Full. */
void px_bucket_init(struct px_bucket *bucket);
/* False: none is there. */
bool px_bucket_take(struct px_bucket *bucket, const struct px_bucket_conf *conf, uint64_t now_ns);
uint32_t px_bucket_left(const struct px_bucket *bucket, const struct px_bucket_conf *conf,
                        uint64_t now_ns);
/* 0: there is one. */
uint64_t px_bucket_next_ns(const struct px_bucket *bucket, const struct px_bucket_conf *conf,
                           uint64_t now_ns);

#endif
