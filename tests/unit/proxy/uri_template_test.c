/*
 * tests/unit/proxy/uri_template_test.c - path templates, against what Envoy's take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/regex.h"
#include "proxy/conf/uri_template.h"

static bool takes(const char *text, const char *path)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_uri_template parsed;
    struct lt_err err = {0};
    struct lt_regex *regex = NULL;
    if (px_uri_template_parse(arena, lt_str_of(text), &parsed, &err) != LT_OK ||
        lt_regex_new(parsed.regex, &regex, &err) != LT_OK)
        fail_msg("%s: %s", text, err.text);
    bool matches = lt_regex_matches(regex, lt_str_of(path));
    lt_regex_free(&regex);
    lt_arena_free(&arena);
    return matches;
}

static void test_match(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *yes[6], *no[6];
    } rows[] = {
        {"/users/*/orders",
         {"/users/7/orders", "/users/a%20b/orders"},
         {"/users/7/8/orders", "/users//orders", "/users/7/orders/"}},
        {"/users/**", {"/users/7", "/users/7/8", "/users/"}, {"/users", "/user/7"}},
        {"/users/{id}", {"/users/a", "/users/a*b", "/users/a~b"}, {"/users/", "/users/a/b"}},
        {"/a/{x=*}/b/{y=**}", {"/a/1/b/2/3", "/a/1/b/"}, {"/a/1/2/b/3"}},
        {"/**.m3u8", {"/x.m3u8", "/x/y.m3u8"}, {"/xm3u8", "/x.m3u8x"}},
        {"/x/**/y", {"/x/a/y", "/x/a/b/y", "/x//y"}, {"/x/y"}},
        {"/x/{v=a/*/b}", {"/x/a/1/b"}, {"/x/a/b"}},
        {"/a/{x}.html", {"/a/z.html"}, {"/a/zhtml"}},
        {"/a/*/", {"/a/b/"}, {"/a/b"}},
        {"/", {"/"}, {"/a"}},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        for (size_t j = 0; rows[i].yes[j] != NULL; j++) {
            if (!takes(rows[i].text, rows[i].yes[j]))
                fail_msg("%s does not take %s", rows[i].text, rows[i].yes[j]);
        }
        for (size_t j = 0; rows[i].no[j] != NULL; j++) {
            if (takes(rows[i].text, rows[i].no[j]))
                fail_msg("%s takes %s", rows[i].text, rows[i].no[j]);
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "a/b",
                                       "/a//b",
                                       "/{a}{b}",
                                       "/{1a}",
                                       "/{x=}",
                                       "/{x",
                                       "/{}",
                                       "/a?b",
                                       "/a b",
                                       "/{x}/{x}",
                                       "/a-*",
                                       "/***",
                                       "/{x=/a}",
                                       "/{x=a/}",
                                       "/{a}/{b}/{c}/{d}/{e}/{f}",
                                       "/{abcdefghijklmnopq}",
                                       "/\xc3\xa4"};
    struct lt_arena *arena = lt_arena_new(0, 0);
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct px_uri_template parsed;
        struct lt_err err = {0};
        if (px_uri_template_parse(arena, lt_str_of(rows[i]), &parsed, &err) == LT_OK)
            fail_msg("'%s' is taken", rows[i]);
        assert_true(err.text[0] != '\0');
    }
    lt_arena_free(&arena);
}

static void test_rewrite(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_uri_template parsed;
    lt_str text;
    assert_int_equal(px_uri_template_parse(arena, LT_STR("/{lang}/{rest=**}"), &parsed, NULL),
                     LT_OK);
    assert_int_equal(
        px_uri_template_substitution(arena, &parsed, LT_STR("/v2/{rest}/{lang}.html"), &text, NULL),
        LT_OK);
    assert_true(lt_str_eqz(text, "/v2/\\2/\\1.html"));
    static const char *const refused[] = {"", "x", "/{other}", "/{lang", "/a*", "/{lang}{"};
    for (size_t i = 0; i < LT_ARRAY_LEN(refused); i++) {
        if (px_uri_template_substitution(arena, &parsed, lt_str_of(refused[i]), &text, NULL) ==
            LT_OK)
            fail_msg("'%s' is taken", refused[i]);
    }
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rewrite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
