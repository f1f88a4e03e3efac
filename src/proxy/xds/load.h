/*
 * proxy/xds/load.h - load reports (LRS): a control plane says of which clusters it wants to know,
 * and how often, and is told what went to each locality since the last time. Counters are those
 * that workers keep of hosts anyway.
 * Main thread only.   Start at: px_load_new().
 */
#ifndef LT_PROXY_XDS_LOAD_H
#define LT_PROXY_XDS_LOAD_H

#include "base/metric.h"
#include "http/grpc_client.h"
#include "proxy/run/worker.h"
#include "proxy/table/table.h"

struct px_load;

struct px_load_opts {
    struct lt_loop *loop; /* borrowed, as all below */
    const struct lt_env *env;
    struct px_table *table;
    struct px_workers *workers;
    struct lt_metric_set *metrics;  /* load_reporter.* */
    const struct px_source *source; /* who is told; a GRPC one */
    lt_str node;                    /* bytes of envoy.config.core.v3.Node */
};

struct px_load *px_load_new(const struct px_load_opts *opts);
void px_load_free(struct px_load **load);

#endif
