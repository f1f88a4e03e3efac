/*
 * proxy/http/grpc_unary.c - unary gRPC by px_fetch.
 */
#include "proxy/http/grpc_unary.h"

#include "http/headers.h"

lt_str px_grpc_frame(struct lt_arena *arena, lt_str message)
{
    char *out = lt_arena_bytes(arena, LT_GRPC_PREFIX_BYTES + message.len);
    lt_grpc_prefix(message.len, out);
    if (message.len > 0)
        memcpy(out + LT_GRPC_PREFIX_BYTES, message.ptr, message.len);
    return lt_str_make(out, LT_GRPC_PREFIX_BYTES + message.len);
}

static uint32_t status_of(const struct px_fetch_result *result)
{
    lt_str text = LT_STR_NULL;
    uint32_t code = 0;
    if (result->trailers != NULL)
        text = lt_headers_value(result->trailers, LT_H_GRPC_STATUS);
    if (text.len == 0)
        text = lt_headers_value(result->headers, LT_H_GRPC_STATUS);
    return lt_grpc_status_parse(text, &code) == LT_OK ? code : LT_GRPC_UNKNOWN;
}

uint32_t px_grpc_read(const struct px_fetch_result *result, lt_str *ret_message)
{
    struct lt_grpc_reader reader;
    lt_str input = result->body;
    if (result->status == 0)
        return LT_GRPC_UNAVAILABLE;
    if (result->status != 200)
        return lt_grpc_code_of_http(result->status);
    uint32_t status = status_of(result);
    if (status != LT_GRPC_OK)
        return status;
    lt_grpc_reader_init(&reader, input.len);
    lt_rc rc = lt_grpc_reader_next(&reader, &input, ret_message);
    lt_grpc_reader_fini(&reader);
    return rc == LT_OK && input.len == 0 ? LT_GRPC_OK : LT_GRPC_INTERNAL;
}
