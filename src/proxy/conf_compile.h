/*
 * proxy/conf_compile.h - from the bytes of an xDS resource to a frozen one (conf.h).
 * A resource is taken whole or refused with the path of the field. Main thread only.
 * Trust: the bytes are the control plane's, whom we believe but who may be wrong, or newer than we
 * are.
 */
#ifndef LT_PROXY_CONF_COMPILE_H
#define LT_PROXY_CONF_COMPILE_H

#include "proxy/conf.h"

/*
 * The table of TLS contexts: one slot for each different set of certificates and parameters,
 * counted by the resources that name it.
 */
struct px_tls_slots;
struct px_tls_slots *px_tls_slots_new(void);
void px_tls_slots_free(struct px_tls_slots **slots);
/* Finds or makes the slot of such a context. */
uint32_t px_tls_slots_intern(struct px_tls_slots *slots, const struct px_tls_conf *conf);
size_t px_tls_slots_count(const struct px_tls_slots *slots);
/* True when every secret that the slot needs is there. */
struct px_secrets; /* table.h */
/*
 * (Re)builds the contexts whose secrets have changed. secrets: name -> const struct px_secret_conf.
 * A slot whose secret is missing or bad stays NULL (or keeps its last good context); *ret_bad names
 * the first failure.
 */
void px_tls_slots_refresh(struct px_tls_slots *slots, const struct lt_map *secrets,
                          struct lt_err *ret_bad);
/* The slot's context now, NULL while it has none. Borrowed. */
struct lt_tls_ctx *px_tls_slots_ctx(const struct px_tls_slots *slots, uint32_t slot);
/*
 * What the slot's context shows and trusts; borrowed until the next refresh. All empty while it has
 * none.
 */
struct px_tls_certs {
    lt_str cert_path, cert_pem; /* path: a file, or "<inline>" */
    lt_str ca_path, ca_pem;
};
struct px_tls_certs px_tls_slots_certs(const struct px_tls_slots *slots, uint32_t slot);
/* True when the slot waits for a secret that `secrets` does not hold. */
bool px_tls_slots_waits(const struct px_tls_slots *slots, uint32_t slot,
                        const struct lt_map *secrets);

/*
 * bytes: a Cluster, ClusterLoadAssignment, Listener, RouteConfiguration or Secret, by kind. name:
 * as the control plane named it, may be empty. The result has one reference, the caller's. LT_E_BAD
 * or LT_E_UNSUPPORTED with the field path.
 */
LT_MUST lt_rc px_conf_compile(px_resource_kind kind, lt_str name, lt_str version, lt_str bytes,
                              struct px_tls_slots *slots, struct px_resource **ret_resource,
                              struct lt_err *err);

struct px_resource *px_resource_ref(struct px_resource *resource);
/* Frees at the last one; a secret's arena is wiped first. */
void px_resource_unref(struct px_resource **resource);

const char *px_resource_kind_name(px_resource_kind kind); /* "cluster", ... */

#endif
