/*
 * tests/unit/proxy/chain_match_test.c - which filter chain takes a connection: the chains that
 * Istio sends, and Envoy's precedence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/conf/chain_match.h"

#define PROTOCOLS(...) \
    .application_protocols = (const lt_str[]){__VA_ARGS__}, \
    .application_protocol_count = sizeof((const lt_str[]){__VA_ARGS__}) / sizeof(lt_str)
#define ISTIO_HTTP LT_STR("istio-http/1.0"), LT_STR("istio-http/1.1"), LT_STR("istio-h2")
#define ISTIO_ALL LT_STR("istio"), LT_STR("istio-peer-exchange"), ISTIO_HTTP

static struct lt_addr address(const char *ip, uint16_t port)
{
    struct lt_addr addr;
    assert_int_equal(lt_addr_parse(lt_str_of(ip), port, &addr), LT_OK);
    return addr;
}

static const char *find(const struct px_listener_conf *listener, const char *ip, uint16_t port,
                        const char *transport, const char *server_name, const char *protocol)
{
    lt_str protocols[] = {lt_str_of(protocol)};
    struct px_conn_facts facts = {
        .destination = address(ip, port),
        .server_name = lt_str_of(server_name),
        .transport_protocol = lt_str_of(transport),
        .application_protocols = protocols,
        .application_protocol_count = protocol == NULL ? 0 : 1,
    };
    const struct px_chain *chain = px_chain_find(listener, &facts);
    return chain == NULL ? "none" : chain->name.ptr;
}

/*
 * virtualInbound: the pass-through set without a port, HTTP port 8080 PERMISSIVE, TCP port 3306
 * STRICT.
 */
static void test_inbound(void **state)
{
    (void)state;
    const struct px_chain chains[] = {
        {.name = LT_STR("blackhole"), .destination_port = 15006},
        {.name = LT_STR("any http tls"),
         .transport_protocol = LT_STR("tls"),
         PROTOCOLS(ISTIO_HTTP)},
        {.name = LT_STR("any http"),
         .transport_protocol = LT_STR("raw_buffer"),
         PROTOCOLS(LT_STR("http/1.1"), LT_STR("h2c"))},
        {.name = LT_STR("any tcp mtls"),
         .transport_protocol = LT_STR("tls"),
         PROTOCOLS(LT_STR("istio-peer-exchange"), LT_STR("istio"))},
        {.name = LT_STR("any tcp"), .transport_protocol = LT_STR("raw_buffer")},
        {.name = LT_STR("any tls"), .transport_protocol = LT_STR("tls")},
        {.name = LT_STR("8080 mtls"),
         .destination_port = 8080,
         .transport_protocol = LT_STR("tls"),
         PROTOCOLS(ISTIO_ALL)},
        {.name = LT_STR("8080 plain"),
         .destination_port = 8080,
         .transport_protocol = LT_STR("raw_buffer")},
        {.name = LT_STR("3306 mtls"),
         .destination_port = 3306,
         .transport_protocol = LT_STR("tls")},
    };
    const struct px_listener_conf listener = {.chains = chains,
                                              .chain_count = LT_ARRAY_LEN(chains)};
    const char *ip = "10.0.0.1";
    assert_string_equal(find(&listener, ip, 15006, "raw_buffer", "", NULL), "blackhole");
    assert_string_equal(find(&listener, ip, 8080, "tls", "", "istio-http/1.1"), "8080 mtls");
    assert_string_equal(find(&listener, ip, 8080, "raw_buffer", "", "http/1.1"), "8080 plain");
    /*
     * no way back: foreign TLS on a declared HTTP port has no chain, though the port-less ones
     * would take it
     */
    assert_string_equal(find(&listener, ip, 8080, "tls", "", "h2"), "none");
    assert_string_equal(find(&listener, ip, 3306, "tls", "", "anything"), "3306 mtls");
    assert_string_equal(find(&listener, ip, 3306, "raw_buffer", "", NULL), "none"); /* STRICT */
    assert_string_equal(find(&listener, ip, 9000, "raw_buffer", "", "http/1.1"), "any http");
    assert_string_equal(find(&listener, ip, 9000, "raw_buffer", "", NULL), "any tcp");
    assert_string_equal(find(&listener, ip, 9000, "tls", "", "istio-h2"), "any http tls");
    assert_string_equal(find(&listener, ip, 9000, "tls", "", "istio"), "any tcp mtls");
    assert_string_equal(find(&listener, ip, 9000, "tls", "", "h2"), "any tls");
}

/* The client's order of protocols decides, not the order of the chains. */
static void test_protocol_order(void **state)
{
    (void)state;
    const struct px_chain chains[] = {
        {.name = LT_STR("old"), PROTOCOLS(LT_STR("http/1.1"))},
        {.name = LT_STR("new"), PROTOCOLS(LT_STR("h2"))},
    };
    const struct px_listener_conf listener = {.chains = chains, .chain_count = 2};
    const lt_str offered[] = {LT_STR("foo"), LT_STR("h2"), LT_STR("http/1.1")};
    struct px_conn_facts facts = {.destination = address("10.0.0.1", 443),
                                  .transport_protocol = LT_STR("tls"),
                                  .application_protocols = offered,
                                  .application_protocol_count = 3};
    assert_string_equal(px_chain_find(&listener, &facts)->name.ptr, "new");
}

