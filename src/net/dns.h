/*
 * net/dns.h - host names to addresses by DNS itself, on the loop and without threads: for names
 * that are asked for again and again, with their times to live. Wire format and retries are
 * c-ares'. For a program's few own connections: net/resolve.h, which asks as the system does.
 * Trust: answers are a stranger's; they are bounded in number and belong to the question.
 * Start at: lt_dns_new(), lt_dns_ask().
 */
#ifndef LT_NET_DNS_H
#define LT_NET_DNS_H

#include "net/addr.h"
#include "net/loop.h"

struct lt_dns;
struct lt_dns_query;

enum { LT_DNS_ADDRS_MAX = 1024, LT_DNS_NAME_MAX = 253 };

struct lt_dns_opts {
    const struct lt_addr *servers; /* none: those of /etc/resolv.conf */
    size_t server_count;
    bool servers_are_fallback; /* only when the system names none */
    bool uses_tcp;
    bool has_no_search; /* names are taken as they are */
    bool rotates;
    uint32_t tries;      /* 0: c-ares' default */
    uint32_t timeout_ms; /* of the first try; likewise */
};

/* What was asked with these options shares sockets. opts is copied. */
struct lt_dns *lt_dns_new(struct lt_loop *loop, const struct lt_dns_opts *opts);
/* Open questions are told nothing. */
void lt_dns_free(struct lt_dns **dns);

struct lt_dns_addr {
    struct lt_addr addr; /* without port */
    uint32_t ttl_s;
};

/*
 * Once, from the loop, after lt_dns_ask has returned. LT_OK: count > 0, in the order of the answer.
 * LT_E_NOT_FOUND: there is no such name, or it has no address of that family. LT_E_IO: nobody gave
 * an answer that could be used. reason: for people.
 */
typedef void lt_dns_fn(void *ctx, lt_rc rc, const struct lt_dns_addr *addrs, size_t count,
                       const char *reason);

/* family: AF_INET, AF_INET6, or AF_UNSPEC for both. */
struct lt_dns_query *lt_dns_ask(struct lt_dns *dns, lt_str name, int family, lt_dns_fn *on_done,
                                void *ctx);
/* No callback comes any more. Accepts NULL inside. */
void lt_dns_cancel(struct lt_dns_query **query);

#endif
