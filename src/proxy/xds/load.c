/*
 * proxy/xds/load.c - the stream of load reports: it is opened again with back-off and jitter when
 * it ends; nothing is measured before the other side has said what it wants.
 * Start at: open_stream(), on_message(), on_hosts().
 */
#include "proxy/xds/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/conf/source.h"
#include "proxy/xds/load_priv.h"
#include "proxy/xds/way.h"
#include "wire/pb.h"
#include "wire/pb_time.h"

#define METHOD "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
#define CAN_SEND_ALL "envoy.lrs.supports_send_all_clusters"

enum {
    BACKOFF_BASE_MS = 500,
    BACKOFF_MAX_MS = 30000,
    NO_WAY_MS = 100, /* the cluster is not there yet */
    INTERVAL_MIN_MS = 100,
    INTERVAL_MAX_MS = 24 * 3600 * 1000,
    NAMES_MAX = 100000,
    METADATA_MAX = 64,
};

typedef enum { REQUESTS, RESPONSES, ERRORS, RETRIES, STATS } load_stat;

struct px_load {
    struct px_load_opts opts;
    struct px_ways *ways; /* owned */
    struct px_way *way;   /* held */
    struct lt_grpc_call *call;
    struct lt_timer retry, next;
    struct lt_backoff backoff;
    struct lt_prng prng;
    struct lt_arena *arena;             /* owned; of wish */
    const Xds__LoadStatsResponse *wish; /* NULL: nothing is wanted yet */
    uint64_t interval_ns;
    struct px_load_ledger ledger;
    Xds__Node *node; /* in node_arena */
    struct lt_arena *node_arena;
    bool is_collecting;
    bool is_gone; /* freed by its owner; the memory waits for whoever calls back */
    struct lt_counter *stats[STATS];
};

static void count(const struct px_load *load, load_stat stat)
{
    lt_counter_add(load->stats[stat], 1);
}

/* --- who we are --- */

static void read_node(struct px_load *load)
{
    struct lt_arena *arena = load->node_arena;
    struct lt_err err = {0};
    if (lt_pb_unpack(arena, &xds__node__descriptor, load->opts.node, NULL, &load->node, &err) !=
        LT_OK)
        load->node = lt_pb_new(arena, Xds__Node, xds__node);
    size_t before = load->node->n_client_features;
    const char **features = lt_arena_make_n(arena, const char *, before + 1);
    for (size_t i = 0; i < before; i++)
        features[i] = load->node->client_features[i];
    features[before] = CAN_SEND_ALL;
    load->node->client_features = (void *)features;
    load->node->n_client_features = before + 1;
}

/* --- out --- */

static void maybe_free(struct px_load *load)
{
    if (load->call != NULL || load->is_collecting)
        return;
    px_load_ledger_fini(&load->ledger);
    lt_arena_free(&load->arena);
    lt_arena_free(&load->node_arena);
    free(load);
}

static void send_request(struct px_load *load, struct lt_arena *arena,
                         Xds__LoadStatsRequest *request)
{
    request->node = load->node;
    if (lt_grpc_call_send(load->call, lt_pb_pack(arena, request)) != LT_OK)
        lt_grpc_call_cancel(load->call);
    else
        count(load, RESPONSES);
}

static void send_first(struct px_load *load)
{
    struct lt_arena *arena = lt_arena_new(1024, 0);
    send_request(load, arena, lt_pb_new(arena, Xds__LoadStatsRequest, xds__load_stats_request));
    lt_arena_free(&arena);
}

static void on_hosts(void *ctx, const struct lt_map *clusters)
{
    struct px_load *load = ctx;
    load->is_collecting = false;
    if (load->is_gone) {
        maybe_free(load);
        return;
    }
    if (load->call == NULL || load->wish == NULL)
        return;
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct px_load_wish wish = {.names = (const char *const *)load->wish->clusters,
                                      .count = load->wish->n_clusters,
                                      .all = load->wish->has_send_all_clusters &&
                                             load->wish->send_all_clusters,
                                      .by_endpoint = load->wish->has_report_endpoint_granularity &&
                                                     load->wish->report_endpoint_granularity};
    Xds__LoadStatsRequest *request = lt_pb_new(arena, Xds__LoadStatsRequest,
                                               xds__load_stats_request);
    px_load_report(&load->ledger, load->opts.table, &wish, clusters, lt_env_mono_ns(load->opts.env),
                   arena, request);
    bool is_due = !lt_timer_is_set(&load->next); /* else they were only looked at to begin with */
    if (is_due)
        send_request(load, arena, request);
    lt_arena_free(&arena);
    if (is_due && load->call != NULL)
        lt_loop_timer_set(load->opts.loop, &load->next, load->interval_ns);
}

static void collect(struct px_load *load)
{
    if (load->is_collecting)
        return;
    load->is_collecting = true;
    px_workers_collect_hosts(load->opts.workers, on_hosts, load);
}

static void on_next(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_load *load = LT_CONTAINER_OF(timer, struct px_load, next);
    if (load->is_collecting) /* of a moment ago */
        lt_loop_timer_set(load->opts.loop, timer, INTERVAL_MIN_MS * LT_NS_PER_MS);
    else
        collect(load);
}

/* --- in --- */

