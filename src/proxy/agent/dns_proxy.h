/*
 * proxy/agent/dns_proxy.h - the mesh's names at 15053, by UDP and TCP: answered from the control
 * plane's table; what that does not know is asked of the system's servers, as Istio's agent does
 * it.
 * Main thread only.
 * Not here: who captures port 53.
 */
#ifndef LT_PROXY_AGENT_DNS_PROXY_H
#define LT_PROXY_AGENT_DNS_PROXY_H

#include "base/metric.h"
#include "net/addr.h"
#include "net/loop.h"
#include "proxy/run/worker.h"

struct px_dns_proxy;

struct px_dns_proxy_opts {
    struct lt_loop *loop; /* borrowed, as all here */
    lt_str address;       /* "localhost:15053", or an IP and a port */
    lt_str namespace, domain;
    const char *resolv_path; /* "/etc/resolv.conf" */
    bool asks_all;
    uint64_t timeout_ns;           /* of each server */
    struct lt_metric_set *metrics; /* where dns_requests_total and others of Istio's agent count */
    struct lt_vec *inherited;      /* sockets of a process before us: answers wait; NULL: none */
};

LT_MUST lt_rc px_dns_proxy_new(const struct px_dns_proxy_opts *opts, struct px_dns_proxy **ret_dns,
                               struct lt_err *err);
void px_dns_proxy_free(struct px_dns_proxy **dns);
/* A name table; the one before serves on when it is bad. */
LT_MUST lt_rc px_dns_proxy_set_table(struct px_dns_proxy *dns, lt_str table, struct lt_err *err);
bool px_dns_proxy_has_table(const struct px_dns_proxy *dns);
/* One process takes the place of another (process/takeover.h). */
void px_dns_proxy_accept(struct px_dns_proxy *dns);
void px_dns_proxy_leave(struct px_dns_proxy *dns);
void px_dns_proxy_add_sockets(const struct px_dns_proxy *dns, struct lt_vec *sockets);

#endif
