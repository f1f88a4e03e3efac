/*
 * tests/unit/proxy/agent_xds_test.c - the relay of ADS streams between a client on its socket and a
 * control plane that is not there yet, comes, and goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/agent/xds.h"
#include "wire/ads.h"

enum { TURN_MS = 10, TURNS_MAX = 500 };

struct world {
    struct lt_env env;
    struct lt_loop *loop;
    char dir[32];
    char socket[64];
    struct px_xds_relay *relay;
    struct lt_grpc_server *server; /* the control plane */
    struct lt_addr server_addr;
    struct lt_grpc_channel *up, *down;
    struct lt_grpc_call *call;
    char heard[256]; /* by the client */
    char token[64];  /* seen by the control plane */
    int closed_with; /* -1: open */
    bool is_gone;
};

/* --- the control plane: says every message back --- */

static void on_open(struct lt_grpc_stream *stream, void *service)
{
    struct world *w = service;
    lt_str token = lt_grpc_stream_metadata(stream, LT_STR("authorization"));
    (void)snprintf(w->token, sizeof(w->token), "%.*s", LT_STR_ARG(token));
}

static void on_message(struct lt_grpc_stream *stream, lt_str message)
{
    assert_int_equal(lt_grpc_stream_send(stream, message), LT_OK);
}

static void on_half_close(struct lt_grpc_stream *stream)
{
    lt_grpc_stream_finish(stream, LT_GRPC_OK, LT_STR_NULL);
}

static void on_closed(struct lt_grpc_stream *stream, lt_grpc_code code)
{
    (void)stream;
    (void)code;
}

static const struct lt_grpc_handler echo = {.on_open = on_open,
                                            .on_message = on_message,
                                            .on_half_close = on_half_close,
                                            .on_closed = on_closed};
static struct lt_grpc_method methods[1];

static void start_server(struct world *w)
{
    struct lt_err err = {0};
    uint32_t listener = 0;
    methods[0] = (struct lt_grpc_method){
        .path = LT_ADS_DELTA_METHOD, .handler = &echo, .service = w};
    w->server = lt_grpc_server_new(w->loop, NULL, methods, 1);
    assert_int_equal(lt_grpc_server_listen(w->server, &w->server_addr, NULL, NULL, &listener, &err),
                     LT_OK);
    lt_grpc_server_local(w->server, listener, &w->server_addr);
}

static void on_gone(void *ctx)
{
    ((struct world *)ctx)->is_gone = true;
}

static void turn_until(struct world *w, const bool *condition)
{
    for (int i = 0; i < TURNS_MAX && !*condition; i++)
        lt_loop_turn(w->loop, TURN_MS);
    assert_true(*condition);
}

static void stop_server(struct world *w)
{
    w->is_gone = false;
    lt_grpc_server_close(&w->server, on_gone, w);
    turn_until(w, &w->is_gone);
}

/* --- the client --- */

static void on_answer(struct lt_grpc_call *call, lt_str message)
{
    struct world *w = lt_grpc_call_user(call);
    size_t len = strlen(w->heard);
    (void)snprintf(w->heard + len, sizeof(w->heard) - len, "%.*s;", LT_STR_ARG(message));
}

static void on_call_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                           bool is_unprocessed)
{
    struct world *w = lt_grpc_call_user(call);
    (void)message;
    (void)is_unprocessed;
    w->call = NULL;
    w->closed_with = (int)code;
}

static void say(struct world *w, const char *text)
{
    static const struct lt_grpc_call_handler handler = {.on_message = on_answer,
                                                        .on_closed = on_call_closed};
    struct lt_grpc_call_opts opts = {.path = LT_ADS_DELTA_METHOD};
    if (w->call == NULL) {
        w->closed_with = -1;
        w->call = lt_grpc_call_start(w->down, &opts, &handler, w);
    }
    assert_int_equal(lt_grpc_call_send(w->call, lt_str_of(text)), LT_OK);
}

static void turn(struct world *w, int count)
{
    for (int i = 0; i < count; i++)
        lt_loop_turn(w->loop, TURN_MS);
}

static void hear(struct world *w, const char *expected)
{
    for (int i = 0; i < TURNS_MAX && strcmp(w->heard, expected) != 0; i++)
        lt_loop_turn(w->loop, TURN_MS);
    assert_string_equal(w->heard, expected);
}

