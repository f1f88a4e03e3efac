/*
 * tests/unit/proxy/conf_test.c - resources compiled: the fields that come out, and what is refused
 * with which path.
 */
#include "made_test.h"

#include "proxy/compile/row.h"

static lt_rc compile(px_resource_kind kind, const char *yaml)
{
    lt_err_clear(&err);
    px_resource_unref(&made);
    return px_conf_compile(kind, LT_STR_NULL, LT_STR("7"), pack_yaml(arena, kind, yaml), slots,
                           &made, &err);
}

static const void *must_compile(px_resource_kind kind, const char *yaml)
{
    if (compile(kind, yaml) != LT_OK)
        fail_msg("%s\n%s", err.text, yaml);
    return made;
}

static void assert_text(lt_str text, const char *wanted)
{
    assert_string_equal(lt_arena_strz(arena, text), wanted);
}

/* --- clusters and endpoints --- */

static void test_cluster_defaults(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(PX_CLUSTER, "{name: a}");
    assert_text(conf->res.name, "a");
    assert_text(px_resource_version(&conf->res), "7");
    assert_int_equal(conf->discovery, PX_DISCOVERY_STATIC);
    assert_int_equal(conf->lb->policy, PX_LB_ROUND_ROBIN);
    assert_int_equal(conf->connect_timeout_ms, 5000);
    assert_int_equal(conf->idle_timeout_ms, 3600000);
    assert_int_equal(conf->circuits[PX_PRIORITY_DEFAULT]->max[PX_LIMIT_CONNECTIONS], 1024);
    assert_int_equal(conf->circuits[PX_PRIORITY_DEFAULT]->max[PX_LIMIT_RETRIES], 3);
    assert_int_equal(conf->lb->panic_percent, 50);
    assert_int_equal(conf->protocol, PX_UPSTREAM_H1);
    assert_int_equal(conf->transport_count, 1);
    assert_null(conf->transports[0].tls);
}

static void test_cluster_fields(void **state)
{
    (void)state;
    const struct px_cluster_conf *conf = must_compile(
        PX_CLUSTER,
        "name: outbound|80|v1|web.shop.svc\n"
        "type: EDS\n"
        "eds_cluster_config: {service_name: web, eds_config: {ads: {}}}\n"
        "connect_timeout: 0.25s\n"
        "lb_policy: LEAST_REQUEST\n"
        "least_request_lb_config: {choice_count: 3}\n"
        "common_lb_config: {healthy_panic_threshold: {}}\n"
        "circuit_breakers: {thresholds: [{priority: HIGH, max_requests: 1}, {max_connections: 5, max_retries: 4294967295}]}\n"
        "metadata: {filter_metadata: {istio: {subset: v1, alpn_override: 'false', services: [{host: web.shop, name: web, namespace: shop}]}}}\n"
        "preconnect_policy: {}\n"
        "transport_socket_matches:\n"
        "- name: tlsMode-istio\n"
        "  match: {tlsMode: istio}\n"
        "  transport_socket: {name: tls, typed_config: {'@type': " TLS
        "UpstreamTlsContext, sni: web.x, common_tls_context:\n"
        "    {alpn_protocols: [istio, h2], tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}],\n"
        "     combined_validation_context: {validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}},\n"
        "       default_validation_context: {match_subject_alt_names: [{exact: 'spiffe://td/ns/shop/sa/web'}]}}}}}\n"
        "- {name: plain, match: {}, transport_socket: {name: raw, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}\n");
    assert_int_equal(conf->discovery, PX_DISCOVERY_EDS);
    assert_text(conf->eds_service_name, "web");
    assert_int_equal(conf->connect_timeout_ms, 250);
    assert_int_equal(conf->lb->choice_count, 3);
    assert_int_equal(conf->lb->panic_percent, 0);
    assert_int_equal(conf->circuits[PX_PRIORITY_DEFAULT]->max[PX_LIMIT_CONNECTIONS], 5);
    assert_int_equal(conf->circuits[PX_PRIORITY_DEFAULT]->max[PX_LIMIT_REQUESTS],
                     1024); /* HIGH is another priority */
    assert_int_equal(conf->circuits[PX_PRIORITY_DEFAULT]->max[PX_LIMIT_RETRIES], UINT32_MAX);
    assert_text(conf->subset, "v1");
    assert_text(conf->service_host, "web.shop");
    assert_text(conf->service_namespace, "shop");
    assert_true(conf->has_alpn_override_off);
    assert_int_equal(conf->transport_count, 3);
    const struct px_tls_conf *tls = conf->transports[0].tls;
    assert_text(conf->transports[0].match.items[0].value, "istio");
    assert_text(tls->sni, "web.x");
    assert_text(px_row_name(tls->certs[0].row), "default");
    assert_text(px_row_name(tls->validation_row), "ROOTCA");
    assert_true(tls->verify_peer);
    assert_int_equal(tls->san_count, 1);
    assert_int_equal(tls->alpn_count, 2);
    assert_null(conf->transports[1].tls);
    assert_int_equal(px_unhonoured_count(&conf->res), 1);
    assert_text(conf->res.extras->unhonoured[0], "preconnect_policy");
}

