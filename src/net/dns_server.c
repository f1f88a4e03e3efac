/*
 * net/dns_server.c - datagrams, and connections on which one question follows the other (RFC 7766).
 */
#include "net/dns_server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "net/dns_msg.h"
#include "net/sock.h"

enum { QUERY_MAX = 4096, DATAGRAMS_A_TURN = 64 };

struct door {
    struct lt_dns_server *server;
    struct lt_addr addr;
    struct lt_io udp, tcp;
};

struct lt_dns_request {
    struct lt_list link; /* of one that was kept */
    struct door *door;
    struct lt_addr peer; /* UDP */
    struct conn *conn;   /* TCP */
    void *user;
    bool is_kept;
};

struct conn {
    struct lt_list link;
    struct lt_dns_server *server;
    struct lt_io io;
    struct lt_timer timer;
    struct lt_dns_request request; /* the one that is served, or was kept */
    struct lt_buf in, out;
};

struct lt_dns_server {
    struct lt_dns_server_opts opts;
    struct door doors[LT_DNS_DOORS_MAX];
    size_t door_count;
    struct lt_list conns;
    struct lt_list kept; /* requests by UDP */
    uint32_t conn_count;
    uint64_t refused;
};

static lt_rc serve(struct lt_dns_server *server, struct lt_dns_request *request, lt_str query,
                   void *out, size_t max, size_t *ret_len)
{
    *ret_len = 0;
    return server->opts.serve(server->opts.ctx, request, query, out, max, ret_len);
}

/* --- datagrams --- */

static void send_to(const struct door *door, const struct lt_addr *peer, lt_str answer)
{
    /* a lost one is asked for again */
    (void)sendto(door->udp.fd, answer.ptr, answer.len, MSG_DONTWAIT, &peer->sa, peer->len);
}

static void on_datagrams(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct door *door = LT_CONTAINER_OF(io, struct door, udp);
    for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
        char query[QUERY_MAX], out[LT_DNS_UDP_MAX];
        struct lt_dns_request request = {.door = door,
                                         .peer = {.len = sizeof(struct sockaddr_in6)}};
        size_t len = 0;
        ssize_t got = recvfrom(io->fd, query, sizeof(query), MSG_DONTWAIT, &request.peer.sa,
                               &request.peer.len);
        if (got < 0)
            return;
        lt_rc rc = serve(door->server, &request, lt_str_make(query, (size_t)got), out, sizeof(out),
                         &len);
        if (rc == LT_OK && len > 0)
            send_to(door, &request.peer, lt_str_make(out, len));
    }
}

/* --- connections --- */

static void close_conn(struct conn *conn)
{
    struct lt_dns_server *server = conn->server;
    if (conn->request.is_kept)
        server->opts.forget(server->opts.ctx, conn->request.user);
    lt_loop_io_del(server->opts.loop, &conn->io);
    lt_loop_timer_cancel(server->opts.loop, &conn->timer);
    close(conn->io.fd);
    lt_buf_fini(&conn->in);
    lt_buf_fini(&conn->out);
    lt_list_remove(&conn->link);
    server->conn_count--;
    free(conn);
}

static void on_conn_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    close_conn(LT_CONTAINER_OF(timer, struct conn, timer));
}

static void put_answer(struct conn *conn, lt_str answer)
{
    const uint8_t head[] = {(uint8_t)(answer.len >> 8), (uint8_t)answer.len};
    lt_buf_add(&conn->out, lt_str_make((const char *)head, sizeof(head)));
    lt_buf_add(&conn->out, answer);
}

