/*
 * control/node.c - reads a node message.
 */
#include "control/node.h"

#include "base/vec.h"

#include "wire/any.h"
#include "wire/json.h"
#include "wire/struct.h"

enum { NODE_PORTS_MAX = 256, NODE_LABELS_MAX = 256 };

/* ---- id: type~ip~pod.namespace~namespace.svc.domain ---- */

static lt_rc read_id(struct lt_arena *arena, const char *id, struct cp_node *node,
                     struct lt_err *err)
{
    lt_str text = lt_arena_str(arena, lt_str_of(id)), rest = text, part[4];
    size_t count = 0;
    while (count < 4 && lt_str_split(&rest, '~', &part[count]))
        count++;
    if (text.len == 0)
        return lt_err_set(err, LT_E_BAD, "missing node information");
    ptrdiff_t dot = count == 4 && rest.ptr == NULL ? lt_str_rfind_char(part[2], '.') : -1;
    if (dot <= 0)
        return lt_err_set(err, LT_E_BAD, "missing parts in the service node \"%.*s\"",
                          LT_STR_ARG(text));
    if (lt_str_eq(part[0], LT_STR("sidecar")))
        node->type = CP_NODE_SIDECAR;
    else if (lt_str_eq(part[0], LT_STR("router")))
        node->type = CP_NODE_ROUTER;
    else
        return lt_err_set(err, LT_E_UNSUPPORTED, "node type \"%.*s\" is not supported",
                          LT_STR_ARG(part[0]));
    node->id = text;
    node->ip = part[1];
    node->name = lt_str_slice(part[2], 0, (size_t)dot);
    node->ns = lt_str_from(part[2], (size_t)dot + 1);
    node->domain = part[3];
    return LT_OK;
}

/* ---- metadata ---- */

static lt_str copy_str(struct lt_arena *arena, const Pb__Struct *st, const char *key)
{
    lt_str value = lt_struct_find_str(st, key);
    return value.ptr == NULL ? LT_STR("") : lt_arena_str(arena, value);
}

static void take_str(struct lt_arena *arena, const Pb__Struct *st, const char *key, lt_str *to)
{
    lt_str value = copy_str(arena, st, key);
    if (value.len > 0)
        *to = value;
}

static int cmp_kv(const void *a, const void *b)
{
    return lt_str_cmp(((const struct lt_kv *)a)->key, ((const struct lt_kv *)b)->key);
}

static struct lt_kvs read_labels(struct lt_arena *arena, const Pb__Struct *metadata)
{
    Pb__Struct *st = NULL;
    struct lt_kvs labels = {0};
    struct lt_err err;
    if (lt_struct_find_struct(arena, metadata, "LABELS", &st, &err) != LT_OK)
        return labels;
    size_t max = LT_MIN(st->n_fields, (size_t)NODE_LABELS_MAX);
    labels.items = lt_arena_make_n(arena, struct lt_kv, max + 1);
    for (size_t i = 0; i < max; i++) {
        const Pb__Struct__FieldsEntry *entry = st->fields[i];
        if (entry->key == NULL || entry->value == NULL ||
            entry->value->kind_case != PB__VALUE__KIND_STRING_VALUE)
            continue;
        labels.items[labels.count++] = (struct lt_kv){
            lt_arena_str(arena, lt_str_of(entry->key)),
            lt_arena_str(arena, lt_str_of(entry->value->string_value))};
    }
    lt_sort(labels.items, labels.count, sizeof(*labels.items), cmp_kv);
    return labels;
}

/* A string that holds a JSON array of {name, containerPort, protocol}. */
static void read_ports(struct lt_arena *arena, lt_str text, struct cp_node *node)
{
    const struct lt_doc *doc = NULL;
    struct lt_err err;
    struct lt_doc_limits limits = {1 << 16, 4096, 4};
    if (text.len == 0 || lt_json_parse(arena, text, &limits, &doc, &err) != LT_OK ||
        doc->kind != LT_DOC_ARRAY)
        return;
    size_t max = LT_MIN((size_t)doc->count, (size_t)NODE_PORTS_MAX);
    node->ports = lt_arena_make_n(arena, struct cp_node_port, max + 1);
    for (size_t i = 0; i < max; i++) {
        int64_t number = 0;
        if (!lt_doc_is_int(lt_doc_findz(&doc->items[i], "containerPort"), &number) || number < 1 ||
            number > UINT16_MAX)
            continue;
        lt_str name = lt_doc_string(lt_doc_findz(&doc->items[i], "name"));
        node->ports[node->port_count++] = (struct cp_node_port){
            name.ptr == NULL ? LT_STR("") : name, (uint16_t)number};
    }
}

