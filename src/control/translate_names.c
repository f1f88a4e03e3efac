/*
 * control/translate_names.c - names to addresses (NDS), for the DNS proxy of sidecars: one nameless
 * table. The agent makes the short forms itself (xds.md 7.4, ports-and-agent.md 8). What stands for
 * another host (ExternalName), and headless services nobody answers for, are left to the mesh's
 * DNS.
 */
#include "control/translate_priv.h"
#include "wire/proto/istio_nds.pb-c.h"

/* The first of two with one name stays. */
struct naming {
    struct cp_translation *t;
    Istio__NameTable *table;
    struct lt_map names;
};

/* NULL: it is there already. Shows as what lives outside the cluster without a short name. */
static Istio__NameTable__NameInfo *add_name(struct naming *n, lt_str host, lt_str short_name,
                                            const struct lt_service *service)
{
    if (lt_map_find(&n->names, host) != NULL)
        return NULL;
    Istio__NameTable__NameInfo *info = CP_NEW(n->t, Istio__NameTable__NameInfo,
                                              istio__name_table__name_info);
    Istio__NameTable__TableEntry *entry = CP_NEW(n->t, Istio__NameTable__TableEntry,
                                                 istio__name_table__table_entry);
    info->registry = "Kubernetes";
    info->shortname = cp_z(n->t, short_name);
    info->namespace_ = cp_z(n->t, service->ns);
    entry->key = cp_z(n->t, host);
    entry->value = info;
    CP_PUSH(n->t, n->table->table, n->table->n_table, entry);
    lt_map_put(&n->names, host, info);
    return info;
}

static void add_address(struct naming *n, Istio__NameTable__NameInfo *info, lt_str ip)
{
    CP_PUSH(n->t, info->ips, info->n_ips, cp_z(n->t, ip));
}

/* "mysql-0.mysql" of a Pod with a name of its own under its service's (a StatefulSet's). */
static void add_pod(struct naming *n, const struct lt_service *service,
                    const struct lt_endpoint *endpoint)
{
    const struct lt_pod_spec *spec = endpoint->workload == NULL
                                         ? NULL
                                         : endpoint->workload->pod->pod->spec;
    if (spec == NULL || spec->subdomain.len == 0 || spec->hostname.len == 0)
        return;
    lt_str short_name = lt_arena_printf(n->t->arena, "%.*s.%.*s", LT_STR_ARG(spec->hostname),
                                        LT_STR_ARG(spec->subdomain)),
           rest = service->host, first;
    (void)lt_str_split(&rest, '.', &first);
    Istio__NameTable__NameInfo *info = add_name(
        n, lt_arena_printf(n->t->arena, "%.*s.%.*s", LT_STR_ARG(short_name), LT_STR_ARG(rest)),
        short_name, service);
    if (info != NULL)
        add_address(n, info, endpoint->ip);
}

/* Whoever is ready at its first port, all ports being those of the same Pods. */
static void add_headless(struct naming *n, const struct lt_service *service)
{
    Istio__NameTable__NameInfo *info = NULL;
    const struct lt_port *port = &service->ports[0];
    for (size_t i = 0; service->port_count > 0 && i < port->endpoint_count; i++) {
        if (!port->endpoints[i].is_ready)
            continue;
        if (info == NULL)
            info = add_name(n, service->host, service->name, service);
        if (info != NULL)
            add_address(n, info, port->endpoints[i].ip);
        add_pod(n, service, &port->endpoints[i]);
    }
}

static void add_service(struct naming *n, const struct lt_service *service)
{
    if (service->is_headless) {
        add_headless(n, service);
    } else if (lt_is_ip(service->address)) {
        Istio__NameTable__NameInfo *info = add_name(n, service->host, service->name, service);
        if (info != NULL)
            add_address(n, info, service->address);
    }
}

void cp_translate_names(struct cp_translation *t)
{
    struct naming n = {.t = t, .table = CP_NEW(t, Istio__NameTable, istio__name_table)};
    lt_map_init(&n.names);
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *service = &t->model->services[i];
        if (service->alias_of.len == 0 && lt_service_is_visible(t->model, service, t->node->ns))
            add_service(&n, service);
    }
    lt_map_fini(&n.names);
    cp_emit(t, LT_STR(""), n.table);
}

/* Istio has the DNS proxy of gateways know no names of the mesh: they route by other means. */
void cp_translate_no_names(struct cp_translation *t)
{
    cp_emit(t, LT_STR(""), CP_NEW(t, Istio__NameTable, istio__name_table));
}
