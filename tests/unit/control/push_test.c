/*
 * push_test.c - what goes to a proxy, and in which order. The peer is the ADS client's engine, which
 * acknowledges and refuses as the test says; the time is faked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/env.h"
#include "control/push.h"
#include "model/load.h"

enum { GATE_S = 10, GRACE_S = 5, INBOX_MAX = 64, MESSAGE_MAX = 1 << 20 };

/* One response as the peer got it. */
struct response {
    cp_type type;
    uint64_t ticket;
    char text[1024]; /* names of resources, then of what is removed: "a b -c" */
};

struct world {
    struct lt_arena *arena;
    struct lt_manifests *manifests;
    struct lt_model *model;
    struct lt_ads_pool pool;
    struct cp_views views;
    struct cp_node node;
    struct lt_ads_session *session;
    struct lt_ads_client *client;
    struct cp_proxy *proxy;
    uint64_t now_s;
    struct response inbox[INBOX_MAX];
    size_t count;   /* of inbox */
    size_t read_at; /* the next that the test looks at */
};

/* ---- the peer ---- */

static lt_str type_url(cp_type type)
{
    return lt_str_of(cp_type_url(type));
}

static lt_rc on_response(void *ctx, cp_type type, struct lt_rope *message)
{
    struct world *w = ctx;
    const struct lt_ads_update *update = NULL;
    struct lt_err err = {0};
    char *bytes = lt_arena_bytes(w->arena, lt_rope_len(message) + 1);
    size_t len = lt_rope_len(message);
    lt_rope_flatten(message, bytes);
    assert_int_equal(lt_ads_client_feed(w->client, lt_str_make(bytes, len), &update, &err), LT_OK);
    assert_true(w->count < INBOX_MAX);
    struct response *r = &w->inbox[w->count++];
    *r = (struct response){.type = type, .ticket = update->ticket};
    size_t used = 0;
    for (size_t i = 0; i < update->resource_count + update->removed_count; i++) {
        bool is_removed = i >= update->resource_count;
        lt_str name = is_removed ? update->removed[i - update->resource_count]
                                 : update->resources[i].name;
        used += (size_t)snprintf(r->text + used, sizeof(r->text) - used, "%s%s%.*s",
                                 used > 0 ? " " : "", is_removed ? "-" : "", LT_STR_ARG(name));
        assert_true(used < sizeof(r->text));
    }
    return LT_OK;
}

static uint64_t now_ns(const struct world *w)
{
    return w->now_s * LT_NS_PER_S;
}

/* Everything that the peer has to say reaches the control plane. */
static void talk(struct world *w)
{
    struct lt_buf message;
    struct lt_err err = {0};
    const struct lt_ads_request *request = NULL;
    lt_buf_init(&message, MESSAGE_MAX);
    while (lt_ads_client_next(w->client, &message) == LT_OK) {
        assert_int_equal(lt_ads_session_feed(w->session, lt_buf_str(&message), &request, &err),
                         LT_OK);
        assert_int_equal(cp_proxy_request(w->proxy, request, now_ns(w)), LT_OK);
        lt_buf_clear(&message, MESSAGE_MAX);
    }
    lt_buf_fini(&message);
}

static void ask(struct world *w, cp_type type, const char *names)
{
    struct lt_ads_watch *watch = lt_ads_client_watch(w->client, type_url(type),
                                                     cp_type_is_wildcard(type));
    lt_str rest = lt_str_of(names), name;
    while (rest.len > 0 && lt_str_split(&rest, ' ', &name))
        assert_int_equal(lt_ads_watch_subscribe(watch, name), LT_OK);
    talk(w);
}

/* The next response is this one; it stays unanswered. Returns its ticket. */
static uint64_t expect(struct world *w, cp_type type, const char *text)
{
    if (w->read_at == w->count)
        fail_msg("nothing came, expected %s %s", cp_type_name(type), text);
    const struct response *r = &w->inbox[w->read_at++];
    assert_string_equal(cp_type_name(r->type), cp_type_name(type));
    assert_string_equal(r->text, text);
    return r->ticket;
}

