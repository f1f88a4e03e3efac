/*
 * tests/unit/proxy/hosts_test.c - the hosts of a cluster: made of endpoints, kept when they stay,
 * with the health that the control plane and the main thread say; and that the balancer has them.
 * How it chooses: lb_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "proxy/run/run.h"

enum { HOSTS_MAX = 8 };

/* A worker without threads and sockets: as much of it as clusters need. */
static struct lt_env env;
static struct px_home home;
static struct px_worker worker;
static struct px_pin pin;
static struct px_snapshot snapshots[2];
static struct px_cluster_entry entry;
static struct px_cluster_conf conf;
static struct px_lb_conf lb;
static struct px_endpoints_conf endpoints;
static struct px_endpoint_conf list[HOSTS_MAX];
static struct px_endpoint_facts facts;
static struct px_locality localities[2];
static struct px_cluster_state shared;
static struct px_host_state states[HOSTS_MAX];
static struct px_host_state *state_list[HOSTS_MAX];

static void free_graves(struct lt_task *task)
{
    (void)task;
    while (worker.graveyard.count > 0)
        free(lt_vec_pop(&worker.graveyard));
}

/* The configuration that the test holds outlives every snapshot. */
static void do_not_count(void *entry_at LT_UNUSED)
{
}

static const struct px_shelf_kind shelf_kind = {sizeof(struct px_cluster_entry), do_not_count,
                                                do_not_count};

/* The worker gets another snapshot, with the entry as it is now. */
static void publish(void)
{
    struct px_pin before = pin;
    pin.snapshot = before.snapshot == &snapshots[0] ? &snapshots[1] : &snapshots[0];
    px_shelf_put(&pin.snapshot->clusters, 0, &entry);
    px_clusters_update(&worker, &before);
}

static int set_up(void **state)
{
    (void)state;
    lt_env_init(&env, "test");
    memset(&worker, 0, sizeof(worker));
    memset(snapshots, 0, sizeof(snapshots));
    worker.env = &env;
    worker.loop = lt_loop_new(&env);
    worker.metrics = lt_metric_set_new(1000);
    lt_list_init(&worker.to_wake);
    lt_task_init(&worker.wake, px_clusters_wake);
    lt_task_init(&worker.bury, free_graves);
    lt_prng_seed(&worker.prng, &env);
    pin = (struct px_pin){&snapshots[0], &worker, 1};
    worker.pin = &pin;
    static const struct px_circuit circuit = {
        .max = {10, 10, 10, 10, UINT32_MAX}, .counted = 15, .budget_percent = -1.0};
    static const struct px_transport_match plain = {.name = {"default", 7}};
    worker.home = &home;
    lb = (struct px_lb_conf){.choice_count = 2, .panic_percent = 0};
    conf = (struct px_cluster_conf){.res.name = LT_STR("c"),
                                    .discovery = PX_DISCOVERY_EDS,
                                    .lb = &lb,
                                    .circuits = {&circuit, &circuit},
                                    .host_max_connections = UINT32_MAX,
                                    .transports = &plain,
                                    .transport_count = 1};
    facts = (struct px_endpoint_facts){.workload = LT_STR("w;ns;s;v1;k")};
    localities[0] = (struct px_locality){.region = LT_STR("a")};
    localities[1] = (struct px_locality){.region = LT_STR("b"), .priority = 1};
    memset(states, 0, sizeof(states));
    memset(&shared, 0, sizeof(shared));
    for (uint8_t i = 0; i < HOSTS_MAX; i++) {
        list[i] = (struct px_endpoint_conf){.weight = 1,
                                            .health = PX_HEALTH_HEALTHY,
                                            .kind = PX_AT_V4,
                                            .port = i + 1,
                                            .v4 = {10, 0, 0, 1},
                                            .facts = &facts};
        state_list[i] = &states[i];
    }
    entry = (struct px_cluster_entry){.conf = &conf, .endpoints = &endpoints, .state = &shared};
    for (size_t i = 0; i < LT_ARRAY_LEN(snapshots); i++) {
        snapshots[i].cluster_names = px_index_new();
        px_index_put(&snapshots[i].cluster_names, LT_STR("c"), 0);
        px_shelf_init(&snapshots[i].clusters, &shelf_kind);
    }
    px_shelf_put(&snapshots[0].clusters, 0, &entry);
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
    for (size_t i = 0; i < LT_ARRAY_LEN(snapshots); i++) {
        px_index_unref(&snapshots[i].cluster_names);
        px_shelf_fini(&snapshots[i].clusters);
    }
    lt_metric_set_free(&worker.metrics);
    lt_loop_free(&worker.loop);
    return 0;
}

