/*
 * proxy/told/messages.h - messages of a gRPC call, counted as its frames pass, for Istio's metrics.
 */
#ifndef LT_PROXY_TOLD_MESSAGES_H
#define LT_PROXY_TOLD_MESSAGES_H

#include "base/list.h"
#include "proxy/filter/grpc_stats.h"

struct px_request;
struct px_worker;
struct lt_timer;

/* Of one direction. */
struct px_message_counter {
    struct px_grpc_counter counter;
    uint64_t told;
};

/* In the request's arena; px_request.messages, NULL: no gRPC, or nobody wants to know. */
struct px_messages {
    struct px_message_counter request, response;
    struct px_request *rq;
    struct lt_list link; /* in worker->messages_untold while some are not in the metrics */
    uint64_t tell_at_ns;
};

void px_messages_start(struct px_request *request);
void px_messages_count(struct px_messages *messages, struct px_message_counter *counter,
                       lt_str piece);
/* What is not told yet, into the metrics. */
void px_messages_tell(struct px_messages *messages);
/* Timer: px_worker.messages_tell. */
void px_messages_on_tell(struct lt_timer *timer, uint64_t now_ns);

#endif
