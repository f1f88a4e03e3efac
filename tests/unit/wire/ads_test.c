/*
 * Delta ADS: the client's and the server's engine, each alone and both together. What they write is
 * read back with the generated schema, so that the two don't merely agree with each other.
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
static const lt_str LDS = {LT_ADS_LISTENER, sizeof(LT_ADS_LISTENER) - 1};

enum { MESSAGE_MAX = 1 << 20 };

struct world {
    struct lt_ads_client *client;
    struct lt_ads_session *session;
    struct lt_arena *arena;
    struct lt_err err;
    struct lt_buf message; /* the last that went either way */
};

static void world_init(struct world *world)
{
    *world = (struct world){0};
    struct lt_ads_client_opts opts = {.node = LT_STR("\x0a\x04sc~1")}; /* Node.id */
    world->client = lt_ads_client_new(&opts);
    world->session = lt_ads_session_new(NULL);
    world->arena = lt_arena_new(0, 0);
    lt_buf_init(&world->message, MESSAGE_MAX);
}

static void world_fini(struct world *world)
{
    lt_ads_client_free(&world->client);
    lt_ads_session_free(&world->session);
    lt_arena_free(&world->arena);
    lt_buf_fini(&world->message);
}

static void reconnect(struct world *world)
{
    lt_ads_session_free(&world->session);
    world->session = lt_ads_session_new(NULL);
    lt_ads_client_open(world->client);
}

/* The client's next request as the schema reads it; NULL: none. */
static Xds__DeltaDiscoveryRequest *next_request(struct world *world)
{
    lt_buf_clear(&world->message, 0);
    lt_rc rc = lt_ads_client_next(world->client, &world->message);
    if (rc == LT_AGAIN)
        return NULL;
    assert_int_equal(rc, LT_OK);
    Xds__DeltaDiscoveryRequest *request = NULL;
    rc = lt_pb_unpack(world->arena, &xds__delta_discovery_request__descriptor,
                      lt_buf_str(&world->message), NULL, &request, &world->err);
    assert_int_equal(rc, LT_OK);
    return request;
}

/* The client's next request as the session reads it. */
static const struct lt_ads_request *exchange(struct world *world)
{
    const struct lt_ads_request *request = NULL;
    assert_non_null(next_request(world));
    assert_int_equal(
        lt_ads_session_feed(world->session, lt_buf_str(&world->message), &request, &world->err),
        LT_OK);
    return request;
}

static struct lt_ads_resource *resource(lt_str type, const char *name, const char *version,
                                        const char *value)
{
    return lt_ads_resource_new(type, lt_str_of(name), lt_str_of(version), lt_str_of(value));
}

/* Sends what a list of "name=version" says ("-name" is removed); the client's update. */
static const struct lt_ads_update *push(struct world *world, lt_str type, const char *list,
                                        uint64_t *ret_seq)
{
    struct lt_ads_resource *resources[16];
    lt_str removed[16];
    size_t count = 0, removed_count = 0;
    lt_str rest = lt_str_of(list), item;
    while (rest.len > 0 && lt_str_split(&rest, ' ', &item)) {
        lt_str name;
        if (item.ptr[0] == '-') {
            removed[removed_count++] = lt_str_from(item, 1);
            continue;
        }
        lt_str version = item;
        lt_str_split(&version, '=', &name);
        resources[count++] = lt_ads_resource_new(type, name, version, LT_STR("value"));
    }
    struct lt_rope rope;
    lt_rope_init(&rope, MESSAGE_MAX);
    struct lt_ads_sub *sub = lt_ads_session_find(world->session, type);
    lt_rc rc = lt_ads_session_respond(world->session, sub, resources, count, removed, removed_count,
                                      LT_STR("v"), &rope, ret_seq);
    assert_int_equal(rc, LT_OK);
    for (size_t i = 0; i < count; i++)
        lt_ads_resource_unref(&resources[i]);
    char *at = NULL;
    lt_buf_clear(&world->message, 0);
    assert_int_equal(lt_buf_reserve(&world->message, lt_rope_len(&rope), &at), LT_OK);
    lt_rope_flatten(&rope, at);
    lt_buf_commit(&world->message, lt_rope_len(&rope));
    lt_rope_fini(&rope);
    const struct lt_ads_update *update = NULL;
    rc = lt_ads_client_feed(world->client, lt_buf_str(&world->message), &update, &world->err);
    assert_int_equal(rc, LT_OK);
    return update;
}

