/*
 * model/schema.c - the tables of model/schema.h. The rules that they name are in check_*.c.
 */
#include "model/schema.h"

#include "model/check.h"

#define ENUM_BEGIN(table) const struct lt_enum_value table[] = {
#define ENUM(constant, word, number) {word, constant},
#define ENUM_END \
    { \
        NULL, 0 \
    } \
    } \
    ;
#include "model/enums.def"

/* A table sits in a function, where `self` can name the struct that its rows are about. */
#define M_BEGIN(type, title, check_fn) \
    static const struct lt_field *type##_fields(size_t *ret_count); \
    const struct lt_schema type##_schema = {title, sizeof(struct type), type##_fields, check_fn}; \
    static const struct lt_field *type##_fields(size_t *ret_count) \
    { \
        typedef struct type self; \
        LT_UNUSED self *self_is_named = NULL; \
        static const struct lt_field fields[] = {
#define M_END(type) \
    } \
    ; \
    *ret_count = LT_ARRAY_LEN(fields); \
    return fields; \
    }

#define ROW(kind, member, field_name, field_flags, field_help, ...) \
    {.name = field_name, \
     .type = LT_FIELD_##kind, \
     .flags = field_flags, \
     .offset = offsetof(self, member), \
     .help = field_help, \
     __VA_ARGS__},
#define RANGE(kind, member, name, low, high, flags, help) \
    ROW(kind, member, name, flags, help, .min = low, .max = high)

#define F_STR(member, name, flags, help) ROW(STR, member, name, flags, help)
#define F_BOOL(member, name, flags, help) ROW(BOOL, member, name, flags, help)
#define F_INT(member, ...) RANGE(INT, member, __VA_ARGS__)
#define F_DOUBLE(member, ...) RANGE(DOUBLE, member, __VA_ARGS__)
#define F_DURATION(member, name, low, flags, help) \
    ROW(DURATION, member, name, flags, help, .min = low)
#define F_ENUM(member, name, table, flags, help) \
    ROW(ENUM, member, name, flags, help, .values = table)
#define F_PORT(member, name, flags, help) ROW(PORT_REF, member, name, flags, help)
#define F_STRS(member, name, flags, help) ROW(STRS, member, name, flags, help)
#define F_KVS(member, name, flags, help) ROW(KVS, member, name, flags, help)
#define F_SUB(member, name, type, flags, help) \
    ROW(SUB, member, name, flags, help, .sub = &type##_schema)
#define F_SUBS(member, name, type, flags, help) \
    ROW(SUBS, member, name, flags, help, .sub = &type##_schema)
#define F_SUB_MAP(member, name, type, flags, help) \
    ROW(SUB_MAP, member, name, flags, help, .sub = &type##_schema)
#define F_NONE(names, field_flags, field_help) \
    {.name = names, .type = LT_FIELD_NONE, .flags = field_flags, .help = field_help},
#define F_SEEN(member, names, help) ROW(SEEN, member, names, 0, help)
#define F_NONES(names) {.name = names, .type = LT_FIELD_NONE, .help = ""},

#include "model/fields_istio.def"
#include "model/fields_k8s.def"
