/*
 * proxy/table.c - resources by kind and name, warming, snapshots.
 * Start at: px_table_put() and settle().
 */
#include "proxy/table.h"

#include <stdlib.h>

#include "proxy/roster.h"

/* One name. Both pointers are counted; a resource that warms has not been seen by any worker. */
struct row {
    struct px_resource *serving;
    struct px_resource *warming;
    bool is_static;
    uint32_t changes; /* of endpoints */
};

struct px_table {
    struct lt_map rows
        [PX_RESOURCE_KINDS]; /* name -> struct row, owned; the key is the row's resource's name */
    struct lt_map secrets;   /* name -> const struct px_secret_conf, those that serve */
    struct px_tls_slots *slots;
    struct px_table_keeper keeper; /* ctx NULL: none */
    bool has_aliases;              /* some cluster's endpoints have another name than the cluster */
    uint64_t generation;
    bool is_dirty;
    bool is_static;
};

/* A snapshot with what it counts. */
struct box {
    struct px_snapshot snapshot;
    struct px_resource **resources; /* counted */
    size_t resource_count;
    struct px_roster **rosters; /* counted */
    size_t roster_count;
};

struct px_table *px_table_new(void)
{
    struct px_table *table = lt_new(struct px_table);
    table->slots = px_tls_slots_new();
    table->is_dirty = true;
    return table;
}

static void free_row(struct row *row)
{
    px_resource_unref(&row->serving);
    px_resource_unref(&row->warming);
    free(row);
}

void px_table_free(struct px_table **table)
{
    if (*table == NULL)
        return;
    lt_map_fini(&(*table)->secrets);
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        struct lt_map *rows = &(*table)->rows[kind];
        for (size_t i = 0; i < rows->count; i++)
            free_row(rows->entries[i].value);
        lt_map_fini(rows);
    }
    px_tls_slots_free(&(*table)->slots);
    free(*table);
    *table = NULL;
}

void px_table_set_static(struct px_table *table, bool is_static)
{
    table->is_static = is_static;
}

/* --- what a resource waits for --- */

static bool tls_is_ready(const struct px_table *table, const struct px_tls_conf *tls)
{
    return tls == NULL || !px_tls_slots_waits(table->slots, tls->ctx_slot, &table->secrets);
}

static bool cluster_is_ready(const struct px_table *table, const struct px_cluster_conf *cluster)
{
    for (size_t i = 0; i < cluster->transport_count; i++) {
        if (!tls_is_ready(table, cluster->transports[i].tls))
            return false;
    }
    if (cluster->discovery == PX_DISCOVERY_EDS &&
        lt_map_find(&table->rows[PX_ENDPOINTS], cluster->eds_service_name) == NULL)
        return false;
    return table->keeper.ctx == NULL ||
           table->keeper.is_ready(table->keeper.ctx, cluster, px_table_endpoints(table, cluster));
}

static bool chain_is_ready(const struct px_table *table, const struct px_chain *chain)
{
    if (!tls_is_ready(table, chain->tls))
        return false;
    return chain->hcm == NULL || chain->hcm->route_config_name.len == 0 ||
           lt_map_find(&table->rows[PX_ROUTES], chain->hcm->route_config_name) != NULL;
}

static bool listener_is_ready(const struct px_table *table, const struct px_listener_conf *listener)
{
    for (size_t i = 0; i < listener->chain_count; i++) {
        if (!chain_is_ready(table, &listener->chains[i]))
            return false;
    }
    return listener->default_chain == NULL || chain_is_ready(table, listener->default_chain);
}

static bool is_ready(const struct px_table *table, const struct px_resource *resource)
{
    switch (resource->kind) {
    case PX_CLUSTER: return cluster_is_ready(table, (const struct px_cluster_conf *)resource);
    case PX_LISTENER: return listener_is_ready(table, (const struct px_listener_conf *)resource);
    default: return true;
    }
}

/*
 * The key of a map entry must live as long as the entry: it is the name of the resource that the
 * row keeps.
 */
