/*
 * tests/unit/proxy/route_match_test.c - which virtual host and route take a request, as a table of
 * requests and answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/env.h"
#include "proxy/conf/domains.h"
#include "proxy/conf/route_match.h"

static struct lt_arena *arena;
static struct lt_headers headers;

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    lt_headers_init(&headers, arena, 0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

static void add(const char *name, const char *value)
{
    assert_int_equal(lt_headers_add(&headers, lt_str_of(name), lt_str_of(value)), LT_OK);
}

static struct px_request_facts get(const char *path)
{
    return (struct px_request_facts){.method = LT_STR("GET"),
                                     .scheme = LT_STR("http"),
                                     .authority = LT_STR("shop.example.com"),
                                     .path = lt_str_of(path),
                                     .headers = &headers};
}

/* --- virtual hosts --- */

static const struct px_vhost vhosts[] = {
    {.name = LT_STR("exact")},  {.name = LT_STR("long suffix")}, {.name = LT_STR("suffix")},
    {.name = LT_STR("prefix")}, {.name = LT_STR("all")},
};

static const char *vhost_of(const struct px_routes_conf *routes, const char *authority)
{
    const struct px_vhost *vhost = px_route_find_vhost(routes, NULL, lt_str_of(authority));
    return vhost == NULL ? "none" : vhost->name.ptr;
}

static void test_domains(void **state)
{
    (void)state;
    const struct px_domain_suffix suffixes[] = {{LT_STR(".eu.example.com"), &vhosts[1]},
                                                {LT_STR(".example.com"), &vhosts[2]}};
    const struct px_domain_suffix prefixes[] = {{LT_STR("shop."), &vhosts[3]}};
    struct px_routes_conf routes = {.vhosts = vhosts,
                                    .vhost_count = 5,
                                    .domains = {.suffixes = suffixes,
                                                .suffix_count = 2,
                                                .prefixes = prefixes,
                                                .prefix_count = 1,
                                                .catch_all = &vhosts[4]},
                                    .ignore_port_in_host = true};
    lt_map_init(&routes.domains.exact);
    lt_map_put(&routes.domains.exact, LT_STR("a.example.com"), (void *)&vhosts[0]);
    lt_map_put(&routes.domains.exact, LT_STR("[::1]"), (void *)&vhosts[0]);
    assert_string_equal(vhost_of(&routes, "a.example.com"), "exact");
    assert_string_equal(vhost_of(&routes, "A.Example.COM:8080"), "exact");
    assert_string_equal(vhost_of(&routes, "[::1]:80"), "exact");
    assert_string_equal(vhost_of(&routes, "[::1]"), "exact");
    assert_string_equal(vhost_of(&routes, "b.eu.example.com"), "long suffix");
    assert_string_equal(vhost_of(&routes, ".eu.example.com"),
                        "suffix"); /* the star stands for one character or more */
    assert_string_equal(vhost_of(&routes, "b.example.com"), "suffix");
    assert_string_equal(vhost_of(&routes, "example.com"), "all");
    assert_string_equal(vhost_of(&routes, "shop.test"), "prefix");
    assert_string_equal(vhost_of(&routes, "shop."), "all");
    assert_string_equal(vhost_of(&routes, ""), "all");
    char long_name[600];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_string_equal(vhost_of(&routes, long_name), "all");
    routes.domains.catch_all = NULL;
    assert_string_equal(vhost_of(&routes, "example.com"), "none");
    routes.ignore_port_in_host = false;
    assert_string_equal(vhost_of(&routes, "a.example.com:8080"), "none");
    lt_map_fini(&routes.domains.exact);
}

