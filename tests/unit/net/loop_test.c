/*
 * tests/unit/net/loop_test.c - the event loop: readiness, removal inside callbacks, timers, tasks;
 * mailboxes between threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/mailbox.h"

static uint64_t now_ns = 1000;

static uint64_t fake_mono_ns(void *ctx)
{
    (void)ctx;
    return now_ns;
}

static struct lt_env env;

static int setup(void **state)
{
    lt_env_init(&env, "test");
    env.mono_ns = fake_mono_ns;
    *state = lt_loop_new(&env);
    return 0;
}

static int teardown(void **state)
{
    struct lt_loop *loop = *state;
    lt_loop_free(&loop);
    return 0;
}

struct end {
    struct lt_io io;
    struct lt_loop *loop;
    int calls;
    uint32_t events;
    struct end *removes; /* in its callback */
    bool reads;
};

static void on_ready(struct lt_io *io, uint32_t events)
{
    struct end *end = LT_CONTAINER_OF(io, struct end, io);
    char byte;
    end->calls++;
    end->events = events;
    if (end->reads)
        (void)!read(io->fd, &byte, 1);
    if (end->removes != NULL)
        lt_loop_io_del(end->loop, &end->removes->io);
}

static void end_init(struct end *end, struct lt_loop *loop, int fd)
{
    *end = (struct end){.loop = loop};
    lt_io_init(&end->io, on_ready);
    end->io.fd = fd;
}

static void readiness_is_reported_while_it_is_wanted(void **state)
{
    struct lt_loop *loop = *state;
    int fds[2];
    struct end end;
    assert_int_equal(pipe(fds), 0);
    end_init(&end, loop, fds[0]);
    lt_loop_io_del(loop, &end.io); /* not registered: nothing happens */
    lt_loop_io_set(loop, &end.io, EPOLLIN);
    lt_loop_turn(loop, 0);
    assert_int_equal(end.calls, 0);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    lt_loop_turn(loop, 0);
    lt_loop_turn(loop, 0);
    assert_int_equal(end.calls, 2); /* level-triggered */
    lt_loop_io_set(loop, &end.io, 0);
    lt_loop_turn(loop, 0);
    assert_int_equal(end.calls, 2);
    close(fds[1]);
    lt_loop_turn(loop, 0);
    assert_int_equal(end.calls, 3); /* the hang-up is reported even so */
    assert_true((end.events & EPOLLHUP) != 0);
    lt_loop_io_del(loop, &end.io);
    lt_loop_turn(loop, 0);
    assert_int_equal(end.calls, 3);
    close(fds[0]);
}

/*
 * Both are ready in one batch; whichever comes first removes the other, whose event must not come
 * any more.
 */
