/*
 * http/grpc_server.h - a gRPC server on one loop: listening sockets (TCP, TLS, Unix), connections,
 * and a table of methods. Several services share a server; several listeners share a method table.
 * Messages are bytes here: packing them is wire/. Identity is reported (peer address, verified
 * SPIFFE URI, authorization header), judged by the handler.
 * Promises: no handler is called before the call that caused it has returned; on_closed is last and
 * once, and the stream is gone when it has returned; the server may go (lt_grpc_server_close) while
 * streams are open.
 * Trust: peers are strangers. HTTP/1.1 gets a short 505 and is closed.
 * Start at: lt_grpc_server_new(), lt_grpc_server_listen().
 */
#ifndef LT_HTTP_GRPC_SERVER_H
#define LT_HTTP_GRPC_SERVER_H

#include "http/grpc.h"
#include "http/h2.h"
#include "net/loop.h"
#include "net/sock.h"
#include "net/tls.h"

struct lt_grpc_server;
struct lt_grpc_stream;

/* The other end of a stream's connection; borrowed for the stream's life. */
struct lt_grpc_peer {
    struct lt_addr addr; /* len 0 or AF_UNIX for Unix sockets */
    struct lt_addr local;
    uint32_t listener; /* number that lt_grpc_server_listen gave */
    bool is_tls;
    bool is_verified;                     /* it showed a certificate that verified */
    lt_str uri;                           /* first URI SAN of that certificate, or empty */
    const struct lt_transport *transport; /* for lt_tls_* questions */
};

/* All but on_message may be NULL. `service` is the method's. */
struct lt_grpc_handler {
    /* A call begins. It may be finished here and now. */
    void (*on_open)(struct lt_grpc_stream *stream, void *service);
    /* One message; bytes are borrowed for the call. */
    void (*on_message)(struct lt_grpc_stream *stream, lt_str message);
    /* The client has sent its last message. */
    void (*on_half_close)(struct lt_grpc_stream *stream);
    /* is_writable said no, and there is room again. */
    void (*on_writable)(struct lt_grpc_stream *stream);
    /*
     * Last and once. LT_GRPC_OK: all that was sent, and finish(), is on its way; CANCELLED: the
     * client gave up; DEADLINE_EXCEEDED; UNAVAILABLE: the connection was lost; others: what the
     * server answered by itself (limits, framing).
     */
    void (*on_closed)(struct lt_grpc_stream *stream, lt_grpc_code code);
};

struct lt_grpc_method {
    const char *path; /* "/package.Service/Method" */
    const struct lt_grpc_handler *handler;
    void *service;            /* borrowed */
    size_t message_bytes_max; /* of one message from the client; 0: 4 MiB, gRPC's usual limit */
};

struct lt_grpc_server_opts {
    uint32_t connections_max;       /* more are accepted and closed at once */
    uint32_t streams_max;           /* a connection */
    uint64_t handshake_timeout_ns;  /* TLS and client preface */
    uint64_t keepalive_interval_ns; /* PING after so long without a byte from the peer; 0: never */
    uint64_t keepalive_timeout_ns;  /* and the connection is lost so long after it */
    uint64_t age_max_ns;   /* then GOAWAY; +-10 % so that not all come back at once; 0: never */
    uint64_t age_grace_ns; /* streams that are open then may go on for so long */
    uint32_t stream_window_bytes;
    uint32_t conn_window_bytes;
    uint32_t header_list_bytes_max;
    size_t send_queue_bytes; /* is_writable turns false */
    size_t send_queue_bytes_max;
};

/*
 * istiod's: keepalive 30 s and 10 s, age without end; 100000 streams there, 1024 here. Windows of 1
 * MiB and 2 MiB: requests are small. Send queue: 1 MiB, at most 128 MiB (two of the largest
 * pushes).
 */
#define LT_GRPC_SERVER_OPTS_DEFAULT \
    ((struct lt_grpc_server_opts){.connections_max = 20000, \
                                  .streams_max = 1024, \
                                  .handshake_timeout_ns = 10 * LT_NS_PER_S, \
                                  .keepalive_interval_ns = 30 * LT_NS_PER_S, \
                                  .keepalive_timeout_ns = 10 * LT_NS_PER_S, \
                                  .age_max_ns = 0, \
                                  .age_grace_ns = 10 * LT_NS_PER_S, \
                                  .stream_window_bytes = 1u << 20, \
                                  .conn_window_bytes = 2u << 20, \
                                  .header_list_bytes_max = 64u * 1024, \
                                  .send_queue_bytes = 1u << 20, \
                                  .send_queue_bytes_max = 128u << 20})

