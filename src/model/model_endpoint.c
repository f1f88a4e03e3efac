/*
 * model/model_endpoint.c - who answers for a service.
 * Endpoints come from EndpointSlices; a Service that has a selector and no slice at all gets the
 * Pods that it selects, so that a directory of plain Services and Pods is enough. Nothing here
 * looks at all Pods for each service: there may be thousands of both.
 */
#include "model/model_priv.h"

/* What is found for one port, in the order of finding. */
struct found {
    struct lt_endpoint *items; /* in the builder's scratch */
    size_t count;
    size_t cap;
};

struct gathering {
    struct lt_model_builder *b;
    const struct lt_object **slices; /* by namespace and service */
    size_t slice_count;
    const struct lt_workload **by_ip; /* all, by namespace and address */
    struct lt_map by_label; /* "namespace/key=value" of a selector to struct lt_vec of workloads */
    const struct lt_service *service; /* the one at hand */
    struct found *ports;              /* of it */
};

static void add_endpoint(struct gathering *g, struct found *to, struct lt_endpoint endpoint)
{
    if (to->count == to->cap) {
        size_t cap = to->cap == 0 ? 16 : to->cap * 2;
        struct lt_endpoint *grown = lt_arena_make_n(g->b->scratch, struct lt_endpoint, cap);
        if (to->count > 0)
            memcpy(grown, to->items, to->count * sizeof(*grown));
        to->items = grown;
        to->cap = cap;
    }
    to->items[to->count++] = endpoint;
}

/* ---- by slices ---- */

static lt_str service_of(const struct lt_object *slice)
{
    return lt_kvs_find(&slice->meta->labels, LT_STR("kubernetes.io/service-name"));
}

/* By namespace and service, so that a service finds its own together. */
static int cmp_slices(const void *a, const void *b)
{
    const struct lt_object *x = *(const struct lt_object *const *)a,
                           *y = *(const struct lt_object *const *)b;
    int order = lt_str_cmp(x->key.ns, y->key.ns);
    if (order == 0)
        order = lt_str_cmp(service_of(x), service_of(y));
    return order != 0 ? order : lt_str_cmp(x->key.name, y->key.name);
}

