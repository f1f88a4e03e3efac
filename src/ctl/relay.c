/*
 * ctl/relay.c - pairs of sockets; each direction has one buffer, and its reader waits while that is
 * full.
 */
#include "ctl/relay.h"

#include <errno.h>
#include <unistd.h>

#include "net/sock.h"

enum { PAIRS_MAX = 4096, BUFFER_BYTES = 16384, ACCEPTS_A_TURN = 64 };

struct side {
    struct lt_io io;
    struct pair *pair;
    bool has_read_end; /* no more bytes come from here */
    bool has_shut;     /* FIN was sent to here */
    size_t len, at;    /* bytes read from the other side, for this one: data[at, len) */
    char data[BUFFER_BYTES];
};

struct pair {
    struct lt_list link;
    struct ctl_relay *relay;
    struct side client, server;
    bool is_connected;
};

struct ctl_relay {
    struct lt_loop *loop; /* borrowed */
    struct lt_io listener;
    struct lt_list pairs;
    size_t count;
    ctl_relay_pick_fn *pick;
    void *ctx;
};

static void close_pair(struct pair *pair)
{
    struct side *sides[] = {&pair->client, &pair->server};
    for (size_t i = 0; i < LT_ARRAY_LEN(sides); i++) {
        lt_loop_io_del(pair->relay->loop, &sides[i]->io);
        close(sides[i]->io.fd);
    }
    lt_list_remove(&pair->link);
    pair->relay->count--;
    free(pair);
}

/* Moves what it can from one side to the other. LT_E_CLOSED when a side broke. */
static lt_rc pump(struct side *from, struct side *to)
{
    for (;;) {
        while (to->at < to->len) {
            ssize_t put = send(to->io.fd, to->data + to->at, to->len - to->at, MSG_NOSIGNAL);
            if (put < 0)
                return errno == EAGAIN ? LT_OK : LT_E_CLOSED;
            to->at += (size_t)put;
        }
        to->at = to->len = 0;
        if (from->has_read_end) {
            if (!to->has_shut)
                shutdown(to->io.fd, SHUT_WR);
            to->has_shut = true;
            return LT_OK;
        }
        ssize_t got = recv(from->io.fd, to->data, sizeof(to->data), 0);
        if (got < 0)
            return errno == EAGAIN ? LT_OK : LT_E_CLOSED;
        from->has_read_end = got == 0;
        to->len = (size_t)got;
    }
}

static uint32_t wanted(const struct side *side, const struct side *other)
{
    uint32_t events = side->at < side->len ? EPOLLOUT : 0;
    if (!side->has_read_end && other->len == 0)
        events |= EPOLLIN;
    return events;
}

/*
 * A side from which nothing is wanted is not watched at all: the kernel tells of a hang-up whether
 * it is asked or not, and as long as it lasts.
 */
static void watch(struct pair *pair, struct side *side, uint32_t events)
{
    if (events == 0)
        lt_loop_io_del(pair->relay->loop, &side->io);
    else
        lt_loop_io_set(pair->relay->loop, &side->io, events);
}

static void on_side(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct pair *pair = LT_CONTAINER_OF(io, struct side, io)->pair;
    struct side *client = &pair->client, *server = &pair->server;
    if (!pair->is_connected) {
        if (lt_sock_error(io->fd) != 0) {
            close_pair(pair);
            return;
        }
        pair->is_connected = true;
    }
    if (pump(client, server) != LT_OK || pump(server, client) != LT_OK ||
        (client->has_shut && server->has_shut)) {
        close_pair(pair);
        return;
    }
    watch(pair, client, wanted(client, server));
    watch(pair, server, wanted(server, client));
}

static void init_side(struct side *side, struct pair *pair, int fd)
{
    lt_io_init(&side->io, on_side);
    side->io.fd = fd;
    side->pair = pair;
    lt_sock_set_nodelay(fd);
}

static void start_pair(struct ctl_relay *relay, int client_fd)
{
    struct lt_addr addr;
    int server_fd;
    if (relay->count == PAIRS_MAX || !relay->pick(relay->ctx, &addr) ||
        lt_sock_connect(&addr, NULL, &server_fd) != LT_OK) {
        lt_sock_set_linger_reset(client_fd);
        close(client_fd);
        return;
    }
    struct pair *pair = lt_new(struct pair);
    pair->relay = relay;
    init_side(&pair->client, pair, client_fd);
    init_side(&pair->server, pair, server_fd);
    lt_list_push_back(&relay->pairs, &pair->link);
    relay->count++;
    watch(pair, &pair->server, EPOLLOUT); /* the client's turn comes when it stands */
}

static void on_connections(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_relay *relay = LT_CONTAINER_OF(io, struct ctl_relay, listener);
    int fd;
    for (int i = 0; i < ACCEPTS_A_TURN && lt_sock_accept(io->fd, &fd, NULL) == LT_OK; i++)
        start_pair(relay, fd);
}

void ctl_relay_listen(struct ctl_relay *relay, int listen_fd)
{
    if (relay->listener.fd == listen_fd)
        return;
    if (relay->listener.fd >= 0)
        lt_loop_io_del(relay->loop, &relay->listener);
    relay->listener.fd = listen_fd;
    if (listen_fd >= 0)
        lt_loop_io_set(relay->loop, &relay->listener, EPOLLIN);
}

struct ctl_relay *ctl_relay_new(struct lt_loop *loop, ctl_relay_pick_fn *pick, void *ctx)
{
    struct ctl_relay *relay = lt_new(struct ctl_relay);
    *relay = (struct ctl_relay){.loop = loop, .pick = pick, .ctx = ctx};
    lt_io_init(&relay->listener, on_connections);
    lt_list_init(&relay->pairs);
    return relay;
}

void ctl_relay_free(struct ctl_relay **relay)
{
    struct ctl_relay *r = *relay;
    if (r == NULL)
        return;
    for (struct lt_list *it = r->pairs.next, *next; it != &r->pairs; it = next) {
        next = it->next;
        close_pair(LT_CONTAINER_OF(it, struct pair, link));
    }
    ctl_relay_listen(r, -1);
    free(r);
    *relay = NULL;
}
