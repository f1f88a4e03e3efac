/*
 * net/sock.c - sockets.
 */
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG_DEFAULT = 1024 };

static void set_int(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

static lt_rc fail_listen(int fd, const struct lt_addr *addr, const char *what, struct lt_err *err)
{
    char text[LT_ADDR_TEXT_MAX];
    lt_addr_format(addr, text);
    lt_rc rc = lt_err_errno(err, "%s %s", what, text);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return rc;
}

/*
 * Only a socket that nobody serves any more; a file that a wrong path names stays, and bind fails.
 */
static void remove_stale(const char *path)
{
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode))
        unlink(path);
}

static void set_listen_options(int fd, const struct lt_addr *addr,
                               const struct lt_listen_opts *opts)
{
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (opts->reuse_port)
        set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (opts->transparent)
        set_int(fd, SOL_IP, IP_TRANSPARENT, 1);
    if (opts->freebind)
        set_int(fd, SOL_IP, IP_FREEBIND, 1); /* IPv6 looks at it, too */
    if (addr->sa.sa_family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, opts->v6_only ? 1 : 0);
    else if (addr->sa.sa_family == AF_UNIX)
        remove_stale(addr->un.sun_path);
}

/* Those that were asked for by number: one that the kernel refuses is an error. */
static bool set_asked(int fd, const struct lt_listen_opts *opts, lt_sock_state when)
{
    for (size_t i = 0; i < opts->option_count; i++) {
        const struct lt_sock_option *option = &opts->options[i];
        if (option->when == when && setsockopt(fd, option->level, option->name, option->value.ptr,
                                               (socklen_t)option->value.len) != 0)
            return false;
    }
    return true;
}

lt_rc lt_sock_listen(const struct lt_addr *addr, const struct lt_listen_opts *opts, int *ret_fd,
                     struct lt_err *err)
{
    static const struct lt_listen_opts defaults = {0};
    if (opts == NULL)
        opts = &defaults;
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_listen(fd, addr, "cannot make a socket for", err);
    set_listen_options(fd, addr, opts);
    if (!set_asked(fd, opts, LT_SOCK_PREBIND))
        return fail_listen(fd, addr, "cannot set an option before binding", err);
    if (bind(fd, &addr->sa, addr->len) != 0)
        return fail_listen(fd, addr, "cannot bind", err);
    if (addr->sa.sa_family == AF_UNIX &&
        chmod(addr->un.sun_path, opts->unix_mode != 0 ? opts->unix_mode : 0600) != 0)
        return fail_listen(fd, addr, "cannot set the mode of", err);
    if (!set_asked(fd, opts, LT_SOCK_BOUND))
        return fail_listen(fd, addr, "cannot set an option of", err);
    if (listen(fd, opts->backlog != 0 ? opts->backlog : BACKLOG_DEFAULT) != 0)
        return fail_listen(fd, addr, "cannot listen on", err);
    if (opts->fast_open_queue > 0)
        set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, opts->fast_open_queue);
    if (!set_asked(fd, opts, LT_SOCK_LISTENING))
        return fail_listen(fd, addr, "cannot set an option while listening on", err);
    *ret_fd = fd;
    return LT_OK;
}

lt_rc lt_sock_connect(const struct lt_addr *addr, const struct lt_addr *bind_to, int *ret_fd)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return LT_E_IO;
    if (addr->sa.sa_family != AF_UNIX)
        lt_sock_set_nodelay(fd);
    if (bind_to != NULL) {
        /* the kernel picks the port at connect, so that one source address can reach many peers */
        set_int(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, &bind_to->sa, bind_to->len) != 0)
            goto fail;
    }
    if (connect(fd, &addr->sa, addr->len) != 0 && errno != EINPROGRESS)
        goto fail;
    *ret_fd = fd;
    return LT_OK;

fail:;
    int saved = errno;
    close(fd);
    errno = saved;
    return LT_E_IO;
}

/* What an IPv6 socket that takes both says of an IPv4 peer, as the IPv4 address that it is. */
static void unmap(struct lt_addr *addr)
{
    if (addr->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&addr->v6.sin6_addr))
        return;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = addr->v6.sin6_port};
    memcpy(&v4.sin_addr, addr->v6.sin6_addr.s6_addr + 12, sizeof(v4.sin_addr));
    addr->v4 = v4;
    addr->len = sizeof(v4);
}

lt_rc lt_sock_accept(int listen_fd, int *ret_fd, struct lt_addr *ret_peer)
{
    struct lt_addr peer = {.len = sizeof(peer) - offsetof(struct lt_addr, sa)};
    int fd = accept4(listen_fd, &peer.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool is_passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
        return is_passing ? LT_AGAIN : LT_E_IO;
    }
    if (peer.sa.sa_family != AF_UNIX)
        lt_sock_set_nodelay(fd);
    unmap(&peer);
    if (ret_peer != NULL)
        *ret_peer = peer;
    *ret_fd = fd;
    return LT_OK;
}

int lt_sock_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return errno;
    return error;
}

lt_rc lt_sock_local(int fd, struct lt_addr *ret_addr)
{
    struct lt_addr addr = {.len = sizeof(addr) - offsetof(struct lt_addr, sa)};
    if (getsockname(fd, &addr.sa, &addr.len) != 0)
        return LT_E_IO;
    unmap(&addr);
    *ret_addr = addr;
    return LT_OK;
}

lt_rc lt_sock_peer(int fd, struct lt_addr *ret_addr)
{
    struct lt_addr addr = {.len = sizeof(addr) - offsetof(struct lt_addr, sa)};
    if (getpeername(fd, &addr.sa, &addr.len) != 0)
        return LT_E_IO;
    unmap(&addr);
    *ret_addr = addr;
    return LT_OK;
}

lt_rc lt_sock_original_dst(int fd, struct lt_addr *ret_addr)
{
    struct lt_addr local = {0};
    LT_TRY(lt_sock_local(fd, &local));
    struct lt_addr addr = {.len = sizeof(addr.v4)};
    int level = SOL_IP;
    if (local.sa.sa_family == AF_INET6) {
        addr.len = sizeof(addr.v6);
        level = SOL_IPV6;
    }
    /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST are the same number */
    if (getsockopt(fd, level, SO_ORIGINAL_DST, &addr.sa, &addr.len) != 0)
        return LT_E_NOT_FOUND;
    *ret_addr = addr;
    return LT_OK;
}

void lt_sock_set_nodelay(int fd)
{
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void lt_sock_set_keepalive(int fd, unsigned idle_s, unsigned interval_s, unsigned probes)
{
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (idle_s != 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s);
    if (interval_s != 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)interval_s);
    if (probes != 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)probes);
}

void lt_sock_set_linger_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}
