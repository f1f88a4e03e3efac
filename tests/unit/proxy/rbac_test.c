/*
 * tests/unit/proxy/rbac_test.c - authorization rules: compiled from what a control plane sends, judged over facts.
 */
#include "made_test.h"

#include "proxy/conf/rbac_index.h"
#include "proxy/filter/rbac.h"

static lt_rc compile(const char *fields)
{
    return compile_filter("rbac.v3.RBAC", fields);
}

static const struct px_rbac *rules_of(const char *action, const char *policies)
{
    lt_str fields = lt_arena_printf(arena, "rules: {action: %s, policies: {%s}}", action, policies);
    if (compile(fields.ptr) != LT_OK)
        fail_msg("%s\n%s", err.text, policies);
    const struct px_listener_conf *conf = (const struct px_listener_conf *)made;
    const struct px_rbac_filter *filter = conf->chains[0].hcm->filters[0].conf;
    return filter->rules;
}

/* --- facts --- */

static struct lt_addr destination, peer, client;
static struct lt_headers headers;
static struct px_request_facts http;
static struct px_rbac_facts facts;

static void given(const char *method, const char *path)
{
    assert_int_equal(lt_addr_parse(LT_STR("10.20.0.4"), 8080, &destination), LT_OK);
    assert_int_equal(lt_addr_parse(LT_STR("192.0.2.7"), 4000, &peer), LT_OK);
    assert_int_equal(lt_addr_parse(LT_STR("203.0.113.9"), 0, &client), LT_OK);
    lt_headers_init(&headers, arena, 0, 0);
    http = (struct px_request_facts){.method = lt_str_of(method),
                                     .scheme = LT_STR("http"),
                                     .authority = LT_STR("Shop.example:80"),
                                     .path = lt_str_of(path),
                                     .headers = &headers};
    facts = (struct px_rbac_facts){.http = &http,
                                   .path = lt_url_split(http.path).path,
                                   .destination = &destination,
                                   .direct_remote = &peer,
                                   .remote = &client,
                                   .server_name = LT_STR("web.shop")};
}

static void with_header(const char *name, const char *value)
{
    assert_int_equal(lt_headers_add(&headers, lt_str_of(name), lt_str_of(value)), LT_OK);
}

static void with_cert(const char *uri, const char *dns, const char *subject)
{
    struct lt_san *sans = lt_arena_make_n(arena, struct lt_san, 2);
    struct lt_cert *cert = lt_arena_make(arena, struct lt_cert);
    cert->sans = sans;
    if (uri != NULL)
        sans[cert->san_count++] = (struct lt_san){LT_SAN_URI, lt_str_of(uri)};
    if (dns != NULL)
        sans[cert->san_count++] = (struct lt_san){LT_SAN_DNS, lt_str_of(dns)};
    cert->subject = lt_str_of(subject);
    facts.is_tls = true;
    facts.peer = cert;
}

/* True when the policy p has these permissions and principals matches (an ALLOW rule allows). */
static bool matches(const char *permission, const char *principal)
{
    lt_str policies = lt_arena_printf(arena, "p: {permissions: [%s], principals: [%s]}", permission,
                                      principal);
    const struct px_rbac_policy *policy = NULL;
    bool allows = px_rbac_allows(rules_of("ALLOW", policies.ptr), &facts, &policy);
    assert_int_equal(allows, policy != NULL);
    return allows;
}

#define ANY "{any: true}"
#define may(permission) matches(permission, ANY)
#define is(principal) matches(ANY, principal)

/* --- tests --- */

static void test_permissions(void **state)
{
    (void)state;
    given("GET", "/items/7?x=/admin");
    assert_true(may(ANY));
    assert_true(may("{url_path: {path: {prefix: /items/}}}"));
    assert_true(may("{url_path: {path: {exact: /items/7}}}")); /* without the query */
    assert_false(may("{url_path: {path: {suffix: /admin}}}"));
    assert_true(may("{header: {name: ':path', string_match: {suffix: /admin}}}"));
    assert_true(may("{header: {name: ':method', string_match: {exact: GET}}}"));
    assert_true(may(
        "{header: {name: ':authority', string_match: {exact: 'shop.EXAMPLE:80', ignore_case: true}}}"));
    assert_true(may("{header: {name: host, string_match: {prefix: Shop}}}"));
    assert_true(may("{destination_port: 8080}"));
    assert_false(may("{destination_port: 80}"));
    assert_true(may("{destination_port_range: {start: 8080, end: 8081}}"));
    assert_false(may("{destination_port_range: {start: 8000, end: 8080}}"));
    assert_true(may("{destination_ip: {address_prefix: 10.20.0.0, prefix_len: 16}}"));
    assert_false(may("{destination_ip: {address_prefix: 10.21.0.0, prefix_len: 16}}"));
    assert_true(may("{requested_server_name: {suffix: .shop}}"));
    assert_true(may(
        "{and_rules: {rules: [{destination_port: 8080}, {any: true}, {url_path: {path: {contains: tem}}}]}}"));
    assert_false(may("{and_rules: {rules: [{destination_port: 8080}, {destination_port: 80}]}}"));
    assert_true(may("{or_rules: {rules: [{destination_port: 80}, {destination_port: 8080}]}}"));
    assert_false(
        may("{not_rule: {or_rules: {rules: [{destination_port: 80}, {destination_port: 8080}]}}}"));
    assert_true(may(
        "{uri_template: {name: t, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/items/*'}}}"));
    assert_false(may(
        "{uri_template: {name: t, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/items/*/x'}}}"));
}

