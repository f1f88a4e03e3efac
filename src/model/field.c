/*
 * model/field.c - documents to structs by table.
 * One function a type of field; lists and messages call back into lt_field_read. The depth of
 * recursion is that of the schemas (none is recursive), not that of the document.
 */
#include "model/field.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/env.h"

enum { PATH_MAX_TEXT = 512 };

static void read_field(struct lt_field_reader *reader, const struct lt_doc *node,
                       const struct lt_field *field, void *slot, const struct lt_doc_path *path);

lt_str lt_kvs_find(const struct lt_kvs *kvs, lt_str key)
{
    for (size_t i = 0; i < kvs->count; i++) {
        if (lt_str_eq(kvs->items[i].key, key))
            return kvs->items[i].value;
    }
    return LT_STR_NULL;
}

bool lt_kvs_contain(const struct lt_kvs *have, const struct lt_kvs *wanted)
{
    for (size_t i = 0; i < wanted->count; i++) {
        lt_str value = lt_kvs_find(have, wanted->items[i].key);
        if (value.ptr == NULL || !lt_str_eq(value, wanted->items[i].value))
            return false;
    }
    return true;
}

bool lt_strs_contain(const struct lt_strs *strs, lt_str s)
{
    for (size_t i = 0; i < strs->count; i++) {
        if (lt_str_eq(strs->items[i], s))
            return true;
    }
    return false;
}

const char *lt_enum_name(const struct lt_enum_value *values, int64_t value)
{
    for (; values->name != NULL; values++) {
        if (values->value == value)
            return values->name;
    }
    return "?";
}

/* ---- notes ---- */

static void add_note(struct lt_field_reader *reader, lt_note_level level, const struct lt_doc *node,
                     const struct lt_doc_path *path, const char *fmt, va_list args)
{
    reader->errors += level == LT_NOTE_ERROR;
    if (reader->notes == NULL)
        return;
    char path_text[PATH_MAX_TEXT], text[LT_ERR_TEXT_MAX];
    vsnprintf(text, sizeof(text), fmt, args);
    struct lt_note note = reader->where;
    note.level = level;
    if (node != NULL && node->line != 0)
        note.line = node->line;
    if (path != NULL)
        note.path = lt_str_of(lt_doc_path_format(path, path_text, sizeof(path_text)));
    note.text = lt_str_of(text);
    lt_notes_add(reader->notes, &note);
}

void lt_field_note(struct lt_field_reader *reader, lt_note_level level, const struct lt_doc *node,
                   const struct lt_doc_path *path, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_note(reader, level, node, path, fmt, args);
    va_end(args);
}

void lt_field_error(struct lt_field_reader *reader, const struct lt_doc *node,
                    const struct lt_doc_path *path, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_note(reader, LT_NOTE_ERROR, node, path, fmt, args);
    va_end(args);
}

void lt_field_error_at(struct lt_field_reader *reader, const struct lt_doc *node,
                       const struct lt_doc_path *path, const char *member, const char *fmt, ...)
{
    struct lt_doc_path at = {path, lt_str_of(member), 0};
    const struct lt_doc *child = lt_doc_findz(node, member);
    va_list args;
    va_start(args, fmt);
    add_note(reader, LT_NOTE_ERROR, child != NULL ? child : node, &at, fmt, args);
    va_end(args);
}

static void expected(struct lt_field_reader *reader, const struct lt_doc *node,
                     const struct lt_doc_path *path, const char *what)
{
    lt_field_error(reader, node, path, "expected %s, got %s", what, lt_doc_kind_name(node->kind));
}

/* ---- where things end up ---- */

static lt_str keep_str(struct lt_field_reader *reader, lt_str s)
{
    return reader->share != NULL ? lt_share_str(reader->share, s) : lt_arena_str(reader->arena, s);
}

/* block was made in the arena. */
static void *keep_block(struct lt_field_reader *reader, void *block, size_t size)
{
    return reader->share != NULL ? (void *)lt_share_block(reader->share, block, size) : block;
}

/* ---- scalars ---- */

