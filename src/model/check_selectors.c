/*
 * model/check_selectors.c - selectors that select nothing, and ports that nobody has: the mistakes
 * that break nothing but what they were meant for, and that no one is told of otherwise.
 * For where the objects say what runs and are few: it looks at every Pod for every selector.
 */
#include "model/check.h"
#include "model/refs.h"

struct selecting {
    struct lt_notes *notes;
    struct lt_refs refs;
    lt_str root_ns;
};

static void check_selector(struct selecting *s, const struct lt_object *object, const char *path,
                           const struct lt_kvs *selector, const lt_str *ns)
{
    char name[LT_OBJECT_NAME_MAX];
    if (selector->count == 0 || lt_refs_has_pod(&s->refs, ns, selector, NULL, NULL))
        return;
    const struct lt_kv *first = &selector->items[0];
    struct lt_note note = lt_object_note(object, LT_NOTE_WARNING, name);
    note.path = lt_str_of(path);
    lt_notes_addf(s->notes, &note,
                  "selects nothing: no Pod, Deployment or Job%s%.*s has %.*s: %.*s%s",
                  ns != NULL ? " of namespace " : "", ns != NULL ? (int)ns->len : 0,
                  ns != NULL ? ns->ptr : "", LT_STR_ARG(first->key), LT_STR_ARG(first->value),
                  selector->count > 1 ? " and the other labels" : "");
}

/* ctx is a Service's port whose target is a name. */
static bool has_target_port(const struct lt_object *pod, const void *ctx)
{
    const struct lt_service_port *port = ctx;
    const struct lt_pod_spec *spec = lt_refs_pod_spec(pod);
    for (size_t i = 0; i < spec->containers.count; i++) {
        const struct lt_container *container = &spec->containers.items[i];
        for (size_t k = 0; k < container->ports.count; k++) {
            if (lt_str_eq(container->ports.items[k].name, port->target_port.name))
                return true;
        }
    }
    return false;
}

static void check_target_ports(struct selecting *s, const struct lt_object *object)
{
    const struct lt_service_spec *spec = object->service->spec;
    lt_str ns = object->key.ns;
    if (spec->selector.count == 0 || !lt_refs_has_pod(&s->refs, &ns, &spec->selector, NULL, NULL))
        return;
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct lt_service_port *port = &spec->ports.items[i];
        char name[LT_OBJECT_NAME_MAX], path[64];
        if (port->target_port.name.len == 0 ||
            lt_refs_has_pod(&s->refs, &ns, &spec->selector, has_target_port, port))
            continue;
        snprintf(path, sizeof(path), "spec.ports[%zu].targetPort", i);
        struct lt_note note = lt_object_note(object, LT_NOTE_WARNING, name);
        note.path = lt_str_of(path);
        lt_notes_addf(s->notes, &note, "no container of its Pods has a port named %.*s",
                      LT_STR_ARG(port->target_port.name));
    }
}

static void check_object(struct selecting *s, const struct lt_object *object)
{
    const lt_str *ns = &object->key.ns;
    bool is_root = lt_str_eq(object->key.ns, s->root_ns); /* its policies are everybody's */
    if (object->key.kind == LT_KIND_SERVICE) {
        check_selector(s, object, "spec.selector", &object->service->spec->selector, ns);
        check_target_ports(s, object);
    }
    if (object->key.kind == LT_KIND_GATEWAY)
        check_selector(s, object, "spec.selector", &object->gateway->selector, NULL);
    if (object->key.kind == LT_KIND_PEER_AUTHENTICATION &&
        object->peer_authentication->selector != NULL)
        check_selector(s, object, "spec.selector.matchLabels",
                       &object->peer_authentication->selector->match_labels, is_root ? NULL : ns);
}

void lt_check_selectors(const struct lt_object *const *objects, size_t count, lt_str root_ns,
                        struct lt_notes *notes)
{
    struct selecting s = {.notes = notes, .root_ns = root_ns};
    lt_refs_init(&s.refs, objects, count, LT_STR(""));
    for (size_t i = 0; i < count; i++)
        check_object(&s, objects[i]);
    lt_refs_fini(&s.refs);
}
