/*
 * tests/fuzz/pb.c - aims at lt_pb_unpack, lt_pb_pack, lt_any_unpack, lt_struct_to_doc and
 * lt_pbjson_write.
 * The input is an Any, so that its type URL says which schema the rest is. What can be read must
 * pack and read again to the same bytes, and show as JSON that our own reader takes.
 */
#include "wire/any.h"
#include "wire/json.h"
#include "wire/pbjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(struct lt_arena *arena, const ProtobufCMessage *message)
{
    struct lt_doc_limits limits = {64u << 20, 10000000, LT_JSON_DEPTH_MAX};
    const struct lt_doc *doc = NULL;
    struct lt_json_writer w;
    struct lt_buf buf;
    lt_buf_init(&buf, 16u << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_pbjson_write(&w, arena, message, NULL);
    if (lt_json_writer_finish(&w) == LT_OK)
        LT_ASSERT(lt_json_parse(arena, lt_buf_str(&buf), &limits, &doc, NULL) != LT_E_BAD);
    lt_buf_fini(&buf);
}

static void check_message(struct lt_arena *arena, ProtobufCMessage *message)
{
    ProtobufCMessage *again = NULL;
    struct lt_err err;
    lt_str bytes = lt_pb_pack(arena, message);
    LT_ASSERT(lt_pb_unpack(arena, message->descriptor, bytes, NULL, &again, &err) == LT_OK);
    LT_ASSERT(lt_str_eq(lt_pb_pack(arena, again), bytes));
    check_json(arena, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = {{1u << 20, 16u << 20, 100000}, &unknowns};
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err;
    Pb__Any *any = NULL;
    ProtobufCMessage *inner = NULL;
    if (lt_pb_unpack(arena, &pb__any__descriptor, lt_str_make(data, size), &opts, &any, &err) ==
        LT_OK) {
        check_message(arena, &any->base);
        if (lt_any_unpack(arena, any, &opts, &inner, &err) == LT_OK)
            check_message(arena, inner);
    }
    lt_arena_free(&arena);
    return 0;
}
