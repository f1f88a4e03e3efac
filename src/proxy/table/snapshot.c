/*
 * proxy/table/snapshot.c - snapshots of a table: the shelves that follow what serves, and what is
 * made of them. What one change costs does not grow with the table, but for lists of pointers.
 * Start at: px_table_note_serving(), px_table_snapshot().
 */
#include <stdlib.h>

#include "proxy/table/roster.h"
#include "proxy/table/table_priv.h"
#include "proxy/table/vhosts.h"

/* --- what entries hold --- */

static void hold(const void *resource)
{
    px_resource_ref((struct px_resource *)resource);
}

static void drop(const void *resource)
{
    struct px_resource *dropped = (struct px_resource *)resource;
    px_resource_unref(&dropped);
}

/* Inline endpoints go with their cluster, those of a roster with that. */
static bool holds_endpoints(const struct px_cluster_entry *entry)
{
    return entry->roster == NULL && entry->endpoints != NULL && entry->conf->eds_row != NULL;
}

static void hold_cluster(void *at)
{
    struct px_cluster_entry *entry = at;
    hold(entry->conf);
    if (holds_endpoints(entry))
        hold(entry->endpoints);
    if (entry->roster != NULL)
        px_roster_ref(entry->roster);
}

static void drop_cluster(void *at)
{
    struct px_cluster_entry *entry = at;
    if (holds_endpoints(entry))
        drop(entry->endpoints);
    px_roster_unref(&entry->roster);
    drop(entry->conf);
}

static void hold_routes(void *at)
{
    const struct px_routes_entry *entry = at;
    hold(entry->conf);
    if (entry->on_demand != NULL)
        px_vhost_set_ref((struct px_vhost_set *)entry->on_demand);
}

static void drop_routes(void *at)
{
    struct px_routes_entry *entry = at;
    struct px_vhost_set *set = (struct px_vhost_set *)entry->on_demand;
    px_vhost_set_unref(&set);
    drop(entry->conf);
}

static void hold_first(void *at)
{
    hold(*(const void **)at);
}

static void drop_first(void *at)
{
    drop(*(const void **)at);
}

static const struct px_shelf_kind cluster_shelf = {sizeof(struct px_cluster_entry), hold_cluster,
                                                   drop_cluster};
static const struct px_shelf_kind routes_shelf = {sizeof(struct px_routes_entry), hold_routes,
                                                  drop_routes};
static const struct px_shelf_kind listener_shelf = {sizeof(struct px_listener_entry), hold_first,
                                                    drop_first};

/* --- following what serves --- */

void px_table_note_cluster(struct px_table *table, struct px_row *row)
{
    table->is_dirty = true;
    if (row->is_stale)
        return;
    row->is_stale = true;
    lt_vec_push(&table->stale_clusters, px_row_ref(row));
}

static void note_name(struct px_table *table, const struct px_row *row, bool was_there)
{
    if (was_there && row->serving == NULL)
        px_index_remove(&table->cluster_names, row->key, row->slot);
    else if (!was_there && row->serving != NULL)
        px_index_put(&table->cluster_names, row->key, row->slot);
}

/* Endpoints have most often the name of the only cluster that wants them. */
static void note_endpoints(struct px_table *table, const struct px_row *row)
{
    struct px_row *namesake = px_row_find(table->rows, PX_CLUSTER, row->key);
    const struct px_cluster_conf *conf = namesake == NULL
                                             ? NULL
                                             : (const struct px_cluster_conf *)namesake->serving;
    bool is_namesakes = conf != NULL && conf->eds_row == row;
    if (is_namesakes)
        px_table_note_cluster(table, namesake);
    if (is_namesakes && row->wanted <= 1)
        return;
    const struct px_row_set *set = px_row_set(table->rows, PX_CLUSTER);
    for (uint32_t i = 0; i < set->slot_count; i++) {
        const struct px_cluster_conf *other =
            set->by_slot[i] == NULL ? NULL
                                    : (const struct px_cluster_conf *)set->by_slot[i]->serving;
        if (other != NULL && other->eds_row == row)
            px_table_note_cluster(table, set->by_slot[i]);
    }
}

