/*
 * tests/fuzz/trace.c - fuzzes the readers of trace contexts: the input is the value of each of the
 * headers, and line by line those of B3's several ones. What is taken has ids of the right length.
 */
#include <stdint.h>

#include "proxy/told/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct px_trace *trace)
{
    if (!trace->has_context)
        return;
    size_t len = strlen(trace->trace_id), parent = strlen(trace->parent_id);
    LT_ASSERT(!trace->is_broken && (len == 16 || len == 32) && strlen(trace->span_id) == 16);
    LT_ASSERT(parent == 0 || parent == 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const lt_header_id ids[] = {LT_H_X_B3_TRACEID, LT_H_X_B3_SPANID, LT_H_X_B3_PARENTSPANID,
                                       LT_H_X_B3_SAMPLED, LT_H_B3};
    lt_str text = lt_str_make((const char *)data, size), line, rest = text;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_headers headers;
    struct px_trace trace;
    px_trace_read_w3c(text, &trace);
    check(&trace);
    lt_headers_init(&headers, arena, 0, 0);
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < LT_ARRAY_LEN(ids) && lt_str_split(&rest, '\n', &line); i++)
        rc = rc == LT_OK ? lt_headers_add_id(&headers, ids[i], line) : rc;
    px_trace_read_b3(&headers, &trace);
    check(&trace);
    lt_headers_clear(&headers);
    if (lt_headers_add_id(&headers, LT_H_B3, text) == LT_OK) {
        px_trace_read_b3(&headers, &trace);
        check(&trace);
    }
    lt_arena_free(&arena);
    return 0;
}
