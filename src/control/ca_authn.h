/*
 * control/ca_authn.h - who calls: a client certificate of the mesh, or a service-account token that
 * a known issuer signed. The CA and the xDS server ask the same question here. No I/O: keys are
 * handed in. Order as istiod's: client certificate, then JWT_RULE. Kubernetes' TokenReview joins
 * with the Kubernetes source.
 * Trust: the token is a stranger's; a refusal tells nothing but that it is one.
 * Start at: cp_authn_new(), cp_authn_check().
 */
#ifndef LT_CONTROL_CA_AUTHN_H
#define LT_CONTROL_CA_AUTHN_H

#include "wire/jwt.h"

struct cp_authn;

struct cp_authn_opts {
    lt_str trust_domain; /* of the identities that tokens get */
    /* JSON of Istio's JWTRule: issuer, audiences, jwks; empty: no tokens */
    lt_str jwt_rule;
    const lt_str *audiences; /* when the rule names none: TOKEN_AUDIENCES, "istio-ca" */
    size_t audience_count;
};

/* LT_E_BAD: the rule or its keys. Everything is copied. */
LT_MUST lt_rc cp_authn_new(const struct cp_authn_opts *opts, struct cp_authn **ret_authn,
                           struct lt_err *err);
void cp_authn_free(struct cp_authn **authn);

/* Slices live in the arena of the check. */
struct cp_identity {
    lt_str trust_domain, ns, service_account;
    lt_str uri; /* "spiffe://<trust domain>/ns/<ns>/sa/<service account>" */
};

/* "spiffe://td/ns/x/sa/y" taken apart; LT_E_BAD for any other form. Borrows from uri. */
LT_MUST lt_rc cp_identity_parse(lt_str uri, struct cp_identity *ret_identity);

/*
 * peer_uri: of a verified client certificate, or empty. authorization: the header's value, or
 * empty. LT_E_DENIED: neither proves anything; err says why for the log, never for the caller.
 */
LT_MUST lt_rc cp_authn_check(const struct cp_authn *authn, struct lt_arena *arena, lt_str peer_uri,
                             lt_str authorization, int64_t now_s, struct cp_identity *ret_identity,
                             struct lt_err *err);

#endif
