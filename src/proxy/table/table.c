/*
 * proxy/table/table.c - resources by kind and name, what they need, warming. Snapshots: snapshot.c.
 * Start at: px_table_take() and settle().
 */
#include <stdlib.h>

#include "proxy/table/roster.h"
#include "proxy/table/table_priv.h"
#include "proxy/table/vhosts.h"

struct px_table *px_table_new(void)
{
    struct px_table *table = lt_new(struct px_table);
    table->slots = px_tls_slots_new();
    table->rows = px_tls_slots_rows(table->slots);
    table->is_dirty = true;
    px_table_init_snapshots(table);
    return table;
}

struct px_rows *px_table_rows(const struct px_table *table)
{
    return table->rows;
}

struct px_tls_slots *px_table_slots(const struct px_table *table)
{
    return table->slots;
}

void px_table_set_static(struct px_table *table, bool is_static)
{
    table->is_static = is_static;
}

/* --- what is wanted --- */

static void wish(struct px_table *table, struct px_row *row)
{
    if (row->is_wished)
        return;
    row->is_wished = true;
    lt_vec_push(&table->wishes, px_row_ref(row));
}

void px_table_want(struct px_table *table, struct px_row *row)
{
    if (row->wanted++ == 0)
        wish(table, row);
}

void px_table_unwant(struct px_table *table, struct px_row *row)
{
    if (--row->wanted == 0)
        wish(table, row);
}

static void want_needs(struct px_table *table, const struct px_resource *resource)
{
    for (uint16_t i = 0; i < resource->need_count; i++)
        px_table_want(table, resource->needs[i]);
}

static void unwant_needs(struct px_table *table, const struct px_resource *resource)
{
    for (uint16_t i = 0; resource != NULL && i < resource->need_count; i++)
        px_table_unwant(table, resource->needs[i]);
}

struct px_row *px_table_next_wish(struct px_table *table)
{
    if (table->wish_at == table->wishes.count) {
        lt_vec_fini(&table->wishes);
        table->wish_at = 0;
        return NULL;
    }
    struct px_row *row = table->wishes.items[table->wish_at++];
    row->is_wished = false;
    return row;
}

/* --- what a resource waits for --- */

const struct px_endpoints_conf *px_table_endpoints(const struct px_table *table LT_UNUSED,
                                                   const struct px_cluster_conf *cluster)
{
    return cluster->eds_row == NULL ? cluster->inline_endpoints
                                    : (const struct px_endpoints_conf *)cluster->eds_row->serving;
}

const struct px_endpoints_conf *px_table_members(const struct px_table *table,
                                                 const struct px_cluster_conf *cluster)
{
    const struct px_endpoints_conf *endpoints = px_table_endpoints(table, cluster);
    struct px_roster *roster = table->keeper.ctx == NULL
                                   ? NULL
                                   : table->keeper.roster(table->keeper.ctx, cluster, endpoints);
    return roster != NULL ? px_roster_endpoints(roster) : endpoints;
}

static bool has_needs(const struct px_resource *resource)
{
    for (uint16_t i = 0; i < resource->hard_need_count; i++) {
        if (resource->needs[i]->serving == NULL && !resource->needs[i]->gave_up)
            return false;
    }
    return true;
}

static bool is_ready(const struct px_table *table, const struct px_resource *resource)
{
    if (!has_needs(resource))
        return false;
    if (resource->kind != PX_CLUSTER || table->keeper.ctx == NULL)
        return true;
    const struct px_cluster_conf *cluster = (const struct px_cluster_conf *)resource;
    return table->keeper.is_ready(table->keeper.ctx, cluster, px_table_endpoints(table, cluster));
}

static void leave_warming(struct px_table *table, struct px_row *row)
{
    if (!row->is_warming)
        return;
    lt_vec_swap_remove(&table->warming, row->warming_at);
    if (row->warming_at < table->warming.count)
        ((struct px_row *)table->warming.items[row->warming_at])->warming_at = row->warming_at;
    table->warming_count[row->kind]--;
    row->is_warming = false;
}

static void enter_warming(struct px_table *table, struct px_row *row)
{
    if (row->is_warming)
        return;
    row->warming_at = (uint32_t)table->warming.count;
    lt_vec_push(&table->warming, row);
    table->warming_count[row->kind]++;
    row->is_warming = true;
}

