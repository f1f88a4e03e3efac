/*
 * push_test.c - the order in which one proxy is told, against the client that lateen-proxy uses. Time
 * is a number; the client answers when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/env.h"
#include "control/push.h"
#include "model/load.h"

enum { ROUTES, CLUSTERS, ENDPOINTS, LISTENERS, WATCHES, TOLD_MAX = 64 };
static const uint64_t GATE_NS = 10 * LT_NS_PER_S, GRACE_NS = 5 * LT_NS_PER_S;

static const char service[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}\n";

#define RULE(subset) \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n" \
    "spec: {host: web, subsets: [{name: " subset ", labels: {version: v1}}]}\n---\n" \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n" \
    "spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: " subset "}}]}]}\n"
#define SUBSET(subset) "outbound|80|" subset "|web.shop.svc.cluster.local"

/* One response as the client saw it. */
struct told {
    int kind;
    uint64_t ticket;
    size_t count, removed_count;
    char names[16][96];
    char removed[16][96];
};

struct world {
    struct lt_manifests *manifests;
    struct lt_ads_pool pool;
    struct cp_views views;
    struct cp_node node;
    uint64_t now_ns;
    /* of one stream */
    struct lt_ads_session *session;
    struct cp_proxy *proxy;
    /* the client outlives them */
    struct lt_ads_client *client;
    struct lt_ads_watch *watches[WATCHES];
    struct told told[TOLD_MAX];
    size_t told_count;
};

/* --- the world --- */

static void apply(struct world *w, const char *text)
{
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    lt_manifests_put(w->manifests, LT_STR("rules.yaml"), lt_str_of(text));
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, &notes);
    assert_int_equal(notes->errors, 0);
    struct lt_model *model = lt_model_build(
        &(struct lt_model_input){.objects = objects, .count = count}, NULL);
    cp_views_set_model(&w->views, model);
    lt_model_unref(&model);
    if (w->proxy != NULL)
        assert_int_equal(cp_proxy_push(w->proxy, w->now_ns), LT_OK);
}

/* --- the stream --- */

static void copy_names(char out[16][96], const lt_str *names, size_t count)
{
    for (size_t i = 0; i < count && i < 16; i++)
        (void)snprintf(out[i], 96, "%.*s", LT_STR_ARG(names[i]));
}

static lt_rc deliver(void *ctx, struct lt_rope *message)
{
    struct world *w = ctx;
    const struct lt_ads_update *update = NULL;
    struct lt_err err = {0};
    size_t len = lt_rope_len(message);
    char *bytes = lt_malloc(len + 1);
    lt_rope_flatten(message, bytes);
    lt_rope_consume(message, len);
    assert_int_equal(lt_ads_client_feed(w->client, lt_str_make(bytes, len), &update, &err), LT_OK);
    assert_true(w->told_count < TOLD_MAX);
    struct told *told = &w->told[w->told_count++];
    *told = (struct told){.ticket = update->ticket,
                          .count = update->resource_count,
                          .removed_count = update->removed_count};
    while (w->watches[told->kind] != update->watch)
        told->kind++;
    for (size_t i = 0; i < update->resource_count && i < 16; i++)
        copy_names(&told->names[i], &update->resources[i].name, 1);
    copy_names(told->removed, update->removed, update->removed_count);
    free(bytes);
    return LT_OK;
}

static void open_stream(struct world *w)
{
    w->session = lt_ads_session_new(NULL);
    struct cp_push_opts opts = {.views = &w->views,
                                .session = w->session,
                                .node = &w->node,
                                .gate_ns = GATE_NS,
                                .grace_ns = GRACE_NS,
                                .send = deliver,
                                .ctx = w};
    w->proxy = cp_proxy_new(&opts);
    w->told_count = 0;
    lt_ads_client_open(w->client);
}

static void close_stream(struct world *w)
{
    lt_ads_client_close(w->client);
    cp_proxy_free(&w->proxy);
    lt_ads_session_free(&w->session);
}

/* What the client has to say is heard; it may lead to more. */
static void talk(struct world *w)
{
    struct lt_buf out;
    lt_buf_init(&out, 1 << 20);
    while (lt_ads_client_next(w->client, &out) == LT_OK) {
        const struct lt_ads_request *request = NULL;
        struct lt_err err = {0};
        assert_int_equal(lt_ads_session_feed(w->session, lt_buf_str(&out), &request, &err), LT_OK);
        assert_int_equal(cp_proxy_request(w->proxy, request, w->now_ns), LT_OK);
        lt_buf_clear(&out, 1 << 20);
    }
    lt_buf_fini(&out);
}

