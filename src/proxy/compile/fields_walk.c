/*
 * proxy/compile/fields_walk.c - holds a message that was compiled to the table of fields: what it
 * says and nobody read is listed, or refuses the resource. Anys and bytes that a compiler opened
 * are not parsed again; those that none did are opened here.
 * Trust: as compile.h. Depth is bounded here, width by what the reader of protobuf lets in.
 * Start at: px_check_fields().
 */
#include "proxy/compile/fields.h"

#include <stdio.h>

#include "proxy/compile/opened.h"

enum { DEPTH_MAX = 64, PATH_MAX_BYTES = 448 };

/* Where we are; written out only for what is listed or refused. */
struct step {
    const struct step *up;
    const char *name; /* NULL: what is inside an Any, which adds nothing to the path */
    const char *key;  /* of a map's entry, or NULL */
    ptrdiff_t index;  /* -1: none */
    unsigned depth;
    bool is_guarded; /* something above guards */
};

struct walk {
    struct px_build *build;
    struct px_fields *fields;
};

static size_t write_path(const struct step *step, char *out, size_t size)
{
    size_t len = step->up != NULL ? write_path(step->up, out, size) : 0;
    const char *dot = len > 0 ? "." : "";
    int more = 0;
    if (step->name != NULL)
        more = step->index < 0
                   ? snprintf(out + len, size - len, "%s%s", dot, step->name)
                   : snprintf(out + len, size - len, "%s%s[%td]", dot, step->name, step->index);
    len = LT_MIN(len + (size_t)more, size - 1);
    if (step->key != NULL)
        len = LT_MIN(len + (size_t)snprintf(out + len, size - len, ".%.100s", step->key), size - 1);
    return len;
}

static void list(const struct walk *walk, const struct step *step, const char *rest)
{
    char path[PATH_MAX_BYTES + 64] = "";
    size_t len = write_path(step, path, PATH_MAX_BYTES);
    if (rest != NULL)
        (void)snprintf(path + len, sizeof(path) - len, "%s%s", len > 0 ? "." : "", rest);
    px_unhonoured(walk->build, path);
}

/* With the type, which tells more than the place. */
static void list_type(const struct walk *walk, const struct step *step, lt_str type)
{
    char path[PATH_MAX_BYTES + 64] = "";
    size_t len = write_path(step, path, PATH_MAX_BYTES - 128);
    (void)snprintf(path + len, sizeof(path) - len, "%s(%.*s)", len > 0 ? " " : "",
                   (int)LT_MIN(type.len, (size_t)150), type.ptr);
    px_unhonoured(walk->build, path);
}

static lt_rc refuse(const struct walk *walk, const struct step *step, const char *rest,
                    const char *why)
{
    char path[PATH_MAX_BYTES + 64] = "";
    size_t len = write_path(step, path, PATH_MAX_BYTES);
    if (rest != NULL)
        (void)snprintf(path + len, sizeof(path) - len, "%s%s", len > 0 ? "." : "", rest);
    return px_unsupported(walk->build, path, "is not supported%s%s", why != NULL ? ": " : "",
                          why != NULL ? why : "");
}

/* --- what is said --- */

static const void *member_of(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

static bool is_wrapped_bool(const ProtobufCMessage *message, bool value)
{
    return message->descriptor == &pb__bool_value__descriptor &&
           px_bool((const Pb__BoolValue *)message, false) == value;
}

/*
 * An empty text, a zero and a false say nothing; nor does a wrapped false, or a wrapped true where
 * false_says.
 */
static bool is_said(const struct px_field *looked, const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field = looked->field;
    const void *member = member_of(message, field->offset);
    const void *quantifier = member_of(message, field->quantifier_offset);
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)quantifier > 0;
    if (is_oneof && *(const uint32_t *)quantifier != field->id)
        return false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *inner = *(ProtobufCMessage *const *)member;
        return inner != NULL && !is_wrapped_bool(inner, looked->false_says);
    }
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)member;
        return text != NULL && text[0] != '\0';
    }
    case PROTOBUF_C_TYPE_BYTES: /* an empty message is there, too */
        return is_oneof || *(const protobuf_c_boolean *)quantifier;
    case PROTOBUF_C_TYPE_BOOL: return *(const protobuf_c_boolean *)member;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return *(const uint64_t *)member != 0;
    default: return *(const uint32_t *)member != 0;
    }
}

/* --- fields that no schema of ours has --- */

