/*
 * control/push.c - the order by acknowledgement.
 * A type is looked through when it is due: after a change of the world, and when its stream asks,
 * refuses or is new. An acknowledgement only opens what waited for it.
 * Start at: cp_proxy_push().
 */
#include <stdio.h>
#include <stdlib.h>

#include "control/push_priv.h"

enum { RESPONSE_BYTES_MAX = 256 << 20 };

static const cp_type naming_types[] = {CP_TYPE_LDS, CP_TYPE_RDS, CP_TYPE_NDS};

struct cp_proxy *cp_proxy_new(const struct cp_push_opts *opts)
{
    struct cp_proxy *proxy = lt_new(struct cp_proxy);
    proxy->opts = *opts;
    proxy->due_ns = UINT64_MAX;
    return proxy;
}

void cp_proxy_free(struct cp_proxy **pointer)
{
    struct cp_proxy *proxy = *pointer;
    *pointer = NULL;
    if (proxy == NULL)
        return;
    for (int type = 0; type < CP_TYPE_COUNT; type++) {
        cp_resources_unref(&proxy->flows[type].view);
        cp_resources_unref(&proxy->flows[type].wanted);
    }
    cp_refusals_fini(proxy);
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

bool cp_proxy_is_current(const struct cp_proxy *proxy)
{
    for (int type = 0; type < CP_TYPE_COUNT; type++) {
        const struct flow *flow = &proxy->flows[type];
        if (flow->sub != NULL &&
            (flow->is_due || flow->owes_first ||
             lt_ads_sub_settled_seq(flow->sub) < lt_ads_sub_sent_seq(flow->sub)))
            return false;
    }
    return true;
}

/* --- a response being gathered --- */

struct batch {
    struct lt_vec resources; /* of struct lt_ads_resource, borrowed */
    struct lt_vec absent;    /* the same, counted: answers to names that do not exist */
    lt_str *removed;         /* owned */
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

static bool batch_is_empty(const struct batch *batch)
{
    return batch->resources.count + batch->removed_count == 0;
}

static lt_rc send_batch(struct cp_proxy *proxy, cp_type type, struct batch *batch)
{
    struct flow *flow = &proxy->flows[type];
    struct lt_rope out;
    uint64_t seq = 0;
    lt_rope_init(&out, RESPONSE_BYTES_MAX);
    lt_rc rc = lt_ads_session_respond(
        proxy->opts.session, flow->sub, (struct lt_ads_resource *const *)batch->resources.items,
        batch->resources.count, batch->removed, batch->removed_count, LT_STR_NULL, &out, &seq);
    if (rc == LT_OK)
        rc = proxy->opts.send(proxy->opts.ctx, type, &out);
    if (rc == LT_OK && type != CP_TYPE_CDS)
        flow->naming_seq = seq;
    lt_rope_fini(&out);
    return rc;
}

/* --- what differs --- */

/* What the proxy wants, and neither has nor is about to have. */
static void gather_changed(const struct cp_proxy *proxy, cp_type type, struct batch *batch)
{
    const struct flow *flow = &proxy->flows[type];
    for (size_t i = 0; i < flow->wanted->count; i++) {
        struct lt_ads_resource *resource = flow->wanted->items[i];
        if (lt_ads_sub_wants(flow->sub, lt_ads_resource_name(resource)) &&
            !lt_ads_sub_has(flow->sub, resource))
            lt_vec_push(&batch->resources, resource);
    }
}

/*
 * Names that were asked for and do not exist: an answer with nothing in it, if the proxy has none.
 * What it has is left alone until it stops asking (or with_held).
 */
static void gather_absent(const struct cp_proxy *proxy, cp_type type, bool with_held,
                          struct batch *batch)
{
    const struct flow *flow = &proxy->flows[type];
    for (size_t i = 0; i < lt_ads_sub_count(flow->sub); i++) {
        struct lt_ads_held held;
        lt_ads_sub_at(flow->sub, i, &held);
        if (!held.is_subscribed || (held.is_held && !with_held) || held.is_pending ||
            cp_resources_find(flow->wanted, held.name) != NULL ||
            cp_refusals_have(proxy, type, held.name))
            continue;
        struct lt_ads_resource *resource = cp_translate_absent(type, held.name);
        if (resource == NULL)
            continue;
        lt_vec_push(&batch->absent, resource);
        lt_vec_push(&batch->resources, resource);
    }
}

static bool is_there(const struct lt_ads_held *held)
{
    return held->is_pending ? held->sent != NULL : held->is_held;
}

/* Held by the proxy, or on its way to it, and gone from the world. */
static void gather_removed(const struct cp_proxy *proxy, cp_type type, struct batch *batch)
{
    const struct flow *flow = &proxy->flows[type];
    for (size_t i = 0; i < lt_ads_sub_count(flow->sub); i++) {
        struct lt_ads_held held;
        lt_ads_sub_at(flow->sub, i, &held);
        if (!is_there(&held) || cp_resources_find(flow->view, held.name) != NULL)
            continue;
        if (type != CP_TYPE_CDS || !cp_refusals_keep_cluster(proxy, held.name))
            batch_remove(batch, held.name);
    }
}

/* --- clusters and endpoints --- */

static lt_rc push_clusters(struct cp_proxy *proxy, uint64_t now_ns, struct batch *clusters)
{
    struct flow *flow = &proxy->flows[CP_TYPE_CDS];
    if (flow->sub == NULL || !flow->is_due)
        return LT_OK;
    flow->is_due = false;
    gather_changed(proxy, CP_TYPE_CDS, clusters);
    if (clusters->resources.count == 0 && !flow->owes_first)
        return LT_OK;
    flow->owes_first = false;
    LT_TRY(send_batch(proxy, CP_TYPE_CDS, clusters));
    proxy->clusters_seq = lt_ads_sub_sent_seq(flow->sub);
    proxy->gate_ns = now_ns + proxy->opts.gate_ns;
    return LT_OK;
}

/* Even unchanged ones go again after their cluster: Envoy warms a changed one and doesn't ask. */
static void gather_forced(const struct cp_proxy *proxy, const struct batch *clusters,
                          struct batch *batch)
{
    const struct flow *flow = &proxy->flows[CP_TYPE_EDS];
    for (size_t i = 0; i < clusters->resources.count; i++) {
        lt_str name = lt_ads_resource_name(clusters->resources.items[i]);
        struct lt_ads_resource *resource = lt_ads_sub_wants(flow->sub, name)
                                               ? cp_resources_find(flow->wanted, name)
                                               : NULL;
        if (resource != NULL && lt_ads_sub_has(flow->sub, resource))
            lt_vec_push(&batch->resources, resource);
    }
}

/* The first request of a stream may be that of a proxy whose clusters warm since the last one. */
static void gather_all(const struct cp_proxy *proxy, struct batch *batch)
{
    const struct flow *flow = &proxy->flows[CP_TYPE_EDS];
    for (size_t i = 0; i < flow->wanted->count; i++) {
        if (lt_ads_sub_wants(flow->sub, lt_ads_resource_name(flow->wanted->items[i])))
            lt_vec_push(&batch->resources, flow->wanted->items[i]);
    }
}

/*
 * A cluster that warms keeps Envoy from asking for clusters at all. If it is one that is no more,
 * no endpoints of its come, and only some without any free it.
 */
static bool gives_up(struct cp_proxy *proxy, uint64_t now_ns)
{
    if (!proxy->expects_clusters || proxy->has_given_up || now_ns < proxy->gate_ns ||
        proxy->flows[CP_TYPE_CDS].sub != NULL)
        return false;
    proxy->has_given_up = true;
    return true;
}

static lt_rc push_endpoints(struct cp_proxy *proxy, const struct batch *clusters, uint64_t now_ns)
{
    struct flow *flow = &proxy->flows[CP_TYPE_EDS];
    struct batch batch = {0};
    if (flow->sub == NULL)
        return LT_OK;
    bool is_last_resort = gives_up(proxy, now_ns);
    if (flow->owes_all)
        gather_all(proxy, &batch);
    else if (flow->is_due)
        gather_changed(proxy, CP_TYPE_EDS, &batch);
    if (!flow->owes_all)
        gather_forced(proxy, clusters, &batch);
    if (flow->is_due || is_last_resort)
        gather_absent(proxy, CP_TYPE_EDS, is_last_resort, &batch);
    flow->is_due = flow->owes_all = false;
    lt_rc rc = batch_is_empty(&batch) ? LT_OK : send_batch(proxy, CP_TYPE_EDS, &batch);
    batch_fini(&batch);
    return rc;
}

static bool clusters_are_settled(const struct cp_proxy *proxy, uint64_t now_ns)
{
    const struct lt_ads_sub *sub = proxy->flows[CP_TYPE_CDS].sub;
    if (now_ns >= proxy->gate_ns)
        return true;
    return sub == NULL ? !proxy->expects_clusters
                       : lt_ads_sub_settled_seq(sub) >= proxy->clusters_seq;
}

/* --- listeners and routes --- */

/* Takes out what names a cluster that was refused; true: there was such a thing. */
static bool hold_back(struct cp_proxy *proxy, uint64_t now_ns, struct batch *batch)
{
    size_t kept = 0;
    for (size_t i = 0; i < batch->resources.count; i++) {
        uint64_t until_ns = 0;
        const struct cp_refusal *refusal = cp_refusals_block(proxy, batch->resources.items[i],
                                                             now_ns, &until_ns);
        if (refusal == NULL) {
            batch->resources.items[kept++] = batch->resources.items[i];
            continue;
        }
        lt_str name = lt_ads_resource_name(batch->resources.items[i]),
               cluster = lt_ads_resource_name(refusal->resource);
        proxy->due_ns = LT_MIN(proxy->due_ns, until_ns);
        snprintf(proxy->waits_for, sizeof(proxy->waits_for),
                 "%.*s waits for cluster %.*s, which the proxy refuses", LT_STR_ARG(name),
                 LT_STR_ARG(cluster));
    }
    bool is_less = kept < batch->resources.count;
    batch->resources.count = kept;
    return is_less;
}

static lt_rc push_naming(struct cp_proxy *proxy, cp_type type, uint64_t now_ns)
{
    struct flow *flow = &proxy->flows[type];
    struct batch batch = {0};
    if (flow->sub == NULL || !flow->is_due)
        return LT_OK;
    gather_changed(proxy, type, &batch);
    flow->is_due = hold_back(proxy, now_ns, &batch);
    if (cp_type_is_wildcard(type))
        gather_removed(proxy, type, &batch);
    else
        gather_absent(proxy, type, false, &batch);
    lt_rc rc = LT_OK;
    if (!batch_is_empty(&batch) || (flow->owes_first && !flow->is_due))
        rc = send_batch(proxy, type, &batch);
    flow->owes_first = flow->owes_first && flow->is_due && batch_is_empty(&batch);
    batch_fini(&batch);
    return rc;
}

static bool naming_is_settled(const struct cp_proxy *proxy)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(naming_types); i++) {
        const struct flow *flow = &proxy->flows[naming_types[i]];
        if (flow->sub != NULL &&
            (flow->is_due || lt_ads_sub_settled_seq(flow->sub) < flow->naming_seq))
            return false;
    }
    return true;
}

