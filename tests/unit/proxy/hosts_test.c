/*
 * tests/unit/proxy/lb_test.c - which host a cluster picks: policies, weights, health, panic,
 * priorities, hosts tried before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "proxy/run.h"

enum { HOSTS_MAX = 8, PICKS = 40000 };

/* A worker without threads and sockets: as much of it as clusters need. */
static struct lt_env env;
static struct px_worker worker;
static struct px_pin pin;
static struct px_snapshot snapshot;
static struct px_cluster_entry entry;
static struct px_cluster_conf conf;
static struct px_endpoints_conf endpoints;
static struct px_endpoint_conf list[HOSTS_MAX];

static void free_graves(struct lt_task *task)
{
    (void)task;
    while (worker.graveyard.count > 0)
        free(lt_vec_pop(&worker.graveyard));
}

static int set_up(void **state)
{
    (void)state;
    lt_env_init(&env, "test");
    memset(&worker, 0, sizeof(worker));
    memset(&snapshot, 0, sizeof(snapshot));
    worker.env = &env;
    worker.loop = lt_loop_new(&env);
    worker.metrics = lt_metric_set_new(1000);
    lt_list_init(&worker.to_wake);
    lt_task_init(&worker.wake, px_clusters_wake);
    lt_task_init(&worker.bury, free_graves);
    lt_prng_seed(&worker.prng, &env);
    pin = (struct px_pin){&snapshot, &worker, 1};
    worker.pin = &pin;
    conf = (struct px_cluster_conf){.res.name = LT_STR("c"),
                                    .discovery = PX_DISCOVERY_EDS,
                                    .least_request_choices = 2,
                                    .panic_threshold_percent = 50};
    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        list[i] = (struct px_endpoint_conf){.weight = 1, .health = PX_HEALTH_HEALTHY};
        assert_int_equal(lt_addr_parse(LT_STR("10.0.0.1"), (uint16_t)(i + 1), &list[i].addr),
                         LT_OK);
    }
    entry = (struct px_cluster_entry){&conf, &endpoints};
    lt_map_put(&snapshot.clusters, LT_STR("c"), &entry);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_clusters_free(&worker);
    lt_task_cancel(&worker.wake);
    lt_task_cancel(&worker.bury);
    free_graves(&worker.bury);
    lt_vec_fini(&worker.graveyard);
    px_interns_fini(&worker.interns);
    lt_map_fini(&snapshot.clusters);
    lt_metric_set_free(&worker.metrics);
    lt_loop_free(&worker.loop);
    return 0;
}

static struct px_cluster *cluster_of(px_lb_policy policy, size_t count)
{
    conf.lb = policy;
    endpoints = (struct px_endpoints_conf){.endpoints = list, .endpoint_count = count};
    return px_cluster_get(&worker, LT_STR("c"));
}

static unsigned pick(struct px_cluster *cluster)
{
    struct px_host *host = px_cluster_pick(cluster, NULL, NULL, 0, 1);
    assert_non_null(host);
    return lt_addr_port(&host->addr) - 1u;
}

static void spread(struct px_cluster *cluster, unsigned hits[HOSTS_MAX])
{
    memset(hits, 0, HOSTS_MAX * sizeof(*hits));
    for (unsigned i = 0; i < PICKS; i++)
        hits[pick(cluster)]++;
}

static void test_round_robin(void **state)
{
    (void)state;
    unsigned hits[HOSTS_MAX];
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN, 4);
    spread(cluster, hits);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hits[i], PICKS / 4);
}

static void check_weights(px_lb_policy policy)
{
    unsigned hits[HOSTS_MAX];
    list[0].weight = 1;
    list[1].weight = 3;
    list[2].weight = 6;
    struct px_cluster *cluster = cluster_of(policy, 3);
    spread(cluster, hits);
    assert_in_range(hits[0], PICKS / 10 - 500, PICKS / 10 + 500);
    assert_in_range(hits[1], PICKS * 3 / 10 - 800, PICKS * 3 / 10 + 800);
    assert_in_range(hits[2], PICKS * 6 / 10 - 1000, PICKS * 6 / 10 + 1000);
}

static void test_weights_round_robin(void **state)
{
    (void)state;
    check_weights(PX_LB_ROUND_ROBIN);
}

static void test_weights_random(void **state)
{
    (void)state;
    check_weights(PX_LB_RANDOM);
}

