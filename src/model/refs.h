/*
 * model/refs.h - who is meant: an index over the objects in force by which references are followed.
 * For the rules between objects (check.h) and for the hold (control/hold.h).
 */
#ifndef LT_MODEL_REFS_H
#define LT_MODEL_REFS_H

#include "base/map.h"
#include "base/vec.h"
#include "model/object.h"

struct lt_refs {
    const struct lt_object *const
        *objects; /* borrowed; sorted by key, as from lt_manifests_objects */
    size_t count;
    lt_str domain;          /* "cluster.local" */
    struct lt_arena *arena; /* owned */
    struct lt_map services; /* full host to the Service */
    struct lt_map rules;    /* full host, lower case, to struct lt_vec of DestinationRules; owned */
    struct lt_vec wildcard_rules;
};

void lt_refs_init(struct lt_refs *refs, const struct lt_object *const *objects, size_t count,
                  lt_str domain);
void lt_refs_fini(struct lt_refs *refs);

/* The object, or NULL. */
const struct lt_object *lt_refs_find(const struct lt_refs *refs, const struct lt_object_key *key);
/* Index of the first object of a kind and namespace; the others of them follow. */
size_t lt_refs_begin(const struct lt_refs *refs, lt_kind_id kind, lt_str ns);

/* "reviews" in `ns`, in full; lives in the index. */
lt_str lt_refs_host(struct lt_refs *refs, lt_str host, lt_str ns);
/*
 * Names that our own Services would have; others may be known to somebody else (ServiceEntry is not
 * read yet).
 */
bool lt_refs_is_mesh_host(const struct lt_refs *refs, lt_str host);
/* By full host. NULL when there is none. */
const struct lt_object *lt_refs_service(const struct lt_refs *refs, lt_str host);
/* A DestinationRule for the full host (in any namespace) that has the subset, or NULL. */
const struct lt_object *lt_refs_subset(const struct lt_refs *refs, lt_str host, lt_str subset);
/* Of a Pod, or of the template of a Deployment or Job. */
const struct lt_kvs *lt_refs_pod_labels(const struct lt_object *pod);
const struct lt_pod_spec *lt_refs_pod_spec(const struct lt_object *pod);
typedef bool lt_refs_pod_fn(const struct lt_object *pod, const void *ctx);
/*
 * Some Pod, Deployment or Job of the namespace (NULL: of any) has all of these labels and passes
 * the test (NULL: none). Looks at each of them.
 */
bool lt_refs_has_pod(const struct lt_refs *refs, const lt_str *ns, const struct lt_kvs *labels,
                     lt_refs_pod_fn *test, const void *ctx);
/* Does this DestinationRule have the subset? */
bool lt_rule_defines(const struct lt_object *rule, lt_str subset);

#endif
