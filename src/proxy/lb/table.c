/*
 * proxy/lb/table.c - consistent hashing: a ring (ketama) or a Maglev table, both exactly as Envoy
 * makes them, so that proxies of both kinds send the same key to the same host; and a bound on the
 * load that a hot key may put on one host.
 * Start at: px_lb_pick_hashed().
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/vec.h"
#include "proxy/conf/hash.h"
#include "proxy/lb/lb_priv.h"

enum { KEY_MAX = 512 };

struct weighted {
    struct px_lb_host *host;
    double weight; /* of 1 */
};

struct ring_entry {
    uint64_t hash;
    uint32_t item;
};

struct px_lb_table {
    struct weighted *hosts; /* owned */
    uint32_t host_count;
    double min_weight, max_weight;
    struct ring_entry *ring; /* owned; RING_HASH */
    uint64_t ring_size;
    uint32_t *slots; /* owned; MAGLEV */
    uint32_t slot_count;
};

void px_lb_table_free(struct px_lb_table **pointer)
{
    struct px_lb_table *table = *pointer;
    *pointer = NULL;
    if (table == NULL)
        return;
    free(table->hosts);
    free(table->ring);
    free(table->slots);
    free(table);
}

/* --- weights that add up to one --- */

static void add_hosts(struct px_lb_table *table, struct px_lb_host *const *hosts, uint32_t count,
                      px_lb_from from, double whole)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += px_lb_is_from(hosts[i], from) ? hosts[i]->weight : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!px_lb_is_from(hosts[i], from))
            continue;
        double weight = whole * hosts[i]->weight / (double)sum;
        table->hosts[table->host_count++] = (struct weighted){hosts[i], weight};
        table->min_weight = LT_MIN(table->min_weight, weight);
        table->max_weight = LT_MAX(table->max_weight, weight);
    }
}

static void normalize(const struct px_lb *lb, const struct px_lb_level *level,
                      struct px_lb_table *table)
{
    px_lb_from from = level->is_panic ? PX_FROM_ALL : PX_FROM_HEALTHY;
    uint64_t sum = 0;
    table->hosts = lt_calloc(level->count + 1, sizeof(*table->hosts));
    table->min_weight = 1.0;
    for (uint32_t i = 0; i < level->place_count; i++)
        sum += lb->places[level->place_first + i].weight;
    if (lb->conf->locality != PX_LOCALITY_WEIGHTED || sum == 0) {
        add_hosts(table, &lb->hosts[level->first], level->count, from, 1.0);
        return;
    }
    for (uint32_t i = 0; i < level->place_count; i++) {
        const struct px_lb_place *place = &lb->places[level->place_first + i];
        if (place->weight > 0)
            add_hosts(table, &lb->hosts[place->first], place->count, from,
                      (double)place->weight / (double)sum);
    }
}

/* --- the ring --- */

static int by_hash(const void *a, const void *b)
{
    const struct ring_entry *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

static uint64_t ring_hash(const struct px_lb_conf *conf, lt_str key, uint32_t number)
{
    char text[KEY_MAX + 16];
    size_t len = LT_MIN(key.len, (size_t)KEY_MAX);
    memcpy(text, key.ptr, len);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "_%u", number);
    return conf->ring_is_murmur ? px_murmur2(text, len, PX_MURMUR_SEED) : lt_hash64(text, len, 0);
}

/*
 * The lightest host gets a whole number of places. The others' need not be whole: running sums keep
 * them within one of what is due.
 */
static void make_ring(const struct px_lb_conf *conf, struct px_lb_table *table)
{
    double scale = ceil(table->min_weight * (double)conf->ring_min) / table->min_weight;
    scale = LT_MIN(scale, (double)conf->ring_max);
    uint64_t room = (uint64_t)ceil(scale) + 1, at = 0;
    double target = 0;
    table->ring = lt_calloc(room, sizeof(*table->ring));
    for (uint32_t i = 0; i < table->host_count; i++) {
        target += scale * table->hosts[i].weight;
        for (uint32_t number = 0; (double)at < target && at < room; number++)
            table->ring[at++] = (struct ring_entry){
                ring_hash(conf, table->hosts[i].host->key, number), i};
    }
    table->ring_size = at;
    lt_sort(table->ring, at, sizeof(*table->ring), by_hash);
}

