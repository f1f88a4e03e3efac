/*
 * model/model.h - the mesh as one immutable value: services with their endpoints, workloads, and
 * who may do what to whom. Built whole from the objects in force, then shared by count; nothing in
 * it changes. It borrows from the objects, which it counts. Not here: what a proxy is sent
 * (control/translate.h), reading objects (load.h).   Start at: lt_model_build().
 */
#ifndef LT_MODEL_MODEL_H
#define LT_MODEL_MODEL_H

#include "base/map.h"
#include "model/host.h"
#include "model/object.h"

/* MeshConfig with its defaults filled in (telemetry-mesh.md; `istio` ConfigMap, key `mesh`). */
struct lt_mesh {
    lt_str trust_domain;
    lt_str domain;     /* "cluster.local" */
    lt_str root_ns;    /* "istio-system" */
    lt_str cluster_id; /* "Kubernetes" */
    struct lt_strs trust_domain_aliases;
    lt_str access_log_file;   /* "": none */
    lt_str access_log_format; /* "": Istio's default */
    bool access_log_is_json;
    bool has_auto_mtls;
    bool allows_any_outbound; /* outboundTrafficPolicy ALLOW_ANY */
    int64_t connect_timeout_ns;
    int64_t detection_timeout_ns;
    const struct lt_http_retry *default_retry; /* NULL: Istio's default */
    struct lt_strs service_export_to;          /* empty: everybody */
    struct lt_strs vs_export_to;
    struct lt_strs dr_export_to;
};

struct lt_locality {
    lt_str region;
    lt_str zone;
    lt_str subzone;
};

/* A Pod that has an address. */
struct lt_workload {
    const struct lt_object *pod;
    lt_str name; /* of the Pod */
    lt_str ns;
    lt_str ip;
    const struct lt_kvs *labels;
    lt_str service_account;
    lt_str owner_name; /* the Deployment, or the Pod itself */
    lt_str canonical_name;
    lt_str canonical_revision; /* "latest" when not said */
    lt_str identity;           /* spiffe://… */
    struct lt_locality locality;
    bool is_ready;
    bool takes_mtls; /* label security.istio.io/tlsMode: istio */
};

struct lt_endpoint {
    lt_str ip;
    uint16_t port;
    bool is_ready;
    const struct lt_workload *workload; /* NULL: nothing is known about what is there */
};

struct lt_port {
    lt_str name;
    uint16_t number;
    lt_port_protocol protocol;
    struct lt_port_ref target; /* never empty */
    size_t endpoint_count;
    const struct lt_endpoint *endpoints; /* by address */
};

struct lt_service {
    const struct lt_object *object;
    lt_str host; /* "reviews.shop.svc.cluster.local" */
    lt_str name;
    lt_str ns;
    lt_str address; /* "" when it has none of its own */
    bool is_headless;
    lt_str alias_of; /* ExternalName: the other host; it has no clusters of its own */
    const struct lt_kvs *selector;
    struct lt_strs export_to;
    size_t port_count;
    const struct lt_port *ports;
    struct lt_strs identities; /* of its endpoints, sorted, each once */
};

/*
 * A subset and the policy of the rule that it came from: a held one may come from a rule that is
 * gone.
 */
struct lt_subset {
    const struct lt_dr_subset *spec;
    const struct lt_traffic_policy *rule_policy; /* may be NULL */
};

/* DestinationRules of one host in one namespace, merged (networking.md 3.1). */
struct lt_rule {
    const struct lt_object *object; /* the oldest */
    lt_str ns;
    lt_str host;                     /* lower case */
    const struct lt_kvs *selector;   /* NULL: for all clients */
    const struct lt_strs *export_to; /* empty: the mesh's default */
    const struct lt_traffic_policy *policy;
    size_t subset_count;
    const struct lt_subset *subsets;
};

/* A VirtualService as it applies. */
struct lt_routes {
    const struct lt_object *object;
    const struct lt_virtual_service *spec;
    lt_str ns;
    struct lt_strs hosts;    /* in full */
    struct lt_strs gateways; /* "mesh" or "namespace/name" */
    const bool *is_left_out; /* by http rule; NULL: none is */
};

/* One of the hosts of a VirtualService. */
struct lt_route_host {
    lt_str host; /* lower case */
    const struct lt_routes *routes;
};

struct lt_model {
    unsigned refs;
    struct lt_arena *arena; /* owned */
    struct lt_mesh mesh;
    const struct lt_object *mesh_map; /* that it was read from; NULL: none */
    uint64_t generation;              /* given by the builder's caller */
    size_t object_count;
    struct lt_object **objects; /* counted */
    size_t service_count;
    const struct lt_service *services; /* oldest first, then by name and namespace */
    size_t workload_count;
    const struct lt_workload *workloads; /* by namespace and name */
    size_t rule_count;
    const struct lt_rule *
        /* by namespace and host (wildcards first), then with selector first, then oldest first */
        rules;
    size_t routes_count;
    const struct lt_routes *routes; /* oldest first */
    size_t route_host_count;
    const struct lt_route_host *route_hosts; /* by host (wildcards first), then as in routes */
    size_t gateway_count;
    const struct lt_object *const *gateways; /* oldest first */
    size_t peer_count;
    const struct lt_object *const *peers; /* PeerAuthentication, oldest first */
    struct lt_map *service_by_host;       /* owned */
};

