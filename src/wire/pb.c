/*
 * wire/pb.c - the protobuf reader.
 * Each message is looked at twice on its own level: once to check the framing and to count what is
 * repeated, once to fill the struct. What is inside a nested message is left to that message's
 * turn.
 * Trust: all bytes are a stranger's.   Start at: lt_pb_unpack(), fill_message().
 */
#include "wire/pb.h"

#include <stdio.h>
#include <stdlib.h>

#include "wire/pb_priv.h"

/* The message with most fields has some sixty; schema_test.c checks. */
enum { FIELDS_OF_A_MESSAGE_MAX = 128 };

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct frame {
    const struct frame *up;
    const char *name;
    size_t index;
    bool has_index;
};

struct reader {
    struct lt_arena *arena;
    struct lt_pb_unknowns *unknowns; /* may be NULL */
    size_t memory_left;
    uint32_t fields_left;
    struct lt_err *err;
};

/* One field as it stands in the bytes. */
struct wire_field {
    uint32_t number;
    uint32_t type;
    uint64_t value; /* of the three number types */
    lt_str bytes;   /* of WIRE_BYTES */
};

/* --- where we are --- */

static size_t format_path(const struct frame *frame, bool with_index, char *out, size_t size)
{
    size_t len = 0;
    if (frame == NULL)
        return 0;
    if (frame->up != NULL)
        len = format_path(frame->up, with_index, out, size);
    int more = with_index && frame->has_index
                   ? snprintf(out + len, size - len, "%s%s[%zu]", len > 0 ? "." : "", frame->name,
                              frame->index)
                   : snprintf(out + len, size - len, "%s%s", len > 0 ? "." : "", frame->name);
    return LT_MIN(len + (size_t)more, size - 1);
}

static lt_rc fail(const struct reader *r, lt_rc rc, const struct frame *frame, const char *what)
{
    char path[512] = "";
    format_path(frame, true, path, sizeof(path));
    return lt_err_set(r->err, rc, "%s%s%s", path, path[0] != '\0' ? ": " : "", what);
}

static void note_unknown(struct reader *r, const struct frame *frame, uint32_t number)
{
    if (r->unknowns == NULL)
        return;
    r->unknowns->count++;
    if (r->unknowns->is_cut)
        return;
    char path[512] = "";
    size_t len = format_path(frame, false, path, sizeof(path) - 16);
    len += (size_t)snprintf(path + len, sizeof(path) - len, "%s#%u", len > 0 ? "." : "", number);
    for (uint32_t i = 0; i < r->unknowns->listed; i++) {
        if (lt_str_eqz(r->unknowns->paths[i], path))
            return;
    }
    char *copy = r->unknowns->listed < LT_PB_UNKNOWN_LISTED_MAX
                     ? lt_arena_try_bytes(r->arena, len + 1)
                     : NULL;
    r->unknowns->is_cut = copy == NULL;
    if (copy == NULL)
        return;
    memcpy(copy, path, len + 1);
    r->unknowns->paths[r->unknowns->listed++] = lt_str_make(copy, len);
}

/* --- framing --- */

static bool read_long_varint(lt_str *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < rest->len && i < 10; i++) {
        uint8_t byte = (uint8_t)rest->ptr[i];
        if (i == 9 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            rest->ptr += i + 1;
            rest->len -= i + 1;
            return true;
        }
    }
    return false;
}

/* Most tags and lengths are one byte. */
static inline bool read_varint(lt_str *rest, uint64_t *ret_value)
{
    if (LT_UNLIKELY(rest->len == 0 || ((uint8_t)rest->ptr[0] & 0x80) != 0))
        return read_long_varint(rest, ret_value);
    *ret_value = (uint8_t)rest->ptr[0];
    rest->ptr++;
    rest->len--;
    return true;
}

