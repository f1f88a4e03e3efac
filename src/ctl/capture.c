/*
 * ctl/capture.c - annotations in, ruleset out.
 * Start at: ctl_capture_read(), ctl_capture_write().
 */
#include "ctl/capture.h"

#include <arpa/inet.h>
#include <net/if.h>

#define ANNOTATION(name) "traffic.sidecar.istio.io/" name

enum { LIST_MAX = 256 };

/* --- reading --- */

static lt_rc read_ports(struct lt_arena *arena, const char *name, lt_str value,
                        struct ctl_ports *ret, struct lt_err *err)
{
    if (lt_str_eqz(lt_str_trim(value), "*")) {
        *ret = (struct ctl_ports){.is_all = true};
        return LT_OK;
    }
    uint16_t *ports = lt_arena_make_n(arena, uint16_t, LIST_MAX);
    size_t count = 0;
    lt_str rest = value, item;
    while (lt_str_split(&rest, ',', &item)) {
        uint64_t port;
        item = lt_str_trim(item);
        if (item.len == 0)
            continue;
        if (lt_str_to_u64(item, &port) != LT_OK || port == 0 || port > UINT16_MAX)
            return lt_err_set(err, LT_E_BAD, "annotation %s: \"%.*s\" is no port", name,
                              LT_STR_ARG(item));
        if (count == LIST_MAX)
            return lt_err_set(err, LT_E_LIMIT, "annotation %s: more than %d ports", name, LIST_MAX);
        ports[count++] = (uint16_t)port;
    }
    *ret = (struct ctl_ports){.items = ports, .count = count};
    return LT_OK;
}

static lt_rc read_cidr(lt_str text, struct ctl_cidr *ret)
{
    char ip[INET_ADDRSTRLEN];
    ptrdiff_t slash = lt_str_find_char(text, '/');
    lt_str host = slash < 0 ? text : lt_str_slice(text, 0, (size_t)slash);
    uint64_t bits = 32;
    if (slash >= 0 &&
        (lt_str_to_u64(lt_str_from(text, (size_t)slash + 1), &bits) != LT_OK || bits > 32))
        return LT_E_BAD;
    struct in_addr in;
    if (host.len >= sizeof(ip))
        return LT_E_BAD;
    memcpy(ip, host.ptr, host.len);
    ip[host.len] = '\0';
    if (inet_pton(AF_INET, ip, &in) != 1)
        return LT_E_BAD;
    *ret = (struct ctl_cidr){ntohl(in.s_addr), (unsigned)bits};
    return LT_OK;
}

static lt_rc read_cidrs(struct lt_arena *arena, const char *name, lt_str value, bool may_be_all,
                        struct ctl_cidrs *ret, struct lt_err *err)
{
    if (may_be_all && lt_str_eqz(lt_str_trim(value), "*")) {
        *ret = (struct ctl_cidrs){.is_all = true};
        return LT_OK;
    }
    struct ctl_cidr *cidrs = lt_arena_make_n(arena, struct ctl_cidr, LIST_MAX);
    size_t count = 0;
    lt_str rest = value, item;
    while (lt_str_split(&rest, ',', &item)) {
        item = lt_str_trim(item);
        if (item.len == 0)
            continue;
        if (count == LIST_MAX)
            return lt_err_set(err, LT_E_LIMIT, "annotation %s: more than %d ranges", name,
                              LIST_MAX);
        if (read_cidr(item, &cidrs[count++]) != LT_OK)
            return lt_err_set(err, LT_E_BAD, "annotation %s: \"%.*s\" is no IPv4 range", name,
                              LT_STR_ARG(item));
    }
    *ret = (struct ctl_cidrs){.items = cidrs, .count = count};
    return LT_OK;
}

