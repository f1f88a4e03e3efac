/*
 * ctl/identity.h - who a workload proves to be: one TLS handshake with its sidecar, as another
 * workload would begin it, far enough to see and verify the certificate that it presents. A
 * gateway, and whoever takes no calls of the mesh's, has none to present: its proxy is asked which
 * one it has.
 * Trust: the peer is a workload; its chain is verified against the mesh's root, and its word is its
 * own.
 */
#ifndef LT_CTL_IDENTITY_H
#define LT_CTL_IDENTITY_H

#include "http/client.h"
#include "net/loop.h"
#include "net/tls.h"

struct ctl_identity;
/* uri: the certificate's first URI SAN, "spiffe://..."; empty when there was no verified one. */
typedef void ctl_identity_fn(struct ctl_identity *identity, lt_str uri);

struct ctl_identity {
    struct lt_loop *loop;
    struct lt_transport transport;
    struct lt_io io;
    struct lt_timer timer;
    struct lt_tls_ctx *tls; /* counted while running */
    struct lt_call *call;   /* owned; to the admin page */
    ctl_identity_fn *on_done;
    bool is_running;
};

void ctl_identity_init(struct ctl_identity *identity, struct lt_loop *loop,
                       ctl_identity_fn *on_done);
/* A context that trusts this root and has no certificate itself. */
LT_MUST lt_rc ctl_identity_trust(lt_str root_pem, struct lt_tls_ctx **ret_tls, struct lt_err *err);
/* on_done comes later, once. Nothing may be running. */
void ctl_identity_start(struct ctl_identity *identity, struct lt_tls_ctx *tls, uint32_t ip,
                        uint16_t port);
/* From the proxy's own page of certificates, in its network. The same holds. */
void ctl_identity_ask(struct ctl_identity *identity, int netns_fd);
/* Without on_done. */
void ctl_identity_cancel(struct ctl_identity *identity);

#endif
