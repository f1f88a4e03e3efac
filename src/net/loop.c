/*
 * net/loop.c - epoll, a timer heap, and a list of tasks.
 * A turn: wait; call what is ready; run due timers; run tasks. Start at: lt_loop_turn().
 */
#include "net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 64 };

struct lt_loop {
    const struct lt_env *env; /* borrowed */
    struct lt_timers timers;
    struct lt_list tasks;
    uint64_t now_ns;
    int epoll_fd;
    bool is_stopped;
    int batch_at;    /* the event being handled, and how many there are: */
    int batch_count; /* lt_loop_io_del clears those behind it that name the same io */
    struct epoll_event batch[BATCH];
};

struct lt_loop *lt_loop_new(const struct lt_env *env)
{
    struct lt_loop *loop = lt_new(struct lt_loop);
    loop->env = env;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    LT_ASSERT(loop->epoll_fd >= 0);
    lt_timers_init(&loop->timers);
    lt_list_init(&loop->tasks);
    loop->now_ns = lt_env_mono_ns(env);
    return loop;
}

void lt_loop_free(struct lt_loop **loop)
{
    if (*loop == NULL)
        return;
    LT_ASSERT(lt_list_is_empty(&(*loop)->tasks));
    lt_timers_fini(&(*loop)->timers);
    close((*loop)->epoll_fd);
    free(*loop);
    *loop = NULL;
}

const struct lt_env *lt_loop_env(const struct lt_loop *loop)
{
    return loop->env;
}

uint64_t lt_loop_now_ns(const struct lt_loop *loop)
{
    return loop->now_ns;
}

/*
 * Registered and watching nothing looks like this, so that io->events == 0 means "not registered".
 */
static const uint32_t ONLY_ERRORS = EPOLLERR;

void lt_loop_io_set(struct lt_loop *loop, struct lt_io *io, uint32_t events)
{
    LT_ASSERT(io->fd >= 0 && io->on_ready != NULL);
    uint32_t wanted = events == 0 ? ONLY_ERRORS : events;
    if (io->events == wanted)
        return;
    struct epoll_event event = {.events = wanted, .data.ptr = io};
    int op = io->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int rc = epoll_ctl(loop->epoll_fd, op, io->fd, &event);
    LT_ASSERT(rc == 0);
    io->events = wanted;
}

void lt_loop_io_del(struct lt_loop *loop, struct lt_io *io)
{
    if (io->events == 0)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    io->events = 0;
    for (int i = loop->batch_at + 1; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == io)
            loop->batch[i].data.ptr = NULL;
    }
}

void lt_loop_io_close(struct lt_loop *loop, struct lt_io *io)
{
    if (io->fd < 0)
        return;
    lt_loop_io_del(loop, io);
    close(io->fd);
    io->fd = -1;
}

void lt_loop_timer_set(struct lt_loop *loop, struct lt_timer *timer, uint64_t delay_ns)
{
    uint64_t at_ns = 0;
    if (__builtin_add_overflow(loop->now_ns, delay_ns, &at_ns))
        at_ns = UINT64_MAX - 1;
    lt_timers_set(&loop->timers, timer, at_ns);
}

void lt_loop_timer_cancel(struct lt_loop *loop, struct lt_timer *timer)
{
    lt_timers_cancel(&loop->timers, timer);
}

void lt_loop_defer(struct lt_loop *loop, struct lt_task *task)
{
    if (!lt_list_is_linked(&task->link))
        lt_list_push_back(&loop->tasks, &task->link);
}

void lt_task_cancel(struct lt_task *task)
{
    lt_list_remove(&task->link);
}

static int wait_ms(const struct lt_loop *loop, int timeout_ms)
{
    if (!lt_list_is_empty(&loop->tasks))
        return 0;
    uint64_t next_ns = lt_timers_next_ns(&loop->timers);
    if (next_ns == UINT64_MAX)
        return timeout_ms;
    uint64_t now_ns = lt_env_mono_ns(loop->env);
    if (next_ns <= now_ns)
        return 0;
    uint64_t until_ms = (next_ns - now_ns + LT_NS_PER_MS - 1) / LT_NS_PER_MS;
    int due_ms = until_ms > 3600000 ? 3600000 : (int)until_ms;
    return timeout_ms < 0 ? due_ms : LT_MIN(timeout_ms, due_ms);
}

/* Tasks queued by tasks wait for the next turn, so that a turn ends. */
static void run_tasks(struct lt_loop *loop)
{
    struct lt_list now;
    lt_list_init(&now);
    while (!lt_list_is_empty(&loop->tasks)) {
        struct lt_list *link = loop->tasks.next;
        lt_list_remove(link);
        lt_list_push_back(&now, link);
    }
    while (!lt_list_is_empty(&now)) {
        struct lt_task *task = lt_list_first(&now, struct lt_task, link);
        lt_list_remove(&task->link);
        task->run(task);
    }
}

void lt_loop_turn(struct lt_loop *loop, int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, loop->batch, BATCH, wait_ms(loop, timeout_ms));
    LT_ASSERT(count >= 0 || errno == EINTR);
    loop->now_ns = lt_env_mono_ns(loop->env);
    loop->batch_count = LT_MAX(count, 0);
    for (loop->batch_at = 0; loop->batch_at < loop->batch_count; loop->batch_at++) {
        struct lt_io *io = loop->batch[loop->batch_at].data.ptr;
        if (io != NULL)
            io->on_ready(io, loop->batch[loop->batch_at].events);
    }
    loop->batch_count = 0;
    lt_timers_run(&loop->timers, loop->now_ns);
    run_tasks(loop);
}

void lt_loop_run(struct lt_loop *loop)
{
    loop->is_stopped = false;
    while (!loop->is_stopped)
        lt_loop_turn(loop, -1);
}

void lt_loop_stop(struct lt_loop *loop)
{
    loop->is_stopped = true;
}
