/*
 * proxy/http/h2_link.h - the bytes of an HTTP/2 connection, down or up: between a transport and the
 * engine (http/h2.h). What is read is fed at once; what the engine has to say is written at the end
 * of the turn, for all streams together.
 */
#ifndef LT_PROXY_HTTP_H2_LINK_H
#define LT_PROXY_HTTP_H2_LINK_H

#include "http/h2.h"
#include "proxy/run/run.h"

enum {
    PX_H2_STREAM_QUEUE = 64 * 1024,     /* to be sent, of one stream */
    PX_H2_CONN_QUEUE = 2 * 1024 * 1024, /* and of all */
    PX_H2_AHEAD = 16 * 1024 * 1024,     /* received from a host for clients that don't take it */
    PX_H2_RX_SLACK = 64 * 1024, /* a stream's window may be overrun by what was on its way */
};

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
    const struct px_hcm_conf *hcm;    /* borrowed, of a client's connection; or NULL */
    const struct px_cluster *cluster; /* borrowed, of a host's; or NULL */
    struct lt_h2_stats told;          /* what was counted (codec_stats.h) */
    struct lt_timer timer;            /* at the first of these moments; 0: not due */
    uint64_t ping_at_ns, pong_until_ns, goaway_at_ns;
    uint64_t heard_ns; /* when the peer said something last */
    uint32_t ping_interval_ms, ping_timeout_ms, ping_jitter_percent;
    uint32_t open_block; /* lt_h2_conn_open_block, when it was looked at last */
    bool is_draining;    /* it was said; the last GOAWAY follows */
    bool goes_by_pong;   /* with the answer to our ping */
    bool wants_read;     /* the turn's share was read and there is more */
    bool is_over;        /* when what is to be sent is sent, or at once */
    bool is_cut;         /* nothing can be sent any more */
};

struct px_h2_link *px_h2_link_new(struct px_worker *worker, const struct lt_h2_opts *opts,
                                  const struct lt_h2_events *events, void *owner);
/* connection_keepalive: pings from now on, and the end when one is not answered in time. */
void px_h2_link_keep_alive(struct px_h2_link *link, const struct px_h2_options *options);
/* One now, when the peer has been quiet for so long. */
void px_h2_link_ping_if_quiet(struct px_h2_link *link, const struct px_h2_options *options);
/* The engine's event. */
void px_h2_link_on_pong(struct px_h2_link *link);
/*
 * Server: tells the client to open no more streams, takes what is on its way for drain_ms (0:
 * for one round trip), then refuses; the link is over with the last stream. Doing it twice does
 * nothing.
 */
void px_h2_link_drain(struct px_h2_link *link, uint64_t drain_ms);
/* Streams that are left are told on_closed. */
void px_h2_link_free(struct px_h2_link **link);
/* Reads and feeds until the transport has nothing, or enough for one turn. */
void px_h2_link_read(struct px_h2_link *link);
/* Output may wait: px_h2_link_flush at the end of this turn. */
void px_h2_link_touch(struct px_h2_link *link);
void px_h2_link_flush(struct px_h2_link *link);

#endif
