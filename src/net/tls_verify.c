/*
 * net/tls_verify.c - is the peer who it must be: its chain by OpenSSL, its names (SANs) here.
 * Trust: certificates are a stranger's.   Start at: tls_verify_cert().
 */
#include <openssl/err.h>

#include "net/tls_priv.h"

enum { REASON_MAX = 512, SAN_LISTED_MAX = 160 };

/* --- one name against one matcher --- */

/* RFC 6125 6.4.3: a "*" stands for one whole label, the leftmost. */
static bool is_wildcard_match(lt_str pattern, lt_str name)
{
    if (!lt_str_starts(pattern, LT_STR("*.")))
        return false;
    ptrdiff_t dot = lt_str_find_char(name, '.');
    return dot > 0 && lt_str_case_eq(lt_str_from(pattern, 1), lt_str_from(name, (size_t)dot));
}

static bool contains(lt_str haystack, lt_str needle, bool ignore_case)
{
    for (size_t at = 0; at + needle.len <= haystack.len; at++) {
        lt_str part = lt_str_slice(haystack, at, at + needle.len);
        if (ignore_case ? lt_str_case_eq(part, needle) : lt_str_eq(part, needle))
            return true;
    }
    return false;
}

static bool matches_text(const struct lt_san_matcher *matcher, lt_str san)
{
    lt_str part = san;
    switch (matcher->match) {
    case LT_SAN_CONTAINS: return contains(san, matcher->value, matcher->ignore_case);
    case LT_SAN_PREFIX: part = lt_str_slice(san, 0, matcher->value.len); break;
    case LT_SAN_SUFFIX:
        part = lt_str_from(san, san.len - LT_MIN(san.len, matcher->value.len));
        break;
    case LT_SAN_EXACT: break;
    }
    return matcher->ignore_case ? lt_str_case_eq(part, matcher->value)
                                : lt_str_eq(part, matcher->value);
}

static bool matches(const struct lt_san_matcher *matcher, lt_san_type type, lt_str san)
{
    if (matcher->type != LT_SAN_ANY_TYPE && matcher->type != type)
        return false;
    if (type == LT_SAN_DNS && matcher->match == LT_SAN_EXACT &&
        is_wildcard_match(san, matcher->value))
        return true;
    return matches_text(matcher, san);
}

/* --- the names of a certificate --- */

static bool is_any_match(const struct lt_san_matcher *sans, size_t count, lt_san_type type,
                         lt_str san)
{
    for (size_t i = 0; i < count; i++) {
        if (matches(&sans[i], type, san))
            return true;
    }
    return false;
}

/* On a mismatch `seen` gets the names that were there, cut where the room ends. */
static bool has_matching_san(const struct lt_san_matcher *sans, size_t count, X509 *cert,
                             char *seen, size_t seen_size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool is_match = false;
    size_t used = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !is_match; i++) {
        char ip[X509_IP_TEXT_MAX];
        lt_san_type type = LT_SAN_ANY_TYPE;
        lt_str san = LT_STR_NULL;
        if (!x509_read_san(sk_GENERAL_NAME_value(names, i), ip, &type, &san))
            continue;
        is_match = is_any_match(sans, count, type, san);
        if (used < seen_size)
            used += (size_t)snprintf(seen + used, seen_size - used, "%s%.*s", used == 0 ? "" : ", ",
                                     LT_STR_ARG(san));
    }
    GENERAL_NAMES_free(names);
    return is_match;
}

/* --- the verdict --- */

static void refuse(struct lt_tls *tls, const char *reason)
{
    free(tls->verify_error);
    tls->verify_error = lt_strdup(reason);
    tls->is_verified = false;
}

static bool check_list(struct lt_tls *tls, const struct lt_san_matcher *sans, size_t count,
                       X509 *cert)
{
    char seen[SAN_LISTED_MAX] = "";
    if (count == 0 || has_matching_san(sans, count, cert, seen, sizeof(seen)))
        return true;
    char reason[REASON_MAX];
    const struct lt_san_matcher *first = &sans[0];
    (void)snprintf(reason, sizeof(reason), "verify SAN list: the peer is [%s], expected %.*s%s%s",
                   seen, (int)LT_MIN(first->value.len, (size_t)SAN_LISTED_MAX), first->value.ptr,
                   first->match == LT_SAN_EXACT ? "" : " (a part)", count > 1 ? " or others" : "");
    refuse(tls, reason);
    return false;
}

