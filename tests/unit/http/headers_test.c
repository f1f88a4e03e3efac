/*
 * tests/unit/http/headers_test.c - the list of header fields, and the words of http.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/headers.h"

#define assert_str(s, text) \
    do { \
        lt_str got_ = (s), want_ = lt_str_of(text); \
        assert_int_equal(got_.len, want_.len); \
        assert_memory_equal(got_.ptr, want_.ptr, want_.len); \
    } while (0)

static const struct {
    const char *name;
    char a, b, c, d;
    lt_header_id id;
} known[] = {
#define LT_HEADER(id, name, a, b, c, d) {name, a, b, c, d, LT_H_##id},
#include "http/headers.def"
#undef LT_HEADER
};

static void every_known_name_has_its_letters_and_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < LT_ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].name);
        assert_int_equal(known[i].a, known[i].name[0]);
        assert_int_equal(known[i].b, known[i].name[len / 3]);
        assert_int_equal(known[i].c, known[i].name[len * 3 / 4]);
        assert_int_equal(known[i].d, known[i].name[len - 1]);
        assert_int_equal(lt_header_id_of(lt_str_of(known[i].name)), known[i].id);
        assert_str(lt_header_name(known[i].id), known[i].name);

        char upper[64];
        for (size_t c = 0; c <= len; c++)
            upper[c] = known[i].name[c] >= 'a' && known[i].name[c] <= 'z'
                           ? (char)(known[i].name[c] - 32)
                           : known[i].name[c];
        assert_int_equal(lt_header_id_of(lt_str_of(upper)), known[i].id);
    }
}

/* Every name that differs from a known one in one character is unknown (or another known one). */
static void near_misses_are_unknown(void **state)
{
    (void)state;
    static const char token[] =
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (size_t i = 0; i < LT_ARRAY_LEN(known); i++) {
        char name[64];
        size_t len = strlen(known[i].name);
        for (size_t at = 0; at < len; at++) {
            for (const char *c = token; *c != '\0'; c++) {
                memcpy(name, known[i].name, len + 1);
                name[at] = *c;
                lt_header_id id = lt_header_id_of(lt_str_make(name, len));
                assert_int_equal(id == known[i].id, strcasecmp(name, known[i].name) == 0);
            }
        }
        assert_int_not_equal(lt_header_id_of(lt_str_make(known[i].name, len - 1)), known[i].id);
    }
    assert_int_equal(lt_header_id_of(LT_STR_NULL), LT_H_OTHER);
}

static void fields_keep_order_and_case(void **state)
{
    struct lt_headers *h = *state;
    assert_int_equal(lt_headers_add(h, LT_STR("X-One"), LT_STR("1")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("HOST"), LT_STR("a")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("x-oNE"), LT_STR("2")), LT_OK);
    assert_int_equal(h->count, 3);
    assert_int_equal(h->items[1].id, LT_H_HOST);
    assert_str(h->items[1].name, "HOST");
    struct lt_header *first = lt_headers_find_name(h, LT_STR("X-ONE"));
    assert_ptr_equal(first, &h->items[0]);
    assert_ptr_equal(lt_headers_find_next(h, first), &h->items[2]);
    assert_null(lt_headers_find_next(h, &h->items[2]));
    assert_str(lt_headers_value(h, LT_H_HOST), "a");
    assert_null(lt_headers_value(h, LT_H_TE).ptr);
    assert_null(lt_headers_value_of(h, LT_STR("x-two")).ptr);
    assert_int_equal(h->bytes, 5 + 1 + 4 + 1 + 5 + 1);
}

static void set_replaces_the_first_and_drops_the_rest(void **state)
{
    struct lt_headers *h = *state;
    assert_int_equal(lt_headers_set(h, LT_STR("a"), LT_STR("0")), LT_OK);
    assert_int_equal(lt_headers_add_id(h, LT_H_VIA, LT_STR("x")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("A"), LT_STR("1")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("b"), LT_STR("2")), LT_OK);
    assert_int_equal(lt_headers_add_id(h, LT_H_VIA, LT_STR("y")), LT_OK);
    assert_int_equal(lt_headers_set_id(h, LT_H_VIA, LT_STR("zz")), LT_OK);
    assert_int_equal(lt_headers_set(h, LT_STR("A"), LT_STR("9")), LT_OK);
    assert_int_equal(h->count, 3);
    assert_str(h->items[0].value, "9");
    assert_str(h->items[1].value, "zz");
    assert_str(h->items[2].name, "b");
    assert_int_equal(h->bytes, 2 + 5 + 2);
}

