/*
 * ctl/link.h - interfaces, addresses and routes of the namespace that the caller is in (rtnetlink).
 * IPv4, host byte order.
 */
#ifndef LT_CTL_LINK_H
#define LT_CTL_LINK_H

#include "base/err.h"

/* A veth pair: `name` here, `peer` in the namespace peer_netns_fd. Both are down. */
LT_MUST lt_rc ctl_link_add_veth(const char *name, const char *peer, int peer_netns_fd,
                                struct lt_err *err);
/* Its peer goes too. One that has gone already is no error. */
void ctl_link_delete(const char *name);
LT_MUST lt_rc ctl_link_up(const char *name, struct lt_err *err);
LT_MUST lt_rc ctl_link_add_address(const char *name, uint32_t ip, unsigned prefix_bits,
                                   struct lt_err *err);
/*
 * gateway 0: directly on the link; else it need not be on a connected network (onlink). source 0:
 * the kernel picks.
 */
LT_MUST lt_rc ctl_link_add_route(const char *name, uint32_t dst, unsigned prefix_bits,
                                 uint32_t gateway, uint32_t source, struct lt_err *err);
/* "net.ipv4.ip_forward" and the like, of this namespace. */
LT_MUST lt_rc ctl_sysctl_set(const char *name, const char *value, struct lt_err *err);

#endif
