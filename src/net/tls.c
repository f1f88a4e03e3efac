/*
 * net/tls.c - one TLS connection as an lt_transport. Contexts: tls_ctx.c. Whom to trust:
 * tls_verify.c. The socket is reached by a BIO of our own: no SIGPIPE, EOF that can be told from an
 * error, and bytes that an inspector read before us come first.
 * Trust: everything read here was written by a stranger.   Start at: lt_transport_init_tls().
 */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <unistd.h>

#include "net/tls_priv.h"

enum {
    RECORD_MAX = 16384,     /* RFC 8446 5.1 */
    PREFILL_MAX = 64 << 10, /* a hello is at most 16 KiB; inspectors stop long before */
    SNI_MAX = 255,
    ERROR_MAX = 640,
};

/* --- the BIO --- */

static int bio_error(BIO *bio, int retry_flag)
{
    BIO_clear_retry_flags(bio);
    if (errno == EAGAIN || errno == EINTR)
        BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
    return -1;
}

static int take_prefill(struct lt_tls *tls, char *to, int room)
{
    size_t len = LT_MIN(tls->prefill_len - tls->prefill_at, (size_t)room);
    memcpy(to, tls->prefill + tls->prefill_at, len);
    tls->prefill_at += len;
    if (tls->prefill_at == tls->prefill_len) {
        free(tls->prefill);
        tls->prefill = NULL;
    }
    return (int)len;
}

static int bio_read(BIO *bio, char *to, int room)
{
    struct lt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (room <= 0)
        return 0;
    if (tls->prefill != NULL)
        return take_prefill(tls, to, room);
    ssize_t got = read(tls->fd, to, (size_t)room);
    if (got < 0)
        return bio_error(bio, BIO_FLAGS_READ);
    tls->is_eof = got == 0;
    return (int)got;
}

static int bio_write(BIO *bio, const char *from, int len)
{
    struct lt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t put = send(tls->fd, from, (size_t)len, MSG_NOSIGNAL);
    return put < 0 ? bio_error(bio, BIO_FLAGS_WRITE) : (int)put;
}

static long bio_ctrl(BIO *bio, int cmd, long num LT_UNUSED, void *ptr LT_UNUSED)
{
    const struct lt_tls *tls = BIO_get_data(bio);
    if (cmd == BIO_CTRL_EOF)
        return tls->is_eof;
    return cmd == BIO_CTRL_FLUSH;
}

static CRYPTO_ONCE bio_method_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *bio_method; /* made once, const from then on; OpenSSL wants it on the heap */

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lateen socket");
    LT_ASSERT(bio_method != NULL);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static void attach_bio(struct lt_tls *tls)
{
    CRYPTO_THREAD_run_once(&bio_method_once, make_bio_method);
    BIO *bio = BIO_new(bio_method);
    LT_ASSERT(bio != NULL);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* takes it */
}

/* --- errors --- */

static lt_rc fail(struct lt_tls *tls, lt_rc rc, const char *text)
{
    tls->is_broken = true;
    if (tls->error == NULL)
        tls->error = lt_strdup(text);
    return rc;
}

static lt_rc fail_protocol(struct lt_tls *tls)
{
    char reason[256], text[ERROR_MAX];
    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        tls->fault = LT_TLS_FAULT_NO_CERT;
    tls_take_openssl_error(reason, sizeof(reason), "TLS error");
    if (tls->verify_error != NULL)
        (void)snprintf(text, sizeof(text), "CERTIFICATE_VERIFY_FAILED: %s", tls->verify_error);
    else
        (void)snprintf(text, sizeof(text), "%s", reason);
    return fail(tls, LT_E_TLS, text);
}

/* What a failed SSL_* call means. eof: what the peer's end of stream is at this point. */
static lt_rc result(struct lt_tls *tls, int ssl_ret, int saved_errno, lt_rc eof,
                    bool *ret_is_write_wanted)
{
    *ret_is_write_wanted = false;
    switch (SSL_get_error(tls->ssl, ssl_ret)) {
    case SSL_ERROR_WANT_READ: return LT_AGAIN;
    case SSL_ERROR_WANT_WRITE: *ret_is_write_wanted = true; return LT_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return eof == LT_EOF ? LT_EOF : fail(tls, eof, "connection closed by the peer");
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() != 0)
            return fail_protocol(tls);
        if (tls->is_eof)
            return eof == LT_EOF ? LT_EOF : fail(tls, eof, "connection closed by the peer");
        return fail(tls, LT_E_CLOSED,
                    saved_errno == 0 ? "connection closed" : strerror(saved_errno));
    default: return fail_protocol(tls);
    }
}

const char *lt_tls_error(const struct lt_transport *transport)
{
    return transport->tls == NULL || transport->tls->error == NULL ? "" : transport->tls->error;
}

