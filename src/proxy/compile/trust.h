/*
 * proxy/compile/trust.h - private to tls.c and secret.c: the parts that both have.
 */
#ifndef LT_PROXY_COMPILE_TRUST_H
#define LT_PROXY_COMPILE_TRUST_H

#include "proxy/compile/build.h"

/* field: where in the resource it is. */
LT_MUST lt_rc px_make_cert(struct px_build *build, const char *field, const Xds__TlsCertificate *in,
                           struct px_cert_conf *cert);
LT_MUST lt_rc px_make_trust(struct px_build *build,
                            const Xds__CertificateValidationContext *context,
                            struct px_trust_conf *trust);
LT_MUST lt_rc px_make_ticket_keys(struct px_build *build, const Xds__TlsSessionTicketKeys *in,
                                  const lt_str **ret_keys, size_t *ret_count);
/* Says whom to trust: roots, pins. */
bool px_trust_verifies(const struct px_trust_conf *trust);

#endif
