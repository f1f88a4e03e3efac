/*
 * net/addr.c - parsing and printing addresses.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>

lt_rc lt_addr_parse(lt_str ip, uint16_t port, struct lt_addr *ret_addr)
{
    char text[INET6_ADDRSTRLEN + 1];
    bool is_bracketed = ip.len >= 2 && ip.ptr[0] == '[' && ip.ptr[ip.len - 1] == ']';
    if (is_bracketed)
        ip = lt_str_slice(ip, 1, ip.len - 1);
    if (ip.len == 0 || ip.len >= sizeof(text) || lt_str_find_char(ip, '\0') >= 0)
        return LT_E_BAD;
    memcpy(text, ip.ptr, ip.len);
    text[ip.len] = '\0';
    struct lt_addr addr = {0};
    if (!is_bracketed && inet_pton(AF_INET, text, &addr.v4.sin_addr) == 1) {
        addr.v4.sin_family = AF_INET;
        addr.v4.sin_port = htons(port);
        addr.len = sizeof(addr.v4);
    } else {
        memset(&addr, 0, sizeof(addr));
        if (inet_pton(AF_INET6, text, &addr.v6.sin6_addr) != 1)
            return LT_E_BAD;
        addr.v6.sin6_family = AF_INET6;
        addr.v6.sin6_port = htons(port);
        addr.len = sizeof(addr.v6);
    }
    *ret_addr = addr;
    return LT_OK;
}

lt_rc lt_addr_unix(lt_str path, struct lt_addr *ret_addr)
{
    struct lt_addr addr = {.len = sizeof(addr.un)};
    addr.un.sun_family = AF_UNIX;
    if (path.len == 0 || path.len >= sizeof(addr.un.sun_path))
        return LT_E_LIMIT;
    if (lt_str_find_char(path, '\0') >= 0)
        return LT_E_BAD;
    memcpy(addr.un.sun_path, path.ptr, path.len);
    *ret_addr = addr;
    return LT_OK;
}

lt_rc lt_addr_parse_hostport(lt_str text, struct lt_addr *ret_addr)
{
    if (lt_str_starts(text, LT_STR("unix:")))
        return lt_addr_unix(lt_str_from(text, 5), ret_addr);
    ptrdiff_t colon = lt_str_rfind_char(text, ':');
    if (colon < 0)
        return LT_E_BAD;
    uint64_t port = 0;
    LT_TRY(lt_str_to_u64(lt_str_from(text, (size_t)colon + 1), &port));
    if (port > UINT16_MAX)
        return LT_E_LIMIT;
    lt_str host = lt_str_slice(text, 0, (size_t)colon);
    if (host.len == 0)
        host = LT_STR("0.0.0.0");
    else if (lt_str_eqz(host, "localhost"))
        host = LT_STR("127.0.0.1");
    return lt_addr_parse(host, (uint16_t)port, ret_addr);
}

uint16_t lt_addr_port(const struct lt_addr *addr)
{
    if (addr->len == 0 || addr->sa.sa_family == AF_UNIX)
        return 0;
    return ntohs(addr->sa.sa_family == AF_INET ? addr->v4.sin_port : addr->v6.sin6_port);
}

void lt_addr_set_port(struct lt_addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET)
        addr->v4.sin_port = htons(port);
    else if (addr->sa.sa_family == AF_INET6)
        addr->v6.sin6_port = htons(port);
}

static lt_str ip_bytes(const struct lt_addr *addr)
{
    switch (addr->len == 0 ? AF_UNSPEC : addr->sa.sa_family) {
    case AF_INET: return lt_str_make(&addr->v4.sin_addr, 4);
    case AF_INET6: return lt_str_make(&addr->v6.sin6_addr, 16);
    default: return LT_STR_NULL;
    }
}

bool lt_addr_eq(const struct lt_addr *a, const struct lt_addr *b)
{
    if (a->len == 0 || b->len == 0)
        return a->len == b->len;
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_UNIX)
        return strncmp(a->un.sun_path, b->un.sun_path, sizeof(a->un.sun_path)) == 0;
    return lt_addr_port(a) == lt_addr_port(b) && lt_str_eq(ip_bytes(a), ip_bytes(b));
}

bool lt_addr_is_loopback(const struct lt_addr *addr)
{
    lt_str ip = ip_bytes(addr);
    if (ip.len == 4)
        return ip.ptr[0] == 127;
    static const char mapped[13] = "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f";
    return ip.len == 16 &&
           (IN6_IS_ADDR_LOOPBACK(&addr->v6.sin6_addr) || memcmp(ip.ptr, mapped, 13) == 0);
}

bool lt_addr_is_any(const struct lt_addr *addr)
{
    lt_str ip = ip_bytes(addr);
    for (size_t i = 0; i < ip.len; i++) {
        if (ip.ptr[i] != 0)
            return false;
    }
    return ip.len > 0;
}

lt_str lt_addr_format_ip(const struct lt_addr *addr, char out[LT_ADDR_TEXT_MAX])
{
    lt_str ip = ip_bytes(addr);
    out[0] = '\0';
    if (ip.len > 0)
        inet_ntop(addr->sa.sa_family, ip.ptr, out, LT_ADDR_TEXT_MAX);
    return lt_str_of(out);
}

lt_str lt_addr_format(const struct lt_addr *addr, char out[LT_ADDR_TEXT_MAX])
{
    if (addr->len != 0 && addr->sa.sa_family == AF_UNIX) {
        snprintf(out, LT_ADDR_TEXT_MAX, "unix:%.*s", (int)sizeof(addr->un.sun_path),
                 addr->un.sun_path);
        return lt_str_of(out);
    }
    char ip[LT_ADDR_TEXT_MAX];
    lt_addr_format_ip(addr, ip);
    bool is_v6 = addr->len != 0 && addr->sa.sa_family == AF_INET6;
    snprintf(out, LT_ADDR_TEXT_MAX, is_v6 ? "[%.64s]:%u" : "%.64s:%u", ip, lt_addr_port(addr));
    return lt_str_of(out);
}

bool lt_addr_in_prefix(const struct lt_addr *addr, const struct lt_addr *prefix, unsigned bits)
{
    lt_str a = ip_bytes(addr), b = ip_bytes(prefix);
    if (a.len == 0 || a.len != b.len || bits > a.len * 8)
        return false;
    size_t whole = bits / 8;
    if (memcmp(a.ptr, b.ptr, whole) != 0)
        return false;
    if (bits % 8 == 0)
        return true;
    unsigned mask = 0xff00u >> (bits % 8) & 0xff;
    return ((unsigned char)a.ptr[whole] & mask) == ((unsigned char)b.ptr[whole] & mask);
}
