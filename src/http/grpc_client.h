/*
 * http/grpc_client.h - a gRPC client on one loop: a channel to one address, calls on it.
 * The channel connects when a call needs it (or is told to), backs off after failures, and comes
 * back by itself as long as calls wait. Messages are bytes; metadata is name and value.
 * Promises: no handler is called before the call that caused it has returned; on_closed is last and
 * once; the call is gone when it has returned.
 * Trust: the server is a stranger until TLS says otherwise; then its bytes still are.
 * Start at: lt_grpc_channel_new(), lt_grpc_call_start().
 */
#ifndef LT_HTTP_GRPC_CLIENT_H
#define LT_HTTP_GRPC_CLIENT_H

#include "base/backoff.h"
#include "http/grpc.h"
#include "http/h2.h"
#include "net/loop.h"
#include "net/sock.h"
#include "net/tls.h"

struct lt_grpc_channel;
struct lt_grpc_call;

typedef enum {
    LT_GRPC_IDLE,
    LT_GRPC_CONNECTING,
    LT_GRPC_READY,
    LT_GRPC_BACKING_OFF
} lt_grpc_channel_state;
const char *lt_grpc_channel_state_name(lt_grpc_channel_state state);

struct lt_grpc_channel_opts {
    struct lt_addr addr;    /* TCP or Unix */
    lt_str authority;       /* :authority; empty: "localhost" for Unix sockets, else the address */
    struct lt_tls_ctx *tls; /* NULL: plaintext; a count is taken */
    lt_str sni;             /* copied, as the two below */
    const struct lt_san_matcher *sans; /* any one must match; count 0: any verified peer */
    size_t san_count;
    uint64_t connect_timeout_ns; /* TCP and TLS and the peer's SETTINGS */
    uint64_t backoff_base_ns, backoff_max_ns;
    uint64_t keepalive_interval_ns; /* as for the server; only while calls are open; 0: never */
    uint64_t keepalive_timeout_ns;
    uint32_t stream_window_bytes;
    uint32_t conn_window_bytes;
    uint32_t header_list_bytes_max;
    size_t message_bytes_max; /* of one message from the server */
    size_t send_queue_bytes;
    size_t send_queue_bytes_max;
    uint32_t calls_waiting_max; /* calls that wait for a connection; more end RESOURCE_EXHAUSTED */
};

/*
 * Istio agent's keepalive, Envoy's back-off (0.5 s to 30 s), windows and message size for whole
 * pushes.
 */
#define LT_GRPC_CHANNEL_OPTS_DEFAULT \
    ((struct lt_grpc_channel_opts){.connect_timeout_ns = 10 * LT_NS_PER_S, \
                                   .backoff_base_ns = 500 * LT_NS_PER_MS, \
                                   .backoff_max_ns = 30 * LT_NS_PER_S, \
                                   .keepalive_interval_ns = 30 * LT_NS_PER_S, \
                                   .keepalive_timeout_ns = 10 * LT_NS_PER_S, \
                                   .stream_window_bytes = 4u << 20, \
                                   .conn_window_bytes = 8u << 20, \
                                   .header_list_bytes_max = 64u * 1024, \
                                   .message_bytes_max = LT_GRPC_MESSAGE_BYTES_MAX_ADS, \
                                   .send_queue_bytes = 1u << 20, \
                                   .send_queue_bytes_max = 64u << 20, \
                                   .calls_waiting_max = 1024})

/*
 * state: the new one. reason: why a connection failed or went, for a log line; borrowed, ""
 * otherwise.
 */
typedef void lt_grpc_channel_fn(void *ctx, lt_grpc_channel_state state, const char *reason);

struct lt_grpc_channel *lt_grpc_channel_new(struct lt_loop *loop,
                                            const struct lt_grpc_channel_opts *opts,
                                            lt_grpc_channel_fn *on_state, void *ctx);
/* From the next connection on. */
void lt_grpc_channel_set_addr(struct lt_grpc_channel *channel, const struct lt_addr *addr);
void lt_grpc_channel_set_tls(struct lt_grpc_channel *channel, struct lt_tls_ctx *tls);
/*
 * Calls on the present connection run to their end there; new calls go to a new one (after
 * set_addr, set_tls).
 */
void lt_grpc_channel_renew(struct lt_grpc_channel *channel);
/*
 * Ends all calls (CANCELLED); on_closed from the loop, last: then the channel is gone. on_closed
 * may be NULL.
 */
void lt_grpc_channel_close(struct lt_grpc_channel **channel, void (*on_closed)(void *ctx),
                           void *ctx);

struct lt_grpc_metadata {
    lt_str name; /* lower case */
    lt_str value;
    bool is_secret; /* a token: never in a compression table */
};

struct lt_grpc_call_handler {
    /* Response headers came. May be NULL. */
    void (*on_headers)(struct lt_grpc_call *call, const struct lt_h2_fields *fields);
    void (*on_message)(struct lt_grpc_call *call, lt_str message);
    void (*on_writable)(struct lt_grpc_call *call);
    /*
     * Last and once. message: the server's or our own words, borrowed. is_unprocessed: the server
     * has surely not seen the call.
     */
    void (*on_closed)(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed);
};

struct lt_grpc_call_opts {
    const char *path; /* "/package.Service/Method"; copied, as the metadata */
    const struct lt_grpc_metadata *metadata;
    size_t metadata_count;
    uint64_t timeout_ns; /* 0: none; otherwise sent as grpc-timeout and kept here */
    bool wait_for_ready; /* through failed connections, up to timeout_ns; else end UNAVAILABLE */
};

/*
 * Never fails by itself: what goes wrong comes by on_closed. handler is borrowed for the call's
 * life.
 */
struct lt_grpc_call *lt_grpc_call_start(struct lt_grpc_channel *channel,
                                        const struct lt_grpc_call_opts *opts,
                                        const struct lt_grpc_call_handler *handler, void *user);
void *lt_grpc_call_user(const struct lt_grpc_call *call);
/* As for lt_grpc_stream_send. Messages wait while the channel connects. */
LT_MUST lt_rc lt_grpc_call_send(struct lt_grpc_call *call, lt_str message);
LT_MUST lt_rc lt_grpc_call_send_rope(struct lt_grpc_call *call, struct lt_rope *message);
/* Our last message has been sent (a unary call: send, then this). */
void lt_grpc_call_half_close(struct lt_grpc_call *call);
bool lt_grpc_call_is_writable(const struct lt_grpc_call *call);
void lt_grpc_call_pause(struct lt_grpc_call *call);
void lt_grpc_call_resume(struct lt_grpc_call *call);
/* on_closed (CANCELLED) follows. */
void lt_grpc_call_cancel(struct lt_grpc_call *call);

#endif