static void push_and_ack(struct world *world, lt_str type, const char *list)
{
    lt_ads_client_ack(world->client, push(world, type, list, NULL)->ticket);
    assert_true(exchange(world)->is_ack);
}

static struct lt_ads_held held(struct world *world, lt_str type, const char *name)
{
    struct lt_ads_held held = {0};
    assert_int_equal(
        lt_ads_sub_held(lt_ads_session_find(world->session, type), lt_str_of(name), &held), LT_OK);
    return held;
}

static bool is_known(struct world *world, lt_str type, const char *name)
{
    struct lt_ads_held unused;
    return lt_ads_sub_held(lt_ads_session_find(world->session, type), lt_str_of(name), &unused) ==
           LT_OK;
}

static bool client_holds(struct world *world, lt_str type, const char *name, const char *version)
{
    lt_str held_version;
    struct lt_ads_watch *watch = lt_ads_client_find(world->client, type);
    return lt_ads_watch_version(watch, lt_str_of(name), &held_version) == LT_OK &&
           lt_str_eqz(held_version, version);
}

static struct lt_ads_watch *watch_names(struct world *world, lt_str type, const char *names)
{
    struct lt_ads_watch *watch = lt_ads_client_watch(world->client, type, false);
    lt_str rest = lt_str_of(names), name;
    while (lt_str_split(&rest, ' ', &name))
        assert_int_equal(lt_ads_watch_subscribe(watch, name), LT_OK);
    return watch;
}

/* --- the client's requests --- */

static void test_first_requests_are_envoys(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    watch_names(&world, EDS, "a b");
    assert_null(next_request(&world)); /* no stream */
    lt_ads_client_open(world.client);
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_string_equal(request->node->id, "sc~1");
    assert_string_equal(request->type_url, LT_ADS_CLUSTER);
    assert_int_equal(request->n_resource_names_subscribe, 0);
    assert_int_equal(request->n_initial_resource_versions, 0);
    assert_true(request->response_nonce == NULL || request->response_nonce[0] == '\0');
    request = next_request(&world);
    assert_null(request->node);
    assert_int_equal(request->n_resource_names_subscribe, 2);
    assert_string_equal(request->resource_names_subscribe[0], "a");
    assert_null(next_request(&world));
    world_fini(&world);
}

static void test_a_type_without_names_is_not_asked_for(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = lt_ads_client_watch(world.client, EDS, false);
    lt_ads_client_open(world.client);
    assert_null(next_request(&world));
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("a")), LT_OK);
    lt_ads_watch_pause(watch);
    assert_null(next_request(&world));
    lt_ads_watch_resume(watch);
    assert_non_null(next_request(&world));
    world_fini(&world);
}

static void test_changes_of_subscription_are_gathered(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = watch_names(&world, EDS, "a b c");
    lt_ads_client_open(world.client);
    assert_non_null(next_request(&world));
    lt_ads_watch_unsubscribe(watch, LT_STR("a"));
    lt_ads_watch_unsubscribe(watch, LT_STR("nobody"));
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("b")), LT_OK);
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("d")), LT_OK);
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("e")), LT_OK);
    lt_ads_watch_unsubscribe(watch, LT_STR("e")); /* the server never hears of it */
    assert_int_equal(lt_ads_watch_refresh(watch, LT_STR("c")), LT_OK);
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_int_equal(request->n_resource_names_subscribe, 2);
    assert_string_equal(request->resource_names_subscribe[0], "c");
    assert_string_equal(request->resource_names_subscribe[1], "d");
    assert_int_equal(request->n_resource_names_unsubscribe, 1);
    assert_string_equal(request->resource_names_unsubscribe[0], "a");
    assert_null(next_request(&world));
    world_fini(&world);
}

static void test_ack_waits_for_the_owner(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    const struct lt_ads_update *update = push(&world, CDS, "a=1 b=1", NULL);
    uint64_t ticket = update->ticket;
    assert_int_equal(update->resource_count, 2);
    assert_true(lt_str_eqz(update->resources[0].name, "a"));
    assert_true(lt_str_eq(update->resources[0].type_url, CDS));
    assert_true(lt_str_eqz(update->resources[0].value, "value"));
    assert_true(lt_str_eqz(update->system_version, "v"));
    assert_null(next_request(&world)); /* a cluster warms */
    assert_false(client_holds(&world, CDS, "a", "1"));
    uint64_t second = push(&world, CDS, "c=1", NULL)->ticket;
    lt_ads_client_ack(world.client, ticket);
    lt_ads_client_ack(world.client, ticket);
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_string_equal(request->response_nonce, "0.1");
    assert_int_equal(request->n_resource_names_subscribe, 0);
    assert_null(request->error_detail);
    assert_null(next_request(&world));
    lt_ads_client_ack(world.client, second);
    assert_string_equal(next_request(&world)->response_nonce, "0.2");
    assert_true(client_holds(&world, CDS, "a", "1"));
    world_fini(&world);
}

