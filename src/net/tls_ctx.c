/*
 * net/tls_ctx.c - TLS contexts: options into an SSL_CTX that many connections share.
 * Connections: tls.c. Our certificates: tls_certs.c. Whom to trust: tls_trust.c, tls_verify.c.
 * Tickets and sessions: tls_session.c.
 * Trust: the options come from configuration that may be wrong; every refusal says why.
 * Start at: lt_tls_ctx_new().
 */
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "net/tls_priv.h"

enum {
    CIPHER_LIST_MAX = 2048,
    NAMES_MAX = 512, /* of curves, of signature algorithms */
};

void tls_take_openssl_error(char *out, size_t size, const char *otherwise)
{
    unsigned long code = ERR_get_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    (void)snprintf(out, size, "%s", reason != NULL ? reason : otherwise);
    if (reason != NULL) {
        /*
         * the shape of Envoy's texts: "certificate verify failed" is CERTIFICATE_VERIFY_FAILED
         * there
         */
        for (char *at = out; *at != '\0'; at++)
            *at = *at == ' ' ? '_' : (char)toupper((unsigned char)*at);
    }
    ERR_clear_error();
}

lt_rc tls_fail_openssl(struct lt_err *err, const char *what)
{
    char reason[256];
    tls_take_openssl_error(reason, sizeof(reason), "unknown error");
    return lt_err_set(err, LT_E_BAD, "%s: %s", what, reason);
}

/* --- protocol --- */

lt_rc tls_alpn_encode(const lt_str *names, size_t count, unsigned char out[TLS_ALPN_WIRE_MAX],
                      size_t *ret_len)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (names[i].len == 0 || names[i].len > UINT8_MAX)
            return LT_E_BAD;
        if (at + 1 + names[i].len > TLS_ALPN_WIRE_MAX)
            return LT_E_LIMIT;
        out[at] = (unsigned char)names[i].len;
        memcpy(out + at + 1, names[i].ptr, names[i].len);
        at += 1 + names[i].len;
    }
    *ret_len = at;
    return LT_OK;
}

/*
 * RFC 7301 3.2, but no overlap is no failure: the handshake goes on without ALPN, as Envoy's does.
 */
