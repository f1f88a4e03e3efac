/*
 * hold_test.c - every order of applying and deleting a route and what it stands on, with the time
 * faked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/env.h"
#include "control/hold.h"
#include "model/load.h"

#define S ((int64_t)LT_NS_PER_S)

static const char service[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{name: http, port: 80}]}\n";
static const char rule[] =
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n"
    "spec: {host: web, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1, labels: {v: v1}}, {name: v2, labels: {v: v2}}]}\n";
static const char rule_v1[] =
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n"
    "spec: {host: web, subsets: [{name: v1, labels: {v: v1}}]}\n";
static const char to_v1[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
    "spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}\n";
static const char to_v2[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
    "spec: {hosts: [web], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: web}}]},"
    " {route: [{destination: {host: web, subset: v2}}]}]}\n";

struct world {
    struct lt_manifests *manifests;
    struct cp_hold *hold;
    const struct lt_held *held;
    int64_t hold_ns;
};

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->manifests = lt_manifests_new();
    w->hold = cp_hold_new();
    w->hold_ns = 60 * S;
    lt_manifests_put(w->manifests, LT_STR("service.yaml"), lt_str_of(service));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    cp_hold_free(&w->hold);
    lt_manifests_free(&w->manifests);
    free(w);
    return 0;
}

static void step(struct world *w, int64_t now_s)
{
    size_t count = 0;
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, NULL);
    cp_hold_step(w->hold, &(struct cp_hold_input){objects, count, LT_STR("cluster.local"),
                                                  now_s * S, w->hold_ns});
    w->held = cp_hold_held(w->hold);
}

/* text NULL: the file goes. */
static void apply(struct world *w, int64_t now_s, const char *file, const char *text)
{
    if (text != NULL)
        lt_manifests_put(w->manifests, lt_str_of(file), lt_str_of(text));
    else
        lt_manifests_remove(w->manifests, lt_str_of(file));
    step(w, now_s);
}

static void assert_nothing_held(const struct world *w)
{
    assert_int_equal(w->held->route_count + w->held->subset_count + w->held->service_count, 0);
    assert_true(cp_hold_deadline_ns(w->hold) == INT64_MAX);
}

static void a_first_apply_leaves_out_the_dangling_rule_alone(void **state)
{
    struct world *w = *state;
    apply(w, 0, "vs.yaml", to_v2);
    assert_int_equal(w->held->route_count, 1);
    assert_null(w->held->routes[0].instead);
    assert_false(w->held->routes[0].is_left_out[0]);
    assert_true(w->held->routes[0].is_left_out[1]);
    assert_true(cp_hold_deadline_ns(w->hold) == 60 * S);
    size_t count = 0;
    assert_string_equal(cp_hold_entries(w->hold, &count)[0].reason,
                        "there is no subset v2 of web.shop.svc.cluster.local");
    apply(w, 5, "dr.yaml", rule);
    assert_nothing_held(w);
}

static void an_edit_to_a_missing_subset_keeps_the_last_good_spec(void **state)
{
    struct world *w = *state;
    apply(w, 0, "dr.yaml", rule_v1);
    apply(w, 1, "vs.yaml", to_v1);
    assert_nothing_held(w);
    apply(w, 10, "vs.yaml", to_v2);
    assert_int_equal(w->held->route_count, 1);
    assert_int_equal(w->held->routes[0].instead->virtual_service->http.count, 1);
    assert_int_equal(w->held->subset_count, 0);
    apply(w, 15, "dr.yaml", rule);
    assert_nothing_held(w);
}

static void a_deleted_rule_leaves_its_subset_behind_for_who_uses_it(void **state)
{
    struct world *w = *state;
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v2);
    apply(w, 10, "dr.yaml", NULL);
    assert_int_equal(w->held->subset_count, 1);
    assert_true(lt_str_eqz(w->held->subsets[0].name, "v2"));
    assert_non_null(w->held->routes[0].instead);
    /* the model has the subset, with the policy that it had, and no other of the deleted rule */
    size_t count = 0;
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, NULL);
    struct lt_model *m = lt_model_build(
        &(struct lt_model_input){.objects = objects, .count = count, .held = w->held}, NULL);
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    const struct lt_rule *r = lt_model_find_rule(m, s, LT_STR("shop"), NULL);
    assert_int_equal(r->subset_count, 1);
    assert_null(r->policy);
    assert_int_equal(r->subsets[0].rule_policy->tls->mode.value, LT_TLS_DISABLE);
    assert_int_equal(m->routes_count, 1);
    /* the route goes too: nothing needs anything any more; the model keeps what it borrowed */
    apply(w, 15, "vs.yaml", NULL);
    assert_nothing_held(w);
    assert_int_equal(r->subsets[0].spec->labels.count, 1);
    lt_model_unref(&m);
}

