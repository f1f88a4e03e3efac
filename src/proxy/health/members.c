/*
 * proxy/health/members.c - clusters that ask for more than configuration, and the rosters made for
 * them.
 * Start at: px_members_is_ready(), px_members_roster().
 */
#include <stdlib.h>

#include "proxy/compile/compile.h"
#include "proxy/health/members_priv.h"

static void on_interval(struct lt_timer *timer, uint64_t now_ns);

/* --- what a cluster asks for --- */

static bool needs_hosts(const struct px_cluster_conf *conf)
{
    return conf->outlier != NULL || conf->check != NULL || conf->host_max_connections != UINT32_MAX;
}

static bool needs_care(const struct px_cluster_conf *conf)
{
    return conf->dns != NULL || needs_hosts(conf) || px_cluster_has_shared_limits(conf);
}

static const struct px_cluster_conf *hold_conf(const struct px_cluster_conf *conf)
{
    px_resource_ref((struct px_resource *)conf);
    return conf;
}

static void drop_conf(const struct px_cluster_conf **conf)
{
    struct px_resource *resource = (struct px_resource *)*conf;
    *conf = NULL;
    px_resource_unref(&resource);
}

/* --- telling workers --- */

void px_care_mark(struct px_care *care)
{
    struct px_members *members = care->members;
    if (lt_list_is_linked(&care->dirty) || px_shared_get(&care->state->is_used) == 0)
        return;
    lt_list_push_back(&members->dirty, &care->dirty);
    lt_loop_defer(members->opts.loop, &members->tell);
}

/* At the end of this turn: whoever noticed is in the middle of something. */
void px_care_changed(struct px_care *care)
{
    struct px_members *members = care->members;
    if (!lt_list_is_linked(&care->changed))
        lt_list_push_back(&members->changed, &care->changed);
    lt_loop_defer(members->opts.loop, &members->change);
}

static void run_change(struct lt_task *task)
{
    struct px_members *members = LT_CONTAINER_OF(task, struct px_members, change);
    struct lt_arena *arena = lt_arena_new(0, 0); /* a care may go while its name is looked at */
    lt_str *names = lt_arena_make_n(arena, lt_str, members->cares.count);
    size_t count = 0;
    while (!lt_list_is_empty(&members->changed)) {
        struct px_care *care = lt_list_first(&members->changed, struct px_care, changed);
        lt_list_remove(&care->changed);
        names[count++] = lt_arena_str(arena, care->state->name);
    }
    members->opts.on_change(members->opts.ctx, names, count);
    lt_arena_free(&arena);
}

static void run_tell(struct lt_task *task)
{
    struct px_members *members = LT_CONTAINER_OF(task, struct px_members, tell);
    size_t count = 0;
    lt_str *names = lt_calloc(members->cares.count + 1, sizeof(*names));
    while (!lt_list_is_empty(&members->dirty)) {
        struct px_care *care = lt_list_first(&members->dirty, struct px_care, dirty);
        lt_list_remove(&care->dirty);
        names[count++] = care->state->name;
    }
    members->opts.tell(members->opts.ctx, names, count);
    free(names);
}

/* --- states: found by name as long as anybody holds them, so that counts never get lost --- */

static void on_state_free(struct px_cluster_state *state)
{
    struct px_members *members = state->owner;
    lt_map_remove(&members->states, state->name);
}

static struct px_cluster_state *get_state(struct px_members *members, lt_str name)
{
    struct px_cluster_state *state = lt_map_find(&members->states, name);
    if (state != NULL)
        return px_cluster_state_ref(state);
    state = px_cluster_state_new(name);
    state->owner = members;
    state->on_free = on_state_free;
    lt_map_put(&members->states, state->name, state);
    return state;
}

/* --- cares --- */

static struct px_care *make_care(struct px_members *members, lt_str name)
{
    struct px_care *care = lt_new(struct px_care);
    care->members = members;
    care->state = get_state(members, name);
    lt_list_init(&care->dirty);
    lt_list_init(&care->changed);
    lt_timer_init(&care->interval, on_interval);
    px_outlier_init(&care->outlier, &members->prng, px_member_on_ejection, care);
    lt_map_put(&members->cares, care->state->name, care);
    return care;
}

