/*
 * tests/unit/base/str_test.c - slices: search, splitting, numbers, hashes, UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/str.h"

static void slices_clamp(void **state)
{
    (void)state;
    lt_str s = LT_STR("hello");
    assert_true(lt_str_eqz(lt_str_from(s, 3), "lo"));
    assert_int_equal(lt_str_from(s, 9).len, 0);
    assert_true(lt_str_eqz(lt_str_slice(s, 1, 3), "el"));
    assert_int_equal(lt_str_slice(s, 3, 1).len, 0);
    assert_true(lt_str_eqz(lt_str_slice(s, 2, SIZE_MAX), "llo"));
    assert_int_equal(lt_str_from(LT_STR_NULL, 1).len + lt_str_slice(LT_STR_NULL, 1, 2).len, 0);
    assert_true(lt_str_eq(LT_STR_NULL, LT_STR("")));
    assert_true(lt_str_eq(lt_str_of(NULL), LT_STR("")));
}

static void comparing(void **state)
{
    (void)state;
    assert_true(lt_str_cmp(LT_STR("a"), LT_STR("b")) < 0);
    assert_true(lt_str_cmp(LT_STR("ab"), LT_STR("a")) > 0);
    assert_true(lt_str_cmp(LT_STR(""), LT_STR("a")) < 0);
    assert_true(lt_str_cmp(LT_STR("\xff"), LT_STR("a")) > 0);
    assert_int_equal(lt_str_cmp(LT_STR_NULL, LT_STR("")), 0);
    assert_true(lt_str_starts(LT_STR("abc"), LT_STR("ab")) &&
                lt_str_ends(LT_STR("abc"), LT_STR("bc")));
    assert_true(lt_str_starts(LT_STR("a"), LT_STR_NULL) && lt_str_ends(LT_STR_NULL, LT_STR("")));
    assert_false(lt_str_starts(LT_STR("a"), LT_STR("ab")) ||
                 lt_str_ends(LT_STR("b"), LT_STR("ab")));
    assert_true(lt_str_case_eq(LT_STR("aB-1"), LT_STR("Ab-1")));
    assert_false(lt_str_case_eq(LT_STR("a"), LT_STR("ab")));
}

static void finding(void **state)
{
    (void)state;
    lt_str s = lt_str_make("a\0b\0", 4);
    assert_int_equal(lt_str_find_char(s, '\0'), 1);
    assert_int_equal(lt_str_rfind_char(s, '\0'), 3);
    assert_int_equal(lt_str_find_char(s, 'c'), -1);
    assert_int_equal(lt_str_find_char(LT_STR_NULL, 'c'), -1);
    assert_int_equal(lt_str_rfind_char(LT_STR_NULL, 'c'), -1);
    assert_int_equal(lt_str_find(s, lt_str_make("b\0", 2)), 2);
    assert_int_equal(lt_str_find(s, LT_STR("bc")), -1);
    assert_int_equal(lt_str_find(s, LT_STR("")), 0);
    assert_int_equal(lt_str_find(LT_STR_NULL, LT_STR("x")), -1);
}

static void splitting_gives_every_piece(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *pieces[5];
    } cases[] = {{"", {""}},
                 {"a", {"a"}},
                 {"a,b", {"a", "b"}},
                 {",", {"", ""}},
                 {"a,,b,", {"a", "", "b", ""}}};
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        lt_str rest = lt_str_of(cases[i].text), piece;
        size_t count = 0;
        while (lt_str_split(&rest, ',', &piece)) {
            assert_non_null(cases[i].pieces[count]);
            assert_true(lt_str_eqz(piece, cases[i].pieces[count++]));
        }
        assert_null(cases[i].pieces[count]);
        assert_false(lt_str_split(&rest, ',', &piece));
    }
    lt_str none = LT_STR_NULL, piece;
    assert_false(lt_str_split(&none, ',', &piece));
}

static void trimming(void **state)
{
    (void)state;
    assert_true(lt_str_eqz(lt_str_trim(LT_STR(" \t\r\n a b \n")), "a b"));
    assert_int_equal(lt_str_trim(LT_STR("  ")).len, 0);
    assert_int_equal(lt_str_trim(LT_STR_NULL).len, 0);
}

static void whole_numbers_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        lt_rc u64_rc, i64_rc;
        int64_t value;
    } cases[] = {
        {"0", LT_OK, LT_OK, 0},
        {"007", LT_OK, LT_OK, 7},
        {"9223372036854775807", LT_OK, LT_OK, INT64_MAX},
        {"9223372036854775808", LT_OK, LT_E_LIMIT, 0},
        {"-9223372036854775808", LT_E_BAD, LT_OK, INT64_MIN},
        {"-9223372036854775809", LT_E_BAD, LT_E_LIMIT, 0},
        {"18446744073709551615", LT_OK, LT_E_LIMIT, 0},
        {"18446744073709551616", LT_E_LIMIT, LT_E_LIMIT, 0},
        {"99999999999999999999999999", LT_E_LIMIT, LT_E_LIMIT, 0},
        {"-0", LT_E_BAD, LT_OK, 0},
        {"", LT_E_BAD, LT_E_BAD, 0},
        {"-", LT_E_BAD, LT_E_BAD, 0},
        {"+1", LT_E_BAD, LT_E_BAD, 0},
        {" 1", LT_E_BAD, LT_E_BAD, 0},
        {"1 ", LT_E_BAD, LT_E_BAD, 0},
        {"0x1", LT_E_BAD, LT_E_BAD, 0},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        uint64_t u = 1;
        int64_t n = 1;
        assert_int_equal(lt_str_to_u64(lt_str_of(cases[i].text), &u), cases[i].u64_rc);
        assert_int_equal(lt_str_to_i64(lt_str_of(cases[i].text), &n), cases[i].i64_rc);
        if (cases[i].i64_rc == LT_OK)
            assert_int_equal(n, cases[i].value);
        if (cases[i].u64_rc != LT_OK)
            assert_int_equal(u, 1); /* untouched on failure */
    }
}

