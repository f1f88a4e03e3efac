/*
 * proxy/compile/opened.h - private to compile/: what was inside Anys and inside bytes that stand
 * for a message (wire/recursive.def). Each is unpacked once for a resource, by its compiler or by
 * the walker (fields.h), with the fields that its schema doesn't have.
 */
#ifndef LT_PROXY_COMPILE_OPENED_H
#define LT_PROXY_COMPILE_OPENED_H

#include "proxy/compile/build.h"

struct px_opened {
    const void *key; /* the Any, or the data of the bytes; NULL: a free slot */
    ProtobufCMessage *message;
    const struct lt_pb_unknowns *unknowns; /* NULL: none */
};

/* NULL: nobody has opened it. */
const struct px_opened *px_opened_find(const struct px_build *build, const void *key);
/* What px_unpack_any and px_unpack_inside do, as often as they are asked. rc as lt_any_unpack. */
LT_MUST lt_rc px_open_any(struct px_build *build, const Pb__Any *any,
                          const struct px_opened **ret_opened, struct lt_err *err);
LT_MUST lt_rc px_open_bytes(struct px_build *build, ProtobufCBinaryData bytes,
                            const ProtobufCMessageDescriptor *type,
                            const struct px_opened **ret_opened, struct lt_err *err);

#endif