/* The place of the first slice of the service, or where it would be. */
static size_t find_slices(const struct gathering *g)
{
    size_t low = 0, high = g->slice_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = lt_str_cmp(g->slices[mid]->key.ns, g->service->ns);
        if (order == 0)
            order = lt_str_cmp(service_of(g->slices[mid]), g->service->name);
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int cmp_address(const struct lt_workload *w, lt_str ns, lt_str ip)
{
    int order = lt_str_cmp(w->ns, ns);
    return order != 0 ? order : lt_str_cmp(w->ip, ip);
}

static int cmp_by_ip(const void *a, const void *b)
{
    const struct lt_workload *x = *(const struct lt_workload *const *)a,
                             *y = *(const struct lt_workload *const *)b;
    int order = cmp_address(x, y->ns, y->ip);
    return order != 0 ? order : lt_str_cmp(x->name, y->name);
}

static void index_addresses(struct gathering *g)
{
    const struct lt_model *m = g->b->model;
    g->by_ip = lt_arena_make_n(g->b->scratch, const struct lt_workload *, m->workload_count + 1);
    for (size_t i = 0; i < m->workload_count; i++)
        g->by_ip[i] = &m->workloads[i];
    lt_sort(g->by_ip, m->workload_count, sizeof(*g->by_ip), cmp_by_ip);
}

static const struct lt_workload *find_by_ip(struct gathering *g, lt_str ns, lt_str ip)
{
    size_t low = 0, high = g->b->model->workload_count;
    if (g->by_ip == NULL)
        index_addresses(g);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cmp_address(g->by_ip[mid], ns, ip) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    bool is_there = low < g->b->model->workload_count && cmp_address(g->by_ip[low], ns, ip) == 0;
    return is_there ? g->by_ip[low] : NULL;
}

/*
 * kubernetes.md 4: ready unless said otherwise; not ready and terminating (or not said) is gone for
 * good.
 */
static bool is_slice_endpoint_sent(const struct lt_slice_endpoint *endpoint, bool *ret_ready)
{
    const struct lt_slice_conditions *c = endpoint->conditions;
    *ret_ready = c == NULL || lt_opt_or(c->ready, true);
    return *ret_ready || !lt_opt_or(c->terminating, true);
}

static void add_slice_port(struct gathering *g, const struct lt_object *slice, uint16_t port,
                           struct found *to)
{
    for (size_t i = 0; i < slice->endpoint_slice->endpoints.count; i++) {
        const struct lt_slice_endpoint *e = &slice->endpoint_slice->endpoints.items[i];
        bool is_ready = false;
        if (e->addresses.count == 0 || !lt_is_ip(e->addresses.items[0]) ||
            !is_slice_endpoint_sent(e, &is_ready))
            continue;
        struct lt_endpoint endpoint = {
            .ip = e->addresses.items[0], .port = port, .is_ready = is_ready};
        if (e->target_ref != NULL && lt_str_eq(e->target_ref->kind, LT_STR("Pod"))) {
            endpoint.workload = lt_model_find_workload(g->b->model, slice->key.ns,
                                                       e->target_ref->name);
            if (endpoint.workload == NULL)
                continue; /* without its Pod we would not know whether it takes mTLS */
        } else {
            endpoint.workload = find_by_ip(g, slice->key.ns, endpoint.ip);
        }
        add_endpoint(g, to, endpoint);
    }
}

static void add_slice(struct gathering *g, const struct lt_object *slice)
{
    for (size_t p = 0; p < g->service->port_count; p++) {
        for (size_t i = 0; i < slice->endpoint_slice->ports.count; i++) {
            const struct lt_slice_port *port = &slice->endpoint_slice->ports.items[i];
            if (lt_str_eq(port->name, g->service->ports[p].name) && port->port.is_set)
                add_slice_port(g, slice, (uint16_t)port->port.value, &g->ports[p]);
        }
    }
}

/* False: the service has no slice at all. */
static bool add_slices(struct gathering *g)
{
    bool has_one = false;
    for (size_t i = find_slices(g); i < g->slice_count; i++) {
        const struct lt_object *slice = g->slices[i];
        if (!lt_str_eq(slice->key.ns, g->service->ns) ||
            !lt_str_eq(service_of(slice), g->service->name))
            break;
        if (slice->endpoint_slice->address_type.value == LT_ADDRESS_FQDN)
            continue;
        has_one = true;
        add_slice(g, slice);
    }
    return has_one;
}

/* ---- by selector ---- */

static lt_str label_key(struct lt_arena *arena, lt_str ns, const struct lt_kv *label)
{
    return lt_arena_printf(arena, "%.*s/%.*s=%.*s", LT_STR_ARG(ns), LT_STR_ARG(label->key),
                           LT_STR_ARG(label->value));
}

/* A list for each label that some selector asks for. */
static void index_selectors(struct gathering *g)
{
    const struct lt_model *m = g->b->model;
    for (size_t i = 0; i < m->service_count; i++) {
        const struct lt_kvs *selector = m->services[i].selector;
        for (size_t j = 0; j < selector->count; j++) {
            lt_str key = label_key(g->b->scratch, m->services[i].ns, &selector->items[j]);
            if (lt_map_find(&g->by_label, key) == NULL)
                lt_map_put(&g->by_label, key, lt_new(struct lt_vec));
        }
    }
}

static void index_labels(struct gathering *g)
{
    const struct lt_model *m = g->b->model;
    index_selectors(g);
    for (size_t i = 0; i < m->workload_count; i++) {
        const struct lt_workload *w = &m->workloads[i];
        for (size_t j = 0; j < w->labels->count; j++) {
            struct lt_arena_mark mark = lt_arena_mark(g->b->scratch);
            lt_str key = label_key(g->b->scratch, w->ns, &w->labels->items[j]);
            struct lt_vec *list = lt_map_find(&g->by_label, key);
            if (list != NULL)
                lt_vec_push(list, (void *)w);
            lt_arena_rollback(g->b->scratch, mark);
        }
    }
}

/* Of the lists of its labels, the shortest. */
static const struct lt_vec *find_candidates(struct gathering *g)
{
    const struct lt_vec *best = NULL;
    if (g->by_label.count == 0)
        index_labels(g);
    for (size_t i = 0; i < g->service->selector->count; i++) {
        lt_str key = label_key(g->b->scratch, g->service->ns, &g->service->selector->items[i]);
        const struct lt_vec *list = lt_map_find(&g->by_label, key);
        if (best == NULL || list->count < best->count)
            best = list;
    }
    return best;
}

/*
 * kubernetes.md 1.2: a named target port is the first container port of that name. 0: the Pod has
 * none.
 */
static uint16_t resolve_target(const struct lt_pod_spec *spec, const struct lt_port_ref *target)
{
    if (target->number != 0)
        return target->number;
    for (size_t i = 0; i < spec->containers.count; i++) {
        const struct lt_container *c = &spec->containers.items[i];
        for (size_t j = 0; j < c->ports.count; j++) {
            if (lt_str_eq(c->ports.items[j].name, target->name) &&
                c->ports.items[j].protocol.value == LT_PROTOCOL_TCP)
                return (uint16_t)c->ports.items[j].container_port.value;
        }
    }
    return 0;
}

static void add_selected(struct gathering *g)
{
    const struct lt_service *s = g->service;
    const struct lt_vec *candidates = find_candidates(g);
    for (size_t i = 0; i < candidates->count; i++) {
        const struct lt_workload *w = candidates->items[i];
        bool is_ready = w->is_ready || s->object->service->spec->publish_not_ready.value;
        if (!lt_kvs_contain(w->labels, s->selector))
            continue;
        for (size_t p = 0; p < s->port_count; p++) {
            uint16_t port = resolve_target(w->pod->pod->spec, &s->ports[p].target);
            if (port != 0)
                add_endpoint(g, &g->ports[p], (struct lt_endpoint){w->ip, port, is_ready, w});
        }
    }
}

/* ---- what is kept ---- */

static int cmp_place(const struct lt_endpoint *x, const struct lt_endpoint *y)
{
    int order = lt_str_cmp(x->ip, y->ip);
    return order != 0 ? order : (int)x->port - (int)y->port;
}

/* By place; what was found first stays first. */
static int cmp_found(const void *a, const void *b)
{
    const struct lt_endpoint *x = *(const struct lt_endpoint *const *)a,
                             *y = *(const struct lt_endpoint *const *)b;
    int order = cmp_place(x, y);
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* Sorted, each place once, in the model's arena. */
static void keep(struct gathering *g, const struct found *from, struct lt_port *port)
{
    const struct lt_endpoint **sorted = lt_arena_make_n(g->b->scratch, const struct lt_endpoint *,
                                                        from->count + 1);
    for (size_t i = 0; i < from->count; i++)
        sorted[i] = &from->items[i];
    lt_sort(sorted, from->count, sizeof(*sorted), cmp_found);
    struct lt_endpoint *to = lt_arena_make_n(g->b->model->arena, struct lt_endpoint, from->count);
    for (size_t i = 0; i < from->count; i++) {
        if (port->endpoint_count == 0 || cmp_place(&to[port->endpoint_count - 1], sorted[i]) != 0)
            to[port->endpoint_count++] = *sorted[i];
    }
    port->endpoints = to;
}

static int cmp_strs(const void *a, const void *b)
{
    return lt_str_cmp(*(const lt_str *)a, *(const lt_str *)b);
}

/* The identities that answer for the service. */
static void collect_identities(struct gathering *g, struct lt_service *service)
{
    size_t max = 0, kept = 0;
    for (size_t p = 0; p < service->port_count; p++)
        max += service->ports[p].endpoint_count;
    lt_str *all = lt_arena_make_n(g->b->scratch, lt_str, max + 1);
    max = 0;
    for (size_t p = 0; p < service->port_count; p++) {
        for (size_t i = 0; i < service->ports[p].endpoint_count; i++) {
            if (service->ports[p].endpoints[i].workload != NULL)
                all[max++] = service->ports[p].endpoints[i].workload->identity;
        }
    }
    lt_sort(all, max, sizeof(*all), cmp_strs);
    for (size_t i = 0; i < max; i++) {
        if (kept == 0 || !lt_str_eq(all[kept - 1], all[i]))
            all[kept++] = all[i];
    }
    lt_str *identities = lt_arena_make_n(g->b->model->arena, lt_str, kept);
    if (kept > 0)
        memcpy(identities, all, kept * sizeof(*all));
    service->identities = (struct lt_strs){kept, identities};
}

static void gather(struct gathering *g, struct lt_service *service, struct lt_port *ports)
{
    g->service = service;
    g->ports = lt_arena_make_n(g->b->scratch, struct found, service->port_count);
    bool has_slices = service->alias_of.len == 0 && add_slices(g);
    if (!has_slices && service->selector->count > 0 && service->alias_of.len == 0)
        add_selected(g);
    for (size_t p = 0; p < service->port_count; p++)
        keep(g, &g->ports[p], &ports[p]);
    collect_identities(g, service);
}

void lt_model_build_endpoints(struct lt_model_builder *b, struct lt_service *services,
                              struct lt_port *const *ports)
{
    struct gathering g = {.b = b};
    g.slices = lt_model_pick(b, LT_KIND_ENDPOINT_SLICE, &g.slice_count);
    lt_sort(g.slices, g.slice_count, sizeof(*g.slices), cmp_slices);
    lt_map_init(&g.by_label);
    for (size_t i = 0; i < b->model->service_count; i++)
        gather(&g, &services[i], ports[i]);
    for (size_t i = 0; i < g.by_label.count; i++) {
        lt_vec_fini(g.by_label.entries[i].value);
        free(g.by_label.entries[i].value);
    }
    lt_map_fini(&g.by_label);
}