static bool check_sans(struct lt_tls *tls, X509 *cert)
{
    const struct lt_san_matcher must = {
        .type = LT_SAN_ANY_TYPE, .ignore_case = true, .value = tls->must_be};
    return check_list(tls, &must, tls->must_be.len > 0, cert) &&
           check_list(tls, tls->sans, tls->san_count, cert);
}

static bool has_demands(const struct lt_tls *tls)
{
    return tls->san_count > 0 || tls->must_be.len > 0;
}

static void refuse_chain(struct lt_tls *tls, X509_STORE_CTX *store_ctx)
{
    char reason[REASON_MAX], subject[128] = "";
    X509 *cert = X509_STORE_CTX_get_current_cert(store_ctx);
    if (cert != NULL)
        (void)X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
    (void)snprintf(reason, sizeof(reason), "certificate verification error at depth %d: %s%s%s%s",
                   X509_STORE_CTX_get_error_depth(store_ctx),
                   X509_verify_cert_error_string(X509_STORE_CTX_get_error(store_ctx)),
                   subject[0] != '\0' ? " (" : "", subject, subject[0] != '\0' ? ")" : "");
    refuse(tls, reason);
}

int tls_verify_cert(X509_STORE_CTX *store_ctx, void *arg LT_UNUSED)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store_ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct lt_tls *tls = SSL_get_app_data(ssl);
    if (!tls->ctx->verify_peer) {
        if (!has_demands(tls))
            return 1;
        /* a name that nobody vouches for is worth nothing: fail closed */
        refuse(tls, "verify SAN list: no CA is trusted");
        X509_STORE_CTX_set_error(store_ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    if (X509_verify_cert(store_ctx) != 1) {
        refuse_chain(tls, store_ctx);
        return 0;
    }
    if (!check_sans(tls, X509_STORE_CTX_get0_cert(store_ctx))) {
        X509_STORE_CTX_set_error(store_ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    tls->is_verified = true;
    return 1;
}

lt_rc tls_verify_resumed(struct lt_tls *tls)
{
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    if (cert == NULL || !tls->ctx->verify_peer)
        return has_demands(tls) ? LT_E_TLS : LT_OK;
    if (SSL_get_verify_result(tls->ssl) != X509_V_OK) {
        refuse(tls, "the resumed session was not verified");
        return LT_E_TLS;
    }
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        refuse(tls, "the certificate of the resumed session has expired");
        return LT_E_TLS;
    }
    tls->is_verified = check_sans(tls, cert);
    return tls->is_verified ? LT_OK : LT_E_TLS;
}

/* --- what others want to know about the peer --- */

void tls_peer_text_free(struct tls_peer_text *text)
{
    free(text->uri);
    free(text->dns);
    free(text->subject);
    free(text->sha256);
    *text = (struct tls_peer_text){0};
}

static char *make_uri(X509 *cert)
{
    return x509_first_san(cert, LT_SAN_URI);
}

static char *make_dns(X509 *cert)
{
    return x509_first_san(cert, LT_SAN_DNS);
}

static char *make_subject(X509 *cert)
{
    return x509_name_text(X509_get_subject_name(cert));
}

static char *make_sha256(X509 *cert)
{
    return x509_sha256_text(cert);
}

/* Nothing that a peer merely claims is told: without verification all are empty. */
static lt_str peer_text(struct lt_tls *tls, char **slot, char *(*make)(X509 *cert))
{
    if (tls == NULL || !tls->is_established || !tls->is_verified)
        return LT_STR("");
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    if (*slot == NULL)
        *slot = cert == NULL ? lt_strdup("") : make(cert);
    return lt_str_of(*slot);
}

lt_str lt_tls_peer_uri(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.uri, make_uri);
}

lt_str lt_tls_peer_dns(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.dns, make_dns);
}

lt_str lt_tls_peer_subject(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.subject, make_subject);
}

lt_str lt_tls_peer_sha256(const struct lt_transport *transport)
{
    struct lt_tls *tls = transport->tls;
    return peer_text(tls, tls == NULL ? NULL : &tls->peer.sha256, make_sha256);
}

bool lt_tls_has_verified_peer(const struct lt_transport *transport)
{
    return transport->tls != NULL && transport->tls->is_established && transport->tls->is_verified;
}
