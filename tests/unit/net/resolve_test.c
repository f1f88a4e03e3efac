/*
 * tests/unit/net/resolve_test.c - names and literals, and lookups that nobody waits for any more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/resolve.h"

struct result {
    int calls;
    lt_rc rc;
    size_t count;
    struct lt_addr first;
};

static void on_done(void *ctx, lt_rc rc, const struct lt_addr *addrs, size_t count,
                    const char *reason)
{
    struct result *result = ctx;
    result->calls++;
    result->rc = rc;
    result->count = count;
    if (count > 0)
        result->first = addrs[0];
    assert_true((rc == LT_OK) == (reason[0] == '\0'));
}

static struct result look_up(const char *host)
{
    struct lt_env env;
    struct result result = {0};
    lt_env_init(&env, "test");
    struct lt_loop *loop = lt_loop_new(&env);
    (void)lt_resolve_start(loop, lt_str_of(host), 15012, on_done, &result);
    assert_int_equal(result.calls, 0); /* never before it has returned */
    for (int i = 0; i < 200 && result.calls == 0; i++)
        lt_loop_turn(loop, 100);
    lt_loop_turn(loop, 0);
    assert_int_equal(result.calls, 1);
    lt_loop_free(&loop);
    return result;
}

static void test_literals_and_names(void **state)
{
    (void)state;
    char text[LT_ADDR_TEXT_MAX];
    struct result result = look_up("fd00::5");
    assert_int_equal(result.rc, LT_OK);
    assert_true(lt_str_eqz(lt_addr_format(&result.first, text), "[fd00::5]:15012"));
    result = look_up("localhost");
    assert_int_equal(result.rc, LT_OK);
    assert_true(lt_addr_is_loopback(&result.first));
    assert_int_equal(lt_addr_port(&result.first), 15012);
    assert_int_not_equal(look_up("").rc, LT_OK);
    assert_int_not_equal(look_up("no such.name").rc, LT_OK);
}

static void test_cancel(void **state)
{
    (void)state;
    struct lt_env env;
    struct result result = {0};
    lt_env_init(&env, "test");
    struct lt_loop *loop = lt_loop_new(&env);
    struct lt_resolve *resolve = lt_resolve_start(loop, LT_STR("localhost"), 1, on_done, &result);
    lt_resolve_cancel(&resolve);
    assert_null(resolve);
    lt_loop_turn(loop, 50);
    assert_int_equal(result.calls, 0);
    lt_loop_free(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_literals_and_names),
                                       cmocka_unit_test(test_cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