static lt_rc check_interfaces(const char *name, lt_str value, struct lt_err *err)
{
    for (lt_str rest = value, item; lt_str_split(&rest, ',', &item);) {
        item = lt_str_trim(item);
        if (item.len >= IFNAMSIZ)
            return lt_err_set(err, LT_E_BAD, "annotation %s: \"%.*s\" is no interface name", name,
                              LT_STR_ARG(item));
        for (size_t i = 0; i < item.len; i++) {
            char c = item.ptr[i];
            bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
            if (!is_plain)
                return lt_err_set(err, LT_E_BAD, "annotation %s: \"%.*s\" is no interface name",
                                  name, LT_STR_ARG(item));
        }
    }
    return LT_OK;
}

static lt_rc read_mode(lt_str value, struct ctl_capture *capture, struct lt_err *err)
{
    if (value.ptr == NULL || lt_str_eqz(value, "REDIRECT"))
        return LT_OK;
    capture->is_off = lt_str_eqz(value, "NONE");
    if (capture->is_off)
        return LT_OK;
    if (lt_str_eqz(value, "TPROXY"))
        return lt_err_set(err, LT_E_UNSUPPORTED,
                          "annotation sidecar.istio.io/interceptionMode: TPROXY is not done yet; "
                          "REDIRECT and NONE are");
    return lt_err_set(
        err, LT_E_BAD,
        "annotation sidecar.istio.io/interceptionMode: \"%.*s\" is none of REDIRECT, TPROXY, NONE",
        LT_STR_ARG(value));
}

lt_rc ctl_capture_read(struct lt_arena *arena, ctl_annotation_fn *annotation, const void *ctx,
                       struct ctl_capture *ret_capture, struct lt_err *err)
{
    struct ctl_capture c = {.inbound.is_all = true,
                            .outbound.is_all = true,
                            .uid = CTL_PROXY_UID,
                            .gid = CTL_PROXY_UID};
    const struct {
        const char *name;
        struct ctl_ports *ports;
    } port_lists[] = {
        {ANNOTATION("includeInboundPorts"), &c.inbound},
        {ANNOTATION("excludeInboundPorts"), &c.inbound_excluded},
        {ANNOTATION("includeOutboundPorts"), &c.outbound_ports},
        {ANNOTATION("excludeOutboundPorts"), &c.outbound_ports_excluded},
    };
    LT_TRY(read_mode(annotation(ctx, "sidecar.istio.io/interceptionMode"), &c, err));
    for (size_t i = 0; i < LT_ARRAY_LEN(port_lists); i++) {
        lt_str value = annotation(ctx, port_lists[i].name);
        if (value.ptr != NULL)
            LT_TRY(read_ports(arena, port_lists[i].name, value, port_lists[i].ports, err));
    }
    lt_str include = annotation(ctx, ANNOTATION("includeOutboundIPRanges"));
    if (include.ptr != NULL)
        LT_TRY(read_cidrs(arena, ANNOTATION("includeOutboundIPRanges"), include, true, &c.outbound,
                          err));
    lt_str exclude = annotation(ctx, ANNOTATION("excludeOutboundIPRanges"));
    if (exclude.ptr != NULL)
        LT_TRY(read_cidrs(arena, ANNOTATION("excludeOutboundIPRanges"), exclude, false,
                          &c.outbound_excluded, err));
    lt_str interfaces = annotation(ctx, ANNOTATION("excludeInterfaces"));
    if (interfaces.ptr != NULL) {
        LT_TRY(check_interfaces(ANNOTATION("excludeInterfaces"), interfaces, err));
        c.interfaces_excluded = lt_arena_str(arena, interfaces);
    }
    *ret_capture = c;
    return LT_OK;
}

/* --- writing --- */

#define RULE(...) LT_TRY(lt_buf_printf(out, "    " __VA_ARGS__))

static lt_rc write_ip(struct lt_buf *out, struct ctl_cidr cidr)
{
    return lt_buf_printf(out, "%u.%u.%u.%u/%u", cidr.ip >> 24, (cidr.ip >> 16) & 255,
                         (cidr.ip >> 8) & 255, cidr.ip & 255, cidr.bits);
}

