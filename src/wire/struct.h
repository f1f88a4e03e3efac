/*
 * wire/struct.h - google.protobuf.Struct, to and from lt_doc.
 * A Struct unpacked by pb.h has one level: nested structs and lists are still bytes
 * (Pb__Value.struct_value, .list_value). Whole trees are converted here under a depth limit;
 * single keys of the first level are found without converting anything.
 * Trust: node metadata and filter metadata are a stranger's.
 */
#ifndef LT_WIRE_STRUCT_H
#define LT_WIRE_STRUCT_H

#include "wire/doc.h"
#include "wire/pb.h"
#include "wire/proto/google.pb-c.h"

/* The value of a key of the first level, or NULL (also when st is NULL). Of a key twice, the last
 * counts. */
const Pb__Value *lt_struct_find(const Pb__Struct *st, lt_str key);
/* Its string, or LT_STR_NULL when it is not there or not a string. */
lt_str lt_struct_find_str(const Pb__Struct *st, const char *key);
/* The nested Struct of a key, unpacked one level: LT_E_NOT_FOUND when it is not there or something
 * else. */
LT_MUST lt_rc lt_struct_find_struct(struct lt_arena *arena, const Pb__Struct *st, const char *key,
                                    Pb__Struct **ret_struct, struct lt_err *err);

/*
 * The whole tree as an LT_DOC_OBJECT in arena (st NULL: empty). Whole numbers become LT_DOC_INT.
 * limits NULL: LT_DOC_LIMITS_DEFAULT; bytes_max is of all nested levels together (what is deep
 * counts once a level).
 */
LT_MUST lt_rc lt_struct_to_doc(struct lt_arena *arena, const Pb__Struct *st,
                               const struct lt_doc_limits *limits, struct lt_doc *ret_doc,
                               struct lt_err *err);
LT_MUST lt_rc lt_struct_value_to_doc(struct lt_arena *arena, const Pb__Value *value,
                                     const struct lt_doc_limits *limits, struct lt_doc *ret_doc,
                                     struct lt_err *err);

/* The other way; object must be an LT_DOC_OBJECT. Strings are copied. */
Pb__Struct *lt_struct_from_doc(struct lt_arena *arena, const struct lt_doc *object);
Pb__Value *lt_struct_value_from_doc(struct lt_arena *arena, const struct lt_doc *node);

#endif
