/*
 * control/view.c - keys of what proxies see, and the sets made for them.
 */
#include "control/view.h"

/*
 * Labels that something in the mesh could ask a client for: too many to tell which, so all of them.
 */
static void add_labels(struct lt_arena *arena, lt_str *key, const struct lt_kvs *labels)
{
    for (size_t i = 0; i < labels->count; i++)
        *key = lt_arena_printf(arena, "%.*s,%.*s=%.*s", LT_STR_ARG(*key),
                               LT_STR_ARG(labels->items[i].key),
                               LT_STR_ARG(labels->items[i].value));
}

/*
 * Does any rule in the mesh look at the labels of clients? Few meshes have one, and then all of a
 * namespace see the same.
 */
static bool asks_for_labels(const struct lt_model *model)
{
    for (size_t i = 0; i < model->rule_count; i++) {
        if (model->rules[i].selector != NULL)
            return true;
    }
    for (size_t i = 0; i < model->routes_count; i++) {
        const struct lt_virtual_service *vs = model->routes[i].spec;
        for (size_t j = 0; j < vs->http.count; j++) {
            for (size_t k = 0; k < vs->http.items[j].match.count; k++) {
                if (vs->http.items[j].match.items[k].source_labels.count > 0)
                    return true;
            }
        }
    }
    return false;
}

/* Listeners on the addresses of Pods: a proxy has none for its own. */
static bool has_headless_tcp(const struct lt_model *model)
{
    for (size_t i = 0; i < model->service_count; i++) {
        const struct lt_service *s = &model->services[i];
        for (size_t p = 0; p < s->port_count && s->is_headless; p++) {
            if (!lt_port_is_http(s->ports[p].protocol))
                return true;
        }
    }
    return false;
}

/*
 * Who the proxy is, where its own ports are meant: in clusters and listeners of sidecars, and in
 * everything about a gateway's ports.
 */
static lt_str add_workload(struct lt_arena *arena, lt_str key, const struct cp_node *n)
{
    key = lt_arena_printf(arena, "%.*s|%.*s|%.*s", LT_STR_ARG(key), LT_STR_ARG(n->ip),
                          LT_STR_ARG(n->name));
    for (size_t i = 0; i < n->port_count; i++)
        key = lt_arena_printf(arena, "%.*s;%.*s:%u", LT_STR_ARG(key), LT_STR_ARG(n->ports[i].name),
                              n->ports[i].number);
    return key;
}

/* What connection managers say about the workload (tags of traces), and how traffic is captured. */
static lt_str add_identity(struct lt_arena *arena, lt_str key, const struct cp_node *n)
{
    return lt_arena_printf(arena, "%.*s|%d|%.*s|%.*s|%.*s|%.*s", LT_STR_ARG(key), (int)n->capture,
                           LT_STR_ARG(n->canonical_name), LT_STR_ARG(n->canonical_revision),
                           LT_STR_ARG(n->cluster_id), LT_STR_ARG(n->mesh_id));
}

/* What is about the proxy's own workload: nobody else sees the same. */
static bool is_about_one(const struct cp_node *node, cp_type type, cp_part part)
{
    return part == CP_PART_OWN ||
           (node->type == CP_NODE_ROUTER && (type == CP_TYPE_LDS || type == CP_TYPE_RDS));
}

lt_str cp_view_key_for(struct lt_arena *arena, const struct lt_model *model,
                       const struct cp_node *node, cp_type type, cp_part part)
{
    const struct lt_workload *workload = cp_node_workload(node, model);
    const struct lt_kvs *labels = workload != NULL ? workload->labels : &node->labels;
    const struct lt_locality *at = node->locality.region.len == 0 && workload != NULL
                                       ? &workload->locality
                                       : &node->locality;
    lt_str key = lt_arena_printf(arena, "%d|%d|%d|%x|%.*s", (int)type, (int)part, (int)node->type,
                                 node->extensions, LT_STR_ARG(node->ns));
    if (type == CP_TYPE_EDS)
        key = lt_arena_printf(arena, "%.*s|%.*s/%.*s/%.*s", LT_STR_ARG(key), LT_STR_ARG(at->region),
                              LT_STR_ARG(at->zone), LT_STR_ARG(at->subzone));
    bool is_own = is_about_one(node, type, part);
    if (is_own)
        key = add_workload(arena, key, node);
    else if (type == CP_TYPE_LDS && has_headless_tcp(model))
        key = lt_arena_printf(arena, "%.*s|%.*s", LT_STR_ARG(key), LT_STR_ARG(node->ip));
    if (type == CP_TYPE_LDS)
        key = add_identity(arena, key, node);
    if (is_own || asks_for_labels(model))
        add_labels(arena, &key, labels);
    return key;
}

void cp_views_init(struct cp_views *views, struct lt_ads_pool *pool)
{
    *views = (struct cp_views){.pool = pool, .arena = lt_arena_new(0, 0)};
    lt_map_init(&views->sets);
}

static void forget(struct cp_views *views)
{
    for (size_t i = 0; i < views->sets.count; i++) {
        struct cp_resources *set = views->sets.entries[i].value;
        cp_resources_unref(&set);
    }
    lt_map_clear(&views->sets);
    lt_arena_reset(views->arena);
}

void cp_views_fini(struct cp_views *views)
{
    forget(views);
    lt_map_fini(&views->sets);
    lt_arena_free(&views->arena);
    lt_model_unref(&views->model);
}

void cp_views_set_model(struct cp_views *views, const struct lt_model *model)
{
    struct lt_model *next = lt_model_ref(model);
    forget(views);
    lt_model_unref(&views->model);
    views->model = next;
    views->generation++;
}

/* One count for the caller. */
static struct cp_resources *get_part(struct cp_views *views, const struct cp_node *node,
                                     cp_type type, cp_part part)
{
    if (is_about_one(node, type, part))
        return cp_translate_part(views->pool, views->model, node, type, part);
    struct lt_arena_mark mark = lt_arena_mark(views->arena);
    lt_str key = cp_view_key_for(views->arena, views->model, node, type, part);
    struct cp_resources *set = lt_map_find(&views->sets, key);
    if (set != NULL) {
        lt_arena_rollback(views->arena, mark);
        return cp_resources_ref(set);
    }
    set = cp_translate_part(views->pool, views->model, node, type, part);
    if (views->sets.count >= CP_VIEW_SETS_MAX) {
        lt_arena_rollback(views->arena, mark);
        return set;
    }
    lt_map_put(&views->sets, key, set);
    return cp_resources_ref(set);
}

struct cp_resources *cp_views_get(struct cp_views *views, const struct cp_node *node, cp_type type)
{
    LT_ASSERT(views->model != NULL);
    struct cp_resources *common = get_part(views, node, type, CP_PART_COMMON);
    bool has_own = node->type == CP_NODE_SIDECAR && (type == CP_TYPE_CDS || type == CP_TYPE_LDS);
    if (!has_own)
        return common;
    struct cp_resources *own = get_part(views, node, type, CP_PART_OWN);
    struct cp_resources *both = cp_resources_merge(common, own);
    cp_resources_unref(&common);
    cp_resources_unref(&own);
    return both;
}