static void test_nack_says_why_and_keeps_the_good_ones(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    push_and_ack(&world, CDS, "a=1 b=1");
    const lt_str refused[] = {LT_STR("b")};
    lt_ads_client_nack(world.client, push(&world, CDS, "a=2 b=2", NULL)->ticket,
                       LT_STR("b: bad \xff name"), refused, 1);
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_int_equal(request->error_detail->code, 13);
    assert_string_equal(request->error_detail->message, "b: bad ? name");
    assert_true(client_holds(&world, CDS, "a", "2"));
    assert_true(client_holds(&world, CDS, "b", "1"));
    lt_ads_client_nack(world.client, push(&world, CDS, "a=3", NULL)->ticket, LT_STR("no"), NULL, 0);
    assert_non_null(next_request(&world));
    assert_true(client_holds(&world, CDS, "a", "2"));
    world_fini(&world);
}

static void test_reconnect_reports_what_is_held(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    struct lt_ads_watch *eds = watch_names(&world, EDS, "x y");
    lt_ads_client_open(world.client);
    exchange(&world);
    exchange(&world);
    push_and_ack(&world, CDS, "a=1 b=1");
    push_and_ack(&world, CDS, "-b");
    push_and_ack(&world, EDS, "x=7");
    uint64_t late = push(&world, CDS, "c=1", NULL)->ticket;
    lt_ads_client_close(world.client);
    lt_ads_watch_unsubscribe(eds, LT_STR("y"));
    reconnect(&world);
    lt_ads_client_ack(world.client, late); /* of the old stream */
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_non_null(request->node);
    assert_int_equal(request->n_initial_resource_versions, 1);
    assert_string_equal(request->initial_resource_versions[0]->key, "a");
    assert_string_equal(request->initial_resource_versions[0]->value, "1");
    assert_int_equal(request->n_resource_names_subscribe, 0);
    request = next_request(&world);
    assert_int_equal(request->n_resource_names_subscribe, 1);
    assert_string_equal(request->resource_names_subscribe[0], "x");
    assert_string_equal(request->initial_resource_versions[0]->value, "7");
    assert_int_equal(request->n_resource_names_unsubscribe, 0);
    assert_null(next_request(&world));
    world_fini(&world);
}

static void test_what_was_on_disk_is_reported(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = lt_ads_client_watch(world.client, CDS, true);
    assert_int_equal(lt_ads_watch_preload(watch, LT_STR("a"), LT_STR("9")), LT_OK);
    lt_ads_client_open(world.client);
    const struct lt_ads_request *request = exchange(&world);
    assert_true(request->is_first && request->wildcard_began);
    assert_true(held(&world, CDS, "a").is_held);
    struct lt_ads_resource *same = resource(CDS, "a", "9", ""),
                           *other = resource(CDS, "a", "10", "");
    assert_true(lt_ads_sub_has(request->sub, same));
    assert_false(lt_ads_sub_has(request->sub, other));
    lt_ads_resource_unref(&same);
    lt_ads_resource_unref(&other);
    world_fini(&world);
}

static void test_names_that_were_not_asked_for_are_left_out(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = watch_names(&world, EDS, "a b");
    lt_ads_client_open(world.client);
    exchange(&world);
    lt_ads_watch_unsubscribe(watch, LT_STR("b"));
    const struct lt_ads_update *update = push(&world, EDS, "a=1 b=1 c=1", NULL);
    assert_int_equal(update->resource_count, 1);
    assert_int_equal(update->unasked_count, 2);
    world_fini(&world);
}

static void test_a_name_twice_is_refused(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    static const char twice[] = "\x12\x03\x1a\x01"
                                "a\x12\x03\x1a\x01"
                                "a\x2a\x01n\x22";
    struct lt_buf message;
    lt_buf_init(&message, 1000);
    lt_buf_add(&message, lt_str_make(twice, sizeof(twice) - 1));
    char len = (char)CDS.len;
    lt_buf_add(&message, lt_str_make(&len, 1));
    lt_buf_add(&message, CDS);
    const struct lt_ads_update *update = NULL;
    assert_int_equal(lt_ads_client_feed(world.client, lt_buf_str(&message), &update, &world.err),
                     LT_E_EXISTS);
    lt_buf_fini(&message);
    Xds__DeltaDiscoveryRequest *request = next_request(&world);
    assert_string_equal(request->response_nonce, "n");
    assert_non_null(request->error_detail);
    world_fini(&world);
}

