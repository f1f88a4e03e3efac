/*
 * tests/unit/base/map_test.c - the string map against a plain model of it, with many collisions and
 * removals.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/map.h"

enum { KEYS = 600 };

static char names[KEYS][16];
static int values[KEYS];

static lt_str key(size_t i)
{
    return lt_str_of(names[i]);
}

static void check_all(const struct lt_map *map, const bool *is_in)
{
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(lt_map_find(map, key(i)), is_in[i] ? &values[i] : NULL);
        count += is_in[i];
    }
    assert_int_equal(map->count, count);
    for (size_t i = 0; i < map->count; i++)
        assert_ptr_equal(lt_map_find(map, map->entries[i].key), map->entries[i].value);
}

static void a_map_is_what_was_put_and_not_removed(void **state)
{
    (void)state;
    struct lt_map map;
    bool is_in[KEYS] = {false};
    uint32_t seed = 7;
    for (size_t i = 0; i < KEYS; i++)
        snprintf(names[i], sizeof(names[i]), "%zu", i);
    lt_map_init(&map);
    assert_null(lt_map_find(&map, key(0)));
    assert_null(lt_map_remove(&map, key(0)));
    for (int round = 0; round < 40000; round++) {
        seed = seed * 1664525u + 1013904223u;
        /* first mostly puts, then mostly removals, and again */
        size_t i = (seed >> 8) % KEYS;
        bool puts = (seed >> 24) % 4 != 0;
        if (round / 4000 % 2 == 1)
            puts = !puts;
        if (puts) {
            assert_ptr_equal(lt_map_put(&map, key(i), &values[i]), is_in[i] ? &values[i] : NULL);
            is_in[i] = true;
        } else {
            assert_ptr_equal(lt_map_remove(&map, key(i)), is_in[i] ? &values[i] : NULL);
            is_in[i] = false;
        }
        if (round % 500 == 0)
            check_all(&map, is_in);
    }
    check_all(&map, is_in);
    lt_map_clear(&map);
    memset(is_in, 0, sizeof(is_in));
    check_all(&map, is_in);
    assert_null(lt_map_put(&map, key(3), &values[3]));
    assert_int_equal(map.count, 1);
    lt_map_fini(&map);
}

static void order_is_that_of_insertion(void **state)
{
    (void)state;
    struct lt_map map;
    lt_map_init(&map);
    for (size_t i = 0; i < KEYS; i++)
        lt_map_put(&map, key(KEYS - 1 - i), &values[i]);
    for (size_t i = 0; i < KEYS; i++)
        assert_true(lt_str_eq(map.entries[i].key, key(KEYS - 1 - i)));
    lt_map_fini(&map);
}

static void the_empty_string_and_nul_bytes_are_keys(void **state)
{
    (void)state;
    struct lt_map map;
    int a, b, c;
    lt_map_init(&map);
    lt_map_put(&map, LT_STR(""), &a);
    lt_map_put(&map, lt_str_make("\0", 1), &b);
    lt_map_put(&map, lt_str_make("\0\0", 2), &c);
    assert_ptr_equal(lt_map_find(&map, LT_STR_NULL), &a);
    assert_ptr_equal(lt_map_find(&map, lt_str_make("\0", 1)), &b);
    assert_ptr_equal(lt_map_remove(&map, LT_STR("")), &a);
    assert_ptr_equal(lt_map_find(&map, lt_str_make("\0\0", 2)), &c);
    lt_map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_what_was_put_and_not_removed),
        cmocka_unit_test(order_is_that_of_insertion),
        cmocka_unit_test(the_empty_string_and_nul_bytes_are_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
