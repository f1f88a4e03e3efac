/*
 * proxy/agent/probe.h - the kubelet's probes of the application, relayed: the injector points them
 * at the status port, because through captured ports the kubelet has no certificate. Configuration:
 * ISTIO_KUBE_APP_PROBERS, a JSON object from "/app-health/<container>/<livez|readyz|startupz>" (and
 * "/app-lifecycle/...") to a Kubernetes probe. Not relayed yet: grpc probes; such a path answers
 * 500 and says so.
 */
#ifndef LT_PROXY_AGENT_PROBE_H
#define LT_PROXY_AGENT_PROBE_H

#include "http/server.h"

struct px_probes;

/*
 * json may be empty. LT_E_BAD names the path and what is wrong with it. instance_ip: where the
 * application listens.
 */
LT_MUST lt_rc px_probes_new(struct lt_loop *loop, lt_str json, lt_str instance_ip,
                            uint16_t status_port, struct px_probes **ret_probes,
                            struct lt_err *err);
/* Probes that run are answered 500. */
void px_probes_free(struct px_probes **probes);
/* True when the path is for here: the exchange will be answered. */
bool px_probes_handle(struct px_probes *probes, struct lt_exchange *exchange);

#endif
