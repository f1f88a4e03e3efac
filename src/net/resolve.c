/*
 * net/resolve.c - getaddrinfo in a thread. The thread and the loop share one struct lookup, which
 * the last of the two frees; an eventfd tells the loop that the result stands.
 * Start at: lt_resolve_start().
 */
#include "net/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREAD_STACK_BYTES = 256 << 10 };

struct lookup {
    atomic_uint refs;
    int event_fd;
    char host[LT_RESOLVE_HOST_MAX + 1];
    uint16_t port;
    /* written by the thread before it rings */
    int error; /* of getaddrinfo */
    struct lt_addr addrs[LT_RESOLVE_ADDRS_MAX];
    size_t count;
};

struct lt_resolve {
    struct lt_io io;
    struct lt_loop *loop;  /* borrowed */
    struct lookup *lookup; /* counted */
    lt_resolve_fn *on_done;
    void *ctx;
};

static void lookup_unref(struct lookup *lookup)
{
    if (atomic_fetch_sub_explicit(&lookup->refs, 1, memory_order_acq_rel) > 1)
        return;
    close(lookup->event_fd);
    free(lookup);
}

static void take_results(struct lookup *lookup, const struct addrinfo *list)
{
    for (const struct addrinfo *at = list; at != NULL && lookup->count < LT_RESOLVE_ADDRS_MAX;
         at = at->ai_next) {
        struct lt_addr *addr = &lookup->addrs[lookup->count];
        if (at->ai_addrlen > sizeof(addr->v6))
            continue;
        addr->len = at->ai_addrlen;
        memcpy(&addr->sa, at->ai_addr, at->ai_addrlen);
        lt_addr_set_port(addr, lookup->port);
        lookup->count++;
    }
}

static void *look_up(void *arg)
{
    struct lookup *lookup = arg;
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    lookup->error = getaddrinfo(lookup->host, NULL, &hints, &list);
    if (lookup->error == 0) {
        take_results(lookup, list);
        freeaddrinfo(list);
    }
    uint64_t one = 1;
    ssize_t ignored = write(lookup->event_fd, &one, sizeof(one));
    (void)ignored;
    lookup_unref(lookup);
    return NULL;
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct lt_resolve *resolve = LT_CONTAINER_OF(io, struct lt_resolve, io);
    struct lookup *lookup = resolve->lookup;
    lt_resolve_fn *on_done = resolve->on_done;
    void *ctx = resolve->ctx;
    /* what the thread wrote before it wrote here is ours from here on */
    uint64_t count;
    ssize_t ignored = read(lookup->event_fd, &count, sizeof(count));
    (void)ignored;
    lt_loop_io_del(resolve->loop, io);
    free(resolve);
    bool is_missing = lookup->error == EAI_NONAME || lookup->error == EAI_NODATA ||
                      lookup->error == 0;
    lt_rc rc = lookup->count > 0 ? LT_OK : is_missing ? LT_E_NOT_FOUND : LT_E_IO;
    on_done(ctx, rc, lookup->addrs, lookup->count,
            rc == LT_OK ? "" : gai_strerror(lookup->error == 0 ? EAI_NODATA : lookup->error));
    lookup_unref(lookup);
}

static bool start_thread(struct lookup *lookup)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add_explicit(&lookup->refs, 1, memory_order_relaxed);
    bool is_started = pthread_create(&thread, &attr, look_up, lookup) == 0;
    pthread_attr_destroy(&attr);
    if (!is_started)
        lookup_unref(lookup);
    return is_started;
}

struct lt_resolve *lt_resolve_start(struct lt_loop *loop, lt_str host, uint16_t port,
                                    lt_resolve_fn *on_done, void *ctx)
{
    struct lookup *lookup = lt_new(struct lookup);
    struct lt_resolve *resolve = lt_new(struct lt_resolve);
    atomic_init(&lookup->refs, 1);
    lookup->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    LT_ASSERT(lookup->event_fd >= 0);
    lookup->port = port;
    *resolve = (struct lt_resolve){.loop = loop, .lookup = lookup, .on_done = on_done, .ctx = ctx};
    lt_io_init(&resolve->io, on_ready);
    resolve->io.fd = lookup->event_fd;
    lt_loop_io_set(loop, &resolve->io, EPOLLIN);

    bool is_literal = lt_addr_parse(host, port, &lookup->addrs[0]) == LT_OK;
    bool is_name = host.len > 0 && host.len <= LT_RESOLVE_HOST_MAX &&
                   lt_str_find_char(host, '\0') < 0;
    lookup->count = is_literal ? 1 : 0;
    lookup->error = is_literal ? 0 : is_name ? EAI_AGAIN : EAI_NONAME;
    if (is_name)
        memcpy(lookup->host, host.ptr, host.len);
    if (is_literal || !is_name || !start_thread(lookup)) {
        uint64_t one = 1;
        ssize_t ignored = write(lookup->event_fd, &one, sizeof(one));
        (void)ignored;
    }
    return resolve;
}

void lt_resolve_cancel(struct lt_resolve **resolve)
{
    if (*resolve == NULL)
        return;
    lt_loop_io_del((*resolve)->loop, &(*resolve)->io);
    lookup_unref((*resolve)->lookup);
    free(*resolve);
    *resolve = NULL;
}