/* Two indexes are searched as if they were one. */
static void test_domains_of_two(void **state)
{
    (void)state;
    struct lt_arena *lists = lt_arena_new(0, 0);
    static const lt_str of_a[] = {LT_STR("a.test"), LT_STR("*.b.test"), LT_STR("shop.*")};
    static const lt_str of_b[] = {LT_STR("x.b.test"), LT_STR("*.eu.b.test"), LT_STR("shop.eu.*"),
                                  LT_STR("*")};
    const struct px_vhost a = {.name = LT_STR("a"), .domains = of_a, .domain_count = 3},
                          b = {.name = LT_STR("b"), .domains = of_b, .domain_count = 4};
    const struct px_vhost *first[] = {&a}, *second[] = {&b}, *both[] = {&a, &b, &a};
    struct px_domains one = {0}, two = {0}, all = {0};
    lt_str twice;
    assert_int_equal(px_domains_make(lists, first, 1, false, &one, &twice), LT_OK);
    assert_int_equal(px_domains_make(lists, second, 1, false, &two, &twice), LT_OK);
    assert_int_equal(px_domains_make(lists, both, 3, false, &all, &twice), LT_E_EXISTS);
    assert_int_equal(twice.len, 6);
    const struct {
        const char *host;
        const struct px_vhost *who;
    } cases[] = {{"a.test", first[0]},       {"x.b.test", second[0]}, {"y.b.test", first[0]},
                 {"y.eu.b.test", second[0]}, {"shop.de", first[0]},   {"shop.eu.de", second[0]},
                 {"else", second[0]}};
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        lt_str host = lt_str_of(cases[i].host);
        assert_ptr_equal(px_domains_find(&one, &two, host), cases[i].who);
        assert_ptr_equal(px_domains_find(&two, &one, host), cases[i].who);
    }
    assert_null(px_domains_find(&one, NULL, LT_STR("else")));
    assert_ptr_equal(px_domains_owner(&one, LT_STR("*.B.test")), &a);
    assert_null(px_domains_owner(&one, LT_STR("y.b.test")));
    assert_null(px_domains_owner(&one, LT_STR("")));
    lt_map_fini(&one.exact);
    lt_map_fini(&two.exact);
    lt_map_fini(&all.exact);
    lt_arena_free(&lists);
}

/* --- routes --- */

/* Whether this one route takes the request. */
static bool takes(struct px_route route, const struct px_request_facts *facts)
{
    if (route.runtime_fraction_ppm == 0)
        route.runtime_fraction_ppm = 1000000;
    const struct px_vhost vhost = {.routes = &route, .route_count = 1};
    return px_route_find(&vhost, facts) != NULL;
}

static bool path_takes(px_path_kind kind, const char *path, const char *target)
{
    struct px_request_facts facts = get(target);
    return takes((struct px_route){.path_kind = kind, .path = lt_str_of(path)}, &facts);
}

static void test_paths(void **state)
{
    (void)state;
    assert_true(path_takes(PX_PATH_PREFIX, "/", "/any?thing"));
    assert_true(path_takes(PX_PATH_PREFIX, "/a", "/ab"));
    assert_false(path_takes(PX_PATH_PREFIX, "/a?", "/a?b"));
    assert_true(path_takes(PX_PATH_EXACT, "/a", "/a?b=c"));
    assert_false(path_takes(PX_PATH_EXACT, "/a", "/a/"));
    assert_false(path_takes(PX_PATH_EXACT, "/a", "/A"));
    assert_true(path_takes(PX_PATH_SEPARATED_PREFIX, "/a", "/a"));
    assert_true(path_takes(PX_PATH_SEPARATED_PREFIX, "/a", "/a/b"));
    assert_true(path_takes(PX_PATH_SEPARATED_PREFIX, "/a", "/a?b"));
    assert_false(path_takes(PX_PATH_SEPARATED_PREFIX, "/a", "/ab"));
    assert_false(path_takes(PX_PATH_CONNECT, "", "/"));
    struct px_request_facts facts = get("/Shop/Cart");
    assert_true(takes((struct px_route){.path_kind = PX_PATH_PREFIX,
                                        .path = LT_STR("/shop"),
                                        .ignore_case = true},
                      &facts));
    assert_true(takes((struct px_route){.path_kind = PX_PATH_EXACT,
                                        .path = LT_STR("/SHOP/cart"),
                                        .ignore_case = true},
                      &facts));
}

static void test_regex(void **state)
{
    (void)state;
    struct lt_regex *regex = NULL;
    assert_int_equal(lt_regex_new(LT_STR("/item/[0-9]+"), &regex, NULL), LT_OK);
    const struct px_route route = {.path_kind = PX_PATH_REGEX, .path_regex = regex};
    struct px_request_facts facts = get("/item/12?x=/item/a");
    assert_true(takes(route, &facts));
    facts = get("/item/12/more");
    assert_false(takes(route, &facts));
    lt_regex_free(&regex);
}

static bool header_takes(struct px_header_match match)
{
    struct px_request_facts facts = get("/");
    return takes((struct px_route){.path = LT_STR("/"), .headers = &match, .header_count = 1},
                 &facts);
}

