/*
 * proxy/xds/xds.c - one xDS stream: calls, requests out of the ADS client, messages into it,
 * back-off.
 * Start at: open_stream(), on_message().
 */
#include "proxy/xds/xds.h"

#include <stdlib.h>

#include "proxy/conf/token_bucket.h"

enum {
    BACKOFF_BASE_MS = 500,
    BACKOFF_MAX_MS = 30000,
    NO_WAY_MS = 100, /* the cluster of the control plane is not ready yet */
    METADATA_MAX = 64,
    REQUEST_BYTES_MAX = 64 << 20,
    REQUEST_BYTES_KEPT = 64 * 1024,
};

struct px_xds {
    struct px_xds_opts opts;
    struct lt_ads_client *client; /* owned */
    struct lt_grpc_call *call;    /* the stream; NULL between streams */
    struct lt_timer retry;
    struct lt_timer slow; /* set while a request waits for a token */
    struct px_bucket_conf rate;
    struct px_bucket bucket;
    struct lt_task send;
    struct lt_backoff backoff;
    struct lt_prng prng;
    uint64_t failures; /* in a row */
    bool is_connected;
    bool is_gone; /* freed by its owner; the memory waits for the stream's on_closed */
};

struct lt_ads_client *px_xds_client(const struct px_xds *xds)
{
    return xds->client;
}

/* --- out --- */

/* False: it goes out later. */
static bool may_send(struct px_xds *xds)
{
    uint64_t now_ns = lt_env_mono_ns(xds->opts.env);
    if (xds->opts.rate_tokens == 0)
        return true;
    if (lt_timer_is_set(&xds->slow) || px_bucket_take(&xds->bucket, &xds->rate, now_ns))
        return !lt_timer_is_set(&xds->slow);
    lt_counter_add(xds->opts.slowed, 1);
    lt_loop_timer_set(xds->opts.loop, &xds->slow,
                      LT_MAX(px_bucket_next_ns(&xds->bucket, &xds->rate, now_ns), (uint64_t)1));
    return false;
}

static void on_slow(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    px_xds_send(LT_CONTAINER_OF(timer, struct px_xds, slow));
}

static bool send_all(struct px_xds *xds, struct lt_buf *out)
{
    while (lt_ads_client_has_next(xds->client) && may_send(xds) &&
           lt_ads_client_next(xds->client, out) == LT_OK) {
        lt_rc rc = lt_grpc_call_send(xds->call, lt_buf_str(out));
        lt_buf_clear(out, REQUEST_BYTES_KEPT);
        if (rc != LT_OK)
            return false;
    }
    return true;
}

static void send_requests(struct lt_task *task)
{
    struct px_xds *xds = LT_CONTAINER_OF(task, struct px_xds, send);
    struct lt_buf out;
    lt_buf_init(&out, REQUEST_BYTES_MAX);
    bool is_good = true;
    for (int pass = 0; pass < 2 && xds->call != NULL && is_good; pass++) {
        xds->opts.before_send(xds->opts.ctx, pass == 1);
        is_good = send_all(xds, &out);
    }
    if (!is_good)
        lt_grpc_call_cancel(xds->call);
    lt_buf_fini(&out);
}

void px_xds_send(struct px_xds *xds)
{
    if (xds->call != NULL)
        lt_loop_defer(xds->opts.loop, &xds->send);
}

/* --- in --- */

static void set_connected(struct px_xds *xds, bool is_connected)
{
    if (xds->is_connected == is_connected)
        return;
    xds->is_connected = is_connected;
    xds->opts.on_connected(xds->opts.ctx, is_connected);
}

static void on_message(struct lt_grpc_call *call, lt_str message)
{
    struct px_xds *xds = lt_grpc_call_user(call);
    const struct lt_ads_update *update = NULL;
    struct lt_err err = {0};
    if (xds->is_gone || xds->call != call)
        return;
    lt_rc rc = lt_ads_client_feed(xds->client, message, &update, &err);
    if (rc == LT_E_BAD || rc == LT_E_LIMIT) {
        lt_log_error(&xds->opts.env->log, "%s: unreadable response, the stream ends: %s",
                     xds->opts.what, err.text);
        lt_grpc_call_cancel(call);
        return;
    }
    xds->failures = 0;
    lt_backoff_reset(&xds->backoff);
    set_connected(xds, true);
    if (rc == LT_OK)
        xds->opts.on_update(xds->opts.ctx, update);
    else if (rc == LT_E_NOT_FOUND)
        lt_log_debug(&xds->opts.env->log, "%s: %s", xds->opts.what, err.text);
    px_xds_send(xds); /* what the client refused by itself has an answer, too */
}

