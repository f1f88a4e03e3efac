/*
 * wire/pb_pack.c - messages to bytes, and what can be asked about a schema.
 * protobuf-c writes; we put maps in order first, so that equal messages are equal bytes.
 */
#include <ctype.h>
#include <stdlib.h>

#include "wire/pb_priv.h"
#include "wire/proto/accesslog.pb-c.h"
#include "wire/proto/common_matcher.pb-c.h"
#include "wire/proto/discovery.pb-c.h"
#include "wire/proto/google.pb-c.h"
#include "wire/proto/http_jwt_authn.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/otlp_common.pb-c.h"
#include "wire/proto/rbac.pb-c.h"
#include "wire/proto/type_matcher.pb-c.h"

static const struct {
    const ProtobufCMessageDescriptor *message;
    uint32_t field_number;
    const ProtobufCMessageDescriptor *inside;
} recursive_members[] = {
#define LT_RECURSIVE(message, number, inside) \
    {&message##__descriptor, number, &inside##__descriptor},
#include "wire/recursive.def"
#undef LT_RECURSIVE
};

const ProtobufCMessageDescriptor *lt_pb_inside(const ProtobufCMessageDescriptor *message,
                                               uint32_t field_number)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(recursive_members); i++) {
        if (recursive_members[i].message == message &&
            recursive_members[i].field_number == field_number)
            return recursive_members[i].inside;
    }
    return NULL;
}

/* protoc names the entries of map<K, V> some_map: SomeMapEntry, inside the message that has the
 * map. */
bool lt_pb_is_map(const ProtobufCMessageDescriptor *message, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE ||
        entry->n_fields != 2)
        return false;
    lt_str left = lt_str_of(entry->name);
    lt_str parent = lt_str_of(message->name);
    if (!lt_str_starts(left, parent) || left.len <= parent.len || left.ptr[parent.len] != '.')
        return false;
    left = lt_str_from(left, parent.len + 1);
    bool is_upper = true;
    for (const char *c = field->name; *c != '\0'; c++) {
        if (*c == '_') {
            is_upper = true;
            continue;
        }
        char want = is_upper ? (char)toupper((unsigned char)*c) : *c;
        is_upper = false;
        if (left.len == 0 || left.ptr[0] != want)
            return false;
        left = lt_str_from(left, 1);
    }
    return lt_str_eqz(left, "Entry");
}

static int by_key(const void *left, const void *right)
{
    const ProtobufCMessage *const *a = left, *const *b = right;
    return strcmp(lt_pb_entry_key(*a), lt_pb_entry_key(*b));
}

static void sort_maps(ProtobufCMessage *message);

static void sort_maps_in_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    char *base = (char *)message;
    void *at = base + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(size_t *)(void *)(base + field->quantifier_offset);
        ProtobufCMessage **items = *(ProtobufCMessage ***)at;
        for (size_t i = 0; i < count; i++)
            sort_maps(items[i]);
        if (count > 1 && lt_pb_is_map(message->descriptor, field))
            qsort(items, count, sizeof(*items), by_key);
        return;
    }
    bool is_other_member = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
                           *(uint32_t *)(void *)(base + field->quantifier_offset) != field->id;
    if (!is_other_member && *(ProtobufCMessage **)at != NULL)
        sort_maps(*(ProtobufCMessage **)at);
}

static void sort_maps(ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (message->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            sort_maps_in_field(message, &message->descriptor->fields[i]);
    }
}

void *lt_pb_new_message(struct lt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                        size_t size)
{
    LT_ASSERT(size == descriptor->sizeof_message);
    void *message = lt_arena_alloc(arena, size);
    descriptor->message_init(message);
    return message;
}

lt_str lt_pb_pack(struct lt_arena *arena, void *message)
{
    sort_maps(message);
    size_t size = protobuf_c_message_get_packed_size(message);
    char *bytes = lt_arena_bytes(arena, size);
    LT_ASSERT(protobuf_c_message_pack(message, (uint8_t *)bytes) == size);
    return lt_str_make(bytes, size);
}

ProtobufCBinaryData lt_pb_pack_data(struct lt_arena *arena, void *message)
{
    lt_str bytes = lt_pb_pack(arena, message);
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.ptr};
}
