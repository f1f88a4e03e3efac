/*
 * bench/load/floor.c - a relay that pairs each client with a connection of its own to the server
 * and copies what is there, under epoll, and parses nothing: the floor of what a proxy of HTTP/1.1
 * may cost a request on this machine.
 * usage: floor LISTEN_PORT SERVER_PORT
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 1 << 16, BUFFER = 1 << 14, EVENTS = 256, BACKLOG = 8192 };

static int peers[DESCRIPTORS_MAX]; /* 0: none */
static char buffer[BUFFER];

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)strtoul(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int epoll, int fd)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        exit(1);
}

static void pair(int epoll, int client, const struct sockaddr_in *server)
{
    int there = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || there < 0 || client >= DESCRIPTORS_MAX || there >= DESCRIPTORS_MAX ||
        connect(there, (const struct sockaddr *)server, sizeof(*server)) != 0)
        exit(1);
    peers[client] = there;
    peers[there] = client;
    watch(epoll, client);
    watch(epoll, there);
}

static void copy(int from)
{
    int to = peers[from];
    if (to == 0)
        return; /* ended in this round */
    ssize_t got = recv(from, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got > 0 && send(to, buffer, (size_t)got, MSG_NOSIGNAL) == got)
        return;
    peers[from] = peers[to] = 0;
    close(from);
    close(to);
}

int main(int argc, char **argv)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    if (argc != 3)
        return 2;
    struct sockaddr_in here = loopback(argv[1]), there = loopback(argv[2]);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(listener, BACKLOG) != 0)
        return 1;
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                pair(epoll, accept(listener, NULL, NULL), &there);
            else
                copy(fd);
        }
    }
}
