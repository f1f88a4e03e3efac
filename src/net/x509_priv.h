/*
 * net/x509_priv.h - what the x509*.c files and tls_verify.c share.
 */
#ifndef LT_NET_X509_PRIV_H
#define LT_NET_X509_PRIV_H

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "net/x509.h"

struct lt_key {
    EVP_PKEY *pkey; /* owned */
};

/*
 * Before the first use of OpenSSL, wherever that is: what a host's openssl.cnf says must not change
 * what a mesh accepts. Cheap when done already.
 */
void x509_init_openssl(void);

struct lt_key *x509_key_wrap(EVP_PKEY *pkey);

/* A BIO that reads the text; the text is borrowed. NULL when it is longer than LT_X509_PEM_MAX. */
BIO *x509_open_pem(lt_str pem);
/* An encrypted PEM is an error: without this callback OpenSSL would ask at the terminal. */
int x509_refuse_password(char *buf, int size, int is_write, void *ctx);
/* True, and the error queue emptied, when reading stopped because there is no more PEM. */
bool x509_is_pem_end(void);
/* What a memory BIO holds, copied into the arena. */
lt_str x509_take_bio(struct lt_arena *arena, BIO *bio);
/* Sets "<what>: <OpenSSL's reason>", empties the error queue, returns LT_E_BAD. */
lt_rc x509_fail(struct lt_err *err, const char *what);
/*
 * One SAN as text. False for kinds that nobody matches, and for text with a NUL inside, which is
 * there to deceive. ip is room for addresses; *ret_text points into it or into name.
 */
enum { X509_IP_TEXT_MAX = 46 };
bool x509_read_san(const GENERAL_NAME *name, char ip[X509_IP_TEXT_MAX], lt_san_type *ret_type,
                   lt_str *ret_text);
/* The first SAN of that kind, on the heap, "" when there is none. */
char *x509_first_san(X509 *cert, lt_san_type type);
/* RFC 2253 text on the heap. */
char *x509_name_text(const X509_NAME *name);
/* Lower-case hex on the heap. */
char *x509_sha256_text(const X509 *cert);
char *x509_sha1_text(const X509 *cert); /* a name, for logs: nothing is trusted by it */

#endif
