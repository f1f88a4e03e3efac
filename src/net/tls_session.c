/*
 * net/tls_session.c - resuming: a server's tickets and session IDs, a client's kept sessions.
 * What a session proves is what was true when it was made. It is good for the same trust, the same
 * certificates and the same parameters only: each context has keys of its own, so that a changed
 * secret resumes nothing; where keys are configured, a digest of all that goes into every session
 * and is compared. Names and the certificate's end are checked again at each resumption, and who
 * fails there shakes hands in full.
 * Start at: tls_set_sessions().
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "net/tls_priv.h"

enum {
    SERVER_CACHE_MAX = 1024,    /* session IDs that a context remembers; tickets need no memory */
    SESSION_TIMEOUT_S = 7200,   /* as BoringSSL's */
    CHAIN_KEPT_MAX = 12 * 1024, /* of the client's chain, inside a ticket */
    KEPT_MAX = 16,
    KEY_NAME_BYTES = 16,
    KEY_PART_BYTES = 32, /* of HMAC, of AES */
};

/* --- a server: tickets by keys that are configured --- */

static const unsigned char *find_key(const struct lt_tls_ctx *ctx, const unsigned char *name,
                                     size_t *ret_at)
{
    for (size_t i = 0; i < ctx->ticket_key_count; i++) {
        if (CRYPTO_memcmp(ctx->ticket_keys[i], name, KEY_NAME_BYTES) == 0) {
            *ret_at = i;
            return ctx->ticket_keys[i];
        }
    }
    return NULL;
}

/* 0: no key of that name, so shake hands; 1: done; 2: done, and the ticket should be renewed. */
static int seal_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int is_sealing)
{
    const struct lt_tls_ctx *ctx = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    size_t at = 0;
    const unsigned char *key = is_sealing ? ctx->ticket_keys[0] : find_key(ctx, name, &at);
    if (key == NULL)
        return 0;
    if (is_sealing) {
        memcpy(name, key, KEY_NAME_BYTES);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
    }
    const unsigned char *hmac_key = key + KEY_NAME_BYTES, *aes_key = hmac_key + KEY_PART_BYTES;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)hmac_key, KEY_PART_BYTES),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_MAC_CTX_set_params(mac, params) != 1 ||
        EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, aes_key, iv, is_sealing) != 1)
        return -1;
    return at == 0 ? 1 : 2;
}

static lt_rc set_ticket_keys(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts,
                             struct lt_err *err)
{
    size_t count = opts->ticket_key_count;
    if (count == 0)
        return LT_OK;
    if (count > LT_TLS_TICKET_KEYS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d ticket keys", LT_TLS_TICKET_KEYS_MAX);
    ctx->ticket_keys = lt_calloc(count, sizeof(*ctx->ticket_keys));
    ctx->ticket_key_count = count;
    for (size_t i = 0; i < count; i++) {
        if (opts->ticket_keys[i].len != LT_TLS_TICKET_KEY_BYTES)
            return lt_err_set(err, LT_E_BAD, "a ticket key has %zu bytes and not %d",
                              opts->ticket_keys[i].len, LT_TLS_TICKET_KEY_BYTES);
        memcpy(ctx->ticket_keys[i], opts->ticket_keys[i].ptr, LT_TLS_TICKET_KEY_BYTES);
    }
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx->ssl_ctx, seal_ticket);
    return LT_OK;
}

/* --- a server: what goes into a ticket, and whether it is taken --- */

/* A ticket holds the client's certificate, but not those that came with it: kept beside. */
static int keep_chain(SSL *ssl, void *arg LT_UNUSED)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    SSL_SESSION *session = SSL_get_session(ssl);
    unsigned char kept[CHAIN_KEPT_MAX], *at = kept;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        const X509 *cert = sk_X509_value(chain, i);
        int len = i2d_X509(cert, NULL);
        if (len <= 0 || len > kept + sizeof(kept) - at)
            return 1; /* too long: told without its end */
        (void)i2d_X509(cert, &at);
    }
    if (at > kept)
        (void)SSL_SESSION_set1_ticket_appdata(session, kept, (size_t)(at - kept));
    return 1;
}

