/*
 * bench/load/floor.c - the least that a proxy can cost: pairs each connection with one to the backend and copies bytes, parsing
 * nothing. What a proxy spends above it is its own doing; what lies below is the kernel's.
 * Usage: floor PORT BACKEND_PORT      Start at: main().
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 16 * 1024, EVENTS = 256, FILES = 65536 };

static int peer_of[FILES]; /* by descriptor */

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void accept_all(int epoll_fd, int listen_fd, const struct sockaddr_in *backend)
{
    int fd;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int up = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (up < 0 || up >= FILES || fd >= FILES || connect(up, (const struct sockaddr *)backend, sizeof(*backend)) != 0) {
            perror("floor: cannot connect");
            exit(1);
        }
        peer_of[fd] = up;
        peer_of[up] = fd;
        watch(epoll_fd, fd);
        watch(epoll_fd, up);
    }
}

/* Messages of the bench are smaller than a socket's buffer: a short write does not happen. */
static void copy(int fd)
{
    char buf[READ_BYTES];
    ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || send(peer_of[fd], buf, (size_t)got, MSG_NOSIGNAL) != got) {
        close(peer_of[fd]);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    struct rlimit files = {FILES, FILES};
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in addr = loopback(argv[1]), backend = loopback(argv[2]);
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listen_fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(listen_fd, 4096) != 0) {
        perror("floor: cannot listen");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd}, events[EVENTS];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listen_fd)
                accept_all(epoll_fd, listen_fd, &backend);
            else
                copy(events[i].data.fd);
        }
    }
}
