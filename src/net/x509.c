/*
 * net/x509.c - certificates and requests: read and made. Keys: x509_key.c.   Trust: what is read
 * here may be a stranger's; what is made here is made from our own words,
 * never from names that a request asks for.   Start at: lt_cert_parse_chain(), lt_signer_issue().
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "base/vec.h"
#include "net/tls_priv.h"
#include "net/x509_priv.h"

enum { SECONDS_PER_DAY = 86400, SERIAL_BYTES = 16, SANS_MAX = 256 };

/* --- reading --- */

static lt_str arena_take(struct lt_arena *arena, char *heap_text)
{
    lt_str copy = lt_arena_str(arena, lt_str_of(heap_text));
    free(heap_text);
    return copy;
}

static bool read_time(const ASN1_TIME *time, int64_t *ret_s)
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret_s = (int64_t)timegm(&tm);
    return true;
}

static lt_str serial_text(struct lt_arena *arena, const X509 *cert)
{
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = serial == NULL ? NULL : BN_bn2hex(serial);
    lt_str text = lt_str_of(hex == NULL ? "0" : hex);
    while (text.len > 1 && text.ptr[0] == '0')
        text = lt_str_from(text, 1);
    char *lower = lt_arena_strz(arena, text);
    for (char *at = lower; *at != '\0'; at++)
        *at = *at >= 'A' && *at <= 'F' ? (char)(*at - 'A' + 'a') : *at;
    OPENSSL_free(hex);
    BN_free(serial);
    return lt_str_make(lower, text.len);
}

static void read_sans(struct lt_arena *arena, const X509 *x509, struct lt_cert *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    int count = LT_MIN(sk_GENERAL_NAME_num(names), (int)SANS_MAX);
    struct lt_san *sans = count > 0 ? lt_arena_make_n(arena, struct lt_san, (size_t)count) : NULL;
    for (int i = 0; i < count; i++) {
        char ip[X509_IP_TEXT_MAX];
        lt_san_type type = LT_SAN_ANY_TYPE;
        lt_str text = LT_STR_NULL;
        if (x509_read_san(sk_GENERAL_NAME_value(names, i), ip, &type, &text))
            sans[cert->san_count++] = (struct lt_san){type, lt_arena_str(arena, text)};
    }
    cert->sans = sans;
    GENERAL_NAMES_free(names);
}

static lt_str cert_pem(struct lt_arena *arena, X509 *x509)
{
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(bio != NULL && PEM_write_bio_X509(bio, x509) == 1);
    lt_str pem = x509_take_bio(arena, bio);
    BIO_free(bio);
    return pem;
}

static lt_rc read_cert(struct lt_arena *arena, X509 *x509, struct lt_cert *cert, struct lt_err *err)
{
    if (!read_time(X509_get0_notBefore(x509), &cert->not_before_s) ||
        !read_time(X509_get0_notAfter(x509), &cert->not_after_s))
        return x509_fail(err, "certificate: broken validity");
    cert->subject = arena_take(arena, x509_name_text(X509_get_subject_name(x509)));
    cert->issuer = arena_take(arena, x509_name_text(X509_get_issuer_name(x509)));
    cert->serial = serial_text(arena, x509);
    cert->sha256 = arena_take(arena, x509_sha256_text(x509));
    cert->sha1 = arena_take(arena, x509_sha1_text(x509));
    cert->is_ca = X509_check_ca(x509) == 1; /* 1: v3 with CA:TRUE; the other answers are guesses */
    cert->pem = cert_pem(arena, x509);
    read_sans(arena, x509, cert);
    return LT_OK;
}

static void free_certs(struct lt_vec *certs)
{
    for (X509 *x509; (x509 = lt_vec_pop(certs)) != NULL;)
        X509_free(x509);
    lt_vec_fini(certs);
}

