/*
 * net/fd_pass.c - SCM_RIGHTS.
 */
#include "net/fd_pass.h"

#include <errno.h>
#include <sys/socket.h>

lt_rc lt_fd_send(int sock, lt_str bytes, int fd)
{
    LT_ASSERT(bytes.len > 0);
    struct iovec iov = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof(control.room);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        *cmsg = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
    }
    ssize_t sent;
    do
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return LT_AGAIN;
    return sent == (ssize_t)bytes.len ? LT_OK : LT_E_IO;
}

lt_rc lt_fd_receive(int sock, void *to, size_t room, size_t *ret_len, int *ret_fd)
{
    struct iovec iov = {to, room};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    ssize_t len;
    *ret_fd = -1;
    do
        len = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(int));
    *ret_len = (size_t)len;
    return len == 0 ? LT_EOF : LT_OK;
}
