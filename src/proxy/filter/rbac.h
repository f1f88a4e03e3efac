/*
 * proxy/filter/rbac.h - authorization: what the HTTP filter and the network filter share.
 */
#ifndef LT_PROXY_FILTER_RBAC_H
#define LT_PROXY_FILTER_RBAC_H

#include "proxy/conf/rbac.h"
#include "proxy/conf/stat.h"
#include "proxy/http/filter.h"

struct px_conn;

struct px_rbac_filter {
    const struct px_rbac *rules, *shadow; /* NULL: none */
    lt_str prefix, shadow_prefix;         /* of keys in metadata */
    struct px_stat allowed, denied, shadow_allowed, shadow_denied;
};

/* "http.<prefix>.rbac.allowed" and so on, as Envoy and Istio's tags have them. */
void px_rbac_name_stats(struct lt_arena *arena, lt_str prefix, struct px_rbac_filter *filter);
/* "<prefix>rbac.allowed" and so on. */
void px_rbac_name_net_stats(struct lt_arena *arena, lt_str prefix, struct px_rbac_filter *filter);

/* Whom a verdict is about, and what is written down of it. */
struct px_rbac_case {
    struct px_worker *worker;
    struct lt_arena *arena;
    const struct px_meta **meta;
    lt_str filter; /* whose metadata: "envoy.filters.http.rbac" */
};

/*
 * Shadow rules, then rules: counted, and noted in the metadata. rules: of the route, or of the
 * filter itself; counters are the filter's. True: it may go on. *ret_details: why not.
 */
bool px_rbac_judge(const struct px_rbac_case *on, const struct px_rbac_filter *filter,
                   const struct px_rbac_filter *rules, const struct px_rbac_facts *facts,
                   const char **ret_details);

/* What is known of a connection; facts about its certificate are read when they are first asked. */
void px_rbac_conn_facts(struct px_conn *conn, struct px_rbac_facts *facts);

extern const struct px_filter_ops px_filter_rbac;

#endif