/* --- set-up --- */

static size_t make_metadata(void *ctx, struct lt_arena *arena,
                            struct lt_grpc_metadata out[PX_XDS_METADATA_MAX])
{
    (void)ctx;
    (void)arena;
    out[0] = (struct lt_grpc_metadata){LT_STR("authorization"), LT_STR("Bearer token"), true};
    return 1;
}

static struct lt_grpc_channel *channel_to(struct world *w, const struct lt_addr *addr)
{
    struct lt_grpc_channel_opts opts = LT_GRPC_CHANNEL_OPTS_DEFAULT;
    opts.addr = *addr;
    opts.backoff_base_ns = opts.backoff_max_ns = 20 * LT_NS_PER_MS;
    return lt_grpc_channel_new(w->loop, &opts, NULL, NULL);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    struct lt_addr addr;
    struct lt_err err = {0};
    lt_env_init(&w->env, "agent_xds_test");
    w->env.log.level = LT_LOG_OFF;
    w->loop = lt_loop_new(&w->env);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/lateen-xds-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->socket, sizeof(w->socket), "%s/XDS", w->dir);
    struct px_xds_relay_opts opts = {
        .loop = w->loop, .socket_path = lt_str_of(w->socket), .metadata = make_metadata};
    assert_int_equal(px_xds_relay_new(&opts, &w->relay, &err), LT_OK);
    assert_int_equal(lt_addr_unix(lt_str_of(w->socket), &addr), LT_OK);
    w->down = channel_to(w, &addr);
    /* a port that is known, and closed again */
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &w->server_addr), LT_OK);
    start_server(w);
    stop_server(w);
    w->up = channel_to(w, &w->server_addr);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    px_xds_relay_free(&w->relay);
    if (w->server != NULL)
        stop_server(w);
    struct lt_grpc_channel **channels[] = {&w->down, &w->up};
    for (size_t i = 0; i < LT_ARRAY_LEN(channels); i++) {
        w->is_gone = false;
        lt_grpc_channel_close(channels[i], on_gone, w);
        turn_until(w, &w->is_gone);
    }
    turn(w, 2);
    lt_loop_free(&w->loop);
    rmdir(w->dir);
    free(w);
    return 0;
}

/* --- what is promised --- */

static void a_stream_waits_until_somebody_is_there(void **state)
{
    struct world *w = *state;
    say(w, "one");
    turn(w, 5);
    assert_int_equal(w->closed_with, -1); /* the address is not known */
    px_xds_relay_set_upstream(w->relay, w->up);
    say(w, "two");
    turn(w, 10);
    assert_int_equal(w->closed_with, -1); /* nobody listens there */
    assert_string_equal(w->heard, "");
    start_server(w);
    hear(w, "one;two;");
    assert_string_equal(w->token, "Bearer token");
}

static void a_stream_ends_with_the_control_plane_and_the_next_one_waits(void **state)
{
    struct world *w = *state;
    px_xds_relay_set_upstream(w->relay, w->up);
    start_server(w);
    say(w, "one");
    hear(w, "one;");
    stop_server(w);
    for (int i = 0; i < TURNS_MAX && w->closed_with < 0; i++)
        lt_loop_turn(w->loop, TURN_MS);
    assert_int_equal(w->closed_with, LT_GRPC_UNAVAILABLE);
    say(w, "two");
    turn(w, 10);
    assert_int_equal(w->closed_with, -1);
    start_server(w);
    hear(w, "one;two;");
}

static void a_client_that_leaves_while_it_waits_is_forgotten(void **state)
{
    struct world *w = *state;
    say(w, "one");
    turn(w, 5);
    lt_grpc_call_cancel(w->call);
    turn(w, 5);
    assert_int_equal(w->closed_with, LT_GRPC_CANCELLED);
    px_xds_relay_set_upstream(w->relay, w->up);
    start_server(w);
    turn(w, 10);
    assert_string_equal(w->token, "");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_stream_waits_until_somebody_is_there),
        CASE(a_stream_ends_with_the_control_plane_and_the_next_one_waits),
        CASE(a_client_that_leaves_while_it_waits_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
