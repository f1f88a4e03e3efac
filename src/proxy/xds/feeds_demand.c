/*
 * proxy/xds/feeds_demand.c - what running requests need and nobody has named before: virtual hosts
 * (VHDS) and clusters (ODCDS), by name. What the control plane says is not there is remembered for
 * a while.
 * Names come from clients: each name has an owner (a hash of the client's address), each owner a
 * share of its own, so that who floods takes nothing from others.
 * Start at: px_feeds_demand(), px_demands_decide().
 */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/conf/token_bucket.h"
#include "proxy/table/vhosts.h"
#include "proxy/xds/feeds_priv.h"

enum {
    OWNERS = 64,
    OF_OWNER_MAX = 512, /* names that are asked for or absent */
    ASKS_BURST = 1024,  /* of an owner */
    ASKS_PER_S = 128,   /* likewise, in the long run */
    THERE_MAX = 100000,
    NAME_MAX = 1024,
    KEY_MAX = NAME_MAX + 32,
    SWEEP_MS = 5000,       /* how often what is old is looked for */
    ABSENT_MS = 30000,     /* how long what is absent is remembered */
    UNANSWERED_MS = 60000, /* nobody waits so long */
};

typedef enum { ASKED, THERE, ABSENT } demand_state;

struct record {
    struct lt_list link; /* ASKED, ABSENT: in its owner's list, oldest first; THERE: in demands */
    px_resource_kind kind;
    demand_state state;
    uint32_t owner;
    struct px_row *row;   /* counted; a cluster's own, which it wants; "r/" of a virtual host */
    struct px_row *vhost; /* counted; the virtual host that it became; NULL */
    uint64_t since_ns;
    lt_str name; /* the end of key */
    lt_str key;  /* in demands->by_key; behind the struct */
};

struct owner {
    struct lt_list records;
    uint32_t count;
    struct px_bucket asks;
};

struct px_demands {
    struct px_feeds *feeds;
    struct lt_map by_key;
    struct lt_list there;
    uint32_t there_count, asked_count;
    struct owner owners[OWNERS];
    struct px_bucket_conf asks;
    struct lt_vec decided; /* of struct decided, owned: nobody was told yet */
    struct lt_timer sweep; /* set while something is asked or absent */
    struct lt_counter *counters[PX_DEMAND_STATS];
};

struct decided {
    struct px_demand what;
    px_demand_outcome outcome;
    char name[];
};

static uint64_t now_ns(const struct px_demands *demands)
{
    return lt_env_mono_ns(demands->feeds->opts.env);
}

/* --- counters --- */

static void make_counters(struct px_demands *demands)
{
    static const char *const names[PX_DEMAND_STATS] = {"asked",   "found",   "absent",
                                                       "refused", "dropped", "unasked"};
    static const lt_str label = {"what", 4};
    const struct lt_metric_desc desc = {.name = LT_STR("lateen_on_demand"),
                                        .kind = LT_METRIC_COUNTER,
                                        .stat = LT_STR("lateen.on_demand.$0"),
                                        .labels = &label,
                                        .label_count = 1};
    struct lt_metric_family *family = lt_metric_family(demands->feeds->opts.metrics, &desc);
    for (int i = 0; i < PX_DEMAND_STATS; i++) {
        lt_str value = lt_str_of(names[i]);
        demands->counters[i] = lt_metric_counter(family, &value);
    }
}

static void count(const struct px_demands *demands, px_demand_stat stat)
{
    lt_counter_add(demands->counters[stat], 1);
}

/* --- where it is asked for --- */

static struct lt_ads_watch *watch_of(const struct px_demands *demands, const struct record *record)
{
    struct px_feed *feed = px_feeds_feed_of(demands->feeds, record->row);
    return feed == NULL || feed->xds == NULL ? NULL : feed->watches[record->kind];
}

static void flush(const struct px_demands *demands, const struct record *record)
{
    struct px_feed *feed = px_feeds_feed_of(demands->feeds, record->row);
    if (feed != NULL && feed->xds != NULL)
        px_xds_send(feed->xds);
}

