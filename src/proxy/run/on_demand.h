/*
 * proxy/run/on_demand.h - a worker waits for what the control plane may have: the main thread is
 * asked once for each name, however many wait for it. What is absent is remembered for a moment.
 */
#ifndef LT_PROXY_RUN_ON_DEMAND_H
#define LT_PROXY_RUN_ON_DEMAND_H

#include "base/list.h"
#include "net/loop.h"
#include "proxy/conf/demand.h"

struct px_worker;
struct px_wait_group;

/* Whoever waits; embedded in what it waits for. */
struct px_waiter {
    struct lt_list link;
    struct lt_timer timer;
    struct px_wait_group *group; /* NULL: it does not wait */
    /* The worker's snapshot has it, when it is there. Never called by px_waiter_start(). */
    void (*done)(struct px_waiter *waiter, px_demand_outcome outcome);
};

/* PX_DEMAND_WAITS: done will be called. Anything else: the outcome is known, nobody waits. */
px_demand_outcome px_waiter_start(struct px_waiter *waiter, struct px_worker *worker,
                                  const struct px_demand *what, uint32_t timeout_ms);
/* Whose share of what is asked for it is: the client's, by its address. */
uint32_t px_waiter_owner(const struct lt_addr *client);
/* It waits no longer. */
void px_waiter_stop(struct px_waiter *waiter);

/* Nobody waits any more. */
void px_on_demand_free(struct px_worker *worker);

#endif
