/*
 * net/dns_msg.c - reading a query, writing its answer.
 * Start at: lt_dns_question_read(), lt_dns_write_begin().
 */
#include "net/dns_msg.h"

enum {
    QR = 0x8000,
    OPCODE = 0x7800,
    RD = 0x0100,
    RA = 0x0080,
    TYPE_OPT = 41,
    LABEL_MAX = 63,
    POINTER = 0xc000,
    RECORD_HEAD = 12, /* pointer, type, class, TTL, length */
    RECORD_OPT = 11,
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

/* --- queries --- */

/*
 * The name of a question: no compression there (nothing it could point at). Dots inside labels make
 * it unknown, not wrong.
 */
static lt_rc read_name(const uint8_t *bytes, size_t len, size_t *at, struct lt_dns_question *q)
{
    size_t out = 0;
    for (;;) {
        if (*at >= len)
            return LT_E_BAD;
        size_t label = bytes[(*at)++];
        if (label == 0)
            break;
        if (label > LABEL_MAX || *at + label > len || out + label + 1 >= LT_DNS_TEXT_MAX)
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
                      struct lt_dns_question *q)
{
    if (records == 0 || at + RECORD_OPT > len || bytes[at] != 0 ||
        get16(bytes + at + 1) != TYPE_OPT)
        return;
    q->has_edns = true;
    q->udp_max = LT_MIN(LT_MAX((size_t)get16(bytes + at + 3), (size_t)LT_DNS_UDP_LEAST),
                        (size_t)LT_DNS_UDP_MAX);
}

static lt_rc read_question(const uint8_t *bytes, size_t len, struct lt_dns_question *q)
{
    if (get16(bytes + 4) != 1 || get16(bytes + 6) != 0 || get16(bytes + 8) != 0)
        return LT_E_BAD;
    size_t at = LT_DNS_HEADER;
    LT_TRY(read_name(bytes, len, &at, q));
    if (at + 4 > len)
        return LT_E_BAD;
    q->type = get16(bytes + at);
    q->class = get16(bytes + at + 2);
    q->end = at + 4;
    read_edns(bytes, len, q->end, get16(bytes + 10), q);
    return LT_OK;
}

lt_rc lt_dns_question_read(lt_str message, struct lt_dns_question *q)
{
    const uint8_t *bytes = (const uint8_t *)message.ptr;
    *q = (struct lt_dns_question){.udp_max = LT_DNS_UDP_LEAST};
    if (message.len < LT_DNS_HEADER)
        return LT_AGAIN;
    q->id = get16(bytes);
    q->flags = get16(bytes + 2);
    if ((q->flags & QR) != 0)
        return LT_AGAIN;
    if ((q->flags & OPCODE) != 0)
        return LT_E_UNSUPPORTED;
    return read_question(bytes, message.len, q);
}

/* --- answers --- */

static void write_header(uint8_t *out, const struct lt_dns_question *q, unsigned flags,
                         unsigned questions, unsigned answers, unsigned additional)
{
    put16(out, q->id);
    put16(out + 2, (uint16_t)(QR | (q->flags & (OPCODE | RD)) | RA | flags));
    put16(out + 4, (uint16_t)questions);
    put16(out + 6, (uint16_t)answers);
    put16(out + 8, 0);
    put16(out + 10, (uint16_t)additional);
}

size_t lt_dns_write_error(const struct lt_dns_question *question, unsigned code, void *out)
{
    write_header(out, question, code, 0, 0, 0);
    return LT_DNS_HEADER;
}

void lt_dns_write_begin(struct lt_dns_writer *writer, const struct lt_dns_question *question,
                        lt_str query, bool is_udp, void *out, size_t max)
{
    LT_ASSERT(max >= LT_DNS_UDP_LEAST && question->end <= query.len);
    *writer = (struct lt_dns_writer){.question = question,
                                     .out = out,
                                     .len = question->end,
                                     .max = is_udp ? LT_MIN(max, question->udp_max) : max,
                                     .owner = LT_DNS_HEADER};
    writer->max -= question->has_edns ? RECORD_OPT : 0;
    memcpy(writer->out + LT_DNS_HEADER, query.ptr + LT_DNS_HEADER, question->end - LT_DNS_HEADER);
}

/* What comes before a record's data. False: no room for both. */
static bool put_head(struct lt_dns_writer *writer, uint16_t type, uint32_t ttl_s, size_t len)
{
    if (writer->len + RECORD_HEAD + len > writer->max) {
        writer->flags |= LT_DNS_TC;
        return false;
    }
    uint8_t *at = writer->out + writer->len;
    put16(at, (uint16_t)(POINTER | writer->owner));
    put16(at + 2, type);
    put16(at + 4, LT_DNS_CLASS_IN);
    put16(at + 6, (uint16_t)(ttl_s >> 16));
    put16(at + 8, (uint16_t)ttl_s);
    put16(at + 10, (uint16_t)len);
    writer->len += RECORD_HEAD;
    writer->count++;
    return true;
}

/* Labels as they go on the wire; 0: it is no name. */
static size_t encode(lt_str name, uint8_t out[LT_DNS_TEXT_MAX + 1])
{
    size_t len = 0;
    lt_str label;
    if (name.len == 0 || name.len >= LT_DNS_TEXT_MAX)
        return 0;
    while (lt_str_split(&name, '.', &label)) {
        if (label.len == 0 || label.len > LABEL_MAX)
            return 0;
        out[len++] = (uint8_t)label.len;
        memcpy(out + len, label.ptr, label.len);
        len += label.len;
    }
    out[len++] = 0;
    return len;
}

bool lt_dns_write_alias(struct lt_dns_writer *writer, lt_str target, uint32_t ttl_s)
{
    uint8_t name[LT_DNS_TEXT_MAX + 1];
    size_t len = encode(target, name);
    if (len == 0 || !put_head(writer, LT_DNS_TYPE_CNAME, ttl_s, len))
        return false;
    writer->owner = writer->len;
    memcpy(writer->out + writer->len, name, len);
    writer->len += len;
    return true;
}

bool lt_dns_write_address(struct lt_dns_writer *writer, const void *bytes, size_t len,
                          uint32_t ttl_s)
{
    if (!put_head(writer, len == 4 ? LT_DNS_TYPE_A : LT_DNS_TYPE_AAAA, ttl_s, len))
        return false;
    memcpy(writer->out + writer->len, bytes, len);
    writer->len += len;
    return true;
}

size_t lt_dns_write_end(struct lt_dns_writer *writer, unsigned flags)
{
    const struct lt_dns_question *q = writer->question;
    if (q->has_edns) {
        uint8_t *at = writer->out + writer->len;
        memset(at, 0, RECORD_OPT);
        put16(at + 1, TYPE_OPT);
        put16(at + 3, LT_DNS_UDP_MAX);
        writer->len += RECORD_OPT;
    }
    write_header(writer->out, q, flags | writer->flags, 1, writer->count, q->has_edns ? 1 : 0);
    return writer->len;
}
