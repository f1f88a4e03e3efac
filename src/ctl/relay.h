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

struct ctl_relay *ctl_relay_new(struct lt_loop *loop, ctl_relay_pick_fn *pick, void *ctx);
/*
 * Takes connections from that socket (borrowed) from now on; -1: from none. Those that are, go on.
 */
void ctl_relay_listen(struct ctl_relay *relay, int listen_fd);
void ctl_relay_free(struct ctl_relay **relay);

#endif