/* --- removing clusters --- */

static lt_rc push_removals(struct cp_proxy *proxy, uint64_t now_ns)
{
    if (!proxy->has_removals || !naming_is_settled(proxy)) {
        proxy->unnamed_ns = 0;
        return LT_OK;
    }
    if (proxy->unnamed_ns == 0)
        proxy->unnamed_ns = LT_MAX(now_ns, (uint64_t)1);
    if (now_ns - proxy->unnamed_ns < proxy->opts.grace_ns)
        return LT_OK;
    struct batch batch = {0};
    gather_removed(proxy, CP_TYPE_CDS, &batch);
    lt_rc rc = batch_is_empty(&batch) ? LT_OK : send_batch(proxy, CP_TYPE_CDS, &batch);
    batch_fini(&batch);
    proxy->has_removals = false;
    proxy->unnamed_ns = 0;
    return rc;
}

/* Something that went is there again, or something new has gone: the grace begins anew. */
static void look_for_removals(struct cp_proxy *proxy)
{
    struct batch batch = {0};
    if (proxy->flows[CP_TYPE_CDS].sub != NULL)
        gather_removed(proxy, CP_TYPE_CDS, &batch);
    proxy->has_removals = batch.removed_count > 0;
    proxy->unnamed_ns = 0;
    batch_fini(&batch);
}

