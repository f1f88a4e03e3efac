/*
 * net/x509.h - keys, certificates and certificate requests by OpenSSL behind our own names. Values
 * in, PEM out: no files, no clock (times are arguments). TLS itself: tls.h. Who may have which
 * certificate: control/ca.h.
 * Trust: PEM and DER may be a stranger's; every reader is bounded.
 */
#ifndef LT_NET_X509_H
#define LT_NET_X509_H

#include "base/arena.h"
#include "base/err.h"
#include "net/tls.h"

/* A few certificates are 2 KB each; the roots of an operating system some 200 KB. */
enum { LT_X509_PEM_MAX = 4 << 20, LT_X509_CERTS_MAX = 4096 };

/* --- keys --- */

struct lt_key;

typedef enum { LT_KEY_ECDSA_P256, LT_KEY_RSA_2048 } lt_key_kind;

/*
 * How a signature is made: the JWS names (RFC 7518 3.1, RFC 8037 3.1); those of ES are r || s, each
 * at the length of the curve.
 */
typedef enum {
    LT_SIG_RS256,
    LT_SIG_RS384,
    LT_SIG_RS512,
    LT_SIG_PS256,
    LT_SIG_PS384,
    LT_SIG_PS512,
    LT_SIG_ES256,
    LT_SIG_ES384,
    LT_SIG_ES512,
    LT_SIG_EDDSA,
    LT_SIG_HS256,
    LT_SIG_HS384,
    LT_SIG_HS512,
    LT_SIG_ALGS,
} lt_sig_alg;

/* "RS256", ... */
const char *lt_sig_alg_name(lt_sig_alg alg);
bool lt_sig_alg_find(lt_str name, lt_sig_alg *ret_alg);

struct lt_key *lt_key_new(lt_key_kind kind);
/* PKCS#8, PKCS#1 or SEC1, without password. */
LT_MUST lt_rc lt_key_parse_private(lt_str pem, struct lt_key **ret_key, struct lt_err *err);
/* "BEGIN PUBLIC KEY" or a certificate's. */
LT_MUST lt_rc lt_key_parse_public(lt_str pem, struct lt_key **ret_key, struct lt_err *err);
/*
 * From the raw big-endian numbers of a JWK (RFC 7518 6.2, 6.3); RSA from 2048 to 8192 bits, EC on
 * "P-256", "P-384" or "P-521".
 */
LT_MUST lt_rc lt_key_from_rsa(lt_str n, lt_str e, struct lt_key **ret_key, struct lt_err *err);
LT_MUST lt_rc lt_key_from_ec(lt_str curve, lt_str x, lt_str y, struct lt_key **ret_key,
                             struct lt_err *err);
/* Ed25519 (RFC 8037): 32 bytes. */
LT_MUST lt_rc lt_key_from_ed25519(lt_str x, struct lt_key **ret_key, struct lt_err *err);
/* A secret that both sides know, for HMAC. */
LT_MUST lt_rc lt_key_from_secret(lt_str bytes, struct lt_key **ret_key, struct lt_err *err);
/* Private parts are wiped. */
void lt_key_free(struct lt_key **key);

/* PKCS#8 PEM on the heap, NUL-terminated; free it by lt_key_pem_free, which wipes. */
char *lt_key_private_pem(const struct lt_key *key);
void lt_key_pem_free(char **pem);
/* SubjectPublicKeyInfo PEM in the arena. */
lt_str lt_key_public_pem(const struct lt_key *key, struct lt_arena *arena);
/* The same in DER. */
lt_str lt_key_public_der(const struct lt_key *key, struct lt_arena *arena);
/* The big-endian numbers of a JWK: n and e, or x and y at full length. */
void lt_key_public_numbers(const struct lt_key *key, struct lt_arena *arena, lt_str *ret_first,
                           lt_str *ret_second);
bool lt_key_fits(const struct lt_key *key, lt_sig_alg alg);
bool lt_key_eq(const struct lt_key *a, const struct lt_key *b);

enum { LT_SIG_MAX = 1024 }; /* RSA 8192 */
/* LT_E_BAD when the key does not fit the algorithm. */
LT_MUST lt_rc lt_key_sign(const struct lt_key *key, lt_sig_alg alg, lt_str data,
                          unsigned char out[LT_SIG_MAX], size_t *ret_len);
