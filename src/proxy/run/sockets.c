/*
 * proxy/run/sockets.c - listening sockets on their way from one process to the next, as a worker
 * sees them: which it has, which it was left, and letting go of all.
 * Both processes hold the same sockets for a while, so that nobody who waits in one is lost.
 * Who speaks with whom: takeover.h.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "http/server.h"
#include "proxy/run/run.h"
#include "proxy/run/workers.h"

void px_socket_free(struct px_socket **socket)
{
    if (*socket != NULL && (*socket)->fd >= 0)
        close((*socket)->fd);
    free(*socket);
    *socket = NULL;
}

void px_sockets_free(struct lt_vec *sockets)
{
    while (sockets->count > 0) {
        struct px_socket *socket = lt_vec_pop(sockets);
        px_socket_free(&socket);
    }
    lt_vec_fini(sockets);
}

/* --- what was left to us --- */

/* Each worker gets those of the one that was in its place; more of them than workers: several. */
void px_sockets_share(struct px_workers *workers)
{
    struct lt_vec *all = workers->opts.inherited;
    size_t kept = 0;
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        struct px_socket *socket = all->items[i];
        if (socket->kind != PX_SOCKET_LISTENER) {
            all->items[kept++] = socket;
            continue;
        }
        unsigned to = socket->worker % workers->opts.count;
        lt_vec_push(&workers->threads[to].worker->inherited, socket);
    }
    if (all != NULL)
        all->count = kept;
}

int px_sockets_take(struct lt_vec *sockets, px_socket_kind kind, const struct lt_addr *addr)
{
    for (size_t i = 0; i < sockets->count; i++) {
        struct px_socket *socket = sockets->items[i];
        if (socket->kind != kind || (addr != NULL && !lt_addr_eq(&socket->addr, addr)))
            continue;
        int fd = socket->fd;
        socket->fd = -1;
        px_socket_free(&socket);
        sockets->items[i] = sockets->items[--sockets->count];
        return fd;
    }
    return -1;
}

lt_rc px_sockets_listen(struct lt_vec *inherited, struct lt_server *server,
                        const struct lt_addr *addr, struct lt_addr *ret_addr, struct lt_err *err)
{
    if (inherited == NULL)
        return lt_server_listen(server, addr, NULL, ret_addr, err);
    lt_server_set_accepting(server, false);
    int fd = px_sockets_take(inherited, PX_SOCKET_SERVER, addr);
    if (fd < 0)
        return lt_server_listen(server, addr, NULL, ret_addr, err);
    lt_server_listen_on(server, fd);
    return lt_sock_local(fd, ret_addr);
}

/* --- one for all workers --- */

struct px_shared {
    struct lt_list link; /* in workers->shared */
    struct lt_addr addr;
    int fd; /* owned; workers have duplicates */
    unsigned users;
};

static struct px_shared *find_shared(struct px_workers *workers, const struct lt_addr *addr)
{
    struct lt_list *it, *next;
    lt_list_each (&workers->shared, it, next) {
        struct px_shared *shared = LT_CONTAINER_OF(it, struct px_shared, link);
        if (lt_addr_eq(&shared->addr, addr))
            return shared;
    }
    return NULL;
}

static void drop_shared(struct px_shared *shared)
{
    if (shared->users > 0)
        return;
    lt_list_remove(&shared->link);
    close(shared->fd);
    free(shared);
}

static lt_rc get_shared(struct px_workers *workers, const struct lt_addr *addr,
                        const struct lt_listen_opts *opts, struct px_shared **ret_shared,
                        struct lt_err *err)
{
    int fd = -1;
    *ret_shared = find_shared(workers, addr);
    if (*ret_shared != NULL)
        return LT_OK;
    LT_TRY(lt_sock_listen(addr, opts, &fd, err));
    struct px_shared *shared = lt_new(struct px_shared);
    shared->addr = *addr;
    shared->fd = fd;
    lt_list_push_back(&workers->shared, &shared->link);
    *ret_shared = shared;
    return LT_OK;
}

