/*
 * proxy/h2_link.c - reading into and writing out of an HTTP/2 engine.
 */
#include "proxy/h2_link.h"

#include <stdlib.h>

enum {
    READS_PER_TURN = 16,
    IOVS = 64,
};

struct px_h2_link *px_h2_link_new(struct px_worker *worker, const struct lt_h2_opts *opts,
                                  const struct lt_h2_events *events, void *owner)
{
    struct px_h2_link *link = lt_new(struct px_h2_link);
    link->worker = worker;
    link->owner = owner;
    lt_list_init(&link->dirty);
    link->conn = lt_h2_conn_new(opts, events, owner);
    return link;
}

void px_h2_link_free(struct px_h2_link **pointer)
{
    struct px_h2_link *link = *pointer;
    *pointer = NULL;
    if (link == NULL)
        return;
    lt_list_remove(&link->dirty);
    lt_h2_conn_free(&link->conn);
    px_bury(link->worker, link);
}

void px_h2_link_touch(struct px_h2_link *link)
{
    if (lt_list_is_linked(&link->dirty))
        return;
    lt_list_push_back(&link->worker->dirty, &link->dirty);
    lt_loop_defer(link->worker->loop, &link->worker->turn);
}

static void cut(struct px_h2_link *link)
{
    link->is_over = link->is_cut = true;
}

void px_h2_link_read(struct px_h2_link *link)
{
    struct px_worker *worker = link->worker;
    px_h2_link_touch(link);
    for (int reads = 0; *link->can_read && !link->is_over; reads++) {
        if (reads == READS_PER_TURN || worker->is_choked) {
            link->wants_read = true;
            break;
        }
        lt_rc rc = px_input_read(worker, link->in, link->transport, link->can_read);
        if (rc == LT_AGAIN)
            break;
        if (rc != LT_OK) {
            cut(link);
            break;
        }
        rc = lt_h2_conn_feed(link->conn, px_input_unread(link->in), px_now_ns(worker));
        link->in->pos = link->in->end;
        if (rc != LT_OK)
            link->is_over = true; /* a GOAWAY may wait to be sent */
    }
    px_input_free(worker, link->in);
}

/* LT_OK: nothing is left. LT_AGAIN: the transport is full. */
static lt_rc write_out(struct px_h2_link *link)
{
    struct iovec iov[IOVS];
    while (*link->can_write) {
        int count = lt_h2_conn_drain(link->conn, iov, IOVS);
        if (count == 0)
            return LT_OK;
        size_t put = 0;
        lt_rc rc = lt_transport_writev(link->transport, iov, count, &put);
        if (rc == LT_AGAIN)
            *link->can_write = false;
        if (rc != LT_OK)
            return rc;
        lt_h2_conn_sent(link->conn, put);
    }
    return lt_h2_conn_has_output(link->conn) ? LT_AGAIN : LT_OK;
}

void px_h2_link_flush(struct px_h2_link *link)
{
    if (link->wants_read) {
        link->wants_read = false;
        px_h2_link_read(link);
    }
    lt_rc rc = link->is_cut ? LT_E_CLOSED : write_out(link);
    if (rc == LT_AGAIN)
        return;
    if (rc != LT_OK)
        cut(link);
    if (link->is_over || lt_h2_conn_is_finished(link->conn))
        link->on_over(link);
}
