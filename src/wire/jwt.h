/*
 * wire/jwt.h - JSON Web Tokens (RFC 7515, 7519) and key sets (RFC 7517): read, judged, made.
 * Signatures and their algorithms: net/x509.h. Which rule applies to whom: the programs.
 * Trust: tokens are a stranger's, key sets a configuration's; both are bounded, and every doubt is
 * a refusal.
 * Start at: lt_jwt_parse(), lt_jwt_verify().
 */
#ifndef LT_WIRE_JWT_H
#define LT_WIRE_JWT_H

#include "net/x509.h"
#include "wire/doc.h"

enum {
    LT_JWT_BYTES_MAX =
        16 << 10, /* a Kubernetes token is about 1 KB; headers seldom may be longer */
    LT_JWT_AUDIENCES_MAX = 64,
    LT_JWKS_BYTES_MAX = 1 << 20,
    LT_JWKS_KEYS_MAX = 128,
};

/* Nothing in it is true until lt_jwt_verify says so. */
struct lt_jwt {
    lt_sig_alg alg;
    lt_str kid;             /* may be empty */
    lt_str issuer, subject; /* may be empty */
    const lt_str *audiences;
    size_t audience_count;
    bool has_expiry, has_not_before;
    int64_t expires_s, not_before_s;
    const struct lt_doc *payload; /* an object */
    const struct lt_doc *header;  /* an object */
    lt_str payload_json;
    lt_str payload_text; /* base64url, as it came; borrowed from the token, like */
    lt_str signed_text;  /* header.payload */
    lt_str signature;
};

/*
 * LT_E_BAD, LT_E_LIMIT, LT_E_UNSUPPORTED (algorithm, "crit"), in Envoy's words. Lives in arena, but
 * for payload_text and signed_text.
 */
LT_MUST lt_rc lt_jwt_parse(struct lt_arena *arena, lt_str token, struct lt_jwt *ret_jwt,
                           struct lt_err *err);

struct lt_jwks;
/*
 * text: a key set, one JWK, one PEM public key, or an object of PEM certificates by key id. Keys of
 * kinds that we don't know are left out, as RFC 7517 5 asks; a set without any usable key is
 * LT_E_BAD.
 */
LT_MUST lt_rc lt_jwks_parse(lt_str text, struct lt_jwks **ret_jwks, struct lt_err *err);
void lt_jwks_free(struct lt_jwks **jwks);
size_t lt_jwks_count(const struct lt_jwks *jwks);

struct lt_jwt_rule {
    lt_str issuer;           /* empty: any */
    const lt_str *audiences; /* one of them must be in the token; count 0: any */
    size_t audience_count;
    const struct lt_jwks *jwks;
    int64_t leeway_s; /* clock skew: Envoy allows 60 */
    bool requires_expiry;
};

/*
 * Whether one of the keys has signed it. LT_E_NOT_FOUND: no key has its id, or fits its algorithm;
 * LT_E_DENIED: none of those that might has.
 */
LT_MUST lt_rc lt_jwks_verify(const struct lt_jwks *jwks, const struct lt_jwt *jwt);

/* LT_E_DENIED with Envoy's words ("Jwt is expired", "Jwt verification fails", ...). */
LT_MUST lt_rc lt_jwt_verify(const struct lt_jwt *jwt, const struct lt_jwt_rule *rule, int64_t now_s,
                            struct lt_err *err);

/*
 * payload is an object. kid may be empty. LT_E_BAD when the key does not fit the algorithm;
 * LT_E_LIMIT over LT_JWT_BYTES_MAX.
 */
LT_MUST lt_rc lt_jwt_sign(struct lt_arena *arena, const struct lt_key *key, lt_sig_alg alg,
                          lt_str kid, const struct lt_doc *payload, lt_str *ret_token);
/* base64url of the SHA-256 of the public key: how Kubernetes names its own. */
lt_str lt_jwt_kid(struct lt_arena *arena, const struct lt_key *key);
/* A key set of one key, JSON. */
lt_str lt_jwks_text(struct lt_arena *arena, const struct lt_key *key, lt_sig_alg alg);

#endif