static void forget_wish(struct px_load *load)
{
    load->wish = NULL;
    lt_loop_timer_cancel(load->opts.loop, &load->next);
    lt_arena_reset(load->arena);
}

static void on_message(struct lt_grpc_call *call, lt_str message)
{
    struct px_load *load = lt_grpc_call_user(call);
    struct lt_err err = {0};
    Xds__LoadStatsResponse *wish = NULL;
    if (load->is_gone || load->call != call)
        return;
    forget_wish(load);
    lt_rc rc = lt_pb_unpack(load->arena, &xds__load_stats_response__descriptor, message, NULL,
                            &wish, &err);
    if (rc != LT_OK || wish->n_clusters > NAMES_MAX) {
        lt_log_error(&load->opts.env->log, "load reports: unreadable response, the stream ends");
        lt_grpc_call_cancel(call);
        return;
    }
    lt_backoff_reset(&load->backoff);
    count(load, REQUESTS);
    load->wish = wish;
    int64_t ns = lt_pb_duration_ns(wish->load_reporting_interval, 0);
    ns = LT_MIN(LT_MAX(ns, (int64_t)INTERVAL_MIN_MS * (int64_t)LT_NS_PER_MS),
                (int64_t)INTERVAL_MAX_MS * (int64_t)LT_NS_PER_MS);
    load->interval_ns = (uint64_t)ns;
    lt_loop_timer_set(load->opts.loop, &load->next, load->interval_ns);
    collect(load); /* where it begins */
}

static void on_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed LT_UNUSED)
{
    struct px_load *load = lt_grpc_call_user(call);
    load->call = NULL;
    if (load->is_gone) {
        maybe_free(load);
        return;
    }
    forget_wish(load);
    count(load, ERRORS);
    count(load, RETRIES);
    lt_log_debug(&load->opts.env->log, "load reports: the stream ended (%u): %.*s", (unsigned)code,
                 LT_STR_ARG(message));
    lt_loop_timer_set(load->opts.loop, &load->retry,
                      lt_backoff_next_ns(&load->backoff, &load->prng));
}

static const struct lt_grpc_call_handler handler = {.on_message = on_message,
                                                    .on_closed = on_closed};

static void open_stream(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_load *load = LT_CONTAINER_OF(timer, struct px_load, retry);
    const struct px_source *source = load->opts.source;
    struct lt_grpc_channel *channel = px_way_channel(load->way);
    if (channel == NULL) {
        lt_loop_timer_set(load->opts.loop, timer, NO_WAY_MS * LT_NS_PER_MS);
        return;
    }
    struct lt_grpc_metadata metadata[METADATA_MAX];
    struct lt_grpc_call_opts opts = {.path = METHOD, .metadata = metadata, .wait_for_ready = true};
    for (; opts.metadata_count < LT_MIN(source->header_count, (size_t)METADATA_MAX);
         opts.metadata_count++)
        metadata[opts.metadata_count] = (struct lt_grpc_metadata){
            source->headers[opts.metadata_count].name, source->headers[opts.metadata_count].value,
            false};
    load->call = lt_grpc_call_start(channel, &opts, &handler, load);
    send_first(load);
}

/* --- life --- */

static void make_counters(struct px_load *load)
{
    static const char *const names[STATS] = {"requests", "responses", "errors", "retries"};
    for (int i = 0; i < STATS; i++) {
        char name[64], stat[64];
        (void)snprintf(name, sizeof(name), "envoy_load_reporter_%s", names[i]);
        (void)snprintf(stat, sizeof(stat), "load_reporter.%s", names[i]);
        const struct lt_metric_desc desc = {
            .name = lt_str_of(name), .kind = LT_METRIC_COUNTER, .stat = lt_str_of(stat)};
        load->stats[i] = lt_metric_counter(lt_metric_family(load->opts.metrics, &desc), NULL);
    }
}

struct px_load *px_load_new(const struct px_load_opts *opts)
{
    struct px_load *load = lt_new(struct px_load);
    load->opts = *opts;
    load->ways = px_ways_new(opts->loop, opts->table);
    load->way = px_way_get(load->ways, opts->source->cluster, opts->source->authority);
    load->arena = lt_arena_new(1024, 0);
    load->node_arena = lt_arena_new(1024, 0);
    px_load_ledger_init(&load->ledger);
    lt_timer_init(&load->retry, open_stream);
    lt_timer_init(&load->next, on_next);
    lt_backoff_init(&load->backoff, BACKOFF_BASE_MS * LT_NS_PER_MS, BACKOFF_MAX_MS * LT_NS_PER_MS);
    lt_prng_seed(&load->prng, opts->env);
    make_counters(load);
    read_node(load);
    lt_loop_timer_set(opts->loop, &load->retry, 0);
    return load;
}

void px_load_free(struct px_load **pointer)
{
    struct px_load *load = *pointer;
    *pointer = NULL;
    if (load == NULL)
        return;
    lt_loop_timer_cancel(load->opts.loop, &load->retry);
    lt_loop_timer_cancel(load->opts.loop, &load->next);
    load->is_gone = true;
    if (load->call != NULL)
        lt_grpc_call_cancel(load->call);
    px_way_drop(&load->way);
    px_ways_free(&load->ways);
    maybe_free(load);
}
