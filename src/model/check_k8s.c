/*
 * model/check_k8s.c - rules inside Kubernetes' kinds: as much as a mesh needs in order not to
 * stumble.
 */
#include "model/check.h"
#include "model/host.h"

/* RFC 1123 subdomain, lower case (Kubernetes' names). */
static bool is_name(lt_str text)
{
    if (!lt_is_fqdn(text) || text.ptr[text.len - 1] == '.')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] >= 'A' && text.ptr[i] <= 'Z')
            return false;
    }
    return true;
}

void lt_check_meta(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                   const struct lt_doc_path *path)
{
    const struct lt_meta *meta = message;
    if (meta->name.len > 0 && !is_name(meta->name))
        lt_field_error_at(reader, doc, path, "name",
                          "expected lower-case letters, digits, '-' and '.', got \"%.*s\"",
                          LT_STR_ARG(meta->name));
    if (meta->ns.len > 0 && (!is_name(meta->ns) || lt_str_find_char(meta->ns, '.') >= 0))
        lt_field_error_at(reader, doc, path, "namespace",
                          "expected lower-case letters, digits and '-', got \"%.*s\"",
                          LT_STR_ARG(meta->ns));
}

/* Relative, and not out of its directory. */
static bool is_inner_path(lt_str path)
{
    lt_str rest = path, part;
    bool is_inner = path.len > 0;
    while (is_inner && lt_str_split(&rest, '/', &part))
        is_inner = part.len > 0 && !lt_str_eqz(part, ".") && !lt_str_eqz(part, "..");
    return is_inner;
}

void lt_check_volume(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                     const struct lt_doc_path *path)
{
    const struct lt_volume *volume = message;
    if (!lt_is_dns_label(volume->name))
        lt_field_error_at(reader, doc, path, "name",
                          "expected lower-case letters, digits and '-', got \"%.*s\"",
                          LT_STR_ARG(volume->name));
    for (size_t i = 0; volume->config_map != NULL && i < volume->config_map->items.count; i++) {
        lt_str file = volume->config_map->items.items[i].path;
        if (!is_inner_path(file))
            lt_field_error_at(reader, doc, path, "configMap",
                              "expected relative paths without \"..\", got \"%.*s\"",
                              LT_STR_ARG(file));
    }
}

void lt_check_pod_spec(struct lt_field_reader *reader, const struct lt_doc *doc,
                       const void *message, const struct lt_doc_path *path)
{
    const struct lt_pod_spec *spec = message;
    if (spec->containers.count == 0)
        lt_field_error_at(reader, doc, path, "containers", "expected at least one container");
    for (size_t i = 0; i < spec->containers.count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (lt_str_eq(spec->containers.items[i].name, spec->containers.items[j].name))
                lt_field_error_at(reader, doc, path, "containers",
                                  "expected different names, got \"%.*s\" twice",
                                  LT_STR_ARG(spec->containers.items[i].name));
        }
    }
}

void lt_check_deployment_spec(struct lt_field_reader *reader, const struct lt_doc *doc,
                              const void *message, const struct lt_doc_path *path)
{
    static const struct lt_kvs none = {0};
    const struct lt_deployment_spec *spec = message;
    const struct lt_kvs *labels = spec->pod->meta != NULL ? &spec->pod->meta->labels : &none;
    if (!lt_kvs_contain(labels, &spec->selector->match_labels))
        lt_field_error_at(reader, doc, path, "selector",
                          "expected labels that spec.template.metadata.labels has");
}

static void check_port_names(struct lt_field_reader *reader, const struct lt_doc *doc,
                             const struct lt_service_spec *spec, const struct lt_doc_path *path)
{
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct lt_service_port *port = &spec->ports.items[i];
        if (spec->ports.count > 1 && port->name.len == 0)
            lt_field_error_at(reader, doc, path, "ports",
                              "expected a name for each port, as there are several");
        for (size_t j = 0; j < i; j++) {
            const struct lt_service_port *other = &spec->ports.items[j];
            if (port->name.len > 0 && lt_str_eq(port->name, other->name))
                lt_field_error_at(reader, doc, path, "ports",
                                  "expected different names, got \"%.*s\" twice",
                                  LT_STR_ARG(port->name));
            if (port->port.value == other->port.value &&
                port->protocol.value == other->protocol.value)
                lt_field_error_at(reader, doc, path, "ports",
                                  "expected different ports, got %lld twice",
                                  (long long)port->port.value);
        }
    }
}

void lt_check_service_spec(struct lt_field_reader *reader, const struct lt_doc *doc,
                           const void *message, const struct lt_doc_path *path)
{
    const struct lt_service_spec *spec = message;
    bool is_external = spec->type.value == LT_SERVICE_EXTERNAL_NAME;
    if (is_external && spec->external_name.len == 0)
        lt_field_error_at(reader, doc, path, "externalName",
                          "is required when type is ExternalName");
    if (spec->cluster_ip.len > 0 && !lt_str_eq(spec->cluster_ip, LT_STR("None")) &&
        !lt_is_ip(spec->cluster_ip))
        lt_field_error_at(reader, doc, path, "clusterIP",
                          "expected an IP address or None, got \"%.*s\"",
                          LT_STR_ARG(spec->cluster_ip));
    check_port_names(reader, doc, spec, path);
}