static void truth(void **state)
{
    (void)state;
    static const char *const words[2][6] = {{"0", "f", "F", "false", "False", "FALSE"},
                                            {"1", "t", "T", "true", "True", "TRUE"}};
    static const char *const bad[] = {"", "yes", "on", "tRUE", "true ", "10", "tr"};
    for (size_t i = 0; i < LT_ARRAY_LEN(words[0]); i++) {
        for (int wanted = 0; wanted < 2; wanted++) {
            bool value = !wanted;
            assert_int_equal(lt_str_to_bool(lt_str_of(words[wanted][i]), &value), LT_OK);
            assert_int_equal(value, wanted);
        }
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        bool value = i % 2 == 0;
        assert_int_equal(lt_str_to_bool(lt_str_of(bad[i]), &value), LT_E_BAD);
        assert_int_equal(value, i % 2 == 0);
    }
}

static void fractions(void **state)
{
    (void)state;
    double d = 7;
    assert_int_equal(lt_str_to_double(lt_str_make("1.5x", 3), &d), LT_OK);
    assert_true(d == 1.5);
    assert_int_equal(lt_str_to_double(LT_STR("-2e3"), &d), LT_OK);
    assert_true(d == -2000);
    static const char *const bad[] = {"", " 1", "1 ", "1.5.5", "x", "1x", "."};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_equal(lt_str_to_double(lt_str_of(bad[i]), &d), LT_E_BAD);
    assert_int_equal(lt_str_to_double(lt_str_make("1\0002", 3), &d), LT_E_BAD);
    assert_int_equal(lt_str_to_double(LT_STR("1e999"), &d), LT_E_LIMIT);
    assert_true(d == -2000);
}

