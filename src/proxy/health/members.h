/*
 * proxy/health/members.h - what the main thread does for clusters beside configuration: names
 * looked up, hosts checked and ejected, limits shared between workers. A cluster that asks for none
 * of that is not known here.
 * The table asks whether a cluster may serve and for its roster (roster.h); workers send reports
 * and are told when the health of hosts has changed. Main thread only.
 *
 *   members.c        clusters and their rosters      members_host.c   one host: checks, ejections
 *   members_stats.c  counters, /clusters
 */
#ifndef LT_PROXY_HEALTH_MEMBERS_H
#define LT_PROXY_HEALTH_MEMBERS_H

#include "base/metric.h"
#include "net/loop.h"
#include "net/tls.h"
#include "proxy/lb/outlier.h"
#include "proxy/table/roster.h"

struct px_members;

struct px_members_opts {
    struct lt_loop *loop; /* borrowed, as all here */
    const struct lt_env *env;
    /* The context of a TLS configuration as of now; NULL: a secret is missing. */
    struct lt_tls_ctx *(*tls_ctx)(void *ctx, const struct px_tls_conf *tls);
    /* These clusters may be ready that were not, or have other endpoints. */
    void (*on_change)(void *ctx, const lt_str *clusters, size_t count);
    /* The health of hosts of these clusters has changed: workers must look. */
    void (*tell)(void *ctx, const lt_str *clusters, size_t count);
    void *ctx;
};

struct px_members *px_members_new(const struct px_members_opts *opts);
/* No snapshot may be held any more. */
void px_members_free(struct px_members **members);

/*
 * source: the endpoints that the control plane or the configuration has for it; NULL: none. Begins
 * what is to be done for this version of the cluster. True: it need not wait (any longer) for
 * names, or for the first round of health checks.
 */
bool px_members_is_ready(struct px_members *members, const struct px_cluster_conf *conf,
                         const struct px_endpoints_conf *source);
/*
 * For a snapshot; borrowed until the next call. NULL: workers need nothing but the configuration.
 */
struct px_roster *px_members_roster(struct px_members *members, const struct px_cluster_conf *conf,
                                    const struct px_endpoints_conf *source);
/* The cluster is not there any more. */
void px_members_forget(struct px_members *members, lt_str cluster);
/* None is: the table that they come from is about to go. */
void px_members_forget_all(struct px_members *members);

/* What a worker has seen of a host: px_outlier_kind, or PX_REPORT_IMMEDIATE_FAIL. */
void px_members_report(struct px_members *members, struct px_host_state *host, unsigned kind);

/* --- members_stats.c --- */
void px_members_add_stats(const struct px_members *members, struct lt_metric_set *sum);

struct px_member_status {
    uint32_t flags;                          /* PX_HOST_FLAG */
    double success_rate, local_success_rate; /* -1: unknown */
};
/* What is known of a host beside what the configuration says; all zero, and -1, for others. */
struct px_member_status px_members_host_status(const struct px_members *members, lt_str cluster,
                                               lt_str address);
/* NULL: the cluster has none. */
const struct px_outlier *px_members_outlier(const struct px_members *members, lt_str cluster);
/* The endpoints that workers have, when they are others than the source's; NULL: they are not. */
const struct px_endpoints_conf *px_members_endpoints(const struct px_members *members,
                                                     lt_str cluster);

#endif
