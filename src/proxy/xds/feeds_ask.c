/*
 * proxy/xds/feeds_ask.c - rows that are wanted, or no longer: subscriptions on the ADS stream,
 * streams of their own, files, the agent. How long who needs them waits. Start at:
 * px_feeds_follow_wishes().
 */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/table/vhosts.h"
#include "proxy/xds/feeds_priv.h"

/* --- how long is waited --- */

static void free_wait(struct px_fetch_wait *wait)
{
    lt_loop_timer_cancel(wait->feeds->opts.loop, &wait->timer);
    lt_list_remove(&wait->link);
    px_row_unref(&wait->row);
    free(wait);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_fetch_wait *wait = LT_CONTAINER_OF(timer, struct px_fetch_wait, timer);
    struct px_feeds *feeds = wait->feeds;
    const struct px_row *row = wait->row;
    bool is_late = row != NULL ? row->was_asked && row->serving == NULL && !row->gave_up
                               : !feeds->has_update[wait->kind];
    if (is_late) {
        lt_counter_add(feeds->timeouts[wait->kind], 1);
        lt_log_warn(&feeds->opts.env->log,
                    "%s '%.*s' has not come in time, and is waited for no longer",
                    px_resource_kind_name(wait->kind),
                    LT_STR_ARG(wait->row != NULL ? px_row_name(wait->row) : LT_STR("*")));
        if (wait->row != NULL)
            px_table_give_up(feeds->opts.table, wait->row);
        else
            px_feeds_note_update(feeds, wait->kind);
    }
    free_wait(wait);
    if (is_late)
        px_feeds_settle(feeds);
}

static void start_wait(struct px_feeds *feeds, px_resource_kind kind, struct px_row *row,
                       uint32_t timeout_ms)
{
    if (timeout_ms == 0)
        return;
    struct px_fetch_wait *wait = lt_new(struct px_fetch_wait);
    *wait = (struct px_fetch_wait){
        .feeds = feeds, .kind = kind, .row = row == NULL ? NULL : px_row_ref(row)};
    lt_timer_init(&wait->timer, on_timeout);
    lt_list_push_back(&feeds->waits, &wait->link);
    lt_loop_timer_set(feeds->opts.loop, &wait->timer, timeout_ms * LT_NS_PER_MS);
}

/* --- streams and files --- */

static struct lt_grpc_channel *channel_of(void *ctx)
{
    struct px_feed *feed = ctx;
    const struct px_feeds_opts *opts = &feed->feeds->opts;
    if (feed->way == NULL)
        return opts->ads_channel(opts->ctx);
    return px_way_channel(feed->way);
}

static size_t metadata_of(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out,
                          size_t max)
{
    struct px_feed *feed = ctx;
    const struct px_feeds_opts *opts = &feed->feeds->opts;
    size_t count = 0;
    if (feed->is_aggregated && opts->ads_metadata != NULL)
        count = opts->ads_metadata(opts->ctx, arena, out, max);
    for (size_t i = 0; i < feed->source->header_count && count < max; i++)
        out[count++] = (struct lt_grpc_metadata){feed->source->headers[i].name,
                                                 feed->source->headers[i].value, false};
    return count;
}

static struct px_feed *new_feed(struct px_feeds *feeds, const struct px_source *source,
                                px_resource_kind kind)
{
    struct px_feed *feed = lt_new(struct px_feed);
    feed->feeds = feeds;
    feed->source = source;
    feed->kind = kind;
    lt_list_push_back(&feeds->list, &feed->link);
    return feed;
}

static void open_stream(struct px_feed *feed, const char *method)
{
    struct px_feeds *feeds = feed->feeds;
    const struct px_source *source = feed->source;
    struct px_xds_opts opts = {.loop = feeds->opts.loop,
                               .env = feeds->opts.env,
                               .node = feeds->opts.node,
                               .is_sotw = source->is_sotw,
                               .says_node_always = source->says_node_always,
                               .rate_tokens = source->rate_tokens,
                               .rate_fill_ns = source->rate_fill_ns,
                               .slowed = feeds->slowed,
                               .method = method,
                               .what = feed->what,
                               .channel = channel_of,
                               .metadata = metadata_of,
                               .on_open = px_feed_on_open,
                               .on_update = px_feed_on_update,
                               .before_send = px_feed_before_send,
                               .on_connected = px_feed_on_connected,
                               .ctx = feed};
    bool is_owners = feed->is_aggregated && feeds->opts.ads_channel != NULL;
    if (!is_owners)
        feed->way = px_way_get(feeds->ways, source->cluster, source->authority);
    feed->xds = px_xds_new(&opts);
    px_xds_start(feed->xds);
}

struct px_feed *px_feeds_start_ads(struct px_feeds *feeds)
{
    struct px_feed *feed = new_feed(feeds, feeds->opts.roots.ads, PX_CLUSTER);
    feed->is_aggregated = true;
    (void)snprintf(feed->what, sizeof(feed->what), "xds");
    open_stream(feed, feed->source->is_sotw ? LT_ADS_SOTW_METHOD : LT_ADS_DELTA_METHOD);
    return feed;
}

