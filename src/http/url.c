/*
 * http/url.c - request paths.
 * Normal form as Envoy's normalize_path gives it: dot segments gone (written %2e too), unreserved characters decoded,
 * '\' turned into '/', bytes that no path may have escaped, broken escapes left as they are.
 * Start at: lt_url_normalize().
 */
#include "http/url.h"

struct lt_url_parts lt_url_split(lt_str target)
{
    struct lt_url_parts parts = {.path = target};
    ptrdiff_t hash = lt_str_find_char(parts.path, '#');
    if (hash >= 0) {
        parts.fragment = lt_str_from(parts.path, (size_t)hash + 1);
        parts.path = lt_str_slice(parts.path, 0, (size_t)hash);
        parts.has_fragment = true;
    }
    ptrdiff_t question = lt_str_find_char(parts.path, '?');
    if (question >= 0) {
        parts.query = lt_str_from(parts.path, (size_t)question + 1);
        parts.path = lt_str_slice(parts.path, 0, (size_t)question);
        parts.has_query = true;
    }
    return parts;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The byte that "%XX" at `at` stands for, or -1. */
static int escaped_byte(lt_str s, size_t at)
{
    if (s.len - at < 3 || s.ptr[at] != '%')
        return -1;
    int high = hex_digit(s.ptr[at + 1]), low = hex_digit(s.ptr[at + 2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* RFC 3986 section 2.3 */
static bool is_unreserved(int c)
{
    int lower = c | 0x20;
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

/* Bytes that a path must not carry bare. */
static bool must_escape(unsigned char c)
{
    return c <= 0x20 || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '`' || c == '{' || c == '}' || c == '^' ||
           c == '|';
}

static bool is_slash_escape(int c)
{
    return c == '/' || c == '\\';
}

/* What the slow way would change; a path free of all this is its own normal form. */
static bool is_normal(lt_str path, const struct lt_url_normal_opts *opts)
{
    bool reads_escapes = opts->normalize || opts->escaped_slashes != LT_URL_SLASHES_KEEP;
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        bool is_after_slash = i > 0 && path.ptr[i - 1] == '/';
        if (c == '%' && reads_escapes)
            return false;
        if (opts->merge_slashes && c == '/' && is_after_slash)
            return false;
        if (opts->normalize && ((c == '.' && is_after_slash) || c == '\\' || must_escape((unsigned char)c)))
            return false;
    }
    return true;
}

static lt_str unescape_slashes(lt_str path, struct lt_arena *arena, bool *ret_found)
{
    char *out = lt_arena_bytes(arena, path.len);
    size_t len = 0;
    *ret_found = false;
    for (size_t i = 0; i < path.len; i++) {
        int byte = escaped_byte(path, i);
        if (is_slash_escape(byte)) {
            *ret_found = true;
            out[len++] = (char)byte;
            i += 2;
        } else {
            out[len++] = path.ptr[i];
        }
    }
    return *ret_found ? lt_str_make(out, len) : path;
}

/* Decodes, escapes and turns backslashes; dot segments are then plain to see. */
static lt_str rewrite_bytes(lt_str path, struct lt_arena *arena)
{
    char *out = lt_arena_bytes(arena, path.len * 3);
    size_t len = 0;
    for (size_t i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char)path.ptr[i];
        int byte = escaped_byte(path, i);
        if (is_unreserved(byte)) {
            out[len++] = (char)byte;
            i += 2;
        } else if (c == '\\') {
            out[len++] = '/';
        } else if (must_escape(c)) {
            out[len++] = '%';
            out[len++] = "0123456789ABCDEF"[c >> 4];
            out[len++] = "0123456789ABCDEF"[c & 15];
        } else {
            out[len++] = (char)c;
        }
    }
    return lt_str_make(out, len);
}

/* RFC 3986 section 5.2.4; path begins with '/'. Empty segments are segments: "/a//../b" is "/a/b". */
static lt_str remove_dots(lt_str path, struct lt_arena *arena)
{
    char *out = lt_arena_bytes(arena, path.len + 1);
    size_t len = 0;
    lt_str rest = lt_str_from(path, 1), segment = LT_STR_NULL;
    while (lt_str_split(&rest, '/', &segment)) {
        bool is_last = rest.ptr == NULL;
        bool is_up = lt_str_eq(segment, LT_STR(".."));
        if (is_up) {
            while (len > 0 && out[--len] != '/')
                ;
        } else if (!lt_str_eq(segment, LT_STR("."))) {
            out[len++] = '/';
            if (segment.len > 0)
                memcpy(out + len, segment.ptr, segment.len);
            len += segment.len;
            continue;
        }
        if (is_last)
            out[len++] = '/';
    }
    if (len == 0)
        out[len++] = '/';
    return lt_str_make(out, len);
}

static lt_str merge_slashes(lt_str path, struct lt_arena *arena)
{
    char *out = lt_arena_bytes(arena, path.len);
    size_t len = 0;
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] != '/' || len == 0 || out[len - 1] != '/')
            out[len++] = path.ptr[i];
    }
    return lt_str_make(out, len);
}