static bool read_fixed(lt_str *rest, size_t size, uint64_t *ret_value)
{
    if (rest->len < size)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)(uint8_t)rest->ptr[i] << (8 * i);
    *ret_value = value;
    *rest = lt_str_from(*rest, size);
    return true;
}

static bool read_bytes(lt_str *rest, lt_str *ret_bytes)
{
    uint64_t len = 0;
    if (!read_varint(rest, &len) || len > rest->len)
        return false;
    *ret_bytes = lt_str_slice(*rest, 0, (size_t)len);
    *rest = lt_str_from(*rest, (size_t)len);
    return true;
}

static bool read_field(lt_str *rest, struct wire_field *ret_field)
{
    uint64_t tag = 0;
    if (!read_varint(rest, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    ret_field->number = (uint32_t)(tag >> 3);
    ret_field->type = (uint32_t)(tag & 7);
    switch (ret_field->type) {
    case WIRE_VARINT: return read_varint(rest, &ret_field->value);
    case WIRE_64: return read_fixed(rest, 8, &ret_field->value);
    case WIRE_32: return read_fixed(rest, 4, &ret_field->value);
    case WIRE_BYTES: return read_bytes(rest, &ret_field->bytes);
    default: return false; /* groups (3 and 4) were never in these schemas; 6 and 7 don't exist */
    }
}

/* --- schema --- */

static uint32_t wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return WIRE_BYTES;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return WIRE_32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return WIRE_64;
    default: return WIRE_VARINT;
    }
}

/* Repeated numbers come one by one or packed, whatever the schema says. */
static bool is_packed(const ProtobufCFieldDescriptor *field, const struct wire_field *wire)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED && wire->type == WIRE_BYTES &&
           wire_type_of(field->type) != WIRE_BYTES;
}

static bool fits(const ProtobufCFieldDescriptor *field, const struct wire_field *wire)
{
    return wire->type == wire_type_of(field->type) || is_packed(field, wire);
}

/* Writers send fields in order: mostly it is the one of last time, or the next. NULL: unknown. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *descriptor,
                                                  const struct wire_field *wire, unsigned *hint)
{
    const ProtobufCFieldDescriptor *field = NULL;
    for (unsigned at = *hint; at < *hint + 2 && at < descriptor->n_fields; at++) {
        if (descriptor->fields[at].id == wire->number)
            field = &descriptor->fields[at];
    }
    if (field == NULL)
        field = protobuf_c_message_descriptor_get_field(descriptor, wire->number);
    if (field == NULL || !fits(field, wire))
        return NULL;
    *hint = (unsigned)(field - descriptor->fields);
    return field;
}

static void *at_offset(ProtobufCMessage *message, unsigned offset)
{
    return (char *)message + offset;
}

/* --- pass one: count --- */

static bool count_packed(const ProtobufCFieldDescriptor *field, lt_str bytes, size_t *ret_count)
{
    size_t count = 0;
    switch (wire_type_of(field->type)) {
    case WIRE_32: *ret_count = bytes.len / 4; return bytes.len % 4 == 0;
    case WIRE_64: *ret_count = bytes.len / 8; return bytes.len % 8 == 0;
    default:
        for (size_t i = 0; i < bytes.len; i++)
            count += ((uint8_t)bytes.ptr[i] & 0x80) == 0;
        *ret_count = count;
        return bytes.len == 0 || ((uint8_t)bytes.ptr[bytes.len - 1] & 0x80) == 0;
    }
}

struct counts {
    bool has_repeated; /* otherwise nothing below is looked at */
    uint32_t of[FIELDS_OF_A_MESSAGE_MAX];
};

