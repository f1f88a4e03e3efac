/*
 * net/tls_certs.c - our own certificates: read, and the right one shown. With one there is nothing
 * to choose. With several the name that the client asks for chooses (Envoy: exact, then by
 * wildcard, then the first), and among those OpenSSL takes the one whose kind of key the client
 * knows.
 * Trust: PEM and OCSP answers come from configuration that may be wrong.
 * Start at: tls_load_certs().
 */
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <time.h>

#include "net/tls_priv.h"

enum { CHAIN_CERTS_MAX = 16, NAME_MAX_BYTES = 255, OCSP_MAX = 64 << 10 };

/* --- reading --- */

static lt_rc read_chain(struct tls_cert *cert, BIO *bio, struct lt_err *err)
{
    cert->leaf = PEM_read_bio_X509_AUX(bio, NULL, x509_refuse_password, NULL);
    if (cert->leaf == NULL)
        return tls_fail_openssl(err, "not the PEM text of a certificate");
    cert->chain = sk_X509_new_null();
    LT_ASSERT(cert->chain != NULL);
    for (int i = 0; i < CHAIN_CERTS_MAX; i++) {
        X509 *ca = PEM_read_bio_X509(bio, NULL, x509_refuse_password, NULL);
        if (ca == NULL)
            return x509_is_pem_end() ? LT_OK : tls_fail_openssl(err, "certificate chain");
        LT_ASSERT(sk_X509_push(cert->chain, ca) > 0);
    }
    return lt_err_set(err, LT_E_LIMIT, "certificate chain: more than %d certificates",
                      CHAIN_CERTS_MAX);
}

static int64_t unix_time(const ASN1_GENERALIZEDTIME *at)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* The answer must be about this certificate; who signed it is for the client to judge. */
static lt_rc check_ocsp(struct tls_cert *cert, OCSP_BASICRESP *basic, struct lt_err *err)
{
    OCSP_SINGLERESP *single = OCSP_resp_get0(basic, 0);
    if (OCSP_resp_count(basic) != 1 || single == NULL)
        return lt_err_set(err, LT_E_BAD, "OCSP: not the answer about one certificate");
    ASN1_INTEGER *serial = NULL;
    (void)OCSP_id_get0_info(NULL, NULL, NULL, &serial,
                            (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single));
    if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert->leaf)) != 0)
        return lt_err_set(err, LT_E_BAD, "OCSP: the answer is about another certificate");
    ASN1_GENERALIZEDTIME *until = NULL;
    (void)OCSP_single_get0_status(single, NULL, NULL, NULL, &until);
    cert->ocsp_until_s = until == NULL ? INT64_MAX : unix_time(until);
    return LT_OK;
}

static lt_rc read_ocsp(struct tls_cert *cert, lt_str der, struct lt_err *err)
{
    if (der.len == 0)
        return LT_OK;
    if (der.len > OCSP_MAX)
        return lt_err_set(err, LT_E_LIMIT, "OCSP: longer than %d bytes", OCSP_MAX);
    const unsigned char *at = (const unsigned char *)der.ptr;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)der.len);
    OCSP_BASICRESP *basic = response == NULL ? NULL : OCSP_response_get1_basic(response);
    lt_rc rc = LT_OK;
    if (basic == NULL)
        rc = tls_fail_openssl(err, "OCSP: not an answer");
    else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        rc = lt_err_set(err, LT_E_BAD, "OCSP: the responder did not answer");
    else
        rc = check_ocsp(cert, basic, err);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    LT_TRY(rc);
    cert->ocsp = lt_malloc(der.len);
    memcpy(cert->ocsp, der.ptr, der.len);
    cert->ocsp_len = der.len;
    return LT_OK;
}

static lt_rc read_cert(struct tls_cert *cert, const struct lt_tls_cert *in, struct lt_err *err)
{
    if (in->chain_pem.len == 0 || in->key_pem.len == 0)
        return lt_err_set(err, LT_E_BAD, "a certificate chain and a private key go together");
    if (in->chain_pem.len > LT_X509_PEM_MAX || in->key_pem.len > LT_X509_PEM_MAX)
        return lt_err_set(err, LT_E_LIMIT, "certificate chain or private key: too long");
    BIO *bio = x509_open_pem(in->chain_pem);
    lt_rc rc = read_chain(cert, bio, err);
    BIO_free(bio);
    LT_TRY(rc);
    bio = x509_open_pem(in->key_pem);
    cert->key = PEM_read_bio_PrivateKey(bio, NULL, x509_refuse_password, NULL);
    BIO_free(bio);
    if (cert->key == NULL)
        return tls_fail_openssl(err, "not the PEM text of a private key");
    if (X509_check_private_key(cert->leaf, cert->key) != 1)
        return tls_fail_openssl(err, "private key does not fit the certificate");
    return read_ocsp(cert, in->ocsp_der, err);
}

/* --- choosing --- */

static bool is_wildcard_for(lt_str pattern, lt_str name)
{
    ptrdiff_t dot = lt_str_find_char(name, '.');
    return lt_str_starts(pattern, LT_STR("*.")) && dot > 0 &&
           lt_str_case_eq(lt_str_from(pattern, 1), lt_str_from(name, (size_t)dot));
}

