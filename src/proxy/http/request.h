/*
 * proxy/http/request.h - private to the HTTP files of the data path: one request, from its first
 * byte to its last trace, whatever version of HTTP it came in and goes on in.
 *
 *   client ──> px_down ──> req ──> px_up ──> host          px_down   down_h1.c, down_h2.c
 *          <── (codec) <── resp <── (codec) <──            px_up     up_h1.c, up_h2.c
 *
 * Both sides are spoken to by small tables of functions; flow.c moves pieces of body between them
 * and knows no version. What the proxy does to a request on its way are steps (filter.h), the last
 * of which is the router (router.c).
 * A request lives in an object that is used again; its arena is reset in between. Head slices of
 * HTTP/1 point into the connections' input blocks, which keep a head in place (px_input.floor)
 * until the request is done.
 */
#ifndef LT_PROXY_HTTP_REQUEST_H
#define LT_PROXY_HTTP_REQUEST_H

#include "base/buf.h"
#include "base/rope.h"
#include "http/h2.h"
#include "proxy/conf/route_match.h"
#include "proxy/http/filter.h"
#include "proxy/http/inside.h"
#include "proxy/run/run.h"
#include "proxy/told/access_log.h"

typedef enum {
    PX_RQ_HEAD,    /* its head is not complete */
    PX_RQ_FILTER,  /* a filter waits for something */
    PX_RQ_WAIT,    /* for a free connection or request slot of the cluster, or a retry's back-off */
    PX_RQ_CONNECT, /* for an upstream connection to stand */
    PX_RQ_FLOW,    /* request goes up, response comes down */
    PX_RQ_REPLY,   /* a reply of our own is being written */
    PX_RQ_DONE,
    PX_RQ_GONE, /* it ended early; its memory goes at the end of this turn */
} px_rq_state;

enum { PX_RQ_HOSTS_MAX = 8, PX_RQ_HEADS_MAX = 128 * 1024 };

/* One direction of a body: what was read from one side and is not written to the other yet. */
struct px_dir {
    lt_str piece;           /* read, not written; borrowed from the source until took() */
    struct lt_bytes *owner; /* borrowed: of the piece, when it is counted; else NULL */
    size_t piece_used;      /* bytes that the source forgets with the piece; 0: took() was called */
    struct lt_rope rx;      /* HTTP/2: received, not yet a piece */
    struct lt_headers *trailers; /* in the request's arena; NULL: none */
    bool rx_ended;               /* HTTP/2: nothing will be added to rx */
    bool is_read;                /* the piece in hand is the last */
    bool is_sent;                /* and all of it was written, with its end */
    bool is_raw;                 /* HTTP/1 to HTTP/1: chunk framing goes through as it came */
    bool is_chunked;             /* the sink frames each piece as a chunk */
    bool is_framed;              /* is_chunked: the last chunk was written */
    uint64_t body_bytes;
    uint64_t wire_bytes; /* with heads and framing, for metrics */
};

/* Why an upstream try broke off. */
typedef enum {
    PX_BROKE_TERMINATION, /* the connection ended */
    PX_BROKE_RESET,       /* HTTP/2: the host reset the stream */
    PX_BROKE_REFUSED,     /* HTTP/2: refused, or never looked at (GOAWAY): may be sent again */
    PX_BROKE_PROTOCOL,    /* what came is no HTTP */
    PX_BROKE_CONNECT,     /* HTTP/2: what the host connected to broke */
} px_broke;

/*
 * The client's side. LT_E_CLOSED from any of them: the client has gone. None of them calls the
 * request back.
 */
