/*
 * tests/unit/proxy/conf_cluster_test.c - clusters and endpoints: what is read of load balancing,
 * limits, health checks, outlier detection and DNS, and what is refused with which path.
 */
#include "conf_test.h"

static struct lt_arena *arena;
static struct px_tls_slots *slots;
static struct px_resource *made[8];
static size_t made_count;

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    slots = px_tls_slots_new();
    made_count = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    while (made_count > 0)
        px_resource_unref(&made[--made_count]);
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
    return 0;
}

static lt_rc compile(px_resource_kind kind, const char *yaml, struct lt_err *err)
{
    struct px_resource *resource = NULL;
    lt_rc rc = px_conf_compile(kind, LT_STR("n"), LT_STR("1"), pack_yaml(arena, kind, yaml), slots,
                               &resource, err);
    if (rc == LT_OK) {
        assert_true(made_count < LT_ARRAY_LEN(made));
        made[made_count++] = resource;
    }
    return rc;
}

static const void *must_compile(px_resource_kind kind, const char *yaml)
{
    struct lt_err err = {0};
    if (compile(kind, yaml, &err) != LT_OK)
        fail_msg("%s", err.text);
    return made[made_count - 1];
}

static void assert_text(lt_str text, const char *wanted)
{
    assert_string_equal(lt_arena_strz(arena, text), wanted);
}

static void assert_unhonoured(const struct px_resource *res, const char *wanted)
{
    struct lt_buf all;
    lt_buf_init(&all, 4096);
    for (size_t i = 0; i < px_unhonoured_count(res); i++)
        lt_buf_addf(&all, "%s%.*s", i > 0 ? " " : "", LT_STR_ARG(res->extras->unhonoured[i]));
    assert_text(lt_buf_str(&all), wanted);
    lt_buf_fini(&all);
}

/* --- load balancing --- */

static void test_policies(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        px_lb_policy policy;
    } rows[] = {
        {"ROUND_ROBIN", PX_LB_ROUND_ROBIN}, {"LEAST_REQUEST", PX_LB_LEAST_REQUEST},
        {"RANDOM", PX_LB_RANDOM},           {"RING_HASH", PX_LB_RING_HASH},
        {"MAGLEV", PX_LB_MAGLEV},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        lt_str yaml = lt_arena_printf(arena, "{name: a, lb_policy: %s}", rows[i].name);
        const struct px_cluster_conf *conf = must_compile(PX_CLUSTER, yaml.ptr);
        assert_int_equal(conf->lb->policy, rows[i].policy);
        assert_int_equal(px_unhonoured_count(&conf->res), 0);
    }
}

static void test_settings_of_policies(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER, "name: a\n"
                    "lb_policy: LEAST_REQUEST\n"
                    "least_request_lb_config: {choice_count: 4, active_request_bias: "
                    "{default_value: 0.5, runtime_key: x}, slow_start_config: {slow_start_window: "
                    "30s, aggression: {default_value: 2, runtime_key: z}, min_weight_percent: "
                    "{value: 20}}}\n");
    assert_int_equal(conf->lb->choice_count, 4);
    assert_true(conf->lb->active_request_bias == 0.5);
    assert_int_equal(conf->lb->slow_start_ms, 30000);
    assert_true(conf->lb->slow_start_aggression == 2.0);
    assert_true(conf->lb->slow_start_min == 0.2);
    conf = must_compile(PX_CLUSTER, "{name: a, lb_policy: RING_HASH, ring_hash_lb_config: "
                                    "{minimum_ring_size: 5, maximum_ring_size: 9, hash_function: "
                                    "MURMUR_HASH_2}, common_lb_config: {healthy_panic_threshold: "
                                    "{value: 33.6}, consistent_hashing_lb_config: "
                                    "{use_hostname_for_hashing: true, hash_balance_factor: 150}}, "
                                    "type: STRICT_DNS}");
    assert_int_equal(conf->lb->ring_min, 5);
    assert_int_equal(conf->lb->ring_max, 9);
    assert_true(conf->lb->ring_is_murmur);
    assert_int_equal(conf->lb->panic_percent, 34);
    assert_true(conf->lb->hash_by_hostname);
    assert_int_equal(conf->lb->balance_percent, 150);
    conf = must_compile(PX_CLUSTER, "{name: a, lb_policy: MAGLEV, maglev_lb_config: {table_size: "
                                    "127}, common_lb_config: {zone_aware_lb_config: "
                                    "{routing_enabled: {value: 50}, min_cluster_size: 2, "
                                    "fail_traffic_on_panic: true}}}");
    assert_int_equal(conf->lb->table_size, 127);
    assert_int_equal(conf->lb->locality, PX_LOCALITY_ZONE_AWARE);
    assert_int_equal(conf->lb->zone_routing_percent, 50);
    assert_int_equal(conf->lb->zone_min_hosts, 2);
    assert_true(conf->lb->fails_on_panic);
    conf = must_compile(PX_CLUSTER, "{name: a, common_lb_config: {locality_weighted_lb_config: "
                                    "{}}}");
    assert_int_equal(conf->lb->locality, PX_LOCALITY_WEIGHTED);
}

