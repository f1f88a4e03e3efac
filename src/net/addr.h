/*
 * net/addr.h - an IPv4, IPv6 or Unix socket address as a value.
 */
#ifndef LT_NET_ADDR_H
#define LT_NET_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

enum { LT_ADDR_TEXT_MAX = 128 };

struct lt_addr {
    socklen_t len; /* 0: no address */
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    };
};

/* "10.0.0.1" / "::1" / "[::1]" and a port in host order. LT_E_BAD when it is no literal address. */
LT_MUST lt_rc lt_addr_parse(lt_str ip, uint16_t port, struct lt_addr *ret_addr);
/* "10.0.0.1:80", "[::1]:80", ":80" (any address, IPv6 dual stack off), "unix:/path" . */
LT_MUST lt_rc lt_addr_parse_hostport(lt_str text, struct lt_addr *ret_addr);
LT_MUST lt_rc lt_addr_unix(lt_str path, struct lt_addr *ret_addr);

/* Host order; 0 for Unix sockets. */
uint16_t lt_addr_port(const struct lt_addr *addr);
void lt_addr_set_port(struct lt_addr *addr, uint16_t port);
bool lt_addr_eq(const struct lt_addr *a, const struct lt_addr *b);
bool lt_addr_is_loopback(const struct lt_addr *addr);
bool lt_addr_is_any(const struct lt_addr *addr);

/*
 * "10.0.0.1:80", "[::1]:80" or "unix:/path"; the IP alone without port. The result points into out.
 */
lt_str lt_addr_format(const struct lt_addr *addr, char out[LT_ADDR_TEXT_MAX]);
lt_str lt_addr_format_ip(const struct lt_addr *addr, char out[LT_ADDR_TEXT_MAX]);

/* True when the IP is inside prefix/bits (same family). */
bool lt_addr_in_prefix(const struct lt_addr *addr, const struct lt_addr *prefix, unsigned bits);

#endif