struct px_down {
    px_protocol protocol;
    /*
     * The next piece of the request's body into req, reading what is there. LT_AGAIN; LT_E_BAD: the
     * client broke the framing.
     */
    lt_rc (*next)(struct px_request *request);
    /* req.piece is empty and was not taken back yet: forget it, give credit. */
    void (*took)(struct px_request *request);
    /* The response's head (request->rhead) is complete; it goes out with the first send. */
    lt_rc (*head)(struct px_request *request);
    lt_rc (*interim)(struct px_request *request, const struct lt_http_head *head);
    /* Head, piece and, when resp.is_read, the end. LT_OK: all of it is written. LT_AGAIN. */
    lt_rc (*send)(struct px_request *request);
    /* Something moved: the idle timeout starts again. 0: none. */
    void (*touch)(struct px_request *request, uint64_t idle_ms);
    /* It ends here, half done: the client must be able to tell. The request is GONE afterwards. */
    void (*abort)(struct px_request *request);
    /* Goes on where it stands; may end in DONE or GONE, and frees it then. */
    void (*run)(struct px_request *request);
};

/* The upstream connection's side, of one try. LT_E_IO: it broke, request->broke says how. */
struct px_up {
    px_protocol protocol;
    /* The connection stands and is the request's: make the head. LT_E_LIMIT: it is too large. */
    lt_rc (*start)(struct px_request *request);
    /* Head, piece and, when req.is_read, the end. LT_OK: all of it is written. LT_AGAIN. */
    lt_rc (*send)(struct px_request *request);
    /*
     * The next head, interim or final, into rhead. LT_AGAIN; LT_E_BAD: it is no HTTP. */
    lt_rc (*next_head)(struct px_request *request);
    lt_rc (*next)(struct px_request *request);
    void (*took)(struct px_request *request);
    /* The connection is free again, or ends; a stream is reset when it is not complete. */
    void (*leave)(struct px_request *request, bool is_reusable);
};

/* Timeouts that few configurations have. */
struct px_rare_timers {
    struct px_request *request;
    struct lt_timer try_idle; /* per_try_idle_timeout */
    struct lt_timer log;      /* access_log_flush_interval */
    struct lt_timer try_life; /* max_stream_duration of the cluster */
};

struct px_old_pin {
    struct px_pin *pin;
    struct px_old_pin *next;
};

struct px_request {
    struct lt_list wait_link;  /* in cluster->waiting, or in the worker's free list */
    struct lt_list ready_link; /* in worker->ready: runs at the end of this turn */
    struct lt_list conn_link;  /* HTTP/2: in conn->streams */
    struct lt_list up_link;    /* in up->requests */
    struct px_worker *worker;
    struct px_conn *conn;
    struct px_pin *pin;          /* of routes and clusters; the connection's own pin holds hcm */
    struct px_old_pin *old_pins; /* px_request_renew; in the arena */
    struct lt_arena *arena;      /* owned; reset between requests */
    const struct px_down *down;
    px_protocol client_protocol; /* that of down, or of the request that this is a copy of */
    const struct px_hcm_conf *hcm;
    const struct px_routes_conf *routes;
    const struct px_vhost *vhost;
    const struct px_route *route;
    const struct px_weighted_cluster *weighted;
    struct px_cluster *cluster;
    struct px_host *host;   /* counted */
    struct px_upstream *up; /* HTTP/1: owned; HTTP/2: shared, this is in up->requests; or NULL */
    const struct px_up *up_codec;     /* of the try; NULL: none has stood yet */
    struct lt_h2_stream *down_stream; /* HTTP/2; NULL once it has closed */
    struct lt_h2_stream *up_stream;   /* HTTP/2; NULL before it is open and once it has closed */
    px_rq_state state;
    px_broke broke;