static lt_rc send_out(struct conn *conn)
{
    while (lt_buf_len(&conn->out) > 0) {
        lt_str out = lt_buf_str(&conn->out);
        ssize_t done = send(conn->io.fd, out.ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        lt_buf_consume(&conn->out, (size_t)done);
    }
    return LT_OK;
}

/* LT_AGAIN: there is no whole question yet. */
static lt_rc take_query(struct conn *conn)
{
    char out[LT_DNS_MSG_MAX];
    lt_str in = lt_buf_str(&conn->in);
    if (in.len < 2)
        return LT_AGAIN;
    size_t len = (size_t)(uint8_t)in.ptr[0] << 8 | (uint8_t)in.ptr[1], answer_len = 0;
    if (len > QUERY_MAX)
        return LT_E_LIMIT;
    if (in.len < 2 + len)
        return LT_AGAIN;
    lt_rc rc = serve(conn->server, &conn->request, lt_str_slice(in, 2, 2 + len), out, sizeof(out),
                     &answer_len);
    if (rc == LT_OK && answer_len == 0)
        return LT_E_BAD;
    if (rc == LT_OK)
        put_answer(conn, lt_str_make(out, answer_len));
    lt_buf_consume(&conn->in, 2 + len);
    return LT_OK;
}

static lt_rc read_in(struct conn *conn)
{
    char *at = NULL;
    size_t room = 2 + QUERY_MAX - lt_buf_len(&conn->in);
    LT_TRY(lt_buf_reserve(&conn->in, room, &at));
    ssize_t got = recv(conn->io.fd, at, room, MSG_DONTWAIT);
    if (got == 0)
        return LT_EOF;
    if (got < 0)
        return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
    lt_buf_commit(&conn->in, (size_t)got);
    return LT_OK;
}

/* LT_AGAIN: it waits, for its client or for its answer. */
static lt_rc advance(struct conn *conn)
{
    for (;;) {
        LT_TRY(send_out(conn));
        if (conn->request.is_kept)
            return LT_AGAIN;
        lt_rc rc = take_query(conn);
        if (rc == LT_AGAIN)
            rc = read_in(conn);
        if (rc != LT_OK)
            return rc;
    }
}

static void run_conn(struct conn *conn)
{
    if (advance(conn) != LT_AGAIN) {
        close_conn(conn);
        return;
    }
    uint32_t events = lt_buf_len(&conn->out) > 0 ? EPOLLOUT : conn->request.is_kept ? 0 : EPOLLIN;
    lt_loop_io_set(conn->server->opts.loop, &conn->io, events);
}

static void on_conn(struct lt_io *io, uint32_t events)
{
    struct conn *conn = LT_CONTAINER_OF(io, struct conn, io);
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        close_conn(conn);
    else
        run_conn(conn);
}

static void add_conn(struct door *door, int fd)
{
    struct lt_dns_server *server = door->server;
    struct conn *conn = lt_new(struct conn);
    conn->server = server;
    conn->request = (struct lt_dns_request){.door = door, .conn = conn};
    lt_io_init(&conn->io, on_conn);
    conn->io.fd = fd;
    lt_buf_init(&conn->in, 2 + QUERY_MAX);
    lt_buf_init(&conn->out, 2 * (2 + LT_DNS_MSG_MAX));
    lt_timer_init(&conn->timer, on_conn_timeout);
    lt_list_push_back(&server->conns, &conn->link);
    server->conn_count++;
    lt_loop_io_set(server->opts.loop, &conn->io, EPOLLIN);
    lt_loop_timer_set(server->opts.loop, &conn->timer, server->opts.conn_timeout_s * LT_NS_PER_S);
}

static void on_connections(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct door *door = LT_CONTAINER_OF(io, struct door, tcp);
    int fd;
    while (lt_sock_accept(io->fd, &fd, NULL) == LT_OK) {
        if (door->server->conn_count < door->server->opts.conns_max) {
            add_conn(door, fd);
            continue;
        }
        door->server->refused++;
        close(fd);
    }
}

/* --- requests --- */

bool lt_dns_request_is_udp(const struct lt_dns_request *request)
{
    return request->conn == NULL;
}

struct lt_dns_request *lt_dns_request_keep(struct lt_dns_request *request)
{
    LT_ASSERT(!request->is_kept);
    if (request->conn == NULL) {
        struct lt_dns_request *kept = lt_new(struct lt_dns_request);
        *kept = *request;
        lt_list_push_back(&kept->door->server->kept, &kept->link);
        request = kept;
    }
    request->is_kept = true;
    return request;
}

void lt_dns_request_set_user(struct lt_dns_request *request, void *user)
{
    request->user = user;
}

void lt_dns_request_drop(struct lt_dns_request **pointer)
{
    struct lt_dns_request *request = *pointer;
    *pointer = NULL;
    LT_ASSERT(request->is_kept);
    request->is_kept = false;
    if (request->conn != NULL)
        return;
    lt_list_remove(&request->link);
    free(request);
}

void lt_dns_request_answer(struct lt_dns_request **pointer, lt_str answer)
{
    struct conn *conn = (*pointer)->conn;
    if (conn == NULL)
        send_to((*pointer)->door, &(*pointer)->peer, answer);
    else
        put_answer(conn, answer);
    lt_dns_request_drop(pointer);
    if (conn != NULL)
        run_conn(conn);
}

/* --- begin and end --- */

struct lt_dns_server *lt_dns_server_new(const struct lt_dns_server_opts *opts)
{
    struct lt_dns_server *server = lt_new(struct lt_dns_server);
    server->opts = *opts;
    lt_list_init(&server->conns);
    lt_list_init(&server->kept);
    return server;
}

lt_rc lt_dns_server_open(struct lt_dns_server *server, const struct lt_dns_door *wanted,
                         struct lt_err *err)
{
    LT_ASSERT(server->door_count < LT_DNS_DOORS_MAX);
    const struct lt_listen_opts opts = {0};
    struct door *door = &server->doors[server->door_count++];
    *door = (struct door){.server = server, .addr = wanted->addr};
    lt_io_init(&door->udp, on_datagrams);
    lt_io_init(&door->tcp, on_connections);
    door->udp.fd = wanted->udp_fd;
    door->tcp.fd = wanted->tcp_fd;
    if (door->udp.fd < 0) {
        door->udp.fd = socket(door->addr.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                              0);
        if (door->udp.fd < 0 || bind(door->udp.fd, &door->addr.sa, door->addr.len) < 0)
            return lt_err_errno(err, "DNS by UDP");
    }
    return door->tcp.fd < 0 ? lt_sock_listen(&door->addr, &opts, &door->tcp.fd, err) : LT_OK;
}

void lt_dns_server_accept(struct lt_dns_server *server)
{
    for (size_t i = 0; i < server->door_count; i++) {
        lt_loop_io_set(server->opts.loop, &server->doors[i].udp, EPOLLIN);
        lt_loop_io_set(server->opts.loop, &server->doors[i].tcp, EPOLLIN);
    }
}

/* The datagram socket stays open: answers that come later leave by it. */
void lt_dns_server_leave(struct lt_dns_server *server)
{
    for (size_t i = 0; i < server->door_count; i++) {
        lt_loop_io_del(server->opts.loop, &server->doors[i].udp);
        lt_loop_io_close(server->opts.loop, &server->doors[i].tcp);
    }
}

void lt_dns_server_free(struct lt_dns_server **pointer)
{
    struct lt_dns_server *server = *pointer;
    *pointer = NULL;
    if (server == NULL)
        return;
    while (!lt_list_is_empty(&server->conns))
        close_conn(lt_list_first(&server->conns, struct conn, link));
    while (!lt_list_is_empty(&server->kept)) {
        struct lt_dns_request *request = lt_list_first(&server->kept, struct lt_dns_request, link);
        server->opts.forget(server->opts.ctx, request->user);
        lt_dns_request_drop(&request);
    }
    for (size_t i = 0; i < server->door_count; i++) {
        lt_loop_io_close(server->opts.loop, &server->doors[i].udp);
        lt_loop_io_close(server->opts.loop, &server->doors[i].tcp);
    }
    free(server);
}

size_t lt_dns_server_doors(const struct lt_dns_server *server,
                           struct lt_dns_door out[LT_DNS_DOORS_MAX])
{
    for (size_t i = 0; i < server->door_count; i++)
        out[i] = (struct lt_dns_door){.addr = server->doors[i].addr,
                                      .udp_fd = server->doors[i].udp.fd,
                                      .tcp_fd = server->doors[i].tcp.fd};
    return server->door_count;
}

uint64_t lt_dns_server_refused(const struct lt_dns_server *server)
{
    return server->refused;
}
