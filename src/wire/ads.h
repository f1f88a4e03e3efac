/*
 * wire/ads.h - ADS (aggregated discovery) as two state machines without I/O:
 *   lt_ads_client   what a proxy asks for, holds, and has acknowledged; outlives its streams
 *   lt_ads_session  what one stream of one proxy asked for, was sent, and has acknowledged
 * Messages are bytes both ways (envoy.service.discovery.v3). The client speaks both forms, delta
 * and state of the world (opts.is_sotw), the session delta. Services of one type alone
 * (SecretDiscoveryService ...) have the same messages. Neither knows what a resource means, when to
 * send one, or in what order: that is the owner's. Facts: xDS protocol documentation (docs of
 * Envoy, "xDS REST and gRPC protocol"), and what real Envoy and istiod do. Trust: all messages are
 * a stranger's. Start at: lt_ads_client_new(), lt_ads_session_new().
 */
#ifndef LT_WIRE_ADS_H
#define LT_WIRE_ADS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "base/rope.h"
#include "base/vec.h"

#define LT_ADS_DELTA_METHOD \
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

#define LT_ADS_SOTW_METHOD \
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"

#define LT_ADS_CLUSTER "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define LT_ADS_ENDPOINT "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
#define LT_ADS_LISTENER "type.googleapis.com/envoy.config.listener.v3.Listener"
#define LT_ADS_ROUTE "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
#define LT_ADS_VIRTUAL_HOST "type.googleapis.com/envoy.config.route.v3.VirtualHost"
#define LT_ADS_SECRET "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
#define LT_ADS_EXTENSION "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
#define LT_ADS_NAME_TABLE "type.googleapis.com/istio.networking.nds.v1.NameTable"
#define LT_ADS_PROXY_CONFIG "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig"

enum {
    LT_ADS_TYPES_MAX = 32,        /* of one client or session */
    LT_ADS_NAME_BYTES_MAX = 4096, /* of a resource name or type URL */
    LT_ADS_VERSION_BYTES_MAX = 1024,
    LT_ADS_NONCE_BYTES_MAX = 256,   /* istiod: a time, a counter and a UUID */
    LT_ADS_ERROR_BYTES_MAX = 16384, /* of a NACK's text, then cut: Envoy lists all bad resources */
    LT_ADS_NACK_CODE = 13,          /* INTERNAL, as Envoy sends */
};

/*
 * What a resource of that type calls itself: its first field, whatever the type; empty for Istio's
 * own types, which have no names, and when there is none. Borrowed.
 */
lt_str lt_ads_name_of(lt_str type_url, lt_str value);

/* --- the client --- */

struct lt_ads_client;
struct lt_ads_watch; /* the client's interest in one type */

struct lt_ads_client_opts {
    lt_str node;           /* bytes of envoy.config.core.v3.Node; copied */
    bool is_sotw;          /* state of the world */
    bool says_node_always; /* in each request; otherwise in the first of a stream */
    uint32_t names_max;    /* names of all types together; 0: 1000000 */
    uint32_t pending_max;  /* responses of one type without an answer of ours; 0: 64 */
};

struct lt_ads_client *lt_ads_client_new(const struct lt_ads_client_opts *opts);
void lt_ads_client_free(struct lt_ads_client **client);
/* For the next stream. */
void lt_ads_client_set_node(struct lt_ads_client *client, lt_str node);

/*
 * Starts a type; its first request goes out with the next lt_ads_client_next, and again at the
 * begin of each stream, in the order of starting. is_wildcard: everything the server has (CDS, LDS,
 * NDS), asked for in the legacy way, by an empty list, as Envoy does; otherwise nothing is asked
 * until there is a name. Starting a type again returns its watch. NULL: more than LT_ADS_TYPES_MAX.
 */
struct lt_ads_watch *lt_ads_client_watch(struct lt_ads_client *client, lt_str type_url,
                                         bool is_wildcard);
