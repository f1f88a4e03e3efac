/*
 * ctl/inject.h - does a Pod get a sidecar: the webhook's selectors and the server's decision, in
 * one function. A mesh on one machine has one control plane: it answers for every revision and tag
 * that a label names.
 */
#ifndef LT_CTL_INJECT_H
#define LT_CTL_INJECT_H

#include "model/schema.h"

typedef enum {
    CTL_INJECT_NONE,
    CTL_INJECT_SIDECAR,
    CTL_INJECT_GATEWAY, /* istio: ingressgateway, or inject.istio.io/templates: gateway */
} ctl_inject;

struct ctl_inject_input {
    lt_str ns;
    const struct lt_kvs *ns_labels; /* NULL: no such Namespace object */
    const struct lt_kvs *labels;
    const struct lt_kvs *annotations;
    bool is_host_network;
};

/* *ret_why: a phrase for people; constant. */
ctl_inject ctl_inject_decide(const struct ctl_inject_input *input, const char **ret_why);

#endif
