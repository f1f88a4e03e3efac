/*
 * http/grpc_conn_priv.h - what gRPC's server and client share: an HTTP/2 connection on a socket on
 * a loop, and the inbox of a stream.
 */
#ifndef LT_HTTP_GRPC_CONN_PRIV_H
#define LT_HTTP_GRPC_CONN_PRIV_H

#include "http/grpc.h"
#include "http/h2.h"
#include "net/loop.h"
#include "net/sock.h"
#include "net/tls.h"

struct lt_grpc_conn;

/* Both are called from the loop, never from inside a call on the connection. */
struct lt_grpc_conn_ops {
    /*
     * Last and once: h2 has told all its streams, the socket is closed. The embedder may free the
     * memory.
     */
    void (*on_gone)(struct lt_grpc_conn *conn);
    /*
     * An h2 event may have changed what the embedder waits for; after each feed and flush. May be
     * NULL.
     */
    void (*on_turn)(struct lt_grpc_conn *conn);
};

typedef enum {
    LT_GRPC_CONN_CONNECTING,
    LT_GRPC_CONN_HANDSHAKE, /* TLS */
    LT_GRPC_CONN_OPEN,
    LT_GRPC_CONN_REFUSING, /* a last text is written, then the end */
    LT_GRPC_CONN_DEAD,     /* on_gone is due */
} lt_grpc_conn_state;

enum { LT_GRPC_CONN_CAUSE_MAX = 192 };

/* Embedded in the server's and the client's connections. */
struct lt_grpc_conn {
    struct lt_loop *loop; /* borrowed */
    const struct lt_grpc_conn_ops *ops;
    struct lt_h2_conn *h2;         /* owned */
    struct lt_transport transport; /* owned */
    struct lt_io io;
    struct lt_task work;      /* flush, or the end */
    struct lt_timer deadline; /* until it is established */
    struct lt_timer keepalive;
    uint64_t keepalive_interval_ns;
    uint64_t keepalive_timeout_ns;
    uint64_t read_at_ns;   /* when bytes came last */
    uint64_t pinged_at_ns; /* 0: no ping is out */
    uint64_t bytes_read;
    lt_grpc_conn_state state;
    bool is_server;
    bool is_established; /* server: the preface was good; client: SETTINGS came */
    bool is_keepalive_timeout;
    bool is_http2_failure;              /* the peer broke a rule of HTTP/2 */
    bool is_http1;                      /* refused because the peer speaks HTTP/1 */
    bool read_more;                     /* the reading budget of the turn was used up */
    char cause[LT_GRPC_CONN_CAUSE_MAX]; /* why it went; "" while it stands */
};

/* Takes the transport and h2. is_connecting: the socket's connect is in progress. */
void lt_grpc_conn_init(struct lt_grpc_conn *conn, struct lt_loop *loop,
                       const struct lt_grpc_conn_ops *ops, struct lt_transport transport,
                       struct lt_h2_conn *h2, bool is_server, bool is_connecting,
                       uint64_t timeout_ns);
void lt_grpc_conn_set_keepalive(struct lt_grpc_conn *conn, uint64_t interval_ns,
                                uint64_t timeout_ns);
/* Output may be there: flushes at the end of the turn. */
void lt_grpc_conn_kick(struct lt_grpc_conn *conn);
/* The client says that SETTINGS came. */
void lt_grpc_conn_established(struct lt_grpc_conn *conn);
/* Ends it; on_gone follows from the loop. The first cause stays. */
void lt_grpc_conn_die(struct lt_grpc_conn *conn, const char *cause);

/* --- messages of one stream, with a pause --- */

typedef void lt_grpc_inbox_fn(void *ctx, lt_str message);

struct lt_grpc_inbox {
    struct lt_grpc_reader reader;
    struct lt_buf held; /* what came during a pause; without credit, so the window bounds it */
    lt_grpc_inbox_fn *on_message;
    void *ctx;
    bool is_paused;
    bool is_closed; /* no more messages to the owner; bytes are dropped */
};

void lt_grpc_inbox_init(struct lt_grpc_inbox *inbox, size_t message_bytes_max, size_t window_bytes,
                        lt_grpc_inbox_fn *on_message, void *ctx);
void lt_grpc_inbox_fini(struct lt_grpc_inbox *inbox);
/*
 * Takes bytes of on_data and gives h2 the credit for what was used. Errors are those of
 * lt_grpc_reader_next.
 */
LT_MUST lt_rc lt_grpc_inbox_feed(struct lt_grpc_inbox *inbox, struct lt_h2_stream *h2,
                                 lt_str bytes);
/* After a pause: what was held. h2 NULL: the stream has gone meanwhile. */
LT_MUST lt_rc lt_grpc_inbox_run(struct lt_grpc_inbox *inbox, struct lt_h2_stream *h2);
static inline bool lt_grpc_inbox_is_empty(const struct lt_grpc_inbox *inbox)
{
    return lt_buf_len(&inbox->held) == 0;
}
/* What the error means to the other side. */
lt_grpc_code lt_grpc_inbox_code(lt_rc rc, const char **ret_text);

/* A copy of header fields in one block of the heap; free() it. */
struct lt_h2_field *lt_grpc_copy_fields(const struct lt_h2_fields *fields);
/* The first value, ptr NULL when there is none. */
lt_str lt_grpc_find_field(const struct lt_h2_field *fields, size_t count, lt_str name);
/* Puts the prefix before the message's bytes, into h2. */
LT_MUST lt_rc lt_grpc_send(struct lt_h2_stream *h2, lt_str message);
LT_MUST lt_rc lt_grpc_send_rope(struct lt_h2_stream *h2, struct lt_rope *message);

#endif