static bool read_str(struct lt_field_reader *reader, const struct lt_doc *node,
                     const struct lt_doc_path *path, lt_str *ret)
{
    if (node->kind != LT_DOC_STRING) {
        expected(reader, node, path, "a string");
        return false;
    }
    *ret = keep_str(reader, node->string);
    return true;
}

static void read_bool(struct lt_field_reader *reader, const struct lt_doc *node,
                      const struct lt_doc_path *path, struct lt_opt *ret)
{
    if (node->kind != LT_DOC_BOOL) {
        expected(reader, node, path, "true or false");
        return;
    }
    *ret = (struct lt_opt){node->boolean, true};
}

static void read_int(struct lt_field_reader *reader, const struct lt_doc *node,
                     const struct lt_field *field, const struct lt_doc_path *path,
                     struct lt_opt *ret)
{
    int64_t value = 0;
    if (!lt_doc_is_int(node, &value)) {
        expected(reader, node, path, "a whole number");
        return;
    }
    if ((field->min != 0 || field->max != 0) && (value < field->min || value > field->max)) {
        lt_field_error(reader, node, path, "expected a number from %lld to %lld, got %lld",
                       (long long)field->min, (long long)field->max, (long long)value);
        return;
    }
    *ret = (struct lt_opt){value, true};
}

static void read_double(struct lt_field_reader *reader, const struct lt_doc *node,
                        const struct lt_field *field, const struct lt_doc_path *path,
                        struct lt_opt_double *ret)
{
    double value = 0;
    if (!lt_doc_is_number(node, &value) || !isfinite(value)) {
        expected(reader, node, path, "a number");
        return;
    }
    if ((field->min != 0 || field->max != 0) &&
        (value < (double)field->min || value > (double)field->max)) {
        lt_field_error(reader, node, path, "expected a number from %lld to %lld, got %g",
                       (long long)field->min, (long long)field->max, value);
        return;
    }
    *ret = (struct lt_opt_double){value, true};
}

/* "DISABLE, SIMPLE or MUTUAL" */
static void list_names(const struct lt_enum_value *values, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; values[i].name != NULL && used < size; i++) {
        const char *sep = i == 0 ? "" : values[i + 1].name == NULL ? " or " : ", ";
        int n = snprintf(out + used, size - used, "%s%s", sep, values[i].name);
        used += (size_t)LT_MAX(n, 0);
    }
}

static void read_enum(struct lt_field_reader *reader, const struct lt_doc *node,
                      const struct lt_field *field, const struct lt_doc_path *path,
                      struct lt_opt *ret)
{
    int64_t number = 0;
    bool is_number = lt_doc_is_int(node, &number);
    for (const struct lt_enum_value *v = field->values; v->name != NULL; v++) {
        if ((is_number && v->value == number) ||
            (node->kind == LT_DOC_STRING && lt_str_eqz(node->string, v->name))) {
            *ret = (struct lt_opt){v->value, true};
            return;
        }
    }
    char names[256];
    list_names(field->values, names, sizeof(names));
    if (node->kind == LT_DOC_STRING)
        lt_field_error(reader, node, path, "expected %s, got \"%.*s\"", names,
                       LT_STR_ARG(node->string));
    else
        expected(reader, node, path, names);
}

static void read_duration(struct lt_field_reader *reader, const struct lt_doc *node,
                          const struct lt_field *field, const struct lt_doc_path *path,
                          struct lt_opt *ret)
{
    int64_t ns = 0;
    if (node->kind != LT_DOC_STRING || lt_duration_parse(node->string, &ns) != LT_OK) {
        if (node->kind == LT_DOC_STRING)
            lt_field_error(reader, node, path,
                           "expected a duration such as 1.5s or 300ms, got \"%.*s\"",
                           LT_STR_ARG(node->string));
        else
            expected(reader, node, path, "a duration such as \"1.5s\" or \"300ms\"");
        return;
    }
    if (ns < field->min) {
        lt_field_error(reader, node, path, "expected a duration of at least %gms, got \"%.*s\"",
                       (double)field->min / LT_NS_PER_MS, LT_STR_ARG(node->string));
        return;
    }
    *ret = (struct lt_opt){ns, true};
}