lt_url_outcome lt_url_normalize(lt_str target, const struct lt_url_normal_opts *opts, struct lt_arena *arena, lt_str *ret)
{
    size_t end = 0;
    while (end < target.len && target.ptr[end] != '?' && target.ptr[end] != '#')
        end++;
    lt_str path = lt_str_slice(target, 0, end), tail = lt_str_from(target, end);
    *ret = target;
    if (is_normal(path, opts) && path.len > 0 && path.ptr[0] == '/')
        return LT_URL_UNCHANGED;
    bool has_slashes = false;
    if (opts->escaped_slashes != LT_URL_SLASHES_KEEP)
        path = unescape_slashes(path, arena, &has_slashes);
    if (has_slashes && opts->escaped_slashes == LT_URL_SLASHES_REJECT)
        return LT_URL_REJECT;
    if (opts->normalize) {
        path = rewrite_bytes(path, arena);
        if (path.len == 0 || path.ptr[0] != '/')
            return LT_URL_REJECT;
        path = remove_dots(path, arena);
    }
    if (opts->merge_slashes)
        path = merge_slashes(path, arena);
    if (lt_str_eq(path, lt_str_slice(target, 0, end)))
        return LT_URL_UNCHANGED;
    *ret = lt_arena_printf(arena, "%.*s%.*s", LT_STR_ARG(path), LT_STR_ARG(tail));
    bool is_redirect = has_slashes && opts->escaped_slashes == LT_URL_SLASHES_UNESCAPE_AND_REDIRECT;
    return is_redirect ? LT_URL_REDIRECT : LT_URL_CHANGED;
}

lt_rc lt_url_decode(lt_str text, bool plus_is_blank, struct lt_arena *arena, lt_str *ret)
{
    char *out = lt_arena_bytes(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '%') {
            int byte = escaped_byte(text, i);
            if (byte <= 0)
                return LT_E_BAD;
            out[len++] = (char)byte;
            i += 2;
        } else {
            out[len++] = text.ptr[i] == '+' && plus_is_blank ? ' ' : text.ptr[i];
        }
    }
    out[len] = '\0';
    *ret = lt_str_make(out, len);
    return LT_OK;
}

bool lt_url_query_next(lt_str *rest, lt_str *ret_name, lt_str *ret_value)
{
    lt_str pair = LT_STR_NULL;
    while (lt_str_split(rest, '&', &pair)) {
        if (pair.len == 0)
            continue;
        ptrdiff_t equals = lt_str_find_char(pair, '=');
        *ret_name = equals < 0 ? pair : lt_str_slice(pair, 0, (size_t)equals);
        *ret_value = equals < 0 ? LT_STR("") : lt_str_from(pair, (size_t)equals + 1);
        return true;
    }
    return false;
}

lt_str lt_url_query_get(lt_str query, const char *name, struct lt_arena *arena)
{
    lt_str found = LT_STR_NULL, value = LT_STR_NULL, decoded = LT_STR_NULL;
    while (lt_url_query_next(&query, &found, &value)) {
        if (lt_str_eqz(found, name))
            return lt_url_decode(value, true, arena, &decoded) == LT_OK ? decoded : LT_STR_NULL;
    }
    return LT_STR_NULL;
}