static void expect_nothing(struct world *w)
{
    if (w->read_at < w->count)
        fail_msg("unexpected %s %s", cp_type_name(w->inbox[w->read_at].type),
                 w->inbox[w->read_at].text);
}

static void ack(struct world *w, uint64_t ticket)
{
    lt_ads_client_ack(w->client, ticket);
    talk(w);
}

static void nack(struct world *w, uint64_t ticket, const char *text)
{
    lt_ads_client_nack(w->client, ticket, lt_str_of(text), NULL, 0);
    talk(w);
}

static void take(struct world *w, cp_type type, const char *text)
{
    ack(w, expect(w, type, text));
}

/* ---- the world ---- */

#define HOST(name) "outbound|80||" name ".shop.svc.cluster.local"
#define SUBSET(name, subset) "outbound|80|" subset "|" name ".shop.svc.cluster.local"
#define OWN "InboundPassthroughCluster"
/* What every sidecar has, around its services. */
#define CLUSTERS(services) "BlackHoleCluster " OWN " PassthroughCluster " services
#define LISTENERS "0.0.0.0_80 virtualInbound virtualOutbound"

static void service(struct world *w, const char *name, const char *ip)
{
    char text[1024], file[64];
    snprintf(file, sizeof(file), "%s.yaml", name);
    snprintf(
        text, sizeof(text),
        "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\n"
        "spec: {selector: {app: %s}, ports: [{name: http, port: 80}]}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: %s-1, namespace: shop, labels: {app: %s}}\n"
        "spec: {containers: [{name: c}]}\nstatus: {podIP: %s, conditions: [{type: Ready, status: 'True'}]}\n",
        name, name, name, name, ip);
    lt_manifests_put(w->manifests, lt_str_of(file), lt_str_of(text));
}

static void put(struct world *w, const char *file, const char *text)
{
    if (text != NULL)
        lt_manifests_put(w->manifests, lt_str_of(file), lt_str_of(text));
    else
        lt_manifests_remove(w->manifests, lt_str_of(file));
}

static void build(struct world *w)
{
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, &notes);
    assert_int_equal(notes->errors, 0);
    lt_model_unref(&w->model);
    w->model = lt_model_build(&(struct lt_model_input){.objects = objects, .count = count}, NULL);
    cp_views_set_model(&w->views, w->model);
}

static void push(struct world *w)
{
    assert_int_equal(cp_proxy_push(w->proxy, now_ns(w)), LT_OK);
}

/* The world is as the manifests say now, and the proxy is told. */
static void change(struct world *w)
{
    build(w);
    push(w);
    lt_ads_pool_prune(&w->pool);
}

static void later(struct world *w, uint64_t seconds)
{
    w->now_s += seconds;
    push(w);
}

