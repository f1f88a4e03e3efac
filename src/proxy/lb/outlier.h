/*
 * proxy/lb/outlier.h - outlier detection of one cluster, as Envoy's: hosts that answer badly are
 * taken out for a while. Workers count into px_host_state and tell when a row of failures is
 * complete; the rest is decided here, on the main thread. No timer and no clock of its own.
 * Start at: px_outlier_report(), px_outlier_sweep().
 */
#ifndef LT_PROXY_LB_OUTLIER_H
#define LT_PROXY_LB_OUTLIER_H

#include "base/env.h"
#include "base/vec.h"
#include "proxy/lb/shared.h"

typedef enum {
    PX_OUTLIER_5XX,
    PX_OUTLIER_GATEWAY,
    PX_OUTLIER_LOCAL,
    PX_OUTLIER_SUCCESS_RATE,
    PX_OUTLIER_LOCAL_SUCCESS_RATE,
    PX_OUTLIER_FAILURE_PERCENT,
    PX_OUTLIER_LOCAL_FAILURE_PERCENT,
    PX_OUTLIER_KINDS
} px_outlier_kind;
/* Beside these a worker reports: the host itself says that it is not well. */
enum { PX_REPORT_IMMEDIATE_FAIL = PX_OUTLIER_KINDS };

/* Embedded in what the main thread knows of a host. */
struct px_outlier_host {
    struct px_host_state *state; /* borrowed */
    uint64_t ejected_ns;
    uint32_t multiplier; /* of the base ejection time */
    bool is_ejected;
    double success_rate, local_success_rate; /* of the last interval in percent; -1: unknown */
};

/* A host's flag has changed. */
typedef void px_outlier_fn(void *ctx, struct px_outlier_host *host);

struct px_outlier {
    const struct px_outlier_conf *conf; /* borrowed */
    struct lt_vec hosts;                /* of px_outlier_host, borrowed */
    uint32_t ejected;
    uint64_t detected[PX_OUTLIER_KINDS], enforced[PX_OUTLIER_KINDS];
    uint64_t enforced_total, overflows;
    double average, threshold; /* of success rates; -1: unknown */
    double local_average, local_threshold;
    struct lt_prng *prng; /* borrowed */
    px_outlier_fn *on_change;
    void *ctx;
};

void px_outlier_init(struct px_outlier *outlier, struct lt_prng *prng, px_outlier_fn *on_change,
                     void *ctx);
/* Every host is taken out, and in again. */
void px_outlier_fini(struct px_outlier *outlier);
void px_outlier_add(struct px_outlier *outlier, struct px_outlier_host *host,
                    struct px_host_state *state);
void px_outlier_remove(struct px_outlier *outlier, struct px_outlier_host *host);
/* A worker has seen as many failures in a row as conf says: 5XX, GATEWAY or LOCAL. */
void px_outlier_report(struct px_outlier *outlier, struct px_outlier_host *host,
                       px_outlier_kind kind, uint64_t now_ns);
/* Once an interval: who comes back, and who is worse than the others. */
void px_outlier_sweep(struct px_outlier *outlier, uint64_t now_ns);
/* An active health check has passed. */
void px_outlier_check_passed(struct px_outlier *outlier, struct px_outlier_host *host);
/* In Envoy's statistics: "consecutive_5xx". */
const char *px_outlier_kind_name(px_outlier_kind kind);

#endif
