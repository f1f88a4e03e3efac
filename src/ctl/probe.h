/*
 * ctl/probe.h - is somebody there: a TCP connection, or a GET that must answer 200 to 399, over a
 * workload's own loopback. The socket is made inside the workload's network namespace, where
 * loopback is never captured (capture.h), so a probe reaches the application itself whatever the
 * mesh's policy says.
 */
#ifndef LT_CTL_PROBE_H
#define LT_CTL_PROBE_H

#include "net/loop.h"

struct ctl_probe;
typedef void ctl_probe_fn(struct ctl_probe *probe, bool is_good);

struct ctl_probe {
    struct lt_io io;
    struct lt_timer timer;
    struct lt_loop *loop;
    ctl_probe_fn *on_done;
    const char *path; /* NULL: a connection is enough */
    uint16_t port;
    bool is_running;
    bool is_asked;
    size_t len;
    char answer[16];
};

void ctl_probe_init(struct ctl_probe *probe, struct lt_loop *loop, ctl_probe_fn *on_done);
/*
 * path is borrowed until on_done; nothing may be running. on_done comes later, once, after
 * timeout_ms at the latest.
 */
void ctl_probe_start(struct ctl_probe *probe, int netns_fd, uint16_t port, const char *path,
                     unsigned timeout_ms);
/* Without on_done. */
void ctl_probe_cancel(struct ctl_probe *probe);

#endif
