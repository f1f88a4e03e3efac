/*
 * wire/doc.c - the tree: looking things up, saying where they are, building and comparing.
 * Start at: lt_doc_find(), lt_doc_error().
 */
#include "wire/doc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

const char *lt_doc_kind_name(lt_doc_kind kind)
{
    switch (kind) {
    case LT_DOC_NULL: return "null";
    case LT_DOC_BOOL: return "bool";
    case LT_DOC_INT:
    case LT_DOC_DOUBLE: return "number";
    case LT_DOC_STRING: return "string";
    case LT_DOC_ARRAY: return "array";
    case LT_DOC_OBJECT: return "object";
    }
    LT_UNREACHABLE();
}

const struct lt_doc *lt_doc_find(const struct lt_doc *object, lt_str key)
{
    if (!lt_doc_is(object, LT_DOC_OBJECT))
        return NULL;
    for (uint32_t i = 0; i < object->count; i++) {
        if (lt_str_eq(object->members[i].key, key))
            return &object->members[i].value;
    }
    return NULL;
}

const struct lt_doc *lt_doc_findz(const struct lt_doc *object, const char *key)
{
    return lt_doc_find(object, lt_str_of(key));
}

lt_str lt_doc_string(const struct lt_doc *node)
{
    return lt_doc_is(node, LT_DOC_STRING) ? node->string : LT_STR_NULL;
}

bool lt_doc_is_int(const struct lt_doc *node, int64_t *ret_value)
{
    if (lt_doc_is(node, LT_DOC_INT)) {
        *ret_value = node->integer;
        return true;
    }
    /* 2^63 itself is a double, but not an int64 */
    if (!lt_doc_is(node, LT_DOC_DOUBLE) || !(node->number >= -0x1p63 && node->number < 0x1p63) ||
        node->number != trunc(node->number))
        return false;
    *ret_value = (int64_t)node->number;
    return true;
}

bool lt_doc_is_number(const struct lt_doc *node, double *ret_value)
{
    if (lt_doc_is(node, LT_DOC_INT))
        *ret_value = (double)node->integer;
    else if (lt_doc_is(node, LT_DOC_DOUBLE))
        *ret_value = node->number;
    else
        return false;
    return true;
}

/* --- where we are --- */

static bool is_plain_key(lt_str key)
{
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && c != '_' && c != '-' && c != '@' && c != '#')
            return false;
    }
    return key.len > 0;
}

/* Formats one frame; `is_first` leaves the dot out. Returns what snprintf does. */
static int format_frame(const struct lt_doc_path *frame, bool is_first, char *out, size_t size)
{
    if (frame->key.ptr == NULL)
        return snprintf(out, size, "[%zu]", frame->index);
    if (!is_plain_key(frame->key))
        return snprintf(out, size, "[\"%.*s\"]", (int)LT_MIN(frame->key.len, (size_t)200),
                        frame->key.ptr);
    return snprintf(out, size, "%s%.*s", is_first ? "" : ".",
                    (int)LT_MIN(frame->key.len, (size_t)200), frame->key.ptr);
}

static bool is_root(const struct lt_doc_path *path)
{
    return path == NULL || path->up == NULL;
}

char *lt_doc_path_format(const struct lt_doc_path *path, char *out, size_t size)
{
    LT_ASSERT(size >= 4);
    /* from the inside out: each frame is put before what is there already */
    char frame[256];
    size_t at = size - 1;
    out[at] = '\0';
    for (; !is_root(path); path = path->up) {
        size_t len = (size_t)format_frame(path, is_root(path->up), frame, sizeof(frame));
        len = LT_MIN(len, sizeof(frame) - 1);
        if (len + 3 > at) {
            at -= 3;
            memcpy(out + at, "...", 3);
            break;
        }
        at -= len;
        memcpy(out + at, frame, len);
    }
    memmove(out, out + at, size - at);
    return out;
}

lt_rc lt_doc_error(struct lt_err *err, lt_rc rc, const struct lt_doc_path *path,
                   const struct lt_doc *node, const char *fmt, ...)
{
    if (err == NULL)
        return rc;
    char where[512], text[512];
    lt_doc_path_format(path, where, sizeof(where));
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    const char *colon = where[0] != '\0' ? ": " : "";
    if (node != NULL && node->line != 0)
        return lt_err_set(err, rc, "line %u: %s%s%s", node->line, where, colon, text);
    return lt_err_set(err, rc, "%s%s%s", where, colon, text);
}

lt_rc lt_doc_expected(struct lt_err *err, const struct lt_doc_path *path, const struct lt_doc *node,
                      const char *what)
{
    return lt_doc_error(err, LT_E_BAD, path, node, "expected %s, got %s", what,
                        lt_doc_kind_name(node->kind));
}

/* --- building --- */

struct lt_doc lt_doc_of_null(void)
{
    return (struct lt_doc){.kind = LT_DOC_NULL};
}

