/*
 * tests/unit/proxy/outlier_test.c - outlier detection: what ejects a host, for how long, how many,
 * and what the counters say. The workers' part is played by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/lb/outlier.h"

enum { HOSTS_MAX = 20 };

static struct px_outlier_conf conf;
static struct px_outlier outlier;
static struct px_outlier_host hosts[HOSTS_MAX];
static struct px_host_state states[HOSTS_MAX];
static struct lt_prng prng;
static unsigned changes;
static uint64_t now_ns;

static void on_change(void *ctx, struct px_outlier_host *host)
{
    (void)ctx;
    bool is_flagged = (px_shared_get(&host->state->flags) & PX_HOST_FLAG(EJECTED)) != 0;
    assert_true(is_flagged == host->is_ejected);
    changes++;
}

static int set_up(void **state)
{
    (void)state;
    conf = (struct px_outlier_conf){
        .interval_ms = 10000,
        .base_ejection_ms = 30000,
        .max_ejection_ms = 300000,
        .max_ejection_percent = 100,
        .check_unejects = true,
        .enforce_5xx = 100,
        .enforce_local = 100,
        .enforce_success_rate = 100,
        .enforce_local_success_rate = 100,
        .success_rate_hosts = 5,
        .success_rate_volume = 100,
        .success_rate_stdev_thousandth = 1900,
        .failure_percent_threshold = 85,
        .failure_percent_hosts = 5,
        .failure_percent_volume = 50,
    };
    prng = (struct lt_prng){{12345, 6789}};
    memset(states, 0, sizeof(states));
    changes = 0;
    now_ns = 1000 * LT_NS_PER_S;
    px_outlier_init(&outlier, &prng, on_change, NULL);
    outlier.conf = &conf;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_outlier_fini(&outlier);
    return 0;
}

static void add(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        px_outlier_add(&outlier, &hosts[i], &states[i]);
}

static void answers(unsigned host, uint32_t requests, uint32_t successes)
{
    px_shared_set(&states[host].external.requests, requests);
    px_shared_set(&states[host].external.successes, successes);
}

static void sweep_after(uint64_t ms)
{
    now_ns += ms * LT_NS_PER_MS;
    px_outlier_sweep(&outlier, now_ns);
}

/* --- ejection and return --- */

static void test_ejected_and_back(void **state)
{
    (void)state;
    add(4);
    px_shared_set(&states[1].consecutive_5xx, 5);
    px_outlier_report(&outlier, &hosts[1], PX_OUTLIER_5XX, now_ns);
    assert_true(hosts[1].is_ejected);
    assert_int_equal(outlier.ejected, 1);
    assert_int_equal(outlier.detected[PX_OUTLIER_5XX], 1);
    assert_int_equal(outlier.enforced[PX_OUTLIER_5XX], 1);
    assert_int_equal(px_shared_get(&states[1].consecutive_5xx), 0);
    sweep_after(29999);
    assert_true(hosts[1].is_ejected);
    sweep_after(1);
    assert_false(hosts[1].is_ejected);
    assert_int_equal(changes, 2);
}

/* Each time it is longer; quiet intervals make it shorter again. */
static void test_longer_each_time(void **state)
{
    (void)state;
    conf.max_ejection_ms = 100000;
    add(2);
    static const uint64_t wanted_s[] = {30, 60, 90, 100, 100};
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted_s); i++) {
        px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
        sweep_after(wanted_s[i] * 1000 - 1);
        assert_true(hosts[0].is_ejected);
        sweep_after(1);
        assert_false(hosts[0].is_ejected);
    }
    for (int i = 0; i < 5; i++)
        sweep_after(10000);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
    sweep_after(30000);
    assert_false(hosts[0].is_ejected);
}

static void test_jitter(void **state)
{
    (void)state;
    conf.ejection_jitter_ms = 10000;
    add(2);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
    sweep_after(29999);
    assert_true(hosts[0].is_ejected);
    sweep_after(10001);
    assert_false(hosts[0].is_ejected);
}

static void test_at_most_so_many(void **state)
{
    (void)state;
    conf.max_ejection_percent = 30;
    add(10);
    for (unsigned i = 0; i < 10; i++)
        px_outlier_report(&outlier, &hosts[i], PX_OUTLIER_5XX, now_ns);
    assert_int_equal(outlier.ejected, 3);
    assert_int_equal(outlier.overflows, 7);
    assert_int_equal(outlier.detected[PX_OUTLIER_5XX], 10);
}

/* 10 % of three hosts is none, unless the configuration says one at least. */
static void test_small_clusters(void **state)
{
    (void)state;
    conf.max_ejection_percent = 10;
    add(3);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
    assert_int_equal(outlier.ejected, 0);
    conf.always_ejects_one = true;
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
    px_outlier_report(&outlier, &hosts[1], PX_OUTLIER_5XX, now_ns);
    assert_int_equal(outlier.ejected, 1);
}