static void connect_anew(struct world *w)
{
    cp_proxy_free(&w->proxy);
    lt_ads_session_free(&w->session);
    w->session = lt_ads_session_new(NULL);
    struct cp_push_opts opts = {.views = &w->views,
                                .session = w->session,
                                .node = &w->node,
                                .gate_ns = GATE_S * LT_NS_PER_S,
                                .grace_ns = GRACE_S * LT_NS_PER_S,
                                .send = on_response,
                                .ctx = w};
    w->proxy = cp_proxy_new(&opts);
    w->read_at = w->count = 0;
    lt_ads_client_open(w->client);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->arena = lt_arena_new(0, 0);
    w->manifests = lt_manifests_new();
    w->now_s = 1000;
    lt_ads_pool_init(&w->pool);
    cp_views_init(&w->views, &w->pool);
    w->node = (struct cp_node){.type = CP_NODE_SIDECAR,
                               .id = LT_STR("x"),
                               .ip = LT_STR("10.9.0.1"),
                               .name = LT_STR("caller-1"),
                               .ns = LT_STR("shop")};
    w->client = lt_ads_client_new(&(struct lt_ads_client_opts){.node = LT_STR("n")});
    service(w, "a", "10.1.0.1");
    service(w, "b", "10.1.0.2");
    build(w);
    connect_anew(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    cp_proxy_free(&w->proxy);
    lt_ads_session_free(&w->session);
    lt_ads_client_free(&w->client);
    cp_views_fini(&w->views);
    lt_ads_pool_fini(&w->pool);
    lt_model_unref(&w->model);
    lt_manifests_free(&w->manifests);
    lt_arena_free(&w->arena);
    free(w);
    return 0;
}

/* A proxy with services a and b, all of it acknowledged. */
static void start(struct world *w)
{
    ask(w, CP_TYPE_CDS, "");
    uint64_t clusters = expect(w, CP_TYPE_CDS, CLUSTERS(HOST("a") " " HOST("b")));
    ask(w, CP_TYPE_EDS, HOST("a") " " HOST("b"));
    take(w, CP_TYPE_EDS, HOST("a") " " HOST("b"));
    ack(w, clusters);
    ask(w, CP_TYPE_LDS, "");
    uint64_t listeners = expect(w, CP_TYPE_LDS, LISTENERS);
    ask(w, CP_TYPE_RDS, "80");
    take(w, CP_TYPE_RDS, "80");
    ack(w, listeners);
    expect_nothing(w);
    assert_true(cp_proxy_is_current(w->proxy));
}

#define VS(rest) \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: shop}\n" \
    "spec: {hosts: [a], http: [" rest "]}\n"
#define DR \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: shop}\n" \
    "spec: {host: a, subsets: [{name: v1, labels: {app: a}}]}\n"
#define TO_V1 VS("{route: [{destination: {host: a, subset: v1}}]}")
#define TO_B VS("{route: [{destination: {host: b}}]}")

/* ---- order ---- */

static void nothing_is_sent_that_was_not_asked_for(void **state)
{
    struct world *w = *state;
    push(w);
    expect_nothing(w);
    ask(w, CP_TYPE_RDS, "80");
    expect(w, CP_TYPE_RDS, "80"); /* a stream without clusters need not wait for them */
}

static void endpoints_go_without_waiting_and_routes_after_the_clusters(void **state)
{
    struct world *w = *state;
    ask(w, CP_TYPE_CDS, "");
    uint64_t clusters = expect(w, CP_TYPE_CDS, CLUSTERS(HOST("a") " " HOST("b")));
    ask(w, CP_TYPE_LDS, "");
    ask(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
    assert_string_equal(cp_proxy_waits_for(w->proxy),
                        "listeners and routes wait for the acknowledgement of their clusters");
    assert_true(cp_proxy_due_ns(w->proxy) == now_ns(w) + GATE_S * LT_NS_PER_S);
    ask(w, CP_TYPE_EDS, HOST("a"));
    expect(w, CP_TYPE_EDS, HOST("a"));
    ack(w, clusters);
    expect(w, CP_TYPE_LDS, LISTENERS);
    expect(w, CP_TYPE_RDS, "80");
    assert_string_equal(cp_proxy_waits_for(w->proxy), "");
    assert_true(cp_proxy_due_ns(w->proxy) == UINT64_MAX);
}

static void routes_wait_for_clusters_ten_seconds_at_most(void **state)
{
    struct world *w = *state;
    ask(w, CP_TYPE_CDS, "");
    expect(w, CP_TYPE_CDS, CLUSTERS(HOST("a") " " HOST("b")));
    ask(w, CP_TYPE_RDS, "80");
    later(w, GATE_S - 1);
    expect_nothing(w);
    later(w, 1);
    expect(w, CP_TYPE_RDS, "80");
    assert_false(cp_proxy_is_current(w->proxy)); /* neither has been acknowledged */
}

static void a_change_of_both_is_sent_in_order(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "rule.yaml", DR);
    put(w, "route.yaml", TO_V1);
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, SUBSET("a", "v1") " " HOST("a"));
    expect(w, CP_TYPE_EDS, HOST("a")); /* its cluster warms anew, and nobody asks */
    expect_nothing(w);
    ask(w, CP_TYPE_EDS, SUBSET("a", "v1"));
    expect(w, CP_TYPE_EDS, SUBSET("a", "v1"));
    ack(w, clusters);
    expect(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
}

static void a_change_of_endpoints_alone_is_one_response(void **state)
{
    struct world *w = *state;
    start(w);
    service(w, "b", "10.1.0.77");
    change(w);
    assert_false(cp_proxy_is_current(w->proxy));
    take(w, CP_TYPE_EDS, HOST("b"));
    expect_nothing(w);
    assert_true(cp_proxy_is_current(w->proxy));
}

static void removed_clusters_outlive_their_routes_by_a_grace(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "b.yaml", NULL);
    change(w);
    uint64_t routes = expect(w, CP_TYPE_RDS, "80");
    later(w, 60);
    expect_nothing(w);
    assert_non_null(
        strstr(cp_proxy_waits_for(w->proxy), "acknowledgement of listeners and routes"));
    ack(w, routes);
    assert_true(cp_proxy_due_ns(w->proxy) == now_ns(w) + GRACE_S * LT_NS_PER_S);
    assert_true(cp_proxy_is_current(w->proxy));
    later(w, GRACE_S - 1);
    expect_nothing(w);
    later(w, 1);
    take(w, CP_TYPE_CDS, "-" HOST("b"));
    expect_nothing(w);
    assert_string_equal(cp_proxy_waits_for(w->proxy), "");
}

