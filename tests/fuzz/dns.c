/*
 * tests/fuzz/dns.c - ctl_dns_answer: any query, over UDP and TCP.
 * An answer is at least a header, has the query's id, is marked as an answer, and fits where it
 * should.
 */
#include <stdint.h>

#include "ctl/dns_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As many addresses as the name has bytes; names with an 'x' in front are not known. */
static bool look_up(void *ctx, lt_str name, uint32_t *addrs, size_t *ret_count)
{
    (void)ctx;
    LT_ASSERT(name.len < CTL_DNS_NAME_MAX);
    for (size_t i = 0; i < name.len; i++)
        addrs[i] = (uint32_t)(unsigned char)name.ptr[i];
    *ret_count = name.len;
    return name.len == 0 || name.ptr[0] != 'x';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[CTL_DNS_TCP_MAX];
    for (int is_udp = 0; is_udp < 2; is_udp++) {
        size_t room = is_udp ? CTL_DNS_UDP_MAX : sizeof(out), len;
        ctl_dns_answer(lt_str_make(data, size), is_udp != 0, look_up, NULL, out, room, &len);
        LT_ASSERT(len == 0 ||
                  (len >= 12 && len <= room && memcmp(out, data, 2) == 0 && (out[2] & 0x80) != 0));
    }
    return 0;
}
