/*
 * proxy/agent/sds.c - StreamSecrets. Start at: on_message(), px_sds_push().
 */
#include "proxy/agent/sds.h"

#include <unistd.h>

#include "base/file.h"
#include "wire/ads.h"
#include "wire/any.h"
#include "wire/pb.h"
#include "wire/proto/discovery.pb-c.h"
#include "wire/proto/tls.pb-c.h"

enum { NAMES_MAX = 64, STREAMS_MAX = 1024 };

struct stream {
    struct lt_list link;         /* in px_sds.streams */
    struct lt_grpc_stream *grpc; /* borrowed until on_closed */
    char *names[NAMES_MAX];      /* owned */
    size_t name_count;
    uint64_t nonce; /* of the last response; 0: none yet */
};

/* Lives on, without its owner, until the server has told its last stream. */
struct px_sds {
    struct lt_grpc_server *server; /* owned */
    struct px_secrets *secrets;    /* borrowed */
    const struct lt_env *env;      /* borrowed */
    struct lt_list streams;
    size_t stream_count;
    char *path; /* owned */
    struct lt_grpc_method method;
};

/* --- sending --- */

static void send_secret(struct stream *stream, const struct px_secret_view *secret)
{
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    Pb__Any any = PB__ANY__INIT, *resources[] = {&any};
    Xds__DiscoveryResponse response = XDS__DISCOVERY_RESPONSE__INIT;
    any.type_url = LT_ADS_SECRET;
    any.has_value = 1;
    any.value = (ProtobufCBinaryData){secret->bytes.len, (uint8_t *)secret->bytes.ptr};
    response.version_info = lt_arena_strz(arena, secret->version);
    response.type_url = LT_ADS_SECRET;
    response.nonce = lt_arena_printf(arena, "%llu", (unsigned long long)++stream->nonce).ptr;
    response.n_resources = 1;
    response.resources = resources;
    /* LT_E_LIMIT or LT_E_CLOSED: on_closed follows */
    if (lt_grpc_stream_send(stream->grpc, lt_pb_pack(arena, &response)) == LT_E_LIMIT)
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the client does not read"));
    lt_arena_wipe_free(&arena);
}

static bool has_name(const struct stream *stream, lt_str name)
{
    for (size_t i = 0; i < stream->name_count; i++) {
        if (lt_str_eqz(name, stream->names[i]))
            return true;
    }
    return false;
}

void px_sds_push(struct px_sds *sds, const struct px_secret_view *secret)
{
    struct lt_list *at, *next;
    lt_list_each (&sds->streams, at, next) {
        struct stream *stream = LT_CONTAINER_OF(at, struct stream, link);
        if (has_name(stream, secret->name))
            send_secret(stream, secret);
    }
}

/* --- requests --- */

static void forget_names(struct stream *stream)
{
    for (size_t i = 0; i < stream->name_count; i++)
        free(stream->names[i]);
    stream->name_count = 0;
}

/*
 * The new set of names; those that were not in the old one are answered, when their secret is
 * there.
 */
static lt_rc take_names(struct px_sds *sds, struct stream *stream,
                        const Xds__DiscoveryRequest *request, bool answers_all)
{
    struct stream old = *stream;
    if (request->n_resource_names > NAMES_MAX)
        return LT_E_LIMIT;
    stream->name_count = 0;
    for (size_t i = 0; i < request->n_resource_names; i++)
        stream->names[stream->name_count++] = lt_strdup(request->resource_names[i]);
    for (size_t i = 0; i < stream->name_count; i++) {
        struct px_secret_view secret;
        lt_str name = lt_str_of(stream->names[i]);
        if (!answers_all && has_name(&old, name))
            continue;
        if (px_secrets_find(sds->secrets, name, &secret))
            send_secret(stream, &secret);
        else if (px_secrets_want(sds->secrets, name) != LT_OK)
            lt_log_warn(&sds->env->log, "agent: SDS: no secret is called %.*s", LT_STR_ARG(name));
    }
    forget_names(&old);
    return LT_OK;
}

