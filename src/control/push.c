/*
 * control/push.c - the order by acknowledgement.
 * Start at: cp_proxy_push().
 */
#include "control/push.h"

#include <stdlib.h>

#include "base/vec.h"

enum { RESPONSE_BYTES_MAX = 256 << 20 };

struct cp_proxy {
    struct cp_push_opts opts;
    struct lt_ads_sub *subs[CP_TYPE_COUNT];
    struct cp_resources *wanted[CP_TYPE_COUNT]; /* counted; the view as of the last push */
    uint64_t clusters_seq; /* the CDS response that routes and listeners wait for; 0: none */
    uint64_t gate_ns;      /* until when they wait */
    uint64_t routes_seq
        [CP_TYPE_COUNT]; /* of LDS and RDS: the responses after which removed clusters may go */
    uint64_t
        unnamed_ns; /* since when no acknowledged route names the clusters that go; 0: not yet */
    bool owes_first[CP_TYPE_COUNT]; /* of a wildcard type: even nothing has to be said once */
    bool has_removals;
    bool is_back;     /* it held something before this stream */
    bool gave_absent; /* it was told which of its endpoints are no more */
    uint64_t due_ns;
    const char *waits_for;
};

struct cp_proxy *cp_proxy_new(const struct cp_push_opts *opts)
{
    struct cp_proxy *proxy = lt_new(struct cp_proxy);
    proxy->opts = *opts;
    proxy->due_ns = UINT64_MAX;
    proxy->waits_for = "";
    return proxy;
}

void cp_proxy_free(struct cp_proxy **pointer)
{
    struct cp_proxy *proxy = *pointer;
    *pointer = NULL;
    if (proxy == NULL)
        return;
    for (int type = 0; type < CP_TYPE_COUNT; type++) {
        if (proxy->wanted[type] != NULL)
            cp_resources_unref(&proxy->wanted[type]);
    }
    free(proxy);
}

uint64_t cp_proxy_due_ns(const struct cp_proxy *proxy)
{
    return proxy->due_ns;
}

const char *cp_proxy_waits_for(const struct cp_proxy *proxy)
{
    return proxy->waits_for;
}

/* --- a response being gathered --- */

struct batch {
    struct lt_vec resources; /* of struct lt_ads_resource, borrowed */
    struct lt_vec
        absent;      /* of struct lt_ads_resource, counted: answers to names that do not exist */
    lt_str *removed; /* owned */
    size_t removed_count, removed_cap;
};

static void batch_fini(struct batch *batch)
{
    while (batch->absent.count > 0) {
        struct lt_ads_resource *resource = lt_vec_pop(&batch->absent);
        lt_ads_resource_unref(&resource);
    }
    lt_vec_fini(&batch->absent);
    lt_vec_fini(&batch->resources);
    free(batch->removed);
}

static void batch_remove(struct batch *batch, lt_str name)
{
    if (batch->removed_count == batch->removed_cap) {
        batch->removed_cap = batch->removed_cap == 0 ? 16 : batch->removed_cap * 2;
        batch->removed = lt_realloc(batch->removed, batch->removed_cap * sizeof(*batch->removed));
    }
    batch->removed[batch->removed_count++] = name;
}

static lt_rc send_batch(struct cp_proxy *proxy, cp_type type, struct batch *batch,
                        uint64_t *ret_seq)
{
    struct lt_rope out;
    lt_rope_init(&out, RESPONSE_BYTES_MAX);
    lt_rc rc = lt_ads_session_respond(proxy->opts.session, proxy->subs[type],
                                      (struct lt_ads_resource *const *)batch->resources.items,
                                      batch->resources.count, batch->removed, batch->removed_count,
                                      LT_STR_NULL, &out, ret_seq);
    if (rc == LT_OK)
        rc = proxy->opts.send(proxy->opts.ctx, &out);
    lt_rope_fini(&out);
    return rc;
}

/* --- what differs --- */

/* Neither what the proxy has, nor what it refused: that waits for a change. */
static bool must_send(const struct lt_ads_sub *sub, const struct lt_ads_resource *resource)
{
    struct lt_ads_held held;
    if (lt_ads_sub_has(sub, resource))
        return false;
    if (lt_ads_sub_held(sub, lt_ads_resource_name(resource), &held) != LT_OK)
        return true;
    return !held.is_refused ||
           held.sent_version != lt_ads_version_hash(lt_ads_resource_version(resource));
}

