/*
 * handover_test.c - listening sockets over a channel: what is sent arrives, what is not a message is
 * refused and leaks no descriptor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/fd_pass.h"
#include "net/handover.h"

static int ends[2];

static int set_up(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends);
}

static int tear_down(void **state)
{
    (void)state;
    close(ends[0]);
    return ends[1] >= 0 ? close(ends[1]) : 0;
}

/* The lowest descriptor that is free: it does not grow when nothing is leaked. */
static int next_fd(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void a_socket_comes_and_is_asked_back(void **state)
{
    (void)state;
    const struct lt_handover sent = {.id = 30080, .port = 65535, .ip = 0x0af4a10b};
    struct lt_handover got = {0};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1, is_listener = 0;
    socklen_t len = sizeof(is_listener);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(lt_handover_receive(ends[1], &got, &fd), LT_AGAIN);
    assert_int_equal(lt_handover_send(ends[0], &sent, listener), LT_OK);
    assert_int_equal(lt_handover_receive(ends[1], &got, &fd), LT_OK);
    assert_memory_equal(&got, &sent, sizeof(sent));
    assert_true(fd >= 0 && fd != listener && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, &len), 0);
    assert_true(is_listener);
    close(fd);
    close(listener);
    assert_int_equal(lt_handover_send(ends[0], &sent, -1), LT_OK);
    assert_int_equal(lt_handover_receive(ends[1], &got, &fd), LT_OK);
    assert_int_equal(fd, -1);
    assert_int_equal(got.id, 30080);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    struct lt_handover got;
    int fd = -1, before = next_fd();
    assert_int_equal(lt_fd_send(ends[0], LT_STR("seven.."), 0), LT_OK);
    assert_int_equal(lt_handover_receive(ends[1], &got, &fd), LT_E_BAD);
    assert_int_equal(lt_fd_send(ends[0], LT_STR("H"), 0), LT_OK);
    assert_int_equal(lt_handover_receive_hello(ends[1]), LT_OK);
    assert_int_equal(lt_fd_send(ends[0], LT_STR("h"), 0), LT_OK);
    assert_int_equal(lt_handover_receive_hello(ends[1]), LT_E_BAD);
    assert_int_equal(next_fd(), before);
}

static void the_end_is_told(void **state)
{
    (void)state;
    struct lt_handover got = {0};
    int fd = -1;
    assert_int_equal(lt_handover_send_hello(ends[1]), LT_OK);
    close(ends[1]);
    ends[1] = -1;
    assert_int_equal(lt_handover_receive_hello(ends[0]), LT_OK);
    assert_int_equal(lt_handover_receive_hello(ends[0]), LT_EOF);
    assert_int_equal(lt_handover_receive(ends[0], &got, &fd), LT_EOF);
    assert_int_equal(lt_handover_send(ends[0], &got, -1), LT_E_IO);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_socket_comes_and_is_asked_back),
        CASE(what_is_no_message_is_refused),
        CASE(the_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
