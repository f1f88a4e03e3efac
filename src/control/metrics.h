/*
 * control/metrics.h - what lateend counts, under istiod's names (contract: metrics.md 4).
 */
#ifndef CP_CONTROL_METRICS_H
#define CP_CONTROL_METRICS_H

#include "base/metric.h"
#include "control/resource.h"

struct cp_metrics {
    struct lt_metric_set *set;                        /* owned */
    struct lt_counter *pushes[CP_TYPE_COUNT];         /* responses sent */
    struct lt_counter *send_errors[CP_TYPE_COUNT];    /* that could not be sent */
    struct lt_histogram *config_bytes[CP_TYPE_COUNT]; /* of each response */
    struct lt_histogram *convergence_s; /* a change of the world until a proxy has all of it */
    struct lt_histogram *build_s;       /* objects to model */
    struct lt_gauge *services, *virtual_services, *uptime_s;
    struct lt_gauge *config_errors; /* now */
    struct lt_gauge *held;          /* VirtualServices whose last good form stays in force */
};

void cp_metrics_init(struct cp_metrics *metrics);
void cp_metrics_fini(struct cp_metrics *metrics);

/* pilot_xds{version}: connected proxies. by: 1 or -1. */
void cp_metrics_add_proxy(struct cp_metrics *metrics, lt_str version, double by);
/* A NACK; code: google.rpc.Code. */
void cp_metrics_add_reject(struct cp_metrics *metrics, cp_type type, lt_str node, uint32_t code);
/* It has left: nothing of it is refused any more. */
void cp_metrics_forget_node(struct cp_metrics *metrics, lt_str node);
/* A response to something that is not the last of its type. */
void cp_metrics_add_expired_nonce(struct cp_metrics *metrics, cp_type type);
/* An object was refused: "VirtualService shop/web". */
void cp_metrics_add_rejected_config(struct cp_metrics *metrics, lt_str object);

#endif
