/*
 * tests/unit/base/metric_test.c - families, series, limits, merging, and the text forms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "base/metric.h"

static const lt_str request_labels[] = {{"reporter", 8}, {"code", 4}};
static const struct lt_metric_desc requests = {.name = {"istio_requests_total", 20},
                                               .kind = LT_METRIC_COUNTER,
                                               .labels = request_labels,
                                               .label_count = 2};
static const lt_str cluster_labels[] = {{"cluster_name", 12}};
static const struct lt_metric_desc active = {
    .name = {"envoy_cluster_upstream_cx_active", 32},
    .kind = LT_METRIC_GAUGE,
    .help = {"Open connections", 16},
    .stat = {"cluster.$0.upstream_cx_active", 29},
    .labels = cluster_labels,
    .label_count = 1,
};
static const double bounds[] = {0.5, 10, 3600000};
static const struct lt_buckets buckets = {bounds, 3};
static const struct lt_metric_desc duration = {.name = {"istio_request_duration_milliseconds", 35},
                                               .kind = LT_METRIC_HISTOGRAM,
                                               .buckets = &buckets};

static struct lt_counter *count(struct lt_metric_set *set, const char *reporter, const char *code)
{
    const lt_str values[] = {lt_str_of(reporter), lt_str_of(code)};
    return lt_metric_counter(lt_metric_family(set, &requests), values);
}

static struct lt_gauge *gauge(struct lt_metric_set *set, const char *cluster)
{
    const lt_str values[] = {lt_str_of(cluster)};
    return lt_metric_gauge(lt_metric_family(set, &active), values);
}

static bool only_clusters(lt_str name, void *ctx)
{
    return lt_str_find(name, lt_str_of(ctx)) >= 0;
}

/* In parts of part_bytes. */
static void check_text(const struct lt_metric_set *set, lt_metric_form form, const char *keep,
                       size_t part_bytes, const char *want)
{
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out, all;
    lt_buf_init(&all, 1 << 20);
    lt_rc rc = LT_OK;
    while (rc == LT_OK) {
        lt_buf_init(&out, 1 << 16);
        rc = lt_metric_render(set, form, keep != NULL ? only_clusters : NULL, (void *)keep, &cursor,
                              part_bytes, &out);
        lt_buf_add(&all, lt_buf_str(&out));
        lt_buf_fini(&out);
    }
    assert_int_equal(rc, LT_EOF);
    lt_str got = lt_buf_str(&all);
    if (!lt_str_eqz(got, want))
        print_message("got:\n%.*s\nwant:\n%s\n", LT_STR_ARG(got), want);
    assert_true(lt_str_eqz(got, want));
    lt_buf_fini(&all);
    lt_metric_cursor_fini(&cursor);
}

static void series_are_found_again(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(100);
    struct lt_counter *a = count(set, "source", "200");
    assert_ptr_equal(count(set, "source", "200"), a);
    assert_ptr_not_equal(count(set, "source", "404"), a);
    assert_ptr_not_equal(count(set, "source2", "00"), a);
    assert_ptr_not_equal(count(set, "", "source200"), count(set, "source200", ""));
    for (int i = 0; i < 90; i++) { /* growth moves no series */
        char name[16];
        snprintf(name, sizeof(name), "c%d", i);
        gauge(set, name);
    }
    assert_ptr_equal(count(set, "source", "200"), a);
    assert_int_equal(lt_metric_set_series(set), 95);
    lt_metric_set_free(&set);
    assert_null(set);
}

static void the_text_is_prometheus(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(100);
    lt_counter_add(count(set, "so\\ur\"ce\n", "200"), 3);
    lt_counter_add(count(set, "", "\xff\xc3\xa4"), 1);
    lt_counter_add(count(set, "\xc3\xa4", ""), UINT64_MAX);
    lt_gauge_add(gauge(set, "outbound|80||a;"), 2.5);
    struct lt_histogram *h = lt_metric_histogram(lt_metric_family(set, &duration), NULL);
    static const double values[] = {0.5, 0.6, 10, 3600001, 0};
    for (size_t i = 0; i < LT_ARRAY_LEN(values); i++)
        lt_histogram_observe(h, values[i]);
    const char *want =
        "# HELP envoy_cluster_upstream_cx_active Open connections\n"
        "# TYPE envoy_cluster_upstream_cx_active gauge\n"
        "envoy_cluster_upstream_cx_active{cluster_name=\"outbound|80||a;\"} 2.5\n"
        "# TYPE istio_request_duration_milliseconds histogram\n"
        "istio_request_duration_milliseconds_bucket{le=\"0.5\"} 2\n"
        "istio_request_duration_milliseconds_bucket{le=\"10\"} 4\n"
        "istio_request_duration_milliseconds_bucket{le=\"3600000\"} 4\n"
        "istio_request_duration_milliseconds_bucket{le=\"+Inf\"} 5\n"
        "istio_request_duration_milliseconds_sum 3600012.1\n"
        "istio_request_duration_milliseconds_count 5\n"
        "# TYPE istio_requests_total counter\n"
        "istio_requests_total{reporter=\"so\\\\ur\\\"ce\\n\",code=\"200\"} 3\n"
        "istio_requests_total{reporter=\"\",code=\"???\"} 1\n"
        "istio_requests_total{reporter=\"\xc3\xa4\",code=\"\"} 18446744073709551615\n";
    check_text(set, LT_METRIC_PROMETHEUS, NULL, 1 << 15, want);
    check_text(set, LT_METRIC_PROMETHEUS, NULL, 1, want);
    check_text(set, LT_METRIC_STATS, "cluster.", 1,
               "cluster.outbound|80||a;.upstream_cx_active: 2.5\n");
    check_text(set, LT_METRIC_STATS, "duration", 1,
               "istio_request_duration_milliseconds: count=5 sum=3600012.1\n");
    lt_metric_set_free(&set);
}

