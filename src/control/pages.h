/*
 * control/pages.h - what lateend shows over HTTP: /ready, /metrics, /version and debug pages, on
 * istiod's paths. Debug pages are for callers on the same machine, and for who proves to be of the
 * system namespace.
 * Trust: callers are strangers.
 */
#ifndef CP_CONTROL_PAGES_H
#define CP_CONTROL_PAGES_H

#include "control/ca.h"
#include "control/discovery.h"
#include "http/server.h"

struct cp_pages {
    const struct lt_env *env; /* borrowed, as all below */
    const struct cp_discovery *discovery;
    const struct cp_authn *authn;
    const struct cp_ca *ca;
    const struct cp_keeper *keeper;
    struct cp_metrics *metrics;
    lt_str system_ns;
    uint64_t begin_ns; /* monotonic: when the program began */
    bool is_stopping;
};

/* An lt_server_fn; ctx is a struct cp_pages. */
void cp_pages_handle(struct lt_exchange *exchange, void *ctx);

#endif
