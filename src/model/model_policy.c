/*
 * model/model_policy.c - DestinationRules merged, VirtualServices with full names,
 * PeerAuthentication resolved.
 */
#include "model/model_priv.h"

/* ---- DestinationRules ---- */

static bool is_same_set(const struct lt_strs *a, const struct lt_strs *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!lt_strs_contain(b, a->items[i]))
            return false;
    }
    return true;
}

static bool is_same_selector(const struct lt_kvs *a, const struct lt_kvs *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return a->count == b->count && lt_kvs_contain(a, b);
}

static const struct lt_kvs *selector_of(const struct lt_destination_rule *rule)
{
    const struct lt_workload_selector *s = rule->workload_selector;
    if (s == NULL)
        return NULL;
    return s->match_labels.count > 0 ? &s->match_labels : &s->labels;
}

struct rule_list {
    struct lt_rule *items;
    size_t *previous; /* of an item: the item before it with its host and namespace, + 1 */
    size_t count;
    struct lt_map latest; /* "namespace/host" to the last item, + 1 */
    struct lt_arena *arena;
};

/*
 * A rule that this one merges into, or a new one (networking.md 3.1: equal host, namespace,
 * selector and exportTo).
 */
static struct lt_rule *get_rule(struct rule_list *list, const struct lt_rule *like)
{
    lt_str key = lt_arena_printf(list->arena, "%.*s/%.*s", LT_STR_ARG(like->ns),
                                 LT_STR_ARG(like->host));
    size_t latest = (size_t)(uintptr_t)lt_map_find(&list->latest, key);
    for (size_t i = latest; i > 0; i = list->previous[i - 1]) {
        struct lt_rule *r = &list->items[i - 1];
        if (is_same_selector(r->selector, like->selector) &&
            is_same_set(r->export_to, like->export_to))
            return r;
    }
    list->items[list->count] = *like;
    list->previous[list->count] = latest;
    list->count++;
    lt_map_put(&list->latest, key, (void *)(uintptr_t)list->count);
    return &list->items[list->count - 1];
}

const struct lt_subset *lt_rule_find_subset(const struct lt_rule *rule, lt_str name)
{
    for (size_t i = 0; rule != NULL && i < rule->subset_count; i++) {
        if (lt_str_eq(rule->subsets[i].spec->name, name))
            return &rule->subsets[i];
    }
    return NULL;
}

static void append_subset(struct lt_arena *arena, struct lt_rule *rule, struct lt_subset subset)
{
    if (lt_rule_find_subset(rule, subset.spec->name) != NULL)
        return;
    struct lt_subset *grown = lt_arena_make_n(arena, struct lt_subset, rule->subset_count + 1);
    if (rule->subset_count > 0)
        memcpy(grown, rule->subsets, rule->subset_count * sizeof(*grown));
    grown[rule->subset_count++] = subset;
    rule->subsets = grown;
}

static struct lt_rule describe_rule(struct lt_arena *arena, const struct lt_object *object,
                                    lt_str domain)
{
    const struct lt_destination_rule *spec = object->destination_rule;
    return (struct lt_rule){
        .object = object,
        .ns = object->key.ns,
        .host = lt_host_lower(arena, lt_host_expand(arena, spec->host, object->key.ns, domain)),
        .selector = selector_of(spec),
        .export_to = &spec->export_to};
}

static void add_rule(struct lt_model_builder *b, struct rule_list *list,
                     const struct lt_object *object)
{
    struct lt_arena *arena = b->model->arena;
    const struct lt_destination_rule *spec = object->destination_rule;
    struct lt_rule like = describe_rule(arena, object, b->model->mesh.domain);
    struct lt_rule *rule = get_rule(list, &like);
    if (rule->policy == NULL)
        rule->policy = spec->traffic_policy;
    for (size_t i = 0; i < spec->subsets.count; i++)
        append_subset(arena, rule, (struct lt_subset){&spec->subsets.items[i], NULL});
}

static void add_held_subset(struct lt_model_builder *b, struct rule_list *list,
                            const struct lt_held_subset *held)
{
    struct lt_arena *arena = b->model->arena;
    const struct lt_destination_rule *spec = held->rule->destination_rule;
    struct lt_rule like = describe_rule(arena, held->rule, b->model->mesh.domain);
    struct lt_rule *rule = get_rule(list, &like);
    for (size_t i = 0; i < spec->subsets.count; i++) {
        if (lt_str_eq(spec->subsets.items[i].name, held->name))
            append_subset(arena, rule,
                          (struct lt_subset){&spec->subsets.items[i], spec->traffic_policy});
    }
}

