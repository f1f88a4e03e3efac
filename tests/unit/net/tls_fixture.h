/*
 * tests/unit/net/tls_fixture.h - a small PKI made at run time, for tests of TLS and certificates.
 */
#ifndef TESTS_TLS_FIXTURE_H
#define TESTS_TLS_FIXTURE_H

#include <time.h>

#include "net/x509.h"

enum { HOUR_S = 3600 };

struct fixture_ca {
    lt_str cert_pem;
    struct lt_key *key;
    struct lt_signer *signer;
};

struct fixture_leaf {
    lt_str chain_pem;
    char *key_pem;
};

static inline void fixture_ca_init(struct fixture_ca *ca, struct lt_arena *arena,
                                   const char *organization)
{
    int64_t now = time(NULL);
    struct lt_err err;
    ca->key = lt_key_new(LT_KEY_ECDSA_P256);
    struct lt_cert_template root = {.subject_key = ca->key,
                                    .organization = lt_str_of(organization),
                                    .not_before_s = now - HOUR_S,
                                    .not_after_s = now + 10 * HOUR_S,
                                    .is_ca = true};
    LT_ASSERT(lt_cert_self_sign(&root, arena, &ca->cert_pem, &err) == LT_OK);
    char *key_pem = lt_key_private_pem(ca->key);
    LT_ASSERT(lt_signer_new(ca->cert_pem, lt_str_of(key_pem), &ca->signer, &err) == LT_OK);
    lt_key_pem_free(&key_pem);
}

static inline void fixture_ca_fini(struct fixture_ca *ca)
{
    lt_signer_free(&ca->signer);
    lt_key_free(&ca->key);
}

static inline void fixture_leaf_init(struct fixture_leaf *leaf, struct lt_arena *arena,
                                     const struct fixture_ca *ca, const struct lt_san *sans,
                                     size_t san_count, int64_t not_after_s)
{
    struct lt_err err;
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    struct lt_cert_template template = {.subject_key = key,
                                        .sans = sans,
                                        .san_count = san_count,
                                        .not_before_s = LT_MIN((int64_t)time(NULL), not_after_s) -
                                                        HOUR_S,
                                        .not_after_s = not_after_s};
    LT_ASSERT(lt_signer_issue(ca->signer, &template, arena, &leaf->chain_pem, &err) == LT_OK);
    leaf->key_pem = lt_key_private_pem(key);
    lt_key_free(&key);
}

static inline void fixture_leaf_fini(struct fixture_leaf *leaf)
{
    lt_key_pem_free(&leaf->key_pem);
}

#endif
