/*
 * wire/doc_build.c - from parser events to the tree.
 * Start at: lt_doc_builder_add(), lt_doc_builder_close().
 */
#include "wire/doc_build.h"

#include <stdlib.h>

#include "base/map.h"

/* Up to here a look at each pair of keys is cheaper than a table. */
enum { SMALL_OBJECT = 8 };

void lt_doc_builder_init(struct lt_doc_builder *b, struct lt_arena *arena,
                         const struct lt_doc_limits *limits)
{
    *b = (struct lt_doc_builder){.arena = arena,
                                 .limits = limits != NULL ? *limits : LT_DOC_LIMITS_DEFAULT};
}

void lt_doc_builder_fini(struct lt_doc_builder *b)
{
    free(b->stack);
    free(b->levels);
    *b = (struct lt_doc_builder){0};
}

static lt_rc out_of_arena(uint32_t line, struct lt_err *err)
{
    return lt_err_set(err, LT_E_LIMIT, "line %u: more than the memory set aside for it", line);
}

lt_rc lt_doc_builder_text(struct lt_doc_builder *b, lt_str s, lt_str *ret_copy, struct lt_err *err)
{
    char *copy = lt_arena_try_bytes(b->arena, s.len + 1);
    if (copy == NULL)
        return lt_err_set(err, LT_E_LIMIT, "more than the memory set aside for it");
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    *ret_copy = (lt_str){copy, s.len};
    return LT_OK;
}

static struct lt_doc_level *top_level(const struct lt_doc_builder *b)
{
    return b->depth == 0 ? NULL : &b->levels[b->depth - 1];
}

bool lt_doc_builder_wants_key(const struct lt_doc_builder *b)
{
    const struct lt_doc_level *top = top_level(b);
    return top != NULL && top->kind == LT_DOC_OBJECT && !top->has_key;
}

void lt_doc_builder_key(struct lt_doc_builder *b, lt_str key, bool is_merge)
{
    LT_ASSERT(lt_doc_builder_wants_key(b));
    struct lt_doc_level *top = top_level(b);
    top->key = key;
    top->has_key = true;
    top->is_merge = is_merge;
    top->has_merges |= is_merge;
}

static lt_rc count_nodes(struct lt_doc_builder *b, uint32_t nodes, uint32_t line,
                         struct lt_err *err)
{
    if (nodes > b->limits.nodes_max || b->nodes > b->limits.nodes_max - nodes)
        return lt_err_set(err, LT_E_LIMIT, "line %u: more than %u values", line,
                          b->limits.nodes_max);
    b->nodes += nodes;
    return LT_OK;
}

static lt_rc check_depth(const struct lt_doc_builder *b, uint32_t height, uint32_t line,
                         struct lt_err *err)
{
    if (height > b->limits.depth_max || b->depth > b->limits.depth_max - height)
        return lt_err_set(err, LT_E_LIMIT, "line %u: nested deeper than %u", line,
                          b->limits.depth_max);
    return LT_OK;
}

static void grow_stack(struct lt_doc_builder *b)
{
    b->stack_cap = LT_MAX((size_t)32, b->stack_cap * 2);
    b->stack = lt_realloc(b->stack, lt_size_mul(b->stack_cap, sizeof(*b->stack)));
}

lt_rc lt_doc_builder_open(struct lt_doc_builder *b, lt_doc_kind kind, uint32_t line,
                          struct lt_err *err)
{
    LT_ASSERT(!b->is_done && (kind == LT_DOC_ARRAY || kind == LT_DOC_OBJECT) &&
              !lt_doc_builder_wants_key(b));
    LT_TRY(check_depth(b, 1, line, err));
    uint32_t before = b->nodes;
    LT_TRY(count_nodes(b, 1, line, err));
    if (b->stack == NULL)
        grow_stack(b);
    if (b->depth == b->levels_cap) {
        b->levels_cap = LT_MAX(16u, b->levels_cap * 2);
        b->levels = lt_realloc(b->levels, lt_size_mul(b->levels_cap, sizeof(*b->levels)));
    }
    b->levels[b->depth++] = (struct lt_doc_level){
        .kind = kind, .line = line, .first = b->stack_count, .nodes_before = before};
    return LT_OK;
}

