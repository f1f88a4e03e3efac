/*
 * proxy/compile/row.h - one name of one kind: what is held under it, and who needs it. A row is
 * there as soon as some configuration names it, before the resource has come; it goes when nobody
 * names it and nothing is held. Private to who compiles, keeps and asks for resources (conf_*.c,
 * table.c, feeds); main thread only.
 */
#ifndef LT_PROXY_COMPILE_ROW_H
#define LT_PROXY_COMPILE_ROW_H

#include "base/vec.h"
#include "proxy/conf/resource.h"
#include "proxy/conf/source.h"

enum { PX_ROWS_MAX = 1 << 21 };

/* The last update that was refused; counted. */
struct px_row_error {
    uint32_t refs;
    bool holds_row; /* there would perhaps be no row without it */
    int64_t at_ns;  /* wall clock */
    lt_str version, details;
    lt_str failed; /* the message; empty: it isn't kept */
    char bytes[];
};

struct px_row_error *px_row_error_ref(struct px_row_error *error);
void px_row_error_unref(struct px_row_error **error);

struct px_row {
    struct px_rows *rows; /* borrowed */
    lt_str key;        /* owned, behind the struct; unique in its kind: the name, and the source */
    uint32_t name_len; /* the key begins with the name */
    uint32_t hash;     /* of the key */
    uint32_t slot;     /* in snapshots; stable while the row is there */
    uint32_t refs;     /* resources that name it (any version), held resources, lists, demands */
    uint32_t wanted;   /* resources that serve or warm and name it; demands */
    uint32_t warming_at;  /* in table->warming, with is_warming */
    uint32_t timeout_ms;  /* initial_fetch_timeout; 0: none */
    uint32_t changes;     /* how often something began to serve */
    uint16_t source;      /* id */
    uint8_t kind;         /* px_resource_kind */
    bool is_static : 1;   /* from the bootstrap: no update may touch it */
    bool gave_up : 1;     /* who needs it shall not wait: it took too long, or isn't there */
    bool is_warming : 1;  /* in table->warming */
    bool is_wished : 1;   /* in table->wishes */
    bool is_stale : 1;    /* in table->stale_clusters or _routes */
    bool was_asked : 1;   /* the feeds': subscribed */
    bool is_restored : 1; /* what serves is from the last run, and nobody has confirmed it */
    struct px_resource *serving, *warming; /* counted */
    struct px_row_error *error;            /* counted; NULL: none */
};

/* Of one kind: by slot, and an open-addressing table of slots (+ 1; 0: free) by key. */
struct px_row_set {
    struct px_row **by_slot; /* owned; NULL where there is none */
    uint32_t slot_count, slot_cap;
    uint32_t *cells; /* owned */
    uint32_t cell_cap;
    uint32_t count;
    struct lt_vec free_slots; /* of (void *)(slot + 1) */
};

struct px_rows {
    struct px_sources *sources; /* owned */
    struct px_row_set sets[PX_RESOURCE_KINDS];
    size_t count;
};

struct px_rows *px_rows_new(void);
/* No row may be held any more by a resource. */
void px_rows_free(struct px_rows **rows);

struct px_row *px_row_find(const struct px_rows *rows, px_resource_kind kind, lt_str key);
/* Of a source's name. NULL: there is none. */
struct px_row *px_row_look_up(const struct px_rows *rows, px_resource_kind kind,
                              const struct px_source *source, lt_str name);
/* Finds or makes it; the caller holds it. NULL: PX_ROWS_MAX. */
struct px_row *px_row_get(struct px_rows *rows, px_resource_kind kind,
                          const struct px_source *source, lt_str name);
struct px_row *px_row_ref(struct px_row *row);
void px_row_unref(struct px_row **row);

/* for (uint32_t i = 0; i < set->slot_count; i++) if (set->by_slot[i] != NULL) ... */
static inline const struct px_row_set *px_row_set(const struct px_rows *rows, px_resource_kind kind)
{
    return &rows->sets[kind];
}

static inline lt_str px_row_name(const struct px_row *row)
{
    return lt_str_slice(row->key, 0, row->name_len);
}

/* What a snapshot has, or would have if it were made now; NULL. */
static inline const struct px_resource *px_row_any(const struct px_row *row)
{
    return row->serving != NULL ? row->serving : row->warming;
}

#endif
