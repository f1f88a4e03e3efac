/*
 * proxy/health/check_priv.h - private to check_ask.c, check_h1.c and check_h2.c: one question in
 * the making.
 */
#ifndef LT_PROXY_HEALTH_CHECK_PRIV_H
#define LT_PROXY_HEALTH_CHECK_PRIV_H

#include "http/h1.h"
#include "http/h2.h"
#include "proxy/health/check_ask.h"

typedef enum { PX_ASK_NONE, PX_ASK_CONNECTING, PX_ASK_HANDSHAKE, PX_ASK_OPEN } px_ask_state;

struct px_asker {
    struct px_asker_opts opts;
    char *authority; /* owned; opts.authority points here */
    struct lt_transport transport;
    struct lt_io io;
    struct lt_timer timer; /* the question's */
    struct lt_task task;   /* an answer that was known at once */
    px_ask_state state;
    bool is_asked;          /* a question is open */
    bool is_sent;           /* it was written, or is in out */
    bool is_closing;        /* no other question over this connection */
    px_check_result result; /* for task */
    struct lt_arena *arena; /* owned; of one question */
    struct lt_buf out, in, body;
    struct lt_h1_parser parser;
    struct lt_http_head head; /* of the answer */
    bool has_head;
    struct lt_h2_conn *h2; /* owned; HTTP/2 and gRPC */
    struct lt_h2_stream *stream;
    lt_str grpc_status; /* in the arena; of headers or trailers */
};

/*
 * What all three do: `start` writes the question, `took` looks at new bytes in `in`. LT_OK: go on;
 * LT_AGAIN: more bytes are needed; LT_EOF: *ret_result is the answer; else the connection is of no
 * use.
 */
lt_rc px_ask_h1_start(struct px_asker *asker);
lt_rc px_ask_h1_took(struct px_asker *asker, bool is_end, px_check_result *ret_result);
lt_rc px_ask_h2_start(struct px_asker *asker);
lt_rc px_ask_h2_took(struct px_asker *asker, bool is_end, px_check_result *ret_result);
/* Bytes came while no question is open: settings, pings. */
lt_rc px_ask_h2_idle(struct px_asker *asker);
/* Output of the engine into `out`. */
lt_rc px_ask_h2_drain(struct px_asker *asker);

/* The head and the body of an answer over HTTP. */
px_check_result px_ask_judge(const struct px_asker *asker);
/* All payloads, one behind the other, are somewhere in it. */
bool px_ask_matches(const struct px_check_conf *conf, lt_str bytes);
/* Host, what the configuration adds, and who asks. */
LT_MUST lt_rc px_ask_add_headers(const struct px_asker *asker, struct lt_headers *headers);

#endif
