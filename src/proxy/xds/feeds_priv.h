/*
 * proxy/xds/feeds_priv.h - private to feeds*.c.
 *   feeds.c         phases, updates and their answers
 *   feeds_ask.c     what is wanted: where it is asked for
 *   feeds_file.c    sources that are files
 *   feeds_store.c   the last good resources on disk
 *   feeds_extra.c   types that are not of the table
 *   feeds_demand.c  what running requests need
 */
#ifndef LT_PROXY_XDS_FEEDS_PRIV_H
#define LT_PROXY_XDS_FEEDS_PRIV_H

#include "base/list.h"
#include "proxy/xds/feeds.h"
#include "proxy/xds/files.h"
#include "proxy/xds/store.h"
#include "proxy/xds/way.h"
#include "proxy/xds/xds.h"
#include "proxy/xds/xds_kinds.h"

enum { PX_FEED_WHAT_MAX = 128 };

/* One stream, or one file. */
struct px_feed {
    struct lt_list link; /* in feeds->list */
    struct px_feeds *feeds;
    const struct px_source *source;
    struct px_xds *xds;   /* owned; NULL: a file */
    struct px_way *way;   /* held; NULL: the owner's channel, or a file */
    struct px_file *file; /* owned */
    struct lt_ads_watch *watches[PX_RESOURCE_KINDS]; /* of the ADS stream several */
    px_resource_kind kind;                           /* of any other the only one */
    struct px_row *row;          /* counted; whom it is for; NULL: ADS, and the two sets */
    bool is_aggregated;          /* the ADS stream */
    bool is_by_name;             /* of clusters on demand: those that were asked for */
    bool is_gone;                /* in feeds->graves */
    char what[PX_FEED_WHAT_MAX]; /* for log lines */
};

/* A row that waits for its initial_fetch_timeout. */
struct px_fetch_wait {
    struct lt_list link;
    struct lt_timer timer;
    struct px_feeds *feeds;
    struct px_row *row; /* counted; NULL: the set of `kind` */
    px_resource_kind kind;
};

struct px_answer; /* feeds.c */

/* A type that is not of the table. */
struct px_extra {
    const struct px_feed_extra *how; /* in opts */
    struct lt_ads_watch *watch;      /* NULL: not begun */
    struct lt_bytes *last;           /* counted; the last good message; NULL: none came */
};

struct px_feeds {
    struct px_feeds_opts opts;
    struct px_ways *ways;      /* owned */
    struct px_files *files;    /* owned */
    struct px_store *store;    /* owned; NULL: nothing is kept */
    struct px_feed *ads;       /* in list; NULL: none */
    struct px_feed *cds, *lds; /* in list, or the same as ads; NULL: not begun, or none */
    struct lt_list list;       /* of px_feed, owned */
    struct lt_list graves;     /* of px_feed, freed at the end of the turn */
    struct lt_task bury;
    struct lt_list waits;      /* of px_fetch_wait, owned */
    struct lt_vec later;       /* of px_row, counted: wanted, but not before listeners are */
    struct px_answer *answers; /* oldest first */
    struct px_extra extras[PX_FEED_EXTRAS_MAX];
    size_t extra_count;
    struct px_demands *demands; /* owned; NULL: no request needed anything */
    px_phase phase;
    bool is_started;
    bool is_settling;
    bool has_update[PX_RESOURCE_KINDS]; /* or no longer waits for one */
    bool was_updated[PX_RESOURCE_KINDS];
    uint32_t error_count; /* rows that are there only for their error */
    size_t error_bytes;   /* messages that were refused, and are kept to be shown */
    struct lt_counter *success[PX_RESOURCE_KINDS], *rejected[PX_RESOURCE_KINDS];
    struct lt_counter *timeouts[PX_RESOURCE_KINDS];
    struct lt_gauge *connected_state;
    struct lt_counter *slowed; /* requests that rate_limit_settings held back */
};

