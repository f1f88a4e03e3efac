/*
 * proxy/compile/fields.c - the table of fields, and its index by descriptors, which grows by the
 * types that come: what they hold, and which of their fields the walker has to look at.
 * Start at: px_fields_new(). The walker: fields_walk.c.
 */
#include "proxy/compile/fields.h"

#include <stdio.h>
#include <stdlib.h>

#define PX_MESSAGE(name) {PX_ROW_MESSAGE, PX_FIELD_MISSING, name, NULL},
#define PX_GUARD(name) {PX_ROW_GUARD, PX_FIELD_MISSING, name, NULL},
#define PX_MESSAGE_AT(name, places) {PX_ROW_AT, PX_FIELD_MISSING, name, places},
#define PX_WHOLE(verdict, name, why) {PX_ROW_WHOLE, PX_FIELD_##verdict, name, why},
#define PX_HONOURED(names) {PX_ROW_FIELDS, PX_FIELD_HONOURED, names, NULL},
#define PX_CHECKED(names, why) {PX_ROW_FIELDS, PX_FIELD_CHECKED, names, why},
#define PX_NO_EFFECT(names, why) {PX_ROW_FIELDS, PX_FIELD_NO_EFFECT, names, why},
#define PX_IGNORED(names, why) {PX_ROW_FIELDS, PX_FIELD_IGNORED, names, why},
#define PX_REFUSED(names, why) {PX_ROW_FIELDS, PX_FIELD_REFUSED, names, why},
#define PX_TAKES(name, types) {PX_ROW_TAKES, PX_FIELD_MISSING, name, types},
static const struct px_field_row rows[] = {
#include "proxy/compile/fields_bootstrap.def"
#include "proxy/compile/fields_cluster.def"
#include "proxy/compile/fields_filter.def"
#include "proxy/compile/fields_guard.def"
#include "proxy/compile/fields_http.def"
#include "proxy/compile/fields_listener.def"
#include "proxy/compile/fields_told.def"
#include "proxy/compile/fields_value.def"
};

const struct px_field_row *px_field_rows(size_t *ret_count)
{
    *ret_count = LT_ARRAY_LEN(rows);
    return rows;
}

/* The rows of one message; or of one in certain places. */
struct group {
    const struct px_field_row *head, *end;
    struct px_kind *kind; /* of PX_ROW_AT: made when its first place is seen */
};

struct px_fields {
    struct lt_arena *arena;
    struct lt_map groups; /* full name -> struct group; without PX_ROW_AT */
    struct lt_map places; /* "<message>.<field>" -> struct group of PX_ROW_AT */
    struct lt_map kinds;  /* full name -> struct px_kind; without PX_ROW_AT */
    struct lt_vec all;    /* of struct px_kind */
};

/* --- reading the table --- */

static bool is_head(const struct px_field_row *row)
{
    return row->kind < PX_ROW_FIELDS;
}

static void put_places(struct px_fields *fields, struct group *group)
{
    lt_str rest = lt_str_of(group->head->why), name;
    while (lt_str_split(&rest, ' ', &name)) {
        if (name.len > 0)
            LT_ASSERT(lt_map_put(&fields->places, name, group) == NULL);
    }
}

static void read_groups(struct px_fields *fields)
{
    const struct px_field_row *end = rows + LT_ARRAY_LEN(rows);
    for (const struct px_field_row *row = rows; row < end;) {
        LT_ASSERT(is_head(row));
        struct group *group = lt_arena_make(fields->arena, struct group);
        group->head = row++;
        while (row < end && !is_head(row))
            row++;
        group->end = row;
        if (group->head->kind == PX_ROW_AT)
            put_places(fields, group);
        else
            LT_ASSERT(lt_map_put(&fields->groups, lt_str_of(group->head->names), group) == NULL);
    }
}

/* --- types --- */

/* Well-known types are values: nothing in them can be left out. */
static bool is_value(const ProtobufCMessageDescriptor *type)
{
    return lt_str_eqz(lt_str_of(type->package_name), "google.protobuf");
}

static bool is_any(const ProtobufCMessageDescriptor *type)
{
    return type == &pb__any__descriptor;
}