static lt_rc write_interfaces(const struct ctl_capture *c, const char *direction,
                              struct lt_buf *out)
{
    for (lt_str rest = c->interfaces_excluded, item; lt_str_split(&rest, ',', &item);) {
        item = lt_str_trim(item);
        if (item.len > 0)
            RULE("%s \"%.*s\" counter return\n", direction, LT_STR_ARG(item));
    }
    return LT_OK;
}

static lt_rc write_inbound(const struct ctl_capture *c, struct lt_buf *out)
{
    static const uint16_t own[] = {CTL_PORT_PROMETHEUS, CTL_PORT_HEALTH, CTL_PORT_AGENT};
    LT_TRY(lt_buf_printf(out, "  chain istio-in-redirect {\n"));
    RULE("meta l4proto tcp counter redirect to :%d\n", CTL_PORT_INBOUND);
    LT_TRY(lt_buf_printf(out, "  }\n  chain istio-inbound {\n"));
    RULE("tcp dport %d counter return\n", CTL_PORT_HBONE);
    if (c->inbound.is_all) {
        for (size_t i = 0; i < LT_ARRAY_LEN(own); i++)
            RULE("tcp dport %u counter return\n", own[i]);
        for (size_t i = 0; i < c->inbound_excluded.count; i++)
            RULE("tcp dport %u counter return\n", c->inbound_excluded.items[i]);
        RULE("meta l4proto tcp counter jump istio-in-redirect\n");
    }
    for (size_t i = 0; i < c->inbound.count; i++)
        RULE("tcp dport %u counter jump istio-in-redirect\n", c->inbound.items[i]);
    LT_TRY(lt_buf_printf(out, "  }\n  chain prerouting {\n"));
    RULE("type nat hook prerouting priority -100; policy accept;\n");
    LT_TRY(write_interfaces(c, "iifname", out));
    if (c->inbound.is_all || c->inbound.count > 0)
        RULE("meta l4proto tcp counter jump istio-inbound\n");
    return lt_buf_printf(out, "  }\n");
}

/*
 * The proxy's own traffic: to the workload's address over loopback it is inbound, elsewhere it goes
 * out as it is.
 */
static lt_rc write_owner(const struct ctl_capture *c, const char *key, uint32_t id,
                         struct lt_buf *out)
{
    bool has_dns = c->dns_ip != 0;
    RULE("oifname \"lo\" ip daddr != 127.0.0.1 tcp dport != %s meta %s %u counter jump "
         "istio-in-redirect\n",
         has_dns ? "{ 53, 15008 }" : "15008", key, id);
    RULE("oifname \"lo\" %smeta %s != %u counter return\n", has_dns ? "tcp dport != 53 " : "", key,
         id);
    RULE("meta %s %u counter return\n", key, id);
    return LT_OK;
}

/*
 * Whoever asks the Pod's name server asks the sidecar. The sidecar's own questions to that server
 * may have the very addresses and ports of a captured one, so that connection tracking keeps the
 * two apart: what the sidecar asks is in zone 1, what it is asked in zone 2.
 */
static lt_rc write_dns(const struct ctl_capture *c, struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(out, "  chain istio-output-dns {\n"));
    for (int is_udp = 0; is_udp < 2; is_udp++) {
        RULE("ip daddr ");
        LT_TRY(write_ip(out, (struct ctl_cidr){c->dns_ip, 32}));
        LT_TRY(lt_buf_printf(out, " %s dport 53 counter redirect to :%d\n", is_udp ? "udp" : "tcp",
                             CTL_PORT_DNS));
    }
    return lt_buf_printf(out, "  }\n");
}

