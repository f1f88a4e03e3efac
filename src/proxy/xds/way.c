/*
 * proxy/xds/way.c - channels to clusters: one endpoint after the other, in turns, as connections
 * fail.
 * Start at: px_way_channel(), aim().
 */
#include "proxy/xds/way.h"

#include <stdlib.h>

#include "proxy/table/roster.h"

struct px_way {
    struct px_ways *owner;
    uint32_t refs;
    char *key;                       /* owned; in ways->by_key */
    char *cluster, *authority;       /* owned */
    struct lt_grpc_channel *channel; /* owned; NULL until an endpoint was known */
    const struct px_tls_conf *tls;   /* of the cluster as it was when the channel was made */
    uint64_t hash;                   /* of that cluster */
    uint32_t turn;                   /* which endpoint is next */
};

struct px_ways {
    struct lt_loop *loop;
    struct px_table *table;
    struct lt_map by_key;
};

static const struct px_cluster_conf *conf_of(const struct px_way *way)
{
    const struct px_row *row = px_row_find(px_table_rows(way->owner->table), PX_CLUSTER,
                                           lt_str_of(way->cluster));
    return row == NULL ? NULL : (const struct px_cluster_conf *)row->serving;
}

/* The next of the cluster's endpoints that has an address; false: none. */
static bool pick(struct px_way *way, const struct px_cluster_conf *conf, struct lt_addr *ret_addr)
{
    const struct px_endpoints_conf *set = px_table_members(way->owner->table, conf);
    uint32_t count = set != NULL ? set->endpoint_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        *ret_addr = px_endpoint_addr(&set->endpoints[way->turn++ % count]);
        if (ret_addr->len > 0)
            return true;
    }
    return false;
}

static const struct px_tls_conf *tls_of(const struct px_cluster_conf *conf)
{
    return conf->transport_count > 0 ? conf->transports[conf->transport_count - 1].tls : NULL;
}

/* Another endpoint, and the newest certificates, for the next connection. */
static void aim(struct px_way *way)
{
    const struct px_cluster_conf *conf = conf_of(way);
    struct lt_addr addr;
    if (conf == NULL || !pick(way, conf, &addr))
        return;
    lt_grpc_channel_set_addr(way->channel, &addr);
    const struct px_tls_conf *tls = tls_of(conf);
    struct lt_tls_ctx *ctx = tls == NULL ? NULL : px_table_tls_ctx(way->owner->table, tls);
    if (ctx != NULL)
        lt_grpc_channel_set_tls(way->channel, ctx);
}

static void on_state(void *ctx, lt_grpc_channel_state state, const char *reason LT_UNUSED)
{
    struct px_way *way = ctx;
    if (way->channel != NULL && (state == LT_GRPC_BACKING_OFF || state == LT_GRPC_IDLE))
        aim(way);
}

static void make_channel(struct px_way *way, const struct px_cluster_conf *conf)
{
    struct lt_grpc_channel_opts opts = LT_GRPC_CHANNEL_OPTS_DEFAULT;
    const struct px_tls_conf *tls = tls_of(conf);
    if (!pick(way, conf, &opts.addr))
        return;
    if (tls != NULL) {
        opts.tls = px_table_tls_ctx(way->owner->table, tls);
        if (opts.tls == NULL)
            return; /* a secret is missing: never in plaintext */
        opts.sni = tls->sni;
        opts.sans = tls->sans;
        opts.san_count = tls->san_count;
    }
    opts.connect_timeout_ns = conf->connect_timeout_ms * LT_NS_PER_MS;
    opts.authority = lt_str_of(way->authority[0] != '\0' ? way->authority : way->cluster);
    way->hash = conf->res.hash;
    way->channel = lt_grpc_channel_new(way->owner->loop, &opts, on_state, way);
}

struct lt_grpc_channel *px_way_channel(struct px_way *way)
{
    const struct px_cluster_conf *conf = conf_of(way);
    bool is_old = way->channel != NULL && conf != NULL && conf->res.hash != way->hash;
    if (is_old) /* with other certificates or names: whoever streams there now stays */
        lt_grpc_channel_close(&way->channel, NULL, NULL);
    if (way->channel == NULL && conf != NULL)
        make_channel(way, conf);
    return way->channel;
}

struct px_ways *px_ways_new(struct lt_loop *loop, struct px_table *table)
{
    struct px_ways *ways = lt_new(struct px_ways);
    ways->loop = loop;
    ways->table = table;
    return ways;
}

void px_ways_free(struct px_ways **pointer)
{
    struct px_ways *ways = *pointer;
    *pointer = NULL;
    if (ways == NULL)
        return;
    LT_ASSERT(ways->by_key.count == 0);
    lt_map_fini(&ways->by_key);
    free(ways);
}

struct px_way *px_way_get(struct px_ways *ways, lt_str cluster, lt_str authority)
{
    struct lt_arena *scratch = lt_arena_new(256, 0);
    lt_str key = lt_arena_printf(scratch, "%.*s\n%.*s", LT_STR_ARG(cluster), LT_STR_ARG(authority));
    struct px_way *way = lt_map_find(&ways->by_key, key);
    if (way == NULL) {
        way = lt_new(struct px_way);
        way->owner = ways;
        way->key = lt_str_dupz(key);
        way->cluster = lt_str_dupz(cluster);
        way->authority = lt_str_dupz(authority);
        lt_map_put(&ways->by_key, lt_str_of(way->key), way);
    }
    way->refs++;
    lt_arena_free(&scratch);
    return way;
}

void px_way_drop(struct px_way **pointer)
{
    struct px_way *way = *pointer;
    *pointer = NULL;
    if (way == NULL || --way->refs > 0)
        return;
    lt_map_remove(&way->owner->by_key, lt_str_of(way->key));
    if (way->channel != NULL)
        lt_grpc_channel_close(&way->channel, NULL, NULL);
    free(way->key);
    free(way->cluster);
    free(way->authority);
    free(way);
}
