/*
 * control/ca_service.c - CreateCertificate: one message in, one out. Start at: on_request().
 */
#include "control/ca_service.h"

#include "wire/pb.h"
#include "wire/proto/istio_ca.pb-c.h"
#include "wire/struct.h"

enum { CALL_MEMORY_MAX = 1 << 20, REQUEST_BYTES_MAX = 128 << 10, AUDIT_LINES_MAX = 50 };
static const uint64_t AUDIT_SPAN_NS = 10 * LT_NS_PER_S;

/* --- what is written down --- */

/* True: this one may be written. */
static bool audit_takes(struct cp_ca_service *service)
{
    struct cp_audit *audit = &service->audit;
    uint64_t now_ns = lt_env_mono_ns(service->env);
    if (audit->from_ns == 0 || now_ns - audit->from_ns >= AUDIT_SPAN_NS) {
        if (audit->withheld > 0)
            lt_log_warn(&service->env->log, "ca: %u more refusals were not written down",
                        audit->withheld);
        *audit = (struct cp_audit){.from_ns = now_ns};
    }
    if (audit->lines >= AUDIT_LINES_MAX) {
        audit->withheld++;
        return false;
    }
    audit->lines++;
    return true;
}

static void log_refusal(struct cp_ca_service *service, struct lt_grpc_stream *stream, lt_str who,
                        const char *reason)
{
    char peer[LT_ADDR_TEXT_MAX];
    lt_str address = lt_addr_format(&lt_grpc_stream_peer(stream)->addr, peer);
    if (audit_takes(service))
        lt_log_warn(&service->env->log, "ca: no certificate for %.*s at %.*s: %s",
                    LT_STR_ARG(who.len > 0 ? who : LT_STR("a stranger")), LT_STR_ARG(address),
                    reason);
}

/* The caller learns no more than that it was refused; istiod's words. */
static void refuse_caller(struct cp_ca_service *service, struct lt_grpc_stream *stream, lt_str who,
                          const char *reason, lt_str message)
{
    cp_ca_count_authn_error(service->ca);
    log_refusal(service, stream, who, reason);
    lt_grpc_stream_finish(stream, LT_GRPC_UNAUTHENTICATED, message);
}

static lt_rc unpack(struct lt_arena *arena, lt_str message,
                    Istio__IstioCertificateRequest **ret_request, struct lt_err *err)
{
    struct lt_pb_opts opts = {.limits = {.bytes_max = REQUEST_BYTES_MAX,
                                         .memory_max = CALL_MEMORY_MAX / 2,
                                         .fields_max = 1000}};
    return lt_pb_unpack(arena, &istio__istio_certificate_request__descriptor, message, &opts,
                        ret_request, err);
}

static void send_reply(struct lt_grpc_stream *stream, struct lt_arena *arena,
                       const struct cp_ca_reply *reply)
{
    const char *certs[CP_CA_CHAIN_MAX + 2];
    Istio__IstioCertificateResponse response = ISTIO__ISTIO_CERTIFICATE_RESPONSE__INIT;
    for (size_t i = 0; i < reply->cert_count; i++)
        certs[i] = lt_arena_strz(arena, reply->certs[i]);
    response.n_cert_chain = reply->cert_count;
    response.cert_chain = certs;
    lt_rc rc = lt_grpc_stream_send(stream, lt_pb_pack(arena, &response));
    lt_grpc_stream_finish(stream, rc == LT_OK ? LT_GRPC_OK : LT_GRPC_INTERNAL, LT_STR_NULL);
}

static void answer(struct cp_ca_service *service, struct lt_grpc_stream *stream,
                   struct lt_arena *arena, lt_str message)
{
    const struct lt_grpc_peer *peer = lt_grpc_stream_peer(stream);
    int64_t now_s = lt_env_wall_ns(service->env) / (int64_t)LT_NS_PER_S;
    struct cp_identity identity;
    struct lt_err err = {0};
    Istio__IstioCertificateRequest *request = NULL;
    if (cp_authn_check(service->authn, arena, peer->is_verified ? peer->uri : LT_STR_NULL,
                       lt_grpc_stream_metadata(stream, LT_STR("authorization")), now_s, &identity,
                       &err) != LT_OK) {
        refuse_caller(service, stream, LT_STR_NULL, err.text,
                      LT_STR("request authenticate failure"));
        return;
    }
    if (unpack(arena, message, &request, &err) != LT_OK) {
        log_refusal(service, stream, identity.uri, err.text);
        lt_grpc_stream_finish(stream, LT_GRPC_INVALID_ARGUMENT, LT_STR("broken request"));
        return;
    }
    lt_str other = lt_struct_find_str(request->metadata, "ImpersonatedIdentity");
    if (other.len > 0) {
        refuse_caller(service, stream, identity.uri, "it asked for another's",
                      LT_STR("request impersonation authentication failure"));
        return;
    }
    struct cp_ca_reply reply;
    cp_ca_sign(service->ca, arena, lt_str_of(request->csr), request->validity_duration,
               identity.uri, now_s, &reply);
    if (reply.code != LT_GRPC_OK) {
        log_refusal(service, stream, identity.uri, lt_arena_strz(arena, reply.message));
        lt_grpc_stream_finish(stream, reply.code, reply.message);
        return;
    }
    lt_log_info(&service->env->log, "ca: a certificate for %.*s", LT_STR_ARG(identity.uri));
    send_reply(stream, arena, &reply);
}

static void on_request(struct lt_grpc_stream *stream, lt_str message)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    answer(lt_grpc_stream_service(stream), stream, arena, message);
    lt_arena_free(&arena);
}

static void on_half_close(struct lt_grpc_stream *stream)
{
    /* nothing happens when the call was answered already */
    lt_grpc_stream_finish(stream, LT_GRPC_INVALID_ARGUMENT, LT_STR("no request"));
}

struct lt_grpc_method cp_ca_service_method(struct cp_ca_service *service)
{
    static const struct lt_grpc_handler handler = {.on_message = on_request,
                                                   .on_half_close = on_half_close};
    return (struct lt_grpc_method){
        .path = "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        .handler = &handler,
        .service = service,
        .message_bytes_max = REQUEST_BYTES_MAX};
}
