/*
 * tests/unit/net/client_hello_test.c - the first message of a TLS client, however it is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/client_hello.h"

enum { BYTES_MAX = 64 * 1024 };

static char room[LT_CLIENT_HELLO_BYTES_MAX];

static void put(struct lt_buf *out, uint64_t number, int width)
{
    for (int shift = (width - 1) * 8; shift >= 0; shift -= 8) {
        char byte = (char)(number >> shift);
        assert_int_equal(lt_buf_append(out, &byte, 1), LT_OK);
    }
}

/* A ClientHello without its record: the name, "h2", and so many bytes of padding. */
static void put_hello(struct lt_buf *out, lt_str name, size_t padding)
{
    size_t extensions = 4 + 2 + 3 + name.len + 4 + 2 + 1 + 2 + 4 + padding;
    put(out, 1, 1);
    put(out, 2 + 32 + 1 + 2 + 2 + 1 + 1 + 2 + extensions, 3);
    put(out, 0x0303, 2);
    for (int i = 0; i < 32; i++)
        put(out, (uint64_t)i, 1);
    put(out, 0, 1);
    put(out, 2, 2);
    put(out, 0x1301, 2);
    put(out, 0x0100, 2);
    put(out, extensions, 2);
    put(out, 0, 2); /* server_name */
    put(out, 2 + 3 + name.len, 2);
    put(out, 3 + name.len, 2);
    put(out, 0, 1);
    put(out, name.len, 2);
    lt_buf_add(out, name);
    put(out, 16, 2); /* ALPN */
    put(out, 5, 2);
    put(out, 3, 2);
    put(out, 2, 1);
    lt_buf_add(out, LT_STR("h2"));
    put(out, 21, 2); /* padding */
    put(out, padding, 2);
    for (size_t i = 0; i < padding; i++)
        put(out, 0, 1);
}

/* In records of so many bytes each. */
static void put_records(struct lt_buf *out, lt_str message, size_t each)
{
    while (message.len > 0) {
        size_t len = LT_MIN(each, message.len);
        put(out, 22, 1);
        put(out, 0x0301, 2);
        put(out, len, 2);
        lt_buf_add(out, lt_str_slice(message, 0, len));
        message = lt_str_from(message, len);
    }
}

struct made {
    struct lt_buf message, bytes;
};

static lt_str make(struct made *made, lt_str name, size_t padding, size_t each)
{
    lt_buf_init(&made->message, BYTES_MAX);
    lt_buf_init(&made->bytes, BYTES_MAX);
    put_hello(&made->message, name, padding);
    put_records(&made->bytes, lt_buf_str(&made->message), each);
    return lt_buf_str(&made->bytes);
}

static void unmake(struct made *made)
{
    lt_buf_fini(&made->message);
    lt_buf_fini(&made->bytes);
}

static void test_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t each = 1; each < 200; each++) {
        struct made made;
        struct lt_client_hello hello;
        lt_str bytes = make(&made, LT_STR("shop.example"), 40, each);
        for (size_t len = 0; len < bytes.len; len++)
            assert_int_equal(lt_client_hello_parse(lt_str_slice(bytes, 0, len), room, &hello),
                             LT_AGAIN);
        assert_int_equal(lt_client_hello_parse(bytes, room, &hello), LT_OK);
        assert_true(lt_str_eqz(hello.server_name, "shop.example"));
        assert_int_equal(hello.alpn_count, 1);
        assert_true(lt_str_eqz(hello.alpn[0], "h2"));
        unmake(&made);
    }
}

static void test_what_is_none(void **state)
{
    (void)state;
    struct lt_client_hello hello;
    struct made made;
    static const char name[] = "a\0b";
    char longest[LT_SERVER_NAME_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    const lt_str bad[] = {lt_str_make(name, 3), lt_str_make(longest, sizeof(longest))};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        assert_int_equal(lt_client_hello_parse(make(&made, bad[i], 0, 4096), room, &hello),
                         LT_E_BAD);
        unmake(&made);
    }
    /* another record inside */
    lt_str bytes = make(&made, LT_STR("a"), 0, 20);
    ((char *)bytes.ptr)[25] = 23;
    assert_int_equal(lt_client_hello_parse(bytes, room, &hello), LT_E_BAD);
    unmake(&made);
    static const char *const others[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x02\x01\x01\x01",
                                         "\x16\x03\x01\x01\x01\x02"};
    for (size_t i = 0; i < LT_ARRAY_LEN(others); i++)
        assert_int_equal(lt_client_hello_parse(lt_str_of(others[i]), room, &hello), LT_E_BAD);
}

/* Before all of it has come, and without room for it. */
static void test_too_long(void **state)
{
    (void)state;
    struct lt_client_hello hello;
    struct made made;
    lt_str bytes = make(&made, LT_STR("a"), LT_CLIENT_HELLO_BYTES_MAX, 16384);
    assert_int_equal(lt_client_hello_parse(bytes, room, &hello), LT_E_LIMIT);
    assert_int_equal(lt_client_hello_parse(lt_str_slice(bytes, 0, 9), room, &hello), LT_E_LIMIT);
    unmake(&made);
    bytes = make(&made, LT_STR("a"), LT_CLIENT_HELLO_BYTES_MAX - 100, 16384);
    assert_int_equal(lt_client_hello_parse(bytes, room, &hello), LT_OK);
    unmake(&made);
}

static void test_names_to_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"shop.example", "shop.example"},
        {"Shop-1_x.EXAMPLE", "shop-1_x.example"},
        {"", ""},
        {"a b", "invalid:a_b"},
        {"a\r\nx-admin: 1", "invalid:a__x-admin__1"},
        {"xn--\xff", "invalid:xn--_"},
    };
    char text[LT_SERVER_NAME_TEXT_MAX];
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++)
        assert_true(lt_str_eqz(lt_server_name_text(lt_str_of(cases[i].name), text), cases[i].text));
    char longest[LT_SERVER_NAME_MAX + 10];
    memset(longest, '\n', sizeof(longest));
    assert_int_equal(lt_server_name_text(lt_str_make(longest, sizeof(longest)), text).len,
                     LT_SERVER_NAME_MAX + strlen("invalid:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_however_it_is_cut),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_names_to_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
