/*
 * tests/unit/http/url_test.c - splitting, decoding and normal forms; the answers of Envoy 1.40 for
 * the same paths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/url.h"

static void check(lt_str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void parts_are_split(void **state)
{
    (void)state;
    struct lt_url_parts parts = lt_url_split(LT_STR("/a?b=c?d#e?f"));
    check(parts.path, "/a");
    check(parts.query, "b=c?d");
    check(parts.fragment, "e?f");
    parts = lt_url_split(LT_STR("/a"));
    assert_false(parts.has_query || parts.has_fragment);
    parts = lt_url_split(LT_STR("/a?"));
    assert_true(parts.has_query);
    assert_int_equal(parts.query.len, 0);
}

static void hosts_lose_port_and_brackets(void **state)
{
    (void)state;
    static const struct {
        const char *authority, *host;
    } cases[] = {
        {"a.example", "a.example"},
        {"a.example:80", "a.example"},
        {"a.example:x", "a.example:x"},
        {"a:70000", "a:70000"},
        {"a.example:", "a.example:"},
        {"10.0.0.1:80", "10.0.0.1"},
        {"[::1]:80", "::1"},
        {"[::1]", "::1"},
        {"", ""},
        {":80", ""},
        {"[", "["},
        {"]", "]"},
        {"[]", ""},
        {"[a]b:1", "[a]b"},
        {"a:1:2", "a:1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(lt_url_host(lt_str_of(cases[i].authority)), cases[i].host);
}

struct normal_case {
    const char *in;
    const char *out; /* NULL: rejected */
};

static void check_normal(const struct normal_case *cases, size_t count,
                         struct lt_url_normal_opts opts)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    for (size_t i = 0; i < count; i++) {
        lt_str out;
        lt_url_outcome outcome = lt_url_normalize(lt_str_of(cases[i].in), &opts, arena, &out);
        if (cases[i].out == NULL) {
            assert_int_equal(outcome, LT_URL_REJECT);
            continue;
        }
        check(out, cases[i].out);
        bool is_same = strcmp(cases[i].in, cases[i].out) == 0;
        assert_int_equal(outcome == LT_URL_UNCHANGED, is_same);
        lt_str again; /* a normal form is its own normal form */
        assert_int_equal(lt_url_normalize(out, &opts, arena, &again), LT_URL_UNCHANGED);
        lt_arena_reset(arena);
    }
    lt_arena_free(&arena);
}

static void dot_segments_and_escapes_as_envoy(void **state)
{
    (void)state;
    static const struct normal_case cases[] = {
        {"/", "/"},
        {"/a/b?c=../d", "/a/b?c=../d"},
        {"/a\\b/../c", "/a/c"},
        {"/a/b/../%2e%2E/./c%7e%41%2f//x/..?a=../b", "/c~A%2f//?a=../b"},
        {"/../../..", "/"},
        {"/a/..", "/"},
        {"/a/.", "/a/"},
        {"/a//../b", "/a/b"},
        {"/a/...", "/a/..."},
        {"/.a/..b/c.", "/.a/..b/c."},
        {"/a%zz%4", "/a%zz%4"},
        {"/a%", "/a%"},
        {"/a%00b", NULL},
        {"/a%20b%c3%a4%3b", "/a%20b%c3%a4%3b"},
        {"/\"<>{}|^`", "/%22%3C%3E%7B%7D%7C%5E%60"},
        {"/a#b", NULL},
        {"/a?b#c", NULL},
        {"a", NULL},
        {"", NULL},
        {"?a", NULL},
        {"*", NULL},
        {"/%2e%2e/%2e%2e/etc", "/etc"},
        {"/a/%2e", "/a/"},
        {"\\..\\a", "/a"},
        {"/a/b/c/../../../../d/", "/d/"},
        {"//a", "//a"},
        {"/%252e%252e/a", "/%252e%252e/a"},
        {"/%7%32", "/%2572"}, /* what is decoded once must not decode again */
        {"/%%37%32", "/%2572"},
        {"/%%372", "/%2572"},
        {"/a%7%32%2e", "/a%2572."},
        {"/%%30%30", "/%2500"},
        {"/%2%65/%2%65%2%65/x", "/%252e/%252e%252e/x"},
        {"/%zz%41", "/%zzA"},
        {"/a%%41", "/a%A"},
        {"/%25%32", "/%252"},
        {"/%4%%31", "/%4%1"},
    };
    check_normal(cases, LT_ARRAY_LEN(cases), (struct lt_url_normal_opts){.normalize = true});
}

static void slashes_merge(void **state)
{
    (void)state;
    static const struct normal_case cases[] = {
        {"//a///b//?x=//y", "/a/b/?x=//y"},
        {"/a/b", "/a/b"},
        {"///", "/"},
        {"/a//../b", "/a/b"},
        {"/a/%2e//b", "/a/b"},
        {"/a/b/..;x//c", "/a/c"},
        {"/a/%2e%2e;/.;y/..;", "/"},
        {"/a/...;/;/.;", "/a/...;/;/"},
    };
    check_normal(cases, LT_ARRAY_LEN(cases),
                 (struct lt_url_normal_opts){.normalize = true, .merge_slashes = true});
}

