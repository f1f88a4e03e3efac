/*
 * proxy/agent/xds.c - ADS streams from Envoy's socket to the control plane and back. A pair is one
 * stream here and one call there; each end knows the pair, and the pair goes when both ends have
 * gone.
 * Start at: on_open(), on_message(), on_response().
 */
#include "proxy/agent/xds.h"

#include <unistd.h>

#include "base/file.h"
#include "wire/ads.h"

struct pair {
    struct lt_list link;
    struct px_xds_relay *relay;
    struct lt_grpc_stream *down; /* NULL once it has closed */
    struct lt_grpc_call *up;     /* NULL before the channel is known, and once it has closed */
    bool is_delta;
};

/* Lives on, without its owner, until the server has told its last stream. */
struct px_xds_relay {
    struct px_xds_relay_opts opts;
    struct lt_grpc_server *server;   /* owned */
    struct lt_grpc_channel *channel; /* borrowed; NULL before set_upstream, and while dying */
    struct lt_list pairs;
    struct px_xds_relay_stats stats;
    struct lt_grpc_method methods[2];
    char *path;          /* owned */
    uint32_t open_calls; /* upstream calls that have not closed */
    bool is_server_gone;
};

static void free_if_last(struct px_xds_relay *relay)
{
    if (!relay->is_server_gone || relay->open_calls > 0)
        return;
    free(relay->path);
    free(relay);
}

static void drop_if_both_gone(struct pair *pair)
{
    if (pair->down != NULL || pair->up != NULL)
        return;
    lt_list_remove(&pair->link);
    free(pair);
}

/* --- from the control plane --- */

static void on_response(struct lt_grpc_call *call, lt_str message)
{
    struct pair *pair = lt_grpc_call_user(call);
    pair->relay->stats.responses++;
    if (pair->down == NULL)
        return;
    if (lt_grpc_stream_send(pair->down, message) == LT_E_LIMIT) {
        lt_grpc_stream_finish(pair->down, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the proxy does not read"));
        lt_grpc_call_cancel(call);
    } else if (!lt_grpc_stream_is_writable(pair->down)) {
        lt_grpc_call_pause(call);
    }
}

static void on_up_writable(struct lt_grpc_call *call)
{
    struct pair *pair = lt_grpc_call_user(call);
    if (pair->down != NULL)
        lt_grpc_stream_resume(pair->down);
}

static void on_up_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                         bool is_unprocessed LT_UNUSED)
{
    struct pair *pair = lt_grpc_call_user(call);
    struct px_xds_relay *relay = pair->relay;
    pair->up = NULL;
    if (pair->down != NULL) {
        relay->stats.upstream_ended++;
        lt_grpc_stream_finish(pair->down, code, message);
    }
    drop_if_both_gone(pair);
    relay->open_calls--;
    free_if_last(relay);
}

/* --- from Envoy --- */

/*
 * It waits for the control plane as long as that takes: then Envoy has its answer as soon as
 * somebody is there. Refused, it would come back by its own back-off, up to 30 s later.
 */
static void start_call(struct pair *pair)
{
    static const struct lt_grpc_call_handler handler = {
        .on_message = on_response, .on_writable = on_up_writable, .on_closed = on_up_closed};
    struct px_xds_relay *relay = pair->relay;
    struct lt_arena *arena = lt_arena_new(4096, 0);
    struct lt_grpc_metadata metadata[PX_XDS_METADATA_MAX];
    struct lt_grpc_call_opts opts = {.path = pair->is_delta ? LT_ADS_DELTA_METHOD
                                                            : LT_ADS_SOTW_METHOD,
                                     .metadata = metadata,
                                     .wait_for_ready = true};
    opts.metadata_count = relay->opts.metadata(relay->opts.ctx, arena, metadata);
    pair->up = lt_grpc_call_start(relay->channel, &opts, &handler, pair);
    relay->open_calls++;
    lt_arena_wipe_free(&arena);
}

static void open_pair(struct lt_grpc_stream *stream, struct px_xds_relay *relay, bool is_delta)
{
    struct pair *pair = lt_new(struct pair);
    relay->stats.streams++;
    pair->relay = relay;
    pair->down = stream;
    pair->is_delta = is_delta;
    lt_list_push_back(&relay->pairs, &pair->link);
    lt_grpc_stream_set_user(stream, pair);
    if (relay->channel != NULL)
        start_call(pair);
    else
        lt_grpc_stream_pause(stream);
}