static struct px_cluster *cluster_of(uint32_t count)
{
    endpoints = (struct px_endpoints_conf){.endpoints = list,
                                           .endpoint_count = count,
                                           .localities = localities,
                                           .locality_count = LT_ARRAY_LEN(localities),
                                           .overprovisioning_percent = 140};
    return px_cluster_get(&worker, LT_STR("c"));
}

static struct px_host *pick(struct px_cluster *cluster)
{
    return px_cluster_pick(cluster, &(struct px_pick){0});
}

/* How many different hosts a hundred choices find. */
static unsigned reach(struct px_cluster *cluster)
{
    bool seen[HOSTS_MAX] = {0};
    unsigned count = 0;
    for (int i = 0; i < 100; i++) {
        struct px_host *host = pick(cluster);
        unsigned at = host == NULL ? 0 : lt_addr_port(&host->addr) - 1u;
        count += host != NULL && !seen[at];
        seen[at] |= host != NULL;
    }
    return count;
}

static void test_hosts_of_endpoints(void **state)
{
    (void)state;
    list[1].weight = 7;
    struct px_cluster *cluster = cluster_of(3);
    assert_int_equal(cluster->hosts.count, 3);
    struct px_host *second = cluster->hosts.items[1];
    assert_string_equal(second->name, "10.0.0.1:2");
    assert_string_equal(second->workload, "w;ns;s;v1;k");
    assert_int_equal(second->lb.weight, 7);
    assert_int_equal(reach(cluster), 3);
}

static void test_health_of_the_control_plane(void **state)
{
    (void)state;
    list[0].health = PX_HEALTH_UNHEALTHY;
    list[1].health = PX_HEALTH_DRAINING;
    list[2].health = PX_HEALTH_TIMEOUT;
    struct px_cluster *cluster = cluster_of(4);
    assert_int_equal(reach(cluster), 1);
    list[3].health = PX_HEALTH_UNHEALTHY;
    struct px_endpoints_conf same = endpoints;
    entry.endpoints = &same;
    publish();
    assert_null(pick(cluster));
}

static void test_priorities(void **state)
{
    (void)state;
    list[0].locality = 1;
    struct px_cluster *cluster = cluster_of(3);
    assert_int_equal(px_host_priority(cluster->hosts.items[0]), 1);
    assert_int_equal(reach(cluster), 2);
}

/* The main thread ejects a host, and takes it back. */
static void test_health_of_the_main_thread(void **state)
{
    (void)state;
    entry.host_states = state_list;
    px_shelf_put(&snapshots[0].clusters, 0, &entry);
    struct px_cluster *cluster = cluster_of(2);
    struct px_host *first = cluster->hosts.items[0];
    uint32_t epoch = first->epoch;
    px_shared_set(&states[0].flags, PX_HOST_FLAG(EJECTED));
    assert_int_equal(reach(cluster), 2); /* nobody said so yet */
    px_hosts_health_changed(cluster);
    assert_int_equal(reach(cluster), 1);
    assert_int_not_equal(first->epoch, epoch); /* its connections are used no more */
    px_shared_set(&states[0].flags, 0);
    px_hosts_health_changed(cluster);
    assert_int_equal(reach(cluster), 2);
    px_shared_set(&states[0].flags, PX_HOST_FLAG(FAILED_CHECK));
    px_shared_set(&states[1].flags, PX_HOST_FLAG(DEGRADED_CHECK));
    px_hosts_health_changed(cluster);
    assert_int_equal(((struct px_host *)cluster->hosts.items[1])->lb.health, PX_LB_DEGRADED);
    assert_ptr_equal(pick(cluster), cluster->hosts.items[1]);
}

