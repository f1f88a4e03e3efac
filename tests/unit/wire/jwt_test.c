/*
 * tests/unit/wire/jwt_test.c - tokens: made, taken, refused and with which words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "wire/base64.h"
#include "wire/jwt.h"

enum { NOW_S = 1700000000 };

static struct lt_arena *arena;
static struct lt_key *rsa, *ec, *other;

static lt_str token_of(const struct lt_key *key, lt_sig_alg alg, int64_t expires_s,
                       const char *audience)
{
    struct lt_doc payload = lt_doc_of_object(), audiences = lt_doc_of_array();
    lt_doc_push(arena, &audiences, lt_doc_of_str(LT_STR("something")));
    lt_doc_push(arena, &audiences, lt_doc_of_str(lt_str_of(audience)));
    lt_doc_set(arena, &payload, LT_STR("iss"), lt_doc_of_str(LT_STR("https://lateen.local")));
    lt_doc_set(arena, &payload, LT_STR("sub"),
               lt_doc_of_str(LT_STR("system:serviceaccount:shop:frontend")));
    lt_doc_set(arena, &payload, LT_STR("aud"), audiences);
    lt_doc_set(arena, &payload, LT_STR("exp"), lt_doc_of_int(expires_s));
    lt_doc_set(arena, &payload, LT_STR("nbf"), lt_doc_of_int(NOW_S));
    lt_str token;
    assert_int_equal(lt_jwt_sign(arena, key, alg, lt_jwt_kid(arena, key), &payload, &token), LT_OK);
    return token;
}

static lt_rc judge(lt_str token, const struct lt_jwks *jwks, int64_t now_s, struct lt_err *err)
{
    static const lt_str audiences[] = {LT_STR("istio-ca")};
    struct lt_jwt jwt;
    struct lt_jwt_rule rule = {.issuer = LT_STR("https://lateen.local"),
                               .audiences = audiences,
                               .audience_count = 1,
                               .jwks = jwks,
                               .requires_expiry = true};
    LT_TRY(lt_jwt_parse(arena, token, &jwt, err));
    return lt_jwt_verify(&jwt, &rule, now_s, err);
}

static struct lt_jwks *jwks_of(lt_str text)
{
    struct lt_jwks *jwks = NULL;
    struct lt_err err = {0};
    if (lt_jwks_parse(text, &jwks, &err) != LT_OK)
        fail_msg("%s", err.text);
    return jwks;
}

static void test_round_trips(void **state)
{
    (void)state;
    struct lt_err err = {0};
    const struct {
        const struct lt_key *key;
        lt_sig_alg alg;
    } cases[] = {{rsa, LT_SIG_RS256}, {ec, LT_SIG_ES256}};
    struct lt_jwks *both = jwks_of(lt_key_public_pem(rsa, arena));
    for (lt_sig_alg alg = LT_SIG_RS256; alg <= LT_SIG_PS512; alg++)
        assert_int_equal(judge(token_of(rsa, alg, NOW_S + 100, "istio-ca"), both, NOW_S, &err),
                         LT_OK);
    lt_jwks_free(&both);
    for (size_t i = 0; i < 2; i++) {
        lt_str token = token_of(cases[i].key, cases[i].alg, NOW_S + 100, "istio-ca");
        struct lt_jwks *set = jwks_of(lt_jwks_text(arena, cases[i].key, cases[i].alg));
        struct lt_jwks *pem = jwks_of(lt_key_public_pem(cases[i].key, arena));
        assert_int_equal(judge(token, set, NOW_S, &err), LT_OK);
        assert_int_equal(judge(token, pem, NOW_S, &err), LT_OK);
        struct lt_jwt jwt;
        assert_int_equal(lt_jwt_parse(arena, token, &jwt, &err), LT_OK);
        assert_true(lt_str_eqz(jwt.subject, "system:serviceaccount:shop:frontend"));
        assert_int_equal(jwt.audience_count, 2);
        assert_int_equal(jwt.expires_s, NOW_S + 100);
        lt_jwks_free(&set);
        lt_jwks_free(&pem);
    }
}

static void refused(lt_str token, const struct lt_jwks *jwks, int64_t now_s, const char *reason)
{
    struct lt_err err = {0};
    assert_int_not_equal(judge(token, jwks, now_s, &err), LT_OK);
    if (strstr(err.text, reason) == NULL)
        fail_msg("'%s' does not contain '%s'", err.text, reason);
}

static void test_refusals(void **state)
{
    (void)state;
    struct lt_jwks *jwks = jwks_of(lt_jwks_text(arena, ec, LT_SIG_ES256));
    lt_str good = token_of(ec, LT_SIG_ES256, NOW_S + 100, "istio-ca");
    refused(good, jwks, NOW_S + 100, "Jwt is expired");
    refused(good, jwks, NOW_S - 1, "Jwt not yet valid");
    refused(token_of(ec, LT_SIG_ES256, NOW_S + 100, "else"), jwks, NOW_S,
            "Audiences in Jwt are not allowed");
    refused(token_of(other, LT_SIG_ES256, NOW_S + 100, "istio-ca"), jwks, NOW_S,
            "Jwt verification fails");
    refused(token_of(rsa, LT_SIG_RS256, NOW_S + 100, "istio-ca"), jwks, NOW_S,
            "Jwt verification fails");
    char *forged = lt_arena_strz(arena, good);
    char *payload = strchr(forged, '.') + 10;
    *payload = *payload == 'A' ? 'B' : 'A';
    refused(lt_str_of(forged), jwks, NOW_S, "");
    lt_jwks_free(&jwks);
}

static lt_str raw_token(const char *header, const char *payload)
{
    lt_str head = lt_base64_encode(arena, lt_str_of(header)),
           body = lt_base64_encode(arena, lt_str_of(payload));
    while (head.ptr[head.len - 1] == '=')
        head.len--;
    while (body.ptr[body.len - 1] == '=')
        body.len--;
    return lt_arena_printf(arena, "%.*s.%.*s.c2ln", LT_STR_ARG(head), LT_STR_ARG(body));
}

static void test_broken_tokens(void **state)
{
    (void)state;
    struct lt_jwks *jwks = jwks_of(lt_jwks_text(arena, ec, LT_SIG_ES256));
    refused(LT_STR(""), jwks, NOW_S, "form of Header.Payload.Signature");
    refused(LT_STR("a.b"), jwks, NOW_S, "form of Header.Payload.Signature");
    refused(LT_STR("a..b"), jwks, NOW_S, "Jwt header is an invalid Base64url");
    refused(LT_STR("e30.e30.e30."), jwks, NOW_S, "form of Header.Payload.Signature");
    refused(LT_STR("e30=.e30.e30"), jwks, NOW_S, "Jwt header is an invalid Base64url encoded");
    refused(raw_token("{}", "{}"), jwks, NOW_S, "[alg] field is required");
    refused(raw_token("{\"alg\":\"none\"}", "{}"), jwks, NOW_S, "[alg] is not supported");
    refused(raw_token("{\"alg\":\"hs256\"}", "{}"), jwks, NOW_S, "[alg] is not supported");
    refused(raw_token("{\"alg\":\"ES256\",\"kid\":1}", "{}"), jwks, NOW_S,
            "[kid] field is not a string");
    refused(raw_token("{\"alg\":\"ES256\",\"crit\":[\"x\"]}", "{}"), jwks, NOW_S, "extension");
    refused(raw_token("{\"alg\":\"ES256\"}", "[]"), jwks, NOW_S, "Jwt payload is an invalid JSON");
    refused(raw_token("{\"alg\":\"ES256\"}", "{\"iss\":1}"), jwks, NOW_S,
            "[iss] field is not a string");
    refused(raw_token("{\"alg\":\"ES256\"}", "{\"exp\":\"soon\"}"), jwks, NOW_S,
            "[exp] field is not an integer");
    refused(raw_token("{\"alg\":\"ES256\"}", "{\"exp\":1e300}"), jwks, NOW_S,
            "[exp] field is not a positive");
    refused(raw_token("{\"alg\":\"ES256\"}", "{\"aud\":[1]}"), jwks, NOW_S,
            "[aud] field is not a string");
    refused(
        raw_token("{\"alg\":\"ES256\"}", "{\"iss\":\"https://lateen.local\",\"aud\":\"istio-ca\"}"),
        jwks, NOW_S, "Jwt has no expiry");
    refused(raw_token("{\"alg\":\"ES256\",\"alg\":\"none\"}", "{}"), jwks, NOW_S,
            "Jwt header is an invalid JSON");
    char *deep = lt_arena_strz(arena, lt_arena_printf(arena, "{\"a\":%0*d}", 200, 1));
    for (size_t i = 5; i < 100; i++)
        deep[i] = '[';
    refused(raw_token("{\"alg\":\"ES256\"}", deep), jwks, NOW_S, "Jwt payload");
    lt_jwks_free(&jwks);
}

static void test_key_sets(void **state)
{
    (void)state;
    struct lt_jwks *jwks = NULL;
    struct lt_err err = {0};
    static const char *const bad[] = {
        "{\"keys\":[{\"kty\":\"oct\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}",
        "{\"keys\":[]}",
        "[]",
        "1",
        "{\"a\":1}",
        "{\"a\":\"-----BEGIN CERTIFICATE-----\"}",
        "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RSA1_5\",\"n\":\"AA\",\"e\":\"AQAB\"}]}"};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_equal(lt_jwks_parse(lt_str_of(bad[i]), &jwks, &err), LT_E_BAD);
    assert_int_equal(lt_jwks_parse(LT_STR("{}"), &jwks, &err), LT_E_BAD);
    assert_int_equal(lt_jwks_parse(LT_STR("nonsense"), &jwks, &err), LT_E_BAD);
    assert_null(jwks);
    /*
     * a key for encryption is no key for signatures; an unknown one beside a good one does no harm
     */
    lt_str good = lt_jwks_text(arena, ec, LT_SIG_ES256);
    lt_str inner = lt_str_slice(good, strlen("{\"keys\":["), good.len - 2);
    jwks = jwks_of(
        lt_arena_printf(arena,
                        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"},%.*s,"
                        "{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AA\",\"e\":\"AQAB\"}]}",
                        LT_STR_ARG(inner)));
    assert_int_equal(lt_jwks_count(jwks), 1);
    assert_int_equal(judge(token_of(ec, LT_SIG_ES256, NOW_S + 1, "istio-ca"), jwks, NOW_S, &err),
                     LT_OK);
    lt_jwks_free(&jwks);
}

