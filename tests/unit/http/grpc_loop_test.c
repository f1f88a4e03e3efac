/*
 * gRPC server and client on one loop with a clock of the test's, over real sockets.
 * The same against grpcio: grpc_interop_test.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/grpc_client.h"
#include "http/grpc_server.h"

enum { LOG_MAX = 1 << 16, TURNS_MAX = 2000 };

struct world {
    struct lt_env env;
    struct lt_env real;
    uint64_t now_ns;
    struct lt_loop *loop;
    struct lt_grpc_server *server;
    struct lt_grpc_channel *channel;
    struct lt_buf log;
    struct lt_addr addr;
    struct lt_grpc_stream *stream; /* the server's newest that is alive */
    size_t message_bytes;          /* that the client got */
    bool server_closed, channel_closed;
};

static uint64_t fake_mono_ns(void *ctx)
{
    return ((struct world *)ctx)->now_ns;
}

static int64_t fake_wall_ns(void *ctx)
{
    return (int64_t)((struct world *)ctx)->now_ns;
}

static void fake_random(void *ctx, void *out, size_t len)
{
    (void)ctx;
    memset(out, 7, len);
}

static void note(struct world *world, const char *fmt, ...) LT_PRINTF(2, 3);
static void note(struct world *world, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = lt_buf_vprintf(&world->log, fmt, args);
    va_end(args);
    assert_int_equal(rc, LT_OK);
}

static void turn(struct world *world, int count)
{
    for (int i = 0; i < count; i++)
        lt_loop_turn(world->loop, 0);
}

/* Loopback sockets need no time of the clock's, but a few turns. */
static void settle(struct world *world)
{
    for (int i = 0; i < 50; i++) {
        turn(world, 4);
        usleep(100);
    }
}

static void advance(struct world *world, uint64_t ns)
{
    world->now_ns += ns;
    settle(world);
}

static void expect_log(struct world *world, const char *text)
{
    assert_int_equal(lt_buf_append(&world->log, "", 1), LT_OK);
    assert_string_equal(lt_buf_str(&world->log).ptr, text);
    lt_buf_clear(&world->log, 0);
}

/* --- services --- */

static void on_open(struct lt_grpc_stream *stream, void *service)
{
    struct world *world = service;
    world->stream = stream;
    lt_grpc_stream_set_user(stream, world);
    note(world, "open %.*s %.*s\n",
         LT_STR_ARG(lt_grpc_stream_metadata(stream, LT_STR(":authority"))),
         LT_STR_ARG(lt_grpc_stream_metadata(stream, LT_STR("authorization"))));
}

static void on_message_echo(struct lt_grpc_stream *stream, lt_str message)
{
    assert_int_equal(lt_grpc_stream_send(stream, message), LT_OK);
}

static void on_message_note(struct lt_grpc_stream *stream, lt_str message)
{
    note(lt_grpc_stream_user(stream), "got %.*s\n", LT_STR_ARG(message));
}

static void on_half_close(struct lt_grpc_stream *stream)
{
    lt_grpc_stream_finish(stream, LT_GRPC_OK, LT_STR_NULL);
}

static void on_stream_closed(struct lt_grpc_stream *stream, lt_grpc_code code)
{
    struct world *world = lt_grpc_stream_user(stream);
    world->stream = NULL;
    note(world, "server %s\n", lt_grpc_code_name(code));
}

static void on_open_refuse(struct lt_grpc_stream *stream, void *service)
{
    lt_grpc_stream_set_user(stream, service);
    lt_grpc_stream_finish(stream, LT_GRPC_UNAUTHENTICATED, LT_STR("who are you? \xc3\xa4"));
}

static void on_message_never(struct lt_grpc_stream *stream, lt_str message)
{
    (void)stream;
    (void)message;
    fail_msg("a message after the end");
}

static const struct lt_grpc_handler ECHO = {.on_open = on_open,
                                            .on_message = on_message_echo,
                                            .on_half_close = on_half_close,
                                            .on_closed = on_stream_closed};
static const struct lt_grpc_handler SINK = {
    .on_open = on_open, .on_message = on_message_note, .on_closed = on_stream_closed};
static const struct lt_grpc_handler REFUSE = {
    .on_open = on_open_refuse, .on_message = on_message_never, .on_closed = on_stream_closed};

/* --- the client's side --- */