/* A cluster's row is asked for by whoever wants it first (feeds_ask.c); here once more. */
static lt_rc ask(struct px_demands *demands, struct record *record)
{
    bool is_new = record->kind == PX_CLUSTER && record->row->wanted == 0;
    if (is_new) {
        px_table_want(demands->feeds->opts.table, record->row);
        px_feeds_follow_wishes(demands->feeds);
    }
    struct lt_ads_watch *watch = watch_of(demands, record);
    if (watch == NULL)
        return LT_E_NOT_FOUND;
    if (!is_new)
        LT_TRY(lt_ads_watch_refresh(watch, record->name));
    count(demands, PX_DEMAND_STAT_ASKED);
    flush(demands, record);
    return LT_OK;
}

static void unask(struct px_demands *demands, struct record *record)
{
    if (record->kind == PX_CLUSTER && record->row->wanted > 0) {
        px_table_unwant(demands->feeds->opts.table, record->row);
        px_feeds_follow_wishes(demands->feeds);
        return;
    }
    struct lt_ads_watch *watch = watch_of(demands, record);
    if (watch != NULL)
        lt_ads_watch_unsubscribe(watch, record->name);
    flush(demands, record);
}

/* --- records --- */

static lt_str make_key(char text[KEY_MAX], px_resource_kind kind, uint16_t source, lt_str name)
{
    /* a cluster is the same whoever sent it */
    int len = snprintf(text, KEY_MAX, "%d:%u:", (int)kind, kind == PX_CLUSTER ? 0u : source);
    memcpy(text + len, name.ptr, name.len);
    return lt_str_make(text, (size_t)len + name.len);
}

static struct record *find(const struct px_demands *demands, px_resource_kind kind, uint16_t source,
                           lt_str name)
{
    char text[KEY_MAX];
    if (name.len == 0 || name.len > NAME_MAX)
        return NULL;
    return lt_map_find(&demands->by_key, make_key(text, kind, source, name));
}

static void leave_list(struct px_demands *demands, struct record *record)
{
    if (record->state == THERE)
        demands->there_count--;
    else
        demands->owners[record->owner].count--;
    if (record->state == ASKED)
        demands->asked_count--;
    lt_list_remove(&record->link);
}

static void enter_list(struct px_demands *demands, struct record *record, demand_state state)
{
    struct owner *owner = &demands->owners[record->owner];
    record->state = state;
    record->since_ns = now_ns(demands);
    if (state == THERE) {
        demands->there_count++;
        lt_list_push_back(&demands->there, &record->link);
        return;
    }
    owner->count++;
    demands->asked_count += state == ASKED;
    lt_list_push_back(&owner->records, &record->link);
    if (!lt_timer_is_set(&demands->sweep))
        lt_loop_timer_set(demands->feeds->opts.loop, &demands->sweep, SWEEP_MS * LT_NS_PER_MS);
}

static void set_vhost(struct record *record, struct px_row *vhost)
{
    struct px_row *old = record->vhost;
    record->vhost = vhost == NULL ? NULL : px_row_ref(vhost);
    px_row_unref(&old);
}

static struct record *new_record(struct px_demands *demands, const struct px_demand *what,
                                 struct px_row *row)
{
    char text[KEY_MAX];
    lt_str key = make_key(text, what->kind, what->source, what->name);
    struct record *record = lt_calloc(1, sizeof(*record) + key.len);
    memcpy(record + 1, key.ptr, key.len);
    record->key = lt_str_make(record + 1, key.len);
    record->name = lt_str_from(record->key, key.len - what->name.len);
    record->kind = what->kind;
    record->owner = what->owner % OWNERS;
    record->row = px_row_ref(row);
    lt_map_put(&demands->by_key, record->key, record);
    enter_list(demands, record, ASKED);
    return record;
}

static void drop(struct px_demands *demands, struct record *record)
{
    unask(demands, record);
    leave_list(demands, record);
    lt_map_remove(&demands->by_key, record->key);
    set_vhost(record, NULL);
    px_row_unref(&record->row);
    free(record);
}

/* What is old makes room; what is asked for has its time. */
static bool make_room(struct px_demands *demands, struct owner *owner)
{
    struct lt_list *it, *next;
    if (owner->count < OF_OWNER_MAX)
        return true;
    lt_list_each (&owner->records, it, next) {
        struct record *record = LT_CONTAINER_OF(it, struct record, link);
        if (record->state != ABSENT)
            continue;
        count(demands, PX_DEMAND_STAT_DROPPED);
        drop(demands, record);
        return true;
    }
    return false;
}