static void test_original_dst(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER, "{name: a, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: "
                    "2s, original_dst_lb_config: {use_http_header: true, upstream_port_override: "
                    "8080}}");
    assert_text(conf->original_dst->header, "x-envoy-original-dst-host");
    assert_int_equal(conf->original_dst->port, 8080);
    assert_int_equal(conf->cleanup_ms, 2000);
}

static void test_subsets(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "lb_subset_config:\n"
        "  fallback_policy: DEFAULT_SUBSET\n"
        "  default_subset: {stage: prod, tier: 2}\n"
        "  list_as_any: true\n"
        "  subset_selectors: [{keys: [version, stage, version]}, {keys: [b, a], fallback_policy: "
        "KEYS_SUBSET, fallback_keys_subset: [a]}]\n");
    const struct px_subset_conf *subset = conf->lb->subset;
    assert_int_equal(subset->fallback, PX_SUBSET_DEFAULT);
    assert_int_equal(subset->default_subset.count, 2);
    assert_text(subset->default_subset.items[0].value, "\"prod\"");
    assert_text(subset->default_subset.items[1].value, "2");
    assert_int_equal(subset->selectors[0].key_count, 2);
    assert_text(subset->selectors[0].keys[0], "stage");
    assert_int_equal(subset->selectors[1].fallback, PX_SUBSET_KEYS);
    assert_text(subset->selectors[1].fallback_keys[0], "a");
    assert_true(subset->list_as_any);
    conf = must_compile(PX_CLUSTER, "{name: a, lb_subset_config: {fallback_policy: NO_FALLBACK}}");
    assert_null(conf->lb->subset);
}

/* --- limits and health --- */

static void test_circuits(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "circuit_breakers:\n"
        "  thresholds:\n"
        "  - {priority: HIGH, max_requests: 1, max_connection_pools: 2, track_remaining: true}\n"
        "  - {max_pending_requests: 7, retry_budget: {budget_percent: {value: 12.5}}}\n"
        "  per_host_thresholds: [{max_connections: 3}]\n");
    const struct px_circuit *high = conf->circuits[PX_PRIORITY_HIGH];
    const struct px_circuit *normal = conf->circuits[PX_PRIORITY_DEFAULT];
    assert_int_equal(high->max[PX_LIMIT_REQUESTS], 1);
    assert_int_equal(high->max[PX_LIMIT_CONNECTIONS], 1024);
    assert_int_equal(high->max[PX_LIMIT_POOLS], 2);
    assert_true(high->tracks_remaining);
    assert_int_equal(normal->max[PX_LIMIT_PENDING], 7);
    assert_true(normal->budget_percent == 12.5);
    assert_int_equal(normal->budget_min, 3);
    assert_int_equal(conf->host_max_connections, 3);
    assert_true(px_cluster_has_shared_limits(conf));
    /* as Istio sends it: no limit, and nothing to count */
    conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: "
        "4294967295, max_requests: 4294967295, max_retries: 4294967295}, {priority: HIGH, "
        "max_connections: 4294967295, max_pending_requests: 4294967295, max_requests: 4294967295, "
        "max_retries: 4294967295}]}\n");
    assert_false(px_cluster_has_shared_limits(conf));
}

