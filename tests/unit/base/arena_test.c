/*
 * tests/unit/base/arena_test.c - blocks, limits, marks, alignment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/arena.h"

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(64, 0);
    char *last = NULL;
    size_t last_len = 0;
    for (size_t size = 0; size < 600; size += 7) {
        (void)lt_arena_bytes(arena, size % 5); /* puts the cursor at odd places */
        char *at = lt_arena_alloc(arena, size);
        assert_int_equal((uintptr_t)at % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(at[i], 0);
        memset(at, 0xff, size);
        for (size_t i = 0; i < last_len; i++)
            assert_int_equal((unsigned char)last[i], 0xff);
        last = at;
        last_len = size;
    }
    assert_true(lt_arena_held(arena) >= lt_arena_used(arena));
    lt_arena_free(&arena);
    assert_null(arena);
    lt_arena_free(&arena);
}

static void the_ceiling_refuses(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(64, 256);
    assert_non_null(lt_arena_try_alloc(arena, 64));
    assert_null(lt_arena_try_alloc(arena, 300));
    assert_null(lt_arena_try_alloc(arena, SIZE_MAX));
    assert_null(lt_arena_try_alloc(arena, SIZE_MAX / 2));
    assert_null(lt_arena_try_bytes(arena, SIZE_MAX));
    size_t got = 64;
    while (lt_arena_try_bytes(arena, 32) != NULL)
        got += 32;
    assert_true(got <= 256 && got >= 192);
    assert_true(lt_arena_held(arena) <= 256);
    lt_arena_reset(arena);
    assert_int_equal(lt_arena_used(arena), 0);
    assert_non_null(lt_arena_try_alloc(arena, 64)); /* there is room again */
    lt_arena_free(&arena);
}

static void rollback_gives_back_what_came_after(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(128, 0);
    struct lt_arena_mark empty = lt_arena_mark(arena);
    lt_str kept = lt_arena_str(arena, LT_STR("kept"));
    struct lt_arena_mark mark = lt_arena_mark(arena);
    size_t used = lt_arena_used(arena), held = lt_arena_held(arena);
    for (int i = 0; i < 100; i++)
        lt_arena_alloc(arena, 100);
    lt_arena_rollback(arena, mark);
    assert_int_equal(lt_arena_used(arena), used);
    assert_int_equal(lt_arena_held(arena), held);
    assert_true(lt_str_eqz(kept, "kept"));
    char *next = lt_arena_bytes(arena, 1);
    assert_ptr_equal(next, kept.ptr + 5);
    lt_arena_rollback(arena, empty);
    assert_int_equal(lt_arena_used(arena) + lt_arena_held(arena), 0);
    lt_arena_free(&arena);
}

static void reset_keeps_the_first_block(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(128, 0);
    char *first = lt_arena_alloc(arena, 16);
    size_t held = lt_arena_held(arena);
    for (int i = 0; i < 100; i++)
        lt_arena_alloc(arena, 100);
    lt_arena_reset(arena);
    assert_int_equal(lt_arena_held(arena), held);
    char *again = lt_arena_alloc(arena, 16);
    assert_ptr_equal(first, again);
    lt_arena_reset(arena);
    lt_arena_reset(arena);
    lt_arena_free(&arena);
}

static void texts_are_copied(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(16, 0);
    lt_str s = lt_arena_str(arena, LT_STR("a\0b"));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.ptr, "a\0b", 4);
    assert_string_equal(lt_arena_strz(arena, LT_STR_NULL), "");
    assert_string_equal(lt_arena_printf(arena, "%s-%d", "x", 42).ptr, "x-42");
    static const uint64_t numbers[] = {0, 9, 10, 12345, UINT64_MAX};
    for (size_t i = 0; i < LT_ARRAY_LEN(numbers); i++) {
        char want[32];
        snprintf(want, sizeof(want), "%llu", (unsigned long long)numbers[i]);
        assert_true(lt_str_eqz(lt_arena_u64(arena, numbers[i]), want));
    }
    lt_arena_free(&arena);
}

/* A struct that lies in its arena and holds the pointer to it. */
struct self {
    struct lt_arena *arena;
};

static void an_arena_may_hold_its_own_pointer(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct self *self = lt_arena_make(arena, struct self);
    self->arena = arena;
    lt_arena_free(&self->arena);
    arena = lt_arena_new(0, 0);
    self = lt_arena_make(arena, struct self);
    self->arena = arena;
    lt_arena_wipe_free(&self->arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(the_ceiling_refuses),
        cmocka_unit_test(rollback_gives_back_what_came_after),
        cmocka_unit_test(reset_keeps_the_first_block),
        cmocka_unit_test(texts_are_copied),
        cmocka_unit_test(an_arena_may_hold_its_own_pointer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
