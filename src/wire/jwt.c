/*
 * wire/jwt.c - JSON Web Tokens. Start at: lt_jwt_parse(), lt_jwt_verify().
 */
#include "wire/jwt.h"

#include "wire/base64.h"
#include "wire/json.h"

enum { DEPTH_MAX = 16, NODES_MAX = 4096, JWKS_NODES_MAX = 16384 };

/* --- base64url, strictly as RFC 7515 2 has it: no padding, no other alphabet --- */

static lt_rc decode_url(struct lt_arena *arena, lt_str text, lt_str *ret_bytes)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '+' || text.ptr[i] == '/' || text.ptr[i] == '=')
            return LT_E_BAD;
    }
    return lt_base64_decode(arena, text, ret_bytes);
}

static lt_str encode_url(struct lt_arena *arena, lt_str bytes)
{
    lt_str text = lt_base64_encode(arena, bytes);
    char *at = lt_arena_strz(arena, text);
    size_t len = 0;
    for (; len < text.len && at[len] != '='; len++)
        at[len] = at[len] == '+' ? '-' : at[len] == '/' ? '_' : at[len];
    return lt_str_make(at, len);
}

/* --- reading a token --- */

static lt_rc read_part(struct lt_arena *arena, lt_str text, const char *what, lt_str *ret_json,
                       const struct lt_doc **ret_doc, struct lt_err *err)
{
    static const struct lt_doc_limits limits = {LT_JWT_BYTES_MAX, NODES_MAX, DEPTH_MAX};
    if (decode_url(arena, text, ret_json) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "Jwt %s is an invalid Base64url encoded", what);
    lt_rc rc = lt_json_parse(arena, *ret_json, &limits, ret_doc, NULL);
    if (rc != LT_OK || !lt_doc_is(*ret_doc, LT_DOC_OBJECT))
        return lt_err_set(err, rc != LT_OK ? rc : LT_E_BAD, "Jwt %s is an invalid JSON", what);
    return LT_OK;
}

static lt_rc read_header(const struct lt_doc *header, struct lt_jwt *jwt, struct lt_err *err)
{
    const struct lt_doc *alg = lt_doc_findz(header, "alg"), *kid = lt_doc_findz(header, "kid");
    if (!lt_doc_is(alg, LT_DOC_STRING))
        return lt_err_set(err, LT_E_BAD, "Jwt header [alg] field is required and must be a string");
    if (!lt_sig_alg_find(alg->string, &jwt->alg))
        return lt_err_set(err, LT_E_UNSUPPORTED, "Jwt header [alg] is not supported");
    if (kid != NULL && !lt_doc_is(kid, LT_DOC_STRING))
        return lt_err_set(err, LT_E_BAD, "Jwt header [kid] field is not a string");
    if (lt_doc_findz(header, "crit") !=
        NULL) /* RFC 7515 4.1.11: what we don't know we must refuse */
        return lt_err_set(err, LT_E_UNSUPPORTED, "Jwt header [crit] demands an extension");
    jwt->kid = lt_doc_string(kid);
    jwt->header = header;
    return LT_OK;
}

static lt_rc read_string_claim(const struct lt_doc *payload, const char *name, lt_str *ret,
                               struct lt_err *err)
{
    const struct lt_doc *claim = lt_doc_findz(payload, name);
    if (claim != NULL && !lt_doc_is(claim, LT_DOC_STRING))
        return lt_err_set(err, LT_E_BAD, "Jwt payload [%s] field is not a string", name);
    if (ret != NULL)
        *ret = lt_doc_string(claim);
    return LT_OK;
}

/* RFC 7519 2, NumericDate: may have a fraction, which rounds down. */
static lt_rc read_time_claim(const struct lt_doc *payload, const char *name, bool *ret_has,
                             int64_t *ret_s, struct lt_err *err)
{
    enum { YEAR_9999_S = 253402300799 };
    const struct lt_doc *claim = lt_doc_findz(payload, name);
    double number = 0;
    *ret_has = claim != NULL;
    if (claim == NULL)
        return LT_OK;
    if (!lt_doc_is_number(claim, &number))
        return lt_err_set(err, LT_E_BAD, "Jwt payload [%s] field is not an integer", name);
    if (!(number >= 0 && number <= (double)YEAR_9999_S))
        return lt_err_set(err, LT_E_BAD, "Jwt payload [%s] field is not a positive 64 bit integer",
                          name);
    *ret_s = (int64_t)number;
    return LT_OK;
}

