/*
 * control/translate_priv.h - for the files of translation only: what one translation works with,
 * and the small messages that all of them are made of.
 */
#ifndef CP_CONTROL_TRANSLATE_PRIV_H
#define CP_CONTROL_TRANSLATE_PRIV_H

#include "control/translate.h"
#include "wire/any.h"
#include "wire/proto/accesslog.pb-c.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/core_config.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/tls.pb-c.h"

enum {
    CP_PORT_OUTBOUND = 15001,
    CP_PORT_INBOUND = 15006,
};

#define CP_BLACK_HOLE "BlackHoleCluster"
#define CP_PASSTHROUGH "PassthroughCluster"
#define CP_INBOUND_PASSTHROUGH "InboundPassthroughCluster"

/* One translation. Everything is made in arena and packed from there. */
struct cp_translation {
    struct lt_arena *arena;       /* owned */
    struct lt_ads_pool *pool;     /* borrowed */
    const struct lt_model *model; /* borrowed */
    const struct cp_node *node;   /* borrowed */
    const struct lt_kvs *labels;  /* of the proxy's workload: its Pod's, or what the node says */
    struct lt_vec gathered;       /* struct lt_ads_resource *, counted */
    cp_type type;
    cp_part part;
};

/* Packs message and gathers it under its name. */
void cp_emit(struct cp_translation *t, lt_str name, void *message);

/* Entries of cp_translate, a type each. */
void cp_translate_clusters(struct cp_translation *t);
void cp_translate_endpoints(struct cp_translation *t);
void cp_translate_listeners(struct cp_translation *t);
void cp_translate_routes(struct cp_translation *t);
void cp_translate_gateway_listeners(struct cp_translation *t);
void cp_translate_gateway_routes(struct cp_translation *t);
void cp_translate_names(struct cp_translation *t);
void cp_translate_no_names(struct cp_translation *t);

/* ---- translate_value.c: small messages ---- */
#define CP_NEW(t, type, name) lt_pb_new((t)->arena, type, name)

/* Appends to a repeated member: CP_PUSH(t, cluster->filters, cluster->n_filters, filter). */
#define CP_PUSH(t, array, count, item) \
    ((array) = cp_grow((t)->arena, (void *)(array), (count)), (array)[(count)++] = (item))
void *cp_grow(struct lt_arena *arena, void *array, size_t count);

/* With a NUL behind; lives as long as the translation. */
const char *cp_z(struct cp_translation *t, lt_str s);
const char *cp_zf(struct cp_translation *t, const char *fmt, ...) LT_PRINTF(2, 3);
Pb__Duration *cp_duration(struct cp_translation *t, int64_t ns);
Pb__UInt32Value *cp_u32(struct cp_translation *t, uint32_t value);
Pb__UInt64Value *cp_u64(struct cp_translation *t, uint64_t value);
Pb__BoolValue *cp_bool(struct cp_translation *t, bool value);
Xds__Percent *cp_percent(struct cp_translation *t, double value);
/* Of a million. */
Xds__RuntimeFractionalPercent *cp_runtime_fraction(struct cp_translation *t, double percent);
Xds__FractionalPercent *cp_fraction(struct cp_translation *t, double percent);
Xds__Address *cp_address(struct cp_translation *t, const char *ip, uint16_t port);
Xds__SocketAddress *cp_socket_address(struct cp_translation *t, const char *ip, uint16_t port);
/* ads{}, version 3, waits for ever. */
Xds__ConfigSource *cp_ads(struct cp_translation *t);
/* The agent's SDS socket; waits_for_ever for the workload's own secrets. */
Xds__SdsSecretConfig *cp_sds(struct cp_translation *t, const char *name, bool waits_for_ever);
Xds__StringMatcher *cp_string_match(struct cp_translation *t, const struct lt_string_match *match);
Xds__StringMatcher *cp_string_exact(struct cp_translation *t, const char *value);
/* filter_metadata.istio.config of an object: "/apis/networking.istio.io/v1/namespaces/…". */
const char *cp_object_path(struct cp_translation *t, const struct lt_object *object);
Xds__Metadata *cp_object_metadata(struct cp_translation *t, const struct lt_object *object);
/* Metadata with one Struct under one key; st is an LT_DOC_OBJECT. */
void cp_add_metadata(struct cp_translation *t, Xds__Metadata *metadata, const char *key,
                     const struct lt_doc *st);

static inline bool cp_has(const struct cp_translation *t, unsigned extensions)
{
    return (t->node->extensions & extensions) == extensions;
}

/* ---- translate_cluster.c ---- */
/* "outbound|80|v1|reviews.shop.svc.cluster.local" */
const char *cp_cluster_name(struct cp_translation *t, uint16_t port, lt_str subset, lt_str host);
/* The services of the proxy's own workload, in the order of the model: ports that it serves. */
struct cp_inbound_port {
    uint16_t number; /* of the workload */
    lt_port_protocol protocol;
    const struct lt_service *service;
    const struct lt_port *port;
};
const struct cp_inbound_port *cp_inbound_ports(struct cp_translation *t, size_t *ret_count);

/* The policy blocks that count for a port of a host and a subset of it (networking.md 3.2). */
struct cp_policy {
    const struct lt_rule *rule; /* NULL: none */
    const struct lt_load_balancer *load_balancer;
    const struct lt_connection_pool *pool;
    const struct lt_outlier *outlier;
    const struct lt_client_tls *tls;
};
struct cp_policy cp_policy_for(struct cp_translation *t, const struct lt_service *service,
                               uint16_t port, lt_str subset);

