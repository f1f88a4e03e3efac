/*
 * tests/unit/ctl/cluster_ip_test.c - the node's ruleset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/cluster_ip.h"

static void forwards(void **state)
{
    (void)state;
    const struct ctl_target targets[] = {{0x0af40101, 8080}, {0x0af40102, 8081}};
    const struct ctl_forward list[] = {
        {.ip = 0x0a600001, .port = 80, .targets = targets, .target_count = 2},
        {.ip = 0x0a600002, .port = 53, .is_udp = true, .targets = targets, .target_count = 1},
        {.ip = 0x0a600003, .port = 81},
        {.ip = 0x0a600004, .port = 82, .is_udp = true},
    };
    const uint32_t pods[] = {0x0af40101, 0x0af40102};
    struct lt_buf out;
    lt_buf_init(&out, 65536);
    assert_int_equal(ctl_cluster_ip_write(list, 4, pods, 2, 0x0af40001, &out), LT_OK);
    assert_int_equal(lt_buf_append(&out, "", 1), LT_OK);
    const char *text = lt_buf_str(&out).ptr;
    static const char *const expected[] = {
        "table ip lateen\ndelete table ip lateen\n",
        "ip daddr 10.96.0.1 tcp dport 80 dnat to numgen random mod 2 map { 0 : 10.244.1.1 . 8080, 1 : 10.244.1.2 . 8081 }\n",
        "ip daddr 10.96.0.2 udp dport 53 dnat to 10.244.1.1:8080\n",
        "ip daddr 10.96.0.3 tcp dport 81 reject with tcp reset\n",
        "ip daddr 10.96.0.4 udp dport 82 reject\n",
        "ip saddr . ip daddr { 10.244.1.1 . 10.244.1.1, 10.244.1.2 . 10.244.1.2 } snat to 10.244.0.1\n",
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(expected); i++) {
        if (strstr(text, expected[i]) == NULL)
            fail_msg("missing: %s in\n%s", expected[i], text);
    }
    lt_buf_fini(&out);
}

static void too_long_is_told(void **state)
{
    (void)state;
    const struct ctl_forward list[] = {{.ip = 1, .port = 80}};
    struct lt_buf out;
    lt_buf_init(&out, 100);
    assert_int_equal(ctl_cluster_ip_write(list, 1, NULL, 0, 2, &out), LT_E_LIMIT);
    lt_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forwards),
                                       cmocka_unit_test(too_long_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