static lt_rc count_fields(struct reader *r, const ProtobufCMessageDescriptor *descriptor,
                          lt_str bytes, const struct frame *frame, struct counts *counts)
{
    unsigned hint = 0;
    while (bytes.len > 0) {
        struct wire_field wire;
        size_t count = 1;
        if (!read_field(&bytes, &wire))
            return fail(r, LT_E_BAD, frame, "malformed field");
        if (r->fields_left-- == 0)
            return fail(r, LT_E_LIMIT, frame, "too many fields");
        const ProtobufCFieldDescriptor *field = find_field(descriptor, &wire, &hint);
        if (field == NULL) {
            note_unknown(r, frame, wire.number);
            continue;
        }
        if (field->label != PROTOBUF_C_LABEL_REPEATED)
            continue;
        if (is_packed(field, &wire) && !count_packed(field, wire.bytes, &count))
            return fail(r, LT_E_BAD, frame, "malformed packed field");
        if (!counts->has_repeated)
            memset(counts->of, 0, descriptor->n_fields * sizeof(counts->of[0]));
        counts->has_repeated = true;
        if (__builtin_add_overflow(counts->of[hint], count, &counts->of[hint]))
            return fail(r, LT_E_LIMIT, frame, "too many elements");
    }
    return LT_OK;
}

/* --- pass two: fill --- */

static lt_rc take_memory(struct reader *r, size_t size, const struct frame *frame)
{
    if (size > r->memory_left)
        return fail(r, LT_E_LIMIT, frame, "takes too much memory");
    r->memory_left -= size;
    return LT_OK;
}

static lt_rc alloc(struct reader *r, size_t size, const struct frame *frame, void **ret_ptr)
{
    LT_TRY(take_memory(r, size, frame));
    *ret_ptr = lt_arena_try_alloc(r->arena, size);
    return *ret_ptr != NULL ? LT_OK
                            : fail(r, LT_E_LIMIT, frame, "takes more than the memory set aside");
}

static lt_rc copy_bytes(struct reader *r, lt_str bytes, const struct frame *frame, char **ret_copy)
{
    LT_TRY(take_memory(r, bytes.len + 1, frame));
    *ret_copy = lt_arena_try_bytes(r->arena, bytes.len + 1);
    if (*ret_copy == NULL)
        return fail(r, LT_E_LIMIT, frame, "takes more than the memory set aside");
    if (bytes.len > 0)
        memcpy(*ret_copy, bytes.ptr, bytes.len);
    (*ret_copy)[bytes.len] = '\0';
    return LT_OK;
}

/* Arrays for what pass one counted; n_ counts on from what an earlier part of a merged message
 * left. */
static lt_rc make_arrays(struct reader *r, ProtobufCMessage *message, const struct counts *counts,
                         const struct frame *frame)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (counts->of[i] == 0 || field->label != PROTOBUF_C_LABEL_REPEATED)
            continue;
        size_t have = *(size_t *)at_offset(message, field->quantifier_offset);
        void **array = at_offset(message, field->offset);
        void *bigger = NULL;
        LT_TRY(alloc(r, lt_size_mul(have + counts->of[i], lt_pb_size_of(field->type)), frame,
                     &bigger));
        if (have > 0)
            memcpy(bigger, *array, have * lt_pb_size_of(field->type));
        *array = bigger;
    }
    return LT_OK;
}

static uint64_t unzigzag(uint64_t value)
{
    return value >> 1 ^ (0 - (value & 1));
}

static void store_number(const ProtobufCFieldDescriptor *field, uint64_t value, void *at)
{
    if (field->type == PROTOBUF_C_TYPE_SINT32 || field->type == PROTOBUF_C_TYPE_SINT64)
        value = unzigzag(field->type == PROTOBUF_C_TYPE_SINT32 ? (uint32_t)value : value);
    if (field->type == PROTOBUF_C_TYPE_BOOL) {
        *(protobuf_c_boolean *)at = value != 0;
    } else if (lt_pb_size_of(field->type) == 8) {
        memcpy(at, &value, 8);
    } else {
        uint32_t low = (uint32_t)value;
        memcpy(at, &low, 4);
    }
}

