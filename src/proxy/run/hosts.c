/*
 * proxy/run/hosts.c - the hosts of a cluster: made of endpoints, kept as long as they are listed or
 * in use, with the health that the control plane and the main thread say they have.
 * Which of them takes a request: the balancer (lb.h). Clusters that make a host of each destination
 * (ORIGINAL_DST) have none.
 * Start at: px_hosts_follow(), px_cluster_pick().
 */
#include <stdlib.h>

#include "proxy/run/run.h"

enum { ORIGINAL_DST_HOSTS_MAX = 10000 };

static void on_sweep(struct lt_timer *timer, uint64_t now_ns);

/* --- TLS of a host --- */

static bool is_same_matcher(const struct lt_san_matcher *a, const struct lt_san_matcher *b)
{
    return a->type == b->type && a->match == b->match && a->ignore_case == b->ignore_case &&
           lt_str_eq(a->value, b->value) && lt_str_eq(a->oid, b->oid);
}

/* Connections made by the one are as good as those made by the other. */
static bool is_same_tls(const struct px_tls_conf *a, const struct px_tls_conf *b)
{
    if (a == b)
        return true;
    if (a == NULL || b == NULL || a->ctx_id != b->ctx_id || !lt_str_eq(a->sni, b->sni) ||
        a->alpn_count != b->alpn_count || a->san_count != b->san_count ||
        a->exchange_alpn_count != b->exchange_alpn_count || a->has_host_sni != b->has_host_sni ||
        a->has_sni_san != b->has_sni_san)
        return false;
    for (size_t i = 0; i < a->alpn_count; i++) {
        if (!lt_str_eq(a->alpn[i], b->alpn[i]))
            return false;
    }
    for (size_t i = 0; i < a->san_count; i++) {
        if (!is_same_matcher(&a->sans[i], &b->sans[i]))
            return false;
    }
    return true;
}

static void drain_host(struct px_host *host)
{
    host->epoch++;
    px_host_close_idle(host);
}

/* The old one is still there: the snapshot that had it is let go after the update. */
static void set_tls(struct px_host *host, const struct px_tls_conf *tls)
{
    if (!is_same_tls(host->tls, tls))
        drain_host(host);
    host->tls = tls;
}

/* --- a host's life --- */

static void set_address(struct px_host *host, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    host->addr = *addr;
    free(host->name);
    host->name = lt_str_dupz(lt_addr_format(addr, text));
    host->lb.key = lt_str_of(host->name);
}

static struct px_host *make_host(struct px_cluster *cluster, const struct lt_addr *addr)
{
    struct px_host *host = lt_new(struct px_host);
    host->cluster = cluster;
    host->lb.weight = 1;
    host->eds_health = PX_HEALTH_HEALTHY;
    set_address(host, addr);
    host->workload = "";
    host->refs = 1;
    host->is_listed = true;
    lt_list_init(&host->idle);
    lt_list_init(&host->shared);
    lt_list_init(&host->raw);
    lt_list_init(&host->lru);
    return host;
}

struct px_host *px_host_take(struct px_host *host)
{
    host->refs++;
    return host;
}

void px_host_drop(struct px_host **host)
{
    struct px_host *dropped = *host;
    *host = NULL;
    if (dropped == NULL || --dropped->refs > 0)
        return;
    LT_ASSERT(lt_list_is_empty(&dropped->idle));
    lt_tls_sessions_free(&dropped->sessions);
    free(dropped->name);
    px_text_drop(&dropped->workload);
    px_bury(dropped->cluster->worker, dropped);
}

/* What it has of the configuration may go now. */
static void unlist_host(struct px_host *host)
{
    host->is_listed = false;
    px_host_set_state(host, NULL);
    host->facts = NULL;
    host->lb.metas = NULL;
    host->lb.key = lt_str_of(host->name);
    lt_list_remove(&host->lru);
    px_host_close_idle(host);
    px_host_drop(&host);
}

/* --- health --- */

uint32_t px_host_flags(const struct px_host *host)
{
    return host->state != NULL ? px_shared_get(&host->state->flags) : 0;
}

static px_lb_health health_of(const struct px_host *host, uint32_t flags)
{
    if ((flags & (PX_HOST_FLAG(FAILED_CHECK) | PX_HOST_FLAG(EJECTED))) != 0)
        return PX_LB_UNHEALTHY;
    switch (host->eds_health) {
    case PX_HEALTH_UNHEALTHY:
    case PX_HEALTH_DRAINING:
    case PX_HEALTH_TIMEOUT: return PX_LB_UNHEALTHY;
    case PX_HEALTH_DEGRADED: return PX_LB_DEGRADED;
    default: break;
    }
    return (flags & PX_HOST_FLAG(DEGRADED_CHECK)) != 0 ? PX_LB_DEGRADED : PX_LB_HEALTHY;
}

