/*
 * http/h2.h - one HTTP/2 connection (RFC 9113), client or server: bytes in and stream events out,
 * stream actions in and bytes out. No socket, no timer; the time is an argument.
 * Frames and header compression are nghttp2's; limits, flow control credit, queues of what is to be
 * sent, and the order in which things end are here. HTTP/1.1 is http/h1.h; gRPC on top of this is
 * http/grpc_*.h.
 *
 * How it is used:
 *   feed() what was read from the peer: events come from inside it. drain() and sent() until
 *   nothing is left: few events (on_writable, on_closed) come from inside drain. Any action may be
 *   called at any time, also inside an event; none calls an event before it returns. After feed,
 *   drain or an action: has_output() says whether to drain.
 *   Inside an event the connection must not be fed, drained or freed. A stream is gone once its
 *   on_closed has returned.
 * Trust: all bytes are a stranger's. What breaks a rule ends the stream or the connection, with a
 * counter.
 * Start at: lt_h2_conn_new(), lt_h2_conn_feed(), lt_h2_conn_drain().
 */
#ifndef LT_HTTP_H2_H
#define LT_HTTP_H2_H

#include <sys/uio.h>

#include "base/rope.h"

struct lt_h2_conn;
struct lt_h2_stream;

/* RFC 9113 section 7. A peer may send others; they pass as numbers. */
typedef enum {
    LT_H2_NO_ERROR = 0x0,
    LT_H2_PROTOCOL_ERROR = 0x1,
    LT_H2_INTERNAL_ERROR = 0x2,
    LT_H2_FLOW_CONTROL_ERROR = 0x3,
    LT_H2_SETTINGS_TIMEOUT = 0x4,
    LT_H2_STREAM_CLOSED = 0x5,
    LT_H2_FRAME_SIZE_ERROR = 0x6,
    LT_H2_REFUSED_STREAM = 0x7, /* not acted upon: may be sent again */
    LT_H2_CANCEL = 0x8,
    LT_H2_COMPRESSION_ERROR = 0x9,
    LT_H2_CONNECT_ERROR = 0xa,
    LT_H2_ENHANCE_YOUR_CALM = 0xb,
    LT_H2_INADEQUATE_SECURITY = 0xc,
    LT_H2_HTTP_1_1_REQUIRED = 0xd,
} lt_h2_code;

/* A header field or pseudo header (":path"), borrowed for the call. Names are lower case. */
struct lt_h2_field {
    lt_str name;
    lt_str value;
    bool is_secret; /* never in a compression table (RFC 7541 section 7.1.3) */
};

/* One header block, pseudo headers first. */
struct lt_h2_fields {
    const struct lt_h2_field *items;
    size_t count;
    bool is_over_limit; /* of header_list_bytes_max or headers_max, and cut: answer 431 or reset */
};

/* How a stream ended. */
typedef enum {
    LT_H2_END_CLEAN,       /* both sides ended it */
    LT_H2_END_RESET_PEER,  /* the peer reset it; code is the peer's */
    LT_H2_END_RESET_LOCAL, /* we reset it, by an action or because of a broken rule */
    LT_H2_END_CONN,        /* the connection went away under it */
    LT_H2_END_UNPROCESSED, /* client: never looked at, says the peer's GOAWAY: may be sent again */
} lt_h2_end;

/*
 * All may be NULL except on_headers and on_closed. `user` of connection and stream: lt_h2_*_user.
 */
