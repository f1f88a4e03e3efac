/*
 * net/x509_key.c - keys: made, read, written, signed with.
 * Trust: a PEM text or the numbers of a JWK may be a stranger's.   Start at: lt_key_new().
 */
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "net/x509_priv.h"

enum {
    P256_BYTES = 32,
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192, /* checking a larger one costs whoever must check it */
};

struct lt_key *x509_key_wrap(EVP_PKEY *pkey)
{
    struct lt_key *key = lt_new(struct lt_key);
    key->pkey = pkey;
    return key;
}

struct lt_key *lt_key_new(lt_key_kind kind)
{
    x509_init_openssl();
    EVP_PKEY *pkey = kind == LT_KEY_RSA_2048 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    LT_ASSERT(pkey != NULL); /* the kernel's randomness does not run dry */
    return x509_key_wrap(pkey);
}

void lt_key_free(struct lt_key **key)
{
    if (*key == NULL)
        return;
    EVP_PKEY_free((*key)->pkey); /* OpenSSL clears private numbers */
    free(*key);
    *key = NULL;
}

/* --- reading --- */

/* The kinds that we use, in sizes that can be trusted and afforded. */
static lt_rc wrap_checked(EVP_PKEY *pkey, struct lt_key **ret_key, struct lt_err *err)
{
    int bits = EVP_PKEY_get_bits(pkey);
    bool is_rsa = EVP_PKEY_is_a(pkey, "RSA") && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
    bool is_ec = EVP_PKEY_is_a(pkey, "EC") && (bits == 256 || bits == 384 || bits == 521);
    if (!is_rsa && !is_ec) {
        EVP_PKEY_free(pkey);
        return lt_err_set(err, LT_E_UNSUPPORTED,
                          "key: neither RSA of %d to %d bits nor EC on a NIST curve", RSA_BITS_MIN,
                          RSA_BITS_MAX);
    }
    *ret_key = x509_key_wrap(pkey);
    return LT_OK;
}

lt_rc lt_key_parse_private(lt_str pem, struct lt_key **ret_key, struct lt_err *err)
{
    BIO *bio = x509_open_pem(pem);
    if (bio == NULL)
        return lt_err_set(err, LT_E_LIMIT, "private key: too long");
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, x509_refuse_password, NULL);
    BIO_free(bio);
    return pkey == NULL ? x509_fail(err, "private key") : wrap_checked(pkey, ret_key, err);
}

lt_rc lt_key_parse_public(lt_str pem, struct lt_key **ret_key, struct lt_err *err)
{
    BIO *bio = x509_open_pem(pem);
    if (bio == NULL)
        return lt_err_set(err, LT_E_LIMIT, "public key: too long");
    EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, x509_refuse_password, NULL);
    BIO_free(bio);
    if (pkey == NULL) {
        ERR_clear_error();
        bio = x509_open_pem(pem);
        X509 *cert = PEM_read_bio_X509(bio, NULL, x509_refuse_password, NULL);
        BIO_free(bio);
        pkey = cert == NULL ? NULL : X509_get_pubkey(cert);
        X509_free(cert);
    }
    return pkey == NULL ? x509_fail(err, "public key") : wrap_checked(pkey, ret_key, err);
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *build)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *pkey = NULL;
    LT_ASSERT(params != NULL && ctx != NULL);
    if (EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

lt_rc lt_key_from_rsa(lt_str n, lt_str e, struct lt_key **ret_key, struct lt_err *err)
{
    x509_init_openssl();
    if (n.len == 0 || n.len > RSA_BITS_MAX / 8 + 1 || e.len == 0 || e.len > 8)
        return lt_err_set(err, LT_E_BAD, "RSA key: n or e has a size that no key has");
    BIGNUM *modulus = BN_bin2bn((const unsigned char *)n.ptr, (int)n.len, NULL);
    BIGNUM *exponent = BN_bin2bn((const unsigned char *)e.ptr, (int)e.len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    LT_ASSERT(modulus != NULL && exponent != NULL && build != NULL);
    EVP_PKEY *pkey = NULL;
    /* an even or tiny exponent would let anybody sign */
    if (BN_is_odd(exponent) && !BN_is_one(exponent)) {
        LT_ASSERT(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1);
        LT_ASSERT(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1);
        pkey = from_params("RSA", build);
    }
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return pkey == NULL ? x509_fail(err, "RSA key") : wrap_checked(pkey, ret_key, err);
}

lt_rc lt_key_from_p256(lt_str x, lt_str y, struct lt_key **ret_key, struct lt_err *err)
{
    x509_init_openssl();
    if (x.len != P256_BYTES || y.len != P256_BYTES) /* RFC 7518 6.2.1.2: full length, always */
        return lt_err_set(err, LT_E_BAD, "EC key: x and y have 32 bytes on P-256");
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    memcpy(point + 1, x.ptr, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y.ptr, P256_BYTES);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    LT_ASSERT(build != NULL);
    LT_ASSERT(OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1);
    LT_ASSERT(OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
                                               sizeof(point)) == 1);
    EVP_PKEY *pkey = from_params("EC", build); /* a point off the curve is refused here */
    OSSL_PARAM_BLD_free(build);
    return pkey == NULL ? x509_fail(err, "EC key") : wrap_checked(pkey, ret_key, err);
}

/* --- writing --- */

char *lt_key_private_pem(const struct lt_key *key)
{
    BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    LT_ASSERT(bio != NULL);
    LT_ASSERT(PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    char *pem = lt_str_dupz(lt_str_make(data, (size_t)len));
    BIO_free(bio);
    return pem;
}

void lt_key_pem_free(char **pem)
{
    if (*pem == NULL)
        return;
    OPENSSL_cleanse(*pem, strlen(*pem));
    free(*pem);
    *pem = NULL;
}

lt_str lt_key_public_pem(const struct lt_key *key, struct lt_arena *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(bio != NULL && PEM_write_bio_PUBKEY(bio, key->pkey) == 1);
    lt_str pem = x509_take_bio(arena, bio);
    BIO_free(bio);
    return pem;
}

lt_str lt_key_public_der(const struct lt_key *key, struct lt_arena *arena)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);
    LT_ASSERT(len > 0);
    lt_str copy = lt_arena_str(arena, lt_str_make(der, (size_t)len));
    OPENSSL_free(der);
    return copy;
}