/* What is said of a field: verdicts[i] and whys[i] of the type's i-th. */
static void spread_row(const ProtobufCMessageDescriptor *type, const struct px_field_row *row,
                       struct px_field *out)
{
    lt_str rest = lt_str_of(row->names), name;
    while (lt_str_split(&rest, ' ', &name)) {
        if (name.len == 0)
            continue;
        char sign = name.ptr[0];
        name = lt_str_from(name, sign == '!' || sign == '-' ? 1 : 0);
        unsigned at = 0;
        while (at < type->n_fields && !lt_str_eqz(name, type->fields[at].name))
            at++;
        LT_ASSERT(at < type->n_fields);                 /* the row names a field that is none */
        LT_ASSERT(out[at].verdict == PX_FIELD_MISSING); /* or one that is there already */
        out[at].verdict = (uint8_t)row->verdict;
        out[at].why = row->why;
        out[at].is_closed = sign == '-';
        out[at].false_says = sign == '!';
    }
}

static const struct px_kind *kind_of(struct px_fields *fields,
                                     const ProtobufCMessageDescriptor *type);
static struct px_kind *make_kind(struct px_fields *fields, const ProtobufCMessageDescriptor *type,
                                 const struct group *group);

/* The type behind a field, if rows can say something about it. */
static const struct px_kind *inner_of(struct px_fields *fields,
                                      const ProtobufCMessageDescriptor *type,
                                      const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *inner = field->type == PROTOBUF_C_TYPE_MESSAGE
                                                  ? field->descriptor
                                                  : lt_pb_inside(type, field->id);
    char place[256];
    if (inner == NULL || is_value(inner))
        return NULL;
    (void)snprintf(place, sizeof(place), "%s.%s", type->name, field->name);
    struct group *group = lt_map_find(&fields->places, lt_str_of(place));
    if (group == NULL)
        return kind_of(fields, inner);
    LT_ASSERT(strcmp(group->head->names, inner->name) == 0); /* a place that has another type */
    if (group->kind == NULL)
        group->kind = make_kind(fields, inner, group);
    return group->kind;
}

/* protoc makes an entry of a map<K, V>, which is in no row. */
static bool is_map_entry(const ProtobufCMessageDescriptor *type)
{
    return lt_str_ends(lt_str_of(type->name), LT_STR("Entry")) && type->n_fields == 2 &&
           strcmp(type->fields[0].name, "key") == 0 && strcmp(type->fields[1].name, "value") == 0;
}

static void fill_field(struct px_fields *fields, const ProtobufCMessageDescriptor *type,
                       const ProtobufCFieldDescriptor *field, struct px_field *out)
{
    bool is_walked = !out->is_closed &&
                     (out->verdict == PX_FIELD_HONOURED || out->verdict == PX_FIELD_CHECKED);
    out->field = field;
    out->is_map = lt_pb_is_map(type, field);
    out->is_any = is_walked && field->type == PROTOBUF_C_TYPE_MESSAGE && is_any(field->descriptor);
    if (is_walked && !out->is_any)
        out->inner = inner_of(fields, type, field);
}

/* group NULL: an entry of a map, of which all is honoured; or a type that is in no row. */
static void fill_kind(struct px_fields *fields, struct px_kind *kind, const struct group *group)
{
    const ProtobufCMessageDescriptor *type = kind->type;
    struct px_field *all = lt_arena_make_n(fields->arena, struct px_field, type->n_fields);
    kind->all = all;
    for (unsigned i = 0; group == NULL && is_map_entry(type) && i < type->n_fields; i++)
        all[i].verdict = PX_FIELD_HONOURED;
    const struct px_field_row *end = group != NULL ? group->end : NULL;
    for (const struct px_field_row *row = group != NULL ? group->head : NULL; row < end; row++) {
        if (row->kind == PX_ROW_FIELDS)
            spread_row(type, row, all);
    }
    for (unsigned i = 0; i < type->n_fields; i++)
        fill_field(fields, type, &type->fields[i], &all[i]);
}

