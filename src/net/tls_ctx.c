/*
 * net/tls_ctx.c - TLS contexts: options into an SSL_CTX that many connections share.
 * Connections: tls.c. Whom to trust: tls_verify.c.
 * Trust: the options come from configuration that may be wrong; every refusal says why.
 * Start at: lt_tls_ctx_new().
 */
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "net/tls_priv.h"

enum {
    CHAIN_CERTS_MAX = 16,
    TRUSTED_CERTS_MAX = 4096, /* the roots of an operating system are some 150 */
    CIPHER_LIST_MAX = 2048,
    CURVES_MAX = 256,
};

void tls_take_openssl_error(char *out, size_t size, const char *otherwise)
{
    unsigned long code = ERR_get_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    (void)snprintf(out, size, "%s", reason != NULL ? reason : otherwise);
    if (reason != NULL) {
        /*
         * the shape of Envoy's texts: "certificate verify failed" is CERTIFICATE_VERIFY_FAILED
         * there
         */
        for (char *at = out; *at != '\0'; at++)
            *at = *at == ' ' ? '_' : (char)toupper((unsigned char)*at);
    }
    ERR_clear_error();
}

static lt_rc fail_openssl(struct lt_err *err, const char *what)
{
    char reason[256];
    tls_take_openssl_error(reason, sizeof(reason), "unknown error");
    return lt_err_set(err, LT_E_BAD, "%s: %s", what, reason);
}

/* --- own certificate --- */

static lt_rc use_chain(struct lt_tls_ctx *ctx, BIO *bio, struct lt_err *err)
{
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, x509_refuse_password, NULL);
    if (leaf == NULL)
        return fail_openssl(err, "not the PEM text of a certificate");
    ctx->own_uri = x509_first_san(leaf, LT_SAN_URI);
    int is_used = SSL_CTX_use_certificate(ctx->ssl_ctx, leaf);
    X509_free(leaf);
    if (is_used != 1)
        return fail_openssl(err, "certificate chain");
    for (int i = 0; i < CHAIN_CERTS_MAX; i++) {
        X509 *ca = PEM_read_bio_X509(bio, NULL, x509_refuse_password, NULL);
        if (ca == NULL)
            return x509_is_pem_end() ? LT_OK : fail_openssl(err, "certificate chain");
        if (SSL_CTX_add0_chain_cert(ctx->ssl_ctx, ca) != 1) {
            X509_free(ca);
            return fail_openssl(err, "certificate chain");
        }
    }
    return lt_err_set(err, LT_E_LIMIT, "certificate chain: more than %d certificates",
                      CHAIN_CERTS_MAX);
}

static lt_rc load_identity(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts,
                           struct lt_err *err)
{
    if (opts->cert_chain_pem.len == 0 && opts->key_pem.len == 0)
        return LT_OK;
    if (opts->cert_chain_pem.len == 0 || opts->key_pem.len == 0)
        return lt_err_set(err, LT_E_BAD, "a certificate chain and a private key go together");
    if (opts->cert_chain_pem.len > LT_X509_PEM_MAX || opts->key_pem.len > LT_X509_PEM_MAX)
        return lt_err_set(err, LT_E_LIMIT, "certificate chain or private key: too long");
    BIO *bio = x509_open_pem(opts->cert_chain_pem);
    lt_rc rc = use_chain(ctx, bio, err);
    BIO_free(bio);
    LT_TRY(rc);

    bio = x509_open_pem(opts->key_pem);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, x509_refuse_password, NULL);
    BIO_free(bio);
    if (key == NULL)
        return fail_openssl(err, "not the PEM text of a private key");
    int is_used = SSL_CTX_use_PrivateKey(ctx->ssl_ctx, key);
    EVP_PKEY_free(key);
    if (is_used != 1 || SSL_CTX_check_private_key(ctx->ssl_ctx) != 1)
        return fail_openssl(err, "private key does not fit the certificate");
    return LT_OK;
}

/* --- whom to trust --- */

static lt_rc trust_certs(struct lt_tls_ctx *ctx, lt_str pem, struct lt_err *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl_ctx);
    BIO *bio = x509_open_pem(pem);
    lt_rc rc = LT_OK;
    int count = 0;
    while (rc == LT_OK) {
        X509 *ca = PEM_read_bio_X509_AUX(bio, NULL, x509_refuse_password, NULL);
        if (ca == NULL)
            break;
        if (++count > TRUSTED_CERTS_MAX)
            rc = lt_err_set(err, LT_E_LIMIT, "trusted CA: more than %d certificates",
                            TRUSTED_CERTS_MAX);
        else if (X509_STORE_add_cert(store, ca) != 1)
            rc = fail_openssl(err, "trusted CA");
        else if (ctx->is_server && SSL_CTX_add_client_CA(ctx->ssl_ctx, ca) != 1)
            rc = fail_openssl(err, "trusted CA");
        X509_free(ca);
    }
    BIO_free(bio);
    if (rc == LT_OK && !x509_is_pem_end())
        rc = fail_openssl(err, "trusted CA");
    if (rc == LT_OK && count == 0)
        rc = lt_err_set(err, LT_E_BAD, "trusted CA: no certificate in the PEM text");
    return rc;
}

