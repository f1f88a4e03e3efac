/*
 * control/discovery.c - streams: who is there, what he says, and when he is told.
 * Start at: on_open(), on_message(), cp_discovery_push().
 */
#include "control/discovery.h"

#include <stdlib.h>

#include "control/discovery_priv.h"
#include "wire/pb.h"
#include "wire/proto/core.pb-c.h"

/* --- pushing --- */

static void set_timer(struct stream *stream)
{
    struct lt_loop *loop = stream->discovery->opts.loop;
    uint64_t due_ns = cp_proxy_due_ns(stream->proxy), now_ns = lt_loop_now_ns(loop);
    if (due_ns == UINT64_MAX)
        lt_loop_timer_cancel(loop, &stream->timer);
    else
        lt_loop_timer_set(loop, &stream->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void note_convergence(struct stream *stream)
{
    if (stream->changed_ns == 0 || !cp_proxy_is_current(stream->proxy))
        return;
    uint64_t took_ns = lt_loop_now_ns(stream->discovery->opts.loop) - stream->changed_ns;
    lt_histogram_observe(stream->discovery->opts.metrics->convergence_s,
                         (double)took_ns / (double)LT_NS_PER_S);
    stream->changed_ns = 0;
}

/* After whatever was sent: what comes next, and whether this stream takes it. */
static void settle(struct stream *stream, lt_rc rc)
{
    if (rc != LT_OK) {
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the proxy takes its configuration too slowly"));
        return;
    }
    note_convergence(stream);
    set_timer(stream);
    if (!lt_grpc_stream_is_writable(stream->grpc))
        lt_grpc_stream_pause(stream->grpc); /* who doesn't read is not asked for more */
}

/* What changes while there is no room is one change for the proxy. */
static void push_stream(struct stream *stream)
{
    if (stream->proxy == NULL || stream->grpc == NULL)
        return;
    stream->is_owed = !lt_grpc_stream_is_writable(stream->grpc);
    if (!stream->is_owed)
        settle(stream, cp_proxy_push(stream->proxy, lt_loop_now_ns(stream->discovery->opts.loop)));
}

static void on_stream_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    push_stream(LT_CONTAINER_OF(timer, struct stream, timer));
}

static void on_writable(struct lt_grpc_stream *grpc)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    lt_grpc_stream_resume(grpc);
    if (stream->is_owed)
        push_stream(stream);
}

void cp_discovery_push(struct cp_discovery *discovery, uint64_t since_ns)
{
    struct lt_list *it, *next;
    lt_list_each (&discovery->streams, it, next) {
        struct stream *stream = LT_CONTAINER_OF(it, struct stream, link);
        if (stream->changed_ns == 0)
            stream->changed_ns = since_ns;
        push_stream(stream);
    }
}

static lt_rc send_message(void *ctx, cp_type type, struct lt_rope *message)
{
    struct stream *stream = ctx;
    struct cp_metrics *metrics = stream->discovery->opts.metrics;
    size_t len = lt_rope_len(message);
    lt_rc rc = stream->grpc == NULL ? LT_E_CLOSED : lt_grpc_stream_send_rope(stream->grpc, message);
    lt_counter_add(rc == LT_OK ? metrics->pushes[type] : metrics->send_errors[type], 1);
    if (rc != LT_OK)
        return rc;
    lt_histogram_observe(metrics->config_bytes[type], (double)len);
    stream->said[type].sent_ns = lt_env_wall_ns(stream->discovery->env);
    return LT_OK;
}

/* --- who it is --- */

/* On TLS everybody shows who he is; the plaintext port takes all, as istiod's does. */
static bool authenticate(struct stream *stream, struct lt_err *err)
{
    const struct lt_grpc_peer *peer = lt_grpc_stream_peer(stream->grpc);
    if (!peer->is_tls)
        return true;
    int64_t now_s = lt_env_wall_ns(stream->discovery->env) / (int64_t)LT_NS_PER_S;
    lt_str uri = peer->is_verified ? peer->uri : LT_STR_NULL;
    lt_str authorization = lt_grpc_stream_metadata(stream->grpc, LT_STR("authorization"));
    stream->is_authenticated = cp_authn_check(stream->discovery->opts.authn, stream->arena, uri,
                                              authorization, now_s, &stream->identity,
                                              err) == LT_OK;
    return stream->is_authenticated;
}

