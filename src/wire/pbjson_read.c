/*
 * wire/pbjson_read.c - lt_doc to message, by descriptor (protojson's reading rules).
 * Trust: the tree is a stranger's; its depth was limited when it was made, so recursion here is
 * too.
 * Start at: lt_pbjson_read(), read_fields().
 */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "wire/base64.h"
#include "wire/pb_priv.h"
#include "wire/pb_time.h"
#include "wire/pbjson.h"
#include "wire/struct.h"

struct reader {
    struct lt_arena *arena;
    struct lt_pb_unknowns *unknowns; /* NULL: unknown names are errors */
    size_t memory_left;              /* "{}" can ask for a struct of hundreds of bytes */
    struct lt_err *err;
};

static lt_rc read_message(struct reader *r, const struct lt_doc *doc,
                          const struct lt_doc_path *path, ProtobufCMessage *message);

static lt_rc bad(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                 const char *text)
{
    return lt_doc_error(r->err, LT_E_BAD, path, doc, "%s", text);
}

static void *at_offset(ProtobufCMessage *message, unsigned offset)
{
    return (char *)message + offset;
}

static lt_rc alloc(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                   size_t size, void *ret_ptr)
{
    void *ptr = size <= r->memory_left ? lt_arena_try_alloc(r->arena, size) : NULL;
    if (ptr == NULL)
        return lt_doc_error(r->err, LT_E_LIMIT, path, doc, "takes too much memory");
    r->memory_left -= size;
    *(void **)ret_ptr = ptr;
    return LT_OK;
}

static lt_rc new_message(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         const ProtobufCMessageDescriptor *descriptor,
                         ProtobufCMessage **ret_message)
{
    LT_TRY(alloc(r, doc, path, descriptor->sizeof_message, ret_message));
    descriptor->message_init(*ret_message);
    return LT_OK;
}

/* --- unknown names --- */

/* The path without indexes, so that each is listed once. */
static size_t plain_path(const struct lt_doc_path *path, char *out, size_t size)
{
    size_t len = 0;
    if (path == NULL || path->up == NULL)
        return 0;
    len = plain_path(path->up, out, size);
    if (path->key.ptr == NULL)
        return len;
    int more = snprintf(out + len, size - len, "%s%.*s", len > 0 ? "." : "",
                        (int)LT_MIN(path->key.len, (size_t)100), path->key.ptr);
    return LT_MIN(len + (size_t)more, size - 1);
}

static void note_unknown(struct reader *r, const struct lt_doc_path *path)
{
    char text[512] = "";
    lt_str name = lt_str_make(text, plain_path(path, text, sizeof(text)));
    r->unknowns->count++;
    for (uint32_t i = 0; i < r->unknowns->listed; i++) {
        if (lt_str_eq(r->unknowns->paths[i], name))
            return;
    }
    r->unknowns->is_cut = r->unknowns->listed == LT_PB_UNKNOWN_LISTED_MAX;
    if (!r->unknowns->is_cut)
        r->unknowns->paths[r->unknowns->listed++] = lt_arena_str(r->arena, name);
}

static lt_rc on_unknown(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        const ProtobufCMessageDescriptor *in)
{
    if (r->unknowns == NULL)
        return lt_doc_error(r->err, LT_E_BAD, path, doc, "no such field in %s", in->name);
    note_unknown(r, path);
    return LT_OK;
}

/* --- scalars --- */

/* A whole number: bare, or as the string that protojson writes for 64 bits. */
static bool whole_number(const struct lt_doc *doc, int64_t *ret_value)
{
    return lt_doc_is(doc, LT_DOC_STRING) ? lt_str_to_i64(doc->string, ret_value) == LT_OK
                                         : lt_doc_is_int(doc, ret_value);
}

static lt_rc read_signed(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         int64_t min, int64_t max, int64_t *ret_value)
{
    if (!whole_number(doc, ret_value))
        return lt_doc_is(doc, LT_DOC_DOUBLE) ? bad(r, doc, path, "expected a whole number")
                                             : lt_doc_expected(r->err, path, doc, "number");
    if (*ret_value < min || *ret_value > max)
        return bad(r, doc, path, "number out of range");
    return LT_OK;
}