#define WITH_ADDRESS(name, ip) \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: shop}\n" \
    "spec: {clusterIP: " ip ", selector: {app: " name "}, ports: [{name: http, port: 80}]}\n"

/* The one table has no name, which is what the response shows. */
static void names_go_after_the_clusters_they_lead_to_and_before_those_are_removed(void **state)
{
    struct world *w = *state;
    start(w);
    ask(w, CP_TYPE_NDS, "");
    take(w, CP_TYPE_NDS, "");
    put(w, "c.yaml", WITH_ADDRESS("c", "10.0.0.3"));
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, HOST("c"));
    expect_nothing(w);
    ack(w, clusters);
    take(w, CP_TYPE_RDS, "80");
    take(w, CP_TYPE_NDS, "");
    service(w, "b", "10.1.0.77");
    change(w);
    take(w, CP_TYPE_EDS, HOST("b")); /* names lead where they led */
    expect_nothing(w);
    put(w, "c.yaml", NULL);
    change(w);
    take(w, CP_TYPE_RDS, "80");
    uint64_t names = expect(w, CP_TYPE_NDS, "");
    later(w, 60);
    expect_nothing(w);
    nack(w, names, "who knows");
    later(w, GRACE_S);
    take(w, CP_TYPE_CDS, "-" HOST("c"));
    expect_nothing(w);
}

static void what_comes_back_within_the_grace_is_not_removed(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "b.yaml", NULL);
    change(w);
    take(w, CP_TYPE_RDS, "80");
    later(w, GRACE_S - 1);
    service(w, "b", "10.1.0.2");
    change(w);
    take(w, CP_TYPE_RDS, "80");
    later(w, 60);
    expect_nothing(w);
}

static void names_that_do_not_exist_are_answered_once(void **state)
{
    struct world *w = *state;
    start(w);
    ask(w, CP_TYPE_EDS, HOST("ghost"));
    take(w, CP_TYPE_EDS, HOST("ghost"));
    ask(w, CP_TYPE_RDS, "9999");
    take(w, CP_TYPE_RDS, "9999");
    change(w);
    expect_nothing(w);
    service(w, "ghost", "10.1.0.3");
    change(w);
    expect(w, CP_TYPE_CDS, HOST("ghost"));
    expect(w, CP_TYPE_EDS, HOST("ghost"));
}

