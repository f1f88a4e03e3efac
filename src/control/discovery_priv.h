/*
 * control/discovery_priv.h - a stream, for discovery.c and the page about it (syncz.c).
 */
#ifndef CP_CONTROL_DISCOVERY_PRIV_H
#define CP_CONTROL_DISCOVERY_PRIV_H

#include "control/discovery.h"
#include "control/push.h"

struct cp_discovery {
    struct cp_discovery_opts opts;
    const struct lt_env *env; /* borrowed */
    struct lt_list streams;   /* of struct stream */
};

/* What was said of a type, for the page. */
struct said {
    int64_t sent_ns; /* wall clock, of the last response; 0: none */
    char *error;     /* owned; of the last refusal, until the next acknowledgement; NULL: none */
};

/* One proxy's stream. */
struct stream {
    struct lt_list link;
    struct cp_discovery *discovery;
    struct lt_grpc_stream *grpc; /* NULL once it has ended */
    struct lt_ads_session *session;
    struct lt_arena *arena; /* of the node */
    struct cp_node *node;   /* NULL before the first message */
    struct cp_proxy *proxy; /* likewise */
    struct lt_timer timer;
    struct cp_identity identity;
    bool is_authenticated;
    bool is_owed;        /* a push, when there is room for it */
    uint64_t changed_ns; /* since when the world has something that the proxy has not; 0: nothing */
    struct said said[CP_TYPE_COUNT];
};

#endif
