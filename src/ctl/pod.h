/*
 * ctl/pod.h - a workload: one Pod from its plan to its end.
 *
 *     INIT            init containers, one by one; of those that stay, until they run
 *     PROXY           capture is set up, the sidecar starts; until it is ready
 *     APP             the application's containers start
 *     RUNNING
 *     DRAINING        no new requests come
 *     STOPPING_APP    TERM, after the grace KILL
 *     STOPPING_PROXY  the same for the sidecar, and for init containers that stayed
 *     ENDED
 *
 * The application starts after its sidecar is ready; the sidecar leaves after the application. When
 * all containers of a Pod that is not restarted have ended (a Job), it goes from RUNNING to
 * STOPPING_PROXY by itself. Not here: which Pods there should be (plan.h), who replaces whom
 * (node.h).
 */
#ifndef LT_CTL_POD_H
#define LT_CTL_POD_H

#include "ctl/clog.h"
#include "ctl/container.h"
#include "ctl/handing.h"
#include "ctl/identity.h"
#include "ctl/plan.h"
#include "ctl/probe.h"

typedef enum {
    CTL_POD_INIT,
    CTL_POD_PROXY,
    CTL_POD_APP,
    CTL_POD_RUNNING,
    CTL_POD_DRAINING,
    CTL_POD_STOPPING_APP,
    CTL_POD_STOPPING_PROXY,
    CTL_POD_ENDED,
} ctl_pod_state;

const char *ctl_pod_state_name(ctl_pod_state state);

struct ctl_pod;

/* What a pod needs from the node it runs on. */
struct ctl_pod_host {
    struct lt_loop *loop;
    const char *state_path; /* of ctl_state */
    void *ctx;              /* for the calls below */
    /*
     * Something about the pod changed: its state, or whether it is ready. Not called from inside a
     * call into the pod.
     */
    void (*on_change)(struct ctl_pod *pod, void *ctx);
};

struct ctl_run {
    const struct ctl_container_plan *plan; /* borrowed from the pod's plan */
    struct ctl_pod *pod;
    struct ctl_container container;
    struct lt_io exit_io;
    struct lt_io start_io;
    struct lt_timer restart;
    struct ctl_clog log;
    unsigned restarts;
    uint64_t started_ns;
    bool is_up;       /* has a process */
    bool has_started; /* its program runs */
    bool has_ended;   /* for good */
    int exit_code;    /* of the last run */
    char reason[160]; /* why it does not run; "" */
};

struct ctl_pod {
    const struct ctl_pod_host *host; /* borrowed */
    struct ctl_pod_plan *plan;       /* owned */
    ctl_pod_state state;
    uint32_t ip;
    char link[16]; /* the node's end of its veth pair */
    int netns_fd;
    struct ctl_run
        *runs; /* owned: init containers, then the proxy (if any), then the application's */
    size_t run_count;
    size_t init_at; /* the init container that runs */
    struct ctl_probe probe;
    bool asks_proxy; /* the next probe of a Pod that is ready */
    bool app_is_good, proxy_has_failed;
    struct ctl_handing handing; /* of a gateway */
    struct lt_timer tick;       /* next probe, end of a grace */
    struct lt_task changed;
    uint64_t ready_by_ns; /* a port that does not open is forgiven then */
    bool is_ready;        /* takes traffic */
    bool has_failed;      /* could not be set up; see reason */
    int exit_code;        /* of the first container that failed, once ENDED */
    char reason[256];
    /* the node's own notes */
    struct ctl_identity identity;
    char proved[320]; /* who its sidecar's certificate says it is; "" while that is not known */
    struct lt_timer prove_again;
    unsigned proofs_failed;
    uint64_t ended_ns;
    bool is_wanted; /* the manifests still say so */
    bool was_told_ready;
};

/*
 * Takes the plan. ip is the workload's; link names its interface at the node. Sets up the network
 * at once and the rest as the loop turns. LT_OK, or the plan is freed.
 */
LT_MUST lt_rc ctl_pod_new(const struct ctl_pod_host *host, struct ctl_pod_plan *plan, uint32_t ip,
                          const char *link, struct ctl_pod **ret_pod, struct lt_err *err);
/*
 * Begins to end; nothing when it does already. at_once: without giving callers time to learn of it.
 */
void ctl_pod_stop(struct ctl_pod *pod, bool at_once);
/* Ended, or the whole mesh ends: what still runs is killed. */
void ctl_pod_free(struct ctl_pod **pod);

static inline bool ctl_pod_is_stopping(const struct ctl_pod *pod)
{
    return pod->state >= CTL_POD_DRAINING;
}

/* The container of that name (empty: the first of the application), or NULL. */
struct ctl_run *ctl_pod_find_run(const struct ctl_pod *pod, lt_str name);
struct ctl_run *ctl_pod_find_proxy(const struct ctl_pod *pod);

#endif
