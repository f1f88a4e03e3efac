/*
 * wire/pbjson_write.c - message to JSON (protojson's writing rules, proto names), secrets left
 * out.
 * Trust: messages may hold anything that a stranger put into an Any or a Struct; how deep those
 * may nest is counted here.
 * Start at: lt_pbjson_write(), write_fields().
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/base64.h"
#include "wire/pb_priv.h"
#include "wire/pb_time.h"
#include "wire/pbjson.h"
#include "wire/proto/tls.pb-c.h"
#include "wire/struct.h"

enum {
    /* behind this many open brackets what is packed stays packed: room for a schema's own depth
       remains above it */
    UNPACK_DEPTH_MAX = LT_JSON_DEPTH_MAX / 2,
    STRUCT_DEPTH_MAX = 64,
};

struct writer {
    struct lt_json_writer *json;
    struct lt_arena *scratch;
    bool shows_secrets;
    bool is_secret; /* everything from here down is */
};

static const struct {
    const ProtobufCMessageDescriptor *message;
    uint32_t field_number;
} secret_members[] = {
#define LT_SECRET(message, number) {&message##__descriptor, number},
#include "wire/secrets.def"
#undef LT_SECRET
};

static bool is_secret(const ProtobufCMessageDescriptor *message, uint32_t field_number)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(secret_members); i++) {
        if (secret_members[i].message == message && secret_members[i].field_number == field_number)
            return true;
    }
    return false;
}

static void write_message(struct writer *w, const ProtobufCMessage *message);

static const void *at_offset(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

/* --- scalars --- */

static void write_base64(struct writer *w, lt_str bytes)
{
    struct lt_arena_mark mark = lt_arena_mark(w->scratch);
    lt_json_str(w->json, lt_base64_encode(w->scratch, bytes));
    lt_arena_rollback(w->scratch, mark);
}

static void write_enum(struct writer *w, const ProtobufCEnumDescriptor *descriptor, int32_t value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(descriptor, value);
    if (known != NULL)
        lt_json_str(w->json, lt_str_of(known->name));
    else
        lt_json_int(w->json, value);
}

/* protojson writes 64 bits as strings, because JavaScript has 53. */
static void write_i64(struct writer *w, int64_t value)
{
    lt_json_strf(w->json, "%lld", (long long)value);
}

static void write_u64(struct writer *w, uint64_t value)
{
    lt_json_strf(w->json, "%llu", (unsigned long long)value);
}

/* Shortest decimal text that gives the same float; read as a double it is what lt_json_double
 * prints shortest. */
static void write_float(struct writer *w, float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    lt_json_double(w->json, isfinite(value) ? strtod(text, NULL) : (double)value);
}

/* A message of recursive.def. */
static void write_inside(struct writer *w, const ProtobufCMessageDescriptor *inside, lt_str bytes)
{
    struct lt_arena_mark mark = lt_arena_mark(w->scratch);
    ProtobufCMessage *message = NULL;
    if (w->json->depth < UNPACK_DEPTH_MAX &&
        lt_pb_unpack(w->scratch, inside, bytes, NULL, &message, NULL) == LT_OK)
        write_message(w, message);
    else
        write_base64(w, bytes);
    lt_arena_rollback(w->scratch, mark);
}

static void write_bytes(struct writer *w, const ProtobufCMessageDescriptor *in,
                        const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *data)
{
    const ProtobufCMessageDescriptor *inside = lt_pb_inside(in, field->id);
    if (inside != NULL)
        write_inside(w, inside, lt_pb_bytes(*data));
    else
        write_base64(w, w->is_secret ? LT_STR("[redacted]") : lt_pb_bytes(*data));
}

static void write_element(struct writer *w, const ProtobufCMessageDescriptor *in,
                          const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL: lt_json_bool(w->json, *(const protobuf_c_boolean *)at != 0); break;
    case PROTOBUF_C_TYPE_STRING:
        lt_json_str(w->json,
                    w->is_secret ? LT_STR("[redacted]") : lt_str_of(*(const char *const *)at));
        break;
    case PROTOBUF_C_TYPE_BYTES: write_bytes(w, in, field, at); break;
    case PROTOBUF_C_TYPE_MESSAGE: write_message(w, *(ProtobufCMessage *const *)at); break;
    case PROTOBUF_C_TYPE_ENUM: write_enum(w, field->descriptor, *(const int32_t *)at); break;
    case PROTOBUF_C_TYPE_DOUBLE: lt_json_double(w->json, *(const double *)at); break;
    case PROTOBUF_C_TYPE_FLOAT: write_float(w, *(const float *)at); break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: write_u64(w, *(const uint64_t *)at); break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: write_i64(w, *(const int64_t *)at); break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: lt_json_uint(w->json, *(const uint32_t *)at); break;
    default: lt_json_int(w->json, *(const int32_t *)at); break;
    }
}