static void on_call_message(struct lt_grpc_call *call, lt_str message)
{
    struct world *world = lt_grpc_call_user(call);
    world->message_bytes += message.len;
    if (message.len < 100)
        note(world, "answer %.*s\n", LT_STR_ARG(message));
}

static void on_call_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                           bool is_unprocessed)
{
    note(lt_grpc_call_user(call), "call %s %.*s%s\n", lt_grpc_code_name(code), LT_STR_ARG(message),
         is_unprocessed ? " (unprocessed)" : "");
}

static const struct lt_grpc_call_handler CALLS = {.on_message = on_call_message,
                                                  .on_closed = on_call_closed};

static void on_state(void *ctx, lt_grpc_channel_state state, const char *reason)
{
    note(ctx, "channel %s%s%s\n", lt_grpc_channel_state_name(state), reason[0] != '\0' ? ": " : "",
         reason);
}

static struct lt_grpc_call *start(struct world *world, const char *path, uint64_t timeout_ns,
                                  bool wait)
{
    struct lt_grpc_metadata metadata[] = {{LT_STR("authorization"), LT_STR("Bearer t"), true}};
    struct lt_grpc_call_opts opts = {.path = path,
                                     .metadata = metadata,
                                     .metadata_count = 1,
                                     .timeout_ns = timeout_ns,
                                     .wait_for_ready = wait};
    return lt_grpc_call_start(world->channel, &opts, &CALLS, world);
}

/* --- set-up --- */

struct setup {
    struct lt_grpc_server_opts server;
    struct lt_grpc_channel_opts channel;
    bool is_unix;
    bool tells_state;
};

static struct setup plain_setup(void)
{
    struct setup setup = {.server = LT_GRPC_SERVER_OPTS_DEFAULT,
                          .channel = LT_GRPC_CHANNEL_OPTS_DEFAULT};
    setup.channel.authority = LT_STR("mesh.test");
    return setup;
}

static void world_listen(struct world *world, const struct setup *setup)
{
    static struct lt_grpc_method methods[3];
    methods[0] = (struct lt_grpc_method){"/t.S/Echo", &ECHO, world, 64 << 20};
    methods[1] = (struct lt_grpc_method){"/t.S/Sink", &SINK, world, 1000};
    methods[2] = (struct lt_grpc_method){"/t.S/Refuse", &REFUSE, world, 0};
    world->server = lt_grpc_server_new(world->loop, &setup->server, methods, LT_ARRAY_LEN(methods));
    struct lt_err err = {0};
    uint32_t listener = 9;
    lt_rc rc = lt_grpc_server_listen(world->server, &world->addr, NULL, NULL, &listener, &err);
    assert_int_equal(rc, LT_OK);
    assert_int_equal(listener, 0);
    lt_grpc_server_local(world->server, 0, &world->addr);
}

static void world_init(struct world *world, const struct setup *setup)
{
    *world = (struct world){.now_ns = 1000 * LT_NS_PER_S};
    lt_env_init(&world->real, "test");
    world->env = (struct lt_env){fake_mono_ns, fake_wall_ns, fake_random, world, world->real.log};
    world->loop = lt_loop_new(&world->env);
    lt_buf_init(&world->log, LOG_MAX);
    char path[64];
    snprintf(path, sizeof(path), "/tmp/lateen-grpc-test-%d", (int)getpid());
    lt_rc rc = setup->is_unix ? lt_addr_unix(lt_str_of(path), &world->addr)
                              : lt_addr_parse(LT_STR("127.0.0.1"), 0, &world->addr);
    assert_int_equal(rc, LT_OK);
    world_listen(world, setup);
    struct lt_grpc_channel_opts opts = setup->channel;
    opts.addr = world->addr;
    world->channel = lt_grpc_channel_new(world->loop, &opts, setup->tells_state ? on_state : NULL,
                                         world);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void world_fini(struct world *world)
{
    if (world->channel != NULL)
        lt_grpc_channel_close(&world->channel, set_true, &world->channel_closed);
    else
        world->channel_closed = true;
    if (world->server != NULL)
        lt_grpc_server_close(&world->server, set_true, &world->server_closed);
    else
        world->server_closed = true;
    settle(world);
    assert_true(world->server_closed);
    assert_true(world->channel_closed);
    lt_loop_free(&world->loop);
    lt_buf_fini(&world->log);
    if (world->addr.sa.sa_family == AF_UNIX)
        unlink(world->addr.un.sun_path);
}

/* --- calls --- */

static void unary(struct setup setup)
{
    struct world world;
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Echo", 0, false);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("hello")), LT_OK);
    lt_grpc_call_half_close(call);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\nserver OK\nanswer hello\ncall OK \n");
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 1);
    assert_int_equal(lt_grpc_server_stats(world.server)->streams, 0);
    world_fini(&world);
}

