/*
 * proxy/run/workers.h - private to worker.c and collect.c: what the main thread keeps of its
 * workers.
 */
#ifndef LT_PROXY_RUN_WORKERS_H
#define LT_PROXY_RUN_WORKERS_H

#include <pthread.h>

#include "base/list.h"
#include "net/mailbox.h"
#include "net/sock.h"
#include "proxy/run/pressure.h"
#include "proxy/run/worker.h"

struct px_worker;

struct px_thread {
    struct px_worker *worker; /* owned; touched by its thread alone until that has ended */
    pthread_t id;
    bool has_snapshot;
    struct lt_letter stop;
    _Atomic uint64_t
        connections; /* the one number that is read without asking: how many are open */
};

/* sockets.c: gives each worker what it inherits, before the threads start. */
void px_sockets_share(struct px_workers *workers);

/*
 * One socket for all workers, where each can't have its own: SO_REUSEPORT is not wanted, or it is a
 * file. *ret_fd is the worker's; it says px_shared_leave() when it has closed it.
 */
LT_MUST lt_rc px_shared_listen(struct px_worker *worker, const struct lt_addr *addr,
                               const struct lt_listen_opts *opts, int *ret_fd, struct lt_err *err);
void px_shared_leave(struct px_worker *worker, const struct lt_addr *addr);

struct px_workers {
    struct px_workers_opts opts;
    struct px_pressure pressure;
    bool pauses;                /* as workers were told last */
    struct lt_mailbox *mailbox; /* of the main thread */
    struct px_thread *threads;  /* owned */
    struct lt_timer drain_timer;
    uint64_t drain_until_ns;
    pthread_mutex_t shared_lock; /* of: */
    struct lt_list shared;       /* of struct px_shared (sockets.c) */
    void (*on_drained)(void *ctx);
    void *drain_ctx;
};

#endif