static void escaped_slashes_obey_their_setting(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_url_normal_opts opts = {.normalize = true, .merge_slashes = true};
    lt_str path = LT_STR("/a%2Fb%5c..%2fc?%2f"), out;
    assert_int_equal(lt_url_normalize(path, &opts, arena, &out), LT_URL_UNCHANGED);
    opts.escaped_slashes = LT_URL_SLASHES_REJECT;
    assert_int_equal(lt_url_normalize(path, &opts, arena, &out), LT_URL_REJECT);
    assert_int_equal(lt_url_normalize(LT_STR("/a?%2f"), &opts, arena, &out), LT_URL_UNCHANGED);
    opts.escaped_slashes = LT_URL_SLASHES_UNESCAPE_AND_REDIRECT;
    assert_int_equal(lt_url_normalize(path, &opts, arena, &out), LT_URL_REDIRECT);
    check(out, "/a/c?%2f");
    assert_int_equal(lt_url_normalize(LT_STR("/a/../b"), &opts, arena, &out), LT_URL_CHANGED);
    opts.escaped_slashes = LT_URL_SLASHES_UNESCAPE_AND_FORWARD;
    assert_int_equal(lt_url_normalize(path, &opts, arena, &out), LT_URL_CHANGED);
    check(out, "/a/c?%2f");
    lt_arena_free(&arena);
}

static void no_options_change_nothing(void **state)
{
    (void)state;
    struct lt_url_normal_opts opts = {0};
    lt_str out;
    assert_int_equal(lt_url_normalize(LT_STR("*"), &opts, NULL, &out), LT_URL_UNCHANGED);
    assert_int_equal(lt_url_normalize(LT_STR("/a/../%2e//"), &opts, NULL, &out), LT_URL_UNCHANGED);
}

static void no_room_is_a_rejection(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(16, 16);
    struct lt_url_normal_opts opts = {.normalize = true};
    lt_str out;
    assert_int_equal(lt_url_normalize(LT_STR("/aaaaaaaaaaaaa/../b"), &opts, arena, &out),
                     LT_URL_REJECT);
    lt_arena_free(&arena);
}

static void queries_decode(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_str query = LT_STR("a=1&&b&c=%41+%2B=x&d=%zz&a=2&=n");
    check(lt_url_query_get(query, "a", arena), "1");
    check(lt_url_query_get(query, "b", arena), "");
    check(lt_url_query_get(query, "c", arena), "A +=x");
    assert_null(lt_url_query_get(query, "d", arena).ptr);
    assert_null(lt_url_query_get(query, "e", arena).ptr);
    check(lt_url_query_get(query, "", arena), "n");
    lt_str out;
    assert_int_equal(lt_url_decode(LT_STR("a%00"), false, arena, &out), LT_E_BAD);
    assert_int_equal(lt_url_decode(LT_STR("a%1"), false, arena, &out), LT_E_BAD);
    assert_int_equal(lt_url_decode(LT_STR("+%e4"), false, arena, &out), LT_OK);
    check(out, "+\xe4");
    lt_arena_free(&arena);
}

static void queries_are_edited(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    check(lt_url_query_remove(LT_STR("/p?a=1&b=2&a=3"), LT_STR("a"), arena), "/p?b=2");
    check(lt_url_query_remove(LT_STR("/p?a=1"), LT_STR("a"), arena), "/p");
    check(lt_url_query_remove(LT_STR("/p"), LT_STR("a"), arena), "/p");
    check(lt_url_query_set(LT_STR("/p?a=1&b&a=3"), LT_STR("a"), LT_STR("9"), arena), "/p?a=9&b=");
    check(lt_url_query_set(LT_STR("/p?b=2"), LT_STR("a"), LT_STR(""), arena), "/p?b=2&a=");
    check(lt_url_query_set(LT_STR("/p"), LT_STR("a"), LT_STR("9"), arena), "/p?a=9");
    check(lt_url_query_add(LT_STR("/p?a=1"), LT_STR("a"), LT_STR("2"), arena), "/p?a=1&a=2");
    check(lt_url_query_add(LT_STR("/p"), LT_STR("a"), LT_STR("2"), arena), "/p?a=2");
    lt_arena_free(&arena);
}

static void absolute_urls_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_good, is_https;
        const char *authority, *path;
    } rows[] = {
        {"http://a.test", true, false, "a.test", ""},
        {"HTTPS://a.test:8443/x/y?z=1#end", true, true, "a.test:8443", "/x/y?z=1"},
        {"http://[::1]:80?q", true, false, "[::1]:80", "?q"},
        {"http://a.test#/x", true, false, "a.test", ""},
        {"/x", false, false, "", ""},
        {"a.test/x", false, false, "", ""},
        {"ftp://a.test/", false, false, "", ""},
        {"http://", false, false, "", ""},
        {"http:///x", false, false, "", ""},
        {"http://me@a.test/", false, false, "", ""},
        {"http://a.test/x y", false, false, "", ""},
        {"http://a.test/x\\y", false, false, "", ""},
        {"http://a.test/\xff", false, false, "", ""},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct lt_url url;
        bool is_good = lt_url_absolute(lt_str_of(rows[i].text), &url);
        if (is_good != rows[i].is_good)
            fail_msg("%s: %d", rows[i].text, is_good);
        if (is_good &&
            (url.is_https != rows[i].is_https || !lt_str_eqz(url.authority, rows[i].authority) ||
             !lt_str_eqz(url.path, rows[i].path)))
            fail_msg("%s: '%.*s' '%.*s'", rows[i].text, LT_STR_ARG(url.authority),
                     LT_STR_ARG(url.path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_split),
        cmocka_unit_test(hosts_lose_port_and_brackets),
        cmocka_unit_test(dot_segments_and_escapes_as_envoy),
        cmocka_unit_test(slashes_merge),
        cmocka_unit_test(escaped_slashes_obey_their_setting),
        cmocka_unit_test(no_options_change_nothing),
        cmocka_unit_test(no_room_is_a_rejection),
        cmocka_unit_test(queries_decode),
        cmocka_unit_test(queries_are_edited),
        cmocka_unit_test(absolute_urls_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
