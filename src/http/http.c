/*
 * http/http.c - methods, reason phrases, and the grammar that headers of all versions share.
 */
#include "http/http.h"

#include <stdio.h>
#include <time.h>

#include "base/env.h"

lt_http_method lt_http_method_of(lt_str token)
{
    switch (token.len) {
    case 3:
        if (memcmp(token.ptr, "GET", 3) == 0)
            return LT_METHOD_GET;
        return memcmp(token.ptr, "PUT", 3) == 0 ? LT_METHOD_PUT : LT_METHOD_OTHER;
    case 4:
        if (memcmp(token.ptr, "POST", 4) == 0)
            return LT_METHOD_POST;
        return memcmp(token.ptr, "HEAD", 4) == 0 ? LT_METHOD_HEAD : LT_METHOD_OTHER;
    case 5:
        if (memcmp(token.ptr, "PATCH", 5) == 0)
            return LT_METHOD_PATCH;
        return memcmp(token.ptr, "TRACE", 5) == 0 ? LT_METHOD_TRACE : LT_METHOD_OTHER;
    case 6: return memcmp(token.ptr, "DELETE", 6) == 0 ? LT_METHOD_DELETE : LT_METHOD_OTHER;
    case 7:
        if (memcmp(token.ptr, "OPTIONS", 7) == 0)
            return LT_METHOD_OPTIONS;
        return memcmp(token.ptr, "CONNECT", 7) == 0 ? LT_METHOD_CONNECT : LT_METHOD_OTHER;
    default: return LT_METHOD_OTHER;
    }
}

bool lt_http_method_is_misspelled(lt_str token)
{
    char upper[8];
    if (token.len >= sizeof(upper))
        return false;
    for (size_t i = 0; i < token.len; i++) {
        char c = token.ptr[i];
        upper[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    return lt_http_method_of(token) == LT_METHOD_OTHER &&
           lt_http_method_of(lt_str_make(upper, token.len)) != LT_METHOD_OTHER;
}

/* The IANA registry of status codes. */
const char *lt_http_reason(unsigned status)
{
    switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 102: return "Processing";
    case 103: return "Early Hints";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 203: return "Non-Authoritative Information";
    case 204: return "No Content";
    case 205: return "Reset Content";
    case 206: return "Partial Content";
    case 207: return "Multi-Status";
    case 208: return "Already Reported";
    case 226: return "IM Used";
    case 300: return "Multiple Choices";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 305: return "Use Proxy";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Payload Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Entity";
    case 423: return "Locked";
    case 424: return "Failed Dependency";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 451: return "Unavailable For Legal Reasons";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 506: return "Variant Also Negotiates";
    case 507: return "Insufficient Storage";
    case 508: return "Loop Detected";
    case 510: return "Not Extended";
    case 511: return "Network Authentication Required";
    default: return "Unknown";
    }
}

#define T LT_HTTP_CHAR_TOKEN
#define A LT_HTTP_CHAR_AUTHORITY
#define B (LT_HTTP_CHAR_TOKEN | LT_HTTP_CHAR_AUTHORITY)
/* RFC 9110 section 5.6.2 and RFC 3986 section 3.2, a byte each. */
const unsigned char lt_http_chars[256] = {
    ['!'] = B, ['#'] = T, ['$'] = B, ['%'] = B, ['&'] = B, ['\''] = B, ['('] = A, [')'] = A,
    ['*'] = B, ['+'] = B, [','] = A, ['-'] = B, ['.'] = B, [':'] = A,  [';'] = A, ['='] = A,
    ['@'] = A, ['['] = A, [']'] = A, ['^'] = T, ['_'] = B, ['`'] = T,  ['|'] = T, ['~'] = B,
    ['0'] = B, ['1'] = B, ['2'] = B, ['3'] = B, ['4'] = B, ['5'] = B,  ['6'] = B, ['7'] = B,
    ['8'] = B, ['9'] = B, ['A'] = B, ['B'] = B, ['C'] = B, ['D'] = B,  ['E'] = B, ['F'] = B,
    ['G'] = B, ['H'] = B, ['I'] = B, ['J'] = B, ['K'] = B, ['L'] = B,  ['M'] = B, ['N'] = B,
    ['O'] = B, ['P'] = B, ['Q'] = B, ['R'] = B, ['S'] = B, ['T'] = B,  ['U'] = B, ['V'] = B,
    ['W'] = B, ['X'] = B, ['Y'] = B, ['Z'] = B, ['a'] = B, ['b'] = B,  ['c'] = B, ['d'] = B,
    ['e'] = B, ['f'] = B, ['g'] = B, ['h'] = B, ['i'] = B, ['j'] = B,  ['k'] = B, ['l'] = B,
    ['m'] = B, ['n'] = B, ['o'] = B, ['p'] = B, ['q'] = B, ['r'] = B,  ['s'] = B, ['t'] = B,
    ['u'] = B, ['v'] = B, ['w'] = B, ['x'] = B, ['y'] = B, ['z'] = B,
};
#undef T
#undef A
#undef B

static bool all_of(lt_str s, unsigned char class)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((lt_http_chars[(unsigned char)s.ptr[i]] & class) == 0)
            return false;
    }
    return true;
}

