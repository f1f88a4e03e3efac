/*
 * ctl/relay.h - a nodePort for workloads that cannot take the host's socket themselves: TCP
 * connections are passed on. Trust: whoever reaches the host's port; connections and bytes under
 * way are limited.
 */
#ifndef LT_CTL_RELAY_H
#define LT_CTL_RELAY_H

#include "net/addr.h"
#include "net/loop.h"

struct ctl_relay;
/* Where the next connection goes; false: nowhere now. */
typedef bool ctl_relay_pick_fn(void *ctx, struct lt_addr *ret_addr);

/* Takes listen_fd. */
struct ctl_relay *ctl_relay_new(struct lt_loop *loop, int listen_fd, ctl_relay_pick_fn *pick,
                                void *ctx);
void ctl_relay_free(struct ctl_relay **relay);

#endif