static void test_unary_over_tcp(void **state)
{
    (void)state;
    unary(plain_setup());
}

static void test_unary_over_unix(void **state)
{
    (void)state;
    struct setup setup = plain_setup();
    setup.is_unix = true;
    unary(setup);
}

static void test_bidi_stream_with_large_messages(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Echo", 0, false);
    size_t len = 9 << 20;
    char *large = calloc(1, len);
    assert_int_equal(lt_grpc_call_send(call, lt_str_make(large, len)), LT_OK);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("small")), LT_OK);
    free(large);
    for (int i = 0; i < TURNS_MAX && world.message_bytes < len + 5; i++)
        settle(&world);
    assert_int_equal(world.message_bytes, len + 5);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("more")), LT_OK);
    lt_grpc_call_half_close(call);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\nanswer small\nserver OK\nanswer more\ncall OK \n");
    world_fini(&world);
}

static void test_refusals(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    start(&world, "/t.S/Refuse", 0, false);
    settle(&world);
    expect_log(&world, "server OK\ncall UNAUTHENTICATED who are you? \xc3\xa4\n");
    start(&world, "/t.S/Nothing", 0, false);
    settle(&world);
    expect_log(&world, "call UNIMPLEMENTED no such method\n");
    struct lt_grpc_call *call = start(&world, "/t.S/Sink", 0, false);
    static char large[2000];
    assert_int_equal(lt_grpc_call_send(call, lt_str_make(large, sizeof(large))), LT_OK);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\nserver RESOURCE_EXHAUSTED\n"
                       "call RESOURCE_EXHAUSTED a message is larger than the limit\n");
    world_fini(&world);
}

static void test_cancel_and_deadline(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Sink", 0, false);
    settle(&world);
    lt_grpc_call_cancel(call);
    lt_grpc_call_cancel(call);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\ncall CANCELLED cancelled\nserver CANCELLED\n");
    start(&world, "/t.S/Sink", 2 * LT_NS_PER_S, false);
    settle(&world);
    advance(&world, 3 * LT_NS_PER_S);
    assert_int_equal(lt_buf_append(&world.log, "", 1), LT_OK);
    assert_non_null(
        strstr(lt_buf_str(&world.log).ptr, "call DEADLINE_EXCEEDED the deadline passed\n"));
    assert_null(world.stream);
    world_fini(&world);
}

static void test_pause_keeps_messages_and_resume_gives_them(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Echo", 0, false);
    lt_grpc_call_pause(call);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("one")), LT_OK);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("two")), LT_OK);
    lt_grpc_call_half_close(call);
    settle(&world);
    expect_log(&world,
               "open mesh.test Bearer t\nserver OK\n"); /* the stream has ended, the call has not */
    lt_grpc_call_resume(call);
    settle(&world);
    expect_log(&world, "answer one\nanswer two\ncall OK \n");

    call = start(&world, "/t.S/Sink", 0, false);
    settle(&world);
    lt_grpc_stream_pause(world.stream);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("three")), LT_OK);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\n");
    lt_grpc_stream_resume(world.stream);
    settle(&world);
    expect_log(&world, "got three\n");
    world_fini(&world);
}

/* --- connections --- */

static void test_backoff_and_return(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.tells_state = true;
    world_init(&world, &setup);
    lt_grpc_server_close(&world.server, set_true, &world.server_closed);
    settle(&world);
    struct lt_grpc_call *patient = start(&world, "/t.S/Echo", 0, true);
    assert_int_equal(lt_grpc_call_send(patient, LT_STR("at last")), LT_OK);
    lt_grpc_call_half_close(patient);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    expect_log(&world, "channel connecting\n"
                       "call UNAVAILABLE cannot connect: Connection refused (unprocessed)\n"
                       "channel backing off: cannot connect: Connection refused\n");
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    expect_log(&world, "call UNAVAILABLE cannot connect: Connection refused (unprocessed)\n");
    world_listen(&world, &setup);
    advance(&world, LT_NS_PER_S);
    expect_log(
        &world,
        "channel idle: cannot connect: Connection refused\nchannel connecting\nchannel ready\n"
        "open mesh.test Bearer t\nserver OK\nanswer at last\ncall OK \n");
    world_fini(&world);
}