static void test_outlier_detection(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(PX_CLUSTER,
                                                      "{name: a, outlier_detection: {}}");
    const struct px_outlier_conf *outlier = conf->outlier;
    assert_int_equal(outlier->interval_ms, 10000);
    assert_int_equal(outlier->base_ejection_ms, 30000);
    assert_int_equal(outlier->max_ejection_ms, 300000);
    assert_int_equal(outlier->max_ejection_percent, 10);
    assert_int_equal(outlier->consecutive_5xx, 5);
    assert_int_equal(outlier->enforce_5xx, 100);
    assert_int_equal(outlier->enforce_gateway, 0);
    assert_int_equal(outlier->enforce_failure_percent, 0);
    assert_int_equal(outlier->success_rate_stdev_thousandth, 1900);
    assert_true(outlier->check_unejects);
    conf = must_compile(
        PX_CLUSTER,
        "{name: a, outlier_detection: {interval: 1s, base_ejection_time: 400s, consecutive_5xx: 0, "
        "consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100, "
        "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, "
        "max_ejection_percent: 100, successful_active_health_check_uneject_host: false, "
        "always_eject_one_host: true, detect_degraded_hosts: true}}");
    outlier = conf->outlier;
    assert_int_equal(outlier->max_ejection_ms, 400000); /* never shorter than the base */
    assert_int_equal(outlier->consecutive_5xx, 0);
    assert_int_equal(outlier->consecutive_gateway, 3);
    assert_int_equal(outlier->consecutive_local, 2);
    assert_true(outlier->splits_local_origin && outlier->always_ejects_one);
    assert_false(outlier->check_unejects);
    assert_unhonoured(&conf->res, "outlier_detection.detect_degraded_hosts");
}

static void test_http_check(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "health_checks:\n"
        "- timeout: 1s\n"
        "  interval: 2s\n"
        "  initial_jitter: 0.5s\n"
        "  interval_jitter_percent: 10\n"
        "  unhealthy_threshold: 3\n"
        "  healthy_threshold: 2\n"
        "  alt_port: 99\n"
        "  unhealthy_interval: 4s\n"
        "  http_health_check: {path: /h, host: h.x, method: HEAD, codec_client_type: HTTP2, "
        "expected_statuses: [{start: 200, end: 205}], retriable_statuses: [{start: 500, end: "
        "501}], request_headers_to_add: [{header: {key: X-Check, value: 'yes'}}], "
        "service_name_matcher: {prefix: web}}\n"
        "  event_log_path: /dev/null\n");
    const struct px_check_conf *check = conf->check;
    assert_int_equal(check->kind, PX_CHECK_HTTP);
    assert_int_equal(check->timeout_ms, 1000);
    assert_int_equal(check->interval_ms, 2000);
    assert_int_equal(check->initial_jitter_ms, 500);
    assert_int_equal(check->interval_jitter_percent, 10);
    assert_int_equal(check->no_traffic_ms, 60000);
    assert_int_equal(check->unhealthy_ms, 4000);
    assert_int_equal(check->unhealthy_edge_ms, 4000);
    assert_int_equal(check->healthy_edge_ms, 2000);
    assert_int_equal(check->alt_port, 99);
    assert_true(check->reuses_connection && check->is_h2);
    assert_text(check->method, "HEAD");
    assert_int_equal(check->expected[0].to, 205);
    assert_int_equal(check->retriable[0].from, 500);
    assert_text(check->headers[0].name, "x-check");
    assert_non_null(check->service);
    assert_unhonoured(&conf->res, "health_checks[0].event_log_path");
}

static void test_tcp_and_grpc_checks(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER, "{name: a, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, "
                    "healthy_threshold: 1, reuse_connection: false, tcp_health_check: {send: "
                    "{text: '50494e47'}, receive: [{text: '504f'}, {binary: 'Tkc='}]}}]}");
    assert_int_equal(conf->check->kind, PX_CHECK_TCP);
    assert_text(conf->check->send, "PING");
    assert_text(conf->check->receive[0], "PO");
    assert_text(conf->check->receive[1], "NG");
    assert_false(conf->check->reuses_connection);
    conf = must_compile(PX_CLUSTER,
                        "{name: a, health_checks: [{timeout: 1s, interval: 1s, "
                        "unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: "
                        "{service_name: web, authority: a.b}}]}");
    assert_int_equal(conf->check->kind, PX_CHECK_GRPC);
    assert_text(conf->check->grpc_service, "web");
    assert_text(conf->check->host, "a.b");
}

/* --- names --- */

#define DNS_ENDPOINT \
    "load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: " \
    "{address: web.example, port_value: 80}}}}]}]}"

