/*
 * tests/fuzz/yaml.c - aims at lt_yaml_split_next and lt_yaml_parse.
 * The parts make up the file; what is read must be writable as JSON and come back as the same
 * tree.
 */
#include "wire/yaml.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(struct lt_yaml_part part)
{
    struct lt_doc_limits limits = {1u << 20, 10000, 64};
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *doc = NULL, *again = NULL;
    struct lt_err err;
    if (lt_yaml_parse(arena, part, &limits, &doc, &err) == LT_OK) {
        struct lt_json_writer w;
        struct lt_buf buf;
        lt_buf_init(&buf, 64u << 20);
        lt_json_writer_init(&w, &buf, 0);
        lt_json_doc(&w, doc);
        if (lt_json_writer_finish(&w) == LT_OK && lt_buf_len(&buf) < 1u << 20) {
            LT_ASSERT(lt_json_parse(arena, lt_buf_str(&buf), NULL, &again, &err) == LT_OK);
            LT_ASSERT(lt_doc_eq(doc, again));
        }
        lt_buf_fini(&buf);
    }
    lt_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_yaml_split split = lt_yaml_split_init(lt_str_make(data, size));
    struct lt_yaml_part part;
    size_t sum = 0;
    uint32_t line = 0;
    while (lt_yaml_split_next(&split, &part)) {
        LT_ASSERT(part.text.len > 0 && part.line > line);
        LT_ASSERT(part.text.ptr == (const char *)data + sum);
        sum += part.text.len;
        line = part.line;
        check_part(part);
    }
    LT_ASSERT(sum == size);
    return 0;
}
