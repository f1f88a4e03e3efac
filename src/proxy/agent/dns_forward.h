/*
 * proxy/agent/dns_forward.h - a DNS query passed on to a server of the system, and its answer. By
 * UDP from a port and with an id of its own, or by TCP. Trust: answers are a stranger's: taken when
 * they are of that socket, that id and that question.
 */
#ifndef LT_PROXY_AGENT_DNS_FORWARD_H
#define LT_PROXY_AGENT_DNS_FORWARD_H

#include "base/metric.h"
#include "net/addr.h"
#include "net/loop.h"

struct px_dns_forward;
struct px_dns_ask;

enum { PX_DNS_SERVERS_MAX = 8, PX_DNS_ASKS_MAX = 1024 };

/* As Istio's agent counts: questions that are passed on, and those that nobody answered. */
struct px_dns_forward_counts {
    struct lt_counter *requests, *failures, *refused; /* refused: PX_DNS_ASKS_MAX are under way */
    struct lt_histogram *took_s;                      /* also when nobody answered */
};

struct px_dns_forward_opts {
    struct lt_loop *loop;
    const struct lt_env *env;
    const struct lt_addr *servers;
    size_t server_count;
    uint64_t timeout_ns; /* of each server */
    bool asks_all;       /* at once, instead of one after the other */
    struct px_dns_forward_counts counts;
};

struct px_dns_forward *px_dns_forward_new(const struct px_dns_forward_opts *opts);
/* No question may be open. */
void px_dns_forward_free(struct px_dns_forward **forward);

/*
 * query: whole, with the client's id, which the answer has, too. question_end: behind its question.
 * on_done comes once, from the loop, with the answer; SERVFAIL when nobody gave any. The ask is
 * over then. NULL: too many, or no server.
 */
typedef void px_dns_done_fn(void *ctx, lt_str answer);
struct px_dns_ask *px_dns_forward_ask(struct px_dns_forward *forward, lt_str query,
                                      size_t question_end, bool is_tcp, px_dns_done_fn *on_done,
                                      void *ctx);
/* No callback comes any more. Accepts NULL inside. */
void px_dns_ask_cancel(struct px_dns_ask **ask);

#endif
