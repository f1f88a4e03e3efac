/*
 * ctl/probe.c - one attempt.
 */
#include "ctl/probe.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/netns.h"
#include "net/sock.h"

void ctl_probe_cancel(struct ctl_probe *probe)
{
    lt_loop_timer_cancel(probe->loop, &probe->timer);
    if (probe->io.fd >= 0) {
        lt_loop_io_del(probe->loop, &probe->io);
        close(probe->io.fd);
        probe->io.fd = -1;
    }
    probe->is_running = false;
}

static void finish(struct ctl_probe *probe, bool is_good)
{
    ctl_probe_cancel(probe);
    probe->on_done(probe, is_good);
}

static void ask(struct ctl_probe *probe)
{
    char request[256];
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lateen-probe\r\n"
                       "Connection: close\r\n\r\n",
                       probe->path);
    LT_ASSERT(len > 0 && (size_t)len < sizeof(request));
    if (send(probe->io.fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
        finish(probe, false);
        return;
    }
    probe->is_asked = true;
    lt_loop_io_set(probe->loop, &probe->io, EPOLLIN);
}

/* "HTTP/1.1 200": the status is all that counts. */
static void read_status(struct ctl_probe *probe)
{
    enum { STATUS_AT = 9, STATUS_END = 12 };
    ssize_t got = recv(probe->io.fd, probe->answer + probe->len, STATUS_END - probe->len, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            finish(probe, false);
        return;
    }
    probe->len += (size_t)got;
    if (probe->len == STATUS_END)
        finish(probe, memcmp(probe->answer, "HTTP/1.", 7) == 0 &&
                          (probe->answer[STATUS_AT] == '2' || probe->answer[STATUS_AT] == '3'));
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_probe *probe = LT_CONTAINER_OF(io, struct ctl_probe, io);
    if (probe->is_asked)
        read_status(probe);
    else if (lt_sock_error(io->fd) != 0)
        finish(probe, false);
    else if (probe->path == NULL)
        finish(probe, true);
    else
        ask(probe);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    finish(LT_CONTAINER_OF(timer, struct ctl_probe, timer), false);
}

void ctl_probe_init(struct ctl_probe *probe, struct lt_loop *loop, ctl_probe_fn *on_done)
{
    *probe = (struct ctl_probe){.loop = loop, .on_done = on_done};
    lt_io_init(&probe->io, on_ready);
    lt_timer_init(&probe->timer, on_timeout);
}

void ctl_probe_start(struct ctl_probe *probe, int netns_fd, uint16_t port, const char *path,
                     unsigned timeout_ms)
{
    struct lt_addr addr;
    int back;
    LT_ASSERT(!probe->is_running && probe->io.fd < 0);
    probe->port = port;
    probe->path = path;
    probe->is_running = true;
    probe->is_asked = false;
    probe->len = 0;
    lt_loop_timer_set(probe->loop, &probe->timer, timeout_ms * LT_NS_PER_MS);
    if (lt_addr_parse(LT_STR("127.0.0.1"), port, &addr) != LT_OK ||
        ctl_netns_enter(netns_fd, &back, NULL) != LT_OK)
        return; /* the timer says so */
    lt_rc rc = lt_sock_connect(&addr, NULL, &probe->io.fd);
    ctl_netns_leave(&back);
    if (rc != LT_OK)
        probe->io.fd = -1;
    else
        lt_loop_io_set(probe->loop, &probe->io, EPOLLOUT);
}
