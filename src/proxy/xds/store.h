/*
 * proxy/xds/store.h - the last good resources on disk: a log of what was taken and what went, read
 * back at the next start. A record is believed when its hash fits; what is behind a bad one is not.
 * Secrets and private keys never come here. Main thread only.
 * Not here: what is written and what is done with it (feeds_store.c).
 */
#ifndef LT_PROXY_XDS_STORE_H
#define LT_PROXY_XDS_STORE_H

#include "base/buf.h"
#include "net/loop.h"
#include "proxy/conf/resource.h"

/* --- the form of a record; no I/O --- */

typedef enum {
    PX_STORE_PUT,    /* a resource was taken */
    PX_STORE_REMOVE, /* it has gone */
    PX_STORE_STATE,  /* the set of this kind has come whole, at least once */
    PX_STORE_EXTRA,  /* a message that is not of the table; name: its type */
    PX_STORE_OPS,
} px_store_op;

struct px_store_record {
    px_store_op op;
    px_resource_kind kind;
    int64_t at_ns; /* wall clock: when it came */
    lt_str source; /* px_source.text */
    lt_str name, version, bytes;
};

void px_store_write(struct lt_buf *out, const struct px_store_record *record);
/*
 * Takes one off the front of *rest. LT_AGAIN: there is no more; LT_E_BAD: what is left is torn or
 * spoilt, *rest begins with it.
 */
LT_MUST lt_rc px_store_read(lt_str *rest, struct px_store_record *ret_record);

/* --- the file --- */

struct px_store;

struct px_store_opts {
    struct lt_loop *loop; /* borrowed, as all here */
    const struct lt_env *env;
    lt_str directory;
    lt_str identity; /* whose resources: those of somebody else are thrown away */
    /* Everything that is there now, by px_store_write. */
    void (*write_all)(void *ctx, struct lt_buf *out);
    void *ctx;
};

/*
 * What the file has goes to visit, in the order in which it came; then it is written to. Another
 * process may hold it (an old one that drains): then it is read, and taken over when that one ends.
 */
typedef void px_store_visit_fn(void *ctx, const struct px_store_record *record);
struct px_store *px_store_open(const struct px_store_opts *opts, px_store_visit_fn *visit);
/* What was noted is written first. Accepts NULL. */
void px_store_close(struct px_store **store);
/* Written at the end of the turn. */
void px_store_note(struct px_store *store, const struct px_store_record *record);

#endif