static cp_capture read_capture(lt_str mode)
{
    if (lt_str_eq(mode, LT_STR("TPROXY")))
        return CP_CAPTURE_TPROXY;
    return lt_str_eq(mode, LT_STR("NONE")) ? CP_CAPTURE_NONE : CP_CAPTURE_REDIRECT;
}

static lt_str label_or(const struct lt_kvs *labels, const char *const *names, size_t count,
                       lt_str otherwise)
{
    for (size_t i = 0; i < count; i++) {
        lt_str value = lt_kvs_find(labels, lt_str_of(names[i]));
        if (value.len > 0)
            return value;
    }
    return otherwise;
}

static void read_metadata(struct lt_arena *arena, const Pb__Struct *metadata, struct cp_node *node)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app"};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version"};
    take_str(arena, metadata, "NAMESPACE", &node->ns);
    take_str(arena, metadata, "NAME", &node->name);
    node->cluster_id = LT_STR("Kubernetes");
    take_str(arena, metadata, "CLUSTER_ID", &node->cluster_id);
    node->mesh_id = copy_str(arena, metadata, "MESH_ID");
    node->istio_version = copy_str(arena, metadata, "ISTIO_VERSION");
    node->service_account = copy_str(arena, metadata, "SERVICE_ACCOUNT");
    node->workload_name = node->name;
    take_str(arena, metadata, "WORKLOAD_NAME", &node->workload_name);
    node->network = copy_str(arena, metadata, "NETWORK");
    lt_str ips = copy_str(arena, metadata, "INSTANCE_IPS"), first;
    if (ips.len > 0 && lt_str_split(&ips, ',', &first) && lt_is_ip(first))
        node->ip = lt_arena_str(arena, first);
    node->capture = read_capture(lt_struct_find_str(metadata, "INTERCEPTION_MODE"));
    node->labels = read_labels(arena, metadata);
    read_ports(arena, lt_struct_find_str(metadata, "POD_PORTS"), node);
    node->canonical_name = label_or(&node->labels, names, LT_ARRAY_LEN(names), node->workload_name);
    node->canonical_revision = label_or(&node->labels, revisions, LT_ARRAY_LEN(revisions),
                                        LT_STR("latest"));
}

/* ---- extensions ---- */

static unsigned read_extensions(const Xds__Node *message)
{
    static const struct {
        const char *type;
        unsigned bit;
    } ours[] = {
        {"envoy.tcp.metadataexchange.config.MetadataExchange", CP_EXT_MX_TCP},
        {"io.istio.http.peer_metadata.Config", CP_EXT_MX_HTTP},
        {"stats.PluginConfig", CP_EXT_STATS},
        {"istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", CP_EXT_ALPN},
    };
    if (message->n_extensions == 0)
        return CP_EXT_ALL; /* says nothing about itself: what istiod would send */
    unsigned bits = 0;
    for (size_t i = 0; i < message->n_extensions; i++) {
        for (size_t j = 0; j < message->extensions[i]->n_type_urls; j++) {
            lt_str url = lt_any_type_name(lt_str_of(message->extensions[i]->type_urls[j]));
            for (size_t k = 0; k < LT_ARRAY_LEN(ours); k++)
                bits |= lt_str_eqz(url, ours[k].type) ? ours[k].bit : 0;
        }
    }
    return bits;
}

static lt_str copyz(struct lt_arena *arena, const char *text)
{
    return text == NULL ? LT_STR("") : lt_arena_str(arena, lt_str_of(text));
}

lt_rc cp_node_read(struct lt_arena *arena, const Xds__Node *message, struct cp_node *ret_node,
                   struct lt_err *err)
{
    struct cp_node node = {0};
    if (message == NULL || message->id == NULL)
        return lt_err_set(err, LT_E_BAD, "missing node information");
    LT_TRY(read_id(arena, message->id, &node, err));
    read_metadata(arena, message->metadata, &node);
    if (!lt_is_ip(node.ip))
        return lt_err_set(err, LT_E_BAD, "no IP address in the service node \"%.*s\"",
                          LT_STR_ARG(node.id));
    node.extensions = read_extensions(message);
    node.locality = (struct lt_locality){LT_STR(""), LT_STR(""), LT_STR("")};
    if (message->locality != NULL)
        node.locality = (struct lt_locality){copyz(arena, message->locality->region),
                                             copyz(arena, message->locality->zone),
                                             copyz(arena, message->locality->sub_zone)};
    *ret_node = node;
    return LT_OK;
}

const struct lt_workload *cp_node_workload(const struct cp_node *node, const struct lt_model *model)
{
    return lt_model_find_workload(model, node->ns, node->name);
}
