/*
 * proxy/start/bootstrap_check.c - static resources beside each other.
 */
#include "proxy/start/bootstrap_check.h"

struct checking {
    const struct px_table *table;
    struct lt_err *err;
    lt_rc rc; /* of the first mistake */
};

/* --- routes --- */

static void check_cluster(struct checking *c, const struct px_listener_conf *listener,
                          const struct px_route *route, lt_str cluster)
{
    bool is_by_header = cluster.len == 0;
    if (c->rc != LT_OK || is_by_header || px_table_find(c->table, PX_CLUSTER, cluster) != NULL)
        return;
    c->rc = lt_err_set(c->err, LT_E_BAD, "listener '%.*s': route '%.*s': unknown cluster '%.*s'",
                       LT_STR_ARG(listener->res.name),
                       LT_STR_ARG(route->name.len > 0 ? route->name : route->path),
                       LT_STR_ARG(cluster));
}

static void check_route(struct checking *c, const struct px_listener_conf *listener,
                        const struct px_route *route)
{
    if (route->action == PX_ACTION_CLUSTER)
        check_cluster(c, listener, route, route->cluster);
    for (size_t i = 0; i < route->weighted_count; i++)
        check_cluster(c, listener, route, route->weighted[i].cluster);
    for (size_t i = 0; i < route->mirrors.count; i++)
        check_cluster(c, listener, route, route->mirrors.items[i].cluster);
}

static void check_chain(struct checking *c, const struct px_listener_conf *listener,
                        const struct px_chain *chain)
{
    const struct px_routes_conf *routes = chain->hcm != NULL ? chain->hcm->routes : NULL;
    if (routes == NULL || routes->has_unknown_clusters)
        return;
    for (size_t i = 0; i < routes->vhost_count; i++) {
        for (size_t k = 0; k < routes->vhosts[i].route_count; k++)
            check_route(c, listener, &routes->vhosts[i].routes[k]);
    }
}

static void check_listener(void *ctx, const struct px_resource *serving,
                           const struct px_resource *warming, bool is_static LT_UNUSED)
{
    struct checking *c = ctx;
    const struct px_resource *resource = serving != NULL ? serving : warming;
    const struct px_listener_conf *listener = (const struct px_listener_conf *)resource;
    for (size_t i = 0; i < listener->chain_count; i++)
        check_chain(c, listener, &listener->chains[i]);
    if (listener->default_chain != NULL)
        check_chain(c, listener, listener->default_chain);
}

/* --- TLS --- */

static lt_rc check_tls(struct px_table *table, struct lt_err *err)
{
    struct px_snapshot *snapshot = px_table_snapshot(table, err); /* contexts are made for one */
    px_snapshot_drop(&snapshot);
    return err->text[0] != '\0' ? lt_err_wrap(err, LT_E_BAD, "TLS context") : LT_OK;
}

lt_rc px_bootstrap_check(struct px_table *table, struct lt_err *err)
{
    struct checking c = {.table = table, .err = err};
    px_table_each(table, PX_LISTENER, check_listener, &c);
    return c.rc != LT_OK ? c.rc : check_tls(table, err);
}
