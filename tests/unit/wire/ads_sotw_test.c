/*
 * State of the world: the client's engine, fed with what the generated schema writes, its requests
 * read back with it. Expected is what Envoy 1.40 was seen to say to the same answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/ads.h"
#include "wire/pb.h"
#include "wire/proto/discovery.pb-c.h"

static const lt_str CDS = {LT_ADS_CLUSTER, sizeof(LT_ADS_CLUSTER) - 1};
static const lt_str EDS = {LT_ADS_ENDPOINT, sizeof(LT_ADS_ENDPOINT) - 1};

enum { MESSAGE_MAX = 1 << 20 };

struct world {
    struct lt_ads_client *client;
    struct lt_arena *arena;
    struct lt_err err;
    struct lt_buf message;
};

static void world_init(struct world *world, bool says_node_always)
{
    *world = (struct world){0};
    struct lt_ads_client_opts opts = {
        .node = LT_STR("\x0a\x04sc~1"), .is_sotw = true, .says_node_always = says_node_always};
    world->client = lt_ads_client_new(&opts);
    world->arena = lt_arena_new(0, 0);
    lt_buf_init(&world->message, MESSAGE_MAX);
}

static void world_fini(struct world *world)
{
    lt_ads_client_free(&world->client);
    lt_arena_free(&world->arena);
    lt_buf_fini(&world->message);
}

static const char *text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* "a,b version=1 nonce=n1 node NACK: text", or "" when there is no request. */
static const char *next(struct world *world)
{
    Xds__DiscoveryRequest *request = NULL;
    lt_buf_clear(&world->message, 0);
    lt_rc rc = lt_ads_client_next(world->client, &world->message);
    if (rc == LT_AGAIN)
        return "";
    assert_int_equal(rc, LT_OK);
    rc = lt_pb_unpack(world->arena, &xds__discovery_request__descriptor,
                      lt_buf_str(&world->message), NULL, &request, &world->err);
    assert_int_equal(rc, LT_OK);
    lt_str names = LT_STR("");
    for (size_t i = 0; i < request->n_resource_names; i++)
        names = lt_arena_printf(world->arena, "%.*s%s%s", LT_STR_ARG(names), i > 0 ? "," : "",
                                request->resource_names[i]);
    bool is_nack = request->error_detail != NULL;
    assert_true(!is_nack || request->error_detail->code == LT_ADS_NACK_CODE);
    return lt_arena_printf(world->arena, "%.*s v=%s n=%s%s%s%s", LT_STR_ARG(names),
                           text_or_empty(request->version_info),
                           text_or_empty(request->response_nonce),
                           request->node != NULL ? " node" : "", is_nack ? " NACK: " : "",
                           is_nack ? request->error_detail->message : "")
        .ptr;
}

/* A resource of any type: only its name. */
static lt_str resource_bytes(struct world *world, lt_str name)
{
    return lt_arena_printf(world->arena, "\x0a%c%.*s", (char)name.len, LT_STR_ARG(name));
}

static lt_rc feed(struct world *world, lt_str type, const char *version, const char *nonce,
                  const char *names, const struct lt_ads_update **ret_update)
{
    Pb__Any any[16], *anys[16];
    Xds__DiscoveryResponse response = XDS__DISCOVERY_RESPONSE__INIT;
    lt_str rest = lt_str_of(names), name;
    response.version_info = (char *)version;
    response.nonce = (char *)nonce;
    response.type_url = (char *)type.ptr;
    response.resources = anys;
    while (rest.len > 0 && lt_str_split(&rest, ' ', &name)) {
        Pb__Any *at = &any[response.n_resources];
        lt_str bytes = resource_bytes(world, name);
        pb__any__init(at);
        at->type_url = (char *)type.ptr;
        at->value = (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.ptr};
        at->has_value = true;
        anys[response.n_resources++] = at;
    }
    return lt_ads_client_feed(world->client, lt_pb_pack(world->arena, &response), ret_update,
                              &world->err);
}