    /* the request */
    struct lt_http_head head;
    lt_str method, path, authority, scheme; /* as they go on: normalised, rewritten */
    lt_str original_path;                   /* when it was rewritten, else empty */
    char *head_block,
        *rhead_block; /* owned; set when a large head moved out of the way (px_input_detach) */
    struct px_dir req, resp;
    struct lt_buf up_out;   /* HTTP/1: head for the upstream connection, framing */
    struct lt_buf replay;   /* body as sent so far, for a retry; or held back by a filter */
    bool replay_is_whole;   /* everything read so far is in it */
    bool is_on_used;        /* this try's connection stood before it */
    bool was_replayed;      /* beyond the policy (retry.c) */
    bool resends;           /* what the replay holds comes before what the client sends */
    bool was_read;          /* resends: req.is_read as it was */
    bool is_framing_chosen; /* req.is_raw is for all tries */
    bool up_end_said;       /* HTTP/2: the stream's end was queued */
    bool has_said_continue; /* the client has its 100 */
    bool has_reached_up;  /* some byte was written in this try: the application may have seen it */
    bool is_tunnel;       /* bytes of something else both ways */
    bool keeps_body;      /* for retries, or redirects that are followed here */
    bool client_has_gone; /* HTTP/2: its stream has closed before we were done */

    /* the response */
    struct lt_http_head rhead;
    bool has_rhead;   /* complete */
    bool rhead_begun; /* made ready to be filled */
    struct lt_buf down_out;
    bool response_begun; /* bytes of it were made for the client: no retry any more */
    bool up_keeps_alive;
    bool up_is_reusable; /* when it is done */

    /* steps */
    uint32_t filter_at;                /* the one that runs, or waits */
    uint64_t filters_off;              /* a bit for each that does not run for this request */
    const struct px_meta *meta;        /* dynamic metadata; in the arena */
    const struct px_state *state_list; /* filter state; in the arena */
    const struct lt_addr *remote;      /* the original client's; NULL: the connection's peer */
    void **filter_states;              /* in the arena; NULL: none was asked for */

    bool wants_pieces;                 /* some step looks at bodies */
    struct px_pace *pace;              /* of the response; in the arena; NULL: as fast as it can */
    const struct px_grpc_counts *grpc; /* in the arena; NULL: nobody counts messages */

    struct px_mirror **mirrors; /* in the arena; those whose body is not complete; NULL: ended */
    size_t mirror_count;

    /* what is told about it */
    uint64_t start_ns, request_end_ns, response_begin_ns, up_start_ns;
    int64_t start_wall_ns;
    uint32_t code, flags;
    const char *details;
    const char *peer_principal; /* counted text; of the upstream connection, or "" */
    const char *failure;        /* transport failure reason, in the arena; NULL */
    struct px_peer *peer;       /* counted */
    bool peer_asked;            /* the client sent its metadata: it gets ours */
    bool is_grpc;
    struct lt_headers *reply_headers; /* in the arena; px_reply_header */
    uint32_t reply_grpc_status;       /* of a reply to gRPC; 0: by its code of HTTP */
    bool is_traced;
    struct px_messages *messages; /* messages.h; NULL: no gRPC, or nobody wants to know */
    struct px_trace *trace;       /* in the arena; what the host is told; NULL: nothing */
    const char *reply_mark;       /* x-envoy-overloaded and the like: the reply says so; NULL */
    bool answers_timeout_with_204;
    bool is_internal;                     /* it comes from where internal_address_config says */
    lt_str location;                      /* of a redirect */
    uint32_t redirects;                   /* that were followed */
    const struct px_hop *hops;            /* of them; in the arena (redirect.c); NULL: none */
    const struct px_decorator *decorator; /* what the client is told; NULL: nothing */
    bool has_operation;                   /* the client has said what it is for */

    uint32_t answered_at; /* index of the filter that answered, and 1; 0: none did */

