/*
 * control/ca_settings.h - what the environment says of the CA and of callers, under istiod's names.
 */
#ifndef LT_CONTROL_CA_SETTINGS_H
#define LT_CONTROL_CA_SETTINGS_H

#include "control/ca_authn.h"
#include "control/ca_store.h"

struct cp_ca_settings {
    struct cp_ca_store_opts store;
    struct cp_ca_limits limits;
    struct cp_authn_opts authn;
    int64_t check_interval_ns; /* <= 0: the root is not looked at */
    bool has_jitter;
};

/* The value of a variable, or empty. */
typedef lt_str cp_env_fn(void *ctx, const char *name);

/* Texts live in arena, or as long as get's. LT_E_BAD names the variable and what was expected. */
LT_MUST lt_rc cp_ca_settings_read(struct lt_arena *arena, cp_env_fn *get, void *ctx,
                                  struct cp_ca_settings *ret_settings, struct lt_err *err);

#endif
