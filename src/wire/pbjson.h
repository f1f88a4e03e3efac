/*
 * wire/pbjson.h - messages as JSON, in both directions, by the rules of protojson with the proto
 * names of fields.
 * Reading takes an lt_doc (so YAML works as JSON does) and Envoy's liberties: snake_case and
 * camelCase names, enums by name or number, Any as {"@type": ...}, durations "1.5s", wrappers as
 * bare values, bytes as base64, numbers as strings. Writing streams; absent fields and zero
 * scalars outside a oneof are left out, as protojson does. Not here: what a configuration must
 * contain (proxy, model).
 */
#ifndef LT_WIRE_PBJSON_H
#define LT_WIRE_PBJSON_H

#include "wire/any.h"
#include "wire/doc.h"
#include "wire/json.h"

struct lt_pbjson_read_opts {
    struct lt_pb_unknowns *unknowns; /* NULL: an unknown name is an error, as for Envoy's -c; else
                                        it is counted and listed */
    const struct lt_doc_path *path;  /* where the tree hangs in a larger one; NULL: at the root */
};

/*
 * ret_msg as for lt_pb_unpack. The message lives in arena and borrows strings from the tree. opts
 * NULL: all zero. Errors are LT_E_BAD with line and path: "line 7:
 * static_resources.listeners[0].name: expected string, got number". An Any of a type without schema
 * can't become bytes: an error too, or, where unknowns are counted, an Any with that type URL and
 * no value.
 */
LT_MUST lt_rc lt_pbjson_read(struct lt_arena *arena, const struct lt_doc *doc,
                             const ProtobufCMessageDescriptor *descriptor,
                             const struct lt_pbjson_read_opts *opts, void *ret_msg,
                             struct lt_err *err);

struct lt_pbjson_write_opts {
    bool shows_secrets; /* false: private keys and the like (secrets.def) are "[redacted]", as in
                           Envoy's config_dump */
};

/*
 * Writes one JSON object. scratch is for unpacking Any and Struct on the way; it is rolled back. An
 * Any of a type without schema, or with bytes that don't parse, shows as {"@type": ..., "value":
 * base64}. opts NULL: all zero.
 */
void lt_pbjson_write(struct lt_json_writer *w, struct lt_arena *scratch, const void *message,
                     const struct lt_pbjson_write_opts *opts);

#endif
