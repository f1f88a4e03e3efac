/*
 * bench/load/relay.c - the plainest relay of TCP: one connection at a time, read() and write() with
 * one buffer. What lateen-proxy's CPU per byte is compared with.
 * usage: relay LISTEN_PORT SERVER_PORT BUFFER_BYTES
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_MAX = 1 << 20, BACKLOG = 16 };

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)strtoul(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* 0: this direction has ended. */
static int pass(int from, int to, char *buffer, size_t size)
{
    ssize_t got = read(from, buffer, size);
    if (got <= 0) {
        shutdown(to, SHUT_WR);
        return 0;
    }
    for (ssize_t at = 0; at < got;) {
        ssize_t put = write(to, buffer + at, (size_t)(got - at));
        if (put < 0)
            return 0;
        at += put;
    }
    return 1;
}

static void relay(int client, int server, char *buffer, size_t size)
{
    struct pollfd fds[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    for (int open = 2; open > 0;) {
        if (poll(fds, 2, -1) < 0)
            return;
        for (int i = 0; i < 2; i++) {
            if (fds[i].revents == 0 || pass(fds[i].fd, i == 0 ? server : client, buffer, size))
                continue;
            fds[i].fd = -1;
            open--;
        }
    }
}

int main(int argc, char **argv)
{
    static char buffer[BUFFER_MAX];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 4)
        return 2;
    struct sockaddr_in here = loopback(argv[1]), there = loopback(argv[2]);
    size_t size = strtoul(argv[3], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (size == 0 || size > BUFFER_MAX ||
        bind(listener, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(listener, BACKLOG) != 0)
        return 1;
    for (;;) {
        int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(server, (struct sockaddr *)&there, sizeof(there)) == 0)
            relay(client, server, buffer, size);
        close(client);
        close(server);
    }
}
