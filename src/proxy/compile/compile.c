/*
 * proxy/compile/compile.c - the front door of conf_*.c: one resource, from bytes to frozen.
 * Start at: px_compile().
 */
#include "proxy/compile/compile.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "proxy/compile/fields.h"
#include "proxy/compile/kinds.h"
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
    [PX_EXTENSION] = {"extension", &xds__typed_extension_config__descriptor,
                      sizeof(struct px_extension_conf)},
    [PX_VHOST] = {"virtual host", &xds__virtual_host__descriptor, sizeof(struct px_vhost_conf)},
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
    case PX_ROUTES:
        LT_TRY(px_make_routes(build, message, (struct px_routes_conf *)res));
        return px_make_vhds(build, message, (struct px_routes_conf *)res);
    case PX_VHOST: return px_make_vhost(build, message, (struct px_vhost_conf *)res);
    case PX_SECRET: return px_make_secret(build, message, (struct px_secret_conf *)res);
    case PX_EXTENSION: return px_make_extension(build, message, (struct px_extension_conf *)res);
    case PX_ENDPOINTS: {
        const Xds__ClusterLoadAssignment *assignment = message;
        res->name = px_copy(build, assignment->cluster_name);
        return px_make_endpoints(build, assignment, false, (struct px_endpoints_conf *)res);
    }
    case PX_RESOURCE_KINDS: break;
    }
    LT_UNREACHABLE();
}

void px_own(struct px_build *build, void *what, void (*free_it)(void *what))
{
    struct px_owned *owned = lt_arena_make(build->scratch, struct px_owned);
    *owned = (struct px_owned){what, free_it};
    lt_vec_push(&build->owned, owned);
}

/* --- what the resource keeps beside its arena --- */

static void *move_vec(struct lt_arena *arena, struct lt_vec *vec)
{
    void **items = lt_arena_make_n(arena, void *, vec->count);
    if (vec->count > 0)
        memcpy(items, vec->items, vec->count * sizeof(*items));
    lt_vec_fini(vec);
    return items;
}

static const struct px_extras *make_extras(struct px_build *build)
{
    if (build->listed.count + build->regexes.count + build->maps.count + build->owned.count == 0)
        return NULL;
    struct lt_arena *arena = build->arena;
    struct px_extras *extras = lt_arena_make(arena, struct px_extras);
    extras->unhonoured = px_listed_make(build, &extras->unhonoured_count);
    extras->regex_count = build->regexes.count;
    extras->regexes = move_vec(arena, &build->regexes);
    extras->map_count = build->maps.count;
    extras->maps = move_vec(arena, &build->maps);
    struct px_owned *owned = lt_arena_make_n(arena, struct px_owned, build->owned.count);
    for (size_t i = 0; i < build->owned.count; i++)
        owned[i] = *(struct px_owned *)build->owned.items[i];
    extras->owned = owned;
    extras->owned_count = build->owned.count;
    lt_vec_fini(&build->owned);
    return extras;
}

static void free_extras(const struct px_extras *extras)
{
    for (size_t i = 0; i < extras->regex_count; i++)
        lt_regex_free(&extras->regexes[i]);
    for (size_t i = 0; i < extras->map_count; i++)
        lt_map_fini(extras->maps[i]);
    for (size_t i = 0; i < extras->owned_count; i++)
        extras->owned[i].free_it(extras->owned[i].what);
}

static void move_needs(struct px_build *build, struct px_resource *res)
{
    size_t hard = build->needs.count, soft = build->soft_needs.count;
    res->needs = lt_arena_make_n(build->arena, struct px_row *, hard + soft);
    for (size_t i = 0; i < hard; i++)
        res->needs[i] = build->needs.items[i];
    for (size_t i = 0; i < soft; i++)
        res->needs[hard + i] = build->soft_needs.items[i];
    res->hard_need_count = (uint16_t)hard;
    res->need_count = (uint16_t)(hard + soft);
    lt_vec_fini(&build->needs);
    lt_vec_fini(&build->soft_needs);
}

static void drop_rows(struct px_row **rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        px_row_unref(&rows[i]);
}

/* --- compiling --- */

static void finish(struct px_build *build, const struct px_compile *what, struct px_resource *res)
{
    res->kind = (uint8_t)what->kind;
    res->refs = 1;
    res->arena = build->arena;
    if (res->name.len == 0)
        res->name = lt_arena_str(build->arena, what->name);
    res->version = px_version_make(build->slots, what->version);
    res->hash = lt_hash64(what->bytes.ptr, what->bytes.len, 0);
    res->wire_len = (uint32_t)what->bytes.len;
    res->holds_key = build->holds_key;
    res->updated_ns = what->now_ns;
    move_needs(build, res);
    res->extras = make_extras(build);
}

