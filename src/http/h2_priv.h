/*
 * http/h2_priv.h - what the files of http/h2 share: connection, stream, guard.
 *   h2_conn.c   birth, feeding, draining, death
 *   h2_recv.c   what comes in: nghttp2's callbacks become our events
 *   h2_send.c   stream actions, and what goes out
 *   h2_guard.c  rates, and the order of stream identifiers
 */
#ifndef LT_HTTP_H2_PRIV_H
#define LT_HTTP_H2_PRIV_H

#include <nghttp2/nghttp2.h>

#include "base/list.h"
#include "http/h2.h"

struct lt_h2_bucket {
    struct lt_h2_rate rate;
    uint64_t tokens;
    uint64_t filled_at_ns; /* tokens are right for this moment */
};

enum { LT_H2_GAPS = 8, LT_H2_ENDED = 8 };

/*
 * Server: the latest streams that the client itself has ended: more of their content is an error
 * (RFC 9113 section 5.1). nghttp2 would remember as many as may be open, and without them it
 * ignores such content and tells nobody; so the frames' heads are looked at before it gets them.
 */
struct lt_h2_scan {
    uint32_t skip;   /* bytes until the next frame */
    uint8_t head[9]; /* of it, as far as it came */
    uint8_t have;    /* of head */
    bool is_block;   /* the latest frame carries fields ... */
    bool goes_on;    /* ... and another will follow with the rest */
    uint32_t blocks; /* begun so far */
    uint32_t id_max;
    uint32_t ended[LT_H2_ENDED], ended_next;
};

/* What nghttp2 does not watch by itself. */
struct lt_h2_guard {
    struct lt_h2_bucket resets;
    struct lt_h2_bucket control;
    uint32_t empty_max, priorities_per_stream, updates_per_data;
    uint32_t empty_run;                  /* empty DATA frames since one that was not */
    uint64_t streams, data_sent;         /* opened by either side; DATA frames of ours */
    uint64_t priorities, window_updates; /* received */
    int64_t id_max; /* highest stream identifier that the peer used; -1: none */
    /*
     * identifiers that were jumped over, newest last: using one is an error (RFC 9113 section
     * 5.1.1)
     */
    struct {
        int64_t from, to; /* inclusive */
    } gaps[LT_H2_GAPS];
    uint32_t gap_count;
    struct lt_h2_scan scan;
};

void lt_h2_guard_init(struct lt_h2_guard *guard, const struct lt_h2_opts *opts);
/* False: too fast. */
LT_MUST bool lt_h2_bucket_take(struct lt_h2_bucket *bucket, uint64_t now_ns);
/* Gives a token back, never above the burst. */
void lt_h2_bucket_give(struct lt_h2_bucket *bucket);
/* At each frame's header. LT_H2_FAIL_NONE: go on. */
LT_MUST lt_h2_fail lt_h2_guard_frame(struct lt_h2_guard *guard, const nghttp2_frame_hd *hd,
                                     bool is_server, uint64_t now_ns);
/* Where in the bytes the frame begins that is content for such a stream; bytes.len: nowhere. */
LT_MUST size_t lt_h2_scan_bytes(struct lt_h2_scan *scan, lt_str bytes);
/* A whole DATA frame has come. False: too many empty ones. */
LT_MUST bool lt_h2_guard_data(struct lt_h2_guard *guard, const nghttp2_data *data);

struct lt_h2_stream {
    struct lt_h2_conn *conn; /* borrowed: the connection outlives its streams */
    void *user;
    struct lt_list link;     /* in conn->streams */
    struct lt_list writable; /* in conn->writable while on_writable is due */
    struct lt_rope queue;    /* owned; body to be sent */
    nghttp2_nv *trailers;    /* owned, one block with its bytes; sent behind the queue */
    size_t trailer_count;
    size_t unconsumed;
    size_t ahead;                    /* of them: the connection has its credit already */
    uint32_t window_bytes, consumed; /* consumed: since the window grew */
    uint64_t opened_ns;
    uint64_t head_end; /* client: of conn->framed, where its request's head ends; 0: not framed */
    uint32_t id;
    bool has_sent_headers : 1; /* final ones: a body may follow */
    bool has_ended : 1;        /* end() was called, or headers ended it */
    bool is_deferred : 1;      /* nghttp2 waits to be told of more body */
    bool was_full : 1;         /* is_writable said no since on_writable */
    bool is_reset : 1;         /* by an action of ours */
    bool is_reset_by_rule : 1; /* by nghttp2, because the peer broke one */
    bool is_reset_by_peer : 1;
    bool closes_after_end : 1; /* our end, once sent, closes the stream */
    bool is_announced : 1;     /* the owner knows of it: on_closed is due */
};

/* A header block while it comes in; blocks never interleave, so one a connection is enough. */
struct lt_h2_block {
    struct lt_h2_field *fields; /* owned array; names and values point into rcbufs */
    nghttp2_rcbuf **rcbufs;     /* owned array of counted buffers, two a field */
    size_t count;
    size_t cap;
    size_t bytes; /* as RFC 9113 section 6.5.2 counts */
    bool is_over_limit;
};

struct lt_h2_conn {
    nghttp2_session *session; /* owned */
    const struct lt_h2_events *events;
    void *user;
    struct lt_h2_opts opts;
    struct lt_h2_stats stats;
    struct lt_h2_guard guard;
    struct lt_h2_block block;
    struct lt_rope out; /* owned; frames on their way to the socket */
    struct lt_list streams;
    struct lt_list writable;
    size_t stream_count;
    size_t unconsumed;             /* of all streams */
    size_t queued;                 /* likewise */
    uint64_t now_ns;               /* of the last feed */
    struct lt_h2_stream *head_due; /* borrowed; its head_end is to be set */
    uint64_t framed, sent;         /* bytes so far, into the outgoing rope and out of it */
    uint32_t goaway_last_id;       /* the peer's, when has_peer_goaway */
    uint32_t own_goaway_last_id;   /* ours, when has_sent_goaway */
    lt_rc failed;                  /* LT_OK, or what feed says from now on */
    bool has_peer_settings : 1;
    bool has_peer_goaway : 1;
    bool has_sent_goaway : 1;
    bool is_inside : 1; /* an event, or nghttp2, is on the stack */
};

/*
 * Ends the connection because of the peer: a GOAWAY is queued, feed says rc from now on. The first
 * cause stays.
 */
void lt_h2_conn_fail(struct lt_h2_conn *conn, lt_h2_fail fail, lt_rc rc, uint32_t code);

/* h2_recv.c */
void lt_h2_recv_callbacks(nghttp2_session_callbacks *callbacks);
void lt_h2_block_clear(struct lt_h2_block *block);
void lt_h2_block_fini(struct lt_h2_block *block);

/* h2_send.c */
enum { LT_H2_OUT_BYTES = 128 * 1024 }; /* framed ahead of the socket */
void lt_h2_send_callbacks(nghttp2_session_callbacks *callbacks);
/* Frames what may go; calls due on_writable events. */
void lt_h2_conn_fill(struct lt_h2_conn *conn);

struct lt_h2_stream *lt_h2_stream_new(struct lt_h2_conn *conn, void *user);
/* Tells on_closed and frees. */
void lt_h2_stream_finish(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code);

#endif
