/*
 * http/grpc.c - message framing, and the texts of gRPC's header fields.
 * Start at: lt_grpc_reader_next().
 */
#include "http/grpc.h"

#include <stdio.h>

#include "http/url.h"

enum {
    KEEP_BYTES = 16 * 1024, /* of a reader between messages */
    TIMEOUT_DIGITS = 8,
};

const char *lt_grpc_code_name(uint32_t code)
{
    switch (code) {
#define LT_GRPC_CODE(id, number, name) \
    case number: \
        return name;
#include "http/grpc_code.def"
#undef LT_GRPC_CODE
    default: return "UNKNOWN";
    }
}

lt_grpc_code lt_grpc_code_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400: return LT_GRPC_INTERNAL;
    case 401: return LT_GRPC_UNAUTHENTICATED;
    case 403: return LT_GRPC_PERMISSION_DENIED;
    case 404: return LT_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return LT_GRPC_UNAVAILABLE;
    default: return LT_GRPC_UNKNOWN;
    }
}

lt_grpc_code lt_grpc_code_of_h2(uint32_t h2_code)
{
    switch (h2_code) {
    case 0x7: return LT_GRPC_UNAVAILABLE;        /* REFUSED_STREAM */
    case 0x8: return LT_GRPC_CANCELLED;          /* CANCEL */
    case 0xb: return LT_GRPC_RESOURCE_EXHAUSTED; /* ENHANCE_YOUR_CALM */
    case 0xc: return LT_GRPC_PERMISSION_DENIED;  /* INADEQUATE_SECURITY */
    default: return LT_GRPC_INTERNAL;
    }
}

/* --- framing --- */

void lt_grpc_reader_init(struct lt_grpc_reader *reader, size_t message_bytes_max)
{
    *reader = (struct lt_grpc_reader){.message_bytes_max = message_bytes_max};
    lt_buf_init(&reader->partial, message_bytes_max + LT_GRPC_PREFIX_BYTES);
}

void lt_grpc_reader_fini(struct lt_grpc_reader *reader)
{
    lt_buf_fini(&reader->partial);
}

static lt_rc check_prefix(const struct lt_grpc_reader *reader, const char *prefix, size_t *ret_len)
{
    const uint8_t *p = (const uint8_t *)prefix;
    size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (p[0] > 1)
        return LT_E_BAD;
    if (p[0] == 1)
        return LT_E_UNSUPPORTED;
    if (len > reader->message_bytes_max)
        return LT_E_LIMIT;
    *ret_len = len;
    return LT_OK;
}

/* Moves bytes from input until partial holds `want`; LT_AGAIN while it does not. */
static lt_rc gather(struct lt_grpc_reader *reader, lt_str *input, size_t want)
{
    size_t have = lt_buf_len(&reader->partial);
    if (have >= want)
        return LT_OK;
    lt_str head = lt_str_slice(*input, 0, want - have);
    LT_TRY(lt_buf_append_str(&reader->partial, head));
    *input = lt_str_from(*input, head.len);
    return have + head.len == want ? LT_OK : LT_AGAIN;
}

/* A whole message inside the input needs no copy. */
static lt_rc next_in_place(struct lt_grpc_reader *reader, lt_str *input, lt_str *ret_message)
{
    size_t len = 0;
    LT_TRY(check_prefix(reader, input->ptr, &len));
    if (input->len - LT_GRPC_PREFIX_BYTES < len)
        return LT_AGAIN;
    *ret_message = lt_str_slice(*input, LT_GRPC_PREFIX_BYTES, LT_GRPC_PREFIX_BYTES + len);
    *input = lt_str_from(*input, LT_GRPC_PREFIX_BYTES + len);
    return LT_OK;
}

lt_rc lt_grpc_reader_next(struct lt_grpc_reader *reader, lt_str *input, lt_str *ret_message)
{
    if (reader->has_message) {
        reader->has_message = false;
        lt_buf_clear(&reader->partial, KEEP_BYTES);
    }
    if (lt_buf_len(&reader->partial) == 0 && input->len >= LT_GRPC_PREFIX_BYTES) {
        lt_rc rc = next_in_place(reader, input, ret_message);
        if (rc != LT_AGAIN)
            return rc;
    }
    LT_TRY(gather(reader, input, LT_GRPC_PREFIX_BYTES));
    size_t len = 0;
    LT_TRY(check_prefix(reader, lt_buf_str(&reader->partial).ptr, &len));
    LT_TRY(gather(reader, input, LT_GRPC_PREFIX_BYTES + len));
    reader->has_message = true;
    *ret_message = lt_str_from(lt_buf_str(&reader->partial), LT_GRPC_PREFIX_BYTES);
    return LT_OK;
}