struct lt_h2_events {
    /*
     * Server: a request (the stream is new). Client: a response; several when 1xx come first.
     * is_end: nothing follows.
     */
    void (*on_headers)(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end);
    /*
     * Bytes of the body, borrowed for the call; never empty. The peer gets credit for them only by
     * lt_h2_stream_consume(): not calling it is how a reader pauses the stream.
     */
    void (*on_data)(struct lt_h2_stream *stream, lt_str bytes);
    /* Trailers; on_end follows. */
    void (*on_trailers)(struct lt_h2_stream *stream, const struct lt_h2_fields *fields);
    /* The peer has ended its side (also after on_headers with is_end). */
    void (*on_end)(struct lt_h2_stream *stream);
    /* The send queue was full (is_writable said no) and has room again. */
    void (*on_writable)(struct lt_h2_stream *stream);
    /*
     * Last and once, for every stream that on_headers announced or open() made. The stream is gone
     * afterwards.
     */
    void (*on_closed)(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code);
    /*
     * The peer opens no more (client: takes no more) streams; streams above last_stream_id were not
     * processed.
     */
    void (*on_goaway)(struct lt_h2_conn *conn, uint32_t last_stream_id, uint32_t code,
                      lt_str debug);
    void (*on_ping_ack)(struct lt_h2_conn *conn, uint64_t opaque);
    /* The peer's SETTINGS came: its max concurrent streams may have changed. */
    void (*on_settings)(struct lt_h2_conn *conn);
};

/* A bucket of tokens: `burst` at once, `per_s` a second. */
struct lt_h2_rate {
    uint32_t burst;
    uint32_t per_s;
};

enum { LT_H2_QUEUE_LEAST = 4096 };

struct lt_h2_opts {
    bool is_server;
    bool allow_connect_protocol;     /* server: RFC 8441, extended CONNECT */
    uint32_t concurrent_streams_max; /* that the peer may open; more are refused (REFUSED_STREAM) */
    uint32_t stream_window_bytes;    /* of receiving, a stream */
    uint32_t stream_window_max;      /* what it grows to while it is read from; 0: it does not */
    uint32_t conn_window_bytes;      /* of receiving, all streams; at least 65535 */
    /*
     * The connection gets credit for bytes at once while no more than so many wait to be read, so
     * that a stream nobody reads from stops no other; 0: only when they are read.
     */
    size_t conn_ahead_bytes;
    uint32_t frame_bytes_max;       /* of receiving; 16384 to 16777215 */
    uint32_t header_table_bytes;    /* HPACK table of what we decode */
    uint32_t header_list_bytes_max; /* name + value + 32 each, as RFC 9113 section 6.5.2 counts */
    uint32_t headers_max;           /* fields in one block */
    size_t send_queue_bytes;     /* is_writable turns false at this many queued bytes of a stream */
    size_t send_queue_bytes_max; /* and send refuses beyond this many */
    /* queued bytes of all streams; beyond them each may have LT_H2_QUEUE_LEAST. 0: no limit */
    size_t conn_queue_bytes;
    /*
     * server: streams that die young by the client's doing (CVE-2023-44487, CVE-2025-8671); one
     * that ends well gives back what one of these took
     */
    struct lt_h2_rate resets;
    struct lt_h2_rate control;      /* SETTINGS, PING and the like */
    uint32_t empty_frames_max;      /* DATA without content or end, one after another */
    uint32_t priorities_per_stream; /* PRIORITY frames, for each stream opened and one more */
    uint32_t updates_per_data;      /* half as many WINDOW_UPDATE frames for a DATA frame of ours */
};

/* Envoy 1.40's windows (16 MiB, 24 MiB) and limits (60 KiB, 100 headers, ...), 1024 streams. */
#define LT_H2_OPTS_DEFAULT \
    ((struct lt_h2_opts){.concurrent_streams_max = 1024, \
                         .stream_window_bytes = 16u << 20, \
                         .conn_window_bytes = 24u << 20, \
                         .frame_bytes_max = 16384, \
                         .header_table_bytes = 4096, \
                         .header_list_bytes_max = 60u * 1024, \
                         .headers_max = 100, \
                         .send_queue_bytes = 256u * 1024, \
                         .send_queue_bytes_max = 16u << 20, \
                         .resets = {.burst = 1000, .per_s = 33}, \
                         .control = {.burst = 10000, .per_s = 1000}, \
                         .empty_frames_max = 1, \
                         .priorities_per_stream = 100, \
                         .updates_per_data = 10})

