/*
 * control/discovery.h - the xDS server of lateend: the world as the source has it, and a stream for each proxy.
 * Here meet source, hold, model and views (all pure, or nearly) with the loop, the clock and gRPC.
 * Not here: the order of responses (push.h), the CA (ca_service.h).
 * Start at: cp_discovery_new().
 */
#ifndef CP_CONTROL_DISCOVERY_H
#define CP_CONTROL_DISCOVERY_H

#include "base/metric.h"
#include "control/ca_authn.h"
#include "control/source_dir.h"
#include "http/grpc_server.h"
#include "wire/json.h"

struct cp_discovery;

struct cp_discovery_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    const struct lt_env *env;
    struct cp_source_dir *source;
    lt_str mesh_config;           /* text of --meshConfig, or empty: the ConfigMap `istio` counts */
    const struct cp_authn *authn; /* checks callers on TLS listeners */
    lt_str trust_domain;
    uint64_t hold_ns;           /* 0: nothing is held */
    uint64_t gate_ns, grace_ns; /* push.h; 0: the defaults */
};

/* Reads the source and builds the first model. */
struct cp_discovery *cp_discovery_new(const struct cp_discovery_opts *opts);
/* Its streams must be gone (lt_grpc_server_close). */
void cp_discovery_free(struct cp_discovery **discovery);

/* The row for lt_grpc_server_new: DeltaAggregatedResources. */
struct lt_grpc_method cp_discovery_method(struct cp_discovery *discovery);

/* /debug/syncz: an array with one element a proxy. */
void cp_discovery_syncz(const struct cp_discovery *discovery, struct lt_json_writer *w);
/* pilot_* counters. */
struct lt_metric_set *cp_discovery_metrics(struct cp_discovery *discovery);

#endif
