/*
 * proxy/process/mesh_names.h - with a real Envoy as data path: the control plane's table of names
 * for our DNS proxy, on a stream of its own. Istio's agent asks on Envoy's stream, between Envoy's
 * own requests; ours passes that on untouched. Without Envoy the feeds ask (feeds_extra.c).
 */
#ifndef LT_PROXY_PROCESS_MESH_NAMES_H
#define LT_PROXY_PROCESS_MESH_NAMES_H

#include "proxy/agent/agent.h"
#include "proxy/agent/dns_proxy.h"

struct px_mesh_names;

struct px_mesh_names_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    struct px_agent *agent;
    struct px_dns_proxy *dns;
};

/* LT_E_BAD: the agent's node is none. */
LT_MUST lt_rc px_mesh_names_new(const struct px_mesh_names_opts *opts,
                                struct px_mesh_names **ret_names, struct lt_err *err);
void px_mesh_names_free(struct px_mesh_names **names);
/* The agent's way to the control plane. */
void px_mesh_names_connect(struct px_mesh_names *names, struct lt_grpc_channel *channel);

#endif
