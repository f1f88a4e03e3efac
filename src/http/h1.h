/*
 * http/h1.h - HTTP/1.0 and 1.1 as an engine: bytes to messages and back, both directions. No I/O,
 * no clock, no heap.
 *
 * One struct lt_h1_parser reads one direction of one connection, message after message:
 *
 *     lt_h1_parse_head    LT_AGAIN until the empty line is there; then the head, as slices
 *     lt_h1_parse_body    until is_end: slices of payload (or, raw, of framing and payload)
 *     lt_h1_next_message  when head and body are done
 *
 * The caller keeps unread input in one contiguous piece and drops what was reported as used.
 * Nothing is copied: a head's slices live as long as the bytes they were read from stay where they
 * are.
 *
 * Where it is stricter than RFC 9112 asks: folded lines, bare CR, Content-Length beside
 * Transfer-Encoding, any coding other than a single "chunked", repeated Host, control bytes. Line
 * ends of a head may be a bare LF (RFC 9112 section 2.2: what is forwarded is written anew, with
 * CRLF); in chunk framing, which may be forwarded raw, they may not.
 * Trust: everything read was written by a stranger.   Start at: lt_h1_parse_head().
 */
#ifndef LT_HTTP_H1_H
#define LT_HTTP_H1_H

#include "base/buf.h"
#include "http/head.h"

typedef enum {
#define LT_H1_ERROR(name, status, details, text) LT_H1_E_##name,
#include "http/h1_errors.def"
#undef LT_H1_ERROR
    LT_H1_ERRORS
} lt_h1_error;

/*
 * Status of the reply to a request that was refused so; Envoy's response code details; a phrase for
 * people.
 */
unsigned lt_h1_error_status(lt_h1_error error);
const char *lt_h1_error_details(lt_h1_error error);
const char *lt_h1_error_text(lt_h1_error error);

struct lt_h1_limits {
    uint32_t head_bytes_max;      /* with all line ends; Envoy's 60 KiB */
    uint32_t headers_max;         /* Envoy's 100 */
    uint32_t chunk_ext_bytes_max; /* of one chunk line: 4096. Only attackers use extensions */
    uint32_t trailer_bytes_max;   /* 8 KiB */
    uint32_t trailers_max;        /* 32 */
};

/* The values named above. */
extern const struct lt_h1_limits lt_h1_limits_default;

struct lt_h1_parser {
    const struct lt_h1_limits *limits; /* borrowed */
    bool is_response;
    /* responses: set before each head; cleared by lt_h1_next_message */
    bool request_was_head;
    bool request_was_connect;
    /* requests: HTTP/1.1 without Host is LT_H1_E_HOST_MISSING; on by default */
    bool needs_host;
    lt_h1_error error; /* why LT_E_BAD or LT_E_LIMIT was returned */

    /* inner: head */
    const char *base; /* where the input was in the last call; moved: start again */
    uint32_t line_at; /* offset of the first line that was not taken yet */
    uint32_t seen;    /* no LF in [line_at, seen) */
    uint32_t head_at; /* offset of the start line, behind empty lines */
    uint8_t head_step;
    /* inner: body */
    uint8_t chunk_step;
    uint8_t chunk_digits;
    lt_http_body body;
    uint64_t left;       /* of the body, or of the chunk */
    uint32_t ext_bytes;  /* of this chunk line */
    uint64_t body_bytes; /* payload so far */
};

/* limits NULL: the defaults. */
void lt_h1_parser_init(struct lt_h1_parser *parser, bool is_response,
                       const struct lt_h1_limits *limits);
/* After the end of a body (or a head without one), and after an interim response (1xx, not 101). */
void lt_h1_next_message(struct lt_h1_parser *parser);

/*
 * input: all bytes not yet used, the same in front as in the last call (perhaps moved) and more
 * behind. head: made by lt_h1_head_init for this
 * message. LT_OK: *ret_used bytes of input are the
 * head. LT_AGAIN: incomplete. LT_E_BAD or
 * LT_E_LIMIT: parser->error; the connection cannot be used any more.
 */
LT_MUST lt_rc lt_h1_parse_head(struct lt_h1_parser *parser, lt_str input, struct lt_http_head *head,
                               size_t *ret_used);

