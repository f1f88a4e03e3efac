/*
 * proxy/xds/feeds.c - phases of the start, updates and their answers.
 * Start at: px_feed_on_update(), px_feeds_settle().
 */
#include <stdlib.h>

#include "proxy/table/vhosts.h"
#include "proxy/xds/feeds_priv.h"

enum {
    NACK_TEXT_MAX = 8192,
    ERROR_ROWS_MAX = 1000,
    ERROR_TEXT_MAX = 4096,
    ERROR_FAILED_MAX = 64 * 1024,  /* of one message that was refused */
    ERROR_BYTES_MAX = 4096 * 1024, /* of all such */
};

/* An update that is not answered yet. */
struct px_answer {
    struct px_answer *next;
    struct px_feed *feed;
    px_resource_kind kind;
    uint64_t ticket;
    struct lt_arena *arena; /* owned; holds this, text and names */
    lt_str text;            /* of a NACK; empty: an ACK */
    lt_str *refused;
    size_t refused_count;
};

/* --- errors, for people who look --- */

static void forget_error(struct px_feeds *feeds, struct px_row *row)
{
    bool was_held = row->error != NULL && row->error->holds_row;
    feeds->error_bytes -= row->error != NULL ? row->error->failed.len : 0;
    px_row_error_unref(&row->error);
    if (!was_held)
        return;
    feeds->error_count--;
    px_row_unref(&row);
}

