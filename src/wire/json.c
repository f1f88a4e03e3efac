/*
 * wire/json.c - the JSON reader (RFC 8259): one pass, no recursion.
 * Trust: the text is a stranger's.   Start at: lt_json_parse().
 */
#include "wire/json.h"

#include <math.h>
#include <stdlib.h>

#include "wire/doc_build.h"

/* A double needs at most 17 significant digits; longer numbers are legal, but somebody is playing.
 */
enum { NUMBER_BYTES_MAX = 400 };

struct reader {
    const char *at;
    const char *end;
    const char *line_start;
    uint32_t line;
    struct lt_doc_builder build;
    struct lt_buf text; /* a string while its escapes are undone */
    struct lt_err *err;
};

static lt_rc bad(const struct reader *r, const char *what)
{
    return lt_err_set(r->err, LT_E_BAD, "line %u, column %zu: %s", r->line,
                      (size_t)(r->at - r->line_start) + 1, what);
}

static void skip_blanks(struct reader *r)
{
    for (; r->at < r->end; r->at++) {
        if (*r->at == '\n') {
            r->line++;
            r->line_start = r->at + 1;
        } else if (*r->at != ' ' && *r->at != '\t' && *r->at != '\r') {
            return;
        }
    }
}

static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* --- strings --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static lt_rc read_hex4(struct reader *r, uint32_t *ret_unit)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = r->at < r->end ? hex_digit(*r->at) : -1;
        if (digit < 0)
            return bad(r, "\\u needs four hexadecimal digits");
        unit = unit << 4 | (uint32_t)digit;
        r->at++;
    }
    *ret_unit = unit;
    return LT_OK;
}

static size_t encode_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* Behind "\u"; a surrogate must be one of a pair. */
static lt_rc read_unicode(struct reader *r)
{
    uint32_t c = 0, low = 0;
    LT_TRY(read_hex4(r, &c));
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (!take(r, '\\') || !take(r, 'u'))
            return bad(r, "half of a surrogate pair");
        LT_TRY(read_hex4(r, &low));
        if (low < 0xDC00 || low > 0xDFFF)
            return bad(r, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c <= 0xDFFF) {
        return bad(r, "half of a surrogate pair");
    }
    if (c == 0)
        return bad(r, "NUL in a string");
    char utf8[4];
    return lt_buf_append(&r->text, utf8, encode_utf8(c, utf8));
}

static lt_rc read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return bad(r, "the text ends inside a string");
    if (take(r, 'u'))
        return read_unicode(r);
    const char *hit = *r->at == '\0' ? NULL : strchr(from, *r->at);
    if (hit == NULL)
        return bad(r, "unknown escape");
    r->at++;
    return lt_buf_append(&r->text, &to[hit - from], 1);
}

/* Behind the opening quote; *ret_string lives in the arena. */
static lt_rc read_string(struct reader *r, lt_str *ret_string)
{
    const char *start = r->at;
    bool is_verbatim = true;
    lt_buf_clear(&r->text, 64 * 1024);
    for (;;) {
        const char *run = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20)
            r->at++;
        if (r->at == r->end)
            return bad(r, "the text ends inside a string");
        if ((unsigned char)*r->at < 0x20)
            return bad(r, "control character in a string");
        if (*r->at == '"' && is_verbatim)
            break;
        is_verbatim = false;
        LT_TRY(lt_buf_append(&r->text, run, (size_t)(r->at - run)));
        if (*r->at == '"')
            break;
        r->at++;
        LT_TRY(read_escape(r));
    }
    lt_str raw = is_verbatim ? lt_str_make(start, (size_t)(r->at - start)) : lt_buf_str(&r->text);
    if (!lt_str_is_utf8(raw))
        return bad(r, "text is not UTF-8");
    r->at++;
    return lt_doc_builder_text(&r->build, raw, ret_string, r->err);
}

/* --- the other scalars --- */

static void skip_digits(struct reader *r)
{
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
}

/* Moves over the number if it follows the grammar; *ret_is_whole: no fraction, no exponent. */
static lt_rc scan_number(struct reader *r, bool *ret_is_whole)
{
    take(r, '-');
    const char *digits = r->at;
    skip_digits(r);
    if (r->at == digits || (*digits == '0' && r->at - digits > 1))
        return bad(r, "malformed number");
    *ret_is_whole = true;
    if (take(r, '.')) {
        digits = r->at;
        skip_digits(r);
        *ret_is_whole = false;
        if (r->at == digits)
            return bad(r, "malformed number");
    }
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+'))
            take(r, '-');
        digits = r->at;
        skip_digits(r);
        *ret_is_whole = false;
        if (r->at == digits)
            return bad(r, "malformed number");
    }
    return LT_OK;
}

static lt_rc read_number(struct reader *r, struct lt_doc *ret_node)
{
    const char *start = r->at;
    bool is_whole = false;
    LT_TRY(scan_number(r, &is_whole));
    lt_str raw = lt_str_make(start, (size_t)(r->at - start));
    if (is_whole && lt_str_to_i64(raw, &ret_node->integer) == LT_OK) {
        ret_node->kind = LT_DOC_INT;
        return LT_OK;
    }
    char text[NUMBER_BYTES_MAX + 1];
    if (raw.len > NUMBER_BYTES_MAX)
        return bad(r, "number too long");
    memcpy(text, raw.ptr, raw.len);
    text[raw.len] = '\0';
    ret_node->kind = LT_DOC_DOUBLE;
    ret_node->number = strtod(text, NULL);
    return isfinite(ret_node->number) ? LT_OK : bad(r, "number too large");
}

