/*
 * net/client_hello.h - what a TLS client says in its first message: server name and application
 * protocols. No TLS is spoken, nothing is copied. (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC
 * 7301.)
 * Trust: the bytes are a stranger's.
 */
#ifndef LT_NET_CLIENT_HELLO_H
#define LT_NET_CLIENT_HELLO_H

#include "base/str.h"

enum { LT_CLIENT_HELLO_ALPN_MAX = 16 };

struct lt_client_hello {
    lt_str server_name;                    /* slice of the input; empty: none */
    lt_str alpn[LT_CLIENT_HELLO_ALPN_MAX]; /* slices, in the client's order; more are not kept */
    size_t alpn_count;
};

/*
 * bytes: the beginning of a connection. LT_OK: a ClientHello. LT_AGAIN: may become one. LT_E_BAD:
 * it is no TLS, or a hello that breaks its grammar. A hello that spans several records is
 * recognised as TLS, but without names (no client in use sends one).
 */
LT_MUST lt_rc lt_client_hello_parse(lt_str bytes, struct lt_client_hello *ret_hello);

#endif