static void removal_keeps_order_and_counts_bytes(void **state)
{
    struct lt_headers *h = *state;
    static const char *const names[] = {"x-envoy-a", "te", "X-Envoy-Max-Retries", "b", "TE",
                                        "x-env",     "b"};
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++)
        assert_int_equal(lt_headers_add(h, lt_str_of(names[i]), LT_STR("v")), LT_OK);
    assert_int_equal(lt_headers_remove(h, LT_H_TE), 2);
    assert_int_equal(lt_headers_remove(h, LT_H_TE), 0);
    assert_int_equal(lt_headers_remove_prefix(h, LT_STR("x-envoy-")), 2);
    assert_null(lt_headers_find(h, LT_H_X_ENVOY_MAX_RETRIES));
    assert_int_equal(lt_headers_remove_name(h, LT_STR("B")), 2);
    assert_int_equal(h->count, 1);
    assert_str(h->items[0].name, "x-env");
    assert_int_equal(h->bytes, 6);
    lt_headers_remove_at(h, 0);
    assert_int_equal(h->count + h->bytes, 0);
    assert_int_equal(lt_headers_add_id(h, LT_H_TE, LT_STR("again")), LT_OK);
    assert_str(lt_headers_value(h, LT_H_TE), "again");
}

static void limits_refuse_and_leave_the_list_alone(void **state)
{
    struct lt_headers *h = *state;
    lt_headers_init(h, h->arena, 2, 10);
    assert_int_equal(lt_headers_add(h, LT_STR("a"), LT_STR("1234567890")), LT_E_LIMIT);
    assert_int_equal(lt_headers_add(h, LT_STR("a"), LT_STR("12345678")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("b"), LT_STR("1")), LT_E_LIMIT);
    assert_int_equal(lt_headers_set(h, LT_STR("a"), LT_STR("1234567890")), LT_E_LIMIT);
    assert_int_equal(lt_headers_set(h, LT_STR("a"), LT_STR("123456789")), LT_OK);
    assert_int_equal(lt_headers_set(h, LT_STR("a"), LT_STR("")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("b"), LT_STR("1")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("c"), LT_STR("")), LT_E_LIMIT);
    assert_int_equal(h->count, 2);

    struct lt_arena *tiny = lt_arena_new(64, 128);
    lt_headers_init(h, tiny, 0, 0);
    assert_int_equal(lt_headers_add(h, LT_STR("a"), LT_STR("1")), LT_E_LIMIT);
    lt_arena_free(&tiny);
}

static void many_values_join(void **state)
{
    struct lt_headers *h = *state;
    assert_null(lt_headers_joined(h, LT_STR("x")).ptr);
    assert_int_equal(lt_headers_add(h, LT_STR("x"), LT_STR("1")), LT_OK);
    assert_ptr_equal(lt_headers_joined(h, LT_STR("X")).ptr, h->items[0].value.ptr);
    assert_int_equal(lt_headers_add(h, LT_STR("Cookie"), LT_STR("a=1")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("X"), LT_STR("")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("cookie"), LT_STR("b=2")), LT_OK);
    assert_int_equal(lt_headers_add(h, LT_STR("x"), LT_STR("3")), LT_OK);
    assert_str(lt_headers_joined(h, LT_STR("x")), "1,,3");
    assert_str(lt_headers_joined(h, LT_STR("cookie")), "a=1; b=2");
}

static void owning_survives_the_source(void **state)
{
    struct lt_headers *h = *state;
    char source[] = "Namevalue";
    for (int i = 0; i < 60; i++) /* past the first array, too */
        assert_int_equal(lt_headers_add(h, lt_str_make(source, 4), lt_str_make(source + 4, 5)),
                         LT_OK);
    lt_headers_own(h);
    memset(source, 'z', sizeof(source));
    assert_int_equal(h->count, 60);
    for (int i = 0; i < 60; i++) {
        assert_str(h->items[i].name, "Name");
        assert_str(h->items[i].value, "value");
    }
}

static void lists_split_at_commas(void **state)
{
    (void)state;
    lt_str rest = LT_STR(" ,a ,\tb c\t,, d"), item;
    static const char *const want[] = {"a", "b c", "d"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(lt_http_list_next(&rest, &item));
        assert_str(item, want[i]);
    }
    assert_false(lt_http_list_next(&rest, &item));
    assert_true(lt_http_list_has(LT_STR("x, Close"), LT_STR("close")));
    assert_false(lt_http_list_has(LT_STR("x, closed"), LT_STR("close")));
    assert_false(lt_http_list_has(LT_STR_NULL, LT_STR("close")));
}

static void grammar_of_names_values_and_hosts(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        bool is_token = c != 0 && c < 128 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
        is_token |= (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        assert_int_equal(lt_http_is_token(lt_str_make(&byte, 1)), is_token);
        bool is_value = c == '\t' || (c >= 0x20 && c != 0x7f);
        assert_int_equal(lt_http_is_field_value(lt_str_make(&byte, 1)), is_value);
    }
    assert_false(lt_http_is_token(LT_STR("")));
    assert_true(lt_http_is_authority(LT_STR("")));
    assert_true(lt_http_is_authority(LT_STR("[fe80::1%25eth0]:80")));
    assert_false(lt_http_is_authority(LT_STR("a/b")));
    assert_false(lt_http_is_authority(LT_STR("a b")));
    assert_false(lt_http_is_authority(LT_STR("a?b")));
}

