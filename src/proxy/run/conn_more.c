/*
 * proxy/run/conn_more.c - what only few connections need to keep.
 */
#include <stdatomic.h>

#include "net/x509.h"
#include "proxy/run/run.h"

struct px_conn_more *px_conn_more(struct px_conn *conn)
{
    if (conn->more != NULL)
        return conn->more;
    struct lt_arena *arena = lt_arena_new(512, 0);
    conn->more = lt_arena_make(arena, struct px_conn_more);
    conn->more->arena = arena;
    return conn->more;
}

void px_conn_more_free(struct px_conn *conn)
{
    if (conn->more == NULL)
        return;
    for (struct px_conn_count *count = conn->more->counts; count != NULL; count = count->next)
        atomic_fetch_sub_explicit(count->active, 1, memory_order_relaxed);
    struct lt_arena *arena = conn->more->arena; /* it holds the struct, too */
    conn->more = NULL;
    lt_arena_free(&arena);
}

lt_str px_conn_server_name(const struct px_conn *conn)
{
    if (conn->requested_server_name[0] != '\0' || conn->transport.tls == NULL)
        return lt_str_of(conn->requested_server_name);
    return lt_tls_sni(&conn->transport);
}

const struct lt_cert *px_conn_peer_cert(struct px_conn *conn)
{
    if (!lt_tls_has_verified_peer(&conn->transport))
        return NULL;
    struct px_conn_more *more = px_conn_more(conn);
    if (!more->knows_cert)
        more->peer_cert = lt_tls_peer_cert(&conn->transport, more->arena);
    more->knows_cert = true;
    return more->peer_cert;
}
