/*
 * proxy/told/cluster_stats.c - counters of clusters as Envoy names them. A series exists once there
 * is something to count; it goes with the last cluster of its name.
 */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/lb/stat_name.h"
#include "proxy/run/run.h"

enum { NAME_MAX_BYTES = 96, CODES_MAX = 64, NAMED_MAX = 4096, NAMED_BYTES_MAX = 100 };

static const char *const stat_names[PX_CLUSTER_STAT_COUNT] = {
#define PX_CLUSTER_STAT_NAME(id, name) [PX_STAT_##id] = name,
    PX_CLUSTER_STATS(PX_CLUSTER_STAT_NAME)
#undef PX_CLUSTER_STAT_NAME
};

/* --- scopes: series that clusters of one name share --- */

struct px_stat_scope {
    char *name; /* owned; the key in worker->stat_scopes */
    uint32_t refs;
    struct lt_map named; /* what filters count: owned name -> counter */
};

static lt_str scope_name(struct px_cluster *cluster)
{
    struct px_worker *worker = cluster->worker;
    if (cluster->scope == NULL) {
        lt_str name = px_cluster_shown_name(cluster->conf);
        struct px_stat_scope *scope = lt_map_find(&worker->stat_scopes, name);
        if (scope == NULL) {
            scope = lt_new(struct px_stat_scope);
            scope->name = lt_str_dupz(name);
            lt_map_init(&scope->named);
            lt_map_put(&worker->stat_scopes, lt_str_of(scope->name), scope);
        }
        scope->refs++;
        cluster->scope = scope;
    }
    return lt_str_of(cluster->scope->name);
}

static void drop_scope(struct px_cluster *cluster)
{
    struct px_worker *worker = cluster->worker;
    struct px_stat_scope *scope = cluster->scope;
    cluster->scope = NULL;
    if (scope == NULL || --scope->refs > 0)
        return;
    lt_metric_remove(worker->metrics, px_cluster_label, lt_str_of(scope->name));
    lt_map_remove(&worker->stat_scopes, lt_str_of(scope->name));
    for (size_t i = 0; i < scope->named.count; i++)
        free((char *)scope->named.entries[i].key.ptr);
    lt_map_fini(&scope->named);
    free(scope->name);
    free(scope);
}

/* --- counters --- */

static struct lt_counter *make_counter(struct px_cluster *cluster, const char *stat)
{
    return px_cluster_counter(cluster->worker->metrics, scope_name(cluster), "", stat);
}

static struct lt_gauge *make_gauge(struct px_cluster *cluster, const char *stat)
{
    return px_cluster_gauge(cluster->worker->metrics, scope_name(cluster), "", stat);
}

struct lt_counter *px_cluster_stat_make(struct px_cluster *cluster, px_cluster_stat stat)
{
    cluster->stats[stat] = make_counter(cluster, stat_names[stat]);
    return cluster->stats[stat];
}

/* A part of the name may be a stranger's, such as a method of gRPC: there is a maximum. */
void px_cluster_count_named(struct px_cluster *cluster, lt_str stat, uint64_t by)
{
    scope_name(cluster);
    struct px_stat_scope *scope = cluster->scope;
    struct lt_counter *counter = lt_map_find(&scope->named, stat);
    if (counter == NULL) {
        if (scope->named.count >= NAMED_MAX || stat.len > NAMED_BYTES_MAX)
            return;
        char *name = lt_str_dupz(stat);
        counter = make_counter(cluster, name);
        lt_map_put(&scope->named, lt_str_make(name, stat.len), counter);
    }
    lt_counter_add(counter, by);
}

/* --- status codes --- */

struct px_code_stats {
    uint32_t count;
    struct {
        uint32_t code;
        struct lt_counter *counter;
    } items[CODES_MAX]; /* the one that was seen last in front */
};

static struct lt_counter *code_counter(struct px_cluster *cluster, uint32_t code)
{
    struct px_code_stats *codes = cluster->codes;
    if (codes == NULL)
        codes = cluster->codes = lt_new(struct px_code_stats);
    uint32_t at = 0;
    while (at < codes->count && codes->items[at].code != code)
        at++;
    if (at == codes->count) {
        char stat[NAME_MAX_BYTES];
        if (codes->count == CODES_MAX)
            return NULL; /* hosts that make codes up */
        snprintf(stat, sizeof(stat), "upstream_rq_%u", code);
        codes->items[codes->count].code = code;
        codes->items[codes->count++].counter = make_counter(cluster, stat);
    }
    struct lt_counter *counter = codes->items[at].counter;
    codes->items[at] = codes->items[0];
    codes->items[0].code = code;
    codes->items[0].counter = counter;
    return counter;
}

