/*
 * tests/unit/base/err_test.c - errors that gather context; log levels and lines; times, durations,
 * randomness.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/err.h"

static void context_gathers_on_the_way_up(void **state)
{
    (void)state;
    struct lt_err err;
    lt_err_clear(&err);
    assert_int_equal(lt_err_set(&err, LT_E_BAD, "line %d", 3), LT_E_BAD);
    assert_int_equal(lt_err_wrap(&err, LT_E_LIMIT, "route %s", "a"), LT_E_LIMIT);
    assert_string_equal(err.text, "route a: line 3");
    lt_err_clear(&err);
    assert_int_equal(lt_err_wrap(&err, LT_E_TIMEOUT, "waiting"), LT_E_TIMEOUT);
    assert_string_equal(err.text, "waiting: timed out");
    errno = ENOENT;
    assert_int_equal(lt_err_errno(&err, "open %s", "x"), LT_E_IO);
    assert_string_equal(err.text, "open x: No such file or directory");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(lt_err_set(NULL, LT_E_BAD, "x"), LT_E_BAD);
    assert_int_equal(lt_err_wrap(NULL, LT_E_BAD, "x"), LT_E_BAD);
    assert_int_equal(lt_err_errno(NULL, "x"), LT_E_IO);
}

static void long_texts_are_cut_not_lost(void **state)
{
    (void)state;
    struct lt_err err;
    lt_err_set(&err, LT_E_BAD, "the reason");
    for (int depth = 1; depth < 200; depth++) {
        lt_err_wrap(&err, LT_E_BAD, "%0*d", depth * 7 % 90 + 1, depth);
        assert_true(strlen(err.text) < LT_ERR_TEXT_MAX);
    }
    for (int len = LT_ERR_TEXT_MAX - 8; len < LT_ERR_TEXT_MAX + 3; len++) { /* about the edge */
        lt_err_set(&err, LT_E_BAD, "%0*d", len, 1);
        assert_int_equal(strlen(err.text), LT_MIN(len, LT_ERR_TEXT_MAX - 1));
        lt_err_wrap(&err, LT_E_BAD, "%0*d", len, 2);
        assert_true(strlen(err.text) < LT_ERR_TEXT_MAX);
        errno = EIO;
        lt_err_errno(&err, "%0*d", len, 3);
        assert_true(strlen(err.text) < LT_ERR_TEXT_MAX);
    }
}

static void every_result_has_a_name(void **state)
{
    (void)state;
    for (lt_rc rc = LT_OK; rc <= LT_E_TLS; rc++)
        assert_string_not_equal(lt_rc_name(rc), "unknown result");
    assert_string_equal(lt_rc_name((lt_rc)999), "unknown result");
}

static void log_lines(void **state)
{
    (void)state;
    int ends[2];
    char got[4096];
    assert_int_equal(pipe(ends), 0);
    struct lt_log log = {.fd = ends[1], .level = LT_LOG_INFO, .program = "test"};
    lt_log_debug(&log, "not this");
    lt_log_warn(&log, "this %d", 1);
    ssize_t len = read(ends[0], got, sizeof(got) - 1);
    assert_true(len > 0);
    got[len] = '\0';
    assert_non_null(strstr(got, "Z\twarning\ttest\tthis 1\n"));
    assert_null(strstr(got, "not this"));
    lt_log_error(&log, "%05000d", 1);
    len = read(ends[0], got, sizeof(got));
    assert_true(len > 1000 && len <= 2048);
    assert_int_equal(got[len - 1], '\n');
    close(ends[0]);
    close(ends[1]);
    lt_log_level level;
    assert_int_equal(lt_log_level_parse(LT_STR("critical"), &level), LT_OK);
    assert_int_equal(level, LT_LOG_ERROR);
    assert_int_equal(lt_log_level_parse(LT_STR("loud"), &level), LT_E_BAD);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        lt_rc rc;
        int64_t ns;
    } cases[] = {
        {"0", LT_OK, 0},
        {"300ms", LT_OK, 300000000},
        {"1.5s", LT_OK, 1500000000},
        {"1h30m", LT_OK, 5400000000000},
        {"-2m", LT_OK, -120000000000},
        {"1us", LT_OK, 1000},
        {"1µs", LT_OK, 1000},
        {"7ns", LT_OK, 7},
        {"", LT_E_BAD, 0},
        {"-", LT_E_BAD, 0},
        {"1", LT_E_BAD, 0},
        {"s", LT_E_BAD, 0},
        {".s", LT_E_BAD, 0},
        {"1d", LT_E_BAD, 0},
        {"1s ", LT_E_BAD, 0},
        {"1.5.5s", LT_E_BAD, 0},
        {"1h-30m", LT_E_BAD, 0},
        {"infs", LT_E_BAD, 0},
        {"9000000000h", LT_E_LIMIT, 0},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        int64_t ns = 0;
        assert_int_equal(lt_duration_parse(lt_str_of(cases[i].text), &ns), cases[i].rc);
        assert_int_equal(ns, cases[i].ns);
    }
}

static void times_and_randomness(void **state)
{
    (void)state;
    char text[32];
    struct lt_env env;
    struct lt_prng prng;
    lt_time_format(1785577200123456789, text);
    assert_string_equal(text, "2026-08-01T09:40:00.123Z");
    lt_env_init(&env, "test");
    uint64_t before = lt_env_mono_ns(&env);
    assert_true(lt_env_mono_ns(&env) >= before);
    assert_true(lt_env_wall_ns(&env) > 1700000000ll * 1000000000);
    lt_prng_seed(&prng, &env);
    unsigned hits[7] = {0};
    for (int i = 0; i < 70000; i++)
        hits[lt_prng_below(&prng, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(hits[i], 9000, 11000);
    struct lt_backoff backoff;
    lt_backoff_init(&backoff, 100, 450);
    static const uint64_t ceilings[] = {100, 200, 400, 450, 450};
    for (size_t i = 0; i < LT_ARRAY_LEN(ceilings); i++)
        assert_in_range(lt_backoff_next_ns(&backoff, &prng), 1, ceilings[i]);
    lt_backoff_reset(&backoff);
    assert_in_range(lt_backoff_next_ns(&backoff, &prng), 1, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_gathers_on_the_way_up),
        cmocka_unit_test(long_texts_are_cut_not_lost),
        cmocka_unit_test(every_result_has_a_name),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(durations),
        cmocka_unit_test(times_and_randomness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
