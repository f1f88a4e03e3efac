/*
 * net/handover.h - listening sockets of another network, handed to a proxy while it runs: how
 * `lateen up` gives a gateway its port on the host, so that nobody stands between it and clients.
 *
 * The proxy inherits one end of a SOCK_SEQPACKET pair, its number is in the environment
 * (LATEEN_LISTEN_SOCKET). It says first that it takes sockets; a real Envoy never does. Then the
 * other end hands sockets over and asks for them back.
 */
#ifndef LT_NET_HANDOVER_H
#define LT_NET_HANDOVER_H

#include "base/err.h"

#define LT_HANDOVER_ENV "LATEEN_LISTEN_SOCKET"

struct lt_handover {
    uint16_t id;   /* of the socket, among those of one proxy: its port over there */
    uint16_t port; /* what its connections are for, had they come to the proxy's own network: */
    uint32_t ip;   /* IPv4, host byte order */
};

/* fd: the caller keeps its own; -1 asks for the socket of that id back. */
LT_MUST lt_rc lt_handover_send(int sock, const struct lt_handover *message, int fd);
/* *ret_fd: the caller's; -1: it is asked for. LT_AGAIN, LT_EOF, LT_E_BAD or LT_E_IO. */
LT_MUST lt_rc lt_handover_receive(int sock, struct lt_handover *ret, int *ret_fd);

LT_MUST lt_rc lt_handover_send_hello(int sock);
/* LT_OK: the other end takes sockets. */
LT_MUST lt_rc lt_handover_receive_hello(int sock);

#endif
