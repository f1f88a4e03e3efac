/*
 * wire/pb_priv.h - for this room: how protobuf-c lays a message out in memory.
 */
#ifndef LT_WIRE_PB_PRIV_H
#define LT_WIRE_PB_PRIV_H

#include "wire/pb.h"
#include "wire/proto/google.pb-c.h"

/* Bytes that one element takes, in the struct or in the array of a repeated field. */
static inline size_t lt_pb_size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    default: return 4;
    }
}

/* A has_ flag is there for what has no NULL. */
static inline bool lt_pb_has_flag(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_OPTIONAL &&
           (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 &&
           field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE;
}

/* The well-known types that JSON doesn't write as {field: value}. */
static inline bool lt_pb_has_own_json(const ProtobufCMessageDescriptor *descriptor)
{
    return lt_str_eqz(lt_str_of(descriptor->package_name), "google.protobuf") &&
           descriptor != &pb__empty__descriptor;
}

/* The key of a map's entry; every map of our schemas has string keys. */
static inline const char *lt_pb_entry_key(const ProtobufCMessage *entry)
{
    const char *key = *(const char *const *)((const char *)entry +
                                             entry->descriptor->fields[0].offset);
    return key != NULL ? key : "";
}

#endif
