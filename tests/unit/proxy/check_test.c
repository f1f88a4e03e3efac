/*
 * tests/unit/proxy/check_test.c - active health checks: what makes a host healthy or not, and when
 * it is asked again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/health/check.h"

static struct px_check_conf conf;
static struct px_check_stats stats;
static struct px_host_state host;
static struct px_check check;
static struct lt_prng prng = {{77, 99}};
static uint64_t delay_ms;

static int set_up(void **state)
{
    (void)state;
    conf = (struct px_check_conf){
        .interval_ms = 1000,
        .no_traffic_ms = 60000,
        .no_traffic_healthy_ms = 30000,
        .unhealthy_ms = 2000,
        .unhealthy_edge_ms = 300,
        .healthy_edge_ms = 400,
        .unhealthy_threshold = 3,
        .healthy_threshold = 2,
    };
    memset(&stats, 0, sizeof(stats));
    memset(&host, 0, sizeof(host));
    return 0;
}

static void begin(bool is_new)
{
    px_check_begin(&check, &conf, &host, &stats, is_new, false);
}

/* Returns whether flags changed; delay_ms is when it is asked again. */
static bool take(px_check_result result)
{
    return px_check_take(&check, result, true, &prng, &delay_ms);
}

static bool has(uint32_t flag)
{
    return (px_shared_get(&host.flags) & flag) != 0;
}

#define IS_FAILED has(PX_HOST_FLAG(FAILED_CHECK))

static void test_first_success_is_enough(void **state)
{
    (void)state;
    begin(true);
    assert_true(IS_FAILED);
    assert_true(take(PX_CHECK_PASSED));
    assert_false(IS_FAILED);
    assert_int_equal(delay_ms, 1000);
}

static void test_thresholds(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED);
    static const px_check_result soft[] = {PX_CHECK_NETWORK, PX_CHECK_TIMEOUT, PX_CHECK_RETRIABLE};
    for (int i = 0; i < 2; i++) {
        assert_false(take(soft[i]));
        assert_false(IS_FAILED);
        assert_int_equal(delay_ms, 300); /* on the edge */
    }
    assert_true(take(soft[2]));
    assert_true(IS_FAILED);
    assert_int_equal(delay_ms, 2000);
    assert_false(take(PX_CHECK_PASSED)); /* one of two */
    assert_true(IS_FAILED);
    assert_int_equal(delay_ms, 400);
    assert_true(take(PX_CHECK_PASSED));
    assert_false(IS_FAILED);
    assert_int_equal(delay_ms, 1000);
}

static void test_a_success_between_starts_anew(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED);
    for (int i = 0; i < 3; i++) {
        take(PX_CHECK_NETWORK);
        take(PX_CHECK_NETWORK);
        take(PX_CHECK_PASSED);
    }
    assert_false(IS_FAILED);
}

/* An answer that says no needs no threshold. */
static void test_a_bad_answer_is_enough(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED);
    assert_true(take(PX_CHECK_FAILED));
    assert_true(IS_FAILED);
}

static void test_timeout_is_told_apart(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_TIMEOUT);
    assert_true(has(PX_HOST_FLAG(CHECK_TIMEOUT)));
    assert_true(take(PX_CHECK_NETWORK));
    assert_false(has(PX_HOST_FLAG(CHECK_TIMEOUT)));
    take(PX_CHECK_TIMEOUT);
    take(PX_CHECK_PASSED);
    take(PX_CHECK_PASSED);
    assert_int_equal(px_shared_get(&host.flags), 0);
}

static void test_degraded(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED_DEGRADED);
    assert_int_equal(px_shared_get(&host.flags), PX_HOST_FLAG(DEGRADED_CHECK));
    assert_false(take(PX_CHECK_PASSED_DEGRADED));
    assert_true(take(PX_CHECK_PASSED));
    assert_int_equal(px_shared_get(&host.flags), 0);
}

