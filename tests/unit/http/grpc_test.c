/*
 * gRPC's framing and header values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/grpc.h"

static const lt_str TWO_MESSAGES = {"\0\0\0\0\x05hello\0\0\0\0\0\0\0\0\0\x03"
                                    "end",
                                    23};

/* Feeds the bytes in pieces of `chunk`; returns the messages joined by '|'. */
static lt_rc read_all(lt_str bytes, size_t chunk, size_t bytes_max, struct lt_buf *out,
                      bool *ret_partial)
{
    struct lt_grpc_reader reader;
    lt_grpc_reader_init(&reader, bytes_max);
    lt_rc rc = LT_AGAIN;
    while (bytes.len > 0 && rc == LT_AGAIN) {
        /* a heap copy, so that a read past the piece is seen */
        size_t len = LT_MIN(chunk, bytes.len);
        char *copy = malloc(len);
        memcpy(copy, bytes.ptr, len);
        lt_str piece = {copy, len}, message;
        while ((rc = lt_grpc_reader_next(&reader, &piece, &message)) == LT_OK) {
            lt_buf_add(out, message);
            lt_buf_add(out, LT_STR("|"));
        }
        if (rc == LT_AGAIN)
            assert_int_equal(piece.len, 0);
        free(copy);
        bytes = lt_str_from(bytes, len);
    }
    *ret_partial = lt_grpc_reader_is_partial(&reader);
    lt_grpc_reader_fini(&reader);
    return rc;
}

static void test_messages_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t chunk = 1; chunk <= TWO_MESSAGES.len; chunk++) {
        struct lt_buf out;
        lt_buf_init(&out, 1000);
        bool is_partial = true;
        assert_int_equal(read_all(TWO_MESSAGES, chunk, 100, &out, &is_partial), LT_AGAIN);
        assert_true(lt_str_eq(lt_buf_str(&out), LT_STR("hello||end|")));
        assert_false(is_partial);
        lt_buf_fini(&out);
    }
}

static void test_broken_frames(void **state)
{
    (void)state;
    static const struct {
        lt_str bytes;
        lt_rc rc;
    } cases[] = {
        {{"\1\0\0\0\1x", 6}, LT_E_UNSUPPORTED}, {{"\2\0\0\0\1x", 6}, LT_E_BAD},
        {{"\0\0\0\0\x65", 5}, LT_E_LIMIT},      {{"\0\xff\xff\xff\xff", 5}, LT_E_LIMIT},
        {{"\0\0\0\0\x64", 5}, LT_AGAIN},        {{"\0\0", 2}, LT_AGAIN},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct lt_buf out;
        lt_buf_init(&out, 1000);
        bool is_partial = false;
        assert_int_equal(read_all(cases[i].bytes, 100, 100, &out, &is_partial), cases[i].rc);
        assert_int_equal(read_all(cases[i].bytes, 1, 100, &out, &is_partial), cases[i].rc);
        if (cases[i].rc == LT_AGAIN)
            assert_true(is_partial);
        lt_buf_fini(&out);
    }
}

static void test_prefix(void **state)
{
    (void)state;
    char prefix[LT_GRPC_PREFIX_BYTES];
    lt_grpc_prefix(0x01020384, prefix);
    assert_memory_equal(prefix, "\0\x01\x02\x03\x84", 5);
}

static void test_message_text(void **state)
{
    (void)state;
    struct lt_buf buf;
    lt_buf_init(&buf, 1000);
    lt_str text = LT_STR("50% of \xc3\xa4\n~ done");
    assert_int_equal(lt_grpc_message_encode(text, &buf), LT_OK);
    assert_true(lt_str_eq(lt_buf_str(&buf), LT_STR("50%25 of %C3%A4%0A~ done")));
    struct lt_arena *arena = lt_arena_new(0, 0);
    assert_true(lt_str_eq(lt_grpc_message_decode(arena, lt_buf_str(&buf)), text));
    assert_true(lt_str_eq(lt_grpc_message_decode(arena, LT_STR("a%4")), LT_STR("a%4")));
    assert_true(lt_str_eq(lt_grpc_message_decode(arena, LT_STR("%zz%")), LT_STR("%zz%")));
    assert_true(lt_str_eq(lt_grpc_message_decode(arena, LT_STR("%c3%a4%41")), LT_STR("\xc3\xa4"
                                                                                     "A")));
    lt_arena_free(&arena);
    lt_buf_fini(&buf);
}

