/*
 * control/ca.h - the certificate authority of the mesh, as an engine: a request and an identity in,
 * a chain or a refusal out. No files (ca_store.h), no sockets (ca_service.h), no clock: the time is
 * an argument. Who the caller is: ca_authn.h. Rules, codes and words are Istio's
 * (security/pkg/pki/ca, security/pkg/server/ca).
 * Trust: the request is a stranger's; nothing of it but the public key gets into a certificate.
 * Start at: cp_ca_new(), cp_ca_sign().
 */
#ifndef LT_CONTROL_CA_H
#define LT_CONTROL_CA_H

#include "http/grpc.h"
#include "net/x509.h"

enum {
    CP_CA_TTL_DEFAULT_S = 24 * 3600,      /* DEFAULT_WORKLOAD_CERT_TTL */
    CP_CA_TTL_MAX_S = 90 * 24 * 3600,     /* MAX_WORKLOAD_CERT_TTL */
    CP_CA_ROOT_TTL_S = 87600 * 3600,      /* CITADEL_SELF_SIGNED_CA_CERT_TTL: ten years */
    CP_CA_BACKDATE_S = 120,               /* clocks that are a little behind */
    CP_CA_SERVING_TTL_S = 90 * 24 * 3600, /* at most */
    CP_CA_CHAIN_MAX = 8,                  /* intermediates */
};

/* What the CA signs with; PEM texts, borrowed by cp_ca_new. */
struct cp_ca_material {
    lt_str cert_pem; /* the signing certificate */
    lt_str key_pem;
    /* intermediates that go to workloads, the signing certificate first; empty: self-signed */
    lt_str chain_pem;
    lt_str root_pem; /* what everybody trusts; may be several */
};

struct cp_ca_limits {
    int64_t ttl_default_s;
    int64_t ttl_max_s;
};

struct cp_ca;

/*
 * LT_E_BAD: key and certificate don't belong together, the chain does not lead to the root, ...
 * limits NULL: the defaults.
 */
LT_MUST lt_rc cp_ca_new(const struct cp_ca_material *material, const struct cp_ca_limits *limits,
                        int64_t now_s, struct cp_ca **ret_ca, struct lt_err *err);
void cp_ca_free(struct cp_ca **ca);
/* New keys or a renewed root in the place of the old; nothing changes on an error. */
LT_MUST lt_rc cp_ca_replace(struct cp_ca *ca, const struct cp_ca_material *material, int64_t now_s,
                            struct lt_err *err);

/* PEM; borrowed until the next replace. */
lt_str cp_ca_root_pem(const struct cp_ca *ca);

/* When the first of the signing certificate and its chain ends. */
int64_t cp_ca_not_after_s(const struct cp_ca *ca);

/* How a request ended. */
struct cp_ca_reply {
    lt_grpc_code code;
    lt_str message; /* for anything but OK */
    /* leaf, intermediates one by one, last the whole root bundle */
    lt_str certs[CP_CA_CHAIN_MAX + 2];
    size_t cert_count;
};

/*
 * Signs for a caller that was authenticated as `identity` ("spiffe://..."). validity_s <= 0: the
 * default. The reply lives in arena, or as long as the CA's material.
 */
void cp_ca_sign(struct cp_ca *ca, struct lt_arena *arena, lt_str csr_pem, int64_t validity_s,
                lt_str identity, int64_t now_s, struct cp_ca_reply *ret_reply);

/*
 * The control plane's own certificate: a fresh key and a chain for these DNS names, for ttl_s or as
 * long as the signing certificate.
 */
struct cp_ca_serving {
    lt_str chain_pem; /* in the arena */
    char *key_pem;    /* owned: lt_key_pem_free */
    int64_t not_after_s;
};
LT_MUST lt_rc cp_ca_issue_serving(struct cp_ca *ca, struct lt_arena *arena, const lt_str *dns_names,
                                  size_t count, int64_t ttl_s, int64_t now_s,
                                  struct cp_ca_serving *ret_serving, struct lt_err *err);

struct cp_ca_stats {
    uint64_t csrs, signed_certs, csr_errors, ttl_errors, authn_errors, other_errors;
};
const struct cp_ca_stats *cp_ca_stats(const struct cp_ca *ca);
void cp_ca_count_authn_error(struct cp_ca *ca);

/*
 * A fresh self-signed root: O=<trust domain>, RSA 2048. texts live in arena but the key:
 * lt_key_pem_free.
 */
LT_MUST lt_rc cp_ca_make_root(struct lt_arena *arena, lt_str trust_domain, int64_t ttl_s,
                              int64_t now_s, lt_str *ret_cert_pem, char **ret_key_pem,
                              struct lt_err *err);
/* The same root with the same key and a new life, so that what it signed stays good. */
LT_MUST lt_rc cp_ca_renew_root(struct lt_arena *arena, lt_str trust_domain, lt_str key_pem,
                               int64_t ttl_s, int64_t now_s, lt_str *ret_cert_pem,
                               struct lt_err *err);

/* True when less than that part of the life between the two is left. */
static inline bool cp_ca_is_renewal_due(int64_t begin_s, int64_t end_s, uint32_t percent,
                                        int64_t now_s)
{
    return (end_s - now_s) * 100 < (end_s - begin_s) * (int64_t)percent;
}

/* A span as Go writes it: "24h0m0s", "1m5s", "0s". In arena. */
lt_str cp_ca_duration_text(struct lt_arena *arena, int64_t seconds);

#endif
