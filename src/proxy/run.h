/*
 * proxy/run.h - private to the run time of the proxy (worker.c, listener.c, conn.c, http*.c, tcp.c,
 * cluster.c, upstream.c): the structs of one worker and how they hold on to each other. Everything
 * here belongs to one thread.
 *
 *   px_worker --< px_listener --< px_conn --- px_request --- px_upstream >-- px_host >-- px_cluster
 *                                   |  (http)                    (pooled, h1)
 *                                   +-- px_tcp --------------- px_upstream
 *
 * Frozen configuration is read through a px_pin: whoever keeps a pointer into a snapshot beyond one
 * call holds the pin.
 */
#ifndef LT_PROXY_RUN_H
#define LT_PROXY_RUN_H

#include "base/env.h"
#include "base/list.h"
#include "base/vec.h"
#include "http/h1.h"
#include "net/handover.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/sock.h"
#include "proxy/conf.h"
#include "proxy/flags.h"
#include "proxy/intern.h"
#include "proxy/telemetry.h"

struct px_worker;
struct px_request;
struct px_tcp;
struct px_h2_link;

typedef enum { PX_PROTO_RAW, PX_PROTO_H1, PX_PROTO_H2 } px_protocol;

/* --- the snapshot in use --- */

struct px_pin {
    struct px_snapshot *snapshot; /* given back to the main thread when the last user leaves */
    struct px_worker *worker;
    uint32_t users; /* the worker itself counts as one while it is current */
};

struct px_pin *px_pin_take(struct px_pin *pin);
void px_pin_drop(struct px_pin **pin);

/* --- input: a block from the worker's free list, read in place --- */

enum { PX_BLOCK_BYTES = 16 * 1024 };

/*
 * [0, floor) is kept: a head whose slices are in use. [floor, pos) is done with, [pos, end) is
 * unread. No memory is held while there is nothing to keep and nothing unread.
 */
struct px_input {
    char *data; /* owned; NULL: none */
    uint32_t cap, floor, pos, end;
    bool
        end_is_near; /* epoll told of the peer's end: no edge will come again, so read until then */
};

static inline lt_str px_input_unread(const struct px_input *in)
{
    return lt_str_make(in->data + in->pos, in->end - in->pos);
}

/*
 * One read into the block. LT_OK, LT_AGAIN, LT_EOF, LT_E_CLOSED, LT_E_TLS as the transport says;
 * LT_E_LIMIT when the block is full of unread bytes. *can_read is cleared when the socket is known
 * to be empty.
 */
LT_MUST lt_rc px_input_read(struct px_worker *worker, struct px_input *in,
                            struct lt_transport *transport, bool *can_read);
/*
 * Makes the block larger, up to cap bytes; LT_E_LIMIT when it is as large already. Slices into it
 * are dead afterwards.
 */
LT_MUST lt_rc px_input_grow(struct px_worker *worker, struct px_input *in, uint32_t cap);
/*
 * When the kept head is longer than floor_max, what is unread moves to a fresh block. Returns the
 * old one, which holds the head still: the caller frees it with free(). NULL: nothing moved.
 */
char *px_input_detach(struct px_worker *worker, struct px_input *in, uint32_t floor_max);
/* What was unread stays, everything before it goes. Gives the block back when nothing is left. */
void px_input_reset(struct px_worker *worker, struct px_input *in);
void px_input_free(struct px_worker *worker, struct px_input *in);

/* --- clusters --- */

struct px_host {
    struct px_cluster *cluster;
    struct lt_addr addr;
    uint32_t weight;
    px_health health;
    uint32_t priority;
    const struct px_tls_conf *tls; /* of the cluster's conf; NULL: plain */
    uint32_t tls_epoch;   /* grows when that says something else: older connections serve no more */
    const char *workload; /* counted text; endpoint metadata istio.workload, or "" */
    char *name;           /* owned; "10.0.0.1:80" */
    uint32_t rq_active, cx_active;
    uint64_t rq_total, rq_success, rq_error, cx_total, cx_connect_fail, rq_timeout;
    struct lt_list idle;   /* HTTP/1: of px_upstream.link, newest first */
    struct lt_list shared; /* HTTP/2: of px_upstream.link: connecting or taking streams */
    uint32_t refs;         /* requests and connections, and the cluster while it is listed */
    bool is_listed;
    uint64_t used_ns; /* ORIGINAL_DST: when it was picked last */
};

