/*
 * tests/unit/proxy/table_test.c - what serves and what warms: a resource waits for what it needs,
 * and its predecessor serves on.
 */
#include "conf_test.h"

#include "base/buf.h"
#include "proxy/conf/route_match.h"
#include "proxy/table/table.h"

static struct lt_arena *arena;
static struct px_table *table;
static struct lt_err err;

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    table = px_table_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_table_free(&table);
    lt_arena_free(&arena);
    return 0;
}

static lt_rc put(px_resource_kind kind, const char *name, const char *yaml)
{
    lt_err_clear(&err);
    return px_table_put(table, kind, lt_str_of(name), LT_STR("1"), pack_yaml(arena, kind, yaml),
                        &err);
}

static void must_put(px_resource_kind kind, const char *name, const char *yaml)
{
    if (put(kind, name, yaml) != LT_OK)
        fail_msg("%s: %s", name, err.text);
}

static struct px_snapshot *snapshot(void)
{
    struct lt_err bad = {0};
    struct px_snapshot *made = px_table_snapshot(table, &bad);
    assert_string_equal(bad.text, "");
    return made;
}

static bool serves_cluster(const char *name)
{
    struct px_snapshot *now = snapshot();
    bool is_there = px_snapshot_find_cluster(now, lt_str_of(name)) != NULL;
    px_snapshot_drop(&now);
    return is_there;
}

static void count_listener(void *ctx, const void *entry LT_UNUSED)
{
    ++*(size_t *)ctx;
}

static size_t serving_listeners(void)
{
    struct px_snapshot *now = snapshot();
    size_t count = 0;
    px_shelf_each(&now->listeners, count_listener, &count);
    px_snapshot_drop(&now);
    return count;
}

#define EDS "{name: web, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}"
#define ENDPOINTS(port) \
    "{cluster_name: web, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: " port \
    "}}}}]}]}"
#define LISTENER(name, stat, routes) \
    "{name: " name \
    ", address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: hcm, " \
    "typed_config: {'@type': " HCM ", stat_prefix: " stat ", rds: {route_config_name: " routes \
    ", config_source: {ads: {}}}, http_filters: [{name: router, " \
    "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}"
#define ROUTES(name) "{name: " name ", virtual_hosts: [{name: v, domains: ['*']}]}"

static void test_cluster_waits_for_endpoints(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "web", EDS "}");
    assert_false(px_table_is_warm(table, PX_CLUSTER, LT_STR("web")));
    assert_false(px_table_all_warm(table, PX_CLUSTER));
    assert_non_null(px_table_find(table, PX_CLUSTER, LT_STR("web"))); /* the warming one is found */
    assert_false(serves_cluster("web"));
    must_put(PX_ENDPOINTS, "web", ENDPOINTS("80"));
    assert_true(px_table_is_warm(table, PX_CLUSTER, LT_STR("web")));
    struct px_snapshot *now = snapshot();
    assert_int_equal(px_snapshot_find_cluster(now, LT_STR("web"))->endpoints->endpoint_count, 1);
    px_snapshot_drop(&now);
}

static void test_predecessor_serves_while_its_heir_warms(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "web", EDS ", connect_timeout: 1s}");
    must_put(PX_ENDPOINTS, "web", ENDPOINTS("80"));
    must_put(
        PX_CLUSTER, "web",
        "{name: web, type: EDS, eds_cluster_config: {service_name: other, eds_config: {ads: {}}}, connect_timeout: 2s}");
    struct px_snapshot *now = snapshot();
    assert_int_equal(px_snapshot_find_cluster(now, LT_STR("web"))->conf->connect_timeout_ms, 1000);
    px_snapshot_drop(&now);
    assert_false(px_table_is_warm(table, PX_CLUSTER, LT_STR("web")));
    must_put(PX_ENDPOINTS, "other", "{cluster_name: other}");
    now = snapshot();
    assert_int_equal(px_snapshot_find_cluster(now, LT_STR("web"))->conf->connect_timeout_ms, 2000);
    px_snapshot_drop(&now);
}