void px_cluster_count_code(struct px_cluster *cluster, uint32_t code)
{
    px_cluster_count(cluster, PX_STAT_RQ_COMPLETED);
    if (code < 100 || code > 599)
        return;
    px_cluster_count(cluster, (px_cluster_stat)(PX_STAT_RQ_1XX + code / 100 - 1));
    struct px_code_stats *codes = cluster->codes;
    struct lt_counter *counter = codes != NULL && codes->items[0].code == code
                                     ? codes->items[0].counter
                                     : code_counter(cluster, code);
    if (counter != NULL)
        lt_counter_add(counter, 1);
}

/* Seldom enough to look for the counters each time. */
void px_cluster_count_retried(struct px_cluster *cluster, uint32_t code)
{
    char stats[2][NAME_MAX_BYTES];
    if (code < 100 || code > 599)
        return;
    snprintf(stats[0], sizeof(stats[0]), "retry.upstream_rq_%u", code);
    snprintf(stats[1], sizeof(stats[1]), "retry.upstream_rq_%uxx", code / 100);
    lt_counter_add(make_counter(cluster, "retry.upstream_rq_completed"), 1);
    for (size_t i = 0; i < LT_ARRAY_LEN(stats); i++)
        lt_counter_add(make_counter(cluster, stats[i]), 1);
}

/* --- what is counted elsewhere --- */

struct px_cluster_gauges {
    struct lt_gauge *cx_active, *rq_active, *pending, *subsets;
    uint64_t told[PX_LB_COUNTER_COUNT]; /* of the balancer's counters */
};

static void refresh_gauges(struct px_cluster *cluster)
{
    struct px_cluster_gauges *gauges = cluster->gauges;
    if (gauges == NULL) {
        gauges = cluster->gauges = lt_new(struct px_cluster_gauges);
        gauges->cx_active = make_gauge(cluster, "upstream_cx_active");
        gauges->rq_active = make_gauge(cluster, "upstream_rq_active");
        gauges->pending = make_gauge(cluster, "upstream_rq_pending_active");
    }
    lt_gauge_set(gauges->cx_active, cluster->own[PX_LIMIT_CONNECTIONS]);
    lt_gauge_set(gauges->rq_active, cluster->own[PX_LIMIT_REQUESTS]);
    lt_gauge_set(gauges->pending, cluster->own[PX_LIMIT_PENDING]);
    if (gauges->subsets == NULL && px_lb_subset_count(cluster->lb) > 0)
        gauges->subsets = make_gauge(cluster, "lb_subsets_active");
    /* every worker has them all; shown is how many there are */
    if (gauges->subsets != NULL && cluster->worker->index == 0)
        lt_gauge_set(gauges->subsets, px_lb_subset_count(cluster->lb));
}

static void refresh_balancer(struct px_cluster *cluster)
{
    const uint64_t *counters = px_lb_counters(cluster->lb);
    for (int i = 0; i < PX_LB_COUNTER_COUNT; i++) {
        uint64_t more = counters[i] - cluster->gauges->told[i];
        if (more == 0)
            continue;
        cluster->gauges->told[i] = counters[i];
        lt_counter_add(make_counter(cluster, px_lb_counter_name((px_lb_counter)i)), more);
    }
}

void px_clusters_refresh_stats(struct px_worker *worker)
{
    for (size_t i = 0; i < worker->clusters.count; i++) {
        struct px_cluster *cluster = worker->clusters.entries[i].value;
        refresh_gauges(cluster);
        refresh_balancer(cluster);
    }
}

void px_cluster_stats_fini(struct px_cluster *cluster)
{
    if (cluster->gauges != NULL) {
        lt_gauge_set(cluster->gauges->cx_active, 0);
        lt_gauge_set(cluster->gauges->rq_active, 0);
        lt_gauge_set(cluster->gauges->pending, 0);
    }
    free(cluster->gauges);
    free(cluster->codes);
    drop_scope(cluster);
}
