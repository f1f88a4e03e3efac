/*
 * Counted bytes, and ropes of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rope.h"

static int freed;

static void count_free(struct lt_bytes *bytes)
{
    free(bytes);
    freed++;
}

static struct lt_bytes *block(char c, size_t len)
{
    char *memory = malloc(sizeof(struct lt_bytes) + len);
    memset(memory + sizeof(struct lt_bytes), c, len);
    struct lt_bytes *bytes = (struct lt_bytes *)(void *)memory;
    lt_bytes_init(bytes, lt_str_make(bytes + 1, len), count_free);
    return bytes;
}

static void the_last_count_frees(void **state)
{
    (void)state;
    freed = 0;
    struct lt_bytes *bytes = block('a', 10), *second = lt_bytes_ref(bytes);
    lt_bytes_unref(&bytes);
    assert_null(bytes);
    assert_int_equal(freed, 0);
    lt_bytes_unref(&second);
    assert_int_equal(freed, 1);
    lt_bytes_unref(&second);
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    freed = 0;
    struct lt_rope rope;
    lt_rope_init(&rope, 1 << 20);
    struct lt_bytes *large = block('b', 1000);
    assert_int_equal(lt_rope_add(&rope, LT_STR("one ")), LT_OK);
    assert_int_equal(lt_rope_add(&rope, LT_STR("two ")), LT_OK);
    assert_int_equal(lt_rope_add_bytes(&rope, large, lt_bytes_str(large)), LT_OK);
    assert_int_equal(lt_rope_add_bytes(&rope, large, lt_str_slice(lt_bytes_str(large), 0, 3)),
                     LT_OK);
    assert_int_equal(lt_rope_add(&rope, LT_STR("!")), LT_OK);
    lt_bytes_unref(&large);
    assert_int_equal(freed, 0);
    assert_int_equal(lt_rope_len(&rope), 1012);
    struct iovec iov[8];
    assert_int_equal(lt_rope_iov(&rope, iov, 8), 3); /* copies beside each other are one piece */
    assert_int_equal(lt_rope_iov(&rope, iov, 2), 2);
    char out[1012];
    lt_rope_flatten(&rope, out);
    assert_memory_equal(out, "one two bbb", 11);
    assert_memory_equal(out + 1007, "bbbb!", 5);
    lt_rope_consume(&rope, 1008);
    assert_int_equal(freed, 1);
    assert_int_equal(lt_rope_iov(&rope, iov, 8), 1);
    assert_int_equal(iov[0].iov_len, 4);
    lt_rope_fini(&rope);
}

static void a_maximum_refuses_and_changes_nothing(void **state)
{
    (void)state;
    freed = 0;
    struct lt_rope small, other;
    lt_rope_init(&small, 10);
    lt_rope_init(&other, 1000);
    struct lt_bytes *large = block('c', 300);
    assert_int_equal(lt_rope_add(&small, LT_STR("12345678")), LT_OK);
    assert_int_equal(lt_rope_add(&small, LT_STR("123")), LT_E_LIMIT);
    assert_int_equal(lt_rope_add_bytes(&small, large, lt_bytes_str(large)), LT_E_LIMIT);
    assert_int_equal(lt_rope_add_bytes(&other, large, lt_bytes_str(large)), LT_OK);
    assert_int_equal(lt_rope_move(&small, &other), LT_E_LIMIT);
    assert_int_equal(lt_rope_len(&small), 8);
    assert_int_equal(lt_rope_len(&other), 300);
    assert_int_equal(lt_rope_move_front(&small, &other, 2), LT_OK);
    assert_int_equal(lt_rope_len(&other), 298);
    lt_bytes_unref(&large);
    lt_rope_fini(&other);
    assert_int_equal(freed, 0);
    lt_rope_fini(&small);
    assert_int_equal(freed, 1);
}

/*
 * Against a plain buffer, with additions and takings of all sizes: the tail block is used again and
 * again.
 */
static void many_turns(void **state)
{
    (void)state;
    enum { TURNS = 20000, MODEL = 1 << 16 };
    static char model[MODEL], chunk[6000], out[MODEL];
    size_t begin = 0, end = 0;
    struct lt_rope rope, stage;
    lt_rope_init(&rope, MODEL);
    lt_rope_init(&stage, MODEL);
    unsigned seed = 7;
    for (int turn = 0; turn < TURNS; turn++) {
        seed = seed * 1103515245 + 12345;
        size_t len = (seed >> 8) % (turn % 7 == 0 ? sizeof(chunk) : 40);
        if (end + len > MODEL || turn % 3 == 2) {
            len = LT_MIN(len * 2, end - begin);
            lt_rope_flatten(&rope, out);
            assert_memory_equal(out, model + begin, end - begin);
            lt_rope_consume(&rope, len);
            begin += len;
            memmove(model, model + begin, end - begin);
            end -= begin;
            begin = 0;
            continue;
        }
        memset(chunk, (int)(seed >> 16), len);
        memcpy(model + end, chunk, len);
        end += len;
        assert_int_equal(lt_rope_add(turn % 2 ? &rope : &stage, lt_str_make(chunk, len)), LT_OK);
        if (turn % 2 == 0)
            assert_int_equal(lt_rope_move(&rope, &stage), LT_OK);
        assert_int_equal(lt_rope_len(&rope), end - begin);
    }
    lt_rope_fini(&rope);
    lt_rope_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_count_frees),
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(a_maximum_refuses_and_changes_nothing),
        cmocka_unit_test(many_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
