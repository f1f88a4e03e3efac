/*
 * proxy/agent/identity.h - this workload's certificate: a fresh key and a CSR to the control
 * plane's CA, and again when half of its life is over; or, when the platform mounts one, files. The
 * key never leaves memory (kept.h: nor does it for a restart), unless OUTPUT_CERTS asks for
 * it. Facts: istio.v1.auth.IstioCertificateService; Istio's secretcache (rotation).
 */
#ifndef LT_PROXY_AGENT_IDENTITY_H
#define LT_PROXY_AGENT_IDENTITY_H

#include "http/grpc_client.h"
#include "proxy/agent/settings.h"

struct px_identity;

/* A key and its certificate; PEM. Borrowed for the call. */
struct px_identity_cert {
    lt_str chain_pem; /* leaf and intermediates */
    lt_str key_pem;
    lt_str root_pem;
    int64_t not_after_s;
};

struct px_identity_stats {
    uint64_t requests, failures, retries;
    uint64_t latency_ms; /* of all requests together */
    int64_t not_after_s; /* of the present certificate; 0: none */
};

struct px_identity_opts {
    struct lt_loop *loop; /* borrowed, all of them */
    const struct px_agent_settings *settings;
    /* A new certificate, from the loop. */
    void (*on_cert)(void *ctx, const struct px_identity_cert *cert);
    void *ctx;
};

struct px_identity *px_identity_new(const struct px_identity_opts *opts);
void px_identity_free(struct px_identity **identity);
/* on_cert with what the last run had, when that is good still. */
void px_identity_restore(struct px_identity *identity);
/*
 * The CA can be called from now on: the first CSR goes out. The channel must outlive the identity.
 */
void px_identity_start(struct px_identity *identity, struct lt_grpc_channel *ca);
const struct px_identity_stats *px_identity_stats(const struct px_identity *identity);

/* --- for tests: no I/O --- */

/*
 * Joins a CA's answer and judges it: at least two elements, the leaf for this key. Texts live in
 * arena.
 */
LT_MUST lt_rc px_identity_judge(struct lt_arena *arena, lt_str response, const struct lt_key *key,
                                struct px_identity_cert *ret_cert, struct lt_err *err);
/*
 * How long to keep a certificate that came at now_s: until `ratio` of its life is left, give or
 * take `jitter` of it; spread in [-1, 1] chooses. At least a second.
 */
uint64_t px_identity_rotation_ms(int64_t now_s, int64_t not_after_s, double ratio, double jitter,
                                 double spread);

#endif
