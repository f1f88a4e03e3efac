/*
 * tests/unit/base/regex_test.c - patterns of strangers: matched whole or in part, replaced, and
 * refused when they are wrong or too large.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/regex.h"

static struct lt_regex *must_compile(const char *pattern)
{
    struct lt_regex *regex = NULL;
    struct lt_err err = {0};
    if (lt_regex_new(lt_str_of(pattern), &regex, &err) != LT_OK)
        fail_msg("%s: %s", pattern, err.text);
    return regex;
}

static void the_whole_text_matches_or_a_part_is_found(void **state)
{
    (void)state;
    struct lt_regex *regex = must_compile("/item/[0-9]+");
    assert_true(lt_regex_matches(regex, LT_STR("/item/17")));
    assert_false(lt_regex_matches(regex, LT_STR("/item/17/more")));
    assert_false(lt_regex_matches(regex, LT_STR("/an/item/17")));
    assert_false(lt_regex_matches(regex, LT_STR_NULL));
    assert_true(lt_regex_finds(regex, LT_STR("/an/item/17/more")));
    assert_false(lt_regex_finds(regex, LT_STR("/item/")));
    assert_false(lt_regex_matches(regex, LT_STR("/item/1\0")));
    lt_regex_free(&regex);
    assert_null(regex);
}

static void what_is_wrong_or_too_large_is_refused(void **state)
{
    (void)state;
    struct lt_regex *regex = NULL;
    struct lt_err err = {0};
    assert_int_equal(lt_regex_new(LT_STR("a(b"), &regex, &err), LT_E_BAD);
    assert_non_null(strstr(err.text, "a(b"));
    assert_non_null(strstr(err.text, "missing )"));
    assert_int_equal(lt_regex_new(LT_STR("(?=ahead)"), &regex, &err), LT_E_BAD);
    assert_int_equal(lt_regex_new(LT_STR("((a{100}){10}){10}"), &regex, &err), LT_E_BAD);
    assert_int_equal(lt_regex_new(LT_STR("(abc){900}"), &regex, &err), LT_E_LIMIT);
    assert_non_null(strstr(err.text, "too large"));
    assert_null(regex);
}

/* A pattern that takes a backtracking engine 2^n steps; here a long text is a moment. */
static void time_is_linear(void **state)
{
    (void)state;
    static char text[100000];
    memset(text, 'a', sizeof(text));
    struct lt_regex *regex = must_compile("(a|aa)+b");
    assert_false(lt_regex_matches(regex, lt_str_make(text, sizeof(text))));
    text[sizeof(text) - 1] = 'b';
    assert_true(lt_regex_matches(regex, lt_str_make(text, sizeof(text))));
    lt_regex_free(&regex);
}

static void matches_are_replaced(void **state)
{
    (void)state;
    struct lt_buf out;
    lt_buf_init(&out, 16);
    struct lt_regex *regex = must_compile("/(v[0-9])/");
    assert_int_equal(lt_regex_replace(regex, LT_STR("/v1/v2/x"), LT_STR("/\\1-"), &out), LT_OK);
    assert_true(lt_str_eqz(lt_buf_str(&out), "/v1-v2/x"));
    lt_buf_consume(&out, lt_buf_len(&out));
    assert_int_equal(lt_regex_replace(regex, LT_STR("/v1/"), LT_STR("\\2"), &out), LT_E_BAD);
    assert_int_equal(
        lt_regex_replace(regex, LT_STR("/v1/"), LT_STR("more than sixteen bytes"), &out),
        LT_E_LIMIT);
    lt_regex_free(&regex);
    lt_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_text_matches_or_a_part_is_found),
        cmocka_unit_test(what_is_wrong_or_too_large_is_refused),
        cmocka_unit_test(time_is_linear),
        cmocka_unit_test(matches_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
