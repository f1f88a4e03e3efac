/*
 * proxy/start/bootstrap.h - the `-c` file: an Envoy bootstrap in JSON or YAML.
 * Static resources go into the table; the rest that matters here is read into struct px_bootstrap.
 */
#ifndef LT_PROXY_START_BOOTSTRAP_H
#define LT_PROXY_START_BOOTSTRAP_H

#include "proxy/conf/stats_config.h"
#include "proxy/run/worker.h"
#include "proxy/table/table.h"
#include "proxy/xds/feeds.h"

struct px_bootstrap {
    struct lt_arena *arena; /* owned; holds all below */
    lt_str node_id, node_cluster;
    lt_str message;             /* the whole, for dumps; without static resources */
    lt_str node;                /* bytes of envoy.config.core.v3.Node; empty when there is none */
    struct lt_addr admin;       /* len 0: no admin server */
    struct px_feed_roots roots; /* dynamic_resources; sources of the table */
    const struct px_source *load_stats; /* cluster_manager.load_stats_config; NULL: none */
    struct px_stats_config stats;
    struct lt_vec regexes;            /* of struct lt_regex, owned: of stats */
    struct px_home home;              /* node.locality, cluster_manager.local_cluster_name */
    struct px_pressure_conf pressure; /* overload_manager */
    const lt_str *unhonoured; /* fields of the bootstrap itself that are accepted and do nothing */
    size_t unhonoured_count;
};

/*
 * text: the file's content; its first byte that is not blank tells JSON ('{') from YAML. Static
 * resources are put into the table one by one; the first that is refused ends it: a bootstrap is
 * taken whole. The error names line or field path.
 */
LT_MUST lt_rc px_bootstrap_load(lt_str text, struct px_table *table,
                                struct px_bootstrap *ret_bootstrap, struct lt_err *err);
void px_bootstrap_fini(struct px_bootstrap *bootstrap);

#endif