static lt_rc read_word(struct reader *r, struct lt_doc *ret_node)
{
    static const struct {
        lt_str word;
        lt_doc_kind kind;
        bool boolean;
    } words[] = {
        {{"true", 4}, LT_DOC_BOOL, true},
        {{"false", 5}, LT_DOC_BOOL, false},
        {{"null", 4}, LT_DOC_NULL, false},
    };
    lt_str rest = lt_str_make(r->at, (size_t)(r->end - r->at));
    for (size_t i = 0; i < LT_ARRAY_LEN(words); i++) {
        if (!lt_str_starts(rest, words[i].word))
            continue;
        r->at += words[i].word.len;
        ret_node->kind = words[i].kind;
        ret_node->boolean = words[i].boolean;
        return LT_OK;
    }
    return bad(r, "expected a value");
}

static lt_rc read_scalar(struct reader *r)
{
    struct lt_doc node = {.line = r->line};
    if (take(r, '"')) {
        node.kind = LT_DOC_STRING;
        LT_TRY(read_string(r, &node.string));
    } else if (r->at < r->end && (*r->at == '-' || (*r->at >= '0' && *r->at <= '9'))) {
        LT_TRY(read_number(r, &node));
    } else {
        LT_TRY(read_word(r, &node));
    }
    return lt_doc_builder_add_scalar(&r->build, node, r->err);
}

/* --- structure --- */

static lt_rc read_key(struct reader *r)
{
    lt_str key = LT_STR_NULL;
    skip_blanks(r);
    if (!take(r, '"'))
        return bad(r, "expected a key in double quotes");
    LT_TRY(read_string(r, &key));
    skip_blanks(r);
    if (!take(r, ':'))
        return bad(r, "expected \":\"");
    lt_doc_builder_key(&r->build, key, false);
    return LT_OK;
}

static lt_rc open_level(struct reader *r, lt_doc_kind kind, char closing, bool *ret_is_empty)
{
    LT_TRY(lt_doc_builder_open(&r->build, kind, r->line, r->err));
    skip_blanks(r);
    *ret_is_empty = take(r, closing);
    if (*ret_is_empty)
        return lt_doc_builder_close(&r->build, r->err);
    return kind == LT_DOC_OBJECT ? read_key(r) : LT_OK;
}

/* One value, or the beginning of one; *ret_is_open: it was the beginning of an array or object with
 * something in it. */
static lt_rc read_value(struct reader *r, bool *ret_is_open)
{
    bool is_empty = true;
    skip_blanks(r);
    if (take(r, '{'))
        LT_TRY(open_level(r, LT_DOC_OBJECT, '}', &is_empty));
    else if (take(r, '['))
        LT_TRY(open_level(r, LT_DOC_ARRAY, ']', &is_empty));
    else
        LT_TRY(read_scalar(r));
    *ret_is_open = !is_empty;
    return LT_OK;
}

/* Behind a value: closes what ends here. Stops in front of the next value, or with the root
 * complete. */
static lt_rc read_after_value(struct reader *r)
{
    while (!r->build.is_done) {
        bool is_object = r->build.levels[r->build.depth - 1].kind == LT_DOC_OBJECT;
        skip_blanks(r);
        if (take(r, ','))
            return is_object ? read_key(r) : LT_OK;
        if (!take(r, is_object ? '}' : ']'))
            return bad(r, is_object ? "expected \",\" or \"}\"" : "expected \",\" or \"]\"");
        LT_TRY(lt_doc_builder_close(&r->build, r->err));
    }
    return LT_OK;
}

static lt_rc read_text(struct reader *r)
{
    while (!r->build.is_done) {
        bool is_open = false;
        LT_TRY(read_value(r, &is_open));
        if (!is_open)
            LT_TRY(read_after_value(r));
    }
    skip_blanks(r);
    return r->at == r->end ? LT_OK : bad(r, "more text behind the value");
}

lt_rc lt_json_parse(struct lt_arena *arena, lt_str text, const struct lt_doc_limits *limits,
                    const struct lt_doc **ret_doc, struct lt_err *err)
{
    const char *start = text.ptr != NULL ? text.ptr : "";
    struct reader r = {
        .at = start, .end = start + text.len, .line_start = start, .line = 1, .err = err};
    size_t bytes_max = limits != NULL ? limits->bytes_max : LT_DOC_LIMITS_DEFAULT.bytes_max;
    if (text.len > bytes_max)
        return lt_err_set(err, LT_E_LIMIT, "%zu bytes, more than %zu", text.len, bytes_max);
    lt_doc_builder_init(&r.build, arena, limits);
    lt_buf_init(&r.text, text.len + 1);
    struct lt_doc *root = lt_arena_try_alloc(arena, sizeof(*root));
    lt_rc rc = root == NULL ? lt_err_set(err, LT_E_LIMIT, "no memory set aside for it")
                            : read_text(&r);
    if (rc == LT_OK) {
        *root = r.build.last.node;
        *ret_doc = root;
    }
    lt_buf_fini(&r.text);
    lt_doc_builder_fini(&r.build);
    return rc;
}
