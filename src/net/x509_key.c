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
    EC_BYTES_MAX = 66,
    ED25519_BYTES = 32,
    SECRET_BYTES_MAX = 4096,
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192, /* checking a larger one costs whoever must check it */
};

/* What each algorithm asks of a key. */
static const struct {
    const char *name, *type;
    const EVP_MD *(*digest)(void);
    int bits; /* EC: of the curve */
    bool is_pss;
} algs[LT_SIG_ALGS] = {
    [LT_SIG_RS256] = {"RS256", "RSA", EVP_sha256, 0, false},
    [LT_SIG_RS384] = {"RS384", "RSA", EVP_sha384, 0, false},
    [LT_SIG_RS512] = {"RS512", "RSA", EVP_sha512, 0, false},
    [LT_SIG_PS256] = {"PS256", "RSA", EVP_sha256, 0, true},
    [LT_SIG_PS384] = {"PS384", "RSA", EVP_sha384, 0, true},
    [LT_SIG_PS512] = {"PS512", "RSA", EVP_sha512, 0, true},
    [LT_SIG_ES256] = {"ES256", "EC", EVP_sha256, 256, false},
    [LT_SIG_ES384] = {"ES384", "EC", EVP_sha384, 384, false},
    [LT_SIG_ES512] = {"ES512", "EC", EVP_sha512, 521, false},
    [LT_SIG_EDDSA] = {"EdDSA", "ED25519", NULL, 0, false},
    [LT_SIG_HS256] = {"HS256", "HMAC", EVP_sha256, 0, false},
    [LT_SIG_HS384] = {"HS384", "HMAC", EVP_sha384, 0, false},
    [LT_SIG_HS512] = {"HS512", "HMAC", EVP_sha512, 0, false},
};

const char *lt_sig_alg_name(lt_sig_alg alg)
{
    LT_ASSERT(alg < LT_SIG_ALGS);
    return algs[alg].name;
}

bool lt_sig_alg_find(lt_str name, lt_sig_alg *ret_alg)
{
    for (lt_sig_alg alg = 0; alg < LT_SIG_ALGS; alg++) {
        if (!lt_str_eqz(name, algs[alg].name))
            continue;
        *ret_alg = alg;
        return true;
    }
    return false;
}

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

static const struct {
    const char *name;
    size_t bytes; /* of a coordinate */
} curves[] = {{"P-256", 32}, {"P-384", 48}, {"P-521", EC_BYTES_MAX}};

lt_rc lt_key_from_ec(lt_str curve, lt_str x, lt_str y, struct lt_key **ret_key, struct lt_err *err)
{
    size_t at = 0;
    x509_init_openssl();
    while (at < LT_ARRAY_LEN(curves) && !lt_str_eqz(curve, curves[at].name))
        at++;
    if (at == LT_ARRAY_LEN(curves))
        return lt_err_set(err, LT_E_UNSUPPORTED, "EC key: unknown curve");
    size_t bytes = curves[at].bytes;
    if (x.len != bytes || y.len != bytes) /* RFC 7518 6.2.1.2: full length, always */
        return lt_err_set(err, LT_E_BAD, "EC key: x and y have %zu bytes on %s", bytes,
                          curves[at].name);
    unsigned char point[1 + 2 * EC_BYTES_MAX] = {POINT_CONVERSION_UNCOMPRESSED};
    memcpy(point + 1, x.ptr, bytes);
    memcpy(point + 1 + bytes, y.ptr, bytes);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    LT_ASSERT(build != NULL);
    LT_ASSERT(OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, curves[at].name,
                                              0) == 1);
    LT_ASSERT(OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
                                               1 + 2 * bytes) == 1);
    EVP_PKEY *pkey = from_params("EC", build); /* a point off the curve is refused here */
    OSSL_PARAM_BLD_free(build);
    return pkey == NULL ? x509_fail(err, "EC key") : wrap_checked(pkey, ret_key, err);
}

lt_rc lt_key_from_ed25519(lt_str x, struct lt_key **ret_key, struct lt_err *err)
{
    x509_init_openssl();
    if (x.len != ED25519_BYTES)
        return lt_err_set(err, LT_E_BAD, "Ed25519 key: x has %d bytes", ED25519_BYTES);
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                                 (const unsigned char *)x.ptr, x.len);
    if (pkey == NULL)
        return x509_fail(err, "Ed25519 key");
    *ret_key = x509_key_wrap(pkey);
    return LT_OK;
}

