/*
 * wire/struct.c - google.protobuf.Struct, to and from lt_doc.
 * Trust: Structs are a stranger's. Recursion is counted here, since the schema has none.
 * Start at: lt_struct_to_doc().
 */
#include "wire/struct.h"

#include <math.h>

struct reader {
    struct lt_arena *arena;
    struct lt_doc_limits left; /* counted down */
    struct lt_err *err;
};

const Pb__Value *lt_struct_find(const Pb__Struct *st, lt_str key)
{
    const Pb__Value *found = NULL;
    for (size_t i = 0; st != NULL && i < st->n_fields; i++) {
        if (lt_str_eq(lt_str_of(st->fields[i]->key), key))
            found = st->fields[i]->value;
    }
    return found;
}

lt_str lt_struct_find_str(const Pb__Struct *st, const char *key)
{
    const Pb__Value *value = lt_struct_find(st, lt_str_of(key));
    return value != NULL && value->kind_case == PB__VALUE__KIND_STRING_VALUE
               ? lt_str_of(value->string_value)
               : LT_STR_NULL;
}

lt_rc lt_struct_find_struct(struct lt_arena *arena, const Pb__Struct *st, const char *key,
                            Pb__Struct **ret_struct, struct lt_err *err)
{
    const Pb__Value *value = lt_struct_find(st, lt_str_of(key));
    if (value == NULL || value->kind_case != PB__VALUE__KIND_STRUCT_VALUE)
        return lt_err_set(err, LT_E_NOT_FOUND, "no struct \"%s\"", key);
    return lt_pb_unpack(arena, &pb__struct__descriptor, lt_pb_bytes(value->struct_value), NULL,
                        ret_struct, err);
}

/* --- to lt_doc --- */

static lt_rc read_value(struct reader *r, const Pb__Value *value, struct lt_doc *out);

/* Whole numbers as they were written; beyond 2^53 a double no longer says which one was meant. */
static struct lt_doc number_doc(double number)
{
    bool is_whole = fabs(number) <= 0x1p53 && number == trunc(number);
    return is_whole ? lt_doc_of_int((int64_t)number) : lt_doc_of_double(number);
}

static lt_rc take_nodes(struct reader *r, size_t count)
{
    if (count > r->left.nodes_max)
        return lt_err_set(r->err, LT_E_LIMIT, "struct with too many values");
    r->left.nodes_max -= (uint32_t)count;
    return LT_OK;
}

static lt_rc alloc_array(struct reader *r, size_t count, size_t size, void *ret_array)
{
    LT_TRY(take_nodes(r, count));
    void *array = lt_arena_try_alloc(r->arena, count * size);
    if (array == NULL)
        return lt_err_set(r->err, LT_E_LIMIT, "struct takes more than the memory set aside");
    *(void **)ret_array = array;
    return LT_OK;
}

static lt_rc read_struct(struct reader *r, const Pb__Struct *st, struct lt_doc *out)
{
    *out = lt_doc_of_object();
    LT_TRY(alloc_array(r, st->n_fields, sizeof(struct lt_doc_member), &out->members));
    for (size_t i = 0; i < st->n_fields; i++) {
        const Pb__Struct__FieldsEntry *entry = st->fields[i];
        out->members[i].key = entry->key != NULL ? lt_str_of(entry->key) : LT_STR("");
        LT_TRY(read_value(r, entry->value, &out->members[i].value));
    }
    out->count = out->cap = (uint32_t)st->n_fields;
    return LT_OK;
}

static lt_rc read_list(struct reader *r, const Pb__ListValue *list, struct lt_doc *out)
{
    *out = lt_doc_of_array();
    LT_TRY(alloc_array(r, list->n_values, sizeof(struct lt_doc), &out->items));
    for (size_t i = 0; i < list->n_values; i++)
        LT_TRY(read_value(r, list->values[i], &out->items[i]));
    out->count = out->cap = (uint32_t)list->n_values;
    return LT_OK;
}

/* One level down: the bytes become a message, under what is left of the limits. */
static lt_rc open_nested(struct reader *r, const ProtobufCMessageDescriptor *schema,
                         ProtobufCBinaryData bytes, void *ret_msg)
{
    if (r->left.depth_max == 0)
        return lt_err_set(r->err, LT_E_LIMIT, "struct nested too deep");
    if (bytes.len > r->left.bytes_max)
        return lt_err_set(r->err, LT_E_LIMIT, "struct too large");
    r->left.bytes_max -= bytes.len;
    return lt_pb_unpack(r->arena, schema, lt_pb_bytes(bytes), NULL, ret_msg, r->err);
}

