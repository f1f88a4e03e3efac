/*
 * proxy/agent/upstream.h - the way to the control plane: a host name and a root certificate file
 * become a gRPC channel that follows both when they change.
 */
#ifndef LT_PROXY_AGENT_UPSTREAM_H
#define LT_PROXY_AGENT_UPSTREAM_H

#include "http/grpc_client.h"

struct px_upstream;

struct px_upstream_opts {
    struct lt_loop *loop; /* borrowed */
    lt_str host;          /* borrowed, all of them */
    uint16_t port;
    lt_str tls_name;  /* what the server's certificate must be for; also the SNI */
    lt_str root_path; /* PEM file */
    bool is_plaintext;
    /* Once, from the loop: the channel can take calls. It lives as long as the px_upstream. */
    void (*on_ready)(void *ctx, struct lt_grpc_channel *channel);
    void *ctx;
};

/* Starts at once; keeps trying. */
struct px_upstream *px_upstream_new(const struct px_upstream_opts *opts);
/* The channel closes on the next turns of the loop. */
void px_upstream_free(struct px_upstream **upstream);
/* Connections that failed or were lost. */
uint64_t px_upstream_failures(const struct px_upstream *upstream);

#endif
