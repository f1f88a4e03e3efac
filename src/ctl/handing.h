/*
 * ctl/handing.h - the node's end of a gateway's channel for listening sockets (net/handover.h).
 * What was given is remembered, so that giving and taking back may be said again and again.
 * Which sockets there are: node_ports.c.
 */
#ifndef LT_CTL_HANDING_H
#define LT_CTL_HANDING_H

#include "net/handover.h"
#include "net/loop.h"

enum { CTL_HANDED_MAX = 64 /* ports of one gateway */ };

struct ctl_handing {
    struct lt_loop *loop; /* borrowed */
    struct lt_io io;      /* fd -1: closed */
    bool is_taker;        /* the other end has said that it takes sockets */
    struct lt_handover given[CTL_HANDED_MAX];
    size_t count;
    void (*on_hello)(struct ctl_handing *handing);
};

void ctl_handing_init(struct ctl_handing *handing, struct lt_loop *loop,
                      void (*on_hello)(struct ctl_handing *handing));
/* For a new process; *ret_end is its end, the caller's to close once it has inherited it. */
LT_MUST lt_rc ctl_handing_open(struct ctl_handing *handing, int *ret_end, struct lt_err *err);
/* The process has ended: nothing is given any more. */
void ctl_handing_close(struct ctl_handing *handing);

/* False: it does not take sockets, or has no room for one more just now. */
bool ctl_handing_give(struct ctl_handing *handing, const struct lt_handover *message, int fd);
void ctl_handing_take_back(struct ctl_handing *handing, uint16_t id);

#endif
