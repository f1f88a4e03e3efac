/*
 * proxy/conf/rbac_index.h - private to rbac*.c: which policies a request can match at all. Most
 * policies ask for one of a few paths, principals or namespaces; those are found by hash, and only
 * what is found, and the policies that ask for no such thing, are judged.
 */
#ifndef LT_PROXY_CONF_RBAC_INDEX_H
#define LT_PROXY_CONF_RBAC_INDEX_H

#include "proxy/conf/rbac.h"

enum {
    PX_RBAC_INDEX_MIN = 8,       /* fewer are judged one after the other */
    PX_RBAC_PREFIX_LENGTHS = 16, /* different lengths of path prefixes that are looked up */
};

/* Numbers of policies, ascending. */
struct px_rbac_bucket {
    const uint32_t *items;
    uint32_t count;
};

struct px_rbac_index {
    struct px_rbac_bucket always;
    struct lt_map paths, prefixes, principals, namespaces; /* text -> struct px_rbac_bucket */
    uint32_t lengths[PX_RBAC_PREFIX_LENGTHS];              /* of prefixes */
    size_t length_count;
};

/* For rbac->policies; in arena. The maps' tables are not: they are the caller's to free. */
const struct px_rbac_index *px_rbac_index_make(struct lt_arena *arena, const struct px_rbac *rbac);

/*
 * Judges what the index finds; the number of the first policy that is not NO (or not UNKNOWN, when
 * unknown does not count), or rbac->count.
 */
size_t px_rbac_index_find(const struct px_rbac *rbac, const struct px_rbac_facts *facts,
                          bool unknown_counts);

#endif
