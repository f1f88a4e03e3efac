/*
 * ctl/token.c - JWS with ES256 (RFC 7515, RFC 7518).
 */
#include "ctl/token.h"

#include "base/buf.h"
#include "net/x509.h"
#include "wire/base64.h"
#include "wire/json.h"

#define ISSUER "https://kubernetes.default.svc.cluster.local"
#define AUDIENCE "istio-ca"
#define KEY_ID "lateen"

enum { TEXT_MAX = 8192, COORDINATE = 32 };

struct ctl_tokens {
    struct lt_key *key; /* owned */
};

struct ctl_tokens *ctl_tokens_new(void)
{
    struct ctl_tokens *tokens = lt_new(struct ctl_tokens);
    tokens->key = lt_key_new(LT_KEY_ECDSA_P256);
    return tokens;
}

/* base64url without padding (RFC 7515 section 2). */
static lt_str encode(struct lt_arena *arena, lt_str bytes)
{
    lt_str text = lt_base64_encode(arena, bytes);
    char *out = lt_arena_strz(arena, text);
    size_t len = text.len;
    while (len > 0 && out[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return lt_str_make(out, len);
}

static lt_str finish(struct lt_arena *arena, struct lt_json_writer *w, struct lt_buf *buf)
{
    LT_ASSERT(lt_json_writer_finish(w) == LT_OK);
    lt_str text = lt_arena_str(arena, lt_buf_str(buf));
    lt_buf_fini(buf);
    return text;
}

static void write_key(struct lt_json_writer *w, const struct ctl_tokens *tokens,
                      struct lt_arena *arena)
{
    /* SubjectPublicKeyInfo of P-256 ends with the point: 04, x, y (RFC 5480 section 2.2) */
    lt_str der = lt_key_public_der(tokens->key, arena);
    LT_ASSERT(der.len > 2 * COORDINATE);
    lt_str x = lt_str_slice(der, der.len - 2 * COORDINATE, der.len - COORDINATE);
    lt_json_object_open(w);
    lt_json_kv_str(w, "kty", LT_STR("EC"));
    lt_json_kv_str(w, "crv", LT_STR("P-256"));
    lt_json_kv_str(w, "alg", LT_STR("ES256"));
    lt_json_kv_str(w, "use", LT_STR("sig"));
    lt_json_kv_str(w, "kid", LT_STR(KEY_ID));
    lt_json_kv_str(w, "x", encode(arena, x));
    lt_json_kv_str(w, "y", encode(arena, lt_str_from(der, der.len - COORDINATE)));
    lt_json_object_close(w);
}

const char *ctl_tokens_rule(const struct ctl_tokens *tokens, struct lt_arena *arena)
{
    struct lt_buf keys, rule;
    struct lt_json_writer w;
    lt_buf_init(&keys, TEXT_MAX);
    lt_json_writer_init(&w, &keys, 0);
    lt_json_object_open(&w);
    lt_json_key(&w, LT_STR("keys"));
    lt_json_array_open(&w);
    write_key(&w, tokens, arena);
    lt_json_array_close(&w);
    lt_json_object_close(&w);
    lt_str jwks = finish(arena, &w, &keys);

    lt_buf_init(&rule, TEXT_MAX);
    lt_json_writer_init(&w, &rule, 0);
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "issuer", LT_STR(ISSUER));
    lt_json_key(&w, LT_STR("audiences"));
    lt_json_array_open(&w);
    lt_json_str(&w, LT_STR(AUDIENCE));
    lt_json_array_close(&w);
    lt_json_kv_str(&w, "jwks", jwks); /* a string that holds JSON, as in Istio's JWTRule */
    lt_json_object_close(&w);
    return finish(arena, &w, &rule).ptr;
}

static lt_str write_claims(struct lt_arena *arena, const char *ns, const char *service_account,
                           const char *pod, int64_t now_s)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, TEXT_MAX);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_object_open(&w);
    lt_json_key(&w, LT_STR("aud"));
    lt_json_array_open(&w);
    lt_json_str(&w, LT_STR(AUDIENCE));
    lt_json_array_close(&w);
    lt_json_kv_int(&w, "exp", now_s + CTL_TOKEN_LIFE_S);
    lt_json_kv_int(&w, "iat", now_s);
    lt_json_kv_int(&w, "nbf", now_s);
    lt_json_kv_str(&w, "iss", LT_STR(ISSUER));
    lt_json_key(&w, LT_STR("kubernetes.io"));
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "namespace", lt_str_of(ns));
    lt_json_key(&w, LT_STR("pod"));
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "name", lt_str_of(pod));
    lt_json_object_close(&w);
    lt_json_key(&w, LT_STR("serviceaccount"));
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "name", lt_str_of(service_account));
    lt_json_object_close(&w);
    lt_json_object_close(&w);
    lt_json_key(&w, LT_STR("sub"));
    lt_json_strf(&w, "system:serviceaccount:%s:%s", ns, service_account);
    lt_json_object_close(&w);
    return finish(arena, &w, &buf);
}

lt_str ctl_tokens_sign(const struct ctl_tokens *tokens, struct lt_arena *arena, const char *ns,
                       const char *service_account, const char *pod, int64_t now_s)
{
    unsigned char signature[LT_SIG_MAX];
    size_t len = 0;
    lt_str header = encode(arena,
                           LT_STR("{\"alg\":\"ES256\",\"kid\":\"" KEY_ID "\",\"typ\":\"JWT\"}"));
    lt_str claims = encode(arena, write_claims(arena, ns, service_account, pod, now_s));
    lt_str input = lt_arena_printf(arena, "%.*s.%.*s", LT_STR_ARG(header), LT_STR_ARG(claims));
    LT_ASSERT(lt_key_sign(tokens->key, LT_SIG_ES256, input, signature, &len) == LT_OK);
    lt_str tail = encode(arena, lt_str_make(signature, len));
    return lt_arena_printf(arena, "%.*s.%.*s", LT_STR_ARG(input), LT_STR_ARG(tail));
}
