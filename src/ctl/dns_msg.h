/*
 * ctl/dns_msg.h - one DNS query in, one answer out (messages: net/dns_msg.h).
 * No I/O, no heap. Names come from a lookup function; queries for what it does not know get
 * NXDOMAIN: a mesh has no resolver above it.
 * Trust: queries were written by a stranger.   Start at: ctl_dns_answer().
 */
#ifndef LT_CTL_DNS_MSG_H
#define LT_CTL_DNS_MSG_H

#include "net/dns_msg.h"

enum {
    CTL_DNS_NAME_MAX = LT_DNS_TEXT_MAX,
    CTL_DNS_UDP_MAX = LT_DNS_UDP_MAX,
    CTL_DNS_TCP_MAX = LT_DNS_MSG_MAX,
    CTL_DNS_ADDRS_MAX = 256,
    CTL_DNS_TTL_S = 5, /* CoreDNS's for cluster names */
};

/*
 * name: lower case, dotted, without the last dot. Fills at most CTL_DNS_ADDRS_MAX addresses (host
 * order) and returns true when the name exists, also without any address.
 */
typedef bool ctl_dns_lookup_fn(void *ctx, lt_str name, uint32_t *addrs, size_t *ret_count);

/*
 * Answers `query` into out (room for out_max bytes). *ret_len 0: no answer is due (not a query, or
 * too short to tell). Over UDP, answers that are larger than the client takes are cut and marked
 * (TC).
 */
void ctl_dns_answer(lt_str query, bool is_udp, ctl_dns_lookup_fn *lookup, void *ctx, void *out,
                    size_t out_max, size_t *ret_len);

#endif
