/*
 * proxy/conf/meta.c - dynamic metadata, and how it is matched.
 */
#include "proxy/conf/meta.h"

#include "proxy/conf/route_match.h"

static struct px_meta *find(const struct px_meta *meta, lt_str filter)
{
    for (; meta != NULL; meta = meta->next) {
        if (lt_str_eq(meta->filter, filter))
            return (struct px_meta *)meta;
    }
    return NULL;
}

const struct lt_doc *px_meta_find(const struct px_meta *meta, lt_str filter)
{
    const struct px_meta *found = find(meta, filter);
    return found != NULL ? &found->doc : NULL;
}

void px_meta_put(struct lt_arena *arena, const struct px_meta **meta, lt_str filter, lt_str key,
                 struct lt_doc value)
{
    struct px_meta *entry = find(*meta, filter);
    if (entry == NULL) {
        entry = lt_arena_make(arena, struct px_meta);
        entry->filter = filter;
        entry->doc = lt_doc_of_object();
        entry->next = *meta;
        *meta = entry;
    }
    lt_doc_set(arena, &entry->doc, key, value);
}

void px_meta_merge(struct lt_arena *arena, const struct px_meta **meta, lt_str filter,
                   const struct lt_doc *object)
{
    for (uint32_t i = 0; lt_doc_is(object, LT_DOC_OBJECT) && i < object->count; i++)
        px_meta_put(arena, meta, filter, object->members[i].key, object->members[i].value);
}

/* --- matching; as deep as the matcher, whose depth was limited when it was made --- */

static bool any_item(const struct px_value_match *match, const struct lt_doc *node)
{
    for (uint32_t i = 0; lt_doc_is(node, LT_DOC_ARRAY) && i < node->count; i++) {
        if (px_value_matches(match, &node->items[i]))
            return true;
    }
    return false;
}

bool px_value_matches(const struct px_value_match *match, const struct lt_doc *node)
{
    double number = 0;
    switch (match->kind) {
    case PX_VALUE_NULL: return lt_doc_is(node, LT_DOC_NULL);
    case PX_VALUE_STRING:
        return lt_doc_is(node, LT_DOC_STRING) && px_string_matches(&match->text, node->string);
    case PX_VALUE_BOOL: return lt_doc_is(node, LT_DOC_BOOL) && node->boolean == match->flag;
    case PX_VALUE_NUMBER: return lt_doc_is_number(node, &number) && number == match->from;
    case PX_VALUE_RANGE:
        return lt_doc_is_number(node, &number) && number >= match->from && number < match->to;
    case PX_VALUE_PRESENT: return (node != NULL) == match->flag;
    case PX_VALUE_LIST: return any_item(match->inner, node);
    case PX_VALUE_OR:
        for (size_t i = 0; i < match->inner_count; i++) {
            if (px_value_matches(&match->inner[i], node))
                return true;
        }
        return false;
    }
    return false;
}

bool px_meta_matches(const struct px_meta_match *match, const struct px_meta *meta)
{
    const struct lt_doc *node = px_meta_find(meta, match->filter);
    for (size_t i = 0; node != NULL && i < match->depth; i++)
        node = lt_doc_find(node, match->path[i]);
    return px_value_matches(&match->value, node) != match->invert;
}
