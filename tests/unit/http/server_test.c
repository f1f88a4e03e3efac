/*
 * tests/unit/http/server_test.c - the small server over real loopback sockets, with a clock that
 * the test moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/server.h"
#include "loop_env.h"

struct fixture {
    struct lt_loop *loop;
    struct lt_server *server;
    struct lt_addr addr;
    struct lt_exchange *parked; /* the one that /park left unanswered */
    int streams_done;
    size_t streamed;
};

struct numbers {
    struct lt_stream_source source;
    struct fixture *fixture;
    int at, count;
    size_t part;
    bool breaks;
};

static lt_rc produce(struct lt_stream_source *source, struct lt_buf *out)
{
    struct numbers *n = LT_CONTAINER_OF(source, struct numbers, source);
    char *at = NULL;
    if (n->at == n->count)
        return n->breaks ? LT_E_BAD : LT_EOF;
    LT_TRY(lt_buf_reserve(out, n->part, &at));
    memset(at, 'a' + n->at % 26, n->part);
    lt_buf_commit(out, n->part);
    n->fixture->streamed += n->part;
    n->at++;
    return LT_OK;
}

static void stream_done(struct lt_stream_source *source)
{
    struct numbers *n = LT_CONTAINER_OF(source, struct numbers, source);
    n->fixture->streams_done++;
    free(n);
}

static void stream(struct fixture *f, struct lt_exchange *exchange, int count, size_t part,
                   bool breaks)
{
    struct numbers *n = lt_new(struct numbers);
    *n = (struct numbers){{produce, stream_done}, f, 0, count, part, breaks};
    lt_exchange_reply_stream(exchange, 200, "text/plain", &n->source);
}

static void handle(struct lt_exchange *exchange, void *ctx)
{
    struct fixture *f = ctx;
    if (lt_str_eqz(exchange->path, "/park"))
        f->parked = exchange;
    else if (lt_str_eqz(exchange->path, "/stream"))
        stream(f, exchange, 2, 3, false);
    else if (lt_str_eqz(exchange->path, "/broken"))
        stream(f, exchange, 1, 3, true);
    else if (lt_str_eqz(exchange->path, "/huge"))
        stream(f, exchange, 400, 65536, false);
    else if (lt_str_eqz(exchange->path, "/free"))
        lt_server_free(&f->server), lt_exchange_reply(exchange, 200, NULL, LT_STR("too late"));
    else {
        lt_exchange_header(exchange, LT_STR("X-Path"), exchange->path);
        lt_exchange_replyf(exchange, 200, "%.*s %.*s [%.*s]", LT_STR_ARG(exchange->method),
                           LT_STR_ARG(exchange->query), LT_STR_ARG(exchange->body));
    }
}

static int setup_with(void **state, struct lt_server_opts opts)
{
    struct fixture *f = lt_new(struct fixture);
    struct lt_err err;
    f->loop = test_loop_new();
    f->server = lt_server_new(f->loop, &opts, handle, f);
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &f->addr), LT_OK);
    assert_int_equal(lt_server_listen(f->server, &f->addr, NULL, &f->addr, &err), LT_OK);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(
        state,
        (struct lt_server_opts){.server_name = "test", .body_bytes_max = 10, .connections_max = 4});
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    lt_server_free(&f->server);
    test_settle(f->loop);
    lt_loop_free(&f->loop);
    free(f);
    return 0;
}

#define OK_HEAD \
    "HTTP/1.1 200 OK\r\nx-path: /a\r\ncontent-type: text/plain; charset=UTF-8\r\n" \
    "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: test\r\n"

static const char *ask(struct fixture *f, const char *request)
{
    int fd = test_connect(&f->addr);
    test_send(fd, request);
    const char *answer = test_receive(f->loop, fd);
    close(fd);
    test_settle(f->loop);
    return answer;
}

static void assert_status(const char *answer, unsigned status)
{
    char want[32];
    snprintf(want, sizeof(want), "HTTP/1.1 %u ", status);
    if (strncmp(answer, want, strlen(want)) != 0)
        print_message("want %u, got %s\n", status, answer);
    assert_true(strncmp(answer, want, strlen(want)) == 0);
}