static void rekey(struct px_table *table, px_resource_kind kind, struct row *row)
{
    const struct px_resource *kept = row->serving != NULL ? row->serving : row->warming;
    lt_map_put(&table->rows[kind], kept->name, row);
}

static void promote(struct px_table *table, struct row *row)
{
    struct px_resource *old = row->serving;
    px_resource_kind kind = row->warming->kind;
    row->serving = row->warming;
    row->warming = NULL;
    if (kind == PX_ENDPOINTS)
        row->changes += !px_endpoints_eq((const struct px_endpoints_conf *)old,
                                         (const struct px_endpoints_conf *)row->serving);
    rekey(table, kind, row);
    if (kind == PX_SECRET)
        lt_map_put(&table->secrets, row->serving->name, row->serving);
    px_resource_unref(&old);
    table->is_dirty = true;
}

const struct px_endpoints_conf *px_table_endpoints(const struct px_table *table,
                                                   const struct px_cluster_conf *cluster)
{
    if (cluster->discovery != PX_DISCOVERY_EDS)
        return cluster->inline_endpoints;
    const struct row *row = lt_map_find(&table->rows[PX_ENDPOINTS], cluster->eds_service_name);
    return row != NULL ? (const struct px_endpoints_conf *)row->serving : NULL;
}

static void settle_kind(struct px_table *table, px_resource_kind kind)
{
    struct lt_map *rows = &table->rows[kind];
    for (size_t i = 0; i < rows->count; i++) {
        struct row *row = rows->entries[i].value;
        if (row->warming != NULL && is_ready(table, row->warming))
            promote(table, row);
    }
}

/* Thousands of assignments may come, each for the cluster of its name. */
static void settle_clusters_of(struct px_table *table, lt_str assignment)
{
    struct row *row = lt_map_find(&table->rows[PX_CLUSTER], assignment);
    if (row != NULL && row->warming != NULL && is_ready(table, row->warming))
        promote(table, row);
    if (table->has_aliases)
        settle_kind(table, PX_CLUSTER);
}

static void note_alias(struct px_table *table, const struct px_resource *resource)
{
    const struct px_cluster_conf *cluster = (const struct px_cluster_conf *)resource;
    if (resource->kind == PX_CLUSTER && cluster->discovery == PX_DISCOVERY_EDS &&
        !lt_str_eq(cluster->eds_service_name, resource->name))
        table->has_aliases = true;
}

/*
 * What arrived may be what others waited for: secrets and endpoints first, then clusters, routes,
 * listeners.
 */
static void settle(struct px_table *table, px_resource_kind arrived, struct row *row)
{
    note_alias(table, row->warming);
    if (is_ready(table, row->warming))
        promote(table, row);
    if (arrived == PX_SECRET)
        settle_kind(table, PX_CLUSTER);
    if (arrived == PX_ENDPOINTS)
        settle_clusters_of(table, row->serving->name);
    if (arrived == PX_SECRET || arrived == PX_ROUTES)
        settle_kind(table, PX_LISTENER);
}

/* --- changes --- */

static lt_rc put_row(struct px_table *table, struct px_resource *resource, struct lt_err *err)
{
    struct row *row = lt_map_find(&table->rows[resource->kind], resource->name);
    if (row != NULL && row->is_static && !table->is_static)
        return lt_err_set(err, LT_E_EXISTS, "%s '%.*s' is defined statically in the bootstrap",
                          px_resource_kind_name(resource->kind), LT_STR_ARG(resource->name));
    if (row == NULL) {
        row = lt_new(struct row);
        row->is_static = table->is_static;
    }
    struct px_resource *old = row->warming;
    row->warming = px_resource_ref(resource);
    rekey(table, resource->kind, row);
    px_resource_unref(&old);
    settle(table, resource->kind, row);
    return LT_OK;
}

static bool is_same(const struct px_resource *held, lt_str bytes, uint64_t hash)
{
    if (held == NULL || held->hash != hash)
        return false;
    /*
     * a secret keeps no bytes; 64 bits against chance are enough, nobody gains from a collision
     * with itself
     */
    return held->kind == PX_SECRET || lt_str_eq(held->wire, bytes);
}