struct lt_grpc_server_stats {
    uint64_t connections_total, connections_refused, handshake_failures, http1_refused,
        http2_failures, keepalive_timeouts;
    uint64_t streams_total, unknown_methods;
    size_t connections, streams; /* now */
};

/* methods are borrowed for the server's life; opts are copied; NULL: the defaults. */
struct lt_grpc_server *lt_grpc_server_new(struct lt_loop *loop,
                                          const struct lt_grpc_server_opts *opts,
                                          const struct lt_grpc_method *methods, size_t count);
/*
 * Opens a listening socket. tls NULL: plaintext; otherwise the server takes a count of its own.
 * ALPN should name "h2". listen_opts may be NULL. *ret_listener (may be NULL) numbers it from 0.
 */
LT_MUST lt_rc lt_grpc_server_listen(struct lt_grpc_server *server, const struct lt_addr *addr,
                                    const struct lt_listen_opts *listen_opts,
                                    struct lt_tls_ctx *tls, uint32_t *ret_listener,
                                    struct lt_err *err);
/* The same with a socket that is listening already; takes the descriptor. */
LT_MUST lt_rc lt_grpc_server_listen_fd(struct lt_grpc_server *server, int fd,
                                       struct lt_tls_ctx *tls, uint32_t *ret_listener,
                                       struct lt_err *err);
/*
 * A connection in plaintext that somebody else has accepted; takes the descriptor. It has no
 * listener's number: LT_GRPC_ADOPTED.
 */
#define LT_GRPC_ADOPTED UINT32_MAX
void lt_grpc_server_adopt(struct lt_grpc_server *server, int fd, const struct lt_addr *peer);
/* Where it listens (the port when 0 was asked for). */
void lt_grpc_server_local(const struct lt_grpc_server *server, uint32_t listener,
                          struct lt_addr *ret_addr);
/* New connections use this context: rotation. */
void lt_grpc_server_set_tls(struct lt_grpc_server *server, uint32_t listener,
                            struct lt_tls_ctx *tls);

/*
 * Stops listening, sends GOAWAY; streams may go on for grace_ns, then they are cut (UNAVAILABLE).
 */
void lt_grpc_server_drain(struct lt_grpc_server *server, uint64_t grace_ns);
/*
 * Ends at once what is left. on_closed comes from the loop when the last stream has been told; then
 * the server is gone. May be called in a handler; after lt_grpc_server_drain or without it.
 */
void lt_grpc_server_close(struct lt_grpc_server **server, void (*on_closed)(void *ctx), void *ctx);
const struct lt_grpc_server_stats *lt_grpc_server_stats(const struct lt_grpc_server *server);

/* --- a stream --- */

void *lt_grpc_stream_user(const struct lt_grpc_stream *stream);
void lt_grpc_stream_set_user(struct lt_grpc_stream *stream, void *user);
void *lt_grpc_stream_service(const struct lt_grpc_stream *stream);
const struct lt_grpc_peer *lt_grpc_stream_peer(const struct lt_grpc_stream *stream);
/*
 * First value of a request header, lower-case name (":authority", "authorization", "clusterid");
 * ptr NULL when absent.
 */
lt_str lt_grpc_stream_metadata(const struct lt_grpc_stream *stream, lt_str name);

/*
 * Queues one message: a copy, or all of a rope (empty afterwards). LT_E_LIMIT: queue full;
 * LT_E_CLOSED: already finished or lost.
 */
LT_MUST lt_rc lt_grpc_stream_send(struct lt_grpc_stream *stream, lt_str message);
LT_MUST lt_rc lt_grpc_stream_send_rope(struct lt_grpc_stream *stream, struct lt_rope *message);
bool lt_grpc_stream_is_writable(const struct lt_grpc_stream *stream);
/* Stops (resumes) on_message; what the client has sent waits in at most one stream window. */
void lt_grpc_stream_pause(struct lt_grpc_stream *stream);
void lt_grpc_stream_resume(struct lt_grpc_stream *stream);
/*
 * Ends the call with a status; message may be empty, is cut at 2 KiB. Finishing twice does nothing.
 * No more handler than on_closed.
 */
void lt_grpc_stream_finish(struct lt_grpc_stream *stream, lt_grpc_code code, lt_str message);

#endif