/* A finished node goes to the level above, or is the root. Its nodes are counted already. */
static void put(struct lt_doc_builder *b, const struct lt_doc_built *value)
{
    struct lt_doc_level *top = top_level(b);
    b->last = *value;
    if (top == NULL) {
        b->is_done = true;
        return;
    }
    LT_ASSERT(top->kind == LT_DOC_ARRAY || top->has_key);
    if (b->stack_count == b->stack_cap)
        grow_stack(b);
    /* a merge is marked by a key without text; it is gone when the level closes */
    lt_str key = top->is_merge ? LT_STR_NULL : top->key;
    b->stack[b->stack_count++] = (struct lt_doc_member){key, value->node};
    top->has_key = top->is_merge = false;
    top->height = LT_MAX(top->height, value->height);
}

lt_rc lt_doc_builder_add(struct lt_doc_builder *b, const struct lt_doc_built *value,
                         struct lt_err *err)
{
    LT_ASSERT(!b->is_done);
    LT_TRY(check_depth(b, value->height, value->node.line, err));
    LT_TRY(count_nodes(b, value->nodes, value->node.line, err));
    put(b, value);
    return LT_OK;
}

lt_rc lt_doc_builder_add_scalar(struct lt_doc_builder *b, struct lt_doc value, struct lt_err *err)
{
    return lt_doc_builder_add(b, &(struct lt_doc_built){value, 1, 0}, err);
}

/* --- closing an object: keys differ, merges are merged --- */

static lt_rc written_twice(const struct lt_doc_member *member, struct lt_err *err)
{
    return lt_err_set(err, LT_E_BAD, "line %u: key \"%.*s\" is written twice", member->value.line,
                      (int)LT_MIN(member->key.len, (size_t)200), member->key.ptr);
}

static lt_rc check_few_keys(const struct lt_doc_member *members, size_t count, struct lt_err *err)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (lt_str_eq(members[i].key, members[j].key))
                return written_twice(&members[i], err);
        }
    }
    return LT_OK;
}

static lt_rc put_keys(struct lt_map *keys, struct lt_doc_member *members, size_t count,
                      struct lt_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].key.ptr != NULL && lt_map_put(keys, members[i].key, &members[i]) != NULL)
            return written_twice(&members[i], err);
    }
    return LT_OK;
}

static lt_rc check_many_keys(struct lt_doc_member *members, size_t count, struct lt_err *err)
{
    struct lt_map keys;
    lt_map_init(&keys);
    lt_rc rc = put_keys(&keys, members, count, err);
    lt_map_fini(&keys);
    return rc;
}

/* Members of `from` whose keys are new, behind *out. */
static void merge_object(struct lt_map *keys, const struct lt_doc *from, struct lt_doc *out)
{
    for (uint32_t i = 0; i < from->count; i++) {
        if (lt_map_find(keys, from->members[i].key) != NULL)
            continue;
        out->members[out->count] = from->members[i];
        lt_map_put(keys, from->members[i].key, &out->members[out->count++]);
    }
}

/* How many members a merge value can bring, or LT_E_BAD when it is neither an object nor a list of
 * them. */
static lt_rc count_merge(const struct lt_doc *value, size_t *count, struct lt_err *err)
{
    if (value->kind == LT_DOC_OBJECT) {
        *count += value->count;
        return LT_OK;
    }
    bool is_good = value->kind == LT_DOC_ARRAY;
    for (uint32_t i = 0; is_good && i < value->count; i++) {
        is_good = value->items[i].kind == LT_DOC_OBJECT;
        *count += is_good ? value->items[i].count : 0;
    }
    return is_good
               ? LT_OK
               : lt_err_set(err, LT_E_BAD, "line %u: \"<<\" needs an object or a list of objects",
                            value->line);
}