/* Made by Python's cryptography package. */
static void test_other_algorithms(void **state)
{
    (void)state;
    static const struct {
        const char *jwk, *token;
    } rows[] = {
        {"{\"kty\": \"EC\", \"crv\": \"P-384\", \"x\": \"M8kmDnplsZTYfsAAuxH3cKtzby4GOXx1Oy8LMQWKv3cO-_dVq6626kmBUbZNdMA3\", "
         "\"y\": \"xVxzmvG_D4fnIu698Fp-qwVDY0MkDGIFmRsCm2L-FjOZpphdj7Hlz9VUiI0SV3YR\"}",
         "eyJhbGciOiAiRVMzODQifQ.eyJpc3MiOiJodHRwczovL2xhdGVlbi5sb2NhbCIsImF1ZCI6ImlzdGlvLWNhIiwiZXhwIjoxNzAwMDAwMTAwfQ."
         "rPyip9Jap4TB9JPgwT_G3UAdfqFU0n5N2jym7uJG92yoDGaCSLVJUo3GWNEPO61O-B3PLRAqHnv5kddAkC73o-KZL5epGHq-ak-3NbzDyBVR30U5Gerv"
         "G-wxfmfkoz6X"},
        {"{\"kty\": \"EC\", \"crv\": \"P-521\", \"x\": \"ANHuIaW3XBK9MyvmvbPeq238ZGTe1kMuMwoUWOEIxVjnBRjagKSfkA1jZMxre0qYPfUHmKh1yDZz63yr_2B5yeor\", "
         "\"y\": \"AUEMMoonbP8F0Q5QxYEnY15Ogo1D6oZXh9hN1Tyj9Usecqf0Kq_MFTL2uzXzfqSumYQs87odIU7MIbVOmTJgTgbF\"}",
         "eyJhbGciOiAiRVM1MTIifQ.eyJpc3MiOiJodHRwczovL2xhdGVlbi5sb2NhbCIsImF1ZCI6ImlzdGlvLWNhIiwiZXhwIjoxNzAwMDAwMTAwfQ."
         "AayOsGIIIJDpmhqYEbuS-AY5Y_G-xbbbGFTK6Xga_oKTBPBotDZo-yJdOlnxgBvz8X6FORO9oE_4so-YtfPnrGriAJVaqAn0P3NHf9yT-jyPkW7MG5BDy"
         "P3q5tpV1Xz50oKZMkyactH1X17gTaQgb7OvEgucKSeh-xXzDRb1MDMDU13O"},
        {"{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"elsBW9XA4zO_3K0y-5dC61ZMs1RHu3VZYmsSiD8sAKg\"}",
         "eyJhbGciOiAiRWREU0EifQ.eyJpc3MiOiJodHRwczovL2xhdGVlbi5sb2NhbCIsImF1ZCI6ImlzdGlvLWNhIiwiZXhwIjoxNzAwMDAwMTAwfQ."
         "Dfl4NotpRv-xFfuM3wLbwZXoGqkyHpHU7_LLxlaLXTQ3fDDOKdEB_feh4YvJwgJxzOSqgFzu_BBf6tPvALBECA"},
    };
    struct lt_err err = {0};
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct lt_jwks *jwks = jwks_of(lt_str_of(rows[i].jwk));
        lt_str good = lt_str_of(rows[i].token);
        assert_int_equal(judge(good, jwks, NOW_S, &err), LT_OK);
        refused(lt_str_slice(good, 0, good.len - 4), jwks, NOW_S, "");
        char *forged = lt_arena_strz(arena, good);
        forged[good.len - 20] = forged[good.len - 20] == 'A' ? 'B' : 'A';
        refused(lt_str_of(forged), jwks, NOW_S, "Jwt verification fails");
        lt_jwks_free(&jwks);
    }
}