static void read_port_ref(struct lt_field_reader *reader, const struct lt_doc *node,
                          const struct lt_doc_path *path, struct lt_port_ref *ret)
{
    int64_t number = 0;
    if (lt_doc_is_int(node, &number)) {
        if (number < 1 || number > UINT16_MAX)
            lt_field_error(reader, node, path, "expected a port from 1 to 65535, got %lld",
                           (long long)number);
        else
            ret->number = (uint16_t)number;
        return;
    }
    if (node->kind != LT_DOC_STRING || node->string.len == 0) {
        expected(reader, node, path, "a port's number or name");
        return;
    }
    ret->name = keep_str(reader, node->string);
}

/* ---- lists and maps ---- */

static void read_strs(struct lt_field_reader *reader, const struct lt_doc *node,
                      const struct lt_doc_path *path, struct lt_strs *ret)
{
    if (node->kind != LT_DOC_ARRAY) {
        expected(reader, node, path, "a list of strings");
        return;
    }
    ret->items = lt_arena_make_n(reader->arena, lt_str, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct lt_doc_path at = {path, LT_STR_NULL, i};
        if (read_str(reader, &node->items[i], &at, &ret->items[ret->count]))
            ret->count++;
    }
    ret->items = keep_block(reader, ret->items, ret->count * sizeof(*ret->items));
}

