/*
 * proxy/xds/load_report.c - from counters of hosts to a report of load: what was added since the
 * last one, by locality.
 * Start at: px_load_report().
 */
#include <stdlib.h>

#include "proxy/xds/load_priv.h"

struct host_ledger {
    char *address; /* owned; the key */
    uint64_t total, success, error;
    bool is_seen;
};

struct px_load_cluster {
    char *name; /* owned; the key */
    uint64_t since_ns;
    struct lt_map hosts;        /* address -> struct host_ledger, owned */
    struct px_drop_tally drops; /* as they were told last */
    bool is_seen;
};

struct report {
    struct px_load_ledger *ledger;
    const struct px_table *table;
    const struct px_load_wish *wish;
    const struct lt_map *counts;
    uint64_t now_ns;
    struct lt_arena *arena;
    Xds__LoadStatsRequest *request;
};

/* --- the ledger --- */

void px_load_ledger_init(struct px_load_ledger *ledger)
{
    lt_map_init(&ledger->clusters);
}

static void free_host(struct host_ledger *host)
{
    free(host->address);
    free(host);
}

static void free_cluster(struct px_load_cluster *cluster)
{
    for (size_t i = 0; i < cluster->hosts.count; i++)
        free_host(cluster->hosts.entries[i].value);
    lt_map_fini(&cluster->hosts);
    free(cluster->name);
    free(cluster);
}

void px_load_ledger_fini(struct px_load_ledger *ledger)
{
    for (size_t i = 0; i < ledger->clusters.count; i++)
        free_cluster(ledger->clusters.entries[i].value);
    lt_map_fini(&ledger->clusters);
}

static struct px_load_cluster *add_cluster(struct px_load_ledger *ledger, lt_str name,
                                           uint64_t now_ns)
{
    struct px_load_cluster *cluster = lt_new(struct px_load_cluster);
    cluster->name = lt_str_dupz(name);
    cluster->since_ns = now_ns;
    lt_map_init(&cluster->hosts);
    lt_map_put(&ledger->clusters, lt_str_of(cluster->name), cluster);
    return cluster;
}

/* What is no longer there, or not wanted. */
static void forget_unseen(struct px_load_ledger *ledger)
{
    for (size_t i = ledger->clusters.count; i-- > 0;) {
        struct px_load_cluster *cluster = ledger->clusters.entries[i].value;
        bool is_seen = cluster->is_seen;
        cluster->is_seen = false;
        if (is_seen)
            continue;
        lt_map_remove(&ledger->clusters, lt_str_of(cluster->name));
        free_cluster(cluster);
    }
}

static void forget_unseen_hosts(struct px_load_cluster *cluster)
{
    for (size_t i = cluster->hosts.count; i-- > 0;) {
        struct host_ledger *host = cluster->hosts.entries[i].value;
        bool is_seen = host->is_seen;
        host->is_seen = false;
        if (is_seen)
            continue;
        lt_map_remove(&cluster->hosts, lt_str_of(host->address));
        free_host(host);
    }
}

/* --- one host --- */

/* A host that came anew counts from nothing: a counter that went back is another host's. */
static uint64_t added(uint64_t *told, uint64_t now)
{
    uint64_t difference = now >= *told ? now - *told : now;
    *told = now;
    return difference;
}

static struct host_ledger *ledger_of(struct px_load_cluster *cluster, const char *address)
{
    struct host_ledger *host = lt_map_find(&cluster->hosts, lt_str_of(address));
    if (host == NULL) {
        host = lt_new(struct host_ledger);
        host->address = lt_str_dupz(lt_str_of(address));
        lt_map_put(&cluster->hosts, lt_str_of(host->address), host);
    }
    host->is_seen = true;
    return host;
}

static Xds__Address *make_address(struct lt_arena *arena, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    Xds__Address *address = lt_arena_make(arena, Xds__Address);
    xds__address__init(address);
    Xds__SocketAddress *socket = lt_arena_make(arena, Xds__SocketAddress);
    xds__socket_address__init(socket);
    address->address_case = XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    address->socket_address = socket;
    socket->address = lt_arena_strz(arena, lt_addr_format_ip(addr, text));
    socket->port_specifier_case = XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    socket->port_value = lt_addr_port(addr);
    return address;
}