/* Every certificate of the text; the vector is the caller's to free, also on errors. */
static lt_rc load_certs(lt_str pem, struct lt_vec *certs, struct lt_err *err)
{
    BIO *bio = x509_open_pem(pem);
    if (bio == NULL)
        return lt_err_set(err, LT_E_LIMIT, "certificate: the PEM text is too long");
    lt_rc rc = LT_OK;
    for (X509 *x509; rc == LT_OK &&
                     (x509 = PEM_read_bio_X509(bio, NULL, x509_refuse_password, NULL)) != NULL;) {
        lt_vec_push(certs, x509);
        if (certs->count > LT_X509_CERTS_MAX)
            rc = lt_err_set(err, LT_E_LIMIT, "certificate: more than %d in one text",
                            LT_X509_CERTS_MAX);
    }
    BIO_free(bio);
    if (rc == LT_OK && !x509_is_pem_end())
        rc = x509_fail(err, "certificate");
    if (rc == LT_OK && certs->count == 0)
        rc = lt_err_set(err, LT_E_BAD, "certificate: none in the PEM text");
    return rc;
}

lt_rc lt_cert_parse_chain(struct lt_arena *arena, lt_str pem, struct lt_cert **ret_certs,
                          size_t *ret_count, struct lt_err *err)
{
    struct lt_vec loaded;
    lt_vec_init(&loaded);
    lt_rc rc = load_certs(pem, &loaded, err);
    struct lt_cert *certs = rc == LT_OK ? lt_arena_make_n(arena, struct lt_cert, loaded.count)
                                        : NULL;
    for (size_t i = 0; i < loaded.count && rc == LT_OK; i++)
        rc = read_cert(arena, loaded.items[i], &certs[i], err);
    if (rc == LT_OK) {
        *ret_certs = certs;
        *ret_count = loaded.count;
    }
    free_certs(&loaded);
    return rc;
}

const struct lt_cert *lt_tls_peer_cert(const struct lt_transport *transport, struct lt_arena *arena)
{
    if (!lt_tls_has_verified_peer(transport))
        return NULL;
    X509 *x509 = SSL_get0_peer_certificate(transport->tls->ssl);
    struct lt_cert *cert = lt_arena_make(arena, struct lt_cert);
    return x509 != NULL && read_cert(arena, x509, cert, NULL) == LT_OK ? cert : NULL;
}

const struct lt_cert *lt_tls_own_cert(const struct lt_transport *transport, struct lt_arena *arena)
{
    X509 *x509 = transport->tls != NULL ? SSL_get_certificate(transport->tls->ssl) : NULL;
    struct lt_cert *cert = lt_arena_make(arena, struct lt_cert);
    return x509 != NULL && read_cert(arena, x509, cert, NULL) == LT_OK ? cert : NULL;
}

lt_str lt_cert_uri(const struct lt_cert *cert)
{
    for (size_t i = 0; i < cert->san_count; i++) {
        if (cert->sans[i].type == LT_SAN_URI)
            return cert->sans[i].value;
    }
    return LT_STR("");
}

uint64_t lt_cert_days_left(const struct lt_cert *cert, int64_t now_s)
{
    return cert->not_after_s <= now_s ? 0 : (uint64_t)(cert->not_after_s - now_s) / SECONDS_PER_DAY;
}

