/*
 * control/translate.c - one translation from begin to end.
 */
#include "control/translate_priv.h"

void cp_emit(struct cp_translation *t, lt_str name, void *message)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    lt_str bytes = lt_pb_pack(t->arena, message);
    lt_str type = lt_str_of(cp_type_url(t->type));
    lt_vec_push(&t->gathered, lt_ads_pool_get(t->pool, type, name, bytes));
    lt_arena_rollback(t->arena, mark);
}

struct cp_resources *cp_translate_part(struct lt_ads_pool *pool, const struct lt_model *model,
                                       const struct cp_node *node, cp_type type, cp_part part)
{
    static void (*const sidecar[CP_TYPE_COUNT])(struct cp_translation *) = {
        [CP_TYPE_CDS] = cp_translate_clusters,  [CP_TYPE_EDS] = cp_translate_endpoints,
        [CP_TYPE_LDS] = cp_translate_listeners, [CP_TYPE_RDS] = cp_translate_routes,
        [CP_TYPE_NDS] = cp_translate_names,
    };
    static void (*const router[CP_TYPE_COUNT])(struct cp_translation *) = {
        [CP_TYPE_CDS] = cp_translate_clusters,          [CP_TYPE_EDS] = cp_translate_endpoints,
        [CP_TYPE_LDS] = cp_translate_gateway_listeners, [CP_TYPE_RDS] = cp_translate_gateway_routes,
        [CP_TYPE_NDS] = cp_translate_no_names,
    };
    LT_ASSERT(type < CP_TYPE_COUNT);
    const struct lt_workload *workload = cp_node_workload(node, model);
    struct cp_translation t = {.arena = lt_arena_new(1 << 16, 0),
                               .pool = pool,
                               .model = model,
                               .node = node,
                               .labels = workload != NULL ? workload->labels : &node->labels,
                               .type = type,
                               .part = part};
    (node->type == CP_NODE_ROUTER ? router : sidecar)[type](&t);
    lt_arena_free(&t.arena);
    return cp_resources_new(type, &t.gathered);
}

struct cp_resources *cp_translate(struct lt_ads_pool *pool, const struct lt_model *model,
                                  const struct cp_node *node, cp_type type)
{
    return cp_translate_part(pool, model, node, type, CP_PART_ALL);
}

struct lt_ads_resource *cp_translate_absent(cp_type type, lt_str name)
{
    if (cp_type_is_wildcard(type))
        return NULL;
    struct cp_translation t = {.arena = lt_arena_new(0, 0), .type = type};
    lt_str bytes;
    if (type == CP_TYPE_EDS) {
        Xds__ClusterLoadAssignment *assignment = CP_NEW(&t, Xds__ClusterLoadAssignment,
                                                        xds__cluster_load_assignment);
        assignment->cluster_name = cp_z(&t, name);
        bytes = lt_pb_pack(t.arena, assignment);
    } else {
        Xds__RouteConfiguration *config = CP_NEW(&t, Xds__RouteConfiguration,
                                                 xds__route_configuration);
        config->name = cp_z(&t, name);
        config->validate_clusters = cp_bool(&t, false);
        bytes = lt_pb_pack(t.arena, config);
    }
    struct lt_ads_resource *resource = lt_ads_resource_new(lt_str_of(cp_type_url(type)), name,
                                                           LT_STR_NULL, bytes);
    lt_arena_free(&t.arena);
    return resource;
}
