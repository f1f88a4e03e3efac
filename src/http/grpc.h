/*
 * http/grpc.h - gRPC's own layer on HTTP/2, as an engine: message framing, status, timeout and
 * message text.
 * Facts: gRPC's PROTOCOL-HTTP2 document. Streams and sockets: http/grpc_server.h,
 * http/grpc_client.h.
 * Trust: all bytes are a stranger's.   Start at: lt_grpc_reader_next().
 */
#ifndef LT_HTTP_GRPC_H
#define LT_HTTP_GRPC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/rope.h"

typedef enum {
#define LT_GRPC_CODE(id, number, name) LT_GRPC_##id = number,
#include "http/grpc_code.def"
#undef LT_GRPC_CODE
} lt_grpc_code;

/* "OK", "CANCELLED", ...; "CODE(99)" is not made: unknown numbers are "UNKNOWN". Never NULL. */
const char *lt_grpc_code_name(uint32_t code);
/* What a client makes of an answer without grpc-status (gRPC's http-grpc-status-mapping). */
lt_grpc_code lt_grpc_code_of_http(unsigned http_status);
/* What a client makes of RST_STREAM with this HTTP/2 code. */
lt_grpc_code lt_grpc_code_of_h2(uint32_t h2_code);

/* --- framing --- */

enum { LT_GRPC_PREFIX_BYTES = 5 };
/* Largest push that is known is 25 MB (5000 services); istiod never splits a response. */
#define LT_GRPC_MESSAGE_BYTES_MAX_ADS (64u << 20)

/*
 * Takes messages out of a byte stream. Memory grows with what came, not with what a prefix claims.
 */
struct lt_grpc_reader {
    struct lt_buf partial; /* owned; prefix and body of a message that came in pieces */
    size_t message_bytes_max;
    bool has_message; /* partial holds the message handed out last */
};

void lt_grpc_reader_init(struct lt_grpc_reader *reader, size_t message_bytes_max);
void lt_grpc_reader_fini(struct lt_grpc_reader *reader);
/*
 * Takes the next message from *input (moved past what was used). LT_OK with *ret_message, which
 * borrows from *input or from the reader until the next call; LT_AGAIN: input is used up;
 * LT_E_LIMIT: a message over message_bytes_max; LT_E_UNSUPPORTED: its compressed flag is set;
 * LT_E_BAD: a flag byte that has no meaning. After an error the stream is of no more use.
 */
LT_MUST lt_rc lt_grpc_reader_next(struct lt_grpc_reader *reader, lt_str *input,
                                  lt_str *ret_message);
/* True when the input ended inside a message. */
bool lt_grpc_reader_is_partial(const struct lt_grpc_reader *reader);

/* The five bytes before an uncompressed message of len bytes (at most 4 GiB). */
void lt_grpc_prefix(size_t len, char out[LT_GRPC_PREFIX_BYTES]);

/* --- header values --- */

/*
 * grpc-message: percent-encoded UTF-8 (only % and what is outside 0x20..0x7e is encoded).
 * LT_E_LIMIT of buf.
 */
LT_MUST lt_rc lt_grpc_message_encode(lt_str text, struct lt_buf *buf);
/* Never fails: a '%' without two hex digits stays as it is. In the arena. */
lt_str lt_grpc_message_decode(struct lt_arena *arena, lt_str value);

/*
 * grpc-timeout: at most 8 digits and one of H M S m u n. LT_E_BAD otherwise. Saturates at
 * UINT64_MAX / 2.
 */
LT_MUST lt_rc lt_grpc_timeout_parse(lt_str value, uint64_t *ret_ns);
enum { LT_GRPC_TIMEOUT_TEXT_MAX = 16 };
/* Rounds up to the finest unit that fits in 8 digits. */
lt_str lt_grpc_timeout_format(uint64_t timeout_ns, char out[LT_GRPC_TIMEOUT_TEXT_MAX]);
/* grpc-status: LT_E_BAD unless it is a decimal number below 2^31. */
LT_MUST lt_rc lt_grpc_status_parse(lt_str value, uint32_t *ret_code);
/* "application/grpc", with or without "+..." or ";...". */
bool lt_grpc_is_content_type(lt_str value);

#endif
