/*
 * http/head.h - the head of a message, whatever version it came in and goes out in.
 * Filled by a codec (h1.c, h2_head.c); everything above reads this one struct. Fields that frame a
 * message on one connection (Content-Length, Transfer-Encoding, Connection) are told by members,
 * not by the list.
 */
#ifndef LT_HTTP_HEAD_H
#define LT_HTTP_HEAD_H

#include "http/headers.h"

/* Of the request target (RFC 9112 section 3.2). */
typedef enum {
    LT_TARGET_ORIGIN,
    LT_TARGET_ABSOLUTE,
    LT_TARGET_AUTHORITY,
    LT_TARGET_ASTERISK,
} lt_http_form;

/* How the end of the body is known (RFC 9112 section 6.3; RFC 9113 section 8.1). */
typedef enum {
    LT_BODY_NONE,
    LT_BODY_LENGTH,
    LT_BODY_CHUNKED, /* HTTP/2: the length was not told */
    LT_BODY_CLOSE,   /* HTTP/1 responses only: all until the connection ends */
    LT_BODY_TUNNEL,  /* after 101 or a 2xx to CONNECT: bytes of something else */
} lt_http_body;

struct lt_http_head {
    /* requests; slices of the input or of the arena */
    lt_str method;
    lt_str target;    /* HTTP/1: as it came */
    lt_str scheme;    /* HTTP/2, and the absolute form; else empty */
    lt_str authority; /* the target's (RFC 9112 section 3.2.2), else Host's; may be empty */
    lt_str path;      /* and query; "/" where there is none, "*", empty for CONNECT */
    lt_str protocol;  /* HTTP/2: of an extended CONNECT (RFC 8441), else empty */
    lt_http_method method_id;
    lt_http_form form;
    /* responses */
    unsigned status;
    lt_str reason; /* HTTP/1 */
    /* both */
    bool is_h2;
    unsigned minor;            /* HTTP/1: 1 for 1.1, 0 for 1.0 */
    struct lt_headers headers; /* all fields as received, hop-by-hop ones included */
    lt_http_body body;
    uint64_t content_length; /* valid when: */
    bool has_content_length; /* also where no body follows (HEAD, 304) */
    bool is_chunked; /* Transfer-Encoding: chunked was there, also where no body follows (HEAD) */
    lt_str coding_name;    /* HTTP/1, is_chunked: as it was spelled */
    bool keep_alive;       /* the connection may carry another message after this one */
    bool wants_upgrade;    /* Connection: upgrade and an Upgrade field; an extended CONNECT */
    bool expects_continue; /* Expect: 100-continue on a request with a body, not from HTTP/1.0 */
    uint32_t bytes; /* length as received: HTTP/1 with its empty line; HTTP/2 names and values */
};

/* count_max or bytes_max 0: the defaults of lt_headers_init. */
void lt_http_head_init(struct lt_http_head *head, struct lt_arena *arena, uint32_t count_max,
                       uint32_t bytes_max);

#endif
