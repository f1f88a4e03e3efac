/*
 * proxy/table/table_priv.h - private to table.c and snapshot.c: what a table is made of.
 */
#ifndef LT_PROXY_TABLE_TABLE_PRIV_H
#define LT_PROXY_TABLE_TABLE_PRIV_H

#include "base/vec.h"
#include "proxy/compile/row.h"
#include "proxy/table/table.h"

struct px_table {
    struct px_tls_slots *slots;       /* owned */
    struct px_rows *rows;             /* of slots */
    struct lt_vec warming;            /* of struct px_row: those with is_warming */
    struct lt_vec wishes;             /* of struct px_row, counted: those with is_wished */
    size_t wish_at;                   /* those before it were taken */
    uint32_t held[PX_RESOURCE_KINDS]; /* rows that serve or warm */
    uint32_t warming_count[PX_RESOURCE_KINDS];
    struct lt_bytes *versions[PX_RESOURCE_KINDS]; /* counted; of the last good update; NULL: none */
    struct px_table_keeper keeper;
    bool is_static;
    bool is_dirty;

    /* the next snapshot, but for rosters and contexts */
    uint64_t generation;
    struct px_shelf clusters, routes, listeners;
    struct px_index *cluster_names;
    struct px_tls_set *tls;
    /* of struct px_row, counted: entries to be made again */
    struct lt_vec stale_clusters, stale_routes;
};

/* --- snapshot.c --- */
void px_table_init_snapshots(struct px_table *table);
void px_table_fini_snapshots(struct px_table *table);
/* row->serving is another than before (the one before may be gone), or is NULL. */
void px_table_note_serving(struct px_table *table, struct px_row *row,
                           const struct px_resource *before);
/* The cluster's endpoints or roster may be others. */
void px_table_note_cluster(struct px_table *table, struct px_row *row);

#endif
