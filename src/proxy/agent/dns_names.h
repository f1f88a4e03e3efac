/*
 * proxy/agent/dns_names.h - a name table (istio.networking.nds.v1) made ready for questions: short
 * forms of Kubernetes names, wildcards, and the first search domain, as Istio's agent has them. No
 * I/O.
 * Trust: the table is the control plane's, names of questions are a stranger's.
 */
#ifndef LT_PROXY_AGENT_DNS_NAMES_H
#define LT_PROXY_AGENT_DNS_NAMES_H

#include "base/arena.h"
#include "base/err.h"

struct px_dns_names;

struct px_dns_facts {
    lt_str namespace; /* of this workload */
    lt_str domain;    /* "shop.svc.cluster.local" */
    lt_str search;    /* the first search domain; may be empty */
};

/* LT_E_BAD: not a name table; what is no address in it is left out. */
LT_MUST lt_rc px_dns_names_make(lt_str table, const struct px_dns_facts *facts,
                                struct px_dns_names **ret_names, struct lt_err *err);
void px_dns_names_free(struct px_dns_names **names);

/* Addresses of one family, packed: 4 or 16 bytes each. */
struct px_dns_found {
    const uint8_t *v4, *v6;
    uint32_t v4_count, v6_count;
    lt_str target; /* the name is an alias of this one; empty: it has the addresses itself */
};

/* name: lower case, dotted, without the last dot. False: nobody here knows it. */
bool px_dns_names_find(const struct px_dns_names *names, lt_str name, struct px_dns_found *ret);

#endif
