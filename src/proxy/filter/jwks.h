/*
 * proxy/filter/jwks.h - keys that tokens are verified with and that are fetched (remote_jwks), as
 * one worker has them. Each worker parses its own from the text that any of them fetched, and no
 * object is shared: no lock, no count between threads (docs/decisions/0021).
 * Keys that were good stay in force while newer ones cannot be had.
 */
#ifndef LT_PROXY_FILTER_JWKS_H
#define LT_PROXY_FILTER_JWKS_H

#include "base/list.h"
#include "proxy/conf/jwt_authn.h"
#include "proxy/run/run.h"

/* Whoever waits for keys. */
struct px_jwks_wait {
    struct lt_list link;
    void (*on_keys)(struct px_jwks_wait *wait); /* they are here, or cannot be had: ask again */
};

enum { PX_JWKS_SOURCES_MAX = 256 };

/*
 * LT_OK: *ret_keys, and a number that no other keys of this worker have. LT_AGAIN: they are under
 * way; wait is told when there is news, unless it is NULL. LT_E_IO: they cannot be had.
 */
LT_MUST lt_rc px_jwks_find(struct px_worker *worker, const struct px_jwt_conf *conf,
                           const struct px_jwt_remote *remote, struct px_jwks_wait *wait,
                           const struct lt_jwks **ret_keys, uint64_t *ret_id);
/* After a new snapshot: what it names is known, and what is to be fetched ahead is. */
void px_jwks_prefetch(struct px_worker *worker);
void px_jwks_free(struct px_worker *worker);

#endif
