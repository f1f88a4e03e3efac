/*
 * http/mux.c - a connection waits here for three bytes, which stay in the socket for whoever gets
 * it: "PRI" begins HTTP/2 (RFC 9113 section 3.4), and is no method of HTTP/1.1.
 */
#include "http/mux.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_A_TURN = 64, GUESTS_MAX = 1024, FIRST_BYTES = 3 };
static const uint64_t PATIENCE_NS = 15 * LT_NS_PER_S, PAUSE_NS = 100 * LT_NS_PER_MS;

struct lt_mux {
    struct lt_loop *loop; /* borrowed, as the servers */
    struct lt_server *http;
    struct lt_grpc_server *grpc;
    struct lt_io io;
    struct lt_timer pause; /* out of descriptors */
    struct lt_list guests;
    size_t guest_count;
};

/* A connection that has not said what it is. */
struct guest {
    struct lt_list link;
    struct lt_mux *mux;
    struct lt_io io;
    struct lt_timer timer;
    struct lt_addr peer;
};

/* What becomes of the descriptor is the caller's business. */
static void let_go(struct guest *guest)
{
    lt_loop_io_del(guest->mux->loop, &guest->io);
    lt_loop_timer_cancel(guest->mux->loop, &guest->timer);
    lt_list_remove(&guest->link);
    guest->mux->guest_count--;
    free(guest);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct guest *guest = LT_CONTAINER_OF(timer, struct guest, timer);
    int fd = guest->io.fd;
    let_go(guest);
    close(fd);
}

static void set_low_water(int fd, int bytes)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

static void on_first_bytes(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct guest *guest = LT_CONTAINER_OF(io, struct guest, io);
    struct lt_mux *mux = guest->mux;
    struct lt_addr peer = guest->peer;
    int fd = io->fd;
    char first[FIRST_BYTES];
    ssize_t len = recv(fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);
    let_go(guest);
    set_low_water(fd, 1);
    if (len == FIRST_BYTES && memcmp(first, "PRI", FIRST_BYTES) == 0)
        lt_grpc_server_adopt(mux->grpc, fd, &peer);
    else
        lt_server_adopt(mux->http, fd, &peer); /* also who has hung up: it knows what to do */
}

static void welcome(struct lt_mux *mux, int fd, const struct lt_addr *peer)
{
    if (mux->guest_count >= GUESTS_MAX) {
        close(fd);
        return;
    }
    struct guest *guest = lt_new(struct guest);
    guest->mux = mux;
    guest->peer = *peer;
    lt_io_init(&guest->io, on_first_bytes);
    guest->io.fd = fd;
    lt_timer_init(&guest->timer, on_timeout);
    lt_list_push_back(&mux->guests, &guest->link);
    mux->guest_count++;
    set_low_water(fd, FIRST_BYTES);
    lt_loop_io_set(mux->loop, &guest->io, EPOLLIN | EPOLLRDHUP);
    lt_loop_timer_set(mux->loop, &guest->timer, PATIENCE_NS);
}

static void on_acceptable(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct lt_mux *mux = LT_CONTAINER_OF(io, struct lt_mux, io);
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = -1;
        struct lt_addr peer = {0};
        lt_rc rc = lt_sock_accept(io->fd, &fd, &peer);
        if (rc == LT_AGAIN)
            return;
        if (rc != LT_OK) {
            lt_loop_io_del(mux->loop, io);
            lt_loop_timer_set(mux->loop, &mux->pause, PAUSE_NS);
            return;
        }
        welcome(mux, fd, &peer);
    }
}

static void on_pause_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct lt_mux *mux = LT_CONTAINER_OF(timer, struct lt_mux, pause);
    lt_loop_io_set(mux->loop, &mux->io, EPOLLIN);
}

struct lt_mux *lt_mux_new(struct lt_loop *loop, struct lt_server *http, struct lt_grpc_server *grpc)
{
    struct lt_mux *mux = lt_new(struct lt_mux);
    mux->loop = loop;
    mux->http = http;
    mux->grpc = grpc;
    lt_io_init(&mux->io, on_acceptable);
    lt_timer_init(&mux->pause, on_pause_over);
    lt_list_init(&mux->guests);
    return mux;
}

lt_rc lt_mux_listen(struct lt_mux *mux, const struct lt_addr *addr, struct lt_addr *ret_addr,
                    struct lt_err *err)
{
    LT_ASSERT(mux->io.fd < 0);
    LT_TRY(lt_sock_listen(addr, NULL, &mux->io.fd, err));
    lt_loop_io_set(mux->loop, &mux->io, EPOLLIN);
    return ret_addr != NULL ? lt_sock_local(mux->io.fd, ret_addr) : LT_OK;
}

void lt_mux_free(struct lt_mux **pointer)
{
    struct lt_mux *mux = *pointer;
    *pointer = NULL;
    if (mux == NULL)
        return;
    while (!lt_list_is_empty(&mux->guests)) {
        struct guest *guest = lt_list_first(&mux->guests, struct guest, link);
        int fd = guest->io.fd;
        let_go(guest);
        close(fd);
    }
    lt_loop_timer_cancel(mux->loop, &mux->pause);
    if (mux->io.fd >= 0) {
        lt_loop_io_del(mux->loop, &mux->io);
        close(mux->io.fd);
    }
    free(mux);
}