static lt_rc verify_loaded(X509_STORE *store, X509 *leaf, STACK_OF(X509) * between, int64_t now_s,
                           struct lt_err *err)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    LT_ASSERT(ctx != NULL && X509_STORE_CTX_init(ctx, store, leaf, between) == 1);
    X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
    lt_rc rc = LT_OK;
    if (X509_verify_cert(ctx) != 1)
        rc = lt_err_set(err, LT_E_DENIED, "%s",
                        X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

lt_rc lt_cert_verify(lt_str leaf_pem, lt_str intermediates_pem, lt_str roots_pem, int64_t now_s,
                     struct lt_err *err)
{
    struct lt_vec leaf, between, roots;
    lt_vec_init(&leaf);
    lt_vec_init(&between);
    lt_vec_init(&roots);
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *stack = sk_X509_new_null();
    LT_ASSERT(store != NULL && stack != NULL);
    lt_rc rc = load_certs(leaf_pem, &leaf, err);
    if (rc == LT_OK)
        rc = load_certs(roots_pem, &roots, err);
    if (rc == LT_OK && intermediates_pem.len > 0)
        rc = load_certs(intermediates_pem, &between, err);
    if (rc == LT_OK) {
        for (size_t i = 0; i < roots.count; i++)
            LT_ASSERT(X509_STORE_add_cert(store, roots.items[i]) == 1);
        for (size_t i = 0; i < between.count; i++)
            LT_ASSERT(sk_X509_push(stack, between.items[i]) > 0);
        rc = verify_loaded(store, leaf.items[0], stack, now_s, err);
    }
    sk_X509_free(stack);
    X509_STORE_free(store);
    free_certs(&leaf);
    free_certs(&between);
    free_certs(&roots);
    return rc;
}

/* --- subject alternative names, made --- */

static GENERAL_NAME *make_san(const struct lt_san *san)
{
    static const int kinds[] = {
        [LT_SAN_URI] = GEN_URI, [LT_SAN_DNS] = GEN_DNS, [LT_SAN_EMAIL] = GEN_EMAIL};
    GENERAL_NAME *name = GENERAL_NAME_new();
    LT_ASSERT(name != NULL);
    unsigned char ip[16];
    char text[X509_IP_TEXT_MAX] = "";
    ASN1_STRING *value = NULL;
    if (san->type == LT_SAN_IP) {
        (void)snprintf(text, sizeof(text), "%.*s", LT_STR_ARG(san->value));
        int len = inet_pton(AF_INET, text, ip) == 1    ? 4
                  : inet_pton(AF_INET6, text, ip) == 1 ? 16
                                                       : 0;
        if (len > 0 && (value = ASN1_OCTET_STRING_new()) != NULL &&
            ASN1_STRING_set(value, ip, len) == 1)
            GENERAL_NAME_set0_value(name, GEN_IPADD, value);
    } else if (san->type != LT_SAN_ANY_TYPE && san->value.len > 0 && san->value.len <= UINT16_MAX) {
        value = ASN1_IA5STRING_new();
        LT_ASSERT(value != NULL &&
                  ASN1_STRING_set(value, san->value.ptr, (int)san->value.len) == 1);
        GENERAL_NAME_set0_value(name, kinds[san->type], value);
    }
    if (value != NULL)
        return name;
    GENERAL_NAME_free(name);
    return NULL;
}

static GENERAL_NAMES *make_sans(const struct lt_san *sans, size_t count)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    LT_ASSERT(names != NULL);
    for (size_t i = 0; i < count; i++) {
        GENERAL_NAME *name = make_san(&sans[i]);
        if (name == NULL) {
            GENERAL_NAMES_free(names);
            return NULL;
        }
        LT_ASSERT(sk_GENERAL_NAME_push(names, name) > 0);
    }
    return names;
}

/* --- requests --- */

lt_str lt_csr_make(struct lt_arena *arena, const struct lt_key *key, lt_str uri_san)
{
    const struct lt_san san = {LT_SAN_URI, uri_san};
    GENERAL_NAMES *names = make_sans(&san, 1);
    X509_EXTENSION *extension = X509V3_EXT_i2d(NID_subject_alt_name, 1, names);
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    X509_REQ *req = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(extension != NULL && extensions != NULL && req != NULL && bio != NULL);
    LT_ASSERT(sk_X509_EXTENSION_push(extensions, extension) > 0);
    LT_ASSERT(X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1);
    LT_ASSERT(X509_REQ_add_extensions(req, extensions) == 1);
    LT_ASSERT(X509_REQ_set_pubkey(req, key->pkey) == 1);
    LT_ASSERT(X509_REQ_sign(req, key->pkey, EVP_sha256()) > 0);
    LT_ASSERT(PEM_write_bio_X509_REQ(bio, req) == 1);
    lt_str pem = x509_take_bio(arena, bio);
    BIO_free(bio);
    X509_REQ_free(req);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    GENERAL_NAMES_free(names);
    return pem;
}