/* Slow start begins when a host joins, or passes its health check; not when an ejection ends. */
static void read_health(struct px_host *host, bool is_new)
{
    const struct px_cluster *cluster = host->cluster;
    uint32_t flags = px_host_flags(host);
    bool was_failing = (host->flags_seen & PX_HOST_FLAG(FAILED_CHECK)) != 0;
    bool is_failing = (flags & PX_HOST_FLAG(FAILED_CHECK)) != 0;
    if (cluster->conf->lb->slow_start_ms > 0 && (is_new || was_failing) && !is_failing)
        host->lb.since_ns = px_now_ns(cluster->worker);
    host->flags_seen = flags;
    host->lb.health = (uint8_t)health_of(host, flags);
    host->lb.is_excluded = (flags & (PX_HOST_FLAG(PENDING_CHECK) | PX_HOST_FLAG(EXCLUDED))) != 0;
}

static void set_balancer(struct px_cluster *cluster)
{
    const struct px_endpoints_conf *endpoints = cluster->endpoints;
    struct px_lb_set set = {
        .hosts = (struct px_lb_host *const *)cluster->hosts.items,
        .count = cluster->hosts.count,
        .overprovisioning_percent = 140,
        .here = &cluster->worker->home->here,
    };
    if (endpoints != NULL) {
        set.localities = endpoints->localities;
        set.locality_count = endpoints->locality_count;
        set.overprovisioning_percent = endpoints->overprovisioning_percent;
        set.weighted_priority_health = endpoints->weighted_priority_health;
    }
    px_lb_set(cluster->lb, cluster->conf->lb, &set);
}

void px_hosts_health_changed(struct px_cluster *cluster)
{
    const uint32_t failing = PX_HOST_FLAG(FAILED_CHECK) | PX_HOST_FLAG(EJECTED);
    for (size_t i = 0; i < cluster->hosts.count; i++) {
        struct px_host *host = cluster->hosts.items[i];
        bool was_failing = (host->flags_seen & failing) != 0;
        read_health(host, false);
        if (was_failing || (host->flags_seen & failing) == 0)
            continue;
        drain_host(host);
        if (cluster->conf->closes_on_health_failure)
            px_host_close_raw(host);
    }
    set_balancer(cluster);
    px_cluster_wake(cluster);
}

/* --- endpoints into hosts --- */

/* The hosts of before by their names, for as long as the new list is made. */
static void index_hosts(const struct lt_vec *hosts, struct lt_map *ret_by_name)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct px_host *host = hosts->items[i];
        lt_map_put(ret_by_name, lt_str_of(host->name), host);
    }
}

static struct px_host *take_same(struct lt_map *by_name, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    return by_name->count == 0 ? NULL : lt_map_remove(by_name, lt_addr_format(addr, text));
}

/* LOGICAL_DNS: one host, whatever its address; requests that go to the one before go on. */
static struct px_host *take_logical(struct lt_map *by_name, const struct lt_addr *addr)
{
    struct px_host *host = by_name->count > 0 ? by_name->entries[0].value : NULL;
    if (host == NULL)
        return NULL;
    lt_map_remove(by_name, lt_str_of(host->name));
    if (!lt_addr_eq(&host->addr, addr)) {
        set_address(host, addr);
        drain_host(host);
    }
    return host;
}

static lt_str hash_key(const struct px_cluster *cluster, const struct px_host *host)
{
    if (host->facts->hash_key.len > 0)
        return host->facts->hash_key;
    bool by_hostname = cluster->conf->lb->hash_by_hostname && host->facts->hostname.len > 0;
    return by_hostname ? host->facts->hostname : lt_str_of(host->name);
}

static void fill_host(struct px_host *host, const struct px_endpoint_conf *endpoint, bool is_new)
{
    struct px_cluster *cluster = host->cluster;
    host->facts = endpoint->facts;
    set_tls(host, px_cluster_find_tls(cluster->conf, &endpoint->facts->transport));
    host->eds_health = endpoint->health;
    px_text_set(&host->workload, px_intern(cluster->worker, endpoint->facts->workload));
    host->lb.weight = endpoint->weight;
    host->lb.locality = endpoint->locality;
    host->lb.metas = &endpoint->facts->lb;
    host->lb.key = hash_key(cluster, host);
    read_health(host, is_new);
}

static void add_endpoint(struct px_cluster *cluster, const struct px_endpoint_conf *endpoint,
                         struct px_host_state *state, struct lt_map *before)
{
    struct lt_addr addr = px_endpoint_addr(endpoint);
    if (addr.len == 0)
        return; /* a DNS name that is not resolved */
    struct px_host *host = cluster->conf->discovery == PX_DISCOVERY_LOGICAL_DNS
                               ? take_logical(before, &addr)
                               : take_same(before, &addr);
    bool is_new = host == NULL;
    if (is_new)
        host = make_host(cluster, &addr);
    px_host_set_state(host, state);
    fill_host(host, endpoint, is_new);
    lt_vec_push(&cluster->hosts, host);
}

