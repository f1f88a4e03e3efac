/*
 * ctl/host_port.h - the one thing a mesh has on the host: listening sockets of nodePorts.
 * The node process lives in a network of its own and asks the supervisor, which stayed outside, for
 * each socket; descriptors come over their Unix socket. Both ends are here.
 */
#ifndef LT_CTL_HOST_PORT_H
#define LT_CTL_HOST_PORT_H

#include "base/err.h"

/*
 * Supervisor: a listening TCP socket on all addresses; a taken port is an error that names who
 * holds it.
 */
LT_MUST lt_rc ctl_host_port_listen(uint16_t port, int *ret_fd, struct lt_err *err);
/* Supervisor: answers one request that waits on sock. LT_EOF: the node has gone. */
LT_MUST lt_rc ctl_host_port_serve(int sock);

/* Node: asks for the port and waits for the answer (the supervisor does nothing else). */
LT_MUST lt_rc ctl_host_port_ask(int sock, uint16_t port, int *ret_fd, struct lt_err *err);

#endif
