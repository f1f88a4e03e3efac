/*
 * http/h2_head.h - between HTTP/2 header blocks and heads (http/head.h), both ways.
 * What nghttp2 has checked is not checked again: order and number of pseudo fields, characters of
 * names, values, methods, schemes and paths, fields of a connection, Content-Length against DATA
 * (RFC 9113 section 8).
 */
#ifndef LT_HTTP_H2_HEAD_H
#define LT_HTTP_H2_HEAD_H

#include "http/h2.h"
#include "http/head.h"

/*
 * Into a head that was just made by lt_http_head_init; all bytes are copied into its arena.
 * Several Cookie fields become one (RFC 9113 section 8.2.3). An extended CONNECT becomes a GET that
 * wants an upgrade. LT_E_LIMIT: over the connection's or
 * the list's limits (answer 431). LT_E_BAD: no authority that anybody could mean.
 */
LT_MUST lt_rc lt_h2_read_request(const struct lt_h2_fields *fields, bool is_end,
                                 struct lt_http_head *head);
/* answers_head: the request was HEAD: no body follows whatever the fields say. */
LT_MUST lt_rc lt_h2_read_response(const struct lt_h2_fields *fields, bool is_end, bool answers_head,
                                  struct lt_http_head *head);
/* Adds to the list, copied; pseudo fields and those that frame a message are left out. */
LT_MUST lt_rc lt_h2_read_trailers(const struct lt_h2_fields *fields, struct lt_headers *trailers);

/* Fields in the arena; names and values are borrowed from what they were made of. */
struct lt_h2_made {
    struct lt_h2_field *items;
    size_t count;
};

/*
 * method, scheme, authority, path (and protocol, when not empty) as pseudo fields, then the list
 * without Host and what frames a message, then content-length if the head tells one. With CONNECT
 * and no protocol only method and authority (RFC 9113 section 8.5).
 */
struct lt_h2_made lt_h2_make_request(struct lt_arena *arena, const struct lt_http_head *head);
struct lt_h2_made lt_h2_make_response(struct lt_arena *arena, const struct lt_http_head *head);
struct lt_h2_made lt_h2_make_trailers(struct lt_arena *arena, const struct lt_headers *trailers);

#endif
