/*
 * proxy/xds.c - the ADS client's owner: streams, subscriptions, acknowledgements.
 * Start at: on_message(), take_update().
 */
#include "proxy/xds.h"

#include <stdlib.h>

#include "base/vec.h"
#include "proxy/xds_kinds.h"
#include "wire/ads.h"

enum {
    BACKOFF_BASE_MS = 500,
    BACKOFF_MAX_MS = 30000,
    NACK_TEXT_MAX = 8192,
    REQUEST_BYTES_MAX = 64 << 20
};

/* An update whose answer waits until what it brought is warm. */
struct pending {
    struct pending *next;
    px_resource_kind kind;
    uint64_t ticket;
    struct lt_arena *arena; /* owned; holds text and names */
    lt_str text;            /* of a NACK; empty: an ACK */
    lt_str *refused;
    size_t refused_count;
};

struct px_xds {
    struct px_xds_opts opts;
    struct lt_grpc_channel *channel;
    struct lt_grpc_call *call; /* the stream; NULL between streams */
    struct lt_ads_client *client;
    struct lt_ads_watch *watches[PX_RESOURCE_KINDS];
    struct pending *pending; /* oldest first */
    struct lt_timer retry;
    struct lt_task send;
    unsigned failures;
    bool has_update[PX_RESOURCE_KINDS];
    bool is_connected;
    bool is_gone; /* freed by its owner; the memory waits for the stream's on_closed */
    struct lt_counter *success[PX_RESOURCE_KINDS], *rejected[PX_RESOURCE_KINDS];
    struct lt_gauge *connected_state;
};

/* By px_resource_kind; secrets over ADS come with the gateways. */
const struct px_xds_kind px_xds_kinds[PX_RESOURCE_KINDS] = {
    [PX_CLUSTER] = {LT_ADS_CLUSTER, true, "cluster_manager.cds",
                    "Error adding/updating cluster(s)"},
    [PX_ENDPOINTS] = {LT_ADS_ENDPOINT, false, "cluster_manager.eds", "Error updating endpoints of"},
    [PX_LISTENER] = {LT_ADS_LISTENER, true, "listener_manager.lds",
                     "Error adding/updating listener(s)"},
    [PX_ROUTES] = {LT_ADS_ROUTE, false, "http.rds", "Error updating route configuration"},
    [PX_SECRET] = {LT_ADS_SECRET, false, "sds", "Error updating secret"},
};

/* --- what is asked for --- */

static void queue_send(struct px_xds *xds)
{
    lt_loop_defer(xds->opts.loop, &xds->send);
}

static void send_requests(struct lt_task *task)
{
    struct px_xds *xds = LT_CONTAINER_OF(task, struct px_xds, send);
    struct lt_buf out;
    lt_buf_init(&out, REQUEST_BYTES_MAX);
    while (xds->call != NULL && lt_ads_client_next(xds->client, &out) == LT_OK) {
        lt_rc rc = lt_grpc_call_send(xds->call, lt_buf_str(&out));
        lt_buf_clear(&out, 64 * 1024);
        if (rc != LT_OK) {
            lt_grpc_call_cancel(xds->call);
            break;
        }
    }
    lt_buf_fini(&out);
}

struct wanted {
    struct lt_map names; /* name -> itself */
};

static void note_wanted(void *ctx, lt_str name)
{
    struct wanted *wanted = ctx;
    lt_map_put(&wanted->names, name, (void *)name.ptr);
}

struct held {
    const struct wanted *wanted;
    struct lt_vec unwanted; /* of struct px_resource */
};

static void note_unwanted(void *ctx, const struct px_resource *serving,
                          const struct px_resource *warming LT_UNUSED, bool is_static)
{
    struct held *held = ctx;
    if (!is_static && serving != NULL && lt_map_find(&held->wanted->names, serving->name) == NULL)
        lt_vec_push(&held->unwanted, (void *)serving);
}

/* Names that nobody refers to any more are unsubscribed, and what is held of them goes. */
static void drop_unwanted(struct px_xds *xds, px_resource_kind kind, const struct wanted *wanted)
{
    struct held held = {.wanted = wanted};
    px_table_each(xds->opts.table, kind, note_unwanted, &held);
    for (size_t i = 0; i < held.unwanted.count; i++) {
        struct px_resource *resource = px_resource_ref(held.unwanted.items[i]);
        lt_ads_watch_unsubscribe(xds->watches[kind], resource->name);
        px_table_remove(xds->opts.table, kind, resource->name);
        px_resource_unref(&resource);
    }
    lt_vec_fini(&held.unwanted);
}