/* Equal certificates and parameters are one SSL context, however many clusters name them. */
static void test_tls_slots_are_shared(void **state)
{
    (void)state;
    static const char yaml[] =
        "{name: %c, transport_socket: {name: tls, typed_config: {'@type': " TLS
        "UpstreamTlsContext, sni: %c.x, "
        "common_tls_context: {tls_certificate_sds_secret_configs: [{name: %s, sds_config: {ads: {}}}]}}}}";
    static const struct {
        char name;
        const char *secret;
        size_t slots;
    } rows[] = {{'a', "default", 1}, {'b', "default", 1}, {'c', "other", 2}, {'d', "default", 2}};
    struct px_resource *kept[LT_ARRAY_LEN(rows)];
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        lt_str text = lt_arena_printf(arena, yaml, rows[i].name, rows[i].name, rows[i].secret);
        must_compile(PX_CLUSTER, text.ptr);
        assert_int_equal(px_tls_slots_count(slots), rows[i].slots);
        kept[i] = px_resource_ref(made);
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++)
        px_resource_unref(&kept[i]);
}

static void test_endpoints(void **state)
{
    (void)state;
    const struct px_endpoints_conf *conf = must_compile(
        PX_ENDPOINTS,
        "cluster_name: web\n"
        "endpoints:\n"
        "- {locality: {region: eu}, load_balancing_weight: 2, lb_endpoints: [\n"
        "    {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}, health_status: UNHEALTHY,\n"
        "     metadata: {filter_metadata: {istio: {workload: w;shop;web;v1;k}, envoy.transport_socket_match: {tlsMode: istio}}}},\n"
        "    {endpoint: {address: {socket_address: {address: '::1', port_value: 81}}}, load_balancing_weight: 7}]}\n"
        "- {priority: 1, lb_endpoints: [{endpoint: {address: {pipe: {path: /tmp/x}}}}]}\n");
    assert_int_equal(conf->endpoint_count, 3);
    assert_int_equal(conf->endpoints[0].health, PX_HEALTH_UNHEALTHY);
    assert_int_equal(conf->endpoints[0].weight, 1);
    assert_text(conf->endpoints[0].facts->workload, "w;shop;web;v1;k");
    assert_text(conf->endpoints[0].facts->transport.items[0].value, "istio");
    assert_int_equal(conf->endpoints[1].weight, 7);
    struct lt_addr addr = px_endpoint_addr(&conf->endpoints[1]);
    assert_int_equal(lt_addr_port(&addr), 81);
    assert_int_equal(conf->localities[conf->endpoints[2].locality].priority, 1);
    assert_text(conf->localities[0].region, "eu");
    assert_int_equal(conf->localities[0].weight, 2);
}

/* --- routes --- */