static lt_rc load_crls(struct lt_tls_ctx *ctx, lt_str pem, struct lt_err *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl_ctx);
    BIO *bio = x509_open_pem(pem);
    lt_rc rc = LT_OK;
    int count = 0;
    X509_CRL *crl;
    while (rc == LT_OK &&
           (crl = PEM_read_bio_X509_CRL(bio, NULL, x509_refuse_password, NULL)) != NULL) {
        count++;
        if (X509_STORE_add_crl(store, crl) != 1)
            rc = fail_openssl(err, "CRL");
        X509_CRL_free(crl);
    }
    BIO_free(bio);
    if (rc == LT_OK && (!x509_is_pem_end() || count == 0))
        rc = lt_err_set(err, LT_E_BAD, "CRL: broken PEM text");
    if (rc == LT_OK)
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return rc;
}

static lt_rc load_trust(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    if (opts->verify_peer && opts->ca_pem.len == 0)
        return lt_err_set(err, LT_E_BAD, "the peer must be verified, but no CA is trusted");
    if (opts->ca_pem.len > LT_X509_PEM_MAX || opts->crl_pem.len > LT_X509_PEM_MAX)
        return lt_err_set(err, LT_E_LIMIT, "trusted CA or CRL: too long");
    if (opts->verify_peer) {
        LT_TRY(trust_certs(ctx, opts->ca_pem, err));
        /* a trusted intermediate is an anchor too, as in Envoy */
        X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx->ssl_ctx), X509_V_FLAG_PARTIAL_CHAIN);
        if (opts->crl_pem.len > 0)
            LT_TRY(load_crls(ctx, opts->crl_pem, err));
    }
    /* a client always asks tls_verify_cert, which knows what this connection expects */
    int mode = SSL_VERIFY_NONE;
    if (!opts->is_server || opts->verify_peer || opts->require_peer_cert)
        mode |= SSL_VERIFY_PEER;
    if (opts->is_server && opts->require_peer_cert)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx->ssl_ctx, mode, NULL);
    SSL_CTX_set_cert_verify_callback(ctx->ssl_ctx, tls_verify_cert, NULL);
    return LT_OK;
}

/* --- protocol --- */

lt_rc tls_alpn_encode(const lt_str *names, size_t count, unsigned char out[TLS_ALPN_WIRE_MAX],
                      size_t *ret_len)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (names[i].len == 0 || names[i].len > UINT8_MAX)
            return LT_E_BAD;
        if (at + 1 + names[i].len > TLS_ALPN_WIRE_MAX)
            return LT_E_LIMIT;
        out[at] = (unsigned char)names[i].len;
        memcpy(out + at + 1, names[i].ptr, names[i].len);
        at += 1 + names[i].len;
    }
    *ret_len = at;
    return LT_OK;
}

/*
 * RFC 7301 3.2, but no overlap is no failure: the handshake goes on without ALPN, as Envoy's does.
 */
