/*
 * proxy/told/format_meta.c - operators about metadata of the configuration, and filter state.
 * Start at: px_format_meta.
 */
#include "proxy/conf/meta.h"
#include "proxy/conf/rbac.h"
#include "proxy/told/format_more.h"

/* --- what is metadata of what --- */

struct found {
    const struct px_meta *meta;
    /* of filter "istio", which is read apart */
    struct {
        const char *key;
        lt_str text;
    } istio[3];
};

static struct found of_cluster(const struct px_log_facts *facts)
{
    const struct px_cluster_conf *conf = facts->cluster != NULL ? facts->cluster->conf : NULL;
    if (conf == NULL)
        return (struct found){0};
    return (struct found){.meta = conf->metadata,
                          .istio = {{"config", conf->config_path}, {"subset", conf->subset}}};
}

static struct found of_host(const struct px_log_facts *facts)
{
    const struct px_endpoint_facts *host = facts->host != NULL ? facts->host->facts : NULL;
    return host == NULL
               ? (struct found){0}
               : (struct found){.meta = host->metadata, .istio = {{"workload", host->workload}}};
}

static struct found of_route(const struct px_log_facts *facts)
{
    const struct px_route *route = facts->rq != NULL ? facts->rq->route : NULL;
    return route == NULL
               ? (struct found){0}
               : (struct found){.meta = route->metadata, .istio = {{"config", route->config_path}}};
}

static struct found of_vhost(const struct px_log_facts *facts)
{
    const struct px_vhost *vhost = facts->rq != NULL ? facts->rq->vhost : NULL;
    return (struct found){.meta = vhost != NULL ? vhost->metadata : NULL};
}

static struct found of_listener(const struct px_log_facts *facts)
{
    bool is_known = facts->conn != NULL && facts->conn->listener != NULL;
    return (struct found){.meta = is_known ? facts->conn->listener->metadata : NULL};
}

static struct found of_chain(const struct px_log_facts *facts)
{
    bool is_known = facts->conn != NULL && facts->conn->chain != NULL;
    return (struct found){.meta = is_known ? facts->conn->chain->metadata : NULL};
}

static struct found of_itself(const struct px_log_facts *facts)
{
    return (struct found){.meta = facts->meta};
}

/* --- "filter:key:key" --- */

static const struct lt_doc *look(const struct found *found, lt_str path)
{
    static _Thread_local struct lt_doc text; /* for the call */
    lt_str filter;
    lt_str_split(&path, ':', &filter);
    for (size_t i = 0; lt_str_eqz(filter, "istio") && i < LT_ARRAY_LEN(found->istio); i++) {
        if (found->istio[i].key == NULL || !lt_str_eqz(path, found->istio[i].key) ||
            found->istio[i].text.len == 0)
            continue;
        text = lt_doc_of_str(found->istio[i].text);
        return &text;
    }
    return px_tree_walk(px_meta_find(found->meta, filter), path);
}

#define TREE(name, from) \
    static const struct lt_doc *tree_##name(const struct px_log_facts *facts, lt_str argument) \
    { \
        struct found found = from(facts); \
        return look(&found, argument); \
    } \
    PX_OP(name) \
    { \
        px_sink_put_tree(out, tree_##name(facts, argument)); \
    }

TREE(cluster, of_cluster)
TREE(host, of_host)

/* "TYPE:filter:key" */
static const struct lt_doc *tree_any(const struct px_log_facts *facts, lt_str argument)
{
    static const struct {
        const char *type;
        struct found (*find)(const struct px_log_facts *facts);
    } types[] = {{"DYNAMIC", of_itself},
                 {"CLUSTER", of_cluster},
                 {"ROUTE", of_route},
                 {"UPSTREAM_HOST", of_host},
                 {"LISTENER", of_listener},
                 {"VIRTUAL_HOST", of_vhost},
                 {"LISTENER_FILTER_CHAIN", of_chain}};
    lt_str type;
    lt_str_split(&argument, ':', &type);
    for (size_t i = 0; i < LT_ARRAY_LEN(types); i++) {
        if (!lt_str_eqz(type, types[i].type))
            continue;
        struct found found = types[i].find(facts);
        return look(&found, argument);
    }
    return NULL;
}

PX_OP(any)
{
    px_sink_put_tree(out, tree_any(facts, argument));
}

/* --- filter state: texts --- */

/* Istio's filters leave whom they speak with: "upstream_peer:FIELD:workload". */
static lt_str of_peer(const struct px_log_facts *facts, lt_str key, lt_str argument)
{
    lt_str form;
    bool is_downstream = lt_str_eqz(key, "downstream_peer");
    if (facts->rq == NULL || facts->rq->peer == NULL ||
        (!is_downstream && !lt_str_eqz(key, "upstream_peer")) ||
        is_downstream != facts->rq->hcm->is_inbound)
        return LT_STR_NULL;
    lt_str_split(&argument, ':', &form);
    return lt_str_eqz(form, "FIELD") ? px_peer_field(facts->rq->peer, argument) : LT_STR_NULL;
}

/* "key:PLAIN" */
PX_OP(filter_state)
{
    lt_str key;
    lt_str_split(&argument, ':', &key);
    const struct px_state *state = facts->rq != NULL ? px_state_find(facts->rq->state_list, key)
                                                     : NULL;
    if (state == NULL && facts->conn != NULL && facts->conn->more != NULL)
        state = px_state_find(facts->conn->more->state, key);
    px_sink_put(out, state != NULL ? state->value : of_peer(facts, key, argument));
}

static const struct px_op ops[] = {
    {"CLUSTER_METADATA", op_cluster, false, tree_cluster},
    {"FILTER_STATE", op_filter_state, false, NULL},
    {"METADATA", op_any, false, tree_any},
    {"UPSTREAM_METADATA", op_host, false, tree_host},
};
const struct px_ops px_format_meta = {ops, LT_ARRAY_LEN(ops)};
