/*
 * control/hold.c - what was good, what is missing now, and until when it is held.
 * A VirtualService is good when every destination of its http, tls and tcp rules has a Service (of
 * the mesh's domain) and its subset. For each good one we remember the object and the definitions
 * that made it good; when it stops being good, those are the ones to hold.
 */
#include "control/hold.h"

#include "model/refs.h"

/* A VirtualService that is or was good, with what it stood on. */
struct good {
    char *key;                 /* owned */
    struct lt_object *routes;  /* counted */
    struct lt_vec definitions; /* struct lt_object *, counted: Services and DestinationRules */
    bool is_present;           /* in this step's objects */
};

struct cp_hold {
    struct lt_map good;            /* "VirtualService shop/web" to struct good, owned */
    struct cp_hold_entry *entries; /* owned */
    size_t entry_count;
    int64_t deadline_ns;
    struct lt_arena *arena; /* of held */
    struct lt_held held;
};

/* The world of one step. */
struct world {
    const struct cp_hold_input *in;
    struct lt_refs refs;
};

/* ---- destinations ---- */

/* Everything that a rule may send to, one after the other. */
struct destinations {
    const struct lt_object *routes;
    void (*on_destination)(void *ctx, size_t http_rule, const struct lt_vs_destination *d);
    void *ctx;
};

#define NO_HTTP_RULE SIZE_MAX

static void each_destination(const struct destinations *each)
{
    const struct lt_virtual_service *vs = each->routes->virtual_service;
    for (size_t i = 0; i < vs->http.count; i++) {
        const struct lt_http_route *rule = &vs->http.items[i];
        for (size_t j = 0; j < rule->route.count; j++)
            each->on_destination(each->ctx, i, rule->route.items[j].destination);
    }
    for (size_t i = 0; i < vs->tcp.count; i++) {
        for (size_t j = 0; j < vs->tcp.items[i].route.count; j++)
            each->on_destination(each->ctx, NO_HTTP_RULE,
                                 vs->tcp.items[i].route.items[j].destination);
    }
    for (size_t i = 0; i < vs->tls.count; i++) {
        for (size_t j = 0; j < vs->tls.items[i].route.count; j++)
            each->on_destination(each->ctx, NO_HTTP_RULE,
                                 vs->tls.items[i].route.items[j].destination);
    }
}

/* ---- judging one VirtualService ---- */

struct judging {
    struct world *world;
    const struct lt_object *routes;
    struct lt_vec definitions; /* borrowed: what it stands on */
    bool *is_left_out;         /* by http rule, or NULL */
    bool is_good;
    char reason[256]; /* of the first thing missing */
};

static void note_missing(struct judging *j, size_t http_rule, lt_str host, lt_str subset)
{
    if (j->is_good && subset.len > 0)
        snprintf(j->reason, sizeof(j->reason), "there is no subset %.*s of %.*s",
                 LT_STR_ARG(subset), LT_STR_ARG(host));
    else if (j->is_good)
        snprintf(j->reason, sizeof(j->reason), "there is no service %.*s", LT_STR_ARG(host));
    j->is_good = false;
    if (j->is_left_out != NULL && http_rule != NO_HTTP_RULE)
        j->is_left_out[http_rule] = true;
}

static void add_definition(struct judging *j, const struct lt_object *object)
{
    if (lt_vec_find(&j->definitions, object) < 0)
        lt_vec_push(&j->definitions, (void *)object);
}

static void judge_destination(void *ctx, size_t http_rule, const struct lt_vs_destination *d)
{
    struct judging *j = ctx;
    struct lt_refs *refs = &j->world->refs;
    lt_str host = lt_refs_host(refs, d->host, j->routes->key.ns);
    const struct lt_object *service = lt_refs_service(refs, host);
    if (service == NULL && lt_refs_is_mesh_host(refs, host)) {
        note_missing(j, http_rule, host, LT_STR(""));
        return;
    }
    if (service != NULL)
        add_definition(j, service);
    if (d->subset.len == 0)
        return;
    const struct lt_object *rule = lt_refs_subset(refs, host, d->subset);
    if (rule == NULL)
        note_missing(j, http_rule, host, d->subset);
    else
        add_definition(j, rule);
}

static void judge(struct world *w, const struct lt_object *routes, struct judging *ret)
{
    *ret = (struct judging){.world = w, .routes = routes, .is_good = true};
    ret->is_left_out = lt_arena_make_n(w->refs.arena, bool,
                                       routes->virtual_service->http.count + 1);
    each_destination(&(struct destinations){routes, judge_destination, ret});
}

/* ---- what is good ---- */

static void free_good(struct good *g)
{
    lt_object_unref(&g->routes);
    for (size_t i = 0; i < g->definitions.count; i++)
        lt_object_unref((struct lt_object **)&g->definitions.items[i]);
    lt_vec_fini(&g->definitions);
    free(g->key);
    free(g);
}

