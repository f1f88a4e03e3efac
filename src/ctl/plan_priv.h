/*
 * ctl/plan_priv.h - shared by plan.c (objects to a plan), plan_pod.c (one Pod and its application),
 * plan_volumes.c (what that mounts) and plan_proxy.c (its sidecar, and lateend's own Pod).
 */
#ifndef LT_CTL_PLAN_PRIV_H
#define LT_CTL_PLAN_PRIV_H

#include "ctl/plan.h"

/* What a Pod is made from. */
struct ctl_pod_source {
    const struct lt_object *object;
    const struct lt_meta *meta; /* labels and annotations of the Pod (of a template: no name) */
    const struct lt_pod_spec *spec;
    const char *kind;
    const struct lt_kvs *ns_labels; /* NULL: no such Namespace */
    unsigned index;                 /* of the replica */
    unsigned attempts_max;          /* of a Job */
    const struct ctl_plan_world *world;
    const char *proxy_config;               /* the mesh's defaultConfig as JSON */
    const struct lt_object *const *objects; /* for ConfigMaps */
    size_t object_count;
    struct lt_notes *notes;
};

/* A growing list of C strings in an arena; ends with NULL once finished. */
struct ctl_strings {
    struct lt_arena *arena;
    const char **items;
    size_t count;
    size_t cap;
};

void ctl_strings_add(struct ctl_strings *list, const char *text);
void ctl_strings_addf(struct ctl_strings *list, const char *fmt, ...) LT_PRINTF(2, 3);
const char *const *ctl_strings_finish(struct ctl_strings *list);

struct ctl_mounts {
    struct ctl_mount *items; /* room for CTL_MOUNTS_MAX */
    size_t count;
};

void ctl_mounts_add(struct ctl_mounts *mounts, struct ctl_mount mount);
/* resolv.conf, hosts and the directory of our programs: what every container has. */
void ctl_mounts_add_common(struct ctl_mounts *mounts, const struct ctl_pod_plan *pod,
                           const struct ctl_plan_world *world);
struct ctl_mounts ctl_mounts_make(struct lt_arena *arena);

const char *ctl_ip_text(struct lt_arena *arena, uint32_t ip);
const char *ctl_text(struct lt_arena *arena, const char *fmt, ...) LT_PRINTF(2, 3);

/* NULL when the Pod cannot be; the notes say why. */
struct ctl_pod_plan *ctl_plan_pod(const struct ctl_pod_source *source);
/* What of its manifest will not be so. */
void ctl_plan_note_pod(const struct ctl_pod_source *source, const struct ctl_pod_plan *pod);
/* LT_STR_NULL: no such ConfigMap, or it has no such key. */
lt_str ctl_plan_config_value(const struct ctl_pod_source *source,
                             const struct lt_key_selector *selector);

/* All of a ConfigMap; NULL: there is none of this name. */
const struct lt_kvs *ctl_plan_config_data(const struct ctl_pod_source *source, lt_str name);
/* volumeMounts of a container of the application; and those that will not be there. */
void ctl_plan_add_volumes(const struct ctl_pod_source *source, struct lt_arena *arena,
                          const struct lt_container *c, struct ctl_mounts *mounts);
void ctl_plan_note_volumes(const struct ctl_pod_source *source, const struct lt_container *c);

/* The sidecar of `pod`, or the gateway that it is. proxy_config: JSON. */
struct ctl_container_plan ctl_plan_proxy(struct ctl_pod_plan *pod,
                                         const struct ctl_plan_world *world,
                                         const char *proxy_config);
/* A variable that its user gives the proxy (proxyMetadata); ptr NULL: none of this name. */
lt_str ctl_plan_proxy_variable(const struct ctl_pod_plan *pod, const char *proxy_config,
                               const char *name);
/* lateend, as a Pod of namespace istio-system, and its Service. */
struct ctl_pod_plan *ctl_plan_control_pod(const struct ctl_plan_world *world);
struct ctl_service_plan ctl_plan_control_service(struct lt_arena *arena,
                                                 const struct ctl_plan_world *world);

#endif