/* Of a size that can be trusted and afforded by those who meet its certificate. */
static bool is_fit_key(const EVP_PKEY *pkey)
{
    int bits = EVP_PKEY_get_bits(pkey);
    if (EVP_PKEY_is_a(pkey, "RSA"))
        return bits >= 2048 && bits <= 8192;
    return EVP_PKEY_is_a(pkey, "EC") && (bits == 256 || bits == 384 || bits == 521);
}

lt_rc lt_csr_parse(lt_str pem, struct lt_csr *ret_csr, struct lt_err *err)
{
    enum { CSR_MAX = 64 << 10 };
    if (pem.len > CSR_MAX)
        return lt_err_set(err, LT_E_LIMIT, "CSR longer than %d bytes", CSR_MAX);
    BIO *bio = x509_open_pem(pem);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, x509_refuse_password, NULL);
    BIO_free(bio);
    if (req == NULL)
        return x509_fail(err, "CSR");
    struct lt_csr csr = {0};
    lt_rc rc = LT_OK;
    EVP_PKEY *pkey = X509_REQ_get_pubkey(req);
    if (pkey == NULL) {
        rc = x509_fail(err, "CSR: public key");
    } else if (!is_fit_key(pkey)) {
        EVP_PKEY_free(pkey);
        rc = lt_err_set(err, LT_E_UNSUPPORTED,
                        "CSR: its key is neither RSA of 2048 to 8192 bits nor EC on a NIST curve");
    } else if (X509_REQ_verify(req, pkey) == 1) {
        csr.key = x509_key_wrap(pkey);
        csr.has_common_name = X509_NAME_get_index_by_NID(X509_REQ_get_subject_name(req),
                                                         NID_commonName, -1) >= 0;
        *ret_csr = csr;
    } else {
        EVP_PKEY_free(pkey);
        rc = x509_fail(err, "CSR: its signature is wrong");
    }
    X509_REQ_free(req);
    return rc;
}

void lt_csr_fini(struct lt_csr *csr)
{
    lt_key_free(&csr->key);
}

/* --- certificates, made --- */

struct lt_signer {
    X509 *cert;    /* owned */
    EVP_PKEY *key; /* owned */
};

static void add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    LT_ASSERT(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void set_serial(X509 *x509)
{
    unsigned char bytes[SERIAL_BYTES];
    LT_ASSERT(RAND_bytes(bytes, sizeof(bytes)) == 1);
    bytes[0] &= 0x7f; /* RFC 5280 4.1.2.2: positive, at most 20 bytes */
    bytes[0] |= 0x40; /* and never zero */
    BIGNUM *serial = BN_bin2bn(bytes, sizeof(bytes), NULL);
    LT_ASSERT(serial != NULL && BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x509)) != NULL);
    BN_free(serial);
}

static lt_rc add_subject(X509 *x509, const struct lt_cert_template *template, struct lt_err *err)
{
    const struct {
        int nid;
        lt_str value;
    } parts[] = {{NID_organizationName, template->organization},
                 {NID_commonName, template->common_name}};
    X509_NAME *subject = X509_get_subject_name(x509);
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++) {
        if (parts[i].value.len == 0)
            continue;
        if (parts[i].value.len > UINT16_MAX ||
            X509_NAME_add_entry_by_NID(subject, parts[i].nid, MBSTRING_UTF8,
                                       (const unsigned char *)parts[i].value.ptr,
                                       (int)parts[i].value.len, -1, 0) != 1)
            return x509_fail(err, "certificate subject");
    }
    return LT_OK;
}

static lt_rc add_sans(X509 *x509, const struct lt_cert_template *template, struct lt_err *err)
{
    if (template->san_count == 0)
        return LT_OK;
    GENERAL_NAMES *names = make_sans(template->sans, template->san_count);
    if (names == NULL)
        return lt_err_set(err, LT_E_BAD,
                          "certificate: a subject alternative name can't be encoded");
    LT_ASSERT(X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1);
    GENERAL_NAMES_free(names);
    return LT_OK;
}