struct lt_ads_watch *lt_ads_client_find(const struct lt_ads_client *client, lt_str type_url);
lt_str lt_ads_watch_type(const struct lt_ads_watch *watch);
/*
 * Resources are taken whatever name they come by: of types whose resources are asked for by an
 * alias (virtual hosts). It is asked for without names, too.
 */
void lt_ads_watch_take_all(struct lt_ads_watch *watch);
/*
 * Names are gathered until the next lt_ads_client_next: one request for all. Subscribing what is
 * subscribed does nothing, nor does unsubscribing what isn't. LT_E_LIMIT: names_max or
 * LT_ADS_NAME_BYTES_MAX.
 */
LT_MUST lt_rc lt_ads_watch_subscribe(struct lt_ads_watch *watch, lt_str name);
void lt_ads_watch_unsubscribe(struct lt_ads_watch *watch, lt_str name);
/* Asks again for a subscribed name although it was answered (subscribes it otherwise). */
LT_MUST lt_rc lt_ads_watch_refresh(struct lt_ads_watch *watch, lt_str name);
bool lt_ads_watch_is_subscribed(const struct lt_ads_watch *watch, lt_str name);
/*
 * Known at start (from disk): reported in initial_resource_versions, so that the server need not
 * send it.
 */
LT_MUST lt_rc lt_ads_watch_preload(struct lt_ads_watch *watch, lt_str name, lt_str version);
/*
 * No request of this type until resume: for a first request (of a stream) that has to wait. ACKs
 * need no pause: they wait for the owner's word anyway.
 */
void lt_ads_watch_pause(struct lt_ads_watch *watch);
void lt_ads_watch_resume(struct lt_ads_watch *watch);
/*
 * The version we hold, acknowledged: LT_E_NOT_FOUND when there is none. Borrowed until the next
 * change.
 */
LT_MUST lt_rc lt_ads_watch_version(const struct lt_ads_watch *watch, lt_str name,
                                   lt_str *ret_version);

/*
 * A stream begins: nonces are forgotten, unanswered responses too, every started type is asked for
 * anew.
 */
void lt_ads_client_open(struct lt_ads_client *client);
/* It ended. lt_ads_client_next says LT_AGAIN until the next one. */
void lt_ads_client_close(struct lt_ads_client *client);
/* There is a next request. */
bool lt_ads_client_has_next(const struct lt_ads_client *client);
/* The next request, at the end of out. LT_AGAIN: nothing to say now. */
LT_MUST lt_rc lt_ads_client_next(struct lt_ads_client *client, struct lt_buf *out);

struct lt_ads_resource_view {
    lt_str name;
    lt_str version;
    lt_str type_url; /* of the Any inside; may be empty (then value is, too) */
    lt_str value;    /* message bytes */
    uint64_t ttl_ns; /* 0: none */
    const lt_str *aliases;
    size_t alias_count;
    size_t alias_start; /* the engine's */
    bool has_body; /* false: only a sign of life of a resource with a ttl, or that there is none */
};

/*
 * One response. All slices borrow from the message, the arrays from the client until its next feed;
 * removed, names and all, from the client until the answer. State of the world: of a wildcard type
 * removed is what the last response had and this one hasn't.
 */
struct lt_ads_update {
    struct lt_ads_watch *watch;
    uint64_t ticket; /* for lt_ads_client_ack and _nack */
    lt_str system_version;
    lt_str nonce;
    lt_str control_plane;                         /* its identifier, or empty */
    const struct lt_ads_resource_view *resources; /* of what was asked for; others are left out */
    size_t resource_count;
    const lt_str *removed;
    size_t removed_count;
    size_t unasked_count; /* resources that were left out */
};

/*
 * Takes a response. LT_OK: the owner applies it and answers, now or later (a warming
 * cluster), by ack or nack. LT_E_NOT_FOUND: a type that wasn't started: dropped. LT_E_EXISTS: a
 * name came twice: refused by itself (NACK queued), nothing is to be applied. LT_E_BAD, LT_E_LIMIT:
 * end the stream.
 */