/* Indices of members, by key: a handful, so insertion sort. The caller frees them. */
static uint32_t *sorted_members(const struct lt_doc *node)
{
    uint32_t *order = lt_malloc(((size_t)node->count + 1) * sizeof(*order));
    for (uint32_t i = 0; i < node->count; i++) {
        uint32_t at = i;
        while (at > 0 && lt_str_cmp(node->members[order[at - 1]].key, node->members[i].key) > 0) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
    return order;
}

enum { MAP_MEMBERS_MAX = 4096 };

static bool is_map(struct lt_field_reader *reader, const struct lt_doc *node,
                   const struct lt_doc_path *path, const char *what)
{
    if (node->kind != LT_DOC_OBJECT) {
        expected(reader, node, path, what);
        return false;
    }
    if (node->count > MAP_MEMBERS_MAX) {
        lt_field_error(reader, node, path, "expected at most %d members, got %u", MAP_MEMBERS_MAX,
                       node->count);
        return false;
    }
    return true;
}

static void read_kvs(struct lt_field_reader *reader, const struct lt_doc *node,
                     const struct lt_doc_path *path, struct lt_kvs *ret)
{
    if (!is_map(reader, node, path, "a map of strings"))
        return;
    uint32_t *order = sorted_members(node);
    ret->items = lt_arena_make_n(reader->arena, struct lt_kv, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        const struct lt_doc_member *m = &node->members[order[i]];
        struct lt_doc_path at = {path, m->key, 0};
        struct lt_kv *kv = &ret->items[ret->count];
        kv->key = keep_str(reader, m->key);
        if (read_str(reader, &m->value, &at, &kv->value))
            ret->count++;
    }
    free(order);
    ret->items = keep_block(reader, ret->items, ret->count * sizeof(*ret->items));
}

static void read_sub(struct lt_field_reader *reader, const struct lt_doc *node,
                     const struct lt_field *field, void **slot, const struct lt_doc_path *path)
{
    void *message = lt_arena_alloc(reader->arena, field->sub->size);
    if (lt_field_read(reader, node, field->sub, message, path) == LT_OK)
        *slot = keep_block(reader, message, field->sub->size);
}

/* The place of one that is refused is as it was, for the next. */
static bool read_item(struct lt_field_reader *reader, const struct lt_doc *node,
                      const struct lt_schema *schema, void *item, const struct lt_doc_path *path)
{
    if (lt_field_read(reader, node, schema, item, path) == LT_OK)
        return true;
    memset(item, 0, schema->size);
    return false;
}

static void read_subs(struct lt_field_reader *reader, const struct lt_doc *node,
                      const struct lt_field *field, void *slot, const struct lt_doc_path *path)
{
    if (node->kind != LT_DOC_ARRAY) {
        expected(reader, node, path, "a list");
        return;
    }
    char *items = lt_arena_alloc(reader->arena, lt_size_mul(node->count, field->sub->size));
    struct lt_field_list list = {0, items};
    for (uint32_t i = 0; i < node->count; i++) {
        struct lt_doc_path at = {path, LT_STR_NULL, i};
        if (read_item(reader, &node->items[i], field->sub, items + list.count * field->sub->size,
                      &at))
            list.count++;
    }
    list.items = keep_block(reader, items, list.count * field->sub->size);
    memcpy(slot, &list, sizeof(list));
}

static void read_sub_map(struct lt_field_reader *reader, const struct lt_doc *node,
                         const struct lt_field *field, void *slot, const struct lt_doc_path *path)
{
    if (!is_map(reader, node, path, "a map"))
        return;
    uint32_t *order = sorted_members(node);
    char *items = lt_arena_alloc(reader->arena, lt_size_mul(node->count, field->sub->size));
    struct lt_field_map map = {0, items, lt_arena_make_n(reader->arena, lt_str, node->count)};
    for (uint32_t i = 0; i < node->count; i++) {
        const struct lt_doc_member *m = &node->members[order[i]];
        struct lt_doc_path at = {path, m->key, 0};
        if (!read_item(reader, &m->value, field->sub, items + map.count * field->sub->size, &at))
            continue;
        map.keys[map.count++] = keep_str(reader, m->key);
    }
    free(order);
    map.items = keep_block(reader, items, map.count * field->sub->size);
    map.keys = keep_block(reader, map.keys, map.count * sizeof(*map.keys));
    memcpy(slot, &map, sizeof(map));
}

/* ---- messages ---- */

static void read_field(struct lt_field_reader *reader, const struct lt_doc *node,
                       const struct lt_field *field, void *slot, const struct lt_doc_path *path)
{
    switch (field->type) {
    case LT_FIELD_STR: read_str(reader, node, path, slot); return;
    case LT_FIELD_BOOL: read_bool(reader, node, path, slot); return;
    case LT_FIELD_INT: read_int(reader, node, field, path, slot); return;
    case LT_FIELD_ENUM: read_enum(reader, node, field, path, slot); return;
    case LT_FIELD_DURATION: read_duration(reader, node, field, path, slot); return;
    case LT_FIELD_DOUBLE: read_double(reader, node, field, path, slot); return;
    case LT_FIELD_PORT_REF: read_port_ref(reader, node, path, slot); return;
    case LT_FIELD_STRS: read_strs(reader, node, path, slot); return;
    case LT_FIELD_KVS: read_kvs(reader, node, path, slot); return;
    case LT_FIELD_SUB: read_sub(reader, node, field, slot, path); return;
    case LT_FIELD_SUBS: read_subs(reader, node, field, slot, path); return;
    case LT_FIELD_SUB_MAP: read_sub_map(reader, node, field, slot, path); return;
    case LT_FIELD_NONE:
    case LT_FIELD_SEEN: return; /* not by its value: see read_members */
    }
    LT_UNREACHABLE();
}

/* The field that has this name, or of types NONE and SEEN lists it. */
static bool has_name(const struct lt_field *field, lt_str name)
{
    if (field->type != LT_FIELD_NONE && field->type != LT_FIELD_SEEN)
        return lt_str_eqz(name, field->name);
    lt_str rest = lt_str_of(field->name), word;
    while (lt_str_split(&rest, ' ', &word)) {
        if (lt_str_eq(word, name))
            return true;
    }
    return false;
}

static const struct lt_field *find_field(const struct lt_schema *schema, lt_str name)
{
    size_t count = 0;
    const struct lt_field *fields = schema->fields(&count);
    for (size_t i = 0; i < count; i++) {
        if (has_name(&fields[i], name))
            return &fields[i];
    }
    return NULL;
}

bool lt_name_is_near(lt_str a, lt_str b)
{
    size_t head = 0, tail = 0;
    while (head < a.len && head < b.len && (a.ptr[head] | 32) == (b.ptr[head] | 32))
        head++;
    while (tail < a.len - head && tail < b.len - head &&
           (a.ptr[a.len - 1 - tail] | 32) == (b.ptr[b.len - 1 - tail] | 32))
        tail++;
    return a.len - head - tail <= 2 && b.len - head - tail <= 2 && head + tail >= 2;
}

/* A name of the schema that the writer may have meant, or LT_STR_NULL. */
static lt_str nearest_name(const struct lt_schema *schema, lt_str name)
{
    size_t count = 0;
    const struct lt_field *fields = schema->fields(&count);
    for (size_t i = 0; i < count; i++) {
        lt_str rest = lt_str_of(fields[i].name), word;
        while (lt_str_split(&rest, ' ', &word)) {
            if (lt_name_is_near(name, word))
                return word;
        }
    }
    return LT_STR_NULL;
}

static void unknown_field(struct lt_field_reader *reader, const struct lt_schema *schema,
                          const struct lt_doc_member *m, const struct lt_doc_path *path)
{
    lt_str near = nearest_name(schema, m->key);
    const char *rest = reader->unknown == LT_NOTE_ERROR ? "" : "; it is ignored";
    if (near.len > 0)
        lt_field_note(reader, reader->unknown, &m->value, path,
                      "unknown field, did you mean %.*s?%s", LT_STR_ARG(near), rest);
    else
        lt_field_note(reader, reader->unknown, &m->value, path, "unknown field of %s%s",
                      schema->name, rest);
}

static void add_seen(struct lt_field_reader *reader, lt_str name, struct lt_strs *seen)
{
    lt_str *items = lt_arena_make_n(reader->arena, lt_str, seen->count + 1);
    for (size_t i = 0; i < seen->count; i++)
        items[i] = seen->items[i];
    items[seen->count++] = keep_str(reader, name);
    seen->items = keep_block(reader, items, seen->count * sizeof(*items));
}

static void read_members(struct lt_field_reader *reader, const struct lt_doc *doc,
                         const struct lt_schema *schema, void *message,
                         const struct lt_doc_path *path)
{
    for (uint32_t i = 0; i < doc->count; i++) {
        const struct lt_doc_member *m = &doc->members[i];
        struct lt_doc_path at = {path, m->key, 0};
        const struct lt_field *field = find_field(schema, m->key);
        if (field == NULL) {
            unknown_field(reader, schema, m, &at);
            continue;
        }
        if (m->value.kind == LT_DOC_NULL)
            continue;
        if (field->flags & LT_FIELD_NOT_YET)
            lt_field_note(reader, LT_NOTE_INFO, &m->value, &at, "not translated yet");
        void *slot = (char *)message + field->offset;
        if (field->type == LT_FIELD_SEEN)
            add_seen(reader, m->key, slot);
        else
            read_field(reader, &m->value, field, slot, &at);
    }
}

static void check_required(struct lt_field_reader *reader, const struct lt_doc *doc,
                           const struct lt_schema *schema, const struct lt_doc_path *path)
{
    size_t count = 0;
    const struct lt_field *fields = schema->fields(&count);
    for (size_t i = 0; i < count; i++) {
        const struct lt_field *field = &fields[i];
        const struct lt_doc *node = (field->flags & LT_FIELD_REQUIRED)
                                        ? lt_doc_findz(doc, field->name)
                                        : doc;
        if (node == NULL || node->kind == LT_DOC_NULL)
            lt_field_error_at(reader, doc, path, field->name, "is required (%s)", field->help);
    }
}

lt_rc lt_field_read(struct lt_field_reader *reader, const struct lt_doc *doc,
                    const struct lt_schema *schema, void *message, const struct lt_doc_path *path)
{
    size_t errors = reader->errors;
    if (reader->has_lines)
        ((struct lt_message_head *)message)->line = doc->line;
    /* an empty mapping may be written as nothing at all */
    if (doc->kind != LT_DOC_OBJECT && doc->kind != LT_DOC_NULL) {
        lt_field_error(reader, doc, path, "expected %s (an object), got %s", schema->name,
                       lt_doc_kind_name(doc->kind));
        return LT_E_BAD;
    }
    if (doc->kind == LT_DOC_OBJECT)
        read_members(reader, doc, schema, message, path);
    check_required(reader, doc, schema, path);
    if (reader->errors == errors && schema->check != NULL)
        schema->check(reader, doc, message, path);
    return reader->errors == errors ? LT_OK : LT_E_BAD;
}