static void add_endpoint(const struct report *report, Xds__UpstreamLocalityStats *locality,
                         const struct px_host_status *status, uint64_t issued, uint64_t success,
                         uint64_t error)
{
    Xds__UpstreamEndpointStats *stats = lt_arena_make(report->arena, Xds__UpstreamEndpointStats);
    xds__upstream_endpoint_stats__init(stats);
    stats->address = make_address(report->arena, &status->addr);
    stats->has_total_successful_requests = success > 0;
    stats->total_successful_requests = success;
    stats->has_total_error_requests = error > 0;
    stats->total_error_requests = error;
    stats->has_total_requests_in_progress = status->rq_active > 0;
    stats->total_requests_in_progress = status->rq_active;
    stats->has_total_issued_requests = issued > 0;
    stats->total_issued_requests = issued;
    locality->upstream_endpoint_stats[locality->n_upstream_endpoint_stats++] = stats;
}

static void add_host(const struct report *report, struct px_load_cluster *cluster,
                     const struct px_host_status *status, Xds__UpstreamLocalityStats *locality)
{
    struct host_ledger *host = ledger_of(cluster, status->address);
    uint64_t issued = added(&host->total, status->rq_total),
             success = added(&host->success, status->rq_success),
             error = added(&host->error, status->rq_error);
    if (locality == NULL)
        return;
    locality->total_issued_requests += issued;
    locality->total_successful_requests += success;
    locality->total_error_requests += error;
    locality->total_requests_in_progress += status->rq_active;
    if (report->wish->by_endpoint && issued + success + error + status->rq_active > 0)
        add_endpoint(report, locality, status, issued, success, error);
}

/* --- one cluster --- */

static Xds__UpstreamLocalityStats *make_locality(const struct report *report,
                                                 const struct px_locality *from, size_t host_count)
{
    struct lt_arena *arena = report->arena;
    Xds__UpstreamLocalityStats *stats = lt_arena_make(arena, Xds__UpstreamLocalityStats);
    xds__upstream_locality_stats__init(stats);
    stats->locality = lt_arena_make(arena, Xds__Locality);
    xds__locality__init(stats->locality);
    stats->upstream_endpoint_stats = lt_arena_make_n(arena, Xds__UpstreamEndpointStats *,
                                                     host_count);
    if (from == NULL)
        return stats;
    stats->locality->region = lt_arena_strz(arena, from->region);
    stats->locality->zone = lt_arena_strz(arena, from->zone);
    stats->locality->sub_zone = lt_arena_strz(arena, from->sub_zone);
    stats->has_priority = from->priority > 0;
    stats->priority = from->priority;
    return stats;
}

/* "10.0.0.1:80" -> its locality's number + 1. */
static void index_endpoints(const struct report *report, const struct px_endpoints_conf *endpoints,
                            struct lt_map *map)
{
    for (size_t i = 0; i < endpoints->endpoint_count; i++) {
        char text[LT_ADDR_TEXT_MAX];
        struct lt_addr addr = px_endpoint_addr(&endpoints->endpoints[i]);
        if (addr.len == 0)
            continue;
        lt_str key = lt_arena_str(report->arena, lt_addr_format(&addr, text));
        lt_map_put(map, key, (void *)(uintptr_t)(endpoints->endpoints[i].locality + 1));
    }
}

static void keep_used(Xds__ClusterStats *stats, Xds__UpstreamLocalityStats **localities,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Xds__UpstreamLocalityStats *at = localities[i];
        at->has_total_successful_requests = at->total_successful_requests > 0;
        at->has_total_error_requests = at->total_error_requests > 0;
        at->has_total_requests_in_progress = at->total_requests_in_progress > 0;
        at->has_total_issued_requests = at->total_issued_requests > 0;
        if (at->total_successful_requests + at->total_error_requests +
                at->total_requests_in_progress + at->total_issued_requests >
            0)
            localities[stats->n_upstream_locality_stats++] = at;
    }
    stats->upstream_locality_stats = localities;
}

static void add_hosts(const struct report *report, struct px_load_cluster *cluster,
                      const struct px_cluster_conf *conf, const struct px_cluster_counts *counts,
                      Xds__ClusterStats *stats)
{
    const struct px_endpoints_conf *endpoints = px_table_members(report->table, conf);
    size_t count = endpoints != NULL ? endpoints->locality_count : 0;
    struct lt_map by_address;
    lt_map_init(&by_address);
    if (endpoints != NULL)
        index_endpoints(report, endpoints, &by_address);
    /* the last is of hosts that no endpoint has: original destinations, and those that went */
    Xds__UpstreamLocalityStats **all = lt_arena_make_n(report->arena, Xds__UpstreamLocalityStats *,
                                                       count + 1);
    for (size_t i = 0; i <= count; i++)
        all[i] = make_locality(report, i < count ? &endpoints->localities[i] : NULL,
                               counts->hosts.count);
    for (size_t i = 0; i < counts->hosts.count; i++) {
        const struct px_host_status *status = counts->hosts.entries[i].value;
        char text[LT_ADDR_TEXT_MAX];
        size_t at = (size_t)(uintptr_t)lt_map_find(&by_address,
                                                   lt_addr_format(&status->addr, text));
        add_host(report, cluster, status, all[at > 0 ? at - 1 : count]);
    }
    lt_map_fini(&by_address);
    keep_used(stats, all, count + 1);
}

