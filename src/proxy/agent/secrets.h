/*
 * proxy/agent/secrets.h - the secrets that the agent hands out, by their SDS names, as bytes of
 * Secret messages:
 *   default, ROOTCA                       from the identity (identity.h)
 *   file-cert:<chain>~<key>, file-root:<ca>, file-root:system   files, read again when they change
 * Both takers, the data path in this process and the SDS socket, get the same bytes. Private keys
 * are wiped when they are replaced or freed.
 */
#ifndef LT_PROXY_AGENT_SECRETS_H
#define LT_PROXY_AGENT_SECRETS_H

#include "net/loop.h"

struct px_secrets;

enum { PX_SECRETS_MAX = 256 };

struct px_secret_view {
    lt_str name;
    lt_str version; /* hash of the bytes, in hex */
    lt_str bytes;   /* envoy.extensions.transport_sockets.tls.v3.Secret */
};

/*
 * Told of every new or changed secret, from the loop or inside a put. The view is borrowed for the
 * call.
 */
typedef void px_secrets_fn(void *ctx, const struct px_secret_view *secret);

struct px_secrets *px_secrets_new(struct lt_loop *loop, px_secrets_fn *on_change, void *ctx);
void px_secrets_free(struct px_secrets **secrets);

/* PEM texts. Equal content changes nothing. */
void px_secrets_put_cert(struct px_secrets *secrets, lt_str name, lt_str chain_pem, lt_str key_pem);
/* crl_pem may be empty. */
void px_secrets_put_root(struct px_secrets *secrets, lt_str name, lt_str root_pem, lt_str crl_pem);

/* The present content; false when there is none yet. Borrowed until the next change. */
bool px_secrets_find(const struct px_secrets *secrets, lt_str name,
                     struct px_secret_view *ret_view);
/*
 * Asks for a file secret: on_change follows, from the loop, when its files can be read.
 * LT_E_NOT_FOUND: no name of ours; LT_E_BAD: no path in it; LT_E_LIMIT: too many. "default" and
 * "ROOTCA" are LT_OK.
 */
LT_MUST lt_rc px_secrets_want(struct px_secrets *secrets, lt_str name);
/* Files that were wanted and could not be read, now. */
uint64_t px_secrets_file_failures(const struct px_secrets *secrets);

#endif
