/*
 * net/resolve.h - host names to addresses by the system's resolver (getaddrinfo), without stopping
 * the loop: each lookup runs in a thread of its own. For the programs' few own connections, not for
 * the data path.
 * Start at: lt_resolve_start().
 */
#ifndef LT_NET_RESOLVE_H
#define LT_NET_RESOLVE_H

#include "net/addr.h"
#include "net/loop.h"

struct lt_resolve;

enum { LT_RESOLVE_ADDRS_MAX = 16, LT_RESOLVE_HOST_MAX = 255 };

/*
 * Called once, from the loop, after lt_resolve_start has returned. LT_OK with count > 0, addresses
 * in the system's order; LT_E_NOT_FOUND: the name does not exist; LT_E_IO: nobody answered. reason:
 * for people. The lookup is gone afterwards.
 */
typedef void lt_resolve_fn(void *ctx, lt_rc rc, const struct lt_addr *addrs, size_t count,
                           const char *reason);

/* host: a name or a literal address; port in host order. */
struct lt_resolve *lt_resolve_start(struct lt_loop *loop, lt_str host, uint16_t port,
                                    lt_resolve_fn *on_done, void *ctx);
/* No callback comes any more. Accepts NULL. */
void lt_resolve_cancel(struct lt_resolve **resolve);

#endif