static void drop_hosts(struct px_care *care)
{
    while (care->hosts.count > 0) {
        struct px_member *member = care->hosts.entries[0].value;
        lt_map_remove(&care->hosts, lt_str_of(member->name));
        px_member_free(member);
    }
}

static void free_care(struct px_care *care)
{
    struct px_members *members = care->members;
    lt_loop_timer_cancel(members->opts.loop, &care->interval);
    drop_hosts(care);
    lt_map_fini(&care->hosts);
    px_outlier_fini(&care->outlier);
    px_names_free(&care->names);
    px_roster_unref(&care->roster);
    px_roster_unref(&care->old_roster);
    drop_conf(&care->old_conf);
    drop_conf(&care->conf);
    lt_list_remove(&care->dirty);
    lt_list_remove(&care->changed);
    px_cluster_state_unref(&care->state);
    free(care);
}

/* --- a new version --- */

static void on_interval(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_care *care = LT_CONTAINER_OF(timer, struct px_care, interval);
    px_outlier_sweep(&care->outlier, now_ns);
    lt_loop_timer_set(care->members->opts.loop, timer,
                      care->outlier.conf->interval_ms * LT_NS_PER_MS);
}

static void follow_outlier(struct px_care *care)
{
    const struct px_outlier_conf *conf = care->conf->outlier;
    bool was_on = care->outlier.conf != NULL;
    if (conf == NULL && was_on) {
        while (care->outlier.hosts.count > 0) /* who was ejected is taken back */
            px_outlier_remove(&care->outlier,
                              care->outlier.hosts.items[care->outlier.hosts.count - 1]);
        lt_loop_timer_cancel(care->members->opts.loop, &care->interval);
    }
    care->outlier.conf = conf;
    if (conf == NULL)
        return;
    for (size_t i = 0; !was_on && i < care->hosts.count; i++) {
        struct px_member *member = care->hosts.entries[i].value;
        px_outlier_add(&care->outlier, &member->outlier, member->state);
    }
    lt_loop_timer_set(care->members->opts.loop, &care->interval, conf->interval_ms * LT_NS_PER_MS);
}

static void on_names(void *ctx)
{
    struct px_care *care = ctx;
    care->is_stale = true;
    px_care_changed(care);
}

static void follow_names(struct px_care *care)
{
    struct px_names *before = care->names;
    care->names = NULL;
    if (care->conf->dns != NULL) {
        struct px_names_opts opts = {.loop = care->members->opts.loop,
                                     .prng = &care->members->prng,
                                     .resolvers = care->members->resolvers,
                                     .conf = care->conf,
                                     .before = before,
                                     .on_change = on_names,
                                     .ctx = care};
        care->names = px_names_new(&opts);
    }
    px_names_free(&before);
}

/* The version before serves on with its roster until this one is asked for. */
static void adopt(struct px_care *care, const struct px_cluster_conf *conf)
{
    if (care->old_roster == NULL && care->roster != NULL) {
        care->old_roster = care->roster;
        care->old_conf = hold_conf(care->conf);
        care->roster = NULL;
    }
    px_roster_unref(&care->roster);
    care->is_stale = true;
    const struct px_cluster_conf *before = care->conf;
    care->conf = hold_conf(conf);
    follow_names(care);
    follow_outlier(care);
    for (size_t i = 0; i < care->hosts.count; i++)
        px_member_follow(care->hosts.entries[i].value);
    drop_conf(&before);
}

/* --- rosters --- */

static struct px_member *get_member(struct px_care *care, const struct px_endpoint_conf *endpoint)
{
    char text[LT_ADDR_TEXT_MAX];
    struct lt_addr addr = px_endpoint_addr(endpoint);
    /* a logical host is the same under every address */
    lt_str name = care->conf->discovery == PX_DISCOVERY_LOGICAL_DNS ? LT_STR("logical")
                                                                    : lt_addr_format(&addr, text);
    struct px_member *member = lt_map_find(&care->hosts, name);
    if (member != NULL)
        return member;
    member = px_member_new(care, name);
    lt_map_put(&care->hosts, lt_str_of(member->name), member);
    return member;
}

/*
 * True: it was taken away by the control plane, but passes its checks, and is kept until it fails.
 */
