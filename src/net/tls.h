/*
 * net/tls.h - TLS by OpenSSL 3 behind our own names; nothing of OpenSSL shows here. A context is
 * counted (safely between threads) and immutable once made: new secrets make a new context.
 */
#ifndef LT_NET_TLS_H
#define LT_NET_TLS_H

#include "base/arena.h"
#include "net/transport.h"

struct lt_tls_ctx;
struct lt_tls_sessions;
struct lt_regex;

typedef enum {
    LT_SAN_EXACT,
    LT_SAN_PREFIX,
    LT_SAN_SUFFIX,
    LT_SAN_CONTAINS,
    LT_SAN_REGEX, /* the whole name */
} lt_san_match;

/* ANY_TYPE: a matcher without one; of certificates those but OTHER. */
typedef enum {
    LT_SAN_ANY_TYPE,
    LT_SAN_URI,
    LT_SAN_DNS,
    LT_SAN_IP,
    LT_SAN_EMAIL,
    LT_SAN_OTHER
} lt_san_type;

/* Envoy: CertificateValidationContext.match_(typed_)subject_alt_names; any one must match. */
struct lt_san_matcher {
    lt_san_type type;
    lt_san_match match;
    bool ignore_case;
    lt_str value;                 /* REGEX: its text */
    const struct lt_regex *regex; /* REGEX: borrowed; in lt_tls_opts it may be NULL */
    lt_str oid;                   /* OTHER: "1.3.6.1.4.1.311.20.2.3" */
};

struct lt_tls_cert {
    lt_str chain_pem; /* leaf first */
    lt_str key_pem;   /* wiped by the caller */
    lt_str ocsp_der;  /* an answer of its CA's responder, stapled while it is good; may be empty */
};
enum { LT_TLS_CERTS_MAX = 64 };

/* Envoy: SPIFFECertValidatorConfig.TrustDomain */
struct lt_tls_domain {
    lt_str name;
    lt_str ca_pem;
};
enum { LT_TLS_DOMAINS_MAX = 256, LT_TLS_TICKET_KEY_BYTES = 80, LT_TLS_TICKET_KEYS_MAX = 16 };

struct lt_tls_opts {
    bool is_server;
    lt_str cert_chain_pem; /* leaf first; empty: no certificate */
    lt_str key_pem;        /* wiped by the caller */
    lt_str ocsp_der;       /* see lt_tls_cert */
    /* server: others, chosen by the name that the client asks for, and the keys it knows */
    const struct lt_tls_cert *more_certs;
    size_t more_cert_count;
    bool scans_all_certs; /* whose name is asked for is nobody: any will do, not the first */
    lt_str ca_pem;        /* trusted roots; empty: see verify_peer */
    lt_str crl_pem;
    bool crl_leaf_only;
    bool verify_peer;       /* by ca_pem, domains or hashes; never true when all are empty */
    bool require_peer_cert; /* server: no certificate is a handshake failure */
    bool allow_expired;
    bool accept_untrusted; /* who can't be verified is let in, as somebody unknown */
    bool hides_ca_names;   /* server: does not say whom it trusts */
    unsigned depth_max;    /* of the chain above the leaf, the root included; 0: 100 */
    /* SHA-256 of the certificate, of its public key: 32 bytes each. Any of both lists must match */
    const lt_str *cert_hashes, *key_hashes;
    size_t cert_hash_count, key_hash_count;
    const struct lt_san_matcher *sans; /* beside those of each connection */
    size_t san_count;
    /* SPIFFE: the roots of the peer's own trust domain, instead of ca_pem */
    const struct lt_tls_domain *domains;
    size_t domain_count;
    /* client: offered in this order; server: accepted in this order of preference */
    const lt_str *alpn;
    size_t alpn_count;
    int version_min, version_max; /* 0x0303, 0x0304; 0: 1.2 and 1.3 */
    lt_str cipher_list;           /* TLS 1.2 names joined by ':'; empty: OpenSSL's default */
    lt_str ecdh_curves;
    lt_str signature_algorithms; /* joined by ':'; empty: OpenSSL's default */
    bool prefers_client_ciphers;
    /* off by default: tickets cost memory. A new context resumes nothing of an old one, ... */
    bool allow_session_resumption;
    bool without_tickets, without_session_ids; /* server: of the two ways to resume */
    uint64_t session_timeout_s;                /* 0: two hours */
    /* ... but for those of the same keys, trust and certificates. 80 bytes each, the first seals */
    const lt_str *ticket_keys;
    size_t ticket_key_count;
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
    struct lt_tls_sessions *sessions; /* client only: of this server; until the transport's end */
};

/* A client's sessions with one server, the latest first, each used once. max 0: 1. */
struct lt_tls_sessions *lt_tls_sessions_new(unsigned max);
void lt_tls_sessions_free(struct lt_tls_sessions **sessions);

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

/* Why the peer was refused; NONE while it was not, or for another reason than its certificate. */
typedef enum {
    LT_TLS_FAULT_NONE,
    LT_TLS_FAULT_NO_CERT,
    LT_TLS_FAULT_CHAIN,
    LT_TLS_FAULT_SAN,
    LT_TLS_FAULT_HASH
} lt_tls_fault;
lt_tls_fault lt_tls_fault_of(const struct lt_transport *transport);
bool lt_tls_is_resumed(const struct lt_transport *transport);
/* The peer has shown one, verified or not. */
bool lt_tls_has_peer_cert(const struct lt_transport *transport);

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
/* PEM of the certificate, and of it and those that it came with. */
lt_str lt_tls_peer_pem(const struct lt_transport *transport);
lt_str lt_tls_peer_chain_pem(const struct lt_transport *transport);
/* All SANs of one type, in their order; on the heap, for the caller to free. */
char **lt_tls_peer_sans(const struct lt_transport *transport, lt_san_type type, size_t *ret_count);
/* Of the certificate that we showed, likewise. */
char **lt_tls_own_sans(const struct lt_transport *transport, lt_san_type type, size_t *ret_count);
void lt_tls_sans_free(char ***sans, size_t count);
bool lt_tls_has_verified_peer(const struct lt_transport *transport);
/* First URI SAN of our own certificate in this context. */
lt_str lt_tls_ctx_own_uri(const struct lt_tls_ctx *ctx);

#endif