static lt_rc read_u64(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                      uint64_t *ret_value)
{
    int64_t value = 0;
    if (lt_doc_is(doc, LT_DOC_STRING) && lt_str_to_u64(doc->string, ret_value) == LT_OK)
        return LT_OK;
    /* above int64 a bare number is a double already; take it if it is whole */
    if (lt_doc_is(doc, LT_DOC_DOUBLE) && doc->number >= 0x1p63 && doc->number < 0x1p64) {
        *ret_value = (uint64_t)doc->number;
        return LT_OK;
    }
    LT_TRY(read_signed(r, doc, path, 0, INT64_MAX, &value));
    *ret_value = (uint64_t)value;
    return LT_OK;
}

static lt_rc read_double(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         double *ret_value)
{
    lt_str text = lt_doc_string(doc);
    if (lt_doc_is_number(doc, ret_value))
        return LT_OK;
    if (lt_str_eqz(text, "NaN"))
        *ret_value = NAN;
    else if (lt_str_eqz(text, "Infinity") || lt_str_eqz(text, "-Infinity"))
        *ret_value = text.ptr[0] == '-' ? -INFINITY : INFINITY;
    else if (lt_str_to_double(text, ret_value) != LT_OK || !isfinite(*ret_value))
        return lt_doc_expected(r->err, path, doc, "number");
    return LT_OK;
}

static lt_rc read_float(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        float *ret_value)
{
    double value = 0;
    LT_TRY(read_double(r, doc, path, &value));
    if (isfinite(value) && fabs(value) > (double)FLT_MAX)
        return bad(r, doc, path, "number out of range");
    *ret_value = (float)value;
    return LT_OK;
}

static lt_rc read_enum(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                       const ProtobufCEnumDescriptor *descriptor, int32_t *ret_value)
{
    int64_t number = 0;
    if (lt_doc_is_int(doc, &number)) {
        if (number < INT32_MIN || number > INT32_MAX)
            return bad(r, doc, path, "number out of range");
        *ret_value = (int32_t)number;
        return LT_OK;
    }
    if (!lt_doc_is(doc, LT_DOC_STRING))
        return lt_doc_expected(r->err, path, doc, "name of a value");
    for (unsigned i = 0; i < descriptor->n_value_names; i++) {
        if (lt_str_eqz(doc->string, descriptor->values_by_name[i].name)) {
            *ret_value = descriptor->values[descriptor->values_by_name[i].index].value;
            return LT_OK;
        }
    }
    return lt_doc_error(r->err, LT_E_BAD, path, doc, "\"%.*s\" is not a value of %s",
                        (int)LT_MIN(doc->string.len, (size_t)100), doc->string.ptr,
                        descriptor->name);
}

static lt_rc read_string(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         const char **ret_text)
{
    if (!lt_doc_is(doc, LT_DOC_STRING))
        return lt_doc_expected(r->err, path, doc, "string");
    *ret_text = doc->string.ptr; /* a tree's strings have a NUL behind */
    return LT_OK;
}

static lt_rc read_inside(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         const ProtobufCMessageDescriptor *inside, ProtobufCBinaryData *ret_data)
{
    ProtobufCMessage *message = NULL;
    LT_TRY(new_message(r, doc, path, inside, &message));
    LT_TRY(read_message(r, doc, path, message));
    *ret_data = lt_pb_pack_data(r->arena, message);
    return LT_OK;
}

static lt_rc read_bytes(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        const ProtobufCMessageDescriptor *in, const ProtobufCFieldDescriptor *field,
                        ProtobufCBinaryData *ret_data)
{
    const ProtobufCMessageDescriptor *inside = lt_pb_inside(in, field->id);
    lt_str bytes = LT_STR_NULL;
    if (inside != NULL)
        return read_inside(r, doc, path, inside, ret_data);
    if (!lt_doc_is(doc, LT_DOC_STRING))
        return lt_doc_expected(r->err, path, doc, "base64 string");
    if (lt_base64_decode(r->arena, doc->string, &bytes) != LT_OK)
        return bad(r, doc, path, "not base64");
    *ret_data = (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.ptr};
    return LT_OK;
}

static lt_rc read_nested(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         const ProtobufCMessageDescriptor *descriptor,
                         ProtobufCMessage **ret_message)
{
    LT_TRY(new_message(r, doc, path, descriptor, ret_message));
    return read_message(r, doc, path, *ret_message);
}