/* --- fields --- */

static bool is_zero(const ProtobufCFieldDescriptor *field, const void *at)
{
    static const char zeros[8];
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: return *(ProtobufCMessage *const *)at == NULL;
    case PROTOBUF_C_TYPE_STRING:
        return *(const char *const *)at == NULL || **(const char *const *)at == '\0';
    case PROTOBUF_C_TYPE_BYTES: return ((const ProtobufCBinaryData *)at)->len == 0;
    default: return memcmp(at, zeros, lt_pb_size_of(field->type)) == 0;
    }
}

/* The originals are proto3: a zero outside a oneof is the same as absent. */
static bool is_shown(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const void *at = at_offset(message, field->offset);
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)at_offset(message, field->quantifier_offset) > 0;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return *(const uint32_t *)at_offset(message, field->quantifier_offset) == field->id &&
               (field->type != PROTOBUF_C_TYPE_MESSAGE || !is_zero(field, at));
    if (lt_pb_has_flag(field) &&
        !*(const protobuf_c_boolean *)at_offset(message, field->quantifier_offset))
        return false;
    return !is_zero(field, at);
}

static void write_map(struct writer *w, const ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field)
{
    size_t count = *(const size_t *)at_offset(message, field->quantifier_offset);
    ProtobufCMessage *const *entries = *(ProtobufCMessage *const *const *)at_offset(message,
                                                                                    field->offset);
    lt_json_object_open(w->json);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessageDescriptor *entry = entries[i]->descriptor;
        const void *value = at_offset(entries[i], entry->fields[1].offset);
        bool was_secret = w->is_secret;
        w->is_secret |= !w->shows_secrets && is_secret(entry, 2);
        lt_json_key(w->json, lt_str_of(lt_pb_entry_key(entries[i])));
        if (entry->fields[1].type == PROTOBUF_C_TYPE_MESSAGE &&
            *(ProtobufCMessage *const *)value == NULL)
            lt_json_null(w->json);
        else
            write_element(w, entry, &entry->fields[1], value);
        w->is_secret = was_secret;
    }
    lt_json_object_close(w->json);
}

static void write_array(struct writer *w, const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field)
{
    size_t count = *(const size_t *)at_offset(message, field->quantifier_offset);
    const char *array = *(const char *const *)at_offset(message, field->offset);
    lt_json_array_open(w->json);
    for (size_t i = 0; i < count; i++)
        write_element(w, message->descriptor, field, array + i * lt_pb_size_of(field->type));
    lt_json_array_close(w->json);
}

static void write_field(struct writer *w, const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field)
{
    bool was_secret = w->is_secret;
    w->is_secret |= !w->shows_secrets && is_secret(message->descriptor, field->id);
    lt_json_key(w->json, lt_str_of(field->name));
    if (lt_pb_is_map(message->descriptor, field))
        write_map(w, message, field);
    else if (field->label == PROTOBUF_C_LABEL_REPEATED)
        write_array(w, message, field);
    else
        write_element(w, message->descriptor, field, at_offset(message, field->offset));
    w->is_secret = was_secret;
}

static void write_fields(struct writer *w, const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (is_shown(message, &message->descriptor->fields[i]))
            write_field(w, message, &message->descriptor->fields[i]);
    }
}

/* --- messages with a JSON form of their own --- */