/* Why the connection ended by itself, for a metric; a log line may use the name. */
#define LT_H2_FAILS(X) \
    X(NONE, "none") \
    X(NOT_HTTP2, "client preface is not HTTP/2") \
    X(PROTOCOL, "protocol error") \
    X(RESET_FLOOD, "too many streams reset") \
    X(CONTROL_FLOOD, "too many control frames") \
    X(EMPTY_FLOOD, "too many empty frames") \
    X(PRIORITY_FLOOD, "too many PRIORITY frames") \
    X(UPDATE_FLOOD, "too many WINDOW_UPDATE frames") \
    X(CONTINUATION_FLOOD, "too many CONTINUATION frames") \
    X(STREAM_ID_ORDER, "stream identifier went down") \
    X(STREAM_CLOSED, "content for a stream that had ended") \
    X(NO_STREAM_IDS, "stream identifiers used up")

typedef enum {
#define LT_H2_FAIL_ENUM(id, text) LT_H2_FAIL_##id,
    LT_H2_FAILS(LT_H2_FAIL_ENUM)
#undef LT_H2_FAIL_ENUM
        LT_H2_FAIL_COUNT
} lt_h2_fail;

const char *lt_h2_fail_name(lt_h2_fail fail);
const char *lt_h2_code_name(uint32_t code);

struct lt_h2_stats {
    uint64_t streams_opened;
    uint64_t streams_refused; /* by our limit */
    uint64_t resets_received;
    uint64_t resets_sent;
    uint64_t header_lists_over_limit;
    uint64_t messages_refused; /* requests or responses that broke RFC 9113 section 8 */
    uint64_t goaways_sent;
    lt_h2_fail fail;
    uint32_t news; /* grows with everything above but streams_opened */
};

/* --- the connection --- */

/*
 * opts and events are borrowed for the connection's life (events) or the call (opts). The preface
 * is queued at once.
 */
struct lt_h2_conn *lt_h2_conn_new(const struct lt_h2_opts *opts, const struct lt_h2_events *events,
                                  void *user);
/*
 * Reports on_closed (LT_H2_END_CONN) for every stream that is left, then frees. Never inside an
 * event.
 */
void lt_h2_conn_free(struct lt_h2_conn **conn);
void *lt_h2_conn_user(const struct lt_h2_conn *conn);

/*
 * All of `bytes` is taken. LT_OK; LT_EOF: both sides are finished, drain and close;
 * LT_E_UNSUPPORTED: the peer does not speak HTTP/2; LT_E_BAD or LT_E_LIMIT: a rule or a limit was
 * broken: drain (a GOAWAY says why) and close. After any but LT_OK nothing more is taken.
 */
LT_MUST lt_rc lt_h2_conn_feed(struct lt_h2_conn *conn, lt_str bytes, uint64_t now_ns);
/*
 * Gathers what is to be sent, at most about 128 KiB a call. Fills at most `max` entries, returns
 * how many; they stay valid until the next call on the connection. Then lt_h2_conn_sent() with what
 * the socket took.
 */
int lt_h2_conn_drain(struct lt_h2_conn *conn, struct iovec *iov, int max);
/* Frames what waits now, so that a reset does not drop it. Inside an event it does nothing. */
void lt_h2_conn_frame(struct lt_h2_conn *conn);
void lt_h2_conn_sent(struct lt_h2_conn *conn, size_t len);
/* Bytes of on_data that were not consumed, of all streams. */
size_t lt_h2_conn_unconsumed(const struct lt_h2_conn *conn);
bool lt_h2_conn_has_output(const struct lt_h2_conn *conn);
/* Nothing more will come or go: close the socket. */
bool lt_h2_conn_is_finished(const struct lt_h2_conn *conn);

/*
 * Server: first a notice, so that requests on their way are still taken; about one round trip later
 * goaway().
 */
