/*
 * http/h2_guard.c - limits that nghttp2 leaves to us: how fast a peer may reset streams and send
 * frames that carry nothing, and that stream identifiers only go up.
 */
#include "http/h2_priv.h"

enum { NS_PER_S = 1000000000 };

static void bucket_init(struct lt_h2_bucket *bucket, struct lt_h2_rate rate)
{
    *bucket = (struct lt_h2_bucket){.rate = rate, .tokens = rate.burst};
}

void lt_h2_guard_init(struct lt_h2_guard *guard, const struct lt_h2_opts *opts)
{
    *guard = (struct lt_h2_guard){.id_max = -1};
    bucket_init(&guard->resets, opts->resets);
    bucket_init(&guard->control, opts->control);
}

/* Whole tokens only; the time that makes up a fraction stays in filled_at_ns. */
static void refill(struct lt_h2_bucket *bucket, uint64_t now_ns)
{
    if (bucket->filled_at_ns == 0 || bucket->rate.per_s == 0 || now_ns <= bucket->filled_at_ns) {
        bucket->filled_at_ns = LT_MAX(bucket->filled_at_ns, now_ns);
        return;
    }
    uint64_t per_token_ns = NS_PER_S / LT_MIN(bucket->rate.per_s, (uint32_t)NS_PER_S);
    uint64_t tokens = (now_ns - bucket->filled_at_ns) / per_token_ns;
    bucket->filled_at_ns += tokens * per_token_ns;
    bucket->tokens = LT_MIN(bucket->tokens + tokens, (uint64_t)bucket->rate.burst);
}

bool lt_h2_bucket_take(struct lt_h2_bucket *bucket, uint64_t now_ns)
{
    refill(bucket, now_ns);
    if (bucket->tokens == 0)
        return false;
    bucket->tokens--;
    return true;
}

void lt_h2_bucket_give(struct lt_h2_bucket *bucket, uint32_t tokens)
{
    bucket->tokens = LT_MIN(bucket->tokens + tokens, (uint64_t)bucket->rate.burst);
}

static bool is_in_gap(const struct lt_h2_guard *guard, int64_t id)
{
    for (uint32_t i = 0; i < guard->gap_count; i++) {
        if (id >= guard->gaps[i].from && id <= guard->gaps[i].to)
            return true;
    }
    return false;
}

/* Clients that count by two never make a gap; of those who do, the latest few are remembered. */
static void add_gap(struct lt_h2_guard *guard, int64_t from, int64_t to)
{
    if (guard->gap_count == LT_H2_GAPS) {
        memmove(&guard->gaps[0], &guard->gaps[1], sizeof(guard->gaps[0]) * (LT_H2_GAPS - 1));
        guard->gap_count--;
    }
    guard->gaps[guard->gap_count].from = from;
    guard->gaps[guard->gap_count].to = to;
    guard->gap_count++;
}

static lt_h2_fail check_id(struct lt_h2_guard *guard, int64_t id)
{
    if (id <= guard->id_max)
        return is_in_gap(guard, id) ? LT_H2_FAIL_STREAM_ID_ORDER : LT_H2_FAIL_NONE;
    if (id > guard->id_max + 2)
        add_gap(guard, guard->id_max + 2, id - 2);
    guard->id_max = id;
    return LT_H2_FAIL_NONE;
}

static bool carries_nothing(const nghttp2_frame_hd *hd)
{
    switch (hd->type) {
    case NGHTTP2_DATA: return hd->length == 0 && (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: /* nghttp2 allows a few behind each HEADERS */
    case NGHTTP2_RST_STREAM: return false;
    default: return true;
    }
}

lt_h2_fail lt_h2_guard_frame(struct lt_h2_guard *guard, const nghttp2_frame_hd *hd, bool is_server,
                             uint64_t now_ns)
{
    if (carries_nothing(hd) && !lt_h2_bucket_take(&guard->control, now_ns))
        return LT_H2_FAIL_CONTROL_FLOOD;
    if (hd->type == NGHTTP2_RST_STREAM && !lt_h2_bucket_take(&guard->resets, now_ns))
        return LT_H2_FAIL_RESET_FLOOD;
    if (is_server && hd->type == NGHTTP2_HEADERS && hd->stream_id % 2 == 1)
        return check_id(guard, hd->stream_id);
    return LT_H2_FAIL_NONE;
}