static struct px_kind *make_kind(struct px_fields *fields, const ProtobufCMessageDescriptor *type,
                                 const struct group *group)
{
    struct px_kind *kind = lt_arena_make(fields->arena, struct px_kind);
    bool is_at = group != NULL && group->head->kind == PX_ROW_AT;
    kind->type = type;
    lt_vec_push(&fields->all, kind);
    if (!is_at) /* before what may hold it */
        lt_map_put(&fields->kinds, lt_str_of(type->name), kind);
    kind->is_guard = is_at ? kind_of(fields, type)->is_guard
                           : group != NULL && group->head->kind == PX_ROW_GUARD;
    if (group != NULL && group->head->kind == PX_ROW_WHOLE) {
        kind->whole = (uint8_t)group->head->verdict;
        kind->why = group->head->why;
        return kind;
    }
    fill_kind(fields, kind, group);
    return kind;
}

static const struct px_kind *kind_of(struct px_fields *fields,
                                     const ProtobufCMessageDescriptor *type)
{
    struct px_kind *kind = lt_map_find(&fields->kinds, lt_str_of(type->name));
    return kind != NULL
               ? kind
               : make_kind(fields, type, lt_map_find(&fields->groups, lt_str_of(type->name)));
}

/* --- what the walker has to look at --- */

/* Bytes that stand for a message have to be opened: what its schema lacks is seen nowhere else. */
static bool is_looked_at(const struct px_field *field)
{
    switch (field->verdict) {
    case PX_FIELD_HONOURED:
    case PX_FIELD_CHECKED:
        return field->is_any ||
               (field->inner != NULL &&
                (field->inner->has_work || field->field->type == PROTOBUF_C_TYPE_BYTES));
    case PX_FIELD_NO_EFFECT: return false;
    default: return true;
    }
}

static bool settle(struct px_kind *kind)
{
    bool has_work = kind->whole != PX_FIELD_MISSING && kind->whole != PX_FIELD_NO_EFFECT;
    bool has_guard = kind->is_guard;
    for (unsigned i = 0; kind->all != NULL && i < kind->type->n_fields; i++) {
        has_work |= is_looked_at(&kind->all[i]);
        has_guard |= kind->all[i].inner != NULL && kind->all[i].inner->has_guard;
    }
    bool is_other = has_work != kind->has_work || has_guard != kind->has_guard;
    kind->has_work = has_work;
    kind->has_guard = has_guard;
    return is_other;
}

static void list_looked(struct px_fields *fields, struct px_kind *kind)
{
    const struct px_field **looked = lt_arena_make_n(fields->arena, const struct px_field *,
                                                     kind->type->n_fields);
    for (unsigned i = 0; kind->all != NULL && i < kind->type->n_fields; i++) {
        if (is_looked_at(&kind->all[i]))
            looked[kind->look_count++] = &kind->all[i];
    }
    kind->looked = looked;
}

/* Those from the given one on; those before hold none of them. */
static void settle_from(struct px_fields *fields, size_t first)
{
    bool is_other = true;
    while (is_other) { /* types hold each other through bytes */
        is_other = false;
        for (size_t i = first; i < fields->all.count; i++)
            is_other |= settle(fields->all.items[i]);
    }
    for (size_t i = first; i < fields->all.count; i++)
        list_looked(fields, fields->all.items[i]);
}

/* --- the front door --- */

struct px_fields *px_fields_new(void)
{
    struct px_fields *fields = lt_new(struct px_fields);
    fields->arena = lt_arena_new(64 * 1024, 0);
    lt_map_init(&fields->groups);
    lt_map_init(&fields->places);
    lt_map_init(&fields->kinds);
    read_groups(fields);
    return fields;
}

void px_fields_free(struct px_fields **fields)
{
    if (*fields == NULL)
        return;
    lt_map_fini(&(*fields)->groups);
    lt_map_fini(&(*fields)->places);
    lt_map_fini(&(*fields)->kinds);
    lt_vec_fini(&(*fields)->all);
    lt_arena_free(&(*fields)->arena);
    free(*fields);
    *fields = NULL;
}

const struct px_kind *px_fields_find(struct px_fields *fields,
                                     const ProtobufCMessageDescriptor *type)
{
    size_t known = fields->all.count;
    if (is_value(type))
        return NULL;
    const struct px_kind *kind = kind_of(fields, type);
    settle_from(fields, known);
    return kind;
}