static void test_passive(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED);
    assert_true(take(PX_CHECK_PASSIVE));
    assert_true(IS_FAILED && has(PX_HOST_FLAG(EXCLUDED)));
    assert_int_equal(stats.passive_failures, 1);
    take(PX_CHECK_PASSED);
    assert_false(has(PX_HOST_FLAG(EXCLUDED)));
    take(PX_CHECK_PASSED);
    assert_int_equal(px_shared_get(&host.flags), 0);
}

/* A host that served before checks came is not taken out by their coming. */
static void test_old_host(void **state)
{
    (void)state;
    begin(false);
    assert_false(IS_FAILED);
    take(PX_CHECK_NETWORK);
    assert_false(IS_FAILED);
}

static void test_new_hosts_may_be_excluded(void **state)
{
    (void)state;
    px_check_begin(&check, &conf, &host, &stats, true, true);
    assert_true(IS_FAILED && has(PX_HOST_FLAG(PENDING_CHECK)));
    assert_true(take(PX_CHECK_NETWORK));
    assert_true(IS_FAILED && !has(PX_HOST_FLAG(PENDING_CHECK)));
    px_check_end(&check);
    assert_int_equal(px_shared_get(&host.flags), 0);
}

static void test_without_traffic(void **state)
{
    (void)state;
    begin(true);
    px_check_take(&check, PX_CHECK_PASSED, false, &prng, &delay_ms);
    assert_int_equal(delay_ms, 30000);
    px_check_take(&check, PX_CHECK_NETWORK, false, &prng, &delay_ms);
    assert_int_equal(delay_ms, 60000);
}

static void test_jitter(void **state)
{
    (void)state;
    conf.interval_jitter_percent = 50;
    conf.interval_jitter_ms = 100;
    conf.initial_jitter_ms = 70;
    begin(true);
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < 1000; i++) {
        take(PX_CHECK_PASSED);
        least = LT_MIN(least, delay_ms);
        most = LT_MAX(most, delay_ms);
        assert_in_range(px_check_first_delay_ms(&check, &prng), 0, 69);
    }
    assert_in_range(least, 1000, 1050);
    assert_in_range(most, 1550, 1598);
}

static void test_counts(void **state)
{
    (void)state;
    begin(true);
    take(PX_CHECK_PASSED);
    take(PX_CHECK_NETWORK);
    take(PX_CHECK_TIMEOUT);
    take(PX_CHECK_FAILED);
    take(PX_CHECK_RETRIABLE);
    assert_int_equal(stats.successes, 1);
    assert_int_equal(stats.failures, 4);
    assert_int_equal(stats.network_failures, 2);
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct px_status_range expected[] = {{200, 203}, {404, 405}}, odd[] = {{500, 600}};
    assert_int_equal(px_check_judge_status(&conf, 200), PX_CHECK_PASSED);
    assert_int_equal(px_check_judge_status(&conf, 201), PX_CHECK_FAILED);
    conf.expected = expected;
    conf.expected_count = 2;
    conf.retriable = odd;
    conf.retriable_count = 1;
    assert_int_equal(px_check_judge_status(&conf, 202), PX_CHECK_PASSED);
    assert_int_equal(px_check_judge_status(&conf, 203), PX_CHECK_FAILED);
    assert_int_equal(px_check_judge_status(&conf, 404), PX_CHECK_PASSED);
    assert_int_equal(px_check_judge_status(&conf, 503), PX_CHECK_RETRIABLE);
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_first_success_is_enough),
        CASE(test_thresholds),
        CASE(test_a_success_between_starts_anew),
        CASE(test_a_bad_answer_is_enough),
        CASE(test_timeout_is_told_apart),
        CASE(test_degraded),
        CASE(test_passive),
        CASE(test_old_host),
        CASE(test_new_hosts_may_be_excluded),
        CASE(test_without_traffic),
        CASE(test_jitter),
        CASE(test_counts),
        CASE(test_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
