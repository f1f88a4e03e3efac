/*
 * tests/unit/http/loop_env.h - a loop whose clock the test moves, and plain sockets to talk to what
 * runs on it.
 */
#ifndef LT_TEST_LOOP_ENV_H
#define LT_TEST_LOOP_ENV_H

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/loop.h"
#include "net/sock.h"

static uint64_t test_now_ns = 1000000000; /* the clock of all loops in this file */

static uint64_t test_mono_ns(void *ctx)
{
    (void)ctx;
    return test_now_ns;
}

static int64_t test_wall_ns(void *ctx)
{
    (void)ctx;
    return 784111777ll * 1000000000;
}

static struct lt_env test_env;

static struct lt_loop *test_loop_new(void)
{
    lt_env_init(&test_env, "test");
    test_env.mono_ns = test_mono_ns;
    test_env.wall_ns = test_wall_ns;
    return lt_loop_new(&test_env);
}

/* Turns until nothing more happens for a while of real time; loopback needs no more. */
static void test_settle(struct lt_loop *loop)
{
    for (int i = 0; i < 20; i++)
        lt_loop_turn(loop, 1);
}

static inline void test_pass_ms(struct lt_loop *loop, uint64_t ms)
{
    test_now_ns += ms * 1000000;
    test_settle(loop);
}

static inline int test_connect(const struct lt_addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &addr->sa, addr->len) != 0)
        abort();
    return fd;
}

/* What has arrived by now; "\x04" behind it when the peer has finished. */
static inline const char *test_receive(struct lt_loop *loop, int fd)
{
    static char text[1 << 16];
    size_t len = 0;
    for (int quiet = 0; quiet < 3;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        lt_loop_turn(loop, 1);
        if (poll(&ready, 1, 1) == 0) {
            quiet++;
            continue;
        }
        quiet = 0;
        ssize_t got = recv(fd, text + len, sizeof(text) - 2 - len, 0);
        if (got <= 0) {
            text[len++] = got == 0 ? '\x04' : '\x18';
            break;
        }
        len += (size_t)got;
    }
    text[len] = '\0';
    return text;
}

static inline void test_send(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
        abort();
}

#endif
