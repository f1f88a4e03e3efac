/*
 * tests/unit/base/timer_test.c - the timer heap, with lists and vectors, the other small
 * containers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/timer.h"
#include "base/vec.h"
#include <cmocka.h>

enum { COUNT = 300 };

struct item {
    struct lt_timer timer;
    struct lt_timers *timers;
    uint64_t fired_at;
    int fired;
    uint64_t again_in; /* sets itself again */
    struct item *cancels;
};

static uint64_t last_due;
static int order_broken;

static void on_due(struct lt_timer *timer, uint64_t now_ns)
{
    struct item *item = LT_CONTAINER_OF(timer, struct item, timer);
    item->fired++;
    item->fired_at = now_ns;
    order_broken += timer->at_ns < last_due;
    last_due = timer->at_ns;
    assert_false(lt_timer_is_set(timer));
    if (item->again_in != 0 || item->cancels == item)
        lt_timers_set(item->timers, timer, now_ns + item->again_in);
    else if (item->cancels != NULL)
        lt_timers_cancel(item->timers, &item->cancels->timer);
}

static void timers_fire_in_order_and_once(void **state)
{
    (void)state;
    static struct item items[COUNT];
    struct lt_timers timers;
    uint32_t seed = 3;
    lt_timers_init(&timers);
    assert_true(lt_timers_next_ns(&timers) == UINT64_MAX);
    for (int i = 0; i < COUNT; i++) {
        lt_timer_init(&items[i].timer, on_due);
        items[i].timers = &timers;
    }
    for (int round = 0; round < 3000; round++) { /* set, moved and cancelled at random */
        seed = seed * 1664525u + 1013904223u;
        struct item *item = &items[(seed >> 8) % COUNT];
        if (seed >> 30 == 0)
            lt_timers_cancel(&timers, &item->timer);
        else
            lt_timers_set(&timers, &item->timer, 1000 + (seed >> 12) % 500);
    }
    uint64_t first = UINT64_MAX;
    bool was_set[COUNT];
    for (int i = 0; i < COUNT; i++) {
        was_set[i] = lt_timer_is_set(&items[i].timer);
        if (was_set[i])
            first = LT_MIN(first, items[i].timer.at_ns);
    }
    assert_true(lt_timers_next_ns(&timers) == first);
    last_due = 0;
    order_broken = 0;
    for (uint64_t now = 900; now <= 1600; now += 50) {
        lt_timers_run(&timers, now);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(items[i].fired, was_set[i] && items[i].timer.at_ns <= now);
    }
    assert_int_equal(order_broken, 0);
    assert_int_equal(timers.count, 0);
    lt_timers_fini(&timers);
}

static void a_timer_may_set_itself_and_cancel_others(void **state)
{
    (void)state;
    struct lt_timers timers;
    struct item a = {.timers = &timers}, b = {.timers = &timers}, c = {.timers = &timers};
    lt_timers_init(&timers);
    lt_timer_init(&a.timer, on_due);
    lt_timer_init(&b.timer, on_due);
    lt_timer_init(&c.timer, on_due);
    last_due = 0;
    a.cancels = &a; /* again, due at once: must not keep the run */
    b.cancels = &c;
    lt_timers_set(&timers, &a.timer, 10);
    lt_timers_set(&timers, &b.timer, 11);
    lt_timers_set(&timers, &c.timer, 12);
    lt_timers_run(&timers, 100);
    assert_true(a.fired >= 1 && a.fired <= 3);
    assert_int_equal(b.fired, 1);
    assert_int_equal(c.fired, 0);
    assert_false(lt_timer_is_set(&c.timer));
    assert_true(lt_timer_is_set(&a.timer));
    lt_timers_fini(&timers);
    assert_false(lt_timer_is_set(&a.timer));
}

static void lists_link_and_unlink(void **state)
{
    (void)state;
    struct lt_list head, links[3] = {0}, *it, *next;
    lt_list_init(&head);
    assert_true(lt_list_is_empty(&head));
    lt_list_remove(&links[0]); /* never linked: nothing happens */
    lt_list_push_back(&head, &links[1]);
    lt_list_push_back(&head, &links[2]);
    lt_list_push_front(&head, &links[0]);
    int at = 0;
    lt_list_each (&head, it, next) {
        assert_ptr_equal(it, &links[at]);
        if (at == 1)
            lt_list_remove(it);
        at++;
    }
    assert_int_equal(at, 3);
    assert_false(lt_list_is_linked(&links[1]));
    lt_list_remove(&links[1]);
    assert_ptr_equal(head.next->next, &links[2]);
    assert_ptr_equal(head.prev->prev, &links[0]);
}

static void vectors_grow_and_shrink(void **state)
{
    (void)state;
    struct lt_vec vec;
    int items[40];
    lt_vec_init(&vec);
    assert_null(lt_vec_pop(&vec));
    for (int i = 0; i < 40; i++)
        lt_vec_push(&vec, &items[i]);
    assert_int_equal(lt_vec_find(&vec, &items[17]), 17);
    assert_int_equal(lt_vec_find(&vec, &vec), -1);
    assert_ptr_equal(lt_vec_swap_remove(&vec, 3), &items[3]);
    assert_ptr_equal(vec.items[3], &items[39]);
    assert_ptr_equal(lt_vec_pop(&vec), &items[38]);
    assert_ptr_equal(lt_vec_swap_remove(&vec, 37), &items[37]);
    assert_int_equal(vec.count, 37);
    lt_vec_fini(&vec);
    assert_int_equal(vec.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_and_once),
        cmocka_unit_test(a_timer_may_set_itself_and_cancel_others),
        cmocka_unit_test(lists_link_and_unlink),
        cmocka_unit_test(vectors_grow_and_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
