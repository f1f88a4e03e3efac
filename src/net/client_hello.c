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
    HEAD_BYTES = 4, /* type and length of a handshake message */
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
        if (type != 0 || hello->server_name.len != 0)
            continue;
        if (name.len > LT_SERVER_NAME_MAX || lt_str_find_char(name, '\0') >= 0)
            return false; /* no TLS library takes it */
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

/* LT_AGAIN: some of it is missing; what is there is no other's. */
static lt_rc take_record(lt_str *rest, lt_str *ret_body)
{
    size_t type = 0, version = 0, len = 0;
    lt_str at = *rest;
    if (!take_number(&at, 1, &type))
        return LT_AGAIN;
    if (type != RECORD_HANDSHAKE)
        return LT_E_BAD;
    if (!take_number(&at, 2, &version) || !take_number(&at, 2, &len))
        return rest->len > 1 && rest->ptr[1] != 3 ? LT_E_BAD : LT_AGAIN;
    if (version >> 8 != 3 || len == 0 || len > RECORD_BYTES_MAX)
        return LT_E_BAD;
    if (!take(&at, len, ret_body)) {
        *ret_body = at;
        return LT_AGAIN;
    }
    *rest = at;
    return LT_OK;
}

/* LT_OK: *ret_len bytes of message, with its head, are the hello. */
static lt_rc measure(lt_str message, size_t *ret_len)
{
    size_t type = 0, len = 0;
    lt_str rest = message;
    if (!take_number(&rest, 1, &type))
        return LT_AGAIN;
    if (type != MESSAGE_CLIENT_HELLO)
        return LT_E_BAD;
    if (!take_number(&rest, 3, &len))
        return LT_AGAIN;
    *ret_len = HEAD_BYTES + len;
    if (*ret_len > LT_CLIENT_HELLO_BYTES_MAX)
        return LT_E_LIMIT;
    return *ret_len <= message.len ? LT_OK : LT_AGAIN;
}

/*
 * The whole message with its head: in the first record, as good as always, else put together in
 * room. Whoever cuts it must not go without a name where names decide.
 */
static lt_rc gather(lt_str bytes, char *room, lt_str *ret_message)
{
    lt_str body = LT_STR_NULL, message = LT_STR_NULL;
    size_t len = 0;
    for (size_t records = 0;; records++) {
        lt_rc rc = take_record(&bytes, &body);
        if (records == 0)
            message = body;
        if (rc == LT_AGAIN) { /* it may be refused for what is there */
            lt_rc so_far = measure(message, &len);
            return so_far == LT_OK ? LT_AGAIN : so_far;
        }
        LT_TRY(rc);
        if (records > 0) {
            size_t part = LT_MIN(body.len, LT_CLIENT_HELLO_BYTES_MAX - message.len);
            memcpy(room + message.len, body.ptr, part);
            message.len += part;
        }
        rc = measure(message, &len);
        if (rc == LT_OK)
            *ret_message = lt_str_slice(message, HEAD_BYTES, len);
        if (rc != LT_AGAIN)
            return rc;
        if (records == 0) {
            message = lt_str_make(room, LT_MIN(body.len, (size_t)LT_CLIENT_HELLO_BYTES_MAX));
            memcpy(room, body.ptr, message.len);
        }
    }
}

lt_rc lt_client_hello_parse(lt_str bytes, char room[LT_CLIENT_HELLO_BYTES_MAX],
                            struct lt_client_hello *ret_hello)
{
    struct lt_client_hello hello = {0};
    lt_str message;
    LT_TRY(gather(bytes, room, &message));
    if (!read_hello(message, &hello))
        return LT_E_BAD;
    *ret_hello = hello;
    return LT_OK;
}

/* --- names --- */

static char plain(char c)
{
    char lower = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    bool is_plain = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                    c == '.' || c == '_';
    return is_plain ? lower : '\0';
}

lt_str lt_server_name_text(lt_str name, char out[LT_SERVER_NAME_TEXT_MAX])
{
    static const char mark[] = "invalid:";
    bool is_invalid = false;
    size_t len = 0;
    name = lt_str_slice(name, 0, LT_SERVER_NAME_MAX);
    for (size_t i = 0; i < name.len; i++)
        is_invalid |= plain(name.ptr[i]) == '\0';
    if (is_invalid)
        len = (size_t)((char *)mempcpy(out, mark, sizeof(mark) - 1) - out);
    for (size_t i = 0; i < name.len; i++)
        out[len++] = plain(name.ptr[i]) == '\0' ? '_' : plain(name.ptr[i]);
    return lt_str_make(out, len);
}
