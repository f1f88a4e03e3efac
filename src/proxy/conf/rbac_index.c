/*
 * proxy/conf/rbac_index.c - policies by what they cannot do without.
 * A policy gets keys when it cannot match unless one of them is in the request; the trees say so:
 * an AND needs each of its parts, an OR one of them. Start at: px_rbac_index_find().
 */
#include "proxy/conf/rbac_index.h"

enum { KEYS_MAX = 64 };

typedef enum { KEY_PATH, KEY_PREFIX, KEY_PRINCIPAL, KEY_NAMESPACE, KEY_KINDS } key_kind;

struct keys {
    struct {
        key_kind kind;
        lt_str text;
    } items[KEYS_MAX];
    size_t count;
    bool has_prefix;
};

/* --- what a tree cannot do without --- */

static bool add_key(struct keys *keys, key_kind kind, lt_str text)
{
    if (keys->count == KEYS_MAX)
        return false;
    keys->items[keys->count].kind = kind;
    keys->items[keys->count++].text = text;
    keys->has_prefix |= kind == KEY_PREFIX;
    return true;
}

/* "/ns/x/" in the middle of a name: how a mesh asks for a namespace. */
static bool is_namespace(const struct px_string_match *match, lt_str *ret_namespace)
{
    lt_str mark = LT_STR("/ns/"), text = match->text;
    if (match->kind != PX_MATCH_REGEX || !match->is_simple || match->simple != PX_MATCH_CONTAINS ||
        text.len <= mark.len + 1 || !lt_str_starts(text, mark) || !lt_str_ends(text, LT_STR("/")))
        return false;
    *ret_namespace = lt_str_slice(text, mark.len, text.len - 1);
    return lt_str_find_char(*ret_namespace, '/') < 0;
}

static bool collect_leaf(const struct px_rbac_node *node, bool of_path, struct keys *keys)
{
    const struct px_string_match *text = node->text;
    lt_str namespace;
    if (of_path != (node->kind == PX_RBAC_PATH) || text == NULL || text->ignore_case)
        return false;
    if (text->kind == PX_MATCH_EXACT)
        return add_key(keys, of_path ? KEY_PATH : KEY_PRINCIPAL, text->text);
    if (of_path)
        return text->kind == PX_MATCH_PREFIX && add_key(keys, KEY_PREFIX, text->text);
    return is_namespace(text, &namespace) && add_key(keys, KEY_NAMESPACE, namespace);
}

/* True: the node is NO unless one of the keys that it added is there. */
static bool collect(const struct px_rbac_node *node, bool of_path, struct keys *keys)
{
    size_t before = keys->count;
    switch (node->kind) {
    case PX_RBAC_PATH:
    case PX_RBAC_PRINCIPAL: return collect_leaf(node, of_path, keys);
    case PX_RBAC_AND:
        for (uint32_t i = 0; i < node->count; i++) {
            if (collect(&node->nodes[i], of_path, keys))
                return true;
            keys->count = before;
        }
        return false;
    case PX_RBAC_OR:
        for (uint32_t i = 0; i < node->count; i++) {
            if (!collect(&node->nodes[i], of_path, keys))
                return false;
        }
        return node->count > 0;
    default: return false;
    }
}

/* Whole paths tell the most, then principals, then how paths begin. */
static bool choose(const struct px_rbac_policy *policy, struct keys *ret_keys)
{
    struct keys by_path = {.count = 0}, by_principal = {.count = 0};
    bool has_path = collect(&policy->node, true, &by_path);
    bool has_principal = collect(&policy->node, false, &by_principal);
    bool takes_path = has_path && (!by_path.has_prefix || !has_principal);
    *ret_keys = takes_path ? by_path : by_principal;
    return takes_path || has_principal;
}

/* --- the tables --- */

/* Grows by doubling; what is left behind is the arena's. */
static void push(struct lt_arena *arena, struct px_rbac_bucket *bucket, uint32_t item)
{
    bool is_full = (bucket->count & (bucket->count - 1)) == 0;
    if (bucket->count > 0 && bucket->items[bucket->count - 1] == item)
        return; /* two keys of one policy */
    if (is_full) {
        uint32_t *items = lt_arena_make_n(arena, uint32_t, LT_MAX(bucket->count * 2, 1u));
        if (bucket->count > 0)
            memcpy(items, bucket->items, bucket->count * sizeof(*items));
        bucket->items = items;
    }
    ((uint32_t *)bucket->items)[bucket->count++] = item;
}