/* Nobody hides a value behind another of the same name. */
static void test_header_twice(void **state)
{
    (void)state;
    given("GET", "/");
    with_header("X-Tier", "gold");
    with_header("x-tier", "blocked");
    assert_true(is("{header: {name: x-tier, string_match: {exact: blocked}}}"));
    assert_true(is("{header: {name: x-tier, string_match: {exact: gold}}}"));
    assert_false(is("{header: {name: x-tier, string_match: {exact: 'gold,blocked'}}}"));
    assert_false(
        is("{header: {name: x-tier, string_match: {exact: blocked}, invert_match: true}}"));
    assert_false(is("{header: {name: x-none, string_match: {exact: a}, invert_match: true}}"));
    assert_true(is(
        "{header: {name: x-none, string_match: {exact: a}, invert_match: true, treat_missing_header_as_empty: true}}"));
}

#define NAME(match) "{authenticated: {principal_name: {" match "}}}"

static void test_principals(void **state)
{
    (void)state;
    given("GET", "/");
    assert_true(is("{direct_remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}"));
    assert_true(is("{source_ip: {address_prefix: 192.0.2.7, prefix_len: 32}}"));
    assert_true(is("{remote_ip: {address_prefix: 203.0.113.0, prefix_len: 24}}"));
    assert_false(is("{remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}"));
    assert_true(is("{url_path: {path: {exact: /}}}"));
    /* without TLS nobody is anybody, and so whoever is not named is not that one */
    assert_false(is("{authenticated: {}}"));
    assert_false(is(NAME("safe_regex: {regex: '.*'}")));
    assert_true(is("{not_id: " NAME("safe_regex: {regex: '.+'}") "}"));
    with_cert("spiffe://cluster.local/ns/shop/sa/cart", "cart.shop", "CN=cart");
    assert_true(is("{authenticated: {}}"));
    assert_true(is(NAME("exact: 'spiffe://cluster.local/ns/shop/sa/cart'")));
    assert_true(is(NAME("safe_regex: {regex: '.*/ns/shop/.*'}")));
    assert_true(is(NAME("exact: cart.shop")));
    assert_true(is(NAME("exact: 'CN=cart'")));
    assert_false(is(NAME("safe_regex: {regex: '.*/ns/other/.*'}")));
    assert_false(
        is("{and_ids: {ids: [" NAME("prefix: spiffe") ", {not_id: " NAME("suffix: cart") "}]}}"));
}

static void test_metadata(void **state)
{
    (void)state;
    static const char payload[] =
        "{iss: id.example, groups: [buyers, testers], level: 3, ok: true, none: null, deep: {er: x}}";
    const struct lt_doc *doc = NULL;
    given("GET", "/");
    assert_int_equal(lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(payload)), NULL, &doc, &err),
                     LT_OK);
    px_meta_put(arena, &facts.meta, LT_STR("jwt"), LT_STR("payload"), *doc);
#define CLAIM(path, value) \
    "{metadata: {filter: jwt, path: [{key: payload}" path "], value: {" value "}}}"
    assert_true(is(CLAIM(", {key: iss}", "string_match: {exact: id.example}")));
    assert_true(is(CLAIM(
        ", {key: groups}",
        "or_match: {value_matchers: [{list_match: {one_of: {string_match: {exact: testers}}}}, "
        "{string_match: {exact: testers}}]}")));
    assert_false(
        is(CLAIM(", {key: groups}", "list_match: {one_of: {string_match: {exact: admins}}}")));
    assert_true(is(CLAIM(", {key: level}", "double_match: {exact: 3}")));
    assert_true(is(CLAIM(", {key: level}", "double_match: {range: {start: 1, end: 4}}")));
    assert_true(is(CLAIM(", {key: ok}", "bool_match: true")));
    assert_true(is(CLAIM(", {key: none}", "null_match: {}")));
    assert_true(is(CLAIM(", {key: deep}, {key: er}", "string_match: {exact: x}")));
    assert_true(is(CLAIM(", {key: iss}", "present_match: true")));
    assert_false(is(CLAIM(", {key: absent}", "present_match: true")));
    assert_false(is(CLAIM(", {key: iss}, {key: deeper}", "string_match: {prefix: ''}")));
    assert_true(is(
        "{metadata: {filter: other, path: [{key: a}], value: {string_match: {exact: b}}, invert: true}}"));
}

