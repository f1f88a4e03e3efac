/*
 * net/tls_trust.c - whom a context trusts: roots, revocation lists, pinned hashes, names, and the
 * roots of trust domains (SPIFFE). The judgement: tls_verify.c.
 * Start at: tls_load_trust().
 */
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/regex.h"
#include "net/tls_priv.h"

enum {
    TRUSTED_CERTS_MAX = 4096, /* the roots of an operating system are some 150 */
    HASHES_MAX = 1024,
    SANS_MAX = 4096,
    DEPTH_DEFAULT = 100, /* Envoy's, which counts the root; OpenSSL does not */
};

/* --- roots and revocation lists --- */

/* names: NULL, or the SSL_CTX whose clients are told of them. */
static lt_rc read_roots(X509_STORE *store, SSL_CTX *names, lt_str pem, struct lt_err *err)
{
    BIO *bio = x509_open_pem(pem);
    if (bio == NULL)
        return lt_err_set(err, LT_E_LIMIT, "trusted CA: too long");
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
            rc = tls_fail_openssl(err, "trusted CA");
        else if (names != NULL && SSL_CTX_add_client_CA(names, ca) != 1)
            rc = tls_fail_openssl(err, "trusted CA");
        X509_free(ca);
    }
    BIO_free(bio);
    if (rc == LT_OK && !x509_is_pem_end())
        rc = tls_fail_openssl(err, "trusted CA");
    if (rc == LT_OK && count == 0)
        rc = lt_err_set(err, LT_E_BAD, "trusted CA: no certificate in the PEM text");
    return rc;
}

static lt_rc load_crls(X509_STORE *store, const struct lt_tls_opts *opts, struct lt_err *err)
{
    if (opts->crl_pem.len == 0)
        return LT_OK;
    if (opts->crl_pem.len > LT_X509_PEM_MAX)
        return lt_err_set(err, LT_E_LIMIT, "CRL: too long");
    BIO *bio = x509_open_pem(opts->crl_pem);
    lt_rc rc = LT_OK;
    int count = 0;
    X509_CRL *crl;
    while (rc == LT_OK &&
           (crl = PEM_read_bio_X509_CRL(bio, NULL, x509_refuse_password, NULL)) != NULL) {
        count++;
        if (X509_STORE_add_crl(store, crl) != 1)
            rc = tls_fail_openssl(err, "CRL");
        X509_CRL_free(crl);
    }
    BIO_free(bio);
    if (rc == LT_OK && (!x509_is_pem_end() || count == 0))
        rc = lt_err_set(err, LT_E_BAD, "CRL: broken PEM text");
    if (rc == LT_OK)
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK |
                                        (opts->crl_leaf_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL));
    return rc;
}

static int forgive_expiry(int is_ok, X509_STORE_CTX *store_ctx)
{
    int error = X509_STORE_CTX_get_error(store_ctx);
    if (is_ok || (error != X509_V_ERR_CERT_HAS_EXPIRED && error != X509_V_ERR_CERT_NOT_YET_VALID))
        return is_ok;
    X509_STORE_CTX_set_error(store_ctx, X509_V_OK);
    return 1;
}

static void set_rules(X509_STORE *store, const struct lt_tls_opts *opts)
{
    /* a trusted intermediate is an anchor too, as in Envoy */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    X509_STORE_set_depth(store, (opts->depth_max != 0 ? (int)opts->depth_max : DEPTH_DEFAULT) - 1);
    if (opts->allow_expired)
        X509_STORE_set_verify_cb(store, forgive_expiry);
}

/* --- SPIFFE --- */

static lt_rc load_domain(struct tls_domain *domain, const struct lt_tls_domain *in,
                         const struct lt_tls_opts *opts, struct lt_err *err)
{
    domain->name = lt_str_dupz(in->name);
    domain->store = X509_STORE_new();
    LT_ASSERT(domain->store != NULL);
    set_rules(domain->store, opts);
    lt_rc rc = read_roots(domain->store, NULL, in->ca_pem, err);
    return rc == LT_OK ? LT_OK : lt_err_wrap(err, rc, "trust domain '%s'", domain->name);
}

