/*
 * tests/unit/ctl/capture_test.c - annotations to rules: defaults, lists, and that nothing unparsed
 * gets into the ruleset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/capture.h"

struct pair {
    const char *name;
    const char *value;
};

static lt_str find(const void *ctx, const char *name)
{
    for (const struct pair *pair = ctx; pair->name != NULL; pair++) {
        if (strcmp(pair->name, name) == 0)
            return lt_str_of(pair->value);
    }
    return LT_STR_NULL;
}

/* The ruleset, or NULL when the annotations were refused (then err says why). */
static const char *rules_with_dns(struct lt_arena *arena, const struct pair *annotations,
                                  uint32_t dns_ip, struct lt_err *err)
{
    struct ctl_capture capture;
    struct lt_buf out;
    if (ctl_capture_read(arena, find, annotations, &capture, err) != LT_OK)
        return NULL;
    capture.dns_ip = dns_ip;
    lt_buf_init(&out, 65536);
    assert_int_equal(ctl_capture_write(&capture, &out), LT_OK);
    const char *text = lt_arena_strz(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return text;
}

static const char *rules(struct lt_arena *arena, const struct pair *annotations, struct lt_err *err)
{
    return rules_with_dns(arena, annotations, 0, err);
}

#define IN "traffic.sidecar.istio.io/"

/* Each text stands behind the one before it. */
static void assert_order(const char *text, const char *const *parts)
{
    for (; *parts != NULL; parts++) {
        text = strstr(text, *parts);
        if (text == NULL)
            fail_msg("missing or out of order: %s", *parts);
        text += strlen(*parts);
    }
}

static void defaults_are_istios(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    const struct pair none[] = {{NULL, NULL}};
    const char *const order[] = {
        "table inet istio-proxy-nat\nflush table inet istio-proxy-nat\n",
        "redirect to :15006",
        "tcp dport 15008 counter return",
        "tcp dport 15090",
        "tcp dport 15021",
        "tcp dport 15020",
        "jump istio-in-redirect",
        "hook prerouting priority -100",
        "jump istio-inbound",
        "redirect to :15001",
        "oifname \"lo\" ip saddr 127.0.0.6 counter return",
        "oifname \"lo\" ip daddr != 127.0.0.1 tcp dport != 15008 meta skuid 1337 counter jump istio-in-redirect",
        "oifname \"lo\" meta skuid != 1337 counter return",
        "meta skuid 1337 counter return",
        "meta skgid 1337 counter jump istio-in-redirect",
        "oifname \"lo\" meta skgid != 1337",
        "meta skgid 1337 counter return",
        "ip daddr 127.0.0.1 counter return",
        "    counter jump istio-redirect\n",
        "hook output priority -100",
        "counter jump istio-output",
        NULL,
    };
    assert_order(rules(arena, none, &err), order);
    lt_arena_free(&arena);
}

static void lists_are_obeyed(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    const struct pair annotations[] = {{IN "excludeInboundPorts", "81, 82"},
                                       {IN "excludeOutboundPorts", "3306"},
                                       {IN "includeOutboundIPRanges", "10.0.0.0/8,1.2.3.4"},
                                       {IN "excludeOutboundIPRanges", "10.1.0.0/16"},
                                       {IN "includeOutboundPorts", "9999"},
                                       {IN "excludeInterfaces", "eth1"},
                                       {NULL, NULL}};
    const char *text = rules(arena, annotations, &err);
    const char *const order[] = {"tcp dport 15020 counter return",
                                 "tcp dport 81 counter return",
                                 "tcp dport 82 counter return",
                                 "jump istio-in-redirect",
                                 "iifname \"eth1\" counter return",
                                 "meta l4proto { tcp, udp } th dport 3306 counter return",
                                 "ip daddr 10.1.0.0/16 counter return",
                                 "tcp dport 9999 counter jump istio-redirect",
                                 "ip daddr 10.0.0.0/8 counter jump istio-redirect",
                                 "ip daddr 1.2.3.4/32 counter jump istio-redirect",
                                 "oifname \"eth1\" counter return",
                                 NULL};
    assert_order(text, order);
    assert_null(strstr(text, "\n    counter jump istio-redirect"));
    lt_arena_free(&arena);
}

static void only_listed_inbound_ports(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    const struct pair some[] = {{IN "includeInboundPorts", "80"}, {NULL, NULL}};
    const struct pair none[] = {{IN "includeInboundPorts", ""}, {NULL, NULL}};
    const char *text = rules(arena, some, &err);
    assert_non_null(strstr(text, "tcp dport 80 counter jump istio-in-redirect"));
    assert_null(strstr(text, "tcp dport 15021"));
    assert_null(strstr(rules(arena, none, &err), "jump istio-inbound"));
    lt_arena_free(&arena);
}

static void modes(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    const struct pair off[] = {{"sidecar.istio.io/interceptionMode", "NONE"}, {NULL, NULL}};
    const struct pair tproxy[] = {{"sidecar.istio.io/interceptionMode", "TPROXY"}, {NULL, NULL}};
    const struct pair other[] = {{"sidecar.istio.io/interceptionMode", "none"}, {NULL, NULL}};
    assert_string_equal(rules(arena, off, &err), "");
    assert_null(rules(arena, tproxy, &err));
    assert_non_null(strstr(err.text, "TPROXY"));
    assert_null(rules(arena, other, &err));
    lt_arena_free(&arena);
}

static void bad_values_are_named(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct pair bad[][2] = {
        {{IN "excludeInboundPorts", "80,x"}},
        {{IN "excludeInboundPorts", "65536"}},
        {{IN "excludeInboundPorts", "0"}},
        {{IN "excludeInboundPorts", "80 counter accept"}},
        {{IN "excludeOutboundIPRanges", "*"}},
        {{IN "excludeOutboundIPRanges", "10.0.0.0/33"}},
        {{IN "includeOutboundIPRanges", "10.0.0.0/8; flush ruleset"}},
        {{IN "includeOutboundIPRanges", "fe80::/10"}},
        {{IN "excludeInterfaces", "eth0\" accept; iifname \"x"}},
        {{IN "excludeInterfaces", "a-name-that-is-too-long"}},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct lt_err err = {0};
        assert_null(rules(arena, bad[i], &err));
        assert_non_null(strstr(err.text, bad[i][0].name));
    }
    lt_arena_free(&arena);
}

/* injection.md 6.3: two more chains in the table for addresses, and a table for the zones. */
static void questions_to_the_name_server_go_to_the_sidecar(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    const struct pair none[] = {{NULL, NULL}};
    const struct pair off[] = {{"sidecar.istio.io/interceptionMode", "NONE"}, {NULL, NULL}};
    const char *text = rules_with_dns(arena, none, 0x0a60000a, &err);
    const char *const order[] = {
        "chain istio-output-dns",
        "ip daddr 10.96.0.10/32 tcp dport 53 counter redirect to :15053",
        "ip daddr 10.96.0.10/32 udp dport 53 counter redirect to :15053",
        "chain istio-output {",
        "tcp dport != { 53, 15008 } meta skuid 1337 counter jump istio-in-redirect",
        "oifname \"lo\" tcp dport != 53 meta skuid != 1337 counter return",
        "meta skuid 1337 counter return",
        "meta skgid 1337 counter return",
        "counter jump istio-output-dns",
        "ip daddr 127.0.0.1 counter return",
        "table inet istio-proxy-raw\nflush table inet istio-proxy-raw\n",
        "udp dport 53 meta skuid 1337 counter ct zone set 1",
        "udp sport 15053 meta skuid 1337 counter ct zone set 2",
        "udp dport 53 meta skgid 1337 counter ct zone set 1",
        "udp sport 15053 meta skgid 1337 counter ct zone set 2",
        "udp dport 53 ip daddr 10.96.0.10/32 counter ct zone set 2",
        "udp sport 53 ip saddr 10.96.0.10/32 counter ct zone set 1",
        "type filter hook output priority -300",
        "jump istio-output-dns",
        "type filter hook prerouting priority -300",
        "jump istio-inbound",
        NULL,
    };
    assert_order(text, order);
    assert_null(strstr(rules(arena, none, &err), "53 counter"));
    assert_string_equal(rules_with_dns(arena, off, 0x0a60000a, &err), "");
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_istios),
        cmocka_unit_test(lists_are_obeyed),
        cmocka_unit_test(only_listed_inbound_ports),
        cmocka_unit_test(modes),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(questions_to_the_name_server_go_to_the_sidecar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
