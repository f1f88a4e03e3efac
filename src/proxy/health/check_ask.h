/*
 * proxy/health/check_ask.h - asking one host whether it is well: over HTTP/1, HTTP/2, gRPC or plain
 * TCP, with the cluster's TLS. One question at a time; the connection is kept for the next if that
 * may be. Main thread only. What the answers mean for the host: check.h.
 * Trust: the host may be broken or hostile; what it says is bounded in size and time.
 * Start at: px_asker_ask().
 */
#ifndef LT_PROXY_HEALTH_CHECK_ASK_H
#define LT_PROXY_HEALTH_CHECK_ASK_H

#include "net/loop.h"
#include "net/tls.h"
#include "proxy/conf/conf.h"
#include "proxy/health/check.h"

struct px_asker;

struct px_asker_opts {
    struct lt_loop *loop;             /* borrowed */
    const struct px_check_conf *conf; /* borrowed */
    struct lt_addr addr;
    struct lt_addr source;         /* to bind to; len 0: none */
    lt_str authority;              /* copied */
    const struct px_tls_conf *tls; /* borrowed; NULL: plain */
    /* The context for it as of now; NULL: a secret is missing. */
    struct lt_tls_ctx *(*tls_ctx)(void *ctx, const struct px_tls_conf *tls);
    /* The answer to px_asker_ask(), once and from the loop; the asker may be freed in it. */
    void (*on_result)(void *ctx, px_check_result result, bool says_excluded);
    void *tls_arg, *ctx;
};

struct px_asker *px_asker_new(const struct px_asker_opts *opts);
/* Accepts NULL inside; no result comes any more. */
void px_asker_free(struct px_asker **asker);
/* Only when no question is open. */
void px_asker_ask(struct px_asker *asker);
/* True when it was asked and has not answered. */
bool px_asker_is_busy(const struct px_asker *asker);

#endif
