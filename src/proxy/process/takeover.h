/*
 * proxy/process/takeover.h - one process takes the place of another without losing a request: the
 * new one is handed all listening sockets, opens its listeners on them, and says "go" once it could
 * serve; the old one lets go of the sockets then, asks its connections to leave, hands its counters
 * over and ends when nobody is left. Until "go" the old one serves as if nothing were; when the new
 * one ends before, it goes on doing so.
 *
 * They speak over a SOCK_SEQPACKET Unix socket. Either the old one starts the new one (SIGUSR2: the
 * program at its own path, which may be another by now, with its own arguments), and then stays to
 * answer for it to whoever started it (supervise.h); or somebody starts the new one with the next
 * --restart-epoch, as Envoy's hot restart is done.
 * Main thread only. Start at: px_takeover_begin(), px_takeover_spawn().
 */
#ifndef LT_PROXY_PROCESS_TAKEOVER_H
#define LT_PROXY_PROCESS_TAKEOVER_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/vec.h"
#include "net/loop.h"

struct px_program;

#define PX_TAKEOVER_ENV "LATEEN_TAKEOVER_SOCKET"

struct px_takeover {
    struct px_program *program; /* borrowed */
    char *path;                 /* owned; of the program */
    char **argv;                /* borrowed */
    /* the one before us */
    struct lt_vec inherited; /* of struct px_socket, owned */
    struct lt_io old;        /* fd -1: there is none */
    struct lt_timer look;    /* whether we could serve */
    bool is_new;             /* takes somebody's place */
    bool was_spawned;        /* by the one before us, which waits for our end */
    struct lt_buf carried;   /* its counters; lt_metric_add_saved */
    /* the one after us */
    struct lt_io door; /* where it knocks; fd -1 */
    struct lt_io next; /* fd -1: there is none */
    struct lt_io child;
    pid_t child_pid;          /* 0: it was not started by us, or has ended */
    struct lt_timer patience; /* with a new one that does not come to serve */
    struct lt_timer tell;     /* counters, and whether anybody is left */
    uint64_t tell_at_ns, leave_by_ns;
    bool is_leaving, has_told_last;
    bool has_next; /* leaving: one that we started, or that took its place, serves */
};

/* Before anything is opened: takes the sockets of the one before us, if there is one. */
LT_MUST lt_rc px_takeover_begin(struct px_program *program, char **argv, struct lt_err *err);
/* All is open: says "go" when we could serve, and opens the door for the next. */
void px_takeover_serve(struct px_program *program);
/* SIGUSR2. */
void px_takeover_spawn(struct px_program *program);
/* True: the signal is for the one that has taken our place, and was passed on. */
bool px_takeover_pass_signal(struct px_program *program, int number);
/* When all is freed: ends the process, or becomes the supervisor of the next. Returns status. */
int px_takeover_end(struct px_program *program, int status);
void px_takeover_init(struct px_program *program);
void px_takeover_fini(struct px_program *program);

#endif
