/*
 * proxy/run/limits.c - circuit breakers: how many connections, requests and retries a cluster may
 * have at once, all workers together, by the priority of the route.
 * Start at: px_limit_has_room().
 */
#include "proxy/run/run.h"

static uint32_t used(const struct px_cluster *cluster, px_priority priority, px_limit limit)
{
    return cluster->state != NULL ? px_shared_get(&cluster->state->used[priority][limit])
                                  : cluster->own[limit];
}

/* Retries may be a part of what is under way. */
static uint32_t budget(const struct px_cluster *cluster, px_priority priority,
                       const struct px_circuit *circuit)
{
    double under_way = (double)used(cluster, priority, PX_LIMIT_REQUESTS) +
                       used(cluster, priority, PX_LIMIT_PENDING);
    uint32_t part = (uint32_t)(circuit->budget_percent / 100.0 * under_way);
    return LT_MAX(part, circuit->budget_min);
}

bool px_limit_has_room(const struct px_cluster *cluster, px_priority priority, px_limit limit)
{
    const struct px_circuit *circuit = cluster->conf->circuits[priority];
    if (limit == PX_LIMIT_RETRIES && circuit->budget_percent >= 0)
        return used(cluster, priority, limit) < budget(cluster, priority, circuit);
    uint32_t max = circuit->max[limit];
    return max == UINT32_MAX || used(cluster, priority, limit) < max;
}

void px_limit_take(struct px_cluster *cluster, px_priority priority, px_limit limit,
                   bool *ret_is_shared)
{
    cluster->own[limit]++;
    *ret_is_shared = cluster->state != NULL &&
                     (cluster->conf->circuits[priority]->counted >> limit & 1) != 0;
    if (*ret_is_shared)
        px_shared_add(&cluster->state->used[priority][limit], 1);
}

void px_limit_give(struct px_cluster *cluster, px_priority priority, px_limit limit, bool is_shared)
{
    LT_ASSERT(cluster->own[limit] > 0);
    cluster->own[limit]--;
    if (is_shared)
        px_shared_sub(&cluster->state->used[priority][limit], 1);
}

/* --- connections --- */

bool px_host_may_connect(const struct px_host *host, px_priority priority)
{
    uint32_t max = host->cluster->conf->host_max_connections;
    if (max != UINT32_MAX && host->state != NULL && px_shared_get(&host->state->cx_active) >= max)
        return false;
    return px_limit_has_room(host->cluster, priority, PX_LIMIT_CONNECTIONS);
}

bool px_host_may_have_pool(const struct px_host *host, px_priority priority)
{
    return host->cx_pooled > 0 || px_limit_has_room(host->cluster, priority, PX_LIMIT_POOLS);
}

void px_host_count_connection(struct px_host *host, struct px_upstream *up)
{
    struct px_cluster *cluster = host->cluster;
    px_limit_take(cluster, up->priority, PX_LIMIT_CONNECTIONS, &up->is_shared_cx);
    host->cx_active++;
    up->is_pooled = up->protocol != PX_PROTO_RAW;
    if (up->is_pooled && host->cx_pooled++ == 0) {
        host->pool_priority = up->priority;
        px_limit_take(cluster, up->priority, PX_LIMIT_POOLS, &host->is_shared_pool);
    }
    up->counts_host = host->state != NULL && cluster->conf->host_max_connections != UINT32_MAX;
    up->state_epoch = host->state_epoch;
    if (up->counts_host) {
        px_shared_add(&host->state->cx_active, 1);
        host->cx_shared++;
    }
}

void px_host_uncount_connection(struct px_host *host, struct px_upstream *up)
{
    struct px_cluster *cluster = host->cluster;
    LT_ASSERT(host->cx_active > 0);
    px_limit_give(cluster, up->priority, PX_LIMIT_CONNECTIONS, up->is_shared_cx);
    host->cx_active--;
    if (up->is_pooled && --host->cx_pooled == 0)
        px_limit_give(cluster, host->pool_priority, PX_LIMIT_POOLS, host->is_shared_pool);
    if (up->counts_host && up->state_epoch == host->state_epoch) {
        px_shared_sub(&host->state->cx_active, 1);
        host->cx_shared--;
    }
}

void px_host_set_state(struct px_host *host, struct px_host_state *state)
{
    if (host->state == state)
        return;
    if (host->cx_shared > 0) /* those connections are counted nowhere from now on */
        px_shared_sub(&host->state->cx_active, host->cx_shared);
    host->cx_shared = 0;
    host->state_epoch++;
    host->state = state;
}
