/*
 * http/url.c - request paths.
 * Normal form as Envoy's normalize_path gives it: dot segments gone (written %2e too), unreserved
 * characters decoded, '\' turned into '/', bytes that no path may have escaped, broken escapes left
 * as they are.
 * Start at: lt_url_normalize().
 */
#include "http/url.h"

#include "http/http.h"

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

static bool is_port(lt_str text)
{
    uint64_t port = 0;
    return lt_str_to_u64(text, &port) == LT_OK && port <= UINT16_MAX;
}

static bool takes_scheme(lt_str *text, lt_str scheme)
{
    if (text->len <= scheme.len || !lt_str_case_eq(lt_str_slice(*text, 0, scheme.len), scheme))
        return false;
    *text = lt_str_from(*text, scheme.len);
    return true;
}

static bool is_plain(lt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '\\')
            return false;
    }
    return true;
}

bool lt_url_absolute(lt_str text, struct lt_url *ret_url)
{
    ret_url->is_https = takes_scheme(&text, LT_STR("https://"));
    if (!ret_url->is_https && !takes_scheme(&text, LT_STR("http://")))
        return false;
    ptrdiff_t fragment = lt_str_find_char(text, '#');
    text = fragment < 0 ? text : lt_str_slice(text, 0, (size_t)fragment);
    size_t end = 0;
    while (end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?')
        end++;
    ret_url->authority = lt_str_slice(text, 0, end);
    ret_url->path = lt_str_from(text, end);
    return end > 0 && lt_http_is_host(ret_url->authority) && is_plain(ret_url->path);
}

lt_str lt_url_host(lt_str authority)
{
    lt_str host = authority;
    ptrdiff_t colon = lt_str_rfind_char(host, ':');
    if (colon >= 0 && colon > lt_str_rfind_char(host, ']') &&
        is_port(lt_str_from(host, (size_t)colon + 1)))
        host = lt_str_slice(host, 0, (size_t)colon);
    if (lt_str_starts(host, LT_STR("[")) && lt_str_ends(host, LT_STR("]")))
        host = lt_str_slice(host, 1, host.len - 1);
    return host;
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
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

/* Bytes that a path must not carry bare. */
static bool must_escape(unsigned char c)
{
    return c <= 0x20 || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '`' || c == '{' ||
           c == '}' || c == '^' || c == '|';
}

/*
 * A NUL ends strings elsewhere, and a fragment never reaches a server: Envoy's normalize_path
 * refuses both.
 */
static bool is_refused(lt_str path, lt_str tail)
{
    return lt_str_find(path, LT_STR("%00")) >= 0 || lt_str_find_char(path, '\0') >= 0 ||
           lt_str_find_char(tail, '#') >= 0;
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
        if (opts->normalize &&
            ((c == '.' && is_after_slash) || c == '\\' || must_escape((unsigned char)c)))
            return false;
    }
    return true;
}

/* A path that is being rewritten: in place where it shrinks. */
struct work {
    char *text;
    size_t len;
};

static bool unescape_slashes(struct work *work)
{
    lt_str in = lt_str_make(work->text, work->len);
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        int byte = escaped_byte(in, i);
        bool is_slash = byte == '/' || byte == '\\';
        work->text[len++] = is_slash ? (char)byte : in.ptr[i];
        i += is_slash ? 2 : 0;
    }
    work->len = len;
    return len != in.len;
}

/*
 * A '%' that begins no escape, and letters that came out of escapes behind it, could read as an
 * escape the next time: "%7%32" must not become "%72". Such a '%' is written "%25", as Envoy does.
 */
static size_t mend_percent(char *out, size_t bare, size_t len)
{
    if (len != bare + 3 || hex_digit(out[bare + 1]) < 0 || hex_digit(out[bare + 2]) < 0)
        return len;
    memmove(out + bare + 3, out + bare + 1, 2);
    memcpy(out + bare + 1, "25", 2);
    return len + 2;
}