static lt_rc read_audiences(struct lt_arena *arena, const struct lt_doc *payload,
                            struct lt_jwt *jwt, struct lt_err *err)
{
    const struct lt_doc *claim = lt_doc_findz(payload, "aud");
    if (claim == NULL)
        return LT_OK;
    const struct lt_doc *items = claim;
    size_t count = 1;
    if (claim->kind == LT_DOC_ARRAY) {
        items = claim->items;
        count = claim->count;
    }
    if (count > LT_JWT_AUDIENCES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "Jwt payload [aud] field has more than %d entries",
                          LT_JWT_AUDIENCES_MAX);
    lt_str *audiences = lt_arena_make_n(arena, lt_str, LT_MAX(count, (size_t)1));
    for (size_t i = 0; i < count; i++) {
        if (!lt_doc_is(&items[i], LT_DOC_STRING))
            return lt_err_set(err, LT_E_BAD,
                              "Jwt payload [aud] field is not a string or string list");
        audiences[i] = items[i].string;
    }
    jwt->audiences = audiences;
    jwt->audience_count = count;
    return LT_OK;
}

static lt_rc read_claims(struct lt_arena *arena, struct lt_jwt *jwt, struct lt_err *err)
{
    const struct lt_doc *payload = jwt->payload;
    bool has_issued = false;
    int64_t issued_s = 0; /* only looked at */
    LT_TRY(read_string_claim(payload, "iss", &jwt->issuer, err));
    LT_TRY(read_string_claim(payload, "sub", &jwt->subject, err));
    LT_TRY(read_time_claim(payload, "iat", &has_issued, &issued_s, err));
    LT_TRY(read_time_claim(payload, "nbf", &jwt->has_not_before, &jwt->not_before_s, err));
    LT_TRY(read_time_claim(payload, "exp", &jwt->has_expiry, &jwt->expires_s, err));
    LT_TRY(read_string_claim(payload, "jti", NULL, err));
    return read_audiences(arena, payload, jwt, err);
}

lt_rc lt_jwt_parse(struct lt_arena *arena, lt_str token, struct lt_jwt *ret_jwt, struct lt_err *err)
{
    if (token.len > LT_JWT_BYTES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "Jwt is longer than %d bytes", LT_JWT_BYTES_MAX);
    ptrdiff_t first = lt_str_find_char(token, '.'), last = lt_str_rfind_char(token, '.');
    bool has_three = first >= 0 && last > first &&
                     lt_str_find_char(lt_str_slice(token, (size_t)first + 1, (size_t)last), '.') <
                         0;
    if (!has_three)
        return lt_err_set(err, LT_E_BAD,
                          "Jwt is not in the form of Header.Payload.Signature with two dots and 3 "
                          "sections");
    struct lt_jwt jwt = {
        .signed_text = lt_str_slice(token, 0, (size_t)last),
        .payload_text = lt_str_slice(token, (size_t)first + 1, (size_t)last),
    };
    lt_str header_json;
    const struct lt_doc *header = NULL;
    LT_TRY(read_part(arena, lt_str_slice(token, 0, (size_t)first), "header", &header_json, &header,
                     err));
    LT_TRY(read_header(header, &jwt, err));
    LT_TRY(read_part(arena, jwt.payload_text, "payload", &jwt.payload_json, &jwt.payload, err));
    LT_TRY(read_claims(arena, &jwt, err));
    if (decode_url(arena, lt_str_from(token, (size_t)last + 1), &jwt.signature) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "Jwt signature is an invalid Base64url encoded");
    *ret_jwt = jwt;
    return LT_OK;
}

/* --- key sets --- */

struct jwk {
    struct lt_key *key; /* owned */
    lt_str kid;         /* in the set's arena */
    bool has_alg;
    lt_sig_alg alg;
};

