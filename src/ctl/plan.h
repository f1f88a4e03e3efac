/*
 * ctl/plan.h - what should run: plain facts made from manifests, for pod.h and node.h to act on.
 * No I/O, no state of its own: the same objects and addresses give the same plan. What of the world
 * it needs to know (which programs exist, which address a name has) comes through struct
 * ctl_plan_world.
 * Start at: ctl_plan_make().
 */
#ifndef LT_CTL_PLAN_H
#define LT_CTL_PLAN_H

#include "ctl/rootfs.h"
#include "model/object.h"

enum {
    CTL_NAME_MAX = 64,      /* a DNS label with a NUL */
    CTL_APP_UID = 10001,    /* whom containers run as, and nobody else */
    CTL_REPLICAS_MAX = 200, /* of one Deployment, on one machine */
    CTL_HANDING_FD = 3,
};

#define CTL_DOMAIN "cluster.local"
/* In every container: lateen, lateen-proxy, pilot-agent ... */
#define CTL_BIN_DIR "/run/lateen/bin"
#define CTL_SYSTEM_NS "istio-system"

typedef enum { CTL_RESTART_ALWAYS, CTL_RESTART_ON_FAILURE, CTL_RESTART_NEVER } ctl_restart;
typedef enum {
    CTL_ROLE_INIT,
    CTL_ROLE_SIDECAR, /* an init container that stays (restartPolicy: Always) */
    CTL_ROLE_PROXY,
    CTL_ROLE_APP,
} ctl_role;
const char *ctl_role_name(ctl_role role);

/* When a container counts as ready. */
typedef enum {
    CTL_READY_RUNNING, /* at once */
    CTL_READY_PORT, /* its port accepts connections; forgiven after a while: not all are served */
    CTL_READY_HTTP, /* its path answers 200 to 399 */
} ctl_ready;

struct ctl_container_plan {
    const char *name;
    ctl_role role;
    const char *const *argv; /* NULL at the end */
    const char *const *env;  /* "NAME=value", NULL at the end; $(NAME) is expanded */
    const char *working_dir; /* NULL: "/" */
    const struct ctl_mount *mounts;
    size_t mount_count;
    ctl_restart restart;
    bool is_standin;    /* its program does not exist here */
    const char *wanted; /* that program, or the image */
    uid_t uid;
    gid_t gid;
    ctl_ready ready;
    uint16_t ready_port;
    const char *ready_path;
    bool takes_sockets; /* handing.h; its end of the channel is descriptor CTL_HANDING_FD */
};

struct ctl_pod_plan {
    struct lt_arena *arena;         /* owned; holds all of it, this struct too */
    struct lt_object *object;       /* counted; NULL for lateend's own */
    const struct lt_pod_spec *spec; /* inside object */
    const char *ns;
    const char *name;     /* of the Pod: workload-hash-suffix */
    const char *workload; /* of its Deployment or Job; of the Pod itself otherwise */
    const char *kind;     /* "Deployment" "Job" "Pod" */
    const char *service_account;
    const char *hostname;
    struct lt_kvs labels; /* with those that injection adds */
    struct lt_kvs annotations;
    uint64_t hash; /* of everything that makes a new Pod necessary */
    uint32_t ip;
    bool has_proxy; /* a sidecar, or it is a gateway */
    bool is_gateway;
    bool is_control;     /* lateend itself */
    const char *why;     /* has or has not a proxy; for people */
    const char *capture; /* the nftables ruleset of its sidecar; NULL: none */
    const struct ctl_container_plan
        *containers; /* init and sidecars as written, then proxy, application */
    size_t container_count;
    unsigned grace_s;
    unsigned attempt;      /* of a Job: Pods before this one have failed */
    unsigned attempts_max; /* of a Job: backoffLimit + 1 */
    uint16_t port;         /* the first TCP port of its application; 0: none */
};

struct ctl_service_plan {
    struct lt_object *object; /* counted; NULL for lateend's own */
    const char *ns;
    const char *name;
    uint32_t ip; /* its cluster IP; 0: headless or ExternalName */
    const struct lt_service_spec *spec;
};

struct ctl_plan_world {
    void *ctx;
    /*
     * The address of a Pod or Service of this name, the same whenever it is asked for again. 0: no
     * more addresses.
     */
    uint32_t (*pod_ip)(const char *ns, const char *name, void *ctx);
    uint32_t (*cluster_ip)(const char *ns, const char *name, lt_str wanted, void *ctx);
    /* How many Pods of this Job have failed and are to be replaced. */
    unsigned (*job_attempt)(const char *ns, const char *name, void *ctx);
    /* Whether containers can run it. */
    bool (*has_program)(const char *name, void *ctx);
    const struct lt_object *mesh_map; /* ConfigMap istio, as it is in force; NULL: none */
    const char *state_path;           /* of the mesh's state directory */
    const char *manifests;            /* the user's directory */
    const char *jwt_rule;             /* lateend's JWT_RULE */
    const char *const *control_env;   /* and more of its environment; NULL at the end, or NULL */
    uint32_t dns_ip;
    uint32_t node_ip;
};

struct ctl_plan {
    struct lt_arena *arena;     /* owned */
    struct ctl_pod_plan **pods; /* owned; NULL once taken. lateend's first */
    size_t pod_count;
    struct ctl_service_plan *services; /* lateend's first */
    size_t service_count;
};

/*
 * objects as lt_manifests_objects gives them. What cannot be is left out, with a note. Free with
 * ctl_plan_free.
 */
struct ctl_plan *ctl_plan_make(const struct lt_object *const *objects, size_t count,
                               const struct ctl_plan_world *world, struct lt_notes *notes);
void ctl_plan_free(struct ctl_plan **plan);
void ctl_pod_plan_free(struct ctl_pod_plan **plan);

/* The number of a service's target port on this Pod; 0: the Pod has no port of that name. */
uint16_t ctl_plan_target_port(const struct lt_service_port *port, const struct ctl_pod_plan *pod);
/* The Pod is one of the service's. */
bool ctl_plan_selects(const struct ctl_service_plan *service, const struct ctl_pod_plan *pod);

#endif