static void promote(struct px_table *table, struct px_row *row)
{
    struct px_resource *old = row->serving;
    row->serving = row->warming;
    row->warming = NULL;
    row->gave_up = false;
    row->changes++;
    leave_warming(table, row);
    px_table_note_serving(table, row, old);
    unwant_needs(table, old);
    px_resource_unref(&old);
}

static void try_promote(struct px_table *table, struct px_row *row)
{
    if (row->warming != NULL && is_ready(table, row->warming))
        promote(table, row);
}

static bool needs(const struct px_resource *resource, const struct px_row *row)
{
    for (uint16_t i = 0; i < resource->need_count; i++) {
        if (resource->needs[i] == row)
            return true;
    }
    return false;
}

/*
 * What arrived may be what others waited for. Thousands of assignments may come, each for the
 * cluster of its name alone: those that wait are looked through only when it isn't so.
 */
static void settle_needers(struct px_table *table, const struct px_row *arrived)
{
    if (arrived->wanted == 0)
        return;
    if (arrived->kind == PX_ENDPOINTS && arrived->wanted == 1) {
        struct px_row *namesake = px_row_find(table->rows, PX_CLUSTER, arrived->key);
        if (namesake != NULL && namesake->warming != NULL && needs(namesake->warming, arrived)) {
            try_promote(table, namesake);
            return;
        }
    }
    for (size_t i = table->warming.count; i-- > 0;) {
        struct px_row *row = i < table->warming.count ? table->warming.items[i] : NULL;
        if (row == NULL || !needs(row->warming, arrived))
            continue; /* the last takes the place of one that goes */
        try_promote(table, row);
        if (row->kind == PX_ROUTES && row->warming == NULL)
            settle_needers(table, row); /* listeners, of routes that waited for virtual hosts */
    }
}

static void remake_listeners(struct px_table *table, const struct px_row *extension);

static void settle(struct px_table *table, struct px_row *row)
{
    bool may_be_another = row->kind == PX_EXTENSION && row->warming != NULL;
    try_promote(table, row);
    if (may_be_another)
        remake_listeners(table, row);
    if (row->serving != NULL || row->gave_up)
        settle_needers(table, row);
}

/* --- changes --- */

static void forget_row(struct px_table *table, struct px_row *row)
{
    struct px_resource *serving = row->serving, *warming = row->warming;
    bool was_held = serving != NULL || warming != NULL;
    row->serving = row->warming = NULL;
    leave_warming(table, row);
    if (serving != NULL)
        px_table_note_serving(table, row, serving);
    unwant_needs(table, serving);
    unwant_needs(table, warming);
    px_resource_unref(&serving);
    px_resource_unref(&warming);
    row->is_static = false;
    if (!was_held)
        return;
    table->held[row->kind]--;
    px_row_unref(&row);
}

static void set_warming(struct px_table *table, struct px_row *row, struct px_resource *resource)
{
    struct px_resource *old = row->warming;
    if (row->serving == NULL && old == NULL) {
        table->held[row->kind]++;
        px_row_ref(row);
    }
    row->warming = resource;
    want_needs(table, resource);
    unwant_needs(table, old);
    px_resource_unref(&old);
    enter_warming(table, row);
}

static bool is_same(const struct px_resource *held, lt_str bytes, uint64_t hash)
{
    return held != NULL && held->hash == hash && held->wire_len == bytes.len;
}

/* The version alone is another: the control plane counts anew, nothing else. */
static void note_version(const struct px_table *table, struct px_resource *held, lt_str version)
{
    if (lt_str_eq(px_resource_version(held), version))
        return;
    lt_bytes_unref(&held->version);
    held->version = px_version_make(table->slots, version);
}

/* The message is kept until the store has it. */
static void keep_wire(struct px_resource *resource, lt_str bytes)
{
    if (resource->kind == PX_SECRET)
        return; /* dumps show it redacted, and what is not there cannot leak */
    resource->wire = lt_malloc(bytes.len + 1);
    memcpy(resource->wire, bytes.ptr, bytes.len);
}

static lt_rc check_name(const struct px_compile *what, const struct px_resource *resource,
                        struct lt_err *err)
{
    bool is_named = what->kind == PX_ENDPOINTS || what->kind == PX_ROUTES ||
                    what->kind == PX_SECRET;
    if (!is_named || what->name.len == 0 || lt_str_eq(what->name, resource->name))
        return LT_OK;
    return lt_err_set(err, LT_E_BAD, "unexpected %s '%.*s', expected '%.*s'",
                      px_resource_kind_name(what->kind), LT_STR_ARG(resource->name),
                      LT_STR_ARG(what->name));
}

