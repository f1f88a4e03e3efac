/*
 * proxy/xds.h - resources from a control plane: one delta ADS stream, fed into the table.
 * Order as Envoy's: clusters, then what they need (endpoints; secrets come from the agent), and
 * when all clusters are warm listeners, then routes. An update is acknowledged when everything that
 * it brought serves, as Envoy does it; refused resources are named in the NACK and keep their
 * predecessor. Main thread only.   Start at: px_xds_new(), px_xds_start().
 */
#ifndef LT_PROXY_XDS_H
#define LT_PROXY_XDS_H

#include "base/metric.h"
#include "http/grpc_client.h"
#include "proxy/table.h"

struct px_xds;

struct px_xds_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    const struct lt_env *env;
    struct px_table *table;
    struct lt_metric_set *metrics; /* cluster_manager.cds.update_success and the like */
    lt_str node;                   /* bytes of envoy.config.core.v3.Node */
    /* Metadata of a new stream, into arena; at most max. */
    size_t (*metadata)(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out, size_t max);
    /* The table has changed: publish a snapshot soon. */
    void (*on_change)(void *ctx);
    /* A secret is referred to that the table does not hold. */
    void (*on_secret_wanted)(void *ctx, lt_str name);
    void *ctx;
};

struct px_xds *px_xds_new(const struct px_xds_opts *opts);
/*
 * The channel lives longer than this. Streams are opened, and opened again with back-off, from now
 * on.
 */
void px_xds_start(struct px_xds *xds, struct lt_grpc_channel *channel);
void px_xds_free(struct px_xds **xds);

/* The table was changed by somebody else (a secret came): what waited for it may go on. */
void px_xds_settle(struct px_xds *xds);

/* At least one update of clusters and one of listeners was taken (accepted or refused). */
bool px_xds_has_config(const struct px_xds *xds);
bool px_xds_is_connected(const struct px_xds *xds);

#endif
