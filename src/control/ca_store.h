/*
 * control/ca_store.h - where the CA's keys live: plugged in by the operator (ROOT_CA_DIR), or made
 * here once and kept in the state directory, under the names of Istio's Secrets.
 *   plugged in (Secret cacerts): ca-cert.pem ca-key.pem cert-chain.pem root-cert.pem,
 *       or tls.crt tls.key ca.crt
 *   made here:  ca-cert.pem ca-key.pem, 0600 (Secret istio-ca-secret)
 * Start at: cp_ca_store_load().
 */
#ifndef LT_CONTROL_CA_STORE_H
#define LT_CONTROL_CA_STORE_H

#include "control/ca.h"

struct cp_ca_store_opts {
    const char *plugged_dir; /* "./etc/cacerts" */
    const char *state_dir;   /* made when it does not exist, 0700 */
    lt_str trust_domain;     /* of a root made here */
    int64_t root_ttl_s;      /* of a root made here; 0: ten years */
    uint32_t renew_percent;  /* of its life left: time for a new one; 0: 20 */
    bool only_own;           /* LT_E_NOT_FOUND where there is no root of our own: none is made */
};

struct cp_ca_store {
    struct cp_ca_material material; /* in the arena, the key in key_pem */
    struct lt_arena *arena;         /* owned */
    char *key_pem;                  /* owned, wiped by fini */
    bool is_plugged_in;
    bool was_made;    /* the root was made by this call */
    bool was_renewed; /* little of its life was left: same key, new life */
};

/*
 * Loads; makes or renews a root of our own when there is none or it ends soon. A member of a
 * plugged-in set that is missing is LT_E_NOT_FOUND: an operator who began must not get a CA that he
 * did not choose.
 */
LT_MUST lt_rc cp_ca_store_load(const struct cp_ca_store_opts *opts, int64_t now_s,
                               struct cp_ca_store *ret_store, struct lt_err *err);
void cp_ca_store_fini(struct cp_ca_store *store);

#endif
