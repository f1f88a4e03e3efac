/*
 * ctl/handing.c - a socket pair, and the list of what went over it.
 */
#include "ctl/handing.h"

#include <sys/socket.h>
#include <unistd.h>

static void on_message(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_handing *handing = LT_CONTAINER_OF(io, struct ctl_handing, io);
    lt_rc rc = lt_handover_receive_hello(io->fd);
    if (rc == LT_AGAIN)
        return;
    if (rc != LT_OK) { /* it ends, or is not what we think */
        ctl_handing_close(handing);
        return;
    }
    handing->is_taker = true;
    handing->on_hello(handing);
}

void ctl_handing_init(struct ctl_handing *handing, struct lt_loop *loop,
                      void (*on_hello)(struct ctl_handing *handing))
{
    *handing = (struct ctl_handing){.loop = loop, .on_hello = on_hello};
    lt_io_init(&handing->io, on_message);
}

lt_rc ctl_handing_open(struct ctl_handing *handing, int *ret_end, struct lt_err *err)
{
    int ends[2];
    ctl_handing_close(handing);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return lt_err_errno(err, "a channel for listening sockets");
    handing->io.fd = ends[0];
    lt_loop_io_set(handing->loop, &handing->io, EPOLLIN);
    *ret_end = ends[1];
    return LT_OK;
}

void ctl_handing_close(struct ctl_handing *handing)
{
    handing->is_taker = false;
    handing->count = 0;
    if (handing->io.fd < 0)
        return;
    lt_loop_io_del(handing->loop, &handing->io);
    close(handing->io.fd);
    handing->io.fd = -1;
}

static struct lt_handover *find_given(struct ctl_handing *handing, uint16_t id)
{
    for (size_t i = 0; i < handing->count; i++) {
        if (handing->given[i].id == id)
            return &handing->given[i];
    }
    return NULL;
}

bool ctl_handing_give(struct ctl_handing *handing, const struct lt_handover *message, int fd)
{
    struct lt_handover *given = find_given(handing, message->id);
    if (!handing->is_taker || (given == NULL && handing->count == CTL_HANDED_MAX))
        return false;
    if (given != NULL && given->port == message->port && given->ip == message->ip)
        return true;
    if (lt_handover_send(handing->io.fd, message, fd) != LT_OK)
        return given != NULL;
    if (given == NULL)
        given = &handing->given[handing->count++];
    *given = *message;
    return true;
}

void ctl_handing_take_back(struct ctl_handing *handing, uint16_t id)
{
    struct lt_handover *given = find_given(handing, id);
    if (given == NULL || lt_handover_send(handing->io.fd, given, -1) != LT_OK)
        return;
    *given = handing->given[--handing->count];
}
