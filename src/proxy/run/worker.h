/*
 * proxy/run/worker.h - the threads of the data path, as the main thread sees them.
 * Each worker has a loop, its own sockets, pools and counters; snapshots go to it by mailbox and
 * come back by mailbox. All functions here are the main thread's.
 */
#ifndef LT_PROXY_RUN_WORKER_H
#define LT_PROXY_RUN_WORKER_H

#include "base/vec.h"
#include "net/handover.h"
#include "net/loop.h"
#include "proxy/conf/conf.h"
#include "proxy/conf/demand.h"
#include "proxy/run/pressure.h"
#include "proxy/told/telemetry.h"

struct px_workers;

/* Where this proxy stands among its peers. */
struct px_home {
    struct px_locality here; /* node.locality */
    lt_str local_cluster;    /* cluster_manager.local_cluster_name; empty: none */
};

/* Listeners by the direction of their traffic. */
typedef enum { PX_SCOPE_NONE, PX_SCOPE_INBOUND, PX_SCOPE_ALL } px_scope;

/* A listening socket that goes from one process to the next (takeover.h). */
typedef enum {
    PX_SOCKET_LISTENER,  /* a worker's */
    PX_SOCKET_SERVER,    /* of the main thread: admin, status */
    PX_SOCKET_HANDED,    /* of another network */
    PX_SOCKET_HANDOVERS, /* where those come from */
    PX_SOCKET_DNS_UDP,   /* of the main thread */
    PX_SOCKET_DNS_TCP,
} px_socket_kind;

struct px_socket {
    px_socket_kind kind;
    unsigned worker;            /* LISTENER: which */
    struct lt_addr addr;        /* LISTENER, SERVER, DNS */
    struct lt_handover message; /* HANDED */
    int fd;                     /* owned */
};

void px_socket_free(struct px_socket **socket);
/* All of struct px_socket *, and the vector. */
void px_sockets_free(struct lt_vec *sockets);
/* Adds one with a descriptor of its own. */
void px_sockets_add(struct lt_vec *sockets, px_socket_kind kind, unsigned worker,
                    const struct lt_addr *addr, int fd);
struct lt_server;
/*
 * Listens on the inherited socket of that address, else on one of its own. With inherited (not
 * NULL) who comes waits until lt_server_set_accepting().
 */
LT_MUST lt_rc px_sockets_listen(struct lt_vec *inherited, struct lt_server *server,
                                const struct lt_addr *addr, struct lt_addr *ret_addr,
                                struct lt_err *err);
/* Takes the first of that kind and address (NULL: any) out; -1: there is none. */
int px_sockets_take(struct lt_vec *sockets, px_socket_kind kind, const struct lt_addr *addr);

struct px_workers_opts {
    const struct lt_env *env;            /* borrowed */
    struct lt_loop *loop;                /* of the main thread; borrowed */
    unsigned count;                      /* of threads, 1 to 64 */
    struct px_node_facts node;           /* borrowed slices */
    struct px_home home;                 /* likewise */
    const struct px_stats_config *stats; /* borrowed; NULL: all are shown */
    uint32_t drain_ms;     /* how long connections of a listener that went may go on */
    bool drains_gradually; /* within drain_ms, instead of all at once (--drain-strategy) */
    const struct px_pressure_conf *pressure; /* copied; NULL: memory has no ceiling */
    struct lt_vec *inherited; /* of struct px_socket: listeners are taken out of it; NULL */
    bool holds_accept;        /* listeners open, and accept when px_workers_accept() says so */
    void (*on_listener_error)(void *ctx, const char *text); /* a listener could not bind */
    /* What a worker has seen of a host: px_members_report(). NULL: nobody wants to know. */
    void (*on_report)(void *ctx, struct px_host_state *host, unsigned kind);
    /* A request needs it: px_feeds_demand(). NULL: there is nothing on demand. */
    px_demand_outcome (*on_demand)(void *ctx, const struct px_demand *what);
    void *ctx;
};

struct px_workers *px_workers_new(const struct px_workers_opts *opts);
/* Gives every worker the snapshot; drops the caller's hold. */
void px_workers_publish(struct px_workers *workers, struct px_snapshot *snapshot);
/*
 * A listening socket of another network, for the listeners on the port that its connections are
 * for; they count as meant for message->ip and port. Takes fd. fd -1: the one of message->id is
 * given back.
 */