static int cmp_rules(const void *a, const void *b)
{
    const struct lt_rule *x = a, *y = b;
    int order = lt_str_cmp(x->ns, y->ns);
    if (order == 0)
        order = lt_str_cmp(x->host, y->host); /* '*' is before all that a name may begin with */
    if (order != 0)
        return order;
    if ((x->selector == NULL) != (y->selector == NULL))
        return x->selector != NULL ? -1 : 1;
    if (x->object->created_s != y->object->created_s)
        return x->object->created_s < y->object->created_s ? -1 : 1;
    return lt_object_key_cmp(&x->object->key, &y->object->key);
}

void lt_model_build_rules(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    size_t count = 0, held = b->input->held != NULL ? b->input->held->subset_count : 0;
    const struct lt_object **objects = lt_model_pick(b, LT_KIND_DESTINATION_RULE, &count);
    struct rule_list list = {.items = lt_arena_make_n(m->arena, struct lt_rule, count + held + 1),
                             .previous = lt_arena_make_n(m->arena, size_t, count + held + 1),
                             .arena = m->arena};
    lt_map_init(&list.latest);
    for (size_t i = 0; i < count; i++)
        add_rule(b, &list, objects[i]);
    /* the rule's own subsets go with the rule's policy, whichever of the merged objects gave it */
    for (size_t i = 0; i < list.count; i++) {
        struct lt_subset *subsets =
            (struct lt_subset *)list.items[i].subsets; /* made in this function, not yet frozen */
        for (size_t j = 0; j < list.items[i].subset_count; j++)
            subsets[j].rule_policy = list.items[i].policy;
    }
    for (size_t i = 0; i < held; i++)
        add_held_subset(b, &list, &b->input->held->subsets[i]);
    lt_sort(list.items, list.count, sizeof(*list.items), cmp_rules);
    m->rules = list.items;
    m->rule_count = list.count;
    lt_map_fini(&list.latest);
}

/* A search over one namespace's rules for the one that counts. */
struct rule_search {
    const struct lt_model *model;
    lt_str rule_ns;
    lt_str host;
    lt_str ns;
    const struct lt_kvs *labels;
    const struct lt_rule *best;
};

/*
 * The most specific host; of equal ones the first whose selector fits, else the youngest without
 * one.
 */
static void consider(struct rule_search *s, const struct lt_rule *r)
{
    if (!lt_host_is_subset(s->host, r->host))
        return;
    if (r->selector != NULL && (!lt_str_eq(s->ns, s->rule_ns) || s->labels == NULL ||
                                !lt_kvs_contain(s->labels, r->selector)))
        return;
    if (r->selector == NULL &&
        !lt_is_exported(r->export_to, &s->model->mesh.dr_export_to, r->ns, s->ns))
        return;
    int order = s->best == NULL ? -1 : lt_host_specificity_cmp(r->host, s->best->host);
    if (order < 0 || (order == 0 && s->best->selector == NULL))
        s->best = r;
}

