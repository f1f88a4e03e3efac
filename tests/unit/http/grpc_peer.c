/*
 * One end of the gRPC interoperability test; the other is Python's grpcio (grpc_interop_test.py).
 *   grpc_peer server [CERT KEY CA]     prints its port; ends at the end of its standard input
 *   grpc_peer client ADDR PATH COUNT BYTES [CERT KEY CA]
 *     sends COUNT messages of BYTES each on one stream, waits for each answer
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/grpc_client.h"
#include "http/grpc_server.h"

enum { FILE_MAX = 1 << 16 };

static void die(const char *what)
{
    fprintf(stderr, "grpc_peer: %s\n", what);
    exit(1);
}

static lt_str read_file(struct lt_arena *arena, const char *path)
{
    char *bytes = lt_arena_bytes(arena, FILE_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, bytes, FILE_MAX);
    if (len < 0)
        die(path);
    close(fd);
    return lt_str_make(bytes, (size_t)len);
}

static struct lt_tls_ctx *make_tls(char **files, bool is_server)
{
    static const lt_str alpn[] = {{"h2", 2}};
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_tls_opts opts = {
        .is_server = is_server,
        .cert_chain_pem = read_file(arena, files[0]),
        .key_pem = read_file(arena, files[1]),
        .ca_pem = read_file(arena, files[2]),
        .verify_peer = true,
        .require_peer_cert = is_server,
        .alpn = alpn,
        .alpn_count = LT_ARRAY_LEN(alpn),
    };
    struct lt_tls_ctx *tls = NULL;
    struct lt_err err = {0};
    if (lt_tls_ctx_new(&opts, &tls, &err) != LT_OK)
        die(err.text);
    lt_arena_free(&arena);
    return tls;
}

/* --- server --- */

static void echo_message(struct lt_grpc_stream *stream, lt_str message)
{
    if (lt_grpc_stream_send(stream, message) != LT_OK)
        lt_grpc_stream_finish(stream, LT_GRPC_RESOURCE_EXHAUSTED, LT_STR("queue full"));
}

static void finish_ok(struct lt_grpc_stream *stream)
{
    lt_grpc_stream_finish(stream, LT_GRPC_OK, LT_STR_NULL);
}

static void drop_message(struct lt_grpc_stream *stream, lt_str message)
{
    (void)stream;
    (void)message;
}

static void refuse(struct lt_grpc_stream *stream, void *service)
{
    (void)service;
    lt_grpc_stream_finish(stream, LT_GRPC_PERMISSION_DENIED, LT_STR("not you: \xc3\xa4 100%\n"));
}

/* Answers with what it knows of the caller. */
static void tell_peer(struct lt_grpc_stream *stream)
{
    const struct lt_grpc_peer *peer = lt_grpc_stream_peer(stream);
    char ip[LT_ADDR_TEXT_MAX], text[1024];
    lt_str token = lt_grpc_stream_metadata(stream, LT_STR("authorization"));
    int len = snprintf(text, sizeof(text), "%.*s|%d|%.*s|%.*s",
                       LT_STR_ARG(lt_addr_format_ip(&peer->addr, ip)), peer->is_verified,
                       LT_STR_ARG(peer->uri), LT_STR_ARG(token));
    lt_rc rc = lt_grpc_stream_send(stream, lt_str_make(text, (size_t)len));
    if (rc == LT_OK)
        finish_ok(stream);
}

static const struct lt_grpc_handler ECHO = {.on_message = echo_message, .on_half_close = finish_ok};
static const struct lt_grpc_handler PEER = {.on_message = drop_message, .on_half_close = tell_peer};
static const struct lt_grpc_handler REFUSE = {.on_open = refuse, .on_message = drop_message};
static const struct lt_grpc_handler HANG = {.on_message = drop_message};

static const struct lt_grpc_method METHODS[] = {
    {"/t.S/Echo", &ECHO, NULL, 64 << 20},
    {"/t.S/Peer", &PEER, NULL, 0},
    {"/t.S/Refuse", &REFUSE, NULL, 0},
    {"/t.S/Hang", &HANG, NULL, 0},
};

struct quit {
    struct lt_io io;
    struct lt_loop *loop;
    struct lt_grpc_server *server;
};

static void on_all_closed(void *ctx)
{
    lt_loop_stop(ctx);
}

/* The first line drains, the end of input closes. */
static void on_stdin(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct quit *quit = LT_CONTAINER_OF(io, struct quit, io);
    char line[16];
    if (read(io->fd, line, sizeof(line)) > 0) {
        lt_grpc_server_drain(quit->server, 5 * LT_NS_PER_S);
        return;
    }
    lt_loop_io_del(quit->loop, io);
    lt_grpc_server_close(&quit->server, on_all_closed, quit->loop);
}

