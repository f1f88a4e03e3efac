/*
 * proxy/conf_compile.c - the front door of conf_*.c: one resource, from bytes to frozen.
 * Start at: px_conf_compile().
 */
#include "proxy/conf_compile.h"

#include <stdlib.h>

#include "proxy/conf_kinds.h"
#include "wire/proto/endpoint.pb-c.h"

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *type;
    size_t size;
} kinds[PX_RESOURCE_KINDS] = {
    [PX_CLUSTER] = {"cluster", &xds__cluster__descriptor, sizeof(struct px_cluster_conf)},
    [PX_ENDPOINTS] = {"endpoints", &xds__cluster_load_assignment__descriptor,
                      sizeof(struct px_endpoints_conf)},
    [PX_LISTENER] = {"listener", &xds__listener__descriptor, sizeof(struct px_listener_conf)},
    [PX_ROUTES] = {"routes", &xds__route_configuration__descriptor, sizeof(struct px_routes_conf)},
    [PX_SECRET] = {"secret", &xds__secret__descriptor, sizeof(struct px_secret_conf)},
};

const char *px_resource_kind_name(px_resource_kind kind)
{
    LT_ASSERT(kind < PX_RESOURCE_KINDS);
    return kinds[kind].name;
}

static lt_rc make(struct px_build *build, px_resource_kind kind, void *message,
                  struct px_resource *res)
{
    switch (kind) {
    case PX_CLUSTER: return px_make_cluster(build, message, (struct px_cluster_conf *)res);
    case PX_LISTENER: return px_make_listener(build, message, (struct px_listener_conf *)res);
    case PX_ROUTES: return px_make_routes(build, message, (struct px_routes_conf *)res);
    case PX_SECRET: return px_make_secret(build, message, (struct px_secret_conf *)res);
    case PX_ENDPOINTS: {
        const Xds__ClusterLoadAssignment *assignment = message;
        res->name = px_copy(build, assignment->cluster_name);
        return px_make_endpoints(build, assignment, false, (struct px_endpoints_conf *)res);
    }
    case PX_RESOURCE_KINDS: break;
    }
    LT_UNREACHABLE();
}

static void *move_vec(struct lt_arena *arena, struct lt_vec *vec)
{
    void **items = lt_arena_make_n(arena, void *, vec->count);
    if (vec->count > 0)
        memcpy(items, vec->items, vec->count * sizeof(*items));
    lt_vec_fini(vec);
    return items;
}

static void finish(struct px_build *build, px_resource_kind kind, lt_str name, lt_str version,
                   lt_str bytes, struct px_resource *res)
{
    res->kind = kind;
    res->refs = 1;
    res->arena = build->arena;
    if (res->name.len == 0)
        res->name = lt_arena_str(build->arena, name);
    res->version = lt_arena_str(build->arena, version);
    res->hash = lt_hash64(bytes.ptr, bytes.len, 0);
    /* a secret's bytes are not kept: dumps show it redacted, and what is not there cannot leak */
    res->wire = kind == PX_SECRET ? LT_STR_NULL : lt_arena_str(build->arena, bytes);
    res->unhonoured_count = build->unhonoured_count;
    lt_str *paths = lt_arena_make_n(build->arena, lt_str, build->unhonoured_count);
    memcpy(paths, build->unhonoured, build->unhonoured_count * sizeof(*paths));
    res->unhonoured = paths;
    res->regex_count = build->regexes.count;
    res->regexes = move_vec(build->arena, &build->regexes);
    res->map_count = build->maps.count;
    res->maps = move_vec(build->arena, &build->maps);
}

static void drop_heap_parts(struct lt_regex **regexes, size_t regex_count, struct lt_map **maps,
                            size_t map_count)
{
    for (size_t i = 0; i < regex_count; i++)
        lt_regex_free(&regexes[i]);
    for (size_t i = 0; i < map_count; i++)
        lt_map_fini(maps[i]);
}

enum { FIRST_CHUNK = 1024, SCRATCH_CHUNK = 16384 };

lt_rc px_conf_compile(px_resource_kind kind, lt_str name, lt_str version, lt_str bytes,
                      struct px_tls_slots *slots, struct px_resource **ret_resource,
                      struct lt_err *err)
{
    LT_ASSERT(kind < PX_RESOURCE_KINDS);
    struct px_build *build = lt_new(struct px_build);
    *build = (struct px_build){.arena = lt_arena_new(FIRST_CHUNK, 0),
                               .scratch = lt_arena_new(SCRATCH_CHUNK, 0),
                               .err = err,
                               .slots = slots};
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = LT_PB_OPTS_DEFAULT;
    opts.unknowns = &unknowns;
    void *message = NULL;
    struct px_resource *res = lt_arena_alloc(build->arena, kinds[kind].size);
    lt_rc rc = lt_pb_unpack(build->scratch, kinds[kind].type, bytes, &opts, &message, err);
    if (rc == LT_OK)
        rc = make(build, kind, message, res);
    if (rc == LT_OK) {
        for (uint32_t i = 0; i < unknowns.listed; i++)
            px_unhonoured(build, lt_arena_strz(build->arena, unknowns.paths[i]));
        finish(build, kind, name, version, bytes, res);
        *ret_resource = res;
    } else {
        drop_heap_parts((struct lt_regex **)build->regexes.items, build->regexes.count,
                        (struct lt_map **)build->maps.items, build->maps.count);
        lt_vec_fini(&build->regexes);
        lt_vec_fini(&build->maps);
        lt_arena_free(&build->arena);
    }
    lt_arena_wipe_free(&build->scratch); /* a secret, or a certificate inline, was read into it */
    free(build);
    return rc;
}

struct px_resource *px_resource_ref(struct px_resource *resource)
{
    resource->refs++;
    return resource;
}

void px_resource_unref(struct px_resource **resource)
{
    struct px_resource *res = *resource;
    *resource = NULL;
    if (res == NULL || --res->refs > 0)
        return;
    bool is_secret = res->kind == PX_SECRET;
    drop_heap_parts(res->regexes, res->regex_count, res->maps, res->map_count);
    struct lt_arena *arena = res->arena;
    if (is_secret)
        lt_arena_wipe_free(&arena);
    else
        lt_arena_free(&arena);
}