/* A secret signs, and a public key in its place does not: the kinds are not mixed up. */
static void test_secrets(void **state)
{
    (void)state;
    struct lt_key *secret = NULL;
    struct lt_err err = {0};
    lt_str pem = lt_key_public_pem(rsa, arena);
    struct lt_jwks *jwks = jwks_of(LT_STR("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}")),
                   *public = jwks_of(pem);
    assert_int_equal(lt_key_from_secret(LT_STR("secret"), &secret, &err), LT_OK);
    struct lt_doc payload = lt_doc_of_object();
    lt_doc_set(arena, &payload, LT_STR("iss"), lt_doc_of_str(LT_STR("https://lateen.local")));
    lt_doc_set(arena, &payload, LT_STR("aud"), lt_doc_of_str(LT_STR("istio-ca")));
    lt_doc_set(arena, &payload, LT_STR("exp"), lt_doc_of_int(NOW_S + 1));
    for (lt_sig_alg alg = LT_SIG_HS256; alg <= LT_SIG_HS512; alg++) {
        lt_str token;
        assert_int_equal(lt_jwt_sign(arena, secret, alg, LT_STR_NULL, &payload, &token), LT_OK);
        assert_int_equal(judge(token, jwks, NOW_S, &err), LT_OK);
        refused(lt_str_slice(token, 0, token.len - 2), jwks, NOW_S, "");
        refused(token, public, NOW_S, "Jwt verification fails");
    }
    lt_key_free(&secret);
    assert_int_equal(lt_key_from_secret(pem, &secret, &err), LT_OK);
    lt_str token;
    assert_int_equal(lt_jwt_sign(arena, secret, LT_SIG_HS256, LT_STR_NULL, &payload, &token),
                     LT_OK);
    refused(token, public, NOW_S, "Jwt verification fails");
    lt_key_free(&secret);
    lt_jwks_free(&jwks);
    lt_jwks_free(&public);
}

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    rsa = lt_key_new(LT_KEY_RSA_2048);
    ec = lt_key_new(LT_KEY_ECDSA_P256);
    other = lt_key_new(LT_KEY_ECDSA_P256);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_key_free(&rsa);
    lt_key_free(&ec);
    lt_key_free(&other);
    lt_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_broken_tokens),    cmocka_unit_test(test_key_sets),
        cmocka_unit_test(test_other_algorithms), cmocka_unit_test(test_secrets),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
