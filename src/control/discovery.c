/*
 * control/discovery.c - the world and the streams.
 * Start at: rebuild() for a change of the world, on_message() for a proxy's word.
 */
#include "control/discovery.h"

#include <stdlib.h>

#include "control/hold.h"
#include "control/push.h"
#include "model/check.h"
#include "wire/pb.h"
#include "wire/proto/core.pb-c.h"

static const uint64_t QUIET_NS = 50 * LT_NS_PER_MS, BURST_NS = 1000 * LT_NS_PER_MS;

struct cp_discovery {
    struct cp_discovery_opts opts;
    struct lt_io source_io;
    struct lt_timer source_timer; /* a burst of file changes is waited out */
    struct lt_timer hold_timer;   /* something that is held ends */
    struct cp_hold *hold;
    struct lt_ads_pool pool;
    struct cp_views views;
    struct lt_list streams;
    size_t stream_count;
    uint64_t generation;
    struct lt_mesh mesh;
    struct lt_arena *mesh_arena;
    struct lt_told told;
    bool has_mesh;
    struct lt_metric_set *metrics;
    struct lt_counter *pushes, *nacks, *rejected_config;
    struct lt_gauge *connected, *held;
};

/* One proxy's stream. */
struct stream {
    struct lt_list link;
    struct cp_discovery *discovery;
    struct lt_grpc_stream *grpc; /* NULL once it has ended */
    struct lt_ads_session *session;
    struct lt_arena *arena; /* of the node */
    struct cp_node *node;   /* NULL before the first message */
    struct cp_proxy *proxy;
    struct lt_timer timer;
    struct cp_identity identity;
    bool is_authenticated;
};

/* --- the world --- */

static void set_timer(struct stream *stream)
{
    struct lt_loop *loop = stream->discovery->opts.loop;
    uint64_t due_ns = cp_proxy_due_ns(stream->proxy), now_ns = lt_loop_now_ns(loop);
    if (due_ns == UINT64_MAX)
        lt_loop_timer_cancel(loop, &stream->timer);
    else
        lt_loop_timer_set(loop, &stream->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void push_stream(struct stream *stream)
{
    if (stream->proxy == NULL || stream->grpc == NULL)
        return;
    lt_counter_add(stream->discovery->pushes, 1);
    if (cp_proxy_push(stream->proxy, lt_loop_now_ns(stream->discovery->opts.loop)) != LT_OK)
        lt_grpc_stream_finish(stream->grpc, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the proxy takes its configuration too slowly"));
    else
        set_timer(stream);
}

static void on_stream_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    push_stream(LT_CONTAINER_OF(timer, struct stream, timer));
}

static void log_note(void *ctx, const struct lt_note *note, const char *line)
{
    struct cp_discovery *discovery = ctx;
    lt_log_warn(&discovery->opts.env->log, "%s", line);
    if (note->level == LT_NOTE_ERROR)
        lt_counter_add(discovery->rejected_config, 1);
}

static void set_hold_timer(struct cp_discovery *discovery, int64_t now_ns)
{
    int64_t due_ns = cp_hold_deadline_ns(discovery->hold);
    if (due_ns == INT64_MAX)
        lt_loop_timer_cancel(discovery->opts.loop, &discovery->hold_timer);
    else
        lt_loop_timer_set(discovery->opts.loop, &discovery->hold_timer,
                          due_ns > now_ns ? (uint64_t)(due_ns - now_ns) : 0);
}

static void log_held(struct cp_discovery *discovery)
{
    size_t count = 0;
    const struct cp_hold_entry *entries = cp_hold_entries(discovery->hold, &count);
    for (size_t i = 0; i < count; i++)
        lt_log_warn(&discovery->opts.env->log, "held: %s%s", entries[i].reason,
                    entries[i].is_over ? " (applies as written now)" : "");
    lt_gauge_set(discovery->held, (double)count);
}

/* Objects, what is held of them, the model, and then every proxy. */
static void rebuild(struct cp_discovery *discovery, bool with_notes)
{
    const struct lt_notes *file_notes = NULL;
    struct lt_notes notes;
    size_t count = 0;
    int64_t now_ns = lt_env_wall_ns(discovery->opts.env);
    const struct lt_object *const *objects = lt_manifests_objects(
        cp_source_dir_manifests(discovery->opts.source), &count, &file_notes);
    struct cp_hold_input input = {objects, count, LT_STR("cluster.local"), now_ns,
                                  (int64_t)discovery->opts.hold_ns};
    cp_hold_step(discovery->hold, &input);
    lt_notes_init(&notes);
    struct lt_model_input build = {objects, count, discovery->has_mesh ? &discovery->mesh : NULL,
                                   cp_hold_held(discovery->hold), ++discovery->generation};
    struct lt_model *model = lt_model_build(&build, &notes);
    cp_views_set_model(&discovery->views, model);
    lt_model_unref(&model);
    if (with_notes) {
        lt_check_references(objects, count, input.domain, &notes);
        const struct lt_notes *const both[] = {file_notes, &notes};
        lt_told_tell(&discovery->told, both, LT_ARRAY_LEN(both), log_note, discovery);
    }
    lt_notes_fini(&notes);
    log_held(discovery);
    set_hold_timer(discovery, now_ns);
    struct lt_list *it, *next;
    lt_list_each (&discovery->streams, it, next)
        push_stream(LT_CONTAINER_OF(it, struct stream, link));
    lt_ads_pool_prune(&discovery->pool);
}

static void on_hold_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    rebuild(LT_CONTAINER_OF(timer, struct cp_discovery, hold_timer), false);
}

static void on_source_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct cp_discovery *discovery = LT_CONTAINER_OF(timer, struct cp_discovery, source_timer);
    struct lt_err err = {0};
    if (cp_source_dir_reload(discovery->opts.source, &err) != LT_OK)
        lt_log_error(&discovery->opts.env->log, "%s", err.text);
    rebuild(discovery, true);
}

