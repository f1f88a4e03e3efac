/*
 * ctl/dns_server.c - sockets of the resolver.
 */
#include "ctl/dns_server.h"

#include <errno.h>
#include <unistd.h>

#include "net/sock.h"

enum {
    CONNS_MAX = 64,
    CONN_TIMEOUT_S = 10,
    DATAGRAMS_A_TURN = 64,
};

struct conn {
    struct lt_io io;
    struct lt_timer timer;
    struct ctl_dns_server *server; /* borrowed */
    struct lt_list link;
    size_t in_len;
    size_t out_len, out_sent;
    uint8_t in[2 + 4096];
    uint8_t out[2 + CTL_DNS_TCP_MAX];
};

struct ctl_dns_server {
    struct lt_loop *loop; /* borrowed */
    struct lt_io udp;
    struct lt_io tcp;
    struct lt_list conns;
    size_t conn_count;
    ctl_dns_lookup_fn *lookup;
    void *ctx;
};

static void on_datagrams(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_dns_server *server = LT_CONTAINER_OF(io, struct ctl_dns_server, udp);
    for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
        char query[4096], answer[CTL_DNS_UDP_MAX];
        struct lt_addr peer = {.len = sizeof(struct sockaddr_in6)};
        ssize_t len = recvfrom(io->fd, query, sizeof(query), MSG_DONTWAIT, &peer.sa, &peer.len);
        if (len < 0)
            return;
        size_t answer_len;
        ctl_dns_answer(lt_str_make(query, (size_t)len), true, server->lookup, server->ctx, answer,
                       sizeof(answer), &answer_len);
        if (answer_len > 0)
            sendto(io->fd, answer, answer_len, MSG_DONTWAIT, &peer.sa,
                   peer.len); /* lost ones are asked again */
    }
}

static void close_conn(struct conn *conn)
{
    struct ctl_dns_server *server = conn->server;
    lt_loop_io_del(server->loop, &conn->io);
    lt_loop_timer_cancel(server->loop, &conn->timer);
    close(conn->io.fd);
    lt_list_remove(&conn->link);
    server->conn_count--;
    free(conn);
}

static void on_conn_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    close_conn(LT_CONTAINER_OF(timer, struct conn, timer));
}

/* LT_AGAIN: the socket is full. */
static lt_rc send_answer(struct conn *conn)
{
    while (conn->out_sent < conn->out_len) {
        ssize_t put = send(conn->io.fd, conn->out + conn->out_sent, conn->out_len - conn->out_sent,
                           MSG_NOSIGNAL);
        if (put < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        conn->out_sent += (size_t)put;
    }
    conn->out_len = conn->out_sent = 0;
    return LT_OK;
}

/*
 * Answers the first query that is complete (RFC 1035 section 4.2.2); LT_AGAIN when there is none.
 */
static lt_rc take_query(struct conn *conn)
{
    if (conn->in_len < 2)
        return LT_AGAIN;
    size_t len = (size_t)conn->in[0] << 8 | conn->in[1], answer_len;
    if (2 + len > sizeof(conn->in))
        return LT_E_LIMIT;
    if (conn->in_len < 2 + len)
        return LT_AGAIN;
    ctl_dns_answer(lt_str_make(conn->in + 2, len), false, conn->server->lookup, conn->server->ctx,
                   conn->out + 2, CTL_DNS_TCP_MAX, &answer_len);
    if (answer_len == 0)
        return LT_E_BAD;
    memmove(conn->in, conn->in + 2 + len, conn->in_len - 2 - len);
    conn->in_len -= 2 + len;
    conn->out[0] = (uint8_t)(answer_len >> 8);
    conn->out[1] = (uint8_t)answer_len;
    conn->out_len = 2 + answer_len;
    return LT_OK;
}

static lt_rc serve(struct conn *conn)
{
    for (;;) {
        LT_TRY(send_answer(conn));
        lt_rc rc = take_query(conn);
        if (rc == LT_OK)
            continue;
        if (rc != LT_AGAIN)
            return rc;
        ssize_t got = recv(conn->io.fd, conn->in + conn->in_len, sizeof(conn->in) - conn->in_len,
                           0);
        if (got == 0)
            return LT_EOF;
        if (got < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        conn->in_len += (size_t)got;
    }
}

static void on_conn(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct conn *conn = LT_CONTAINER_OF(io, struct conn, io);
    if (serve(conn) != LT_AGAIN) {
        close_conn(conn);
        return;
    }
    lt_loop_io_set(conn->server->loop, io, conn->out_len > 0 ? EPOLLOUT : EPOLLIN);
}

static void on_connections(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_dns_server *server = LT_CONTAINER_OF(io, struct ctl_dns_server, tcp);
    int fd;
    while (lt_sock_accept(io->fd, &fd, NULL) == LT_OK) {
        if (server->conn_count == CONNS_MAX) {
            close(fd);
            continue;
        }
        struct conn *conn = lt_new(struct conn);
        conn->server = server;
        lt_io_init(&conn->io, on_conn);
        conn->io.fd = fd;
        lt_timer_init(&conn->timer, on_conn_timeout);
        lt_list_push_back(&server->conns, &conn->link);
        server->conn_count++;
        lt_loop_io_set(server->loop, &conn->io, EPOLLIN);
        lt_loop_timer_set(server->loop, &conn->timer, CONN_TIMEOUT_S * LT_NS_PER_S);
    }
}

lt_rc ctl_dns_server_new(struct lt_loop *loop, const struct lt_addr *addr,
                         ctl_dns_lookup_fn *lookup, void *ctx, struct ctl_dns_server **ret_server,
                         struct lt_err *err)
{
    struct ctl_dns_server *server = lt_new(struct ctl_dns_server);
    *server = (struct ctl_dns_server){.loop = loop, .lookup = lookup, .ctx = ctx};
    lt_list_init(&server->conns);
    lt_io_init(&server->udp, on_datagrams);
    lt_io_init(&server->tcp, on_connections);
    const struct lt_listen_opts opts = {0};
    server->udp.fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    lt_rc rc = LT_OK;
    if (server->udp.fd < 0 || bind(server->udp.fd, &addr->sa, addr->len) < 0)
        rc = lt_err_errno(err, "the mesh's DNS over UDP");
    if (rc == LT_OK)
        rc = lt_sock_listen(addr, &opts, &server->tcp.fd, err);
    if (rc != LT_OK) {
        ctl_dns_server_free(&server);
        return rc;
    }
    lt_loop_io_set(loop, &server->udp, EPOLLIN);
    lt_loop_io_set(loop, &server->tcp, EPOLLIN);
    *ret_server = server;
    return LT_OK;
}

void ctl_dns_server_free(struct ctl_dns_server **server)
{
    struct ctl_dns_server *s = *server;
    if (s == NULL)
        return;
    for (struct lt_list *it = s->conns.next, *next; it != &s->conns; it = next) {
        next = it->next;
        close_conn(LT_CONTAINER_OF(it, struct conn, link));
    }
    lt_loop_io_close(s->loop, &s->udp);
    lt_loop_io_close(s->loop, &s->tcp);
    free(s);
    *server = NULL;
}
