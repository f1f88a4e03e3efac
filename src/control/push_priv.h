/*
 * control/push_priv.h - a proxy's stream, for push.c (what is sent when) and push_refusal.c (what
 * it refused, and what it gets instead).
 */
#ifndef CP_CONTROL_PUSH_PRIV_H
#define CP_CONTROL_PUSH_PRIV_H

#include "base/vec.h"
#include "control/push.h"

/* One type of resources. */
struct flow {
    struct lt_ads_sub *sub;      /* NULL: not asked for */
    struct cp_resources *view;   /* counted; what the world has for this proxy */
    struct cp_resources *wanted; /* counted; the same, with what the proxy refuses replaced */
    uint64_t naming_seq;         /* LDS, RDS: the response after which removed clusters may go */
    bool owes_first;             /* of a wildcard type: even nothing has to be said once */
    bool owes_all;               /* EDS: each name is answered, whatever the proxy has */
    bool is_due;                 /* something may have to be sent */
};

struct cp_proxy {
    struct cp_push_opts opts;
    struct flow flows[CP_TYPE_COUNT];
    uint64_t generation;   /* of the views */
    uint64_t clusters_seq; /* the CDS response that routes and listeners wait for; 0: none */
    bool expects_clusters; /* it has some from before, and asks for them when none of them warms */
    bool has_given_up;     /* it never asked: one that warms may be one that is no more */
    uint64_t gate_ns;      /* until when they wait */
    uint64_t unnamed_ns;   /* since when no acknowledged route names clusters that go; 0: not yet */
    bool has_removals;
    struct lt_vec refusals; /* struct cp_refusal *, owned */
    uint64_t due_ns;
    char waits_for[256];
};

/* From the view and the refusals of the type; forgets those of what has changed. */
void cp_refusals_apply(struct cp_proxy *proxy, cp_type type);
/* The session has said so. */
void cp_refusals_add(struct cp_proxy *proxy, cp_type type, struct lt_ads_resource *resource,
                     lt_str why, uint64_t now_ns);
bool cp_refusals_have(const struct cp_proxy *proxy, cp_type type, lt_str name);
void cp_refusals_fini(struct cp_proxy *proxy);
/*
 * A cluster that the resource names and that the proxy refused, having no other version of it: the
 * resource waits for a better one until *ret_until_ns. NULL: none.
 */
const struct cp_refusal *cp_refusals_block(const struct cp_proxy *proxy,
                                           const struct lt_ads_resource *resource, uint64_t now_ns,
                                           uint64_t *ret_until_ns);
/* A listener or route that the proxy goes on with, its successor being refused, names it. */
bool cp_refusals_keep_cluster(const struct cp_proxy *proxy, lt_str cluster);

#endif
