/*
 * control/resource.h - what a proxy is sent: sets of resources (wire/ads.h), each built once and
 * shared by everybody who gets the same. A version is the hash of the bytes, so any replica gives
 * the same version to the same resource, at any time.
 */
#ifndef CP_CONTROL_RESOURCE_H
#define CP_CONTROL_RESOURCE_H

#include "base/vec.h"
#include "wire/ads.h"

typedef enum {
    CP_TYPE_CDS,
    CP_TYPE_EDS,
    CP_TYPE_LDS,
    CP_TYPE_RDS,
    CP_TYPE_NDS, /* one resource without a name: the table of names for DNS */
    CP_TYPE_COUNT
} cp_type;

/* "type.googleapis.com/envoy.config.cluster.v3.Cluster". */
const char *cp_type_url(cp_type type);
/* "CDS". */
const char *cp_type_name(cp_type type);
/* CP_TYPE_COUNT: none of ours. */
cp_type cp_type_find(lt_str url);
/* CDS, LDS and NDS: everything there is; EDS and RDS: what was asked for by name. */
static inline bool cp_type_is_wildcard(cp_type type)
{
    return type == CP_TYPE_CDS || type == CP_TYPE_LDS || type == CP_TYPE_NDS;
}

/* All resources of one type that a class of proxies sees; immutable. */
struct cp_resources {
    unsigned refs;
    cp_type type;
    size_t count;
    struct lt_ads_resource **items; /* counted; sorted by name, each name once */
};

struct cp_resources *cp_resources_ref(struct cp_resources *resources);
void cp_resources_unref(struct cp_resources **resources);
/* NULL when there is none of this name. Borrowed. */
struct lt_ads_resource *cp_resources_find(const struct cp_resources *resources, lt_str name);

/*
 * Takes over the counted resources in `gathered` (empties it); of two with one name the first
 * stays.
 */
struct cp_resources *cp_resources_new(cp_type type, struct lt_vec *gathered);
/* Both sets in one, one count for the caller; what both have is taken from a. */
struct cp_resources *cp_resources_merge(const struct cp_resources *a, const struct cp_resources *b);

#endif