static void follow_names(struct px_xds *xds, px_resource_kind kind)
{
    struct wanted wanted = {0};
    px_table_each_wanted(xds->opts.table, kind, note_wanted, &wanted);
    if (wanted.names.count > 0 && xds->watches[kind] == NULL)
        xds->watches[kind] = lt_ads_client_watch(xds->client,
                                                 lt_str_of(px_xds_kinds[kind].type_url), false);
    for (size_t i = 0; i < wanted.names.count; i++) {
        lt_rc rc = lt_ads_watch_subscribe(xds->watches[kind], wanted.names.entries[i].key);
        if (rc != LT_OK)
            lt_log_warn(&xds->opts.env->log, "xds: %s '%.*s' cannot be asked for: %s",
                        px_resource_kind_name(kind), LT_STR_ARG(wanted.names.entries[i].key),
                        lt_rc_name(rc));
    }
    if (xds->watches[kind] != NULL)
        drop_unwanted(xds, kind, &wanted);
    lt_map_fini(&wanted.names);
}

static void want_secret(void *ctx, lt_str name)
{
    struct px_xds *xds = ctx;
    if (px_table_find(xds->opts.table, PX_SECRET, name) == NULL)
        xds->opts.on_secret_wanted(xds->opts.ctx, name);
}

/* --- acknowledgements --- */

static void answer(struct px_xds *xds, const struct pending *pending)
{
    if (pending->text.len == 0)
        lt_ads_client_ack(xds->client, pending->ticket);
    else
        lt_ads_client_nack(xds->client, pending->ticket, pending->text, pending->refused,
                           pending->refused_count);
}

static void free_pending(struct pending *pending)
{
    struct lt_arena *arena = pending->arena;
    lt_arena_free(&arena);
}

/*
 * Of a kind that warms the answers wait for all of it: Envoy says nothing either while a cluster
 * warms.
 */
static bool may_answer(const struct px_xds *xds, px_resource_kind kind)
{
    return (kind != PX_CLUSTER && kind != PX_LISTENER) || px_table_all_warm(xds->opts.table, kind);
}

static void answer_pending(struct px_xds *xds)
{
    for (struct pending **at = &xds->pending; *at != NULL;) {
        struct pending *pending = *at;
        if (!may_answer(xds, pending->kind)) {
            at = &pending->next;
            continue;
        }
        *at = pending->next;
        answer(xds, pending);
        free_pending(pending);
    }
    queue_send(xds);
}

/* --- updates --- */

static struct pending *new_pending(px_resource_kind kind, uint64_t ticket, size_t resource_count)
{
    struct lt_arena *arena = lt_arena_new(512, 0);
    struct pending *pending = lt_arena_make(arena, struct pending);
    pending->arena = arena;
    pending->kind = kind;
    pending->ticket = ticket;
    pending->refused = lt_arena_make_n(arena, lt_str, resource_count);
    return pending;
}

static void refuse(struct px_xds *xds, struct pending *pending, lt_str name,
                   const struct lt_err *err)
{
    const char *prefix = pending->refused_count == 0 ? px_xds_kinds[pending->kind].nack_prefix
                                                     : ",";
    lt_log_warn(&xds->opts.env->log, "xds: %s '%.*s' refused: %s",
                px_resource_kind_name(pending->kind), LT_STR_ARG(name), err->text);
    pending->refused[pending->refused_count++] = lt_arena_str(pending->arena, name);
    if (pending->text.len < NACK_TEXT_MAX)
        pending->text = lt_arena_printf(pending->arena, "%.*s%s %.*s: %s",
                                        LT_STR_ARG(pending->text), prefix, LT_STR_ARG(name),
                                        err->text);
}

static void put_resources(struct px_xds *xds, const struct lt_ads_update *update,
                          struct pending *pending)
{
    for (size_t i = 0; i < update->resource_count; i++) {
        const struct lt_ads_resource_view *view = &update->resources[i];
        struct lt_err err = {0};
        if (px_table_put(xds->opts.table, pending->kind, view->name, view->version, view->value,
                         &err) != LT_OK)
            refuse(xds, pending, view->name, &err);
    }
}