/* --- all of it --- */

static void renew(struct cp_proxy *proxy)
{
    if (proxy->generation == proxy->opts.views->generation)
        return;
    proxy->generation = proxy->opts.views->generation;
    for (int type = 0; type < CP_TYPE_COUNT; type++) {
        struct flow *flow = &proxy->flows[type];
        cp_resources_unref(&flow->view);
        flow->view = cp_views_get(proxy->opts.views, proxy->opts.node, (cp_type)type);
        cp_refusals_apply(proxy, (cp_type)type);
        flow->is_due = true;
    }
    look_for_removals(proxy);
}

static void note_wait(struct cp_proxy *proxy, uint64_t due_ns, const char *why)
{
    proxy->due_ns = LT_MIN(proxy->due_ns, due_ns);
    snprintf(proxy->waits_for, sizeof(proxy->waits_for), "%s", why);
}

static void note_waits(struct cp_proxy *proxy, uint64_t now_ns)
{
    if (!clusters_are_settled(proxy, now_ns))
        note_wait(proxy, proxy->gate_ns,
                  "listeners and routes wait for the acknowledgement of their clusters");
    else if (proxy->has_removals && proxy->unnamed_ns != 0)
        note_wait(proxy, proxy->unnamed_ns + proxy->opts.grace_ns,
                  "clusters that are not named any more wait for requests under way");
    else if (proxy->has_removals && proxy->waits_for[0] == '\0')
        note_wait(proxy, UINT64_MAX,
                  "clusters that are not named any more wait for the acknowledgement of listeners "
                  "and routes");
}