/* Counted, into batch->absent; a type whose names all come by themselves has none. */
static void add_absent(cp_type type, lt_str name, struct batch *batch)
{
    struct lt_ads_resource *resource = cp_translate_absent(type, name);
    if (resource == NULL)
        return;
    lt_vec_push(&batch->absent, resource);
    lt_vec_push(&batch->resources, resource);
}

static void gather_changed(struct cp_proxy *proxy, cp_type type, struct batch *batch)
{
    const struct cp_resources *wanted = proxy->wanted[type];
    const struct lt_ads_sub *sub = proxy->subs[type];
    for (size_t i = 0; i < wanted->count; i++) {
        struct lt_ads_resource *resource = wanted->items[i];
        if (lt_ads_sub_wants(sub, lt_ads_resource_name(resource)) && must_send(sub, resource))
            lt_vec_push(&batch->resources, resource);
    }
}

/* Held by the proxy, or on its way to it, and not wanted any more. */
static void gather_removed(struct cp_proxy *proxy, cp_type type, struct batch *batch)
{
    const struct lt_ads_sub *sub = proxy->subs[type];
    for (size_t i = 0; i < lt_ads_sub_count(sub); i++) {
        struct lt_ads_held held;
        lt_ads_sub_at(sub, i, &held);
        bool is_there = held.sent_seq != 0 ? held.sent_version != 0 : held.is_held;
        if (is_there && cp_resources_find(proxy->wanted[type], held.name) == NULL)
            batch_remove(batch, held.name);
    }
}

/* --- clusters and endpoints --- */

static void forced_endpoints(struct cp_proxy *proxy, const struct batch *clusters,
                             struct batch *batch)
{
    const struct lt_ads_sub *sub = proxy->subs[CP_TYPE_EDS];
    for (size_t i = 0; i < clusters->resources.count; i++) {
        lt_str name = lt_ads_resource_name(clusters->resources.items[i]);
        struct lt_ads_resource *resource = lt_ads_sub_wants(sub, name)
                                               ? cp_resources_find(proxy->wanted[CP_TYPE_EDS], name)
                                               : NULL;
        if (resource != NULL && lt_vec_find(&batch->resources, resource) < 0)
            lt_vec_push(&batch->resources, resource);
    }
}

static lt_rc push_clusters(struct cp_proxy *proxy, uint64_t now_ns, struct batch *clusters)
{
    gather_changed(proxy, CP_TYPE_CDS, clusters);
    if (clusters->resources.count == 0 && !proxy->owes_first[CP_TYPE_CDS])
        return LT_OK;
    proxy->owes_first[CP_TYPE_CDS] = false;
    LT_TRY(send_batch(proxy, CP_TYPE_CDS, clusters, &proxy->clusters_seq));
    proxy->gate_ns = now_ns + proxy->opts.gate_ns;
    return LT_OK;
}

/* Even an unchanged assignment goes again after its cluster: Envoy warms a changed cluster and does not ask. */
static lt_rc push_endpoints(struct cp_proxy *proxy, const struct batch *clusters)
{
    struct batch batch = {0};
    gather_changed(proxy, CP_TYPE_EDS, &batch);
    forced_endpoints(proxy, clusters, &batch);
    uint64_t seq = 0;
    lt_rc rc = batch.resources.count > 0 ? send_batch(proxy, CP_TYPE_EDS, &batch, &seq) : LT_OK;
    batch_fini(&batch);
    return rc;
}

/*
 * A proxy that comes back to this or another replica asks for everything at once; with a cluster that
 * still warms, real Envoy asks for clusters last.
 */
static bool clusters_are_settled(const struct cp_proxy *proxy, uint64_t now_ns)
{
    const struct lt_ads_sub *sub = proxy->subs[CP_TYPE_CDS];
    bool is_settled = sub == NULL ? !proxy->is_back
                                  : lt_ads_sub_settled_seq(sub) >= proxy->clusters_seq;
    return is_settled || now_ns >= proxy->gate_ns;
}