/* The first rule of the namespace whose host is not before `host`. */
static size_t find_rules(const struct lt_model *m, lt_str ns, lt_str host)
{
    size_t low = 0, high = m->rule_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = lt_str_cmp(m->rules[mid].ns, ns);
        if (order == 0)
            order = lt_str_cmp(m->rules[mid].host, host);
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static const struct lt_rule *find_in_ns(const struct lt_model *m, lt_str rule_ns, lt_str host,
                                        lt_str ns, const struct lt_kvs *labels)
{
    struct rule_search s = {m, rule_ns, host, ns, labels, NULL};
    for (size_t i = find_rules(m, rule_ns, host); i < m->rule_count; i++) {
        if (!lt_str_eq(m->rules[i].ns, rule_ns) || !lt_str_eq(m->rules[i].host, host))
            break;
        consider(&s, &m->rules[i]);
    }
    for (size_t i = find_rules(m, rule_ns, LT_STR("*")); i < m->rule_count; i++) {
        if (!lt_str_eq(m->rules[i].ns, rule_ns) || !lt_host_is_wildcard(m->rules[i].host))
            break;
        consider(&s, &m->rules[i]);
    }
    return s.best;
}

static bool is_private(const struct lt_rule *rule)
{
    return rule != NULL && rule->export_to->count == 1 &&
           lt_str_eq(rule->export_to->items[0], LT_STR("."));
}

const struct lt_rule *lt_model_find_rule(const struct lt_model *model,
                                         const struct lt_service *service, lt_str ns,
                                         const struct lt_kvs *labels)
{
    bool is_root = lt_str_eq(ns, model->mesh.root_ns);
    const struct lt_rule *own = find_in_ns(model, ns, service->host, ns, labels);
    if (own != NULL && (!is_root || is_private(own)))
        return own;
    const struct lt_rule *theirs = find_in_ns(model, service->ns, service->host, ns, labels);
    if (theirs != NULL)
        return theirs;
    return find_in_ns(model, model->mesh.root_ns, service->host, ns, labels);
}

/* ---- VirtualServices ---- */

lt_str lt_gateway_name(struct lt_arena *arena, lt_str text, lt_str ns)
{
    ptrdiff_t slash = lt_str_find_char(text, '/');
    if (lt_str_eq(text, LT_STR("mesh")))
        return text;
    if (slash >= 0 && !lt_str_starts(text, LT_STR("./")))
        return text;
    lt_str name = lt_str_from(text, (size_t)(slash + 1));
    return lt_arena_printf(arena, "%.*s/%.*s", LT_STR_ARG(ns), LT_STR_ARG(name));
}

static const struct lt_held_route *find_held(const struct lt_held *held,
                                             const struct lt_object_key *key)
{
    for (size_t i = 0; held != NULL && i < held->route_count; i++) {
        if (lt_object_key_eq(&held->routes[i].key, key))
            return &held->routes[i];
    }
    return NULL;
}

static void fill_routes(struct lt_model_builder *b, const struct lt_object *object,
                        struct lt_routes *r)
{
    struct lt_arena *arena = b->model->arena;
    const struct lt_held_route *held = find_held(b->input->held, &object->key);
    if (held != NULL && held->instead != NULL)
        object = held->instead;
    const struct lt_virtual_service *vs = object->virtual_service;
    *r = (struct lt_routes){.object = object, .spec = vs, .ns = object->key.ns};
    if (held != NULL && held->instead == NULL && vs->http.count > 0) {
        bool *left_out = lt_arena_make_n(arena, bool, vs->http.count);
        memcpy(left_out, held->is_left_out, vs->http.count * sizeof(bool));
        r->is_left_out = left_out;
    }
    r->hosts.items = lt_arena_make_n(arena, lt_str, vs->hosts.count + 1);
    for (size_t i = 0; i < vs->hosts.count; i++)
        r->hosts.items[r->hosts.count++] = lt_host_expand(arena, vs->hosts.items[i], r->ns,
                                                          b->model->mesh.domain);
    r->gateways.items = lt_arena_make_n(arena, lt_str, vs->gateways.count + 1);
    for (size_t i = 0; i < vs->gateways.count; i++)
        r->gateways.items[r->gateways.count++] = lt_gateway_name(arena, vs->gateways.items[i],
                                                                 r->ns);
    if (r->gateways.count == 0)
        r->gateways.items[r->gateways.count++] = LT_STR("mesh");
}

/* All of its rules are left out: it is as if it weren't there. */
static bool is_void(const struct lt_routes *r)
{
    if (r->is_left_out == NULL || r->spec->tls.count + r->spec->tcp.count > 0)
        return false;
    for (size_t i = 0; i < r->spec->http.count; i++) {
        if (!r->is_left_out[i])
            return false;
    }
    return true;
}

static int cmp_route_hosts(const void *a, const void *b)
{
    const struct lt_route_host *x = a, *y = b;
    int order = lt_str_cmp(x->host, y->host);
    if (order != 0)
        return order;
    return x->routes == y->routes ? 0 : x->routes < y->routes ? -1 : 1;
}

static void index_hosts(struct lt_model *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->routes_count; i++)
        count += m->routes[i].hosts.count;
    struct lt_route_host *hosts = lt_arena_make_n(m->arena, struct lt_route_host, count + 1);
    for (size_t i = 0; i < m->routes_count; i++) {
        const struct lt_routes *r = &m->routes[i];
        for (size_t j = 0; j < r->hosts.count; j++)
            hosts[m->route_host_count++] = (struct lt_route_host){
                lt_host_lower(m->arena, r->hosts.items[j]), r};
    }
    lt_sort(hosts, count, sizeof(*hosts), cmp_route_hosts);
    m->route_hosts = hosts;
}