/* Clusters on demand alone: only those that are named. */
static bool is_set(const struct px_feed *feed, px_resource_kind kind)
{
    const struct px_feed_roots *roots = &feed->feeds->opts.roots;
    if (kind == PX_CLUSTER && feed->is_aggregated)
        return roots->cds != NULL && roots->cds->kind == PX_SOURCE_ADS;
    return px_xds_kinds[kind].is_set && !feed->is_by_name;
}

static struct lt_ads_watch *watch_of(struct px_feed *feed, px_resource_kind kind)
{
    if (feed->watches[kind] == NULL) {
        feed->watches[kind] = lt_ads_client_watch(
            px_xds_client(feed->xds), lt_str_of(px_xds_kinds[kind].type_url), is_set(feed, kind));
        if (kind == PX_VHOST)
            lt_ads_watch_take_all(feed->watches[kind]);
        px_feed_preload(feed, feed->watches[kind], kind);
    }
    return feed->watches[kind];
}

/* A stream or file for one row, or (row NULL) for all there are of the kind. */
static struct px_feed *start_feed(struct px_feeds *feeds, const struct px_source *source,
                                  px_resource_kind kind, struct px_row *row)
{
    struct px_feed *feed = new_feed(feeds, source, kind);
    feed->row = row == NULL ? NULL : px_row_ref(row);
    lt_str name = row == NULL ? LT_STR("*") : px_row_name(row);
    (void)snprintf(feed->what, sizeof(feed->what), "%s '%.*s'", px_resource_kind_name(kind),
                   (int)LT_MIN(name.len, (size_t)PX_FEED_WHAT_MAX / 2), name.ptr);
    if (source->kind == PX_SOURCE_PATH) {
        px_feed_open_file(feed);
        return feed;
    }
    const struct px_xds_kind *how = &px_xds_kinds[kind];
    open_stream(feed, source->is_sotw ? how->sotw_method : how->delta_method);
    struct lt_ads_watch *watch = watch_of(feed, kind);
    /* hosts are asked for one by one, later */
    if (row != NULL && kind != PX_VHOST && lt_ads_watch_subscribe(watch, name) != LT_OK)
        lt_log_warn(&feeds->opts.env->log, "%s cannot be asked for: its name is too long",
                    feed->what);
    return feed;
}

void px_feeds_start_set(struct px_feeds *feeds, px_resource_kind kind)
{
    const struct px_feed_roots *roots = &feeds->opts.roots;
    bool is_clusters = kind == PX_CLUSTER;
    const struct px_source *source = is_clusters ? roots->cds : roots->lds;
    struct px_feed **feed = is_clusters ? &feeds->cds : &feeds->lds;
    if (source == NULL)
        return;
    start_wait(feeds, kind, NULL, is_clusters ? roots->cds_timeout_ms : roots->lds_timeout_ms);
    if (source->kind == PX_SOURCE_ADS) {
        *feed = feeds->ads;
        watch_of(feeds->ads, kind);
        px_xds_send(feeds->ads->xds);
        return;
    }
    *feed = start_feed(feeds, source, kind, NULL);
}

/* --- rows --- */

/* Clusters on demand of one source share a stream. */
static bool is_for(const struct px_feed *feed, const struct px_row *row)
{
    if (row->kind == PX_CLUSTER)
        return feed->is_by_name && feed->source->id == row->source;
    return feed->row == row;
}

struct px_feed *px_feeds_feed_of(struct px_feeds *feeds, const struct px_row *row)
{
    struct lt_list *it, *next;
    if (row->source == PX_SOURCE_ADS)
        return feeds->ads;
    lt_list_each (&feeds->list, it, next) {
        struct px_feed *feed = LT_CONTAINER_OF(it, struct px_feed, link);
        if (is_for(feed, row))
            return feed;
    }
    return NULL;
}

static void subscribe(struct px_feed *feed, const struct px_row *row)
{
    const struct px_feeds *feeds = feed->feeds;
    struct lt_ads_watch *watch = watch_of(feed, (px_resource_kind)row->kind);
    if (row->kind == PX_VHOST)
        return; /* the type alone: hosts are asked for one by one, later */
    lt_rc rc = lt_ads_watch_subscribe(watch, px_row_name(row));
    if (rc != LT_OK)
        lt_log_warn(&feeds->opts.env->log, "xds: %s '%.*s' cannot be asked for: %s",
                    px_resource_kind_name((px_resource_kind)row->kind),
                    LT_STR_ARG(px_row_name(row)), lt_rc_name(rc));
}

static void ask_by_name(struct px_feeds *feeds, const struct px_source *source,
                        const struct px_row *row)
{
    struct px_feed *feed = px_feeds_feed_of(feeds, row);
    if (feed == NULL) {
        feed = new_feed(feeds, source, PX_CLUSTER);
        feed->is_by_name = true;
        (void)snprintf(feed->what, sizeof(feed->what), "clusters on demand");
        const struct px_xds_kind *how = &px_xds_kinds[PX_CLUSTER];
        open_stream(feed, source->is_sotw ? how->sotw_method : how->delta_method);
    }
    subscribe(feed, row);
    px_xds_send(feed->xds);
}

