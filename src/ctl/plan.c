/*
 * ctl/plan.c - from objects to what should run.
 * Start at: ctl_plan_make().
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

#include "ctl/plan_priv.h"
#include "wire/json.h"
#include "wire/yaml.h"

enum {
    PROXY_CONFIG_BYTES_MAX = 64 * 1024,
    BACKOFF_LIMIT_DEFAULT = 6, /* Kubernetes' */
};

const char *ctl_role_name(ctl_role role)
{
    static const char *const names[] = {"init", "sidecar", "proxy", "app"};
    LT_ASSERT((size_t)role < LT_ARRAY_LEN(names));
    return names[role];
}

/* --- small tools --- */

void ctl_strings_add(struct ctl_strings *list, const char *text)
{
    if (list->count + 1 >= list->cap) {
        size_t cap = list->cap == 0 ? 32 : list->cap * 2;
        const char **items = lt_arena_make_n(list->arena, const char *, cap);
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = text;
}

static const char *text_v(struct lt_arena *arena, const char *fmt, va_list args)
{
    char *text = NULL;
    int len = vasprintf(&text, fmt, args);
    LT_ASSERT(len >= 0);
    const char *copy = lt_arena_strz(arena, lt_str_make(text, (size_t)len));
    free(text);
    return copy;
}

void ctl_strings_addf(struct ctl_strings *list, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ctl_strings_add(list, text_v(list->arena, fmt, args));
    va_end(args);
}

const char *const *ctl_strings_finish(struct ctl_strings *list)
{
    ctl_strings_add(list, NULL);
    return list->items;
}

const char *ctl_text(struct lt_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const char *text = text_v(arena, fmt, args);
    va_end(args);
    return text;
}

const char *ctl_ip_text(struct lt_arena *arena, uint32_t ip)
{
    return ctl_text(arena, "%u.%u.%u.%u", ip >> 24, (ip >> 16) & 255, (ip >> 8) & 255, ip & 255);
}

/* --- Pods --- */

static const struct lt_kvs *find_namespace_labels(const struct ctl_pod_source *source, lt_str ns)
{
    for (size_t i = 0; i < source->object_count; i++) {
        const struct lt_object *object = source->objects[i];
        if (object->key.kind == LT_KIND_NAMESPACE && lt_str_eq(object->key.name, ns))
            return &object->meta->labels;
    }
    return NULL;
}

static void add_pod(struct ctl_plan *plan, const struct ctl_pod_source *source, size_t *cap)
{
    struct ctl_pod_plan *pod = ctl_plan_pod(source);
    if (pod == NULL)
        return;
    ctl_plan_note_pod(source, pod);
    if (plan->pod_count == *cap) {
        *cap = *cap == 0 ? 32 : *cap * 2;
        plan->pods = lt_realloc(plan->pods, *cap * sizeof(struct ctl_pod_plan *));
    }
    plan->pods[plan->pod_count++] = pod;
}

static void add_deployment(struct ctl_plan *plan, struct ctl_pod_source *source, size_t *cap)
{
    const struct lt_object *object = source->object;
    const struct lt_deployment_spec *spec = object->deployment->spec;
    int64_t replicas = lt_opt_or(spec->replicas, 1);
    source->kind = "Deployment";
    source->meta = spec->pod->meta;
    source->spec = spec->pod->spec;
    if (replicas > CTL_REPLICAS_MAX) {
        char name[LT_OBJECT_NAME_MAX];
        struct lt_note where = lt_object_note(object, LT_NOTE_WARNING, name);
        lt_notes_addf(source->notes, &where,
                      "replicas: %lld is more than %d, which is what runs on one machine",
                      (long long)replicas, CTL_REPLICAS_MAX);
        replicas = CTL_REPLICAS_MAX;
    }
    for (unsigned i = 0; i < replicas; i++) {
        source->index = i;
        add_pod(plan, source, cap);
    }
}

static void add_job(struct ctl_plan *plan, struct ctl_pod_source *source, size_t *cap)
{
    const struct lt_job_spec *spec = source->object->job->spec;
    source->kind = "Job";
    source->meta = spec->pod->meta;
    source->spec = spec->pod->spec;
    source->attempts_max = (unsigned)lt_opt_or(spec->backoff_limit, BACKOFF_LIMIT_DEFAULT) + 1;
    if (lt_opt_or(spec->completions, 1) > 1 || lt_opt_or(spec->parallelism, 1) != 1) {
        char name[LT_OBJECT_NAME_MAX];
        struct lt_note where = lt_object_note(source->object, LT_NOTE_WARNING, name);
        lt_notes_addf(source->notes, &where,
                      "completions and parallelism are not acted on yet: it runs one Pod");
    }
    add_pod(plan, source, cap);
}

static void add_pods(struct ctl_plan *plan, struct ctl_pod_source *source, size_t *cap)
{
    for (size_t i = 0; i < source->object_count; i++) {
        source->object = source->objects[i];
        source->index = 0;
        source->attempts_max = 1;
        source->ns_labels = find_namespace_labels(source, source->object->key.ns);
        switch ((int)source->object->key.kind) {
        case LT_KIND_DEPLOYMENT: add_deployment(plan, source, cap); break;
        case LT_KIND_JOB: add_job(plan, source, cap); break;
        case LT_KIND_POD:
            source->kind = "Pod";
            source->meta = source->object->meta;
            source->spec = source->object->pod->spec;
            add_pod(plan, source, cap);
            break;
        default: break;
        }
    }
}

/* --- Services --- */

static bool has_cluster_ip(const struct lt_service_spec *spec)
{
    return lt_opt_or(spec->type, LT_SERVICE_CLUSTER_IP) != LT_SERVICE_EXTERNAL_NAME &&
           !lt_str_eqz(spec->cluster_ip, "None");
}

/* In a cluster it would be given ports; here only those that are named are opened. */
static void note_no_node_port(const struct ctl_pod_source *source, const struct lt_object *object)
{
    const struct lt_service_spec *spec = object->service->spec;
    int64_t type = lt_opt_or(spec->type, LT_SERVICE_CLUSTER_IP);
    bool has_one = type != LT_SERVICE_NODE_PORT && type != LT_SERVICE_LOAD_BALANCER;
    for (size_t i = 0; i < spec->ports.count; i++)
        has_one |= spec->ports.items[i].node_port.is_set;
    char name[LT_OBJECT_NAME_MAX];
    struct lt_note where = lt_object_note(object, LT_NOTE_INFO, name);
    where.path = LT_STR("spec.ports[].nodePort");
    if (!has_one)
        lt_notes_addf(source->notes, &where,
                      "none is named, so that no port of this machine leads here");
}

static void add_services(struct ctl_plan *plan, const struct ctl_pod_source *source)
{
    const struct ctl_plan_world *world = source->world;
    plan->services = lt_arena_make_n(plan->arena, struct ctl_service_plan,
                                     source->object_count + 1);
    plan->services[plan->service_count++] = ctl_plan_control_service(plan->arena, world);
    for (size_t i = 0; i < source->object_count; i++) {
        const struct lt_object *object = source->objects[i];
        if (object->key.kind != LT_KIND_SERVICE)
            continue;
        const char *ns = lt_arena_strz(plan->arena, object->key.ns),
                   *name = lt_arena_strz(plan->arena, object->key.name);
        if (strcmp(ns, CTL_SYSTEM_NS) == 0 && strcmp(name, "istiod") == 0)
            continue; /* lateend's own */
        const struct lt_service_spec *spec = object->service->spec;
        note_no_node_port(source, object);
        plan->services[plan->service_count++] = (struct ctl_service_plan){
            .object = lt_object_ref(object),
            .ns = ns,
            .name = name,
            .spec = spec,
            .ip = has_cluster_ip(spec) ? world->cluster_ip(ns, name, spec->cluster_ip, world->ctx)
                                       : 0,
        };
    }
}

/* What the injector writes into PROXY_CONFIG: defaultConfig of the mesh configuration, or "{}". */
static const char *find_proxy_config(const struct ctl_plan_world *world, struct lt_arena *arena)
{
    const struct lt_doc *mesh = NULL, *config = NULL;
    const char *json = "{}";
    if (world->mesh_map == NULL)
        return json;
    lt_str text = lt_kvs_find(&world->mesh_map->config_map->data, LT_STR("mesh"));
    if (lt_yaml_parse(arena, lt_yaml_whole(text), NULL, &mesh, NULL) == LT_OK)
        config = lt_doc_findz(mesh, "defaultConfig");
    if (config == NULL)
        return json;
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, PROXY_CONFIG_BYTES_MAX);
    lt_json_writer_init(&w, &out, 0);
    lt_json_doc(&w, config);
    if (lt_json_writer_finish(&w) == LT_OK)
        json = lt_arena_strz(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return json;
}

struct ctl_plan *ctl_plan_make(const struct lt_object *const *objects, size_t count,
                               const struct ctl_plan_world *world, struct lt_notes *notes)
{
    struct ctl_plan *plan = lt_new(struct ctl_plan);
    struct ctl_pod_source source = {
        .world = world, .objects = objects, .object_count = count, .notes = notes};
    size_t cap = 8;
    plan->arena = lt_arena_new(0, 0);
    plan->pods = lt_calloc(cap, sizeof(struct ctl_pod_plan *));
    plan->pods[plan->pod_count++] = ctl_plan_control_pod(world);
    source.proxy_config = find_proxy_config(world, plan->arena);
    add_services(plan, &source);
    add_pods(plan, &source, &cap);
    return plan;
}

void ctl_plan_free(struct ctl_plan **plan)
{
    struct ctl_plan *p = *plan;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->pod_count; i++)
        ctl_pod_plan_free(&p->pods[i]);
    for (size_t i = 0; i < p->service_count; i++) {
        if (p->services[i].object != NULL)
            lt_object_unref(&p->services[i].object);
    }
    free(p->pods);
    lt_arena_free(&p->arena);
    free(p);
    *plan = NULL;
}