/* A refused update leaves everything as it is. */
static void test_refused_update(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "a", "{name: a, connect_timeout: 1s}");
    struct px_snapshot *now = snapshot();
    px_snapshot_drop(&now);
    assert_int_equal(put(PX_CLUSTER, "a", "{name: a, type: EDS}"), LT_E_BAD);
    assert_false(px_table_is_dirty(table));
    assert_true(px_table_is_warm(table, PX_CLUSTER, LT_STR("a")));
    assert_true(serves_cluster("a"));
}

static void test_equal_bytes_change_nothing(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "a", "{name: a}");
    struct px_snapshot *now = snapshot();
    px_snapshot_drop(&now);
    const struct px_resource *before = px_table_find(table, PX_CLUSTER, LT_STR("a"));
    must_put(PX_CLUSTER, "a", "{name: a}");
    assert_false(px_table_is_dirty(table));
    assert_ptr_equal(px_table_find(table, PX_CLUSTER, LT_STR("a")), before);
    must_put(PX_CLUSTER, "a", "{name: a, connect_timeout: 3s}");
    assert_true(px_table_is_dirty(table));
}

/* Names that have begun to be needed, or that nothing needs any more, since the last call. */
static void assert_wishes(const char *wanted)
{
    struct lt_buf all;
    lt_buf_init(&all, 4096);
    for (struct px_row *row; (row = px_table_next_wish(table)) != NULL;) {
        lt_buf_addf(&all, "%s%c%.*s", lt_buf_str(&all).len > 0 ? " " : "",
                    row->wanted > 0 ? '+' : '-', LT_STR_ARG(px_row_name(row)));
        px_row_unref(&row);
    }
    assert_string_equal(lt_arena_strz(arena, lt_buf_str(&all)), wanted);
    lt_buf_fini(&all);
}

static void test_listener_waits_for_routes(void **state)
{
    (void)state;
    must_put(PX_LISTENER, "l", LISTENER("l", "s", "r"));
    assert_wishes("+r");
    assert_int_equal(serving_listeners(), 0);
    must_put(PX_ROUTES, "r", ROUTES("r"));
    assert_int_equal(serving_listeners(), 1);
    must_put(PX_LISTENER, "l", LISTENER("l", "s2", "r2"));
    struct px_snapshot *now = snapshot();
    const struct px_row *row = px_row_find(px_table_rows(table), PX_LISTENER, LT_STR("l"));
    const struct px_listener_entry *entry = px_shelf_at(&now->listeners, row->slot);
    assert_string_equal(lt_arena_strz(arena, entry->conf->chains[0].hcm->stat_prefix), "s");
    px_snapshot_drop(&now);
    assert_wishes("+r2"); /* the serving one needs r as before */
    must_put(PX_ROUTES, "r2", ROUTES("r2"));
    assert_wishes("-r");
}

static void test_cluster_waits_for_secrets(void **state)
{
    (void)state;
    must_put(
        PX_CLUSTER, "a",
        "{name: a, transport_socket: {name: tls, typed_config: {'@type': " TLS
        "UpstreamTlsContext, "
        "common_tls_context: {validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}}}}}");
    assert_wishes("+ROOTCA");
    assert_false(px_table_is_warm(table, PX_CLUSTER, LT_STR("a")));
    /* one that no context can be made of is refused, and nothing changes */
    assert_int_equal(
        put(PX_SECRET, "ROOTCA",
            "{name: ROOTCA, validation_context: {trusted_ca: {inline_string: no certificate}}}"),
        LT_E_BAD);
    assert_non_null(strstr(err.text, "validation_context: trusted CA"));
    assert_false(px_table_is_warm(table, PX_CLUSTER, LT_STR("a")));
}

static void test_remove(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "a", "{name: a}");
    must_put(PX_CLUSTER, "b", EDS "}");
    px_table_remove(table, PX_CLUSTER, LT_STR("a"));
    px_table_remove(table, PX_CLUSTER, LT_STR("never-was"));
    assert_null(px_table_find(table, PX_CLUSTER, LT_STR("a")));
    assert_int_equal(px_table_count(table, PX_CLUSTER), 1);
    px_table_remove(table, PX_CLUSTER, LT_STR("web")); /* while it warms */
    assert_int_equal(px_table_count(table, PX_CLUSTER), 0);
    assert_true(px_table_all_warm(table, PX_CLUSTER));
}

