/*
 * tests/fuzz/jwt.c - fuzzes lt_jwt_parse(), lt_jwt_verify() and lt_jwks_parse(): the input is a token,
 * and a key set. One key is known (its tokens are in the corpus); what verifies was signed by it.
 */
#include <stdint.h>

#include "wire/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char known_key[] =
    "{\"kty\": \"EC\", \"crv\": \"P-256\", \"alg\": \"ES256\", \"kid\": \"one\", "
    "\"x\": \"VCyqSj2UFlN3ElmhHPzg3t8wFXi6TBSEppAhb2gjSfI\", "
    "\"y\": \"ImFX1HLWgrvjn6QHzzKd9Umq6RM-kr1gYl6WkoVuG3Q\"}";

static void check_verify(const struct lt_jwt *jwt)
{
    static const lt_str audience = {"istio-ca", 8};
    struct lt_jwks *known = NULL;
    struct lt_err err;
    LT_ASSERT(lt_jwks_parse(lt_str_of(known_key), &known, &err) == LT_OK);
    struct lt_jwt_rule rule = {
        .audiences = &audience, .audience_count = 1, .jwks = known, .requires_expiry = true};
    if (lt_jwt_verify(jwt, &rule, 2000000000, &err) == LT_OK)
        LT_ASSERT(jwt->alg == LT_SIG_ES256 && jwt->has_expiry && jwt->expires_s > 2000000000 &&
                  jwt->signature.len == 64 && jwt->audience_count > 0);
    lt_jwks_free(&known);
}

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
        check_verify(&jwt);
    }
    lt_arena_free(&arena);
    return 0;
}