static void add_usage(X509 *x509, X509 *issuer, bool is_ca)
{
    if (is_ca) {
        add_extension(x509, issuer, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(x509, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        add_extension(x509, issuer, NID_subject_key_identifier, "hash");
        return;
    }
    add_extension(x509, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(x509, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment");
    add_extension(x509, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
    if (X509_get0_subject_key_id(issuer) != NULL)
        add_extension(x509, issuer, NID_authority_key_identifier, "keyid");
}

/* issuer NULL: self-signed. */
static lt_rc issue(const struct lt_cert_template *template, X509 *issuer, EVP_PKEY *signing_key,
                   struct lt_arena *arena, lt_str *ret_pem, struct lt_err *err)
{
    X509 *x509 = X509_new();
    LT_ASSERT(x509 != NULL && X509_set_version(x509, X509_VERSION_3) == 1);
    set_serial(x509);
    LT_ASSERT(ASN1_TIME_set(X509_getm_notBefore(x509), (time_t) template->not_before_s) != NULL);
    LT_ASSERT(ASN1_TIME_set(X509_getm_notAfter(x509), (time_t) template->not_after_s) != NULL);
    LT_ASSERT(X509_set_pubkey(x509, template->subject_key->pkey) == 1);
    lt_rc rc = add_subject(x509, template, err);
    if (rc == LT_OK)
        rc = add_sans(x509, template, err);
    if (rc == LT_OK) {
        X509 *by = issuer != NULL ? issuer : x509;
        LT_ASSERT(X509_set_issuer_name(x509, X509_get_subject_name(by)) == 1);
        add_usage(x509, by, template->is_ca);
        if (X509_sign(x509, signing_key, EVP_sha256()) <= 0)
            rc = x509_fail(err, "certificate: signing failed");
        else
            *ret_pem = cert_pem(arena, x509);
    }
    X509_free(x509);
    return rc;
}

lt_rc lt_signer_new(lt_str cert_pem_text, lt_str key_pem, struct lt_signer **ret_signer,
                    struct lt_err *err)
{
    struct lt_key *key = NULL;
    LT_TRY(lt_key_parse_private(key_pem, &key, err));
    struct lt_vec certs;
    lt_vec_init(&certs);
    lt_rc rc = load_certs(cert_pem_text, &certs, err);
    X509 *cert = rc == LT_OK ? certs.items[0] : NULL;
    if (rc == LT_OK && X509_check_ca(cert) != 1)
        rc = lt_err_set(err, LT_E_BAD, "signing certificate: it is not a CA");
    if (rc == LT_OK && X509_check_private_key(cert, key->pkey) != 1)
        rc = x509_fail(err, "signing certificate: the key is another's");
    if (rc == LT_OK) {
        struct lt_signer *signer = lt_new(struct lt_signer);
        X509_up_ref(cert);
        EVP_PKEY_up_ref(key->pkey);
        *signer = (struct lt_signer){cert, key->pkey};
        *ret_signer = signer;
    }
    free_certs(&certs);
    lt_key_free(&key);
    return rc;
}

void lt_signer_free(struct lt_signer **signer)
{
    if (*signer == NULL)
        return;
    X509_free((*signer)->cert);
    EVP_PKEY_free((*signer)->key);
    free(*signer);
    *signer = NULL;
}

int64_t lt_signer_not_after_s(const struct lt_signer *signer)
{
    int64_t not_after_s = 0;
    return read_time(X509_get0_notAfter(signer->cert), &not_after_s) ? not_after_s : 0;
}

lt_rc lt_signer_issue(const struct lt_signer *signer, const struct lt_cert_template *template,
                      struct lt_arena *arena, lt_str *ret_pem, struct lt_err *err)
{
    return issue(template, signer->cert, signer->key, arena, ret_pem, err);
}

lt_rc lt_cert_self_sign(const struct lt_cert_template *template, struct lt_arena *arena,
                        lt_str *ret_pem, struct lt_err *err)
{
    return issue(template, NULL, template->subject_key->pkey, arena, ret_pem, err);
}
