/*
 * proxy/run/run.h - private to the run time of the proxy (worker.c, listener.c, conn.c, http*.c,
 * tcp.c, cluster.c, upstream.c): the structs of one worker and how they hold on to each other.
 * Everything here belongs to one thread.
 *
 *   px_worker --< px_listener --< px_conn --- px_request --- px_upstream >-- px_host >-- px_cluster
 *                                   |  (http)                    (pooled, h1)
 *                                   +-- px_tcp --------------- px_upstream
 *
 * Frozen configuration is read through a px_pin: whoever keeps a pointer into a snapshot beyond one
 * call holds the pin.
 */
#ifndef LT_PROXY_RUN_RUN_H
#define LT_PROXY_RUN_RUN_H

#include "base/env.h"
#include "base/list.h"
#include "base/slab.h"
#include "base/vec.h"
#include "http/h1.h"
#include "net/handover.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/sock.h"
#include "proxy/conf/conf.h"
#include "proxy/conf/flags.h"
#include "proxy/conf/intern.h"
#include "proxy/conf/jwt_cache.h"
#include "proxy/http/filter.h"
#include "proxy/run/cluster.h"
#include "proxy/run/worker.h"
#include "proxy/told/telemetry.h"

struct px_worker;
struct px_request;
struct px_tcp;
struct px_h2_link;

/* --- the snapshot in use --- */

struct px_pin {
    struct px_snapshot *snapshot; /* given back to the main thread when the last user leaves */
    struct px_worker *worker;
    uint32_t users; /* the worker itself counts as one while it is current */
};

struct px_pin *px_pin_take(struct px_pin *pin);
void px_pin_drop(struct px_pin **pin);

/* --- listeners and downstream connections --- */

struct px_listener {
    struct px_worker *worker;
    const struct px_listener_conf *conf; /* of the worker's current snapshot */
    struct lt_io io;                     /* fd -1 when it does not bind */
    struct lt_timer pause;               /* set while descriptors have run out */
    /* of struct px_more: additional addresses, or a process before us had more workers; owned */
    struct lt_list more;
    char address[LT_ADDR_TEXT_MAX]; /* the key in worker->by_address */
    bool is_shared;                 /* its socket, with the other workers (px_shared_listen) */
    uint64_t connections;
    bool has_first_words; /* servers behind it have spoken before their clients */
};

enum { PX_ACCEPT_PAUSE_MS = 100 };

/* No descriptor is left. */
void px_count_accept_pause(struct px_worker *worker);
LT_MUST lt_rc px_listeners_update(struct px_worker *worker, struct lt_err *err);
/*
 * The listener whose address is the destination, else the one of any address at that port, else
 * NULL.
 */
struct px_listener *px_listener_for(struct px_worker *worker, const struct lt_addr *destination);
void px_listeners_close(struct px_worker *worker);
/* Who comes waits in the sockets, but for listeners that bypass the overload manager. */
void px_listeners_pause(struct px_worker *worker, bool pauses);
/* Those that waited for px_workers_accept() begin. */
void px_listeners_resume(struct px_worker *worker);
/* Adds all sockets to the vector, with descriptors of their own (struct px_socket). */
void px_listeners_list(struct px_worker *worker, struct lt_vec *sockets);
/* Closes descriptors, but what waits in the sockets is somebody else's. */
void px_listeners_leave(struct px_worker *worker);
/* They accept nothing more, now and in snapshots to come; their connections stay. */
void px_listeners_stop(struct px_worker *worker, px_scope scope);

/* handed.c: sockets of another network (px_workers_hand); the listeners have changed. */
void px_handed_take(struct px_worker *worker, const struct lt_handover *message, int fd);
void px_handed_follow(struct px_worker *worker);
void px_handed_free(struct px_worker *worker);
void px_handed_list(struct px_worker *worker, struct lt_vec *sockets);

