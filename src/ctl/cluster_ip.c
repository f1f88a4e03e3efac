/*
 * ctl/cluster_ip.c - the node's ruleset.
 */
#include "ctl/cluster_ip.h"

#define IP_FMT "%u.%u.%u.%u"
#define IP_ARG(ip) (ip) >> 24, ((ip) >> 16) & 255, ((ip) >> 8) & 255, (ip)&255

static lt_rc write_dnat(const struct ctl_forward *f, struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(out, "    ip daddr " IP_FMT " %s dport %u dnat to ", IP_ARG(f->ip),
                         f->is_udp ? "udp" : "tcp", f->port));
    if (f->target_count == 1)
        return lt_buf_printf(out, IP_FMT ":%u\n", IP_ARG(f->targets[0].ip), f->targets[0].port);
    LT_TRY(lt_buf_printf(out, "numgen random mod %zu map {", f->target_count));
    for (size_t i = 0; i < f->target_count; i++)
        LT_TRY(lt_buf_printf(out, "%s %zu : " IP_FMT " . %u", i > 0 ? "," : "", i,
                             IP_ARG(f->targets[i].ip), f->targets[i].port));
    return lt_buf_printf(out, " }\n");
}

static lt_rc write_refusals(const struct ctl_forward *forwards, size_t count, struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(
        out, "  chain empty {\n    type filter hook prerouting priority -50; policy accept;\n"));
    for (size_t i = 0; i < count; i++) {
        const struct ctl_forward *f = &forwards[i];
        if (f->target_count == 0)
            LT_TRY(lt_buf_printf(out, "    ip daddr " IP_FMT " %s dport %u %s\n", IP_ARG(f->ip),
                                 f->is_udp ? "udp" : "tcp", f->port,
                                 f->is_udp ? "reject" : "reject with tcp reset"));
    }
    return lt_buf_printf(out, "  }\n");
}

lt_rc ctl_cluster_ip_write(const struct ctl_forward *forwards, size_t count,
                           const uint32_t *pod_ips, size_t pod_count, uint32_t node_ip,
                           struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(
        out, "table ip lateen\ndelete table ip lateen\ntable ip lateen {\n"
             "  chain services {\n    type nat hook prerouting priority -100; policy accept;\n"));
    for (size_t i = 0; i < count; i++) {
        if (forwards[i].target_count > 0)
            LT_TRY(write_dnat(&forwards[i], out));
    }
    LT_TRY(lt_buf_printf(out, "  }\n"));
    LT_TRY(write_refusals(forwards, count, out));
    LT_TRY(lt_buf_printf(
        out, "  chain to-self {\n    type nat hook postrouting priority 100; policy accept;\n"));
    if (pod_count > 0) {
        LT_TRY(lt_buf_printf(out, "    ip saddr . ip daddr {"));
        for (size_t i = 0; i < pod_count; i++)
            LT_TRY(lt_buf_printf(out, "%s " IP_FMT " . " IP_FMT, i > 0 ? "," : "",
                                 IP_ARG(pod_ips[i]), IP_ARG(pod_ips[i])));
        LT_TRY(lt_buf_printf(out, " } snat to " IP_FMT "\n", IP_ARG(node_ip)));
    }
    return lt_buf_printf(out, "  }\n}\n");
}
