/*
 * tests/unit/ctl/inject_test.c - the table of who gets a sidecar.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/inject.h"

/* NULL: no such label. */
struct row {
    const char *ns_injection, *ns_rev, *label, *rev, *annotation;
    ctl_inject expected;
};

static void add(struct lt_kvs *kvs, const char *key, const char *value)
{
    if (value != NULL)
        kvs->items[kvs->count++] = (struct lt_kv){lt_str_of(key), lt_str_of(value)};
}

static ctl_inject decide(const struct row *row, const char *ns)
{
    struct lt_kv ns_room[2], label_room[2], annotation_room[1];
    struct lt_kvs ns_labels = {0, ns_room}, labels = {0, label_room},
                  annotations = {0, annotation_room};
    const char *why = NULL;
    add(&ns_labels, "istio-injection", row->ns_injection);
    add(&ns_labels, "istio.io/rev", row->ns_rev);
    add(&labels, "istio.io/rev", row->rev);
    add(&labels, "sidecar.istio.io/inject", row->label);
    add(&annotations, "sidecar.istio.io/inject", row->annotation);
    const struct ctl_inject_input input = {.ns = lt_str_of(ns),
                                           .ns_labels = &ns_labels,
                                           .labels = &labels,
                                           .annotations = &annotations};
    ctl_inject decision = ctl_inject_decide(&input, &why);
    assert_non_null(why);
    return decision;
}

static void table(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"enabled", NULL, NULL, NULL, NULL, CTL_INJECT_SIDECAR},
        {"enabled", "x", "true", "y", NULL, CTL_INJECT_SIDECAR},
        {"enabled", NULL, "false", NULL, NULL, CTL_INJECT_NONE},
        {"enabled", NULL, "yes", NULL, NULL,
         CTL_INJECT_SIDECAR}, /* only "true" and "false" say anything */
        {"disabled", NULL, "true", NULL, NULL, CTL_INJECT_NONE},
        {NULL, "x", NULL, NULL, NULL, CTL_INJECT_SIDECAR},
        {NULL, "x", "false", NULL, NULL, CTL_INJECT_NONE},
        {NULL, NULL, "true", NULL, NULL, CTL_INJECT_SIDECAR},
        {NULL, NULL, NULL, "x", NULL, CTL_INJECT_SIDECAR},
        {NULL, NULL, "false", "x", NULL, CTL_INJECT_NONE},
        {NULL, NULL, NULL, NULL, NULL, CTL_INJECT_NONE},
        {NULL, NULL, NULL, NULL, "true",
         CTL_INJECT_NONE}, /* the webhook does not look at annotations */
        {"enabled", NULL, NULL, NULL, "false", CTL_INJECT_NONE},
        {"enabled", NULL, "true", NULL, "false", CTL_INJECT_SIDECAR}, /* the label goes first */
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        if (decide(&rows[i], "shop") != rows[i].expected)
            fail_msg("row %zu", i);
    }
    assert_int_equal(decide(&rows[0], "kube-system"), CTL_INJECT_NONE);
}

static void gateways_and_host_network(void **state)
{
    (void)state;
    const char *why;
    struct lt_kv label = {LT_STR("istio"), LT_STR("ingressgateway")},
                 annotation = {LT_STR("inject.istio.io/templates"), LT_STR("x, gateway")},
                 enabled = {LT_STR("istio-injection"), LT_STR("enabled")};
    const struct lt_kvs labels = {1, &label}, annotations = {1, &annotation}, ns = {1, &enabled},
                        none = {0, NULL};
    struct ctl_inject_input input = {.ns = LT_STR("x"), .labels = &labels, .annotations = &none};
    assert_int_equal(ctl_inject_decide(&input, &why), CTL_INJECT_GATEWAY);
    input = (struct ctl_inject_input){
        .ns = LT_STR("x"), .labels = &none, .annotations = &annotations};
    assert_int_equal(ctl_inject_decide(&input, &why), CTL_INJECT_GATEWAY);
    input = (struct ctl_inject_input){.ns = LT_STR("x"),
                                      .ns_labels = &ns,
                                      .labels = &none,
                                      .annotations = &none,
                                      .is_host_network = true};
    assert_int_equal(ctl_inject_decide(&input, &why), CTL_INJECT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table),
                                       cmocka_unit_test(gateways_and_host_network)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
