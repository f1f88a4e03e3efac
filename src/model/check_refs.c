/*
 * model/check_refs.c - what objects say about each other.
 * Only warnings: in which order objects are applied must not matter, so a reference to nothing is
 * not a mistake yet.
 */
#include "model/check.h"

#include <stdarg.h>

#include "model/host.h"
#include "model/refs.h"

struct checking {
    struct lt_notes *notes;
    struct lt_refs refs;
    struct lt_map mesh_hosts; /* host to the VirtualService that has it on the sidecars */
};

static void warn(struct checking *c, const struct lt_object *object, uint32_t line,
                 const char *path, const char *fmt, ...) LT_PRINTF(5, 6);

static void warn(struct checking *c, const struct lt_object *object, uint32_t line,
                 const char *path, const char *fmt, ...)
{
    char name[LT_OBJECT_NAME_MAX], text[LT_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct lt_note note = lt_object_note(object, LT_NOTE_WARNING, name);
    note.line = line != 0 ? line : note.line;
    note.path = lt_str_of(path);
    note.text = lt_str_of(text);
    lt_notes_add(c->notes, &note);
}

/* ---- VirtualService ---- */

static void check_destination(struct checking *c, const struct lt_object *object,
                              const struct lt_vs_destination *d, const char *path)
{
    lt_str host = lt_refs_host(&c->refs, d->host, object->key.ns);
    const struct lt_object *service = lt_refs_service(&c->refs, host);
    if (service == NULL && lt_refs_is_mesh_host(&c->refs, host)) {
        warn(c, object, d->line, path, "there is no Service for host %.*s", LT_STR_ARG(host));
        return;
    }
    if (service == NULL)
        return;
    bool has_port = d->port == NULL || !d->port->number.is_set;
    const struct lt_service_spec *spec = service->service->spec;
    for (size_t i = 0; i < spec->ports.count && !has_port; i++)
        has_port = spec->ports.items[i].port.value == d->port->number.value;
    if (!has_port)
        warn(c, object, d->line, path, "host %.*s has no port %lld", LT_STR_ARG(host),
             (long long)d->port->number.value);
    if ((d->port == NULL || !d->port->number.is_set) && spec->ports.count > 1)
        warn(c, object, d->line, path,
             "host %.*s has several ports; without port.number the port of the request is used",
             LT_STR_ARG(host));
    if (d->subset.len > 0 && lt_refs_subset(&c->refs, host, d->subset) == NULL)
        warn(c, object, d->line, path,
             "there is no subset %.*s of host %.*s in any DestinationRule", LT_STR_ARG(d->subset),
             LT_STR_ARG(host));
}

static void check_http(struct checking *c, const struct lt_object *object)
{
    const struct lt_virtual_service *vs = object->virtual_service;
    char path[96];
    for (size_t i = 0; i < vs->http.count; i++) {
        const struct lt_http_route *http = &vs->http.items[i];
        for (size_t j = 0; j < http->route.count; j++) {
            snprintf(path, sizeof(path), "spec.http[%zu].route[%zu].destination", i, j);
            check_destination(c, object, http->route.items[j].destination, path);
        }
        for (size_t j = 0; j < http->mirrors.count; j++) {
            snprintf(path, sizeof(path), "spec.http[%zu].mirrors[%zu].destination", i, j);
            check_destination(c, object, http->mirrors.items[j].destination, path);
        }
        snprintf(path, sizeof(path), "spec.http[%zu].mirror", i);
        if (http->mirror != NULL)
            check_destination(c, object, http->mirror, path);
    }
}

static void check_l4(struct checking *c, const struct lt_object *object)
{
    const struct lt_virtual_service *vs = object->virtual_service;
    char path[96];
    for (size_t i = 0; i < vs->tcp.count; i++) {
        for (size_t j = 0; j < vs->tcp.items[i].route.count; j++) {
            snprintf(path, sizeof(path), "spec.tcp[%zu].route[%zu].destination", i, j);
            check_destination(c, object, vs->tcp.items[i].route.items[j].destination, path);
        }
    }
    for (size_t i = 0; i < vs->tls.count; i++) {
        for (size_t j = 0; j < vs->tls.items[i].route.count; j++) {
            snprintf(path, sizeof(path), "spec.tls[%zu].route[%zu].destination", i, j);
            check_destination(c, object, vs->tls.items[i].route.items[j].destination, path);
        }
    }
}

static void check_gateways(struct checking *c, const struct lt_object *object)
{
    const struct lt_virtual_service *vs = object->virtual_service;
    for (size_t i = 0; i < vs->gateways.count; i++) {
        lt_str text = vs->gateways.items[i], ns = object->key.ns, name = text;
        ptrdiff_t slash = lt_str_find_char(text, '/');
        if (lt_str_eq(text, LT_STR("mesh")) || (slash < 0 && lt_str_find_char(text, '.') >= 0))
            continue;
        if (slash >= 0) {
            name = lt_str_from(text, (size_t)slash + 1);
            ns = lt_str_starts(text, LT_STR("./")) ? ns : lt_str_slice(text, 0, (size_t)slash);
        }
        char path[64];
        snprintf(path, sizeof(path), "spec.gateways[%zu]", i);
        if (lt_refs_find(&c->refs, &(struct lt_object_key){LT_KIND_GATEWAY, ns, name}) == NULL)
            warn(c, object, vs->line, path, "there is no Gateway %.*s/%.*s", LT_STR_ARG(ns),
                 LT_STR_ARG(name));
    }
}

static bool is_private(const struct lt_object *object)
{
    const struct lt_strs *to = &object->virtual_service->export_to;
    return to->count == 1 &&
           (lt_str_eq(to->items[0], LT_STR(".")) || lt_str_eq(to->items[0], object->key.ns));
}

/* No sidecar sees both. */
static bool are_apart(const struct lt_object *a, const struct lt_object *b)
{
    return is_private(a) && is_private(b) && !lt_str_eq(a->key.ns, b->key.ns);
}

/*
 * Sidecars don't merge: of two VirtualServices for one host the older counts (networking.md 2.1).
 */
static void check_mesh_hosts(struct checking *c, const struct lt_object *object)
{
    const struct lt_virtual_service *vs = object->virtual_service;
    if (vs->gateways.count > 0 && !lt_strs_contain(&vs->gateways, LT_STR("mesh")))
        return;
    for (size_t i = 0; i < vs->hosts.count; i++) {
        lt_str host = lt_refs_host(&c->refs, vs->hosts.items[i], object->key.ns);
        const struct lt_object *other = lt_map_find(&c->mesh_hosts, host);
        if (other == NULL) {
            lt_map_put(&c->mesh_hosts, host, (void *)object);
            continue;
        }
        if (are_apart(object, other))
            continue;
        char path[64], name[LT_OBJECT_NAME_MAX];
        snprintf(path, sizeof(path), "spec.hosts[%zu]", i);
        warn(c, object, vs->line, path,
             "duplicate host %.*s: %s has it too, and sidecars use only one of them",
             LT_STR_ARG(host), lt_object_key_format(&other->key, name));
    }
}

/* ---- DestinationRule ---- */

static bool has_labels(const struct lt_object *pod, const void *ctx)
{
    return lt_kvs_contain(lt_refs_pod_labels(pod), ctx);
}

static void check_rule(struct checking *c, const struct lt_object *object)
{
    const struct lt_destination_rule *rule = object->destination_rule;
    lt_str host = lt_refs_host(&c->refs, rule->host, object->key.ns);
    const struct lt_object *service = lt_refs_service(&c->refs, host);
    if (service == NULL) {
        if (lt_refs_is_mesh_host(&c->refs, host))
            warn(c, object, rule->line, "spec.host", "there is no Service for host %.*s",
                 LT_STR_ARG(host));
        return;
    }
    for (size_t i = 0; i < rule->subsets.count && service->service->spec->selector.count > 0; i++) {
        const struct lt_dr_subset *subset = &rule->subsets.items[i];
        char path[64];
        snprintf(path, sizeof(path), "spec.subsets[%zu].labels", i);
        if (!lt_refs_has_pod(&c->refs, &service->key.ns, &service->service->spec->selector,
                             has_labels, &subset->labels))
            warn(c, object, subset->line, path, "no Pod of %.*s has the labels of subset %.*s",
                 LT_STR_ARG(host), LT_STR_ARG(subset->name));
    }
}

void lt_check_references(const struct lt_object *const *objects, size_t count, lt_str domain,
                         struct lt_notes *notes)
{
    struct checking c = {.notes = notes};
    lt_refs_init(&c.refs, objects, count, domain);
    lt_map_init(&c.mesh_hosts);
    for (size_t i = 0; i < count; i++) {
        if (objects[i]->key.kind == LT_KIND_DESTINATION_RULE)
            check_rule(&c, objects[i]);
        if (objects[i]->key.kind != LT_KIND_VIRTUAL_SERVICE)
            continue;
        check_http(&c, objects[i]);
        check_l4(&c, objects[i]);
        check_gateways(&c, objects[i]);
        check_mesh_hosts(&c, objects[i]);
    }
    lt_map_fini(&c.mesh_hosts);
    lt_refs_fini(&c.refs);
}