/* The first whose hash is not below; behind the last comes the first. */
static uint32_t find_in_ring(const struct px_lb_table *table, uint64_t hash, uint32_t attempt)
{
    uint64_t low = 0, high = table->ring_size;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (table->ring[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return table->ring[(low + attempt) % table->ring_size].item;
}

/* --- Maglev (Eisenbud et al., NSDI 2016, section 3.4) --- */

struct maglev_row {
    uint64_t offset, skip, next;
    double weight, target;
    uint32_t item;
};

static struct maglev_row *make_rows(const struct px_lb_conf *conf, const struct px_lb_table *table)
{
    struct maglev_row *rows = lt_calloc(table->host_count + 1, sizeof(*rows));
    for (uint32_t i = 0; i < table->host_count; i++) {
        lt_str key = table->hosts[i].host->key;
        rows[i] = (struct maglev_row){
            .offset = lt_hash64(key.ptr, key.len, 0) % conf->table_size,
            .skip = lt_hash64(key.ptr, key.len, 1) % (conf->table_size - 1) + 1,
            .weight = table->hosts[i].weight,
            .item = i,
        };
    }
    return rows;
}

static int by_key(const void *a, const void *b)
{
    return lt_str_cmp(((const struct weighted *)a)->host->key,
                      ((const struct weighted *)b)->host->key);
}

static void take_slot(struct px_lb_table *table, struct maglev_row *row)
{
    uint64_t at;
    do
        at = (row->offset + row->skip * row->next++) % table->slot_count;
    while (table->slots[at] != UINT32_MAX);
    table->slots[at] = row->item;
}

/* Hosts take turns; one that weighs a third of the heaviest takes every third. */
static void make_slots(const struct px_lb_conf *conf, struct px_lb_table *table)
{
    /* whoever has the same hosts has the same table, in whatever order they came */
    lt_sort(table->hosts, table->host_count, sizeof(*table->hosts), by_key);
    struct maglev_row *rows = make_rows(conf, table);
    table->slot_count = conf->table_size;
    table->slots = lt_malloc(table->slot_count * sizeof(*table->slots));
    memset(table->slots, 0xff, table->slot_count * sizeof(*table->slots));
    uint32_t filled = 0;
    for (uint64_t turn = 1; filled < table->slot_count; turn++) {
        for (uint32_t i = 0; i < table->host_count && filled < table->slot_count; i++) {
            struct maglev_row *row = &rows[i];
            if ((double)turn * row->weight < row->target)
                continue;
            row->target += table->max_weight;
            take_slot(table, row);
            filled++;
        }
    }
    free(rows);
}

/* --- a choice --- */

static struct px_lb_table *table_of(struct px_lb *lb, struct px_lb_level *level)
{
    if (level->table != NULL)
        return level->table;
    struct px_lb_table *table = lt_new(struct px_lb_table);
    level->table = table;
    normalize(lb, level, table);
    if (table->host_count == 0)
        return table;
    if (lb->conf->policy == PX_LB_MAGLEV)
        make_slots(lb->conf, table);
    else
        make_ring(lb->conf, table);
    return table;
}

/* No hosts, or a ring that the configuration gives no places (minimum_ring_size 0). */
static bool is_empty(const struct px_lb_table *table)
{
    return table->slots == NULL && table->ring_size == 0;
}

static uint32_t find(const struct px_lb_table *table, uint64_t hash, uint32_t attempt)
{
    if (table->slots == NULL)
        return find_in_ring(table, hash, attempt);
    if (attempt > 0) /* Envoy: as many bits as possible change */
        hash ^= ~0ull - attempt + 1;
    return table->slots[hash % table->slot_count];
}

/* Above 1: it has more requests than its part of the bounded load. */
static double overload(const struct px_lb *lb, const struct weighted *entry,
                       const struct px_lb_ask *ask)
{
    uint64_t all = (((uint64_t)ask->rq_active + 1) * lb->conf->balance_percent + 99) / 100;
    double slots = LT_MAX(ceil((double)all * entry->weight), 1.0);
    return (double)entry->host->rq_active / slots;
}

/*
 * Of an overloaded host's keys each has its own order of other hosts, so that not all of them fall
 * upon the next one (Mirrokni et al., arXiv 1608.01350; Chen et al., 1908.08762).
 */
static uint32_t find_with_room(const struct px_lb *lb, const struct px_lb_table *table,
                               uint32_t item, uint64_t hash, const struct px_lb_ask *ask)
{
    double least = overload(lb, &table->hosts[item], ask);
    if (least <= 1.0)
        return item;
    struct lt_prng own = {{hash, ~hash}};
    uint32_t best = item, *order = lt_calloc(table->host_count, sizeof(*order));
    for (uint32_t i = 0; i < table->host_count; i++)
        order[i] = i;
    for (uint32_t i = 0; i < table->host_count; i++) {
        uint32_t other = i + lt_prng_below(&own, table->host_count - i);
        uint32_t picked = order[other];
        order[other] = order[i];
        double load = overload(lb, &table->hosts[picked], ask);
        if (load < least) {
            best = picked;
            least = load;
        }
        if (load <= 1.0)
            break;
    }
    free(order);
    return best;
}

struct px_lb_host *px_lb_pick_hashed(struct px_lb *lb, const struct px_lb_ask *ask)
{
    uint64_t hash = ask->has_hash ? ask->hash : lt_prng_next(ask->prng);
    px_lb_from from;
    struct px_lb_level *level = px_lb_choose_level(lb, ask, hash, &from);
    if (level == NULL)
        return NULL;
    lb->counters[PX_LB_N_HEALTHY_PANIC] += level->is_panic;
    const struct px_lb_table *table = table_of(lb, level);
    struct px_lb_host *host = NULL;
    if (is_empty(table))
        return NULL;
    for (uint32_t i = 0; i < LT_MAX(ask->attempts, 1u); i++) {
        uint32_t item = find(table, hash, i);
        if (lb->conf->balance_percent > 0)
            item = find_with_room(lb, table, item, hash, ask);
        host = table->hosts[item].host;
        if (!px_lb_is_avoided(ask, host))
            break;
    }
    return host;
}