static void test_routes(void **state)
{
    (void)state;
    const struct px_routes_conf *conf = must_compile(
        PX_ROUTES,
        "name: '80'\n"
        "ignore_port_in_host_matching: true\n"
        "virtual_hosts:\n"
        "- name: web\n"
        "  domains: [Web.Shop, '*.shop', 'web.*']\n"
        "  include_request_attempt_count: true\n"
        "  routes:\n"
        "  - {name: split, match: {path_separated_prefix: /api, headers: [{name: X-Kind, string_match: {exact: beta}, invert_match: true}]},\n"
        "     route: {timeout: 0s, weighted_clusters: {clusters: [{name: a, weight: 90}, {name: b, weight: 10}]},\n"
        "             retry_policy: {retry_on: 'connect-failure,retriable-status-codes, reset', num_retries: 2, per_try_timeout: 1s,\n"
        "                            retriable_status_codes: [418]}}}\n"
        "  - {match: {prefix: /old}, redirect: {path_redirect: /new, response_code: FOUND, https_redirect: true}}\n"
        "  - {match: {prefix: /}, route: {cluster: a}}\n"
        "- {name: rest, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 502}}]}\n");
    assert_int_equal(conf->vhost_count, 2);
    assert_true(conf->ignore_port_in_host);
    assert_ptr_equal(lt_map_find(&conf->domains.exact, LT_STR("web.shop")), &conf->vhosts[0]);
    assert_text(conf->domains.suffixes[0].text, ".shop");
    assert_text(conf->domains.prefixes[0].text, "web.");
    assert_ptr_equal(conf->domains.catch_all, &conf->vhosts[1]);
    const struct px_route *route = &conf->vhosts[0].routes[0];
    assert_text(route->headers[0].name, "x-kind");
    assert_true(route->headers[0].invert);
    assert_int_equal(route->total_weight, 100);
    assert_int_equal(route->timeout_ms, 0);
    assert_int_equal(route->retry->on,
                     PX_RETRY_CONNECT_FAILURE | PX_RETRY_STATUS_CODES | PX_RETRY_RESET);
    assert_int_equal(route->retry->num_retries, 2);
    assert_int_equal(route->retry->per_try_timeout_ms, 1000);
    assert_int_equal(route->retry->backoff_base_ms, 25);
    assert_int_equal(route->retry->backoff_max_ms, 250);
    assert_int_equal(route[1].redirect.code, 302);
    assert_true(route[1].redirect.https);
    assert_int_equal(route[2].timeout_ms, 15000);
    assert_null(route[2].retry);
    assert_int_equal(conf->vhosts[1].routes[0].direct_code, 502);
}

/* --- listeners --- */