static void test_headers(void **state)
{
    (void)state;
    struct px_header_match match = {.name = LT_STR("x-v"),
                                    .value = {.kind = PX_MATCH_EXACT, .text = LT_STR("a,b")}};
    assert_false(header_takes(match));
    match.invert = true;
    assert_false(header_takes(match)); /* absent fails both ways */
    match.treat_missing_as_empty = true;
    assert_true(header_takes(match));
    add("X-V", "a");
    add("x-v", "b");
    assert_true(header_takes(match));
    match.invert = false;
    assert_false(header_takes(match)); /* several values are judged one by one */
    match.value.text = LT_STR("b");
    assert_true(header_takes(match));
    match.invert = true;
    assert_false(header_takes(match));
    match = (struct px_header_match){
        .name = LT_STR("x-v"), .value = {.kind = PX_MATCH_PRESENT}, .present_value = true};
    assert_true(header_takes(match));
    match.invert = true;
    assert_false(header_takes(match));
    match = (struct px_header_match){
        .name = LT_STR("x-none"), .value = {.kind = PX_MATCH_PRESENT}, .present_value = false};
    assert_true(header_takes(match));
    match = (struct px_header_match){
        .name = LT_STR(":authority"),
        .value = {.kind = PX_MATCH_SUFFIX, .text = LT_STR("EXAMPLE.com"), .ignore_case = true}};
    assert_true(header_takes(match));
    match.value.ignore_case = false;
    assert_false(header_takes(match));
}

static void test_header_range(void **state)
{
    (void)state;
    struct px_header_match match = {
        .name = LT_STR("x-n"), .value = {.kind = PX_MATCH_RANGE}, .range_from = -5, .range_to = 10};
    static const struct {
        const char *value;
        bool is_inside;
    } cases[] = {{"-5", true},  {"9", true},   {"10", false},
                 {"-6", false}, {"1x", false}, {"", false}};
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        lt_headers_clear(&headers);
        add("x-n", cases[i].value);
        assert_int_equal(header_takes(match), cases[i].is_inside);
    }
}

static bool query_takes(const char *target, struct px_string_match value)
{
    const struct px_query_match match = {.name = LT_STR("v"), .value = value};
    struct px_request_facts facts = get(target);
    return takes((struct px_route){.path = LT_STR("/"), .queries = &match, .query_count = 1},
                 &facts);
}

static void test_queries(void **state)
{
    (void)state;
    const struct px_string_match two = {.kind = PX_MATCH_EXACT, .text = LT_STR("2")};
    const struct px_string_match any = {.kind = PX_MATCH_PRESENT};
    assert_true(query_takes("/?v=2", two));
    assert_true(query_takes("/?w=1&v=2&v=3", two));
    assert_false(query_takes("/?v=3&v=2", two));
    assert_false(query_takes("/?vv=2", two));
    assert_false(query_takes("/v=2", two));
    assert_true(query_takes("/?v", any));
    assert_true(query_takes("/?v=", any));
    assert_false(query_takes("/", any));
}

static void test_grpc_only(void **state)
{
    (void)state;
    const struct px_route route = {.path = LT_STR("/"), .grpc_only = true};
    struct px_request_facts facts = get("/");
    assert_false(takes(route, &facts));
    add("content-type", "application/grpc-web");
    assert_false(takes(route, &facts));
    lt_headers_clear(&headers);
    add("content-type", "application/grpc+proto");
    assert_true(takes(route, &facts));
}

static void test_first_route_wins(void **state)
{
    (void)state;
    const struct px_route routes[] = {
        {.name = LT_STR("one"), .path = LT_STR("/a"), .runtime_fraction_ppm = 1000000},
        {.name = LT_STR("two"), .path = LT_STR("/"), .runtime_fraction_ppm = 1000000},
    };
    const struct px_vhost vhost = {.routes = routes, .route_count = 2};
    struct px_request_facts facts = get("/ab");
    assert_string_equal(px_route_find(&vhost, &facts)->name.ptr, "one");
    facts = get("/b");
    assert_string_equal(px_route_find(&vhost, &facts)->name.ptr, "two");
}

static void test_fraction(void **state)
{
    (void)state;
    struct px_request_facts facts = get("/");
    const struct px_route tenth = {.path = LT_STR("/"), .runtime_fraction_ppm = 100000};
    int taken = 0;
    for (facts.random = 0; facts.random < 10000000; facts.random += 997)
        taken += takes(tenth, &facts) ? 1 : 0;
    assert_in_range(taken, 980, 1025);
}

static void test_weights(void **state)
{
    (void)state;
    const struct px_weighted_cluster clusters[] = {{.weight = 90}, {.weight = 0}, {.weight = 10}};
    struct lt_env env;
    struct lt_prng prng;
    lt_env_init(&env, "test");
    lt_prng_seed(&prng, &env);
    int hits[3] = {0};
    for (int i = 0; i < 100000; i++)
        hits[px_route_pick_weighted(clusters, 3, 100, lt_prng_next(&prng)) - clusters]++;
    assert_in_range(hits[0], 89000, 91000);
    assert_int_equal(hits[1], 0);
    assert_in_range(hits[2], 9000, 11000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_domains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_domains_of_two, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_regex, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_header_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_queries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_grpc_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_first_route_wins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fraction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