static void a_request_is_answered_and_the_connection_lives(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    for (int i = 0; i < 3; i++) {
        test_send(fd, "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_string_equal(test_receive(f->loop, fd),
                            OK_HEAD "content-length: 10\r\n\r\nGET b=c []");
    }
    assert_int_equal(lt_server_connections(f->server), 1);
    close(fd);
    test_settle(f->loop);
    assert_int_equal(lt_server_connections(f->server), 0);
}

static void methods_and_versions_vary(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(ask(f, "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"),
                        OK_HEAD "content-length: 8\r\n\r\n");
    assert_string_equal(ask(f, "POST /a HTTP/1.1\r\nHost: x\r\n\r\n"),
                        OK_HEAD "content-length: 8\r\n\r\nPOST  []");
    assert_string_equal(ask(f, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"),
                        OK_HEAD "content-length: 11\r\n\r\nPUT  [body]");
    assert_string_equal(
        ask(f,
            "PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"),
        OK_HEAD "content-length: 11\r\n\r\nPUT  [body]");
    assert_string_equal(ask(f, "GET /a HTTP/1.0\r\n\r\n"),
                        OK_HEAD "content-length: 7\r\nconnection: close\r\n\r\nGET  []\x04");
    assert_string_equal(ask(f, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                        OK_HEAD "content-length: 7\r\nconnection: keep-alive\r\n\r\nGET  []");
    assert_string_equal(ask(f, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
                        OK_HEAD "content-length: 7\r\nconnection: close\r\n\r\nGET  []\x04");
}

static void requests_in_one_packet_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    const char *answer = ask(
        f,
        "GET /a?1 HTTP/1.1\r\nHost: x\r\n\r\nGET /a?2 HTTP/1.1\r\nHost: x\r\n\r\nGET /a?3 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(answer, OK_HEAD "content-length: 8\r\n\r\nGET 1 []" OK_HEAD
                                        "content-length: 8\r\n\r\nGET 2 []" OK_HEAD
                                        "content-length: 8\r\n\r\nGET 3 []");
}

static void bad_requests_get_their_status(void **state)
{
    struct fixture *f = *state;
    static char big[60000];
    static const struct {
        const char *request;
        unsigned status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n", 413},
        {"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n", 413},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
         413},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
        {big, 431},
    };
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "GET /", 5);
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        const char *answer = ask(f, cases[i].request);
        assert_status(answer, cases[i].status);
        assert_non_null(strstr(answer, "connection: close\r\n"));
        assert_int_equal(answer[strlen(answer) - 1],
                         '\x04'); /* a clean end, no reset, though bytes were left unread */
    }
}