static void test_actions(void **state)
{
    (void)state;
    static const char policies[] =
        "b: {permissions: [{destination_port: 8080}], principals: [{any: true}]}, "
        "a: {permissions: [{url_path: {path: {exact: /a}}}], principals: [{any: true}]}";
    const struct px_rbac_policy *policy = NULL;
    given("GET", "/a");
    assert_true(px_rbac_allows(rules_of("ALLOW", policies), &facts, &policy));
    assert_true(lt_str_eqz(policy->id, "a")); /* in the order of their names */
    assert_false(px_rbac_allows(rules_of("DENY", policies), &facts, &policy));
    assert_true(px_rbac_allows(rules_of("LOG", policies), &facts, &policy));
    assert_non_null(policy);
    given("GET", "/b");
    destination = peer;
    lt_addr_set_port(&destination, 1);
    assert_false(px_rbac_allows(rules_of("ALLOW", policies), &facts, &policy));
    assert_null(policy);
    assert_true(px_rbac_allows(rules_of("DENY", policies), &facts, &policy));
    /* rules without policies: nobody is allowed, nobody is denied */
    assert_false(px_rbac_allows(rules_of("ALLOW", ""), &facts, &policy));
    assert_true(px_rbac_allows(rules_of("DENY", ""), &facts, &policy));
}

/* What cannot be evaluated counts against the request, through every NOT, but only where it decides. */
static void test_unknown_fails_closed(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "{matcher: {name: x}}",
        "{sourced_metadata: {metadata_source: ROUTE, metadata_matcher: {filter: f, path: [{key: k}], value: {bool_match: true}}}}",
        "{url_path: {path: {custom: {name: x}}}}",
        "{}",
    };
    const struct px_rbac_policy *policy = NULL;
    given("GET", "/a");
    for (size_t i = 0; i < LT_ARRAY_LEN(unknown); i++) {
        for (int is_inverted = 0; is_inverted < 2; is_inverted++) {
            lt_str rule = is_inverted ? lt_arena_printf(arena, "{not_rule: %s}", unknown[i])
                                      : lt_str_of(unknown[i]);
            lt_str policies = lt_arena_printf(
                arena, "p: {permissions: [%s], principals: [{any: true}]}", rule.ptr);
            assert_false(px_rbac_allows(rules_of("ALLOW", policies.ptr), &facts, &policy));
            assert_true(px_unhonoured_count(made) > 0);
            assert_false(px_rbac_allows(rules_of("DENY", policies.ptr), &facts, &policy));
        }
        assert_false(may(unknown[i]));
    }
    assert_false(px_rbac_allows(
        rules_of("ALLOW",
                 "p: {permissions: [{any: true}], principals: [{any: true}], condition: AAA=}"),
        &facts, &policy));
    assert_false(px_rbac_allows(
        rules_of("DENY",
                 "p: {permissions: [{any: true}], principals: [{any: true}], condition: AAA=}"),
        &facts, &policy));
    /* the part that is known decides */
    assert_true(may("{or_rules: {rules: [{matcher: {name: x}}, {destination_port: 8080}]}}"));
    assert_true(px_rbac_allows(
        rules_of(
            "DENY",
            "p: {permissions: [{and_rules: {rules: [{matcher: {name: x}}, {destination_port: 1}]}}], "
            "principals: [{any: true}]}"),
        &facts, &policy));
    assert_false(is("{filter_state: {key: envoy.other, string_match: {exact: x}}}"));
    assert_false(is("{not_id: {filter_state: {key: envoy.other, string_match: {exact: x}}}}"));
}

static void test_tcp_has_no_http(void **state)
{
    (void)state;
    given("GET", "/a");
    facts.http = NULL;
    facts.path = LT_STR_NULL;
    assert_false(may("{url_path: {path: {prefix: ''}}}"));
    assert_false(may("{header: {name: ':method', string_match: {exact: GET}}}"));
    assert_true(may("{not_rule: {header: {name: x, present_match: true}}}"));
    assert_true(may("{destination_port: 8080}"));
}