void ctl_pod_plan_free(struct ctl_pod_plan **plan)
{
    struct ctl_pod_plan *p = *plan;
    if (p == NULL)
        return;
    struct lt_arena *arena = p->arena; /* p itself is inside */
    if (p->object != NULL)
        lt_object_unref(&p->object);
    lt_arena_free(&arena);
    *plan = NULL;
}

/* --- what belongs to what --- */

bool ctl_plan_selects(const struct ctl_service_plan *service, const struct ctl_pod_plan *pod)
{
    return service->spec->selector.count > 0 && strcmp(service->ns, pod->ns) == 0 &&
           lt_kvs_contain(&pod->labels, &service->spec->selector);
}

static uint16_t find_named_port(const struct lt_container *items, size_t count, lt_str name,
                                int64_t protocol)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < items[i].ports.count; k++) {
            const struct lt_container_port *port = &items[i].ports.items[k];
            if (lt_str_eq(port->name, name) &&
                lt_opt_or(port->protocol, LT_PROTOCOL_TCP) == protocol)
                return (uint16_t)port->container_port.value;
        }
    }
    return 0;
}

uint16_t ctl_plan_target_port(const struct lt_service_port *port, const struct ctl_pod_plan *pod)
{
    if (port->target_port.number != 0)
        return port->target_port.number;
    if (port->target_port.name.len == 0)
        return (uint16_t)port->port.value;
    if (pod->spec == NULL)
        return 0;
    return find_named_port(pod->spec->containers.items, pod->spec->containers.count,
                           port->target_port.name, lt_opt_or(port->protocol, LT_PROTOCOL_TCP));
}