static void on_open_delta(struct lt_grpc_stream *stream, void *service)
{
    open_pair(stream, service, true);
}

static void on_open_sotw(struct lt_grpc_stream *stream, void *service)
{
    open_pair(stream, service, false);
}

static void on_message(struct lt_grpc_stream *stream, lt_str message)
{
    struct pair *pair = lt_grpc_stream_user(stream);
    pair->relay->stats.requests++;
    if (pair->up == NULL)
        return;
    if (lt_grpc_call_send(pair->up, message) == LT_E_LIMIT)
        lt_grpc_stream_finish(stream, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the control plane does not read"));
    else if (!lt_grpc_call_is_writable(pair->up))
        lt_grpc_stream_pause(stream);
}

static void on_half_close(struct lt_grpc_stream *stream)
{
    struct pair *pair = lt_grpc_stream_user(stream);
    if (pair->up != NULL)
        lt_grpc_call_half_close(pair->up);
}

static void on_down_writable(struct lt_grpc_stream *stream)
{
    struct pair *pair = lt_grpc_stream_user(stream);
    if (pair->up != NULL)
        lt_grpc_call_resume(pair->up);
}

static void on_down_closed(struct lt_grpc_stream *stream, lt_grpc_code code LT_UNUSED)
{
    struct pair *pair = lt_grpc_stream_user(stream);
    pair->down = NULL;
    if (pair->up != NULL) {
        pair->relay->stats.downstream_ended++;
        lt_grpc_call_cancel(pair->up);
    }
    drop_if_both_gone(pair);
}

/* --- begin and end --- */

static void on_server_closed(void *ctx)
{
    struct px_xds_relay *relay = ctx;
    relay->is_server_gone = true;
    free_if_last(relay);
}

lt_rc px_xds_relay_new(const struct px_xds_relay_opts *opts, struct px_xds_relay **ret_relay,
                       struct lt_err *err)
{
    static const struct lt_grpc_handler delta = {.on_open = on_open_delta,
                                                 .on_message = on_message,
                                                 .on_half_close = on_half_close,
                                                 .on_writable = on_down_writable,
                                                 .on_closed = on_down_closed};
    static const struct lt_grpc_handler sotw = {.on_open = on_open_sotw,
                                                .on_message = on_message,
                                                .on_half_close = on_half_close,
                                                .on_writable = on_down_writable,
                                                .on_closed = on_down_closed};
    struct px_xds_relay *relay = lt_new(struct px_xds_relay);
    struct lt_addr addr;
    relay->opts = *opts;
    relay->path = lt_str_dupz(opts->socket_path);
    lt_list_init(&relay->pairs);
    relay->methods[0] = (struct lt_grpc_method){LT_ADS_DELTA_METHOD, &delta, relay,
                                                LT_GRPC_MESSAGE_BYTES_MAX_ADS};
    relay->methods[1] = (struct lt_grpc_method){LT_ADS_SOTW_METHOD, &sotw, relay,
                                                LT_GRPC_MESSAGE_BYTES_MAX_ADS};
    relay->server = lt_grpc_server_new(opts->loop, NULL, relay->methods,
                                       LT_ARRAY_LEN(relay->methods));
    lt_rc rc = lt_file_make_parents(relay->path, err);
    if (rc == LT_OK)
        rc = lt_addr_unix(opts->socket_path, &addr);
    if (rc == LT_OK)
        rc = lt_grpc_server_listen(relay->server, &addr, NULL, NULL, NULL, err);
    if (rc != LT_OK) {
        px_xds_relay_free(&relay);
        return rc;
    }
    *ret_relay = relay;
    return LT_OK;
}

void px_xds_relay_set_upstream(struct px_xds_relay *relay, struct lt_grpc_channel *channel)
{
    struct lt_list *at, *next;
    LT_ASSERT(relay->channel == NULL);
    relay->channel = channel;
    lt_list_each (&relay->pairs, at, next) {
        struct pair *pair = LT_CONTAINER_OF(at, struct pair, link);
        start_call(pair);
        lt_grpc_stream_resume(pair->down);
    }
}

void px_xds_relay_free(struct px_xds_relay **relay)
{
    struct px_xds_relay *dying = *relay;
    *relay = NULL;
    if (dying == NULL)
        return;
    dying->channel = NULL;
    (void)unlink(dying->path);
    lt_grpc_server_close(&dying->server, on_server_closed, dying);
}

const struct px_xds_relay_stats *px_xds_relay_stats(const struct px_xds_relay *relay)
{
    return &relay->stats;
}