static lt_rc read_whole(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        ProtobufCType type, void *at)
{
    int64_t value = 0;
    switch (type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return read_u64(r, doc, path, at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return read_signed(r, doc, path, INT64_MIN, INT64_MAX, at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        LT_TRY(read_signed(r, doc, path, 0, UINT32_MAX, &value));
        *(uint32_t *)at = (uint32_t)value;
        return LT_OK;
    default:
        LT_TRY(read_signed(r, doc, path, INT32_MIN, INT32_MAX, &value));
        *(int32_t *)at = (int32_t)value;
        return LT_OK;
    }
}

/* One element of whatever type, to where it belongs. */
static lt_rc read_element(struct reader *r, const struct lt_doc *doc,
                          const struct lt_doc_path *path, const ProtobufCMessageDescriptor *in,
                          const ProtobufCFieldDescriptor *field, void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (!lt_doc_is(doc, LT_DOC_BOOL))
            return lt_doc_expected(r->err, path, doc, "bool");
        *(protobuf_c_boolean *)at = doc->boolean;
        return LT_OK;
    case PROTOBUF_C_TYPE_STRING: return read_string(r, doc, path, at);
    case PROTOBUF_C_TYPE_BYTES: return read_bytes(r, doc, path, in, field, at);
    case PROTOBUF_C_TYPE_MESSAGE: return read_nested(r, doc, path, field->descriptor, at);
    case PROTOBUF_C_TYPE_ENUM: return read_enum(r, doc, path, field->descriptor, at);
    case PROTOBUF_C_TYPE_DOUBLE: return read_double(r, doc, path, at);
    case PROTOBUF_C_TYPE_FLOAT: return read_float(r, doc, path, at);
    default: return read_whole(r, doc, path, field->type, at);
    }
}

/* --- repeated fields and maps --- */

static lt_rc read_array(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (!lt_doc_is(doc, LT_DOC_ARRAY))
        return lt_doc_expected(r->err, path, doc, "array");
    size_t size = lt_pb_size_of(field->type);
    char *array = NULL;
    LT_TRY(alloc(r, doc, path, lt_size_mul(doc->count, size), &array));
    for (uint32_t i = 0; i < doc->count; i++) {
        struct lt_doc_path item = {.up = path, .index = i};
        LT_TRY(
            read_element(r, &doc->items[i], &item, message->descriptor, field, array + i * size));
    }
    *(void **)at_offset(message, field->offset) = array;
    *(size_t *)at_offset(message, field->quantifier_offset) = doc->count;
    return LT_OK;
}

/* Every map of our schemas has string keys; an entry is a message of key (1) and value (2). */
static lt_rc read_entry(struct reader *r, const struct lt_doc_member *member,
                        const struct lt_doc_path *path,
                        const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **ret_entry)
{
    const ProtobufCFieldDescriptor *key = &descriptor->fields[0], *value = &descriptor->fields[1];
    LT_ASSERT(key->type == PROTOBUF_C_TYPE_STRING);
    ProtobufCMessage *entry = NULL;
    LT_TRY(new_message(r, &member->value, path, descriptor, &entry));
    *(const char **)at_offset(entry, key->offset) = member->key.ptr;
    if (lt_pb_has_flag(value))
        *(protobuf_c_boolean *)at_offset(entry, value->quantifier_offset) = 1;
    LT_TRY(
        read_element(r, &member->value, path, descriptor, value, at_offset(entry, value->offset)));
    *ret_entry = entry;
    return LT_OK;
}

static lt_rc read_map(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                      ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_doc_expected(r->err, path, doc, "object");
    ProtobufCMessage **entries = NULL;
    LT_TRY(alloc(r, doc, path, doc->count * sizeof(*entries), &entries));
    for (uint32_t i = 0; i < doc->count; i++) {
        struct lt_doc_path item = {.up = path, .key = doc->members[i].key};
        LT_TRY(read_entry(r, &doc->members[i], &item, field->descriptor, &entries[i]));
    }
    *(void **)at_offset(message, field->offset) = entries;
    *(size_t *)at_offset(message, field->quantifier_offset) = doc->count;
    return LT_OK;
}

/* --- ordinary messages --- */

/* some_field is also someField (protoc's json_name). */
static bool name_fits(const char *name, lt_str key)
{
    size_t at = 0;
    if (lt_str_eqz(key, name))
        return true;
    for (; *name != '\0'; name++, at++) {
        bool is_upper = *name == '_';
        name += is_upper;
        char want = is_upper && *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name;
        if (at >= key.len || key.ptr[at] != want)
            return false;
    }
    return at == key.len;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *descriptor,
                                                  lt_str key)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (name_fits(descriptor->fields[i].name, key))
            return &descriptor->fields[i];
    }
    return NULL;
}