static void test_dns(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "type: STRICT_DNS\n"
        "dns_lookup_family: V4_PREFERRED\n"
        "dns_refresh_rate: 3s\n"
        "dns_failure_refresh_rate: {base_interval: 1s}\n"
        "respect_dns_ttl: true\n"
        "typed_dns_resolver_config: {name: envoy.network.dns_resolver.cares, typed_config: "
        "{'@type': "
        "type.googleapis.com/"
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig,"
        " resolvers: [{socket_address: {address: 127.0.0.1, port_value: 53}}], "
        "dns_resolver_options: {use_tcp_for_dns_lookups: true, no_default_search_domain: true}}}"
        "\n" DNS_ENDPOINT "\n");
    const struct px_dns_conf *dns = conf->dns;
    assert_int_equal(dns->family, PX_FAMILY_V4_PREFERRED);
    assert_int_equal(dns->refresh_ms, 3000);
    assert_int_equal(dns->failure_base_ms, 1000);
    assert_int_equal(dns->failure_max_ms, 10000);
    assert_true(dns->respects_ttl && dns->uses_tcp && dns->has_no_search);
    assert_int_equal(dns->server_count, 1);
    const struct px_endpoint_conf *endpoint = &conf->inline_endpoints->endpoints[0];
    assert_int_equal(endpoint->kind, PX_AT_NAME);
    assert_text(endpoint->facts->hostname, "web.example");
    assert_int_equal(endpoint->port, 80);
    /* as it was once said; what came later counts alone */
    conf = must_compile(
        PX_CLUSTER, "{name: a, type: STRICT_DNS, use_tcp_for_dns_lookups: true, dns_resolvers: "
                    "[{socket_address: {address: 127.0.0.1, port_value: 53}}], " DNS_ENDPOINT "}");
    assert_true(conf->dns->uses_tcp && conf->dns->server_count == 1);
    conf = must_compile(PX_CLUSTER, "{name: a, type: STRICT_DNS, use_tcp_for_dns_lookups: true, "
                                    "dns_resolution_config: {dns_resolver_options: "
                                    "{no_default_search_domain: true}}, " DNS_ENDPOINT "}");
    assert_true(!conf->dns->uses_tcp && conf->dns->has_no_search);
    assert_int_equal(conf->dns->server_count, 0);
    conf = must_compile(PX_CLUSTER, "{name: a, type: LOGICAL_DNS, " DNS_ENDPOINT "}");
    assert_true(conf->dns->is_one_host);
    assert_int_equal(conf->dns->refresh_ms, 5000);
    assert_int_equal(conf->dns->failure_max_ms, 5000); /* the same again, without back-off */
    conf = must_compile(
        PX_CLUSTER,
        "{name: a, cluster_type: {name: envoy.cluster.dns, typed_config: "
        "{'@type': type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster,"
        " all_addresses_in_single_endpoint: true, dns_lookup_family: V6_ONLY}}, " DNS_ENDPOINT "}");
    assert_int_equal(conf->discovery, PX_DISCOVERY_LOGICAL_DNS);
    assert_int_equal(conf->dns->family, PX_FAMILY_V6);
}

/* --- connections --- */

static void test_connections(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: a\n"
        "upstream_connection_options: {tcp_keepalive: {keepalive_time: 9, keepalive_probes: 2}}\n"
        "upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}}\n"
        "close_connections_on_host_health_failure: true\n"
        "ignore_health_on_host_removal: true\n"
        "connection_pool_per_downstream_connection: true\n"
        "common_lb_config: {ignore_new_hosts_until_first_hc: true, "
        "close_connections_on_host_set_change: true}\n"
        "typed_extension_protocol_options: "
        "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
        "explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 3}}, "
        "common_http_protocol_options: {idle_timeout: 7s, max_connection_duration: 8s, "
        "max_requests_per_connection: 9}, upstream_http_protocol_options: {auto_sni: true, "
        "auto_san_validation: true, override_auto_sni_header: X-Host}}}\n");
    assert_true(conf->socket->has_keepalive);
    assert_int_equal(conf->socket->keepalive_idle_s, 9);
    assert_int_equal(conf->socket->keepalive_probes, 2);
    assert_int_equal(conf->socket->keepalive_interval_s, 0);
    assert_int_equal(conf->socket->source.sa.sa_family, AF_INET);
    assert_true(conf->closes_on_health_failure && conf->ignores_health_on_removal);
    assert_true(conf->has_pool_per_client && conf->ignores_new_until_check);
    assert_true(conf->closes_on_set_change);
    assert_int_equal(conf->protocol, PX_UPSTREAM_H2);
    assert_int_equal(conf->h2->max_concurrent_streams, 3);
    assert_int_equal(conf->idle_timeout_ms, 7000);
    assert_int_equal(conf->max_connection_duration_ms, 8000);
    assert_int_equal(conf->max_requests_per_connection, 9);
    assert_true(conf->has_auto_sni && conf->has_auto_san);
    assert_text(*conf->auto_sni_header, "x-host");
    assert_int_equal(px_unhonoured_count(&conf->res), 0);
}