lt_rc px_table_put(struct px_table *table, px_resource_kind kind, lt_str name, lt_str version,
                   lt_str bytes, struct lt_err *err)
{
    uint64_t hash = lt_hash64(bytes.ptr, bytes.len, 0);
    const struct row *row = name.len > 0 ? lt_map_find(&table->rows[kind], name) : NULL;
    if (row != NULL && is_same(row->warming != NULL ? row->warming : row->serving, bytes, hash))
        return LT_OK;
    struct px_resource *resource = NULL;
    LT_TRY(px_conf_compile(kind, name, version, bytes, table->slots, &resource, err));
    lt_rc rc = put_row(table, resource, err);
    px_resource_unref(&resource);
    return rc;
}

void px_table_remove(struct px_table *table, px_resource_kind kind, lt_str name)
{
    struct row *row = lt_map_find(&table->rows[kind], name);
    if (row == NULL || (row->is_static && !table->is_static))
        return;
    if (kind == PX_SECRET)
        lt_map_remove(&table->secrets, name);
    lt_map_remove(&table->rows[kind], name);
    if (kind == PX_CLUSTER && table->keeper.ctx != NULL)
        table->keeper.on_gone(table->keeper.ctx, name);
    free_row(row);
    table->is_dirty = true;
}

void px_table_set_keeper(struct px_table *table, const struct px_table_keeper *keeper)
{
    table->keeper = *keeper;
}

void px_table_look_again(struct px_table *table)
{
    settle_kind(table, PX_CLUSTER);
    table->is_dirty = true;
}

struct lt_tls_ctx *px_table_tls_ctx(struct px_table *table, const struct px_tls_conf *tls)
{
    struct lt_err bad = {0}; /* the next snapshot says it aloud */
    if (px_tls_slots_ctx(table->slots, tls->ctx_slot) == NULL)
        px_tls_slots_refresh(table->slots, &table->secrets, &bad);
    return px_tls_slots_ctx(table->slots, tls->ctx_slot);
}

/* --- questions --- */

const struct px_resource *px_table_find(const struct px_table *table, px_resource_kind kind,
                                        lt_str name)
{
    const struct row *row = lt_map_find(&table->rows[kind], name);
    if (row == NULL)
        return NULL;
    return row->serving != NULL ? row->serving : row->warming;
}

bool px_table_is_warm(const struct px_table *table, px_resource_kind kind, lt_str name)
{
    const struct row *row = lt_map_find(&table->rows[kind], name);
    return row != NULL && row->warming == NULL;
}

bool px_table_all_warm(const struct px_table *table, px_resource_kind kind)
{
    const struct lt_map *rows = &table->rows[kind];
    for (size_t i = 0; i < rows->count; i++) {
        if (((const struct row *)rows->entries[i].value)->warming != NULL)
            return false;
    }
    return true;
}

uint64_t px_table_changes(const struct px_table *table, const struct px_cluster_conf *cluster)
{
    const struct row *row = cluster->discovery == PX_DISCOVERY_EDS
                                ? lt_map_find(&table->rows[PX_ENDPOINTS], cluster->eds_service_name)
                                : NULL;
    return row != NULL ? row->changes : 1;
}

size_t px_table_count(const struct px_table *table, px_resource_kind kind)
{
    return table->rows[kind].count;
}

bool px_table_is_dirty(const struct px_table *table)
{
    return table->is_dirty;
}

struct visitor {
    px_resource_kind kind;
    px_name_fn *visit;
    void *ctx;
    bool *slots_used; /* not NULL: marks the TLS slots, and visits nothing */
};

