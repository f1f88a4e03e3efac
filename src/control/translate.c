/*
 * control/translate.c - one translation from begin to end.
 */
#include "control/translate_priv.h"

void cp_emit(struct cp_translation *t, lt_str name, void *message)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    lt_str bytes = lt_pb_pack(t->arena, message);
    lt_vec_push(&t->gathered, cp_pool_get(t->pool, t->type, name, bytes));
    lt_arena_rollback(t->arena, mark);
}

struct cp_resources *cp_translate_part(struct cp_pool *pool, const struct lt_model *model,
                                       const struct cp_node *node, cp_type type, cp_part part)
{
    static void (*const sidecar[CP_TYPE_COUNT])(struct cp_translation *) = {
        [CP_TYPE_CDS] = cp_translate_clusters,
        [CP_TYPE_EDS] = cp_translate_endpoints,
        [CP_TYPE_LDS] = cp_translate_listeners,
        [CP_TYPE_RDS] = cp_translate_routes,
    };
    static void (*const router[CP_TYPE_COUNT])(struct cp_translation *) = {
        [CP_TYPE_CDS] = cp_translate_clusters,
        [CP_TYPE_EDS] = cp_translate_endpoints,
        [CP_TYPE_LDS] = cp_translate_gateway_listeners,
        [CP_TYPE_RDS] = cp_translate_gateway_routes,
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

struct cp_resources *cp_translate(struct cp_pool *pool, const struct lt_model *model,
                                  const struct cp_node *node, cp_type type)
{
    return cp_translate_part(pool, model, node, type, CP_PART_ALL);
}

struct cp_resource *cp_translate_absent(struct cp_pool *pool, cp_type type, lt_str name)
{
    if (cp_type_is_wildcard(type))
        return NULL;
    struct cp_translation t = {.arena = lt_arena_new(0, 0), .pool = pool, .type = type};
    if (type == CP_TYPE_EDS) {
        Xds__ClusterLoadAssignment *assignment = CP_NEW(&t, Xds__ClusterLoadAssignment,
                                                        xds__cluster_load_assignment);
        assignment->cluster_name = cp_z(&t, name);
        cp_emit(&t, name, assignment);
    } else {
        Xds__RouteConfiguration *config = CP_NEW(&t, Xds__RouteConfiguration,
                                                 xds__route_configuration);
        config->name = cp_z(&t, name);
        config->validate_clusters = cp_bool(&t, false);
        cp_emit(&t, name, config);
    }
    struct cp_resource *resource = lt_vec_pop(&t.gathered);
    lt_vec_fini(&t.gathered);
    lt_arena_free(&t.arena);
    return resource;
}