lt_rc lt_key_from_secret(lt_str bytes, struct lt_key **ret_key, struct lt_err *err)
{
    x509_init_openssl();
    if (bytes.len == 0 || bytes.len > SECRET_BYTES_MAX)
        return lt_err_set(err, LT_E_BAD, "secret key: of 1 to %d bytes", SECRET_BYTES_MAX);
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL,
                                                  (const unsigned char *)bytes.ptr, bytes.len);
    if (pkey == NULL)
        return x509_fail(err, "secret key");
    *ret_key = x509_key_wrap(pkey);
    return LT_OK;
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
    return EVP_PKEY_is_a(key->pkey, algs[alg].type) &&
           (algs[alg].bits == 0 || EVP_PKEY_get_bits(key->pkey) == algs[alg].bits);
}

static int ec_bytes(lt_sig_alg alg)
{
    return (algs[alg].bits + 7) / 8;
}

/* DER of OpenSSL to the r || s of RFC 7518 3.4. */
static bool flatten_ecdsa(const unsigned char *der, size_t der_len, int bytes,
                          unsigned char out[LT_SIG_MAX])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    bool is_good = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, bytes) == bytes &&
                   BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + bytes, bytes) == bytes;
    ECDSA_SIG_free(sig);
    return is_good;
}

/* And back; the DER is OpenSSL's memory. NULL when there is no such signature. */
static unsigned char *unflatten_ecdsa(lt_str flat, int half, size_t *ret_len)
{
    if (flat.len != 2 * (size_t)half)
        return NULL;
    const unsigned char *bytes = (const unsigned char *)flat.ptr;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, half, NULL), *s = BN_bin2bn(bytes + half, half, NULL);
    LT_ASSERT(sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1);
    unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(sig, &der);
    ECDSA_SIG_free(sig);
    *ret_len = len > 0 ? (size_t)len : 0;
    return len > 0 ? der : NULL;
}

/* EdDSA has its own. */
static const EVP_MD *digest_of(lt_sig_alg alg)
{
    return algs[alg].digest == NULL ? NULL : algs[alg].digest();
}

/* RFC 7518 3.5: the salt is as long as the hash. */
static bool set_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static bool sign_raw(const struct lt_key *key, lt_sig_alg alg, lt_str data,
                     unsigned char out[LT_SIG_MAX], size_t *ret_len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    LT_ASSERT(ctx != NULL);
    bool is_signed = EVP_DigestSignInit(ctx, &pkey_ctx, digest_of(alg), NULL, key->pkey) == 1 &&
                     (!algs[alg].is_pss || set_pss(pkey_ctx)) &&
                     EVP_DigestSign(ctx, out, ret_len, (const unsigned char *)data.ptr, data.len) ==
                         1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return is_signed;
}

lt_rc lt_key_sign(const struct lt_key *key, lt_sig_alg alg, lt_str data,
                  unsigned char out[LT_SIG_MAX], size_t *ret_len)
{
    if (!lt_key_fits(key, alg))
        return LT_E_BAD;
    unsigned char signature[LT_SIG_MAX];
    size_t len = sizeof(signature);
    if (!sign_raw(key, alg, data, signature, &len))
        return LT_E_BAD; /* a public key can't sign */
    if (algs[alg].bits != 0) {
        *ret_len = 2 * (size_t)ec_bytes(alg);
        return flatten_ecdsa(signature, len, ec_bytes(alg), out) ? LT_OK : LT_E_BAD;
    }
    memcpy(out, signature, len);
    *ret_len = len;
    return LT_OK;
}

static bool verify_raw(const struct lt_key *key, lt_sig_alg alg, lt_str data,
                       const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    LT_ASSERT(ctx != NULL);
    bool is_good = EVP_DigestVerifyInit(ctx, &pkey_ctx, digest_of(alg), NULL, key->pkey) == 1 &&
                   (!algs[alg].is_pss || set_pss(pkey_ctx)) &&
                   EVP_DigestVerify(ctx, signature, len, (const unsigned char *)data.ptr,
                                    data.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return is_good;
}

/* An HMAC is verified by making it again; how much of it is right takes no time to tell. */
static bool verify_hmac(const struct lt_key *key, lt_sig_alg alg, lt_str data, lt_str signature)
{
    unsigned char own[LT_SIG_MAX];
    size_t len = sizeof(own);
    bool is_good = sign_raw(key, alg, data, own, &len) && signature.len == len &&
                   CRYPTO_memcmp(own, signature.ptr, len) == 0;
    OPENSSL_cleanse(own, sizeof(own));
    return is_good;
}

bool lt_key_verify(const struct lt_key *key, lt_sig_alg alg, lt_str data, lt_str signature)
{
    if (!lt_key_fits(key, alg))
        return false;
    if (alg >= LT_SIG_HS256)
        return verify_hmac(key, alg, data, signature);
    if (algs[alg].bits == 0)
        return verify_raw(key, alg, data, (const unsigned char *)signature.ptr, signature.len);
    size_t len = 0;
    unsigned char *der = unflatten_ecdsa(signature, ec_bytes(alg), &len);
    bool is_good = der != NULL && verify_raw(key, alg, data, der, len);
    OPENSSL_free(der);
    return is_good;
}