static SSL_TICKET_RETURN take_ticket(SSL *ssl, SSL_SESSION *session,
                                     const unsigned char *name LT_UNUSED, size_t name_len LT_UNUSED,
                                     SSL_TICKET_STATUS status, void *arg LT_UNUSED)
{
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT
                   ? SSL_TICKET_RETURN_IGNORE_RENEW
                   : SSL_TICKET_RETURN_ABORT;
    struct lt_tls *tls = SSL_get_app_data(ssl);
    if (!tls_verify_would_pass(tls, SSL_SESSION_get0_peer(session)))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    /* TLS 1.3: each is used once, so the client gets another */
    bool is_renewed = status == SSL_TICKET_SUCCESS_RENEW || SSL_version(ssl) == TLS1_3_VERSION;
    return is_renewed ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

lt_str tls_session_chain(const SSL_SESSION *session)
{
    void *data = NULL;
    size_t len = 0;
    if (session == NULL ||
        SSL_SESSION_get0_ticket_appdata((SSL_SESSION *)session, &data, &len) != 1)
        return LT_STR_NULL;
    return lt_str_make(data, len);
}

/* --- a server: what a session is good for --- */

static void digest_str(EVP_MD_CTX *md, lt_str text)
{
    uint64_t len = text.len;
    (void)EVP_DigestUpdate(md, &len, sizeof(len));
    (void)EVP_DigestUpdate(md, text.ptr == NULL ? "" : text.ptr, text.len);
}

static void digest_trust(EVP_MD_CTX *md, const struct lt_tls_opts *opts)
{
    const uint64_t flags[] = {opts->crl_leaf_only, opts->verify_peer,      opts->require_peer_cert,
                              opts->allow_expired, opts->accept_untrusted, opts->depth_max};
    (void)EVP_DigestUpdate(md, flags, sizeof(flags));
    digest_str(md, opts->ca_pem);
    digest_str(md, opts->crl_pem);
    for (size_t i = 0; i < opts->cert_hash_count; i++)
        digest_str(md, opts->cert_hashes[i]);
    digest_str(md, LT_STR("keys"));
    for (size_t i = 0; i < opts->key_hash_count; i++)
        digest_str(md, opts->key_hashes[i]);
    for (size_t i = 0; i < opts->domain_count; i++) {
        digest_str(md, opts->domains[i].name);
        digest_str(md, opts->domains[i].ca_pem);
    }
    for (size_t i = 0; i < opts->san_count; i++) {
        const uint64_t kind[] = {opts->sans[i].type, opts->sans[i].match,
                                 opts->sans[i].ignore_case};
        (void)EVP_DigestUpdate(md, kind, sizeof(kind));
        digest_str(md, opts->sans[i].value);
        digest_str(md, opts->sans[i].oid);
    }
}

static void set_session_context(SSL_CTX *ssl_ctx, const struct lt_tls_opts *opts)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    LT_ASSERT(md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1);
    digest_trust(md, opts);
    digest_str(md, opts->cert_chain_pem);
    for (size_t i = 0; i < opts->more_cert_count; i++)
        digest_str(md, opts->more_certs[i].chain_pem);
    LT_ASSERT(EVP_DigestFinal_ex(md, digest, &len) == 1);
    EVP_MD_CTX_free(md);
    LT_ASSERT(SSL_CTX_set_session_id_context(ssl_ctx, digest,
                                             LT_MIN(len, (unsigned)SSL_MAX_SID_CTX_LENGTH)) == 1);
}

static void set_server(SSL_CTX *ssl_ctx, const struct lt_tls_opts *opts)
{
    set_session_context(ssl_ctx, opts);
    (void)SSL_CTX_sess_set_cache_size(ssl_ctx, SERVER_CACHE_MAX);
    (void)SSL_CTX_set_session_cache_mode(
        ssl_ctx, opts->without_session_ids ? SSL_SESS_CACHE_OFF : SSL_SESS_CACHE_SERVER);
    if (opts->without_tickets) {
        SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(ssl_ctx, 0); /* TLS 1.3 knows no other way */
        return;
    }
    /* a peer of the mesh keeps one, browsers open several connections */
    (void)SSL_CTX_set_num_tickets(ssl_ctx, opts->require_peer_cert ? 1 : 2);
    (void)SSL_CTX_set_session_ticket_cb(ssl_ctx, keep_chain, take_ticket, NULL);
}

/* --- a client --- */

struct kept {
    SSL_SESSION *session; /* owned */
    uint64_t name;
};

struct lt_tls_sessions {
    struct lt_tls_ctx *ctx;     /* counted; whose trust and certificate they were made with */
    struct kept kept[KEPT_MAX]; /* the latest first */
    unsigned count, max;
};

struct lt_tls_sessions *lt_tls_sessions_new(unsigned max)
{
    struct lt_tls_sessions *sessions = lt_new(struct lt_tls_sessions);
    sessions->max = max == 0 ? 1 : LT_MIN(max, (unsigned)KEPT_MAX);
    return sessions;
}

