/*
 * net/transport.h - the lowest storey of a connection: bytes over a socket, plain or under TLS.
 * Both look alike from above. No buffering of its own beyond what TLS needs; no callbacks: the
 * owner watches transport->fd with its lt_io and calls again when the wanted direction is ready.
 */
#ifndef LT_NET_TRANSPORT_H
#define LT_NET_TRANSPORT_H

#include <sys/uio.h>

#include "net/addr.h"

struct lt_transport;
struct lt_tls; /* net/tls.h */

struct lt_transport_ops {
    const char *name; /* "raw_buffer" or "tls", Envoy's names of transport protocols */
    lt_rc (*handshake)(struct lt_transport *transport);
    lt_rc (*read)(struct lt_transport *transport, void *to, size_t room, size_t *ret_len);
    lt_rc (*writev)(struct lt_transport *transport, const struct iovec *iov, int count,
                    size_t *ret_len);
    lt_rc (*shutdown_write)(struct lt_transport *transport);
    void (*fini)(struct lt_transport *transport);
};

struct lt_transport {
    const struct lt_transport_ops *ops;
    struct lt_tls *tls; /* owned; NULL when plain */
    int fd;             /* owned; -1 when there is none */
    /* after LT_AGAIN from handshake or read: TLS waits for EPOLLOUT, not EPOLLIN */
    bool wants_write;
    bool wants_read;  /* after LT_AGAIN from writev: TLS waits for EPOLLIN, not EPOLLOUT */
    bool has_pending; /* decrypted bytes wait inside: read again without waiting for the socket */
};

/* Takes the descriptor. */
void lt_transport_init_raw(struct lt_transport *transport, int fd);

/*
 * LT_OK when done (at once for plain), LT_AGAIN, or LT_E_TLS / LT_E_CLOSED; reason by lt_tls_error.
 */
static inline lt_rc lt_transport_handshake(struct lt_transport *transport)
{
    return transport->ops->handshake(transport);
}

/*
 * LT_OK with *ret_len > 0; LT_AGAIN; LT_EOF (for TLS: close_notify; a bare FIN is LT_EOF too, as
 * Envoy takes it); LT_E_CLOSED; LT_E_TLS.
 */
static inline lt_rc lt_transport_read(struct lt_transport *transport, void *to, size_t room,
                                      size_t *ret_len)
{
    return transport->ops->read(transport, to, room, ret_len);
}

/*
 * LT_OK with *ret_len > 0 (perhaps not all); LT_AGAIN; LT_E_CLOSED; LT_E_TLS. TLS gathers the
 * pieces into one record where they fit. After LT_AGAIN or a short write the bytes not yet taken
 * must be offered again (at the same or another address), more may follow: TLS may have sealed
 * them.
 */
static inline lt_rc lt_transport_writev(struct lt_transport *transport, const struct iovec *iov,
                                        int count, size_t *ret_len)
{
    return transport->ops->writev(transport, iov, count, ret_len);
}

/* close_notify for TLS, then FIN. LT_AGAIN when the alert could not be written yet. */
static inline lt_rc lt_transport_shutdown_write(struct lt_transport *transport)
{
    return transport->ops->shutdown_write(transport);
}

/* Closes the descriptor and frees TLS state; safe when already done or zeroed. */
void lt_transport_fini(struct lt_transport *transport);

#endif