static void removal_inside_a_callback_drops_pending_events(void **state)
{
    struct lt_loop *loop = *state;
    int a[2], b[2];
    struct end one, two;
    assert_int_equal(pipe(a) + pipe(b), 0);
    end_init(&one, loop, a[0]);
    end_init(&two, loop, b[0]);
    one.removes = &two;
    two.removes = &one;
    lt_loop_io_set(loop, &one.io, EPOLLIN);
    lt_loop_io_set(loop, &two.io, EPOLLIN);
    assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
    lt_loop_turn(loop, 0);
    assert_int_equal(one.calls + two.calls, 1);
    struct end *survivor = one.calls == 1 ? &one : &two;
    survivor->removes = survivor;
    lt_loop_turn(loop, 0);
    assert_int_equal(survivor->calls, 2);
    lt_loop_turn(loop, 0);
    assert_int_equal(one.calls + two.calls, 2);
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

struct clockwork {
    struct lt_timer timer;
    struct lt_task task;
    struct lt_loop *loop;
    int fired, ran;
    bool defers_again;
    struct lt_task *cancels;
};

static void on_due(struct lt_timer *timer, uint64_t at_ns)
{
    struct clockwork *c = LT_CONTAINER_OF(timer, struct clockwork, timer);
    assert_true(at_ns == lt_loop_now_ns(c->loop));
    c->fired++;
}

static void on_task(struct lt_task *task)
{
    struct clockwork *c = LT_CONTAINER_OF(task, struct clockwork, task);
    c->ran++;
    if (c->defers_again)
        lt_loop_defer(c->loop, task);
    if (c->cancels != NULL)
        lt_task_cancel(c->cancels);
}

static void clockwork_init(struct clockwork *c, struct lt_loop *loop)
{
    *c = (struct clockwork){.loop = loop};
    lt_timer_init(&c->timer, on_due);
    lt_task_init(&c->task, on_task);
}

static void timers_follow_the_clock(void **state)
{
    struct lt_loop *loop = *state;
    struct clockwork c, far;
    clockwork_init(&c, loop);
    clockwork_init(&far, loop);
    lt_loop_turn(loop, 0);
    lt_loop_timer_set(loop, &c.timer, 500);
    lt_loop_timer_set(loop, &far.timer, UINT64_MAX); /* does not wrap */
    now_ns += 499;
    lt_loop_turn(loop, 0);
    assert_int_equal(c.fired, 0);
    now_ns += 1;
    lt_loop_turn(loop, -1); /* due: does not wait */
    assert_int_equal(c.fired, 1);
    lt_loop_timer_set(loop, &c.timer, 0);
    lt_loop_timer_cancel(loop, &c.timer);
    lt_loop_turn(loop, 0);
    assert_int_equal(c.fired, 1);
    assert_int_equal(far.fired, 0);
    lt_loop_timer_cancel(loop, &far.timer); /* the loop outlives it */
}

static void tasks_run_once_at_the_end_of_a_turn(void **state)
{
    struct lt_loop *loop = *state;
    struct clockwork a, b, c;
    clockwork_init(&a, loop);
    clockwork_init(&b, loop);
    clockwork_init(&c, loop);
    a.defers_again = true;
    b.cancels = &c.task;
    lt_loop_defer(loop, &a.task);
    lt_loop_defer(loop, &a.task);
    lt_loop_defer(loop, &b.task);
    lt_loop_defer(loop, &c.task);
    assert_int_equal(a.ran, 0);
    lt_loop_turn(loop, -1); /* a waiting task: does not wait */
    assert_int_equal(a.ran, 1);
    assert_int_equal(b.ran, 1);
    assert_int_equal(c.ran, 0);
    lt_loop_turn(loop, -1);
    assert_int_equal(a.ran, 2);
    lt_task_cancel(&a.task);
    lt_task_cancel(&a.task);
    lt_loop_turn(loop, 0);
    assert_int_equal(a.ran, 2);
}

enum { SENDERS = 4, LETTERS = 5000 };

struct letter {
    struct lt_letter letter;
    int sender, number;
};

struct receiver {
    struct lt_loop *loop;
    int last[SENDERS];
    int count;
};

static void open_letter(struct lt_letter *letter, void *ctx)
{
    struct receiver *receiver = ctx;
    struct letter *l = LT_CONTAINER_OF(letter, struct letter, letter);
    assert_int_equal(l->number,
                     receiver->last[l->sender] + 1); /* each sender's letters come in order */
    receiver->last[l->sender] = l->number;
    receiver->count++;
    free(l);
    if (receiver->count == SENDERS * LETTERS)
        lt_loop_stop(receiver->loop);
}

struct sender {
    struct lt_mailbox *mailbox;
    int number;
    pthread_t thread;
};

static void *send_letters(void *arg)
{
    struct sender *sender = arg;
    for (int i = 1; i <= LETTERS; i++) {
        struct letter *l = lt_new(struct letter);
        *l = (struct letter){{NULL, open_letter}, sender->number, i};
        lt_mailbox_post(sender->mailbox, &l->letter);
    }
    return NULL;
}

static void no_letter_is_lost_and_order_is_kept(void **state)
{
    struct lt_loop *loop = *state;
    struct receiver receiver = {.loop = loop};
    struct sender senders[SENDERS];
    struct lt_mailbox *mailbox = lt_mailbox_new(loop, &receiver);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.mailbox = mailbox, .number = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]), 0);
    }
    lt_loop_run(loop);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_int_equal(receiver.count, SENDERS * LETTERS);

    struct letter *late = lt_new(struct letter); /* opened when the mailbox goes */
    *late = (struct letter){{NULL, open_letter}, 0, LETTERS + 1};
    lt_mailbox_post(mailbox, &late->letter);
    lt_mailbox_free(&mailbox);
    assert_null(mailbox);
    assert_int_equal(receiver.count, SENDERS * LETTERS + 1);
    lt_mailbox_free(&mailbox);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(readiness_is_reported_while_it_is_wanted),
        LOOP_TEST(removal_inside_a_callback_drops_pending_events),
        LOOP_TEST(timers_follow_the_clock),
        LOOP_TEST(tasks_run_once_at_the_end_of_a_turn),
        LOOP_TEST(no_letter_is_lost_and_order_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