static lt_rc store_string(struct reader *r, lt_str text, const struct frame *frame, void *at)
{
    if (!lt_str_is_utf8(text) || (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL))
        return fail(r, LT_E_BAD, frame, "text is not UTF-8, or has a NUL inside");
    return copy_bytes(r, text, frame, at);
}

static lt_rc store_bytes(struct reader *r, lt_str bytes, const struct frame *frame,
                         ProtobufCBinaryData *at)
{
    char *copy = NULL;
    LT_TRY(copy_bytes(r, bytes, frame, &copy));
    *at = (ProtobufCBinaryData){bytes.len, (uint8_t *)copy};
    return LT_OK;
}

static lt_rc fill_message(struct reader *r, ProtobufCMessage *message, lt_str bytes,
                          const struct frame *frame);

/* A message that is there already (the field came twice) is merged into, as protobuf wants. */
static lt_rc store_message(struct reader *r, const ProtobufCFieldDescriptor *field, lt_str bytes,
                           const struct frame *frame, ProtobufCMessage **at)
{
    const ProtobufCMessageDescriptor *inner = field->descriptor;
    if (*at == NULL) {
        void *made = NULL;
        LT_TRY(alloc(r, inner->sizeof_message, frame, &made));
        inner->message_init(made);
        *at = made;
    }
    return fill_message(r, *at, bytes, frame);
}

static lt_rc store(struct reader *r, const ProtobufCFieldDescriptor *field,
                   const struct wire_field *wire, const struct frame *frame, void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: return store_string(r, wire->bytes, frame, at);
    case PROTOBUF_C_TYPE_BYTES: return store_bytes(r, wire->bytes, frame, at);
    case PROTOBUF_C_TYPE_MESSAGE: return store_message(r, field, wire->bytes, frame, at);
    default: store_number(field, wire->value, at); return LT_OK;
    }
}

/* count_packed looked at the framing but not at the length of each varint. */
static lt_rc store_packed(struct reader *r, const ProtobufCFieldDescriptor *field, lt_str bytes,
                          const struct frame *frame, char *array, size_t *count)
{
    uint32_t type = wire_type_of(field->type);
    while (bytes.len > 0) {
        uint64_t value = 0;
        bool is_good = type == WIRE_VARINT ? read_varint(&bytes, &value)
                                           : read_fixed(&bytes, type == WIRE_32 ? 4 : 8, &value);
        if (!is_good)
            return fail(r, LT_E_BAD, frame, "malformed packed field");
        store_number(field, value, array + *count * lt_pb_size_of(field->type));
        ++*count;
    }
    return LT_OK;
}

static lt_rc store_repeated(struct reader *r, ProtobufCMessage *message,
                            const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                            struct frame *frame)
{
    size_t *count = at_offset(message, field->quantifier_offset);
    char *array = *(char **)at_offset(message, field->offset);
    frame->index = *count;
    frame->has_index = true;
    if (is_packed(field, wire))
        return store_packed(r, field, wire->bytes, frame, array, count);
    LT_TRY(store(r, field, wire, frame, array + *count * lt_pb_size_of(field->type)));
    ++*count;
    return LT_OK;
}

static lt_rc store_single(struct reader *r, ProtobufCMessage *message,
                          const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                          const struct frame *frame)
{
    void *at = at_offset(message, field->offset);
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t *which = at_offset(message, field->quantifier_offset);
        if (*which != field->id)
            memset(at, 0, lt_pb_size_of(field->type));
        *which = field->id;
    } else if (lt_pb_has_flag(field)) {
        *(protobuf_c_boolean *)at_offset(message, field->quantifier_offset) = 1;
    }
    return store(r, field, wire, frame, at);
}

/* --- maps --- */

struct ranked {
    ProtobufCMessage *entry;
    size_t rank;
};

static int by_key_then_rank(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    int order = strcmp(lt_pb_entry_key(a->entry), lt_pb_entry_key(b->entry));
    return order != 0 ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

static bool is_sorted(ProtobufCMessage **entries, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (strcmp(lt_pb_entry_key(entries[i - 1]), lt_pb_entry_key(entries[i])) >= 0)
            return false;
    }
    return true;
}

