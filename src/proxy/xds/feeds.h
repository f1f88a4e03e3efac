/*
 * proxy/xds/feeds.h - who is asked for configuration, in which order, and what is answered. Rows of
 * the table that something needs are asked for at their source: over the one ADS stream, a stream
 * of their own, from a file, or from the agent.
 *
 * Order as Envoy's: static clusters and what they need, clusters, what those need; when all are
 * warm listeners, what those need; when all are warm the proxy is live. An update of clusters is
 * answered when everything that it brought serves (but at the start); of other kinds at once, after
 * what it needs was asked for. Refused resources are named in the NACK and keep their predecessor.
 * Main thread only.   Start at: px_feeds_new(), px_feeds_start().
 */
#ifndef LT_PROXY_XDS_FEEDS_H
#define LT_PROXY_XDS_FEEDS_H

#include "base/metric.h"
#include "http/grpc_client.h"
#include "proxy/conf/demand.h"
#include "proxy/table/table.h"

struct px_feeds;

/* dynamic_resources of the bootstrap; sources of the table. NULL: none. */
struct px_feed_roots {
    const struct px_source *ads; /* a GRPC source */
    const struct px_source *cds, *lds;
    uint32_t cds_timeout_ms, lds_timeout_ms; /* initial_fetch_timeout; 0: none */
};

/*
 * What is asked for on the ADS stream beside the table's kinds, once listeners are: all there is of
 * a type. take gets each message, also that of the last run; what it refuses is answered with its
 * error.
 */
enum { PX_FEED_EXTRAS_MAX = 4 };
struct px_feed_extra {
    const char *type_url;
    lt_rc (*take)(void *ctx, lt_str message, struct lt_err *err);
};

struct px_feeds_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    const struct lt_env *env;
    struct px_table *table;
    struct lt_metric_set *metrics; /* cluster_manager.cds.update_success and the like */
    lt_str node;                   /* bytes of envoy.config.core.v3.Node */
    struct px_feed_roots roots;
    lt_str node_id;
    lt_str state_directory; /* for the last good resources; empty: they are not kept */
    /* Of ADS; NULL: the cluster that roots.ads names. */
    struct lt_grpc_channel *(*ads_channel)(void *ctx);
    /* Metadata of a new ADS stream, into arena; at most max. NULL: none. */
    size_t (*ads_metadata)(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out,
                           size_t max);
    /*
     * A secret of a gRPC source. LT_OK: it comes by px_feeds_give_secret, perhaps before this
     * returns. LT_E_NOT_FOUND: it is to be asked for there. NULL: always so.
     */
    lt_rc (*want_secret)(void *ctx, const struct px_source *source, lt_str name);
    struct px_feed_extra extras[PX_FEED_EXTRAS_MAX]; /* until one without a type */
    /* The table has changed, or the phase: publish a snapshot soon. */
    void (*on_change)(void *ctx);
    /* Something is known of what was demanded: px_feeds_tell_decided() soon. May be NULL. */
    void (*on_decided)(void *ctx);
    void *ctx;
};

struct px_feeds *px_feeds_new(const struct px_feeds_opts *opts);
/* Static resources are in the table: everything is asked for from now on. */
void px_feeds_start(struct px_feeds *feeds);
void px_feeds_free(struct px_feeds **feeds);
/* The way to ADS is there, or another. */
void px_feeds_connect(struct px_feeds *feeds);

/* For each row of this name whose gRPC source is that cluster. */
void px_feeds_give_secret(struct px_feeds *feeds, lt_str cluster, lt_str name, lt_str version,
                          lt_str bytes);
/* The table was changed by somebody else: what waited for it may go on. */
void px_feeds_settle(struct px_feeds *feeds);

/* --- on demand --- */

/* A request needs it. PX_DEMAND_WAITS: px_feeds_tell_decided() says what became of it. */
px_demand_outcome px_feeds_demand(struct px_feeds *feeds, const struct px_demand *what);
/* What is known since the last time; what is there is in the snapshot that was made before. */
typedef void px_decided_fn(void *ctx, const struct px_demand *what, px_demand_outcome outcome);
void px_feeds_tell_decided(struct px_feeds *feeds, px_decided_fn *tell, void *ctx);

typedef enum {
    PX_PHASE_STATIC,    /* clusters of the bootstrap warm */
    PX_PHASE_CLUSTERS,  /* clusters are awaited, and warm */
    PX_PHASE_LISTENERS, /* listeners are awaited, and warm */
    PX_PHASE_LIVE,
} px_phase;
px_phase px_feeds_phase(const struct px_feeds *feeds);

#endif
