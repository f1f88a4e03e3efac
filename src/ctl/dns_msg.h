/*
 * ctl/dns_msg.h - one DNS query in, one answer out (RFC 1035, EDNS of RFC 6891 as far as sizes go).
 * No I/O, no heap. Names come from a lookup function; queries for what it does not know get
 * NXDOMAIN: a mesh has no resolver above it.
 * Trust: queries were written by a stranger.   Start at: ctl_dns_answer().
 */
#ifndef LT_CTL_DNS_MSG_H
#define LT_CTL_DNS_MSG_H

#include "base/str.h"

enum {
    CTL_DNS_NAME_MAX = 254, /* dotted text with a NUL: RFC 1035 section 2.3.4 */
    CTL_DNS_UDP_MAX = 1232, /* what we send by UDP at most, whatever the client would take */
    CTL_DNS_TCP_MAX = 65535,
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
