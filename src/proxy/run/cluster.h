/*
 * proxy/run/cluster.h - private to the run time: clusters, their hosts, connections to them, of one
 * worker. A part of run.h.
 *   cluster.c: life, who waits      hosts.c: hosts, their health, choosing one
 *   limits.c: circuit breakers      cluster_stats.c: counters       upstream.c: connections
 */
#ifndef LT_PROXY_RUN_CLUSTER_H
#define LT_PROXY_RUN_CLUSTER_H

#include "base/list.h"
#include "base/metric.h"
#include "base/vec.h"
#include "http/h1.h"
#include "net/loop.h"
#include "proxy/conf/conf.h"
#include "proxy/lb/lb.h"
#include "proxy/lb/shared.h"
#include "proxy/run/input.h"

struct px_worker;
struct px_pin;
struct px_request;
struct px_tcp;
struct px_h2_link;

typedef enum { PX_PROTO_RAW, PX_PROTO_H1, PX_PROTO_H2 } px_protocol;

/* --- hosts --- */

struct px_host {
    struct px_lb_host lb; /* first: what the balancer returns is the host */
    struct px_cluster *cluster;
    struct lt_addr addr;
    const struct px_endpoint_facts *facts; /* of the cluster's endpoints; NULL: none, or unlisted */
    struct px_host_state *state;           /* of the cluster's snapshot; NULL: none */
    px_health eds_health;
    uint32_t flags_seen;              /* of the state, when they were looked at last */
    const struct px_tls_conf *tls;    /* of the cluster's conf; NULL: plain */
    struct lt_tls_sessions *sessions; /* owned; NULL: none was made yet */
    uint32_t epoch;       /* grows when connections that were made before may not serve any more */
    const char *workload; /* counted text; endpoint metadata istio.workload, or "" */
    char *name;           /* owned; "10.0.0.1:80" */
    uint32_t cx_active, rq_pending;
    uint32_t cx_pooled;   /* of them those of HTTP: they are the host's pool */
    uint32_t cx_shared;   /* of them in state->cx_active */
    uint32_t state_epoch; /* grows when state becomes another */
    px_priority pool_priority;
    bool is_shared_pool;
    uint64_t rq_total, rq_success, rq_error, cx_total, cx_connect_fail, rq_timeout;
    struct lt_list idle;   /* HTTP/1: of px_upstream.link, newest first */
    struct lt_list shared; /* HTTP/2: of px_upstream.link: connecting or taking streams */
    struct lt_list raw;    /* TCP: of px_upstream.link */
    struct lt_list lru;    /* ORIGINAL_DST: in cluster->recent */
    uint32_t refs;         /* requests and connections, and the cluster while it is listed */
    uint32_t streams_max;  /* HTTP/2: what its latest SETTINGS allowed; 0: none came yet */
    bool is_listed;
    bool was_used; /* ORIGINAL_DST: since the last sweep */
};

/* --- clusters --- */

