/*
 * wire/json_write.c - the streaming JSON writer.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/json.h"

void lt_json_writer_init(struct lt_json_writer *w, struct lt_buf *out, uint32_t indent)
{
    *w = (struct lt_json_writer){.out = out, .indent = indent};
}

lt_rc lt_json_writer_finish(const struct lt_json_writer *w)
{
    LT_ASSERT(w->depth == 0 && !w->has_key);
    return w->rc;
}

static void put(struct lt_json_writer *w, lt_str text)
{
    if (w->rc == LT_OK)
        w->rc = lt_buf_append_str(w->out, text);
}

static void line_break(struct lt_json_writer *w)
{
    static const char blanks[] = "                                ";
    if (w->indent == 0)
        return;
    put(w, LT_STR("\n"));
    for (size_t left = (size_t)w->indent * w->depth; left > 0;) {
        size_t step = LT_MIN(left, sizeof(blanks) - 1);
        put(w, lt_str_make(blanks, step));
        left -= step;
    }
}

static bool in_object(const struct lt_json_writer *w)
{
    return w->depth > 0 && (w->is_object[(w->depth - 1) / 64] >> ((w->depth - 1) % 64) & 1) != 0;
}

static void next_item(struct lt_json_writer *w)
{
    if (w->has_items)
        put(w, LT_STR(","));
    w->has_items = true;
    if (w->depth > 0)
        line_break(w);
}

static void before_value(struct lt_json_writer *w)
{
    LT_ASSERT(w->has_key == in_object(w) && (w->depth > 0 || !w->has_items));
    if (w->has_key)
        w->has_key = false;
    else
        next_item(w);
}

static void open_level(struct lt_json_writer *w, bool is_object, lt_str bracket)
{
    LT_ASSERT(w->depth < LT_JSON_DEPTH_MAX);
    before_value(w);
    put(w, bracket);
    uint64_t bit = (uint64_t)1 << (w->depth % 64);
    w->is_object[w->depth / 64] = is_object ? w->is_object[w->depth / 64] | bit
                                            : w->is_object[w->depth / 64] & ~bit;
    w->depth++;
    w->has_items = false;
}

static void close_level(struct lt_json_writer *w, bool is_object, lt_str bracket)
{
    LT_ASSERT(w->depth > 0 && in_object(w) == is_object && !w->has_key);
    w->depth--;
    if (w->has_items)
        line_break(w);
    w->has_items = true;
    put(w, bracket);
}

void lt_json_object_open(struct lt_json_writer *w)
{
    open_level(w, true, LT_STR("{"));
}

void lt_json_object_close(struct lt_json_writer *w)
{
    close_level(w, true, LT_STR("}"));
}

void lt_json_array_open(struct lt_json_writer *w)
{
    open_level(w, false, LT_STR("["));
}

void lt_json_array_close(struct lt_json_writer *w)
{
    close_level(w, false, LT_STR("]"));
}

/* --- scalars --- */

static void put_escaped(struct lt_json_writer *w, unsigned char c)
{
    char text[8];
    switch (c) {
    case '"': put(w, LT_STR("\\\"")); return;
    case '\\': put(w, LT_STR("\\\\")); return;
    case '\n': put(w, LT_STR("\\n")); return;
    case '\r': put(w, LT_STR("\\r")); return;
    case '\t': put(w, LT_STR("\\t")); return;
    default: snprintf(text, sizeof(text), "\\u%04x", c); put(w, lt_str_of(text));
    }
}

/* Length of the run at `s` that can be written as it is. */
static size_t plain_run(lt_str s)
{
    size_t len = 0;
    while (len < s.len && (unsigned char)s.ptr[len] >= 0x20 && s.ptr[len] != '"' &&
           s.ptr[len] != '\\' && s.ptr[len] != 0x7F)
        len++;
    return len;
}

static void put_quoted_utf8(struct lt_json_writer *w, lt_str s)
{
    put(w, LT_STR("\""));
    while (s.len > 0 && w->rc == LT_OK) {
        size_t run = plain_run(s);
        put(w, lt_str_slice(s, 0, run));
        if (run < s.len)
            put_escaped(w, (unsigned char)s.ptr[run++]);
        s = lt_str_from(s, run);
    }
    put(w, LT_STR("\""));
}