enum { PX_CLUSTER_STATS = 14 };
typedef enum {
    PX_STAT_CX_TOTAL,
    PX_STAT_CX_CONNECT_FAIL,
    PX_STAT_CX_CONNECT_TIMEOUT,
    PX_STAT_CX_OVERFLOW,
    PX_STAT_RQ_TOTAL,
    PX_STAT_RQ_COMPLETED,
    PX_STAT_RQ_RETRY,
    PX_STAT_RQ_RETRY_SUCCESS,
    PX_STAT_RQ_TIMEOUT,
    PX_STAT_RQ_PENDING_TOTAL,
    PX_STAT_RQ_PENDING_OVERFLOW,
    PX_STAT_RQ_PER_TRY_TIMEOUT,
    PX_STAT_CX_DESTROY,
    PX_STAT_RQ_NONE_HEALTHY,
} px_cluster_stat;

struct px_cluster {
    struct px_worker *worker;
    char *name;        /* owned; also the key in worker->clusters */
    const char *label; /* counted text; the name, for reports */
    const char *service_host, *service_name, *service_namespace; /* the same; of conf */
    const struct px_cluster_conf *conf; /* of the worker's current snapshot */
    const struct px_endpoints_conf *endpoints;
    struct lt_vec hosts;   /* of px_host, counted */
    struct lt_map by_addr; /* ORIGINAL_DST: host name -> px_host */
    uint32_t next;         /* round robin */
    uint32_t cx_active, rq_active, retries_active, pending;
    struct lt_list waiting;   /* of px_request.wait_link: no connection may be made for them now */
    struct lt_list wake_link; /* in worker->to_wake */
    uint32_t users;           /* requests and TCP connections that point here; hosts go with them */
    struct lt_counter *stats[PX_CLUSTER_STATS];
    bool is_gone;       /* not in the snapshot any more; freed when nothing refers to it */
    struct px_pin *pin; /* then: of the last snapshot that had it, for conf */
    bool has_weights;
};

/* Finds or makes the run-time cluster; NULL when the snapshot has none of that name. */
struct px_cluster *px_cluster_get(struct px_worker *worker, lt_str name);
/*
 * After a new snapshot: takes over what changed, drops what went. before: the snapshot until now;
 * NULL: none.
 */
void px_clusters_update(struct px_worker *worker, struct px_pin *before);
/* Task: px_worker.wake. */
void px_clusters_wake(struct lt_task *task);
void px_clusters_free(struct px_worker *worker);
/*
 * A host by the cluster's policy; NULL when there is none. avoid: hosts that were tried already.
 * original_dst: for clusters of that kind; may be NULL. The caller takes a count (px_host_take) if
 * it keeps it.
 */
struct px_host *px_cluster_pick(struct px_cluster *cluster, const struct lt_addr *original_dst,
                                struct px_host *const *avoid, size_t avoid_count,
                                uint32_t attempts);
struct px_host *px_host_take(struct px_host *host);
void px_host_drop(struct px_host **host);
static inline void px_cluster_count(struct px_cluster *cluster, px_cluster_stat stat)
{
    lt_counter_add(cluster->stats[stat], 1);
}
/* Holds the cluster, so that it outlives its removal from the configuration. */
struct px_cluster *px_cluster_take(struct px_cluster *cluster);
void px_cluster_drop(struct px_cluster **cluster);
/* A connection or a request slot came free: at the end of this turn those that wait try again. */
void px_cluster_wake(struct px_cluster *cluster);

/* --- upstream connections --- */

typedef enum { PX_UP_CONNECTING, PX_UP_HANDSHAKE, PX_UP_OPEN, PX_UP_CLOSED } px_up_state;

struct px_upstream {
    struct lt_list link; /* in host->idle, or in host->shared */
    struct px_worker *worker;
    struct px_host *host; /* counted */
    struct px_pin *pin;   /* until the handshake is done */
    struct lt_transport transport;
    struct lt_io io;
    struct lt_timer timer; /* connecting: connect timeout; idle: idle timeout */
    px_up_state state;
    px_protocol protocol; /* what is spoken, or will be */
    bool asks_alpn;       /* the protocol is what the handshake says */
    struct px_input in;
    struct lt_h1_parser parser;
    struct px_request *request; /* HTTP/1: whom it serves; NULL: idle */
    struct lt_list requests; /* HTTP/2: of px_request.up_link: served, or waiting for it to stand */
    struct px_h2_link *h2;   /* owned; HTTP/2 once it stands */
    struct px_tcp *tcp;
    uint64_t opened_ns;
    uint64_t idle_ns;   /* since when it is idle */
    uint32_t served;    /* requests so far */
    uint32_t tls_epoch; /* of the host when this connection was made */
    bool can_read, can_write;
    bool timed_out;
    bool is_reused;     /* it served another request before this one */
    bool takes_no_more; /* HTTP/2: no new streams; it ends with its last */
    char *failure;      /* owned; why it failed, for logs; or NULL */
};

