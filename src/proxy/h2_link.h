/*
 * proxy/h2_link.h - the bytes of an HTTP/2 connection, down or up: between a transport and the
 * engine (http/h2.h). What is read is fed at once; what the engine has to say is written at the end
 * of the turn, for all streams together.
 */
#ifndef LT_PROXY_H2_LINK_H
#define LT_PROXY_H2_LINK_H

#include "http/h2.h"
#include "proxy/run.h"

struct px_h2_link {
    struct lt_h2_conn *conn; /* owned */
    struct lt_list dirty;    /* in worker->dirty */
    struct px_worker *worker;
    /* borrowed of the connection: */
    struct lt_transport *transport;
    struct px_input *in;
    bool *can_read, *can_write;
    /*
     * It is over: everything was said, or the peer or the transport broke. Called from
     * px_h2_link_flush only; the link may be freed in it.
     */
    void (*on_over)(struct px_h2_link *link);
    void *owner;
    bool wants_read; /* the turn's share was read and there is more */
    bool is_over;    /* when what is to be sent is sent, or at once */
    bool is_cut;     /* nothing can be sent any more */
};

struct px_h2_link *px_h2_link_new(struct px_worker *worker, const struct lt_h2_opts *opts,
                                  const struct lt_h2_events *events, void *owner);
/* Streams that are left are told on_closed. */
void px_h2_link_free(struct px_h2_link **link);
/* Reads and feeds until the transport has nothing, or enough for one turn. */
void px_h2_link_read(struct px_h2_link *link);
/* Output may wait: px_h2_link_flush at the end of this turn. */
void px_h2_link_touch(struct px_h2_link *link);
void px_h2_link_flush(struct px_h2_link *link);

#endif