static lt_str put(struct px_row_error *error, size_t *at, lt_str text)
{
    lt_str copy = lt_str_make(error->bytes + *at, text.len);
    if (text.len > 0)
        memcpy(error->bytes + *at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

static struct px_row_error *new_error(const struct px_feeds *feeds, const struct px_compile *what,
                                      const struct lt_err *err)
{
    lt_str text = lt_str_slice(lt_str_of(err->text), 0, ERROR_TEXT_MAX);
    lt_str failed = what->bytes;
    size_t at = 0;
    bool has_room = feeds->error_count < ERROR_ROWS_MAX && failed.len <= ERROR_FAILED_MAX &&
                    feeds->error_bytes + failed.len <= ERROR_BYTES_MAX;
    if (!has_room || what->kind == PX_SECRET)
        failed = LT_STR_NULL;
    struct px_row_error *error = lt_malloc(sizeof(*error) + what->version.len + text.len +
                                           failed.len);
    error->refs = 1;
    error->at_ns = lt_env_wall_ns(feeds->opts.env);
    error->version = put(error, &at, what->version);
    error->details = put(error, &at, text);
    error->failed = put(error, &at, failed);
    error->holds_row = feeds->error_count < ERROR_ROWS_MAX;
    return error;
}

/* The caller's hold of the row is taken over. */
static void note_error(struct px_feeds *feeds, struct px_row *row, const struct px_compile *what,
                       const struct lt_err *err)
{
    forget_error(feeds, row);
    row->error = new_error(feeds, what, err);
    feeds->error_bytes += row->error->failed.len;
    if (row->error->holds_row) {
        feeds->error_count++;
        return;
    }
    if (row->refs == 1)
        px_row_error_unref(&row->error);
    px_row_unref(&row);
}

/* --- one resource --- */

static const struct px_source *source_of(const struct px_feed *feed)
{
    const struct px_sources *sources = px_table_rows(feed->feeds->opts.table)->sources;
    return feed->is_aggregated ? px_source_ads(sources) : feed->source;
}

static uint64_t newest_hash(const struct px_row *row)
{
    const struct px_resource *newest = row == NULL            ? NULL
                                       : row->warming != NULL ? row->warming
                                                              : row->serving;
    return newest != NULL ? newest->hash : 0;
}

lt_rc px_feed_take(struct px_feed *feed, px_resource_kind kind, lt_str name, lt_str version,
                   lt_str bytes, struct lt_err *err)
{
    struct px_feeds *feeds = feed->feeds;
    const struct px_compile what = {.kind = kind,
                                    .name = name,
                                    .version = version,
                                    .bytes = bytes,
                                    .source = source_of(feed),
                                    .now_ns = lt_env_wall_ns(feeds->opts.env)};
    struct px_rows *rows = px_table_rows(feeds->opts.table);
    uint64_t hash_before = newest_hash(px_row_look_up(rows, kind, what.source, name));
    lt_rc rc = px_table_take(feeds->opts.table, &what, err);
    struct px_row *row = px_row_look_up(rows, kind, what.source, name);
    if (rc == LT_OK && row != NULL)
        px_feeds_store_taken(feeds, row, hash_before);
    if (rc == LT_OK && row != NULL && row->error != NULL)
        forget_error(feeds, row);
    if (rc == LT_OK)
        return LT_OK;
    lt_log_warn(&feeds->opts.env->log, "%s: %s '%.*s' refused: %s", feed->what,
                px_resource_kind_name(kind), LT_STR_ARG(name), err->text);
    row = px_row_get(rows, kind, what.source, name);
    if (row != NULL)
        note_error(feeds, row, &what, err);
    return rc;
}

void px_feed_drop(struct px_feed *feed, px_resource_kind kind, lt_str name)
{
    struct px_feeds *feeds = feed->feeds;
    struct px_row *row = px_row_look_up(px_table_rows(feeds->opts.table), kind, source_of(feed),
                                        name);
    if (row == NULL)
        return;
    px_row_ref(row);
    if (row->error != NULL)
        forget_error(feeds, row);
    /* Envoy: endpoints and routes that are said to be gone end a wait, what is there stays */
    if (kind == PX_ENDPOINTS || kind == PX_ROUTES) {
        px_table_give_up(feeds->opts.table, row);
    } else {
        px_feeds_store_gone(feeds, row);
        px_table_drop(feeds->opts.table, row);
    }
    if (kind == PX_SECRET)
        px_table_give_up(feeds->opts.table, row);
    px_row_unref(&row);
}

void px_feed_count(struct px_feeds *feeds, px_resource_kind kind, bool is_good)
{
    lt_counter_add(is_good ? feeds->success[kind] : feeds->rejected[kind], 1);
}

void px_feeds_note_update(struct px_feeds *feeds, px_resource_kind kind)
{
    feeds->has_update[kind] = true;
}

/* --- answers --- */

static void free_answer(struct px_answer *answer)
{
    struct lt_arena *arena = answer->arena;
    lt_arena_free(&arena);
}

/* Envoy says nothing of clusters while any warms, but for those of the start. */
static bool may_answer(const struct px_feeds *feeds, px_resource_kind kind)
{
    return kind != PX_CLUSTER || feeds->phase <= PX_PHASE_CLUSTERS ||
           px_table_all_warm(feeds->opts.table, PX_CLUSTER);
}

static void answer_one(const struct px_answer *answer)
{
    struct lt_ads_client *client = px_xds_client(answer->feed->xds);
    if (answer->text.len == 0)
        lt_ads_client_ack(client, answer->ticket);
    else
        lt_ads_client_nack(client, answer->ticket, answer->text, answer->refused,
                           answer->refused_count);
    px_xds_send(answer->feed->xds);
}

static void answer_all(struct px_feeds *feeds)
{
    for (struct px_answer **at = &feeds->answers; *at != NULL;) {
        struct px_answer *answer = *at;
        if (!may_answer(feeds, answer->kind)) {
            at = &answer->next;
            continue;
        }
        *at = answer->next;
        answer_one(answer);
        free_answer(answer);
    }
}

/* Tickets of a stream that has ended. */
static void drop_answers(struct px_feeds *feeds, const struct px_feed *feed)
{
    for (struct px_answer **at = &feeds->answers; *at != NULL;) {
        struct px_answer *answer = *at;
        if (answer->feed != feed) {
            at = &answer->next;
            continue;
        }
        *at = answer->next;
        free_answer(answer);
    }
}

static struct px_answer *new_answer(struct px_feed *feed, px_resource_kind kind,
                                    const struct lt_ads_update *update)
{
    struct lt_arena *arena = lt_arena_new(512, 0);
    struct px_answer *answer = lt_arena_make(arena, struct px_answer);
    *answer = (struct px_answer){.feed = feed,
                                 .kind = kind,
                                 .ticket = update->ticket,
                                 .arena = arena,
                                 .refused = lt_arena_make_n(arena, lt_str, update->resource_count)};
    return answer;
}

static void queue_answer(struct px_feeds *feeds, struct px_answer *answer)
{
    struct px_answer **last = &feeds->answers;
    while (*last != NULL)
        last = &(*last)->next;
    *last = answer;
}

static void refuse(struct px_answer *answer, lt_str name, const char *text)
{
    const char *prefix = answer->refused_count == 0 ? px_xds_kinds[answer->kind].nack_prefix : ",";
    answer->refused[answer->refused_count++] = lt_arena_str(answer->arena, name);
    if (answer->text.len < NACK_TEXT_MAX)
        answer->text = lt_arena_printf(answer->arena, "%.*s%s %.*s: %s", LT_STR_ARG(answer->text),
                                       prefix, LT_STR_ARG(name), text);
}

/* --- updates --- */

static lt_rc take_view(struct px_feed *feed, px_resource_kind kind,
                       const struct lt_ads_resource_view *view, struct lt_err *err)
{
    if (!view->has_body)
        return LT_OK; /* a sign of life */
    if (!lt_str_eqz(view->type_url, px_xds_kinds[kind].type_url))
        return lt_err_set(err, LT_E_BAD, "type URL %.*s does not match expected type URL %s",
                          LT_STR_ARG(view->type_url), px_xds_kinds[kind].type_url);
    return px_feed_take(feed, kind, view->name, view->version, view->value, err);
}

/* --- on demand --- */

static void decide_all(struct px_feed *feed, px_resource_kind kind,
                       const struct lt_ads_resource_view *view, struct px_row *vhost)
{
    uint16_t source = source_of(feed)->id;
    px_demands_decide(feed->feeds, kind, source, view->name, vhost);
    for (size_t i = 0; i < view->alias_count; i++)
        px_demands_decide(feed->feeds, kind, source, view->aliases[i], vhost);
}

/* A virtual host of a route configuration that is wanted. Without a body there is none. */
static lt_rc take_vhost(struct px_feed *feed, const struct lt_ads_resource_view *view,
                        struct lt_err *err)
{
    struct px_rows *rows = px_table_rows(feed->feeds->opts.table);
    const struct px_source *source = source_of(feed);
    struct px_row *space = px_row_look_up(rows, PX_VHOST, source, px_vhost_space(view->name));
    bool is_asked = space != NULL && space->wanted > 0;
    if (!is_asked)
        px_demands_note_unasked(feed->feeds);
    if (!is_asked || !view->has_body) {
        decide_all(feed, PX_VHOST, view, NULL);
        return LT_OK;
    }
    lt_rc rc = take_view(feed, PX_VHOST, view, err);
    struct px_row *row = px_row_look_up(rows, PX_VHOST, source, view->name);
    decide_all(feed, PX_VHOST, view, row != NULL && row->serving != NULL ? row : NULL);
    return rc;
}

/* The first answer is what route configurations wait for. */
static void settle_spaces(const struct px_feed *feed)
{
    struct px_table *table = feed->feeds->opts.table;
    const struct px_row_set *set = px_row_set(px_table_rows(table), PX_VHOST);
    uint16_t source = source_of(feed)->id;
    for (uint32_t i = 0; i < set->slot_count; i++) {
        struct px_row *row = set->by_slot[i];
        if (row != NULL && row->was_asked && row->source == source)
            px_table_give_up(table, row);
    }
}

static lt_rc take_one(struct px_feed *feed, px_resource_kind kind,
                      const struct lt_ads_resource_view *view, struct lt_err *err)
{
    if (kind == PX_VHOST)
        return take_vhost(feed, view, err);
    lt_rc rc = take_view(feed, kind, view, err);
    if (rc != LT_OK && kind == PX_CLUSTER)
        decide_all(feed, kind, view, NULL);
    return rc;
}

static void drop_one(struct px_feed *feed, px_resource_kind kind, lt_str name)
{
    px_feed_drop(feed, kind, name);
    if (kind == PX_CLUSTER || kind == PX_VHOST)
        px_demands_decide(feed->feeds, kind, source_of(feed)->id, name, NULL);
}

static void take_update(struct px_feed *feed, px_resource_kind kind,
                        const struct lt_ads_update *update)
{
    struct px_feeds *feeds = feed->feeds;
    struct px_answer *answer = new_answer(feed, kind, update);
    /* removals first: a new listener may have the address of one that goes */
    for (size_t i = 0; i < update->removed_count; i++)
        drop_one(feed, kind, update->removed[i]);
    for (size_t i = 0; i < update->resource_count; i++) {
        struct lt_err err = {0};
        if (take_one(feed, kind, &update->resources[i], &err) != LT_OK)
            refuse(answer, update->resources[i].name, err.text);
    }
    px_feed_count(feeds, kind, answer->refused_count == 0);
    if (answer->refused_count == 0)
        px_table_set_version(feeds->opts.table, kind, update->system_version);
    if (!feeds->was_updated[kind])
        px_feeds_store_state(feeds, kind);
    feeds->was_updated[kind] = true;
    px_feeds_note_update(feeds, kind);
    if (kind == PX_VHOST)
        settle_spaces(feed);
    queue_answer(feeds, answer);
    px_feeds_settle(feeds);
}

void px_feed_on_update(void *ctx, const struct lt_ads_update *update)
{
    struct px_feed *feed = ctx;
    if (px_feeds_take_extra(feed, update))
        return;
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        if (feed->watches[kind] == update->watch) {
            take_update(feed, (px_resource_kind)kind, update);
            return;
        }
    }
}

/* --- streams --- */

/* Envoy asks for no clusters again while some warm. */
static void pause_clusters(struct px_feed *feed)
{
    struct lt_ads_watch *watch = feed->watches[PX_CLUSTER];
    const struct px_feeds *feeds = feed->feeds;
    if (watch == NULL)
        return;
    if (feeds->phase > PX_PHASE_CLUSTERS && !px_table_all_warm(feeds->opts.table, PX_CLUSTER))
        lt_ads_watch_pause(watch);
    else
        lt_ads_watch_resume(watch);
}

void px_feed_on_open(void *ctx)
{
    pause_clusters(ctx);
}

/* What listeners need is asked for before they are acknowledged. */
void px_feed_before_send(void *ctx, bool with_answers)
{
    struct px_feed *feed = ctx;
    pause_clusters(feed);
    if (feed->watches[PX_LISTENER] == NULL)
        return;
    if (with_answers)
        lt_ads_watch_resume(feed->watches[PX_LISTENER]);
    else
        lt_ads_watch_pause(feed->watches[PX_LISTENER]);
}

void px_feed_on_connected(void *ctx, bool is_connected)
{
    struct px_feed *feed = ctx;
    struct px_feeds *feeds = feed->feeds;
    if (!is_connected)
        drop_answers(feeds, feed);
    if (!feed->is_aggregated)
        return;
    lt_gauge_set(feeds->connected_state, is_connected);
    if (is_connected)
        lt_log_info(&feeds->opts.env->log, "%s: connected", feed->what);
}

/* --- phases --- */

static bool is_awaited(const struct px_feeds *feeds, px_resource_kind kind)
{
    const struct px_source *source = kind == PX_CLUSTER ? feeds->opts.roots.cds
                                                        : feeds->opts.roots.lds;
    return source != NULL && !feeds->has_update[kind];
}

static bool may_advance(const struct px_feeds *feeds)
{
    const struct px_table *table = feeds->opts.table;
    switch (feeds->phase) {
    case PX_PHASE_STATIC: return px_table_all_warm(table, PX_CLUSTER);
    case PX_PHASE_CLUSTERS:
        return !is_awaited(feeds, PX_CLUSTER) && px_table_all_warm(table, PX_CLUSTER);
    case PX_PHASE_LISTENERS:
        return !is_awaited(feeds, PX_LISTENER) && px_table_all_warm(table, PX_LISTENER);
    case PX_PHASE_LIVE: break;
    }
    return false;
}

static void advance(struct px_feeds *feeds)
{
    feeds->phase++;
    if (feeds->phase == PX_PHASE_CLUSTERS)
        px_feeds_start_set(feeds, PX_CLUSTER);
    if (feeds->phase == PX_PHASE_LISTENERS) {
        px_feeds_start_set(feeds, PX_LISTENER);
        px_feeds_start_extras(feeds);
        px_feeds_want_restored(feeds);
    }
    px_feeds_follow_wishes(feeds);
}

void px_feeds_settle(struct px_feeds *feeds)
{
    if (!feeds->is_started || feeds->is_settling)
        return; /* whoever settles looks again */
    feeds->is_settling = true;
    px_phase before = feeds->phase;
    px_feeds_follow_wishes(feeds);
    while (may_advance(feeds))
        advance(feeds);
    answer_all(feeds);
    struct lt_list *it, *next;
    lt_list_each (&feeds->list, it, next) {
        struct px_feed *feed = LT_CONTAINER_OF(it, struct px_feed, link);
        if (feed->xds != NULL)
            px_xds_send(feed->xds);
    }
    feeds->is_settling = false;
    if (feeds->phase != before || px_table_is_dirty(feeds->opts.table))
        feeds->opts.on_change(feeds->opts.ctx);
}

px_phase px_feeds_phase(const struct px_feeds *feeds)
{
    return feeds->phase;
}

/* --- secrets of the agent --- */

static void give_to(struct px_feeds *feeds, struct px_row *row, lt_str version, lt_str bytes)
{
    struct lt_err err = {0};
    const struct px_rows *rows = px_table_rows(feeds->opts.table);
    const struct px_compile what = {.kind = PX_SECRET,
                                    .name = px_row_name(row),
                                    .version = version,
                                    .bytes = bytes,
                                    .source = px_source_at(rows->sources, row->source),
                                    .now_ns = lt_env_wall_ns(feeds->opts.env)};
    lt_rc rc = px_table_take(feeds->opts.table, &what, &err);
    px_feed_count(feeds, PX_SECRET, rc == LT_OK);
    if (rc != LT_OK)
        lt_log_error(&feeds->opts.env->log, "secret '%.*s': %s", LT_STR_ARG(what.name), err.text);
}

void px_feeds_give_secret(struct px_feeds *feeds, lt_str cluster, lt_str name, lt_str version,
                          lt_str bytes)
{
    struct px_rows *rows = px_table_rows(feeds->opts.table);
    for (uint16_t id = 0; id < px_source_count(rows->sources); id++) {
        const struct px_source *source = px_source_at(rows->sources, id);
        if (source->kind != PX_SOURCE_GRPC || !lt_str_eq(source->cluster, cluster))
            continue;
        struct px_row *row = px_row_look_up(rows, PX_SECRET, source, name);
        if (row != NULL && row->was_asked)
            give_to(feeds, row, version, bytes);
    }
    px_feeds_settle(feeds);
}

/* --- life --- */

static struct lt_counter *make_counter(struct px_feeds *feeds, int kind, const char *name,
                                       const char *stat)
{
    static const lt_str label = {"type", 4};
    lt_str value = lt_str_of(px_xds_kinds[kind].stat_prefix);
    struct lt_metric_desc desc = {.name = lt_str_of(name),
                                  .kind = LT_METRIC_COUNTER,
                                  .stat = lt_str_of(stat),
                                  .labels = &label,
                                  .label_count = 1};
    return lt_metric_counter(lt_metric_family(feeds->opts.metrics, &desc), &value);
}

static void make_metrics(struct px_feeds *feeds)
{
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        feeds->success[kind] = make_counter(feeds, kind, "envoy_xds_update_success",
                                            "$0.update_success");
        feeds->rejected[kind] = make_counter(feeds, kind, "envoy_xds_update_rejected",
                                             "$0.update_rejected");
        feeds->timeouts[kind] = make_counter(feeds, kind, "envoy_xds_init_fetch_timeout",
                                             "$0.init_fetch_timeout");
    }
    struct lt_metric_desc desc = {.name = LT_STR("envoy_control_plane_connected_state"),
                                  .kind = LT_METRIC_GAUGE,
                                  .stat = LT_STR("control_plane.connected_state")};
    feeds->connected_state = lt_metric_gauge(lt_metric_family(feeds->opts.metrics, &desc), NULL);
    desc = (struct lt_metric_desc){.name = LT_STR("envoy_control_plane_rate_limit_enforced"),
                                   .kind = LT_METRIC_COUNTER,
                                   .stat = LT_STR("control_plane.rate_limit_enforced")};
    feeds->slowed = lt_metric_counter(lt_metric_family(feeds->opts.metrics, &desc), NULL);
}

