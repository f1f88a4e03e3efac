/*
 * http/headers.h - the header fields of one message, in order, as slices of somebody's bytes.
 * Names keep the case they came with and compare without it. Well-known names (headers.def) carry
 * an id, so that looking one up is a bit test when it is absent and one compare an entry when it is
 * there.
 * Not here: what a field means (h1.c, the programs); pseudo headers, which are fields of the
 * request.
 * Trust: names and values are checked by the codec that read them; lt_headers_add checks nothing.
 */
#ifndef LT_HTTP_HEADERS_H
#define LT_HTTP_HEADERS_H

#include "base/arena.h"
#include "http/http.h"

typedef enum {
    LT_H_OTHER = 0,
#define LT_HEADER(id, name, a, b, c, d) LT_H_##id,
#include "http/headers.def"
#undef LT_HEADER
    LT_H_COUNT
} lt_header_id;

struct lt_header {
    lt_str name;  /* borrowed */
    lt_str value; /* borrowed */
    uint8_t id;   /* lt_header_id */
    bool
        is_received; /* the name is the peer's; set by who wants to know (LT_H1_CASE_KEPT_PROPER) */
};

enum {
    LT_HEADERS_FIRST = 24,            /* entries of the first array: most requests need no second */
    LT_HEADERS_COUNT_MAX = 100,       /* Envoy's max_headers_count */
    LT_HEADERS_BYTES_MAX = 60 * 1024, /* Envoy's max_request_headers_kb */
};

struct lt_headers {
    struct lt_header *items; /* in the arena */
    uint32_t count;
    uint32_t cap;
    uint32_t count_max;
    uint32_t bytes_max; /* of names and values together */
    uint32_t bytes;
    uint64_t present[2];    /* bit i: an entry with id i may be there */
    struct lt_arena *arena; /* borrowed */
};

/* count_max or bytes_max 0: the defaults above. The arena must outlive the list. */
void lt_headers_init(struct lt_headers *headers, struct lt_arena *arena, uint32_t count_max,
                     uint32_t bytes_max);
/* Empty again; keeps the array. Only while the arena was not reset. */
void lt_headers_clear(struct lt_headers *headers);

/* LT_H_OTHER when the name is not well known. */
lt_header_id lt_header_id_of(lt_str name);
/* In lower case; asserts that id is a well-known one. */
lt_str lt_header_name(lt_header_id id);
/*
 * RFC 9110 section 6.5.1: fields that say how to read, route or authorise a message come too late
 * in the trailers of HTTP/1, whose readers may put them among the others.
 */
bool lt_http_is_trailer(lt_header_id id);

static inline bool lt_headers_may_have(const struct lt_headers *headers, lt_header_id id)
{
    return (headers->present[id >> 6] >> (id & 63) & 1) != 0;
}

/*
 * Well-known names as a set: LT_HEADER_SET(NAMES), after
 * #define NAMES(X) X(LT_H_TE) X(LT_H_UPGRADE)
 */
struct lt_header_set {
    uint64_t bits[2];
};
#define LT_HEADER_LOW(id) ((id) < 64 ? 1ull << ((id)&63) : 0) |
#define LT_HEADER_HIGH(id) ((id) >= 64 ? 1ull << ((id)&63) : 0) |
#define LT_HEADER_SET(NAMES) \
    { \
        .bits = { NAMES(LT_HEADER_LOW) 0, NAMES(LT_HEADER_HIGH) 0 } \
    }

static inline bool lt_headers_may_have_any(const struct lt_headers *headers,
                                           const struct lt_header_set *set)
{
    return ((headers->present[0] & set->bits[0]) | (headers->present[1] & set->bits[1])) != 0;
}

/* The first entry, or NULL. `find` is for well-known ids, `find_name` for any name. */
struct lt_header *lt_headers_find(const struct lt_headers *headers, lt_header_id id);
struct lt_header *lt_headers_find_name(const struct lt_headers *headers, lt_str name);
/* The next one of the same name behind `after`, or NULL. */
struct lt_header *lt_headers_find_next(const struct lt_headers *headers,
                                       const struct lt_header *after);
/* The first value, or an empty slice with a NULL ptr. */
lt_str lt_headers_value(const struct lt_headers *headers, lt_header_id id);
lt_str lt_headers_value_of(const struct lt_headers *headers, lt_str name);
/*
 * All values of the name joined by "," as RFC 9110 section 5.3 allows (";" for cookies); copied
 * into the arena only when there are several (which must have room for it). ptr NULL when there is
 * none.
 */
lt_str lt_headers_joined(const struct lt_headers *headers, lt_str name);

/*
 * At the end. name and value are borrowed. LT_E_LIMIT beyond the limits or the arena's; nothing is
 * added then.
 */
LT_MUST lt_rc lt_headers_add(struct lt_headers *headers, lt_str name, lt_str value);
LT_MUST lt_rc lt_headers_add_id(struct lt_headers *headers, lt_header_id id, lt_str value);
/* Replaces the first entry's value and drops further ones; adds when there is none. */
LT_MUST lt_rc lt_headers_set(struct lt_headers *headers, lt_str name, lt_str value);
LT_MUST lt_rc lt_headers_set_id(struct lt_headers *headers, lt_header_id id, lt_str value);

/* All entries of that name; returns how many went. Order is kept. Entry pointers move. */
uint32_t lt_headers_remove(struct lt_headers *headers, lt_header_id id);
/* All of them at once; costs nothing where there are none. */
uint32_t lt_headers_remove_set(struct lt_headers *headers, const struct lt_header_set *set);
uint32_t lt_headers_remove_name(struct lt_headers *headers, lt_str name);
/* This one. */
void lt_headers_remove_at(struct lt_headers *headers, uint32_t at);
/* All whose name starts so, whatever the case. */
uint32_t lt_headers_remove_prefix(struct lt_headers *headers, lt_str prefix);

/* Appends every entry of src as it is. */
LT_MUST lt_rc lt_headers_add_all(struct lt_headers *headers, const struct lt_headers *src);
/*
 * Copies all names and values into the list's arena (which must have room), so that the bytes they
 * came from may go.
 */
void lt_headers_own(struct lt_headers *headers);
/* All that is in the list came from the peer. */
void lt_headers_mark_received(struct lt_headers *headers);

#endif
