/*
 * wire/ads_priv.h - what the files of wire/ads share: a flat reader and writer of the few discovery
 * messages, the table of names of a session, and the resource.
 *   ads_msg.c      reader, writer, lists         ads_client.c    the proxy's side
 *   ads_names.c    table of names                ads_session.c   the server's side
 *   ads_resource.c a resource, serialised once, and the pool that has each once
 * The discovery messages are read here and not by wire/pb.h: a push of 64 MiB is walked in place,
 * and what is inside a resource is not this engine's business. Fields: discovery.proto.
 */
#ifndef LT_WIRE_ADS_PRIV_H
#define LT_WIRE_ADS_PRIV_H

#include "wire/ads.h"

/* --- ads_msg.c: reading --- */

enum {
    LT_ADS_WIRE_VARINT = 0,
    LT_ADS_WIRE_FIXED64 = 1,
    LT_ADS_WIRE_BYTES = 2,
    LT_ADS_WIRE_FIXED32 = 5
};

struct lt_ads_field {
    uint32_t number;
    uint32_t wire;  /* one of the above */
    uint64_t value; /* of a varint */
    lt_str bytes;   /* of LT_ADS_WIRE_BYTES */
};

/* Takes the next field from the front of *rest. LT_EOF at its end; LT_E_BAD: broken, or a group. */
LT_MUST lt_rc lt_ads_field_next(lt_str *rest, struct lt_ads_field *ret_field);
/* LT_E_BAD unless the field is a string (UTF-8, at most bytes_max). */
LT_MUST lt_rc lt_ads_field_text(const struct lt_ads_field *field, size_t bytes_max,
                                lt_str *ret_text);
/* key and value of a map<string, string> entry. */
LT_MUST lt_rc lt_ads_pair_read(lt_str entry, lt_str *ret_key, lt_str *ret_value);

/* A growing list of slices; its owner frees items. */
struct lt_ads_strs {
    lt_str *items;
    size_t count;
    size_t cap;
};

void lt_ads_strs_add(struct lt_ads_strs *strs, lt_str s);
void lt_ads_strs_fini(struct lt_ads_strs *strs);

/* --- ads_msg.c: writing --- */

enum { LT_ADS_HEAD_MAX = 16 }; /* tag and length of a field */

/* Tag and length of a bytes field; returns how many bytes were written. */
size_t lt_ads_put_head(char out[LT_ADS_HEAD_MAX], uint32_t number, size_t len);
size_t lt_ads_bytes_size(uint32_t number, size_t len);
/* A whole bytes field, also when it is empty. LT_E_LIMIT of buf. */
LT_MUST lt_rc lt_ads_put_bytes(struct lt_buf *buf, uint32_t number, lt_str bytes);
LT_MUST lt_rc lt_ads_put_varint(struct lt_buf *buf, uint32_t number, uint64_t value);
LT_MUST lt_rc lt_ads_put_pair(struct lt_buf *buf, uint32_t number, lt_str key, lt_str value);

/* --- ads_names.c --- */

/* What a client has of one name: 32 bytes, because there is one for each resource of each proxy. */
struct lt_ads_name {
    struct lt_bytes *name; /* counted; the resource's own once it was sent */
    union {
        struct lt_ads_resource *resource; /* counted; NULL: none */
        uint64_t version;                 /* is_reported: its hash is all we know */
    } held;
    struct lt_ads_resource *sent; /* counted; while it is pending; NULL: a removal */
    uint32_t sent_seq;
    uint32_t hash : 27;
    uint32_t is_subscribed : 1;
    uint32_t is_held : 1;
    uint32_t is_reported : 1; /* held is what the client said at the start */
    uint32_t is_pending : 1;
    uint32_t : 1;
};

struct lt_ads_names {
    struct lt_ads_name *items; /* owned; dense */
    uint32_t *slots;           /* owned; index + 1, 0 is free */
    size_t count;
    size_t cap; /* of slots */
};

void lt_ads_names_fini(struct lt_ads_names *names);
/* NULL: none. Valid until the next put or remove. */
struct lt_ads_name *lt_ads_names_find(const struct lt_ads_names *names, lt_str name);
/*
 * Finds or adds. shared (may be NULL) is the counted block of the name: the entry keeps a count
 * instead of a copy.
 */
struct lt_ads_name *lt_ads_names_put(struct lt_ads_names *names, lt_str name,
                                     struct lt_bytes *shared);
/* Takes the caller's count; NULL: the client has none. */
void lt_ads_name_set_held(struct lt_ads_name *entry, struct lt_ads_resource *resource);
void lt_ads_name_report(struct lt_ads_name *entry, uint64_t version);
/* The last entry takes its place. */
void lt_ads_names_remove(struct lt_ads_names *names, struct lt_ads_name *entry);

/* --- ads_resource.c --- */

struct lt_ads_resource {
    struct lt_bytes
        body; /* a serialised Resource, in the same block; its count is the resource's */
    struct lt_bytes *name; /* counted; of its own, because sessions keep names longer than bodies */
    lt_str version;        /* in body, as value is */
    lt_str value;
    uint64_t version_hash;
    size_t key_len; /* of the body's head: all but the value */
};

#endif