bool lt_key_verify(const struct lt_key *key, lt_sig_alg alg, lt_str data, lt_str signature);

enum { LT_SHA256_BYTES = 32 };
void lt_sha256(lt_str data, unsigned char out[LT_SHA256_BYTES]);

/* --- certificates, read --- */

struct lt_san {
    lt_san_type type;
    lt_str value;
};

struct lt_cert {
    const struct lt_san *sans;
    size_t san_count;
    lt_str subject; /* RFC 2253, may be empty */
    lt_str issuer;
    lt_str serial;        /* lower-case hex without leading zeros */
    lt_str sha256, sha1;  /* lower-case hex of the DER */
    int64_t not_before_s; /* Unix time */
    int64_t not_after_s;
    bool is_ca;
    lt_str pem; /* this one alone, with its line end */
};

/* Every certificate of a PEM text, in its order; at least one. Everything lives in arena. */
LT_MUST lt_rc lt_cert_parse_chain(struct lt_arena *arena, lt_str pem, struct lt_cert **ret_certs,
                                  size_t *ret_count, struct lt_err *err);
/* The peer's, when it was verified; NULL otherwise. Everything lives in arena. */
const struct lt_cert *lt_tls_peer_cert(const struct lt_transport *transport,
                                       struct lt_arena *arena);
/* The one that we show; NULL: none. */
const struct lt_cert *lt_tls_own_cert(const struct lt_transport *transport, struct lt_arena *arena);
/* First URI SAN, or empty. */
lt_str lt_cert_uri(const struct lt_cert *cert);
/*
 * Whole days until not_after, rounded down; 0 when it is over. Envoy: /certs days_until_expiration.
 */
uint64_t lt_cert_days_left(const struct lt_cert *cert, int64_t now_s);
/*
 * Does the leaf's signature chain up to one of the roots at that time? intermediates may be empty.
 * For checks of configuration; connections are verified in tls.h.
 */
LT_MUST lt_rc lt_cert_verify(lt_str leaf_pem, lt_str intermediates_pem, lt_str roots_pem,
                             int64_t now_s, struct lt_err *err);

/* --- certificate requests --- */

/* PEM in the arena: empty subject, one URI SAN, signed by the key. */
lt_str lt_csr_make(struct lt_arena *arena, const struct lt_key *key, lt_str uri_san);

struct lt_csr {
    struct lt_key *key; /* owned: the public key */
    bool has_common_name;
};

/* Its own signature is checked. LT_E_BAD with the reason. */
LT_MUST lt_rc lt_csr_parse(lt_str pem, struct lt_csr *ret_csr, struct lt_err *err);
void lt_csr_fini(struct lt_csr *csr);

/* --- certificates, made --- */

struct lt_cert_template {
    const struct lt_key *subject_key;
    lt_str organization; /* subject O=, may be empty */
    lt_str common_name;  /* subject CN=, may be empty */
    const struct lt_san *sans;
    /*
     * the extension is critical when the subject is empty (RFC 5280 4.2.1.6), and for a leaf always
     */
    size_t san_count;
    int64_t not_before_s;
    int64_t not_after_s;
    /* CA: keyCertSign; leaf: digitalSignature + keyEncipherment, server and client auth */
    bool is_ca;
};

/* A signer: its certificate and its key. */
struct lt_signer;
/*
 * cert_pem: the first certificate counts. LT_E_BAD when it is no CA or the key is another's.
 * key_pem is not kept.
 */
LT_MUST lt_rc lt_signer_new(lt_str cert_pem, lt_str key_pem, struct lt_signer **ret_signer,
                            struct lt_err *err);
void lt_signer_free(struct lt_signer **signer);
/* When the signing certificate ends. */
int64_t lt_signer_not_after_s(const struct lt_signer *signer);
/* PEM in the arena; a random 127-bit serial. LT_E_BAD for names that can't be encoded. */
LT_MUST lt_rc lt_signer_issue(const struct lt_signer *signer,
                              const struct lt_cert_template *template, struct lt_arena *arena,
                              lt_str *ret_pem, struct lt_err *err);
/* The same, signed by its own key. template->subject_key must be private. */
LT_MUST lt_rc lt_cert_self_sign(const struct lt_cert_template *template, struct lt_arena *arena,
                                lt_str *ret_pem, struct lt_err *err);

#endif