lt_rc cp_proxy_push(struct cp_proxy *proxy, uint64_t now_ns)
{
    struct batch clusters = {0};
    proxy->due_ns = UINT64_MAX;
    proxy->waits_for[0] = '\0';
    renew(proxy);
    lt_rc rc = push_clusters(proxy, now_ns, &clusters);
    if (rc == LT_OK)
        rc = push_endpoints(proxy, &clusters, now_ns);
    batch_fini(&clusters);
    if (clusters_are_settled(proxy, now_ns)) {
        for (size_t i = 0; i < LT_ARRAY_LEN(naming_types) && rc == LT_OK; i++)
            rc = push_naming(proxy, naming_types[i], now_ns);
        if (rc == LT_OK)
            rc = push_removals(proxy, now_ns);
    }
    note_waits(proxy, now_ns);
    return rc;
}

/* --- requests --- */

static lt_rc send_alone(struct cp_proxy *proxy, cp_type type, struct lt_ads_resource *resource)
{
    struct batch batch = {0};
    lt_vec_push(&batch.resources, resource);
    lt_rc rc = send_batch(proxy, type, &batch);
    batch_fini(&batch);
    return rc;
}

/*
 * One of these is refused, and nobody says which: each goes again in a response of its own, at
 * once. What should not be there (any more) is removed again in one.
 */
static lt_rc search(struct cp_proxy *proxy, cp_type type, const struct lt_ads_request *request)
{
    const struct flow *flow = &proxy->flows[type];
    struct batch removed = {0};
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < request->suspect_count && rc == LT_OK; i++) {
        lt_str name = lt_bytes_str(request->suspects[i]);
        struct lt_ads_resource *resource = cp_resources_find(flow->wanted, name);
        if (resource != NULL)
            rc = send_alone(proxy, type, resource);
        else if (cp_type_is_wildcard(type))
            batch_remove(&removed, name);
    }
    if (rc == LT_OK && removed.removed_count > 0)
        rc = send_batch(proxy, type, &removed);
    batch_fini(&removed);
    return rc;
}

/* A cluster may be waiting for the endpoints that were refused: what it gets instead, at once. */
static lt_rc end_warming(struct cp_proxy *proxy, const struct lt_ads_request *request)
{
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < request->refused_count && rc == LT_OK; i++) {
        struct lt_ads_resource *instead = cp_resources_find(
            proxy->flows[CP_TYPE_EDS].wanted, lt_ads_resource_name(request->refused[i]));
        if (instead != NULL)
            rc = send_alone(proxy, CP_TYPE_EDS, instead);
    }
    return rc;
}

static lt_rc take_nack(struct cp_proxy *proxy, cp_type type, const struct lt_ads_request *request,
                       uint64_t now_ns)
{
    for (size_t i = 0; i < request->refused_count; i++)
        cp_refusals_add(proxy, type, request->refused[i], request->error_text, now_ns);
    cp_refusals_apply(proxy, type);
    proxy->flows[type].is_due = true;
    look_for_removals(proxy);
    LT_TRY(search(proxy, type, request));
    return type == CP_TYPE_EDS ? end_warming(proxy, request) : LT_OK;
}

lt_rc cp_proxy_request(struct cp_proxy *proxy, const struct lt_ads_request *request,
                       uint64_t now_ns)
{
    cp_type type = cp_type_find(lt_ads_sub_type(request->sub));
    if (type == CP_TYPE_COUNT)
        return LT_OK; /* types that we do not have are left unanswered, as istiod leaves PCDS */
    struct flow *flow = &proxy->flows[type];
    bool is_first = flow->sub == NULL;
    flow->sub = request->sub;
    renew(proxy);
    if (cp_type_is_wildcard(type) && (is_first || request->wildcard_began))
        flow->owes_first = true;
    flow->owes_all |= type == CP_TYPE_EDS && is_first;
    if (request->reported_count > 0 && proxy->flows[CP_TYPE_CDS].sub == NULL) {
        /* Envoy asks for clusters only when none of its own warms */
        proxy->expects_clusters = true;
        proxy->gate_ns = LT_MAX(proxy->gate_ns, now_ns + proxy->opts.gate_ns);
    }
    flow->is_due |= is_first || request->wildcard_began || request->subscribed_count > 0;
    if (is_first && type == CP_TYPE_CDS)
        look_for_removals(proxy);
    if (request->is_nack)
        LT_TRY(take_nack(proxy, type, request, now_ns));
    return cp_proxy_push(proxy, now_ns);
}