/*
 * The namespace and account that a proxy claims are those of its certificate or token (istiod:
 * PILOT_ENABLE_XDS_IDENTITY_CHECK).
 */
static bool is_its_own(const struct stream *stream)
{
    if (!stream->is_authenticated)
        return true;
    const struct cp_node *node = stream->node;
    return lt_str_eq(node->ns, stream->identity.ns) &&
           (node->service_account.len == 0 ||
            lt_str_eq(node->service_account, stream->identity.service_account));
}

/* False: the stream has been finished. */
static bool take_node(struct stream *stream, lt_str bytes)
{
    struct cp_discovery *discovery = stream->discovery;
    struct lt_err err = {0};
    Xds__Node *message = NULL;
    if (bytes.ptr == NULL) {
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_INVALID_ARGUMENT,
                              LT_STR("missing node information"));
        return false;
    }
    struct cp_node *node = lt_arena_make(stream->arena, struct cp_node);
    if (lt_pb_unpack(stream->arena, &xds__node__descriptor, bytes, NULL, &message, &err) != LT_OK ||
        cp_node_read(stream->arena, message, node, &err) != LT_OK) {
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_INVALID_ARGUMENT, lt_str_of(err.text));
        return false;
    }
    stream->node = node;
    if (!is_its_own(stream)) {
        lt_str text = lt_arena_printf(
            stream->arena, "authorization failed: no identities ([%.*s]) matched %.*s/%.*s",
            LT_STR_ARG(stream->identity.uri), LT_STR_ARG(node->ns),
            LT_STR_ARG(node->service_account));
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_PERMISSION_DENIED, text);
        return false;
    }
    const struct cp_push_opts opts = {.views = discovery->opts.views,
                                      .session = stream->session,
                                      .node = node,
                                      .gate_ns = discovery->opts.gate_ns,
                                      .grace_ns = discovery->opts.grace_ns,
                                      .send = send_message,
                                      .ctx = stream};
    stream->proxy = cp_proxy_new(&opts);
    cp_metrics_add_proxy(discovery->opts.metrics, node->istio_version, 1);
    lt_log_info(&discovery->env->log, "xds: %.*s connected", LT_STR_ARG(node->id));
    return true;
}

/* --- what it says --- */

static void log_nack(const struct stream *stream, cp_type type,
                     const struct lt_ads_request *request)
{
    const struct lt_log *log = &stream->discovery->env->log;
    lt_str id = stream->node->id;
    if (request->suspect_count > 0)
        lt_log_warn(log, "xds: %.*s refuses %s: %.*s (one of %zu; each is sent alone to find it)",
                    LT_STR_ARG(id), cp_type_name(type), LT_STR_ARG(request->error_text),
                    request->suspect_count);
    for (size_t i = 0; i < request->refused_count; i++) {
        lt_str name = lt_ads_resource_name(request->refused[i]);
        lt_log_warn(log, "xds: %.*s refuses %s %.*s: %.*s; it waits for a change, all else goes on",
                    LT_STR_ARG(id), cp_type_name(type), LT_STR_ARG(name),
                    LT_STR_ARG(request->error_text));
    }
    if (request->suspect_count + request->refused_count == 0)
        lt_log_warn(log, "xds: %.*s refuses %s: %.*s", LT_STR_ARG(id), cp_type_name(type),
                    LT_STR_ARG(request->error_text));
}

static void note_answer(struct stream *stream, const struct lt_ads_request *request)
{
    struct cp_metrics *metrics = stream->discovery->opts.metrics;
    cp_type type = cp_type_find(lt_ads_sub_type(request->sub));
    if (type == CP_TYPE_COUNT)
        return;
    if (request->is_stale)
        cp_metrics_add_expired_nonce(metrics, type);
    if (!request->is_ack && !request->is_nack)
        return;
    free(stream->said[type].error);
    stream->said[type].error = request->is_nack ? lt_str_dupz(request->error_text) : NULL;
    if (!request->is_nack)
        return;
    log_nack(stream, type, request);
    cp_metrics_add_reject(metrics, type, stream->node->id, request->error_code);
}

