/*
 * net/transport.c - the plain transport. TLS: tls.c.
 */
#include "net/transport.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { SMALL_BYTES = 2048 };

static lt_rc raw_handshake(struct lt_transport *transport LT_UNUSED)
{
    return LT_OK;
}

static lt_rc errno_rc(void)
{
    return errno == EAGAIN || errno == EINTR ? LT_AGAIN : LT_E_CLOSED;
}

static lt_rc raw_read(struct lt_transport *transport, void *to, size_t room, size_t *ret_len)
{
    ssize_t got = recv(transport->fd, to, room,
                       0); /* not read: the way through the file layer costs more */
    if (got > 0) {
        *ret_len = (size_t)got;
        return LT_OK;
    }
    return got == 0 ? LT_EOF : errno_rc();
}

/*
 * A head and a small body are copied together: the kernel takes one piece faster than it takes a
 * list of them.
 */
static ssize_t send_pieces(int fd, const struct iovec *iov, int count)
{
    char small[SMALL_BYTES];
    size_t len = 0;
    if (count == 1)
        return send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
    for (int i = 0; i < count && len <= sizeof(small); i++)
        len += iov[i].iov_len;
    if (len > sizeof(small)) {
        struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
        return sendmsg(fd, &msg, MSG_NOSIGNAL);
    }
    len = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(small + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    return send(fd, small, len, MSG_NOSIGNAL);
}

static lt_rc raw_writev(struct lt_transport *transport, const struct iovec *iov, int count,
                        size_t *ret_len)
{
    /* send, not writev: a peer that is gone must not raise SIGPIPE */
    ssize_t put = send_pieces(transport->fd, iov, count);
    if (put < 0)
        return errno_rc();
    *ret_len = (size_t)put;
    return LT_OK;
}

static lt_rc raw_shutdown_write(struct lt_transport *transport)
{
    return shutdown(transport->fd, SHUT_WR) == 0 ? LT_OK : LT_E_CLOSED;
}

static void raw_fini(struct lt_transport *transport)
{
    if (transport->fd >= 0)
        close(transport->fd);
    transport->fd = -1;
}

static const struct lt_transport_ops raw_ops = {
    .name = "raw_buffer",
    .handshake = raw_handshake,
    .read = raw_read,
    .writev = raw_writev,
    .shutdown_write = raw_shutdown_write,
    .fini = raw_fini,
};

void lt_transport_init_raw(struct lt_transport *transport, int fd)
{
    *transport = (struct lt_transport){.ops = &raw_ops, .fd = fd};
}

void lt_transport_fini(struct lt_transport *transport)
{
    if (transport->ops == NULL)
        return;
    transport->ops->fini(transport);
    transport->ops = NULL;
}
