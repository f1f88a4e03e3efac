/*
 * tests/unit/base/buf_test.c - the growing buffer against a plain model of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/buf.h"

static uint32_t seed = 1;

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* Appends and consumes at random: what is read is what was written, in order. */
static void bytes_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct lt_buf buf;
    unsigned char written = 0, read = 0;
    size_t len = 0;
    lt_buf_init(&buf, 5000);
    for (int round = 0; round < 20000; round++) {
        size_t n = pick(700);
        if (pick(2) == 0) {
            char part[700];
            for (size_t i = 0; i < n; i++)
                part[i] = (char)(unsigned char)(written + i);
            lt_rc rc = lt_buf_append(&buf, part, n);
            assert_int_equal(rc, len + n > 5000 ? LT_E_LIMIT : LT_OK);
            if (rc == LT_OK) {
                written = (unsigned char)(written + n);
                len += n;
            }
        } else {
            n = LT_MIN(n, len);
            lt_str text = lt_buf_str(&buf);
            for (size_t i = 0; i < n; i++)
                assert_int_equal((unsigned char)text.ptr[i], (unsigned char)(read + i));
            lt_buf_consume(&buf, n);
            read = (unsigned char)(read + n);
            len -= n;
        }
        assert_int_equal(lt_buf_len(&buf), len);
        assert_true(buf.cap <= 16384);
    }
    lt_buf_fini(&buf);
}

static void the_maximum_is_exact(void **state)
{
    (void)state;
    struct lt_buf buf;
    char *at = NULL;
    lt_buf_init(&buf, 10);
    assert_int_equal(lt_buf_append(&buf, "0123456789", 10), LT_OK);
    assert_int_equal(lt_buf_append(&buf, "x", 1), LT_E_LIMIT);
    lt_buf_consume(&buf, 1);
    assert_int_equal(lt_buf_append(&buf, "x", 1), LT_OK);
    assert_int_equal(lt_buf_reserve(&buf, SIZE_MAX, &at), LT_E_LIMIT);
    assert_int_equal(lt_buf_append(&buf, NULL, 0), LT_OK);
    assert_true(lt_str_eqz(lt_buf_str(&buf), "123456789x"));
    lt_buf_fini(&buf);
    assert_int_equal(lt_buf_str(&buf).len, 0);
    assert_non_null(lt_buf_str(&buf).ptr);
    lt_buf_fini(&buf);
}

static void printing(void **state)
{
    (void)state;
    struct lt_buf buf;
    lt_buf_init(&buf, 1000);
    lt_buf_addf(&buf, "%s=%d", "a", 1);
    lt_buf_add(&buf, LT_STR(";"));
    assert_int_equal(lt_buf_printf(&buf, "%0500d", 0), LT_OK);
    assert_int_equal(lt_buf_len(&buf), 504);
    assert_int_equal(lt_buf_printf(&buf, "%0500d", 0), LT_E_LIMIT);
    assert_int_equal(lt_buf_len(&buf), 504); /* nothing of it was written */
    assert_true(lt_str_starts(lt_buf_str(&buf), LT_STR("a=1;000")));
    lt_buf_fini(&buf);
}

static void clearing_keeps_little(void **state)
{
    (void)state;
    struct lt_buf buf;
    lt_buf_init(&buf, 100000);
    lt_buf_add(&buf, LT_STR("abc"));
    lt_buf_clear(&buf, 4096);
    assert_non_null(buf.data);
    assert_int_equal(lt_buf_len(&buf), 0);
    lt_buf_addf(&buf, "%050000d", 0);
    lt_buf_clear(&buf, 4096);
    assert_null(buf.data);
    lt_buf_add(&buf, LT_STR("again"));
    assert_true(lt_str_eqz(lt_buf_str(&buf), "again"));
    lt_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_as_they_went_in),
        cmocka_unit_test(the_maximum_is_exact),
        cmocka_unit_test(printing),
        cmocka_unit_test(clearing_keeps_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
