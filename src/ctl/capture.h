/*
 * ctl/capture.h - which traffic of a workload goes through its sidecar: Istio's annotations to an
 * nftables ruleset. The rules, their order and the names of tables and chains are those of
 * istio-iptables --native-nftables in REDIRECT mode. No I/O here; nft.h applies the text in the
 * workload's network namespace.
 * Trust: annotations are a user's; nothing of them reaches the text but numbers and addresses that
 * were parsed.
 */
#ifndef LT_CTL_CAPTURE_H
#define LT_CTL_CAPTURE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    CTL_PORT_OUTBOUND = 15001,
    CTL_PORT_INBOUND = 15006,
    CTL_PORT_HBONE = 15008,
    CTL_PORT_AGENT = 15020,
    CTL_PORT_HEALTH = 15021,
    CTL_PORT_DNS = 15053,
    CTL_PORT_PROMETHEUS = 15090,
    CTL_PROXY_UID = 1337,
};

/* A list of ports, or all of them ("*"). */
struct ctl_ports {
    const uint16_t *items;
    size_t count;
    bool is_all;
};

/* A list of "a.b.c.d/n", or all addresses ("*"). */
struct ctl_cidrs {
    const struct ctl_cidr *items;
    size_t count;
    bool is_all;
};

struct ctl_cidr {
    uint32_t ip; /* host order */
    unsigned bits;
};

struct ctl_capture {
    bool is_off;              /* interceptionMode NONE */
    struct ctl_ports inbound; /* traffic.sidecar.istio.io/includeInboundPorts, "*" */
    struct ctl_ports inbound_excluded;
    struct ctl_cidrs outbound; /* .../includeOutboundIPRanges, "*" */
    struct ctl_cidrs outbound_excluded;
    struct ctl_ports outbound_ports; /* captured whatever the address */
    struct ctl_ports outbound_ports_excluded;
    lt_str interfaces_excluded; /* comma list, names checked */
    uint32_t uid, gid;          /* whose traffic is let through */
    uint32_t dns_ip; /* questions for this server go to the sidecar, host order; 0: as they are */
};

/* One annotation's value; ptr NULL when it is absent. */
typedef lt_str ctl_annotation_fn(const void *ctx, const char *name);

/* LT_E_BAD names the annotation and what is wrong with it. Lists live in arena. */
LT_MUST lt_rc ctl_capture_read(struct lt_arena *arena, ctl_annotation_fn *annotation,
                               const void *ctx, struct ctl_capture *ret_capture,
                               struct lt_err *err);
/* The ruleset; empty when capture is off. */
LT_MUST lt_rc ctl_capture_write(const struct ctl_capture *capture, struct lt_buf *out);

#endif
