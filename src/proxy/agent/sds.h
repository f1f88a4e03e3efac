/*
 * proxy/agent/sds.h - the agent's Unix socket for a real Envoy's secrets:
 * SecretDiscoveryService.StreamSecrets, state of the world. (Istio's agent serves no delta there
 * either.)
 * Not here: where secrets come from (secrets.h).
 */
#ifndef LT_PROXY_AGENT_SDS_H
#define LT_PROXY_AGENT_SDS_H

#include "http/grpc_server.h"
#include "proxy/agent/secrets.h"

struct px_sds;

/* secrets is borrowed. LT_E_IO: the socket can't be opened; its folders are made. */
LT_MUST lt_rc px_sds_new(struct lt_loop *loop, struct px_secrets *secrets, lt_str socket_path,
                         struct px_sds **ret_sds, struct lt_err *err);
/* Streams end on the next turns of the loop. */
void px_sds_free(struct px_sds **sds);
/* A secret has changed: whoever asked for it gets it. */
void px_sds_push(struct px_sds *sds, const struct px_secret_view *secret);

#endif