static int select_alpn(SSL *ssl LT_UNUSED, const unsigned char **ret_name, unsigned char *ret_len,
                       const unsigned char *offered, unsigned offered_len, void *arg)
{
    const struct lt_tls_ctx *ctx = arg;
    unsigned char *chosen = NULL;
    int is_common = SSL_select_next_proto(&chosen, ret_len, ctx->alpn, (unsigned)ctx->alpn_len,
                                          offered, offered_len);
    if (is_common != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret_name = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static lt_rc set_alpn(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    lt_rc rc = tls_alpn_encode(opts->alpn, opts->alpn_count, ctx->alpn, &ctx->alpn_len);
    if (rc != LT_OK)
        return lt_err_set(err, rc, "ALPN: a name is empty or too long, or there are too many");
    if (ctx->alpn_len == 0)
        return LT_OK;
    if (ctx->is_server)
        SSL_CTX_set_alpn_select_cb(ctx->ssl_ctx, select_alpn, ctx);
    else if (SSL_CTX_set_alpn_protos(ctx->ssl_ctx, ctx->alpn, (unsigned)ctx->alpn_len) != 0)
        return tls_fail_openssl(err, "ALPN");
    return LT_OK;
}

/* BoringSSL's groups of equal preference, "[A|B]:C", become "A:B:C". */
static lt_rc set_ciphers(struct lt_tls_ctx *ctx, lt_str list, struct lt_err *err)
{
    char text[CIPHER_LIST_MAX];
    size_t at = 0;
    if (list.len >= sizeof(text))
        return lt_err_set(err, LT_E_LIMIT, "cipher list longer than %d bytes", CIPHER_LIST_MAX - 1);
    for (size_t i = 0; i < list.len; i++) {
        if (list.ptr[i] != '[' && list.ptr[i] != ']')
            text[at++] = list.ptr[i] == '|' ? ':' : list.ptr[i];
    }
    text[at] = '\0';
    if (SSL_CTX_set_cipher_list(ctx->ssl_ctx, text) != 1)
        return tls_fail_openssl(err, "cipher list");
    return LT_OK;
}

static lt_rc copy_names(lt_str list, const char *what, char text[NAMES_MAX], struct lt_err *err)
{
    if (list.len >= NAMES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "%s longer than %d bytes", what, NAMES_MAX - 1);
    (void)snprintf(text, NAMES_MAX, "%.*s", LT_STR_ARG(list));
    return LT_OK;
}

static lt_rc set_curves(struct lt_tls_ctx *ctx, lt_str list, struct lt_err *err)
{
    char text[NAMES_MAX];
    LT_TRY(copy_names(list, "ECDH curves", text, err));
    if (SSL_CTX_set1_groups_list(ctx->ssl_ctx, text) != 1)
        return tls_fail_openssl(err, "ECDH curves");
    return LT_OK;
}

static lt_rc set_signatures(struct lt_tls_ctx *ctx, lt_str list, struct lt_err *err)
{
    char text[NAMES_MAX];
    LT_TRY(copy_names(list, "signature algorithms", text, err));
    if (SSL_CTX_set1_sigalgs_list(ctx->ssl_ctx, text) != 1)
        return tls_fail_openssl(err, "signature algorithms");
    return LT_OK;
}

static lt_rc set_protocol(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts,
                          struct lt_err *err)
{
    int min = opts->version_min != 0 ? opts->version_min : TLS1_2_VERSION;
    int max = opts->version_max != 0 ? opts->version_max : TLS1_3_VERSION;
    if (min > max || SSL_CTX_set_min_proto_version(ctx->ssl_ctx, min) != 1 ||
        SSL_CTX_set_max_proto_version(ctx->ssl_ctx, max) != 1)
        return lt_err_set(err, LT_E_BAD, "TLS versions 0x%04x to 0x%04x", (unsigned)min,
                          (unsigned)max);
    if (opts->cipher_list.len > 0)
        LT_TRY(set_ciphers(ctx, opts->cipher_list, err));
    if (opts->ecdh_curves.len > 0)
        LT_TRY(set_curves(ctx, opts->ecdh_curves, err));
    if (opts->signature_algorithms.len > 0)
        LT_TRY(set_signatures(ctx, opts->signature_algorithms, err));
    return set_alpn(ctx, opts, err);
}

/*
 * What every context has: little memory while idle, no second handshakes, EOF taken as Envoy takes
 * it.
 */
static void set_defaults(SSL_CTX *ssl_ctx, bool prefers_client_ciphers)
{
    SSL_CTX_set_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (!prefers_client_ciphers)
        SSL_CTX_set_options(ssl_ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* a record comes with one system call, not one for its header and one for the rest */
    SSL_CTX_set_read_ahead(ssl_ctx, 1);
}

lt_rc lt_tls_ctx_new(const struct lt_tls_opts *opts, struct lt_tls_ctx **ret_ctx,
                     struct lt_err *err)
{
    x509_init_openssl();
    ERR_clear_error();
    struct lt_tls_ctx *ctx = lt_new(struct lt_tls_ctx);
    atomic_init(&ctx->refs, 1);
    ctx->is_server = opts->is_server;
    ctx->ssl_ctx = SSL_CTX_new(opts->is_server ? TLS_server_method() : TLS_client_method());
    LT_ASSERT(ctx->ssl_ctx != NULL);
    SSL_CTX_set_app_data(ctx->ssl_ctx, ctx);
    set_defaults(ctx->ssl_ctx, opts->prefers_client_ciphers);

    lt_rc rc = set_protocol(ctx, opts, err);
    if (rc == LT_OK)
        rc = tls_load_certs(ctx, opts, err);
    if (rc == LT_OK)
        rc = tls_load_trust(ctx, opts, err);
    if (rc == LT_OK)
        rc = tls_set_sessions(ctx, opts, err);
    if (rc != LT_OK) {
        lt_tls_ctx_unref(&ctx);
        return rc;
    }
    *ret_ctx = ctx;
    return LT_OK;
}

struct lt_tls_ctx *lt_tls_ctx_ref(struct lt_tls_ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void lt_tls_ctx_unref(struct lt_tls_ctx **ctx)
{
    struct lt_tls_ctx *dying = *ctx;
    *ctx = NULL;
    if (dying == NULL || atomic_fetch_sub_explicit(&dying->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(dying->ssl_ctx);
    tls_certs_free(dying);
    tls_trust_free(dying);
    if (dying->ticket_keys != NULL)
        OPENSSL_cleanse(dying->ticket_keys, dying->ticket_key_count * LT_TLS_TICKET_KEY_BYTES);
    free(dying->ticket_keys);
    free(dying->own_uri);
    free(dying);
}

lt_str lt_tls_ctx_own_uri(const struct lt_tls_ctx *ctx)
{
    return lt_str_of(ctx->own_uri != NULL ? ctx->own_uri : "");
}
