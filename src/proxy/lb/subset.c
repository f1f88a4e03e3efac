/*
 * proxy/lb/subset.c - subsets of a cluster by metadata: one balancer for each combination of values
 * that a selector's keys have among the hosts, and what to do when a request asks for another.
 * Start at: px_lb_subsets_set(), px_lb_pick_subset().
 */
#include <stdlib.h>

#include "base/vec.h"
#include "proxy/lb/lb_priv.h"
#include "wire/json.h"

enum { KEY_TEXT_MAX = 4096, KEYS_MAX = 16 };

struct subset {
    char *key; /* owned; "k=v\n" for each key, in order */
    struct lt_vec hosts;
    struct px_lb *lb; /* owned; made at the first choice */
    bool is_single;
    bool is_seen; /* in the newest set */
};

struct px_lb_subsets {
    struct px_lb_conf conf;      /* the cluster's, without subsets */
    struct lt_map by_key;        /* key -> struct subset, owned */
    struct subset any, fallback; /* all hosts; those of default_subset. Without key */
    struct px_lb_set set;        /* the newest; its hosts are in the subsets */
    uint32_t count;              /* with hosts */
};

/* --- keys --- */

struct key_text {
    char text[KEY_TEXT_MAX];
    size_t len;
    bool is_full;
};

static void add_to_key(struct key_text *key, lt_str name, lt_str value)
{
    if (key->len + name.len + value.len + 2 > sizeof(key->text)) {
        key->is_full = true;
        return;
    }
    char *p = key->text + key->len;
    memcpy(p, name.ptr, name.len);
    p[name.len] = '=';
    memcpy(p + name.len + 1, value.ptr, value.len);
    p[name.len + 1 + value.len] = '\n';
    key->len += name.len + value.len + 2;
}

static lt_str find_value(const struct px_metas *metas, lt_str key)
{
    for (size_t i = 0; metas != NULL && i < metas->count; i++) {
        if (lt_str_eq(metas->items[i].key, key))
            return metas->items[i].value;
    }
    return LT_STR_NULL;
}

/* --- which hosts are in which --- */

static struct subset *get_subset(struct px_lb *lb, const struct key_text *key)
{
    struct px_lb_subsets *subsets = lb->subsets;
    struct subset *subset = lt_map_find(&subsets->by_key, lt_str_make(key->text, key->len));
    if (subset != NULL)
        return subset;
    subset = lt_new(struct subset);
    subset->key = lt_str_dupz(lt_str_make(key->text, key->len));
    lt_map_put(&subsets->by_key, lt_str_make(subset->key, key->len), subset);
    return subset;
}

static void put_host(struct px_lb *lb, const struct px_subset_selector *selector,
                     const struct key_text *key, struct px_lb_host *host)
{
    struct subset *subset = get_subset(lb, key);
    if (!subset->is_seen) {
        subset->is_seen = true;
        lb->counters[PX_LB_N_SUBSETS_CREATED] += subset->lb == NULL && subset->hosts.cap == 0;
        lb->subsets->count++;
    }
    subset->is_single = selector->is_single_host;
    if (subset->hosts.count == 0 || subset->hosts.items[subset->hosts.count - 1] != host)
        lt_vec_push(&subset->hosts, host);
}

/* Of a list each value stands for itself, when the configuration says so. */
static void put_host_by_keys(struct px_lb *lb, const struct px_subset_selector *selector, size_t at,
                             const struct key_text *before, struct px_lb_host *host)
{
    if (at == selector->key_count) {
        put_host(lb, selector, before, host);
        return;
    }
    struct key_text key = *before;
    lt_str value = find_value(host->metas, selector->keys[at]);
    if (value.len == 0)
        return;
    if (!lb->conf->subset->list_as_any || value.ptr[0] != '[') {
        add_to_key(&key, selector->keys[at], value);
        if (!key.is_full)
            put_host_by_keys(lb, selector, at + 1, &key, host);
        return;
    }
    struct lt_arena *arena = lt_arena_new(1024, 0);
    const struct lt_doc *list = NULL;
    lt_rc rc = lt_json_parse(arena, value, NULL, &list, NULL);
    for (size_t i = 0; rc == LT_OK && i < list->count; i++) {
        struct lt_buf text;
        struct lt_json_writer w;
        lt_buf_init(&text, KEY_TEXT_MAX);
        lt_json_writer_init(&w, &text, 0);
        lt_json_doc(&w, &list->items[i]);
        key = *before;
        if (lt_json_writer_finish(&w) == LT_OK)
            add_to_key(&key, selector->keys[at], lt_buf_str(&text));
        if (!key.is_full && key.len > before->len)
            put_host_by_keys(lb, selector, at + 1, &key, host);
        lt_buf_fini(&text);
    }
    lt_arena_free(&arena);
}

