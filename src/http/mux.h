/*
 * http/mux.h - HTTP/1.1 and gRPC in plaintext on one socket: the first bytes of a connection say
 * which server it belongs to.
 * Trust: clients are strangers; who says nothing is let go after a while.
 */
#ifndef LT_HTTP_MUX_H
#define LT_HTTP_MUX_H

#include "http/grpc_server.h"
#include "http/server.h"

struct lt_mux;

/* Both servers are borrowed; they have these connections as if they had accepted them. */
struct lt_mux *lt_mux_new(struct lt_loop *loop, struct lt_server *http,
                          struct lt_grpc_server *grpc);
LT_MUST lt_rc lt_mux_listen(struct lt_mux *mux, const struct lt_addr *addr,
                            struct lt_addr *ret_addr, struct lt_err *err);
/* Before the servers. */
void lt_mux_free(struct lt_mux **mux);

#endif
