/*
 * model/model.c - services, workloads and endpoints out of objects.
 * Endpoints come from EndpointSlices; a Service that has a selector and no slice at all gets the
 * Pods that it selects, so that a directory of plain Services and Pods is enough.
 */
#include "model/model_priv.h"

/* ---- objects ---- */

static int cmp_age(const void *a, const void *b)
{
    const struct lt_object *x = *(const struct lt_object *const *)a,
                           *y = *(const struct lt_object *const *)b;
    if (x->created_s != y->created_s)
        return x->created_s < y->created_s ? -1 : 1;
    int order = lt_str_cmp(x->key.name, y->key.name);
    return order != 0 ? order : lt_str_cmp(x->key.ns, y->key.ns);
}

const struct lt_object **lt_model_pick(struct lt_model_builder *b, lt_kind_id kind,
                                       size_t *ret_count)
{
    const struct lt_model_input *in = b->input;
    size_t held = kind == LT_KIND_SERVICE && in->held != NULL ? in->held->service_count : 0,
           count = 0;
    for (size_t i = 0; i < in->count; i++)
        count += in->objects[i]->key.kind == kind;
    const struct lt_object **picked = lt_arena_make_n(b->model->arena, const struct lt_object *,
                                                      count + held + 1);
    *ret_count = 0;
    for (size_t i = 0; i < in->count; i++) {
        if (in->objects[i]->key.kind == kind)
            picked[(*ret_count)++] = in->objects[i];
    }
    for (size_t i = 0; i < held; i++)
        picked[(*ret_count)++] = in->held->services[i];
    lt_sort(picked, *ret_count, sizeof(*picked), cmp_age);
    return picked;
}

/* Counts what the model borrows from: objects in force, and what is held. */
static void hold_objects(struct lt_model_builder *b)
{
    static const struct lt_held none = {0};
    const struct lt_held *held = b->input->held != NULL ? b->input->held : &none;
    struct lt_model *m = b->model;
    size_t max = b->input->count + held->route_count + held->subset_count + held->service_count;
    m->objects = lt_arena_make_n(m->arena, struct lt_object *, max + 1);
    for (size_t i = 0; i < b->input->count; i++)
        m->objects[m->object_count++] = lt_object_ref(b->input->objects[i]);
    for (size_t i = 0; i < held->route_count; i++) {
        if (held->routes[i].instead != NULL)
            m->objects[m->object_count++] = lt_object_ref(held->routes[i].instead);
    }
    for (size_t i = 0; i < held->subset_count; i++)
        m->objects[m->object_count++] = lt_object_ref(held->subsets[i].rule);
    for (size_t i = 0; i < held->service_count; i++)
        m->objects[m->object_count++] = lt_object_ref(held->services[i]);
}

/* ---- mesh ---- */

static void build_mesh(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    m->mesh = lt_mesh_default();
    if (b->input->mesh != NULL)
        m->mesh = *b->input->mesh;
    lt_str root_ns = m->mesh.root_ns;
    for (size_t i = 0; i < b->input->count; i++) {
        const struct lt_object *o = b->input->objects[i];
        bool is_mesh = o->key.kind == LT_KIND_CONFIG_MAP &&
                       lt_str_eq(o->key.name, LT_STR("istio")) && lt_str_eq(o->key.ns, root_ns);
        lt_str text = is_mesh ? lt_kvs_find(&o->config_map->data, LT_STR("mesh")) : LT_STR_NULL;
        if (text.ptr == NULL)
            continue;
        char name[LT_OBJECT_NAME_MAX];
        struct lt_note where = lt_object_note(o, LT_NOTE_ERROR, name);
        lt_mesh_read(m->arena, text, &where, b->notes,
                     &m->mesh); /* what is wrong went to the notes; defaults stay */
    }
}

/* ---- workloads ---- */

static struct lt_locality locality_of(struct lt_model_builder *b, const struct lt_object *pod)
{
    struct lt_locality at = {LT_STR(""), LT_STR(""), LT_STR("")};
    lt_str text = lt_kvs_find(&pod->meta->labels, LT_STR("topology.istio.io/locality"));
    if (text.ptr == NULL)
        text = lt_kvs_find(&pod->meta->labels, LT_STR("istio-locality"));
    if (text.ptr != NULL) {
        char sep = lt_str_find_char(text, '/') >= 0 ? '/' : '.';
        lt_str *parts[] = {&at.region, &at.zone, &at.subzone};
        for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++)
            lt_str_split(&text, sep, parts[i]);
        return at;
    }
    lt_str node = pod->pod->spec->node_name;
    for (size_t i = 0; i < b->node_count; i++) {
        const struct lt_object *o = b->nodes[i];
        if (!lt_str_eq(o->key.name, node))
            continue;
        at.region = lt_kvs_find(&o->meta->labels, LT_STR("topology.kubernetes.io/region"));
        at.zone = lt_kvs_find(&o->meta->labels, LT_STR("topology.kubernetes.io/zone"));
        at.subzone = lt_kvs_find(&o->meta->labels, LT_STR("topology.istio.io/subzone"));
    }
    return at;
}

