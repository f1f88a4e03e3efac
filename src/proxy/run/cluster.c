/*
 * proxy/run/cluster.c - clusters at run time: their life, and requests that wait for room. Hosts
 * and how one is chosen: hosts.c. Connections: upstream.c.
 * A run-time cluster is made when it is first used and follows the snapshots from then on; a host
 * that went from the configuration lives on until its last request has ended.
 * Start at: px_cluster_get().
 */
#include <stdlib.h>

#include "proxy/run/run.h"

/* Hosts need no look: whoever holds one holds the cluster, too, by a connection or as a user. */
static void free_if_unused(struct px_cluster *cluster)
{
    if (!cluster->is_gone || cluster->users > 0 || cluster->own[PX_LIMIT_CONNECTIONS] > 0)
        return;
    lt_list_remove(&cluster->wake_link);
    px_hosts_fini(cluster);
    px_cluster_stats_fini(cluster);
    px_pin_drop(&cluster->pin);
    free(cluster->drops);
    free(cluster->name);
    px_text_drop(&cluster->label);
    px_text_drop(&cluster->service_host);
    px_text_drop(&cluster->service_name);
    px_text_drop(&cluster->service_namespace);
    px_bury(cluster->worker, cluster);
}

struct px_cluster *px_cluster_take(struct px_cluster *cluster)
{
    cluster->users++;
    return cluster;
}

void px_cluster_drop(struct px_cluster **cluster)
{
    struct px_cluster *dropped = *cluster;
    *cluster = NULL;
    if (dropped == NULL)
        return;
    LT_ASSERT(dropped->users > 0);
    dropped->users--;
    free_if_unused(dropped);
}

/* --- making and following --- */

/* What the labels of its requests say of it. */
static void name_service(struct px_cluster *cluster, const struct px_cluster_conf *conf)
{
    struct px_worker *worker = cluster->worker;
    px_text_set(&cluster->service_host, px_intern(worker, conf->service_host));
    px_text_set(&cluster->service_name, px_intern(worker, conf->service_name));
    px_text_set(&cluster->service_namespace, px_intern(worker, conf->service_namespace));
}

static void follow(struct px_cluster *cluster, const struct px_cluster_entry *entry)
{
    if (cluster->conf != entry->conf)
        name_service(cluster, entry->conf);
    px_hosts_follow(cluster, entry);
}

struct px_cluster *px_cluster_get(struct px_worker *worker, lt_str name)
{
    struct px_cluster *cluster = lt_map_find(&worker->clusters, name);
    if (cluster != NULL)
        return cluster;
    const struct px_cluster_entry *entry = px_snapshot_find_cluster(worker->pin->snapshot, name);
    if (entry == NULL)
        return NULL;
    cluster = lt_new(struct px_cluster);
    cluster->worker = worker;
    cluster->name = lt_str_dupz(name);
    cluster->label = px_intern(worker, name);
    cluster->service_host = cluster->service_name = cluster->service_namespace = "";
    lt_list_init(&cluster->waiting);
    lt_list_init(&cluster->wake_link);
    px_hosts_init(cluster);
    follow(cluster, entry);
    lt_map_put(&worker->clusters, lt_str_of(cluster->name), cluster);
    return cluster;
}

/*
 * What is under way goes on with the last configuration; what waits is told that the cluster is not
 * there.
 */
static void retire(struct px_cluster *cluster, struct px_pin *before)
{
    px_cluster_take(cluster);
    cluster->is_gone = true;
    cluster->pin = px_pin_take(before);
    px_hosts_unlist(cluster);
    px_cluster_wake(cluster);
    px_cluster_drop(&cluster);
}

struct update {
    struct px_worker *worker;
    struct px_pin *before;
};

/* One cluster is another than before, or has gone; few of those that are configured are in use. */
static void update_cluster(void *ctx, const void *was, const void *is)
{
    const struct update *update = ctx;
    struct px_worker *worker = update->worker;
    const struct px_cluster_entry *old = was, *entry = is;
    if (entry != NULL) {
        struct px_cluster *cluster = lt_map_find(&worker->clusters, entry->conf->res.name);
        if (cluster != NULL)
            follow(cluster, entry);
    }
    lt_str gone = old != NULL ? old->conf->res.name : LT_STR_NULL;
    struct px_cluster *cluster = old != NULL ? lt_map_find(&worker->clusters, gone) : NULL;
    if (cluster == NULL || px_snapshot_find_cluster(worker->pin->snapshot, gone) != NULL)
        return;
    lt_map_remove(&worker->clusters, gone);
    retire(cluster, update->before);
}

void px_clusters_update(struct px_worker *worker, struct px_pin *before)
{
    struct update update = {worker, before};
    const struct px_shelf *was = before != NULL ? &before->snapshot->clusters : NULL;
    px_shelf_diff(was, &worker->pin->snapshot->clusters, update_cluster, &update);
}

void px_clusters_free(struct px_worker *worker)
{
    while (worker->clusters.count > 0) {
        struct px_cluster *cluster = worker->clusters.entries[0].value;
        lt_map_remove(&worker->clusters, lt_str_of(cluster->name));
        retire(cluster, worker->pin);
    }
    lt_map_fini(&worker->clusters);
}

/* --- who waits --- */

void px_cluster_wake(struct px_cluster *cluster)
{
    struct px_worker *worker = cluster->worker;
    if (!lt_list_is_empty(&cluster->waiting) && !lt_list_is_linked(&cluster->wake_link)) {
        lt_list_push_back(&worker->to_wake, &cluster->wake_link);
        lt_loop_defer(worker->loop, &worker->wake);
    }
    free_if_unused(cluster);
}

/* Each of those that wait now gets one chance; who finds no room stands in line again. */
static void wake_waiting(struct px_cluster *cluster)
{
    px_cluster_take(cluster);
    for (uint32_t chances = cluster->own[PX_LIMIT_PENDING];
         chances > 0 && !lt_list_is_empty(&cluster->waiting); chances--)
        px_http_wake_first(cluster);
    px_cluster_drop(&cluster);
}

void px_clusters_wake(struct lt_task *task)
{
    struct px_worker *worker = LT_CONTAINER_OF(task, struct px_worker, wake);
    struct lt_list now;
    lt_list_init(&now);
    while (!lt_list_is_empty(&worker->to_wake)) {
        struct lt_list *link = worker->to_wake.next;
        lt_list_remove(link);
        lt_list_push_back(&now, link);
    }
    while (!lt_list_is_empty(&now)) {
        struct px_cluster *cluster = lt_list_first(&now, struct px_cluster, wake_link);
        lt_list_remove(&cluster->wake_link);
        wake_waiting(cluster);
    }
}
