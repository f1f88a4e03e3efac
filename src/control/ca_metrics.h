/*
 * control/ca_metrics.h - the CA's numbers on /metrics, under istiod's names (citadel_server_*).
 */
#ifndef LT_CONTROL_CA_METRICS_H
#define LT_CONTROL_CA_METRICS_H

#include "base/metric.h"
#include "control/ca_keeper.h"

/* Sets them to what they are now. */
void cp_ca_metrics_fill(struct lt_metric_set *set, const struct cp_ca *ca,
                        const struct cp_keeper *keeper, int64_t now_s);

#endif
