/*
 * tests/unit/net/sock_test.c - sockets over loopback and Unix paths, and the plain transport on
 * them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/sock.h"
#include "net/transport.h"

static void wait_for(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};
    assert_int_equal(poll(&ready, 1, 2000), 1);
}

static void a_connection_is_made_and_named(void **state)
{
    (void)state;
    struct lt_addr addr, peer, local, again;
    struct lt_err err;
    int listener = -1, client = -1, served = -1;
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &addr), LT_OK);
    assert_int_equal(lt_sock_listen(&addr, NULL, &listener, &err), LT_OK);
    assert_int_equal(lt_sock_local(listener, &addr), LT_OK);
    assert_int_equal(lt_sock_accept(listener, &served, &peer), LT_AGAIN);
    struct lt_addr source;
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.6"), 0, &source), LT_OK);
    assert_int_equal(lt_sock_connect(&addr, &source, &client), LT_OK);
    wait_for(listener, POLLIN);
    assert_int_equal(lt_sock_accept(listener, &served, &peer), LT_OK);
    assert_int_equal(lt_sock_error(client), 0);
    assert_int_equal(lt_sock_local(client, &local), LT_OK);
    assert_true(lt_addr_eq(&local, &peer));
    lt_addr_set_port(&local, 0);
    assert_true(lt_addr_eq(&local, &source));
    assert_int_equal(lt_sock_peer(client, &again), LT_OK);
    assert_true(lt_addr_eq(&again, &addr));
    assert_int_equal(lt_sock_original_dst(served, &again), LT_E_NOT_FOUND);
    for (int fd = client; fd == client || fd == served; fd = fd == client ? served : -1) {
        assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    close(client), close(served), close(listener);
}

static void failures_name_the_address(void **state)
{
    (void)state;
    struct lt_addr addr;
    struct lt_err err;
    char text[LT_ADDR_TEXT_MAX];
    int listener = -1, other = -1;
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &addr), LT_OK);
    assert_int_equal(lt_sock_listen(&addr, NULL, &listener, &err), LT_OK);
    assert_int_equal(lt_sock_local(listener, &addr), LT_OK);
    assert_int_equal(lt_sock_listen(&addr, NULL, &other, &err), LT_E_IO);
    assert_non_null(strstr(err.text, lt_addr_format(&addr, text).ptr));
    assert_non_null(strstr(err.text, "Address already in use"));
    close(listener);
    int client = -1;
    assert_int_equal(lt_sock_connect(&addr, NULL, &client), LT_OK);
    wait_for(client, POLLOUT);
    assert_int_equal(lt_sock_error(client), ECONNREFUSED);
    close(client);
}

static void unix_sockets_replace_stale_files_with_their_mode(void **state)
{
    (void)state;
    struct lt_addr addr;
    struct lt_err err;
    struct stat info;
    char path[64];
    snprintf(path, sizeof(path), "/tmp/lateen-sock-test.%d", (int)getpid());
    assert_int_equal(lt_addr_unix(lt_str_of(path), &addr), LT_OK);
    for (int round = 0; round < 2; round++) {
        struct lt_listen_opts opts = {.unix_mode = round == 0 ? 0 : 0660};
        int listener = -1, client = -1;
        assert_int_equal(lt_sock_listen(&addr, &opts, &listener, &err), LT_OK);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, round == 0 ? 0600 : 0660);
        assert_int_equal(lt_sock_connect(&addr, NULL, &client), LT_OK);
        close(client), close(listener);
    }
    unlink(path);
    int file = open(path, O_CREAT | O_WRONLY, 0600), listener = -1;
    assert_int_equal(lt_sock_listen(&addr, NULL, &listener, &err),
                     LT_E_IO); /* a file of somebody's is not ours to remove */
    assert_int_equal(stat(path, &info), 0);
    close(file);
    unlink(path);
}

static void the_plain_transport_moves_bytes_and_ends(void **state)
{
    (void)state;
    int fds[2];
    struct lt_transport a, b;
    char got[16];
    size_t len = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    lt_transport_init_raw(&a, fds[0]);
    lt_transport_init_raw(&b, fds[1]);
    assert_int_equal(lt_transport_handshake(&a), LT_OK);
    assert_int_equal(lt_transport_read(&b, got, sizeof(got), &len), LT_AGAIN);
    struct iovec iov[2] = {{"ab", 2}, {"cde", 3}};
    assert_int_equal(lt_transport_writev(&a, iov, 2, &len), LT_OK);
    assert_int_equal(len, 5);
    assert_int_equal(lt_transport_read(&b, got, sizeof(got), &len), LT_OK);
    assert_int_equal(len, 5);
    assert_memory_equal(got, "abcde", 5);
    assert_int_equal(lt_transport_shutdown_write(&a), LT_OK);
    assert_int_equal(lt_transport_read(&b, got, sizeof(got), &len), LT_EOF);
    lt_transport_fini(&a);
    assert_int_equal(lt_transport_writev(&b, iov, 1, &len), LT_E_CLOSED); /* and no SIGPIPE */
    lt_transport_fini(&b);
    lt_transport_fini(&b);
    struct lt_transport zero = {0};
    lt_transport_fini(&zero);
}

static void a_full_socket_says_again(void **state)
{
    (void)state;
    int fds[2];
    struct lt_transport a;
    static char block[1 << 16];
    size_t len = 0;
    lt_rc rc = LT_OK;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    lt_transport_init_raw(&a, fds[0]);
    struct iovec iov = {block, sizeof(block)};
    for (int i = 0; i < 1000 && rc == LT_OK; i++)
        rc = lt_transport_writev(&a, &iov, 1, &len);
    assert_int_equal(rc, LT_AGAIN);
    lt_transport_fini(&a);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_made_and_named),
        cmocka_unit_test(failures_name_the_address),
        cmocka_unit_test(unix_sockets_replace_stale_files_with_their_mode),
        cmocka_unit_test(the_plain_transport_moves_bytes_and_ends),
        cmocka_unit_test(a_full_socket_says_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