static void run_bury(struct lt_task *task)
{
    struct px_feeds *feeds = LT_CONTAINER_OF(task, struct px_feeds, bury);
    while (!lt_list_is_empty(&feeds->graves)) {
        struct px_feed *feed = lt_list_first(&feeds->graves, struct px_feed, link);
        lt_list_remove(&feed->link);
        px_xds_free(&feed->xds);
        px_way_drop(&feed->way);
        free(feed);
    }
}

void px_feed_end(struct px_feed *feed)
{
    struct px_feeds *feeds = feed->feeds;
    drop_answers(feeds, feed);
    px_file_unwatch(&feed->file);
    px_row_unref(&feed->row);
    lt_list_remove(&feed->link);
    lt_list_push_back(&feeds->graves, &feed->link);
    feed->is_gone = true;
    lt_loop_defer(feeds->opts.loop, &feeds->bury);
}

struct px_feeds *px_feeds_new(const struct px_feeds_opts *opts)
{
    struct px_feeds *feeds = lt_new(struct px_feeds);
    feeds->opts = *opts;
    feeds->ways = px_ways_new(opts->loop, opts->table);
    feeds->files = px_files_new(opts->loop);
    lt_list_init(&feeds->list);
    lt_list_init(&feeds->graves);
    lt_list_init(&feeds->waits);
    px_feeds_make_extras(feeds);
    lt_task_init(&feeds->bury, run_bury);
    make_metrics(feeds);
    return feeds;
}

void px_feeds_start(struct px_feeds *feeds)
{
    feeds->is_started = true;
    px_feeds_open_store(feeds);
    if (feeds->opts.roots.ads != NULL)
        feeds->ads = px_feeds_start_ads(feeds);
    px_feeds_settle(feeds);
}

void px_feeds_connect(struct px_feeds *feeds)
{
    if (feeds->ads != NULL)
        px_xds_start(feeds->ads->xds);
}

void px_feeds_free(struct px_feeds **pointer)
{
    struct px_feeds *feeds = *pointer;
    *pointer = NULL;
    if (feeds == NULL)
        return;
    feeds->is_started = false;
    px_store_close(&feeds->store);
    px_feeds_end_extras(feeds);
    px_demands_free(feeds);
    px_feeds_end_all(feeds);
    lt_task_cancel(&feeds->bury);
    run_bury(&feeds->bury);
    px_ways_free(&feeds->ways);
    px_files_free(&feeds->files);
    free(feeds);
}