static lt_rc load_domains(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts,
                          struct lt_err *err)
{
    if (opts->domain_count > LT_TLS_DOMAINS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d trust domains", LT_TLS_DOMAINS_MAX);
    ctx->domains = lt_calloc(opts->domain_count + 1, sizeof(*ctx->domains));
    for (size_t i = 0; i < opts->domain_count; i++) {
        ctx->domain_count++;
        LT_TRY(load_domain(&ctx->domains[i], &opts->domains[i], opts, err));
    }
    return LT_OK;
}

/* --- pins and names --- */

static lt_rc copy_hashes(struct tls_hashes *to, const lt_str *from, size_t count,
                         struct lt_err *err)
{
    if (count > HASHES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d hashes", HASHES_MAX);
    to->items = lt_calloc(count + 1, sizeof(*to->items));
    for (size_t i = 0; i < count; i++) {
        if (from[i].len != TLS_HASH_BYTES)
            return lt_err_set(err, LT_E_BAD, "a hash is not of %d bytes", TLS_HASH_BYTES);
        memcpy(to->items[i], from[i].ptr, TLS_HASH_BYTES);
    }
    to->count = count;
    return LT_OK;
}

static lt_rc copy_sans(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    if (opts->san_count > SANS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d subject names", SANS_MAX);
    ctx->sans = lt_calloc(opts->san_count + 1, sizeof(*ctx->sans));
    for (size_t i = 0; i < opts->san_count; i++) {
        struct lt_san_matcher *san = &ctx->sans[i];
        *san = opts->sans[i];
        san->value = lt_str_of(lt_str_dupz(san->value));
        san->oid = lt_str_of(lt_str_dupz(san->oid));
        san->regex = NULL;
        ctx->san_count++;
        struct lt_regex *regex = NULL;
        if (san->match == LT_SAN_REGEX)
            LT_TRY(lt_regex_new(san->value, &regex, err));
        san->regex = regex;
    }
    return LT_OK;
}

/* --- all of it --- */

static lt_rc check_opts(const struct lt_tls_opts *opts, struct lt_err *err)
{
    bool has_anchor = opts->ca_pem.len > 0 || opts->domain_count > 0;
    bool has_pin = opts->cert_hash_count + opts->key_hash_count > 0;
    if (opts->verify_peer && !has_anchor && !has_pin)
        return lt_err_set(err, LT_E_BAD, "the peer must be verified, but no CA is trusted");
    if (opts->san_count > 0 && !has_anchor)
        return lt_err_set(err, LT_E_BAD, "subject names without a trusted CA verify nothing");
    return LT_OK;
}

lt_rc tls_load_trust(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    LT_TRY(check_opts(opts, err));
    ctx->verify_peer = opts->verify_peer;
    ctx->allow_expired = opts->allow_expired;
    ctx->accept_untrusted = opts->accept_untrusted;
    LT_TRY(copy_hashes(&ctx->cert_hashes, opts->cert_hashes, opts->cert_hash_count, err));
    LT_TRY(copy_hashes(&ctx->key_hashes, opts->key_hashes, opts->key_hash_count, err));
    LT_TRY(copy_sans(ctx, opts, err));
    LT_TRY(load_domains(ctx, opts, err));
    X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl_ctx);
    if (opts->verify_peer && opts->ca_pem.len > 0) {
        ctx->has_ca = true;
        set_rules(store, opts);
        LT_TRY(read_roots(store, opts->is_server && !opts->hides_ca_names ? ctx->ssl_ctx : NULL,
                          opts->ca_pem, err));
        LT_TRY(load_crls(store, opts, err));
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

void tls_trust_free(struct lt_tls_ctx *ctx)
{
    for (size_t i = 0; i < ctx->domain_count; i++) {
        free(ctx->domains[i].name);
        X509_STORE_free(ctx->domains[i].store);
    }
    for (size_t i = 0; i < ctx->san_count; i++) {
        struct lt_regex *regex = (struct lt_regex *)ctx->sans[i].regex;
        lt_regex_free(&regex);
        free((char *)ctx->sans[i].value.ptr);
        free((char *)ctx->sans[i].oid.ptr);
    }
    free(ctx->domains);
    free(ctx->sans);
    free(ctx->cert_hashes.items);
    free(ctx->key_hashes.items);
}
