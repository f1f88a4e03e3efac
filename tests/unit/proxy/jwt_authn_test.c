/*
 * tests/unit/proxy/jwt_authn_test.c - the judgement of a request's tokens, and what is remembered of them.
 */
#include "made_test.h"

#include "http/headers.h"
#include "proxy/conf/jwt_authn.h"
#include "proxy/conf/jwt_cache.h"
#include "wire/base64.h"

enum { NOW_S = 1700000000 };

#define ONE_KEY "local_jwks: {inline_string: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"b25l\"}]}'}"
#define FAR "remote_jwks: {http_uri: {uri: 'http://id.example/keys', cluster: keys, timeout: 1s}}"

static struct lt_headers headers;
static struct px_jwt_judge judge;
static bool keys_are_here;
static struct lt_key *key;

static int set_up_judge(void **state)
{
    set_up(state);
    keys_are_here = false;
    assert_int_equal(lt_key_from_secret(LT_STR("one"), &key, &err), LT_OK);
    lt_headers_init(&headers, arena, 0, 0);
    return 0;
}

static int tear_down_judge(void **state)
{
    lt_key_free(&key);
    return tear_down(state);
}

/* Providers a (key here), b (key far away), c (any issuer, in x-c). */
static const struct px_jwt_need *need_of(const char *requires)
{
    lt_str fields = lt_arena_printf(arena,
                                    "providers: {a: {issuer: ia, " ONE_KEY "}, b: {issuer: ib, " FAR
                                    "}, c: {from_headers: [{name: X-C}], " ONE_KEY "}}, "
                                    "rules: [{match: {prefix: /}, requires: %s}]",
                                    requires);
    if (compile_filter("jwt_authn.v3.JwtAuthentication", fields.ptr) != LT_OK)
        fail_msg("%s\n%s", err.text, fields.ptr);
    const struct px_listener_conf *conf = (const struct px_listener_conf *)made;
    const struct px_jwt_conf *jwt = conf->chains[0].hcm->filters[0].conf;
    return jwt->rules[0].need;
}

static lt_rc verify(void *ctx, const struct px_jwt_provider *provider, lt_str token,
                    const struct lt_jwt *jwt, const struct lt_jwt **ret_jwt)
{
    (void)ctx;
    (void)token;
    if (provider->keys == NULL && !keys_are_here)
        return LT_AGAIN;
    *ret_jwt = jwt;
    return provider->keys != NULL ? lt_jwks_verify(provider->keys, jwt) : LT_OK;
}

static px_jwt_status judge_by(const char *requires, const char *path)
{
    judge = (struct px_jwt_judge){.arena = arena,
                                  .headers = &headers,
                                  .path = lt_str_of(path),
                                  .now_s = NOW_S,
                                  .verify = verify};
    return px_jwt_judge(&judge, need_of(requires));
}

static lt_str token_of(const char *issuer, int64_t expires_s)
{
    struct lt_doc payload = lt_doc_of_object();
    lt_str token;
    lt_doc_set(arena, &payload, LT_STR("iss"), lt_doc_of_str(lt_str_of(issuer)));
    lt_doc_set(arena, &payload, LT_STR("exp"), lt_doc_of_int(expires_s));
    assert_int_equal(lt_jwt_sign(arena, key, LT_SIG_HS256, LT_STR_NULL, &payload, &token), LT_OK);
    return token;
}

static void with_header(const char *name, lt_str value)
{
    assert_int_equal(lt_headers_add(&headers, lt_str_of(name), value), LT_OK);
}

static void with_bearer(lt_str token)
{
    with_header("Authorization", lt_arena_printf(arena, "Bearer %.*s", LT_STR_ARG(token)));
}

#define A "{provider_name: a}"
#define B "{provider_name: b}"
#define C "{provider_name: c}"
#define ANY(parts) "{requires_any: {requirements: [" parts "]}}"
#define ALL(parts) "{requires_all: {requirements: [" parts "]}}"

