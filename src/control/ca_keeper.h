/*
 * control/ca_keeper.h - what must not run out while lateend runs: the root that it made itself, and
 * the certificate that it shows on its secure port. Looks at both by the calendar; a renewed root
 * has the same key, so that what was signed stays good, and connections that stand are not touched.
 * A plugged-in CA is the operator's: of it only the serving certificate is renewed here.
 * Start at: cp_keeper_new().
 */
#ifndef LT_CONTROL_CA_KEEPER_H
#define LT_CONTROL_CA_KEEPER_H

#include "control/ca_store.h"
#include "net/loop.h"

struct cp_keeper;

struct cp_keeper_opts {
    struct lt_loop *loop; /* borrowed, as all here */
    struct cp_ca *ca;
    struct cp_ca_store_opts store;
    bool is_plugged_in;
    /* CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL; <= 0: the root is not looked at */
    int64_t check_interval_ns;
    bool has_jitter; /* CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR: the first look is early */
    const lt_str *dns_names; /* of the serving certificate */
    size_t dns_name_count;
    /* A new context for the secure port, to be counted by whoever keeps it. */
    void (*on_serving)(void *ctx, struct lt_tls_ctx *tls);
    void *ctx;
};

/* Makes the first serving certificate at once: on_serving is called before it returns. */
LT_MUST lt_rc cp_keeper_new(const struct cp_keeper_opts *opts, struct cp_keeper **ret_keeper,
                            struct lt_err *err);
void cp_keeper_free(struct cp_keeper **keeper);

struct cp_keeper_stats {
    uint64_t root_checks, root_renewals, serving_renewals, failures;
    int64_t root_not_after_s, serving_not_after_s;
};
const struct cp_keeper_stats *cp_keeper_stats(const struct cp_keeper *keeper);

#endif
