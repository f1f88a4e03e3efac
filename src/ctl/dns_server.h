/*
 * ctl/dns_server.h - the mesh's resolver on port 53 of the node, UDP and TCP.
 * Messages: dns_msg.h. Names: the caller's lookup function.
 * Trust: every workload may ask; connections, sizes and times are limited.
 */
#ifndef LT_CTL_DNS_SERVER_H
#define LT_CTL_DNS_SERVER_H

#include "ctl/dns_msg.h"
#include "net/addr.h"
#include "net/loop.h"

struct ctl_dns_server;

/* Binds addr in the namespace that the caller is in. */
LT_MUST lt_rc ctl_dns_server_new(struct lt_loop *loop, const struct lt_addr *addr,
                                 ctl_dns_lookup_fn *lookup, void *ctx,
                                 struct ctl_dns_server **ret_server, struct lt_err *err);
void ctl_dns_server_free(struct ctl_dns_server **server);

#endif