static void abandon(struct px_build *build)
{
    const struct px_extras *extras = make_extras(build);
    if (extras != NULL)
        free_extras(extras);
    drop_rows((struct px_row **)build->needs.items, build->needs.count);
    drop_rows((struct px_row **)build->soft_needs.items, build->soft_needs.count);
    lt_vec_fini(&build->needs);
    lt_vec_fini(&build->soft_needs);
    lt_arena_wipe_free(&build->arena);
}

enum {
    NEEDS_MAX = UINT16_MAX / 2,
    FIRST_CHUNK_MIN = 512,
    FIRST_CHUNK_MAX = 64 * 1024,
    SCRATCH_CHUNK = 16384,
};

/*
 * Resources of one kind are much alike, in what they take for each byte of their message: a first
 * block made by the last one's measure leaves little of it unused, which counts with thousands.
 */
static size_t first_chunk(px_resource_kind kind, size_t wire_len,
                          const struct px_measures *measures)
{
    size_t guess = measures->percent[kind] == 0 ? 1024 : wire_len * measures->percent[kind] / 100;
    return LT_MIN(LT_MAX(guess, (size_t)FIRST_CHUNK_MIN), (size_t)FIRST_CHUNK_MAX);
}

static void note_measure(px_resource_kind kind, size_t wire_len, size_t used,
                         struct px_measures *measures)
{
    if (wire_len > 0) /* and a little more, for the next one may be a little larger */
        measures->percent[kind] = (uint32_t)LT_MIN(used * 105 / wire_len + 1, (size_t)10000);
}

static lt_rc read_and_make(struct px_build *build, const struct px_compile *what,
                           struct px_resource *res)
{
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = LT_PB_OPTS_DEFAULT;
    opts.unknowns = &unknowns;
    void *message = NULL;
    LT_TRY(lt_pb_unpack(build->scratch, kinds[what->kind].type, what->bytes, &opts, &message,
                        build->err));
    LT_TRY(make(build, what->kind, message, res));
    LT_TRY(px_check_fields(build, message, &unknowns));
    if (build->needs.count + build->soft_needs.count > NEEDS_MAX)
        return px_bad(build, NULL, "names more than %d other resources", NEEDS_MAX);
    return LT_OK;
}

lt_rc px_compile(const struct px_compile *what, struct px_tls_slots *slots,
                 struct px_resource **ret_resource, struct lt_err *err)
{
    LT_ASSERT(what->kind < PX_RESOURCE_KINDS);
    if (what->bytes.len > UINT32_MAX)
        return lt_err_set(err, LT_E_LIMIT, "the message is too large");
    struct px_measures *measures = px_tls_slots_measures(slots);
    struct px_rows *rows = px_tls_slots_rows(slots);
    struct px_build *build = lt_new(struct px_build);
    *build = (struct px_build){
        .arena = lt_arena_new(first_chunk(what->kind, what->bytes.len, measures), 0),
        .scratch = lt_arena_new(SCRATCH_CHUNK, 0),
        .err = err,
        .slots = slots,
        .own = what->source != NULL ? what->source : px_source_ads(rows->sources)};
    struct px_resource *res = lt_arena_alloc(build->arena, kinds[what->kind].size);
    lt_rc rc = read_and_make(build, what, res);
    if (rc == LT_OK) {
        finish(build, what, res);
        note_measure(what->kind, what->bytes.len, lt_arena_used(build->arena), measures);
        *ret_resource = res;
    } else {
        abandon(build);
    }
    lt_arena_wipe_free(&build->scratch); /* a secret, or a certificate inline, was read into it */
    free(build);
    return rc;
}

lt_rc px_conf_compile(px_resource_kind kind, lt_str name, lt_str version, lt_str bytes,
                      struct px_tls_slots *slots, struct px_resource **ret_resource,
                      struct lt_err *err)
{
    const struct px_compile what = {.kind = kind, .name = name, .version = version, .bytes = bytes};
    return px_compile(&what, slots, ret_resource, err);
}

/* --- counting --- */

struct px_resource *px_resource_ref(struct px_resource *resource)
{
    resource->refs++;
    return resource;
}

static void free_wire(struct px_resource *res)
{
    if (res->is_stored || res->wire == NULL)
        return;
    if (res->holds_key)
        OPENSSL_cleanse(res->wire, res->wire_len);
    free(res->wire);
}

void px_resource_unref(struct px_resource **resource)
{
    struct px_resource *res = *resource;
    *resource = NULL;
    if (res == NULL || --res->refs > 0)
        return;
    bool is_secret = res->kind == PX_SECRET || res->holds_key;
    free_wire(res);
    lt_bytes_unref(&res->version);
    if (res->extras != NULL)
        free_extras(res->extras);
    drop_rows(res->needs, res->need_count);
    struct lt_arena *arena = res->arena;
    if (is_secret)
        lt_arena_wipe_free(&arena);
    else
        lt_arena_free(&arena);
}
