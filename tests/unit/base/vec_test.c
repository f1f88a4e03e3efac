/*
 * tests/unit/base/vec_test.c - arrays of pointers: they grow, give back, and close their gaps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/vec.h"

static void items_come_back_last_first(void **state)
{
    (void)state;
    static int items[1000];
    struct lt_vec vec;
    lt_vec_init(&vec);
    assert_null(lt_vec_pop(&vec));
    for (int i = 0; i < 1000; i++)
        lt_vec_push(&vec, &items[i]);
    assert_int_equal(vec.count, 1000);
    assert_int_equal(lt_vec_find(&vec, &items[17]), 17);
    assert_int_equal(lt_vec_find(&vec, &vec), -1);
    for (int i = 999; i >= 0; i--)
        assert_ptr_equal(lt_vec_pop(&vec), &items[i]);
    assert_null(lt_vec_pop(&vec));
    lt_vec_fini(&vec);
}

static void the_last_fills_the_gap(void **state)
{
    (void)state;
    int a, b, c;
    struct lt_vec vec;
    lt_vec_init(&vec);
    lt_vec_push(&vec, &a);
    lt_vec_push(&vec, &b);
    lt_vec_push(&vec, &c);
    assert_ptr_equal(lt_vec_swap_remove(&vec, 0), &a);
    assert_ptr_equal(vec.items[0], &c);
    assert_ptr_equal(lt_vec_swap_remove(&vec, 1), &b);
    assert_ptr_equal(lt_vec_swap_remove(&vec, 0), &c);
    assert_int_equal(vec.count, 0);
    lt_vec_fini(&vec);
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void nothing_can_be_sorted(void **state)
{
    (void)state;
    int numbers[] = {3, 1, 2};
    lt_sort(NULL, 0, sizeof(int), by_value);
    lt_sort(numbers, 3, sizeof(int), by_value);
    assert_true(numbers[0] == 1 && numbers[1] == 2 && numbers[2] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_back_last_first),
        cmocka_unit_test(the_last_fills_the_gap),
        cmocka_unit_test(nothing_can_be_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
