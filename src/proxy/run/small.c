/*
 * proxy/run/small.c - terminal filters that need no host: echo, and direct_response.
 * Start at: px_small_start().
 */
#include "proxy/run/run.h"

struct px_small {
    struct px_pipe pipe;
    bool ended, end_sent;
    uint64_t count; /* bytes that went */
};

void px_small_start(struct px_conn *conn)
{
    struct px_conn_more *more = px_conn_more(conn);
    more->small = lt_arena_make(more->arena, struct px_small);
    conn->state = PX_CONN_SMALL;
    conn->can_read = true; /* what came while filters waited was not looked at */
    px_small_run(conn);
}

/* Both directions are one. */
static void run_echo(struct px_conn *conn)
{
    struct px_small *small = conn->more->small;
    struct px_side side = {&conn->in,        &conn->transport, &conn->transport,
                           &conn->can_read,  &conn->can_write, &small->ended,
                           &small->end_sent, &small->count,    &small->pipe};
    lt_rc rc = px_pump(conn->worker, &side);
    if (rc == LT_OK)
        px_conn_yield(conn);
    else if (rc == LT_EOF)
        px_conn_linger(conn);
    else if (rc != LT_AGAIN)
        px_conn_close(conn);
}

static void run_direct(struct px_conn *conn)
{
    struct px_small *small = conn->more->small;
    lt_str rest = lt_str_from(conn->chain->small->text, (size_t)small->count);
    while (rest.len > 0 && conn->can_write) {
        size_t put = 0;
        const struct iovec piece = {(void *)rest.ptr, rest.len};
        lt_rc rc = lt_transport_writev(&conn->transport, &piece, 1, &put);
        small->count += put;
        rest = lt_str_from(rest, put);
        if (rc == LT_AGAIN)
            conn->can_write = false;
        else if (rc != LT_OK) {
            px_conn_close(conn);
            return;
        }
    }
    if (rest.len == 0)
        px_conn_linger(conn);
}

void px_small_run(struct px_conn *conn)
{
    if (conn->chain->small->is_echo)
        run_echo(conn);
    else
        run_direct(conn);
}

void px_small_end(struct px_conn *conn)
{
    if (conn->more == NULL || conn->more->small == NULL)
        return;
    struct px_small *small = conn->more->small;
    px_pipe_close(conn->worker, &small->pipe);
    conn->more->received = conn->chain->small->is_echo ? small->count : 0;
    conn->more->sent = small->count;
    conn->more->small = NULL;
}