/* Why a connection does not come to stand. */
typedef enum { PX_FAILED_REMOTE, PX_FAILED_LOCAL, PX_FAILED_TIMEOUT } px_failed_how;
struct px_failed {
    px_failed_how how;
    const char *reason; /* "delayed connect error: Connection refused", or ""; for the call */
};

/* What a connection is made for. */
struct px_connect {
    px_protocol protocol;
    bool asks_alpn;     /* the handshake chooses between HTTP/1.1 and HTTP/2 */
    const lt_str *alpn; /* instead of the cluster's; count 0: the cluster's */
    size_t alpn_count;
    struct px_request *request; /* one of these */
    struct px_tcp *tcp;
};

/* A fresh connection, in progress. NULL: refused at once, *ret_failed says why. */
struct px_upstream *px_upstream_connect(struct px_host *host, const struct px_connect *how,
                                        struct px_failed *ret_failed);
/*
 * One of the host that can take how->request now or, HTTP/2, will: an idle one becomes the
 * request's, a shared one gets it among its own. NULL: none. *ret_stands: it need not be waited for.
 */
struct px_upstream *px_upstream_reuse(struct px_host *host, const struct px_connect *how,
                                      bool *ret_stands);
/*
 * HTTP/1 and raw: back to the pool (only when the response is complete and the connection can carry
 * another), or closed.
 */
void px_upstream_release(struct px_upstream **upstream, bool is_reusable);
/* HTTP/2: the request is none of its own any more; its stream was ended by the caller. */
void px_upstream_unshare(struct px_request *request);
/* HTTP/2: it is lost; the requests on it find their streams ended and go on. */
void px_upstream_break(struct px_upstream *up);
void px_host_close_idle(struct px_host *host);

/* --- listeners and downstream connections --- */

struct px_listener {
    struct px_worker *worker;
    const struct px_listener_conf *conf; /* of the worker's current snapshot */
    struct lt_io io;                     /* fd -1 when it does not bind */
    char address[LT_ADDR_TEXT_MAX];      /* the key in worker->by_address */
    uint64_t connections;
};

LT_MUST lt_rc px_listeners_update(struct px_worker *worker, struct lt_err *err);
/*
 * The listener whose address is the destination, else the one of any address at that port, else
 * NULL.
 */
struct px_listener *px_listener_for(struct px_worker *worker, const struct lt_addr *destination);
void px_listeners_close(struct px_worker *worker);

/* handed.c: sockets of another network (px_workers_hand); the listeners have changed. */
void px_handed_take(struct px_worker *worker, const struct lt_handover *message, int fd);
void px_handed_follow(struct px_worker *worker);
void px_handed_free(struct px_worker *worker);

typedef enum {
    PX_CONN_INSPECT,
    PX_CONN_HANDSHAKE,
    PX_CONN_SNIFF, /* HTTP, and the first bytes will say which */
    PX_CONN_HTTP,
    PX_CONN_H2,
    PX_CONN_TCP,
    PX_CONN_LINGER,
    PX_CONN_INSIDE, /* stands for the client of requests that have none (inside.h) */
    PX_CONN_CLOSED
} px_conn_state;

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
    uint64_t drained_at_ns; /* its listener went: open until then at most; 0: not so */
    px_conn_state state;
    bool can_read, can_write, saw_eof;
    bool is_draining; /* the next response says "connection: close" */
    bool is_closing;  /* the response in hand was the last: close when it is out */
    struct px_input in;
    struct lt_addr peer;
    struct lt_addr local;  /* original destination when there is one */
    const char *principal; /* counted text; the verified peer's URI SAN, "" when there is none */
    const char *requested_server_name; /* counted text; SNI */
    struct lt_h1_parser parser;
    struct lt_h1_limits limits; /* of request heads; max_request_headers_kb */
    struct px_request *request; /* HTTP/1: the one in hand; owned */
    struct px_h2_link *h2;      /* HTTP/2: owned */
    struct lt_list streams;     /* HTTP/2: of px_request.conn_link; owned */
    struct px_tcp *tcp;         /* TCP: owned */
    uint64_t id;
};

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
/* Something may have changed: go on. */
void px_conn_run(struct px_conn *conn);
/*
 * Its listener went or changed: the response in hand is the last, and after the drain time it ends
 * in any case.
 */