/* --- endpoints --- */

#define AT(address) "endpoint: {address: {socket_address: {address: " address ", port_value: 80}}}"
#define WORKLOAD(name) \
    "metadata: {filter_metadata: {istio: {workload: " name "}, envoy.lb: {canary: true, v: [a, " \
    "1], hash_key: k}}}"

static void test_endpoints_share_what_is_alike(void **state)
{
    (void)state;
    const struct px_endpoints_conf *conf = must_compile(
        PX_ENDPOINTS,
        "cluster_name: web\n"
        "endpoints: [{lb_endpoints: [{" AT("10.0.0.1") ", " WORKLOAD("x") "}, {" AT("10.0.0.2") ", " WORKLOAD(
            "x") "}, {" AT("'::2'") ", " WORKLOAD("y") "}, {" AT("10.0.0.1") "}]}]\n");
    assert_int_equal(sizeof(struct px_endpoint_conf), 32);
    assert_int_equal(conf->endpoint_count, 3); /* an address counts once */
    assert_ptr_equal(conf->endpoints[0].facts, conf->endpoints[1].facts);
    assert_ptr_not_equal(conf->endpoints[0].facts, conf->endpoints[2].facts);
    const struct px_endpoint_facts *facts = conf->endpoints[0].facts;
    assert_text(facts->workload, "x");
    assert_text(facts->hash_key, "k");
    assert_true(facts->is_canary);
    assert_int_equal(facts->lb.count, 3);
    assert_text(facts->lb.items[0].key, "canary");
    assert_text(facts->lb.items[2].value, "[\"a\",1]");
    char text[LT_ADDR_TEXT_MAX];
    static const char *const wanted[] = {"10.0.0.1:80", "10.0.0.2:80", "[::2]:80"};
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted); i++) {
        struct lt_addr addr = px_endpoint_addr(&conf->endpoints[i]);
        assert_text(lt_addr_format(&addr, text), wanted[i]);
    }
}

static void test_policy_of_endpoints(void **state)
{
    (void)state;
    const struct px_endpoints_conf *conf = must_compile(
        PX_ENDPOINTS, "{cluster_name: web, policy: {overprovisioning_factor: 200, "
                      "weighted_priority_health: true, drop_overloads: [{category: lb, "
                      "drop_percentage: {numerator: 5}}], endpoint_stale_after: 1s}, endpoints: "
                      "[{lb_endpoints: [{" AT("10.0.0.1") "}]}]}");
    assert_int_equal(conf->overprovisioning_percent, 200);
    assert_true(conf->weighted_priority_health);
    assert_int_equal(conf->drops[0].ppm, 50000);
    assert_unhonoured(&conf->res, "policy.endpoint_stale_after");
    conf = must_compile(PX_ENDPOINTS, "{cluster_name: web}");
    assert_int_equal(conf->overprovisioning_percent, 140);
}

/* --- refused --- */