static void forget_all(struct lt_tls_sessions *sessions)
{
    while (sessions->count > 0)
        SSL_SESSION_free(sessions->kept[--sessions->count].session);
    lt_tls_ctx_unref(&sessions->ctx);
}

void lt_tls_sessions_free(struct lt_tls_sessions **sessions)
{
    if (*sessions == NULL)
        return;
    forget_all(*sessions);
    free(*sessions);
    *sessions = NULL;
}

static SSL_SESSION *take_kept(struct lt_tls_sessions *sessions, unsigned at)
{
    SSL_SESSION *session = sessions->kept[at].session;
    sessions->count--;
    memmove(&sessions->kept[at], &sessions->kept[at + 1],
            (sessions->count - at) * sizeof(sessions->kept[0]));
    return session;
}

/* Made or renewed by the server, in or after the handshake. 1: it is ours now. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct lt_tls *tls = SSL_get_app_data(ssl);
    struct lt_tls_sessions *sessions = tls->sessions;
    /* one that was made before the secrets changed has nothing to give */
    if (sessions == NULL || sessions->ctx != tls->ctx || SSL_SESSION_is_resumable(session) != 1)
        return 0;
    if (sessions->count == sessions->max)
        SSL_SESSION_free(take_kept(sessions, sessions->count - 1));
    memmove(&sessions->kept[1], &sessions->kept[0], sessions->count * sizeof(sessions->kept[0]));
    sessions->kept[0] = (struct kept){session, tls->session_name};
    sessions->count++;
    return 1;
}

/* FNV-1a. Whoever makes two names alike gains nothing: the certificate is looked at again. */
static uint64_t name_of(lt_str sni, lt_str must_be)
{
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < sni.len; i++)
        hash = (hash ^ (unsigned char)sni.ptr[i]) * 1099511628211U;
    hash = (hash ^ 0x100) * 1099511628211U;
    for (size_t i = 0; i < must_be.len; i++)
        hash = (hash ^ (unsigned char)must_be.ptr[i]) * 1099511628211U;
    return hash;
}

void tls_session_offer(struct lt_tls *tls, lt_str sni)
{
    struct lt_tls_sessions *sessions = tls->sessions;
    if (sessions == NULL)
        return;
    tls->session_name = name_of(sni, tls->must_be);
    if (sessions->ctx != tls->ctx) {
        /* the trust or our certificate is another now: nothing from before counts */
        forget_all(sessions);
        sessions->ctx = lt_tls_ctx_ref(tls->ctx);
        return;
    }
    for (unsigned i = 0; i < sessions->count;) {
        if (sessions->kept[i].name != tls->session_name) {
            i++;
            continue;
        }
        SSL_SESSION *session = take_kept(sessions, i);
        bool is_good = tls_verify_would_pass(tls, SSL_SESSION_get0_peer(session));
        is_good = is_good && SSL_set_session(tls->ssl, session) == 1;
        bool is_reusable = is_good && SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION;
        if (!is_reusable) {
            SSL_SESSION_free(session);
        } else { /* before TLS 1.3 it serves until a newer one comes */
            memmove(&sessions->kept[1], &sessions->kept[0],
                    sessions->count * sizeof(sessions->kept[0]));
            sessions->kept[0] = (struct kept){session, tls->session_name};
            sessions->count++;
        }
        if (is_good)
            return;
    }
}

static void set_client(SSL_CTX *ssl_ctx)
{
    (void)SSL_CTX_set_session_cache_mode(ssl_ctx,
                                         SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl_ctx, on_session);
}

/* --- both --- */

lt_rc tls_set_sessions(struct lt_tls_ctx *ctx, const struct lt_tls_opts *opts, struct lt_err *err)
{
    SSL_CTX *ssl_ctx = ctx->ssl_ctx;
    if (!opts->allow_session_resumption || (opts->without_tickets && opts->without_session_ids)) {
        SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(ssl_ctx, 0);
        (void)SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
        return LT_OK;
    }
    uint64_t timeout_s = opts->session_timeout_s != 0 ? opts->session_timeout_s : SESSION_TIMEOUT_S;
    (void)SSL_CTX_set_timeout(ssl_ctx, (long)LT_MIN(timeout_s, (uint64_t)INT32_MAX));
    if (!ctx->is_server) {
        set_client(ssl_ctx);
        return LT_OK;
    }
    set_server(ssl_ctx, opts);
    return set_ticket_keys(ctx, opts, err);
}
