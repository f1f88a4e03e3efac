/*
 * control/translate_endpoint.c - endpoints (EDS): an assignment for every cluster that asks for one
 * (xds.md 10).
 */
#include "control/translate_priv.h"
#include "wire/struct.h"

static bool is_same_locality(const struct lt_locality *a, const struct lt_locality *b)
{
    return lt_str_eq(a->region, b->region) && lt_str_eq(a->zone, b->zone) &&
           lt_str_eq(a->subzone, b->subzone);
}

static int cmp_localities(const struct lt_locality *a, const struct lt_locality *b)
{
    int order = lt_str_cmp(a->region, b->region);
    if (order == 0)
        order = lt_str_cmp(a->zone, b->zone);
    return order != 0 ? order : lt_str_cmp(a->subzone, b->subzone);
}

static const struct lt_locality *locality_of(const struct lt_endpoint *endpoint)
{
    static const struct lt_locality nowhere = {{"", 0}, {"", 0}, {"", 0}};
    return endpoint->workload != NULL ? &endpoint->workload->locality : &nowhere;
}

/* 0: here, 1: same zone, 2: same region, 3: elsewhere (networking.md 3.4). */
static uint32_t distance(const struct lt_locality *from, const struct lt_locality *to)
{
    if (!lt_str_eq(from->region, to->region))
        return 3;
    if (!lt_str_eq(from->zone, to->zone))
        return 2;
    return lt_str_eq(from->subzone, to->subzone) ? 0 : 1;
}

/* What is being assigned: one cluster's endpoints. */
struct assigning {
    const struct lt_service *service;
    const struct lt_port *port;
    const struct lt_kvs *labels; /* of the subset; NULL: all */
    struct cp_policy policy;
    const struct lt_endpoint **endpoints; /* that belong to it, by locality */
    size_t count;
};

/*
 * The mark that makes the client use mesh TLS: not when the rule says another TLS, nor when the
 * workload's port takes none. A rule that says ISTIO_MUTUAL does not look at that (networking.md
 * 3.8).
 */
static bool is_marked_mtls(struct cp_translation *t, const struct assigning *a,
                           const struct lt_endpoint *e)
{
    if (e->workload == NULL || !e->workload->takes_mtls)
        return false;
    if (a->policy.tls != NULL)
        return a->policy.tls->mode.value == LT_TLS_ISTIO_MUTUAL;
    return lt_model_mtls_mode(t->model, e->workload->ns, e->workload->labels, e->port) !=
           LT_MTLS_DISABLE;
}

/*
 * "workload;namespace;canonical service;revision;cluster", the revision empty when it is the
 * default.
 */
static const char *describe(struct cp_translation *t, const struct lt_workload *w)
{
    lt_str revision = lt_str_eq(w->canonical_revision, LT_STR("latest")) ? LT_STR("")
                                                                         : w->canonical_revision;
    return cp_zf(t, "%.*s;%.*s;%.*s;%.*s;%.*s", LT_STR_ARG(w->owner_name), LT_STR_ARG(w->ns),
                 LT_STR_ARG(w->canonical_name), LT_STR_ARG(revision),
                 LT_STR_ARG(t->model->mesh.cluster_id));
}

static Xds__LbEndpoint *make_endpoint(struct cp_translation *t, const struct assigning *a,
                                      const struct lt_endpoint *from)
{
    Xds__LbEndpoint *to = CP_NEW(t, Xds__LbEndpoint, xds__lb_endpoint);
    to->host_identifier_case = XDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
    to->endpoint = CP_NEW(t, Xds__Endpoint, xds__endpoint);
    to->endpoint->address = cp_address(t, cp_z(t, from->ip), from->port);
    to->health_status = from->is_ready ? XDS__HEALTH_STATUS__HEALTHY
                                       : XDS__HEALTH_STATUS__UNHEALTHY;
    to->has_health_status = true;
    to->load_balancing_weight = cp_u32(t, 1);
    if (from->workload == NULL)
        return to;
    to->metadata = CP_NEW(t, Xds__Metadata, xds__metadata);
    if (is_marked_mtls(t, a, from)) {
        struct lt_doc mode = lt_doc_of_object();
        lt_doc_set(t->arena, &mode, LT_STR("tlsMode"), lt_doc_of_str(LT_STR("istio")));
        cp_add_metadata(t, to->metadata, "envoy.transport_socket_match", &mode);
    }
    struct lt_doc istio = lt_doc_of_object();
    lt_doc_set(t->arena, &istio, LT_STR("workload"),
               lt_doc_of_str(lt_str_of(describe(t, from->workload))));
    cp_add_metadata(t, to->metadata, "istio", &istio);
    return to;
}

static int cmp_endpoints(const void *a, const void *b)
{
    const struct lt_endpoint *x = *(const struct lt_endpoint *const *)a,
                             *y = *(const struct lt_endpoint *const *)b;
    int order = cmp_localities(locality_of(x), locality_of(y));
    if (order == 0)
        order = (int)x->ip.len - (int)y->ip.len; /* 10.0.0.9 before 10.0.0.10 */
    if (order == 0)
        order = lt_str_cmp(x->ip, y->ip);
    return order != 0 ? order : (int)x->port - (int)y->port;
}

/*
 * Unready endpoints are sent too (Envoy counts them as unhealthy), unless the rule's
 * minHealthPercent asks for less (kubernetes.md 4).
 */