/*
 * A Deployment's Pods belong to a ReplicaSet that has the template's hash behind its name
 * (kubernetes.md 4).
 */
static lt_str owner_of(const struct lt_object *pod)
{
    for (size_t i = 0; i < pod->meta->owners.count; i++) {
        const struct lt_owner_ref *owner = &pod->meta->owners.items[i];
        if (!owner->controller.value)
            continue;
        lt_str hash = lt_kvs_find(&pod->meta->labels, LT_STR("pod-template-hash"));
        bool has_hash = lt_str_eq(owner->kind, LT_STR("ReplicaSet")) && hash.len > 0 &&
                        lt_str_ends(owner->name, hash) && owner->name.len > hash.len + 1;
        return has_hash ? lt_str_slice(owner->name, 0, owner->name.len - hash.len - 1)
                        : owner->name;
    }
    return pod->key.name;
}

static lt_str first_label(const struct lt_kvs *labels, const char *const *names, size_t count,
                          lt_str otherwise)
{
    for (size_t i = 0; i < count; i++) {
        lt_str value = lt_kvs_find(labels, lt_str_of(names[i]));
        if (value.len > 0)
            return value;
    }
    return otherwise;
}

static bool is_pod_ready(const struct lt_pod_status *status)
{
    for (size_t i = 0; i < status->conditions.count; i++) {
        if (lt_str_eq(status->conditions.items[i].type, LT_STR("Ready")))
            return lt_str_eq(status->conditions.items[i].status, LT_STR("True"));
    }
    return false;
}

static void fill_workload(struct lt_model_builder *b, const struct lt_object *pod,
                          struct lt_workload *w)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app"};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version"};
    const struct lt_pod_spec *spec = pod->pod->spec;
    lt_str account = spec->service_account_name.len > 0 ? spec->service_account_name
                                                        : spec->service_account;
    *w = (struct lt_workload){
        .pod = pod, .name = pod->key.name, .ns = pod->key.ns, .ip = pod->pod->status->pod_ip};
    w->labels = &pod->meta->labels;
    w->service_account = account.len > 0 ? account : LT_STR("default");
    w->owner_name = owner_of(pod);
    w->canonical_name = first_label(w->labels, names, LT_ARRAY_LEN(names), w->owner_name);
    w->canonical_revision = first_label(w->labels, revisions, LT_ARRAY_LEN(revisions),
                                        LT_STR("latest"));
    w->identity = lt_arena_printf(b->model->arena, "spiffe://%.*s/ns/%.*s/sa/%.*s",
                                  LT_STR_ARG(b->model->mesh.trust_domain), LT_STR_ARG(w->ns),
                                  LT_STR_ARG(w->service_account));
    w->locality = locality_of(b, pod);
    w->is_ready = is_pod_ready(pod->pod->status) && pod->meta->deletion_timestamp.len == 0;
    w->takes_mtls = lt_str_eq(lt_kvs_find(w->labels, LT_STR("security.istio.io/tlsMode")),
                              LT_STR("istio"));
}

static bool is_live(const struct lt_object *pod)
{
    const struct lt_pod_status *status = pod->pod->status;
    if (status == NULL || !lt_is_ip(status->pod_ip))
        return false;
    return !lt_str_eq(status->phase, LT_STR("Failed")) &&
           !lt_str_eq(status->phase, LT_STR("Succeeded"));
}

static int cmp_workloads(const void *a, const void *b)
{
    const struct lt_workload *x = a, *y = b;
    int order = lt_str_cmp(x->ns, y->ns);
    return order != 0 ? order : lt_str_cmp(x->name, y->name);
}