/*
 * A cluster that no longer exists may be what warms, and nothing else ends that: no assignment of its
 * is to come.
 */
static lt_rc push_absent_endpoints(struct cp_proxy *proxy)
{
    struct batch batch = {0};
    const struct lt_ads_sub *sub = proxy->subs[CP_TYPE_EDS];
    for (size_t i = 0; i < lt_ads_sub_count(sub); i++) {
        struct lt_ads_held held;
        lt_ads_sub_at(sub, i, &held);
        if (held.is_subscribed && cp_resources_find(proxy->wanted[CP_TYPE_EDS], held.name) == NULL)
            add_absent(CP_TYPE_EDS, held.name, &batch);
    }
    uint64_t seq = 0;
    lt_rc rc = batch.resources.count > 0 ? send_batch(proxy, CP_TYPE_EDS, &batch, &seq) : LT_OK;
    batch_fini(&batch);
    return rc;
}

/* --- listeners and routes --- */

static lt_rc push_naming(struct cp_proxy *proxy, cp_type type)
{
    struct batch batch = {0};
    gather_changed(proxy, type, &batch);
    if (cp_type_is_wildcard(type))
        gather_removed(proxy, type, &batch);
    lt_rc rc = LT_OK;
    if (batch.resources.count + batch.removed_count > 0 || proxy->owes_first[type])
        rc = send_batch(proxy, type, &batch, &proxy->routes_seq[type]);
    proxy->owes_first[type] = false;
    batch_fini(&batch);
    return rc;
}

static bool naming_is_settled(const struct cp_proxy *proxy)
{
    static const cp_type naming[] = {CP_TYPE_LDS, CP_TYPE_RDS};
    for (size_t i = 0; i < LT_ARRAY_LEN(naming); i++) {
        const struct lt_ads_sub *sub = proxy->subs[naming[i]];
        if (sub != NULL && lt_ads_sub_settled_seq(sub) < proxy->routes_seq[naming[i]])
            return false;
    }
    return true;
}

/* --- removing clusters --- */

static lt_rc push_removals(struct cp_proxy *proxy, uint64_t now_ns)
{
    struct batch batch = {0};
    gather_removed(proxy, CP_TYPE_CDS, &batch);
    proxy->has_removals = batch.removed_count > 0;
    lt_rc rc = LT_OK;
    if (!proxy->has_removals || !naming_is_settled(proxy)) {
        proxy->unnamed_ns = 0;
    } else if (proxy->unnamed_ns == 0) {
        proxy->unnamed_ns = LT_MAX(now_ns, (uint64_t)1);
    } else if (now_ns - proxy->unnamed_ns >= proxy->opts.grace_ns) {
        uint64_t seq = 0;
        rc = send_batch(proxy, CP_TYPE_CDS, &batch, &seq);
        proxy->has_removals = false;
        proxy->unnamed_ns = 0;
    }
    batch_fini(&batch);
    return rc;
}

/* --- all of it --- */

static void renew_view(struct cp_proxy *proxy, cp_type type)
{
    struct cp_resources *fresh = cp_views_get(proxy->opts.views, proxy->opts.node, type);
    if (proxy->wanted[type] != NULL)
        cp_resources_unref(&proxy->wanted[type]);
    proxy->wanted[type] = fresh;
}

static void note_due(struct cp_proxy *proxy, uint64_t now_ns)
{
    proxy->due_ns = UINT64_MAX;
    proxy->waits_for = "";
    if (!clusters_are_settled(proxy, now_ns)) {
        proxy->due_ns = proxy->gate_ns;
        proxy->waits_for = "listeners and routes wait for the acknowledgement of their clusters";
    } else if (proxy->has_removals && proxy->unnamed_ns != 0) {
        proxy->due_ns = proxy->unnamed_ns + proxy->opts.grace_ns;
        proxy->waits_for = "clusters that are not named any more wait for requests under way";
    } else if (proxy->has_removals) {
        proxy->waits_for =
            "clusters that are not named any more wait for the acknowledgement of listeners and routes";
    }
}