void px_conn_drain(struct px_conn *conn, uint64_t drain_ms);
/* When nothing happens until then the connection is closed (HTTP: the request times out). */
void px_conn_set_deadline(struct px_conn *conn, uint64_t after_ms);

/* --- HTTP (request.h and its neighbours) --- */

void px_h1_start(struct px_conn *conn);
void px_h1_run(struct px_conn *conn);
void px_h1_timeout(struct px_conn *conn);
/* The connection is going: its request too. */
void px_h1_abort(struct px_conn *conn);
void px_h2_start(struct px_conn *conn);
void px_h2_run(struct px_conn *conn);
void px_h2_timeout(struct px_conn *conn);
void px_h2_abort(struct px_conn *conn);
/* GOAWAY, and the end when the last stream has gone. */
void px_h2_drain(struct px_conn *conn);

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

struct px_side {
    struct px_input *in;
    struct lt_transport *from, *to;
    bool *can_read, *can_write;
    bool *ended, *end_sent; /* from has ended; to was told */
    uint64_t *count;        /* bytes written */
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

void px_tcp_start(struct px_conn *conn);
void px_tcp_run(struct px_conn *conn);
void px_tcp_timeout(struct px_conn *conn);
void px_tcp_abort(struct px_conn *conn);
void px_tcp_on_upstream(struct px_tcp *tcp);
/* The connection is gone already. */
void px_tcp_on_upstream_failed(struct px_tcp *tcp, const struct px_failed *failed);
/* Timer: px_worker.tcp_tell. */
void px_tcp_on_tell(struct lt_timer *timer, uint64_t now_ns);

/* --- the worker --- */

struct px_workers;

struct px_worker {
    struct px_workers *owner;
    unsigned index;
    struct lt_loop *loop;
    struct lt_mailbox *mailbox;
    const struct lt_env *env;
    struct px_pin *pin;      /* the current snapshot; NULL before the first */
    struct lt_map clusters;  /* name -> struct px_cluster, owned */
    struct lt_map listeners; /* name -> struct px_listener, owned */
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
    struct lt_timer trim;    /* set while more is kept than an idle worker needs */
    struct px_interns interns;
    struct lt_list tcp_untold; /* of px_tcp: bytes that the metrics don't know yet, oldest first */
    struct lt_timer tcp_tell;  /* set while there are such */
    struct lt_prng prng;
    struct lt_metric_set *metrics;
    struct px_telemetry *telemetry;
    struct px_access_logger *access_log;
    struct lt_list inside;       /* of struct px_fetch.link (inside.c) */
    struct px_conn *inside_conn; /* owned; NULL until the first of them */
    struct lt_list ready;        /* of px_request.ready_link */
    struct lt_list dirty;        /* of px_h2_link.dirty */
    struct lt_list buried;       /* of px_request.wait_link: GONE, freed at the end of the turn */
    struct lt_task turn;         /* px_http_turn */
    struct lt_list to_wake;      /* of px_cluster.wake_link */
    struct lt_task wake;
    struct lt_vec graveyard; /* freed at the end of the turn: nobody's callback may find it gone */
    struct lt_task bury;
    uint64_t next_conn_id;
    const char *own_principal; /* counted text; our own certificate's URI SAN, or "" */
    int64_t date_s;            /* the second that `date` tells */
    char date[LT_HTTP_DATE_LEN + 1];
    bool is_ending;   /* connections are told so */
    bool is_draining; /* no listener is left */
};

/* The caller holds the text, and gives it back with px_text_drop. */
const char *px_intern(struct px_worker *worker, lt_str text);
enum { PX_REQUESTS_IDLE = 4 /* objects that an idle worker keeps */ };
/* Something went into a free list: what stays there for a second goes back to the system. */
void px_trim_later(struct px_worker *worker);
/* free() at the end of this turn. */
void px_bury(struct px_worker *worker, void *memory);

static inline uint64_t px_now_ns(const struct px_worker *worker)
{
    return lt_loop_now_ns(worker->loop);
}

#endif
