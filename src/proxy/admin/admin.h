/*
 * proxy/admin/admin.h - the admin server (15000): Envoy's paths and shapes.
 */
#ifndef LT_PROXY_ADMIN_ADMIN_H
#define LT_PROXY_ADMIN_ADMIN_H

#include "http/server.h"
#include "proxy/agent/scrape.h"
#include "proxy/health/members.h"
#include "proxy/run/worker.h"
#include "proxy/start/options.h"
#include "proxy/table/table.h"

/* What the pages read and turn; all borrowed for the admin's life. */
struct px_admin_opts {
    struct lt_loop *loop;
    struct lt_env *env; /* its log level is changed by /logging */
    const struct px_members *members;
    struct px_table *table;
    struct px_workers *workers;
    const struct px_options *options;
    lt_str node_id, node_cluster;
    const struct px_stats_config *stats; /* NULL: all are shown */
    lt_str bootstrap; /* bytes of envoy.config.bootstrap.v3.Bootstrap, for /config_dump */
    const struct lt_metric_set *main_metrics; /* counters of the main thread */
    const struct lt_buf *carried; /* of a process before this one; lt_metric_add_saved */
    struct lt_vec *inherited;     /* sockets: ours may be among them; NULL: nothing is */
    /* "LIVE", "DRAINING", "PRE_INITIALIZING" or "INITIALIZING" */
    const char *(*state)(void *ctx);
    void (*quit)(void *ctx);                   /* /quitquitquit */
    void (*fail_check)(void *ctx, bool fails); /* /healthcheck/fail and /ok */
    void (*drain_listeners)(void *ctx, bool is_inbound_only, bool is_graceful, bool skips_exit);
    void *ctx;
};

struct px_admin;

LT_MUST lt_rc px_admin_new(const struct px_admin_opts *opts, const struct lt_addr *addr,
                           struct px_admin **ret_admin, struct lt_err *err);
void px_admin_free(struct px_admin **admin);
struct lt_server *px_admin_server(const struct px_admin *admin);
/* The same pages on another address or for another server (15090 has only /stats/prometheus). */
void px_admin_handle(struct px_admin *admin, struct lt_exchange *exchange);
/* /stats/prometheus alone. */
/* more: of somebody else on the main thread, added; NULL. Borrowed until the answer is made. */
void px_admin_prometheus(struct px_admin *admin, struct lt_exchange *exchange,
                         const struct lt_metric_set *more, struct px_app_metrics *app);

#endif
