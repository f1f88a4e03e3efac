/*
 * tests/unit/base/list_test.c - linked in order, taken out while it is walked, and out twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct lt_list link;
};

static int sum_in_order(struct lt_list *head)
{
    struct lt_list *it, *next;
    int digits = 0;
    lt_list_each (head, it, next)
        digits = digits * 10 + LT_CONTAINER_OF(it, struct item, link)->number;
    return digits;
}

static void order_is_kept(void **state)
{
    (void)state;
    struct lt_list head;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    lt_list_init(&head);
    assert_true(lt_list_is_empty(&head));
    assert_false(lt_list_is_linked(&items[0].link));
    lt_list_push_back(&head, &items[1].link);
    lt_list_push_back(&head, &items[2].link);
    lt_list_push_front(&head, &items[0].link);
    lt_list_push_back(&head, &items[3].link);
    assert_int_equal(sum_in_order(&head), 1234);
    assert_ptr_equal(lt_list_first(&head, struct item, link), &items[0]);
    assert_true(lt_list_is_linked(&items[3].link));
}

static void what_is_out_stays_out(void **state)
{
    (void)state;
    struct lt_list head, *it, *next;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    lt_list_init(&head);
    lt_list_remove(&items[0].link); /* was never in */
    for (int i = 0; i < 4; i++)
        lt_list_push_back(&head, &items[i].link);
    lt_list_each (&head, it, next) {
        if (LT_CONTAINER_OF(it, struct item, link)->number % 2 == 0)
            lt_list_remove(it);
    }
    assert_int_equal(sum_in_order(&head), 13);
    lt_list_remove(&items[1].link);
    assert_int_equal(sum_in_order(&head), 13);
    assert_false(lt_list_is_linked(&items[1].link));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(what_is_out_stays_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
