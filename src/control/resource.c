/*
 * control/resource.c - counted resources, and the pool that has each of them once.
 */
#include "control/resource.h"

#include <stdio.h>

static const struct {
    const char *url;
    const char *name;
} types[CP_TYPE_COUNT] = {
    [CP_TYPE_CDS] = {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "CDS"},
    [CP_TYPE_EDS] = {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "EDS"},
    [CP_TYPE_LDS] = {"type.googleapis.com/envoy.config.listener.v3.Listener", "LDS"},
    [CP_TYPE_RDS] = {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "RDS"},
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

/* ---- one ---- */

struct cp_resource *cp_resource_ref(struct cp_resource *resource)
{
    LT_ASSERT(resource->refs > 0);
    resource->refs++;
    return resource;
}

void cp_resource_unref(struct cp_resource **resource)
{
    struct cp_resource *r = *resource;
    *resource = NULL;
    if (r == NULL)
        return;
    LT_ASSERT(r->refs > 0);
    if (--r->refs > 0)
        return;
    lt_map_remove(&r->pool->map, r->key);
    r->pool->bytes -= r->bytes->len;
    lt_bytes_unref(&r->bytes);
    free((char *)r->name.ptr);
    free((char *)r->key.ptr);
    free(r);
}

void cp_pool_init(struct cp_pool *pool)
{
    *pool = (struct cp_pool){0};
    lt_map_init(&pool->map);
}

void cp_pool_fini(struct cp_pool *pool)
{
    LT_ASSERT(pool->map.count == 0);
    lt_map_fini(&pool->map);
}

static lt_str make_key(cp_type type, const char *version, lt_str name)
{
    size_t len = 2 + CP_VERSION_LEN + name.len;
    char *key = lt_malloc(len + 1);
    snprintf(key, len + 1, "%d%s/%.*s", (int)type, version, LT_STR_ARG(name));
    return lt_str_make(key, len);
}

struct cp_resource *cp_pool_get(struct cp_pool *pool, cp_type type, lt_str name, lt_str bytes)
{
    char version[CP_VERSION_LEN + 1];
    snprintf(version, sizeof(version), "%016llx",
             (unsigned long long)lt_hash64(bytes.ptr, bytes.len, 0));
    lt_str key = make_key(type, version, name);
    struct cp_resource *r = lt_map_find(&pool->map, key);
    if (r != NULL) {
        /* 64 bits don't lie by chance, and who could make them lie writes our manifests */
        free((char *)key.ptr);
        return cp_resource_ref(r);
    }
    r = lt_new(struct cp_resource);
    *r = (struct cp_resource){
        .refs = 1, .type = type, .pool = pool, .key = key, .bytes = lt_bytes_new(bytes)};
    memcpy(r->version, version, sizeof(version));
    r->name = lt_str_make(lt_str_dupz(name), name.len);
    pool->bytes += bytes.len;
    lt_map_put(&pool->map, r->key, r);
    return r;
}

/* ---- many ---- */

static int cmp_resources(const void *a, const void *b)
{
    const struct cp_resource *x = *(struct cp_resource *const *)a,
                             *y = *(struct cp_resource *const *)b;
    return lt_str_cmp(x->name, y->name);
}

/* Stable by hand: the first of two with one name must stay the first. */
static void sort_resources(struct cp_resource **items, size_t count)
{
    if (count < 2)
        return;
    size_t half = count / 2, i = 0, j = half, n = 0;
    sort_resources(items, half);
    sort_resources(items + half, count - half);
    struct cp_resource **merged = lt_malloc(count * sizeof(*merged));
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
    struct cp_resource **all = (struct cp_resource **)gathered->items;
    sort_resources(all, gathered->count);
    for (size_t i = 0; i < gathered->count; i++) {
        if (set->count > 0 && lt_str_eq(set->items[set->count - 1]->name, all[i]->name))
            cp_resource_unref(&all[i]);
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
                                    : lt_str_cmp(a->items[i]->name, b->items[j]->name);
        set->items[set->count++] = cp_resource_ref(order <= 0 ? a->items[i] : b->items[j]);
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
        cp_resource_unref(&set->items[i]);
    free(set->items);
    free(set);
}

struct cp_resource *cp_resources_find(const struct cp_resources *resources, lt_str name)
{
    size_t low = 0, high = resources->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = lt_str_cmp(resources->items[mid]->name, name);
        if (order == 0)
            return resources->items[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}
