/*
 * net/fd_pass.h - descriptors from one process to another, over a Unix socket.
 */
#ifndef LT_NET_FD_PASS_H
#define LT_NET_FD_PASS_H

#include "base/err.h"
#include "base/str.h"

/*
 * Sends the bytes, at least one, and one descriptor (-1: none). The caller keeps its own. LT_AGAIN
 * when a socket that doesn't block is full; LT_E_IO otherwise.
 */
LT_MUST lt_rc lt_fd_send(int sock, lt_str bytes, int fd);
/*
 * Receives at most room bytes; *ret_len of them, and the descriptor that came along in *ret_fd (-1:
 * none), close-on-exec. LT_AGAIN, LT_EOF, or LT_E_IO.
 */
LT_MUST lt_rc lt_fd_receive(int sock, void *to, size_t room, size_t *ret_len, int *ret_fd);

#endif