lt_rc px_shared_listen(struct px_worker *worker, const struct lt_addr *addr,
                       const struct lt_listen_opts *opts, int *ret_fd, struct lt_err *err)
{
    struct px_workers *workers = worker->owner;
    struct px_shared *shared = NULL;
    pthread_mutex_lock(&workers->shared_lock);
    lt_rc rc = get_shared(workers, addr, opts, &shared, err);
    if (rc == LT_OK) {
        *ret_fd = fcntl(shared->fd, F_DUPFD_CLOEXEC, 0);
        if (*ret_fd >= 0)
            shared->users++;
        else
            rc = lt_err_set(err, LT_E_IO, "no descriptor is left");
        drop_shared(shared);
    }
    pthread_mutex_unlock(&workers->shared_lock);
    return rc;
}

void px_shared_leave(struct px_worker *worker, const struct lt_addr *addr)
{
    struct px_workers *workers = worker->owner;
    pthread_mutex_lock(&workers->shared_lock);
    struct px_shared *shared = find_shared(workers, addr);
    LT_ASSERT(shared != NULL && shared->users > 0);
    shared->users--;
    drop_shared(shared);
    pthread_mutex_unlock(&workers->shared_lock);
}

/* --- beginning to accept --- */

struct plain_letter {
    struct lt_letter letter;
    struct px_workers *workers;
};

static void post_to_all(struct px_workers *workers, lt_letter_fn *open)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct plain_letter *letter = lt_new(struct plain_letter);
        letter->letter.open = open;
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
}

static void open_accept(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    worker->holds_accept = false;
    px_listeners_resume(worker);
    px_sockets_free(&worker->inherited);
    free(LT_CONTAINER_OF(letter, struct plain_letter, letter));
}

void px_workers_accept(struct px_workers *workers)
{
    post_to_all(workers, open_accept);
}

/* --- letting go --- */

static void open_give_away(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    worker->stopped = PX_SCOPE_ALL;
    px_listeners_leave(worker);
    px_handed_free(worker);
    worker->leaving = PX_SCOPE_ALL;
    worker->leaving_since_ns = px_now_ns(worker);
    struct lt_list *it, *next;
    lt_list_each (&worker->conns, it, next)
        px_conn_drain(LT_CONTAINER_OF(it, struct px_conn, link), worker->owner->opts.drain_ms);
    free(LT_CONTAINER_OF(letter, struct plain_letter, letter));
}

void px_workers_give_away(struct px_workers *workers)
{
    post_to_all(workers, open_give_away);
}

/* --- which there are: one letter goes from worker to worker --- */

struct listing {
    struct lt_letter letter;
    struct px_workers *workers;
    unsigned next;
    struct lt_vec sockets; /* of struct px_socket, owned */
    px_sockets_fn *done;
    void *ctx;
};

static void pass_on(struct listing *listing);

static void open_done(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct listing *listing = LT_CONTAINER_OF(letter, struct listing, letter);
    listing->done(listing->ctx, &listing->sockets);
    px_sockets_free(&listing->sockets);
    free(listing);
}

void px_sockets_add(struct lt_vec *sockets, px_socket_kind kind, unsigned worker,
                    const struct lt_addr *addr, int fd)
{
    struct px_socket *socket = lt_new(struct px_socket);
    socket->kind = kind;
    socket->worker = worker;
    if (addr != NULL)
        socket->addr = *addr;
    socket->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (socket->fd >= 0)
        lt_vec_push(sockets, socket);
    else
        px_socket_free(&socket);
}

static void open_listing(struct lt_letter *letter, void *receiver)
{
    struct listing *listing = LT_CONTAINER_OF(letter, struct listing, letter);
    px_listeners_list(receiver, &listing->sockets);
    if (listing->next == 1) /* the first worker: all have the same */
        px_handed_list(receiver, &listing->sockets);
    pass_on(listing);
}

static void pass_on(struct listing *listing)
{
    struct px_workers *workers = listing->workers;
    if (listing->next < workers->opts.count) {
        listing->letter.open = open_listing;
        lt_mailbox_post(workers->threads[listing->next++].worker->mailbox, &listing->letter);
    } else {
        listing->letter.open = open_done;
        lt_mailbox_post(workers->mailbox, &listing->letter);
    }
}

void px_workers_list_sockets(struct px_workers *workers, px_sockets_fn *done, void *ctx)
{
    struct listing *listing = lt_new(struct listing);
    listing->workers = workers;
    listing->done = done;
    listing->ctx = ctx;
    pass_on(listing);
}