LT_MUST lt_rc lt_ads_client_feed(struct lt_ads_client *client, lt_str message,
                                 const struct lt_ads_update **ret_update, struct lt_err *err);
/*
 * Accepted whole. What it brought is held from now on, what it removed is not. A ticket of an
 * earlier stream, or answered before, does nothing.
 */
void lt_ads_client_ack(struct lt_ads_client *client, uint64_t ticket);
/*
 * Refused, wholly (count 0) or the named resources only; the others are held as after an ack. text
 * goes to the server.
 */
void lt_ads_client_nack(struct lt_ads_client *client, uint64_t ticket, lt_str text,
                        const lt_str *refused, size_t count);

/* --- a resource as a server holds it --- */

/*
 * Immutable, counted (safely between threads), serialised once, shared by every session and by the
 * responses under way.
 */
struct lt_ads_resource;

/* version empty: the hash of value, in hex. Everything is copied. One count, the caller's. */
struct lt_ads_resource *lt_ads_resource_new(lt_str type_url, lt_str name, lt_str version,
                                            lt_str value);
struct lt_ads_resource *lt_ads_resource_ref(struct lt_ads_resource *resource);
void lt_ads_resource_unref(struct lt_ads_resource **resource);
lt_str lt_ads_resource_name(const struct lt_ads_resource *resource);
lt_str lt_ads_resource_version(const struct lt_ads_resource *resource);
/* The message inside the Any. */
lt_str lt_ads_resource_value(const struct lt_ads_resource *resource);

/*
 * Each resource once: the same type, name and value give the same pointer, so that "unchanged" is
 * a comparison of pointers. One thread.
 */
struct lt_ads_pool {
    struct lt_map map; /* type, name and version to struct lt_ads_resource, counted */
};

void lt_ads_pool_init(struct lt_ads_pool *pool);
void lt_ads_pool_fini(struct lt_ads_pool *pool);
/* Its version is the hash of value. One count for the caller. */
struct lt_ads_resource *lt_ads_pool_get(struct lt_ads_pool *pool, lt_str type_url, lt_str name,
                                        lt_str value);
/* Drops what only the pool holds. */
void lt_ads_pool_prune(struct lt_ads_pool *pool);

/* --- the server's side of one stream --- */

struct lt_ads_session;
struct lt_ads_sub; /* one type on one stream */

struct lt_ads_session_opts {
    uint32_t names_max;      /* of all types together; 0: 1000000 */
    uint32_t node_bytes_max; /* 0: 1 MiB */
};

struct lt_ads_session *lt_ads_session_new(const struct lt_ads_session_opts *opts);
void lt_ads_session_free(struct lt_ads_session **session);

/*
 * What one DeltaDiscoveryRequest said. Slices borrow from the message, arrays from the session
 * until its next feed.
 */
struct lt_ads_request {
    struct lt_ads_sub *sub;
    lt_str node;   /* bytes of core.Node, ptr NULL when it has none */
    bool is_first; /* of this type on this stream */
    bool is_stale; /* it answers no open response of this type; its subscriptions still count */
    bool is_ack;
    bool is_nack;
    bool wildcard_began; /* everything of the type is wanted from now on */
    bool wildcard_ended;
    uint64_t seq;        /* is_ack, is_nack: of the response that it answers */
    uint32_t error_code; /* of error_detail (google.rpc.Code), as the text; 0 without one */
    lt_str error_text;
    /* wants these, answer each, even one that was subscribed before; without "*" */
    const lt_str *subscribed;
    size_t subscribed_count;
    const lt_str *unsubscribed;
    size_t unsubscribed_count;
    size_t reported_count; /* is_first: of resources that the client has from before */
    /* is_nack: what the text names (as Envoy's CDS and LDS do), or the only one of its response */
    struct lt_ads_resource *const *refused;
    size_t refused_count;
    /* is_nack of several, of which the text names none: their names, and those of removals */
    struct lt_bytes *const *suspects;
    size_t suspect_count;
};

