/*
 * proxy/compile/compile.h - from the bytes of an xDS resource to a frozen one (conf.h).
 * A resource is taken whole or refused with the path of the field. Main thread only.
 * Trust: the bytes are the control plane's, whom we believe but who may be wrong, or newer than we
 * are.
 */
#ifndef LT_PROXY_COMPILE_COMPILE_H
#define LT_PROXY_COMPILE_COMPILE_H

#include "proxy/conf/conf.h"

/*
 * What compiled resources share: the rows of all names that they mention (row.h), and the TLS
 * contexts (tls_slots.c): one slot for each different set of certificates and parameters, counted
 * by the resources that use it.
 */
struct px_tls_slots;
struct px_rows;
struct px_row;
struct px_source;

struct px_tls_slots *px_tls_slots_new(void);
/* No resource may be left. */
void px_tls_slots_free(struct px_tls_slots **slots);
struct px_rows *px_tls_slots_rows(const struct px_tls_slots *slots);
/* How much the last resource of each kind took, in percent of its message. */
struct px_measures {
    uint32_t percent[PX_RESOURCE_KINDS];
};
struct px_measures *px_tls_slots_measures(struct px_tls_slots *slots);
/* The index of all fields (fields.h). */
struct px_fields;
struct px_fields *px_tls_slots_fields(const struct px_tls_slots *slots);

/* Finds or makes the slot of such a context: sets ctx_slot and ctx_id. The caller holds it. */
struct px_tls_slot;
struct px_tls_slot *px_tls_slots_intern(struct px_tls_slots *slots, struct px_tls_conf *conf);
/* Gives it back; a px_own function. */
void px_tls_slot_drop(void *slot);

/* Ids are below this; those of slots that went have no context. */
size_t px_tls_slots_count(const struct px_tls_slots *slots);
/*
 * (Re)builds the contexts whose secrets have changed. A slot whose secret is missing or bad stays
 * NULL (or keeps its last good context); *ret_bad names the first failure. True: some context is
 * another than before.
 */
bool px_tls_slots_refresh(struct px_tls_slots *slots, struct lt_err *ret_bad);
/* A secret has come, changed or gone: the next refresh looks. */
void px_tls_slots_mark(struct px_tls_slots *slots);
/* The slot's context now, NULL while it has none. Borrowed. */
struct lt_tls_ctx *px_tls_slots_ctx(const struct px_tls_slots *slots, uint32_t slot);
/*
 * What the slot's context shows and trusts; borrowed until the next refresh. All empty while it has
 * none.
 */
struct px_tls_certs {
    lt_str ca_path, ca_pem; /* path: a file, or "<inline>" */
    const struct px_cert_conf *own[LT_TLS_CERTS_MAX];
    size_t count;
};
struct px_tls_certs px_tls_slots_certs(const struct px_tls_slots *slots, uint32_t slot);

/* A version's text, the same object as before when it says the same: a push has one for all. */
struct lt_bytes *px_version_make(struct px_tls_slots *slots, lt_str version);

struct px_compile {
    px_resource_kind kind;
    lt_str name; /* as the control plane named it, may be empty: then the message says it */
    lt_str version;
    lt_str bytes; /* Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, Secret */
    const struct px_source *source; /* where it comes from; NULL: ADS */
    int64_t now_ns;                 /* wall clock */
};

/*
 * The result has one reference, the caller's, and no message (px_resource.wire) yet. LT_E_BAD or
 * LT_E_UNSUPPORTED with the field path.
 */
LT_MUST lt_rc px_compile(const struct px_compile *what, struct px_tls_slots *slots,
                         struct px_resource **ret_resource, struct lt_err *err);
/* The same, of what comes over ADS at no known time. */
LT_MUST lt_rc px_conf_compile(px_resource_kind kind, lt_str name, lt_str version, lt_str bytes,
                              struct px_tls_slots *slots, struct px_resource **ret_resource,
                              struct lt_err *err);

struct px_resource *px_resource_ref(struct px_resource *resource);
/* Frees at the last one; what holds a key is wiped first. */
void px_resource_unref(struct px_resource **resource);

static inline size_t px_unhonoured_count(const struct px_resource *resource)
{
    return resource->extras != NULL ? resource->extras->unhonoured_count : 0;
}

const char *px_resource_kind_name(px_resource_kind kind); /* "cluster", ... */

#endif
