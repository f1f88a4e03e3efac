/*
 * tests/unit/control/ca_test.c - the CA: what it signs, for whom, and what it says when it does
 * not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/ca.h"
#include "control/ca_authn.h"
#include "control/ca_store.h"
#include "wire/json.h"

static const int64_t NOW_S = 1790000000;
static const char *const IDENTITY = "spiffe://cluster.local/ns/shop/sa/frontend";

static struct lt_arena *arena;

struct own_ca {
    struct cp_ca *ca;
    char *key_pem;
    lt_str cert_pem;
};

static struct own_ca own_ca(void)
{
    struct own_ca own = {0};
    struct lt_err err = {0};
    assert_int_equal(cp_ca_make_root(arena, LT_STR("cluster.local"), CP_CA_ROOT_TTL_S, NOW_S,
                                     &own.cert_pem, &own.key_pem, &err),
                     LT_OK);
    struct cp_ca_material material = {own.cert_pem, lt_str_of(own.key_pem), LT_STR_NULL,
                                      own.cert_pem};
    assert_int_equal(cp_ca_new(&material, NULL, NOW_S, &own.ca, &err), LT_OK);
    return own;
}

static void own_ca_fini(struct own_ca *own)
{
    cp_ca_free(&own->ca);
    lt_key_pem_free(&own->key_pem);
}

static lt_str fresh_csr(void)
{
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    lt_str pem = lt_csr_make(arena, key, LT_STR("spiffe://cluster.local/ns/kube-system/sa/admin"));
    lt_key_free(&key);
    return pem;
}

static const struct lt_cert *only_cert(lt_str pem)
{
    struct lt_cert *certs = NULL;
    size_t count = 0;
    struct lt_err err = {0};
    assert_int_equal(lt_cert_parse_chain(arena, pem, &certs, &count, &err), LT_OK);
    assert_int_equal(count, 1);
    return &certs[0];
}

static void test_signs(void **state)
{
    (void)state;
    struct own_ca own = own_ca();
    struct cp_ca_reply reply;
    cp_ca_sign(own.ca, arena, fresh_csr(), 0, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_int_equal(reply.code, LT_GRPC_OK);
    assert_int_equal(reply.cert_count, 2);
    const struct lt_cert *leaf = only_cert(reply.certs[0]);
    assert_int_equal(leaf->san_count, 1);
    assert_true(lt_str_eqz(lt_cert_uri(leaf), IDENTITY)); /* not what the request asked for */
    assert_int_equal(leaf->subject.len, 0);
    assert_int_equal(leaf->not_before_s, NOW_S - 120);
    assert_int_equal(leaf->not_after_s, NOW_S + 24 * 3600);
    assert_true(lt_str_eq(reply.certs[1], cp_ca_root_pem(own.ca)));
    struct lt_err err = {0};
    assert_int_equal(lt_cert_verify(reply.certs[0], LT_STR_NULL, reply.certs[1], NOW_S, &err),
                     LT_OK);
    cp_ca_sign(own.ca, arena, fresh_csr(), 20, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_int_equal(only_cert(reply.certs[0])->not_after_s, NOW_S + 20);
    assert_int_equal(cp_ca_stats(own.ca)->signed_certs, 2);
    own_ca_fini(&own);
}

static void assert_refused(const struct cp_ca_reply *reply, lt_grpc_code code, const char *message)
{
    assert_int_equal(reply->code, code);
    assert_int_equal(reply->cert_count, 0);
    if (!lt_str_starts(reply->message, lt_str_of(message)))
        fail_msg("%.*s", LT_STR_ARG(reply->message));
}