static void on_source(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct cp_discovery *discovery = LT_CONTAINER_OF(io, struct cp_discovery, source_io);
    struct lt_loop *loop = discovery->opts.loop;
    struct lt_err err = {0};
    uint64_t due_ns = UINT64_MAX, now_ns = lt_loop_now_ns(loop);
    if (cp_source_dir_events(discovery->opts.source, now_ns, QUIET_NS, BURST_NS, &due_ns, &err) !=
        LT_OK)
        lt_log_error(&discovery->opts.env->log, "%s", err.text);
    if (due_ns != UINT64_MAX)
        lt_loop_timer_set(loop, &discovery->source_timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

/* --- streams --- */

static lt_rc send_message(void *ctx, cp_type type LT_UNUSED, struct lt_rope *message)
{
    struct stream *stream = ctx;
    return stream->grpc == NULL ? LT_E_CLOSED : lt_grpc_stream_send_rope(stream->grpc, message);
}

/* On TLS everybody shows who he is; the plaintext port takes all, as istiod's does. */
static bool authenticate(struct stream *stream, struct lt_err *err)
{
    const struct lt_grpc_peer *peer = lt_grpc_stream_peer(stream->grpc);
    if (!peer->is_tls)
        return true;
    int64_t now_s = lt_env_wall_ns(stream->discovery->opts.env) / (int64_t)LT_NS_PER_S;
    lt_str uri = peer->is_verified ? peer->uri : LT_STR_NULL;
    lt_str authorization = lt_grpc_stream_metadata(stream->grpc, LT_STR("authorization"));
    stream->is_authenticated = cp_authn_check(stream->discovery->opts.authn, stream->arena, uri,
                                              authorization, now_s, &stream->identity,
                                              err) == LT_OK;
    return stream->is_authenticated;
}

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
    lt_gauge_set(discovery->connected, (double)++discovery->stream_count);
    lt_grpc_stream_set_user(grpc, stream);
    if (!authenticate(stream, &err)) {
        lt_log_warn(&discovery->opts.env->log, "xds: a caller is refused: %s", err.text);
        lt_grpc_stream_finish(grpc, LT_GRPC_UNAUTHENTICATED, LT_STR("authentication failure"));
    }
}

/* The namespace and account that a proxy claims are those of its certificate or token (PILOT_ENABLE_XDS_IDENTITY_CHECK). */
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
    struct cp_push_opts opts = {.views = &discovery->views,
                                .session = stream->session,
                                .node = node,
                                .gate_ns = discovery->opts.gate_ns,
                                .grace_ns = discovery->opts.grace_ns,
                                .send = send_message,
                                .ctx = stream};
    stream->proxy = cp_proxy_new(&opts);
    lt_log_info(&discovery->opts.env->log, "xds: %.*s connected", LT_STR_ARG(node->id));
    return true;
}

