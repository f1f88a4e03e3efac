/*
 * http/client.h - one HTTP/1.1 request to one address, for the programs' own needs (probes,
 * scrapes, tokens). A connection a call. Not here: pools, retries, redirects (the data path has its
 * own).
 * Trust: the answer was written by a stranger; its size and time are limited.   Start at:
 * lt_call_start().
 */
#ifndef LT_HTTP_CLIENT_H
#define LT_HTTP_CLIENT_H

#include "http/h1.h"
#include "net/loop.h"
#include "net/tls.h"

struct lt_call;

struct lt_call_header {
    lt_str name;
    lt_str value;
};

/* All is copied by lt_call_start. */
struct lt_call_opts {
    struct lt_addr addr;   /* Unix sockets too */
    struct lt_addr source; /* bind to it; len 0: no */
    lt_str method;         /* empty: GET */
    lt_str target;         /* empty: "/" */
    lt_str host;           /* empty: the address ("localhost" for Unix sockets) */
    const struct lt_call_header *headers;
    size_t header_count;
    lt_str body;
    uint32_t timeout_ms;    /* for all of it; 0: 5 s */
    size_t body_bytes_max;  /* of the answer; 0: 1 MiB */
    struct lt_tls_ctx *tls; /* NULL: plain. A count is taken */
    lt_str sni;
};

struct lt_call_result {
    lt_rc rc;          /* LT_OK: there is an answer, whatever its status */
    const char *error; /* otherwise: what went wrong, for people */
    unsigned status;
    const struct lt_headers *headers; /* these and body live until on_done returns */
    lt_str body;
};

/* Called once, never before lt_call_start has returned. The call frees itself afterwards. */
typedef void lt_call_fn(struct lt_call *call, const struct lt_call_result *result, void *ctx);

struct lt_call *lt_call_start(struct lt_loop *loop, const struct lt_call_opts *opts,
                              lt_call_fn *on_done, void *ctx);
/* Ends it without a callback; only while on_done was not called. */
void lt_call_cancel(struct lt_call **call);

#endif