/* The plain match that stands in for a regular expression says what the expression says. */
static void test_simple_regex(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        ".*",   ".+",  "a",     "a\\.b",  ".*a",    "a.*", ".*a.*", ".*/ns/x/.*", "a\\.*",
        ".*.*", "a.+", "(a).*", ".*a\\.", ".*\\.*", "",    "[.]*",  ".*a|b.*",    "a b-c_.*"};
    static const char *const texts[] = {
        "",    "a",     "b",           "a.b",       "aXb", "ba",  "b/ns/x/c", "/ns/x/", "a\n",
        "\na", "a\xff", "\xff/ns/x/a", "a\xc3\xa4", "a.",  "a..", "..",       "a b-c_d"};
    for (size_t p = 0; p < LT_ARRAY_LEN(patterns); p++) {
        struct lt_regex *regex = NULL;
        if (patterns[p][0] == '\0')
            continue; /* Envoy takes no empty one */
        assert_int_equal(lt_regex_new(lt_str_of(patterns[p]), &regex, NULL), LT_OK);
        lt_str id = lt_arena_printf(arena, NAME("safe_regex: {regex: '%s'}"), patterns[p]);
        lt_str policies = lt_arena_printf(arena, "p: {permissions: [" ANY "], principals: [%s]}",
                                          id.ptr);
        const struct px_rbac *rbac = rules_of("ALLOW", policies.ptr);
        for (size_t t = 0; t < LT_ARRAY_LEN(texts); t++) {
            const struct px_rbac_policy *policy = NULL;
            given("GET", "/");
            with_cert(NULL, NULL, texts[t]);
            if (px_rbac_allows(rbac, &facts, &policy) !=
                lt_regex_matches(regex, lt_str_of(texts[t])))
                fail_msg("'%s' and '%s'", patterns[p], texts[t]);
        }
        lt_regex_free(&regex);
    }
}

static uint32_t seed = 1;

