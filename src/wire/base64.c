/*
 * wire/base64.c - base64 (RFC 4648).
 */
#include "wire/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

lt_str lt_base64_encode(struct lt_arena *arena, lt_str bytes)
{
    size_t len = (bytes.len + 2) / 3 * 4;
    char *out = lt_arena_bytes(arena, len + 1);
    char *at = out;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t word = (uint32_t)(uint8_t)bytes.ptr[i] << 16 |
                        (left > 1 ? (uint32_t)(uint8_t)bytes.ptr[i + 1] << 8 : 0) |
                        (left > 2 ? (uint32_t)(uint8_t)bytes.ptr[i + 2] : 0);
        *at++ = alphabet[word >> 18];
        *at++ = alphabet[word >> 12 & 63];
        *at++ = left > 1 ? alphabet[word >> 6 & 63] : '=';
        *at++ = left > 2 ? alphabet[word & 63] : '=';
    }
    *at = '\0';
    return lt_str_make(out, len);
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

/* Padding is all or nothing: what is there must fill the last four. */
static bool strip_padding(lt_str *text)
{
    size_t padding = 0;
    while (padding < 2 && padding < text->len && text->ptr[text->len - 1 - padding] == '=')
        padding++;
    if (padding > 0 && text->len % 4 != 0)
        return false;
    text->len -= padding;
    return text->len % 4 != 1;
}

lt_rc lt_base64_decode(struct lt_arena *arena, lt_str text, lt_str *ret_bytes)
{
    if (!strip_padding(&text))
        return LT_E_BAD;
    char *out = lt_arena_try_bytes(arena, text.len / 4 * 3 + 3);
    if (out == NULL)
        return LT_E_LIMIT;
    size_t len = 0;
    uint32_t word = 0, bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.ptr[i]);
        if (value < 0)
            return LT_E_BAD;
        word = (word << 6 | (uint32_t)value) & 0xFFFFFF;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[len++] = (char)(word >> bits);
        }
    }
    if ((word & ((1u << bits) - 1)) !=
        0) /* bits that no byte takes must be zero: one text, one meaning */
        return LT_E_BAD;
    out[len] = '\0';
    *ret_bytes = lt_str_make(out, len);
    return LT_OK;
}