/* 2: by its whole name; 1: by wildcard; 0: not for that name. */
static int fit_of(X509 *leaf, lt_str name)
{
    GENERAL_NAMES *sans = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    int best = 0;
    bool has_dns = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(sans); i++) {
        char ip[X509_IP_TEXT_MAX];
        lt_san_type type = LT_SAN_ANY_TYPE;
        lt_str san = LT_STR_NULL;
        if (!x509_read_san(sk_GENERAL_NAME_value(sans, i), ip, &type, &san) || type != LT_SAN_DNS)
            continue;
        has_dns = true;
        best = LT_MAX(best, lt_str_case_eq(san, name) ? 2 : is_wildcard_for(san, name));
    }
    GENERAL_NAMES_free(sans);
    char common[NAME_MAX_BYTES + 1];
    if (has_dns || X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, common,
                                             sizeof(common)) <= 0)
        return best;
    return lt_str_case_eq(lt_str_of(common), name) ? 2 : is_wildcard_for(lt_str_of(common), name);
}

static int use_cert(SSL *ssl, const struct tls_cert *cert)
{
    return SSL_use_cert_and_key(ssl, cert->leaf, cert->key, cert->chain, 1);
}

/* The first of each kind of key counts: SSL_use_cert_and_key would replace it. */
static bool is_kind_taken(const struct lt_tls_ctx *ctx, const int *fits, size_t at, int best)
{
    for (size_t i = 0; i < at; i++) {
        if (fits[i] == best &&
            EVP_PKEY_get_base_id(ctx->certs[i].key) == EVP_PKEY_get_base_id(ctx->certs[at].key))
            return true;
    }
    return false;
}

/* Only with several certificates. */
static int choose_cert(SSL *ssl, void *arg)
{
    const struct lt_tls_ctx *ctx = arg;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int fits[LT_TLS_CERTS_MAX], best = 0;
    for (size_t i = 0; i < ctx->cert_count; i++) {
        fits[i] = sni == NULL ? 0 : fit_of(ctx->certs[i].leaf, lt_str_of(sni));
        best = LT_MAX(best, fits[i]);
    }
    SSL_certs_clear(ssl);
    if (best == 0 && sni != NULL && !ctx->scans_all_certs)
        return use_cert(ssl, &ctx->certs[0]);
    for (size_t i = 0; i < ctx->cert_count; i++) {
        if (fits[i] == best && !is_kind_taken(ctx, fits, i, best) &&
            use_cert(ssl, &ctx->certs[i]) != 1)
            return 0;
    }
    return 1;
}

static int staple(SSL *ssl, void *arg)
{
    const struct lt_tls_ctx *ctx = arg;
    const X509 *shown = SSL_get_certificate(ssl);
    for (size_t i = 0; i < ctx->cert_count; i++) {
        const struct tls_cert *cert = &ctx->certs[i];
        if (cert->ocsp == NULL || shown == NULL || X509_cmp(cert->leaf, shown) != 0 ||
            cert->ocsp_until_s <= (int64_t)time(NULL))
            continue;
        unsigned char *copy = OPENSSL_memdup(cert->ocsp, cert->ocsp_len);
        LT_ASSERT(copy != NULL);
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)cert->ocsp_len); /* takes it */
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* --- all of them --- */

static lt_rc install_first(struct lt_tls_ctx *ctx, struct lt_err *err)
{
    const struct tls_cert *cert = &ctx->certs[0];
    ctx->own_uri = x509_first_san(cert->leaf, LT_SAN_URI);
    if (SSL_CTX_use_cert_and_key(ctx->ssl_ctx, cert->leaf, cert->key, cert->chain, 1) != 1)
        return tls_fail_openssl(err, "certificate chain");
    if (ctx->cert_count > 1)
        SSL_CTX_set_cert_cb(ctx->ssl_ctx, choose_cert, ctx);
    for (size_t i = 0; i < ctx->cert_count && ctx->is_server; i++) {
        if (ctx->certs[i].ocsp != NULL) {
            SSL_CTX_set_tlsext_status_cb(ctx->ssl_ctx, staple);
            SSL_CTX_set_tlsext_status_arg(ctx->ssl_ctx, ctx);
        }
    }
    return LT_OK;
}

lt_rc tls_load_certs(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    const struct lt_tls_cert first = {opts->cert_chain_pem, opts->key_pem, opts->ocsp_der};
    if (first.chain_pem.len == 0 && first.key_pem.len == 0 && opts->more_cert_count == 0)
        return LT_OK;
    size_t count = 1 + opts->more_cert_count;
    if (count > LT_TLS_CERTS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d certificates", LT_TLS_CERTS_MAX);
    ctx->certs = lt_calloc(count, sizeof(*ctx->certs));
    for (size_t i = 0; i < count; i++) {
        ctx->cert_count++;
        LT_TRY(read_cert(&ctx->certs[i], i == 0 ? &first : &opts->more_certs[i - 1], err));
    }
    return install_first(ctx, err);
}

void tls_certs_free(struct lt_tls_ctx *ctx)
{
    for (size_t i = 0; i < ctx->cert_count; i++) {
        X509_free(ctx->certs[i].leaf);
        EVP_PKEY_free(ctx->certs[i].key);
        sk_X509_pop_free(ctx->certs[i].chain, X509_free);
        free(ctx->certs[i].ocsp);
    }
    free(ctx->certs);
}
