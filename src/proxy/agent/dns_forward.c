/*
 * proxy/agent/dns_forward.c - questions to other servers: one try for each server, in turn or at
 * once.
 * Start at: px_dns_forward_ask(), on_ready().
 */
#include "proxy/agent/dns_forward.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/dns_msg.h"
#include "net/sock.h"

enum { ID_BYTES = 2, LENGTH_BYTES = 2, QR_BYTE = 2, QR_BIT = 0x80 };

/* One server that was asked. */
struct attempt {
    struct lt_io io;
    struct px_dns_ask *ask;
    uint8_t id[ID_BYTES];
    bool is_open;
    size_t sent;      /* by TCP, of length and query */
    struct lt_buf in; /* by TCP */
};

struct px_dns_ask {
    struct lt_list link; /* in forward->asks */
    struct px_dns_forward *forward;
    char *query; /* owned */
    size_t len, question_end;
    bool is_tcp;
    px_dns_done_fn *on_done;
    void *ctx;
    uint64_t began_ns;
    struct lt_timer timer; /* the present try's end */
    uint8_t order[PX_DNS_SERVERS_MAX];
    size_t tried;
    struct attempt attempts[PX_DNS_SERVERS_MAX]; /* by order */
};

struct px_dns_forward {
    struct px_dns_forward_opts opts;
    struct lt_addr servers[PX_DNS_SERVERS_MAX];
    struct lt_list asks;
    size_t ask_count;
};

/* --- the end of an ask --- */

static void close_attempt(struct attempt *attempt)
{
    if (!attempt->is_open)
        return;
    lt_loop_io_del(attempt->ask->forward->opts.loop, &attempt->io);
    close(attempt->io.fd);
    lt_buf_fini(&attempt->in);
    attempt->is_open = false;
}

static void free_ask(struct px_dns_ask *ask)
{
    for (size_t i = 0; i < ask->tried; i++)
        close_attempt(&ask->attempts[i]);
    lt_loop_timer_cancel(ask->forward->opts.loop, &ask->timer);
    lt_list_remove(&ask->link);
    ask->forward->ask_count--;
    free(ask->query);
    free(ask);
}

static void finish(struct px_dns_ask *ask, lt_str answer)
{
    px_dns_done_fn *on_done = ask->on_done;
    void *ctx = ask->ctx;
    uint64_t took_ns = lt_loop_now_ns(ask->forward->opts.loop) - ask->began_ns;
    lt_histogram_observe(ask->forward->opts.counts.took_s, (double)took_ns / (double)LT_NS_PER_S);
    on_done(ctx, answer); /* it does not cancel what is over */
    free_ask(ask);
}

static void finish_badly(struct px_dns_ask *ask)
{
    struct lt_dns_question question;
    char out[LT_DNS_HEADER];
    (void)!lt_dns_question_read(lt_str_make(ask->query, ask->len), &question);
    lt_counter_add(ask->forward->opts.counts.failures, 1);
    finish(ask, lt_str_make(out, lt_dns_write_error(&question, LT_DNS_SERVER_FAILURE, out)));
}

/* --- answers --- */

static bool is_lower_same(const char *a, const char *b, size_t len)
{
    return lt_str_case_eq(lt_str_make(a, len), lt_str_make(b, len));
}

/* Of this id, an answer, to this question, whatever case the server wrote it in. */
static bool is_answer(const struct attempt *attempt, lt_str text)
{
    const struct px_dns_ask *ask = attempt->ask;
    if (text.len < LT_DNS_HEADER || memcmp(text.ptr, attempt->id, ID_BYTES) != 0 ||
        ((unsigned char)text.ptr[QR_BYTE] & QR_BIT) == 0)
        return false;
    if (text.len < ask->question_end) /* an error may come without the question */
        return text.len == LT_DNS_HEADER && text.ptr[4] == 0 && text.ptr[5] == 0;
    return is_lower_same(text.ptr + LT_DNS_HEADER, ask->query + LT_DNS_HEADER,
                         ask->question_end - LT_DNS_HEADER);
}

static void take_answer(struct px_dns_ask *ask, char *answer, size_t len)
{
    memcpy(answer, ask->query, ID_BYTES);
    finish(ask, lt_str_make(answer, len));
}

/* --- tries --- */

static void try_next(struct px_dns_ask *ask);

