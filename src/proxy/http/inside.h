/*
 * proxy/http/inside.h - requests that no client has sent: the proxy's own (JWKS, external
 * authorization), and copies of clients' requests for mirrors. They go through the clusters like
 * all others, with their pools, limits and counters, but take no steps and leave no log.
 * Everything here belongs to one worker.
 */
#ifndef LT_PROXY_HTTP_INSIDE_H
#define LT_PROXY_HTTP_INSIDE_H

#include "http/headers.h"
#include "proxy/conf/conf.h"

struct px_worker;
struct px_request;
struct px_fetch;

struct px_fetch_result {
    uint32_t status;                   /* 0: no response; a reply of our own counts as none */
    const struct lt_headers *headers;  /* NULL when there is no response */
    const struct lt_headers *trailers; /* NULL when there are none */
    lt_str body;
    const char *failure; /* when status is 0: response code details */
};

/* Once, at the end, not if it is cancelled. The result is borrowed for the call. */
typedef void px_fetch_fn(void *ctx, const struct px_fetch_result *result);

struct px_fetch_opts {
    lt_str cluster; /* all strings are copied */
    lt_str method, scheme, authority, path;
    const struct lt_header *headers; /* of them the names in lower case */
    size_t header_count;
    lt_str body;
    bool says_length;             /* of an empty body, too */
    uint64_t timeout_ms;          /* 0: none */
    const struct px_retry *retry; /* copied, but for its lists; NULL: none */
    size_t body_bytes_max;        /* of the response; more fails it */
    px_fetch_fn *on_done;
    void *ctx;
};

/*
 * Starts it; on_done comes later, never inside this call. With "te: trailers" and a content-type of
 * gRPC among the headers this is a unary call. *ret_fetch is owned by the caller until on_done or
 * px_fetch_cancel.
 */
void px_fetch_start(struct px_worker *worker, const struct px_fetch_opts *opts,
                    struct px_fetch **ret_fetch);
/* Accepts NULL inside; on_done does not come any more. */
void px_fetch_cancel(struct px_fetch **fetch);

/* At the end of a worker: whoever still waits is told nothing. */
void px_inside_free(struct px_worker *worker);

#endif
