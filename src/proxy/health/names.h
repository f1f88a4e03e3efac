/*
 * proxy/health/names.h - the hosts of a DNS cluster: its names are looked up again and again, and
 * what they stand for becomes endpoints like any other. Main thread only.
 * Start at: px_names_new().
 */
#ifndef LT_PROXY_HEALTH_NAMES_H
#define LT_PROXY_HEALTH_NAMES_H

#include "net/dns.h"
#include "proxy/table/roster.h"

/* Resolvers that clusters with the same settings share. */
struct px_resolvers;
struct px_resolvers *px_resolvers_new(struct lt_loop *loop);
/* Nobody may use one any more. */
void px_resolvers_free(struct px_resolvers **resolvers);

struct px_names;

struct px_names_opts {
    struct lt_loop *loop; /* borrowed, as all here */
    struct lt_prng *prng;
    struct px_resolvers *resolvers;
    const struct px_cluster_conf *conf; /* with dns and inline_endpoints */
    const struct px_names *before; /* of an earlier version: what it knows need not be waited for */
    void (*on_change)(void *ctx);  /* it has its first answer, or others than before */
    void *ctx;
};

/* Envoy's update_attempt, update_success, update_failure */
struct px_names_stats {
    uint64_t attempts, successes, failures;
};

/* Asks at once, from the loop. */
struct px_names *px_names_new(const struct px_names_opts *opts);
void px_names_free(struct px_names **names);
/* Some name had an answer, or none came in time: the cluster need not wait any longer. */
bool px_names_are_answered(const struct px_names *names);
/* What is known now; one reference, the caller's. */
struct px_endpoints_conf *px_names_endpoints(const struct px_names *names);
const struct px_names_stats *px_names_stats(const struct px_names *names);

#endif
