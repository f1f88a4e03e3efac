/*
 * tests/unit/http/h2_head_test.c - header blocks of HTTP/2 into heads and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "http/h2_head.h"

static struct lt_arena *arena;
static struct lt_http_head head;

#define FIELDS(...) \
    &(struct lt_h2_fields) \
    { \
        .items = (const struct lt_h2_field[]){__VA_ARGS__}, \
        .count = sizeof((const struct lt_h2_field[]){__VA_ARGS__}) / sizeof(struct lt_h2_field) \
    }
#define F(n, v) \
    { \
        .name = {n, sizeof(n) - 1}, .value = { v, sizeof(v) - 1 } \
    }
#define REQUEST F(":method", "GET"), F(":scheme", "https"), F(":path", "/a?b")

static void assert_str(lt_str is, const char *wanted)
{
    assert_int_equal(is.len, strlen(wanted));
    assert_memory_equal(is.ptr, wanted, is.len);
}

static void fresh(uint32_t bytes_max)
{
    lt_arena_reset(arena);
    lt_http_head_init(&head, arena, 0, bytes_max);
}

static void test_request(void **state)
{
    (void)state;
    fresh(0);
    char text[] = "kept";
    struct lt_h2_field fields[] = {REQUEST, F(":authority", "h:80"), F("x-own", "    "),
                                   F("content-length", "12"), F("expect", "100-continue")};
    fields[4].value = lt_str_make(text, 4);
    struct lt_h2_fields all = {.items = fields, .count = LT_ARRAY_LEN(fields)};
    assert_int_equal(lt_h2_read_request(&all, false, &head), LT_OK);
    memset(text, 'X', 4); /* nothing is borrowed */
    assert_str(head.method, "GET");
    assert_int_equal(head.method_id, LT_METHOD_GET);
    assert_str(head.scheme, "https");
    assert_str(head.authority, "h:80");
    assert_str(head.path, "/a?b");
    assert_int_equal(head.body, LT_BODY_LENGTH);
    assert_int_equal(head.content_length, 12);
    assert_true(head.is_h2 && head.keep_alive && head.expects_continue && !head.wants_upgrade);
    assert_str(lt_headers_value_of(&head.headers, LT_STR("x-own")), "kept");
    assert_int_equal(head.headers.count, 3);
}

static void test_bodies(void **state)
{
    (void)state;
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "h")), true, &head), LT_OK);
    assert_int_equal(head.body, LT_BODY_NONE);
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "h")), false, &head),
                     LT_OK);
    assert_int_equal(head.body, LT_BODY_CHUNKED);
}

static void test_authority(void **state)
{
    (void)state;
    fresh(0); /* of a translated HTTP/1.1 request */
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F("host", "h1")), true, &head), LT_OK);
    assert_str(head.authority, "h1");
    assert_null(lt_headers_find(&head.headers, LT_H_HOST));
    fresh(0);
    assert_int_equal(
        lt_h2_read_request(FIELDS(REQUEST, F(":authority", "H"), F("host", "h")), true, &head),
        LT_OK);
    fresh(0); /* nobody behind us may judge or route by another name */
    assert_int_equal(
        lt_h2_read_request(FIELDS(REQUEST, F(":authority", "a"), F("host", "b")), true, &head),
        LT_OK);
    assert_str(head.authority, "a");
    assert_null(lt_headers_find(&head.headers, LT_H_HOST));
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "u@a")), true, &head),
                     LT_E_BAD);
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST), true, &head), LT_E_BAD);
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "a b")), true, &head),
                     LT_E_BAD);
}

static void test_cookies_are_one(void **state)
{
    (void)state;
    fresh(0);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "h"), F("cookie", "a=1"),
                                               F("x", "y"), F("cookie", "b=2"), F("cookie", "c=3")),
                                        true, &head),
                     LT_OK);
    assert_str(lt_headers_value(&head.headers, LT_H_COOKIE), "a=1; b=2; c=3");
    assert_int_equal(head.headers.count, 2);
}

/* A peer's table makes many crumbs of few bytes: they must not cost their square. */
static void test_crumbs_cost_what_they_are_long(void **state)
{
    (void)state;
    enum { CRUMBS = 90, BYTES = 600 };
    struct lt_h2_field fields[4 + CRUMBS] = {F(":method", "GET"), F(":scheme", "http"),
                                             F(":path", "/"), F(":authority", "h")};
    char crumb[BYTES + 1];
    memset(crumb, 'c', BYTES);
    crumb[BYTES] = '\0';
    for (size_t i = 0; i < CRUMBS; i++)
        fields[4 + i] = (struct lt_h2_field)F("cookie", crumb);
    fresh(0);
    const struct lt_h2_fields block = {fields, LT_ARRAY_LEN(fields), false};
    assert_int_equal(lt_h2_read_request(&block, true, &head), LT_OK);
    assert_int_equal(lt_headers_value(&head.headers, LT_H_COOKIE).len, CRUMBS * (BYTES + 2) - 2);
    assert_int_equal(head.headers.count, 1);
    assert_true(lt_arena_held(arena) < 4 * CRUMBS * BYTES);
}