typedef enum {
    PX_CONN_INSPECT,
    PX_CONN_HANDSHAKE,
    PX_CONN_FILTER, /* HTTP, and a network filter waits for something */
    PX_CONN_SNIFF,  /* HTTP, and the first bytes will say which */
    PX_CONN_HTTP,
    PX_CONN_H2,
    PX_CONN_TCP,
    PX_CONN_SMALL, /* echo, direct_response */
    PX_CONN_LINGER,
    PX_CONN_INSIDE, /* stands for the client of requests that have none (inside.h) */
    PX_CONN_CLOSED
} px_conn_state;

/* One of the connections that somebody counts, over all workers. */
struct px_conn_count {
    struct px_conn_count *next;
    _Atomic uint64_t *active;
};

struct px_small;
struct px_meta;
struct px_state;
struct lt_cert;

/* What few connections have: made when it is first asked for. */
struct px_conn_more {
    struct lt_arena *arena; /* owned; holds this struct too */
    const struct lt_cert *peer_cert;
    bool knows_cert;            /* peer_cert was looked up */
    const struct px_meta *meta; /* dynamic metadata of the connection */
    const struct px_state *state;
    uint32_t net_at;                /* the network filter that waits (net_filter.c) */
    void *net_state;                /* what it waits with */
    struct px_conn_count *counts;   /* given back at its end */
    struct px_small *small;         /* small.c; in the arena */
    struct px_conn_bucket *buckets; /* of rate limits (filter/local_limit.c) */
    const char *details;            /* why it was refused; NULL: it was not */
    const char *tls_failure;        /* of the handshake; in the arena; NULL */
    uint64_t received, sent;        /* for the listener's access log */
    uint32_t flags;
};

struct px_conn {
    struct lt_list link; /* in worker->conns */
    struct px_worker *worker;
    struct px_pin *pin; /* holds listener_conf and chain */
    const struct px_listener_conf *listener;
    const struct px_chain *chain; /* NULL while inspecting */
    struct lt_transport transport;
    struct lt_io io;
    struct lt_task
        again; /* work was left for the next turn: edge-triggered events do not come twice */
    struct lt_timer
        timer;            /* fires at or before deadline_ns and is set again if it came too early */
    uint64_t deadline_ns; /* 0: none */
    uint64_t guess_at_ns; /* while nothing has come from the client; 0: no guess is to be made */
    uint64_t drained_at_ns; /* its listener went: open until then at most; 0: not so */
    uint64_t leave_at_ns;   /* asked to leave then (HTTP/2: for the second time); 0: not so */
    uint64_t ends_at_ns;    /* max_connection_duration: no new requests from then on; 0: none */
    uint64_t accepted_ns;
    px_conn_state state;
    bool can_read, can_write, saw_eof;
    bool is_draining; /* the next response says "connection: close" */
    bool has_served;  /* HTTP/1: a request was answered */
    bool is_told;     /* HTTP/2: the first GOAWAY was sent. HTTP/1: it was counted */
    bool is_logged;   /* in the listener's access log */
    bool is_closing;  /* the response in hand was the last: close when it is out */
    struct px_input in;
    struct lt_addr peer;
    struct lt_addr local;  /* original destination when there is one */
    bool has_original_dst; /* there is */
    const char *principal; /* counted text; the verified peer's URI SAN, "" when there is none */
    const char *requested_server_name; /* counted text; SNI */
    char *xfcc; /* owned; what the application is told of the client's certificate; NULL: not yet */
    struct lt_h1_parser parser;
    struct lt_h1_limits limits; /* of request heads; max_request_headers_kb */
    struct px_request *request; /* HTTP/1: the one in hand; owned */
    struct px_h2_link *h2;      /* HTTP/2: owned */
    struct lt_list streams;     /* HTTP/2: of px_request.conn_link; owned */
    struct px_tcp *tcp;         /* TCP: owned */
    struct px_conn_more *more;  /* owned; NULL: nothing */
    uint64_t id;
    uint32_t served; /* requests so far */
};