static void test_listener(void **state)
{
    (void)state;
    const struct px_listener_conf *conf = must_compile(
        PX_LISTENER,
        "name: virtualInbound\n"
        "address: {socket_address: {address: 0.0.0.0, port_value: 15006}}\n"
        "traffic_direction: INBOUND\n"
        "listener_filters_timeout: 0s\n"
        "continue_on_listener_filters_timeout: true\n"
        "listener_filters:\n"
        "- {name: tls, filter_disabled: {or_match: {rules: [{destination_port_range: {start: 80, end: 81}}, {destination_port_range: {start: 90, end: 99}}]}},\n"
        "   typed_config: {'@type': " ENVOY "listener.tls_inspector.v3.TlsInspector}}\n"
        "filter_chains:\n"
        "- name: web\n"
        "  filter_chain_match: {destination_port: 8080, transport_protocol: raw_buffer, server_names: ['*.Shop.x'],\n"
        "                       prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n"
        "  filters: [{name: hcm, typed_config: {'@type': " HCM
        ", stat_prefix: in, rds: {route_config_name: '80', config_source: {ads: {}}},\n"
        "    forward_client_cert_details: APPEND_FORWARD, set_current_client_cert_details: {subject: true, uri: true},\n"
        "    normalize_path: true, upgrade_configs: [{upgrade_type: websocket}], http_filters: [\n"
        "      {name: guess, is_optional: true, typed_config: {'@type': type.googleapis.com/x.y.Unheard}},\n"
        "      {name: cors, disabled: true, typed_config: {'@type': " ENVOY
        "http.cors.v3.Cors}}, " ROUTER "]}}]\n"
        "default_filter_chain: {filters: [{name: tcp, typed_config: {'@type': " TCP
        ", stat_prefix: t, cluster: a}}]}\n");
    assert_true(conf->is_inbound);
    assert_true(conf->bind_to_port);
    assert_true(conf->has_tls_inspector);
    assert_false(conf->has_http_inspector);
    assert_int_equal(conf->tls_inspector_off_count, 2);
    assert_int_equal(conf->tls_inspector_off[1].to, 99);
    assert_int_equal(conf->filters_timeout_ms, 0);
    assert_true(conf->continue_on_timeout);
    assert_int_equal(conf->chain_count, 1);
    const struct px_chain *chain = &conf->chains[0];
    assert_int_equal(chain->destination_port, 8080);
    assert_text(chain->server_names[0], ".shop.x");
    assert_int_equal(chain->prefixes[0].bits, 8);
    assert_text(chain->hcm->route_config_name, "80");
    assert_int_equal(chain->hcm->xfcc, PX_XFCC_APPEND_FORWARD);
    assert_true(chain->hcm->xfcc_subject && chain->hcm->xfcc_uri && !chain->hcm->xfcc_dns);
    assert_true(chain->hcm->is_inbound && chain->hcm->normalize_path &&
                chain->hcm->upgrade_count == 1);
    assert_int_equal(chain->hcm->filter_count, 2);
    assert_true(chain->hcm->filters[0].is_off && chain->hcm->has_off_filters);
    assert_int_equal(chain->hcm->stream_idle_timeout_ms, 300000);
    assert_text(conf->default_chain->tcp->cluster, "a");
}

/* --- refused --- */

#define LISTENER(filters) \
    "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [" filters \
    "]}]}"
#define HCM_FILTER(fields) \
    "{name: hcm, typed_config: {'@type': " HCM \
    ", rds: {route_config_name: r, config_source: {ads: {}}}, " fields "}}"
#define VHOSTS(vhosts) "{name: r, virtual_hosts: [" vhosts "]}"
#define ONE_ROUTE(route) VHOSTS("{name: v, domains: ['*'], routes: [" route "]}")
#define TLS_CLUSTER(common) \
    "{name: a, transport_socket: {name: tls, typed_config: {'@type': " TLS \
    "UpstreamTlsContext, common_tls_context: {" common "}}}}"
#define TLS_LISTENER(fields) \
    "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{transport_socket: {name: tls, " \
    "typed_config: {'@type': " TLS "DownstreamTlsContext, " fields "}}, filters: []}]}"

#define FILTER_CONFIG "type.googleapis.com/envoy.config.route.v3.FilterConfig"
#define ROUTE_CONF(confs) \
    ONE_ROUTE("{match: {prefix: /}, route: {cluster: a}, typed_per_filter_config: {" confs "}}")
#define ROUTE_CONF_AT "virtual_hosts[0].routes[0].typed_per_filter_config"

