/*
 * net/dns_msg.h - DNS messages for those who answer: a query read, an answer written (RFC 1035,
 * EDNS of RFC 6891 as far as sizes go). No I/O, no heap. Not here: asking (dns.h). Trust: queries
 * were written by a stranger.   Start at: lt_dns_question_read().
 */
#ifndef LT_NET_DNS_MSG_H
#define LT_NET_DNS_MSG_H

#include "base/str.h"

enum {
    LT_DNS_TEXT_MAX = 254, /* dotted text with a NUL: RFC 1035 section 2.3.4 */
    LT_DNS_UDP_MAX = 1232, /* what we send by UDP at most, whatever the client would take */
    LT_DNS_UDP_LEAST = 512,
    LT_DNS_MSG_MAX = 65535,
    LT_DNS_HEADER = 12,
    LT_DNS_TYPE_A = 1,
    LT_DNS_TYPE_CNAME = 5,
    LT_DNS_TYPE_AAAA = 28,
    LT_DNS_TYPE_ANY = 255,
    LT_DNS_CLASS_IN = 1,
    /* flags of an answer */
    LT_DNS_AA = 0x0400,
    LT_DNS_TC = 0x0200,
    LT_DNS_OK = 0,
    LT_DNS_FORMAT = 1,
    LT_DNS_SERVER_FAILURE = 2,
    LT_DNS_NXDOMAIN = 3,
    LT_DNS_NOT_DONE = 4,
};

struct lt_dns_question {
    uint16_t id, flags;
    uint16_t type, class;
    size_t end;     /* offset behind the only question */
    size_t udp_max; /* what the client takes by UDP, and we send */
    bool has_edns;
    size_t name_len;
    char name[LT_DNS_TEXT_MAX]; /* lower case, dotted, without the last dot */
};

static inline lt_str lt_dns_question_name(const struct lt_dns_question *question)
{
    return lt_str_make(question->name, question->name_len);
}

/*
 * LT_AGAIN: not a query, or too short to tell: no answer is due. LT_E_UNSUPPORTED, LT_E_BAD: an
 * error is (lt_dns_write_error with LT_DNS_NOT_DONE, LT_DNS_FORMAT); id and flags are set.
 */
LT_MUST lt_rc lt_dns_question_read(lt_str message, struct lt_dns_question *ret_question);
/* Only the header; returns its length. */
size_t lt_dns_write_error(const struct lt_dns_question *question, unsigned code, void *out);

/* --- an answer with records --- */

struct lt_dns_writer {
    const struct lt_dns_question *question;
    uint8_t *out;
    size_t len, max;
    size_t owner; /* offset of the name that the next address belongs to */
    unsigned count;
    uint16_t flags;
};

/* max: at least LT_DNS_UDP_LEAST. Over UDP what the client takes is a limit, too. */
void lt_dns_write_begin(struct lt_dns_writer *writer, const struct lt_dns_question *question,
                        lt_str query, bool is_udp, void *out, size_t max);
/*
 * The name that was asked for is an alias of target; addresses that follow are target's. False: no
 * room (LT_DNS_TC is set), or no name.
 */
bool lt_dns_write_alias(struct lt_dns_writer *writer, lt_str target, uint32_t ttl_s);
/* bytes: 4 of an A, 16 of an AAAA. False: no room; LT_DNS_TC is set. */
bool lt_dns_write_address(struct lt_dns_writer *writer, const void *bytes, size_t len,
                          uint32_t ttl_s);
/* flags: LT_DNS_AA and a code. Returns the message's length. */
size_t lt_dns_write_end(struct lt_dns_writer *writer, unsigned flags);

#endif
