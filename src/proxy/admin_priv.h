/*
 * proxy/admin_priv.h - private to admin*.c: the server, and pages that have a file of their own.
 */
#ifndef LT_PROXY_ADMIN_PRIV_H
#define LT_PROXY_ADMIN_PRIV_H

#include "proxy/admin.h"

enum { PX_PAGE_BYTES_MAX = 64 << 20 };

struct px_admin {
    struct px_admin_opts opts;
    struct lt_server *server;
    uint64_t started_ns;
};

/* --- admin_clusters.c --- */
void px_admin_clusters(struct px_admin *admin, struct lt_exchange *exchange);
/* Gauges of membership for the clusters that workers use; sum: where all is added up. */
void px_admin_add_membership(const struct px_admin *admin, const struct lt_map *used,
                             struct lt_metric_set *sum);

#endif