static void test_enforcing(void **state)
{
    (void)state;
    add(2);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_GATEWAY, now_ns); /* 0 % by default */
    assert_false(hosts[0].is_ejected);
    assert_int_equal(outlier.detected[PX_OUTLIER_GATEWAY], 1);
    conf.enforce_5xx = 30;
    unsigned ejections = 0;
    for (int i = 0; i < 1000; i++) {
        px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
        ejections += hosts[0].is_ejected;
        if (hosts[0].is_ejected)
            sweep_after(300000);
    }
    assert_in_range(ejections, 220, 380);
}

static void test_check_takes_back(void **state)
{
    (void)state;
    add(2);
    px_shared_set(&states[0].consecutive_gateway, 4);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_LOCAL, now_ns);
    px_outlier_check_passed(&outlier, &hosts[0]);
    assert_false(hosts[0].is_ejected);
    assert_int_equal(px_shared_get(&states[0].consecutive_gateway), 0);
    conf.check_unejects = false;
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_LOCAL, now_ns);
    px_outlier_check_passed(&outlier, &hosts[0]);
    assert_true(hosts[0].is_ejected);
}

/* A host that goes while it is ejected makes room for another. */
static void test_removed_while_ejected(void **state)
{
    (void)state;
    conf.max_ejection_percent = 50;
    add(3);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns);
    px_outlier_remove(&outlier, &hosts[0]);
    assert_int_equal(outlier.ejected, 0);
    assert_int_equal(outlier.hosts.count, 2);
    px_outlier_report(&outlier, &hosts[0], PX_OUTLIER_5XX, now_ns); /* on its way when it went */
    assert_int_equal(outlier.ejected, 0);
    px_outlier_report(&outlier, &hosts[1], PX_OUTLIER_5XX, now_ns);
    assert_true(hosts[1].is_ejected);
}

/* --- worse than the others --- */

static void test_success_rate(void **state)
{
    (void)state;
    add(6);
    for (unsigned i = 0; i < 5; i++)
        answers(i, 200, 200 - i % 2);
    answers(5, 200, 160);
    sweep_after(10000);
    assert_true(hosts[5].is_ejected);
    assert_int_equal(outlier.ejected, 1);
    assert_int_equal(outlier.enforced[PX_OUTLIER_SUCCESS_RATE], 1);
    assert_true(hosts[0].success_rate == 100 && hosts[1].success_rate == 99.5);
    assert_true(outlier.average > 96 && outlier.threshold < outlier.average);
    assert_int_equal(px_shared_get(&states[0].external.requests), 0); /* the interval is over */
}

/* Too few hosts, or too few requests: nobody is judged. */
static void test_success_rate_needs_enough(void **state)
{
    (void)state;
    add(5);
    for (unsigned i = 0; i < 4; i++)
        answers(i, 200, 200);
    answers(4, 99, 0);
    sweep_after(10000);
    assert_int_equal(outlier.detected[PX_OUTLIER_SUCCESS_RATE], 0);
    assert_true(outlier.average < 0);
    conf.success_rate_hosts = 4;
    for (unsigned i = 0; i < 4; i++)
        answers(i, 200, 200);
    answers(4, 99, 0);
    sweep_after(10000);
    assert_int_equal(outlier.detected[PX_OUTLIER_SUCCESS_RATE], 0); /* it is not among the four */
    assert_true(outlier.average == 100);
}

static void test_failure_percent(void **state)
{
    (void)state;
    conf.enforce_failure_percent = 100;
    conf.enforce_success_rate = 0;
    add(5);
    for (unsigned i = 0; i < 4; i++)
        answers(i, 50, 10); /* 80 % */
    answers(4, 60, 9);      /* 85 % */
    sweep_after(10000);
    assert_int_equal(outlier.ejected, 1);
    assert_true(hosts[4].is_ejected);
    assert_int_equal(outlier.enforced[PX_OUTLIER_FAILURE_PERCENT], 1);
}

static void test_local_origin_is_judged_apart(void **state)
{
    (void)state;
    conf.splits_local_origin = true;
    add(6);
    for (unsigned i = 0; i < 6; i++) {
        answers(i, 200, 200);
        px_shared_set(&states[i].local.requests, 200);
        px_shared_set(&states[i].local.successes, i == 2 ? 20 : 200);
    }
    sweep_after(10000);
    assert_true(hosts[2].is_ejected);
    assert_int_equal(outlier.enforced[PX_OUTLIER_LOCAL_SUCCESS_RATE], 1);
    assert_int_equal(outlier.detected[PX_OUTLIER_SUCCESS_RATE], 0);
    assert_true(hosts[2].local_success_rate == 10 && hosts[2].success_rate == 100);
}

/* Successes counted just before requests, by another thread, make no rate above 100. */
static void test_torn_counts(void **state)
{
    (void)state;
    conf.success_rate_hosts = 1;
    add(1);
    answers(0, 100, 103);
    sweep_after(10000);
    assert_true(hosts[0].success_rate == 100);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_ejected_and_back), CASE(test_longer_each_time),
        CASE(test_jitter),           CASE(test_at_most_so_many),
        CASE(test_small_clusters),   CASE(test_enforcing),
        CASE(test_check_takes_back), CASE(test_removed_while_ejected),
        CASE(test_success_rate),     CASE(test_success_rate_needs_enough),
        CASE(test_failure_percent),  CASE(test_local_origin_is_judged_apart),
        CASE(test_torn_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
