/*
 * proxy/conf/forward.h - frozen: what a connection manager says of clients and servers in headers.
 * The fields are HttpConnectionManager's; compiled by compile/forward.c, done by forward.c.
 */
#ifndef LT_PROXY_CONF_FORWARD_H
#define LT_PROXY_CONF_FORWARD_H

#include "base/str.h"

struct px_cidr;

/* server_header_transformation */
typedef enum { PX_SERVER_OVERWRITE, PX_SERVER_IF_ABSENT, PX_SERVER_PASS } px_server_header;

struct px_forward_conf {
    px_server_header server;
    lt_str via;    /* empty: none */
    lt_str scheme; /* scheme_header_transformation: "http" or "https"; empty: as it came */
    bool scheme_of_upstream;          /* match_upstream */
    bool keeps_xff;                   /* skip_xff_append */
    bool tells_port;                  /* append_x_forwarded_port */
    bool maps_ipv4;                   /* represent_ipv4_remote_address_as_ipv4_mapped_ipv6 */
    bool strips_own_port;             /* strip_matching_host_port */
    bool strips_any_port, strips_dot; /* strip_any_host_port, strip_trailing_host_dot */
    /* internal_address_config: whose x-envoy-* headers count */
    const struct px_cidr *internal;
    size_t internal_count;
    bool trusts_unix;       /* clients on Unix sockets are internal, too */
    bool has_internal;      /* one of the two */
    bool tells_own_cluster; /* add_user_agent */
};

#endif
