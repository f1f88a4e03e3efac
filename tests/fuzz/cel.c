/*
 * tests/fuzz/cel.c - fuzzes px_cel_compile() and px_cel_eval(): the input is an expression; half of
 * the attributes that it asks for are there.
 */
#include <stdint.h>

#include "base/regex.h"
#include "proxy/conf/cel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool find(void *ctx, const lt_str *path, size_t count, struct px_cel_value *ret_value)
{
    LT_ASSERT(ctx == NULL && count > 0 && count <= PX_CEL_PATH_MAX + 1);
    lt_str last = path[count - 1];
    if (last.len % 2 == 0)
        return false;
    *ret_value = (struct px_cel_value){.kind = PX_CEL_STRING, .string = last};
    if (last.len % 3 == 0)
        *ret_value = (struct px_cel_value){.kind = PX_CEL_INT, .integer = INT64_MAX};
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_vec regexes;
    const struct px_cel *cel = NULL;
    struct lt_err err;
    lt_vec_init(&regexes);
    if (px_cel_compile(arena, &regexes, lt_str_make((const char *)data, size), &cel, &err) ==
        LT_OK) {
        struct px_cel_value value = px_cel_eval(cel, arena, find, NULL);
        LT_ASSERT(px_cel_text(&value, arena).ptr != NULL || value.kind == PX_CEL_STRING);
    }
    for (size_t i = 0; i < regexes.count; i++)
        lt_regex_free((struct lt_regex **)&regexes.items[i]);
    lt_vec_fini(&regexes);
    lt_arena_free(&arena);
    return 0;
}