static bool is_kept(const struct px_care *care, const struct px_member *member)
{
    const struct px_cluster_conf *conf = care->conf;
    bool is_dynamic = conf->discovery == PX_DISCOVERY_EDS ||
                      conf->discovery == PX_DISCOVERY_STRICT_DNS;
    uint32_t flags = px_shared_get(&member->state->flags);
    return is_dynamic && conf->check != NULL && !conf->ignores_health_on_removal &&
           care->roster != NULL && member->is_checked && member->check.was_checked &&
           (flags & PX_HOST_FLAG(FAILED_CHECK)) == 0;
}

static uint16_t find_locality(const struct px_endpoints_conf *endpoints,
                              const struct px_locality *wanted)
{
    for (uint16_t i = 0; i < endpoints->locality_count; i++) {
        const struct px_locality *at = &endpoints->localities[i];
        if (at->priority == wanted->priority && lt_str_eq(at->region, wanted->region) &&
            lt_str_eq(at->zone, wanted->zone) && lt_str_eq(at->sub_zone, wanted->sub_zone))
            return i;
    }
    return 0;
}

/* `endpoints` with those that are kept, as they were in the roster before. */
static struct px_endpoints_conf *with_kept(struct px_care *care,
                                           const struct px_endpoints_conf *endpoints,
                                           struct px_member **kept, uint32_t kept_count)
{
    const struct px_endpoints_conf *before = px_roster_endpoints(care->roster);
    const struct px_endpoints_conf *like = endpoints != NULL && endpoints->locality_count > 0
                                               ? endpoints
                                               : before;
    uint32_t count = endpoints != NULL ? endpoints->endpoint_count : 0;
    struct px_endpoints_conf *made = px_endpoints_new(care->state->name, like);
    struct lt_arena *arena = made->res.arena;
    struct px_endpoint_conf *all = lt_arena_make_n(arena, struct px_endpoint_conf,
                                                   count + kept_count);
    for (uint32_t i = 0; i < count; i++)
        all[i] = px_endpoint_copy(arena, &endpoints->endpoints[i]);
    for (uint32_t i = 0; i < kept_count; i++) {
        const struct px_endpoint_conf *from = &before->endpoints[kept[i]->index];
        all[count + i] = px_endpoint_copy(arena, from);
        all[count + i].locality = find_locality(made, &before->localities[from->locality]);
    }
    made->endpoints = all;
    made->endpoint_count = count + kept_count;
    return made;
}

/* Who is in no list any more goes, unless it is kept. *ret_kept is owned by the caller. */
static uint32_t sift_missing(struct px_care *care, struct px_member ***ret_kept)
{
    uint32_t count = 0;
    struct px_member **kept = lt_calloc(care->hosts.count + 1, sizeof(struct px_member *));
    for (size_t i = 0; i < care->hosts.count;) {
        struct px_member *member = care->hosts.entries[i].value;
        if (member->generation == care->generation) {
            i++;
        } else if (is_kept(care, member)) {
            uint32_t flags = px_shared_get(&member->state->flags);
            px_shared_set(&member->state->flags, flags | PX_HOST_FLAG(PENDING_REMOVAL));
            kept[count++] = member;
            i++;
        } else {
            lt_map_remove(&care->hosts, lt_str_of(member->name));
            px_member_free(member);
        }
    }
    *ret_kept = kept;
    return count;
}

static void fill_states(struct px_care *care, struct px_roster *roster,
                        const struct px_endpoints_conf *endpoints)
{
    uint32_t count = endpoints != NULL ? endpoints->endpoint_count : 0;
    roster->host_states = lt_calloc(count + 1, sizeof(struct px_host_state *));
    roster->host_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct px_member *member = get_member(care, &endpoints->endpoints[i]);
        member->index = i;
        member->generation = care->generation;
        roster->host_states[i] = px_host_state_ref(member->state);
    }
}

static void fill_hosts(struct px_care *care, struct px_roster *roster,
                       const struct px_endpoints_conf *endpoints)
{
    struct px_member **kept = NULL;
    uint32_t count = endpoints != NULL ? endpoints->endpoint_count : 0;
    care->generation++;
    for (uint32_t i = 0; i < count; i++) {
        struct px_member *member = get_member(care, &endpoints->endpoints[i]);
        member->generation = care->generation;
        px_member_set(member, &endpoints->endpoints[i]);
    }
    uint32_t kept_count = sift_missing(care, &kept);
    if (kept_count > 0) {
        struct px_resource *replaced = (struct px_resource *)roster->endpoints;
        roster->endpoints = with_kept(care, endpoints, kept, kept_count);
        px_resource_unref(&replaced);
        endpoints = roster->endpoints;
    }
    free(kept);
    fill_states(care, roster, endpoints);
}

