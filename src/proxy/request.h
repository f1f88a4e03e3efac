/*
 * proxy/request.h - private to http*.c: one HTTP request, from its first byte to its last trace. A
 * request lives in an object that is used again; its arena is reset in between. Head slices point
 * into the connections' input blocks, which keep a head in place (px_input.floor) until the request
 * is done.
 */
#ifndef LT_PROXY_REQUEST_H
#define LT_PROXY_REQUEST_H

#include "base/buf.h"
#include "proxy/access_log.h"
#include "proxy/run.h"

typedef enum {
    PX_RQ_HEAD,    /* its head is not complete */
    PX_RQ_WAIT,    /* for a free connection or request slot of the cluster, or a retry's back-off */
    PX_RQ_CONNECT, /* for an upstream connection to stand */
    PX_RQ_FLOW,    /* request goes up, response comes down */
    PX_RQ_REPLY,   /* a reply of our own is being written */
    PX_RQ_TUNNEL,  /* after 101: bytes both ways */
    PX_RQ_DONE,
} px_rq_state;

enum { PX_RQ_HOSTS_MAX = 8, PX_RQ_HEADS_MAX = 128 * 1024, PX_REPLAY_MAX = 64 * 1024 };

struct px_request {
    struct lt_list wait_link; /* in cluster->waiting, or in the worker's free list */
    struct px_worker *worker;
    struct px_conn *conn;
    struct px_pin *pin;     /* of routes and clusters; the connection's own pin holds hcm */
    struct lt_arena *arena; /* owned; reset between requests */
    const struct px_hcm_conf *hcm;
    const struct px_routes_conf *routes;
    const struct px_vhost *vhost;
    const struct px_route *route;
    const struct px_weighted_cluster *weighted;
    struct px_cluster *cluster;
    struct px_host *host;   /* counted */
    struct px_upstream *up; /* owned */
    px_rq_state state;

    /* the request */
    struct lt_http_head head;
    lt_str method, path, authority, scheme; /* as they go on: normalised, rewritten */
    lt_str original_path;                   /* when it was rewritten, else empty */
    char *head_block,
        *rhead_block;     /* owned; set when a large head moved out of the way (px_input_detach) */
    struct lt_buf up_out; /* head for the upstream connection, what is not written yet */
    lt_str up_piece;      /* of the body: slice of conn->in, not written yet */
    size_t up_piece_used; /* bytes of conn->in that are done with when the piece is out */
    struct lt_buf replay; /* body as sent so far, for a retry */
    bool client_ended, client_end_sent, server_ended, server_end_sent; /* tunnel */
    bool is_parsed, is_sent; /* the last byte was read; was written */
    bool replay_is_whole;    /* everything sent so far is in it */
    bool resends;            /* this try begins with what the replay holds */
    size_t replayed;         /* bytes of the replay that were written in this try */
    bool has_reached_up; /* some byte was written in this try: the application may have seen it */
    bool sends_raw;      /* chunked framing goes through as it came */

    /* the response */
    struct lt_http_head rhead;
    bool has_rhead, rhead_begun; /* complete; made ready to be filled */
    struct lt_headers trailers;
    struct lt_buf down_out;
    lt_str down_piece;
    size_t down_piece_used;
    bool response_begun;  /* bytes of it were made for the client: no retry any more */
    bool response_parsed; /* its last byte was read */
    bool up_keeps_alive;
    bool up_is_reusable; /* when it is done */
    bool response_raw;   /* chunk framing passed through */
    bool down_chunked;   /* we frame the response ourselves */

    /* what is told about it */
    uint64_t start_ns, request_end_ns, response_begin_ns, up_start_ns;
    int64_t start_wall_ns;
    uint64_t bytes_received, bytes_sent; /* bodies, for logs */
    uint64_t wire_received, wire_sent;   /* with heads, for metrics */
    uint32_t code, flags;
    const char *details;
    const char *peer_principal;
    char failure[96];     /* transport failure reason */
    struct px_peer *peer; /* counted */
    bool peer_asked;      /* the client sent its metadata: it gets ours */
    bool is_grpc;
    bool is_overloaded; /* the reply says x-envoy-overloaded */
    lt_str location;    /* of a redirect */

    /* tries */
    uint32_t attempts, interim_count;
    struct px_host *tried[PX_RQ_HOSTS_MAX]; /* counted */
    uint32_t tried_count;
    bool counts_retry, counts_pending, counts_active;
    struct lt_timer timer;     /* route timeout */
    struct lt_timer try_timer; /* per try timeout, or back-off */
    uint64_t random;
};

/* --- request.c: from head to upstream --- */
/* The only way to change it; a move that is not in the table of moves is our bug. */
void px_request_set_state(struct px_request *request, px_rq_state state);
struct px_request *px_request_new(struct px_conn *conn);
void px_request_free(struct px_request *request);
/* The head is parsed: checks it, finds the route, starts. */
void px_request_start(struct px_request *request);
/* Picks a host and a connection; may end in a reply. */
void px_request_try(struct px_request *request);
/* What the try held: connection, counters. is_reusable: the connection goes back to the pool. */
void px_request_leave_upstream(struct px_request *request, bool is_reusable);

/* --- edits.c: what a proxy does to heads --- */
LT_MUST lt_rc px_request_edit(struct px_request *request);
LT_MUST lt_rc px_response_edit(struct px_request *request);
void px_request_log_facts(struct px_request *request, struct px_log_facts *facts,
                          char text[4][LT_ADDR_TEXT_MAX]);
LT_MUST lt_rc px_request_write_head(struct px_request *request);
LT_MUST lt_rc px_response_write_head(struct px_request *request);

/* --- flow.c: both directions --- */
void px_request_flow(struct px_request *request);
void px_request_tunnel(struct px_request *request);

/* --- retry.c --- */
typedef enum { PX_FAIL_CONNECT, PX_FAIL_RESET_BEFORE, PX_FAIL_RESET, PX_FAIL_TIMEOUT } px_failure;
/* True: another try is under way (or waits for its back-off). */
bool px_request_retry_failure(struct px_request *request, px_failure failure);
bool px_request_retry_status(struct px_request *request);
/* The policy's verdict alone, for tests. */
bool px_retry_covers_status(const struct px_retry *retry, uint32_t code, lt_str grpc_status);
bool px_retry_covers_failure(const struct px_retry *retry, px_failure failure);

/* --- reply.c --- */
/*
 * Ends the upstream try and answers by itself; after a response has begun the connection is closed
 * instead.
 */
void px_request_reply(struct px_request *request, uint32_t code, uint32_t flags,
                      const char *details, lt_str body, const char *content_type);
/* Metrics, log, counters. */
void px_request_report(struct px_request *request);

#endif