lt_rc cp_proxy_push(struct cp_proxy *proxy, uint64_t now_ns)
{
    struct batch clusters = {0};
    lt_rc rc = LT_OK;
    for (int type = 0; type < CP_TYPE_COUNT; type++)
        renew_view(proxy, (cp_type)type);
    if (proxy->subs[CP_TYPE_CDS] != NULL)
        rc = push_clusters(proxy, now_ns, &clusters);
    if (rc == LT_OK && proxy->subs[CP_TYPE_EDS] != NULL)
        rc = push_endpoints(proxy, &clusters);
    batch_fini(&clusters);
    bool is_stuck = proxy->is_back && proxy->subs[CP_TYPE_CDS] == NULL && now_ns >= proxy->gate_ns;
    if (rc == LT_OK && is_stuck && proxy->subs[CP_TYPE_EDS] != NULL && !proxy->gave_absent) {
        proxy->gave_absent = true;
        rc = push_absent_endpoints(proxy);
    }
    if (rc == LT_OK && clusters_are_settled(proxy, now_ns)) {
        if (proxy->subs[CP_TYPE_LDS] != NULL)
            rc = push_naming(proxy, CP_TYPE_LDS);
        if (rc == LT_OK && proxy->subs[CP_TYPE_RDS] != NULL)
            rc = push_naming(proxy, CP_TYPE_RDS);
        if (rc == LT_OK && proxy->subs[CP_TYPE_CDS] != NULL)
            rc = push_removals(proxy, now_ns);
    }
    note_due(proxy, now_ns);
    return rc;
}

/* --- requests --- */

static bool is_held(const struct lt_ads_sub *sub, lt_str name)
{
    struct lt_ads_held held;
    return lt_ads_sub_held(sub, name, &held) == LT_OK && held.is_held;
}

/*
 * Each name that was asked for gets an answer, whether the proxy has it or not, and whether it exists
 * or not: only what the proxy has and nobody else any more stays as it is until its cluster or
 * listener goes. What names clusters waits for them here, too, and goes with the others then.
 */
static lt_rc answer_names(struct cp_proxy *proxy, cp_type type,
                          const struct lt_ads_request *request, uint64_t now_ns)
{
    struct batch batch = {0};
    bool must_wait = type == CP_TYPE_RDS && !clusters_are_settled(proxy, now_ns);
    for (size_t i = 0; i < request->subscribed_count; i++) {
        lt_str name = request->subscribed[i];
        struct lt_ads_resource *resource = cp_resources_find(proxy->wanted[type], name);
        if (resource != NULL && !must_wait)
            lt_vec_push(&batch.resources, resource);
        else if (resource == NULL && !is_held(proxy->subs[type], name))
            add_absent(type, name, &batch);
    }
    lt_rc rc = batch.resources.count > 0 ? send_batch(proxy, type, &batch, &proxy->routes_seq[type])
                                         : LT_OK;
    batch_fini(&batch);
    return rc;
}

/* Of its first request of a type the names that it has already are known before anything was sent. */
static void note_return(struct cp_proxy *proxy, const struct lt_ads_request *request,
                        uint64_t now_ns)
{
    for (size_t i = 0; request->is_first && !proxy->is_back && i < lt_ads_sub_count(request->sub);
         i++) {
        struct lt_ads_held held;
        lt_ads_sub_at(request->sub, i, &held);
        proxy->is_back = held.is_held;
        proxy->gate_ns = now_ns + proxy->opts.gate_ns;
    }
}

lt_rc cp_proxy_request(struct cp_proxy *proxy, const struct lt_ads_request *request,
                       uint64_t now_ns)
{
    cp_type type = cp_type_find(lt_ads_sub_type(request->sub));
    if (type == CP_TYPE_COUNT || request->is_stale)
        return LT_OK; /* types that we do not have are left unanswered, as istiod leaves PCDS */
    proxy->subs[type] = request->sub;
    note_return(proxy, request, now_ns);
    if (cp_type_is_wildcard(type) && (request->is_first || request->wildcard_began))
        proxy->owes_first[type] = true;
    if (request->subscribed_count > 0) {
        renew_view(proxy, type);
        LT_TRY(answer_names(proxy, type, request, now_ns));
    }
    return cp_proxy_push(proxy, now_ns);
}