static lt_rc read_nested(struct reader *r, const Pb__Value *value, struct lt_doc *out)
{
    lt_rc rc = LT_OK;
    if (value->kind_case == PB__VALUE__KIND_STRUCT_VALUE) {
        Pb__Struct *st = NULL;
        LT_TRY(open_nested(r, &pb__struct__descriptor, value->struct_value, &st));
        r->left.depth_max--;
        rc = read_struct(r, st, out);
    } else {
        Pb__ListValue *list = NULL;
        LT_TRY(open_nested(r, &pb__list_value__descriptor, value->list_value, &list));
        r->left.depth_max--;
        rc = read_list(r, list, out);
    }
    r->left.depth_max++;
    return rc;
}

/* A value without any kind is not legal, but old writers leave null out. */
static lt_rc read_value(struct reader *r, const Pb__Value *value, struct lt_doc *out)
{
    *out = lt_doc_of_null();
    if (value == NULL)
        return LT_OK;
    switch (value->kind_case) {
    case PB__VALUE__KIND_NUMBER_VALUE: *out = number_doc(value->number_value); return LT_OK;
    case PB__VALUE__KIND_STRING_VALUE:
        *out = lt_doc_of_str(lt_str_of(value->string_value));
        return LT_OK;
    case PB__VALUE__KIND_BOOL_VALUE: *out = lt_doc_of_bool(value->bool_value); return LT_OK;
    case PB__VALUE__KIND_STRUCT_VALUE:
    case PB__VALUE__KIND_LIST_VALUE: return read_nested(r, value, out);
    default: return LT_OK;
    }
}

lt_rc lt_struct_value_to_doc(struct lt_arena *arena, const Pb__Value *value,
                             const struct lt_doc_limits *limits, struct lt_doc *ret_doc,
                             struct lt_err *err)
{
    struct reader r = {arena, limits != NULL ? *limits : LT_DOC_LIMITS_DEFAULT, err};
    return read_value(&r, value, ret_doc);
}

lt_rc lt_struct_to_doc(struct lt_arena *arena, const Pb__Struct *st,
                       const struct lt_doc_limits *limits, struct lt_doc *ret_doc,
                       struct lt_err *err)
{
    struct reader r = {arena, limits != NULL ? *limits : LT_DOC_LIMITS_DEFAULT, err};
    if (st == NULL) {
        *ret_doc = lt_doc_of_object();
        return LT_OK;
    }
    return read_struct(&r, st, ret_doc);
}

/* --- from lt_doc; recursion is as deep as the tree, whose depth was limited when it was made ---
 */

Pb__Struct *lt_struct_from_doc(struct lt_arena *arena, const struct lt_doc *object)
{
    LT_ASSERT(object->kind == LT_DOC_OBJECT);
    Pb__Struct *st = lt_pb_new(arena, Pb__Struct, pb__struct);
    st->n_fields = object->count;
    st->fields = lt_arena_make_n(arena, Pb__Struct__FieldsEntry *, object->count);
    for (uint32_t i = 0; i < object->count; i++) {
        Pb__Struct__FieldsEntry *entry = lt_pb_new(arena, Pb__Struct__FieldsEntry,
                                                   pb__struct__fields_entry);
        entry->key = lt_arena_strz(arena, object->members[i].key);
        entry->value = lt_struct_value_from_doc(arena, &object->members[i].value);
        st->fields[i] = entry;
    }
    return st;
}

static Pb__ListValue *list_from_doc(struct lt_arena *arena, const struct lt_doc *array)
{
    Pb__ListValue *list = lt_pb_new(arena, Pb__ListValue, pb__list_value);
    list->n_values = array->count;
    list->values = lt_arena_make_n(arena, Pb__Value *, array->count);
    for (uint32_t i = 0; i < array->count; i++)
        list->values[i] = lt_struct_value_from_doc(arena, &array->items[i]);
    return list;
}

Pb__Value *lt_struct_value_from_doc(struct lt_arena *arena, const struct lt_doc *node)
{
    Pb__Value *value = lt_pb_new(arena, Pb__Value, pb__value);
    switch (node->kind) {
    case LT_DOC_NULL: value->kind_case = PB__VALUE__KIND_NULL_VALUE; break;
    case LT_DOC_BOOL:
        value->kind_case = PB__VALUE__KIND_BOOL_VALUE;
        value->bool_value = node->boolean;
        break;
    case LT_DOC_INT:
    case LT_DOC_DOUBLE:
        value->kind_case = PB__VALUE__KIND_NUMBER_VALUE;
        lt_doc_is_number(node, &value->number_value);
        break;
    case LT_DOC_STRING:
        value->kind_case = PB__VALUE__KIND_STRING_VALUE;
        value->string_value = lt_arena_strz(arena, node->string);
        break;
    case LT_DOC_ARRAY:
        value->kind_case = PB__VALUE__KIND_LIST_VALUE;
        value->list_value = lt_pb_pack_data(arena, list_from_doc(arena, node));
        break;
    case LT_DOC_OBJECT:
        value->kind_case = PB__VALUE__KIND_STRUCT_VALUE;
        value->struct_value = lt_pb_pack_data(arena, lt_struct_from_doc(arena, node));
        break;
    }
    return value;
}