static bool has_open(const struct px_dns_ask *ask)
{
    for (size_t i = 0; i < ask->tried; i++) {
        if (ask->attempts[i].is_open)
            return true;
    }
    return false;
}

static void fail_attempt(struct attempt *attempt)
{
    struct px_dns_ask *ask = attempt->ask;
    close_attempt(attempt);
    if (!has_open(ask))
        try_next(ask);
}

/* LT_AGAIN: not whole yet. */
static lt_rc read_udp(struct attempt *attempt)
{
    char answer[LT_DNS_MSG_MAX];
    ssize_t len;
    while ((len = recv(attempt->io.fd, answer, sizeof(answer), MSG_DONTWAIT)) >= 0) {
        if (!is_answer(attempt, lt_str_make(answer, (size_t)len)))
            continue; /* somebody guesses */
        take_answer(attempt->ask, answer, (size_t)len);
        return LT_OK;
    }
    return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
}

static lt_rc write_tcp(struct attempt *attempt)
{
    const struct px_dns_ask *ask = attempt->ask;
    const uint8_t head[] = {(uint8_t)(ask->len >> 8), (uint8_t)ask->len, attempt->id[0],
                            attempt->id[1]};
    const size_t total = LENGTH_BYTES + ask->len;
    while (attempt->sent < total) {
        bool in_head = attempt->sent < sizeof(head);
        const void *from = in_head ? (const void *)(head + attempt->sent)
                                   : ask->query + attempt->sent - LENGTH_BYTES;
        size_t len = in_head ? sizeof(head) - attempt->sent : total - attempt->sent;
        ssize_t done = send(attempt->io.fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        attempt->sent += (size_t)done;
    }
    lt_loop_io_set(ask->forward->opts.loop, &attempt->io, EPOLLIN);
    return LT_OK;
}

static lt_rc read_tcp(struct attempt *attempt)
{
    for (;;) {
        lt_str got = lt_buf_str(&attempt->in);
        size_t wanted = got.len < LENGTH_BYTES ? LENGTH_BYTES
                                               : LENGTH_BYTES + ((size_t)(uint8_t)got.ptr[0] << 8 |
                                                                 (uint8_t)got.ptr[1]);
        if (got.len >= LENGTH_BYTES && got.len == wanted) {
            if (!is_answer(attempt, lt_str_from(got, LENGTH_BYTES)))
                return LT_E_BAD;
            take_answer(attempt->ask, (char *)got.ptr + LENGTH_BYTES, wanted - LENGTH_BYTES);
            return LT_OK;
        }
        char *at = NULL;
        if (lt_buf_reserve(&attempt->in, wanted - got.len, &at) != LT_OK)
            return LT_E_LIMIT;
        ssize_t done = recv(attempt->io.fd, at, wanted - got.len, MSG_DONTWAIT);
        if (done <= 0)
            return done < 0 && errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        lt_buf_commit(&attempt->in, (size_t)done);
    }
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct attempt *attempt = LT_CONTAINER_OF(io, struct attempt, io);
    lt_rc rc = LT_OK;
    if (!attempt->ask->is_tcp) {
        rc = read_udp(attempt);
    } else {
        rc = write_tcp(attempt);
        if (rc == LT_OK)
            rc = read_tcp(attempt);
    }
    if (rc != LT_OK && rc != LT_AGAIN)
        fail_attempt(attempt);
}

static bool send_udp(struct attempt *attempt)
{
    const struct px_dns_ask *ask = attempt->ask;
    struct iovec parts[] = {{attempt->id, ID_BYTES}, {ask->query + ID_BYTES, ask->len - ID_BYTES}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = LT_ARRAY_LEN(parts)};
    return sendmsg(attempt->io.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)ask->len;
}

static int connect_udp(const struct lt_addr *server)
{
    int fd = socket(server->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &server->sa, server->len) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* False: this server cannot even be asked. */
static bool open_attempt(struct px_dns_ask *ask)
{
    struct px_dns_forward *forward = ask->forward;
    struct attempt *attempt = &ask->attempts[ask->tried];
    const struct lt_addr *server = &forward->servers[ask->order[ask->tried]];
    uint64_t random = lt_env_random_u64(forward->opts.env);
    ask->tried++;
    *attempt = (struct attempt){.ask = ask, .id = {(uint8_t)random, (uint8_t)(random >> 8)}};
    int fd = -1;
    if (!ask->is_tcp)
        fd = connect_udp(server);
    else if (lt_sock_connect(server, NULL, &fd) != LT_OK)
        fd = -1;
    if (fd < 0)
        return false;
    lt_io_init(&attempt->io, on_ready);
    lt_buf_init(&attempt->in, LENGTH_BYTES + LT_DNS_MSG_MAX);
    attempt->io.fd = fd;
    attempt->is_open = true;
    lt_loop_io_set(forward->opts.loop, &attempt->io, ask->is_tcp ? EPOLLIN | EPOLLOUT : EPOLLIN);
    if (ask->is_tcp || send_udp(attempt))
        return true;
    close_attempt(attempt);
    return false;
}

static void try_next(struct px_dns_ask *ask)
{
    const struct px_dns_forward *forward = ask->forward;
    bool is_open = false;
    while (ask->tried < forward->opts.server_count && (!is_open || forward->opts.asks_all))
        is_open = open_attempt(ask) || is_open;
    /* also when nobody is left: callbacks come from the loop */
    lt_loop_timer_set(forward->opts.loop, &ask->timer, is_open ? forward->opts.timeout_ns : 0);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_dns_ask *ask = LT_CONTAINER_OF(timer, struct px_dns_ask, timer);
    for (size_t i = 0; i < ask->tried; i++)
        close_attempt(&ask->attempts[i]);
    if (ask->tried < ask->forward->opts.server_count)
        try_next(ask);
    else
        finish_badly(ask);
}

/* --- begin --- */

static void shuffle(struct px_dns_ask *ask, size_t count)
{
    uint64_t random = lt_env_random_u64(ask->forward->opts.env);
    for (size_t i = 0; i < count; i++)
        ask->order[i] = (uint8_t)i;
    for (size_t i = count; i > 1; i--) {
        size_t other = random % i;
        random /= i;
        uint8_t moved = ask->order[i - 1];
        ask->order[i - 1] = ask->order[other];
        ask->order[other] = moved;
    }
}

struct px_dns_ask *px_dns_forward_ask(struct px_dns_forward *forward, lt_str query,
                                      size_t question_end, bool is_tcp, px_dns_done_fn *on_done,
                                      void *ctx)
{
    if (forward->ask_count >= PX_DNS_ASKS_MAX || forward->opts.server_count == 0) {
        lt_counter_add(forward->opts.counts.refused, 1);
        return NULL;
    }
    LT_ASSERT(query.len <= LT_DNS_MSG_MAX && question_end <= query.len);
    struct px_dns_ask *ask = lt_new(struct px_dns_ask);
    ask->forward = forward;
    ask->query = lt_malloc(query.len);
    memcpy(ask->query, query.ptr, query.len);
    ask->len = query.len;
    ask->question_end = question_end;
    ask->is_tcp = is_tcp;
    ask->on_done = on_done;
    ask->ctx = ctx;
    ask->began_ns = lt_loop_now_ns(forward->opts.loop);
    lt_timer_init(&ask->timer, on_timeout);
    lt_list_push_back(&forward->asks, &ask->link);
    forward->ask_count++;
    lt_counter_add(forward->opts.counts.requests, 1);
    shuffle(ask, forward->opts.server_count);
    try_next(ask);
    return ask;
}

void px_dns_ask_cancel(struct px_dns_ask **ask)
{
    struct px_dns_ask *cancelled = *ask;
    *ask = NULL;
    if (cancelled != NULL)
        free_ask(cancelled);
}

struct px_dns_forward *px_dns_forward_new(const struct px_dns_forward_opts *opts)
{
    struct px_dns_forward *forward = lt_new(struct px_dns_forward);
    forward->opts = *opts;
    forward->opts.server_count = LT_MIN(opts->server_count, (size_t)PX_DNS_SERVERS_MAX);
    for (size_t i = 0; i < forward->opts.server_count; i++)
        forward->servers[i] = opts->servers[i];
    forward->opts.servers = forward->servers;
    lt_list_init(&forward->asks);
    return forward;
}

void px_dns_forward_free(struct px_dns_forward **forward)
{
    if (*forward == NULL)
        return;
    LT_ASSERT((*forward)->ask_count == 0);
    free(*forward);
    *forward = NULL;
}