/*
 * LT_OK with *ret_request; LT_E_BAD: broken bytes or no type URL; LT_E_LIMIT: too many names or
 * types: end the stream with INVALID_ARGUMENT or RESOURCE_EXHAUSTED.
 */
LT_MUST lt_rc lt_ads_session_feed(struct lt_ads_session *session, lt_str message,
                                  const struct lt_ads_request **ret_request, struct lt_err *err);

/*
 * Builds a DeltaDiscoveryResponse into out (resources by reference) and notes what was sent.
 * resources are borrowed for the call; removed names too. system_version may be empty. *ret_seq
 * counts from 1 for each type. LT_E_LIMIT: of out, nothing is noted then.
 */
LT_MUST lt_rc lt_ads_session_respond(struct lt_ads_session *session, struct lt_ads_sub *sub,
                                     struct lt_ads_resource *const *resources,
                                     size_t resource_count, const lt_str *removed,
                                     size_t removed_count, lt_str system_version,
                                     struct lt_rope *out, uint64_t *ret_seq);

/* NULL when the stream has not asked for that type. */
struct lt_ads_sub *lt_ads_session_find(const struct lt_ads_session *session, lt_str type_url);
lt_str lt_ads_sub_type(const struct lt_ads_sub *sub);
bool lt_ads_sub_is_wildcard(const struct lt_ads_sub *sub);
/* By name, or by wildcard. */
bool lt_ads_sub_wants(const struct lt_ads_sub *sub, lt_str name);
/*
 * Of the last response, and of the last one that was answered; equal when nothing is unanswered. 0:
 * none.
 */
uint64_t lt_ads_sub_sent_seq(const struct lt_ads_sub *sub);
uint64_t lt_ads_sub_settled_seq(const struct lt_ads_sub *sub);
/* Of the last response that was accepted. */
uint64_t lt_ads_sub_acked_seq(const struct lt_ads_sub *sub);
/* The nonce of a response; empty for seq 0. In out. */
enum { LT_ADS_NONCE_TEXT_MAX = 32 };
lt_str lt_ads_sub_nonce(const struct lt_ads_sub *sub, uint64_t seq,
                        char out[LT_ADS_NONCE_TEXT_MAX]);

/* What the client has of one name. */
struct lt_ads_held {
    lt_str name;                  /* borrowed, as the resources, until the next feed or respond */
    bool is_subscribed;           /* by name */
    bool is_held;                 /* it acknowledged (or reported at the start) some version */
    bool is_pending;              /* sent or removed, not answered yet */
    uint64_t held_version;        /* lt_ads_version_hash; 0: none, or one that we don't know */
    uint64_t sent_seq;            /* of the response it was sent in last; 0: never */
    struct lt_ads_resource *held; /* NULL: none, or only its version is known */
    struct lt_ads_resource *sent; /* what is pending; NULL: nothing, or a removal */
};

/* Hash of a version's text as kept for each name; never 0, except for an empty text. */
uint64_t lt_ads_version_hash(lt_str version);
/* LT_E_NOT_FOUND: neither subscribed by name, nor ever sent, nor reported. */
LT_MUST lt_rc lt_ads_sub_held(const struct lt_ads_sub *sub, lt_str name,
                              struct lt_ads_held *ret_held);
/*
 * True when the version that is pending, or else the one that is held, is this resource's: no need
 * to send it.
 */
bool lt_ads_sub_has(const struct lt_ads_sub *sub, const struct lt_ads_resource *resource);
/* All names that something is known about, at [0, count), in no particular order. */
size_t lt_ads_sub_count(const struct lt_ads_sub *sub);
void lt_ads_sub_at(const struct lt_ads_sub *sub, size_t at, struct lt_ads_held *ret_held);

#endif
