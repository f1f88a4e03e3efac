/*
 * ctl/netns.h - network namespaces of workloads, as descriptors held by the node process.
 * A namespace lives while somebody holds it: the node's descriptor or a process inside.
 */
#ifndef LT_CTL_NETNS_H
#define LT_CTL_NETNS_H

#include "base/err.h"

/* A new namespace; *ret_fd keeps it alive. The caller's own namespace is unchanged afterwards. */
LT_MUST lt_rc ctl_netns_new(int *ret_fd, struct lt_err *err);

/*
 * Steps inside and back. What is opened in between (sockets) belongs to the namespace for good;
 * that is how the node talks to a workload over its loopback. Never nested; only for a process with
 * one thread.
 */
LT_MUST lt_rc ctl_netns_enter(int fd, int *ret_back_fd, struct lt_err *err);
void ctl_netns_leave(int *back_fd);

#endif