/*
 * What is kept in force although the objects don't say it (any more): control/hold.h decides, the
 * model obeys.
 */
struct lt_held_route {
    struct lt_object_key key; /* of the VirtualService */
    const struct lt_object
        *instead; /* the spec that stays; NULL: the one that is there, but without these rules: */
    const bool *is_left_out; /* by http rule of the present spec */
};

struct lt_held_subset {
    const struct lt_object *rule; /* the DestinationRule as it was */
    lt_str name;
};

struct lt_held {
    size_t route_count;
    const struct lt_held_route *routes;
    size_t subset_count;
    const struct lt_held_subset *subsets;
    size_t service_count;
    const struct lt_object *const *services; /* Services that are gone */
};

struct lt_model_input {
    const struct lt_object *const *objects; /* in force, as from lt_manifests_objects */
    size_t count;
    const struct lt_mesh
        *mesh; /* NULL: from the ConfigMap `istio` in the root namespace, else defaults */
    const struct lt_held *held;       /* NULL: nothing */
    const struct lt_object *mesh_map; /* a ConfigMap to read when `istio` is broken; may be NULL */
    uint64_t generation;
};

/*
 * Everything wrong with the mesh configuration goes to notes (may be NULL); the model is made all
 * the same. Starts with one count.
 */
struct lt_model *lt_model_build(const struct lt_model_input *input, struct lt_notes *notes);
struct lt_model *lt_model_ref(const struct lt_model *model);
void lt_model_unref(struct lt_model **model);

/* ---- mesh configuration ---- */
struct lt_mesh lt_mesh_default(void);
/*
 * Over *mesh; YAML or JSON text. LT_E_BAD: nothing of it was taken, the notes say why. Everything
 * lives in arena.
 */
lt_rc lt_mesh_read(struct lt_arena *arena, lt_str text, const struct lt_note *where,
                   struct lt_notes *notes, struct lt_mesh *mesh);
/* The same of ConfigMap `istio`; LT_E_NOT_FOUND: it has no key `mesh`. */
lt_rc lt_mesh_read_map(struct lt_arena *arena, const struct lt_object *map, struct lt_notes *notes,
                       struct lt_mesh *mesh);

/* ---- finding ---- */
/* By full host name, case as written; NULL when there is none. */
const struct lt_service *lt_model_find_service(const struct lt_model *model, lt_str host);
const struct lt_port *lt_service_find_port(const struct lt_service *service, uint16_t number);
const struct lt_workload *lt_model_find_workload(const struct lt_model *model, lt_str ns,
                                                 lt_str name);
/*
 * networking.md 1.2: may things in `ns` see what `owner_ns` exports to `export_to` (empty:
 * `otherwise`, empty: everybody)?
 */
bool lt_is_exported(const struct lt_strs *export_to, const struct lt_strs *otherwise,
                    lt_str owner_ns, lt_str ns);
bool lt_service_is_visible(const struct lt_model *model, const struct lt_service *service,
                           lt_str ns);

/*
 * The DestinationRule that a client in `ns` with `labels` applies to a host, or NULL (networking.md
 * 3.1).
 */
const struct lt_rule *lt_model_find_rule(const struct lt_model *model,
                                         const struct lt_service *service, lt_str ns,
                                         const struct lt_kvs *labels);
const struct lt_subset *lt_rule_find_subset(const struct lt_rule *rule, lt_str name);

/*
 * The VirtualServices that have a host which is `host` or covers it: calls on_match for each,
 * wildcards first. host in lower case.
 */
void lt_model_each_route(const struct lt_model *model, lt_str host,
                         void (*on_match)(void *ctx, const struct lt_route_host *match), void *ctx);

/*
 * What a workload accepts on a port of its own (LT_MTLS_DISABLE, PERMISSIVE or STRICT):
 * PeerAuthentication of workload, namespace, mesh, in this order (security.md 2). labels NULL:
 * namespace and mesh only.
 */
int64_t lt_model_mtls_mode(const struct lt_model *model, lt_str ns, const struct lt_kvs *labels,
                           uint16_t port);
/* Ports that PeerAuthentications of this workload name; at most max of them, ascending. */
size_t lt_model_mtls_ports(const struct lt_model *model, lt_str ns, const struct lt_kvs *labels,
                           uint16_t *ret_ports, size_t max);

/*
 * "name", "namespace/name" or "./name" as written in an object of `ns` to "namespace/name"; "mesh"
 * stays. Lives in arena.
 */
lt_str lt_gateway_name(struct lt_arena *arena, lt_str text, lt_str ns);

#endif