static void test_server_drain_lets_calls_end(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.tells_state = true;
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    lt_grpc_server_drain(world.server, 5 * LT_NS_PER_S);
    settle(&world);
    advance(&world, LT_NS_PER_S);
    assert_int_equal(lt_grpc_call_send(call, LT_STR("still here")), LT_OK);
    lt_grpc_call_half_close(call);
    settle(&world);
    expect_log(&world, "channel connecting\nchannel ready\nopen mesh.test Bearer t\n"
                       "channel backing off: the server sent GOAWAY (NO_ERROR)\n"
                       "channel idle: the server sent GOAWAY (NO_ERROR)\n"
                       "server OK\nanswer still here\ncall OK \n");
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 0);
    world_fini(&world);
}

static void test_server_drain_cuts_after_grace(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    lt_grpc_server_drain(world.server, 5 * LT_NS_PER_S);
    advance(&world, LT_NS_PER_S);
    lt_buf_clear(&world.log, 0);
    advance(&world, 5 * LT_NS_PER_S);
    expect_log(&world, "server UNAVAILABLE\ncall UNAVAILABLE the peer closed the connection\n");
    world_fini(&world);
}

static void test_connection_age(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.server.age_max_ns = 60 * LT_NS_PER_S;
    setup.server.age_grace_ns = 10 * LT_NS_PER_S;
    setup.server.keepalive_interval_ns = setup.channel.keepalive_interval_ns = 0;
    setup.tells_state = true;
    world_init(&world, &setup);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    advance(&world, 50 * LT_NS_PER_S);
    lt_buf_clear(&world.log, 0);
    advance(&world, 20 * LT_NS_PER_S);
    expect_log(&world, "channel idle: the server sent GOAWAY (NO_ERROR)\n");
    advance(&world, LT_NS_PER_S);
    advance(&world, 10 * LT_NS_PER_S);
    expect_log(&world, "server UNAVAILABLE\ncall UNAVAILABLE the peer closed the connection\n");
    world_fini(&world);
}

static void test_keepalive_is_answered(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    lt_buf_clear(&world.log, 0);
    for (int i = 0; i < 20; i++)
        advance(&world, 10 * LT_NS_PER_S);
    expect_log(&world, "");
    world_fini(&world);
}

/* A peer that takes bytes and says nothing. */
static int silent_peer(struct lt_addr *ret_addr)
{
    struct lt_err err = {0};
    struct lt_addr any;
    int fd = -1;
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &any), LT_OK);
    assert_int_equal(lt_sock_listen(&any, NULL, &fd, &err), LT_OK);
    assert_int_equal(lt_sock_local(fd, ret_addr), LT_OK);
    return fd;
}

static void test_a_silent_server_is_given_up(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    struct lt_addr addr;
    int fd = silent_peer(&addr);
    lt_grpc_channel_set_addr(world.channel, &addr);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    advance(&world, 11 * LT_NS_PER_S);
    expect_log(&world, "call UNAVAILABLE the handshake timed out (unprocessed)\n");
    close(fd);
    world_fini(&world);
}

static int connect_raw(const struct world *world)
{
    int fd = -1;
    assert_int_equal(lt_sock_connect(&world->addr, NULL, &fd), LT_OK);
    usleep(10000);
    return fd;
}

static void test_a_silent_client_is_given_up(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    int fd = connect_raw(&world);
    settle(&world);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 1);
    advance(&world, 11 * LT_NS_PER_S);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 0);
    assert_int_equal(lt_grpc_server_stats(world.server)->handshake_failures, 1);
    close(fd);
    world_fini(&world);
}

static void test_a_client_that_stops_answering_is_given_up(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    int fd = connect_raw(&world);
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    assert_int_equal(write(fd, hello, sizeof(hello) - 1), sizeof(hello) - 1);
    settle(&world);
    advance(&world, 31 * LT_NS_PER_S);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 1);
    advance(&world, 11 * LT_NS_PER_S);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 0);
    assert_int_equal(lt_grpc_server_stats(world.server)->keepalive_timeouts, 1);
    close(fd);
    world_fini(&world);
}

static void test_http1_is_refused_in_its_own_words(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    int fd = connect_raw(&world);
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
    settle(&world);
    char answer[1000] = {0};
    ssize_t len = read(fd, answer, sizeof(answer) - 1);
    assert_true(len > 0);
    assert_true(lt_str_starts(lt_str_of(answer), LT_STR("HTTP/1.1 505 ")));
    assert_int_equal(read(fd, answer, sizeof(answer)), 0);
    assert_int_equal(lt_grpc_server_stats(world.server)->http1_refused, 1);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections, 0);
    close(fd);
    world_fini(&world);
}

