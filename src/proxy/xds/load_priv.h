/*
 * proxy/xds/load_priv.h - private to load.c (the stream) and load_report.c (what is in a report).
 */
#ifndef LT_PROXY_XDS_LOAD_PRIV_H
#define LT_PROXY_XDS_LOAD_PRIV_H

#include "base/map.h"
#include "proxy/run/worker.h"
#include "proxy/table/table.h"
#include "wire/proto/load_stats.pb-c.h"

/* Counters as they were told last; the difference is what a report has. */
struct px_load_ledger {
    struct lt_map clusters; /* name -> struct px_load_cluster, owned */
};

/* What is wanted. */
struct px_load_wish {
    const char *const *names; /* borrowed */
    size_t count;
    bool all, by_endpoint;
};

void px_load_ledger_init(struct px_load_ledger *ledger);
void px_load_ledger_fini(struct px_load_ledger *ledger);
/*
 * Clusters that serve and are wanted: cluster_stats of request, in arena, of those that the ledger
 * knows; all that are wanted are known afterwards, others no longer. counts: px_hosts_fn's.
 */
void px_load_report(struct px_load_ledger *ledger, const struct px_table *table,
                    const struct px_load_wish *wish, const struct lt_map *counts, uint64_t now_ns,
                    struct lt_arena *arena, Xds__LoadStatsRequest *request);

#endif