static void test_avoids_hosts_tried_before(void **state)
{
    (void)state;
    struct px_cluster *cluster = cluster_of(3);
    struct px_host *tried[] = {cluster->hosts.items[0], cluster->hosts.items[1],
                               cluster->hosts.items[2]};
    struct px_pick two = {.avoid = tried, .avoid_count = 2, .attempts = 6};
    struct px_pick all = {.avoid = tried, .avoid_count = 3, .attempts = 6};
    for (unsigned i = 0; i < 100; i++)
        assert_ptr_equal(px_cluster_pick(cluster, &two), cluster->hosts.items[2]);
    assert_non_null(px_cluster_pick(cluster, &all)); /* better one tried before than none */
}

static void test_endpoint_change_keeps_hosts(void **state)
{
    (void)state;
    struct px_cluster *cluster = cluster_of(3);
    struct px_host *second = cluster->hosts.items[1];
    struct px_endpoints_conf fewer = endpoints;
    fewer.endpoints = &list[1];
    fewer.endpoint_count = 1;
    second->rq_total = 7;
    entry.endpoints = &fewer;
    publish();
    assert_int_equal(cluster->hosts.count, 1);
    assert_ptr_equal(cluster->hosts.items[0], second);
    assert_int_equal(second->rq_total, 7);
    entry.endpoints = NULL;
    publish();
    assert_null(pick(cluster));
}

/* A logical host is the same under another address: what is under way goes on, and nothing else. */
static void test_logical_dns(void **state)
{
    (void)state;
    conf.discovery = PX_DISCOVERY_LOGICAL_DNS;
    struct px_cluster *cluster = cluster_of(1);
    struct px_host *host = cluster->hosts.items[0];
    struct px_endpoints_conf moved = endpoints;
    moved.endpoints = &list[5];
    entry.endpoints = &moved;
    uint32_t epoch = host->epoch;
    publish();
    assert_ptr_equal(pick(cluster), host);
    assert_int_equal(lt_addr_port(&host->addr), 6);
    assert_string_equal(host->name, "10.0.0.1:6");
    assert_int_not_equal(host->epoch, epoch);
}

static void test_original_dst(void **state)
{
    (void)state;
    conf.discovery = PX_DISCOVERY_ORIGINAL_DST;
    conf.cleanup_ms = 5000;
    struct px_cluster *cluster = cluster_of(0);
    struct lt_addr one = px_endpoint_addr(&list[3]), other = px_endpoint_addr(&list[4]);
    struct px_host *host = px_cluster_pick(cluster, &(struct px_pick){.original_dst = &one});
    assert_true(lt_addr_eq(&host->addr, &one));
    assert_ptr_equal(px_cluster_pick(cluster, &(struct px_pick){.original_dst = &one}), host);
    assert_ptr_not_equal(px_cluster_pick(cluster, &(struct px_pick){.original_dst = &other}), host);
    assert_null(pick(cluster));
    static const struct px_original_dst_conf override = {.port = 7};
    conf.original_dst = &override;
    host = px_cluster_pick(cluster, &(struct px_pick){.original_dst = &one});
    assert_int_equal(lt_addr_port(&host->addr), 7);
}

static void sweep(struct px_cluster *cluster)
{
    lt_loop_timer_cancel(worker.loop, &cluster->sweep);
    cluster->sweep.on_due(&cluster->sweep, 0);
}

