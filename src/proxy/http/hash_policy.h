/*
 * proxy/http/hash_policy.h - the key by which a request or a connection finds the same host again.
 */
#ifndef LT_PROXY_HTTP_HASH_POLICY_H
#define LT_PROXY_HTTP_HASH_POLICY_H

#include "proxy/conf/conf.h"

struct px_request;
struct px_conn;

/*
 * By the policies of the route; false: none of them found anything to hash. It is computed once; a
 * cookie that had to be made goes into the response (px_hash_add_cookies).
 */
bool px_hash_request(struct px_request *request, uint64_t *ret_hash);
LT_MUST lt_rc px_hash_add_cookies(struct px_request *request);
bool px_hash_connection(const struct px_hash_policies *policies, const struct px_conn *conn,
                        uint64_t *ret_hash);

/* Of one cookie, without the quotes that it may stand in; empty: there is none. For tests. */
lt_str px_hash_find_cookie(lt_str header, lt_str name);

#endif