static void test_needs(void **state)
{
    (void)state;
    assert_int_equal(judge_by(A, "/"), PX_JWT_MISSING);
    assert_int_equal(judge_by(ANY(A ", {allow_missing: {}}"), "/"), PX_JWT_OK);
    assert_int_equal(judge_by("{allow_missing_or_failed: {}}", "/"), PX_JWT_OK);
    with_bearer(token_of("ia", NOW_S));
    assert_int_equal(judge_by(A, "/"), PX_JWT_OK);
    assert_int_equal(judge.found_count, 1);
    assert_int_equal(judge_by(C, "/"), PX_JWT_MISSING);
    assert_int_equal(judge_by(ANY(C ", " A), "/"), PX_JWT_OK);
    assert_int_equal(judge_by(ALL(C ", " A), "/"), PX_JWT_MISSING);
    assert_int_equal(judge_by(ALL(A ", {allow_missing: {}}"), "/"), PX_JWT_OK);
    with_header("x-c", token_of("anybody", NOW_S - 61));
    assert_int_equal(judge_by(C, "/"), PX_JWT_EXPIRED);
    assert_int_equal(judge.failed_count, 1);
    assert_int_equal(judge_by(ANY(C ", " A), "/"), PX_JWT_OK);
    assert_int_equal(judge_by(ALL(C ", " A), "/"), PX_JWT_EXPIRED);
}

/* The reason that tells the most is told. */
static void test_reasons(void **state)
{
    (void)state;
    with_bearer(token_of("who", NOW_S));
    assert_int_equal(judge_by(ANY(A ", " C), "/"), PX_JWT_UNKNOWN_ISSUER);
    assert_int_equal(judge_by(ANY(C ", " A), "/"), PX_JWT_UNKNOWN_ISSUER);
    with_header("x-c", LT_STR("rubbish"));
    assert_int_equal(judge_by(ANY(A ", " C), "/"), PX_JWT_BAD_FORM);
    assert_int_equal(judge_by(ANY(C ", " A), "/"), PX_JWT_BAD_FORM);
}

/* A good token in one place doesn't vouch for what is in another. */
static void test_all_tokens_of_a_provider(void **state)
{
    (void)state;
    lt_str good = token_of("ia", NOW_S), bad = token_of("ia", NOW_S - 100);
    with_bearer(good);
    lt_str path = lt_arena_printf(arena, "/?access_token=%.*s", LT_STR_ARG(bad));
    assert_int_equal(judge_by(A, path.ptr), PX_JWT_EXPIRED);
    path = lt_arena_printf(arena, "/?access_token=%.*s", LT_STR_ARG(good));
    assert_int_equal(judge_by(A, path.ptr), PX_JWT_OK);
    assert_int_equal(judge.found_count, 2);
}

