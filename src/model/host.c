/*
 * model/host.c - host names, their grammar, and port protocols.
 */
#include "model/host.h"

#include <arpa/inet.h>

bool lt_host_matches(lt_str a, lt_str b)
{
    if (!lt_host_is_wildcard(a) && !lt_host_is_wildcard(b))
        return lt_str_case_eq(a, b);
    lt_str a_tail = lt_host_is_wildcard(a) ? lt_str_from(a, 1) : a;
    lt_str b_tail = lt_host_is_wildcard(b) ? lt_str_from(b, 1) : b;
    if (!lt_host_is_wildcard(a))
        return lt_str_ends(a, b_tail);
    if (!lt_host_is_wildcard(b))
        return lt_str_ends(b, a_tail);
    return lt_str_ends(a_tail, b_tail) || lt_str_ends(b_tail, a_tail);
}

bool lt_host_is_subset(lt_str a, lt_str b)
{
    if (!lt_host_is_wildcard(b))
        return lt_str_case_eq(a, b);
    return lt_str_ends(lt_host_is_wildcard(a) ? lt_str_from(a, 1) : a, lt_str_from(b, 1));
}

int lt_host_specificity_cmp(lt_str a, lt_str b)
{
    if (lt_host_is_wildcard(a) != lt_host_is_wildcard(b))
        return lt_host_is_wildcard(a) ? 1 : -1;
    if (a.len != b.len)
        return a.len > b.len ? -1 : 1;
    return lt_str_cmp(a, b);
}

lt_str lt_host_expand(struct lt_arena *arena, lt_str host, lt_str ns, lt_str domain)
{
    bool is_short = host.len > 0 && lt_str_find_char(host, '.') < 0 && !lt_host_is_wildcard(host) &&
                    !lt_is_ip(host);
    if (!is_short)
        return host;
    return lt_arena_printf(arena, "%.*s.%.*s.svc.%.*s", LT_STR_ARG(host), LT_STR_ARG(ns),
                           LT_STR_ARG(domain));
}

lt_str lt_host_lower(struct lt_arena *arena, lt_str host)
{
    char *copy = lt_arena_strz(arena, host);
    for (size_t i = 0; i < host.len; i++)
        copy[i] = (char)(copy[i] >= 'A' && copy[i] <= 'Z' ? copy[i] + 32 : copy[i]);
    return lt_str_make(copy, host.len);
}

bool lt_is_ip(lt_str text)
{
    char buf[INET6_ADDRSTRLEN + 1];
    unsigned char out[sizeof(struct in6_addr)];
    if (text.len == 0 || text.len >= sizeof(buf))
        return false;
    memcpy(buf, text.ptr, text.len);
    buf[text.len] = '\0';
    return inet_pton(AF_INET, buf, out) == 1 || inet_pton(AF_INET6, buf, out) == 1;
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool lt_is_dns_label(lt_str text)
{
    if (text.len == 0 || text.len > 63 || !is_alnum(text.ptr[0]) ||
        !is_alnum(text.ptr[text.len - 1]))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_alnum(text.ptr[i]) && text.ptr[i] != '-')
            return false;
    }
    return true;
}

bool lt_is_fqdn(lt_str text)
{
    if (text.len > 0 && text.ptr[text.len - 1] == '.')
        text.len--;
    if (text.len == 0 || text.len > 253)
        return false;
    lt_str rest = text, label;
    while (lt_str_split(&rest, '.', &label)) {
        if (!lt_is_dns_label(label))
            return false;
    }
    return true;
}

bool lt_is_wildcard_domain(lt_str text)
{
    if (!lt_host_is_wildcard(text))
        return lt_is_fqdn(text);
    lt_str tail = lt_str_from(text, 1);
    if (tail.len > 0 && (tail.ptr[0] == '.' || tail.ptr[0] == '-'))
        tail = lt_str_from(tail, 1);
    else if (tail.len == 0)
        return true;
    return lt_is_fqdn(tail);
}

/* ---- protocols ---- */

static const struct {
    const char *name;
    lt_port_protocol protocol;
} protocols[] = {
    {"tcp", LT_PORT_TCP},
    {"udp", LT_PORT_UNSUPPORTED},
    {"grpc", LT_PORT_GRPC},
    {"grpc-web", LT_PORT_GRPC_WEB},
    {"http", LT_PORT_HTTP},
    {"http_proxy", LT_PORT_HTTP},
    {"http2", LT_PORT_HTTP2},
    {"https", LT_PORT_HTTPS},
    {"tls", LT_PORT_TLS},
    {"mongo", LT_PORT_MONGO},
    {"redis", LT_PORT_REDIS},
    {"mysql", LT_PORT_MYSQL},
    {"kubernetes.io/h2c", LT_PORT_HTTP2},
    {"kubernetes.io/ws", LT_PORT_HTTP},
    {"kubernetes.io/wss", LT_PORT_HTTPS},
};

static bool find_protocol(lt_str text, lt_port_protocol *ret)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(protocols); i++) {
        if (lt_str_case_eq(text, lt_str_of(protocols[i].name))) {
            *ret = protocols[i].protocol;
            return true;
        }
    }
    return false;
}

lt_port_protocol lt_port_protocol_parse(lt_str text)
{
    static const lt_str grpc_web = {"grpc-web", 8};
    lt_port_protocol protocol = LT_PORT_AUTO;
    if (text.len >= grpc_web.len && lt_str_case_eq(lt_str_slice(text, 0, grpc_web.len), grpc_web))
        return LT_PORT_GRPC_WEB;
    if (find_protocol(text, &protocol))
        return protocol;
    ptrdiff_t dash = lt_str_find_char(text, '-');
    if (dash > 0 && find_protocol(lt_str_slice(text, 0, (size_t)dash), &protocol))
        return protocol;
    return LT_PORT_AUTO;
}

lt_port_protocol lt_port_protocol_of(lt_str app_protocol, lt_str name, uint16_t port)
{
    lt_port_protocol protocol = lt_port_protocol_parse(app_protocol.len > 0 ? app_protocol : name);
    if (protocol != LT_PORT_AUTO)
        return protocol;
    /* where the server speaks first, nothing would ever be found out by looking */
    bool server_first = port == 25 || port == 53 || port == 3306 || port == 27017;
    return server_first ? LT_PORT_TCP : LT_PORT_AUTO;
}
