/*
 * proxy/compile/opened.c - messages inside messages, opened once: a table by address.
 * Start at: px_open_any().
 */
#include "proxy/compile/opened.h"

enum { SLOTS_FIRST = 32 };

static size_t slot_of(const struct px_opened_table *table, const void *key)
{
    size_t at = (size_t)(((uintptr_t)key >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
    at &= table->cap - 1;
    while (table->slots[at].key != NULL && table->slots[at].key != key)
        at = (at + 1) & (table->cap - 1);
    return at;
}

const struct px_opened *px_opened_find(const struct px_build *build, const void *key)
{
    const struct px_opened_table *table = &build->opened;
    if (table->cap == 0 || key == NULL)
        return NULL;
    const struct px_opened *slot = &table->slots[slot_of(table, key)];
    return slot->key != NULL ? slot : NULL;
}

/* The old slots stay in scratch, which is short-lived. */
static void grow(struct px_build *build)
{
    struct px_opened_table *table = &build->opened, old = *table;
    table->cap = LT_MAX(old.cap * 2, (size_t)SLOTS_FIRST);
    table->slots = lt_arena_make_n(build->scratch, struct px_opened, table->cap);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key != NULL)
            table->slots[slot_of(table, old.slots[i].key)] = old.slots[i];
    }
}

static const struct px_opened *keep(struct px_build *build, const void *key,
                                    ProtobufCMessage *message,
                                    const struct lt_pb_unknowns *unknowns)
{
    struct px_opened_table *table = &build->opened;
    if ((table->count + 1) * 4 > table->cap * 3)
        grow(build);
    bool is_kept = key != NULL; /* nothing at all is opened as often as it is asked for */
    struct px_opened *slot = is_kept ? &table->slots[slot_of(table, key)]
                                     : lt_arena_make(build->scratch, struct px_opened);
    *slot = (struct px_opened){.key = key, .message = message};
    table->count += is_kept ? 1 : 0;
    if (unknowns->count > 0) {
        struct lt_pb_unknowns *kept = lt_arena_make(build->scratch, struct lt_pb_unknowns);
        *kept = *unknowns;
        slot->unknowns = kept;
    }
    return slot;
}

lt_rc px_open_any(struct px_build *build, const Pb__Any *any, const struct px_opened **ret_opened,
                  struct lt_err *err)
{
    struct lt_pb_unknowns unknowns;
    struct lt_pb_opts opts = {LT_PB_LIMITS_DEFAULT, &unknowns};
    ProtobufCMessage *message = NULL;
    *ret_opened = px_opened_find(build, any);
    if (*ret_opened != NULL)
        return LT_OK;
    lt_pb_unknowns_init(&unknowns);
    LT_TRY(lt_any_unpack(build->scratch, any, &opts, &message, err));
    *ret_opened = keep(build, any, message, &unknowns);
    return LT_OK;
}

lt_rc px_open_bytes(struct px_build *build, ProtobufCBinaryData bytes,
                    const ProtobufCMessageDescriptor *type, const struct px_opened **ret_opened,
                    struct lt_err *err)
{
    struct lt_pb_unknowns unknowns;
    struct lt_pb_opts opts = {LT_PB_LIMITS_DEFAULT, &unknowns};
    ProtobufCMessage *message = NULL;
    *ret_opened = px_opened_find(build, bytes.data);
    if (*ret_opened != NULL)
        return LT_OK;
    lt_pb_unknowns_init(&unknowns);
    LT_TRY(lt_pb_unpack(build->scratch, type, lt_pb_bytes(bytes), &opts, &message, err));
    *ret_opened = keep(build, bytes.data, message, &unknowns);
    return LT_OK;
}

/* A TypedStruct is opened at once: its type alone would cost half of it. */
lt_str px_any_type(struct px_build *build, const Pb__Any *any)
{
    const struct px_opened *opened = NULL;
    if (any == NULL || any->type_url == NULL)
        return LT_STR("");
    lt_str type = lt_any_type_name(lt_str_of(any->type_url));
    if (!lt_str_ends(type, LT_STR(".TypedStruct")))
        return type;
    return px_open_any(build, any, &opened, NULL) == LT_OK
               ? lt_str_of(opened->message->descriptor->name)
               : lt_any_inner_type(build->scratch, any);
}

lt_rc px_unpack_any(struct px_build *build, const char *field, const Pb__Any *any,
                    const ProtobufCMessageDescriptor *descriptor, void *ret_msg)
{
    struct lt_err inner = {0};
    const struct px_opened *opened = NULL;
    if (px_open_any(build, any, &opened, &inner) != LT_OK)
        return px_bad(build, field, "%s", inner.text);
    if (opened->message->descriptor != descriptor)
        return px_bad(build, field, "expected %s, got %s", descriptor->name,
                      opened->message->descriptor->name);
    *(ProtobufCMessage **)ret_msg = opened->message;
    return LT_OK;
}

lt_rc px_unpack_inside(struct px_build *build, ProtobufCBinaryData bytes,
                       const ProtobufCMessageDescriptor *type, void *ret_msg)
{
    const struct px_opened *opened = NULL;
    LT_TRY(px_open_bytes(build, bytes, type, &opened, NULL));
    *(ProtobufCMessage **)ret_msg = opened->message;
    return LT_OK;
}
