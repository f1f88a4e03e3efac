/*
 * net/tls_priv.h - what tls.c, tls_ctx.c and tls_verify.c share; nobody else includes it.
 */
#ifndef LT_NET_TLS_PRIV_H
#define LT_NET_TLS_PRIV_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "net/tls.h"
#include "net/x509_priv.h"

enum { TLS_ALPN_WIRE_MAX = 512 }; /* of a whole protocol list as it stands in the hello */

/* One of our own certificates. */
struct tls_cert {
    X509 *leaf;             /* owned */
    EVP_PKEY *key;          /* owned */
    STACK_OF(X509) * chain; /* owned; without the leaf */
    unsigned char *ocsp;    /* owned; NULL: none */
    size_t ocsp_len;
    int64_t ocsp_until_s; /* not stapled from then on */
};

struct tls_domain {
    char *name;        /* owned */
    X509_STORE *store; /* owned */
};

enum { TLS_HASH_BYTES = 32 };
struct tls_hashes {
    unsigned char (*items)[TLS_HASH_BYTES]; /* owned */
    size_t count;
};

struct lt_tls_ctx {
    atomic_uint refs;
    SSL_CTX *ssl_ctx; /* owned */
    bool is_server;
    bool verify_peer, has_ca, allow_expired, accept_untrusted, scans_all_certs;
    char *own_uri;          /* owned; "" when the certificate has none */
    struct tls_cert *certs; /* owned; the first is the one when no other is asked for */
    size_t cert_count;
    struct tls_hashes cert_hashes, key_hashes;
    struct lt_san_matcher *sans; /* owned, with their texts */
    size_t san_count;
    struct tls_domain *domains; /* owned */
    size_t domain_count;
    unsigned char (*ticket_keys)[LT_TLS_TICKET_KEY_BYTES]; /* owned; NULL: OpenSSL's own */
    size_t ticket_key_count;
    size_t alpn_len;                       /* of alpn; 0: none */
    unsigned char alpn[TLS_ALPN_WIRE_MAX]; /* length-prefixed names */
};

/* Made on first use, by the getters. */
struct tls_peer_text {
    char *uri; /* owned, all of them; NULL: not made yet */
    char *dns;
    char *subject;
    char *sha256;
    char *pem;
    char *chain_pem;
};

/* One connection. */
struct lt_tls {
    SSL *ssl;               /* owned */
    struct lt_tls_ctx *ctx; /* counted */
    int fd;                 /* borrowed from the transport */
    bool is_broken;         /* after a fatal error: nothing more is sent, no close_notify */
    bool is_eof;            /* the socket said EOF */
    bool is_established;
    bool is_verified; /* the peer's chain and SANs were found good */
    char *prefill;    /* owned; bytes read before us, NULL when used up */
    size_t prefill_at, prefill_len;
    const struct lt_san_matcher *sans; /* borrowed until the handshake has ended */
    size_t san_count;
    lt_str must_be;                   /* borrowed likewise */
    struct lt_tls_sessions *sessions; /* borrowed; NULL: none are kept */
    uint64_t session_name;            /* what is asked for, as the sessions know it */
    lt_tls_fault fault;
    char *verify_error; /* owned; why the certificate was refused */
    char *error;        /* owned; see lt_tls_error */
    struct tls_peer_text peer;
};

/* tls_certs.c: our own certificates. */
lt_rc tls_load_certs(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err);
void tls_certs_free(struct lt_tls_ctx *ctx);

/* tls_trust.c: whom to trust. */
lt_rc tls_load_trust(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err);
void tls_trust_free(struct lt_tls_ctx *ctx);

/* tls_session.c */
lt_rc tls_set_sessions(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err);
/* Before a client's handshake: a session that is still good, if there is one. */
void tls_session_offer(struct lt_tls *tls, lt_str sni);
/* What the peer's chain was, from a session; DER after DER. Empty: not known. */
lt_str tls_session_chain(const SSL_SESSION *session);

/* tls_verify.c. SSL_CTX_set_cert_verify_callback. */
int tls_verify_cert(X509_STORE_CTX *store_ctx, void *arg);
/* A resumed session doesn't verify again: checks its certificate against this connection's SANs. */
lt_rc tls_verify_resumed(struct lt_tls *tls);
/* Whether it would pass: the session's certificate, which was good when it was made. */
bool tls_verify_would_pass(struct lt_tls *tls, X509 *cert);
void tls_peer_text_free(struct tls_peer_text *text);

/* "<what>: <OpenSSL's reason>" */
lt_rc tls_fail_openssl(struct lt_err *err, const char *what);
/*
 * Length-prefixed names into out; LT_E_BAD for an empty or too long name, LT_E_LIMIT when they
 * don't fit.
 */
lt_rc tls_alpn_encode(const lt_str *names, size_t count, unsigned char out[TLS_ALPN_WIRE_MAX],
                      size_t *ret_len);
/*
 * The first error of OpenSSL's queue, "CERTIFICATE_VERIFY_FAILED" say, or `otherwise`; empties the
 * queue.
 */
void tls_take_openssl_error(char *out, size_t size, const char *otherwise);

#endif
