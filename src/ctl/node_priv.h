/*
 * ctl/node_priv.h - shared by node.c (set-up and end), node_pods.c (which Pods run), node_net.c
 * (names, cluster IPs), node_ports.c (nodePorts) and node_control.c (the other commands' requests).
 */
#ifndef LT_CTL_NODE_PRIV_H
#define LT_CTL_NODE_PRIV_H

#include "ctl/changes.h"
#include "ctl/control.h"
#include "ctl/node.h"
#include "ctl/pod.h"
#include "ctl/pool.h"
#include "ctl/relay.h"
#include "ctl/token.h"
#include "ctl/watch.h"
#include "model/load.h"

enum {
    CTL_NODE_IP = 0x0af40001,       /* 10.244.0.1 */
    CTL_DNS_IP = 0x0a60000a,        /* 10.96.0.10, as in most clusters */
    CTL_GATEWAY_IP = 0xa9fe0101,    /* 169.254.1.1: the next hop of every workload */
    CTL_POD_RANGE = 0x0af40000,     /* 10.244.0.0/16 */
    CTL_SERVICE_RANGE = 0x0a600000, /* 10.96.0.0/16 */
};

struct ctl_node {
    const struct lt_env *env;      /* borrowed */
    struct lt_loop *loop;          /* owned */
    const struct ctl_state *state; /* borrowed */
    struct lt_io supervisor;
    struct lt_io signals;
    struct ctl_pod_host host;
    struct ctl_tokens *tokens;
    struct ctl_watch *watch;
    struct ctl_control *control;
    struct lt_dns_server *dns;
    struct lt_arena *arena; /* for the node's life */
    const char *jwt_rule;
    const char *const *control_env; /* what lateend gets of our own environment */

    /* node_pods.c */
    struct lt_manifests *manifests;
    struct lt_object *mesh_map; /* counted; the ConfigMap istio that was good last, or NULL */
    struct ctl_plan *plan;      /* Pods taken out, Services kept */
    struct lt_vec pods;         /* struct ctl_pod *, owned */
    struct lt_vec waiting; /* struct ctl_pod_plan *, owned: for lateend, or a predecessor's end */
    struct ctl_pool pod_ips;
    struct ctl_pool cluster_ips;
    unsigned links; /* names of interfaces so far */
    struct lt_timer refresh_tokens;
    struct lt_timer retry; /* of Jobs that have failed */
    struct lt_timer look_at_root;
    struct lt_tls_ctx *trust; /* in the mesh's root; NULL until has_root */
    struct ctl_changes changes;
    struct lt_told told; /* of what is wrong with the manifests */
    size_t manifest_errors;
    uint64_t started_ns;
    bool was_all_ready;
    bool has_root;             /* lateend is ready and its root certificate was copied */
    struct timespec root_time; /* of the file that was copied last */

    /* node_net.c */
    uint64_t rules_hash; /* of the ruleset in force */
    struct lt_task publish;

    /* node_ports.c */
    struct lt_vec host_ports; /* struct host_port *, owned */

    bool is_ending;
    int exit_code;
};

/* node_pods.c */
lt_rc ctl_node_pods_init(struct ctl_node *node, struct lt_err *err);
/* The mesh ends: applications get a moment to do so by themselves. */
void ctl_node_pods_end(struct ctl_node *node);
/* Reads the manifests again and goes towards what they say. */
void ctl_node_reconcile(struct ctl_node *node);

/* A Job's Pod that has failed, and gets a successor. */
bool ctl_node_will_retry(const struct ctl_pod *pod);

static inline struct ctl_pod *ctl_node_pod(const struct ctl_node *node, size_t i)
{
    return node->pods.items[i];
}

/* node_net.c */
lt_rc ctl_node_net_init(struct ctl_node *node, struct lt_err *err);
/*
 * What is ready has changed: cluster IPs, nodePorts and lateend's files follow at the end of this
 * turn.
 */
void ctl_node_net_touch(struct ctl_node *node);
bool ctl_node_takes_traffic(const struct ctl_service_plan *service, const struct ctl_pod *pod);
/* NULL: there is none. */
const struct ctl_service_plan *ctl_node_find_service(const struct ctl_node *node, lt_str ns,
                                                     lt_str name);

/* node_ports.c */
/* The plan's Services have changed. False: a nodePort could not be had, and was told. */
bool ctl_node_ports_plan(struct ctl_node *node);
/* What is ready has changed. */
void ctl_node_ports_share(struct ctl_node *node);
/* The host's port that leads to this Pod, among others; 0: none. */
uint16_t ctl_node_host_port(const struct ctl_node *node, const struct ctl_pod_plan *pod);

/* node_control.c */
lt_rc ctl_node_control_init(struct ctl_node *node, struct lt_err *err);

/* node.c */
void ctl_node_end(struct ctl_node *node, int exit_code);
void ctl_node_say(const struct ctl_node *node, const char *fmt, ...) LT_PRINTF(2, 3);

#endif