static bool is_in_default(const struct px_subset_conf *conf, const struct px_lb_host *host)
{
    for (size_t i = 0; i < conf->default_subset.count; i++) {
        const struct px_meta_pair *pair = &conf->default_subset.items[i];
        if (!lt_str_eq(find_value(host->metas, pair->key), pair->value))
            return false;
    }
    return true;
}

static void place_host(struct px_lb *lb, struct px_lb_host *host)
{
    const struct px_subset_conf *conf = lb->conf->subset;
    static const struct key_text empty;
    lt_vec_push(&lb->subsets->any.hosts, host);
    if (is_in_default(conf, host))
        lt_vec_push(&lb->subsets->fallback.hosts, host);
    for (size_t i = 0; i < conf->selector_count; i++) {
        if (conf->selectors[i].key_count <= KEYS_MAX && conf->selectors[i].key_count > 0)
            put_host_by_keys(lb, &conf->selectors[i], 0, &empty, host);
    }
}

/* --- sets --- */

static void empty_subset(struct subset *subset)
{
    px_lb_free(&subset->lb);
    subset->hosts.count = 0;
    subset->is_seen = false;
}

static void free_subset(struct subset *subset)
{
    px_lb_free(&subset->lb);
    lt_vec_fini(&subset->hosts);
    free(subset->key);
}

void px_lb_subsets_free(struct px_lb_subsets **pointer)
{
    struct px_lb_subsets *subsets = *pointer;
    *pointer = NULL;
    if (subsets == NULL)
        return;
    for (size_t i = 0; i < subsets->by_key.count; i++) {
        free_subset(subsets->by_key.entries[i].value);
        free(subsets->by_key.entries[i].value);
    }
    lt_map_fini(&subsets->by_key);
    free_subset(&subsets->any);
    free_subset(&subsets->fallback);
    free(subsets);
}

static void drop_unseen(struct px_lb *lb)
{
    struct lt_map *map = &lb->subsets->by_key;
    for (size_t i = 0; i < map->count;) {
        struct subset *subset = map->entries[i].value;
        if (subset->is_seen) {
            i++;
            continue;
        }
        lt_map_remove(map, map->entries[i].key);
        lb->counters[PX_LB_N_SUBSETS_REMOVED]++;
        free_subset(subset);
        free(subset);
    }
}

/* Envoy: inside a subset localities have their weights only when it says so. */
static void set_localities(struct px_lb_subsets *subsets, const struct px_subset_conf *conf,
                           const struct px_lb_set *set)
{
    subsets->set = *set;
    subsets->set.hosts = NULL;
    if (!conf->locality_weight_aware && subsets->conf.locality == PX_LOCALITY_WEIGHTED)
        subsets->conf.locality = PX_LOCALITY_NONE;
}

void px_lb_subsets_set(struct px_lb *lb, const struct px_lb_set *set)
{
    const struct px_subset_conf *conf = lb->conf->subset;
    if (conf == NULL) {
        px_lb_subsets_free(&lb->subsets);
        return;
    }
    if (lb->subsets == NULL)
        lb->subsets = lt_new(struct px_lb_subsets);
    struct px_lb_subsets *subsets = lb->subsets;
    subsets->conf = *lb->conf;
    subsets->conf.subset = NULL;
    set_localities(subsets, conf, set);
    for (size_t i = 0; i < subsets->by_key.count; i++)
        empty_subset(subsets->by_key.entries[i].value);
    empty_subset(&subsets->any);
    empty_subset(&subsets->fallback);
    subsets->count = 0;
    for (uint32_t i = 0; i < lb->host_count; i++)
        place_host(lb, lb->hosts[i]);
    drop_unseen(lb);
}

uint32_t px_lb_subset_count(const struct px_lb *lb)
{
    return lb->subsets == NULL ? 0 : lb->subsets->count;
}

/* --- a choice --- */

/* Localities of a subset weigh as much less as they have fewer hosts in it. */
static struct px_locality *scale_localities(const struct px_lb *lb, const struct subset *subset)
{
    const struct px_lb_set *set = &lb->subsets->set;
    uint32_t *all = lt_calloc(set->locality_count + 1, sizeof(*all));
    uint32_t *own = lt_calloc(set->locality_count + 1, sizeof(*own));
    struct px_locality *scaled = lt_calloc(set->locality_count + 1, sizeof(*scaled));
    for (uint32_t i = 0; i < lb->host_count; i++)
        all[lb->hosts[i]->locality]++;
    for (size_t i = 0; i < subset->hosts.count; i++)
        own[((const struct px_lb_host *)subset->hosts.items[i])->locality]++;
    for (size_t i = 0; i < set->locality_count; i++) {
        scaled[i] = set->localities[i];
        if (all[i] > 0 && own[i] > 0)
            scaled[i].weight = (uint32_t)LT_MAX((uint64_t)scaled[i].weight * own[i] / all[i],
                                                (uint64_t)1);
    }
    free(all);
    free(own);
    return scaled;
}

