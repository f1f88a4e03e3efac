/*
 * tests/fuzz/jwt.c - fuzzes lt_jwt_parse() and lt_jwks_parse(): the input is a token, and a key
 * set.
 */
#include <stdint.h>

#include "wire/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_str text = lt_str_make(data, size);
    struct lt_err err;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_jwks *jwks = NULL;
    struct lt_jwt jwt;
    if (lt_jwks_parse(text, &jwks, &err) == LT_OK)
        LT_ASSERT(lt_jwks_count(jwks) > 0);
    lt_jwks_free(&jwks);
    if (lt_jwt_parse(arena, text, &jwt, &err) == LT_OK) {
        LT_ASSERT(jwt.payload->kind == LT_DOC_OBJECT);
        LT_ASSERT(lt_str_starts(text, jwt.signed_text));
    }
    lt_arena_free(&arena);
    return 0;
}
