/*
 * ctl/dns_msg.c - a query of the mesh's names, answered.
 * Start at: ctl_dns_answer().
 */
#include "ctl/dns_msg.h"

static size_t write_answer(const struct lt_dns_question *q, lt_str query, bool is_udp,
                           ctl_dns_lookup_fn *lookup, void *ctx, void *out, size_t out_max)
{
    uint32_t addrs[CTL_DNS_ADDRS_MAX];
    size_t count = 0;
    struct lt_dns_writer writer;
    lt_dns_write_begin(&writer, q, query, is_udp, out, out_max);
    bool exists = q->class == LT_DNS_CLASS_IN &&
                  lookup(ctx, lt_dns_question_name(q), addrs, &count);
    bool wants_addrs = q->type == LT_DNS_TYPE_A || q->type == LT_DNS_TYPE_ANY;
    for (size_t i = 0; exists && wants_addrs && i < count; i++) {
        const uint8_t bytes[] = {(uint8_t)(addrs[i] >> 24), (uint8_t)(addrs[i] >> 16),
                                 (uint8_t)(addrs[i] >> 8), (uint8_t)addrs[i]};
        if (!lt_dns_write_address(&writer, bytes, sizeof(bytes), CTL_DNS_TTL_S))
            break;
    }
    return lt_dns_write_end(&writer, LT_DNS_AA | (exists ? LT_DNS_OK : LT_DNS_NXDOMAIN));
}

void ctl_dns_answer(lt_str query, bool is_udp, ctl_dns_lookup_fn *lookup, void *ctx, void *out,
                    size_t out_max, size_t *ret_len)
{
    struct lt_dns_question question;
    *ret_len = 0;
    if (out_max < LT_DNS_UDP_LEAST)
        return;
    switch (lt_dns_question_read(query, &question)) {
    case LT_OK:
        *ret_len = write_answer(&question, query, is_udp, lookup, ctx, out, out_max);
        return;
    case LT_AGAIN: return;
    case LT_E_UNSUPPORTED: *ret_len = lt_dns_write_error(&question, LT_DNS_NOT_DONE, out); return;
    default: *ret_len = lt_dns_write_error(&question, LT_DNS_FORMAT, out); return;
    }
}