/* Where the workloads of a namespace begin. */
static size_t find_workloads(const struct lt_model *m, lt_str ns)
{
    size_t low = 0, high = m->workload_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (lt_str_cmp(m->workloads[mid].ns, ns) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void build_workloads(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    size_t count = 0;
    const struct lt_object **pods = lt_model_pick(b, LT_KIND_POD, &count);
    struct lt_workload *workloads = lt_arena_make_n(m->arena, struct lt_workload, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (is_live(pods[i]))
            fill_workload(b, pods[i], &workloads[m->workload_count++]);
    }
    lt_sort(workloads, m->workload_count, sizeof(*workloads), cmp_workloads);
    for (size_t i = 0; i < m->workload_count; i++) {
        struct lt_workload *w = &workloads[i];
        lt_map_put(m->workload_by_name,
                   lt_arena_printf(m->arena, "%.*s/%.*s", LT_STR_ARG(w->ns), LT_STR_ARG(w->name)),
                   w);
    }
    m->workloads = workloads;
}

static const struct lt_workload *find_workload_by_ip(const struct lt_model *m, lt_str ns, lt_str ip)
{
    for (size_t i = find_workloads(m, ns);
         i < m->workload_count && lt_str_eq(m->workloads[i].ns, ns); i++) {
        if (lt_str_eq(m->workloads[i].ip, ip))
            return &m->workloads[i];
    }
    return NULL;
}

/* ---- endpoints ---- */

/* While endpoints are gathered: per service, per port, growing arrays. */
struct gathering {
    struct lt_vec *ports; /* a vec of struct lt_endpoint * for each port */
    size_t count;
    bool has_slices;
};

static bool has_endpoint(const struct lt_vec *endpoints, lt_str ip, uint16_t port)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct lt_endpoint *e = endpoints->items[i];
        if (e->port == port && lt_str_eq(e->ip, ip))
            return true;
    }
    return false;
}

static void add_endpoint(struct lt_model_builder *b, struct lt_vec *endpoints,
                         struct lt_endpoint endpoint)
{
    if (has_endpoint(endpoints, endpoint.ip, endpoint.port))
        return;
    struct lt_endpoint *copy = lt_arena_make(b->model->arena, struct lt_endpoint);
    *copy = endpoint;
    lt_vec_push(endpoints, copy);
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

static void add_slice_port(struct lt_model_builder *b, const struct lt_object *slice, uint16_t port,
                           struct lt_vec *endpoints)
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
            endpoint.workload = lt_model_find_workload(b->model, slice->key.ns,
                                                       e->target_ref->name);
            if (endpoint.workload == NULL)
                continue; /* without its Pod we would not know whether it takes mTLS */
        } else {
            endpoint.workload = find_workload_by_ip(b->model, slice->key.ns, endpoint.ip);
        }
        add_endpoint(b, endpoints, endpoint);
    }
}

