/*
 * tests/unit/base/metric_carry_test.c - what one process counted, in the next one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/metric_carry.h"

static const lt_str labels[] = {{"code", 4}};
static const struct lt_metric_desc requests = {
    .name = {"requests", 8}, .kind = LT_METRIC_COUNTER, .labels = labels, .label_count = 1};
static const struct lt_metric_desc times = {.name = {"times", 5}, .kind = LT_METRIC_HISTOGRAM};
static const struct lt_metric_desc active = {.name = {"active", 6}, .kind = LT_METRIC_GAUGE};

static struct lt_metric_set *make_set(uint32_t series_max)
{
    struct lt_metric_set *set = lt_metric_set_new(series_max);
    const lt_str codes[] = {LT_STR("200"), LT_STR("503")};
    lt_counter_add(lt_metric_counter(lt_metric_family(set, &requests), &codes[0]), 7);
    lt_counter_add(lt_metric_counter(lt_metric_family(set, &requests), &codes[1]), 2);
    lt_histogram_observe(lt_metric_histogram(lt_metric_family(set, &times), NULL), 3);
    lt_gauge_set(lt_metric_gauge(lt_metric_family(set, &active), NULL), 4);
    return set;
}

static uint64_t count_of(struct lt_metric_set *set, const char *code)
{
    lt_str value = lt_str_of(code);
    return lt_metric_counter(lt_metric_family(set, &requests), &value)->value;
}

static void save(const struct lt_metric_set *set, struct lt_buf *out)
{
    lt_buf_init(out, 1 << 20);
    assert_int_equal(lt_metric_save(set, out), LT_OK);
}

static void test_counters_add_up_and_gauges_stay(void **state LT_UNUSED)
{
    struct lt_metric_set *old = make_set(100), *next = make_set(100);
    struct lt_buf bytes;
    save(old, &bytes);
    assert_int_equal(lt_metric_add_saved(next, lt_buf_str(&bytes)), LT_OK);
    assert_int_equal(count_of(next, "200"), 14);
    assert_int_equal(count_of(next, "503"), 4);
    struct lt_histogram *histogram = lt_metric_histogram(lt_metric_family(next, &times), NULL);
    assert_int_equal(histogram->count, 2);
    assert_true(histogram->sum == 6);
    assert_true(lt_metric_gauge(lt_metric_family(next, &active), NULL)->value == 4);
    lt_buf_fini(&bytes);
    lt_metric_set_free(&old);
    lt_metric_set_free(&next);
}

static void test_overflow_stays_overflow(void **state LT_UNUSED)
{
    struct lt_metric_set *old = make_set(1), *next = lt_metric_set_new(100);
    struct lt_buf bytes;
    save(old, &bytes);
    assert_int_equal(lt_metric_add_saved(next, lt_buf_str(&bytes)), LT_OK);
    struct lt_buf text;
    struct lt_metric_cursor cursor = {0};
    lt_buf_init(&text, 1 << 20);
    assert_int_equal(
        lt_metric_render(next, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor, 1 << 16, &text), LT_EOF);
    lt_str line = LT_STR("requests{code=\"overflow\"} 2");
    ptrdiff_t at = lt_str_find(lt_buf_str(&text), line);
    assert_true(at >= 0); /* once: two of one name would cost the scrape */
    assert_true(lt_str_find(lt_str_from(lt_buf_str(&text), (size_t)at + 1), line) < 0);
    lt_metric_cursor_fini(&cursor);
    lt_buf_fini(&text);
    lt_buf_fini(&bytes);
    lt_metric_set_free(&old);
    lt_metric_set_free(&next);
}

/* Where the next process has the same; nobody else knows where they end. */
static void test_other_buckets_are_carried_too(void **state LT_UNUSED)
{
    static const double bounds[] = {.5, 1}, more_bounds[] = {.5, 1, 2};
    static const struct lt_buckets buckets = {bounds, 2}, more_buckets = {more_bounds, 3};
    struct lt_metric_desc desc = {
        .name = LT_STR("seconds"), .kind = LT_METRIC_HISTOGRAM, .buckets = &buckets};
    struct lt_metric_set *old = lt_metric_set_new(100), *next[3];
    struct lt_buf bytes;
    lt_histogram_observe(lt_metric_histogram(lt_metric_family(old, &desc), NULL), .7);
    save(old, &bytes);
    for (size_t i = 0; i < LT_ARRAY_LEN(next); i++) {
        next[i] = lt_metric_set_new(100);
        desc.buckets = i == 1 ? &more_buckets : &buckets;
        if (i < 2)
            lt_histogram_observe(lt_metric_histogram(lt_metric_family(next[i], &desc), NULL), .7);
        assert_int_equal(lt_metric_add_saved(next[i], lt_buf_str(&bytes)), LT_OK);
        const struct lt_histogram *histogram = lt_metric_histogram(lt_metric_family(next[i], &desc),
                                                                   NULL);
        assert_int_equal(histogram->count, i == 0 ? 2 : i == 1 ? 1 : 0);
        assert_int_equal(histogram->counts[1], histogram->count);
        lt_metric_set_free(&next[i]);
    }
    lt_buf_fini(&bytes);
    lt_metric_set_free(&old);
}

/* Another version may call a gauge what was a counter. */
static void test_what_is_another_kind_is_left_out(void **state LT_UNUSED)
{
    struct lt_metric_set *old = make_set(100), *next = lt_metric_set_new(100);
    struct lt_metric_desc other = requests;
    other.kind = LT_METRIC_GAUGE;
    lt_str code = LT_STR("200");
    lt_gauge_set(lt_metric_gauge(lt_metric_family(next, &other), &code), 1);
    struct lt_buf bytes;
    save(old, &bytes);
    assert_int_equal(lt_metric_add_saved(next, lt_buf_str(&bytes)), LT_OK);
    assert_true(lt_metric_gauge(lt_metric_family(next, &other), &code)->value == 1);
    assert_int_equal(lt_metric_histogram(lt_metric_family(next, &times), NULL)->count, 1);
    lt_buf_fini(&bytes);
    lt_metric_set_free(&old);
    lt_metric_set_free(&next);
}

static void test_bytes_that_end_early(void **state LT_UNUSED)
{
    struct lt_metric_set *old = make_set(100);
    struct lt_buf bytes;
    save(old, &bytes);
    for (size_t len = 0; len < lt_buf_len(&bytes); len++) {
        struct lt_metric_set *next = lt_metric_set_new(100);
        lt_rc rc = lt_metric_add_saved(next, lt_str_slice(lt_buf_str(&bytes), 0, len));
        assert_true(rc == LT_E_BAD || (rc == LT_OK && len >= 4)); /* between two families */
        lt_metric_set_free(&next);
    }
    lt_buf_fini(&bytes);
    lt_metric_set_free(&old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_add_up_and_gauges_stay),
        cmocka_unit_test(test_overflow_stays_overflow),
        cmocka_unit_test(test_other_buckets_are_carried_too),
        cmocka_unit_test(test_what_is_another_kind_is_left_out),
        cmocka_unit_test(test_bytes_that_end_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