struct lt_jwks {
    struct lt_arena *arena; /* owned */
    struct jwk keys[LT_JWKS_KEYS_MAX];
    size_t count;
};

static lt_rc decode_member(struct lt_arena *arena, const struct lt_doc *object, const char *name,
                           lt_str *ret)
{
    return decode_url(arena, lt_doc_string(lt_doc_findz(object, name)), ret);
}

/* A public key of a curve or of numbers, or a secret; LT_E_UNSUPPORTED: something else. */
static lt_rc read_numbers(struct lt_arena *arena, const struct lt_doc *object,
                          struct lt_key **ret_key, struct lt_err *err)
{
    lt_str type = lt_doc_string(lt_doc_findz(object, "kty"));
    lt_str curve = lt_doc_string(lt_doc_findz(object, "crv")), a, b;
    if (lt_str_eqz(type, "RSA")) {
        LT_TRY(decode_member(arena, object, "n", &a));
        LT_TRY(decode_member(arena, object, "e", &b));
        return lt_key_from_rsa(a, b, ret_key, err);
    }
    if (lt_str_eqz(type, "EC")) {
        LT_TRY(decode_member(arena, object, "x", &a));
        LT_TRY(decode_member(arena, object, "y", &b));
        return lt_key_from_ec(curve, a, b, ret_key, err);
    }
    if (lt_str_eqz(type, "OKP") && lt_str_eqz(curve, "Ed25519")) {
        LT_TRY(decode_member(arena, object, "x", &a));
        return lt_key_from_ed25519(a, ret_key, err);
    }
    if (lt_str_eqz(type, "oct")) {
        LT_TRY(decode_member(arena, object, "k", &a));
        return lt_key_from_secret(a, ret_key, err);
    }
    return LT_E_UNSUPPORTED;
}

/* LT_E_UNSUPPORTED: a kind or use that is not for us. */
static lt_rc read_jwk(struct lt_jwks *jwks, const struct lt_doc *object, struct jwk *jwk,
                      struct lt_err *err)
{
    const struct lt_doc *use = lt_doc_findz(object, "use"), *alg = lt_doc_findz(object, "alg");
    if (use != NULL && !lt_str_eqz(lt_doc_string(use), "sig"))
        return LT_E_UNSUPPORTED;
    jwk->has_alg = alg != NULL;
    if (alg != NULL && !lt_sig_alg_find(lt_doc_string(alg), &jwk->alg))
        return LT_E_UNSUPPORTED;
    jwk->kid = lt_doc_string(lt_doc_findz(object, "kid"));
    return read_numbers(jwks->arena, object, &jwk->key, err);
}

/* Google's other form: {"key id": "-----BEGIN CERTIFICATE-----..."}. */
static lt_rc read_certificates(struct lt_jwks *jwks, const struct lt_doc *doc, struct lt_err *err)
{
    for (uint32_t i = 0; i < doc->count && jwks->count < LT_JWKS_KEYS_MAX; i++) {
        const struct lt_doc_member *member = &doc->members[i];
        struct jwk jwk = {.kid = member->key};
        lt_str pem = lt_doc_string(&member->value);
        if (!lt_str_starts(pem, LT_STR("-----BEGIN ")))
            return lt_err_set(err, LT_E_BAD, "neither a key set nor a key");
        if (lt_key_parse_public(pem, &jwk.key, err) == LT_OK)
            jwks->keys[jwks->count++] = jwk;
    }
    return LT_OK;
}