/*
 * Decodes, escapes and turns backslashes into `out`, which has thrice the room; dot segments are
 * then plain to see.
 */
static void rewrite_bytes(struct work *work, char *out)
{
    lt_str in = lt_str_make(work->text, work->len);
    size_t len = 0, bare = SIZE_MAX - 3; /* where the last '%' is that begins no escape */
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        int byte = escaped_byte(in, i);
        if (is_unreserved(byte)) {
            out[len++] = (char)byte;
            i += 2;
        } else if (must_escape(c)) {
            len = (size_t)(lt_percent_put(out + len, (char)c) - out);
        } else {
            out[len++] = c == '\\' ? '/' : (char)c;
        }
        len = mend_percent(out, bare, len);
        if (c == '%' && byte < 0)
            bare = len - 1;
    }
    *work = (struct work){out, len};
}

/* Parameters count for nothing: some servers cut them off, and then see "..". */
static bool is_segment(lt_str segment, lt_str dots)
{
    return lt_str_starts(segment, dots) &&
           (segment.len == dots.len || segment.ptr[dots.len] == ';');
}

/*
 * RFC 3986 section 5.2.4; the path begins with '/'. Empty segments are segments: "/a//../b" is
 * "/a/b".
 */
static void remove_dots(struct work *work)
{
    lt_str rest = lt_str_make(work->text + 1, work->len - 1), segment = LT_STR_NULL;
    char *out = work->text;
    size_t len = 0;
    while (lt_str_split(&rest, '/', &segment)) {
        bool is_last = rest.ptr == NULL;
        if (is_segment(segment, LT_STR(".."))) {
            while (len > 0 && out[--len] != '/')
                ;
        } else if (!is_segment(segment, LT_STR("."))) {
            out[len++] = '/';
            memmove(out + len, segment.ptr, segment.len);
            len += segment.len;
            continue;
        }
        if (is_last)
            out[len++] = '/';
    }
    work->len = len;
}

static void merge_slashes(struct work *work)
{
    size_t len = 0;
    for (size_t i = 0; i < work->len; i++) {
        if (work->text[i] != '/' || len == 0 || work->text[len - 1] != '/')
            work->text[len++] = work->text[i];
    }
    work->len = len;
}

/* The slow way, in a buffer that has room for four times the path and the tail. */
static lt_url_outcome normalize_in(char *room, lt_str path, lt_str tail,
                                   const struct lt_url_normal_opts *opts, lt_str *ret)
{
    struct work work = {room, path.len};
    if (path.len > 0)
        memcpy(room, path.ptr, path.len);
    bool has_slashes = opts->escaped_slashes != LT_URL_SLASHES_KEEP && unescape_slashes(&work);
    if (has_slashes && opts->escaped_slashes == LT_URL_SLASHES_REJECT)
        return LT_URL_REJECT;
    if (opts->normalize) {
        rewrite_bytes(&work, room + path.len);
        if (work.len == 0 || work.text[0] != '/')
            return LT_URL_REJECT;
        remove_dots(&work);
    }
    if (opts->merge_slashes)
        merge_slashes(&work);
    if (lt_str_eq(lt_str_make(work.text, work.len), path))
        return LT_URL_UNCHANGED;
    if (tail.len > 0)
        memcpy(work.text + work.len, tail.ptr, tail.len);
    *ret = lt_str_make(work.text, work.len + tail.len);
    bool is_redirect = has_slashes && opts->escaped_slashes == LT_URL_SLASHES_UNESCAPE_AND_REDIRECT;
    return is_redirect ? LT_URL_REDIRECT : LT_URL_CHANGED;
}