#define PX_CLUSTER_STATS(X) \
    X(CX_TOTAL, "upstream_cx_total") \
    X(CX_HTTP1_TOTAL, "upstream_cx_http1_total") \
    X(CX_HTTP2_TOTAL, "upstream_cx_http2_total") \
    X(CX_CONNECT_FAIL, "upstream_cx_connect_fail") \
    X(CX_CONNECT_TIMEOUT, "upstream_cx_connect_timeout") \
    X(CX_OVERFLOW, "upstream_cx_overflow") \
    X(CX_POOL_OVERFLOW, "upstream_cx_pool_overflow") \
    X(CX_DESTROY, "upstream_cx_destroy") \
    X(CX_IDLE_TIMEOUT, "upstream_cx_idle_timeout") \
    X(CX_MAX_REQUESTS, "upstream_cx_max_requests") \
    X(CX_MAX_DURATION, "upstream_cx_max_duration_reached") \
    X(CX_NONE_HEALTHY, "upstream_cx_none_healthy") \
    X(RQ_TOTAL, "upstream_rq_total") \
    X(RQ_ACTIVE_OVERFLOW, "upstream_rq_active_overflow") \
    X(RQ_COMPLETED, "upstream_rq_completed") \
    X(RQ_CANCELLED, "upstream_rq_cancelled") \
    X(RQ_PENDING_TOTAL, "upstream_rq_pending_total") \
    X(RQ_PENDING_OVERFLOW, "upstream_rq_pending_overflow") \
    X(RQ_PENDING_FAILURE, "upstream_rq_pending_failure_eject") \
    X(RQ_PER_TRY_TIMEOUT, "upstream_rq_per_try_timeout") \
    X(RQ_PER_TRY_IDLE, "upstream_rq_per_try_idle_timeout") \
    X(RQ_MAX_DURATION, "upstream_rq_max_duration_reached") \
    X(RQ_RETRY, "upstream_rq_retry") \
    X(RETRY_ABANDONED, "retry_or_shadow_abandoned") \
    X(RQ_RETRY_OVERFLOW, "upstream_rq_retry_overflow") \
    X(RQ_RETRY_LIMIT, "upstream_rq_retry_limit_exceeded") \
    X(RQ_RETRY_SUCCESS, "upstream_rq_retry_success") \
    X(REDIRECT_FOLLOWED, "upstream_internal_redirect_succeeded_total") \
    X(REDIRECT_PASSED, "upstream_internal_redirect_failed_total") \
    X(RQ_RX_RESET, "upstream_rq_rx_reset") \
    X(RQ_TX_RESET, "upstream_rq_tx_reset") \
    X(RQ_TIMEOUT, "upstream_rq_timeout") \
    X(RQ_1XX, "upstream_rq_1xx") \
    X(RQ_2XX, "upstream_rq_2xx") \
    X(RQ_3XX, "upstream_rq_3xx") \
    X(RQ_4XX, "upstream_rq_4xx") \
    X(RQ_5XX, "upstream_rq_5xx") \
    X(SSL_HANDSHAKE, "ssl.handshake") \
    X(SSL_RESUMED, "ssl.session_reused") \
    X(SSL_CONNECTION_ERROR, "ssl.connection_error") \
    X(SSL_FAIL_NO_CERT, "ssl.fail_verify_no_cert") \
    X(SSL_FAIL_CHAIN, "ssl.fail_verify_error") \
    X(SSL_FAIL_SAN, "ssl.fail_verify_san") \
    X(SSL_FAIL_HASH, "ssl.fail_verify_cert_hash") \
    X(DST_HOST_INVALID, "original_dst_host_invalid")

typedef enum {
#define PX_CLUSTER_STAT_ENUM(id, name) PX_STAT_##id,
    PX_CLUSTER_STATS(PX_CLUSTER_STAT_ENUM)
#undef PX_CLUSTER_STAT_ENUM
        PX_CLUSTER_STAT_COUNT
} px_cluster_stat;

struct px_cluster_gauges;
struct px_retry;
struct px_stat_scope;
struct px_upstream;

struct px_drop_tally;