static void test_server_names(void **state)
{
    (void)state;
    const lt_str exact[] = {LT_STR("a.b.example.com")}, deep[] = {LT_STR(".b.example.com")},
                 wide[] = {LT_STR(".example.com")};
    const struct px_chain chains[] = {
        {.name = LT_STR("wide"), .server_names = wide, .server_name_count = 1},
        {.name = LT_STR("exact"), .server_names = exact, .server_name_count = 1},
        {.name = LT_STR("deep"), .server_names = deep, .server_name_count = 1},
    };
    const struct px_chain fallback = {.name = LT_STR("default")};
    const struct px_listener_conf listener = {
        .chains = chains, .chain_count = 3, .default_chain = &fallback};
    assert_string_equal(find(&listener, "10.0.0.1", 443, "tls", "a.b.example.com", "h2"), "exact");
    assert_string_equal(find(&listener, "10.0.0.1", 443, "tls", "x.b.example.com", "h2"), "deep");
    assert_string_equal(find(&listener, "10.0.0.1", 443, "tls", "x.example.com", "h2"), "wide");
    assert_string_equal(find(&listener, "10.0.0.1", 443, "tls", "example.com", "h2"), "default");
    assert_string_equal(find(&listener, "10.0.0.1", 443, "raw_buffer", "", NULL), "default");
}

static void test_prefixes(void **state)
{
    (void)state;
    const struct px_cidr wide[] = {{address("10.0.0.0", 0), 8}},
                         narrow[] = {{address("10.1.0.0", 0), 16}};
    const struct px_chain chains[] = {
        {.name = LT_STR("any")},
        {.name = LT_STR("wide"), .prefixes = wide, .prefix_count = 1},
        {.name = LT_STR("narrow tls"),
         .prefixes = narrow,
         .prefix_count = 1,
         .transport_protocol = LT_STR("tls")},
    };
    const struct px_chain fallback = {.name = LT_STR("default")};
    const struct px_listener_conf listener = {
        .chains = chains, .chain_count = 3, .default_chain = &fallback};
    assert_string_equal(find(&listener, "10.1.2.3", 80, "tls", "", NULL), "narrow tls");
    /* the narrowest prefix was chosen before the transport was looked at */
    assert_string_equal(find(&listener, "10.1.2.3", 80, "raw_buffer", "", NULL), "default");
    assert_string_equal(find(&listener, "10.2.2.3", 80, "raw_buffer", "", NULL), "wide");
    assert_string_equal(find(&listener, "192.0.2.1", 80, "raw_buffer", "", NULL), "any");
    assert_string_equal(find(&listener, "2001:db8::1", 80, "raw_buffer", "", NULL), "any");
}

/* Per-port outbound listener: HTTP by inspector, everything else through. */
static void test_outbound(void **state)
{
    (void)state;
    const struct px_chain chains[] = {{.name = LT_STR("http"),
                                       .transport_protocol = LT_STR("raw_buffer"),
                                       PROTOCOLS(LT_STR("http/1.1"), LT_STR("h2c"))}};
    const struct px_chain fallback = {.name = LT_STR("PassthroughFilterChain")};
    const struct px_listener_conf listener = {
        .chains = chains, .chain_count = 1, .default_chain = &fallback};
    assert_string_equal(find(&listener, "10.0.0.1", 80, "raw_buffer", "", "http/1.1"), "http");
    assert_string_equal(find(&listener, "10.0.0.1", 80, "raw_buffer", "", "http/1.0"),
                        "PassthroughFilterChain");
    assert_string_equal(find(&listener, "10.0.0.1", 80, "tls", "", "http/1.1"),
                        "PassthroughFilterChain");
}

static const char *from(const struct px_listener_conf *listener, const char *ip, uint16_t port)
{
    struct px_conn_facts facts = {
        .destination = address("10.0.0.1", 80),
        .source = address(ip, port),
        .transport_protocol = LT_STR("raw_buffer"),
    };
    const struct px_chain *chain = px_chain_find(listener, &facts);
    return chain == NULL ? "none" : chain->name.ptr;
}

/* Who connects directly, local or not, from where, from which port: in this order. */
static void test_by_source(void **state)
{
    (void)state;
    const struct px_cidr wide = {address("10.0.0.0", 0), 8}, narrow = {address("10.1.0.0", 0), 16};
    const uint32_t ports[] = {1000, 2000};
    const struct px_source_match direct = {.direct_prefixes = &narrow, .direct_prefix_count = 1},
                                 local = {.type = PX_SOURCE_LOCAL},
                                 external = {.type = PX_SOURCE_EXTERNAL,
                                             .prefixes = &wide,
                                             .prefix_count = 1},
                                 by_port = {.type = PX_SOURCE_EXTERNAL,
                                            .prefixes = &wide,
                                            .prefix_count = 1,
                                            .ports = ports,
                                            .port_count = 2};
    const struct px_chain chains[] = {{.name = LT_STR("direct"), .source = &direct},
                                      {.name = LT_STR("local"), .source = &local},
                                      {.name = LT_STR("external"), .source = &external},
                                      {.name = LT_STR("by port"), .source = &by_port}};
    const struct px_chain rest = {.name = LT_STR("rest")};
    struct px_listener_conf listener = {.chains = chains, .chain_count = LT_ARRAY_LEN(chains)};
    assert_string_equal(from(&listener, "10.1.2.3", 2000), "direct");
    assert_string_equal(from(&listener, "127.0.0.1", 5), "local");
    assert_string_equal(from(&listener, "10.0.0.1", 5), "local"); /* its own address */
    assert_string_equal(from(&listener, "10.9.0.1", 5), "external");
    assert_string_equal(from(&listener, "10.9.0.1", 2000), "by port");
    assert_string_equal(from(&listener, "192.0.2.1", 2000), "none");
    listener.default_chain = &rest;
    assert_string_equal(from(&listener, "192.0.2.1", 2000), "rest");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inbound),      cmocka_unit_test(test_protocol_order),
        cmocka_unit_test(test_server_names), cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_outbound),     cmocka_unit_test(test_by_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