static void test_limits(void **state)
{
    (void)state;
    fresh(40);
    assert_int_equal(lt_h2_read_request(FIELDS(REQUEST, F(":authority", "h"),
                                               F("x-long", "0123456789012345678901234567890")),
                                        true, &head),
                     LT_E_LIMIT);
    fresh(0);
    struct lt_h2_fields cut = *FIELDS(REQUEST, F(":authority", "h"));
    cut.is_over_limit = true;
    assert_int_equal(lt_h2_read_request(&cut, true, &head), LT_E_LIMIT);
}

static void test_response(void **state)
{
    (void)state;
    fresh(0);
    assert_int_equal(lt_h2_read_response(FIELDS(F(":status", "404"), F("content-length", "3")),
                                         false, false, &head),
                     LT_OK);
    assert_int_equal(head.status, 404);
    assert_int_equal(head.body, LT_BODY_LENGTH);
    fresh(0);
    assert_int_equal(lt_h2_read_response(FIELDS(F(":status", "200"), F("content-length", "3")),
                                         false, true, &head),
                     LT_OK);
    assert_int_equal(head.body, LT_BODY_NONE);
    assert_true(head.has_content_length);
    fresh(0);
    assert_int_equal(lt_h2_read_response(FIELDS(F(":status", "204")), false, false, &head), LT_OK);
    assert_int_equal(head.body, LT_BODY_NONE);
    fresh(0);
    assert_int_equal(lt_h2_read_response(FIELDS(F(":status", "2x0")), true, false, &head),
                     LT_E_BAD);
}

static void test_trailers(void **state)
{
    (void)state;
    fresh(0);
    assert_int_equal(lt_h2_read_trailers(FIELDS(F("grpc-status", "0"), F("content-length", "1"),
                                                F("host", "x"), F("x-t", "v")),
                                         &head.headers),
                     LT_OK);
    assert_int_equal(head.headers.count, 2);
    struct lt_h2_made made = lt_h2_make_trailers(arena, &head.headers);
    assert_int_equal(made.count, 2);
    assert_str(made.items[1].name, "x-t");
}

static void test_made_request(void **state)
{
    (void)state;
    fresh(0);
    head.method = LT_STR("POST");
    head.scheme = LT_STR("http");
    head.authority = LT_STR("h");
    head.path = LT_STR("/");
    head.has_content_length = true;
    head.content_length = 7;
    assert_int_equal(lt_headers_add(&head.headers, LT_STR("X-Mixed-Case"), LT_STR("1")), LT_OK);
    assert_int_equal(lt_headers_add(&head.headers, LT_STR("Host"), LT_STR("h")), LT_OK);
    assert_int_equal(lt_headers_add(&head.headers, LT_STR("Connection"), LT_STR("x")), LT_OK);
    assert_int_equal(lt_headers_add(&head.headers, LT_STR("Content-Length"), LT_STR("9")), LT_OK);
    assert_int_equal(lt_headers_add(&head.headers, LT_STR("Authorization"), LT_STR("s")), LT_OK);
    struct lt_h2_made made = lt_h2_make_request(arena, &head);
    static const char *const wanted[][2] = {
        {":method", "POST"},   {":scheme", "http"},    {":path", "/"},          {":authority", "h"},
        {"x-mixed-case", "1"}, {"authorization", "s"}, {"content-length", "7"},
    };
    assert_int_equal(made.count, LT_ARRAY_LEN(wanted));
    for (size_t i = 0; i < made.count; i++) {
        assert_str(made.items[i].name, wanted[i][0]);
        assert_str(made.items[i].value, wanted[i][1]);
    }
    assert_true(made.items[5].is_secret && !made.items[4].is_secret);
}

static void test_made_connect(void **state)
{
    (void)state;
    fresh(0);
    head.method = LT_STR("CONNECT");
    head.method_id = LT_METHOD_CONNECT;
    head.authority = LT_STR("h:1");
    head.scheme = LT_STR("https");
    head.path = LT_STR("/ws");
    assert_int_equal(lt_h2_make_request(arena, &head).count, 2);
    head.protocol = LT_STR("websocket");
    struct lt_h2_made made = lt_h2_make_request(arena, &head);
    assert_int_equal(made.count, 5);
    assert_str(made.items[4].name, ":protocol");
}

int main(void)
{
    arena = lt_arena_new(0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_authority),
        cmocka_unit_test(test_cookies_are_one),
        cmocka_unit_test(test_crumbs_cost_what_they_are_long),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_response),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_made_request),
        cmocka_unit_test(test_made_connect),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    lt_arena_free(&arena);
    return failed;
}
