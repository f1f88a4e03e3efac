/*
 * net/client_hello.h - what a TLS client says in its first message: server name and application
 * protocols. No TLS is spoken. (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC
 * 7301.)
 * Trust: the bytes are a stranger's.
 */
#ifndef LT_NET_CLIENT_HELLO_H
#define LT_NET_CLIENT_HELLO_H

#include "base/str.h"

enum {
    LT_CLIENT_HELLO_ALPN_MAX = 16,
    LT_CLIENT_HELLO_BYTES_MAX = 16 * 1024, /* of the message; Envoy's limit */
    LT_SERVER_NAME_MAX = 255,
};

struct lt_client_hello {
    lt_str server_name;                    /* slice of the input or of room; empty: none */
    lt_str alpn[LT_CLIENT_HELLO_ALPN_MAX]; /* slices, in the client's order; more are not kept */
    size_t alpn_count;
};

/*
 * bytes: the beginning of a connection. LT_OK: a ClientHello. LT_AGAIN: may become one. LT_E_BAD:
 * it is no TLS, or a hello that breaks its grammar. LT_E_LIMIT: one that is too long. room: where a
 * hello that spans several records is put together.
 */
LT_MUST lt_rc lt_client_hello_parse(lt_str bytes, char room[LT_CLIENT_HELLO_BYTES_MAX],
                                    struct lt_client_hello *ret_hello);

/*
 * A server name for logs and headers, as Envoy writes it: in lower case, and where it has anything
 * but letters, digits, '-', '.' and '_', "invalid:" and '_' in their place.
 */
enum { LT_SERVER_NAME_TEXT_MAX = LT_SERVER_NAME_MAX + sizeof("invalid:") };
lt_str lt_server_name_text(lt_str name, char out[LT_SERVER_NAME_TEXT_MAX]);

#endif