static void visit_tls(const struct visitor *visitor, const struct px_tls_conf *tls)
{
    if (tls != NULL && visitor->slots_used != NULL)
        visitor->slots_used[tls->ctx_slot] = true;
    if (tls == NULL || visitor->slots_used != NULL || visitor->kind != PX_SECRET)
        return;
    if (tls->cert_secret.len > 0)
        visitor->visit(visitor->ctx, tls->cert_secret);
    if (tls->validation_secret.len > 0)
        visitor->visit(visitor->ctx, tls->validation_secret);
}

static void visit_cluster(const struct visitor *visitor, const struct px_cluster_conf *cluster)
{
    if (visitor->kind == PX_ENDPOINTS && cluster->discovery == PX_DISCOVERY_EDS)
        visitor->visit(visitor->ctx, cluster->eds_service_name);
    for (size_t i = 0; i < cluster->transport_count; i++)
        visit_tls(visitor, cluster->transports[i].tls);
}

static void visit_chain(const struct visitor *visitor, const struct px_chain *chain)
{
    if (chain == NULL)
        return;
    if (visitor->kind == PX_ROUTES && chain->hcm != NULL && chain->hcm->route_config_name.len > 0)
        visitor->visit(visitor->ctx, chain->hcm->route_config_name);
    visit_tls(visitor, chain->tls);
}

static void visit_resource(const struct visitor *visitor, const struct px_resource *resource)
{
    if (resource == NULL)
        return;
    if (resource->kind == PX_CLUSTER) {
        visit_cluster(visitor, (const struct px_cluster_conf *)resource);
    } else if (resource->kind == PX_LISTENER) {
        const struct px_listener_conf *listener = (const struct px_listener_conf *)resource;
        for (size_t i = 0; i < listener->chain_count; i++)
            visit_chain(visitor, &listener->chains[i]);
        visit_chain(visitor, listener->default_chain);
    }
}

static const px_resource_kind referring[] = {PX_CLUSTER, PX_LISTENER};

void px_table_each_wanted(const struct px_table *table, px_resource_kind kind, px_name_fn *visit,
                          void *ctx)
{
    const struct visitor visitor = {kind, visit, ctx, NULL};
    for (size_t k = 0; k < LT_ARRAY_LEN(referring); k++) {
        const struct lt_map *rows = &table->rows[referring[k]];
        for (size_t i = 0; i < rows->count; i++) {
            const struct row *row = rows->entries[i].value;
            visit_resource(&visitor, row->serving);
            visit_resource(&visitor, row->warming);
        }
    }
}

void px_table_each_tls(const struct px_table *table, px_tls_certs_fn *visit, void *ctx)
{
    size_t count = px_tls_slots_count(table->slots);
    const struct visitor visitor = {.kind = PX_SECRET,
                                    .slots_used = lt_calloc(count + 1, sizeof(bool))};
    for (size_t k = 0; k < LT_ARRAY_LEN(referring); k++) {
        const struct lt_map *rows = &table->rows[referring[k]];
        for (size_t i = 0; i < rows->count; i++)
            visit_resource(&visitor, ((const struct row *)rows->entries[i].value)->serving);
    }
    for (size_t slot = 0; slot < count; slot++) {
        struct px_tls_certs certs = px_tls_slots_certs(table->slots, (uint32_t)slot);
        if (visitor.slots_used[slot] && certs.cert_pem.len + certs.ca_pem.len > 0)
            visit(ctx, &certs);
    }
    free(visitor.slots_used);
}

void px_table_each(const struct px_table *table, px_resource_kind kind, px_resource_fn *visit,
                   void *ctx)
{
    const struct lt_map *rows = &table->rows[kind];
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = rows->entries[i].value;
        visit(ctx, row->serving, row->warming, row->is_static);
    }
}

/* --- snapshots --- */

static void keep(struct box *box, struct px_resource *resource)
{
    box->resources[box->resource_count++] = px_resource_ref(resource);
}

static void add_roster(const struct px_table *table, struct box *box,
                       struct px_cluster_entry *entry)
{
    struct px_roster *roster = table->keeper.ctx == NULL
                                   ? NULL
                                   : table->keeper.roster(table->keeper.ctx, entry->conf,
                                                          entry->endpoints);
    if (roster == NULL)
        return;
    box->rosters[box->roster_count++] = px_roster_ref(roster);
    entry->endpoints = px_roster_endpoints(roster);
    entry->state = roster->state;
    entry->host_states = roster->host_states;
}

