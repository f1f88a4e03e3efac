/*
 * net/tls_verify.c - is the peer who it must be: its chain by OpenSSL, its names (SANs) here.
 * Trust: certificates are a stranger's.   Start at: tls_verify_cert().
 */
#include <openssl/err.h>
#include <openssl/objects.h>

#include "base/regex.h"
#include "net/tls_priv.h"

enum { REASON_MAX = 512, SAN_LISTED_MAX = 160, OID_MAX = 128, TRUST_DOMAIN_MAX = 255 };

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
    case LT_SAN_REGEX: return lt_regex_matches(matcher->regex, san);
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
    if (type == LT_SAN_DNS && matcher->match == LT_SAN_EXACT)
        return lt_str_case_eq(san, matcher->value) || is_wildcard_match(san, matcher->value);
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

/* A name of a kind that only its OID tells; text of any of ASN.1's kinds. */
static bool is_other_match(const struct lt_san_matcher *sans, size_t count, const OTHERNAME *other)
{
    char oid[OID_MAX];
    const ASN1_TYPE *value = other->value;
    if (value == NULL)
        return false;
    bool is_text = value->type == V_ASN1_UTF8STRING || value->type == V_ASN1_IA5STRING ||
                   value->type == V_ASN1_PRINTABLESTRING || value->type == V_ASN1_VISIBLESTRING;
    int len = OBJ_obj2txt(oid, sizeof(oid), other->type_id, 1);
    if (!is_text || len <= 0 || len >= (int)sizeof(oid))
        return false;
    lt_str text = lt_str_make(ASN1_STRING_get0_data(value->value.asn1_string),
                              (size_t)ASN1_STRING_length(value->value.asn1_string));
    if (lt_str_find_char(text, '\0') >= 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (sans[i].type == LT_SAN_OTHER && lt_str_eqz(sans[i].oid, oid) &&
            matches_text(&sans[i], text))
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
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_OTHERNAME)
            is_match = is_other_match(sans, count, name->d.otherName);
        if (!x509_read_san(name, ip, &type, &san))
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

static void refuse(struct lt_tls *tls, lt_tls_fault fault, const char *reason)
{
    free(tls->verify_error);
    tls->verify_error = lt_strdup(reason);
    tls->is_verified = false;
    tls->fault = fault;
}

static bool check_list(struct lt_tls *tls, const struct lt_san_matcher *sans, size_t count,
                       X509 *cert, char seen[SAN_LISTED_MAX])
{
    return count > 0 && has_matching_san(sans, count, cert, seen, SAN_LISTED_MAX);
}

static void refuse_names(struct lt_tls *tls, const struct lt_san_matcher *first, bool has_more,
                         const char *seen)
{
    char reason[REASON_MAX];
    (void)snprintf(reason, sizeof(reason), "verify SAN list: the peer is [%s], expected %.*s%s%s",
                   seen, (int)LT_MIN(first->value.len, (size_t)SAN_LISTED_MAX), first->value.ptr,
                   first->match == LT_SAN_EXACT ? "" : " (a part)", has_more ? " or others" : "");
    refuse(tls, LT_TLS_FAULT_SAN, reason);
}

/* must_be, and one of the others, which come from the connection's configuration and the secret. */
static bool check_sans(struct lt_tls *tls, X509 *cert)
{
    const struct lt_san_matcher must = {
        .type = LT_SAN_ANY_TYPE, .ignore_case = true, .value = tls->must_be};
    const struct lt_tls_ctx *ctx = tls->ctx;
    char seen[SAN_LISTED_MAX] = "";
    if (tls->must_be.len > 0 && !check_list(tls, &must, 1, cert, seen)) {
        refuse_names(tls, &must, false, seen);
        return false;
    }
    if (tls->san_count + ctx->san_count == 0)
        return true;
    if (check_list(tls, tls->sans, tls->san_count, cert, seen) ||
        check_list(tls, ctx->sans, ctx->san_count, cert, seen))
        return true;
    refuse_names(tls, tls->san_count > 0 ? &tls->sans[0] : &ctx->sans[0],
                 tls->san_count + ctx->san_count > 1, seen);
    return false;
}

static bool has_demands(const struct lt_tls *tls)
{
    return tls->san_count > 0 || tls->must_be.len > 0;
}

static bool is_pinned(const struct tls_hashes *hashes, const unsigned char *digest, unsigned len)
{
    for (size_t i = 0; i < hashes->count && len == TLS_HASH_BYTES; i++) {
        if (CRYPTO_memcmp(hashes->items[i], digest, TLS_HASH_BYTES) == 0)
            return true;
    }
    return false;
}

static bool check_hashes(struct lt_tls *tls, X509 *cert)
{
    const struct lt_tls_ctx *ctx = tls->ctx;
    if (ctx->cert_hashes.count + ctx->key_hashes.count == 0)
        return true;
    unsigned char digest[EVP_MAX_MD_SIZE], *key = NULL;
    unsigned len = 0;
    if (X509_digest(cert, EVP_sha256(), digest, &len) == 1 &&
        is_pinned(&ctx->cert_hashes, digest, len))
        return true;
    int key_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &key);
    bool is_good = key_len > 0 &&
                   EVP_Digest(key, (size_t)key_len, digest, &len, EVP_sha256(), NULL) == 1 &&
                   is_pinned(&ctx->key_hashes, digest, len);
    OPENSSL_free(key);
    if (!is_good)
        refuse(tls, LT_TLS_FAULT_HASH, "certificate hash: not one of those that are pinned");
    return is_good;
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
    refuse(tls, LT_TLS_FAULT_CHAIN, reason);
}

/* --- by trust domain (SPIFFE X.509-SVID, 3 and 5) --- */