/* Endpoints that are said not to exist end a wait, as an empty assignment does. */
static void take_away(struct px_xds *xds, px_resource_kind kind, lt_str name)
{
    px_table_remove(xds->opts.table, kind, name);
    if (kind != PX_ENDPOINTS || !lt_ads_watch_is_subscribed(xds->watches[kind], name))
        return;
    struct lt_buf empty; /* ClusterLoadAssignment{cluster_name: name} */
    lt_buf_init(&empty, LT_ADS_NAME_BYTES_MAX + 16);
    lt_buf_add(&empty, LT_STR("\x0a"));
    for (size_t len = name.len;; len >>= 7) {
        char byte = (char)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));
        lt_buf_add(&empty, lt_str_make(&byte, 1));
        if (len <= 0x7f)
            break;
    }
    lt_buf_add(&empty, name);
    lt_rc rc = px_table_put(xds->opts.table, kind, name, LT_STR_NULL, lt_buf_str(&empty), NULL);
    LT_ASSERT(rc == LT_OK);
    lt_buf_fini(&empty);
}

static void start_listeners(struct px_xds *xds)
{
    if (xds->watches[PX_LISTENER] == NULL && xds->has_update[PX_CLUSTER] &&
        px_table_all_warm(xds->opts.table, PX_CLUSTER))
        xds->watches[PX_LISTENER] = lt_ads_client_watch(xds->client, LT_STR(LT_ADS_LISTENER), true);
}

void px_xds_settle(struct px_xds *xds)
{
    start_listeners(xds);
    answer_pending(xds);
    if (px_table_is_dirty(xds->opts.table))
        xds->opts.on_change(xds->opts.ctx);
}

static void take_update(struct px_xds *xds, px_resource_kind kind,
                        const struct lt_ads_update *update)
{
    struct pending *pending = new_pending(kind, update->ticket, update->resource_count);
    put_resources(xds, update, pending);
    for (size_t i = 0; i < update->removed_count; i++)
        take_away(xds, kind, update->removed[i]);
    lt_counter_add(pending->refused_count > 0 ? xds->rejected[kind] : xds->success[kind], 1);
    xds->has_update[kind] = true;
    struct pending **last = &xds->pending;
    while (*last != NULL)
        last = &(*last)->next;
    *last = pending;
    if (kind == PX_CLUSTER)
        follow_names(xds, PX_ENDPOINTS);
    if (kind == PX_LISTENER)
        follow_names(xds, PX_ROUTES);
    if (kind == PX_CLUSTER || kind == PX_LISTENER)
        px_table_each_wanted(xds->opts.table, PX_SECRET, want_secret, xds);
    px_xds_settle(xds);
}

/* --- the stream --- */

static void on_message(struct lt_grpc_call *call, lt_str message)
{
    struct px_xds *xds = lt_grpc_call_user(call);
    const struct lt_ads_update *update = NULL;
    struct lt_err err = {0};
    if (xds->is_gone)
        return;
    lt_rc rc = lt_ads_client_feed(xds->client, message, &update, &err);
    if (rc == LT_E_BAD || rc == LT_E_LIMIT) {
        lt_log_error(&xds->opts.env->log, "xds: unreadable response, the stream ends: %s",
                     err.text);
        lt_grpc_call_cancel(call);
        return;
    }
    xds->failures = 0;
    if (!xds->is_connected) {
        xds->is_connected = true;
        lt_gauge_set(xds->connected_state, 1);
        lt_log_info(&xds->opts.env->log, "xds: connected");
    }
    for (int kind = 0; rc == LT_OK && kind < PX_RESOURCE_KINDS; kind++) {
        if (xds->watches[kind] == update->watch)
            take_update(xds, (px_resource_kind)kind, update);
    }
    queue_send(xds); /* what the client refused by itself has an answer, too */
}

