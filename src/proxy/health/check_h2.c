/*
 * proxy/health/check_h2.c - health checks over HTTP/2: an HTTP request, or gRPC's standard health
 * service (grpc.health.v1). Events of the engine only note what came.
 */
#include "http/grpc.h"
#include "http/h2_head.h"
#include "proxy/health/check_priv.h"
#include "wire/pb.h"
#include "wire/proto/grpc_health.pb-c.h"

enum { IOVS = 16, WINDOW_BYTES = 65536, MESSAGE_BYTES_MAX = 4096, FRAME_BYTES = 5 };

/* --- what comes --- */

static struct px_asker *asker_of(const struct lt_h2_stream *stream)
{
    return lt_h2_stream_user(stream);
}

static void take_grpc_status(struct px_asker *asker, const struct lt_headers *headers)
{
    lt_str status = lt_headers_value(headers, LT_H_GRPC_STATUS);
    if (status.len > 0)
        asker->grpc_status = lt_arena_str(asker->arena, status);
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end)
{
    struct px_asker *asker = asker_of(stream);
    if (asker == NULL)
        return;
    bool was_head = lt_str_eqz(asker->opts.conf->method, "HEAD");
    lt_http_head_init(&asker->head, asker->arena, 0, 0);
    if (lt_h2_read_response(fields, is_end, was_head, &asker->head) != LT_OK)
        lt_h2_stream_reset(stream, LT_H2_PROTOCOL_ERROR);
    else if (asker->head.status >= 200)
        asker->has_head = true;
    take_grpc_status(asker, &asker->head.headers);
}

static void on_data(struct lt_h2_stream *stream, lt_str bytes)
{
    struct px_asker *asker = asker_of(stream);
    lt_h2_stream_consume(stream, bytes.len);
    if (asker == NULL)
        return;
    size_t room = asker->body.bytes_max - lt_buf_len(&asker->body);
    lt_rc rc = lt_buf_append_str(&asker->body, lt_str_slice(bytes, 0, LT_MIN(bytes.len, room)));
    LT_ASSERT(rc == LT_OK);
}

static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields)
{
    struct px_asker *asker = asker_of(stream);
    struct lt_headers trailers;
    if (asker == NULL)
        return;
    lt_headers_init(&trailers, asker->arena, 0, 0);
    if (lt_h2_read_trailers(fields, &trailers) == LT_OK)
        take_grpc_status(asker, &trailers);
}

static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code LT_UNUSED)
{
    struct px_asker *asker = asker_of(stream);
    if (asker == NULL)
        return;
    asker->stream = NULL;
    if (end != LT_H2_END_CLEAN)
        asker->has_head = false; /* half an answer is none */
}

static const struct lt_h2_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_closed = on_closed,
};

/* --- the question --- */

static lt_rc open_stream(struct px_asker *asker, struct lt_http_head *head, lt_str body)
{
    struct lt_h2_made made = lt_h2_make_request(asker->arena, head);
    LT_TRY(
        lt_h2_stream_open(asker->h2, made.items, made.count, body.len == 0, asker, &asker->stream));
    if (body.len == 0)
        return LT_OK;
    LT_TRY(lt_h2_stream_send(asker->stream, body));
    return lt_h2_stream_end(asker->stream, NULL, 0);
}

static void init_head(const struct px_asker *asker, struct lt_http_head *head, lt_str method,
                      lt_str path)
{
    lt_http_head_init(head, asker->arena, 0, 0);
    head->is_h2 = true;
    head->method = method;
    head->method_id = lt_http_method_of(method);
    head->scheme = asker->opts.tls != NULL ? LT_STR("https") : LT_STR("http");
    head->authority = asker->opts.authority;
    head->path = path;
}

static lt_rc start_http(struct px_asker *asker)
{
    const struct px_check_conf *conf = asker->opts.conf;
    struct lt_http_head head;
    init_head(asker, &head, conf->method, conf->path);
    LT_TRY(px_ask_add_headers(asker, &head.headers));
    return open_stream(asker, &head, conf->send);
}

