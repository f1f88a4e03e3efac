/*
 * proxy/http/pace.c - slow bodies.
 */
#include "proxy/http/pace.h"

#include "proxy/http/request.h"

#define TICK_NS (50 * LT_NS_PER_MS)
enum { TICKS_PER_S = 20 };

struct px_pace {
    struct px_request *request;
    struct lt_timer timer;
    uint64_t per_tick, allowed;
    lt_str rest;  /* of the piece in hand, behind what may go now */
    bool waits;   /* for the next tick */
    bool is_cut;  /* the piece in hand is a part */
    bool is_last; /* and is_read, as it was */
};

/* What nobody used does not add up. */
static void on_tick(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_pace *pace = LT_CONTAINER_OF(timer, struct px_pace, timer);
    pace->allowed = pace->per_tick;
    pace->waits = false;
    px_request_run(pace->request);
}

void px_pace_start(struct px_request *request, uint64_t bytes_per_second)
{
    struct px_pace *pace = lt_arena_make(request->arena, struct px_pace);
    pace->request = request;
    pace->per_tick = LT_MAX(bytes_per_second / TICKS_PER_S, 1u);
    pace->allowed = pace->per_tick;
    lt_timer_init(&pace->timer, on_tick);
    request->pace = pace;
}

bool px_pace_cut(struct px_request *request)
{
    struct px_pace *pace = request->pace;
    struct px_dir *resp = &request->resp;
    if (pace->is_cut || resp->piece.len == 0)
        return true; /* a part of it is on its way, or there is nothing to cut */
    if (pace->allowed == 0) {
        if (!pace->waits)
            lt_loop_timer_set(request->worker->loop, &pace->timer, TICK_NS);
        pace->waits = true;
        return false;
    }
    size_t len = (size_t)LT_MIN(pace->allowed, (uint64_t)resp->piece.len);
    pace->allowed -= len;
    pace->rest = lt_str_from(resp->piece, len);
    pace->is_cut = true;
    pace->is_last = resp->is_read;
    resp->piece = lt_str_slice(resp->piece, 0, len);
    resp->is_read = resp->is_read && pace->rest.len == 0;
    return true;
}

bool px_pace_next(struct px_request *request)
{
    struct px_pace *pace = request->pace;
    bool has_rest = pace->is_cut && pace->rest.len > 0;
    if (has_rest) {
        request->resp.piece = pace->rest;
        request->resp.is_read = pace->is_last;
    }
    pace->is_cut = false;
    return has_rest;
}

void px_pace_end(struct px_request *request)
{
    lt_loop_timer_cancel(request->worker->loop, &request->pace->timer);
}