/* With two, the roots of the one's domain would vouch for the other. */
static bool has_one_uri(X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int count = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        count += sk_GENERAL_NAME_value(names, i)->type == GEN_URI;
    GENERAL_NAMES_free(names);
    return count == 1;
}

static const struct tls_domain *find_domain(const struct lt_tls_ctx *ctx, X509 *cert)
{
    if (!has_one_uri(cert))
        return NULL;
    char *uri = x509_first_san(cert, LT_SAN_URI);
    lt_str rest = lt_str_of(uri);
    const struct tls_domain *found = NULL;
    if (lt_str_starts(rest, LT_STR("spiffe://"))) {
        rest = lt_str_from(rest, sizeof("spiffe://") - 1);
        ptrdiff_t slash = lt_str_find_char(rest, '/');
        lt_str name = slash < 0 ? rest : lt_str_slice(rest, 0, (size_t)slash);
        for (size_t i = 0; i < ctx->domain_count && found == NULL; i++) {
            if (name.len > 0 && name.len <= TRUST_DOMAIN_MAX && slash > 0 &&
                lt_str_eqz(name, ctx->domains[i].name))
                found = &ctx->domains[i];
        }
    }
    free(uri);
    return found;
}

/*
 * A workload's certificate signs nothing, neither certificates nor revocation lists, and says so:
 * without the extension its usage is any.
 */
static bool is_workload(X509 *cert)
{
    return (X509_get_extension_flags(cert) & (EXFLAG_CA | EXFLAG_INVALID)) == 0 &&
           (X509_get_key_usage(cert) & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) == 0;
}

static bool verify_in_domain(struct lt_tls *tls, X509_STORE_CTX *outer)
{
    X509 *cert = X509_STORE_CTX_get0_cert(outer);
    const struct tls_domain *domain = is_workload(cert) ? find_domain(tls->ctx, cert) : NULL;
    if (domain == NULL) {
        refuse(tls, LT_TLS_FAULT_CHAIN, "not a workload of a trust domain that is known");
        X509_STORE_CTX_set_error(outer, X509_V_ERR_APPLICATION_VERIFICATION);
        return false;
    }
    X509_STORE_CTX *inner = X509_STORE_CTX_new();
    LT_ASSERT(inner != NULL);
    bool is_good = X509_STORE_CTX_init(inner, domain->store, cert,
                                       X509_STORE_CTX_get0_untrusted(outer)) == 1 &&
                   X509_verify_cert(inner) == 1;
    if (!is_good) {
        refuse_chain(tls, inner);
        X509_STORE_CTX_set_error(outer, X509_STORE_CTX_get_error(inner));
    }
    X509_STORE_CTX_free(inner);
    return is_good;
}

/* --- all of it --- */

static bool verify_chain(struct lt_tls *tls, X509_STORE_CTX *store_ctx)
{
    if (tls->ctx->domain_count > 0)
        return verify_in_domain(tls, store_ctx);
    if (!tls->ctx->has_ca || X509_verify_cert(store_ctx) == 1)
        return true;
    refuse_chain(tls, store_ctx);
    return false;
}

int tls_verify_cert(X509_STORE_CTX *store_ctx, void *arg LT_UNUSED)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store_ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct lt_tls *tls = SSL_get_app_data(ssl);
    if (!tls->ctx->verify_peer) {
        if (!has_demands(tls))
            return 1;
        /* a name that nobody vouches for is worth nothing: fail closed */
        refuse(tls, LT_TLS_FAULT_SAN, "verify SAN list: no CA is trusted");
        X509_STORE_CTX_set_error(store_ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    if (!verify_chain(tls, store_ctx)) {
        if (!tls->ctx->accept_untrusted)
            return 0;
        tls->fault = LT_TLS_FAULT_NONE; /* whoever it is: nothing that it claims is passed on */
        return 1;                       /* the error stays, for who resumes the session */
    }
    X509 *cert = X509_STORE_CTX_get0_cert(store_ctx);
    if (!check_sans(tls, cert) || !check_hashes(tls, cert)) {
        X509_STORE_CTX_set_error(store_ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    X509_STORE_CTX_set_error(store_ctx, X509_V_OK);
    tls->is_verified = true;
    return 1;
}

bool tls_verify_would_pass(struct lt_tls *tls, X509 *cert)
{
    const struct lt_tls_ctx *ctx = tls->ctx;
    if (cert == NULL || !ctx->verify_peer)
        return !has_demands(tls);
    bool is_good = (ctx->allow_expired || X509_cmp_current_time(X509_get0_notAfter(cert)) > 0) &&
                   check_sans(tls, cert) && check_hashes(tls, cert);
    free(tls->verify_error); /* a full handshake says what is wrong */
    tls->verify_error = NULL;
    tls->fault = LT_TLS_FAULT_NONE;
    return is_good;
}

lt_rc tls_verify_resumed(struct lt_tls *tls)
{
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    if (cert == NULL || !tls->ctx->verify_peer)
        return has_demands(tls) ? LT_E_TLS : LT_OK;
    if (SSL_get_verify_result(tls->ssl) != X509_V_OK) {
        if (tls->ctx->accept_untrusted)
            return LT_OK;
        refuse(tls, LT_TLS_FAULT_CHAIN, "the resumed session was not verified");
        return LT_E_TLS;
    }
    if (!tls->ctx->allow_expired && X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        refuse(tls, LT_TLS_FAULT_CHAIN, "the certificate of the resumed session has expired");
        return LT_E_TLS;
    }
    tls->is_verified = check_sans(tls, cert) && check_hashes(tls, cert);
    return tls->is_verified ? LT_OK : LT_E_TLS;
}
