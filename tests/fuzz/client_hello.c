/*
 * tests/fuzz/client_hello.c - fuzzes lt_client_hello_parse(): any bytes, whole and in every
 * prefix's place.
 */
#include <stdint.h>

#include "net/client_hello.h"

static void check_inside(lt_str whole, lt_str part)
{
    if (part.len > 0)
        LT_ASSERT(part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_str whole = lt_str_make(data, size);
    struct lt_client_hello hello;
    lt_rc rc = lt_client_hello_parse(whole, &hello);
    if (rc == LT_OK) {
        check_inside(whole, hello.server_name);
        LT_ASSERT(hello.alpn_count <= LT_CLIENT_HELLO_ALPN_MAX);
        for (size_t i = 0; i < hello.alpn_count; i++)
            check_inside(whole, hello.alpn[i]);
    }
    /*
     * less of it can want more, or be refused for what is there already; it must not be refused
     * when the whole is good
     */
    lt_rc half = lt_client_hello_parse(lt_str_slice(whole, 0, size / 2), &hello);
    LT_ASSERT(rc != LT_OK || half == LT_OK || half == LT_AGAIN);
    return 0;
}
