/*
 * wire/ads_msg.c - fields of the discovery messages, read and written in place.
 * Trust: what is read is a stranger's; every length is checked against what is there.
 * Start at: lt_ads_field_next().
 */
#include "wire/ads_priv.h"

#include <stdlib.h>

enum { VARINT_BYTES_MAX = 10 };

static lt_rc take_varint(lt_str *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < VARINT_BYTES_MAX && i < rest->len; i++) {
        uint8_t byte = (uint8_t)rest->ptr[i];
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            return LT_E_BAD;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *rest = lt_str_from(*rest, i + 1);
            *ret_value = value;
            return LT_OK;
        }
    }
    return LT_E_BAD;
}

static lt_rc take_bytes(lt_str *rest, uint64_t len, lt_str *ret_bytes)
{
    if (len > rest->len)
        return LT_E_BAD;
    *ret_bytes = lt_str_slice(*rest, 0, len);
    *rest = lt_str_from(*rest, len);
    return LT_OK;
}

lt_rc lt_ads_field_next(lt_str *rest, struct lt_ads_field *ret_field)
{
    if (rest->len == 0)
        return LT_EOF;
    uint64_t tag = 0, len = 0;
    LT_TRY(take_varint(rest, &tag));
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return LT_E_BAD;
    *ret_field = (struct lt_ads_field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
    switch (ret_field->wire) {
    case LT_ADS_WIRE_VARINT: return take_varint(rest, &ret_field->value);
    case LT_ADS_WIRE_FIXED64: return take_bytes(rest, 8, &ret_field->bytes);
    case LT_ADS_WIRE_FIXED32: return take_bytes(rest, 4, &ret_field->bytes);
    case LT_ADS_WIRE_BYTES:
        LT_TRY(take_varint(rest, &len));
        return take_bytes(rest, len, &ret_field->bytes);
    default: return LT_E_BAD;
    }
}

lt_rc lt_ads_field_text(const struct lt_ads_field *field, size_t bytes_max, lt_str *ret_text)
{
    if (field->wire != LT_ADS_WIRE_BYTES || field->bytes.len > bytes_max ||
        !lt_str_is_utf8(field->bytes))
        return LT_E_BAD;
    *ret_text = field->bytes;
    return LT_OK;
}

lt_rc lt_ads_pair_read(lt_str entry, lt_str *ret_key, lt_str *ret_value)
{
    struct lt_ads_field field;
    lt_rc rc = LT_OK;
    *ret_key = *ret_value = LT_STR("");
    while ((rc = lt_ads_field_next(&entry, &field)) == LT_OK) {
        if (field.number == 1)
            LT_TRY(lt_ads_field_text(&field, LT_ADS_NAME_BYTES_MAX, ret_key));
        else if (field.number == 2)
            LT_TRY(lt_ads_field_text(&field, LT_ADS_VERSION_BYTES_MAX, ret_value));
    }
    return rc == LT_EOF ? LT_OK : rc;
}

void lt_ads_strs_add(struct lt_ads_strs *strs, lt_str s)
{
    if (strs->count == strs->cap) {
        strs->cap = strs->cap == 0 ? 16 : strs->cap * 2;
        strs->items = lt_realloc(strs->items, strs->cap * sizeof(*strs->items));
    }
    strs->items[strs->count++] = s;
}

void lt_ads_strs_fini(struct lt_ads_strs *strs)
{
    free(strs->items);
    *strs = (struct lt_ads_strs){0};
}

/* --- writing --- */

static size_t put_raw_varint(char *out, uint64_t value)
{
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        out[len++] = (char)(uint8_t)(value | 0x80);
    out[len++] = (char)value;
    return len;
}

size_t lt_ads_put_head(char out[LT_ADS_HEAD_MAX], uint32_t number, size_t len)
{
    size_t at = put_raw_varint(out, (uint64_t)number << 3 | LT_ADS_WIRE_BYTES);
    return at + put_raw_varint(out + at, len);
}

size_t lt_ads_bytes_size(uint32_t number, size_t len)
{
    char head[LT_ADS_HEAD_MAX];
    return lt_ads_put_head(head, number, len) + len;
}

lt_rc lt_ads_put_bytes(struct lt_buf *buf, uint32_t number, lt_str bytes)
{
    char head[LT_ADS_HEAD_MAX];
    LT_TRY(lt_buf_append(buf, head, lt_ads_put_head(head, number, bytes.len)));
    return lt_buf_append_str(buf, bytes);
}

lt_rc lt_ads_put_varint(struct lt_buf *buf, uint32_t number, uint64_t value)
{
    char out[LT_ADS_HEAD_MAX * 2];
    size_t at = put_raw_varint(out, (uint64_t)number << 3 | LT_ADS_WIRE_VARINT);
    return lt_buf_append(buf, out, at + put_raw_varint(out + at, value));
}

lt_rc lt_ads_put_pair(struct lt_buf *buf, uint32_t number, lt_str key, lt_str value)
{
    char head[LT_ADS_HEAD_MAX];
    size_t len = lt_ads_bytes_size(1, key.len) + lt_ads_bytes_size(2, value.len);
    LT_TRY(lt_buf_append(buf, head, lt_ads_put_head(head, number, len)));
    LT_TRY(lt_ads_put_bytes(buf, 1, key));
    return lt_ads_put_bytes(buf, 2, value);
}