/* At four levels; by itself or inside a FilterConfig, which may say only that the filter is on or off. */
static void test_filter_confs(void **state)
{
    (void)state;
    const struct px_routes_conf *conf = must_compile(
        PX_ROUTES,
        "name: r\n"
        "typed_per_filter_config: {fault: {'@type': " FILTER_CONFIG ", disabled: true}}\n"
        "virtual_hosts:\n"
        "- name: v\n"
        "  domains: ['*']\n"
        "  typed_per_filter_config: {cors: {'@type': " ENVOY
        "http.cors.v3.CorsPolicy}, fault: {'@type': " FILTER_CONFIG ", config: {}}}\n"
        "  routes:\n"
        "  - match: {prefix: /}\n"
        "    typed_per_filter_config:\n"
        "      odd: {'@type': " FILTER_CONFIG ", is_optional: true, config: {'@type': " ENVOY
        "http.tap.v3.Tap}}\n"
        "      other: {'@type': " FILTER_CONFIG ", config: {'@type': " ENVOY
        "http.fault.v3.HTTPFault}}\n"
        "    route: {weighted_clusters: {clusters: [{name: a, weight: 1, typed_per_filter_config: {\n"
        "      cors: {'@type': " ENVOY "http.cors.v3.CorsPolicy}}}]}}\n");
    assert_int_equal(conf->filters.count, 1);
    assert_true(conf->filters.items[0].is_off);
    const struct px_vhost *vhost = &conf->vhosts[0];
    assert_int_equal(vhost->filters.count, 2);
    assert_int_equal(vhost->filters.items[0].kind, PX_FILTER_CORS);
    assert_int_equal(vhost->filters.items[1].kind, PX_FILTER_KINDS);
    assert_false(vhost->filters.items[1].is_off);
    const struct px_route *route = &vhost->routes[0];
    assert_int_equal(route->filters.count, 2);
    assert_int_equal(route->filters.items[0].kind, PX_FILTER_KINDS);
    assert_text(route->filters.items[1].name, "other");
    assert_int_equal(route->filters.items[1].kind, PX_FILTER_FAULT);
    assert_int_equal(route->weighted[0].filters.count, 1);
}