    /* tries */
    struct px_try_note *tries; /* decisions.h; those that others followed, the latest first */
    uint32_t attempts, interim_count;
    struct px_host *tried[PX_RQ_HOSTS_MAX]; /* counted */
    uint32_t tried_count;
    uint32_t tried_levels,
        spared_levels;     /* a bit for each priority; those that retries leave out */
    bool is_timeout_retry; /* the try before this one lasted too long */
    bool counts_retry, counts_pending, counts_active;
    bool counts_at_host; /* counts_pending, and a connection of the host is on its way */
    bool is_shared_retry, is_shared_pending, is_shared_active; /* px_limit_take */
    struct lt_timer timer;        /* until it is read: request timeout; then the route's */
    struct lt_timer try_timer;    /* per try timeout, or back-off */
    struct lt_timer life_timer;   /* of the whole stream */
    uint64_t timeout_ms;          /* the route's, or the client's by grpc-timeout; 0: none */
    uint64_t try_timeout_ms;      /* of each try; 0: none */
    const struct px_retry *retry; /* the route's, or the request's own (steer.h); NULL: none */
    struct px_rare_timers *rare;  /* in the arena; NULL: none was asked for */
    struct lt_timer idle_timer;   /* HTTP/2 only: HTTP/1 has its connection's */
    uint64_t idle_at_ns;
    uint64_t random;

    uint64_t hash; /* hash_policy.h; once is_hashed says so */
    bool is_hashed, has_hash;
    struct px_hash_cookies *hash_cookies; /* in the arena; NULL: none */
};

/* --- request.c: objects, states, timers, what comes before the steps --- */

/* The only way to change it; a move that is not in the table of moves is our bug. */
void px_request_set_state(struct px_request *request, px_rq_state state);
struct px_request *px_request_new(struct px_conn *conn, const struct px_down *down);
/* Its report was made. Memory is used again at once: for who owns the last pointer. */
void px_request_free(struct px_request *request);
/*
 * Early end: told (px_request_report), taken out of everything, GONE; freed at the end of the turn,
 * so that callers up the stack may still look at its state.
 */
void px_request_bury(struct px_request *request);
/* The head is there: checks it, finds the route, takes the steps. */
void px_request_start(struct px_request *request);
/* Looks for the route again: a step has changed what it was found by. */
void px_request_find_route(struct px_request *request);
/*
 * The same by the worker's newest snapshot; what steps before have found stays valid. False: it is
 * answered.
 */
bool px_request_renew(struct px_request *request);
/* False: that is no path that could be asked for, and nothing was changed. */
bool px_request_set_path(struct px_request *request, lt_str path);
/* What the route says about that type; NULL: nothing. */
const struct px_upgrade_conf *px_route_upgrade(const struct px_route *route, lt_str type);
/* Runs it at the end of this turn: events of HTTP/2 come inside a call of the engine. */
void px_request_ready(struct px_request *request);
static inline void px_request_run(struct px_request *request)
{
    if (request->state != PX_RQ_GONE)
        request->down->run(request);
}
/* As matchers see it; valid while the request does not change. */
static inline struct px_request_facts px_request_match_facts(const struct px_request *request)
{
    return (struct px_request_facts){
        .method = request->method,
        .scheme = request->scheme,
        .authority = request->authority,
        .path = request->path,
        .headers = &request->head.headers,
        .meta = request->meta,
        .transport = &request->conn->transport,
        .random = request->random,
    };
}
/* The original client: of x-forwarded-for, as far as it is trusted. */
static inline const struct lt_addr *px_request_remote(const struct px_request *request)
{
    return request->remote != NULL ? request->remote : &request->conn->peer;
}
struct px_rare_timers *px_request_rare(struct px_request *request);
/* The try moved: its idle timeout starts again. */
static inline void px_request_touch_try(struct px_request *request)
{
    const struct px_retry *retry = request->retry;
    if (retry != NULL && retry->per_try_idle_ms != 0)
        lt_loop_timer_set(request->worker->loop, &px_request_rare(request)->try_idle,
                          retry->per_try_idle_ms * LT_NS_PER_MS);
}
static inline void px_request_touch(struct px_request *request)
{
    uint64_t own_ms = request->route != NULL ? request->route->idle_timeout_ms : UINT64_MAX;
    request->down->touch(request,
                         own_ms != UINT64_MAX ? own_ms : request->hcm->stream_idle_timeout_ms);
}