static bool knows_length(const struct px_rbac_index *index, size_t length)
{
    for (size_t i = 0; i < index->length_count; i++) {
        if (index->lengths[i] == length)
            return true;
    }
    return false;
}

static bool add_lengths(struct px_rbac_index *index, const struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        size_t length = keys->items[i].text.len;
        if (keys->items[i].kind != KEY_PREFIX || knows_length(index, length))
            continue;
        if (index->length_count == PX_RBAC_PREFIX_LENGTHS || length > UINT32_MAX)
            return false;
        index->lengths[index->length_count++] = (uint32_t)length;
    }
    return true;
}

const struct px_rbac_index *px_rbac_index_make(struct lt_arena *arena, const struct px_rbac *rbac)
{
    struct px_rbac_index *index = lt_arena_make(arena, struct px_rbac_index);
    struct lt_map *const maps[KEY_KINDS] = {&index->paths, &index->prefixes, &index->principals,
                                            &index->namespaces};
    for (size_t p = 0; p < rbac->count; p++) {
        struct keys keys;
        if (!choose(&rbac->policies[p], &keys) || !add_lengths(index, &keys)) {
            push(arena, &index->always, (uint32_t)p);
            continue;
        }
        for (size_t i = 0; i < keys.count; i++) {
            struct lt_map *map = maps[keys.items[i].kind];
            struct px_rbac_bucket *bucket = lt_map_find(map, keys.items[i].text);
            if (bucket == NULL) {
                bucket = lt_arena_make(arena, struct px_rbac_bucket);
                lt_map_put(map, keys.items[i].text, bucket);
            }
            push(arena, bucket, (uint32_t)p);
        }
    }
    return index;
}

/* --- finding --- */

struct search {
    const struct px_rbac *rbac;
    const struct px_rbac_facts *facts;
    bool unknown_counts;
    size_t best; /* the first that matches so far */
};

static void judge(struct search *search, const struct px_rbac_bucket *bucket)
{
    for (uint32_t i = 0; bucket != NULL && i < bucket->count; i++) {
        uint32_t at = bucket->items[i];
        if (at >= search->best)
            return;
        px_answer one = px_rbac_node_matches(&search->rbac->policies[at].node, search->facts);
        if (one == PX_YES || (one == PX_UNKNOWN && search->unknown_counts))
            search->best = at;
    }
}

static void look_up(struct search *search, const struct lt_map *map, lt_str text)
{
    if (map->count > 0)
        judge(search, lt_map_find(map, text));
}

static void look_up_path(struct search *search, const struct px_rbac_index *index)
{
    lt_str path = search->facts->path;
    if (search->facts->http == NULL)
        return;
    look_up(search, &index->paths, path);
    for (size_t i = 0; i < index->length_count; i++) {
        if (index->lengths[i] <= path.len)
            look_up(search, &index->prefixes, lt_str_slice(path, 0, index->lengths[i]));
    }
}

static void look_up_name(struct search *search, const struct px_rbac_index *index, lt_str name)
{
    lt_str mark = LT_STR("/ns/"), namespace;
    look_up(search, &index->principals, name);
    if (index->namespaces.count == 0)
        return;
    for (ptrdiff_t at; (at = lt_str_find(name, mark)) >= 0;) {
        name = lt_str_from(name, (size_t)at + mark.len - 1);
        lt_str rest = lt_str_from(name, 1);
        if (lt_str_split(&rest, '/', &namespace))
            look_up(search, &index->namespaces, namespace);
    }
}

size_t px_rbac_index_find(const struct px_rbac *rbac, const struct px_rbac_facts *facts,
                          bool unknown_counts)
{
    const struct px_rbac_index *index = rbac->index;
    struct search search = {rbac, facts, unknown_counts, rbac->count};
    judge(&search, &index->always);
    look_up_path(&search, index);
    if (!facts->is_tls)
        return search.best;
    const struct lt_cert *peer = facts->peer;
    for (size_t i = 0; peer != NULL && i < peer->san_count; i++)
        look_up_name(&search, index, peer->sans[i].value);
    look_up_name(&search, index, peer != NULL ? peer->subject : LT_STR(""));
    return search.best;
}