/* Whatever a route says that nobody reads is listed, by name. */
static void test_what_does_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *path;
    } rows[] = {
        {ONE_ROUTE(
             "{match: {prefix: /}, route: {cluster: a, hedge_policy: {initial_requests: 2}}}"),
         "virtual_hosts[0].routes[0].route.hedge_policy"},
        {ONE_ROUTE("{match: {prefix: /}, route: {cluster: a, flush_timeout: 1s}}"),
         "virtual_hosts[0].routes[0].route.flush_timeout"},
        {"{name: r, cluster_specifier_plugins: [{}], virtual_hosts: []}",
         "cluster_specifier_plugins"},
        {"{name: r, virtual_hosts: [{name: v, domains: ['*'], virtual_clusters: [{name: x}], "
         "include_request_attempt_count: false}]}",
         "virtual_hosts[0].virtual_clusters"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        assert_int_equal(compile(PX_ROUTES, rows[i].yaml), LT_OK);
        assert_int_equal(px_unhonoured_count(made), 1);
        assert_text(made->extras->unhonoured[0], rows[i].path);
        px_resource_unref(&made);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        px_resource_kind kind;
        lt_rc rc;
        const char *yaml, *error; /* how the error begins */
    } rows[] = {
        {PX_CLUSTER, LT_E_BAD, "{type: STATIC}", "name: is empty"},
        {PX_CLUSTER, LT_E_BAD, "{name: a, type: EDS}", "eds_cluster_config: is missing"},
        {PX_CLUSTER, LT_E_BAD, "{name: a, type: ORIGINAL_DST}",
         "lb_policy: CLUSTER_PROVIDED goes with"},
        {PX_CLUSTER, LT_E_UNSUPPORTED, "{name: a, cluster_type: {name: dfp}}",
         "cluster_type: 'dfp'"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}}",
         "least_request_lb_config.choice_count: "},
        {PX_CLUSTER, LT_E_BAD,
         TLS_CLUSTER("validation_context: {match_subject_alt_names: [{exact: x}]}"),
         "transport_socket.match_subject_alt_names: "},
        {PX_CLUSTER, LT_E_BAD, TLS_CLUSTER("validation_context: {verify_certificate_hash: [ab]}"),
         "transport_socket.verify_certificate_hash: invalid hex"},
        {PX_CLUSTER, LT_E_BAD, TLS_CLUSTER("validation_context: {verify_certificate_spki: [ab]}"),
         "transport_socket.verify_certificate_spki: invalid base64"},
        {PX_CLUSTER, LT_E_BAD,
         TLS_CLUSTER(
             "validation_context: {match_typed_subject_alt_names: [{san_type: OTHER_NAME, matcher: {exact: a}}]}"),
         "transport_socket.match_typed_subject_alt_names: OTHER_NAME needs an oid"},
        {PX_CLUSTER, LT_E_BAD,
         TLS_CLUSTER(
             "validation_context: {custom_validator_config: {name: s, typed_config: {'@type': " TLS
             "SPIFFECertValidatorConfig}}}"),
         "transport_socket.custom_validator_config.trust_domains: "},
        {PX_CLUSTER, LT_E_UNSUPPORTED,
         TLS_CLUSTER("validation_context: {custom_validator_config: {name: other}}"),
         "transport_socket.custom_validator_config: 'other'"},
        {PX_CLUSTER, LT_E_BAD,
         TLS_CLUSTER(
             "tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_2}"),
         "transport_socket.tls_params.tls_minimum_protocol_version: "},
        {PX_CLUSTER, LT_E_UNSUPPORTED,
         TLS_CLUSTER("tls_params: {tls_maximum_protocol_version: TLSv1_1}"),
         "transport_socket.tls_params.tls_maximum_protocol_version: "},
        {PX_CLUSTER, LT_E_BAD,
         TLS_CLUSTER(
             "tls_certificate_sds_secret_configs: [{name: a, sds_config: {ads: {}}}, {name: b, sds_config: {ads: {}}}]"),
         "transport_socket.tls_certificates: multiple"},
        {PX_CLUSTER, LT_E_UNSUPPORTED,
         TLS_CLUSTER("tls_certificates: [{private_key_provider: {provider_name: cryptomb}}]"),
         "transport_socket.tls_certificates.private_key_provider: 'cryptomb'"},
        {PX_LISTENER, LT_E_UNSUPPORTED,
         TLS_LISTENER(
             "ocsp_staple_policy: MUST_STAPLE, common_tls_context: {tls_certificate_sds_secret_configs: [{name: d, sds_config: {ads: {}}}]}"),
         "filter_chains[0].transport_socket.ocsp_staple_policy: "},
        {PX_LISTENER, LT_E_BAD,
         TLS_LISTENER(
             "session_ticket_keys: {keys: [{inline_string: short}]}, common_tls_context: {tls_certificate_sds_secret_configs: [{name: d, sds_config: {ads: {}}}]}"),
         "filter_chains[0].transport_socket.session_ticket_keys.keys: incorrect TLS session ticket key length"},
        {PX_CLUSTER, LT_E_UNSUPPORTED,
         "{name: a, transport_socket: {name: x, typed_config: {'@type': type.googleapis.com/x.Odd}}}",
         "transport_socket: transport socket type 'x.Odd'"},
        {PX_CLUSTER, LT_E_BAD,
         "{name: a, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.b, port_value: 1}}}}]}]}}",
         "load_assignment.endpoints[0].lb_endpoints[0]."},
        {PX_CLUSTER, LT_E_BAD, "{name: a, type: LOGICAL_DNS, load_assignment: {}}",
         "load_assignment: LOGICAL_DNS"},
        {PX_ENDPOINTS, LT_E_BAD, "{cluster_name: a, endpoints: [{}, {priority: 129}]}",
         "endpoints[1].priority: "},
        {PX_ENDPOINTS, LT_E_BAD,
         "{endpoints: [{lb_endpoints: [{load_balancing_weight: 0, endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}}]}]}",
         "endpoints[0].lb_endpoints[0].load_balancing_weight: "},
        {PX_ROUTES, LT_E_BAD, VHOSTS("{name: v}"), "virtual_hosts[0].domains: "},
        {PX_ROUTES, LT_E_BAD, VHOSTS("{name: a, domains: [x.y]}, {name: b, domains: [X.y]}"),
         "domains: Only unique values"},
        {PX_ROUTES, LT_E_BAD, VHOSTS("{name: a, domains: ['*.y']}, {name: b, domains: ['*.Y']}"),
         "domains: Only unique values"},
        {PX_ROUTES, LT_E_BAD, VHOSTS("{name: a, domains: ['*']}, {name: b, domains: ['*']}"),
         "domains: Only unique values"},
        {PX_ROUTES, LT_E_BAD, ONE_ROUTE("{route: {cluster: a}}"),
         "virtual_hosts[0].routes[0].match: is missing"},
        {PX_ROUTES, LT_E_BAD,
         ONE_ROUTE(
             "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}}"),
         "virtual_hosts[0].routes[0].weighted_clusters: the sum of the weights"},
        {PX_ROUTES, LT_E_BAD, ONE_ROUTE("{match: {prefix: /}, route: {cluster: ''}}"),
         "virtual_hosts[0].routes[0].cluster: is empty"},
        {PX_ROUTES, LT_E_BAD, ONE_ROUTE("{match: {safe_regex: {regex: '('}}, route: {cluster: a}}"),
         "virtual_hosts[0].routes[0].match.safe_regex: "},
        {PX_ROUTES, LT_E_BAD, ONE_ROUTE("{match: {prefix: /}, direct_response: {status: 99}}"),
         "virtual_hosts[0].routes[0].direct_response.status: "},
        {PX_ROUTES, LT_E_BAD,
         ONE_ROUTE("{match: {prefix: /, dynamic_metadata: [{filter: x}]}, route: {cluster: a}}"),
         "virtual_hosts[0].routes[0].match.dynamic_metadata[0].value: "},
        {PX_ROUTES, LT_E_UNSUPPORTED, ROUTE_CONF("x: {'@type': " ENVOY "http.tap.v3.Tap}"),
         ROUTE_CONF_AT ".x: envoy.extensions.filters.http.tap.v3.Tap"},
        {PX_ROUTES, LT_E_UNSUPPORTED, ROUTE_CONF("x: {'@type': " ENVOY "http.router.v3.Router}"),
         ROUTE_CONF_AT ".x: "},
        {PX_ROUTES, LT_E_BAD, ROUTE_CONF("x: {'@type': " FILTER_CONFIG "}"),
         ROUTE_CONF_AT ".x.config: is missing"},
        {PX_ROUTES, LT_E_UNSUPPORTED,
         ROUTE_CONF("x: {'@type': " FILTER_CONFIG ", config: {'@type': " ENVOY "http.tap.v3.Tap}}"),
         ROUTE_CONF_AT ".x: "},
        {PX_LISTENER, LT_E_BAD, "{name: l}", "address: is missing"},
        {PX_LISTENER, LT_E_BAD,
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}}",
         "filter_chains: no filter chains"},
        {PX_LISTENER, LT_E_BAD, LISTENER(""),
         "filter_chains[0].filters: a chain needs a terminal filter"},
        {PX_LISTENER, LT_E_BAD,
         "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: "
         "[{name: a, filter_chain_match: {destination_port: 5}}, {name: b, filter_chain_match: {destination_port: 5}}]}",
         "filter_chains: filter chain 'b' has the same matching rules defined as 'a'"},
        {PX_LISTENER, LT_E_BAD, LISTENER(HCM_FILTER("stat_prefix: ''")),
         "filter_chains[0].filters[0].stat_prefix: is empty"},
        {PX_LISTENER, LT_E_BAD, LISTENER("{name: t, typed_config: {'@type': " TCP ", cluster: a}}"),
         "filter_chains[0].filters[0].stat_prefix: is empty"},
        {PX_LISTENER, LT_E_BAD,
         LISTENER("{name: t, typed_config: {'@type': " TCP ", stat_prefix: t}}"),
         "filter_chains[0].filters[0].cluster: "},
        {PX_LISTENER, LT_E_UNSUPPORTED,
         LISTENER(HCM_FILTER(
             "stat_prefix: s, http_filters: [{name: guard, typed_config: {'@type': " ENVOY
             "http.wasm.v3.Wasm}}, " ROUTER "]")),
         "filter_chains[0].filters[0].http_filters[0]: filter 'guard' of type envoy.extensions.filters.http.wasm.v3.Wasm"},
        {PX_LISTENER, LT_E_UNSUPPORTED,
         LISTENER(HCM_FILTER(
             "stat_prefix: s, http_filters: [{name: x, disabled: true, typed_config: {'@type': " ENVOY
             "http.tap.v3.Tap}}, " ROUTER "]")),
         "filter_chains[0].filters[0].http_filters[0]: filter 'x'"},
        {PX_LISTENER, LT_E_BAD,
         LISTENER(HCM_FILTER("stat_prefix: s, http_filters: [" ROUTER
                             ", {name: c, typed_config: {'@type': " ENVOY "http.cors.v3.Cors}}]")),
         "filter_chains[0].filters[0].http_filters[0]: the router must be the last filter"},
        {PX_LISTENER, LT_E_BAD, LISTENER(HCM_FILTER("stat_prefix: s")),
         "filter_chains[0].filters[0].http_filters: the last must be a router"},
        {PX_LISTENER, LT_E_BAD,
         LISTENER(HCM_FILTER("stat_prefix: s, path_with_escaped_slashes_action: 9")),
         "filter_chains[0].filters[0].path_with_escaped_slashes_action: "},
        {PX_LISTENER, LT_E_BAD,
         LISTENER(HCM_FILTER("stat_prefix: s, max_request_headers_kb: 9000")),
         "filter_chains[0].filters[0].max_request_headers_kb: "},
        {PX_LISTENER, LT_E_UNSUPPORTED,
         LISTENER("{name: r, typed_config: {'@type': " ENVOY "network.wasm.v3.Wasm}}"),
         "filter_chains[0].filters[0]: "},
        {PX_LISTENER, LT_E_BAD, TLS_LISTENER("common_tls_context: {}"),
         "filter_chains[0].transport_socket.common_tls_context.tls_certificates: "},
        {PX_LISTENER, LT_E_UNSUPPORTED,
         TLS_LISTENER(
             "require_client_certificate: true, common_tls_context: {tls_certificate_sds_secret_configs: [{name: d, sds_config: {ads: {}}}]}"),
         "filter_chains[0].transport_socket.require_client_certificate: "},
        {PX_SECRET, LT_E_BAD, "{name: s, validation_context: {}}",
         "validation_context.trusted_ca: is empty"},
        {PX_SECRET, LT_E_BAD, "{name: s, tls_certificate: {certificate_chain: {inline_string: x}}}",
         "tls_certificate: "},
        {PX_SECRET, LT_E_UNSUPPORTED, "{name: s}", "a secret must hold"},
        {PX_SECRET, LT_E_BAD, "{name: s, validation_context: {trusted_ca: {inline_string: x}}}",
         "validation_context: trusted CA: no certificate"},
        {PX_SECRET, LT_E_BAD,
         "{name: s, tls_certificate: {certificate_chain: {inline_string: x}, private_key: {inline_string: x}}}",
         "tls_certificate: not the PEM text of a certificate"},
        {PX_SECRET, LT_E_UNSUPPORTED, "{name: s, validation_context: {system_root_certs: {}}}",
         "validation_context.system_root_certs: "},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        lt_rc rc = compile(rows[i].kind, rows[i].yaml);
        if (rc != rows[i].rc || strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("row %zu: rc %d, '%s' instead of '%s'\n%s", i, (int)rc, err.text,
                     rows[i].error, rows[i].yaml);
        assert_null(made);
    }
}

static void test_garbage_is_refused(void **state)
{
    (void)state;
    static const lt_str rows[] = {{"\x0a", 1},
                                  {"\x0a\x05"
                                   "ab",
                                   4},
                                  {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}};
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++)
            assert_int_not_equal(
                px_conf_compile(kind, LT_STR("x"), LT_STR_NULL, rows[i], slots, &made, &err),
                LT_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cluster_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cluster_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tls_slots_are_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_endpoints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_routes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filter_confs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_does_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
