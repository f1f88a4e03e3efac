/*
 * http/h1_write.c - HTTP/1 messages into bytes: heads, chunks, trailers.
 * What is written was checked by whoever put it into the list; framing and Connection are ours
 * alone.
 */
#include "http/h1.h"

#include <stdio.h>

/* Fields that the framing says, whatever is in the list. */
static bool is_ours(uint8_t id)
{
    return id == LT_H_CONTENT_LENGTH || id == LT_H_TRANSFER_ENCODING || id == LT_H_CONNECTION;
}

static char *put(char *to, const char *from, size_t len)
{
    return len == 0 ? to : mempcpy(to, from, len);
}

static char *put_lower(char *to, lt_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        *to++ = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return to;
}

/* Envoy's words: a letter behind anything that is neither letter nor digit is large. */
static char *put_proper(char *to, lt_str name)
{
    bool is_first = true;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool is_upper = c >= 'A' && c <= 'Z', is_lower = c >= 'a' && c <= 'z';
        if (is_first && is_lower)
            c = (char)(c & ~0x20);
        else if (!is_first && is_upper)
            c = (char)(c | 0x20);
        is_first = !is_upper && !is_lower && !(c >= '0' && c <= '9');
        *to++ = c;
    }
    return to;
}

static char *put_name(char *to, const struct lt_header *header, lt_h1_case name_case)
{
    switch (name_case) {
    case LT_H1_CASE_LOWER: break;
    case LT_H1_CASE_PROPER: return put_proper(to, header->name);
    case LT_H1_CASE_KEPT_PROPER:
        if (!header->is_received)
            return put_proper(to, header->name);
        return put(to, header->name.ptr, header->name.len);
    case LT_H1_CASE_KEPT: return put(to, header->name.ptr, header->name.len);
    }
    if (header->id == LT_H_OTHER)
        return put_lower(to, header->name);
    lt_str known = lt_header_name((lt_header_id)header->id);
    return put(to, known.ptr, known.len);
}

static char *put_decimal(char *to, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return put(to, digits + at, sizeof(digits) - at);
}

#define PUT(to, literal) put((to), "" literal, sizeof(literal) - 1)

/* ": " and CRLF. */
enum { FIELD_EXTRA = 4, FRAMING_MAX = 64 };

static size_t fields_size(const struct lt_headers *headers)
{
    return headers == NULL ? 0 : headers->bytes + (size_t)headers->count * FIELD_EXTRA;
}

static char *put_field(char *to, const struct lt_header *header, lt_h1_case name_case)
{
    to = put_name(to, header, name_case);
    to = PUT(to, ": ");
    to = put(to, header->value.ptr, header->value.len);
    return PUT(to, "\r\n");
}

static char *put_fields(char *to, const struct lt_headers *headers, lt_h1_case name_case)
{
    for (uint32_t i = 0; headers != NULL && i < headers->count; i++) {
        if (!is_ours(headers->items[i].id))
            to = put_field(to, &headers->items[i], name_case);
    }
    return to;
}

/* The name of a field that is ours, spelled like the others. */
static char *put_own_name(char *to, const struct lt_h1_framing *framing, lt_str lower, lt_str kept)
{
    bool is_proper = framing->name_case == LT_H1_CASE_PROPER ||
                     framing->name_case == LT_H1_CASE_KEPT_PROPER;
    if (framing->name_case >= LT_H1_CASE_KEPT && kept.len > 0)
        to = put(to, kept.ptr, kept.len);
    else
        to = is_proper ? put_proper(to, lower) : put(to, lower.ptr, lower.len);
    return PUT(to, ": ");
}

static lt_str kept_length_name(const struct lt_headers *headers,
                               const struct lt_h1_framing *framing)
{
    if (framing->name_case < LT_H1_CASE_KEPT || headers == NULL)
        return LT_STR_NULL;
    const struct lt_header *length = lt_headers_find(headers, LT_H_CONTENT_LENGTH);
    return length != NULL ? length->name : LT_STR_NULL;
}

static char *put_framing(char *to, const struct lt_headers *headers,
                         const struct lt_h1_framing *framing)
{
    if (framing->body == LT_BODY_LENGTH) {
        to = put_own_name(to, framing, LT_STR("content-length"),
                          kept_length_name(headers, framing));
        to = PUT(put_decimal(to, framing->content_length), "\r\n");
    } else if (framing->body == LT_BODY_CHUNKED) {
        to = put_own_name(to, framing, LT_STR("transfer-encoding"), framing->coding_name);
        to = PUT(to, "chunked\r\n");
    }
    if (framing->connection != NULL) {
        to = put_own_name(to, framing, LT_STR("connection"), LT_STR_NULL);
        to = PUT(put(to, framing->connection, strlen(framing->connection)), "\r\n");
    }
    return PUT(to, "\r\n");
}