static void add_slice(struct lt_model_builder *b, const struct lt_object *slice,
                      const struct lt_service *service, struct gathering *g)
{
    if (slice->endpoint_slice->address_type.value == LT_ADDRESS_FQDN)
        return;
    g->has_slices = true;
    for (size_t p = 0; p < service->port_count; p++) {
        for (size_t i = 0; i < slice->endpoint_slice->ports.count; i++) {
            const struct lt_slice_port *port = &slice->endpoint_slice->ports.items[i];
            if (lt_str_eq(port->name, service->ports[p].name) && port->port.is_set)
                add_slice_port(b, slice, (uint16_t)port->port.value, &g->ports[p]);
        }
    }
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

static void add_selected(struct lt_model_builder *b, const struct lt_service *service,
                         struct gathering *g)
{
    const struct lt_model *m = b->model;
    for (size_t i = find_workloads(m, service->ns);
         i < m->workload_count && lt_str_eq(m->workloads[i].ns, service->ns); i++) {
        const struct lt_workload *w = &m->workloads[i];
        if (!lt_kvs_contain(w->labels, service->selector))
            continue;
        for (size_t p = 0; p < service->port_count; p++) {
            uint16_t port = resolve_target(w->pod->pod->spec, &service->ports[p].target);
            bool is_ready = w->is_ready || service->object->service->spec->publish_not_ready.value;
            if (port != 0)
                add_endpoint(b, &g->ports[p], (struct lt_endpoint){w->ip, port, is_ready, w});
        }
    }
}

static int cmp_endpoints(const void *a, const void *b)
{
    const struct lt_endpoint *x = *(const struct lt_endpoint *const *)a,
                             *y = *(const struct lt_endpoint *const *)b;
    int order = lt_str_cmp(x->ip, y->ip);
    return order != 0 ? order : (int)x->port - (int)y->port;
}

static int cmp_strs(const void *a, const void *b)
{
    return lt_str_cmp(*(const lt_str *)a, *(const lt_str *)b);
}

/* The identities that answer for the service. */
static void collect_identities(struct lt_model_builder *b, struct lt_service *service)
{
    size_t max = 0, kept = 0;
    for (size_t p = 0; p < service->port_count; p++)
        max += service->ports[p].endpoint_count;
    lt_str *all = lt_arena_make_n(b->model->arena, lt_str, max + 1);
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
    service->identities = (struct lt_strs){kept, all};
}

static void freeze_endpoints(struct lt_model_builder *b, struct lt_service *service,
                             struct lt_port *ports, struct gathering *g)
{
    for (size_t p = 0; p < service->port_count; p++) {
        struct lt_vec *from = &g->ports[p];
        lt_sort(from->items, from->count, sizeof(void *), cmp_endpoints);
        struct lt_endpoint *to = lt_arena_make_n(b->model->arena, struct lt_endpoint,
                                                 from->count + 1);
        for (size_t i = 0; i < from->count; i++)
            to[i] = *(const struct lt_endpoint *)from->items[i];
        ports[p].endpoints = to;
        ports[p].endpoint_count = from->count;
        lt_vec_fini(from);
    }
    collect_identities(b, service);
}

/* ---- services ---- */

static struct lt_port *read_ports(struct lt_model_builder *b, const struct lt_service_spec *spec,
                                  size_t *ret_count)
{
    struct lt_port *ports = lt_arena_make_n(b->model->arena, struct lt_port, spec->ports.count + 1);
    size_t count = 0;
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct lt_service_port *from = &spec->ports.items[i];
        if (from->protocol.value != LT_PROTOCOL_TCP)
            continue;
        struct lt_port *to = &ports[count++];
        to->name = from->name;
        to->number = (uint16_t)from->port.value;
        to->protocol = lt_port_protocol_of(from->app_protocol, from->name, to->number);
        to->target = from->target_port;
        if (to->target.number == 0 && to->target.name.len == 0)
            to->target.number = to->number;
    }
    *ret_count = count;
    return ports;
}

/* The annotation networking.istio.io/exportTo: a comma list. */
static struct lt_strs read_export_to(struct lt_arena *arena, const struct lt_object *object)
{
    lt_str rest = lt_kvs_find(&object->meta->annotations, LT_STR("networking.istio.io/exportTo")),
           part;
    struct lt_strs strs = {0, lt_arena_make_n(arena, lt_str, rest.len + 1)};
    while (rest.len > 0 && lt_str_split(&rest, ',', &part))
        strs.items[strs.count++] = lt_str_trim(part);
    return strs;
}

static struct lt_port *fill_service(struct lt_model_builder *b, const struct lt_object *object,
                                    struct lt_service *s)
{
    const struct lt_service_spec *spec = object->service->spec;
    struct lt_arena *arena = b->model->arena;
    *s = (struct lt_service){.object = object,
                             .name = object->key.name,
                             .ns = object->key.ns,
                             .selector = &spec->selector};
    s->host = lt_arena_printf(arena, "%.*s.%.*s.svc.%.*s", LT_STR_ARG(s->name), LT_STR_ARG(s->ns),
                              LT_STR_ARG(b->model->mesh.domain));
    s->is_headless = lt_str_eq(spec->cluster_ip, LT_STR("None"));
    s->address = s->is_headless ? LT_STR("") : spec->cluster_ip;
    if (spec->type.value == LT_SERVICE_EXTERNAL_NAME)
        s->alias_of = spec->external_name;
    s->export_to = read_export_to(arena, object);
    struct lt_port *ports = read_ports(b, spec, &s->port_count);
    s->ports = ports;
    return ports;
}

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

static bool is_slice_of(const struct lt_object *slice, const struct lt_service *service)
{
    return service->alias_of.len == 0 && lt_str_eq(slice->key.ns, service->ns) &&
           lt_str_eq(service_of(slice), service->name);
}