static lt_rc read_set(struct lt_jwks *jwks, lt_str text, struct lt_err *err)
{
    static const struct lt_doc_limits limits = {LT_JWKS_BYTES_MAX, JWKS_NODES_MAX, DEPTH_MAX};
    const struct lt_doc *doc = NULL;
    LT_TRY(lt_json_parse(jwks->arena, text, &limits, &doc, err));
    const struct lt_doc *keys = lt_doc_findz(doc, "keys");
    bool is_set = lt_doc_is(keys, LT_DOC_ARRAY);
    if (!is_set && lt_doc_is(doc, LT_DOC_OBJECT) && lt_doc_findz(doc, "kty") == NULL)
        return read_certificates(jwks, doc, err);
    if (!is_set && !lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_err_set(err, LT_E_BAD, "neither a key set nor a key");
    const struct lt_doc *items = is_set ? keys->items : doc;
    size_t count = is_set ? keys->count : 1;
    if (count > LT_JWKS_KEYS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d keys", LT_JWKS_KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct jwk jwk = {0};
        if (read_jwk(jwks, &items[i], &jwk, err) == LT_OK)
            jwks->keys[jwks->count++] = jwk;
    }
    return LT_OK;
}

static lt_rc read_pem(struct lt_jwks *jwks, lt_str text, struct lt_err *err)
{
    struct jwk jwk = {0};
    LT_TRY(lt_key_parse_public(text, &jwk.key, err));
    jwks->keys[jwks->count++] = jwk;
    return LT_OK;
}

lt_rc lt_jwks_parse(lt_str text, struct lt_jwks **ret_jwks, struct lt_err *err)
{
    text = lt_str_trim(text);
    if (text.len > LT_JWKS_BYTES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "key set longer than %d bytes", LT_JWKS_BYTES_MAX);
    struct lt_jwks *jwks = lt_new(struct lt_jwks);
    jwks->arena = lt_arena_new(0, 0);
    bool is_pem = lt_str_starts(text, LT_STR("-----BEGIN "));
    lt_rc rc = is_pem ? read_pem(jwks, text, err) : read_set(jwks, text, err);
    if (rc == LT_OK && jwks->count == 0)
        rc = lt_err_set(err, LT_E_BAD, "no key for signatures that we know");
    if (rc != LT_OK) {
        lt_jwks_free(&jwks);
        return lt_err_wrap(err, rc, "key set");
    }
    *ret_jwks = jwks;
    return LT_OK;
}

void lt_jwks_free(struct lt_jwks **jwks)
{
    if (*jwks == NULL)
        return;
    for (size_t i = 0; i < (*jwks)->count; i++)
        lt_key_free(&(*jwks)->keys[i].key);
    lt_arena_wipe_free(&(*jwks)->arena); /* a secret may be among them */
    free(*jwks);
    *jwks = NULL;
}

size_t lt_jwks_count(const struct lt_jwks *jwks)
{
    return jwks->count;
}

/* --- the verdict --- */

/* What both name must be the same; a key that names no algorithm takes those of its kind. */
static bool may_have_signed(const struct lt_jwt *jwt, const struct jwk *jwk)
{
    if (jwk->has_alg ? jwk->alg != jwt->alg : !lt_key_fits(jwk->key, jwt->alg))
        return false;
    return jwt->kid.len == 0 || jwk->kid.len == 0 || lt_str_eq(jwt->kid, jwk->kid);
}

lt_rc lt_jwks_verify(const struct lt_jwks *jwks, const struct lt_jwt *jwt)
{
    lt_rc rc = LT_E_NOT_FOUND;
    for (size_t i = 0; i < jwks->count; i++) {
        if (!may_have_signed(jwt, &jwks->keys[i]))
            continue;
        if (lt_key_verify(jwks->keys[i].key, jwt->alg, jwt->signed_text, jwt->signature))
            return LT_OK;
        rc = LT_E_DENIED;
    }
    return rc;
}

static bool has_common_audience(const struct lt_jwt *jwt, const struct lt_jwt_rule *rule)
{
    for (size_t i = 0; i < jwt->audience_count; i++) {
        for (size_t j = 0; j < rule->audience_count; j++) {
            if (lt_str_eq(jwt->audiences[i], rule->audiences[j]))
                return true;
        }
    }
    return rule->audience_count == 0;
}

lt_rc lt_jwt_verify(const struct lt_jwt *jwt, const struct lt_jwt_rule *rule, int64_t now_s,
                    struct lt_err *err)
{
    if (rule->issuer.len > 0 && !lt_str_eq(rule->issuer, jwt->issuer))
        return lt_err_set(err, LT_E_DENIED, "Jwt issuer is not configured");
    if (jwt->has_not_before && jwt->not_before_s > now_s + rule->leeway_s)
        return lt_err_set(err, LT_E_DENIED, "Jwt not yet valid");
    if (jwt->has_expiry ? jwt->expires_s + rule->leeway_s <= now_s : rule->requires_expiry)
        return lt_err_set(err, LT_E_DENIED,
                          jwt->has_expiry ? "Jwt is expired" : "Jwt has no expiry");
    if (!has_common_audience(jwt, rule))
        return lt_err_set(err, LT_E_DENIED, "Audiences in Jwt are not allowed");
    if (lt_jwks_verify(rule->jwks, jwt) == LT_OK)
        return LT_OK;
    return lt_err_set(err, LT_E_DENIED, "Jwt verification fails");
}

/* --- making --- */

static lt_rc encode_doc(struct lt_arena *arena, const struct lt_doc *doc, lt_str *ret_text)
{
    struct lt_buf json;
    struct lt_json_writer w;
    lt_buf_init(&json, LT_JWT_BYTES_MAX);
    lt_json_writer_init(&w, &json, 0);
    lt_json_doc(&w, doc);
    lt_rc rc = lt_json_writer_finish(&w);
    if (rc == LT_OK)
        *ret_text = encode_url(arena, lt_buf_str(&json));
    lt_buf_fini(&json);
    return rc;
}

lt_rc lt_jwt_sign(struct lt_arena *arena, const struct lt_key *key, lt_sig_alg alg, lt_str kid,
                  const struct lt_doc *payload, lt_str *ret_token)
{
    LT_ASSERT(payload->kind == LT_DOC_OBJECT);
    struct lt_doc header = lt_doc_of_object();
    lt_doc_set(arena, &header, LT_STR("alg"), lt_doc_of_str(lt_str_of(lt_sig_alg_name(alg))));
    if (kid.len > 0)
        lt_doc_set(arena, &header, LT_STR("kid"), lt_doc_of_str(kid));
    lt_str head, body;
    LT_TRY(encode_doc(arena, &header, &head));
    LT_TRY(encode_doc(arena, payload, &body));
    lt_str text = lt_arena_printf(arena, "%.*s.%.*s", LT_STR_ARG(head), LT_STR_ARG(body));
    unsigned char signature[LT_SIG_MAX];
    size_t len = 0;
    LT_TRY(lt_key_sign(key, alg, text, signature, &len));
    lt_str tail = encode_url(arena, lt_str_make(signature, len));
    lt_str token = lt_arena_printf(arena, "%.*s.%.*s", LT_STR_ARG(text), LT_STR_ARG(tail));
    if (token.len > LT_JWT_BYTES_MAX)
        return LT_E_LIMIT;
    *ret_token = token;
    return LT_OK;
}

lt_str lt_jwt_kid(struct lt_arena *arena, const struct lt_key *key)
{
    unsigned char digest[LT_SHA256_BYTES];
    lt_sha256(lt_key_public_der(key, arena), digest);
    return encode_url(arena, lt_str_make(digest, sizeof(digest)));
}

lt_str lt_jwks_text(struct lt_arena *arena, const struct lt_key *key, lt_sig_alg alg)
{
    lt_str a, b;
    lt_key_public_numbers(key, arena, &a, &b);
    lt_str kid = lt_jwt_kid(arena, key), first = encode_url(arena, a),
           second = encode_url(arena, b);
    bool is_rsa = alg == LT_SIG_RS256;
    return lt_arena_printf(
        arena,
        "{\"keys\":[{\"use\":\"sig\",\"kty\":\"%s\",%s\"kid\":\"%.*s\",\"alg\":\"%s\","
        "\"%s\":\"%.*s\",\"%s\":\"%.*s\"}]}",
        is_rsa ? "RSA" : "EC", is_rsa ? "" : "\"crv\":\"P-256\",", LT_STR_ARG(kid),
        lt_sig_alg_name(alg), is_rsa ? "n" : "x", LT_STR_ARG(first), is_rsa ? "e" : "y",
        LT_STR_ARG(second));
}