static bool belongs(const struct assigning *a, const struct lt_endpoint *e)
{
    bool wants_unready = a->policy.outlier == NULL ||
                         a->policy.outlier->min_health_percent.value == 0;
    if (!e->is_ready && !wants_unready)
        return false;
    if (a->labels == NULL)
        return true;
    return e->workload != NULL && lt_kvs_contain(e->workload->labels, a->labels);
}

static void gather(struct cp_translation *t, struct assigning *a)
{
    a->endpoints = lt_arena_make_n(t->arena, const struct lt_endpoint *,
                                   a->port->endpoint_count + 1);
    for (size_t i = 0; i < a->port->endpoint_count; i++) {
        if (belongs(a, &a->port->endpoints[i]))
            a->endpoints[a->count++] = &a->port->endpoints[i];
    }
    lt_sort(a->endpoints, a->count, sizeof(*a->endpoints), cmp_endpoints);
}

static Xds__LocalityLbEndpoints *make_group(struct cp_translation *t, const struct lt_locality *at)
{
    Xds__LocalityLbEndpoints *group = CP_NEW(t, Xds__LocalityLbEndpoints,
                                             xds__locality_lb_endpoints);
    group->locality = CP_NEW(t, Xds__Locality, xds__locality);
    if (at->region.len > 0)
        group->locality->region = cp_z(t, at->region);
    if (at->zone.len > 0)
        group->locality->zone = cp_z(t, at->zone);
    if (at->subzone.len > 0)
        group->locality->sub_zone = cp_z(t, at->subzone);
    return group;
}

/* The proxy's own place: what it says, else its Pod's. */
static const struct lt_locality *own_locality(const struct cp_translation *t)
{
    const struct lt_workload *workload = cp_node_workload(t->node, t->model);
    return t->node->locality.region.len == 0 && workload != NULL ? &workload->locality
                                                                 : &t->node->locality;
}

/*
 * Failover by distance is on when outlier detection is, as it must see failures first. Gaps between
 * priorities are closed.
 */
static void set_priorities(struct cp_translation *t, Xds__ClusterLoadAssignment *assignment,
                           const struct lt_locality *const *places)
{
    bool is_used[4] = {false};
    uint32_t rank[4] = {0}, next = 0;
    for (size_t i = 0; i < assignment->n_endpoints; i++)
        is_used[distance(own_locality(t), places[i])] = true;
    for (size_t d = 0; d < LT_ARRAY_LEN(is_used); d++)
        rank[d] = is_used[d] ? next++ : 0;
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        Xds__LocalityLbEndpoints *group = assignment->endpoints[i];
        group->priority = rank[distance(own_locality(t), places[i])];
        group->has_priority = group->priority != 0;
    }
}

static void emit_assignment(struct cp_translation *t, struct assigning *a, const char *name)
{
    Xds__ClusterLoadAssignment *assignment = CP_NEW(t, Xds__ClusterLoadAssignment,
                                                    xds__cluster_load_assignment);
    assignment->cluster_name = name;
    gather(t, a);
    const struct lt_locality **places = lt_arena_make_n(t->arena, const struct lt_locality *,
                                                        a->count + 1);
    Xds__LocalityLbEndpoints *group = NULL;
    for (size_t i = 0; i < a->count; i++) {
        const struct lt_locality *at = locality_of(a->endpoints[i]);
        if (i == 0 || !is_same_locality(at, locality_of(a->endpoints[i - 1]))) {
            group = make_group(t, at);
            group->load_balancing_weight = cp_u32(t, 0);
            places[assignment->n_endpoints] = at;
            CP_PUSH(t, assignment->endpoints, assignment->n_endpoints, group);
        }
        CP_PUSH(t, group->lb_endpoints, group->n_lb_endpoints,
                make_endpoint(t, a, a->endpoints[i]));
        group->load_balancing_weight->value++;
        group->load_balancing_weight->has_value = true;
    }
    if (a->policy.outlier != NULL && own_locality(t)->region.len > 0)
        set_priorities(t, assignment, places);
    cp_emit(t, lt_str_of(name), assignment);
}

static void emit_for(struct cp_translation *t, const struct lt_service *service,
                     const struct lt_port *port, lt_str subset, const struct lt_kvs *labels)
{
    struct lt_arena_mark mark = lt_arena_mark(t->arena);
    struct assigning a = {.service = service, .port = port, .labels = labels};
    a.policy = cp_policy_for(t, service, port->number, subset);
    bool is_original = (service->is_headless && t->node->type == CP_NODE_SIDECAR) ||
                       (a.policy.load_balancer != NULL &&
                        a.policy.load_balancer->simple.value == LT_LB_PASSTHROUGH);
    if (!is_original)
        emit_assignment(t, &a, cp_cluster_name(t, port->number, subset, service->host));
    lt_arena_rollback(t->arena, mark);
}

void cp_translate_endpoints(struct cp_translation *t)
{
    for (size_t i = 0; i < t->model->service_count; i++) {
        const struct lt_service *service = &t->model->services[i];
        if (service->alias_of.len > 0 || !lt_service_is_visible(t->model, service, t->node->ns))
            continue;
        const struct lt_rule *rule = lt_model_find_rule(t->model, service, t->node->ns, t->labels);
        for (size_t p = 0; p < service->port_count; p++) {
            emit_for(t, service, &service->ports[p], LT_STR(""), NULL);
            for (size_t s = 0; rule != NULL && s < rule->subset_count; s++)
                emit_for(t, service, &service->ports[p], rule->subsets[s].spec->name,
                         &rule->subsets[s].spec->labels);
        }
    }
}