static void add_drops(const struct report *report, struct px_load_cluster *cluster,
                      const struct px_drop_tally *now, Xds__ClusterStats *stats)
{
    stats->dropped_requests = lt_arena_make_n(report->arena, Xds__ClusterStats__DroppedRequests *,
                                              PX_DROP_CATEGORIES_MAX);
    for (size_t i = 0; i < now->count; i++) {
        const struct px_drop_count *drop = &now->items[i];
        uint64_t dropped = added(px_drop_tally_at(&cluster->drops, lt_str_of(drop->category)),
                                 drop->count);
        if (dropped == 0)
            continue;
        Xds__ClusterStats__DroppedRequests *made = lt_arena_make(
            report->arena, Xds__ClusterStats__DroppedRequests);
        xds__cluster_stats__dropped_requests__init(made);
        made->category = lt_arena_strz(report->arena, lt_str_of(drop->category));
        made->has_dropped_count = true;
        made->dropped_count = dropped;
        stats->dropped_requests[stats->n_dropped_requests++] = made;
        stats->has_total_dropped_requests = true;
        stats->total_dropped_requests += dropped;
    }
}

static Pb__Duration *make_duration(struct lt_arena *arena, uint64_t ns)
{
    Pb__Duration *duration = lt_arena_make(arena, Pb__Duration);
    pb__duration__init(duration);
    duration->has_seconds = duration->has_nanos = true;
    duration->seconds = (int64_t)(ns / LT_NS_PER_S);
    duration->nanos = (int32_t)(ns % LT_NS_PER_S);
    return duration;
}

static bool is_wanted(const struct px_load_wish *wish, lt_str name)
{
    for (size_t i = 0; !wish->all && i < wish->count; i++) {
        if (lt_str_eqz(name, wish->names[i]))
            return true;
    }
    return wish->all;
}

static void visit(void *ctx, const struct px_resource *serving,
                  const struct px_resource *warming LT_UNUSED, bool is_static LT_UNUSED)
{
    const struct report *report = ctx;
    const struct px_cluster_conf *conf = (const struct px_cluster_conf *)serving;
    if (serving == NULL || !is_wanted(report->wish, serving->name))
        return;
    struct px_load_cluster *cluster = lt_map_find(&report->ledger->clusters, serving->name);
    bool is_new = cluster == NULL;
    if (is_new)
        cluster = add_cluster(report->ledger, serving->name, report->now_ns);
    cluster->is_seen = true;
    Xds__ClusterStats *stats = lt_arena_make(report->arena, Xds__ClusterStats);
    xds__cluster_stats__init(stats);
    const struct px_cluster_counts *counts = lt_map_find(report->counts, serving->name);
    if (counts != NULL) {
        add_hosts(report, cluster, conf, counts, stats);
        add_drops(report, cluster, &counts->drops, stats);
        forget_unseen_hosts(cluster);
    }
    if (is_new)
        return; /* it is measured from now on */
    stats->cluster_name = lt_arena_strz(report->arena, serving->name);
    if (conf->eds_row != NULL && !lt_str_eq(conf->eds_service_name, serving->name))
        stats->cluster_service_name = lt_arena_strz(report->arena, conf->eds_service_name);
    stats->load_report_interval = make_duration(report->arena, report->now_ns - cluster->since_ns);
    cluster->since_ns = report->now_ns;
    report->request->cluster_stats[report->request->n_cluster_stats++] = stats;
}

void px_load_report(struct px_load_ledger *ledger, const struct px_table *table,
                    const struct px_load_wish *wish, const struct lt_map *counts, uint64_t now_ns,
                    struct lt_arena *arena, Xds__LoadStatsRequest *request)
{
    struct report report = {ledger, table, wish, counts, now_ns, arena, request};
    request->cluster_stats = lt_arena_make_n(arena, Xds__ClusterStats *,
                                             px_table_count(table, PX_CLUSTER) + 1);
    px_table_each(table, PX_CLUSTER, visit, &report);
    forget_unseen(ledger);
}