static uint64_t take(struct world *world, lt_str type, const char *version, const char *nonce,
                     const char *names, const char *removed)
{
    const struct lt_ads_update *update = NULL;
    assert_int_equal(feed(world, type, version, nonce, names, &update), LT_OK);
    lt_str gone = LT_STR("");
    for (size_t i = 0; i < update->removed_count; i++)
        gone = lt_arena_printf(world->arena, "%.*s%s%.*s", LT_STR_ARG(gone), i > 0 ? " " : "",
                               LT_STR_ARG(update->removed[i]));
    assert_string_equal(gone.ptr, removed);
    for (size_t i = 0; i < update->resource_count; i++)
        assert_true(update->resources[i].has_body);
    return update->ticket;
}

static void subscribe(struct lt_ads_watch *watch, const char *name)
{
    assert_int_equal(lt_ads_watch_subscribe(watch, lt_str_of(name)), LT_OK);
}

static void test_start_as_envoy(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, false);
    lt_ads_client_watch(w.client, CDS, true);
    lt_ads_client_open(w.client);
    assert_string_equal(next(&w), " v= n= node");
    uint64_t clusters = take(&w, CDS, "1", "n1", "a b", "");
    struct lt_ads_watch *eds = lt_ads_client_watch(w.client, EDS, false);
    subscribe(eds, "a");
    subscribe(eds, "b");
    lt_ads_client_ack(w.client, clusters);
    assert_string_equal(next(&w), " v=1 n=n1");
    assert_string_equal(next(&w), "a,b v= n=");
    assert_string_equal(next(&w), "");
    /* a part of what was asked for: the rest is as it was, nothing is removed */
    lt_ads_client_ack(w.client, take(&w, EDS, "1", "n2", "b", ""));
    assert_string_equal(next(&w), "a,b v=1 n=n2");
    world_fini(&w);
}

static void test_a_wildcard_set_is_whole(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, false);
    lt_ads_client_watch(w.client, CDS, true);
    lt_ads_client_open(w.client);
    next(&w);
    uint64_t first = take(&w, CDS, "1", "n1", "a b c", "");
    /* the next comes while the first still warms: what it misses has gone all the same */
    uint64_t second = take(&w, CDS, "2", "n2", "a d", "b c");
    lt_ads_client_ack(w.client, first);
    lt_ads_client_ack(w.client, second);
    assert_string_equal(next(&w), " v=2 n=n2"); /* one request stands for both */
    assert_string_equal(next(&w), "");
    lt_ads_client_close(w.client);
    lt_ads_client_open(w.client);
    assert_string_equal(next(&w), " v=2 n= node");
    lt_ads_client_ack(w.client, take(&w, CDS, "3", "n1", "d", "a"));
    assert_string_equal(next(&w), " v=3 n=n1");
    world_fini(&w);
}

static void test_nack_keeps_the_version(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, false);
    lt_ads_client_watch(w.client, CDS, true);
    lt_ads_client_open(w.client);
    next(&w);
    uint64_t ticket = take(&w, CDS, "1", "n1", "bad good", "");
    lt_str refused = LT_STR("bad");
    lt_ads_client_nack(w.client, ticket, LT_STR("no"), &refused, 1);
    assert_string_equal(next(&w), " v= n=n1 NACK: no");
    lt_ads_client_ack(w.client, take(&w, CDS, "2", "n2", "good", "bad"));
    assert_string_equal(next(&w), " v=2 n=n2");
    ticket = take(&w, CDS, "3", "n3", "good", "");
    lt_ads_client_nack(w.client, ticket, LT_STR("again"), NULL, 0);
    assert_string_equal(next(&w), " v=2 n=n3 NACK: again");
    world_fini(&w);
}

