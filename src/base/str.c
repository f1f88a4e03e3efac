/*
 * base/str.c - slices: search, numbers, hashes.
 */
#include "base/str.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

int lt_str_cmp(lt_str a, lt_str b)
{
    size_t shared = LT_MIN(a.len, b.len);
    int order = shared == 0 ? 0 : memcmp(a.ptr, b.ptr, shared);
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

ptrdiff_t lt_str_find_char(lt_str s, char c)
{
    if (s.len == 0)
        return -1;
    const char *hit = memchr(s.ptr, c, s.len);
    return hit == NULL ? -1 : hit - s.ptr;
}

ptrdiff_t lt_str_rfind_char(lt_str s, char c)
{
    if (s.len == 0)
        return -1;
    const char *hit = memrchr(s.ptr, c, s.len);
    return hit == NULL ? -1 : hit - s.ptr;
}

ptrdiff_t lt_str_find(lt_str s, lt_str needle)
{
    if (needle.len == 0)
        return 0;
    if (s.len < needle.len)
        return -1;
    const char *hit = memmem(s.ptr, s.len, needle.ptr, needle.len);
    return hit == NULL ? -1 : hit - s.ptr;
}

bool lt_str_split(lt_str *rest, char sep, lt_str *ret_head)
{
    if (rest->ptr == NULL)
        return false;
    ptrdiff_t at = lt_str_find_char(*rest, sep);
    if (at < 0) {
        *ret_head = *rest;
        *rest = LT_STR_NULL;
        return true;
    }
    *ret_head = lt_str_slice(*rest, 0, (size_t)at);
    *rest = lt_str_from(*rest, (size_t)at + 1);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

lt_str lt_str_trim(lt_str s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

lt_rc lt_str_to_bool(lt_str s, bool *ret_value)
{
    static const char *const words[2][6] = {{"0", "f", "F", "false", "False", "FALSE"},
                                            {"1", "t", "T", "true", "True", "TRUE"}};
    for (size_t i = 0; i < 2 * LT_ARRAY_LEN(words[0]); i++) {
        if (lt_str_eqz(s, words[i % 2][i / 2])) {
            *ret_value = i % 2 == 1;
            return LT_OK;
        }
    }
    return LT_E_BAD;
}

lt_rc lt_str_to_u64(lt_str s, uint64_t *ret_value)
{
    if (s.len == 0)
        return LT_E_BAD;
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return LT_E_BAD;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.ptr[i] - '0'), &value))
            return LT_E_LIMIT;
    }
    *ret_value = value;
    return LT_OK;
}

lt_rc lt_str_to_i64(lt_str s, int64_t *ret_value)
{
    bool is_negative = s.len > 0 && s.ptr[0] == '-';
    uint64_t magnitude = 0;
    LT_TRY(lt_str_to_u64(is_negative ? lt_str_from(s, 1) : s, &magnitude));
    if (magnitude > (uint64_t)INT64_MAX + (is_negative ? 1 : 0))
        return LT_E_LIMIT;
    *ret_value = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return LT_OK;
}

lt_rc lt_str_to_double(lt_str s, double *ret_value)
{
    char text[64];
    if (s.len == 0 || s.len >= sizeof(text) || is_blank(s.ptr[0]))
        return LT_E_BAD;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (end != text + s.len)
        return LT_E_BAD;
    if (errno == ERANGE)
        return LT_E_LIMIT;
    *ret_value = value;
    return LT_OK;
}

char *lt_str_dupz(lt_str s)
{
    char *copy = lt_malloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

/* XXH64 (public specification, doc/xxhash_spec.md of the xxHash project). */
static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static uint64_t rotl(uint64_t x, int r)
{
    return (x << r) | (x >> (64 - r));
}

static uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static uint32_t load32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static uint64_t lane(uint64_t acc, uint64_t input)
{
    return rotl(acc + input * P2, 31) * P1;
}

static uint64_t merge_lane(uint64_t acc, uint64_t value)
{
    return (acc ^ lane(0, value)) * P1 + P4;
}

static uint64_t hash_stripes(const unsigned char **p, const unsigned char *end, uint64_t seed)
{
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    for (; end - *p >= 32; *p += 32) {
        a = lane(a, load64(*p));
        b = lane(b, load64(*p + 8));
        c = lane(c, load64(*p + 16));
        d = lane(d, load64(*p + 24));
    }
    uint64_t acc = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
    acc = merge_lane(acc, a);
    acc = merge_lane(acc, b);
    acc = merge_lane(acc, c);
    return merge_lane(acc, d);
}

uint64_t lt_hash64(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    const unsigned char *end = p + len;
    uint64_t acc = len >= 32 ? hash_stripes(&p, end, seed) : seed + P5;
    acc += len;
    for (; end - p >= 8; p += 8)
        acc = rotl(acc ^ lane(0, load64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        acc = rotl(acc ^ (load32(p) * P1), 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++)
        acc = rotl(acc ^ (*p * P5), 11) * P1;
    acc = (acc ^ (acc >> 33)) * P2;
    acc = (acc ^ (acc >> 29)) * P3;
    return acc ^ (acc >> 32);
}

/* One digit in each byte of the result, the highest in the first byte of memory. */
static uint64_t hex_digits(uint32_t number)
{
    uint64_t x = __builtin_bswap32(number);
    x = (x | x << 16) & 0x0000ffff0000ffffull;
    x = (x | x << 8) & 0x00ff00ff00ff00ffull;
    x = (x >> 4 & 0x000f000f000f000full) | (x << 8 & 0x0f000f000f000f00ull);
    uint64_t is_letter = (x + 0x0606060606060606ull) >> 4 & 0x0101010101010101ull;
    return x + 0x3030303030303030ull + is_letter * ('a' - '9' - 1);
}

void lt_str_put_hex(char out[16], uint64_t number)
{
    uint64_t halves[2] = {hex_digits((uint32_t)(number >> 32)), hex_digits((uint32_t)number)};
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
                   "digits are laid out by the lowest byte");
    memcpy(out, halves, sizeof(halves));
}

/* The seed is the one piece of process-wide state here: written once, before any map exists. */
static uint64_t hash_seed;
static pthread_once_t hash_seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    if (getrandom(&hash_seed, sizeof(hash_seed), 0) != (ssize_t)sizeof(hash_seed))
        lt_assert_fail("getrandom", __FILE__, __LINE__, __func__);
}

uint64_t lt_str_hash(lt_str s)
{
    pthread_once(&hash_seed_once, make_seed);
    return lt_hash64(s.ptr, s.len, hash_seed);
}

/* Length of the sequence at p (RFC 3629 table 3-7), 0 when it is not one. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t need = p[0] >= 0xC2 && p[0] <= 0xDF   ? 2
                  : (p[0] & 0xF0) == 0xE0        ? 3
                  : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                                 : 0;
    if (need == 0 || need > left)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    bool is_bad = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
                  (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return is_bad ? 0 : need;
}

bool lt_str_is_utf8(lt_str s)
{
    size_t at = 0;
    while (at < s.len) {
        /* eight bytes of ASCII at once */
        if (s.len - at >= 8 &&
            (load64((const unsigned char *)s.ptr + at) & 0x8080808080808080u) == 0) {
            at += 8;
            continue;
        }
        size_t step = utf8_len((const unsigned char *)s.ptr + at, s.len - at);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}