typedef enum { UNKNOWN_LISTED, UNKNOWN_REFUSED, UNKNOWN_HIDDEN } unknown_fate;

static const struct px_field *find_field(const struct px_kind *kind, lt_str name)
{
    for (unsigned i = 0; kind->all != NULL && i < kind->type->n_fields; i++) {
        if (lt_str_eqz(name, kind->type->fields[i].name))
            return &kind->all[i];
    }
    return NULL;
}

/* path: down from a message of that kind, without indexes; its last part is what is unknown. */
static unknown_fate fate_of(const struct px_kind *kind, lt_str path)
{
    lt_str name;
    while (kind != NULL && lt_str_split(&path, '.', &name)) {
        if (kind->is_guard)
            return UNKNOWN_REFUSED;
        if (path.len == 0)
            return UNKNOWN_LISTED;
        const struct px_field *field = find_field(kind, name);
        if (field == NULL) /* a path by the keys of a map */
            return kind->has_guard ? UNKNOWN_REFUSED : UNKNOWN_LISTED;
        if (field->verdict != PX_FIELD_HONOURED && field->verdict != PX_FIELD_CHECKED)
            return UNKNOWN_HIDDEN; /* what it stands in has its own fate */
        kind = field->inner;
    }
    return UNKNOWN_LISTED;
}

static lt_rc list_unknowns(const struct walk *walk, const struct step *step,
                           const struct px_kind *kind, const struct lt_pb_unknowns *unknowns)
{
    static const char why[] = "what it says is not known here, and it may guard";
    for (uint32_t i = 0; i < unknowns->listed; i++) {
        unknown_fate fate = step->is_guarded ? UNKNOWN_REFUSED : fate_of(kind, unknowns->paths[i]);
        char *rest = lt_arena_strz(walk->build->scratch, unknowns->paths[i]);
        if (fate == UNKNOWN_REFUSED)
            return refuse(walk, step, rest, why);
        if (fate == UNKNOWN_LISTED)
            list(walk, step, rest);
    }
    if (!unknowns->is_cut)
        return LT_OK;
    if (step->is_guarded || kind->has_guard)
        return refuse(walk, step, "#", "so many fields are not known here that one may guard");
    list(walk, step, "#");
    return LT_OK;
}

/* --- messages --- */

static lt_rc walk_message(const struct walk *walk, const ProtobufCMessage *message,
                          const struct px_kind *kind, const struct step *step);

static lt_rc walk_opened(const struct walk *walk, const struct px_opened *opened,
                         const struct px_kind *kind, const struct step *step)
{
    if (step->depth > DEPTH_MAX)
        return px_bad(walk->build, NULL, "is nested deeper than %d messages", DEPTH_MAX);
    if (kind == NULL) { /* a well-known type, where an extension belongs */
        list_type(walk, step, lt_str_of(opened->message->descriptor->name));
        return LT_OK;
    }
    switch (kind->whole) {
    case PX_FIELD_NO_EFFECT: return LT_OK;
    case PX_FIELD_CHECKED: /* its compiler let it pass */
    case PX_FIELD_IGNORED: list_type(walk, step, lt_str_of(kind->type->name)); return LT_OK;
    case PX_FIELD_REFUSED: return refuse(walk, step, NULL, kind->why);
    default: break;
    }
    if (opened->unknowns != NULL)
        LT_TRY(list_unknowns(walk, step, kind, opened->unknowns));
    return walk_message(walk, opened->message, kind, step);
}

/* A type that we have no schema of is in nobody's hands: whoever must not miss it refused it. */
static lt_rc walk_any(const struct walk *walk, const Pb__Any *any, const struct step *step)
{
    const struct px_opened *opened = NULL;
    struct lt_err err = {0};
    if (any->type_url == NULL || any->type_url[0] == '\0')
        return LT_OK;
    lt_rc rc = px_open_any(walk->build, any, &opened, &err);
    if (rc == LT_E_NOT_FOUND) {
        list_type(walk, step, px_any_type(walk->build, any));
        return LT_OK;
    }
    if (rc != LT_OK)
        return px_bad(walk->build, NULL, "%s", err.text);
    return walk_opened(walk, opened, px_fields_find(walk->fields, opened->message->descriptor),
                       step);
}