/* Own keys win over merged ones, earlier merges over later ones (YAML 1.1 merge key). */
static lt_rc merge_members(struct lt_doc_builder *b, struct lt_doc_member *members, size_t count,
                           struct lt_map *keys, struct lt_doc *out, struct lt_err *err)
{
    size_t total = count;
    LT_TRY(put_keys(keys, members, count, err));
    for (size_t i = 0; i < count; i++) {
        if (members[i].key.ptr == NULL)
            LT_TRY(count_merge(&members[i].value, &total, err));
    }
    LT_TRY(count_nodes(b, (uint32_t)LT_MIN(total - count, (size_t)UINT32_MAX), out->line, err));
    out->members = lt_arena_try_alloc(b->arena, total * sizeof(struct lt_doc_member));
    if (out->members == NULL)
        return out_of_arena(out->line, err);
    out->cap = (uint32_t)total;
    for (size_t i = 0; i < count; i++) {
        if (members[i].key.ptr != NULL)
            out->members[out->count++] = members[i];
    }
    for (size_t i = 0; i < count; i++) {
        const struct lt_doc *value = &members[i].value;
        if (members[i].key.ptr != NULL)
            continue;
        if (value->kind == LT_DOC_OBJECT)
            merge_object(keys, value, out);
        for (uint32_t j = 0; value->kind == LT_DOC_ARRAY && j < value->count; j++)
            merge_object(keys, &value->items[j], out);
    }
    return LT_OK;
}

static lt_rc close_object(struct lt_doc_builder *b, const struct lt_doc_level *level,
                          struct lt_doc *out, struct lt_err *err)
{
    struct lt_doc_member *members = b->stack + level->first;
    size_t count = b->stack_count - level->first;
    if (level->has_merges) {
        struct lt_map keys;
        lt_map_init(&keys);
        lt_rc rc = merge_members(b, members, count, &keys, out, err);
        lt_map_fini(&keys);
        return rc;
    }
    LT_TRY(count <= SMALL_OBJECT ? check_few_keys(members, count, err)
                                 : check_many_keys(members, count, err));
    if (count == 0)
        return LT_OK;
    out->members = lt_arena_try_alloc(b->arena, count * sizeof(struct lt_doc_member));
    if (out->members == NULL)
        return out_of_arena(out->line, err);
    memcpy(out->members, members, count * sizeof(struct lt_doc_member));
    out->count = out->cap = (uint32_t)count;
    return LT_OK;
}

static lt_rc close_array(struct lt_doc_builder *b, const struct lt_doc_level *level,
                         struct lt_doc *out, struct lt_err *err)
{
    size_t count = b->stack_count - level->first;
    if (count == 0)
        return LT_OK;
    out->items = lt_arena_try_alloc(b->arena, count * sizeof(struct lt_doc));
    if (out->items == NULL)
        return out_of_arena(out->line, err);
    for (size_t i = 0; i < count; i++)
        out->items[i] = b->stack[level->first + i].value;
    out->count = out->cap = (uint32_t)count;
    return LT_OK;
}

lt_rc lt_doc_builder_close(struct lt_doc_builder *b, struct lt_err *err)
{
    LT_ASSERT(b->depth > 0 && !top_level(b)->has_key);
    struct lt_doc_level level = *top_level(b);
    struct lt_doc_built built = {.node = {.kind = level.kind, .line = level.line},
                                 .height = level.height + 1};
    LT_TRY(level.kind == LT_DOC_OBJECT ? close_object(b, &level, &built.node, err)
                                       : close_array(b, &level, &built.node, err));
    built.nodes = b->nodes - level.nodes_before;
    b->stack_count = level.first;
    b->depth--;
    put(b, &built);
    return LT_OK;
}