/* ---- reconnecting ---- */

static void who_has_all_of_it_gets_endpoints_and_an_empty_answer(void **state)
{
    struct world *w = *state;
    start(w);
    connect_anew(w);
    talk(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, "");
    expect(w, CP_TYPE_EDS, HOST("a") " " HOST("b")); /* its clusters may be warming */
    expect_nothing(w);
    ack(w, clusters);
    expect(w, CP_TYPE_LDS, "");
    expect_nothing(w);
}

static void what_changed_meanwhile_is_sent_in_order(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "rule.yaml", DR);
    put(w, "route.yaml", TO_V1);
    put(w, "b.yaml", NULL);
    build(w);
    connect_anew(w);
    talk(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, SUBSET("a", "v1") " " HOST("a"));
    expect(w, CP_TYPE_EDS, HOST("a"));
    expect_nothing(w);
    ack(w, clusters);
    uint64_t listeners = expect(w, CP_TYPE_LDS, "");
    uint64_t routes = expect(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
    ack(w, listeners);
    ack(w, routes);
    later(w, GRACE_S);
    expect(w, CP_TYPE_CDS, "-" HOST("b"));
}

/* Envoy asks for its clusters last when one of them warms. */
static void routes_wait_even_if_clusters_are_asked_for_last(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "rule.yaml", DR);
    put(w, "route.yaml", TO_V1);
    build(w);
    connect_anew(w);
    lt_ads_watch_pause(lt_ads_client_find(w->client, type_url(CP_TYPE_CDS)));
    talk(w);
    expect(w, CP_TYPE_EDS, HOST("a") " " HOST("b"));
    expect_nothing(w);
    lt_ads_watch_resume(lt_ads_client_find(w->client, type_url(CP_TYPE_CDS)));
    talk(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, SUBSET("a", "v1") " " HOST("a"));
    expect(w, CP_TYPE_EDS, HOST("a"));
    expect_nothing(w);
    ack(w, clusters);
    expect(w, CP_TYPE_LDS, "");
    expect(w, CP_TYPE_RDS, "80");
}

/* A cluster that is no more may be the one that warms: then only endpoints without any free it. */
static void who_never_asks_for_clusters_is_freed(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "b.yaml", NULL);
    build(w);
    connect_anew(w);
    lt_ads_watch_pause(lt_ads_client_find(w->client, type_url(CP_TYPE_CDS)));
    talk(w);
    take(w, CP_TYPE_EDS, HOST("a")); /* nothing about b, to which it may still send */
    expect_nothing(w);
    later(w, GATE_S);
    take(w, CP_TYPE_EDS, HOST("b"));
    expect(w, CP_TYPE_LDS, "");
    expect(w, CP_TYPE_RDS, "80");
    later(w, GATE_S);
    expect_nothing(w);
}

/* ---- refusals ---- */

static void a_refusal_without_a_name_is_searched_one_at_a_time(void **state)
{
    struct world *w = *state;
    start(w);
    service(w, "a", "10.1.0.11");
    service(w, "b", "10.1.0.12");
    change(w);
    nack(w, expect(w, CP_TYPE_EDS, HOST("a") " " HOST("b")), "malformed");
    uint64_t a = expect(w, CP_TYPE_EDS, HOST("a")), b = expect(w, CP_TYPE_EDS, HOST("b"));
    expect_nothing(w);
    nack(w, a, "malformed");
    assert_int_equal(cp_proxy_refusal_count(w->proxy), 1);
    const struct cp_refusal *refusal = cp_proxy_refusal_at(w->proxy, 0);
    assert_true(lt_str_eqz(lt_ads_resource_name(refusal->resource), HOST("a")));
    assert_string_equal(refusal->why, "malformed");
    assert_true(refusal->has_predecessor);
    take(w, CP_TYPE_EDS, HOST("a")); /* what it had before, if its cluster should warm */
    ack(w, b);
    /* others go on, and the bad one waits for a change */
    service(w, "b", "10.1.0.13");
    change(w);
    take(w, CP_TYPE_EDS, HOST("b"));
    expect_nothing(w);
    assert_int_equal(cp_proxy_refusal_count(w->proxy), 1);
    assert_true(cp_proxy_is_current(w->proxy));
    service(w, "a", "10.1.0.14");
    change(w);
    take(w, CP_TYPE_EDS, HOST("a"));
    expect_nothing(w);
    assert_int_equal(cp_proxy_refusal_count(w->proxy), 0);
}