static void a_subset_taken_out_of_its_rule_is_held_beside_the_rule(void **state)
{
    struct world *w = *state;
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v2);
    apply(w, 10, "dr.yaml", rule_v1);
    size_t count = 0;
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, NULL);
    struct lt_model *m = lt_model_build(
        &(struct lt_model_input){.objects = objects, .count = count, .held = w->held}, NULL);
    const struct lt_rule *r = lt_model_find_rule(
        m, lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local")), LT_STR("shop"), NULL);
    assert_int_equal(r->subset_count, 2);
    assert_null(lt_rule_find_subset(r, LT_STR("v1"))->rule_policy);
    assert_non_null(lt_rule_find_subset(r, LT_STR("v2"))->rule_policy);
    lt_model_unref(&m);
}

static void a_deleted_service_stays_for_who_routes_to_it(void **state)
{
    struct world *w = *state;
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v1);
    apply(w, 10, "service.yaml", NULL);
    assert_int_equal(w->held->service_count, 1);
    apply(w, 15, "vs.yaml", NULL);
    assert_nothing_held(w);
}

static void it_ends_at_an_absolute_time(void **state)
{
    struct world *w = *state;
    apply(w, 0, "dr.yaml", rule_v1);
    apply(w, 1, "vs.yaml", to_v1);
    apply(w, 10, "vs.yaml", to_v2);
    assert_true(cp_hold_deadline_ns(w->hold) == 70 * S);
    step(w, 69);
    assert_int_equal(w->held->route_count, 1);
    step(w, 70);
    assert_nothing_held(w);
    size_t count = 0;
    const struct cp_hold_entry *e = cp_hold_entries(w->hold, &count);
    assert_int_equal(count, 1);
    assert_true(e->is_over);
    /* it is good again, and so a new hold may begin */
    apply(w, 80, "dr.yaml", rule);
    apply(w, 90, "dr.yaml", NULL);
    assert_true(cp_hold_deadline_ns(w->hold) == 150 * S);
}

/* The clock is that of the first moment, however often the object is written meanwhile. */
static void further_edits_do_not_begin_it_anew(void **state)
{
    struct world *w = *state;
    static const char to_v3[] =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
        "spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v3}}]}]}\n";
    size_t count = 0;
    apply(w, 0, "dr.yaml", rule_v1);
    apply(w, 1, "vs.yaml", to_v1);
    apply(w, 10, "vs.yaml", to_v2);
    apply(w, 40, "vs.yaml", to_v3);
    assert_true(cp_hold_deadline_ns(w->hold) == 70 * S);
    assert_string_equal(cp_hold_entries(w->hold, &count)[0].reason,
                        "there is no subset v3 of web.shop.svc.cluster.local");
    assert_int_equal(w->held->routes[0].instead->virtual_service->http.count, 1);
    step(w, 70);
    assert_nothing_held(w);
    apply(w, 80, "vs.yaml", to_v2); /* over is over, until it has been good once */
    assert_nothing_held(w);
}

static void tcp_and_tls_destinations_are_held_too(void **state)
{
    struct world *w = *state;
    static const char l4[] =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
        "spec: {hosts: [web], tcp: [{route: [{destination: {host: web, subset: v1}}]}],\n"
        "  tls: [{match: [{sniHosts: [web]}], route: [{destination: {host: web, subset: v2}}]}]}\n";
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", l4);
    assert_nothing_held(w);
    apply(w, 10, "dr.yaml", NULL);
    assert_int_equal(w->held->subset_count, 2);
    assert_non_null(w->held->routes[0].instead);
    apply(w, 15, "vs.yaml", NULL);
    /* and on a first apply there is no http rule that could be left out */
    apply(w, 20, "vs.yaml", l4);
    assert_int_equal(w->held->route_count, 1);
    assert_null(w->held->routes[0].instead);
    assert_int_equal(w->held->subset_count, 0);
}