static void run_server(struct lt_loop *loop, int argc, char **argv)
{
    struct lt_tls_ctx *tls = argc >= 3 ? make_tls(argv, true) : NULL;
    struct quit quit = {.loop = loop};
    struct lt_addr addr;
    struct lt_err err = {0};
    quit.server = lt_grpc_server_new(loop, NULL, METHODS, LT_ARRAY_LEN(METHODS));
    if (lt_addr_parse(LT_STR("127.0.0.1"), 0, &addr) != LT_OK ||
        lt_grpc_server_listen(quit.server, &addr, NULL, tls, NULL, &err) != LT_OK)
        die(err.text);
    lt_grpc_server_local(quit.server, 0, &addr);
    printf("%u\n", lt_addr_port(&addr));
    fflush(stdout);
    lt_io_init(&quit.io, on_stdin);
    quit.io.fd = STDIN_FILENO;
    lt_loop_io_set(loop, &quit.io, EPOLLIN);
    lt_loop_run(loop);
    lt_tls_ctx_unref(&tls);
}

/* --- client --- */

struct run {
    struct lt_loop *loop;
    struct lt_grpc_channel *channel;
    size_t count, bytes; /* to send */
    size_t sent, answered, answered_bytes;
};

static void send_next(struct run *run, struct lt_grpc_call *call)
{
    if (run->sent == run->count) {
        lt_grpc_call_half_close(call);
        return;
    }
    char *message = lt_calloc(1, run->bytes);
    lt_rc rc = lt_grpc_call_send(call, lt_str_make(message, run->bytes));
    free(message);
    if (rc != LT_OK)
        die("cannot send");
    run->sent++;
}

static void on_answer(struct lt_grpc_call *call, lt_str message)
{
    struct run *run = lt_grpc_call_user(call);
    run->answered++;
    run->answered_bytes += message.len;
    send_next(run, call);
}

static void on_call_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                           bool is_unprocessed LT_UNUSED)
{
    struct run *run = lt_grpc_call_user(call);
    printf("%s|%.*s|%zu|%zu\n", lt_grpc_code_name(code), LT_STR_ARG(message), run->answered,
           run->answered_bytes);
    lt_grpc_channel_close(&run->channel, on_all_closed, run->loop);
}

static const struct lt_grpc_call_handler CALLS = {.on_message = on_answer,
                                                  .on_closed = on_call_closed};

static void run_client(struct lt_loop *loop, int argc, char **argv)
{
    struct run run = {.loop = loop};
    struct lt_grpc_channel_opts opts = LT_GRPC_CHANNEL_OPTS_DEFAULT;
    uint64_t count = 0, bytes = 0;
    if (lt_addr_parse_hostport(lt_str_of(argv[0]), &opts.addr) != LT_OK ||
        lt_str_to_u64(lt_str_of(argv[2]), &count) != LT_OK ||
        lt_str_to_u64(lt_str_of(argv[3]), &bytes) != LT_OK)
        die("bad arguments");
    run.count = count;
    run.bytes = bytes;
    opts.tls = argc >= 7 ? make_tls(argv + 4, false) : NULL;
    run.channel = lt_grpc_channel_new(loop, &opts, NULL, NULL);
    struct lt_grpc_metadata token = {LT_STR("authorization"), LT_STR("Bearer abc"), true};
    struct lt_grpc_call_opts call_opts = {.path = argv[1],
                                          .metadata = &token,
                                          .metadata_count = 1,
                                          .timeout_ns = 20 * LT_NS_PER_S,
                                          .wait_for_ready = true};
    send_next(&run, lt_grpc_call_start(run.channel, &call_opts, &CALLS, &run));
    lt_loop_run(loop);
    lt_tls_ctx_unref(&opts.tls);
}

int main(int argc, char **argv)
{
    struct lt_env env;
    lt_env_init(&env, "grpc_peer");
    struct lt_loop *loop = lt_loop_new(&env);
    if (argc >= 2 && lt_str_eqz(LT_STR("server"), argv[1]))
        run_server(loop, argc - 2, argv + 2);
    else if (argc >= 6 && lt_str_eqz(LT_STR("client"), argv[1]))
        run_client(loop, argc - 2, argv + 2);
    else
        die("usage: server [CERT KEY CA] | client ADDR PATH COUNT BYTES [CERT KEY CA]");
    lt_loop_free(&loop);
    return 0;
}