/* Those of its route; a virtual host that came by itself has none of its route configuration. */
static inline const struct px_mirrors *px_request_mirrors(const struct px_request *request)
{
    const struct px_mirrors *own = &request->route->mirrors;
    return own->count == 0 && request->vhost->is_on_demand ? &request->routes->mirrors : own;
}

static inline px_priority px_request_priority(const struct px_request *request)
{
    return request->route->priority;
}

/* --- deadlines.c: how long it may take --- */
void px_deadlines_begin(struct px_request *request);
/* Its route was found (again). */
void px_deadlines_route(struct px_request *request);
/* The router has it: what the route's timeout is for this request. */
void px_deadlines_router(struct px_request *request);
/* The route's timer: from now, when the whole request was read. */
void px_request_arm_timeout(struct px_request *request);
void px_deadlines_end(struct px_request *request);

/* --- router.c: the last step: cluster, host, connection --- */
/* Where the route would send it; empty: nowhere. */
lt_str px_request_cluster_name(const struct px_request *request);
void px_router_start(struct px_request *request);
/* Picks a host and a connection; may end in a reply. */
void px_request_try(struct px_request *request);
/* request->up stands and is the request's (HTTP/2: has room for it): it goes on, and runs. */
void px_request_attach(struct px_request *request);
/* The connection that it waited for failed and is gone: another try, or a reply; and runs. */
void px_request_connect_failed(struct px_request *request, const struct px_failed *failed);
/* What it waited for went to another: it tries again, and runs. */
void px_request_look_again(struct px_request *request);
/* What the try held: connection, counters. is_reusable: the connection goes back to the pool. */
void px_request_leave_upstream(struct px_request *request, bool is_reusable);
void px_request_forget_hosts(struct px_request *request);

/* --- edits.c: what a proxy does to heads --- */
/* Before the steps: what a client may not say, and what the connection knows. */
LT_MUST lt_rc px_request_sanitize(struct px_request *request);
/* The router's: edits of the configuration, rewrites. */
LT_MUST lt_rc px_request_edit(struct px_request *request);
/* Once for each try. */
LT_MUST lt_rc px_request_edit_try(struct px_request *request);
/* The route's decorator, for the host or for the client. */
void px_request_decorate(struct px_request *request);
LT_MUST lt_rc px_response_edit(struct px_request *request);
/* One edit of a head that is on its way. */
LT_MUST lt_rc px_request_edit_header(struct px_request *request, struct lt_headers *headers,
                                     const struct px_header_edit *edit);
/* A text of the configuration with its %OPERATORS% filled in, in the request's arena. */
LT_MUST lt_rc px_request_format(struct px_request *request, const struct px_format *format,
                                lt_str *ret_text);
enum { PX_FACTS_TEXTS = 5 };
void px_request_log_facts(struct px_request *request, struct px_log_facts *facts,
                          char text[PX_FACTS_TEXTS][LT_ADDR_TEXT_MAX]);

/* --- forward.c: names and addresses, as the connection manager wants them told --- */
/* Before the route is looked for. */
void px_forward_host(struct px_request *request);
/* internal_address_config; before x-forwarded-for is appended to. */
bool px_forward_is_internal(const struct px_request *request);
LT_MUST lt_rc px_forward_request(struct px_request *request);
LT_MUST lt_rc px_forward_response(struct px_request *request);
/* As an HTTP/2 host or one that gets full URLs sees it; request->up stands. */
lt_str px_forward_scheme(const struct px_request *request);

/* --- flow.c: both directions --- */
/* Trailers of HTTP/1 as they were read, if any: copied into their arena. */
void px_dir_keep_trailers(struct px_dir *dir, struct lt_headers *read);
/* HTTP/2: those that came for the stream, which is reset when they are not well formed. */
void px_dir_read_trailers(struct px_dir *dir, struct lt_h2_stream *stream,
                          const struct lt_h2_fields *fields, struct lt_arena *arena,
                          uint32_t bytes_max);
