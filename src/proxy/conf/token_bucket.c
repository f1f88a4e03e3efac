/*
 * proxy/conf/token_bucket.c - a token bucket in one number.
 */
#include "proxy/conf/token_bucket.h"

struct px_bucket_conf px_bucket_conf_make(uint32_t tokens_max, uint32_t tokens_per_fill,
                                          uint64_t fill_ns)
{
    return (struct px_bucket_conf){
        tokens_max, LT_MAX(fill_ns * PX_BUCKET_PARTS / tokens_per_fill, UINT64_C(1))};
}

/* Of a full bucket; some years' worth at most, so that nothing runs over. */
static uint64_t depth_of(const struct px_bucket_conf *conf)
{
    uint64_t depth = 0;
    bool is_over = __builtin_mul_overflow((uint64_t)conf->tokens_max, conf->cost, &depth);
    return is_over || depth > UINT64_MAX / 4 ? UINT64_MAX / 4 : depth;
}

/* Time begins a bucket's depth after zero, so that "long ago" is no negative number. */
static uint64_t time_of(const struct px_bucket_conf *conf, uint64_t now_ns)
{
    return depth_of(conf) + now_ns * PX_BUCKET_PARTS;
}

void px_bucket_init(struct px_bucket *bucket)
{
    atomic_init(&bucket->empty_at, 0);
}

/* What is older than a full bucket counts for no more. */
static uint64_t not_before(uint64_t empty_at, uint64_t full_since)
{
    return LT_MAX(empty_at, full_since);
}

bool px_bucket_take(struct px_bucket *bucket, const struct px_bucket_conf *conf, uint64_t now_ns)
{
    uint64_t now = time_of(conf, now_ns), full_since = now - depth_of(conf);
    uint64_t seen = atomic_load_explicit(&bucket->empty_at, memory_order_relaxed);
    for (;;) {
        uint64_t from = not_before(seen, full_since);
        if (from + conf->cost > now)
            return false;
        if (atomic_compare_exchange_weak_explicit(&bucket->empty_at, &seen, from + conf->cost,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

static uint64_t filled(const struct px_bucket *bucket, const struct px_bucket_conf *conf,
                       uint64_t now_ns)
{
    uint64_t now = time_of(conf, now_ns), full_since = now - depth_of(conf);
    uint64_t seen = atomic_load_explicit(&bucket->empty_at, memory_order_relaxed);
    uint64_t from = not_before(seen, full_since);
    return now > from ? now - from : 0; /* another worker's clock may be ahead */
}

uint32_t px_bucket_left(const struct px_bucket *bucket, const struct px_bucket_conf *conf,
                        uint64_t now_ns)
{
    return (uint32_t)LT_MIN(filled(bucket, conf, now_ns) / conf->cost, (uint64_t)conf->tokens_max);
}

uint64_t px_bucket_next_ns(const struct px_bucket *bucket, const struct px_bucket_conf *conf,
                           uint64_t now_ns)
{
    uint64_t has = filled(bucket, conf, now_ns);
    return has >= conf->cost ? 0 : (conf->cost - has) / PX_BUCKET_PARTS;
}
