/*
 * tests/fuzz/client_hello.c - fuzzes lt_client_hello_parse(): any bytes, whole and in every
 * prefix's place.
 */
#include <stdint.h>

#include "net/client_hello.h"

static char room[LT_CLIENT_HELLO_BYTES_MAX];

static bool is_inside(lt_str whole, lt_str part)
{
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

static void check_inside(lt_str whole, lt_str part)
{
    LT_ASSERT(part.len == 0 || is_inside(whole, part) ||
              is_inside(lt_str_make(room, sizeof(room)), part));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_str whole = lt_str_make(data, size);
    struct lt_client_hello hello;
    lt_rc rc = lt_client_hello_parse(whole, room, &hello);
    if (rc == LT_OK) {
        char text[LT_SERVER_NAME_TEXT_MAX];
        check_inside(whole, hello.server_name);
        LT_ASSERT(lt_server_name_text(hello.server_name, text).len <= sizeof(text));
        LT_ASSERT(hello.alpn_count <= LT_CLIENT_HELLO_ALPN_MAX);
        for (size_t i = 0; i < hello.alpn_count; i++)
            check_inside(whole, hello.alpn[i]);
    }
    /*
     * less of it can want more, or be refused for what is there already; it must not be refused
     * when the whole is good
     */
    lt_rc half = lt_client_hello_parse(lt_str_slice(whole, 0, size / 2), room, &hello);
    LT_ASSERT(rc != LT_OK || half == LT_OK || half == LT_AGAIN);
    return 0;
}
