/*
 * tests/unit/base/dump_test.c - dumps as text: indentation, escapes, cuts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/dump.h"

static void groups_and_fields_are_indented(void **state)
{
    (void)state;
    struct lt_buf out;
    struct lt_dump dump;
    lt_buf_init(&out, 4096);
    lt_dump_init(&dump, &out);
    lt_dump_open(&dump, "conn", LT_STR("a\"b"));
    lt_dump_int(&dump, "fd", -1);
    lt_dump_open(&dump, "parser", LT_STR(""));
    lt_dump_bool(&dump, "is_response", true);
    lt_dump_uint(&dump, "left", UINT64_MAX);
    lt_dump_close(&dump);
    lt_dump_fmt(&dump, "state", "%s/%d", "open", 3);
    lt_dump_close(&dump);
    static const char want[] =
        "conn \"a\\\"b\" {\n    fd: -1\n    parser {\n        is_response: true\n"
        "        left: 18446744073709551615\n    }\n    state: open/3\n}\n";
    assert_int_equal(lt_buf_len(&out), sizeof(want) - 1);
    assert_memory_equal(lt_buf_str(&out).ptr, want, sizeof(want) - 1);
    lt_buf_fini(&out);
}

static void a_strangers_bytes_fake_no_line(void **state)
{
    (void)state;
    struct lt_buf out;
    struct lt_dump dump;
    lt_buf_init(&out, 4096);
    lt_dump_init(&dump, &out);
    lt_dump_str(&dump, "host", LT_STR("x\"\nis_admin: \\true\0\xff"));
    static const char want[] = "host: \"x\\\"\\x0ais_admin: \\\\true\\x00\\xff\"\n";
    assert_int_equal(lt_buf_len(&out), sizeof(want) - 1);
    assert_memory_equal(lt_buf_str(&out).ptr, want, sizeof(want) - 1);
    lt_buf_fini(&out);
}

static void long_values_and_full_buffers_are_cut(void **state)
{
    (void)state;
    char value[3000];
    memset(value, 'v', sizeof(value));
    struct lt_buf out;
    struct lt_dump dump;
    lt_buf_init(&out, 2000);
    lt_dump_init(&dump, &out);
    for (int i = 0; i < 40; i++)
        lt_dump_open(&dump, "deep", LT_STR(""));
    lt_dump_str(&dump, "long", lt_str_make(value, sizeof(value)));
    assert_true(dump.is_cut);
    size_t len = lt_buf_len(&out);
    lt_dump_int(&dump, "short", 1); /* would fit, but lines before it are missing */
    assert_int_equal(lt_buf_len(&out), len);
    lt_buf_fini(&out);

    lt_buf_init(&out, 2000);
    lt_dump_init(&dump, &out);
    lt_dump_str(&dump, "long", lt_str_make(value, sizeof(value)));
    assert_false(dump.is_cut);
    assert_true(lt_buf_len(&out) <= 1024);
    assert_true(lt_str_ends(lt_buf_str(&out), LT_STR("vvv...\n")));
    lt_buf_fini(&out);
}

static void a_descriptor_gets_lines(void **state)
{
    (void)state;
    int ends[2];
    char got[64];
    struct lt_dump dump;
    assert_int_equal(pipe(ends), 0);
    lt_dump_init_fd(&dump, ends[1]);
    lt_dump_open(&dump, "a", LT_STR("b"));
    lt_dump_close(&dump);
    ssize_t len = read(ends[0], got, sizeof(got));
    assert_int_equal(len, 10);
    assert_memory_equal(got, "a \"b\" {\n}\n", 10);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_and_fields_are_indented),
        cmocka_unit_test(a_strangers_bytes_fake_no_line),
        cmocka_unit_test(long_values_and_full_buffers_are_cut),
        cmocka_unit_test(a_descriptor_gets_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