static void test_broken_responses(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    const struct lt_ads_update *update = NULL;
    static const lt_str broken[] = {
        {"\x12\x05\x1a\x01"
         "a",
         5},                         /* a length that is not there */
        {"\x12\x03\x1a\x01\xff", 5}, /* a name that is not UTF-8 */
        {"\x13", 1},                 /* a group */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"\x10\x01", 2}, /* resources as a number */
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(broken); i++)
        assert_int_equal(lt_ads_client_feed(world.client, broken[i], &update, &world.err),
                         LT_E_BAD);
    assert_int_equal(lt_ads_client_feed(world.client, LT_STR("\x22\x01x"), &update, &world.err),
                     LT_E_NOT_FOUND);
    world_fini(&world);
}

static void test_a_server_that_never_waits_is_stopped(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    for (int i = 0; i < 64; i++)
        push(&world, CDS, "a=1", NULL);
    const struct lt_ads_update *update = NULL;
    assert_int_equal(
        lt_ads_client_feed(world.client, lt_buf_str(&world.message), &update, &world.err),
        LT_E_LIMIT);
    world_fini(&world);
}

static void test_names_have_a_maximum(void **state)
{
    (void)state;
    struct lt_ads_client_opts opts = {.names_max = 2};
    struct lt_ads_client *client = lt_ads_client_new(&opts);
    struct lt_ads_watch *watch = lt_ads_client_watch(client, EDS, false);
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("a")), LT_OK);
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("b")), LT_OK);
    assert_int_equal(lt_ads_watch_subscribe(watch, LT_STR("c")), LT_E_LIMIT);
    lt_ads_client_free(&client);
}

/* --- the session --- */

static void test_session_follows_versions_from_sent_to_held(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    const struct lt_ads_request *request = exchange(&world);
    struct lt_ads_sub *sub = request->sub;
    assert_true(request->is_first && request->wildcard_began && request->node.ptr != NULL);
    assert_true(lt_ads_sub_is_wildcard(sub) && lt_ads_sub_wants(sub, LT_STR("anything")));
    uint64_t seq = 0;
    uint64_t ticket = push(&world, CDS, "a=1 b=1", &seq)->ticket;
    assert_int_equal(seq, 1);
    assert_true(held(&world, CDS, "a").is_pending);
    assert_false(held(&world, CDS, "a").is_held);
    struct lt_ads_resource *same = resource(CDS, "a", "1", "");
    assert_true(lt_ads_sub_has(sub, same));
    assert_int_equal(lt_ads_sub_settled_seq(sub), 0);
    lt_ads_client_ack(world.client, ticket);
    request = exchange(&world);
    assert_true(request->is_ack && request->seq == 1 && !request->is_first &&
                request->node.ptr == NULL);
    assert_true(held(&world, CDS, "a").is_held && !held(&world, CDS, "a").is_pending);
    assert_int_equal(held(&world, CDS, "a").held_version, lt_ads_version_hash(LT_STR("1")));
    assert_true(lt_ads_sub_has(sub, same));
    push_and_ack(&world, CDS, "a=2 -b");
    assert_false(is_known(&world, CDS, "b"));
    assert_false(lt_ads_sub_has(sub, same));
    assert_int_equal(lt_ads_sub_count(sub), 1);
    lt_ads_resource_unref(&same);
    world_fini(&world);
}

static void test_nack_that_names_what_it_refuses(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    push_and_ack(&world, CDS, "outbound|80||a=1 outbound|80||ab=1");
    uint64_t ticket = push(&world, CDS, "outbound|80||a=2 outbound|80||ab=2", NULL)->ticket;
    lt_ads_client_nack(world.client, ticket,
                       LT_STR("Error adding/updating cluster(s) outbound|80||ab: no such thing"),
                       NULL, 0);
    const struct lt_ads_request *request = exchange(&world);
    assert_true(request->is_nack && request->seq == 2 && request->error_code == 13);
    assert_int_equal(request->refused_count, 1);
    assert_int_equal(request->suspect_count, 0);
    assert_true(lt_str_eqz(lt_ads_resource_name(request->refused[0]), "outbound|80||ab"));
    assert_true(lt_str_eqz(lt_ads_resource_version(request->refused[0]), "2"));
    assert_int_equal(held(&world, CDS, "outbound|80||a").held_version,
                     lt_ads_version_hash(LT_STR("2")));
    assert_false(held(&world, CDS, "outbound|80||ab").is_pending);
    assert_true(
        lt_str_eqz(lt_ads_resource_version(held(&world, CDS, "outbound|80||ab").held), "1"));
    assert_int_equal(held(&world, CDS, "outbound|80||ab").held_version,
                     lt_ads_version_hash(LT_STR("1")));
    assert_int_equal(lt_ads_sub_settled_seq(request->sub), 2);
    world_fini(&world);
}