static lt_rc take(struct px_table *table, const struct px_compile *what,
                  struct px_resource *resource, struct lt_err *err)
{
    LT_TRY(check_name(what, resource, err));
    if (what->kind == PX_VHOST && what->source != NULL)
        LT_TRY(px_vhost_check(table->rows, &table->routes, what->source,
                              (const struct px_vhost_conf *)resource, err));
    struct px_row *row = px_row_get(table->rows, what->kind, what->source, resource->name);
    if (row == NULL)
        return lt_err_set(err, LT_E_LIMIT, "more than %d names are in use", PX_ROWS_MAX);
    bool is_guarded = row->is_static && !table->is_static;
    if (is_guarded) {
        px_row_unref(&row);
        return lt_err_set(err, LT_E_EXISTS, "%s '%.*s' is defined statically in the bootstrap",
                          px_resource_kind_name(what->kind), LT_STR_ARG(resource->name));
    }
    const struct px_resource *newest = row->warming != NULL ? row->warming : row->serving;
    if (!is_same(newest, what->bytes, resource->hash)) { /* the name came with the message alone */
        keep_wire(resource, what->bytes);
        row->is_static = table->is_static;
        set_warming(table, row, px_resource_ref(resource));
        settle(table, row);
    }
    px_row_unref(&row);
    return LT_OK;
}

lt_rc px_table_take(struct px_table *table, const struct px_compile *what, struct lt_err *err)
{
    uint64_t hash = lt_hash64(what->bytes.ptr, what->bytes.len, 0);
    const struct px_row *row = what->name.len == 0 ? NULL
                                                   : px_row_look_up(table->rows, what->kind,
                                                                    what->source, what->name);
    struct px_resource *newest = row == NULL            ? NULL
                                 : row->warming != NULL ? row->warming
                                                        : row->serving;
    if (is_same(newest, what->bytes, hash)) {
        note_version(table, newest, what->version);
        return LT_OK;
    }
    struct px_resource *resource = NULL;
    LT_TRY(px_compile(what, table->slots, &resource, err));
    lt_rc rc = take(table, what, resource, err);
    px_resource_unref(&resource);
    return rc;
}

/* --- extensions --- */

/* The same message, compiled with what the rows that it names have now. */
static void remake(struct px_table *table, struct px_row *row, struct px_resource *newest)
{
    struct px_resource *made = NULL;
    struct lt_err err = {0}; /* each part was good by itself */
    const struct px_compile what = {.kind = (px_resource_kind)row->kind,
                                    .name = px_row_name(row),
                                    .version = px_resource_version(newest),
                                    .bytes = lt_str_make(newest->wire, newest->wire_len),
                                    .source = px_source_at(table->rows->sources, row->source),
                                    .now_ns = newest->updated_ns};
    if (newest->wire == NULL || px_compile(&what, table->slots, &made, &err) != LT_OK)
        return;
    keep_wire(made, what.bytes);
    set_warming(table, row, made);
    settle(table, row);
}

static void remake_listeners(struct px_table *table, const struct px_row *extension)
{
    const struct px_row_set *set = px_row_set(table->rows, PX_LISTENER);
    for (uint32_t i = 0; i < set->slot_count; i++) {
        struct px_row *row = set->by_slot[i];
        struct px_resource *newest = row == NULL            ? NULL
                                     : row->warming != NULL ? row->warming
                                                            : row->serving;
        if (newest == NULL || !needs(newest, extension))
            continue;
        newest = px_resource_ref(newest); /* the message is read while it is replaced */
        remake(table, row, newest);
        px_resource_unref(&newest);
    }
}

lt_rc px_table_put(struct px_table *table, px_resource_kind kind, lt_str name, lt_str version,
                   lt_str bytes, struct lt_err *err)
{
    const struct px_sources *sources = table->rows->sources;
    const struct px_compile what = {.kind = kind,
                                    .name = name,
                                    .version = version,
                                    .bytes = bytes,
                                    .source = table->is_static ? px_source_bootstrap(sources)
                                                               : px_source_ads(sources)};
    return px_table_take(table, &what, err);
}

void px_table_drop(struct px_table *table, struct px_row *row)
{
    if (row->is_static && !table->is_static)
        return;
    if (row->kind == PX_CLUSTER && table->keeper.ctx != NULL && px_row_any(row) != NULL)
        table->keeper.on_gone(table->keeper.ctx, row->key);
    forget_row(table, row);
}

