/*
 * proxy/agent/status.h - the status port (15020): health, quit, drain, metrics, probes of the
 * application. Paths, methods, codes and texts: Istio's pilot-agent, status server. Decides
 * nothing: every question goes to px_status_hooks.
 */
#ifndef LT_PROXY_AGENT_STATUS_H
#define LT_PROXY_AGENT_STATUS_H

#include "proxy/agent/probe.h"

struct px_status;

/* All are called inside a request, and answer the exchange themselves where they get it. */
struct px_status_hooks {
    void (*on_ready)(void *ctx, struct lt_exchange *exchange);
    void (*on_stats)(void *ctx, struct lt_exchange *exchange);
    /* After the answer was given. */
    void (*on_quit)(void *ctx);
    void (*on_drain)(void *ctx);
};

struct px_status_opts {
    struct lt_loop *loop; /* borrowed, all of them */
    const struct px_status_hooks *hooks;
    void *ctx;
    uint16_t port;
    bool is_v6;
    bool is_metrics_local_only;
    struct px_probes *probes;
    struct lt_vec *inherited; /* sockets of a process before us; NULL: none */
};

LT_MUST lt_rc px_status_new(const struct px_status_opts *opts, struct px_status **ret_status,
                            struct lt_err *err);
void px_status_free(struct px_status **status);
struct lt_server *px_status_server(const struct px_status *status);
/* The port in use. */
uint16_t px_status_port(const struct px_status *status);

#endif
