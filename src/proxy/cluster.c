/*
 * proxy/cluster.c - clusters at run time: hosts, counters, load balancing. Connections: upstream.c.
 * A run-time cluster is made when it is first used and follows the snapshots from then on; a host
 * that went from the configuration lives on until its last request has ended.
 * Start at: px_cluster_get(), px_cluster_pick().
 */
#include <stdlib.h>

#include "proxy/run.h"

enum { ORIGINAL_DST_HOSTS_MAX = 10000 };

static const struct {
    const char *name;
    const char *stat;
} stat_names[PX_CLUSTER_STATS] = {
    [PX_STAT_CX_TOTAL] = {"envoy_cluster_upstream_cx_total", "cluster.$0.upstream_cx_total"},
    [PX_STAT_CX_CONNECT_FAIL] = {"envoy_cluster_upstream_cx_connect_fail",
                                 "cluster.$0.upstream_cx_connect_fail"},
    [PX_STAT_CX_CONNECT_TIMEOUT] = {"envoy_cluster_upstream_cx_connect_timeout",
                                    "cluster.$0.upstream_cx_connect_timeout"},
    [PX_STAT_CX_OVERFLOW] = {"envoy_cluster_upstream_cx_overflow",
                             "cluster.$0.upstream_cx_overflow"},
    [PX_STAT_RQ_TOTAL] = {"envoy_cluster_upstream_rq_total", "cluster.$0.upstream_rq_total"},
    [PX_STAT_RQ_COMPLETED] = {"envoy_cluster_upstream_rq_completed",
                              "cluster.$0.upstream_rq_completed"},
    [PX_STAT_RQ_RETRY] = {"envoy_cluster_upstream_rq_retry", "cluster.$0.upstream_rq_retry"},
    [PX_STAT_RQ_RETRY_SUCCESS] = {"envoy_cluster_upstream_rq_retry_success",
                                  "cluster.$0.upstream_rq_retry_success"},
    [PX_STAT_RQ_TIMEOUT] = {"envoy_cluster_upstream_rq_timeout", "cluster.$0.upstream_rq_timeout"},
    [PX_STAT_RQ_PENDING_TOTAL] = {"envoy_cluster_upstream_rq_pending_total",
                                  "cluster.$0.upstream_rq_pending_total"},
    [PX_STAT_RQ_PENDING_OVERFLOW] = {"envoy_cluster_upstream_rq_pending_overflow",
                                     "cluster.$0.upstream_rq_pending_overflow"},
    [PX_STAT_RQ_PER_TRY_TIMEOUT] = {"envoy_cluster_upstream_rq_per_try_timeout",
                                    "cluster.$0.upstream_rq_per_try_timeout"},
    [PX_STAT_CX_DESTROY] = {"envoy_cluster_upstream_cx_destroy", "cluster.$0.upstream_cx_destroy"},
    [PX_STAT_RQ_NONE_HEALTHY] = {"envoy_cluster_upstream_cx_none_healthy",
                                 "cluster.$0.upstream_cx_none_healthy"},
};

/* --- hosts --- */

static const struct px_tls_conf *find_tls(const struct px_cluster_conf *conf,
                                          const struct px_meta_pair *meta, size_t count)
{
    for (size_t i = 0; i < conf->transport_count; i++) {
        const struct px_transport_match *match = &conf->transports[i];
        size_t hit = 0;
        for (size_t j = 0; j < match->match_count; j++) {
            for (size_t k = 0; k < count; k++)
                hit += lt_str_eq(meta[k].key, match->match[j].key) &&
                       lt_str_eq(meta[k].value, match->match[j].value);
        }
        if (hit == match->match_count)
            return match->tls;
    }
    return NULL;
}

static bool is_same_matcher(const struct lt_san_matcher *a, const struct lt_san_matcher *b)
{
    return a->type == b->type && a->match == b->match && a->ignore_case == b->ignore_case &&
           lt_str_eq(a->value, b->value);
}