bool lt_grpc_reader_is_partial(const struct lt_grpc_reader *reader)
{
    return !reader->has_message && lt_buf_len(&reader->partial) > 0;
}

void lt_grpc_prefix(size_t len, char out[LT_GRPC_PREFIX_BYTES])
{
    LT_ASSERT(len <= UINT32_MAX);
    out[0] = 0;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (char)(uint8_t)(len >> (24 - 8 * i));
}

/* --- header values --- */

lt_rc lt_grpc_message_encode(lt_str text, struct lt_buf *buf)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];
        char out[3];
        lt_percent_put(out, text.ptr[i]);
        bool is_plain = c >= 0x20 && c <= 0x7e && c != '%';
        LT_TRY(lt_buf_append(buf, is_plain ? &text.ptr[i] : out, is_plain ? 1 : 3));
    }
    return LT_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

lt_str lt_grpc_message_decode(struct lt_arena *arena, lt_str value)
{
    char *out = lt_arena_bytes(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        int high = -1, low = -1;
        if (value.ptr[i] == '%' && i + 2 < value.len) {
            high = hex_digit(value.ptr[i + 1]);
            low = hex_digit(value.ptr[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            out[len++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[len++] = value.ptr[i];
        }
    }
    out[len] = '\0';
    return lt_str_make(out, len);
}

struct timeout_unit {
    char letter;
    uint64_t ns;
};

/* finest first */
static const struct timeout_unit UNITS[] = {
    {'n', 1},          {'u', 1000},        {'m', 1000000},
    {'S', 1000000000}, {'M', 60000000000}, {'H', 3600000000000},
};

lt_rc lt_grpc_timeout_parse(lt_str value, uint64_t *ret_ns)
{
    if (value.len < 2 || value.len > TIMEOUT_DIGITS + 1)
        return LT_E_BAD;
    uint64_t number = 0;
    LT_TRY(lt_str_to_u64(lt_str_slice(value, 0, value.len - 1), &number));
    for (size_t i = 0; i < LT_ARRAY_LEN(UNITS); i++) {
        if (UNITS[i].letter != value.ptr[value.len - 1])
            continue;
        uint64_t ns = 0;
        if (__builtin_mul_overflow(number, UNITS[i].ns, &ns) || ns > UINT64_MAX / 2)
            ns = UINT64_MAX / 2;
        *ret_ns = ns;
        return LT_OK;
    }
    return LT_E_BAD;
}

lt_str lt_grpc_timeout_format(uint64_t timeout_ns, char out[LT_GRPC_TIMEOUT_TEXT_MAX])
{
    static const uint64_t number_max = 99999999;
    for (size_t i = 0; i < LT_ARRAY_LEN(UNITS); i++) {
        uint64_t number = timeout_ns / UNITS[i].ns + (timeout_ns % UNITS[i].ns != 0);
        if (number > number_max && i + 1 < LT_ARRAY_LEN(UNITS))
            continue;
        number = LT_MIN(number, number_max);
        int len = snprintf(out, LT_GRPC_TIMEOUT_TEXT_MAX, "%llu%c", (unsigned long long)number,
                           UNITS[i].letter);
        return lt_str_make(out, (size_t)len);
    }
    LT_UNREACHABLE();
}

lt_rc lt_grpc_status_parse(lt_str value, uint32_t *ret_code)
{
    uint64_t number = 0;
    if (lt_str_to_u64(value, &number) != LT_OK || number > INT32_MAX)
        return LT_E_BAD;
    *ret_code = (uint32_t)number;
    return LT_OK;
}

bool lt_grpc_is_content_type(lt_str value)
{
    static const lt_str base = {"application/grpc", 16};
    if (value.len < base.len || !lt_str_case_eq(lt_str_slice(value, 0, base.len), base))
        return false;
    return value.len == base.len || value.ptr[base.len] == '+' || value.ptr[base.len] == ';';
}
