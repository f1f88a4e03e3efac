/*
 * proxy/xds/way.h - gRPC from the main thread to a cluster: a channel that follows the cluster's
 * endpoints and TLS. For control planes; traffic has its own connections (upstream.c).
 */
#ifndef LT_PROXY_XDS_WAY_H
#define LT_PROXY_XDS_WAY_H

#include "http/grpc_client.h"
#include "proxy/table/table.h"

struct px_ways;
struct px_way;

struct px_ways *px_ways_new(struct lt_loop *loop, struct px_table *table);
/* No way may be in use. Channels close on the next turns of the loop. */
void px_ways_free(struct px_ways **ways);

/* The way to the cluster of this name; counted, shared by all that have the same authority. */
struct px_way *px_way_get(struct px_ways *ways, lt_str cluster, lt_str authority);
void px_way_drop(struct px_way **way);
/* NULL: there is no such cluster now, or none of its endpoints is known. Borrowed. */
struct lt_grpc_channel *px_way_channel(struct px_way *way);

#endif
