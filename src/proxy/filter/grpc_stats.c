/*
 * proxy/filter/grpc_stats.c - envoy.filters.http.grpc_stats.
 */
#include <stdio.h>

#include "http/url.h"
#include "proxy/filter/grpc_stats.h"
#include "proxy/http/request.h"

enum { PREFIX_BYTES = 5, PREFIX_MAX = 256 };

void px_grpc_count(struct px_grpc_counter *counter, lt_str piece)
{
    while (piece.len > 0) {
        if (counter->body_left > 0) {
            size_t part = (size_t)LT_MIN(counter->body_left, (uint64_t)piece.len);
            counter->body_left -= part;
            piece = lt_str_from(piece, part);
            continue;
        }
        if (counter->prefix_bytes > 0)
            counter->length = counter->length << 8 | (unsigned char)piece.ptr[0];
        piece = lt_str_from(piece, 1);
        if (++counter->prefix_bytes < PREFIX_BYTES)
            continue;
        counter->messages++;
        counter->body_left = counter->length;
        counter->prefix_bytes = counter->length = 0;
    }
}

/* --- names --- */

static bool is_listed(const struct px_grpc_stats_conf *conf, lt_str service, lt_str method)
{
    for (size_t i = 0; i < conf->service_count; i++) {
        if (!lt_str_eq(conf->services[i].name, service))
            continue;
        for (size_t j = 0; j < conf->services[i].method_count; j++) {
            if (lt_str_eq(conf->services[i].methods[j], method))
                return true;
        }
    }
    return false;
}

/* "/pkg.Service/Method"; "pkg.Service.Method.", or "" where methods are not told apart. */
static lt_str method_prefix(struct px_request *request, const struct px_grpc_stats_conf *conf)
{
    lt_str path = lt_url_split(request->head.path).path;
    ptrdiff_t slash = lt_str_rfind_char(path, '/');
    if ((!conf->counts_all_methods && conf->service_count == 0) || slash <= 0)
        return LT_STR("");
    lt_str service = lt_str_slice(path, 1, (size_t)slash);
    lt_str method = lt_str_from(path, (size_t)slash + 1);
    bool is_plain = lt_str_find_char(service, '/') < 0 && method.len > 0;
    if (!is_plain || path.len >= PREFIX_MAX ||
        (!conf->counts_all_methods && !is_listed(conf, service, method)))
        return LT_STR("");
    lt_str prefix = lt_arena_printf(request->arena, "%.*s.%.*s.", LT_STR_ARG(service),
                                    LT_STR_ARG(method));
    for (size_t i = 0; conf->replaces_dots && i < service.len; i++) {
        char *c = (char *)&prefix.ptr[i];
        *c = *c == '.' ? '_' : *c;
    }
    return prefix;
}

/* --- counters --- */

enum {
    REQUEST_MESSAGES,
    RESPONSE_MESSAGES,
    SUCCESS,
    FAILURE,
    TOTAL,
    INVALID,
    CODE_0,
    CODES = 17,
    COUNTERS = CODE_0 + CODES,
};

static const char *const names[COUNTERS] = {"request_message_count",
                                            "response_message_count",
                                            "success",
                                            "failure",
                                            "total",
                                            "invalid",
                                            "0",
                                            "1",
                                            "2",
                                            "3",
                                            "4",
                                            "5",
                                            "6",
                                            "7",
                                            "8",
                                            "9",
                                            "10",
                                            "11",
                                            "12",
                                            "13",
                                            "14",
                                            "15",
                                            "16"};

static void add(struct px_request *request, lt_str prefix, unsigned which, uint64_t by)
{
    if (by == 0)
        return;
    char text[PREFIX_MAX + 64];
    int len = snprintf(text, sizeof(text), "grpc.%.*s%s", LT_STR_ARG(prefix), names[which]);
    px_cluster_count_named(request->cluster, lt_str_make(text, (size_t)len), by);
}

static lt_str status_of(const struct px_request *request)
{
    const struct lt_headers *trailers = request->resp.trailers;
    lt_str status = LT_STR_NULL;
    if (trailers != NULL)
        status = lt_headers_value(trailers, LT_H_GRPC_STATUS);
    return status.len > 0 || !request->response_begun
               ? status
               : lt_headers_value(&request->rhead.headers, LT_H_GRPC_STATUS);
}

static void count_outcome(struct px_request *request, lt_str prefix)
{
    lt_str status = status_of(request);
    uint64_t code = 0;
    if (status.len == 0)
        return;
    bool is_number = lt_str_to_u64(status, &code) == LT_OK && code < CODES;
    add(request, prefix, is_number && code == 0 ? SUCCESS : FAILURE, 1);
    add(request, prefix, TOTAL, 1);
    add(request, prefix, is_number ? CODE_0 + (unsigned)code : INVALID, 1);
}

/* --- the step --- */

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    if (!request->is_grpc)
        return PX_GO;
    request->grpc = px_filter_state(request, filter, sizeof(struct px_grpc_counts));
    request->wants_pieces = true;
    return PX_GO;
}

static void on_piece(struct px_request *request, const struct px_http_filter *filter,
                     const struct px_dir *dir, lt_str piece)
{
    if (request->grpc == NULL)
        return;
    struct px_grpc_counts *counts = px_filter_state(request, filter, sizeof(*counts));
    px_grpc_count(dir == &request->req ? &counts->request : &counts->response, piece);
}

static void on_end(struct px_request *request, const struct px_http_filter *filter)
{
    if (request->grpc == NULL || request->cluster == NULL)
        return;
    lt_str prefix = method_prefix(request, filter->conf);
    add(request, prefix, REQUEST_MESSAGES, request->grpc->request.messages);
    add(request, prefix, RESPONSE_MESSAGES, request->grpc->response.messages);
    count_outcome(request, prefix);
}

const struct px_filter_ops px_filter_grpc_stats = {
    .name = "envoy.filters.http.grpc_stats",
    .on_request = on_request,
    .on_piece = on_piece,
    .on_end = on_end,
};