/* Takes all that came of one kind, and talks. */
static void acknowledge(struct world *w, int kind)
{
    for (size_t i = 0; i < w->told_count; i++) {
        if (w->told[i].kind == kind)
            lt_ads_client_ack(w->client, w->told[i].ticket);
    }
    talk(w);
}

static void acknowledge_all(struct world *w)
{
    for (int kind = 0; kind < WATCHES; kind++)
        acknowledge(w, kind);
}

static void forget_told(struct world *w)
{
    w->told_count = 0;
}

/* How often a name came (or went), of one kind. */
static unsigned times(const struct world *w, int kind, const char *name, bool is_removed)
{
    unsigned found = 0;
    for (size_t i = 0; i < w->told_count; i++) {
        const struct told *told = &w->told[i];
        size_t count = is_removed ? told->removed_count : told->count;
        for (size_t k = 0; told->kind == kind && k < count; k++)
            found += strcmp(is_removed ? told->removed[k] : told->names[k], name) == 0;
    }
    return found;
}

#define CAME(w, kind, name) assert_int_equal(times(w, kind, name, false), 1)
#define DID_NOT_COME(w, kind, name) assert_int_equal(times(w, kind, name, false), 0)

static void wait_ns(struct world *w, uint64_t ns)
{
    w->now_ns += ns;
    assert_int_equal(cp_proxy_push(w->proxy, w->now_ns), LT_OK);
}

static void ask_for(struct world *w, int kind, const char *name)
{
    assert_int_equal(lt_ads_watch_subscribe(w->watches[kind], lt_str_of(name)), LT_OK);
    talk(w);
}

static struct lt_ads_watch *watch(struct world *w, int kind)
{
    static const char *const types[WATCHES] = {[ROUTES] = LT_ADS_ROUTE,
                                               [CLUSTERS] = LT_ADS_CLUSTER,
                                               [ENDPOINTS] = LT_ADS_ENDPOINT,
                                               [LISTENERS] = LT_ADS_LISTENER};
    return lt_ads_client_watch(w->client, lt_str_of(types[kind]),
                               kind == CLUSTERS || kind == LISTENERS);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->manifests = lt_manifests_new();
    w->now_ns = 1;
    w->node = (struct cp_node){.type = CP_NODE_SIDECAR,
                               .extensions = CP_EXT_ALL,
                               .id = LT_STR("x"),
                               .ip = LT_STR("10.1.0.1"),
                               .name = LT_STR("caller"),
                               .ns = LT_STR("shop"),
                               .cluster_id = LT_STR("Kubernetes")};
    lt_ads_pool_init(&w->pool);
    cp_views_init(&w->views, &w->pool);
    lt_manifests_put(w->manifests, LT_STR("service.yaml"), lt_str_of(service));
    w->client = lt_ads_client_new(&(struct lt_ads_client_opts){.node = LT_STR("node")});
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    if (w->proxy != NULL)
        close_stream(w);
    lt_ads_client_free(&w->client);
    cp_views_fini(&w->views);
    lt_ads_pool_fini(&w->pool);
    lt_manifests_free(&w->manifests);
    free(w);
    return 0;
}

/* A proxy that has everything: the subset, its endpoints, the listeners, and routes to it. */
static void settle_with(struct world *w, const char *rules, const char *subset)
{
    apply(w, rules);
    open_stream(w);
    w->watches[CLUSTERS] = watch(w, CLUSTERS);
    talk(w);
    w->watches[ENDPOINTS] = watch(w, ENDPOINTS);
    ask_for(w, ENDPOINTS, subset);
    acknowledge_all(w);
    w->watches[LISTENERS] = watch(w, LISTENERS);
    talk(w);
    w->watches[ROUTES] = watch(w, ROUTES);
    ask_for(w, ROUTES, "80");
    acknowledge_all(w);
    CAME(w, ROUTES, "80");
    forget_told(w);
}

/* --- what is promised --- */

