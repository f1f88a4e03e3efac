/*
 * proxy/table/roster.c - counting of what rosters hold, and endpoints made by the proxy itself.
 */
#include "proxy/table/roster.h"

#include <stdlib.h>

#include "proxy/compile/compile.h"

/* --- counts --- */

struct px_cluster_state *px_cluster_state_new(lt_str name)
{
    struct px_cluster_state *state = lt_new(struct px_cluster_state);
    state->refs = 1;
    state->name = (lt_str){lt_str_dupz(name), name.len};
    return state;
}

struct px_cluster_state *px_cluster_state_ref(struct px_cluster_state *state)
{
    state->refs++;
    return state;
}

bool px_cluster_state_unref(struct px_cluster_state **pointer)
{
    struct px_cluster_state *state = *pointer;
    *pointer = NULL;
    if (state == NULL || --state->refs > 0)
        return false;
    if (state->on_free != NULL)
        state->on_free(state);
    free((char *)state->name.ptr);
    free(state);
    return true;
}

struct px_host_state *px_host_state_new(void)
{
    struct px_host_state *state = lt_new(struct px_host_state);
    state->refs = 1;
    return state;
}

struct px_host_state *px_host_state_ref(struct px_host_state *state)
{
    state->refs++;
    return state;
}

void px_host_state_unref(struct px_host_state **pointer)
{
    struct px_host_state *state = *pointer;
    *pointer = NULL;
    if (state != NULL && --state->refs == 0)
        free(state);
}

/* Inline endpoints go with their cluster and are not counted. */
static bool is_counted(const struct px_endpoints_conf *endpoints)
{
    return endpoints != NULL && endpoints->res.arena != NULL;
}

struct px_roster *px_roster_new(struct px_cluster_state *state,
                                const struct px_endpoints_conf *source)
{
    struct px_roster *roster = lt_new(struct px_roster);
    *roster = (struct px_roster){.refs = 1, .state = state, .source = source};
    if (is_counted(source))
        px_resource_ref((struct px_resource *)source);
    return roster;
}

const struct px_endpoints_conf *px_roster_endpoints(const struct px_roster *roster)
{
    return roster->endpoints != NULL ? roster->endpoints : roster->source;
}

struct px_roster *px_roster_ref(struct px_roster *roster)
{
    roster->refs++;
    return roster;
}

void px_roster_unref(struct px_roster **pointer)
{
    struct px_roster *roster = *pointer;
    *pointer = NULL;
    if (roster == NULL || --roster->refs > 0)
        return;
    for (uint32_t i = 0; i < roster->host_count; i++)
        px_host_state_unref(&roster->host_states[i]);
    free(roster->host_states);
    struct px_resource *endpoints = (struct px_resource *)roster->endpoints;
    struct px_resource *source = is_counted(roster->source) ? (struct px_resource *)roster->source
                                                            : NULL;
    px_resource_unref(&endpoints);
    px_resource_unref(&source);
    px_cluster_state_unref(&roster->state);
    free(roster);
}

/* --- endpoints --- */

static lt_str copy(struct lt_arena *arena, lt_str text)
{
    return text.len == 0 ? LT_STR_NULL : lt_arena_str(arena, text);
}

struct px_endpoints_conf *px_endpoints_new(lt_str name, const struct px_endpoints_conf *like)
{
    struct lt_arena *arena = lt_arena_new(1024, 0);
    struct px_endpoints_conf *made = lt_arena_make(arena, struct px_endpoints_conf);
    struct px_locality *localities = lt_arena_make_n(arena, struct px_locality,
                                                     like->locality_count);
    struct px_drop_conf *drops = lt_arena_make_n(arena, struct px_drop_conf, like->drop_count);
    for (size_t i = 0; i < like->locality_count; i++) {
        const struct px_locality *from = &like->localities[i];
        localities[i] = (struct px_locality){copy(arena, from->region), copy(arena, from->zone),
                                             copy(arena, from->sub_zone), from->weight,
                                             from->priority};
    }
    for (size_t i = 0; i < like->drop_count; i++)
        drops[i] = (struct px_drop_conf){copy(arena, like->drops[i].category), like->drops[i].ppm};
    *made = (struct px_endpoints_conf){
        .res = {.kind = PX_ENDPOINTS, .refs = 1, .arena = arena, .name = copy(arena, name)},
        .localities = localities,
        .locality_count = like->locality_count,
        .drops = drops,
        .drop_count = like->drop_count,
        .overprovisioning_percent = like->overprovisioning_percent,
        .weighted_priority_health = like->weighted_priority_health,
    };
    return made;
}

static struct px_metas copy_metas(struct lt_arena *arena, const struct px_metas *from)
{
    struct px_meta_pair *pairs = lt_arena_make_n(arena, struct px_meta_pair, from->count);
    for (size_t i = 0; i < from->count; i++)
        pairs[i] = (struct px_meta_pair){copy(arena, from->items[i].key),
                                         copy(arena, from->items[i].value)};
    return (struct px_metas){from->count > 0 ? pairs : NULL, from->count};
}

static const struct px_endpoint_facts *copy_facts(struct lt_arena *arena,
                                                  const struct px_endpoint_facts *from)
{
    struct px_endpoint_facts *facts = lt_arena_make(arena, struct px_endpoint_facts);
    *facts = *from;
    facts->hostname = copy(arena, from->hostname);
    facts->workload = copy(arena, from->workload);
    facts->hash_key = copy(arena, from->hash_key);
    facts->transport = copy_metas(arena, &from->transport);
    facts->lb = copy_metas(arena, &from->lb);
    if (from->check != NULL) {
        struct px_endpoint_check *check = lt_arena_make(arena, struct px_endpoint_check);
        *check = *from->check;
        check->hostname = copy(arena, from->check->hostname);
        facts->check = check;
    }
    return facts;
}

struct px_endpoint_conf px_endpoint_copy(struct lt_arena *arena,
                                         const struct px_endpoint_conf *endpoint)
{
    struct px_endpoint_conf made = *endpoint;
    if (endpoint->kind == PX_AT_V6)
        made.v6 = memcpy(lt_arena_bytes(arena, 16), endpoint->v6, 16);
    else if (endpoint->kind == PX_AT_UNIX)
        made.path = lt_arena_strz(arena, lt_str_of(endpoint->path));
    else if (endpoint->kind == PX_AT_NAME)
        made.name = lt_arena_strz(arena, lt_str_of(endpoint->name));
    made.facts = copy_facts(arena, endpoint->facts);
    return made;
}