static void fill_clusters(const struct px_table *table, struct box *box)
{
    const struct lt_map *rows = &table->rows[PX_CLUSTER];
    box->rosters = lt_calloc(rows->count + 1, sizeof(struct px_roster *));
    box->snapshot.entries = lt_calloc(rows->count, sizeof(*box->snapshot.entries));
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = rows->entries[i].value;
        if (row->serving == NULL)
            continue;
        struct px_cluster_entry *entry = &box->snapshot.entries[i];
        entry->conf = (const struct px_cluster_conf *)row->serving;
        entry->endpoints = px_table_endpoints(table, entry->conf);
        keep(box, row->serving);
        add_roster(table, box, entry);
        lt_map_put(&box->snapshot.clusters, entry->conf->res.name, entry);
    }
}

static void fill_rest(const struct px_table *table, struct box *box)
{
    const struct lt_map *rows = &table->rows[PX_ENDPOINTS];
    for (size_t i = 0; i < rows->count; i++)
        keep(box, ((const struct row *)rows->entries[i].value)->serving);
    rows = &table->rows[PX_ROUTES];
    for (size_t i = 0; i < rows->count; i++) {
        struct px_resource *routes = ((const struct row *)rows->entries[i].value)->serving;
        keep(box, routes);
        lt_map_put(&box->snapshot.routes, routes->name, routes);
    }
    rows = &table->rows[PX_LISTENER];
    box->snapshot.listeners = lt_calloc(rows->count, sizeof(struct px_listener_conf *));
    for (size_t i = 0; i < rows->count; i++) {
        struct px_resource *listener = ((const struct row *)rows->entries[i].value)->serving;
        if (listener == NULL)
            continue;
        keep(box, listener);
        box->snapshot.listeners[box->snapshot.listener_count++] =
            (const struct px_listener_conf *)listener;
    }
}

static void fill_tls(const struct px_table *table, struct box *box)
{
    box->snapshot.tls_ctx_count = px_tls_slots_count(table->slots);
    box->snapshot.tls_ctxs = lt_calloc(box->snapshot.tls_ctx_count, sizeof(struct lt_tls_ctx *));
    for (size_t i = 0; i < box->snapshot.tls_ctx_count; i++) {
        struct lt_tls_ctx *ctx = px_tls_slots_ctx(table->slots, (uint32_t)i);
        box->snapshot.tls_ctxs[i] = ctx == NULL ? NULL : lt_tls_ctx_ref(ctx);
    }
}

struct px_snapshot *px_table_snapshot(struct px_table *table, struct lt_err *ret_err)
{
    px_tls_slots_refresh(table->slots, &table->secrets, ret_err);
    size_t total = 0;
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++)
        total += table->rows[kind].count;
    struct box *box = lt_new(struct box);
    box->resources = lt_calloc(total, sizeof(*box->resources));
    box->snapshot.generation = ++table->generation;
    box->snapshot.holders = 1;
    fill_clusters(table, box);
    fill_rest(table, box);
    fill_tls(table, box);
    table->is_dirty = false;
    return &box->snapshot;
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
    struct box *box = LT_CONTAINER_OF(dropped, struct box, snapshot);
    for (size_t i = 0; i < box->resource_count; i++)
        px_resource_unref(&box->resources[i]);
    for (size_t i = 0; i < box->roster_count; i++)
        px_roster_unref(&box->rosters[i]);
    free(box->rosters);
    for (size_t i = 0; i < dropped->tls_ctx_count; i++)
        lt_tls_ctx_unref(&dropped->tls_ctxs[i]);
    lt_map_fini(&dropped->clusters);
    lt_map_fini(&dropped->routes);
    free(dropped->entries);
    free(dropped->listeners);
    free(dropped->tls_ctxs);
    free(box->resources);
    free(box);
}