static void make_roster(struct px_care *care, const struct px_endpoints_conf *source)
{
    struct px_roster *roster = px_roster_new(px_cluster_state_ref(care->state), source);
    if (care->names != NULL)
        roster->endpoints = px_names_endpoints(care->names);
    if (needs_hosts(care->conf))
        fill_hosts(care, roster, px_roster_endpoints(roster));
    else
        drop_hosts(care);
    px_roster_unref(&care->roster);
    care->roster = roster;
    care->is_stale = false;
}

static void refresh(struct px_care *care, const struct px_endpoints_conf *source)
{
    if (care->roster == NULL || care->is_stale || care->roster->source != source)
        make_roster(care, source);
}

/* --- for the table --- */

static struct px_care *get_care(struct px_members *members, const struct px_cluster_conf *conf)
{
    struct px_care *care = lt_map_find(&members->cares, conf->res.name);
    /* counts of a cluster that went and came again are still somebody's */
    bool is_known = care != NULL || lt_map_find(&members->states, conf->res.name) != NULL;
    if (!is_known && !needs_care(conf))
        return NULL;
    return care != NULL ? care : make_care(members, conf->res.name);
}

static bool is_pending(const struct px_care *care)
{
    for (size_t i = 0; i < care->hosts.count; i++) {
        if (px_member_is_pending(care->hosts.entries[i].value))
            return true;
    }
    return false;
}

bool px_members_is_ready(struct px_members *members, const struct px_cluster_conf *conf,
                         const struct px_endpoints_conf *source)
{
    struct px_care *care = get_care(members, conf);
    if (care == NULL)
        return true;
    if (care->conf != conf)
        adopt(care, conf);
    if (care->names != NULL && !px_names_are_answered(care->names))
        return false;
    refresh(care, source);
    return conf->check == NULL || !is_pending(care);
}

/* While its heir warms, the version before has new endpoints, but nothing is done for those. */
static struct px_roster *old_roster(struct px_care *care, const struct px_endpoints_conf *source)
{
    if (care->old_roster->source != source) {
        px_roster_unref(&care->old_roster);
        care->old_roster = px_roster_new(px_cluster_state_ref(care->state), source);
    }
    return care->old_roster;
}

struct px_roster *px_members_roster(struct px_members *members, const struct px_cluster_conf *conf,
                                    const struct px_endpoints_conf *source)
{
    struct px_care *care = get_care(members, conf);
    if (care == NULL)
        return NULL;
    if (care->old_conf == conf)
        return old_roster(care, source);
    if (care->conf != conf)
        adopt(care, conf);
    px_roster_unref(&care->old_roster); /* this version serves */
    drop_conf(&care->old_conf);
    refresh(care, source);
    return care->roster;
}

void px_members_forget(struct px_members *members, lt_str cluster)
{
    struct px_care *care = lt_map_remove(&members->cares, cluster);
    if (care != NULL)
        free_care(care);
}

void px_members_forget_all(struct px_members *members)
{
    while (members->cares.count > 0) {
        struct px_care *care = members->cares.entries[0].value;
        lt_map_remove(&members->cares, care->state->name);
        free_care(care);
    }
}

/* --- life --- */

struct px_members *px_members_new(const struct px_members_opts *opts)
{
    struct px_members *members = lt_new(struct px_members);
    members->opts = *opts;
    lt_prng_seed(&members->prng, opts->env);
    members->resolvers = px_resolvers_new(opts->loop);
    lt_list_init(&members->dirty);
    lt_list_init(&members->changed);
    lt_task_init(&members->tell, run_tell);
    lt_task_init(&members->change, run_change);
    return members;
}

void px_members_free(struct px_members **pointer)
{
    struct px_members *members = *pointer;
    *pointer = NULL;
    if (members == NULL)
        return;
    px_members_forget_all(members);
    lt_map_fini(&members->cares);
    LT_ASSERT(members->states.count == 0);
    lt_map_fini(&members->states);
    lt_task_cancel(&members->tell);
    lt_task_cancel(&members->change);
    px_resolvers_free(&members->resolvers);
    free(members);
}