static void a_change_goes_cluster_by_route_by_removal(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    apply(w, RULE("two"));
    CAME(w, CLUSTERS, SUBSET("two"));
    DID_NOT_COME(w, ROUTES, "80");
    acknowledge(w, CLUSTERS);
    CAME(w, ROUTES, "80");
    wait_ns(w, GRACE_NS);
    assert_int_equal(times(w, CLUSTERS, SUBSET("one"), true), 0); /* the routes may name it still */
    acknowledge(w, ROUTES);
    wait_ns(w, GRACE_NS - 1);
    assert_int_equal(times(w, CLUSTERS, SUBSET("one"), true), 0);
    wait_ns(w, 1);
    assert_int_equal(times(w, CLUSTERS, SUBSET("one"), true), 1);
}

static void routes_wait_so_long_and_no_longer(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    apply(w, RULE("two"));
    wait_ns(w, GATE_NS - 1);
    DID_NOT_COME(w, ROUTES, "80");
    assert_int_equal(cp_proxy_due_ns(w->proxy), w->now_ns + 1);
    wait_ns(w, 1);
    CAME(w, ROUTES, "80");
}

/* The control plane was away, and the world is another: everything is asked for at once. */
static void who_comes_back_is_told_in_the_same_order(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    close_stream(w);
    apply(w, RULE("two"));
    open_stream(w);
    talk(w);
    CAME(w, CLUSTERS, SUBSET("two"));
    DID_NOT_COME(w, ROUTES, "80");             /* it names what is not there yet */
    DID_NOT_COME(w, ENDPOINTS, SUBSET("one")); /* none, would be said to who still sends there */
    acknowledge(w, CLUSTERS);
    CAME(w, ROUTES, "80");
    DID_NOT_COME(w, ENDPOINTS, SUBSET("one"));
}

static void who_comes_back_unchanged_is_told_nothing_new(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    close_stream(w);
    open_stream(w);
    talk(w);
    acknowledge_all(w);
    DID_NOT_COME(w, CLUSTERS, SUBSET("one"));
    DID_NOT_COME(w, LISTENERS, "virtualOutbound");
    CAME(w, ENDPOINTS, SUBSET("one")); /* each is answered: a cluster may be waiting */
}

/* As Envoy does when a cluster of the stream before still warms: it asks for clusters last. */
static void who_asks_for_clusters_last_waits_for_them(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    close_stream(w);
    apply(w, RULE("two"));
    open_stream(w);
    lt_ads_watch_pause(w->watches[CLUSTERS]);
    talk(w);
    DID_NOT_COME(w, ROUTES, "80");
    assert_int_equal(cp_proxy_due_ns(w->proxy), w->now_ns + GATE_NS);
    DID_NOT_COME(w, ENDPOINTS, SUBSET("one"));
    wait_ns(w, GATE_NS - 1);
    lt_ads_watch_resume(w->watches[CLUSTERS]);
    talk(w);
    CAME(w, CLUSTERS, SUBSET("two"));
    DID_NOT_COME(w, ROUTES, "80");
    acknowledge(w, CLUSTERS);
    CAME(w, ROUTES, "80");
}

/* A cluster that is no more may be the one that warms: then only an empty assignment frees it. */
static void who_never_asks_for_clusters_is_freed(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    close_stream(w);
    apply(w, RULE("two"));
    open_stream(w);
    lt_ads_watch_pause(w->watches[CLUSTERS]);
    talk(w);
    wait_ns(w, GATE_NS);
    CAME(w, ENDPOINTS, SUBSET("one"));
    CAME(w, ROUTES, "80");
    wait_ns(w, GATE_NS);
    CAME(w, ENDPOINTS, SUBSET("one"));
}

static void a_name_that_is_not_there_is_answered(void **state)
{
    struct world *w = *state;
    settle_with(w, RULE("one"), SUBSET("one"));
    ask_for(w, ENDPOINTS, SUBSET("none"));
    ask_for(w, ROUTES, "81");
    CAME(w, ENDPOINTS, SUBSET("none"));
    CAME(w, ROUTES, "81");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_change_goes_cluster_by_route_by_removal),
        CASE(routes_wait_so_long_and_no_longer),
        CASE(who_comes_back_is_told_in_the_same_order),
        CASE(who_comes_back_unchanged_is_told_nothing_new),
        CASE(who_asks_for_clusters_last_waits_for_them),
        CASE(who_never_asks_for_clusters_is_freed),
        CASE(a_name_that_is_not_there_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
