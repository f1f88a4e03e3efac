/*
 * http/server.h - a small HTTP/1.1 server on a loop, for admin, health and debug pages of the
 * programs.
 * Not here: the data path (the proxy), routing by path (the handler's own switch).
 * Trust: clients are strangers; sizes, counts and times are limited.   Start at: lt_server_new().
 */
#ifndef LT_HTTP_SERVER_H
#define LT_HTTP_SERVER_H

#include "http/h1.h"
#include "net/loop.h"
#include "net/sock.h"
#include "net/tls.h"

struct lt_server;

/* One request and the duty to answer it, once. Everything in it lives until the reply is given. */
struct lt_exchange {
    lt_str method;
    lt_str path;  /* without query, as it came */
    lt_str query; /* without '?' */
    struct lt_headers headers;
    lt_str body;
    struct lt_addr peer;
    struct lt_arena *arena; /* for the handler's own use until the reply */
    void *user;             /* the handler's, for replies that come later */
};

/*
 * Replies at once or later, from the same loop. A client that goes away in between does not end the
 * exchange: it ends with the reply, which then goes nowhere.
 */
typedef void lt_server_fn(struct lt_exchange *exchange, void *ctx);

struct lt_server_opts {
    const char *server_name;     /* Server field; NULL: none. Borrowed */
    size_t body_bytes_max;       /* of a request; 0: 64 KiB. Beyond: 413 */
    uint32_t connections_max;    /* 0: 256. Beyond: closed at once */
    uint32_t idle_timeout_ms;    /* between requests; 0: 60 s */
    uint32_t request_timeout_ms; /* first to last byte of a request, or TLS handshake; 0: 15 s */
    uint32_t write_timeout_ms;   /* without any progress in writing; 0: 30 s */
    struct lt_tls_ctx *tls;      /* NULL: plain. A count is taken */
};

/* opts may be NULL. */
struct lt_server *lt_server_new(struct lt_loop *loop, const struct lt_server_opts *opts,
                                lt_server_fn *handler, void *ctx);
/*
 * Closes listeners and connections at once. Exchanges that wait for their reply live on until it is
 * given.
 */
void lt_server_free(struct lt_server **server);

/* May be called for several addresses. ret_addr (may be NULL): the address in use, for port 0. */
LT_MUST lt_rc lt_server_listen(struct lt_server *server, const struct lt_addr *addr,
                               const struct lt_listen_opts *opts, struct lt_addr *ret_addr,
                               struct lt_err *err);
/* The same with a listening socket that is there already; takes the descriptor. */
void lt_server_listen_on(struct lt_server *server, int fd);
/* False: sockets stay open, and who comes waits in them. */
void lt_server_set_accepting(struct lt_server *server, bool accepts);
/* Another process accepts from our sockets: closes descriptors, connections go on. */
void lt_server_leave(struct lt_server *server);
/* Listening descriptors, still the server's; at most max. Returns how many. */
size_t lt_server_sockets(const struct lt_server *server, int *out, size_t max);
/* A connection that somebody else has accepted; takes the descriptor. */
void lt_server_adopt(struct lt_server *server, int fd, const struct lt_addr *peer);
/* Stops listening, lets current exchanges finish and closes each connection then. */
void lt_server_drain(struct lt_server *server);
/* Connections now open. */
uint32_t lt_server_connections(const struct lt_server *server);

/* One field of the reply to come; borrowed until the reply, so put it into the exchange's arena. */
void lt_exchange_header(struct lt_exchange *exchange, lt_str name, lt_str value);
/* body is copied. content_type may be NULL. Ends the exchange. */
void lt_exchange_reply(struct lt_exchange *exchange, unsigned status, const char *content_type,
                       lt_str body);
void lt_exchange_replyf(struct lt_exchange *exchange, unsigned status, const char *fmt, ...)
    LT_PRINTF(3, 4);

/*
 * A reply of unknown length, made as fast as the client takes it. produce appends some (never
 * nothing; aim: 16 to 64 KiB, at most 256) and returns LT_OK, or LT_EOF when that was the last;
 * anything else breaks the connection off, so that the client can tell. done is called once, last,
 * also when the client went away.
 */
struct lt_stream_source {
    lt_rc (*produce)(struct lt_stream_source *source, struct lt_buf *out);
    void (*done)(struct lt_stream_source *source);
};

void lt_exchange_reply_stream(struct lt_exchange *exchange, unsigned status,
                              const char *content_type, struct lt_stream_source *source);

#endif