static void test_connections_have_a_maximum(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.server.connections_max = 1;
    world_init(&world, &setup);
    int first = connect_raw(&world);
    settle(&world);
    int second = connect_raw(&world);
    settle(&world);
    char byte = 0;
    assert_int_equal(read(second, &byte, 1), 0);
    assert_int_equal(lt_grpc_server_stats(world.server)->connections_refused, 1);
    close(first);
    close(second);
    world_fini(&world);
}

static void test_streams_wait_for_room(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.server.streams_max = 1;
    world_init(&world, &setup);
    struct lt_grpc_call *first = start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    struct lt_grpc_call *second = start(&world, "/t.S/Echo", 0, false);
    assert_int_equal(lt_grpc_call_send(second, LT_STR("second")), LT_OK);
    lt_grpc_call_half_close(second);
    settle(&world);
    expect_log(&world, "open mesh.test Bearer t\n");
    lt_grpc_call_half_close(first);
    settle(&world);
    expect_log(
        &world,
        "server OK\ncall OK \nopen mesh.test Bearer t\nserver OK\nanswer second\ncall OK \n");
    world_fini(&world);
}

static void test_closing_both_in_the_middle(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    world_init(&world, &setup);
    start(&world, "/t.S/Echo", 0, false);
    settle(&world);
    start(&world, "/t.S/Echo", 0, true);
    lt_buf_clear(&world.log, 0);
    lt_grpc_channel_close(&world.channel, set_true, &world.channel_closed);
    lt_grpc_server_close(&world.server, set_true, &world.server_closed);
    settle(&world);
    assert_true(world.channel_closed && world.server_closed);
    expect_log(&world, "call CANCELLED the channel was closed (unprocessed)\n"
                       "call CANCELLED the channel was closed\n"
                       "server UNAVAILABLE\n");
    world_fini(&world);
}

static void test_backpressure_of_the_server(void **state)
{
    (void)state;
    struct world world;
    struct setup setup = plain_setup();
    setup.server.send_queue_bytes = 100000;
    setup.server.send_queue_bytes_max = 32 << 20;
    setup.channel.stream_window_bytes = 65535;
    world_init(&world, &setup);
    struct lt_grpc_call *call = start(&world, "/t.S/Sink", 0, false);
    settle(&world);
    lt_grpc_call_pause(call);
    char *large = calloc(1, 16 << 20);
    assert_int_equal(lt_grpc_stream_send(world.stream, lt_str_make(large, 16 << 20)), LT_OK);
    assert_false(lt_grpc_stream_is_writable(world.stream));
    assert_int_equal(lt_grpc_stream_send(world.stream, lt_str_make(large, 16 << 20)), LT_E_LIMIT);
    settle(&world);
    assert_false(lt_grpc_stream_is_writable(world.stream));
    lt_grpc_call_resume(call);
    for (int i = 0; i < TURNS_MAX && world.message_bytes == 0; i++)
        settle(&world);
    assert_int_equal(world.message_bytes, 16 << 20);
    assert_true(lt_grpc_stream_is_writable(world.stream));
    free(large);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary_over_tcp),
        cmocka_unit_test(test_unary_over_unix),
        cmocka_unit_test(test_bidi_stream_with_large_messages),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cancel_and_deadline),
        cmocka_unit_test(test_pause_keeps_messages_and_resume_gives_them),
        cmocka_unit_test(test_backoff_and_return),
        cmocka_unit_test(test_server_drain_lets_calls_end),
        cmocka_unit_test(test_server_drain_cuts_after_grace),
        cmocka_unit_test(test_connection_age),
        cmocka_unit_test(test_keepalive_is_answered),
        cmocka_unit_test(test_a_silent_server_is_given_up),
        cmocka_unit_test(test_a_silent_client_is_given_up),
        cmocka_unit_test(test_a_client_that_stops_answering_is_given_up),
        cmocka_unit_test(test_http1_is_refused_in_its_own_words),
        cmocka_unit_test(test_connections_have_a_maximum),
        cmocka_unit_test(test_streams_wait_for_room),
        cmocka_unit_test(test_closing_both_in_the_middle),
        cmocka_unit_test(test_backpressure_of_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