lt_url_outcome lt_url_normalize(lt_str target, const struct lt_url_normal_opts *opts,
                                struct lt_arena *arena, lt_str *ret)
{
    size_t end = 0;
    while (end < target.len && target.ptr[end] != '?' && target.ptr[end] != '#')
        end++;
    lt_str path = lt_str_slice(target, 0, end), tail = lt_str_from(target, end);
    *ret = target;
    if (opts->normalize && is_refused(path, tail))
        return LT_URL_REJECT;
    bool is_absolute = path.len > 0 && path.ptr[0] == '/';
    if (is_normal(path, opts) && (is_absolute || !opts->normalize))
        return LT_URL_UNCHANGED;
    char *room = lt_arena_try_bytes(arena, path.len * 4 + tail.len);
    return room == NULL ? LT_URL_REJECT : normalize_in(room, path, tail, opts, ret);
}

lt_rc lt_url_decode(lt_str text, bool plus_is_blank, struct lt_arena *arena, lt_str *ret)
{
    char *out = lt_arena_try_bytes(arena, text.len + 1);
    size_t len = 0;
    if (out == NULL)
        return LT_E_LIMIT;
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

char *lt_percent_put(char *to, char c)
{
    static const char hex[] = "0123456789ABCDEF";
    to[0] = '%';
    to[1] = hex[(unsigned char)c >> 4];
    to[2] = hex[(unsigned char)c & 15];
    return to + 3;
}

lt_str lt_url_encode(lt_str text, struct lt_arena *arena)
{
    char *out = lt_arena_bytes(arena, text.len * 3 + 1);
    char *end = out;
    for (size_t i = 0; i < text.len; i++) {
        if (is_unreserved((unsigned char)text.ptr[i]))
            *end++ = text.ptr[i];
        else
            end = lt_percent_put(end, text.ptr[i]);
    }
    return lt_str_make(out, (size_t)(end - out));
}

/* Envoy writes "name=" of a parameter without '=' too, once it has touched the query. */
static void add_pair(lt_str *out, char *block, size_t path_len, lt_str name, lt_str value)
{
    size_t len = out->len;
    block[len] = len == path_len ? '?' : '&';
    len++;
    memcpy(block + len, name.ptr, name.len);
    len += name.len;
    block[len++] = '=';
    if (value.len > 0)
        memcpy(block + len, value.ptr, value.len);
    *out = lt_str_make(block, len + value.len);
}

/* Without `name` where there is no value for it. */
static lt_str rewrite_query(lt_str target, lt_str name, const lt_str *value, struct lt_arena *arena)
{
    struct lt_url_parts parts = lt_url_split(target);
    size_t room = 2 * target.len + name.len + (value != NULL ? value->len : 0) + 4;
    char *block = lt_arena_bytes(arena, room);
    memcpy(block, parts.path.ptr, parts.path.len);
    lt_str out = lt_str_make(block, parts.path.len), found, had;
    bool is_set = value == NULL;
    while (lt_url_query_next(&parts.query, &found, &had)) {
        bool is_it = lt_str_eq(found, name);
        if (!is_it)
            add_pair(&out, block, parts.path.len, found, had);
        else if (!is_set)
            add_pair(&out, block, parts.path.len, name, *value);
        is_set |= is_it;
    }
    if (!is_set)
        add_pair(&out, block, parts.path.len, name, *value);
    return out;
}

lt_str lt_url_query_remove(lt_str target, lt_str name, struct lt_arena *arena)
{
    return rewrite_query(target, name, NULL, arena);
}

lt_str lt_url_query_set(lt_str target, lt_str name, lt_str value, struct lt_arena *arena)
{
    return rewrite_query(target, name, &value, arena);
}

lt_str lt_url_query_add(lt_str target, lt_str name, lt_str value, struct lt_arena *arena)
{
    struct lt_url_parts parts = lt_url_split(target);
    size_t len = parts.path.len + (parts.has_query ? parts.query.len + 1 : 0);
    char *block = lt_arena_bytes(arena, len + name.len + value.len + 2);
    lt_str out = lt_str_make(block, len);
    memcpy(block, target.ptr, len);
    add_pair(&out, block, parts.path.len, name, value);
    return out;
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
