/*
 * tests/unit/http/client_test.c - calls to a peer that the test plays by hand, over loopback and
 * Unix sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/client.h"
#include "loop_env.h"

struct fixture {
    struct lt_loop *loop;
    struct lt_addr addr;
    int listener;
    /* the last result */
    int done;
    lt_rc rc;
    char error[256];
    unsigned status;
    char body[4096];
    char header[64]; /* X-Reply */
};

static void on_done(struct lt_call *call, const struct lt_call_result *result, void *ctx)
{
    struct fixture *f = ctx;
    (void)call;
    f->done++;
    f->rc = result->rc;
    f->status = result->status;
    snprintf(f->error, sizeof(f->error), "%s", result->error);
    snprintf(f->body, sizeof(f->body), "%.*s", LT_STR_ARG(result->body));
    lt_str header = lt_headers_value_of(result->headers, LT_STR("x-reply"));
    snprintf(f->header, sizeof(f->header), "%.*s", LT_STR_ARG(header));
}

static int setup(void **state)
{
    struct fixture *f = lt_new(struct fixture);
    struct lt_err err;
    f->loop = test_loop_new();
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &f->addr), LT_OK);
    assert_int_equal(lt_sock_listen(&f->addr, NULL, &f->listener, &err), LT_OK);
    assert_int_equal(lt_sock_local(f->listener, &f->addr), LT_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(f->listener);
    lt_loop_free(&f->loop);
    free(f);
    return 0;
}

