/*
 * tests/fuzz/json.c - aims at lt_json_parse and lt_json_doc: what is read must be written and read
 * again to the same tree.
 */
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_doc_limits limits = {1u << 20, 100000, 64};
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *doc = NULL, *again = NULL;
    struct lt_err err;
    if (lt_json_parse(arena, lt_str_make(data, size), &limits, &doc, &err) == LT_OK) {
        struct lt_json_writer w;
        struct lt_buf buf;
        lt_buf_init(&buf, 16u << 20);
        lt_json_writer_init(&w, &buf, data[0] % 3);
        lt_json_doc(&w, doc);
        LT_ASSERT(lt_json_writer_finish(&w) == LT_OK);
        LT_ASSERT(lt_json_parse(arena, lt_buf_str(&buf), NULL, &again, &err) == LT_OK);
        LT_ASSERT(lt_doc_eq(doc, again));
        lt_buf_fini(&buf);
    }
    lt_arena_free(&arena);
    return 0;
}
