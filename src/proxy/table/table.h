/*
 * proxy/table/table.h - the resources that this proxy holds, which of them serve and which still
 * warm, and the snapshots made of them. Main thread only; what workers see is the px_snapshot.
 *
 * A changed resource replaces its predecessor only when what it needs is here: a cluster its
 * endpoints and secrets, a listener its route configurations and secrets. Until then the
 * predecessor serves (Envoy: warming). Not here: who delivers resources (bootstrap.c, feeds.c, the
 * agent).
 */
#ifndef LT_PROXY_TABLE_TABLE_H
#define LT_PROXY_TABLE_TABLE_H

#include "proxy/compile/compile.h"
#include "proxy/compile/row.h"

struct px_table;

struct px_table *px_table_new(void);
/* No snapshot may be held any more. */
void px_table_free(struct px_table **table);
struct px_rows *px_table_rows(const struct px_table *table);
struct px_tls_slots *px_table_slots(const struct px_table *table);

/*
 * Compiles and takes a resource. Bytes equal to what is held change nothing. LT_E_BAD and
 * LT_E_UNSUPPORTED: refused whole, the predecessor stays. LT_E_EXISTS: it is the bootstrap's.
 */
LT_MUST lt_rc px_table_take(struct px_table *table, const struct px_compile *what,
                            struct lt_err *err);
/* The same, of what comes over ADS, or from the bootstrap while is_static is set. */
LT_MUST lt_rc px_table_put(struct px_table *table, px_resource_kind kind, lt_str name,
                           lt_str version, lt_str bytes, struct lt_err *err);
/*
 * Takes a resource away, serving or warming. Of listeners and clusters the workers drain what is
 * under way.
 */
void px_table_drop(struct px_table *table, struct px_row *row);
/* The same, of what came over ADS, and of any cluster or listener. */
void px_table_remove(struct px_table *table, px_resource_kind kind, lt_str name);
/* Who needs it shall not wait for it any longer. */
void px_table_give_up(struct px_table *table, struct px_row *row);
/* Static ones come from the bootstrap: no update may touch them. What is put while it is on. */
void px_table_set_static(struct px_table *table, bool is_static);

/*
 * Who looks after clusters beside configuration (members.h). Without one, clusters wait for
 * endpoints and secrets alone.
 */
struct px_table_keeper {
    void *ctx;
    /* endpoints: those that the table has for it; NULL: none. True: it may serve. */
    bool (*is_ready)(void *ctx, const struct px_cluster_conf *conf,
                     const struct px_endpoints_conf *endpoints);
    /* Borrowed; NULL: none is needed. */
    struct px_roster *(*roster)(void *ctx, const struct px_cluster_conf *conf,
                                const struct px_endpoints_conf *endpoints);
    void (*on_gone)(void *ctx, lt_str cluster);
};
void px_table_set_keeper(struct px_table *table, const struct px_table_keeper *keeper);
/* The keeper has news of the cluster: it may be ready, or have another roster. */
void px_table_look_again(struct px_table *table, lt_str cluster);
/* The context for it; NULL: a secret is missing. Borrowed. */
struct lt_tls_ctx *px_table_tls_ctx(struct px_table *table, const struct px_tls_conf *tls);
/* Endpoints of a cluster as the control plane or its configuration has them; NULL: none. */
const struct px_endpoints_conf *px_table_endpoints(const struct px_table *table,
                                                   const struct px_cluster_conf *cluster);

/* Those that workers have: names looked up. Of a cluster that serves. */
const struct px_endpoints_conf *px_table_members(const struct px_table *table,
                                                 const struct px_cluster_conf *cluster);

/*
 * Names that some resource has begun to need, or that none needs any more: rows whose `wanted` has
 * become something or nothing since the last time. The caller holds the row. NULL: no more.
 */
struct px_row *px_table_next_wish(struct px_table *table);
/* The row is needed, though no resource names it; or no longer. */
void px_table_want(struct px_table *table, struct px_row *row);
void px_table_unwant(struct px_table *table, struct px_row *row);

/*
 * The serving resource, or the warming one when nothing serves yet; NULL. Borrowed until the next
 * change.
 */
const struct px_resource *px_table_find(const struct px_table *table, px_resource_kind kind,
                                        lt_str key);
/* True when the newest version of it serves. */
bool px_table_is_warm(const struct px_table *table, px_resource_kind kind, lt_str key);
/* True when every resource of the kind serves in its newest version. */
bool px_table_all_warm(const struct px_table *table, px_resource_kind kind);
size_t px_table_count(const struct px_table *table, px_resource_kind kind);

/* For every resource of the kind: the serving one and the warming one, either may be NULL. */
typedef void px_resource_fn(void *ctx, const struct px_resource *serving,
                            const struct px_resource *warming, bool is_static);
void px_table_each(const struct px_table *table, px_resource_kind kind, px_resource_fn *visit,
                   void *ctx);

/*
 * What the TLS contexts of serving clusters and listeners are made of; those that share one come
 * once. Borrowed until the next snapshot.
 */
typedef void px_tls_certs_fn(void *ctx, const struct px_tls_certs *certs);
void px_table_each_tls(const struct px_table *table, px_tls_certs_fn *visit, void *ctx);
/* How often the endpoints of the cluster have become others. */
uint64_t px_table_changes(const struct px_table *table, const struct px_cluster_conf *cluster);

/* What the control plane called its last good update of the kind; empty: nothing. Borrowed. */
void px_table_set_version(struct px_table *table, px_resource_kind kind, lt_str version);
lt_str px_table_version(const struct px_table *table, px_resource_kind kind);

/* True when something changed since the last snapshot. */
bool px_table_is_dirty(const struct px_table *table);
/*
 * A new snapshot of what serves; the caller holds it (holders is 1) and gives it back with
 * px_snapshot_drop. Workers that get it add themselves with px_snapshot_hold. ret_err: a TLS
 * context that could not be made, or "".
 */
struct px_snapshot *px_table_snapshot(struct px_table *table, struct lt_err *ret_err);

#endif