static void a_warming_cluster_gets_the_endpoints_that_it_had(void **state)
{
    struct world *w = *state;
    start(w);
    service(w, "a", "10.1.0.11");
    put(w, "rule.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: shop}\n"
        "spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}\n");
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, HOST("a"));
    nack(w, expect(w, CP_TYPE_EDS, HOST("a")), "malformed");
    struct lt_ads_held held = {0};
    const struct lt_ads_sub *sub = lt_ads_session_find(w->session, type_url(CP_TYPE_EDS));
    assert_int_equal(lt_ads_sub_held(sub, LT_STR(HOST("a")), &held), LT_OK);
    assert_ptr_equal(held.sent, held.held); /* the predecessor is on its way again */
    take(w, CP_TYPE_EDS, HOST("a"));
    ack(w, clusters);
    expect_nothing(w);
}

/* Without a predecessor an empty one: the cluster, and all that waits for it, would wait for ever. */
static void a_first_version_that_is_refused_is_left_empty(void **state)
{
    struct world *w = *state;
    start(w);
    service(w, "c", "10.1.0.3");
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, HOST("c"));
    ask(w, CP_TYPE_EDS, HOST("c"));
    nack(w, expect(w, CP_TYPE_EDS, HOST("c")), "malformed");
    const struct cp_refusal *refusal = cp_proxy_refusal_at(w->proxy, 0);
    assert_false(refusal->has_predecessor);
    assert_true(lt_ads_resource_value(refusal->instead).len == 2 + strlen(HOST("c")));
    uint64_t empty = expect(w, CP_TYPE_EDS, HOST("c"));
    /* even that is refused: then nothing more */
    nack(w, empty, "malformed");
    ack(w, clusters);
    take(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
    assert_true(cp_proxy_is_current(w->proxy));
}

static void routes_are_searched_too_and_removals_with_them(void **state)
{
    struct world *w = *state;
    start(w);
    ask(w, CP_TYPE_RDS, "81");
    take(w, CP_TYPE_RDS, "81");
    put(w, "more.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: m, namespace: shop}\n"
        "spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 81}, {name: tcp, port: 90}]}\n");
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS,
                               "outbound|81||m.shop.svc.cluster.local "
                               "outbound|90||m.shop.svc.cluster.local");
    ack(w, clusters);
    uint64_t listeners = expect(w, CP_TYPE_LDS, "0.0.0.0_81 10.0.0.9_90");
    take(w, CP_TYPE_RDS, "81");
    ack(w, listeners);
    put(w, "more.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: m, namespace: shop}\n"
        "spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 81}, {name: tcp, port: 91}]}\n");
    change(w);
    ack(w, expect(w, CP_TYPE_CDS, "outbound|91||m.shop.svc.cluster.local"));
    nack(w, expect(w, CP_TYPE_LDS, "10.0.0.9_91 -10.0.0.9_90"), "no such luck");
    uint64_t alone = expect(w, CP_TYPE_LDS, "10.0.0.9_91"),
             removal = expect(w, CP_TYPE_LDS, "-10.0.0.9_90");
    nack(w, alone, "no such luck");
    ack(w, removal);
    expect_nothing(w);
    assert_int_equal(cp_proxy_refusal_count(w->proxy), 1);
}

