/*
 * control/resource.c - types of resources, and immutable sets of them.
 */
#include "control/resource.h"

#include <stdlib.h>

static const struct {
    const char *url;
    const char *name;
} types[CP_TYPE_COUNT] = {
    [CP_TYPE_CDS] = {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "CDS"},
    [CP_TYPE_EDS] = {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "EDS"},
    [CP_TYPE_LDS] = {"type.googleapis.com/envoy.config.listener.v3.Listener", "LDS"},
    [CP_TYPE_RDS] = {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "RDS"},
    [CP_TYPE_NDS] = {"type.googleapis.com/istio.networking.nds.v1.NameTable", "NDS"},
};

const char *cp_type_url(cp_type type)
{
    LT_ASSERT(type < CP_TYPE_COUNT);
    return types[type].url;
}

const char *cp_type_name(cp_type type)
{
    LT_ASSERT(type < CP_TYPE_COUNT);
    return types[type].name;
}

cp_type cp_type_find(lt_str url)
{
    cp_type type = 0;
    while (type < CP_TYPE_COUNT && !lt_str_eqz(url, types[type].url))
        type++;
    return type;
}

/* ---- sets ---- */

static int cmp_resources(const void *a, const void *b)
{
    return lt_str_cmp(lt_ads_resource_name(*(struct lt_ads_resource *const *)a),
                      lt_ads_resource_name(*(struct lt_ads_resource *const *)b));
}

/* Stable by hand: the first of two with one name must stay the first. */
static void sort_resources(struct lt_ads_resource **items, size_t count)
{
    if (count < 2)
        return;
    size_t half = count / 2, i = 0, j = half, n = 0;
    sort_resources(items, half);
    sort_resources(items + half, count - half);
    struct lt_ads_resource **merged = lt_malloc(count * sizeof(*merged));
    while (i < half || j < count)
        merged[n++] = j == count || (i < half && cmp_resources(&items[i], &items[j]) <= 0)
                          ? items[i++]
                          : items[j++];
    memcpy(items, merged, count * sizeof(*merged));
    free(merged);
}

struct cp_resources *cp_resources_new(cp_type type, struct lt_vec *gathered)
{
    struct cp_resources *set = lt_new(struct cp_resources);
    *set = (struct cp_resources){
        .refs = 1, .type = type, .items = lt_malloc(gathered->count * sizeof(void *) + 1)};
    struct lt_ads_resource **all = (struct lt_ads_resource **)gathered->items;
    sort_resources(all, gathered->count);
    for (size_t i = 0; i < gathered->count; i++) {
        if (set->count > 0 && cmp_resources(&set->items[set->count - 1], &all[i]) == 0)
            lt_ads_resource_unref(&all[i]);
        else
            set->items[set->count++] = all[i];
    }
    lt_vec_fini(gathered);
    return set;
}

struct cp_resources *cp_resources_merge(const struct cp_resources *a, const struct cp_resources *b)
{
    LT_ASSERT(a->type == b->type);
    struct cp_resources *set = lt_new(struct cp_resources);
    *set = (struct cp_resources){
        .refs = 1, .type = a->type, .items = lt_malloc((a->count + b->count) * sizeof(void *) + 1)};
    size_t i = 0, j = 0;
    while (i < a->count || j < b->count) {
        int order = i == a->count   ? 1
                    : j == b->count ? -1
                                    : cmp_resources(&a->items[i], &b->items[j]);
        set->items[set->count++] = lt_ads_resource_ref(order <= 0 ? a->items[i] : b->items[j]);
        i += order <= 0;
        j += order >= 0;
    }
    return set;
}

struct cp_resources *cp_resources_ref(struct cp_resources *resources)
{
    LT_ASSERT(resources->refs > 0);
    resources->refs++;
    return resources;
}

void cp_resources_unref(struct cp_resources **resources)
{
    struct cp_resources *set = *resources;
    *resources = NULL;
    if (set == NULL)
        return;
    LT_ASSERT(set->refs > 0);
    if (--set->refs > 0)
        return;
    for (size_t i = 0; i < set->count; i++)
        lt_ads_resource_unref(&set->items[i]);
    free(set->items);
    free(set);
}

struct lt_ads_resource *cp_resources_find(const struct cp_resources *resources, lt_str name)
{
    size_t low = 0, high = resources->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = lt_str_cmp(lt_ads_resource_name(resources->items[mid]), name);
        if (order == 0)
            return resources->items[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}