static struct good *find_good(const struct cp_hold *hold, const struct lt_object_key *key)
{
    char name[LT_OBJECT_NAME_MAX];
    return lt_map_find(&hold->good, lt_str_of(lt_object_key_format(key, name)));
}

static void remember_good(struct cp_hold *hold, const struct judging *j)
{
    char name[LT_OBJECT_NAME_MAX];
    struct good *g = lt_new(struct good);
    g->key = lt_strdup(lt_object_key_format(&j->routes->key, name));
    g->routes = lt_object_ref(j->routes);
    g->is_present = true;
    for (size_t i = 0; i < j->definitions.count; i++)
        lt_vec_push(&g->definitions, lt_object_ref(j->definitions.items[i]));
    struct good *old = lt_map_remove(&hold->good, lt_str_of(g->key));
    if (old != NULL)
        free_good(old);
    lt_map_put(&hold->good, lt_str_of(g->key), g);
}

/* VirtualServices that are gone need nothing any more. */
static void forget_absent(struct cp_hold *hold)
{
    for (size_t i = hold->good.count; i > 0; i--) {
        struct good *g = hold->good.entries[i - 1].value;
        if (g->is_present)
            continue;
        lt_map_remove(&hold->good, lt_str_of(g->key));
        free_good(g);
    }
}

/* ---- what is held ---- */

struct holding {
    struct cp_hold *hold;
    struct world *world;
    struct lt_vec routes;   /* struct lt_held_route *, in hold->arena */
    struct lt_vec subsets;  /* struct lt_held_subset * */
    struct lt_vec services; /* lt_object */
    struct cp_hold_entry *entries;
    size_t entry_count;
};

static const struct cp_hold_entry *find_entry(const struct cp_hold *hold,
                                              const struct lt_object_key *key)
{
    for (size_t i = 0; i < hold->entry_count; i++) {
        if (lt_object_key_eq(&hold->entries[i].routes->key, key))
            return &hold->entries[i];
    }
    return NULL;
}

static void hold_service(struct holding *h, const struct lt_object *service)
{
    lt_str host = lt_refs_host(&h->world->refs, service->key.name, service->key.ns);
    if (lt_refs_service(&h->world->refs, host) != NULL || lt_vec_find(&h->services, service) >= 0)
        return;
    lt_vec_push(&h->services, (void *)service);
}

static void hold_subset(struct holding *h, const struct lt_object *rule, lt_str name)
{
    for (size_t i = 0; i < h->subsets.count; i++) {
        const struct lt_held_subset *s = h->subsets.items[i];
        if (s->rule == rule && lt_str_eq(s->name, name))
            return;
    }
    struct lt_held_subset *s = lt_arena_make(h->hold->arena, struct lt_held_subset);
    *s = (struct lt_held_subset){rule, name};
    lt_vec_push(&h->subsets, s);
}

/* For the last good spec: each definition that it stood on and that is missing now. */
struct restoring {
    struct holding *holding;
    const struct good *good;
};

static bool is_rule_for(struct lt_refs *refs, const struct lt_object *rule, lt_str host)
{
    return lt_host_is_subset(host, lt_refs_host(refs, rule->destination_rule->host, rule->key.ns));
}

static void restore_destination(void *ctx, size_t http_rule, const struct lt_vs_destination *d)
{
    struct restoring *r = ctx;
    struct lt_refs *refs = &r->holding->world->refs;
    (void)http_rule;
    lt_str host = lt_refs_host(refs, d->host, r->good->routes->key.ns);
    bool is_missing = d->subset.len > 0 && lt_refs_subset(refs, host, d->subset) == NULL;
    for (size_t i = 0; i < r->good->definitions.count; i++) {
        const struct lt_object *o = r->good->definitions.items[i];
        if (o->key.kind == LT_KIND_SERVICE &&
            lt_str_eq(lt_refs_host(refs, o->key.name, o->key.ns), host))
            hold_service(r->holding, o);
        if (is_missing && o->key.kind == LT_KIND_DESTINATION_RULE && is_rule_for(refs, o, host) &&
            lt_rule_defines(o, d->subset))
            hold_subset(r->holding, o, d->subset);
    }
}

static void hold_routes(struct holding *h, const struct judging *j, const struct good *good)
{
    size_t count = j->routes->virtual_service->http.count;
    struct lt_held_route *route = lt_arena_make(h->hold->arena, struct lt_held_route);
    bool *left_out = lt_arena_make_n(h->hold->arena, bool, count + 1);
    if (count > 0)
        memcpy(left_out, j->is_left_out, count * sizeof(bool));
    *route = (struct lt_held_route){.key = j->routes->key,
                                    .instead = good != NULL ? good->routes : NULL,
                                    .is_left_out = left_out};
    lt_vec_push(&h->routes, route);
    if (good != NULL)
        each_destination(&(struct destinations){good->routes, restore_destination,
                                                &(struct restoring){h, good}});
}