void px_workers_hand(struct px_workers *workers, const struct lt_handover *message, int fd);
/* Looks at memory, and has workers act on it; what is on is a bit for each px_act. */
uint32_t px_workers_look_at_memory(struct px_workers *workers, uint64_t *ret_used_bytes);
/* Accepting begins; what was inherited and no listener has taken is closed. */
void px_workers_accept(struct px_workers *workers);
/* All listening sockets, with descriptors of their own; done is called on the main loop. */
typedef void px_sockets_fn(void *ctx, struct lt_vec *sockets);
void px_workers_list_sockets(struct px_workers *workers, px_sockets_fn *done, void *ctx);
/* Another process accepts from our sockets: let go of them, and ask connections to leave. */
void px_workers_give_away(struct px_workers *workers);
/* The health of hosts of these clusters has changed (px_host_state.flags): workers look. */
void px_workers_tell_health(struct px_workers *workers, const lt_str *clusters, size_t count);
/* What became of a demand that had to wait; what is there is in the snapshot published before. */
void px_workers_tell_decided(struct px_workers *workers, const struct px_demand *what,
                             px_demand_outcome outcome);
/* True once every worker has taken its first snapshot: listeners are open. */
bool px_workers_are_ready(const struct px_workers *workers);
/*
 * Connections of these listeners are asked to leave, those that come later too: "connection: close"
 * and GOAWAY. Listeners stay open, idle connections too.
 */
void px_workers_ask_to_leave(struct px_workers *workers, px_scope scope);
/* These listeners accept nothing any more; what they have accepted stays. */
void px_workers_stop_listeners(struct px_workers *workers, px_scope scope);
/* /healthcheck/fail and /ok: likewise for listeners that heed it (drain_type DEFAULT). */
void px_workers_fail_check(struct px_workers *workers, bool fails);
/*
 * How many connections there are apart from those of listeners on these ports; done is called on
 * the main loop.
 */
typedef void px_count_fn(void *ctx, uint64_t count);
void px_workers_count_connections(struct px_workers *workers, const uint16_t *except, size_t count,
                                  px_count_fn *done, void *ctx);
/*
 * Listeners close, connections end after their request in hand. on_done comes when none is left, or
 * after timeout_ms.
 */
void px_workers_drain(struct px_workers *workers, uint32_t timeout_ms, void (*on_done)(void *ctx),
                      void *ctx);
/* Ends the threads; everything open is closed. */
void px_workers_free(struct px_workers **workers);

/*
 * Asks all workers for their counters; done is called on the main loop with the sum, which it owns.
 * clusters: the names of those that some worker has; borrowed during the call.
 */
typedef void px_metrics_fn(void *ctx, struct lt_metric_set *sum, const struct lt_map *clusters);
void px_workers_collect_metrics(struct px_workers *workers, px_metrics_fn *done, void *ctx);

/* One host, summed over the workers. */
struct px_host_status {
    char *address; /* owned */
    struct lt_addr addr;
    uint64_t cx_active, cx_total, cx_connect_fail, rq_active, rq_total, rq_success, rq_error,
        rq_timeout, rq_pending;
};
/* What was dropped for too much load (drop_overloads), by category. */
enum { PX_DROP_CATEGORIES_MAX = 8 };
struct px_drop_count {
    char category[64]; /* cut, if it is longer */
    uint64_t count;
};
struct px_drop_tally {
    size_t count;
    struct px_drop_count items[PX_DROP_CATEGORIES_MAX];
};
/* Found or made; when there are too many, the last one's. */
uint64_t *px_drop_tally_at(struct px_drop_tally *tally, lt_str category);

/* One cluster that some worker has. */
struct px_cluster_counts {
    char *name; /* owned */
    struct px_drop_tally drops;
    struct lt_map hosts; /* address -> struct px_host_status, owned */
};
/* clusters: name -> struct px_cluster_counts; borrowed during the call. */
typedef void px_hosts_fn(void *ctx, const struct lt_map *clusters);
void px_workers_collect_hosts(struct px_workers *workers, px_hosts_fn *done, void *ctx);

/* What workers remember of requests (decisions.h): struct px_decision, for the callee to free. */
typedef void px_decisions_fn(void *ctx, struct lt_vec *all);
void px_workers_collect_decisions(struct px_workers *workers, px_decisions_fn *done, void *ctx);

/* What every worker is to do; done is called on the main loop when all have. */
typedef enum { PX_ORDER_RESET_COUNTERS, PX_ORDER_REOPEN_LOGS } px_order;
void px_workers_order(struct px_workers *workers, px_order order, void (*done)(void *ctx),
                      void *ctx);

/* Downstream connections now open, as of the last report of each worker. */
uint64_t px_workers_connections(const struct px_workers *workers);

#endif