void px_table_remove(struct px_table *table, px_resource_kind kind, lt_str name)
{
    struct px_row *row = px_row_look_up(table->rows, kind, px_source_ads(table->rows->sources),
                                        name);
    if (row != NULL)
        px_table_drop(table, row);
}

void px_table_give_up(struct px_table *table, struct px_row *row)
{
    if (row->serving != NULL || row->gave_up)
        return;
    row->gave_up = true;
    settle_needers(table, row);
}

void px_table_set_keeper(struct px_table *table, const struct px_table_keeper *keeper)
{
    table->keeper = *keeper;
}

void px_table_look_again(struct px_table *table, lt_str cluster)
{
    struct px_row *row = px_row_find(table->rows, PX_CLUSTER, cluster);
    if (row == NULL)
        return;
    try_promote(table, row);
    px_table_note_cluster(table, row);
}

struct lt_tls_ctx *px_table_tls_ctx(struct px_table *table, const struct px_tls_conf *tls)
{
    struct lt_err bad = {0}; /* the next snapshot says it aloud */
    if (px_tls_slots_ctx(table->slots, tls->ctx_slot) == NULL) {
        px_tls_slots_refresh(table->slots, &bad);
        px_tls_slots_mark(table->slots); /* and takes the context into its set */
    }
    return px_tls_slots_ctx(table->slots, tls->ctx_slot);
}

void px_table_free(struct px_table **pointer)
{
    struct px_table *table = *pointer;
    *pointer = NULL;
    if (table == NULL)
        return;
    table->keeper = (struct px_table_keeper){0};
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++) {
        const struct px_row_set *set = px_row_set(table->rows, (px_resource_kind)kind);
        for (uint32_t i = 0; i < set->slot_count; i++) {
            if (set->by_slot[i] != NULL)
                forget_row(table, set->by_slot[i]);
        }
    }
    px_table_fini_snapshots(table);
    for (struct px_row *row; (row = px_table_next_wish(table)) != NULL;)
        px_row_unref(&row);
    lt_vec_fini(&table->warming);
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++)
        lt_bytes_unref(&table->versions[kind]);
    px_tls_slots_free(&table->slots);
    free(table);
}

/* --- questions --- */

const struct px_resource *px_table_find(const struct px_table *table, px_resource_kind kind,
                                        lt_str key)
{
    const struct px_row *row = px_row_find(table->rows, kind, key);
    return row == NULL ? NULL : px_row_any(row);
}

bool px_table_is_warm(const struct px_table *table, px_resource_kind kind, lt_str key)
{
    const struct px_row *row = px_row_find(table->rows, kind, key);
    return row != NULL && row->serving != NULL && row->warming == NULL;
}

bool px_table_all_warm(const struct px_table *table, px_resource_kind kind)
{
    return table->warming_count[kind] == 0;
}

uint64_t px_table_changes(const struct px_table *table LT_UNUSED,
                          const struct px_cluster_conf *cluster)
{
    return cluster->eds_row != NULL ? cluster->eds_row->changes : 1;
}

size_t px_table_count(const struct px_table *table, px_resource_kind kind)
{
    return table->held[kind];
}

void px_table_set_version(struct px_table *table, px_resource_kind kind, lt_str version)
{
    lt_bytes_unref(&table->versions[kind]);
    table->versions[kind] = version.len > 0 ? lt_bytes_new(version) : NULL;
}

lt_str px_table_version(const struct px_table *table, px_resource_kind kind)
{
    const struct lt_bytes *version = table->versions[kind];
    return version != NULL ? lt_bytes_str(version) : LT_STR_NULL;
}

bool px_table_is_dirty(const struct px_table *table)
{
    return table->is_dirty;
}

void px_table_each(const struct px_table *table, px_resource_kind kind, px_resource_fn *visit,
                   void *ctx)
{
    const struct px_row_set *set = px_row_set(table->rows, kind);
    for (uint32_t i = 0; i < set->slot_count; i++) {
        const struct px_row *row = set->by_slot[i];
        if (row != NULL && px_row_any(row) != NULL)
            visit(ctx, row->serving, row->warming, row->is_static);
    }
}

void px_table_each_tls(const struct px_table *table, px_tls_certs_fn *visit, void *ctx)
{
    for (uint32_t slot = 0; slot < px_tls_slots_count(table->slots); slot++) {
        struct px_tls_certs certs = px_tls_slots_certs(table->slots, slot);
        if (certs.count + certs.ca_pem.len > 0)
            visit(ctx, &certs);
    }
}