void lt_model_build_routes(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    size_t count = 0;
    const struct lt_object **objects = lt_model_pick(b, LT_KIND_VIRTUAL_SERVICE, &count);
    struct lt_routes *routes = lt_arena_make_n(m->arena, struct lt_routes, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (objects[i]->virtual_service->hosts.count == 0)
            continue; /* a delegate */
        fill_routes(b, objects[i], &routes[m->routes_count]);
        m->routes_count += !is_void(&routes[m->routes_count]);
    }
    m->routes = routes;
    index_hosts(m);
}

void lt_model_each_route(const struct lt_model *model, lt_str host,
                         void (*on_match)(void *ctx, const struct lt_route_host *match), void *ctx)
{
    size_t i = 0, low = 0, high = model->route_host_count;
    for (; i < model->route_host_count && lt_host_is_wildcard(model->route_hosts[i].host); i++) {
        if (lt_host_is_subset(host, model->route_hosts[i].host))
            on_match(ctx, &model->route_hosts[i]);
    }
    if (lt_host_is_wildcard(host))
        return;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (lt_str_cmp(model->route_hosts[mid].host, host) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < model->route_host_count && lt_str_eq(model->route_hosts[low].host, host); low++)
        on_match(ctx, &model->route_hosts[low]);
}

/* ---- PeerAuthentication ---- */

static bool has_selector(const struct lt_peer_authentication *policy)
{
    return policy->selector != NULL && policy->selector->match_labels.count > 0;
}

/* The oldest object of the scope: labels NULL is the whole namespace. */
static const struct lt_peer_authentication *find_peer(const struct lt_model *m, lt_str ns,
                                                      const struct lt_kvs *labels)
{
    for (size_t i = 0; i < m->peer_count; i++) {
        const struct lt_peer_authentication *policy = m->peers[i]->peer_authentication;
        if (!lt_str_eq(m->peers[i]->key.ns, ns) || has_selector(policy) != (labels != NULL))
            continue;
        if (labels == NULL || lt_kvs_contain(labels, &policy->selector->match_labels))
            return policy;
    }
    return NULL;
}

static int64_t mode_of(const struct lt_peer_authentication *policy, int64_t inherited)
{
    int64_t mode = policy != NULL && policy->mtls != NULL ? policy->mtls->mode.value
                                                          : LT_MTLS_UNSET;
    return mode == LT_MTLS_UNSET ? inherited : mode;
}

/* A policy with a selector in the root namespace has no effect at all. */
static const struct lt_peer_authentication *find_own_peer(const struct lt_model *m, lt_str ns,
                                                          const struct lt_kvs *labels)
{
    return labels == NULL || lt_str_eq(ns, m->mesh.root_ns) ? NULL : find_peer(m, ns, labels);
}

int64_t lt_model_mtls_mode(const struct lt_model *model, lt_str ns, const struct lt_kvs *labels,
                           uint16_t port)
{
    int64_t mode = mode_of(find_peer(model, model->mesh.root_ns, NULL), LT_MTLS_PERMISSIVE);
    mode = mode_of(find_peer(model, ns, NULL), mode);
    const struct lt_peer_authentication *own = find_own_peer(model, ns, labels);
    if (own == NULL)
        return mode;
    mode = mode_of(own, mode);
    for (size_t i = 0; i < own->port_level.count; i++) {
        uint64_t number = 0;
        int64_t port_mode = own->port_level.items[i].mode.value;
        if (lt_str_to_u64(own->port_level.keys[i], &number) == LT_OK && number == port &&
            port_mode != LT_MTLS_UNSET)
            return port_mode;
    }
    return mode;
}

size_t lt_model_mtls_ports(const struct lt_model *model, lt_str ns, const struct lt_kvs *labels,
                           uint16_t *ret_ports, size_t max)
{
    const struct lt_peer_authentication *own = find_own_peer(model, ns, labels);
    size_t count = 0;
    for (size_t i = 0; own != NULL && i < own->port_level.count && count < max; i++) {
        uint64_t number = 0;
        if (lt_str_to_u64(own->port_level.keys[i], &number) != LT_OK)
            continue;
        size_t at = count++;
        for (; at > 0 && ret_ports[at - 1] > number; at--)
            ret_ports[at] = ret_ports[at - 1];
        ret_ports[at] = (uint16_t)number;
    }
    return count;
}
