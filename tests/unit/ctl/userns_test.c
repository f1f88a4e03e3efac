/*
 * tests/unit/ctl/userns_test.c - /etc/subuid as people write it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/userns.h"

static void ranges(void **state)
{
    (void)state;
    uint64_t first = 0;
    lt_str text = LT_STR(
        "root:1:65536\n\nanna:100000:1000\nanna:200000:65536\n1002:300000:65535\nbroken:x:65536\n# c\nbob:4294967295:65536\n");
    assert_int_equal(ctl_subid_find(text, LT_STR("anna"), 1000, &first), LT_OK);
    assert_int_equal(first, 200000); /* the first one is too small */
    assert_int_equal(ctl_subid_find(text, LT_STR(""), 1002, &first), LT_OK);
    assert_int_equal(first, 300000);
    assert_int_equal(ctl_subid_find(text, LT_STR("ann"), 1000, &first), LT_E_NOT_FOUND);
    assert_int_equal(ctl_subid_find(text, LT_STR("broken"), 1, &first), LT_E_NOT_FOUND);
    assert_int_equal(ctl_subid_find(text, LT_STR("bob"), 1, &first), LT_E_NOT_FOUND);
    assert_int_equal(ctl_subid_find(LT_STR(""), LT_STR("anna"), 1, &first), LT_E_NOT_FOUND);
    assert_int_equal(ctl_subid_next(text), 365535);
    assert_int_equal(ctl_subid_next(LT_STR("")), 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
