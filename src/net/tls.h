/*
 * net/tls.h - TLS by OpenSSL 3 behind our own names; nothing of OpenSSL shows here. A context is
 * counted (safely between threads) and immutable once made: new secrets make a new context.
 */
#ifndef LT_NET_TLS_H
#define LT_NET_TLS_H

#include "base/arena.h"
#include "net/transport.h"

struct lt_tls_ctx;

typedef enum {
    LT_SAN_EXACT,
    LT_SAN_PREFIX,
    LT_SAN_SUFFIX,
    LT_SAN_CONTAINS,
} lt_san_match;

typedef enum { LT_SAN_ANY_TYPE, LT_SAN_URI, LT_SAN_DNS, LT_SAN_IP, LT_SAN_EMAIL } lt_san_type;

/* Envoy: CertificateValidationContext.match_(typed_)subject_alt_names; any one must match. */
struct lt_san_matcher {
    lt_san_type type;
    lt_san_match match;
    bool ignore_case;
    lt_str value;
};

struct lt_tls_opts {
    bool is_server;
    lt_str cert_chain_pem; /* leaf first; empty: no certificate */
    lt_str key_pem;        /* wiped by the caller */
    lt_str ca_pem;         /* trusted roots; empty: see verify_peer */
    lt_str crl_pem;
    bool verify_peer;       /* chain must verify against ca_pem; never true with an empty ca_pem */
    bool require_peer_cert; /* server: no certificate is a handshake failure */
    /* client: offered in this order; server: accepted in this order of preference */
    const lt_str *alpn;
    size_t alpn_count;
    int version_min, version_max; /* 0x0303, 0x0304; 0: 1.2 and 1.3 */
    lt_str cipher_list;           /* TLS 1.2 names joined by ':'; empty: OpenSSL's default */
    lt_str ecdh_curves;
    bool allow_session_resumption; /* off by default: tickets cost memory */
};

/* Bad PEM, key that does not fit, ... LT_E_BAD with the reason. opts is not kept. */
LT_MUST lt_rc lt_tls_ctx_new(const struct lt_tls_opts *opts, struct lt_tls_ctx **ret_ctx,
                             struct lt_err *err);
struct lt_tls_ctx *lt_tls_ctx_ref(struct lt_tls_ctx *ctx);
void lt_tls_ctx_unref(struct lt_tls_ctx **ctx);

/*
 * What differs between connections that share a context, so that a thousand clusters need one
 * SSL_CTX and not a thousand. All borrowed until the handshake has ended.
 */
struct lt_tls_conn_opts {
    lt_str sni;         /* client only; may be empty */
    const lt_str *alpn; /* client only; count 0 keeps the context's list */
    size_t alpn_count;
    const struct lt_san_matcher *sans; /* count 0: any verified peer will do */
    size_t san_count;
    lt_str must_be; /* client only: a name or IP address of the peer, besides sans; empty: any */
};

/* Takes the descriptor. opts may be NULL. */
void lt_transport_init_tls(struct lt_transport *transport, int fd, struct lt_tls_ctx *ctx,
                           const struct lt_tls_conn_opts *opts);
/*
 * Server side, when a prefix of the stream was read already (by an inspector): those bytes come
 * first. Copied.
 */
LT_MUST lt_rc lt_transport_tls_prefill(struct lt_transport *transport, lt_str bytes);

/*
 * Why the last call failed, in OpenSSL's and our words ("certificate verify failed: ...").
 * Borrowed, never NULL.
 */
const char *lt_tls_error(const struct lt_transport *transport);

/* After the handshake; all empty on a plain transport. Borrowed until the transport's end. */
lt_str lt_tls_alpn(const struct lt_transport *transport);
lt_str lt_tls_sni(const struct lt_transport *transport);
const char *lt_tls_version(const struct lt_transport *transport); /* "TLSv1.3" or "" */
const char *lt_tls_cipher(const struct lt_transport *transport);
/* First URI SAN of the verified peer ("spiffe://..."), empty when there is none. */
lt_str lt_tls_peer_uri(const struct lt_transport *transport);
/*
 * First DNS SAN, RFC 2253 subject, hex SHA-256 of the certificate, serial in hex; made on first
 * use.
 */
lt_str lt_tls_peer_dns(const struct lt_transport *transport);
lt_str lt_tls_peer_subject(const struct lt_transport *transport);
lt_str lt_tls_peer_sha256(const struct lt_transport *transport);
bool lt_tls_has_verified_peer(const struct lt_transport *transport);
/* First URI SAN of our own certificate in this context. */
lt_str lt_tls_ctx_own_uri(const struct lt_tls_ctx *ctx);

#endif
