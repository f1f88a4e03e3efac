/*
 * proxy/run/exchange.h - Istio's exchange of peer metadata over raw TCP (istio.metadata_exchange):
 * who negotiated "istio-peer-exchange" sends a preface before its first byte, and takes its peer's
 * out of what it reads. HTTP has headers for that: telemetry.h.
 *
 *   0x3D230467 · length · Any{Struct{x-envoy-peer-metadata, x-envoy-peer-metadata-id}}
 */
#ifndef LT_PROXY_RUN_EXCHANGE_H
#define LT_PROXY_RUN_EXCHANGE_H

#include "proxy/run/input.h"
#include "proxy/told/telemetry.h"

#define PX_EXCHANGE_ALPN "istio-peer-exchange"

enum { PX_PREFACE_HEAD = 8, PX_PREFACE_MAX = 64 * 1024 };

/* One connection's part; all zero: it takes none. */
struct px_exchange {
    lt_str out; /* of our preface: not written yet; borrowed from the node's facts */
    bool waits; /* for the peer's */
};

/* Before `message`, the bytes of the Any. */
lt_str px_preface_make(struct lt_arena *arena, lt_str message);
/*
 * What the peer's first bytes are: LT_OK a preface with *ret_message in it; LT_AGAIN more are
 * needed; LT_E_NOT_FOUND none; LT_E_LIMIT it says that it is too long.
 */
LT_MUST lt_rc px_preface_read(lt_str bytes, lt_str *ret_message);

/* After the handshake. */
void px_exchange_begin(struct px_exchange *exchange, struct px_worker *worker,
                       const struct lt_transport *transport);
/* LT_OK: ours is out. LT_AGAIN, or how the transport broke. */
LT_MUST lt_rc px_exchange_write(struct px_exchange *exchange, struct lt_transport *transport,
                                bool *can_write);
/*
 * LT_OK: what is unread in `in` is payload, *ret_peer (counted) who said so, or NULL. LT_AGAIN.
 * LT_EOF: as LT_OK, and the peer has ended. LT_E_BAD and others: the connection is of no use.
 */
LT_MUST lt_rc px_exchange_read(struct px_exchange *exchange, struct px_worker *worker,
                               struct px_input *in, struct lt_transport *transport, bool *can_read,
                               const char *principal, struct px_peer **ret_peer);

#endif
