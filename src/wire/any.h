/*
 * wire/any.h - google.protobuf.Any: which schema a type URL names, and the message inside.
 * A TypedStruct (udpa.type.v1 or xds.type.v3; Istio sends its own extensions so) is looked
 * through: its Struct becomes a message of the inner type, by the names of the fields.
 * Trust: type URL and value are a stranger's.
 */
#ifndef LT_WIRE_ANY_H
#define LT_WIRE_ANY_H

#include "wire/pb.h"
#include "wire/proto/google.pb-c.h"

/* "type.googleapis.com/" and the full name of a message type of ours. */
#define LT_ANY_PREFIX "type.googleapis.com/"

/* What is behind the last '/'. */
lt_str lt_any_type_name(lt_str type_url);
/* The schema for a type URL or a full name, or NULL: not in any.def. */
const ProtobufCMessageDescriptor *lt_any_find(lt_str type_url);
/* Every schema of any.def, for tests and tools. */
const ProtobufCMessageDescriptor *const *lt_any_all(size_t *ret_count);

/*
 * The type's full name, "" when there is none; for a TypedStruct that of the inner type. any may be
 * NULL. Lives in arena.
 */
lt_str lt_any_inner_type(struct lt_arena *arena, const Pb__Any *any);

/*
 * Unpacks what is inside. *ret_message's own descriptor says what it is (message->descriptor ==
 * &xds__router__descriptor). LT_E_NOT_FOUND: no schema for that type (or any is NULL); LT_E_BAD and
 * LT_E_LIMIT as for lt_pb_unpack. In a TypedStruct unknown names are counted, as unknown numbers
 * are.
 */
LT_MUST lt_rc lt_any_unpack(struct lt_arena *arena, const Pb__Any *any,
                            const struct lt_pb_opts *opts, ProtobufCMessage **ret_message,
                            struct lt_err *err);
/* The same where only one type will do; another one is LT_E_BAD. ret_msg as for lt_pb_unpack. */
LT_MUST lt_rc lt_any_unpack_as(struct lt_arena *arena, const Pb__Any *any,
                               const ProtobufCMessageDescriptor *descriptor,
                               const struct lt_pb_opts *opts, void *ret_msg, struct lt_err *err);

/* Packs message (maps are sorted in place) into a new Any; everything lives in arena. */
Pb__Any *lt_any_pack(struct lt_arena *arena, void *message);

#endif