struct px_cluster {
    struct px_worker *worker;
    char *name;        /* owned; also the key in worker->clusters */
    const char *label; /* counted text; the name, for reports */
    const char *service_host, *service_name, *service_namespace; /* the same; of conf */
    const struct px_cluster_conf *conf; /* of the worker's current snapshot */
    const struct px_endpoints_conf *endpoints;
    struct px_host_state *const *host_states; /* by endpoint; NULL: none has any */
    struct px_cluster_state
        *state;               /* of the snapshot, NULL: nothing is shared. Once set it stays */
    struct px_lb *lb;         /* owned */
    struct lt_vec hosts;      /* of px_host, counted */
    struct lt_map by_addr;    /* ORIGINAL_DST: host name -> px_host */
    struct lt_list recent;    /* ORIGINAL_DST: of px_host.lru, the one picked last in front */
    struct lt_timer sweep;    /* ORIGINAL_DST */
    uint32_t own[PX_LIMITS];  /* this worker's connections, requests and so on, by px_limit */
    struct lt_list waiting;   /* of px_request.wait_link: no connection may be made for them now */
    struct lt_list wake_link; /* in worker->to_wake */
    uint32_t users;           /* requests and TCP connections that point here; hosts go with them */
    struct lt_counter *stats[PX_CLUSTER_STAT_COUNT]; /* NULL: not counted yet */
    struct px_code_stats *codes;                     /* owned; upstream_rq_<code>; NULL: none yet */
    struct px_cluster_gauges *gauges;                /* owned; NULL: never asked for */
    struct px_stat_scope *scope;                     /* counted; NULL: nothing was counted */
    struct px_drop_tally *drops; /* owned; NULL: nothing was dropped for too much load */
    bool is_gone;                /* not in the snapshot any more; freed when nothing refers to it */
    struct px_pin *pin;          /* then: of the last snapshot that had it, for conf */
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
/* Holds the cluster, so that it outlives its removal from the configuration. */
struct px_cluster *px_cluster_take(struct px_cluster *cluster);
void px_cluster_drop(struct px_cluster **cluster);
/* A connection or a request slot came free: at the end of this turn those that wait try again. */
void px_cluster_wake(struct px_cluster *cluster);

/* --- hosts.c --- */

/* What a choice depends on; all zero: any host. */
struct px_pick {
    const struct lt_addr *original_dst; /* for clusters of that kind; NULL: unknown */
    struct px_host *const *avoid;       /* tried already */
    size_t avoid_count;
    const struct px_retry *retry; /* a retry: of whose hosts its policy takes; NULL: none */
    uint32_t attempts;            /* how often another than those is looked for; 0 is 1 */
    uint32_t tried_levels;        /* a bit for each priority that is left out (retry_priority) */
    bool has_hash;
    uint64_t hash;
    const struct px_metas *metas; /* metadata_match; NULL: none */
};

/* A hash decides which host takes a request. */
static inline bool px_cluster_is_hashed(const struct px_cluster *cluster)
{
    return cluster->conf->lb->policy == PX_LB_RING_HASH ||
           cluster->conf->lb->policy == PX_LB_MAGLEV;
}
/* By the cluster's policy; NULL when there is none. Who keeps it takes a count (px_host_take). */
struct px_host *px_cluster_pick(struct px_cluster *cluster, const struct px_pick *pick);
struct px_host *px_host_take(struct px_host *host);
void px_host_drop(struct px_host **host);
uint32_t px_host_priority(const struct px_host *host);
/* All flags in force, PX_HOST_FLAG, without those of EDS. */
uint32_t px_host_flags(const struct px_host *host);

void px_hosts_init(struct px_cluster *cluster);
/* Endpoints or configuration changed. */
void px_hosts_follow(struct px_cluster *cluster, const struct px_cluster_entry *entry);
/* The health of some host has changed: the main thread says so. */
void px_hosts_health_changed(struct px_cluster *cluster);
/* None is listed any more. */
void px_hosts_unlist(struct px_cluster *cluster);
void px_hosts_fini(struct px_cluster *cluster);

/* --- results.c: what outlier detection and health checks learn from requests --- */

/* A response, or what stands for one: the status of HTTP. */
void px_host_note_code(struct px_host *host, uint32_t code);
/* An answer of gRPC: its status as HTTP has it. */
uint32_t px_http_status_of_grpc(uint32_t grpc_status);
/* A connection stands and is being used; is_last: nothing will be said of what goes over it. */
void px_host_note_connected(struct px_host *host, bool is_last);
/* No connection, or it broke. */
void px_host_note_failed(struct px_host *host);
void px_host_note_timeout(struct px_host *host);
/* x-envoy-immediate-health-check-fail in a response. */
void px_host_note_excluded(struct px_host *host);

/* --- limits.c --- */

/*
 * Room below the limit of that priority. The retries' limit may be a part of the requests
 * (retry_budget).
 */
bool px_limit_has_room(const struct px_cluster *cluster, px_priority priority, px_limit limit);
/* *ret_is_shared is for px_limit_give: the limit may have gone or come meanwhile. */
void px_limit_take(struct px_cluster *cluster, px_priority priority, px_limit limit,
                   bool *ret_is_shared);
void px_limit_give(struct px_cluster *cluster, px_priority priority, px_limit limit,
                   bool is_shared);
bool px_host_may_connect(const struct px_host *host, px_priority priority);
/* Its first connection of HTTP is a pool, of which there may be so many (max_connection_pools). */
bool px_host_may_have_pool(const struct px_host *host, px_priority priority);
/* A connection to the host is being made, or has ended. */
void px_host_count_connection(struct px_host *host, struct px_upstream *up);
void px_host_uncount_connection(struct px_host *host, struct px_upstream *up);
/* Before the old one may go: what is counted there is taken back. */
void px_host_set_state(struct px_host *host, struct px_host_state *state);

/* --- cluster_stats.c --- */

struct lt_counter *px_cluster_stat_make(struct px_cluster *cluster, px_cluster_stat stat);
static inline void px_cluster_count(struct px_cluster *cluster, px_cluster_stat stat)
{
    struct lt_counter *counter = cluster->stats[stat];
    if (counter == NULL)
        counter = px_cluster_stat_make(cluster, stat);
    lt_counter_add(counter, 1);
}
/* "cluster.<name>.<stat>", of a filter. */
void px_cluster_count_named(struct px_cluster *cluster, lt_str stat, uint64_t by);
/* A response with this status: upstream_rq_200, upstream_rq_2xx, upstream_rq_completed. */
void px_cluster_count_code(struct px_cluster *cluster, uint32_t code);
/* One that was not passed on: retry.upstream_rq_503 and so on. */
void px_cluster_count_retried(struct px_cluster *cluster, uint32_t code);
/* Gauges and the balancer's counters as they are now; before a set is merged. */
void px_clusters_refresh_stats(struct px_worker *worker);
void px_cluster_stats_fini(struct px_cluster *cluster);

/* --- upstream connections --- */

typedef enum { PX_UP_CONNECTING, PX_UP_HANDSHAKE, PX_UP_OPEN, PX_UP_CLOSED } px_up_state;

struct px_upstream {
    struct lt_list link; /* in host->idle, host->shared or host->raw */
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
    char *name;           /* owned; whom it must find there, as the request said; NULL: nobody */
    uint64_t client_id;   /* of the downstream connection that it is for alone; 0: anybody */
    uint64_t id;          /* among all connections of the worker */
    uint64_t opened_ns;   /* since when it stands */
    uint64_t idle_ns;     /* since when it is idle */
    uint64_t timer_ns;    /* when the timer fires, once it stands */
    uint32_t served;      /* requests so far */
    uint32_t epoch;       /* of the host when this connection was made */
    px_priority priority; /* of whom it was made for, in the limits */
    bool is_shared_cx, counts_host, is_pooled;
    uint32_t state_epoch;
    bool can_read, can_write;
    bool timed_out;
    bool is_reused;     /* it served another request before this one */
    bool takes_no_more; /* it ends with what it serves now */
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
    px_priority priority;
    lt_str name;                /* auto_sni: a host name or IP address; empty: as configured */
    uint64_t client_id;         /* connection_pool_per_downstream_connection; 0: for anybody */
    struct px_request *request; /* one of these */
    struct px_tcp *tcp;
};

/* A fresh connection, in progress. NULL: refused at once, *ret_failed says why. */
struct px_upstream *px_upstream_connect(struct px_host *host, const struct px_connect *how,
                                        struct px_failed *ret_failed);
/*
 * One of the host that can take how->request now or, HTTP/2, will: an idle one becomes the
 * request's, a shared one gets it among its own. NULL: none. *ret_stands: it need not be waited
 * for.
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
/* Ends it at once; nobody is told. */
void px_upstream_end(struct px_upstream *up);
/* HTTP/2: it is lost; the requests on it find their streams ended and go on. */
void px_upstream_break(struct px_upstream *up);
/* --- pool.c --- */

/* It stands. */
void px_pool_opened(struct px_upstream *up);
void px_pool_on_timer(struct px_upstream *up, uint64_t now_ns);
/* HTTP/2: no new streams; ends it when the last has ended. */
void px_pool_end_shared(struct px_upstream *up);
void px_host_close_idle(struct px_host *host);
/* Ends TCP connections that go through it. */
void px_host_close_raw(struct px_host *host);

#endif