/* Connections made by the one are as good as those made by the other. */
static bool is_same_tls(const struct px_tls_conf *a, const struct px_tls_conf *b)
{
    if (a == b)
        return true;
    if (a == NULL || b == NULL || a->ctx_slot != b->ctx_slot || !lt_str_eq(a->sni, b->sni) ||
        a->alpn_count != b->alpn_count || a->san_count != b->san_count)
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

/* The old one is still there: the snapshot that had it is let go after the update. */
static void set_tls(struct px_host *host, const struct px_tls_conf *tls)
{
    if (!is_same_tls(host->tls, tls)) {
        host->tls_epoch++;
        px_host_close_idle(host);
    }
    host->tls = tls;
}

static struct px_host *make_host(struct px_cluster *cluster, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    struct px_host *host = lt_new(struct px_host);
    host->cluster = cluster;
    host->addr = *addr;
    host->weight = 1;
    host->health = PX_HEALTH_HEALTHY;
    host->name = lt_str_dupz(lt_addr_format(addr, text));
    host->workload = "";
    host->refs = 1;
    host->is_listed = true;
    lt_list_init(&host->idle);
    lt_list_init(&host->shared);
    return host;
}

/* Hosts need no look: whoever holds one holds the cluster, too, by a connection or as a user. */
static void free_if_unused(struct px_cluster *cluster)
{
    if (!cluster->is_gone || cluster->users > 0 || cluster->cx_active > 0)
        return;
    lt_list_remove(&cluster->wake_link);
    lt_vec_fini(&cluster->hosts);
    lt_map_fini(&cluster->by_addr);
    px_pin_drop(&cluster->pin);
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
    free(dropped->name);
    px_text_drop(&dropped->workload);
    px_bury(dropped->cluster->worker, dropped);
}

static void unlist_host(struct px_host *host)
{
    host->is_listed = false;
    px_host_close_idle(host);
    px_host_drop(&host);
}

/* --- endpoints into hosts --- */

static struct px_host *find_same(struct lt_vec *hosts, const struct lt_addr *addr)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct px_host *host = hosts->items[i];
        if (lt_addr_eq(&host->addr, addr)) {
            lt_vec_swap_remove(hosts, i);
            return host;
        }
    }
    return NULL;
}

/* An endpoint that is still there keeps its connections and counters. */
static void rebuild_hosts(struct px_cluster *cluster)
{
    struct lt_vec old = cluster->hosts;
    lt_vec_init(&cluster->hosts);
    cluster->has_weights = false;
    size_t count = cluster->endpoints == NULL ? 0 : cluster->endpoints->endpoint_count;
    for (size_t i = 0; i < count; i++) {
        const struct px_endpoint_conf *endpoint = &cluster->endpoints->endpoints[i];
        if (endpoint->addr.len == 0)
            continue; /* a DNS name that is not resolved */
        struct px_host *host = find_same(&old, &endpoint->addr);
        if (host == NULL)
            host = make_host(cluster, &endpoint->addr);
        set_tls(host,
                find_tls(cluster->conf, endpoint->transport_meta, endpoint->transport_meta_count));
        host->weight = endpoint->weight;
        host->health = endpoint->health;
        host->priority = endpoint->priority;
        px_text_set(&host->workload, px_intern(cluster->worker, endpoint->workload));
        cluster->has_weights |= host->weight != 1;
        lt_vec_push(&cluster->hosts, host);
    }
    for (size_t i = 0; i < old.count; i++)
        unlist_host(old.items[i]);
    lt_vec_fini(&old);
    cluster->next = cluster->hosts.count == 0
                        ? 0
                        : lt_prng_below(&cluster->worker->prng, (uint32_t)cluster->hosts.count);
}

/* ORIGINAL_DST hosts keep a pointer into the conf, too. */
static void refresh_original_dst(struct px_cluster *cluster, bool is_changed)
{
    for (size_t i = 0; i < cluster->by_addr.count; i++) {
        struct px_host *host = cluster->by_addr.entries[i].value;
        set_tls(host, find_tls(cluster->conf, NULL, 0));
        if (is_changed)
            px_host_close_idle(host);
    }
}

/* --- making and following --- */

static void make_stats(struct px_cluster *cluster, lt_str shown)
{
    static const lt_str label = {"cluster_name", 12};
    for (size_t i = 0; i < PX_CLUSTER_STATS; i++) {
        const struct lt_metric_desc desc = {.name = lt_str_of(stat_names[i].name),
                                            .kind = LT_METRIC_COUNTER,
                                            .stat = lt_str_of(stat_names[i].stat),
                                            .labels = &label,
                                            .label_count = 1};
        cluster->stats[i] = lt_metric_counter(lt_metric_family(cluster->worker->metrics, &desc),
                                              &shown);
    }
}