static bool is_last_nonce(const struct stream *stream, lt_str nonce)
{
    uint64_t number = 0;
    return lt_str_to_u64(nonce, &number) == LT_OK && number == stream->nonce;
}

static void on_message(struct lt_grpc_stream *grpc, lt_str message)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    struct px_sds *sds = lt_grpc_stream_service(grpc);
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    Xds__DiscoveryRequest *request = NULL;
    struct lt_err err = {0};
    lt_rc rc = lt_pb_unpack(arena, &xds__discovery_request__descriptor, message, NULL, &request,
                            &err);
    lt_str nonce = rc == LT_OK ? lt_str_of(request->response_nonce) : LT_STR_NULL;
    if (rc == LT_OK && request->error_detail != NULL)
        lt_log_warn(&sds->env->log, "agent: SDS: refused by the proxy: %s",
                    request->error_detail->message != NULL ? request->error_detail->message : "");
    /* an answer to an older response than the last is out of date, but never a first request */
    if (rc == LT_OK && (nonce.len == 0 || is_last_nonce(stream, nonce)))
        rc = take_names(sds, stream, request, nonce.len == 0);
    if (rc != LT_OK)
        lt_grpc_stream_finish(grpc, LT_GRPC_INVALID_ARGUMENT, lt_str_of(err.text));
    lt_arena_free(&arena);
}

static void on_open(struct lt_grpc_stream *grpc, void *service)
{
    struct px_sds *sds = service;
    if (sds->stream_count >= STREAMS_MAX) {
        lt_grpc_stream_finish(grpc, LT_GRPC_RESOURCE_EXHAUSTED, LT_STR("too many streams"));
        return;
    }
    struct stream *stream = lt_new(struct stream);
    stream->grpc = grpc;
    lt_list_push_back(&sds->streams, &stream->link);
    sds->stream_count++;
    lt_grpc_stream_set_user(grpc, stream);
}

static void on_half_close(struct lt_grpc_stream *grpc)
{
    lt_grpc_stream_finish(grpc, LT_GRPC_OK, LT_STR_NULL);
}

static void on_closed(struct lt_grpc_stream *grpc, lt_grpc_code code LT_UNUSED)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    struct px_sds *sds = lt_grpc_stream_service(grpc);
    if (stream == NULL)
        return;
    lt_list_remove(&stream->link);
    sds->stream_count--;
    forget_names(stream);
    free(stream);
}

/* --- begin and end --- */

static void on_server_closed(void *ctx)
{
    struct px_sds *sds = ctx;
    free(sds->path);
    free(sds);
}

lt_rc px_sds_new(struct lt_loop *loop, struct px_secrets *secrets, lt_str socket_path,
                 struct px_sds **ret_sds, struct lt_err *err)
{
    static const struct lt_grpc_handler handler = {.on_open = on_open,
                                                   .on_message = on_message,
                                                   .on_half_close = on_half_close,
                                                   .on_closed = on_closed};
    struct lt_addr addr;
    struct px_sds *sds = lt_new(struct px_sds);
    sds->secrets = secrets;
    sds->env = lt_loop_env(loop);
    sds->path = lt_str_dupz(socket_path);
    lt_list_init(&sds->streams);
    sds->method = (struct lt_grpc_method){
        .path = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        .handler = &handler,
        .service = sds};
    sds->server = lt_grpc_server_new(loop, NULL, &sds->method, 1);
    lt_rc rc = lt_file_make_parents(sds->path, err);
    if (rc == LT_OK)
        rc = lt_addr_unix(socket_path, &addr);
    if (rc == LT_OK)
        rc = lt_grpc_server_listen(sds->server, &addr, NULL, NULL, NULL, err);
    if (rc != LT_OK) {
        px_sds_free(&sds);
        return rc;
    }
    *ret_sds = sds;
    return LT_OK;
}

void px_sds_free(struct px_sds **sds)
{
    struct px_sds *dying = *sds;
    *sds = NULL;
    if (dying == NULL)
        return;
    (void)unlink(dying->path);
    lt_grpc_server_close(&dying->server, on_server_closed, dying);
}