static void on_sweep(struct lt_timer *timer, uint64_t now)
{
    struct px_demands *demands = LT_CONTAINER_OF(timer, struct px_demands, sweep);
    uint32_t left = 0;
    for (int i = 0; i < OWNERS; i++) {
        struct lt_list *it, *next;
        lt_list_each (&demands->owners[i].records, it, next) {
            struct record *record = LT_CONTAINER_OF(it, struct record, link);
            uint64_t kept_ms = record->state == ABSENT ? ABSENT_MS : UNANSWERED_MS;
            if (now >= record->since_ns + kept_ms * LT_NS_PER_MS)
                drop(demands, record);
        }
        left += demands->owners[i].count;
    }
    if (left > 0)
        lt_loop_timer_set(demands->feeds->opts.loop, timer, SWEEP_MS * LT_NS_PER_MS);
}

/* --- a request asks --- */

/* Its bytes go into a protobuf string, and a control plane may take it for a name of a file. */
static bool is_sane(const struct px_demand *what)
{
    for (size_t i = 0; i < what->name.len; i++) {
        if (what->name.ptr[i] <= ' ' || what->name.ptr[i] > '~')
            return false;
    }
    bool has_space = what->kind != PX_VHOST || px_vhost_space(what->name).len > 0;
    return has_space && what->name.len > 0 && what->name.len <= NAME_MAX;
}

/* Counted; NULL: nobody can be asked for it. */
static struct px_row *row_of(const struct px_demands *demands, const struct px_demand *what)
{
    struct px_rows *rows = px_table_rows(demands->feeds->opts.table);
    const struct px_source *source = px_source_at(rows->sources, what->source);
    if (what->kind == PX_CLUSTER)
        return px_row_get(rows, PX_CLUSTER, source, what->name);
    struct px_row *row = px_row_look_up(rows, PX_VHOST, source, px_vhost_space(what->name));
    return row == NULL || row->wanted == 0 ? NULL : px_row_ref(row);
}

static bool still_there(const struct record *record)
{
    const struct px_row *row = record->kind == PX_CLUSTER ? record->row : record->vhost;
    return row != NULL && row->serving != NULL;
}

static bool may_ask(struct px_demands *demands, uint32_t owner)
{
    struct owner *of = &demands->owners[owner];
    return demands->there_count < THERE_MAX && make_room(demands, of) &&
           px_bucket_take(&of->asks, &demands->asks, now_ns(demands));
}

static px_demand_outcome demand_new(struct px_demands *demands, const struct px_demand *what)
{
    struct px_row *row = is_sane(what) ? row_of(demands, what) : NULL;
    if (row == NULL)
        return PX_DEMAND_ABSENT;
    px_demand_outcome outcome = PX_DEMAND_REFUSED;
    if (what->kind == PX_CLUSTER && row->serving != NULL)
        outcome = PX_DEMAND_THERE;
    else if (may_ask(demands, what->owner % OWNERS))
        outcome = PX_DEMAND_WAITS;
    if (outcome == PX_DEMAND_WAITS) {
        struct record *record = new_record(demands, what, row);
        if (ask(demands, record) != LT_OK) {
            drop(demands, record);
            outcome = PX_DEMAND_REFUSED;
        }
    }
    px_row_unref(&row);
    return outcome;
}

static px_demand_outcome demand_again(struct px_demands *demands, struct record *record)
{
    if (record->state == ASKED)
        return PX_DEMAND_WAITS;
    if (record->state == ABSENT)
        return PX_DEMAND_ABSENT;
    if (still_there(record))
        return PX_DEMAND_THERE;
    leave_list(demands, record);
    enter_list(demands, record, ASKED);
    return ask(demands, record) == LT_OK ? PX_DEMAND_WAITS : PX_DEMAND_REFUSED;
}

static struct px_demands *new_demands(struct px_feeds *feeds)
{
    struct px_demands *demands = lt_new(struct px_demands);
    demands->feeds = feeds;
    demands->asks = px_bucket_conf_make(ASKS_BURST, ASKS_PER_S, LT_NS_PER_S);
    lt_map_init(&demands->by_key);
    lt_list_init(&demands->there);
    for (int i = 0; i < OWNERS; i++) {
        lt_list_init(&demands->owners[i].records);
        px_bucket_init(&demands->owners[i].asks);
    }
    lt_timer_init(&demands->sweep, on_sweep);
    make_counters(demands);
    return demands;
}