void lt_h2_conn_shutdown_notice(struct lt_h2_conn *conn);
/* No new streams; those that are open go on. debug may be empty. */
void lt_h2_conn_goaway(struct lt_h2_conn *conn, uint32_t code, lt_str debug);
/* The peer's preface and SETTINGS are there. */
bool lt_h2_conn_is_begun(const struct lt_h2_conn *conn);
/* Server: the number of the block of fields that has begun and not ended; 0: there is none. */
uint32_t lt_h2_conn_open_block(const struct lt_h2_conn *conn);
bool lt_h2_conn_is_going_away(const struct lt_h2_conn *conn); /* either side said so */
void lt_h2_conn_ping(struct lt_h2_conn *conn, uint64_t opaque);

size_t lt_h2_conn_stream_count(const struct lt_h2_conn *conn);
const struct lt_h2_stats *lt_h2_conn_stats(const struct lt_h2_conn *conn);
/* Client: streams that the peer allows at once. */
uint32_t lt_h2_conn_streams_max(const struct lt_h2_conn *conn);
/* Client: a stream can be opened now (peer's limit, GOAWAY, identifiers). */
bool lt_h2_conn_can_open(const struct lt_h2_conn *conn);

/* --- streams --- */

/*
 * Client: a request. fields are copied. LT_E_LIMIT: the peer's max concurrent streams are open;
 * LT_E_CLOSED: the connection takes no more. is_end: no body follows.
 */
LT_MUST lt_rc lt_h2_stream_open(struct lt_h2_conn *conn, const struct lt_h2_field *fields,
                                size_t count, bool is_end, void *user,
                                struct lt_h2_stream **ret_stream);
uint32_t lt_h2_stream_id(const struct lt_h2_stream *stream);
struct lt_h2_conn *lt_h2_stream_conn(const struct lt_h2_stream *stream);
void *lt_h2_stream_user(const struct lt_h2_stream *stream);
void lt_h2_stream_set_user(struct lt_h2_stream *stream, void *user);

/*
 * Server: a response; 1xx may come before it. fields are copied. LT_E_CLOSED: the stream ended
 * already (on_closed comes).
 */
LT_MUST lt_rc lt_h2_stream_respond(struct lt_h2_stream *stream, const struct lt_h2_field *fields,
                                   size_t count, bool is_end);
/*
 * Body bytes: a copy; a counted slice; all of a rope (which is empty afterwards). Nothing is queued
 * on LT_E_LIMIT (send_queue_bytes_max) or LT_E_CLOSED. Asserts that headers went before (open,
 * respond) and that end() was not called.
 */
LT_MUST lt_rc lt_h2_stream_send(struct lt_h2_stream *stream, lt_str bytes);
LT_MUST lt_rc lt_h2_stream_send_bytes(struct lt_h2_stream *stream, struct lt_bytes *owner,
                                      lt_str slice);
LT_MUST lt_rc lt_h2_stream_send_rope(struct lt_h2_stream *stream, struct lt_rope *rope);
/*
 * Our side ends once the queue is sent; with trailers when there are any (copied). Nothing may be
 * sent afterwards.
 */
LT_MUST lt_rc lt_h2_stream_end(struct lt_h2_stream *stream, const struct lt_h2_field *trailers,
                               size_t count);
/*
 * Server: when our end is sent and the peer hasn't ended its side, closes the stream (RFC 9113
 * section 8.1).
 */
void lt_h2_stream_close_after_end(struct lt_h2_stream *stream);
/* on_closed follows. Doing it twice does nothing. What is queued is dropped. */
void lt_h2_stream_reset(struct lt_h2_stream *stream, uint32_t code);

/* Gives the peer credit for bytes of on_data; asserts that no more is given than came. */
void lt_h2_stream_consume(struct lt_h2_stream *stream, size_t len);
/* Bytes of on_data without credit so far. */
size_t lt_h2_stream_unconsumed(const struct lt_h2_stream *stream);
/* Client: the whole head of the request went to the socket; until then nobody can act on it. */
bool lt_h2_stream_head_is_out(const struct lt_h2_stream *stream);
bool lt_h2_stream_is_writable(const struct lt_h2_stream *stream);
size_t lt_h2_stream_queued(const struct lt_h2_stream *stream);

#endif
