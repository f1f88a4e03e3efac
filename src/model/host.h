/*
 * model/host.h - host names as Istio compares them: short names, wildcards, ports' protocols.
 */
#ifndef LT_MODEL_HOST_H
#define LT_MODEL_HOST_H

#include "base/arena.h"

#define LT_DEFAULT_DOMAIN "cluster.local"

static inline bool lt_host_is_wildcard(lt_str host)
{
    return host.len > 0 && host.ptr[0] == '*';
}

/*
 * Symmetric: equal, or one covers the other, or both are wildcards and one's suffix ends with the
 * other's (networking.md 1.1).
 */
bool lt_host_matches(lt_str a, lt_str b);
/* Everything that `a` names is named by `b`. */
bool lt_host_is_subset(lt_str a, lt_str b);
/* <0: a is more specific: no wildcard before wildcard, then the longer, then the alphabet. */
int lt_host_specificity_cmp(lt_str a, lt_str b);

/*
 * "reviews" in namespace shop is reviews.shop.svc.<domain>; what has a dot, is an IP or "*" stays.
 * Lives in arena.
 */
lt_str lt_host_expand(struct lt_arena *arena, lt_str host, lt_str ns, lt_str domain);

/* A-Z to a-z; lives in arena. */
lt_str lt_host_lower(struct lt_arena *arena, lt_str host);

bool lt_is_ip(lt_str text);
/* a-z A-Z 0-9 and '-', not at the ends, 1 to 63. */
bool lt_is_dns_label(lt_str text);
/* Labels with dots between, at most 253, a dot behind allowed. */
bool lt_is_fqdn(lt_str text);
/* The same, and the first label may be or begin with '*'. */
bool lt_is_wildcard_domain(lt_str text);

/* The protocols that a port can have (kubernetes.md 1.1). */
typedef enum {
    LT_PORT_UNSUPPORTED, /* UDP, SCTP */
    LT_PORT_AUTO,        /* not said: found out by looking */
    LT_PORT_TCP,
    LT_PORT_HTTP,
    LT_PORT_HTTP2,
    LT_PORT_GRPC,
    LT_PORT_GRPC_WEB,
    LT_PORT_HTTPS,
    LT_PORT_TLS,
    LT_PORT_MONGO,
    LT_PORT_REDIS,
    LT_PORT_MYSQL,
} lt_port_protocol;

/*
 * By name ("http", "grpc-web", "tcp-db"; case does not matter), as in port names and Gateway
 * servers; AUTO when unknown.
 */
lt_port_protocol lt_port_protocol_parse(lt_str text);
/* appProtocol first, then the name's beginning, then the well-known number. */
lt_port_protocol lt_port_protocol_of(lt_str app_protocol, lt_str name, uint16_t port);

static inline bool lt_port_is_http(lt_port_protocol p)
{
    return p == LT_PORT_HTTP || p == LT_PORT_HTTP2 || p == LT_PORT_GRPC || p == LT_PORT_GRPC_WEB;
}

static inline bool lt_port_is_http2(lt_port_protocol p)
{
    return p == LT_PORT_HTTP2 || p == LT_PORT_GRPC || p == LT_PORT_GRPC_WEB;
}

static inline bool lt_port_is_tls(lt_port_protocol p)
{
    return p == LT_PORT_HTTPS || p == LT_PORT_TLS;
}

#endif