px_demand_outcome px_feeds_demand(struct px_feeds *feeds, const struct px_demand *what)
{
    if (feeds->demands == NULL)
        feeds->demands = new_demands(feeds);
    struct px_demands *demands = feeds->demands;
    struct record *record = find(demands, what->kind, what->source, what->name);
    px_demand_outcome outcome = record != NULL ? demand_again(demands, record)
                                               : demand_new(demands, what);
    if (outcome == PX_DEMAND_REFUSED)
        count(demands, PX_DEMAND_STAT_REFUSED);
    return outcome;
}

/* --- an answer --- */

static void add_decided(struct px_demands *demands, const struct record *record)
{
    struct decided *decided = lt_calloc(1, sizeof(*decided) + record->name.len);
    memcpy(decided->name, record->name.ptr, record->name.len);
    decided->what = (struct px_demand){.kind = record->kind,
                                       .source = record->row->source,
                                       .name = lt_str_make(decided->name, record->name.len)};
    decided->outcome = record->state == THERE ? PX_DEMAND_THERE : PX_DEMAND_ABSENT;
    lt_vec_push(&demands->decided, decided);
    if (demands->feeds->opts.on_decided != NULL)
        demands->feeds->opts.on_decided(demands->feeds->opts.ctx);
}

static void decide(struct px_demands *demands, struct record *record, bool is_there)
{
    bool was_asked = record->state == ASKED;
    leave_list(demands, record);
    enter_list(demands, record, is_there ? THERE : ABSENT);
    if (!was_asked)
        return;
    count(demands, is_there ? PX_DEMAND_STAT_FOUND : PX_DEMAND_STAT_ABSENT);
    add_decided(demands, record);
}

void px_demands_decide(struct px_feeds *feeds, px_resource_kind kind, uint16_t source, lt_str name,
                       struct px_row *vhost)
{
    if (feeds->demands == NULL)
        return;
    struct record *record = find(feeds->demands, kind, source, name);
    if (record == NULL)
        return;
    set_vhost(record, vhost);
    decide(feeds->demands, record, vhost != NULL);
}

void px_demands_note_unasked(struct px_feeds *feeds)
{
    if (feeds->demands != NULL)
        count(feeds->demands, PX_DEMAND_STAT_UNASKED);
}

/* Clusters that have become warm. */
static void look_at_clusters(struct px_demands *demands)
{
    for (int i = 0; i < OWNERS && demands->asked_count > 0; i++) {
        struct lt_list *it, *next;
        lt_list_each (&demands->owners[i].records, it, next) {
            struct record *record = LT_CONTAINER_OF(it, struct record, link);
            if (record->kind == PX_CLUSTER && record->row->serving != NULL)
                decide(demands, record, true);
        }
    }
}

void px_feeds_tell_decided(struct px_feeds *feeds, px_decided_fn *tell, void *ctx)
{
    struct px_demands *demands = feeds->demands;
    if (demands == NULL)
        return;
    look_at_clusters(demands);
    for (size_t i = 0; i < demands->decided.count; i++) {
        struct decided *decided = demands->decided.items[i];
        tell(ctx, &decided->what, decided->outcome);
        free(decided);
    }
    lt_vec_fini(&demands->decided);
}

/* --- the end --- */

void px_demands_end_space(struct px_feeds *feeds, const struct px_row *space)
{
    struct px_demands *demands = feeds->demands;
    for (size_t i = demands != NULL ? demands->by_key.count : 0; i-- > 0;) {
        struct record *record = demands->by_key.entries[i].value;
        if (record->row == space)
            drop(demands, record); /* the last entry takes its place */
    }
}

void px_demands_free(struct px_feeds *feeds)
{
    struct px_demands *demands = feeds->demands;
    if (demands == NULL)
        return;
    while (demands->by_key.count > 0)
        drop(demands, demands->by_key.entries[demands->by_key.count - 1].value);
    lt_map_fini(&demands->by_key);
    lt_loop_timer_cancel(feeds->opts.loop, &demands->sweep);
    while (demands->decided.count > 0)
        free(lt_vec_pop(&demands->decided));
    lt_vec_fini(&demands->decided);
    feeds->demands = NULL;
    free(demands);
}