/* --- the operations --- */

static lt_rc finish_handshake(struct lt_tls *tls)
{
    lt_rc rc = SSL_session_reused(tls->ssl) ? tls_verify_resumed(tls) : LT_OK;
    tls->sans = NULL;
    tls->san_count = 0;
    tls->must_be = LT_STR_NULL;
    if (rc != LT_OK)
        return fail_protocol(tls);
    tls->is_established = true;
    return LT_OK;
}

static lt_rc tls_handshake(struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    if (tls->is_broken)
        return LT_E_CLOSED;
    if (tls->is_established)
        return LT_OK;
    ERR_clear_error();
    int ret = SSL_do_handshake(tls->ssl);
    if (ret == 1) {
        transport->wants_write = false;
        transport->has_pending = SSL_has_pending(tls->ssl);
        return finish_handshake(tls);
    }
    return result(tls, ret, errno, LT_E_CLOSED, &transport->wants_write);
}

static lt_rc tls_read(struct lt_transport *transport, void *to, size_t room, size_t *ret_len)
{
    struct lt_tls *tls = transport->tls;
    if (tls->is_broken)
        return LT_E_CLOSED;
    ERR_clear_error();
    int ret = SSL_read_ex(tls->ssl, to, room, ret_len);
    if (ret == 1) {
        transport->wants_write = false;
        /* may be half a record: the next read then says LT_AGAIN and ends the matter */
        transport->has_pending = SSL_has_pending(tls->ssl);
        return LT_OK;
    }
    transport->has_pending = false;
    return result(tls, ret, errno, LT_EOF, &transport->wants_write);
}

static lt_rc write_record(struct lt_transport *transport, const void *from, size_t len,
                          size_t *ret_len)
{
    struct lt_tls *tls = transport->tls;
    if (tls->is_broken)
        return LT_E_CLOSED;
    ERR_clear_error();
    int ret = SSL_write_ex(tls->ssl, from, len, ret_len);
    if (ret == 1)
        return LT_OK;
    bool is_write_wanted = false;
    lt_rc rc = result(tls, ret, errno, LT_E_CLOSED, &is_write_wanted);
    transport->wants_read = rc == LT_AGAIN && !is_write_wanted;
    return rc;
}

/* Copies from iov, `skip` bytes in, until `to` is full; returns how much there was. */
static size_t gather(const struct iovec *iov, int count, size_t skip, char *to, size_t room)
{
    size_t used = 0;
    for (int i = 0; i < count && used < room; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        size_t len = LT_MIN(iov[i].iov_len - skip, room - used);
        memcpy(to + used, (const char *)iov[i].iov_base + skip, len);
        used += len;
        skip = 0;
    }
    return used;
}

/*
 * The piece that holds byte `skip`, when it fills a record alone or is the last: no copy is needed
 * then.
 */
