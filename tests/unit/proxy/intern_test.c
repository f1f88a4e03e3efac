/*
 * tests/unit/proxy/intern_test.c - counted texts: one pointer for one text, as long as it is held.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "proxy/conf/intern.h"

static void test_same_text_same_pointer(void **state)
{
    (void)state;
    struct px_interns interns;
    px_interns_init(&interns);
    const char *a = px_text_make(&interns, LT_STR("front")),
               *b = px_text_make(&interns, LT_STR("front")),
               *c = px_text_make(&interns, LT_STR("back"));
    assert_ptr_equal(a, b);
    assert_string_equal(a, "front");
    assert_string_equal(c, "back");
    assert_int_equal(interns.texts.count, 2);
    px_text_drop(&a);
    assert_string_equal(a, "");
    assert_string_equal(b, "front"); /* held still */
    assert_ptr_equal(px_text_take(b), b);
    px_text_set(&c, b);
    assert_int_equal(interns.texts.count, 1);
    px_text_drop(&b);
    assert_string_equal(c, "front");
    px_text_drop(&c);
    assert_int_equal(interns.texts.count, 0);
    px_interns_fini(&interns);
}

static void test_empty_and_nul(void **state)
{
    (void)state;
    struct px_interns interns;
    px_interns_init(&interns);
    const char *empty = px_text_make(&interns, LT_STR_NULL),
               *nul = px_text_make(&interns, LT_STR("\0x")),
               *cut = px_text_make(&interns, LT_STR("ab\0x")),
               *same = px_text_make(&interns, LT_STR("ab"));
    assert_string_equal(empty, "");
    assert_string_equal(nul, "");
    assert_ptr_equal(cut, same);
    px_text_drop(&empty);
    px_text_drop(&nul);
    px_text_drop(&cut);
    px_text_drop(&same);
    px_interns_fini(&interns);
}

/* Strangers may come and go without end. */
static void test_nothing_is_left(void **state)
{
    (void)state;
    struct px_interns interns;
    px_interns_init(&interns);
    for (int i = 0; i < 100000; i++) {
        char text[32];
        snprintf(text, sizeof(text), "host-%d", i);
        const char *held = px_text_make(&interns, lt_str_of(text));
        px_text_drop(&held);
    }
    assert_int_equal(interns.texts.count, 0);
    px_interns_fini(&interns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_text_same_pointer),
        cmocka_unit_test(test_empty_and_nul),
        cmocka_unit_test(test_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