/* The front of what has been received becomes the piece. LT_AGAIN: nothing is there. */
LT_MUST lt_rc px_dir_take(struct px_dir *dir);
/* In FLOW and REPLY; moves what can be moved. */
void px_request_flow(struct px_request *request);
/*
 * Reads the client's body into the replay, for a step that wants it before the request goes on.
 * PX_GO: it is complete, or *ret_is_over tells that there is more than max bytes: what was read so
 * far is held. PX_STAY: it is asked again when more has come. PX_STOP: the client broke it.
 */
px_verdict px_request_hold(struct px_request *request, size_t max, bool *ret_is_over);
/* Nothing of the body has still to come from the client. */
static inline bool px_request_is_read(const struct px_request *request)
{
    return request->resends ? request->was_read : request->req.is_read;
}

/* --- inside.c: copies for mirrors --- */
/* Starts those that the route wants; what was read of the body before goes to them at once. */
void px_request_start_mirrors(struct px_request *request);
void px_request_add_to_mirrors(struct px_request *request, lt_str piece, bool is_end);
void px_request_abort_mirrors(struct px_request *request);

/* --- retry.c --- */
typedef enum {
    PX_FAIL_CONNECT,
    PX_FAIL_RESET_BEFORE,
    PX_FAIL_RESET,
    PX_FAIL_REFUSED,
    PX_FAIL_TIMEOUT,
} px_failure;
/* True: another try is under way (or waits for its back-off). */
bool px_request_retry_failure(struct px_request *request, px_failure failure);
bool px_request_retry_status(struct px_request *request);
/* Everything as it was before the first try; what the client has sent is in the replay. */
void px_request_rewind(struct px_request *request);
/* The response was read whole: its connection may be used again. */
bool px_request_has_whole(const struct px_request *request);
/* The policy's verdict alone, for tests. */
bool px_retry_covers_status(const struct px_retry *retry, uint32_t code, lt_str grpc_status);
bool px_retry_covers_failure(const struct px_retry *retry, px_failure failure);

/* --- redirect.c --- */
/* True: the response is a redirect that the proxy follows itself, and the request begins again. */
bool px_request_follow(struct px_request *request);

/* --- reply.c --- */
/*
 * Ends the upstream try and answers by itself; after a response has begun the request is aborted
 * instead (GONE).
 */
void px_request_reply(struct px_request *request, uint32_t code, uint32_t flags,
                      const char *details, lt_str body, const char *content_type);
/* A field of the reply's head; before px_request_reply. name and value are borrowed. */
void px_reply_header(struct px_request *request, lt_str name, lt_str value);
/* All of them. */
struct lt_headers *px_reply_headers(struct px_request *request);
/* The upstream broke off: a retry, or the reply that says so. */
void px_request_broke(struct px_request *request);
void px_request_tell_messages(struct px_request *request, const struct px_message_result *result);
/* Metrics, log, counters. */
void px_request_report(struct px_request *request);
/* Lines before that, PX_LOG_TYPE_*. */
void px_request_log(struct px_request *request, uint32_t type);
/* Of those that are wanted on the way. */
void px_request_log_on_way(struct px_request *request);

/* --- h1_out.c: what both HTTP/1 sides write --- */
/*
 * Frames what is to be framed, then writes out and piece; LT_OK: nothing is left. *ret_put: bytes
 * that went. trailers: behind the last chunk; NULL: none.
 */
LT_MUST lt_rc px_h1_write(struct px_dir *dir, struct lt_buf *out, const struct lt_headers *trailers,
                          struct lt_transport *transport, bool *can_write, size_t *ret_put);

/* --- up_h2.c: of the shared connection --- */
void px_up_h2_open(struct px_upstream *up);
bool px_up_h2_has_room(const struct px_upstream *up);

extern const struct px_down px_down_h1, px_down_h2, px_down_inside;
extern const struct px_up px_up_h1, px_up_h2, px_up_raw;

/* --- up_raw.c: bytes of something else, on a connection that is the request's alone --- */
LT_MUST lt_rc px_up_raw_next(struct px_request *request);

#endif
