/*
 * proxy/admin/admin_priv.h - private to admin*.c: the server, and pages that have a file of their
 * own.
 */
#ifndef LT_PROXY_ADMIN_ADMIN_PRIV_H
#define LT_PROXY_ADMIN_ADMIN_PRIV_H

#include "proxy/admin/admin.h"

enum { PX_PAGE_BYTES_MAX = 64 << 20, PX_LOGGERS_MAX = 64 };

struct px_admin {
    struct px_admin_opts opts;
    struct lt_server *server;
    uint64_t started_ns;
    bool has_log_levels; /* somebody has asked for /logging */
    uint8_t log_levels[PX_LOGGERS_MAX];
};

/* --- clusters.c --- */
void px_admin_clusters(struct px_admin *admin, struct lt_exchange *exchange);
/* Gauges of membership for the clusters that workers use; sum: where all is added up. */
void px_admin_add_membership(const struct px_admin *admin, const struct lt_map *used,
                             struct lt_metric_set *sum);

typedef void px_page_fn(struct px_admin *admin, struct lt_exchange *exchange);

px_page_fn px_admin_dump;                             /* dump.c */
px_page_fn px_admin_decisions;                        /* decisions.c */
px_page_fn px_admin_stats, px_admin_stats_prometheus; /* stats.c */
px_page_fn px_admin_logging;                          /* logging.c */
px_page_fn px_admin_server_info, px_admin_hot_restart, px_admin_contention, px_admin_memory,
    px_admin_runtime, px_admin_runtime_modify, px_admin_init, px_admin_lookups,
    px_admin_lookups_turn, px_admin_reset_counters, px_admin_reopen_logs; /* info.c */

#endif