static void test_refuses(void **state)
{
    (void)state;
    struct own_ca own = own_ca();
    struct cp_ca_reply reply;
    cp_ca_sign(own.ca, arena, fresh_csr(), 2160 * 3600 + 1, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_refused(&reply, LT_GRPC_INVALID_ARGUMENT,
                   "CSR signing error (requested TTL 2160h0m1s is greater than the max "
                   "allowed TTL 2160h0m0s)");
    cp_ca_sign(own.ca, arena, fresh_csr(), INT64_MAX, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_int_equal(reply.code, LT_GRPC_INVALID_ARGUMENT);
    cp_ca_sign(own.ca, arena, LT_STR("not a request"), 0, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_refused(&reply, LT_GRPC_INVALID_ARGUMENT, "CSR signing error (CSR");
    int64_t later_s = NOW_S + CP_CA_ROOT_TTL_S;
    cp_ca_sign(own.ca, arena, fresh_csr(), 0, lt_str_of(IDENTITY), later_s - 60, &reply);
    assert_int_equal(only_cert(reply.certs[0])->not_after_s, later_s); /* no longer than the root */
    cp_ca_sign(own.ca, arena, fresh_csr(), 0, lt_str_of(IDENTITY), later_s, &reply);
    assert_refused(&reply, LT_GRPC_INTERNAL,
                   "CSR signing error (the signing certificate has expired)");
    own_ca_fini(&own);
}

static void test_serving_certificate(void **state)
{
    (void)state;
    struct own_ca own = own_ca();
    struct lt_err err = {0};
    struct cp_ca_serving serving;
    lt_str names[] = {LT_STR("istiod.istio-system.svc"), LT_STR("istiod-remote.istio-system.svc")};
    assert_int_equal(cp_ca_issue_serving(own.ca, arena, names, 2, 3600, NOW_S, &serving, &err),
                     LT_OK);
    const struct lt_cert *cert = only_cert(serving.chain_pem);
    assert_int_equal(cert->san_count, 2);
    assert_int_equal(cert->sans[0].type, LT_SAN_DNS);
    assert_true(lt_str_eq(cert->sans[1].value, names[1]));
    assert_int_equal(cert->not_after_s, NOW_S + 3600);
    assert_int_equal(serving.not_after_s, NOW_S + 3600);
    lt_key_pem_free(&serving.key_pem);
    own_ca_fini(&own);
}

/* An operator's intermediate: it goes with the leaf, the root comes last. */
static void test_plugged_in_intermediate(void **state)
{
    (void)state;
    struct own_ca root = own_ca();
    struct lt_err err = {0};
    struct lt_signer *signer = NULL;
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    char *key_pem = lt_key_private_pem(key);
    lt_str middle_pem;
    assert_int_equal(lt_signer_new(root.cert_pem, lt_str_of(root.key_pem), &signer, &err), LT_OK);
    struct lt_cert_template middle = {.subject_key = key,
                                      .organization = LT_STR("Istio"),
                                      .is_ca = true,
                                      .not_before_s = NOW_S,
                                      .not_after_s = NOW_S + 3600};
    assert_int_equal(lt_signer_issue(signer, &middle, arena, &middle_pem, &err), LT_OK);
    struct cp_ca_material material = {middle_pem, lt_str_of(key_pem), middle_pem, root.cert_pem};
    struct cp_ca *ca = NULL;
    assert_int_equal(cp_ca_new(&material, NULL, NOW_S, &ca, &err), LT_OK);
    struct cp_ca_reply reply;
    cp_ca_sign(ca, arena, fresh_csr(), 0, lt_str_of(IDENTITY), NOW_S, &reply);
    assert_int_equal(reply.cert_count, 3);
    assert_true(lt_str_eq(reply.certs[1], middle_pem));
    assert_int_equal(only_cert(reply.certs[0])->not_after_s, NOW_S + 3600);
    assert_int_equal(lt_cert_verify(reply.certs[0], reply.certs[1], reply.certs[2], NOW_S, &err),
                     LT_OK);
    struct own_ca other = own_ca();
    material.root_pem = other.cert_pem;
    assert_int_equal(cp_ca_replace(ca, &material, NOW_S, &err), LT_E_BAD);
    assert_true(lt_str_eq(cp_ca_root_pem(ca), root.cert_pem)); /* nothing changed */
    own_ca_fini(&other);
    own_ca_fini(&root);
    cp_ca_free(&ca);
    lt_signer_free(&signer);
    lt_key_free(&key);
    lt_key_pem_free(&key_pem);
}

/* --- who calls --- */

struct issuer {
    struct lt_key *key;
    struct cp_authn *authn;
};

static struct issuer issuer(const char *audiences)
{
    struct issuer it = {.key = lt_key_new(LT_KEY_ECDSA_P256)};
    struct lt_err err = {0};
    struct lt_buf jwks;
    struct lt_json_writer w;
    lt_buf_init(&jwks, 4096);
    lt_json_writer_init(&w, &jwks, 0);
    lt_json_str(&w, lt_jwks_text(arena, it.key, LT_SIG_ES256));
    struct cp_authn_opts opts = {
        .trust_domain = LT_STR("cluster.local"),
        .jwt_rule = lt_arena_printf(arena, "{\"issuer\":\"lateen\",\"jwks\":%.*s%s}",
                                    LT_STR_ARG(lt_buf_str(&jwks)), audiences)};
    lt_buf_fini(&jwks);
    if (cp_authn_new(&opts, &it.authn, &err) != LT_OK)
        fail_msg("%s", err.text);
    return it;
}

static void issuer_fini(struct issuer *it)
{
    cp_authn_free(&it->authn);
    lt_key_free(&it->key);
}

static lt_str header_of(const struct lt_key *key, const char *subject, const char *audience,
                        int64_t expires_s)
{
    struct lt_doc payload = lt_doc_of_object();
    lt_str token;
    lt_doc_set(arena, &payload, LT_STR("iss"), lt_doc_of_str(LT_STR("lateen")));
    lt_doc_set(arena, &payload, LT_STR("sub"), lt_doc_of_str(lt_str_of(subject)));
    lt_doc_set(arena, &payload, LT_STR("aud"), lt_doc_of_str(lt_str_of(audience)));
    lt_doc_set(arena, &payload, LT_STR("exp"), lt_doc_of_int(expires_s));
    assert_int_equal(lt_jwt_sign(arena, key, LT_SIG_ES256, LT_STR_NULL, &payload, &token), LT_OK);
    return lt_arena_printf(arena, "Bearer %.*s", LT_STR_ARG(token));
}

static void test_token_identity(void **state)
{
    (void)state;
    struct issuer it = issuer("");
    struct lt_key *forger = lt_key_new(LT_KEY_ECDSA_P256);
    struct cp_identity identity;
    struct lt_err err = {0};
    const char *const good = "system:serviceaccount:shop:frontend";
    assert_int_equal(cp_authn_check(it.authn, arena, LT_STR_NULL,
                                    header_of(it.key, good, "istio-ca", NOW_S + 9), NOW_S,
                                    &identity, &err),
                     LT_OK);
    assert_true(lt_str_eqz(identity.uri, IDENTITY));
    assert_true(lt_str_eqz(identity.ns, "shop"));
    const lt_str bad[] = {
        LT_STR_NULL,
        LT_STR("Bearer x"),
        LT_STR("Basic dTpw"),
        header_of(forger, good, "istio-ca", NOW_S + 9),
        header_of(it.key, good, "vault", NOW_S + 9),
        header_of(it.key, good, "istio-ca", NOW_S),
        header_of(it.key, "frontend", "istio-ca", NOW_S + 9),
        header_of(it.key, "system:serviceaccount:shop", "istio-ca", NOW_S + 9),
        header_of(it.key, "system:serviceaccount:shop:a:b", "istio-ca", NOW_S + 9),
        header_of(it.key, "system:serviceaccount:shop/sa/x:y", "istio-ca", NOW_S + 9),
        header_of(it.key, "system:serviceaccount::x", "istio-ca", NOW_S + 9),
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_equal(
            cp_authn_check(it.authn, arena, LT_STR_NULL, bad[i], NOW_S, &identity, &err),
            LT_E_DENIED);
    issuer_fini(&it);
    /* the rule's own audiences take the place of the default */
    it = issuer(",\"audiences\":[\"vault\"]");
    assert_int_equal(cp_authn_check(it.authn, arena, LT_STR_NULL,
                                    header_of(it.key, good, "vault", NOW_S + 9), NOW_S, &identity,
                                    &err),
                     LT_OK);
    assert_int_equal(cp_authn_check(it.authn, arena, LT_STR_NULL,
                                    header_of(it.key, good, "istio-ca", NOW_S + 9), NOW_S,
                                    &identity, &err),
                     LT_E_DENIED);
    issuer_fini(&it);
    lt_key_free(&forger);
}

static void test_certificate_identity(void **state)
{
    (void)state;
    struct issuer it = issuer("");
    struct cp_identity identity;
    struct lt_err err = {0};
    assert_int_equal(
        cp_authn_check(it.authn, arena, lt_str_of(IDENTITY), LT_STR_NULL, NOW_S, &identity, &err),
        LT_OK);
    assert_true(lt_str_eqz(identity.service_account, "frontend"));
    static const char *const bad[] = {"",
                                      "https://cluster.local/ns/a/sa/b",
                                      "spiffe://td/ns/a",
                                      "spiffe://td/ns/a/sa/b/c",
                                      "spiffe:///ns/a/sa/b",
                                      "spiffe://td/ns//sa/b",
                                      "spiffe://td/sa/a/ns/b",
                                      "spiffe://td/ns/A/sa/b",
                                      "spiffe://td/ns/a/sa/"};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_equal(
            cp_authn_check(it.authn, arena, lt_str_of(bad[i]), LT_STR_NULL, NOW_S, &identity, &err),
            LT_E_DENIED);
    issuer_fini(&it);
}

static void test_bad_rules(void **state)
{
    (void)state;
    static const char *const bad[] = {"[]", "{", "{}", "{\"issuer\":\"a\"}",
                                      "{\"issuer\":\"a\",\"jwks\":\"nonsense\"}"};
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct cp_authn *authn = NULL;
        struct lt_err err = {0};
        struct cp_authn_opts opts = {.trust_domain = LT_STR("td"), .jwt_rule = lt_str_of(bad[i])};
        assert_int_equal(cp_authn_new(&opts, &authn, &err), LT_E_BAD);
        assert_non_null(strstr(err.text, "JWT_RULE"));
        assert_null(authn);
    }
    struct cp_authn *authn = NULL;
    struct lt_err err = {0};
    struct cp_authn_opts opts = {
        .trust_domain = LT_STR("td"),
        .jwt_rule = LT_STR("{\"issuer\":\"a\",\"jwksUri\":\"https://a.test/keys\"}")};
    assert_int_equal(cp_authn_new(&opts, &authn, &err), LT_E_BAD);
    assert_non_null(strstr(err.text, "keys are not fetched by jwksUri yet"));
}

/* --- on disk --- */

static void test_store(void **state)
{
    (void)state;
    char dir[] = "/tmp/lateen-ca-XXXXXX", path[256];
    assert_non_null(mkdtemp(dir));
    char *state_dir = lt_arena_strz(arena, lt_arena_printf(arena, "%s/var/state", dir));
    char *plugged = lt_arena_strz(arena, lt_arena_printf(arena, "%s/cacerts", dir));
    struct cp_ca_store_opts opts = {
        .plugged_dir = plugged, .state_dir = state_dir, .trust_domain = LT_STR("cluster.local")};
    struct cp_ca_store first, second;
    struct lt_err err = {0};
    if (cp_ca_store_load(&opts, NOW_S, &first, &err) != LT_OK)
        fail_msg("%s", err.text);
    assert_true(first.was_made);
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/ca-key.pem", state_dir);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(state_dir, &info), 0); /* made with all above it */
    assert_int_equal(info.st_mode & 0777, 0700);

    assert_int_equal(cp_ca_store_load(&opts, NOW_S + 100, &second, &err), LT_OK);
    assert_false(second.was_made);
    assert_true(lt_str_eq(first.material.cert_pem, second.material.cert_pem));
    cp_ca_store_fini(&second);

    int64_t late_s = NOW_S + CP_CA_ROOT_TTL_S / 10 * 9;
    assert_int_equal(cp_ca_store_load(&opts, late_s, &second, &err), LT_OK);
    assert_true(second.was_renewed);
    assert_true(lt_str_eqz(second.material.key_pem, first.key_pem));
    assert_int_equal(only_cert(second.material.cert_pem)->not_after_s, late_s + CP_CA_ROOT_TTL_S);
    cp_ca_store_fini(&second);

    /* an operator who began must finish */
    assert_int_equal(mkdir(plugged, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/ca-cert.pem", plugged);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(first.material.cert_pem.ptr, 1, first.material.cert_pem.len, file),
                     first.material.cert_pem.len);
    fclose(file);
    assert_int_equal(cp_ca_store_load(&opts, NOW_S, &second, &err), LT_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "ca-key.pem is missing"));
    cp_ca_store_fini(&first);
    unlink(path);
    rmdir(plugged);
    (void)snprintf(path, sizeof(path), "%s/ca-cert.pem", state_dir);
    unlink(path);
    (void)snprintf(path, sizeof(path), "%s/ca-key.pem", state_dir);
    unlink(path);
    rmdir(state_dir);
    (void)snprintf(path, sizeof(path), "%s/var", dir);
    rmdir(path);
    assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
}

static void test_durations(void **state)
{
    (void)state;
    assert_true(lt_str_eqz(cp_ca_duration_text(arena, 0), "0s"));
    assert_true(lt_str_eqz(cp_ca_duration_text(arena, 65), "1m5s"));
    assert_true(lt_str_eqz(cp_ca_duration_text(arena, 86400), "24h0m0s"));
    assert_true(lt_str_eqz(cp_ca_duration_text(arena, -1), "-1s"));
}

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_serving_certificate),
        cmocka_unit_test(test_plugged_in_intermediate),
        cmocka_unit_test(test_token_identity),
        cmocka_unit_test(test_certificate_identity),
        cmocka_unit_test(test_bad_rules),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