/* grpc.health.v1.Health/Check */
static lt_rc start_grpc(struct px_asker *asker)
{
    const struct px_check_conf *conf = asker->opts.conf;
    struct lt_http_head head;
    Grpc__HealthCheckRequest message = GRPC__HEALTH_CHECK_REQUEST__INIT;
    init_head(asker, &head, LT_STR("POST"), LT_STR("/grpc.health.v1.Health/Check"));
    LT_TRY(lt_headers_add(&head.headers, LT_STR("content-type"), LT_STR("application/grpc")));
    LT_TRY(lt_headers_add(&head.headers, LT_STR("te"), LT_STR("trailers")));
    LT_TRY(px_ask_add_headers(asker, &head.headers));
    if (conf->grpc_service.len > 0)
        message.service = lt_arena_strz(asker->arena, conf->grpc_service);
    lt_str bytes = lt_pb_pack(asker->arena, &message.base);
    char *frame = lt_arena_bytes(asker->arena, FRAME_BYTES + bytes.len);
    memset(frame, 0, FRAME_BYTES); /* not compressed; length in big endian */
    frame[3] = (char)(bytes.len >> 8);
    frame[4] = (char)bytes.len;
    memcpy(frame + FRAME_BYTES, bytes.ptr, bytes.len);
    return open_stream(asker, &head, lt_str_make(frame, FRAME_BYTES + bytes.len));
}

lt_rc px_ask_h2_start(struct px_asker *asker)
{
    if (asker->h2 == NULL) {
        struct lt_h2_opts opts = LT_H2_OPTS_DEFAULT;
        opts.stream_window_bytes = opts.conn_window_bytes = WINDOW_BYTES;
        asker->h2 = lt_h2_conn_new(&opts, &events, asker);
    }
    return asker->opts.conf->kind == PX_CHECK_GRPC ? start_grpc(asker) : start_http(asker);
}

lt_rc px_ask_h2_drain(struct px_asker *asker)
{
    struct iovec iov[IOVS];
    while (lt_h2_conn_has_output(asker->h2)) {
        size_t sent = 0;
        int count = lt_h2_conn_drain(asker->h2, iov, IOVS);
        for (int i = 0; i < count; i++) {
            LT_TRY(lt_buf_append_str(&asker->out, lt_str_make(iov[i].iov_base, iov[i].iov_len)));
            sent += iov[i].iov_len;
        }
        lt_h2_conn_sent(asker->h2, sent);
        if (count == 0)
            break;
    }
    return LT_OK;
}

/* --- the answer --- */

static bool is_serving(struct px_asker *asker)
{
    lt_str body = lt_buf_str(&asker->body);
    Grpc__HealthCheckResponse *message = NULL;
    if (body.len < FRAME_BYTES || body.len > MESSAGE_BYTES_MAX || body.ptr[0] != 0)
        return false;
    lt_str bytes = lt_str_from(body, FRAME_BYTES);
    return lt_pb_unpack(asker->arena, &grpc__health_check_response__descriptor, bytes, NULL,
                        &message, NULL) == LT_OK &&
           message->has_status &&
           message->status == GRPC__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
}

static px_check_result judge_grpc(struct px_asker *asker)
{
    if (asker->head.status != 200 || !lt_str_eqz(asker->grpc_status, "0") || !is_serving(asker))
        return PX_CHECK_FAILED;
    bool is_degraded = lt_headers_find_name(&asker->head.headers, LT_STR("x-envoy-degraded")) !=
                       NULL;
    return is_degraded ? PX_CHECK_PASSED_DEGRADED : PX_CHECK_PASSED;
}

lt_rc px_ask_h2_idle(struct px_asker *asker)
{
    lt_rc rc = lt_h2_conn_feed(asker->h2, lt_buf_str(&asker->in), lt_loop_now_ns(asker->opts.loop));
    lt_buf_clear(&asker->in, 0);
    return rc == LT_OK && lt_h2_conn_is_going_away(asker->h2) ? LT_EOF : rc;
}

lt_rc px_ask_h2_took(struct px_asker *asker, bool is_end, px_check_result *ret_result)
{
    uint64_t now_ns = lt_loop_now_ns(asker->opts.loop);
    lt_rc rc = lt_h2_conn_feed(asker->h2, lt_buf_str(&asker->in), now_ns);
    lt_buf_clear(&asker->in, 0);
    asker->is_closing |= is_end || rc != LT_OK || lt_h2_conn_is_going_away(asker->h2);
    if (asker->stream != NULL)
        return rc == LT_OK ? LT_AGAIN : LT_E_CLOSED;
    if (!asker->has_head)
        return LT_E_CLOSED;
    *ret_result = asker->opts.conf->kind == PX_CHECK_GRPC ? judge_grpc(asker) : px_ask_judge(asker);
    return LT_EOF;
}
