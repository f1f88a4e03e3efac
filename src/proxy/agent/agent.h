/*
 * proxy/agent/agent.h - what Istio's pilot-agent does, inside lateen-proxy: who this workload is
 * (environment, labels, ProxyConfig), its certificate (CSR to the control plane, rotation), the way
 * to the control plane, the status server (15020), the SDS and XDS sockets, and a real Envoy as a
 * child when ProxyConfig.binaryPath names one. Runs on the main thread's loop. The data path runs
 * in this process unless px_agent_runs_envoy() says otherwise: then the caller only keeps the loop
 * turning.
 * Not here: what xDS resources mean (conf_*.c, table.c), the ADS client of the data path.
 * Facts: Istio's pilot-agent and its bootstrap.
 * Start at: px_agent_new(), px_agent_start().
 */
#ifndef LT_PROXY_AGENT_AGENT_H
#define LT_PROXY_AGENT_AGENT_H

#include "base/metric.h"
#include "http/grpc_client.h"
#include "http/server.h"
#include "proxy/agent/scrape.h"

struct px_agent;

/*
 * What the agent asks of, and tells, the rest of the process. All are called from the loop, never
 * before px_agent_start() has returned. None may be NULL, but with a real Envoy only on_exit is
 * called.
 */
struct px_agent_hooks {
    /*
     * A secret is there, or has changed: bytes of envoy.extensions.transport_sockets.tls.v3.Secret
     * (px_table_put with PX_SECRET). Borrowed for the call, wiped afterwards: it may hold a private
     * key.
     */
    void (*on_secret)(void *ctx, lt_str name, lt_str version, lt_str secret);
    /*
     * The control plane's address is known: ADS streams may be started, with wait_for_ready, on
     * this channel. Once. The channel lives until px_agent_free; the agent keeps its address and
     * trust up to date.
     */
    void (*on_upstream)(void *ctx, struct lt_grpc_channel *channel);
    /*
     * For /healthz/ready: clusters and listeners were received and listeners are open. With a real
     * Envoy: all that it can't know.
     */
    bool (*is_ready)(void *ctx);
    /*
     * GET /stats/prometheus on the status port: answer it; px_agent_metrics() belongs into it, and
     * behind all the application's own (owned by the callee; NULL: none).
     */
    void (*on_stats)(void *ctx, struct lt_exchange *exchange, struct px_app_metrics *app);
    /*
     * POST /drain: inbound listeners drain now (istio: drain_listeners?graceful), the process
     * stays.
     */
    void (*on_drain)(void *ctx);
    /*
     * The process shall end with this code: /quitquitquit (0, no drain), or the Envoy child has
     * ended.
     */
    void (*on_exit)(void *ctx, int code);
};

struct px_agent_opts {
    struct lt_loop *loop;               /* borrowed; its env gives clock, randomness and log */
    const struct px_agent_hooks *hooks; /* borrowed */
    void *ctx;                          /* for the hooks */
    bool is_router;                     /* `proxy router` */
    /* --domain: "<namespace>.svc.cluster.local"; NULL: made from POD_NAMESPACE */
    const char *domain;
    const char *log_level;           /* --proxyLogLevel, handed on to Envoy; NULL: "warning" */
    const char *component_log_level; /* --proxyComponentLogLevel, for Envoy too; NULL: none */
    unsigned concurrency;     /* --concurrency; 0: ProxyConfig.concurrency, ISTIO_CPU_LIMIT, 2 */
    struct lt_vec *inherited; /* sockets of a process before us; NULL: none. Borrowed */
    const char *const
        *environment; /* "NAME=value", NULL-terminated; NULL: the process's. Read in px_agent_new */
};

/*
 * Reads environment and files. Paths are relative to the working directory, as pilot-agent's are.
 * The error names the variable or file: bad PROXY_CONFIG, missing POD_NAME ...
 */
LT_MUST lt_rc px_agent_new(const struct px_agent_opts *opts, struct px_agent **ret_agent,
                           struct lt_err *err);
/*
 * Opens the status port and the sockets, starts to look for the control plane and for a
 * certificate, or starts Envoy. LT_E_IO when a port is taken.
 */
LT_MUST lt_rc px_agent_start(struct px_agent *agent, struct lt_err *err);
/*
 * Ends what is left (a child is killed), wipes keys, removes the sockets' files and those of the
 * certificate. Calls no hook.
 */
void px_agent_free(struct px_agent **agent);

/* NULL: there is no status port. */
struct lt_server *px_agent_status_server(const struct px_agent *agent);

/* Another process has taken our place: what lies in files is its own from now on. */
void px_agent_leave(struct px_agent *agent);

/* True when ProxyConfig.binaryPath names an executable that is not this program. */
bool px_agent_runs_envoy(const struct px_agent *agent);

/*
 * The bootstrap as JSON: node, admin address, the static listeners on 15021 and 15090 with their
 * clusters, ADS. What Envoy is started with, and what the data path in this process loads by
 * px_bootstrap_load. Borrowed for the agent's life.
 */
lt_str px_agent_bootstrap(const struct px_agent *agent);

/* Numbers out of ProxyConfig and environment. */
struct px_agent_settings;
const struct px_agent_settings *px_agent_settings(const struct px_agent *agent);

/*
 * Request metadata for an ADS stream: bearer token (read from its file now), ClusterID,
 * XDS_HEADER_*. In arena; at most PX_AGENT_METADATA_MAX. The token is secret: reset the arena soon.
 */
enum { PX_AGENT_METADATA_MAX = 32 };
size_t px_agent_metadata(struct px_agent *agent, struct lt_arena *arena,
                         struct lt_grpc_metadata out[PX_AGENT_METADATA_MAX]);

/*
 * A name that configuration refers to. "default" and "ROOTCA" come by themselves; "file-cert:..."
 * and "file-root:..." are loaded (on_secret follows, from the loop) and watched from now on; others
 * are not the agent's: LT_E_NOT_FOUND.
 */
LT_MUST lt_rc px_agent_want_secret(struct px_agent *agent, lt_str name);

/*
 * PCDS: bytes of istio.mesh.v1alpha1.ProxyConfig. Its roots are trusted beside the certificate's
 * own, by whoever trusts "ROOTCA", instead of those that came before. LT_E_BAD: one is no
 * certificate; nothing changes.
 */
LT_MUST lt_rc px_agent_take_proxy_config(struct px_agent *agent, lt_str message,
                                         struct lt_err *err);

/* The istio_agent_* counters; borrowed. */
struct lt_metric_set *px_agent_metrics(struct px_agent *agent);

/*
 * SIGTERM, SIGINT: /healthz/ready says 503 from now on. With a real Envoy it is told to drain, and
 * killed after terminationDrainDuration (or when EXIT_ON_ZERO_ACTIVE_CONNECTIONS finds it idle);
 * then on_exit. In this process draining is the caller's.
 */
void px_agent_stop(struct px_agent *agent);
/* True after /drain: a later SIGTERM need not drain again. */
bool px_agent_is_drained(const struct px_agent *agent);

#endif
