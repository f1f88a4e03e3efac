/*
 * net/client_hello.c - a bounds-checked walk over a ClientHello.
 * Start at: lt_client_hello_parse().
 */
#include "net/client_hello.h"

enum {
    RECORD_HANDSHAKE = 22,
    MESSAGE_CLIENT_HELLO = 1,
    EXTENSION_SERVER_NAME = 0,
    EXTENSION_ALPN = 16,
    RECORD_BYTES_MAX = 16384 + 256,
};

/* Takes `len` bytes from the front; false when there are fewer. */
static bool take(lt_str *rest, size_t len, lt_str *ret)
{
    if (rest->len < len)
        return false;
    *ret = lt_str_slice(*rest, 0, len);
    *rest = lt_str_from(*rest, len);
    return true;
}

/* A big-endian number of 1 to 3 bytes. */
static bool take_number(lt_str *rest, size_t width, size_t *ret)
{
    lt_str bytes;
    if (!take(rest, width, &bytes))
        return false;
    *ret = 0;
    for (size_t i = 0; i < width; i++)
        *ret = *ret << 8 | (unsigned char)bytes.ptr[i];
    return true;
}

/* A vector with a length in front (RFC 8446 section 3.4). */
static bool take_vector(lt_str *rest, size_t width, lt_str *ret)
{
    size_t len = 0;
    return take_number(rest, width, &len) && take(rest, len, ret);
}

static bool read_server_name(lt_str body, struct lt_client_hello *hello)
{
    lt_str list, name;
    size_t type = 0;
    if (!take_vector(&body, 2, &list))
        return false;
    while (list.len > 0) {
        if (!take_number(&list, 1, &type) || !take_vector(&list, 2, &name))
            return false;
        if (type == 0 && hello->server_name.len == 0)
            hello->server_name = name;
    }
    return true;
}

static bool read_alpn(lt_str body, struct lt_client_hello *hello)
{
    lt_str list, protocol;
    if (!take_vector(&body, 2, &list))
        return false;
    while (list.len > 0) {
        if (!take_vector(&list, 1, &protocol) || protocol.len == 0)
            return false;
        if (hello->alpn_count < LT_CLIENT_HELLO_ALPN_MAX)
            hello->alpn[hello->alpn_count++] = protocol;
    }
    return true;
}

static bool read_extensions(lt_str list, struct lt_client_hello *hello)
{
    while (list.len > 0) {
        size_t type = 0;
        lt_str body;
        if (!take_number(&list, 2, &type) || !take_vector(&list, 2, &body))
            return false;
        if (type == EXTENSION_SERVER_NAME && !read_server_name(body, hello))
            return false;
        if (type == EXTENSION_ALPN && !read_alpn(body, hello))
            return false;
    }
    return true;
}

static bool read_hello(lt_str body, struct lt_client_hello *hello)
{
    lt_str skipped, extensions;
    bool is_good = take(&body, 2 + 32, &skipped)       /* legacy_version, random */
                   && take_vector(&body, 1, &skipped)  /* legacy_session_id */
                   && take_vector(&body, 2, &skipped)  /* cipher_suites */
                   && take_vector(&body, 1, &skipped); /* legacy_compression_methods */
    if (!is_good)
        return false;
    if (body.len == 0)
        return true; /* TLS 1.2 without extensions */
    return take_vector(&body, 2, &extensions) && read_extensions(extensions, hello);
}

lt_rc lt_client_hello_parse(lt_str bytes, struct lt_client_hello *ret_hello)
{
    struct lt_client_hello hello = {0};
    size_t type = 0, version = 0, record_len = 0, message = 0, message_len = 0;
    lt_str rest = bytes, body;
    if (!take_number(&rest, 1, &type))
        return LT_AGAIN;
    if (type != RECORD_HANDSHAKE)
        return LT_E_BAD;
    if (!take_number(&rest, 2, &version) || !take_number(&rest, 2, &record_len))
        return bytes.len > 1 && bytes.ptr[1] != 3 ? LT_E_BAD : LT_AGAIN;
    if (version >> 8 != 3 || record_len < 4 || record_len > RECORD_BYTES_MAX)
        return LT_E_BAD;
    if (rest.len > 0 && (unsigned char)rest.ptr[0] != MESSAGE_CLIENT_HELLO)
        return LT_E_BAD;
    if (!take(&rest, record_len, &body))
        return LT_AGAIN;
    LT_ASSERT(take_number(&body, 1, &message) && take_number(&body, 3, &message_len));
    if (message_len <= body.len && !read_hello(lt_str_slice(body, 0, message_len), &hello))
        return LT_E_BAD;
    *ret_hello = hello;
    return LT_OK;
}
