/*
 * net/sock.h - sockets: made non-blocking and close-on-exec, with the options a proxy wants.
 */
#ifndef LT_NET_SOCK_H
#define LT_NET_SOCK_H

#include "net/addr.h"

/* One option of setsockopt(); when: before bind, after bind, after listen. */
typedef enum { LT_SOCK_PREBIND, LT_SOCK_BOUND, LT_SOCK_LISTENING } lt_sock_state;
struct lt_sock_option {
    lt_sock_state when;
    int level, name;
    lt_str value; /* an int, or what the option takes */
};

struct lt_listen_opts {
    int backlog;      /* 0: 1024 */
    bool reuse_port;  /* one socket a worker, the kernel spreads */
    bool transparent; /* IP_TRANSPARENT (TPROXY) */
    bool v6_only;
    bool freebind;       /* the address may be there later */
    int fast_open_queue; /* TCP fast open; 0: none */
    const struct lt_sock_option *options;
    size_t option_count;
    mode_t unix_mode; /* of a Unix socket's file; 0: 0600. An existing socket file is replaced. */
};

/* The caller owns *ret_fd. The error names the address. */
LT_MUST lt_rc lt_sock_listen(const struct lt_addr *addr, const struct lt_listen_opts *opts,
                             int *ret_fd, struct lt_err *err);
/*
 * Starts to connect; LT_OK means in progress or done (watch EPOLLOUT, then lt_sock_error). bind_to
 * may be NULL.
 */
LT_MUST lt_rc lt_sock_connect(const struct lt_addr *addr, const struct lt_addr *bind_to,
                              int *ret_fd);
/*
 * LT_AGAIN when nobody waits. peer may be NULL. An IPv4 peer of an IPv6 socket has its IPv4
 * address, here and in what follows.
 */
LT_MUST lt_rc lt_sock_accept(int listen_fd, int *ret_fd, struct lt_addr *ret_peer);

/* SO_ERROR, 0 when the connection stands. */
int lt_sock_error(int fd);
LT_MUST lt_rc lt_sock_local(int fd, struct lt_addr *ret_addr);
LT_MUST lt_rc lt_sock_peer(int fd, struct lt_addr *ret_addr);
/* SO_ORIGINAL_DST of a connection that nftables redirected; LT_E_NOT_FOUND when it was not. */
LT_MUST lt_rc lt_sock_original_dst(int fd, struct lt_addr *ret_addr);

void lt_sock_set_nodelay(int fd);
/* 0 leaves the kernel's value. */
void lt_sock_set_keepalive(int fd, unsigned idle_s, unsigned interval_s, unsigned probes);
/* The next close sends RST. */
void lt_sock_set_linger_reset(int fd);

#endif