static lt_rc sort_map(struct reader *r, ProtobufCMessage **entries, size_t *count,
                      const struct frame *frame)
{
    void *made = NULL;
    if (is_sorted(entries, *count))
        return LT_OK;
    LT_TRY(alloc(r, lt_size_mul(*count, sizeof(struct ranked)), frame, &made));
    struct ranked *ranked = made;
    for (size_t i = 0; i < *count; i++)
        ranked[i] = (struct ranked){entries[i], i};
    qsort(ranked, *count, sizeof(*ranked), by_key_then_rank);
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        bool is_last = i + 1 == *count || strcmp(lt_pb_entry_key(ranked[i].entry),
                                                 lt_pb_entry_key(ranked[i + 1].entry)) != 0;
        if (is_last)
            entries[kept++] = ranked[i].entry;
    }
    *count = kept;
    return LT_OK;
}

static lt_rc sort_maps(struct reader *r, ProtobufCMessage *message, const struct counts *counts,
                       const struct frame *frame)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (counts->of[i] == 0 || !lt_pb_is_map(descriptor, field))
            continue;
        size_t *count = at_offset(message, field->quantifier_offset);
        LT_TRY(sort_map(r, *(ProtobufCMessage ***)at_offset(message, field->offset), count, frame));
    }
    return LT_OK;
}

/* --- messages --- */

static lt_rc fill_fields(struct reader *r, ProtobufCMessage *message, lt_str bytes,
                         const struct frame *up)
{
    unsigned hint = 0;
    while (bytes.len > 0) {
        struct wire_field wire;
        LT_ASSERT(read_field(&bytes, &wire)); /* pass one saw the same bytes */
        const ProtobufCFieldDescriptor *field = find_field(message->descriptor, &wire, &hint);
        if (field == NULL)
            continue;
        struct frame frame = {.up = up, .name = field->name};
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            LT_TRY(store_repeated(r, message, field, &wire, &frame));
        else
            LT_TRY(store_single(r, message, field, &wire, &frame));
    }
    return LT_OK;
}

/* Recursion here is bounded by the schemas, none of which contains itself (schema_test.c). */
static lt_rc fill_message(struct reader *r, ProtobufCMessage *message, lt_str bytes,
                          const struct frame *frame)
{
    struct counts counts;
    counts.has_repeated = false;
    LT_ASSERT(message->descriptor->n_fields <= FIELDS_OF_A_MESSAGE_MAX);
    LT_TRY(count_fields(r, message->descriptor, bytes, frame, &counts));
    if (counts.has_repeated)
        LT_TRY(make_arrays(r, message, &counts, frame));
    LT_TRY(fill_fields(r, message, bytes, frame));
    return counts.has_repeated ? sort_maps(r, message, &counts, frame) : LT_OK;
}

lt_rc lt_pb_unpack(struct lt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                   lt_str bytes, const struct lt_pb_opts *opts, void *ret_msg, struct lt_err *err)
{
    LT_ASSERT(descriptor->magic == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
    const struct lt_pb_limits limits = opts != NULL ? opts->limits : LT_PB_LIMITS_DEFAULT;
    struct reader r = {.arena = arena,
                       .unknowns = opts != NULL ? opts->unknowns : NULL,
                       .memory_left = limits.memory_max,
                       .fields_left = limits.fields_max,
                       .err = err};
    void *message = NULL;
    if (bytes.len > limits.bytes_max)
        return lt_err_set(err, LT_E_LIMIT, "%zu bytes, more than %zu", bytes.len, limits.bytes_max);
    LT_TRY(alloc(&r, descriptor->sizeof_message, NULL, &message));
    descriptor->message_init(message);
    LT_TRY(fill_message(&r, message, bytes, NULL));
    *(void **)ret_msg = message;
    return LT_OK;
}
