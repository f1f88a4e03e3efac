/*
 * proxy/process/takeover_msg.h - the messages between a process and the one that takes its place
 * (takeover.h). They never leave the machine: numbers are in its own order.
 * Trust: the peer runs as the same user or as root, or is not spoken with.
 */
#ifndef LT_PROXY_PROCESS_TAKEOVER_MSG_H
#define LT_PROXY_PROCESS_TAKEOVER_MSG_H

#include "proxy/run/worker.h"

typedef enum {
    PX_TAKEOVER_HELLO = 1, /* new: give me your sockets */
    PX_TAKEOVER_SOCKET,    /* old, with a descriptor */
    PX_TAKEOVER_END,       /* old: that were all */
    PX_TAKEOVER_GO,        /* new: I accept from now on */
    PX_TAKEOVER_COUNTERS,  /* old, with a memfd */
} px_takeover_type;

/* socket: of SOCKET; NULL otherwise. fd -1: none. */
LT_MUST lt_rc px_takeover_send(int sock, px_takeover_type type, const struct px_socket *socket,
                               int fd);
/*
 * LT_OK: *ret_socket (SOCKET) has the descriptor and is the caller's, or *ret_fd is (COUNTERS).
 * LT_AGAIN, LT_EOF, LT_E_IO; LT_E_BAD: another version.
 */
LT_MUST lt_rc px_takeover_receive(int sock, px_takeover_type *ret_type,
                                  struct px_socket **ret_socket, int *ret_fd);

/* "@name": abstract. The socket listens, or is connected to who listens there. */
LT_MUST lt_rc px_takeover_listen(const char *path, unsigned base_id, unsigned epoch, int *ret_fd);
LT_MUST lt_rc px_takeover_connect(const char *path, unsigned base_id, unsigned epoch, int *ret_fd);
/* The peer runs as our user or as root. */
bool px_takeover_is_ours(int sock);

#endif