static void note_routes(struct px_table *table, struct px_row *row)
{
    if (row->is_stale)
        return;
    row->is_stale = true;
    lt_vec_push(&table->stale_routes, px_row_ref(row));
}

/* Route configurations that the virtual host is of, or was. */
static void note_vhost(struct px_table *table, const struct px_row *row)
{
    const struct px_row_set *set = px_row_set(table->rows, PX_ROUTES);
    lt_str space = px_vhost_space(px_row_name(row));
    for (uint32_t i = 0; i < set->slot_count; i++) {
        const struct px_routes_conf *conf =
            set->by_slot[i] == NULL ? NULL
                                    : (const struct px_routes_conf *)set->by_slot[i]->serving;
        if (conf != NULL && conf->vhds_row != NULL && conf->vhds_row->source == row->source &&
            lt_str_eq(px_row_name(conf->vhds_row), space))
            note_routes(table, set->by_slot[i]);
    }
}

void px_table_note_serving(struct px_table *table, struct px_row *row,
                           const struct px_resource *before)
{
    const void *serving = row->serving;
    table->is_dirty = true;
    switch ((px_resource_kind)row->kind) {
    case PX_CLUSTER:
        note_name(table, row, before != NULL);
        px_table_note_cluster(table, row);
        return;
    case PX_ENDPOINTS: note_endpoints(table, row); return;
    case PX_SECRET: px_tls_slots_mark(table->slots); return;
    case PX_EXTENSION: return; /* what was made of it is in listeners */
    case PX_ROUTES: note_routes(table, row); return;
    case PX_VHOST: note_vhost(table, row); return;
    case PX_LISTENER:
        if (serving == NULL)
            px_shelf_clear(&table->listeners, row->slot);
        else
            px_shelf_put(&table->listeners, row->slot, &(struct px_listener_entry){serving});
        return;
    case PX_RESOURCE_KINDS: LT_UNREACHABLE();
    }
}

/* --- making one --- */

static void refresh_cluster(struct px_table *table, const struct px_row *row)
{
    const struct px_cluster_conf *conf = (const struct px_cluster_conf *)row->serving;
    if (conf == NULL) {
        px_shelf_clear(&table->clusters, row->slot);
        return;
    }
    struct px_cluster_entry entry = {.conf = conf, .endpoints = px_table_endpoints(table, conf)};
    if (table->keeper.ctx != NULL)
        entry.roster = table->keeper.roster(table->keeper.ctx, conf, entry.endpoints);
    if (entry.roster != NULL) {
        entry.endpoints = px_roster_endpoints(entry.roster);
        entry.state = entry.roster->state;
        entry.host_states = entry.roster->host_states;
    }
    px_shelf_put(&table->clusters, row->slot, &entry);
}

static void refresh_clusters(struct px_table *table)
{
    while (table->stale_clusters.count > 0) {
        struct px_row *row = lt_vec_pop(&table->stale_clusters);
        row->is_stale = false;
        refresh_cluster(table, row);
        px_row_unref(&row);
    }
}

static void refresh_routes(struct px_table *table, struct px_row *row)
{
    const struct px_routes_conf *conf = (const struct px_routes_conf *)row->serving;
    if (conf == NULL) {
        px_shelf_clear(&table->routes, row->slot);
        return;
    }
    struct px_vhost_set *set = conf->vhds_row == NULL
                                   ? NULL
                                   : px_vhost_set_new(table->rows, conf->vhds_row);
    px_shelf_put(&table->routes, row->slot, &(struct px_routes_entry){conf, set});
    px_vhost_set_unref(&set);
}

