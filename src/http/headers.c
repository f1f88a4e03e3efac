/*
 * http/headers.c - the list of header fields, and the table of well-known names.
 */
#include "http/headers.h"

#include <strings.h>

static const lt_str known_names[LT_H_COUNT] = {
#define LT_HEADER(id, name, a, b, c, d) [LT_H_##id] = {name, sizeof(name) - 1},
#include "http/headers.def"
#undef LT_HEADER
};

/*
 * Length and four letters make 32 bits by these multipliers; the upper nine are a slot. They were
 * found by trying until no two names of headers.def meet (a search of a second: any random odd
 * numbers do with a probability of about 1/1000).
 */
#define MIX(len, a, b, c, d) \
    ((uint32_t)(len)*0x9104d45du + (uint32_t)(a)*0x50834b0fu + (uint32_t)(b)*0x66501877u + \
     (uint32_t)(c)*0x4c86e357u + (uint32_t)(d)*0xca3792fu)
enum { SLOTS = 512 };
#define SLOT(mix) ((mix) >> 23)

static const uint8_t slots[SLOTS] = {
#define LT_HEADER(id, name, a, b, c, d) [SLOT(MIX(sizeof(name) - 1, a, b, c, d))] = LT_H_##id,
#include "http/headers.def"
#undef LT_HEADER
};

_Static_assert(LT_H_COUNT <= 128, "struct lt_headers.present has 128 bits");

/*
 * Same letters when the case is taken away. `lower` has only a-z, 0-9 and '-', for which setting
 * bit 5 of a token's character gives the lower case of that character and of no other.
 */
static uint64_t differ8(const char *name, const char *lower)
{
    uint64_t a, b;
    memcpy(&a, name, 8);
    memcpy(&b, lower, 8);
    return (a | 0x2020202020202020u) ^ b;
}

static bool is_same_token(const char *name, const char *lower, size_t len)
{
    uint64_t wrong = 0;
    size_t at = 0;
    if (len >= 8) { /* the last eight overlap what was compared before */
        for (; at + 8 < len; at += 8)
            wrong |= differ8(name + at, lower + at);
        return (wrong | differ8(name + len - 8, lower + len - 8)) == 0;
    }
    for (; at < len; at++)
        wrong |= (uint64_t)(unsigned char)((name[at] | 0x20) ^ lower[at]);
    return wrong == 0;
}

lt_header_id lt_header_id_of(lt_str name)
{
    size_t len = name.len;
    if (len == 0)
        return LT_H_OTHER;
    const char *p = name.ptr;
    uint32_t slot = SLOT(
        MIX(len, p[0] | 0x20, p[len / 3] | 0x20, p[len * 3 / 4] | 0x20, p[len - 1] | 0x20));
    lt_str known = known_names[slots[slot]];
    return known.len == len && is_same_token(p, known.ptr, len) ? (lt_header_id)slots[slot]
                                                                : LT_H_OTHER;
}

lt_str lt_header_name(lt_header_id id)
{
    LT_ASSERT(id > LT_H_OTHER && id < LT_H_COUNT);
    return known_names[id];
}

bool lt_http_is_trailer(lt_header_id id)
{
    switch (id) {
    case LT_H_OTHER:
    case LT_H_DATE:
    case LT_H_ETAG:
    case LT_H_GRPC_STATUS:
    case LT_H_GRPC_MESSAGE: return true;
    default: return false;
    }
}

void lt_headers_init(struct lt_headers *headers, struct lt_arena *arena, uint32_t count_max,
                     uint32_t bytes_max)
{
    LT_ASSERT(arena != NULL);
    *headers = (struct lt_headers){
        .count_max = count_max != 0 ? count_max : LT_HEADERS_COUNT_MAX,
        .bytes_max = bytes_max != 0 ? bytes_max : LT_HEADERS_BYTES_MAX,
        .arena = arena,
    };
}

void lt_headers_clear(struct lt_headers *headers)
{
    headers->count = headers->bytes = 0;
    headers->present[0] = headers->present[1] = 0;
}

static bool is_named(const struct lt_header *header, lt_header_id id, lt_str name)
{
    if (id != LT_H_OTHER)
        return header->id == id;
    return header->id == LT_H_OTHER && header->name.len == name.len &&
           strncasecmp(header->name.ptr, name.ptr, name.len) == 0;
}

static struct lt_header *find_from(const struct lt_headers *headers, uint32_t at, lt_header_id id,
                                   lt_str name)
{
    for (; at < headers->count; at++) {
        if (is_named(&headers->items[at], id, name))
            return &headers->items[at];
    }
    return NULL;
}