static void test_nack_of_one_that_names_nothing_refuses_it(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    watch_names(&world, EDS, "a b");
    lt_ads_client_open(world.client);
    exchange(&world);
    push_and_ack(&world, EDS, "a=1");
    push(&world, EDS, "a=2", NULL);
    uint64_t ticket = push(&world, EDS, "b=2", NULL)->ticket;
    lt_ads_client_nack(world.client, ticket, LT_STR("malformed"), NULL, 0);
    const struct lt_ads_request *request = exchange(&world);
    assert_true(request->is_nack && request->refused_count == 1 && request->suspect_count == 0);
    assert_true(lt_str_eqz(lt_ads_resource_name(request->refused[0]), "b"));
    assert_false(held(&world, EDS, "b").is_held);
    /* what came before it on the stream was taken */
    assert_int_equal(held(&world, EDS, "a").held_version, lt_ads_version_hash(LT_STR("2")));
    world_fini(&world);
}

static void test_nack_of_several_that_names_nothing_suspects_all(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    exchange(&world);
    push_and_ack(&world, CDS, "a=1 c=1");
    uint64_t ticket = push(&world, CDS, "a=2 b=2 -c", NULL)->ticket;
    lt_ads_client_nack(world.client, ticket, LT_STR("malformed"), NULL, 0);
    const struct lt_ads_request *request = exchange(&world);
    assert_int_equal(request->refused_count, 0);
    assert_int_equal(request->suspect_count, 3);
    assert_int_equal(held(&world, CDS, "a").held_version, lt_ads_version_hash(LT_STR("1")));
    assert_false(held(&world, CDS, "b").is_held || held(&world, CDS, "b").is_pending);
    assert_true(held(&world, CDS, "c").is_held);
    /* each alone: the one that is refused then is the one */
    push_and_ack(&world, CDS, "b=2");
    ticket = push(&world, CDS, "a=2", NULL)->ticket;
    lt_ads_client_nack(world.client, ticket, LT_STR("malformed"), NULL, 0);
    request = exchange(&world);
    assert_int_equal(request->refused_count, 1);
    assert_true(lt_str_eqz(lt_ads_resource_name(request->refused[0]), "a"));
    /* nothing is left that could be refused: the removal is done with */
    ticket = push(&world, CDS, "-c", NULL)->ticket;
    lt_ads_client_nack(world.client, ticket, LT_STR("malformed"), NULL, 0);
    request = exchange(&world);
    assert_int_equal(request->refused_count + request->suspect_count, 0);
    assert_false(is_known(&world, CDS, "c"));
    world_fini(&world);
}

static void feed_raw(struct world *world, lt_str type, const char *nonce, const char *subscribe,
                     const struct lt_ads_request **ret_request)
{
    Xds__DeltaDiscoveryRequest message;
    xds__delta_discovery_request__init(&message);
    char *type_url = lt_str_dupz(type);
    const char *names[1] = {subscribe};
    message.type_url = type_url;
    message.response_nonce = nonce;
    message.resource_names_subscribe = names;
    message.n_resource_names_subscribe = subscribe != NULL;
    lt_str bytes = lt_pb_pack(world->arena, &message);
    assert_int_equal(lt_ads_session_feed(world->session, bytes, ret_request, &world->err), LT_OK);
    free(type_url);
}

static void test_stale_nonces_answer_nothing(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    watch_names(&world, EDS, "a");
    lt_ads_client_open(world.client);
    exchange(&world);
    exchange(&world);
    push_and_ack(&world, CDS, "a=1");
    push(&world, CDS, "a=2", NULL);
    static const char *const stale[] = {
        "0.1", "0.3", "1.1", "2", "x", "0.2x", "0.99999999999999999999"};
    const struct lt_ads_request *request = NULL;
    for (size_t i = 0; i < LT_ARRAY_LEN(stale); i++) {
        feed_raw(&world, CDS, stale[i], NULL, &request);
        assert_true(request->is_stale && !request->is_ack && !request->is_nack);
    }
    feed_raw(&world, EDS, "0.2", "late", &request);
    assert_true(request->is_stale);
    assert_int_equal(request->subscribed_count, 1); /* a subscription is never lost */
    feed_raw(&world, CDS, "0.2", NULL, &request);
    assert_true(request->is_ack);
    world_fini(&world);
}

