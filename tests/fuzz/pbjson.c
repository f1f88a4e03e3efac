/*
 * tests/fuzz/pbjson.c - aims at lt_pbjson_read with what YAML can say.
 * The input is an Any ("@type" and so on); what is read must pack, and read again as bytes.
 */
#include "wire/pbjson.h"
#include "wire/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_doc_limits limits = {1u << 20, 10000, 64};
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pbjson_read_opts opts = {.unknowns = &unknowns};
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *doc = NULL;
    Pb__Any *any = NULL;
    ProtobufCMessage *inner = NULL;
    struct lt_err err;
    if (lt_yaml_parse(arena, lt_yaml_whole(lt_str_make(data, size)), &limits, &doc, &err) ==
            LT_OK &&
        lt_pbjson_read(arena, doc, &pb__any__descriptor, &opts, &any, &err) == LT_OK) {
        lt_rc rc = lt_any_unpack(arena, any, NULL, &inner, &err);
        /* the value was packed by us; only what is inside a TypedStruct can still be wrong */
        LT_ASSERT(rc == LT_OK || rc == LT_E_NOT_FOUND || any->type_url == NULL ||
                  strstr(any->type_url, "TypedStruct") != NULL);
    }
    lt_arena_free(&arena);
    return 0;
}