struct lt_header *lt_headers_find(const struct lt_headers *headers, lt_header_id id)
{
    LT_ASSERT(id != LT_H_OTHER);
    return lt_headers_may_have(headers, id) ? find_from(headers, 0, id, LT_STR_NULL) : NULL;
}

struct lt_header *lt_headers_find_name(const struct lt_headers *headers, lt_str name)
{
    lt_header_id id = lt_header_id_of(name);
    return lt_headers_may_have(headers, id) ? find_from(headers, 0, id, name) : NULL;
}

struct lt_header *lt_headers_find_next(const struct lt_headers *headers,
                                       const struct lt_header *after)
{
    ptrdiff_t at = after - headers->items;
    LT_ASSERT(at >= 0 && at < (ptrdiff_t)headers->count);
    return find_from(headers, (uint32_t)at + 1, (lt_header_id)after->id, after->name);
}

lt_str lt_headers_value(const struct lt_headers *headers, lt_header_id id)
{
    const struct lt_header *header = lt_headers_find(headers, id);
    return header == NULL ? LT_STR_NULL : header->value;
}

lt_str lt_headers_value_of(const struct lt_headers *headers, lt_str name)
{
    const struct lt_header *header = lt_headers_find_name(headers, name);
    return header == NULL ? LT_STR_NULL : header->value;
}

lt_str lt_headers_joined(const struct lt_headers *headers, lt_str name)
{
    const struct lt_header *first = lt_headers_find_name(headers, name);
    if (first == NULL)
        return LT_STR_NULL;
    size_t len = first->value.len;
    for (const struct lt_header *it = first; (it = lt_headers_find_next(headers, it)) != NULL;)
        len += it->value.len + 2;
    if (len == first->value.len)
        return first->value;
    lt_str joint = first->id == LT_H_COOKIE ? LT_STR("; ") : LT_STR(",");
    char *text = lt_arena_bytes(headers->arena, len);
    char *end = text;
    for (const struct lt_header *it = first; it != NULL; it = lt_headers_find_next(headers, it)) {
        if (it != first)
            end = mempcpy(end, joint.ptr, joint.len);
        if (it->value.len > 0)
            end = mempcpy(end, it->value.ptr, it->value.len);
    }
    return lt_str_make(text, (size_t)(end - text));
}

static lt_rc grow(struct lt_headers *headers)
{
    uint32_t cap = headers->cap == 0 ? (uint32_t)LT_HEADERS_FIRST : headers->cap * 2;
    struct lt_header *items = lt_arena_try_alloc(headers->arena, cap * sizeof(*items));
    if (items == NULL)
        return LT_E_LIMIT;
    if (headers->count > 0)
        memcpy(items, headers->items, headers->count * sizeof(*items));
    headers->items = items;
    headers->cap = cap;
    return LT_OK;
}

static lt_rc add(struct lt_headers *headers, lt_header_id id, lt_str name, lt_str value)
{
    size_t bytes = name.len + value.len;
    if (headers->count >= headers->count_max || bytes > headers->bytes_max - headers->bytes)
        return LT_E_LIMIT;
    if (LT_UNLIKELY(headers->count == headers->cap))
        LT_TRY(grow(headers));
    headers->items[headers->count++] = (struct lt_header){name, value, (uint8_t)id, false};
    headers->bytes += (uint32_t)bytes;
    headers->present[id >> 6] |= 1ull << (id & 63);
    return LT_OK;
}

lt_rc lt_headers_add(struct lt_headers *headers, lt_str name, lt_str value)
{
    return add(headers, lt_header_id_of(name), name, value);
}

lt_rc lt_headers_add_id(struct lt_headers *headers, lt_header_id id, lt_str value)
{
    return add(headers, id, lt_header_name(id), value);
}

/* Drops every entry of that name behind the first `keep` entries. */
static uint32_t remove_from(struct lt_headers *headers, uint32_t keep, lt_header_id id, lt_str name)
{
    uint32_t to = keep;
    for (uint32_t at = keep; at < headers->count; at++) {
        if (is_named(&headers->items[at], id, name))
            headers->bytes -= (uint32_t)(headers->items[at].name.len +
                                         headers->items[at].value.len);
        else
            headers->items[to++] = headers->items[at];
    }
    uint32_t gone = headers->count - to;
    headers->count = to;
    return gone;
}