/* Room for a head whose start line has start_size bytes at most. */
static lt_rc reserve(struct lt_buf *out, size_t start_size, const struct lt_headers *headers,
                     const struct lt_h1_framing *framing, char **ret_at)
{
    size_t connection = framing->connection != NULL ? strlen(framing->connection) : 0;
    return lt_buf_reserve(out, start_size + fields_size(headers) + FRAMING_MAX + connection,
                          ret_at);
}

lt_rc lt_h1_write_request(struct lt_buf *out, lt_str method, lt_str target, unsigned minor,
                          const struct lt_headers *headers, const struct lt_h1_framing *framing)
{
    LT_ASSERT(method.len > 0 && target.len > 0);
    char *begin = NULL;
    LT_TRY(
        reserve(out, method.len + target.len + sizeof("  HTTP/1.1\r\n"), headers, framing, &begin));
    char *to = put(begin, method.ptr, method.len);
    *to++ = ' ';
    to = put(to, target.ptr, target.len);
    to = minor != 0 ? PUT(to, " HTTP/1.1\r\n") : PUT(to, " HTTP/1.0\r\n");
    to = put_fields(to, headers, framing->name_case);
    to = put_framing(to, headers, framing);
    lt_buf_commit(out, (size_t)(to - begin));
    return LT_OK;
}

lt_rc lt_h1_write_response(struct lt_buf *out, unsigned status, lt_str reason, unsigned minor,
                           const struct lt_headers *headers, const struct lt_h1_framing *framing)
{
    LT_ASSERT(status >= 100 && status <= 999);
    if (reason.len == 0)
        reason = lt_str_of(lt_http_reason(status));
    char *begin = NULL;
    LT_TRY(reserve(out, reason.len + sizeof("HTTP/1.1 200 \r\n"), headers, framing, &begin));
    char *to = minor != 0 ? PUT(begin, "HTTP/1.1 ") : PUT(begin, "HTTP/1.0 ");
    *to++ = (char)('0' + status / 100);
    *to++ = (char)('0' + status / 10 % 10);
    *to++ = (char)('0' + status % 10);
    *to++ = ' ';
    to = put(to, reason.ptr, reason.len);
    to = PUT(to, "\r\n");
    to = put_fields(to, headers, framing->name_case);
    to = put_framing(to, headers, framing);
    lt_buf_commit(out, (size_t)(to - begin));
    return LT_OK;
}

size_t lt_h1_chunk_line(char out[LT_H1_CHUNK_LINE_MAX], uint64_t len)
{
    LT_ASSERT(len > 0);
    size_t digits = (size_t)(64 - __builtin_clzll(len) + 3) / 4;
    for (size_t i = digits; i-- > 0; len >>= 4)
        out[i] = "0123456789abcdef"[len & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}

lt_rc lt_h1_write_chunk(struct lt_buf *out, lt_str data)
{
    if (data.len == 0)
        return LT_OK;
    char line[LT_H1_CHUNK_LINE_MAX];
    size_t line_len = lt_h1_chunk_line(line, data.len);
    char *begin = NULL;
    LT_TRY(lt_buf_reserve(out, line_len + data.len + 2, &begin));
    char *to = put(begin, line, line_len);
    to = PUT(put(to, data.ptr, data.len), "\r\n");
    lt_buf_commit(out, (size_t)(to - begin));
    return LT_OK;
}

lt_rc lt_h1_write_last_chunk(struct lt_buf *out, const struct lt_headers *trailers)
{
    char *begin = NULL;
    LT_TRY(lt_buf_reserve(out, sizeof("0\r\n\r\n") + fields_size(trailers), &begin));
    char *to = PUT(begin, "0\r\n");
    for (uint32_t i = 0; trailers != NULL && i < trailers->count; i++) {
        if (lt_http_is_trailer((lt_header_id)trailers->items[i].id))
            to = put_field(to, &trailers->items[i], LT_H1_CASE_KEPT);
    }
    to = PUT(to, "\r\n");
    lt_buf_commit(out, (size_t)(to - begin));
    return LT_OK;
}
