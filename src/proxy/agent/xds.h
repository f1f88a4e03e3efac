/*
 * proxy/agent/xds.h - the agent's Unix socket for a real Envoy's ADS streams: each is carried on to
 * the control plane, with the token that Envoy does not have, message by message and untouched.
 * When either side ends, the other does.
 */
#ifndef LT_PROXY_AGENT_XDS_H
#define LT_PROXY_AGENT_XDS_H

#include "http/grpc_client.h"
#include "http/grpc_server.h"

struct px_xds_relay;

enum { PX_XDS_METADATA_MAX = 32 };

struct px_xds_relay_opts {
    struct lt_loop *loop; /* borrowed */
    lt_str socket_path;
    /*
     * Metadata for one upstream stream, in arena; asked at each, because tokens are exchanged under
     * us.
     */
    size_t (*metadata)(void *ctx, struct lt_arena *arena,
                       struct lt_grpc_metadata out[PX_XDS_METADATA_MAX]);
    void *ctx;
};

struct px_xds_relay_stats {
    uint64_t requests, responses, streams;
    uint64_t upstream_ended, downstream_ended;
};

/* LT_E_IO: the socket can't be opened; its folders are made. */
LT_MUST lt_rc px_xds_relay_new(const struct px_xds_relay_opts *opts,
                               struct px_xds_relay **ret_relay, struct lt_err *err);
/* Once. Until then streams wait. The channel must outlive the relay. */
void px_xds_relay_set_upstream(struct px_xds_relay *relay, struct lt_grpc_channel *channel);
void px_xds_relay_free(struct px_xds_relay **relay);
const struct px_xds_relay_stats *px_xds_relay_stats(const struct px_xds_relay *relay);

#endif
