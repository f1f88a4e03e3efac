/*
 * tests/unit/base/slab_test.c - objects of one size: apart, aligned, zeroed; chunks go back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slab.h"

enum { OBJECT = 600, COUNT = 1000 };

static void objects_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct lt_slab slab;
    char *objects[COUNT];
    lt_slab_init(&slab, OBJECT);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            objects[i] = lt_slab_take(&slab);
            assert_int_equal((uintptr_t)objects[i] % 16, 0);
            for (int at = 0; at < OBJECT; at++)
                assert_int_equal(objects[i][at], 0);
            memset(objects[i], i & 0xff, OBJECT);
        }
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal((unsigned char)objects[i][0], i & 0xff);
            assert_int_equal((unsigned char)objects[i][OBJECT - 1], i & 0xff);
        }
        assert_int_equal(slab.used, COUNT);
        for (int i = 0; i < COUNT; i++)
            lt_slab_give(&slab, objects[(i * 7) % COUNT]); /* 7 and COUNT share no factor */
        assert_int_equal(slab.used, 0);
    }
    lt_slab_fini(&slab);
}

static void empty_chunks_go_back(void **state)
{
    (void)state;
    struct lt_slab slab;
    void *objects[COUNT];
    lt_slab_init(&slab, OBJECT);
    for (int i = 0; i < COUNT; i++)
        objects[i] = lt_slab_take(&slab);
    uint32_t most = slab.chunk_count;
    for (int i = 0; i < COUNT - 1; i++)
        lt_slab_give(&slab, objects[i]);
    if (most > 0) { /* not the heap in its place */
        assert_int_equal(most, (COUNT + slab.per_chunk - 1) / slab.per_chunk);
        assert_int_equal(slab.chunk_count, 2); /* the last object's, and a spare one */
    }
    void *more = lt_slab_take(&slab);
    assert_true(slab.chunk_count <= 2);
    lt_slab_give(&slab, more);
    lt_slab_give(&slab, objects[COUNT - 1]);
    assert_true(slab.chunk_count <= 1);
    lt_slab_fini(&slab);
    assert_int_equal(slab.chunk_count, 0);
}

static void small_objects_and_large_ones(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 8, 17, LT_SLAB_CHUNK_BYTES / 16};
    for (size_t s = 0; s < LT_ARRAY_LEN(sizes); s++) {
        struct lt_slab slab;
        unsigned char *objects[100];
        lt_slab_init(&slab, sizes[s]);
        for (int i = 0; i < 100; i++) {
            objects[i] = lt_slab_take(&slab);
            memset(objects[i], i, sizes[s]);
        }
        for (int i = 99; i >= 0; i--) {
            assert_int_equal(objects[i][sizes[s] - 1], i);
            lt_slab_give(&slab, objects[i]);
        }
        lt_slab_fini(&slab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_zeroed_aligned_and_apart),
        cmocka_unit_test(empty_chunks_go_back),
        cmocka_unit_test(small_objects_and_large_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