static lt_str number_bytes(const struct lt_key *key, const char *param, int pad_to,
                           struct lt_arena *arena)
{
    BIGNUM *number = NULL;
    LT_ASSERT(EVP_PKEY_get_bn_param(key->pkey, param, &number) == 1);
    int len = LT_MAX(pad_to, BN_num_bytes(number));
    char *bytes = lt_arena_bytes(arena, (size_t)len);
    LT_ASSERT(BN_bn2binpad(number, (unsigned char *)bytes, len) == len);
    BN_free(number);
    return lt_str_make(bytes, (size_t)len);
}

void lt_key_public_numbers(const struct lt_key *key, struct lt_arena *arena, lt_str *ret_first,
                           lt_str *ret_second)
{
    if (EVP_PKEY_is_a(key->pkey, "RSA")) {
        *ret_first = number_bytes(key, OSSL_PKEY_PARAM_RSA_N, 0, arena);
        *ret_second = number_bytes(key, OSSL_PKEY_PARAM_RSA_E, 0, arena);
        return;
    }
    int field_bytes = (EVP_PKEY_get_bits(key->pkey) + 7) / 8;
    *ret_first = number_bytes(key, OSSL_PKEY_PARAM_EC_PUB_X, field_bytes, arena);
    *ret_second = number_bytes(key, OSSL_PKEY_PARAM_EC_PUB_Y, field_bytes, arena);
}

bool lt_key_eq(const struct lt_key *a, const struct lt_key *b)
{
    return EVP_PKEY_eq(a->pkey, b->pkey) == 1;
}

/* --- signing --- */

void lt_sha256(lt_str data, unsigned char out[LT_SHA256_BYTES])
{
    x509_init_openssl();
    LT_ASSERT(EVP_Digest(data.ptr, data.len, out, NULL, EVP_sha256(), NULL) == 1);
}

bool lt_key_fits(const struct lt_key *key, lt_sig_alg alg)
{
    if (alg == LT_SIG_RS256)
        return EVP_PKEY_is_a(key->pkey, "RSA");
    return EVP_PKEY_is_a(key->pkey, "EC") && EVP_PKEY_get_bits(key->pkey) == 256;
}

/* DER of OpenSSL to the r || s of RFC 7518 3.4. */
static bool flatten_ecdsa(const unsigned char *der, size_t der_len,
                          unsigned char out[2 * P256_BYTES])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    bool is_good = sig != NULL &&
                   BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, P256_BYTES) == P256_BYTES &&
                   BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + P256_BYTES, P256_BYTES) == P256_BYTES;
    ECDSA_SIG_free(sig);
    return is_good;
}

/* And back; the DER is OpenSSL's memory. NULL when there is no such signature. */
static unsigned char *unflatten_ecdsa(lt_str flat, size_t *ret_len)
{
    if (flat.len != 2 * P256_BYTES)
        return NULL;
    const unsigned char *bytes = (const unsigned char *)flat.ptr;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, P256_BYTES, NULL),
           *s = BN_bin2bn(bytes + P256_BYTES, P256_BYTES, NULL);
    LT_ASSERT(sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1);
    unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(sig, &der);
    ECDSA_SIG_free(sig);
    *ret_len = len > 0 ? (size_t)len : 0;
    return len > 0 ? der : NULL;
}

lt_rc lt_key_sign(const struct lt_key *key, lt_sig_alg alg, lt_str data,
                  unsigned char out[LT_SIG_MAX], size_t *ret_len)
{
    if (!lt_key_fits(key, alg))
        return LT_E_BAD;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char signature[LT_SIG_MAX];
    size_t len = sizeof(signature);
    LT_ASSERT(ctx != NULL);
    bool is_signed = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
                     EVP_DigestSign(ctx, signature, &len, (const unsigned char *)data.ptr,
                                    data.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (!is_signed)
        return LT_E_BAD; /* a public key can't sign */
    if (alg == LT_SIG_ES256) {
        *ret_len = 2 * P256_BYTES;
        return flatten_ecdsa(signature, len, out) ? LT_OK : LT_E_BAD;
    }
    memcpy(out, signature, len);
    *ret_len = len;
    return LT_OK;
}

static bool verify_der(const struct lt_key *key, lt_str data, const unsigned char *signature,
                       size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    LT_ASSERT(ctx != NULL);
    bool is_good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
                   EVP_DigestVerify(ctx, signature, len, (const unsigned char *)data.ptr,
                                    data.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return is_good;
}

bool lt_key_verify(const struct lt_key *key, lt_sig_alg alg, lt_str data, lt_str signature)
{
    if (!lt_key_fits(key, alg))
        return false;
    if (alg == LT_SIG_RS256)
        return verify_der(key, data, (const unsigned char *)signature.ptr, signature.len);
    size_t len = 0;
    unsigned char *der = unflatten_ecdsa(signature, &len);
    bool is_good = der != NULL && verify_der(key, data, der, len);
    OPENSSL_free(der);
    return is_good;
}
