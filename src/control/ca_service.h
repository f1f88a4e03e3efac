/*
 * control/ca_service.h - istio.v1.auth.IstioCertificateService on a gRPC server.
 * Decides nothing: authentication is ca_authn.h, signing ca.h.
 */
#ifndef LT_CONTROL_CA_SERVICE_H
#define LT_CONTROL_CA_SERVICE_H

#include "control/ca.h"
#include "control/ca_authn.h"
#include "http/grpc_server.h"

/*
 * Every refusal is written down, but a caller who is refused again and again must not fill the
 * disk: so many lines in ten seconds, then their count.
 */
struct cp_audit {
    uint64_t from_ns; /* monotonic */
    uint32_t lines, withheld;
};

/* Borrowed by the server's method table: must outlive the server. */
struct cp_ca_service {
    struct cp_ca *ca;             /* borrowed */
    const struct cp_authn *authn; /* borrowed; may be exchanged for another between calls */
    const struct lt_env *env;     /* borrowed; clock and log */
    struct cp_audit audit;        /* of refusals; zero to begin */
};

/* The row for lt_grpc_server_new: CreateCertificate. */
struct lt_grpc_method cp_ca_service_method(struct cp_ca_service *service);

#endif
