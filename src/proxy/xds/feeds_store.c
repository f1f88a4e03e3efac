/*
 * proxy/xds/feeds_store.c - the last good resources: what is kept of updates, and how the next
 * start begins with it. Files are there by themselves, secrets and keys never leave memory.
 * Start at: px_feeds_open_store().
 */
#include "base/rope.h"
#include "proxy/xds/feeds_priv.h"

/* --- out --- */

static const struct px_source *source_at(const struct px_feeds *feeds, const struct px_row *row)
{
    return px_source_at(px_table_rows(feeds->opts.table)->sources, row->source);
}

static bool is_kept(const struct px_feeds *feeds, const struct px_row *row)
{
    px_source_kind kind = source_at(feeds, row)->kind;
    return row->kind != PX_SECRET && !row->is_static &&
           (kind == PX_SOURCE_ADS || kind == PX_SOURCE_GRPC);
}

static const struct px_resource *newest_of(const struct px_row *row)
{
    return row->warming != NULL ? row->warming : row->serving;
}

static struct px_store_record record_of(const struct px_feeds *feeds, const struct px_row *row,
                                        const struct px_resource *resource)
{
    struct px_store_record record = {.op = PX_STORE_REMOVE,
                                     .kind = (px_resource_kind)row->kind,
                                     .source = source_at(feeds, row)->text,
                                     .name = px_row_name(row)};
    if (resource == NULL || resource->holds_key || resource->wire == NULL)
        return record;
    record.op = PX_STORE_PUT;
    record.at_ns = resource->updated_ns;
    record.version = px_resource_version(resource);
    record.bytes = lt_str_make(resource->wire, resource->wire_len);
    return record;
}

void px_feeds_store_taken(struct px_feeds *feeds, const struct px_row *row, uint64_t hash_before)
{
    const struct px_resource *newest = newest_of(row);
    if (feeds->store == NULL || !is_kept(feeds, row) || newest == NULL ||
        newest->hash == hash_before)
        return;
    struct px_store_record record = record_of(feeds, row, newest);
    px_store_note(feeds->store, &record);
}

void px_feeds_store_gone(struct px_feeds *feeds, const struct px_row *row)
{
    if (feeds->store == NULL || !is_kept(feeds, row))
        return;
    struct px_store_record record = record_of(feeds, row, NULL);
    px_store_note(feeds->store, &record);
}

static struct px_store_record state_record(px_resource_kind kind)
{
    return (struct px_store_record){.op = PX_STORE_STATE, .kind = kind};
}

void px_feeds_store_state(struct px_feeds *feeds, px_resource_kind kind)
{
    struct px_store_record record = state_record(kind);
    px_store_note(feeds->store, &record);
}

static void write_resource(const struct px_feeds *feeds, const struct px_row *row,
                           const struct px_resource *resource, struct lt_buf *out)
{
    struct px_store_record record = record_of(feeds, row, resource);
    if (resource != NULL && record.op == PX_STORE_PUT)
        px_store_write(out, &record);
}

/* Clusters first: what they name has its row then. The version that serves before its heir. */
static void write_all(void *ctx, struct lt_buf *out)
{
    const struct px_feeds *feeds = ctx;
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        const struct px_row_set *set = px_row_set(px_table_rows(feeds->opts.table),
                                                  (px_resource_kind)kind);
        for (uint32_t i = 0; i < set->slot_count; i++) {
            const struct px_row *row = set->by_slot[i];
            if (row == NULL || !is_kept(feeds, row))
                continue;
            write_resource(feeds, row, row->serving, out);
            write_resource(feeds, row, row->warming, out);
        }
        struct px_store_record state = state_record((px_resource_kind)kind);
        if ((px_xds_kinds[kind].is_set || kind == PX_VHOST) && feeds->has_update[kind])
            px_store_write(out, &state);
    }
    for (size_t i = 0; i < feeds->extra_count; i++) {
        const struct px_extra *extra = &feeds->extras[i];
        if (extra->last == NULL)
            continue;
        const struct px_store_record record = {.op = PX_STORE_EXTRA,
                                               .name = lt_str_of(extra->how->type_url),
                                               .bytes = lt_bytes_str(extra->last)};
        px_store_write(out, &record);
    }
}

