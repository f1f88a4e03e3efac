/*
 * proxy/filter/authz_call.c - asks an external authorization server, through the proxy's clusters.
 */
#include "proxy/filter/ext_authz.h"
#include "proxy/http/grpc_unary.h"
#include "proxy/http/request.h"

enum { ANSWER_BYTES_MAX = 4 * 1024 * 1024 };

/* --- the answer --- */

static void on_done(void *ctx, const struct px_fetch_result *result)
{
    struct px_authz_call *call = ctx;
    call->fetch = NULL;
    if (!call->service->is_grpc) {
        px_authz_read_http(call->arena, call->service, result, &call->answer);
    } else {
        lt_str message;
        call->answer = (struct px_authz_answer){.result = PX_AUTHZ_ERROR};
        if (px_grpc_read(result, &message) == 0)
            px_authz_read_grpc(call->arena, message, &call->answer);
    }
    call->on_answer(call);
}

/* --- the request --- */

struct parts {
    struct lt_arena *arena;
    struct lt_headers headers;
};

static void add(struct parts *parts, lt_str name, lt_str value)
{
    lt_rc rc = lt_headers_add(&parts->headers, name, value);
    (void)rc; /* what is too much is not said; the limits are those of a client's head */
}

/* What the configuration adds, in place of what a client sent under that name. */
static void add_own(struct parts *parts, const struct px_authz_ask *ask)
{
    for (size_t i = 0; i < ask->service->header_count; i++) {
        const struct px_header_edit *edit = &ask->service->headers[i];
        lt_str value = edit->value;
        if (edit->format != NULL && ask->request != NULL &&
            px_request_format(ask->request, edit->format, &value) != LT_OK)
            continue;
        lt_rc rc = lt_headers_set(&parts->headers, edit->name, value);
        (void)rc; /* as above */
    }
    add(parts, LT_STR("x-envoy-internal"), LT_STR("true"));
}

static void fill_grpc(struct parts *parts, const struct px_authz_ask *ask,
                      struct px_fetch_opts *opts)
{
    add(parts, LT_STR("te"), LT_STR("trailers"));
    add(parts, LT_STR("content-type"), LT_STR("application/grpc"));
    opts->method = LT_STR("POST");
    opts->authority = ask->service->authority;
    opts->path = LT_STR("/envoy.service.auth.v3.Authorization/Check");
    opts->body = px_grpc_frame(parts->arena, px_authz_request(ask));
}

/* Envoy: the credentials always, other headers only by name; a filter for gRPC passes all. */
static bool is_passed(const struct px_authz_conf *conf, const struct lt_header *header,
                      struct lt_arena *arena)
{
    if (conf->disallowed.is_set && px_texts_match(&conf->disallowed, header->name, arena))
        return false;
    if (header->id == LT_H_AUTHORIZATION)
        return true;
    if (header->id == LT_H_HOST || header->id == LT_H_CONTENT_LENGTH ||
        header->id == LT_H_TRANSFER_ENCODING ||
        lt_str_case_eqz(header->name, "x-envoy-auth-partial-body"))
        return false;
    return conf->allowed.is_set ? px_texts_match(&conf->allowed, header->name, arena)
                                : conf->service.is_grpc;
}

static void fill_http(struct parts *parts, const struct px_authz_ask *ask,
                      struct px_fetch_opts *opts)
{
    const struct px_authz_service *service = ask->service;
    const struct px_request *request = ask->request;
    const struct lt_headers *headers = &request->head.headers;
    for (uint32_t i = 0; i < headers->count; i++) {
        if (is_passed(ask->conf, &headers->items[i], parts->arena))
            add(parts, headers->items[i].name, headers->items[i].value);
    }
    if (ask->body != NULL)
        add(parts, LT_STR("x-envoy-auth-partial-body"),
            ask->is_partial ? LT_STR("true") : LT_STR("false"));
    opts->says_length = true;
    opts->method = request->method;
    opts->authority = request->authority;
    opts->path = service->path_override.len > 0
                     ? service->path_override
                     : lt_arena_printf(parts->arena, "%.*s%.*s", LT_STR_ARG(service->path_prefix),
                                       LT_STR_ARG(request->path));
    opts->body = ask->body_bytes;
}

void px_authz_call_start(struct px_authz_call *call, struct px_worker *worker,
                         const struct px_authz_ask *given, px_authz_fn *on_answer)
{
    struct px_authz_ask ask = *given;
    struct parts parts = {.arena = lt_arena_new(4096, 0)};
    lt_headers_init(&parts.headers, parts.arena, 0, 0);
    ask.arena = parts.arena; /* what is asked is copied; the answer lives in the asker's */
    struct px_fetch_opts opts = {
        .cluster = ask.service->cluster,
        .scheme = ask.service->scheme,
        .timeout_ms = ask.service->timeout_ms,
        .retry = ask.service->retry,
        .body_bytes_max = ANSWER_BYTES_MAX,
        .on_done = on_done,
        .ctx = call,
    };
    call->arena = given->arena;
    call->service = ask.service;
    call->on_answer = on_answer;
    if (ask.service->is_grpc)
        fill_grpc(&parts, &ask, &opts);
    else
        fill_http(&parts, &ask, &opts);
    add_own(&parts, &ask);
    opts.headers = parts.headers.items;
    opts.header_count = parts.headers.count;
    px_fetch_start(worker, &opts, &call->fetch);
    lt_arena_free(&parts.arena);
}

void px_authz_call_cancel(struct px_authz_call *call)
{
    px_fetch_cancel(&call->fetch);
}