/* What the labels of its requests say of it. */
static void name_service(struct px_cluster *cluster)
{
    const struct px_cluster_conf *conf = cluster->conf;
    struct px_worker *worker = cluster->worker;
    px_text_set(&cluster->service_host, px_intern(worker, conf->service_host));
    px_text_set(&cluster->service_name, px_intern(worker, conf->service_name));
    px_text_set(&cluster->service_namespace, px_intern(worker, conf->service_namespace));
}

static void follow(struct px_cluster *cluster, const struct px_cluster_entry *entry)
{
    bool is_changed = cluster->conf != entry->conf;
    bool has_new_hosts = cluster->endpoints != entry->endpoints;
    cluster->conf = entry->conf;
    if (is_changed)
        name_service(cluster);
    cluster->endpoints = entry->endpoints;
    if (entry->conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        refresh_original_dst(cluster, is_changed);
    else if (is_changed || has_new_hosts)
        rebuild_hosts(cluster);
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
    /*
     * alt_stat_name ends with ';' in Istio's configurations, so that names with dots can be told
     * apart
     */
    lt_str shown = entry->conf->alt_stat_name.len > 0 ? entry->conf->alt_stat_name : name;
    make_stats(cluster, shown);
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
    while (cluster->hosts.count > 0)
        unlist_host(lt_vec_pop(&cluster->hosts));
    for (size_t i = 0; i < cluster->by_addr.count; i++)
        unlist_host(cluster->by_addr.entries[i].value);
    lt_map_fini(&cluster->by_addr);
    px_cluster_wake(cluster);
    px_cluster_drop(&cluster);
}

void px_clusters_update(struct px_worker *worker, struct px_pin *before)
{
    struct lt_vec gone = {0};
    for (size_t i = 0; i < worker->clusters.count; i++) {
        struct px_cluster *cluster = worker->clusters.entries[i].value;
        const struct px_cluster_entry *entry = px_snapshot_find_cluster(worker->pin->snapshot,
                                                                        lt_str_of(cluster->name));
        if (entry != NULL)
            follow(cluster, entry);
        else
            lt_vec_push(&gone, cluster);
    }
    for (size_t i = 0; i < gone.count; i++) {
        struct px_cluster *cluster = gone.items[i];
        lt_map_remove(&worker->clusters, lt_str_of(cluster->name));
        retire(cluster, before);
    }
    lt_vec_fini(&gone);
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
    for (uint32_t chances = cluster->pending; chances > 0 && !lt_list_is_empty(&cluster->waiting);
         chances--)
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

/* --- choosing --- */

static bool is_good(const struct px_host *host)
{
    return host->health == PX_HEALTH_HEALTHY || host->health == PX_HEALTH_UNKNOWN ||
           host->health == PX_HEALTH_DEGRADED;
}

static bool is_avoided(const struct px_host *host, struct px_host *const *avoid, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (avoid[i] == host)
            return true;
    }
    return false;
}

struct choice {
    uint32_t priority; /* the lowest with a good host */
    uint32_t good, total;
    bool is_panic; /* too few good ones: all are used */
};

static struct choice choose_level(const struct px_cluster *cluster)
{
    struct choice choice = {.priority = UINT32_MAX};
    for (size_t i = 0; i < cluster->hosts.count; i++) {
        const struct px_host *host = cluster->hosts.items[i];
        if (is_good(host))
            choice.priority = LT_MIN(choice.priority, host->priority);
    }
    if (choice.priority == UINT32_MAX)
        choice.priority = 0;
    for (size_t i = 0; i < cluster->hosts.count; i++) {
        const struct px_host *host = cluster->hosts.items[i];
        if (host->priority != choice.priority)
            continue;
        choice.total++;
        choice.good += is_good(host) ? 1 : 0;
    }
    choice.is_panic = choice.total > 0 &&
                      choice.good * 100 < cluster->conf->panic_threshold_percent * choice.total;
    return choice;
}

static bool may_use(const struct px_host *host, const struct choice *choice)
{
    return host->priority == choice->priority && (choice->is_panic || is_good(host));
}

static struct px_host *pick_round_robin(struct px_cluster *cluster, const struct choice *choice)
{
    for (size_t tries = 0; tries < cluster->hosts.count; tries++) {
        struct px_host *host = cluster->hosts.items[cluster->next++ % cluster->hosts.count];
        if (may_use(host, choice))
            return host;
    }
    return NULL;
}

static struct px_host *pick_weighted(struct px_cluster *cluster, const struct choice *choice)
{
    uint64_t total = 0;
    for (size_t i = 0; i < cluster->hosts.count; i++) {
        const struct px_host *host = cluster->hosts.items[i];
        total += may_use(host, choice) ? host->weight : 0;
    }
    if (total == 0)
        return NULL;
    uint64_t at = lt_prng_next(&cluster->worker->prng) % total;
    for (size_t i = 0; i < cluster->hosts.count; i++) {
        struct px_host *host = cluster->hosts.items[i];
        if (!may_use(host, choice))
            continue;
        if (at < host->weight)
            return host;
        at -= host->weight;
    }
    return NULL;
}

static struct px_host *pick_random(struct px_cluster *cluster, const struct choice *choice)
{
    uint32_t count = (uint32_t)cluster->hosts.count;
    for (int tries = 0; tries < 4; tries++) {
        struct px_host *host = cluster->hosts.items[lt_prng_below(&cluster->worker->prng, count)];
        if (may_use(host, choice))
            return host;
    }
    cluster->next = lt_prng_below(&cluster->worker->prng, count);
    return pick_round_robin(cluster, choice);
}

/* Envoy's P2C: of some random hosts the one with the fewest requests. */
static struct px_host *pick_least_request(struct px_cluster *cluster, const struct choice *choice)
{
    struct px_host *best = NULL;
    for (uint32_t i = 0; i < cluster->conf->least_request_choices; i++) {
        struct px_host *host = cluster->has_weights ? pick_weighted(cluster, choice)
                                                    : pick_random(cluster, choice);
        if (best == NULL || (host != NULL && host->rq_active < best->rq_active))
            best = host;
    }
    return best;
}

static struct px_host *pick_once(struct px_cluster *cluster, const struct choice *choice)
{
    switch (cluster->conf->lb) {
    case PX_LB_LEAST_REQUEST: return pick_least_request(cluster, choice);
    case PX_LB_ROUND_ROBIN:
        return cluster->has_weights ? pick_weighted(cluster, choice)
                                    : pick_round_robin(cluster, choice);
    default:
        return cluster->has_weights ? pick_weighted(cluster, choice) : pick_random(cluster, choice);
    }
}

/* Destinations that were not asked for lately and that nobody uses make room for others. */
static void forget_oldest(struct px_cluster *cluster)
{
    struct px_host *oldest = NULL;
    for (size_t i = 0; i < cluster->by_addr.count; i++) {
        struct px_host *host = cluster->by_addr.entries[i].value;
        if (host->rq_active == 0 && (oldest == NULL || host->used_ns < oldest->used_ns))
            oldest = host;
    }
    if (oldest != NULL) {
        lt_map_remove(&cluster->by_addr, lt_str_of(oldest->name));
        unlist_host(oldest);
    }
}

static struct px_host *pick_original_dst(struct px_cluster *cluster, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    if (addr == NULL || addr->len == 0)
        return NULL;
    struct px_host *host = lt_map_find(&cluster->by_addr, lt_addr_format(addr, text));
    if (host == NULL) {
        if (cluster->by_addr.count >= ORIGINAL_DST_HOSTS_MAX)
            forget_oldest(cluster);
        host = make_host(cluster, addr);
        host->tls = find_tls(cluster->conf, NULL, 0);
        lt_map_put(&cluster->by_addr, lt_str_of(host->name), host);
    }
    host->used_ns = px_now_ns(cluster->worker);
    return host;
}

struct px_host *px_cluster_pick(struct px_cluster *cluster, const struct lt_addr *original_dst,
                                struct px_host *const *avoid, size_t avoid_count, uint32_t attempts)
{
    if (cluster->is_gone)
        return NULL;
    if (cluster->conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        return pick_original_dst(cluster, original_dst);
    if (cluster->hosts.count == 0)
        return NULL;
    struct choice choice = choose_level(cluster);
    struct px_host *host = pick_once(cluster, &choice);
    /* Envoy: after so many tries a host that was tried before is better than none */
    for (uint32_t i = 1; i < attempts && host != NULL && is_avoided(host, avoid, avoid_count); i++)
        host = pick_once(cluster, &choice);
    return host;
}
