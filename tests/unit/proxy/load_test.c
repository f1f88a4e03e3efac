/*
 * tests/unit/proxy/load_test.c - reports of load: each has what was added since the last one.
 */
#include "conf_test.h"

#include "proxy/xds/load_priv.h"

static struct lt_arena *arena;
static struct px_table *table;
static struct px_load_ledger ledger;
static struct px_cluster_counts counts;
static struct px_host_status hosts[2];
static struct lt_map clusters;
static const char *const only_web[] = {"web"};
static struct px_load_wish wish;

static int set_up(void **state)
{
    (void)state;
    struct lt_err err = {0};
    arena = lt_arena_new(0, 0);
    table = px_table_new();
    px_load_ledger_init(&ledger);
    lt_map_init(&clusters);
    lt_map_put(&clusters, LT_STR("web"), &counts);
    memset(&counts, 0, sizeof(counts));
    memset(hosts, 0, sizeof(hosts));
    wish = (struct px_load_wish){.names = only_web, .count = 1};
    static const char *const ips[] = {"10.0.0.1:80", "10.0.0.2:80"};
    for (size_t i = 0; i < 2; i++) {
        hosts[i].address = (char *)ips[i];
        assert_int_equal(lt_addr_parse_hostport(lt_str_of(ips[i]), &hosts[i].addr), LT_OK);
        lt_map_put(&counts.hosts, lt_str_of(ips[i]), &hosts[i]);
    }
    lt_str yaml = pack_yaml(
        arena, PX_CLUSTER,
        "{name: web, load_assignment: {cluster_name: web, endpoints: ["
        "{locality: {region: a}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]},"
        "{locality: {region: b}, priority: 1, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}]}]}}");
    assert_int_equal(px_table_put(table, PX_CLUSTER, LT_STR("web"), LT_STR("1"), yaml, &err),
                     LT_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_load_ledger_fini(&ledger);
    lt_map_fini(&clusters);
    lt_map_fini(&counts.hosts);
    px_table_free(&table);
    lt_arena_free(&arena);
    return 0;
}

/* NULL: it is in no report. */
static const Xds__ClusterStats *report(uint64_t now_s)
{
    Xds__LoadStatsRequest *request = lt_pb_new(arena, Xds__LoadStatsRequest,
                                               xds__load_stats_request);
    px_load_report(&ledger, table, &wish, &clusters, now_s * LT_NS_PER_S, arena, request);
    assert_in_range(request->n_cluster_stats, 0, 1);
    return request->n_cluster_stats > 0 ? request->cluster_stats[0] : NULL;
}

static void test_only_what_was_added(void **state)
{
    (void)state;
    hosts[0].rq_total = 100;
    hosts[0].rq_success = 90;
    assert_null(report(10)); /* it is measured from now on */
    const Xds__ClusterStats *stats = report(12);
    assert_int_equal(stats->n_upstream_locality_stats, 0);
    assert_int_equal(stats->load_report_interval->seconds, 2);
    hosts[0].rq_total = 107;
    hosts[0].rq_success = 94;
    hosts[0].rq_error = 2;
    hosts[0].rq_active = 3;
    hosts[1].rq_total = 5;
    stats = report(13);
    assert_int_equal(stats->n_upstream_locality_stats, 2);
    const Xds__UpstreamLocalityStats *a = stats->upstream_locality_stats[0],
                                     *b = stats->upstream_locality_stats[1];
    assert_string_equal(a->locality->region, "a");
    assert_int_equal(a->total_issued_requests, 7);
    assert_int_equal(a->total_successful_requests, 4);
    assert_int_equal(a->total_error_requests, 2);
    assert_int_equal(a->total_requests_in_progress, 3);
    assert_int_equal(a->n_upstream_endpoint_stats, 0);
    assert_int_equal(b->priority, 1);
    assert_int_equal(b->total_issued_requests, 5);
    stats = report(14);
    assert_int_equal(stats->n_upstream_locality_stats, 1); /* the one with something under way */
    assert_false(stats->upstream_locality_stats[0]->has_total_issued_requests);
}

/* A worker's host that went and came again counts from nothing. */
static void test_counters_that_begin_anew(void **state)
{
    (void)state;
    hosts[0].rq_total = 100;
    assert_null(report(1));
    hosts[0].rq_total = 4;
    assert_int_equal(report(2)->upstream_locality_stats[0]->total_issued_requests, 4);
    lt_map_remove(&counts.hosts, LT_STR("10.0.0.1:80"));
    assert_int_equal(report(3)->n_upstream_locality_stats, 0);
    lt_map_put(&counts.hosts, LT_STR("10.0.0.1:80"), &hosts[0]);
    hosts[0].rq_total = 2;
    assert_int_equal(report(4)->upstream_locality_stats[0]->total_issued_requests, 2);
}

static void test_hosts_of_no_locality_and_endpoints(void **state)
{
    (void)state;
    assert_int_equal(lt_addr_parse_hostport(LT_STR("10.9.9.9:1"), &hosts[1].addr), LT_OK);
    wish.by_endpoint = true;
    assert_null(report(1));
    hosts[1].rq_total = 1;
    const Xds__ClusterStats *stats = report(2);
    assert_int_equal(stats->n_upstream_locality_stats, 1);
    const Xds__UpstreamLocalityStats *none = stats->upstream_locality_stats[0];
    assert_int_equal(none->total_issued_requests, 1);
    assert_int_equal(none->n_upstream_endpoint_stats, 1);
    assert_string_equal(none->upstream_endpoint_stats[0]->address->socket_address->address,
                        "10.9.9.9");
}

static void test_drops(void **state)
{
    (void)state;
    *px_drop_tally_at(&counts.drops, LT_STR("lb")) = 3;
    assert_null(report(1));
    *px_drop_tally_at(&counts.drops, LT_STR("lb")) += 2;
    *px_drop_tally_at(&counts.drops, LT_STR("")) += 1;
    const Xds__ClusterStats *stats = report(2);
    assert_int_equal(stats->total_dropped_requests, 3);
    assert_int_equal(stats->n_dropped_requests, 2);
    assert_string_equal(stats->dropped_requests[0]->category, "lb");
    assert_int_equal(stats->dropped_requests[0]->dropped_count, 2);
    assert_int_equal(report(3)->n_dropped_requests, 0);
    struct px_drop_tally many = {0};
    for (int i = 0; i < 100; i++)
        *px_drop_tally_at(&many, lt_arena_printf(arena, "c%d", i)) += 1;
    assert_int_equal(many.count, PX_DROP_CATEGORIES_MAX);
    assert_int_equal(many.items[PX_DROP_CATEGORIES_MAX - 1].count,
                     100 - PX_DROP_CATEGORIES_MAX + 1);
}

/* What is not wanted any more is measured anew when it is wanted again. */
static void test_wishes(void **state)
{
    (void)state;
    assert_null(report(1));
    assert_non_null(report(2));
    wish.count = 0;
    assert_null(report(3));
    wish = (struct px_load_wish){.all = true};
    assert_null(report(4));
    assert_int_equal(report(9)->load_report_interval->seconds, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_only_what_was_added),
        TEST(test_counters_that_begin_anew),
        TEST(test_hosts_of_no_locality_and_endpoints),
        TEST(test_drops),
        TEST(test_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