static void refresh_all_routes(struct px_table *table)
{
    while (table->stale_routes.count > 0) {
        struct px_row *row = lt_vec_pop(&table->stale_routes);
        row->is_stale = false;
        refresh_routes(table, row);
        px_row_unref(&row);
    }
}

static void drop_tls_set(struct px_tls_set **pointer)
{
    struct px_tls_set *set = *pointer;
    *pointer = NULL;
    if (set == NULL || --set->refs > 0)
        return;
    for (uint32_t i = 0; i < set->count; i++)
        lt_tls_ctx_unref(&set->ctxs[i]);
    free(set);
}

static void make_tls_set(struct px_table *table)
{
    size_t count = px_tls_slots_count(table->slots);
    struct px_tls_set *set = lt_calloc(1, sizeof(*set) + count * sizeof(struct lt_tls_ctx *));
    set->refs = 1;
    set->count = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        struct lt_tls_ctx *ctx = px_tls_slots_ctx(table->slots, i);
        set->ctxs[i] = ctx == NULL ? NULL : lt_tls_ctx_ref(ctx);
    }
    drop_tls_set(&table->tls);
    table->tls = set;
}

struct px_snapshot *px_table_snapshot(struct px_table *table, struct lt_err *ret_err)
{
    if (px_tls_slots_refresh(table->slots, ret_err) || table->tls == NULL)
        make_tls_set(table);
    refresh_clusters(table);
    refresh_all_routes(table);
    struct px_snapshot *made = lt_new(struct px_snapshot);
    *made = (struct px_snapshot){
        .generation = ++table->generation,
        .holders = 1,
        .cluster_names = px_index_ref(table->cluster_names),
        .clusters = px_shelf_share(&table->clusters),
        .routes = px_shelf_share(&table->routes),
        .listeners = px_shelf_share(&table->listeners),
        .tls = table->tls,
    };
    table->tls->refs++;
    table->is_dirty = false;
    return made;
}

void px_snapshot_hold(struct px_snapshot *snapshot)
{
    snapshot->holders++;
}

void px_snapshot_drop(struct px_snapshot **snapshot)
{
    struct px_snapshot *dropped = *snapshot;
    *snapshot = NULL;
    if (dropped == NULL || --dropped->holders > 0)
        return;
    px_index_unref(&dropped->cluster_names);
    px_shelf_fini(&dropped->clusters);
    px_shelf_fini(&dropped->routes);
    px_shelf_fini(&dropped->listeners);
    drop_tls_set(&dropped->tls);
    free(dropped);
}

const struct px_cluster_entry *px_snapshot_find_cluster(const struct px_snapshot *snapshot,
                                                        lt_str name)
{
    uint32_t hash = (uint32_t)lt_str_hash(name), at = px_index_begin(snapshot->cluster_names, hash);
    for (;;) {
        uint32_t slot = px_index_next(snapshot->cluster_names, hash, &at);
        if (slot == UINT32_MAX)
            return NULL;
        const struct px_cluster_entry *entry = px_shelf_at(&snapshot->clusters, slot);
        if (entry != NULL && lt_str_eq(entry->conf->res.name, name))
            return entry;
    }
}

/* --- life --- */

void px_table_init_snapshots(struct px_table *table)
{
    px_shelf_init(&table->clusters, &cluster_shelf);
    px_shelf_init(&table->routes, &routes_shelf);
    px_shelf_init(&table->listeners, &listener_shelf);
    table->cluster_names = px_index_new();
}

static void drop_rows(struct lt_vec *rows)
{
    for (struct px_row *row; (row = lt_vec_pop(rows)) != NULL;)
        px_row_unref(&row);
    lt_vec_fini(rows);
}

void px_table_fini_snapshots(struct px_table *table)
{
    drop_rows(&table->stale_clusters);
    drop_rows(&table->stale_routes);
    px_index_unref(&table->cluster_names);
    px_shelf_fini(&table->clusters);
    px_shelf_fini(&table->routes);
    px_shelf_fini(&table->listeners);
    drop_tls_set(&table->tls);
}