/* --- feeds.c --- */
/* view's resource into the table; refused: its error is noted, and LT_E_BAD. */
LT_MUST lt_rc px_feed_take(struct px_feed *feed, px_resource_kind kind, lt_str name, lt_str version,
                           lt_str bytes, struct lt_err *err);
void px_feed_drop(struct px_feed *feed, px_resource_kind kind, lt_str name);
void px_feed_count(struct px_feeds *feeds, px_resource_kind kind, bool is_good);
/* Of the sets of clusters and listeners: a first one came, or is not waited for any more. */
void px_feeds_note_update(struct px_feeds *feeds, px_resource_kind kind);

/* --- feeds_ask.c --- */
/* What the table wishes is asked for, or no longer. */
void px_feeds_follow_wishes(struct px_feeds *feeds);
void px_feeds_start_set(struct px_feeds *feeds, px_resource_kind kind);
struct px_feed *px_feeds_start_ads(struct px_feeds *feeds);
/* Where the row is asked for; NULL: nowhere. */
struct px_feed *px_feeds_feed_of(struct px_feeds *feeds, const struct px_row *row);
void px_feed_end(struct px_feed *feed);
void px_feeds_end_all(struct px_feeds *feeds);

/* --- feeds_file.c --- */
void px_feed_open_file(struct px_feed *feed);

/* --- feeds_store.c --- */
/* What the last run had goes into the table, and what comes is kept from now on. */
void px_feeds_open_store(struct px_feeds *feeds);
/* hash_before: of the row's newest resource as it was; 0: there was none. */
void px_feeds_store_taken(struct px_feeds *feeds, const struct px_row *row, uint64_t hash_before);
void px_feeds_store_gone(struct px_feeds *feeds, const struct px_row *row);
void px_feeds_store_state(struct px_feeds *feeds, px_resource_kind kind);
/* Clusters that came on demand in the last run are asked for: they change, too. */
void px_feeds_want_restored(struct px_feeds *feeds);
/* The new watch is told what its source's rows hold. */
void px_feed_preload(struct px_feed *feed, struct lt_ads_watch *watch, px_resource_kind kind);

/* --- feeds_extra.c --- */
void px_feeds_make_extras(struct px_feeds *feeds);
void px_feeds_start_extras(struct px_feeds *feeds);
/* True: the update was of an extra type, and is answered. */
bool px_feeds_take_extra(struct px_feed *feed, const struct lt_ads_update *update);
/* What the last run had of it. */
void px_feeds_restore_extra(struct px_feeds *feeds, lt_str type_url, lt_str message);
void px_feeds_end_extras(struct px_feeds *feeds);

/* --- feeds_demand.c --- */
typedef enum {
    PX_DEMAND_STAT_ASKED,
    PX_DEMAND_STAT_FOUND,
    PX_DEMAND_STAT_ABSENT,
    PX_DEMAND_STAT_REFUSED, /* too many */
    PX_DEMAND_STAT_DROPPED, /* absent ones that made room */
    PX_DEMAND_STAT_UNASKED, /* answers that nobody had asked for */
    PX_DEMAND_STATS
} px_demand_stat;
/* What was asked for by that name is there (vhost: which it is; a cluster's own row), or isn't. */
void px_demands_decide(struct px_feeds *feeds, px_resource_kind kind, uint16_t source, lt_str name,
                       struct px_row *vhost);
void px_demands_note_unasked(struct px_feeds *feeds);
/* Nobody wants virtual hosts of it any more. */
void px_demands_end_space(struct px_feeds *feeds, const struct px_row *space);
void px_demands_free(struct px_feeds *feeds);

/* --- streams: called by xds.c (feeds.c) --- */
void px_feed_on_open(void *ctx);
void px_feed_on_update(void *ctx, const struct lt_ads_update *update);
void px_feed_before_send(void *ctx, bool with_answers);
void px_feed_on_connected(void *ctx, bool is_connected);

#endif