static lt_rc write_dns_zones(const struct ctl_capture *c, struct lt_buf *out)
{
    const struct {
        const char *key;
        uint32_t id;
    } owners[] = {{"skuid", c->uid}, {"skgid", c->gid}};
    LT_TRY(lt_buf_printf(out, "table inet istio-proxy-raw\nflush table inet istio-proxy-raw\n"
                              "table inet istio-proxy-raw {\n  chain istio-output-dns {\n"));
    for (size_t i = 0; i < LT_ARRAY_LEN(owners); i++) {
        RULE("udp dport 53 meta %s %u counter ct zone set 1\n", owners[i].key, owners[i].id);
        RULE("udp sport %d meta %s %u counter ct zone set 2\n", CTL_PORT_DNS, owners[i].key,
             owners[i].id);
    }
    RULE("udp dport 53 ip daddr ");
    LT_TRY(write_ip(out, (struct ctl_cidr){c->dns_ip, 32}));
    LT_TRY(lt_buf_printf(out, " counter ct zone set 2\n  }\n  chain istio-inbound {\n"));
    RULE("udp sport 53 ip saddr ");
    LT_TRY(write_ip(out, (struct ctl_cidr){c->dns_ip, 32}));
    LT_TRY(lt_buf_printf(out, " counter ct zone set 1\n  }\n  chain output {\n"));
    RULE("type filter hook output priority -300; policy accept;\n");
    RULE("counter jump istio-output-dns\n");
    LT_TRY(lt_buf_printf(out, "  }\n  chain prerouting {\n"));
    RULE("type filter hook prerouting priority -300; policy accept;\n");
    RULE("counter jump istio-inbound\n");
    return lt_buf_printf(out, "  }\n}\n");
}

static lt_rc write_outbound(const struct ctl_capture *c, struct lt_buf *out)
{
    LT_TRY(lt_buf_printf(out, "  chain istio-redirect {\n"));
    RULE("meta l4proto tcp counter redirect to :%d\n", CTL_PORT_OUTBOUND);
    LT_TRY(lt_buf_printf(out, "  }\n"));
    if (c->dns_ip != 0)
        LT_TRY(write_dns(c, out));
    LT_TRY(lt_buf_printf(out, "  chain istio-output {\n"));
    for (size_t i = 0; i < c->outbound_ports_excluded.count; i++)
        RULE("meta l4proto { tcp, udp } th dport %u counter return\n",
             c->outbound_ports_excluded.items[i]);
    /* the proxy calls its own application from this address (InboundPassthroughCluster, probes) */
    RULE("oifname \"lo\" ip saddr 127.0.0.6 counter return\n");
    LT_TRY(write_owner(c, "skuid", c->uid, out));
    LT_TRY(write_owner(c, "skgid", c->gid, out));
    if (c->dns_ip != 0)
        RULE("counter jump istio-output-dns\n");
    RULE("ip daddr 127.0.0.1 counter return\n");
    for (size_t i = 0; i < c->outbound_excluded.count; i++) {
        RULE("ip daddr ");
        LT_TRY(write_ip(out, c->outbound_excluded.items[i]));
        LT_TRY(lt_buf_printf(out, " counter return\n"));
    }
    for (size_t i = 0; i < c->outbound_ports.count; i++)
        RULE("tcp dport %u counter jump istio-redirect\n", c->outbound_ports.items[i]);
    if (c->outbound.is_all)
        RULE("counter jump istio-redirect\n");
    for (size_t i = 0; i < c->outbound.count; i++) {
        RULE("ip daddr ");
        LT_TRY(write_ip(out, c->outbound.items[i]));
        LT_TRY(lt_buf_printf(out, " counter jump istio-redirect\n"));
    }
    LT_TRY(lt_buf_printf(out, "  }\n  chain output {\n"));
    RULE("type nat hook output priority -100; policy accept;\n");
    LT_TRY(write_interfaces(c, "oifname", out));
    RULE("counter jump istio-output\n");
    return lt_buf_printf(out, "  }\n");
}

lt_rc ctl_capture_write(const struct ctl_capture *capture, struct lt_buf *out)
{
    if (capture->is_off)
        return LT_OK;
    /* made, emptied and filled in one transaction */
    LT_TRY(lt_buf_printf(out, "table inet istio-proxy-nat\nflush table inet istio-proxy-nat\n"
                              "table inet istio-proxy-nat {\n"));
    LT_TRY(write_inbound(capture, out));
    LT_TRY(write_outbound(capture, out));
    LT_TRY(lt_buf_printf(out, "}\n"));
    return capture->dns_ip != 0 ? write_dns_zones(capture, out) : LT_OK;
}
