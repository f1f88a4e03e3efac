/*
 * control/node.h - what a proxy says about itself in the first request of its stream, as far as it
 * decides what it is sent. Sources: Istio's node id and metadata (ports-and-agent.md 5),
 * envoy.config.core.v3.Node. Trust: a stranger's bytes; that namespace and account are its own is
 * checked by who authenticated the stream.
 */
#ifndef CP_CONTROL_NODE_H
#define CP_CONTROL_NODE_H

#include "model/model.h"
#include "wire/proto/core.pb-c.h"

/* Istio's own extensions, which upstream Envoy does not have (xds.md 9). */
enum {
    CP_EXT_MX_TCP = 1u << 0,  /* envoy.tcp.metadataexchange.config.MetadataExchange */
    CP_EXT_MX_HTTP = 1u << 1, /* io.istio.http.peer_metadata.Config */
    CP_EXT_STATS = 1u << 2,   /* stats.PluginConfig */
    CP_EXT_ALPN = 1u << 3,    /* istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig */
    CP_EXT_ALL = 15,
};

typedef enum { CP_NODE_SIDECAR, CP_NODE_ROUTER } cp_node_type;
typedef enum { CP_CAPTURE_REDIRECT, CP_CAPTURE_TPROXY, CP_CAPTURE_NONE } cp_capture;

struct cp_node_port {
    lt_str name;
    uint16_t number;
};

struct cp_node {
    cp_node_type type;
    cp_capture capture;
    unsigned
        /* CP_EXT_*; a node that lists no extension at all is taken to have all of them */
        extensions;
    lt_str id;
    lt_str ip;   /* the first of its addresses */
    lt_str name; /* of the Pod */
    lt_str ns;
    lt_str domain; /* DNS domain: "shop.svc.cluster.local" */
    lt_str cluster_id;
    lt_str mesh_id;
    lt_str istio_version;
    lt_str service_account;
    lt_str workload_name;
    lt_str network;
    struct lt_kvs labels;
    lt_str canonical_name;
    lt_str canonical_revision;
    struct lt_locality locality;
    size_t port_count; /* POD_PORTS */
    struct cp_node_port *ports;
};

/*
 * Everything lives in arena. LT_E_BAD: no id, or not type~ip~pod.ns~domain, or no IP address;
 * LT_E_UNSUPPORTED: a type other than sidecar and router. The text of err is fit for the peer (gRPC
 * InvalidArgument).
 */
LT_MUST lt_rc cp_node_read(struct lt_arena *arena, const Xds__Node *message,
                           struct cp_node *ret_node, struct lt_err *err);

/* The workload that it is, or NULL: not known to the model (yet). */
const struct lt_workload *cp_node_workload(const struct cp_node *node,
                                           const struct lt_model *model);

#endif
