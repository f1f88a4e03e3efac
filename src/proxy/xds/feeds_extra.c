/*
 * proxy/xds/feeds_extra.c - types on the ADS stream that are no resources of the table: the name
 * table of the DNS proxy. One nameless message each, answered at once, kept over a restart.
 * Start at: px_feeds_take_extra().
 */
#include "base/rope.h"
#include "proxy/xds/feeds_priv.h"

void px_feeds_make_extras(struct px_feeds *feeds)
{
    const struct px_feed_extra *extras = feeds->opts.extras;
    while (feeds->extra_count < PX_FEED_EXTRAS_MAX && extras[feeds->extra_count].type_url != NULL) {
        feeds->extras[feeds->extra_count].how = &extras[feeds->extra_count];
        feeds->extra_count++;
    }
}

void px_feeds_start_extras(struct px_feeds *feeds)
{
    for (size_t i = 0; feeds->ads != NULL && i < feeds->extra_count; i++) {
        struct px_extra *extra = &feeds->extras[i];
        if (extra->watch == NULL)
            extra->watch = lt_ads_client_watch(px_xds_client(feeds->ads->xds),
                                               lt_str_of(extra->how->type_url), true);
    }
}

static lt_rc take(const struct px_feeds *feeds, struct px_extra *extra, lt_str message,
                  struct lt_err *err)
{
    LT_TRY(extra->how->take(feeds->opts.ctx, message, err));
    lt_bytes_unref(&extra->last);
    extra->last = lt_bytes_new(message);
    return LT_OK;
}

static void note(struct px_feeds *feeds, const struct px_extra *extra)
{
    const struct px_store_record record = {.op = PX_STORE_EXTRA,
                                           .at_ns = lt_env_wall_ns(feeds->opts.env),
                                           .name = lt_str_of(extra->how->type_url),
                                           .bytes = lt_bytes_str(extra->last)};
    px_store_note(feeds->store, &record);
}

static void take_update(struct px_feed *feed, struct px_extra *extra,
                        const struct lt_ads_update *update)
{
    struct lt_ads_client *client = px_xds_client(feed->xds);
    struct lt_err err = {0};
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < update->resource_count && rc == LT_OK; i++)
        rc = take(feed->feeds, extra, update->resources[i].value, &err);
    if (rc == LT_OK) {
        lt_ads_client_ack(client, update->ticket);
        if (update->resource_count > 0)
            note(feed->feeds, extra);
        return;
    }
    lt_log_warn(&feed->feeds->opts.env->log, "%s: %s refused: %s", feed->what, extra->how->type_url,
                err.text);
    lt_str refused = update->resources[0].name;
    lt_ads_client_nack(client, update->ticket, lt_str_of(err.text), &refused, 1);
}

bool px_feeds_take_extra(struct px_feed *feed, const struct lt_ads_update *update)
{
    struct px_feeds *feeds = feed->feeds;
    for (size_t i = 0; i < feeds->extra_count; i++) {
        if (feeds->extras[i].watch != update->watch)
            continue;
        take_update(feed, &feeds->extras[i], update);
        px_xds_send(feed->xds);
        return true;
    }
    return false;
}

void px_feeds_restore_extra(struct px_feeds *feeds, lt_str type_url, lt_str message)
{
    for (size_t i = 0; i < feeds->extra_count; i++) {
        struct lt_err err = {0};
        struct px_extra *extra = &feeds->extras[i];
        if (lt_str_eqz(type_url, extra->how->type_url) &&
            take(feeds, extra, message, &err) != LT_OK)
            lt_log_warn(&feeds->opts.env->log, "%s of the last run: %s", extra->how->type_url,
                        err.text);
    }
}

void px_feeds_end_extras(struct px_feeds *feeds)
{
    for (size_t i = 0; i < feeds->extra_count; i++)
        lt_bytes_unref(&feeds->extras[i].last);
}