static void test_subscribing_again_wants_the_resource_again(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = watch_names(&world, EDS, "a b");
    lt_ads_client_open(world.client);
    const struct lt_ads_request *request = exchange(&world);
    assert_int_equal(request->subscribed_count, 2);
    assert_false(request->wildcard_began);
    push_and_ack(&world, EDS, "a=1 b=1");
    struct lt_ads_resource *same = resource(EDS, "a", "1", "");
    assert_true(lt_ads_sub_has(request->sub, same));
    assert_int_equal(lt_ads_watch_refresh(watch, LT_STR("a")), LT_OK);
    request = exchange(&world);
    assert_int_equal(request->subscribed_count, 1);
    assert_false(lt_ads_sub_has(request->sub, same));
    lt_ads_watch_unsubscribe(watch, LT_STR("b"));
    request = exchange(&world);
    assert_int_equal(request->unsubscribed_count, 1);
    assert_true(lt_str_eqz(request->unsubscribed[0], "b"));
    assert_false(is_known(&world, EDS, "b"));
    assert_false(lt_ads_sub_wants(request->sub, LT_STR("b")));
    lt_ads_resource_unref(&same);
    world_fini(&world);
}

static void test_reconnect_tells_what_the_client_holds(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    watch_names(&world, EDS, "a gone");
    lt_ads_client_open(world.client);
    exchange(&world);
    exchange(&world);
    push_and_ack(&world, CDS, "a=1 old=1");
    push_and_ack(&world, EDS, "a=1");
    reconnect(&world);
    const struct lt_ads_request *request = exchange(&world);
    assert_true(request->wildcard_began);
    assert_int_equal(request->subscribed_count, 0);
    assert_int_equal(lt_ads_sub_count(request->sub), 2);
    assert_true(held(&world, CDS, "old").is_held);
    request = exchange(&world);
    assert_int_equal(request->subscribed_count, 2);
    assert_true(held(&world, EDS, "a").is_held);
    assert_false(held(&world, EDS, "gone").is_held);
    world_fini(&world);
}

/* istiod sends no versions, and Envoy then reports empty ones. */
static void test_unknown_versions_are_held_but_never_the_same(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = lt_ads_client_watch(world.client, CDS, true);
    assert_int_equal(lt_ads_watch_preload(watch, LT_STR("a"), LT_STR("")), LT_OK);
    lt_ads_client_open(world.client);
    const struct lt_ads_request *request = exchange(&world);
    assert_true(held(&world, CDS, "a").is_held);
    assert_int_equal(held(&world, CDS, "a").held_version, 0);
    struct lt_ads_resource *any = resource(CDS, "a", "", "bytes");
    assert_int_equal(lt_ads_resource_version(any).len, 16);
    assert_false(lt_ads_sub_has(request->sub, any));
    lt_ads_resource_unref(&any);
    world_fini(&world);
}

static void test_a_pool_has_each_resource_once(void **state)
{
    (void)state;
    struct lt_ads_pool pool;
    lt_ads_pool_init(&pool);
    struct lt_ads_resource *a = lt_ads_pool_get(&pool, CDS, LT_STR("a"), LT_STR("one")),
                           *same = lt_ads_pool_get(&pool, CDS, LT_STR("a"), LT_STR("one")),
                           *other = lt_ads_pool_get(&pool, CDS, LT_STR("a"), LT_STR("two")),
                           *typed = lt_ads_pool_get(&pool, EDS, LT_STR("a"), LT_STR("one"));
    assert_ptr_equal(a, same);
    assert_ptr_not_equal(a, other);
    assert_ptr_not_equal(a, typed);
    assert_int_equal(pool.map.count, 3);
    lt_ads_resource_unref(&same);
    lt_ads_resource_unref(&other);
    lt_ads_resource_unref(&typed);
    lt_ads_pool_prune(&pool);
    assert_int_equal(pool.map.count, 1);
    same = lt_ads_pool_get(&pool, CDS, LT_STR("a"), LT_STR("one"));
    assert_ptr_equal(a, same);
    assert_true(lt_str_eq(lt_ads_resource_value(a), LT_STR("one")));
    lt_ads_resource_unref(&same);
    lt_ads_pool_fini(&pool);
    assert_true(lt_str_eq(lt_ads_resource_name(a), LT_STR("a"))); /* who has a count keeps it */
    lt_ads_resource_unref(&a);
}