static lt_rc set(struct lt_headers *headers, lt_header_id id, lt_str name, lt_str value)
{
    struct lt_header *first = lt_headers_may_have(headers, id) ? find_from(headers, 0, id, name)
                                                               : NULL;
    if (first == NULL)
        return add(headers, id, name, value);
    if (value.len > first->value.len &&
        value.len - first->value.len > headers->bytes_max - headers->bytes)
        return LT_E_LIMIT;
    headers->bytes = headers->bytes - (uint32_t)first->value.len + (uint32_t)value.len;
    first->value = value;
    remove_from(headers, (uint32_t)(first - headers->items) + 1, id, name);
    return LT_OK;
}

lt_rc lt_headers_set(struct lt_headers *headers, lt_str name, lt_str value)
{
    return set(headers, lt_header_id_of(name), name, value);
}

lt_rc lt_headers_set_id(struct lt_headers *headers, lt_header_id id, lt_str value)
{
    return set(headers, id, lt_header_name(id), value);
}

/* Bit 0 (names without an id) stays: other names may be there. */
static void forget(struct lt_headers *headers, lt_header_id id)
{
    if (id != LT_H_OTHER)
        headers->present[id >> 6] &= ~(1ull << (id & 63));
}

uint32_t lt_headers_remove(struct lt_headers *headers, lt_header_id id)
{
    LT_ASSERT(id != LT_H_OTHER);
    if (!lt_headers_may_have(headers, id))
        return 0;
    forget(headers, id);
    return remove_from(headers, 0, id, LT_STR_NULL);
}

uint32_t lt_headers_remove_set(struct lt_headers *headers, const struct lt_header_set *set)
{
    if (!lt_headers_may_have_any(headers, set))
        return 0;
    uint32_t to = 0;
    for (uint32_t at = 0; at < headers->count; at++) {
        const struct lt_header *header = &headers->items[at];
        if ((set->bits[header->id >> 6] >> (header->id & 63) & 1) != 0)
            headers->bytes -= (uint32_t)(header->name.len + header->value.len);
        else
            headers->items[to++] = *header;
    }
    uint32_t gone = headers->count - to;
    headers->count = to;
    headers->present[0] &= ~set->bits[0];
    headers->present[1] &= ~set->bits[1];
    return gone;
}

uint32_t lt_headers_remove_name(struct lt_headers *headers, lt_str name)
{
    lt_header_id id = lt_header_id_of(name);
    if (!lt_headers_may_have(headers, id))
        return 0;
    forget(headers, id);
    return remove_from(headers, 0, id, name);
}

void lt_headers_remove_at(struct lt_headers *headers, uint32_t at)
{
    LT_ASSERT(at < headers->count);
    struct lt_header *gone = &headers->items[at];
    headers->bytes -= (uint32_t)(gone->name.len + gone->value.len);
    memmove(gone, gone + 1, (headers->count - at - 1) * sizeof(*gone));
    headers->count--;
}

uint32_t lt_headers_remove_prefix(struct lt_headers *headers, lt_str prefix)
{
    uint32_t to = 0;
    for (uint32_t at = 0; at < headers->count; at++) {
        struct lt_header header = headers->items[at];
        if (lt_str_case_eq(lt_str_slice(header.name, 0, prefix.len), prefix))
            headers->bytes -= (uint32_t)(header.name.len + header.value.len);
        else
            headers->items[to++] = header;
    }
    uint32_t gone = headers->count - to;
    headers->count = to;
    return gone;
}

lt_rc lt_headers_add_all(struct lt_headers *headers, const struct lt_headers *src)
{
    for (uint32_t i = 0; i < src->count; i++) {
        const struct lt_header *header = &src->items[i];
        LT_TRY(add(headers, (lt_header_id)header->id, header->name, header->value));
    }
    return LT_OK;
}

void lt_headers_own(struct lt_headers *headers)
{
    if (headers->bytes == 0)
        return;
    char *to = lt_arena_bytes(headers->arena, headers->bytes);
    for (uint32_t i = 0; i < headers->count; i++) {
        struct lt_header *header = &headers->items[i];
        lt_str *parts[] = {&header->name, &header->value};
        for (size_t p = 0; p < LT_ARRAY_LEN(parts); p++) {
            if (parts[p]->len > 0)
                memcpy(to, parts[p]->ptr, parts[p]->len);
            parts[p]->ptr = to;
            to += parts[p]->len;
        }
    }
}

void lt_headers_mark_received(struct lt_headers *headers)
{
    for (uint32_t i = 0; i < headers->count; i++)
        headers->items[i].is_received = true;
}
