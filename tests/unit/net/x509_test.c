/*
 * tests/unit/net/x509_test.c - keys, requests and certificates, read back after they were made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tls_fixture.h"

static struct lt_arena *arena;
static struct fixture_ca ca;

static const char *const URI = "spiffe://cluster.local/ns/shop/sa/frontend";

static void test_key_round_trip(void **state)
{
    (void)state;
    static const lt_key_kind kinds[] = {LT_KEY_ECDSA_P256, LT_KEY_RSA_2048};
    for (size_t i = 0; i < LT_ARRAY_LEN(kinds); i++) {
        lt_sig_alg alg = kinds[i] == LT_KEY_RSA_2048 ? LT_SIG_RS256 : LT_SIG_ES256;
        lt_sig_alg other = kinds[i] == LT_KEY_RSA_2048 ? LT_SIG_ES256 : LT_SIG_RS256;
        struct lt_key *key = lt_key_new(kinds[i]), *read = NULL, *public = NULL;
        struct lt_err err;
        char *pem = lt_key_private_pem(key);
        assert_int_equal(lt_key_parse_private(lt_str_of(pem), &read, &err), LT_OK);
        assert_int_equal(lt_key_parse_public(lt_key_public_pem(key, arena), &public, &err), LT_OK);
        assert_true(lt_key_eq(key, read));
        unsigned char sig[LT_SIG_MAX];
        size_t len = 0;
        assert_int_equal(lt_key_sign(read, alg, LT_STR("data"), sig, &len), LT_OK);
        assert_int_equal(len, alg == LT_SIG_ES256 ? 64 : 256);
        assert_true(lt_key_verify(public, alg, LT_STR("data"), lt_str_make(sig, len)));
        assert_false(lt_key_verify(public, alg, LT_STR("Data"), lt_str_make(sig, len)));
        assert_false(lt_key_verify(public, other, LT_STR("data"), lt_str_make(sig, len)));
        assert_false(lt_key_verify(public, alg, LT_STR("data"), lt_str_make(sig, len - 1)));
        sig[3] ^= 1;
        assert_false(lt_key_verify(public, alg, LT_STR("data"), lt_str_make(sig, len)));
        assert_int_equal(lt_key_sign(public, alg, LT_STR("data"), sig, &len), LT_E_BAD);
        lt_key_pem_free(&pem);
        assert_null(pem);
        lt_key_free(&key);
        lt_key_free(&read);
        lt_key_free(&public);
    }
}

static void test_bad_keys(void **state)
{
    (void)state;
    struct lt_key *key = NULL;
    struct lt_err err;
    assert_int_equal(lt_key_parse_private(LT_STR("nothing"), &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_parse_private(LT_STR("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"
                                                 "-----END ENCRYPTED PRIVATE KEY-----\n"),
                                          &key, &err),
                     LT_E_BAD);
    char zeros[32] = {0}, n[256], e[] = {1};
    memset(n, 0xff, sizeof(n));
    lt_str zero = lt_str_make(zeros, 32), curve = LT_STR("P-256");
    assert_int_equal(lt_key_from_ec(curve, zero, zero, &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_ec(curve, lt_str_from(zero, 1), zero, &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_ec(LT_STR("P-384"), zero, zero, &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_ec(LT_STR("secp256k1"), zero, zero, &key, &err), LT_E_UNSUPPORTED);
    assert_int_equal(lt_key_from_ed25519(lt_str_from(zero, 1), &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_secret(LT_STR(""), &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_rsa(lt_str_make(n, 256), lt_str_make(e, 1), &key, &err), LT_E_BAD);
    assert_int_equal(lt_key_from_rsa(lt_str_make(n, 64), LT_STR("\x01\x00\x01"), &key, &err),
                     LT_E_UNSUPPORTED);
    assert_null(key);
}

static void test_issued_leaf(void **state)
{
    (void)state;
    struct lt_err err;
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    struct lt_csr csr = {0};
    assert_int_equal(
        lt_csr_parse(lt_csr_make(arena, key, LT_STR("spiffe://evil/ns/kube-system/sa/admin")), &csr,
                     &err),
        LT_OK);
    assert_false(csr.has_common_name);
    const struct lt_san san = {LT_SAN_URI, lt_str_of(URI)};
    struct lt_cert_template template = {.subject_key = csr.key,
                                        .sans = &san,
                                        .san_count = 1,
                                        .not_before_s = 1700000000 - 120,
                                        .not_after_s = 1700000000 + 86400};
    lt_str pem, root_pem = ca.cert_pem;
    assert_int_equal(lt_signer_issue(ca.signer, &template, arena, &pem, &err), LT_OK);
    struct lt_cert *certs = NULL;
    size_t count = 0;
    lt_str both = lt_arena_printf(arena, "%.*s%.*s", LT_STR_ARG(pem), LT_STR_ARG(root_pem));
    assert_int_equal(lt_cert_parse_chain(arena, both, &certs, &count, &err), LT_OK);
    assert_int_equal(count, 2);
    assert_int_equal(certs[0].san_count, 1);
    assert_true(lt_str_eqz(lt_cert_uri(&certs[0]), URI));
    assert_int_equal(certs[0].subject.len, 0);
    assert_true(lt_str_eqz(certs[0].issuer, "O=cluster.local"));
    assert_int_equal(certs[0].not_before_s, 1700000000 - 120);
    assert_int_equal(certs[0].not_after_s, 1700000000 + 86400);
    assert_int_equal(lt_cert_days_left(&certs[0], 1700000000), 1);
    assert_int_equal(lt_cert_days_left(&certs[0], 1700000001), 0);
    assert_int_equal(lt_cert_days_left(&certs[0], 1800000000), 0);
    assert_false(certs[0].is_ca);
    assert_true(certs[1].is_ca);
    assert_int_equal(certs[0].sha256.len, 64);
    assert_int_equal(certs[0].serial.len, 32);
    assert_true(lt_str_eq(certs[0].pem, pem));
    lt_csr_fini(&csr);
    lt_key_free(&key);
}

static void test_verify(void **state)
{
    (void)state;
    struct lt_err err;
    struct fixture_leaf leaf;
    struct fixture_ca other;
    int64_t now = time(NULL);
    const struct lt_san san = {LT_SAN_URI, lt_str_of(URI)};
    fixture_ca_init(&other, arena, "other");
    fixture_leaf_init(&leaf, arena, &ca, &san, 1, now + HOUR_S);
    assert_int_equal(lt_cert_verify(leaf.chain_pem, LT_STR_NULL, ca.cert_pem, now, &err), LT_OK);
    assert_int_equal(lt_cert_verify(leaf.chain_pem, LT_STR_NULL, other.cert_pem, now, &err),
                     LT_E_DENIED);
    assert_int_equal(
        lt_cert_verify(leaf.chain_pem, LT_STR_NULL, ca.cert_pem, now + 2 * HOUR_S, &err),
        LT_E_DENIED);
    assert_string_equal(err.text, "certificate has expired");
    struct lt_signer *signer = NULL;
    assert_int_equal(lt_signer_new(leaf.chain_pem, lt_str_of(leaf.key_pem), &signer, &err),
                     LT_E_BAD); /* no CA */
    assert_int_equal(lt_signer_new(ca.cert_pem, lt_str_of(leaf.key_pem), &signer, &err), LT_E_BAD);
    fixture_leaf_fini(&leaf);
    fixture_ca_fini(&other);
}