static void test_wildcard_said_and_unsaid(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    const struct lt_ads_request *request = NULL;
    feed_raw(&world, LDS, "", "one", &request);
    assert_false(request->wildcard_began);
    feed_raw(&world, LDS, "", "*", &request);
    assert_true(request->wildcard_began && !request->is_first);
    assert_int_equal(request->subscribed_count, 0);
    struct lt_ads_resource *two = resource(LDS, "two", "1", "");
    struct lt_rope rope;
    lt_rope_init(&rope, MESSAGE_MAX);
    assert_int_equal(lt_ads_session_respond(world.session, request->sub, &two, 1, NULL, 0,
                                            LT_STR_NULL, &rope, NULL),
                     LT_OK);
    assert_true(is_known(&world, LDS, "two"));
    static const char unsay[] = "\x22\x01*\x12";
    struct lt_buf message;
    lt_buf_init(&message, 1000);
    lt_buf_add(&message, lt_str_make(unsay, sizeof(unsay) - 1));
    char len = (char)LDS.len;
    lt_buf_add(&message, lt_str_make(&len, 1));
    lt_buf_add(&message, LDS);
    assert_int_equal(lt_ads_session_feed(world.session, lt_buf_str(&message), &request, &world.err),
                     LT_OK);
    assert_true(request->wildcard_ended);
    assert_false(is_known(&world, LDS, "two"));
    assert_true(lt_ads_sub_wants(request->sub, LT_STR("one")));
    lt_buf_fini(&message);
    lt_rope_fini(&rope);
    lt_ads_resource_unref(&two);
    world_fini(&world);
}

static void test_response_is_what_the_schema_says(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_client_watch(world.client, CDS, true);
    lt_ads_client_open(world.client);
    struct lt_ads_sub *sub = exchange(&world)->sub;
    static char large[5000];
    memset(large, 'x', sizeof(large));
    struct lt_ads_resource *resources[] = {
        lt_ads_resource_new(CDS, LT_STR("a"), LT_STR("17"), lt_str_make(large, sizeof(large))),
        resource(CDS, "b", "", "v"),
    };
    const lt_str removed[] = {LT_STR("c"), LT_STR("d")};
    struct lt_rope rope;
    lt_rope_init(&rope, MESSAGE_MAX);
    assert_int_equal(lt_ads_session_respond(world.session, sub, resources, 2, removed, 2,
                                            LT_STR("sys"), &rope, NULL),
                     LT_OK);
    struct iovec iov[16];
    int count = lt_rope_iov(&rope, iov, 16);
    bool is_shared = false;
    lt_str value = lt_ads_resource_value(resources[0]);
    for (int i = 0; i < count; i++) {
        const char *from = iov[i].iov_base;
        is_shared |= from <= value.ptr && value.ptr + value.len <= from + iov[i].iov_len;
    }
    assert_true(is_shared);
    char *flat = malloc(lt_rope_len(&rope));
    lt_rope_flatten(&rope, flat);
    Xds__DeltaDiscoveryResponse *response = NULL;
    lt_rc rc = lt_pb_unpack(world.arena, &xds__delta_discovery_response__descriptor,
                            lt_str_make(flat, lt_rope_len(&rope)), NULL, &response, &world.err);
    assert_int_equal(rc, LT_OK);
    assert_string_equal(response->system_version_info, "sys");
    assert_string_equal(response->type_url, LT_ADS_CLUSTER);
    assert_int_equal(response->n_resources, 2);
    assert_string_equal(response->resources[0]->name, "a");
    assert_string_equal(response->resources[0]->version, "17");
    assert_string_equal(response->resources[0]->resource->type_url, LT_ADS_CLUSTER);
    assert_int_equal(response->resources[0]->resource->value.len, sizeof(large));
    assert_int_equal(response->n_removed_resources, 2);
    assert_string_equal(response->removed_resources[1], "d");
    free(flat);
    /* too large for its rope: as if it had never been */
    struct lt_rope small;
    lt_rope_init(&small, 100);
    assert_int_equal(lt_ads_session_respond(world.session, sub, resources, 2, NULL, 0, LT_STR_NULL,
                                            &small, NULL),
                     LT_E_LIMIT);
    assert_int_equal(lt_rope_len(&small), 0);
    assert_int_equal(lt_ads_sub_sent_seq(sub), 1);
    lt_rope_fini(&small);
    lt_ads_resource_unref(&resources[0]);
    lt_ads_resource_unref(&resources[1]);
    assert_int_equal(lt_rope_len(&rope) > sizeof(large), 1); /* the rope keeps its counts */
    lt_rope_fini(&rope);
    world_fini(&world);
}