/* Removing endpoints of a cluster that serves leaves it without hosts, not with freed ones. */
static void test_endpoints_go(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "web", EDS "}");
    must_put(PX_ENDPOINTS, "web", ENDPOINTS("80"));
    struct px_snapshot *before = snapshot();
    px_table_remove(table, PX_ENDPOINTS, LT_STR("web"));
    struct px_snapshot *after = snapshot();
    assert_null(px_snapshot_find_cluster(after, LT_STR("web"))->endpoints);
    assert_int_equal(px_snapshot_find_cluster(before, LT_STR("web"))->endpoints->endpoints[0].port,
                     80);
    px_snapshot_drop(&after);
    px_snapshot_drop(&before);
}

static void test_static_is_not_replaced(void **state)
{
    (void)state;
    px_table_set_static(table, true);
    must_put(PX_CLUSTER, "", "{name: a, connect_timeout: 1s}");
    px_table_set_static(table, false);
    assert_int_equal(put(PX_CLUSTER, "a", "{name: a, connect_timeout: 2s}"), LT_E_EXISTS);
    assert_non_null(strstr(err.text, "cluster 'a' is defined statically"));
    px_table_remove(table, PX_CLUSTER, LT_STR("a"));
    struct px_snapshot *now = snapshot();
    assert_int_equal(px_snapshot_find_cluster(now, LT_STR("a"))->conf->connect_timeout_ms, 1000);
    px_snapshot_drop(&now);
}

/*
 * Whoever holds a snapshot reads on in it after everything was replaced, removed and dropped by
 * others.
 */
static void test_snapshot_holds(void **state)
{
    (void)state;
    must_put(PX_CLUSTER, "a", "{name: a, connect_timeout: 1s}");
    must_put(PX_ROUTES, "r", ROUTES("r"));
    uint32_t slot = px_row_find(px_table_rows(table), PX_ROUTES, LT_STR("r"))->slot;
    struct px_snapshot *held = snapshot(), *mine = held;
    px_snapshot_hold(held);
    px_snapshot_drop(&mine);
    must_put(PX_CLUSTER, "a", "{name: a, connect_timeout: 2s}");
    px_table_remove(table, PX_ROUTES, LT_STR("r"));
    px_table_remove(table, PX_CLUSTER, LT_STR("a"));
    struct px_snapshot *next = snapshot();
    assert_true(next->generation > held->generation);
    assert_null(px_snapshot_routes(next, slot));
    px_snapshot_drop(&next);
    assert_int_equal(px_snapshot_find_cluster(held, LT_STR("a"))->conf->connect_timeout_ms, 1000);
    assert_int_equal(px_snapshot_routes(held, slot)->vhost_count, 1);
    px_snapshot_drop(&held);
}

/* --- virtual hosts on demand --- */

#define VHDS_ROUTES \
    "{name: r, virtual_hosts: [{name: v, domains: [known]}], vhds: {config_source: {ads: {}}}}"
#define VHOST(name, ...) "{name: " name ", domains: [" #__VA_ARGS__ "]}"

static const char *host_of(const char *authority)
{
    struct px_snapshot *now = snapshot();
    const struct px_row *row = px_row_find(px_table_rows(table), PX_ROUTES, LT_STR("r"));
    const struct px_routes_conf *routes = px_snapshot_routes(now, row->slot);
    const struct px_vhost *vhost = px_route_find_vhost(
        routes, px_snapshot_on_demand(now, row->slot), lt_str_of(authority));
    const char *name = vhost == NULL ? "none" : lt_arena_strz(arena, vhost->name);
    px_snapshot_drop(&now);
    return name;
}

static void let_hosts_be_known(const char *space)
{
    struct px_row *row = px_row_find(px_table_rows(table), PX_VHOST, lt_str_of(space));
    assert_non_null(row);
    assert_int_equal(row->wanted, 1);
    px_table_give_up(table, row);
}