/*
 * The clock starts when it begins to dangle and does not start anew with every further edit while
 * it does.
 */
static void enter(struct holding *h, const struct judging *j)
{
    const struct cp_hold_input *in = h->world->in;
    const struct cp_hold_entry *before = find_entry(h->hold, &j->routes->key);
    const struct good *good = find_good(h->hold, &j->routes->key);
    struct cp_hold_entry *e = &h->entries[h->entry_count++];
    e->routes = lt_object_ref(j->routes);
    e->since_ns = before != NULL ? before->since_ns : in->now_ns;
    e->until_ns = e->since_ns + in->hold_ns;
    e->is_over = in->now_ns >= e->until_ns;
    memcpy(e->reason, j->reason, sizeof(e->reason));
    e->instead = good != NULL && !e->is_over ? lt_object_ref(good->routes) : NULL;
    if (e->is_over)
        return;
    h->hold->deadline_ns = LT_MIN(h->hold->deadline_ns, e->until_ns);
    hold_routes(h, j, good);
}

static void free_entries(struct cp_hold_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        lt_object_unref((struct lt_object **)&entries[i].routes);
        lt_object_unref((struct lt_object **)&entries[i].instead);
    }
    free(entries);
}

/* From lists of pointers to the arrays that the model takes. */
static void publish(struct holding *h)
{
    struct cp_hold *hold = h->hold;
    struct lt_held_route *routes = lt_arena_make_n(hold->arena, struct lt_held_route,
                                                   h->routes.count + 1);
    struct lt_held_subset *subsets = lt_arena_make_n(hold->arena, struct lt_held_subset,
                                                     h->subsets.count + 1);
    const struct lt_object **services = lt_arena_make_n(hold->arena, const struct lt_object *,
                                                        h->services.count + 1);
    for (size_t i = 0; i < h->routes.count; i++)
        routes[i] = *(const struct lt_held_route *)h->routes.items[i];
    for (size_t i = 0; i < h->subsets.count; i++)
        subsets[i] = *(const struct lt_held_subset *)h->subsets.items[i];
    for (size_t i = 0; i < h->services.count; i++)
        services[i] = h->services.items[i];
    hold->held = (struct lt_held){h->routes.count,   routes,  h->subsets.count, subsets,
                                  h->services.count, services};
    lt_vec_fini(&h->routes);
    lt_vec_fini(&h->subsets);
    lt_vec_fini(&h->services);
    free_entries(hold->entries, hold->entry_count);
    hold->entries = h->entries;
    hold->entry_count = h->entry_count;
}

void cp_hold_step(struct cp_hold *hold, const struct cp_hold_input *input)
{
    struct world w = {.in = input};
    lt_refs_init(&w.refs, input->objects, input->count, input->domain);
    struct holding h = {.hold = hold,
                        .world = &w,
                        .entries = lt_calloc(input->count + 1, sizeof(struct cp_hold_entry))};
    lt_arena_reset(hold->arena);
    hold->deadline_ns = INT64_MAX;
    for (size_t i = 0; i < hold->good.count; i++)
        ((struct good *)hold->good.entries[i].value)->is_present = false;
    for (size_t i = 0; i < input->count; i++) {
        const struct lt_object *o = input->objects[i];
        if (o->key.kind != LT_KIND_VIRTUAL_SERVICE)
            continue;
        struct judging j;
        judge(&w, o, &j);
        struct good *good = find_good(hold, &o->key);
        if (good != NULL)
            good->is_present = true;
        if (j.is_good)
            remember_good(hold, &j);
        else
            enter(&h, &j);
        lt_vec_fini(&j.definitions);
    }
    forget_absent(hold);
    publish(&h);
    lt_refs_fini(&w.refs);
}

struct cp_hold *cp_hold_new(void)
{
    struct cp_hold *hold = lt_new(struct cp_hold);
    hold->arena = lt_arena_new(0, 0);
    lt_map_init(&hold->good);
    hold->deadline_ns = INT64_MAX;
    return hold;
}

void cp_hold_free(struct cp_hold **hold)
{
    struct cp_hold *h = *hold;
    *hold = NULL;
    if (h == NULL)
        return;
    for (size_t i = 0; i < h->good.count; i++)
        free_good(h->good.entries[i].value);
    lt_map_fini(&h->good);
    free_entries(h->entries, h->entry_count);
    lt_arena_free(&h->arena);
    free(h);
}

const struct lt_held *cp_hold_held(const struct cp_hold *hold)
{
    return &hold->held;
}

int64_t cp_hold_deadline_ns(const struct cp_hold *hold)
{
    return hold->deadline_ns;
}

const struct cp_hold_entry *cp_hold_entries(const struct cp_hold *hold, size_t *ret_count)
{
    *ret_count = hold->entry_count;
    return hold->entries;
}
