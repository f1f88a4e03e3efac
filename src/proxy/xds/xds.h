/*
 * proxy/xds/xds.h - one xDS stream and the ADS client on it: opened, opened again with back-off and
 * jitter when it ends, fed and answered. What updates mean is the owner's (feeds.c).
 * Main thread only.   Start at: px_xds_new().
 */
#ifndef LT_PROXY_XDS_XDS_H
#define LT_PROXY_XDS_XDS_H

#include "base/metric.h"
#include "http/grpc_client.h"
#include "wire/ads.h"

struct px_xds;

struct px_xds_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    const struct lt_env *env;
    lt_str node; /* bytes of envoy.config.core.v3.Node */
    bool is_sotw, says_node_always;
    uint32_t rate_tokens; /* requests at once; 0: no limit */
    uint64_t rate_fill_ns;
    struct lt_counter *slowed; /* requests that had to wait for it */
    const char *method;        /* "/envoy.service...." */
    const char *what;          /* for log lines: "ads" */
    /* NULL: there is no way now; asked again after a while. */
    struct lt_grpc_channel *(*channel)(void *ctx);
    /* Metadata of a new stream, into arena; at most max. May be NULL. */
    size_t (*metadata)(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out, size_t max);
    /* A stream begins: types may be paused before their first request goes out. */
    void (*on_open)(void *ctx);
    /* LT_OK of lt_ads_client_feed: to be applied, and answered now or later. */
    void (*on_update)(void *ctx, const struct lt_ads_update *update);
    /* Requests are about to be made of what has gathered: first without, then with the answers. */
    void (*before_send)(void *ctx, bool with_answers);
    /* The first message of a stream came; the stream has ended. */
    void (*on_connected)(void *ctx, bool is_connected);
    void *ctx;
};

struct px_xds *px_xds_new(const struct px_xds_opts *opts);
/* The stream is ended; nothing is called back any more. */
void px_xds_free(struct px_xds **xds);
/* Streams are opened from now on; a wait is cut short. */
void px_xds_start(struct px_xds *xds);

struct lt_ads_client *px_xds_client(const struct px_xds *xds);
/* What has gathered is sent at the end of this turn. */
void px_xds_send(struct px_xds *xds);

#endif
