/*
 * ctl/dns_msg.c - reading a query, writing its answer.
 * Start at: ctl_dns_answer().
 */
#include "ctl/dns_msg.h"

enum {
    HEADER = 12,
    QR = 0x8000,
    OPCODE = 0x7800,
    AA = 0x0400,
    TC = 0x0200,
    RD = 0x0100,
    RA = 0x0080,
    TYPE_A = 1,
    TYPE_OPT = 41,
    TYPE_ANY = 255,
    CLASS_IN = 1,
    RCODE_FORMAT = 1,
    RCODE_NXDOMAIN = 3,
    RCODE_NOT_DONE = 4,
    UDP_PLAIN_MAX = 512,
    RECORD_A = 16, /* pointer, type, class, TTL, length, address */
    RECORD_OPT = 11,
};

struct query {
    uint16_t id;
    uint16_t flags;
    size_t question_end; /* offset behind the only question */
    uint16_t type;
    uint16_t class;
    char name[CTL_DNS_NAME_MAX];
    size_t name_len;
    bool has_edns;
    size_t udp_max;
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/*
 * The name of a question: no compression there (nothing it could point at). Dots inside labels make
 * it unknown, not wrong.
 */
static lt_rc read_name(const uint8_t *bytes, size_t len, size_t *at, struct query *q)
{
    size_t out = 0;
    for (;;) {
        if (*at >= len)
            return LT_E_BAD;
        size_t label = bytes[(*at)++];
        if (label == 0)
            break;
        if (label > 63 || *at + label > len || out + label + 1 >= CTL_DNS_NAME_MAX)
            return LT_E_BAD;
        if (out > 0)
            q->name[out++] = '.';
        for (size_t i = 0; i < label; i++)
            q->name[out++] = (char)lower(bytes[*at + i]);
        *at += label;
    }
    q->name_len = out;
    return LT_OK;
}

/*
 * An OPT record is the one thing looked for behind the question; anything unexpected there is
 * passed over.
 */
static void read_edns(const uint8_t *bytes, size_t len, size_t at, unsigned records,
                      struct query *q)
{
    if (records == 0 || at + RECORD_OPT > len || bytes[at] != 0 ||
        get16(bytes + at + 1) != TYPE_OPT)
        return;
    q->has_edns = true;
    q->udp_max = LT_MIN(LT_MAX((size_t)get16(bytes + at + 3), (size_t)UDP_PLAIN_MAX),
                        (size_t)CTL_DNS_UDP_MAX);
}

static lt_rc read_query(const uint8_t *bytes, size_t len, struct query *q)
{
    if (get16(bytes + 4) != 1 || get16(bytes + 6) != 0 || get16(bytes + 8) != 0)
        return LT_E_BAD;
    size_t at = HEADER;
    LT_TRY(read_name(bytes, len, &at, q));
    if (at + 4 > len)
        return LT_E_BAD;
    q->type = get16(bytes + at);
    q->class = get16(bytes + at + 2);
    q->question_end = at + 4;
    read_edns(bytes, len, q->question_end, get16(bytes + 10), q);
    return LT_OK;
}

struct answer {
    uint8_t *out;
    size_t len;
    size_t max;
};

static bool add_address(struct answer *a, uint32_t addr)
{
    if (a->len + RECORD_A > a->max)
        return false;
    uint8_t *at = a->out + a->len;
    put16(at, 0xc000 | HEADER); /* the question's name */
    put16(at + 2, TYPE_A);
    put16(at + 4, CLASS_IN);
    put16(at + 6, 0);
    put16(at + 8, CTL_DNS_TTL_S);
    put16(at + 10, 4);
    put16(at + 12, (uint16_t)(addr >> 16));
    put16(at + 14, (uint16_t)addr);
    a->len += RECORD_A;
    return true;
}

static void add_edns(struct answer *a)
{
    uint8_t *at = a->out + a->len;
    memset(at, 0, RECORD_OPT);
    put16(at + 1, TYPE_OPT);
    put16(at + 3, CTL_DNS_UDP_MAX);
    a->len += RECORD_OPT;
}

static void write_header(struct answer *a, const struct query *q, uint16_t flags,
                         unsigned questions, unsigned answers, unsigned additional)
{
    put16(a->out, q->id);
    put16(a->out + 2, (uint16_t)(QR | (q->flags & (OPCODE | RD)) | RA | flags));
    put16(a->out + 4, (uint16_t)questions);
    put16(a->out + 6, (uint16_t)answers);
    put16(a->out + 8, 0);
    put16(a->out + 10, (uint16_t)additional);
}

static void write_answer(struct answer *a, lt_str query, const struct query *q,
                         ctl_dns_lookup_fn *lookup, void *ctx)
{
    uint32_t addrs[CTL_DNS_ADDRS_MAX];
    size_t count = 0;
    unsigned written = 0;
    memcpy(a->out + HEADER, query.ptr + HEADER, q->question_end - HEADER);
    a->len = q->question_end;
    size_t edns = q->has_edns ? RECORD_OPT : 0;
    a->max -= edns;
    bool exists = q->class == CLASS_IN &&
                  lookup(ctx, lt_str_make(q->name, q->name_len), addrs, &count);
    uint16_t flags = (uint16_t)(AA | (exists ? 0 : RCODE_NXDOMAIN));
    if (exists && (q->type == TYPE_A || q->type == TYPE_ANY)) {
        while (written < count && add_address(a, addrs[written]))
            written++;
        if (written < count)
            flags |= TC;
    }
    a->max += edns;
    if (q->has_edns)
        add_edns(a);
    write_header(a, q, flags, 1, written, q->has_edns ? 1 : 0);
}

void ctl_dns_answer(lt_str query, bool is_udp, ctl_dns_lookup_fn *lookup, void *ctx, void *out,
                    size_t out_max, size_t *ret_len)
{
    const uint8_t *bytes = (const uint8_t *)query.ptr;
    struct answer a = {.out = out, .len = HEADER, .max = out_max};
    struct query q = {.udp_max = UDP_PLAIN_MAX};
    *ret_len = 0;
    if (query.len < HEADER || out_max < UDP_PLAIN_MAX)
        return;
    q.id = get16(bytes);
    q.flags = get16(bytes + 2);
    if (q.flags & QR)
        return;
    if ((q.flags & OPCODE) != 0) {
        write_header(&a, &q, RCODE_NOT_DONE, 0, 0, 0);
    } else if (read_query(bytes, query.len, &q) != LT_OK) {
        write_header(&a, &q, RCODE_FORMAT, 0, 0, 0);
    } else {
        if (is_udp)
            a.max = LT_MIN(a.max, q.udp_max);
        write_answer(&a, query, &q, lookup, ctx);
    }
    *ret_len = a.len;
}