static lt_rc set_oneof(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                       ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    uint32_t *which = at_offset(message, field->quantifier_offset);
    if (*which != 0) {
        const ProtobufCFieldDescriptor *other = protobuf_c_message_descriptor_get_field(
            message->descriptor, *which);
        return lt_doc_error(r->err, LT_E_BAD, path, doc, "only one of \"%s\" and \"%s\" may be set",
                            other->name, field->name);
    }
    *which = field->id;
    return LT_OK;
}

static lt_rc read_field(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                        ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (lt_pb_is_map(message->descriptor, field))
        return read_map(r, doc, path, message, field);
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_array(r, doc, path, message, field);
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        LT_TRY(set_oneof(r, doc, path, message, field));
    else if (lt_pb_has_flag(field))
        *(protobuf_c_boolean *)at_offset(message, field->quantifier_offset) = 1;
    return read_element(r, doc, path, message->descriptor, field,
                        at_offset(message, field->offset));
}

/* A null is an absent field, except where null is a value: google.protobuf.Value, and NullValue. */
static bool is_absent(const struct lt_doc *doc, const ProtobufCFieldDescriptor *field)
{
    return doc->kind == LT_DOC_NULL && field->descriptor != &pb__value__descriptor;
}

static bool is_twice(const struct lt_doc *object, uint32_t at,
                     const ProtobufCFieldDescriptor *field)
{
    for (uint32_t i = 0; i < at; i++) {
        if (name_fits(field->name, object->members[i].key))
            return true;
    }
    return false;
}

static lt_rc read_fields(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         ProtobufCMessage *message, bool skips_type)
{
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_doc_expected(r->err, path, doc, "object");
    for (uint32_t i = 0; i < doc->count; i++) {
        const struct lt_doc_member *member = &doc->members[i];
        struct lt_doc_path here = {.up = path, .key = member->key};
        if (skips_type && lt_str_eqz(member->key, "@type"))
            continue;
        const ProtobufCFieldDescriptor *field = find_field(message->descriptor, member->key);
        if (field == NULL) {
            LT_TRY(on_unknown(r, &member->value, &here, message->descriptor));
            continue;
        }
        if (is_twice(doc, i, field))
            return lt_doc_error(r->err, LT_E_BAD, &here, &member->value, "\"%s\" is set twice",
                                field->name);
        if (!is_absent(&member->value, field))
            LT_TRY(read_field(r, &member->value, &here, message, field));
    }
    return LT_OK;
}

/* --- messages with a JSON form of their own --- */

static lt_rc read_duration(struct reader *r, const struct lt_doc *doc,
                           const struct lt_doc_path *path, Pb__Duration *duration)
{
    if (!lt_doc_is(doc, LT_DOC_STRING))
        return lt_doc_expected(r->err, path, doc, "duration such as \"1.5s\"");
    return lt_pb_duration_parse(doc->string, duration) == LT_OK
               ? LT_OK
               : bad(r, doc, path, "not a duration such as \"1.5s\"");
}

static lt_rc read_timestamp(struct reader *r, const struct lt_doc *doc,
                            const struct lt_doc_path *path, Pb__Timestamp *timestamp)
{
    if (!lt_doc_is(doc, LT_DOC_STRING))
        return lt_doc_expected(r->err, path, doc, "RFC 3339 time");
    return lt_pb_timestamp_parse(doc->string, timestamp) == LT_OK
               ? LT_OK
               : bad(r, doc, path, "not an RFC 3339 time");
}

static lt_rc read_struct(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                         Pb__Struct *st)
{
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_doc_expected(r->err, path, doc, "object");
    *st = *lt_struct_from_doc(r->arena, doc);
    return LT_OK;
}

