/*
 * proxy/told/telemetry.h - Istio's standard metrics and the exchange of peer metadata.
 * Labels and rules: Istio's standard metrics (istio_stats), peer_metadata filter.
 */
#ifndef LT_PROXY_TOLD_TELEMETRY_H
#define LT_PROXY_TOLD_TELEMETRY_H

#include "base/metric.h"
#include "http/headers.h"
#include "proxy/conf/cel.h"
#include "proxy/conf/conf.h"
#include "proxy/conf/stats_config.h"

/* Who this proxy's workload is; from the node's metadata. Borrowed for the life of the workers. */
struct px_node_facts {
    lt_str id;            /* node id */
    lt_str cluster;       /* its service cluster */
    lt_str peer_metadata; /* base64 of the Struct that peers get in x-envoy-peer-metadata */
    lt_str preface;       /* the same for raw TCP: exchange.h */
    lt_str workload, namespace, cluster_id;
    lt_str app, version;
    lt_str canonical_service, canonical_revision;
    bool is_gateway;
};

struct px_telemetry;
struct px_peer; /* decoded metadata of a peer, counted */

/* stats: for bounds of histograms; borrowed as the others; NULL. */
struct px_telemetry *px_telemetry_new(struct lt_metric_set *set, const struct px_node_facts *node,
                                      const struct px_stats_config *stats);
void px_telemetry_free(struct px_telemetry **telemetry);
/* Of our own workload. */
const struct px_node_facts *px_telemetry_node(const struct px_telemetry *telemetry);

/*
 * Takes the peer's two headers out of a message and returns whom they describe, for px_peer_drop
 * later; NULL when they are not there or not readable. principal: the sender's, a counted text, ""
 * when it is not proved. *ret_had: they were there.
 */
struct px_peer *px_telemetry_read_peer(struct px_telemetry *telemetry, struct lt_headers *headers,
                                       const char *principal, bool *ret_had);
void px_peer_drop(struct px_peer **peer);
/* Out of what came before raw TCP: bytes of an Any. NULL: not readable. */
struct px_peer *px_telemetry_read_preface(struct px_telemetry *telemetry, lt_str message,
                                          const char *principal);
lt_str px_telemetry_preface(const struct px_telemetry *telemetry);
/* Adds our own two headers. */
void px_telemetry_add_own(const struct px_telemetry *telemetry, struct lt_headers *headers);

/*
 * All that the labels are made of. Texts are counted ones (intern.h) or "", borrowed for the call:
 * equal content is an equal pointer.
 */
struct px_report {
    bool is_inbound;
    bool is_grpc;
    bool is_mutual_tls;
    uint32_t code; /* 0: none */
    uint32_t flags;
    struct px_peer *peer;        /* borrowed; NULL: unknown */
    const char *workload;        /* endpoint metadata of the upstream host, or "" */
    const char *peer_principal;  /* "" unknown */
    const char *local_principal; /* "" unknown */
    const char *host_header;     /* stands in for the service's host; "" where it must not */
    const char *cluster;         /* the run-time cluster's name, or "" */
    const char *service_host, *service_name, *service_namespace; /* of the cluster, or "" */
    const char *route_name; /* "block_all", "allow_any" or "": static, not counted */
    uint32_t grpc_status;   /* and 1; 0: none */
    /* what an override says, and how its expressions find attributes; stats NULL: no overrides */
    const struct px_stats_conf *stats;
    px_cel_find_fn *find;
    void *find_ctx;
};

typedef enum {
    PX_METRIC_REQUESTS,
    PX_METRIC_DURATION,
    PX_METRIC_REQUEST_BYTES,
    PX_METRIC_RESPONSE_BYTES,
    PX_METRIC_REQUEST_MESSAGES,
    PX_METRIC_RESPONSE_MESSAGES,
    PX_METRIC_TCP_OPENED,
    PX_METRIC_TCP_CLOSED,
    PX_METRIC_TCP_SENT,
    PX_METRIC_TCP_RECEIVED,
    PX_METRICS,
} px_metric;

struct px_tag_conf {
    lt_str name;
    const struct px_cel *cel; /* NULL: the label is left out */
};

struct px_metric_conf {
    bool is_dropped;
    const struct px_tag_conf *tags;
    size_t tag_count;
};

/* The configuration of istio.stats, where it says more than nothing (compile/telemetry.c). */
struct px_stats_conf {
    uint64_t id; /* of the content */
    struct px_metric_conf metrics[PX_METRICS];
};
/* "requests_total" and so on; PX_METRICS: none of ours. */
px_metric px_metric_find(lt_str name);

struct px_http_result {
    double duration_ms;
    uint64_t request_bytes, response_bytes;
};

struct px_message_result {
    uint64_t request_messages, response_messages;
};

/*
 * What strangers make up (a Host, the metadata of a peer without a certificate) gets so many series
 * and no more (a thousand names): others of that kind count as "unknown", and leave the room of the
 * configured ones alone.
 */
enum { PX_STRANGER_SERIES_MAX = 4000 };

void px_telemetry_http(struct px_telemetry *telemetry, const struct px_report *report,
                       const struct px_http_result *result);

/* gRPC: messages since the last report. */
void px_telemetry_messages(struct px_telemetry *telemetry, const struct px_report *report,
                           const struct px_message_result *result);
/* Series that nothing was added to since the sweep before last are removed. */
void px_telemetry_sweep(struct px_telemetry *telemetry);

/* What an expression may ask of a peer: "workload", "namespace", "app" ...; empty: not known. */
lt_str px_peer_field(const struct px_peer *peer, lt_str name);

/* TCP: opened once, then deltas, then closed. */
void px_telemetry_tcp_opened(struct px_telemetry *telemetry, const struct px_report *report);
void px_telemetry_tcp_bytes(struct px_telemetry *telemetry, const struct px_report *report,
                            uint64_t sent_bytes, uint64_t received_bytes);
void px_telemetry_tcp_closed(struct px_telemetry *telemetry, const struct px_report *report);

#endif
