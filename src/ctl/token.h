/*
 * ctl/token.h - service-account tokens as the Kubernetes API server signs them, for the mesh's one
 * issuer: `lateen up`. lateend checks them by the rule that ctl_tokens_rule gives (JWT_RULE).
 */
#ifndef LT_CTL_TOKEN_H
#define LT_CTL_TOKEN_H

#include "base/arena.h"

enum {
    CTL_TOKEN_LIFE_S = 43200
}; /* the projected volume's expirationSeconds in Istio's injection template */

struct ctl_tokens;

/* A fresh key, kept in this process only. */
struct ctl_tokens *ctl_tokens_new(void);

/* Issuer, audience and keys as JSON. */
const char *ctl_tokens_rule(const struct ctl_tokens *tokens, struct lt_arena *arena);
/* A token for this Pod with audience istio-ca. */
lt_str ctl_tokens_sign(const struct ctl_tokens *tokens, struct lt_arena *arena, const char *ns,
                       const char *service_account, const char *pod, int64_t now_s);

#endif
