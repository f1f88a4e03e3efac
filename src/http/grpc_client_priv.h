/*
 * http/grpc_client_priv.h - what the two files of the gRPC client share.
 *   grpc_client.c   the channel: connecting, backing off, the end       grpc_call.c   one call
 */
#ifndef LT_HTTP_GRPC_CLIENT_PRIV_H
#define LT_HTTP_GRPC_CLIENT_PRIV_H

#include "http/grpc_client.h"
#include "http/grpc_conn_priv.h"

struct lt_grpc_client_conn {
    struct lt_grpc_conn base;
    struct lt_grpc_channel *channel; /* borrowed: outlives its connections */
    struct lt_list link;
    uint64_t ready_at_ns; /* 0: never was */
};

struct lt_grpc_channel {
    struct lt_loop *loop;             /* borrowed */
    struct lt_grpc_channel_opts opts; /* strings and SANs: in the arena */
    struct lt_arena *arena;
    lt_grpc_channel_fn *on_state;
    void *ctx;
    lt_grpc_channel_state state;
    struct lt_grpc_client_conn *current; /* one of conns: connecting or ready; or NULL */
    struct lt_list conns;                /* with those that only end their calls */
    struct lt_list waiting;              /* calls without a stream */
    size_t waiting_count;
    struct lt_backoff backoff;
    struct lt_timer backoff_timer;
    struct lt_prng prng;
    struct lt_task work;   /* starts what waits; tells the state */
    struct lt_list parked; /* calls whose messages wait for the owner */
    struct lt_list ended;  /* calls whose on_closed is due */
    bool is_wanted;        /* connect() was called and nothing stands yet */
    bool is_closing;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
    lt_grpc_channel_state told_state;
    char reason[LT_GRPC_CONN_CAUSE_MAX]; /* why the last connection went */
};

/* The channel's work runs at the end of the turn. */
void lt_grpc_channel_kick(struct lt_grpc_channel *channel);
/* :authority as the options say. */
lt_str lt_grpc_channel_authority(struct lt_grpc_channel *channel);
/* At the end of a turn: moves waiting calls to the current connection while it takes them. */
void lt_grpc_calls_start_waiting(struct lt_grpc_channel *channel);
/* A connection failed: calls that do not wait for the next one end. */
void lt_grpc_calls_fail_waiting(struct lt_grpc_channel *channel);
/* The channel closes: those without a stream end; the others end with their connections. */
void lt_grpc_calls_cancel_all(struct lt_grpc_channel *channel);
/* Tells on_closed of the calls that ended without a stream. */
void lt_grpc_calls_report_ended(struct lt_grpc_channel *channel);
extern const struct lt_h2_events lt_grpc_call_events;
void lt_grpc_client_on_settings(struct lt_h2_conn *h2);
void lt_grpc_client_on_goaway(struct lt_h2_conn *h2, uint32_t last_stream_id, uint32_t code,
                              lt_str debug);

#endif
