/*
 * control/push.h - what each connected proxy is sent, and when: the order by acknowledgement.
 *
 *   clusters, and their endpoints at once (a cluster that warms acknowledges nothing before)
 *     -> acknowledged, or 10 s: routes and listeners, which name clusters
 *     -> their acknowledgement, and a grace of 5 s: clusters that nobody names any more are removed
 *
 * What a proxy refuses is replaced by what it had before, or left out, until it changes; everything
 * else goes on (push_refusal.c). A refusal that doesn't say of what (Envoy's of endpoints and
 * routes): all of that response is sent again, each alone, and the bad one is the one that is
 * refused then.
 * Not here: what the resources are (translate.h), streams and messages (discovery.h), the clock.
 * Source: design decisions 1 to 3; xDS protocol, "eventual consistency considerations".
 * Start at: cp_proxy_push().
 */
#ifndef CP_CONTROL_PUSH_H
#define CP_CONTROL_PUSH_H

#include "control/view.h"
#include "wire/ads.h"

enum {
    CP_PUSH_GATE_MS =
        10000, /* how long routes and listeners wait for clusters to be acknowledged */
    CP_PUSH_GRACE_MS = 5000, /* how long a cluster outlives the last route to it */
};

/* Where responses go. LT_E_LIMIT: the proxy takes them too slowly. */
typedef lt_rc cp_send_fn(void *ctx, cp_type type, struct lt_rope *message);

struct cp_push_opts {
    struct cp_views *views; /* borrowed, as the others */
    struct lt_ads_session *session;
    const struct cp_node *node;
    uint64_t gate_ns, grace_ns;
    cp_send_fn *send;
    void *ctx;
};

/* One proxy's stream. Time is an argument everywhere. */
struct cp_proxy;

struct cp_proxy *cp_proxy_new(const struct cp_push_opts *opts);
void cp_proxy_free(struct cp_proxy **proxy);

/*
 * After lt_ads_session_feed: answers what was asked for, and goes on with what waited for an
 * acknowledgement.
 */
LT_MUST lt_rc cp_proxy_request(struct cp_proxy *proxy, const struct lt_ads_request *request,
                               uint64_t now_ns);
/* The world has changed, or a wait has ended: sends what may be sent now. */
LT_MUST lt_rc cp_proxy_push(struct cp_proxy *proxy, uint64_t now_ns);
/* When cp_proxy_push should be called next, even if nothing happens; UINT64_MAX: not by time. */
uint64_t cp_proxy_due_ns(const struct cp_proxy *proxy);

/* It has all there is for it and said so; only removals of clusters may be under way. */
bool cp_proxy_is_current(const struct cp_proxy *proxy);
/* For status pages: why something waits, or "". */
const char *cp_proxy_waits_for(const struct cp_proxy *proxy);

/* A resource that the proxy refuses as it is now. */
struct cp_refusal {
    cp_type type;
    struct lt_ads_resource *resource; /* counted; as refused */
    struct lt_ads_resource *instead;  /* counted; what the proxy gets; NULL: nothing is sent */
    bool has_predecessor;             /* the proxy goes on with what it had */
    uint64_t since_ns;
    char *why; /* owned; the proxy's words */
};

/* At [0, count); borrowed until the next call of anything here. */
size_t cp_proxy_refusal_count(const struct cp_proxy *proxy);
const struct cp_refusal *cp_proxy_refusal_at(const struct cp_proxy *proxy, size_t at);

#endif
