/*
 * net/x509_util.c - small readers over OpenSSL's objects, shared by x509*.c and tls*.c.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "net/x509_priv.h"

_Static_assert(X509_IP_TEXT_MAX >= INET6_ADDRSTRLEN, "room for any address");

void x509_init_openssl(void)
{
    int is_ready = OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    LT_ASSERT(is_ready == 1);
}

int x509_refuse_password(char *buf LT_UNUSED, int size LT_UNUSED, int is_write LT_UNUSED,
                         void *ctx LT_UNUSED)
{
    return -1;
}

BIO *x509_open_pem(lt_str pem)
{
    x509_init_openssl();
    if (pem.len > LT_X509_PEM_MAX)
        return NULL;
    BIO *bio = BIO_new_mem_buf(pem.ptr == NULL ? "" : pem.ptr, (int)pem.len);
    LT_ASSERT(bio != NULL);
    return bio;
}

bool x509_is_pem_end(void)
{
    unsigned long code = ERR_peek_last_error();
    bool is_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (is_end)
        ERR_clear_error();
    return is_end;
}

lt_str x509_take_bio(struct lt_arena *arena, BIO *bio)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    return lt_arena_str(arena, lt_str_make(data, len > 0 ? (size_t)len : 0));
}

lt_rc x509_fail(struct lt_err *err, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    lt_rc rc = lt_err_set(err, LT_E_BAD, "%s%s%s", what, reason == NULL ? "" : ": ",
                          reason == NULL ? "" : reason);
    ERR_clear_error();
    return rc;
}

static lt_str ip_text(const ASN1_OCTET_STRING *ip, char out[X509_IP_TEXT_MAX])
{
    int family = ip->length == 4 ? AF_INET : ip->length == 16 ? AF_INET6 : 0;
    if (family == 0 || inet_ntop(family, ip->data, out, X509_IP_TEXT_MAX) == NULL)
        return LT_STR_NULL;
    return lt_str_of(out);
}

/* Names go into headers and logs; what has a control character is no name of anybody. */
static bool is_plain(lt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return false;
    }
    return text.len > 0;
}

bool x509_read_san(const GENERAL_NAME *name, char ip[X509_IP_TEXT_MAX], lt_san_type *ret_type,
                   lt_str *ret_text)
{
    switch (name->type) {
    case GEN_URI: *ret_type = LT_SAN_URI; break;
    case GEN_DNS: *ret_type = LT_SAN_DNS; break;
    case GEN_EMAIL: *ret_type = LT_SAN_EMAIL; break;
    case GEN_IPADD:
        *ret_type = LT_SAN_IP;
        *ret_text = ip_text(name->d.iPAddress, ip);
        return ret_text->len > 0;
    default: return false;
    }
    /* URI, DNS and e-mail share one representation */
    const ASN1_IA5STRING *text = name->d.ia5;
    *ret_text = lt_str_make(text->data, (size_t)text->length);
    return is_plain(*ret_text);
}

char *x509_first_san(X509 *cert, lt_san_type type)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    char *found = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && found == NULL; i++) {
        char ip[X509_IP_TEXT_MAX];
        lt_san_type kind = LT_SAN_ANY_TYPE;
        lt_str text = LT_STR_NULL;
        if (x509_read_san(sk_GENERAL_NAME_value(names, i), ip, &kind, &text) && kind == type)
            found = lt_str_dupz(text);
    }
    GENERAL_NAMES_free(names);
    return found != NULL ? found : lt_strdup("");
}

char *x509_name_text(const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    LT_ASSERT(bio != NULL);
    (void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    char *text = lt_str_dupz(lt_str_make(data, len > 0 ? (size_t)len : 0));
    BIO_free(bio);
    return text;
}

static char *digest_text(const X509 *cert, const EVP_MD *kind)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (X509_digest(cert, kind, digest, &len) != 1)
        return lt_strdup("");
    char *text = lt_malloc(2 * (size_t)len + 1);
    for (unsigned i = 0; i < len; i++)
        (void)snprintf(text + 2 * (size_t)i, 3, "%02x", digest[i]);
    return text;
}

char *x509_sha256_text(const X509 *cert)
{
    return digest_text(cert, EVP_sha256());
}

char *x509_sha1_text(const X509 *cert)
{
    return digest_text(cert, EVP_sha1());
}