/* An endpoint that is still there keeps its connections and counters. */
static void rebuild(struct px_cluster *cluster, const struct px_cluster_entry *entry)
{
    struct lt_vec old = cluster->hosts;
    struct lt_map before = {0};
    lt_vec_init(&cluster->hosts);
    index_hosts(&old, &before);
    uint32_t count = cluster->endpoints == NULL ? 0 : cluster->endpoints->endpoint_count;
    for (uint32_t i = 0; i < count; i++)
        add_endpoint(cluster, &cluster->endpoints->endpoints[i],
                     entry->host_states != NULL ? entry->host_states[i] : NULL, &before);
    bool is_changed = before.count > 0 || cluster->hosts.count != old.count;
    set_balancer(cluster);
    for (size_t i = 0; i < before.count; i++)
        unlist_host(before.entries[i].value);
    for (size_t i = 0;
         cluster->conf->closes_on_set_change && is_changed && i < cluster->hosts.count; i++)
        drain_host(cluster->hosts.items[i]);
    lt_map_fini(&before);
    lt_vec_fini(&old);
}

/* --- ORIGINAL_DST --- */

/* Hosts of destinations keep a pointer into the conf, too. */
static void refresh_original_dst(struct px_cluster *cluster, bool is_changed)
{
    static const struct px_metas none;
    for (size_t i = 0; i < cluster->by_addr.count; i++) {
        struct px_host *host = cluster->by_addr.entries[i].value;
        set_tls(host, px_cluster_find_tls(cluster->conf, &none));
        if (is_changed)
            px_host_close_idle(host);
    }
}

static void forget(struct px_cluster *cluster, struct px_host *host)
{
    lt_map_remove(&cluster->by_addr, lt_str_of(host->name));
    unlist_host(host);
}

/* Destinations that were not asked for lately and that nobody uses make room for others. */
static void forget_oldest(struct px_cluster *cluster)
{
    struct lt_list *it, *next;
    lt_list_each (&cluster->recent, it, next) {
        struct px_host *oldest = LT_CONTAINER_OF(cluster->recent.prev, struct px_host, lru);
        if (oldest->lb.rq_active == 0) {
            forget(cluster, oldest);
            return;
        }
        lt_list_remove(&oldest->lru);
        lt_list_push_front(&cluster->recent, &oldest->lru);
    }
}

/* Cluster.cleanup_interval: who was not used since the last time, and has no connection, goes. */
static void on_sweep(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_cluster *cluster = LT_CONTAINER_OF(timer, struct px_cluster, sweep);
    struct lt_list *it, *next;
    lt_list_each (&cluster->recent, it, next) {
        struct px_host *host = LT_CONTAINER_OF(it, struct px_host, lru);
        if (!host->was_used && host->cx_active == 0)
            forget(cluster, host);
        else
            host->was_used = false;
    }
    if (cluster->by_addr.count > 0)
        lt_loop_timer_set(cluster->worker->loop, timer, cluster->conf->cleanup_ms * LT_NS_PER_MS);
}

static struct px_host *make_original_dst(struct px_cluster *cluster, const struct lt_addr *addr)
{
    static const struct px_metas none;
    if (cluster->by_addr.count >= ORIGINAL_DST_HOSTS_MAX)
        forget_oldest(cluster);
    struct px_host *host = make_host(cluster, addr);
    host->tls = px_cluster_find_tls(cluster->conf, &none);
    lt_map_put(&cluster->by_addr, lt_str_of(host->name), host);
    lt_list_push_front(&cluster->recent, &host->lru);
    if (!lt_timer_is_set(&cluster->sweep))
        lt_loop_timer_set(cluster->worker->loop, &cluster->sweep,
                          cluster->conf->cleanup_ms * LT_NS_PER_MS);
    return host;
}

static struct px_host *pick_original_dst(struct px_cluster *cluster, const struct lt_addr *wanted)
{
    char text[LT_ADDR_TEXT_MAX];
    if (wanted == NULL || wanted->len == 0)
        return NULL;
    struct lt_addr addr = *wanted;
    if (cluster->conf->original_dst != NULL && cluster->conf->original_dst->port != 0)
        lt_addr_set_port(&addr, cluster->conf->original_dst->port);
    struct px_host *host = lt_map_find(&cluster->by_addr, lt_addr_format(&addr, text));
    if (host == NULL)
        host = make_original_dst(cluster, &addr);
    host->was_used = true;
    if (cluster->recent.next != &host->lru) {
        lt_list_remove(&host->lru);
        lt_list_push_front(&cluster->recent, &host->lru);
    }
    return host;
}