static void log_nack(const struct stream *stream, const struct lt_ads_request *request)
{
    lt_str url = lt_ads_sub_type(request->sub);
    lt_counter_add(stream->discovery->nacks, 1);
    lt_log_warn(&stream->discovery->opts.env->log, "xds: %.*s refuses %s: %.*s",
                LT_STR_ARG(stream->node->id),
                cp_type_find(url) < CP_TYPE_COUNT ? cp_type_name(cp_type_find(url)) : "?",
                LT_STR_ARG(request->error_text));
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
    if (request->is_nack)
        log_nack(stream, request);
    if (cp_proxy_request(stream->proxy, request, lt_loop_now_ns(stream->discovery->opts.loop)) !=
        LT_OK) {
        lt_grpc_stream_finish(grpc, LT_GRPC_RESOURCE_EXHAUSTED,
                              LT_STR("the proxy takes its configuration too slowly"));
        return;
    }
    set_timer(stream);
}

static void on_closed(struct lt_grpc_stream *grpc, lt_grpc_code code LT_UNUSED)
{
    struct stream *stream = lt_grpc_stream_user(grpc);
    struct cp_discovery *discovery = stream->discovery;
    if (stream->node != NULL)
        lt_log_info(&discovery->opts.env->log, "xds: %.*s has left", LT_STR_ARG(stream->node->id));
    stream->grpc = NULL;
    lt_loop_timer_cancel(discovery->opts.loop, &stream->timer);
    lt_list_remove(&stream->link);
    lt_gauge_set(discovery->connected, (double)--discovery->stream_count);
    cp_proxy_free(&stream->proxy);
    lt_ads_session_free(&stream->session);
    lt_arena_free(&stream->arena);
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
                                                   .on_closed = on_closed};
    return (struct lt_grpc_method){
        .path = LT_ADS_DELTA_METHOD, .handler = &handler, .service = discovery};
}

/* --- pages --- */

static void syncz_type(const struct stream *stream, cp_type type, const char *prefix,
                       struct lt_json_writer *w)
{
    const struct lt_ads_sub *sub = lt_ads_session_find(stream->session,
                                                       lt_str_of(cp_type_url(type)));
    char key[64];
    snprintf(key, sizeof(key), "%s_sent", prefix);
    lt_json_key(w, lt_str_of(key));
    lt_json_strf(w, "%llu", sub == NULL ? 0ull : (unsigned long long)lt_ads_sub_sent_seq(sub));
    snprintf(key, sizeof(key), "%s_acked", prefix);
    lt_json_key(w, lt_str_of(key));
    lt_json_strf(w, "%llu", sub == NULL ? 0ull : (unsigned long long)lt_ads_sub_settled_seq(sub));
}

void cp_discovery_syncz(const struct cp_discovery *discovery, struct lt_json_writer *w)
{
    static const char *const prefixes[CP_TYPE_COUNT] = {[CP_TYPE_CDS] = "cluster",
                                                        [CP_TYPE_EDS] = "endpoint",
                                                        [CP_TYPE_LDS] = "listener",
                                                        [CP_TYPE_RDS] = "route"};
    lt_json_array_open(w);
    for (const struct lt_list *it = discovery->streams.next; it != &discovery->streams;
         it = it->next) {
        const struct stream *stream = LT_CONTAINER_OF(it, const struct stream, link);
        if (stream->node == NULL)
            continue;
        lt_json_object_open(w);
        lt_json_key(w, LT_STR("proxy"));
        lt_json_strf(w, "%.*s.%.*s", LT_STR_ARG(stream->node->name), LT_STR_ARG(stream->node->ns));
        lt_json_key(w, LT_STR("proxy_type"));
        lt_json_str(w, stream->node->type == CP_NODE_ROUTER ? LT_STR("router") : LT_STR("sidecar"));
        lt_json_key(w, LT_STR("cluster_id"));
        lt_json_str(w, stream->node->cluster_id);
        for (int type = 0; type < CP_TYPE_COUNT; type++)
            syncz_type(stream, (cp_type)type, prefixes[type], w);
        lt_json_key(w, LT_STR("waits_for"));
        lt_json_str(w, lt_str_of(stream->proxy != NULL ? cp_proxy_waits_for(stream->proxy) : ""));
        lt_json_object_close(w);
    }
    lt_json_array_close(w);
}

