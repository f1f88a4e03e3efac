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

struct lt_tls_ctx {
    atomic_uint refs;
    SSL_CTX *ssl_ctx; /* owned */
    bool is_server;
    bool verify_peer;
    char *own_uri;                         /* owned; "" when the certificate has none */
    size_t alpn_len;                       /* of alpn; 0: none */
    unsigned char alpn[TLS_ALPN_WIRE_MAX]; /* length-prefixed names */
};

/* Made on first use, by the getters. */
struct tls_peer_text {
    char *uri; /* owned, all of them; NULL: not made yet */
    char *dns;
    char *subject;
    char *sha256;
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
    lt_str must_be;     /* borrowed likewise */
    char *verify_error; /* owned; why the certificate was refused */
    char *error;        /* owned; see lt_tls_error */
    struct tls_peer_text peer;
};

/* SSL_CTX_set_cert_verify_callback. */
int tls_verify_cert(X509_STORE_CTX *store_ctx, void *arg);
/* A resumed session doesn't verify again: checks its certificate against this connection's SANs. */
lt_rc tls_verify_resumed(struct lt_tls *tls);
void tls_peer_text_free(struct tls_peer_text *text);

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