static void on_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed LT_UNUSED)
{
    struct px_xds *xds = lt_grpc_call_user(call);
    if (xds->is_gone) {
        free(xds);
        return;
    }
    if (xds->call != call)
        return;
    xds->call = NULL;
    lt_ads_client_close(xds->client);
    lt_log_info(&xds->opts.env->log, "xds: stream ended (%u): %.*s", (unsigned)code,
                LT_STR_ARG(message));
    xds->is_connected = false;
    lt_gauge_set(xds->connected_state, 0);
    while (xds->pending != NULL) { /* tickets of a stream that is gone */
        struct pending *pending = xds->pending;
        xds->pending = pending->next;
        free_pending(pending);
    }
    uint64_t limit_ms = LT_MIN((uint64_t)BACKOFF_BASE_MS << LT_MIN(xds->failures, 6u),
                               (uint64_t)BACKOFF_MAX_MS);
    xds->failures++;
    lt_loop_timer_set(xds->opts.loop, &xds->retry,
                      (lt_env_random_u64(xds->opts.env) % (limit_ms * 1000) + 1000) * 1000);
}

static const struct lt_grpc_call_handler handler = {.on_message = on_message,
                                                    .on_closed = on_closed};

static void open_stream(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_xds *xds = LT_CONTAINER_OF(timer, struct px_xds, retry);
    struct lt_grpc_metadata metadata[32];
    struct lt_arena *arena = lt_arena_new(4096, 0);
    struct lt_grpc_call_opts opts = {
        .path = LT_ADS_DELTA_METHOD, .metadata = metadata, .wait_for_ready = true};
    opts.metadata_count = xds->opts.metadata(xds->opts.ctx, arena, metadata,
                                             LT_ARRAY_LEN(metadata));
    xds->call = lt_grpc_call_start(xds->channel, &opts, &handler, xds);
    lt_arena_wipe_free(&arena); /* it held a token */
    lt_ads_client_open(xds->client);
    queue_send(xds);
}

/* --- life --- */

static void make_metrics(struct px_xds *xds)
{
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        static const lt_str label = {"type", 4};
        lt_str value = lt_str_of(px_xds_kinds[kind].stat_prefix);
        struct lt_metric_desc desc = {.name = LT_STR("envoy_xds_update_success"),
                                      .kind = LT_METRIC_COUNTER,
                                      .stat = LT_STR("$0.update_success"),
                                      .labels = &label,
                                      .label_count = 1};
        xds->success[kind] = lt_metric_counter(lt_metric_family(xds->opts.metrics, &desc), &value);
        desc.name = LT_STR("envoy_xds_update_rejected");
        desc.stat = LT_STR("$0.update_rejected");
        xds->rejected[kind] = lt_metric_counter(lt_metric_family(xds->opts.metrics, &desc), &value);
    }
    struct lt_metric_desc desc = {.name = LT_STR("envoy_control_plane_connected_state"),
                                  .kind = LT_METRIC_GAUGE,
                                  .stat = LT_STR("control_plane.connected_state")};
    xds->connected_state = lt_metric_gauge(lt_metric_family(xds->opts.metrics, &desc), NULL);
}

struct px_xds *px_xds_new(const struct px_xds_opts *opts)
{
    struct px_xds *xds = lt_new(struct px_xds);
    struct lt_ads_client_opts client = {.node = opts->node};
    xds->opts = *opts;
    xds->client = lt_ads_client_new(&client);
    xds->watches[PX_CLUSTER] = lt_ads_client_watch(xds->client, LT_STR(LT_ADS_CLUSTER), true);
    lt_timer_init(&xds->retry, open_stream);
    lt_task_init(&xds->send, send_requests);
    make_metrics(xds);
    return xds;
}

void px_xds_start(struct px_xds *xds, struct lt_grpc_channel *channel)
{
    xds->channel = channel;
    lt_loop_timer_set(xds->opts.loop, &xds->retry, 0);
}

void px_xds_free(struct px_xds **pointer)
{
    struct px_xds *xds = *pointer;
    *pointer = NULL;
    if (xds == NULL)
        return;
    lt_loop_timer_cancel(xds->opts.loop, &xds->retry);
    lt_task_cancel(&xds->send);
    while (xds->pending != NULL) {
        struct pending *pending = xds->pending;
        xds->pending = pending->next;
        free_pending(pending);
    }
    lt_ads_client_free(&xds->client);
    if (xds->call == NULL) {
        free(xds);
        return;
    }
    xds->is_gone = true;
    lt_grpc_call_cancel(xds->call);
}

bool px_xds_has_config(const struct px_xds *xds)
{
    return xds->has_update[PX_CLUSTER] && xds->has_update[PX_LISTENER];
}

bool px_xds_is_connected(const struct px_xds *xds)
{
    return xds->is_connected;
}