struct lt_metric_set *cp_discovery_metrics(struct cp_discovery *discovery)
{
    return discovery->metrics;
}

/* --- life --- */

static struct lt_counter *counter(struct lt_metric_set *set, const char *name)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(name), .kind = LT_METRIC_COUNTER};
    return lt_metric_counter(lt_metric_family(set, &desc), NULL);
}

static struct lt_gauge *gauge(struct lt_metric_set *set, const char *name)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(name), .kind = LT_METRIC_GAUGE};
    return lt_metric_gauge(lt_metric_family(set, &desc), NULL);
}

static void read_mesh(struct cp_discovery *discovery)
{
    struct lt_notes notes;
    struct lt_note where = {0};
    if (discovery->opts.mesh_config.len == 0)
        return;
    lt_notes_init(&notes);
    discovery->mesh = lt_mesh_default();
    discovery->mesh_arena = lt_arena_new(4096, 0);
    discovery->has_mesh = lt_mesh_read(discovery->mesh_arena, discovery->opts.mesh_config, &where,
                                       &notes, &discovery->mesh) == LT_OK;
    struct lt_told none = {0};
    const struct lt_notes *const list[] = {&notes};
    lt_told_tell(&none, list, LT_ARRAY_LEN(list), log_note, discovery);
    lt_told_fini(&none);
    lt_notes_fini(&notes);
}

struct cp_discovery *cp_discovery_new(const struct cp_discovery_opts *opts)
{
    struct cp_discovery *discovery = lt_new(struct cp_discovery);
    discovery->opts = *opts;
    if (opts->gate_ns == 0)
        discovery->opts.gate_ns = CP_PUSH_GATE_MS * LT_NS_PER_MS;
    if (opts->grace_ns == 0)
        discovery->opts.grace_ns = CP_PUSH_GRACE_MS * LT_NS_PER_MS;
    lt_list_init(&discovery->streams);
    lt_timer_init(&discovery->source_timer, on_source_timer);
    lt_timer_init(&discovery->hold_timer, on_hold_timer);
    discovery->hold = cp_hold_new();
    lt_ads_pool_init(&discovery->pool);
    cp_views_init(&discovery->views, &discovery->pool);
    discovery->metrics = lt_metric_set_new(1000);
    discovery->pushes = counter(discovery->metrics, "pilot_xds_pushes");
    discovery->nacks = counter(discovery->metrics, "pilot_total_xds_rejects");
    discovery->rejected_config = counter(discovery->metrics, "lateen_config_errors_total");
    discovery->connected = gauge(discovery->metrics, "pilot_xds");
    discovery->held = gauge(discovery->metrics, "lateen_held_routes");
    read_mesh(discovery);
    lt_io_init(&discovery->source_io, on_source);
    discovery->source_io.fd = cp_source_dir_fd(opts->source);
    lt_loop_io_set(opts->loop, &discovery->source_io, EPOLLIN);
    rebuild(discovery, true);
    return discovery;
}

void cp_discovery_free(struct cp_discovery **pointer)
{
    struct cp_discovery *discovery = *pointer;
    *pointer = NULL;
    if (discovery == NULL)
        return;
    LT_ASSERT(lt_list_is_empty(&discovery->streams));
    lt_loop_io_del(discovery->opts.loop, &discovery->source_io);
    lt_loop_timer_cancel(discovery->opts.loop, &discovery->source_timer);
    lt_loop_timer_cancel(discovery->opts.loop, &discovery->hold_timer);
    cp_views_fini(&discovery->views);
    lt_ads_pool_fini(&discovery->pool);
    cp_hold_free(&discovery->hold);
    lt_metric_set_free(&discovery->metrics);
    lt_arena_free(&discovery->mesh_arena);
    lt_told_fini(&discovery->told);
    free(discovery);
}