static void an_empty_set_is_an_empty_text(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(1);
    check_text(set, LT_METRIC_PROMETHEUS, NULL, 1, "");
    (void)lt_metric_family(set, &active);
    check_text(set, LT_METRIC_PROMETHEUS, NULL, 1, "");
    lt_metric_set_free(&set);
}

static void families_of_one_name_share_a_type_line(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(10);
    struct lt_metric_desc plain = {.name = requests.name, .kind = LT_METRIC_COUNTER};
    lt_counter_add(lt_metric_counter(lt_metric_family(set, &plain), NULL), 1);
    lt_counter_add(count(set, "a", "b"), 2);
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out;
    lt_buf_init(&out, 4096);
    assert_int_equal(lt_metric_render(set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor, 4096, &out),
                     LT_EOF);
    lt_str text = lt_buf_str(&out);
    lt_str type = LT_STR("# TYPE istio_requests_total counter\n");
    assert_int_equal(lt_str_find(text, type), 0);
    assert_int_equal(lt_str_find(lt_str_from(text, 1), type), -1);
    assert_true(lt_str_find(text, LT_STR("istio_requests_total 1\n")) > 0);
    assert_true(lt_str_find(text, LT_STR("istio_requests_total{reporter=\"a\",code=\"b\"} 2\n")) >
                0);
    lt_buf_fini(&out);
    lt_metric_set_free(&set);
}

static void beyond_the_limit_all_count_in_one(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(2);
    lt_counter_add(count(set, "a", "1"), 1);
    lt_counter_add(count(set, "b", "1"), 1);
    struct lt_counter *over = count(set, "c", "1");
    assert_ptr_equal(count(set, "d", "1"), over);
    assert_ptr_not_equal(count(set, "a", "1"), over);
    lt_counter_add(over, 7);
    assert_int_equal(lt_metric_set_series(set), 2);
    assert_int_equal(lt_metric_set_overflows(set), 2);
    check_text(set, LT_METRIC_PROMETHEUS, NULL, 1 << 15,
               "# TYPE istio_requests_total counter\n"
               "istio_requests_total{reporter=\"a\",code=\"1\"} 1\n"
               "istio_requests_total{reporter=\"b\",code=\"1\"} 1\n"
               "istio_requests_total{reporter=\"overflow\",code=\"overflow\"} 7\n");
    struct lt_metric_set *sum = lt_metric_set_new(2);
    lt_metric_set_merge(sum, set);
    lt_metric_set_merge(sum, set);
    assert_int_equal(count(sum, "x", "y")->value, 14);
    lt_metric_set_free(&sum);
    lt_metric_set_free(&set);
}

static void merging_adds_up(void **state)
{
    (void)state;
    struct lt_metric_set *one = lt_metric_set_new(100), *two = lt_metric_set_new(100),
                         *sum = lt_metric_set_new(100);
    lt_counter_add(count(one, "a", "1"), 1);
    lt_counter_add(count(two, "a", "1"), 2);
    lt_counter_add(count(two, "b", "1"), 4);
    lt_gauge_set(gauge(one, "c"), 3);
    lt_gauge_set(gauge(two, "c"), -1);
    lt_histogram_observe(lt_metric_histogram(lt_metric_family(one, &duration), NULL), 1);
    lt_histogram_observe(lt_metric_histogram(lt_metric_family(two, &duration), NULL), 99);
    lt_metric_set_merge(sum, one);
    lt_metric_set_merge(sum, two);
    assert_int_equal(count(sum, "a", "1")->value, 3);
    assert_int_equal(count(sum, "b", "1")->value, 4);
    assert_true(gauge(sum, "c")->value == 2);
    struct lt_histogram *h = lt_metric_histogram(lt_metric_family(sum, &duration), NULL);
    assert_int_equal(h->count, 2);
    assert_int_equal(h->counts[1] + h->counts[2], 2);
    assert_true(h->sum == 100);
    assert_int_equal(count(one, "a", "1")->value, 1);

    lt_metric_set_reset(sum);
    assert_int_equal(count(sum, "a", "1")->value, 0);
    assert_int_equal(h->count, 0);
    lt_histogram_observe(h, 1); /* still knows its buckets */
    assert_true(gauge(sum, "c")->value == 2);
    lt_metric_set_free(&one);
    lt_metric_set_free(&two);
    lt_metric_set_free(&sum);
}