static lt_rc walk_bytes(const struct walk *walk, ProtobufCBinaryData bytes,
                        const struct px_field *field, const struct step *step)
{
    const struct px_opened *opened = NULL;
    struct lt_err err = {0};
    lt_rc rc = px_open_bytes(walk->build, bytes, field->inner->type, &opened, &err);
    return rc == LT_OK ? walk_opened(walk, opened, field->inner, step)
                       : px_bad(walk->build, NULL, "%s", err.text);
}

/* The index-th of a field's values; at: its member, or an element of its array. */
static lt_rc walk_value(const struct walk *walk, const struct px_field *field, const void *at,
                        const struct step *step)
{
    if (field->field->type == PROTOBUF_C_TYPE_BYTES)
        return walk_bytes(walk, *(const ProtobufCBinaryData *)at, field, step);
    const ProtobufCMessage *message = *(ProtobufCMessage *const *)at;
    return field->is_any ? walk_any(walk, (const Pb__Any *)message, step)
                         : walk_message(walk, message, field->inner, step);
}

static const char *entry_key(const ProtobufCMessage *entry)
{
    const char *key = *(const char *const *)member_of(entry, entry->descriptor->fields[0].offset);
    return key != NULL ? key : "";
}

static lt_rc walk_repeated(const struct walk *walk, const ProtobufCMessage *message,
                           const struct px_field *field, struct step *step)
{
    size_t count = *(const size_t *)member_of(message, field->field->quantifier_offset);
    size_t size = field->field->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData)
                                                              : sizeof(ProtobufCMessage *);
    const char *array = *(const char *const *)member_of(message, field->field->offset);
    for (size_t i = 0; i < count; i++) {
        step->index = field->is_map ? -1 : (ptrdiff_t)i;
        if (field->is_map)
            step->key = entry_key(*(ProtobufCMessage *const *)(const void *)(array + i * size));
        LT_TRY(walk_value(walk, field, array + i * size, step));
    }
    return LT_OK;
}

/*
 * "typed_config" and the value of a map's entry are no part of a path: it goes on as if what is
 * inside stood there itself.
 */
static const char *name_of(const ProtobufCMessage *message, const struct px_field *field)
{
    bool is_hidden = strcmp(field->field->name, "typed_config") == 0 ||
                     (strcmp(field->field->name, "value") == 0 &&
                      field->field == // entry of a map
                          &message->descriptor->fields[1]);
    return is_hidden && (field->is_any || field->inner != NULL) ? NULL : field->field->name;
}

static lt_rc walk_field(const struct walk *walk, const ProtobufCMessage *message,
                        const struct px_field *field, const struct step *up)
{
    struct step step = {.up = up,
                        .name = name_of(message, field),
                        .index = -1,
                        .depth = up->depth + 1,
                        .is_guarded = up->is_guarded};
    switch (field->verdict) {
    case PX_FIELD_MISSING:
        if (up->is_guarded)
            return refuse(walk, up, field->field->name, NULL);
        list(walk, up, field->field->name);
        return LT_OK;
    case PX_FIELD_IGNORED: list(walk, up, field->field->name); return LT_OK;
    case PX_FIELD_REFUSED: return refuse(walk, up, field->field->name, field->why);
    default: break;
    }
    if (field->field->label == PROTOBUF_C_LABEL_REPEATED)
        return walk_repeated(walk, message, field, &step);
    return walk_value(walk, field, member_of(message, field->field->offset), &step);
}

static lt_rc walk_message(const struct walk *walk, const ProtobufCMessage *message,
                          const struct px_kind *kind, const struct step *step)
{
    struct step here = {.up = step, .index = -1, .depth = step->depth, .is_guarded = true};
    const struct step *from = kind->is_guard && !step->is_guarded ? &here : step;
    for (uint32_t i = 0; i < kind->look_count; i++) {
        if (is_said(kind->looked[i], message))
            LT_TRY(walk_field(walk, message, kind->looked[i], from));
    }
    return LT_OK;
}

lt_rc px_check_fields(struct px_build *build, const void *message,
                      const struct lt_pb_unknowns *unknowns)
{
    const ProtobufCMessage *base = message;
    struct walk walk = {build, px_tls_slots_fields(build->slots)};
    const struct px_kind *kind = px_fields_find(walk.fields, base->descriptor);
    struct step root = {.index = -1};
    LT_ASSERT(kind != NULL);
    px_path_leave(build, 0);
    if (unknowns->count > 0)
        LT_TRY(list_unknowns(&walk, &root, kind, unknowns));
    return walk_message(&walk, base, kind, &root);
}