static void test_timeout_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        lt_rc rc;
        uint64_t ns;
    } cases[] = {
        {"1H", LT_OK, 3600000000000},
        {"2M", LT_OK, 120000000000},
        {"3S", LT_OK, 3000000000},
        {"4m", LT_OK, 4000000},
        {"5u", LT_OK, 5000},
        {"6n", LT_OK, 6},
        {"0S", LT_OK, 0},
        {"99999999H", LT_OK, UINT64_MAX / 2},
        {"100000000n", LT_E_BAD, 0},
        {"S", LT_E_BAD, 0},
        {"", LT_E_BAD, 0},
        {"1", LT_E_BAD, 0},
        {"1s", LT_E_BAD, 0},
        {"-1S", LT_E_BAD, 0},
        {"1 S", LT_E_BAD, 0},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        uint64_t ns = 0;
        assert_int_equal(lt_grpc_timeout_parse(lt_str_of(cases[i].text), &ns), cases[i].rc);
        assert_int_equal(ns, cases[i].ns);
    }
}

static void test_timeout_format_is_never_shorter(void **state)
{
    (void)state;
    static const uint64_t values[] = {
        0, 1, 99999999, 100000000, 1234567890, 3600000000000, 123456789012345, UINT64_MAX / 4};
    for (size_t i = 0; i < LT_ARRAY_LEN(values); i++) {
        char text[LT_GRPC_TIMEOUT_TEXT_MAX];
        uint64_t back = 0;
        assert_int_equal(lt_grpc_timeout_parse(lt_grpc_timeout_format(values[i], text), &back),
                         LT_OK);
        assert_true(back >= values[i]);
        assert_true(back - values[i] <= values[i] / 1000);
    }
    char text[LT_GRPC_TIMEOUT_TEXT_MAX];
    assert_true(lt_str_eq(lt_grpc_timeout_format(1500000000, text), LT_STR("1500000u")));
}

static void test_names_and_mappings(void **state)
{
    (void)state;
    assert_string_equal(lt_grpc_code_name(14), "UNAVAILABLE");
    assert_string_equal(lt_grpc_code_name(99), "UNKNOWN");
    assert_int_equal(lt_grpc_code_of_http(503), LT_GRPC_UNAVAILABLE);
    assert_int_equal(lt_grpc_code_of_http(418), LT_GRPC_UNKNOWN);
    assert_int_equal(lt_grpc_code_of_h2(7), LT_GRPC_UNAVAILABLE);
    uint32_t code = 0;
    assert_int_equal(lt_grpc_status_parse(LT_STR("16"), &code), LT_OK);
    assert_int_equal(code, 16);
    assert_int_equal(lt_grpc_status_parse(LT_STR("1x"), &code), LT_E_BAD);
    assert_true(lt_grpc_is_content_type(LT_STR("application/grpc")));
    assert_true(lt_grpc_is_content_type(LT_STR("application/grpc+proto")));
    assert_false(lt_grpc_is_content_type(LT_STR("application/grpc-web")));
    assert_false(lt_grpc_is_content_type(LT_STR("application/json")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_in_pieces_of_any_size),
        cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_message_text),
        cmocka_unit_test(test_timeout_parse),
        cmocka_unit_test(test_timeout_format_is_never_shorter),
        cmocka_unit_test(test_names_and_mappings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
