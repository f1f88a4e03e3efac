/*
 * proxy/http/grpc_unary.h - one message each way over gRPC, by px_fetch.
 */
#ifndef LT_PROXY_HTTP_GRPC_UNARY_H
#define LT_PROXY_HTTP_GRPC_UNARY_H

#include "base/arena.h"
#include "http/grpc.h"
#include "proxy/http/inside.h"

/* A frame with the message in it, in the arena. */
lt_str px_grpc_frame(struct lt_arena *arena, lt_str message);
/* gRPC's status; of LT_GRPC_OK the message, which is a slice of the body. */
uint32_t px_grpc_read(const struct px_fetch_result *result, lt_str *ret_message);

#endif