bool lt_http_is_token(lt_str s)
{
    return s.len > 0 && all_of(s, LT_HTTP_CHAR_TOKEN);
}

bool lt_http_is_authority(lt_str s)
{
    return all_of(s, LT_HTTP_CHAR_AUTHORITY);
}

/* Of 16 bits, or empty: the scheme's. */
static bool is_port(lt_str s)
{
    uint64_t port = 0;
    return s.len == 0 || (lt_str_to_u64(s, &port) == LT_OK && port <= UINT16_MAX);
}

/* As far as it can be told from another kind of host; a zone may follow. */
static bool is_ipv6(lt_str s)
{
    bool has_colon = false;
    for (size_t i = 0; i < s.len && s.ptr[i] != '%'; i++) {
        int c = s.ptr[i], lower = c | 0x20;
        has_colon |= c == ':';
        if (c != ':' && c != '.' && !(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'f'))
            return false;
    }
    return has_colon && lt_str_find_char(s, '[') < 0;
}

static bool is_bracketed(lt_str s)
{
    ptrdiff_t close = lt_str_find_char(s, ']');
    if (close < 0 || !is_ipv6(lt_str_slice(s, 1, (size_t)close)))
        return false;
    lt_str rest = lt_str_from(s, (size_t)close + 1);
    return rest.len == 0 || (rest.ptr[0] == ':' && is_port(lt_str_from(rest, 1)));
}

bool lt_http_is_host(lt_str s)
{
    if (!lt_http_is_authority(s) || lt_str_find_char(s, '@') >= 0)
        return false;
    if (s.len > 0 && s.ptr[0] == '[')
        return is_bracketed(s);
    ptrdiff_t colon = lt_str_find_char(s, ':');
    if (lt_str_find_char(s, '[') >= 0 || lt_str_find_char(s, ']') >= 0)
        return false;
    if (colon < 0)
        return true;
    return colon == lt_str_rfind_char(s, ':') ? is_port(lt_str_from(s, (size_t)colon + 1))
                                              : is_ipv6(s);
}

bool lt_http_is_field_value(lt_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

lt_str lt_http_trim(lt_str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = lt_str_from(s, 1);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool lt_http_list_next(lt_str *rest, lt_str *ret_item)
{
    lt_str item = LT_STR_NULL;
    while (lt_str_split(rest, ',', &item)) {
        item = lt_http_trim(item);
        if (item.len > 0) {
            *ret_item = item;
            return true;
        }
    }
    return false;
}

bool lt_http_list_has(lt_str list, lt_str token)
{
    lt_str item = LT_STR_NULL;
    while (lt_http_list_next(&list, &item)) {
        if (lt_str_case_eq(item, token))
            return true;
    }
    return false;
}

void lt_http_date_format(int64_t wall_ns, char out[LT_HTTP_DATE_LEN + 1])
{
    /* not strftime: names must not follow a locale */
    static const char days[] = "SunMonTueWedThuFriSat",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_ns / (int64_t)LT_NS_PER_S);
    struct tm t;
    gmtime_r(&seconds, &t);
    snprintf(out, LT_HTTP_DATE_LEN + 1, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
             days + t.tm_wday * 3, (unsigned)t.tm_mday % 100, months + t.tm_mon * 3,
             (unsigned)(t.tm_year + 1900) % 10000, (unsigned)t.tm_hour % 100,
             (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
}
