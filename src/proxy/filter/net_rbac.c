/*
 * proxy/filter/net_rbac.c - envoy.filters.network.rbac: authorization of connections. The rules:
 * rbac.h.
 */
#include "proxy/filter/rbac.h"
#include "proxy/run/net_filter.h"

static px_verdict on_connection(struct px_conn *conn, const struct px_net_filter *filter)
{
    const struct px_rbac_filter *conf = filter->conf;
    struct px_conn_more *more = px_conn_more(conn);
    struct px_rbac_facts facts;
    px_rbac_conn_facts(conn, &facts);
    struct px_rbac_case on = {conn->worker, more->arena, &more->meta,
                              LT_STR("envoy.filters.network.rbac")};
    const char *details = NULL;
    if (px_rbac_judge(&on, conf, conf, &facts, &details))
        return PX_GO;
    px_net_refuse(conn, details, 0);
    return PX_STOP;
}

const struct px_net_ops px_net_rbac = {
    .name = "envoy.filters.network.rbac",
    .on_connection = on_connection,
};
