/*
 * wire/pb.h - protobuf bytes to messages and back.
 * Schemas, structs and packing are protobuf-c's. The reader is ours, by the same descriptors: one
 * walk, everything in an arena, under limits, and strict where C strings need it: text must be
 * UTF-8 without NUL. Groups, overlong varints and cut-off fields are refused; a field of a wire
 * type that its schema doesn't have is an unknown field, as in every protobuf library. No schema
 * of ours is recursive (proto/README.md), so the C stack is as deep as the deepest schema, not as
 * the input. What is inside an Any: any.h. JSON and YAML: pbjson.h. Struct: struct.h.
 * Trust: all bytes are a stranger's.   Start at: lt_pb_unpack().
 */
#ifndef LT_WIRE_PB_H
#define LT_WIRE_PB_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct lt_pb_limits {
    size_t bytes_max;    /* of the whole message */
    size_t memory_max;   /* of what is made from it: two bytes can ask for a struct of hundreds */
    uint32_t fields_max; /* on all levels together */
};

/* 64 MiB of bytes, 256 MiB of memory, 4 million fields: more than the largest push that we know
 * (5000 services, 25 MB). */
#define LT_PB_LIMITS_DEFAULT ((struct lt_pb_limits){64u << 20, 256u << 20, 4000000})

enum { LT_PB_UNKNOWN_LISTED_MAX = 32 };

/* Fields that the schema doesn't have: accepted, counted, and listed without repetition as
 * "filter_chains.filters.#99". */
struct lt_pb_unknowns {
    uint64_t count;
    uint32_t listed;
    bool is_cut;                            /* there were more kinds of them than are listed */
    lt_str paths[LT_PB_UNKNOWN_LISTED_MAX]; /* in the arena of the message */
};

/* The paths may stay as they are: nobody looks behind `listed`. */
static inline void lt_pb_unknowns_init(struct lt_pb_unknowns *unknowns)
{
    unknowns->count = 0;
    unknowns->listed = 0;
    unknowns->is_cut = false;
}

struct lt_pb_opts {
    struct lt_pb_limits limits;
    struct lt_pb_unknowns *unknowns; /* added to; may be NULL */
};

#define LT_PB_OPTS_DEFAULT ((struct lt_pb_opts){LT_PB_LIMITS_DEFAULT, NULL})

/*
 * ret_msg is the address of a pointer to the descriptor's struct:
 *     Xds__Cluster *cluster;
 *     LT_TRY(lt_pb_unpack(arena, &xds__cluster__descriptor, bytes, NULL, &cluster, err));
 * The message lives in arena and borrows nothing from bytes. Unknown fields are not kept. Maps come
 * sorted by key; of a key twice the last counts. opts NULL: LT_PB_OPTS_DEFAULT. LT_E_BAD or
 * LT_E_LIMIT with the path in err; the arena may keep scraps then.
 */
LT_MUST lt_rc lt_pb_unpack(struct lt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                           lt_str bytes, const struct lt_pb_opts *opts, void *ret_msg,
                           struct lt_err *err);

/* A fresh message in the arena, all fields absent: Xds__Cluster *c = lt_pb_new(arena, Xds__Cluster,
 * xds__cluster); */
#define lt_pb_new(arena, type, name) \
    ((type *)lt_pb_new_message((arena), &name##__descriptor, sizeof(type)))
void *lt_pb_new_message(struct lt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                        size_t size);

/*
 * The bytes, in the arena, canonical: fields in the order of their numbers, maps sorted by key (in
 * place: that is why message isn't const; bytes members must have been packed here too). Equal
 * messages give equal bytes.
 */
lt_str lt_pb_pack(struct lt_arena *arena, void *message);
/* For a bytes member. */
ProtobufCBinaryData lt_pb_pack_data(struct lt_arena *arena, void *message);

static inline lt_str lt_pb_bytes(ProtobufCBinaryData data)
{
    return lt_str_make(data.data, data.len);
}

/*
 * The schema of what is inside a bytes member that stands for a message (recursive.def), or NULL:
 * an ordinary bytes member.
 */
const ProtobufCMessageDescriptor *lt_pb_inside(const ProtobufCMessageDescriptor *message,
                                               uint32_t field_number);
/* True when the field is a map: a repeated message that protoc made from map<K, V>. */
bool lt_pb_is_map(const ProtobufCMessageDescriptor *message, const ProtobufCFieldDescriptor *field);

#endif