/* Names that are no Service of ours may be somebody's whom we don't know. */
static void hosts_outside_the_mesh_are_no_business_of_ours(void **state)
{
    struct world *w = *state;
    apply(
        w, 0, "vs.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: shop}\n"
        "spec: {hosts: [x.example], http: [{route: [{destination: {host: x.example}}]}]}\n");
    assert_nothing_held(w);
    apply(
        w, 1, "vs.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: shop}\n"
        "spec: {hosts: [x.example], http: [{route: [{destination: {host: x.example, subset: a}}]}]}\n");
    assert_int_equal(w->held->route_count, 1); /* but a subset is defined by us */
}

static void what_two_need_is_held_once_and_for_as_long_as_one_needs_it(void **state)
{
    struct world *w = *state;
    static const char other[] =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: other, namespace: shop}\n"
        "spec: {hosts: [other.example], http: [{route: [{destination: {host: web, subset: v2}}]}]}\n";
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v2);
    apply(w, 2, "other.yaml", other);
    apply(w, 10, "dr.yaml", NULL);
    assert_int_equal(w->held->route_count, 2);
    assert_int_equal(w->held->subset_count, 1);
    apply(w, 15, "vs.yaml", NULL);
    assert_int_equal(w->held->route_count, 1);
    assert_int_equal(w->held->subset_count, 1);
    apply(w, 20, "service.yaml", NULL); /* the service goes as well, for the same one */
    assert_int_equal(w->held->service_count, 1);
    assert_true(cp_hold_deadline_ns(w->hold) == 70 * S);
    step(w, 70);
    assert_nothing_held(w);
}

/* What is held is the definition as it was last, not as it was when the route came. */
static void the_last_good_definition_counts(void **state)
{
    struct world *w = *state;
    static const char edited[] =
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n"
        "spec: {host: web, subsets: [{name: v2, labels: {v: two}}]}\n";
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v2);
    apply(w, 5, "dr.yaml", edited);
    apply(w, 10, "dr.yaml", NULL);
    const struct lt_destination_rule *spec = w->held->subsets[0].rule->destination_rule;
    assert_true(lt_str_eqz(spec->subsets.items[0].labels.items[0].value, "two"));
    apply(w, 15, "dr.yaml", rule); /* the rule comes back */
    assert_nothing_held(w);
}

static void without_hold_time_nothing_is_held(void **state)
{
    struct world *w = *state;
    w->hold_ns = 0;
    apply(w, 0, "dr.yaml", rule);
    apply(w, 1, "vs.yaml", to_v2);
    apply(w, 10, "dr.yaml", NULL);
    assert_nothing_held(w);
}

static void any_order_of_both_is_seamless(void **state)
{
    struct world *w = *state;
    static const char *const files[2] = {"vs.yaml", "dr.yaml"};
    static const char *const texts[2] = {to_v2, rule};
    int64_t now = 0;
    for (int round = 0; round < 4; round++) {
        int first = round & 1;
        apply(w, now += 5, files[first], texts[first]);
        assert_true(first == 1 ? w->held->route_count == 0 : w->held->routes[0].is_left_out[1]);
        apply(w, now += 5, files[!first], texts[!first]);
        assert_nothing_held(w);
        first = round / 2;
        apply(w, now += 5, files[first], NULL);
        assert_int_equal(w->held->subset_count, first == 1 ? 1 : 0);
        apply(w, now += 5, files[!first], NULL);
        assert_nothing_held(w);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_first_apply_leaves_out_the_dangling_rule_alone),
        CASE(an_edit_to_a_missing_subset_keeps_the_last_good_spec),
        CASE(a_deleted_rule_leaves_its_subset_behind_for_who_uses_it),
        CASE(a_subset_taken_out_of_its_rule_is_held_beside_the_rule),
        CASE(a_deleted_service_stays_for_who_routes_to_it),
        CASE(it_ends_at_an_absolute_time),
        CASE(further_edits_do_not_begin_it_anew),
        CASE(tcp_and_tls_destinations_are_held_too),
        CASE(hosts_outside_the_mesh_are_no_business_of_ours),
        CASE(what_two_need_is_held_once_and_for_as_long_as_one_needs_it),
        CASE(the_last_good_definition_counts),
        CASE(without_hold_time_nothing_is_held),
        CASE(any_order_of_both_is_seamless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
