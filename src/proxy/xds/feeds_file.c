/*
 * proxy/xds/feeds_file.c - path_config_source: a DiscoveryResponse in a file, in JSON, YAML or
 * binary, read again when it is replaced. A file is read by whoever wrote the configuration, and
 * believed as much. Start at: read_again().
 */
#include "base/file.h"
#include "proxy/xds/feeds_priv.h"
#include "wire/pbjson.h"
#include "wire/proto/discovery.pb-c.h"
#include "wire/yaml.h"

enum { FILE_BYTES_MAX = 256 << 20 };

static lt_rc parse(struct lt_arena *arena, const char *path, lt_str text,
                   Xds__DiscoveryResponse **ret_response, struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    if (lt_str_ends(lt_str_of(path), LT_STR(".pb")))
        return lt_pb_unpack(arena, &xds__discovery_response__descriptor, text, NULL, ret_response,
                            err);
    LT_TRY(lt_yaml_or_json_parse(arena, text, NULL, &doc, err));
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_err_set(err, LT_E_BAD, "expected a DiscoveryResponse, got %s",
                          lt_doc_kind_name(doc->kind));
    return lt_pbjson_read(arena, doc, &xds__discovery_response__descriptor, NULL, ret_response,
                          err);
}

/* The first field of each kind is its name, as the engine has it for streams. */
static lt_str name_of(const Pb__Any *any)
{
    return lt_ads_name_of(lt_str_of(any->type_url), lt_pb_bytes(any->value));
}

struct taken {
    struct lt_map names; /* of what the file has; to themselves */
    bool is_good;
};

static void take_any(struct px_feed *feed, const Pb__Any *any, lt_str version, struct taken *taken)
{
    struct lt_err err = {0};
    lt_str name = name_of(any), wanted = feed->row != NULL ? px_row_name(feed->row) : name;
    if (!lt_str_eq(name, wanted))
        return;
    lt_map_put(&taken->names, name, (void *)name.ptr);
    if (px_feed_take(feed, feed->kind, name, version, lt_pb_bytes(any->value), &err) != LT_OK)
        taken->is_good = false;
}

/*
 * What the file had and no longer has. Of single resources nothing is taken away, as Envoy does it.
 */
static void drop_others(struct px_feed *feed, const struct taken *taken)
{
    const struct px_row_set *set = px_row_set(px_table_rows(feed->feeds->opts.table), feed->kind);
    for (uint32_t i = 0; feed->row == NULL && i < set->slot_count; i++) {
        struct px_row *row = set->by_slot[i];
        if (row != NULL && row->source == feed->source->id && !row->is_static &&
            lt_map_find(&taken->names, px_row_name(row)) == NULL)
            px_feed_drop(feed, feed->kind, px_row_name(row));
    }
}

/* One of another type, and the file is taken for a mistake as a whole, as by Envoy. */
static lt_rc check_types(const struct px_feed *feed, const Xds__DiscoveryResponse *response,
                         struct lt_err *err)
{
    const char *wanted = px_xds_kinds[feed->kind].type_url;
    for (size_t i = 0; i < response->n_resources; i++) {
        lt_str type_url = lt_str_of(response->resources[i]->type_url);
        if (!lt_str_eqz(type_url, wanted))
            return lt_err_set(err, LT_E_BAD, "resources[%zu]: expected type %s, got '%.*s'", i,
                              wanted, LT_STR_ARG(type_url));
    }
    return LT_OK;
}

static void take_response(struct px_feed *feed, const Xds__DiscoveryResponse *response)
{
    struct px_feeds *feeds = feed->feeds;
    struct taken taken = {.is_good = true};
    lt_str version = lt_str_of(response->version_info);
    if (feed->row == NULL) { /* removals first: addresses may change hands */
        for (size_t i = 0; i < response->n_resources; i++) {
            lt_str name = name_of(response->resources[i]);
            lt_map_put(&taken.names, name, (void *)(name.ptr != NULL ? name.ptr : ""));
        }
        drop_others(feed, &taken);
    }
    for (size_t i = 0; i < response->n_resources; i++)
        take_any(feed, response->resources[i], version, &taken);
    lt_map_fini(&taken.names);
    px_feed_count(feeds, feed->kind, taken.is_good);
    feeds->was_updated[feed->kind] = true;
    px_feeds_note_update(feeds, feed->kind);
}

static void read_again(void *ctx)
{
    struct px_feed *feed = ctx;
    struct px_feeds *feeds = feed->feeds;
    struct lt_arena *arena = lt_arena_new(64 * 1024, 0);
    const char *path = lt_arena_strz(arena, feed->source->path);
    Xds__DiscoveryResponse *response = NULL;
    struct lt_err err = {0};
    lt_str text = LT_STR_NULL;
    lt_rc rc = lt_file_read_max(arena, path, FILE_BYTES_MAX, &text, &err);
    if (rc == LT_OK)
        rc = parse(arena, path, text, &response, &err);
    if (rc == LT_OK)
        rc = check_types(feed, response, &err);
    if (rc == LT_OK) {
        take_response(feed, response);
    } else {
        lt_log_warn(&feeds->opts.env->log, "%s: %s: %s", feed->what, path, err.text);
        px_feed_count(feeds, feed->kind, false);
    }
    lt_arena_wipe_free(&arena); /* it may have been a secret */
    px_feeds_settle(feeds);
}

void px_feed_open_file(struct px_feed *feed)
{
    feed->file = px_file_watch(feed->feeds->files, feed->source->path, feed->source->directory,
                               read_again, feed);
    read_again(feed);
}