static void series_of_a_label_go(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(100);
    for (int i = 0; i < 50; i++) {
        char code[16];
        snprintf(code, sizeof(code), "%d", i);
        lt_counter_add(count(set, i % 3 == 0 ? "gone" : "stays", code), 1);
    }
    gauge(set, "gone");
    assert_int_equal(lt_metric_remove(set, LT_STR("reporter"), LT_STR("gone")), 17);
    assert_int_equal(lt_metric_remove(set, LT_STR("reporter"), LT_STR("gone")), 0);
    assert_int_equal(lt_metric_set_series(set), 34);
    for (int i = 0; i < 50; i++) {
        char code[16];
        snprintf(code, sizeof(code), "%d", i);
        if (i % 3 != 0)
            assert_int_equal(count(set, "stays", code)->value, 1);
    }
    assert_int_equal(lt_metric_set_series(set), 34);
    lt_metric_set_free(&set);
}

static void long_values_are_cut_and_stay_apart(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof(text));
    struct lt_metric_set *set = lt_metric_set_new(100);
    struct lt_metric_family *family = lt_metric_family(set, &requests);
    lt_str values[] = {lt_str_make(text, 3000), lt_str_make(text, 2000)};
    struct lt_counter *a = lt_metric_counter(family, values);
    values[1].len = 1024;
    assert_ptr_equal(lt_metric_counter(family, values), a);
    values[1].len = 1023;
    assert_ptr_not_equal(lt_metric_counter(family, values), a);
    values[0] = lt_str_make("a\0b", 3);
    values[1] = LT_STR("c");
    a = lt_metric_counter(family, values);
    values[0] = LT_STR("a");
    assert_ptr_not_equal(lt_metric_counter(family, values), a);
    lt_metric_set_free(&set);
}

static void numbers_read_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {0.1, "0.1"},
                 {1e6, "1000000"},
                 {3600000, "3600000"},
                 {1.0 / 3, "0.3333333333333333"},
                 {INFINITY, "+Inf"},
                 {-INFINITY, "-Inf"},
                 {NAN, "NaN"},
                 {-2.5, "-2.5"}};
    char out[32];
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++)
        assert_true(lt_str_eqz(lt_metric_number(cases[i].value, out), cases[i].text));
}

static void series_one_by_one(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(100);
    lt_counter_add(count(set, "source", "200"), 3);
    lt_gauge_set(gauge(set, "a.b"), 2);
    struct lt_metric_cursor cursor = {0};
    struct lt_metric_view view;
    struct lt_buf name;
    lt_buf_init(&name, 1000);
    assert_true(lt_metric_next(set, &cursor, &name, &view));
    assert_true(lt_str_eqz(view.stat, "cluster.a.b.upstream_cx_active"));
    assert_int_equal(view.kind, LT_METRIC_GAUGE);
    assert_true(lt_metric_next(set, &cursor, &name, &view));
    assert_true(lt_str_eqz(view.stat, "istio_requests_total.reporter.source.code.200"));
    assert_int_equal(((const struct lt_counter *)view.value)->value, 3);
    assert_false(lt_metric_next(set, &cursor, &name, &view));
    lt_metric_cursor_fini(&cursor);
    lt_buf_fini(&name);
    lt_metric_set_free(&set);
}

static void quantiles_lie_in_their_bucket(void **state)
{
    (void)state;
    struct lt_metric_set *set = lt_metric_set_new(100);
    struct lt_histogram *histogram = lt_metric_histogram(lt_metric_family(set, &duration), NULL);
    assert_true(isnan(lt_histogram_quantile(histogram, 0.5)));
    for (int i = 0; i < 100; i++)
        lt_histogram_observe(histogram, i < 50 ? 0.1 : 5);
    assert_true(lt_histogram_quantile(histogram, 0) == 0);
    assert_true(lt_histogram_quantile(histogram, 0.25) == 0.25);
    assert_true(lt_histogram_quantile(histogram, 0.75) == 0.5 + 9.5 / 2);
    assert_true(lt_histogram_quantile(histogram, 1) == 10);
    lt_histogram_observe(histogram, 1e12); /* above the last bound */
    assert_true(lt_histogram_quantile(histogram, 1) == 3600000);
    lt_metric_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_are_found_again),
        cmocka_unit_test(the_text_is_prometheus),
        cmocka_unit_test(an_empty_set_is_an_empty_text),
        cmocka_unit_test(families_of_one_name_share_a_type_line),
        cmocka_unit_test(beyond_the_limit_all_count_in_one),
        cmocka_unit_test(merging_adds_up),
        cmocka_unit_test(series_of_a_label_go),
        cmocka_unit_test(long_values_are_cut_and_stay_apart),
        cmocka_unit_test(numbers_read_back),
        cmocka_unit_test(series_one_by_one),
        cmocka_unit_test(quantiles_lie_in_their_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