static void on_message(struct lt_grpc_stream *grpc, lt_str message)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    const struct lt_ads_request *request = NULL;
    struct lt_err err = {0};
    lt_rc rc = lt_ads_session_feed(stream->session, message, &request, &err);
    if (rc != LT_OK) {
        lt_grpc_stream_finish(
            grpc, rc == LT_E_LIMIT ? LT_GRPC_RESOURCE_EXHAUSTED : LT_GRPC_INVALID_ARGUMENT,
            lt_str_of(err.text));
        return;
    }
    if (stream->node == NULL && !take_node(stream, request->node))
        return;
    note_answer(stream, request);
    settle(stream,
           cp_proxy_request(stream->proxy, request, lt_loop_now_ns(stream->discovery->opts.loop)));
}

/* --- life of a stream --- */

static void on_open(struct lt_grpc_stream *grpc, void *service)
{
    struct cp_discovery *discovery = service;
    struct stream *stream = lt_new(struct stream);
    struct lt_err err = {0};
    stream->discovery = discovery;
    stream->grpc = grpc;
    stream->arena = lt_arena_new(4096, 0);
    stream->session = lt_ads_session_new(NULL);
    lt_timer_init(&stream->timer, on_stream_timer);
    lt_list_push_back(&discovery->streams, &stream->link);
    lt_grpc_stream_set_user(grpc, stream);
    if (!authenticate(stream, &err)) {
        lt_log_warn(&discovery->env->log, "xds: a caller is refused: %s", err.text);
        lt_grpc_stream_finish(grpc, LT_GRPC_UNAUTHENTICATED, LT_STR("authentication failure"));
    }
}

static void on_closed(struct lt_grpc_stream *grpc, lt_grpc_code code LT_UNUSED)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    struct cp_discovery *discovery = stream->discovery;
    if (stream->proxy != NULL) {
        cp_metrics_add_proxy(discovery->opts.metrics, stream->node->istio_version, -1);
        cp_metrics_forget_node(discovery->opts.metrics, stream->node->id);
        lt_log_info(&discovery->env->log, "xds: %.*s has left", LT_STR_ARG(stream->node->id));
    }
    stream->grpc = NULL;
    lt_loop_timer_cancel(discovery->opts.loop, &stream->timer);
    lt_list_remove(&stream->link);
    cp_proxy_free(&stream->proxy);
    lt_ads_session_free(&stream->session);
    lt_arena_free(&stream->arena);
    for (int type = 0; type < CP_TYPE_COUNT; type++)
        free(stream->said[type].error);
    free(stream);
}

static void on_half_close(struct lt_grpc_stream *grpc)
{
    lt_grpc_stream_finish(grpc, LT_GRPC_OK, LT_STR_NULL);
}

struct lt_grpc_method cp_discovery_method(struct cp_discovery *discovery)
{
    static const struct lt_grpc_handler handler = {.on_open = on_open,
                                                   .on_message = on_message,
                                                   .on_half_close = on_half_close,
                                                   .on_writable = on_writable,
                                                   .on_closed = on_closed};
    return (struct lt_grpc_method){
        .path = LT_ADS_DELTA_METHOD, .handler = &handler, .service = discovery};
}

/* --- life --- */

struct cp_discovery *cp_discovery_new(const struct cp_discovery_opts *opts)
{
    struct cp_discovery *discovery = lt_new(struct cp_discovery);
    discovery->opts = *opts;
    discovery->env = lt_loop_env(opts->loop);
    if (opts->gate_ns == 0)
        discovery->opts.gate_ns = CP_PUSH_GATE_MS * LT_NS_PER_MS;
    if (opts->grace_ns == 0)
        discovery->opts.grace_ns = CP_PUSH_GRACE_MS * LT_NS_PER_MS;
    lt_list_init(&discovery->streams);
    return discovery;
}

void cp_discovery_free(struct cp_discovery **pointer)
{
    struct cp_discovery *discovery = *pointer;
    *pointer = NULL;
    if (discovery == NULL)
        return;
    LT_ASSERT(lt_list_is_empty(&discovery->streams));
    free(discovery);
}