static void only_what_names_a_refused_cluster_waits_for_it(void **state)
{
    struct world *w = *state;
    start(w);
    ask(w, CP_TYPE_RDS, "81");
    take(w, CP_TYPE_RDS, "81");
    put(w, "rule.yaml", DR);
    put(w, "route.yaml", TO_V1);
    put(w, "other.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: o, namespace: shop}\n"
        "spec: {ports: [{name: http, port: 81}]}\n");
    change(w);
    uint64_t clusters = expect(
        w, CP_TYPE_CDS, SUBSET("a", "v1") " " HOST("a") " outbound|81||o.shop.svc.cluster.local");
    take(w, CP_TYPE_EDS, HOST("a"));
    nack(w, clusters, "Error adding/updating cluster(s) " SUBSET("a", "v1") ": no");
    take(w, CP_TYPE_LDS, "0.0.0.0_81");
    take(w, CP_TYPE_RDS, "81");
    expect_nothing(w);
    assert_non_null(
        strstr(cp_proxy_waits_for(w->proxy), "80 waits for cluster " SUBSET("a", "v1")));
    assert_true(cp_proxy_due_ns(w->proxy) == now_ns(w) + GATE_S * LT_NS_PER_S);
    later(w, GATE_S);
    take(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
}

static void a_refused_cluster_with_a_predecessor_holds_nothing_up(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "rule.yaml", DR);
    put(w, "route.yaml", TO_B);
    change(w);
    uint64_t clusters = expect(w, CP_TYPE_CDS, SUBSET("a", "v1") " " HOST("a"));
    take(w, CP_TYPE_EDS, HOST("a"));
    nack(w, clusters, "Error adding/updating cluster(s) " HOST("a") ": no");
    take(w, CP_TYPE_RDS, "80");
    expect_nothing(w);
    /* it is there all the same: nothing to remove, and it isn't sent again */
    later(w, 60);
    change(w);
    expect_nothing(w);
}

/* Routes that stay in force because their successor is refused still need their cluster. */
static void a_cluster_stays_while_routes_in_force_name_it(void **state)
{
    struct world *w = *state;
    start(w);
    put(w, "b.yaml", NULL);
    change(w);
    nack(w, expect(w, CP_TYPE_RDS, "80"), "bad route");
    later(w, 60);
    expect_nothing(w);
    put(w, "route.yaml", VS("{redirect: {authority: elsewhere}}"));
    change(w);
    take(w, CP_TYPE_RDS, "80");
    later(w, GRACE_S);
    expect(w, CP_TYPE_CDS, "-" HOST("b"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_is_sent_that_was_not_asked_for),
        CASE(endpoints_go_without_waiting_and_routes_after_the_clusters),
        CASE(routes_wait_for_clusters_ten_seconds_at_most),
        CASE(a_change_of_both_is_sent_in_order),
        CASE(a_change_of_endpoints_alone_is_one_response),
        CASE(removed_clusters_outlive_their_routes_by_a_grace),
        CASE(names_go_after_the_clusters_they_lead_to_and_before_those_are_removed),
        CASE(what_comes_back_within_the_grace_is_not_removed),
        CASE(names_that_do_not_exist_are_answered_once),
        CASE(who_has_all_of_it_gets_endpoints_and_an_empty_answer),
        CASE(what_changed_meanwhile_is_sent_in_order),
        CASE(routes_wait_even_if_clusters_are_asked_for_last),
        CASE(who_never_asks_for_clusters_is_freed),
        CASE(a_refusal_without_a_name_is_searched_one_at_a_time),
        CASE(a_warming_cluster_gets_the_endpoints_that_it_had),
        CASE(a_first_version_that_is_refused_is_left_empty),
        CASE(routes_are_searched_too_and_removals_with_them),
        CASE(only_what_names_a_refused_cluster_waits_for_it),
        CASE(a_refused_cluster_with_a_predecessor_holds_nothing_up),
        CASE(a_cluster_stays_while_routes_in_force_name_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
