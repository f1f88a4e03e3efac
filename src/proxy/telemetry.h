/*
 * proxy/telemetry.h - Istio's standard metrics and the exchange of peer metadata.
 * Labels and rules: Istio's standard metrics (istio_stats), peer_metadata filter.
 */
#ifndef LT_PROXY_TELEMETRY_H
#define LT_PROXY_TELEMETRY_H

#include "base/metric.h"
#include "http/headers.h"
#include "proxy/conf.h"

/* Who this proxy's workload is; from the node's metadata. Borrowed for the life of the workers. */
struct px_node_facts {
    lt_str id;            /* node id */
    lt_str peer_metadata; /* base64 of the Struct that peers get in x-envoy-peer-metadata */
    lt_str preface;       /* the same for raw TCP: exchange.h */
    lt_str workload, namespace, cluster_id;
    lt_str app, version;
    lt_str canonical_service, canonical_revision;
    bool is_gateway;
};

struct px_telemetry;
struct px_peer; /* decoded metadata of a peer, counted */

struct px_telemetry *px_telemetry_new(struct lt_metric_set *set, const struct px_node_facts *node);
void px_telemetry_free(struct px_telemetry **telemetry);

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
};

struct px_http_result {
    double duration_ms;
    uint64_t request_bytes, response_bytes;
};

/*
 * What strangers make up (a Host, the metadata of a peer without a certificate) gets so many series
 * and no more (a thousand names): others of that kind count as "unknown", and leave the room of the
 * configured ones alone.
 */
enum { PX_STRANGER_SERIES_MAX = 4000 };

void px_telemetry_http(struct px_telemetry *telemetry, const struct px_report *report,
                       const struct px_http_result *result);

/* TCP: opened once, then deltas, then closed. */
void px_telemetry_tcp_opened(struct px_telemetry *telemetry, const struct px_report *report);
void px_telemetry_tcp_bytes(struct px_telemetry *telemetry, const struct px_report *report,
                            uint64_t sent_bytes, uint64_t received_bytes);
void px_telemetry_tcp_closed(struct px_telemetry *telemetry, const struct px_report *report);

#endif
