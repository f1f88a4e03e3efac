/*
 * base/str.h - a slice: bytes and a length, borrowed from whoever owns them.
 * Slices are values: pass them by copy. They are not NUL-terminated unless a function says so.
 */
#ifndef LT_BASE_STR_H
#define LT_BASE_STR_H

#include <string.h>
#include <strings.h>

#include "base/rc.h"

typedef struct lt_str {
    const char *ptr; /* borrowed; may be NULL only when len is 0 */
    size_t len;
} lt_str;

#define LT_STR(literal) ((lt_str){"" literal, sizeof(literal) - 1})
#define LT_STR_NULL ((lt_str){NULL, 0})
/* For printf("%.*s"). */
#define LT_STR_ARG(s) (int)(s).len, (s).ptr != NULL ? (s).ptr : ""

static inline lt_str lt_str_of(const char *text)
{
    return text == NULL ? LT_STR_NULL : (lt_str){text, strlen(text)};
}

static inline lt_str lt_str_make(const void *ptr, size_t len)
{
    return (lt_str){(const char *)ptr, len};
}

static inline bool lt_str_eq(lt_str a, lt_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool lt_str_eqz(lt_str a, const char *text)
{
    return lt_str_eq(a, lt_str_of(text));
}

static inline bool lt_str_case_eq(lt_str a, lt_str b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool lt_str_case_eqz(lt_str a, const char *text)
{
    return lt_str_case_eq(a, lt_str_of(text));
}

static inline bool lt_str_starts(lt_str s, lt_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool lt_str_ends(lt_str s, lt_str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

/* The part from `from` (clamped) to the end; the part [from, to) (clamped). */
static inline lt_str lt_str_from(lt_str s, size_t from)
{
    from = LT_MIN(from, s.len);
    return from == 0 ? s : (lt_str){s.ptr + from, s.len - from}; /* NULL + 0 is undefined */
}

static inline lt_str lt_str_slice(lt_str s, size_t from, size_t to)
{
    to = LT_MIN(to, s.len);
    from = LT_MIN(from, to);
    return (lt_str){from == 0 ? s.ptr : s.ptr + from, to - from};
}

/* memcmp order, shorter first on a tie: <0, 0, >0. */
int lt_str_cmp(lt_str a, lt_str b);

/* Index of the first (last) `c`, or -1. */
ptrdiff_t lt_str_find_char(lt_str s, char c);
ptrdiff_t lt_str_rfind_char(lt_str s, char c);
/* Index of the first `needle`, or -1; an empty needle is found at 0. */
ptrdiff_t lt_str_find(lt_str s, lt_str needle);

/*
 * Takes the text before the next `sep` into *ret_head and moves *rest past the separator. The last
 * piece comes without one. False when *rest is used up (ptr NULL).
 */
bool lt_str_split(lt_str *rest, char sep, lt_str *ret_head);

/* Without blanks, tabs, CR and LF at both ends. */
lt_str lt_str_trim(lt_str s);

/* Whole-string decimal numbers; LT_E_BAD on anything else, LT_E_LIMIT when out of range. */
LT_MUST lt_rc lt_str_to_u64(lt_str s, uint64_t *ret_value);
/* The words that Go's strconv.ParseBool takes; LT_E_BAD: another, *ret_value is as before. */
LT_MUST lt_rc lt_str_to_bool(lt_str s, bool *ret_value);
LT_MUST lt_rc lt_str_to_i64(lt_str s, int64_t *ret_value);
LT_MUST lt_rc lt_str_to_double(lt_str s, double *ret_value);

/* A heap copy with a NUL; the caller frees it with free(). */
char *lt_str_dupz(lt_str s);

/* All sixteen digits, the highest first, in lower case. */
void lt_str_put_hex(char out[16], uint64_t number);

/* Well-distributed hash, seeded once a process against chosen keys. Not stable between runs. */
uint64_t lt_str_hash(lt_str s);
/* XXH64 with a given seed: stable, for versions and for hash-based load balancing. */
uint64_t lt_hash64(const void *data, size_t len, uint64_t seed);

/* True when s holds valid UTF-8 (no surrogates, no overlong forms). */
bool lt_str_is_utf8(lt_str s);

#endif