static lt_rc read_list_value(struct reader *r, const struct lt_doc *doc,
                             const struct lt_doc_path *path, Pb__ListValue *list)
{
    if (!lt_doc_is(doc, LT_DOC_ARRAY))
        return lt_doc_expected(r->err, path, doc, "array");
    list->n_values = doc->count;
    list->values = lt_arena_make_n(r->arena, Pb__Value *, doc->count);
    for (uint32_t i = 0; i < doc->count; i++)
        list->values[i] = lt_struct_value_from_doc(r->arena, &doc->items[i]);
    return LT_OK;
}

/* What is in {"@type": T, ...}: the fields beside @type, or "value" when T has its own JSON form.
 */
static lt_rc read_any_content(struct reader *r, const struct lt_doc *doc,
                              const struct lt_doc_path *path, ProtobufCMessage *message)
{
    if (!lt_pb_has_own_json(message->descriptor))
        return read_fields(r, doc, path, message, true);
    struct lt_doc_path here = {.up = path, .key = LT_STR("value")};
    const struct lt_doc *value = lt_doc_findz(doc, "value");
    if (value == NULL)
        return bad(r, doc, path, "expected \"value\"");
    return read_message(r, value, &here, message);
}

static lt_rc read_any(struct reader *r, const struct lt_doc *doc, const struct lt_doc_path *path,
                      Pb__Any *any)
{
    struct lt_doc_path here = {.up = path, .key = LT_STR("@type")};
    const struct lt_doc *type = lt_doc_findz(doc, "@type");
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_doc_expected(r->err, path, doc, "object");
    if (doc->count == 0)
        return LT_OK;
    if (!lt_doc_is(type, LT_DOC_STRING))
        return bad(r, doc, path, "expected \"@type\"");
    const ProtobufCMessageDescriptor *inner = lt_any_find(type->string);
    any->type_url = type->string.ptr;
    if (inner == NULL && r->unknowns != NULL) {
        note_unknown(r, &here);
        return LT_OK;
    }
    if (inner == NULL)
        return lt_doc_error(r->err, LT_E_BAD, &here, type, "no schema for type \"%.*s\"",
                            (int)LT_MIN(type->string.len, (size_t)200), type->string.ptr);
    ProtobufCMessage *message = NULL;
    LT_TRY(new_message(r, doc, path, inner, &message));
    LT_TRY(read_any_content(r, doc, path, message));
    any->value = lt_pb_pack_data(r->arena, message);
    any->has_value = any->value.len > 0;
    return LT_OK;
}

static lt_rc read_message(struct reader *r, const struct lt_doc *doc,
                          const struct lt_doc_path *path, ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    if (!lt_pb_has_own_json(descriptor))
        return read_fields(r, doc, path, message, false);
    if (descriptor == &pb__any__descriptor)
        return read_any(r, doc, path, (Pb__Any *)message);
    if (descriptor == &pb__duration__descriptor)
        return read_duration(r, doc, path, (Pb__Duration *)message);
    if (descriptor == &pb__timestamp__descriptor)
        return read_timestamp(r, doc, path, (Pb__Timestamp *)message);
    if (descriptor == &pb__struct__descriptor)
        return read_struct(r, doc, path, (Pb__Struct *)message);
    if (descriptor == &pb__list_value__descriptor)
        return read_list_value(r, doc, path, (Pb__ListValue *)message);
    if (descriptor == &pb__value__descriptor) {
        *(Pb__Value *)message = *lt_struct_value_from_doc(r->arena, doc);
        return LT_OK;
    }
    /* the wrappers, whose only field is `value` */
    LT_ASSERT(descriptor->n_fields == 1);
    return read_field(r, doc, path, message, &descriptor->fields[0]);
}

lt_rc lt_pbjson_read(struct lt_arena *arena, const struct lt_doc *doc,
                     const ProtobufCMessageDescriptor *descriptor,
                     const struct lt_pbjson_read_opts *opts, void *ret_msg, struct lt_err *err)
{
    static const struct lt_doc_path root;
    struct reader r = {arena, opts != NULL ? opts->unknowns : NULL, LT_PB_LIMITS_DEFAULT.memory_max,
                       err};
    const struct lt_doc_path *path = opts != NULL && opts->path != NULL ? opts->path : &root;
    ProtobufCMessage *message = NULL;
    LT_TRY(new_message(&r, doc, path, descriptor, &message));
    LT_TRY(read_message(&r, doc, path, message));
    *(void **)ret_msg = message;
    return LT_OK;
}
