/*
 * bench/load/backend.c - the server behind the proxies of the bench: answers every request head with the same bytes.
 * One thread, epoll, keep-alive. It reads no bodies: the bench sends GET only. As cheap as a server can be, so that the core it
 * shares with the load generator is not what is measured.
 * Usage: backend PORT [BODY_BYTES]      Start at: main().
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 16 * 1024, EVENTS = 256, BODY_DEFAULT = 100, BODY_MAX = 1 << 20 };

static char answer[BODY_MAX + 256];
static size_t answer_len;

static void make_answer(size_t body)
{
    int head = snprintf(answer, 256, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n", body);
    memset(answer + head, 'x', body);
    answer_len = (size_t)head + body;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 4096) != 0) {
        perror("backend: cannot listen");
        exit(1);
    }
    return fd;
}

static void accept_all(int epoll_fd, int listen_fd)
{
    int fd, one = 1;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

/* A head that is split over two reads would be missed; heads of the bench are small and written in one piece. */
static bool serve(int fd)
{
    char buf[READ_BYTES];
    ssize_t got = read(fd, buf, sizeof(buf));
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    const char *at = buf, *end = buf + got;
    while ((at = memmem(at, (size_t)(end - at), "\r\n\r\n", 4)) != NULL) {
        size_t sent = 0;
        while (sent < answer_len) {
            ssize_t put = send(fd, answer + sent, answer_len - sent, MSG_NOSIGNAL);
            if (put < 0 && errno != EAGAIN)
                return false;
            sent += put > 0 ? (size_t)put : 0;
        }
        at += 4;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    make_answer(argc > 2 ? strtoul(argv[2], NULL, 10) % BODY_MAX : BODY_DEFAULT);
    int listen_fd = listen_on((uint16_t)strtoul(argv[1], NULL, 10)), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd}, events[EVENTS];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listen_fd)
                accept_all(epoll_fd, listen_fd);
            else if (!serve(fd))
                close(fd);
        }
    }
}