/* RSA of 1024 bits, and a kind that no peer of ours takes: nobody gets a certificate for those. */
static void test_keys_that_get_no_certificate(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        "MIIBPzCBqQIBADAAMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCqea3KUaIK\n"
        "QKBv4FzxkjlC434ned8BaIkMiCyhSAX39UqQnhjNFd0SbtNcASo3zMSBJhxgkOwj\n"
        "oXD2h27LbWebIQkKbqYXBkHEmgGuCub5T5rm9mrzNV/uhyafzSXV70lFtshN9ZWP\n"
        "lC2Dnm3OKhC4dUeoe7wBfA1vGhrefUQi/wIDAQABoAAwDQYJKoZIhvcNAQELBQAD\n"
        "gYEAevO0mnvnMEBPJ5udkOXh1kFQaAYLsxjlT62ER2lj+mpfUwU9qyAtvzPjlCSU\n"
        "Lx7EWGHqd62eg1PY3dSOwy5Frs4HLvLarWuxzOTu83saubv15VGF8VzgNnl9A9fD\n"
        "8Zbtza7LGMyR3jc3TirtDiVNULk7xP+SOu31re6fJCnuErs=\n"
        "-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        "MH8wMwIBADAAMCowBQYDK2VwAyEA+I1aNb+W+voAASmpaU0ikP7nnMU5jlyeofwC\n"
        "nM4D6vagADAFBgMrZXADQQAXyB38rYdGZziDaERHUilUA+ywJ4SfdcgfM/i2YxyA\n"
        "vFngawOZk/t3qxLpBtBzSuRHfKQgkn9ncCVYDejcDGkK\n"
        "-----END CERTIFICATE REQUEST-----\n"};
    for (size_t i = 0; i < LT_ARRAY_LEN(requests); i++) {
        struct lt_csr csr = {0};
        struct lt_err err = {0};
        assert_int_equal(lt_csr_parse(lt_str_of(requests[i]), &csr, &err), LT_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, "CSR: its key"));
        lt_csr_fini(&csr);
    }
}

/* What would be a line of its own in a header or a log is no name. */
static void test_names_with_control_characters(void **state)
{
    (void)state;
    struct lt_err err;
    struct fixture_leaf leaf;
    struct lt_cert *certs = NULL;
    size_t count = 0;
    const struct lt_san sans[] = {{LT_SAN_URI, LT_STR("spiffe://a/ns/b/sa/c\r\nx-admin: 1")},
                                  {LT_SAN_DNS, LT_STR("a\x7f.example")},
                                  {LT_SAN_URI, lt_str_of(URI)}};
    fixture_leaf_init(&leaf, arena, &ca, sans, LT_ARRAY_LEN(sans), time(NULL) + HOUR_S);
    assert_int_equal(lt_cert_parse_chain(arena, leaf.chain_pem, &certs, &count, &err), LT_OK);
    assert_int_equal(certs[0].san_count, 1);
    assert_true(lt_str_eqz(lt_cert_uri(&certs[0]), URI));
    fixture_leaf_fini(&leaf);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct lt_err err;
    struct lt_csr csr = {0};
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    char *pem = lt_arena_strz(arena, lt_csr_make(arena, key, lt_str_of(URI)));
    assert_int_equal(lt_csr_parse(LT_STR("x"), &csr, &err), LT_E_BAD);
    /* the last base64 letters before the end belong to the signature */
    char *end = strstr(pem, "\n-----END");
    for (char *at = end - 12; at < end - 4; at++)
        *at = *at == 'A' ? 'B' : 'A';
    assert_int_equal(lt_csr_parse(lt_str_of(pem), &csr, &err), LT_E_BAD);
    assert_non_null(strstr(err.text, "CSR"));
    assert_null(csr.key);
    lt_key_free(&key);
}

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    fixture_ca_init(&ca, arena, "cluster.local");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_ca_fini(&ca);
    lt_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_round_trip),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_issued_leaf),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_keys_that_get_no_certificate),
        cmocka_unit_test(test_names_with_control_characters),
        cmocka_unit_test(test_bad_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