/* Cold: byte by byte, what isn't UTF-8 replaced. */
static void put_quoted_repaired(struct lt_json_writer *w, lt_str s)
{
    put(w, LT_STR("\""));
    for (size_t at = 0; at < s.len && w->rc == LT_OK;) {
        size_t len = 1;
        while (len < 4 && at + len <= s.len && !lt_str_is_utf8(lt_str_slice(s, at, at + len)))
            len++;
        lt_str piece = lt_str_slice(s, at, at + len);
        if (piece.len != len || !lt_str_is_utf8(piece)) {
            put(w, LT_STR("\xEF\xBF\xBD"));
            at++;
            continue;
        }
        if (plain_run(piece) == piece.len)
            put(w, piece);
        else
            put_escaped(w, (unsigned char)piece.ptr[0]);
        at += len;
    }
    put(w, LT_STR("\""));
}

static void put_quoted(struct lt_json_writer *w, lt_str s)
{
    if (lt_str_is_utf8(s))
        put_quoted_utf8(w, s);
    else
        put_quoted_repaired(w, s);
}

void lt_json_key(struct lt_json_writer *w, lt_str key)
{
    LT_ASSERT(in_object(w) && !w->has_key);
    next_item(w);
    put_quoted(w, key);
    put(w, w->indent > 0 ? LT_STR(": ") : LT_STR(":"));
    w->has_key = true;
}

void lt_json_null(struct lt_json_writer *w)
{
    before_value(w);
    put(w, LT_STR("null"));
}

void lt_json_bool(struct lt_json_writer *w, bool value)
{
    before_value(w);
    put(w, value ? LT_STR("true") : LT_STR("false"));
}

void lt_json_int(struct lt_json_writer *w, int64_t value)
{
    char text[24];
    before_value(w);
    int len = snprintf(text, sizeof(text), "%lld", (long long)value);
    put(w, lt_str_make(text, (size_t)len));
}

void lt_json_uint(struct lt_json_writer *w, uint64_t value)
{
    char text[24];
    before_value(w);
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    put(w, lt_str_make(text, (size_t)len));
}

void lt_json_double(struct lt_json_writer *w, double value)
{
    char text[32];
    if (!isfinite(value)) {
        lt_json_str(w, isnan(value) ? LT_STR("NaN")
                       : value > 0  ? LT_STR("Infinity")
                                    : LT_STR("-Infinity"));
        return;
    }
    before_value(w);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    put(w, lt_str_of(text));
}

void lt_json_str(struct lt_json_writer *w, lt_str value)
{
    before_value(w);
    put_quoted(w, value);
}

void lt_json_strf(struct lt_json_writer *w, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    LT_ASSERT(len >= 0);
    lt_json_str(w, lt_str_make(text, LT_MIN((size_t)len, sizeof(text) - 1)));
}

void lt_json_doc(struct lt_json_writer *w, const struct lt_doc *doc)
{
    switch (doc->kind) {
    case LT_DOC_NULL: lt_json_null(w); break;
    case LT_DOC_BOOL: lt_json_bool(w, doc->boolean); break;
    case LT_DOC_INT: lt_json_int(w, doc->integer); break;
    case LT_DOC_DOUBLE: lt_json_double(w, doc->number); break;
    case LT_DOC_STRING: lt_json_str(w, doc->string); break;
    case LT_DOC_ARRAY:
        lt_json_array_open(w);
        for (uint32_t i = 0; i < doc->count; i++)
            lt_json_doc(w, &doc->items[i]);
        lt_json_array_close(w);
        break;
    case LT_DOC_OBJECT:
        lt_json_object_open(w);
        for (uint32_t i = 0; i < doc->count; i++) {
            lt_json_key(w, doc->members[i].key);
            lt_json_doc(w, &doc->members[i].value);
        }
        lt_json_object_close(w);
        break;
    }
}

void lt_json_kv_object(struct lt_json_writer *w, const char *key)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_object_open(w);
}

void lt_json_kv_array(struct lt_json_writer *w, const char *key)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_array_open(w);
}

void lt_json_kv_str(struct lt_json_writer *w, const char *key, lt_str value)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_str(w, value);
}

void lt_json_kv_int(struct lt_json_writer *w, const char *key, int64_t value)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_int(w, value);
}

void lt_json_kv_uint(struct lt_json_writer *w, const char *key, uint64_t value)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_uint(w, value);
}

void lt_json_kv_bool(struct lt_json_writer *w, const char *key, bool value)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_bool(w, value);
}
