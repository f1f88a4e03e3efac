/*
 * ctl/node.h - the first process of a mesh: PID 1 of its PID namespace, at home in the node's
 * network namespace. It reads the manifests, runs the Pods, answers DNS, keeps cluster IPs and
 * nodePorts, and talks to the other commands. When it ends, the kernel ends everything else in
 * here.
 */
#ifndef LT_CTL_NODE_H
#define LT_CTL_NODE_H

#include "base/env.h"
#include "ctl/state.h"

struct ctl_node_opts {
    const struct ctl_state *state;
    int supervisor_fd; /* host_port.h; closed by the supervisor: the node ends */
};

/* Runs until the mesh ends. The exit code. */
int ctl_node_main(const struct lt_env *env, const struct ctl_node_opts *opts);

#endif
