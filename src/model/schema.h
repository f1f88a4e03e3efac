/*
 * model/schema.h - the structs, enums and tables made from enums.def, fields_k8s.def and
 * fields_istio.def. Read the .def files to learn what there is: a line F_STR(host, "host", …)
 * between M_BEGIN(lt_vs_destination, …) and M_END is `lt_str host` in `struct lt_vs_destination`,
 * and `lt_vs_destination_schema` reads it.
 */
#ifndef LT_MODEL_SCHEMA_H
#define LT_MODEL_SCHEMA_H

#include "model/field.h"

#define ENUM_BEGIN(table) \
    extern const struct lt_enum_value table[]; \
    enum {
#define ENUM(constant, word, number) constant = number,
#define ENUM_END \
    } \
    ;
#include "model/enums.def"
#undef ENUM_BEGIN
#undef ENUM
#undef ENUM_END

#define M_BEGIN(type, title, check) \
    struct type { \
        uint32_t line;
#define M_END(type) \
    } \
    ; \
    extern const struct lt_schema type##_schema;
#define F_STR(member, name, flags, help) lt_str member;
#define F_BOOL(member, name, flags, help) struct lt_opt member;
#define F_INT(member, ...) struct lt_opt member;
#define F_DURATION(member, ...) struct lt_opt member;
#define F_DOUBLE(member, ...) struct lt_opt_double member;
#define F_ENUM(member, name, table, flags, help) struct lt_opt member;
#define F_PORT(member, name, flags, help) struct lt_port_ref member;
#define F_STRS(member, name, flags, help) struct lt_strs member;
#define F_KVS(member, name, flags, help) struct lt_kvs member;
#define F_SUB(member, name, type, flags, help) const struct type *member;
#define F_SUBS(member, name, type, flags, help) \
    struct { \
        size_t count; \
        const struct type *items; \
    } member;
#define F_SUB_MAP(member, name, type, flags, help) \
    struct { \
        size_t count; \
        const struct type *items; \
        lt_str *keys; \
    } member;
#define F_NONE(name, flags, help)
#define F_NONES(names)
#define F_SEEN(member, names, help) struct lt_strs member;
#include "model/fields_istio.def"
#include "model/fields_k8s.def"
#undef M_BEGIN
#undef M_END
#undef F_STR
#undef F_BOOL
#undef F_INT
#undef F_DURATION
#undef F_DOUBLE
#undef F_ENUM
#undef F_PORT
#undef F_STRS
#undef F_KVS
#undef F_SUB
#undef F_SUBS
#undef F_SUB_MAP
#undef F_NONE
#undef F_NONES
#undef F_SEEN

#endif