static struct px_lb_host *pick_from(struct px_lb *lb, struct subset *subset,
                                    const struct px_lb_ask *ask)
{
    const struct px_subset_conf *conf = lb->conf->subset;
    if (subset->hosts.count == 0)
        return NULL;
    if (subset->is_single)
        return subset->hosts.items[0];
    if (subset->lb == NULL) {
        struct px_lb_set set = lb->subsets->set;
        set.hosts = (struct px_lb_host *const *)subset->hosts.items;
        set.count = subset->hosts.count;
        struct px_locality *scaled = NULL;
        if (conf->locality_weight_aware && conf->scale_locality_weight)
            set.localities = scaled = scale_localities(lb, subset);
        subset->lb = px_lb_new();
        subset->lb->own_localities = scaled;
        px_lb_set(subset->lb, &lb->subsets->conf, &set);
    }
    uint64_t panics = subset->lb->counters[PX_LB_N_HEALTHY_PANIC];
    struct px_lb_host *host = px_lb_pick_plain(subset->lb, ask);
    lb->counters[PX_LB_N_HEALTHY_PANIC] += subset->lb->counters[PX_LB_N_HEALTHY_PANIC] - panics;
    return host;
}

static struct subset *find_subset(struct px_lb *lb, const struct px_metas *metas)
{
    struct key_text key = {.len = 0};
    for (size_t i = 0; i < metas->count; i++)
        add_to_key(&key, metas->items[i].key, metas->items[i].value);
    return key.is_full || key.len == 0
               ? NULL
               : lt_map_find(&lb->subsets->by_key, lt_str_make(key.text, key.len));
}

/* The selector with exactly the keys that are asked for. */
static const struct px_subset_selector *find_selector(const struct px_subset_conf *conf,
                                                      const struct px_metas *metas)
{
    for (size_t i = 0; i < conf->selector_count; i++) {
        const struct px_subset_selector *selector = &conf->selectors[i];
        size_t hit = 0;
        while (hit < selector->key_count && hit < metas->count &&
               lt_str_eq(selector->keys[hit], metas->items[hit].key))
            hit++;
        if (hit == selector->key_count && hit == metas->count)
            return selector;
    }
    return NULL;
}

static struct px_lb_host *fall_back(struct px_lb *lb, const struct px_lb_ask *ask)
{
    struct px_lb_subsets *subsets = lb->subsets;
    struct subset *from = lb->conf->subset->fallback == PX_SUBSET_ANY       ? &subsets->any
                          : lb->conf->subset->fallback == PX_SUBSET_DEFAULT ? &subsets->fallback
                                                                            : NULL;
    struct px_lb_host *host = from != NULL ? pick_from(lb, from, ask) : NULL;
    if (host != NULL) {
        lb->counters[PX_LB_N_SUBSETS_FALLBACK]++;
        return host;
    }
    if (!lb->conf->subset->panic_mode_any)
        return NULL;
    host = pick_from(lb, &subsets->any, ask);
    lb->counters[PX_LB_N_SUBSETS_FALLBACK_PANIC] += host != NULL;
    return host;
}

static struct px_lb_host *pick_by_keys(struct px_lb *lb, const struct px_subset_selector *selector,
                                       const struct px_lb_ask *ask)
{
    struct px_meta_pair pairs[KEYS_MAX];
    struct px_metas fewer = {pairs, 0};
    for (size_t i = 0; i < ask->metas->count && fewer.count < KEYS_MAX; i++) {
        for (size_t j = 0; j < selector->fallback_key_count; j++) {
            if (lt_str_eq(ask->metas->items[i].key, selector->fallback_keys[j]))
                pairs[fewer.count++] = ask->metas->items[i];
        }
    }
    struct px_lb_ask again = *ask;
    again.metas = &fewer;
    /* ends: each time there are fewer keys, which the compiler of the configuration saw to */
    return px_lb_pick_subset(lb, &again);
}

struct px_lb_host *px_lb_pick_subset(struct px_lb *lb, const struct px_lb_ask *ask)
{
    struct px_lb_subsets *subsets = lb->subsets;
    if (ask->metas == NULL)
        return fall_back(lb, ask);
    struct subset *subset = find_subset(lb, ask->metas);
    if (subset != NULL && subset->hosts.count > 0) {
        lb->counters[PX_LB_N_SUBSETS_SELECTED]++;
        return pick_from(lb, subset, ask);
    }
    const struct px_subset_selector *selector = find_selector(lb->conf->subset, ask->metas);
    switch (selector != NULL ? selector->fallback : PX_SUBSET_UNDEFINED) {
    case PX_SUBSET_UNDEFINED: return fall_back(lb, ask);
    case PX_SUBSET_NONE: return NULL;
    case PX_SUBSET_ANY: return pick_from(lb, &subsets->any, ask);
    case PX_SUBSET_DEFAULT: return pick_from(lb, &subsets->fallback, ask);
    case PX_SUBSET_KEYS: return pick_by_keys(lb, selector, ask);
    }
    return NULL;
}
