/*
 * proxy/run/exchange.c - the preface of istio-peer-exchange.
 * Trust: it comes from whoever has a certificate of the mesh.
 */
#include "proxy/run/exchange.h"

#include "proxy/run/run.h"
#include "proxy/told/count.h"

enum { MAGIC = 0x3D230467 };

/* --- bytes --- */

static void put_u32(char *out, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        out[i] = (char)(number >> (24 - 8 * i));
}

static uint32_t get_u32(const char *in)
{
    uint32_t number = 0;
    for (int i = 0; i < 4; i++)
        number = number << 8 | (unsigned char)in[i];
    return number;
}

lt_str px_preface_make(struct lt_arena *arena, lt_str message)
{
    char *out = lt_arena_bytes(arena, PX_PREFACE_HEAD + message.len);
    put_u32(out, MAGIC);
    put_u32(out + 4, (uint32_t)message.len);
    memcpy(out + PX_PREFACE_HEAD, message.ptr, message.len);
    return lt_str_make(out, PX_PREFACE_HEAD + message.len);
}

lt_rc px_preface_read(lt_str bytes, lt_str *ret_message)
{
    char magic[4];
    put_u32(magic, MAGIC);
    if (bytes.len > 0 && memcmp(bytes.ptr, magic, LT_MIN(bytes.len, sizeof(magic))) != 0)
        return LT_E_NOT_FOUND;
    if (bytes.len < PX_PREFACE_HEAD)
        return LT_AGAIN;
    uint32_t len = get_u32(bytes.ptr + 4);
    if (len > PX_PREFACE_MAX)
        return LT_E_LIMIT;
    if (bytes.len - PX_PREFACE_HEAD < len)
        return LT_AGAIN;
    *ret_message = lt_str_slice(bytes, PX_PREFACE_HEAD, PX_PREFACE_HEAD + len);
    return LT_OK;
}

/* --- a connection --- */

static void count(struct px_worker *worker, const char *name)
{
    struct px_stat stat = {.name = lt_str_of(name), .pattern = lt_str_of(name)};
    static const char dotted[] = "metadata_exchange.";
    char family[64] = "envoy_metadata_exchange_";
    strncat(family, name + sizeof(dotted) - 1, sizeof(family) - strlen(family) - 1);
    stat.family = lt_str_of(family);
    px_stat_add(worker, &stat, 1);
}

void px_exchange_begin(struct px_exchange *exchange, struct px_worker *worker,
                       const struct lt_transport *transport)
{
    bool is_agreed = transport->tls != NULL && lt_str_eqz(lt_tls_alpn(transport), PX_EXCHANGE_ALPN);
    count(worker, is_agreed ? "metadata_exchange.alpn_protocol_found"
                            : "metadata_exchange.alpn_protocol_not_found");
    if (!is_agreed)
        return;
    exchange->out = px_telemetry_preface(worker->telemetry);
    exchange->waits = true;
}

lt_rc px_exchange_write(struct px_exchange *exchange, struct lt_transport *transport,
                        bool *can_write)
{
    while (exchange->out.len > 0) {
        struct iovec iov = {(void *)exchange->out.ptr, exchange->out.len};
        size_t put = 0;
        lt_rc rc = *can_write ? lt_transport_writev(transport, &iov, 1, &put) : LT_AGAIN;
        if (rc == LT_AGAIN)
            *can_write = false;
        if (rc != LT_OK)
            return rc;
        exchange->out = lt_str_from(exchange->out, put);
    }
    return LT_OK;
}

/* LT_AGAIN: not whole yet. */
static lt_rc take(struct px_exchange *exchange, struct px_worker *worker, struct px_input *in,
                  const char *principal, struct px_peer **ret_peer)
{
    lt_str message;
    lt_rc rc = px_preface_read(px_input_unread(in), &message);
    if (rc == LT_AGAIN)
        return rc;
    exchange->waits = false;
    if (rc == LT_E_NOT_FOUND) {
        count(worker, "metadata_exchange.initial_header_not_found");
        return LT_OK;
    }
    if (rc != LT_OK) {
        count(worker, "metadata_exchange.header_not_found");
        return LT_E_BAD;
    }
    *ret_peer = px_telemetry_read_preface(worker->telemetry, message, principal);
    if (*ret_peer != NULL)
        count(worker, "metadata_exchange.metadata_added");
    in->pos += (uint32_t)(PX_PREFACE_HEAD + message.len);
    return LT_OK;
}

lt_rc px_exchange_read(struct px_exchange *exchange, struct px_worker *worker, struct px_input *in,
                       struct lt_transport *transport, bool *can_read, const char *principal,
                       struct px_peer **ret_peer)
{
    while (exchange->waits) {
        lt_rc rc = in->data != NULL && in->end > in->pos
                       ? take(exchange, worker, in, principal, ret_peer)
                       : LT_AGAIN;
        if (rc != LT_AGAIN)
            return rc;
        rc = *can_read ? px_input_read(worker, in, transport, can_read) : LT_AGAIN;
        if (rc == LT_E_LIMIT)
            rc = px_input_grow(worker, in, PX_PREFACE_HEAD + PX_PREFACE_MAX);
        if (rc == LT_EOF)
            exchange->waits = false; /* what came goes on as it is */
        if (rc != LT_OK)
            return rc;
    }
    return LT_OK;
}
