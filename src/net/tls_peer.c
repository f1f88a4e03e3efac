/*
 * net/tls_peer.c - what others want to know about the peer of a TLS connection, made on first use.
 * Nothing that a peer merely claims is told: without verification all is empty.
 */
#include <openssl/pem.h>

#include "net/tls_priv.h"

enum { SANS_TOLD_MAX = 1024 };

void tls_peer_text_free(struct tls_peer_text *text)
{
    free(text->uri);
    free(text->dns);
    free(text->subject);
    free(text->sha256);
    free(text->pem);
    free(text->chain_pem);
    *text = (struct tls_peer_text){0};
}

static X509 *verified_cert(const struct lt_tls *tls)
{
    bool is_told = tls != NULL && tls->is_established && tls->is_verified;
    return is_told ? SSL_get0_peer_certificate(tls->ssl) : NULL;
}

static lt_str peer_text(struct lt_tls *tls, char **slot, char *(*make)(X509 *cert))
{
    X509 *cert = verified_cert(tls);
    if (cert == NULL)
        return LT_STR("");
    if (*slot == NULL)
        *slot = make(cert);
    return lt_str_of(*slot);
}

static char *make_uri(X509 *cert)
{
    return x509_first_san(cert, LT_SAN_URI);
}

static char *make_dns(X509 *cert)
{
    return x509_first_san(cert, LT_SAN_DNS);
}

static char *make_subject(X509 *cert)
{
    return x509_name_text(X509_get_subject_name(cert));
}

static char *make_sha256(X509 *cert)
{
    return x509_sha256_text(cert);
}

static char *take_text(BIO *bio)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    char *text = lt_str_dupz(lt_str_make(data, len > 0 ? (size_t)len : 0));
    BIO_free(bio);
    return text;
}

static char *make_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(bio != NULL);
    (void)PEM_write_bio_X509(bio, cert);
    return take_text(bio);
}

/* Of a full handshake OpenSSL knows the chain, of a resumed one the session may (tls_session.c). */
static char *make_chain(const struct lt_tls *tls, X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(bio != NULL);
    (void)PEM_write_bio_X509(bio, cert);
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls->ssl);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *more = sk_X509_value(chain, i);
        if (X509_cmp(more, cert) != 0) /* a client has the server's own among them */
            (void)PEM_write_bio_X509(bio, more);
    }
    lt_str kept = chain == NULL ? tls_session_chain(SSL_get_session(tls->ssl)) : LT_STR_NULL;
    const unsigned char *at = (const unsigned char *)kept.ptr, *end = at + kept.len;
    while (at < end) {
        X509 *more = d2i_X509(NULL, &at, end - at);
        if (more == NULL)
            break;
        (void)PEM_write_bio_X509(bio, more);
        X509_free(more);
    }
    return take_text(bio);
}

lt_str lt_tls_peer_uri(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.uri, make_uri);
}

lt_str lt_tls_peer_dns(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.dns, make_dns);
}

lt_str lt_tls_peer_subject(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.subject, make_subject);
}

lt_str lt_tls_peer_sha256(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.sha256, make_sha256);
}

lt_str lt_tls_peer_pem(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.pem, make_pem);
}

lt_str lt_tls_peer_chain_pem(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    X509 *cert = verified_cert(tls);
    if (cert == NULL)
        return LT_STR("");
    if (tls->peer.chain_pem == NULL)
        tls->peer.chain_pem = make_chain(tls, cert);
    return lt_str_of(tls->peer.chain_pem);
}

static char **list_sans(X509 *cert, lt_san_type type, size_t *ret_count)
{
    *ret_count = 0;
    GENERAL_NAMES *names = cert == NULL ? NULL
                                        : X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int count = LT_MAX(sk_GENERAL_NAME_num(names), 0);
    char **sans = lt_calloc((size_t)count + 1, sizeof(*sans));
    for (int i = 0; i < count && *ret_count < SANS_TOLD_MAX; i++) {
        char ip[X509_IP_TEXT_MAX];
        lt_san_type kind = LT_SAN_ANY_TYPE;
        lt_str text = LT_STR_NULL;
        if (x509_read_san(sk_GENERAL_NAME_value(names, i), ip, &kind, &text) && kind == type)
            sans[(*ret_count)++] = lt_str_dupz(text);
    }
    GENERAL_NAMES_free(names);
    return sans;
}

char **lt_tls_peer_sans(const struct lt_transport *transport, lt_san_type type, size_t *ret_count)
{
    return list_sans(verified_cert(transport->tls), type, ret_count);
}

char **lt_tls_own_sans(const struct lt_transport *transport, lt_san_type type, size_t *ret_count)
{
    struct lt_tls *tls = transport->tls;
    return list_sans(tls == NULL ? NULL : SSL_get_certificate(tls->ssl), type, ret_count);
}

void lt_tls_sans_free(char ***sans, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((*sans)[i]);
    free(*sans);
    *sans = NULL;
}

bool lt_tls_has_peer_cert(const struct lt_transport *transport)
{
    const struct lt_tls *tls = transport->tls;
    return tls != NULL && tls->is_established && SSL_get0_peer_certificate(tls->ssl) != NULL;
}

bool lt_tls_has_verified_peer(const struct lt_transport *transport)
{
    return transport->tls != NULL && transport->tls->is_established && transport->tls->is_verified;
}