static void test_session_limits(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    lt_ads_session_free(&world.session);
    struct lt_ads_session_opts opts = {.names_max = 3};
    world.session = lt_ads_session_new(&opts);
    const struct lt_ads_request *request = NULL;
    feed_raw(&world, EDS, "", "a", &request);
    feed_raw(&world, EDS, "", "b", &request);
    feed_raw(&world, LDS, "", "c", &request);
    watch_names(&world, CDS, "d");
    lt_ads_client_open(world.client);
    assert_non_null(next_request(&world));
    lt_str bytes = lt_buf_str(&world.message);
    assert_int_equal(lt_ads_session_feed(world.session, bytes, &request, &world.err), LT_E_LIMIT);
    assert_int_equal(lt_ads_session_feed(world.session, LT_STR("\x0a\x01"), &request, &world.err),
                     LT_E_BAD);
    assert_int_equal(lt_ads_session_feed(world.session, LT_STR(""), &request, &world.err),
                     LT_E_BAD);
    world_fini(&world);
}

/* Many names through the table: put, find, remove in an order of its own. */
static void test_many_names(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct lt_ads_watch *watch = lt_ads_client_watch(world.client, EDS, false);
    char name[32];
    enum { COUNT = 3000 };
    for (int i = 0; i < COUNT; i++) {
        int len = snprintf(name, sizeof(name), "outbound|80||s%d", i);
        assert_int_equal(lt_ads_watch_subscribe(watch, lt_str_make(name, (size_t)len)), LT_OK);
    }
    lt_ads_client_open(world.client);
    const struct lt_ads_request *request = exchange(&world);
    assert_int_equal(request->subscribed_count, COUNT);
    assert_int_equal(lt_ads_sub_count(request->sub), COUNT);
    for (int i = 0; i < COUNT; i += 3) {
        int len = snprintf(name, sizeof(name), "outbound|80||s%d", i);
        lt_ads_watch_unsubscribe(watch, lt_str_make(name, (size_t)len));
    }
    request = exchange(&world);
    assert_int_equal(request->unsubscribed_count, COUNT / 3);
    for (int i = 0; i < COUNT; i++) {
        int len = snprintf(name, sizeof(name), "outbound|80||s%d", i);
        assert_int_equal(lt_ads_sub_wants(request->sub, lt_str_make(name, (size_t)len)),
                         i % 3 != 0);
    }
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_requests_are_envoys),
        cmocka_unit_test(test_a_type_without_names_is_not_asked_for),
        cmocka_unit_test(test_changes_of_subscription_are_gathered),
        cmocka_unit_test(test_ack_waits_for_the_owner),
        cmocka_unit_test(test_nack_says_why_and_keeps_the_good_ones),
        cmocka_unit_test(test_reconnect_reports_what_is_held),
        cmocka_unit_test(test_what_was_on_disk_is_reported),
        cmocka_unit_test(test_names_that_were_not_asked_for_are_left_out),
        cmocka_unit_test(test_a_name_twice_is_refused),
        cmocka_unit_test(test_broken_responses),
        cmocka_unit_test(test_a_server_that_never_waits_is_stopped),
        cmocka_unit_test(test_names_have_a_maximum),
        cmocka_unit_test(test_session_follows_versions_from_sent_to_held),
        cmocka_unit_test(test_nack_that_names_what_it_refuses),
        cmocka_unit_test(test_nack_of_one_that_names_nothing_refuses_it),
        cmocka_unit_test(test_nack_of_several_that_names_nothing_suspects_all),
        cmocka_unit_test(test_stale_nonces_answer_nothing),
        cmocka_unit_test(test_subscribing_again_wants_the_resource_again),
        cmocka_unit_test(test_reconnect_tells_what_the_client_holds),
        cmocka_unit_test(test_unknown_versions_are_held_but_never_the_same),
        cmocka_unit_test(test_a_pool_has_each_resource_once),
        cmocka_unit_test(test_wildcard_said_and_unsaid),
        cmocka_unit_test(test_response_is_what_the_schema_says),
        cmocka_unit_test(test_session_limits),
        cmocka_unit_test(test_many_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