struct lt_doc lt_doc_of_bool(bool value)
{
    return (struct lt_doc){.kind = LT_DOC_BOOL, .boolean = value};
}

struct lt_doc lt_doc_of_int(int64_t value)
{
    return (struct lt_doc){.kind = LT_DOC_INT, .integer = value};
}

struct lt_doc lt_doc_of_double(double value)
{
    return (struct lt_doc){.kind = LT_DOC_DOUBLE, .number = value};
}

struct lt_doc lt_doc_of_str(lt_str value)
{
    return (struct lt_doc){.kind = LT_DOC_STRING, .string = value};
}

struct lt_doc lt_doc_of_object(void)
{
    return (struct lt_doc){.kind = LT_DOC_OBJECT};
}

struct lt_doc lt_doc_of_array(void)
{
    return (struct lt_doc){.kind = LT_DOC_ARRAY};
}

/* The array again with room for more; the old one stays behind in the arena. */
static void *grown(struct lt_arena *arena, const void *old, uint32_t count, size_t size,
                   uint32_t *cap)
{
    uint32_t more = LT_MAX(4u, *cap * 2);
    LT_ASSERT(more > *cap);
    void *bigger = lt_arena_alloc(arena, lt_size_mul(more, size));
    if (count > 0)
        memcpy(bigger, old, count * size);
    *cap = more;
    return bigger;
}

struct lt_doc *lt_doc_set(struct lt_arena *arena, struct lt_doc *object, lt_str key,
                          struct lt_doc value)
{
    LT_ASSERT(object->kind == LT_DOC_OBJECT);
    for (uint32_t i = 0; i < object->count; i++) {
        if (lt_str_eq(object->members[i].key, key)) {
            object->members[i].value = value;
            return &object->members[i].value;
        }
    }
    if (object->count == object->cap)
        object->members = grown(arena, object->members, object->count, sizeof(struct lt_doc_member),
                                &object->cap);
    struct lt_doc_member *member = &object->members[object->count++];
    *member = (struct lt_doc_member){key, value};
    return &member->value;
}

struct lt_doc *lt_doc_push(struct lt_arena *arena, struct lt_doc *array, struct lt_doc value)
{
    LT_ASSERT(array->kind == LT_DOC_ARRAY);
    if (array->count == array->cap)
        array->items = grown(arena, array->items, array->count, sizeof(struct lt_doc), &array->cap);
    array->items[array->count] = value;
    return &array->items[array->count++];
}

struct lt_doc lt_doc_copy(struct lt_arena *arena, const struct lt_doc *node)
{
    struct lt_doc copy = *node;
    copy.cap = node->count;
    switch (node->kind) {
    case LT_DOC_STRING: copy.string = lt_arena_str(arena, node->string); break;
    case LT_DOC_ARRAY:
        copy.items = lt_arena_make_n(arena, struct lt_doc, node->count);
        for (uint32_t i = 0; i < node->count; i++)
            copy.items[i] = lt_doc_copy(arena, &node->items[i]);
        break;
    case LT_DOC_OBJECT:
        copy.members = lt_arena_make_n(arena, struct lt_doc_member, node->count);
        for (uint32_t i = 0; i < node->count; i++) {
            copy.members[i].key = lt_arena_str(arena, node->members[i].key);
            copy.members[i].value = lt_doc_copy(arena, &node->members[i].value);
        }
        break;
    default: break;
    }
    return copy;
}

/* --- comparing --- */

static bool same_items(const struct lt_doc *a, const struct lt_doc *b)
{
    for (uint32_t i = 0; i < a->count; i++) {
        if (!lt_doc_eq(&a->items[i], &b->items[i]))
            return false;
    }
    return true;
}

static bool same_members(const struct lt_doc *a, const struct lt_doc *b)
{
    for (uint32_t i = 0; i < a->count; i++) {
        /* equal trees mostly have equal order */
        const struct lt_doc_member *member = &a->members[i];
        const struct lt_doc *other = lt_str_eq(b->members[i].key, member->key)
                                         ? &b->members[i].value
                                         : lt_doc_find(b, member->key);
        if (other == NULL || !lt_doc_eq(&member->value, other))
            return false;
    }
    return true;
}

bool lt_doc_eq(const struct lt_doc *a, const struct lt_doc *b)
{
    if (a->kind == LT_DOC_INT && b->kind == LT_DOC_INT)
        return a->integer == b->integer;
    double x = 0, y = 0;
    if (lt_doc_is_number(a, &x))
        return lt_doc_is_number(b, &y) && x == y;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case LT_DOC_BOOL: return a->boolean == b->boolean;
    case LT_DOC_STRING: return lt_str_eq(a->string, b->string);
    case LT_DOC_ARRAY: return a->count == b->count && same_items(a, b);
    case LT_DOC_OBJECT: return a->count == b->count && same_members(a, b);
    default: return true;
    }
}