/* Routes wait for the first word of the control plane, and listeners for them. */
static void test_routes_wait_for_hosts(void **state)
{
    (void)state;
    must_put(PX_LISTENER, "l", LISTENER("l", "s", "r"));
    must_put(PX_ROUTES, "r", VHDS_ROUTES);
    assert_false(px_table_is_warm(table, PX_ROUTES, LT_STR("r")));
    assert_int_equal(serving_listeners(), 0);
    let_hosts_be_known("r/");
    assert_true(px_table_is_warm(table, PX_ROUTES, LT_STR("r")));
    assert_int_equal(serving_listeners(), 1);
}

static void test_hosts_on_demand(void **state)
{
    (void)state;
    must_put(PX_ROUTES, "r", VHDS_ROUTES);
    let_hosts_be_known("r/");
    assert_string_equal(host_of("a.test"), "none");
    must_put(PX_VHOST, "r/a", VHOST("one", a.test, "*.a.test"));
    assert_string_equal(host_of("A.test"), "one");
    assert_string_equal(host_of("x.a.test"), "one");
    assert_string_equal(host_of("known"), "v");
    must_put(PX_VHOST, "other/b", VHOST("two", b.test)); /* of other routes */
    must_put(PX_VHOST, "r/s/c", VHOST("three", c.test));
    assert_string_equal(host_of("b.test"), "none");
    assert_string_equal(host_of("c.test"), "none");
    must_put(PX_VHOST, "r/a", VHOST("four", a.test, d.test));
    assert_string_equal(host_of("d.test"), "four");
    assert_string_equal(host_of("x.a.test"), "none");
    must_put(PX_ROUTES, "r", "{name: r, vhds: {config_source: {ads: {}}}}"); /* hosts stay */
    assert_string_equal(host_of("d.test"), "four");
    assert_string_equal(host_of("known"), "none");
    px_table_remove(table, PX_VHOST, LT_STR("r/a"));
    assert_string_equal(host_of("d.test"), "none");
}

static void test_domains_of_hosts_on_demand(void **state)
{
    (void)state;
    must_put(PX_ROUTES, "r", VHDS_ROUTES);
    let_hosts_be_known("r/");
    must_put(PX_VHOST, "r/a", VHOST("one", a.test));
    assert_string_equal(host_of("a.test"), "one");
    assert_int_equal(put(PX_VHOST, "r/b", VHOST("two", KNOWN)), LT_E_EXISTS);
    assert_non_null(strstr(err.text, "Duplicate entry of domain KNOWN in route r"));
    assert_int_equal(put(PX_VHOST, "r/b", VHOST("two", b.test, a.test)), LT_E_EXISTS);
    assert_int_equal(put(PX_VHOST, "r/b", VHOST("two", "")), LT_E_BAD);
    assert_int_equal(put(PX_VHOST, "r/b", "{name: x}"), LT_E_BAD);
    assert_string_equal(host_of("a.test"), "one");
    assert_string_equal(host_of("b.test"), "none");
}

static void test_sources_of_hosts(void **state)
{
    (void)state;
    assert_int_equal(put(PX_ROUTES, "r",
                         "{name: r, vhds: {config_source: {api_config_source: {api_type: GRPC, "
                         "grpc_services: [{envoy_grpc: {cluster_name: c}}]}}}}"),
                     LT_E_BAD);
    assert_non_null(strstr(err.text, "vhds: only 'DELTA_GRPC' is supported as an api_type."));
    assert_int_equal(put(PX_ROUTES, "r", "{name: r, vhds: {}}"), LT_E_BAD);
    assert_non_null(strstr(err.text, "vhds.config_source"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cluster_waits_for_endpoints),
        TEST(test_predecessor_serves_while_its_heir_warms),
        TEST(test_refused_update),
        TEST(test_equal_bytes_change_nothing),
        TEST(test_listener_waits_for_routes),
        TEST(test_cluster_waits_for_secrets),
        TEST(test_remove),
        TEST(test_endpoints_go),
        TEST(test_static_is_not_replaced),
        TEST(test_snapshot_holds),
        TEST(test_routes_wait_for_hosts),
        TEST(test_hosts_on_demand),
        TEST(test_domains_of_hosts_on_demand),
        TEST(test_sources_of_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