static int take_connection(struct fixture *f)
{
    test_settle(f->loop);
    int fd = accept(f->listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

/* One call whose peer reads the request, says `answer` and closes. */
static void call_answered(struct fixture *f, const struct lt_call_opts *opts, const char *answer)
{
    f->done = 0;
    lt_call_start(f->loop, opts, on_done, f);
    int fd = take_connection(f);
    (void)test_receive(f->loop, fd);
    test_send(fd, answer);
    shutdown(fd, SHUT_WR);
    test_settle(f->loop);
    assert_int_equal(f->done, 1);
    close(fd);
}

static void the_request_is_written(void **state)
{
    struct fixture *f = *state;
    const struct lt_call_header headers[] = {{LT_STR("X-A"), LT_STR("1")},
                                             {LT_STR("Connection"), LT_STR("ignored")}};
    struct lt_call_opts opts = {.addr = f->addr,
                                .method = LT_STR("POST"),
                                .target = LT_STR("/x?y"),
                                .host = LT_STR("h:1"),
                                .headers = headers,
                                .header_count = 2,
                                .body = LT_STR("hello")};
    lt_call_start(f->loop, &opts, on_done, f);
    int fd = take_connection(f);
    assert_string_equal(
        test_receive(f->loop, fd),
        "POST /x?y HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
    test_send(fd, "HTTP/1.1 201 Created\r\nX-Reply: yes\r\nContent-Length: 3\r\n\r\nabcdef");
    test_settle(f->loop);
    assert_int_equal(f->done, 1);
    assert_int_equal(f->rc, LT_OK);
    assert_int_equal(f->status, 201);
    assert_string_equal(f->body, "abc");
    assert_string_equal(f->header, "yes");
    close(fd);
}

static void defaults_are_a_get_of_the_root(void **state)
{
    struct fixture *f = *state;
    struct lt_call_opts opts = {.addr = f->addr};
    char want[128], address[LT_ADDR_TEXT_MAX];
    lt_call_start(f->loop, &opts, on_done, f);
    int fd = take_connection(f);
    snprintf(want, sizeof(want), "GET / HTTP/1.1\r\nHost: %s\r\nconnection: close\r\n\r\n",
             lt_addr_format(&f->addr, address).ptr);
    assert_string_equal(test_receive(f->loop, fd), want);
    close(fd);
    test_settle(f->loop);
    assert_int_equal(f->rc, LT_E_CLOSED);
    assert_string_equal(f->error, "connection closed without an answer");
}

static void answers_of_all_kinds(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *answer;
        const char *method;
        lt_rc rc;
        const char *text; /* body, or the error */
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: 1\r\n\r\n",
         "GET", LT_OK, "abc"},
        {"HTTP/1.1 200 OK\r\n\r\nto the end", "GET", LT_OK, "to the end"},
        {"HTTP/1.0 500 Oops\r\n\r\n", "GET", LT_OK, ""},
        {"HTTP/1.1 204 No\r\n\r\n", "GET", LT_OK, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", LT_OK, ""},
        {"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
         "GET", LT_OK, "x"},
        {"HTTP/1.1 101 Sw\r\n\r\n", "GET", LT_E_BAD, "unexpected interim answer"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "GET", LT_E_CLOSED,
         "connection closed inside the answer"},
        {"", "GET", LT_E_CLOSED, "connection closed without an answer"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort", "GET", LT_E_CLOSED,
         "connection closed inside the answer"},
        {"HTTP/1.1 20", "GET", LT_E_CLOSED, "connection closed inside the answer"},
        {"SSH-2.0-x\r\n", "GET", LT_E_BAD, "malformed start line"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n012345678901234567890", "GET", LT_E_LIMIT,
         "answer too large"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct lt_call_opts opts = {
            .addr = f->addr, .method = lt_str_of(cases[i].method), .body_bytes_max = 20};
        call_answered(f, &opts, cases[i].answer);
        assert_int_equal(f->rc, cases[i].rc);
        assert_string_equal(f->rc == LT_OK ? f->body : f->error, cases[i].text);
    }
}

static void what_cannot_be_written_fails_later_and_once(void **state)
{
    struct fixture *f = *state;
    const struct lt_call_header bad[] = {{LT_STR("X"), LT_STR("a\r\nInjected: b")}};
    struct lt_call_opts cases[] = {
        {.addr = f->addr, .headers = bad, .header_count = 1},
        {.addr = f->addr, .target = LT_STR("/a b")},
        {.addr = f->addr, .method = LT_STR("G T")},
        {.addr = f->addr, .host = LT_STR("a/b")},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        f->done = 0;
        lt_call_start(f->loop, &cases[i], on_done, f);
        assert_int_equal(f->done, 0); /* never before start has returned */
        test_settle(f->loop);
        assert_int_equal(f->done, 1);
        assert_true(f->rc != LT_OK && strlen(f->error) > 0);
    }
}

static void a_closed_port_says_so(void **state)
{
    struct fixture *f = *state;
    struct lt_call_opts opts = {.addr = f->addr};
    close(f->listener);
    f->listener = -1;
    lt_call_start(f->loop, &opts, on_done, f);
    test_settle(f->loop);
    assert_int_equal(f->rc, LT_E_IO);
    assert_string_equal(f->error, "cannot connect: Connection refused");

    assert_int_equal(lt_addr_unix(LT_STR("/nonexistent/socket"), &opts.addr), LT_OK);
    lt_call_start(f->loop, &opts, on_done, f);
    assert_int_equal(f->done, 1);
    test_settle(f->loop);
    assert_int_equal(f->done, 2);
    assert_string_equal(f->error, "cannot connect: No such file or directory");
}

static void time_runs_out_in_every_state(void **state)
{
    struct fixture *f = *state;
    struct lt_call_opts opts = {.addr = f->addr, .timeout_ms = 1000};
    static const char *const said[] = {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\nsome"};
    static const char *const errors[] = {"timed out waiting for an answer",
                                         "timed out waiting for an answer",
                                         "timed out reading the answer"};
    for (size_t i = 0; i < LT_ARRAY_LEN(said); i++) {
        f->done = 0;
        lt_call_start(f->loop, &opts, on_done, f);
        int fd = take_connection(f);
        test_send(fd, said[i]);
        test_pass_ms(f->loop, 900);
        assert_int_equal(f->done, 0);
        test_pass_ms(f->loop, 101);
        assert_int_equal(f->done, 1);
        assert_int_equal(f->rc, LT_E_TIMEOUT);
        assert_string_equal(f->error, errors[i]);
        close(fd);
    }
}

static void a_cancelled_call_says_nothing(void **state)
{
    struct fixture *f = *state;
    struct lt_call_opts opts = {.addr = f->addr};
    struct lt_call *call = lt_call_start(f->loop, &opts, on_done, f);
    lt_call_cancel(&call);
    assert_null(call);
    lt_call_cancel(&call);
    call = lt_call_start(f->loop, &opts, on_done, f);
    test_settle(f->loop);
    lt_call_cancel(&call);
    opts.target = LT_STR("no good");
    call = lt_call_start(f->loop, &opts, on_done, f);
    lt_call_cancel(&call);
    test_settle(f->loop);
    assert_int_equal(f->done, 0);
}

static void unix_sockets_work(void **state)
{
    struct fixture *f = *state;
    char path[64];
    struct lt_err err;
    struct lt_call_opts opts = {0};
    snprintf(path, sizeof(path), "/tmp/lateen-client-test.%d", (int)getpid());
    close(f->listener);
    assert_int_equal(lt_addr_unix(lt_str_of(path), &opts.addr), LT_OK);
    assert_int_equal(lt_sock_listen(&opts.addr, NULL, &f->listener, &err), LT_OK);
    call_answered(f, &opts, "HTTP/1.1 200 OK\r\n\r\nunix");
    assert_string_equal(f->body, "unix");
    unlink(path);
}

#define CALL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CALL_TEST(the_request_is_written),
        CALL_TEST(defaults_are_a_get_of_the_root),
        CALL_TEST(answers_of_all_kinds),
        CALL_TEST(what_cannot_be_written_fails_later_and_once),
        CALL_TEST(a_closed_port_says_so),
        CALL_TEST(time_runs_out_in_every_state),
        CALL_TEST(a_cancelled_call_says_nothing),
        CALL_TEST(unix_sockets_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