/* What its network filters have decided: PX_GO, PX_STOP; PX_STAY: not yet. */
void px_conn_filtered(struct px_conn *conn, px_verdict verdict);
/* Never NULL. */
struct px_conn_more *px_conn_more(struct px_conn *conn);
void px_conn_more_free(struct px_conn *conn);
/* What the client asked for in its TLS hello, wherever that was read; empty: nothing. */
lt_str px_conn_server_name(const struct px_conn *conn);
/* The verified certificate of the peer; NULL when there is none. */
const struct lt_cert *px_conn_peer_cert(struct px_conn *conn);

/* local: what it is for; NULL: the socket says it. */
void px_conn_accept(struct px_listener *listener, int fd, const struct lt_addr *peer,
                    const struct lt_addr *local);
/*
 * Ends it and everything that hangs on it. May be called from anywhere below; memory goes at the
 * end of the turn.
 */
void px_conn_close(struct px_conn *conn);
/*
 * The last byte was written: FIN now, and the end when the client's comes (or soon). Closing at
 * once would reset the connection under a client that still sends, and take the response from it
 * (RFC 9112 section 9.6).
 */
void px_conn_linger(struct px_conn *conn);
/* Runs it again in the next turn, after everybody else had theirs. */
void px_conn_yield(struct px_conn *conn);
/* The server of the guess has spoken before the client: it is what it was guessed to be. */
void px_conn_spoken_to(struct px_conn *conn);
/* Something may have changed: go on. */
void px_conn_run(struct px_conn *conn);
/* No later than that: it is asked to leave; it ends. */
void px_conn_leave_at(struct px_conn *conn, uint64_t at_ns);
void px_conn_end_at(struct px_conn *conn, uint64_t at_ns);
/* When nothing happens until then the connection is closed (HTTP: the request times out). */
void px_conn_set_deadline(struct px_conn *conn, uint64_t after_ms);

/* --- HTTP (request.h and its neighbours) --- */

void px_h1_start(struct px_conn *conn);
void px_h1_run(struct px_conn *conn);
void px_h1_timeout(struct px_conn *conn);
/* A head must be whole after so long, however often a byte of it comes. 0: it may take any time. */
uint64_t px_head_ms(const struct px_hcm_conf *hcm);
/* The connection is going: its request too. */
void px_h1_abort(struct px_conn *conn);
void px_h2_start(struct px_conn *conn);
void px_h2_run(struct px_conn *conn);
void px_h2_timeout(struct px_conn *conn);
void px_h2_abort(struct px_conn *conn);
/* GOAWAY that leaves time for what is on its way. */
void px_h2_notice(struct px_conn *conn);
/* GOAWAY, and the end when the last stream has gone. */
void px_h2_drain(struct px_conn *conn);

/* --- leaving (drain.c) --- */

/* Asks it now: the response in hand is the last, or a GOAWAY. */
void px_conn_leave(struct px_conn *conn);
/* HTTP/1: its response says that it is the last because the connection was asked to leave. */
void px_conn_count_leaving(struct px_conn *conn);
/*
 * Its listener went or changed: it is asked to leave, and after the drain time it ends in any case.
 */
void px_conn_drain(struct px_conn *conn, uint64_t drain_ms);
/* Connections of these listeners, now and from now on. */
void px_drain_ask(struct px_worker *worker, px_scope scope);
void px_drain_fail_check(struct px_worker *worker, bool fails);
/* A new connection, while others are asked to leave. */
void px_drain_accepted(struct px_conn *conn);
bool px_drain_covers(const struct px_listener_conf *conf, px_scope scope);

/* Requests that are ready, then HTTP/2 connections with output: the end of a turn. */
void px_http_turn(struct lt_task *task);
void px_http_free_requests(struct px_worker *worker);
/* Frees those that nobody missed since the last time (worker->requests_spare). */
void px_http_trim_requests(struct px_worker *worker);
/*
 * The cluster may have room again: the first of cluster->waiting tries; it may come back into the
 * line.
 */
