/*
 * tests/unit/http/mux_test.c - one socket, two protocols: each connection comes to its server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/mux.h"
#include "loop_env.h"

struct fixture {
    struct lt_loop *loop;
    struct lt_server *http;
    struct lt_grpc_server *grpc;
    struct lt_mux *mux;
    struct lt_addr addr;
    bool is_closed;
};

static void handle(struct lt_exchange *exchange, void *ctx)
{
    (void)ctx;
    lt_exchange_replyf(exchange, 200, "it is %.*s", LT_STR_ARG(exchange->path));
}

static void drop_message(struct lt_grpc_stream *stream, lt_str message)
{
    (void)stream;
    (void)message;
}

static const struct lt_grpc_handler handler = {.on_message = drop_message};
static const struct lt_grpc_method methods[] = {{"/t.S/M", &handler, NULL, 0}};

static int set_up(void **state)
{
    struct fixture *f = lt_new(struct fixture);
    struct lt_err err = {0};
    f->loop = test_loop_new();
    f->http = lt_server_new(f->loop, NULL, handle, NULL);
    f->grpc = lt_grpc_server_new(f->loop, NULL, methods, LT_ARRAY_LEN(methods));
    f->mux = lt_mux_new(f->loop, f->http, f->grpc);
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &f->addr), LT_OK);
    assert_int_equal(lt_mux_listen(f->mux, &f->addr, &f->addr, &err), LT_OK);
    *state = f;
    return 0;
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->is_closed = true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    lt_mux_free(&f->mux);
    lt_server_free(&f->http);
    lt_grpc_server_close(&f->grpc, on_closed, f);
    while (!f->is_closed)
        lt_loop_turn(f->loop, 1);
    test_settle(f->loop);
    lt_loop_free(&f->loop);
    free(f);
    return 0;
}

/* The client's preface: magic, and an empty SETTINGS frame. */
static void send_preface(int fd, size_t from)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    size_t len = sizeof(preface) - 1 - from;
    assert_int_equal(send(fd, preface + from, len, MSG_NOSIGNAL), len);
}

/* Its first frame is SETTINGS. */
static bool is_http2(const char *reply)
{
    return reply[0] == '\0' && reply[1] == '\0' && reply[3] == '\x04';
}

static void each_comes_to_its_server(void **state)
{
    struct fixture *f = *state;
    int web = test_connect(&f->addr), rpc = test_connect(&f->addr);
    test_send(web, "GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
    const char *reply = test_receive(f->loop, web);
    assert_non_null(strstr(reply, "200 OK"));
    assert_non_null(strstr(reply, "it is /one"));
    send_preface(rpc, 0);
    assert_true(is_http2(test_receive(f->loop, rpc)));
    test_send(web, "GET /two HTTP/1.1\r\nHost: x\r\n\r\n"); /* it stays there */
    assert_non_null(strstr(test_receive(f->loop, web), "it is /two"));
    assert_int_equal(lt_grpc_server_stats(f->grpc)->connections, 1);
    close(web);
    close(rpc);
}

static void the_first_bytes_may_come_one_by_one(void **state)
{
    struct fixture *f = *state;
    int rpc = test_connect(&f->addr), web = test_connect(&f->addr);
    test_send(rpc, "P");
    test_send(web, "P");
    test_settle(f->loop);
    test_send(rpc, "R");
    test_send(web, "UT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_non_null(strstr(test_receive(f->loop, web), "it is /x"));
    send_preface(rpc, 2);
    assert_true(is_http2(test_receive(f->loop, rpc)));
    close(web);
    close(rpc);
}

static void who_says_nothing_is_let_go(void **state)
{
    struct fixture *f = *state;
    int silent = test_connect(&f->addr), gone = test_connect(&f->addr);
    close(gone);
    test_settle(f->loop);
    test_pass_ms(f->loop, 14000);
    assert_string_equal(test_receive(f->loop, silent), "");
    test_pass_ms(f->loop, 2000);
    assert_string_equal(test_receive(f->loop, silent), "\x04");
    close(silent);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_comes_to_its_server),
        CASE(the_first_bytes_may_come_one_by_one),
        CASE(who_says_nothing_is_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
