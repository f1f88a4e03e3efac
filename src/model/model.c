/*
 * model/model.c - services and workloads out of objects. Endpoints: model_endpoint.c.
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
    size_t max = b->input->count + held->route_count + held->subset_count + held->service_count + 1;
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
    if (b->input->mesh_map != NULL)
        m->objects[m->object_count++] = lt_object_ref(b->input->mesh_map);
}

/* ---- mesh ---- */

static bool read_mesh_map(struct lt_model_builder *b, const struct lt_object *map)
{
    lt_rc rc = lt_mesh_read_map(b->model->arena, map, b->notes, &b->model->mesh);
    if (rc == LT_OK)
        b->model->mesh_map = map;
    return rc == LT_OK || rc == LT_E_NOT_FOUND;
}

/* What is wrong goes to the notes; what was good last stays then. */
static void build_mesh(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    m->mesh = lt_mesh_default();
    if (b->input->mesh != NULL)
        m->mesh = *b->input->mesh;
    lt_str root_ns = m->mesh.root_ns;
    bool is_broken = false;
    for (size_t i = 0; i < b->input->count; i++) {
        const struct lt_object *o = b->input->objects[i];
        if (o->key.kind == LT_KIND_CONFIG_MAP && lt_str_eq(o->key.name, LT_STR("istio")) &&
            lt_str_eq(o->key.ns, root_ns))
            is_broken |= !read_mesh_map(b, o);
    }
    if (is_broken && b->input->mesh_map != NULL)
        read_mesh_map(b, b->input->mesh_map);
}

/* ---- workloads ---- */

static void index_nodes(struct lt_model_builder *b)
{
    for (size_t i = 0; i < b->input->count; i++) {
        if (b->input->objects[i]->key.kind == LT_KIND_NODE)
            lt_map_put(&b->nodes, b->input->objects[i]->key.name, (void *)b->input->objects[i]);
    }
}

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
    const struct lt_object *node = lt_map_find(&b->nodes, pod->pod->spec->node_name);
    if (node == NULL)
        return at;
    at.region = lt_kvs_find(&node->meta->labels, LT_STR("topology.kubernetes.io/region"));
    at.zone = lt_kvs_find(&node->meta->labels, LT_STR("topology.kubernetes.io/zone"));
    at.subzone = lt_kvs_find(&node->meta->labels, LT_STR("topology.istio.io/subzone"));
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

/* The same text for all that have it. */
static lt_str identity_of(struct lt_model_builder *b, const struct lt_workload *w)
{
    struct lt_arena_mark mark = lt_arena_mark(b->model->arena);
    lt_str text = lt_arena_printf(b->model->arena, "spiffe://%.*s/ns/%.*s/sa/%.*s",
                                  LT_STR_ARG(b->model->mesh.trust_domain), LT_STR_ARG(w->ns),
                                  LT_STR_ARG(w->service_account));
    const char *known = lt_map_find(&b->identities, text);
    if (known == NULL) {
        lt_map_put(&b->identities, text, (void *)text.ptr);
        return text;
    }
    lt_arena_rollback(b->model->arena, mark);
    return lt_str_make(known, text.len);
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
    w->identity = identity_of(b, w);
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
    m->workloads = workloads;
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

static void build_services(struct lt_model_builder *b)
{
    struct lt_model *m = b->model;
    const struct lt_object **objects = lt_model_pick(b, LT_KIND_SERVICE, &m->service_count);
    struct lt_service *services = lt_arena_make_n(m->arena, struct lt_service,
                                                  m->service_count + 1);
    struct lt_port **ports = lt_arena_make_n(b->scratch, struct lt_port *, m->service_count + 1);
    m->services = services;
    for (size_t i = 0; i < m->service_count; i++) {
        ports[i] = fill_service(b, objects[i], &services[i]);
        lt_map_put(m->service_by_host, services[i].host, &services[i]);
    }
    lt_model_build_endpoints(b, services, ports);
}

/* ---- the whole ---- */

struct lt_model *lt_model_build(const struct lt_model_input *input, struct lt_notes *notes)
{
    struct lt_model *m = lt_new(struct lt_model);
    m->refs = 1;
    m->arena = lt_arena_new(1 << 16, 0);
    m->generation = input->generation;
    m->service_by_host = lt_new(struct lt_map);
    lt_map_init(m->service_by_host);
    struct lt_model_builder b = {
        .model = m, .input = input, .notes = notes, .scratch = lt_arena_new(1 << 16, 0)};
    lt_map_init(&b.nodes);
    lt_map_init(&b.identities);
    hold_objects(&b);
    index_nodes(&b);
    build_mesh(&b);
    build_workloads(&b);
    build_services(&b);
    lt_model_build_rules(&b);
    lt_model_build_routes(&b);
    m->gateways = lt_model_pick(&b, LT_KIND_GATEWAY, &m->gateway_count);
    m->peers = lt_model_pick(&b, LT_KIND_PEER_AUTHENTICATION, &m->peer_count);
    lt_map_fini(&b.nodes);
    lt_map_fini(&b.identities);
    lt_arena_free(&b.scratch);
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
    free(m->service_by_host);
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
    const struct lt_workload like = {.ns = ns, .name = name};
    size_t low = 0, high = model->workload_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = cmp_workloads(&model->workloads[mid], &like);
        if (order == 0)
            return &model->workloads[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
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
