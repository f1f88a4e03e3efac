/*
 * ctl/cluster_ip.h - what kube-proxy does: cluster IPs to ready endpoints, as one nftables ruleset
 * for the node namespace. No I/O here; nft.h applies the text.
 */
#ifndef LT_CTL_CLUSTER_IP_H
#define LT_CTL_CLUSTER_IP_H

#include "base/buf.h"

struct ctl_target {
    uint32_t ip; /* host order */
    uint16_t port;
};

struct ctl_forward {
    uint32_t ip; /* the cluster IP, host order */
    uint16_t port;
    bool is_udp;
    const struct ctl_target *targets; /* none: refused */
    size_t target_count;
};

/*
 * Replaces the whole table. pod_ips: a workload that reaches itself through a cluster IP gets
 * node_ip as the caller's address, or its own kernel would drop the reply.
 */
LT_MUST lt_rc ctl_cluster_ip_write(const struct ctl_forward *forwards, size_t count,
                                   const uint32_t *pod_ips, size_t pod_count, uint32_t node_ip,
                                   struct lt_buf *out);

#endif