static void a_body_is_asked_for(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    test_send(fd,
              "PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(test_receive(f->loop, fd), "HTTP/1.1 100 Continue\r\n\r\n");
    test_send(fd, "ab");
    assert_string_equal(test_receive(f->loop, fd), OK_HEAD "content-length: 9\r\n\r\nPUT  [ab]");
    close(fd);
}

static void replies_may_come_later(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    test_send(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(test_receive(f->loop, fd), "");
    test_pass_ms(f->loop, 1000000);
    lt_exchange_reply(f->parked, 204, NULL, LT_STR(""));
    const char *answer = test_receive(f->loop, fd);
    assert_status(answer, 204);
    assert_non_null(strstr(answer, "GET  []"));
    close(fd);
}

static void a_client_that_left_gets_nothing(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    struct linger reset = {1, 0};
    test_send(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    assert_non_null(f->parked);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(fd);
    test_settle(f->loop);
    assert_int_equal(lt_server_connections(f->server), 0);
    assert_true(lt_str_eqz(f->parked->path, "/park")); /* lives until the reply */
    lt_exchange_reply(f->parked, 200, NULL, LT_STR("x"));
}

static void the_server_may_go_before_the_reply(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    test_send(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    lt_server_free(&f->server);
    assert_string_equal(test_receive(f->loop, fd), "\x04");
    lt_exchange_replyf(f->parked, 200, "x");
    close(fd);
}

static void the_handler_may_free_the_server(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    test_send(fd, "GET /free HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(test_receive(f->loop, fd), "\x04");
    assert_null(f->server);
    close(fd);
}

static void streams_are_chunked_or_end_the_connection(void **state)
{
    struct fixture *f = *state;
    assert_non_null(strstr(ask(f, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"),
                           "chunked\r\n\r\n3\r\naaa\r\n3\r\nbbb\r\n0\r\n\r\n"));
    assert_non_null(
        strstr(ask(f, "GET /stream HTTP/1.0\r\n\r\n"), "connection: close\r\n\r\naaabbb\x04"));
    const char *answer = ask(f, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_null(strstr(answer, "aaa"));
    answer = ask(f, "GET /broken HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_null(strstr(answer, "0\r\n\r\n"));
    assert_int_equal(answer[strlen(answer) - 1], '\x04');
    assert_int_equal(f->streams_done, 4);
}

static void a_stream_waits_for_its_reader(void **state)
{
    struct fixture *f = *state;
    int fd = test_connect(&f->addr);
    test_send(fd, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    size_t before = f->streamed;
    test_settle(f->loop);
    assert_int_equal(f->streamed, before); /* the sockets are full */
    assert_true(before < 400 * 65536);
    for (int i = 0; i < 100000 && f->streams_done == 0; i++) {
        static char text[1 << 20];
        lt_loop_turn(f->loop, 0);
        (void)!recv(fd, text, sizeof(text), MSG_DONTWAIT);
    }
    assert_int_equal(f->streamed, 400 * 65536);
    assert_int_equal(f->streams_done, 1);
    close(fd);

    fd = test_connect(&f->addr);
    test_send(fd, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    close(fd); /* leaves in the middle */
    test_settle(f->loop);
    assert_int_equal(f->streams_done, 2);
    assert_int_equal(lt_server_connections(f->server), 0);
}

static void slow_clients_are_shown_out(void **state)
{
    struct fixture *f = *state;
    int idle = test_connect(&f->addr), slow = test_connect(&f->addr),
        stuck = test_connect(&f->addr);
    test_settle(f->loop);
    test_send(slow, "GET /a HTTP/1.1\r\n");
    test_send(stuck, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    for (int i = 0; i < 14; i++) { /* a byte each second does not help */
        test_pass_ms(f->loop, 1000);
        test_send(slow, "x");
    }
    assert_int_equal(lt_server_connections(f->server), 3);
    test_pass_ms(f->loop, 1500);
    assert_status(test_receive(f->loop, slow), 408);
    test_pass_ms(f->loop, 16000);
    assert_int_equal(lt_server_connections(f->server), 1); /* no progress in writing for 30 s */
    assert_int_equal(f->streams_done, 1);
    assert_string_equal(test_receive(f->loop, idle), "");
    test_pass_ms(f->loop, 30000);
    assert_string_equal(test_receive(f->loop, idle), "\x04");
    close(idle);
    close(slow);
    close(stuck);
}

static void connections_have_a_maximum(void **state)
{
    struct fixture *f = *state;
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = test_connect(&f->addr);
        test_settle(f->loop);
    }
    assert_int_equal(lt_server_connections(f->server), 4);
    assert_string_equal(test_receive(f->loop, fds[4]), "\x04");
    for (int i = 0; i < 5; i++)
        close(fds[i]);
}

static void draining_ends_what_is_idle_and_lets_finish(void **state)
{
    struct fixture *f = *state;
    int idle = test_connect(&f->addr), busy = test_connect(&f->addr);
    test_send(busy, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(f->loop);
    lt_server_drain(f->server);
    assert_string_equal(test_receive(f->loop, idle), "\x04");
    assert_int_equal(lt_server_connections(f->server), 1);
    lt_exchange_reply(f->parked, 200, NULL, LT_STR("done"));
    const char *answer = test_receive(f->loop, busy);
    assert_non_null(strstr(answer, "connection: close\r\n\r\ndone\x04"));
    close(idle);
    close(busy);
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(a_request_is_answered_and_the_connection_lives),
        SERVER_TEST(methods_and_versions_vary),
        SERVER_TEST(requests_in_one_packet_are_answered_in_order),
        SERVER_TEST(bad_requests_get_their_status),
        SERVER_TEST(a_body_is_asked_for),
        SERVER_TEST(replies_may_come_later),
        SERVER_TEST(a_client_that_left_gets_nothing),
        SERVER_TEST(the_server_may_go_before_the_reply),
        SERVER_TEST(the_handler_may_free_the_server),
        SERVER_TEST(streams_are_chunked_or_end_the_connection),
        SERVER_TEST(a_stream_waits_for_its_reader),
        SERVER_TEST(slow_clients_are_shown_out),
        SERVER_TEST(connections_have_a_maximum),
        SERVER_TEST(draining_ends_what_is_idle_and_lets_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
