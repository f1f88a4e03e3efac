/*
 * http/h1_scan.h - the byte scanners that heads and trailers share. For the room; the front door is
 * h1.h. A line is looked at only once it is there whole: a scanner that meets the end of the input
 * says "incomplete", and one that meets a wrong byte leaves it to the caller to ask whether the
 * line has ended. So the result never depends on where the network cut the bytes.
 */
#ifndef LT_HTTP_H1_SCAN_H
#define LT_HTTP_H1_SCAN_H

#include "http/h1.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* A position in the input; at == end: incomplete. */
struct h1_cursor {
    const char *at;
    const char *end;
};

static inline bool h1_is_token_char(char c)
{
    return (lt_http_chars[(unsigned char)c] & LT_HTTP_CHAR_TOKEN) != 0;
}

/* Moves to the first byte that may not stand in a field value: a control byte other than HTAB. */
static inline void h1_skip_value(struct h1_cursor *cursor)
{
    const char *at = cursor->at;
    const char *end = cursor->end;
#if defined(__SSE2__)
    const __m128i last_ctl = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'),
                  del = _mm_set1_epi8(0x7f);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i is_ctl = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_ctl), bytes);
        __m128i stops = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), is_ctl),
                                     _mm_cmpeq_epi8(bytes, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(stops);
        if (mask != 0) {
            cursor->at = at + __builtin_ctz(mask);
            return;
        }
    }
#endif
    while (at < end && (((unsigned char)*at >= 0x20 && *at != 0x7f) || *at == '\t'))
        at++;
    cursor->at = at;
}

/*
 * Moves to the first byte that no token has. Names are made of letters, digits and '-': those are
 * stepped over sixteen at a time, the rest of a token's characters one by one.
 */
static inline void h1_skip_token(struct h1_cursor *cursor)
{
    const char *at = cursor->at;
    const char *end = cursor->end;
#if defined(__SSE2__)
    const __m128i case_bit = _mm_set1_epi8(0x20), dash = _mm_set1_epi8('-');
    const __m128i a = _mm_set1_epi8('a'), last_letter = _mm_set1_epi8('z' - 'a');
    const __m128i zero = _mm_set1_epi8('0'), last_digit = _mm_set1_epi8(9);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(bytes, case_bit), a);
        __m128i digit = _mm_sub_epi8(bytes, zero);
        __m128i is_plain = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, last_letter), letter),
                                        _mm_cmpeq_epi8(_mm_min_epu8(digit, last_digit), digit));
        is_plain = _mm_or_si128(is_plain, _mm_cmpeq_epi8(bytes, dash));
        unsigned mask = (unsigned)_mm_movemask_epi8(is_plain) ^ 0xffff;
        if (mask != 0) {
            at += __builtin_ctz(mask);
            break;
        }
    }
#endif
    while (at < end && h1_is_token_char(*at))
        at++;
    cursor->at = at;
}

/* Moves to the first byte that is not visible ASCII. */
static inline void h1_skip_visible(struct h1_cursor *cursor)
{
    const char *at = cursor->at;
    const char *end = cursor->end;
#if defined(__SSE2__)
    const __m128i blank = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f);
    for (; end - at >= 16; at += 16) { /* signed: what is above 0x7f is below the blank */
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i fits = _mm_and_si128(_mm_cmpgt_epi8(bytes, blank), _mm_cmplt_epi8(bytes, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(fits) ^ 0xffff;
        if (mask != 0) {
            cursor->at = at + __builtin_ctz(mask);
            return;
        }
    }
#endif
    while (at < end && (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f)
        at++;
    cursor->at = at;
}

/* Steps over CRLF, or a bare LF; LT_AGAIN when the input ends before it is decided. */
static inline lt_rc h1_take_line_end(struct h1_cursor *cursor, bool allow_bare_lf)
{
    if (cursor->at == cursor->end)
        return LT_AGAIN;
    if (*cursor->at == '\n' && allow_bare_lf) {
        cursor->at++;
        return LT_OK;
    }
    if (*cursor->at != '\r')
        return LT_E_BAD;
    if (cursor->at + 1 == cursor->end)
        return LT_AGAIN;
    if (cursor->at[1] != '\n')
        return LT_E_BAD;
    cursor->at += 2;
    return LT_OK;
}

/*
 * One field line with its end (RFC 9112 section 5). LT_AGAIN: incomplete; LT_E_BAD: *ret_error. The
 * cursor moves on success only.
 */
static inline lt_rc h1_take_field(struct h1_cursor *cursor, bool allow_bare_lf, lt_str *ret_name,
                                  lt_str *ret_value, lt_h1_error *ret_error)
{
    struct h1_cursor c = *cursor;
    h1_skip_token(&c);
    if (c.at == c.end)
        return LT_AGAIN;
    if (LT_UNLIKELY(*c.at != ':' || c.at == cursor->at)) {
        bool is_fold = *cursor->at == ' ' || *cursor->at == '\t';
        *ret_error = is_fold ? LT_H1_E_HEADER_FOLD : LT_H1_E_HEADER_NAME;
        return LT_E_BAD;
    }
    *ret_name = lt_str_make(cursor->at, (size_t)(c.at - cursor->at));
    c.at++;
    while (c.at < c.end && (*c.at == ' ' || *c.at == '\t'))
        c.at++;
    const char *value = c.at;
    h1_skip_value(&c);
    const char *value_end = c.at;
    lt_rc rc = h1_take_line_end(&c, allow_bare_lf);
    if (LT_UNLIKELY(rc != LT_OK)) {
        bool is_line_end = rc == LT_E_BAD && (*c.at == '\r' || *c.at == '\n');
        *ret_error = is_line_end ? LT_H1_E_LINE_END : LT_H1_E_HEADER_VALUE;
        return rc;
    }
    while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t'))
        value_end--;
    *ret_value = lt_str_make(value, (size_t)(value_end - value));
    *cursor = c;
    return LT_OK;
}

/* What a head found about its body; h1_body.c. */
void lt_h1_body_begin(struct lt_h1_parser *parser, lt_http_body body, uint64_t length);

#endif
