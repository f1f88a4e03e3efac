/*
 * net/dns_server.h - the sockets of a DNS server: questions by UDP and TCP, and where their answers
 * go. What is answered is the caller's to say, at once or later; messages: dns_msg.h.
 * Trust: whoever reaches the port may ask; connections, sizes and times are limited.
 * Start at: lt_dns_server_new(), lt_dns_server_open().
 */
#ifndef LT_NET_DNS_SERVER_H
#define LT_NET_DNS_SERVER_H

#include "net/addr.h"
#include "net/loop.h"

struct lt_dns_server;
/* A question, from when it came until it is answered or its client has gone. */
struct lt_dns_request;

/*
 * LT_OK: *ret_len bytes of out are the answer; 0: none is due, and a connection ends. LT_AGAIN: the
 * request was kept, and is answered later.
 */
typedef lt_rc lt_dns_serve_fn(void *ctx, struct lt_dns_request *request, lt_str query, void *out,
                              size_t max, size_t *ret_len);
/* The client of a request that was kept has gone; so is the request then. */
typedef void lt_dns_forget_fn(void *ctx, void *user);

struct lt_dns_server_opts {
    struct lt_loop *loop; /* borrowed */
    lt_dns_serve_fn *serve;
    lt_dns_forget_fn *forget; /* may be NULL if no request is ever kept */
    void *ctx;
    uint32_t conns_max; /* by TCP, at once */
    uint32_t conn_timeout_s;
};

struct lt_dns_server *lt_dns_server_new(const struct lt_dns_server_opts *opts);
/* Requests that were kept are forgotten. */
void lt_dns_server_free(struct lt_dns_server **server);

enum { LT_DNS_DOORS_MAX = 2 };

/* A pair of sockets that are bound to one address. */
struct lt_dns_door {
    struct lt_addr addr;
    int udp_fd, tcp_fd;
};

/*
 * Binds addr in the namespace that the caller is in, or takes over the descriptors that are 0 or
 * more (also when it fails). Answers only once lt_dns_server_accept was called.
 */
LT_MUST lt_rc lt_dns_server_open(struct lt_dns_server *server, const struct lt_dns_door *door,
                                 struct lt_err *err);
void lt_dns_server_accept(struct lt_dns_server *server);
/* Takes no more questions; those that are here are answered. */
void lt_dns_server_leave(struct lt_dns_server *server);
/* Borrowed descriptors. */
size_t lt_dns_server_doors(const struct lt_dns_server *server,
                           struct lt_dns_door out[LT_DNS_DOORS_MAX]);
/* Connections that there was no room for. */
uint64_t lt_dns_server_refused(const struct lt_dns_server *server);

/* --- requests --- */

bool lt_dns_request_is_udp(const struct lt_dns_request *request);
/* Only while it is being served. Valid until it is answered, dropped or forgotten. */
struct lt_dns_request *lt_dns_request_keep(struct lt_dns_request *request);
void lt_dns_request_set_user(struct lt_dns_request *request, void *user);
/* As if it had not been kept: it is answered at once. */
void lt_dns_request_drop(struct lt_dns_request **request);
/* Not while it is being served. */
void lt_dns_request_answer(struct lt_dns_request **request, lt_str answer);

#endif