/* An empty head with the limits' room; limits NULL: the defaults. */
void lt_h1_head_init(struct lt_http_head *head, struct lt_arena *arena,
                     const struct lt_h1_limits *limits);

struct lt_h1_piece {
    size_t used; /* bytes of the input that are done with */
    lt_str data; /* a part of the input, inside the used bytes; may be empty */
    bool is_end; /* the message is complete; what follows in the input belongs to the next */
};

/*
 * The next piece of the body. Call until is_end, or until used is 0 (more input is needed then;
 * LT_AGAIN). raw: data is framing and payload as received, to be forwarded as it is; chunk
 * extensions and trailers are left out of it. trailers (may be NULL: dropped): filled from the
 * trailer section in the call that sets is_end, as slices of the input; in raw mode they go before
 * that call's data. Fields that frame or route a message are never taken from there (RFC 9110
 * section 6.5.1).
 */
LT_MUST lt_rc lt_h1_parse_body(struct lt_h1_parser *parser, lt_str input, bool raw,
                               struct lt_headers *trailers, struct lt_h1_piece *ret_piece);
/*
 * The connection ended: LT_OK when that completes the body (LT_BODY_CLOSE, or already at its
 * end), else LT_E_BAD.
 */
LT_MUST lt_rc lt_h1_body_eof(struct lt_h1_parser *parser);

/*
 * Takes out what belongs to one hop (RFC 9110 section 7.6.1): Connection and all it names,
 * Keep-Alive, Proxy-Connection, TE other than "trailers", Transfer-Encoding, HTTP2-Settings, and
 * Upgrade unless keep_upgrade. LT_E_BAD when Connection names a field that the next hop relies on
 * (Host, X-Forwarded-*, ...): LT_H1_E_CONNECTION.
 */
LT_MUST lt_rc lt_h1_strip_hop_by_hop(struct lt_headers *headers, bool keep_upgrade);

/* --- writing --- */

/* How names of fields are spelled. */
typedef enum {
    LT_H1_CASE_LOWER,       /* x-my-name: as Envoy writes them */
    LT_H1_CASE_PROPER,      /* X-My-Name */
    LT_H1_CASE_KEPT,        /* as they are in the list */
    LT_H1_CASE_KEPT_PROPER, /* the same; those that were not received are proper */
} lt_h1_case;

/*
 * What the writer says about framing and connection; fields of those names in the list are not
 * written.
 */
struct lt_h1_framing {
    lt_http_body body; /* LENGTH writes Content-Length, CHUNKED Transfer-Encoding; others nothing */
    uint64_t content_length;
    const char *connection; /* "close", "keep-alive", "upgrade", or NULL for no Connection field */
    lt_h1_case name_case;
    lt_str coding_name; /* KEPT: how Transfer-Encoding was spelled; empty: in lower case */
};

/*
 * The head with its empty line. minor: 0 or 1. LT_E_LIMIT when out is full; nothing was written
 * then.
 */
LT_MUST lt_rc lt_h1_write_request(struct lt_buf *out, lt_str method, lt_str target, unsigned minor,
                                  const struct lt_headers *headers,
                                  const struct lt_h1_framing *framing);
/* reason empty: the registered phrase. */
LT_MUST lt_rc lt_h1_write_response(struct lt_buf *out, unsigned status, lt_str reason,
                                   unsigned minor, const struct lt_headers *headers,
                                   const struct lt_h1_framing *framing);

enum { LT_H1_CHUNK_LINE_MAX = 18 };
/*
 * "1f4\r\n" for a chunk of len > 0 bytes: returns its length. The chunk's data must be followed by
 * "\r\n".
 */
size_t lt_h1_chunk_line(char out[LT_H1_CHUNK_LINE_MAX], uint64_t len);
/* data as one chunk; nothing when it is empty (an empty chunk would end the body). */
LT_MUST lt_rc lt_h1_write_chunk(struct lt_buf *out, lt_str data);
/* The last chunk and the trailers (may be NULL). */
LT_MUST lt_rc lt_h1_write_last_chunk(struct lt_buf *out, const struct lt_headers *trailers);

#endif