/* The busiest host gets nothing unless chance draws it twice. */
static void test_least_request(void **state)
{
    (void)state;
    unsigned hits[HOSTS_MAX];
    struct px_cluster *cluster = cluster_of(PX_LB_LEAST_REQUEST, 4);
    struct px_host *busy = cluster->hosts.items[0];
    busy->rq_active = 100;
    spread(cluster, hits);
    unsigned at = lt_addr_port(&busy->addr) - 1u;
    assert_in_range(hits[at], PICKS / 16 - 500, PICKS / 16 + 500); /* 1/4 * 1/4 */
    busy->rq_active = 0;
}

static void test_health(void **state)
{
    (void)state;
    list[0].health = PX_HEALTH_UNHEALTHY;
    list[1].health = PX_HEALTH_DRAINING;
    conf.panic_threshold_percent = 0;
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN, 3);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(pick(cluster), 2);
}

static void test_no_good_host(void **state)
{
    (void)state;
    list[0].health = list[1].health = PX_HEALTH_UNHEALTHY;
    conf.panic_threshold_percent = 0;
    assert_null(px_cluster_pick(cluster_of(PX_LB_LEAST_REQUEST, 2), NULL, NULL, 0, 1));
}

static void test_panic(void **state)
{
    (void)state;
    unsigned hits[HOSTS_MAX];
    list[0].health = list[1].health = PX_HEALTH_UNHEALTHY;
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN,
                                            3); /* a third is good: below one half */
    spread(cluster, hits);
    assert_in_range(hits[0], PICKS / 3 - 1, PICKS / 3 + 1);
}

static void test_priorities(void **state)
{
    (void)state;
    list[0].priority = 1;
    list[1].priority = 0;
    list[2].priority = 0;
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN, 3);
    for (unsigned i = 0; i < 100; i++)
        assert_int_not_equal(pick(cluster), 0);
    for (unsigned i = 1; i <= 2; i++)
        ((struct px_host *)cluster->hosts.items[i])->health = PX_HEALTH_UNHEALTHY;
    assert_int_equal(pick(cluster), 0);
}

static void test_avoids_hosts_tried_before(void **state)
{
    (void)state;
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN, 3);
    struct px_host *tried[] = {cluster->hosts.items[0], cluster->hosts.items[1]};
    for (unsigned i = 0; i < 100; i++)
        assert_ptr_equal(px_cluster_pick(cluster, NULL, tried, 2, 5), cluster->hosts.items[2]);
    struct px_host *all[] = {cluster->hosts.items[0], cluster->hosts.items[1],
                             cluster->hosts.items[2]};
    assert_non_null(
        px_cluster_pick(cluster, NULL, all, 3, 5)); /* better one tried before than none */
}

static void test_endpoint_change_keeps_hosts(void **state)
{
    (void)state;
    struct px_cluster *cluster = cluster_of(PX_LB_ROUND_ROBIN, 3);
    struct px_host *second = cluster->hosts.items[1];
    struct px_endpoints_conf fewer = {.endpoints = &list[1], .endpoint_count = 1};
    second->rq_total = 7;
    entry.endpoints = &fewer;
    px_clusters_update(&worker, &pin);
    assert_int_equal(cluster->hosts.count, 1);
    assert_ptr_equal(cluster->hosts.items[0], second);
    assert_int_equal(second->rq_total, 7);
    entry.endpoints = NULL;
    px_clusters_update(&worker, &pin);
    assert_null(px_cluster_pick(cluster, NULL, NULL, 0, 1));
}

static void test_original_dst(void **state)
{
    (void)state;
    conf.discovery = PX_DISCOVERY_ORIGINAL_DST;
    struct px_cluster *cluster = cluster_of(PX_LB_CLUSTER_PROVIDED, 0);
    struct px_host *host = px_cluster_pick(cluster, &list[3].addr, NULL, 0, 1);
    assert_true(lt_addr_eq(&host->addr, &list[3].addr));
    assert_ptr_equal(px_cluster_pick(cluster, &list[3].addr, NULL, 0, 1), host);
    assert_ptr_not_equal(px_cluster_pick(cluster, &list[4].addr, NULL, 0, 1), host);
    assert_null(px_cluster_pick(cluster, NULL, NULL, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_robin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_round_robin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_random, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_least_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_health, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_good_host, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_panic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_priorities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_avoids_hosts_tried_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_endpoint_change_keeps_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_original_dst, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