#define CHECK(fields) \
    "{name: a, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, " \
    "healthy_threshold: 1, " fields "}]}"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        px_resource_kind kind;
        lt_rc rc;
        const char *yaml, *error; /* how the error begins */
    } rows[] = {
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 9000000}}",
         "ring_hash_lb_config.minimum_ring_size: "},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 3, "
         "maximum_ring_size: 2}}",
         "ring_hash_lb_config: minimum_ring_size (3) > maximum_ring_size (2)"},
        {PX_CLUSTER, LT_E_BAD, "{name: a, lb_policy: MAGLEV, maglev_lb_config: {table_size: 100}}",
         "maglev_lb_config.table_size: The table size of maglev must be prime"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_policy: MAGLEV, maglev_lb_config: {table_size: 6000011}}",
         "maglev_lb_config.table_size: must be at most 5000011"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 99}}}",
         "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: "},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: "
         "KEYS_SUBSET}]}}",
         "lb_subset_config.subset_selectors[0].fallback_keys_subset: cannot be empty"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: "
         "KEYS_SUBSET, fallback_keys_subset: [a]}]}}",
         "lb_subset_config.subset_selectors[0].fallback_keys_subset: cannot be equal"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_subset_config: {subset_selectors: [{keys: [a, b], single_host_per_subset: "
         "true}]}}",
         "lb_subset_config.subset_selectors[0].single_host_per_subset: "},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, circuit_breakers: {thresholds: [{}, {retry_budget: {budget_percent: {value: "
         "101}}}]}}",
         "circuit_breakers.thresholds[1].retry_budget.budget_percent: "},
        {PX_CLUSTER, LT_E_BAD, "{name: a, outlier_detection: {max_ejection_percent: 101}}",
         "outlier_detection.max_ejection_percent: "},
        {PX_CLUSTER, LT_E_BAD, "{name: a, outlier_detection: {interval: 0s}}",
         "outlier_detection.interval: "},
        {PX_CLUSTER, LT_E_BAD, CHECK("alt_port: 70000, tcp_health_check: {}"),
         "health_checks[0].alt_port: "},
        {PX_CLUSTER, LT_E_BAD, CHECK("http_health_check: {path: ''}"),
         "health_checks[0].http_health_check.path: "},
        {PX_CLUSTER, LT_E_BAD,
         CHECK("http_health_check: {path: /, expected_statuses: [{start: 300, end: 200}]}"),
         "health_checks[0].http_health_check.expected_statuses: "},
        {PX_CLUSTER, LT_E_BAD, CHECK("tcp_health_check: {send: {text: abc}}"),
         "health_checks[0].tcp_health_check.send: invalid hex string 'abc'"},
        {PX_CLUSTER, LT_E_BAD, CHECK("tcp_health_check: {receive: [{text: 'zz'}]}"),
         "health_checks[0].tcp_health_check.receive: invalid hex string 'zz'"},
        {PX_CLUSTER, LT_E_BAD, CHECK(""), "health_checks[0]: a health checker is needed"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, health_checks: [{timeout: 1s, interval: 1s, healthy_threshold: 1, "
         "tcp_health_check: {}}]}",
         "health_checks[0].unhealthy_threshold: is missing"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, type: STRICT_DNS, dns_refresh_rate: 0s, " DNS_ENDPOINT "}",
         "dns_refresh_rate: "},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, type: STRICT_DNS, dns_failure_refresh_rate: {base_interval: 5s, max_interval: "
         "1s}, " DNS_ENDPOINT "}",
         "dns_failure_refresh_rate: "},
        {PX_CLUSTER, LT_E_BAD, "{name: a, type: LOGICAL_DNS}", "load_assignment: LOGICAL_DNS"},
        {PX_CLUSTER, LT_E_UNSUPPORTED,
         "{name: a, typed_extension_protocol_options: "
         "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
         "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
         "explicit_http_config: {http_protocol_options: {}}, http_filters: [{name: guard}]}}}",
         "typed_extension_protocol_options.http_filters: 'guard'"},
        {PX_ENDPOINTS, LT_E_BAD,
         "{endpoints: [{lb_endpoints: [{load_balancing_weight: 4294967295, " AT(
             "10.0.0.1") "}, {load_balancing_weight: 1, " AT("10.0.0.2") "}]}]}",
         "endpoints: the sum of the endpoints' weights"},
        {PX_ENDPOINTS, LT_E_BAD,
         "{endpoints: [{load_balancing_weight: 4294967295}, {load_balancing_weight: 1}]}",
         "endpoints: the sum of the localities' weights at priority 0"},
        {PX_ENDPOINTS, LT_E_BAD, "{policy: {overprovisioning_factor: 0}}",
         "policy.overprovisioning_factor: "},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct lt_err err = {0};
        assert_int_equal(compile(rows[i].kind, rows[i].yaml, &err), rows[i].rc);
        if (!lt_str_starts(lt_str_of(err.text), lt_str_of(rows[i].error)))
            fail_msg("'%s' does not begin with '%s'", err.text, rows[i].error);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_policies),
        CASE(test_settings_of_policies),
        CASE(test_original_dst),
        CASE(test_subsets),
        CASE(test_circuits),
        CASE(test_outlier_detection),
        CASE(test_http_check),
        CASE(test_tcp_and_grpc_checks),
        CASE(test_dns),
        CASE(test_connections),
        CASE(test_endpoints_share_what_is_alike),
        CASE(test_policy_of_endpoints),
        CASE(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