/* Keys on their way: judged again when they are here, unless the answer is known without them. */
static void test_waiting(void **state)
{
    (void)state;
    with_bearer(token_of("ib", NOW_S));
    judge_by(B, "/");
    assert_true(judge.waits);
    judge_by(ANY(B ", " C), "/");
    assert_true(judge.waits);
    judge_by(ANY(B ", {allow_missing_or_failed: {}}"), "/");
    assert_true(judge.waits);
    with_header("x-c", token_of("anybody", NOW_S));
    assert_int_equal(judge_by(ANY(B ", " C), "/"), PX_JWT_OK);
    assert_false(judge.waits);
    judge_by(ALL(B ", " C), "/");
    assert_true(judge.waits);
    keys_are_here = true;
    assert_int_equal(judge_by(ALL(B ", " C), "/"), PX_JWT_OK);
    assert_false(judge.waits);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *error;
    } rows[] = {
        {"providers: {a: {issuer: i}}", "providers.a: needs local_jwks or remote_jwks"},
        {"providers: {a: {local_jwks: {inline_string: '{}'}}}",
         "providers.a.local_jwks: key set: "},
        {"providers: {a: {remote_jwks: {}}}", "providers.a.remote_jwks.http_uri: needs a URI"},
        {"providers: {a: {remote_jwks: {http_uri: {uri: 'https://x/'}}}}",
         "providers.a.remote_jwks.http_uri: needs a cluster"},
        {"providers: {a: {" ONE_KEY ", forward_payload_header: 'a b'}}",
         "providers.a.forward_payload_header: "},
        {"providers: {a: {" ONE_KEY ", claim_to_headers: [{header_name: x}]}}",
         "providers.a.claim_to_headers: "},
        {"providers: {a: {" ONE_KEY
         "}}, rules: [{match: {prefix: /}, requires: {provider_name: x}}]",
         "rules[0]: Required provider ['x'] is not configured."},
        {"providers: {a: {" ONE_KEY "}}, rules: [{match: {prefix: /}, requirement_name: x}]",
         "rules[0].requirement_name: "},
        {"providers: {a: {" ONE_KEY
         "}}, rules: [{match: {prefix: /}, requires: {requires_any: {requirements: [" A "]}}}]",
         "rules[0]: a list of requirements needs at least two"},
        {"providers: {a: {" ONE_KEY "}}, rules: [{requires: " A "}]", "rules[0].match: is missing"},
        {"filter_state_rules: {name: x}", "filter_state_rules: is not supported"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        assert_true(compile_filter("jwt_authn.v3.JwtAuthentication", rows[i].fields) != LT_OK);
        const char *at = "filter_chains[0].filters[0].http_filters[0].";
        if (strncmp(err.text, at, strlen(at)) != 0 ||
            strncmp(err.text + strlen(at), rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("'%s' instead of '%s'", err.text, rows[i].error);
    }
}

/* --- the cache --- */

static void test_cache(void **state)
{
    (void)state;
    struct px_jwt_cache cache;
    px_jwt_cache_init(&cache);
    lt_str first = token_of("ia", NOW_S);
    assert_null(px_jwt_cache_take(&cache, first, 1));
    struct px_jwt_entry *held = px_jwt_cache_add(&cache, first, 1);
    struct px_jwt_entry *again = px_jwt_cache_take(&cache, first, 1);
    assert_ptr_equal(held, again);
    px_jwt_entry_drop(&again);
    assert_null(px_jwt_cache_take(&cache, first, 2)); /* another key made the signature */
    for (int i = 0; i < 2 * PX_JWT_CACHE_MAX; i++) {
        struct px_jwt_entry *entry = px_jwt_cache_add(&cache, token_of("ia", NOW_S + 1 + i), 1);
        px_jwt_entry_drop(&entry);
    }
    assert_int_equal(cache.tokens.count, PX_JWT_CACHE_MAX);
    assert_null(
        px_jwt_cache_take(&cache, first, 1)); /* it has gone, but not from whoever holds it */
    assert_true(lt_str_eqz(held->jwt.issuer, "ia"));
    px_jwt_entry_drop(&held);
    /* a token that is verified with newer keys takes the place of its older self */
    struct px_jwt_entry *old = px_jwt_cache_add(&cache, first, 1),
                        *new = px_jwt_cache_add(&cache, first, 2);
    assert_int_equal(cache.tokens.count, PX_JWT_CACHE_MAX);
    px_jwt_entry_drop(&old);
    px_jwt_entry_drop(&new);
    char *name = lt_arena_bytes(arena, PX_JWT_CACHE_TOKEN_MAX + 1);
    memset(name, 'x', PX_JWT_CACHE_TOKEN_MAX);
    name[PX_JWT_CACHE_TOKEN_MAX] = '\0';
    assert_null(px_jwt_cache_add(&cache, token_of(name, NOW_S), 1));
    px_jwt_cache_fini(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_needs, set_up_judge, tear_down_judge),
        cmocka_unit_test_setup_teardown(test_reasons, set_up_judge, tear_down_judge),
        cmocka_unit_test_setup_teardown(test_all_tokens_of_a_provider, set_up_judge,
                                        tear_down_judge),
        cmocka_unit_test_setup_teardown(test_waiting, set_up_judge, tear_down_judge),
        cmocka_unit_test_setup_teardown(test_refused, set_up_judge, tear_down_judge),
        cmocka_unit_test_setup_teardown(test_cache, set_up_judge, tear_down_judge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