/* --- in --- */

static void restore(struct px_feeds *feeds, const struct px_store_record *record,
                    const struct px_source *source)
{
    struct lt_err err = {0};
    const struct px_compile what = {.kind = record->kind,
                                    .name = record->name,
                                    .version = record->version,
                                    .bytes = record->bytes,
                                    .source = source,
                                    .now_ns = record->at_ns};
    if (px_table_take(feeds->opts.table, &what, &err) != LT_OK)
        lt_log_warn(&feeds->opts.env->log, "%s '%.*s' of the last run: %s",
                    px_resource_kind_name(record->kind), LT_STR_ARG(record->name), err.text);
}

static void on_record(void *ctx, const struct px_store_record *record)
{
    struct px_feeds *feeds = ctx;
    struct px_rows *rows = px_table_rows(feeds->opts.table);
    if (record->op == PX_STORE_STATE) {
        feeds->has_update[record->kind] = true;
        return;
    }
    if (record->op == PX_STORE_EXTRA) {
        px_feeds_restore_extra(feeds, record->name, record->bytes);
        return;
    }
    const struct px_source *source = px_source_find(rows->sources, record->source);
    if (source == NULL || record->kind == PX_SECRET)
        return; /* nothing names it now */
    if (record->op == PX_STORE_PUT) {
        restore(feeds, record, source);
        return;
    }
    struct px_row *row = px_row_look_up(rows, record->kind, source, record->name);
    if (row != NULL)
        px_table_drop(feeds->opts.table, row);
}

void px_feeds_open_store(struct px_feeds *feeds)
{
    const struct px_store_opts opts = {.loop = feeds->opts.loop,
                                       .env = feeds->opts.env,
                                       .directory = feeds->opts.state_directory,
                                       .identity = feeds->opts.node_id,
                                       .write_all = write_all,
                                       .ctx = feeds};
    if (opts.directory.len == 0 || (feeds->opts.roots.cds == NULL && feeds->opts.roots.lds == NULL))
        return;
    feeds->store = px_store_open(&opts, on_record);
    size_t clusters = px_table_count(feeds->opts.table, PX_CLUSTER),
           listeners = px_table_count(feeds->opts.table, PX_LISTENER);
    if (feeds->has_update[PX_CLUSTER] || feeds->has_update[PX_LISTENER])
        lt_log_info(&feeds->opts.env->log,
                    "begins with %zu clusters and %zu listeners, static ones and of the last run",
                    clusters, listeners);
}

void px_feed_preload(struct px_feed *feed, struct lt_ads_watch *watch, px_resource_kind kind)
{
    const struct px_rows *rows = px_table_rows(feed->feeds->opts.table);
    const struct px_row_set *set = px_row_set(rows, kind);
    const struct px_source *source = feed->is_aggregated ? px_source_ads(rows->sources)
                                                         : feed->source;
    for (uint32_t i = 0; i < set->slot_count && kind != PX_SECRET; i++) {
        const struct px_row *row = set->by_slot[i];
        if (row == NULL || row->source != source->id || row->is_static || newest_of(row) == NULL)
            continue;
        lt_rc rc = lt_ads_watch_preload(watch, px_row_name(row),
                                        px_resource_version(newest_of(row)));
        if (rc == LT_OK && kind == PX_VHOST) /* by which alias it came is not known any more */
            rc = lt_ads_watch_subscribe(watch, px_row_name(row));
        if (rc != LT_OK)
            return; /* more names than may be: the server sends it all */
    }
}

void px_feeds_want_restored(struct px_feeds *feeds)
{
    const struct px_row_set *set = px_row_set(px_table_rows(feeds->opts.table), PX_CLUSTER);
    const struct px_source *cds = feeds->opts.roots.cds;
    for (uint32_t i = 0; feeds->store != NULL && i < set->slot_count; i++) {
        struct px_row *row = set->by_slot[i];
        bool is_kept = row != NULL && row->wanted == 0 && px_row_any(row) != NULL &&
                       !row->is_static && (cds == NULL || cds->id != row->source);
        if (is_kept)
            px_table_want(feeds->opts.table, row);
    }
}
