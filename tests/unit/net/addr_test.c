/*
 * tests/unit/net/addr_test.c - addresses: parsing, printing, comparing, prefixes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/addr.h"

static struct lt_addr parse(const char *text)
{
    struct lt_addr addr;
    assert_int_equal(lt_addr_parse_hostport(lt_str_of(text), &addr), LT_OK);
    return addr;
}

static struct lt_addr ip(const char *text)
{
    struct lt_addr addr;
    assert_int_equal(lt_addr_parse(lt_str_of(text), 0, &addr), LT_OK);
    return addr;
}

static void addresses_print_as_they_were_read(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
        uint16_t port;
    } cases[] = {
        {"10.0.0.1:80", "10.0.0.1:80", 80},
        {"[::1]:65535", "[::1]:65535", 65535},
        {":15006", "0.0.0.0:15006", 15006},
        {"localhost:1", "127.0.0.1:1", 1},
        {"[2001:db8:0::00:1]:0", "[2001:db8::1]:0", 0},
        {"unix:/run/x.sock", "unix:/run/x.sock", 0},
    };
    char out[LT_ADDR_TEXT_MAX];
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct lt_addr addr = parse(cases[i].in);
        assert_string_equal(lt_addr_format(&addr, out).ptr, cases[i].out);
        assert_int_equal(lt_addr_port(&addr), cases[i].port);
    }
    struct lt_addr v6 = parse("[fe80::2]:9");
    assert_string_equal(lt_addr_format_ip(&v6, out).ptr, "fe80::2");
    lt_addr_set_port(&v6, 10);
    assert_int_equal(lt_addr_port(&v6), 10);
    struct lt_addr none = {0};
    assert_int_equal(lt_addr_port(&none), 0);
    assert_string_equal(lt_addr_format_ip(&none, out).ptr, "");
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const lt_str bad_ips[] = {{"", 0},
                                     {"10.0.0", 6},
                                     {"10.0.0.256", 10},
                                     {"10.0.0.1 ", 9},
                                     {"010.0.0.1", 9},
                                     {"::g", 3},
                                     {"[10.0.0.1]", 10},
                                     {"[]", 2},
                                     {"10.0.0.1\0x", 10},
                                     {"::1\0", 4},
                                     {"1:2:3:4:5:6:7:8:9", 17},
                                     {"example.org", 11}};
    struct lt_addr addr;
    for (size_t i = 0; i < LT_ARRAY_LEN(bad_ips); i++)
        assert_int_equal(lt_addr_parse(bad_ips[i], 1, &addr), LT_E_BAD);
    static const char *const bad[] = {"10.0.0.1",    "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:65536",
                                      "10.0.0.1:-1", "host:80",   "unix:"};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_not_equal(lt_addr_parse_hostport(lt_str_of(bad[i]), &addr), LT_OK);
    char path[200];
    memset(path, 'x', sizeof(path));
    assert_int_equal(lt_addr_unix(lt_str_make(path, 107), &addr), LT_OK);
    assert_int_equal(lt_addr_unix(lt_str_make(path, 108), &addr), LT_E_LIMIT);
    assert_int_equal(lt_addr_unix(lt_str_make("/a\0b", 4), &addr), LT_E_BAD);
}

static void comparing(void **state)
{
    (void)state;
    struct lt_addr a = parse("10.0.0.1:80"), b = parse("10.0.0.1:80"), none = {0}, none2 = {0};
    assert_true(lt_addr_eq(&a, &b));
    b = parse("10.0.0.1:81");
    assert_false(lt_addr_eq(&a, &b));
    b = parse("[::ffff:10.0.0.1]:80");
    assert_false(lt_addr_eq(&a, &b));
    assert_true(lt_addr_eq(&none, &none2));
    assert_false(lt_addr_eq(&a, &none));
    a = parse("unix:/a");
    b = parse("unix:/a");
    assert_true(lt_addr_eq(&a, &b));
    b = parse("unix:/b");
    assert_false(lt_addr_eq(&a, &b));
}

static void loopback_and_any(void **state)
{
    (void)state;
    static const char *const loopback[] = {"127.0.0.1", "127.255.0.6", "::1", "::ffff:127.0.0.6"};
    static const char *const other[] = {"128.0.0.1", "0.0.0.0", "::", "::2", "::ffff:10.0.0.1"};
    for (size_t i = 0; i < LT_ARRAY_LEN(loopback); i++) {
        struct lt_addr addr = ip(loopback[i]);
        assert_true(lt_addr_is_loopback(&addr));
        assert_false(lt_addr_is_any(&addr));
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(other); i++) {
        struct lt_addr addr = ip(other[i]);
        assert_false(lt_addr_is_loopback(&addr));
        assert_int_equal(lt_addr_is_any(&addr), i == 1 || i == 2);
    }
    struct lt_addr none = {0};
    assert_false(lt_addr_is_any(&none) || lt_addr_is_loopback(&none));
}

static void prefixes(void **state)
{
    (void)state;
    static const struct {
        const char *addr, *prefix;
        unsigned bits;
        bool is_in;
    } cases[] = {
        {"10.1.2.3", "10.0.0.0", 8, true},
        {"11.1.2.3", "10.0.0.0", 8, false},
        {"11.1.2.3", "10.0.0.0", 7, true},
        {"12.1.2.3", "10.0.0.0", 7, false},
        {"1.2.3.4", "0.0.0.0", 0, true},
        {"::1", "0.0.0.0", 0, false},
        {"10.0.0.1", "10.0.0.1", 32, true},
        {"10.0.0.2", "10.0.0.1", 32, false},
        {"10.0.0.2", "10.0.0.1", 33, false},
        {"10.0.0.129", "10.0.0.128", 25, true},
        {"10.0.0.127", "10.0.0.128", 25, false},
        {"2001:db8::1", "2001:db8::", 32, true},
        {"2001:db9::1", "2001:db8::", 32, false},
        {"2001:db9::1", "2001:db8::", 31, true},
        {"::2", "::3", 127, true},
        {"::2", "::3", 128, false},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct lt_addr addr = ip(cases[i].addr), prefix = ip(cases[i].prefix);
        assert_int_equal(lt_addr_in_prefix(&addr, &prefix, cases[i].bits), cases[i].is_in);
    }
    struct lt_addr none = {0}, any = ip("0.0.0.0");
    assert_false(lt_addr_in_prefix(&none, &any, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_print_as_they_were_read),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(comparing),
        cmocka_unit_test(loopback_and_any),
        cmocka_unit_test(prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