/* --- choosing --- */

static struct px_lb *local_balancer(struct px_worker *worker)
{
    struct px_cluster *local = px_cluster_get(worker, worker->home->local_cluster);
    return local != NULL ? local->lb : NULL;
}

/* RetryPolicy.retry_host_predicate: canaries, and hosts whose metadata has all of these. */
static bool is_refused(const void *ctx, const struct px_lb_host *lb)
{
    const struct px_retry *retry = ctx;
    const struct px_host *host = LT_CONTAINER_OF(lb, struct px_host, lb);
    const struct px_endpoint_facts *facts = host->facts;
    if (facts == NULL)
        return false;
    if (retry->avoid_canaries && facts->is_canary)
        return true;
    if (retry->avoid_metas == NULL || retry->avoid_metas->count == 0)
        return false;
    for (size_t i = 0, at = 0; i < retry->avoid_metas->count; i++) {
        const struct px_meta_pair *wanted = &retry->avoid_metas->items[i];
        while (at < facts->lb.count && !lt_str_eq(facts->lb.items[at].key, wanted->key))
            at++;
        if (at == facts->lb.count || !lt_str_eq(facts->lb.items[at].value, wanted->value))
            return false;
    }
    return true;
}

struct px_host *px_cluster_pick(struct px_cluster *cluster, const struct px_pick *pick)
{
    struct px_worker *worker = cluster->worker;
    if (cluster->is_gone)
        return NULL;
    if (cluster->conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        return pick_original_dst(cluster, pick->original_dst);
    struct px_lb_ask ask = {
        .hash = pick->hash,
        .has_hash = pick->has_hash,
        .now_ns = px_now_ns(worker),
        .prng = &worker->prng,
        .avoid = (struct px_lb_host *const *)pick->avoid,
        .avoid_count = pick->avoid_count,
        .attempts = pick->attempts,
        .rq_active = cluster->own[PX_LIMIT_REQUESTS],
        .tried_levels = pick->tried_levels,
        .metas = pick->metas,
    };
    if (pick->retry != NULL && (pick->retry->avoid_canaries || pick->retry->avoid_metas != NULL)) {
        ask.refuses = is_refused;
        ask.refuses_ctx = pick->retry;
    }
    if (cluster->conf->lb->locality == PX_LOCALITY_ZONE_AWARE)
        ask.local = local_balancer(worker);
    struct px_lb_host *host = px_lb_pick(cluster->lb, &ask);
    return host == NULL ? NULL : LT_CONTAINER_OF(host, struct px_host, lb);
}

uint32_t px_host_priority(const struct px_host *host)
{
    const struct px_endpoints_conf *endpoints = host->cluster->endpoints;
    return host->is_listed && endpoints != NULL && host->lb.locality < endpoints->locality_count
               ? endpoints->localities[host->lb.locality].priority
               : 0;
}

/* --- with the cluster --- */

void px_hosts_init(struct px_cluster *cluster)
{
    cluster->lb = px_lb_new();
    lt_list_init(&cluster->recent);
    lt_timer_init(&cluster->sweep, on_sweep);
}

void px_hosts_follow(struct px_cluster *cluster, const struct px_cluster_entry *entry)
{
    bool is_changed = cluster->conf != entry->conf;
    bool has_new_hosts = cluster->endpoints != entry->endpoints ||
                         cluster->host_states != entry->host_states;
    cluster->conf = entry->conf;
    cluster->endpoints = entry->endpoints;
    cluster->host_states = entry->host_states;
    if (entry->state != NULL) {
        cluster->state = entry->state;
        px_shared_set(&entry->state->is_used, 1);
    }
    if (entry->conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        refresh_original_dst(cluster, is_changed);
    else if (is_changed || has_new_hosts)
        rebuild(cluster, entry);
}

void px_hosts_unlist(struct px_cluster *cluster)
{
    static const struct px_lb_set nobody;
    px_lb_set(cluster->lb, cluster->conf->lb, &nobody);
    while (cluster->hosts.count > 0)
        unlist_host(lt_vec_pop(&cluster->hosts));
    while (cluster->by_addr.count > 0)
        forget(cluster, cluster->by_addr.entries[0].value);
    lt_loop_timer_cancel(cluster->worker->loop, &cluster->sweep);
}

void px_hosts_fini(struct px_cluster *cluster)
{
    lt_loop_timer_cancel(cluster->worker->loop, &cluster->sweep);
    lt_vec_fini(&cluster->hosts);
    lt_map_fini(&cluster->by_addr);
    px_lb_free(&cluster->lb);
}
