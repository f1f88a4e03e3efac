/*
 * control/discovery.h - the xDS server of lateend: a stream for each proxy, with who it is, on
 * gRPC.
 * Not here: what it is sent (world.h), in which order (push.h), the CA (ca_service.h).
 * Start at: cp_discovery_new(), on_message().
 */
#ifndef CP_CONTROL_DISCOVERY_H
#define CP_CONTROL_DISCOVERY_H

#include "control/ca_authn.h"
#include "control/metrics.h"
#include "control/view.h"
#include "http/grpc_server.h"
#include "wire/json.h"

struct cp_discovery;

struct cp_discovery_opts {
    struct lt_loop *loop;   /* borrowed, as all below */
    struct cp_views *views; /* with a model */
    struct cp_metrics *metrics;
    const struct cp_authn *authn; /* checks callers on TLS listeners */
    uint64_t gate_ns, grace_ns;   /* push.h; 0: the defaults */
};

struct cp_discovery *cp_discovery_new(const struct cp_discovery_opts *opts);
/* Its streams must be gone (lt_grpc_server_close). */
void cp_discovery_free(struct cp_discovery **discovery);

/* The views are new ones: every proxy is told. since_ns: when the change was noticed. */
void cp_discovery_push(struct cp_discovery *discovery, uint64_t since_ns);

/* The row for lt_grpc_server_new: DeltaAggregatedResources. */
struct lt_grpc_method cp_discovery_method(struct cp_discovery *discovery);

/* /debug/syncz: an array with one element a proxy. */
void cp_discovery_syncz(const struct cp_discovery *discovery, struct lt_json_writer *w);

#endif