/* What was there in the last run is not waited for. */
static void ask_for_hosts(struct px_feeds *feeds, struct px_row *row)
{
    if (feeds->has_update[PX_VHOST])
        px_table_give_up(feeds->opts.table, row);
}

static bool is_given(const struct px_feeds *feeds, const struct px_source *source,
                     const struct px_row *row)
{
    if (row->kind != PX_SECRET || feeds->opts.want_secret == NULL)
        return false;
    return feeds->opts.want_secret(feeds->opts.ctx, source, px_row_name(row)) == LT_OK;
}

static void ask(struct px_feeds *feeds, struct px_row *row)
{
    const struct px_source *source = px_source_at(px_table_rows(feeds->opts.table)->sources,
                                                  row->source);
    row->was_asked = true;
    start_wait(feeds, (px_resource_kind)row->kind, row, row->timeout_ms);
    switch (source->kind) {
    case PX_SOURCE_BOOTSTRAP: break;
    case PX_SOURCE_ADS:
        if (feeds->ads != NULL)
            subscribe(feeds->ads, row);
        break;
    case PX_SOURCE_GRPC:
        if (row->kind == PX_CLUSTER)
            ask_by_name(feeds, source, row);
        else if (!is_given(feeds, source, row))
            start_feed(feeds, source, (px_resource_kind)row->kind, row);
        break;
    case PX_SOURCE_PATH: start_feed(feeds, source, (px_resource_kind)row->kind, row); break;
    }
    if (row->kind == PX_VHOST)
        ask_for_hosts(feeds, row);
}

/* The virtual hosts of a route configuration that has gone. */
static void drop_hosts(struct px_feeds *feeds, const struct px_row *space)
{
    const struct px_row_set *set = px_row_set(px_table_rows(feeds->opts.table), PX_VHOST);
    px_demands_end_space(feeds, space);
    for (uint32_t i = 0; i < set->slot_count; i++) {
        struct px_row *row = set->by_slot[i];
        if (row == NULL || row == space || row->source != space->source ||
            !lt_str_eq(px_vhost_space(px_row_name(row)), px_row_name(space)))
            continue;
        px_feeds_store_gone(feeds, row);
        px_table_drop(feeds->opts.table, row);
    }
}

static void leave_feed(struct px_feeds *feeds, const struct px_row *row)
{
    struct px_feed *feed = row->source < PX_SOURCE_ADS ? NULL : px_feeds_feed_of(feeds, row);
    bool is_shared = feed != NULL && (feed->is_aggregated || feed->is_by_name);
    if (is_shared && feed->watches[row->kind] != NULL)
        lt_ads_watch_unsubscribe(feed->watches[row->kind], px_row_name(row));
    else if (feed != NULL && !is_shared)
        px_feed_end(feed);
}

static void unask(struct px_feeds *feeds, struct px_row *row)
{
    row->was_asked = false;
    row->gave_up = false;
    if (row->kind == PX_VHOST)
        drop_hosts(feeds, row);
    leave_feed(feeds, row);
    if (row->is_static || row->kind == PX_CLUSTER) /* clusters serve on, whoever sent them */
        return;
    if (px_row_any(row) != NULL)
        px_feeds_store_gone(feeds, row);
    px_table_drop(feeds->opts.table, row);
}

static void follow(struct px_feeds *feeds, struct px_row *row)
{
    bool wants = row->wanted > 0;
    if (wants == row->was_asked)
        return;
    if (!wants)
        unask(feeds, row);
    else if (px_xds_kinds[row->kind].waits_for_phase && feeds->phase < PX_PHASE_LISTENERS)
        lt_vec_push(&feeds->later, px_row_ref(row));
    else
        ask(feeds, row);
}

void px_feeds_follow_wishes(struct px_feeds *feeds)
{
    struct px_row *row;
    while ((row = px_table_next_wish(feeds->opts.table)) != NULL) {
        follow(feeds, row);
        px_row_unref(&row);
    }
    while (feeds->phase >= PX_PHASE_LISTENERS && (row = lt_vec_pop(&feeds->later)) != NULL) {
        follow(feeds, row);
        px_row_unref(&row);
    }
}

void px_feeds_end_all(struct px_feeds *feeds)
{
    while (!lt_list_is_empty(&feeds->list))
        px_feed_end(lt_list_first(&feeds->list, struct px_feed, link));
    while (!lt_list_is_empty(&feeds->waits))
        free_wait(lt_list_first(&feeds->waits, struct px_fetch_wait, link));
    for (struct px_row *row; (row = lt_vec_pop(&feeds->later)) != NULL;)
        px_row_unref(&row);
    lt_vec_fini(&feeds->later);
}