/* ---- translate_tls.c ---- */
/* How clients reach a port of a service. */
typedef enum {
    CP_TLS_NONE,   /* plaintext */
    CP_TLS_AUTO,   /* per endpoint: mesh TLS where its metadata says so */
    CP_TLS_MESH,   /* mesh TLS to all */
    CP_TLS_SIMPLE, /* the rule's own TLS */
} cp_tls_kind;
cp_tls_kind cp_tls_kind_for(struct cp_translation *t, const struct lt_service *service,
                            const struct lt_port *port, const struct cp_policy *policy);
void cp_cluster_add_tls(struct cp_translation *t, Xds__Cluster *cluster, cp_tls_kind kind,
                        const struct lt_service *service, const struct lt_port *port, lt_str subset,
                        const struct cp_policy *policy, bool is_http2);
Xds__TransportSocket *cp_mesh_server_tls(struct cp_translation *t, bool is_tcp);
/* The same at a gateway: whoever the mesh's root vouches for, of any trust domain. */
Xds__TransportSocket *cp_mesh_gateway_tls(struct cp_translation *t, bool is_tcp);
Xds__TransportSocket *cp_transport_socket(struct cp_translation *t, void *context);

/* ---- translate_filter.c ---- */
typedef enum { CP_SIDE_OUTBOUND, CP_SIDE_INBOUND, CP_SIDE_GATEWAY } cp_side;

Xds__Filter *cp_filter(struct cp_translation *t, const char *name, Pb__Any *config);
Pb__Any *cp_mx_tcp_config(struct cp_translation *t);
/* [mx,] [stats,] tcp_proxy on the filter chain; weighted: NULL, or what cp_l4_weighted made. */
struct cp_tcp_options {
    const char *stat_prefix;
    const char *cluster; /* one of the two */
    const struct lt_l4_dest *weighted;
    size_t weighted_count;
    lt_str ns;                      /* of the routes, for the destinations */
    uint16_t port;                  /* of the listener, likewise */
    bool takes_mesh_tls;            /* at a gateway: peers say there who they are */
    const struct cp_policy *policy; /* idle timeout and the like; may be NULL */
};
void cp_chain_add_tcp(struct cp_translation *t, Xds__FilterChain *chain, cp_side side,
                      const struct cp_tcp_options *options);
struct cp_hcm_options {
    const char *stat_prefix;
    const char *rds_name; /* one of the two */
    Xds__RouteConfiguration *routes;
    bool is_http2;
};
void cp_chain_add_hcm(struct cp_translation *t, Xds__FilterChain *chain, cp_side side,
                      const struct cp_hcm_options *options);
Xds__ListenerFilter *cp_listener_filter(struct cp_translation *t, const char *name, void *config);
Xds__ListenerFilter *cp_tls_inspector(struct cp_translation *t);
Xds__ListenerFilter *cp_http_inspector(struct cp_translation *t);
/* The mesh's access log, for connections without a filter chain. */
void cp_listener_add_access_log(struct cp_translation *t, Xds__Listener *listener);

/* ---- translate_listener.c ---- */
Xds__FilterChain *cp_new_chain(struct cp_translation *t, const char *name);
/* Where connections go that nobody claims. */
const char *cp_unknown_cluster(const struct cp_translation *t);
/* Does this VirtualService rule apply to connections of this proxy on this port? */
bool cp_is_l4_match(const struct cp_translation *t, struct lt_opt match_port,
                    const struct lt_strs *gateways, const struct lt_kvs *source_labels,
                    lt_str source_ns, const struct lt_routes *routes, uint16_t port,
                    lt_str gateway);
/* TCP options for the destinations of a rule. */
struct cp_tcp_options cp_l4_options(struct cp_translation *t, const struct lt_routes *routes,
                                    const struct lt_l4_dest *dests, size_t count, uint16_t port);

/* ---- translate_inbound.c ---- */
void cp_translate_inbound(struct cp_translation *t);

/* ---- translate_route.c ---- */
/*
 * The filter that reads who a peer says it is also keeps that from the application, and what a
 * client claims from the servers. Where it is missing, the routes take the headers out.
 */
void cp_drop_peer_headers(struct cp_translation *t, Xds__RouteConfiguration *config);
Xds__RouteConfiguration *cp_route_config(struct cp_translation *t, const char *name);
/*
 * retries: NULL: the mesh's default. With hashing, retries must not avoid the one endpoint that the
 * hash means.
 */
void cp_set_retries(struct cp_translation *t, Xds__RouteAction *action,
                    const struct lt_http_retry *retries, bool is_hashed);
void cp_add_hash_policy(struct cp_translation *t, Xds__RouteAction *action,
                        const struct cp_policy *policy);
/* The VirtualService that counts for a host on sidecars, or NULL (networking.md 2.1, 2.9). */
const struct lt_routes *cp_routes_for(const struct cp_translation *t, lt_str host);
bool cp_is_bound(const struct cp_translation *t, const struct lt_routes *routes, lt_str gateway);
/* The route of a service for which nothing else was said. */
Xds__Route *cp_default_route(struct cp_translation *t, const struct lt_service *service,
                             const struct lt_port *port);

/* ---- translate_rule.c ---- */
/* Where a VirtualService is being applied. */
struct cp_rule_scope {
    const struct lt_routes *routes;
    uint16_t port;  /* of the listener (gateway: of the server) */
    lt_str gateway; /* "mesh" or "namespace/name" */
};
/* The http rules as routes, appended to vhost; true when the last one takes everything. */
bool cp_add_rules(struct cp_translation *t, const struct cp_rule_scope *scope,
                  Xds__VirtualHost *vhost);
/* The cluster that a destination names. */
const char *cp_destination_cluster(struct cp_translation *t,
                                   const struct lt_vs_destination *destination, lt_str ns,
                                   uint16_t port);

#endif
