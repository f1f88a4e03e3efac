/*
 * proxy/filter/grpc_stats.h - envoy.filters.http.grpc_stats: messages and outcomes of gRPC calls.
 */
#ifndef LT_PROXY_FILTER_GRPC_STATS_H
#define LT_PROXY_FILTER_GRPC_STATS_H

#include "base/str.h"

/* Counts messages in a stream of frames as it passes, in whatever pieces. */
struct px_grpc_counter {
    uint64_t messages;
    uint64_t body_left;    /* of the message that passes */
    uint32_t prefix_bytes; /* of the next prefix that came so far */
    uint32_t length;       /* read of it so far */
};

void px_grpc_count(struct px_grpc_counter *counter, lt_str piece);

/* What is known of a call; also for metrics (request->grpc). */
struct px_grpc_counts {
    struct px_grpc_counter request, response;
};

struct px_grpc_service {
    lt_str name; /* "pkg.Service" */
    const lt_str *methods;
    size_t method_count;
};

struct px_grpc_stats_conf {
    bool counts_all_methods, replaces_dots;
    const struct px_grpc_service *services; /* those that are counted one by one */
    size_t service_count;
};

#endif