static int select_alpn(SSL *ssl LT_UNUSED, const unsigned char **ret_name, unsigned char *ret_len,
                       const unsigned char *offered, unsigned offered_len, void *arg)
{
    const struct lt_tls_ctx *ctx = arg;
    unsigned char *chosen = NULL;
    int is_common = SSL_select_next_proto(&chosen, ret_len, ctx->alpn, (unsigned)ctx->alpn_len,
                                          offered, offered_len);
    if (is_common != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret_name = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static lt_rc set_alpn(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    lt_rc rc = tls_alpn_encode(opts->alpn, opts->alpn_count, ctx->alpn, &ctx->alpn_len);
    if (rc != LT_OK)
        return lt_err_set(err, rc, "ALPN: a name is empty or too long, or there are too many");
    if (ctx->alpn_len == 0)
        return LT_OK;
    if (ctx->is_server)
        SSL_CTX_set_alpn_select_cb(ctx->ssl_ctx, select_alpn, ctx);
    else if (SSL_CTX_set_alpn_protos(ctx->ssl_ctx, ctx->alpn, (unsigned)ctx->alpn_len) != 0)
        return fail_openssl(err, "ALPN");
    return LT_OK;
}

/* BoringSSL's groups of equal preference, "[A|B]:C", become "A:B:C". */
static lt_rc set_ciphers(struct lt_tls_ctx *ctx, lt_str list, struct lt_err *err)
{
    char text[CIPHER_LIST_MAX];
    size_t at = 0;
    if (list.len >= sizeof(text))
        return lt_err_set(err, LT_E_LIMIT, "cipher list longer than %d bytes", CIPHER_LIST_MAX - 1);
    for (size_t i = 0; i < list.len; i++) {
        if (list.ptr[i] != '[' && list.ptr[i] != ']')
            text[at++] = list.ptr[i] == '|' ? ':' : list.ptr[i];
    }
    text[at] = '\0';
    if (SSL_CTX_set_cipher_list(ctx->ssl_ctx, text) != 1)
        return fail_openssl(err, "cipher list");
    return LT_OK;
}

static lt_rc set_curves(struct lt_tls_ctx *ctx, lt_str list, struct lt_err *err)
{
    char text[CURVES_MAX];
    if (list.len >= sizeof(text))
        return lt_err_set(err, LT_E_LIMIT, "ECDH curves longer than %d bytes", CURVES_MAX - 1);
    (void)snprintf(text, sizeof(text), "%.*s", LT_STR_ARG(list));
    if (SSL_CTX_set1_groups_list(ctx->ssl_ctx, text) != 1)
        return fail_openssl(err, "ECDH curves");
    return LT_OK;
}

static lt_rc set_protocol(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts,
                          struct lt_err *err)
{
    int min = opts->version_min != 0 ? opts->version_min : TLS1_2_VERSION;
    int max = opts->version_max != 0 ? opts->version_max : TLS1_3_VERSION;
    if (min > max || SSL_CTX_set_min_proto_version(ctx->ssl_ctx, min) != 1 ||
        SSL_CTX_set_max_proto_version(ctx->ssl_ctx, max) != 1)
        return lt_err_set(err, LT_E_BAD, "TLS versions 0x%04x to 0x%04x", (unsigned)min,
                          (unsigned)max);
    if (opts->cipher_list.len > 0)
        LT_TRY(set_ciphers(ctx, opts->cipher_list, err));
    if (opts->ecdh_curves.len > 0)
        LT_TRY(set_curves(ctx, opts->ecdh_curves, err));
    return set_alpn(ctx, opts, err);
}

/*
 * What every context has: little memory while idle, no second handshakes, EOF taken as Envoy takes
 * it.
 */
static void set_defaults(struct lt_tls_ctx *ctx, bool allow_resumption)
{
    SSL_CTX *ssl_ctx = ctx->ssl_ctx;
    SSL_CTX_set_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* a record comes with one system call, not one for its header and one for the rest */
    SSL_CTX_set_read_ahead(ssl_ctx, 1);
    if (!allow_resumption) {
        SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl_ctx, 0);
        SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
    } else {
        static const unsigned char id[] = "lateen";
        (void)SSL_CTX_set_session_id_context(ssl_ctx, id, sizeof(id) - 1);
    }
}

lt_rc lt_tls_ctx_new(const struct lt_tls_opts *opts, struct lt_tls_ctx **ret_ctx,
                     struct lt_err *err)
{
    x509_init_openssl();
    ERR_clear_error();
    struct lt_tls_ctx *ctx = lt_new(struct lt_tls_ctx);
    atomic_init(&ctx->refs, 1);
    ctx->is_server = opts->is_server;
    ctx->verify_peer = opts->verify_peer;
    ctx->ssl_ctx = SSL_CTX_new(opts->is_server ? TLS_server_method() : TLS_client_method());
    LT_ASSERT(ctx->ssl_ctx != NULL);
    set_defaults(ctx, opts->allow_session_resumption);

    lt_rc rc = set_protocol(ctx, opts, err);
    if (rc == LT_OK)
        rc = load_identity(ctx, opts, err);
    if (rc == LT_OK)
        rc = load_trust(ctx, opts, err);
    if (rc != LT_OK) {
        lt_tls_ctx_unref(&ctx);
        return rc;
    }
    *ret_ctx = ctx;
    return LT_OK;
}

struct lt_tls_ctx *lt_tls_ctx_ref(struct lt_tls_ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void lt_tls_ctx_unref(struct lt_tls_ctx **ctx)
{
    struct lt_tls_ctx *dying = *ctx;
    *ctx = NULL;
    if (dying == NULL || atomic_fetch_sub_explicit(&dying->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(dying->ssl_ctx);
    free(dying->own_uri);
    free(dying);
}

lt_str lt_tls_ctx_own_uri(const struct lt_tls_ctx *ctx)
{
    return lt_str_of(ctx->own_uri != NULL ? ctx->own_uri : "");
}