/* Hosts that were not used between two sweeps go; one in use stays. */
static void test_original_dst_cleanup(void **state)
{
    (void)state;
    conf.discovery = PX_DISCOVERY_ORIGINAL_DST;
    conf.cleanup_ms = 5000;
    struct px_cluster *cluster = cluster_of(0);
    struct lt_addr one = px_endpoint_addr(&list[3]), other = px_endpoint_addr(&list[4]);
    struct px_host *busy = px_cluster_pick(cluster, &(struct px_pick){.original_dst = &one});
    px_cluster_pick(cluster, &(struct px_pick){.original_dst = &other});
    busy->cx_active = 1;
    sweep(cluster);
    assert_int_equal(cluster->by_addr.count, 2); /* both were used just now */
    sweep(cluster);
    assert_int_equal(cluster->by_addr.count, 1);
    assert_ptr_equal(cluster->by_addr.entries[0].value, busy);
    busy->cx_active = 0;
}

/* --- limits --- */

static void test_limits_are_for_all_workers(void **state)
{
    (void)state;
    struct px_cluster *cluster = cluster_of(1);
    bool is_shared[10];
    for (int i = 0; i < 9; i++)
        px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, &is_shared[i]);
    assert_true(px_limit_has_room(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS));
    px_shared_add(&shared.used[PX_PRIORITY_DEFAULT][PX_LIMIT_REQUESTS], 1); /* another worker's */
    assert_false(px_limit_has_room(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS));
    assert_true(px_limit_has_room(cluster, PX_PRIORITY_HIGH, PX_LIMIT_REQUESTS));
    for (int i = 0; i < 9; i++)
        px_limit_give(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, is_shared[i]);
    assert_int_equal(px_shared_get(&shared.used[PX_PRIORITY_DEFAULT][PX_LIMIT_REQUESTS]), 1);
    assert_int_equal(cluster->own[PX_LIMIT_REQUESTS], 0);
}

/* What was taken without a limit is not given back to one that came meanwhile. */
static void test_a_limit_that_comes_and_goes(void **state)
{
    (void)state;
    static const struct px_circuit open = {
        .max = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
        .budget_percent = -1.0};
    const struct px_circuit *limited = conf.circuits[0];
    struct px_cluster *cluster = cluster_of(1);
    bool before, after;
    conf.circuits[0] = &open;
    px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, &before);
    conf.circuits[0] = limited;
    px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, &after);
    assert_int_equal(px_shared_get(&shared.used[0][PX_LIMIT_REQUESTS]), 1);
    px_limit_give(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, before);
    assert_int_equal(px_shared_get(&shared.used[0][PX_LIMIT_REQUESTS]), 1);
    conf.circuits[0] = &open;
    px_limit_give(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, after);
    assert_int_equal(px_shared_get(&shared.used[0][PX_LIMIT_REQUESTS]), 0);
}

static void test_retry_budget(void **state)
{
    (void)state;
    static const struct px_circuit budget = {
        .max = {UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, UINT32_MAX},
        .counted = 31,
        .budget_percent = 20.0,
        .budget_min = 2};
    struct px_cluster *cluster = cluster_of(1);
    bool is_shared;
    conf.circuits[0] = &budget;
    for (int i = 0; i < 2; i++) {
        assert_true(px_limit_has_room(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_RETRIES));
        px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_RETRIES, &is_shared);
    }
    assert_false(px_limit_has_room(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_RETRIES));
    for (int i = 0; i < 14; i++)
        px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_REQUESTS, &is_shared);
    px_limit_take(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_PENDING, &is_shared);
    assert_true(px_limit_has_room(cluster, PX_PRIORITY_DEFAULT, PX_LIMIT_RETRIES)); /* 3 of 15 */
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_hosts_of_endpoints),
        CASE(test_health_of_the_control_plane),
        CASE(test_priorities),
        CASE(test_health_of_the_main_thread),
        CASE(test_avoids_hosts_tried_before),
        CASE(test_endpoint_change_keeps_hosts),
        CASE(test_logical_dns),
        CASE(test_original_dst),
        CASE(test_original_dst_cleanup),
        CASE(test_limits_are_for_all_workers),
        CASE(test_a_limit_that_comes_and_goes),
        CASE(test_retry_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
