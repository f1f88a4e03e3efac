/*
 * net/loop.h - the event loop of one thread: sockets, timers, tasks.
 * Everything here belongs to the thread that runs the loop; other threads use net/mailbox.h.
 * The promise: nothing is called back before the call that started it has returned.
 */
#ifndef LT_NET_LOOP_H
#define LT_NET_LOOP_H

#include <sys/epoll.h>

#include "base/env.h"
#include "base/err.h"
#include "base/list.h"
#include "base/timer.h"

struct lt_loop;

/* --- descriptors --- */

struct lt_io;
/* events: EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR as epoll reports them. */
typedef void lt_io_fn(struct lt_io *io, uint32_t events);

/*
 * Embedded in what owns the descriptor. Removing it (lt_loop_io_del) inside any callback is safe:
 * no more events come.
 */
struct lt_io {
    int fd;          /* -1: none; owned by the embedder */
    uint32_t events; /* what is watched now; 0: not registered */
    lt_io_fn *on_ready;
};

static inline void lt_io_init(struct lt_io *io, lt_io_fn *on_ready)
{
    *io = (struct lt_io){.fd = -1, .on_ready = on_ready};
}

/*
 * Watches io->fd for `events` (EPOLLIN, EPOLLOUT, EPOLLET...); also changes what is watched. 0
 * events keep it registered for errors only.
 */
void lt_loop_io_set(struct lt_loop *loop, struct lt_io *io, uint32_t events);
/* Stops watching; pending events of this turn are dropped. Does not close the descriptor. */
void lt_loop_io_del(struct lt_loop *loop, struct lt_io *io);
/* The same, and closes the descriptor: io->fd is -1 then. One that is -1 already stays so. */
void lt_loop_io_close(struct lt_loop *loop, struct lt_io *io);

/* --- timers --- */

/* Due delay_ns from now (the loop's cached clock). */
void lt_loop_timer_set(struct lt_loop *loop, struct lt_timer *timer, uint64_t delay_ns);
void lt_loop_timer_cancel(struct lt_loop *loop, struct lt_timer *timer);

/* --- tasks: once, at the end of this turn --- */

struct lt_task;
typedef void lt_task_fn(struct lt_task *task);
struct lt_task {
    struct lt_list link;
    lt_task_fn *run;
};

static inline void lt_task_init(struct lt_task *task, lt_task_fn *run)
{
    lt_list_init(&task->link);
    task->run = run;
}

/* Queueing a queued task does nothing. */
void lt_loop_defer(struct lt_loop *loop, struct lt_task *task);
void lt_task_cancel(struct lt_task *task);

/* --- the loop --- */

/* env is borrowed for the loop's life. */
struct lt_loop *lt_loop_new(const struct lt_env *env);
/* Nothing may be registered any more. */
void lt_loop_free(struct lt_loop **loop);

const struct lt_env *lt_loop_env(const struct lt_loop *loop);
/* Cached once a turn. */
uint64_t lt_loop_now_ns(const struct lt_loop *loop);

/* Runs until lt_loop_stop. */
void lt_loop_run(struct lt_loop *loop);
/*
 * One turn: waits at most timeout_ms (-1: until something happens), then acts. For tests and for
 * drains.
 */
void lt_loop_turn(struct lt_loop *loop, int timeout_ms);
void lt_loop_stop(struct lt_loop *loop);

#endif
