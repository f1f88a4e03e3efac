/*
 * proxy/run/handed.c - listening sockets of another network in one worker: each brings connections
 * to the listener on the port that they are for, as long as there is one.
 * Other workers and other processes may wait on the same socket. The kernel wakes the one that came
 * to it first, so whoever was woken goes to the end of that queue: they take turns.
 * What hands them over: net/handover.h.
 */
#include <stdlib.h>
#include <unistd.h>

#include "proxy/run/run.h"

enum { ACCEPTS_A_TURN = 32 };

struct px_handed {
    struct lt_list link;
    struct px_worker *worker;
    struct lt_handover message;
    struct lt_addr local; /* what its connections are for */
    struct lt_io io;
    struct lt_timer pause;        /* set while descriptors have run out */
    struct px_listener *listener; /* NULL: nobody listens on that port */
};

/* LT_OK: there may be more. LT_AGAIN: nobody waits. LT_E_IO: no descriptor is left. */
static lt_rc accept_some(struct px_handed *handed)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = -1;
        struct lt_addr peer;
        LT_TRY(lt_sock_accept(handed->io.fd, &fd, &peer));
        px_conn_accept(handed->listener, fd, &peer, &handed->local);
    }
    return LT_OK;
}

static void wait_for_more(struct px_handed *handed)
{
    lt_loop_io_del(handed->worker->loop, &handed->io);
    lt_loop_io_set(handed->worker->loop, &handed->io, EPOLLIN | EPOLLEXCLUSIVE);
}

static void on_accept(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_handed *handed = LT_CONTAINER_OF(io, struct px_handed, io);
    if (accept_some(handed) != LT_E_IO) {
        wait_for_more(handed);
        return;
    }
    px_count_accept_pause(handed->worker);
    lt_loop_io_del(handed->worker->loop, io);
    lt_loop_timer_set(handed->worker->loop, &handed->pause, PX_ACCEPT_PAUSE_MS * LT_NS_PER_MS);
}

static void on_pause_over(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_handed *handed = LT_CONTAINER_OF(timer, struct px_handed, pause);
    if (handed->listener != NULL)
        wait_for_more(handed);
}

static struct px_listener *find_listener(struct px_worker *worker, const struct lt_addr *local)
{
    for (size_t i = 0; i < worker->listeners.count; i++) {
        struct px_listener *listener = worker->listeners.entries[i].value;
        if (listener->io.fd >= 0 && lt_addr_port(&listener->conf->addr) == lt_addr_port(local))
            return listener;
    }
    return NULL;
}

static void follow(struct px_handed *handed)
{
    handed->listener = find_listener(handed->worker, &handed->local);
    if (handed->listener != NULL)
        wait_for_more(handed);
    else
        lt_loop_io_del(handed->worker->loop, &handed->io);
}

void px_handed_follow(struct px_worker *worker)
{
    struct lt_list *it, *next;
    lt_list_each (&worker->handed, it, next)
        follow(LT_CONTAINER_OF(it, struct px_handed, link));
}

/* Who was woken for a connection and goes without it leaves it lying until the next one comes. */
static void give_back(struct px_handed *handed)
{
    if (handed->listener != NULL)
        (void)accept_some(handed);
    lt_loop_timer_cancel(handed->worker->loop, &handed->pause);
    lt_loop_io_del(handed->worker->loop, &handed->io);
    close(handed->io.fd);
    lt_list_remove(&handed->link);
    px_bury(handed->worker, handed);
}

void px_handed_take(struct px_worker *worker, const struct lt_handover *message, int fd)
{
    struct lt_list *it, *next;
    lt_list_each (&worker->handed, it, next) {
        struct px_handed *known = LT_CONTAINER_OF(it, struct px_handed, link);
        if (known->message.id == message->id)
            give_back(known);
    }
    if (fd < 0)
        return;
    struct px_handed *handed = lt_new(struct px_handed);
    handed->worker = worker;
    handed->message = *message;
    handed->local.len = sizeof(handed->local.v4);
    handed->local.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                            .sin_port = htons(message->port),
                                            .sin_addr.s_addr = htonl(message->ip)};
    lt_io_init(&handed->io, on_accept);
    lt_timer_init(&handed->pause, on_pause_over);
    handed->io.fd = fd;
    lt_list_push_back(&worker->handed, &handed->link);
    follow(handed);
}

void px_handed_list(struct px_worker *worker, struct lt_vec *sockets)
{
    struct lt_list *it, *next;
    lt_list_each (&worker->handed, it, next) {
        struct px_handed *handed = LT_CONTAINER_OF(it, struct px_handed, link);
        size_t before = sockets->count;
        px_sockets_add(sockets, PX_SOCKET_HANDED, 0, NULL, handed->io.fd);
        if (sockets->count > before)
            ((struct px_socket *)sockets->items[before])->message = handed->message;
    }
}

void px_handed_free(struct px_worker *worker)
{
    while (!lt_list_is_empty(&worker->handed)) {
        struct px_handed *handed = lt_list_first(&worker->handed, struct px_handed, link);
        handed->listener = NULL;
        give_back(handed);
    }
}