/* The place of the first slice of the service, or where it would be. */
static size_t find_slices(const struct lt_object *const *slices, size_t count,
                          const struct lt_service *service)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = lt_str_cmp(slices[mid]->key.ns, service->ns);
        if (order == 0)
            order = lt_str_cmp(service_of(slices[mid]), service->name);
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void build_services(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    size_t slice_count = 0;
    const struct lt_object **slices = lt_model_pick(b, LT_KIND_ENDPOINT_SLICE, &slice_count);
    lt_sort(slices, slice_count, sizeof(*slices), cmp_slices);
    const struct lt_object **objects = lt_model_pick(b, LT_KIND_SERVICE, &m->service_count);
    struct lt_service *services = lt_arena_make_n(m->arena, struct lt_service,
                                                  m->service_count + 1);
    m->services = services;
    for (size_t i = 0; i < m->service_count; i++) {
        struct lt_service *s = &services[i];
        struct lt_port *ports = fill_service(b, objects[i], s);
        lt_map_put(m->service_by_host, s->host, s);
        struct gathering g = {.ports = lt_calloc(s->port_count + 1, sizeof(struct lt_vec)),
                              .count = s->port_count};
        for (size_t j = find_slices(slices, slice_count, s);
             j < slice_count && is_slice_of(slices[j], s); j++)
            add_slice(b, slices[j], s, &g);
        if (!g.has_slices && s->selector->count > 0 && s->alias_of.len == 0)
            add_selected(b, s, &g);
        freeze_endpoints(b, s, ports, &g);
        free(g.ports);
    }
}

/* ---- the whole ---- */

struct lt_model *lt_model_build(const struct lt_model_input *input, struct lt_notes *notes)
{
    struct lt_model *m = lt_new(struct lt_model);
    m->refs = 1;
    m->arena = lt_arena_new(1 << 16, 0);
    m->generation = input->generation;
    m->service_by_host = lt_new(struct lt_map);
    m->workload_by_name = lt_new(struct lt_map);
    lt_map_init(m->service_by_host);
    lt_map_init(m->workload_by_name);
    struct lt_model_builder b = {.model = m, .input = input, .notes = notes};
    hold_objects(&b);
    b.nodes = lt_model_pick(&b, LT_KIND_NODE, &b.node_count);
    build_mesh(&b);
    build_workloads(&b);
    build_services(&b);
    lt_model_build_rules(&b);
    lt_model_build_routes(&b);
    m->gateways = lt_model_pick(&b, LT_KIND_GATEWAY, &m->gateway_count);
    m->peers = lt_model_pick(&b, LT_KIND_PEER_AUTHENTICATION, &m->peer_count);
    return m;
}

struct lt_model *lt_model_ref(const struct lt_model *model)
{
    struct lt_model *counted =
        (struct lt_model *)model; /* the count is the one thing that changes */
    counted->refs++;
    return counted;
}

void lt_model_unref(struct lt_model **model)
{
    struct lt_model *m = *model;
    *model = NULL;
    if (m == NULL || --m->refs > 0)
        return;
    for (size_t i = 0; i < m->object_count; i++)
        lt_object_unref(&m->objects[i]);
    lt_map_fini(m->service_by_host);
    lt_map_fini(m->workload_by_name);
    free(m->service_by_host);
    free(m->workload_by_name);
    lt_arena_free(&m->arena);
    free(m);
}

const struct lt_service *lt_model_find_service(const struct lt_model *model, lt_str host)
{
    return lt_map_find(model->service_by_host, host);
}

const struct lt_port *lt_service_find_port(const struct lt_service *service, uint16_t number)
{
    for (size_t i = 0; i < service->port_count; i++) {
        if (service->ports[i].number == number)
            return &service->ports[i];
    }
    return NULL;
}

const struct lt_workload *lt_model_find_workload(const struct lt_model *model, lt_str ns,
                                                 lt_str name)
{
    char key[LT_OBJECT_NAME_MAX];
    int len = snprintf(key, sizeof(key), "%.*s/%.*s", LT_STR_ARG(ns), LT_STR_ARG(name));
    if (len < 0 || (size_t)len >= sizeof(key))
        return NULL;
    return lt_map_find(model->workload_by_name, lt_str_make(key, (size_t)len));
}

bool lt_is_exported(const struct lt_strs *export_to, const struct lt_strs *otherwise,
                    lt_str owner_ns, lt_str ns)
{
    const struct lt_strs *list = export_to->count > 0 ? export_to : otherwise;
    if (list->count == 0 || lt_strs_contain(list, LT_STR("*")) || lt_strs_contain(list, ns))
        return true;
    return lt_str_eq(owner_ns, ns) && lt_strs_contain(list, LT_STR("."));
}

bool lt_service_is_visible(const struct lt_model *model, const struct lt_service *service,
                           lt_str ns)
{
    return lt_is_exported(&service->export_to, &model->mesh.service_export_to, service->ns, ns);
}