static uint32_t pick(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const char *const some_rules[] = {
    "{url_path: {path: {exact: '/a'}}}",
    "{url_path: {path: {exact: '/a/b'}}}",
    "{url_path: {path: {prefix: '/a'}}}",
    "{url_path: {path: {prefix: '/a/b'}}}",
    "{url_path: {path: {prefix: ''}}}",
    "{url_path: {path: {suffix: b}}}",
    "{destination_port: 8080}",
    "{destination_port: 1}",
    "{any: true}",
    "{matcher: {name: x}}",
    "{url_path: {path: {exact: /A, ignore_case: true}}}",
    "{header: {name: ':method', string_match: {exact: GET}}}",
};
static const char *const some_ids[] = {
    NAME("exact: 'spiffe://td/ns/x/sa/y'"),
    NAME("exact: CN=z"),
    NAME("safe_regex: {regex: '.*/ns/x/.*'}"),
    NAME("safe_regex: {regex: '.*/ns/w/.*'}"),
    NAME("safe_regex: {regex: '.+'}"),
    NAME("prefix: spiffe"),
    "{any: true}",
    "{authenticated: {}}",
    "{custom: {name: x}}",
    "{direct_remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}",
};

static void add_tree(struct lt_buf *out, const char *const *leaves, uint32_t count,
                     const char *word, const char *list, int depth)
{
    uint32_t kind = depth > 2 ? 0 : pick(5);
    if (kind < 2) {
        lt_buf_addf(out, "%s", leaves[pick(count)]);
    } else if (kind == 2) {
        lt_buf_addf(out, "{not_%s: ", word);
        add_tree(out, leaves, count, word, list, depth + 1);
        lt_buf_addf(out, "}");
    } else {
        lt_buf_addf(out, "{%s_%s: {%s: [", kind == 3 ? "and" : "or", list, list);
        for (uint32_t i = 0, n = 1 + pick(3); i < n; i++) {
            lt_buf_addf(out, i > 0 ? ", " : "");
            add_tree(out, leaves, count, word, list, depth + 1);
        }
        lt_buf_addf(out, "]}}");
    }
}

/* What the index finds is what judging every policy finds. */
static void test_index_is_no_more_than_speed(void **state)
{
    (void)state;
    static const char *const paths[] = {"/a", "/a/b", "/a/b/c", "/b", "/A", "/"};
    static const char *const uris[] = {"spiffe://td/ns/x/sa/y", "spiffe://td/ns/w/ns/x/a",
                                       "spiffe://td/ns/x", "other"};
    for (int round = 0; round < 200; round++) {
        struct lt_buf text;
        lt_buf_init(&text, 1 << 20);
        for (uint32_t i = 0, n = PX_RBAC_INDEX_MIN + pick(40); i < n; i++) {
            lt_buf_addf(&text, "%s'p%03u': {permissions: [", i > 0 ? ", " : "", i);
            add_tree(&text, some_rules, LT_ARRAY_LEN(some_rules), "rule", "rules", 0);
            lt_buf_addf(&text, "], principals: [");
            add_tree(&text, some_ids, LT_ARRAY_LEN(some_ids), "id", "ids", 0);
            lt_buf_addf(&text, "]}");
        }
        lt_str policies = lt_arena_str(arena, lt_buf_str(&text));
        lt_buf_fini(&text);
        const struct px_rbac *indexed = rules_of(pick(2) == 0 ? "ALLOW" : "DENY", policies.ptr);
        assert_non_null(indexed->index);
        struct px_rbac plain = *indexed;
        plain.index = NULL;
        for (int i = 0; i < 20; i++) {
            const struct px_rbac_policy *a = NULL, *b = NULL;
            given("GET", paths[pick(LT_ARRAY_LEN(paths))]);
            if (pick(4) > 0)
                with_cert(uris[pick(LT_ARRAY_LEN(uris))], pick(2) ? "d.x" : NULL,
                          pick(2) ? "CN=z" : "");
            facts.is_tls |= pick(2) == 0;
            bool with_index = px_rbac_allows(indexed, &facts, &a);
            bool without = px_rbac_allows(&plain, &facts, &b);
            assert_int_equal(with_index, without);
            assert_ptr_equal(a, b);
        }
    }
}

static const char *nested(int depth)
{
    struct lt_buf text;
    lt_buf_init(&text, 1 << 20);
    for (int i = 0; i < depth; i++)
        lt_buf_add(&text, LT_STR("{not_rule: "));
    lt_buf_add(&text, LT_STR(ANY));
    for (int i = 0; i < depth; i++)
        lt_buf_add(&text, LT_STR("}"));
    lt_str copy = lt_arena_str(arena, lt_buf_str(&text));
    lt_buf_fini(&text);
    return copy.ptr;
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *error;
        lt_rc rc;
    } rows[] = {
        {"rules: {policies: {p: {permissions: [{any: true}]}}}",
         "rules.policies.p.principals: ", LT_E_BAD},
        {"rules: {policies: {p: {principals: [{any: true}]}}}",
         "rules.policies.p.permissions: ", LT_E_BAD},
        {"rules: {policies: {p: {permissions: [{any: true}, {and_rules: {rules: []}}], principals: [{any: true}]}}}",
         "rules.policies.p.permissions[1]: an empty list", LT_E_BAD},
        {"rules: {policies: {p: {permissions: [{destination_port: 65536}], principals: [{any: true}]}}}",
         "rules.policies.p.permissions[0].destination_port: ", LT_E_BAD},
        {"rules: {policies: {p: {permissions: [{destination_ip: {address_prefix: x}}], principals: [{any: true}]}}}",
         "rules.policies.p.permissions[0].destination_ip: malformed", LT_E_BAD},
        {"rules: {policies: {p: {permissions: [{any: true}], principals: [{authenticated: {principal_name: {safe_regex: {regex: '('}}}}]}}}",
         "rules.policies.p.principals[0].authenticated.principal_name: ", LT_E_BAD},
        {"rules: {policies: {p: {permissions: [{any: true}], principals: [{metadata: {filter: f}}]}}}",
         "rules.policies.p.principals[0].metadata.value: ", LT_E_BAD},
        {"shadow_rules: {policies: {p: {}}}", "shadow_rules.policies.p.permissions: ", LT_E_BAD},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        assert_int_equal(compile(rows[i].fields), rows[i].rc);
        const char *at = "filter_chains[0].filters[0].http_filters[0].";
        if (strncmp(err.text, at, strlen(at)) != 0 ||
            strncmp(err.text + strlen(at), rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("'%s' instead of '%s'", err.text, rows[i].error);
    }
    given("GET", "/");
    assert_true(may(nested(32)));
    lt_str deep = lt_arena_printf(
        arena, "rules: {policies: {p: {permissions: [%s], principals: [{any: true}]}}}",
        nested(33));
    assert_int_equal(compile(deep.ptr), LT_E_BAD);
    assert_non_null(strstr(err.text, "nested deeper"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_permissions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_header_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_principals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metadata, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_actions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fails_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tcp_has_no_http, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_simple_regex, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_is_no_more_than_speed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
