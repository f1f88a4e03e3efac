/*
 * tests/unit/ctl/pool_test.c - addresses that stay with their names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "ctl/pool.h"

enum { BASE = 0x0af40000 };

static void stable(void **state)
{
    (void)state;
    struct ctl_pool one, two;
    ctl_pool_init(&one, BASE);
    ctl_pool_init(&two, BASE);
    uint32_t a = ctl_pool_get(&one, "shop", "a", 0);
    assert_true(a >= BASE + CTL_POOL_RESERVED && a < BASE + CTL_POOL_SIZE);
    assert_int_equal(ctl_pool_get(&one, "shop", "a", 0), a);
    assert_int_not_equal(ctl_pool_get(&one, "other", "a", 0), a);
    ctl_pool_get(&two, "shop", "b", 0);
    assert_int_equal(ctl_pool_get(&two, "shop", "a", 0), a); /* whoever comes first */
    assert_int_equal(ctl_pool_get(&one, "shop", "fixed", BASE + 7), BASE + 7);
    assert_int_not_equal(ctl_pool_get(&one, "shop", "second", BASE + 7), BASE + 7);
    assert_int_not_equal(ctl_pool_get(&one, "shop", "outside", 0x01020304), 0x01020304);
    ctl_pool_fini(&one);
    ctl_pool_fini(&two);
}

static void swept(void **state)
{
    (void)state;
    struct ctl_pool pool;
    ctl_pool_init(&pool, BASE);
    uint32_t a = ctl_pool_get(&pool, "x", "a", BASE + 9);
    uint32_t b = ctl_pool_get(&pool, "x", "b", 0);
    ctl_pool_begin(&pool);
    assert_int_equal(ctl_pool_get(&pool, "x", "b", 0), b);
    ctl_pool_sweep(&pool);
    assert_int_equal(pool.names.count, 1);
    assert_int_equal(ctl_pool_get(&pool, "x", "c", a), a);
    ctl_pool_fini(&pool);
}

static void full(void **state)
{
    (void)state;
    struct ctl_pool pool;
    ctl_pool_init(&pool, BASE);
    memset(pool.used, 0xff, sizeof(pool.used));
    assert_int_equal(ctl_pool_get(&pool, "x", "a", 0), 0);
    ctl_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stable), cmocka_unit_test(swept),
                                       cmocka_unit_test(full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
