/*
 * http/grpc_server_priv.h - what the two files of the gRPC server share.
 *   grpc_server.c       listening, accepting, draining, the end
 *   grpc_server_conn.c  one connection and its calls
 */
#ifndef LT_HTTP_GRPC_SERVER_PRIV_H
#define LT_HTTP_GRPC_SERVER_PRIV_H

#include "http/grpc_conn_priv.h"
#include "http/grpc_server.h"

enum { LT_GRPC_LISTENERS_MAX = 16 };

struct lt_grpc_listener {
    struct lt_grpc_server *server; /* borrowed */
    struct lt_io io;               /* fd owned */
    struct lt_timer pause;         /* after accept failed: out of descriptors */
    struct lt_tls_ctx *tls;        /* counted; NULL: plaintext */
};

struct lt_grpc_server {
    struct lt_loop *loop; /* borrowed */
    struct lt_grpc_server_opts opts;
    const struct lt_grpc_method *methods; /* borrowed */
    size_t method_count;
    struct lt_grpc_listener listeners[LT_GRPC_LISTENERS_MAX];
    uint32_t listener_count;
    struct lt_list conns;
    struct lt_prng prng;
    struct lt_grpc_server_stats stats;
    struct lt_task done;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
    bool is_draining;
    bool is_closing;
};

/* Takes the descriptor. */
void lt_grpc_server_conn_open(struct lt_grpc_server *server, int fd, const struct lt_addr *peer,
                              uint32_t listener);
/* GOAWAY now; cut after grace_ns. */
struct lt_grpc_server_conn;
void lt_grpc_server_conn_drain(struct lt_grpc_server_conn *conn, uint64_t grace_ns);
void lt_grpc_server_conn_kill(struct lt_grpc_server_conn *conn);
struct lt_grpc_server_conn *lt_grpc_server_conn_of(struct lt_list *link);
/* A connection is gone. */
void lt_grpc_server_forget(struct lt_grpc_server *server);

#endif