/* Values from the published test vectors of XXH64. */
static void hashes_are_xxh64(void **state)
{
    (void)state;
    assert_true(lt_hash64("", 0, 0) == 0xEF46DB3751D8E999u);
    assert_true(lt_hash64("a", 1, 0) == 0xD24EC4F1A98C6E5Bu);
    assert_true(lt_hash64("abc", 3, 0) == 0x44BC2CF5AD770999u);
    static const char text[] = "Nobody inspects the spammish repetition";
    assert_true(lt_hash64(text, sizeof(text) - 1, 0) == 0xFBCEA83C8A378BF1u);
    assert_true(lt_hash64("abc", 3, 1) != lt_hash64("abc", 3, 0));
    char copy[64] = "xabc"; /* whatever the alignment */
    assert_true(lt_hash64(copy + 1, 3, 0) == 0x44BC2CF5AD770999u);
    assert_true(lt_str_hash(LT_STR("a")) == lt_str_hash(LT_STR("a")));
}

static bool is_utf8_slowly(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c = p[i];
        size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
        if (n == 0 || i + n > len)
            return false;
        static const uint32_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07},
                              least[] = {0, 0, 0x80, 0x800, 0x10000};
        c &= masks[n];
        for (size_t k = 1; k < n; k++) {
            if (p[i + k] >> 6 != 2)
                return false;
            c = c << 6 | (p[i + k] & 0x3f);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return false;
        i += n;
    }
    return true;
}

static void utf8_agrees_with_its_definition(void **state)
{
    (void)state;
    static const unsigned char edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                          0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed,
                                          0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
    enum { N = sizeof(edges) };
    for (size_t len = 0; len <= 4; len++) {
        size_t count = 1;
        for (size_t i = 0; i < len; i++)
            count *= N;
        for (size_t which = 0; which < count; which++) {
            unsigned char text[4 + 16];
            size_t rest = which;
            for (size_t i = 0; i < len; i++, rest /= N)
                text[i] = edges[rest % N];
            assert_int_equal(lt_str_is_utf8(lt_str_make(text, len)), is_utf8_slowly(text, len));
        }
    }
    char longer[40]; /* the fast way over ASCII must see a bad byte at every place */
    for (size_t at = 0; at < sizeof(longer); at++) {
        memset(longer, 'a', sizeof(longer));
        assert_true(lt_str_is_utf8(lt_str_make(longer, sizeof(longer))));
        longer[at] = (char)0x80;
        assert_false(lt_str_is_utf8(lt_str_make(longer, sizeof(longer))));
    }
}

static void hex_is_printf_s(void **state)
{
    (void)state;
    uint64_t number = 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 1000;
         i++, number = number * 6364136223846793005ull + 1442695040888963407ull) {
        char text[16], expected[17];
        uint64_t small = number >> (i % 64);
        lt_str_put_hex(text, small);
        snprintf(expected, sizeof(expected), "%016llx", (unsigned long long)small);
        assert_memory_equal(text, expected, 16);
    }
}

static void copies_end_in_nul(void **state)
{
    (void)state;
    char *copy = lt_str_dupz(lt_str_make("abc", 2));
    assert_string_equal(copy, "ab");
    free(copy);
    copy = lt_str_dupz(LT_STR_NULL);
    assert_string_equal(copy, "");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_clamp),
        cmocka_unit_test(comparing),
        cmocka_unit_test(finding),
        cmocka_unit_test(splitting_gives_every_piece),
        cmocka_unit_test(trimming),
        cmocka_unit_test(whole_numbers_and_nothing_else),
        cmocka_unit_test(truth),
        cmocka_unit_test(fractions),
        cmocka_unit_test(hashes_are_xxh64),
        cmocka_unit_test(utf8_agrees_with_its_definition),
        cmocka_unit_test(hex_is_printf_s),
        cmocka_unit_test(copies_end_in_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