/* 1, 2, 4 ...: a long outage is no news. */
static bool is_worth_a_line(uint64_t failures)
{
    return (failures & (failures - 1)) == 0;
}

static void on_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed LT_UNUSED)
{
    struct px_xds *xds = lt_grpc_call_user(call);
    if (xds->is_gone) {
        free(xds);
        return;
    }
    xds->call = NULL;
    lt_task_cancel(&xds->send);
    lt_ads_client_close(xds->client);
    if (is_worth_a_line(++xds->failures))
        lt_log_info(&xds->opts.env->log, "%s: stream ended (%u): %.*s", xds->opts.what,
                    (unsigned)code, LT_STR_ARG(message));
    set_connected(xds, false);
    lt_loop_timer_set(xds->opts.loop, &xds->retry, lt_backoff_next_ns(&xds->backoff, &xds->prng));
}

static const struct lt_grpc_call_handler handler = {.on_message = on_message,
                                                    .on_closed = on_closed};

static void open_stream(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_xds *xds = LT_CONTAINER_OF(timer, struct px_xds, retry);
    struct lt_grpc_channel *channel = xds->opts.channel(xds->opts.ctx);
    if (channel == NULL) {
        lt_loop_timer_set(xds->opts.loop, timer, NO_WAY_MS * LT_NS_PER_MS);
        return;
    }
    struct lt_grpc_metadata metadata[METADATA_MAX];
    struct lt_arena *arena = lt_arena_new(4096, 0);
    struct lt_grpc_call_opts opts = {
        .path = xds->opts.method, .metadata = metadata, .wait_for_ready = true};
    if (xds->opts.metadata != NULL)
        opts.metadata_count = xds->opts.metadata(xds->opts.ctx, arena, metadata,
                                                 LT_ARRAY_LEN(metadata));
    xds->call = lt_grpc_call_start(channel, &opts, &handler, xds);
    lt_arena_wipe_free(&arena); /* it held a token */
    lt_ads_client_open(xds->client);
    xds->opts.on_open(xds->opts.ctx);
    px_xds_send(xds);
}

/* --- life --- */

struct px_xds *px_xds_new(const struct px_xds_opts *opts)
{
    struct px_xds *xds = lt_new(struct px_xds);
    struct lt_ads_client_opts client = {
        .node = opts->node, .is_sotw = opts->is_sotw, .says_node_always = opts->says_node_always};
    xds->opts = *opts;
    xds->client = lt_ads_client_new(&client);
    lt_timer_init(&xds->retry, open_stream);
    lt_task_init(&xds->send, send_requests);
    lt_timer_init(&xds->slow, on_slow);
    if (opts->rate_tokens > 0)
        xds->rate = px_bucket_conf_make(opts->rate_tokens, 1, opts->rate_fill_ns);
    px_bucket_init(&xds->bucket);
    lt_backoff_init(&xds->backoff, BACKOFF_BASE_MS * LT_NS_PER_MS, BACKOFF_MAX_MS * LT_NS_PER_MS);
    lt_prng_seed(&xds->prng, opts->env);
    return xds;
}

void px_xds_start(struct px_xds *xds)
{
    if (xds->call == NULL)
        lt_loop_timer_set(xds->opts.loop, &xds->retry, 0);
}

void px_xds_free(struct px_xds **pointer)
{
    struct px_xds *xds = *pointer;
    *pointer = NULL;
    if (xds == NULL)
        return;
    lt_loop_timer_cancel(xds->opts.loop, &xds->retry);
    lt_loop_timer_cancel(xds->opts.loop, &xds->slow);
    lt_task_cancel(&xds->send);
    lt_ads_client_free(&xds->client);
    if (xds->call == NULL) {
        free(xds);
        return;
    }
    xds->is_gone = true;
    lt_grpc_call_cancel(xds->call);
}
