/*
 * proxy/agent/envoy.h - a real Envoy as our child: started with the agent's bootstrap, asked
 * whether it is ready, told to drain, ended with us. Command line and sequences: Istio's pkg/envoy.
 */
#ifndef LT_PROXY_AGENT_ENVOY_H
#define LT_PROXY_AGENT_ENVOY_H

#include "http/client.h"
#include "proxy/agent/settings.h"

struct px_envoy;

struct px_envoy_opts {
    struct lt_loop *loop; /* borrowed, all of them */
    const struct px_agent_settings *settings;
    lt_str bootstrap; /* written to <configPath>/envoy-rev.json */
    /* The child has ended: its exit code, or 128 + signal. Once, from the loop. */
    void (*on_exit)(void *ctx, int code);
    void *ctx;
};

/* Writes the bootstrap and starts the child. */
LT_MUST lt_rc px_envoy_start(const struct px_envoy_opts *opts, struct px_envoy **ret_envoy,
                             struct lt_err *err);
/* Kills the child if it still runs, and waits for it. */
void px_envoy_free(struct px_envoy **envoy);

/*
 * Asks the admin page; on_done once: from the loop, at once when it was found ready before (it
 * stays so), or at the latest from px_envoy_free. why: "" when it is ready.
 */
typedef void px_envoy_ready_fn(void *ctx, bool is_ready, const char *why);
void px_envoy_check_ready(struct px_envoy *envoy, px_envoy_ready_fn *on_done, void *ctx);
/* Closes inbound listeners (all of a router) gracefully. skip_exit: the child stays afterwards. */
void px_envoy_drain(struct px_envoy *envoy, bool skip_exit);
/*
 * Drains for terminationDrainDuration, or until idle with EXIT_ON_ZERO_ACTIVE_CONNECTIONS, then
 * kills. on_exit follows.
 */
void px_envoy_stop(struct px_envoy *envoy);
/* Kills it now. on_exit follows. */
void px_envoy_kill(struct px_envoy *envoy);

/* --- for tests: no I/O --- */

/* Judges the text of /stats; why is a constant. */
bool px_envoy_stats_are_ready(lt_str stats, const char **ret_why);
/*
 * Connections in the text of /stats?filter=downstream_cx_active$, without the agent's own
 * listeners.
 */
uint64_t px_envoy_active_connections(lt_str stats, const struct px_agent_settings *settings);

#endif