void px_http_wake_first(struct px_cluster *cluster);

/* --- bytes that are only passed on (pump.c) --- */

/* A way through the kernel for a direction that carries much; zeroed: none. */
struct px_pipe {
    int fds[2];  /* owned while is_open */
    size_t held; /* bytes inside */
    bool is_open;
    bool is_bulk; /* the latest read was as large as reads are */
};
void px_pipe_close(struct px_worker *worker, struct px_pipe *pipe);

struct px_side {
    struct px_input *in;
    struct lt_transport *from, *to;
    bool *can_read, *can_write;
    bool *ended, *end_sent; /* from has ended; to was told */
    uint64_t *count;        /* bytes written */
    struct px_pipe *pipe;
};

/*
 * Reads and writes until neither goes on. LT_AGAIN: wait; LT_OK: there is more to do, in another
 * turn; LT_EOF: this direction is done; an error ends the connection.
 */
LT_MUST lt_rc px_pump(struct px_worker *worker, const struct px_side *side);
/* True when both directions are done, or one broke. */
static inline bool px_is_over(lt_rc there, lt_rc back)
{
    bool is_there = there == LT_OK || there == LT_AGAIN || there == LT_EOF;
    bool is_back = back == LT_OK || back == LT_AGAIN || back == LT_EOF;
    return !is_there || !is_back || (there == LT_EOF && back == LT_EOF);
}

/* --- TCP (tcp.c) --- */

/* It is there, for its report; px_tcp_connect when the filters have let it pass. */
void px_tcp_start(struct px_conn *conn);
void px_tcp_connect(struct px_conn *conn);
/*
 * The client is silent, and would have this chain if it stayed so: connects to the server, and
 * px_conn_spoken_to() comes when that one speaks first. Nothing is passed on before. px_tcp_start()
 * goes on with it, px_tcp_abort() forgets it without a word.
 */
void px_tcp_guess(struct px_conn *conn, const struct px_chain *chain);
/* Of the guess. */
const struct px_chain *px_tcp_chain(const struct px_conn *conn);
void px_tcp_run(struct px_conn *conn);
void px_tcp_timeout(struct px_conn *conn);
void px_tcp_abort(struct px_conn *conn);
void px_tcp_on_upstream(struct px_tcp *tcp);
/* Its host may not be used any more. */
void px_tcp_end(struct px_tcp *tcp);
/* The connection is gone already. */
void px_tcp_on_upstream_failed(struct px_tcp *tcp, const struct px_failed *failed);
/* Timer: px_worker.tcp_tell. */
void px_tcp_on_tell(struct lt_timer *timer, uint64_t now_ns);

/* --- echo and direct_response (small.c) --- */

void px_small_start(struct px_conn *conn);
void px_small_run(struct px_conn *conn);
void px_small_end(struct px_conn *conn);

/* --- the worker --- */

struct px_workers;