static void hosts(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",    "a",   "a.b:80", "a_b:", "1.2.3.4:65535", "[::1]", "[fe80::1%25eth0]:80",
        "::1", "a,b", "[::]:"};
    static const char *const bad[] = {"u@a",
                                      "a:b",
                                      "a:65536",
                                      "x:1:2",
                                      "[::1",
                                      "[::1]x",
                                      "[x]",
                                      "a[::1]",
                                      "a]",
                                      "a:-1",
                                      "[::1]:x",
                                      "[1.2.3.4]",
                                      "a:18446744073709551617"};
    for (size_t i = 0; i < LT_ARRAY_LEN(good); i++)
        assert_true(lt_http_is_host(lt_str_of(good[i])));
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_false(lt_http_is_host(lt_str_of(bad[i])));
}

static void methods_reasons_and_dates(void **state)
{
    (void)state;
    assert_true(lt_http_method_is_misspelled(LT_STR("get")));
    assert_true(lt_http_method_is_misspelled(LT_STR("Connect")));
    assert_false(lt_http_method_is_misspelled(LT_STR("GET")));
    assert_false(lt_http_method_is_misspelled(LT_STR("purge")));
    assert_false(lt_http_method_is_misspelled(LT_STR("gets")));
    assert_false(lt_http_method_is_misspelled(LT_STR("a-long-method")));
    assert_int_equal(lt_http_method_of(LT_STR("GET")), LT_METHOD_GET);
    assert_int_equal(lt_http_method_of(LT_STR("get")), LT_METHOD_OTHER);
    assert_int_equal(lt_http_method_of(LT_STR("CONNECT")), LT_METHOD_CONNECT);
    assert_int_equal(lt_http_method_of(LT_STR("PATCH")), LT_METHOD_PATCH);
    assert_int_equal(lt_http_method_of(LT_STR("")), LT_METHOD_OTHER);
    assert_string_equal(lt_http_reason(503), "Service Unavailable");
    assert_string_equal(lt_http_reason(799), "Unknown");
    char date[LT_HTTP_DATE_LEN + 1];
    lt_http_date_format(784111777ll * 1000000000, date);
    assert_string_equal(date, "Sun, 06 Nov 1994 08:49:37 GMT");
}

static struct lt_arena *arena; /* of the test that runs */
static struct lt_headers list;

static int setup(void **state)
{
    arena = lt_arena_new(0, 0);
    lt_headers_init(&list, arena, 0, 0);
    *state = &list;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

#define LIST_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#define SOME(X) X(LT_H_HOST) X(LT_H_X_ENVOY_INTERNAL) X(LT_H_TE) X(LT_H_X_REQUEST_ID)

static void a_set_is_removed_whole_and_nothing_else(void **state)
{
    (void)state;
    static const struct lt_header_set some = LT_HEADER_SET(SOME);
    struct lt_headers headers;
    lt_headers_init(&headers, arena, 1000, 0);
    for (int round = 0; round < 2; round++) {
        for (int id = LT_H_OTHER + 1; id < LT_H_COUNT; id++)
            assert_int_equal(lt_headers_add_id(&headers, (lt_header_id)id, LT_STR("v")), LT_OK);
        assert_int_equal(lt_headers_add(&headers, LT_STR("x-mine"), LT_STR("v")), LT_OK);
    }
    uint32_t before = headers.count;
    assert_true(lt_headers_may_have_any(&headers, &some));
    assert_int_equal(lt_headers_remove_set(&headers, &some), 8);
    assert_int_equal(headers.count, before - 8);
    assert_false(lt_headers_may_have_any(&headers, &some));
    assert_int_equal(lt_headers_remove_set(&headers, &some), 0);
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < headers.count; i++) {
        lt_header_id id = (lt_header_id)headers.items[i].id;
        assert_true(id != LT_H_HOST && id != LT_H_X_ENVOY_INTERNAL && id != LT_H_TE &&
                    id != LT_H_X_REQUEST_ID);
        bytes += (uint32_t)(headers.items[i].name.len + headers.items[i].value.len);
    }
    assert_int_equal(headers.bytes, bytes);
    assert_non_null(lt_headers_find_name(&headers, LT_STR("x-mine")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_name_has_its_letters_and_is_found),
        cmocka_unit_test(near_misses_are_unknown),
        LIST_TEST(fields_keep_order_and_case),
        LIST_TEST(set_replaces_the_first_and_drops_the_rest),
        LIST_TEST(removal_keeps_order_and_counts_bytes),
        LIST_TEST(many_values_join),
        LIST_TEST(owning_survives_the_source),
        LIST_TEST(limits_refuse_and_leave_the_list_alone),
        cmocka_unit_test(lists_split_at_commas),
        cmocka_unit_test(grammar_of_names_values_and_hosts),
        cmocka_unit_test(hosts),
        cmocka_unit_test(methods_reasons_and_dates),
        cmocka_unit_test_setup_teardown(a_set_is_removed_whole_and_nothing_else, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