static void test_names_change(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, false);
    struct lt_ads_watch *eds = lt_ads_client_watch(w.client, EDS, false);
    lt_ads_client_open(w.client);
    assert_string_equal(next(&w), "");
    subscribe(eds, "a");
    assert_string_equal(next(&w), "a v= n= node");
    lt_ads_client_ack(w.client, take(&w, EDS, "1", "n1", "a", ""));
    next(&w);
    subscribe(eds, "b");
    assert_string_equal(next(&w), "a,b v=1 n=n1");
    lt_ads_watch_unsubscribe(eds, LT_STR("a"));
    /* an answer and a change at once are one request */
    lt_ads_client_ack(w.client, take(&w, EDS, "2", "n2", "b", ""));
    assert_string_equal(next(&w), "b v=2 n=n2");
    assert_string_equal(next(&w), "");
    lt_ads_watch_unsubscribe(eds, LT_STR("b"));
    assert_string_equal(next(&w), " v=2 n=n2"); /* none are wanted */
    world_fini(&w);
}

static void test_node_in_each_request(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, true);
    lt_ads_client_watch(w.client, CDS, true);
    lt_ads_client_open(w.client);
    assert_string_equal(next(&w), " v= n= node");
    lt_ads_client_ack(w.client, take(&w, CDS, "1", "n1", "", ""));
    assert_string_equal(next(&w), " v=1 n=n1 node");
    world_fini(&w);
}

/* Resource{name, version, resource} inside the Any, as a server sends it that wants a ttl. */
static void test_wrapped_resources(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, false);
    struct lt_ads_watch *eds = lt_ads_client_watch(w.client, EDS, false);
    subscribe(eds, "x");
    lt_ads_client_open(w.client);
    next(&w);
    static const char wrapped[] = "\x0a\x01"
                                  "1\x1a\x01x\x32\x02\x08\x05"; /* version, name, ttl of 5 s */
    Pb__Any any = PB__ANY__INIT, *anys[] = {&any};
    Xds__DiscoveryResponse response = XDS__DISCOVERY_RESPONSE__INIT;
    any.type_url = (char *)"type.googleapis.com/envoy.service.discovery.v3.Resource";
    any.value = (ProtobufCBinaryData){sizeof(wrapped) - 1, (uint8_t *)wrapped};
    any.has_value = true;
    response.type_url = (char *)EDS.ptr;
    response.nonce = (char *)"n1";
    response.resources = anys;
    response.n_resources = 1;
    const struct lt_ads_update *update = NULL;
    lt_rc rc = lt_ads_client_feed(w.client, lt_pb_pack(w.arena, &response), &update, &w.err);
    assert_int_equal(rc, LT_OK);
    assert_int_equal(update->resource_count, 1);
    assert_true(lt_str_eqz(update->resources[0].name, "x"));
    assert_true(lt_str_eqz(update->resources[0].version, "1"));
    assert_int_equal(update->resources[0].ttl_ns, 5000000000);
    assert_false(update->resources[0].has_body);
    world_fini(&w);
}

static void test_refused_by_itself(void **state)
{
    (void)state;
    struct world w;
    const struct lt_ads_update *update = NULL;
    world_init(&w, false);
    lt_ads_client_watch(w.client, CDS, true);
    lt_ads_client_open(w.client);
    next(&w);
    assert_int_equal(feed(&w, EDS, "1", "n1", "a", &update), LT_E_NOT_FOUND);
    assert_int_equal(feed(&w, CDS, "1", "n1", "a a", &update), LT_E_EXISTS);
    assert_string_equal(next(&w), " v= n=n1 NACK: a resource name occurs twice in one response");
    assert_int_equal(lt_ads_client_feed(w.client, LT_STR("\x0a"), &update, &w.err), LT_E_BAD);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_as_envoy),
        cmocka_unit_test(test_a_wildcard_set_is_whole),
        cmocka_unit_test(test_nack_keeps_the_version),
        cmocka_unit_test(test_names_change),
        cmocka_unit_test(test_node_in_each_request),
        cmocka_unit_test(test_wrapped_resources),
        cmocka_unit_test(test_refused_by_itself),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
