/*
 * proxy/run/net_filter.h - network filters: what decides about a connection, in the order of the
 * configuration, before its terminal filter (HTTP or TCP proxy) begins.
 *
 * Envoy asks at the first byte from the client; here it is asked when the connection stands, so
 * that no server speaks to a client that it must not speak to.
 */
#ifndef LT_PROXY_RUN_NET_FILTER_H
#define LT_PROXY_RUN_NET_FILTER_H

#include "proxy/http/filter.h"
#include "proxy/run/run.h"

struct px_net_ops {
    const char *name; /* "envoy.filters.network.rbac" */
    /* PX_STAY: px_net_filters_resume() comes later. PX_STOP: px_net_refuse() was told why. */
    px_verdict (*on_connection)(struct px_conn *conn, const struct px_net_filter *filter);
    /* The connection ends while the filter waits. NULL: it never waits. */
    void (*on_end)(struct px_conn *conn, const struct px_net_filter *filter);
};

/* From the first on: PX_GO when all have passed it. */
px_verdict px_net_filters_start(struct px_conn *conn);
/* The one that waits has its verdict; the connection goes on, or ends. */
void px_net_filters_resume(struct px_conn *conn, px_verdict verdict);
/* The connection is going. */
void px_net_filters_end(struct px_conn *conn);
/* Why it is refused, for the log: details in the connection's memory, response flags. */
void px_net_refuse(struct px_conn *conn, const char *details, uint32_t flags);

extern const struct px_net_ops px_net_connection_limit, px_net_ext_authz, px_net_local_limit,
    px_net_rbac;

#endif
