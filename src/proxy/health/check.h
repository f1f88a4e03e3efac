/*
 * proxy/health/check.h - active health checks of one host, without the asking: what an answer makes
 * of the host, and when it is asked again. The rules are Envoy's. Main thread only; no clock, no
 * socket.
 * Asking: check_run.h.
 */
#ifndef LT_PROXY_HEALTH_CHECK_H
#define LT_PROXY_HEALTH_CHECK_H

#include "base/env.h"
#include "proxy/lb/shared.h"

typedef enum {
    PX_CHECK_PASSED,
    PX_CHECK_PASSED_DEGRADED,
    PX_CHECK_FAILED,    /* an answer, and it says no: once is enough */
    PX_CHECK_RETRIABLE, /* an answer that may be an accident: counts up to the threshold */
    PX_CHECK_NETWORK,   /* no answer: likewise */
    PX_CHECK_TIMEOUT,   /* likewise */
    PX_CHECK_PASSIVE,   /* a response to a client said so (x-envoy-immediate-health-check-fail) */
} px_check_result;

/* Of a cluster. */
struct px_check_stats {
    uint64_t attempts, successes, failures, passive_failures, network_failures, verifications;
};

struct px_check {
    const struct px_check_conf *conf; /* borrowed */
    struct px_host_state *state;      /* borrowed */
    struct px_check_stats *stats;     /* borrowed */
    uint32_t healthy_row, unhealthy_row;
    bool was_checked;
};

/*
 * is_new: the host has served nobody yet and must pass first; excludes_new: until then it counts as
 * not there (ignore_new_hosts_until_first_hc).
 */
void px_check_begin(struct px_check *check, const struct px_check_conf *conf,
                    struct px_host_state *state, struct px_check_stats *stats, bool is_new,
                    bool excludes_new);
/* Nobody asks it any more: as if there were no checks. */
void px_check_end(struct px_check *check);
/* The first question: after so many ms. */
uint64_t px_check_first_delay_ms(const struct px_check *check, struct lt_prng *prng);
/*
 * True when the host's flags have changed. *ret_delay_ms: until the next question, not for PASSIVE;
 * has_traffic: some connection was made to the cluster since it is there.
 */
bool px_check_take(struct px_check *check, px_check_result result, bool has_traffic,
                   struct lt_prng *prng, uint64_t *ret_delay_ms);
/* True when a status is what conf expects. */
px_check_result px_check_judge_status(const struct px_check_conf *conf, uint32_t status);

#endif