static void write_any(struct writer *w, const Pb__Any *any)
{
    struct lt_arena_mark mark = lt_arena_mark(w->scratch);
    const ProtobufCMessageDescriptor *inner = any->type_url != NULL
                                                  ? lt_any_find(lt_str_of(any->type_url))
                                                  : NULL;
    ProtobufCMessage *message = NULL;
    lt_json_object_open(w->json);
    if (any->type_url != NULL)
        lt_json_kv_str(w->json, "@type", lt_str_of(any->type_url));
    if (inner == NULL || w->json->depth >= UNPACK_DEPTH_MAX ||
        lt_pb_unpack(w->scratch, inner, lt_pb_bytes(any->value), NULL, &message, NULL) != LT_OK) {
        if (any->value.len > 0) {
            lt_json_key(w->json, LT_STR("value"));
            /* nobody knows what is in there: not shown where secrets aren't */
            write_base64(w, w->is_secret ? LT_STR("[redacted]") : lt_pb_bytes(any->value));
        }
    } else if (lt_pb_has_own_json(inner)) {
        lt_json_key(w->json, LT_STR("value"));
        write_message(w, message);
    } else {
        write_fields(w, message);
    }
    lt_json_object_close(w->json);
    lt_arena_rollback(w->scratch, mark);
}

/* A Struct or Value that is nested too deep, or broken, shows as null. */
static void write_doc(struct writer *w, lt_rc rc, const struct lt_doc *doc)
{
    if (w->is_secret)
        lt_json_str(w->json, LT_STR("[redacted]"));
    else if (rc == LT_OK)
        lt_json_doc(w->json, doc);
    else
        lt_json_null(w->json);
}

static void write_value(struct writer *w, const Pb__Value *value)
{
    struct lt_arena_mark mark = lt_arena_mark(w->scratch);
    struct lt_doc_limits limits = LT_DOC_LIMITS_DEFAULT;
    struct lt_doc doc;
    limits.depth_max = STRUCT_DEPTH_MAX;
    write_doc(w, lt_struct_value_to_doc(w->scratch, value, &limits, &doc, NULL), &doc);
    lt_arena_rollback(w->scratch, mark);
}

static void write_struct(struct writer *w, const Pb__Struct *st)
{
    struct lt_arena_mark mark = lt_arena_mark(w->scratch);
    struct lt_doc_limits limits = LT_DOC_LIMITS_DEFAULT;
    struct lt_doc doc;
    limits.depth_max = STRUCT_DEPTH_MAX;
    write_doc(w, lt_struct_to_doc(w->scratch, st, &limits, &doc, NULL), &doc);
    lt_arena_rollback(w->scratch, mark);
}

static void write_list_value(struct writer *w, const Pb__ListValue *list)
{
    lt_json_array_open(w->json);
    for (size_t i = 0; i < list->n_values; i++)
        write_value(w, list->values[i]);
    lt_json_array_close(w->json);
}

static void write_time(struct writer *w, const ProtobufCMessage *message)
{
    char text[LT_PB_TIME_TEXT];
    size_t len = message->descriptor == &pb__duration__descriptor
                     ? lt_pb_duration_format((const Pb__Duration *)message, text)
                     : lt_pb_timestamp_format((const Pb__Timestamp *)message, text);
    lt_json_str(w->json, lt_str_make(text, len));
}

static void write_message(struct writer *w, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    if (!lt_pb_has_own_json(descriptor)) {
        lt_json_object_open(w->json);
        write_fields(w, message);
        lt_json_object_close(w->json);
    } else if (descriptor == &pb__any__descriptor) {
        write_any(w, (const Pb__Any *)message);
    } else if (descriptor == &pb__duration__descriptor ||
               descriptor == &pb__timestamp__descriptor) {
        write_time(w, message);
    } else if (descriptor == &pb__struct__descriptor) {
        write_struct(w, (const Pb__Struct *)message);
    } else if (descriptor == &pb__list_value__descriptor) {
        write_list_value(w, (const Pb__ListValue *)message);
    } else if (descriptor == &pb__value__descriptor) {
        write_value(w, (const Pb__Value *)message);
    } else {
        /* the wrappers, whose only field is `value`; absent is zero */
        write_element(w, descriptor, &descriptor->fields[0],
                      at_offset(message, descriptor->fields[0].offset));
    }
}

void lt_pbjson_write(struct lt_json_writer *json, struct lt_arena *scratch, const void *message,
                     const struct lt_pbjson_write_opts *opts)
{
    struct writer w = {
        .json = json, .scratch = scratch, .shows_secrets = opts != NULL && opts->shows_secrets};
    write_message(&w, message);
}
