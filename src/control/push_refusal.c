/*
 * control/push_refusal.c - what a proxy refused, and what it gets instead, until that changes.
 * Names of clusters are looked for in the bytes of listeners and routes as they are: a name that is
 * part of another one costs some waiting, never a request.
 */
#include "control/push_priv.h"

enum { WHY_BYTES_MAX = 512 };

static void free_refusal(struct cp_refusal *refusal)
{
    lt_ads_resource_unref(&refusal->resource);
    lt_ads_resource_unref(&refusal->instead);
    free(refusal->why);
    free(refusal);
}

void cp_refusals_fini(struct cp_proxy *proxy)
{
    for (size_t i = 0; i < proxy->refusals.count; i++)
        free_refusal(proxy->refusals.items[i]);
    lt_vec_fini(&proxy->refusals);
}

size_t cp_proxy_refusal_count(const struct cp_proxy *proxy)
{
    return proxy->refusals.count;
}

const struct cp_refusal *cp_proxy_refusal_at(const struct cp_proxy *proxy, size_t at)
{
    LT_ASSERT(at < proxy->refusals.count);
    return proxy->refusals.items[at];
}

static struct cp_refusal *find_refusal(const struct cp_proxy *proxy, cp_type type, lt_str name)
{
    for (size_t i = 0; i < proxy->refusals.count; i++) {
        struct cp_refusal *refusal = proxy->refusals.items[i];
        if (refusal->type == type && lt_str_eq(lt_ads_resource_name(refusal->resource), name))
            return refusal;
    }
    return NULL;
}

bool cp_refusals_have(const struct cp_proxy *proxy, cp_type type, lt_str name)
{
    return find_refusal(proxy, type, name) != NULL;
}

/* ---- what it gets ---- */

static void forget_changed(struct cp_proxy *proxy, cp_type type)
{
    for (size_t i = proxy->refusals.count; i > 0; i--) {
        struct cp_refusal *refusal = proxy->refusals.items[i - 1];
        lt_str name = lt_ads_resource_name(refusal->resource);
        /* the pool has equal ones once: the same pointer is the same version */
        if (refusal->type != type ||
            cp_resources_find(proxy->flows[type].view, name) == refusal->resource)
            continue;
        free_refusal(lt_vec_swap_remove(&proxy->refusals, i - 1));
    }
}

static size_t count_of(const struct cp_proxy *proxy, cp_type type)
{
    size_t count = 0;
    for (size_t i = 0; i < proxy->refusals.count; i++)
        count += ((const struct cp_refusal *)proxy->refusals.items[i])->type == type;
    return count;
}

void cp_refusals_apply(struct cp_proxy *proxy, cp_type type)
{
    struct flow *flow = &proxy->flows[type];
    forget_changed(proxy, type);
    cp_resources_unref(&flow->wanted);
    if (count_of(proxy, type) == 0) {
        flow->wanted = cp_resources_ref(flow->view);
        return;
    }
    struct lt_vec items = {0};
    for (size_t i = 0; i < flow->view->count; i++) {
        struct lt_ads_resource *resource = flow->view->items[i];
        const struct cp_refusal *refusal = find_refusal(proxy, type,
                                                        lt_ads_resource_name(resource));
        if (refusal == NULL || refusal->instead != NULL)
            lt_vec_push(&items, lt_ads_resource_ref(refusal == NULL ? resource : refusal->instead));
    }
    flow->wanted = cp_resources_new(type, &items);
}

/* Even what it was given instead is refused: then nothing. */
static bool drop_instead(struct cp_proxy *proxy, cp_type type,
                         const struct lt_ads_resource *resource)
{
    struct cp_refusal *refusal = find_refusal(proxy, type, lt_ads_resource_name(resource));
    bool is_instead = refusal != NULL && refusal->instead == resource;
    if (is_instead)
        lt_ads_resource_unref(&refusal->instead);
    return is_instead;
}

/*
 * Its predecessor. A cluster that warms waits for endpoints, and a listener for its routes: without
 * a predecessor they get ones with nothing in them.
 */
static void choose_instead(struct cp_proxy *proxy, struct cp_refusal *refusal)
{
    struct lt_ads_held held = {0};
    lt_str name = lt_ads_resource_name(refusal->resource);
    const struct lt_ads_sub *sub = proxy->flows[refusal->type].sub;
    refusal->has_predecessor = lt_ads_sub_held(sub, name, &held) == LT_OK && held.is_held;
    if (held.held != NULL)
        refusal->instead = lt_ads_resource_ref(held.held);
    else if (!refusal->has_predecessor)
        refusal->instead = cp_translate_absent(refusal->type, name);
}

void cp_refusals_add(struct cp_proxy *proxy, cp_type type, struct lt_ads_resource *resource,
                     lt_str why, uint64_t now_ns)
{
    lt_str name = lt_ads_resource_name(resource);
    if (drop_instead(proxy, type, resource) || find_refusal(proxy, type, name) != NULL ||
        cp_resources_find(proxy->flows[type].view, name) != resource)
        return; /* the world has another one by now */
    struct cp_refusal *refusal = lt_new(struct cp_refusal);
    *refusal = (struct cp_refusal){.type = type,
                                   .resource = lt_ads_resource_ref(resource),
                                   .since_ns = now_ns,
                                   .why = lt_str_dupz(lt_str_slice(why, 0, WHY_BYTES_MAX))};
    choose_instead(proxy, refusal);
    lt_vec_push(&proxy->refusals, refusal);
}

/* ---- what names what ---- */

static bool names(const struct lt_ads_resource *resource, lt_str cluster)
{
    return lt_str_find(lt_ads_resource_value(resource), cluster) >= 0;
}

const struct cp_refusal *cp_refusals_block(const struct cp_proxy *proxy,
                                           const struct lt_ads_resource *resource, uint64_t now_ns,
                                           uint64_t *ret_until_ns)
{
    for (size_t i = 0; i < proxy->refusals.count; i++) {
        const struct cp_refusal *refusal = proxy->refusals.items[i];
        *ret_until_ns = refusal->since_ns + proxy->opts.gate_ns;
        if (refusal->type == CP_TYPE_CDS && !refusal->has_predecessor && now_ns < *ret_until_ns &&
            names(resource, lt_ads_resource_name(refusal->resource)))
            return refusal;
    }
    return NULL;
}

bool cp_refusals_keep_cluster(const struct cp_proxy *proxy, lt_str cluster)
{
    for (size_t i = 0; i < proxy->refusals.count; i++) {
        const struct cp_refusal *refusal = proxy->refusals.items[i];
        bool is_naming = refusal->type == CP_TYPE_LDS || refusal->type == CP_TYPE_RDS;
        if (!is_naming || !refusal->has_predecessor)
            continue;
        /* of a predecessor from before this stream only the version is known: it may name any */
        if (refusal->instead == NULL || names(refusal->instead, cluster))
            return true;
    }
    return false;
}
