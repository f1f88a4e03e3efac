/*
 * proxy/process/takeover_msg.c - messages of one size, with a descriptor at most.
 */
#include "proxy/process/takeover_msg.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/fd_pass.h"

enum { VERSION = 1 };

struct message {
    uint32_t version, type, kind, worker, addr_len;
    uint32_t handed_ip;
    uint16_t handed_id, handed_port;
    struct sockaddr_storage addr;
};

lt_rc px_takeover_send(int sock, px_takeover_type type, const struct px_socket *socket, int fd)
{
    struct message message;
    memset(&message, 0, sizeof(message)); /* padding too: it leaves the process */
    message.version = VERSION;
    message.type = type;
    if (socket != NULL) {
        message.kind = socket->kind;
        message.worker = socket->worker;
        message.handed_ip = socket->message.ip;
        message.handed_id = socket->message.id;
        message.handed_port = socket->message.port;
        message.addr_len = LT_MIN((uint32_t)socket->addr.len, (uint32_t)sizeof(message.addr));
        memcpy(&message.addr, &socket->addr.sa, message.addr_len);
        fd = socket->fd;
    }
    return lt_fd_send(sock, lt_str_make((const char *)&message, sizeof(message)), fd);
}

static lt_rc make_socket(const struct message *message, int fd, struct px_socket **ret)
{
    struct px_socket *socket = lt_new(struct px_socket);
    size_t room = sizeof(socket->addr) - offsetof(struct lt_addr, sa);
    socket->fd = fd;
    if (fd < 0 || message->kind > PX_SOCKET_DNS_TCP || message->addr_len > room ||
        message->addr_len > sizeof(message->addr)) {
        px_socket_free(&socket);
        return LT_E_BAD;
    }
    socket->kind = (px_socket_kind)message->kind;
    socket->worker = message->worker;
    socket->message = (struct lt_handover){
        .id = message->handed_id, .port = message->handed_port, .ip = message->handed_ip};
    socket->addr.len = message->addr_len;
    memcpy(&socket->addr.sa, &message->addr, message->addr_len);
    *ret = socket;
    return LT_OK;
}

lt_rc px_takeover_receive(int sock, px_takeover_type *ret_type, struct px_socket **ret_socket,
                          int *ret_fd)
{
    struct message message;
    size_t len = 0;
    int fd = -1;
    *ret_socket = NULL;
    *ret_fd = -1;
    LT_TRY(lt_fd_receive(sock, &message, sizeof(message), &len, &fd));
    if (len != sizeof(message) || message.version != VERSION) {
        if (fd >= 0)
            close(fd);
        return LT_E_BAD;
    }
    *ret_type = (px_takeover_type)message.type;
    if (message.type == PX_TAKEOVER_SOCKET)
        return make_socket(&message, fd, ret_socket);
    *ret_fd = fd;
    return LT_OK;
}

/* --- where they meet --- */

static lt_rc make_address(const char *path, unsigned base_id, unsigned epoch,
                          struct sockaddr_un *addr, socklen_t *ret_len)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s_%u_%u", path, base_id, epoch);
    if (len <= 0 || len >= (int)sizeof(addr->sun_path))
        return LT_E_LIMIT;
    if (path[0] == '@')
        addr->sun_path[0] = '\0';
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len);
    return LT_OK;
}

lt_rc px_takeover_listen(const char *path, unsigned base_id, unsigned epoch, int *ret_fd)
{
    struct sockaddr_un addr;
    socklen_t len = 0;
    LT_TRY(make_address(path, base_id, epoch, &addr, &len));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return LT_E_IO;
    if (bind(fd, (const struct sockaddr *)&addr, len) != 0 || listen(fd, 4) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return LT_E_IO;
    }
    *ret_fd = fd;
    return LT_OK;
}

lt_rc px_takeover_connect(const char *path, unsigned base_id, unsigned epoch, int *ret_fd)
{
    struct sockaddr_un addr;
    socklen_t len = 0;
    LT_TRY(make_address(path, base_id, epoch, &addr, &len));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return LT_E_IO;
    if (connect(fd, (const struct sockaddr *)&addr, len) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return LT_E_IO;
    }
    *ret_fd = fd;
    return LT_OK;
}

bool px_takeover_is_ours(int sock)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof(peer);
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    return peer.uid == geteuid() || peer.uid == 0;
}
