/*
 * tests/unit/ctl/relay_test.c - connections passed on: bytes, ends, and clients that do not wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "ctl/relay.h"
#include "net/sock.h"

static struct lt_env env;
static struct lt_loop *loop;
static struct lt_addr front, back;

static bool pick(void *ctx, struct lt_addr *ret_addr)
{
    (void)ctx;
    *ret_addr = back;
    return true;
}

static int listen_on(struct lt_addr *ret_addr, int backlog)
{
    struct lt_addr any;
    struct lt_err err;
    int fd = -1;
    const struct lt_listen_opts opts = {.backlog = backlog};
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &any), LT_OK);
    assert_int_equal(lt_sock_listen(&any, &opts, &fd, &err), LT_OK);
    assert_int_equal(lt_sock_local(fd, ret_addr), LT_OK);
    return fd;
}

static int connect_to(const struct lt_addr *addr)
{
    int fd = -1;
    assert_int_equal(lt_sock_connect(addr, NULL, &fd), LT_OK);
    return fd;
}

static bool is_ready(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, 0) == 1;
}

static void turn_until(int fd, short events)
{
    for (int i = 0; i < 1000 && !is_ready(fd, events); i++)
        lt_loop_turn(loop, 10);
    assert_true(is_ready(fd, events));
}

static void bytes_and_ends_are_passed_on(void **state)
{
    (void)state;
    int listener = listen_on(&back, 8), entry = listen_on(&front, 8), server = -1;
    struct ctl_relay *relay = ctl_relay_new(loop, pick, NULL);
    char got[16];
    ctl_relay_listen(relay, entry);
    int client = connect_to(&front);
    turn_until(listener, POLLIN);
    assert_int_equal(lt_sock_accept(listener, &server, NULL), LT_OK);
    turn_until(client, POLLOUT);
    assert_int_equal(send(client, "ask", 3, 0), 3);
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    turn_until(server, POLLIN);
    assert_int_equal(recv(server, got, sizeof(got), 0), 3);
    turn_until(server, POLLIN);
    assert_int_equal(recv(server, got, sizeof(got), 0), 0);
    assert_int_equal(send(server, "answer", 6, 0), 6);
    turn_until(client, POLLIN);
    assert_int_equal(recv(client, got, sizeof(got), 0), 6);
    close(server);
    turn_until(client, POLLIN);
    assert_int_equal(recv(client, got, sizeof(got), 0), 0);
    close(client);
    ctl_relay_free(&relay);
    close(listener);
    close(entry);
}

/* The server takes no connection, and the client leaves meanwhile: nothing happens, so none is told. */
static void a_client_that_has_left_is_waited_for_in_peace(void **state)
{
    (void)state;
    enum { FILLERS = 8 };
    int listener = listen_on(&back, 1), entry = listen_on(&front, 8), fillers[FILLERS];
    for (int i = 0; i < FILLERS; i++)
        fillers[i] = connect_to(&back);
    struct ctl_relay *relay = ctl_relay_new(loop, pick, NULL);
    ctl_relay_listen(relay, entry);
    int client = connect_to(&front);
    turn_until(client, POLLOUT);
    for (int i = 0; i < 5; i++)
        lt_loop_turn(loop, 10); /* it is taken, and its way goes on */
    lt_sock_set_linger_reset(client);
    close(client);
    lt_loop_turn(loop, 10);
    uint64_t before_ns = lt_env_mono_ns(&env);
    for (int i = 0; i < 10; i++)
        lt_loop_turn(loop, 10);
    assert_true(lt_env_mono_ns(&env) - before_ns >= 50 * LT_NS_PER_MS);
    ctl_relay_free(&relay);
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(listener);
    close(entry);
}

int main(void)
{
    lt_env_init(&env, "relay_test");
    loop = lt_loop_new(&env);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_ends_are_passed_on),
        cmocka_unit_test(a_client_that_has_left_is_waited_for_in_peace),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    lt_loop_free(&loop);
    return failed;
}
