/*
 * http/h2_guard.c - limits that nghttp2 leaves to us: how fast a peer may send frames that carry
 * nothing, that stream identifiers only go up, and that what has ended stays so. Resets: h2_recv.c,
 * h2_send.c, with a bucket of this file.
 */
#include "http/h2_priv.h"

enum { NS_PER_S = 1000000000, WINDOW_UPDATES_FREE = 5 };

static void bucket_init(struct lt_h2_bucket *bucket, struct lt_h2_rate rate)
{
    *bucket = (struct lt_h2_bucket){.rate = rate, .tokens = rate.burst};
}

void lt_h2_guard_init(struct lt_h2_guard *guard, const struct lt_h2_opts *opts)
{
    *guard = (struct lt_h2_guard){.id_max = -1,
                                  .empty_max = opts->empty_frames_max,
                                  .priorities_per_stream = opts->priorities_per_stream,
                                  .updates_per_data = opts->updates_per_data};
    bucket_init(&guard->resets, opts->resets);
    bucket_init(&guard->control, opts->control);
    guard->scan.skip = NGHTTP2_CLIENT_MAGIC_LEN;
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

void lt_h2_bucket_give(struct lt_h2_bucket *bucket)
{
    bucket->tokens = LT_MIN(bucket->tokens + 1, (uint64_t)bucket->rate.burst);
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

/* Envoy's measures of what is too much: by streams, and by what was sent to the peer. */
static lt_h2_fail check_control(struct lt_h2_guard *guard, uint8_t type, uint64_t now_ns)
{
    uint64_t sent = guard->streams + guard->updates_per_data * guard->data_sent;
    switch (type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: /* nghttp2 allows a few behind each HEADERS */
    case NGHTTP2_RST_STREAM: return LT_H2_FAIL_NONE;
    case NGHTTP2_PRIORITY:
        guard->priorities++;
        return guard->priorities > guard->priorities_per_stream * (1 + guard->streams)
                   ? LT_H2_FAIL_PRIORITY_FLOOD
                   : LT_H2_FAIL_NONE;
    case NGHTTP2_WINDOW_UPDATE:
        guard->window_updates++;
        return guard->window_updates > WINDOW_UPDATES_FREE + 2 * sent ? LT_H2_FAIL_UPDATE_FLOOD
                                                                      : LT_H2_FAIL_NONE;
    default:
        return lt_h2_bucket_take(&guard->control, now_ns) ? LT_H2_FAIL_NONE
                                                          : LT_H2_FAIL_CONTROL_FLOOD;
    }
}

lt_h2_fail lt_h2_guard_frame(struct lt_h2_guard *guard, const nghttp2_frame_hd *hd, bool is_server,
                             uint64_t now_ns)
{
    if (is_server && hd->type == NGHTTP2_HEADERS && hd->stream_id % 2 == 1)
        return check_id(guard, hd->stream_id);
    return check_control(guard, hd->type, now_ns);
}

/* --- streams that the client has ended --- */

static uint32_t be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool has_ended(const struct lt_h2_scan *scan, uint32_t id)
{
    bool is_there = false;
    for (size_t i = 0; i < LT_H2_ENDED; i++)
        is_there |= scan->ended[i] == id;
    return is_there;
}

/* False: content for one of them. */
static bool scan_frame(struct lt_h2_scan *scan)
{
    const uint8_t *head = scan->head;
    uint8_t type = head[3];
    uint32_t id = be32(head + 5) & INT32_MAX;
    scan->skip = be32(head) >> 8;
    scan->is_block = type == NGHTTP2_HEADERS || type == NGHTTP2_CONTINUATION;
    scan->goes_on = scan->is_block && (head[4] & NGHTTP2_FLAG_END_HEADERS) == 0;
    scan->blocks += type == NGHTTP2_HEADERS;
    bool is_content = type == NGHTTP2_HEADERS || type == NGHTTP2_DATA;
    if (!is_content && type != NGHTTP2_RST_STREAM)
        return true;
    if (is_content && id <= scan->id_max && has_ended(scan, id))
        return false;
    scan->id_max = LT_MAX(scan->id_max, id);
    if (!is_content || (head[4] & NGHTTP2_FLAG_END_STREAM) != 0)
        scan->ended[scan->ended_next++ % LT_H2_ENDED] = id;
    return true;
}

size_t lt_h2_scan_bytes(struct lt_h2_scan *scan, lt_str bytes)
{
    size_t pos = 0;
    while (pos < bytes.len) {
        size_t skipped = LT_MIN((size_t)scan->skip, bytes.len - pos);
        scan->skip -= (uint32_t)skipped;
        pos += skipped;
        size_t begin = pos, part = LT_MIN(sizeof(scan->head) - scan->have, bytes.len - pos);
        memcpy(scan->head + scan->have, bytes.ptr + pos, part);
        scan->have += (uint8_t)part;
        pos += part;
        if (scan->have < sizeof(scan->head))
            break;
        scan->have = 0;
        if (!scan_frame(scan))
            return begin;
    }
    return bytes.len;
}

bool lt_h2_guard_data(struct lt_h2_guard *guard, const nghttp2_data *data)
{
    bool is_empty = data->hd.length <= data->padlen &&
                    (data->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0;
    guard->empty_run = is_empty ? guard->empty_run + 1 : 0;
    return guard->empty_run <= guard->empty_max;
}
