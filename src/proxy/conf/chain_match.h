/*
 * proxy/conf/chain_match.h - which filter chain of a listener takes a connection. Pure.
 * Semantics: Envoy's FilterChainMatch. Criteria are looked at in order (destination port,
 * destination IP, server name, transport protocol, application protocols, who connects directly,
 * local or not, source IP, source port); at each the most specific chains stay and the others are
 * out, with no way back.
 */
#ifndef LT_PROXY_CONF_CHAIN_MATCH_H
#define LT_PROXY_CONF_CHAIN_MATCH_H

#include "proxy/conf/conf.h"

struct px_conn_facts {
    struct lt_addr destination;          /* original destination, or the local address */
    struct lt_addr source;               /* who has connected */
    lt_str server_name;                  /* SNI in lower case; empty: none */
    lt_str transport_protocol;           /* "raw_buffer" or "tls" */
    const lt_str *application_protocols; /* ALPN as offered, or what the HTTP inspector found */
    size_t application_protocol_count;
};

/* The default chain when none matches; NULL when there is no default either. */
const struct px_chain *px_chain_find(const struct px_listener_conf *listener,
                                     const struct px_conn_facts *facts);

#endif
