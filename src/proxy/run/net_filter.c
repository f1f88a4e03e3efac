/*
 * proxy/run/net_filter.c - takes a connection through its network filters.
 */
#include "proxy/run/net_filter.h"

static const struct px_net_ops *const ops_of[PX_NET_FILTER_KINDS] = {
    [PX_NET_RBAC] = &px_net_rbac,
    [PX_NET_EXT_AUTHZ] = &px_net_ext_authz,
    [PX_NET_LOCAL_LIMIT] = &px_net_local_limit,
    [PX_NET_CONNECTION_LIMIT] = &px_net_connection_limit,
};

/* From more->net_at on, until one stays or refuses. */
static px_verdict take_steps(struct px_conn *conn)
{
    const struct px_chain *chain = conn->chain;
    struct px_conn_more *more = px_conn_more(conn);
    for (; more->net_at < chain->net_filter_count; more->net_at++) {
        const struct px_net_filter *filter = &chain->net_filters[more->net_at];
        px_verdict verdict = ops_of[filter->kind]->on_connection(conn, filter);
        if (verdict != PX_GO)
            return verdict;
    }
    return PX_GO;
}

px_verdict px_net_filters_start(struct px_conn *conn)
{
    return conn->chain->net_filter_count == 0 ? PX_GO : take_steps(conn);
}

void px_net_filters_resume(struct px_conn *conn, px_verdict verdict)
{
    if (verdict == PX_GO) {
        conn->more->net_at++;
        verdict = take_steps(conn);
    }
    px_conn_filtered(conn, verdict);
}

void px_net_filters_end(struct px_conn *conn)
{
    if (conn->more == NULL || conn->chain == NULL ||
        conn->more->net_at >= conn->chain->net_filter_count)
        return;
    const struct px_net_filter *filter = &conn->chain->net_filters[conn->more->net_at];
    const struct px_net_ops *ops = ops_of[filter->kind];
    if (ops->on_end != NULL)
        ops->on_end(conn, filter);
}

void px_net_refuse(struct px_conn *conn, const char *details, uint32_t flags)
{
    struct px_conn_more *more = px_conn_more(conn);
    more->details = details;
    more->flags |= flags;
}
