/*
 * wire/ads_client_priv.h - private to ads_client*.c: what a client holds, and the two forms of the
 * protocol as tables of functions.
 *   ads_client.c        watches, names, answers: knows no message
 *   ads_client_delta.c  DeltaDiscoveryRequest and -Response
 *   ads_client_sotw.c   DiscoveryRequest and -Response (state of the world)
 */
#ifndef LT_WIRE_ADS_CLIENT_PRIV_H
#define LT_WIRE_ADS_CLIENT_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "wire/ads_priv.h"

/* One name of a type: subscribed, held, or both. */
struct lt_ads_client_name {
    lt_str text;   /* owned, behind the struct */
    char *version; /* owned; of what is held; NULL: an empty one */
    uint32_t version_len;
    bool is_subscribed;
    bool is_held;
    bool is_joining; /* the subscription is still to be told */
    bool is_leaving; /* the unsubscription is: the entry stays until then */
    bool is_present; /* state of the world: in the last response of a wildcard type */
    bool is_seen;    /* the same, of the response that is being read */
};

/* An answer on its way. */
struct lt_ads_answer {
    struct lt_list link;
    lt_str nonce;
    lt_str error;
    bool is_nack;
    char bytes[];
};

struct lt_ads_watch {
    struct lt_ads_client *client; /* borrowed */
    char *type_url;               /* owned */
    size_t type_len;
    uint32_t index;
    struct lt_map names; /* owned struct lt_ads_client_name * */
    size_t changes;      /* names that join or leave */
    struct lt_list pending;
    struct lt_list answers;
    size_t pending_count;
    char *version; /* owned; state of the world: of the last response that was taken whole; NULL */
    char *nonce;   /* owned; state of the world: of the last one that was answered; NULL */
    bool is_wildcard;
    bool takes_all; /* what comes need not have been asked for by that name */
    bool is_paused;
    bool is_asked; /* on this stream */
};

struct lt_ads_form {
    /* The first request of its type on a stream; an answer; changed subscriptions. */
    lt_rc (*put_first)(struct lt_ads_watch *watch, struct lt_buf *out);
    lt_rc (*put_answer)(struct lt_ads_watch *watch, const struct lt_ads_answer *answer,
                        struct lt_buf *out);
    lt_rc (*put_changes)(struct lt_ads_watch *watch, struct lt_buf *out);
    /* Into client->update, ->views and ->removed. */
    lt_rc (*read)(struct lt_ads_client *client, lt_str message, lt_str *ret_type);
    bool is_sotw;
};

extern const struct lt_ads_form lt_ads_form_delta, lt_ads_form_sotw;

struct lt_ads_client {
    const struct lt_ads_form *form;
    lt_str node; /* owned */
    uint32_t names_max;
    uint32_t pending_max;
    size_t name_count;                              /* of all watches */
    struct lt_ads_watch *watches[LT_ADS_TYPES_MAX]; /* owned */
    uint32_t watch_count;
    uint64_t tickets;
    bool is_open;
    bool says_node_always;
    bool has_sent_node;          /* on this stream */
    struct lt_ads_update update; /* the last; its lists: */
    struct lt_ads_resource_view *views;
    size_t view_count;
    size_t view_cap;
    struct lt_ads_strs removed;
    struct lt_ads_strs aliases;
    struct lt_map seen; /* names of one response, to find doubles */
};

/* --- ads_client.c --- */

size_t lt_ads_subscribed_count(const struct lt_ads_watch *watch);

/* --- ads_client_delta.c, for both forms --- */

/* google.rpc.Status with the text of a NACK, as field `number`. */
LT_MUST lt_rc lt_ads_put_error(struct lt_buf *out, uint32_t number, lt_str text);
/* Any: type URL and value. */
LT_MUST lt_rc lt_ads_read_any(lt_str any, struct lt_ads_resource_view *view);
/* The inside of an envoy.service.discovery.v3.Resource. Its aliases go into client->aliases. */
LT_MUST lt_rc lt_ads_read_resource(struct lt_ads_client *client, lt_str bytes,
                                   struct lt_ads_resource_view *view);
LT_MUST lt_rc lt_ads_add_view(struct lt_ads_client *client,
                              const struct lt_ads_resource_view *view);
LT_MUST lt_rc lt_ads_read_control_plane(const struct lt_ads_field *field, lt_str *ret_identifier);

#endif