static lt_str whole_piece(const struct iovec *iov, int count, size_t skip)
{
    for (int i = 0; i < count; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        lt_str piece = lt_str_make((const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
        return piece.len >= RECORD_MAX || i == count - 1 ? piece : LT_STR_NULL;
    }
    return LT_STR_NULL;
}

static lt_rc tls_writev(struct lt_transport *transport, const struct iovec *iov, int count,
                        size_t *ret_len)
{
    size_t total = 0, done = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (total == 0)
        return LT_AGAIN;
    transport->wants_read = false;
    lt_rc rc = LT_OK;
    while (rc == LT_OK && done < total) {
        char record[RECORD_MAX];
        lt_str piece = whole_piece(iov, count, done);
        if (piece.len == 0)
            piece = lt_str_make(record, gather(iov, count, done, record, sizeof(record)));
        size_t put = 0;
        rc = write_record(transport, piece.ptr, LT_MIN(piece.len, (size_t)RECORD_MAX), &put);
        done += put;
    }
    if (done == 0)
        return rc;
    *ret_len = done;
    return LT_OK;
}

static lt_rc tls_shutdown_write(struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    if (!tls->is_broken && tls->is_established) {
        ERR_clear_error();
        int ret = SSL_shutdown(tls->ssl);
        if (ret < 0 && SSL_get_error(tls->ssl, ret) == SSL_ERROR_WANT_WRITE)
            return LT_AGAIN;
        ERR_clear_error();
    }
    return shutdown(tls->fd, SHUT_WR) == 0 ? LT_OK : LT_E_CLOSED;
}

static void tls_fini(struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    /* an end without close_notify is usual, and no reason to forget the session (RFC 5246 7.2.1) */
    if (!tls->is_broken && tls->is_established)
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    lt_tls_ctx_unref(&tls->ctx);
    tls_peer_text_free(&tls->peer);
    free(tls->prefill);
    free(tls->verify_error);
    free(tls->error);
    free(tls);
    transport->tls = NULL;
    if (transport->fd >= 0)
        close(transport->fd);
    transport->fd = -1;
}

static const struct lt_transport_ops tls_ops = {
    .name = "tls",
    .handshake = tls_handshake,
    .read = tls_read,
    .writev = tls_writev,
    .shutdown_write = tls_shutdown_write,
    .fini = tls_fini,
};

/* --- making one --- */

/* A name that can't be said on the wire fails the handshake rather than going out without it. */
static void set_client_names(struct lt_tls *tls, const struct lt_tls_conn_opts *opts)
{
    if (opts->sni.len > 0) {
        char sni[SNI_MAX + 1];
        if (opts->sni.len > SNI_MAX || lt_str_find_char(opts->sni, '\0') >= 0) {
            (void)fail(tls, LT_E_BAD, "the SNI is no host name");
            return;
        }
        memcpy(sni, opts->sni.ptr, opts->sni.len);
        sni[opts->sni.len] = '\0';
        if (SSL_set_tlsext_host_name(tls->ssl, sni) != 1)
            (void)fail(tls, LT_E_BAD, "the SNI is no host name");
    }
    if (opts->alpn_count > 0) {
        unsigned char wire[TLS_ALPN_WIRE_MAX];
        size_t len = 0;
        if (tls_alpn_encode(opts->alpn, opts->alpn_count, wire, &len) != LT_OK ||
            SSL_set_alpn_protos(tls->ssl, wire, (unsigned)len) != 0)
            (void)fail(tls, LT_E_BAD, "the ALPN list can't be sent");
    }
}

void lt_transport_init_tls(struct lt_transport *transport, int fd, struct lt_tls_ctx *ctx,
                           const struct lt_tls_conn_opts *opts)
{
    struct lt_tls *tls = lt_new(struct lt_tls);
    tls->fd = fd;
    tls->ctx = lt_tls_ctx_ref(ctx);
    tls->ssl = SSL_new(ctx->ssl_ctx);
    LT_ASSERT(tls->ssl != NULL);
    SSL_set_app_data(tls->ssl, tls);
    attach_bio(tls);
    if (ctx->is_server)
        SSL_set_accept_state(tls->ssl);
    else
        SSL_set_connect_state(tls->ssl);
    if (opts != NULL) {
        tls->sans = opts->sans;
        tls->san_count = opts->san_count;
        tls->must_be = opts->must_be;
        if (!ctx->is_server) {
            set_client_names(tls, opts);
            tls->sessions = opts->sessions;
            tls_session_offer(tls, opts->sni);
        }
    }
    *transport = (struct lt_transport){.ops = &tls_ops, .tls = tls, .fd = fd};
}

lt_rc lt_transport_tls_prefill(struct lt_transport *transport, lt_str bytes)
{
    struct lt_tls *tls = transport->tls;
    LT_ASSERT(tls != NULL && tls->prefill == NULL);
    if (bytes.len > PREFILL_MAX)
        return LT_E_LIMIT;
    if (bytes.len == 0)
        return LT_OK;
    tls->prefill = lt_malloc(bytes.len);
    memcpy(tls->prefill, bytes.ptr, bytes.len);
    tls->prefill_at = 0;
    tls->prefill_len = bytes.len;
    return LT_OK;
}

/* --- what was agreed --- */

lt_tls_fault lt_tls_fault_of(const struct lt_transport *transport)
{
    return transport->tls == NULL ? LT_TLS_FAULT_NONE : transport->tls->fault;
}

bool lt_tls_is_resumed(const struct lt_transport *transport)
{
    const struct lt_tls *tls = transport->tls;
    return tls != NULL && tls->is_established && SSL_session_reused(tls->ssl) == 1;
}

lt_str lt_tls_alpn(const struct lt_transport *transport)
{
    const unsigned char *name = NULL;
    unsigned len = 0;
    if (transport->tls != NULL)
        SSL_get0_alpn_selected(transport->tls->ssl, &name, &len);
    return len == 0 ? LT_STR("") : lt_str_make(name, len);
}

lt_str lt_tls_sni(const struct lt_transport *transport)
{
    const char *sni = NULL;
    if (transport->tls != NULL)
        sni = SSL_get_servername(transport->tls->ssl, TLSEXT_NAMETYPE_host_name);
    return lt_str_of(sni == NULL ? "" : sni);
}

const char *lt_tls_version(const struct lt_transport *transport)
{
    const struct lt_tls *tls = transport->tls;
    return tls != NULL && tls->is_established ? SSL_get_version(tls->ssl) : "";
}

const char *lt_tls_cipher(const struct lt_transport *transport)
{
    const struct lt_tls *tls = transport->tls;
    return tls != NULL && tls->is_established ? SSL_get_cipher_name(tls->ssl) : "";
}