struct px_worker {
    struct px_workers *owner;
    unsigned index;
    struct lt_loop *loop;
    struct lt_mailbox *mailbox;
    const struct lt_env *env;
    struct px_pin *pin;         /* the current snapshot; NULL before the first */
    struct lt_map clusters;     /* name -> struct px_cluster, owned */
    struct lt_map stat_scopes;  /* cluster_stats.c */
    const struct px_home *home; /* borrowed */
    struct lt_map listeners;    /* name -> struct px_listener, owned */
    struct lt_map
        by_address; /* "10.0.0.1:80" -> the same; what a redirected connection was meant for */
    struct lt_list handed; /* struct px_handed, owned */
    struct lt_list conns;
    uint32_t conn_count;
    struct lt_vec blocks;    /* free input blocks */
    struct lt_list requests; /* free struct px_request, by wait_link */
    uint32_t request_count;  /* in that list */
    uint32_t requests_spare; /* fewest of them, and of blocks, since the last trim: */
    uint32_t blocks_spare;   /* nobody missed these */
    uint64_t swept_ns;       /* px_telemetry_sweep */
    struct lt_timer trim;    /* set while more is kept than an idle worker needs */
    struct px_interns interns;
    struct lt_list tcp_untold; /* of px_tcp: bytes that the metrics don't know yet, oldest first */
    struct lt_list messages_untold;  /* of px_messages, oldest first */
    struct lt_timer messages_tell;   /* set while there are such */
    struct lt_timer tcp_tell;        /* set while there are such */
    struct px_pipe pipes[16];        /* spare and empty */
    uint32_t pipe_count, pipes_open; /* in that list; and with those that are in use */
    struct lt_map stats;             /* name, owned -> struct lt_counter, of metrics (stat.c) */
    struct lt_map jwks;              /* id -> struct px_jwks_source, owned (jwks.c) */
    uint64_t jwks_count;             /* that it ever had */
    struct px_jwt_cache jwt_cache;
    struct lt_prng prng;
    struct lt_metric_set *metrics;
    struct px_telemetry *telemetry;
    struct px_access_logger *access_log;
    struct px_decisions *decisions;
    struct px_on_demand *on_demand; /* owned; NULL: no request needed anything (on_demand.h) */
    struct lt_list inside;          /* of struct px_fetch.link (inside.c) */
    struct px_conn *inside_conn;    /* owned; NULL until the first of them */
    struct lt_list ready;           /* of px_request.ready_link */
    struct lt_list dirty;           /* of px_h2_link.dirty */
    struct lt_list buried;        /* of px_request.wait_link: GONE, freed at the end of the turn */
    struct lt_task turn;          /* px_http_turn */
    struct lt_task relieve;       /* relieve.c */
    size_t unlooked, look_every;  /* bytes since memory was looked at; when to look again */
    const _Atomic uint32_t *acts; /* of the process: a bit for each px_act */
    uint64_t trimmed_ns;
    bool is_choked;         /* memory is short: no more is read in this turn where it adds up */
    bool has_shed;          /* in the turn before */
    bool is_paused;         /* listeners: who comes waits */
    struct lt_list to_wake; /* of px_cluster.wake_link */
    struct lt_task wake;
    struct lt_slab conn_slab, up_slab; /* of px_conn and px_upstream */
    struct lt_vec graveyard; /* freed at the end of the turn: nobody's callback may find it gone */
    struct lt_vec dead_conns, dead_ups; /* the same, of the slabs */
    struct lt_task bury;
    uint64_t next_conn_id;
    const char *own_principal; /* counted text; our own certificate's URI SAN, or "" */
    int64_t date_s;            /* the second that `date` tells */
    char date[LT_HTTP_DATE_LEN + 1];
    px_scope leaving; /* connections of these listeners are asked to leave, since: */
    uint64_t leaving_since_ns;
    struct lt_vec inherited; /* of struct px_socket, owned: no listener has taken them yet */
    bool holds_accept;
    px_scope stopped;  /* these listeners accept nothing any more */
    bool check_failed; /* /healthcheck/fail */
    bool is_draining;  /* no listener is left */
};

/* The caller holds the text, and gives it back with px_text_drop. */
const char *px_intern(struct px_worker *worker, lt_str text);
enum { PX_REQUESTS_IDLE = 4 /* objects that an idle worker keeps */ };
/* Something went into a free list: what stays there for a second goes back to the system. */
void px_trim_later(struct px_worker *worker);
/* free() at the end of this turn. */
void px_bury(struct px_worker *worker, void *memory);
void px_bury_conn(struct px_worker *worker, struct px_conn *conn);
void px_bury_upstream(struct px_worker *worker, struct px_upstream *up);

static inline uint64_t px_now_ns(const struct px_worker *worker)
{
    return lt_loop_now_ns(worker->loop);
}

#endif
