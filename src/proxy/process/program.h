/*
 * proxy/process/program.h - private to main.c, program.c and mesh.c: the process, as its main
 * thread sees it.
 */
#ifndef LT_PROXY_PROCESS_PROGRAM_H
#define LT_PROXY_PROCESS_PROGRAM_H

#include "net/loop.h"
#include "proxy/admin/admin.h"
#include "proxy/health/members.h"
#include "proxy/process/takeover.h"
#include "proxy/run/worker.h"
#include "proxy/start/bootstrap.h"
#include "proxy/start/options.h"
#include "proxy/table/table.h"
#include "proxy/xds/feeds.h"
#include "proxy/xds/load.h"

enum { PX_STOP_DRAIN_MS = 5000 };

struct px_mesh; /* mesh.c: agent and control plane */

struct px_program {
    struct lt_env env;
    struct px_options options;
    struct lt_loop *loop;
    struct px_table *table;
    struct px_members *members;
    struct px_workers *workers;
    struct px_admin *admin;
    struct px_bootstrap bootstrap;
    struct px_feeds *feeds; /* owned */
    struct px_load *load;   /* owned; NULL: nobody wants to know */
    struct lt_arena *arena; /* owned; of what lives as long as the program */
    struct px_node_facts node;
    lt_str node_bytes; /* as control planes are told it */
    struct lt_metric_set *metrics;
    struct px_mesh *mesh; /* NULL with -c */
    struct px_takeover takeover;
    struct lt_io signals;
    struct lt_task publish;         /* one snapshot a turn, however much has changed */
    struct lt_task tell;            /* what became of demands, behind a snapshot that is due */
    struct lt_io handovers;         /* from whoever started us; fd -1: nobody hands sockets over */
    struct lt_timer stop_listeners; /* set while a graceful drain runs */
    px_scope drain_scope;
    struct lt_timer memory; /* the next look at it; not set without a ceiling */
    bool is_draining;       /* by an operator's /healthcheck/fail */
    bool is_stopping;
    int status;
};

/* --- program.c --- */
void px_program_init(struct px_program *program);
void px_program_fini(struct px_program *program);
void px_program_watch_signals(struct px_program *program);
/*
 * Threads, admin server and feeds, by program->bootstrap and ->node. mesh_feeds: what an agent
 * brings (ads_channel, ads_metadata, want_secret, all with the program as ctx); NULL with -c.
 */
LT_MUST lt_rc px_program_start(struct px_program *program, const struct px_feeds_opts *mesh_feeds,
                               struct lt_err *err);
/* The table has changed: workers get a snapshot at the end of this turn. */
void px_program_publish(struct px_program *program);
/* "LIVE", "DRAINING", "PRE_INITIALIZING" or "INITIALIZING". */
const char *px_program_state(const struct px_program *program);
/*
 * /drain_listeners: connections in scope are asked to leave. Listeners close at once; if graceful,
 * after the drain time; with keeps_listeners never.
 */
struct px_drain_order {
    px_scope scope;
    bool is_graceful, keeps_listeners;
};
void px_program_drain(struct px_program *program, const struct px_drain_order *order);
/* Parts of takeover.c's work: what the main thread has of its own. */
void px_program_take_handovers(struct px_program *program, int fd);
void px_program_accept(struct px_program *program);
void px_program_leave(struct px_program *program);
void px_program_add_sockets(struct px_program *program, struct lt_vec *sockets);
/* Counters of the main thread, and of the process before this one. */
void px_program_add_metrics(const struct px_program *program, struct lt_metric_set *sum);
/* Drains, then ends the loop; asked twice it ends at once. */
void px_program_stop(struct px_program *program, int status);

/* --- mesh.c --- */
int px_mesh_run(struct px_program *program);
/* SIGTERM under a control plane: readiness first, then the drain. */
void px_mesh_stop(struct px_mesh *mesh);
/* The status port; NULL: there is none. */
struct lt_server *px_mesh_status_server(const struct px_mesh *mesh);
/* What px_program_accept and others do, of what the agent has of its own. */
void px_mesh_accept(struct px_mesh *mesh);
void px_mesh_leave(struct px_mesh *mesh);
void px_mesh_add_sockets(const struct px_mesh *mesh, struct lt_vec *sockets);
void px_mesh_free(struct px_mesh **mesh);

#endif
